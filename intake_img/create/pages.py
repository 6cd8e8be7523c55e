"""Pages of files with several images: counting, and splitting into images."""

from __future__ import annotations

import numpy as np
import xarray as xr

from intake_img.collections.sequence import SequenceSource
from intake_img.create.lists import lazy_dataset, series
from intake_img.model.axes import CANONICAL
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels, stack

__all__ = ["cut"]


def cut(source: SequenceSource, nplanes: int, axis: str, discard_extra: bool, first: bool) -> xr.Dataset:
    """Split the planes of each file into images of `nplanes` planes: its pages, or the positions along its last
    axis."""
    if isinstance(nplanes, bool) or not isinstance(nplanes, (int, np.integer)) or nplanes < 1:
        raise ValueError(f"nplanes={nplanes!r}: expected a positive number")
    images: list[Pixels] = []
    head: Image | None = None
    axes: tuple[str, ...] = ()
    for path in source.files:
        image = source.member(path).image()
        pages, plane = _pages(image) if first else _last_axis(image)
        if len(pages) % nplanes and not discard_extra:
            raise ValueError(
                f"nplanes={nplanes} does not divide the {len(pages)} planes in {path}: discard_extra=True leaves out "
                "the rest"
                if first
                else f"nplanes={nplanes} does not divide the last axis of {path}, which has {len(pages)}"
            )
        starts = range(0, len(pages) - nplanes + 1, nplanes)
        images += [pages[k] if nplanes == 1 else stack(pages[k : k + nplanes]) for k in starts]
        axes, head = axes if head else plane, head or image
    assert head is not None
    if not images:
        raise ValueError(f"nplanes={nplanes}: no file has that many planes")
    names = ("z", *axes) if first and nplanes > 1 else axes
    pixels = series(images, source.files)
    if not first and nplanes > 1:  # the planes were stacked first; move them back to the last axis
        pixels = pixels.transpose([0, *range(2, pixels.ndim), 1])
    elif not first:
        known = axes != tuple(CANONICAL[len(CANONICAL) - len(axes) :])  # otherwise these are only a guess
        names = axes[:-1] if known else tuple(CANONICAL[len(CANONICAL) - len(axes) + 1 :])
    names = tuple("z" if a == axis else a for a in names)
    kept = {a: s for a, s in head.steps().items() if a in names}
    channels = {k: c for k, c in head.coords.items() if k in ("y", "x", "c") and set(c.axes) <= set(names)}
    result = Image({"image": Variable(pixels, (axis, *names))}, spacing=kept, units=head.units, coords=channels)
    return lazy_dataset(result, "auto")


def _pages(image: Image) -> tuple[list[Pixels], tuple[str, ...]]:
    """Return the planes of an image one by one, and the axes of each: ``y``, ``x`` and colours, in the file's order."""
    v = image.only
    colours = tuple(image.channels or ()) in (("R", "G", "B"), ("R", "G", "B", "A"))
    inner = [k for k, a in enumerate(v.axes) if a in "yxs" or (a == "c" and colours)]
    lead = [k for k in range(v.pixels.ndim) if k not in inner]
    pixels = v.pixels.transpose([*lead, *inner])
    whole = [slice(None)] * len(inner)
    pages = [
        pixels.select([*place, *whole]).reshape(range(len(lead), pixels.ndim))
        for place in np.ndindex(pixels.shape[: len(lead)])
    ]
    return pages, tuple(v.axes[k] for k in inner)


def _last_axis(image: Image) -> tuple[list[Pixels], tuple[str, ...]]:
    v = image.only
    n = v.pixels.ndim - 1
    whole = [slice(None)] * n
    return [v.pixels.select([*whole, k]).reshape(range(n)) for k in range(v.pixels.shape[n])], v.axes
