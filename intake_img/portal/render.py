"""Pictures rendered on the server: thumbnails, and tiles for browsers and pages that cannot render pixels."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from intake_img.errors import TooLargeError
from intake_img.portal.costly_blocks import price
from intake_img.portal.holdings import Opened
from intake_img.portal.picture import Light, added, plane
from intake_img.portal.replies import body, etag, problem
from intake_img.portal.site import Site
from intake_img.portal.virtual_store import ImageStore, ServedArray
from intake_img.portal.work import SEEN, THUMBNAIL

__all__ = ["thumbnail", "tile"]

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
        key = f"thumbnail/{opened.stamp}/{scene}/{kind}"
        tag = etag(key)
        data = site.disk.get(key)
        if data is None:
            data = await site.run(request, key, lambda: _small(opened, kind, scene), THUMBNAIL)
            site.disk.put(key, data)
        return body(request, data, media, tag, seconds=300)
    except Exception as exc:
        site.metrics.failed(exc)
        return problem(exc)


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

    ``c`` lists channels as ``number~low~high~RRGGBB``, separated by ``_``; omitted values follow the image.
    """
    site: Site = request.app.state.site
    try:
        found = _PLANE.fullmatch(request.path_params["path"])
        if found is None:
            raise KeyError("tile")
        item = site.item(request, found["id"])
        opened = await site.opened(item, request)
        place = {a: _index(request.query_params.get(a)) for a in "tz"}
        shown = _channels(request.query_params.get("c", ""))
        name = f"tile/{opened.stamp}/{request.path_params['path']}/{place}/{shown}"
        cached = site.bodies.get(name)
        if cached is None:
            level, y, x = (int(found[k]) for k in ("level", "y", "x"))
            cached = await site.run(
                request, name, lambda: _tile(opened, level, (y, x), found["kind"], place, shown), SEEN
            )
            site.bodies.put(name, cached, len(cached))
        return body(request, cached, _KINDS[found["kind"]], etag(name), seconds=300)
    except Exception as exc:
        site.metrics.failed(exc)
        return problem(exc)


def _index(text: str | None) -> int | None:
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
    opened: Opened,
    level: int,
    at: tuple[int, int],
    kind: str,
    place: dict[str, int | None],
    shown: dict[int, tuple[Any, ...]],
) -> bytes:
    store = opened.store()
    levels = store.levels[next(iter(store.levels))]
    if level >= len(levels):
        raise KeyError("level")
    array = levels[level]
    chunk = dict(zip(array.axes, array.chunk, strict=True))
    region = {}
    for axis, index, n in zip("yx", at, _plane(array), strict=True):
        start = index * chunk.get(axis, 1)
        if start >= n:
            raise KeyError("tile")
        region[axis] = slice(start, min(start + chunk.get(axis, 1), n))
    return _encoded(_composite(store, array, region, place, shown), kind, None)


def _composite(
    store: ImageStore,
    array: ServedArray,
    region: dict[str, slice],
    place: dict[str, int | None],
    shown: dict[int, tuple[Any, ...]] | None = None,
) -> np.ndarray:
    """Return the sum of the channels of a plane in their colours, as RGB bytes."""
    channels = store.channels()
    named = [k for k in shown or () if k < len(channels)]
    chosen = (named or list(range(len(channels))))[:_MOST_CHANNELS]
    lights = []
    for k in chosen:
        limits, color = (shown or {}).get(k, (None, None))
        window = channels[k]["window"]
        low, high = limits or (window["start"], window["end"])
        light = Light(low, high, ("000000", color or channels[k]["color"]))
        lights.append((plane(array, region, {**place, "c": k}), light))
    return added(lights)


def _encoded(picture: np.ndarray, kind: str, side: int | None) -> bytes:
    from PIL import Image

    image = Image.fromarray(picture)
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, kind.upper(), **({"quality": 82, "method": 0} if kind == "webp" else {"compress_level": 1}))
    return out.getvalue()
