"""The header of a MetaImage: axes and position.

Documentation: https://itk.org/Wiki/MetaIO/Documentation. Positions are in LPS+, as ITK reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.fields import listed, numbers
from intake_img.formats.volumes import placed_by, unsealed
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import known_spacing

__all__ = ["AXES", "LAST", "RECORD", "TYPES", "MetaHeader", "image_of", "parsed", "seal"]

AXES = "xyztabdefg"
"""Letters of the axes, the fastest first; channels are even faster."""
LAST = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[^\n]*\n", re.MULTILINE)
RECORD = "intake_img"
"""Name of the fields of the record, which end in numbers."""
TYPES = {
    "CHAR": "i1",
    "UCHAR": "u1",
    "SHORT": "i2",
    "USHORT": "u2",
    "INT": "i4",
    "UINT": "u4",
    "LONG": "i4",  # MetaIO's, on any machine
    "ULONG": "u4",
    "LONG_LONG": "i8",
    "ULONG_LONG": "u8",
    "FLOAT": "f4",
    "DOUBLE": "f8",
}
_SAME = {"elementbyteordermsb": "binarydatabyteordermsb", "position": "offset", "origin": "offset"}
_SAME |= {"rotation": "transformmatrix", "orientation": "transformmatrix"}


@dataclass(frozen=True)
class MetaHeader:
    """What a header says.

    Parameters
    ----------
    fields : mapping of str to str
        By name in lower case, each by one of its names.
    names : sequence of str
        Files that contain the pixels; none if they follow the header.
    inner : int
        Number of axes in one of the files, without channels.
    """

    fields: Mapping[str, str]
    names: Sequence[str]
    inner: int

    def numbers(self, name: str) -> list[float]:
        return numbers(self.fields.get(name, ""), name)

    def number(self, name: str, otherwise: int) -> int:
        found = numbers(self.fields.get(name, ""), name, int)
        return int(found[0]) if found else otherwise

    def says(self, name: str) -> bool:
        return self.fields.get(name, "").lower() in ("true", "1", "yes")

    @property
    def sizes(self) -> list[int]:
        return numbers(self.fields["dimsize"], "DimSize", int)

    @property
    def channels(self) -> int:
        return self.number("elementnumberofchannels", 1)

    @property
    def dtype(self) -> np.dtype:
        name = self.fields.get("elementtype", "").upper().removeprefix("MET_").removesuffix("_ARRAY")
        if name not in TYPES:
            raise FormatError(f"ElementType {name!r} is not supported: expected one of MET_{', MET_'.join(TYPES)}")
        return np.dtype(TYPES[name]).newbyteorder(">" if self.says("binarydatabyteordermsb") else "<")


def parsed(lines: Sequence[str]) -> MetaHeader:
    """Return the header that lines contain; names of files may follow ``ElementDataFile = LIST``."""
    fields: dict[str, str] = {}
    names: list[str] = []
    for n, line in enumerate(lines):
        name, sign, value = line.partition("=")
        name = name.strip().lower()
        if sign:
            fields[_SAME.get(name, name)] = value.strip()
        if name == "elementdatafile":
            names = [text.strip() for text in lines[n + 1 :] if text.strip()]
            break
    if missing := [n for n in ("NDims", "DimSize", "ElementType", "ElementDataFile") if n.lower() not in fields]:
        raise FormatError(f"the header lacks {missing[0]}: it is truncated, or not a MetaImage")
    return _placed_pixels(_checked(fields), names)


def _checked(fields: dict[str, str]) -> dict[str, str]:
    count = numbers(fields["ndims"], "NDims", int)
    sizes = numbers(fields["dimsize"], "DimSize", int)
    if count != [len(sizes)] or not 1 <= len(sizes) <= len(AXES) or min(sizes) < 1:
        raise FormatError(f"NDims is {fields['ndims']!r} and DimSize {fields['dimsize']!r}: expected 1 to 10 sizes")
    return fields


def _placed_pixels(fields: dict[str, str], names: list[str]) -> MetaHeader:
    words = fields["elementdatafile"].split()
    count = len(fields["dimsize"].split())
    if words[:1] == ["LIST"]:
        inner = numbers(words[1].upper().removesuffix("D"), "LIST", int)[0] if len(words) > 1 else count - 1
        return MetaHeader(fields, names, inner)
    if len(words) == 4 and "%" in words[0]:
        return MetaHeader(fields, listed(words[0], *numbers(" ".join(words[1:]), "ElementDataFile", int)), count - 1)
    local = fields["elementdatafile"].upper() == "LOCAL"
    return MetaHeader(fields, [] if local else [fields["elementdatafile"]], count)


def seal(header: MetaHeader) -> bytes:
    """Return the layout of the pixels and their files from the header, in any spelling."""
    places = [header.numbers(name) for name in ("elementspacing", "offset", "transformmatrix")]
    return repr([header.dtype.newbyteorder("=").str, header.sizes, header.channels, places]).encode()


def image_of(pixels: Pixels, header: MetaHeader) -> Image:
    """Return the image of a header."""
    axes = AXES[: len(header.sizes)][::-1] + "c" * (header.channels > 1)
    records = {k: v for k, v in header.fields.items() if re.fullmatch(rf"{RECORD}\d+", k)}
    facts = {k: v for k, v in header.fields.items() if k not in records}
    image = _positioned(Image.single(pixels, axes, header=facts), header)
    text = "".join(records[f"{RECORD}{k}"] for k in range(len(records)) if f"{RECORD}{k}" in records)
    return image.restored(unsealed(text, seal(header)))


def _positioned(image: Image, header: MetaHeader) -> Image:
    count = len(header.sizes)
    steps = header.numbers("elementspacing") or header.numbers("elementsize")
    start = header.numbers("offset")
    matrix = np.array(header.numbers("transformmatrix"))
    unit = {"um": "µm", "mm": "mm", "cm": "cm"}.get(header.fields.get("distanceunits", "").lower(), "")
    turned = matrix.size == count * count
    directions = matrix.reshape(count, count) if turned else np.eye(count)
    if len(steps) != count:
        if not turned and len(start) != count:
            return image
        steps = [1.0] * count
    n = min(count, 3)
    if not np.any(directions[n:, :n]) and not np.any(directions[:n, n:]):
        vectors = directions[:n, :n] * np.array(steps[:n])[:, None]
        origin = start[:n] if len(start) == count else [np.nan] * n if not turned else [0.0] * n
        image = placed_by(image, AXES[:n], vectors, origin, "LPS+" if turned else None, unit)
    further = {a: s for a, s in zip(AXES[3:], steps[3:], strict=False) if known_spacing(s)}
    begins = {a: start[3 + k] for k, a in enumerate(further) if len(start) == count}
    return replace(image, spacing={**image.spacing, **further}, origin={**image.origin, **begins})
