from __future__ import annotations

from types import SimpleNamespace

import pytest
import yaml

from fastsim.cli import main

TINY = {
    "data": {"showers": "sample:ds1-photons", "rows": [0, 400]},
    "energy": {"model": {"hidden": 16, "layers": 1, "components": 2}, "training": {"epochs": 2, "batch_size": 128}},
    "shape": {
        "model": {
            "hidden": 32, "ring_hidden": 16, "layers": 1, "components": 2, "bottleneck": 4, "head": 8,
            "context_width": 8, "memory": 8, "interleave": 1,
        },
        "training": {"epochs": 2, "batch_size": 128},
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny():
    """Settings of a generator that learns next to nothing, in no time."""
    return TINY


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture
def fastsim(capfd):
    """Run the command line in this process: exit code, and lines of both streams."""

    def run(*words: object) -> SimpleNamespace:
        capfd.readouterr()
        code = main([str(w) for w in words])
        out, err = capfd.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, errors=err.splitlines())

    return run


@pytest.fixture(scope="session")
def trained(tiny_config, tmp_path_factory):
    """The folder of a finished training run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", str(tiny_config), "--output", str(folder)]) == 0
    return folder
