"""Symbolic links as targets: the link stays, and what it leads to is written, as by `numpy.save` and tifffile."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

OLD = xr.Dataset({"image": (("z", "y", "x"), np.arange(24, dtype="u2").reshape(2, 3, 4))})
NEW = OLD + np.uint16(100)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Where the link is, and where it leads to."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    try:
        (tmp_path / "probe").symlink_to(there)
    except OSError:
        pytest.skip("this user may not make links")
    return here, there


def values(path: Path) -> np.ndarray:
    return imload(path).image.values


@pytest.mark.parametrize(
    ("name", "delayed"),
    [*((f"a.{ending}", False) for ending in ("npy", "tif", "bin", "zarr", "zarr.zip")), ("a.zarr", True)],
)
def test_what_a_link_leads_to_is_replaced(folders: tuple[Path, Path], name: str, delayed: bool) -> None:
    link, real = folders[0] / name, folders[1] / f"b{name[1:]}"
    imsave(OLD, real)
    link.symlink_to(real)
    with pytest.raises(TargetExistsError):
        imsave(NEW, link)
    np.testing.assert_array_equal(values(real), OLD.image)
    staged: list[str] = []

    def look(_: int) -> None:
        staged.extend(n for n in os.listdir(folders[1]) if n.endswith(".partial"))

    if delayed:
        made = imsave(NEW, link, overwrite=True, compute=False).compute(scheduler="sync")
    else:
        made = imsave(NEW, link, overwrite=True, progress=look)
        assert staged, "beside the real file, which may be on another file system"
    assert str(real) in made
    assert os.readlink(link) == str(real)
    np.testing.assert_array_equal(values(real), NEW.image)
    assert os.listdir(folders[0]) == [name]
    assert not [n for n in os.listdir(folders[1]) if n.startswith(".")]


def test_a_link_to_nothing_is_filled(folders: tuple[Path, Path]) -> None:
    (folders[0] / "a.tif").symlink_to("../there/new.tif")
    imsave(NEW, folders[0] / "a.tif")
    np.testing.assert_array_equal(values(folders[1] / "new.tif"), NEW.image)
    assert (folders[0] / "a.tif").is_symlink()


def test_the_image_itself_may_be_read_through_the_link(folders: tuple[Path, Path]) -> None:
    imsave(OLD, folders[1] / "a.zarr")
    (folders[0] / "a.zarr").symlink_to(folders[1] / "a.zarr")
    imsave(imload(folders[0] / "a.zarr") + np.uint16(100), folders[0] / "a.zarr", overwrite=True)
    np.testing.assert_array_equal(values(folders[1] / "a.zarr"), NEW.image)


@pytest.mark.parametrize("other", ["a.npy", "blob"])
def test_a_link_to_a_name_of_another_format_is_refused(folders: tuple[Path, Path], other: str) -> None:
    (folders[1] / other).write_bytes(b"old")
    (folders[0] / "a.tif").symlink_to(folders[1] / other)
    with pytest.raises(CannotWriteError, match="another extension"):
        imsave(NEW, folders[0] / "a.tif", overwrite=True)
    assert (folders[1] / other).read_bytes() == b"old"


def test_links_in_place_of_the_files_of_a_partition_are_replaced(folders: tuple[Path, Path]) -> None:
    imsave(OLD, folders[1] / "a.tif", partition="yx")
    for k in range(2):
        (folders[0] / f"a.z_{k}.tif").symlink_to(folders[1] / f"a.z_{k}.tif")
    imsave(NEW, folders[0] / "a.tif", partition="yx", overwrite=True)
    np.testing.assert_array_equal(values(folders[0] / "a.tif"), NEW.image)
    np.testing.assert_array_equal(values(folders[1] / "a.tif"), OLD.image)


@pytest.mark.parametrize("folder", [False, True])
def test_other_targets(folders: tuple[Path, Path], folder: bool) -> None:
    """Catalogs, tables, reports, references: all that is written by `replacing`."""
    link, real = folders[0] / "a", folders[1] / "b"
    real.mkdir() if folder else real.write_bytes(b"old")
    link.symlink_to(real)
    with replacing(File.parse(link), overwrite=True, folder=folder) as path:
        Path(path, "x" if folder else "").write_bytes(b"new")
    assert link.is_symlink()
    assert (real / "x" if folder else real).read_bytes() == b"new"


def test_results_of_patches(folders: tuple[Path, Path]) -> None:
    link = folders[0] / "a.zarr"
    link.symlink_to(folders[1] / "a.zarr")
    for factor, overwrite in ((1, False), (2, True)):
        OLD.image.img.patches({"y": 3, "x": 4}).map(lambda batch, f=factor: batch * f, store=link, overwrite=overwrite)
        np.testing.assert_array_equal(values(folders[1] / "a.zarr"), OLD.image * factor)
        assert link.is_symlink()
