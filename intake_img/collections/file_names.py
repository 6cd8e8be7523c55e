"""File names with coordinates: conversion of labels to parts of names, and back.

``name.var_segmentation.i_03.c_actin.tif`` is the file of ``name.tif`` with the variable *segmentation*, ``i`` = 3 and
``c`` = actin. Labels are written such that value and type can be read back: text that looks like a number, and
characters that are reserved by file systems or by this scheme, are percent-encoded; a decimal point is ``p``.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = [
    "format_label",
    "format_labels",
    "label_key",
    "member_name",
    "natural_key",
    "natural_sorted",
    "parse_label",
    "parse_member",
    "split_extension",
]

_INT = re.compile(r"-?\d+")
_FLOAT = re.compile(r"-?(\d+(p\d+)?(e[+-]?\d+)?|inf)|nan")
_DECIMAL = re.compile(r"-?\d+\.\d+([eE][+-]?\d+)?")  # as other programs write it
_RESERVED = re.compile(r'[%./\\:*?"<>|~{}\x00-\x1f\x7f]|^ | $')
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_LONGEST = 100  # largest size of a label in bytes: names are limited to 255


def format_label(value: Any, width: int = 0) -> str:
    """Return a coordinate value as a part of a name.

    Parameters
    ----------
    value : int, float, str or numpy scalar
        Integers are padded with zeros to `width`; the point of floats becomes ``p``; in text, reserved characters are
        percent-encoded, and labels of more than 100 bytes are truncated and marked with ``~`` and a hash.
    width : int
        Number of digits.

    Examples
    --------
    >>> format_label(3, 2), format_label(-0.5), format_label("actin"), format_label("03"), format_label("a/b.c")
    ('03', '-0p5', 'actin', '%303', 'a%2Fb%2Ec')
    """
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    value = _ticks(value)
    if isinstance(value, (int, np.integer)):
        return f"{int(value):0{width + (value < 0)}d}" if width else str(int(value))
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return ("nan" if math.isnan(number) else repr(number)).replace(".", "p")
    text = str(value)
    if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
        label = _percent(text[0]) + text[1:]
    else:
        label = _RESERVED.sub(lambda m: _percent(m[0]), text)
    raw = label.encode("utf-8", "surrogatepass")
    if len(raw) > _LONGEST:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        cut = raw[: _LONGEST - 20].decode("utf-8", "ignore")
        label = re.sub(r"%[0-9A-F]?$", "", cut) + "~" + digest
    return label.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _ticks(value: Any) -> Any:
    """Return a duration of numpy as the number of its units, other values as they are."""
    if not isinstance(value, np.timedelta64):
        return value
    return str(value) if np.isnat(value) else int(value.astype(np.int64))


def _percent(text: str) -> str:
    return "".join(f"%{b:02X}" for b in text.encode("utf-8", "surrogatepass"))


def parse_label(label: str) -> int | float | str:
    """Return the value of a label, made by `format_label` or written by hand.

    Examples
    --------
    >>> parse_label("003"), parse_label("-0p5"), parse_label("%303"), parse_label("a%2Fb")
    (3, -0.5, '03', 'a/b')
    """
    if _INT.fullmatch(label):
        return int(label)
    if _FLOAT.fullmatch(label):
        return float(label.replace("p", "."))
    if _DECIMAL.fullmatch(label):
        return float(label)
    decoded = _ENCODED.sub(lambda m: bytes.fromhex(m[0].replace("%", "")).decode("utf-8", "surrogateescape"), label)
    return decoded


def format_labels(values: Iterable[Any]) -> list[str]:
    """Return labels for all values of an axis, integers padded to the widest."""
    values = list(map(_ticks, values))
    integers = [int(v) for v in values if isinstance(v, (int, np.integer)) and not isinstance(v, (bool, np.bool_))]
    width = max((len(str(abs(v))) for v in integers), default=0)
    return [format_label(v, width) for v in values]


def member_name(stem: str, extension: str, parts: Mapping[str, str]) -> str:
    """Return ``stem.a_label.b_label.ext`` for labels by axis.

    Examples
    --------
    >>> member_name("filename", ".tif", {"var": "image", "i": "03", "c": "actin"})
    'filename.var_image.i_03.c_actin.tif'
    """
    return ".".join([stem, *(f"{axis}_{label}" for axis, label in parts.items())]) + extension


def parse_member(name: str, stem: str, extension: str) -> dict[str, str] | None:
    """Return the labels by axis in a name of the form of `member_name`, or None.

    Examples
    --------
    >>> parse_member("f.i_03.c_actin.tif", "f", ".tif")
    {'i': '03', 'c': 'actin'}
    """
    if not (name.startswith(stem + ".") and name.lower().endswith(extension.lower())):
        return None
    middle = name[len(stem) + 1 : len(name) - len(extension)]
    parts: dict[str, str] = {}
    for part in middle.split("."):
        axis, underscore, label = part.partition("_")
        if not underscore or not re.fullmatch(r"var|[a-z]", axis) or axis in parts:
            return None
        parts[axis] = label
    return parts or None


def split_extension(name: str, extensions: Iterable[str]) -> tuple[str, str]:
    """Return stem and extension; the longest known extension is used: ``a.ome.tif`` is ``a`` and ``.ome.tif``."""
    known = _lower(extensions if isinstance(extensions, frozenset) else frozenset(extensions))
    dot = name.find(".", 1)
    while dot > 0:  # the longest extension first
        if name[dot:].lower() in known:
            return name[:dot], name[dot:]
        dot = name.find(".", dot + 1)
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if dot > 0 else (name, "")


@lru_cache(maxsize=16)
def _lower(extensions: frozenset[str]) -> frozenset[str]:
    return frozenset(e.lower() for e in extensions)


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Return a sort key by which ``im2`` comes before ``im10``."""
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in re.split(r"(\d+)", text) if p]


def natural_sorted(names: Iterable[str]) -> list[str]:
    """Return names sorted by `natural_key`; vectorised if all have their digits at the same positions.

    Examples
    --------
    >>> natural_sorted(["im10", "im2", "im1"])
    ['im1', 'im2', 'im10']
    """
    names = sorted(names)
    if "".join(names).isascii() and len({name.translate(_DIGITS) for name in names}) <= 1:
        return names
    return sorted(names, key=natural_key)


_DIGITS = str.maketrans("123456789", "000000000")


def label_key(label: str) -> tuple[Any, ...]:
    """Return a sort key of labels: numbers by value, then text in natural order; equal for labels of the same meaning.

    Examples
    --------
    >>> label_key("7") == label_key("007"), label_key("7") == label_key("%37")
    (True, False)
    """
    value = parse_label(label)
    if isinstance(value, str):
        return (2, natural_key(value), value)
    return (1,) if math.isnan(value) else (0, value)
