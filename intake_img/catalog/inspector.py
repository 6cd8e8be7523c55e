"""How a scan inspects files and series: unchanged ones are taken from its memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from intake_img.catalog.facts import facts_of
from intake_img.catalog.inspections import Inspection, inspect_files, reason
from intake_img.catalog.memory import ScanMemory, digest
from intake_img.catalog.places import FOLDERS, Stamp
from intake_img.catalog.unused import Unused
from intake_img.collections.sequence import SequenceSource
from intake_img.errors import FormatError
from intake_img.formats.base import Format
from intake_img.formats.registry import find_format, formats
from intake_img.model.engine import Engine
from intake_img.storage.files import File

__all__ = ["Inspector"]


@dataclass
class Inspector:
    """Inspects what a scan finds.

    Attributes
    ----------
    root : File
        The folder, with the options and the jail of all that is in it.
    unused : Unused
        Takes what is left out.
    workers : int
        Number of threads.
    engine : "threads" or "dask", optional
    progress : callable, optional
    memory : ScanMemory, optional
    stamps : mapping of str to tuple
        What each file looked like before it is read; empty where that is not known.
    lasting : bool
        Whether all that was seen may be remembered.
    asked : list of str
        What the memory was asked for.
    turn : Lock
        Of the thread that calls `progress`.
    """

    root: File
    unused: Unused
    workers: int
    engine: Engine | None = None
    progress: Callable[[str], None] | None = None
    memory: ScanMemory | None = None
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    lasting: bool = True
    asked: list[str] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def plain(cls, root: File) -> Inspector:
        """Return one that remembers nothing."""
        return cls(root, Unused(), 1)

    def file(self, path: str) -> File:
        """Return a file in the tree."""
        return self.root.at(path)

    def group(self, source: SequenceSource, paths: Sequence[str], compared: bool) -> dict[str, Any] | None:
        """Return the facts of an image of several files; None if they make none.

        Parameters
        ----------
        source : SequenceSource
        paths : sequence of str
            Of the files.
        compared : bool
            Whether a file that cannot be read, or contains several images, means that they make none.
        """
        key = source.uri + json.dumps({**source.arguments(), "uri": ""}, default=str)
        stamp = self._stamp_of_all(paths)
        seen = self._known(key, stamp)
        if seen is None:
            self._report(source.uri)
            seen = _inspect_group(source, compared)
            self._note(key, stamp, seen)
        return {**seen.facts, "files": len(paths)} if seen.facts.get("axes") else None

    def singles(self, paths: Sequence[str]) -> Iterator[tuple[str, Inspection]]:
        """Inspect files; yield the images among them, in order."""
        found: dict[str, Inspection | None] = {p: self._known(p, self._stamp(p)) for p in paths}
        new = [p for p, seen in found.items() if seen is None]
        for path, seen in zip(new, inspect_files([self.file(p) for p in new], self.workers, self.engine), strict=True):
            self._report(path)
            self._note(path, self._stamp(path), seen)
            found[path] = seen
        for path, one in found.items():
            if one is not None and not self._left_out(path, one):
                yield path, one

    def _report(self, path: str) -> None:
        if self.progress is not None:
            with self.turn:
                self.progress(path)

    def _left_out(self, path: str, seen: Inspection) -> bool:
        if seen.unknown:
            self.unused.other(path)
        elif seen.fault:
            self.unused.skipped[path] = seen.fault
        return bool(seen.unknown or seen.fault)

    # what is remembered

    def _stamp(self, path: str) -> str | None:
        if self.memory is None:
            return None
        stamp = self.stamps.get(path, ())
        if stamp in FOLDERS or path.lower().endswith(_of_many_files()):
            return self.stamp_of_store(path) if stamp else None
        return digest(stamp) if stamp else None

    def stamp_of_store(self, path: str) -> str | None:
        """Return what changes when an image that is a folder does; None if that is not known."""
        file = self.file(path)
        try:
            return digest(find_format(file).stamp(file))
        except Exception:  # opening it raises the error
            return None

    def _stamp_of_all(self, paths: Sequence[str]) -> str | None:
        stamps = [self._stamp(p) for p in paths] if self.memory is not None else [None]
        return None if None in stamps else digest([*zip(paths, stamps, strict=True)])

    def _known(self, key: str, stamp: str | None) -> Inspection | None:
        if self.memory is None:
            return None
        self.asked.append(key)
        return self.memory.known(key, stamp)

    def _note(self, key: str, stamp: str | None, seen: Inspection) -> None:
        if self.memory is None:
            return
        if stamp is None or seen.passing:
            self.lasting = False
        else:
            self.memory.note(key, stamp, seen)


@cache
def _of_many_files() -> tuple[str, ...]:
    """Return the extensions of formats that know better than the file itself when an image was changed."""
    return tuple(e for f in formats().values() if type(f).stamp is not Format.stamp for e in f.extensions)


def _inspect_group(source: SequenceSource, compared: bool) -> Inspection:
    try:
        if compared and not source.agrees():
            return Inspection(fault="not all of its files can be read")
        return Inspection(source.name, facts_of(source))
    except Exception as exc:  # then its files are inspected one by one, and reported
        return Inspection(fault=reason(exc, source.uri), passing=not isinstance(exc, FormatError))
    finally:
        source.close()
