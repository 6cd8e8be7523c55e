"""Encoding of an image as TIFF: dialect, dtype, axes, tiles and codec.

What each dialect can store is known here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, MissingExtraError
from intake_img.formats.palettes import colours_of
from intake_img.model.axes import RGB
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels

__all__ = [
    "MINISWHITE",
    "TiffEncoding",
    "checked_level",
    "checked_tile",
    "codec_of",
    "options_of",
    "plan_of",
    "stored_as",
]

MINISWHITE = "miniswhite"
"""Value of the attribute ``photometric`` for a variable in which 0 is white."""

_DTYPES = {"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"}
_IMAGEJ_DTYPES, _OME_DTYPES = {"u1", "u2", "f4"}, _DTYPES - {"u8", "i8", "f2"}
_CLASSIC = 2**32 - 2**20
_BIG_NAMES = (".btf", ".tf2", ".tf8")
_PREDICTED = {5, 8, 32946, 34925, 50000}  # LZW, deflate, LZMA, Zstandard
_IMAGEJ_CODECS = {1, 5, 8, 32773}  # none, LZW, deflate, PackBits
_CODEC_NAMES = {
    "zlib": "adobe_deflate",
    "zip": "adobe_deflate",
    "deflate": "adobe_deflate",
    "jpeg2000": "jpeg_2000_lossy",
}


@dataclass(frozen=True)
class TiffEncoding:
    """How an image is stored.

    Attributes
    ----------
    kind : str
        ``"ome"``, ``"imagej"`` or ``"shaped"`` (plain TIFF with the axes in tifffile's JSON).
    pixels : Pixels
        In the order of `axes`, of a dtype that the dialect holds.
    axes : tuple of str
        Names of the axes that are stored.
    order : tuple of str
        All axes of the image in this order: those of length 1 that are left out lead.
    rgb : bool
        The last axis are the colours of a pixel.
    inverted : bool
        0 is white.
    palette : ndarray of uint16, shape (3, 256), optional
        The colours that the values stand for.
    """

    kind: str
    pixels: Pixels
    axes: tuple[str, ...]
    order: tuple[str, ...]
    rgb: bool
    tile: tuple[int, int] | None
    codec: int
    bigtiff: bool
    inverted: bool = False
    palette: np.ndarray | None = None

    @property
    def page(self) -> int:
        """Number of trailing axes that make a page."""
        return min(self.pixels.ndim, 3 if self.rgb else 2)


def plan_of(
    image: Image,
    name: str,
    tile: tuple[int, int] | None,
    codec: int,
    rgb: bool | None,
    bigtiff: bool | None,
    pyramid: bool,
) -> TiffEncoding:
    variable = image.only
    pixels = variable.pixels
    dtype = pixels.dtype
    stored = "u1" if dtype.kind == "b" else f"{dtype.kind}{dtype.itemsize}"
    if stored not in _DTYPES:
        raise CannotWriteError(
            f"TIFF cannot store the dtype {dtype}: expected integers, floats or complex numbers "
            "of at most 128 bits; cast with .astype"
        )
    if 0 in pixels.shape:
        raise CannotWriteError(f"TIFF cannot store an image of shape {pixels.shape}: expected at least one pixel")
    ome = re.search(r"\.ome\.(tiff?|btf|tf2|tf8)$", name) is not None
    colour = _colour_axis(image, variable, stored, rgb, ome)
    sizes = dict(zip(variable.axes, pixels.shape, strict=True))
    nbytes = pixels.size * np.dtype(stored).itemsize * (1.34 if pyramid else 1)
    planes = math.prod(n for a, n in sizes.items() if a not in "yx")
    smallest = math.prod(tile) if tile else 2**16  # bytes of a tile or strip, at least
    big = nbytes * 1.02 + (nbytes / smallest + planes) * 16 + planes * 600 > _CLASSIC
    if ome:
        kind = "ome"
        _check_ome(sizes, stored, colour)
    else:
        fits = (
            stored in _IMAGEJ_DTYPES
            and {"y", "x"} <= set(sizes)
            and all(a in "tzcyx" or n == 1 or a == colour for a, n in sizes.items())
            and not (colour and stored != "u1")
            and not (sizes["x"] == 1 and pixels.size > sizes["y"])  # tifffile would take z for y
            and not (tile or pyramid or bigtiff or big or name.endswith(_BIG_NAMES))
            and codec in _IMAGEJ_CODECS
        )
        kind = "imagej" if fits else "shaped"
    if bigtiff is False and big:
        raise CannotWriteError(f"an image of {pixels.nbytes / 2**30:.1f} GiB needs BigTIFF: leave out bigtiff=False")
    large = bool(bigtiff) or name.endswith(_BIG_NAMES) or (big and bigtiff is None)
    axes = _axis_order(variable.axes, sizes, kind, colour)
    order = tuple(a for a in variable.axes if a not in axes) + axes
    inverted = variable.attrs.get("photometric") == MINISWHITE
    palette = _palette(variable) if stored == "u1" and sizes.get("c", 1) == 1 and not inverted else None
    plan = TiffEncoding(kind, pixels, axes, order, colour is not None, tile, codec, large, inverted, palette)
    return stored_as(image, replace(plan, pixels=pixels.astype(stored)))


def _palette(variable: Variable) -> np.ndarray | None:
    colours = colours_of(variable.attrs)
    if colours is None:
        return None
    table = np.zeros((3, 256), np.uint16)
    table[:, : len(colours)] = colours[:, :3].T
    return table * np.uint16(257)


def stored_as(image: Image, plan: TiffEncoding) -> TiffEncoding:
    """Return the plan with the pixels of an image in the order of its axes."""
    own = image.only.axes
    pixels = image.only.pixels.astype(plan.pixels.dtype).transpose([own.index(a) for a in plan.order])
    places: list[int | None] = [plan.order.index(a) for a in plan.axes]
    if len(places) > 1:
        return replace(plan, pixels=pixels if places == list(range(pixels.ndim)) else pixels.reshape(places))
    rows = [a for a in "qpon" if a not in plan.axes][: 2 - len(places)]  # a page has two axes
    return replace(plan, pixels=pixels.reshape([*(None for _ in rows), *places]), axes=(*rows, *plan.axes))


def checked_level(level: Image, image: Image) -> Image:
    if set(level.only.axes) != set(image.only.axes):
        raise CannotWriteError(
            f"the levels of a pyramid have axes {','.join(level.only.axes)} and "
            f"{','.join(image.only.axes)}: expected the same"
        )
    return level


def _colour_axis(image: Image, variable: Variable, stored: str, rgb: bool | None, ome: bool) -> str | None:
    sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    axis = "s" if "s" in sizes else "c"
    possible = sizes.get(axis) in (3, 4) and {"y", "x"} <= set(sizes)
    if rgb:
        if not possible:
            raise CannotWriteError(f"rgb=True needs the axes y and x and 3 or 4 channels on c; the image has {sizes}")
        return axis
    if rgb is None and possible and axis == "s" and ome:  # OME has no other place for samples
        return axis
    if rgb is None and possible and stored in ("u1", "u2"):
        names = image.channels or []
        if axis == "s" or (tuple(names) == RGB[: len(names)] and len(names) == sizes["c"]):
            return axis
    return None


def _axis_order(axes: Sequence[str], sizes: Mapping[str, int], kind: str, colour: str | None) -> tuple[str, ...]:
    page = tuple(a for a in "yx" if a in axes) if {"y", "x"} <= set(axes) else ()
    last = (colour,) if colour else ()
    if kind != "shaped":
        return tuple(a for a in "tzc" if a in axes and a != colour) + page + last
    lead = [a for a in axes if a not in page + last]
    order = [*lead, *page, *last]
    while not colour and len(order) > 2 and sizes[order[-1]] == 1:  # as tifffile does with axes of length 1 at the end
        order.pop()
    return tuple(order)


def _check_ome(sizes: Mapping[str, int], stored: str, colour: str | None) -> None:
    other = [a for a, n in sizes.items() if a not in "tzcyxs" and n > 1]
    advice = "save as .tif or .zarr, which keep it"
    if other:
        raise CannotWriteError(
            f"OME-TIFF has the axes t, z, c, y, x and no {other[0]!r}: {advice}, or select one of it"
        )
    if "s" in sizes and sizes["s"] not in (1, 3, 4):
        raise CannotWriteError(f"OME-TIFF stores 3 or 4 samples of colour, the axis s has {sizes['s']}: {advice}")
    if sizes.get("s", 1) > 1 and {"y", "x"} <= set(sizes) and not colour:
        raise CannotWriteError(f"rgb=False: OME-TIFF stores the axis s only as samples of colour: {advice}")
    if not {"y", "x"} <= set(sizes):
        raise CannotWriteError(f"OME-TIFF needs the axes y and x, not {','.join(sizes) or 'none'}: {advice}")
    if stored not in _OME_DTYPES:
        cast = ", or cast small numbers, such as labels, with .astype('int32')" if np.dtype(stored).kind in "iu" else ""
        raise CannotWriteError(f"OME-TIFF cannot store the dtype {np.dtype(stored)}: {advice}{cast}")


def checked_tile(tile: int | Sequence[int] | None) -> tuple[int, int] | None:
    if tile is None or tile is False:
        return None
    pair = (tile, tile) if isinstance(tile, (int, np.integer)) else tuple(tile)
    if len(pair) != 2 or any(isinstance(n, bool) or n < 16 or n % 16 for n in pair):
        raise ValueError(f"tile={tile!r}: expected height and width, multiples of 16, e.g. (256, 256)")
    return int(pair[0]), int(pair[1])


def codec_of(compress: Any) -> int:
    import tifffile

    if compress is None or compress is False:
        return 1
    if compress is True:
        return 8
    key = str(compress).lower()
    key = _CODEC_NAMES.get(key, key).upper()
    names = {c.name: int(c) for c in tifffile.COMPRESSION}
    if key not in names:
        raise CannotWriteError(
            f"compress={compress!r}: expected True, False, or a codec of TIFF: zlib, lzw, zstd, "
            "lzma, packbits, jpeg, webp, png, lerc, jpegxl, ..."
        )
    code = names[key]
    try:
        tifffile.TIFF.COMPRESSORS[code]
    except KeyError as exc:
        if "imagecodecs" in str(exc):
            raise MissingExtraError("imagecodecs", "codecs", f"compress={compress!r}") from exc
        raise CannotWriteError(f"compress={compress!r}: TIFF files are not written with it") from exc
    return code


def options_of(plan: TiffEncoding) -> dict[str, Any]:
    predictor = (
        plan.codec in _PREDICTED
        and plan.pixels.dtype.kind in "iu"
        and plan.pixels.dtype.itemsize <= 4
        and not (plan.kind == "imagej" and plan.codec == 8)  # ImageJ knows it for LZW alone
    )
    colour = "rgb" if plan.rgb else "palette" if plan.palette is not None else None
    return {
        "photometric": colour or (MINISWHITE if plan.inverted else "minisblack"),
        "colormap": plan.palette,
        "planarconfig": "contig" if plan.rgb else None,
        "tile": plan.tile,
        "compression": plan.codec if plan.codec != 1 else None,
        "predictor": 2 if predictor else None,
        "software": "intake_img",
    }
