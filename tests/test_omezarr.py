"""OME-Zarr: read as others wrote it, written so that others read it, refused where it is damaged."""

from __future__ import annotations

import functools
import http.server
import json
import math
import os
import random
import shutil
import sys
import warnings
import zipfile
from pathlib import Path

import dask.array as da
import numcodecs
import numpy as np
import pytest
import tifffile
import xarray as xr
import yaozarrs
import zarr
from hypothesis import given
from hypothesis import strategies as st
from servers import running
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, IntakeImgError, SceneError, SourceChangedError
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.store import block_shape, chunk_shape, shard_shape
from intake_img.formats.reading import FileReader
from intake_img.formats.registry import autodetect
from intake_img.testing import assert_same

RNG = np.random.default_rng(7)


# stores of others


@pytest.mark.parametrize(
    ("name", "sizes", "dtype", "spacing", "unit", "channels"),
    [
        ("omezarr_v04/bf2raw.zarr", "t1 c1 z1 y8 x8", "u1", {}, {}, ["Channel 0"]),
        ("omezarr_v04/mri-stack.ome.zarr", "z27 y226 x186", "u1", {}, {}, None),
        (
            "omezarr_v04/single-plane-hcs.zarr",
            "c3 y256 x512",
            "u2",
            {"y": 2.7336, "x": 2.7336},
            {"y": "µm", "x": "µm"},
            ["Maximum-Projection_FITC_05", "Best-Focus-Projection_FITC_05", "Maximum-Projection_FITC_05"],
        ),
        ("omezarr_v04/viv_blobs_image_v04.ome.zarr", "c3 y12 x12", "f8", {}, {}, ["0", "1", "2"]),
        (
            "omezarr_v04/xyz_8bit__mitotic_plate_calibrated.ome.zarr",
            "t1 c1 z6 y263 x263",
            "u1",
            {"t": 1.0, "z": 3.0, "y": 0.08519643016734027, "x": 0.08519643016734027},
            {"t": "s", "z": "µm", "y": "µm", "x": "µm"},
            ["Channel 0"],
        ),
        (
            "omezarr_v05/neuroglancer_simple_0.5.zarr",
            "y10 x10",
            "u2",
            {"y": 4.0, "x": 30.0},
            {"y": "nm", "x": "nm"},
            None,
        ),
        ("omezarr_v05/viv_blobs_image_v05.ome.zarr", "c3 y12 x12", "f8", {}, {}, ["0", "1", "2"]),
    ],
)
def test_real_stores(data: Path, name, sizes, dtype, spacing, unit, channels):
    ds = imload(data / name)
    assert [f"{a}{n}" for a, n in ds.image.sizes.items()] == sizes.split()
    assert ds.image.dtype == dtype
    assert {a: c.attrs["spacing"] for a, c in ds.coords.items() if "spacing" in c.attrs} == spacing
    assert {a: c.attrs["units"] for a, c in ds.coords.items() if "units" in c.attrs} == unit
    assert (ds.c.values.tolist() if "c" in ds.coords else None) == channels


def test_equal_pairs(data: Path):
    def zarr_of(name):
        return imload(data / name).image.values.squeeze()

    plate = tifffile.imread(data / "tiff_imagej/xyz_8bit__mitotic_plate_calibrated.tif")
    np.testing.assert_array_equal(zarr_of("omezarr_v04/xyz_8bit__mitotic_plate_calibrated.ome.zarr"), plate)
    head = tifffile.imread(data / "tiff_imagej/xyz_8bit_calibrated_anisotropic__mri_head.tif")
    np.testing.assert_array_equal(zarr_of("omezarr_v04/mri-stack.ome.zarr"), head)
    twins = (zarr_of(f"omezarr_v0{k}/viv_blobs_image_v0{k}.ome.zarr") for k in (4, 5))
    np.testing.assert_array_equal(*twins)


def test_levels_and_scenes_of_real_stores(data: Path):
    plate = data / "omezarr_v04/single-plane-hcs.zarr"
    ds = imload(plate, scene="E/07/0", level=2)
    assert ds.attrs["scenes"] == ["E/08/0", "E/07/0"]
    raw = zarr.open_array(plate / "E/07/0/2", mode="r")[...]
    np.testing.assert_array_equal(ds.image.values, raw)
    assert ds.x.attrs["spacing"] == pytest.approx(4 * 2.7336)
    assert imload(plate, scene="all").i.values.tolist() == ["E/08/0", "E/07/0"]
    assert imload(plate / "E/08").attrs["scenes"] == ["0"]
    assert imload(plate / "E/08/0/1").image.shape == (3, 128, 256)
    nano = imload(data / "omezarr_v05/neuroglancer_simple_0.5.zarr", level=1)
    assert (nano.y.values[:2].tolist(), nano.x.values[:2].tolist()) == ([2, 10], [15, 75])
    series = imload(data / "omezarr_v04/bf2raw.zarr", scene=1)
    assert series.attrs["scenes"] == ["bf2raw", "bf2raw 2"]
    with pytest.raises(SceneError, match="3 levels"):
        imload(plate, level=3)


def group(path, attributes, zarr_format=3, **arrays):
    """A group as others write it: attributes, and arrays by path ('__' for '/')."""
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    root.attrs.update(attributes)
    for name, values in arrays.items():
        values = np.asarray(values)
        array = root.create_array(name.replace("__", "/"), shape=values.shape, dtype=values.dtype, chunks=values.shape)
        array[...] = values
    return root


def axes_of(names, **units):
    kinds = {"t": "time", "c": "channel"}
    return [{"name": a, "type": kinds.get(a, "space"), **({"unit": units[a]} if a in units else {})} for a in names]


def image_of(axes, scale, path="0", **more):
    said = [{"type": "scale", "scale": scale}, *more.pop("then", [])]
    return {"axes": axes, "datasets": [{"path": path, "coordinateTransformations": said}], **more}


def v05(*images, **more):
    return {"ome": {"version": "0.5", "multiscales": list(images), **more}}


def test_transformations_compose(tmp_path):
    shift = {"type": "translation", "translation": [5, -3]}
    outer = [{"type": "scale", "scale": [10, 0.5]}, {"type": "translation", "translation": [1, 0]}]
    axes = axes_of("yx", y="nanometer", x="micrometer")
    image = image_of(axes, [2, 4], then=[shift], coordinateTransformations=outer)
    group(tmp_path / "a.zarr", v05(image), **{"0": np.zeros((3, 4), "u1")})
    ds = imload(tmp_path / "a.zarr")
    assert ds.y.values.tolist() == [51, 71, 91]
    assert ds.x.values.tolist() == [-1.5, 0.5, 2.5, 4.5]
    assert (ds.y.attrs["units"], ds.x.attrs["units"]) == ("nm", "µm")


def test_a_sequence_of_scales_and_translations_is_applied(tmp_path):
    steps = [{"type": "scale", "scale": [2, 4]}, {"type": "translation", "translation": [1, -1]}]
    image = {"axes": axes_of("yx", y="nanometer", x="nanometer"), "datasets": [{"path": "0"}]}
    image["datasets"][0]["coordinateTransformations"] = [{"type": "sequence", "transformations": steps}]
    group(tmp_path / "a.zarr", v05(image), **{"0": np.zeros((3, 4), "u1")})
    ds = imload(tmp_path / "a.zarr")
    assert ds.y.values.tolist() == [1, 3, 5]
    assert ds.x.values.tolist() == [-1, 3, 7, 11]


def test_a_transformation_that_is_not_applied_is_told(tmp_path):
    turned = {"type": "affine", "affine": [[0, 1, 0], [1, 0, 0]]}
    image = image_of(axes_of("yx", y="nanometer", x="nanometer"), [2, 4], then=[turned])
    group(tmp_path / "a.zarr", v05(image), **{"0": np.zeros((3, 4), "u1")})
    with pytest.warns(UserWarning, match="'0' has a transformation that is not applied: affine"):
        assert imload(tmp_path / "a.zarr").img.spacing == {"y": 2.0, "x": 4.0}


@pytest.mark.parametrize(
    ("axes", "dims"),
    [
        (["c", "y", "x"], "cyx"),
        ([{"type": "channel"}, {"type": "space"}, {"type": "space"}], "cyx"),
        ([{"type": "time", "name": "time"}, {"name": "Y"}, {"name": "X"}], "tyx"),
        ([{"type": "space"}, {"type": "space"}, {"type": "space"}], "zyx"),
        (None, "zyx"),
    ],
)
def test_axes_of_any_version(tmp_path, axes, dims):
    image = {"datasets": [{"path": "0"}], "version": "0.3"} | ({"axes": axes} if axes else {})
    group(tmp_path / "a.zarr", {"multiscales": [image]}, 2, **{"0": np.zeros((2, 3, 4), "u1")})
    ds = imload(tmp_path / "a.zarr")
    assert "".join(ds.image.dims) == dims
    assert not ds.coords


def test_unknown_calibration_is_left_out(tmp_path):
    axes = axes_of("tzyx", t="second", y="pixel")
    image = image_of(axes, [1, 1, 2, 0.5])
    group(tmp_path / "a.zarr", v05(image), **{"0": np.zeros((2, 2, 3, 4), "u1")})
    assert {str(a): c.attrs for a, c in imload(tmp_path / "a.zarr").coords.items()} == {
        "t": {"units": "s", "spacing": 1.0},
        "x": {"spacing": 0.5},
    }


def test_channels(tmp_path):
    window = {"start": 1, "end": 9, "min": 0, "max": 255}
    omero = {
        "channels": [{"label": "DAPI", "color": "0000ff", "window": window}, {"color": "00FF00", "window": window}]
    }
    image = image_of(axes_of("cyx"), [1, 1, 1])
    group(tmp_path / "a.zarr", v05(image, omero=omero), **{"0": np.zeros((2, 3, 4), "u1")})
    ds = imload(tmp_path / "a.zarr")
    assert ds.c.values.tolist() == ["DAPI", "1"]
    assert ds.c.attrs["color"] == ["#0000FF", "#00FF00"]
    assert ds.c.attrs["window_end"] == [9.0, 9.0]
    ds.to_netcdf(tmp_path / "a.nc", engine="netcdf4")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_labels(tmp_path, zarr_format):
    image = image_of(axes_of("cyx"), [1, 0.5, 0.5])
    label = image_of(axes_of("cyx"), [1, 0.5, 0.5])
    small = image_of(axes_of("yx"), [1, 1])
    pixels, cells = RNG.integers(0, 99, (2, 6, 8)).astype("u2"), RNG.integers(0, 9, (1, 6, 8)).astype("u4")
    wrap = (lambda ome: {"ome": ome}) if zarr_format == 3 else (lambda ome: ome)
    root = group(tmp_path / "a.zarr", wrap({"multiscales": [image]}), zarr_format, **{"0": pixels})
    labels = root.create_group("labels")
    labels.attrs.update(wrap({"labels": ["cells", "coarse"]}))
    for name, meta, values in (("cells", label, cells), ("coarse", small, cells[0, ::2, ::2])):
        inner = labels.create_group(name)
        inner.attrs.update(wrap({"multiscales": [meta], "image-label": {}}))
        inner.create_array("0", shape=values.shape, dtype=values.dtype)[...] = values
    ds = imload(tmp_path / "a.zarr")
    assert list(ds.data_vars) == ["image", "cells"]
    assert ds.cells.dims == ("y", "x")
    assert ds.cells.attrs == {"kind": "labels"}
    np.testing.assert_array_equal(ds.cells, cells[0])
    assert ds.attrs["scenes"] == ["0", "labels/coarse"]
    coarse = imload(tmp_path / "a.zarr", scene="labels/coarse").image
    assert (coarse.shape, coarse.attrs["kind"]) == ((3, 4), "labels")


def test_several_multiscales_and_nested_groups(tmp_path):
    raw, low = (
        dict(image_of(axes_of("yx"), [1, 1], path=p), name=n) for p, n in (("0", "raw"), ("other/0", "denoised"))
    )
    group(tmp_path / "a.zarr", v05(raw, low), **{"0": np.zeros((3, 4)), "other__0": np.ones((5, 6))})
    assert imload(tmp_path / "a.zarr").attrs["scenes"] == ["raw", "denoised"]
    assert imload(tmp_path / "a.zarr", scene="denoised").image.shape == (5, 6)
    root = zarr.open_group(tmp_path / "sdata.zarr", mode="w")
    root.create_group("tables")
    group(tmp_path / "sdata.zarr" / "images" / "blobs", v05(raw), **{"0": np.zeros((3, 4))})
    root.create_group("images", overwrite=False) if not (tmp_path / "sdata.zarr/images/zarr.json").exists() else None
    assert imload(tmp_path / "sdata.zarr").attrs["scenes"] == ["images/blobs"]


# plain Zarr


@pytest.mark.filterwarnings("ignore:The data type .FixedLengthUTF32")
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_what_xarray_wrote(tmp_path, zarr_format, consolidated):
    ds = xr.Dataset(
        {
            "a": (("c", "y", "x"), RNG.random((2, 3, 4)).astype("f4"), {"long": "words"}),
            "mask": (("y", "x"), RNG.random((3, 4)) > 0.5),
            "packed": (("y", "x"), np.array([[0.5, 1, np.nan, 2]] * 3)),
        },
        coords={
            "c": ["DAPI", "GFP"],
            "x": ("x", [0.0, 0.5, 1.0, 1.5], {"units": "µm"}),
            "when": ("c", np.array(["2020-01-01", "2021-02-03"], "M8[ns]")),
        },
        attrs={"title": "t", "uri": "dropped"},
    )
    encoding = {"packed": {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}}
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=consolidated, encoding=encoding)
    back = imload(tmp_path / "a.zarr")
    xr.testing.assert_equal(back.compute(), ds)
    assert back.a.attrs == {"long": "words"}
    assert back.mask.dtype == bool
    assert back.attrs["title"] == "t"
    np.testing.assert_array_equal(back.packed[1:, 2:].values, ds.packed[1:, 2:])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("encoding", [{"dtype": "i2"}, {"dtype": "f4"}, {"dtype": "i2", "scale_factor": 0.5}])
def test_missing_values_that_xarray_wrote(tmp_path, zarr_format, encoding):
    ds = xr.Dataset({"image": (("y", "x"), np.array([[0.5, 1, np.nan, 2]] * 3) * 2)})
    encoding = {"image": {"missing_value": -9, **encoding}}
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=False, encoding=encoding)
    np.testing.assert_array_equal(imload(tmp_path / "a.zarr")["image"], ds["image"])


@pytest.mark.parametrize(
    ("text", "missing"), [("AAAAAAAA+H8=", np.nan), ("AAAAAAAA8L8=", -1.0), ("no base64", 0.0), ("AAAA", 0.0)]
)
def test_a_missing_value_that_is_text(tmp_path, text, missing):
    """Text is xarray's float64 in base64; early releases wrote NaN so and left 0 as the fill value of the array."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    values = np.array([0.0, 0.5, -1.0, 1.5])
    group.create_array("image", data=np.ones((2, 4), "u1"), dimension_names=("y", "x"))
    x = group.create_array("x", shape=4, dtype="f8", fill_value=0.0, dimension_names=("x",))
    x[:] = values
    x.attrs["_FillValue"] = text
    found = imload(tmp_path / "a.zarr").x.values
    np.testing.assert_array_equal(found, np.where(values == missing, np.nan, values))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bare_arrays(tmp_path, zarr_format):
    values = RNG.integers(0, 9, (2, 3, 4)).astype(">u2")
    zarr.create_array(tmp_path / "a", shape=values.shape, dtype=values.dtype, zarr_format=zarr_format)[...] = values
    ds = imload(tmp_path / "a")
    assert ds.image.dims == ("z", "y", "x")
    assert ds.image.dtype == "uint16"
    np.testing.assert_array_equal(ds.image, values)
    group(tmp_path / "g", {}, zarr_format, one=np.zeros((2, 3)), two=np.ones((2, 3), "i4"))
    assert set(imload(tmp_path / "g").data_vars) == {"one", "two"}
    group(tmp_path / "h", {}, zarr_format, one=np.zeros((2, 3)), two=np.ones((4, 3), "i4"))
    assert imload(tmp_path / "h").attrs["scenes"] == ["one", "two"]
    assert imload(tmp_path / "h", scene="two").image.shape == (4, 3)


def test_dimension_names_of_bare_arrays(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(2, 3, 4), dtype="u1", dimension_names=["t", None, "x"])
    assert imload(tmp_path / "a.zarr").image.dims == ("t", "y", "x")


def test_folder_of_any_name_is_told(tmp_path):
    group(tmp_path / "plain folder", v05(image_of(axes_of("yx"), [1, 1])), **{"0": np.zeros((3, 4))})
    assert autodetect(tmp_path / "plain folder").image().sizes == {"y": 3, "x": 4}


@pytest.mark.parametrize("kind", ["text", "numbers", "nothing"])
def test_groups_without_images_say_so(tmp_path, kind):
    arrays = {"text": {"names": np.array(["a", "b"], "S1")}, "numbers": {"obs": np.arange(4)}, "nothing": {}}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group(tmp_path / "a.zarr", {}, 2, **arrays)
    with pytest.raises(FormatError, match=r"a\.zarr: the Zarr group contains no image.*name a group inside it"):
        imload(tmp_path / "a.zarr")


# damage


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../b.zarr/0", "leads out"),
        ("/etc/../x", "leads out"),
        ("..\\b", "leads out"),
        ("no", "'no'.*missing"),
        (5.5, "text"),
    ],
)
def test_paths_stay_inside(tmp_path, path, words):
    group(tmp_path / "b.zarr", v05(image_of(axes_of("yx"), [1, 1])), **{"0": np.zeros((3, 4))})
    group(tmp_path / "a.zarr", v05(image_of(axes_of("yx"), [1, 1], path=path)))
    with pytest.raises(FormatError, match=words):
        imload(tmp_path / "a.zarr")


def plate_of(path, wells, zarr_format):
    """A plate of two fields a well; the pixels of a field are its number in the plate."""

    def said(attributes):
        return attributes if zarr_format == 2 else {"ome": {"version": "0.5", **attributes}}

    group(path, said({"plate": {"wells": [{"path": w} for w in wells]}}), zarr_format)
    image = said({"multiscales": [image_of(axes_of("yx"), [1, 1])]})
    for k, well in enumerate(wells):
        group(path / well, said({"well": {"images": [{"path": "0"}, {"path": "1"}]}}), zarr_format)
        for f in range(2):
            group(path / well / str(f), image, zarr_format, **{"0": np.full((3, 4), 2 * k + f)})


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("gone", "there"),
    [
        (["A/1/0"], [1, 2, 3, 4, 5]),
        (["A/1/0", "A/1/1"], [2, 3, 4, 5]),
        (["A/1"], [2, 3, 4, 5]),
        (["A/2/1", "B/1"], [0, 1, 2]),
    ],
)
def test_wells_and_fields_that_are_missing_are_left_out(tmp_path, zarr_format, gone, there):
    plate = tmp_path / "plate.zarr"
    wells = ["A/1", "A/2", "B/1"]
    plate_of(plate, wells, zarr_format)
    for path in gone:
        shutil.rmtree(plate / path)
    with pytest.warns(UserWarning, match=f"do not exist and are left out: '.*{gone[0]}'"):
        ds = imload(plate)
    names = [f"{w}/{f}" for w in wells for f in "01"]
    assert ds.attrs["scenes"] == [names[k] for k in there]
    assert (ds.image == there[0]).all()
    stacked = imload(plate, scene="all")
    assert stacked.image[:, 0, 0].values.tolist() == there
    with pytest.raises(SceneError, match=gone[0]):
        imload(plate, scene=next(n for n in names if n.startswith(gone[0])))


def test_a_well_and_a_series_without_their_first_image(tmp_path):
    plate = tmp_path / "plate.zarr"
    plate_of(plate, ["A/1"], 3)
    series = tmp_path / "series.zarr"
    group(series, {"ome": {"bioformats2raw.layout": 3}}).create_group("OME").attrs["ome"] = {"series": ["0", "1"]}
    shutil.copytree(plate / "A/1/1", series / "1")
    shutil.rmtree(plate / "A/1/0")
    for path in (plate / "A/1", series):
        with pytest.warns(UserWarning, match="'0'"):
            ds = imload(path)
        assert ds.attrs["scenes"] == ["1"]
        assert (ds.image == 1).all()
    shutil.rmtree(plate / "A/1/1")
    with pytest.raises(FormatError, match="none of the images that the metadata name exists: missing are 'A/1/0'"):
        imload(plate)


@pytest.mark.parametrize("where", ["labels", "plate", "well", "series", "record"])
def test_paths_of_all_lists_stay_inside(tmp_path, where):
    image = image_of(axes_of("yx"), [1, 1])
    group(tmp_path / "b.zarr", v05(image), **{"0": np.zeros((3, 4))})
    away = "../b.zarr"
    if where == "record":
        imsave(np.zeros((3, 4)), tmp_path / "a.zarr")
        meta = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
        meta["attributes"]["intake_img"]["arrays"]["image"] = ["../b.zarr/0"]
        (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(meta))
        ds = imload(tmp_path / "a.zarr")  # the record is not believed, the store itself is
        assert "intake_img" not in ds.attrs["fileheader"]
        assert ds.image.shape == (3, 4)
        return
    ome = {
        "labels": {"multiscales": [image]},
        "plate": {"plate": {"wells": [{"path": away}]}},
        "well": {"well": {"images": [{"path": away}]}},
        "series": {"bioformats2raw.layout": 3},
    }[where]
    root = group(tmp_path / "a.zarr", {"ome": ome}, **{"0": np.zeros((3, 4))})
    if where == "labels":
        root.create_group("labels").attrs["ome"] = {"labels": [away]}
    if where == "series":
        root.create_group("OME").attrs["ome"] = {"series": [away]}
    with pytest.raises(FormatError, match="leads out"):
        imload(tmp_path / "a.zarr")


def test_links_out_of_the_store_are_refused(tmp_path):
    group(tmp_path / "b.zarr", v05(image_of(axes_of("yx"), [1, 1])), **{"0": np.zeros((3, 4))})
    group(tmp_path / "a.zarr", v05(image_of(axes_of("yx"), [1, 1])))
    (tmp_path / "a.zarr" / "0").symlink_to(tmp_path / "b.zarr" / "0")
    with pytest.raises(FormatError, match="is a link that leads out"):
        imload(tmp_path / "a.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "b.zarr")  # the store itself may be one
    assert imload(tmp_path / "link.zarr").image.shape == (3, 4)


@pytest.mark.parametrize(
    "change",
    [
        "{",
        "[]",
        '{"multiscales": 5}',
        '{"multiscales": [{"datasets": []}]}',
        '{"multiscales": [{"axes": ["y"], "datasets": [{"path": "0"}]}]}',
        '{"multiscales": [{"axes": ["y", "y"], "datasets": [{"path": "0"}]}]}',
        '{"plate": 3}',
    ],
)
def test_malformed_metadata(tmp_path, change):
    group(tmp_path / "a.zarr", {}, 2, **{"0": np.zeros((3, 4))})
    (tmp_path / "a.zarr/.zattrs").write_text(change)
    with pytest.raises(FormatError, match=r"a\.zarr"):
        imload(tmp_path / "a.zarr")


def test_hostile_sizes_stay_lazy(tmp_path):
    array = zarr.create_array(tmp_path / "a", shape=(10**6, 10**6), chunks=(4096, 4096), dtype="u2")
    del array
    ds = imload(tmp_path / "a", chunks=None)
    assert ds.image.size == 10**12
    assert ds.image[500_000:500_002, :3].values.tolist() == [[0, 0, 0]] * 2
    with pytest.raises(MemoryError, match="GiB"):
        autodetect(tmp_path / "a").read()
    zarr.create_array(tmp_path / "b", shape=(10**12, 10**12), chunks=(4096, 4096), dtype="u2")
    with pytest.raises(FormatError, match="no image"):
        imload(tmp_path / "b")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_truncated_blosc_chunk(tmp_path, version):
    imsave(RNG.integers(0, 2**16, (64, 64)).astype("u2"), tmp_path / "a.zarr", version=version)
    chunk = max((p for p in (tmp_path / "a.zarr").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:-100])  # incompressible: the decoder would copy what lies behind it
    with pytest.raises(FormatError, match=r"a\.zarr.*bytes: it is truncated"):
        imload(tmp_path / "a.zarr").compute()


def test_zarr_keeps_its_own_codec(tmp_path):
    imsave(np.zeros((4, 4)), tmp_path / "a.zarr")
    imload(tmp_path / "a.zarr")
    assert type(zarr.open_array(tmp_path / "a.zarr/0").metadata.codecs[1]) is zarr.codecs.BloscCodec


def test_damage(tmp_path):
    """Of some hundreds of damaged stores each reads, or fails with an error of ours."""
    ds = xr.Dataset(
        {
            "image": (tuple("cyx"), RNG.integers(0, 999, (2, 20, 30)).astype("u2")),
            "cells": (("y", "x"), RNG.integers(0, 5, (20, 30)).astype("i4"), {"kind": "labels"}),
        },
        coords={"c": ["a", "b"]},
    )
    options = [{}, {"compress": "zstd"}, {"shards": True, "chunks": 8}, {"version": "0.4", "compress": "gzip"}]
    for k, kw in enumerate(options):
        imsave(ds, tmp_path / f"{k}.zarr", **kw)
    imsave(ds, tmp_path / f"{len(options)}.zarr.zip")
    refused = 0
    for seed in range(300):
        draw = random.Random(seed)
        k = draw.randrange(len(options) + 1)
        name = f"{k}.zarr" if k < len(options) else f"{k}.zarr.zip"
        target = tmp_path / "damaged" / f"{seed}-{name}"
        shutil.copytree(tmp_path / name, target) if k < len(options) else shutil.copy(tmp_path / name, target)
        files = sorted(p for p in target.rglob("*") if p.is_file()) if target.is_dir() else [target]
        victim = draw.choice(files)
        content = bytearray(victim.read_bytes())
        if draw.random() < 0.4:
            content = content[: draw.randrange(len(content))]
        else:
            for _ in range(draw.choice([1, 4, 20])):
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        victim.write_bytes(content)
        try:
            found = imload(target)
            assert found.nbytes < 2**28
            found.compute()
        except IntakeImgError:
            refused += 1
    assert refused > 100


# written


def full() -> xr.Dataset:
    """What a Dataset may hold: labels, masks, other variables, uneven and two-dimensional coordinates, attributes."""
    ds = xr.Dataset(
        {
            "image": (tuple("tczyx"), RNG.integers(0, 999, (2, 2, 3, 40, 50)).astype("u2"), {"note": [1, "two"]}),
            "cells": (tuple("tzyx"), RNG.integers(0, 9, (2, 3, 40, 50)).astype("i4"), {"kind": "labels"}),
            "mask": (("y", "x"), RNG.random((40, 50)) > 0.5),
            "probability": (tuple("cyx"), RNG.random((2, 40, 50)).astype("f4"), {"top": np.inf}),
            "profile": (tuple("tcx"), RNG.random((2, 2, 50))),
            "scalar": ((), 5.5),
            "stamps": (("t",), np.array(["2020-01-01", "NaT"], "M8[ns]")),
        },
        coords={
            "t": ("t", [0, 1.5], {"units": "s"}),
            "c": ("c", ["DAPI", "GFP"], {"color": ["#0000FF", "#00FF00"]}),
            "z": ("z", 10 + 2.0 * np.arange(3), {"units": "µm", "spacing": 2.0}),
            "y": ("y", 0.1 * np.arange(40), {"units": "µm", "spacing": 0.1}),
            "x": ("x", -3 + 0.1 * np.arange(50), {"units": "µm", "spacing": 0.1}),
            "delta": (("t", "c"), [[0.0, 1], [2, np.nan]], {"about": 1}),
        },
        attrs={"sample": {"name": "böö", "sizes": [1, 2.5, None]}},
    )
    return ds


OPTIONS = [
    {},
    {"version": "0.4"},
    {"pyramid": 2},
    {"pyramid": 2, "version": "0.4"},
    {"shards": True, "chunks": 16},
    {"shards": {"y": 32, "x": 32}, "chunks": {"y": 16, "x": 16}, "pyramid": 1},
    {"compress": False},
    {"compress": "zstd", "version": "0.4"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_round_trip_and_validity(tmp_path, options):
    ds = full()
    imsave(ds, tmp_path / "a b.ome.zarr", **options)
    assert_same(imload(tmp_path / "a b.ome.zarr"), ds)
    yaozarrs.validate_zarr_store(tmp_path / "a b.ome.zarr")
    root = zarr.open_group(tmp_path / "a b.ome.zarr", mode="r")
    assert root.metadata.zarr_format == (2 if options.get("version") == "0.4" else 3)
    np.testing.assert_array_equal(root["0"][...], ds.image)
    np.testing.assert_array_equal(root["labels/cells/0"][...], ds.cells)
    if "shards" in options:
        assert root["0"].chunks[-2:] == (16, 16)
        assert root["0"].shards[-1] >= 32


@pytest.mark.parametrize("options", [{}, {"version": "0.4"}], ids=str)
def test_other_model_of_the_specification(tmp_path, options):
    models = pytest.importorskip("ome_zarr_models")
    imsave(full()[["image"]], tmp_path / "a.zarr", pyramid=1, **options)
    image = models.open_ome_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    described = image.ome_attributes if hasattr(image, "ome_attributes") else image.attributes
    described = getattr(described, "ome", described)
    assert [a.name for a in described.multiscales[0].axes] == list("tczyx")


def test_what_others_are_told(tmp_path):
    imsave(full(), tmp_path / "a.zarr", pyramid=1)
    ome = json.loads((tmp_path / "a.zarr/zarr.json").read_text())["attributes"]["ome"]
    axes = [(a["name"], a["type"], a.get("unit")) for a in ome["multiscales"][0]["axes"]]
    micro = "micrometer"
    assert axes == [("t", "time", "second"), ("c", "channel", None), *((a, "space", micro) for a in "zyx")]
    full_one, half = (d["coordinateTransformations"] for d in ome["multiscales"][0]["datasets"])
    assert full_one[0]["scale"] == pytest.approx([1.5, 1, 2, 0.1, 0.1])
    assert full_one[1]["translation"] == pytest.approx([0, 0, 10, 0, -3])
    assert half[0]["scale"] == pytest.approx([1.5, 1, 2, 0.2, 0.2])
    assert half[1]["translation"] == pytest.approx([0, 0, 10, 0.05, -2.95])
    assert [(c["label"], c["color"]) for c in ome["omero"]["channels"]] == [("DAPI", "0000FF"), ("GFP", "00FF00")]


def test_native_reading_of_our_own_store(tmp_path):
    """Without the record (somebody edited the metadata) the store still states what NGFF can express."""
    ds = full()
    imsave(ds, tmp_path / "a.zarr")
    meta = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
    meta["attributes"]["ome"]["omero"]["channels"][0]["label"] = "Hoechst"
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(meta))
    back = imload(tmp_path / "a.zarr")
    assert back.c.values.tolist() == ["Hoechst", "GFP"]
    assert back.attrs["scenes"] == ["image", "mask", "probability"]
    assert list(back.data_vars) == ["image", "cells"]
    np.testing.assert_allclose(back.x, ds.x)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_that_ngff_lacks(tmp_path, version):
    ds = xr.Dataset(
        {"image": (tuple("itczyx"), RNG.integers(0, 99, (2, 2, 2, 3, 8, 9)).astype("u2"), {"why": "six"})},
        coords={
            "i": ["a", "böö"],
            "c": ["x", "y"],
            "t": np.array(["2020-01-01", "2021-01-01"], "M8[ns]"),
            "e": ("c", [1.5, 2.5]),
            "ok": ("c", [True, False]),
        },
    )
    imsave(ds, tmp_path / "a.zarr", version=version)
    assert_same(imload(tmp_path / "a.zarr"), ds)
    other = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    xr.testing.assert_equal(other.compute(), ds)
    assert other.image.attrs == {"why": "six"}


@pytest.mark.parametrize("axes", ["yx", "izyx", "hyx", "tzx", "cyxs", "x", "tc", "z"])
def test_any_axes(tmp_path, axes):
    ds = xr.Dataset({"image": (tuple(axes), RNG.random(tuple(range(3, 3 + len(axes)))))})
    imsave(ds, tmp_path / "a.zarr")
    assert_same(imload(tmp_path / "a.zarr"), ds)
    if ngff.stored_order(axes):
        yaozarrs.validate_zarr_store(tmp_path / "a.zarr")
    else:
        xr.testing.assert_equal(xr.open_zarr(tmp_path / "a.zarr", consolidated=False).compute(), ds)


@pytest.mark.parametrize("options", [{}, {"version": "0.4"}, {"pyramid": 1}])
def test_further_axes_of_length_one_are_in_the_record_alone(tmp_path, options):
    axes, shape = tuple("btcvzyxh"), (1, 3, 2, 1, 4, 10, 12, 1)
    coords = {"c": ["DAPI", "GFP"], "b": [7], "x": ("x", 0.5 * np.arange(12), {"spacing": 0.5, "units": "µm"})}
    ds = xr.Dataset({"image": (axes, RNG.integers(0, 99, shape).astype("u2"))}, coords=coords)
    ds["cells"] = ("b", "z", "y", "x"), RNG.integers(0, 9, (1, 4, 10, 12)), {"kind": "labels"}
    imsave(ds, tmp_path / "a.zarr", **options)
    yaozarrs.validate_zarr_store(tmp_path / "a.zarr")
    assert_same(imload(tmp_path / "a.zarr"), ds)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert group["0"].shape == (3, 2, 4, 10, 12)
    np.testing.assert_array_equal(group["0"][:], ds["image"].values[0, :, :, 0, ..., 0])
    if "pyramid" in options:
        half = imload(tmp_path / "a.zarr", level=1)
        assert half.image.sizes == {"b": 1, "v": 1, "h": 1, "t": 3, "c": 2, "z": 4, "y": 5, "x": 6}
        assert half.b.values.tolist() == [7]
        assert half.img.spacing == {"x": 1.0}


def test_awkward_names_and_labels_alone(tmp_path):
    names = ["my image/1", "1", "labels", "..", "zarr.json", "é ü"]
    ds = xr.Dataset({n: (("y", "x"), RNG.integers(0, 9, (4, 5))) for n in names})
    imsave(ds, tmp_path / "a.zarr")
    assert_same(imload(tmp_path / "a.zarr"), ds)
    yaozarrs.validate_zarr_store(tmp_path / "a.zarr")
    alone = xr.Dataset({"cells": (("y", "x"), np.eye(5, dtype="i4"), {"kind": "labels"})})
    imsave(alone, tmp_path / "b.zarr")
    assert_same(imload(tmp_path / "b.zarr"), alone)
    yaozarrs.validate_zarr_store(tmp_path / "b.zarr")


DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16", "?", ">u2", ">f8"]


@examples(25)
@given(data=st.data())
def test_round_trip_law(tmp_path_factory, data):
    axes = data.draw(st.permutations("itczyxs").map(lambda p: p[:3]) | st.sampled_from(["yx", "tczyx", "czyx", "x"]))
    shape = data.draw(st.tuples(*[st.integers(1, 5) for _ in axes]))
    dtype = data.draw(st.sampled_from(DTYPES))
    bits = data.draw(st.binary(min_size=math.prod(shape) * 16, max_size=math.prod(shape) * 16))
    values = np.frombuffer(bits, "u1")[: math.prod(shape) * np.dtype(dtype).itemsize]
    values = (values % 2).astype("?")[: math.prod(shape)] if dtype == "?" else values.view(dtype)
    ds = xr.Dataset({"image": (tuple(axes), values.reshape(shape))})
    for axis, n in zip(axes, shape, strict=True):
        kind = data.draw(st.sampled_from(["none", "even", "text", "odd"]))
        if kind == "even":
            ds = ds.assign_coords({axis: (axis, 0.3 * np.arange(n) - 1, {"spacing": 0.3, "units": "µm"})})
        elif kind == "text":
            ds = ds.assign_coords({axis: [f"{axis}{data.draw(st.text(max_size=3))}{k}" for k in range(n)]})
        elif kind == "odd":
            ds = ds.assign_coords({axis: np.arange(n)[::-1] ** 2})
    options = data.draw(st.sampled_from([{}, {"version": "0.4"}, {"chunks": 2, "shards": True}, {"pyramid": 1}]))
    path = tmp_path_factory.mktemp("law") / "a.zarr"
    imsave(ds, path, **options)
    assert_same(imload(path), ds)


def test_pyramid_values(tmp_path):
    ds = full().isel(t=0, drop=True)[["image", "cells", "mask"]]
    ds = ds.assign_coords(z=("z", 0.05 * np.arange(3), {"spacing": 0.05, "units": "µm"}))
    imsave(ds, tmp_path / "a.zarr", pyramid=1, chunks=16)
    half = imload(tmp_path / "a.zarr", level=1)
    assert dict(half.image.sizes) == {"c": 2, "z": 1, "y": 20, "x": 25}  # z is finer than y: halved as well
    mean = ds.image.values[:, :2].reshape(2, 1, 2, 20, 2, 25, 2).mean((2, 4, 6))
    np.testing.assert_array_equal(half.image, np.floor(mean + 0.5))
    blocks = ds.cells.values[:2].reshape(1, 2, 20, 2, 25, 2).transpose(0, 2, 4, 1, 3, 5).reshape(1, 20, 25, 8)
    counts = (blocks[..., None] == blocks[..., None, :]).sum(-1)
    chosen = (blocks == half.cells.values[..., None]) * counts
    assert (chosen.max(-1) == counts.max(-1)).all()
    assert half.mask.dtype == bool
    np.testing.assert_allclose(half.x, ds.x.values[:50].reshape(25, 2).mean(1))
    assert half.x.attrs == {"units": "µm", "spacing": 0.2}
    assert half.c.values.tolist() == ["DAPI", "GFP"]


def test_pyramid_stops_at_256(tmp_path):
    imsave(np.zeros((700, 1100), "u1"), tmp_path / "a.zarr", pyramid=True)
    shapes = [zarr.open_array(tmp_path / "a.zarr" / str(k), mode="r").shape for k in range(4)]
    assert shapes == [(700, 1100), (350, 550), (175, 275), (87, 137)]
    assert not (tmp_path / "a.zarr/4").exists()


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "u8", "f2", "f4", "c8"])
def test_means_do_not_overflow(tmp_path, dtype):
    top = np.finfo(dtype).max / 4 if np.dtype(dtype).kind in "fc" else np.iinfo(dtype).max
    values = np.full((4, 4), top, dtype)
    imsave(values, tmp_path / "a.zarr", pyramid=1)
    np.testing.assert_array_equal(imload(tmp_path / "a.zarr", level=1).image, values[:2, :2])


@pytest.mark.parametrize("dtype", ["f2", "f8", "c8"])
def test_means_of_infinite_values(tmp_path, dtype):
    values = np.ones((4, 4), dtype)
    values[0, 0], values[0, 2], values[1, 3] = np.inf, np.inf, -np.inf
    imsave(xr.Dataset({"image": (("y", "x"), values)}), tmp_path / "a.zarr", pyramid=1)
    half = imload(tmp_path / "a.zarr", level=1)["image"].values
    assert half[1].tolist() == [1, 1]
    assert not np.isfinite(half[0]).any()


@pytest.mark.parametrize("options", [{}, {"shards": True, "chunks": 16}, {"version": "0.4", "compress": False}])
def test_levels_of_a_pyramid_share_what_they_are_computed_from(tmp_path, monkeypatch, options):
    """Each chunk of the source is computed, or read, once for all levels, and each level holds its own values."""
    made = []

    def chunk(block_info=None):
        z, y, x = (slice(*s) for s in block_info[None]["array-location"])
        made.append((z.start, y.start, x.start))
        return np.add.outer(
            np.arange(z.start, z.stop), np.add.outer(np.arange(y.start, y.stop) * 7, np.arange(x.start, x.stop))
        ).astype("u2")

    computed = da.map_blocks(chunk, chunks=((1, 1), (32, 32), (40, 24)), dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    tree = xr.Dataset({"image": (tuple("zyx"), computed)}).img.pyramid([2, 2])
    told = []
    imsave(tree, tmp_path / "a.zarr", progress=told.append, **options)
    assert len(made) == len(set(made)) == 8
    assert told
    for level in range(3):
        wanted = [node["image"] for _, node in tree.subtree_with_keys if "image" in node][level]
        np.testing.assert_array_equal(imload(tmp_path / "a.zarr", level=level).image, wanted)
    read, read_into = [], FileReader.read_into
    monkeypatch.setattr(FileReader, "read_into", lambda self, r, out: read.append(out.size) or read_into(self, r, out))
    imsave(imload(tmp_path / "a.zarr").img.pyramid([2, 2]), tmp_path / "b.zarr", **options)
    assert sum(read) == computed.size
    np.testing.assert_array_equal(
        imload(tmp_path / "b.zarr", level=2).image, imload(tmp_path / "a.zarr", level=2).image
    )


def test_datatree(tmp_path):
    scale0 = full()[["image"]]
    scale1 = scale0.isel(y=slice(0, None, 2), x=slice(0, None, 2))
    for c in "yx":
        scale1[c].attrs["spacing"] = 0.2
    imsave(xr.DataTree.from_dict({"scale0": scale0, "scale1": scale1}), tmp_path / "a.zarr")
    yaozarrs.validate_zarr_store(tmp_path / "a.zarr")
    assert_same(imload(tmp_path / "a.zarr"), scale0)
    back = imload(tmp_path / "a.zarr", level=1)
    np.testing.assert_array_equal(back.image, scale1.image)
    np.testing.assert_allclose(back.x, scale1.x)
    odd = xr.DataTree.from_dict({"scale0": scale0, "scale1": scale1.rename(image="other")})
    with pytest.raises(CannotWriteError, match=r"level 1 .* does not continue 'image'"):
        imsave(odd, tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": "0.3"}, "0.5 or 0.4"),
        ({"version": "0.4", "shards": True}, "needs version='0.5'"),
        ({"compress": "rar"}, "'zstd', 'gzip'"),
        ({"chunks": (1, 2)}, "a length for each of the axes"),
        ({"chunks": {"q": 1}}, "name the axis 'q'"),
        ({"chunks": 0}, "is not a length"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, words):
    with pytest.raises(CannotWriteError, match=words):
        imsave(np.zeros((3, 4, 5)), tmp_path / "a.zarr", **options)
    assert list(tmp_path.iterdir()) == []


def test_text_is_no_image(tmp_path):
    with pytest.raises(CannotWriteError, match=r"set_coords\('names'\)"):
        imsave(xr.Dataset({"image": (("y", "x"), np.eye(3)), "names": ("y", ["a", "b", "c"])}), tmp_path / "a.zarr")


def test_every_codec(tmp_path):
    values = RNG.integers(0, 99, (30, 40)).astype("u2")
    for version in ("0.4", "0.5"):
        for compress in (None, True, False, "blosc", "zstd", "gzip", "lz4", "lz4hc", "zlib", "blosclz"):
            imsave(values, tmp_path / "a.zarr", compress, overwrite=True, version=version)
            np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr/0", mode="r")[...], values)


@given(
    shape=st.tuples(*[st.integers(1, 50)] * 3),
    tiles=st.tuples(*[st.integers(1, 20)] * 3),
    unit=st.tuples(*[st.integers(1, 20)] * 3),
    most=st.integers(1, 5000),
)
def test_blocks_are_whole_chunks(shape, tiles, unit, most):
    """Every edge of a block is one of a chunk; if there is room, it is one of a tile as well; and memory is bounded."""
    block = block_shape(shape, tiles, unit, 1, most, least=most)
    lcm = [math.lcm(t, u) for t, u in zip(tiles, unit, strict=True)]
    for n, b, u in zip(shape, block, unit, strict=True):
        assert b == n or b % u == 0
    if math.prod(min(n, k) for n, k in zip(shape, lcm, strict=True)) <= most:
        assert all(b == n or b % k == 0 for n, b, k in zip(shape, block, lcm, strict=True))
    least = [min(n, u) for n, u in zip(shape, unit, strict=True)]
    assert math.prod(block) <= max(most, math.prod(least) * math.prod(2 for _ in least))


def test_chunks_and_shards():
    assert chunk_shape(None, "tczyx", (9, 2, 30, 4000, 3000), 2) == (1, 1, 1, 1024, 1024)
    assert chunk_shape(None, "tczyx", (9, 2, 30, 128, 128), 2) == (1, 1, 30, 128, 128)
    assert chunk_shape({"z": -1, "y": 64}, "zyx", (9, 200, 300), 2) == (9, 64, 300)
    assert shard_shape({"y": 100}, "zyx", (9, 200, 300), (1, 64, 64), 2) == (1, 128, 64)
    assert math.prod(shard_shape(True, "zyx", (900, 2000, 3000), (1, 512, 512), 2)) * 2 <= 2**26


def test_lazy_sources_are_read_once_and_progress_is_told(tmp_path):
    read = []

    def make(block_info=None):
        place = block_info[None]
        read.append(tuple(map(tuple, place["array-location"])))
        return np.full(place["chunk-shape"], 7, "u2")

    lazy = da.map_blocks(make, dtype="u2", chunks=((5,) * 8, (100,) * 3, (70,) * 4), meta=np.empty((0, 0, 0), "u2"))
    told = []
    from intake_img.formats.omezarr.driver import OmeZarr
    from intake_img.model.image import Image

    (tmp_path / "a").mkdir()
    OmeZarr().write(Image.from_xarray(lazy), str(tmp_path / "a"), progress=told.append, chunks=64, shards=128)
    assert sorted(read) == sorted(set(read))
    assert len(read) == 8 * 3 * 4
    assert sum(told) == lazy.nbytes
    assert (zarr.open_array(tmp_path / "a/0", mode="r")[...] == 7).all()


def test_a_killed_write_is_not_complete(tmp_path):
    def fail(n):
        raise KeyboardInterrupt

    from intake_img.formats.omezarr.driver import OmeZarr
    from intake_img.model.image import Image

    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt):
        OmeZarr().write(Image.from_xarray(np.zeros((9, 9))), str(tmp_path / "a"), progress=fail)
    assert (tmp_path / "a/0").exists()
    assert not (tmp_path / "a/zarr.json").exists()
    with pytest.raises((IntakeImgError, FileNotFoundError)):
        imload(tmp_path / "a")


def test_replaced_in_place_is_noticed(tmp_path):
    group(tmp_path / "a.zarr", v05(image_of(axes_of("yx"), [1, 1])), **{"0": np.zeros((3, 4))})
    ds = imload(tmp_path / "a.zarr")
    group(tmp_path / "a.zarr", v05(image_of(axes_of("yx"), [2, 2])), **{"0": np.ones((5, 6))})
    with pytest.raises(SourceChangedError):
        ds.compute()
    assert imload(tmp_path / "a.zarr").image.shape == (5, 6)


def test_labels_may_be_added_while_open(tmp_path):
    group(tmp_path / "a.zarr", v05(image_of(axes_of("yx"), [1, 1])), **{"0": np.ones((3, 4))})
    ds = imload(tmp_path / "a.zarr")
    zarr.open_group(tmp_path / "a.zarr", mode="a").create_group("labels")
    assert float(ds.image.sum()) == 12


# zip files and remote stores


@pytest.mark.parametrize("name", ["a.zarr.zip", "a.ome.zarr.zip", "a.ozx"])
@pytest.mark.parametrize("options", [{}, {"version": "0.4", "pyramid": 1}, {"shards": True}], ids=str)
def test_zip(tmp_path, name, options):
    ds = full()
    imsave(ds, tmp_path / name, **options)
    assert_same(imload(tmp_path / name), ds)
    with zipfile.ZipFile(tmp_path / name) as archive:
        assert archive.namelist()[0] in ("zarr.json", ".zattrs", ".zgroup")
        assert len(set(archive.namelist())) == len(archive.namelist())
    store = zarr.storage.ZipStore(tmp_path / name, mode="r")
    np.testing.assert_array_equal(zarr.open_array(store, path="0", mode="r")[...], ds.image)
    store.close()


def test_zip_of_a_folder(tmp_path):
    imsave(np.eye(5), tmp_path / "a.zarr")
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path, "a.zarr")
    os.rename(tmp_path / "b.zip", tmp_path / "b.zarr.zip")
    np.testing.assert_array_equal(imload(tmp_path / "b.zarr.zip").image, np.eye(5))
    with zipfile.ZipFile(tmp_path / "c.zarr.zip", "w") as archive:
        archive.writestr("readme.txt", "no zarr")
    with pytest.raises(FormatError, match="contains no Zarr group"):
        imload(tmp_path / "c.zarr.zip")


def test_memory_url():
    ds = full()
    for name in ("a.zarr", "b.zarr.zip"):
        imsave(ds, f"memory://omezarr/{name}")
        assert_same(imload(f"memory://omezarr/{name}"), ds)
        first = imload(f"memory://omezarr/{name}")
        imsave(ds[["mask"]], f"memory://omezarr/{name}", overwrite=True)
        assert list(imload(f"memory://omezarr/{name}").data_vars) == ["mask"]
        del first


@pytest.fixture
def http_url(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        disable_nagle_algorithm = True

        def log_message(self, *args):
            pass

        def list_directory(self, path):
            self.send_error(404)

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with running(handler) as url:
        yield url


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_http(tmp_path, http_url, version):
    imsave(full(), tmp_path / "a.zarr", version=version)
    xr.testing.assert_equal(imload(f"{http_url}/a.zarr").compute(), imload(tmp_path / "a.zarr").compute())
    with pytest.raises(FileNotFoundError):
        imload(f"{http_url}/b.zarr")


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_s3(s3):
    ds = full()
    for name in ("a.zarr", "sub/b.zarr.zip"):
        imsave(ds, f"s3://images/{name}", storage_options=s3)
        assert_same(imload(f"s3://images/{name}", storage_options=s3), ds)


@pytest.mark.parametrize("library", [True, False], ids=["libdeflate", "zlib"])
@pytest.mark.parametrize("codec", ["gzip", "zlib"])
def test_deflated_chunks(codec: str, library: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read and what is refused does not depend on what inflates."""
    if library:
        pytest.importorskip("imagecodecs")
    else:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    values = np.random.default_rng(0).integers(0, 50, (200, 100)).astype("u2")
    made = numcodecs.GZip() if codec == "gzip" else numcodecs.Zlib()
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(200, 100), compressors=made, zarr_format=2)
    place = tmp_path / "a.zarr" / "0.0"
    packed = place.read_bytes()
    read = lambda: imload(tmp_path / "a.zarr", metadata={"axes": "yx"}, chunks=None).image.values  # noqa: E731
    halves = [bytes(made.encode(part.tobytes())) for part in (values[:100], values[100:])]
    for good in [packed, packed + packed] + [b"".join(halves)] * (codec == "gzip"):
        place.write_bytes(good)
        np.testing.assert_array_equal(read(), values)
    middle = packed[:5000] + b"\xff" * 50 + packed[5050:]
    for bad in [packed[:-20], packed[:-4] + bytes(4), middle, halves[0]] + [packed + b"more"] * (codec == "gzip"):
        place.write_bytes(bad)
        with pytest.raises(FormatError, match=r"a\.zarr"):
            read()
