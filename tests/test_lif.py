"""Leica LIF, LOF, XLIF and XLEF against liffile: real files, and small ones made here after the vendor's document."""

from __future__ import annotations

import struct
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile

from intake_img import imload
from intake_img.errors import FormatError, MissingExtraError

liffile = pytest.importorskip("liffile")
XML = "<?xml version='1.0' encoding='utf-8'?>"
NUMBERS = {"x": 1, "y": 2, "z": 3, "t": 4, "l": 5, "e": 9, "m": 10}


def description(axes, sizes, strides, offsets, *, bits=8, tags=(0, 0, 0, 0), lengths=None, extra="", properties=()):
    """The element ``Image``: axes from the innermost on, as LAS writes them."""
    lengths = lengths or {}
    dims = "".join(
        f'<DimensionDescription DimID="{NUMBERS[a]}" NumberOfElements="{n}" Origin="{1e-7 if a in "le" else 0}" '
        f'Length="{lengths.get(a, 1e-6 * (n - 1))}" Unit="{"s" if a == "t" else "m"}" BitInc="0" BytesInc="{s}"/>'
        for a, n, s in zip(axes, sizes, strides, strict=True)
    )
    bits = bits if isinstance(bits, tuple) else (bits,) * len(offsets)
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="{tags[k]}" Resolution="{bits[k]}" NameOfMeasuredQuantity="" '
        f'Min="0" Max="1" Unit="" LUTName="{("Green", "Red", "Blue", "Gray")[k]}" IsLUTInverted="0" BytesInc="{at}" '
        f'BitInc="0">{properties[k] if properties else ""}</ChannelDescription>'
        for k, at in enumerate(offsets)
    )
    parts = f"<Channels>{channels}</Channels><Dimensions>{dims}</Dimensions>"
    return f"<Image><ImageDescription>{parts}</ImageDescription>{extra}</Image>"


def element(name, data, children="", block="b", size=0):
    memory = f'<Memory Size="{size}" MemoryBlockID="{block}"/>' if data else ""
    below = f"<Children>{children}</Children>" if children else ""
    return f'<Element Name="{name}"><Data>{data}</Data>{memory}{below}</Element>'


def container(inside):
    return f'<LMSDataContainerHeader Version="2">{inside}</LMSDataContainerHeader>'


def head(text):
    data = text.encode("utf-16-le")
    return struct.pack("<IIBI", 0x70, len(data) + 5, 0x2A, len(data) // 2) + data


def lif(path: Path, blocks: dict[str, bytes], tree: str) -> Path:
    content = head(container(f'<Element Name="project"><Children>{tree}</Children></Element>'))
    for name, data in blocks.items():
        text = name.encode("utf-16-le")
        content += struct.pack("<IIBQBI", 0x70, len(text) + 14, 0x2A, len(data), 0x2A, len(name)) + text + data
    path.write_bytes(content)
    return path


def lof(path: Path, data: bytes, image: str) -> Path:
    block = struct.pack("<BIBIBQ", 0x2A, 2, 0x2A, 0, 0x2A, len(data)) + data
    path.write_bytes(head("LMS_Object_File") + block + head(container(element("stack", image, size=len(data)))))
    return path


def assert_as_liffile(path, number=0, **options):
    """Equal to what liffile reads, whole and in parts; returns the Dataset."""
    with liffile.LifFile(path) as document:
        image = document.images[number]
        expected, dims = image.asarray(), image.dims
    letters = {"λ": "l", "Λ": "e", "S": "c"}
    ds = imload(path, scene=number, output_axis_order=None, **options)
    assert ds["image"].dims == tuple(letters.get(d, d.lower()) for d in dims)
    assert ds["image"].dtype == expected.dtype
    assert np.array_equal(ds["image"], expected)
    rng = np.random.default_rng(number)
    for chunks in (None, {"x": 3}):
        lazy = imload(path, scene=number, output_axis_order=None, chunks=chunks, **options)["image"]
        for _ in range(5):
            key = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False))) for n in expected.shape)
            assert np.array_equal(lazy[key], expected[key])
    return ds


def test_real_file(data):
    path = data / "lif" / "testdata_2channel_xz.lif"
    for n, (name, axes) in enumerate([("xzt", "tczx"), ("xzy", "yczx"), ("xz", "czx")]):
        ds = assert_as_liffile(path, n)
        assert (ds.attrs["scene"], ds.attrs["original_axes"]) == (name, axes)
        assert ds.attrs["scenes"] == ["xzt", "xzy", "xz"]
        assert ds.img.channels == ["Green", "Red"]
    ds = imload(path)
    for c, t, name in ((0, 0, "xz_c0_t0.tif"), (1, 8, "xz_c1_t8.tif")):
        assert np.array_equal(ds["image"].isel(c=c, t=t), tifffile.imread(data / "lif" / name))
    assert ds.img.spacing == pytest.approx({"x": 17.81554 / 127, "z": 17.8154 / 127, "t": 10.07 / 19}, rel=1e-12)
    assert ds.img.units == {"t": "s", "z": "µm", "x": "µm"}
    assert float(ds["z"][0]) == pytest.approx(4.413365)


PIXELS = np.random.default_rng(3).integers(0, 256, 5000, "u1")


@pytest.mark.parametrize(
    ("axes", "sizes", "strides", "offsets", "options"),
    [
        ("xyz", (6, 5, 4), (1, 6, 60), (0, 30), {}),  # channels within a slice
        ("xyz", (6, 5, 4), (1, 6, 30), (0, 120), {}),  # channels outermost
        ("xyzt", (6, 5, 4, 3), (1, 6, 30, 240), (0, 120), {"lengths": {"t": 4.5}}),
        ("xytm", (6, 5, 2, 3), (2, 12, 60, 240), (0, 120), {"bits": 12}),
        ("xylt", (6, 5, 4, 2), (1, 6, 30, 120), (0,), {"lengths": {"l": 6e-8}}),
        ("xyle", (6, 5, 4, 2), (1, 6, 30, 120), (0,), {}),
        ("xyz", (6, 5, 4), (3, 18, 90), (0, 1, 2), {"tags": (1, 2, 3)}),  # colours within a pixel
        ("xyz", (6, 5, 4), (1, 6, 90), (0, 30, 60), {}),
    ],
)
def test_strides_decide(tmp_path, axes, sizes, strides, offsets, options):
    image = description(axes, sizes, strides, offsets, **options)
    size = int(np.dot(np.subtract(sizes, 1), strides)) + max(offsets) + (2 if options.get("bits") == 12 else 1)
    path = lif(tmp_path / "a.lif", {"b": PIXELS[:size].tobytes()}, element("one", image, size=size))
    ds = assert_as_liffile(path)
    assert ds.img.channels == (["R", "G", "B"] if "tags" in options else ["Green", "Red", "Blue"][: len(offsets)])
    if "l" in options.get("lengths", {}):
        assert ds["l"].values.tolist() == pytest.approx([100, 120, 140, 160])
        assert ds["l"].attrs == {"units": "nm", "spacing": pytest.approx(20)}
    assert ds.img.spacing["x"] == pytest.approx(1.0)
    assert set(ds.img.spacing) == set(axes) - {"m"}


def test_a_blue_green_red_image_is_red_green_blue(tmp_path):
    image = description("xy", (6, 5), (3, 18), (0, 1, 2), tags=(3, 2, 1))
    path = lif(tmp_path / "a.lif", {"b": PIXELS[:90].tobytes()}, element("one", image, size=90))
    assert np.array_equal(imload(path, output_axis_order=None)["image"], PIXELS[:90].reshape(5, 6, 3)[..., ::-1])


def test_padded_rows_and_mixed_channels(tmp_path):
    """What liffile cannot give as one array."""
    image = description("xy", (3, 4), (2, 8), (0, 40), bits=(12, 8))
    path = lif(tmp_path / "a.lif", {"b": PIXELS[:100].tobytes()}, element("one", image, size=100))
    first = PIXELS[:32].view("<u2").reshape(4, 4)[:, :3]
    second = PIXELS[40:72].reshape(4, 8)[:, ::2][:, :3]
    ds = imload(path)
    assert ds["image"].dtype == np.uint16
    assert np.array_equal(ds["image"], [first, second])
    assert np.array_equal(ds["image"][1, 1:3, 2], second[1:3, 2])


def test_facts_of_axes(tmp_path):
    dye = "<ChannelProperty><Key>DyeName</Key><Value>{}</Value></ChannelProperty>".format
    tiles = "".join(f'<Tile FieldX="{k}" FieldY="0" PosX="0.0{k + 1}" PosY="0.05"/>' for k in range(2))
    image = description(
        "xyzm",
        (6, 5, 4, 2),
        (1, 6, 30, 240),
        (0, 120),
        lengths={"z": -3e-6, "y": 0},
        properties=(dye("DAPI"), dye("Cy5")),
        extra=f'<Attachment Name="TileScanInfo" FlipX="1" FlipY="0" SwapXY="0">{tiles}</Attachment>',
    )
    path = lif(tmp_path / "a.lif", {"b": PIXELS[:480].tobytes()}, element("one", image, size=480))
    ds = imload(path)
    assert ds.img.channels == ["DAPI", "Cy5"]
    assert ds["z"].values.tolist() == pytest.approx([0, -1, -2, -3])
    assert ds.img.spacing == {"x": 1.0}  # a falling axis has values, a length of 0 says nothing
    assert ds["position_x"].values.tolist() == pytest.approx([10000.0, 20000.0])
    assert ds["position_x"].attrs == {"units": "µm"}
    assert 'FlipX="1"' in ds.attrs["fileheader"].replace("\\", "")
    same = description("xy", (6, 5), (1, 6), (0, 30)).replace("Red", "Green")
    path = lif(tmp_path / "b.lif", {"b": PIXELS[:60].tobytes()}, element("one", same, size=60))
    assert imload(path).img.channels is None  # names that repeat are not used


def test_names_of_scenes(tmp_path):
    image = description("xy", (6, 5), (1, 6), (0,))
    blocks = {k: PIXELS[30 * n : 30 * n + 30].tobytes() for n, k in enumerate("abc")}
    tree = element("one", image, block="a") + element("Folder", "", element("one", image, block="b") * 2)
    path = lif(
        tmp_path / "a.lif", blocks, tree + element("flim", "<SingleMoleculeDetection IsImage='true'/>", block="c")
    )
    ds = imload(path, scene="one")
    assert ds.attrs["scenes"] == ["one", "Folder/one (1)", "Folder/one (2)", "flim"]
    assert np.array_equal(ds["image"], PIXELS[:30].reshape(5, 6))
    with pytest.raises(FormatError, match=r"flim.*codec.*PTU"):
        imload(path, scene="flim")


def test_what_was_not_recorded(tmp_path):
    image = description("xyt", (6, 5, 4), (1, 6, 30), (0,))
    path = lif(
        tmp_path / "a.lif", {"b": PIXELS[:70].tobytes()}, element("one", image) + element("two", image, block="c")
    )
    with pytest.warns(UserWarning, match=r"a\.lif.*'one'.*only 2 of 4 along 't'"):
        ds = imload(path)
    assert np.array_equal(ds["image"], PIXELS[:60].reshape(2, 5, 6))
    with pytest.raises(FormatError, match=r"'two' has no pixels"):
        imload(path, scene="two")
    overlapping = description("xyzt", (60, 60, 60, 60), (1, 1, 1, 1), (0,))
    path = lif(tmp_path / "b.lif", {"b": PIXELS.tobytes()}, element("one", overlapping))
    with pytest.raises(FormatError, match="damaged"):
        imload(path)


def test_projects_of_several_files(tmp_path):
    """XLEF -> XLIF -> LOF or pictures, by relative names as Windows writes them."""
    image = description("xyz", (6, 5, 4), (1, 6, 60), (0, 30))
    lof(tmp_path / "pixels.lof", PIXELS[:240].tobytes(), image)
    assert_as_liffile(tmp_path / "pixels.lof")
    (tmp_path / "Meta").mkdir()
    frame = '<Frame File="..\\PIXELS.lof" Offset="0" Size="240" UUID=""/>'
    memory = f'<Memory Size="240" MemoryBlockID="b">{frame}</Memory>'
    one = tmp_path / "Meta" / "one.xlif"
    one.write_text(XML + container(f'<Element Name="one"><Data>{image}</Data>{memory}</Element>'), encoding="utf-8")
    assert_as_liffile(one)
    frames = ""
    for k in range(8):
        tifffile.imwrite(tmp_path / "Meta" / f"p {k}.tif", PIXELS[30 * k : 30 * k + 30].reshape(5, 6))
        frames += f'<Frame File="p%20{k}.tif" Offset="{30 * k}" Size="30" UUID=""/>'
    memory = f'<Memory Size="240" MemoryBlockID="b">{frames}</Memory>'
    two = tmp_path / "Meta" / "two.xlif"
    two.write_text(XML + container(f'<Element Name="two"><Data>{image}</Data>{memory}</Element>'), encoding="utf-8")
    assert_as_liffile(two)
    references = '<Reference File="Meta\\one.xlif"/><Reference File="Meta\\two.xlif"/>'
    project = tmp_path / "project.xlef"
    inside = f'<Element Name="project"><Data><Experiment/></Data><Children>{references}</Children></Element>'
    project.write_text(XML + container(inside), encoding="utf-8")
    ds = imload(project, scene="all")
    assert ds.attrs["scenes"] == ["one", "two"]
    assert np.array_equal(ds["image"][0], ds["image"][1])
    project.write_text(XML + container(inside.replace("one.xlif", "..\\project.xlef")), encoding="utf-8")
    with pytest.raises(FormatError, match="names itself"):
        imload(project)


def test_remote(data):
    content = (data / "lif" / "testdata_2channel_xz.lif").read_bytes()
    fsspec.filesystem("memory").pipe_file("/lif/a.lif", content)
    whole = imload(data / "lif" / "testdata_2channel_xz.lif")["image"]
    part = imload("memory://lif/a.lif")["image"][3:9, 1, 4:9, 7:20]
    assert np.array_equal(part, whole[3:9, 1, 4:9, 7:20])


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    path = lif(tmp_path / "a.lif", {}, "")
    monkeypatch.setitem(__import__("sys").modules, "liffile", None)
    with pytest.raises(MissingExtraError, match=r"intake_img\[lif\]"):
        imload(path)


@pytest.mark.parametrize(
    ("axes", "sizes", "strides", "offsets", "size", "match"),
    [
        ("xyz", (5, 4, 3), (1, 5, 10), (0,), 60, None),  # z within y
        ("xyz", (5, 4, 3), (1, 5, 40), (0, 0), 120, None),  # both channels in one place
        ("xz", (5, 3), (1, 20), (0,), 60, "leave out"),  # no y
        ("xyz", (5, 4, 2), (1, 5, 20), (0,), 60, "leave out"),  # z was 3
    ],
)
def test_strides_that_contradict_each_other_or_the_block(tmp_path, axes, sizes, strides, offsets, size, match):
    image = description(axes, sizes, strides, offsets)
    path = lif(tmp_path / "a.lif", {"b": PIXELS[:size].tobytes()}, element("one", image, size=size))
    if match is None:
        with pytest.raises(FormatError, match=r"elements .* bytes apart"):
            imload(path)
        return
    with pytest.warns(UserWarning, match=match):
        assert imload(path).image.size == np.prod(sizes)


def test_bytes_behind_the_last_block_are_warned_of(tmp_path):
    image = description("xy", (6, 5), (1, 6), (0,))
    path = lif(tmp_path / "a.lif", {"b": PIXELS[:30].tobytes()}, element("one", image, size=30))
    content = Path(path).read_bytes()
    (tmp_path / "b.lif").write_bytes(content[:-10] + b"12" + content[-10:])
    with pytest.warns(UserWarning, match="2 bytes after the pixels"):
        imload(tmp_path / "b.lif")
