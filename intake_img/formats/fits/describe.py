"""Numbers, axes and units from the cards of a FITS image."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.fits.header import Hdu
from intake_img.formats.volumes import unsealed
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import known_spacing
from intake_img.model.untrusted import finite

__all__ = ["RECORD", "image_of", "names_of", "seal", "type_of", "values_of"]

RECORD = "IMGREC"
"""Keyword of the record."""
_BITS = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
_KINDS = {"t": "TIME UTC TAI TT TDB", "c": "STOKES", "l": "WAVE AWAV LAMBDA WAVN FREQ ENER VELO VRAD VOPT ZOPT"}
_LETTERS = {word: letter for letter, words in _KINDS.items() for word in words.split()}
_UNEVEN = re.compile(r"(RA|DEC|.LON|.LAT|..LN|..LT)(-.*)?|.{4}-(LOG|TAB|GR[IA]|[FWVA]2[FWVA])", re.IGNORECASE)
"""Directions in the sky, ``RA---TAN``, and spectra that are not linear, ``WAVE-LOG`` (sections 8.3 and 8.4)."""
_SEALED = ("BITPIX", "BSCALE", "BZERO", "NAXIS", "CTYPE", "CRPIX", "CRVAL", "CDELT", "CUNIT")


def seal(cards: Mapping[str, Any]) -> bytes:
    """Return what a header says of pixels and axes."""
    return repr(sorted((k, v) for k, v in cards.items() if k.rstrip("0123456789") in _SEALED)).encode()


def names_of(images: list[Hdu]) -> list[str]:
    """Return a name for each image: EXTNAME, with EXTVER where several share it; or its number in the file."""
    names = [str(h.cards.get("EXTNAME") or ("PRIMARY" if h.number == 0 else h.number)) for h in images]
    return [n if names.count(n) == 1 else f"{n},{h.cards.get('EXTVER', 1)}" for n, h in zip(names, images, strict=True)]


def type_of(cards: Mapping[str, Any]) -> tuple[np.dtype, bool]:
    """Return the type of the numbers as they are stored, and whether their first bit is to be turned.

    That is how FITS stores unsigned integers, and signed bytes: with a BZERO of half the range.
    """
    bits = cards.get("BITPIX")
    if bits not in _BITS:
        raise FormatError(f"BITPIX is {bits!r}: expected one of {', '.join(map(str, _BITS))}")
    half = -128 if bits == 8 else 2 ** (int(bits) - 1) if bits > 0 else None
    turned = half is not None and cards.get("BSCALE", 1) == 1 and cards.get("BZERO", 0) == half
    return np.dtype(_BITS[bits]).newbyteorder(">"), turned


def values_of(pixels: Pixels, cards: Mapping[str, Any]) -> Pixels:
    """Return the values that stored numbers stand for."""
    dtype, turned = type_of(cards)
    slope, offset, blank = cards.get("BSCALE", 1), cards.get("BZERO", 0), cards.get("BLANK")
    blank = blank if type(blank) is int and dtype.kind in "iu" else None
    if turned:
        slope, offset, blank = 1, 0, None if blank is None else blank + int(cards["BZERO"])
    if blank is not None and not np.iinfo(pixels.dtype).min <= blank <= np.iinfo(pixels.dtype).max:
        blank = None
    known = all(isinstance(v, (int, float)) and math.isfinite(v) for v in (slope, offset)) and slope != 0
    small = dtype.itemsize <= 2 or dtype == np.dtype(">f4")
    return pixels.scaled(slope if known else 1, offset if known else 0, "f4" if small else "f8", missing=blank)


def image_of(pixels: Pixels, hdu: Hdu, name: str, names: list[str]) -> Image:
    """Return the image of a header."""
    letters = _letters(hdu.cards, pixels.ndim)
    header = {k: v for k, v in hdu.cards.items() if k != RECORD and not (isinstance(v, float) and not math.isfinite(v))}
    steps = {a: _step(hdu.cards, n, pixels.ndim) for n, a in enumerate(letters, 1)}
    spacing = {a: s for a, s in steps.items() if s is not None}
    places = {a: n for n, a in enumerate(letters, 1) if a in spacing}
    units = {a: str(hdu.cards[f"CUNIT{n}"]) for a, n in places.items() if hdu.cards.get(f"CUNIT{n}")}
    origin = {a: _first(hdu.cards, n, spacing[a]) for a, n in places.items()}
    facts: dict[str, Any] = {"spacing": spacing, "units": units, "origin": origin, "header": {**header, "y_axis": "up"}}
    image = Image.single(pixels, letters[::-1], scene=name, scenes=names, **facts)
    return image.restored(unsealed(str(hdu.cards.get(RECORD, "")), seal(hdu.cards)))


def _letters(cards: Mapping[str, Any], count: int) -> list[str]:
    """Return the letters of the axes, the fastest first."""
    said = [str(cards.get(f"CTYPE{n}", "")).strip() for n in range(1, count + 1)]
    named = [_LETTERS.get(t.upper().split("-")[0], t.lower() if len(t) == 1 and t.isalpha() else "") for t in said]
    named = [a if a not in named[:n] else "" for n, a in enumerate(named)]
    spare = iter([a for a in "xyztcabdefghjkmnopqrsuvw" if a not in named])
    return [a or next(spare, f"axis{n}") for n, a in enumerate(named)]


def _step(cards: Mapping[str, Any], n: int, count: int) -> float | None:
    """Return the spacing along an axis that is not rotated, and is even: ``CDn_n``, or ``CDELTn`` times ``PCn_n``."""
    if _UNEVEN.fullmatch(str(cards.get(f"CTYPE{n}", "")).strip()):
        return None
    others = [m for m in range(1, count + 1) if m != n]
    mixed = [cards.get(f"{p}{n}_{m}") or cards.get(f"{p}{m}_{n}") for p in ("CD", "PC") for m in others]
    if any(mixed) or (n <= 2 and (cards.get("CROTA1") or cards.get("CROTA2"))):
        return None
    if (step := cards.get(f"CD{n}_{n}")) is not None:
        return known_spacing(step)
    return known_spacing(finite(cards.get(f"CDELT{n}")) * finite(cards.get(f"PC{n}_{n}"), 1.0))


def _first(cards: Mapping[str, Any], n: int, step: float) -> float:
    """Return where the first sample of an axis is."""
    return finite(cards.get(f"CRVAL{n}"), 0) - (finite(cards.get(f"CRPIX{n}"), 1) - 1) * step
