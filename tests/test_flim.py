"""Photon counts: PTU, SDT and SimFCS, compared with ptufile, sdtfile and lfdfiles."""

import io
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import FormatError, MissingExtraError
from intake_img.formats.registry import formats

ptufile = pytest.importorskip("ptufile")
sdtfile = pytest.importorskip("sdtfile")
lfdfiles = pytest.importorskip("lfdfiles")


@pytest.mark.parametrize("chunks", ["auto", None, {"t": 1, "y": 7, "h": 9}])
def test_ptu(data, in_memory, chunks):
    path = data / "flim" / "flim_t3y16x20h32.ptu"
    expected = np.load(data / "flim" / "flim_t3y16x20h32_tyxch.npy")
    for uri in (path, in_memory(path)):
        ds = imload(uri, chunks=chunks)
        assert (ds.attrs["driver"], ds["image"].dtype) == ("ptu", np.uint16)
        image = ds["image"].transpose(*"tyxch")
        np.testing.assert_array_equal(image.values, expected)
        part = {"t": slice(1, 3), "y": slice(3, 9), "x": 4, "h": slice(2, 30, 5)}
        np.testing.assert_array_equal(image.isel(part).values, expected[1:3, 3:9, 4, :, 2:30:5])
    assert ds.img.spacing["h"] == 1.0
    assert ds.img.units == {"h": "ns", "t": "s", "y": "µm", "x": "µm"}
    assert ds["t"].values == pytest.approx([0, 0.00319488, 0.00638976])
    assert ds["x"].attrs["spacing"] == 1.0


def test_ptu_summed(data):
    path = data / "flim" / "flim_t3y16x20h32.ptu"
    expected = np.load(data / "flim" / "flim_t3y16x20h32_tyxch.npy").sum(-1)
    ds = imload(path, summed=True)
    assert set(ds["image"].dims) == set("tyxc")
    np.testing.assert_array_equal(ds["image"].transpose(*"tyxc").values, expected)
    np.testing.assert_array_equal(ds["image"].isel(t=1, y=slice(2, 5), c=0).values, expected[1, 2:5, :, 0])


def test_ptu_that_is_no_image(data, tmp_path):
    whole = (data / "flim" / "flim_t3y16x20h32.ptu").read_bytes()
    at = whole.index(b"Measurement_SubMode") + 40  # identifier, index, type; then the value
    assert whole[at : at + 8] == struct.pack("<q", 3)
    (tmp_path / "point.ptu").write_bytes(whole[:at] + struct.pack("<q", 0) + whole[at + 8 :])
    with pytest.raises(FormatError, match="photons but no image"):
        imload(tmp_path / "point.ptu")


def test_ptu_with_a_damaged_tag(tmp_path):
    """Of a resolution of many numbers ptufile makes coordinates of two dimensions: the image has none."""
    path, _ = formats()["ptu"].sample(str(tmp_path))
    content = bytearray(Path(path).read_bytes())
    content[512:516] = bytes(4)
    (tmp_path / "b.ptu").write_bytes(content)
    with pytest.warns(UserWarning, match=r"b\.ptu: its resolution along 'h' is damaged"):
        ds = imload(tmp_path / "b.ptu")
    assert "h" not in ds.coords
    np.testing.assert_array_equal(ds.image, imload(path).image)


def packed(path, folder):
    """Write the sample of SDT again, as a compressed block, and with two routed channels."""
    content = path.read_bytes()
    header = np.frombuffer(content[:42], sdtfile.sdtfile.FILE_HEADER).copy()
    offset = int(header["data_block_offs"][0])
    block = np.frombuffer(content, sdtfile.sdtfile.BLOCK_HEADER, 1, offset).copy()
    measured = np.frombuffer(content, sdtfile.sdtfile.MEASURE_INFO, 1, int(header["meas_desc_block_offs"][0])).copy()
    values = np.arange(2 * 5 * 6 * 8, dtype="<u4").reshape(2, 5, 6, 8)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("data_block", values.tobytes())
    measured["scan_rx"], measured["scan_ry"] = 2, 1
    start = offset + block.nbytes
    block["block_type"] = 0x1000 | 0x100 | 0x20
    block["block_length"], block["next_block_offs"] = values.nbytes, start + len(archive.getvalue())
    target = folder / "packed.sdt"
    head = content[: int(header["meas_desc_block_offs"][0])] + measured.tobytes()
    target.write_bytes(head + block.tobytes() + archive.getvalue())
    return target, values


def test_sdt(tmp_path, in_memory):
    from pathlib import Path

    made = Path(formats()["sdt"].sample(str(tmp_path))[0])
    for path in (made, packed(made, tmp_path)[0]):
        judge = sdtfile.SdtFile(str(path))
        expected, times = judge.data[0], judge.times[0]
        judge.close()
        for uri in (path, in_memory(path)):
            ds = imload(uri, chunks={"y": 2})
            image = ds["image"].transpose(*("cyxh" if expected.ndim == 4 else "yxh"))
            np.testing.assert_array_equal(image.values, expected)
            np.testing.assert_array_equal(image.isel(y=slice(1, 4), h=3).values, expected[..., 1:4, :, 3])
            np.testing.assert_allclose(ds["h"].values, times * 1e9, rtol=1e-6)
    content = path.read_bytes()
    for n in (20, 100, len(content) - 40):
        path.write_bytes(content[:n])
        with pytest.raises(FormatError, match=r"packed\.sdt"):
            imload(path)


def test_simfcs(tmp_path, in_memory):
    rng = np.random.default_rng(0)
    stack = rng.random((5, 32, 32)).astype("f4")
    integers = rng.integers(0, 999, (3, 32, 32)).astype("i2")
    lfdfiles.simfcsb64_write(tmp_path / "a.b64", integers)
    lfdfiles.simfcsi64_write(tmp_path / "a.i64", stack[0])
    lfdfiles.simfcsz64_write(tmp_path / "a.z64", stack)
    (tmp_path / "a.r64").write_bytes(zlib.compress(struct.pack("<i", 32) + stack.tobytes()))
    (tmp_path / "a.ref").write_bytes(stack.tobytes())
    (tmp_path / "a.int").write_bytes(rng.random((256, 256)).astype("<f4").tobytes())
    (tmp_path / "old.int").write_bytes(rng.integers(0, 99, (256, 256)).astype("<u2").tobytes())
    (tmp_path / "a.b&h").write_bytes(rng.random((3, 256, 256)).astype("<f4").tobytes())
    kinds = {
        "a.b64": ("SimfcsB64", "iyx"),
        "a.i64": ("SimfcsI64", "yx"),
        "a.z64": ("SimfcsZ64", "hyx"),
        "a.r64": ("SimfcsR64", "cyx"),
        "a.ref": ("SimfcsRef", "cyx"),
        "a.int": ("SimfcsInt", "yx"),
        "old.int": ("SimfcsInt", "yx"),
        "a.b&h": ("SimfcsBh", "hyx"),
    }
    for name, (judge, axes) in kinds.items():
        with getattr(lfdfiles, judge)(tmp_path / name) as document:
            expected = document.asarray()
        for uri in (tmp_path / name, in_memory(tmp_path / name)):
            ds = imload(uri)
            assert (ds.attrs["driver"], "".join(ds["image"].dims)) == ("lfd", axes)
            assert ds["image"].dtype == expected.dtype
            np.testing.assert_array_equal(ds["image"].values, expected)
            np.testing.assert_array_equal(ds["image"].isel(y=slice(3, 9), x=5).values, expected[..., 3:9, 5])
    assert imload(tmp_path / "a.ref")["c"].values.tolist() == ["dc", "ph1", "md1", "ph2", "md2"]
    for name in ("a.ref", "a.r64", "a.z64", "a.int", "a.b64", "a.b&h"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-7])
        with pytest.raises(FormatError, match=r"SimFCS|truncated|ends"):
            imload(tmp_path / name)["image"].load()


def test_simfcs_within_a_zip(data):
    """A file of SimFCS in an archive, by fsspec's chain of URLs."""
    archive = data / "flim" / "simfcs_1000.int.zip"
    with zipfile.ZipFile(archive) as members:
        expected = np.frombuffer(members.read("simfcs_1000.int"), "<f4").reshape(256, 256)
    ds = imload(f"zip://simfcs_1000.int::{archive}")
    np.testing.assert_array_equal(ds["image"].values, expected)


@pytest.mark.parametrize(("library", "name"), [("ptufile", "ptu"), ("sdtfile", "sdt")])
def test_extras(library, name, tmp_path, monkeypatch):
    path, _ = formats()[name].sample(str(tmp_path))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"intake_img\[flim\]"):
        imload(path)
