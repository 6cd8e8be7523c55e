"""Clients that leave, and requests that try to write headers or to be somebody else, without a server."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from portal_calls import calling
from portal_server import lab_catalog

from intake_img.portal.virtual_store import ServedArray

KEEPS_FILES_OPEN = True  # a portal does, by design


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return lab_catalog(tmp_path, 12, 60, 70, names=["a", 'x é"; y'])


def test_chunks_of_clients_that_left_are_not_made(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, hold, made = threading.Event(), threading.Event(), []
    encoded = ServedArray.encoded

    def slowly(array: ServedArray, region: Any) -> bytes:
        begun.set()
        assert hold.wait(60)
        made.append(region[0].start)
        return encoded(array, region)

    monkeypatch.setattr(ServedArray, "encoded", slowly)

    async def check() -> None:
        async with calling([catalog], tmp_path, threads=1, waiting=4) as calls:
            await calls.get("/data/a.zarr/zarr.json")
            stays, leaves = asyncio.Event(), asyncio.Event()
            first = asyncio.ensure_future(calls.ask("/data/a.zarr/0/c/0/0/0", "GET", stays))
            await asyncio.to_thread(begun.wait, 60)
            for k in range(1, 9):  # more than may wait
                one = asyncio.ensure_future(calls.ask(f"/data/a.zarr/0/c/{k}/0/0", "GET", leaves))
                await asyncio.sleep(0)
                leaves.set()
                assert (await one).status == 499
                leaves = asyncio.Event()
            last = asyncio.ensure_future(calls.ask("/data/a.zarr/0/c/11/0/0", "GET", stays))
            await asyncio.sleep(0)
            hold.set()
            assert [(await one).status for one in (first, last)] == [200, 200]
            assert made == [0, 11]

    try:
        asyncio.run(check())
    finally:
        hold.set()


_LINES = "%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0a<script>"


@pytest.mark.parametrize(
    "target",
    [
        f"/login?next={_LINES}",
        f"/login?next=/{_LINES}",
        f"/data/a{_LINES}.zarr/zarr.json",
        f"/data/a.zarr/{_LINES}",
        f"/download/a{_LINES}.ome.tif",
        f"/?q={_LINES}&folder={_LINES}&sort={_LINES}",
        f"/catalog.yml?in={_LINES}",
        f"/thumb/a.webp?scene={_LINES}",
        f"/static/{_LINES}",
        f"/{_LINES}",
    ],
)
def test_no_request_writes_a_header(catalog: Path, tmp_path: Path, target: str) -> None:
    async def check() -> None:
        for options in ({}, {"token": "secret"}, {"origins": ("*",)}):
            async with calling([catalog], tmp_path, **options) as calls:
                reply = await calls.get(target, Origin="https://a.example\tX: y")
                assert reply.status < 500
                assert "set-cookie" not in reply.headers
                assert not any(set("\r\n") & set(text) for pair in reply.headers.items() for text in pair)

    asyncio.run(check())


def test_no_answer_repeats_the_host(catalog: Path, tmp_path: Path) -> None:
    async def check() -> None:
        async with calling([catalog], tmp_path, hosts=()) as calls:
            for path in ("/data", "/pixels", "/thumb", "/tile", "/e", "/api/entries/", "/health/", "/login/"):
                reply = await calls.get(path, Host="evil.example")
                assert reply.status == 404, path
                assert "evil" not in f"{reply.headers} {reply.body!r}"

    asyncio.run(check())


def test_a_form_that_is_broken_off_is_no_error(catalog: Path, tmp_path: Path) -> None:
    async def check() -> None:
        async with calling([catalog], tmp_path, token="secret") as calls:
            gone = asyncio.Event()
            gone.set()
            await calls.ask("/login", "POST", gone, Content_Length="9")
            assert "portal_errors_total{" not in calls.app.site.metrics.text()

    asyncio.run(check())


def test_names_of_entries_are_no_headers(catalog: Path, tmp_path: Path) -> None:
    async def check() -> None:
        async with calling([catalog], tmp_path) as calls:
            found = (await calls.get("/api/entries")).json["entries"]
            other = next(e["id"] for e in found if e["id"] != "a")
            reply = await calls.get(f"/download/{other}.zarr.zip")
            assert reply.status == 200
            assert reply.headers["content-disposition"].isascii()
            assert other in reply.headers["content-disposition"]
            several = await calls.get(f"/download/{other}.ome.tif")  # a file of each image along i
            assert (several.status, several.json["error"]) == (422, "unreadable")
            assert ".zarr.zip" in several.json["detail"]

    asyncio.run(check())


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Remote_User": "ada"},
        {"X_Remote_User": "ada", "X_Portal_Secret": ""},
        {"X_Remote_User": "ada", "X_Portal_Secret": "wrong"},
        {"X_Forwarded_For": "127.0.0.1", "X_Forwarded_User": "ada"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic c2VjcmV0"},
        {"Cookie": "intake_img_portal=..; intake_img_portal=x.9999999999.y"},
        {"Cookie": "=; ;;intake_img_portal"},
    ],
)
def test_nobody_is_somebody_else(catalog: Path, tmp_path: Path, headers: dict[str, str]) -> None:
    async def check() -> None:
        options = {"user_header": "X-Remote-User", "proxy_secret": "secret", "token": "other"}
        async with calling([catalog], tmp_path, **options) as calls:
            right = {"X_Remote_User": "ada", "X_Portal_Secret": "secret"}
            assert (await calls.get("/data/a.zarr/zarr.json", **right)).status == 200
            for path in ("/data/a.zarr/zarr.json", "/api/entries", "/metrics", "/catalog.csv", "/tile/a/0/0/0.webp"):
                assert (await calls.get(path, **headers)).status == 401
            assert (await calls.get("/", **headers)).status == 303

    asyncio.run(check())
