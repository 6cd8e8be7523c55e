"""The header of MRC: its fields, byte order, axes, spacing and position."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.errors import warn
from intake_img.formats.volumes import unsealed
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import known_spacing

__all__ = [
    "HEADER",
    "IMOD",
    "MODES",
    "RECORD",
    "SAMPLES",
    "SIGNED",
    "image_of",
    "layout_of",
    "parsed",
    "seal",
    "unsigned",
]

_FIELDS = """
n:3i4 mode:i4 nstart:3i4 m:3i4 cella:3f4 cellb:3f4 map_axes:3i4 dmin:f4 dmax:f4 dmean:f4 ispg:i4 nsymbt:i4 extra1:V8
exttyp:S4 nversion:i4 extra2:V40 imod_stamp:i4 imod_flags:i4 extra3:V36 origin:3f4 map:S4 machst:V4 rms:f4 nlabl:i4
label:10S80
"""
HEADER = np.dtype([(name, kind) for name, _, kind in (field.partition(":") for field in _FIELDS.split())])
MODES = {0: "i1", 1: "i2", 2: "f4", 3: "i2", 4: "c8", 6: "u2", 12: "f2", 16: "u1"}
SAMPLES = {3: ("real", "imaginary"), 16: ("R", "G", "B")}
IMOD = 1146047817  # the stamp of files whose flags are set
SIGNED = 1
_SEALED = ("n", "mode", "nstart", "m", "cella", "map_axes", "ispg", "origin")
RECORD = b"MRCO"  # type of the extended header in which the record is


def parsed(head: bytes) -> np.void | None:
    """Return the header in the byte order in which it makes sense; None if it does in neither."""
    for dtype in (HEADER.newbyteorder("<"), HEADER.newbyteorder(">")):
        header: np.void = np.frombuffer(head, dtype, 1)[0]
        axes = sorted(header["map_axes"].tolist())
        if 0 <= header["mode"] <= 101 and header["n"].min() > 0 and axes in ([1, 2, 3], [0, 0, 0]):
            return header
    return None


def unsigned(header: np.void) -> bool:
    return bool(header["imod_stamp"] == IMOD and not header["imod_flags"] & SIGNED)


def layout_of(header: np.void) -> tuple[list[int], str]:
    """Return shape and axes, in C order."""
    nx, ny, nz = header["n"].tolist()
    ispg, mz = int(header["ispg"]), int(header["m"][2])
    letters = "".join("xyz"[k - 1] for k in _map_axes(header)[::-1])
    shape, axes = [nz, ny, nx], letters
    if 401 <= ispg <= 630 and mz > 0 and nz % mz == 0:
        shape, axes = [nz // mz, mz, ny, nx], "i" + letters
    elif ispg == 0 and nz == 1:
        shape, axes = [ny, nx], letters[1:] if letters[0] == "z" else "yx"
    elif ispg == 0 and mz == 1:
        axes = "i" + (letters[1:] if letters[0] == "z" else "yx")
    samples = SAMPLES.get(int(header["mode"]), ())
    return [*shape, *[len(samples)] * bool(samples)], axes + "c" * bool(samples)


def _map_axes(header: np.void) -> list[int]:
    found: list[int] = header["map_axes"].tolist()
    return found if sorted(found) == [1, 2, 3] else [1, 2, 3]


def image_of(pixels: Pixels, axes: str, header: np.void, text: bytes) -> Image:
    cell, counts = header["cella"].tolist(), header["m"].tolist()
    steps = {a: known_spacing(c / n) for a, c, n in zip("xyz", cell, counts, strict=True) if a in axes and n > 0}
    spacing = {a: step for a, step in steps.items() if step is not None}
    if any(c < 0 for c in cell):
        warn(f"the cell is {cell} Å: its negative lengths are left out")
    starts = {"xyz"[k - 1]: n for k, n in zip(_map_axes(header), header["nstart"].tolist(), strict=True)}
    stated = dict(zip("xyz", header["origin"].tolist(), strict=True))
    if not any(stated.values()) or not all(map(math.isfinite, stated.values())):
        stated = {a: starts[a] * s for a, s in spacing.items()}
    facts = {name: header[name].tolist() for name in HEADER.names or () if not name.startswith("extra")}
    facts = {k: v for k, v in facts.items() if not (isinstance(v, float) and not math.isfinite(v))}
    facts |= {"machst": bytes(header["machst"]).hex(), "label": [v for v in facts["label"] if v], "y_axis": "up"}
    named = Image.single(pixels, axes, channels=SAMPLES.get(int(header["mode"])), header=facts)
    units, origin = dict.fromkeys(spacing, "Å"), {a: stated[a] for a in spacing}
    image = replace(named, spacing=spacing, units=units, origin=origin)
    return image.restored(unsealed(text, seal(header))) if text else image


def seal(header: Any) -> bytes:
    return b"".join(np.asarray(header[name]).astype(header[name].dtype.newbyteorder("<")).tobytes() for name in _SEALED)
