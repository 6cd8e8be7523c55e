"""Several processes that serve behind one port, each on its own connections; a process that ends is replaced."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from intake_img.errors import IntakeImgError

__all__ = ["end_cleanly", "listen", "serve_together"]

_BACKLOG = 2048
_SHORT = 5.0  # seconds: a process that ended sooner failed to start
_MOST_KILLED = 3
_STOPPING = 15.0  # seconds to wait for the end of a process


def listen(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Return a listening socket for each of some processes, all of one port.

    The system divides connections between them. If it cannot, they are the same socket.

    Raises
    ------
    OSError
        If the port is not available.
    """
    together = count > 1 and sys.platform == "linux"
    first = _listening(host, port, together)
    found = first.getsockname()[1]
    return [first, *(_listening(host, found, True) if together else first for _ in range(count - 1))]


def _listening(host: str, port: int, together: bool) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if together:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)  # connections wait until all is ready
    except OSError as exc:
        listening.close()
        raise OSError(
            exc.errno, f"cannot listen on {host}, port {port} ({exc.strerror}): --port chooses another"
        ) from exc
    return listening


class _FailedError(IntakeImgError, RuntimeError):
    """A process failed to start."""


def serve_together(work: Callable[..., None], sockets: Sequence[socket.socket], *arguments: Any) -> None:
    """Run ``work(number, socket, *arguments)`` in a process for each socket until this process is terminated.

    Parameters
    ----------
    work : callable
        A function of a module; SIGTERM stops it.
    sockets : sequence of socket.socket
    *arguments
        They must be picklable.

    Raises
    ------
    IntakeImgError
        If a process ends immediately after its start by itself, or is killed then three times in a row.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    posts = [_Post(work, number, one, arguments) for number, one in enumerate(sockets)]
    try:
        while not stopping.wait(0.2):
            for post in posts:
                post.keep_filled()
    finally:
        for post in posts:
            post.process.terminate()
        for post in posts:
            post.close()


class _Post:
    """One of the processes, and its replacements."""

    def __init__(self, work: Callable[..., None], number: int, listening: socket.socket, arguments: Any) -> None:
        self._target = (work, number, listening, arguments)
        self._killed = 0  # times in a row, soon after the start
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_run, args=self._target, name=f"portal-{self._target[1]}")
        self.process.start()
        self._begun = time.monotonic()

    def keep_filled(self) -> None:
        if self.process.is_alive():
            return
        code = self.process.exitcode or 0
        soon = time.monotonic() - self._begun < _SHORT
        self._killed = self._killed + 1 if soon and code < 0 else 0
        if soon and (code >= 0 or self._killed == _MOST_KILLED):
            raise _FailedError(f"a process of the portal ended immediately, with code {code}")
        self._begin()

    def close(self) -> None:
        self.process.join(_STOPPING)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _run(work: Callable[..., None], number: int, listening: socket.socket, arguments: Sequence[Any]) -> None:
    end_cleanly()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(number, listening, *arguments)


def end_cleanly() -> None:
    """Let SIGTERM end this process as the end of its work does, not at once."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
