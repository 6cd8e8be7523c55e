"""One server, and everything against it together: damaged files, slow clients, clients that leave, requests that are
too large, ways out of the catalog, written headers, scripts in names, wrong tokens, and requests made up from the API.

Law: meanwhile a visitor gets its pixels right; no reply is an error of the server but 503 with Retry-After; nothing
private, no path and no file outside of the catalog is in any reply; in the end the server has the memory and the
connections of the beginning, no error in its log that it did not expect, and it exits with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import HealthCheck, given, settings

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("uvicorn")

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of other packages
]
KEEPS_FILES_OPEN = True  # the server is a process of its own

_ROUNDS = 24
_LONG = 120.0  # seconds, on any machine
_ALLOWED = 60  # MB beyond what the first half took
_SIDE, _CHUNK = 2048, 512
_SCRIPT = "<script>alert(1)</script>"
_NAME = _SCRIPT + "\"'{{ 7*7 }}"
_NAMED = _NAME + "\r\nX-Injected: 1"
_SOUND = ("plain", "tiled", "named")
_DAMAGED = ("broken", "torn", "gone", "flipped")


@dataclass
class Seen:
    """What replies were like, by the kind of request."""

    secrets: Sequence[bytes]
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)

    def judge(self, kind: str, head: bytes, body: bytes = b"") -> int:
        """Return the status of a reply, which must not be one that no request may have."""
        found = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
        assert found is not None, (kind, head[:200])
        status = int(found[1])
        self.statuses.setdefault(kind, Counter())[status] += 1
        assert status < 500 or (status == 503 and b"\nretry-after:" in head.lower()), (kind, head, body[:500])
        leaks = [secret for secret in self.secrets if secret in head or secret in body]
        assert not leaks, (kind, leaks, head[:300])
        assert not re.search(rb"\nx-injected", head.lower()), (kind, head)
        if b"text/html" in head:
            assert _SCRIPT.encode() not in body, kind
            assert b"script-src 'self'" in head, kind
        return status


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    token: str

    def memory(self) -> int:
        """MB that are not those of files."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024

    def opened(self) -> list[str]:
        """What its descriptors lead to."""
        found = []
        for one in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.append(os.readlink(one))
        return found

    def sockets(self) -> list[str]:
        return [one for one in self.opened() if one.startswith("socket:")]

    @contextlib.asynccontextmanager
    async def connected(self) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(self, target: str, *lines: str, method: str = "GET") -> tuple[bytes, bytes]:
        """Send exactly these lines; return head and body of the reply."""
        shown = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *lines, "", ""]
        async with asyncio.timeout(_LONG), self.connected() as (reader, writer):
            reply = b""
            with contextlib.suppress(ConnectionError):  # a server need not take all of a refused request
                writer.write("\r\n".join(shown).encode("utf-8", "surrogateescape"))
                await writer.drain()
                while data := await reader.read(2**20):
                    reply += data
            head, _, body = reply.partition(b"\r\n\r\n")
            return head, body

    @property
    def known(self) -> str:
        return f"Authorization: Bearer {self.token}"


def _images(folder: Path) -> np.ndarray:
    """Write sound and damaged images, and their catalog; return the pixels of the sound ones."""
    values = np.random.default_rng(0).integers(0, 4000, (_SIDE, _SIDE)).astype("u2")
    about = f"PatientName=Ada Secret\nUserName=ada\nnote={_NAMED}"
    tifffile.imwrite(folder / "plain.tif", values, description=about.replace("\r", ""))
    tifffile.imwrite(folder / "tiled.tif", values, tile=(256, 256), compression="zlib")
    sound, tiled = (folder / "plain.tif").read_bytes(), bytearray((folder / "tiled.tif").read_bytes())
    (folder / "broken.tif").write_bytes(b"II*\0" + bytes(50))
    (folder / "torn.tif").write_bytes(sound[: len(sound) // 2])
    tiled[len(tiled) // 3 : len(tiled) // 2] = b"\xff" * (len(tiled) // 2 - len(tiled) // 3)
    (folder / "flipped.tif").write_bytes(tiled)
    os.symlink("/etc/passwd", folder / "link.tif")
    names = {n: f"{n}.tif" for n in (*_SOUND[:2], *_DAMAGED)} | {"named": "plain.tif", _NAME: "plain.tif"}
    sources = {
        name: {"driver": "tif", "description": _NAMED, "args": {"uri": "{{ CATALOG_DIR }}/" + file}}
        for name, file in names.items()
    }
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": sources}))
    return values


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[tuple[Server, Seen, np.ndarray]]:
    folder = tmp_path / "lab"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("not for you")
    values = _images(folder)
    command = [sys.executable, "-W", "ignore", "-m", "intake_img", "portal"]
    tokens = ["--tokens", str(tmp_path / "tokens.yml")]
    made = subprocess.run([*command, "--new-token", "ada", *tokens], capture_output=True, text=True, check=True)
    token = made.stdout.split()[0]
    options = ["--port", "0", "--cache", str(tmp_path / "cache"), "--memory-mb", "32", "--threads", "2"]
    with open(tmp_path / "err.txt", "w") as errors:
        process = subprocess.Popen(
            [*command, str(folder / "lab.yml"), *tokens, *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        secrets = [b"not for you", b"root:x:", b"Traceback", b"Ada Secret", str(tmp_path).encode(), token.encode()]
        try:
            found = re.search(r":(\d+)/", process.stdout.readline())
            assert found is not None, (tmp_path / "err.txt").read_text()
            yield Server(process, int(found[1]), token), Seen(secrets), values
            process.send_signal(signal.SIGTERM)
            assert process.wait(_LONG) == 0
        finally:
            process.kill()
            process.wait(_LONG)
            process.stdout.close()
    assert "Traceback" not in (tmp_path / "err.txt").read_text()


async def _visitors(server: Server, seen: Seen, values: np.ndarray) -> None:
    """Read all chunks of sound entries."""
    places = itertools.product(range(-(-_SIDE // _CHUNK)), repeat=2)
    for (y, x), name in itertools.product(places, _SOUND):
        head, body = await server.ask(f"/pixels/{name}.zarr/0/c/{y}/{x}", server.known, "Accept-Encoding: identity")
        if seen.judge("visitor", head, body) == 200:
            wanted = values[y * _CHUNK : (y + 1) * _CHUNK, x * _CHUNK : (x + 1) * _CHUNK]
            assert body == wanted.tobytes(), (name, y, x)


async def _damaged(server: Server, seen: Seen, k: int) -> None:
    name = _DAMAGED[k % len(_DAMAGED)]
    for path in (
        f"/e/{name}",
        f"/data/{name}.zarr/zarr.json",
        f"/data/{name}.zarr/0/c/{k % 4}/{k % 3}",
        f"/pixels/{name}.zarr/0/c/{k % 4}/{k % 3}",
        f"/thumb/{name}.webp",
        f"/tile/{name}/0/{k % 4}/{k % 3}.webp",
        f"/download/{name}.ome.tif",
        f"/api/entries/{name}",
        f"/neuroglancer/{name}",
    ):
        seen.judge("damaged", *await server.ask(path, server.known))


async def _slow(server: Server, seen: Seen, k: int) -> None:
    """A header that never ends, or nothing at all: the server closes the connection."""
    async with asyncio.timeout(_LONG), server.connected() as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write([b"", b"GET / HTTP/1.1\r\n", b"POST /login HTTP/1.1\r\nHost: localhost\r\n"][k % 3])
            while not reader.at_eof():
                try:
                    async with asyncio.timeout(0.5):
                        await reader.read(65536)
                except TimeoutError:
                    if k % 3:
                        writer.write(b"X-a: b\r\n")
    seen.statuses.setdefault("slow", Counter())[0] += 1


async def _leaving(server: Server, seen: Seen, k: int) -> None:
    """Requests whose clients do not wait for the reply, or read only its beginning."""
    paths = (f"/data/tiled.zarr/0/c/{k % 4}/3", "/download/plain.ome.tif", f"/tile/plain/0/{k % 4}/0.webp", "/")
    async with server.connected() as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(f"GET {paths[k % 4]} HTTP/1.1\r\nHost: localhost\r\n{server.known}\r\n\r\n".encode())
            await writer.drain()
            if k % 2:
                await reader.read(100)
    seen.statuses.setdefault("leaving", Counter())[0] += 1


_LARGE = (
    "/api/entries?limit=99999999999999999999",
    "/api/entries?offset=-1&limit=1e9",
    "/?q=" + "a%20" * 400,
    "/?q=" + "%22" * 500,
    "/?" + "q=a&" * 1000,
    "/data/" + "a" * 5000,
    "/data/plain.zarr/0/c/" + "0/" * 40 + "0",
    "/data/plain.zarr/0/c/99999999999/0",
    "/tile/plain/0/0/0.webp?z=99999999999&c=" + "1~0~1~ffffff_" * 100,
    "/tile/plain/0/0/0.webp?c=0~1e308~-1e308~ffffff",
    "/tile/plain/999999/0/0.webp",
    "/thumb/plain.webp?scene=" + "0/" * 300,
    "/neuroglancer/" + "a/" * 500,
)
_HEADS = (
    "X: " + "a" * 200_000,
    "Range: bytes=" + "0-1," * 3000,
    "Cookie: " + "a=b;" * 3000,
    "Authorization: Bearer " + "x" * 30_000,
    "Content-Length: 99999999999",
    "Transfer-Encoding: chunked",
)


async def _oversized(server: Server, seen: Seen, k: int) -> None:
    seen.judge("oversized", *await server.ask(_LARGE[k % len(_LARGE)], server.known))
    head, body = await server.ask("/data/plain.zarr/zarr.json", server.known, _HEADS[k % len(_HEADS)])
    if head:  # the server may close the connection while it still gets the header
        seen.judge("oversized", head, body)


_WAYS = (
    "../secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/%2e%2e/secret.txt",
    "%252e%252e%252fsecret.txt",
    "..%5csecret.txt",
    "..\\secret.txt",
    "%c0%ae%c0%ae/secret.txt",
    "%e0%80%ae%e0%80%ae/secret.txt",
    "..;/secret.txt",
    "....//secret.txt",
    "..%00/secret.txt",
    "\uff0e\uff0e/secret.txt",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "file:%2f%2f/etc/passwd",
    "link",
    "link.tif",
    "plain.zarr/..%2f..%2f..%2f..%2fsecret.txt",
    "plain.zarr/0/c/0/0/../../../../../../secret.txt",
    "~root/.bashrc",
    "%ff%fe",
)
_ENDS = ("", ".zarr/zarr.json", ".webp", "/0/0/0.webp", ".zarr.zip", ".ome.tif")


async def _outside(server: Server, seen: Seen, k: int) -> None:
    way = _WAYS[k % len(_WAYS)]
    for route in ("data", "pixels", "thumb", "tile", "download", "static", "e", "neuroglancer", "api/entries"):
        head, body = await server.ask(f"/{route}/{way}{_ENDS[k % len(_ENDS)]}", server.known)
        assert seen.judge("outside", head, body) in (400, 404, 410, 422, 503), (route, way, head)


async def _written(server: Server, seen: Seen, k: int) -> None:
    """Names that write headers or scripts, and headers that claim to be somebody else."""
    hostile = quote(_NAMED)
    for path in (
        "/?q={}",
        "/?view=table&channel={}",
        "/e/{}",
        "/login?next={}",
        "/catalog.yml?in={}",
        "/thumb/{}.webp",
    ):
        seen.judge("written", *await server.ask(path.format(hostile), server.known))
    for path in ("/", "/e/named", "/catalog.csv", "/catalog.yml", "/data/named.zarr/zarr.json", "/api/facets"):
        seen.judge("written", *await server.ask(path, server.known))
    for line in ("Host: evil.example", "X-Forwarded-Host: evil.example", "Origin: https://evil.example"):
        head, body = await server.ask("/", server.known, line)
        assert b"evil.example" not in head + body
        seen.judge("written", head, body)
    for method in ("POST", "PUT", "DELETE", "TRACE", "CONNECT", "get"):
        assert seen.judge("written", *await server.ask("/data/plain.zarr/0/c/0/0", server.known, method=method)) >= 400


async def _unauthenticated(server: Server, seen: Seen, k: int) -> None:
    wrong = server.token[:-1] + ("a" if server.token[-1] != "a" else "b")
    lines = (
        "",
        f"Authorization: Bearer {wrong}",
        f"Authorization: Bearer {server.token[:-1]}",
        f"Authorization: Basic {server.token}",
        f"Cookie: portal={server.token}",
        "X-Remote-User: ada",
        "Authorization: Bearer \x00",
    )
    line = lines[k % len(lines)]
    for path in ("/", "/e/plain", "/data/plain.zarr/0/c/0/0", "/thumb/plain.webp", "/catalog.yml", "/metrics"):
        status = seen.judge("stranger", *await server.ask(path, *filter(None, [line])))
        assert status in (303, 400, 401), (path, line, status)


def _made_up(server: Server, seen: Seen) -> None:
    """Requests from the description of the API."""
    url = f"http://127.0.0.1:{server.port}"
    known = {"Authorization": f"Bearer {server.token}"}
    schema = schemathesis.openapi.from_url(f"{url}/api/openapi.json", headers=known)
    for found in schema.get_all_operations():

        @settings(max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=[*HealthCheck])
        @given(case=found.ok().as_strategy())
        def check(case: Any) -> None:
            reply = case.call(base_url=url, headers=known, timeout=_LONG)
            lines = [f"HTTP/1.1 {reply.status_code} ", *(f"{k}: {v}" for k, v in reply.headers.items())]
            seen.judge("made up", "\r\n".join(lines).encode("latin-1", "replace"), reply.content)

        check()


async def _attack(server: Server, seen: Seen, values: np.ndarray) -> None:
    attackers: list[Callable[[Server, Seen, int], Any]] = [
        _damaged,
        _leaving,
        _oversized,
        _outside,
        _written,
        _unauthenticated,
    ]

    async def again(attack: Callable[[Server, Seen, int], Any]) -> None:
        for k in range(_ROUNDS):
            await attack(server, seen, k)

    async def read() -> None:
        for _ in range(4):
            await _visitors(server, seen, values)

    async def watch() -> None:
        while True:
            seen.memory.append(server.memory())
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    async with asyncio.TaskGroup() as group:
        for k in range(60):
            group.create_task(_slow(server, seen, k))
        for attack in attackers:
            group.create_task(again(attack))
        group.create_task(read())
        group.create_task(asyncio.to_thread(_made_up, server, seen))
    watching.cancel()


def test_a_server_stands_everything_together(attacked: tuple[Server, Seen, np.ndarray]) -> None:
    server, seen, values = attacked
    asyncio.run(server.ask("/health"))
    sockets = server.sockets()
    asyncio.run(_attack(server, seen, values))
    assert set(seen.statuses) == {
        "visitor",
        "damaged",
        "slow",
        "leaving",
        "oversized",
        "outside",
        "written",
        "stranger",
        "made up",
    }
    assert seen.statuses["visitor"][200] > 100, seen.statuses
    assert {404, 422} & set(seen.statuses["damaged"]), seen.statuses
    assert set(seen.statuses["made up"]) >= {200, 404}, seen.statuses
    half = len(seen.memory) // 2
    assert max(seen.memory[half:]) <= max(seen.memory[:half]) + _ALLOWED, seen.memory
    until = time.monotonic() + _LONG
    while len(server.sockets()) > len(sockets) and time.monotonic() < until:
        time.sleep(0.2)
    assert len(server.sockets()) <= len(sockets)
    head, body = asyncio.run(server.ask("/health"))
    assert json.loads(body)["status"] == "ok", head
    images = Counter(one for one in server.opened() if one.endswith(".tif"))
    assert max(images.values(), default=0) <= 4, images
