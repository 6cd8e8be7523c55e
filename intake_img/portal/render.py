"""Pictures rendered on the server: thumbnails, and tiles for browsers and pages that cannot render pixels."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from intake_img.errors import TooLargeError
from intake_img.model.chunks import Region
from intake_img.portal.costly_blocks import price
from intake_img.portal.library import LibraryItem
from intake_img.portal.open_entries import Opened
from intake_img.portal.picture import Light, added, plane
from intake_img.portal.replies import body, etag, problem
from intake_img.portal.site import Site
from intake_img.portal.virtual_store import ImageStore, ServedArray
from intake_img.portal.work import SEEN, THUMBNAIL

__all__ = ["thumbnail", "tile", "warm_thumbnail"]

_SIDE = 320
_MOST_CHANNELS = 12
_KINDS = {"webp": "image/webp", "png": "image/png"}
_PLANE = re.compile(r"(?P<id>.+)/(?P<level>\d{1,2})/(?P<y>\d{1,7})/(?P<x>\d{1,7})\.(?P<kind>webp|png)")


async def thumbnail(request: Request) -> Response:
    """``GET /thumb/{entry}.webp``: a small picture of the middle plane, kept on disk; ``scene`` in the query.

    ``scene`` is the path of one of several images. All fields of a plate have the same limits.
    """
    site: Site = request.app.state.site
    try:
        name, _, kind = request.path_params["path"].rpartition(".")
        item = site.item(request, name)
        media = _KINDS[kind]
        opened = await site.opened(item, request, THUMBNAIL)
        scene = request.query_params.get("scene", "")
        key = _key(opened, scene, kind)
        tag = etag(key)
        data = site.disk.get(key)
        if data is None:
            data = await site.run(request, key, lambda: _small(opened, kind, scene), THUMBNAIL)
            site.disk.put(key, data)
        return body(request, data, media, tag, seconds=300)
    except Exception as exc:
        site.metrics.failed(exc)
        return problem(exc)


def warm_thumbnail(site: Site, item: LibraryItem) -> None:
    """Render the thumbnail of an entry and keep it on disk; a failure is left to the requests for it."""
    with contextlib.suppress(Exception):
        opened = site.open_entries.get(item)
        key = _key(opened, "", "webp")
        if site.disk.get(key) is None:
            site.disk.put(key, _small(opened, "webp", ""))


def _key(opened: Opened, scene: str, kind: str) -> str:
    return f"thumbnail/{opened.stamp}/{scene}/{kind}"


def _small(opened: Opened, kind: str, scene: str) -> bytes:
    store = opened.store(scene)
    key = next(iter(store.levels))
    levels = [a for a in store.levels[key] if _affordable(a, opened.budget)]
    if not levels:
        raise TooLargeError("a thumbnail of this image needs a pyramid")
    fits = [a for a in levels if min(_plane(a)) >= _SIDE // 2]
    array = (fits or levels[:1])[-1]
    rows, columns = _plane(array)
    region = {"y": slice(0, rows), "x": slice(0, columns)}
    limits: dict[int, tuple[Any, ...]] = {k: (v, None) for k, v in opened.limits.items()} if opened.plate else {}
    picture = _composite(store, array, region, {}, limits)
    return _encoded(picture, kind, _SIDE)


def _affordable(array: ServedArray, budget: int) -> bool:
    rows, columns = _plane(array)
    if rows * columns > 2**24:
        return False
    whole = tuple(
        slice(0, n) if a in "yx" else slice(0, 1) for a, n in zip(array.axes, array.pixels.shape, strict=True)
    )
    return price(array.pixels, whole, budget) <= budget


def _plane(array: ServedArray) -> tuple[int, int]:
    sizes = dict(zip(array.axes, array.pixels.shape, strict=True))
    return sizes.get("y", 1), sizes.get("x", 1)


async def tile(request: Request) -> Response:
    """``GET /tile/{entry}/{level}/{y}/{x}.webp``: one tile in colour; ``t``, ``z`` and ``c`` in the query.

    ``t`` and ``z`` are numbers; one of them may be ``max``, the largest samples along the axis. ``c`` lists channels as
    ``number~low~high~RRGGBB``, separated by ``_``; omitted values follow the image.
    """
    site: Site = request.app.state.site
    try:
        found = _PLANE.fullmatch(request.path_params["path"])
        if found is None:
            raise KeyError("tile")
        item = site.item(request, found["id"])
        opened = await site.opened(item, request)
        place = {a: _index(request.query_params.get(a)) for a in "tz"}
        if list(place.values()).count("max") > 1:
            raise KeyError("max along two axes")
        shown = _channels(request.query_params.get("c", ""))
        name = f"tile/{opened.stamp}/{request.path_params['path']}/{place}/{shown}"
        cached = site.bodies.get(name)
        if cached is None:
            at = int(found["level"]), int(found["y"]), int(found["x"])
            cached = await site.run(request, name, lambda: _tile(site, opened, at, place, shown, found["kind"]), SEEN)
            site.bodies.put(name, cached, nbytes=len(cached))
        return body(request, cached, _KINDS[found["kind"]], etag(name), seconds=300)
    except Exception as exc:
        site.metrics.failed(exc)
        return problem(exc)


def _index(text: str | None) -> int | str | None:
    if text == "max":
        return text
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else None


def _channels(text: str) -> dict[int, tuple[Any, ...]]:
    """Parse ``number~low~high~RRGGBB`` parts; invalid parts are ignored."""
    found: dict[int, tuple[Any, ...]] = {}
    number = r"-?\d{1,12}(?:\.\d{1,6})?"
    for part in text.split("_")[:_MOST_CHANNELS]:
        if one := re.fullmatch(rf"(\d{{1,4}})(?:~({number})~({number}))?(?:~([0-9a-fA-F]{{6}}))?", part):
            limits = (float(one[2]), float(one[3])) if one[2] else None
            found[int(one[1])] = (limits, one[4])
    return found


def _tile(
    site: Site,
    opened: Opened,
    at: tuple[int, int, int],
    place: Mapping[str, int | str | None],
    shown: Mapping[int, tuple[Any, ...]],
    kind: str,
) -> bytes:
    """Return the tile of a level, a row and a column of tiles."""
    store = opened.store()
    levels = store.levels[next(iter(store.levels))]
    if at[0] >= len(levels):
        raise KeyError("level")
    array = levels[at[0]]
    region = _region(array, at[1:])
    along = next((a for a, where in place.items() if where == "max" and a in array.axes), None)
    fixed = {a: where for a, where in place.items() if not isinstance(where, str)}
    read = None
    if along is not None:
        fixed[along] = 0
        times = len(_chosen(store, shown))
        read = partial(site.projections.read, array.pixels, axis=array.axes.index(along), times=times)
    try:
        picture = _composite(store, array, region, fixed, shown, read)
    except TooLargeError:
        site.build_levels(opened, array)
        raise
    return _encoded(picture, kind, None)


def _region(array: ServedArray, at: Sequence[int]) -> dict[str, slice]:
    """Return the rows and columns of a tile."""
    chunk = dict(zip(array.axes, array.chunk, strict=True))
    region = {}
    for axis, index, n in zip("yx", at, _plane(array), strict=True):
        start = index * chunk.get(axis, 1)
        if start >= n:
            raise KeyError("tile")
        region[axis] = slice(start, min(start + chunk.get(axis, 1), n))
    return region


def _chosen(store: ImageStore, shown: Mapping[int, Any]) -> list[int]:
    """Return the numbers of the channels to show: those that exist among `shown`, or all."""
    count = len(store.channels())
    return ([k for k in shown if k < count] or list(range(count)))[:_MOST_CHANNELS]


def _composite(
    store: ImageStore,
    array: ServedArray,
    region: dict[str, slice],
    place: Mapping[str, int | None],
    shown: Mapping[int, tuple[Any, ...]],
    read: Callable[[Region], np.ndarray] | None = None,
) -> np.ndarray:
    """Return the sum of the channels of a plane in their colours, as RGB bytes."""
    channels = store.channels()
    lights = []
    for k in _chosen(store, shown):
        limits, color = shown.get(k, (None, None))
        window = channels[k]["window"]
        low, high = limits or (window["start"], window["end"])
        light = Light(low, high, ("000000", color or channels[k]["color"]))
        lights.append((plane(array, region, {**place, "c": k}, read), light))
    return added(lights)


def _encoded(picture: np.ndarray, kind: str, side: int | None) -> bytes:
    from PIL import Image

    image = Image.fromarray(picture)
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, kind.upper(), **({"quality": 82, "method": 0} if kind == "webp" else {"compress_level": 1}))
    return out.getvalue()
