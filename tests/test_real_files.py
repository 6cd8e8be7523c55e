"""Every real file as its manifest and an independent reader describe it; equal pairs; what is saved of each comes back.

The table says axes, shape, dtype, spacing, units, names of channels and of scenes. The pixels are those that tifffile,
zarr, pylibCZIrw or Pillow read, and so are the pixels of written files.
"""

from __future__ import annotations

import itertools
import json
import os
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from PIL import Image as PillowImage

from intake_img import imload, imsave
from intake_img.model.datasets import FILE_ATTRS
from intake_img.testing import assert_same

FOLDERS = (
    "czi",
    "lsm",
    "ometiff",
    "omezarr_v04",
    "omezarr_v05",
    "png_jpg_gif",
    "stk_metamorph",
    "tiff_bigtiff",
    "tiff_gray",
    "tiff_imagej",
    "tiff_other",
    "tiff_pyramid",
    "tiff_rgb",
)

pytestmark = pytest.mark.every_case
UM = "µm"
RGB = ["R", "G", "B"]
FITC = ["Maximum-Projection_FITC_05", "Best-Focus-Projection_FITC_05", "Maximum-Projection_FITC_05"]
SCANS = [f"Scan_20180705_135218_01x4x01271.rcpnl #{n}" for n in (761, 762, 802, 803, 843, 844)]
AIRY = [f"ChA-T{n}{end}" for end in ("", "#") for n in (1, 2, 3, 4)]  # the last four have but identifiers


class Known(NamedTuple):
    """What is known of a file."""

    axes: str
    shape: tuple[int, ...]
    dtype: str
    spacing: dict[str, float] = {}
    unit: str | dict[str, str] | None = None
    channels: list[str] | None = None
    scenes: int | list[str] = 1
    minimum: float | None = None
    maximum: float | None = None


def yx(step: float, **more: float) -> dict[str, float]:
    return {**more, "y": step, "x": step}


FILES = {
    "czi/100x100.czi": Known("tczyx", (1, 1, 1, 10, 10), "uint8", yx(0.1, z=0.1), UM, ["C1"], 1, 0, 99),
    "czi/CellDivision_T3_Z5_CH2_X240_Y170.czi": Known(
        "btczyx",
        (1, 3, 2, 5, 170, 240),
        "uint16",
        yx(0.09058, z=0.32),
        {"t": "s", "z": UM, "y": UM, "x": UM},
        ["LED555", "LED470"],
    ),
    "czi/CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi": Known("tczyx", (3, 2, 5, 170, 240), "uint16"),
    "czi/DAPI_GFP.czi": Known("tcyx", (1, 2, 640, 640), "uint8", {}, None, ["DAPI", "GFP"], 1, 0, 255),
    "czi/FOV7_HV110_P0500510000.czi": Known("tczyx", (1, 1, 1, 512, 512), "uint8", {}, None, None, 1, 2, 244),
    "czi/LSM880_AiryScan.czi": Known(
        "vbhtczyx", (1, 1, 32, 1, 8, 1, 36, 38), "uint16", yx(0.0353, z=0.15945), UM, AIRY
    ),
    "czi/RGB-8bit.czi": Known("tcyx", (1, 3, 624, 924), "uint8", yx(1.08333), UM, RGB, 1, 0, 224),
    "czi/S3_1Pos_2Mosaic_T1_Z1_CH1.czi": Known(
        "htczyx", (1, 1, 1, 1, 122, 295), "uint16", yx(1.6, z=1.0), UM, ["DAPI"], ["TR1", "P1", "TR2"], 423, 4092
    ),
    "czi/WellD6-7_S2.czi": Known("cyx", (1, 440, 544), "uint16", yx(0.1), UM, ["AF488"], ["D6", "D7"], 8273, 16383),
    "czi/mosaic_test.czi": Known(
        "tczyx", (1, 1, 1, 624, 1756), "uint16", yx(1.08333, z=1.0), UM, ["EGFP"], 1, 364, 65535
    ),
    "czi/nuc_small.czi": Known("bcyx", (1, 1, 240, 320), "uint8", yx(0.45715), UM, ["AF568"], 1, 0, 34),
    "czi/tiles_z.czi": Known("bvtczyx", (1, 1, 1, 2, 2, 512, 510), "uint8", yx(0.83027, z=4.0), UM, ["Ch1", "T PMT"]),
    "czi/xyz__multiple_images.czi": Known(
        "bvtczyx", (1, 1, 1, 1, 2, 251, 251), "uint16", yx(0.19564, z=0.3), UM, ["ChA"], 2
    ),
    "lsm/spectral_golgi.lsm": Known(
        "cyx", (28, 256, 256), "uint8", yx(0.14643), UM, [str(n) for n in range(423, 694, 10)], 1, 0, 68
    ),
    "ometiff/2010-06-18x24y5z1t2c8b-text.ome.tiff": Known("czyx", (2, 5, 24, 18), "uint8", minimum=0, maximum=255),
    "ometiff/FOV7_HV110_P0500510000.ome.tiff": Known("yx", (512, 512), "uint8", minimum=2, maximum=244),
    "ometiff/WP96_4Pos_B4-10_DAPI.ome.tiff": Known(
        "yx", (640, 640), "uint8", yx(0.2), UM, None, [f"Image{n}" for n in range(5)], 0, 255
    ),
    "ometiff/cells-2c.ome.tif": Known("cyx", (2, 131, 93), "uint8", yx(0.25), UM, None, 1, 35, 255),
    "ometiff/cells.ome.tif": Known("cyx", (3, 131, 93), "uint8", yx(0.25), UM, RGB, 1, 35, 255),
    "ometiff/multiseries.ome.tiff": Known("cyx", (4, 5, 5), "uint16", yx(0.65), UM, None, SCANS, 431, 5247),
    "ometiff/test_ome_with_time.tiff": Known(
        "tcyx",
        (4, 2, 72, 70),
        "uint16",
        yx(0.0775225, t=5.0),
        {"t": "s", "y": UM, "x": UM},
        ["Ch1-T1", "ChS2-T3"],
        1,
        0,
        65535,
    ),
    "omezarr_v04/bf2raw.zarr": Known("tczyx", (1, 1, 1, 8, 8), "uint8", {}, None, ["Channel 0"], 2, 0, 0),
    "omezarr_v04/mri-stack.ome.zarr": Known("zyx", (27, 226, 186), "uint8", minimum=0, maximum=255),
    "omezarr_v04/single-plane-hcs.zarr": Known(
        "cyx", (3, 256, 512), "uint16", yx(2.7336), UM, FITC, ["E/08/0", "E/07/0"]
    ),
    "omezarr_v04/viv_blobs_image_v04.ome.zarr": Known("cyx", (3, 12, 12), "float64", {}, None, list("012"), 1, 0, 1),
    "omezarr_v04/xyz_8bit__mitotic_plate_calibrated.ome.zarr": Known(
        "tczyx",
        (1, 1, 6, 263, 263),
        "uint8",
        yx(0.0851964, t=1.0, z=3.0),
        {"t": "s", "z": UM, "y": UM, "x": UM},
        ["Channel 0"],
        1,
        3,
        162,
    ),
    "omezarr_v05/neuroglancer_simple_0.5.zarr": Known(
        "yx", (10, 10), "uint16", {"y": 4, "x": 30}, "nm", None, 1, 0, 99
    ),
    "omezarr_v05/viv_blobs_image_v05.ome.zarr": Known("cyx", (3, 12, 12), "float64", {}, None, list("012"), 1, 0, 1),
    "png_jpg_gif/chelsea.png": Known("cyx", (3, 300, 451), "uint8", {}, None, RGB, 1, 0, 231),
    "png_jpg_gif/dispose_bgnd.gif": Known("tcyx", (5, 3, 100, 100), "uint8", {"t": 1.0}, {"t": "s"}, RGB),
    "png_jpg_gif/hopper.jpg": Known("cyx", (3, 128, 128), "uint8", {}, None, RGB, 1, 0, 255),
    "png_jpg_gif/hopper.png": Known("cyx", (3, 128, 128), "uint8", {}, None, RGB, 1, 0, 255),
    "png_jpg_gif/hopper_16bit.pgm": Known("yx", (128, 128), "uint16", minimum=0, maximum=65535),
    "stk_metamorph/MetamorphImage.tif": Known("yx", (520, 696), "uint16", yx(0.645), UM, None, ["Cy5"], 158, 4078),
    "stk_metamorph/movie.stk": Known("tyx", (2, 20, 20), "uint16", {"t": 0.864}, {"t": "s"}, None, 1, 93, 109),
    "tiff_bigtiff/hopper_bigtiff.tif": Known("cyx", (3, 128, 128), "uint8", {}, None, RGB, 1, 0, 255),
    "tiff_gray/CH1_16bit.tif": Known("yx", (408, 406), "uint16", minimum=1, maximum=253),
    "tiff_gray/cells-gray32.tif": Known("yx", (131, 93), "float32", yx(0.25), UM, None, 1, 44, 255),
    "tiff_gray/xy_16bit_labels__nuclei.tif": Known("yx", (427, 423), "uint16", yx(0.35), UM, None, 1, 0, 10),
    "tiff_imagej/test_imagej_with_time.tiff": Known(
        "tcyx",
        (4, 2, 72, 70),
        "uint16",
        yx(0.0775225, t=5.0),
        {"t": "s", "y": UM, "x": UM},
        ["Ch1-T1", "ChS2-T3"],
        1,
        0,
        65535,
    ),
    "tiff_imagej/xyc_16bit__cell_dna_mts_actin.tif": Known(
        "cyx", (3, 350, 350), "uint16", yx(0.132492), UM, None, 1, 105, 5055
    ),
    "tiff_imagej/xyc_16bit__hela-cells.tif": Known("cyx", (3, 512, 672), "uint16", yx(0.0514931), UM, RGB, 1, 0, 4095),
    "tiff_imagej/xyc_16bit__nuclei_golgi.tif": Known(
        "cyx", (2, 220, 204), "uint16", yx(0.515752), UM, None, 1, 28, 3828
    ),
    "tiff_imagej/xyz_8bit__mitotic_plate_badZcalibrated.tif": Known(
        "zyx", (6, 263, 263), "uint8", yx(0.0851964), UM, None, 1, 3, 162
    ),
    "tiff_imagej/xyz_8bit__mitotic_plate_calibrated.tif": Known(
        "zyx", (6, 263, 263), "uint8", yx(0.0851964, z=3.0), UM, None, 1, 3, 162
    ),
    "tiff_imagej/xyz_8bit_calibrated_anisotropic__mri_head.tif": Known(
        "zyx", (27, 226, 186), "uint8", yx(0.5, z=7.0), "mm", None, 1, 0, 255
    ),
    "tiff_imagej/xyzct-mitosis.tif": Known(
        "tczyx", (3, 2, 5, 196, 171), "uint16", yx(0.0885, t=1 / 7), {"t": "s", "y": UM, "x": UM}, None, 1, 1576, 51107
    ),
    "tiff_other/5d.tif": Known(
        "tczyx",
        (5, 3, 5, 16, 16),
        "uint8",
        {"t": 3, "z": 8, "y": 13, "x": 17},
        {"t": "h", "z": "nm", "y": "pm", "x": "cm"},
        None,
        1,
        0,
        95,
    ),
    "tiff_other/multipage_rgb.tif": Known("qcyx", (2, 3, 10, 10), "float64", {}, None, RGB, 1, 6.4e-05, 0.99867),
    "tiff_pyramid/CMU-1-Small-Region.svs": Known(
        "cyx", (3, 2967, 2220), "uint8", yx(0.499), UM, RGB, ["Baseline", "Thumbnail", "Label", "Macro"], 0, 255
    ),
    "tiff_pyramid/tiff_tiled_raw.tif": Known("cyx", (3, 374, 278), "uint8", {}, None, RGB, 1, 0, 255),
    "tiff_pyramid/yb10kx5k.zstd.tiff": Known("cyx", (3, 5000, 10000), "uint8", {}, None, RGB),
    "tiff_rgb/CH3_Fluorescence_8bit.tif": Known("cyx", (3, 272, 275), "uint8", {}, None, None, 1, 0, 255),
    "tiff_rgb/Fluorescence_RGB.tif": Known("cyx", (3, 272, 275), "uint8", {}, None, RGB, 1, 0, 255),
}
LARGE = ("yb10kx5k", "CMU-1")  # are not saved again here


def load(data: Path, name: str, **options: Any) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return imload(data / name, **options)


def test_the_table_is_complete(data: Path) -> None:
    assert sorted(f"{folder}/{p.name}" for folder in FOLDERS for p in (data / folder).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_axes_and_names(data: Path, name: str) -> None:
    known = FILES[name]
    with imload(data / name) as ds:
        check_axes_and_names(ds, known)


def check_axes_and_names(ds: xr.Dataset, known: Known) -> None:
    image = ds["image"]
    assert ds.img.axes == known.axes
    assert (image.shape, str(image.dtype), image.dtype.isnative) == (known.shape, known.dtype, True)
    assert ds.img.spacing == pytest.approx(known.spacing, rel=1e-3)
    units = dict.fromkeys(known.spacing, known.unit) if isinstance(known.unit, str) else known.unit
    assert ds.img.units == (units or {})
    assert ds.img.channels == known.channels
    assert len(ds.img.scenes) == known.scenes if isinstance(known.scenes, int) else ds.img.scenes == known.scenes
    for axis, step in ds.img.spacing.items():
        assert ds[axis].attrs["spacing"] == step
        np.testing.assert_allclose(ds[axis] - ds[axis][0], step * np.arange(ds.sizes[axis]), rtol=1e-12)
    colors = ds.c.attrs.get("color", []) if "c" in ds.coords else []
    assert all(c[0] == "#" and len(c) == 7 for c in colors)
    json.dumps(ds.attrs)
    if known.minimum is not None:
        values = image.values
        assert values.min() == pytest.approx(known.minimum, rel=1e-2)
        assert values.max() == pytest.approx(known.maximum, rel=1e-2)


# pixels as others read them


def by_tifffile(path: Path | str, axes: str) -> np.ndarray:
    """Return the first series, with the axes named."""
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        found = series.axes.lower()
        found = found if "c" in found else found.replace("s", "c")
        return named(series.asarray(), found, axes)


def named(values: np.ndarray, found: str, axes: str) -> np.ndarray:
    """Return an array with axes in the given order; axes of length 1 may be missing or added."""
    array = xr.DataArray(values, dims=list(found))
    array = array.squeeze([a for a in found if a not in axes])
    return array.expand_dims([a for a in axes if a not in found]).transpose(*axes).values


def by_pylibczirw(path: Path | str, axes: str, scene: int | None = 0) -> np.ndarray:
    from pylibCZIrw import czi

    with czi.open_czi(os.fspath(path)) as document:
        box = document.total_bounding_box
        scene = scene if document.scenes_bounding_rectangle else None
        lead = [d for d in "VBHTCZ" if d in box]
        planes = [
            document.read(plane=dict(zip(lead, place, strict=True)), scene=scene)
            for place in itertools.product(*(range(*box[d]) for d in lead))
        ]
    values = np.stack(planes)
    if planes[0].shape[-1] == 3:  # blue, green, red
        lead, values = [d for d in lead if d != "C"], values[..., ::-1]
    sizes = [box[d][1] - box[d][0] for d in lead]
    found = "".join(lead).lower() + "yx"
    if planes[0].shape[-1] == 1:
        return named(values.reshape(*sizes, *planes[0].shape[:2]), found, axes)
    return named(values.reshape(*sizes, *planes[0].shape), f"{found}c", axes)


def by_zarr(path: Path | str, axes: str) -> np.ndarray:
    """Return the first level of the first image, as the metadata of the group name it."""
    group = zarr.open_group(os.fspath(path), mode="r")
    attributes = group.attrs.asdict()
    attributes = attributes.get("ome", attributes)
    if "plate" in attributes:
        group = group[f"{attributes['plate']['wells'][0]['path']}/0"]
    elif "multiscales" not in attributes:
        group = group["0"]
    attributes = group.attrs.asdict()
    described = attributes.get("ome", attributes)["multiscales"][0]
    found = "".join(a["name"] for a in described["axes"])
    return named(group[described["datasets"][0]["path"]][...], found, axes)


def by_pillow(path: Path | str, axes: str) -> np.ndarray:
    with PillowImage.open(path) as picture:
        frames = []
        for k in range(getattr(picture, "n_frames", 1)):
            picture.seek(k)
            frames.append(np.asarray(picture.convert("RGB") if picture.mode == "P" or k else picture))
    return named(np.stack(frames), "tyxc"[: frames[0].ndim + 1], axes)


def read_by_others(path: Path, axes: str) -> np.ndarray:
    if path.suffix == ".czi":
        return by_pylibczirw(path, axes)
    if path.is_dir():
        return by_zarr(path, axes)
    if path.suffix in (".png", ".jpg", ".gif", ".pgm"):
        return by_pillow(path, axes)
    return by_tifffile(path, axes)


@pytest.mark.parametrize("name", [n for n in FILES if "yb10kx5k" not in n and "AiryScan" not in n])
def test_pixels(data: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = read_by_others(data / name, FILES[name].axes)
    for chunks in ("auto", None):
        with imload(data / name, chunks=chunks) as ds:
            np.testing.assert_array_equal(ds["image"].values, others)


def test_pixels_of_airyscan(data: Path) -> None:
    """Channels 4 to 7 have the first phase alone; nothing is recorded of the others."""
    from pylibCZIrw import czi

    ds = imload(data / "czi/LSM880_AiryScan.czi").load()
    mask = ds.valid_mask.any(["y", "x"]).squeeze(drop=True).transpose("h", "c").values
    assert mask[:, :4].all()
    assert mask[0, 4:].all()
    assert not mask[1:, 4:].any()
    with czi.open_czi(str(data / "czi/LSM880_AiryScan.czi")) as document:
        for c in range(8):
            plane = document.read(plane={"C": c, "H": 0})[..., 0]
            np.testing.assert_array_equal(ds["image"].isel(h=0, c=c).squeeze().values, plane)


def test_pixels_of_a_large_pyramid(data: Path) -> None:
    path = data / "tiff_pyramid/yb10kx5k.zstd.tiff"
    with tifffile.TiffFile(path) as tif:
        for level, series in enumerate(tif.series[0].levels):
            ds = imload(path, level=level)
            assert ds["image"].shape == (3, *series.shape[:2])
            if level > 1:
                np.testing.assert_array_equal(ds["image"].values, np.moveaxis(series.asarray(), -1, 0))
        crop = zarr.open_array(tif.series[0].aszarr(level=0), mode="r")[1000:1300, 5000:5200]
    np.testing.assert_array_equal(imload(path)["image"][:, 1000:1300, 5000:5200].values, np.moveaxis(crop, -1, 0))


@pytest.mark.parametrize(("scene", "rectangle"), [("P1", (64, 64)), ("TR2", (237, 352)), (2, (237, 352))])
def test_scenes_of_czi(data: Path, scene: int | str, rectangle: tuple[int, int]) -> None:
    path = data / "czi/S3_1Pos_2Mosaic_T1_Z1_CH1.czi"
    ds = imload(path, scene=scene)
    assert ds["image"].shape[-2:] == rectangle
    number = scene if isinstance(scene, int) else ["TR1", "P1", "TR2"].index(scene)
    np.testing.assert_array_equal(ds["image"].values, by_pylibczirw(path, ds.img.axes, number))


def test_scenes_of_tiff(data: Path) -> None:
    for name in ("ometiff/multiseries.ome.tiff", "ometiff/WP96_4Pos_B4-10_DAPI.ome.tiff"):
        whole = imload(data / name, scene="all")
        assert whole.i.values.tolist() == FILES[name].scenes
        with tifffile.TiffFile(data / name) as tif:
            np.testing.assert_array_equal(whole["image"].values, np.stack([s.asarray() for s in tif.series]))


# spacing and names as others read them


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("czi/")])
def test_metadata_of_czi(data: Path, name: str) -> None:
    from pylibCZIrw import czi

    with czi.open_czi(str(data / name)) as document:
        root = ET.fromstring(document.raw_metadata)
    with imload(data / name) as ds:
        found, channels = ds.img.spacing, ds.img.channels
    steps = {d.get("Id", "").lower(): float(d.findtext("Value") or 0) * 1e6 for d in root.iter("Distance")}
    known = {a: s for a, s in steps.items() if a in FILES[name].axes and a and s > 0}
    assert {a: s for a, s in found.items() if a in "zyx"} == pytest.approx(known, rel=1e-12)
    names = [c.get("Name") for c in root.findall("Metadata/Information/Image/Dimensions/Channels/Channel")]
    if all(names) and names and "RGB" not in name:
        assert channels == names


@pytest.mark.parametrize("name", [n for n in FILES if ".ome.tif" in n or "test_ome" in n])
def test_metadata_of_ome_tiff(data: Path, name: str) -> None:
    with tifffile.TiffFile(data / name) as tif:
        pixels = next(e for e in ET.fromstring(tif.ome_metadata).iter() if e.tag.endswith("}Pixels"))
    ds = imload(data / name)
    sizes = {a: float(pixels.get(f"PhysicalSize{a.upper()}", 0)) for a in "zyx" if a in ds.dims}
    assert {a: s for a, s in ds.img.spacing.items() if a in "zyx"} == {a: s for a, s in sizes.items() if s}
    names = [e.get("Name") for e in pixels if e.tag.endswith("}Channel")]
    if all(names):
        assert ds.img.channels == names


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith(("tiff_imagej", "tiff_gray/c", "tiff_gray/xy"))])
def test_metadata_of_imagej(data: Path, name: str) -> None:
    with tifffile.TiffFile(data / name) as tif:
        tags, about = tif.pages[0].tags, tif.imagej_metadata
        density = {"x": tags["XResolution"].value, "y": tags["YResolution"].value}
    ds = imload(data / name)
    expected = {a: d / n for a, (n, d) in density.items()}
    if "z" in ds.dims and about.get("spacing"):
        expected["z"] = about["spacing"]
    if "t" in ds.dims:
        expected["t"] = about["finterval"]
    assert ds.img.spacing == expected


# pairs


PAIRS = [
    ("czi/FOV7_HV110_P0500510000.czi", "ometiff/FOV7_HV110_P0500510000.ome.tiff"),
    ("czi/CellDivision_T3_Z5_CH2_X240_Y170.czi", "czi/CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi"),
    ("tiff_imagej/xyz_8bit__mitotic_plate_calibrated.tif", "omezarr_v04/xyz_8bit__mitotic_plate_calibrated.ome.zarr"),
    ("tiff_imagej/xyz_8bit__mitotic_plate_calibrated.tif", "tiff_imagej/xyz_8bit__mitotic_plate_badZcalibrated.tif"),
    ("tiff_imagej/xyz_8bit_calibrated_anisotropic__mri_head.tif", "omezarr_v04/mri-stack.ome.zarr"),
    ("tiff_rgb/Fluorescence_RGB.tif", "tiff_rgb/CH3_Fluorescence_8bit.tif"),
    ("ometiff/test_ome_with_time.tiff", "tiff_imagej/test_imagej_with_time.tiff"),
    ("omezarr_v04/viv_blobs_image_v04.ome.zarr", "omezarr_v05/viv_blobs_image_v05.ome.zarr"),
    ("png_jpg_gif/hopper.png", "tiff_bigtiff/hopper_bigtiff.tif"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_pairs_are_equal(data: Path, one: str, other: str) -> None:
    a, b = (imload(data / n).squeeze(drop=True) for n in (one, other))
    assert a["image"].dtype == b["image"].dtype
    assert a["image"].dims == b["image"].dims
    np.testing.assert_array_equal(a["image"].values, b["image"].values)
    for axis in set(a.img.spacing) & set(b.img.spacing):
        assert a.img.spacing[axis] == pytest.approx(b.img.spacing[axis], rel=1e-6)
        assert a.img.units[axis] == b.img.units[axis]


@pytest.mark.parametrize(
    "name",
    [
        "czi/DAPI_GFP.czi",
        "czi/FOV7_HV110_P0500510000.czi",
        "czi/CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi",
        "ometiff/FOV7_HV110_P0500510000.ome.tiff",
    ],
)
def test_unknown_spacing_is_unknown(data: Path, name: str) -> None:
    ds = imload(data / name)
    assert ds.img.spacing == {}
    assert not {"x", "y", "z"} & set(ds.coords)


# what is saved of each file


def same_image(found: xr.Dataset, saved: xr.Dataset) -> None:
    attrs = [{k: v for k, v in ds.attrs.items() if k not in FILE_ATTRS} for ds in (found, saved)]
    same = [ds.drop_attrs(deep=False).assign_attrs(a) for ds, a in zip((found, saved), attrs, strict=True)]
    assert_same(*same)


@pytest.mark.parametrize("name", [n for n in FILES if not any(part in n for part in LARGE)])
def test_saved_files_come_back_and_others_read_them(data: Path, tmp_path: Path, name: str) -> None:
    with load(data, name) as ds:
        for extension in (".ome.tif", ".zarr", ".tif", ".czi"):
            if extension != ".czi" or ds["image"].dtype != "float64":  # which CZI does not hold
                check_saved(ds, tmp_path / f"a{extension}")


def check_saved(ds: xr.Dataset, target: Path) -> None:
    written = imsave(ds, target)
    with imload(target) as back:
        same_image(back, ds)
    if len(written) > 1:  # variables, or axes that the format lacks
        assert len(ds.data_vars) > 1 or "q" in ds.dims
        return
    axes, values = ds.img.axes, ds["image"].values
    if target.suffix == ".zarr" and any(ds.sizes.get(a, 1) > 1 for a in "hq"):  # NGFF has no place for these
        others = xr.open_zarr(written[0], consolidated=False)["image"].transpose(*axes).values
    else:
        others = read_by_others(Path(written[0]), axes)
    np.testing.assert_array_equal(others, values)
    assert others.dtype == values.dtype


@pytest.mark.parametrize("extension", [".ome.tif", ".zarr", ".czi"])
def test_others_read_spacing_and_names(data: Path, tmp_path: Path, extension: str) -> None:
    ds = imload(data / "czi/CellDivision_T3_Z5_CH2_X240_Y170.czi")
    path = imsave(ds, tmp_path / f"a{extension}")[0]
    if extension == ".ome.tif":
        with tifffile.TiffFile(path) as tif:
            pixels = next(e for e in ET.fromstring(tif.ome_metadata).iter() if e.tag.endswith("}Pixels"))
        names = [e.get("Name") for e in pixels if e.tag.endswith("}Channel")]
        steps = {a: float(pixels.get(f"PhysicalSize{a.upper()}", 0)) for a in "zyx"}
        assert {pixels.get(f"PhysicalSize{a}Unit", "µm") for a in "XYZ"} == {"µm"}
        colors = [int(e.get("Color", 0)) % 2**32 >> 8 for e in pixels if e.tag.endswith("}Channel")]
        assert [f"#{c:06X}" for c in colors] == ds.c.attrs["color"]
    elif extension == ".zarr":
        ome = zarr.open_group(path, mode="r").attrs["ome"]
        names = [c["label"] for c in ome["omero"]["channels"]]
        assert ["#" + c["color"] for c in ome["omero"]["channels"]] == ds.c.attrs["color"]
        image = ome["multiscales"][0]
        scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
        steps = {a["name"]: s for a, s in zip(image["axes"], scale, strict=True) if a.get("unit") == "micrometer"}
    else:
        from pylibCZIrw import czi

        with czi.open_czi(path) as document:
            root = ET.fromstring(document.raw_metadata)
        steps = {d.get("Id", "").lower(): float(d.findtext("Value") or 0) * 1e6 for d in root.iter("Distance")}
        names = [c.get("Name") for c in root.findall("Metadata/Information/Image/Dimensions/Channels/Channel")]
    assert names == ["LED555", "LED470"]
    assert steps == pytest.approx({a: ds.img.spacing[a] for a in "zyx"}, rel=1e-12)
