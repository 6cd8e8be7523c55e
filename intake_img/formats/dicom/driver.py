"""DICOM: single files, folders of series, films, enhanced multi-frame objects, segmentations and whole slides."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, StoredArray
from intake_img.formats.dicom.describe import FileImages
from intake_img.formats.dicom.folder import DicomSeries, files_in, series_in, unique
from intake_img.formats.dicom.header import IDENTIFIABLE, MAGIC, DicomHeader, is_bare, is_dicom, parsed
from intake_img.formats.format_source import source_of
from intake_img.formats.options import ScaledOption, option
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Dicom", "DicomSource"]

_LOOKED_AT = 3  # files of a folder that are looked at


@dataclass(frozen=True)
class DicomOptions(ScaledOption):
    """How files are read."""

    patient: bool = option(
        False, "bool", "Whether the header includes names, dates and numbers of the patient and of other people."
    )


class _FileHandle(Handle):
    """One open file."""

    def __init__(self, file: File, options: DicomOptions) -> None:
        self.source = file.open()
        header = parsed(file, self.source)
        self.images = FileImages(self, self.source, header, options.scaled, options.patient)

    def describe(self, scene: int | str, level: int) -> Image:
        return self.images.image()

    def array(self, address: str) -> StoredArray:
        return self.images.array(address)

    def close(self) -> None:
        self.source.close()


class _FolderHandle(Handle):
    """A folder, whose series are scenes; an array is called by the number of its scene, and what it is."""

    def __init__(self, folder: File, options: DicomOptions) -> None:
        self.options = options
        self.found = series_in(self, folder, options.scaled, options.patient)
        self.several: dict[int, _FileHandle] = {}

    @property
    def scene_names(self) -> Sequence[str]:
        return unique([s.name if isinstance(s, DicomSeries) else s[0] for s in self.found])

    def describe(self, scene: int | str, level: int) -> Image:
        found = self.found[int(scene)]
        if isinstance(found, DicomSeries):
            return found.image(int(scene))
        return self._of(int(scene), found[1]).describe(0, level)

    def _of(self, scene: int, header: DicomHeader) -> _FileHandle:
        """Return the handle of a file that is a scene by itself; its arrays are read through this folder."""
        if scene not in self.several:
            handle = _FileHandle(header.file, self.options)
            handle.pixels = lambda address=None: self.pixels((scene, address))  # type: ignore[method-assign]
            self.several[scene] = handle
        return self.several[scene]

    def array(self, address: Any) -> StoredArray:
        if isinstance(address, tuple):
            scene, what = address
            found = self.found[scene]
            assert not isinstance(found, DicomSeries)
            return self._of(scene, found[1]).array(what)
        series = self.found[address]
        assert isinstance(series, DicomSeries)
        return series.array()

    def close(self) -> None:
        for handle in self.several.values():
            handle.close()


class Dicom(Format):
    """Image in a DICOM file, or the series in a folder of DICOM files.

    The series of a folder are scenes. Slices are sorted by their position along the normal of the plane, whatever their
    names and numbers are; uneven distances become an explicit coordinate of ``z``, several frames at one position the
    axis ``t``, or ``c`` for echoes and b-values. Spacing is in mm, and `ds.img.affine` gives the position in the space
    of the patient. Segmentations are labels where their segments do not overlap, else masks along ``c``; the tiles of
    whole slides make one plane. Values are ``slope * stored + intercept``, slice by slice. Names, birth dates and
    numbers of people are left out of the header.
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
        return _FolderHandle(file, options) if file.is_folder() else _FileHandle(file, options)

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
        import pydicom

        values = np.arange(3 * 4 * 5, dtype="<u2").reshape(3, 4, 5)
        for k in (2, 0, 1):
            ds = pydicom.Dataset()
            ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{k}"
            ds.SeriesInstanceUID, ds.Rows, ds.Columns, ds.SamplesPerPixel = "1.2.3", 4, 5, 1
            ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "MONOCHROME2", 16, 16, 15
            ds.PixelRepresentation, ds.PixelSpacing = 0, [0.5, 0.25]
            ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [1, 2, 3 + 2 * k]
            ds.PixelData = values[k].tobytes()
            ds.file_meta = pydicom.dataset.FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            os.makedirs(f"{folder}/series", exist_ok=True)
            ds.save_as(f"{folder}/series/IM{3 - k}", enforce_file_format=True)
        coords = {
            a: (a, s * np.arange(n), {"units": "mm", "spacing": s})
            for a, s, n in (("z", 2.0, 3), ("y", 0.5, 4), ("x", 0.25, 5))
        }
        return f"{folder}/series", xr.Dataset({"image": (tuple("zyx"), values)}, coords)


DicomSource = source_of(Dicom())


def _is_folder(file: File) -> bool:
    """Return whether a folder holds DICOM files: one of the first is one, or there is a DICOMDIR."""
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
