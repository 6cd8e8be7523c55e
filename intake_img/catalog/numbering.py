"""Numbered series of files: which numbers and words in file names count along which axis.

Plates give a series for each well: the name of the well is literal, and its fields become ``i``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

__all__ = ["kind", "literal", "numbered", "pattern_of", "plain_name", "series_of"]

_CHANNELS = (
    r"dapi|hoechst\d*|e?gfp|rfp|yfp|cfp|bfp|mcherry|mkate2?|tdtomato|venus|fitc|tritc|texas[ \-]?red|"
    r"cy[357](?:\.5)?|a(?:lexa|f)[ \-]?\d{3}|bf|brightfield|phase|dic|ph\d|trans|red|green|blue"
)
_FIELD = re.compile(rf"(?<![A-Za-z0-9])(?:{_CHANNELS})(?![A-Za-z0-9])|\d+", re.I)
_HINTS = (  # the text before a number, and its axis
    ("t", r"(?:^|[^a-z])(?:t|tp|time|timepoint|frame|frm)[ _\-=]*$"),
    ("z", r"(?:^|[^a-z])(?:z|slice|plane|section|depth|layer)[ _\-=]*$"),
    ("c", r"(?:^|[^a-z])(?:c|ch|chn|channel|w|wave|wavelength)[ _\-=]*$"),
    (
        "i",
        r"(?:^|[^a-z])(?:i|im|img|image|s|p|pos|position|stage|scene|series|f|fov|xy|field|site|sample|well|point|n)"
        r"[ _\-=]*$",
    ),
)
_OPERA = re.compile(
    r"((?:^|.*/)r\d+c\d+)f\d+p\d+-ch\d+sk\d+", re.I
)  # Operetta, Opera Phenix: field, plane, channel, time
_OPERA_AXES = {"f": "i", "p": "z", "-ch": "c", "sk": "t"}
_WELL = re.compile(r"(?:^|(?<=[_\-. /]))(?:[A-P]|A[A-F])\d{1,2}(?=[_\-. ]|$)")


def numbered(stem: str) -> bool:
    """Whether a name contains a number or the name of a channel."""
    return _FIELD.search(stem) is not None


def kind(stem: str) -> str:
    """Return a name without its numbers and channel names; it is the same for all files of a series."""
    return _FIELD.sub(lambda m: "\0" if m[0].isdecimal() else "\1", stem)


def series_of(
    stems: Sequence[tuple[str, str]], names: Sequence[str]
) -> Iterator[tuple[list[str], tuple[str, dict[str, Any]]]]:
    """Yield the series of files of one kind, each as its files, its pattern and options.

    Parameters
    ----------
    stems : sequence of (str, str)
        Stem and extension of each file.
    names : sequence of str
    """
    wells: dict[str, list[int]] = {}
    for k, (stem, _) in enumerate(stems):
        wells.setdefault(_well(stem), []).append(k)
    each = [(places, pattern_of([stems[k] for k in places])) for well, places in wells.items() if well]
    unsure = "" in wells or any(_axis(well[0], "1") for well in wells)  # C01 may be a channel, F01 a field
    certain = not unsure and len(each) > 1 and all(made for _, made in each)
    if not certain and (made := pattern_of(stems)) is not None:
        yield list(names), made
        return
    for places, made in each if len(wells) > 1 else []:
        if made is not None:
            yield [names[k] for k in places], made


def _well(stem: str) -> str:
    found = _OPERA.match(stem)
    if found is not None:
        return found[1]
    words = _WELL.findall(stem)
    return words[0] if len(words) == 1 else ""


def pattern_of(stems: Sequence[tuple[str, str]]) -> tuple[str, dict[str, Any]] | None:
    """Return the pattern of the numbers in file names, and options; None if there is no pattern."""
    if len(stems) < 2:
        return None
    texts = _FIELD.split(stems[0][0])
    columns = list(zip(*(_FIELD.findall(stem) for stem, _ in stems), strict=True))
    free = [k for k, column in enumerate(columns) if len(set(column)) > 1]
    given = {**_OPERA_AXES} if _OPERA.match(stems[0][0]) else {}
    axes = _axes([given.get(texts[k].lower()) or _axis(texts[k], columns[k][0]) for k in free])
    if axes is None or (len(stems) < 3 and (len(free) > 1 or not _axis(texts[free[0]], columns[free[0]][0]))):
        return None
    if given and len(axes) != len({*axes} & {*given.values()}):
        return None
    labels = [[_label(n) for n in columns[k]] for k in free]
    grid = prod(len(set(column)) for column in labels)
    if len(set(zip(*labels, strict=True))) < len(stems):
        return None  # a1.tif and a01.tif
    if grid > 2 * len(stems):
        return None
    pieces = [literal(texts[0])]
    fields = dict(zip(free, axes, strict=True))
    for k, column in enumerate(columns):
        pieces += [_field(fields[k], column) if k in fields else column[0], literal(texts[k + 1])]
    return "".join(pieces) + literal(stems[0][1]), ({"missing": "fill"} if grid > len(stems) else {})


def _label(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _axis(before: str, label: str) -> str | None:
    """Return the axis of a number after a text, None if unknown; a channel name counts along c."""
    if not label.isdecimal():
        return "c"
    return next((axis for axis, regex in _HINTS if re.search(regex, before.lower()[-20:])), None)


def _axes(axes: list[str | None]) -> list[str] | None:
    """Return the axes, with ``i`` for a single unknown one; None if more are unknown, or one occurs twice."""
    if axes.count(None) == 1 and "i" not in axes:
        axes[axes.index(None)] = "i"
    return [a for a in axes if a] if axes and None not in axes and len(set(axes)) == len(axes) else None


def _field(axis: str, column: Sequence[str]) -> str:
    if not all(label.isdecimal() for label in column):
        return f"{{{axis}}}"
    width = len(column[0])
    padded = any(n.startswith("0") and len(n) > 1 for n in column)
    return f"{{{axis}:0{width}d}}" if padded and all(len(n) >= width for n in column) else f"{{{axis}:d}}"


def literal(text: str) -> str:
    """Quote characters that a pattern would take as a field or a wildcard."""
    return re.sub(r"[{}*?\[]", lambda m: m[0] * 2 if m[0] in "{}" else f"[{m[0]}]", text)


def plain_name(pattern: str) -> str:
    """Return a readable name of a pattern: without its fields and the letters before them."""
    opera = re.match(r"((?:^|.*/)r\d+c\d+)f(?:\d+|\{.*?\})p(?:\d+|\{.*?\})-ch.*(\.\w+)$", pattern, re.I)
    if opera is not None:
        return opera[1] + opera[2]
    short = re.sub(r"(?:[ _\-.]+[A-Za-z]{1,2})?[ _\-.=]*\{[a-z](?::[^}]*)?\}", "", pattern)
    return short if re.match(r"\w", short) else re.sub(r"\{[a-z](?::[^}]*)?\}", "", pattern)
