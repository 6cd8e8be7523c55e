"""MRtrix images: layouts, types, positions, and what is refused."""

from __future__ import annotations

import gzip
import uuid
import warnings
from itertools import permutations, product
from pathlib import Path

import fsspec
import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import FormatError

RNG = np.random.default_rng(3)
TURN = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
"""Directions of the axes, as columns."""


def mif(path: Path, values: np.ndarray, layout: str, datatype: str, *lines: str, offset: int = 400) -> Path:
    """Write an array indexed x, y, z, ...: strides by their rank, backwards where the sign is -."""
    words = layout.split(",")
    turned = values[tuple(slice(None, None, -1 if word[0] == "-" else 1) for word in words)]
    order = np.argsort([abs(int(word)) for word in words])[::-1]
    stored = turned.transpose(order)
    data = np.packbits(stored) if datatype == "Bit" else np.ascontiguousarray(stored)
    head = ["mrtrix image", f"dim: {','.join(map(str, values.shape))}", f"layout: {layout}", f"datatype: {datatype}"]
    text = "\n".join([*head, *lines, f"file: . {offset}", "END", ""])
    path.write_bytes(text.encode().ljust(offset) + data.tobytes())
    return path


def test_real_file(data: Path) -> None:
    ds = imload(data / "mif" / "RAS.mif")
    stored = np.fromfile(data / "mif" / "RAS.mif", "u1", offset=396).reshape(67, 79, 64)
    assert ds.image.dims == ("z", "y", "x")
    np.testing.assert_allclose(ds.image.values, stored * 0.362956)
    np.testing.assert_array_equal(imload(data / "mif" / "RAS.mif", scaled=False).image.values, stored)
    assert ds.img.spacing == {"z": 2.36649, "y": 2.38975, "x": 2.38523}
    assert set(ds.img.units.values()) == {"mm"}
    wanted = np.diag([2.38523, 2.38975, 2.36649, 1])
    wanted[:3, 3] = -75.7625350952148, -110.762535095215, -71.7625350952148
    np.testing.assert_allclose(ds.img.affine("RAS+"), wanted, rtol=1e-12)


@pytest.mark.parametrize("signs", list(product("+-", repeat=3)))
def test_layouts(signs: tuple[str, ...], tmp_path: Path) -> None:
    values = RNG.integers(0, 60000, (4, 5, 6)).astype("<u2")
    for ranks in permutations(range(3)):
        layout = ",".join(sign + str(rank) for sign, rank in zip(signs, ranks, strict=True))
        image = imload(mif(tmp_path / "a.mif", values, layout, "UInt16LE"), chunks=None)["image"]
        np.testing.assert_array_equal(image.values, values.T)
        np.testing.assert_array_equal(image[1:5, 2:4, ::2].values, values.T[1:5, 2:4, ::2])


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("Int8", "i1"),
        ("UInt16BE", ">u2"),
        ("Int32LE", "<i4"),
        ("UInt64LE", "<u8"),
        ("Float32BE", ">f4"),
        ("Float64LE", "<f8"),
        ("CFloat32LE", "<c8"),
        ("CFloat64BE", ">c16"),
    ],
)
def test_types(datatype: str, dtype: str, tmp_path: Path) -> None:
    values = RNG.integers(0, 100, (3, 2, 4, 2)).astype(dtype)
    image = imload(mif(tmp_path / "a.mif", values, "+0,+1,+2,+3", datatype))["image"]
    assert (image.dims, image.dtype) == (("i", "z", "y", "x"), np.dtype(dtype).newbyteorder("="))
    np.testing.assert_array_equal(image.values, values.T)


@pytest.mark.parametrize("layout", ["+0,+1,+2", "-2,+0,-1"])
def test_masks(layout: str, tmp_path: Path) -> None:
    values = RNG.random((5, 3, 7)) < 0.5
    image = imload(mif(tmp_path / "a.mif", values, layout, "Bit"), chunks=None)["image"]
    assert image.dtype == bool
    np.testing.assert_array_equal(image.values, values.T)
    np.testing.assert_array_equal(image[3:6, 1:, 2:4].values, values.T[3:6, 1:, 2:4])


def test_position_of_a_turned_image(tmp_path: Path) -> None:
    """The columns of the transform have length 1; the spacing is beside it. A fourth axis has none."""
    rows = [f"transform: {','.join(map(str, [*row, at]))}" for row, at in zip(TURN, (10.0, -20.0, 30.0), strict=True)]
    path = mif(tmp_path / "a.mif", np.zeros((2, 3, 4, 2), "u1"), "-0,-1,+2,+3", "UInt8", "vox: 2,3,4,nan", *rows)
    ds = imload(path)
    wanted = np.eye(4)
    wanted[:3, :3], wanted[:3, 3] = TURN * [2, 3, 4], (10, -20, 30)
    np.testing.assert_allclose(ds.img.affine("RAS+"), wanted, atol=1e-12)
    assert ds.img.spacing == {"z": 4.0, "y": 3.0, "x": 2.0}


def test_spacing_without_a_position(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = imload(mif(tmp_path / "a.mif", np.zeros((2, 3, 4), "u1"), "+0,+1,+2", "UInt8", "vox: 2,0,4"))
    assert ds.img.spacing == {"z": 4.0, "x": 2.0}
    assert ds.img.units == {"z": "mm", "x": "mm"}


def test_scaling(tmp_path: Path) -> None:
    values = RNG.integers(0, 200, (2, 3, 4)).astype("u1")
    path = mif(tmp_path / "a.mif", values, "+0,+1,+2", "UInt8", "scaling: -3,0.5")
    np.testing.assert_array_equal(imload(path).image.values, values.T * 0.5 - 3)
    assert imload(path, scaled=False).image.dtype == "u1"


def test_packed_apart_and_remote(tmp_path: Path) -> None:
    values = RNG.integers(0, 60000, (4, 5, 6)).astype("<u2")
    path = mif(tmp_path / "a.mif", values, "+2,+1,-0", "UInt16LE")
    (tmp_path / "b.mif.gz").write_bytes(gzip.compress(path.read_bytes()))
    header = path.read_bytes()[:400].replace(b"file: . 400", b"file: c.dat 0")
    (tmp_path / "c.mih").write_bytes(header)
    (tmp_path / "c.dat").write_bytes(path.read_bytes()[400:])
    (tmp_path / "d.mih").write_bytes(header.replace(b"file: c.dat 0", b"file: d.dat.gz 0"))
    (tmp_path / "d.dat.gz").write_bytes(gzip.compress((tmp_path / "c.dat").read_bytes()))
    place = f"/{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(str(tmp_path), place, recursive=True)
    for name in ("b.mif.gz", "c.mih", "d.mih"):
        np.testing.assert_array_equal(imload(tmp_path / name)["image"].values, values.T)
        np.testing.assert_array_equal(imload(f"memory:/{place}/{name}")["image"].values, values.T)


def test_people_stay_out_of_catalogs(tmp_path: Path) -> None:
    from intake_img.formats.registry import formats

    line = "command_history: mrconvert /home/jane/scan.nii a.mif"
    header = imload(mif(tmp_path / "a.mif", np.zeros((2, 3, 4), "u1"), "+0,+1,+2", "UInt8", line)).attrs["fileheader"]
    assert "jane" in str(header)
    assert "jane" not in str(formats()["mif"].public_header(header))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"dim: 2,3,4", b"dim: 99,3,4", "truncated"),
        (b"dim: 2,3,4", b"dim: 2,3,x", "expected numbers"),
        (b"layout: +0,+1,+2", b"layout: +0,+1,+1", "layout"),
        (b"layout: +0,+1,+2", b"layout: +0,+1", "layout"),
        (b"datatype: UInt8", b"datatype: Float8", "datatype"),
        (b"datatype: UInt8\n", b"", "lacks datatype"),
        (b"file: . 400", b"file: a 0\nfile: b 0", "several files"),
        (b"file: . 400", b"file: . 60", "within the header"),
        (b"file: . 400", b"file: gone.dat 0", "missing"),
        (b"END\n", b"EN", "no END"),
    ],
)
def test_damage(old: bytes, new: bytes, match: str, tmp_path: Path) -> None:
    path = mif(tmp_path / "a.mif", np.zeros((2, 3, 4), "u1"), "+0,+1,+2", "UInt8")
    content = path.read_bytes()
    assert old in content
    head = content[:400].replace(old, new)[:400].ljust(400)
    path.write_bytes(head + content[400:])
    with pytest.raises(FormatError, match=match):
        imload(path).compute()
