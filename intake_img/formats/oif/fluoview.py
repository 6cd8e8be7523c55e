"""Settings of FluoView: text of sections with keys and values, in UTF-16 or UTF-8."""

from __future__ import annotations

import re
from collections.abc import Mapping

from intake_img.errors import FormatError

__all__ = ["Settings", "number", "parse_settings"]

Settings = Mapping[str, Mapping[str, str]]
"""Sections, keys, and values without quotes."""

_COMMA = re.compile(r"(-?\d+),(\d+)(?:\.0)?")  # written by machines whose decimal point is a comma


def parse_settings(data: bytes) -> Settings:
    """Return what a file of settings says.

    Raises
    ------
    FormatError
        If it does not begin like one.
    """
    encoding = "utf-16" if data[:4] == b"\xff\xfe[\0" else "utf-8"
    if encoding == "utf-8" and not data.startswith(b"["):
        raise FormatError(f"settings of FluoView begin with {data[:4]!r}: expected UTF-16 or UTF-8 text of sections")
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in map(str.strip, data.decode(encoding, "replace").splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
        elif "=" in line and not line.startswith(";"):
            key, _, value = line.partition("=")
            section[key.strip()] = value.strip().strip("\"'")
    return found


def number(text: str | None) -> float:
    """Return a number as settings write it, NaN if it is none.

    Examples
    --------
    >>> number("0.207"), number("0,207.0"), number(None)
    (0.207, 0.207, nan)
    """
    if text and (comma := _COMMA.fullmatch(text)):
        text = f"{comma[1]}.{comma[2]}"
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
