"""Masks, labels and other images are aligned by coordinates, else by shape; what they do not cover, 0 and NaN, is
outside. Oracles: numpy on arrays that xarray aligned, scikit-image, scipy."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.accessor.alignment import aligned, aligned_both, inside
from intake_img.errors import AxesError, UnitsError

pytestmark = pytest.mark.thorough

NAN = float("nan")


def image(dtype="u2", shape=(20, 24), step=0.5, unit="µm", start=(3.0, -2.0), chunks=None):
    values = np.random.default_rng(1).integers(1, 200, (2, *shape)).astype(dtype)
    data = values if chunks is None else da.from_array(values, chunks=(1, *chunks))
    coords = {
        a: (a, s + np.arange(n) * step, {"units": unit, "spacing": step})
        for a, s, n in zip("yx", start, shape, strict=True)
    }
    return xr.Dataset({"image": (("c", "y", "x"), data)}, coords=coords | {"c": ["A", "B"]})


def companion(shape, first, step=0.5, unit="µm", dtype=bool, start=(3.0, -2.0), seed=2):
    """Values on the grid of `image`, from the pixel `first` on."""
    values = np.random.default_rng(seed).integers(0, 3, shape)
    values = values > 0 if dtype is bool else values.astype(dtype)
    scale = {"µm": 1, "nm": 1000, "mm": 1e-3}[unit]
    coords = {
        a: (a, (s + (np.arange(n) + k) * step) * scale, {"units": unit})
        for a, s, n, k in zip("yx", start, shape, first, strict=True)
    }
    return xr.DataArray(values, dims=("y", "x"), coords=coords)


def by_index(mask, first, shape):
    """The oracle: the mask on the whole image, by numpy."""
    whole = np.zeros(shape, mask.dtype)
    low = [max(0, k) for k in first]
    high = [min(n, k + m) for n, k, m in zip(shape, first, mask.shape, strict=True)]
    own = tuple(slice(a - k, b - k) for a, b, k in zip(low, high, first, strict=True))
    whole[tuple(map(slice, low, high))] = mask.values[own]
    return whole


# the rule


@examples(60)
@given(
    first=st.tuples(st.integers(-9, 17), st.integers(-9, 20)),
    shape=st.tuples(st.integers(10, 30), st.integers(10, 30)),
    unit=st.sampled_from(["µm", "nm", "mm"]),
    dtype=st.sampled_from([bool, "u1", "i8", "f4"]),
    lazy=st.booleans(),
)
def test_an_array_lies_where_its_coordinates_say(first, shape, unit, dtype, lazy):
    reference = image()["image"].isel(c=0)
    mask = companion(shape, first, unit=unit, dtype=dtype)
    given_mask = mask.chunk({"y": 7, "x": 5}) if lazy else mask
    found = aligned("mask", given_mask, reference)
    assert found.dtype == mask.dtype
    assert hasattr(found.data, "dask") == lazy
    np.testing.assert_array_equal(found.values, by_index(mask, first, (20, 24)))
    for a in "yx":
        np.testing.assert_array_equal(found[a], reference[a])


@pytest.mark.parametrize("shape", [(20, 24)])
def test_without_coordinates_the_shape_counts(shape):
    reference = image()["image"].isel(c=0)
    mask = companion(shape, (5, 5)).drop_vars(["y", "x"])
    np.testing.assert_array_equal(aligned("mask", mask, reference), mask)
    mixed = companion(shape, (5, 0)).drop_vars("x")
    np.testing.assert_array_equal(
        aligned("mask", mixed, reference)[:15],
        np.zeros((20, 24))[:15] + by_index(companion(shape, (5, 0)), (5, 0), shape)[:15],
    )
    with pytest.raises(AxesError, match="mask has length 19 along 'y', the image 20"):
        aligned("mask", mask[1:], reference)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"first": (0.5, 0)}, "along 'y'.*offset of (-)?0.25"),
        ({"first": (0, 0.25)}, "along 'x'.*offset of (-)?0.125"),
        ({"first": (0, 0), "step": 0.4}, "spacing 0.4 and 0.5"),
        ({"first": (40, 0)}, "mask has 23 to 32.5 µm, the image 3 to 12.5 µm, an offset of 20"),
        ({"first": (-30, 0)}, "along 'y'.*an offset of -15"),
    ],
)
def test_what_cannot_be_aligned_is_refused(change, said):
    ds = image()
    mask = companion(**{"shape": (20, 24)} | change)
    with pytest.raises(AxesError, match=said):
        aligned("mask", mask, ds["image"])
    with pytest.raises(AxesError, match=said):
        ds.img.coloc.measure(mask=mask, measures="n")


def test_units_of_another_kind_are_refused():
    mask = companion((20, 24), (0, 0))
    mask["y"].attrs["units"] = "s"
    with pytest.raises(UnitsError, match=r"length.*time|time.*length"):
        aligned("mask", mask, image()["image"])


def test_labels_of_an_axis_are_matched_by_name():
    frames = xr.DataArray(np.arange(12).reshape(3, 4), dims=("t", "x"), coords={"t": ["c", "a", "d"]})
    reference = xr.DataArray(np.zeros((4, 4)), dims=("t", "x"), coords={"t": list("abcd")})
    found = aligned("mask", frames, reference).values
    np.testing.assert_array_equal(found, frames.reindex(t=list("abcd"), fill_value=0))
    with pytest.raises(AxesError, match="along 't': mask has c to d, the image p to q"):
        aligned("mask", frames, reference.isel(t=[0, 1]).assign_coords(t=["p", "q"]))
    times = np.array(["2020-01-01", "2020-01-03"], "M8[ns]")
    dated = [xr.DataArray(np.eye(2), dims=("t", "x"), coords={"t": v}) for v in (times, times[::-1])]
    np.testing.assert_array_equal(aligned("mask", dated[0], dated[1]), np.eye(2)[::-1])


def test_frames_that_were_picked_are_found_again():
    t = xr.DataArray(np.arange(8.0)[:, None], dims=("t", "x"), coords={"t": np.arange(8) * 1.5})
    picked = t.isel(t=slice(1, None, 3))
    np.testing.assert_array_equal(aligned("mask", t, picked), picked)
    with pytest.raises(AxesError, match="cannot be aligned"):
        aligned("mask", picked, t)


def test_a_grid_for_both():
    whole = companion((30, 40), (0, 0), dtype="i4")
    one, two = whole[:20, 5:], whole[8:, :33]
    a, b = aligned_both(
        ("labels1", "labels2"),
        one,
        two.assign_coords(y=two.y * 1000, x=two.x).assign_coords(y=("y", two.y.values * 1000, {"units": "nm"})),
    )
    expected = xr.align(one, two, join="outer", fill_value=0)
    np.testing.assert_array_equal(a, expected[0])
    np.testing.assert_array_equal(b, expected[1])


@pytest.mark.parametrize("dtype", [bool, "u1", "i2", "f2", "f4", "f8"])
def test_inside(dtype):
    values = np.array([0, 1, 255, 0], dtype)
    if np.dtype(dtype).kind == "f":
        values[3] = NAN
    assert inside(values).tolist() == [False, True, True, False]
    assert inside(da.from_array(values, chunks=2)).compute().tolist() == [False, True, True, False]


# colocalization


COLOC = {
    "measure": lambda ds, mask: ds.img.coloc.measure(mask=mask, measures=["n", "pearson", "spearman"]),
    "histogram": lambda ds, mask: ds.img.coloc.histogram("A", "B", mask=mask),
    "significance": lambda ds, mask: ds.img.coloc.significance(block=1.0, n=9, mask=mask)[["pearson", "p_value"]],
    "ccf": lambda ds, mask: ds.img.coloc.ccf(limit=2.0, mask=mask),
    "costes": lambda ds, mask: xr.DataArray(list(ds.img.coloc.costes_threshold("A", "B", mask=mask))),
}


@pytest.mark.parametrize("chunks", [None, (7, 5)])
@pytest.mark.parametrize("name", COLOC)
def test_a_mask_is_where_its_coordinates_say(name, chunks):
    ds = image(chunks=chunks)
    dtype = "f8" if chunks else bool
    mask = companion((16, 30), (6, -4), dtype=dtype, unit="nm")
    if name == "significance":
        mask = mask * 0 + 1
    if dtype == "f8":
        mask = mask.where(mask > 0)
    expected = COLOC[name](ds, by_index(mask.fillna(0), (6, -4), (20, 24)) > 0)
    found = COLOC[name](ds, mask)
    xr.testing.assert_equal(found.drop_attrs(), expected.drop_attrs())
    assert not found.equals(COLOC[name](ds, None))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_nan_is_outside_in_any_picture(dtype):
    pytest.importorskip("matplotlib")
    ds = image()
    labels = companion((20, 24), (0, 0), dtype="i4")
    idiom = labels.where(labels > 0).astype(dtype)
    found = [ds.img.coloc.overlay("A", "B", thresholds=50, mask=m).images[0].get_array() for m in (idiom, labels > 0)]
    np.testing.assert_array_equal(*found)
    titles = [ds.img.coloc.scatter("A", "B", mask=m).get_title() for m in (idiom, labels > 0)]
    assert titles[0] == titles[1]
    assert f"n = {int((labels > 0).sum())}" in titles[0]
    import matplotlib.pyplot as plt

    plt.close("all")


def test_labels_are_regions_by_coordinates():
    ds = image()
    labels = companion((16, 30), (6, -4), dtype="u4", unit="mm")
    whole = by_index(labels, (6, -4), (20, 24))
    found = ds.img.coloc.measure(labels=labels, measures=["n", "manders_m1"])
    assert found.n[0].values.tolist() == [(whole == k).sum() for k in (1, 2)]
    xr.testing.assert_equal(found, ds.img.coloc.measure(labels=whole, measures=["n", "manders_m1"]))


def test_shifts_belong_to_channels_by_name():
    ds = image("f4")
    shifts = xr.DataArray([[0.0, 0.0], [1.0, -0.5]], dims=("c", "axis"), coords={"c": ["A", "B"], "axis": ["y", "x"]})
    expected = ds.img.coloc.correct_shift(shifts)
    xr.testing.assert_equal(ds.img.coloc.correct_shift(shifts.isel(c=[1, 0])), expected)
    with pytest.raises(AxesError, match="does not cover the image along 'c'"):
        ds.img.coloc.correct_shift(shifts.isel(c=[1]))


@pytest.mark.parametrize("chunks", [None, (9, 11)])
def test_objects_that_lie_beside_each_other(chunks):
    whole = np.zeros((40, 40), "i4")
    whole[2:6, 2:6], whole[10:20, 10:20], whole[30:36, 4:9] = 1, 2, 3
    grid = companion((40, 40), (0, 0)).copy(data=whole)
    one, two = grid[:25], grid[15:].assign_coords(y=("y", grid.y.values[15:] * 1000, {"units": "nm"}))
    if chunks:
        one, two = one.chunk({"y": chunks[0], "x": chunks[1]}), two.chunk({"y": chunks[1], "x": chunks[0]})
    found = xr.Dataset().img.coloc.objects(one, two, max_distance=100.0).set_index(["label1", "label2"])
    assert found.loc[2, 2][["size1", "size2", "overlap"]].tolist() == [100, 50, 50]
    assert found.loc[1, 3][["size1", "size2"]].tolist() == [16, 30]
    assert found.loc[1, 3]["edge_distance"] == pytest.approx((30 - 5) * 0.5)
    assert found.loc[2, 2]["centre_distance"] == pytest.approx(2.5 * 0.5)


# processing


@pytest.mark.parametrize("chunks", [None, (9, 11)])
def test_regionprops_measure_the_pixels_under_the_labels(chunks):
    regionprops = pytest.importorskip("skimage.measure").regionprops_table
    ds = image(chunks=chunks)
    labels = companion((9, 10), (4, 6), dtype="i4", unit="nm")
    found = labels.img.regionprops(intensity=ds.image.isel(c=0))
    expected = regionprops(labels.values, ds.image.values[0, 4:13, 6:16], properties=("label", "intensity_mean"))
    np.testing.assert_array_equal(found["label"], expected["label"])
    np.testing.assert_allclose(found["intensity_mean"], expected["intensity_mean"])
    with pytest.raises(AxesError, match=r"the image does not cover the label image along 'y'.*offset of 5"):
        companion((20, 10), (-10, 6), dtype="i4").img.regionprops(intensity=ds.image.isel(c=0))


@pytest.mark.parametrize("chunks", [None, (9, 11)])
def test_subtract_by_coordinates(chunks):
    ds = image("i4", chunks=chunks)
    val = companion((30, 40), (-4, -8), dtype="i4")
    expected = ds.image - val.reindex_like(ds.image, method="nearest")
    xr.testing.assert_equal(ds.image.img.subtract(val).astype("i4"), expected)
    channels = xr.DataArray(np.array([3, 5], "i4"), dims="c", coords={"c": ["B", "A"]})
    xr.testing.assert_equal(ds.image.img.subtract(channels).astype("i4"), (ds.image - channels).sel(c=["A", "B"]))
    with pytest.raises(AxesError, match="val does not cover the image along 'y'"):
        ds.img.subtract(companion((20, 24), (5, 0), dtype="i4"))


# patches


def own_grid(values, first, step, unit="µm"):
    """A map whose pixels of `step` begin at a pixel edge of `image`, `first` in pixels of the image."""
    scale = {"µm": 1, "nm": 1000}[unit]
    coords = {
        a: (a, (s - 0.25 + k * 0.5 + (np.arange(n) + 0.5) * step) * scale, {"units": unit, "spacing": step * scale})
        for a, s, n, k in zip("yx", (3.0, -2.0), values.shape, first, strict=True)
    }
    return xr.DataArray(values, dims=("y", "x"), coords=coords)


@pytest.mark.parametrize("unit", ["µm", "nm"])
@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("first", [(4, 8), (-8, 4), (8, -6), (0, 0)])
def test_a_mask_ends_where_it_ends(first, step, unit):
    factor = step / 0.5
    values = np.ones((int(12 / factor), int(12 / factor)))
    values[:, 0] = NAN
    mask = own_grid(values, first, step, unit)
    whole = np.zeros((60, 64))
    rows, columns = (slice(20 + k, 20 + k + 12) for k in first)
    fine = np.nan_to_num(values).repeat(max(1, int(factor)), 0).repeat(max(1, int(factor)), 1)
    if factor < 1:
        fine = fine.reshape(12, 2, 12, 2).mean((1, 3))
    whole[rows, columns] = fine
    inner = whole[20:40, 20:44]
    for edge in ("shift", "pad", "drop"):
        p = image().img.patches(6, overlap=3, mask=mask, min_coverage=0.5, edge=edge)
        every = image().img.patches(6, overlap=3, edge=edge).plan.start
        kept = [
            s
            for s in every.tolist()
            if inner[max(s[0], 0) : s[0] + 6, max(s[1], 0) : s[1] + 6].mean() >= 0.5 - (0.09 if factor == 2 else 0)
        ]
        found = p.plan.start.tolist()
        exact = [s for s in found if (s[0] - first[0]) % 2 == 0 and (s[1] - first[1]) % 2 == 0]
        if factor == 2:  # patches that cut pixels of the mask are rounded to whole ones
            assert all(s in kept for s in exact)
        else:
            assert found == kept


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
def test_centres_are_drawn_from_what_lies_in_the_image(step):
    values = np.ones((int(20 * 0.5 / step),) * 2)
    mask = own_grid(values, (-10, -10), step)  # a quarter of it lies in the image
    p = image().img.patches(4, sample="weighted", mask=mask, n=2000, edge="pad")
    centres = p.plan.start + 2
    assert centres.min() == 0
    assert centres.max() == 9
    counts = np.bincount(centres[:, 0], minlength=10)
    assert counts.max() < 1.5 * counts.min()


def test_labels_of_patches_leave_nan_and_negative_ones_out():
    labels = companion((20, 24), (0, 0), dtype="i4")
    expected = image().img.patches(4, sample="weighted", labels=labels, n=300, edge="pad").plan
    floats = labels.where(labels > 0).astype("f4")
    found = image().img.patches(4, sample="weighted", labels=floats, n=300, edge="pad").plan
    np.testing.assert_array_equal(found.start, expected.start)
    found = image().img.patches(4, sample="weighted", labels=labels.where(labels > 0, -1), n=300, edge="pad").plan
    np.testing.assert_array_equal(found.start, expected.start)


def test_a_map_beside_the_image_is_refused():
    for name in ("mask", "labels", "weights"):
        with pytest.raises(AxesError, match=f"'{name}' has no pixel in common with the image along 'y'.*40 pixels"):
            image().img.patches(4, sample="weighted", **{name: companion((20, 24), (40, 0), dtype="i4")})
    with pytest.raises(AxesError, match="'other' has no pixel in common with the image along 'x'"):
        image().img.patches(4, paired={"other": companion((20, 24), (0, -24), dtype="i4")})


def test_time_points_of_masks_of_patches():
    movie = xr.DataArray(np.zeros((3, 8, 8)), dims=("t", "y", "x"), coords={"t": [0.0, 1, 2]})
    mask = xr.DataArray(np.ones((2, 8, 8)), dims=("t", "y", "x"), coords={"t": [2.0, 1]})
    p = movie.img.patches(4, mask=mask, min_coverage=1)
    assert set(p.plan.index[:, 0].tolist()) == {1, 2}
    with pytest.raises(AxesError, match="does not cover the image along 't'"):
        movie.img.patches(4, paired={"other": mask})


def test_foreground_of_a_float_mask():
    from intake_img.accessor.patches.filters import foreground

    labels = companion((20, 24), (0, 0), dtype="i4")
    ds = image().assign(roi=labels.where(labels > 0), cells=labels)
    plans = [ds.img.patches(4, where=foreground(name, 0.7)).plan.start.tolist() for name in ("roi", "cells")]
    assert plans[0] == plans[1] != ds.img.patches(4).plan.start.tolist()


@pytest.mark.parametrize("unit", ["pixel", "px", "voxels", "furlong", "s"])
def test_units_that_do_not_convert_are_refused(unit):
    coords = {a: (a, np.arange(8) * 1.0, {"units": "µm"}) for a in "yx"}
    image = xr.Dataset({"image": (("c", "y", "x"), np.arange(128.0).reshape(2, 8, 8))}, coords=coords)
    mask = xr.DataArray(np.ones((8, 8)), dims=("y", "x"), coords={a: (a, np.arange(8), {"units": unit}) for a in "yx"})
    with pytest.raises(UnitsError, match=unit):
        image.img.coloc.measure(mask=mask)
    with pytest.raises(UnitsError, match=unit):
        image.img.patches(4, mask=mask)
    for attrs in ({}, {"units": "micron"}, {"units": ""}):
        bare = mask.assign_coords({a: (a, np.arange(8) * 1.0, attrs) for a in "yx"})
        assert image.img.coloc.measure(mask=bare, measures="n").n.item() == 64
        assert len(image.img.patches(4, mask=bare)) == 4
