"""Checks of every request (size, host, visitor), and headers of every response.

Plain ASGI middleware, so that the application notices disconnected clients.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response

from intake_img.portal.metrics import log, logged
from intake_img.portal.ready import Kept, joined
from intake_img.portal.replies import refusal
from intake_img.portal.site import Site
from intake_img.portal.tokens import Authenticator, Visitor

__all__ = ["Guard"]

_PATH, _QUERY, _BODY = 4096, 2048, 4096
_OPEN = ("/login", "/health", "/static/", "/favicon.ico")
_PROGRAMS = ("/data/", "/pixels/", "/api/", "/thumb/", "/tile/", "/download/", "/metrics", "/catalog")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_RAW = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
_SAME_ORIGIN = [*_RAW, (b"cross-origin-resource-policy", b"same-origin")]
_SAME_ORIGIN_LINES = joined(_SAME_ORIGIN)
_ANY_ORIGIN = [*_RAW, (b"cross-origin-resource-policy", b"cross-origin")]
_ROUTES = frozenset(("e", "neuroglancer", "logout", *(p.strip("/") for p in (*_OPEN, *_PROGRAMS))))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ABORTED = 499


@dataclass(slots=True)
class _Response:
    """The state of a response; an aborted one has the status 499."""

    status: int = _ABORTED
    bytes: int = 0
    started: float = field(default_factory=time.perf_counter)


class Guard:
    """Middleware around all routes.

    Parameters
    ----------
    app : ASGI application
    site : Site
    authenticator : Authenticator
    """

    def __init__(self, app: Any, site: Site, authenticator: Authenticator) -> None:
        self.app, self.site, self.authenticator = app, site, authenticator

    def ready(self, scope: Any) -> tuple[bytes, bytes] | None:
        """Return the headers and the body of the response to an allowed request, if it is complete and in memory."""
        response, headers = _Response(), _headers(scope)
        kept = self.site.kept(scope, headers) if self._refused(scope, headers) is None else None
        if kept is None:
            return None
        self._note_kept(kept, scope, response)
        self._account(scope, response)
        return kept.lines + _SAME_ORIGIN_LINES, kept.data

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        response = _Response()
        headers = _headers(scope)
        try:
            refused = self._refused(scope, headers)
            if refused is None and (kept := self.site.kept(scope, headers)) is not None:
                await self._hand_over(kept, scope, send, response)
            else:
                await self._answer(refused or self.app, scope, receive, self._sender(headers, send, response), response)
        finally:
            self._account(scope, response)

    async def _hand_over(self, kept: Kept, scope: Any, send: Any, response: _Response) -> None:
        async with asyncio.timeout(self.site.settings.seconds):
            await kept(send, _SAME_ORIGIN)
        self._note_kept(kept, scope, response)

    def _note_kept(self, kept: Kept, scope: Any, response: _Response) -> None:
        self.site.metrics.cached(True)
        scope["entry"] = kept.item.id
        response.status, response.bytes = 200, len(kept.data)

    async def _answer(self, app: Any, scope: Any, receive: Any, sender: Any, response: _Response) -> None:
        try:
            await app(scope, receive, sender)
        except ClientDisconnect:  # before its request was complete
            return
        except (TimeoutError, asyncio.CancelledError, ConnectionError):
            raise
        except Exception as exc:  # the client gets nothing of it
            self.site.metrics.failed(exc)
            log("error", kind=type(exc).__name__, route=_route(scope))
            if response.status != _ABORTED:
                raise ConnectionAbortedError("the answer was broken off") from None
            await refusal(500, "error", "internal error; see the log")(scope, receive, sender)

    def _account(self, scope: Any, response: _Response) -> None:
        seconds, route = time.perf_counter() - response.started, _route(scope)
        self.site.metrics.request(route, response.status, seconds, response.bytes)
        if logged():
            log(
                "request",
                method=scope["method"],
                route=route,
                entry=scope.get("entry"),
                status=response.status,
                ms=round(seconds * 1000, 1),
                bytes=response.bytes,
            )

    def _sender(self, asked: Mapping[str, str], send: Any, response: _Response) -> Any:
        origin = self._allowed_origin(asked)

        async def sender(message: Any) -> None:
            if message["type"] == "http.response.start":
                response.status = message["status"]
                headers = message.setdefault("headers", [])
                there = {name.lower() for name, _ in headers}
                headers += [(n, v) for n, v in (_SAME_ORIGIN if origin is None else _ANY_ORIGIN) if n not in there]
                if origin:
                    _allow(MutableHeaders(raw=headers), origin)
            else:
                response.bytes += len(message.get("body", b""))
            async with asyncio.timeout(self.site.settings.seconds):
                await send(message)

        return sender

    def _allowed_origin(self, headers: Mapping[str, str]) -> str | None:
        origin, allowed = headers.get("origin"), self.site.settings.origins
        if not origin or not allowed:
            return None
        return "*" if "*" in allowed else (origin if origin in allowed else None)

    def _refused(self, scope: Any, headers: Mapping[str, str]) -> Response | None:
        """Return the response to a refused request; None for an allowed one."""
        return self._wrong(scope, headers) or self._preflight(scope, headers) or self._unauthenticated(scope, headers)

    def _wrong(self, scope: Any, headers: Mapping[str, str]) -> Response | None:
        method, path = scope["method"], scope["path"]
        if len(scope.get("raw_path", b"")) > _PATH or len(scope["query_string"]) > _QUERY:
            return refusal(414, "too-long", "the address is too long")
        if not self._host_allowed(headers):
            return refusal(421, "host", "this server does not serve that host name; --host-name adds one")
        if method == "POST" and path in ("/login", "/logout"):
            length = headers.get("content-length", "")
            if self._foreign(headers) or not length.isdigit() or int(length) > _BODY:
                return refusal(403, "origin", "this form was sent from another site, or is too large")
            return None
        if method not in ("GET", "HEAD", "OPTIONS"):
            return refusal(405, "method", "nothing can be written here", Allow="GET, HEAD, OPTIONS")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return refusal(413, "body", "a request has no body here")
        if _CONTROL.search(path):
            return refusal(404, "not-found", "there is nothing with this name")
        return None

    def _host_allowed(self, headers: Mapping[str, str]) -> bool:
        hosts, host = self.site.settings.hosts, headers.get("host", "")
        if not hosts:
            return True
        name = host.rsplit(":", 1)[0] if "]" not in host else host.rpartition("]")[0] + "]"
        return name.lower() in hosts

    def _foreign(self, headers: Mapping[str, str]) -> bool:
        origin = headers.get("origin")
        return bool(origin) and urlsplit(origin).netloc != headers.get("host")

    def _preflight(self, scope: Any, headers: Mapping[str, str]) -> Response | None:
        if scope["method"] != "OPTIONS":
            return None
        allow = {
            "Access-Control-Allow-Methods": "GET, HEAD",
            "Access-Control-Max-Age": "600",
            "Access-Control-Allow-Headers": "authorization, range, if-none-match",
        }
        return Response(status_code=204, headers=allow if self._allowed_origin(headers) else {})

    def _unauthenticated(self, scope: Any, headers: Mapping[str, str]) -> Response | None:
        if not self.site.settings.guarded:
            return None
        visitor = self.authenticator.visitor(headers, _cookies(headers))
        scope["visitor"] = visitor or Visitor("nobody", ())
        path = scope["path"]
        if visitor is not None or any(path == one or (one.endswith("/") and path.startswith(one)) for one in _OPEN):
            return None
        if path.startswith(_PROGRAMS):
            return refusal(401, "token", "send 'Authorization: Bearer TOKEN'", **{"WWW-Authenticate": "Bearer"})
        return RedirectResponse("/login?next=" + quote(path), 303, headers={"Cache-Control": "no-store"})


def _headers(scope: Any) -> dict[str, str]:
    """Return the headers of a request; the first of repeated headers is used."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def _allow(headers: MutableHeaders, origin: str) -> None:
    """Allow pages of an origin to read a response."""
    headers["Access-Control-Allow-Origin"] = origin
    headers["Access-Control-Expose-Headers"] = "ETag, Content-Range, Accept-Ranges, Content-Length"
    headers.add_vary_header("Origin")


def _cookies(headers: Mapping[str, str]) -> dict[str, str]:
    try:
        return {k: m.value for k, m in SimpleCookie(headers.get("cookie", "")[:8192]).items()}
    except CookieError:
        return {}


def _route(scope: Any) -> str:
    first = scope["path"].split("/", 2)[1] if scope["path"].startswith("/") else ""
    return "/" + (first if first in _ROUTES else ("" if not first else "other"))
