"""Laws of series: the same for every chunking of t, y and x; correlation keeps its digits on a bright background."""

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

pytestmark = pytest.mark.thorough

SERIES_CHUNKS = [
    {},
    {"t": 5, "y": 4, "x": 6},
    {"t": 1},
    {"t": 1, "y": 1, "x": 1},
    {"t": 7, "y": 3},
    {"y": 1, "x": 2},
    {"t": 2, "z": 1},
]


def correlated(values, size):
    """The oracle: numpy's corrcoef of each pixel."""
    blurred = np.stack([ndimage.uniform_filter(v.astype(float), size) for v in values])
    out = np.empty(values.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        for place in np.ndindex(out.shape):
            out[place] = np.corrcoef(values[(slice(None), *place)].astype(float), blurred[(slice(None), *place)])[0, 1]
    return out


@pytest.fixture
def answers(expected):
    return np.load(expected / "processing" / "acceptance.npz")


@pytest.mark.parametrize("chunks", SERIES_CHUNKS)
def test_known_correlations(answers, chunks):
    np.testing.assert_allclose(
        stack(answers["A01_in"], chunks=chunks).img.localcorr(1), answers["A01_out"], atol=1e-9, rtol=0
    )
    found = stack(answers["A02_in"], chunks=chunks).img.localcorr()
    np.testing.assert_allclose(found, answers["A02_out"], atol=1e-12, rtol=0)
    assert found.dims == ("y", "x")
    assert found.dtype == np.float64
    volume = stack(answers["A03_in"], "tzyx", chunks).img.localcorr(1)
    np.testing.assert_allclose(volume, answers["A03_out"], atol=1e-9, rtol=0)


@examples(30)
@given(data=st.data())
def test_correlation_equals_numpy(data):
    shape = data.draw(st.tuples(st.integers(2, 20), st.integers(1, 9), st.integers(1, 9)))
    chunks = dict(zip("tyx", data.draw(st.tuples(*[cuts(n) for n in shape])), strict=True))
    dtype = data.draw(st.sampled_from(["u1", "u2", "f4", "f8"]))
    radius = data.draw(st.integers(1, 3))
    values = (np.random.default_rng(1).random(shape) * 200).astype(dtype)
    found = stack(values, chunks=chunks).img.localcorr(radius).compute(scheduler="sync")
    np.testing.assert_allclose(found, correlated(values, 2 * radius + 1), atol=1e-9, rtol=0)


@pytest.mark.parametrize("chunks", [{}, {"t": 3}, {"t": 1, "y": 4}])
@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_correlation_keeps_its_digits(chunks, offset):
    values = np.random.default_rng(1).random((40, 8, 9))
    found = stack(values + offset, chunks=chunks).img.localcorr(1)
    np.testing.assert_allclose(found, correlated(values, 3), atol=offset * 1e-14)


@pytest.mark.parametrize("chunks", SERIES_CHUNKS)
@pytest.mark.parametrize("dtype", ["u1", "f8"])
def test_constant_pixels_have_no_correlation(chunks, dtype):
    values = (np.random.default_rng(1).random((13, 8, 9)) * 7).astype(dtype)
    values[:, 2, 3] = np.asarray(0.1 if dtype == "f8" else 3, dtype)
    found = stack(values, chunks=chunks).img.localcorr(1).values
    assert np.isnan(found[2, 3])
    assert np.isnan(found).sum() == 1
    alone = stack(values, chunks=chunks).img.localcorr(0).values
    np.testing.assert_allclose(alone[np.isfinite(alone)], 1)
    assert np.isnan(alone).sum() == 1


def test_correlation_by_size_name_and_mode():
    values = np.random.default_rng(1).random((10, 2, 7, 8))
    image = stack(values, "tcyx", {"t": 4, "y": 3})
    found = image.img.localcorr(size=2)
    np.testing.assert_allclose(found[0], correlated(values[:, 0], 2), atol=1e-12)
    np.testing.assert_allclose(image.img.localcorr({"x": 1})[1], correlated(values[:, 1], (1, 3)), atol=1e-12)
    wrapped = image.img.localcorr(1, mode="wrap")
    again = image.roll(y=3, x=2).img.localcorr(1, mode="wrap").roll(y=-3, x=-2)
    np.testing.assert_allclose(wrapped, again, atol=1e-12)


def test_correlation_reads_each_chunk_once():
    source = Source(np.random.default_rng(1).random((40, 20, 20)))
    source.image("tyx", (4, 10, 10)).img.localcorr(2).compute()
    assert source.pixels.max() == 1


# map_as_series

FUNCTIONS = {
    "demean": (lambda s: s - s.mean(), 12),
    "droplast": (lambda s: s[:-1], 11),
    "revsort": (lambda s: np.sort(s)[::-1], 12),
    "cumsum": (np.cumsum, 12),
}


@pytest.mark.parametrize("chunks", SERIES_CHUNKS)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("announced", [True, False])
def test_known_series(answers, chunks, name, announced):
    func, size = FUNCTIONS[name]
    image = stack(answers["A22_in"], chunks=chunks, t=np.arange(12) * 0.5)
    options = {"value_size": size, "dtype": float} if announced else {}
    found = image.img.map_as_series(func, **options)
    wanted = answers[f"A22_{name}"]
    # the last key is sorted along t, whichever way the reference cut its blocks
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)
    assert ("t" in found.coords) == (size == 12)


@pytest.mark.parametrize("block_size", ["auto", "2kB", 3, (2, 5), {"y": 4}])
def test_numbers_and_lengths(block_size):
    values = np.random.default_rng(1).integers(0, 99, (12, 11, 13)).astype("u2")
    image = stack(values, chunks={"t": 5, "y": 4})
    mean = image.img.map_as_series(np.mean, block_size=block_size)
    assert mean.dims == ("y", "x")
    np.testing.assert_allclose(mean, values.mean(axis=0))
    peaks = image.img.map_as_series(lambda s: [s.min(), s.max()], 2, dtype="u2", block_size=block_size, out_dim="peak")
    assert peaks.dims == ("peak", "y", "x")
    np.testing.assert_array_equal(peaks[1], values.max(axis=0))
    power = image.img.map_as_series(lambda s, n: s.astype(float) ** n, fn_kwargs={"n": 2})
    np.testing.assert_array_equal(power, values.astype(float) ** 2)


def test_series_faults_are_named():
    image = stack(np.ones((4, 3, 5), "u2"), chunks={})
    with pytest.raises(ValueError, match="pass value_size=3"):
        image.img.map_as_series(lambda s: s[:-1], 4, dtype="u2").compute()
    with pytest.raises(TypeError, match="pass dtype='float64'"):
        image.img.map_as_series(lambda s: s / 2, 4, dtype="u2").compute()


def test_nothing_is_read_if_all_is_said():
    calls = []
    image = Source(np.ones((6, 8, 9)), refuse=True).image("tyx", (2, 4, 3))
    image.img.map_as_series(lambda s: calls.append(1) or s, 6, dtype=float)
    image.img.localcorr()
    image.img.to_series()
    assert len(list(image.img.to_blocks())) >= 1
    assert calls == []
    source = Source(np.ones((6, 8, 9)))
    found = source.image("tyx", (2, 4, 3)).img.map_as_series(lambda s: s[:3])
    assert found.shape == (3, 8, 9)
    assert source.pixels.sum() <= 6 * 12  # one real series


# shapes


@pytest.mark.parametrize("chunks", CHUNKINGS[:5])
def test_to_series(chunks):
    values = np.random.default_rng(1).random((6, 2, 3, 4, 5))
    image = stack(values, "tczyx", chunks, t=np.arange(6) * 0.5)
    for found in (image.img.to_series(), image.img.to_timeseries(), image.img.to_series("1kB")):
        assert found.dims == ("c", "z", "y", "x", "t")
        assert found.chunks[-1] == (6,)
        np.testing.assert_array_equal(found, np.moveaxis(values, 0, -1))
        assert found["t"].values.tolist() == image["t"].values.tolist()
    with pytest.raises(ValueError, match="'t'"):
        image.rename(t="i").img.to_timeseries()


@examples(25)
@given(data=st.data())
def test_blocks_cover_the_image(data):
    values = np.random.default_rng(1).random((5, 9, 11))
    chunks = dict(zip("tyx", data.draw(st.tuples(cuts(5), cuts(9), cuts(11))), strict=True))
    size = data.draw(st.sampled_from(["1kB", "150MB", (3, 4), (9, 2), 4, {"y": 5}]))
    padding = data.draw(st.sampled_from([0, 2, (1, 3), {"x": 1}]))
    blocks = stack(values, chunks=chunks).img.to_blocks(size, padding)
    out = np.full(values.shape, np.nan)
    n = 0
    for region, block in blocks:
        n += 1
        assert block.sizes["t"] == 5
        inner = tuple(region[d] for d in "tyx")
        pads = {"t": 0, "y": 0, "x": 0} | (
            {"y": padding, "x": padding}
            if isinstance(padding, int)
            else padding
            if isinstance(padding, dict)
            else dict(zip("yx", padding, strict=True))
        )
        wide = tuple(slice(max(0, s.start - pads[d]), s.stop + pads[d]) for s, d in zip(inner, "tyx", strict=True))
        np.testing.assert_array_equal(block, values[wide])
        out[inner] = values[inner]
    assert n == len(blocks)
    assert np.isfinite(out).all()
    if size == "1kB":
        assert (
            max(b.nbytes for _, b in stack(values, chunks=chunks).img.to_blocks(size)) <= 1250
        )  # dask: up to 1.25 times
    assert "series along 't'" in repr(blocks)


def test_to_local(capsys):
    image = stack(np.ones((3, 4, 5)), chunks={"t": 1})
    local = image.img.gaussian_filter(1).img.to_local()
    assert local.chunks is None
    assert capsys.readouterr().err == ""  # silent when not a terminal
    image.img.gaussian_filter(1).img.to_local(progress=True)
    assert "computing" in capsys.readouterr().err
    ds = xr.Dataset({"image": image})
    assert ds.img.to_local()["image"].chunks is None


def test_pending_says_what_will_be_computed():
    image = stack(np.ones((3, 4, 5)), chunks={"t": 1})
    text = repr(
        xr.Dataset({"image": image, "labels": (("y", "x"), np.ones((4, 5), int), {"kind": "labels"})})
        .img.gaussian_filter(1)
        .img.median_filter(3)
        .img.pending()
    )
    assert "gaussian_filter -> median_filter" in text
    assert "tasks, 3 chunks" in text
    assert "nothing to compute" in text


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda i: i.localcorr(1.5), ValueError, "neighborhood=1.5.*integer"),
        (lambda i: i.localcorr(-1), ValueError, "neighborhood=-1"),
        (lambda i: i.localcorr(3, size=2), ValueError, "give one"),
        (lambda i: i.localcorr({"t": 1}), ValueError, "'t'"),
        (lambda i: i.localcorr(dim="q"), ValueError, "dim='q'"),
        (lambda i: i.localcorr(mode="same"), ValueError, "mode='same'"),
        (lambda i: i.map_as_series(3), TypeError, "func=3"),
        (lambda i: i.map_as_series(np.mean, -1), ValueError, "value_size=-1"),
        (lambda i: i.map_as_series(np.mean, out_dim="y"), ValueError, "out_dim='y'"),
        (lambda i: i.to_blocks(0), ValueError, "size=0"),
        (lambda i: i.to_blocks("much"), ValueError, "size='much'"),
        (lambda i: i.to_blocks(99), ValueError, "longer than axis"),
        (lambda i: i.to_blocks((2, 2, 2)), ValueError, "has 3 values"),
        (lambda i: i.to_blocks(2.5), TypeError, "size=2.5"),
        (lambda i: i.to_blocks("1kB", padding=-1), ValueError, "padding=-1"),
    ],
)
def test_wrong_arguments_are_named(call, error, says):
    with pytest.raises(error, match=says):
        call(stack(np.zeros((2, 4, 5)), chunks={}).img)


@pytest.mark.parametrize("chunks", [None, {}])
def test_empty_series(chunks):
    image = stack(np.ones((0, 4, 5)), "tyx", chunks)
    assert image.img.map_as_series(len, 0, dtype="i8").values.tolist() == np.zeros((4, 5), int).tolist()
    assert image.img.to_series().shape == (4, 5, 0)


def test_coordinates_of_several_axes_keep_their_order():
    image = stack(np.arange(24.0).reshape(2, 3, 4), "tyx").assign_coords(lat=(("y", "x"), np.ones((3, 4))))
    for each in (image, image.chunk(2)):
        xr.testing.assert_identical(each.img.to_series(dim="y").compute(), image.img.to_series(dim="y"))
        assert each.img.to_series(dim="y")["lat"].dims == ("y", "x")
