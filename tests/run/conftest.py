from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from cathode.data.lhco import write_lhco_features
from cathode.data.samples import resolve_sample
from cathode.run.cli import main


@pytest.fixture(scope="session")
def frame():
    """20 000 events of the shipped background, as a table in the LHC Olympics layout."""
    return pd.read_hdf(resolve_sample("sample:lhco_background")).sample(20_000, random_state=1, ignore_index=True)


@pytest.fixture(scope="session")
def small(frame, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / "small.h5"
    write_lhco_features(frame, path)
    return str(path)


@pytest.fixture(scope="session")
def content(small):
    return {
        "data": {"events": small},
        "injection": {"signal": "sample:lhco_signal", "strength": 3},
        "density": {
            "members": 2,
            "model": {"hidden": [32, 32], "components": 6},
            # Small batches: long enough for a kill in the middle of it.
            "training": {"epochs": 8, "batch_size": 128},
        },
        "classifier": {"folds": 2, "model": {"members": 4}},
        "gate": {"max_events": 600},
        "evaluation": {"reserve": 0.4, "signal": "sample:lhco_signal"},
        "executor": "serial",
    }


@pytest.fixture(scope="session")
def config(content, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
def cathode(capfd):
    """Run the command line in this process: exit code, and lines of both streams."""

    def run(*words: object) -> SimpleNamespace:
        capfd.readouterr()
        code = main([str(w) for w in words])
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, errors=err.splitlines())

    return run


@pytest.fixture(scope="session")
def start():
    """Start ``cathode`` as a process of its own."""

    def run(*words: object, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cathode.run.cli", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def finished(start, config, tmp_path_factory) -> SimpleNamespace:
    """One whole search, uninterrupted, run as a user does: without ``--output``."""
    folder = tmp_path_factory.mktemp("work")
    process = start("search", config, cwd=folder)
    out, err = process.communicate(timeout=300)
    return SimpleNamespace(code=process.returncode, out=out, err=err, folder=folder / "runs" / "small")
