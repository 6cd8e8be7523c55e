"""What files and scenes of one image must have in common: known facts, disagreement, and stacks of scenes."""

from __future__ import annotations

from dataclasses import replace

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
from intake_img.model.stacking import stacked

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
    assert overruled_axes({"spacing": {"y": 1.0}}, "abc") == {**NOTHING, "spacing": frozenset("y")}
    assert overruled_axes({"spacing_units": {"y": "nm"}}, "yx") == {**NOTHING, "spacing_units": frozenset("y")}
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


# stacks


def scene(name, coords=None, shape=(2, 3, 4), **attrs):
    pixels = Pixels.of(np.zeros(shape, "u1"))
    return Image.single(pixels, "tyx", coords=coords or {}, scene=name, attrs=attrs)


def coordinate(axes, values, **attrs):
    return Coordinate(tuple(axes), np.asarray(values), attrs)


def test_a_coordinate_that_differs_lies_along_i_and_times_beside_it():
    times = [coordinate("t", v, units="s") for v in ([0.0, 1.0], [5.0, 6.0])]
    dose = [coordinate("t", v, units="J") for v in ([1, 2], [3, 4])]
    whole = stacked([scene(n, {"t": t, "dose": d}) for n, t, d in zip("ab", times, dose, strict=True)])
    assert whole.coords["t"].values.tolist() == [0.0, 1.0]
    assert (whole.coords["time"].axes, whole.coords["time"].values.tolist()) == (("i", "t"), [[0, 1], [5, 6]])
    assert (whole.coords["dose"].axes, whole.coords["dose"].values.tolist()) == (("i", "t"), [[1, 2], [3, 4]])
    same = stacked([scene(n, {"t": times[0], "dose": dose[0]}) for n in "ab"])
    assert same.coords.keys() == {"t", "dose", "i"}
    assert same.coords["dose"].axes == ("t",)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"dose": coordinate("y", [1, 2, 3])},  # along another axis
        {"dose": coordinate("", 1)},  # of another shape
    ],
)
def test_a_coordinate_that_scenes_do_not_share_is_dropped(other):
    first = {"dose": coordinate("t", [1, 2])}
    for images in ([scene("a", first), scene("b", other)], [scene("b", other), scene("a", first)]):
        assert stacked(images).coords.keys() == {"i"}


def test_positions_along_an_axis_in_space_that_differ_are_dropped():
    one, two = (scene(n, {"y": coordinate("y", v, spacing=2.0)}) for n, v in (("a", [0, 2, 4]), ("b", [6, 8, 10])))
    whole = stacked([one, two])
    assert whole.coords.keys() == {"i"}
    assert whole.spacing == {"y": 2.0}


@pytest.mark.parametrize(
    ("one", "two", "along"),
    [
        (1, 2, True),
        ("a", "b", True),
        (1.5, 2.5, True),
        (1, 1.0, False),  # of two types
        (True, 1, False),
        (True, False, False),
        ([1], [2], False),
        (np.arange(2), np.arange(1, 3), False),
    ],
)
def test_an_attribute_that_differs_lies_along_i_if_it_is_text_or_a_number(one, two, along):
    whole = stacked([scene("a", gain=one), scene("b", gain=two)])
    assert "gain" not in whole.attrs
    assert ("gain" in whole.coords) is along
    assert not along or whole.coords["gain"].values.tolist() == [one, two]


@pytest.mark.parametrize("value", [1, "a", [1, 2], np.arange(3)])
def test_an_attribute_that_is_shared_stays(value):
    whole = stacked([scene("a", gain=value, of_a=1), scene("b", gain=value)])
    assert whole.attrs.keys() == {"gain"}
    np.testing.assert_array_equal(whole.attrs["gain"], value)
    assert whole.coords.keys() == {"i"}


def test_what_one_scene_lacks_is_named():
    plain = scene("a")
    more = replace(plain, scene="b", variables={**plain.variables, "labels": plain.only})
    for images in ([plain, more], [more, plain]):
        with pytest.raises(AxesError, match=r"'labels' of '.' is .*missing"):
            stacked(images)
    with pytest.raises(AxesError, match=r"'image' of 'a' is tyx \(2, 3, 4\), of 'b' tyx \(2, 3, 5\)"):
        stacked([plain, scene("b", shape=(2, 3, 5))])
    with pytest.raises(AxesError, match="an axis 'i' already"):
        stacked([Image.single(Pixels.of(np.zeros((2, 3, 4))), "iyx")])


def test_a_coordinate_along_another_axis_of_the_same_length_is_dropped():
    one = scene("a", {"dose": coordinate("t", [1, 2, 3])}, shape=(3, 3, 4))
    two = scene("b", {"dose": coordinate("y", [1, 2, 3])}, shape=(3, 3, 4))
    for images in ([one, two], [two, one]):
        assert stacked(images).coords.keys() == {"i"}
