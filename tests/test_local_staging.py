"""Staging folders on a local disk: whose they are, what a dead writer left, and when a journal is needed."""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest

from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.storage import local, renames
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
    fits, long, other = (
        File.parse(target.parent.path + "/" + name) for name in ("é" * 123, "é" * 123 + "a", "é" * 124)
    )
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
    assert not local.has_plan(target)
    left(target, None, slot=1)
    assert not local.has_plan(target)
    left(target, "other")
    assert local.has_plan(target)
    with pytest.raises(TargetExistsError, match="was interrupted: pass resume=True"):
        begin(target, token="mine")
    with pytest.raises(CannotWriteError, match="of another image or had other settings"):
        begin(target, resume=True, token="mine")
    with begin(target, overwrite=True, token="mine") as staging:
        assert not staging.finished() - {local.LOCK}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("folder", [False, True])
def test_one_file_or_folder_needs_no_journal(target, monkeypatch, old, folder):
    if old and folder and not exchanges(target.parent.path):
        pytest.skip("this system does not exchange folders")
    if old:
        os.mkdir(target.path) if folder else open(target.path, "wb").close()
    monkeypatch.setattr(local, "journal_file", lambda target: pytest.fail("a journal is written"))
    monkeypatch.setattr(local, "settle_local", lambda target: None)
    monkeypatch.setattr(local, "_journaled", lambda target, path: False)
    with begin(target, overwrite=old) as staging:
        with staging.member("a.npy", folder=folder) as path, open(f"{path}/x" if folder else path, "wb") as stream:
            stream.write(b"new")
        staging.commit()
    assert (target / "x" if folder else target).read(10) == b"new"


def exchanges(folder: str) -> bool:
    one, other = (os.path.join(folder, name) for name in ("one", "other"))
    os.mkdir(one), os.mkdir(other)
    try:
        return renames.exchange(one, other)
    finally:
        os.rmdir(one), os.rmdir(other)


@pytest.mark.parametrize("resume", [False, True])
def test_a_living_writer_is_left_alone(target, resume):
    with begin(target, token="mine") as first:
        with pytest.raises(TargetExistsError, match="being written by another process"):
            begin(target, resume=resume, token="mine")
        with begin(target, overwrite=True) as second:
            assert second.folder.path == staging_folder(target, 1)
        assert os.path.isdir(first.folder.path)


def test_without_locks_a_young_folder_counts_as_living(target, monkeypatch):
    for module in ("fcntl", "msvcrt"):
        monkeypatch.setattr(renames, module, None)
    folder = left(target, None)
    with begin(target, overwrite=True) as staging:
        assert staging.folder.path == staging_folder(target, 1)
    long_ago = os.stat(folder).st_mtime - 3 * 86_400
    for path in (folder, *(os.path.join(folder, name) for name in os.listdir(folder))):
        os.utime(path, (long_ago, long_ago))
    with begin(target, overwrite=True) as staging:
        assert staging.folder.path == folder


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True, "token": "mine"}])
def test_a_folder_may_vanish_while_it_is_looked_at(target, monkeypatch, options):
    """Its writer has just finished."""
    find = local._stagings

    def finished_meanwhile(target):
        for path in find(target):
            yield path
            shutil.rmtree(path, ignore_errors=True)

    left(target, "other")
    monkeypatch.setattr(local, "_stagings", finished_meanwhile)
    with begin(target, **options) as staging:
        put(staging, "a.npy", b"new")
        staging.commit(["a.npy"])
    assert os.listdir(target.parent.path) == ["a.npy"]


def test_without_locks_the_own_folder_is_no_dead_writers(target, monkeypatch):
    for module in ("fcntl", "msvcrt"):
        monkeypatch.setattr(renames, module, None)
    folder = left(target, None)
    os.unlink(os.path.join(folder, "half"))
    for path in (os.path.join(folder, local.LOCK), folder):
        os.utime(path, (0, 0))
    with begin(target) as staging:
        assert staging.folder.path == folder
        put(staging, "a.npy", b"new")
        staging.commit()
    assert os.listdir(target.parent.path) == ["a.npy"]


def test_a_failed_run_can_be_resumed_in_the_same_process(target):
    with contextlib.suppress(KeyError), begin(target, token="mine") as staging:
        staging.note({"n": 2})
        raise KeyError
    with begin(target, resume=True, token="mine") as staging:
        assert staging.noted == {"n": 2}


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


@pytest.mark.parametrize("old", [False, True])
def test_the_folder_of_an_unfinished_commit_is_not_swept(target, monkeypatch, old):
    for path in (target.path, f"{target.path}.json") if old else ():
        open(path, "wb").close()

    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "_place", full)
    staging = begin(target, overwrite=old)
    for name in ("a.npy", "a.npy.json"):
        put(staging, name, b"new")
    with pytest.raises(UnfinishedCommitError):
        staging.commit()
    staging.keep()
    monkeypatch.undo()
    local.sweep_local(target)
    assert {"a.npy", "a.npy.json"} <= set(os.listdir(staging_folder(target)))
    assert os.path.exists(target.path) is old
    assert not os.path.exists(f"{target.path}.json")  # other programs do not take old and new files for one image
    other = left(target, None, slot=1)
    local.sweep_local(target)
    assert not os.path.exists(other)
    local.settle_local(target)
    assert sorted(os.listdir(target.parent.path)) == ["a.npy", "a.npy.json"]
