from __future__ import annotations

import os
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cathode.run.executors import SerialExecutor, open_executor
from cathode.run.tasks import TaskStore, digest
from cathode.search.background import fit_member
from cathode.search.gate import two_sample_test
from cathode.search.settings import Autoregressive, DensitySettings
from cathode.search.tasks import Task
from cathode.support.errors import UserError
from cathode.training.config import FitConfig

CALLS: list[Path] = []


@dataclass(frozen=True)
class Options:
    width: float = 1.0
    names: tuple[str, ...] = ("a",)


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


def write(folder: Path, **arguments) -> None:
    CALLS.append(folder)
    (folder / "result.txt").write_text(repr(sorted(arguments)))


def continue_(folder: Path, *, stop: bool) -> None:
    CALLS.append(folder)
    if not (folder / "checkpoint").exists():
        (folder / "checkpoint").write_text("half")
        raise RuntimeError("killed")
    (folder / "result.txt").write_text("from " + (folder / "checkpoint").read_text())


def refuse(folder: Path) -> None:
    raise UserError("the feature 'x' is of no use")


@pytest.fixture
def store(tmp_path):
    return TaskStore(tmp_path / "tasks", SerialExecutor())


def base() -> dict:
    return {"x": np.arange(4.0), "seed": 1, "options": Options(), "name": "n", "more": {"a": [1, 2]}, "none": None}


def test_same_arguments_same_folder(store):
    one = store.run([Task("t", write, base())], description="x")
    two = store.run([Task("t", write, base())], description="x")
    assert one == two
    assert len(CALLS) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"x": np.array([0.0, 1.0, 2.0, 3.0 + 1e-15])}, {"x": np.arange(4)}, {"x": np.arange(4.0)[:, None]},
        {"x": np.arange(4.0)[::-1]}, {"seed": 2}, {"seed": 1.0}, {"seed": True}, {"seed": "1"},
        {"options": Options(width=2.0)}, {"options": Options(names=("a", "b"))}, {"more": {"a": [2, 1]}},
        {"more": {"a": [[1], 2]}}, {"none": 0}, {"extra": None},
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_is_another_task(change):
    assert digest(Task("t", write, base() | change)) != digest(Task("t", write, base()))


def test_order_of_keys_and_memory_layout_do_not_matter():
    strided = np.repeat(np.arange(4.0), 2)[::2]
    same = dict(reversed((base() | {"x": strided}).items()))
    assert digest(Task("t", write, same)) == digest(Task("t", write, base()))


def test_the_function_counts_and_the_name_only_names(tmp_path):
    assert digest(Task("t", write, {})) != digest(Task("t", refuse, {}))
    assert digest(Task("t", write, {})) == digest(Task("u", write, {}))


def test_what_cannot_be_hashed_is_refused():
    with pytest.raises(TypeError, match="cannot be hashed by content"):
        digest(Task("t", write, {"x": object()}))


def test_unfinished_folders_are_handed_back(store):
    task = Task("t", continue_, {"stop": True})
    with pytest.raises(RuntimeError, match="killed"):
        store.run([task], description="x")
    (folder,) = store.run([task], description="x")
    assert (folder / "result.txt").read_text() == "from half"
    assert [folder, folder] == CALLS


def test_only_the_missing_tasks_are_computed_and_order_is_kept(store):
    tasks = [Task(f"t{k}", write, {"k": k}) for k in range(4)]
    store.run(tasks[1:3], description="x")
    folders = store.run(tasks, description="x")
    assert [f.name.split("-")[0] for f in folders] == ["t0", "t1", "t2", "t3"]
    assert len(CALLS) == 4


def test_what_a_task_refuses_reaches_the_caller(store):
    with pytest.raises(UserError, match="the feature 'x' is of no use"):
        store.run([Task("t", refuse)], description="x")
    assert not list(store.folder.glob("*/done.json"))


class _OnlyTheFirst(Executor):
    """Runs the first call at once; all others wait for a worker that never comes."""

    def __init__(self):
        self.waiting: list[Future[None]] = []
        self.started = False

    def submit(self, fn, /, *args, **kwargs):
        if not self.started:
            self.started = True
            return SerialExecutor().submit(fn, *args, **kwargs)
        self.waiting.append(Future())
        return self.waiting[-1]


def test_the_rest_is_cancelled_after_an_error(tmp_path):
    executor = _OnlyTheFirst()
    tasks = [Task("bad", refuse), *(Task(f"t{k}", write, {"k": k}) for k in range(50))]
    with pytest.raises(UserError):
        TaskStore(tmp_path, executor).run(tasks, description="x")
    assert len(executor.waiting) == 50
    assert all(future.cancelled() for future in executor.waiting)


def test_clear_removes_the_results(store):
    (folder,) = store.run([Task("t", write, {})], description="x")
    store.clear()
    assert not folder.exists()


def fit_task(seed: int) -> Task:
    random = np.random.default_rng(0)
    x, mass = random.normal(size=(600, 2)), random.uniform(2, 5, 600)
    parts = {f"{p}_{k}": v for p in ("train", "validation") for k, v in (("x", x), ("mass", mass), ("weight", None))}
    settings = DensitySettings(model=Autoregressive(hidden=(8,), components=2), training=FitConfig(epochs=2))
    return Task(f"density-{seed}", fit_member, {**parts, "settings": settings, "seed": seed})


@pytest.fixture(scope="module")
def pool():
    with open_executor("local", workers=2) as executor:
        yield executor


def weights(folders):
    return [(f / "model" / "weights.safetensors").read_bytes() for f in folders]


def test_processes_compute_what_this_process_computes(pool, store, tmp_path):
    tasks = [fit_task(1), fit_task(2)]
    here = store.run(tasks, description="x")
    there = TaskStore(tmp_path / "pool", pool).run(tasks, description="x")
    assert [f.name for f in here] == [f.name for f in there]
    assert weights(here) == weights(there)
    assert weights(here)[0] != weights(here)[1]


def test_errors_come_back_from_processes(pool, tmp_path):
    x = np.zeros((20, 2))
    bad = {"x": x, "y": x, "x_weight": None, "max_events": 10, "seed": 1}
    with pytest.raises(UserError, match="c2st with 5 folds needs"):
        TaskStore(tmp_path, pool).run([Task("t", two_sample_test, bad)], description="x")


def test_a_dead_worker_is_explained(tmp_path):
    with (
        open_executor("local", workers=1) as executor,
        pytest.raises(UserError, match=r"a worker process died during 'fits', .* --resume and fewer workers"),
    ):
        TaskStore(tmp_path, _Dying(executor)).run([Task("t", write, {})], description="fits")


class _Dying:
    """Hands the pool a call that ends its worker at once, as a worker out of memory ends."""

    def __init__(self, executor):
        self.executor = executor

    def submit(self, *arguments):
        return self.executor.submit(os._exit, 9)


def test_unknown_executors_are_refused():
    with pytest.raises(UserError, match="unknown executor 'slurm': use local, serial or dask"), open_executor("slurm"):
        pass


def test_serial_keeps_errors_in_the_future():
    future = SerialExecutor().submit(int, "x")
    assert isinstance(future.exception(), ValueError)
    assert SerialExecutor().submit(int, "3").result() == 3
