"""Projects of ilastik, ``.ilp``: drawn labels, stored as blocks; image data are mostly in other files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import StoredArray
from intake_img.formats.h5.arrays import dtype_of
from intake_img.formats.h5.axes import AxisFacts
from intake_img.formats.h5.handle import H5Handle
from intake_img.formats.h5.tree import attribute, children, text_of
from intake_img.formats.hdf5.describe import tags_of
from intake_img.model.axes import default_axes
from intake_img.model.chunks import Region

__all__ = ["LabelSet", "Labels", "label_sets", "links_of"]

_LIMIT = 2**40  # pixels of a label image that blocks may span


@dataclass(frozen=True)
class LabelSet:
    """The labels of one lane (image) of a project.

    Parameters
    ----------
    shape : tuple of int
    facts : AxisFacts
    dtype : numpy.dtype
    blocks : tuple of (path, region)
    names : tuple of str
        Of the labels 1, 2, ...
    """

    shape: tuple[int, ...]
    facts: AxisFacts
    dtype: np.dtype
    blocks: tuple[tuple[str, Region], ...]
    names: tuple[str, ...]


class Labels(StoredArray):
    """Blocks of labels as one image; what nobody labelled is 0."""

    parallel = False

    def __init__(self, handle: H5Handle, labels: LabelSet) -> None:
        self.handle, self.blocks = handle, labels.blocks
        self.shape, self.dtype = labels.shape, labels.dtype
        self.tiles = (1,) * (len(self.shape) - 2) + self.shape[-2:]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = 0
        for path, block in self.blocks:
            shared = [(max(r.start, b.start), min(r.stop, b.stop)) for r, b in zip(region, block, strict=True)]
            if all(a < b for a, b in shared):
                inner = tuple(slice(a - b.start, c - b.start) for (a, c), b in zip(shared, block, strict=True))
                part = np.empty([s.stop - s.start for s in inner], self.dtype)
                self.handle.stored(path).read_into(inner, part)
                target = out[tuple(slice(a - r.start, b - r.start) for (a, b), r in zip(shared, region, strict=True))]
                np.copyto(target, part, where=part != 0)


def label_sets(f: Any) -> dict[str, LabelSet]:
    """Return the labels in a project by path, those without any left out."""
    found = {}
    for applet, group in _groups(f):
        sets = group.get("LabelSets")
        if not hasattr(sets, "keys"):
            continue
        names = tuple(text_of(v) for v in np.ravel(group["LabelNames"][()]).tolist()) if "LabelNames" in group else ()
        for name in children(sets, "labels"):
            path = f"{applet}/LabelSets/{name}"
            if (labels := _label_set(f, path, int(name[len("labels") :]), names)) is not None:
                found[path] = labels
    return found


def _groups(f: Any) -> Iterator[tuple[str, Any]]:
    return ((name, f[name]) for name in f if isinstance(name, str) and hasattr(f[name], "keys"))


def _label_set(f: Any, path: str, lane: int, names: tuple[str, ...]) -> LabelSet | None:
    blocks = _blocks(f[path], path)
    if not blocks:
        return None
    dtypes = {dtype_of(block) for block, _, _ in blocks}
    dtype = dtypes.pop()
    if dtype is None or dtypes or len({len(region) for _, region, _ in blocks}) > 1:
        raise FormatError(f"{path}: its blocks are not of one kind")
    stops = [max(region[k].stop for _, region, _ in blocks) for k in range(len(blocks[0][1]))]
    facts, sizes = _axes_of(f, lane, text_of(attribute(blocks[0][0], "axistags")), stops)
    shape = tuple(max(n, sizes.get(a, 1)) for a, n in zip(facts.axes, stops, strict=True))
    if math.prod(shape) > _LIMIT:
        raise FormatError(f"{path}: blocks of labels that span {shape} pixels; the project is damaged")
    return LabelSet(shape, facts, dtype, tuple((f"{path}/{name}", region) for _, region, name in blocks), names)


def _blocks(group: Any, path: str) -> list[tuple[Any, Region, str]]:
    """Each block with the region that it covers, and its name."""
    found = []
    for name in children(group, "block") if hasattr(group, "keys") else []:
        block = group[name]
        region = _region(text_of(attribute(block, "blockSlice")))
        if not region or tuple(s.stop - s.start for s in region) != getattr(block, "shape", None):
            raise FormatError(f"{path}/{name}: its blockSlice is not that of its array")
        found.append((block, region, name))
    return found


def _region(text: str) -> Region:
    """A text such as ``[0:1,15:25]``; empty if it is none."""
    if not re.fullmatch(r"\[\d{1,12}:\d{1,12}(,\s*\d{1,12}:\d{1,12})*\]", text):
        return ()
    pairs = [part.split(":") for part in text.strip("[]").split(",")]
    return tuple(slice(int(a), int(b)) for a, b in pairs)


def _axes_of(f: Any, lane: int, tags: str, stops: Sequence[int]) -> tuple[AxisFacts, dict[str, int]]:
    """Return the axes of labels, and the size of the image that they label, by axis.

    New projects give each block its axes. In older ones these are the axes of the image, or those that ilastik worked
    with: whichever the blocks fit.
    """
    sizes, image = _lane(f, lane)
    if (own := tags_of(tags, ndim=len(stops))) is not None:
        return own, sizes
    axes = image.axes if image is not None else ()
    known = image.facts if image is not None else {}
    for names in (axes, (*axes, "c"), tuple("tzyxc"), tuple("txyzc")):
        named = len(names) == len(stops) == len(set(names))
        if named and all(n <= sizes.get(a, 1) for a, n in zip(names, stops, strict=True)):
            return AxisFacts(names, **known), sizes
    return AxisFacts(default_axes(len(stops))), {}


def _lane(f: Any, number: int) -> tuple[dict[str, int], AxisFacts | None]:
    """Sizes of the image data of a lane by axis, and the metadata of their axes; labels are common to all channels."""
    info = _raw(f, number)
    if info is None or "axistags" not in info or "shape" not in info:
        return {}, None
    shape = [int(n) for n in np.ravel(info["shape"][()]).tolist()]
    facts = tags_of(text_of(info["axistags"][()]), ndim=len(shape))
    sizes = dict(zip(facts.axes, shape, strict=True)) if facts is not None else {}
    return {a: 1 if a == "c" else n for a, n in sizes.items()}, facts


def _raw(f: Any, number: int) -> Any:
    lane = f.get(f"Input Data/infos/lane{number:04d}")
    roles = [lane[name] for name in ("Raw Data", "Input Data") if name in lane] if hasattr(lane, "keys") else []
    return next((role for role in roles if hasattr(role, "keys")), None)


def links_of(f: Any) -> dict[str, str]:
    """Return where the raw data of each lane are, as the project says."""
    lanes = f.get("Input Data/infos")
    names = children(lanes, "lane") if hasattr(lanes, "keys") else []
    infos = {name: _raw(f, int(name[len("lane") :])) for name in names}
    return {name: text_of(info["filePath"][()]) for name, info in infos.items() if info and "filePath" in info}
