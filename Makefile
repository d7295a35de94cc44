# Everything runs from a virtual environment of its own in .venv; nothing else on the machine is touched.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-showers test test-slow bench lint notebooks clean

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# One thread per process, and no spinning where a library insists on more.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
# The CPU build of PyTorch; an index or a version can be given for others: make setup TORCH='torch==2.13.0'
TORCH ?= torch==2.13.0
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PROCESSES ?= 2

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

$(VENV)/.made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python cannot make a virtual environment: on Debian, apt install python3-venv" >&2; exit 2; }
	$(RUN) -m pip install --quiet --upgrade pip
	@echo "installing (a few minutes the first time)"
	@$(RUN) -c 'import torch' 2>/dev/null \
	  || $(RUN) -m pip install --quiet --index-url $(CPU_INDEX) --retries 0 --timeout 15 '$(TORCH)' 2>/dev/null \
	  || $(RUN) -m pip install --quiet '$(TORCH)'
	$(RUN) -m pip install --quiet --editable '.[jets,root,lhco,dask,onnx,showerdata]' --group dev
	@$(RUN) -m pip install --quiet --only-binary=:all: --editable '.[generate]' \
	  || echo "note: no pythia8mc wheel for this Python; 'cathode data generate' and its tests are left out"
	@touch $@

setup: $(VENV)/.made  ## make the virtual environment

demo: setup  ## a search on the shipped events, report in runs/demo
	@rm -rf runs/demo runs/demo-null
	$(VENV)/bin/cathode search analyses/demo/demo.yaml --output runs/demo

demo-showers: setup  ## train a shower generator on the shipped photons, generate, evaluate; report in runs/demo-showers
	@rm -rf runs/demo-showers
	$(VENV)/bin/fastsim train analyses/demo/showers.yaml --output runs/demo-showers/training
	$(VENV)/bin/fastsim generate runs/demo-showers/training --like sample:ds1-photons --start 9000 --batch-size 100 --output runs/demo-showers/showers.hdf5
	$(VENV)/bin/fastsim evaluate sample:ds1-photons runs/demo-showers/showers.hdf5 --binning ds1-photons --reference-rows 9000 12000 --quick --output runs/demo-showers/evaluation
	cp runs/demo-showers/evaluation/results.json runs/demo-showers/evaluation/report.html runs/demo-showers/

test: setup  ## the fast tests
	$(RUN) -m pytest -n $(PROCESSES)

test-slow: setup  ## the slow tests
	$(RUN) -m pytest -n $(PROCESSES) -m slow

bench: setup  ## all benchmarks, quick versions
	for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(RUN) $$bench --quick || exit 1; done

lint: setup  ## ruff, mypy, import rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

notebooks: setup  ## execute the notebooks
	$(RUN) notebooks/run.py

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs
