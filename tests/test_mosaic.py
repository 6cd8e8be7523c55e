"""Laws of mosaics: tiles pasted one by one say what is right; refined positions are those the tiles were cut at."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import Source, cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.errors import AxesError

pytestmark = pytest.mark.thorough


def pasted(values, corners, overlap, fill):
    """The mosaic of tiles (i, ..., y, x), with the axes of the corners last."""
    d = corners.shape[1]
    corners = corners - corners.min(axis=0)
    shape = (*values.shape[1:-d], *(corners.max(axis=0) + values.shape[-d:]))
    layers = np.full((len(values), *shape), np.nan)
    for layer, tile, corner in zip(layers, values, corners, strict=True):
        layer[..., *(slice(c, c + n) for c, n in zip(corner, tile.shape[-d:], strict=True))] = tile
    there = np.isfinite(layers)
    count = there.sum(axis=0)
    if overlap == "mean":
        found = np.nansum(layers, axis=0) / np.maximum(count, 1)
        found = np.rint(found) if values.dtype.kind in "iu" else found
    else:
        order = np.arange(len(values))[::-1] if overlap == "last" else np.arange(len(values))
        which = order[np.argmax(there[order], axis=0)]
        found = np.take_along_axis(layers, which[np.newaxis], 0)[0]
    return np.where(count > 0, found, fill)


@examples(100)
@given(data=st.data())
def test_mosaics_are_tiles_pasted_one_by_one(data):
    dims = data.draw(st.sampled_from(["iyx", "icyx", "izyx", "tizyx"]))
    along = data.draw(st.sampled_from("iv"))
    shape = [data.draw(st.integers(1, 5)) if d == "i" else data.draw(st.integers(1, 9)) for d in dims]
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 4)) for d, n in zip(dims, shape, strict=True)}
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    dtype = data.draw(st.sampled_from(["u1", "i4", "f8"]))
    values = rng.integers(1, 200, shape).astype(dtype)
    axes = "zyx" if dims == "izyx" and data.draw(st.booleans()) else "yx"
    corners = rng.integers(-12, 12, (shape[dims.index("i")], len(axes)))
    overlap, fill = data.draw(st.sampled_from(["last", "first", "mean"])), data.draw(st.sampled_from([None, 7]))
    image = stack(values, dims, chunks).rename(i=along)
    found = image.img.mosaic(
        dict(zip(axes, corners.T, strict=True)), along=along, overlap=overlap, units="pixel", fill=fill
    )
    outside = fill if fill is not None else np.nan if dtype == "f8" else 0
    first = np.moveaxis(values, dims.index("i"), 0)
    wanted = pasted(first, corners, overlap, outside)
    assert (found.dims, found.dtype) == (tuple(d for d in dims if d != "i"), values.dtype)
    got = found.compute(scheduler="sync").values
    np.testing.assert_allclose(got, wanted, rtol=1e-15 if overlap == "mean" else 0)


def world(seed=0, shape=(220, 240)):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random(shape), 1.5)
    return (noise * 2e4).astype("u2")


TRUE = np.array([[0, 0], [3, 77], [74, 2], [80, 79], [120, 150]])
"""Where the tiles, of 96 pixels, were cut."""


def cut_tiles(values=None):
    values = world() if values is None else values
    tiles = np.stack([values[y : y + 96, x : x + 90] for y, x in TRUE[:4]])
    coords = {a: (a, 0.5 * np.arange(n), {"units": "µm", "spacing": 0.5}) for a, n in [("y", 96), ("x", 90)]}
    return xr.DataArray(tiles, dims=["i", "y", "x"], coords=coords, name="image").chunk(i=1, y=50, x=50)


ERRORS = np.array([[2, -3], [-4, 1], [1, 3], [0, -2]])


def test_tiles_are_found_where_they_were_cut():
    pytest.importorskip("skimage")
    tiles = cut_tiles()
    stage = pd.DataFrame((TRUE[:4] + ERRORS) * 0.5 + 1000, columns=["y", "x"])
    found = tiles.img.refine_positions(stage, progress=False)
    assert found.columns.tolist() == ["y", "x", "pairs"]
    assert found.attrs["column_units"] == {"y": "µm", "x": "µm"}
    assert found["pairs"].tolist() == [3, 3, 3, 3]
    moved = found[["y", "x"]].to_numpy() / 0.5
    np.testing.assert_allclose(moved - moved[0], TRUE[:4] - TRUE[0], atol=1e-6)
    np.testing.assert_allclose(moved.mean(axis=0), stage.to_numpy().mean(axis=0) / 0.5)  # together they stay
    whole = tiles.img.mosaic(found)
    assert (whole.values[40:160, 40:150] == world()[40:160, 40:150]).all()
    assert (tiles.img.mosaic(stage).values[40:160, 40:150] != world()[40:160, 40:150]).any()
    assert whole["y"].attrs == tiles["y"].attrs
    np.testing.assert_allclose(whole["y"], found["y"].min() + 0.5 * np.arange(whole.sizes["y"]))


def test_tiles_without_a_usable_overlap_stay():
    pytest.importorskip("skimage")
    values = cut_tiles()
    other = values.copy(data=np.concatenate([values[:3].values, world(5)[:96, :90][np.newaxis]]))
    stage = pd.DataFrame((TRUE[:4] + ERRORS) * 1.0, columns=["y", "x"])
    far = stage.copy()
    far.loc[3] = [900.0, 900.0]  # alone
    options = {"units": "pixel", "progress": False}
    for image, at in [(other, stage), (values, far)]:
        found = image.img.refine_positions(at, **options)
        assert found["pairs"].tolist() == [2, 2, 2, 0]
        assert found.loc[3, ["y", "x"]].tolist() == at.loc[3].tolist()
        moved = found[["y", "x"]].to_numpy()[:3]
        np.testing.assert_allclose(moved - moved[0], TRUE[:3] - TRUE[0], atol=1e-6)
    assert other.img.refine_positions(stage, min_correlation=-1, **options)["pairs"].tolist() == [3, 3, 3, 3]
    close = values.img.refine_positions(stage, max_shift=3, **options)
    assert close["pairs"].tolist() != [3, 3, 3, 3]
    assert (values.img.refine_positions(stage, max_shift="0.1 µm", **options)["pairs"] == 0).all()


def test_channels_times_and_depth():
    pytest.importorskip("skimage")
    tiles = cut_tiles()
    dark = xr.zeros_like(tiles)
    both = xr.concat([dark, tiles], "c").assign_coords(c=["BF", "DAPI"]).expand_dims(z=2)
    stage = pd.DataFrame((TRUE[:4] + ERRORS) * 0.5, columns=["y", "x"])
    with pytest.raises(AxesError, match="samples along 'c'"):
        both.img.refine_positions(stage)
    with pytest.raises(AxesError, match="samples along 't'"):
        tiles.expand_dims(t=2).img.refine_positions(stage)
    found = both.img.refine_positions(stage, c="DAPI", progress=False)
    pd.testing.assert_frame_equal(found, tiles.img.refine_positions(stage, progress=False))
    whole = both.img.mosaic(found)
    assert whole.dims == ("z", "c", "y", "x")
    np.testing.assert_array_equal(whole.sel(c="DAPI", z=1).values, tiles.img.mosaic(found))


def test_units_of_axes_and_labels():
    tiles = cut_tiles()
    tiles["y"] = ("y", tiles["y"].values * 1000, {"units": "nm", "spacing": 500.0})
    stage = {"y": [0.0, 0, 10, 10], "x": [5.0, 50, 5, 50]}  # µm, the unit of x
    ds = xr.Dataset({"image": tiles.astype("f4"), "labels": (("i", "y", "x"), np.ones(tiles.shape, int))})
    ds["labels"].attrs["kind"] = "labels"
    found = ds.img.mosaic(stage, overlap="mean", fill=-1)
    assert dict(found.sizes) == {"y": 116, "x": 180}
    assert float(found["y"][1]) == 500
    assert float(found["x"][0]) == 5
    assert set(np.unique(found.labels)) == {1}
    far = ds.img.mosaic({"y": [0, 0, 0, 900.0], "x": [0, 60, 120, 0]}, fill=-1)
    assert float(far.image[300, 0]) == -1
    assert int(far.labels[300, 0]) == 0
    assert np.isnan(ds.img.mosaic({"y": [0, 0, 0, 900.0], "x": [0, 60, 120, 0]}).image[300, 0])


def test_mosaics_are_lazy_and_read_what_they_show():
    source = Source(np.zeros((9, 100, 100), "u1"), refuse=True)
    at = {"y": np.repeat([0, 90, 180], 3), "x": np.tile([0, 90, 180], 3)}
    source.image("iyx", (1, 50, 50)).img.mosaic(at, units="pixel")
    seen = Source(np.zeros((9, 100, 100), "u1"))
    whole = seen.image("iyx", (1, 50, 50)).img.mosaic(at, units="pixel")
    whole[:40, :40].compute(scheduler="sync")
    assert seen.pixels[0].any()
    assert not seen.pixels[1:].any()


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ({"y": [0, 1]}, "at least two of 'y', 'x'"),
        ({"y": [0, 1, 2], "x": [0, 1, 2]}, r"shape \(3, 2\): expected 2 tiles"),
        ({"y": [0, np.nan], "x": [0, 1]}, "tile 1 are not finite"),
        ({"y": [0, 1e9], "x": [0, 1e9]}, "they cannot be right"),
        ({"y": ["a", "b"], "x": [0, 1]}, "expected positions as numbers"),
        ([0, 1], "expected a table or mapping"),
    ],
)
def test_positions_that_cannot_be_right(positions, said):
    image = stack(np.zeros((2, 5, 5)), "iyx")
    for method in ("mosaic", "refine_positions"):
        with pytest.raises((ValueError, TypeError), match=said):
            getattr(image.img, method)(positions, units="pixel")
