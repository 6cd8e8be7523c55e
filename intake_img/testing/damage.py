"""Damaged copies of a file, read one after the other in a separate process, which may hang or crash.

``python -m intake_img.testing.damage module:Class COUNT SEED PATH...`` prints a line of JSON before each case and one
after it. Truncated copies must read like the complete file, or as its first planes or a corner of it with a warning (or
as planes on an axis ``i``, if the file lost their order), or be refused; foreign files must be refused;
files with flipped bits must be refused properly or read as any image, in reasonable time and memory.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import IntakeImgError, TooLargeError
from intake_img.formats.source import ImageSource
from intake_img.testing.process import class_of

__all__ = ["FOREIGN", "SECONDS", "cases"]

SECONDS = 20
"""A case that takes longer hangs."""
_MEMORY = 3 * 2**30  # memory that the process may map in addition to that at the start of the cases
_HEADER = 1024  # bytes in which numbers are set to extremes; four times as many for text
_TEXTS = tuple(b"0 -1 1 4099 2147483648 99999999999999999999 1e308 -1e-300 nan inf x".split())
_MASK = "valid_mask"
_SEALED = b"\x1f\x8b"  # gzip: length and checksum of the contents are at the end

FOREIGN: dict[str, bytes] = {
    "nothing": b"",
    "one byte": b"\0",
    "zeros": bytes(2000),
    "text": b"These are not the pixels you are looking for.\n" * 40,
    "an HTML page": b"<!DOCTYPE html><html><body>404 not found</body></html>",
    "XML": b'<?xml version="1.0"?><OME><Image/></OME>',
    "JSON": b'{"zarr_format": 3, "node_type": "array"}',
    "an empty zip": b"PK\x05\x06" + bytes(18),
    "the head of a zip": b"PK\x03\x04" + bytes(300),
    "the head of a PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40),
    "the head of a TIFF": b"II*\0\x08\0\0\0\xff\xff" + bytes(50),
    "the head of a CZI": b"ZISRAWFILE" + bytes(600),
    "the head of an HDF5": b"\x89HDF\r\n\x1a\n" + bytes(500),
    "noise": np.random.default_rng(0).bytes(5000),
}
"""Files that no image driver can read."""


def cases(original: Path, count: int, seed: int) -> Iterator[tuple[str, str, str, bytes]]:
    """Iterate over damages, about `count` of them, the same for the same `seed`.

    Yields
    ------
    kind : str
        ``"truncated"``, ``"flipped"``, ``"extreme"`` or ``"foreign"``.
    about : str
    member : str
        Path of the damaged file in a folder; empty if the original is a file.
    content : bytes
        The contents of the damaged file.
    """
    rng = np.random.default_rng(seed)
    members = _members(original)
    share = max(1, count // (3 * len(members)))
    for member in members:
        data = (original / member if member else original).read_bytes()
        steps = np.unique(np.linspace(0, max(len(data) - 1, 0), share + 1).astype(int))
        for stop in steps.tolist():
            yield "truncated", f"{member} cut at byte {stop} of {len(data)}", member, data[:stop]
        for _ in range(share if data else 0):
            yield "flipped", *_flipped(member, data, rng)
            yield "extreme", *_extreme(member, data, rng)
        if not member:
            for about, content in FOREIGN.items():
                yield "foreign", about, member, content


def _members(original: Path) -> list[str]:
    if original.is_file():
        return [""]
    found = sorted(str(p.relative_to(original)) for p in original.rglob("*") if p.is_file())
    return found[:: max(1, len(found) // 12)]


def _flipped(member: str, data: bytes, rng: np.random.Generator) -> tuple[str, str, bytes]:
    damaged = bytearray(data)
    near = len(data) if rng.random() < 0.5 else min(len(data), 512)  # damage of headers has the largest effect
    places = [int(rng.integers(near)) for _ in range(int(rng.integers(1, 5)))]
    for place in places:
        damaged[place] = int(rng.integers(256)) if rng.random() < 0.5 else damaged[place] ^ (1 << int(rng.integers(8)))
    return f"{member} with bytes changed at {places}", member, bytes(damaged)


def _extreme(member: str, data: bytes, rng: np.random.Generator) -> tuple[str, str, bytes]:
    """Return a copy in which a number of the header, binary or text, is replaced by an extreme value."""
    numbers = list(re.finditer(rb"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])", data[: 4 * _HEADER]))
    if numbers and rng.random() < (0.8 if _is_text(data) else 0.2):
        found = numbers[int(rng.integers(len(numbers)))]
        text = _TEXTS[int(rng.integers(len(_TEXTS)))]
        return (
            f"{member} with {text.decode()} for {found[0].decode()} at {found.start()}",
            member,
            data[: found.start()] + text + data[found.end() :],
        )
    width = 2 ** int(rng.integers(4))
    at = int(rng.integers(max(min(len(data), _HEADER) // width, 1))) * width
    high = 1 << (8 * width - 1)
    value = (0, 1, high - 1, high, 2 * high - 1)[int(rng.integers(5))]
    number = value.to_bytes(width, ("little", "big")[int(rng.integers(2))])
    return f"{member} with {number.hex()} at {at}", member, data[:at] + number + data[at + width :]


def _is_text(data: bytes) -> bool:
    head = data[:64]
    return sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head) > 0.9 * len(head)


def main(spec: str, count: str, seed: str, *paths: str) -> None:
    """Try all cases, about `count` for each file, and print the outcome of each."""
    driver = class_of(spec)
    whole = {path: _Whole(driver, path) for path in paths}
    _limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        for original in map(Path, paths):
            for kind, about, member, content in cases(original, int(count), int(seed)):
                copy = Path(folder) / original.name
                with _copied(original, copy, member, content):
                    print(json.dumps({"case": f"{original.name}: {kind}: {about}"}), flush=True)
                    faulthandler.dump_traceback_later(SECONDS, exit=True)
                    trouble = _trouble(driver, str(copy), kind, whole[str(original)], content.startswith(_SEALED))
                    faulthandler.cancel_dump_traceback_later()
                    print(json.dumps({"trouble": trouble}), flush=True)


@contextlib.contextmanager
def _copied(original: Path, copy: Path, member: str, content: bytes) -> Iterator[None]:
    if member:
        shutil.copytree(original, copy)
        (copy / member).write_bytes(content)
    else:
        copy.write_bytes(content)
    try:
        yield
    finally:
        shutil.rmtree(copy) if member else copy.unlink()


class _Whole:
    """A complete image, and the planes of all images of its file."""

    def __init__(self, driver: type[ImageSource], path: str) -> None:
        self.driver, self.path = driver, path
        self.image = _read(driver, path)[0]

    @cached_property
    def planes(self) -> set[bytes]:
        """The planes of all scenes as bytes."""
        scene = {"scene": "all"} if self.image.attrs.get("scenes") and len(self.image.attrs["scenes"]) > 1 else {}
        return set(_planes(_read(self.driver, self.path, **scene)[0]))


def _trouble(driver: type[ImageSource], path: str, kind: str, whole: _Whole, sealed: bool) -> str:
    try:
        found, warned = _read(driver, path)
    except TooLargeError:  # stores with missing blocks as zeros: only their header gives their size
        return ""
    except IntakeImgError as exc:
        return "" if os.path.basename(path) in str(exc) else f"the message names no file: {exc}"
    except Exception as exc:
        return f"{type(exc).__module__}.{type(exc).__name__} instead of an error of intake_img: {exc}"[:500]
    if kind in ("flipped", "extreme") and not sealed:
        return ""
    if kind == "foreign":
        return "reads as an image"
    if _digest(found) == _digest(whole.image) or (warned and (_begins(whole.image, found) or _loose(whole, found))):
        return ""
    return "reads as another image than the whole file"


def _read(driver: type[ImageSource], path: str, **options: Any) -> tuple[xr.Dataset, bool]:
    """Return the pixels in the order of the file, and whether a warning named the file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = driver(path, output_axis_order=None, **options)
        try:
            ds = source.read()
        finally:
            source.close()
    return ds, any(os.path.basename(path) in str(warning.message) for warning in caught)


def _begins(whole: xr.Dataset, found: xr.Dataset) -> bool:
    """True if the pixels are the first ones of the complete image, in planes of the same shape, or a corner of it.

    A variable ``valid_mask`` marks the pixels of the corner that exist; others are 0.
    """
    mask = found.data_vars.get(_MASK)
    for name, array in found.data_vars.items():
        if name == _MASK:
            continue
        if name not in whole.data_vars or array.dtype != whole[name].dtype:
            return False
        if not (mask is None and _first_of(whole[name], array)) and not _corner_of(whole[name], array, mask):
            return False
    return True


def _loose(whole: _Whole, found: xr.Dataset) -> bool:
    """True if planes of the complete file are on an axis ``i`` that it has not got: their order is lost."""
    return "i" in found.dims and "i" not in whole.image.dims and whole.planes.issuperset(_planes(found))


def _planes(ds: xr.Dataset) -> Iterator[bytes]:
    for array in ds.data_vars.values():
        values = array.transpose(..., "y", "x").values
        yield from (plane.tobytes() for plane in values.reshape(-1, *values.shape[-2:]))


def _first_of(whole: xr.DataArray, found: xr.DataArray) -> bool:
    if any(found.sizes.get(a) != whole.sizes.get(a) for a in "yx"):
        return False
    first = whole.values.ravel()[: found.size]
    return np.array_equal(found.values.ravel(), first, equal_nan=found.dtype.kind in "fc")


def _corner_of(whole: xr.DataArray, found: xr.DataArray, mask: xr.DataArray | None) -> bool:
    if found.dims != whole.dims or any(n > m for n, m in zip(found.shape, whole.shape, strict=True)):
        return False
    first = whole.values[tuple(slice(n) for n in found.shape)]
    if mask is not None:
        shown = mask.broadcast_like(found).transpose(*found.dims).values
        first = np.where(shown, first, np.zeros((), found.dtype))
    return np.array_equal(found.values, first, equal_nan=found.dtype.kind in "fc")


def _digest(ds: xr.Dataset) -> str:
    """A short text for an image, equal for equal images."""
    seen = hashlib.sha256()
    arrays: dict[Any, Any] = {**ds.data_vars, **ds.coords}
    for name, array in sorted(arrays.items(), key=lambda item: str(item[0])):
        values = array.values if array.dtype.kind != "O" else array.values.astype(str)
        seen.update(repr((str(name), array.dims, array.shape, str(array.dtype))).encode())
        seen.update(np.ascontiguousarray(values).tobytes())
    return seen.hexdigest()


def _limit_memory() -> None:
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
