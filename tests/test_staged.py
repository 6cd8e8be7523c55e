"""What every staging folder does, local or remote: what it supersedes and refuses, and what a later run resumes."""

from __future__ import annotations

import contextlib

import pytest

from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.storage.files import File
from intake_img.storage.staged import COMMIT, LOCK, PLAN, Staging, exists_already, other_write


class Recorded(Staging):
    """A staging folder that notes what is done with it."""

    def __init__(self, folder, overwrite=False, token="", claim=None):
        super().__init__(File.parse(str(folder / "a.tif")), File.parse(str(folder)), overwrite, token, claim)
        self.done = []

    @contextlib.contextmanager
    def member(self, name, folder=False):
        yield str(self.folder / name)
        self._made[name] = None

    def _commit(self, names):
        self.done.append(("commit", *names))

    def discard(self):
        self.done.append("discard")

    def keep(self):
        self.done.append("keep")


ERRORS = [None, ValueError(), KeyboardInterrupt(), CannotWriteError("x"), TargetExistsError("x")]


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("token", ["", "token"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_what_can_be_resumed_is_kept(tmp_path, error, token, journal):
    staging = Recorded(tmp_path, token=token)
    assert not staging._journal_written
    staging._journal_written = journal
    refused = isinstance(error, (CannotWriteError, TargetExistsError))
    with contextlib.suppress(BaseException), staging as entered:
        assert entered is staging
        if error is not None:
            raise error
    resumable = error is not None and (journal or (token != "" and not refused))
    assert staging.done == ["keep" if resumable else "discard"]


def test_an_error_is_not_swallowed(tmp_path):
    with pytest.raises(KeyError), Recorded(tmp_path, token="t"):
        raise KeyError


@pytest.mark.parametrize("there", ["a.tif", "a.json"])
def test_without_overwrite_an_existing_target_or_member_is_refused(tmp_path, there):
    staging = Recorded(tmp_path)
    assert staging.simple
    assert staging.superseded(["a.json"]) == []
    (tmp_path / there).write_bytes(b"old")
    with pytest.raises(TargetExistsError, match=rf"{there} exists: .*overwrite=True"):
        staging.superseded(["a.json"])
    with pytest.raises(TargetExistsError):
        staging.put("a.json", b"new")
    assert staging._made == {}
    assert Recorded(tmp_path, overwrite=True).superseded(["a.json"]) == []


def test_the_claim_says_what_is_superseded(tmp_path):
    asked = []

    def claim(names):
        asked.append(list(names))
        return ["x.tif", "b.tif", "x.tif", "y.tif"]

    staging = Recorded(tmp_path, claim=claim)
    assert not staging.simple
    assert staging.superseded(["a.tif", "b.tif"]) == ["x.tif", "y.tif"]  # each once, and no new file
    assert asked == [["a.tif", "b.tif"]]
    (tmp_path / "a.tif").write_bytes(b"old")
    staging.put("a.tif", b"new")  # the claim alone decides, at the beginning and at the commit
    assert asked == [["a.tif", "b.tif"]]
    assert (tmp_path / "a.tif").read_bytes() == b"new"


def test_members_are_committed_in_the_order_in_which_they_were_made(tmp_path):
    staging = Recorded(tmp_path)
    for name in ("b", "a", "c", "b"):
        staging.put(name, b"") if not (tmp_path / name).exists() else None
    assert staging.commit() == [str(File.parse(str(tmp_path / n))) for n in ("b", "a", "c")]
    assert staging.commit(["c", "a"]) == [str(File.parse(str(tmp_path / n))) for n in ("c", "a")]
    assert staging.done == [("commit", "b", "a", "c"), ("commit", "c", "a")]


def test_names_of_bookkeeping_are_no_members():
    assert len({LOCK, PLAN, COMMIT}) == 3
    assert all(name.startswith(".~") for name in (LOCK, PLAN, COMMIT))


def test_errors_say_what_to_do():
    target = File.parse("/x/a.tif")
    assert "pass overwrite=True to replace it" in str(exists_already(target))
    assert "pass overwrite=True, without resume" in str(other_write(target))
