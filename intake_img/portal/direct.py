"""Responses from memory, written inside uvicorn's parser: without a task, and without the framework.

All checks of requests are those of `Guard`. Whatever is not a plain request for a chunk in memory is left to uvicorn.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

__all__ = ["Readied", "answering"]

_DIRECT = (b"/data/", b"/pixels/")
_STATUS = b"HTTP/1.1 200 OK\r\n"


class Readied(Protocol):
    """An application that has some responses in memory."""

    def ready(self, scope: Any) -> tuple[bytes, bytes] | None:
        """Return the lines of the header and the body of a response; None if the application must be called."""


def answering(base: type[asyncio.Protocol], app: Readied) -> type[asyncio.Protocol]:
    """Return a subclass of uvicorn's ``HttpToolsProtocol`` that sends the ready responses of an application itself."""

    class Direct(base):  # type: ignore[misc, valid-type]
        answered = False
        answers = 0

        def on_message_begin(self) -> None:
            self.answered = False
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            found = app.ready(self._scope()) if self._plain() else None
            if found is None:
                return super().on_headers_complete()
            self.answered, self.answers = True, self.answers + 1
            head, body = found
            dated = b"".join(b"%b: %b\r\n" % one for one in self.server_state.default_headers)
            self.transport.writelines((b"".join((_STATUS, dated, head, b"\r\n")), body))
            self.server_state.total_requests += 1

        def on_message_complete(self) -> None:
            if not self.answered:
                super().on_message_complete()

        def _plain(self) -> bool:
            """Whether this is a request of HTTP/1.1 that may be answered now, on a connection that stays open."""
            return (
                self.url.startswith(_DIRECT)
                and b"%" not in self.url
                and b"?" not in self.url
                and (self.cycle is None or self.cycle.response_complete)
                and not self.flow.write_paused
                and not self.expect_100_continue
                and (self.limit_concurrency is None or len(self.connections) < self.limit_concurrency)
                and self.parser.get_http_version() == "1.1"
                and self.parser.should_keep_alive()
                and not self.parser.should_upgrade()
                and not self.transport.is_closing()
            )

        def _scope(self) -> Any:
            path = self.url.decode("latin-1")
            about = {"path": path, "raw_path": self.url, "query_string": b""}
            self.scope.update(method=self.parser.get_method().decode("latin-1"), **about)
            return self.scope

    return Direct
