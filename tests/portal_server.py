"""A portal on a free port of this machine, in a thread, with deadlines."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml

from intake_img.portal.library import Library
from intake_img.portal.settings import Settings


def lab_catalog(folder: Path, *shape: int, names: Sequence[str] = ("a",)) -> Path:
    """Write an image with the values 0, 1, 2, ... and a catalog with an entry of each name for it."""
    tifffile.imwrite(folder / "a.tif", np.arange(np.prod(shape), dtype="u2").reshape(shape))
    entry = {"driver": "tif", "args": {"uri": "{{ CATALOG_DIR }}/a.tif"}}
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": dict.fromkeys(names, entry)}))
    return folder / "lab.yml"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Portal:
    port: int
    library: Library

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Reply:
        """Send exactly this path; header names are written with ``_`` for ``-``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            if body is not None:
                headers |= {"Content_Length": str(len(body)), "Content_Type": "application/x-www-form-urlencoded"}
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(None if body is None else body.encode())
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextlib.contextmanager
def serving(places: list[Any], folder: Path, **options: Any) -> Iterator[Portal]:
    """Serve some catalogs; `folder` is for what is kept."""
    import uvicorn

    from intake_img.portal.app import make_app
    from intake_img.portal.server import protocol

    settings = Settings(**{"cache": folder / "cache", "header_seconds": 5.0, "threads": 2, **options})
    library = Library(places, folder / "made")
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app = make_app(library, settings)
    config = uvicorn.Config(
        app,
        http=protocol(app, settings),
        log_config=None,
        access_log=False,
        loop="asyncio",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield Portal(listening.getsockname()[1], library)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()
