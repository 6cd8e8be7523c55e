"""Progress of a result that is being written: a store in a staging folder, and a marker for each finished block.

The staging folder beside the target (see `intake_img.storage.staging`) contains the store, ``.~store``, the markers,
``.~done``, and a plan, which identifies the result. A marker is written after its block, and its name contains the size
of the block on the disk: if the size differs, the block is written again. When the store is complete it replaces the
target atomically; the old target is complete until then. The plan is removed first, so that no run resumes a partly
removed folder.

On a server the staging folder is a hidden prefix, and the store in it has the name of the target. Objects are written
atomically, so markers contain no sizes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from intake_img.accessor.patches.output import Output
from intake_img.errors import CannotWriteError
from intake_img.storage.files import File
from intake_img.storage.listings import names_in
from intake_img.storage.renames import flush, remove_tree
from intake_img.storage.replacing import move
from intake_img.storage.staging import Staging, UnfinishedCommitError, begin, staging_folder
from intake_img.storage.uploads import upload

__all__ = ["DONE", "FACTS", "STORE", "Ledger", "facts_of", "mark", "sweep"]

STORE, DONE = ".~store", ".~done"
"""Names in the staging folder."""

FACTS = "prediction"
"""Attribute of a result that says how it was made."""

_TOKEN = "patches"


def mark(folder: File, output: Output, block: int) -> None:
    """Record that a block is completely written.

    Parameters
    ----------
    folder : File
        The staging folder.
    output : Output
    block : int
    """
    if not folder.local:
        upload(folder / DONE / f"{output.source}.{block}.", b"")
        return
    nbytes = _nbytes(folder.path, output, block)
    with open(os.path.join(folder.path, DONE, f"{output.source}.{block}.{nbytes}"), "wb"):
        pass


def _nbytes(folder: str, output: Output, block: int) -> int:
    """Return the size of a block on the disk, in bytes; 0 if it contains only the fill value."""
    found = 0
    for name in output.files(block):
        with contextlib.suppress(FileNotFoundError):
            found += os.stat(os.path.join(folder, STORE, name)).st_size
    return found


def facts_of(store: File) -> dict[str, Any]:
    """Return the stored facts of a complete result; empty if it is not such a store."""
    try:
        found = json.loads((store / "zarr.json").read())["attributes"]["intake_img"][FACTS]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


class Ledger:
    """The folder in which a result grows; a context manager that keeps it after an error.

    Parameters
    ----------
    target : File
        The target of the result.
    facts : mapping
        Plain JSON that identifies the result: a run is resumed only with equal facts.
    keeps : bool
        Whether a later run can resume this one.

    Attributes
    ----------
    layout : JSON
        The record of the interrupted run that is resumed, else None.
    """

    def __init__(self, target: File, facts: Mapping[str, Any], keeps: bool = True) -> None:
        self.target, self.facts, self.keeps = target, json.loads(json.dumps(facts)), keeps
        self.layout: Any = None
        self.staging: Staging

    @property
    def folder(self) -> File:
        return self.staging.folder

    @property
    def store(self) -> File:
        return self.folder / (STORE if self.folder.local else self.target.name)

    def begin(self, resume: bool, overwrite: bool) -> Ledger:
        """Resume an interrupted run (then `layout` is its record), or prepare a new one.

        Raises
        ------
        TargetExistsError
            If there is an unfinished result and neither `resume` nor `overwrite` is given, or another process is
            writing one.
        ValueError
            If the unfinished result differs from this one.
        """
        self.staging = self._begin(resume, overwrite)
        if resume and self.staging.noted is not None:
            if self._usable():
                return self
            self.staging.discard()
            self.staging = self._begin(False, overwrite)
        for name in (STORE, DONE) if self.folder.local else ():
            os.mkdir(os.path.join(self.folder.path, name))
        return self

    def _begin(self, resume: bool, overwrite: bool) -> Staging:
        staging = begin(self.target, overwrite=overwrite, resume=resume, token=_TOKEN if self.keeps else "")
        return self._begin(resume, overwrite) if staging.completed else staging

    def _usable(self) -> bool:
        """Return whether the interrupted run can be resumed; it may have been stopped at its end."""
        noted = self.staging.noted or {}
        try:
            self._same(noted.get("facts"), str(self.folder))
        except ValueError:
            self.staging.keep()
            raise
        self.layout = noted.get("layout")
        if not self.folder.local:
            return self.layout is not None
        complete = self.folder / self.target.name
        if not self.store.is_folder() and facts_of(complete) == self.facts:  # else it is the replaced target
            move(complete.path, self.store.path)
        if self.store.is_folder():
            return True
        self.layout = None
        return False

    def _same(self, other: Any, where: str) -> None:
        other = other if isinstance(other, Mapping) else {}
        differ = sorted(k for k in {*self.facts, *other} if self.facts.get(k) != other.get(k))
        if differ:
            said = "; ".join(f"{k}: there {_shown(other.get(k))}, now {_shown(self.facts.get(k))}" for k in differ)
            raise ValueError(
                f"{where} contains another result, which resume=True cannot continue ({said}). Give the same patches, "
                "model and options, pass overwrite=True without resume to start again, or choose another store"
            )

    def same_as_target(self) -> None:
        """Raise `ValueError` if the finished target is a different result."""
        self._same(facts_of(self.target), self.target.path)

    def record(self, layout: Any) -> None:
        """Record the layout of the result; from now on the run can be resumed."""
        self.layout = json.loads(json.dumps(layout))
        if self.keeps:
            self.staging.note({"facts": self.facts, "layout": self.layout})

    def done(self, output: Output) -> np.ndarray:
        """Return which blocks of an output are written: blocks with a marker and the recorded size."""
        found = np.zeros(len(output.canvas), bool)
        marks = self.folder / DONE
        for name in os.listdir(marks.path) if marks.local else names_in(marks):
            source, block, nbytes = [*name.split("."), "", ""][:3]
            if source == str(output.source) and block.isdigit() and int(block) < len(found):
                found[int(block)] |= not marks.local or nbytes == str(_nbytes(self.folder.path, output, int(block)))
        return found

    def finish(self) -> None:
        """Replace the target with the store."""
        if not self.folder.local:
            self.staging.commit([self.target.name])
            return
        store = self.store.path
        for folder, _, names in os.walk(store):  # leftover of a killed chunk write
            for name in names:
                if name.endswith(".partial"):
                    os.unlink(os.path.join(folder, name))
        flush(store)
        complete = self.staging.local(self.target.name)
        if os.path.lexists(complete):
            remove_tree(complete)
        move(store, complete)
        self.staging.commit([self.target.name])
        flush(self.target.parent.path, only=True)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None) -> None:
        unfinished = exc is not None and self.layout is not None and self.keeps
        if unfinished or isinstance(exc, UnfinishedCommitError):
            self.staging.keep()
        else:
            self.staging.discard()


def sweep(target: File) -> None:
    """Remove the rest of the folder of a run that was killed after its last step."""
    if not target.local or not os.path.isdir(staging_folder(target)):
        return
    with contextlib.suppress(CannotWriteError):  # the folder of another writer
        staging = begin(target, overwrite=True, resume=True, token=_TOKEN)
        unfinished = staging.noted is not None and os.path.isdir(staging.local(STORE))
        staging.keep() if unfinished else staging.discard()


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
