"""DeltaVision against mrc (T. Lambert) and files made here after the description of the format."""

from __future__ import annotations

import json
import struct

import fsspec
import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import FormatError


def dv(path, values, order="<", sequence=0, waves=(457, 528), kind=6, extended=b"", words=(0, 0), **fields):
    """Write ``values`` (three axes of sections, y, x) with a header as the description of the format says."""
    nt, nc = fields.get("nt", 1), fields.get("nc", 1)
    header = bytearray(1024)
    for at, code, *numbers in (
        (0, "4i", values.shape[-1], values.shape[-2], int(np.prod(values.shape[:-2])), kind),
        (40, "3f", *fields.get("spacing", (0.1, 0.1, 0.3))),
        (92, "i", len(extended)),
        (96, "h", -16224),
        (128, "2h", *words),
        (180, "2h", nt, sequence),
        (196, "h", nc),
        (198, f"{len(waves)}h", *waves),
        (208, "3f", *fields.get("origin", (0, 0, 0))),
    ):
        struct.pack_into(order + code, header, at, *numbers)
    header[224:304] = b"a title".ljust(80)
    path.write_bytes(header + extended + values.astype(values.dtype.newbyteorder(order)).tobytes())
    return path


def test_real_file(data):
    mrc = pytest.importorskip("mrc")
    path = data / "dv" / "toxo.dv"
    with mrc.DVFile(path) as document:
        expected, sizes = document.asarray(squeeze=False), document.sizes
    ds = imload(path, output_axis_order=None)
    assert "".join(ds["image"].dims) == "".join(sizes).lower() == "ctzyx"
    assert np.array_equal(ds["image"], expected)
    assert ds["image"][0, 0, 0, 0, :5].values.tolist() == [124, 121, 114, 115, 119]
    assert ds.img.spacing == {"z": 0.3, "y": 0.13262, "x": 0.13262}
    assert ds.img.units == dict.fromkeys("zyx", "µm")
    assert ds.img.channels == ["525", "632"]
    assert ds["c"].attrs == {"emission_wavelength": [525, 632]}
    header = json.loads(ds.attrs["fileheader"])
    assert header["y_axis"] == "up"
    assert header["titles"][0].startswith("IMGCORR")
    fsspec.filesystem("memory").pipe_file("/dv/toxo.dv", path.read_bytes())
    part = imload("memory://dv/toxo.dv", output_axis_order=None)["image"][1, 0, 3:9, 10:40, 7:20]
    assert np.array_equal(part, expected[1, 0, 3:9, 10:40, 7:20])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("sequence", "axes"), [(0, "ctz"), (1, "tzc"), (2, "tcz"), (77, "ctz")])
def test_orders_of_sections(tmp_path, order, sequence, axes):
    sizes = {"c": 2, "t": 3, "z": 4}
    values = np.arange(24 * 30, dtype="u2").reshape(*[sizes[a] for a in axes], 5, 6)
    path = dv(tmp_path / "a.dv", values, order, sequence, nt=3, nc=2)
    ds = imload(path, output_axis_order=None)
    assert ds["image"].dims == (*axes, "y", "x")
    assert np.array_equal(ds["image"], values)
    assert imload(path)["image"].dims == tuple("tczyx")


@pytest.mark.parametrize(
    ("kind", "dtype"), [(0, "u1"), (1, "i2"), (2, "f4"), (4, "c8"), (5, "i2"), (6, "u2"), (7, "i4")]
)
def test_pixel_types(tmp_path, kind, dtype):
    values = np.arange(60).reshape(2, 5, 6).astype(dtype) - 3
    assert np.array_equal(imload(dv(tmp_path / "a.dv", values, ">", kind=kind))["image"].squeeze(), values)


def test_times_and_unknown_facts(tmp_path):
    values = np.arange(12 * 30, dtype="u2").reshape(2, 3, 2, 5, 6)  # t c z
    records = np.zeros((12, 12), "<f4")
    records[:, 9] = np.arange(12) // 6 * 7.5 + 1
    facts = {"nt": 2, "nc": 3, "waves": (1, 2, 1), "spacing": (0, float("nan"), 0.5), "origin": (20.0, 3.0, 4.0)}
    path = dv(tmp_path / "a.dv", values, sequence=2, extended=records.tobytes(), words=(8, 4), **facts)
    ds = imload(path)
    assert ds["t"].values.tolist() == [1.0, 8.5]
    assert ds["t"].attrs == {"units": "s"}
    assert ds.img.channels is None
    assert ds.img.spacing == {"z": 0.5, "t": 7.5}
    assert ds["z"].values.tolist() == [20.0, 20.5]


def test_damage(tmp_path):
    values = np.arange(4 * 30, dtype="u2").reshape(4, 5, 6)
    path = dv(tmp_path / "a.dv", values, sequence=1, nt=4)
    path.write_bytes(path.read_bytes()[:-61])
    with pytest.warns(UserWarning, match=r"a\.dv contains only 2 of 4 along 't'"):
        assert np.array_equal(imload(path)["image"].squeeze(), values[:2])
    path.write_bytes(path.read_bytes()[:1030])
    with pytest.raises(FormatError, match="truncated"):
        imload(path)
    with pytest.raises(FormatError, match="type 3"):
        imload(dv(tmp_path / "b.dv", values, kind=3))
    with pytest.raises(FormatError, match="4 sections"):
        imload(dv(tmp_path / "c.dv", values, nt=3))
