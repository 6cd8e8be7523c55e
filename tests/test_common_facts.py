"""What files and scenes of one image must have in common: which facts are known, and when they disagree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.errors import AxesError
from intake_img.model.agreement import (
    OVERRULED,
    CommonFacts,
    Spaced,
    disagreement,
    facts_of,
    overruled_axes,
    silent_on,
)
from intake_img.model.image import Coordinate, Image
from intake_img.model.pixels import Pixels

NOTHING = dict.fromkeys(OVERRULED, frozenset())


def image(axes="tzyx", coords=None, **facts):
    shape = tuple(2 + k for k in range(len(axes)))
    return Image.single(Pixels.of(np.zeros(shape, "u1")), axes, coords=coords or {}, **facts)


def along(axis, values, **attrs):
    return {axis: Coordinate((axis,), np.asarray(values), attrs)}


def test_spacing_without_a_coordinate_is_known_by_axis():
    found = facts_of(image(spacing={"y": 2.0, "x": 0.0}, units={"y": "um"}, origin={"y": 5.0}), "tzyx")
    assert found == CommonFacts({"y": Spaced(2.0, "µm", 5.0)}, None)


def test_a_coordinate_of_two_samples_has_a_spacing():
    found = facts_of(image("yx", along("y", [3.0, 7.0], units="nm")), "yx")
    assert found.axes == {"y": Spaced(4.0, "nm", 3.0)}
    assert facts_of(image("yx", along("x", [9.0, 6.0, 3.0])), "yx").axes == {"x": Spaced(3.0, None, 9.0)}
    assert facts_of(image("yx", along("x", [9.0, 9.0, 3.0], spacing=0.5)), "yx").axes["x"].spacing == 0.5
    assert facts_of(Image.single(Pixels.of(np.zeros((1, 2))), "yx", coords=along("y", [3.0])), "yx").axes == {}


def test_a_coordinate_that_is_no_row_of_numbers_has_no_spacing():
    assert facts_of(image("yx", along("y", ["a", "b"], spacing=2.0)), "yx").axes == {}
    grid = {"y": Coordinate(("y", "x"), np.zeros((2, 3)), {"spacing": 2.0})}
    assert facts_of(image("yx", grid), "yx").axes == {}
    empty = Image.single(Pixels.of(np.zeros((0, 3))), "yx", coords=along("y", np.zeros(0), spacing=2.0))
    assert facts_of(empty, "yx").axes == {}


def test_of_times_only_a_stated_spacing_is_known_and_no_start():
    assert facts_of(image("ty", along("t", [1.0, 3.0], units="s")), "ty").axes == {}
    found = facts_of(image("ty", along("t", [1.0, 3.0], spacing=2.0, units="s")), "ty")
    assert found.axes == {"t": Spaced(2.0, "s", None)}
    assert facts_of(image("ty", spacing={"t": 2.0}, origin={"t": 7.0}), "ty").axes["t"].origin is None


def test_channel_names_are_known_along_c_alone():
    named = image("cyx", along("c", ["a", "b"]))
    assert facts_of(named, "cyx").channels == ("a", "b")
    assert facts_of(named, "yx").channels is None
    assert facts_of(image("cyx", {"c": Coordinate(("c", "y"), np.zeros((2, 3)))}), "cyx").channels is None


def test_what_the_user_states_is_named_as_the_file_names_it():
    found = overruled_axes({"axes": "zyx", "spacing": {"y": 1.0}, "spacing_units": "nm"}, "abc")
    assert found == {**NOTHING, "spacing": frozenset("b"), "spacing_units": frozenset("abc")}
    assert overruled_axes({"spacing": {"y": 1.0}}, "abc")["spacing"] == frozenset("y")
    assert overruled_axes({"axes": "yx", "spacing": {"y": 1.0}}, "abc")["spacing"] == frozenset("a")
    with pytest.raises(AxesError):
        overruled_axes({"axes": "yy"}, "ab")


spaced = st.builds(
    Spaced,
    st.sampled_from([1.0, 2.0, 1000.0]),
    st.sampled_from([None, "nm", "µm", "s"]),
    st.sampled_from([None, 0.0, 1.0]),
)
facts = st.builds(CommonFacts, st.dictionaries(st.sampled_from("zyx"), spaced), st.sampled_from([None, ("a",), ("b",)]))


@examples(200)
@given(facts, facts)
def test_agreement_and_silence_do_not_depend_on_the_order(one, two):
    assert disagreement(one, one, NOTHING) is None
    assert list(silent_on(one, one, NOTHING)) == []
    there, back = disagreement(one, two, NOTHING), disagreement(two, one, NOTHING)
    assert (there is None) == (back is None)
    assert sorted(silent_on(one, two, NOTHING)) == sorted(silent_on(two, one, NOTHING))


def pair(first, second):
    return CommonFacts({"x": first}), CommonFacts({"x": second})


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (Spaced(1.0, "µm", 0.0), Spaced(1000.0, "nm", 0.0), None),  # the same, in another unit
        (Spaced(1.0, "µm", 2.0), Spaced(1000.0, "nm", 2000.0), None),
        (Spaced(1.0, "µm", 2.0), Spaced(1000.0, "nm", 2.0), "origin of x"),
        (Spaced(1.0, "µm", 0.0), Spaced(1.0, "nm", 0.0), "unit of x"),
        (Spaced(1.0, "µm", 0.0), Spaced(1.0, "s", 0.0), "unit of x"),
        (Spaced(1.0, None, 0.0), Spaced(1.0, "nm", 0.0), None),
        (Spaced(1.0, None, 0.0), Spaced(2.0, "nm", 0.0), "spacing of x"),
        (Spaced(1.0, "nm", None), Spaced(1.0, "nm", 5.0), None),
        (Spaced(1.0, "nm", 5.0 + 5e-7), Spaced(1.0, "nm", 5.0), None),
        (Spaced(1.0, "nm", 1e-5), Spaced(1.0, "nm", 0.0), "origin of x"),
        (Spaced(1.0 + 5e-7, "nm", 0.0), Spaced(1.0, "nm", 0.0), None),
        (Spaced(1.0 + 1e-5, "nm", 0.0), Spaced(1.0, "nm", 0.0), "spacing of x"),
    ],
)
def test_facts_that_disagree_are_named(first, second, what):
    for one, two in ((first, second), (second, first)):
        found = disagreement(*pair(one, two), NOTHING)
        assert (found and found[0]) == what


@pytest.mark.parametrize("what", ["spacing", "spacing_units", "origin"])
def test_what_is_overruled_may_differ(what):
    other = {
        "spacing": Spaced(3.0, "nm", 0.0),
        "spacing_units": Spaced(1.0, "µm", 0.0),
        "origin": Spaced(1.0, "nm", 9.0),
    }
    facts = pair(Spaced(1.0, "nm", 0.0), other[what])
    assert disagreement(*facts, NOTHING) is not None
    assert disagreement(*facts, {**NOTHING, what: {"x"}}) is None
    assert disagreement(*facts, {**NOTHING, what: {"y"}}) is not None
    assert disagreement(*facts, {**NOTHING, "coords": {"x"}}) is None


def test_silence_is_named_unless_it_is_overruled():
    full, bare = CommonFacts({"x": Spaced(1.0, "nm", 0.0)}, ("a",)), CommonFacts({"x": Spaced(1.0, None, 0.0)})
    none = CommonFacts()
    assert list(silent_on(full, bare, NOTHING)) == ["the unit of x", "the channel names"]
    assert list(silent_on(none, full, NOTHING)) == ["the spacing of x", "the channel names"]
    assert list(silent_on(full, bare, {**NOTHING, "coords": {"c"}})) == ["the unit of x"]
    assert list(silent_on(full, bare, {**NOTHING, "spacing_units": {"x"}})) == ["the channel names"]
    for kind in ("spacing", "coords"):
        assert "the spacing of x" not in silent_on(none, full, {**NOTHING, kind: {"x"}})
    both = CommonFacts({}, ("a",)), CommonFacts({}, ("b",))
    assert disagreement(*both, NOTHING) == ("channel names", "['a']", "['b']")
    assert disagreement(*both, {**NOTHING, "coords": {"c"}}) is None
