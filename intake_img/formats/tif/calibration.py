"""ImageJ's calibration of values: what the stored numbers mean.

Source: ``ij.measure.Calibration`` and ``ij.io.FileInfo`` of ImageJ; ``cf`` is the function, ``c0``, ``c1``, ... are its
coefficients, ``vunit`` is the unit of the values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.errors import warn
from intake_img.model.pixels import Pixels
from intake_img.model.untrusted import finite

__all__ = ["calibrated"]

_STRAIGHT_LINE, _NONE = 0, 20
_SIGNED = (-32768.0, 1.0)


def calibrated(pixels: Pixels, facts: Mapping[str, Any], name: str) -> Pixels:
    """Return the values that ImageJ shows.

    Parameters
    ----------
    pixels : Pixels
        The stored numbers.
    facts : mapping
        ImageJ's description.
    name : str
        The file, for the warning.

    Returns
    -------
    Pixels
        int16, if the stored numbers are signed ones plus 32768, as ImageJ stores them; float64 for another straight
        line, ``c0 + c1 * number``; else the stored numbers.

    Warns
    -----
    UserWarning
        If the function is no straight line.
    """
    function = facts.get("cf")
    if function in (None, _NONE) or pixels.dtype.kind != "u":  # ImageJ calibrates 8 and 16 bits
        return pixels
    line = tuple(finite(facts.get(key), math.nan) for key in ("c0", "c1"))
    if function != _STRAIGHT_LINE or not all(map(math.isfinite, line)) or not line[1]:
        warn(f"{name}: ImageJ shows other values ({facts.get('vunit', 'calibrated')}, cf={function}): read as stored")
        return pixels
    if line == _SIGNED and pixels.dtype == np.uint16:
        return pixels.scaled(1.0, line[0], np.float32).astype(np.int16)
    return pixels.scaled(line[1], line[0])
