"""N5 against tensorstore, and the dialects of its metadata."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from trees import to_memory

from intake_img import imload
from intake_img.errors import FormatError, SceneError
from intake_img.formats.n5.driver import N5Source
from intake_img.formats.registry import find_format
from intake_img.storage.files import File

COMPRESSIONS = [
    {"type": "raw"},
    {"type": "gzip", "level": 3},
    {"type": "gzip", "level": 1, "useZlib": True},
    {"type": "bzip2", "blockSize": 9},
    {"type": "xz", "preset": 1},
    {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
    {"type": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 2},
    {"type": "zstd", "level": 3},
]


def _store(path: Path, values: np.ndarray, block: list[int], compression: dict[str, Any], **more: Any) -> Any:
    """Write values, whose axes are x first, with tensorstore."""
    ts = pytest.importorskip("tensorstore")
    metadata = {
        "dimensions": list(values.shape),
        "dataType": str(values.dtype),
        "blockSize": block,
        "compression": compression,
        **more,
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}
    return ts.open(spec, create=True).result()


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _bare(path: Path, shape: list[int], **more: Any) -> None:
    about = {"dimensions": shape, "blockSize": [4] * len(shape), "dataType": "uint8"}
    _json(path / "attributes.json", {**about, "compression": {"type": "raw"}, **more})


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_reads_what_tensorstore_wrote(compression: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for dtype, shape, block in (("uint16", (13, 7, 5), [4, 7, 2]), ("float64", (5, 9), [5, 4]), ("int8", (17,), [6])):
        path = tmp_path / f"{dtype}.n5"
        values = (rng.standard_normal(shape) * 100).astype(dtype)
        written = _store(path, values, block, compression)
        written[...] = values
        written[tuple(slice(0, b) for b in block)] = 0  # tensorstore removes this block
        expected = written.read().result().T
        for uri in (str(path), to_memory(path)):
            found = imload(uri)
            assert find_format(File.parse(uri)).name == "n5"
            array = found["image"]
            assert array.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(array.values, expected)
            region = tuple(slice(n // 3, n - 1) for n in expected.shape)
            np.testing.assert_array_equal(array[region].values, expected[region])
            for chunks in (None, 3):
                part = imload(uri, chunks=chunks)["image"][region]
                np.testing.assert_array_equal(part.values, expected[region])


def test_real_files(data: Path) -> None:
    for name in ("raw", "gzip"):
        found = imload(data / "n5" / name)
        assert found["image"].dims == ("y", "x")
        np.testing.assert_array_equal(found["image"].values.T.ravel(), np.arange(20))
    found = imload(data / "n5" / "f32_3d_zstd")
    np.testing.assert_array_equal(found["image"].values.T, np.load(data / "n5" / "f32_3d_zstd_xyz.npy"))
    assert found.img.spacing == {"z": 2.0, "y": 0.5, "x": 0.5}
    assert set(found.img.units.values()) == {"µm"}
    modern = data / "n5" / "n5_viewer_multiscale_modern"
    for level, factor in ((0, 1), (1, 2), (2, 4)):
        found = imload(modern, level=level)
        assert found.img.spacing == {"y": 20.0 * factor, "x": 10.0 * factor}
        assert found.img.units == {"y": "s", "x": "nm"}
        assert float(found["x"][0]) == 10 * (factor - 1) / 2
        assert not found["image"].values.any()


def _transform(axes: str, scale: list[float], translate: list[float]) -> dict[str, Any]:
    return {"axes": list(axes), "scale": scale, "translate": translate, "units": ["nm"] * 3}


DIALECTS: dict[str, tuple[Any, Any, dict[str, tuple[float, str, float]]]] = {
    "deprecated scales": (
        {"axes": ["x", "y", "z"], "units": ["nm"] * 3, "resolution": [4, 5, 6], "scales": [[1, 1, 1], [2, 2, 1]]},
        {},
        {"z": (6.0, "nm", 0.0), "y": (10.0, "nm", 2.5), "x": (8.0, "nm", 2.0)},
    ),
    "pixelResolution": (
        {"pixelResolution": {"unit": "um", "dimensions": [0.5, 0.5, 2]}},
        {"downsamplingFactors": [2, 2, 1]},
        {"z": (2.0, "µm", 0.0), "y": (1.0, "µm", 0.25), "x": (1.0, "µm", 0.25)},
    ),
    "COSEM": (
        {},
        {"transform": _transform("zyx", [10.48, 8, 4], [2.62, 2, 1])},
        {"z": (10.48, "nm", 2.62), "y": (8.0, "nm", 2.0), "x": (4.0, "nm", 1.0)},
    ),
    "COSEM, x first": (
        {},
        {"transform": _transform("xyz", [4, 8, 10.48], [1, 2, 2.62])},
        {"z": (10.48, "nm", 2.62), "y": (8.0, "nm", 2.0), "x": (4.0, "nm", 1.0)},
    ),
    "COSEM of the group": (
        {
            "multiscales": [
                {
                    "datasets": [
                        {"path": "s0"},
                        {"path": "s1", "transform": {"axes": ["z", "y", "x"], "scale": [3, 2, 1], "units": ["nm"] * 3}},
                    ]
                }
            ]
        },
        {},
        {"z": (3.0, "nm", 0.0), "y": (2.0, "nm", 0.0), "x": (1.0, "nm", 0.0)},
    ),
    "OME-NGFF": (
        {
            "multiscales": [
                {
                    "axes": [{"name": a, "unit": "micrometer"} for a in "xyz"],
                    "datasets": [
                        {"path": "s0"},
                        {
                            "path": "s1",
                            "coordinateTransformations": [
                                {"type": "scale", "scale": [1, 2, 3]},
                                {"type": "translation", "translation": [0.5, 1, 0]},
                            ],
                        },
                    ],
                }
            ]
        },
        {},
        {"z": (3.0, "µm", 0.0), "y": (2.0, "µm", 1.0), "x": (1.0, "µm", 0.5)},
    ),
    "Paintera": (
        {},
        {"resolution": [1, 2, 3], "offset": [10, 20, 30]},
        {"z": (3.0, "", 30.0), "y": (2.0, "", 20.0), "x": (1.0, "", 10.0)},
    ),
    "ImageJ": (
        {},
        {"pixelWidth": 0.25, "pixelHeight": 0.5, "pixelDepth": 2, "pixelUnit": "micron", "numSlices": 3},
        {"z": (2.0, "µm", 0.0), "y": (0.5, "µm", 0.0), "x": (0.25, "µm", 0.0)},
    ),
    "nothing": ({}, {"resolution": [0, -1, 1e400], "units": 7, "axes": "zyx"}, {}),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(dialect: str, tmp_path: Path) -> None:
    group, own, expected = DIALECTS[dialect]
    _json(tmp_path / "a.n5" / "attributes.json", group)
    _bare(tmp_path / "a.n5" / "s0", [9, 7, 3])
    _bare(tmp_path / "a.n5" / "s1", [5, 4, 3], **own)
    found = imload(tmp_path / "a.n5", level=1)
    assert found["image"].dims == ("z", "y", "x")
    assert found["image"].shape == (3, 4, 5)
    assert set(found.coords) == set(expected)
    for axis, (spacing, unit, origin) in expected.items():
        assert found[axis].attrs["spacing"] == spacing
        assert found[axis].attrs.get("units", "") == unit
        assert float(found[axis][0]) == origin
    with pytest.raises(SceneError, match="has 2 levels"):
        imload(tmp_path / "a.n5", level=2)


def test_axes_and_names_of_channels(tmp_path: Path) -> None:
    about = {"axes": ["X", "Y", "channel"], "coordinateArrays": {"channel": ["DAPI", "GFP"]}, "resolution": [2, 3, 1]}
    _bare(tmp_path / "a.n5", [4, 5, 2], **about)
    found = imload(tmp_path / "a.n5")
    assert found["image"].dims == ("c", "y", "x")
    assert found.img.channels == ["DAPI", "GFP"]
    assert found.img.spacing == {"y": 3.0, "x": 2.0}
    movie = {
        "pixelWidth": 1,
        "pixelHeight": 1,
        "pixelUnit": "um",
        "frameInterval": 0.5,
        "numChannels": 2,
        "numFrames": 3,
    }
    _bare(tmp_path / "b.n5", [4, 5, 2, 3], **movie)
    found = imload(tmp_path / "b.n5")
    assert found.attrs["original_axes"] == "tcyx"
    assert found.img.spacing["t"] == 0.5
    assert found.img.units["t"] == "s"


def test_scenes_of_a_container(tmp_path: Path) -> None:
    root = tmp_path / "c.n5"
    _json(root / "attributes.json", {"n5": "4.0.0"})
    for k in (0, 1):
        _bare(root / "setup0" / f"timepoint{k}" / "s0", [4, 4, 4])
        _bare(root / "setup0" / f"timepoint{k}" / "s1", [2, 2, 2])
    _bare(root / "setup10" / "timepoint0" / "s0", [8, 4, 4])
    _bare(root / "setup2" / "timepoint0" / "s0", [8, 4, 4])
    _bare(root / "volumes" / "labels" / "data" / "s0", [3, 3, 3], dataType="uint64")
    _json(root / "volumes" / "labels" / "attributes.json", {"painteraData": {"type": "label"}})
    names = ["setup0/timepoint0", "setup0/timepoint1", "setup2/timepoint0", "setup10/timepoint0", "volumes/labels/data"]
    for uri in (str(root), to_memory(root)):
        found = imload(uri, scene="volumes/labels/data")
        assert found.attrs["scenes"] == names
        assert found["image"].attrs["kind"] == "labels"
        assert imload(uri, scene="setup0/timepoint1", level=1)["image"].shape == (2, 2, 2)
    assert imload(root / "setup0" / "timepoint0").attrs["scenes"] == ["0"]  # a single group
    assert imload(root / "setup0" / "timepoint0" / "s1")["image"].shape == (2, 2, 2)
    assert find_format(File.parse(root / "volumes" / "labels" / "data")).name == "n5"
    shutil.rmtree(root / "volumes")
    shutil.rmtree(root / "setup2")
    assert imload(root).attrs["scenes"] == [names[0], names[1], names[3]]


def _block(sizes: tuple[int, ...], data: bytes, mode: int = 0, count: int | None = None) -> bytes:
    more = b"" if count is None else struct.pack(">I", count)
    return struct.pack(f">HH{len(sizes)}I", mode, len(sizes), *sizes) + more + data


def _lz4(data: bytes) -> bytes:
    """The frames that lz4-java writes: one packed, one stored, the end."""
    half = len(data) // 2
    packed = numcodecs.lz4.compress(data[:half])[4:]
    frames = [(0x25, packed, half), (0x15, data[half:], len(data) - half), (0x15, b"", 0)]
    return b"".join(b"LZ4Block" + struct.pack("<Biii", m, len(body), n, 0) + body for m, body, n in frames)


def _zstd_stream(data: bytes) -> bytes:
    """A frame of Zstandard that does not state its size, as streams write it (RFC 8878): one block, not packed."""
    return b"\x28\xb5\x2f\xfd\x00\x58" + (len(data) << 3 | 1).to_bytes(3, "little") + data


def test_blocks_made_by_hand(tmp_path: Path) -> None:
    values = np.arange(60, dtype=">u2").reshape(6, 10)
    about = {"dimensions": [10, 6], "blockSize": [10, 6], "dataType": "uint16"}
    cases = {
        "lz4": ({"compression": {"type": "lz4"}}, _block((10, 6), _lz4(values.tobytes()))),
        "stream": ({"compression": {"type": "zstd"}}, _block((10, 6), _zstd_stream(values.tobytes()))),
        "varlength": ({"compression": {"type": "raw"}}, _block((10, 6), values.tobytes(), 1, 60)),
        "old": ({"compressionType": "gzip"}, _block((10, 6), zlib.compress(values.tobytes()))),
        "cut": ({"compression": {"type": "raw"}}, _block((10, 4), values[:4].tobytes())),
    }
    for name, (more, block) in cases.items():
        path = tmp_path / name
        _json(path / "attributes.json", {**about, **more})
        (path / "0").mkdir()
        (path / "0" / "0").write_bytes(block)
        expected = values.copy()
        expected[4 if name == "cut" else 6 :] = 0
        np.testing.assert_array_equal(N5Source(str(path)).read()["image"].values, expected)


@pytest.mark.parametrize("compression", ["raw", "gzip", "bzip2", "xz", "blosc", "zstd", "lz4"])
def test_refuses_damaged_blocks(compression: str, tmp_path: Path) -> None:
    """A block that is cut, or holds more than its header says, is neither read nor inflated."""
    values = np.arange(400, dtype=">u2")
    pack = {
        "raw": bytes,
        "gzip": zlib.compress,
        "bzip2": numcodecs.BZ2().encode,
        "xz": numcodecs.LZMA(format=1).encode,
        "blosc": lambda b: numcodecs.blosc.compress(b, b"lz4", 5, 1),
        "zstd": numcodecs.zstd.compress,
        "lz4": _lz4,
    }[compression]
    about = {"dimensions": [400], "blockSize": [400], "dataType": "uint16", "compression": {"type": compression}}
    _json(tmp_path / "a.n5" / "attributes.json", about)
    place = tmp_path / "a.n5" / "0"
    good = _block((400,), pack(values.tobytes()))
    place.write_bytes(good)
    source = N5Source(str(tmp_path / "a.n5"))
    np.testing.assert_array_equal(source.read()["image"].values, values)
    damaged = {
        "empty": b"",
        "cut header": good[:7],
        "cut": good[: len(good) - 9],
        "more": _block((400,), pack(bytes(10**6))),
        "fewer": _block((400,), pack(bytes(10))),
        "too large": _block((401,), pack(values.tobytes())),
        "none": _block((0,), pack(b"")),
        "object": _block((400,), pack(values.tobytes()), 2),
    }
    if compression == "zstd":
        damaged["stream"] = _block((400,), _zstd_stream(bytes(10)))
        damaged["long stream"] = _block((400,), _zstd_stream(bytes(1000)))
    for content in damaged.values():
        place.write_bytes(content)
        with pytest.raises(FormatError, match=r"a\.n5"):
            source.read()


@pytest.mark.parametrize(
    ("about", "match"),
    [
        ({"compression": {"type": "jpeg"}}, "compression 'jpeg'"),
        ({"dataType": "string"}, "dataType is 'string'"),
        ({"isLabelMultiset": True}, "label multisets"),
        ({"dimensions": [4, -4]}, "dimensions"),
        ({"blockSize": [4]}, "differ in length"),
        ({"blockSize": [2**20, 2**20]}, "too large"),
        ({"blockSize": None}, "blockSize"),
    ],
)
def test_refuses_what_it_cannot_read(about: dict[str, Any], match: str, tmp_path: Path) -> None:
    _bare(tmp_path / "a.n5", [4, 4], **about)
    with pytest.raises(FormatError, match=match):
        imload(tmp_path / "a.n5")


def test_says_what_is_no_n5(tmp_path: Path) -> None:
    (tmp_path / "empty.n5").mkdir()
    with pytest.raises(FormatError, match="contains no N5 dataset"):
        imload(tmp_path / "empty.n5")
    (tmp_path / "file.n5").write_bytes(b"\0" * 99)
    with pytest.raises(FormatError, match="is a folder"):
        N5Source(str(tmp_path / "file.n5")).read()
    _json(tmp_path / "other" / "attributes.json", {"colour": "red"})
    assert not N5Source.format.claims(_probe(tmp_path / "other"))


def _probe(path: Path) -> Any:
    from intake_img.formats.probe import Probe

    return Probe(File.parse(path), b"", True)


def test_notices_new_attributes(tmp_path: Path) -> None:
    _bare(tmp_path / "a.n5" / "s0", [4, 4])
    before = imload(tmp_path / "a.n5")
    assert before["image"].shape == (4, 4)
    _bare(tmp_path / "a.n5" / "s0", [6, 4])
    assert imload(tmp_path / "a.n5")["image"].shape == (4, 6)
    with pytest.raises(Exception, match="changed"):
        before.compute()


@pytest.mark.parametrize("library", [True, False], ids=["libdeflate", "zlib"])
def test_gzip_of_large_blocks(library: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read and what is refused does not depend on what inflates."""
    if library:
        pytest.importorskip("imagecodecs")
    else:
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    values = np.random.default_rng(0).integers(0, 50, 20_000).astype(">u2")
    about = {"dimensions": [20_000], "blockSize": [20_000], "dataType": "uint16", "compression": {"type": "gzip"}}
    _json(tmp_path / "a.n5" / "attributes.json", about)
    place, packed = tmp_path / "a.n5" / "0", gzip.compress(values.tobytes())
    source = N5Source(str(tmp_path / "a.n5"))
    for good in (packed, packed + b"what follows", packed + packed):
        place.write_bytes(_block((20_000,), good))
        np.testing.assert_array_equal(source.read()["image"].values, values)
    cut, checksum = packed[:-20], packed[:-8] + bytes(4) + packed[-4:]
    middle = packed[:5000] + b"\xff" * 50 + packed[5050:]
    more, fewer = (gzip.compress(values.tobytes()[:-k] if k > 0 else values.tobytes() + b"1") for k in (0, 9000))
    for bad in (cut, checksum, middle, more, fewer):
        place.write_bytes(_block((20_000,), bad))
        with pytest.raises(FormatError, match=r"a\.n5"):
            source.read()
