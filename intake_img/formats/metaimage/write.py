"""The MetaImage header of an image."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.metaimage.header import AXES, RECORD, TYPES, parsed, seal
from intake_img.formats.volumes import exact_standin, sealed, spacing_in
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical, convert

__all__ = ["SIZE", "header_text"]

SIZE = b"CompressedDataSize = " + b"0" * 20
"""Line whose number is filled in when it is known."""

_LONGEST = 10000  # letters in a line: MetaIO reads up to 32768


def header_text(image: Image, packed: bool, file: str = "LOCAL") -> tuple[Pixels, bytes]:
    """Return the pixels in the order in which they are to be stored, and the header.

    Parameters
    ----------
    image : Image
    packed : bool
        The pixels are compressed.
    file : str
        Where they are; ``"LOCAL"`` is after the header.

    Raises
    ------
    CannotWriteError
        If MetaImage has no such data type or not as many axes, or the image no pixel.
    """
    variable = image.only
    dtype = exact_standin(variable.pixels.dtype)
    names: dict[Any, str] = {np.dtype(code): name for name, code in TYPES.items() if name not in ("LONG", "ULONG")}
    slots, order = _slots(variable.axes)
    if dtype not in names or variable.pixels.size == 0 or len(slots) > len(AXES):
        raise CannotWriteError(f"MetaImage cannot store dtype {dtype} with shape {variable.pixels.shape}")
    pixels = variable.pixels.transpose([variable.axes.index(a) for a in order]).astype(dtype)
    channels = dict(zip(order, pixels.shape, strict=True)).get("c", 1)
    lines = ["ObjectType = Image", f"NDims = {len(slots)}", "BinaryData = True"]
    lines += [f"BinaryDataByteOrderMSB = {sys.byteorder == 'big'}", f"CompressedData = {packed}"]
    lines += [SIZE.decode()] * packed
    lines += _geometry(image, slots)
    lines += [f"DimSize = {' '.join(str(image.sizes.get(a, 1)) for a in slots)}"]
    lines += [f"ElementNumberOfChannels = {channels}"] * (channels > 1)
    lines += [f"ElementType = MET_{names[dtype]}"]
    last = f"ElementDataFile = {file}"
    record = sealed(image.record(order), seal(parsed([*lines, "ElementDataFile = LOCAL"])))
    record = record.replace(" ", r"\u0020")  # readers strip those at the ends of lines
    parts = [record[k : k + _LONGEST] for k in range(0, len(record), _LONGEST)]
    lines += [f"{RECORD}{k} = {part}" for k, part in enumerate(parts)]
    return pixels, "\n".join([*lines, last, ""]).encode()


def _slots(axes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the axes in the order of the header, with those in between that the image lacks; and in C order."""
    further = [a for a in axes if a not in "xyztc"]
    known = "xyzt" if "t" in axes or further else "xyz" if "z" in axes else "xy"
    slots = [*known, *further[::-1]]
    return slots, [a for a in slots[::-1] if a in axes] + ["c"] * ("c" in axes)


def _geometry(image: Image, slots: list[str]) -> list[str]:
    n = len(slots)
    spacing, unit = spacing_in(image, "xyz", ("cm", "mm", "µm"))
    spacing |= {a: image.spacing[a] for a in slots if a not in "xyz" and a in image.spacing}
    steps = [spacing.get(a, 1.0) for a in slots]
    offset = [_in_unit(image, a, unit) for a in slots]
    lines = []
    if (affine := image.affine) is not None and set("xyz") <= set(slots):
        given = canonical(affine.unit)
        matrix = affine.to("LPS+")[:3] * (convert(1.0, given, unit) if given and unit and given != unit else 1)
        steps[:3] = np.linalg.norm(matrix[:, :3], axis=0).tolist()
        turn = np.eye(n)
        turn[:3, :3] = (matrix[:, :3] / steps[:3]).T
        offset[:3] = matrix[:, 3].tolist()
        lines = [f"TransformMatrix = {_listed(turn.ravel().tolist())}"]
    if not spacing and not lines:
        return []
    lines += [f"Offset = {_listed(offset)}", f"ElementSpacing = {_listed(steps)}"]
    return [*lines, f"DistanceUnits = {unit.replace('µ', 'u')}"] if unit else lines


def _in_unit(image: Image, axis: str, unit: str) -> float:
    start, given = float(image.origin.get(axis) or 0.0), canonical(image.units.get(axis))
    return convert(start, given, unit) if axis in "xyz" and given and unit and given != unit else start


def _listed(numbers: list[float]) -> str:
    return " ".join(repr(float(n)) for n in numbers)
