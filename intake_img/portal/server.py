"""Running the application with uvicorn, with deadlines for slow and silent clients."""

from __future__ import annotations

import asyncio
from typing import Any

from intake_img.model.packages import imported
from intake_img.portal.direct import Readied, answering
from intake_img.portal.settings import Settings

__all__ = ["serve"]

_LARGEST_HEADER = 32 * 1024


def protocol(app: Readied, settings: Settings) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with a short path for responses in memory, and with deadlines: a connection is
    closed if its next request is incomplete after some seconds, or if the client does not read the response.

    uvicorn itself never closes a connection that sends a header byte by byte, or nothing, or that reads nothing.
    """
    Base = _base(app)

    class Deadline(Base):  # type: ignore[misc, valid-type]
        _due: float | None = None  # when the next request must be complete; None while one is answered
        _timer: Any = None  # looks at `_due` now and then: cheaper than a timer for each request
        _unread: Any = None
        _pending = 0
        answers = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._begin()

        def data_received(self, data: bytes) -> None:
            if self._idle() and (self._due is None or self._pending == 0):
                self._begin()
            self._pending += len(data)
            answers = self.answers
            super().data_received(data)
            if self.answers > answers:
                self._begin()
            elif not self._idle() and not self.cycle.more_body:  # the request is complete
                self._due, self._pending = None, 0
            elif self._due is not None and self._pending > _LARGEST_HEADER:
                self._cut()

        def connection_lost(self, exc: Exception | None) -> None:
            self._due = None
            if self._timer is not None:
                self._timer.cancel()
            self._read()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(settings.seconds, self._cut)

        def resume_writing(self) -> None:
            self._read()
            super().resume_writing()

        def _read(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
                self._unread = None

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _begin(self) -> None:
            self._pending, self._due = 0, self.loop.time() + settings.header_seconds
            if self._timer is None:
                self._timer = self.loop.call_later(settings.header_seconds, self._look)

        def _look(self) -> None:
            self._timer = None
            if self._due is None:
                return
            left = self._due - self.loop.time()
            if left > 0 or self._unread is not None:
                self._timer = self.loop.call_later(max(left, 0.1), self._look)
            else:
                self._cut()

        def _cut(self) -> None:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.abort()

    return Deadline


def _base(app: Readied) -> Any:
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol

        return H11Protocol
    return answering(HttpToolsProtocol, app)


def serve(
    app: Any, settings: Settings, host: str, port: int, *, proxies: str | None = None, socket: Any = None
) -> None:
    """Serve until the process is terminated.

    Parameters
    ----------
    app : ASGI application
    settings : Settings
    host : str
    port : int
    proxies : str, optional
        Addresses of reverse proxies whose ``X-Forwarded-*`` headers are trusted.
    socket : socket.socket, optional
        A listening socket, instead of host and port.
    """
    uvicorn = imported("uvicorn", "portal", "the web portal")
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol(app, settings),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=proxies is not None,
        forwarded_allow_ips=proxies,
        timeout_keep_alive=int(settings.header_seconds),
        timeout_graceful_shutdown=10,
        limit_concurrency=1000,
        h11_max_incomplete_event_size=_LARGEST_HEADER,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=None if socket is None else [socket])
