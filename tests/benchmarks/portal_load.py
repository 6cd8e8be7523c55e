"""Chunks a second of the portal against nginx that serves the same bytes: ``python tests/benchmarks/portal_load.py``.

Needs nginx. Prints, for 1, 8 and 32 clients, the rate and the latency (p50, p95, p99) of nginx, of the portal with its
cache warm, and cold, and the time of a processor that the server takes for a request; and the memory of the portal over
10 000 chunks of an image of 20 GB. Rounds are interleaved, the best of each counts. ``WORKERS=2`` serves with two
processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from intake_img import imsave

SECONDS = float(os.environ.get("SECONDS_A_ROUND", "2"))
WORKERS = int(os.environ.get("WORKERS", "1"))
SIDE, CHUNK = 8192, 512
LARGE = 100_000  # pixels along y and x of an image of 20 GB
TICKS = os.sysconf("SC_CLK_TCK")


def _image(folder: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = (1000 + 800 * np.sin(y / 50) * np.cos(x / 70) + rng.normal(0, 30, (SIDE, SIDE))).astype("u2")
    imsave(xr.DataArray(pixels, dims=list("yx")), folder / "image.tif", compress="zstd", tile=CHUNK)


def _large(folder: Path) -> None:
    """Make an image of zeros that takes no room on the disk."""
    header = {"descr": "<u2", "fortran_order": False, "shape": (LARGE, LARGE)}
    with open(folder / "large.npy", "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + 2 * LARGE * LARGE)


@contextlib.contextmanager
def _portal(path: Path, memory: int) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "intake_img", "portal", str(path), "--port", "0", "--workers", str(WORKERS)]
    command += ["--cache", str(path.parent / "cache"), "--memory-mb", str(memory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://[^/\s]+", process.stdout.readline())
        assert found is not None
        yield found[0].replace("localhost", "127.0.0.1"), process.pid
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def _nginx(root: Path, folder: Path) -> Iterator[tuple[str, int]]:
    port = 18_700 + os.getpid() % 500
    (folder / "nginx.conf").write_text(
        f"worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log /dev/null;\n"
        f"events {{ worker_connections 256; }}\nhttp {{ access_log off; client_body_temp_path {folder}/b;\n"
        f"proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;\n"
        f"scgi_temp_path {folder}/s; sendfile on; keepalive_requests 1000000;\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-e", "/dev/null"])
    try:
        time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(10)


async def _client(host: str, port: int, paths: Iterator[str], until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    while time.perf_counter() < until:
        begun = time.perf_counter()
        writer.write(f"GET {next(paths)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], head
        length = re.search(rb"content-length: (\d+)", head, re.I)
        assert length is not None
        await reader.readexactly(int(length[1]))
        times.append(time.perf_counter() - begun)
    writer.close()


async def _round(url: str, paths: Iterator[str], clients: int) -> tuple[float, np.ndarray]:
    host, _, port = url.removeprefix("http://").partition(":")
    times: list[float] = []
    begun = time.perf_counter()
    await asyncio.gather(*(_client(host, int(port), paths, begun + SECONDS, times) for _ in range(clients)))
    return len(times) / (time.perf_counter() - begun), 1000 * np.percentile(times, (50, 95, 99))


def _family(pid: int) -> list[int]:
    """Return a process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def _memory(pid: int) -> int:
    """Return the MB of memory of a server, without the cache of files."""
    lines = [line for one in _family(pid) for line in Path(f"/proc/{one}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024


def _seconds(pid: int) -> float:
    """Return the time of a processor that a server took until now."""
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in _family(pid)]
    return sum(int(one[11]) + int(one[12]) for one in fields) / TICKS


def main() -> None:
    """Measure, and print a table."""
    folder = Path(tempfile.mkdtemp(prefix="portal-load-"))
    folder.chmod(0o755)  # nginx's workers are another user
    try:
        _measure(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(folder: Path) -> None:
    _image(folder)
    grid = [f"c/{y}/{x}" for y in range(SIDE // CHUNK) for x in range(SIDE // CHUNK)]
    with _portal(folder / "image.tif", 1024) as warm, _portal(folder / "image.tif", 1) as cold:
        name = next(n for n in ("/data/image.tif.zarr", "/data/image.zarr") if _status(f"{warm[0]}{n}/zarr.json"))
        root = folder / "static"
        for key in grid[:64]:
            path = root / (name + "/0/" + key).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(4 * WORKERS):
                path.write_bytes(_body(f"{warm[0]}{name}/0/{key}"))
        few = [f"{name}/0/{key}" for key in grid[:64]]
        many = [f"{name}/0/{key}" for key in grid]
        with _nginx(root, folder) as static:
            cases = {"nginx": (static, few), "warm": (warm, few), "cold": (cold, many)}
            for clients in (1, 8, 32):
                _compared(cases, clients)
    _large(folder)
    with _portal(folder / "large.npy", 64) as (url, pid):
        count = LARGE // CHUNK
        _grown(url, pid, [f"/data/large.zarr/0/c/{k // count}/{k % count}" for k in range(count * count)])


def _compared(cases: dict[str, tuple[tuple[str, int], list[str]]], clients: int) -> None:
    """Print a line for each server."""
    rounds: dict[str, list[tuple[float, np.ndarray, float]]] = {what: [] for what in cases}
    for _, (what, ((url, pid), paths)) in itertools.product(range(3), cases.items()):
        begun, from_ = _seconds(pid), time.perf_counter()
        rate, late = asyncio.run(_round(url, itertools.cycle(paths), clients))
        spent = 1000 * (_seconds(pid) - begun) / max(1.0, rate * (time.perf_counter() - from_))
        rounds[what].append((rate, late, spent))
    best = {what: max(found, key=lambda one: one[0]) for what, found in rounds.items()}
    for what, (rate, late, spent) in best.items():
        told = " ".join(f"{p:.1f}" for p in late)
        print(
            f"{clients:2} clients  {what:6} {rate:6.0f}/s  x{rate / best['nginx'][0]:.2f}  {told} ms, "
            f"{spent:.2f} ms of a processor",
            flush=True,
        )


def _grown(url: str, pid: int, paths: list[str]) -> None:
    at, done, left = [], 0, iter(paths)
    while done < 10_000:
        rate, _ = asyncio.run(_round(url, left, 8))
        done += int(rate * SECONDS)
        at.append(_memory(pid))
    print(f"memory over {done} chunks of 20 GB: {at[0]} MB, then {min(at)} to {max(at)} MB, at the end {at[-1]} MB")


def _body(url: str) -> bytes:
    import urllib.request

    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.read()


def _status(url: str) -> bool:
    try:
        return bool(_body(url))
    except OSError:
        return False


if __name__ == "__main__":
    main()
