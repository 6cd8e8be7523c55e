"""Answers that are kept: the same as those that were made, for those who may see them, as long as the file is the same.

And the queue of the work for them: what nobody waits for is not done, and takes nobody's place.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("starlette")

from portal_calls import Calls, calling
from portal_server import lab_catalog

from intake_img.portal import open_entries
from intake_img.portal.tokens import add_token
from intake_img.portal.work import BusyError, GoneError, Workers

KEEPS_FILES_OPEN = True  # a portal does, by design

CHUNK = "/data/a.zarr/0/c/0/0"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return lab_catalog(tmp_path, 60, 70)


async def _hits(calls: Calls, **headers: str) -> int:
    lines = (await calls.get("/metrics", **headers)).body.decode().splitlines()
    return next((int(one.split()[1]) for one in lines if one.startswith('portal_chunk_cache_total{result="hit"}')), 0)


@pytest.mark.parametrize("path", [CHUNK, "/pixels/a.zarr/0/c/0/0", "/data/a.zarr/zarr.json"])
@pytest.mark.parametrize("accepted", ["identity", "zstd, gzip", "gzip", "zstd;q=0, gzip"])
def test_a_kept_answer_is_the_one_that_was_made(catalog: Path, tmp_path: Path, path: str, accepted: str) -> None:
    async def check() -> None:
        async with calling([catalog], tmp_path) as calls:
            made = await calls.get(path, Accept_Encoding=accepted)
            before = await _hits(calls)
            kept = await calls.get(path, Accept_Encoding=accepted)
            assert await _hits(calls) == before + 1
            assert (made.status, kept.status) == (200, 200)
            assert (kept.body, kept.headers) == (made.body, made.headers)
            encoding = (
                "" if path == CHUNK or accepted == "identity" else ("gzip" if "q=0" in accepted else accepted[:4])
            )
            assert kept.headers.get("content-encoding", "") == encoding
            assert (await calls.get(path, If_None_Match=made.headers["etag"], Accept_Encoding=accepted)).status == 304
            part = await calls.get(path, Range="bytes=3-9")
            whole = await calls.get(path, Accept_Encoding="identity")
            assert (part.status, part.body) == (206, whole.body[3:10])
            head = await calls.get(path, "HEAD", Accept_Encoding=accepted)
            assert head.headers == made.headers

    asyncio.run(check())


def test_a_kept_answer_is_for_those_who_may_see_it(catalog: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens.yml"
    all_, other = add_token(file, "Ada"), add_token(file, "Bob", ["elsewhere"])

    async def check() -> None:
        async with calling([catalog], tmp_path, tokens=file, origins=("https://a.example",)) as calls:
            for _ in range(2):
                assert (await calls.get(CHUNK, Authorization=f"Bearer {all_}")).status == 200
            assert await _hits(calls, Authorization=f"Bearer {all_}") == 1
            assert (await calls.get(CHUNK)).status == 401
            assert (await calls.get(CHUNK, Authorization="Bearer x")).status == 401
            assert (await calls.get(CHUNK, Authorization=f"Bearer {other}")).status == 404
            assert (await calls.get(CHUNK, Host="evil.example")).status == 421
            foreign = await calls.get(CHUNK, Authorization=f"Bearer {all_}", Origin="https://a.example")
            assert foreign.headers["access-control-allow-origin"] == "https://a.example"

    asyncio.run(check())


def test_a_kept_answer_ends_with_its_file(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        async with calling([catalog], tmp_path) as calls:
            before = [await calls.get(CHUNK) for _ in range(2)][1]
            tifffile.imwrite(tmp_path / "a.tif", np.zeros((90, 70), "u2"))
            monkeypatch.setattr(open_entries, "_LATELY", -1.0)  # it is looked at anew
            after = await calls.get(CHUNK)
            assert after.status == 200
            assert after.headers["etag"] != before.headers["etag"]
            assert not any((await calls.get("/pixels/a.zarr/0/c/0/0")).body)

    asyncio.run(check())


def test_work_that_nobody_waits_for_is_not_done() -> None:
    done: list[str] = []
    begun, hold = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert hold.wait(30)

    async def check() -> None:
        workers = Workers(1, 2, 30.0)
        try:
            blocked = asyncio.ensure_future(workers.run("first", first))
            await asyncio.to_thread(begun.wait, 30)
            for k in range(5):  # more than may wait, but their clients go
                gone = asyncio.get_running_loop().create_future()
                one = asyncio.ensure_future(workers.run(k, lambda k=k: done.append(f"gone {k}"), gone=gone))
                await asyncio.sleep(0)
                gone.set_result(None)
                with pytest.raises(GoneError):
                    await one
            kept = [asyncio.ensure_future(workers.run(k, lambda k=k: done.append(f"kept {k}"))) for k in (1, 2)]
            await asyncio.sleep(0)
            with pytest.raises(BusyError):
                await workers.run("one too many", lambda: done.append("too many"))
            hold.set()
            await asyncio.gather(blocked, *kept)
            assert sorted(done) == ["kept 1", "kept 2"]
            assert workers.cancelled == 5
        finally:
            hold.set()
            workers.stop()

    asyncio.run(check())
