"""Options of sequences: their types, also as texts of a catalog, and which are for the driver of each file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.formats.source import ImageSource

__all__ = ["flag", "sequence_options", "whole_number"]


def whole_number(value: Any, what: str) -> int | None:
    """A number or None, also as the text that a template of a catalog makes of it."""
    if value is None or (isinstance(value, str) and value in ("", "None")):
        return None
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"{what}={value!r}: expected a whole number or None")


def flag(value: Any, what: str) -> bool:
    """True or False, also as text."""
    known = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}
    found = known.get(str(value).lower())
    if found is None:
        raise TypeError(f"{what}={value!r}: expected True or False")
    return found


def sequence_options(cls: type[ImageSource], options: Mapping[str, Any]) -> dict[str, Any]:
    """Sort options into those of the sequence and those of the driver of each file."""
    own = inspect.signature(cls).parameters
    mine = {k: v for k, v in options.items() if k in own}
    theirs = {k: v for k, v in options.items() if k not in own}
    if "axes" in theirs:
        raise TypeError(
            f"axes={theirs['axes']!r} says along which axis the fields of a pattern lie, but a {cls.format_name} has "
            "none: give a pattern, e.g. 'folder/{well}_{site}.tif'"
        )
    if theirs:
        mine["member_options"] = {**(mine.get("member_options") or {}), **theirs}
    return mine
