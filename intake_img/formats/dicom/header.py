"""The header of a DICOM file: its attributes, the position of the pixels, and its public part.

Powered by pydicom. Format: DICOM PS3.5 (data structures), PS3.10 (files), https://www.dicomstandard.org/current.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from intake_img.errors import FormatError, warn
from intake_img.formats.dicom.elements import UNSURE, Item, keyword_of, spells_ascii, type_of, value_of
from intake_img.model.packages import imported
from intake_img.model.process_state import Overlapping, quiet
from intake_img.storage.files import ByteReader, File
from intake_img.storage.inflated import Inflated

__all__ = [
    "IDENTIFIABLE",
    "MAGIC",
    "DicomHeader",
    "is_bare",
    "is_dicom",
    "numbers",
    "parsed",
    "public",
    "text",
    "warn_of_table",
    "whole_number",
]

MAGIC = b"DICM"  # at byte 128
_ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")  # syntaxes: the JPEG family, RLE
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_MOST_INFLATED = 2**30  # bytes of a deflated file
_SHOWN = 2000  # letters of a value in the header
_PRIVATE = 0x10000  # private tags have an odd group
_BINARY = ("OB", "OW", "OD", "OF", "OL", "OV", "UN", "SQ")


@dataclass(frozen=True)
class DicomHeader:
    """What a file says before its pixels.

    Parameters
    ----------
    file : File
    ds : pydicom.Dataset
        Without pixels.
    place : (int, int) or None
        Offset and length of the pixels in the file; None where they are compressed, or there are none.
    holds_pixels : bool
    values : dict of int to object
        Public attributes that are read without pydicom, by tag.
    start : int, optional
        Offset of the pixels, also of compressed ones, whose offset table is there; None in a deflated file, and where
        the file does not encode them as it states.
    held : int, optional
        Number of complete frames of a file that was cut off.
    fragments : tuple, optional
        Offset and length of the compressed fragments of each of these frames.
    """

    file: File
    ds: Any
    place: tuple[int, int] | None
    holds_pixels: bool
    values: dict[int, Any] = field(default_factory=dict)
    start: int | None = None
    held: int | None = None
    fragments: tuple[tuple[tuple[int, int], ...], ...] | None = None

    @cached_property
    def item(self) -> Item:
        """All attributes; numbers and texts as Python's own."""
        return Item(self.values, self.ds)

    def items(self, name: str) -> Sequence[Any]:
        """Return the data sets in a sequence: `Item` or pydicom's."""
        return self.item.get(name) or []

    @property
    def syntax(self) -> str:
        """UID of the transfer syntax: how the file is encoded."""
        meta = getattr(self.ds, "file_meta", None)
        return str(getattr(meta, "TransferSyntaxUID", "") or "")

    @property
    def frames(self) -> int:
        """Number of frames; of a file that was cut off, of those that it holds."""
        return self.stated if self.held is None else self.held

    @property
    def stated(self) -> int:
        """Number of frames that the file should hold."""
        return whole_number(self.item, "NumberOfFrames", 1)

    @property
    def kind(self) -> str:
        """Name of the kind of object, e.g. ``"CT Image Storage"``."""
        uid = self.ds.get("SOPClassUID")
        return str(getattr(uid, "name", "") or "")

    @property
    def image_type(self) -> list[str]:
        """Values of ImageType."""
        return [str(v) for v in self.ds.get("ImageType") or []]


def is_dicom(head: bytes) -> bool:
    """Return whether a file begins like DICOM: 128 bytes of anything, then ``DICM``."""
    return head[128:132] == MAGIC


def is_bare(head: bytes) -> bool:
    """Return whether a file may be DICOM without the first 132 bytes: it begins with an attribute of groups 2 or 8."""
    tags = (b"\x08\0", b"\x02\0", b"\0\x08", b"\0\x02")
    return head[:2] in tags and any(head[k] == 0 for k in (2, 3)) and len(head) > 8


def parsed(file: File, source: ByteReader) -> DicomHeader:
    """Return the header of an open file.

    Raises
    ------
    MissingExtraError
        Without pydicom.
    FormatError
        If the file is not DICOM, or damaged.
    """
    pydicom = _pydicom()
    _check_inflated(source)
    with source.stream() as stream, quiet():  # odd values are met when they are used
        try:
            with _UNCHECKED:
                ds = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
                values = _values(ds)
        except RecursionError:
            raise FormatError(f"{file}: its sequences are nested without end: the file is damaged") from None
        meta = getattr(ds, "file_meta", None)
        if not len(ds) or not ("SOPClassUID" in ds or "Rows" in ds or "FileSetID" in ds):
            raise FormatError(f"{file} is not a DICOM file: it has no DICOM attributes")
        if meta is not None and getattr(meta, "TransferSyntaxUID", "") == _DEFLATED:
            return DicomHeader(file, ds, None, "Rows" in ds, values)
        place = _place(source, stream.tell(), ds)
    if place is None:
        return DicomHeader(file, ds, None, False, values)
    if place[1] is not None and str(getattr(meta, "TransferSyntaxUID", "")).startswith(_ENCAPSULATED):
        return DicomHeader(file, ds, None, True, values)
    if place[1] is None:
        return DicomHeader(file, ds, None, True, values, place[0] + 12)
    return DicomHeader(file, ds, cast(Any, place), True, values, place[0])


def _values(ds: Any) -> dict[int, Any]:
    """Values of public attributes that are encoded as they should be; pydicom converts the others.

    Private ones, often most of a header, stay bytes until asked for.
    """
    values: dict[int, Any] = {}
    ascii_texts = spells_ascii(_encoding(ds))
    for tag, element in _public_elements(ds):
        raw = isinstance(element, tuple)
        if raw and ascii_texts and (value := value_of(element)) is not UNSURE:
            values[tag] = value
            continue
        found = ds[tag] if raw else element
        for item in found.value or () if found.VR == "SQ" else ():
            _values(item)
    return values


def _encoding(ds: Any) -> str:
    """Name of the encoding of texts that switch to no other."""
    names = ds.original_character_set
    return str(names if isinstance(names, str) else names[0] if names else "")


def _public_elements(ds: Any) -> list[tuple[int, Any]]:
    """Tags and elements that the standard names, in their order; raw ones are tuples."""
    return sorted(((int(tag), e) for tag, e in ds.items() if not tag & _PRIVATE), key=lambda item: item[0])


def _pydicom() -> Any:
    return imported("pydicom", "dicom", "reading DICOM")


_UNCHECKED = Overlapping(lambda: _pydicom().config.disable_value_validation())
"""Values are not validated, which takes long; the setting is one of the process."""


def _check_inflated(source: ByteReader) -> None:
    """Refuse a deflated file that would fill the memory before a pixel is asked for."""
    head = source.ranges([0], [min(1024, source.size)])[0]
    if is_dicom(head) and _DEFLATED.encode() in head:
        start = 144 + int.from_bytes(head[140:144], "little")  # behind the attributes of group 0002
        if Inflated(source, "deflate", start).reaches(_MOST_INFLATED):
            raise FormatError(f"{source.file}: inflates to more than {_MOST_INFLATED / 2**20:.0f} MiB")


def _place(source: ByteReader, at: int, ds: Any) -> tuple[int, int | None] | None:
    """Return offset and length of the pixels, whose element begins at `at`; no length where they are in pieces."""
    if at + 8 > source.size:
        return None
    implicit, little = ds.is_implicit_VR, ds.is_little_endian
    order: Literal["little", "big"] = "little" if little else "big"
    head = source.ranges([at], [min(12, source.size - at)])[0]
    group, element = (int.from_bytes(head[k : k + 2], order) for k in (0, 2))
    if group << 16 | element not in _PIXELS:
        return None
    length = int.from_bytes(head[4:8] if implicit else head[8:12], order)
    if length == 0xFFFFFFFF:
        return at, None
    return at + (8 if implicit else 12), length


def numbers(value: Any, count: int | None = None) -> list[float] | None:
    """Return finite numbers, `count` of them; None if the value is not that."""
    try:
        several = hasattr(value, "__iter__") and not isinstance(value, str)  # a time of the day is one text
        found = [float(v) for v in (value if several else [value])]
    except (TypeError, ValueError):
        return None
    if (count is not None and len(found) != count) or not np.isfinite(found).all():
        return None
    return found


def warn_of_table(header: DicomHeader, scaled: bool) -> None:
    """Warn of values that a table of the modality states (PS3.3, C.11.1): it is not applied."""
    if scaled and "ModalityLUTSequence" in header.item:
        warn(f"{header.file}: its ModalityLUTSequence is not applied: the numbers are read as stored")


def text(ds: Any, name: str) -> str:
    """Return an attribute as text; empty where there is none."""
    return str(ds.get(name) or "").strip()


def whole_number(ds: Any, name: str, missing: int = 0) -> int:
    """Return an attribute that is one whole number, or `missing` where the file does not have it.

    Raises
    ------
    FormatError
        If it is several numbers, or no number.
    """
    value = ds.get(name) or missing
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise FormatError(f"{name} is {value!r}: expected one whole number; the file is damaged") from None


def public(header: DicomHeader, patient: bool = False) -> dict[str, Any]:
    """Return the attributes by name, as text and numbers.

    Parameters
    ----------
    header : DicomHeader
    patient : bool
        With names of people, and with the patient's attributes (group 0010). Private ones and sequences never.
    """
    found: dict[str, Any] = {}
    for tag, element in _public_elements(header.ds):
        kind = element.VR or type_of(tag)
        keyword = keyword_of(tag)
        personal = tag >> 16 == 0x0010 or kind == "PN" or keyword in _IDENTIFYING
        if kind in _BINARY or not keyword or (personal and not patient):
            continue
        value = header.values.get(tag, UNSURE)
        found[keyword] = _plain(element.value if value is UNSURE else value)
    return found


IDENTIFIABLE = (  # by the basic profile of PS3.15, Annex E: dates, places, free texts, identifiers
    r"^(?:\w*UIDs?|\w*(?:ID|IDs|Identifier|IdentificationMethod)|\w*Comments?|\w*Description|\w*Physician\w*|"
    r"\w*(?:Study|Series|Acquisition|Content|Creation|Step\w*|Admitting|Calibration|Birth)(?:Date|Time|DateTime)|"
    r"(?:Station|Institution\w*|Protocol)Name|RequestingService|\w*SerialNumber|ContentLabel|TimezoneOffsetFromUTC)$"
)
"""Keywords of attributes that may identify a patient, as a regular expression."""
_IDENTIFYING = {"AccessionNumber", "StudyID", "InstitutionAddress", "OtherPatientIDs", "DeviceSerialNumber"}


def _plain(value: Any) -> Any:
    if isinstance(value, (int, float, str)):
        return value[:_SHOWN] if isinstance(value, str) else _number(value)
    if isinstance(value, Sequence):
        return [_plain(v) for v in list(value)[:_SHOWN]]
    return str(value)[:_SHOWN]


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, int) else float(value)
