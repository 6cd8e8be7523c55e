"""Palettes: pixels are indices, and their colours are in ``attrs["palette"]``.

One rule for TIFF, PNG, GIF, BMP and TGA: a palette is a list of ``"#RRGGBB"`` (or ``"#RRGGBBAA"``), one for each value
from 0 on; the option ``rgb=True`` gives the colours in place of the values. A palette that is a plain ramp of grey says
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.formats.base import StoredArray
from intake_img.formats.options import option
from intake_img.model.chunks import Region

__all__ = ["PALETTE", "Expanded", "PaletteOption", "colours_of", "palette_attrs"]

PALETTE = "palette"
"""The attribute with the palette of a variable."""
_MOST = 256  # colours: those of a longer palette do not fit into an attribute


@dataclass(frozen=True)
class PaletteOption:
    """The option of formats that know palettes."""

    rgb: bool = option(
        False,
        "bool",
        "Return the colours R, G, B (and A) of a palette on ``c``, instead of the indices; the palette is else in "
        '``attrs["palette"]``.',
    )


def palette_attrs(colours: np.ndarray | None) -> dict[str, Any]:
    """Return the attribute that keeps a palette; none for no palette, a ramp of grey, or more than 256 colours.

    Parameters
    ----------
    colours : ndarray of uint8 or uint16, shape (n, 3) or (n, 4)
        Red, green, blue and perhaps alpha of each value; of 16 bits the upper 8 are kept.

    Examples
    --------
    >>> palette_attrs(np.array([[0, 0, 0], [255, 0, 16]], "u1"))
    {'palette': ['#000000', '#FF0010']}
    """
    if colours is None or not 0 < len(colours) <= _MOST:
        return {}
    table = (colours >> 8 if colours.dtype.itemsize > 1 else colours).astype(np.uint8)
    ramp = np.arange(len(table), dtype=np.uint8)[:, None]
    if table.shape[1] == 3 and (table == ramp).all():
        return {}
    return {PALETTE: ["#" + bytes(row).hex().upper() for row in table]}


def colours_of(attrs: Mapping[str, Any]) -> np.ndarray | None:
    """Return the palette in the attributes of a variable, as uint8 of shape (n, 3) or (n, 4); None if there is none."""
    found = attrs.get(PALETTE)
    if not isinstance(found, Sequence) or isinstance(found, str) or not 0 < len(found) <= _MOST:
        return None
    texts = [str(text) for text in found]
    if len({len(text) for text in texts}) > 1 or not all(
        re.fullmatch("#(?:[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})", t) for t in texts
    ):
        return None
    return np.array([list(bytes.fromhex(text[1:])) for text in texts], np.uint8)


class Expanded(StoredArray):
    """An array of values as the colours that they stand for, on a last axis; values beyond the palette are black.

    Parameters
    ----------
    values : StoredArray
        Of uint8.
    colours : ndarray of uint8, shape (n, 3) or (n, 4)
    """

    def __init__(self, values: StoredArray, colours: np.ndarray) -> None:
        count = colours.shape[1]
        self.values = values
        self.table = np.zeros((_MOST, count), np.uint8)
        self.table[: len(colours)] = colours
        self.shape, self.dtype = (*values.shape, count), np.dtype(np.uint8)
        self.tiles, self.parallel = (*values.tiles, count), values.parallel

    def read_into(self, region: Region, out: np.ndarray) -> None:
        values = np.empty(out.shape[:-1], self.values.dtype)
        self.values.read_into(region[:-1], values)
        out[...] = self.table[:, region[-1]][values]
