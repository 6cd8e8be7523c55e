"""Local Zarr arrays of which most chunks are missing: existing ones are found by listings of folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from intake_img import imload
from intake_img.formats.omezarr.present import existing
from intake_img.storage.files import File

zarr = pytest.importorskip("zarr")

LAYOUTS = [(3, "/"), (3, "."), (2, "/"), (2, ".")]
GRID, CHUNK = (12, 20, 20), (1, 8, 8)
WRITTEN = [(0, 0, 0), (0, 19, 3), (5, 7, 19), (11, 19, 19), (11, 10, 0)]


def _sparse(path: Path, version: int, separator: str) -> np.ndarray:
    """Write an array with few chunks, and return its values; a folder and a file of others lie between them."""
    encoding = {"name": "default" if version == 3 else "v2", "separator": separator}
    shape = tuple(n * c for n, c in zip(GRID, CHUNK, strict=True))
    array = zarr.create_array(
        str(path), shape=shape, chunks=CHUNK, dtype="u1", zarr_format=version, fill_value=7, chunk_key_encoding=encoding
    )
    values = np.full(shape, 7, "u1")
    for number, (z, y, x) in enumerate(WRITTEN):
        part = z, slice(8 * y, 8 * y + 8), slice(8 * x, 8 * x + 8)
        array[part] = values[part] = 20 + number
    (path / "0.x").write_bytes(b"of others")
    return values


@pytest.mark.parametrize(("version", "separator"), LAYOUTS)
def test_only_existing_chunks_are_opened(version: int, separator: str, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.zarr"
    values = _sparse(path, version, separator)
    ds = imload(path, chunks=None)
    opened: list[str] = []
    descriptor = File.descriptor
    monkeypatch.setattr(File, "descriptor", lambda self: (opened.append(self.path), descriptor(self))[1])
    image = next(iter(ds.data_vars.values()))
    np.testing.assert_array_equal(image.values, values)
    chunks = [name for name in opened if name[-1].isdigit()]
    assert len(chunks) <= 2 * len(WRITTEN), "each missing chunk was asked for"


@pytest.mark.parametrize(("version", "separator"), LAYOUTS)
def test_regions(version: int, separator: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    values = _sparse(path, version, separator)
    ds = imload(path, chunks=None)
    image = next(iter(ds.data_vars.values()))
    rng = np.random.default_rng(0)
    for _ in range(40):
        low, high = np.sort(rng.integers(0, np.add(values.shape, 1), (2, 3)), axis=0)
        part = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        np.testing.assert_array_equal(image[part].values, values[part])


def test_no_folder_of_chunks(tmp_path: Path) -> None:
    """All chunks are missing: their folder as well."""
    path = tmp_path / "a.zarr"
    values = _sparse(path, 3, "/")
    shutil.rmtree(path / "c")
    image = next(iter(imload(path, chunks=None).data_vars.values()))
    np.testing.assert_array_equal(image.values, np.full_like(values, 7))


def test_where_to_ask_is_as_cheap(tmp_path: Path) -> None:
    """For few chunks, and in a folder of many others, nothing is listed to its end."""
    folder = File(str(tmp_path))
    for k in range(2000):
        (tmp_path / f"{k}.0").touch()
    key = "{0[0]}.{0[1]}".format
    assert existing(folder, key, [range(3), range(3)]) is None
    assert existing(folder, key, [range(64), range(1)]) is None, "2000 names for 64 places"
    assert existing(folder, key, [range(5, 1500), range(1)]) == [(k, 0) for k in range(5, 1500)]
    assert existing(folder, key, [range(1990, 2100), range(1)]) is None
