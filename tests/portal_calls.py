"""Requests to the portal as an ASGI application, without a server or a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from portal_server import Reply

from intake_img.portal.app import make_app
from intake_img.portal.library import Library
from intake_img.portal.settings import Settings


class Calls:
    """An application that was started.

    Parameters
    ----------
    app : ASGI application
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def get(self, target: str, method: str = "GET", **headers: str) -> Reply:
        """Send a request; header names are written with ``_`` for ``-``."""
        return await self.ask(target, method, asyncio.Event(), **headers)

    async def ask(self, target: str, method: str, gone: asyncio.Event, **headers: str) -> Reply:
        """Send a request of a client that leaves when `gone` is set."""
        path, _, query = target.partition("?")
        named = {"host": "localhost", **{k.lower().replace("_", "-"): v for k, v in headers.items()}}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in named.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        sent: list[Any] = []

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        told = {k.decode().lower(): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return Reply(sent[0]["status"], told, b"".join(m.get("body", b"") for m in sent[1:]))


@contextlib.asynccontextmanager
async def calling(places: list[Any], folder: Path, **options: Any) -> AsyncIterator[Calls]:
    """Start the portal on some catalogs; `folder` is for what is kept."""
    settings = Settings(**{"cache": folder / "cache", "threads": 2, **options})
    app = make_app(Library(places, folder / "made"), settings)
    asked: asyncio.Queue[Any] = asyncio.Queue()
    told: asyncio.Queue[Any] = asyncio.Queue()
    asked.put_nowait({"type": "lifespan.startup"})
    running = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, asked.get, told.put))
    assert (await told.get())["type"] == "lifespan.startup.complete"
    try:
        yield Calls(app)
    finally:
        asked.put_nowait({"type": "lifespan.shutdown"})
        await running
