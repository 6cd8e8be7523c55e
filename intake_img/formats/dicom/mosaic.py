"""Siemens mosaics: the slices of a volume side by side in one plane; their number is in the private CSA header.

The layout of the CSA header and the position of the first slice are those that nibabel documents and reads
(https://nipy.org/nibabel/dicom/siemens_csa.html, https://nipy.org/nibabel/dicom/dicom_mosaic.html).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.errors import warn
from intake_img.formats.base import StoredArray
from intake_img.formats.dicom.header import DicomHeader, numbers, whole_number
from intake_img.formats.dicom.slices import Slice, slice_of
from intake_img.model.chunks import Region

__all__ = ["Unfolded", "slices_in_mosaic", "tiles_in"]

_CSA = "SIEMENS CSA HEADER"
_TAG = struct.Struct("<64si4s3i")  # name, multiplicity, type, syngo's type, number of items, a constant
_ITEM = struct.Struct("<4i")
_MOST = 1000  # tags, and items of a tag


def tiles_in(header: DicomHeader) -> int:
    """Return the number of slices in the plane of a file; 1 if it is not a mosaic, or lacks the header."""
    if "MOSAIC" not in header.image_type or header.stated > 1:
        return 1
    facts = _facts(header.ds)
    count = int(facts.get("NumberOfImagesInMosaic", [0])[0])
    side = math.ceil(math.sqrt(max(count, 0)))
    sizes = [whole_number(header.item, name) for name in ("Rows", "Columns")]
    if not 1 <= count <= _MOST or any(n % side or n < side for n in sizes) or header.ds.get("SamplesPerPixel") != 1:
        warn(
            f"{header.file}: a mosaic of {count} slices (0: no private header counts them) does not fit its plane of "
            f"{sizes[0]} x {sizes[1]}: it opens as one plane"
        )
        return 1
    return count


def slices_in_mosaic(number: int, header: DicomHeader, count: int) -> list[Slice]:
    """Return the slices of a file, which are numbered from `number` on."""
    whole = slice_of(number, [header.item])
    normal, step = whole.normal, numbers(header.item.get("SpacingBetweenSlices"))
    if count == 1 or normal is None or whole.position is None or whole.orientation is None or whole.spacing is None:
        return [replace(whole, number=number + k) for k in range(count)]
    stated = _facts(header.ds).get("SliceNormalVector", [])
    if len(stated) == 3 and np.dot(stated, normal) < 0:
        normal = -normal
    side = math.ceil(math.sqrt(count))
    rows, columns = (int(header.ds[name].value) * (1 - 1 / side) / 2 for name in ("Rows", "Columns"))
    along, down = np.reshape(whole.orientation, (2, 3))
    first = whole.position + down * whole.spacing[0] * rows + along * whole.spacing[1] * columns
    distance = abs(step[0]) if step and step[0] else (numbers(header.item.get("SliceThickness")) or [1.0])[0]
    places = [tuple((first + normal * distance * k).tolist()) for k in range(count)]
    return [replace(whole, number=number + k, position=place) for k, place in enumerate(places)]


class Unfolded(StoredArray):
    """The slices of a mosaic, (slice, y, x), row by row.

    Parameters
    ----------
    frames : StoredArray
        One frame, (1, y, x).
    count : int
    """

    def __init__(self, frames: StoredArray, count: int) -> None:
        self.frames, self.side = frames, math.ceil(math.sqrt(count))
        _, rows, columns = frames.shape
        self.plane = rows // self.side, columns // self.side
        self.shape, self.dtype, self.decodes = (count, *self.plane), frames.dtype, frames.decodes
        self.tiles = (1, *self.plane) if frames.decodes else (1, 1, self.plane[1])

    def read_into(self, region: Region, out: np.ndarray) -> None:
        for k in range(region[0].start, region[0].stop):
            starts = [n * m for n, m in zip(divmod(k, self.side), self.plane, strict=True)]
            part = tuple(slice(r.start + s, r.stop + s) for r, s in zip(region[1:], starts, strict=True))
            place = k - region[0].start
            self.frames.read_into((slice(0, 1), *part), out[place : place + 1])


def _facts(ds: Any) -> Mapping[str, list[float]]:
    """Return the numbers of the CSA image header by name; empty if the header is missing or damaged."""
    try:
        data = bytes(ds.private_block(0x0029, _CSA)[0x10].value)
        return _parsed(data)
    except (KeyError, TypeError, ValueError, struct.error):
        return {}


def _parsed(data: bytes) -> dict[str, list[float]]:
    at, newer = (8, True) if data[:4] == b"SV10" else (0, False)
    count = struct.unpack_from("<I", data, at)[0]
    at += 8
    found: dict[str, list[float]] = {}
    lead = 0
    for number in range(count if count <= _MOST else 0):
        name, _, _, _, items, _ = _TAG.unpack_from(data, at)
        at += _TAG.size
        lead = items if number == 0 else lead
        texts = []
        for _ in range(items if 0 <= items <= _MOST else 0):
            sizes = _ITEM.unpack_from(data, at)
            length = max(sizes[1] if newer else sizes[0] - lead, 0)
            at += _ITEM.size
            texts.append(data[at : at + length].partition(b"\0")[0].strip().decode("latin-1"))
            at += -(-length // 4) * 4
        found[name.partition(b"\0")[0].decode("latin-1")] = numbers([t for t in texts if t]) or []
    return {name: values for name, values in found.items() if values}
