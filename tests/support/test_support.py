"""What every layer relies on: whole files or none, named random streams, one thread, one-line errors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cathode.support.errors import MissingExtraError, UserError, require
from cathode.support.files import atomic_directory, atomic_write, sha256_of, write_json
from cathode.support.progress import VARIABLE, progress
from cathode.support.provenance import environment, git_revision, versions
from cathode.support.seeding import derive_seed, numpy_generator, torch_generator
from cathode.support.threads import limit_threads, threads_setting, worker_environment


def test_errors_are_one_line():
    assert str(UserError("first\n   second\tthird")) == "first second third"


def test_a_missing_package_names_its_extra():
    with pytest.raises(MissingExtraError, match=r"'nonexistent_package'.*cathode-hep\[jets\]"):
        require("nonexistent_package", "jets")
    assert require("json", "jets") is json


def test_a_broken_import_inside_a_package_is_not_taken_for_a_missing_extra(tmp_path, monkeypatch):
    (tmp_path / "broken_inside.py").write_text("import nonexistent_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nonexistent_dependency") as caught:
        require("broken_inside", "jets")
    assert not isinstance(caught.value, UserError)


def _write_and_fail(path):
    path.write_text("garbage")
    raise RuntimeError("half way")


def test_an_interrupted_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError, match="half way"), atomic_write(path) as temporary:
        _write_and_fail(temporary)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "model"
    with atomic_directory(folder) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_directory(folder) as temporary:
        _write_and_fail(temporary / "a")
    assert (folder / "a").read_text() == "old"
    with atomic_directory(folder) as temporary:
        (temporary / "b").write_text("newer")
    assert [p.name for p in folder.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_written_files_follow_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", [])
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"), atomic_write(tmp_path / "file" / "result.json"):
        pass


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_hash_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a", chunk_bytes=2) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@given(st.integers(0, 2**40), st.lists(st.one_of(st.text(max_size=5), st.integers(0, 99)), max_size=3))
def test_seeds_are_stable_numbers(seed, names):
    value = derive_seed(seed, *names)
    assert 0 <= value < 2**31
    assert value == derive_seed(seed, *names)
    assert value != derive_seed(seed, *names, "another")


def test_streams_have_names_not_an_order():
    assert derive_seed(1, "fold", 1) != derive_seed(1, "fold", "1")
    assert derive_seed(1, "a", "b") != derive_seed(1, "b", "a")
    assert derive_seed(7, "density", 0) == 338216933
    a, b = numpy_generator(3, "x").random(4), numpy_generator(3, "x").random(4)
    assert np.array_equal(a, b)
    assert torch.equal(
        torch.rand(4, generator=torch_generator(3, "x")), torch.rand(4, generator=torch_generator(3, "x"))
    )


def test_one_thread_unless_told(monkeypatch):
    monkeypatch.delenv("CATHODE_THREADS", raising=False)
    assert threads_setting() == 1
    monkeypatch.setenv("CATHODE_THREADS", "3")
    assert threads_setting() == 3
    assert worker_environment()["OMP_NUM_THREADS"] == "3"
    assert worker_environment(2)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("CATHODE_THREADS", "many")
    with pytest.raises(ValueError, match="CATHODE_THREADS='many'"):
        threads_setting()


def test_the_limit_reaches_torch():
    code = (
        "from cathode.support.threads import limit_threads; import torch; "
        "limit_threads(1); print(torch.get_num_threads())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip() == "1"
    assert limit_threads(1) == 1


def test_progress_is_silent_without_a_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress(range(3), description="counting")) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_progress_shows_on_a_terminal_and_can_be_switched_off(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delenv(VARIABLE, raising=False)
    list(progress(range(3), description="counting"))
    assert "counting" in stream.getvalue()
    stream.truncate(0)
    monkeypatch.setenv(VARIABLE, "off")
    list(progress(range(3), description="counting"))
    assert "counting" not in stream.getvalue()[-20:]


def test_provenance_names_what_numbers_depend_on():
    assert {"python", "torch", "zuko", "nflows", "numpy", "cathode-hep"} <= set(versions())
    assert set(environment()) == {"platform", "machine", "implementation"}
    revision = git_revision()
    assert revision is None or len(revision.rstrip("+")) == 40
