"""Open files and folders of DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from intake_img.formats.base import Handle, StoredArray
from intake_img.formats.dicom.cut import with_held_frames
from intake_img.formats.dicom.describe import FileImages
from intake_img.formats.dicom.folder import DicomSeries, series_in, unique
from intake_img.formats.dicom.header import DicomHeader, parsed
from intake_img.formats.options import ScaledOption, option
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["DicomOptions", "FileHandle", "FolderHandle"]


@dataclass(frozen=True)
class DicomOptions(ScaledOption):
    """How files are read."""

    patient: bool = option(
        False, "bool", "Whether the header includes names, dates and numbers of the patient and of other people."
    )


class FileHandle(Handle):
    """One open file."""

    def __init__(self, file: File, options: DicomOptions) -> None:
        self.source = file.open()
        header = with_held_frames(parsed(file, self.source), self.source)
        self.images = FileImages(self, self.source, header, options.scaled, options.patient)

    def describe(self, scene: int | str, level: int) -> Image:
        return self.images.image()

    def array(self, address: str) -> StoredArray:
        return self.images.array(address)

    def close(self) -> None:
        self.source.close()


class FolderHandle(Handle):
    """A folder, whose series are scenes; an array is called by the number of its scene, and what it is."""

    def __init__(self, folder: File, options: DicomOptions) -> None:
        self.options = options
        self.found = series_in(self, folder, options.scaled, options.patient)
        self.several: dict[int, FileHandle] = {}

    @property
    def scene_names(self) -> Sequence[str]:
        return unique([s.name if isinstance(s, DicomSeries) else s[0] for s in self.found])

    def describe(self, scene: int | str, level: int) -> Image:
        found = self.found[int(scene)]
        if isinstance(found, DicomSeries):
            return found.image(int(scene))
        return self._of(int(scene), found[1]).describe(0, level)

    def _of(self, scene: int, header: DicomHeader) -> FileHandle:
        """Return the handle of a file that is a scene by itself; its arrays are read through this folder."""
        if scene not in self.several:
            handle = FileHandle(header.file, self.options)
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
