"""Headers of NIfTI-1 (348 bytes), NIfTI-2 (540 bytes) and Analyze 7.5, and the matrices they state.

Specifications: nifti1.h and nifti2.h, https://nifti.nimh.nih.gov.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from intake_img.errors import FormatError
from intake_img.storage.files import ByteReader

__all__ = ["COMMENT", "DATATYPES", "LAYOUTS", "SPACES", "UNITS", "extensions", "matrix_of", "parsed", "sizes_of"]

_ONE = """
sizeof_hdr:i4 data_type:S10 db_name:S18 extents:i4 session_error:i2 regular:S1 dim_info:u1 dim:8i2 intent_p:3f4
intent_code:i2 datatype:i2 bitpix:i2 slice_start:i2 pixdim:8f4 vox_offset:f4 scl_slope:f4 scl_inter:f4 slice_end:i2
slice_code:u1 xyzt_units:u1 cal_max:f4 cal_min:f4 slice_duration:f4 toffset:f4 glmax:i4 glmin:i4 descrip:S80
aux_file:S24 qform_code:i2 sform_code:i2 quatern:3f4 qoffset:3f4 srow:(3,4)f4 intent_name:S16 magic:S4
"""
_TWO = """
sizeof_hdr:i4 magic:S8 datatype:i2 bitpix:i2 dim:8i8 intent_p:3f8 pixdim:8f8 vox_offset:i8 scl_slope:f8 scl_inter:f8
cal_max:f8 cal_min:f8 slice_duration:f8 toffset:f8 slice_start:i8 slice_end:i8 descrip:S80 aux_file:S24 qform_code:i4
sform_code:i4 quatern:3f8 qoffset:3f8 srow:(3,4)f8 slice_code:i4 xyzt_units:i4 intent_code:i4 intent_name:S16
dim_info:u1 unused:S15
"""


def _layout(text: str) -> np.dtype:
    return np.dtype([(name, kind) for name, _, kind in (field.partition(":") for field in text.split())])


LAYOUTS = {348: _layout(_ONE), 540: _layout(_TWO)}
"""Fields of a header, by its length."""
_TYPES = "2:u1 4:i2 8:i4 16:f4 32:c8 64:f8 128:u1x3 256:i1 512:u2 768:u4 1024:i8 1280:u8 1792:c16 2304:u1x4"
_PAIRS = [pair.split(":") for pair in _TYPES.split()]
DATATYPES = {int(code): (np.dtype(kind[:3].rstrip("x")), int(kind[3:] or 1)) for code, kind in _PAIRS}
"""Code of a data type: dtype, and number of values per pixel."""
UNITS = {1: "m", 2: "mm", 3: "µm", 8: "s", 16: "ms", 24: "µs", 32: "Hz", 40: "ppm", 48: "rad/s"}
SPACES = {1: "scanner", 2: "aligned", 3: "talairach", 4: "mni152", 5: "template"}
"""Code of a matrix: name of its space."""
COMMENT = 6
"""Code of a header extension that is a comment."""
_EXTENSIONS = 2**25  # bytes


def parsed(head: bytes, file: Any) -> tuple[np.void, str, str]:
    """Return the header, ``"nifti"``, ``"pair"`` (pixels in another file) or ``"analyze"``, and its byte order.

    Raises
    ------
    FormatError
        If it is neither.
    """
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    for order in orders:
        layout = LAYOUTS.get(int.from_bytes(head[:4], "little" if order == "<" else "big"))
        if layout is None or len(head) < layout.itemsize:
            continue
        header = np.frombuffer(head, layout.newbyteorder(order), 1)[0]
        magic = bytes(header["magic"])
        if magic[:3] in (b"n+1", b"n+2", b"ni1", b"ni2"):
            return header, "nifti" if magic[1:2] == b"+" else "pair", order
        if layout.itemsize == 348:
            return header, "analyze", order
    raise FormatError(f"{file} begins with {head[:4]!r}: expected a header of NIfTI or Analyze, 348 or 540 bytes long")


def sizes_of(header: np.void) -> list[int]:
    """Return the lengths of the axes, x first."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise FormatError(f"the header states {count} axes: expected 1 to 7")
    return header["dim"][1 : count + 1].tolist()


def extensions(source: ByteReader, start: int, stop: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Iterate over code and content of the header extensions between two offsets of a file."""
    if not 4 <= stop - start <= _EXTENSIONS or not source.ranges([start], [1])[0][0]:
        return
    data = source.ranges([start + 4], [stop - start - 4])[0]
    while len(data) >= 16:
        size, code = np.frombuffer(data, f"{order}i4", 2).tolist()
        if not 16 <= size <= len(data):
            return
        yield code, data[8:size]
        data = data[size:]


def matrix_of(header: np.void) -> tuple[np.ndarray, int] | None:
    """Return the matrix from indices to RAS+, of the sform or else the qform, and the code of its space."""
    if header["sform_code"] > 0:
        return np.vstack([header["srow"].astype(float), [0, 0, 0, 1]]), int(header["sform_code"])
    if header["qform_code"] > 0:
        return _qform(header), int(header["qform_code"])
    return None


def _qform(header: np.void) -> np.ndarray:
    """Rotation of a quaternion whose real part is positive, times pixdim; nifti1.h, method 2."""
    b, c, d = header["quatern"].astype(float)
    rest = 1 - (b * b + c * c + d * d)
    a = np.sqrt(max(rest, 0.0))
    if rest < 1e-7:
        b, c, d = np.array([b, c, d]) / np.sqrt(1 - rest)
        a = 0.0
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    steps = np.abs(header["pixdim"][1:4].astype(float))
    steps[2] *= -1 if header["pixdim"][0] < 0 else 1
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation * steps, header["qoffset"]
    return matrix
