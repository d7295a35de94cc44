"""The search from Python: in ten lines of a script, and in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cathode.data.toys import toy_events
from cathode.run.search import run_template
from cathode.search.settings import (
    Autoregressive,
    DataSettings,
    DensitySettings,
    RegionSettings,
    SearchSettings,
)
from cathode.support.errors import UserError
from cathode.training.config import FitConfig

SETTINGS = SearchSettings(
    data=DataSettings(features=("x1", "x2", "x3", "x4")),
    regions=RegionSettings(sideband=(2.3, 5.0)),
    density=DensitySettings(model=Autoregressive(hidden=(16,), components=2), training=FitConfig(epochs=2)),
    executor="serial",
)


def test_events_of_the_caller_leave_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = run_template(SETTINGS, toy_events(4000, 0)[0])
    assert summary.counts["template"] == 4 * summary.counts["signal_region"]
    assert not list(tmp_path.iterdir())


def test_a_script_needs_no_guard(tmp_path):
    """Worker processes must not run the user's script again."""
    script = tmp_path / "mine.py"
    script.write_text(
        "from dataclasses import replace\n"
        "from cathode.data.toys import toy_events\n"
        "from cathode.run.search import run_template\n"
        "from cathode.search.settings import *\n"
        "from cathode.training.config import FitConfig\n"
        "print('started')\n"
        "density = DensitySettings(model=Autoregressive(hidden=(8,), components=2), training=FitConfig(epochs=1))\n"
        "settings = SearchSettings(density=density, regions=RegionSettings(sideband=(2.3, 5.0)), workers=2)\n"
        "summary = run_template(settings, toy_events(3000, 0)[0], output='out')\n"
        "print(summary.counts['template'], __file__.endswith('mine.py'))\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "started"
    assert second.endswith(" True")
    assert (tmp_path / "out" / "results.json").exists()


@pytest.mark.slow
def test_dask_computes_what_this_process_computes(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    events = toy_events(3000, 0)[0]
    here = run_template(SETTINGS, events)
    there = run_template(replace(SETTINGS, executor="dask", workers=2), events)
    assert here.validation_nll == there.validation_nll
    for a, b in zip(here.histograms, there.histograms, strict=True):
        np.testing.assert_array_equal(a.template, b.template)


def test_a_dask_scheduler_that_is_not_there(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    monkeypatch.setattr("distributed.Client", _refuse)
    with pytest.raises(UserError, match="no Dask scheduler answers at tcp://127"):
        run_template(replace(SETTINGS, executor="dask"), toy_events(3000, 0)[0])


def _refuse(address, **_):
    raise OSError(f"nobody listens at {address}")
