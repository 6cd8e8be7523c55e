"""Options of sequences: their types, also as texts from a catalog, and the options for the driver of each file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from intake_img.errors import AxesError
from intake_img.formats.options import ReadOptions, option
from intake_img.formats.source import ImageSource
from intake_img.model.axes import check_axes

__all__ = ["SequenceOptions", "SliceOptions", "flag", "one_axis", "sequence_options", "whole_number"]


@dataclass(frozen=True)
class SequenceOptions(ReadOptions):
    """Options of every source of many files."""

    axis: str = option("i", "str", "Axis of the files where their names carry none.")
    missing: Literal["error", "fill"] = option(
        "error", '"error" or "fill"', "What to do where a file of the grid does not exist."
    )
    verify: bool = option(False, "bool", "Read all headers now, instead of each with its pixels.")
    group: bool = option(
        False,
        "bool",
        "Allow files of several shapes: `imload` then returns a DataTree with one Dataset for each.",
    )
    member_options: Mapping[str, Any] | None = option(
        None, "mapping, optional", 'Options of the driver that reads each file, e.g. ``{"scene": 1}``.'
    )


@dataclass(frozen=True)
class SliceOptions(SequenceOptions):
    """Options of sources that find their files."""

    start: int | None = option(None, "int, optional", "Number of the first file that counts, in order.")
    stop: int | None = option(None, "int, optional", "Number of the first file that does not count any more.")


def whole_number(value: Any, what: str) -> int | None:
    """A number or None, also as a text from a catalog template."""
    if value is None or (isinstance(value, str) and value in ("", "None")):
        return None
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"{what}={value!r}: expected a whole number or None")


def one_axis(value: Any) -> str:
    """The name of one axis."""
    axes = check_axes(value)
    if len(axes) != 1:
        raise AxesError(f"axis={value!r}: expected the letter of one axis, such as 't' or 'i'")
    return axes[0]


def flag(value: Any, what: str) -> bool:
    """True or False, also as text."""
    known = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}
    found = known.get(str(value).lower())
    if found is None:
        raise TypeError(f"{what}={value!r}: expected True or False")
    return found


def sequence_options(cls: type[ImageSource], options: Mapping[str, Any]) -> dict[str, Any]:
    """Split options into options of the sequence and options of the driver of each file."""
    own = {f.name for f in fields(cls.Options)}
    mine = {k: v for k, v in options.items() if k in own}
    theirs = {k: v for k, v in options.items() if k not in own}
    if "axes" in theirs:
        raise TypeError(
            f"axes={theirs['axes']!r} says along which axis the fields of a pattern lie, but a {cls.title} has "
            "none: give a pattern, e.g. 'folder/{well}_{site}.tif'"
        )
    if theirs:
        mine["member_options"] = {**(mine.get("member_options") or {}), **theirs}
    return mine
