from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cathode.data.catalogue import CATALOGUE, find_dataset
from cathode.data.download import download, list_record
from cathode.support.errors import UserError

CONTENT = np.random.default_rng(0).bytes(700_001)
NAME = "events_anomalydetection_v2.features.h5"
QUICK = {"wait": 0.01, "timeout": 5.0}


class Zenodo:
    """A small Zenodo on this machine; the attributes make it misbehave."""

    def __init__(self) -> None:
        self.files = {NAME: CONTENT}
        self.checksum: str | None = None
        self.key: str | None = None
        self.ranges = True
        self.wrong_range = False
        self.cut_after: list[int] = []
        self.statuses: list[int] = []
        self.seconds_per_block = 0.0
        self.extra = b""
        self.foreign_links = False
        self.requests: list[tuple[str, str | None]] = []
        self.url = ""

    def record(self) -> bytes:
        host = "https://zenodo.org" if self.foreign_links else self.url
        entries = [
            {
                "key": self.key or name,
                "size": len(data),
                "checksum": self.checksum or f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}",
                "links": {"self": f"{host}/api/records/4536377/files/{name}/content"},
            }
            for name, data in self.files.items()
        ]
        return json.dumps({"id": 4536377, "files": entries}).encode()


class Handler(BaseHTTPRequestHandler):
    zenodo: Zenodo

    def log_message(self, *_args: object) -> None: ...

    def do_GET(self) -> None:
        zenodo = self.zenodo
        asked = self.headers.get("Range")
        zenodo.requests.append((self.path, asked))
        if zenodo.statuses and (status := zenodo.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        if self.path == "/api/records/4536377":
            self._send(200, zenodo.record())
            return
        parts = self.path.split("/")
        if len(parts) < 3 or parts[-2] not in zenodo.files:
            self.send_error(404)
            return
        data = zenodo.files[parts[-2]] + zenodo.extra
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked and zenodo.ranges else 0
        if start and start >= len(data):
            self.send_error(416)
            return
        headers = {}
        if asked and zenodo.ranges:
            first = start + 1 if zenodo.wrong_range else start
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self._send(206 if headers else 200, data[start:], headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        zenodo = self.zenodo
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        is_file = "/files/" in self.path
        if is_file and zenodo.cut_after:
            data = data[: zenodo.cut_after.pop(0)]
        try:
            for first in range(0, len(data), 20_000):
                self.wfile.write(data[first : first + 20_000])
                if is_file and zenodo.seconds_per_block:
                    time.sleep(zenodo.seconds_per_block)
        except (BrokenPipeError, ConnectionResetError):
            pass


@contextmanager
def serving(zenodo: Zenodo) -> Iterator[Zenodo]:
    handler = type("BoundHandler", (Handler,), {"zenodo": zenodo})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        zenodo.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield zenodo
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def zenodo() -> Iterator[Zenodo]:
    with serving(Zenodo()) as running:
        yield running


def test_a_file_arrives_whole_and_is_not_fetched_twice(zenodo, tmp_path):
    paths = download("lhco-rnd", tmp_path / "data", base_url=zenodo.url, **QUICK)
    assert paths == [tmp_path / "data" / NAME]
    assert paths[0].read_bytes() == CONTENT
    assert [path.name for path in paths[0].parent.iterdir()] == [NAME]
    asked = len(zenodo.requests)
    assert download("lhco-rnd", tmp_path / "data", base_url=zenodo.url, **QUICK) == paths
    assert [path for path, _ in zenodo.requests[asked:]] == ["/api/records/4536377"]


def test_the_record_tells_size_and_checksum(zenodo):
    (file,) = list_record(4536377, base_url=zenodo.url)
    assert (file.name, file.size, file.algorithm) == (NAME, len(CONTENT), "md5")
    zenodo.foreign_links = True
    (file,) = list_record(4536377, base_url=zenodo.url)
    assert file.url.startswith(zenodo.url), "a mirror must not send us elsewhere"


def test_broken_connections_are_resumed(zenodo, tmp_path):
    zenodo.cut_after = [100_000, 250_000]
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == CONTENT
    assert [asked for url, asked in zenodo.requests if "/files/" in url] == [None, "bytes=100000-", "bytes=350000-"]


def test_a_truncated_download_says_how_to_go_on(zenodo, tmp_path):
    zenodo.cut_after = [1000, 1000]
    with pytest.raises(
        UserError, match=r"ended after 2000 of 700001 bytes, after 2 attempts: .* run the same command again"
    ):
        download("lhco-rnd", tmp_path, base_url=zenodo.url, retries=1, **QUICK)
    assert (tmp_path / f"{NAME}.part").stat().st_size == 2000
    assert not (tmp_path / NAME).exists()
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == CONTENT
    assert zenodo.requests[-1][1] == "bytes=2000-"


def test_a_server_without_ranges_starts_over(zenodo, tmp_path):
    zenodo.ranges = False
    zenodo.cut_after = [123_456]
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == CONTENT


def test_a_server_that_resumes_elsewhere_is_not_believed(zenodo, tmp_path):
    zenodo.wrong_range = True
    zenodo.cut_after = [123_456]
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(zenodo, tmp_path):
    zenodo.checksum = "md5:" + "0" * 32
    with pytest.raises(UserError, match="md5 checksum is wrong, nothing was kept"):
        download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_version_is_replaced(zenodo, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 5000)
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == CONTENT
    (tmp_path / NAME).unlink()
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * (len(CONTENT) + 10))
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == CONTENT


def test_a_complete_part_needs_no_transfer(zenodo, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == CONTENT
    assert not any("/files/" in url for url, _ in zenodo.requests)


def test_too_many_bytes(zenodo, tmp_path):
    zenodo.extra = b"surplus"
    with pytest.raises(UserError, match="more than the published 700001 bytes"):
        download("lhco-rnd", tmp_path, base_url=zenodo.url, retries=1, **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(zenodo, tmp_path):
    zenodo.statuses = [503, 200, 429, 500, 200]
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == CONTENT


def test_an_existing_other_file_is_not_overwritten(zenodo, tmp_path):
    (tmp_path / NAME).write_text("mine")
    with pytest.raises(UserError, match="exists and is not the published file"):
        download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert (tmp_path / NAME).read_text() == "mine"


def test_one_line_errors(zenodo, tmp_path):
    with pytest.raises(UserError, match="no data set 'lhco-rdn'; did you mean 'lhco-rnd'"):
        download("lhco-rdn", tmp_path, base_url=zenodo.url)
    with pytest.raises(UserError, match="the server answered 404"):
        download("lhco-blackbox-1", tmp_path, base_url=zenodo.url, **QUICK)
    with pytest.raises(UserError, match=r"record 4536377 has no file 'v2.h5'"):
        download("zenodo:4536377/v2.h5", tmp_path, base_url=zenodo.url, **QUICK)
    with pytest.raises(UserError, match="must start with http"):
        download("lhco-rnd", tmp_path, base_url="file:///etc")
    zenodo.key = "../escape.h5"
    with pytest.raises(UserError, match="not a Zenodo record"):
        download("zenodo:4536377", tmp_path, base_url=zenodo.url, **QUICK)
    (tmp_path / "file").write_text("")
    zenodo.key = None
    with pytest.raises(UserError, match="cannot write"):
        download("lhco-rnd", tmp_path / "file", base_url=zenodo.url, **QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_no_network(tmp_path):
    with serving(Zenodo()) as zenodo:
        url = zenodo.url
    with pytest.raises(UserError, match=r"no connection .* after 2 attempts: check the network"):
        download("lhco-rnd", tmp_path, base_url=url, retries=1, **QUICK)


def test_no_space(zenodo, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"needs 0.00 GB, only 0.00 GB are free"):
        download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)


_CHILD = (
    "import sys; from cathode.data.download import download; download('lhco-rnd', sys.argv[1], base_url=sys.argv[2])"
)


def test_a_killed_download_goes_on_where_it_stopped(zenodo, tmp_path):
    zenodo.files[NAME] = content = np.random.default_rng(1).bytes(8_000_000)
    zenodo.seconds_per_block = 0.01
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path), zenodo.url], env={**os.environ})
    part = tmp_path / f"{NAME}.part"
    try:
        deadline = time.monotonic() + 50
        while not (part.exists() and part.stat().st_size > 0):
            assert time.monotonic() < deadline, "the download did not begin"
            assert child.poll() is None, "the download ended before it could be killed"
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    held = part.stat().st_size
    assert 0 < held < len(content)
    assert not (tmp_path / NAME).exists()
    zenodo.seconds_per_block = 0.0
    (path,) = download("lhco-rnd", tmp_path, base_url=zenodo.url, **QUICK)
    assert path.read_bytes() == content
    assert zenodo.requests[-1][1] == f"bytes={held}-"


def test_catalogue_is_consistent():
    for name, dataset in CATALOGUE.items():
        assert dataset.name == name
        assert dataset.files
        assert dataset.record > 2_000_000
    assert find_dataset("zenodo:123").files == ()
    assert find_dataset("zenodo:123/a b.h5").files == ("a b.h5",)
