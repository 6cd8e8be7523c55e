"""Headers of FITS: cards of 80 letters in blocks of 2880 bytes, and where the images of a file lie.

Standard: https://fits.gsfc.nasa.gov/fits_standard.html, version 4.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from intake_img.errors import FormatError, warn
from intake_img.storage.files import ByteReader
from intake_img.storage.inflated import Inflated

__all__ = ["BLOCK", "Hdu", "hdus"]

BLOCK = 2880
_CARDS = 2**18
_HDUS = 10000
_VALUE = re.compile(r"\s*(?:'((?:[^']|'')*)'|([TF])\b|([+-]?[\d.]+(?:[EDed][+-]?\d+)?))?")


@dataclass(frozen=True)
class Hdu:
    """A header with the data behind it.

    Parameters
    ----------
    number : int
    cards : mapping of str to object
        Values by keyword.
    offset : int
        Where the data begin.
    """

    number: int
    cards: Mapping[str, Any]
    offset: int

    @property
    def packed(self) -> bool:
        """Whether it is an image in compressed tiles, in a table."""
        return self.cards.get("XTENSION") == "BINTABLE" and self.cards.get("ZIMAGE") is True

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes, in C order."""
        z = "Z" if self.packed else ""
        return tuple(_count(self.cards, f"{z}NAXIS{n}") for n in range(_count(self.cards, f"{z}NAXIS"), 0, -1))

    @property
    def is_image(self) -> bool:
        """Whether it contains an image with pixels."""
        kind = self.cards.get("XTENSION", "IMAGE") == "IMAGE" or self.packed
        return kind and bool(self.shape) and min(self.shape) > 0

    @property
    def nbytes(self) -> int:
        """Number of bytes of the data, without the padding of the last block."""
        sizes = [_count(self.cards, f"NAXIS{n + 1}") for n in range(_count(self.cards, "NAXIS"))]
        if self.cards.get("GROUPS") is True and sizes[:1] == [0]:
            sizes = sizes[1:]
        pixels = math.prod(sizes) if sizes else 0
        groups, more = self.cards.get("GCOUNT", 1), self.cards.get("PCOUNT", 0)
        if not isinstance(groups, int) or not isinstance(more, int) or groups < 0 or more < 0:
            raise FormatError(f"GCOUNT is {groups!r} and PCOUNT {more!r}: expected whole numbers")
        return abs(int(self.cards.get("BITPIX") or 0)) // 8 * groups * (more + pixels) if sizes else 0


def hdus(source: ByteReader) -> list[Hdu]:
    """Return all headers of a file.

    Raises
    ------
    FormatError
        If the first one is none of FITS.
    """
    found: list[Hdu] = []
    offset = 0
    while len(found) < _HDUS and (not found or _goes_on(source, found[0], offset)):
        try:
            cards, offset = _read(source, offset)
        except FormatError as exc:
            if not found:
                raise
            warn(f"{exc}; the {len(found)} parts of the file before it are read")
            break
        if not cards:
            break
        found.append(Hdu(len(found), cards, offset))
        offset += -(-found[-1].nbytes // BLOCK) * BLOCK
    if not found:
        raise FormatError(f"{source.file} does not begin with the card SIMPLE: it is not a FITS file")
    return found


def _goes_on(source: ByteReader, first: Hdu, offset: int) -> bool:
    if isinstance(source, Inflated) and first.cards.get("EXTEND") is not True:
        return False  # to look would be to inflate all
    if 8 <= source.size - offset < BLOCK:  # cut off within a header, or something else
        return bool(source.ranges([offset], [8])[0] == b"XTENSION")
    return offset + BLOCK <= source.size


def _read(source: ByteReader, offset: int) -> tuple[dict[str, Any], int]:
    """Return the cards of a header, none if there is no header, and the offset of its data."""
    texts: list[str] = []
    start = offset
    while len(texts) < _CARDS:
        block = source.ranges([offset], [BLOCK])[0]
        offset += BLOCK
        cards = [block[k : k + 80].decode("ascii", "replace") for k in range(0, BLOCK, 80)]
        if not texts and not cards[0].startswith(("SIMPLE  =", "XTENSION=") if start else "SIMPLE  ="):
            return {}, offset
        ends = [k for k, card in enumerate(cards) if card.rstrip() == "END"]
        texts += cards[: ends[0]] if ends else cards
        if ends:
            return dict(_values(texts)), offset
    raise FormatError(f"{source.file}: the header at byte {start} has no END within {_CARDS} cards: it is damaged")


def _values(cards: list[str]) -> Iterator[tuple[str, Any]]:
    name, text = "", ""
    for card in cards:
        key = card[:8].rstrip()
        if key == "CONTINUE" and text.endswith("&"):
            text = text[:-1] + str(_value(card[8:]) or "")
            yield name, text
        elif card[8:10] == "= ":
            name, value = key, _value(card[10:])
            text = value if isinstance(value, str) else ""
            yield name, value


def _value(text: str) -> Any:
    found = _VALUE.match(text)
    if found is None or found.lastindex is None:
        return None
    if found[1] is not None:
        return found[1].replace("''", "'").rstrip()
    if found[2]:
        return found[2] == "T"
    try:
        return int(found[3]) if re.fullmatch(r"[+-]?\d+", found[3]) else float(re.sub("[Dd]", "E", found[3]))
    except ValueError:
        return None


def _count(cards: Mapping[str, Any], name: str) -> int:
    value = cards.get(name)
    if type(value) is not int or not 0 <= value < 2**62 or (name.endswith("NAXIS") and value > 999):
        raise FormatError(f"{name} is {value!r}: expected a whole number")
    return value
