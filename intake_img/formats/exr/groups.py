"""Channels of a part in groups of one size, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intake_img.formats.exr.header import ExrChannel, Part

__all__ = ["groups_of", "ordered"]

_RGBA = ("R", "G", "B", "A")


def groups_of(part: Part) -> list[list[ExrChannel]]:
    """Return the channels of a part, grouped by sampling, the densest first."""
    samplings = sorted({(c.down, c.across) for c in part.channels})
    return [[c for c in part.channels if (c.down, c.across) == sampling] for sampling in samplings]


def ordered(group: Sequence[ExrChannel], names: Any) -> list[ExrChannel]:
    """Return channels in the order in which they were written, or colours as R, G, B, A, else in that of the file."""
    own = [c.name for c in group]
    if isinstance(names, list) and sorted(map(str, names)) == sorted(own):
        order = [str(n) for n in names]
    else:
        order = [n for n in _RGBA if n in own] if set(own) <= set(_RGBA) else own
    return [group[own.index(name)] for name in order]
