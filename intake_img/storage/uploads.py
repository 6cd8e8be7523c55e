"""Remote targets: files are written locally, uploaded to a hidden prefix beside the target, and then renamed.
Zarr stores are not written locally: their chunks are uploaded to the hidden prefix one by one.

One file is one upload: object stores show it when it is complete, and (S3 and compatible ones) refuse it if the name
must be new and exists. Folders and groups of files have a journal, as local ones do (see `journal`). As soon as it
exists, readers of this package see the new data, in the staging folder. Object stores cannot rename: the members of the
journal are copied on the server. The old root metadata of a Zarr store are removed first and the new ones copied last,
so that other programs see no store rather than an incomplete one. If this fails, staged data and journal are kept:
readers use them, and the next save to the target (``resume=True`` or ``overwrite=True``) finishes the commit.

Servers have no locks. If two writers write one remote target, the later one removes the staged files of the earlier
one.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.storage.files import File
from intake_img.storage.journal import COMMITS, Journal, journal_file, read_journal
from intake_img.storage.listings import is_object_store, names_in
from intake_img.storage.locks import ProcessLock
from intake_img.storage.staged import PLAN, Claim, Staging, UnfinishedCommitError, exists_already, other_write

__all__ = ["RemoteStaging", "find_plans", "put", "settle_remote", "upload"]

_ROOT_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata", "info")


class RemoteStaging(Staging):
    """A staging folder on a server, and a local folder in which members are written."""

    _scratch: str | None = None
    _direct: str | None = None
    _kept = False
    _making = ProcessLock()

    @classmethod
    def begin(cls, target: File, overwrite: bool, resume: bool, token: str, claim: Claim | None) -> RemoteStaging:
        """Return a staging folder; see `storage.staging.begin`."""
        mark = uuid.uuid4().hex[:8]
        self = cls(target, target.sibling(f".{target.name}.{mark}.partial"), overwrite, token, claim)
        if token:
            finished = settle_remote(target)
            if resume and finished is not None and finished.token == token:
                self.completed = finished.names
                return self
            if self._adopt(resume):
                return self
        self.superseded(())
        return self

    def _adopt(self, resume: bool) -> bool:
        plans = find_plans(self.target)
        for folder, plan in plans.items():
            if resume and plan["token"] == self.token:
                self.folder, self.noted = self.target.sibling(folder), plan["facts"]
                return True
        if plans and resume:
            raise other_write(self.target)
        if plans and not self.overwrite:
            raise TargetExistsError(
                f"a write of {self.target} was interrupted, or is still running: pass resume=True to finish it, or "
                "overwrite=True to start again"
            )
        return False

    @contextlib.contextmanager
    def member(self, name: str, folder: bool = False) -> Iterator[str]:
        with self._making:  # members are written in several threads
            if self._scratch is None:
                self._scratch = tempfile.mkdtemp(prefix="intake_img-")
        path = os.path.join(self._scratch, f".~{next(self._numbers)}")
        if folder:
            os.mkdir(path)
        yield path
        if self.simple and name == self.target.name and not folder and not self._made:
            self._direct = path  # a single member needs no staging folder
        else:
            self._upload(path, name)
        self._made[name] = None

    def _upload(self, path: str, name: str) -> None:
        put(path, self.folder / name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def finished(self) -> set[str]:
        return {n for n in names_in(self.folder) if not n.startswith(".~")}

    def note(self, facts: Mapping[str, Any]) -> None:
        upload(self.folder / PLAN, json.dumps({"token": self.token, "facts": facts}).encode())
        self.noted = dict(facts)

    def local(self, name: str) -> str:
        raise CannotWriteError(f"{self.target} is remote: a result that grows over several runs needs a local folder")

    def place(self, name: str) -> File:
        self._made[name] = None
        return self.folder / name

    def _commit(self, names: list[str]) -> None:
        if self._direct is not None and names == [self.target.name]:
            self._put_one(self._direct)
        else:
            if self._direct is not None:
                self._upload(self._direct, self.target.name)
            self._journaled(names)
        self.target.filesystem()[0].invalidate_cache()

    def _put_one(self, path: str) -> None:
        """Upload one file under its name."""
        fs, remote = self.target.filesystem()
        self.superseded([self.target.name])
        if is_object_store(fs):
            fs.makedirs(fs._parent(remote), exist_ok=True)
            _put_object(fs, path, remote, self.overwrite, self.target)
            return
        put(path, self.folder / self.target.name)
        if fs.exists(remote):  # which renaming may refuse to replace
            self._journaled([self.target.name])
        else:
            fs.mv((self.folder / self.target.name).filesystem()[1], remote)

    def _journaled(self, names: list[str]) -> None:
        old = self.superseded(names)
        left = read_journal(self.target)
        journal = Journal(self.target.name, self.folder.name, tuple(names), tuple(old), self.token)
        self._journal_written = True  # after an error it is unknown whether the server has it
        upload(journal_file(self.target), journal.dumps())
        _finish(self.target, journal)
        for folder in {*([left.staging] if left else []), *(_left(self.target) if self.overwrite else [])}:
            _remove(self.target.sibling(folder))

    def discard(self) -> None:
        self._remove_scratch()
        if not self._kept:
            with contextlib.suppress(OSError):
                _remove(self.folder)

    def keep(self) -> None:
        self._remove_scratch()
        self._kept = True

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


def find_plans(target: File) -> dict[str, dict[str, Any]]:
    """Return the plans of interrupted writes of a remote target, by staging folder."""
    found = {}
    for folder in _left(target):
        with contextlib.suppress(FileNotFoundError, ValueError):
            plan = json.loads((target.sibling(folder) / PLAN).read())
            if isinstance(plan, dict) and {"token", "facts"} <= set(plan):
                found[folder] = plan
    return found


def _left(target: File) -> list[str]:
    fits = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.partial").fullmatch
    names = [] if target.web else names_in(target.parent)  # a web server has no such folder
    return [name for name in names if fits(name)]


def settle_remote(target: File) -> Journal | None:
    """Finish the commit of a killed writer of `target`, and return its journal."""
    journal = read_journal(target)
    if journal is not None:
        _finish(target, journal)
        target.filesystem()[0].invalidate_cache()
    return journal


def _finish(target: File, journal: Journal) -> None:
    staging = target.sibling(journal.staging)
    try:
        there = set(names_in(staging))
        for name in journal.names:
            if name in there:
                _place(staging / name, target.sibling(name))
        for name in journal.superseded:
            _remove(target.sibling(name))
        _remove(staging / PLAN)  # nobody may resume it
        _remove(journal_file(target))
        _remove(staging)
        _remove_empty(target.sibling(COMMITS))
    except Exception as exc:
        if isinstance(exc, (AttributeError, NameError, TypeError)):
            raise
        raise UnfinishedCommitError(
            getattr(exc, "errno", None) or 5,
            f"giving the new {target} its name failed ({type(exc).__name__}: {exc}): the new data are complete, at "
            f"{staging}, and are what imload reads; save again with overwrite=True to finish",
        ) from exc


def _place(source: File, target: File) -> None:
    """Rename a staged member to its target; copy it if the server cannot rename."""
    fs, staged = source.filesystem()
    path = target.filesystem()[1].rstrip("/")
    if not is_object_store(fs):
        aside = f"{staged}.old"
        if fs.exists(path):
            fs.mv(path, aside, recursive=True)
        fs.mv(staged, path, recursive=True)
    elif not fs.isdir(staged):
        fs.copy([staged], [path], on_error="raise")
    else:
        _copy_folder(fs, staged, path)


def _copy_folder(fs: Any, source: str, target: str) -> None:
    old, new = _below(fs, target), _below(fs, source)
    roots = [n for n in old if n in _ROOT_METADATA]
    for names in (roots, [n for n in old if n not in new and n not in roots]):
        if names:
            fs.rm([f"{target}/{n}" for n in names])
    for last in (False, True):
        names = [n for n in new if (n in _ROOT_METADATA) == last]
        if names:
            fs.copy([f"{source}/{n}" for n in names], [f"{target}/{n}" for n in names], on_error="raise")


def _below(fs: Any, path: str) -> list[str]:
    fs.invalidate_cache(path)
    start = len(fs._strip_protocol(path).rstrip("/")) + 1
    return sorted(str(p)[start:] for p in fs.find(path))


def put(local: str, file: File) -> None:
    """Upload a file, or a folder with its contents."""
    fs, path = file.filesystem()
    if not os.path.isdir(local):
        fs.makedirs(fs._parent(path), exist_ok=True)
        fs.put_file(local, path)
        return
    sources = [os.path.join(folder, n) for folder, _, names in os.walk(local) for n in names]
    targets = [f"{path}/{os.path.relpath(s, local).replace(os.sep, '/')}" for s in sources]
    if not is_object_store(fs):
        for folder in sorted({t.rpartition("/")[0] for t in targets}):
            fs.makedirs(folder, exist_ok=True)
    if sources:
        fs.put(sources, targets)


def _put_object(fs: Any, local: str, path: str, overwrite: bool, target: File) -> None:
    """Upload one object; without `overwrite` the server refuses an existing name, if it supports this."""
    exclusive = not overwrite and "mode" in inspect.signature(fs._put_file if fs.async_impl else fs.put_file).parameters
    try:
        fs.put_file(local, path, **({"mode": "create"} if exclusive else {}))
    except FileExistsError:
        raise exists_already(target) from None


def upload(file: File, content: bytes) -> None:
    """Upload a small object."""
    fs, path = file.filesystem()
    fs.makedirs(fs._parent(path), exist_ok=True)
    fs.pipe_file(path, content)
    fs.invalidate_cache()


def _remove(file: File) -> None:
    fs, path = file.filesystem()
    fs.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        if fs.exists(path):
            fs.rm(path, recursive=True)


def _remove_empty(folder: File) -> None:
    fs, path = folder.filesystem()
    with contextlib.suppress(OSError, NotImplementedError):
        if not names_in(folder):
            fs.rmdir(path)
