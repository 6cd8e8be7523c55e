"""Chunks in memory are sent without the framework: the same bytes, to the same clients, in the order asked."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httptools")

from portal_server import Portal, lab_catalog, serving

from intake_img.portal import open_entries
from intake_img.portal.guard import Guard
from intake_img.portal.server import protocol
from intake_img.portal.settings import Settings
from intake_img.portal.tokens import add_token

KEEPS_FILES_OPEN = True  # a portal does, by design

CHUNK = "/data/a.zarr/0/c/0/0"


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that reached the application."""
    paths: list[str] = []
    call = Guard.__call__

    async def noted(self: Guard, scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope.get("path", ""))
        await call(self, scope, receive, send)

    monkeypatch.setattr(Guard, "__call__", noted)
    monkeypatch.setattr(open_entries, "_LATELY", 1e9)  # on any machine
    return paths


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return lab_catalog(tmp_path, 60, 70)


def _hits(portal: Portal, **headers: str) -> int:
    found = re.search(r'chunk_cache_total\{result="hit"\} (\d+)', portal.get("/metrics", **headers).body.decode())
    return int(found[1]) if found else 0


@pytest.mark.parametrize("path", [CHUNK, "/pixels/a.zarr/0/c/0/0", "/data/a.zarr/zarr.json"])
def test_the_answer_is_that_of_the_application(catalog: Path, tmp_path: Path, called: list[str], path: str) -> None:
    with serving([catalog], tmp_path) as portal:
        made = portal.get(path, Accept_Encoding="zstd")
        called.clear()
        direct = portal.get(path, Accept_Encoding="zstd")
        assert called == []
        assert direct.body == made.body
        assert {**direct.headers, "date": ""} == {**made.headers, "date": ""}
        assert "date" in direct.headers
        assert _hits(portal) == 1
        told = portal.get("/metrics").body.decode()
        assert f'portal_requests_total{{route="/{path.split("/")[1]}",status="200"}} 2' in told
        again = portal.get(path, Accept_Encoding="identity")  # another form, but of encoded chunks
        assert ("content-encoding" in again.headers, called[-1] == path) == (False, path != CHUNK)


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (f"GET {CHUNK} HTTP/1.0", "", 200),
        (f"GET {CHUNK} HTTP/1.1", "Connection: close", 200),
        (f"GET {CHUNK}?x=1 HTTP/1.1", "", 200),
        (f"GET {CHUNK.replace('a', '%61', 1)} HTTP/1.1", "", 200),
        (f"GET {CHUNK} HTTP/1.1", "Range: bytes=3-9", 206),
        (f"GET {CHUNK} HTTP/1.1", "Content-Length: 3", 413),
        (f"GET {CHUNK} HTTP/1.1", "Transfer-Encoding: chunked", 413),
        (f"HEAD {CHUNK} HTTP/1.1", "", 200),
        (f"POST {CHUNK} HTTP/1.1", "", 405),
        (f"GET {CHUNK} HTTP/1.1", "Host: elsewhere.example", 421),
        ("GET /data/../a.tif HTTP/1.1", "", 404),
        (f"GET http://localhost{CHUNK} HTTP/1.1", "", 200),
    ],
)
def test_other_requests_are_left_to_the_application(
    catalog: Path, tmp_path: Path, called: list[str], line: str, headers: str, status: int
) -> None:
    with serving([catalog], tmp_path) as portal:
        body = portal.get(CHUNK).body
        called.clear()
        host = "" if "Host" in headers else "Host: localhost\r\n"
        with portal.connect() as connection:
            connection.sendall(f"{line}\r\n{host}{headers}{chr(13) + chr(10) if headers else ''}\r\n".encode())
            with connection.makefile("rb") as stream:
                assert int(stream.readline().split()[1]) == status
                lines = list(iter(stream.readline, b"\r\n"))
                if status == 200 and not line.startswith("HEAD"):
                    assert stream.read(len(body)) == body
                if line.endswith("1.0") or "close" in headers:
                    assert stream.read() == b""
                    assert any(one.lower().startswith(b"connection: close") for one in lines)
        assert len(called) == 1


def test_answers_come_in_the_order_of_the_requests(catalog: Path, tmp_path: Path) -> None:
    """Also several requests in one packet, some answered by the application, and one request in two packets."""
    with serving([catalog], tmp_path) as portal:
        body = portal.get(CHUNK).body
        paths = [CHUNK, "/health", CHUNK, CHUNK, "/nothing", CHUNK, CHUNK]
        with portal.connect() as connection, connection.makefile("rb") as stream:
            asked = "".join(f"GET {p} HTTP/1.1\r\nHost: localhost\r\n\r\n" for p in paths).encode()
            connection.sendall(asked[:-30])
            for k, path in enumerate(paths):
                if k == len(paths) - 1:
                    connection.sendall(asked[-30:])
                status = int(stream.readline().split()[1])
                lines = dict(one.strip().lower().split(b": ", 1) for one in iter(stream.readline, b"\r\n"))
                data = stream.read(int(lines[b"content-length"]))
                assert status == (404 if path == "/nothing" else 200)
                assert (data == body) == (path == CHUNK)


def test_tokens_are_respected(catalog: Path, tmp_path: Path, called: list[str]) -> None:
    file = tmp_path / "tokens.yml"
    ada, bob = f"Bearer {add_token(file, 'Ada')}", f"Bearer {add_token(file, 'Bob', ['elsewhere'])}"
    with serving([catalog], tmp_path, tokens=file) as portal:
        before = portal.get(CHUNK, Authorization=ada).body
        called.clear()
        assert portal.get(CHUNK, Authorization=ada).body == before
        assert called == []
        assert portal.get(CHUNK, Authorization=bob).status == 404
        assert portal.get(CHUNK).status == 401
        file.write_text("tokens: []\n")
        os.utime(file, ns=(0, 0))
        assert portal.get(CHUNK, Authorization=ada).status == 401


class _Loop:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now, self.timers = 0.0, []  # type: ignore[var-annotated]

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, function: Any) -> Any:
        timer = _Timer(self.now + seconds, function)
        self.timers.append(timer)
        return timer

    def move(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [t for t in self.timers if not t.cancelled and t.when <= end]:
            first = min(due, key=lambda t: t.when)
            self.timers.remove(first)
            self.now = first.when
            first.function()
        self.now = end


class _Timer:
    def __init__(self, when: float, function: Any) -> None:
        self.when, self.function, self.cancelled = when, function, False

    def cancel(self) -> None:
        self.cancelled = True


class _Transport:
    def __init__(self) -> None:
        self.written, self.closed = b"", False

    def get_extra_info(self, name: str) -> Any:
        return None

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    pause_reading = resume_reading = lambda self: None


class _App:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """A route that never answers."""

    def ready(self, scope: Any) -> tuple[bytes, bytes] | None:
        if scope["path"] != CHUNK:
            return None
        return b"content-length: 3\r\n", b"abc"


_REQUEST = f"GET {CHUNK} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@pytest.fixture
def connection() -> tuple[Any, _Transport, _Loop]:
    return _connected()


def _connected(running: Any = None) -> tuple[Any, _Transport, _Loop]:
    """Return a connection, its transport and its clock; tasks need a running loop."""
    import uvicorn
    from uvicorn.server import ServerState

    settings, loop, transport = Settings(header_seconds=10.0, seconds=60.0), _Loop(), _Transport()
    if running is not None:
        loop.create_task = running.create_task  # type: ignore[attr-defined]
    config = uvicorn.Config(_App(), log_config=None, access_log=False)  # type: ignore[arg-type]
    one: Any = protocol(_App(), settings)(config, ServerState(), {}, loop)  # type: ignore[call-arg]
    one.connection_made(transport)
    return one, transport, loop


def test_the_deadline_of_a_request(connection: tuple[Any, _Transport, _Loop]) -> None:
    one, transport, loop = connection
    for _ in range(30):
        loop.move(9.0)
        one.data_received(_REQUEST)
    assert transport.written == 30 * b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
    assert len(loop.timers) == 1
    for byte in _REQUEST[:9]:  # byte by byte
        loop.move(1.0)
        one.data_received(bytes([byte]))
    assert not transport.closed
    loop.move(2.5)
    assert transport.closed


def test_the_deadline_of_a_form() -> None:
    """The body of a request has the deadline of its header; a complete request has time."""
    for missing, closed in ((1, True), (0, False)):

        async def check(missing: int = missing, closed: bool = closed) -> None:
            one, transport, loop = _connected(asyncio.get_running_loop())
            body = b"token=abcdef"
            one.data_received(b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            for byte in body[: len(body) - missing]:
                loop.move(0.5)
                one.data_received(bytes([byte]))
            assert not transport.closed
            loop.move(20.0)
            assert transport.closed == closed

        asyncio.run(check())


def test_a_silent_client_is_cut(connection: tuple[Any, _Transport, _Loop]) -> None:
    one, transport, loop = connection
    one.data_received(_REQUEST)
    loop.move(9.9)
    assert not transport.closed
    loop.move(0.2)
    assert transport.closed


def test_a_client_that_reads_nothing_is_cut(connection: tuple[Any, _Transport, _Loop]) -> None:
    one, transport, loop = connection
    one.data_received(_REQUEST)
    one.pause_writing()
    loop.move(59.0)
    one.resume_writing()  # it read slowly
    one.data_received(_REQUEST)
    one.pause_writing()
    loop.move(59.0)
    assert not transport.closed
    loop.move(1.1)
    assert transport.closed
