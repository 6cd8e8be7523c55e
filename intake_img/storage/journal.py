"""Journals of running commits: which files of a folder a write is replacing.

Several files cannot be renamed atomically. When a write has completed all of them in its staging folder, it puts a
journal into the hidden folder ``.intake_img.commit`` beside the target; from that moment on they are the image. Then it
renames each file to its target and removes the journal. A reader that finds a journal, because the writer is running or
was killed, reads files that are still staged from the staging folder, the others from their final names, and ignores
the files that the write supersedes: it sees the complete new image. Readers change nothing, so they need no write
permission.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from intake_img.storage.files import File
from intake_img.storage.listings import names_in

__all__ = [
    "COMMITS",
    "Journal",
    "current_names",
    "find_journals",
    "is_bookkeeping",
    "journal_file",
    "located",
    "moved",
    "read_journal",
    "resolve",
]

COMMITS = ".intake_img.commit"
"""Name of the folder of journals; it exists only during a commit."""

_MOST_BYTES = 2**27
_STAGING = re.compile(r"\..+\.partial", re.S)


@dataclass(frozen=True)
class Journal:
    """The files that a commit moves.

    Parameters
    ----------
    target : str
        Name of the target.
    staging : str
        Name of the staging folder, in the same folder.
    names : tuple of str
        Files (or folders) that move from the staging folder to the folder of the target, in this order.
    superseded : tuple of str
        Files of an earlier write that are removed.
    token : str
        Identifies the contents, for a write that can be resumed.
    """

    target: str
    staging: str
    names: tuple[str, ...]
    superseded: tuple[str, ...] = ()
    token: str = ""

    def dumps(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def loads(cls, content: bytes) -> Journal | None:
        """Return the journal; None if it is invalid, or names something outside of its folder."""
        try:
            found: Any = json.loads(content)
            facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
            journal = cls(**facts)
            names = [journal.target, journal.staging, *journal.names, *journal.superseded]
        except (ValueError, TypeError, AttributeError):
            return None
        if not all(_is_plain(n) for n in names) or not _STAGING.fullmatch(journal.staging):
            return None
        return journal


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\0", os.sep}


def is_bookkeeping(name: str) -> bool:
    """Return whether a name in a folder belongs to a running or killed write."""
    return name == COMMITS or _STAGING.fullmatch(name) is not None


def journal_file(target: File) -> File:
    """Return the file of the journal of a target."""
    digest = hashlib.blake2b(os.fsencode(target.name), digest_size=12).hexdigest()
    return target.sibling(COMMITS) / f"{digest}.json"


def read_journal(target: File) -> Journal | None:
    """Return the journal of a target, or None."""
    return _read(journal_file(target))


def find_journals(folder: File) -> list[Journal]:
    """Return the journals in a folder; usually there are none."""
    commits = folder / COMMITS
    if folder.path.startswith(("http://", "https://")) or (folder.local and not os.path.isdir(commits.path)):
        return []  # no commit can run on a web server
    try:
        names = names_in(commits)
    except NotImplementedError:
        return []
    found = [_read(commits / name) for name in sorted(names) if name.endswith(".json")]
    return [journal for journal in found if journal is not None]


def _read(file: File) -> Journal | None:
    try:
        return Journal.loads(file.read(_MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None


def current_names(folder: File, names: list[str]) -> list[str]:
    """Return the names in a folder as readers should see them: with the files of running commits, without superseded
    ones.

    Parameters
    ----------
    folder : File
    names : list of str
        All names in the folder.
    """
    if COMMITS not in names:
        return names
    found = dict.fromkeys(names)
    for journal in find_journals(folder):
        for name in journal.superseded:
            found.pop(name, None)
        found |= dict.fromkeys(journal.names)
    return list(found)


def located(paths: Iterable[str], base: File) -> list[str]:
    """Return the paths of the bytes of files: the paths themselves, or staged paths for files that are still staged.

    Parameters
    ----------
    paths : iterable of str
        Local paths or URLs.
    base : File
        Any file on the same file system.

    Raises
    ------
    FileNotFoundError
        If a file belongs to an image that a running commit supersedes.
    """
    paths = list(paths)
    staged: dict[str, str] = {}
    for path in {p[: p.rfind("/")] for p in paths}:
        folder = base.at(path or "/")
        for journal in find_journals(folder):
            if gone := {f"{path}/{n}" for n in journal.superseded}.intersection(paths):
                raise FileNotFoundError(
                    f"{min(gone)} no longer exists: the image {path}/{journal.target} was written again"
                )
            there = set(names_in(folder / journal.staging))
            staged |= {f"{path}/{n}": f"{path}/{journal.staging}/{n}" for n in journal.names if n in there}
    return [staged.get(p, p) for p in paths] if staged else paths


def resolve(file: File) -> File:
    """Return the location of `file`: its own path, or the staging folder of a running commit."""
    folder = file.parent
    for journal in find_journals(folder):
        if file.name in journal.names:
            staged = folder / journal.staging / file.name
            if staged.exists():
                return staged
    return moved(file) if _STAGING.fullmatch(folder.name) else file


def moved(file: File) -> File:
    """Return the path of a file that was found staged: the staged path or, after the commit, the final one."""
    if _STAGING.fullmatch(file.parent.name) and not file.exists():
        return file.parent.sibling(file.name)
    return file
