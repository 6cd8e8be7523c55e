"""What formats of one array behind a header share: packed bytes, checked sizes, positions in space, records.

Public for NIfTI, NRRD, MetaImage, MRC and FITS, which do not import each other.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from intake_img.errors import FormatError, UnitsError, warn
from intake_img.formats.base import Handle, RawArray, StoredArray
from intake_img.model.affine import Affine, Space
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical, convert, known_spacing
from intake_img.storage.files import ByteReader
from intake_img.storage.inflated import Inflated

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "ArrayHandle",
    "exact_standin",
    "packing",
    "placed_by",
    "sample_volume",
    "sealed",
    "spacing_in",
    "stored_array",
    "unpacked",
    "unsealed",
    "warn_of_rest",
]

_RATIO = {"gzip": 1100, "zlib": 1100, "bzip2": 2**21}  # what a byte inflates to, at most


def exact_standin(dtype: np.dtype) -> np.dtype:
    """Return the dtype in which a file contains all values exactly: uint8 for bool, float32 for float16."""
    return np.dtype({"bool": "u1", "float16": "f4"}.get(dtype.name, dtype))


class _Packed(RawArray):
    """An array in a compressed stream."""

    decodes = True


class ArrayHandle(Handle):
    """An open file that contains one array.

    Parameters
    ----------
    stored : StoredArray
    describe : callable
        Returns the image that has the pixels of the array, which it is given.
    source : ByteReader
        What is to be closed.
    """

    def __init__(self, stored: StoredArray, describe: Callable[[Pixels], Image], source: ByteReader) -> None:
        self.stored, self._describe, self.source = stored, describe, source

    def describe(self, scene: int | str, level: int) -> Image:
        return self._describe(self.pixels())

    def array(self, address: None) -> StoredArray:
        return self.stored

    def close(self) -> None:
        self.source.close()


# reading


def unpacked(source: ByteReader) -> ByteReader:
    """Return what a gzip or bzip2 file contains, inflated as far as it is asked for; any other file as it is."""
    head = source.ranges([0], [min(3, source.size)])[0]
    if head.startswith(b"\x1f\x8b"):
        return Inflated(source, "gzip")
    return Inflated(source, "bzip2") if head == b"BZh" else source


def stored_array(
    source: ByteReader,
    offset: int,
    dtype: np.dtype,
    shape: Sequence[int],
    packed: int | None = None,
    *,
    alone: bool = False,
) -> RawArray:
    """Return an array in a file, after a look at whether the file is long enough for it.

    Parameters
    ----------
    source : ByteReader
    offset : int
    dtype : numpy.dtype
    shape : sequence of int
    packed : int, optional
        Compressed bytes of the array, if they are not the complete compressed file.
    alone : bool
        The array is all that the file has from `offset` on. Of a file that was cut off, the planes that are there are
        opened, and bytes that are left over may mean that the header is damaged: both with a warning.

    Raises
    ------
    FormatError
        If it is not, or an axis has no pixel.
    """
    if not shape or min(shape) < 1:
        raise FormatError(f"{source.file}: the header states the shape {tuple(shape)}: expected positive numbers")
    need = offset + math.prod(shape) * dtype.itemsize
    if isinstance(source, Inflated):
        most = _RATIO[source.kind] * (source.source.size if packed is None else packed) + 2**16
        if need > most:
            raise FormatError(
                f"{source.file}: the header states {need} bytes, and its compressed data contain {most} at most: it is "
                "truncated or damaged"
            )
        return _Packed(source, offset, dtype, shape)
    if alone and offset >= 0:
        shape = _fitted(source, offset, dtype, shape)
        need = offset + math.prod(shape) * dtype.itemsize
    if offset < 0 or need > source.size:
        raise FormatError(
            f"{source.file}: the header states an array of shape {tuple(shape)} and dtype {dtype}, {need} bytes, but "
            f"the file has {source.size}: it is truncated or damaged"
        )
    return RawArray(source, offset, dtype, shape)


def _fitted(source: ByteReader, offset: int, dtype: np.dtype, shape: Sequence[int]) -> Sequence[int]:
    """Return the shape, shortened along the first of three axes or more to what the file holds."""
    step = math.prod(shape[1:]) * dtype.itemsize
    rest = max(0, source.size - offset)
    if rest != shape[0] * step:
        _check_raw(source, offset)
    if rest > shape[0] * step:
        warn_of_rest(source, offset + shape[0] * step)
    held = rest // step
    if held >= shape[0] or held < 1 or len(shape) < 3:
        return shape
    warn(
        f"{source.file} contains only {held} of {shape[0]} along the first axis of an array of shape {tuple(shape)}: "
        "it was cut off, or its header is damaged"
    )
    return (held, *shape[1:])


def _check_raw(source: ByteReader, offset: int) -> None:
    """Refuse pixels of another size than the header states that begin as a compressed file does."""
    head = source.ranges([offset], [min(4, max(0, source.size - offset))])[0]
    if kind := next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), None):
        raise FormatError(
            f"{source.file}: its pixels seem to be compressed ({kind}), which its header does not say: decompress them"
        )


def warn_of_rest(source: ByteReader, stop: int, end: int | None = None) -> None:
    """Warn if the described pixels end at byte `stop`, before `end`, which is by default the end of the file."""
    if not isinstance(source, Inflated) and (rest := (source.size if end is None else end) - stop) > 0:
        warn(
            f"{source.file} has {rest} bytes after the pixels that its header describes: sizes or the data "
            "type in the header may be damaged"
        )


_COMPRESSED = {b"\x1f\x8b\x08": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
_TURNED = "the axes are turned, and what they are turned against is not known"
_UNUSABLE = "the directions of the axes do not span a space"


def placed_by(image: Image, axes: Sequence[str], directions: Any, origin: Any, space: Space | None, unit: str) -> Image:
    """Return an image with the spacing and position that vectors give it.

    Parameters
    ----------
    image : Image
    axes : sequence of str
        Axes of the image, of x, y and z.
    directions : (n, m) array_like
        For each axis the step from a sample to its neighbour, in space.
    origin : (m,) array_like
        Position of the first sample; NaN where it is unknown.
    space : {"RAS+", "LPS+"} or None
        None if the space is not anatomical.
    unit : str
        "" where it is unknown.
    """
    steps, start = np.array(directions, float), np.array(origin, float)
    with np.errstate(over="ignore", invalid="ignore"):  # of damaged files
        lengths = np.linalg.norm(steps, axis=1)
    finite = bool(np.isfinite(lengths).all())
    placed = finite and bool(np.isfinite(start).all())
    if space is not None and placed and sorted(axes) == ["x", "y", "z"] and steps.shape == (3, 3):
        order = [list(axes).index(a) for a in "xyz"]
        matrix = np.vstack([np.column_stack([steps[order].T, start]), [0, 0, 0, 1]])
        with contextlib.suppress(ValueError):
            return image.placed(Affine(matrix, space, unit))
    spacing = {a: n for a, length in zip(axes, lengths, strict=True) if (n := known_spacing(length))}
    straight = len(spacing) == len(axes) == len(start) and np.array_equal(np.diag(lengths), steps)
    if not straight and np.count_nonzero(steps):
        why = _TURNED if finite and space is None else _UNUSABLE
        warn(f"{why}: directions and origin are left out")
    at = {a: float(o) for a, o in zip(axes, start, strict=True) if np.isfinite(o)} if straight else {}
    units = dict.fromkeys(spacing, unit) if unit else {}
    image = replace(image, units={**image.units, **units})
    return replace(image, spacing={**image.spacing, **spacing}, origin={**image.origin, **at})


# writing


def spacing_in(image: Image, axes: str, units: Sequence[str]) -> tuple[dict[str, float], str]:
    """Return the spacing along axes in a unit that they share, and that unit.

    Parameters
    ----------
    image : Image
    axes : str
        All of them lengths, or all of them times.
    units : sequence of str
        Those that the format knows, the largest first.

    Returns
    -------
    spacing : dict of str to float
        Of axes whose spacing is known; where others have a unit, of those that have one.
    unit : str
        "" if no unit is known.
    """
    known = {a: image.spacing[a] for a in axes if a in image.sizes and known_spacing(image.spacing.get(a))}
    given = {a: unit for a in known if (unit := canonical(image.units.get(a)))}
    if len(set(given.values())) == 1 and next(iter(given.values())) in units:
        return {a: known[a] for a in given}, given[next(iter(given))]
    try:
        worth = [u for u in units if all(convert(1.0, g, u) >= 1 for g in given.values())] if given else []
        unit = (worth or units[-1:])[0] if given else ""
        return ({a: convert(known[a], g, unit) for a, g in given.items()}, unit) if given else (known, "")
    except UnitsError:
        return {a: n for a, n in known.items() if len(set(given.values())) == 1 and a in given}, ""


@contextlib.contextmanager
def packing(
    path: str, method: Literal["gzip", "bzip2", "zlib"] | None, level: int = 6, *, before: bytes = b""
) -> Iterator[BinaryIO]:
    """Yield a new file to write to, compressed as it is written.

    Parameters
    ----------
    path : str
    method : {"gzip", "bzip2", "zlib"} or None
    level : int
    before : bytes
        What comes before the compressed stream.
    """
    with open(path, "wb") as target:
        target.write(before)
        if method is None:
            yield target
            return
        with _packer(target, method, level) as packed:
            yield packed


class _Zlib:
    """A stream of zlib, which has no head and tail of a file."""

    def __init__(self, target: BinaryIO, level: int) -> None:
        self._target, self._packer = target, zlib.compressobj(level)

    def write(self, data: Any) -> None:
        self._target.write(self._packer.compress(data))

    def __enter__(self) -> _Zlib:
        return self

    def __exit__(self, *error: object) -> None:
        self._target.write(self._packer.flush())


def _packer(target: BinaryIO, method: str, level: int) -> Any:
    if method == "zlib":
        return _Zlib(target, level)
    if method == "bzip2":
        return bz2.BZ2File(target, "wb", compresslevel=level)
    return gzip.GzipFile("", "wb", level, target, mtime=0)  # without the time, so that equal images are equal files


# records


def sealed(image_record: Mapping[str, Any], *header: bytes) -> str:
    """Return a record as JSON in ASCII, with a checksum of what the header says of the pixels."""
    return json.dumps({"intake_img": image_record, "header": _checksum(header)}, separators=(",", ":"))


def unsealed(text: str | bytes, *header: bytes) -> Any:
    """Return the record in what `sealed` wrote; None if there is none, or the header was changed since."""
    try:
        found = json.loads(text)
        return found["intake_img"] if found["header"] == _checksum(header) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _checksum(parts: Sequence[bytes]) -> int:
    return zlib.crc32(b"\0".join(parts))


def sample_volume(path: str, head: bytes, dtype: str = ">u2", unit: str = "µm") -> tuple[str, xr.Dataset]:
    """Write the sample of a format: a header, and 2 x 3 x 4 numbers that count up; return its path and what it holds.

    Parameters
    ----------
    path : str
    head : bytes
        Says so of the numbers, and that samples are 2, 0.25 and 0.5 apart along z, y and x.
    dtype : str
    unit : str
        Of lengths.
    """
    import xarray as xr

    values = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    with open(path, "wb") as stream:
        stream.write(head + values.tobytes())
    grid = (("z", 2, 2.0), ("y", 3, 0.25), ("x", 4, 0.5))
    coords = {a: (a, np.arange(n) * step, {"units": unit, "spacing": step}) for a, n, step in grid}
    return path, xr.Dataset({"image": (tuple("zyx"), values)}, coords)
