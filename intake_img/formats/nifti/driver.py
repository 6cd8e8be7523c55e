"""The format ``nifti``: ``.nii``, ``.nii.gz`` and pairs of ``.hdr`` and ``.img``.

The first index of NIfTI runs fastest, so that an array in C order has its axes reversed; nothing is transposed, flipped
or reoriented. Units and the position in space are stated, and kept.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError, warn
from intake_img.formats.base import Format, Handle
from intake_img.formats.compression import level_of_name
from intake_img.formats.fields import pixels_beside
from intake_img.formats.format_source import source_of
from intake_img.formats.nifti.describe import image_of
from intake_img.formats.nifti.header import COMMENT, DATATYPES, LAYOUTS, extensions, parsed, sizes_of
from intake_img.formats.nifti.write import header_bytes, in_slots
from intake_img.formats.options import ScaledOption
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import ArrayHandle, packing, sample_volume, stored_array, unpacked
from intake_img.model.image import Image
from intake_img.storage.files import ByteReader, File
from intake_img.storage.journal import resolve
from intake_img.storage.streams import write_planes

__all__ = ["Nifti", "NiftiSource"]

_PAIR = re.compile(r"(.+\.)(hdr|img)((?:\.gz)?)", re.IGNORECASE)


class Nifti(Format):
    """Volume in a NIfTI-1, NIfTI-2 or Analyze 7.5 file, with its position in space."""

    name = "nifti"
    title = "NIfTI"
    private = "^(?:db_name|aux_file|patient_id|generated|scannum)$"  # of Analyze: often the name of the patient
    extensions = (".nii", ".nii.gz", ".hdr")
    options = ScaledOption

    def claims(self, probe: Probe) -> int:
        if probe.folder:
            return 0
        name = probe.name.lower()
        if re.search(r"\.img(\.gz)?$", name):
            with contextlib.suppress(FileNotFoundError):
                beside = _partner(probe.file)
                return self.claims(Probe(beside, beside.head(), False))
        head = probe.inner or probe.head
        if int.from_bytes(head[:4], "little") not in LAYOUTS and int.from_bytes(head[:4]) not in LAYOUTS:
            return 0
        try:
            kind = parsed(head.ljust(540, b"\0") if len(head) >= 348 else head, probe.file)[1]
        except FormatError:
            return 0
        return 2 if kind != "analyze" else int(name.endswith((".hdr", ".hdr.gz")))

    def stamp(self, file: File) -> tuple[Any, ...]:
        both = file.stamp()
        if _PAIR.fullmatch(file.name):
            with contextlib.suppress(FileNotFoundError):
                both += _partner(file).stamp()
        return both

    def open(self, file: File, options: ScaledOption) -> Handle:
        pair = _PAIR.fullmatch(file.name)
        first = resolve(_partner(file)) if pair and pair[2].lower() == "img" else file
        source = unpacked(first.open())
        header, kind, order = parsed(_begin(source), first)
        offset = _offset(header, kind)
        own = extensions(source, header.dtype.itemsize, offset if kind == "nifti" else source.size, order)
        comments = [text for code, text in own if code == COMMENT] if kind != "analyze" else []
        if kind != "nifti":
            source.close()
            source = _partner_opened(first, pair)
        dtype, shape = _pixel_type(header, order)
        stored = stored_array(source, offset, dtype, shape, alone=True)
        return ArrayHandle(stored, lambda pixels: image_of(pixels, header, kind, comments, options.scaled), source)

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | int | None = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".nii",
        version: int | None = None,
    ) -> None:
        """Write ``.nii`` or ``.nii.gz``, or ``.hdr`` with the pixels beside it in ``.img``.

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. `compress` is gzip's level, 1 to 9, only for ``.nii.gz``.
        name : str
            Name of the target: ``.nii``, ``.nii.gz`` or ``.hdr``.
        version : {1, 2}, optional
            Of NIfTI; by default 1, and 2 where an axis is longer than 32767.
        """
        split = self.pixels_in(name) != name
        if split and compress is not None:
            raise CannotWriteError("pixels beside a header are not compressed: save as .nii.gz")
        method, level = level_of_name(compress, name, {".gz": "gzip"}, 1)
        pixels, axes = in_slots(image)
        head = b"" if split else header_bytes(image, pixels, axes, version)
        with packing(path, method, level) as stream:
            stream.write(head)
            write_planes(stream, pixels, progress)

    def pixels_in(self, name: str) -> str:
        return pixels_beside(name, ".hdr", ".img")

    def companions(self, image: Image, name: str, options: Mapping[str, Any]) -> Mapping[str, bytes]:
        if self.pixels_in(name) == name:
            return {}
        return {name: header_bytes(image, *in_slots(image), options.get("version"), pair=True)}

    def sample(self, folder: str) -> tuple[str, Any]:
        head = np.zeros((), LAYOUTS[348].newbyteorder(">"))
        head["sizeof_hdr"], head["dim"], head["datatype"], head["bitpix"] = 348, [3, 4, 3, 2, 1, 1, 1, 1], 4, 16
        head["pixdim"], head["vox_offset"], head["magic"] = [1, 0.5, 0.25, 2, 0, 0, 0, 0], 352, b"n+1"
        head["xyzt_units"], head["scl_slope"], head["scl_inter"] = 3, 0.5, 3
        path, stored = sample_volume(f"{folder}/a.nii", head.tobytes() + bytes(4), ">i2")
        return path, stored * 0.5 + 3


NiftiSource = source_of(Nifti())


def _begin(source: ByteReader) -> bytes:
    """Return the first 540 bytes, or 348 of a file of NIfTI-1."""
    first = source.ranges([0], [4])[0]
    long = 540 in (int.from_bytes(first, "little"), int.from_bytes(first, "big"))
    return source.ranges([0], [540 if long else 348])[0]


def _pixel_type(header: np.void, order: Any) -> tuple[np.dtype, list[int]]:
    code = int(header["datatype"])
    if code not in DATATYPES:
        raise FormatError(f"data type {code} is not supported; of NIfTI's, {', '.join(map(str, DATATYPES))} are")
    dtype, samples = DATATYPES[code]
    return dtype.newbyteorder(order), [*sizes_of(header)[::-1], *[samples] * (samples > 1)]


def _offset(header: np.void, kind: str) -> int:
    """Return where the pixels begin."""
    stated = float(header["vox_offset"])
    if not np.isfinite(stated) or abs(stated) > 2**62 or stated != int(stated):
        raise FormatError(f"the header states that pixels begin at byte {stated}: it is damaged")
    if kind != "nifti":
        return int(stated)
    if 0 < stated < header.dtype.itemsize:
        warn(f"the header states that pixels begin within it, at byte {stated:.0f}")
    return int(stated) or header.dtype.itemsize + 4


def _partner(file: File) -> File:
    """Return the other file of a pair."""
    found = _PAIR.fullmatch(file.name)
    if not found:
        raise FormatError(f"{file}: its pixels are in another file: expected the endings .hdr and .img")
    other = "img" if found[2].lower() == "hdr" else "hdr"
    return file.sibling(found[1] + (other.upper() if found[2].isupper() else other) + found[3])


def _partner_opened(header: File, pair: re.Match[str] | None) -> ByteReader:
    file = _partner(header)
    try:
        source = resolve(file).open()
    except FileNotFoundError:
        raise FormatError(f"{header} is one of a pair: its pixels are in {file.name}, which is missing") from None
    return unpacked(source) if pair and pair[3] else source
