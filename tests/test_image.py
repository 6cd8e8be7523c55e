"""The model: to and from xarray, overrides, parts, stacks, and the record with which a round trip loses nothing."""

from __future__ import annotations

import datetime
import enum
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.errors import AxesError, CannotWriteError
from intake_img.model.agreement import overruled_axes
from intake_img.model.datasets import coordinate, spacing_of
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.record import plain
from intake_img.model.selection import select
from intake_img.model.stacking import stacked
from intake_img.testing import assert_same, standard_datasets
from intake_img.testing.datasets import image_of, standard_dataset

# strategies

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def coordinates(draw, n):
    kind = draw(st.sampled_from(["even", "floats", "float32", "integers", "text", "dates", "none", "bools"]))
    if kind == "even":
        step, origin = draw(st.floats(1e-3, 1e3)), draw(st.floats(-1e4, 1e4))
        return origin + step * np.arange(n), {"units": "µm", "spacing": step}
    if kind == "floats":
        return draw(npst.arrays("float64", n)), {}
    if kind == "float32":
        return np.arange(n, dtype="float32"), {}
    if kind == "integers":
        return draw(npst.arrays(st.sampled_from(["int64", "uint8", "int16"]), n)), {}
    if kind == "text":
        return np.array(draw(st.lists(names, min_size=n, max_size=n)), dtype=object), {}
    if kind == "dates":
        return draw(npst.arrays("M8[ns]", n, elements=st.integers(0, 10**18).map(lambda k: np.datetime64(k, "ns")))), {}
    if kind == "bools":
        return draw(npst.arrays("bool", n)), {}
    return None


@st.composite
def datasets(draw):
    axes = draw(st.lists(st.sampled_from("itczyxhl"), min_size=1, max_size=4, unique=True))
    shape = tuple(draw(st.integers(1, 4)) for _ in axes)
    dtype = draw(st.sampled_from(["uint8", "uint16", "int32", "float32", "bool", "complex64"]))
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    ds = xr.Dataset({draw(st.sampled_from(["image", "labels", "a b"])): (axes, values)})
    for axis, n in zip(axes, shape, strict=True):
        if (coord := draw(coordinates(n))) is not None:
            ds = ds.assign_coords({axis: (axis, *coord)})
    ds.attrs.update(draw(st.dictionaries(names.filter(lambda k: k), json_values, max_size=3)))
    return ds


# the record


@examples(120)
@given(datasets())
def test_a_record_restores_everything(ds):
    image = Image.from_xarray(ds)
    record = json.loads(json.dumps(image.record(), allow_nan=False))
    bare = Image({"image": Variable(image.only.pixels, image.only.axes)})
    assert_same(bare.restored(record).to_xarray(chunks=None), ds)


@examples(60)
@given(datasets(), st.randoms(use_true_random=False))
def test_a_record_restores_what_was_stored_in_another_order(ds, random):
    """Axes of length one may be added or left out by the file, and the pixels transposed."""
    image = Image.from_xarray(ds)
    order = list(image.only.axes)
    random.shuffle(order)
    record = json.loads(json.dumps(image.record(stored_axes=order)))
    pixels = image.only.pixels.transpose([image.only.axes.index(a) for a in order])
    places = [k for k, n in enumerate(pixels.shape) if n != 1]
    places[random.randint(0, len(places)) : 0] = [None]
    stored = pixels.reshape(places)
    found = Image.single(stored, "uvwrs"[: stored.ndim]).restored(record)
    assert_same(found.to_xarray(chunks=None), ds.transpose(*order))


@pytest.mark.parametrize("what", list(standard_datasets()))
def test_standard_datasets_pass_through_the_model(what):
    ds = standard_dataset(what)
    image = Image.from_xarray(ds)
    assert_same(image.restored(json.loads(json.dumps(image.record()))).to_xarray(chunks=None), ds)


def _record(axes="yx", shape=(6, 5), dtype="u2", **y):
    coords = {"y": {"axes": ["y"], "dtype": "<f8", "attrs": {}, **y}} if y else {}
    facts = {"axes": list(axes), "shape": list(shape), "dtype": dtype, "attrs": {}}
    return {"variables": {"image": facts}, "coords": coords, "attrs": {}}


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        "text",
        {"version": 1},
        {"variables": {}, "coords": {}, "attrs": {}},
        _record("y", [6]),
        _record("yx", [6, 6]),
        _record("yy"),
        _record(dtype="no"),
        _record(dtype={}),
        _record(dtype=None),
        _record(start=0.0, step=1e308, size=6),
        _record(values=[1.0]),
        _record(values=[[1.0]] * 6),
        _record(start="x", step=1, size=6),
        _record(start=0, step=1, size=7),
        _record(start=0, step=1, size=10**13),
    ],
)
def test_a_record_that_does_not_fit_is_ignored(record):
    image = Image.from_xarray(image_of("yx", (6, 5), "uint16", y=(0.1, "µm")))
    assert image.restored(_record()) is not image
    assert image.restored(record) is image


def test_attributes_that_no_file_can_keep_are_refused():
    ds = image_of("yx", (6, 5), "uint16")
    ds.attrs["object"] = object()
    with pytest.raises(CannotWriteError, match="no file can keep"):
        Image.from_xarray(ds).record()


# to and from xarray


def test_spacing_and_origin_become_coordinates():
    pixels = Pixels.of(np.zeros((2, 3, 4), "uint8"))
    spacing, units = {"z": 0.3, "y": 0.0, "x": float("nan")}, {"z": "micron", "y": "µm"}
    image = Image.single(pixels, "zyx", spacing=spacing, units=units, origin={"z": 5.0})
    ds = image.to_xarray(uri="a", driver="b")
    np.testing.assert_array_equal(ds["z"].values, [5.0, 5.3])
    assert ds["z"].attrs == {"units": "µm", "spacing": 0.3}
    assert set(ds.coords) == {"z"}
    assert ds.img.spacing == {"z": 0.3}


@pytest.mark.parametrize(
    "values",
    [
        *(np.arange(3).astype(t) for t in ("u1", "i2", "i8", "f4", ">f8", "?", "c8", "m8[s]", "M8[ns]")),
        np.array([0.1, np.nan, np.inf]),
        np.array(["DAPI", "µ", "a long name"]),
        np.array(["DAPI", 3, None], dtype=object),
        np.array(["\ud800", "b", "c"]),
        np.array([b"a", b"bc", b"d"]),
        np.arange(6)[::-2],
    ],
    ids=lambda v: f"{v.dtype}-{v[0]!r}",
)
@pytest.mark.parametrize("axes", [("x",), ("y",)])
def test_a_coordinate_is_what_xarray_makes_of_its_values(values, axes):
    own = xr.Dataset({"image": (axes, values)}, {"x": coordinate("x", axes, values, {"a": 1})})
    usual = xr.Dataset({"image": (axes, values)}, {"x": xr.Variable(axes, values, {"a": 1})})
    xr.testing.assert_identical(own, usual)
    assert own.x.dtype == usual.x.dtype
    assert type(own.x.variable._data) is type(usual.x.variable._data)
    assert own.x.values.dtype == usual.x.values.dtype
    assert own.indexes.keys() == usual.indexes.keys()
    for name, index in own.indexes.items():
        assert index.equals(usual.indexes[name])
        assert index.dtype == usual.indexes[name].dtype


def test_order_chunks_and_attributes():
    image = Image.single(
        Pixels.of(np.zeros((3, 4, 2), "uint8")), "yxc", channels=["a", "b"], header={"k": np.float32(1)}
    )
    ds = image.to_xarray(chunks={"y": 2})
    assert ds["image"].dims == ("c", "y", "x")
    assert ds["image"].chunks == ((2,), (2, 1), (4,))
    assert (ds.attrs["original_axes"], ds.attrs["original_shape"]) == ("yxc", [3, 4, 2])
    assert json.loads(ds.attrs["fileheader"]) == {"k": 1.0}
    with pytest.raises(AxesError, match="chunks name the axis 'q'"):
        image.to_xarray(chunks={"q": 2})


@pytest.mark.parametrize(("ndim", "axes"), [(2, "yx"), (3, "zyx"), (4, "czyx"), (5, "tczyx"), (6, "itczyx")])
def test_arrays_without_names(ndim, axes):
    assert "".join(Image.from_xarray(np.zeros((1,) * ndim)).only.axes) == axes


def test_what_is_no_image():
    with pytest.raises(AxesError, match="has no names for its axes"):
        Image.from_xarray(np.zeros(3))
    with pytest.raises(TypeError, match="got list"):
        Image.from_xarray([1])
    with pytest.raises(CannotWriteError, match="no variable"):
        Image.from_xarray(xr.Dataset())
    with pytest.raises(CannotWriteError, match=r"2: a, b; select one"):
        _ = Image.from_xarray(xr.Dataset({"a": ("x", [1]), "b": ("x", [1])})).only


def test_a_data_array_keeps_its_name_and_attributes():
    array = image_of("zyx", (2, 6, 5), "uint16", z=(0.3, "µm"))["image"].rename("raw").assign_attrs(kind="labels")
    found = Image.from_xarray(array).to_xarray(chunks=None)
    xr.testing.assert_identical(found["raw"].compute(), array)
    assert "image" in Image.from_xarray(array.rename(None)).variables


@pytest.mark.parametrize(
    ("values", "attrs", "expected"),
    [
        ([0.0, 0.1, 0.2, 0.1 + 0.2], {}, 0.1),
        ([0, 2, 4], {}, 2.0),
        ([5.0], {"spacing": 0.3}, 0.3),
        ([5.0], {}, None),
        ([0.0, 1.0, 3.0], {"spacing": 1.0}, None),
        ([2.0, 1.0, 0.0], {}, None),
        ([0.0, 0.0], {}, None),
        ([0.0, 2.0], {"spacing": 1.0}, 2.0),
        ([0.0, np.nan, 2.0], {}, None),
        (["a", "b"], {}, None),
        ([], {"spacing": 0.5}, 0.5),
    ],
)
def test_spacing_of_a_coordinate(values, attrs, expected):
    found = spacing_of(xr.DataArray(np.asarray(values), dims="x", name="x", attrs=attrs))
    assert found == (None if expected is None else pytest.approx(expected))


# overrides


def test_overrides_take_the_place_of_facts():
    image = Image.from_xarray(image_of("cyx", (2, 6, 5), "uint16", c=["a", "b"], y=(0.1, "nm"), x=(0.1, "nm")))
    found = image.overruled(spacing={"y": 0.5}, spacing_units="µm", coords={"c": ["DAPI", "GFP"]}).to_xarray()
    np.testing.assert_array_equal(found["y"], 0.5 * np.arange(6))
    assert found["y"].attrs == {"units": "µm", "spacing": 0.5}
    assert found["c"].values.tolist() == ["DAPI", "GFP"]


def test_a_renamed_axis_forgets_what_was_known_of_it():
    image = Image.from_xarray(image_of("zyx", (2, 6, 5), "uint16", z=(0.3, "µm"), y=(0.1, "µm"), x=(0.1, "µm")))
    found = image.overruled(axes="tyx")
    assert found.only.axes == ("t", "y", "x")
    assert set(found.to_xarray().coords) == {"y", "x"}
    swapped = image.overruled(axes="zxy")
    assert set(swapped.to_xarray().coords) == {"z"}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"axes": "yx"}, "name 2 axes, but the array has 3"),
        ({"axes": "zyy"}, "repeat 'y'"),
        ({"spacing": {"t": 1}}, "spacing names the axis 't'"),
        ({"spacing": {"y": -1}}, "expected a positive number"),
        ({"spacing": {"y": "wide"}}, "expected a positive number"),
        ({"spacing_units": {"q": "µm"}}, "spacing_units names the axis 'q'"),
        ({"coords": {"z": [1, 2, 3]}}, r"shape \(3,\), but the axis has 2"),
        ({"coords": {"c": ["a"]}}, "coords names the axis 'c'"),
    ],
)
def test_overrides_that_do_not_fit(facts, words):
    image = Image.from_xarray(image_of("zyx", (2, 6, 5), "uint16"))
    with pytest.raises(ValueError, match=words):
        image.overruled(**facts)


# stacks and parts


def test_stacks_of_scenes():
    a, b = image_of("yx", (6, 5), "uint16", y=(0.1, "µm", 3.0)), image_of("yx", (6, 5), "uint8", y=(0.1, "µm", 9.0))
    one, two = (
        Image.single(Pixels.of(d["image"].values), "yx", spacing={"y": 0.1}, origin={"y": o}, scene=s)
        for d, o, s in ((a, 3.0, "A1"), (b, 9.0, "A2"))
    )
    ds = stacked([one, two]).to_xarray()
    assert ds["image"].dims == ("i", "y", "x")
    assert ds["image"].dtype == "uint16"
    assert ds["i"].values.tolist() == ["A1", "A2"]
    np.testing.assert_array_equal(ds["image"].values, [a["image"].values, b["image"].values])
    assert float(ds["y"][0]) == 0.0
    other = Image.single(Pixels.of(np.zeros((4, 5))), "yx", scene="A3")
    with pytest.raises(AxesError, match=r"'A3' yx \(4, 5\); load them one by one"):
        stacked([one, other])


def scene_of(name, *, spacing=0.1, unit="µm", channels=("DAPI",), times=(0.0, 1.0), exposure=(5.0,), **attrs):
    return Image(
        {"image": Variable(Pixels.of(np.zeros((2, 1, 4, 5), "u2")), tuple("tcyx"), {"gain": 2})},
        spacing={"y": spacing, "x": spacing},
        units={"y": unit, "x": unit},
        coords={
            "t": Coordinate(("t",), np.asarray(times), {"units": "s"}),
            "c": Coordinate(("c",), np.asarray(channels), {"color": attrs.pop("color", "red")}),
            "exposure": Coordinate(("c",), np.asarray(exposure), {"units": "ms"}),
        },
        scene=name,
        attrs=attrs,
    )


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"spacing": 0.5}, r"spacing of y is 0.1 µm in 'a', but 0.5 µm in 'b'.*metadata=\{'spacing'"),
        ({"unit": "mm"}, r"spacing_units|unit of y|spacing of y"),
        ({"channels": ("GFP",)}, r"channel names is \['DAPI'\] in 'a', but \['GFP'\] in 'b'.*'coords': \{'c'"),
    ],
)
def test_scenes_that_disagree_are_not_stacked(other, words):
    images = [scene_of("a"), scene_of("b", **other)]
    with pytest.raises(AxesError, match=words):
        stacked(images)
    known = {"spacing": {"y": 0.1, "x": 0.1}, "spacing_units": "µm", "coords": {"c": ["any"]}}
    whole = stacked(images, overruled_axes(known, "itcyx")).overruled(**known)
    assert (whole.channels, whole.spacing["y"]) == (["any"], 0.1)


def test_scenes_that_state_less_are_stacked_with_a_warning():
    full = scene_of("a")
    bare = replace(scene_of("b"), spacing={}, units={})
    for images, spacing in (([full, bare], 0.1), ([bare, full], None)):
        with pytest.warns(UserWarning, match="only one of them knows the spacing of x and the spacing of y"):
            whole = stacked(images)
        assert whole.spacing.get("y") == spacing


def test_scenes_of_other_variables_are_not_stacked():
    plain = scene_of("a")
    labelled = replace(plain, scene="b", variables={**plain.variables, "labels": plain.only})
    for images in ([plain, labelled], [labelled, plain]):
        with pytest.raises(AxesError, match=r"'labels' of '[ab]' is .*; load them one by one"):
            stacked(images)


def test_what_differs_between_scenes_lies_along_i(tmp_path):
    """Times, exposures and attributes of each scene are kept; values that all share are not repeated."""
    a = scene_of("a", taken="9:00", nested={"a": 1}, objective=20.0)
    b = scene_of("b", taken="9:05", nested={"a": 2}, objective=20.0, times=(2.0, 3.5), exposure=(7.0,), color="blue")
    ds = stacked([a, b]).to_xarray()
    assert ds["time"].dims == ("i", "t")
    assert ds["time"].values.tolist() == [[0.0, 1.0], [2.0, 3.5]]
    assert ds["time"].attrs["units"] == "s"
    assert ds["t"].values.tolist() == [0.0, 1.0]
    assert ds["exposure"].dims == ("i", "c")
    assert ds["exposure"].values.tolist() == [[5.0], [7.0]]
    assert ds["taken"].values.tolist() == ["9:00", "9:05"]
    assert "taken" not in ds.attrs
    assert "nested" not in ds.attrs
    assert ds.attrs["objective"] == 20.0
    assert ds["image"].attrs["gain"] == 2
    assert "color" not in ds["c"].attrs
    alike = stacked([a, replace(a, scene="b")]).to_xarray()
    assert "time" not in alike.coords
    assert alike.attrs["taken"] == "9:00"
    assert alike["exposure"].dims == ("c",)
    for name in ("a.zarr", "a.ome.tif", "a.npz"):
        imsave(ds, tmp_path / name)
        assert_same(imload(tmp_path / name), ds)


def test_positions_that_differ_leave_the_spacing():
    z = np.arange(3) * 0.5
    one, two = (
        Image.single(Pixels.of(np.zeros((3, 4, 5))), "zyx", scene=s, coords={"z": Coordinate(("z",), z + o, about)})
        for s, o, about in (("a", 0.0, {"units": "µm"}), ("b", 10.0, {"units": "µm"}))
    )
    ds = stacked([one, two]).to_xarray()
    assert ds["z"].values.tolist() == [0.0, 0.5, 1.0]
    assert (ds.img.spacing["z"], ds.img.units["z"]) == (0.5, "µm")


labelled = image_of(
    "tczyx", (4, 3, 5, 6, 7), "uint16", t=(0.5, "s", 1.0), c=["DAPI", "GFP", "RFP"], z=(0.2, "µm"), x=(0.1, "µm")
)
keys = st.one_of(
    st.integers(-1, 2),
    st.slices(3),
    st.lists(st.integers(-1, 2), min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
)


@examples(100)
@given(st.dictionaries(st.sampled_from("tczyx"), keys, max_size=4))
def test_a_part_is_what_isel_gives(indexers):
    ds = labelled.isel(dict.fromkeys("tczyx", slice(0, 3)))
    part, dropped = select(Image.from_xarray(ds), indexers)
    expected = ds.isel(
        {a: np.flatnonzero(k) if isinstance(k, list) and isinstance(k[0], bool) else k for a, k in indexers.items()}
    )
    found = part.to_xarray(chunks=None).isel(dropped).drop_attrs(deep=False)
    xr.testing.assert_identical(found.compute(), expected)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"c": "GFP"}, {"c": 1}),
        ({"c": ["RFP", "DAPI"]}, {"c": [2, 0]}),
        ({"c": slice("DAPI", "GFP")}, {"c": slice(0, 2)}),
        ({"c": slice("GFP", None)}, {"c": slice(1, 3)}),
        ({"t": 1.5}, {"t": 1}),
        ({"t": slice(1.5, 2.0)}, {"t": slice(1, 3)}),
        ({"t": slice(None, 1.99)}, {"t": slice(0, 2)}),
        ({"z": slice(0.2, 0.6)}, {"z": slice(1, 4)}),
        ({"z": 0.6000000001}, {"z": 3}),
        ({"t": [1.0, 2.5], "c": -1}, {"t": [0, 3], "c": 2}),
        ({"y": range(2, 4)}, {"y": [2, 3]}),
        ({"y": np.array([1, 5])}, {"y": [1, 5]}),
        ({"y": slice(4, None, -2)}, {"y": slice(4, None, -2)}),
    ],
)
def test_labels_and_indices(key, expected):
    part, dropped = select(Image.from_xarray(labelled), key)
    found = part.to_xarray(chunks=None).isel(dropped).drop_attrs(deep=False)
    xr.testing.assert_identical(found.compute(), labelled.isel(expected))


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ({"q": 0}, AxesError, "names the axis 'q', but the image has 'tczyx'"),
        ({"c": "Cy5"}, LookupError, "'c': no label 'Cy5'; there are DAPI, GFP, RFP"),
        ({"c": 3}, LookupError, "'c': index 3 is out of range for 3"),
        ({"c": [0, -4]}, LookupError, "'c': index -4"),
        ({"t": 1.2}, LookupError, "'t': no label 1.2; there are 1.0, 1.5"),
        ({"y": "a"}, LookupError, "'y': there is no label 'a', the axis has no coordinate"),
        ({"y": 0.5}, LookupError, "no coordinate"),
        ({"c": slice("DAPI", "Cy5")}, LookupError, "no label 'Cy5'"),
        ({"c": True}, LookupError, "expected an index or a label, got True"),
    ],
)
def test_parts_that_are_not_there(key, error, words):
    with pytest.raises(error, match=words):
        select(Image.from_xarray(labelled), key)


# plain


class Colour(enum.IntEnum):
    RED = 1


class Letter(str):
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        ((1, {2: "b"}), [1, {"2": "b"}]),
        ({1}, [1]),
        (b"abc\0", "abc"),
        (b"\xff\xfe", "base64://4="),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (np.datetime64("2024-02-29"), "2024-02-29"),
        (Path("a/b"), "a/b"),
        (Colour.RED, 1),
        (Letter("x"), "x"),
        (None, None),
    ],
)
def test_plain(value, expected):
    found = plain(value, strict=True)
    assert found == expected
    assert type(found) is type(expected)
    json.dumps(found)


@given(json_values)
def test_plain_keeps_what_is_plain(value):
    assert plain(value, strict=True) == value


def test_coordinates_may_span_axes():
    image = Image.single(
        Pixels.of(np.zeros((2, 3, 4))), "tcx", coords={"when": Coordinate(("t", "c"), np.ones((2, 3)))}
    )
    ds = image.to_xarray()
    assert ds["when"].dims == ("t", "c")


@given(
    st.sampled_from([1e-9, 0.1, 0.25, 3.0, 1e12, float("nan"), -1.0]),
    st.sampled_from([0.0, 0.5, -7.25, 1e6, 1e9, 1e16, float("inf")]),
    st.sampled_from([1, 2, 5, 300]),
    st.sampled_from([None, [0.0, 0.5, 1.0, 1.5, 2.0], [0.0, 0.5, 1.0, 1.5, 9.0], [0, 2, 4, 6, 8], list("abcde")]),
)
def test_steps_are_those_of_the_coordinates(spacing, origin, count, values):
    pixels = Pixels.of(np.zeros((2, count, 5)))
    image = Image.single(pixels, "cyx", spacing={"y": spacing, "c": 2.0}, origin={"y": origin})
    if values is not None:
        image = replace(image, coords={"x": Coordinate(("x",), np.array(values), {"spacing": 0.5})})
    known = {a: spacing_of(xr.DataArray(c, name=a)) for a, c in image.coordinates().items()}
    assert image.steps() == {a: step for a, step in known.items() if step is not None}


@pytest.mark.parametrize("length", [2**31, 2**40, 2**62])
def test_axes_as_a_damaged_header_states_them_take_no_memory(length):
    """A sparse store may state any shape, which no pixels contradict."""
    pixels = Pixels(None, (5, length), np.dtype("u1"), (5, 2**20))
    image = Image.single(pixels, "yx", spacing={"y": 0.1, "x": 0.1}, units={"x": "nm"}, origin={"y": 0.7})
    with pytest.warns(UserWarning, match=f"the axis 'x' of {length} samples is too long for coordinates"):
        ds = image.to_xarray(chunks=None)
    assert dict(ds.sizes) == {"y": 5, "x": length}
    assert list(ds.coords) == ["y"]
    np.testing.assert_array_equal(ds.y, 0.7 + 0.1 * np.arange(5))
