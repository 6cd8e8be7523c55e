"""Axes, units and position from a NIfTI header."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.errors import warn
from intake_img.formats.nifti.header import DATATYPES, SPACES, UNITS, matrix_of, sizes_of
from intake_img.formats.volumes import unsealed
from intake_img.model.affine import AFFINE_AXES, Affine
from intake_img.model.image import Coordinate, Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import known_spacing

__all__ = ["AXES", "LABELS", "image_of", "seal"]

AXES = "xyztcvw"
"""Letters of the seven axes; the fifth is for several values of a pixel."""
LABELS = 1002
"""The intent of an image of labels."""
_SEALED = "dim datatype pixdim scl_slope scl_inter xyzt_units toffset qform_code sform_code quatern qoffset srow"


def seal(header: Any) -> bytes:
    """Return the fields of a header that say what the pixels are and where."""
    return b"".join(header[name].tobytes() for name in _SEALED.split())


def image_of(pixels: Pixels, header: np.void, kind: str, comments: Sequence[bytes], scaled: bool) -> Image:
    """Return the image of a header and its comments."""
    samples = DATATYPES[int(header["datatype"])][1]
    axes, channels = AXES[: len(sizes_of(header))][::-1], None
    if samples > 1:
        axes, channels = axes + ("s" if "c" in axes else "c"), "RGBA"[:samples]
    elif scaled:
        pixels = _valued(pixels, header, kind)
    attrs = {"kind": "labels"} if header["intent_code"] == LABELS and pixels.dtype.kind in "iu" else {}
    named = channels if "s" not in axes else None
    image = Image.single(pixels, axes, channels=named, variable_attrs=attrs, header=_plain(header))
    image = _placed(replace(image, **_steps(image, header, kind)), header, kind)
    records = [text.rstrip(b"\0") for text in comments if text.startswith(b'{"intake_img"')]
    return image.restored(unsealed(records[0], seal(header))) if records and scaled else image


def _valued(pixels: Pixels, header: np.void, kind: str) -> Pixels:
    slope, offset = float(header["scl_slope"]), float(header["scl_inter"]) if kind != "analyze" else 0.0
    if not math.isfinite(slope) or slope == 0:
        return pixels
    offset = offset if math.isfinite(offset) else 0.0
    return pixels.scaled(slope, offset, np.complex128 if pixels.dtype.kind == "c" else np.float64)


def _steps(image: Image, header: np.void, kind: str) -> dict[str, Any]:
    """Return spacing, units and origin of time; 0 is unknown, and signs come from the qform."""
    stated = {a: known_spacing(abs(n)) for a, n in zip("xyzt", header["pixdim"][1:5].tolist(), strict=True)}
    spacing = {a: n for a, n in stated.items() if n is not None and a in image.sizes}
    if kind == "analyze":
        return {"spacing": spacing}
    code = int(header["xyzt_units"])
    units = {a: unit for a in spacing if (unit := UNITS.get(code & (0x38 if a == "t" else 0x07)))}
    start = float(header["toffset"])
    return {
        "spacing": spacing,
        "units": units,
        "origin": {"t": start} if "t" in spacing and math.isfinite(start) else {},
    }


def _placed(image: Image, header: np.void, kind: str) -> Image:
    if kind == "analyze" or (found := matrix_of(header)) is None:
        return image
    matrix, code = found
    unit = UNITS.get(int(header["xyzt_units"]) & 0x07, "")
    try:
        affine = Affine(matrix, "RAS+", unit)
    except ValueError as exc:
        warn(f"the matrix of the header is left out: {exc}")
        return image
    image = image.placed(replace(affine, grid=_grid(image, affine)))
    first = Coordinate((), np.asarray(0.0), {"units": unit} if unit else {})
    missing = {a: first for a in AFFINE_AXES if a not in image.sizes}
    attrs = {**image.attrs, "space": SPACES.get(code, str(code))}
    return replace(image, coords={**image.coords, **missing}, attrs=attrs)


def _grid(image: Image, affine: Affine) -> dict[str, tuple[float, float]]:
    """Return the spacing that pixdim states in more digits than the matrix, where they agree."""
    grid = {}
    for axis, length in affine.spacing.items():
        stated = image.spacing.get(axis, length)
        if math.isclose(stated, length, rel_tol=1e-3):
            grid[axis] = (0.0, stated)
            continue
        why = f"pixels along {axis} are {stated:g} long by pixdim, and {length:g} by the matrix, which is used"
        warn(why)
    return grid


def _plain(header: np.void) -> dict[str, Any]:
    fields = {name: header[name].tolist() for name in header.dtype.names or ()}
    return {k: v for k, v in fields.items() if v != b"" and not (isinstance(v, float) and not math.isfinite(v))}
