"""Laws of reductions: as numpy reduces whole arrays, types included, for every chunking; images are picked whole."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import CHUNKINGS, Source, cuts, stack
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.errors import AxesError

NAMES = ["max", "min", "mean", "sum", "std", "var"]


@pytest.fixture
def answers(expected):
    return np.load(expected / "processing" / "acceptance.npz")


@pytest.mark.parametrize("chunks", [{}, {"t": 1}, {"t": 7, "y": 3}, {"t": 100, "y": 1, "x": 2}, {"t": 13, "x": 1}])
def test_known_reductions_of_bytes(answers, chunks):
    image = stack(answers["A16_in"], chunks=chunks)
    for name in ("sum", "max", "min"):
        found = getattr(image.img, name)().values
        np.testing.assert_array_equal(found, answers[f"A16_{name}"])
        assert found.dtype == answers[f"A16_{name}"].dtype
    for name in ("mean", "var", "std"):
        np.testing.assert_allclose(getattr(image.img, name)(), answers[f"A16_{name}"], rtol=1e-12)


@pytest.mark.parametrize("chunks", [None, {"t": 1}])
def test_units_of_pixels(chunks):
    image = stack(np.random.default_rng(0).random((3, 8, 8)), chunks=chunks).assign_attrs(units="HU", note=1)
    for name in ("max", "mean", "sum", "std", "max_projection"):
        method = getattr(image.img, name)
        assert method(*(["x"] if "projection" in name else [])).attrs == {"units": "HU", "note": 1}
    assert image.img.var().attrs == {"units": "(HU)^2", "note": 1}
    for found in (image.img.normalize(), image.img.localcorr(1), image.img.enhance_contrast()):
        assert found.attrs == {"note": 1}
    assert image.attrs == {"units": "HU", "note": 1}


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_axis_of_one_sample_keeps_its_coordinates(name):
    image = stack(np.ones((1, 3, 2, 2)), "tiyx", t=[5.0], i=[1, 2, 3]).assign_coords(exposure=("t", [9]))
    for found in (image, image.chunk(1)):
        kept = getattr(found.img, name)(keepdims=True)
        assert kept.sizes == {"t": 1, "i": 1, "y": 2, "x": 2}
        assert {str(n): c.values.tolist() for n, c in kept.coords.items()} == {"t": [5.0], "exposure": [9]}
        assert not getattr(found.img, name)("t").coords.keys() & {"t", "exposure"}


@examples(60)
@given(data=st.data())
def test_equals_numpy(data):
    dims = data.draw(st.sampled_from(["tyx", "ityx", "tczyx", "vtyx"]))
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * len(dims)))
    dtype = data.draw(st.sampled_from(["u1", "i2", "f4", "f8", "?"]))
    name = data.draw(st.sampled_from(NAMES))
    keepdims = data.draw(st.booleans())
    values = (np.random.default_rng(1).random(shape) * 250).astype(dtype)
    chunks = {d: data.draw(cuts(n)) for d, n in zip(dims, shape, strict=True)}
    axes = tuple(k for k, d in enumerate(dims) if d not in "czyx")
    found = getattr(stack(values, dims, chunks).img, name)(keepdims=keepdims).compute(scheduler="sync").values
    wanted = getattr(np, name)(values, axis=axes, keepdims=keepdims)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(
        found, wanted, rtol=2e-6 if dtype == "f4" else 1e-12, atol=1e-9 if dtype != "f4" else 1e-4
    )


def test_nan_policy():
    values = np.ones((3, 2, 2))
    values[1, 0, 0] = np.nan
    image = stack(values, chunks={"t": 1})
    assert float(image.img.mean()[0, 0]) == 1
    assert np.isnan(image.img.mean(skipna=False)[0, 0])
    assert np.isnan(image.img.max(skipna=False)[0, 0])
    assert float(image.img.max(skipna=True)[0, 0]) == 1


def test_names_coordinates_and_attributes():
    image = stack(np.ones((3, 2, 4, 5)), "tcyx", {}, t=[0.0, 1.0, 2.0], c=["a", "b"], y=np.arange(4.0)).assign_attrs(
        note=1
    )
    found = image.img.mean()
    assert found.dims == ("c", "y", "x")
    assert set(found.coords) == {"c", "y"}
    assert found.attrs == {"note": 1}
    assert image.img.sum("c").dims == ("t", "y", "x")
    assert image.img.sum(["t", "c"]).dims == ("y", "x")
    ds = xr.Dataset(
        {"image": image, "labels": (("t", "y", "x"), np.ones((3, 4, 5), int), {"kind": "labels"})}, attrs={"uri": "a"}
    )
    both = ds.img.max()
    assert both["image"].dims == ("c", "y", "x")
    xr.testing.assert_identical(both["labels"], ds["labels"])
    assert both.attrs == {"uri": "a"}
    assert image.img.var(ddof=1).values[0, 0, 0] == 0


def test_count_and_first():
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    image = stack(values, "ityx", {"t": 1})
    assert image.img.count() == 6
    assert stack(np.ones((4, 5)), "yx").img.count() == 1
    np.testing.assert_array_equal(image.img.first(), values[0, 0])
    assert image.img.first().chunks is not None
    assert image.img.first(compute=True).chunks is None
    assert image.img.first("t").dims == ("i", "y", "x")


# fold


@examples(30)
@given(
    st.tuples(cuts(7), cuts(4), cuts(5)), st.sampled_from([np.add, np.maximum, np.multiply, np.subtract, np.logical_or])
)
def test_ufuncs_reduce_as_numpy_does(chunks, ufunc):
    values = np.random.default_rng(1).integers(0, 255, (7, 4, 5)).astype("u1")
    found = (
        stack(values, chunks=dict(zip("tyx", chunks, strict=True))).img.reduce(ufunc).compute(scheduler="sync").values
    )
    wanted = ufunc.reduce(values, axis=0)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


@examples(30)
@given(st.tuples(cuts(7), cuts(4), cuts(5)))
def test_functions_fold_whole_images_in_order(chunks):
    values = np.random.default_rng(1).random((7, 4, 5))

    def fold(a, b):
        return a * 0.5 + b - b.mean()  # neither associative nor pixel by pixel

    found = stack(values, chunks=dict(zip("tyx", chunks, strict=True))).img.reduce(fold)
    np.testing.assert_array_equal(found.compute(scheduler="sync"), functools.reduce(fold, values))


def test_fold_options_and_faults():
    values = np.random.default_rng(1).integers(0, 9, (2, 6, 3, 4))
    image = stack(values, "ityx", {"t": 2, "y": 1})
    np.testing.assert_array_equal(image.img.reduce(np.add, associative=True), values.sum(axis=(0, 1)))
    np.testing.assert_array_equal(image.img.reduce(lambda a, b: b), values[-1, -1])
    assert image.img.reduce(np.add, keepdims=True).shape == (1, 1, 3, 4)
    np.testing.assert_array_equal(image.img.reduce(lambda a, b: a + b, "t"), values.sum(axis=1))
    assert stack(values[:1, 0], chunks={}).img.reduce(lambda a, b: a / b, dtype=float).compute().dtype == float
    with pytest.raises(ValueError, match="returned shape"):
        image.img.reduce(lambda a, b: a.sum()).compute()
    with pytest.raises(TypeError, match="pass dtype='float64'"):
        image.img.reduce(lambda a, b: a / 2).compute()
    with pytest.raises(TypeError, match="func=3"):
        image.img.reduce(3)
    with pytest.raises(ValueError, match="no image along"):
        image.isel(t=slice(0)).img.reduce(np.add)


# picking images


def test_filter_keeps_order_and_reads_once():
    values = np.arange(5)[:, None, None] * np.ones((5, 4, 6))
    source = Source(values)
    image = source.image("tyx", (2, 4, 3)).assign_coords(t=[3, 1, 4, 1, 5])
    found = image.img.filter(lambda i: i.mean() > 0.5 and i.shape == (4, 6))
    assert source.pixels.max() == 1
    np.testing.assert_array_equal(found, values[1:])
    assert found["t"].values.tolist() == [1, 4, 1, 5]
    none = image.img.filter(lambda i: False)
    assert none.shape == (0, 4, 6)
    assert none.dtype == image.dtype
    assert none.compute().dims == ("t", "y", "x")
    ds = xr.Dataset({"image": image, "labels": (("t", "y", "x"), np.ones((5, 4, 6), int), {"kind": "labels"})})
    assert ds.img.filter(lambda i: i[0, 0] == 2).sizes["t"] == 1
    with pytest.raises(TypeError, match="True or False"):
        image.img.filter(lambda i: i > 2)


def test_foreach_in_order_reads_once():
    source = Source(np.arange(5)[:, None, None] * np.ones((5, 4, 6)))
    seen = []
    assert source.image("tyx", (2, 4, 3)).img.foreach(lambda pair: seen.append((pair[0], pair[1].mean()))) is None
    assert seen == [(k, float(k)) for k in range(5)]
    assert source.pixels.max() == 1
    stack(np.zeros((2, 3, 2, 2)), "ityx", {}).img.foreach(lambda pair: seen.append(pair[0]))
    assert seen[-2:] == [(1, 1), (1, 2)]
    stack(np.zeros((1, 2, 2)), "tyx", {}).img.foreach(lambda image: seen.append(image.shape), with_keys=False)
    assert seen[-1] == (2, 2)


def test_sample_is_seeded_and_without_replacement():
    image = stack(np.arange(50)[:, None, None] * np.ones((50, 2, 2)), chunks={"t": 7}, t=np.arange(50))
    one, two = image.img.sample(10, seed=1), image.img.sample(10, seed=1)
    xr.testing.assert_identical(one.compute(), two.compute())
    assert len(set(one["t"].values)) == 10
    assert one["t"].values.tolist() != image.img.sample(10, seed=2)["t"].values.tolist()
    np.testing.assert_array_equal(one[:, 0, 0], one["t"])
    assert sorted(image.img.sample()["t"].values) == list(range(50))
    assert image.img.sample(80, seed=1, replace=True).sizes["t"] == 80


def test_squeeze_keeps_batch_axes():
    image = stack(np.zeros((1, 1, 1, 4, 1)), "tczyx", {})
    assert image.img.squeeze().dims == ("t", "y")


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_subsample_takes_the_first_and_tells_the_spacing(chunks):
    values = np.random.default_rng(1).random((2, 5, 7, 8))
    coords = {"y": ("y", np.arange(7) * 0.5, {"units": "µm", "spacing": 0.5}), "x": ("x", np.arange(8) * 2.0)}
    image = stack(values, "tzyx", chunks, **coords)
    found = image.img.subsample(3)
    np.testing.assert_array_equal(found, values[:, ::3, ::3, ::3])
    assert found.img.spacing == {"y": 1.5, "x": 6.0}
    assert found["y"].attrs == {"units": "µm", "spacing": 1.5}
    assert image["y"].attrs["spacing"] == 0.5
    assert image.img.subsample({"x": 8}).img.spacing == {"y": 0.5}
    np.testing.assert_array_equal(image.img.subsample([1, 2, 4]), values[:, :, ::2, ::4])
    one = image.img.subsample({"y": 7})
    assert one["y"].attrs["spacing"] == 3.5
    assert one.img.spacing["y"] == 3.5


# arithmetic


@pytest.mark.parametrize(
    ("dtype", "val", "wanted"),
    [
        ("u1", 5, "i2"),
        ("u1", 300, "i2"),
        ("u1", -1, "i2"),
        ("u1", 10**6, "i4"),
        ("u2", 5, "i4"),
        ("i2", 5, "i4"),
        ("u1", 0.5, "f8"),
        ("f4", 0.5, "f4"),
        ("f4", 5, "f4"),
        ("i8", 5, "i8"),
        ("u8", 5, "i8"),
        ("?", 1, "i2"),
        ("i4", 2**62, "i8"),
        ("u8", 2**63, "i8"),
    ],
)
def test_subtract_promotes(dtype, val, wanted):
    values = np.arange(12).reshape(2, 2, 3).astype(dtype)
    found = stack(values, chunks={"t": 1}).img.subtract(val)
    assert found.dtype == np.dtype(wanted)
    if isinstance(val, int) and dtype != "f4":
        np.testing.assert_array_equal(found.values.astype(object), values.astype(object) - val)
    else:
        np.testing.assert_array_equal(found, values.astype(float) - val)


WIDE = st.sampled_from([-(2**63), -(2**63) + 1, -(2**62), -1, 0, 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1])


@examples(150)
@given(st.lists(WIDE, min_size=2, max_size=6), WIDE, st.booleans())
def test_subtract_of_64_bits_is_exact_or_refused(values, val, as_image):
    dtype = "i8" if min(values) < 0 else "u8"
    values = [v for v in values if v < 2**63] if dtype == "i8" else values
    image = stack(np.array(values, dtype).reshape(1, -1, 1), chunks={"y": 2})
    other = np.full((len(values), 1), val, "u8" if val > 0 else "i8") if as_image else val
    exact = [v - val for v in values]
    if all(-(2**63) <= v < 2**63 for v in exact):
        found = image.img.subtract(other)
        assert found.dtype == np.int64
        assert found.values.ravel().tolist() == exact
    else:
        with pytest.raises(OverflowError, match=r"subtract: .* is beyond int64.*astype"):
            image.img.subtract(other).compute()


def test_subtract_refuses_what_no_integer_holds():
    with pytest.raises(OverflowError, match="val=-9223372036854775809"):
        stack(np.zeros((1, 2, 2), "i8")).img.subtract(-(2**63) - 1)


@examples(40)
@given(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4"]), st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4"]))
def test_subtract_never_wraps(left, right):
    rng = np.random.default_rng(1)
    a, b = (rng.integers(np.iinfo(d).min, np.iinfo(d).max, (3, 4, 5), dtype=d, endpoint=True) for d in (left, right))
    found = stack(a, chunks={"t": 1, "y": 3}).img.subtract(b[0])
    np.testing.assert_array_equal(found, a.astype(int) - b[0].astype(int))


def test_subtract_images_and_named_arrays():
    values = np.random.default_rng(1).random((3, 2, 4, 5))
    image = stack(values, "tcyx", {"t": 1})
    np.testing.assert_array_equal(image.img.subtract(values[0]), values - values[0])
    mean = image.mean("t")
    np.testing.assert_allclose(image.img.subtract(mean), values - values.mean(axis=0))
    row = xr.DataArray([1.0, 2.0], dims="c")
    np.testing.assert_array_equal(image.img.subtract(row), values - np.array([1, 2])[:, None, None])
    flipped = xr.DataArray(values[0, 0].T, dims=["x", "y"])
    np.testing.assert_array_equal(image.img.subtract(flipped), values - values[0, 0])


# projections


@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_projections(chunks):
    values = np.random.default_rng(1).integers(0, 255, (2, 2, 5, 4, 6), dtype="u1", endpoint=True)
    image = stack(values, "tczyx", chunks)
    np.testing.assert_array_equal(image.img.max_projection(), values.max(axis=2))
    np.testing.assert_array_equal(image.img.min_projection("x"), values.min(axis=4))
    np.testing.assert_array_equal(
        image.img.max_projection(1), values.max(axis=2)
    )  # thunder: axes of an image (c z y x)
    np.testing.assert_array_equal(image.img.max_projection(-1), values.max(axis=4))
    total = image.img.sum_projection()
    assert total.dtype == np.uint64
    np.testing.assert_array_equal(total, values.sum(axis=2))
    both = image.img.max_min_projection()
    assert both.dtype == np.uint16
    np.testing.assert_array_equal(both, values.max(axis=2).astype(int) + values.min(axis=2))
    np.testing.assert_allclose(image.img.mean_projection(), values.mean(axis=2))
    np.testing.assert_allclose(image.img.std_projection(), values.std(axis=2))


def test_projections_propagate_nan_and_need_their_axis():
    values = np.ones((2, 3, 4))
    values[0, 0, 0] = np.nan
    assert np.isnan(stack(values, "zyx", {}).img.max_projection()[0, 0])
    with pytest.raises(ValueError, match=r"dim='z'.*'tyx'"):
        stack(np.ones((2, 3, 4)), "tyx", {}).img.max_projection()
    with pytest.raises(ValueError, match=r"dim=2.*'yx'"):
        stack(np.ones((2, 3, 4)), "tyx", {}).img.max_projection(2)


# laziness and wrong arguments


def test_nothing_is_read_before_it_is_asked_for():
    image = Source(np.ones((3, 2, 4, 5)), refuse=True).image("tzyx", (1, 1, 2, 5))
    lazies = [getattr(image.img, n)() for n in NAMES] + [
        image.img.reduce(np.add),
        image.img.reduce(lambda a, b: a),
        image.img.first(),
        image.img.sample(2),
        image.img.squeeze(),
        image.img.subsample(2),
        image.img.subtract(1),
        image.img.max_projection(),
        image.img.max_min_projection(),
    ]
    assert all(found.chunks is not None for found in lazies)
    assert image.img.count() == 3


def test_each_chunk_is_read_once():
    source = Source(np.ones((6, 8, 9)))
    source.image("tyx", (2, 4, 3)).img.std().compute()
    assert source.pixels.max() == 1


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda i: i.mean("q"), ValueError, "dim='q'"),
        (lambda i: i.mean(skipna=2), ValueError, "skipna=2"),
        (lambda i: i.var(ddof=-1), ValueError, "ddof=-1"),
        (lambda i: i.sample(0), ValueError, "nsamples=0"),
        (lambda i: i.sample(2.5), TypeError, "nsamples=2.5"),
        (lambda i: i.subsample(0), ValueError, "factor=0"),
        (lambda i: i.subsample(2.9), TypeError, "factor=2.9"),
        (lambda i: i.subsample((2, 2, 2)), ValueError, "has 3 values"),
        (lambda i: i.subsample({"t": 2}), ValueError, "'t'"),
        (lambda i: i.subtract("a"), TypeError, "val='a'"),
        (lambda i: i.subtract(np.ones((3, 3))), ValueError, r"shape \(3, 3\).*\(4, 5\)"),
        (lambda i: i.subtract(xr.DataArray(np.ones(3), dims="x")), ValueError, "val has length 3 along 'x'"),
        (lambda i: i.subtract(xr.DataArray(np.ones(3), dims="q")), ValueError, "axis 'q'"),
    ],
)
def test_wrong_arguments_are_named(call, error, says):
    with pytest.raises(error, match=says):
        call(stack(np.zeros((2, 4, 5)), chunks={}).img)


def test_several_batch_axes_need_a_name():
    image = stack(np.zeros((2, 3, 4, 5)), "ityx", {})
    for call in (lambda: image.img.sample(1), lambda: image.img.filter(lambda i: True)):
        with pytest.raises(ValueError, match="name one with dim="):
            call()
    assert image.img.sample(1, dim="i").sizes["i"] == 1
    with pytest.raises(ValueError, match="no batch axis"):
        stack(np.zeros((2, 3)), "yx").img.mean()


def test_several_axes_in_one_word_are_explained():
    image = xr.Dataset({"image": (("z", "y", "x"), np.zeros((2, 3, 4)))})
    with pytest.raises(AxesError, match=r"no axis 'zy'.*as a list, dim=\['z', 'y'\]"):
        image.img.mean("zy")
    with pytest.raises(AxesError, match=r"no axis 't', it has 'zyx'$"):
        image.img.mean(["z", "t"])
