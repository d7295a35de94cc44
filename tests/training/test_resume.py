from __future__ import annotations

import dataclasses
import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from cathode.support.errors import UserError
from cathode.training import FitConfig, fit

WORKER = Path(__file__).with_name("kill_worker.py")
TIMES = ["seconds", "cpu_seconds", "events_per_second", "events_per_cpu_second"]


def assert_same(history, weights, expected_history, expected_weights):
    pd.testing.assert_frame_equal(history.drop(columns=TIMES), expected_history.drop(columns=TIMES), check_exact=True)
    assert weights.keys() == expected_weights.keys()
    for key, value in weights.items():
        assert torch.equal(value, expected_weights[key]), key


def test_killed_runs_end_as_uninterrupted_ones(gaussian, tmp_path):
    spec = importlib.util.spec_from_file_location("kill_worker", WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    began = time.perf_counter()
    expected = worker.run(tmp_path / "uninterrupted")
    duration = time.perf_counter() - began

    chance = random.Random(4)
    kills = 0
    for _ in range(40):
        (tmp_path / "started").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, str(WORKER), str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        while not (tmp_path / "started").exists():
            assert process.poll() is None
            time.sleep(0.005)
        try:
            # The first ones are all killed; then one may end.
            process.wait(chance.uniform(0.0, 0.5) * duration if kills < 3 else 120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        if (tmp_path / "history.parquet").exists():
            break
    assert kills >= 2
    history = pd.read_parquet(tmp_path / "history.parquet")
    weights = load_file(tmp_path / "weights.safetensors")
    assert_same(history, weights, expected.history, dict(expected.density.state_dict()))


class _Crash(BaseException):
    pass


def test_a_crash_between_any_two_files_is_recovered(gaussian, tmp_path, monkeypatch):
    """Dies before the n-th replacement of a file, for each n in turn, and must end up with the same result."""
    data = gaussian.make_data(300)
    settings = FitConfig(epochs=4, batch_size=64, learning_rate=0.05, best_epochs=2, device="cpu")

    def run(name):
        return fit(gaussian.make_density(jitter=0.1), data, data, settings, seed=2, checkpoint_dir=tmp_path / name)

    expected = run("uninterrupted")
    replace = os.replace
    crashes = 0
    for nth in range(1, 30):
        left = [nth]

        def dying(source, target, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise _Crash
            replace(source, target)

        monkeypatch.setattr(os, "replace", dying)
        try:
            run(f"crash-{nth}")
            break
        except _Crash:
            crashes += 1
        finally:
            monkeypatch.setattr(os, "replace", replace)
        result = run(f"crash-{nth}")
        assert_same(result.history, result.density.state_dict(), expected.history, expected.density.state_dict())
        left_files = {path.name for path in (tmp_path / f"crash-{nth}").iterdir()}
        assert left_files == {path.name for path in (tmp_path / "uninterrupted").iterdir()}
    assert crashes >= 6


def test_finished_fit_is_returned_without_training(gaussian, tmp_path):
    data = gaussian.make_data(300)
    settings = FitConfig(epochs=3, batch_size=64, device="cpu")
    first = fit(gaussian.make_density(), data, data, settings, seed=2, checkpoint_dir=tmp_path)

    class Forbidden(gaussian.Gaussian):
        def loss(self, *args, **kwargs):
            raise AssertionError("trained again")

    second = fit(Forbidden(), data, data, settings, seed=2, checkpoint_dir=tmp_path)
    assert_same(second.history, second.density.state_dict(), first.history, first.density.state_dict())
    assert second.stopped_reason == "epochs"
    assert second.seconds >= first.history["seconds"].iloc[-1]


def test_a_raised_time_budget_goes_on(gaussian, tmp_path):
    data = gaussian.make_data(2000)
    settings = FitConfig(epochs=10_000, batch_size=64, max_seconds=0.2, device="cpu")
    first = fit(gaussian.make_density(), data, data, settings, seed=2, checkpoint_dir=tmp_path)
    same = fit(gaussian.make_density(), data, data, settings, seed=2, checkpoint_dir=tmp_path)
    assert len(same.history) == len(first.history)
    more = dataclasses.replace(settings, max_seconds=same.seconds + 0.3)
    continued = fit(gaussian.make_density(), data, data, more, seed=2, checkpoint_dir=tmp_path)
    assert len(continued.history) > len(first.history)
    assert continued.stopped_reason == "time"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, r"differs in learning_rate \(0.001 there, 0.5 now\)"),
        ({"seed": 3}, "differs in seed"),
        ({"data": 301}, "differs in train data"),
        ({"hidden": 8}, "differs in weights"),
    ],
)
def test_checkpoint_of_another_fit_is_refused(gaussian, tmp_path, change, message):
    settings = FitConfig(epochs=1, batch_size=64, device="cpu")
    data = gaussian.make_data(300)
    fit(gaussian.make_density(), data, data, settings, seed=2, checkpoint_dir=tmp_path)
    other = gaussian.make_data(change.get("data", 300))
    density = gaussian.make_density(hidden=change.get("hidden", 16))
    if "learning_rate" in change:
        settings = dataclasses.replace(settings, **change)
    with pytest.raises(UserError, match=message):
        fit(density, other, data, settings, seed=change.get("seed", 2), checkpoint_dir=tmp_path)


def test_broken_checkpoint_is_named(gaussian, tmp_path):
    data = gaussian.make_data(300)
    settings = FitConfig(epochs=1, batch_size=64, device="cpu")
    fit(gaussian.make_density(), data, data, settings, seed=2, checkpoint_dir=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"checkpoint.safetensors: cannot be read as a checkpoint .* delete the folder"):
        fit(gaussian.make_density(), data, data, settings, seed=2, checkpoint_dir=tmp_path)
