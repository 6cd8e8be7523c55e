"""The NRRD header of an image."""

from __future__ import annotations

import sys

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.nrrd.describe import RECORD, seal
from intake_img.formats.nrrd.header import SPACES, TYPES, parsed
from intake_img.formats.volumes import exact_standin, sealed
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical, known_spacing

__all__ = ["header_text"]


def header_text(image: Image, encoding: str, file: str = "") -> tuple[Pixels, bytes]:
    """Return the pixels as they are to be stored, and the header.

    Parameters
    ----------
    image : Image
    encoding : str
    file : str
        Where the pixels are; by default after the header.

    Raises
    ------
    CannotWriteError
        If NRRD has no such data type, or the image no pixel.
    """
    variable = image.only
    pixels = variable.pixels.astype(exact_standin(variable.pixels.dtype))
    number = np.dtype(f"f{pixels.dtype.itemsize // 2}") if pixels.dtype.kind == "c" else pixels.dtype
    names = {np.dtype(code): text.partition("|")[0] for code, text in TYPES.items()}
    if number not in names or not pixels.size > 0 or not 1 <= pixels.ndim <= 15:
        raise CannotWriteError(f"NRRD cannot store dtype {pixels.dtype} with shape {pixels.shape}")
    rows = {a: _Row(image, a, n) for a, n in zip(variable.axes[::-1], pixels.shape[::-1], strict=True)}
    lines = [f"type: {names[number]}", f"dimension: {len(rows) + (pixels.dtype.kind == 'c')}"]
    lines += _table(image, rows, pixels.dtype.kind == "c")
    lines += [f"endian: {sys.byteorder}", f"encoding: {encoding}"]
    text = "\n".join(["NRRD0005", *lines])
    record = sealed(image.record(), seal(parsed(text.splitlines())))
    beside = f"data file: {file}\n" if file else ""
    return pixels, f"{text}\n{beside}{RECORD}:={_escaped(record)}\n\n".encode()


class _Row:
    """What the header says of an axis."""

    def __init__(self, image: Image, axis: str, size: int) -> None:
        self.axis, self.size = axis, size
        self.spacing = known_spacing(image.spacing.get(axis)) or np.nan
        self.unit = _ascii(image.units.get(axis)) if np.isfinite(self.spacing) else ""
        self.origin = float(image.origin.get(axis) or 0.0) if np.isfinite(self.spacing) else np.nan
        self.kind = {"t": "time"}.get(axis, "domain" if axis in "xyz" else "list")
        if axis == "c" and image.channels in (list("RGB"), list("RGBA")):
            self.kind = f"{''.join(image.channels)}-color"


def _table(image: Image, rows: dict[str, _Row], split: bool) -> list[str]:
    """Return the fields that have an entry for each axis; `split`: complex numbers have one more."""
    every = list(rows.values())
    affine = image.affine if {"x", "y", "z"} <= set(rows) else None
    first = {"sizes": "2", "kinds": "complex", "spacings": "nan", "axis mins": "nan", "centerings": "none"}
    columns = {"sizes": [str(r.size) for r in every], "kinds": [r.kind for r in every]}
    lines = []
    if affine is not None:
        vectors = dict(zip("xyz", affine.matrix[:3, :3].T.tolist(), strict=True))
        columns["space directions"] = [_vector(vectors[a]) if a in vectors else "none" for a in rows]
        first["space directions"] = "none"
        unit = _ascii(affine.unit)
        lines = [f"space origin: {_vector(affine.matrix[:3, 3].tolist())}"]
        lines += [f"space units: {' '.join([_quoted(unit)] * 3)}"] if unit else []
        for row in every:
            if row.axis in vectors:
                row.spacing = row.origin = np.nan
                row.unit = ""
    if any(np.isfinite(r.spacing) for r in every):
        columns["spacings"] = [repr(float(r.spacing)) for r in every]
        columns["axis mins"] = [repr(float(r.origin)) for r in every]
        columns["centerings"] = ["node" if np.isfinite(r.origin) else "???" for r in every]
    texts = {"units": [r.unit for r in every], "labels": [r.axis for r in every]}
    columns |= {name: [_quoted(t) for t in found] for name, found in texts.items() if any(found)}
    first |= {"units": '""', "labels": '""'}
    space = [f"space: {SPACES[affine.space]}"] if affine is not None else []  # which comes before its vectors
    return [*space, *(f"{name}: {' '.join([first[name]] * split + found)}" for name, found in columns.items()), *lines]


def _vector(numbers: list[float]) -> str:
    return f"({','.join(map(repr, numbers))})"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _ascii(unit: object) -> str:
    """Return a unit in ASCII, which alone other readers take."""
    return (canonical(unit) or "").replace("µ", "u").replace("Å", "angstrom").encode("ascii", "ignore").decode()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
