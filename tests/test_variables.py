"""The law of image variables: methods of a Dataset work on its images, and everything else passes through untouched.

An image variable has y and x, holds numbers or bool, and is neither labels nor a mask. And an array whose plane has
other names than y and x is refused by every method that works on neighbourhoods in space.
"""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from intake_img import imload, imsave, patches
from intake_img.accessor.variables import images, is_image
from intake_img.errors import AxesError

OTHERS = ("exposure", "spatial_ref", "names", "profile", "row_names", "when", "labels", "mask")


def dataset() -> xr.Dataset:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 5000, (3, 2, 20, 24)).astype("u2")
    ds = xr.Dataset(
        {
            "names": ("t", np.array(["a", "b", "c"], object)),  # before the image: the order does not matter
            "exposure": ("t", [10.0, 20.0, 30.0], {"units": "ms"}),
            "raw": (("t", "c", "y", "x"), values),
            "second": (("t", "y", "x"), rng.random((3, 20, 24), "f4")),
            "bright": (("t", "y", "x"), values[:, 0] > 2000),
            "spatial_ref": ((), 0, {"crs_wkt": "local"}),
            "profile": ("x", np.arange(24.0)),
            "row_names": (("y", "x"), np.full((20, 24), "A")),
            "when": ("t", np.array(["2020-01-01", "2020-01-02", "2020-01-03"], "M8[ns]")),
            "labels": (("t", "y", "x"), rng.integers(0, 4, (3, 20, 24)), {"kind": "labels"}),
            "mask": (("y", "x"), rng.random((20, 24)) > 0.5, {"kind": "mask"}),
        },
        coords={"c": ["A", "B"], "x": ("x", 0.5 * np.arange(24), {"units": "µm", "spacing": 0.5})},
        attrs={"a": 1},
    )
    return ds.chunk({"t": 1, "y": 10})


def test_what_an_image_is():
    ds = dataset()
    assert list(images(ds)) == ["raw", "second", "bright"]
    assert [n for n in ds.data_vars if is_image(ds[n])] == ["raw", "second", "bright"]
    assert ds.img.axes == "tcyx"  # the first image speaks for the Dataset
    assert ds.img.count() == 3


SAME_GRID = {
    "gaussian": lambda i: i.gaussian_filter(1, output_dtype=float),
    "median": lambda i: i.median_filter(3),
    "laplace": lambda i: i.laplace(),
    "threshold": lambda i: i.threshold_local(5),
    "normalize": lambda i: i.normalize(),
    "clip": lambda i: i.clip(0, 100),
    "subtract": lambda i: i.subtract(5),
    "contrast": lambda i: i.enhance_contrast(),
    "ball": lambda i: i.rolling_ball(3),
    "background": lambda i: i.subtract_background(3),
    "map": lambda i: i.map(lambda p: p),
    "series": lambda i: i.map_as_series(lambda s: s, value_size=3, dtype=float),
}
SMALLER = {
    "max": lambda i: i.max("t"),
    "mean": lambda i: i.mean("t"),
    "std": lambda i: i.std("t"),
    "reduce": lambda i: i.reduce(np.maximum, "t"),
    "projection": lambda i: i.max_projection("y"),
    "max and min": lambda i: i.max_min_projection("x"),
    "localcorr": lambda i: i.localcorr(1),
}


@pytest.mark.parametrize("name", [*SAME_GRID, *SMALLER])
def test_all_else_passes_through(name):
    ds = dataset().drop_vars("bright" if name != "clip" else [])
    call = {**SAME_GRID, **SMALLER}[name]
    found = call(ds.img)
    assert list(found.data_vars) == list(ds.data_vars)
    assert found.attrs == ds.attrs
    for other in OTHERS:
        assert found[other].variable.identical(ds[other].variable)
    for image in ("raw", "second"):  # as each by itself
        wanted = call(ds[image].img)
        np.testing.assert_array_equal(found[image].values, wanted.values)
        assert found[image].dtype == wanted.dtype


def test_grids_that_change_leave_out_what_no_longer_fits():
    ds = dataset().drop_vars("bright")
    for found in (ds.img.rescale(0.5), ds.img.pyramid([2])["scale1"].to_dataset()):
        assert dict(found.sizes) == {"t": 3, "c": 2, "y": 10, "x": 12}
        assert set(ds.data_vars) - set(found.data_vars) == {"profile", "row_names"}
        assert found["exposure"].identical(ds["exposure"])
        assert found["when"].identical(ds["when"])
        assert found["labels"].shape == (3, 10, 12)
        assert found["labels"].dtype == ds["labels"].dtype
        assert set(np.unique(found["labels"])) <= {0, 1, 2, 3}
    assert ds.img.pyramid([2])["scale0"]["profile"].identical(ds["profile"])
    wanted = ds.isel(x=slice(4, 10))
    xr.testing.assert_identical(ds.img.crop(x=(4, 10)), wanted)


def test_methods_that_take_one_image(tmp_path):
    import tifffile

    ds = dataset().drop_vars(["second", "bright", "mask"])
    seen = []
    ds.img.foreach(lambda item: seen.append(item[1].shape))
    assert seen == [(2, 20, 24)] * 3
    assert ds.img.filter(lambda image: image.max() > 0).sizes["t"] == 3
    assert ds.img.sample(2, 0).sizes["t"] == 2
    assert ds.img.stack().data_shape == (3, 2, 20, 24)
    assert ds.img.label(dims="yx", overwrite=True)["labels"].attrs["kind"] == "labels"
    assert len(ds.img.regionprops("labels"))
    ds.img.to_tif(tmp_path / "out")
    files = sorted((tmp_path / "out").glob("*.tif*"))
    np.testing.assert_array_equal(tifffile.imread(files[0]), ds.raw.values[0])
    assert ds.img.coloc.pearson().sizes == {"t": 3, "pair": 1}
    assert json.loads(json.dumps(list(ds.img.to_series("auto").data_vars))) == list(ds.data_vars)
    pytest.importorskip("matplotlib")
    assert ds.img.plot() is not None
    assert "raw" in repr(ds.img)


def test_patches_are_cut_of_images_and_labels():
    ds = dataset()
    found = patches(ds, 8)
    assert set(found.variables) == {"raw", "second", "bright", "labels", "mask"}
    assert found.variables[0] == "raw"
    np.testing.assert_array_equal(found[0].raw.values, ds.raw.values[0, :, :8, :8])
    assert "profile" in patches(ds, 8, variables=["raw", "profile"]).variables


def test_what_is_left_of_an_image_can_be_processed():
    """A projection along y leaves no y: the variable is still the image of its Dataset, and an array is what it is."""
    ds = dataset()[["raw"]]
    flat = ds.img.max_projection("y")
    np.testing.assert_array_equal(flat.img.subtract(1).raw, ds.raw.max("y").astype("i4") - 1)
    np.testing.assert_array_equal(flat.img.max("t").raw, ds.raw.max(("t", "y")))
    zyx = xr.DataArray(np.random.default_rng(0).random((4, 5, 6)), dims=("z", "y", "x"))
    zx = zyx.img.max_projection("y")
    assert zx.img.rescale(2.0).shape == (8, 12)
    from scipy.ndimage import gaussian_filter, zoom

    np.testing.assert_allclose(zx.img.gaussian_filter(1), gaussian_filter(zyx.values.max(1), 1))
    assert not np.array_equal(zx.img.rescale(2.0), zoom(zx, 2, order=0))  # interpolated: it is not a label image


def test_a_dataset_without_an_image_says_what_it_has():
    ds = dataset()[["exposure", "profile", "names"]]
    for call in (lambda i: i.normalize(), lambda i: i.gaussian_filter(1), lambda i: i.map(np.negative)):
        with pytest.raises(ValueError, match=r"no image variable.*exposure \(t\) float64.*profile \(x\)"):
            call(ds.img)
    with pytest.raises(ValueError, match="no image variable"):
        dataset()[["labels", "exposure"]].img.normalize()


# planes with other names

FOREIGN = [
    ("z", "row", "col"),
    ("time", "z", "lat", "lon"),
    ("row", "col"),
    ("t", "c", "z", "Y", "X"),
    ("z", "y", "lon"),
    ("i", "height", "x"),
]
NEIGHBOURS = {
    "gaussian": lambda i: i.gaussian_filter(1),
    "median": lambda i: i.median_filter(3),
    "uniform": lambda i: i.uniform_filter(3),
    "laplace": lambda i: i.laplace(),
    "sobel": lambda i: i.sobel(),
    "gaussian physical": lambda i: i.gaussian_filter(1, units="physical"),
    "threshold": lambda i: i.threshold_local(3),
    "contrast": lambda i: i.enhance_contrast(),
    "ball": lambda i: i.rolling_ball(2),
    "background": lambda i: i.subtract_background(2),
    "map": lambda i: i.map(np.negative),
    "rescale": lambda i: i.rescale(0.5),
    "spacing": lambda i: i.rescale(spacing=1.0),
    "pyramid": lambda i: i.pyramid([2]),
    "subsample": lambda i: i.subsample(2),
    "label": lambda i: i.label(),
    "regions": lambda i: i._obj.astype(int).img.regionprops(),
    "patches": lambda i: i.patches(2),
    "patches of two": lambda i: i.patches((2, 2)),
    "plot": lambda i: i.plot(),
    "coloc": lambda i: i._obj.rename({i._obj.dims[0]: "c"}).img.coloc.pearson(),
    "blobs": lambda i: i.detect_blobs(min_radius=1, max_radius=2),
    "localcorr": lambda i: i._obj.expand_dims(n=4).img.localcorr(1, dim="n"),
}


def foreign(dims: tuple[str, ...]) -> xr.DataArray:
    shape = [6 + k for k in range(len(dims))]
    return xr.DataArray(np.random.default_rng(0).random(shape), dims=dims, name="image")


@pytest.mark.parametrize("dims", FOREIGN, ids=str)
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_planes_with_other_names_are_refused(name, dims):
    array = foreign(dims)
    if "c" in dims:
        array = array.isel(c=0)
    lacks = [d for d in "yx" if d not in dims]
    for obj in (array, array.to_dataset()) if name not in ("regions", "coloc", "localcorr") else (array,):
        with pytest.raises(AxesError) as caught:
            NEIGHBOURS[name](obj.img)
        said = str(caught.value)
        if name not in ("plot", "coloc"):
            assert all(repr(d) in said.split(":")[0] for d in lacks), said
            assert all(d in said for d in array.dims), said
            assert "rename(" in said


def test_the_advice_is_right():
    array = foreign(("z", "row", "col"))
    with pytest.raises(AxesError) as caught:
        array.img.gaussian_filter(1)
    assert "ds.rename(row='y', col='x')" in str(caught.value)
    from scipy.ndimage import gaussian_filter

    renamed = array.rename(row="y", col="x")
    np.testing.assert_allclose(renamed.img.gaussian_filter(1), gaussian_filter(array.values, 1))
    with pytest.raises(AxesError, match=r"rename\(lat='y', lon='x'\)"):
        foreign(("time", "z", "lat", "lon")).img.median_filter(3)


def test_axes_that_are_named_are_taken():
    from scipy.ndimage import gaussian_filter1d, median_filter

    array = foreign(("z", "row", "col"))
    wanted = gaussian_filter1d(array.values, 1, axis=0)
    np.testing.assert_allclose(array.img.gaussian_filter(1, dims="z"), wanted)
    np.testing.assert_allclose(array.img.gaussian_filter({"z": 1}), wanted)
    np.testing.assert_array_equal(array.img.median_filter({"z": 3}), median_filter(array.values, (3, 1, 1)))
    assert array.img.subsample({"z": 2}).shape == (3, 7, 8)
    assert array.img.rescale({"z": 0.5}).shape == (3, 7, 8)
    assert array.img.patches({"row": 2, "col": 2})[0].image.shape == (2, 2)
    assert array.img.map(np.negative, core_dims=("row", "col")).shape == array.shape


@pytest.mark.parametrize("dims", [("t", "x"), ("z", "x"), ("y",), ("z", "y"), ("v", "h", "y", "x"), ("fov", "y", "x")])
def test_images_of_fewer_axes_and_axes_that_lead_are_accepted(dims):
    array = foreign(dims)
    space = [array.get_axis_num(d) for d in "zyx" if d in dims]
    from scipy.ndimage import gaussian_filter

    np.testing.assert_allclose(array.img.gaussian_filter(1), gaussian_filter(array.values, 1, axes=space))


def test_tables_have_rows_for_images_with_extra_variables():
    ds = dataset()
    table = ds.img.regionprops("labels", "second")
    assert isinstance(table, pd.DataFrame)
    assert set(table.t) == {0, 1, 2}


def test_arithmetic_makes_images_of_masks_and_masks_of_labels(tmp_path):
    """New releases of xarray keep ``kind`` in arithmetic, where it no longer holds."""
    rng = np.random.default_rng(2)
    image = xr.Dataset({"image": (("y", "x"), rng.integers(0, 999, (20, 24)).astype("u2"))})
    ds = image.img.threshold(500).img.label()
    inside, some = (ds.image * ds.mask).assign_attrs(ds.mask.attrs), (ds.labels == 3).assign_attrs(ds.labels.attrs)
    masked = image.assign(inside=inside, some=some, bright=ds.mask)
    assert list(images(masked)) == ["image", "inside"]
    filtered = masked.img.gaussian_filter(1)
    expected = masked.inside.drop_attrs().img.gaussian_filter(1)
    np.testing.assert_array_equal(filtered.inside, expected)
    assert filtered.some.identical(masked.some)
    table = masked[["image", "some"]].img.label().img.regionprops()
    assert table.area.sum() == (ds.labels == 3).sum()
    imsave(masked[["inside", "some"]].rename(inside="image"), tmp_path / "a.ome.zarr", pyramid=1)
    assert not (tmp_path / "a.ome.zarr" / "labels").exists()
    imsave(masked.inside.drop_attrs(), tmp_path / "b.ome.zarr", pyramid=1)
    coarser = imload(tmp_path / "a.ome.zarr", level=1).image
    np.testing.assert_array_equal(coarser, imload(tmp_path / "b.ome.zarr", level=1).to_dataarray()[0])


def test_boolean_images_without_images_are_masks():
    rng = np.random.default_rng(2)
    ds = xr.Dataset({"image": (("y", "x"), rng.random((20, 24)) > 0.6)})
    named = xr.Dataset({"image": ds.image.assign_attrs(kind="mask")})
    np.testing.assert_array_equal(ds.img.remove_small(4).image, named.img.remove_small(4).image)
    np.testing.assert_array_equal(ds.img.fill_holes().image, named.img.fill_holes().image)
    with pytest.raises(ValueError, match="no variable whose kind is 'mask'"):
        (ds * 1.0).img.fill_holes()


def test_products_with_labels_that_are_taken_for_labels_are_named():
    """xarray gives ``image * (labels > 0)`` the attributes of the labels: the error says which variable is of which
    kind, and how to keep the image within the labels."""
    values = np.arange(12, dtype="u2").reshape(3, 4)
    labels = xr.DataArray(values % 3, dims=list("yx"), attrs={"kind": "labels"})
    image = xr.DataArray(values, dims=list("yx"))
    product = image.copy(data=values).assign_attrs(kind="labels")  # as newer releases of xarray do by themselves
    ds = xr.Dataset({"image": product, "labels": labels})
    with pytest.raises(
        ValueError, match=r"image \(y, x\) uint16 of kind labels, .*write image\.where\(labels > 0, 0\)"
    ):
        ds.img.gaussian_filter(1)
    within = ds.assign(image=image.where(labels > 0, 0)).img.maximum_filter(1)
    np.testing.assert_array_equal(within.image, np.where(labels > 0, values, 0))
