"""The czi driver against libCZI: the same pixels of planes, scenes, levels and regions; its files, read by libCZI."""

from __future__ import annotations

import functools
import http.server
import json
import multiprocessing
import os
import pickle
import random
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from servers import running
from thoroughness import examples

from intake_img.errors import CannotWriteError, FormatError, IntakeImgError, MissingExtraError, SceneError
from intake_img.formats.czi.describe import CziImages
from intake_img.formats.czi.driver import Czi, CziSource
from intake_img.formats.czi.index import parse_directory
from intake_img.formats.czi.metadata import parse_metadata
from intake_img.io import imload, imsave
from intake_img.model.image import Image
from intake_img.storage.files import File
from intake_img.testing.equality import assert_same

czi = pytest.importorskip("pylibCZIrw.czi")

UPPER = {"u": "I"} | {a: a.upper() for a in "tczrhvb"}
FILES = [
    "100x100",
    "CellDivision_T3_Z5_CH2_X240_Y170",
    "CellDivision_T3_Z5_CH2_X240_Y170_comp1",
    "DAPI_GFP",
    "FOV7_HV110_P0500510000",
    "LSM880_AiryScan",
    "RGB-8bit",
    "S3_1Pos_2Mosaic_T1_Z1_CH1",
    "WellD6-7_S2",
    "mosaic_test",
    "nuc_small",
    "tiles_z",
    "xyz__multiple_images",
]


# a writer of any subblocks: libCZI's own knows neither further dimensions nor pyramids, M-index or JPEG-XR


class Block(NamedTuple):
    """A subblock: an array (y, x, perhaps samples), where it lies, and its size at full resolution if that differs."""

    array: np.ndarray
    x: int
    y: int
    dims: dict[str, int]
    size: tuple[int, int] | None = None
    compression: int = 0


_TYPES = {
    ("u1", 1): 0,
    ("u2", 1): 1,
    ("f4", 1): 2,
    ("u1", 3): 3,
    ("u2", 3): 4,
    ("f4", 3): 8,
    ("u1", 4): 9,
    ("c8", 1): 10,
    ("i4", 1): 12,
    ("f8", 1): 13,
}


def segment(name: bytes, data: bytes) -> bytes:
    return struct.pack("<16sqq", name, len(data), len(data)) + data


def encoded(block: Block) -> bytes:
    data = np.ascontiguousarray(block.array)
    if block.compression == 0:
        return data.tobytes()
    if block.compression == 4:
        return pytest.importorskip("imagecodecs").jpegxr_encode(data, level=1.0)
    from numcodecs import zstd

    if block.compression == 5:
        return zstd.compress(data.tobytes(), 1)
    if data.dtype.itemsize == 2:
        flat = data.reshape(-1).view("u1")
        return b"\x03\x01\x01" + zstd.compress(np.concatenate([flat[::2], flat[1::2]]).tobytes(), 1)
    return b"\x01" + zstd.compress(data.tobytes(), 1)


def entry(block: Block, position: int) -> bytes:
    height, width = block.array.shape[:2]
    full = block.size or (height, width)
    samples = block.array.shape[2] if block.array.ndim == 3 else 1
    dims = [("X", block.x, full[1], width), ("Y", block.y, full[0], height)]
    dims += [(k, v, 1, 1) for k, v in block.dims.items()]
    kind = _TYPES[block.array.dtype.str[1:], samples]
    head = struct.pack(
        "<2siqiiB5xi", b"DV", kind, position, 0, block.compression, 0 if block.size is None else 2, len(dims)
    )
    return head + b"".join(struct.pack("<4siifi", k.encode(), a, n, 0.0, m) for k, a, n, m in dims)


def make_czi(path: Path, blocks: Sequence[Block], xml: str = "", stamps: Sequence[float] = ()) -> str:
    """Write a CZI file of any subblocks."""
    body, entries = bytearray(b"\0" * 544), []
    for block in blocks:
        position, data = len(body), encoded(block)
        entries.append(entry(block, position))
        head = struct.pack("<iiq", 0, 0, len(data)) + entries[-1]
        body += segment(b"ZISRAWSUBBLOCK", head.ljust(256, b"\0") + data)
    directory = len(body)
    body += segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(blocks)) + b"".join(entries))
    metadata = len(body)
    text = (xml or "<ImageDocument><Metadata/></ImageDocument>").encode()
    body += segment(b"ZISRAWMETADATA", struct.pack("<ii248x", len(text), 0) + text)
    attachments = 0
    if stamps:
        a1 = struct.pack("<2s10xqi16s8s80s", b"A1", len(body), 0, b"", b"CZTIMS", b"TimeStamps")
        data = struct.pack(f"<ii{len(stamps)}d", 8 * len(stamps), len(stamps), *stamps)
        body += segment(b"ZISRAWATTACH", struct.pack("<i12x", len(data)) + a1 + b"\0" * 112 + data)
        attachments = len(body)
        body += segment(b"ZISRAWATTDIR", struct.pack("<i252x", 1) + a1)
    file = struct.pack("<iiii16s16siqqiq", 1, 0, 0, 0, b"\1" * 16, b"\1" * 16, 0, directory, metadata, 0, attachments)
    body[:544] = segment(b"ZISRAWFILE", file.ljust(512, b"\0"))
    path.write_bytes(body)
    return str(path)


def noise(rng: np.random.Generator, *shape: int, dtype: str = "u2") -> np.ndarray:
    return (rng.random(shape) * 250).astype(dtype) if dtype == "f4" else rng.integers(1, 250, shape).astype(dtype)


# the oracle


def libczi_plane(
    document: Any,
    image: xr.DataArray,
    at: dict[str, int],
    scene: int | None,
    roi: Any = None,
    starts: dict[str, int] | None = None,
    zoom: float | None = None,
) -> np.ndarray:
    plane = {UPPER[a]: k + (starts or {}).get(a, 0) for a, k in at.items()}
    found = document.read(roi=roi, plane=plane, scene=scene, zoom=zoom)
    return found[..., ::-1] if found.shape[2] == 3 else found[..., 0]


def assert_equals_libczi(
    path: str,
    scene: Any = None,
    index: int | None = None,
    rois: int = 4,
    starts: dict[str, int] | None = None,
    box: Any = None,
) -> xr.Dataset:
    """Compare all planes of a scene (of index `index` in the file), and `rois` random regions of each."""
    lazy = CziSource(path, scene=scene, output_axis_order=None, chunks=None).dataset()
    image = lazy["image"]
    colour = image.dims[-1] in ("c", "s")
    lead = [str(a) for a in image.dims[: -3 if colour else -2]]
    rng = random.Random(0)
    with czi.open_czi(path) as document:
        boxes = document.scenes_bounding_rectangle_no_pyramid if box is None else {}
        if index is None and boxes and scene != "canvas":
            index = int(scene or 0)
        if box is None:
            box = document.total_bounding_rectangle_no_pyramid if index is None else boxes[index]
        box = czi.Rectangle(*box)
        whole = CziSource(path, scene=scene, output_axis_order=None).read()["image"]
        for place in np.ndindex(*[image.sizes[a] for a in lead]):
            at = dict(zip(lead, place, strict=True))
            expected = libczi_plane(document, image, at, index, tuple(box), starts)
            np.testing.assert_array_equal(whole[at].values, expected, err_msg=f"{path} {at}")
            for _ in range(rois):
                y, x = rng.randrange(box.h), rng.randrange(box.w)
                h, w = rng.randint(1, box.h - y), rng.randint(1, box.w - x)
                part = image[at].isel(y=slice(y, y + h), x=slice(x, x + w)).values
                np.testing.assert_array_equal(part, expected[y : y + h, x : x + w])
    return lazy


# real files


def manifest(data: Path) -> dict[str, str]:
    rows = [line.split("\t") for line in (data / "MANIFEST.tsv").read_text().splitlines()]
    return {Path(r[0]).stem: r[5] for r in rows if r[0].startswith("czi/")}


@pytest.mark.parametrize("name", FILES)
def test_real_files_equal_libczi(data: Path, name: str) -> None:
    path = str(data / "czi" / f"{name}.czi")
    scenes = CziSource(path).dataset().attrs["scenes"]
    for k in range(len(scenes)):
        ds = assert_equals_libczi(path, scene=k)
        assert ds.attrs["scene"] == scenes[k]


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_what_the_manifest_says(data: Path, name: str) -> None:
    said = manifest(data)[name]
    ds = CziSource(str(data / "czi" / f"{name}.czi")).dataset()
    spacing = {str(a): c.attrs["spacing"] for a, c in ds.coords.items() if "spacing" in c.attrs}
    known = {k.lower(): float(v) for k, v in re.findall(r"'([XYZ])': ([\d.]+)", re.search(r"um={(.*?)}", said)[1])}
    known = {a: v for a, v in known.items() if v > 0 and a in ds.dims}
    assert spacing.keys() == known.keys()
    for a, v in known.items():
        assert spacing[a] == pytest.approx(v, abs=1e-5)
        assert ds[a].attrs["units"] == "µm"
    axes = re.search(r"czifile axes=(\w+)0 ", said)[1].replace("S", "").replace("I", "U").lower()
    colour = "Bgr" in said
    assert ds.attrs["original_axes"] == axes + "c" * colour
    channels = re.findall(r"'([^']*)'|None", re.search(r"ch=\[(.*?)\]; app", said)[1])
    if colour:
        assert ds["c"].values.tolist() == ["R", "G", "B"]
    elif not any(channels):
        assert "c" not in ds.coords or name == "DAPI_GFP"  # named by its display settings alone
    else:
        for own, theirs in zip(ds["c"].values.tolist(), channels, strict=True):
            assert own == theirs or not theirs
    assert (
        str(ds["image"].dtype)
        == {"Gray8": "uint8", "Gray16": "uint16", "Bgr24": "uint8"}[re.search(r"pix={0: '(\w+)'", said)[1]]
    )


def test_names_of_channels_beyond_the_image_description(data: Path) -> None:
    assert imload(data / "czi/DAPI_GFP.czi").c.values.tolist() == ["DAPI", "GFP"]
    assert imload(data / "czi/LSM880_AiryScan.czi").c.values.tolist()[:5] == [
        "ChA-T1",
        "ChA-T2",
        "ChA-T3",
        "ChA-T4",
        "ChA-T1#",
    ]
    assert imload(data / "czi/CellDivision_T3_Z5_CH2_X240_Y170.czi").c.attrs["color"] == ["#FF7E00", "#00FF33"]


@pytest.mark.parametrize("name", ["DAPI_GFP", "FOV7_HV110_P0500510000", "CellDivision_T3_Z5_CH2_X240_Y170_comp1"])
def test_unknown_spacing_is_unknown(data: Path, name: str) -> None:
    assert not set("zyx") & set(imload(data / "czi" / f"{name}.czi").coords)


def test_pairs_hold_the_same_pixels(data: Path) -> None:
    import tifffile

    fov = imload(data / "czi/FOV7_HV110_P0500510000.czi")["image"].values
    np.testing.assert_array_equal(fov[0, 0, 0], tifffile.imread(data / "ometiff/FOV7_HV110_P0500510000.ome.tiff"))
    plain, packed = (imload(data / f"czi/CellDivision_T3_Z5_CH2_X240_Y170{k}.czi")["image"] for k in ("", "_comp1"))
    np.testing.assert_array_equal(plain.values[0], packed.values)


def test_time_stamps(data: Path, tmp_path: Path) -> None:
    t = imload(data / "czi/CellDivision_T3_Z5_CH2_X240_Y170.czi").t
    np.testing.assert_allclose(t.values, [360.4196148, 420.3980454, 480.4104779])
    assert t.attrs["units"] == "s"
    blocks = [Block(np.zeros((4, 5), "u1"), 0, 0, {"T": k}) for k in (1, 2)]
    np.testing.assert_array_equal(imload(make_czi(tmp_path / "a.czi", blocks, stamps=[1.0, 2.5, 7.0])).t, [2.5, 7.0])
    np.testing.assert_array_equal(imload(make_czi(tmp_path / "b.czi", blocks, stamps=[2.5, 7.0])).t, [2.5, 7.0])
    assert "t" not in imload(make_czi(tmp_path / "c.czi", blocks, stamps=[2.5])).coords
    inner = "<Information><Image><Dimensions><T><Positions>{}</Positions></T></Dimensions></Image></Information>"
    xml = f"<ImageDocument><Metadata>{inner}</Metadata></ImageDocument>"
    interval = xml.format("<Interval><Start>0</Start><Increment>0.5</Increment></Interval>")
    assert imload(make_czi(tmp_path / "d.czi", blocks, interval)).t.attrs == {"units": "s", "spacing": 0.5}
    offsets = xml.format("<List><Offsets>0 60.075</Offsets></List>")
    np.testing.assert_array_equal(imload(make_czi(tmp_path / "e.czi", blocks, offsets)).t, [0, 60.075])


def test_scenes_of_real_files(data: Path) -> None:
    path = data / "czi/S3_1Pos_2Mosaic_T1_Z1_CH1.czi"
    named = imload(path, scene="TR2")
    assert named.attrs["scenes"] == ["TR1", "P1", "TR2"]
    assert named.identical(imload(path, scene=2))
    assert named.identical(imload(f"{path}@2"))
    assert (float(named.x[0]), float(named.y[0])) == pytest.approx((293 * 1.6, 277 * 1.6))
    with pytest.raises(ValueError, match="stacked"):
        imload(path, scene="all")
    stacked = imload(data / "czi/xyz__multiple_images.czi", scene="all")
    assert stacked.sizes["i"] == 2


def test_canvas(data: Path) -> None:
    path = data / "czi/S3_1Pos_2Mosaic_T1_Z1_CH1.czi"
    whole = assert_equals_libczi(str(path), scene="canvas")
    part = imload(path, scene="TR2")
    same = whole.sel(x=part.x, y=part.y, method="nearest")
    np.testing.assert_array_equal(same["image"].values, part["image"].values)
    np.testing.assert_allclose(same.x, part.x)
    with pytest.raises(SceneError, match=r"440 x 90544.*0: 'D6', 1: 'D7'"):
        imload(data / "czi/WellD6-7_S2.czi", scene="canvas")


def test_missing_planes_have_a_mask(data: Path) -> None:
    ds = imload(data / "czi/LSM880_AiryScan.czi").squeeze()
    mask = ds["valid_mask"]
    assert mask.attrs["kind"] == "mask"
    assert mask.dtype == bool
    assert mask.dims == ds["image"].dims
    np.testing.assert_array_equal(mask.isel(c=0), True)
    np.testing.assert_array_equal(mask.isel(c=4).any(("y", "x")), [True] + [False] * 31)
    assert not ds["image"].where(~mask, 0).any()


def test_level_of_a_real_pyramid(data: Path) -> None:
    path = str(data / "czi/WellD6-7_S2.czi")
    with czi.open_czi(path) as document:
        for scene in (0, 1):
            ds = imload(path, scene=scene, level=1)
            np.testing.assert_array_equal(ds["image"][0].values, document.read(scene=scene, zoom=0.5)[..., 0])
            assert ds.x.attrs["spacing"] == 0.2
    with pytest.raises(SceneError, match="2 levels"):
        imload(path, level=2)


# made files


@pytest.mark.parametrize("compression", [0, 4, 5, 6])
def test_overlapping_tiles_negative_origin_and_planes_that_start_anywhere(tmp_path: Path, compression: int) -> None:
    rng = np.random.default_rng(1)
    places = [(-20, -30, 5), (10, -25, 1), (0, 0, 9), (25, -10, 3)]
    blocks = [
        Block(noise(rng, 40, 50), x, y, {"Z": z, "T": t, "C": 0, "S": 0, "M": m}, compression=compression)
        for z in (3, 4)
        for t in (5, 6, 7)
        for x, y, m in places
    ]
    path = make_czi(tmp_path / "a.czi", blocks)
    ds = assert_equals_libczi(path, scene=0, starts={"z": 3, "t": 5})
    assert ds["image"].dims == ("c", "t", "z", "y", "x")
    covered = np.zeros((70, 95), bool)
    for x, y, _ in places:
        covered[y + 30 : y + 70, x + 20 : x + 70] = True
    np.testing.assert_array_equal(ds["valid_mask"][0, 0, 0], covered)
    np.testing.assert_array_equal(ds["valid_mask"][0, 1, 1, 7:60, 30:80], covered[7:60, 30:80])


def test_scenes_with_gaps_in_their_numbers_and_tiles_without_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    blocks = []
    for s in (2, 5):
        for x, y, m in ((-20, -30, 5), (10, -25, None), (0, 0, 9), (25 + s, -10, 3)):
            m_index = {} if m is None else {"M": m}
            blocks.append(Block(noise(rng, 40, 50), x, y, {"C": 0, "S": s, **m_index}))
    path = make_czi(tmp_path / "a.czi", blocks)
    assert_equals_libczi(path, scene=0, index=2, box=(-20, -30, 97, 70))
    assert_equals_libczi(path, scene=1, index=5, box=(-20, -30, 100, 70))
    assert_equals_libczi(path, scene="canvas", box=(-20, -30, 100, 70))
    assert imload(path).attrs["scenes"] == ["2", "5"]


def test_further_dimensions(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    blocks = [Block(noise(rng, 9, 7), 0, 0, dict(zip("CHVBRI", k, strict=True))) for k in np.ndindex(2, 3, 2, 1, 2, 2)]
    ds = assert_equals_libczi(make_czi(tmp_path / "a.czi", blocks), rois=1)
    assert "".join(map(str, ds["image"].dims)) == "urbvhcyx"  # in the order of the file, outermost first
    assert "valid_mask" not in ds
    lacking = make_czi(tmp_path / "b.czi", blocks[:-1])
    assert int((~imload(lacking)["valid_mask"]).sum()) == 63


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("compression", [0, 4, 5, 6])
def test_colours(tmp_path: Path, dtype: str, compression: int) -> None:
    if dtype == "f4" and compression == 4:
        pytest.skip("JPEG-XR contains floats otherwise")
    rng = np.random.default_rng(1)
    arrays = noise(rng, 2, 2, 20, 30, 3, dtype=dtype)  # c, t, y, x, blue green red
    stored = arrays[..., ::-1] if compression == 4 else arrays  # JPEG-XR holds red first
    several = [Block(stored[c, t], 0, 0, {"C": c, "T": t + 1}, compression=compression) for c, t in np.ndindex(2, 2)]
    ds = imload(make_czi(tmp_path / "s.czi", several), output_axis_order=None)
    assert ds["image"].dims == ("t", "c", "y", "x", "s")
    np.testing.assert_array_equal(ds["image"], arrays[..., ::-1].swapaxes(0, 1))
    np.testing.assert_array_equal(ds["image"][:, :, 3:9, 5:, 1:2], arrays[:, :, 3:9, 5:, 1:2].swapaxes(0, 1))
    one = make_czi(tmp_path / "c.czi", several[:2])
    ds = imload(one, output_axis_order=None)
    assert ds["image"].dims == ("t", "y", "x", "c")
    assert ds.c.values.tolist() == ["R", "G", "B"]
    np.testing.assert_array_equal(ds["image"], arrays[0, ..., ::-1])
    np.testing.assert_array_equal(ds["image"][1, 3:9, 5:, 0], arrays[0, 1, 3:9, 5:, 2])
    if dtype == "u1" and compression in (0, 5):
        assert_equals_libczi(one, starts={"t": 1})


def test_transparency(tmp_path: Path) -> None:
    bgra = noise(np.random.default_rng(1), 6, 5, 4, dtype="u1")
    ds = imload(make_czi(tmp_path / "a.czi", [Block(bgra, 0, 0, {"C": 0})]))
    assert ds.c.values.tolist() == ["R", "G", "B", "A"]
    np.testing.assert_array_equal(ds["image"], bgra[..., [2, 1, 0, 3]].transpose(2, 0, 1))


def test_pixel_types_that_differ_are_promoted(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = [noise(rng, 6, 5, dtype="u1"), np.full((6, 5), 60000, "u2"), noise(rng, 6, 5, dtype="f4")]
    for n, dtype in ((2, "uint16"), (3, "float32")):
        path = make_czi(tmp_path / f"{n}.czi", [Block(a, 0, 0, {"C": c}) for c, a in enumerate(arrays[:n])])
        ds = imload(path)
        assert ds["image"].dtype == dtype
        for c, a in enumerate(arrays[:n]):
            np.testing.assert_array_equal(ds["image"][c], a)
    mixed = [*arrays[:1], noise(rng, 6, 5, 3, dtype="u1")]
    path = make_czi(tmp_path / "m.czi", [Block(a, 0, 0, {"C": c}) for c, a in enumerate(mixed)])
    with czi.open_czi(path) as document:
        image = imload(path)["image"].values
        np.testing.assert_array_equal(image[0], np.repeat(document.read(plane={"C": 0}), 3, axis=2))
        np.testing.assert_array_equal(image[1], document.read(plane={"C": 1})[..., ::-1])


@pytest.mark.parametrize("factor", [2, 3])
def test_pyramids(tmp_path: Path, factor: int) -> None:
    rng = np.random.default_rng(1)
    base = noise(rng, 60, 90)
    corners = [(y, x) for y in (0, 30) for x in (0, 30, 60)]
    blocks = [Block(base[y : y + 30, x : x + 30], x - 7, y + 5, {"C": 0, "M": m}) for m, (y, x) in enumerate(corners)]
    for level in (1, 2):
        low = noise(rng, 60 // factor**level, 90 // factor**level)
        blocks.append(Block(low, -7, 5, {"C": 0}, size=(60, 90)))
    path = make_czi(tmp_path / "a.czi", blocks, xml=scaling(x=1e-7))
    ds = assert_equals_libczi(path)
    np.testing.assert_array_equal(ds["image"][0], base)
    with czi.open_czi(path) as document:
        for level in (1, 2):
            ds = imload(path, level=level)
            np.testing.assert_array_equal(ds["image"][0], document.read(zoom=1 / factor**level)[..., 0])
            assert ds.x.attrs["spacing"] == pytest.approx(0.1 * factor**level)
    with pytest.raises(SceneError, match="3 levels"):
        imload(path, level=3)


def scaling(**metres: float) -> str:
    items = "".join(f'<Distance Id="{a.upper()}"><Value>{v}</Value></Distance>' for a, v in metres.items())
    return f"<ImageDocument><Metadata><Scaling><Items>{items}</Items></Scaling></Metadata></ImageDocument>"


@pytest.mark.parametrize("value", [0, "NaN", -1e-7, "", "1e-7 m", "INF"])
def test_spacing_that_is_none(value: Any) -> None:
    assert parse_metadata(scaling(x=value, y=2.5e-7)).spacing == {"y": 0.25}


def test_metadata_is_read_tolerantly(tmp_path: Path) -> None:
    block = [Block(np.zeros((4, 5), "u1"), 0, 0, {"C": 0})]
    for xml in ("<ImageDocument/>", "<a><b/></a>", "\ufeff" + scaling(x=1e-7)):
        assert imload(make_czi(tmp_path / "a.czi", block, xml)).sizes["x"] == 5
    with pytest.warns(UserWarning, match="XML is damaged"):
        assert imload(make_czi(tmp_path / "b.czi", block, "<ImageDocument>")).sizes["x"] == 5
    names = "<ImageDocument><Metadata><Experiment><Information/></Experiment>{}</Metadata></ImageDocument>"
    scene = "".join(
        f'<Scene Index="{k}" Name="P1"><Shape Name="{well}"/></Scene>' for k, well in enumerate(("A1", "A2"))
    )
    text = names.format(
        f"<Information><Image><Dimensions><S><Scenes>{scene}</Scenes></S></Dimensions></Image></Information>"
    )
    assert parse_metadata(text).scenes == {0: "A1-P1", 1: "A2-P1"}


# many tiles, threads, processes, the network


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A mosaic of 20 000 tiles."""
    path = str(tmp_path_factory.mktemp("czi") / "many.czi")
    with czi.create_czi(path) as document:
        tile = np.zeros((16, 16, 1), "u2")
        for k in range(20_000):
            tile[:] = k
            document.write(tile, location=(16 * (k % 200), 16 * (k // 200)))
    return path


def test_many_tiles(many: str) -> None:
    ds = imload(many, chunks=None)
    assert ds["image"].shape == (1, 1, 1, 1600, 3200)
    assert "valid_mask" not in ds
    part = ds["image"][0, 0, 0, 1000:1064, 2000:2064].values
    rows, columns = np.arange(1000, 1064) // 16, np.arange(2000, 2064) // 16
    np.testing.assert_array_equal(part, 200 * rows[:, None] + columns)
    assert len(imload(many)["image"].__dask_graph__()) < 100


def test_index_finds_only_what_meets_a_region(many: str) -> None:
    handle = CziImages(File.parse(many))
    try:
        mosaic = handle.mosaic(0, 0)
        assert len(mosaic.find(0, 100, 101, 100, 101)) == 1
        assert len(mosaic.find(0, 96, 128, 96, 128)) == 4
        assert len(mosaic.find(1, 0, 10, 0, 10)) == 0
        handle.array((0, 0, "image")).read_into(tuple(slice(0, 1) for _ in range(5)), np.empty((1,) * 5, "u2"))
        assert (handle.data_offset >= 0).sum() == 1  # of 20 000 subblocks, one was looked at
    finally:
        handle.close()


def test_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    array = noise(rng, 4, 200, 300)
    blocks = [
        Block(array[z, y : y + 50, x : x + 50], x, y, {"Z": z}, compression=6)
        for z in range(4)
        for y in range(0, 200, 50)
        for x in range(0, 300, 50)
    ]
    ds = imload(make_czi(tmp_path / "a.czi", blocks), chunks=None)

    def read(seed: int) -> bool:
        r = random.Random(seed)
        y, x, z = r.randrange(150), r.randrange(250), r.randrange(4)
        return bool((ds["image"][z, y : y + 50, x : x + 50].values == array[z, y : y + 50, x : x + 50]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(300)))


def _sum(ds: xr.Dataset, queue: Any) -> None:
    queue.put(int(ds["image"].sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes(tmp_path: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    path, _ = Czi().sample(str(tmp_path))
    ds = imload(path, chunks=None)
    expected = int(pickle.loads(pickle.dumps(ds))["image"].sum())  # the parent's handle is open
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_sum, args=(ds, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves files with ranges, and counts what was asked for."""

    disable_nagle_algorithm = True
    requests: list[int] = []

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(os.path.getsize(self.translate_path(self.path))))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        with open(self.translate_path(self.path), "rb") as f:
            data = f.read()
        found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        part = data[int(found[1]) : int(found[2]) + 1 if found[2] else None] if found else data
        if found:  # fsspec asks for a file, without reading on, to see whether it exists
            self.requests.append(len(part))
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if found:
            self.send_header("Content-Range", f"bytes {found[1]}-{int(found[1]) + len(part) - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    _Ranges.requests = []
    handler = functools.partial(_Ranges, directory=str(tmp_path))
    with running(handler) as url:
        yield url


@pytest.mark.parametrize("compression", [0, 6])
def test_over_http(tmp_path: Path, served: str, compression: int) -> None:
    rng = np.random.default_rng(1)
    array = rng.integers(0, 60000, (8, 512, 512), "u2")
    blocks = [
        Block(array[z, y : y + 256, x : x + 256], x, y, {"Z": z, "C": 0}, compression=compression)
        for z in range(8)
        for y in (0, 256)
        for x in (0, 256)
    ]
    make_czi(tmp_path / "a b.czi", blocks)
    ds = imload(f"{served}/a%20b.czi", chunks=None)
    assert sum(_Ranges.requests) < 40_000
    np.testing.assert_array_equal(ds["image"][0, 3, 200:300, 200:300], array[3, 200:300, 200:300])
    assert len(_Ranges.requests) < 20
    assert sum(_Ranges.requests) < 700_000  # of 4 MB: four tiles
    np.testing.assert_array_equal(ds["image"][0], array)


def test_over_memory(data: Path) -> None:
    import fsspec

    source = data / "czi/S3_1Pos_2Mosaic_T1_Z1_CH1.czi"
    fsspec.filesystem("memory").pipe("/czi/a.czi", source.read_bytes())
    for scene in range(3):
        a, b = imload("memory://czi/a.czi", scene=scene), imload(source, scene=scene)
        xr.testing.assert_equal(a, b)


# decoders


def test_jpeg_xr_without_imagecodecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    arrays = noise(rng, 2, 40, 50)
    blocks = [Block(a, -10 + 30 * k, 5, {"Z": 4, "C": 0, "S": 0, "M": k}, compression=4) for k, a in enumerate(arrays)]
    path = make_czi(tmp_path / "a.czi", blocks)
    expected = imload(path)["image"].values
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    np.testing.assert_array_equal(imload(path)["image"], expected)
    np.testing.assert_array_equal(imload(path, chunks=None)["image"][0, 0, 10:, 5:60], expected[0, 0, 10:, 5:60])
    import fsspec

    fsspec.filesystem("memory").pipe("/czi/x.czi", Path(path).read_bytes())
    with pytest.raises(MissingExtraError, match=r"pip install 'intake_img\[codecs\]'"):
        imload("memory://czi/x.czi")["image"].load()


def test_frames_that_state_another_size(tmp_path: Path) -> None:
    from numcodecs import zstd

    block = Block(np.zeros((40, 50), "u1"), 0, 0, {"C": 0}, compression=5)
    path = make_czi(tmp_path / "a.czi", [block])
    right, short = encoded(block), zstd.compress(b"\0" * 10, 1)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content.replace(right, short.ljust(len(right), b"\0")))
    with pytest.raises(FormatError, match="10 bytes, where the directory states 2000"):
        imload(path)["image"].load()


# damaged files


def _damaged(good: bytes, seed: int) -> bytes:
    r = random.Random(seed)
    if r.random() < 0.2:
        return good[: r.randrange(len(good))]
    data = bytearray(good)
    directory = good.index(b"ZISRAWDIRECTORY")
    for _ in range(r.choice((1, 1, 3))):
        at = r.randrange(len(data)) if r.random() < 0.5 else r.randrange(directory, min(directory + 900, len(data)))
        data[at] = r.choice((0, 255, 127, 128, data[at] ^ 1 << r.randrange(8)))
    return bytes(data)


@pytest.mark.parametrize("compression", [0, 4, 5, 6])
def test_damaged_files_fail_well(tmp_path: Path, compression: int) -> None:
    rng = np.random.default_rng(0)
    blocks = [
        Block(noise(rng, 12, 14), x, 0, {"Z": z, "C": 0, "S": 0, "M": x // 14}, compression=compression)
        for z in (0, 1)
        for x in (0, 12)
    ] + [
        Block(noise(rng, 6, 13), 0, 0, {"Z": z, "C": 0, "S": 0}, size=(12, 26), compression=compression) for z in (0, 1)
    ]
    good = Path(make_czi(tmp_path / "good.czi", blocks, scaling(x=1e-7), [1, 2])).read_bytes()
    whole = imload(tmp_path / "good.czi")["image"].values
    pixels = good.index(b"ZISRAWDIRECTORY")
    path = tmp_path / "bad.czi"
    refusals: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged XML
        for seed in range(300):
            bad = _damaged(good, seed)
            path.write_bytes(bad)
            try:
                found = CziSource(str(path)).read()["image"].values
            except IntakeImgError as exc:
                refusals.append(str(exc))
                continue
            if bad[:pixels] == good[:pixels]:  # nothing but the directory and the XML are damaged
                np.testing.assert_array_equal(found, whole, err_msg=str(seed))
    assert len(refusals) > 50
    assert all(str(path) in text for text in refusals)


def test_hostile_numbers(tmp_path: Path) -> None:
    block = Block(np.zeros((4, 5), "u1"), 0, 0, {"C": 0, "T": 0})
    good = Path(make_czi(tmp_path / "a.czi", [block, block._replace(dims={"C": 0, "T": 1})])).read_bytes()
    directory, file = good.index(b"ZISRAWDIRECTORY"), 32
    path = tmp_path / "b.czi"

    def damaged(at: int, code: str, value: Any) -> Path:
        data = bytearray(good)
        struct.pack_into(code, data, at, value)
        path.write_bytes(data)
        return path

    def refused(at: int, code: str, value: Any) -> None:
        with pytest.raises(FormatError):
            imload(damaged(at, code, value))["image"].load()

    def rebuilt(at: int, code: str, value: Any, message: str = "its 2 complete subblocks") -> None:
        with pytest.warns(UserWarning, match=message):
            np.testing.assert_array_equal(imload(damaged(at, code, value))["image"], np.zeros((2, 1, 4, 5)))

    for value in (-1, 1, 10**12, 2**62):
        rebuilt(file + 52, "<q", value)  # where the directory is
        rebuilt(file + 60, "<q", value, "its metadata are lost")  # the XML
    for value in (-1, 10**12, 2**62):
        rebuilt(directory + 160 + 6, "<q", value)  # a subblock
    refused(directory + 160 + 6, "<q", 1)
    for value in (-1, 0, 3, 2**31 - 1):
        rebuilt(directory + 32, "<i", value)  # how many subblocks
        rebuilt(directory + 160 + 28, "<i", value)  # how many dimensions
    for value in (-(2**31), -1, 0, 6, 10**6, 2**31 - 1):
        at, valid = directory + 160 + 32 + 8, value in (6, 10**6)
        (refused if valid else rebuilt)(at, "<i", value)  # how wide
    for value in (2**20, -(2**30), 2**31 - 1):
        refused(directory + 160 + 32 + 4, "<i", value)  # where
        refused(directory + 160 + 32 + 60 + 4, "<i", value)  # which time point
    metadata = good.index(b"ZISRAWMETADATA")
    for value in (-5, 10**9):
        rebuilt(metadata + 32, "<i", value, "its metadata are lost")


def test_names_of_channels_that_start_below_zero_are_unknown(tmp_path: Path) -> None:
    path = Path(Czi().sample(str(tmp_path))[0])
    assert imload(path).img.channels == ["DAPI", "GFP"]
    data = bytearray(path.read_bytes())
    at = data.index(b"C\0\0\0" + struct.pack("<i", 0), data.index(b"ZISRAWDIRECTORY"))
    struct.pack_into("<i", data, at + 4, -4)
    path.write_bytes(data)
    ds = imload(path)
    assert ds.sizes["c"] == 6
    assert "c" not in ds.coords


def test_foreign_files(tmp_path: Path) -> None:
    for content in (b"", b"ZISRAWFILE", b"ZISRAWFILE" + b"\0" * 600, b"II*\0" * 100):
        path = tmp_path / "a.czi"
        path.write_bytes(content)
        with pytest.raises(FormatError, match=re.escape(str(path))):
            CziSource(str(path)).dataset()


@examples(200)
@given(st.binary(max_size=400), st.integers(-3, 20))
def test_directory_of_any_bytes(data: bytes, count: int) -> None:
    try:
        directory = parse_directory(b"DV" + data, count)
    except (FormatError, ValueError):
        return
    assert len(directory) == count


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=9
    ),
    st.data(),
)
def test_any_tiles_compose_as_libczi_does(tmp_path: Path, tiles: list[tuple[int, ...]], data: Any) -> None:
    order = data.draw(st.permutations(range(len(tiles))))
    blocks = [
        Block(np.full((h, w), k + 1, "u1"), x, y, {"C": 0, "M": m})
        for k, ((x, y, h, w), m) in enumerate(zip(tiles, order, strict=True))
    ]
    path = make_czi(tmp_path / "any.czi", blocks)
    ds = assert_equals_libczi(path, rois=2)
    complete = bool((ds["image"].values > 0).all())
    assert ("valid_mask" in ds) == (not complete)
    if not complete:
        np.testing.assert_array_equal(ds["valid_mask"], ds["image"].values > 0)


# writing


def um(axis: str, n: int, step: float, origin: float = 0.0) -> xr.Variable:
    return xr.Variable(axis, origin + step * np.arange(n), {"units": "µm", "spacing": step})


def dataset(axes: str, shape: Sequence[int], dtype: str = "u2", **coords: Any) -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset({"image": (tuple(axes), noise(rng, *shape, dtype=dtype))}, coords=coords)


def stripped(ds: xr.Dataset) -> xr.Dataset:
    ds = ds.copy()
    ds.attrs = {}
    return ds.load()


WRITTEN = {
    "hyperstack": dataset(
        "tczyx",
        (2, 3, 2, 20, 30),
        c=["a", "b <x>", "µ/ü, [1]\n"],
        z=um("z", 2, 0.3),
        y=um("y", 20, 0.065),
        x=um("x", 30, 0.065, -7.0),
    ),
    "plane": dataset("yx", (20, 30), "u1"),
    "float": dataset("zyx", (3, 20, 30), "f4"),
    "half": dataset("zyx", (3, 20, 30), "f4").astype("f2"),
    "mask": dataset("zyx", (3, 20, 30)) > 100,
    "colours": dataset("tcyx", (2, 3, 20, 30), "u1", c=["R", "G", "B"]),
    "deep colours": dataset("cyx", (3, 20, 30), "u2", c=["R", "G", "B"]),
    "float colours": dataset("cyx", (3, 20, 30), "f4", c=["R", "G", "B"]),
    "samples": dataset("cyxs", (2, 20, 30, 3), "u1", c=["x", "y"]),
    "samples alone": dataset("yxs", (20, 30, 3), "u2"),
    "scenes": dataset("icyx", (3, 2, 20, 30), i=["p1", "p2", "p3"], c=["a", "b"], x=um("x", 30, 0.5)),
    "scenes in colour": dataset("icyx", (2, 3, 20, 30), "u1", c=["R", "G", "B"]),
    "one of each": dataset("itczyx", (1, 1, 1, 1, 6, 5), c=["only"]),
    "divided": dataset("zyx", (1, 2400, 2300)),
    "times": dataset("tyx", (3, 6, 5), t=("t", [0.0, 1.5, 7.0], {"units": "s"})),
}


@pytest.mark.parametrize("compress", [None, True, "zstd0", "zstd1:ExplicitLevel=5"])
@pytest.mark.parametrize("name", WRITTEN)
def test_round_trip(tmp_path: Path, name: str, compress: Any) -> None:
    ds = WRITTEN[name]
    assert imsave(ds, tmp_path / "a.czi", compress=compress) == [str(tmp_path / "a.czi")]
    back = imload(tmp_path / "a.czi")
    xr.testing.assert_identical(stripped(back), stripped(ds))
    assert back["image"].dtype == ds["image"].dtype
    assert os.listdir(tmp_path) == ["a.czi"]


@pytest.mark.parametrize("compress", [None, True])
def test_libczi_reads_what_is_written(tmp_path: Path, compress: Any) -> None:
    ds = WRITTEN["hyperstack"]
    imsave(ds, tmp_path / "a.czi", compress=compress)
    with czi.open_czi(str(tmp_path / "a.czi")) as document:
        box = document.total_bounding_box
        assert {k: box[k][1] for k in "TCZ"} == {"T": 2, "C": 3, "Z": 2}
        for t, c, z in np.ndindex(2, 3, 2):
            found = document.read(plane={"T": t, "C": c, "Z": z})[..., 0]
            np.testing.assert_array_equal(found, ds["image"][t, c, z])
        items = document.metadata["ImageDocument"]["Metadata"]["Scaling"]["Items"]["Distance"]
        assert {d["@Id"]: float(d["Value"]) for d in items} == pytest.approx({"X": 65e-9, "Y": 65e-9, "Z": 3e-7})
        channels = document.metadata["ImageDocument"]["Metadata"]["Information"]["Image"]["Dimensions"]["Channels"]
        assert [c["@Name"] for c in channels["Channel"]] == ["a", "b <x>", "µ/ü, [1]\n"]


@pytest.mark.parametrize("unit", [None, "furlong", "s"])
def test_libczi_reads_no_spacing_whose_unit_is_no_length(tmp_path: Path, unit: str | None) -> None:
    attrs = {"spacing": 0.5} if unit is None else {"spacing": 0.5, "units": unit}
    known = {"spacing": 0.5, "units": "µm"}
    coords = {"y": ("y", 0.5 * np.arange(4), attrs), "x": ("x", 0.5 * np.arange(6), known)}
    ds = xr.Dataset({"image": (("y", "x"), np.zeros((4, 6), "u1"))}, coords)
    imsave(ds, tmp_path / "a.czi")
    with czi.open_czi(str(tmp_path / "a.czi")) as document:
        items = document.metadata["ImageDocument"]["Metadata"]["Scaling"]["Items"]["Distance"]
    assert {d["@Id"]: float(d["Value"]) for d in items if float(d["Value"])} == {"X": pytest.approx(5e-7)}
    assert imload(tmp_path / "a.czi").img.spacing == {"y": 0.5, "x": 0.5}


@pytest.mark.parametrize("name", ["colours", "deep colours", "samples"])
def test_libczi_reads_colours_that_are_written(tmp_path: Path, name: str) -> None:
    ds = WRITTEN[name]
    imsave(ds, tmp_path / "a.czi", compress=True)
    image = ds["image"].transpose(..., "y", "x", "s" if "s" in ds.dims else "c")
    lead = list(image.dims[:-3])
    with czi.open_czi(str(tmp_path / "a.czi")) as document:
        for place in np.ndindex(image.shape[:-3]):
            at = dict(zip(lead, place, strict=True))
            found = document.read(plane={UPPER[a]: k for a, k in at.items()})
            np.testing.assert_array_equal(found[..., ::-1], image[at])


def test_scenes_that_are_written(tmp_path: Path) -> None:
    ds = WRITTEN["scenes"]
    imsave(ds, tmp_path / "a.czi")
    with czi.open_czi(str(tmp_path / "a.czi")) as document:
        assert len(document.scenes_bounding_rectangle) == 3
        for k in range(3):
            np.testing.assert_array_equal(document.read(scene=k, plane={"C": 1})[..., 0], ds["image"][k, 1])
    one = imload(tmp_path / "a.czi", scene="p2")
    np.testing.assert_array_equal(one["image"].squeeze(("t", "z")), ds["image"][1])
    assert one.attrs["scenes"] == ["p1", "p2", "p3"]
    assert imload(tmp_path / "a.czi").attrs["scene"] == "all"
    stage = imload(tmp_path / "a.czi", scene="canvas")["image"].squeeze(("t", "z"))
    np.testing.assert_array_equal(stage, np.concatenate(list(ds["image"].values), axis=2))  # side by side


def test_record_does_not_grow(data: Path, tmp_path: Path) -> None:
    ds = imload(data / "czi/CellDivision_T3_Z5_CH2_X240_Y170.czi").squeeze("b", drop=True)
    sizes = []
    for n in range(3):
        imsave(ds, tmp_path / f"{n}.czi")
        back = imload(tmp_path / f"{n}.czi")
        xr.testing.assert_identical(stripped(back), stripped(ds))
        sizes.append(os.path.getsize(tmp_path / f"{n}.czi"))
        ds = back
    assert sizes[1] == sizes[2] < sizes[0]
    assert "CustomAttributes" in json.loads(ds.attrs["fileheader"])["xml"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    cases = [
        (dataset("yx", (4, 5)).astype("f8"), None, "float64"),
        (dataset("yx", (4, 5)).astype("i4"), None, "int32"),
        (dataset("zx", (2, 5)), None, "'zx'"),
        (dataset("zyx", (0, 4, 5)), None, "shape"),
        (dataset("yxs", (4, 5, 4), "u1"), None, "3 samples"),
        (dataset("yx", (4, 5)), "gzip", "'gzip'"),
    ]
    for ds, compress, message in cases:
        with pytest.raises(CannotWriteError, match=message):
            imsave(ds, tmp_path / "a.czi", compress=compress)
    for ds, message in ((dataset("hyx", (2, 4, 5)), "'h'"), (two_variables(), r"one variable.*ds\[\['image'\]\]")):
        with pytest.raises(CannotWriteError, match=message):
            Czi().write(Image.from_xarray(ds), str(tmp_path / "a.czi"))
    assert os.listdir(tmp_path) == []


def two_variables() -> xr.Dataset:
    image = dataset("hyx", (2, 4, 5))
    return image.assign(valid_mask=image["image"] > 0)


def test_axes_beyond_those_that_are_written(tmp_path: Path) -> None:
    one = dataset("vtyxh", (1, 2, 4, 5, 1))
    assert imsave(one, tmp_path / "a.czi") == [str(tmp_path / "a.czi")]
    assert_same(imload(tmp_path / "a.czi"), one)
    names = ["b.var_image.h_0.czi", "b.var_image.h_1.czi", "b.var_valid_mask.h_0.czi", "b.var_valid_mask.h_1.czi"]
    assert [os.path.basename(p) for p in imsave(two_variables(), tmp_path / "b.czi")] == names
    assert_same(imload(tmp_path / "b.czi"), two_variables())


def test_writing_reports_progress_and_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    steps: list[int] = []
    image = Image.from_xarray(WRITTEN["hyperstack"])
    Czi().write(image, str(tmp_path / "any name"), progress=steps.append)
    assert steps == [20 * 30 * 2] * 12
    assert imload(tmp_path / "any name").sizes["t"] == 2

    def stop(n: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Czi().write(image, str(tmp_path / "b"), progress=stop)
    assert os.listdir(tmp_path) == ["any name"]


def test_names_that_libczi_does_not_take(tmp_path: Path) -> None:
    folder = tmp_path / "µ 漢"
    folder.mkdir()
    path = folder / "a%20 #[?{::.CZI"
    ds = WRITTEN["plane"]
    imsave(ds, path)
    xr.testing.assert_identical(stripped(imload(path)), stripped(ds))


def test_sample(tmp_path: Path) -> None:
    path, expected = Czi().sample(str(tmp_path))
    xr.testing.assert_identical(stripped(CziSource(path).read()), stripped(expected))


# requests of remote files


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("CellDivision_T3_Z5_CH2_X240_Y170.czi", 1),  # of 30 tiles
        ("CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi", None),  # threads decode a share each
        ("LSM880_AiryScan.czi", None),
        ("tiles_z.czi", 1),
        ("RGB-8bit.czi", 1),
        ("WellD6-7_S2.czi", 1),
        ("mosaic_test.czi", None),
    ],
)
def test_tiles_of_a_remote_file_are_fetched_together(data, name, requests, monkeypatch):
    """One request for neighbours, or one a thread; few bytes more than the tiles have; values as of the local file."""
    pytest.importorskip("aiohttp")
    from servers import serving

    path = data / "czi" / name
    expected = imload(path)
    with CziSource(path).opened() as handle:
        handle.locate(range(len(handle.index)))
        stored = int(handle.data_size.sum())
        tiles = len(handle.index)
    with serving(path.parent) as (url, server):
        found = imload(f"{url}/{name}")
        server.log.clear()
        image = found.image.values
        asked = [n for _, n in server.log]
        np.testing.assert_array_equal(image, expected.image.values)
        assert len(asked) <= (requests or max(1, tiles // 4, (os.cpu_count() or 1) + 1))
        assert sum(asked) <= 1.1 * stored + 2**17
        few = found.image.isel(y=slice(3, 5)).values
    np.testing.assert_array_equal(few, expected.image.isel(y=slice(3, 5)).values)


def test_tiles_that_are_fetched_in_several_batches(tmp_path, monkeypatch):
    """Batches of one plane each, and heads and pixels that are not in what was fetched: the same pixels."""
    from intake_img.formats.czi import ahead

    values = np.random.default_rng(0).integers(0, 60000, (2, 3, 80, 90), "uint16")
    for compress in (None, "zstd1"):
        imsave(xr.Dataset({"image": (tuple("czyx"), values)}), tmp_path / "a.czi", compress=compress, overwrite=True)
        (url,) = (f"memory://czi/{tmp_path.name}/a.czi",)
        fs, place = File.parse(url).filesystem()
        fs.pipe_file(place, (tmp_path / "a.czi").read_bytes())
        for batch, head, slack in ((2**25, 2**14, 2**16), (1, 2**14, 2**16), (2**15, 0, 0), (2**15, 64, -10_000)):
            monkeypatch.setattr(ahead, "_BATCH_BYTES", batch)
            monkeypatch.setattr(ahead, "_HEAD", head)
            monkeypatch.setattr(ahead, "_SLACK", slack)
            np.testing.assert_array_equal(imload(url).image.values, values)
            np.testing.assert_array_equal(imload(url).image[..., 10:70, 5:20].values, values[..., 10:70, 5:20])
            np.testing.assert_array_equal(imload(url).image[1, 2, 10:12, 5:20].values, values[1, 2, 10:12, 5:20])
