"""Stores most of whose chunks are missing: zeros where these would be, and no file is looked for chunk by chunk."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tensorstore as ts

from intake_img import imload
from intake_img.formats.chunked import morton
from intake_img.storage.files import File

SHAPE, CHUNK = (24, 40, 32), 8  # z, y, x: 60 chunks
RNG = np.random.default_rng(5)


def _with_tensorstore(spec: dict[str, Any], values: np.ndarray) -> None:
    """Write values; tensorstore leaves chunks of zeros out."""
    store = ts.open(spec, create=True).result()
    store[...] = values.T.reshape(store.shape)


def _n5(path: Path, values: np.ndarray) -> None:
    metadata = {"dimensions": SHAPE[::-1], "dataType": "uint8", "blockSize": [CHUNK] * 3}
    place = {"driver": "n5", "kvstore": {"driver": "file", "path": str(path)}}
    _with_tensorstore({**place, "metadata": {**metadata, "compression": {"type": "raw"}}}, values)


def _precomputed(path: Path, values: np.ndarray, **more: Any) -> None:
    scale = {"size": SHAPE[::-1], "encoding": "raw", "chunk_size": [CHUNK] * 3, "resolution": (8, 8, 8), **more}
    place = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "file", "path": str(path)}}
    metadata = {"type": "image", "data_type": "uint8", "num_channels": 1}
    _with_tensorstore({**place, "scale_metadata": scale, "multiscale_metadata": metadata}, values)


def _sharded(path: Path, values: np.ndarray) -> None:
    bits = {"preshift_bits": 1, "minishard_bits": 1, "shard_bits": 3, "hash": "identity"}
    kinds = {"minishard_index_encoding": "raw", "data_encoding": "raw"}
    _precomputed(path, values, sharding={"@type": "neuroglancer_uint64_sharded_v1", **bits, **kinds})


def _wkw(path: Path, values: np.ndarray) -> None:
    """Cubes of 2 x 2 x 2 blocks, those without a voxel left out."""
    folder, side = path / "color" / "1", 2 * CHUNK
    folder.mkdir(parents=True)
    head = b"WKW\1" + struct.pack("<BBBBQ", 1 << 4 | 3, 1, 1, 1, 16)
    (folder / "header.wkw").write_bytes(head)
    padded = np.pad(values, [(0, -n % side) for n in SHAPE])
    for cube in product(*(range(n // side) for n in padded.shape)):
        inside = padded[tuple(slice(k * side, (k + 1) * side) for k in cube)]
        if inside.any():
            blocks = [b""] * 8
            for z, y, x in product(range(2), repeat=3):
                block = inside[tuple(slice(k * CHUNK, (k + 1) * CHUNK) for k in (z, y, x))]
                blocks[morton((x, y, z), (2, 2, 2))] = block.tobytes()
            file = folder / f"z{cube[0]}" / f"y{cube[1]}" / f"x{cube[2]}.wkw"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(head + b"".join(blocks))
    box = dict(zip(("topLeft", "width", "height", "depth"), ([0, 0, 0], *SHAPE[::-1]), strict=True))
    layer = {"name": "color", "dataFormat": "wkw", "category": "color", "boundingBox": box}
    about = {"dataLayers": [{**layer, "wkwResolutions": [{"resolution": 1}]}], "scale": [1, 1, 1]}
    (path / "datasource-properties.json").write_text(json.dumps(about))


MAKERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "n5": _n5,
    "precomputed": _precomputed,
    "sharded": _sharded,
    "wkw": _wkw,
}


def _values(share: float) -> np.ndarray:
    """Numbers in a share of the chunks, zeros in the others."""
    there = RNG.random([n // CHUNK for n in SHAPE]) < share
    return (RNG.integers(1, 255, SHAPE) * np.kron(there, np.ones((CHUNK,) * 3, int))).astype("u1")


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_missing_chunks_are_zeros(name: str, share: float, tmp_path: Path) -> None:
    values, path = _values(share), tmp_path / f"a.{name}"
    MAKERS[name](path, values)
    image = imload(path, chunks=None)["image"].squeeze()
    for part in (np.s_[:, :, :], np.s_[3:24, 1:39, 5:31], np.s_[:, 10:11, :], np.s_[::2, ::3, 4], np.s_[7:9, 7:9, 7:9]):
        np.testing.assert_array_equal(image[part].values, values[part])


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_missing_is_not_looked_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, path = np.zeros(SHAPE, "u1"), tmp_path / f"a.{name}"
    values[9, 9, 9] = 7
    MAKERS[name](path, values)
    image = imload(path, chunks=None)["image"].squeeze()
    np.asarray(image[:1, :1, :1])  # what is read of the metadata
    opened: list[str] = []
    descriptor = File.descriptor
    monkeypatch.setattr(File, "descriptor", lambda self: opened.append(self.path) or descriptor(self))
    np.testing.assert_array_equal(image.values, values)
    assert 1 <= len(opened) <= 8  # of 60 chunks


def test_a_file_of_many_chunks_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, path = _values(1.0), tmp_path / "a.wkw"
    values[:16, :16, :16] = 0  # a cube
    _wkw(path, values)
    url = f"memory://{uuid.uuid4().hex}/{path.name}"
    fsspec.filesystem("memory").put(str(path), url, recursive=True)
    image = imload(url, chunks=None)["image"].squeeze()
    asked: list[str] = []
    opened = File.open
    monkeypatch.setattr(File, "open", lambda self: asked.append(self.path) or opened(self))
    np.testing.assert_array_equal(image.values, values)
    assert len(asked) == len(set(asked)) == 12
