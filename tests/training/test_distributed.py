from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from cathode.training import FitConfig, fit
from cathode.training.distributed import process_group

WORKER = Path(__file__).with_name("distributed_worker.py")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_train_one_density(gaussian, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(tmp_path)],
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    first, second = (load_file(tmp_path / f"weights-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    history, other = (pd.read_parquet(tmp_path / f"history-{rank}.parquet") for rank in range(2))
    for column in ("train_loss", "validation_loss", "learning_rate", "events"):
        pd.testing.assert_series_equal(history[column], other[column])
    assert history["validation_loss"].iloc[-1] < history["validation_loss"].iloc[0] - 0.1
    assert (history.loc[1:, "events"] == 2000).all()
    # The same number of steps over as many events: one process comes out nearly alike.
    alone = fit(
        gaussian.make_density(jitter=0.02),
        gaussian.make_data(2001, weighted=True),
        gaussian.make_data(501, seed=2),
        FitConfig(
            epochs=4, batch_size=128, learning_rate=5e-3, ema_halflife_events=2000.0, best_epochs=2, device="cpu"
        ),
        seed=3,
    )
    assert history["validation_loss"].iloc[-1] == pytest.approx(alone.history["validation_loss"].iloc[-1], abs=0.02)
    assert (tmp_path / "checkpoint" / "checkpoint.safetensors").exists()


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with process_group(cuda=False) as ranks:
        assert (ranks.rank, ranks.world, ranks.writes) == (0, 1, True)
        assert ranks.sum(1.0, 2.0, device=torch.device("cpu")) == [1.0, 2.0]
