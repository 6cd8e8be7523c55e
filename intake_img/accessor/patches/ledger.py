"""What is done of a result that is being written: a folder beside the target, a record of what is made, a mark a block.

The result grows in ``.<name>.unfinished`` beside the target and becomes the target by one rename, when all of it is
there. A mark is made after the block it stands for, so that a run that was killed at any moment goes on with what has
none; blocks without a mark are made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from intake_img.errors import TargetExistsError

__all__ = ["Ledger", "folder_of", "mark"]


def folder_of(target: str) -> str:
    """Return the folder in which the result grows that will be `target`."""
    parent, name = os.path.split(target)
    end = ".unfinished"
    while len(os.fsencode(f".{name}{end}")) > 255:
        name = name[:-1]
    return os.path.join(parent, f".{name}{end}")


def mark(folder: str, source: int, block: int) -> None:
    """Note that a block is written, whole."""
    with open(os.path.join(folder, "done", f"{source}.{block}"), "wb"):
        pass


class Ledger:
    """The folder in which a result grows.

    Parameters
    ----------
    target : str
        Absolute path of what it will be.
    facts : mapping
        What is made, plain JSON: a run goes on only with equal facts.
    """

    def __init__(self, target: str, facts: Mapping[str, Any]) -> None:
        self.target, self.facts = target, json.loads(json.dumps(facts))
        self.folder = folder_of(target)
        self.store = os.path.join(self.folder, "store")
        self.layout: Any = None

    @property
    def _record(self) -> str:
        return os.path.join(self.folder, "record.json")

    def begin(self, resume: bool, overwrite: bool) -> None:
        """Take up an interrupted run (then `layout` is what was recorded), or make room for a new one.

        Raises
        ------
        TargetExistsError
            If there is an unfinished result and neither `resume` nor `overwrite` is given.
        ValueError
            If the unfinished result is another one.
        """
        found = self._read() if os.path.isdir(self.store) else None
        if found is not None and resume:
            self._same(found["facts"], self.folder)
            self.layout = found["layout"]
            return
        if found is not None and not overwrite:
            raise TargetExistsError(
                f"{self.folder} holds the unfinished {os.path.basename(self.target)}: pass resume=True to go on with "
                "it, or overwrite=True to begin anew"
            )
        if os.path.isdir(self.folder):  # without a record nothing in it is of use
            shutil.rmtree(self.folder)
        os.makedirs(self.store)
        os.makedirs(os.path.join(self.folder, "done"))

    def _read(self) -> dict[str, Any] | None:
        try:
            with open(self._record, encoding="utf-8") as stream:
                return json.load(stream)
        except FileNotFoundError:
            return None

    def _same(self, other: Mapping[str, Any], where: str) -> None:
        differ = sorted(k for k in {*self.facts, *other} if self.facts.get(k) != other.get(k))
        if differ:
            said = "; ".join(f"{k}: there {_shown(other.get(k))}, now {_shown(self.facts.get(k))}" for k in differ)
            raise ValueError(
                f"{where} holds another result, which resume=True cannot go on with ({said}). Give the same patches, "
                "model and options, pass overwrite=True without resume to begin anew, or choose another store"
            )

    def same_as(self, facts: Any) -> None:
        """Raise `ValueError` if the finished target is another result."""
        self._same(facts if isinstance(facts, Mapping) else {}, self.target)

    def record(self, layout: Any) -> None:
        """Write down what is made; from now on the run can be taken up again."""
        self.layout = json.loads(json.dumps(layout))
        temporary = f"{self._record}.new"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump({"facts": self.facts, "layout": self.layout}, stream, ensure_ascii=False)
        os.replace(temporary, self._record)

    def done(self, source: int, count: int) -> np.ndarray:
        """Return which of `count` blocks of a source are written."""
        found = np.zeros(count, bool)
        with os.scandir(os.path.join(self.folder, "done")) as entries:
            for entry in entries:
                number, _, block = entry.name.partition(".")
                if number == str(source) and block.isdigit() and int(block) < count:
                    found[int(block)] = True
        return found

    def finish(self) -> None:
        """Make the store the target."""
        for folder, _, names in os.walk(self.store):  # what a killed write of a chunk left behind
            for name in names:
                if name.endswith(".partial"):
                    os.unlink(os.path.join(folder, name))
        old = os.path.join(self.folder, "old")
        if os.path.isdir(self.target):
            shutil.rmtree(old, ignore_errors=True)
            os.rename(self.target, old)
        elif os.path.exists(self.target):
            os.unlink(self.target)
        try:
            os.rename(self.store, self.target)
        except BaseException:
            if os.path.isdir(old):
                os.rename(old, self.target)
            raise
        shutil.rmtree(self.folder)

    def sweep(self) -> None:
        """Remove what a run that was killed at the very end has left of the folder."""
        if os.path.isdir(self.folder) and not os.path.isdir(self.store):
            shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder for this process; a process that dies lets go of it."""
        try:
            import fcntl
        except ImportError:  # not on this platform
            yield
            return
        os.makedirs(os.path.dirname(self.folder), exist_ok=True)
        path = f"{self.folder}.lock"
        with _locked(fcntl, path, self.target):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(path)


@contextlib.contextmanager
def _locked(fcntl: Any, path: str, target: str) -> Iterator[None]:
    while True:
        with open(path, "wb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TargetExistsError(f"{target} is being written by another process right now") from None
            except OSError:  # a file system without locks
                pass
            if _same_file(stream.fileno(), path):  # else its holder has just let go of it, and removed it
                yield
                return


def _same_file(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
