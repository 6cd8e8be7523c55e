"""TIFF: dialects are read as tifffile reads them, with spacing, units, names; nothing is lost; damage is an error."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, IntakeImgError, SceneError
from intake_img.formats.tif.driver import TifSource
from intake_img.testing.datasets import image_of
from intake_img.testing.equality import assert_same
from intake_img.testing.process import open_files

QUICK = examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
RNG = np.random.default_rng(7)


def noise(*shape, dtype="u2"):
    return RNG.integers(0, 250, shape).astype(dtype)


# real files: axes in tifffile's letters, spacing and units of x (and others), channel names

FILES = {
    "ometiff/2010-06-18x24y5z1t2c8b-text.ome.tiff": ("ZCYX", {}, None),
    "ometiff/FOV7_HV110_P0500510000.ome.tiff": ("YX", {}, None),
    "ometiff/WP96_4Pos_B4-10_DAPI.ome.tiff": ("YX", {"x": (0.2, "µm"), "y": (0.2, "µm")}, None),
    "ometiff/cells-2c.ome.tif": ("CYX", {"x": (0.25, "µm"), "y": (0.25, "µm")}, None),
    "ometiff/cells.ome.tif": ("SYX", {"x": (0.25, "µm"), "y": (0.25, "µm")}, "RGB"),
    "ometiff/multiseries.ome.tiff": ("CYX", {"x": (0.6499999761581421, "µm"), "y": (0.6499999761581421, "µm")}, None),
    "ometiff/test_ome_with_time.tiff": (
        "TCYX",
        {"x": (0.07752248561765859, "µm"), "y": (0.07752248561765859, "µm"), "t": (5.0, "s")},
        ["Ch1-T1", "ChS2-T3"],
    ),
    "tiff_bigtiff/hopper_bigtiff.tif": ("YXS", {}, "RGB"),
    "tiff_gray/CH1_16bit.tif": ("YX", {}, None),
    "tiff_gray/cells-gray32.tif": ("YX", {"x": (0.25, "µm"), "y": (0.25, "µm")}, None),
    "tiff_gray/xy_16bit_labels__nuclei.tif": ("YX", {"x": (1 / 2.857142, "µm"), "y": (1 / 2.857142, "µm")}, None),
    "tiff_imagej/test_imagej_with_time.tiff": (
        "TCYX",
        {"x": (332956540 / 4294967295, "µm"), "y": (332956540 / 4294967295, "µm"), "t": (5.0, "s")},
        ["Ch1-T1", "ChS2-T3"],
    ),
    "tiff_imagej/xyc_16bit__cell_dna_mts_actin.tif": (
        "CYX",
        {"x": (1 / 7.547649, "µm"), "y": (1 / 7.547649, "µm")},
        None,
    ),
    "tiff_imagej/xyc_16bit__hela-cells.tif": ("YXS", {"x": (1 / 19.420064, "µm"), "y": (1 / 19.420064, "µm")}, "RGB"),
    "tiff_imagej/xyc_16bit__nuclei_golgi.tif": ("CYX", {"x": (1 / 1.938918, "µm"), "y": (1 / 1.938918, "µm")}, None),
    "tiff_imagej/xyz_8bit__mitotic_plate_badZcalibrated.tif": (
        "ZYX",
        {"x": (1 / 11.737581, "µm"), "y": (1 / 11.737581, "µm")},
        None,
    ),
    "tiff_imagej/xyz_8bit__mitotic_plate_calibrated.tif": (
        "ZYX",
        {"x": (1 / 11.737581, "µm"), "y": (1 / 11.737581, "µm"), "z": (3.0, "µm")},
        None,
    ),
    "tiff_imagej/xyz_8bit_calibrated_anisotropic__mri_head.tif": (
        "ZYX",
        {"x": (0.5, "mm"), "y": (0.5, "mm"), "z": (7.0, "mm")},
        None,
    ),
    "tiff_imagej/xyzct-mitosis.tif": (
        "TZCYX",
        {"x": (1 / 11.299435, "µm"), "y": (1 / 11.299435, "µm"), "t": (1 / 7, "s")},
        None,
    ),
    "tiff_other/5d.tif": (
        "TZCYX",
        {"x": (1 / 0.058823, "cm"), "y": (1 / 0.076923, "pm"), "z": (8.0, "nm"), "t": (3.0, "h")},
        None,
    ),
    "tiff_other/multipage_rgb.tif": ("QSYX", {}, "RGB"),
    "tiff_pyramid/CMU-1-Small-Region.svs": ("YXS", {"x": (0.499, "µm"), "y": (0.499, "µm")}, "RGB"),
    "tiff_pyramid/tiff_tiled_raw.tif": ("YXS", {}, "RGB"),
    "tiff_pyramid/yb10kx5k.zstd.tiff": ("YXS", {}, "RGB"),
    "tiff_rgb/CH3_Fluorescence_8bit.tif": ("CYX", {}, None),
    "tiff_rgb/Fluorescence_RGB.tif": ("YXS", {}, "RGB"),
    "lsm/spectral_golgi.lsm": (
        "CYX",
        {"x": (0.14643136172201748, "µm"), "y": (0.14643136172201748, "µm")},
        [str(n) for n in range(423, 700, 10)],
    ),
    "stk_metamorph/MetamorphImage.tif": ("YX", {"x": (0.645, "µm"), "y": (0.645, "µm")}, None),
    "stk_metamorph/movie.stk": ("TYX", {"t": (0.864, "s")}, None),
    "blobs/img_synth_3d.tif": ("QYX", {}, None),
    "blobs/input2_yx.tiff": ("YX", {"x": (2.6000011718366296, "µm"), "y": (2.6000011718366296, "µm")}, None),
    "coloc/mandersA.tiff": ("YX", {}, None),
    "lif/xz_c0_t0.tif": ("YX", {}, None),
}


@pytest.mark.parametrize("name", FILES)
def test_real_files(data, name):
    axes, spacing, channels = FILES[name]
    ds = imload(data / name, output_axis_order=None)
    with tifffile.TiffFile(data / name) as tif:
        series = tif.series[0]
        values = series.asarray()
    assert series.axes == axes
    assert ds.image.dims == tuple(axes.lower().replace("s", "c"))
    assert ds.image.shape == series.shape
    assert ds.image.dtype == series.dtype
    found = {str(a): (c.attrs["spacing"], c.attrs["units"]) for a, c in ds.coords.items() if "spacing" in c.attrs}
    assert {a: u for a, (_, u) in found.items()} == {a: u for a, (_, u) in spacing.items()}
    for a, (step, _) in spacing.items():
        assert found[a][0] == pytest.approx(step, rel=1e-6), a
    assert (ds.c.values.tolist() if "c" in ds.coords else None) == (list(channels) if channels else None)
    np.testing.assert_array_equal(ds.image, values)
    json.loads(ds.attrs["fileheader"])


def test_every_file_is_in_the_table(data):
    for folder in {name.split("/")[0] for name in FILES} - {"blobs", "coloc", "lif"}:
        for path in (data / folder).iterdir():
            assert f"{folder}/{path.name}" in FILES


def test_equal_pixels(data):
    rgb = imload(data / "tiff_rgb/Fluorescence_RGB.tif").image
    channels = imload(data / "tiff_rgb/CH3_Fluorescence_8bit.tif").image
    assert rgb.dims == channels.dims == ("c", "y", "x")
    np.testing.assert_array_equal(rgb, channels)
    bad, good = (
        imload(data / f"tiff_imagej/xyz_8bit__mitotic_plate_{n}.tif").image for n in ("badZcalibrated", "calibrated")
    )
    np.testing.assert_array_equal(bad, good)


def test_scenes(data):
    ds = imload(data / "ometiff/multiseries.ome.tiff", scene=-1)
    assert len(ds.attrs["scenes"]) == 6
    assert ds.attrs["scenes"][0] == "Scan_20180705_135218_01x4x01271.rcpnl #761"
    assert imload(data / "ometiff/multiseries.ome.tiff", scene="all").image.dims == ("i", "c", "y", "x")
    with tifffile.TiffFile(data / "ometiff/multiseries.ome.tiff") as tif:
        np.testing.assert_array_equal(ds.image, tif.series[5].asarray())
    slide = data / "tiff_pyramid/CMU-1-Small-Region.svs"
    assert imload(slide).attrs["scenes"] == ["Baseline", "Thumbnail", "Label", "Macro"]
    label = imload(slide, scene="Label")
    assert label.image.shape == (3, 463, 387)
    assert "x" not in label.coords
    with pytest.raises(SceneError, match="Macro"):
        imload(slide, scene="label")


def test_levels_of_a_real_pyramid(data):
    path = data / "tiff_pyramid/yb10kx5k.zstd.tiff"
    with tifffile.TiffFile(path) as tif:
        for n, level in enumerate(tif.series[0].levels):
            ds = imload(path, level=n, output_axis_order=None)
            assert ds.image.shape == level.shape
            if n > 1:
                np.testing.assert_array_equal(ds.image, level.asarray())
    with pytest.raises(SceneError, match="5 levels"):
        imload(path, level=5)


# all layouts: any region, with any chunks, equals tifffile's

LAYOUTS = {
    "contiguous": {},
    "big-endian": {"byteorder": ">"},
    "pages": {"metadata": None, "rowsperstrip": 7},
    "bigtiff": {"bigtiff": True},
    "strips": {"compression": "zlib", "predictor": True, "rowsperstrip": 9},
    "tiles": {"tile": (16, 32)},
    "big-endian tiles": {"tile": (16, 32), "byteorder": ">"},
    "tiles lzw": {"tile": (32, 16), "compression": "lzw"},
    "tiles zstd": {"tile": (16, 16), "compression": "zstd", "predictor": True, "byteorder": ">"},
    "volume": {"tile": (2, 16, 16), "volumetric": True, "compression": "zlib"},
    "volume raw": {"tile": (2, 16, 16), "volumetric": True},
    "imagej": {"imagej": True},
    "ome": {"ome": True, "compression": "lzma"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_region_with_any_chunks(tmp_path, layout):
    values = noise(3, 4, 43, 51)
    options = {"photometric": "minisblack", "metadata": {"axes": "TZYX"}, **LAYOUTS[layout]}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, **options)
    flat = layout == "pages"
    whole = values.reshape(-1, 43, 51) if flat else values
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == ("IYX" if flat else "TZYX")
    np.testing.assert_array_equal(imload(path).image, whole)
    np.testing.assert_array_equal(TifSource(path).read().image, whole)
    ds = imload(path, chunks=None, output_axis_order=None)
    for _ in range(12):
        key = tuple(slice(*sorted(RNG.integers(0, n + 1, 2))) for n in whole.shape)
        np.testing.assert_array_equal(ds.image[key], whole[key])
        chunks = {a: int(RNG.integers(1, n + 1)) for a, n in zip(ds.image.dims, whole.shape, strict=True)}
        np.testing.assert_array_equal(ds.image[key].chunk(chunks), whole[key])
    np.testing.assert_array_equal(ds.image[..., ::-3, [5, 1]], whole[..., ::-3, :][..., [5, 1]])
    np.testing.assert_array_equal(imload(path, output_axis_order="xyzti").image, whole.T)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib", "rowsperstrip": 5}, {"tile": (16, 16)}, {"bigtiff": True}]
)
def test_colours(tmp_path, planar, samples, options):
    values = noise(2, 21, 22, samples, dtype="u1")
    stored = values if planar == "contig" else np.moveaxis(values, -1, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, **options)
    ds = imload(tmp_path / "a.tif", chunks=None)
    assert ds.c.values.tolist() == list("RGBA")[:samples]
    assert set(ds.image.dims) == {"q", "c", "y", "x"}
    np.testing.assert_array_equal(ds.image.transpose("q", "y", "x", "c"), values)
    part = ds.image.isel(c=slice(1, 3), y=slice(3, 18), x=slice(4, 5), q=1)
    np.testing.assert_array_equal(part.transpose("y", "x", "c"), values[1, 3:18, 4:5, 1:3])


def test_samples_beside_channels(tmp_path):
    values = noise(2, 9, 10, 3, dtype="u1")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", metadata={"axes": "CYXS"})
    ds = imload(tmp_path / "a.tif")
    assert ds.image.dims == ("c", "y", "x", "s")
    np.testing.assert_array_equal(ds.image, values)


def test_packed_bits_and_missing_tiles(tmp_path):
    mask = noise(40, 50) > 100
    tifffile.imwrite(tmp_path / "bits.tif", mask)
    np.testing.assert_array_equal(imload(tmp_path / "bits.tif").image, mask)
    tile = np.ones((16, 16), "u2")
    tiles = iter([tile, None, None, tile, tile, None])
    options = {"compression": "zlib", "tile": (16, 16), "extratags": [(42113, "s", 0, "7", True)]}
    tifffile.imwrite(tmp_path / "sparse.tif", tiles, shape=(32, 48), dtype="u2", **options)
    with tifffile.TiffFile(tmp_path / "sparse.tif") as tif:
        values = tif.asarray()
    assert (values == 7).sum() == 3 * 256
    np.testing.assert_array_equal(imload(tmp_path / "sparse.tif").image, values)


def test_plain_pages_and_unlike_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif", shaped=False) as tif:
        for _ in range(3):
            tif.write(noise(5, 6), contiguous=False, photometric="minisblack")
        tif.write(noise(7, 8, dtype="u1"), photometric="minisblack")
    assert imload(tmp_path / "a.tif").image.dims == ("i", "y", "x")
    assert imload(tmp_path / "a.tif", scene=1).image.shape == (7, 8)
    assert imload(tmp_path / "a.tif").attrs["scenes"] == ["0", "1"]


def test_axes_that_tifffile_repeats(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(2, 3, 5, 6), photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.series[0].axes == "QQYX"
    assert imload(tmp_path / "a.tif").image.dims == ("p", "q", "y", "x")


# facts of dialects


@pytest.mark.parametrize(
    ("metadata", "options", "wanted"),
    [
        (
            {"unit": "um", "spacing": 2.0},
            {"resolution": (4, 5)},
            {"x": (0.25, "µm"), "y": (0.2, "µm"), "z": (2.0, "µm")},
        ),
        ({"unit": "\\u00B5m", "spacing": -2.0}, {"resolution": (4, 4)}, {"x": (0.25, "µm"), "y": (0.25, "µm")}),
        ({"unit": "cm"}, {"resolution": (4, 4), "resolutionunit": 3}, {"x": (0.25, "cm"), "y": (0.25, "cm")}),
        ({"unit": "um"}, {"resolution": (4000, 4000), "resolutionunit": 3}, {"x": (2.5, "µm"), "y": (2.5, "µm")}),
        ({"unit": "pixel", "spacing": 2.0}, {"resolution": (4, 4)}, {}),
        ({"spacing": 2.0}, {"resolution": (72, 72), "resolutionunit": 2}, {}),
        ({}, {"resolution": (72, 72), "resolutionunit": 2}, {}),
        ({}, {"resolution": (20000, 20000), "resolutionunit": 3}, {"x": (0.5, "µm"), "y": (0.5, "µm")}),
        (
            {"unit": "nm", "zunit": "um", "spacing": 1.5},
            {"resolution": (0.1, 0.1)},
            {"x": (10, "nm"), "y": (10, "nm"), "z": (1.5, "µm")},
        ),
    ],
)
def test_calibration_of_imagej(tmp_path, metadata, options, wanted):
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 8, 9), imagej=True, metadata={"axes": "ZYX", **metadata}, **options)
    ds = imload(tmp_path / "a.tif")
    found = {str(a): (c.attrs["spacing"], c.attrs["units"]) for a, c in ds.coords.items()}
    assert found.keys() == wanted.keys()
    for a, (step, unit) in wanted.items():
        assert found[a][0] == pytest.approx(step)
        assert found[a][1] == unit


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [({"finterval": 3}, (3.0, "s")), ({"fps": 4}, (0.25, "s")), ({"finterval": 2, "tunit": "min"}, (2.0, "min"))],
)
def test_times_and_origins_of_imagej(tmp_path, metadata, wanted):
    metadata = {"axes": "TYX", "unit": "um", "xorigin": 2, **metadata}
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 8, 9), imagej=True, resolution=(2, 2), metadata=metadata)
    ds = imload(tmp_path / "a.tif")
    assert (ds.t.attrs["spacing"], ds.t.attrs["units"]) == wanted
    assert (ds.x.values[:2].tolist(), ds.y.values[0]) == ([-1.0, -0.5], 0)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "b"] * 3, ["a", "b"]),
        ([f"c:{c}/2 z:{z}/3 - {n}" for z in (1, 2, 3) for c, n in ((1, "a"), (2, "b"))], ["a", "b"]),
        ([f"slice {k}" for k in range(6)], None),
        (["same.tif"] * 6, None),
        (["a"], None),
    ],
)
def test_labels_of_imagej(tmp_path, labels, names):
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 2, 8, 9), imagej=True, metadata={"axes": "ZCYX", "Labels": labels})
    ds = imload(tmp_path / "a.tif")
    assert (ds.c.values.tolist() if "c" in ds.coords else None) == names


@pytest.mark.parametrize(
    ("resolution", "unit", "wanted"),
    [
        ((72, 72), 2, None),
        ((300, 300), 2, None),
        ((28.35, 28.35), 3, None),
        ((40000, 40000), 3, 0.25),
        ((50800, 50800), 2, 0.5),
        ((4, 4), 1, None),
    ],
)
def test_resolution_of_plain_files(tmp_path, resolution, unit, wanted):
    tifffile.imwrite(tmp_path / "a.tif", noise(8, 9), resolution=resolution, resolutionunit=unit, metadata=None)
    ds = imload(tmp_path / "a.tif")
    if wanted is None:
        assert not ds.coords
    else:
        assert ds.x.attrs["spacing"] == pytest.approx(wanted)
        assert ds.x.attrs["units"] == "µm"


# writing


def labelled(values, axes, unit="µm"):
    coords = {}
    for a, n in zip(axes, values.shape, strict=True):
        if a in "zyx":
            coords[a] = (a, 3.0 + 0.25 * np.arange(n), {"units": unit, "spacing": 0.25})
        elif a == "t":
            coords[a] = (a, np.cumsum(np.arange(n) + 1.0), {"units": "s"})
        elif a == "c":
            coords[a] = (a, [f"ch {k}" for k in range(n)], {"color": ["#FF0000"] * n})
        elif a == "i":
            coords[a] = (a, [f"sample {k}" for k in range(n)])
    return xr.Dataset({"seg": (tuple(axes), values, {"kind": "labels", "µ": [1, 2]})}, coords, {"title": "a"})


def same(got, wanted):
    wanted = wanted.transpose(*got.seg.dims)
    xr.testing.assert_equal(got, wanted)
    assert got.seg.dtype == wanted.seg.dtype.newbyteorder("=")
    assert got.seg.attrs == wanted.seg.attrs
    assert got.attrs["title"] == "a"
    for name in wanted.coords:
        assert got[name].attrs == wanted[name].attrs, name
        assert got[name].dtype.kind == wanted[name].dtype.kind


DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
)


@QUICK
@given(st.data())
def test_nothing_is_lost(tmp_path, data):
    axes = data.draw(st.permutations("tczyxhv").flatmap(lambda a: st.integers(1, 6).map(lambda n: "".join(a[:n]))))
    shape = data.draw(hnp.array_shapes(min_dims=len(axes), max_dims=len(axes), max_side=4))
    values = data.draw(hnp.arrays(data.draw(DTYPES), shape))
    ds = labelled(values, axes)
    options = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "compress": st.sampled_from([True, "lzw", "zstd"]),
                "tile": st.sampled_from([16, (32, 16)]),
                "byteorder": st.sampled_from("<>"),
                "bigtiff": st.just(True),
            },
        )
    )
    name = data.draw(st.sampled_from(["a.tif", "a.ome.tiff", "a.btf"]))
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        path = os.path.join(folder, name)
        try:
            imsave(ds, path, **options)
        except CannotWriteError:
            assert name == "a.ome.tiff"
            return
        same(imload(path).load(), ds)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx", "tczyx"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_others_read_what_we_write(tmp_path, name, axes, dtype):
    shape = tuple({"t": 2, "c": 3, "z": 3, "y": 30, "x": 40}[a] for a in axes)
    ds = labelled(noise(*shape, dtype=dtype), axes)
    imsave(ds, tmp_path / name)
    order = "".join(a for a in "tzcyx" if a in axes)
    with tifffile.TiffFile(tmp_path / name) as tif:
        (series,) = tif.series
        assert tif.is_imagej == (name == "a.tif")
        assert series.axes == order.upper()  # three planes are not colours
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
        np.testing.assert_array_equal(series.asarray(), ds.seg.transpose(*order))
        if name == "a.tif":
            facts = tif.imagej_metadata
            assert (facts["unit"], facts.get("spacing")) == ("\\u00B5m", 0.25 if "z" in axes else None)
            assert tif.pages.first.resolution == (4, 4)
            if "c" in axes:
                assert facts["Labels"][:3] == ["ch 0", "ch 1", "ch 2"]
    assert imload(tmp_path / name).seg.dims == tuple(axes)


def test_imagej_alone_says_it_all(tmp_path):
    path = tmp_path / "a.tif"
    wanted = labelled(noise(2, 3, 4, 8, 9), "tczyx").assign_coords(t=("t", [0.0, 4.0], {"units": "s", "spacing": 4.0}))
    imsave(wanted, path)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[65100].overwrite("[]")
    got = imload(path)
    for axis in "tzyx":
        np.testing.assert_allclose(got[axis], wanted[axis])
        assert got[axis].attrs == wanted[axis].attrs
    assert got.c.values.tolist() == wanted.c.values.tolist()
    np.testing.assert_array_equal(got.image, wanted.seg)


def test_an_edited_file_keeps_its_own_facts(tmp_path):
    imsave(labelled(noise(3, 8, 9), "zyx"), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        record = tif.pages.first.tags[65100].value
    tifffile.imwrite(
        tmp_path / "b.tif",
        noise(2, 8, 9),
        imagej=True,
        metadata={"axes": "ZYX"},
        extratags=[(65100, "s", 0, record, True)],
    )
    assert imload(tmp_path / "b.tif").image.shape == (2, 8, 9)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
@pytest.mark.parametrize("options", [{}, {"tile": 16, "compress": True}, {"compress": "lzw"}])
def test_colours_are_written(tmp_path, dtype, name, options):
    ds = xr.Dataset({"image": (("c", "y", "x"), noise(3, 20, 21, dtype=dtype))}, {"c": list("RGB")})
    imsave(ds, tmp_path / name, **options)
    with tifffile.TiffFile(tmp_path / name) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.RGB
        assert tif.series[0].axes == "YXS"
        np.testing.assert_array_equal(np.moveaxis(tif.asarray(), -1, 0), ds.image)
    xr.testing.assert_equal(imload(tmp_path / name).drop_attrs(), ds)
    imsave(ds, tmp_path / name, rgb=False, overwrite=True)
    with tifffile.TiffFile(tmp_path / name) as tif:
        assert tif.series[0].axes == "CYX"
    xr.testing.assert_equal(imload(tmp_path / name).drop_attrs(), ds)


def test_colours_on_request(tmp_path):
    ds = xr.Dataset({"image": (("t", "c", "y", "x"), noise(2, 3, 20, 21, dtype="u1"))}, {"c": ["a", "b", "c"]})
    imsave(ds, tmp_path / "a.tif", rgb=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.series[0].axes == "TYXS"
    xr.testing.assert_equal(imload(tmp_path / "a.tif").drop_attrs(), ds)
    with pytest.raises(CannotWriteError, match="3 or 4 channels"):
        imsave(ds.isel(c=[0, 1]), tmp_path / "b.tif", rgb=True)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
@pytest.mark.parametrize("tile", [None, 16])
def test_pyramids(tmp_path, name, tile):
    values = noise(3, 45, 70)
    ds = labelled(values, "zyx")
    del ds.seg.attrs["kind"]
    imsave(ds, tmp_path / name, pyramid=2, tile=tile, compress=True)
    same(imload(tmp_path / name).load(), ds)
    level = imload(tmp_path / name, level=1)
    assert level.seg.shape == (3, 23, 35)
    padded = np.pad(values, ((0, 0), (0, 1), (0, 0)), mode="edge").astype(int)
    means = padded.reshape(3, 23, 2, 35, 2).sum(axis=(2, 4))
    np.testing.assert_array_equal(level.seg, (means + 2) // 4)
    assert level.x.attrs == {"spacing": 0.5, "units": "µm"}
    assert level.z.attrs["spacing"] == 0.25
    assert level.attrs["title"] == "a"
    assert imload(tmp_path / name, level=2).seg.shape == (3, 12, 18)
    if name == "a.ome.tif":
        with tifffile.TiffFile(tmp_path / name) as tif:
            assert [s.shape for s in tif.series[0].levels] == [(3, 45, 70), (3, 23, 35), (3, 12, 18)]


def test_pyramids_of_labels_invent_none(tmp_path):
    ds = labelled(noise(33, 40) > 100, "yx")
    imsave(ds, tmp_path / "a.tif", pyramid=1)
    level = imload(tmp_path / "a.tif", level=1)
    assert level.seg.dtype == bool
    np.testing.assert_array_equal(level.seg, ds.seg[::2, ::2])


def test_levels_of_a_tree(tmp_path):
    ds = labelled(noise(32, 40), "yx")
    half = labelled(noise(16, 20), "yx")
    imsave(xr.DataTree.from_dict({"scale0": ds, "scale1": half}), tmp_path / "a.ome.tif")
    same(imload(tmp_path / "a.ome.tif").load(), ds)
    np.testing.assert_array_equal(imload(tmp_path / "a.ome.tif", level=1).seg, half.seg)


@pytest.mark.parametrize("codec", ["zlib", "lzw", "zstd", "lzma", "packbits", "webp", "png", "jpegxl"])
def test_codecs(tmp_path, codec):
    values = noise(3, 40, 50, dtype="u1") if codec != "webp" else noise(40, 50, 3, dtype="u1")
    ds = xr.Dataset({"image": (tuple("zyx") if codec != "webp" else tuple("yxc"), values)})
    imsave(ds, tmp_path / "a.tif", compress=codec, rgb=codec == "webp")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.pages.first.compression != 1
    if codec != "webp":
        xr.testing.assert_equal(imload(tmp_path / "a.tif").drop_attrs(), ds)


def test_what_cannot_be_written(tmp_path):
    grey = xr.DataArray(noise(20, 21), dims=("y", "x"))
    for image, options, match in [
        (grey.astype("f4"), {"compress": "jpeg"}, "cannot be written"),
        (grey, {"compress": "nonsense"}, "a codec of TIFF"),
        (grey.astype("datetime64[s]"), {}, "dtype datetime64"),
        (grey[:0], {}, "shape"),
        (grey.astype(np.longdouble), {}, "dtype"),
    ]:
        with pytest.raises(CannotWriteError, match=match):
            imsave(image, tmp_path / "a.tif", **options)
    with pytest.raises(ValueError, match="multiples of 16"):
        imsave(grey, tmp_path / "a.tif", tile=100)
    with pytest.raises(CannotWriteError, match="only read"):
        imsave(grey, tmp_path / "a.lsm")
    assert not list(tmp_path.iterdir())


def test_errors_of_the_data_are_theirs(tmp_path):
    import dask.array as da

    def fail(block):
        raise ValueError("my own error")

    lazy = da.map_blocks(fail, da.zeros((2, 8, 9), chunks=(1, 8, 9)), dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    with pytest.raises(ValueError, match="my own error") as caught:
        imsave(xr.DataArray(lazy, dims=tuple("zyx")), tmp_path / "a.tif")
    assert not isinstance(caught.value, CannotWriteError)
    assert not list(tmp_path.iterdir())


def test_bigtiff_when_needed():
    from intake_img.formats.tif.encoding import plan_of
    from intake_img.model.image import Image, Variable
    from intake_img.model.pixels import Pixels

    def plan(shape, **options):
        image = Image({"image": Variable(Pixels.of(np.broadcast_to(np.uint16(0), shape)), tuple("zyx"))})
        given = {"tile": None, "codec": 1, "rgb": None, "bigtiff": None, "pyramid": False, **options}
        return plan_of(image, "a.tif", **given)

    assert (plan((500, 1024, 1024)).kind, plan((500, 1024, 1024)).bigtiff) == ("imagej", False)
    assert (plan((2100, 1024, 1024)).kind, plan((2100, 1024, 1024)).bigtiff) == ("shaped", True)
    assert plan((1700, 1024, 1024), pyramid=True).bigtiff
    with pytest.raises(CannotWriteError, match="needs BigTIFF"):
        plan((2100, 1024, 1024), bigtiff=False)


# hands off, and hands on


def test_threads(tmp_path):
    values = noise(6, 200, 210)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(32, 32), compression="zlib", photometric="minisblack")
    ds = imload(tmp_path / "a.tif", chunks=None)

    def check(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            key = tuple(slice(*sorted(rng.integers(0, n + 1, 2))) for n in values.shape)
            np.testing.assert_array_equal(ds.image[key], values[key])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(16)))


def test_lazy_data_outlive_the_source(tmp_path):
    values = noise(3, 20, 21)
    tifffile.imwrite(tmp_path / "a.tif", values, compression="zlib", photometric="minisblack")
    with TifSource(tmp_path / "a.tif") as source:
        ds = source.to_dask()
    assert not open_files(str(tmp_path), mapped=False)
    np.testing.assert_array_equal(ds.image, values)


def test_a_crop_reads_little(tmp_path):
    """Of a remote file only the headers and the tiles that are touched are fetched, in few requests."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    values = noise(8, 1024, 1024)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(256, 256), compression="zlib", photometric="minisblack")
    fsspec.filesystem("memory").pipe("/crop/a.tif", (tmp_path / "a.tif").read_bytes())
    fetched = []
    read = MemoryFileSystem.cat_file

    def counted(self, path, start=None, end=None, **kwargs):
        found = read(self, path, start, end, **kwargs)
        fetched.append(len(found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", counted)
        ds = imload("memory://crop/a.tif")
        opened = len(fetched)
        np.testing.assert_array_equal(ds.image[3, 100:300, 500:520], values[3, 100:300, 500:520])
    assert len(fetched) - opened <= 4
    assert sum(fetched[opened:]) < (tmp_path / "a.tif").stat().st_size / 20


def test_a_missing_codec_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "lzw.tif", noise(20, 21), compression="lzw", metadata=None)
    tifffile.imwrite(tmp_path / "zlib.tif", noise(20, 21), compression="zlib", predictor=True, metadata=None)
    code = f"""
import sys
import tempfile
sys.modules["imagecodecs"] = None
from intake_img import imload, imsave
from intake_img.errors import MissingExtraError
ds = imload({str(tmp_path / "zlib.tif")!r}).load()
imsave(ds, {str(tmp_path / "again.tif")!r}, compress=True)
assert (imload({str(tmp_path / "again.tif")!r}).image == ds.image).all()
lzw = imload({str(tmp_path / "lzw.tif")!r})
for work in (lzw.load, lambda: imsave(ds, {str(tmp_path / "b.tif")!r}, compress="zstd")):
    try:
        work()
    except MissingExtraError as exc:
        assert "pip install 'intake_img[codecs]'" in str(exc), exc
    else:
        raise AssertionError("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# damage


def small_files(folder):
    stack = noise(5, 33, 40)
    kinds = {
        "plain.tif": {"metadata": None},
        "shaped.tif": {"metadata": {"axes": "ZYX"}},
        "imagej.tif": {"imagej": True, "metadata": {"axes": "ZYX", "unit": "um"}},
        "strips.ome.tif": {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib", "predictor": True},
        "tiles.tif": {"tile": (16, 16), "compression": "lzw"},
        "big.tif": {"bigtiff": True, "byteorder": ">", "rowsperstrip": 5},
    }
    for name, options in kinds.items():
        tifffile.imwrite(
            folder / name, stack, **({} if "imagej" in options else {"photometric": "minisblack"}), **options
        )
        yield name, (folder / name).read_bytes()


def test_truncated_files(tmp_path):
    rng = random.Random(1)
    for name, content in small_files(tmp_path):
        whole = TifSource(tmp_path / name).read().image.values
        path = tmp_path / f"cut.{name}"
        for n in [*range(0, 40, 5), *(rng.randrange(len(content)) for _ in range(40)), len(content) - 1]:
            path.write_bytes(content[:n])
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    got = TifSource(path).read().image.values
                except (IntakeImgError, OSError):
                    continue
            planes = got.reshape(-1, *whole.shape[1:])
            assert told or len(planes) == len(whole)
            np.testing.assert_array_equal(planes, whole[: len(planes)], err_msg=f"{name} cut at {n}")


def test_flipped_bytes(tmp_path):
    rng = random.Random(2)
    for name, content in small_files(tmp_path):
        path = tmp_path / f"bad.{name}"
        for n in range(80):
            damaged = bytearray(content)
            for _ in range(rng.choice([1, 1, 3, 9])):
                at = rng.randrange(min(len(content), 500)) if n % 2 else len(content) - 1 - rng.randrange(500)
                damaged[at] = rng.randrange(256)
            path.write_bytes(damaged)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    ds = TifSource(path).read()
                except (IntakeImgError, OSError):
                    continue
            assert ds.image.size <= 100 * 5 * 33 * 40


def header(entries, next_ifd=0, data=b""):
    """A little-endian TIFF with one page: (tag, type, count, value) for each entry."""
    ifd = struct.pack("<H", len(entries))
    for code, kind, count, value in sorted(entries):
        ifd += struct.pack("<HHI", code, kind, count) + struct.pack("<I", value)
    return b"II*\0" + struct.pack("<I", 8) + ifd + struct.pack("<I", next_ifd) + data


def page(width, height, compression=1, rows=None, offset=200, count=100, bits=8):
    return [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, offset),
        (277, 3, 1, 1),
        (278, 4, 1, rows or height),
        (279, 4, 1, count),
    ]


@pytest.mark.parametrize("compression", [1, 5, 8])
def test_absurd_sizes_are_refused(tmp_path, compression):
    (tmp_path / "a.tif").write_bytes(header(page(10**6, 10**6, compression), data=bytes(500)))
    with pytest.raises(FormatError, match="the header states"):
        imload(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(header(page(10**6, 10**6, compression, rows=1), data=bytes(500)))
    with pytest.raises(FormatError, match="needs 1000000 strips"):
        imload(tmp_path / "a.tif")


def test_circles_of_pages_end(tmp_path):
    """tifffile notices circles of less than a hundred pages; of longer ones it would read four thousand million."""
    size = 2 + 9 * 12 + 4
    pages = 150
    content = b"II*\0" + struct.pack("<I", 8)
    for n in range(pages):
        following = 8 + size * ((n + 1) if n + 1 < pages else 5)
        content += header(page(10, 10, offset=8, count=100), next_ifd=following)[8:]
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(FormatError, match="form a circle"):
        imload(tmp_path / "a.tif")


def test_shortened_stacks_of_imagej_are_noticed(tmp_path):
    """tifffile goes on with the first plane."""
    values = noise(5, 33, 40)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match=r"counts 5 planes \(5 z\), the file contains 2"):
        ds = imload(tmp_path / "a.tif")
    np.testing.assert_array_equal(ds.image, values[:2])


def test_truncated_strips_are_noticed(tmp_path):
    import zlib

    data = zlib.compress(bytes(50))  # half of the pixels
    (tmp_path / "a.tif").write_bytes(header(page(10, 10, 8, offset=8 + 2 + 9 * 12 + 4, count=len(data)), data=data))
    with pytest.raises(FormatError):
        imload(tmp_path / "a.tif").load()


def test_tables_of_slides_are_closed(data):
    source = TifSource(data / "tiff_pyramid/CMU-1-Small-Region.svs")
    part = source.to_dask().image[:, 1000:1100, 500:700]
    with tifffile.TiffFile(source.uri) as tif:
        wanted = tif.series[0].asarray()[1000:1100, 500:700]
    np.testing.assert_array_equal(part.transpose("y", "x", "c"), wanted)


@pytest.mark.parametrize("options", [{}, {"tile": 128}, {"pyramid": 1, "tile": 128}])
def test_tiles_are_compressed_in_all_threads_to_the_same_file(tmp_path, monkeypatch, options):
    from intake_img.formats.tif import write

    values = np.random.default_rng(3).integers(0, 99, (3, 512, 512), dtype="uint16")
    asked, pool = set(), tifffile.tifffile.ThreadPoolExecutor
    monkeypatch.setattr(tifffile.tifffile, "ThreadPoolExecutor", lambda n: asked.add(n) or pool(n))
    for workers in (1, 3):
        monkeypatch.setattr(write, "cpus", lambda n=workers: n)
        imsave(values, tmp_path / f"{workers}.ome.tif", compress="zlib", **options)
        assert (3 in asked) == (workers == 3)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{workers}.ome.tif", level=0), values)
    one, many = (tifffile.TiffFile(tmp_path / f"{n}.ome.tif") for n in (1, 3))
    with one, many:
        for a, b in zip(one.pages, many.pages, strict=True):
            assert a.dataoffsets == b.dataoffsets
            assert a.databytecounts == b.databytecounts


MM = {"units": "mm", "spacing": 0.25}


@pytest.mark.parametrize(
    ("coords", "states"),
    [
        ({"z": MM, "y": MM, "x": MM}, {"unit": "mm", "spacing": 0.25}),
        ({"z": MM, "y": {"spacing": 0.25}, "x": {"spacing": 0.25}}, {}),
        ({"z": {"spacing": 0.25}, "y": MM, "x": MM}, {"unit": "mm"}),
        ({"x": MM}, {}),
        ({"z": MM}, {}),
        ({"y": {"spacing": 0.25}, "x": MM}, {}),
        ({"z": MM, "y": {"units": "mm", "spacing": 1e-12}, "x": {"units": "mm", "spacing": 1e-12}}, {}),
        ({"t": {"units": "ms", "spacing": 0.25}}, {"finterval": 0.25, "tunit": "ms"}),
        ({"t": {"units": "frame", "spacing": 0.25}}, {}),
        ({"t": {"spacing": 0.25}}, {}),
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "a.btf"])
def test_other_programs_read_no_spacing_where_none_is_known(tmp_path, name, coords, states):
    """ImageJ takes what is missing for 1 of the unit that is stated, and times for seconds."""
    saved = image_of("tzyx", (2, 3, 5, 7), "uint16")
    for axis, attrs in coords.items():
        saved = saved.assign_coords({axis: (axis, attrs["spacing"] * np.arange(saved.sizes[axis]), attrs)})
    imsave(saved, tmp_path / name)
    with tifffile.TiffFile(tmp_path / name) as tif:
        found = tif.imagej_metadata or tif.shaped_metadata[0]
        pixels, length = tif.pages.first.tags["XResolution"].value
    assert {k: found[k] for k in ("unit", "spacing", "finterval", "tunit") if k in found} == states
    assert "unit" not in found or length / pixels == (0.25 if name == "a.tif" else 0.025)  # mm; cm
    assert_same(imload(tmp_path / name), saved)
