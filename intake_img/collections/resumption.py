"""What tells whether an interrupted write of many files was of the same image as the one that resumes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.model.image import Image, Variable
from intake_img.model.record import coordinate_record
from intake_img.storage.files import File

__all__ = ["Check", "holds", "token_of"]

Check = Callable[[Image, File], None]
"""Raises an error if a complete file has not the pixels of its part of the image."""


def token_of(image: Image, names: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal metadata, names of files and settings; it does not depend on the pixels."""
    facts = [
        {n: [v.axes, v.pixels.shape, v.pixels.dtype.str] for n, v in image.variables.items()},
        {n: coordinate_record(c) for n, c in image.coords.items()},
        list(names),
        {k: repr(v) for k, v in settings.items()},
    ]
    return hashlib.blake2b(json.dumps(facts, default=str, sort_keys=True).encode(), digest_size=16).hexdigest()


def holds(found: xr.DataArray, variable: Variable) -> bool:
    """Return whether an array that was read from a file has the pixels of a variable.

    Axes of length 1 do not matter, and axes that the file does not name are taken in their order. True as well if the
    file gives another shape: then the two cannot be compared.
    """
    if set(found.dims) == set(variable.axes):
        found = found.transpose(*variable.axes)
    have, want = np.squeeze(found.values), np.squeeze(variable.pixels.read())
    return have.shape != want.shape or np.array_equal(have, want, equal_nan=want.dtype.kind in "fcmM")
