"""Volumes from slices: order along the normal of the plane, times at one position, spacing, and affine map.

The geometry is that of DICOM PS3.3, C.7.6.2 (Image Plane Module): ImagePositionPatient is the centre of the first
pixel, ImageOrientationPatient the direction of rows, then that of columns; PixelSpacing is the distance of rows (y),
then of columns (x). SliceThickness is not a distance and is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from intake_img.errors import warn
from intake_img.formats.dicom.header import numbers, text
from intake_img.model.affine import Affine
from intake_img.model.image import Coordinate

__all__ = ["Slice", "SlicedVolume", "pixel_spacing", "planes_of_dose", "series_name", "slice_of", "volume_of"]

_SAME = 1e-3  # mm: positions that differ by less are one
_EVEN = 0.01  # relative: steps that differ by less are even


@dataclass(frozen=True)
class Slice:
    """One frame and where it belongs.

    Parameters
    ----------
    number : int
        Of the frame among all that are arranged.
    position, orientation : tuple of float or None
        In mm in the space of the patient (LPS+).
    spacing : (float, float) or None
        Of y and x, in mm.
    slope, intercept : float
        From stored numbers to values.
    keys : tuple
        What distinguishes frames at one position, by name; see `_KEYS`.
    order : int
        InstanceNumber.
    """

    number: int
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    keys: tuple[tuple[str, float], ...] = ()
    order: int = 0

    @cached_property
    def normal(self) -> np.ndarray | None:
        return None if self.orientation is None else _normal(self.orientation)


@dataclass(frozen=True)
class SlicedVolume:
    """Slices in order.

    Parameters
    ----------
    table : ndarray of int
        Number of the frame at each place along `axes`; -1 where there is none.
    axes : str
        Before y and x.
    slopes, intercepts : ndarray
        Of the shape of `table`.
    coords : dict of str to Coordinate
    affine : Affine or None
    spacing : dict of str to float
        Where there is no affine map.
    """

    table: np.ndarray
    axes: str
    slopes: np.ndarray
    intercepts: np.ndarray
    coords: dict[str, Coordinate]
    affine: Affine | None
    spacing: dict[str, float]


_KEYS = (  # attributes that distinguish frames at one position, and the axis that each makes
    ("TemporalPositionIndex", "t"),
    ("TemporalPositionIdentifier", "t"),
    ("TriggerTime", "t"),
    ("EchoTime", "c"),
    ("EchoNumbers", "c"),
    ("DiffusionBValue", "c"),
    ("AcquisitionTime", "t"),
    ("AcquisitionNumber", "t"),
)
_NAMES = {"EchoTime": "TE {:g} ms", "EchoNumbers": "echo {:g}", "DiffusionBValue": "b {:g}"}


def _normal(orientation: Sequence[float]) -> np.ndarray:
    """The cross product of the directions of rows and columns; numpy's takes ten times as long for two vectors."""
    a, b, c, d, e, f = orientation
    return np.array([b * f - c * e, c * d - a * f, a * e - b * d])


def slice_of(number: int, groups: Sequence[Any]) -> Slice:
    """Return the slice that attributes describe; the first of several groups that has one counts."""

    def first(name: str) -> Any:
        return next((value for g in groups if (value := g.get(name)) is not None), None)

    position, orientation = numbers(first("ImagePositionPatient"), 3), numbers(first("ImageOrientationPatient"), 6)
    if orientation is not None and abs(np.linalg.norm(_normal(orientation)) - 1) > 0.01:
        orientation = None
    spacing = pixel_spacing(groups)
    slope = numbers(first("RescaleSlope")) or numbers(first("DoseGridScaling"))
    intercept = numbers(first("RescaleIntercept"))
    keys = []
    for name, _ in _KEYS:
        if found := numbers(first(name)):
            keys.append((name, found[0]))
    order = numbers(first("InstanceNumber")) or [0]
    return Slice(
        number,
        tuple(position) if position else None,
        tuple(orientation) if orientation else None,
        spacing,
        slope[0] if slope and slope[0] else 1.0,
        intercept[0] if intercept else 0.0,
        tuple(keys),
        int(order[0]),
    )


def planes_of_dose(ds: Any, count: int) -> list[Slice]:
    """Return the planes of an RT dose (PS3.3, C.8.8.3.2); empty if their positions are unknown.

    GridFrameOffsetVector contains distances from the first plane along the normal or, where its first value is the z of
    the first plane, the z of each transverse plane.
    """
    offsets, first = numbers(ds.get("GridFrameOffsetVector"), count), slice_of(0, [ds])
    if offsets is None or first.position is None or first.normal is None:
        return []
    normal = first.normal
    if offsets[0] and abs(offsets[0] - first.position[2]) <= _SAME and np.allclose(normal[:2], 0, atol=1e-4):
        offsets, normal = [v - offsets[0] for v in offsets], np.array([0.0, 0.0, 1.0])
    elif offsets[0]:
        return []
    places = [tuple((np.asarray(first.position) + v * normal).tolist()) for v in offsets]
    return [replace(first, number=k, position=place) for k, place in enumerate(places)]


def pixel_spacing(groups: Sequence[Any]) -> tuple[float, float] | None:
    """Return the distances of rows and of columns in mm; None if they are unknown."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        for group in groups:
            found = numbers(group.get(name), 2)
            if found is not None and min(found) > 0:
                return found[0], found[1]
    return None


def volume_of(slices: Sequence[Slice], name: str, spare: str = "i") -> SlicedVolume:
    """Arrange slices.

    Parameters
    ----------
    slices : sequence of Slice
    name : str
        For warnings.
    spare : str
        Axis of frames that no position tells apart.
    """
    depths = _depths(slices)
    if depths is None:
        ordered = sorted(slices, key=lambda s: (s.order, s.number))
        return _volume([[s] for s in ordered] if len(ordered) > 1 else [ordered], spare if len(ordered) > 1 else "", {})
    stacks: list[list[Slice]] = []
    places: list[float] = []
    for depth, s in sorted(zip(depths, slices, strict=True), key=lambda pair: (pair[0], pair[1].order, pair[1].number)):
        if not places or depth - places[-1] > _SAME:
            places.append(depth)
            stacks.append([])
        stacks[-1].append(s)
    most = max(map(len, stacks))
    axis, coords, ranks = _apart(stacks, most)
    grid: list[list[Slice | None]] = [[None] * len(stacks) for _ in range(most)]
    for z, stack in enumerate(stacks):
        for k, s in enumerate(sorted(stack, key=ranks)):
            grid[k][z] = s
    if any(s is None for row in grid for s in row):
        warn(
            f"{name}: {sum(map(len, stacks))} frames at {len(stacks)} positions do not make {most} whole volumes; "
            "missing frames read as 0"
        )
    return _placed(grid, axis, coords, places)


def _depths(slices: Sequence[Slice]) -> list[float] | None:
    normal = slices[0].normal
    if normal is None or any(s.position is None for s in slices):
        return None
    return [float(np.dot(s.position or (), normal)) for s in slices]


def _apart(stacks: Sequence[Sequence[Slice]], most: int) -> tuple[str, dict[str, Coordinate], Any]:
    """Return the axis of frames at one position, its coordinate, and the key by which to sort them."""
    fullest = next(s for s in stacks if len(s) == most)
    if most == 1:
        return "", {}, lambda s: 0
    for key, axis in _KEYS:
        values = sorted({dict(s.keys)[key] for s in fullest if key in dict(s.keys)})
        if len(values) == most:
            names = [_NAMES[key].format(v) for v in values] if key in _NAMES else []
            coords = {axis: Coordinate((axis,), np.asarray(names))} if names else {}
            return axis, coords, lambda s, key=key: (dict(s.keys).get(key, np.inf), s.order)
    return "t", {}, lambda s: (s.order, s.number)


def _placed(
    grid: Sequence[Sequence[Slice | None]], axis: str, coords: dict[str, Coordinate], places: Sequence[float]
) -> SlicedVolume:
    volume = _volume([list(row) for row in grid], axis + "z", coords)
    first, last = (next(r[k] for r in grid if r[k] is not None) for k in (0, -1))
    assert first is not None
    assert last is not None
    steps = np.diff(places)
    even = len(steps) == 0 or bool(np.abs(steps - steps.mean()).max() <= _EVEN * abs(steps.mean()))
    if not even:
        explicit = Coordinate(("z",), np.asarray(places) - places[0], {"units": "mm"})
        volume = replace(volume, coords={**volume.coords, "z": explicit})
    if first.spacing is None:
        return replace(volume, spacing={"z": float(steps.mean())} if len(steps) and even else {})
    if not even:
        return replace(volume, spacing={"y": first.spacing[0], "x": first.spacing[1]})
    normal = first.normal
    assert normal is not None  # otherwise there would be no positions
    assert first.position is not None
    assert last.position is not None
    assert first.orientation is not None
    step = (np.subtract(last.position, first.position) / len(steps)) if len(steps) else normal
    matrix = np.eye(4)
    matrix[:3, 0] = np.multiply(first.orientation[:3], first.spacing[1])
    matrix[:3, 1] = np.multiply(first.orientation[3:], first.spacing[0])
    matrix[:3, 2], matrix[:3, 3] = step, first.position
    exact = {"x": (0.0, first.spacing[1]), "y": (0.0, first.spacing[0])}
    return replace(volume, affine=Affine(matrix, "LPS+", "mm", exact))


def _volume(rows: Sequence[Sequence[Slice | None]], axes: str, coords: dict[str, Coordinate]) -> SlicedVolume:
    """Return the table of rows of slices, without the axes of length 1 that no letter names."""
    table = np.array([[-1 if s is None else s.number for s in row] for row in rows])
    slopes = np.array([[1.0 if s is None else s.slope for s in row] for row in rows])
    intercepts = np.array([[0.0 if s is None else s.intercept for s in row] for row in rows])
    shape = {"": (), "z": (table.shape[1],)}.get(axes, table.shape if len(axes) == 2 else (table.shape[0],))
    if axes.endswith("z") and table.shape[1] == 1:  # one plane is not a volume
        axes, shape = axes[:-1], shape[:-1]
    known = next(s for row in rows for s in row if s is not None)
    spacing = {"y": known.spacing[0], "x": known.spacing[1]} if known.spacing else {}
    return SlicedVolume(
        table.reshape(shape), axes, slopes.reshape(shape), intercepts.reshape(shape), coords, None, spacing
    )


def series_name(ds: Any) -> str:
    """Return the name of a series: its number and its description."""
    return " ".join(filter(None, (text(ds, "SeriesNumber"), text(ds, "SeriesDescription"))))
