"""Responses of a kernel to the viewer in a notebook: documents and chunks by key, computed in threads.

A message ``{"get": key, "id": id}`` is answered with ``{"id": id, "ok": true}`` and the bytes, with
``{"id": id, "ok": false}`` if there is nothing, or with ``{"id": id, "error": sentence}``; ``{"drop": id}`` cancels a
request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from intake_img.accessor.display import byte_size
from intake_img.errors import TooLargeError
from intake_img.portal.hierarchy import Hierarchy
from intake_img.portal.virtual_store import nbytes

__all__ = ["Answers"]

_MOST_BYTES = 16 * 2**20  # of a message
_MOST_WAITING = 256
_LONGEST_NAME = 512


class Answers:
    """Answers requests for the images of a hierarchy.

    Parameters
    ----------
    images : Hierarchy
    send : callable
        Sends a message and a list of buffers; called in threads.
    threads : int
    most_bytes : int
        The longest answer.
    """

    def __init__(
        self,
        images: Hierarchy,
        send: Callable[[dict[str, Any], list[bytes]], None],
        threads: int = 2,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self.images, self.send, self.most_bytes = images, send, most_bytes
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="intake_img-view")
        self._waiting: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def receive(self, message: Any) -> None:
        """Handle a message of the front end; unknown messages are ignored."""
        if not isinstance(message, dict):
            return
        if _is_name(message.get("drop")):
            self._drop(message["drop"])
        elif _is_name(message.get("id")) and _is_name(message.get("get")):
            self._take(message["id"], message["get"])

    def _take(self, name: str, key: str) -> None:
        with self._lock:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting[name] = self._pool.submit(self._answer, name, key)
                return
        self.send({"id": name, "error": f"more than {_MOST_WAITING} requests are waiting"}, [])

    def _drop(self, name: str) -> None:
        with self._lock:
            future = self._waiting.pop(name, None)
        if future is not None:
            future.cancel()

    def _answer(self, name: str, key: str) -> None:
        answer, buffers = {"id": name, "ok": False}, []
        try:
            data = self.bytes(key)
            if data is not None:
                answer, buffers = {"id": name, "ok": True}, [data]
        except Exception as exc:  # errors of a computation are shown in the viewer
            answer, buffers = {"id": name, "error": f"{type(exc).__name__}: {exc}"}, []
        with self._lock:
            wanted = self._waiting.pop(name, None) is not None
        if wanted:
            self.send(answer, buffers)

    def bytes(self, key: str) -> bytes | None:
        """Return a document, or the samples of a chunk: little-endian, in C order, clipped at the edges of the array.

        None if there is nothing with this name.

        Raises
        ------
        TooLargeError
            If the chunk is larger than the largest message.
        """
        try:
            target, index = self.images.resolve(key)
        except KeyError:
            return None
        if isinstance(target, bytes):
            return target
        region = target.region(index or ())
        if region is None:
            return None
        if nbytes(target) > self.most_bytes:
            size, most = byte_size(nbytes(target)), byte_size(self.most_bytes)
            raise TooLargeError(
                f"a chunk of {size} is more than a message may contain ({most}): choose a smaller dtype or smaller "
                "chunks"
            )
        return target.read(region).tobytes()

    def close(self) -> None:
        """Start no more computations; running ones end in their threads."""
        with self._lock:
            self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME
