"""The FITS header and the stored numbers of an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.fits.describe import RECORD, seal
from intake_img.formats.fits.header import BLOCK
from intake_img.formats.volumes import exact_standin, sealed
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical, known_spacing
from intake_img.storage.streams import iter_planes

__all__ = ["header_bytes", "stored_bytes"]

_PART = 60  # letters of a long text in a card


def header_bytes(image: Image) -> tuple[Pixels, bytes]:
    """Return the pixels and the header of an image.

    Raises
    ------
    CannotWriteError
        If FITS has no such data type, or the image no pixel.
    """
    variable = image.only
    pixels = variable.pixels.astype(exact_standin(variable.pixels.dtype))
    if pixels.dtype.kind not in "iuf" or pixels.dtype.itemsize > 8 or pixels.size == 0 or not 0 < pixels.ndim < 100:
        raise CannotWriteError(f"FITS cannot store dtype {pixels.dtype} with shape {pixels.shape}")
    bits = 8 * pixels.dtype.itemsize
    cards: dict[str, Any] = {
        "SIMPLE": True,
        "BITPIX": -bits if pixels.dtype.kind == "f" else bits,
        "NAXIS": pixels.ndim,
    }
    cards |= {f"NAXIS{n}": size for n, size in enumerate(pixels.shape[::-1], 1)}
    cards["EXTEND"] = False
    if _turned(pixels.dtype):
        cards |= {"BSCALE": 1, "BZERO": -128 if bits == 8 else 2 ** (bits - 1)}
    for n, axis in enumerate(variable.axes[::-1], 1):
        cards |= _axis(image, axis, n)
    record = sealed(image.record(), seal(cards))
    text = [_card(name, value) for name, value in cards.items()] + list(_long(RECORD, record)) + ["END"]
    head = "".join(line.ljust(80) for line in text).encode("ascii")
    return pixels, head + b" " * (-len(head) % BLOCK)


def _axis(image: Image, axis: str, n: int) -> dict[str, Any]:
    cards: dict[str, Any] = {f"CTYPE{n}": {"l": "WAVE"}.get(axis, axis.upper()[:8])} if axis.isascii() else {}
    step = known_spacing(image.spacing.get(axis))
    if step is None:
        return cards
    cards |= {f"CRPIX{n}": 1.0, f"CRVAL{n}": float(image.origin.get(axis) or 0.0), f"CDELT{n}": step}
    unit = (canonical(image.units.get(axis)) or "").replace("µ", "u").replace("Å", "angstrom")
    return {**cards, f"CUNIT{n}": unit} if unit and unit.isascii() and "'" not in unit and len(unit) < 60 else cards


def _card(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{name:8}= {'T' if value else 'F':>20}"
    if isinstance(value, str):
        return f"{name:8}= '{value:8}'"
    return f"{name:8}= {repr(value).upper():>20}"


def _long(name: str, text: str) -> Iterator[str]:
    """Iterate over the cards of a long text."""
    for letter in " '&":  # which end or continue a text
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    parts = [text[k : k + _PART] for k in range(0, len(text), _PART)]
    yield "LONGSTRN= 'OGIP 1.0'"
    for k, part in enumerate(parts):
        yield f"{f'{name:8}=' if k == 0 else 'CONTINUE '} '{part}{'&' if k + 1 < len(parts) else ''}'"


def _turned(dtype: np.dtype) -> bool:
    return dtype == np.int8 or (dtype.kind == "u" and dtype.itemsize > 1)


def stored_bytes(pixels: Pixels) -> Iterator[bytes]:
    """Iterate over the numbers of the planes, big-endian."""
    dtype = pixels.dtype
    for plane in iter_planes(pixels, min(2, pixels.ndim)):
        numbers = np.ascontiguousarray(plane)
        if _turned(dtype):
            bits = numbers.view(f"u{dtype.itemsize}")
            numbers = bits ^ bits.dtype.type(1 << 8 * dtype.itemsize - 1)
        yield numbers.astype(numbers.dtype.newbyteorder(">")).tobytes()
