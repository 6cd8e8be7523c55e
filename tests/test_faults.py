"""What goes wrong while an image is written: the writer is killed, or the disk is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal
from thoroughness import trials

from intake_img import imload, imsave
from intake_img.storage.files import File
from intake_img.storage.staging import staging_folder

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parent
KILLS = trials(12, 6)


def test_killed_writers_leave_nothing_that_opens_as_complete(tmp_path: Path) -> None:
    """The campaign of `killed_writers`, some kills of it; the process fails if a law is broken."""
    command = [sys.executable, str(HERE / "killed_writers.py"), str(tmp_path), str(KILLS), "5"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["kills"] == KILLS


def image(offset: int, planes: int = 4) -> xr.Dataset:
    values = np.random.default_rng(offset).integers(0, 2**16, (planes, 128, 128), "u2")
    return xr.Dataset({"image": (("t", "y", "x"), values)})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB; an image of four planes has 128 KiB, and not three of them fit."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("name", ["f.tif", "f.ome.tif", "f.npz", "f.npy", "f.zarr"])
def test_a_full_disk_is_told_and_leaves_the_old_image_alone(name: str, small_disk: Path) -> None:
    imsave(image(1), small_disk / name, compress=False)
    before = {p: p.read_bytes() for p in small_disk.rglob("*") if p.is_file()}
    for target, overwrite in ((name, True), (f"other-{name}", False)):
        with pytest.raises(OSError, match=f"no space left for .*{target}.* existing data are unchanged"):
            imsave(image(2, 12), small_disk / target, compress=False, overwrite=overwrite)
        assert {p: p.read_bytes() for p in small_disk.rglob("*") if p.is_file()} == before
    assert_array_equal(imload(small_disk / name).image, image(1).image)


@pytest.mark.parametrize("name", ["f.png", "f.tif", "f.zarr"])
def test_parts_on_a_full_disk_leave_the_old_image_alone_and_can_be_resumed(name: str, small_disk: Path) -> None:
    imsave(image(1), small_disk / name, partition="yx", compress=False)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(180 * 1024))
    with pytest.raises(OSError, match="no space left"):
        imsave(image(2), small_disk / name, partition="yx", compress=False, overwrite=True)
    assert_array_equal(imload(small_disk / name).image, image(1).image)
    ballast.unlink()
    imsave(image(2), small_disk / name, partition="yx", compress=False, overwrite=True, resume=True)
    assert_array_equal(imload(small_disk / name).image, image(2).image)
    assert not [p for p in small_disk.iterdir() if p.name.startswith(".")]


def test_parts_that_are_stores_are_replaced(tmp_path: Path) -> None:
    for k in (1, 2):
        imsave(image(k), tmp_path / "f.zarr", partition="yx", overwrite=True)
    assert_array_equal(imload(tmp_path / "f.zarr").image, image(2).image)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_write_that_noted_nothing_yet_can_be_resumed(tmp_path: Path) -> None:
    staging = Path(staging_folder(File.parse(tmp_path / "f.npy")))
    staging.mkdir()
    (staging / "junk").write_bytes(b"half a plan")
    with pytest.raises(FileNotFoundError):
        imload(tmp_path / "f.npy")
    imsave(image(1), tmp_path / "f.npy", partition="yx", resume=True)
    assert_array_equal(imload(tmp_path / "f.npy").image, image(1).image)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_next_write_sweeps_away_what_killed_writers_of_that_file_left(tmp_path: Path) -> None:
    long = "n" * 245 + ".npy"
    for name in ("f.npy", long):
        for slot in (0, 2):
            folder = Path(staging_folder(File.parse(tmp_path / name), slot))
            folder.mkdir()
            (folder / ".~0").write_bytes(b"half")
    kept = Path(staging_folder(File.parse(tmp_path / "g.npy")))
    kept.mkdir()
    imsave(image(1), tmp_path / "f.npy")
    imsave(image(1), tmp_path / long)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([kept.name, "f.npy", long])
