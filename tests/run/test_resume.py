"""Runs that are really killed, and what --resume makes of them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cathode.run.folder import RunFolder
from cathode.search.settings import SearchSettings
from cathode.support.errors import UserError


def comparable(folder: Path) -> dict:
    """``results.json`` without what time measures."""
    content = json.loads((folder / "results.json").read_text())
    del content["timing"]
    for name in ("seconds", "cpu_seconds"):
        del content["density"][name]
    return content


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def kill_when(process: subprocess.Popen[str], reached: Callable[[], bool]) -> list[psutil.Process]:
    """Wait for a moment, kill the process alone, and return its children."""
    end = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the moment never came"
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return children


def wait_for_the_end_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    end = time.monotonic() + 20
    while alive(processes) and time.monotonic() < end:
        time.sleep(0.05)
    return alive(processes)


LOCAL = ("--set", "executor=local", "workers=2")


def test_killed_while_the_density_trains(start, finished, config, tmp_path):
    """In two processes; the uninterrupted run used none, so this also holds one executor to the other."""
    out = tmp_path / "out"

    def reached() -> bool:
        return any((out / "tasks").glob("density-*/checkpoint/*"))

    process = start("search", config, "--output", out, *LOCAL)
    children = kill_when(process, reached)
    assert len(children) >= 2
    assert not wait_for_the_end_of(children)
    assert not (out / "results.json").exists()
    assert list((out / "tasks").glob("density-*"))
    assert not list((out / "tasks").glob("classifier-*"))

    process = start("search", config, "--output", out, *LOCAL, "--resume")
    process_out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert comparable(out) == comparable(finished.folder)
    assert process_out.splitlines()[0] == finished.out.splitlines()[0]
    assert not (out / "tasks").exists()


@pytest.mark.slow
@pytest.mark.parametrize("local", [False, True], ids=["serial", "local"])
def test_killed_again_and_again(start, finished, config, tmp_path, local):
    out = tmp_path / "out"
    options = LOCAL if local else ()

    def there(pattern: str) -> Callable[[], bool]:
        return lambda: any(out.glob(pattern))

    moments = [
        there("log.txt"),
        there("tasks/density-*/checkpoint/*"),
        there("tasks/density-0*/done.json"),
        there("tasks/classifier-*/done.json"),
        there("tasks/gate-*"),
        there("tasks/supervised-*"),
        there("template.h5"),
        there("figures/*.png"),
    ]
    for number, moment in enumerate(moments):
        process = start("search", config, "--output", out, *options, *(["--resume"] if number else []))
        children = kill_when(process, moment)
        assert not wait_for_the_end_of(children)
        assert not (out / "results.json").exists()
    process = start("search", config, "--output", out, *options, "--resume")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert comparable(out) == comparable(finished.folder)
    assert {p.name for p in out.iterdir()} == {p.name for p in finished.folder.iterdir()}


@pytest.mark.slow
def test_killed_at_any_time(start, finished, config, tmp_path):
    """Moments that nobody chose."""
    out = tmp_path / "out"
    for number in range(6):
        process = start("search", config, "--output", out, *(["--resume"] if out.exists() else []))
        try:
            _, err = process.communicate(timeout=5 + 2.6 * number)
            assert process.returncode == 0, err
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    else:
        process = start("search", config, "--output", out, "--resume")
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert comparable(out) == comparable(finished.folder)


def test_a_folder_with_a_run_is_not_touched_without_resume(cathode, finished, config):
    before = {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*")}
    found = cathode("search", config, "--output", finished.folder)
    assert found.code == 2
    assert len(found.errors) == 1
    assert "already holds a run: add --resume" in found.err
    assert {p: p.stat().st_mtime_ns for p in finished.folder.rglob("*")} == before


def test_another_configuration_cannot_resume(cathode, finished, config):
    found = cathode("search", config, "--output", finished.folder, "--resume", "--set", "seed=2")
    assert found.code == 2
    assert len(found.errors) == 1
    assert "holds a run with another configuration" in found.err


def test_resuming_nothing_is_a_fresh_start(cathode, config, tmp_path):
    quick = ("--set", "density.members=1", "density.training.epochs=1", "density.training.batch_size=1024")
    found = cathode("template", config, "--output", tmp_path / "out", "--resume", *quick)
    assert found.code == 0, found.err
    assert (tmp_path / "out" / "results.json").exists()


def test_finishing_removes_what_a_kill_left(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "tasks" / "one").mkdir(parents=True)
    (tmp_path / "figures" / ".writing-abc").mkdir(parents=True)
    for name in (".writing-x.h5", "models/.writing-y", "figures/.writing-abc/z.png", "results.json", "tasks/one/a"):
        (tmp_path / name).write_text("x")
    RunFolder(tmp_path).finish()
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {"models", "figures", "results.json"}


def test_a_kill_before_the_configuration_was_written_leaves_a_fresh_start(tmp_path):
    (tmp_path / ".writing-abc.yaml").write_text("half")
    RunFolder(tmp_path).check(SearchSettings(), resume=True)
    RunFolder(tmp_path).check(SearchSettings(), resume=False)
    (tmp_path / "other").write_text("x")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        RunFolder(tmp_path).check(SearchSettings(), resume=True)
