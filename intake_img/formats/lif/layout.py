"""Layout of an image in its memory block: strides from the XML, and reading regions by them.

Format: Leica Microsystems, "Leica Image File Formats" (``DimensionDescription`` and ``ChannelDescription`` with
``BytesInc``, the distance of neighbours in bytes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from xml.etree.ElementTree import Element

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.base import StoredArray
from intake_img.formats.lif.memory_blocks import FileBlock, PictureBlock
from intake_img.model.chunks import Region

__all__ = ["Dimension", "LifLayout", "StridedArray", "fitted", "layout_of"]

_LETTERS = {1: "x", 2: "y", 3: "z", 4: "t", 5: "l", 6: "r", 7: "n", 8: "q", 9: "e", 10: "m", 11: "i"}
_SMALL = 2**18  # bytes
_PADDING = 8  # bytes at the end of a row, or more, if they are fewer than those of the row
_OUTERMOST = 2**62  # stride of an axis of one element that has none


@dataclass(frozen=True)
class Dimension:
    """An axis as the XML describes it; `length` is the distance of the first and the last element."""

    axis: str
    size: int
    stride: int
    origin: float
    length: float
    unit: str


@dataclass(frozen=True)
class LifLayout:
    """Axes of an image in the order of the file, and where the first element of each channel lies."""

    dimensions: tuple[Dimension, ...]
    offsets: tuple[int, ...]
    dtypes: tuple[np.dtype, ...]
    colours: bool  # the channels are the samples R, G, B
    place: int  # how many dimensions come before the channels

    @property
    def axes(self) -> tuple[str, ...]:
        letters = [d.axis for d in self.dimensions]
        return (*letters[: self.place], "c", *letters[self.place :])

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = [d.size for d in self.dimensions]
        return (*sizes[: self.place], len(self.offsets), *sizes[self.place :])

    @property
    def span(self) -> int:
        """How many bytes there are from the first byte of an element to the last of all."""
        last = max(at + dtype.itemsize for at, dtype in zip(self.offsets, self.dtypes, strict=True))
        return last + sum((d.size - 1) * d.stride for d in self.dimensions)


def fitted(layout: LifLayout, size: int, what: str) -> LifLayout:
    """Return a layout shortened to what a block of `size` bytes contains, with a warning if that is less.

    Raises
    ------
    FormatError
        If it contains nothing, or elements overlap.
    """
    _check_steps(layout, size, what)
    outer = layout.dimensions[0]
    inner = layout.span - (outer.size - 1) * outer.stride
    elements = math.prod(layout.shape) * min(d.itemsize for d in layout.dtypes)
    if inner > size or elements > max(layout.span, size):
        raise FormatError(
            f"{what} has {size} bytes of pixels, but {max(layout.span, elements)} were expected: it was not recorded, "
            "or is damaged"
        )
    if layout.span <= size:
        return layout
    held = (size - inner) // outer.stride + 1
    warn(f"{what}: only {held} of {outer.size} along {outer.axis!r} were recorded")
    return replace(layout, dimensions=(replace(outer, size=held), *layout.dimensions[1:]))


def _check_steps(layout: LifLayout, size: int, what: str) -> None:
    """Refuse elements that overlap, and warn if the axes leave out much of a block of `size` bytes."""
    places = sorted(layout.offsets)
    steps = [(d.stride, d.stride * (d.size - 1)) for d in layout.dimensions if d.size > 1]
    if len(places) > 1:
        steps.append((min(np.diff(places).tolist()), places[-1] - places[0]))
    span, gap = max(d.itemsize for d in layout.dtypes), False
    for step, reach in sorted(steps):
        if step < span:
            raise FormatError(f"{what}: elements {step} bytes apart have {span}: its description is damaged")
        gap |= step >= max(2 * span, span + _PADDING)
        span += reach
    largest, reach = max(steps, default=(size, 0))
    if gap or size - max(layout.span, largest + reach) >= largest:
        warn(
            f"{what}: the axes {layout.axes} of {layout.shape} elements leave out much of its {size} bytes of pixels: "
            "its description may be damaged"
        )


def layout_of(image: Element) -> LifLayout:
    """Return the layout that the XML element ``Image`` describes."""
    dimensions = [_dimension(d) for d in image.findall("./ImageDescription/Dimensions/DimensionDescription")]
    channels = image.findall("./ImageDescription/Channels/ChannelDescription")
    if not dimensions or not channels:
        raise FormatError("an image without dimensions or channels: its description is damaged")
    dimensions.sort(key=lambda d: -d.stride)
    letters = [d.axis for d in dimensions]
    if len(set(letters)) != len(letters) or min(min(d.size, d.stride) for d in dimensions) < 1:
        raise FormatError(f"an image with the axes {letters} of {[d.size for d in dimensions]} elements: damaged")
    tags = [int(c.get("ChannelTag", 0)) for c in channels]
    colours = sorted(tags) == [1, 2, 3]
    if colours:
        channels = [channels[tags.index(k)] for k in (1, 2, 3)]
    offsets = tuple(int(c.get("BytesInc", 0)) for c in channels)
    if min(offsets) < 0:
        raise FormatError(f"channels at the bytes {offsets} of the image: its description is damaged")
    step = min((b - a for a, b in zip(sorted(offsets), sorted(offsets)[1:], strict=False)), default=0)
    place = sum(d.stride > step for d in dimensions) if len(offsets) > 1 else 0
    return LifLayout(tuple(dimensions), offsets, tuple(_dtype(c) for c in channels), colours, place)


def _dimension(element: Element) -> Dimension:
    number = int(element.get("DimID", 0))
    axis = _LETTERS.get(number)
    if axis is None:
        raise FormatError(f"an image has a dimension of the unknown kind {number}")
    origin, length = (float(element.get(k, "nan")) for k in ("Origin", "Length"))
    size, stride = int(element.get("NumberOfElements", 0)), int(element.get("BytesInc", 0))
    if size == 1 and stride < 1:
        stride = _OUTERMOST
    return Dimension(axis, size, stride, origin, length, element.get("Unit", ""))


def _dtype(channel: Element) -> np.dtype:
    kind, bits = channel.get("DataType"), int(channel.get("Resolution", 0))
    size = next((n for n in (1, 2, 4, 8) if bits <= 8 * n), 0)
    if kind not in ("0", "1") or bits < 1 or not size or (kind, size) == ("1", 1):
        raise FormatError(f"a channel of {bits} bits and the data type {kind} is not supported")
    return np.dtype(f"<{'uf'[int(kind)]}{size}")


class StridedArray(StoredArray):
    """An image in its memory block."""

    decodes = False

    def __init__(self, layout: LifLayout, block: FileBlock | PictureBlock) -> None:
        self.layout, self.block = layout, block
        self.shape, self.dtype = layout.shape, np.result_type(*layout.dtypes)
        strides = [d.stride for d in layout.dimensions]
        row = min(strides)
        strides.insert(
            layout.place, row if layout.place == len(strides) else row + 1
        )  # channels within a pixel, or not
        self.tiles = tuple(n if s == row else 1 for n, s in zip(self.shape, strides, strict=True))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        place, layout = self.layout.place, self.layout
        strides = [d.stride for d in layout.dimensions]
        others = (*region[:place], *region[place + 1 :])
        chosen = range(region[place].start, region[place].stop)
        steps = set(np.diff([layout.offsets[c] for c in chosen]).tolist())
        if len(steps) == 1 and len({layout.dtypes[c] for c in chosen}) == 1 and (step := steps.pop()) > 0:
            whole = [*strides[:place], step, *strides[place:]]
            full = (*others[:place], slice(0, len(chosen)), *others[place:])
            self._fill(layout.offsets[chosen[0]], layout.dtypes[chosen[0]], whole, full, out)
            return
        for n, c in enumerate(chosen):
            view = out[(slice(None),) * place + (n,)]
            self._fill(layout.offsets[c], layout.dtypes[c], strides, others, view)

    def _fill(self, offset: int, dtype: np.dtype, strides: list[int], region: Region, out: np.ndarray) -> None:
        first = offset + sum(s.start * step for s, step in zip(region, strides, strict=True))
        order = np.argsort(strides, kind="stable")[::-1].tolist()  # outermost first
        outer = self._outer(dtype, [strides[k] for k in order], [out.shape[k] for k in order])
        lead, inner = order[:outer], order[outer:]
        target = out.transpose(order)
        shape, steps = [out.shape[k] for k in inner], [strides[k] for k in inner]
        count = sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + dtype.itemsize
        if count == target.size * dtype.itemsize and target.flags.c_contiguous and dtype == out.dtype:
            self.block.read_into(first, target.reshape(-1).view(np.uint8).data)
            return
        if not lead:
            with self.block.window(first, count) as window:
                view = np.ndarray(shape, dtype, np.frombuffer(window, np.uint8), 0, steps)
                target[...] = view
                del view
            return
        places = list(product(*(range(out.shape[k]) for k in lead)))
        offsets = [first + sum(n * strides[k] for n, k in zip(p, lead, strict=True)) for p in places]
        for p, data in zip(places, self.block.ranges(offsets, [count] * len(offsets)), strict=True):
            target[p] = np.ndarray(shape, dtype, data, 0, steps)

    def _outer(self, dtype: np.dtype, strides: Sequence[int], sizes: Sequence[int]) -> int:
        """Return how many axes to step through, so that each read contains little that is not wanted."""
        for k in range(len(strides)):
            span = sum((n - 1) * step for n, step in zip(sizes[k:], strides[k:], strict=True)) + dtype.itemsize
            if self.block.local or span <= max(_SMALL, 4 * math.prod(sizes[k:]) * dtype.itemsize):
                return k
        return len(strides)
