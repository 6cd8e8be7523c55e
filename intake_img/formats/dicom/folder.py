"""A folder of DICOM files: its series as volumes, each a scene."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Handle, StoredArray
from intake_img.formats.dicom.describe import valued
from intake_img.formats.dicom.frames import Arranged, frames_of
from intake_img.formats.dicom.header import MAGIC, DicomHeader, is_dicom, numbers, parsed, public, text, warn_of_table
from intake_img.formats.dicom.mosaic import Unfolded, slices_in_mosaic, tiles_in
from intake_img.formats.dicom.slices import SlicedVolume, series_name, volume_of
from intake_img.model.axes import RGB
from intake_img.model.image import Coordinate, Image
from intake_img.storage.files import File

__all__ = ["DicomSeries", "files_in", "series_in", "unique"]

_MOST = 200_000  # files of a folder


def files_in(folder: File) -> list[File]:
    """Return the DICOM files in a folder, by name; where there is a DICOMDIR, those in its folders as well."""
    if not folder.local:
        fs, path = folder.filesystem()
        return sorted((folder / str(p).rstrip("/").rsplit("/", 1)[-1] for p in fs.ls(path, detail=False)), key=str)
    deep = os.path.exists(os.path.join(folder.path, "DICOMDIR"))
    found: list[File] = []
    for base, folders, names in os.walk(folder.path):
        folders[:] = sorted(folders) if deep else []
        found += [folder.at(os.path.join(base, n)) for n in sorted(names) if n != "DICOMDIR" and not n.startswith(".")]
        if len(found) > _MOST:
            raise FormatError(f"{folder} contains more than {_MOST} files: name one series")
    return found


class DicomSeries:
    """The slices of one series, each a file.

    Parameters
    ----------
    handle : Handle
    headers : sequence of DicomHeader
    scaled, patient : bool
    """

    def __init__(self, handle: Handle, headers: Sequence[DicomHeader], scaled: bool, patient: bool) -> None:
        self.handle, self.headers, self.scaled, self.patient = handle, headers, scaled, patient
        self.ds = headers[0].ds
        self.name = series_name(self.ds)
        self.count = tiles_in(headers[0])
        self._volume: SlicedVolume | None = None

    @property
    def volume(self) -> SlicedVolume:
        if self._volume is None:
            count = self.count
            slices = [slices_in_mosaic(k * count, h, count) for k, h in enumerate(self.headers)]
            self._volume = volume_of(list(chain.from_iterable(slices)), self.name)
        return self._volume

    def image(self, address: Any) -> Image:
        """Return the volume, unread."""
        warn_of_table(self.headers[0], self.scaled)
        volume = self.volume
        pixels = valued(self.handle.pixels(address), volume, self.scaled)
        colours = len(self.array().shape) - self.volume.table.ndim == 3
        letter = "" if not colours else "s" if "c" in volume.axes else "c"
        coords = dict(volume.coords)
        if colours:
            coords[letter] = Coordinate((letter,), np.asarray(RGB[: pixels.shape[-1]]))
        units = text(self.ds, "RescaleType")
        attrs = {"units": units} if units and units != "US" and self.scaled else {}
        image = Image.single(
            pixels,
            volume.axes + "yx" + letter,
            coords=coords,
            spacing=volume.spacing,
            units=dict.fromkeys("zyx", "mm"),
            variable_attrs=attrs,
            header={
                "kind": self.headers[0].kind,
                "attributes": public(self.headers[0], self.patient),
                "files": [h.file.name for h in self.headers],
            },
        )
        return image.placed(volume.affine) if volume.affine is not None else image

    def array(self) -> StoredArray:
        """Return the array of all slices."""
        with self._opened(0) as (first, _):
            frame, tiles, dtype, decodes = first.shape[1:], first.tiles[1:], first.dtype, first.decodes
        return Arranged(self.volume.table, self._opened, frame, dtype, tiles, decodes)

    @contextlib.contextmanager
    def _opened(self, number: int) -> Iterator[tuple[StoredArray, int]]:
        which, tile = divmod(number, self.count)
        header = self.headers[which]
        source = header.file.open()
        try:
            frames, planar = frames_of(self.handle, source, header)
            if planar:
                raise FormatError(f"{header.file}: colours plane by plane are not supported in series")
            yield (Unfolded(frames, self.count), tile) if self.count > 1 else (frames, 0)
        finally:
            source.close()


def series_in(handle: Handle, folder: File, scaled: bool, patient: bool) -> list[DicomSeries | tuple[str, DicomHeader]]:
    """Return the series of a folder, and the files that contain several frames, by name.

    Raises
    ------
    FormatError
        If no file contains an image.
    """
    groups: dict[Any, list[DicomHeader]] = {}
    for file in files_in(folder):
        head = file.head(132)
        if not is_dicom(head):
            _refuse_cut(file, head)
            continue
        source = file.open()
        try:
            header = parsed(file, source)
        finally:
            source.close()
        if not header.holds_pixels and _may_be_image(header):
            raise FormatError(f"{file} ends before its pixels: it is truncated; copy it again, or move it away")
        if header.holds_pixels and header.item.get("Rows"):
            groups.setdefault(_group(header), []).append(header)
    if not groups:
        raise FormatError(f"{folder}: none of its DICOM files contains an image")
    found: list[DicomSeries | tuple[str, DicomHeader]] = []
    for headers in groups.values():
        if headers[0].frames > 1:
            found += [(series_name(h.ds) or h.file.name, h) for h in headers]
        else:
            found.append(DicomSeries(handle, headers, scaled, patient))
    return sorted(found, key=lambda s: _rank(s.ds if isinstance(s, DicomSeries) else s[1].ds))


def _may_be_image(header: DicomHeader) -> bool:
    """Return whether a file is an image by what it says before or behind the file meta information."""
    stored = getattr(getattr(header.ds, "file_meta", None), "MediaStorageSOPClassUID", None)
    return not header.kind or "Image" in header.kind or "Image" in getattr(stored, "name", "")


def _refuse_cut(file: File, head: bytes) -> None:
    """Raise an error for a file that may be the beginning of a slice; other files have no part in the volume."""
    begun = not head[:128].strip(b"\0") and MAGIC.startswith(head[128:].rstrip(b"\0"))
    if begun and ("." not in file.name or file.name.lower().endswith((".dcm", ".dicom"))):
        raise FormatError(
            f"{file} ends or contains zeros before its first attribute: it is truncated; copy it again, or move it away"
        )


def _rank(ds: Any) -> tuple[float, str]:
    number = numbers(ds.get("SeriesNumber"))
    return (number[0] if number else np.inf, text(ds, "SeriesInstanceUID"))


def _group(header: DicomHeader) -> tuple[Any, ...]:
    """What the slices of a volume have in common."""
    ds, item = header.ds, header.item
    direction = numbers(item.get("ImageOrientationPatient"), 6)
    several = header.file.path if header.frames > 1 else tiles_in(header)
    facts = [item.get(n) for n in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation")]
    spacing = numbers(item.get("PixelSpacing"), 2)
    return (
        text(ds, "SeriesInstanceUID"),
        tuple(map(str, facts)),
        tuple(np.round(direction, 4).tolist()) if direction else None,
        tuple(spacing) if spacing else None,
        tuple(t for t in header.image_type if t in ("LOCALIZER", "DERIVED")),
        several,
    )


def unique(names: Sequence[str]) -> list[str]:
    """Return unique names that are not empty."""
    found: list[str] = []
    for k, name in enumerate(names):
        base = name or str(k)
        found.append(base if base not in found and names.count(name) == 1 else f"{base} ({k})")
    return found
