"""Atomic replacement of targets: every write goes through this module.

One file or folder::

    with replacing(target, overwrite=overwrite, folder=False) as path:
        ...                                  # write to the local path; on success it is renamed to `target`

Several files that belong together (files of one image, a file and its description)::

    with begin(target, overwrite=overwrite) as staging:
        staging.put("a.bin.json", description)          # a small file
        with staging.member("a.bin") as path:           # a large file, or (folder=True) a folder
            ...
        staging.commit()                                # both appear, or none

A long run that can be resumed passes a token that identifies its result. An exception or a kill then leaves the staging
folder, and ``resume=True`` with the same token continues it::

    with begin(target, overwrite=overwrite, resume=resume, token=token) as staging:
        if staging.completed: return                    # the earlier run was killed in its last steps
        facts = staging.noted or {...}; staging.note(facts)     # plain JSON beside the token
        store = staging.local("a.zarr")                 # a path that stays across runs, here for a store that grows
        ...
        staging.commit(["a.zarr"])

How it works. Each writer has a private staging folder beside the target, ``.<name>.partial`` (``.<name>~1.partial`` for
a second one), and holds a lock on it, which distinguishes running writers from dead ones: the next write to the same
target removes the folders of dead writers. One file is committed by one rename, which is exclusive
(`renames.rename_new`) unless `overwrite` is true; a folder replaces an older one by an atomic exchange. If a commit
takes more than one step (several files; systems that cannot exchange folders) a journal is written first, see
`journal`: readers follow it, and the next write to the target finishes the commit of a killed writer. Two writers
commit one after the other: the last one wins, with all of its files. Remote targets: see `uploads`.

A signal that ends the process without Python's clean-up (SIGKILL, and SIGTERM by default) leaves the staging folder
until the next write to the target. Programs that want SIGTERM to clean up turn it into an exception, as the command
line does: ``signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))``.

Small bookkeeping files are flushed to the disk (fsync). New data that replace older local data are flushed once for
each commit, before the old data are removed. Other pixels are not flushed: after a power failure, as opposed to a
killed process, a file system may show a new file without the data of its last seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from intake_img.storage.files import File
from intake_img.storage.journal import Journal, is_bookkeeping, read_journal
from intake_img.storage.local import LocalStaging, has_plan, settle_local, staging_folder, sweep_local
from intake_img.storage.staged import Claim, Staging, UnfinishedCommitError, other_write
from intake_img.storage.uploads import RemoteStaging, find_plans, settle_remote

__all__ = [
    "Staging",
    "UnfinishedCommitError",
    "begin",
    "interrupted",
    "is_bookkeeping",
    "other_write",
    "replacing",
    "settle",
    "staging_folder",
    "sweep",
]


@contextlib.contextmanager
def replacing(target: File, *, overwrite: bool = False, folder: bool = False) -> Iterator[str]:
    """Yield a temporary local path; on success, atomically rename it to `target`.

    Parameters
    ----------
    target : File
        The file or folder to write: a local path or a URL. A symbolic link stays, and what it leads to is written.
    overwrite : bool
        Replace an existing target. Its data are not changed until the new data are complete.
    folder : bool
        The target is a folder (a Zarr store), not a file; an empty one is yielded.

    Yields
    ------
    str
        A local path in a hidden folder.

    Raises
    ------
    TargetExistsError
        If the target exists and `overwrite` is False, also if another process has created it meanwhile.
    """
    target = target.followed()
    with begin(target, overwrite=overwrite) as staging:
        with staging.member(target.name, folder=folder) as path:
            yield path
        staging.commit()


def begin(
    target: File, *, overwrite: bool = False, resume: bool = False, token: str = "", claim: Claim | None = None
) -> Staging:
    """Return a private staging folder for a write of `target`; see the module for how to use it.

    Parameters
    ----------
    target : File
        The name of the target. Members are staged beside it.
    overwrite : bool
        Replace existing files.
    resume : bool
        Continue an interrupted write that had the same token.
    token : str
        Identifies the contents, for a write that can be resumed. Without a token nothing is kept.
    claim : callable, optional
        ``claim(names)`` returns the names beside the target that the new members supersede, or raises
        `TargetExistsError`. It is called now, without names, and again with the names of all members while no other
        writer can commit. By default nothing is superseded, and an existing target or member is refused without
        `overwrite`.

    Raises
    ------
    TargetExistsError
        If a file exists that may not be replaced, or, without `overwrite`, if another process is writing it.
    CannotWriteError
        If the interrupted write has another token.
    """
    kind = LocalStaging if target.local else RemoteStaging
    return kind.begin(target, overwrite, resume, token, claim)


def interrupted(target: File) -> bool:
    """Return whether there is an unfinished or running write of `target` that could be resumed."""
    if read_journal(target) is not None:  # they are complete, though not all are renamed yet
        return False
    return has_plan(target) if target.local else bool(find_plans(target))


def settle(target: File) -> Journal | None:
    """Finish the commit of a killed writer of `target`, and return its journal; None if there is none."""
    return settle_local(target) if target.local else settle_remote(target)


def sweep(target: File) -> None:
    """Finish the commit of a killed writer of a complete local `target`, and remove the staging folders of dead ones.

    On servers nothing is done: they have no locks, which would distinguish a dead writer from a working one.
    """
    if target.local:
        settle_local(target)
        sweep_local(target)
