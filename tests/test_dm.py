"""Gatan DM3 and DM4: real files as others read them, and files made here after the description of the format."""

from __future__ import annotations

import hashlib
import json
import struct

import fsspec
import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import FormatError
from intake_img.formats.dm.driver import DmSource

# axes, shape, dtype, first digits of the SHA-256 of the pixels (rosettasciio and ncempy), spacing, units
FILES = {
    "08_carbon.dm3": ("xl", (1, 2048), "f4", "c4d2c0bba48e", {"l": 0.1}, {"l": "eV"}),
    "2D_test-1.dm4": ("yx", (2, 2), "i2", "ea99f710d9d0", {}, {}),
    "2D_test-13.dm3": ("yx", (2, 2), "c16", "6af1a0ee4afd", {}, {}),
    "2D_test-2.dm3": ("yx", (2, 2), "f4", "ad73b9acd6e4", {}, {}),
    "2D_test-27.dm4": ("yx", (2, 2), "c8", "4484cb102618", {}, {}),
    "2D_test-5.dm3": ("yx", (2, 2), "c8", "4484cb102618", {}, {}),
    "2D_test-7.dm3": ("yx", (2, 2), "i4", "cf97adeedb59", {}, {}),
    "2D_test-9.dm3": ("yx", (2, 2), "i1", "9f64a747e1b9", {}, {}),
    "2D_test_diffraction_pattern.dm3": (
        "yx",
        (87, 87),
        "i4",
        "eb4c0128ff4f",
        dict.fromkeys("yx", 0.17443286),
        dict.fromkeys("yx", "1/nm"),
    ),
    "3D_EELS_SI.dm4": (
        "lyx",
        (2048, 2, 2),
        "f4",
        "470995627ca5",
        {"l": 1.0, "y": 0.0019920736, "x": 0.0019920736},
        {"l": "eV", "y": "µm", "x": "µm"},
    ),
    "3D_test-2.dm4": ("zyx", (2, 2, 2), "f4", "af7de0621354", {}, {}),
    "dmTest_3D_int16_64,65,66.dm4": (
        "zyx",
        (66, 65, 64),
        "i2",
        "74d18841e7c6",
        {"z": 4.0, "y": 3.0, "x": 2.0},
        {"z": "µm", "y": "nm", "x": "pm"},
    ),
    "ref_F_2_1.dm3": (
        "zyx",
        (5, 3, 4),
        "f4",
        "6406802a6da3",
        {"z": 2.4, "y": 2.0, "x": 2.2},
        {"z": "µnn", "y": "µ", "x": "µn"},
    ),
    "ref_T_0_1.dm3": ("zyx", (2, 1, 3), "f4", "3439ba4cce23", {"z": 2.2, "x": 2.0}, {"z": "µn", "x": "µ"}),
    "test_stackbuilder_imagestack.dm3": (
        "zyx",
        (3, 2, 16),
        "u4",
        "fc3ef4e53a4b",
        dict.fromkeys("yx", 0.059982903),
        dict.fromkeys("yx", "µm"),
    ),
}


@pytest.mark.parametrize("name", list(FILES))
def test_real_files(data, name):
    axes, shape, dtype, digest, spacing, units = FILES[name]
    ds = imload(data / "dm" / name, output_axis_order=None)
    values = ds["image"].values
    assert ("".join(ds["image"].dims), values.shape, values.dtype) == (axes, shape, np.dtype(dtype))
    assert hashlib.sha256(values.tobytes()).hexdigest().startswith(digest)
    assert (ds.img.spacing, ds.img.units) == (spacing, units)
    assert len(ds.attrs["scenes"]) == 1  # thumbnails do not count as scenes
    part = imload(data / "dm" / name, chunks=None, output_axis_order=None)["image"][..., 1:, :-1]
    assert np.array_equal(part, values[..., 1:, :-1])


def test_colours(data):
    ds = imload(data / "dm" / "2D_test-23.dm3")
    assert ds["image"].dims == tuple("cyx")
    assert ds.img.channels == ["R", "G", "B", "A"]
    grey = ds["image"].values[:3]
    assert (grey == grey[0]).all()


def test_origin_and_header(data):
    ds = imload(data / "dm" / "08_carbon.dm3")
    assert float(ds["l"][0]) > 0
    assert "Meta Data" in json.loads(ds.attrs["fileheader"])["ImageTags"]


CODES = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "u1": 10, "i1": 9, "i8": 11, "u8": 12}
TYPES = {
    "i2": 1,
    "f4": 2,
    "c8": 3,
    "u1": 6,
    "i4": 7,
    "i1": 9,
    "u2": 10,
    "u4": 11,
    "f8": 12,
    "c16": 13,
    "i8": 39,
    "u8": 40,
}


class Writer:
    """Writes a tree of tags: dicts and lists are groups, arrays and text are arrays, numbers are numbers."""

    def __init__(self, version, order):
        self.wide, self.order = version == 4, order

    def number(self, n):
        return struct.pack(">q" if self.wide else ">i", n)

    def file(self, tree):
        body = self.group(tree)
        return (
            self.number(0)[-4:-1]
            + bytes([4 if self.wide else 3])
            + self.number(len(body))
            + struct.pack(">i", self.order == "<")
            + body
            + bytes(8)
        )

    def group(self, tree):
        items = list(tree.items()) if isinstance(tree, dict) else [("", v) for v in tree]
        return b"\1\0" + self.number(len(items)) + b"".join(self.tag(*item) for item in items)

    def tag(self, name, value):
        group = isinstance(value, (dict, list))
        body = self.group(value) if group else b"%%%%" + self.value(value)
        size = self.number(len(body)) if self.wide else b""
        return bytes([20 if group else 21]) + struct.pack(">H", len(name)) + name.encode() + size + body

    def value(self, value):
        if isinstance(value, str):
            value = np.frombuffer(value.encode("utf-16-le"), "<u2")
        if isinstance(value, np.ndarray):
            array = value.astype(value.dtype.newbyteorder(self.order))
            code = value.dtype.str[1:]
            kind = (
                [15, 0, 2, 0, CODES[part], 0, CODES[part]]
                if (part := {"c8": "f4", "c16": "f8"}.get(code))
                else [CODES[code]]
            )
            info = [20, *kind, value.size]
            return b"".join(map(self.number, [len(info), *info])) + array.tobytes()
        code = 5 if isinstance(value, int) else 7
        return self.number(1) + self.number(code) + struct.pack(self.order + ("I" if code == 5 else "d"), value)


def image(values, kind, calibrations=(), name="", tags=None):
    dimensions = [{"Origin": o, "Scale": s, "Units": u} for s, o, u in calibrations]
    data = {
        "Calibrations": {"Dimension": dimensions},
        "Data": values.ravel(),
        "DataType": kind,
        "Dimensions": list(values.shape[::-1]),
    }
    return {"ImageData": data, "ImageTags": tags or {"a": 1}, "Name": name}


def dm(path, images, version=3, order="<", thumbnails=()):
    tree = {"ImageList": images, "Thumbnails": [{"ImageIndex": k} for k in thumbnails]}
    path.write_bytes(Writer(version, order).file(tree))
    return path


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_of_pixels(tmp_path, version, order):
    for code, kind in TYPES.items():
        values = (np.arange(60).reshape(3, 4, 5) * (1 + 1j if code[0] == "c" else 1)).astype(code)
        ds = imload(dm(tmp_path / f"{code}.dm{version}", [image(values, kind)], version, order))
        assert ds["image"].dtype == values.dtype
        assert np.array_equal(ds["image"], values)
    flags = imload(dm(tmp_path / f"b.dm{version}", [image(np.asarray([[0, 1, 2]], "u1"), 14)], version, order))
    assert flags["image"].values.tolist() == [[False, True, True]]


def test_axes_and_calibrations(tmp_path):
    values = np.arange(2 * 3 * 4 * 5, dtype="i2").reshape(2, 3, 4, 5)
    four = image(values, 1, [(0.5, 1.0, "nm"), (-0.5, 0.0, "nm"), (2.0, 0.0, "s"), (1.0, 0.0, "")])
    ds = imload(dm(tmp_path / "a.dm3", [four]), output_axis_order=None)
    assert ds["image"].dims == ("z", "t", "y", "x")
    assert ds["x"].values.tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5]
    assert ds["y"].values.tolist() == [0.0, -0.5, -1.0, -1.5]
    assert ds.img.units == {"t": "s", "y": "nm", "x": "nm"}
    assert "z" not in ds.coords
    tags = {"Meta Data": {"Format": "Spectrum image"}}
    spectra = imload(dm(tmp_path / "b.dm3", [image(values[0], 1, tags=tags)]), output_axis_order=None)
    assert spectra["image"].dims == ("l", "y", "x")
    plain = imload(dm(tmp_path / "c.dm3", [image(values, 1)]), output_axis_order=None)
    assert plain["image"].dims == ("i", "z", "y", "x")


def test_scenes_without_thumbnails(tmp_path):
    images = [image(np.full((2, 3), k, "i2"), 1, name=n) for k, n in enumerate(("thumb", "a", "b", "a"))]
    path = dm(tmp_path / "a.dm4", images, 4, thumbnails=[0])
    ds = imload(path, scene="all")
    assert ds.attrs["scenes"] == ["a (0)", "b", "a (2)"]
    assert ds["image"][:, 0, 0].values.tolist() == [1, 2, 3]
    assert imload(dm(tmp_path / "b.dm3", images[:1], thumbnails=[0])).attrs["scenes"] == ["thumb"]


def test_damage(tmp_path):
    values = np.arange(6, dtype="f4").reshape(2, 3)
    half = image(values, 27)
    with pytest.raises(FormatError, match=r"half\.dm3.*24 bytes.*packed"):
        imload(dm(tmp_path / "half.dm3", [half]))
    with pytest.raises(FormatError, match="contains no image"):
        imload(dm(tmp_path / "none.dm3", []))
    path = dm(tmp_path / "deep.dm3", [])
    nested = {"a": 1}
    for _ in range(80):
        nested = {"x": nested}
    path.write_bytes(Writer(3, "<").file(nested))
    with pytest.raises(FormatError, match="nested"):
        imload(path)


def test_remote(data):
    content = (data / "dm" / "3D_EELS_SI.dm4").read_bytes()
    fsspec.filesystem("memory").pipe_file("/dm/a.dm4", content)
    whole = imload(data / "dm" / "3D_EELS_SI.dm4")["image"]
    assert np.array_equal(imload("memory://dm/a.dm4")["image"][5:9, 1, :], whole[5:9, 1, :])


@pytest.mark.parametrize("block", [1, 7, 100])
def test_tags_are_the_same_however_they_are_read(data, monkeypatch, block):
    path = data / "dm" / "3D_test-2.dm4"
    expected = imload(path)
    monkeypatch.setattr("intake_img.formats.dm.tags._BLOCK", block)
    source = DmSource(path)
    assert source.dataset().attrs["fileheader"] == expected.attrs["fileheader"]
    np.testing.assert_array_equal(source.dataset()["image"].values, expected["image"].values)
