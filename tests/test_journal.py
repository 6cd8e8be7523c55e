"""Journals of commits: what a reader finds of an image that is being written, locally and on servers."""

from __future__ import annotations

import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from intake_img.storage.files import File
from intake_img.storage.journal import (
    COMMITS,
    Journal,
    current_names,
    find_journals,
    is_bookkeeping,
    journal_file,
    located,
    moved,
    read_journal,
    resolve,
)

STAGING = ".a.tif.0123.partial"


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    """A folder with a commit that runs: b.tif is still staged, a.tif has its place already, old.tif is to go."""
    root = str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    journal = Journal("a.tif", STAGING, ("a.tif", "b.tif"), ("old.tif",), "token")
    files = {"a.tif": b"A", "old.tif": b"O", "other.tif": b"X", f"{STAGING}/b.tif": b"B"}
    base = File.parse(f"{root}/a.tif")
    files[f"{COMMITS}/{journal_file(base).name}"] = journal.dumps()
    for name, content in files.items():
        with fsspec.open(f"{root}/{name}", "wb", auto_mkdir=True) as stream:
            stream.write(content)
    return File.parse(root)


def names_in(folder):
    return ["a.tif", "old.tif", "other.tif", STAGING, COMMITS]


def test_the_journal_of_a_target_is_found(folder):
    journal = read_journal(folder / "a.tif")
    assert (journal.target, journal.names, journal.superseded, journal.token) == (
        "a.tif",
        ("a.tif", "b.tif"),
        ("old.tif",),
        "token",
    )
    assert read_journal(folder / "b.tif") is None
    assert find_journals(folder) == [journal]
    assert find_journals(folder / "nothing") == []


def test_a_reader_sees_the_new_image(folder):
    assert sorted(set(current_names(folder, names_in(folder))) - {STAGING, COMMITS}) == ["a.tif", "b.tif", "other.tif"]
    assert current_names(folder, ["a.tif", "old.tif"]) == ["a.tif", "old.tif"]  # no commit runs


def test_files_that_are_staged_are_read_where_they_are(folder):
    assert resolve(folder / "b.tif").path == (folder / STAGING / "b.tif").path
    for name in ("a.tif", "other.tif"):
        assert resolve(folder / name).path == (folder / name).path
    paths = [(folder / name).path for name in ("a.tif", "b.tif", "other.tif")]
    assert located(paths, folder) == [paths[0], (folder / STAGING / "b.tif").path, paths[2]]


def test_a_file_of_the_old_image_is_gone(folder):
    with pytest.raises(FileNotFoundError, match=r"old\.tif no longer exists: the image .*a\.tif was written again"):
        located([(folder / name).path for name in ("a.tif", "old.tif")], folder)


def test_a_staged_path_leads_to_the_file_after_the_commit(folder):
    staged = folder / STAGING / "b.tif"
    assert moved(staged).path == staged.path
    assert moved(folder / STAGING / "a.tif").path == (folder / "a.tif").path
    assert moved(folder / "nothing.tif").path == (folder / "nothing.tif").path


def test_the_names_of_bookkeeping():
    assert is_bookkeeping(COMMITS)
    assert is_bookkeeping(STAGING)
    assert not any(map(is_bookkeeping, ("a.tif", ".partial", "a.partial", ".hidden", f"{COMMITS}.tif")))
    # a part of the layout on disk: writers and readers of different versions find each other's journals by this name
    assert journal_file(File.parse("/x/a.tif")).name == "e5f629cfc6f7f2535e5dc126.json"


def test_no_commit_runs_on_a_web_server():
    assert find_journals(File.parse("http://localhost:9/folder")) == []  # nothing listens there, nothing is asked


@pytest.mark.parametrize("folder", ["memory"], indirect=True)
def test_listings_of_servers_are_read_anew(folder, monkeypatch):
    listings, listed = {}, MemoryFileSystem.ls

    def ls(self, path, detail=True, **options):
        if path not in listings:
            listings[path] = listed(self, path, detail=detail, **options)
        return listings[path]

    monkeypatch.setattr(MemoryFileSystem, "ls", ls)
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda self, path=None: listings.clear())
    paths = [(folder / "b.tif").path]
    fs, root = folder.filesystem()
    journal = f"{root}/{COMMITS}/{journal_file(folder / 'a.tif').name}"
    fs.mv(journal, f"{root}/aside")
    assert find_journals(folder) == []
    fs.mv(f"{root}/aside", journal)
    assert len(find_journals(folder)) == 1
    assert located(paths, folder) != paths
    fs.mv(f"{root}/{STAGING}/b.tif", f"{root}/b.tif")
    assert located(paths, folder) == paths
    fs.rm(f"{root}/{COMMITS}", recursive=True)
    assert find_journals(folder) == []
