"""The NIfTI header of an image."""

from __future__ import annotations

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.nifti.describe import AXES, LABELS, seal
from intake_img.formats.nifti.header import COMMENT, DATATYPES, LAYOUTS, SPACES, UNITS
from intake_img.formats.volumes import exact_standin, sealed, spacing_in
from intake_img.model.affine import Affine
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical, convert, known_spacing

__all__ = ["header_bytes", "in_slots"]

_CODES = {np.dtype(name).newbyteorder("="): code for code, (name, samples) in DATATYPES.items() if samples == 1}


def in_slots(image: Image) -> tuple[Pixels, dict[str, int]]:
    """Return the pixels in the order of NIfTI, and which of the seven axes each of theirs is, counted from 1.

    Raises
    ------
    CannotWriteError
        If NIfTI has no place for an axis, or no such data type.
    """
    variable = image.only
    others = [a for a in variable.axes if a not in "xyztc"]
    if len(others) > 2:
        raise CannotWriteError(f"NIfTI has x, y, z, t, c and two further axes, but the image has {', '.join(others)}")
    places = {a: AXES.index(a) + 1 for a in "xyztc" if a in variable.axes}
    places |= {a: 6 + k for k, a in enumerate(others[::-1])}
    order = sorted(variable.axes, key=lambda a: -places[a])
    dtype = exact_standin(variable.pixels.dtype)
    if dtype not in _CODES or variable.pixels.size == 0 or not variable.axes:
        raise CannotWriteError(f"NIfTI cannot store dtype {dtype} with shape {variable.pixels.shape}")
    pixels = variable.pixels.transpose([variable.axes.index(a) for a in order]).astype(dtype)
    return pixels, {a: places[a] for a in order}


def header_bytes(
    image: Image, pixels: Pixels, places: dict[str, int], version: int | None = None, *, pair: bool = False
) -> bytes:
    """Return the header, and the record as its extension; `pair`: the pixels are in another file."""
    if version not in (None, 1, 2):
        raise CannotWriteError(f"version={version!r}: NIfTI has 1 and 2")
    longest = max(pixels.shape)
    if version == 1 and longest > 32767:
        raise CannotWriteError(f"an axis of {longest} pixels is too long for NIfTI-1: leave out version=")
    size = 540 if version == 2 or longest > 32767 else 348
    header = np.zeros((), LAYOUTS[size])
    header["sizeof_hdr"], header["magic"] = size, b"n+1" if size == 348 else b"n+2\0\r\n\x1a\n"
    if pair:
        header["magic"] = bytes(header["magic"]).replace(b"+", b"i")
    _fill(header, image, pixels, places)
    record = sealed(image.record(list(places)), seal(header[()])).encode()
    record += bytes(-(len(record) + 8) % 16)
    header["vox_offset"] = 0 if pair else size + 4 + 8 + len(record)
    return header.tobytes() + b"\1\0\0\0" + np.array([8 + len(record), COMMENT], "i4").tobytes() + record


def _fill(header: np.ndarray, image: Image, pixels: Pixels, places: dict[str, int]) -> None:
    dim = [max(2, *places.values()), *[1] * 7]
    for n, place in zip(pixels.shape, places.values(), strict=True):
        dim[place] = n
    header["dim"], header["datatype"], header["bitpix"] = dim, _CODES[pixels.dtype], 8 * pixels.dtype.itemsize
    header["scl_slope"] = 1
    labels = image.only.kind == "labels" and pixels.dtype.kind in "iu"
    header["intent_code"] = LABELS if labels else 0
    spacing, unit = spacing_in(image, "xyz", ("m", "mm", "µm"))
    times, ticks = spacing_in(image, "t", ("s", "ms", "µs"))
    header["pixdim"] = [1, *[(spacing | times).get(a, 0) for a in AXES]]
    codes = {symbol: code for code, symbol in UNITS.items()}
    header["xyzt_units"] = codes.get(unit, 0) | codes.get(ticks, 0)
    if times and ticks:
        header["toffset"] = convert(image.origin.get("t", 0.0), image.units["t"], ticks)
    if (affine := image.affine) is not None:
        _place(header, affine, unit, str(image.attrs.get("space", "")))


def _place(header: np.ndarray, affine: Affine, unit: str, space: str) -> None:
    matrix = affine.to("RAS+")[:3]
    given = canonical(affine.unit)
    if given and unit and given != unit:
        matrix = matrix * convert(1.0, given, unit)
    header["srow"] = matrix
    header["sform_code"] = next((code for code, name in SPACES.items() if name == space), 1)
    steps = np.linalg.norm(matrix[:, :3], axis=0)
    for k, step in enumerate(steps.tolist(), 1):
        if known_spacing(header["pixdim"][k]) is None:
            header["pixdim"][k] = step
