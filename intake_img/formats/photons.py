"""Photon records of a PTU file: their markers, and where the last complete line of a file that was cut off ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.storage.files import ByteReader, File

__all__ = ["RECORDS", "check_markers", "complete_records", "complete_shape", "missing_records"]

RECORDS = "TTResult_NumberOfRecords"
"""Tag that counts the records."""
_SIZE = 4  # bytes of a record
_LINE = 2**22  # records of a line, at most


def check_markers(ptu: Any, file: File) -> None:
    """Raise an error for marker numbers that are not bits of a photon record: ptufile would shift by them."""
    for name in ("ImgHdr_LineStart", "ImgHdr_LineStop", "ImgHdr_Frame"):
        number = ptu.tags.get(name, 0)
        if not (isinstance(number, int) and 0 <= number <= 32):
            raise FormatError(f"{file}: {name} is {number}: expected the number of a marker; the file is damaged")


def missing_records(ptu: Any, size: int) -> int:
    """Return how many of the records that the header counts are not in the file of `size` bytes."""
    return max(0, -(-(ptu.record_offset + _SIZE * ptu.number_records - size) // _SIZE))


def complete_records(ptu: Any, source: ByteReader) -> int:
    """Return how many records there are up to the end of the last complete line.

    Parameters
    ----------
    ptu : ptufile.PtuFile
        Of an image in T3 mode.
    source : ByteReader

    Raises
    ------
    FormatError
        If no line is complete.
    """
    count = max(0, (source.size - ptu.record_offset) // _SIZE)
    first = max(0, count - _LINE)
    data = source.ranges([ptu.record_offset + _SIZE * first], [_SIZE * (count - first)])[0]
    marks = ptu.decode_records(np.frombuffer(data, "<u4").astype(np.uint32))["marker"]
    ends = np.flatnonzero(marks & (ptu.line_stop_mask or ptu.line_start_mask))
    if not len(ends):
        raise FormatError(f"{source.file} contains no complete line: it is truncated")
    return first + int(ends[-1]) + (1 if ptu.line_stop_mask else 0)


def complete_shape(ptu: Any, file: File) -> tuple[tuple[int, ...], str]:
    """Return the shape of the image of complete frames, or of the complete lines of the first one, and a note on it.

    Parameters
    ----------
    ptu : ptufile.PtuFile
        Whose records end with a complete line.
    file : File

    Raises
    ------
    FormatError
        If no line is complete.
    """
    shape, lines = list(ptu.shape), int(ptu.number_lines)
    if ptu.tags[RECORDS] < 1 or lines < 1:
        raise FormatError(f"{file} contains no complete line: it is truncated")
    if "Y" not in ptu.dims:
        return tuple(shape), f"there are {shape[0]} complete lines"
    if shape[0] == 1 and lines < shape[1]:
        return (1, lines, *shape[2:]), f"there are {lines} of {shape[1]} lines of the first frame"
    if lines < shape[0] * shape[1]:
        shape[0] -= 1  # ptufile counts a last frame that lacks a few lines
    return tuple(shape), f"there are {shape[0]} complete frames"
