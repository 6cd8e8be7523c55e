"""The routes ``/data`` and ``/pixels``: every entry as an OME-Zarr 0.5 store, encoded or as plain samples."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from intake_img.errors import SourceChangedError, TooLargeError
from intake_img.portal.blocks import Blockwise
from intake_img.portal.holdings import Opened
from intake_img.portal.library import LibraryItem
from intake_img.portal.replies import body, compressed, etag, fresh, problem, refusal
from intake_img.portal.site import Site
from intake_img.portal.store import ServedArray, nbytes
from intake_img.portal.work import SEEN

__all__ = ["chunks", "pixels", "split_path"]

_STORE = re.compile(r"(?P<id>.+?)\.zarr(?:/(?P<key>.*))?")
_CHUNK_SECONDS = 300


def split_path(path: str) -> tuple[str, str]:
    """Split the path of a store into the id of the entry and the key.

    Raises
    ------
    KeyError
        If it is no such path.
    """
    found = _STORE.fullmatch(path)
    if found is None:
        raise KeyError(path)
    return found["id"], found["key"] or ""


async def chunks(request: Request) -> Response:
    """``GET /data/{entry}.zarr/{key}``: documents and chunks as a Zarr store holds them."""
    return await _answer(request, decoded=False)


async def pixels(request: Request) -> Response:
    """``GET /pixels/{entry}.zarr/{key}``: the samples of chunks, clipped at the edges, by ``Accept-Encoding``."""
    return await _answer(request, decoded=True)


async def _answer(request: Request, decoded: bool) -> Response:
    site: Site = request.app.state.site
    try:
        name, key = split_path(request.path_params["path"])
        item = site.item(request, name)
        for attempt in (1, 2):
            try:
                return await _served(site, request, item, key, decoded)
            except SourceChangedError:
                site.holdings.forget(item)
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")
    except asyncio.CancelledError:
        raise
    except Exception as exc:
        site.metrics.failed(exc)
        return problem(exc)


async def _served(site: Site, request: Request, item: LibraryItem, key: str, decoded: bool) -> Response:
    opened = await site.opened(item, request)
    found = await site.run(request, ("key", opened.stamp, item.id, key), lambda: opened.resolve(key))
    target, index = found
    if isinstance(target, bytes):
        packed, encoding = (
            compressed(target, request.headers.get("accept-encoding", ""))
            if "range" not in (request.headers)
            else (target, None)
        )
        headers = {"Vary": "Accept-Encoding", **({"Content-Encoding": encoding} if encoding else {})}
        media = "application/xml" if key.endswith(".xml") else "application/json"
        return body(request, packed, media, etag(opened.stamp, key, target, encoding), headers=headers)
    region = target.region(index or ())
    if region is None:
        raise KeyError(key)
    accepted = request.headers.get("accept-encoding", "") if decoded else ""
    form = next((e for e in ("zstd", "gzip") if e in accepted), "plain") if decoded else "blosc"
    tag = etag(opened.stamp, item.id, key, form)
    name = f"{opened.stamp}/{key}/{form}"
    if fresh(request, tag):
        return Response(status_code=304, headers={"ETag": tag})
    cached = site.bodies.get(name)
    site.metrics.cached(cached is not None)
    if cached is None:
        if nbytes(target) > site.settings.request_bytes:
            raise TooLargeError("a chunk of this image is larger than one request may read")
        cached = await _computed(site, request, opened, target, region, name, accepted, decoded)
    data, encoding = cached
    headers = {"Content-Encoding": encoding} if encoding else {}
    if decoded:
        headers["Vary"] = "Accept-Encoding"
    return body(request, data, "application/octet-stream", tag, seconds=_CHUNK_SECONDS, headers=headers)


async def _computed(
    site: Site,
    request: Request,
    opened: Opened,
    array: ServedArray,
    region: Any,
    name: str,
    accepted: str,
    decoded: bool,
) -> tuple[bytes, str | None]:
    def work() -> tuple[bytes, str | None]:
        made = compressed(array.read(region).tobytes(), accepted) if decoded else (array.encoded(region), None)
        site.bodies.put(name, made, len(made[0]))
        return made

    try:
        return await site.run(request, ("chunk", name), work, SEEN)
    except TooLargeError:
        if isinstance(array.pixels.reader, Blockwise):
            site.build_levels(opened, array)
        raise


def not_found() -> Response:
    """Return the answer where there is nothing."""
    return refusal(404, "not-found", "there is nothing of this name")
