"""Staging folders on a local disk: whose they are, what a dead writer left, and when a journal is needed."""

from __future__ import annotations

import os

import pytest

from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.storage import local
from intake_img.storage.files import File
from intake_img.storage.staging import UnfinishedCommitError, begin, staging_folder


@pytest.fixture
def target(tmp_path) -> File:
    return File.parse(tmp_path / "a.npy")


def left(target: File, token: str | None, slot: int = 0) -> str:
    """Return the staging folder of a writer that was killed; without a token it had no plan yet."""
    folder = staging_folder(target, slot)
    os.makedirs(folder)
    with open(os.path.join(folder, local.LOCK), "wb"), open(os.path.join(folder, "half"), "wb"):
        pass
    if token is not None:
        with open(os.path.join(folder, local.PLAN), "w") as stream:
            stream.write(f'{{"token": "{token}", "facts": {{"n": 1}}}}')
    return folder


def put(staging: local.LocalStaging, name: str, content: bytes) -> None:
    with staging.member(name) as path, open(path, "wb") as stream:
        stream.write(content)


def test_the_folder_is_named_by_its_target(target):
    assert os.path.basename(staging_folder(target)) == ".a.npy.partial"
    assert os.path.basename(staging_folder(target, 1)) == ".a.npy~1.partial"
    assert os.path.dirname(staging_folder(target)) == target.parent.path


def test_names_stay_below_the_limit_of_file_systems(target):
    fits, long, other = (File.parse(target.parent.path + "/" + name) for name in ("é" * 123, "é" * 123 + "a", "é" * 124))
    assert os.path.basename(staging_folder(fits)) == f".{'é' * 123}.partial"  # 255 bytes
    names = [os.path.basename(staging_folder(file)) for file in (long, other)]
    assert len(set(names)) == 2
    assert all(250 < len(os.fsencode(name)) <= 255 for name in names)


@pytest.mark.parametrize("resume", [False, True])
def test_a_dead_writer_without_a_plan_leaves_nothing_to_wait_for(target, resume):
    folder = left(target, None)
    with begin(target, resume=resume, token="mine") as staging:
        assert staging.folder.path == folder
        assert os.listdir(folder) == [local.LOCK]
        put(staging, "a.npy", b"new")
        staging.commit()
    assert os.listdir(target.parent.path) == ["a.npy"]


def test_an_interrupted_write_is_resumed_by_its_token(target):
    folder = left(target, "mine")
    with begin(target, resume=True, token="mine") as staging:
        assert (staging.folder.path, staging.noted) == (folder, {"n": 1})
        assert "half" in staging.finished()
        put(staging, "a.npy", b"new")
        staging.commit(["a.npy"])
    assert target.read(10) == b"new"


def test_an_interrupted_write_is_not_replaced_without_a_word(target):
    left(target, "other")
    with pytest.raises(TargetExistsError, match="was interrupted: pass resume=True"):
        begin(target, token="mine")
    with pytest.raises(CannotWriteError, match="of another image or had other settings"):
        begin(target, resume=True, token="mine")
    with begin(target, overwrite=True, token="mine") as staging:
        assert not staging.finished() - {local.LOCK}


def test_one_new_file_needs_no_journal(target, monkeypatch):
    monkeypatch.setattr(local, "journal_file", lambda target: pytest.fail("a journal is written"))
    monkeypatch.setattr(local, "settle_local", lambda target: None)
    with begin(target) as staging:
        put(staging, "a.npy", b"new")
        staging.commit()
    assert target.read(10) == b"new"


@pytest.mark.parametrize("names", [["a.npy"], ["a.npy", "a.npy.json"]])
@pytest.mark.parametrize("old", [False, True])
def test_new_data_are_flushed_only_before_old_ones_are_removed(target, monkeypatch, names, old):
    flushed = []
    monkeypatch.setattr(local, "flush", flushed.append)
    if old:
        with open(target.path, "wb") as stream:
            stream.write(b"old")
    with begin(target, overwrite=True) as staging:
        for name in names:
            put(staging, name, b"new")
        expected = staging.folder.path if len(names) > 1 else staging.path("a.npy")
        staging.commit()
    assert flushed == ([expected] if old else [])
    assert target.read(10) == b"new"


def test_the_folder_of_an_unfinished_commit_is_not_swept(target, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "_place", full)
    with pytest.raises(UnfinishedCommitError), begin(target) as staging:
        for name in ("a.npy", "a.npy.json"):
            put(staging, name, b"new")
        staging.commit()
    monkeypatch.undo()
    local.sweep_local(target)
    assert {"a.npy", "a.npy.json"} <= set(os.listdir(staging_folder(target)))
    other = left(target, None, slot=1)
    local.sweep_local(target)
    assert not os.path.exists(other)
    local.settle_local(target)
    assert sorted(os.listdir(target.parent.path)) == ["a.npy", "a.npy.json"]
