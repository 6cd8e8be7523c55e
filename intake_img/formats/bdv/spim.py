"""The XML of BigDataViewer (``SpimData``): setups, time points, where the pixels are, and registrations.

Format: https://imagej.net/plugins/bdv, and Pietzsch et al., Nature Methods 12 (2015), 481-483.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.model.untrusted import xml_root

__all__ = ["Setup", "Spim", "guessed", "parse_spim"]

_MOST = 10**6  # time points


@dataclass(frozen=True)
class Setup:
    """What was imaged with one setting of the microscope.

    Parameters
    ----------
    number : int
    name : str
    voxel : tuple of float
        Size along x, y and z; empty if unknown.
    unit : str
    attributes : mapping of str to str
        Name of the channel, angle, illumination, tile and so on.
    """

    number: int
    name: str = ""
    voxel: tuple[float, ...] = ()
    unit: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name, or what its attributes are."""
        return self.name or ", ".join(f"{k} {v}" for k, v in self.attributes.items()) or f"setup {self.number}"


@dataclass(frozen=True)
class Spim:
    """A parsed XML.

    Parameters
    ----------
    loader : str
        What reads the pixels, e.g. ``"bdv.hdf5"``.
    path : str
        Of the file of pixels, as stated.
    relative : bool
        Whether it is relative to the folder of the XML.
    setups : sequence of Setup
    times : sequence of int
        Numbers of the time points.
    missing : frozenset of (int, int)
        Time point and setup of what was not taken.
    registrations : mapping of (int, int) to list
        By time point and setup, the 3 x 4 matrix from voxels (x, y, z) to the world.
    """

    loader: str
    path: str
    relative: bool
    setups: Sequence[Setup]
    times: Sequence[int]
    missing: frozenset[tuple[int, int]] = frozenset()
    registrations: Mapping[tuple[int, int], list[list[float]]] = field(default_factory=dict)


def parse_spim(text: bytes) -> Spim:
    """Return what the XML says.

    Raises
    ------
    FormatError
        If it is not such an XML, or lacks setups or the location of the pixels.
    """
    root = xml_root(text)
    sequence = root.find("SequenceDescription")
    if root.tag != "SpimData" or sequence is None:
        raise FormatError(f"its root is <{root.tag}>: expected <SpimData> with a <SequenceDescription>")
    loader = sequence.find("ImageLoader")
    place = next(iter(loader), None) if loader is not None else None
    if loader is None or place is None:
        raise FormatError("it does not name the location of the pixels (ImageLoader)")
    try:
        setups, times = _setups(sequence), _times(sequence)
        missing = frozenset(map(_view, sequence.iterfind("MissingViews/MissingView")))
    except (TypeError, ValueError) as exc:
        raise FormatError(f"its setups or time points cannot be read: {exc}") from exc
    if not setups:
        raise FormatError("it lists no setups (ViewSetups)")
    base = (root.findtext("BasePath") or ".").strip().rstrip("/")
    path = (place.text or "").strip().replace("\\", "/")
    relative = place.get("type", "relative") == "relative"
    path = path if base == "." or not relative else f"{base}/{path}"
    return Spim(loader.get("format", ""), path, relative, setups, times, missing, _registered(root))


def _view(element: Any) -> tuple[int, int]:
    return int(element.get("timepoint")), int(element.get("setup"))


def _setups(sequence: Any) -> list[Setup]:
    names = {
        group.get("name"): {item.findtext("id"): item.findtext("name") for item in group}
        for group in sequence.iterfind("ViewSetups/Attributes")
    }
    found = []
    for element in sequence.iterfind("ViewSetups/ViewSetup"):
        attributes = {
            a.tag: names.get(a.tag, {}).get(a.text) or (a.text or "") for a in element.iterfind("attributes/*")
        }
        voxel = _numbers(element.findtext("voxelSize/size"), 3)
        unit = (element.findtext("voxelSize/unit") or "").strip()
        name = (element.findtext("name") or "").strip()
        found.append(Setup(int(element.findtext("id")), name, tuple(voxel), unit, attributes))
    return sorted(found, key=lambda setup: setup.number)


def _times(sequence: Any) -> list[int]:
    """Numbers of the time points: a range, a pattern such as ``0-4:2,7``, or a list."""
    element = sequence.find("Timepoints")
    if element is None:
        return [0]
    if element.get("type") == "range":
        return list(_run(int(element.findtext("first")), int(element.findtext("last")), 1))
    if element.get("type") == "pattern":
        pattern = (element.findtext("integerpattern") or "").strip()
        parts = [re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", part.strip()) for part in pattern.split(",") if part]
        runs = [_run(int(m[1]), int(m[2] or m[1]), int(m[3] or 1)) for m in parts if m]
        return sorted({t for run in runs for t in run}) or [0]
    return sorted(int(point.findtext("id")) for point in element.iterfind("Timepoint")) or [0]


def _run(first: int, last: int, step: int) -> range:
    if not 0 <= last - first < _MOST or step < 1:
        raise ValueError(f"time points {first} to {last} by {step}")
    return range(first, last + 1, step)


def _registered(root: Any) -> dict[tuple[int, int], list[list[float]]]:
    """The product of the transforms of each view; the last in the list acts first."""
    found = {}
    for view in root.iterfind("ViewRegistrations/ViewRegistration"):
        matrix = np.eye(4)
        for text in view.iterfind("ViewTransform/affine"):
            numbers = _numbers(text.text, 12)
            if not numbers:
                break
            matrix = matrix @ np.vstack([np.reshape(numbers, (3, 4)), [0, 0, 0, 1]])
        else:
            try:
                found[_view(view)] = matrix[:3].tolist()
            except (TypeError, ValueError):
                continue
    return found


def _numbers(text: str | None, count: int) -> list[float]:
    """So many finite numbers, or none."""
    try:
        found = [float(part) for part in (text or "").split()]
    except ValueError:
        return []
    return found if len(found) == count and bool(np.isfinite(found).all()) else []


def guessed(views: Collection[tuple[int, int]]) -> Spim:
    """Return the time points and setups of pixels without an XML."""
    setups = [Setup(number) for number in sorted({s for _, s in views})]
    return Spim("bdv.hdf5", "", True, setups, sorted({t for t, _ in views}))
