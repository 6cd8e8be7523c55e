"""The files of a sequence, read one by one; each is compared with the first when its header is read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from intake_img.errors import AxesError, FormatError, SourceChangedError, warn
from intake_img.formats.base import Format, Handle
from intake_img.formats.faults import translated_errors
from intake_img.formats.format_source import FormatSource
from intake_img.formats.reading import FileReader
from intake_img.formats.registry import find_format, open_source
from intake_img.model.agreement import REMEDY, CommonFacts, disagreement, facts_of, silent_on
from intake_img.model.axes import spell
from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.readers import Reader
from intake_img.storage.files import File
from intake_img.storage.jail import Jail
from intake_img.storage.journal import moved
from intake_img.storage.locks import ProcessLock

__all__ = ["Files", "Members"]


_HEADER = 2**18  # bytes that a file may have besides its pixels to be fetched completely


@dataclass(frozen=True, eq=False)
class Files:
    """Opens one file of many in the format of the first one, or in its own."""

    paths: tuple[str, ...]  # in C order of the grid; "" for a missing file
    first: str
    variable: str
    format: Format
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: np.dtype
    options: tuple[tuple[str, Any], ...]
    storage_options: tuple[tuple[str, Any], ...]
    spread: tuple[str, ...]  # axes in the names
    facts: CommonFacts
    overruled: Mapping[str, Collection[str]]  # overruled by the user: files may differ in it
    jail: Jail | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def file(self, path: str) -> File:
        file = File(path, dict(self.storage_options), self.jail)
        return moved(file) if ".partial/" in path else file

    def source(self, path: str, most: int = 0) -> FormatSource:
        """Return the source of one file; a remote one of up to `most` bytes is fetched in one request."""
        file = self.file(path)
        file = file.fetched(most) if most and not file.local and not self.format.folder else file
        if self.named_alike(path):
            return self._template.beside(file)
        return open_source(find_format(file), file, **self._options)

    def named_alike(self, path: str) -> bool:
        return os.path.splitext(path)[1].lower() == self._extension

    @cached_property
    def _extension(self) -> str:
        return os.path.splitext(self.first)[1].lower()

    @cached_property
    def _options(self) -> dict[str, Any]:
        known = {"storage_options": dict(self.storage_options)} if self.storage_options else {}
        return {**dict(self.options), **known}

    @cached_property
    def _template(self) -> FormatSource:
        return open_source(self.format, self.file(self.first), **self._options)

    @cached_property
    def _model(self) -> tuple[Reader, Handle] | None:
        """The reader and parsed header of the first file, if its format can detect identical headers."""
        try:
            reader = self._first.reader
            leaf = _leaf(reader)
            if leaf is None:
                return None
            with leaf.lease() as handle:
                if type(handle).reuse_for is Handle.reuse_for:
                    return None
                alike = handle.reuse_for(leaf.file)  # read the compared metadata now
                if alike is None:
                    return None
                alike.close()
                return reader, handle  # the pool may close it, so the compared metadata are kept
        except (OSError, FormatError):
            return None

    @cached_property
    def _first(self) -> Pixels:
        return self.pixels(self.first)

    def begin(self, pixels: Pixels | None) -> Files:
        """Return the same files, with the pixels of the first one, if its header is parsed already."""
        if pixels is not None:
            self.__dict__["_first"] = pixels
        return self

    def check_first(self) -> None:
        """Raise `SourceChangedError` if the first file was replaced after its header was read for the others."""
        pixels = self.__dict__.get("_first")
        leaf = _leaf(pixels.reader) if pixels is not None else None
        if leaf is not None and ".partial/" not in self.first:
            with contextlib.suppress(FileNotFoundError):  # the error follows when it is read
                leaf.check()

    def pixels(self, path: str, most: int = 0) -> Pixels:
        """Return the pixels of one file, after comparing its header with the first one's; for `most` see `source`."""
        return self._matched(path, self.source(path, most).image())

    def _matched(self, path: str, image: Image) -> Pixels:
        v = image.variables.get(self.variable) or next(iter(image.variables.values()))
        if v.pixels.shape != self.shape or v.axes != self.axes or v.pixels.dtype != self.dtype:
            raise FormatError(
                f"{path} contains {spell(v.axes)} {v.pixels.shape} {v.pixels.dtype}, but {self.first} contains "
                f"{spell(self.axes)} {self.shape} {self.dtype}: the files of one image must have the same axes, shape "
                "and dtype; load them in groups with group=True (--each on the command line)"
            )
        self._compare(path, facts_of(image, self.kept))
        return v.pixels

    @cached_property
    def kept(self) -> frozenset[str]:
        """The axes along which all files are equal: the axes that are not in the names."""
        return frozenset(a for a in self.axes if a not in self.spread)

    def _compare(self, path: str, theirs: CommonFacts) -> None:
        """Raise an error for a file that contradicts the first one, and warn if it has less or more metadata."""
        if (found := disagreement(self.facts, theirs, self.overruled)) is not None:
            what, mine, other = found
            raise FormatError(
                f"the {what} is {mine} in {self.first}, but {other} in {path}: the files of one image must agree; load "
                "them in groups with group=True (--each on the command line), or give the correct value with "
                f"metadata={REMEDY[what.split()[0]]}"
            )
        if path != self.first and not self._warned and (lost := silent_on(self.facts, theirs, self.overruled)):
            self._warned.append(path)
            warn(
                f"{self.first} and {path} have different metadata: only one of them has "
                f"{' and '.join(lost)}; the metadata of the first file are used"
            )

    @cached_property
    def _warned(self) -> list[str]:
        return []

    def check(self, paths: Iterable[str]) -> list[str]:
        """Read the headers of some files and compare them with the first one.

        Returns
        -------
        list of str
            The files that cannot be read, or contain several scenes.
        """
        return [path for path in paths if not (self._is_twin(path) or self._is_alike(path))]

    def _is_alike(self, path: str) -> bool:
        try:
            image = self.source(path).image()
        except (OSError, FormatError, AxesError):  # an error follows when it is read
            return False
        self._matched(path, image)
        return len(image.scenes) <= 1

    def _is_twin(self, path: str) -> bool:
        if self._model is None or not self.named_alike(path):
            return False
        with contextlib.suppress(Exception):  # the parser reports damage
            if (other := self._model[1].reuse_for(self.file(path))) is not None:
                other.close()
                return True
        return False

    def read_into(self, path: str, region: Region, out: np.ndarray) -> None:
        """Fill `out` with a region of one file; its header is parsed only if it differs from the first one's.

        Of a remote file that is wanted completely, header and pixels are fetched in one request.
        """
        if self._model is not None and self.named_alike(path):
            reader, handle = self._model
            file = self.file(path)
            with translated_errors(self.format, file):
                other = handle.reuse_for(file)
                if other is not None:
                    with contextlib.closing(other):
                        _bound(reader, other).read_into(region, out)
                    return
        with _PARSING if File(path).local else contextlib.nullcontext():
            complete = all(s.stop - s.start == n for s, n in zip(region, self.shape, strict=True))
            pixels = self.pixels(path, out.nbytes + _HEADER if complete else 0)
        pixels.read_into(region, out)


_PARSING = ProcessLock()
"""For parsing headers, which holds the interpreter lock: waiting threads do not disturb it."""


@dataclass(frozen=True)
class _Opened:
    """Reads regions of one array through an open handle."""

    handle: Handle
    address: Any

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 not in out.shape:
            self.handle.array(self.address).read_into(region, out)


def _leaf(reader: Any) -> FileReader | None:
    while not isinstance(reader, FileReader) and hasattr(reader, "reader"):
        reader = reader.reader
    return reader if isinstance(reader, FileReader) and reader.file.local else None


def _bound(reader: Any, handle: Handle) -> Reader:
    """Return a reader of the same pixels through an open file."""
    if isinstance(reader, FileReader):
        return _Opened(handle, reader.address)
    return replace(reader, reader=_bound(reader.reader, handle))


@dataclass(frozen=True, eq=False)
class Members:
    """Reads an array in which each position along the first axes is a file."""

    files: Files
    grid: tuple[int, ...]
    fill: Any = 0
    stamps: np.ndarray = field(init=False)
    """What the files looked like when the image was loaded, a row for each; zeros for remote ones."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamps", np.array(list(self._stamps()), np.int64).reshape(-1, 3))
        self.files.check_first()

    def __dask_tokenize__(self) -> Any:
        from dask import base

        files = self.files
        facts = files.format.name, files.variable, files.shape, self.grid, files.options, self.fill
        return base.normalize_token(("\0".join(files.paths), self.stamps, *facts))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        n = len(self.grid)
        for place in product(*(range(s.start, s.stop) for s in region[:n])):
            k = int(np.ravel_multi_index(place, self.grid)) if n else 0
            part = out[(*(p - s.start for p, s in zip(place, region, strict=False)), ...)]
            if self.files.paths[k]:
                self._read_member(k, region[n:], part)
            else:
                part[...] = self.fill

    def _read_member(self, k: int, region: Region, out: np.ndarray) -> None:
        """Read from one file; the result is used only if the file has not been replaced since it was found."""
        path, stamp = self.files.paths[k], tuple(self.stamps[k].tolist())
        try:
            self.files.read_into(path, region, out)
        finally:
            if any(stamp):
                now = self._stamp(path)
                if any(now) and now != stamp:
                    raise SourceChangedError(f"{path} was changed or replaced since it was found: load the image again")

    def _stamps(self) -> Iterator[tuple[int, int, int]]:
        look, regular, staged = os.stat, stat.S_ISREG, ".partial/"
        for path in self.files.paths:
            try:
                info = look(path)
            except (OSError, ValueError):
                yield self._stamp(path)
                continue
            plain = regular(info.st_mode) and staged not in path
            yield (info.st_mtime_ns, info.st_size, info.st_ino) if plain else self._stamp(path)

    def _stamp(self, path: str) -> tuple[int, int, int]:
        try:
            info = os.stat(self.files.file(path).path if ".partial/" in path else path)
            if not stat.S_ISDIR(info.st_mode):
                return info.st_mtime_ns, info.st_size, info.st_ino
            facts = repr(self.files.format.stamp(self.files.file(path)))
        except (OSError, ValueError):
            return 0, 0, 0
        return int.from_bytes(hashlib.blake2b(facts.encode(), digest_size=7).digest()), 0, info.st_ino
