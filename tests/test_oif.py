"""Olympus OIF and OIB against oiffile, on files made here (`olympus`)."""

from __future__ import annotations

import contextlib
import json
import warnings

import fsspec
import numpy as np
import pytest
from olympus import compound, main_file, oib, oif, planes, settings, shuffled, tiff

from intake_img import imload
from intake_img.errors import FormatError, UnknownFormatError
from intake_img.formats.oif.compound import Compound
from intake_img.storage.files import File

CHANNELS = {
    "ch1": {"CH Name": "CH1", "DyeName": "DAPI", "EmissionWavelength": 461, "ExcitationWavelength": 405},
    "ch2": {"CH Name": "CH2", "DyeName": "None", "EmissionWavelength": 0, "ExcitationWavelength": 488},
}
KINDS = pytest.mark.parametrize(("make", "ending"), [(oif, "oif"), (oib, "oib")])


def stack(path, make, *, order="XYCZT", letters="CZT", sizes=(2, 3, 2), axes=None, drop=(), **options):
    """Write an acquisition whose planes are called by `letters`."""
    values = np.random.default_rng(1).integers(0, 4096, (*sizes, 40, 60), "u2")
    axes = axes or {"Z": (9000.0, 8000.0, "nm"), "T": (0.0, 1500.0, "ms")}
    files = {k: v for k, v in planes(values, letters, **options).items() if k not in drop}
    return make(
        path, main_file(order, {}, axes, **CHANNELS), {**files, "s_Thumb.bmp": b"BM", "s_C001.pty": b"x"}
    ), values


@KINDS
def test_as_oiffile_reads(tmp_path, make, ending):
    oiffile = pytest.importorskip("oiffile")
    path, values = stack(tmp_path / f"a.{ending}", make)
    with oiffile.OifFile(path) as document:
        assert np.array_equal(document.asarray(), values)
    ds = imload(path, output_axis_order=None)
    assert ds["image"].dims == tuple("tzcyx")
    expected = values.transpose(2, 1, 0, 3, 4)
    assert np.array_equal(ds["image"], expected)
    for chunks in (None, {"y": 7, "z": 1}):
        part = imload(path, output_axis_order=None, chunks=chunks)["image"][1, 1:, 0, 5:20, 33:]
        assert np.array_equal(part, expected[1, 1:, 0, 5:20, 33:])


@KINDS
def test_facts(tmp_path, make, ending):
    ds = imload(stack(tmp_path / f"a.{ending}", make)[0])
    assert ds.img.channels == ["CH1", "CH2"]  # one has no dye
    assert ds["c"].attrs == {"excitation_wavelength": [405.0, 488.0]}
    assert ds["z"].values.tolist() == [9000.0, 8500.0, 8000.0]
    assert ds["t"].values.tolist() == [0.0, 1500.0]
    assert ds.img.units == {"t": "ms", "z": "nm", "y": "µm", "x": "µm"}
    assert {a: ds.img.spacing[a] for a in "tyx"} == {"t": 1500.0, "y": 0.25, "x": 0.25}
    header = json.loads(ds.attrs["fileheader"])
    assert header["File Info"] == {"DataName": "a.oif"}  # not who it was


def test_kinds_of_scans(tmp_path):
    bands = {"L": (420.0, 440.0, "nm")}
    path, values = stack(tmp_path / "l.oib", oib, order="XYLC", letters="CL", sizes=(2, 3), axes=bands)
    ds = imload(path, output_axis_order=None)
    assert ds["image"].dims == tuple("clyx")
    assert np.array_equal(ds["image"], values)
    assert ds["l"].values.tolist() == [420.0, 430.0, 440.0]
    path, _ = stack(tmp_path / "t.oif", oif, order="XTC", letters="C", sizes=(2,), axes={"T": (0.0, 78.0, "ms")})
    overview = np.arange(30, dtype="u2").reshape(5, 6)
    (tmp_path / "t.oif.files" / "s_C001-R001.tif").write_bytes(tiff(overview))
    line = imload(path, output_axis_order=None)
    assert line["image"].dims == tuple("ctx")
    assert line["t"].values[:2].tolist() == [0.0, 2.0]
    assert line.attrs["scenes"] == ["0", "reference"]
    assert np.array_equal(imload(path, scene="reference")["image"].squeeze(), overview)


@KINDS
def test_a_region_costs_the_planes_that_it_meets(tmp_path, make, ending, monkeypatch):
    from intake_img.formats.oif import acquisition_files

    path, _ = stack(tmp_path / f"a.{ending}", make, compression="zlib")
    ds = imload(path, output_axis_order=None)
    read = []
    for cls in (acquisition_files.StreamStore, acquisition_files.FolderStore):
        original = cls.read
        monkeypatch.setattr(
            cls, "read", lambda self, name, original=original: read.append(name) or original(self, name)
        )
    first = ds["image"][1, 2, 0, 5:9, 7:9].values
    assert read == ["s_C001Z003T002.tif"]
    assert np.array_equal(ds["image"][1, 2, 0].values[5:9, 7:9], first)


def test_missing_planes(tmp_path):
    path, values = stack(tmp_path / "a.oif", oif, drop=("s_C001Z002T001.tif",))
    with pytest.warns(UserWarning, match=r"a\.oif: 1 of its planes are missing"):
        ds = imload(path, output_axis_order=None)
    expected = values.transpose(2, 1, 0, 3, 4).copy()
    expected[0, 1, 0] = 0
    assert np.array_equal(ds["image"], expected)
    (tmp_path / "a.oif.files" / "s_C002Z001T001.tif").write_bytes(tiff(np.zeros((3, 3), "u2")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FormatError, match=r"s_C002Z001T001\.tif contains \(3, 3\)"):
            imload(path).compute()


@pytest.mark.parametrize(
    ("there", "positions", "spacing"),
    [((1, 2, 3), [10, 12, 14], 2), ((2, 3), [12, 14], 2), ((1, 2, 4), [10, 12, 16], None)],
)
def test_a_stopped_acquisition(tmp_path, there, positions, spacing):
    """Six slices were planned, from 10 to 20 nm: those that are there keep their positions."""
    main = main_file("XYZC", {"Z": 6, "C": 1}, {"Z": (10.0, 20.0, "nm")}, **CHANNELS)
    values = np.arange(6 * 4 * 5, dtype="u2").reshape(6, 1, 4, 5)
    files = {k: v for k, v in planes(values, "ZC").items() if int(k[3:6]) in there}
    path = oif(tmp_path / "a.oif", main, files)
    with pytest.warns(UserWarning, match=rf"a\.oif: its settings state 6 planes along z, but there are {len(there)}"):
        ds = imload(path, output_axis_order=None)
    assert ds["z"].values.tolist() == positions
    assert ds.img.spacing.get("z") == spacing
    assert np.array_equal(ds["image"], values[[n - 1 for n in there]].transpose(1, 0, 2, 3))


def test_planes_without_pixels(tmp_path):
    path, _ = stack(tmp_path / "a.oif", oif)
    for plane in (tmp_path / "a.oif.files").glob("s_C*.tif"):
        data = bytearray(plane.read_bytes())
        height = data.index(b"\x01\x01")  # ImageLength, 257, little-endian
        data[height + 8 : height + 12] = bytes(4)
        plane.write_bytes(data)
    with pytest.raises(FormatError, match=r"a\.oif.*s_C00\dZ00\dT00\d\.tif contains an array of shape \(0, "):
        imload(path)


def test_decimal_commas(tmp_path):
    main = main_file("XYC", {}, {}, **CHANNELS).decode("utf-16").replace("=0.25", "=0,207.0").encode("utf-16")
    path = oib(tmp_path / "a.oib", main, planes(np.zeros((1, 4, 5), "u2"), "C"))
    assert imload(path).img.spacing == {"y": 0.207, "x": 0.207}


def test_other_files(tmp_path):
    other = tmp_path / "a.oib"
    other.write_bytes(compound({"WordDocument": bytes(5000)}, {}))
    with pytest.raises(FormatError, match=r"a\.oib.*no OibInfo"):
        imload(other)
    word = tmp_path / "a.doc"
    word.write_bytes(other.read_bytes())
    with pytest.raises(UnknownFormatError):
        imload(word)
    alone = tmp_path / "b.oif"
    alone.write_bytes(main_file("XYC", {}, {}))
    with pytest.raises(FormatError, match=r"folder b\.oif\.files beside it"):
        imload(alone)
    with pytest.raises(FormatError, match="contains no plane"):
        imload(oib(tmp_path / "c.oib", main_file("XYC", {}, {}), {"a.txt": b"x"}))


def test_compound_files(tmp_path):
    """Streams of all sizes, in scattered sectors, as oiffile reads them; chains that go round in circles end."""
    oiffile = pytest.importorskip("oiffile")
    rng = np.random.default_rng(5)
    streams = {f"S{n}": rng.bytes(n) for n in (1, 63, 64, 65, 4095, 4096, 4097, 9000)}
    path = tmp_path / "a.oib"
    path.write_bytes(compound(streams, {f"I{n}": rng.bytes(n) for n in (0, 700, 6000)}))
    source = File.parse(path).open()
    ours = Compound(source)
    with oiffile.CompoundFile(path) as theirs:
        names = set(theirs.files())
        assert set(ours.streams) == names
        assert all(ours.read(name) == theirs.open_file(name).read() for name in names if ours.streams[name].size)
    source.close()
    data = bytearray(path.read_bytes())
    fat = len(data) - 512
    data[fat + 4 : fat + 8] = (0).to_bytes(4, "little")  # the second sector of a chain leads to the first
    path.write_bytes(data)
    source = File.parse(path).open()
    with pytest.raises(FormatError, match="leads nowhere"):
        [Compound(source).read(name) for name in ("S4096", "S4097", "S9000", "Storage00001/I6000")]
    source.close()


def test_remote(tmp_path):
    system = fsspec.filesystem("memory")
    for make, ending in ((oif, "oif"), (oib, "oib")):
        _, values = stack(tmp_path / f"r.{ending}", make)
        system.put(str(tmp_path), f"/olympus{ending}", recursive=True)
        part = imload(f"memory://olympus{ending}/r.{ending}", output_axis_order=None)["image"][1, 1:, 0, 5:20, 33:]
        assert np.array_equal(part, values.transpose(2, 1, 0, 3, 4)[1, 1:, 0, 5:20, 33:])


def test_settings_may_be_plain_text(tmp_path):
    text = settings({"Axis Parameter Common": {"AxisOrder": "XYC"}}).decode("utf-16").encode()
    path = oif(tmp_path / "a.oif", text, planes(np.ones((2, 4, 5), "u1"), "C"))
    ds = imload(path)
    assert ds.sizes == {"c": 2, "y": 4, "x": 5}
    assert ds["image"].dtype == np.uint8


@pytest.mark.parametrize("seed", range(4))
def test_sectors_in_any_order(seed, tmp_path):
    """Sectors are shuffled, also those with tables and short streams: oiffile and we read the same streams."""
    oiffile = pytest.importorskip("oiffile")
    values = np.random.default_rng(seed).integers(0, 4096, (2, 5, 40, 60)).astype("u2")
    sizes = {"X": 60, "Y": 40, "C": 2, "Z": 5}
    path = oib(tmp_path / "a.oib", main_file("XYCZ", sizes, {"Z": (0.0, 4.0, "um")}), planes(values, "CZ"))
    rng = np.random.default_rng(seed)
    streams = {f"S{n}": rng.bytes(n) for n in (1, 63, 64, 65, 700, 4095, 4096, 4097, 20000)}
    plain = tmp_path / "plain.oib"
    plain.write_bytes(shuffled(compound(streams, {f"T{n}": data for n, data in streams.items()}), seed))
    with oiffile.CompoundFile(plain) as theirs, contextlib.closing(File.parse(plain).open()) as source:
        ours = Compound(source)
        for name, data in streams.items():
            assert ours.read(name) == ours.read(f"Storage00001/T{name}") == data
            assert theirs.open_file(name).read() == data
    ordered = path.read_bytes()
    path.write_bytes(shuffled(ordered, seed))
    assert path.read_bytes() != ordered
    found = oiffile.imread(path).squeeze()  # channels first, or planes first since 2026.10
    np.testing.assert_array_equal(np.moveaxis(found, found.shape.index(len(values)), 0), values)
    np.testing.assert_array_equal(imload(path)["image"].values, values)
    np.testing.assert_array_equal(imload(path, chunks=None)["image"][1, 3, 5:9, 7:30].values, values[1, 3, 5:9, 7:30])
