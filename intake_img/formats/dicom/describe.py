"""Description of one DICOM file: an image, a volume, a multi-frame image, a whole slide, or a segmentation."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Handle, StoredArray
from intake_img.formats.cut_off import leading_part, shortened
from intake_img.formats.dicom.elements import Item
from intake_img.formats.dicom.frames import Arranged, frames_of
from intake_img.formats.dicom.header import DicomHeader, numbers, public, text, warn_of_table, whole_number
from intake_img.formats.dicom.mosaic import Unfolded, slices_in_mosaic, tiles_in
from intake_img.formats.dicom.slices import Slice, SlicedVolume, pixel_spacing, planes_of_dose, slice_of, volume_of
from intake_img.formats.dicom.tiles import AllTrue, Tiled, tile_table
from intake_img.model.axes import RGB
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels, stack
from intake_img.model.record import unsealed_record
from intake_img.storage.files import ByteReader

__all__ = ["CREATOR", "RECORD", "FileImages", "sealed_facts", "valued"]

CREATOR = "intake_img"
"""Creator of the private block in which `imsave` stores the record."""
RECORD = (0x0099, 0x01)
_KINDS = {"BINARY": "mask", "LABELMAP": "labels"}
_SHARED = "SharedFunctionalGroupsSequence"
_FRAMES = "PerFrameFunctionalGroupsSequence"
_SEALED = (
    "PixelSpacing",
    "SpacingBetweenSlices",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "FrameTime",
    "FrameTimeVector",
)
_MASK = "valid_mask"
_TONES = ("MONOCHROME1", "PALETTE COLOR")


class FileImages:
    """The image in one file.

    Parameters
    ----------
    handle : Handle
        Whose `pixels` are used.
    source : ByteReader
    header : DicomHeader
    scaled, patient : bool
        The options of the format.
    """

    def __init__(self, handle: Handle, source: ByteReader, header: DicomHeader, scaled: bool, patient: bool) -> None:
        self.handle, self.header, self.scaled, self.patient = handle, header, scaled, patient
        self.frames, self.planar = frames_of(handle, source, header)
        self.ds, self.item = header.ds, header.item
        count = tiles_in(header)
        if count > 1:
            self.frames = Unfolded(self.frames, count)
        self.record = self._record()
        self.kind = text(self.ds, "SegmentationType") if "SegmentSequence" in self.item else ""
        self.tiled = "TotalPixelMatrixColumns" in self.item
        self.groups = self._groups()
        self.volume: SlicedVolume | None = None
        self.table: np.ndarray | None = None
        self.plane = (0, 0)
        self.outer = None if self.record is None else _outer(self.record, header.stated, len(self.frames.shape))
        if self.outer is not None:
            self.table = np.arange(self.header.stated).reshape(self.outer[1])
        elif self.tiled:
            self.table, self.plane = self._tiles()
        elif self.kind:
            self.table, self.volume = self._segments()
        elif self.groups:
            self.volume = volume_of(self._slices(), header.file.name)
        elif header.stated == 1:
            self.volume = volume_of(slices_in_mosaic(0, header, count), header.file.name)
        elif planes := planes_of_dose(self.ds, header.stated)[: header.frames]:
            self.volume = volume_of(planes, header.file.name)

    def _record(self) -> Any:
        """Return the record of a file that `imsave` wrote; None if other programs changed its geometry or scaling."""
        try:
            record = json.loads(self.ds.private_block(RECORD[0], CREATOR)[RECORD[1]].value)
        except (KeyError, ValueError, TypeError):
            return None
        return unsealed_record(record, *sealed_facts(self.item))

    # arrays

    def array(self, what: str) -> StoredArray:
        """Return an array by what it is: the frames as they are, or arranged, or the mask of those that are there."""
        if what == "frames":
            return self.frames
        frame, tiles = self.frames.shape[1:], self.frames.tiles[1:]
        if self.tiled:
            assert self.table is not None
            frames = AllTrue(self.frames.shape[:3]) if what == _MASK else self.frames
            return Tiled(frames, self.table, self.plane)
        table = self.table if self.table is not None else self.volume.table if self.volume else np.zeros(0, int)
        return Arranged(table, self._frame, frame, self.frames.dtype, tiles, self.frames.decodes)

    def _frame(self, number: int) -> AbstractContextManager[tuple[StoredArray, int]]:
        return nullcontext((self.frames, number))

    # description

    def image(self) -> Image:
        """Return the image, unread."""
        if self.outer is not None:
            return self._of_record(self.outer)
        warn_of_table(self.header, self.scaled)
        if self.tiled:
            image = self._slide()
        elif self.volume is not None:
            image = self._of_volume(self.volume)
        else:
            image = self._film()
        image = self._colours(image)
        return self._masked(image) if self.tiled and self.header.held is not None else image

    def _masked(self, image: Image) -> Image:
        """Add the mask of the tiles that a file that was cut off still holds."""
        axes = image.variables["image"].axes
        axes = axes[: axes.index("x") + 1]
        mask = self.handle.pixels(_MASK)
        variable = Variable(mask.reshape(range(mask.ndim - len(axes), mask.ndim)), axes, {"kind": "mask"})
        return replace(image, variables={**image.variables, _MASK: variable})

    def _single(self, pixels: Pixels, axes: str, **facts: Any) -> Image:
        return Image.single(pixels, axes, header=self._header(), variable_attrs=self._attrs(), **facts)

    def _header(self) -> dict[str, Any]:
        return {"kind": self.header.kind, "attributes": public(self.header, self.patient)}

    def _attrs(self) -> dict[str, Any]:
        tone = text(self.ds, "PhotometricInterpretation")
        attrs: dict[str, Any] = {"photometric": tone} if tone in _TONES else {}
        dose = "Gy" if text(self.ds, "DoseUnits") == "GY" else ""
        units = text(self.ds, "RescaleType") or dose
        if units and units != "US" and self.scaled:
            attrs["units"] = units
        if self.kind in _KINDS:
            attrs["kind"] = _KINDS[self.kind]
        if tone == "PALETTE COLOR" and (palette := _palette(self.ds)) is not None:
            attrs["palette"] = palette
        return attrs

    def _colours(self, image: Image) -> Image:
        """Name the samples of colours."""
        first = next(iter(image.variables.values()))
        if "s" not in first.axes:
            return image
        names = np.asarray(RGB[: first.pixels.shape[first.axes.index("s")]])
        letter = "s" if "c" in first.axes else "c"
        axes = tuple(letter if a == "s" else a for a in first.axes)
        coords = {**image.coords, letter: Coordinate((letter,), names)}
        return Image(
            {"image": Variable(first.pixels, axes, first.attrs), **_overlays(self.ds, first)},
            image.spacing,
            image.units,
            image.origin,
            coords,
            header=image.header,
            attrs=image.attrs,
        )

    def _frame_axes(self) -> str:
        if len(self.frames.shape) == 3:
            return "yx"
        return "syx" if self.planar else "yxs"

    def _of_volume(self, volume: SlicedVolume) -> Image:
        if self.kind:
            pixels, outer = self.handle.pixels("arranged"), self._segment_axes() + volume.axes
            pixels = self._labels(pixels)
        elif volume.axes:
            pixels, outer = self.handle.pixels("arranged"), volume.axes
            pixels = valued(pixels, volume, self.scaled)
        else:
            pixels, outer = self.handle.pixels("frames"), ""
            pixels = pixels.reshape(range(1, pixels.ndim))
            pixels = valued(pixels, volume, self.scaled)
        axes = outer + self._frame_axes()
        image = self._single(
            pixels, axes, coords=self._named(volume.coords), spacing=volume.spacing, units=dict.fromkeys("zyx", "mm")
        )
        image = image.placed(volume.affine) if volume.affine is not None else image
        return self._with_overlays(image)

    def _with_overlays(self, image: Image) -> Image:
        found = _overlays(self.ds, image.only)
        return (
            Image(
                {**image.variables, **found},
                image.spacing,
                image.units,
                image.origin,
                image.coords,
                header=image.header,
                attrs=image.attrs,
            )
            if found
            else image
        )

    def _film(self) -> Image:
        """Several frames without a position: times, dose planes, slices of a nuclear study, or just frames."""
        pixels = self.handle.pixels("frames")
        slope, intercept = numbers(self.item.get("RescaleSlope")), numbers(self.item.get("RescaleIntercept"))
        dose = numbers(self.item.get("DoseGridScaling"))
        if self.scaled and (slope or intercept or dose):
            factor = (dose or slope or [1.0])[0] or 1.0
            pixels = pixels.scaled(factor, 0.0 if dose else (intercept or [0.0])[0])
        near = pixel_spacing([self.item]) or _ultrasound(self.ds)
        spacing = {"y": near[0], "x": near[1]} if near else {}
        units, coords = dict.fromkeys(spacing, "mm"), {}
        letter, held = "i", self.header.frames
        if offsets := numbers(self.item.get("GridFrameOffsetVector"), self.header.stated):
            letter, coords = "z", {"z": Coordinate(("z",), np.asarray(offsets[:held]), {"units": "mm"})}
        elif (step := numbers(self.item.get("FrameTime"))) and step[0] > 0:
            letter, spacing["t"], units["t"] = "t", step[0], "ms"
        elif steps := numbers(self.item.get("FrameTimeVector"), self.header.stated):
            letter, coords = "t", {"t": Coordinate(("t",), np.cumsum(steps[:held]), {"units": "ms"})}
        return self._single(pixels, letter + self._frame_axes(), spacing=spacing, units=units, coords=coords)

    def _of_record(self, outer: tuple[list[str], list[int]]) -> Image:
        """An image that `imsave` wrote, whose outer axes the frames run through in C order."""
        pixels = self.handle.pixels("arranged")
        intercept = numbers(self.item.get("RescaleIntercept")) or [0.0]
        if intercept[0] and self.scaled:
            pixels = pixels.scaled(1.0, intercept[0])
        image = self._colours(self._single(pixels, "".join(outer[0]) + self._frame_axes()))
        image = image if intercept[0] and not self.scaled else image.restored(self.record)
        return shortened(image, dict(zip(outer[0], leading_part(outer[1], self.header.frames), strict=True)))

    def _groups(self) -> list[list[Any]]:
        """For each frame, its functional groups and the shared ones."""
        shared = self._shared()
        own = self.header.items(_FRAMES)
        if not own:
            return []
        if len(own) != self.header.stated:
            raise FormatError(f"{self.header.file}: {len(own)} descriptions of {self.header.stated} frames: damaged")
        return [[*_flat(group), *shared, self.item] for group in own[: self.header.frames]]

    def _shared(self) -> list[Any]:
        groups = self.header.items(_SHARED)
        return _flat(groups[0]) if groups else []

    def _slices(self) -> list[Slice]:
        return [slice_of(k, groups) for k, groups in enumerate(self.groups)]

    # segmentations

    def _segment_numbers(self) -> list[int]:
        return [whole_number(s, "SegmentNumber") for s in self.header.items("SegmentSequence")]

    def _segment_axes(self) -> str:
        return "" if self.kind == "LABELMAP" else "c"

    def _segment_of(self, groups: Sequence[Any]) -> int:
        if self.kind == "LABELMAP":
            return 0
        number = next(
            (whole_number(g, "ReferencedSegmentNumber") for g in groups if "ReferencedSegmentNumber" in g), None
        )
        known = self._segment_numbers()
        if number not in known:
            raise FormatError(f"{self.header.file}: a frame belongs to segment {number}, which is none of {known}")
        return known.index(number)

    def _segments(self) -> tuple[np.ndarray, SlicedVolume]:
        """Return the frame of each segment at each position, and the positions."""
        slices = self._slices()
        places = [(s.position, s.orientation) for s in slices]
        unique = list(dict.fromkeys(places))
        single = [slices[places.index(p)] for p in unique]
        numbered = [Slice(k, s.position, s.orientation, s.spacing) for k, s in enumerate(single)]
        volume = volume_of(numbered, self.header.file.name)
        count = 1 if self.kind == "LABELMAP" else len(self._segment_numbers())
        table = np.full((count, len(unique)), -1)
        for k, groups in enumerate(self.groups):
            table[self._segment_of(groups), unique.index(places[k])] = k
        arranged = table[:, volume.table.reshape(-1)].reshape(count, *volume.table.shape)
        return (arranged[0] if self.kind == "LABELMAP" else arranged), volume

    def _labels(self, pixels: Pixels) -> Pixels:
        most = numbers(self.item.get("MaximumFractionalValue"))
        if self.kind == "FRACTIONAL" and self.scaled and most and most[0] > 0:
            return pixels.scaled(1 / most[0], dtype=np.float32)
        return pixels.astype(bool) if self.kind == "BINARY" else pixels

    def _named(self, coords: dict[str, Coordinate]) -> dict[str, Coordinate]:
        if not self.kind or self.kind == "LABELMAP":
            return coords
        numbered = self._segment_numbers()
        segments = zip(self.header.items("SegmentSequence"), numbered, strict=True)
        names = [text(s, "SegmentLabel") or str(number) for s, number in segments]
        return {**coords, "c": Coordinate(("c",), np.asarray(names), {"segment": numbered})}

    # slides

    def _tiles(self) -> tuple[np.ndarray, tuple[int, int]]:
        if self.kind:
            outer = 1 if self.kind == "LABELMAP" else len(self._segment_numbers())
        else:
            outer = self._planes()[0] * self._planes()[1]
        sparse: list[tuple[int, Any]] | None = None
        if self.groups and text(self.ds, "DimensionOrganizationType") != "TILED_FULL":
            of = (lambda g: self._segment_of(g)) if self.kind else (lambda g: 0)
            sparse = [
                (of(g), next((d for d in g if "ColumnPositionInTotalImagePixelMatrix" in d), {})) for g in self.groups
            ]
            if not self.kind and outer > 1:
                raise FormatError(f"{self.header.file}: sparse tiles of {outer} planes are not supported")
        return tile_table(self.header, outer, sparse)

    def _planes(self) -> tuple[int, int]:
        """Numbers of optical paths and of focal planes."""
        return whole_number(self.item, "NumberOfOpticalPaths", 1), whole_number(
            self.item, "TotalPixelMatrixFocalPlanes", 1
        )

    def _slide(self) -> Image:
        pixels = self.handle.pixels("arranged")
        lead = self._segment_axes() if self.kind else "c" if self._planes()[0] > 1 else "z"
        if not self.kind and min(self._planes()) > 1:
            raise FormatError(f"{self.header.file}: several focal planes of several optical paths are not supported")
        if pixels.shape[0] == 1 and lead != "c":
            pixels, lead = pixels.reshape(range(1, pixels.ndim)), ""
        near = pixel_spacing([*self._shared(), self.item])
        spacing = {"y": near[0], "x": near[1]} if near else {}
        if self.kind:
            pixels = self._labels(pixels)
        return self._single(
            pixels,
            lead + self._frame_axes(),
            spacing=spacing,
            units=dict.fromkeys(spacing, "mm"),
            coords=self._named({}),
        )


def valued(pixels: Pixels, volume: SlicedVolume, scaled: bool) -> Pixels:
    """Return the values of stored numbers, whose slopes may differ from slice to slice."""
    if not scaled:
        return pixels
    slopes, offsets = volume.slopes, volume.intercepts
    if (slopes == slopes.flat[0]).all() and (offsets == offsets.flat[0]).all():
        return pixels.scaled(float(slopes.flat[0]), float(offsets.flat[0]))
    if slopes.ndim == 1:
        return pixels.scaled(slopes.tolist(), offsets.tolist(), axis=0)
    rest = range(1, pixels.ndim)
    parts = [pixels.select([k, *[slice(None)] * (pixels.ndim - 1)]).reshape(rest) for k in range(len(slopes))]
    return stack([p.scaled(slopes[k].tolist(), offsets[k].tolist(), axis=0).astype(float) for k, p in enumerate(parts)])


def _flat(group: Any) -> list[Any]:
    """The macros of a functional group: the items of its sequences."""
    if isinstance(group, Item):
        return list(itertools.chain.from_iterable(group.sequences()))
    return list(itertools.chain.from_iterable(e.value for e in group if e.VR == "SQ" and e.value))


def sealed_facts(item: Any) -> list[Any]:
    """Return what a file states about geometry and scaling, itself and in the macros of its functional groups."""
    groups = [group for name in (_SHARED, _FRAMES) for group in item.get(name) or []]
    items = [item, *itertools.chain.from_iterable(map(_flat, groups))]
    return [[numbers(one.get(name)) for name in _SEALED] for one in items]


def _overlays(ds: Any, image: Variable) -> dict[str, Variable]:
    """Overlays of the size of the image, as masks (PS3.3, C.9.2)."""
    found: dict[str, Variable] = {}
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x3000) not in ds:
            continue
        try:
            mask = np.asarray(ds.overlay_array(group)).astype(bool)
        except (AttributeError, ValueError):
            continue
        if mask.shape == tuple(image.pixels.shape[image.axes.index(a)] for a in "yx"):
            found[f"overlay_{len(found) + 1}"] = Variable(Pixels.of(mask), ("y", "x"), {"kind": "mask"})
    return found


def _palette(ds: Any) -> list[str] | None:
    """The colours of a palette (PS3.3, C.7.6.3.1.5) as ``"#RRGGBB"``; None if it is segmented, or not from 0 on."""
    columns = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = numbers(ds.get(f"{colour}PaletteColorLookupTableDescriptor"), 3)
        data = ds.get(f"{colour}PaletteColorLookupTableData")
        if descriptor is None or not isinstance(data, bytes) or descriptor[1] != 0:
            return None
        count = int(descriptor[0]) or 2**16
        if len(data) not in (count, 2 * count):
            return None
        columns.append(np.frombuffer(data, "u1") if len(data) == count else np.frombuffer(data, "<u2") >> 8)
    return [f"#{r:02X}{g:02X}{b:02X}" for r, g, b in zip(*columns, strict=True)]


def _ultrasound(ds: Any) -> tuple[float, float] | None:
    """The distances of rows and columns in mm, where one region covers an ultrasound image (PS3.3, C.8.5.5)."""
    regions = ds.get("SequenceOfUltrasoundRegions") or []
    if len(regions) != 1 or {regions[0].get("PhysicalUnitsXDirection"), regions[0].get("PhysicalUnitsYDirection")} != {
        3
    }:
        return None  # 3: cm
    found = numbers([regions[0].get(f"PhysicalDelta{a}") for a in "YX"], 2)
    return None if found is None or min(found) <= 0 else (10 * found[0], 10 * found[1])


def _outer(record: Any, frames: int, dimensions: int) -> tuple[list[str], list[int]] | None:
    """The axes before the axes of a frame, as in the record, if they fit the number of frames."""
    try:
        (facts,) = record["variables"].values()
        sizes = dict(zip(facts["axes"], (int(n) for n in facts["shape"]), strict=True))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    colours = dimensions == 4
    names = [a for a in sizes if a not in ("y", "x") and not (colours and a == "c")]
    product = int(np.prod([sizes[a] for a in names], dtype=object))
    return (names, [sizes[a] for a in names]) if product == frames else None
