"""Base of local and remote staging folders: members, superseded files, and the clean-up after an error."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.storage.files import File

__all__ = ["COMMIT", "LOCK", "PLAN", "Claim", "Staging", "UnfinishedCommitError", "exists_already", "other_write"]

LOCK, PLAN, COMMIT = ".~lock", ".~plan.json", ".~commit.json"
"""Names in a staging folder that are not members; all begin with ``.~``."""

Claim = Callable[[Sequence[str]], Iterable[str]]


class UnfinishedCommitError(OSError):
    """The new data are complete and readers see them, but not all files are renamed to their targets yet."""


class Staging:
    """Base of the staging folders; made by `begin`.

    Attributes
    ----------
    target : File
    noted : dict or None
        What the interrupted write that is resumed stored with `note`.
    completed : tuple of str
        The members of a write with the same token that was killed in its last steps and is now finished: there is
        nothing left to do. Empty otherwise.
    """

    def __init__(self, target: File, folder: File, overwrite: bool, token: str, claim: Claim | None) -> None:
        self.target, self.folder, self.overwrite, self.token = target, folder, overwrite, token
        self.noted: dict[str, Any] | None = None
        self.completed: tuple[str, ...] = ()
        self.simple = claim is None
        self._journal_written = False  # or being written: from now on readers may use staged files as the target
        self._claim = claim or self._refuse_existing
        self._made: dict[str, None] = {}
        self._numbers = itertools.count()

    def _refuse_existing(self, names: Sequence[str]) -> Iterable[str]:
        for name in (self.target.name, *names):
            if not self.overwrite and self.target.sibling(name).exists():
                raise exists_already(self.target.sibling(name))
        return ()

    def superseded(self, names: Sequence[str]) -> list[str]:
        """Return the names that the members supersede, or raise `TargetExistsError`."""
        return [n for n in dict.fromkeys(self._claim(names)) if n not in set(names)]

    def member(self, name: str, folder: bool = False) -> contextlib.AbstractContextManager[str]:
        """Yield a local path to write a member to; the member is complete when the block succeeds.

        Parameters
        ----------
        name : str
            Its final name, in the folder of the target.
        folder : bool
            The member is a folder; it is yielded empty.
        """
        raise NotImplementedError

    def put(self, name: str, content: bytes) -> None:
        """Write a small member."""
        if self.simple:
            self.superseded([name])
        with self.member(name) as path, open(path, "wb") as stream:
            stream.write(content)

    def finished(self) -> set[str]:
        """Return the names of the complete members, of this run and of the run that is resumed."""
        raise NotImplementedError

    def note(self, facts: Mapping[str, Any]) -> None:
        """Store plain JSON, atomically; from now on the write can be resumed."""
        raise NotImplementedError

    def local(self, name: str) -> str:
        """Return the path of a member that grows over several runs; the caller creates and fills it.

        Raises
        ------
        CannotWriteError
            If the target is remote.
        """
        raise NotImplementedError

    def place(self, name: str) -> File:
        """Create and return an empty folder for a member that is filled in place, also on a server."""
        raise NotImplementedError

    def commit(self, names: Sequence[str] | None = None) -> list[str]:
        """Rename the members to their targets, and remove the files that they supersede.

        Parameters
        ----------
        names : sequence of str, optional
            The members, in the order of renaming: the file that marks completeness for other programs comes last. By
            default all members of this run, in the order in which they were written.

        Returns
        -------
        list of str
            Paths or URLs of the members.

        Raises
        ------
        TargetExistsError
            If a target exists now that may not be replaced. Nothing is changed then.
        UnfinishedCommitError
            If an error interrupted the commit; the message says how to continue.
        """
        names = list(self._made if names is None else names)
        self._commit(names)
        return [str(self.target.sibling(name)) for name in names]

    def _commit(self, names: list[str]) -> None:
        raise NotImplementedError

    def discard(self) -> None:
        """Remove the staging folder."""
        raise NotImplementedError

    def keep(self) -> None:
        """Leave the staging folder to a later run with ``resume=True``."""
        raise NotImplementedError

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None) -> None:
        unfinished = exc is not None and bool(self.token) and not isinstance(exc, (CannotWriteError, TargetExistsError))
        if unfinished or (exc is not None and self._journal_written):
            self.keep()
        else:
            self.discard()


def exists_already(target: File) -> TargetExistsError:
    """Return the error for a target that may not be replaced."""
    return TargetExistsError(f"{target} exists: choose another name, or pass overwrite=True to replace it")


def other_write(target: File) -> CannotWriteError:
    """Return the error for an interrupted write that differs from the present one."""
    return CannotWriteError(
        f"the interrupted write of {target} was of another image or had other settings: pass overwrite=True, without "
        "resume, to start again"
    )
