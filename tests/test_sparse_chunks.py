"""Stores most of whose chunks are missing: zeros where these would be, and no file is looked for chunk by chunk."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import tensorstore as ts
from fsspec.implementations.memory import MemoryFileSystem

from intake_img import imload
from intake_img.formats.chunked import morton
from intake_img.storage import listings
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


class Counted(MemoryFileSystem):
    """An object store that notes what is asked of it, and may refuse to be listed."""

    protocol: ClassVar[tuple[str, ...]] = ("counted", "memory")  # type: ignore[assignment]
    cachable = False
    asked: ClassVar[list[str]] = []
    listed: ClassVar[list[str]] = []
    refuses: ClassVar[bool] = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("counted://"))

    def cat_file(self, path: str, *args: Any, **options: Any) -> Any:
        self.asked.append(path)
        return super().cat_file(path, *args, **options)

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        self.listed.append(path)
        if self.refuses:
            raise PermissionError(path)
        return super().find(path, *args, **options)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    fsspec.register_implementation("counted", Counted, clobber=True)
    for name in ("asked", "listed"):
        monkeypatch.setattr(Counted, name, [])
    monkeypatch.setattr(listings, "_REFUSED", set())
    return Counted


def _zarr(path: Path, values: np.ndarray, **options: Any) -> None:
    import zarr

    array = zarr.create_array(path, shape=values.shape, dtype=values.dtype, fill_value=0, **options)
    array[:] = values


def _zarr_2(path: Path, values: np.ndarray) -> None:
    _zarr(path, values, chunks=(CHUNK,) * 3, zarr_format=2)


def _zarr_3(path: Path, values: np.ndarray) -> None:
    _zarr(path, values, chunks=(CHUNK,) * 3, zarr_format=3)


def _zarr_shards(path: Path, values: np.ndarray) -> None:
    _zarr(path, values, chunks=(4,) * 3, shards=(CHUNK,) * 3, zarr_format=3)


REMOTE = {"n5": _n5, "precomputed": _precomputed, "zarr 2": _zarr_2, "zarr 3": _zarr_3, "zarr shards": _zarr_shards}


def _uploaded(path: Path) -> str:
    url = f"memory://{uuid.uuid4().hex}/{path.name}"
    fsspec.filesystem("memory").put(str(path), url, recursive=True)
    return url.replace("memory", "counted", 1)


def _chunk_requests(counted: type[Counted]) -> list[str]:
    names = (".json", "info", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
    return [path for path in counted.asked if not path.endswith(names)]


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("name", REMOTE)
def test_missing_chunks_of_an_object_store(
    name: str, refuses: bool, tmp_path: Path, counted: Any, monkeypatch: Any
) -> None:
    """One listing instead of a request for each missing chunk; where it is refused, the values are the same."""
    values, path = np.zeros(SHAPE, "u1"), tmp_path / f"a.{name[:4].strip()}"
    values[9, 9, 9] = 7
    REMOTE[name](path, values)
    monkeypatch.setattr(counted, "refuses", refuses)
    image = imload(_uploaded(path), chunks=None)["image"].squeeze()
    np.testing.assert_array_equal(image.values, values)
    assert len(counted.listed) == 1
    asked = _chunk_requests(counted)
    assert len(asked) >= 60 if refuses else len(set(asked)) == 1
    np.testing.assert_array_equal(image.values, values)
    assert len(counted.listed) == (1 if refuses else 2)  # each time anew, unless it was refused


@pytest.mark.parametrize("name", REMOTE)
def test_a_chunk_written_later_is_found(name: str, tmp_path: Path, counted: Any) -> None:
    values = np.zeros(SHAPE, "u1")
    url = ""
    for k, path in enumerate((tmp_path / "a.n5", tmp_path / "b.n5")):
        values[8 * k, 9, 9] = 7
        REMOTE[name](path, values)
        if k == 0:
            url = _uploaded(path)
            image = imload(url, chunks=None)["image"].squeeze()
            np.testing.assert_array_equal(image.values, values)
        else:
            memory = fsspec.filesystem("memory")
            memory.put(f"{path}/", url.replace("counted", "memory", 1), recursive=True)
    np.testing.assert_array_equal(image.values, values)


def test_few_chunks_are_not_listed(tmp_path: Path, counted: Any) -> None:
    values = _values(0.5)
    _n5(tmp_path / "a.n5", values)
    image = imload(_uploaded(tmp_path / "a.n5"), chunks=None)["image"].squeeze()
    np.testing.assert_array_equal(image[:8, :24, :].values, values[:8, :24])
    assert not counted.listed


def test_a_listing_that_takes_long_is_not_made(monkeypatch: pytest.MonkeyPatch, counted: Any) -> None:
    """Of all places of the grid below the folders that the names share, 1000 are listed in one request."""
    folder = File.parse("counted://bucket/a.n5")
    for lead, grid, listed in (
        ("", (10, 10, 10), True),
        ("", (10, 10, 11), False),
        ("5/", (99, 10, 100), True),
        ("5/", (99, 11, 100), False),
    ):
        counted.listed.clear()
        names = [f"{lead}{k}/{n}" if lead else f"{k}/{n}/0" for k in range(2) for n in range(8)]
        found = listings.present(folder, names, grid)
        assert (found is not None, len(counted.listed)) == (listed, int(listed))
    flat = [f"{k}.0.0" for k in range(16)]
    assert listings.present(folder, flat, (10, 10, 10)) == set()
    assert listings.present(folder, flat, (11, 10, 10)) is None
