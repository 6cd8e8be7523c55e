"""Several processes behind one port: all answer, one that dies is replaced, they count together, and end together."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from intake_img.errors import IntakeImgError
from intake_img.portal import server_processes
from intake_img.portal.metrics import Metrics

pytest.importorskip("uvicorn")
_LONG = 90.0  # seconds, on any machine


@contextlib.contextmanager
def _portal(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "intake_img", "portal", str(folder / "a.tif"), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--cache", str(folder / "cache"), *options],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        found = re.search(r":(\d+)/", process.stdout.readline())
        assert found is not None
        yield process, int(found[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(_LONG) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_LONG)
        process.stdout.close()


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONG)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _until(check: Callable[[], Any]) -> Any:
    end = time.monotonic() + _LONG
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionError):
            if found := check():
                return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def _children(pid: int) -> list[int]:
    """The serving processes, not those that Python starts beside them."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="the system divides the connections")
def test_several_processes_serve(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), "u1"))
    with _portal(tmp_path, "--workers", "2") as (process, port):
        seen: set[int] = set()

        def both() -> bool:
            seen.add(json.loads(_get(port, "/health"))["worker"])
            return seen == {0, 1}

        _until(both)
        _until(lambda: json.loads(_get(port, "/health"))["indexed"] == 1)
        children = _children(process.pid)
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)
        _until(lambda: len(_children(process.pid)) == 2 and children[0] not in _children(process.pid))
        seen.clear()
        _until(both)
        children = _children(process.pid)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_process_that_fails_at_its_start_is_not_begun_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that exits is an error; a worker that is killed is replaced twice."""

    class Ended:
        def is_alive(self) -> bool:
            return False

    for code, begun in ((1, 1), (-9, 3)):
        ended = Ended()
        ended.exitcode = code  # type: ignore[attr-defined]
        count: list[int] = []

        def begin(post: Any, ended: Any = ended, count: list[int] = count) -> None:
            count.append(1)
            post.process, post._begun = ended, time.monotonic()

        monkeypatch.setattr(server_processes._Post, "_begin", begin)
        post = server_processes._Post(print, 0, None, ())  # type: ignore[arg-type]
        for _ in range(begun - 1):
            post.keep_filled()
        with pytest.raises(IntakeImgError, match=f"with code {code}"):
            post.keep_filled()
        assert len(count) == begun


def test_processes_count_together(tmp_path: Path) -> None:
    first, second, alone = Metrics(tmp_path, 0), Metrics(tmp_path, 1), Metrics()
    for metrics in (first, second, alone):
        metrics.request("/data", 200, 0.02, 10)
        metrics.request("/data", 404, 3.0, 1)
        metrics.cached(True)
        metrics.failed(ValueError())
        metrics.share()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts-0.json", "counts-1.json"]
    told = first.text(queued=3)
    assert told.split("# TYPE portal_up")[0] == second.text().split("# TYPE portal_up")[0]
    assert 'portal_requests_total{route="/data",status="200"} 2\n' in told
    assert 'portal_sent_bytes_total{route="/data"} 22\n' in told
    assert 'portal_request_seconds_bucket{route="/data",le="0.025"} 2\n' in told
    assert 'portal_request_seconds_bucket{route="/data",le="+Inf"} 4\n' in told
    assert 'portal_request_seconds_sum{route="/data"} 6.04' in told
    assert 'portal_errors_total{kind="ValueError"} 2\n' in told
    assert 'portal_queued{worker="0"} 3\n' in told
    assert 'portal_requests_total{route="/data",status="200"} 1\n' in alone.text()
