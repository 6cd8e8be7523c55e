"""Nikon ND2 against the library nd2 and limnd2, which wrote the files under ``files/nd2`` (pixels count upwards)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest

from intake_img import imload, imsave
from intake_img.errors import FormatError, MissingExtraError
from intake_img.formats.nd2.file_chunks import Frame
from intake_img.formats.nd2.frame_layout import frame_of
from intake_img.testing import assert_same

nd2 = pytest.importorskip("nd2")
FILES = Path(__file__).parent / "files" / "nd2"


@pytest.fixture
def made(tmp_path):
    """Inflate one of the small files, changed by a function if one is given."""

    def make(name, change=lambda data: data):
        path = tmp_path / f"{name}.nd2"
        path.write_bytes(change(gzip.decompress((FILES / f"{name}.nd2.gz").read_bytes())))
        return path

    return make


def as_nd2_reads(path, position=None):
    with nd2.ND2File(path) as f:
        return f.asarray(position), f.sizes


def values(ds):
    """The pixels without the axes of length 1."""
    return ds["image"].squeeze().values


@pytest.mark.parametrize("name", ["cluster", "lim_t3z2c2_u16"])
def test_real_files(data, name):
    path = data / "nd2" / f"{name}.nd2"
    expected, sizes = as_nd2_reads(path)
    ds = imload(path, output_axis_order=None)
    assert "".join(ds["image"].dims) == "".join(sizes).lower() == "tzcyx"
    assert np.array_equal(ds["image"], expected)
    with nd2.ND2File(path) as f:
        size, names = f.voxel_size(), [c.channel.name for c in f.metadata.channels]
        waves = [c.channel.emissionLambdaNm for c in f.metadata.channels]
    assert ds.img.channels == names
    assert ds["c"].attrs["emission_wavelength"] == waves
    assert {a: ds.img.spacing[a] for a in "zyx"} == {"z": size.z, "y": size.y, "x": size.x}
    assert ds.img.units == {"t": "ms", "z": "µm", "y": "µm", "x": "µm"}
    rng = np.random.default_rng(0)
    for chunks in ("auto", None, {"y": 17, "x": 15}):
        lazy = imload(path, output_axis_order=None, chunks=chunks)["image"]
        for _ in range(6):
            key = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False))) for n in expected.shape)
            assert np.array_equal(lazy[key], expected[key])


def test_times_are_those_of_the_frames(data):
    ds = imload(data / "nd2" / "cluster.nd2")
    with nd2.ND2File(data / "nd2" / "cluster.nd2") as f:
        times = [f.frame_metadata(10 * t).channels[0].time.relativeTimeMs for t in range(3)]
    assert ds["t"].values.tolist() == times
    step = imload(data / "nd2" / "lim_t3z2c2_u16.nd2")["t"]
    assert step.values.tolist() == [0.0, 500.0, 1000.0]


def test_positions_are_scenes(made):
    path = made("loops")
    whole = np.arange(12 * 5 * 7 * 2, dtype="u2").reshape(2, 3, 2, 5, 7, 2).transpose(0, 1, 2, 5, 3, 4)
    ds = imload(path, scene="all", output_axis_order=None)
    assert ds["image"].dims == tuple("itzcyx")
    assert np.array_equal(ds["image"], whole.swapaxes(0, 1))
    assert ds["i"].values.tolist() == ["0", "1", "2"] == ds.attrs["scenes"]
    for n in range(3):
        one = imload(path, scene=n, output_axis_order=None)
        assert np.array_equal(one["image"], as_nd2_reads(path, n)[0][:, 0])
        assert one.img.spacing == {"t": 500.0, "z": 1.5, "y": 0.25, "x": 0.25}
    points = json.loads(ds.attrs["fileheader"])["experiment"][1]["parameters"]["points"]
    assert [p["stagePositionUm"] for p in points] == [[1, 4, 0], [2, 5, 0], [3, 6, 0]]


@pytest.mark.parametrize("name", ["packed", "colours", "uncalibrated", "uneven", "colour_channels"])
def test_layouts_of_frames(made, name):
    """Padded rows, compressed frames, colour samples, floats: as nd2 reads them."""
    path = made(name)
    expected, sizes = as_nd2_reads(path)
    ds = imload(path, output_axis_order=None)
    assert "".join(ds["image"].dims) == "".join(sizes).lower().replace("s", "c")
    assert np.array_equal(ds["image"], expected)
    assert np.array_equal(ds["image"][..., 1:4, 2:5], expected[..., 1:4, 2:5])


def test_facts_that_are_unknown_or_uneven(made):
    bare = imload(made("uncalibrated"))
    assert bare.img.spacing == {}  # the library says 1.0 µm and a step of 0 ms
    assert bare.img.channels == ["GFP"]
    assert bare["c"].dims == ()
    uneven = imload(made("uneven"))
    assert uneven["t"].values.tolist() == [10.0, 520.0, 1600.0]
    assert uneven.img.spacing == {"y": 0.25, "x": 0.25}
    assert imload(made("colours")).img.channels == ["R", "G", "B"]
    assert imload(made("colour_channels")).img.channels == ["a", "b", "c"]


def test_an_interrupted_recording_shows_what_there_is(made):
    path = made("interrupted")
    with pytest.warns(UserWarning, match=r"interrupted\.nd2.*5 of the 8 planned frames"):
        ds = imload(path, output_axis_order=None)
    expected = np.arange(8 * 70, dtype="u2").reshape(4, 2, 5, 7, 2).transpose(0, 1, 4, 2, 3)[:3].copy()
    expected[2, 1] = 0
    assert np.array_equal(ds["image"], expected)


def test_damage_is_named(made, tmp_path):
    cut = made("loops", lambda data: data[:5000])
    with pytest.raises(FormatError, match=r"loops\.nd2.*interrupted before the first frame"):
        imload(cut)
    beyond = made("uneven", lambda data: data.replace(b"ImageDataSeq|1!" + bytes(5), b"ImageDataSeq|1!" + b"\xff" * 5))
    assert imload(beyond).sizes["t"] == 3
    legacy = tmp_path / "old.nd2"
    legacy.write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(500))
    with pytest.raises(FormatError, match=r"JPEG 2000.*NIS-Elements"):
        imload(legacy)


def test_remote(data, made):
    content = (data / "nd2" / "cluster.nd2").read_bytes()
    fsspec.filesystem("memory").pipe_file("/nd2/cluster.nd2", content)
    expected, _ = as_nd2_reads(data / "nd2" / "cluster.nd2")
    part = imload("memory://nd2/cluster.nd2", output_axis_order=None)["image"][1, 3:5, 1, 4:9, 7:]
    assert np.array_equal(part, expected[1, 3:5, 1, 4:9, 7:])


def test_what_is_saved_comes_back(made, tmp_path):
    for name in ("uncalibrated", "uneven", "loops"):
        ds = imload(made(name))
        imsave(ds, tmp_path / f"{name}.zarr")
        assert_same(imload(tmp_path / f"{name}.zarr"), ds)


def test_a_missing_library_is_named(made, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nd2", None)
    with pytest.raises(MissingExtraError, match=r"intake_img\[nd2\]"):
        imload(made("loops"))


def attributes(**changes):
    usual = {
        "compressionType": None,
        "channelCount": 2,
        "componentCount": 2,
        "pixelDataType": "unsigned",
        "bitsPerComponentInMemory": 16,
        "widthPx": 5,
        "heightPx": 4,
        "widthBytes": 20,
    }
    return SimpleNamespace(**{**usual, **changes})


def test_frames_are_laid_out_as_their_attributes_state():
    assert frame_of(attributes()) == Frame(4, 5, 20, 2, 1, np.dtype("u2"))
    assert frame_of(attributes(widthBytes=None)) == Frame(4, 5, 20, 2, 1, np.dtype("u2"))
    assert frame_of(attributes(widthBytes=24)).row == 24  # rows may be padded
    colours = attributes(channelCount=1, componentCount=3, bitsPerComponentInMemory=8, widthBytes=16)
    assert frame_of(colours) == Frame(4, 5, 16, 1, 3, np.dtype("u1"))
    assert frame_of(attributes(channelCount=None, componentCount=4, widthBytes=40)).channels == 4
    floats = attributes(pixelDataType="float", bitsPerComponentInMemory=32, widthBytes=40)
    assert frame_of(floats).dtype == np.dtype("f4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compressionType": "lossy"}, "compressed with loss"),
        ({"bitsPerComponentInMemory": 12}, "not supported: is the header damaged"),
        ({"pixelDataType": "float", "bitsPerComponentInMemory": 8}, "not supported"),
        ({"widthPx": None}, "frames of 0 x 4 pixels"),
        ({"heightPx": 0}, "frames of 5 x 0 pixels"),
        ({"componentCount": 0}, "0 components"),
        ({"widthBytes": 18}, "rows of 18 bytes do not fit 5 pixels"),
        ({"widthBytes": 21}, "rows of 21 bytes"),
    ],
)
def test_other_frames_are_refused(changes, message):
    with pytest.raises(FormatError, match=message):
        frame_of(attributes(**changes))
