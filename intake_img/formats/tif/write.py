"""TIFF files from images: which dialect can hold one, what it is told of the axes, and pixels streamed plane by plane.

tifffile does the writing. Whatever a dialect cannot say goes into the record, a private tag of the first page.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np

from intake_img.errors import CannotWriteError, IntakeImgError, MissingExtraError
from intake_img.formats.tif.file import RECORD_TAG
from intake_img.formats.tif.ome import channel_metadata, unit_name
from intake_img.model.axes import RGB, spell
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical, convert, known_spacing, parse_unit
from intake_img.storage.streams import iter_planes

__all__ = ["MINISWHITE", "write_tiff"]

MINISWHITE = "miniswhite"
"""The attribute ``photometric`` of a variable in which 0 is white."""

_DTYPES = {"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"}
_IMAGEJ_DTYPES, _OME_DTYPES = {"u1", "u2", "f4"}, _DTYPES - {"u8", "i8", "f2"}
_CLASSIC = 2**32 - 2**20
_BIG_NAMES = (".btf", ".tf2", ".tf8")
_READ_ONLY = (".lsm", ".stk", ".svs", ".ndpi", ".companion.ome")
_PREDICTED = {5, 8, 32946, 34925, 50000}  # LZW, deflate, LZMA, Zstandard
_IMAGEJ_CODECS = {1, 5, 8, 32773}  # none, LZW, deflate, PackBits
_CODEC_NAMES = {
    "zlib": "adobe_deflate",
    "zip": "adobe_deflate",
    "deflate": "adobe_deflate",
    "jpeg2000": "jpeg_2000_lossy",
}


@dataclass(frozen=True)
class _Plan:
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

    @property
    def page(self) -> int:
        """Number of trailing axes that make a page."""
        return min(self.pixels.ndim, 3 if self.rgb else 2)


def write_tiff(image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None,
               name: str = ".tif", tile: int | Sequence[int] | None = None, pyramid: int = 0,
               levels: Sequence[Image] = (), rgb: bool | None = None, bigtiff: bool | None = None,
               byteorder: str | None = None) -> None:  # fmt: skip
    """Write an image; for the parameters see `intake_img.formats.tif.driver.TifSource.write`.

    Raises
    ------
    CannotWriteError
        If TIFF, or OME-TIFF where the name asks for it, cannot hold the image.
    MissingExtraError
        If the codec asked for is not installed.
    """
    import tifffile

    if name.lower().endswith(_READ_ONLY):
        raise CannotWriteError(f"{name}: files of this kind are only read; save as .ome.tif or .tif")
    order: Any = byteorder
    if order not in (None, "<", ">"):
        raise ValueError(f"byteorder={byteorder!r}: expected '<' (little) or '>' (big)")
    if pyramid < 0 or (pyramid and levels):
        raise ValueError(
            f"pyramid={pyramid!r}: expected the number of further levels" + " or levels, not both" * bool(levels)
        )
    plan = _plan(image, name.lower(), _tile(tile), _codec(compress), rgb, bigtiff, bool(pyramid or levels))
    smaller = [_stored(_like(level, image), plan).pixels for level in levels]
    source = _Source(progress, os.path.dirname(os.path.abspath(path)))
    options = {**_options(plan), "dtype": plan.pixels.dtype}
    try:
        with (
            tifffile.TiffWriter(path, bigtiff=plan.bigtiff, byteorder=order, imagej=plan.kind == "imagej",
                                ome=plan.kind == "ome", shaped=plan.kind == "shaped") as writer,
            contextlib.ExitStack() as files,
        ):  # fmt: skip
            count = len(smaller) or _depth(plan, pyramid)
            halves = [files.enter_context(_spool(path)) for _ in range(0 if smaller else count)]
            labels = image.only.attrs.get("kind") == "labels" or image.only.pixels.dtype.kind == "b"
            record = json.dumps(image.record(plan.order))
            extratags = [(RECORD_TAG, "s", 0, record, True)]
            planes = source.planes(plan.pixels, plan.page, halves[0] if halves else None, labels)
            said = _metadata(image, plan, name + record)
            writer.write(_pieces(planes, plan), shape=plan.pixels.shape, subifds=count or None, extratags=extratags,
                         metadata=said, **_resolution(image, plan), **options)  # fmt: skip
            shape = plan.pixels.shape
            for n in range(count):
                if smaller:
                    shape, planes = smaller[n].shape, source.planes(smaller[n], plan.page, None, labels)
                else:
                    full, shape = shape, _half_shape(shape, plan)
                    planes = _spooled(halves[n], full, shape, plan, halves[n + 1] if n + 1 < count else None, labels)
                writer.write(_pieces(planes, plan), shape=shape, subfiletype=1,
                             metadata={"axes": _letters(plan)}, **options)  # fmt: skip
    except (ValueError, TypeError, RuntimeError, NotImplementedError, KeyError, ImportError) as exc:
        if source.failed or isinstance(exc, IntakeImgError):
            raise
        if isinstance(exc, ImportError):
            raise MissingExtraError("imagecodecs", "codecs", f"compress={compress!r}") from exc
        raise CannotWriteError(
            f"an image of axes {spell(plan.axes)}, shape {plan.pixels.shape} and dtype {plan.pixels.dtype} cannot "
            f"be written as {plan.kind} TIFF with compress={compress!r}: {exc}"
        ) from exc


# the plan


def _plan(image: Image, name: str, tile: tuple[int, int] | None, codec: int, rgb: bool | None, bigtiff: bool | None,
          pyramid: bool) -> _Plan:  # fmt: skip
    variable = image.only
    pixels = variable.pixels
    dtype = pixels.dtype
    stored = "u1" if dtype.kind == "b" else f"{dtype.kind}{dtype.itemsize}"
    if stored not in _DTYPES:
        raise CannotWriteError(f"TIFF cannot hold the dtype {dtype}: expected integers, floats or complex numbers "
                               "of at most 128 bits; cast with .astype")  # fmt: skip
    if 0 in pixels.shape:
        raise CannotWriteError(f"TIFF cannot hold an image of shape {pixels.shape}: expected one that holds pixels")
    colour = _colour_axis(image, variable, stored, rgb)
    sizes = dict(zip(variable.axes, pixels.shape, strict=True))
    nbytes = pixels.size * np.dtype(stored).itemsize * (1.34 if pyramid else 1)
    planes = math.prod(n for a, n in sizes.items() if a not in "yx")
    smallest = math.prod(tile) if tile else 2**16  # bytes of a tile or strip, at least
    big = nbytes * 1.02 + (nbytes / smallest + planes) * 16 + planes * 600 > _CLASSIC
    if re.search(r"\.ome\.(tiff?|btf|tf2|tf8)$", name):
        kind = "ome"
        _check_ome(sizes, stored)
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
    plan = _Plan(kind, pixels, axes, order, colour is not None, tile, codec, large, inverted)
    return _stored(image, replace(plan, pixels=pixels.astype(stored)))


def _stored(image: Image, plan: _Plan) -> _Plan:
    """Return the plan with the pixels of an image in the order of its axes."""
    own = image.only.axes
    pixels = image.only.pixels.astype(plan.pixels.dtype).transpose([own.index(a) for a in plan.order])
    places: list[int | None] = [plan.order.index(a) for a in plan.axes]
    if len(places) > 1:
        return replace(plan, pixels=pixels if places == list(range(pixels.ndim)) else pixels.reshape(places))
    rows = [a for a in "qpon" if a not in plan.axes][: 2 - len(places)]  # a page has two axes
    return replace(plan, pixels=pixels.reshape([*(None for _ in rows), *places]), axes=(*rows, *plan.axes))


def _like(level: Image, image: Image) -> Image:
    if set(level.only.axes) != set(image.only.axes):
        raise CannotWriteError(f"the levels of a pyramid have axes {','.join(level.only.axes)} and "
                               f"{','.join(image.only.axes)}: expected the same")  # fmt: skip
    return level


def _colour_axis(image: Image, variable: Variable, stored: str, rgb: bool | None) -> str | None:
    sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    axis = "s" if "s" in sizes else "c"
    possible = sizes.get(axis) in (3, 4) and {"y", "x"} <= set(sizes)
    if rgb:
        if not possible:
            raise CannotWriteError(f"rgb=True needs the axes y and x and 3 or 4 channels on c; the image has {sizes}")
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


def _check_ome(sizes: Mapping[str, int], stored: str) -> None:
    other = [a for a, n in sizes.items() if a not in "tzcyxs" and n > 1]
    advice = "save as .tif or .zarr, which keep it"
    if other:
        raise CannotWriteError(
            f"OME-TIFF has the axes t, z, c, y, x and no {other[0]!r}: {advice}, or select one of it"
        )
    if "s" in sizes and sizes["s"] not in (1, 3, 4):
        raise CannotWriteError(f"OME-TIFF holds 3 or 4 samples of colour, the axis s has {sizes['s']}: {advice}")
    if not {"y", "x"} <= set(sizes):
        raise CannotWriteError(f"OME-TIFF needs the axes y and x, the image has {','.join(sizes)}: {advice}")
    if stored not in _OME_DTYPES:
        raise CannotWriteError(f"OME-TIFF cannot hold the dtype {np.dtype(stored)}: {advice}")


def _tile(tile: int | Sequence[int] | None) -> tuple[int, int] | None:
    if tile is None or tile is False:
        return None
    pair = (tile, tile) if isinstance(tile, (int, np.integer)) else tuple(tile)
    if len(pair) != 2 or any(isinstance(n, bool) or n < 16 or n % 16 for n in pair):
        raise ValueError(f"tile={tile!r}: expected height and width, multiples of 16, e.g. (256, 256)")
    return int(pair[0]), int(pair[1])


def _codec(compress: Any) -> int:
    import tifffile

    if compress is None or compress is False:
        return 1
    if compress is True:
        return 8
    key = str(compress).lower()
    key = _CODEC_NAMES.get(key, key).upper()
    names = {c.name: int(c) for c in tifffile.COMPRESSION}
    if key not in names:
        raise CannotWriteError(f"compress={compress!r}: expected True, False, or a codec of TIFF: zlib, lzw, zstd, "
                               "lzma, packbits, jpeg, webp, png, lerc, jpegxl, ...")  # fmt: skip
    code = names[key]
    try:
        tifffile.TIFF.COMPRESSORS[code]
    except KeyError as exc:
        if "imagecodecs" in str(exc):
            raise MissingExtraError("imagecodecs", "codecs", f"compress={compress!r}") from exc
        raise CannotWriteError(f"compress={compress!r}: TIFF files are not written with it") from exc
    return code


def _options(plan: _Plan) -> dict[str, Any]:
    predictor = (
        plan.codec in _PREDICTED
        and plan.pixels.dtype.kind in "iu"
        and plan.pixels.dtype.itemsize <= 4
        and not (plan.kind == "imagej" and plan.codec == 8)  # ImageJ knows it for LZW alone
    )
    return {
        "photometric": "rgb" if plan.rgb else MINISWHITE if plan.inverted else "minisblack",
        "planarconfig": "contig" if plan.rgb else None,
        "tile": plan.tile,
        "compression": plan.codec if plan.codec != 1 else None,
        "predictor": 2 if predictor else None,
        "software": "intake_img",
    }


# what is said of the axes


def _letters(plan: _Plan) -> str:
    letters: list[str] = []
    for axis in plan.axes:
        letter = axis.upper() if len(axis) == 1 and axis.isascii() and axis.isalpha() else ""
        if not letter or letter in letters:
            letter = next(a for a in "QPONMLKJHGFEDBAUVWRI" if a not in letters and a.lower() not in plan.axes)
        letters.append(letter)
    if plan.rgb:
        letters[-1] = "S"
    return "".join(letters)


def _metadata(image: Image, plan: _Plan, identity: str) -> dict[str, Any]:
    if plan.kind == "ome":  # the same image under the same name gives the same bytes: a write that is resumed as well
        return {**_ome_metadata(image, plan), "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, identity))}
    found: dict[str, Any] = {"axes": _letters(plan), **_calibration(image)}
    if plan.kind == "imagej":
        sizes = dict(zip(plan.axes, plan.pixels.shape, strict=True))
        channels = 1 if plan.rgb else sizes.get("c", 1)
        if 1 < channels <= 7:
            found["mode"] = "composite"
        names = image.channels
        if names and not plan.rgb and len(names) == channels > 1:
            found["Labels"] = [str(n) for n in names] * (sizes.get("t", 1) * sizes.get("z", 1))
    return found


def _calibration(image: Image) -> dict[str, Any]:
    """ImageJ's words for spacing, units and origin."""
    found: dict[str, Any] = {}
    unit = canonical(image.units.get("x")) or canonical(image.units.get("y")) or canonical(image.units.get("z"))
    if unit:
        found["unit"] = _ascii(unit)
        for axis in "yz":
            own = canonical(image.units.get(axis))
            if own and own != unit and axis in image.spacing:
                found[f"{axis}unit"] = _ascii(own)
    if z := known_spacing(image.spacing.get("z")):
        found["spacing"] = z
    if t := known_spacing(image.spacing.get("t")):
        found["finterval"] = t
        if (own := canonical(image.units.get("t"))) and own != "s":
            found["tunit"] = _ascii(own)
    for axis in "xyz":
        step, start = known_spacing(image.spacing.get(axis)), image.origin.get(axis)
        if step and start:
            found[f"{axis}origin"] = -start / step
    return found


def _ascii(text: str) -> str:
    return "".join(c if ord(c) < 128 else f"\\u{ord(c):04X}" for c in text)


def _resolution(image: Image, plan: _Plan) -> dict[str, Any]:
    sizes = [known_spacing(image.spacing.get(a)) for a in "xy"]
    if None in sizes:
        return {}
    per = [1 / s for s in sizes if s is not None]
    if plan.kind == "imagej":
        unit = canonical(image.units.get("x"))
        return _rational(per, {"in": 2, "cm": 3}.get(unit or "", 1))
    lengths = [parse_unit(image.units.get(a)) for a in "xy"]
    if any(u is None or u.dimension != "length" for u in lengths):
        return _rational(per, 1)
    return _rational([n / convert(1, u.symbol, "cm") for n, u in zip(per, lengths, strict=True) if u is not None], 3)


def _rational(per: Sequence[float], unit: int) -> dict[str, Any]:
    """Resolution tags; nothing if their 32-bit fractions cannot hold the numbers."""
    if not all(2**-30 < n < 2**31 for n in per):
        return {}
    return {"resolution": tuple(per), "resolutionunit": unit}


def _xml_text(text: str) -> str:
    """Return a text without the characters that XML cannot hold; the record has the text as it is."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)


def _ome_metadata(image: Image, plan: _Plan) -> dict[str, Any]:
    sizes = dict(zip(plan.axes, plan.pixels.shape, strict=True))
    found: dict[str, Any] = {"axes": _letters(plan), "Creator": "intake_img"}
    if image.scene and not image.scene.isdigit():
        found["Name"] = _xml_text(image.scene)
    for axis in "xyz":
        step, unit = known_spacing(image.spacing.get(axis)), unit_name(image.units.get(axis), "")
        if step and unit and (known := parse_unit(unit)) and known.dimension == "length":
            found[f"PhysicalSize{axis.upper()}"], found[f"PhysicalSize{axis.upper()}Unit"] = step, unit
    found.update(_ome_times(image, sizes, plan.rgb))
    if not (plan.rgb and plan.axes[-1] == "c"):
        coord = image.coords.get("c")
        names = [_xml_text(n) for n in image.channels] if image.channels else None
        if channels := channel_metadata(names, coord.attrs if coord else {}, sizes.get("c", 1)):
            found["Channel"] = channels
    return found


def _ome_times(image: Image, sizes: Mapping[str, int], rgb: bool) -> dict[str, Any]:
    """Time increment where it is even, and DeltaT of each plane where it is not or does not start at 0."""
    unit = unit_name(image.units.get("t"), "")
    known = parse_unit(unit) if unit else None
    if "t" not in sizes or known is None or known.dimension != "time":
        return {}
    found: dict[str, Any] = {}
    step = known_spacing(image.spacing.get("t"))
    if step:
        found["TimeIncrement"], found["TimeIncrementUnit"] = step, unit
    coord = image.coords.get("t")
    values = coord.values if coord is not None else None
    if values is None or values.dtype.kind not in "iuf" or values.ndim != 1 or not np.isfinite(values).all():
        return found
    if step is None or values[0] != 0:
        planes = sizes.get("z", 1) * (1 if rgb else sizes.get("c", 1))
        times = [float(v) for v in np.repeat(values.astype(float), planes)]
        found["Plane"] = {"DeltaT": times, "DeltaTUnit": [unit] * len(times)}
    return found


# pixels


class _Source:
    """Iterates over planes, and remembers whether an error came from there rather than from the writer."""

    def __init__(self, progress: Callable[[int], None] | None, folder: str) -> None:
        self.progress, self.folder, self.failed = progress, folder, False

    def planes(self, pixels: Pixels, ndim: int, spool: IO[bytes] | None, labels: bool) -> Iterator[np.ndarray]:
        planes = iter_planes(pixels, ndim, folder=self.folder)
        while True:
            try:
                plane = next(planes, None)
            except BaseException:
                self.failed = True
                raise
            if plane is None:
                return
            if spool is not None:
                _halved(plane, labels).tofile(spool)
            if self.progress is not None:
                self.progress(plane.nbytes)
            yield plane


def _pieces(planes: Iterator[np.ndarray], plan: _Plan) -> Iterator[np.ndarray]:
    """Cut planes into tiles, where tiles are written."""
    if plan.tile is None:
        yield from planes
        return
    height, width = plan.tile
    for plane in planes:
        plane = plane[..., np.newaxis] if plane.ndim == 2 else plane  # tifffile tells the columns by the axis after
        for y in range(0, plane.shape[0], height):
            for x in range(0, plane.shape[1], width):
                yield plane[y : y + height, x : x + width]


def _depth(plan: _Plan, pyramid: int) -> int:
    """Number of levels that can be made: down to a single pixel."""
    if plan.axes[plan.pixels.ndim - plan.page :][:2] != ("y", "x"):
        if pyramid:
            raise CannotWriteError(f"a pyramid needs the axes y and x, the image has {','.join(plan.axes)}")
        return 0
    y, x = plan.pixels.shape[plan.axes.index("y")], plan.pixels.shape[plan.axes.index("x")]
    return min(pyramid, math.ceil(math.log2(max(y, x))) if max(y, x) > 1 else 0)


def _half_shape(shape: Sequence[int], plan: _Plan) -> tuple[int, ...]:
    at = len(shape) - plan.page
    return (*shape[:at], -(-shape[at] // 2), -(-shape[at + 1] // 2), *shape[at + 2 :])


def _halved(plane: np.ndarray, nearest: bool) -> np.ndarray:
    """Return a plane half as large: means of 2x2 pixels (rounded for integers), or every other pixel."""
    if nearest:
        return np.ascontiguousarray(plane[::2, ::2])
    dtype = plane.dtype
    for axis in (0, 1):
        if plane.shape[axis] % 2:
            plane = np.concatenate([plane, np.take(plane, [-1], axis)], axis)
    kind = {"u": "u8", "i": "i8"}.get(dtype.kind, "c16" if dtype.kind == "c" else "f8")
    if dtype.kind in "ui" and dtype.itemsize == 8:
        kind = "f8"
    elif dtype.kind in "ui" and dtype.itemsize <= 2:
        kind = "i4"
    total = plane[::2, ::2].astype(kind)
    for part in (plane[1::2, ::2], plane[::2, 1::2], plane[1::2, 1::2]):
        total += part
    if dtype.kind in "ui" and total.dtype.kind in "ui":
        return ((total + 2) // 4).astype(dtype)
    total /= 4
    return (np.rint(total) if dtype.kind in "ui" else total).astype(dtype)


@contextlib.contextmanager
def _spool(path: str) -> Iterator[IO[bytes]]:
    """A nameless file beside the target, for the planes of the next level."""
    with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))) as file:
        yield file


def _spooled(file: IO[bytes], full: Sequence[int], shape: Sequence[int], plan: _Plan, spool: IO[bytes] | None,
             labels: bool) -> Iterator[np.ndarray]:  # fmt: skip
    page = tuple(shape[len(shape) - plan.page :])
    size = math.prod(page)
    file.seek(0)
    for _ in range(math.prod(full[: len(full) - plan.page])):
        plane = np.fromfile(file, plan.pixels.dtype, size).reshape(page)
        if spool is not None:
            _halved(plane, labels).tofile(spool)
        yield plane
