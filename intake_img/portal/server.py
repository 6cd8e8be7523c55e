"""Running the application with uvicorn, with deadlines for slow and silent clients."""

from __future__ import annotations

import asyncio
from typing import Any

from intake_img.errors import MissingExtraError
from intake_img.portal.settings import Settings

__all__ = ["serve"]

_LARGEST_HEADER = 32 * 1024


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with a deadline: a connection is closed if its next request is incomplete after
    some seconds.

    uvicorn itself never closes a connection that sends a header byte by byte, or nothing.
    """
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Base
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as Base  # type: ignore[assignment]

    class Deadline(Base):  # type: ignore[misc, valid-type]
        _timer: Any = None
        _pending = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._begin()

        def data_received(self, data: bytes) -> None:
            if self._timer is None and self._idle():
                self._begin()
            self._pending += len(data)
            before = self.cycle
            super().data_received(data)
            if self.cycle is not None and self.cycle is not before:  # the header is complete
                self._end()
            elif self._timer is not None and self._pending > _LARGEST_HEADER:
                self._cut()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end()
            super().connection_lost(exc)

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _begin(self) -> None:
            self._pending = 0
            self._timer = self.loop.call_later(seconds, self._cut)

        def _end(self) -> None:
            self._pending = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _cut(self) -> None:
            self._end()
            if self.transport is not None and not self.transport.is_closing():
                self.transport.abort()

    return Deadline


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
    try:
        import uvicorn
    except ImportError as exc:
        raise MissingExtraError("uvicorn", "portal", "the web portal") from exc
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol(settings.header_seconds),
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
