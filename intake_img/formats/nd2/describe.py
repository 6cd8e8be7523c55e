"""Axes of an ND2 file: loops of the experiment, calibration, times, channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.cut_off import leading_part
from intake_img.model.axes import RGB
from intake_img.model.image import Coordinate
from intake_img.model.units import known_spacing

__all__ = ["Loops", "axis_facts", "loops_of", "pixel_size"]

_LETTERS = {"TimeLoop": "t", "NETimeLoop": "t", "ZStackLoop": "z"}
_POSITIONS = "XYPosLoop"
_SPARE = "ijk"  # loops that NIS-Elements calls custom or unknown


@dataclass(frozen=True)
class Loops:
    """The loops in which the frames were taken, outermost first.

    Parameters
    ----------
    counts : tuple of int
    letters : tuple of (str or None)
        Axis of each loop; None for that over positions, which are scenes.
    steps : tuple of object
        Parameters of each loop, as nd2 has them.
    held : int, optional
        Number of frames that are left of a file that was cut off.
    """

    counts: tuple[int, ...]
    letters: tuple[str | None, ...]
    steps: tuple[Any, ...]
    held: int | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(a for a in self.letters if a is not None)

    @property
    def positions(self) -> list[str]:
        """A name for each position."""
        if None not in self.letters:
            return ["0"]
        k = self.letters.index(None)
        points = getattr(self.steps[k], "points", None) or []
        names = [points[n].name if n < len(points) else None for n in range(self.counts[k])]
        return [name or str(n) for n, name in enumerate(names)]

    def numbers(self, position: int) -> np.ndarray:
        """Return the numbers of the frames of one position, along the other loops.

        Of a file that was cut off, they are those of the steps of the outermost loop that are complete.
        """
        found = np.arange(math.prod(self.counts)).reshape(self.counts)
        if None in self.letters:
            found = np.take(found, position, self.letters.index(None))
        if self.held is None:
            return found
        held = int(np.count_nonzero(found < self.held))
        if not held:
            raise FormatError(f"the frames of the position {self.positions[position]!r} are lost: it was cut off")
        return found[tuple(slice(n) for n in leading_part(found.shape, held))]

    def step(self, axis: str) -> Any:
        """Return the parameters of the loop along an axis; None if there is no such loop."""
        return self.steps[self.letters.index(axis)] if axis in self.letters else None


def loops_of(experiment: Sequence[Any], frames: int, present: int, mapped: bool) -> tuple[Loops, str]:
    """Return the loops of an experiment, as far as frames were taken, and a sentence if some are missing.

    Parameters
    ----------
    experiment : sequence of nd2.structures.ExpLoop
    frames : int
        Number of frames in the experiment.
    present : int
        One more than the number of the last frame that it holds.
    mapped : bool
        Whether the file has the map of its frames, which is the last that is written.
    """
    loops, said = _planned(experiment, frames, present)
    if mapped:
        return loops, said
    planned = math.prod(int(x.count) for x in experiment) if experiment else frames
    said = f"it was cut off: its map of frames is lost, {min(present, planned)} of {planned} frames are there"
    said += "" if experiment else "; the experiment that defines their loops may be lost"
    if experiment and present < planned:
        said += "; incomplete steps of the outermost loop are left out"
    return replace(loops, held=present), said


def _planned(experiment: Sequence[Any], frames: int, present: int) -> tuple[Loops, str]:
    if not experiment:
        return Loops((frames,), ("i",), (None,)) if frames > 1 else Loops((), (), ()), _lacking(frames, present)
    letters: list[str | None] = []
    for loop in experiment:
        letter = _LETTERS.get(loop.type)
        if letter in letters:
            letter = None
        spare = next(a for a in _SPARE if a not in letters)
        positions = loop.type == _POSITIONS and None not in letters
        letters.append(None if positions else letter or spare)
    loops = Loops(tuple(int(x.count) for x in experiment), tuple(letters), tuple(x.parameters for x in experiment))
    return _as_taken(loops, present)


def _as_taken(loops: Loops, present: int) -> tuple[Loops, str]:
    """Shorten the outermost loop to what was recorded."""
    promised, inner = math.prod(loops.counts), math.prod(loops.counts[1:])
    if promised < 1 or inner > 1000 * present + 1000:
        raise FormatError(
            f"the experiment has loops of {loops.counts} frames, but the file contains {present}: damaged"
        )
    if present > promised:
        return (
            loops,
            f"it contains {present} frames, of which its experiment defines {promised}: the others are left out",
        )
    outer = -(-present // inner)
    if loops.letters[0] is not None:
        loops = replace(loops, counts=(max(outer, 1), *loops.counts[1:]))
    return loops, _lacking(promised, present)


def _lacking(promised: int, present: int) -> str:
    if present >= promised:
        return ""
    return f"only {present} of the {promised} planned frames were recorded; missing frames read as 0"


def axis_facts(axes: str, metadata: Any, loops: Loops, times: np.ndarray, pixel_size: float | None) -> dict[str, Any]:
    """Return spacing, units and coordinates for `Image.single`.

    Parameters
    ----------
    axes : str
    metadata : nd2.structures.Metadata
    loops : Loops
    times : ndarray
        Time of each time point in ms; empty if unknown.
    pixel_size : float or None
        Length of a pixel in µm.
    """
    channels = (metadata.channels if metadata is not None else None) or []
    calibrated = bool(channels) and all((channels[0].volume.axesCalibrated or (False,))[:2])
    spacing = dict.fromkeys("yx", pixel_size) if pixel_size and calibrated else {}
    if (step := known_spacing(abs(getattr(loops.step("z"), "stepUm", None) or 0))) is not None:
        spacing["z"] = step
    units = dict.fromkeys(spacing, "µm")
    coords, origin = {}, {}
    if "t" in axes:
        units["t"] = "ms"
        rising = len(times) > 1 and bool((np.diff(times) > 0).all())
        if rising and not _even(times):
            coords["t"] = Coordinate(("t",), times)
        elif rising:
            spacing["t"], origin["t"] = float(np.diff(times).mean()), float(times[0])
        elif step := known_spacing(getattr(loops.step("t"), "periodMs", None)):  # what was asked for
            spacing["t"] = step
    coords |= _channels(axes, channels)
    return {"spacing": spacing, "units": units, "origin": origin, "coords": coords}


def _even(times: np.ndarray) -> bool:
    steps = np.diff(times)
    return bool(np.allclose(steps, steps.mean(), rtol=1e-6, atol=0))


def _channels(axes: str, channels: Sequence[Any]) -> dict[str, Coordinate]:
    """Names and colours; of a single channel as a coordinate without an axis."""
    found = {}
    facts = [c.channel for c in channels]
    if "c" in axes and "s" not in axes and len(facts) == 1:  # colour samples
        return {"c": Coordinate(("c",), np.asarray(RGB[:3]))}
    if "s" in axes:
        found["s"] = Coordinate(("s",), np.asarray(RGB[:3]))
    if facts and all(c.name for c in facts):
        attrs = _channel_attrs(facts)
        if "c" in axes:
            found["c"] = Coordinate(("c",), np.asarray([c.name for c in facts]), attrs)
        elif len(facts) == 1:
            found["c"] = Coordinate((), np.asarray(facts[0].name), attrs)
    return found


def _channel_attrs(facts: Sequence[Any]) -> dict[str, Any]:
    """Colours, and wavelengths in nm, where they are known of all channels."""
    known = {
        "color": [f"#{c.color.r:02X}{c.color.g:02X}{c.color.b:02X}" for c in facts if c.color is not None],
        "emission_wavelength": [c.emissionLambdaNm for c in facts if c.emissionLambdaNm],
        "excitation_wavelength": [c.excitationLambdaNm for c in facts if c.excitationLambdaNm],
    }
    return {name: values for name, values in known.items() if len(values) == len(facts)}


def pixel_size(document: Any) -> float | None:
    """Length of a pixel in µm. Where the file says 0, nd2 says 1."""
    size = document.voxel_size().x if document.metadata.channels else None
    if size != 1.0:
        return known_spacing(size)
    name = "ImageMetadataSeqLV|0" if document.version >= (3, 0) else "ImageMetadataSeq|0"
    facts = document.unstructured_metadata(strip_prefix=False, include={name})[name]
    return known_spacing(facts.get("SLxPictureMetadata", facts).get("dCalibration"))
