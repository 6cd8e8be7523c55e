"""The routes ``/data`` and ``/pixels``: every entry as an OME-Zarr 0.5 store, encoded or as plain samples."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from intake_img.errors import SourceChangedError, TooLargeError
from intake_img.model.chunks import Region
from intake_img.portal.library import LibraryItem
from intake_img.portal.open_entries import Opened
from intake_img.portal.projections import split_key
from intake_img.portal.ready import Kept, form_of, name_of
from intake_img.portal.replies import compressed, etag, problem
from intake_img.portal.site import Site
from intake_img.portal.virtual_store import ServedArray, nbytes
from intake_img.portal.work import SEEN

__all__ = ["chunks", "pixels", "split_path"]

_STORE = re.compile(r"(?P<id>.+?)\.zarr(?:/(?P<key>.*))?")
_CHUNK_SECONDS = 300


def split_path(path: str) -> tuple[str, str]:
    """Split the path of a store into the id of the entry and the key.

    Raises
    ------
    KeyError
        If it is not such a path.
    """
    found = _STORE.fullmatch(path)
    if found is None:
        raise KeyError(path)
    return found["id"], found["key"] or ""


async def chunks(request: Request) -> Response:
    """``GET /data/{entry}.zarr/{key}``: documents and chunks of a Zarr store."""
    return await _answer(request, decoded=False)


async def pixels(request: Request) -> Response:
    """``GET /pixels/{entry}.zarr/{key}``: the samples of chunks, clipped at the edges, by ``Accept-Encoding``.

    The index of an axis but y and x may be ``max``: the largest samples along that axis.
    """
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
                site.open_entries.forget(item)
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
    accepted = "" if "range" in request.headers else request.headers.get("accept-encoding", "")
    path = request.scope["path"]
    form = form_of(path, accepted)
    kept = site.bodies.get(name_of(path, form))
    if kept is not None and kept.stamp == opened.stamp and kept.item is item:
        site.metrics.cached(True)
        return kept.answer(request)
    first, along = split_key(key) if decoded else (key, None)
    found = opened.at_hand(first)
    if found is None:
        found = await site.run(request, ("key", opened.stamp, item.id, first), lambda: opened.resolve(first))
    target, index = found
    wanted = _Wanted(site, request, opened, key, form, decoded, along)
    kept = await (wanted.document(target) if isinstance(target, bytes) else wanted.chunk(target, index or ()))
    return kept.answer(request)


@dataclass(frozen=True)
class _Wanted:
    """The result of a request that is not in the cache."""

    site: Site
    request: Request
    opened: Opened
    key: str
    form: str
    decoded: bool
    along: int | None = None  # the axis of a projection

    async def document(self, data: bytes) -> Kept:
        packed, encoding = compressed(data, self.form)
        tag = etag(self.opened.stamp, self.key, data, encoding)
        media = "application/xml" if self.key.endswith(".xml") else "application/json"
        return self._keep(packed, media, tag, 0, {"Vary": "Accept-Encoding", **_encoded(encoding)})

    async def chunk(self, array: ServedArray, index: Sequence[int]) -> Kept:
        region, site = array.region(index), self.site
        if region is None or (self.along is not None and array.axes[self.along] in "yx"):
            raise KeyError(self.key)
        site.metrics.cached(False)
        if nbytes(array) > site.settings.request_bytes:
            raise TooLargeError("a chunk of this image is larger than one request may read")
        name = ("chunk", self.opened.stamp, self.opened.item.id, self.key, self.form)
        try:
            return await site.run(self.request, name, lambda: self._read(array, region), SEEN)
        except TooLargeError:
            site.build_levels(self.opened, array)
            raise

    def _read(self, array: ServedArray, region: Region) -> Kept:
        """Read and encode a chunk; in a thread."""
        if self.decoded:
            data, encoding = compressed(self._samples(array, region).tobytes(), self.form)
        else:
            data, encoding = array.encoded(region), None
        tag = etag(self.opened.stamp, self.opened.item.id, self.key, self.form)
        vary = {"Vary": "Accept-Encoding"} if self.decoded else {}
        return self._keep(data, "application/octet-stream", tag, _CHUNK_SECONDS, {**vary, **_encoded(encoding)})

    def _samples(self, array: ServedArray, region: Region) -> np.ndarray:
        if self.along is None:
            return array.read(region)
        return self.site.projections.read(array.pixels, region, self.along)

    def _keep(self, data: bytes, media: str, tag: str, seconds: int, headers: Mapping[str, str]) -> Kept:
        kept = Kept(
            item=self.opened.item,
            stamp=self.opened.stamp,
            data=data,
            media=media,
            tag=tag,
            seconds=seconds,
            headers=headers,
        )
        self.site.bodies.put(name_of(self.request.scope["path"], self.form), kept)
        return kept


def _encoded(encoding: str | None) -> dict[str, str]:
    return {"Content-Encoding": encoding} if encoding else {}
