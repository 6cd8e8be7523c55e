"""Spellings of units of length and time, and what they are worth.

Files write the same unit in many ways (``micron``, ``um``, ``\\u00B5m``, U+03BC). Here alone it is known that they all
mean ``µm`` (with U+00B5, the symbol that UDUNITS-2 and pint read) and how units convert into each other.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from intake_img.errors import UnitsError

__all__ = ["LENGTH", "NGFF_NAMES", "TIME", "Unit", "canonical", "convert", "known_spacing", "parse_unit"]


class Unit(NamedTuple):
    """A unit: its canonical symbol, its dimension (``"length"`` or ``"time"``), its worth in metres or seconds."""

    symbol: str
    dimension: str
    factor: float


# symbol, worth, NGFF/UDUNITS name, further spellings (compared in lower case where no case distinguishes units)
_LENGTH: list[tuple[Any, ...]] = [
    ("pm", 1e-12, "picometer", "picometre"),
    ("Å", 1e-10, "angstrom", "ångström", "ångstrom", "angstroms", "\u212b", "a"),
    ("nm", 1e-9, "nanometer", "nanometre"),
    ("µm", 1e-6, "micrometer", "micrometre", "micron", "microns", "um", "mu m", "mum", "mikrometer", "&#181;m"),
    ("mm", 1e-3, "millimeter", "millimetre"),
    ("cm", 1e-2, "centimeter", "centimetre"),
    ("dm", 1e-1, "decimeter", "decimetre"),
    ("m", 1.0, "meter", "metre"),
    ("km", 1e3, "kilometer", "kilometre"),
    ("in", 0.0254, "inch", "inches", '"'),
    ("ft", 0.3048, "foot", "feet"),
    ("pt", 0.0254 / 72, "point", "points"),
]
_TIME: list[tuple[Any, ...]] = [
    ("ps", 1e-12, "picosecond"),
    ("ns", 1e-9, "nanosecond", "nsec"),
    ("µs", 1e-6, "microsecond", "us", "usec", "musec"),
    ("ms", 1e-3, "millisecond", "msec", "msecs"),
    ("s", 1.0, "second", "sec", "secs"),
    ("min", 60.0, "minute", "mins"),
    ("h", 3600.0, "hour", "hr", "hrs"),
    ("d", 86400.0, "day"),
]
LENGTH = {symbol: Unit(symbol, "length", factor) for symbol, factor, *_ in _LENGTH}
TIME = {symbol: Unit(symbol, "time", factor) for symbol, factor, *_ in _TIME}
NGFF_NAMES = {symbol: name for symbol, _, name, *_ in _LENGTH + _TIME}
"""Canonical symbol to the name that OME-NGFF and UDUNITS-2 use, e.g. ``µm`` to ``micrometer``."""

_EXACT = {**LENGTH, **TIME}
_SPELLINGS: dict[str, Unit] = {}
for _symbol, _, *_names in _LENGTH + _TIME:
    for _name in _names:
        _SPELLINGS[_name.lower()] = _SPELLINGS[_name.lower() + "s"] = _EXACT[_symbol]
_NOT_UNITS = {"", "pixel", "pixels", "px", "pixl", "voxel", "frame", "frames", "none", "null", "unknown", "slice", "au",
              "reference frame", "gray value", "inch_undefined"}  # fmt: skip
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")


def parse_unit(text: object) -> Unit | None:
    """Return the unit that `text` spells, or None if it spells none.

    Parameters
    ----------
    text : object
        Anything that a file may hold in the place of a unit. ``"pixel"``, an empty string and None mean no unit.

    Returns
    -------
    Unit or None

    Examples
    --------
    >>> parse_unit("micron").symbol, parse_unit(r"\\u00B5m").symbol
    ('µm', 'µm')
    >>> parse_unit("pixel") is None
    True
    """
    if text is None:
        return None
    word = _ESCAPE.sub(lambda m: chr(int(m[1], 16)), str(text)).strip().strip("\0").replace("\u03bc", "µ")
    if word in _EXACT:
        return _EXACT[word]
    word = word.lower().removesuffix(".").strip("[]()").strip()
    if word in _NOT_UNITS:
        return None
    return _SPELLINGS.get(word) or _EXACT.get(word)


def canonical(text: object) -> str | None:
    """Return the canonical symbol of a unit, the stripped text itself if it is no unit known, None for no unit.

    Examples
    --------
    >>> canonical("um"), canonical("furlong"), canonical("pixel")
    ('µm', 'furlong', None)
    """
    if unit := parse_unit(text):
        return unit.symbol
    word = str(text if text is not None else "").strip().strip("\0")
    return None if word.lower() in _NOT_UNITS else word


def convert(value: float, unit: str, to: str) -> float:
    """Return `value`, given in `unit`, in the unit `to`.

    Raises
    ------
    UnitsError
        If a unit is unknown, or one is a length and the other a time.

    Examples
    --------
    >>> convert(250, "nm", "µm")
    0.25
    """
    given, wanted = parse_unit(unit), parse_unit(to)
    if given is None or wanted is None:
        unknown = unit if given is None else to
        raise UnitsError(f"unknown unit {unknown!r}: expected one of {', '.join([*LENGTH, *TIME])}")
    if given.dimension != wanted.dimension:
        raise UnitsError(f"cannot convert {unit!r} ({given.dimension}) to {to!r} ({wanted.dimension})")
    if given.factor >= wanted.factor:  # a ratio above one is (nearly) a whole number: exact where division is not
        return value * round(given.factor / wanted.factor, 9)
    return value / round(wanted.factor / given.factor, 9)


def known_spacing(value: object) -> float | None:
    """Return a spacing as a positive float, or None for zero, NaN, infinite, negative or no number: unknown."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None
