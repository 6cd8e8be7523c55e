"""Laws of ``map``: func sees real planes only, when they are computed; chunks with depth change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import CHUNKINGS, Source, cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401


def gauss(plane, sigma=2):
    return ndimage.gaussian_filter(plane.astype(float), sigma)


def multiply(plane, by):
    return plane * plane.dtype.type(by)


@pytest.fixture
def answers(expected):
    return np.load(expected / "processing" / "map_image.npz")


@pytest.fixture
def planes(answers):
    return stack(answers["A"], "cyx", {"c": 1, "y": 20, "x": 25}, c=["c0", "c1"])


@pytest.fixture
def volume(answers):
    return stack(answers["Z"], "czyx", {"c": 1, "y": 20}, c=["c0", "c1"], z=[0.5, 1.5, 2.5])


# known answers


@pytest.mark.parametrize("chunks", [{}, {"c": 1}, {"c": 1, "z": 2, "y": 13, "x": 9}, {"z": 1, "y": 1}, {"x": 7}])
@pytest.mark.parametrize("flip", [False, True])
def test_known_multiplied_by_channel_and_slice(answers, chunks, flip):
    image = stack(answers["Z"], "czyx", chunks, c=["c0", "c1"], z=[0.5, 1.5, 2.5])
    keyed = {
        "c1": {2.5: {"by": 6}, 0.5: {"by": 4}, 1.5: {"by": 5}},
        "c0": {0.5: {"by": 1}, 1.5: {"by": 2}, 2.5: {"by": 3}},
    }
    if flip:
        keyed = {z: {c: keyed[c][z] for c in keyed} for z in keyed["c0"]}
    for by in (None, ("z", "c") if flip else ("c", "z")):
        found = image.img.map(multiply, keyed, by=by)
        np.testing.assert_array_equal(found, answers["mul_cz"])
        assert found.dtype == np.uint16
    xr.testing.assert_identical(found.coords.to_dataset(), image.coords.to_dataset())


def test_known_multiplied_by_slice(answers, volume):
    found = volume.img.map(multiply, {0.5: {"by": 0}, 1.5: {"by": 1}, 2.5: {"by": 2}})
    np.testing.assert_array_equal(found, answers["mul_z"])


@pytest.mark.parametrize("chunks", [(20, 25), 7, 1, -1, "auto", {"y": 3}, (1, 11, 50)])
@pytest.mark.parametrize("boundary", ["none", "reflect"])
def test_known_gaussian_with_depth(answers, planes, chunks, boundary):
    found = planes.img.map(gauss, chunks=chunks, depth=8, boundary=boundary, dtype=float)
    _same_within_bits(found, [gauss(plane) for plane in answers["A"]], answers["gauss2_chunk20x25_depth8"])


def _same_within_bits(found, here, known):
    """Equal to scipy's here; numpy's exp, which computes the weights, differs by a bit between processors."""
    np.testing.assert_array_equal(found, here)
    np.testing.assert_array_max_ulp(np.asarray(found), known, 8)


def test_known_gaussian_for_each_channel(answers, planes):
    keyed = {"c1": {"sigma": 3}, "c0": {"sigma": 1}}
    for depth in (12, (12, 12), [12, 12], {"y": 12, "x": 12}, {0: 12, 1: 12}, np.int64(12)):
        found = planes.img.map(gauss, keyed, depth=depth, dtype=float)
        here = [gauss(plane, sigma) for plane, sigma in zip(answers["A"], (1, 3), strict=True)]
        _same_within_bits(found, here, answers["gauss_per_channel_1_3_depth12"])


def test_known_function_for_each_channel(answers, planes):
    found = planes.img.map({"c1": lambda b: b * 3, "c0": lambda b: b + 5})
    np.testing.assert_array_equal(found, answers["func_per_channel"])


# laws


@examples(40)
@given(data=st.data())
def test_depth_makes_chunks_equal_the_whole(data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 30)))
    chunks = dict(zip("tyx", data.draw(st.tuples(*[cuts(n) for n in shape])), strict=True))
    depth = data.draw(st.tuples(st.integers(4, 9), st.integers(4, 9)))
    boundary, mode = data.draw(
        st.sampled_from(
            [
                ("none", "reflect"),
                ("none", "mirror"),
                ("reflect", "reflect"),
                ("mirror", "mirror"),
                ("nearest", "nearest"),
                ("wrap", "wrap"),
                ("periodic", "wrap"),
                (7, "constant"),
            ]
        )
    )
    if min(shape[1:]) == 1:
        boundary, mode = ("none", "reflect")
    values = np.random.default_rng(1).random(shape)
    found = stack(values, chunks=chunks).img.map(
        lambda p: ndimage.gaussian_filter(p, 1, mode=mode if boundary == "none" else "nearest"),
        depth=depth,
        boundary=boundary,
    )
    wanted = np.stack([ndimage.gaussian_filter(v, 1, mode=mode, cval=7) for v in values])
    np.testing.assert_array_equal(found.compute(scheduler="sync"), wanted)


@examples(30)
@given(data=st.data())
def test_a_region_with_depth_is_a_part_of_the_whole(data):
    values = np.random.default_rng(1).random((2, 25, 31))
    chunks = dict(zip("tyx", data.draw(st.tuples(cuts(2), cuts(25), cuts(31))), strict=True))
    y = sorted(data.draw(st.lists(st.integers(0, 25), min_size=2, max_size=2, unique=True)))
    x = sorted(data.draw(st.lists(st.integers(0, 31), min_size=2, max_size=2, unique=True)))
    image = stack(values, chunks=chunks)
    found = image.img.map(lambda p: ndimage.gaussian_filter(p, 1), depth=4, crd=(*x, *y))
    wanted = np.stack([ndimage.gaussian_filter(v, 1) for v in values])[:, slice(*y), slice(*x)]
    np.testing.assert_array_equal(found.compute(scheduler="sync"), wanted)
    again = image.img.map(lambda p: ndimage.gaussian_filter(p, 1), depth=4, region={"y": y, "x": x})
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_func_sees_planes_volumes_or_harpy_blocks(chunks):
    values = np.random.default_rng(1).integers(0, 99, (2, 2, 3, 8, 9)).astype("u2")
    image = stack(values, "tczyx", chunks)

    def seen(*shape):
        def check(block):
            assert type(block) is np.ndarray
            assert block.shape == shape
            return block + 1

        return check

    for options, shape in (
        ({}, (8, 9)),
        ({"core_dims": "zyx"}, (3, 8, 9)),
        ({"keep_unit_dims": True}, (1, 1, 8, 9)),
        ({"core_dims": ("x", "y")}, (9, 8)),
    ):
        found = image.img.map(seen(*shape), blockwise=False, **options)
        assert found.dims == image.dims
        np.testing.assert_array_equal(found, values + 1)


def test_chunks_are_handed_over_one_by_one():
    image = stack(np.arange(80.0).reshape(8, 10), "yx", {"y": 4, "x": 5})
    found = image.img.map(lambda b: b - b.mean())
    assert abs(float(found[:4, :5].mean())) < 1e-12
    np.testing.assert_allclose(image.img.map(lambda b: b - b.mean(), blockwise=False), image - image.values.mean())


def test_keys_are_numbers_along_the_other_axes():
    image = stack(np.zeros((5, 2, 4, 6), int), "tcyx", {"t": 2, "y": 3, "x": 4})
    found = image.img.map(lambda pair: pair[1] + 10 * pair[0][0] + pair[0][1], with_keys=True)
    np.testing.assert_array_equal(
        found, np.broadcast_to((10 * np.arange(5)[:, None] + [0, 1])[..., None, None], image.shape)
    )


# shapes and types


def test_dtype_is_checked_given_inferred_or_known_of_a_ufunc():
    image = stack(np.ones((2, 4, 6), "u2"), chunks={"t": 1})
    with pytest.raises(TypeError, match="func returned float64, expected uint16: pass dtype='float64'"):
        image.img.map(lambda b: b / 2).compute()
    assert image.img.map(lambda b: b / 2, dtype="f4").dtype == np.float32
    assert image.img.map(lambda b: b / 2, dtype="f4").compute().dtype == np.float32
    assert image.img.map(lambda b: b / 2, meta=np.empty((0, 0), "f8")).compute().dtype == np.float64
    assert image.img.map(np.sqrt).dtype == image.img.map(np.sqrt).compute().dtype == np.sqrt(np.ones(1, "u2")).dtype
    calls = []
    inferred = image.img.map(lambda b: (calls.append(b.shape), b > 0)[1], dtype="infer")
    assert inferred.dtype == bool
    assert calls == [(4, 6)]  # one real plane
    with pytest.raises(TypeError, match="func returned float64"):
        image.img.map(lambda b: b / 2, dtype="u2").compute()


def test_functions_may_change_shapes():
    values = np.random.default_rng(1).random((3, 8, 10))
    image = stack(values, chunks={"t": 1, "y": 4, "x": 5}, y=np.arange(8) * 2.0)
    smaller = image.img.map(lambda b: b[::2, ::5], output_sizes={"y": 4, "x": 2})
    assert smaller.shape == (3, 4, 2)
    assert "y" not in smaller.coords
    np.testing.assert_array_equal(smaller, values[:, ::2, ::5])
    histogram = image.img.map(lambda b: np.histogram(b, 5)[0], output_sizes={"bin": 5}, blockwise=False, dtype=int)
    assert histogram.dims == ("t", "bin")
    np.testing.assert_array_equal(histogram, [np.histogram(v, 5)[0] for v in values])
    scalar = image.img.map(np.max, output_sizes={}, blockwise=False)
    assert scalar.dims == ("t",)
    np.testing.assert_array_equal(scalar, values.max(axis=(1, 2)))
    with pytest.raises(ValueError, match="output_sizes="):
        image.img.map(lambda b: b[::2]).compute()
    with pytest.raises(ValueError, match="blockwise=False"):
        image.img.map(np.max, output_sizes={})
    with pytest.raises(ValueError, match="whole numbers"):
        image.img.map(lambda b: b, output_sizes={"y": 5, "x": 10})


@pytest.mark.parametrize("chunks", [None, {"t": 1}, {"t": 1, "y": 4, "x": 5}])
@pytest.mark.parametrize(
    ("func", "sizes"),
    [
        (lambda b: b[::2], {"y": 5, "x": 10}),
        (lambda b: b[::2], {"x": 8, "y": 10}),
        (lambda b: b[::2], {"y": 5}),
        (lambda b: b.sum(), {"y": 5}),
        (lambda b: b[0, :2], {"k": 3}),
        (lambda b: b[:1, :1], {}),
    ],
)
def test_shapes_that_are_not_those_announced_are_refused(func, sizes, chunks):
    image = stack(np.ones((3, 8, 10)), chunks=chunks)
    with pytest.raises(ValueError, match=r"func returned shape .* expected \(.*\), from output_sizes="):
        image.img.map(func, output_sizes=sizes, blockwise=False).sum().compute()


def test_depth_larger_than_chunks_is_exact():
    values = np.random.default_rng(1).random((40, 50)) * 1000
    for chunk in (1, 3, 20):
        found = stack(values, "yx", {"y": chunk, "x": chunk}).img.map(gauss, depth=30)
        np.testing.assert_array_equal(found, gauss(values))


# keys


def test_missing_keys():
    values = np.ones((3, 2, 4, 5), "u2")
    image = stack(values, "czyx", {"c": 1}, c=["a", "b", "d"])
    some = {"d": {"by": 3}, "a": {"by": 2}}
    with pytest.raises(ValueError, match="have no entry for c=b"):
        image.img.map(multiply, some)
    assert image.img.map(multiply, some, missing="copy").values[:, 0, 0, 0].tolist() == [2, 1, 3]
    dropped = image.img.map(multiply, some, missing="drop")
    assert dropped["c"].values.tolist() == ["a", "d"]
    assert dropped.values[:, 0, 0, 0].tolist() == [2, 3]
    nested = {"a": {0: {"by": 5}}, "b": {1: {"by": 6}}}
    assert image.img.map(multiply, nested, by=("c", "z"), missing="copy").values[..., 0, 0].tolist() == [
        [5, 1],
        [1, 6],
        [1, 1],
    ]
    with pytest.raises(ValueError, match="cannot be dropped alone"):
        image.img.map(multiply, nested, missing="drop")
    ds = xr.Dataset({"image": image}).img.map(multiply, some, missing="drop")
    assert ds.sizes["c"] == 2


def test_mixed_nesting_and_functions():
    image = stack(np.ones((2, 2, 3, 4), "u2"), "czyx", {}, c=["a", "b"], z=[0.5, 1.5])
    mixed = {"a": {0.5: {"by": 2}, 1.5: {"by": 3}}, "b": {"by": 7}}
    assert image.img.map(multiply, mixed).values[..., 0, 0].tolist() == [[2, 3], [7, 7]]
    functions = {"b": multiply, "a": {0.5: multiply, 1.5: lambda b, by: b + np.uint16(by)}}
    assert image.img.map(functions, {"by": 5}).values[..., 0, 0].tolist() == [[5, 6], [5, 5]]
    assert image.img.map(functions, mixed).values[..., 0, 0].tolist() == [[2, 4], [7, 7]]


def test_ordinary_arguments_that_look_like_keys():
    image = stack(np.ones((2, 3, 4)), "cyx", {}, c=["sigma", "b"])
    found = image.img.map(lambda b, opts: b * opts["a"], {"opts": {"a": 2}})
    assert float(found[0, 0, 0]) == 2
    assert float(image.img.map(lambda b, sigma: b * sigma, {"sigma": 3})[0, 0, 0]) == 3
    assert float(image.img.map(lambda b: b + 1)[0, 0, 0]) == 2
    assert float(image.img.map(lambda b: b + 1, {})[0, 0, 0]) == 2
    assert (
        float(
            image.img.map(lambda b, opts: b * opts["b"], {"sigma": {"opts": {"b": 4}}, "b": {"opts": {"b": 5}}})[
                1, 0, 0
            ]
        )
        == 5
    )


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"func": 3}, TypeError, "func=3"),
        ({"func": {"c0": 3}}, TypeError, "func contains 3"),
        ({"fn_kwargs": [1]}, TypeError, r"fn_kwargs=\[1\]"),
        ({"fn_kwargs": {0: {"by": 1}, 1: {"by": 1}}, "func": multiply}, ValueError, "name it with by="),
        ({"fn_kwargs": {"c0": {"by": 1}, "c7": {"by": 1}}, "func": multiply}, ValueError, "'c7'.*'c0', 'c1'"),
        ({"fn_kwargs": {"c7": {"by": 1}}, "by": "c", "func": multiply}, ValueError, "'c7'.*'c0', 'c1'"),
        ({"fn_kwargs": {"by": 1}, "by": "c", "func": multiply}, ValueError, "by='c'"),
        ({"fn_kwargs": {"c0": {"by": 1}}, "by": "y", "func": multiply}, ValueError, "by='y'"),
        ({"fn_kwargs": {3: 1}}, ValueError, "key 3"),
        ({"missing": "skip"}, ValueError, "missing='skip'"),
        ({"core_dims": ("q",)}, ValueError, "core_dims"),
        ({"core_dims": ("y", "y")}, ValueError, "repeat"),
        ({"keep_unit_dims": True, "core_dims": "zyx"}, ValueError, "keep_unit_dims"),
        ({"depth": -1}, ValueError, "depth=-1"),
        ({"depth": 1.5}, TypeError, "depth=1.5"),
        ({"depth": (1, 2, 3)}, ValueError, "has 3 values"),
        ({"depth": {"z": 1}}, ValueError, "'z'"),
        ({"depth": {2: 1}}, ValueError, "number 2"),
        ({"depth": 1, "blockwise": False}, ValueError, "blockwise=False"),
        ({"depth": 1, "boundary": "symmetric"}, ValueError, "boundary='symmetric'"),
        ({"boundary": "reflect"}, ValueError, "needs depth="),
        ({"depth": 1, "output_sizes": {"y": 1, "x": 1}}, ValueError, "output_sizes and depth"),
        ({"chunks": 0}, ValueError, r"chunks\['y'\]=0"),
        ({"chunks": {"q": 1}}, ValueError, "'q'"),
        ({"chunks": (1, 2, 3, 4, 5, 6)}, ValueError, "chunks="),
        ({"crd": (0, 1)}, ValueError, r"crd=\(0, 1\)"),
        ({"crd": (90, 99, 0, 5)}, ValueError, "contains no pixel"),
        ({"crd": (5, 2, 0, 5)}, ValueError, "must not be greater"),
        ({"region": {"q": (0, 1)}}, ValueError, "'q'"),
        ({"region": {"x": 3}}, ValueError, r"region\['x'\]=3"),
        ({"crd": (0, 1, 0, 1), "region": {"x": (0, 1)}}, ValueError, "give one"),
        ({"crd": (0, 1, 0, 1), "coordinate_system": "world"}, ValueError, "coordinate_system='world'"),
        ({"crd": (0, 1, 0, 1), "coordinate_system": "physical"}, ValueError, "has no coordinate"),
        ({"output": "new"}, ValueError, "output='new'.*DataArray"),
        ({"meta": 3}, TypeError, "meta=3"),
        ({"units": "um"}, ValueError, "units='um'"),
        ({"depth": 1.0, "units": "physical"}, ValueError, "spacing of axis"),
        ({"output_sizes": 3}, TypeError, "output_sizes=3"),
    ],
)
def test_wrong_arguments_are_named(options, error, says):
    image = stack(np.zeros((2, 2, 3, 8, 9), "u2"), "tczyx", {}, c=["c0", "c1"])
    with pytest.raises(error, match=says):
        image.img.map(options.pop("func", lambda b: b), **options)


# regions and coordinates


def test_physical_regions_and_depth():
    values = np.random.default_rng(1).random((12, 30))
    coords = {"y": ("y", 3 + np.arange(12) * 0.5, {"units": "µm", "spacing": 0.5}), "x": ("x", np.arange(30) * 0.25)}
    image = stack(values, "yx", {"y": 4, "x": 7}, **coords)
    found = image.img.map(
        gauss, depth=4.0, units="physical", region={"y": (4.0, 6.0), "x": (1.0, 3.1)}, coordinate_system="physical"
    )
    np.testing.assert_array_equal(found, gauss(values)[2:7, 4:13])
    assert found["y"].values.tolist() == [4.0, 4.5, 5.0, 5.5, 6.0]
    assert found["y"].attrs == {"units": "µm", "spacing": 0.5}


def test_pixel_centres_decide():
    image = stack(np.arange(20).reshape(1, 20), "yx", {})
    assert image.img.map(lambda b: b, region={"x": (3.6, 10.4)}).values[0].tolist() == [4, 5, 6, 7, 8, 9]
    assert image.img.map(lambda b: b, region={"x": (3, 10)}).values[0].tolist() == list(range(3, 10))


def test_a_region_cuts_labels_of_a_dataset():
    ds = xr.Dataset(
        {"image": stack(np.ones((8, 9)), "yx", {}), "labels": (("y", "x"), np.ones((8, 9), int), {"kind": "labels"})}
    )
    found = ds.img.map(lambda b: b, crd=(1, 4, 2, 8))
    assert dict(found.sizes) == {"y": 6, "x": 3}


# output


def test_output_is_a_further_variable():
    ds = xr.Dataset({"image": stack(np.ones((8, 9)), "yx", {}, y=np.arange(8.0))}, attrs={"uri": "a"})
    found = ds.img.map(lambda b: b + 1, output="more")
    assert list(found.data_vars) == ["image", "more"]
    assert float(found["more"].max()) == 2
    assert list(ds.data_vars) == ["image"]
    with pytest.raises(ValueError, match="overwrite=True"):
        found.img.map(lambda b: b, output="image")
    one = ds.img.map(lambda b: b + 5, output="image", overwrite=True)
    assert float(one["image"].max()) == 6
    with pytest.raises(ValueError, match="does not align with the other"):
        ds.img.map(lambda b: b, crd=(0, 3, 0, 3), output="part")


def test_pyramids_of_the_result(tmp_path):
    ds = xr.Dataset({"image": stack(np.arange(25.0).reshape(5, 5), "yx", {"y": 2}, y=np.arange(5.0), x=np.arange(5.0))})
    tree = ds.img.map(lambda b: b * 2, scale_factors=[2])
    assert list(tree.children) == ["scale0", "scale1"]
    np.testing.assert_array_equal(tree["scale1"]["image"], [[6, 10], [26, 30]])
    assert tree["scale1"]["x"].values.tolist() == [0.5, 2.5]


# laziness


def test_nothing_is_read_and_func_not_called_before_it_is_asked_for():
    calls = []

    def func(block):
        calls.append(block.shape)
        return block

    refusing = Source(np.ones((3, 20, 22)), refuse=True)
    image = refusing.image("tyx", (1, 10, 11))
    for options in (
        {},
        {"depth": 3},
        {"blockwise": False},
        {"crd": (1, 5, 2, 7)},
        {"scale_factors": [2]},
        {"dtype": "f4"},
        {"depth": 2, "boundary": "wrap"},
        {"with_keys": True},
    ):
        result = image.img.map(func, **options)
        repr(result)
    assert calls == []
    source = Source(np.ones((3, 20, 22)))
    source.image("tyx", (1, 10, 11)).img.map(func, depth=3).compute()
    assert len(calls) == 12  # once for each chunk
    assert all(min(shape) > 1 for shape in calls)
    assert source.reads == 12


def test_a_region_reads_its_part_alone():
    source = Source(np.ones((3, 40, 40)))
    source.image("tyx", (1, 10, 10)).img.map(lambda b: b, depth=2, crd=(12, 18, 12, 18)).compute()
    assert source.reads == 3


def test_tasks_for_each_chunk():
    image = Source(np.ones((5, 40, 40))).image("tyx", (1, 10, 10))
    assert len(image.img.map(lambda b: b, depth=2).data.dask) <= len(image.data.dask) + 80


def test_keyword_arguments_are_not_modified():
    keyed = {"c0": {"by": 2}, "c1": {"by": 3}}
    stack(np.ones((2, 3, 4), "u2"), "cyx", {}, c=["c0", "c1"]).img.map(multiply, keyed)
    assert keyed == {"c0": {"by": 2}, "c1": {"by": 3}}
