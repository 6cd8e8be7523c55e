"""The coarser levels of an image: from its file, and computed ones if the file has none."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import IntakeImgError
from intake_img.io import imload
from intake_img.model.image import Image, Variable
from intake_img.portal.caches import BlockCache
from intake_img.portal.costly_blocks import halved
from intake_img.portal.native_tiles import shared_tiles
from intake_img.portal.virtual_store import CHUNK, chunk_lengths

__all__ = ["native_levels", "pyramid", "ratio"]

_MOST_LEVELS = 24


def native_levels(source: Any, ds: xr.Dataset, options: Mapping[str, Any]) -> list[xr.Dataset]:
    """The coarser levels of the file, as long as they continue the first variable."""
    if "level" not in _options(source) or getattr(source, "level", None):
        return []
    first = next(iter(ds.data_vars))
    found: list[xr.Dataset] = []
    for level in range(1, _MOST_LEVELS):
        try:
            one = imload(source, level=level, chunks=None, **options)
        except (IntakeImgError, LookupError, TypeError, ValueError):
            break
        last = (found or [ds])[-1]
        if first not in one or one[first].dims != ds[first].dims:
            break
        changed = {a for a in one.sizes if one.sizes[a] != last.sizes[a]}
        if not changed & set("yx") or not changed <= set("zyx") or any(one.sizes[a] > last.sizes[a] for a in changed):
            break
        found.append(one)
    return found


def _options(source: Any) -> Sequence[str]:
    return list(inspect.signature(type(source)).parameters)


def pyramid(images: list[Image], name: str, kept: BlockCache, budget: int) -> list[Image]:
    """Return an image and its levels: native ones, then halved ones until a plane is a single chunk.

    Variables that native levels lack (labels) are halved beside them.
    """
    first = images[0]
    stack = [{k: _prepared(v, f"{name}/{k}/0", kept) for k, v in first.variables.items()}]
    while len(stack) < _MOST_LEVELS and (len(stack) < len(images) or _largest(stack[-1]) > CHUNK):
        native = images[len(stack)].variables if len(stack) < len(images) else {}
        stack.append(
            {k: _next(v, native.get(k), f"{name}/{k}/{len(stack)}", kept, budget) for k, v in stack[-1].items()}
        )
    return [_level(first, images[k] if k < len(images) else None, variables, k) for k, variables in enumerate(stack)]


def _largest(variables: Mapping[str, Variable]) -> int:
    return max(
        (n for v in variables.values() for a, n in zip(v.axes, v.pixels.shape, strict=True) if a in "yx"), default=0
    )


def _prepared(variable: Variable, name: str, kept: BlockCache) -> Variable:
    chunk = chunk_lengths(variable.axes, variable.pixels)
    return replace(variable, pixels=shared_tiles(variable.pixels, chunk, name, kept))


def _next(finer: Variable, native: Variable | None, name: str, kept: BlockCache, budget: int) -> Variable:
    if native is not None and native.axes == finer.axes:
        return _prepared(native, name, kept)
    planar = [k for k, a in enumerate(finer.axes) if a in "yx"]
    chunk = chunk_lengths(finer.axes, finer.pixels)
    labels = finer.kind == "labels"
    pixels = halved(finer.pixels, planar, chunk, name, kept, labels=labels, budget=budget)
    return replace(finer, pixels=pixels)


def _level(first: Image, native: Image | None, variables: Mapping[str, Variable], level: int) -> Image:
    """Return the image of a level: the coordinates of halved axes are computed from spacing and origin."""
    if level == 0:
        return replace(first, variables=variables)
    sizes = {a: n for v in variables.values() for a, n in zip(v.axes, v.pixels.shape, strict=True)}
    coords = {k: c for k, c in first.coords.items() if all(sizes.get(a) == first.sizes.get(a) for a in c.axes)}
    factor = {a: ratio(first.sizes[a], n, native) for a, n in sizes.items() if n != first.sizes[a]}
    spacing = {a: s * factor.get(a, 1) for a, s in first.spacing.items()}
    origin = {a: o + first.spacing.get(a, 0.0) * (factor.get(a, 1) - 1) / 2 for a, o in first.origin.items()}
    return replace(first, variables=variables, coords=coords, spacing=spacing, origin=origin)


def ratio(full: int, n: int, native: Image | None) -> float:
    """How many samples of the full image a sample of a level covers; a power of two for computed levels."""
    ratio = full / n
    power = 2.0 ** round(np.log2(ratio))
    return power if native is None or abs(-(-full // power) - n) <= 1 or abs(full // power - n) <= 1 else ratio
