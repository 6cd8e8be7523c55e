"""Neuroglancer's precomputed volumes against tensorstore, both ways."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from trees import to_memory

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, SceneError
from intake_img.formats.chunked import morton
from intake_img.formats.precomputed import segmentation
from intake_img.formats.precomputed.driver import PrecomputedSource
from intake_img.formats.registry import find_format
from intake_img.storage.files import File

SIZE = (33, 21, 10)
SHARDINGS: dict[str, Any] = {
    "files": None,
    "identity": {"hash": "identity", "preshift_bits": 1, "minishard_bits": 2, "shard_bits": 1},
    "murmur": {
        "hash": "murmurhash3_x86_128",
        "preshift_bits": 0,
        "minishard_bits": 1,
        "shard_bits": 5,
        "minishard_index_encoding": "gzip",
        "data_encoding": "gzip",
    },
}
PIXELS = {
    "uint16 raw": ("uint16", 2, "raw"),
    "float32 raw": ("float32", 1, "raw"),
    "uint8 jpeg": ("uint8", 1, "jpeg"),
    "colour jpeg": ("uint8", 3, "jpeg"),
    "uint8 png": ("uint8", 4, "png"),
    "two png": ("uint8", 2, "png"),
    "uint16 png": ("uint16", 1, "png"),
    "uint16 colour png": ("uint16", 3, "png"),
    "uint32 labels": ("uint32", 2, "compressed_segmentation"),
    "uint64 labels": ("uint64", 1, "compressed_segmentation"),
}


def _values(dtype: str, channels: int, size: tuple[int, ...] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 250, (*size, channels))
    if dtype.startswith("uint") and int(dtype[4:]) >= 32:
        values = values // (
            1 + np.arange(size[0])[:, None, None, None] % 30
        )  # few labels in some blocks, many in others
        return (values.astype("uint64") << (40 if dtype == "uint64" else 20)).astype(dtype)
    return values.astype(dtype)


def _open(path: Path) -> Any:
    ts = pytest.importorskip("tensorstore")
    spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": str(path)}}
    return ts.open(spec).result()


def _create(path: Path, dtype: str, channels: int, encoding: str, sharding: Any = None, labels: bool = False) -> Any:
    ts = pytest.importorskip("tensorstore")
    scale = {
        "size": SIZE,
        "encoding": encoding,
        "chunk_size": (16, 8, 4),
        "resolution": [8, 8, 30],
        "voxel_offset": (100, 200, -300),
    }
    if sharding is not None:
        scale["sharding"] = {"@type": "neuroglancer_uint64_sharded_v1", **sharding}
    if encoding == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = (5, 4, 3)
    metadata = {"type": "segmentation" if labels else "image", "data_type": dtype, "num_channels": channels}
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": str(path)},
        "multiscale_metadata": metadata,
        "scale_metadata": scale,
    }
    return ts.open(spec, create=True).result()


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("pixels", PIXELS)
def test_reads_what_tensorstore_wrote(pixels: str, sharding: str, tmp_path: Path) -> None:
    dtype, channels, encoding = PIXELS[pixels]
    values = _values(dtype, channels)
    store = _create(tmp_path / "volume", dtype, channels, encoding, SHARDINGS[sharding])
    store[...] = values
    store[100:116, 200:208, -300:-296] = 0  # tensorstore leaves chunks of zeros out
    expected = store.read().result().T
    assert np.asarray(expected).any()
    for uri in (str(tmp_path / "volume"), to_memory(tmp_path / "volume"))[: 2 if pixels == "uint16 raw" else 1]:
        assert find_format(File.parse(uri)).name == "precomputed"
        found = imload(uri)
        assert found["image"].dims == ("c", "z", "y", "x")
        assert found["image"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found["image"].values, expected)
        part = imload(uri, chunks=None)["image"][:, 3:7, 5:20, 15:33]
        np.testing.assert_array_equal(part.values, expected[:, 3:7, 5:20, 15:33])
        found.close()
    assert found.img.spacing == {"z": 30.0, "y": 8.0, "x": 8.0}
    assert [float(found[a][0]) for a in "zyx"] == [-9000.0, 1600.0, 800.0]
    assert found["x"].attrs["units"] == "nm"


def test_levels_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    _create(path, "uint64", 1, "compressed_segmentation", labels=True)[...] = 5
    info = json.loads((path / "info").read_text())
    lower = {
        **info["scales"][0],
        "key": "lower",
        "size": [17, 11, 10],
        "resolution": [16, 16, 30],
        "voxel_offset": [50, 100, -300],
    }
    info["scales"].append(lower)
    (path / "info").write_text(json.dumps(info))
    found = imload(path, level=1)
    assert found["image"].shape == (1, 10, 11, 17)
    assert found["image"].attrs["kind"] == "labels"
    assert found.img.spacing["x"] == 16
    assert not found["image"].values.any()  # no chunk is there
    with pytest.raises(SceneError, match="has 2 levels"):
        imload(path, level=2)


def test_real_files(data: Path) -> None:
    found = imload(data / "precomputed" / "raw_u16")
    np.testing.assert_array_equal(found["image"].values.T, np.load(data / "precomputed" / "raw_u16_xyzc.npy"))
    assert found.img.spacing == {"z": 1000.0, "y": 325.0, "x": 325.0}
    root = data / "precomputed" / "simple_ng_dataset2"
    expected = _open(root / "color").read().result().T
    assert imload(root).attrs["scenes"] == ["color"]
    np.testing.assert_array_equal(imload(root, scene="color")["image"].values, expected)
    np.testing.assert_array_equal(imload(root / "color")["image"].values, expected)


def test_files_that_are_compressed_themselves(tmp_path: Path) -> None:
    """CloudVolume writes ``.gz`` locally; buckets hold gzip under the plain name."""
    store = _create(tmp_path / "a", "uint16", 1, "raw")
    store[...] = _values("uint16", 1)
    expected = store.read().result().T
    for ending in (".gz", ""):
        shutil.copytree(tmp_path / "a", tmp_path / f"b{ending}")
        for file in (tmp_path / f"b{ending}" / "8_8_30").iterdir():
            packed = gzip.compress(file.read_bytes())
            file.unlink()
            file.with_name(file.name + ending).write_bytes(packed)
        np.testing.assert_array_equal(imload(tmp_path / f"b{ending}")["image"].values, expected)


# writing


WRITTEN = [
    ("uint8", "czyx", (3, 5, 20, 70), None, "raw"),
    ("uint8", "czyx", (3, 5, 20, 70), True, "png"),
    ("uint8", "yx", (20, 600), "jpeg", "jpeg"),
    ("uint16", "zyx", (70, 20, 66), True, "png"),
    ("float32", "xzy", (9, 5, 7), None, "raw"),
    ("uint32", "zyx", (65, 20, 30), None, "compressed_segmentation"),
    ("uint64", "czyx", (2, 6, 20, 30), True, "compressed_segmentation"),
    ("int16", "zyx", (4, 5, 6), False, "raw"),
    ("bool", "zyx", (4, 5, 6), None, "raw"),
    ("float16", "yx", (5, 6), None, "raw"),
]


@pytest.mark.parametrize(("dtype", "axes", "shape", "compress", "encoding"), WRITTEN, ids=lambda v: str(v)[:12])
def test_tensorstore_reads_what_is_written(
    dtype: str, axes: str, shape: tuple[int, ...], compress: Any, encoding: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    values = (rng.integers(0, 200, shape) // (1 + np.arange(shape[-1]) % 50)).astype(dtype)
    steps = {"x": (0.325, "µm", 3.25), "y": (325.0, "nm", -650.0), "z": (0.001, "mm", 0.0005)}
    coords = {
        a: (a, o + s * np.arange(n), {"units": u, "spacing": s})
        for a, n in zip(axes, shape, strict=True)
        if a in steps
        for s, u, o in [steps[a]]
    }
    attrs = {"kind": "labels"} if encoding == "compressed_segmentation" else {}
    ds = xr.Dataset({"image": (tuple(axes), values, attrs)}, coords)
    imsave(ds, tmp_path / "a.precomputed", compress=compress)
    store = _open(tmp_path / "a.precomputed")
    info = json.loads((tmp_path / "a.precomputed" / "info").read_text())
    assert info["scales"][0]["encoding"] == encoding
    assert info["type"] == ("segmentation" if attrs else "image")
    assert info["scales"][0]["resolution"] == [325.0, 325.0, 1000.0 if "z" in axes else 1.0]
    assert info["scales"][0]["voxel_offset"] == [10, -2, 0]  # half a micrometre is not an integer number of voxels
    read = store.read().result().T  # c, z, y, x
    expected = ds["image"].transpose(*[a for a in "czyx" if a in axes]).values
    if encoding != "jpeg":
        np.testing.assert_array_equal(read.reshape(expected.shape), expected)
        xr.testing.assert_identical(
            imload(tmp_path / "a.precomputed")["image"],
            ds["image"].transpose(*imload(tmp_path / "a.precomputed")["image"].dims),
        )
    else:
        assert np.abs(read.reshape(shape).astype(int) - values).mean() < 4
        np.testing.assert_array_equal(imload(tmp_path / "a.precomputed")["image"].values, read.reshape(shape))


def test_writes_levels_and_chunks(tmp_path: Path) -> None:
    full = xr.DataArray(np.arange(8 * 20 * 30, dtype="u2").reshape(8, 20, 30), dims=list("zyx"))
    full = full.assign_coords(x=("x", 0.5 * np.arange(30), {"units": "µm", "spacing": 0.5}))
    tree = xr.DataTree.from_dict(
        {"scale0": full.to_dataset(name="image"), "scale1": full[:, ::2, ::2].to_dataset(name="image")}
    )
    imsave(tree, tmp_path / "a.precomputed", chunks={"x": 10, "y": -1, "z": 3})
    info = json.loads((tmp_path / "a.precomputed" / "info").read_text())
    assert [s["key"] for s in info["scales"]] == ["500_1_1", "1000_2_1"]
    assert info["scales"][0]["chunk_sizes"] == [[10, 20, 3]]
    np.testing.assert_array_equal(imload(tmp_path / "a.precomputed", level=1)["image"].values[0], full[:, ::2, ::2])
    assert sorted(p.name for p in (tmp_path / "a.precomputed" / "500_1_1").iterdir())[0] == "0-10_0-20_0-3"


@pytest.mark.parametrize(
    ("image", "options", "match"),
    [
        (np.zeros((4, 5), "float64"), {}, "astype"),
        (np.zeros((4, 5), "int64"), {}, "astype"),
        (np.zeros((4, 5), "float32"), {"compress": "png"}, "expected False or .raw. for"),
        (np.zeros((4, 5), "float32"), {"compress": True}, "expected False or .raw. for"),
        (np.zeros((4, 5), "uint8"), {"compress": "zstd"}, "True, .raw., .png. or .jpeg. for"),
        (np.zeros((4, 5), "uint8"), {"chunks": 0}, "chunks=0"),
        (np.zeros((4, 5), "uint8"), {"chunks": {"t": 4}}, "chunks="),
        (xr.DataArray(np.zeros((2, 4, 5), "uint8"), dims=list("tyx")), {"partition": "tyx"}, "not 't'"),
    ],
)
def test_refuses_to_write(image: Any, options: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(CannotWriteError, match=match):
        imsave(image, tmp_path / "a.precomputed", **options)
    assert not list(tmp_path.iterdir())


@settings(max_examples=25)
@given(
    arrays(
        np.uint64, st.tuples(st.just(1), *[st.integers(1, 9)] * 3), elements=st.integers(0, 2**64 - 1), fill=st.just(7)
    )
)
def test_segmentation_both_ways(labels: np.ndarray) -> None:
    for dtype in (np.uint32, np.uint64):
        given_labels = labels.astype(dtype)
        data = segmentation.encode(given_labels, (3, 2, 4))
        found = segmentation.decode(data, np.dtype(dtype), labels.shape, (3, 2, 4))
        np.testing.assert_array_equal(found, given_labels)
        for cut in range(0, len(data), 4):
            with pytest.raises(FormatError):
                segmentation.decode(data[:cut], np.dtype(dtype), labels.shape, (3, 2, 4))


def test_morton_leaves_out_bits() -> None:
    grid = (3, 5, 1)
    numbers = [morton((x, y, 0), grid) for y in range(5) for x in range(3)]
    assert len(set(numbers)) == 15
    assert max(numbers) < 2**5


# damage


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"encoding": "compresso"}, "encoding 'compresso'"),
        ({"key": "../8_8_30"}, "inside the volume"),
        ({"key": "s3://b/c"}, "inside the volume"),
        ({"size": [33, 21]}, "three numbers"),
        ({"size": [33, 21, 0]}, "size"),
        ({"chunk_sizes": []}, "chunk_sizes"),
        ({"chunk_sizes": [[2**20, 2**20, 2]]}, "too large"),
        ({"sharding": {"@type": "other"}}, "sharding"),
        ({"encoding": "compressed_segmentation"}, "block_size"),
    ],
)
def test_refuses_what_it_cannot_read(change: dict[str, Any], match: str, tmp_path: Path) -> None:
    path, _ = PrecomputedSource.format.sample(str(tmp_path))
    info = json.loads(Path(path, "info").read_text())
    info["scales"][0].update(change)
    Path(path, "info").write_text(json.dumps(info))
    with pytest.raises(FormatError, match=match):
        imload(path).compute()


@pytest.mark.parametrize("pixels", ["uint8 png", "uint8 jpeg", "uint64 labels"])
def test_refuses_chunks_that_do_not_fit(pixels: str, tmp_path: Path) -> None:
    dtype, channels, encoding = PIXELS[pixels]
    _create(tmp_path / "a", dtype, channels, encoding)[...] = _values(dtype, channels)
    folder = tmp_path / "a" / "8_8_30"
    chunk = folder / "100-116_200-208_-300--296"
    good, smaller = chunk.read_bytes(), (folder / "132-133_216-221_-292--290").read_bytes()
    for content in (b"", good[:40], good[: len(good) // 2], smaller, b"\x1f\x8b" + good):
        chunk.write_bytes(content)
        with pytest.raises(FormatError):
            PrecomputedSource(str(tmp_path / "a")).read()


def test_refuses_damaged_shards(tmp_path: Path) -> None:
    _create(tmp_path / "a", "uint16", 1, "raw", SHARDINGS["murmur"])[...] = _values("uint16", 1)
    shard = max((tmp_path / "a" / "8_8_30").iterdir(), key=lambda p: p.stat().st_size)
    good = shard.read_bytes()
    for content in (b"", good[:10], good[:60], good[:-20], b"\xff" * 32 + good[32:]):
        shard.write_bytes(content)
        with pytest.raises(FormatError):
            PrecomputedSource(str(tmp_path / "a")).read()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32"])
def test_labels_of_any_type_come_back(dtype: str, tmp_path: Path) -> None:
    """Only uint32 and uint64 have the encoding of segmentations."""
    values = np.random.default_rng(3).integers(0, 200, (3, 20, 30)).astype(dtype)
    imsave(xr.Dataset({"image": (("z", "y", "x"), values, {"kind": "labels"})}), tmp_path / "a.precomputed")
    found = imload(tmp_path / "a.precomputed").image
    np.testing.assert_array_equal(found.squeeze(), values)
    assert found.attrs["kind"] == "labels"
