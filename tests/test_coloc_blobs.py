"""Blobs are the same for any chunks; results equal magmap where magmap is right."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.kernels import blobs as kernel

pytestmark = pytest.mark.thorough

SPACING = {"z": 2.0, "y": 0.5, "x": 0.5}


def spots(shape, places, radius, seed=0):
    image = np.zeros(shape)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    for k, place in enumerate(places):
        d2 = sum(((g - p) / r) ** 2 for g, p, r in zip(grid, place, radius, strict=True))
        image += (150 + 10 * (k % 7)) * np.exp(-d2)
    noise = np.random.default_rng(seed).integers(0, 9, shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def image(values, chunks=None, spacing=None, origin=0.0):
    coords = {"c": ["A", "B", "C"][: values.shape[0]]}
    for a, n in zip("zyx", values.shape[1:], strict=True):
        if spacing:
            coords[a] = (a, origin + np.arange(n) * spacing[a], {"units": "µm", "spacing": spacing[a]})
    return xr.Dataset({"image": (tuple("czyx"), da.from_array(values, chunks=chunks or values.shape))}, coords=coords)


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(4)
    shape = (16, 60, 70)
    places = [rng.uniform([2, 4, 4], np.array(shape) - [2, 4, 4], (25, 3)) for _ in range(2)]
    return np.stack([spots(shape, p, (1, 3, 3), n) for n, p in enumerate(places)]), places


OPTIONS = {"min_radius": 1.0, "max_radius": 2.5, "num_sigma": 4, "threshold": 0.05}


@pytest.mark.parametrize("method", ["log", "dog"])
def test_detection_does_not_depend_on_the_chunks(planted, method):
    values, _ = planted
    options = {k: v for k, v in OPTIONS.items() if method == "log" or k != "num_sigma"}
    results = [
        image(values, chunks, SPACING, origin=10.0).img.detect_blobs(method=method, **options)
        for chunks in (None, (1, 16, 23, 31), (2, 7, 60, 17))
    ]
    assert len(results[0]) > 20
    for other in results[1:]:
        pd.testing.assert_frame_equal(results[0], other)
    assert results[0].columns.tolist() == ["blob_id", "channel", "z", "y", "x", "radius"]
    assert results[0].attrs["units"] == "µm"


@given(st.tuples(st.integers(3, 16), st.integers(9, 60), st.integers(9, 70)), st.sampled_from(["log", "dog"]))
@examples(3)
def test_detection_does_not_depend_on_any_chunks(planted, chunks, method):
    """Noise has maxima everywhere, at the borders of chunks and equal ones among them; radii are anisotropic."""
    noise = np.random.default_rng(1).integers(0, 20, (1, 16, 60, 70)).astype(np.uint8)
    values = np.maximum(planted[0][:1], noise)
    options = {"min_radius": {"z": 2, "y": 1, "x": 1}, "max_radius": {"z": 4, "y": 2, "x": 2}, "threshold": 0.01}
    options |= {"method": method, **({"num_sigma": 3} if method == "log" else {})}
    whole = image(values, None, SPACING).img.detect_blobs(**options)
    assert len(whole) > 15
    assert not whole.duplicated(["z", "y", "x", "radius"]).any()
    pd.testing.assert_frame_equal(whole, image(values, (1, *chunks), SPACING).img.detect_blobs(**options))


def test_detection_equals_scikit_image(planted):
    from skimage.feature import blob_log

    values, _ = planted
    ours = image(values, (1, 8, 30, 30)).img.detect_blobs(
        channels="A", min_radius=2, max_radius=5, num_sigma=4, threshold=0.05
    )
    theirs = blob_log(
        values[0], min_sigma=[2 / 3**0.5] * 3, max_sigma=[5 / 3**0.5] * 3, num_sigma=4, threshold=0.05, overlap=0.5
    )
    theirs = theirs[np.lexsort(theirs.T[::-1])]
    np.testing.assert_allclose(ours[["z", "y", "x"]], theirs[:, :3])
    np.testing.assert_allclose(ours["radius"], theirs[:, 5] * 3**0.5)


def test_detection_finds_what_was_planted(planted):
    values, places = planted
    ds = image(values, (1, 8, 30, 30), SPACING)
    found = ds.img.detect_blobs(**OPTIONS)
    planted_blobs = pd.concat(
        [
            pd.DataFrame(p * list(SPACING.values()), columns=list("zyx")).assign(channel=c)
            for c, p in zip("AB", places, strict=True)
        ],
        ignore_index=True,
    )
    for c in "AB":
        pair = (
            pd.concat(
                [
                    found[found["channel"] == c].assign(channel="A"),
                    planted_blobs[planted_blobs["channel"] == c].assign(channel="B"),
                ]
            )
            .drop(columns="blob_id")
            .reset_index(drop=True)
        )
        matches = ds.img.coloc.match(pair, {"z": 2.5, "y": 1.0, "x": 1.0})
        assert len(matches) >= 20
    flat = xr.DataArray(values[0, 8], dims=("y", "x")).img.detect_blobs(min_radius=2, max_radius=4, threshold=0.05)
    assert flat.columns.tolist() == ["blob_id", "channel", "y", "x", "radius"]
    nothing = image(values * 0).img.detect_blobs(**OPTIONS)
    assert len(nothing) == 0
    assert nothing.columns.tolist() == found.columns.tolist()


# judging


def test_ball_is_that_of_scikit_image():
    from skimage.morphology import ball, disk

    for radius in (1, 2, 3, 5):
        assert len(kernel.ball(np.full(3, radius))) == ball(radius).sum()
        assert len(kernel.ball(np.full(2, radius))) == disk(radius).sum()
    assert len(kernel.ball(np.full(3, 2))) == 33
    assert kernel.ball(np.array([0, 0, 0])).tolist() == [[0, 0, 0]]


def magmap(values, blobs, threshold):
    """MagellanMapper's colocalize_blobs as the reference describes it: painted labels, a mask for each blob."""
    from scipy.ndimage import grey_dilation
    from skimage.morphology import ball

    channels = blobs["channel"].map({"A": 0, "B": 1, "C": 2}).to_numpy()
    places = blobs[["z", "y", "x"]].to_numpy().astype(int)
    flags = np.zeros((len(blobs), len(values)), np.uint8)
    painted, limits = {}, {}
    for c in np.unique(channels):
        labels = np.full(values.shape[1:], -1)
        for row in np.flatnonzero(channels == c):
            labels[tuple(places[row])] = row
        painted[c] = grey_dilation(labels, footprint=ball(2), mode="constant", cval=-1)
        own = np.flatnonzero(channels == c)
        if threshold == "min":
            limits[c] = min(values[c][painted[c] == row].mean() for row in own)
        else:
            limits[c] = np.percentile(values[c][painted[c] >= 0], threshold)
    for row, c in enumerate(channels):
        for other, limit in limits.items():
            flags[row, other] = values[other][painted[c] == row].mean() >= limit
    return flags


@pytest.mark.parametrize("threshold", ["min", 5, 60])
def test_equals_magmap(planted, threshold):
    values, places = planted
    blobs = pd.concat(
        [pd.DataFrame(p, columns=list("zyx")).assign(channel=c) for c, p in zip("AB", places, strict=True)],
        ignore_index=True,
    )
    blobs = blobs.drop_duplicates(subset=["z", "y", "x"])
    want = magmap(values, blobs, threshold)
    for chunks in (None, (1, 5, 20, 33), (2, 16, 7, 70)):
        found = image(values, chunks).img.coloc.blobs(blobs, threshold, overlap="last")
        assert np.array_equal(found[["in_A", "in_B"]].to_numpy(), want == 1)
    apart = far_apart(blobs)
    shared = image(values).img.coloc.blobs(apart, threshold)
    assert np.array_equal(shared[["in_A", "in_B"]].to_numpy(), magmap(values, apart, threshold) == 1)


def far_apart(blobs):
    """Blobs whose balls do not meet."""
    keep = []
    for k, row in blobs.iterrows():
        if all(np.abs(row[["z", "y", "x"]] - blobs.loc[j, ["z", "y", "x"]]).max() > 5 for j in keep):
            keep.append(k)
    return blobs.loc[keep].reset_index(drop=True)


@given(st.tuples(st.integers(6, 16), st.integers(12, 60), st.integers(12, 70)), st.integers(0, 50))
@examples(6)
def test_chunks_change_nothing(chunks, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1000, (2, 16, 60, 70)).astype(np.uint16)
    blobs = pd.DataFrame(rng.uniform(-2, [18, 62, 72], (40, 3)), columns=list("zyx"))
    blobs["channel"] = rng.choice(["A", "B"], 40)
    blobs["radius"] = rng.choice([1.0, 2.5, 4.0], 40)
    for options in ({}, {"footprint": "radius", "threshold": 30.0}, {"footprint": {"z": 1, "y": 3, "x": 2}}):
        whole = image(values).img.coloc.blobs(blobs, **options)
        cut = image(values, (1, *chunks)).img.coloc.blobs(blobs, **options)
        pd.testing.assert_frame_equal(whole, cut)
        assert whole["blob_id"].tolist() == list(range(40))
        assert whole.attrs == cut.attrs


def test_a_duplicate_blob_changes_no_other_row(planted):
    values, places = planted
    blobs = pd.concat(
        [pd.DataFrame(p, columns=list("zyx")).assign(channel=c) for c, p in zip("AB", places, strict=True)],
        ignore_index=True,
    )
    ds = image(values)
    before = ds.img.coloc.blobs(blobs)
    after = ds.img.coloc.blobs(pd.concat([blobs, blobs.iloc[[3]]], ignore_index=True))
    pd.testing.assert_frame_equal(before, after.iloc[:-1])
    columns = [c for c in after if c != "blob_id"]
    assert after.iloc[-1][columns].tolist() == after.iloc[3][columns].tolist()


def test_outside_units_time_and_errors(planted):
    values, _ = planted
    ds = image(values, spacing=SPACING, origin=100.0)
    blobs = pd.DataFrame(
        {"blob_id": [7, 3], "channel": ["A", "B"], "z": [104.0, 90.0], "y": [105.0, 1], "x": [110.0, 1]}
    )
    found = ds.img.coloc.blobs(blobs, threshold={"A": 0, "B": 1000})
    assert found["blob_id"].tolist() == [7, 3]
    want = values[0][np.ix_(*[[2], [10], [20]])].item()
    point = ds.img.coloc.blobs(blobs, footprint={"z": 0.5, "y": 0.1, "x": 0.1})
    assert point["mean_A"].iloc[0] == want
    assert found["in_A"].tolist() == [True, False]
    assert found["in_B"].tolist() == [False, False]
    assert np.isnan(found["mean_A"].iloc[1])
    movie = xr.concat([ds, ds * 0], "t").assign_coords(t=[0.0, 2.5])
    timed = movie.img.coloc.blobs(blobs.assign(t=[2.5, 0.0]))
    assert timed["mean_A"].iloc[0] == 0
    assert movie.img.coloc.blobs(blobs.assign(t=[0.0, 0.0]))["mean_A"].iloc[0] == found["mean_A"].iloc[0]
    with pytest.raises(ValueError, match="blobs lack the column 't'"):
        movie.img.coloc.blobs(blobs)
    with pytest.raises(ValueError, match="threshold='max'"):
        ds.img.coloc.blobs(blobs, threshold="max")
    with pytest.raises(ValueError, match="needs a column 'radius'"):
        ds.img.coloc.blobs(blobs, footprint="radius")
    none = ds.img.coloc.blobs(blobs.iloc[:0])
    assert len(none) == 0
    assert "in_B" in none
    only = ds.img.coloc.blobs(blobs.iloc[:1])
    assert np.isnan(only.attrs["thresholds"]["B"])
    assert not only["in_B"].any()
