"""Laws of tables of regions: equal to scikit-image for complete images, bit for bit the same for every chunking."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401

pytestmark = pytest.mark.thorough
measure = pytest.importorskip("skimage.measure")

COMMON = [
    "num_pixels",
    "area",
    "bbox",
    "area_bbox",
    "extent",
    "equivalent_diameter_area",
    "centroid",
    "centroid_local",
    "inertia_tensor",
    "inertia_tensor_eigvals",
    "axis_major_length",
    "axis_minor_length",
    "moments",
    "moments_central",
    "moments_normalized",
    "euler_number",
    "intensity_min",
    "intensity_max",
    "intensity_mean",
]
PLANAR = ["perimeter", "perimeter_crofton", "eccentricity", "moments_hu", "orientation"]
SINGLE = ["solidity", "area_filled", "centroid_weighted"]


def regions_of(rng, shape):
    """Labels with gaps in their numbers, touching each other, some in several places, some below 0."""
    values = ndimage.gaussian_filter(rng.random(shape), 1.0)
    classes = np.digitize(values, np.quantile(values, [0.4, 0.6, 0.8]))
    labels = np.zeros(shape, int)
    for k in range(1, 4):
        found, n = ndimage.label(classes == k)
        labels += np.where(found, found * (n > 0) * 7 + 1000 * k, 0)
    return np.where(classes == 3, 5, labels)


@examples(40)
@given(data=st.data())
def test_tables_equal_those_of_scikit_image(data):
    dims = data.draw(st.sampled_from(["yx", "yx", "zyx"]))
    shape = data.draw(st.tuples(*[st.integers(2, 14 if len(dims) == 2 else 7) for _ in dims]))
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "i2", "u4", "i8", "f4", "f8", "?"])))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    labels = regions_of(rng, shape)
    image = rng.random(shape) * 200 - (50 if dtype.kind in "if" else 0)
    image = (image > 60) if dtype.kind == "b" else image.astype(dtype)
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 5)) for d, n in zip(dims, shape, strict=True)}
    names = COMMON + (PLANAR if len(dims) == 2 else ["surface_area"]) + ["intensity_sum", "intensity_std"]
    ds = xr.Dataset({"image": stack(image, dims), "labels": stack(labels, dims).assign_attrs(kind="labels")})
    whole = ds.img.regionprops(properties=names)
    pd.testing.assert_frame_equal(ds.chunk(chunks).img.regionprops(properties=names), whole, check_exact=True)
    known = [n for n in names if n not in ("orientation", "surface_area", "intensity_sum", "intensity_std")]
    wanted = measure.regionprops_table(
        labels, image.view("u1") if dtype.kind == "b" else image.astype("f8"), properties=known
    )
    for column, values in wanted.items():
        np.testing.assert_allclose(whole[column], values, rtol=1e-9, atol=1e-6, err_msg=column)
    regions = measure.regionprops(labels)
    values = [image[labels == r.label].astype(float) for r in regions]
    np.testing.assert_allclose(whole["intensity_std"], [v.std() for v in values], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(whole["intensity_sum"], [v.sum() for v in values], rtol=1e-9)
    if len(dims) == 2:
        long = whole["eccentricity"] > 0.3  # of round regions the direction is rounding
        angles = np.array([r.orientation for r in regions]) - whole["orientation"]
        assert (np.abs(np.sin(angles[long])) < 1e-6).all()
    else:
        areas = [surface(np.pad(r.image, 1), (1, 1, 1)) for r in regions]
        np.testing.assert_allclose(whole["surface_area"], areas, rtol=1e-5)


def surface(mask, steps):
    vertices, faces, *_ = measure.marching_cubes(mask.astype(float), 0.5, spacing=steps)
    return measure.mesh_surface_area(vertices, faces)


@pytest.mark.parametrize("chunks", [{}, {"y": 5, "x": 6}, {"c": 1, "t": 1, "y": 1}])
def test_what_does_not_add_up_is_measured_by_region(chunks):
    rng = np.random.default_rng(4)
    labels = np.stack([regions_of(rng, (12, 15)) for _ in range(2)])
    image = rng.random((2, 2, 12, 15))
    ds = xr.Dataset({"image": stack(image, "tcyx"), "cells": stack(labels, "tyx").assign_attrs(kind="labels")})
    table = ds.chunk(chunks).img.regionprops(
        properties=["solidity", "area", *SINGLE[1:]], extra_properties=[lambda mask: int(mask.sum())]
    )
    assert list(table.columns[:5]) == ["t", "c", "label", "solidity", "area"]
    for t in range(2):
        for c in range(2):
            mine = table[(table["t"] == t) & (table["c"] == c)]
            for column, values in measure.regionprops_table(labels[t], image[t, c], properties=SINGLE).items():
                np.testing.assert_allclose(mine[column], values, rtol=1e-9)
            assert mine["<lambda>"].tolist() == mine["area"].tolist()


@pytest.mark.filterwarnings("ignore:Failed to get convex hull")
@pytest.mark.parametrize("chunks", [None, {"z": 1, "x": 3}])
def test_flat_regions_of_volumes_have_no_diameter(chunks):
    labels = np.zeros((3, 6, 6), int)
    labels[1, :2, :5], labels[:, 3:, :4], labels[2, 0, 5] = 1, 2, 3
    table = stack(labels, "zyx", chunks).assign_attrs(kind="labels").img.regionprops(properties=["feret_diameter_max"])
    assert table["label"].tolist() == [1, 2, 3]
    (wanted,) = measure.regionprops((labels == 2).astype(int))
    np.testing.assert_array_equal(table["feret_diameter_max"], [np.nan, wanted.feret_diameter_max, np.nan])


def test_physical_surfaces_and_perimeters():
    labels = regions_of(np.random.default_rng(2), (9, 10, 11))
    coords = {
        a: (a, np.arange(n) * s, {"units": "µm", "spacing": s})
        for a, n, s in zip("zyx", labels.shape, (2, 0.5, 0.5), strict=True)
    }
    array = xr.DataArray(labels, dims=["z", "y", "x"], coords=coords).chunk(z=4, y=3, x=5)
    table = array.img.regionprops(properties=["surface_area"], units="physical")
    wanted = [surface(np.pad(r.image, 1), (2, 0.5, 0.5)) for r in measure.regionprops(labels)]
    np.testing.assert_allclose(table["surface_area"], wanted, rtol=1e-5)
    assert table.attrs["column_units"]["surface_area"] == "µm²"
    plane = array.isel(z=4, drop=True)
    table = plane.img.regionprops(properties=["perimeter"], units="physical")
    wanted = measure.regionprops_table(plane.values, spacing=(0.5, 0.5), properties=["perimeter"])
    np.testing.assert_allclose(table["perimeter"], wanted["perimeter"])
    with pytest.raises(NotImplementedError, match="'perimeter' is of planes"):
        array.img.regionprops(properties=["perimeter"])
    with pytest.raises(NotImplementedError, match=r"pixels of 2 x 0\.5"):
        array.isel(y=0).img.regionprops(properties=["perimeter"], units="physical")


def test_sums_do_not_overflow_and_nan_stays_in_its_region():
    labels = np.array([[1, 1, 2, 2, 3, 3]] * 2)
    big = np.full((2, 6), 2**63 + 1, np.uint64)
    found = stack(labels, "yx", {"x": 3}).img.regionprops(
        intensity=stack(big, "yx"), properties=["intensity_mean", "intensity_std"]
    )
    assert found["intensity_mean"].tolist() == [float(2**63)] * 3
    assert found["intensity_std"].tolist() == [0.0] * 3
    values = np.array([[1.0, np.nan, np.inf, 2.0, 1e300, -1e300]] * 2)
    names = ["intensity_mean", "intensity_std", "intensity_max"]
    found = stack(labels, "yx", {"x": 3}).img.regionprops(intensity=stack(values, "yx"), properties=names)
    np.testing.assert_array_equal(found["intensity_mean"], [np.nan, np.inf, 0.0])
    np.testing.assert_array_equal(found["intensity_max"], [np.nan, np.inf, 1e300])
    huge = xr.DataArray(np.ones((1, 3), int), dims=["y", "x"])
    assert huge.pad(x=(10**6, 0), constant_values=1).img.regionprops(properties=["moments"])["moments-0-3"].iloc[
        0
    ] == pytest.approx(sum(k**3 for k in range(10**6 + 3)), rel=1e-12)


@pytest.mark.parametrize("chunks", [{}, {"y": 4, "x": 7, "c": 1}])
def test_objects_times_channels(chunks):
    rng = np.random.default_rng(5)
    labels = np.stack([regions_of(rng, (12, 15)) for _ in range(2)])
    image = rng.integers(0, 4000, (2, 3, 12, 15)).astype("u2")
    ds = xr.Dataset(
        {
            "image": stack(image, "tcyx", c=["DAPI", "GFP", "Cy5"]),
            "cells": stack(labels, "tyx").assign_attrs(kind="labels"),
        }
    ).chunk(chunks)
    table = ds.img.measure_objects(properties=["area", "intensity_mean", "intensity_max"])
    long = ds.img.regionprops(properties=["area", "intensity_mean", "intensity_max"])
    assert len(table) * 3 == len(long)
    assert list(table.columns[:4]) == ["t", "label", "area", "intensity_mean-DAPI"]
    for c in ("DAPI", "GFP", "Cy5"):
        rows = long[long["c"] == c].reset_index(drop=True)
        for name in ("intensity_mean", "intensity_max"):
            np.testing.assert_array_equal(table[f"{name}-{c}"], rows[name])
    one = ds.image.img.measure_objects(ds.cells, properties=["area", "intensity_mean", "intensity_max"])
    pd.testing.assert_frame_equal(one, table)  # labels of an image, as of a Dataset with both
    one = ds.image.img.measure_objects(ds.cells, False, ["area"])
    assert list(one.columns) == ["t", "label", "area"]
    one = ds.img.measure_objects("cells", False, ["area"])
    assert list(one.columns) == ["t", "label", "area"]


def test_an_empty_image_has_an_empty_table():
    for shape in ((0, 5), (4, 5)):
        table = xr.DataArray(np.zeros(shape, int), dims=["y", "x"]).img.regionprops(properties=["area", "perimeter"])
        assert list(table.columns) == ["label", "area", "perimeter"]
        assert len(table) == 0


@pytest.mark.parametrize("chunks", [None, 7, 40])
def test_properties_of_any_size_are_one_column(chunks):
    """Coordinates, pictures and slices of regions, small ones too; numbers of extra functions stay numbers."""
    from skimage.measure import regionprops

    labels = np.zeros((40, 50), int)
    for k, place in ((5, np.s_[12:16, 12:15]), (2, np.s_[20:30, 20:30]), (9, np.s_[33:38, 3:7])):
        labels[place] = k

    def image_sum(region):
        return float(region.sum())

    array = xr.DataArray(labels, dims=["y", "x"])
    array = array if chunks is None else array.chunk(chunks)
    wanted = ["label", "coords", "slice", "image_convex", "inertia_tensor_eigvals"]
    table = array.img.regionprops(properties=wanted, extra_properties=[image_sum]).set_index("label")
    ends = ["inertia_tensor_eigvals-0", "inertia_tensor_eigvals-1", "image_sum"]
    assert list(table.columns) == ["coords", "slice", "image_convex", *ends]
    assert table["image_sum"].dtype == float
    for region in regionprops(labels):
        row = table.loc[region.label]
        np.testing.assert_array_equal(row["coords"], region.coords)
        np.testing.assert_array_equal(row["image_convex"], region.image_convex)
        assert row["slice"] == region.slice
        assert row["inertia_tensor_eigvals-1"] == pytest.approx(region.inertia_tensor_eigvals[1])


@pytest.mark.parametrize("chunks", [None, {"t": 1, "y": 3}])
@pytest.mark.parametrize("images", [0, 2])
def test_tables_without_objects_have_the_same_columns(images, chunks):
    image, labels = stack(np.ones((2, 3, 9, 10), "u2"), "tcyx"), stack(np.zeros((2, 9, 10), int), "tyx")
    if chunks:
        image, labels = image.chunk(chunks), labels.chunk(chunks)
    some = labels + stack(np.eye(9, 10, dtype=int), "yx")
    for measure in ("regionprops", "measure_objects"):
        table = getattr(image[:images].img, measure)(labels[:images])
        full = getattr(image.img, measure)(some)
        assert not len(table)
        assert table.columns.tolist() == full.columns.tolist()
        assert table.dtypes.tolist() == full.dtypes.tolist()
        assert table.attrs["column_units"] == full.attrs["column_units"]


def test_channels_with_names_that_repeat_have_their_numbers():
    labels = stack(np.eye(9, 10, dtype=int), "yx").assign_attrs(kind="labels")
    image = stack(np.arange(270).reshape(3, 9, 10), "cyx", c=["a", "a", "b"])
    table = xr.Dataset({"image": image, "labels": labels}).img.measure_objects(properties=["area", "intensity_mean"])
    assert table.columns.tolist() == ["label", "area", *(f"intensity_mean-{c}" for c in range(3))]
    assert table.iloc[0, 2:].tolist() == image.where(labels > 0).mean(["y", "x"]).values.tolist()
