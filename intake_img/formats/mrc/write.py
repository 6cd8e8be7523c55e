"""The header of an image that is written as MRC, and the order of its pixels."""

from __future__ import annotations

import math
import sys

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.mrc.header import HEADER, IMOD, MODES, RECORD, SAMPLES, SIGNED, seal
from intake_img.formats.volumes import sealed, spacing_in
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical, convert

__all__ = ["written"]


def written(image: Image) -> tuple[Pixels, np.ndarray, bytes]:
    """Return the pixels in the order of MRC, the header and the record."""
    variable = image.only
    lead = [a for a in variable.axes if a not in "zyx"]
    if len(lead) > 1 or not {"y", "x"} <= set(variable.axes):
        raise CannotWriteError(f"MRC stores y, x, z and one axis more, but the image has {', '.join(variable.axes)}")
    order = lead + [a for a in "zyx" if a in variable.axes]
    pixels = variable.pixels.transpose([variable.axes.index(a) for a in order])
    pixels = pixels.astype("u1") if pixels.dtype == bool else pixels
    modes = {np.dtype(name): mode for mode, name in MODES.items() if mode not in SAMPLES} | {np.dtype("u1"): 0}
    if pixels.dtype not in modes or pixels.size == 0:
        raise CannotWriteError(f"MRC cannot store dtype {pixels.dtype} with shape {pixels.shape}")
    sizes = {a: image.sizes.get(a, 1) for a in "xyz"}
    header = np.zeros((), HEADER)
    header["n"] = sizes["x"], sizes["y"], sizes["z"] * math.prod(image.sizes[a] for a in lead)
    header["m"], header["mode"], header["map_axes"] = list(sizes.values()), modes[pixels.dtype], (1, 2, 3)
    header["ispg"] = (401 if lead else 1) if "z" in order else 0
    spacing, unit = spacing_in(image, "xyz", ("Å",))
    if unit:
        header["cella"] = [spacing.get(a, 0) * n for a, n in sizes.items()]
        given = {a: canonical(image.units[a]) or "Å" for a in spacing}
        header["origin"] = [convert(image.origin.get(a, 0.0), given[a], "Å") if a in spacing else 0 for a in "xyz"]
    header["cellb"], header["dmax"], header["dmean"], header["rms"] = 90, -1, -2, -1  # statistics are not known
    header["imod_stamp"], header["imod_flags"] = IMOD, 0 if pixels.dtype == np.dtype("u1") else SIGNED
    header["map"], header["nversion"], header["exttyp"] = b"MAP ", 20141, RECORD
    header["machst"] = np.void(b"\x44\x44\0\0" if sys.byteorder == "little" else b"\x11\x11\0\0")
    record = sealed(image.record(order), seal(header)).encode()
    record += bytes(-len(record) % 4)
    header["nsymbt"] = len(record)
    return pixels, header, record
