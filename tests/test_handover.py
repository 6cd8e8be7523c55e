"""A file that is opened to choose its format is the one that is read, and never stays open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from intake_img import imload
from intake_img.formats.handover import handing_over, leave, stamp_before, taken
from intake_img.formats.registry import find_format, formats
from intake_img.storage.files import File

pytest.importorskip("h5py")


@dataclass
class Opened:
    file: File
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def file(tmp_path: Path) -> File:
    (tmp_path / "a").write_bytes(b"1")
    return File.parse(tmp_path / "a")


def left(file: File) -> Opened:
    stamp = stamp_before(file)
    opened = Opened(file)
    leave(opened, stamp)
    return opened


def test_what_is_left_is_taken_once_and_else_closed(file: File) -> None:
    assert left(file).closed == 1  # nobody would take it
    with handing_over():
        first = left(file)
        assert taken(File.parse(file.path)) is first
        assert taken(file) is None
        older, newer = left(file), left(file)
        assert (older.closed, newer.closed) == (1, 0)
        assert taken(file.sibling("b")) is None
    assert (first.closed, older.closed, newer.closed) == (0, 1, 1)
    assert taken(file) is None


def test_a_file_that_was_replaced_is_not_handed_over(file: File) -> None:
    with handing_over():
        opened = left(file)
        other = f"{file.path}.other"
        Path(other).write_bytes(b"22")
        os.replace(other, file.path)
        assert taken(file) is None
    assert opened.closed == 1


@pytest.mark.parametrize("driver", ["ims", "emd", "hdf5"])
def test_hdf5_is_opened_once(driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intake_img.formats.h5.file import H5File

    path, _ = formats()[driver].sample(str(tmp_path))
    opened: list[H5File] = []
    start: Any = H5File.__init__

    def counted(self: H5File, file: File) -> None:
        start(self, file)
        opened.append(self)

    monkeypatch.setattr(H5File, "__init__", counted)
    ds = imload(path)
    assert ds.attrs["driver"] == driver
    assert len(opened) == 1
    assert opened[0].local.id.valid
    ds.close()
    with handing_over():
        find_format(File.parse(path))
    assert not any(h5.local.id.valid for h5 in opened)
