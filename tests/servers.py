"""Web servers on this machine that answer well, badly, or not at every time."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the files of a folder.

    Attributes
    ----------
    ranges, suffixes, sizes, chunked, redirects : bool
        Whether ranges are answered, also those that count from the end, sizes are told, the content is sent in chunks,
        and each name leads to another one.
    elsewhere : str
        URL of the server to which `redirects` lead.
    failures : list of str
        What goes wrong with the next requests for content: ``"503"``, ``"reset"``, ``"truncated"`` or ``""``.
    flaky : list of str
        What goes wrong with each request for content that was not made before: at first, and when it is made again.
    always : str
        What goes wrong with each request for content when `failures` is empty.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the content waits 40 ms for the receipt of the headers
    root: Path
    ranges = suffixes = sizes = True
    chunked = redirects = False
    elsewhere = ""
    failures: list[str]
    flaky: tuple[str, ...] = ()
    always = ""
    asked: dict[tuple[str, str], int]
    log: list[tuple[str, int]]

    def do_GET(self) -> None:
        name = unquote(self.path.partition("?")[0]).lstrip("/")
        if self.redirects and not name.startswith("moved/"):
            self._answer(302, {"Location": f"{self.elsewhere}/moved/{name}", "Content-Length": "0"}, b"")
            return
        path = self.root / name.removeprefix("moved/")
        failure = self._failure()
        if failure == "reset":
            self.close_connection = True
            self.connection.close()
        elif failure.isdigit():
            self._answer(int(failure), {"Content-Length": "0"}, b"")
        elif not path.is_file():
            self._answer(404, {"Content-Length": "0"}, b"")
        else:
            self._content(path.read_bytes(), failure)

    do_HEAD = do_GET

    def _failure(self) -> str:
        if self.command == "HEAD":
            return ""
        if self.failures:
            return self.failures.pop(0)
        request = self.path, self.headers.get("Range", "")
        times = self.asked[request] = self.asked.get(request, 0) + 1
        return self.flaky[times - 1] if times <= len(self.flaky) else self.always

    def _content(self, data: bytes, failure: str) -> None:
        asked = re.match(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")) if self.ranges else None
        if asked and not asked[1]:
            asked = re.match(r"(\d+)-(\d*)", f"{max(0, len(data) - int(asked[2]))}-") if self.suffixes else None
        part = data[int(asked[1]) : int(asked[2]) + 1 if asked[2] else None] if asked else data
        headers = {"ETag": f'"{hash(data)}"', "Content-Type": "application/octet-stream"}
        if asked:
            headers["Content-Range"] = f"bytes {asked[1]}-{int(asked[1]) + len(part) - 1}/{len(data)}"
        if self.chunked and self.command == "GET":
            headers["Transfer-Encoding"] = "chunked"
        elif self.sizes:
            headers["Content-Length"] = str(len(part))
        else:
            headers["Connection"] = "close"
            self.close_connection = True
        if failure == "truncated":
            part = part[: len(part) // 2]
            self.close_connection = True
        self._answer(206 if asked else 200, headers, part)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.log.append((self.path, len(body)))
        with contextlib.suppress(ConnectionError):
            if "Transfer-Encoding" in headers:
                self._send_chunks(body)
            else:
                self.wfile.write(body)

    def _send_chunks(self, body: bytes) -> None:
        for at in range(0, len(body), 50_000):
            part = body[at : at + 50_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        if not self.close_connection:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


MODES = {
    "good": {},
    "no suffixes": {"suffixes": False},
    "no ranges": {"ranges": False},
    "no sizes": {"ranges": False, "sizes": False},
    "chunked": {"ranges": False, "sizes": False, "chunked": True},
    "redirects": {"redirects": True},
    "redirects without ranges": {"redirects": True, "ranges": False},
}
"""Servers from which every file can be read."""


class Server(http.server.ThreadingHTTPServer):
    """Answers requests as soon as they come; a connection beyond the queue would be tried again after a second."""

    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def running(handler: Any) -> Iterator[str]:
    """Yield the URL of a server with a handler of requests."""
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serving(root: Path, **mode: object) -> Iterator[tuple[str, type[Handler]]]:
    """Yield the URL of a server, and its handler, whose attributes may be changed."""
    handler = type("Handler", (Handler,), {"root": root, "failures": [], "asked": {}, "log": [], **mode})
    with running(handler) as url:
        yield url, handler
