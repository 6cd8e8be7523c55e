"""Spellings and conversion of units of length and time.

Files spell the same unit in many ways (``micron``, ``um``, ``\\u00B5m``, U+03BC). This module maps them to one symbol,
``µm`` (with U+00B5, the symbol that UDUNITS-2 and pint read), and converts units.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from intake_img.errors import UnitsError

__all__ = [
    "LENGTH",
    "NGFF_NAMES",
    "PIXEL",
    "TIME",
    "Quantity",
    "Unit",
    "canonical",
    "convert",
    "differ",
    "has_unit",
    "known_spacing",
    "parse_unit",
    "power",
    "quantity",
    "stated",
    "symbol",
    "unit_or",
]

PIXEL = "px"
"""Symbol of a length that is counted in pixels."""


class Unit(NamedTuple):
    """A unit: its canonical symbol, its dimension (``"length"`` or ``"time"``), its size in metres or seconds."""

    symbol: str
    dimension: str
    factor: float


class Quantity(NamedTuple):
    """A number and the symbol of its unit; the unit is None for a bare number."""

    value: float
    unit: str | None


# symbol, size, NGFF/UDUNITS name, further spellings (compared in lower case unless the case distinguishes units)
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
_NOT_UNITS = {
    "",
    "pixel",
    "pixels",
    "px",
    "pixl",
    "voxel",
    "frame",
    "frames",
    "none",
    "null",
    "unknown",
    "slice",
    "au",
    "reference frame",
    "gray value",
    "inch_undefined",
}
_PIXELS = {"pixel", "pixels", "px", "pix", "pixl", "voxel", "voxels"}
_PADDING = "\0" + "".join(filter(str.isspace, map(chr, (*range(0xA1), 0x1680, *range(0x2000, 0x2060), 0x3000))))
_NUMBER = re.compile(r"\s*((?>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))\s*([^\s\d.](?:.*\S)?)\s*", re.DOTALL)
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")


def parse_unit(text: object) -> Unit | None:
    """Return the unit that `text` spells, or None if it is not a known unit.

    Parameters
    ----------
    text : object
        Anything that a file may state as a unit. ``"pixel"``, an empty string and None mean no unit.

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
    word = _stripped(_ESCAPE.sub(lambda m: chr(int(m[1], 16)), str(text))).replace("\u03bc", "µ")
    if word in _EXACT:
        return _EXACT[word]
    word = word.lower().removesuffix(".").strip("[]()").strip()
    if word in _NOT_UNITS:
        return None
    return _SPELLINGS.get(word) or _EXACT.get(word)


def _stripped(text: object) -> str:
    """Return text without the white space and zero bytes with which headers pad it."""
    return str(text if text is not None else "").strip(_PADDING)


def canonical(text: object) -> str | None:
    """Return the canonical symbol of a unit, the stripped text itself if the unit is unknown, None for no unit.

    Examples
    --------
    >>> canonical("um"), canonical("furlong"), canonical("pixel")
    ('µm', 'furlong', None)
    """
    if unit := parse_unit(text):
        return unit.symbol
    word = _stripped(text)
    return None if word.lower() in _NOT_UNITS else word


def unit_or(text: object, default: str) -> str | None:
    """Return the canonical symbol of a unit as a file spells it, `default` if the file states no unit.

    None if the text is not a unit of length or time (``"pixel"``, ``"reference frame"``): a number with it is not a
    length or time.

    Examples
    --------
    >>> unit_or(None, "µm"), unit_or("nm", "µm"), unit_or("pixel", "µm")
    ('µm', 'nm', None)
    """
    return canonical(text) if _stripped(text) else default


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
    if given.factor >= wanted.factor:  # the ratio is (nearly) an integer, so this is exact
        return value * round(given.factor / wanted.factor, 9)
    return value / round(wanted.factor / given.factor, 9)


def symbol(text: object) -> str | None:
    """Return the canonical symbol of a unit, ``"px"`` for pixels and voxels, None for no unit.

    Examples
    --------
    >>> symbol("micron"), symbol("voxel"), symbol("none")
    ('µm', 'px', None)
    """
    word = _stripped(text).lower()
    return PIXEL if word in _PIXELS else canonical(text)


def differ(unit: object, other: object) -> bool:
    """Return whether values in one unit have to be converted to be compared with values in another.

    False if they are spellings of one unit, or if one is not stated.

    Raises
    ------
    UnitsError
        If they do not convert: pixels and lengths, lengths and times, an unknown unit.

    Examples
    --------
    >>> differ("micron", "µm"), differ("nm", "µm"), differ("", "µm")
    (False, True, False)
    """
    one, two = symbol(unit), symbol(other)
    if one is None or two is None or one == two:
        return False
    if PIXEL in (one, two):
        raise UnitsError(f"{unit!r} and {other!r} do not convert: pixels have no length; give both the same unit")
    convert(1.0, one, two)
    return True


def power(unit: str | None, exponent: int) -> str | None:
    """Return the symbol of a power of a unit, as UDUNITS-2 and pint read it.

    Examples
    --------
    >>> power("µm", 3), power("nm", 1), power(None, 2)
    ('µm³', 'nm', None)
    """
    if unit is None or not exponent:
        return None
    return unit + (str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")) if exponent != 1 else "")


def has_unit(value: object) -> bool:
    """Whether `value` has a unit: text, or a quantity such as pint's and astropy's."""
    return isinstance(value, str) or _parts(value) is not None


def quantity(value: Any) -> Quantity:
    """Return a number with its unit, from text such as ``"3 µm"`` or from a quantity of pint or astropy.

    Any object with ``magnitude`` and ``units``, or ``value`` and ``unit``, is taken as a quantity; numbers have no
    unit.

    Raises
    ------
    TypeError
        If it is text without a number or without a unit, or not a single number.
    UnitsError
        If a quantity is neither a length nor a time.

    Examples
    --------
    >>> [tuple(quantity(v)) for v in ("300 nm", "2.5micron", "3 px", 4)]
    [(300.0, 'nm'), (2.5, 'µm'), (3.0, 'px'), (4, None)]
    """
    if isinstance(value, str):
        if not (found := _NUMBER.fullmatch(value)):
            raise TypeError(f"{value!r}: expected a number, or a number with its unit, such as '3 µm'")
        return Quantity(float(found[1]), symbol(found[2]))
    parts = _parts(value)
    if parts is None:
        return Quantity(value, None)
    number, unit = parts
    if getattr(number, "ndim", 0):
        raise TypeError(f"{value!r}: expected one number with its unit, not an array")
    if unit.lower() in ("", "dimensionless") or parse_unit(unit) or symbol(unit) == PIXEL:
        return Quantity(float(number), symbol(unit) if unit.lower() != "dimensionless" else None)
    return _in_base_units(value)


def stated(spacing: Mapping[str, Any], units: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return spacing as numbers, and units, by axis: ``{"z": "300 nm"}`` states both a number and a unit.

    If a unit is given in addition, the spacing is converted to it.

    Examples
    --------
    >>> stated({"z": "300 nm", "y": 0.5, "x": "500 nm"}, {"x": "µm"})
    ({'z': 300.0, 'y': 0.5, 'x': 0.5}, {'x': 'µm', 'z': 'nm'})
    """
    numbers, symbols = dict(spacing), dict(units)
    for axis, value in spacing.items():
        try:
            found = quantity(value)
        except TypeError:  # text without a unit is checked like a number
            continue
        if value is found.value:
            continue
        if found.unit is None or found.unit == PIXEL:
            raise UnitsError(f"spacing of {axis!r} is {value!s}: expected a number, or a length such as '300 nm'")
        symbols.setdefault(axis, found.unit)
        to = symbols[axis]
        numbers[axis] = found.value if to == found.unit else convert(found.value, found.unit, to)
    return numbers, symbols


def _parts(value: Any) -> tuple[Any, str] | None:
    """Number and unit of a quantity of pint or astropy; None for other objects."""
    for number, unit in (("magnitude", "units"), ("value", "unit")):
        if hasattr(value, number) and hasattr(value, unit):
            return getattr(value, number), str(getattr(value, unit))
    return None


def _in_base_units(value: Any) -> Quantity:
    """Let a quantity whose unit is not in the tables (``light_year``) convert itself."""
    for base in ("m", "s"):
        try:
            number, _ = _parts(value.to(base)) or (None, None)
            return Quantity(float(number), base)  # type: ignore[arg-type]
        except Exception:  # pint and astropy raise their own errors for this
            continue
    raise UnitsError(f"{value}: expected a length (such as 3 µm) or a time")


def known_spacing(value: object) -> float | None:
    """Return a spacing as a positive float, or None (unknown): zero, NaN, infinite, negative, not a number.

    So are numbers beyond 1e-100 and 1e100, which damaged files contain: positions along the axis would overflow.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if 1e-100 < number < 1e100 else None
