"""Responses: bodies with ETag, ranges and compression, and errors as short JSON without details of the machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from intake_img.errors import IntakeImgError, MissingExtraError, RemoteError, SourceChangedError, TooLargeError
from intake_img.model.privacy import public
from intake_img.portal.work import BusyError, GoneError

__all__ = ["body", "body_headers", "compressed", "encoding_of", "etag", "fresh", "problem", "refusal", "sentence"]

_REFUSED = re.compile(r"q=0(\.0*)?\s*$")
_SINGLE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def etag(*parts: object) -> str:
    """Return a strong ETag for the parts."""
    return '"' + hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24] + '"'


def fresh(request: Request, tag: str) -> bool:
    """Whether the client has the version with this ETag."""
    given = request.headers.get("if-none-match", "")
    return given.strip() == "*" or tag in [t.strip().removeprefix("W/") for t in given.split(",")]


def body(
    request: Request, data: bytes, media: str, tag: str, *, seconds: int = 0, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a body, or its requested range, or 304.

    Parameters
    ----------
    request : Request
    data : bytes
    media : str
    tag : str
        The ETag.
    seconds : int
        How long it may be used without revalidation.
    headers : mapping, optional
    """
    about = body_headers(tag, seconds, headers or {})
    if fresh(request, tag):
        return Response(status_code=304, headers=about)
    asked = request.headers.get("range")
    if asked and request.headers.get("if-range", tag) == tag and "Content-Encoding" not in about:
        return _range(data, asked, media, about)
    return Response(data, media_type=media, headers=about)


def body_headers(tag: str, seconds: int, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a body, see `body`."""
    kept = f"private, max-age={seconds}" if seconds else "no-cache"
    return {"ETag": tag, "Accept-Ranges": "bytes", **headers, "Cache-Control": kept}


def _range(data: bytes, asked: str, media: str, headers: dict[str, str]) -> Response:
    """A single range; several or invalid ranges are answered with the complete body, as the standard allows."""
    found = _SINGLE.fullmatch(asked.strip())
    first, last = found.groups() if found is not None else ("", "")
    if not first + last or (first and last and int(last) < int(first)):
        return Response(data, media_type=media, headers=headers)
    total = len(data)
    start = max(0, total - int(last)) if not first else int(first)
    stop = total if not first or not last else min(int(last) + 1, total)
    if start >= total or stop <= start:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{total}"})
    headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{total}"}
    return Response(data[start:stop], 206, media_type=media, headers=headers)


def encoding_of(accepted: str) -> str:
    """Return the best encoding that a client accepts: ``zstd``, ``gzip``, or ``plain`` for none.

    Examples
    --------
    >>> encoding_of("gzip, deflate, zstd"), encoding_of("gzip;q=0.5, zstd;q=0"), encoding_of("br")
    ('zstd', 'gzip', 'plain')
    """
    offered = {part.split(";")[0].strip().lower() for part in accepted.split(",") if not _REFUSED.search(part)}
    return next((e for e in ("zstd", "gzip") if e in offered), "plain")


def compressed(data: bytes, encoding: str) -> tuple[bytes, str | None]:
    """Return bytes in an encoding of `encoding_of`, and the ``Content-Encoding``; few bytes are not compressed."""
    if len(data) < 256 or encoding == "plain":
        return data, None
    if encoding == "zstd":
        from numcodecs import zstd

        return bytes(zstd.compress(data, 1)), "zstd"
    import zlib

    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush(), "gzip"


_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (BusyError, 503, "busy"),
    (GoneError, 499, "gone"),
    (TooLargeError, 503, "too-much"),
    (SourceChangedError, 410, "changed"),
    (FileNotFoundError, 410, "missing"),
    (RemoteError, 503, "remote"),
    (MissingExtraError, 422, "unsupported"),
    (IntakeImgError, 422, "unreadable"),
    (KeyError, 404, "not-found"),
)


def sentence(exc: BaseException) -> str:
    """Return the message of an error, without local paths."""
    if isinstance(exc, KeyError):
        return "there is nothing with this name"
    if isinstance(exc, FileNotFoundError):
        return "the file of this entry is not there any more"
    text = str(exc) if isinstance(exc, (IntakeImgError, BusyError)) else ""
    return re.sub(r"\s+", " ", public(text))[:300] or f"the image cannot be read ({type(exc).__name__})"


def problem(exc: BaseException) -> Response:
    """Return the response to a failed request."""
    status, code = next(((s, c) for kind, s, c in _STATUS if isinstance(exc, kind)), (422, "unreadable"))
    return refusal(status, code, sentence(exc))


def refusal(status: int, code: str, text: str, **headers: str) -> Response:
    about: dict[str, Any] = {"Retry-After": "5", **headers} if status == 503 else dict(headers)
    return JSONResponse({"error": code, "detail": text}, status, headers={"Cache-Control": "no-store", **about})
