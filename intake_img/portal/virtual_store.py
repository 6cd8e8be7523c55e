"""An image as the documents and chunks of a virtual OME-Zarr 0.5 store.

The layout is that of ``imsave(ds, "x.zarr")``, with levels, windows and consolidated metadata added; chunks are read
and encoded on request.

References
----------
.. [1] https://ngff.openmicroscopy.org/0.5/ and https://zarr-specs.readthedocs.io/en/latest/v3/core/
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from intake_img.accessor.colors import default_colors, is_rgb
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.write import OURS, StoreLayout, join
from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.portal.privacy import cleaned_image
from intake_img.portal.windows import sampled_windows

__all__ = ["CHUNK", "ImageStore", "ServedArray", "chunk_lengths", "group_document", "node"]

CHUNK = 512
_KINDS = {"i": "int", "u": "uint", "f": "float", "c": "complex"}
_TYPES = {"b1": "bool", **{f"{k}{n}": f"{name}{8 * n}" for k, name in _KINDS.items() for n in (1, 2, 4, 8, 16)}}


@dataclass(frozen=True, eq=False)
class ServedArray:
    """One array of a store: pixels and regular chunks."""

    pixels: Pixels
    axes: tuple[str, ...]
    chunk: tuple[int, ...]

    @cached_property
    def document(self) -> dict[str, Any]:
        """The array's ``zarr.json``."""
        dtype = self.pixels.dtype
        blosc = {"typesize": dtype.itemsize, "cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.pixels.shape),
            "data_type": _TYPES[f"{dtype.kind}{dtype.itemsize}"],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunk)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": {"b": False, "f": 0.0, "c": [0.0, 0.0]}.get(dtype.kind, 0),
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "blosc", "configuration": blosc},
            ],
            "attributes": {},
            "dimension_names": list(self.axes),
            "storage_transformers": [],
        }

    def region(self, index: Sequence[int]) -> Region | None:
        """Return the region of a chunk, clipped at the edges of the array; None if there is no such chunk."""
        counts = [-(-n // c) for n, c in zip(self.pixels.shape, self.chunk, strict=True)]
        if len(index) != len(counts) or any(not 0 <= i < n for i, n in zip(index, counts, strict=True)):
            return None
        return tuple(
            slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, self.chunk, self.pixels.shape, strict=True)
        )

    def read(self, region: Region) -> np.ndarray:
        """Return the samples of a region, little-endian."""
        out = np.empty(tuple(s.stop - s.start for s in region), self.pixels.dtype)
        self.pixels.read_into(region, out)
        return out.astype(out.dtype.newbyteorder("<"), copy=False)

    def encoded(self, region: Region) -> bytes:
        """Return the encoded chunk of a region: padded, byte-shuffled, compressed."""
        from numcodecs import blosc

        data = self.read(region)
        if data.shape != self.chunk:
            full = np.zeros(self.chunk, data.dtype)
            full[tuple(slice(0, n) for n in data.shape)] = data
            data = full
        return blosc.compress(
            np.ascontiguousarray(data).view(np.uint8).reshape(-1),
            b"zstd",
            1,
            blosc.SHUFFLE,
            typesize=data.dtype.itemsize,
        )


class ImageStore:
    """The group of one image: its levels, labels and further variables.

    Parameters
    ----------
    image : Image
    levels : sequence of Image
        The coarser levels, each with all variables.
    name : str
        Title of the image.
    """

    def __init__(self, image: Image, levels: Sequence[Image], name: str) -> None:
        image, levels = cleaned_image(image), tuple(map(cleaned_image, levels))
        layout = StoreLayout(image, name, "0.5", None, None, False, levels)
        self.image, self._layout, self._name = image, layout, name
        self.arrays: dict[str, ServedArray] = {}
        self.levels: dict[str, list[ServedArray]] = {}
        for key, plan in zip(layout.names, layout.plans, strict=True):
            served = [_served(p, plan.variable.axes) for p in (plan.variable.pixels, *plan.given)]
            self.levels[key] = served
            self.arrays |= dict(zip(plan.paths, served, strict=True))

    @cached_property
    def windows(self) -> dict[str, dict[str, list[float]]]:
        """For each intensity variable the sampled ``window_*`` of its channels; reads some tiles."""
        return {
            key: sampled_windows([(a.pixels, a.axes, a.chunk) for a in served], self._names(key))
            for key, served in self.levels.items()
            if self._shown(key)
        }

    def _shown(self, key: str) -> bool:
        return self.image.variables[key].kind != "labels"

    def _names(self, key: str) -> list[str]:
        served = self.levels[key][0]
        n = served.pixels.shape[served.axes.index("c")] if "c" in served.axes else 1
        c = self.image.coords.get("c")
        if c is not None and c.axes == ("c",) and "c" in served.axes and len(c.values) == n:
            return [str(v) for v in c.values]
        return [str(k) for k in range(n)] if n > 1 else [self._name]

    def channels(self, key: str | None = None) -> list[dict[str, Any]]:
        """Return the ``omero`` metadata of the channels of a variable, by default the first."""
        found = self._omero(key or next(iter(self.levels)))
        return found["channels"]

    def _omero(self, key: str) -> dict[str, Any]:
        names, dtype = self._names(key), self.levels[key][0].pixels.dtype
        c = self.image.coords.get("c")
        own = dict(c.attrs) if c is not None and len(c.values) == len(names) else {}
        own = {k: v for k, v in own.items() if k == "color" or k.startswith("window_")}
        attrs = {"color": default_colors(names), **self.windows.get(key, {}), **own}
        omero = ngff.omero_json(names, attrs, dtype, key, [None] * len(names))
        axes, shape = self.levels[key][0].axes, self.levels[key][0].pixels.shape
        middle = {f"default{a.upper()}": shape[axes.index(a)] // 2 if a == "z" else 0 for a in "tz" if a in axes}
        return {
            **omero,
            "rdefs": {**omero["rdefs"], **middle, "model": "color" if is_rgb(names) else omero["rdefs"]["model"]},
        }

    @cached_property
    def groups(self) -> dict[str, dict[str, Any]]:
        """Attributes of every group by its path; reads some pixels."""
        shown = {key: [None] * len(self._names(key)) for key in self.levels}
        found = self._layout.groups(shown)
        places = {
            path.rpartition("/")[0]: key
            for key, served in self.levels.items()
            for path, array in self.arrays.items()
            if array is served[0]
        }
        for folder, key in places.items():
            ome = found.get(folder, {}).get("ome", {})
            if "multiscales" in ome and "image-label" not in ome:
                ome["omero"] = self._omero(key)
        root = found[""]
        root[OURS] = {**root[OURS], "of": ngff.digest(root)}
        return found

    @cached_property
    def documents(self) -> dict[str, bytes]:
        """All ``zarr.json`` of the group by their paths; the first contains the others as consolidated metadata."""
        nodes = {path: group_document(attributes) for path, attributes in self.groups.items() if path}
        nodes |= {path: array.document for path, array in self.arrays.items()}
        root = group_document(self.groups[""], nodes)
        return {join(path, "zarr.json"): encoded_json(document) for path, document in {**nodes, "": root}.items()}


def _served(pixels: Pixels, axes: tuple[str, ...]) -> ServedArray:
    if pixels.dtype.kind in "mM":
        pixels = pixels.astype(np.dtype("i8"))
    return ServedArray(pixels, axes, chunk_lengths(axes, pixels))


def chunk_lengths(axes: Sequence[str], pixels: Pixels) -> tuple[int, ...]:
    """Return the shape of a chunk: one plane, y and x of about `CHUNK` pixels that fit the native tiles."""
    found = []
    for axis, n, tile in zip(axes, pixels.shape, pixels.tiles, strict=True):
        fits = tile * -(-CHUNK // tile) if 64 <= tile <= 2 * CHUNK else CHUNK
        found.append(max(1, min(fits, n)) if axis in "yx" else 1)
    return tuple(found)


def group_document(attributes: Mapping[str, Any], nodes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the ``zarr.json`` of a group, with the documents of the nodes below it."""
    document: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    if nodes is not None:
        document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": dict(nodes)}
    return document


def encoded_json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def node(key: str) -> tuple[str, tuple[int, ...] | None]:
    """Split a key of a store into the path of a node and the index of a chunk (None for a document).

    Examples
    --------
    >>> node("labels/cells/0/c/0/3/1"), node("0/zarr.json"), node("zarr.json")
    (('labels/cells/0', (0, 3, 1)), ('0', None), ('', None))
    """
    if key == "zarr.json" or key.endswith("/zarr.json"):
        return key.removesuffix("zarr.json").rstrip("/"), None
    head, mark, tail = key.rpartition("/c/")
    numbers = tail.split("/")
    if not mark or len(numbers) > 32 or not all(n.isascii() and n.isdigit() and len(n) < 12 for n in numbers):
        raise KeyError(key)
    if any(n != str(int(n)) for n in numbers):
        raise KeyError(key)
    return head, tuple(map(int, numbers))


def positions(image: Image) -> list[dict[str, int]]:
    """Return the indices along the axes that OME-Zarr does not support, at which an image is split into images of five
    axes.

    Axes of length 1 are kept: the record has them. One axis beside t, z, y and x is used as the channel axis, whatever
    its name.
    """
    sizes = image.sizes
    further = [a for a, n in sizes.items() if a not in "tczyx" and n > 1]
    for v in image.variables.values():
        lean = [a for a, n in zip(v.axes, v.pixels.shape, strict=True) if a in "tczyx" or n > 1]
        if ngff.stored_order(lean) is None and len([a for a in lean if a in "zyx"]) >= 2:
            break
    else:
        return [{}]
    counts = [range(sizes[a]) for a in further]
    return [dict(zip(further, at, strict=True)) for at in itertools.product(*counts)]


def at_position(image: Image, place: Mapping[str, int]) -> Image:
    """Return an image at one index along some axes, which are kept with length 1."""
    variables, coords = {}, {}
    for key, v in image.variables.items():
        keys = [slice(place[a], place[a] + 1) if a in place else slice(None) for a in v.axes]
        variables[key] = replace(v, pixels=v.pixels.select(keys))
    for key, c in image.coords.items():
        index = tuple(slice(place[a], place[a] + 1) if a in place else slice(None) for a in c.axes)
        coords[key] = replace(c, values=np.asarray(c.values)[index])
    return replace(image, variables=variables, coords=coords)


def nbytes(array: ServedArray) -> int:
    """Return how many bytes a chunk holds."""
    return math.prod(array.chunk) * array.pixels.dtype.itemsize
