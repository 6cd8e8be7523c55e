"""Local targets: staging folders with locks, commits by one rename if possible, else by a journal."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from intake_img.errors import TargetExistsError
from intake_img.storage.files import File
from intake_img.storage.journal import Journal, journal_file, read_journal
from intake_img.storage.renames import Lock, abandoned, exchange, flush, held, remove_tree, rename_new, synced
from intake_img.storage.replacing import move, replace
from intake_img.storage.staged import (
    COMMIT,
    LOCK,
    PLAN,
    Claim,
    Staging,
    UnfinishedCommitError,
    exists_already,
    other_write,
)

__all__ = ["LocalStaging", "has_plan", "settle_local", "staging_folder", "sweep_local"]


class LocalStaging(Staging):
    """A staging folder on a local file system."""

    _lock: Lock | None = None

    @classmethod
    def begin(cls, target: File, overwrite: bool, resume: bool, token: str, claim: Claim | None) -> LocalStaging:
        """Return a staging folder that this writer has locked; see `begin`."""
        os.makedirs(target.parent.path, exist_ok=True)
        finished = settle_local(target)
        self = cls(target, target, overwrite, token, claim)
        if finished is not None and resume and token and finished.token == token:
            self.completed = finished.names
            return self
        others = list(_stagings(target))
        adopted = self._adopt(others) if resume and token else False
        if not adopted:
            self._refuse_interrupted(others, resume)
            self.superseded(())
            self._occupy()
            _sweep(target, [path for path in others if path != self.folder.path])
        return self

    def _adopt(self, others: Sequence[str]) -> bool:
        """Take over the folder of a dead writer with the same token."""
        other = False
        for path, lock in _locked(others):
            if lock is None:
                continue
            plan = _plan(path)
            if plan is not None and plan["token"] == self.token:
                self.folder, self._lock, self.noted = File(path), lock, plan["facts"]
                return True
            lock.release()
            other |= plan is not None
        if other:
            raise other_write(self.target)
        return False

    def _refuse_interrupted(self, others: Sequence[str], resume: bool) -> None:
        if self.overwrite:
            return
        for path, lock in _locked(others):
            if lock is None or not (resume or abandoned(lock, path)):
                raise TargetExistsError(
                    f"{self.target} is being written by another process right now: choose another name, wait, or pass "
                    "overwrite=True to replace what it writes"
                )
            lock.release()
            if _plan(path) is not None:
                raise TargetExistsError(
                    f"a write of {self.target} was interrupted: pass resume=True to finish it, or overwrite=True to "
                    "start again"
                )

    def _occupy(self) -> None:
        """Take the first folder that no living writer uses, and empty the folders of other dead writers."""
        slot = 0
        while self._lock is None:
            path = staging_folder(self.target, slot)
            fresh = _made(path)
            try:
                lock = _taken(path)
            except FileNotFoundError:  # its writer has just removed it
                continue
            if lock is None or not (fresh or abandoned(lock, path)):
                slot += 1
            elif _journaled(self.target, path):  # its writer has died since the check
                lock.release()
                settle_local(self.target)
            else:
                self.folder, self._lock = File(path), lock
                _clear(path)

    def path(self, name: str) -> str:
        return os.path.join(self.folder.path, name)

    @contextlib.contextmanager
    def member(self, name: str, folder: bool = False) -> Iterator[str]:
        temporary = self.path(f".~{next(self._numbers)}")
        remove_tree(temporary) if os.path.lexists(temporary) else None
        if folder:
            os.mkdir(temporary)
        try:
            yield temporary
            if os.path.lexists(self.path(name)):
                remove_tree(self.path(name))
            move(temporary, self.path(name))
        except BaseException:
            with contextlib.suppress(OSError):
                remove_tree(temporary)
            raise
        self._made[name] = None

    def finished(self) -> set[str]:
        return {name for name in os.listdir(self.folder.path) if not name.startswith(".~")}

    def note(self, facts: Mapping[str, Any]) -> None:
        temporary = self.path(f".~{next(self._numbers)}")
        synced(temporary, json.dumps({"token": self.token, "facts": facts}).encode())
        replace(temporary, self.path(PLAN))
        self.noted = dict(facts)

    def local(self, name: str) -> str:
        return self.path(name)

    def place(self, name: str) -> File:
        os.mkdir(self.path(name))
        return self.folder / name

    def _commit(self, names: list[str]) -> None:
        if self.overwrite and any(os.path.lexists(self.target.sibling(name).path) for name in names):
            flush(self.folder.path if len(names) > 1 else self.path(names[0]))  # before the old data are removed
        if not (self.simple and names == [self.target.name] and self._rename()):
            self._journaled(names)

    def _rename(self) -> bool:
        """Commit the only member in one step; return False if the system cannot."""
        source, target = self.path(self.target.name), self.target.path
        if not self.overwrite:
            try:
                rename_new(source, target)
            except FileExistsError:
                raise exists_already(self.target) from None
            return True
        if not os.path.isdir(source) and not os.path.isdir(target):
            replace(source, target)
            return True
        if exchange(source, target):
            return True
        try:
            rename_new(source, target)
        except FileExistsError:
            return exchange(source, target)
        return True

    def _journaled(self, names: list[str]) -> None:
        file = journal_file(self.target)
        with held(f"{file.path}.lock"):
            _finish_left(self.target)
            old = self.superseded(names)
            journal = Journal(self.target.name, self.folder.name, tuple(names), tuple(old), self.token)
            synced(self.path(COMMIT), journal.dumps())
            self._journal_written = True
            replace(self.path(COMMIT), file.path)
            _finish(self.target, journal, self._lock)
        self._lock = None  # the folder is gone, so its name is free for other writers

    def discard(self) -> None:
        if self._lock is not None:
            _remove(self.folder.path, self._lock)
            self._lock = None

    def keep(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


# staging folders


def staging_folder(target: File, slot: int = 0) -> str:
    """Return the path of a staging folder of a local target."""
    end = f"~{slot}.partial" if slot else ".partial"
    name = f".{target.name}"
    if len(os.fsencode(name + end)) > 255:  # the limit of most file systems
        digest = hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()
        while len(os.fsencode(f"{name}-{digest}{end}")) > 255:
            name = name[:-1]
        name = f"{name}-{digest}"
    return os.path.join(target.parent.path, name + end)


def _stagings(target: File) -> Iterator[str]:
    """Yield the staging folders of a target that exist."""
    for slot in itertools.count():
        path = staging_folder(target, slot)
        if os.path.isdir(path):
            yield path
        elif slot >= _GAP:  # earlier writers may be gone
            return


_GAP = 3


def _made(path: str) -> bool:
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    return True


def _taken(path: str) -> Lock | None:
    """Lock a staging folder; return None if a writer holds the lock.

    Raises
    ------
    FileNotFoundError
        If the folder is gone.
    """
    lock = Lock(os.path.join(path, LOCK))
    return lock if lock.take() else None


def _locked(folders: Iterable[str]) -> Iterator[tuple[str, Lock | None]]:
    """Yield staging folders, but those that are gone meanwhile, each with its lock; None if a writer holds it."""
    for path in folders:
        with contextlib.suppress(FileNotFoundError):
            yield path, _taken(path)


def _journaled(target: File, path: str) -> bool:
    journal = read_journal(target)
    return journal is not None and journal.staging == os.path.basename(path)


def _plan(path: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(path, PLAN), "rb") as stream:
            found = json.loads(stream.read())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) and {"token", "facts"} <= set(found) else None


def has_plan(target: File) -> bool:
    """Return whether there is an unfinished or running write of a local `target` that could be resumed."""
    return any(_plan(path) is not None for path in _stagings(target))


def sweep_local(target: File) -> None:
    """Remove the staging folders that killed writers of a local `target` left."""
    _sweep(target, _stagings(target))


def _sweep(target: File, folders: Iterable[str]) -> None:
    for path, lock in _locked(folders):
        if lock is not None and abandoned(lock, path) and not _journaled(target, path):
            _remove(path, lock)
        elif lock is not None:
            lock.release()


def _clear(path: str) -> None:
    """Empty a staging folder; its plan is removed first, so that no writer resumes a partly removed folder."""
    names = os.listdir(path)
    for name in sorted(names, key=lambda n: n != PLAN):
        if name != LOCK:
            remove_tree(os.path.join(path, name))


def _remove(path: str, lock: Lock) -> None:
    """Remove a staging folder whose lock is held."""
    with contextlib.suppress(OSError):  # the next write to the target removes the rest
        _clear(path)
        lock.release(remove=True)
        os.rmdir(path)
    lock.release()


# commits


def settle_local(target: File) -> Journal | None:
    """Finish the commit of a killed writer of `target`, and return its journal; None if there is none."""
    file = journal_file(target)
    if not os.path.isdir(file.parent.path):
        return None
    with held(f"{file.path}.lock"):
        return _finish_left(target)


def _finish_left(target: File) -> Journal | None:
    journal = read_journal(target)
    if journal is not None:
        _finish(target, journal)
    return journal


def _finish(target: File, journal: Journal, lock: Lock | None = None) -> None:
    """Rename the members of a journal to their targets; can be repeated after any interruption."""
    staging = target.sibling(journal.staging).path
    try:
        if len(journal.names) > 1:  # the file that marks completeness for other programs
            last = target.sibling(journal.names[-1]).path
            if os.path.lexists(os.path.join(staging, journal.names[-1])) and os.path.lexists(last):
                move(last, os.path.join(staging, ".~last"))
        for k, name in enumerate(journal.names):
            _place(os.path.join(staging, name), target.sibling(name).path, os.path.join(staging, f".~old.{k}"))
        for k, name in enumerate(journal.superseded):
            old = target.sibling(name).path
            if os.path.lexists(old):
                replace(old, os.path.join(staging, f".~gone.{k}"))
        if lock is not None:
            _remove(staging, lock)
        else:
            remove_tree(staging)
        os.unlink(journal_file(target).path)
    except OSError as exc:
        raise UnfinishedCommitError(
            exc.errno,
            f"the new {target} is complete, and is what imload reads, but its files could not all be moved to their "
            f"names ({exc.strerror or exc}): save again with resume=True or overwrite=True to finish",
        ) from exc


def _place(source: str, target: str, aside: str) -> None:
    if not os.path.lexists(source):
        return
    if os.path.isdir(source) or os.path.isdir(target):  # readers use the staged file as long as it exists
        with contextlib.suppress(FileNotFoundError):
            move(target, aside)
        move(source, target)
    else:
        replace(source, target)
