"""Text headers, with the pixels after them or in other files.

Public for NRRD and MetaImage: how the lines of a header are read, where pixels lie, and how text, compressed bytes and
lists of files become an array.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError, IntakeImgError
from intake_img.formats.base import Handle, StoredArray
from intake_img.model.chunks import Region
from intake_img.storage.files import ByteReader, File
from intake_img.storage.journal import resolve

__all__ = [
    "Joined",
    "Parsed",
    "beside",
    "from_hex",
    "from_text",
    "header_lines",
    "listed",
    "names_one",
    "numbers",
    "parts",
    "pixels_beside",
    "stamp_with_parts",
]

_HEADER = 2**25  # bytes
_STEP = 2**12
_FILES = 2**16


def header_lines(source: ByteReader, last: re.Pattern[bytes]) -> tuple[list[str], int]:
    """Return the lines at the beginning of a file, and where the next byte is.

    Parameters
    ----------
    source : ByteReader
    last : re.Pattern
        Matches the line, with its end, that is the last one. The end of the file ends the header too.
    """
    text = b""
    while len(text) < source.size:
        if len(text) > _HEADER:
            raise FormatError(f"{source.file}: the header has no end within {_HEADER} bytes: it is damaged")
        more = min(max(_STEP, len(text)), source.size - len(text))
        text += source.ranges([len(text)], [more])[0]
        if found := last.search(text):
            text = text[: found.end()]
            break
    return text.decode("utf-8", "replace").splitlines(), len(text)


def numbers(text: str, what: str, kind: type = float) -> list[Any]:
    """Return the numbers in a text.

    Raises
    ------
    FormatError
        If it contains anything else.
    """
    try:
        return [kind(word) for word in text.split()]
    except ValueError:
        raise FormatError(f"{what} is {text[:80]!r}: expected numbers") from None


def beside(header: File, name: str) -> ByteReader:
    """Open a file that a header names."""
    try:
        return resolve(header.sibling(name)).open()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FormatError(f"{header} says that its pixels are in {name}, which is missing") from None


def pixels_beside(name: str, header: str, pixels: str) -> str:
    """Return the name of the file of pixels beside a header, or `name` itself if it has not the ending of a header.

    Parameters
    ----------
    name : str
    header, pixels : str
        Their endings, in lower case.
    """
    begin, end = name[: -len(header)], name[-len(header) :]
    if end.lower() != header:
        return name
    return begin + (pixels.upper() if end.isupper() else pixels)


def names_one(header: bytes, names: Callable[[Sequence[str]], Sequence[str]], name: str) -> bytes:
    """Return a header, after a look at whether the names that are read from its lines are this one.

    Raises
    ------
    CannotWriteError
        If the name has a meaning of its own there, such as a pattern of names.
    """
    found: Sequence[str] = ()
    with contextlib.suppress(FormatError):
        found = names(header.decode().splitlines())
    if list(found) != [name]:
        raise CannotWriteError(f"a header cannot name a file {name!r}: choose another name")
    return header


def listed(pattern: str, first: int, last: int, step: int) -> list[str]:
    """Return the names that a pattern of C (``slice%03d.raw``) stands for, from `first` to `last`."""
    if step == 0 or not re.fullmatch(r"[^%]*%0?\d{0,2}[diu][^%]*", pattern):
        raise FormatError(f"the header states pixels in files {pattern!r}, step {step}: expected a number such as %03d")
    count = (last - first) // step + 1
    if not 1 <= count <= _FILES:
        raise FormatError(f"the header states pixels in {count} files: expected 1 to {_FILES}")
    return [pattern % (first + k * step) for k in range(count)]


class Joined(StoredArray):
    """An array in many files, each of which contains an equal share; they are opened when they are read.

    Parameters
    ----------
    header : File
    names : sequence of str
        Of the files.
    inner : int
        Number of axes of the array in a file; that of the complete array, if a file contains a slab of it.
    shape : sequence of int
        Of the complete array.
    make : callable
        Returns the array in an open file, of which it is given the shape.

    Raises
    ------
    FormatError
        If the number of files does not fit the shape.
    """

    decodes = False

    def __init__(
        self,
        header: File,
        names: Sequence[str],
        inner: int,
        shape: Sequence[int],
        dtype: np.dtype,
        make: Callable[[ByteReader, Sequence[int]], StoredArray],
    ) -> None:
        self.header, self.names, self.make = header, list(names), make
        self.shape, self.dtype = tuple(shape), dtype.newbyteorder("=")
        self.lead = max(1, len(self.shape) - inner)
        total = int(np.prod(self.shape[: self.lead]))
        self.rows = total // max(1, len(self.names))
        if (
            not self.names
            or inner < 1
            or self.rows * len(self.names) != total
            or (self.rows > 1 and inner < len(self.shape))
        ):
            raise FormatError(f"{header}: pixels of shape {self.shape} cannot be shared by {len(self.names)} files")
        self.tiles = (1,) * self.lead + self.shape[self.lead :]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        lead, inner = region[: self.lead], region[self.lead :]
        spans = [np.arange(s.start, s.stop) for s in lead]
        flat = np.ravel_multi_index(np.meshgrid(*spans, indexing="ij"), self.shape[: self.lead])
        for place, number in np.ndenumerate(flat):
            which, row = divmod(int(number), self.rows)
            with_row = (slice(row, row + 1), *inner)
            source = beside(self.header, self.names[which])
            try:
                self.make(source, (self.rows, *self.shape[self.lead :])).read_into(with_row, out[place][None])
            finally:
                source.close()


class Parsed(StoredArray):
    """An array that is parsed completely, and cached for some time.

    Parameters
    ----------
    make : callable
        Returns the array.
    dtype : numpy.dtype
    shape : sequence of int
    """

    def __init__(self, make: Callable[[], np.ndarray], dtype: np.dtype, shape: Sequence[int]) -> None:
        self.make, self.dtype, self.shape = make, dtype.newbyteorder("="), tuple(shape)
        self.tiles = self.shape
        self._keeper = Handle()

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = self._keeper.kept(None, self.make)[region]


def from_text(source: ByteReader, offset: int, dtype: np.dtype, shape: Sequence[int]) -> Parsed:
    """Return an array whose numbers are written as text, between white space or commas."""
    count = int(np.prod(shape))
    if source.size - offset < 2 * count - 1:
        raise FormatError(f"{source.file}: the header states {count} numbers as text: it is truncated or damaged")

    def make() -> np.ndarray:
        words = source.ranges([offset], [source.size - offset])[0].replace(b",", b" ").split()
        if len(words) < count:
            raise FormatError(f"{source.file} contains {len(words)} numbers as text, and the header states {count}")
        kind: Any = int if dtype.kind in "iu" else float
        return np.array([kind(word) for word in words[:count]], dtype.newbyteorder("=")).reshape(shape)

    return Parsed(make, dtype, shape)


def from_hex(source: ByteReader, offset: int, dtype: np.dtype, shape: Sequence[int]) -> Parsed:
    """Return an array whose bytes are written as hexadecimal digits."""
    count = int(np.prod(shape)) * dtype.itemsize
    if source.size - offset < 2 * count:
        raise FormatError(f"{source.file}: the header states {count} bytes as digits: it is truncated or damaged")

    def make() -> np.ndarray:
        data = bytes.fromhex(source.ranges([offset], [source.size - offset])[0].decode("ascii"))
        if len(data) < count:
            raise FormatError(f"{source.file} contains {len(data)} bytes as digits, and the header states {count}")
        return np.frombuffer(data, dtype, count // dtype.itemsize).reshape(shape)

    return Parsed(make, dtype, shape)


@lru_cache(64)
def parts(file: File, stamp: object, names: Callable[[ByteReader], Sequence[str]]) -> list[File]:
    """Return the other files that contain the pixels of a file, whose names `names` reads from its header.

    Parameters
    ----------
    file : File
    stamp : object
        What the file looks like now, so that its header is read once.
    names : callable
    """
    try:
        source = file.open()
        try:
            return [file.sibling(name) for name in names(source)]
        finally:
            source.close()
    except (IntakeImgError, OSError, ValueError):  # opening it raises the error
        return []


def stamp_with_parts(file: File, names: Callable[[ByteReader], Sequence[str]]) -> tuple[Any, ...]:
    """Return the stamp of a file and, if it is local, of the other files that contain its pixels."""
    own = file.stamp()
    return own + tuple(part.stamp() for part in parts(file, own, names) if part.exists()) if file.local else own
