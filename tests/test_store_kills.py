"""Results of patches and colocalization: writers that are killed, meet a full disk, or write to one name together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from thoroughness import THOROUGH

from intake_img import imload
from intake_img.errors import TargetExistsError
from intake_img.storage.files import File
from intake_img.storage.staging import staging_folder

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parent
IMAGE = xr.DataArray(np.arange(1, 4097, dtype="u2").reshape(4, 32, 32), dims=["t", "y", "x"], name="image")
PATCHES = IMAGE.img.patches({"y": 16, "x": 16})
OPTIONS = {"batch_size": 4, "chunks": {"t": 1, "y": 32, "x": 32}, "model_id": "m"}


def interrupted(target: Path, after: int = 8, **options) -> Path:
    """Leave a run after some patches; return its folder."""
    seen = []

    def model(batch):
        seen.append(len(batch))
        if sum(seen) > after:
            raise KeyboardInterrupt
        return batch

    with pytest.raises(KeyboardInterrupt):
        PATCHES.map(model, store=target, **OPTIONS, **options)
    return Path(staging_folder(File.parse(target)))


def test_writers_stopped_at_system_calls(tmp_path: Path) -> None:
    """Some calls of the campaign of `store_laws`; the process fails if the law is broken."""
    command = [sys.executable, "-W", "ignore", str(HERE / "store_laws.py"), str(tmp_path), "25" if THOROUGH else "61"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("loss", ["gone", "empty", "cut"])
def test_a_mark_counts_only_with_its_block(loss: str, tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    folder = interrupted(target)
    chunks = sorted(p for p in (folder / ".~store/0/c").rglob("*") if p.is_file())
    assert len(chunks) == len(os.listdir(folder / ".~done")) == 2
    content = chunks[0].read_bytes()
    chunks[0].unlink() if loss == "gone" else chunks[0].write_bytes(b"" if loss == "empty" else content[:-1])
    seen = []
    out = PATCHES.map(lambda b: [seen.append(len(b)), b][1], store=target, resume=True, **OPTIONS)
    np.testing.assert_array_equal(out.image.values, IMAGE.values)
    assert sum(seen) == 12  # of three blocks, the lost one and two that were not there


def test_blocks_of_the_fill_value_need_no_file(tmp_path: Path) -> None:
    target, blank, seen = tmp_path / "o.zarr", IMAGE * np.uint16(0), []
    folder = staging_folder(File.parse(target))

    def model(batch):
        seen.append(len(batch))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return batch

    p = blank.img.patches({"y": 16, "x": 16})
    with pytest.raises(KeyboardInterrupt):
        p.map(model, store=target, **OPTIONS)
    assert len(os.listdir(Path(folder) / ".~done")) == 2
    p.map(model, store=target, resume=True, **OPTIONS)
    assert sum(seen[3:]) == 8
    assert not imload(target).image.values.any()


def test_the_old_result_stays_while_a_replacement_is_begun_again(tmp_path: Path) -> None:
    target = tmp_path / "o.zarr"
    PATCHES.map(lambda b: b + 1, store=target, **{**OPTIONS, "model_id": "old"})
    for options in ({}, {}, {"resume": True}, {}):
        interrupted(target, 4, overwrite=True, **options)
        np.testing.assert_array_equal(imload(target).image.values, IMAGE.values + 1)
    seen = []
    again = {**OPTIONS, "overwrite": True, "resume": True}
    out = PATCHES.map(lambda b: [seen.append(len(b)), b][1], store=target, **again)
    np.testing.assert_array_equal(out.image.values, IMAGE.values)
    assert sum(seen) == 12
    PATCHES.map(lambda b: [seen.append(len(b)), b][1], store=target, **again)
    assert sum(seen) == 12  # finished already
    assert os.listdir(tmp_path) == ["o.zarr"]


def test_without_a_result_a_reader_is_told_how_to_go_on(tmp_path: Path) -> None:
    interrupted(tmp_path / "o.zarr")
    with pytest.raises(ValueError, match=r"interrupted.*resume=True"):
        imload(tmp_path / "o.zarr")


def test_two_writers_of_a_result(tmp_path: Path) -> None:
    target, said = tmp_path / "o.zarr", []

    def model(batch):
        if not said:
            for options in ({}, {"resume": True}):
                with pytest.raises(TargetExistsError, match="being written by another process") as info:
                    PATCHES.map(lambda b: b + 2, store=target, **OPTIONS, **options)
                said.append(info.value)
            PATCHES.map(lambda b: b + 2, store=target, overwrite=True, **OPTIONS)
            np.testing.assert_array_equal(imload(target).image.values, IMAGE.values + 2)
        return batch

    first = {**OPTIONS, "model_id": "first"}
    with pytest.raises(TargetExistsError, match=r"o\.zarr exists"):  # made meanwhile: it is not replaced
        PATCHES.map(model, store=target, **first)
    np.testing.assert_array_equal(imload(target).image.values, IMAGE.values + 2)
    out = PATCHES.map(lambda b: 1 / 0, store=target, resume=True, overwrite=True, **first)  # nothing is lost
    np.testing.assert_array_equal(out.image.values, IMAGE.values)
    assert os.listdir(tmp_path) == ["o.zarr"]


def test_a_set_of_shards_is_replaced_as_one(tmp_path: Path) -> None:
    PATCHES.to_webdataset(tmp_path / "s-%02d.tar", 2)
    (tmp_path / "s-other.tar").touch()
    with pytest.raises(TargetExistsError, match=r"s-00\.tar exists"):
        PATCHES.to_webdataset(tmp_path / "s-%02d.tar", 8)
    files = PATCHES.to_webdataset(tmp_path / "s-%02d.tar", 8, overwrite=True)
    assert [os.path.basename(f) for f in files] == ["s-00.tar", "s-01.tar"]
    assert sorted(os.listdir(tmp_path)) == ["s-00.tar", "s-01.tar", "s-other.tar"]
    with pytest.raises(ValueError, match="in a folder"):
        PATCHES.to_webdataset(tmp_path / "%d" / "s.tar")
