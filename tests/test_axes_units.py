"""Laws of axes and units: orders are permutations, spellings mean one symbol, conversions come back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intake_img.errors import AxesError, UnitsError
from intake_img.model.axes import CANONICAL, canonical_order, check_axes, spell
from intake_img.model.units import (
    LENGTH,
    NGFF_NAMES,
    TIME,
    canonical,
    convert,
    differ,
    has_unit,
    known_spacing,
    parse_unit,
    power,
    quantity,
    stated,
    unit_or,
)

LETTERS = "itczyxhvblrsu"
axes = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=8, unique=True).map(tuple)
units = st.sampled_from([*LENGTH, *TIME])

# axes


@given(axes)
def test_canonical_order_is_a_permutation(names):
    order = canonical_order(names)
    assert sorted(order) == sorted(names)
    assert [a for a in order if a in CANONICAL] == sorted((a for a in names if a in CANONICAL), key=CANONICAL.index)
    assert canonical_order(order) == order
    if "s" in names:
        assert order[-1] == "s"
    further = [a for a in names if a not in CANONICAL and a != "s"]
    assert list(order[: len(further)]) == further


@given(axes, st.permutations(LETTERS))
def test_any_complete_order_is_followed(names, wanted):
    assert canonical_order(names, wanted) == tuple(a for a in wanted if a in names)


@given(axes)
def test_no_order_keeps_the_order_of_the_file(names):
    assert canonical_order(names, None) == names


@given(axes, st.sampled_from(CANONICAL))
def test_an_order_that_lacks_an_axis_names_it(names, missing):
    order = CANONICAL.replace(missing, "")
    if missing in names:
        with pytest.raises(AxesError, match=rf"lacks the axis .*'{missing}'"):
            canonical_order(names, order)
    else:
        assert sorted(canonical_order(names, order)) == sorted(names)


def test_an_order_that_repeats_an_axis_names_it():
    with pytest.raises(ValueError, match="repeat 'y'"):
        canonical_order("yx", "yyx")


@pytest.mark.parametrize(
    ("given_axes", "words"),
    [("yYx", "did you mean 'yyx'"), ("y x", "' '"), ("zzyx", "repeat 'z'"), (["y", ""], "empty name"), ("y1", "'1'")],
)
def test_axes_that_are_none(given_axes, words):
    with pytest.raises(AxesError, match=words):
        check_axes(given_axes)


def test_axes_have_to_fit_the_array():
    assert check_axes("zyx", 3) == ("z", "y", "x")
    assert check_axes(["time", "y", "x"], 3) == ("time", "y", "x")
    with pytest.raises(AxesError, match="name 2 axes, but the array has 3"):
        check_axes("yx", 3)


@given(axes)
def test_letters_are_spelled_as_a_word(names):
    assert tuple(spell(names)) == names
    assert spell(("time", *names)) == ",".join(("time", *names))


# units


@pytest.mark.parametrize(
    ("spelling", "symbol"),
    [
        ("µm", "µm"),
        ("\u03bcm", "µm"),
        (r"\u00B5m", "µm"),
        (r"\\u00B5m", "µm"),
        (r"\u03BCm", "µm"),
        ("um", "µm"),
        ("UM", "µm"),
        ("micron", "µm"),
        ("Microns", "µm"),
        ("micrometer", "µm"),
        ("Micrometres", "µm"),
        ("[um]", "µm"),
        (" µm\0", "µm"),
        ("cm", "cm"),
        ("centimeter", "cm"),
        ("nm", "nm"),
        ("nanometers", "nm"),
        ("mm", "mm"),
        ("inch", "in"),
        ("m", "m"),
        ("Å", "Å"),
        ("\u212b", "Å"),
        ("angstrom", "Å"),
        ("sec", "s"),
        ("seconds", "s"),
        ("msec", "ms"),
        ("milliseconds", "ms"),
        ("min", "min"),
        ("hr", "h"),
        ("us", "µs"),
        ("\u03bcs", "µs"),
    ],
)
def test_spellings(spelling, symbol):
    assert canonical(spelling) == symbol
    assert parse_unit(spelling).symbol == symbol
    if "µ" in symbol:
        assert "\u00b5" in canonical(spelling)


@pytest.mark.parametrize("text", [None, "", "  ", "pixel", "Pixels", "px", "frame", "none", "\0"])
def test_no_unit(text):
    assert canonical(text) is None
    assert parse_unit(text) is None


def test_unknown_units_are_kept_as_they_are():
    assert canonical(" furlong ") == "furlong"
    assert parse_unit("furlong") is None


@given(st.text(max_size=12))
@example("0 \0")
@example("\0 um\0 ")
def test_canonical_is_idempotent(text):
    once = canonical(text)
    assert once is None or canonical(once) == once


@pytest.mark.parametrize("symbol", [*LENGTH, *TIME])
def test_every_unit_has_its_names(symbol):
    name = NGFF_NAMES[symbol]
    for spelling in (symbol, name, name + "s", name.upper(), f" {name} "):
        assert canonical(spelling) == symbol


def test_symbols_are_those_of_pint():
    pint = pytest.importorskip("pint")
    registry = pint.UnitRegistry()
    for symbol, unit in {**LENGTH, **TIME}.items():
        base = "meter" if unit.dimension == "length" else "second"
        if symbol != "pt":  # pint's pt is a pint
            assert registry.Quantity(1, symbol).to(base).magnitude == pytest.approx(unit.factor, rel=1e-6)


@given(st.floats(-1e12, 1e12), units, units)
def test_conversion_comes_back(value, a, b):
    if parse_unit(a).dimension != parse_unit(b).dimension:
        with pytest.raises(UnitsError, match="cannot convert"):
            convert(value, a, b)
        return
    assert convert(convert(value, a, b), b, a) == pytest.approx(value, rel=1e-6, abs=1e-300)
    assert convert(value, a, b) == pytest.approx(value * parse_unit(a).factor / parse_unit(b).factor, rel=1e-6)


@given(units)
def test_converting_a_unit_into_itself_changes_nothing(unit):
    assert convert(0.1, unit, unit) == 0.1


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (250, "nm", "µm", 0.25),
        (0.1, "mm", "µm", 100.0),
        (1e-6, "m", "µm", 1.0),
        (1, "in", "cm", 2.54),
        (0.5, "min", "s", 30.0),
        (65, "nm", "micron", 0.065),
        (1, "µm", "nm", 1000.0),
        (1500, "ms", "s", 1.5),
        (3, "Å", "nm", 0.3),
        (1, "d", "h", 24.0),
    ],
)
def test_known_conversions(value, unit, to, expected):
    assert convert(value, unit, to) == pytest.approx(expected, rel=1e-12)


def test_conversion_of_an_unknown_unit_says_what_is_known():
    with pytest.raises(UnitsError, match=r"'furlong'.*µm"):
        convert(1, "furlong", "µm")


@given(st.one_of(st.floats(), st.integers(), st.text(max_size=5), st.none(), st.booleans()))
def test_a_known_spacing_is_positive_and_finite(value):
    found = known_spacing(value)
    assert found is None or (found > 0 and math.isfinite(found) and found == float(value))


@pytest.mark.parametrize("value", [0, 0.0, -1, float("nan"), float("inf"), 1e308, 1e-300, None, "x", [1], ""])
def test_unknown_spacing(value):
    assert known_spacing(value) is None


def test_a_point_is_a_72nd_of_an_inch():
    assert convert(72, "pt", "in") == pytest.approx(1, rel=1e-12)
    assert convert(1, "ft", "in") == pytest.approx(12, rel=1e-12)


@pytest.mark.parametrize("nothing", [None, "", " \0"])
def test_a_unit_that_is_not_stated_has_a_default(nothing):
    assert unit_or(nothing, "nm") == "nm"
    assert unit_or("pixel", "nm") is None
    assert unit_or("um", "nm") == "µm"


DIFFER = [("um", "micron", False), ("px", "voxels", False), ("nm", "µm", True), ("s", "ms", True)]


@pytest.mark.parametrize(("one", "two", "different"), DIFFER)
def test_units_that_have_to_be_converted_differ(one, two, different):
    assert differ(one, two) is differ(two, one) is different
    for nothing in (None, "", "none"):
        assert differ(one, nothing) is differ(nothing, one) is False


@pytest.mark.parametrize(("one", "two"), [("px", "µm"), ("nm", "s"), ("furlong", "m"), ("px", "s")])
def test_units_that_do_not_convert(one, two):
    for pair in ((one, two), (two, one)):
        with pytest.raises(UnitsError):
            differ(*pair)
    with pytest.raises(UnitsError, match="pixels have no length" if one == "px" else "unit|convert"):
        differ(one, two)


def test_powers_are_spelled_as_pint_reads_them():
    assert [power("µm", n) for n in (-2, 0, 1, 2, 12)] == ["µm-²", None, "µm", "µm²", "µm¹²"]
    assert power(None, 2) is None


class Magnitude:
    """A quantity as pint has them."""

    def __init__(self, magnitude, units):
        self.magnitude, self.units = magnitude, units


class Astropy:
    """A quantity as astropy has them."""

    def __init__(self, value, unit):
        self.value, self.unit = value, unit

    def to(self, base):
        if base != "m":
            raise ValueError(base)
        return Astropy(self.value * 9.4607304725808e15, base)


class Only:
    """Something with a value that is not a quantity."""

    value, magnitude = 3.0, 4.0


@pytest.mark.parametrize("make", [Magnitude, Astropy])
def test_quantities_of_other_libraries(make):
    assert has_unit(make(2.0, "nm"))
    assert quantity(make(2, "nanometer")) == (2.0, "nm")
    assert quantity(make(2, "pixel")) == (2.0, "px")
    assert quantity(make(2, "dimensionless")) == (2.0, None)
    assert quantity(make(2, "")) == (2.0, None)
    assert quantity(make(np.float32(0.5), "um")) == (0.5, "µm")
    with pytest.raises(TypeError, match="not an array"):
        quantity(make(np.ones(2), "nm"))


def test_a_quantity_of_another_unit_converts_itself():
    found = quantity(Astropy(2.0, "lyr"))
    assert (found.value, found.unit) == (pytest.approx(1.8921460945161600e16), "m")
    with pytest.raises(UnitsError, match="expected a length"):
        quantity(Magnitude(2.0, "lyr"))


def test_numbers_and_other_objects_have_no_unit():
    assert not has_unit(3)
    assert not has_unit(Only())
    thing = Only()
    assert quantity(thing) == (thing, None)
    assert quantity(4) == (4, None)


@pytest.mark.parametrize("text", ["nm", "", "3", "3 4 nm", "a nm"])
def test_a_text_without_number_or_unit_is_refused(text):
    with pytest.raises(TypeError, match="expected a number"):
        quantity(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("3e2 nm", (300.0, "nm")), ("-.5um", (-0.5, "µm")), ("2 s", (2.0, "s")), ("2 none", (2.0, None))],
)
def test_a_text_is_a_number_and_a_unit(text, found):
    assert quantity(text) == found
    assert has_unit(text)


def test_a_spacing_states_its_unit():
    numbers, symbols = stated({"z": "300 nm", "y": 0.5, "x": "2 µm", "t": "abc"}, {"x": "nm"})
    assert numbers == {"z": 300.0, "y": 0.5, "x": pytest.approx(2000.0), "t": "abc"}
    assert symbols == {"x": "nm", "z": "nm"}
    assert stated({"y": "2 nm"}, {"y": "nm"}) == ({"y": 2.0}, {"y": "nm"})
    for wrong in ("2 px", "2 none"):
        with pytest.raises(UnitsError, match="spacing of 'y'"):
            stated({"y": wrong}, {})


@pytest.mark.parametrize("value", [2.5, "2.5", np.float32(2.5)])
def test_a_spacing_that_is_known(value):
    assert known_spacing(value) == 2.5


def test_a_picometre_is_a_thousandth_of_a_nanometre():
    assert convert(1, "nm", "pm") == pytest.approx(1000)
