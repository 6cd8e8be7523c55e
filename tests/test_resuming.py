"""Law: what an interrupted write has completed is neither computed nor sent again; the result is the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError
from intake_img.storage.files import File
from intake_img.storage.staging import staging_folder

VALUES = np.arange(9 * 8 * 8, dtype="u2").reshape(9, 8, 8)


class Planes:
    """A lazy image that notes which planes are computed; one of them fails, at first, as soon as another is written."""

    def __init__(self, written: Callable[[], Any]) -> None:
        self.computed: list[int] = []
        self.broken, self.written = True, written

    def plane(self, block_info: Any = None) -> np.ndarray:
        k = block_info[None]["chunk-location"][0]
        if k == 6 and self.broken:
            while not self.written():
                time.sleep(0.001)
            raise OSError(28, "No space left on device")
        self.computed.append(k)
        return VALUES[k : k + 1]

    def image(self) -> xr.Dataset:
        chunks = ((1,) * 9, (8,), (8,))
        lazy = da.map_blocks(self.plane, chunks=chunks, dtype="u2", meta=np.empty((0, 0, 0), "u2"))
        return xr.Dataset({"image": (("t", "y", "x"), lazy)})


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects whose content is sent to S3."""
    s3fs, names = pytest.importorskip("s3fs"), []
    call = s3fs.S3FileSystem._call_s3

    def counted(self: Any, method: str, *args: Any, **options: Any) -> Any:
        if method in ("put_object", "create_multipart_upload"):
            names.append(options["Key"])
        return call(self, method, *args, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    return names


def test_files_of_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "f.npy"
    folder = Path(staging_folder(File.parse(target)))
    planes = Planes(lambda: list(folder.glob("f.t_*.npy")))
    with pytest.raises(OSError, match="no space left"):
        imsave(planes.image(), target, partition="yx")
    whole = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.glob("f.*.npy")}
    assert whole
    planes.broken, planes.computed = False, []
    imsave(planes.image(), target, partition="yx", resume=True)
    first = min(int(name[len("f.t_")]) for name in whole)  # it is compared with its file
    assert sorted(planes.computed) == [k for k in range(9) if f"f.t_{k}.npy" not in whole or k == first]
    after = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in tmp_path.glob("f.*.npy")}
    assert len(after) == 9
    assert {name: after[name] for name in whole} == whole
    assert not list(tmp_path.glob(".*"))
    np.testing.assert_array_equal(imload(target).image, VALUES)


class Stopped(Exception):
    pass


def stopped_after(files: int) -> Callable[[int], None]:
    left = iter(range(files))

    def progress(_: int) -> None:
        if next(left, None) is None:
            raise Stopped

    return progress


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("extension", [".npy", ".tif", ".bin", ".h5", ".zarr"])
def test_other_pixels_do_not_resume_a_write(tmp_path: Path, extension: str, lazily: bool) -> None:
    """Else the first files would have the pixels of one image, the others those of another one."""

    def image(values: np.ndarray) -> xr.Dataset:
        ds = xr.Dataset({"image": (("t", "c", "y", "x"), values)}, coords={"c": ["a"]})
        return ds.chunk(t=1) if lazily else ds

    values = VALUES[:, None].astype("f4")
    values[:, 0, 0, 0] = np.nan
    target, axes = tmp_path / f"f{extension}", "yx" if extension == ".npy" else "xy"
    with pytest.raises(Stopped):
        imsave(image(values), target, partition=axes, progress=stopped_after(2))
    with pytest.raises(CannotWriteError, match="of another image or had other settings"):
        imsave(image(values + 1), target, partition=axes, resume=True)
    imsave(image(values), target, partition=axes, resume=True)
    np.testing.assert_array_equal(imload(target).image.values, values)
    assert not list(tmp_path.glob(".*"))


def test_other_pixels_do_not_resume_patches(tmp_path: Path) -> None:
    def patches(values: np.ndarray) -> Any:
        return xr.DataArray(values, dims=list("tyx"), name="image").img.patches({"y": 4, "x": 4})

    seen: list[int] = []

    def stops(batch: np.ndarray) -> np.ndarray:
        seen.append(len(batch))
        if len(seen) == 5:
            raise Stopped
        return batch

    options: dict[str, Any] = {"store": tmp_path / "p.zarr", "model_id": "m", "batch_size": 4, "chunks": {"t": 1}}
    with pytest.raises(Stopped):
        patches(VALUES).map(stops, **options)
    with pytest.raises(ValueError, match="source"):
        patches(VALUES + np.uint16(1)).map(lambda batch: batch, resume=True, **options)
    patches(VALUES.copy()).map(lambda batch: batch, resume=True, **options)
    np.testing.assert_array_equal(imload(tmp_path / "p.zarr").image, VALUES)


def test_a_source_that_was_replaced_does_not_resume_a_write(tmp_path: Path) -> None:
    source, target = tmp_path / "source.npy", tmp_path / "f.tif"
    imsave(VALUES, source)
    with pytest.raises(Stopped):
        imsave(imload(source), target, partition="yx", progress=stopped_after(2))
    imsave(VALUES[::-1], source, overwrite=True)
    with pytest.raises(CannotWriteError, match="of another image"):
        imsave(imload(source), target, partition="yx", resume=True)
    imsave(imload(source), target, partition="yx", overwrite=True)
    np.testing.assert_array_equal(imload(target).image.values, VALUES[::-1])


def test_files_on_a_server(s3: dict[str, Any], sent: list[str]) -> None:
    url = "s3://images/files/f.npy"
    planes = Planes(lambda: any(name.endswith(".npy") for name in sent))
    with pytest.raises(OSError, match="no space left"):
        imsave(planes.image(), url, partition="yx", storage_options=s3)
    first = {name.rpartition("/")[2] for name in sent if name.endswith(".npy")}
    assert first
    planes.broken, planes.computed = False, []
    sent.clear()
    imsave(planes.image(), url, partition="yx", resume=True, storage_options=s3)
    second = sorted(name.rpartition("/")[2] for name in sent if name.endswith(".npy"))
    again = min(first)  # it is compared with its file
    assert sorted([*second, again]) == [f"f.t_{k}.npy" for k in sorted(planes.computed)]
    assert first.isdisjoint(second)
    assert len(first) + len(second) == 9
    np.testing.assert_array_equal(imload(url, storage_options=s3).image, VALUES)


def test_blocks_of_patches_on_a_server(s3: dict[str, Any], sent: list[str]) -> None:
    """Each chunk of the result is sent once, by the run that completes it."""
    values = VALUES + np.uint16(1)
    patches = xr.DataArray(values, dims=list("tyx"), name="image").img.patches({"y": 4, "x": 4})
    options = {"chunks": {"t": 1, "y": 8, "x": 8}, "batch_size": 4, "model_id": "m", "storage_options": s3}
    url, seen = "s3://images/p.zarr", []

    def model(batch: np.ndarray) -> np.ndarray:
        seen.append(len(batch))
        if len(seen) == 5:
            raise KeyboardInterrupt
        return batch

    with pytest.raises(KeyboardInterrupt):
        patches.map(model, store=url, **options)
    first = [name.partition("/c/")[2] for name in sent if "/c/" in name]
    sent.clear()
    patches.map(model, store=url, resume=True, **options)
    second = [name.partition("/c/")[2] for name in sent if "/c/" in name]
    assert first
    assert sorted([*first, *second]) == [f"{k}/0/0" for k in range(9)]
    np.testing.assert_array_equal(imload(url, storage_options=s3).image, values)
