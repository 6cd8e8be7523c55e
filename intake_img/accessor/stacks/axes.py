"""Conversion of the axes of an image to those of a stack, SC(Z)YX, and back: letters, order of merging, inverse.

CAREamics merges arrays S before T and CZI files T before Z, then R, I, H, V, B; this module defines one order for both.
It reads no pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from intake_img.errors import AxesError
from intake_img.model.axes import spell

__all__ = ["Merge", "merge", "parse_axes", "parse_depth", "spelled"]

_MERGED = "itzruhvb"  # the first is outermost; axes of other names come after these, in the order of the image
_LETTERS = {"i": "S", "u": "I", "s": "s"}  # letters that are not the capitals of ours
_KNOWN = "STCZYX"
_DEPTHS = ("none", "Z", "T")


@dataclass(frozen=True)
class Merge:
    """The axes of an image that become the samples, the channels and the space of a stack.

    Parameters
    ----------
    axes, shape : tuple
        Axes and shape of the image.
    samples : tuple of str
        Axes that are merged into S, the first outermost.
    channels : tuple of str
        Axes that are merged into C: none, ``c``, ``s``, or both.
    depth : str or None
        Axis of 3-D patches besides y and x.
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    samples: tuple[str, ...]
    channels: tuple[str, ...]
    depth: str | None

    @property
    def space(self) -> tuple[str, ...]:
        return (self.depth, "y", "x") if self.depth else ("y", "x")

    @property
    def stack_axes(self) -> str:
        """``"SCYX"``, ``"SCZYX"`` or ``"SCTYX"``."""
        return f"SC{(self.depth or '').upper()}YX"

    @cached_property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.axes, self.shape, strict=True))

    def lengths(self, axes: Sequence[str]) -> tuple[int, ...]:
        return tuple(self.sizes[a] for a in axes)

    @cached_property
    def stack_shape(self) -> tuple[int, ...]:
        merged = math.prod(self.lengths(self.samples)), math.prod(self.lengths(self.channels))
        return (*merged, *self.lengths(self.space))

    def restored(self, samples: Any) -> Any:
        """Return an array of axes SC(Z)YX with the axes of the image; sizes along C, Z, Y and X may differ from its."""
        if samples.ndim != len(self.stack_shape):
            raise ValueError(
                f"expected an array with axes {self.stack_axes} ({len(self.stack_shape)} of them), "
                f"got one of shape {tuple(samples.shape)}"
            )
        count, channels = samples.shape[:2]
        if count != self.stack_shape[0]:
            merged = ", ".join(f"{spelled((a,))}={self.sizes[a]}" for a in self.samples) or "no axis"
            raise ValueError(
                f"expected {self.stack_shape[0]} samples (the stack merges {merged} into S), got {count}: "
                "restore all samples together, in their order"
            )
        lengths = self.lengths(self.channels)
        if channels != self.stack_shape[1]:
            if len(self.channels) != 1:
                raise ValueError(
                    f"the samples have {channels} channels, the image has {self.stack_shape[1]} and no single axis C "
                    "to put them on: restore them one by one, samples[:, k:k + 1]"
                )
            lengths = (channels,)
        present = (*self.samples, *self.channels, *self.space)
        array = samples.reshape((*self.lengths(self.samples), *lengths, *samples.shape[2:]))
        return array.transpose([present.index(a) for a in self.axes])


def merge(axes: Sequence[str], shape: Sequence[int], depth: str | None, what: str) -> Merge:
    """Return the merge of an image into a stack.

    Parameters
    ----------
    axes : sequence of str
        Names of the axes, as this package spells them.
    shape : sequence of int
    depth : str or None
        ``"z"``, ``"t"`` or None.
    what : str
        Name of the image in errors.

    Raises
    ------
    AxesError
        If y or x is missing, or the depth axis is missing or of length 1.
    """
    axes, shape = tuple(axes), tuple(int(n) for n in shape)
    if missing := [a for a in "yx" if a not in axes]:
        raise AxesError(f"{what} has axes {spelled(axes)!r} and no {missing[0].upper()}: a stack needs Y and X")
    if depth is not None and depth not in axes:
        raise AxesError(
            f"{what} has axes {spelled(axes)!r} and no axis {depth.upper()} to use as depth: "
            "pass depth_axis='none' for 2-D patches"
        )
    fixed = ("c", "s", "y", "x", depth)
    rest = [a for a in axes if a not in fixed]
    samples = [a for a in _MERGED if a in rest] + [a for a in rest if a not in _MERGED]
    return Merge(axes, shape, tuple(samples), tuple(a for a in "cs" if a in axes), depth)


def parse_axes(axes: str, shape: Sequence[int] | None, what: str) -> tuple[str, ...]:
    """Return our names for axes given in the spelling of CAREamics (``"STCZYX"``) or of this package (``"itczyx"``).

    Raises
    ------
    AxesError
        If one is unknown or repeated, Y or X is missing, or their number does not fit `shape`.
    """
    if not isinstance(axes, str):
        raise TypeError(f"axes={axes!r}: expected a text such as 'TCYX', made of the letters {_KNOWN}")
    letters = axes.upper().replace("I", "S")
    if unknown := [a for a in letters if a not in _KNOWN]:
        raise AxesError(f"axes={axes!r} contain {unknown[0]!r}: allowed are {', '.join(_KNOWN)} (S: samples, also i)")
    if repeated := [a for a in letters if letters.count(a) > 1]:
        raise AxesError(f"axes={axes!r} repeat {repeated[0]!r}: each axis may occur once")
    if missing := [a for a in "YX" if a not in letters]:
        raise AxesError(f"axes={axes!r} lack {missing[0]!r}: a stack needs Y and X")
    if shape is not None and len(letters) != len(shape):
        raise AxesError(
            f"axes={axes!r} name {len(letters)} axes, but {what} has {len(shape)} (shape {tuple(shape)}): "
            "name each of its axes once, in its order"
        )
    return tuple("i" if a == "S" else a.lower() for a in letters)


def parse_depth(depth_axis: str) -> str | None:
    """Return the name of the depth axis, None for none.

    Raises
    ------
    ValueError
        If it is not one of ``"none"``, ``"Z"``, ``"T"``.
    """
    wanted = {"none": None, "Z": "z", "T": "t", "z": "z", "t": "t"}
    if not isinstance(depth_axis, str) or depth_axis not in wanted:
        raise ValueError(
            f"depth_axis={depth_axis!r}: expected one of {', '.join(map(repr, _DEPTHS))} "
            "('none': 2-D patches; 'Z' or 'T': the third axis of 3-D patches)"
        )
    return wanted[depth_axis]


def spelled(axes: Sequence[str]) -> str:
    """Return axes in capital letters, S for ``i``; colour samples beside channels stay ``s``."""
    return spell([_LETTERS.get(a, a.upper()) for a in axes])
