"""A tiny site for tests of the viewer: its files, stores as they lie on disk, and their chunks decoded."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import zarr

from intake_img.portal.viewer import FOLDER

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Viewer</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="/favicon.svg">
<link rel="stylesheet" href="/page.css"><script type="module" src="/viewer/intake-viewer.js"></script></head>
<body><main><h1>Image</h1><intake-viewer {attributes}></intake-viewer></main></body></html>"""
CSS = "body{margin:0;font:14px system-ui} h1{position:absolute;clip-path:inset(50%)} intake-viewer{height:100dvh}"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``/viewer``, ``/data`` (files of `root`), ``/pixels`` (chunks decoded) and ``/page?attributes``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    root: Path
    log: list[str]
    delay: float = 0.0
    broken: str = ""

    def do_GET(self) -> None:
        path, _, query = unquote(self.path).partition("?")
        self.log.append(path)
        if self.broken and self.broken in path:
            return self.answer(500, b"", "text/plain")
        kind, _, name = path.lstrip("/").partition("/")
        if kind in ("viewer", "data"):
            file = (FOLDER if kind == "viewer" else self.root) / name
            script = "text/javascript" if name.endswith(".js") else "application/octet-stream"
            return (
                self.answer(200, file.read_bytes(), script) if file.is_file() else self.answer(404, b"", "text/plain")
            )
        if kind == "pixels":
            time.sleep(self.delay)
            return self.pixels(name)
        known = {"page": (PAGE.format(attributes=query), "text/html"), "page.css": (CSS, "text/css")}
        icon = ('<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml")
        body, mime = known.get(kind, icon)
        return self.answer(200, body.encode(), mime)

    def pixels(self, name: str) -> None:
        """Answer a chunk: little-endian samples, clipped at the edges, compressed by gzip."""
        path, _, grid = name.partition("/c/")
        array = zarr.open_array(self.root / path, mode="r")
        lows = [int(g) * c for g, c in zip(grid.split("/"), array.chunks, strict=True)]
        block = np.asarray(array[tuple(slice(lo, lo + c) for lo, c in zip(lows, array.chunks, strict=True))])
        raw = np.ascontiguousarray(block.astype(block.dtype.newbyteorder("<"))).tobytes()
        self.answer(200, gzip.compress(raw, 1), "application/octet-stream", {"Content-Encoding": "gzip"})

    def answer(self, status: int, body: bytes, mime: str, more: dict[str, str] | None = None) -> None:
        headers = {
            "Content-Type": mime,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": CSP,
            **(more or {}),
        }
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """A server whose clients may go away."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def site(root: Path) -> Iterator[tuple[str, type[Handler]]]:
    """Yield the URL of a site over the stores in a folder, and its handler."""
    handler = type("SiteHandler", (Handler,), {"root": root, "log": []})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler
        finally:
            server.shutdown()
            thread.join(5)
