"""Responses that are cached in memory, and sent before routing.

Most requests are for chunks that were read before; their remaining cost is that of the server and of copying.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from intake_img.portal.library import LibraryItem
from intake_img.portal.replies import body, body_headers, encoding_of

__all__ = ["Kept", "form_of", "joined", "name_of", "wants_whole"]

_OVERHEAD = 1000  # bytes of a response beside its body
_UNUSUAL = ("range", "if-range", "if-none-match", "origin")


@dataclass(frozen=True, eq=False, kw_only=True)
class Kept:
    """A chunk or a document, ready to send.

    Parameters
    ----------
    item : LibraryItem
        Its entry.
    stamp : str
        Version of the entry's file.
    data : bytes
    media : str
    tag : str
        The ETag.
    seconds : int
        How long clients may use it without revalidation.
    headers : mapping
        Further headers.
    """

    item: LibraryItem
    stamp: str
    data: bytes
    media: str
    tag: str
    seconds: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return len(self.data) + _OVERHEAD

    @cached_property
    def _raw(self) -> list[tuple[bytes, bytes]]:
        about = body_headers(self.tag, self.seconds, self.headers)
        return Response(self.data, media_type=self.media, headers=about).raw_headers

    @cached_property
    def lines(self) -> bytes:
        """The headers as they are sent."""
        return joined(self._raw)

    def answer(self, request: Request) -> Response:
        """Return the response to a request, also to a range request."""
        return body(request, self.data, self.media, self.tag, seconds=self.seconds, headers=self.headers)

    async def __call__(self, send: Any, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the complete body, with further headers."""
        await send({"type": "http.response.start", "status": 200, "headers": [*self._raw, *headers]})
        await send({"type": "http.response.body", "body": self.data})


def joined(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as lines of HTTP/1.1."""
    return b"".join(b"%b: %b\r\n" % one for one in headers)


def form_of(path: str, accepted: str) -> str:
    """Return the encoding of the response to a path: that of the store's chunks, else one that the client accepts."""
    return "blosc" if path.startswith("/data/") and not path.endswith((".json", ".xml")) else encoding_of(accepted)


def name_of(path: str, form: str) -> str:
    """Return the cache key of the response to a path."""
    return f"{form} {path}"


def wants_whole(scope: Any, headers: Mapping[str, str]) -> bool:
    """Whether a request is for a complete document or chunk of a store, without conditions."""
    return (
        scope["method"] == "GET"
        and scope["path"].startswith(("/data/", "/pixels/"))
        and not any(name in headers for name in _UNUSUAL)
    )
