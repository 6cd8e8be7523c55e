"""DICOM: single files, folders of series, films, enhanced multi-frame objects, segmentations and whole slides."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle
from intake_img.formats.dicom.folder import files_in
from intake_img.formats.dicom.handle import DicomOptions, FileHandle, FolderHandle
from intake_img.formats.dicom.header import IDENTIFIABLE, MAGIC, is_bare, is_dicom
from intake_img.formats.dicom.sample import write_sample
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Dicom", "DicomSource"]

_LOOKED_AT = 3  # files of a folder that are looked at


class Dicom(Format):
    """Image in a DICOM file, or the series in a folder of DICOM files.

    The series of a folder are scenes. Slices are sorted by their position along the normal of the plane, whatever their
    names and numbers are; uneven distances become an explicit coordinate of ``z``, several frames at one position the
    axis ``t``, or ``c`` for echoes and b-values. Spacing is in mm, and `ds.img.affine` gives the position in the space
    of the patient. Segmentations are masks along ``c``, label maps are labels; the tiles of whole slides make one
    plane. Values are ``slope * stored + intercept``, slice by slice. Names, birth dates and numbers of people are left
    out of the header.
    """

    name = "dicom"
    title = "DICOM"
    private = IDENTIFIABLE
    extensions = (".dcm", ".dicom")
    magic = ((128, MAGIC),)
    series = True
    has_scenes = True
    options = DicomOptions
    extras = {"dicom": "reading and writing", "codecs": "lossless and 12-bit JPEG"}

    def claims(self, probe: Probe) -> int:
        if not probe.folder:
            if is_dicom(probe.head):
                return 2
            return int(probe.name.lower().endswith(self.extensions) and is_bare(probe.head))
        return 2 * _is_folder(probe.file)

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return what changes when a file of the folder is replaced, or one comes or goes."""
        if not file.local or not file.is_folder():
            return file.stamp()
        return tuple((f.path, *f.stamp()) for f in files_in(file))

    def open(self, file: File, options: DicomOptions) -> Handle:
        return FolderHandle(file, options) if file.is_folder() else FileHandle(file, options)

    def write(
        self, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write a multi-frame secondary capture image: grey values of 8 or 16 bits, masks, or RGB of 8 bits.

        Signed integers of 16 bits are stored with an intercept. Position and spacing are those of `ds.img.affine`, in
        mm; what DICOM has no attribute for is kept in a private element.

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. Files are not compressed.
        """
        from intake_img.formats.dicom.write import write_dicom

        write_dicom(image, path, compress, progress)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        return write_sample(folder)


DicomSource = source_of(Dicom())


def _is_folder(file: File) -> bool:
    """Return whether a folder contains DICOM files: one of the first is one, or there is a DICOMDIR."""
    if not file.local:
        return False
    try:
        with os.scandir(file.path) as entries:
            names = [e.name for _, e in zip(range(1000), entries, strict=False) if e.is_file() and e.name[0] != "."]
    except OSError:
        return False
    if "DICOMDIR" in names:
        return True
    likely = sorted(names, key=lambda n: (not n.lower().endswith((".dcm", ".dicom")), "." in n, n))[:_LOOKED_AT]
    try:
        return any(is_dicom((file / n).head(132)) for n in likely)
    except (OSError, FormatError):
        return False
