"""Names of files that carry coordinates: how labels become parts of names, and names become labels again.

``name.var_segmentation.i_03.c_actin.tif`` is the part of ``name.tif`` with the variable *segmentation*, ``i`` = 3 and
``c`` = actin. Labels are written so that they read back to the same value and type: text that looks like a number, and
characters that file systems or this scheme need for themselves, are percent-encoded; a decimal point is ``p``.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.errors import AxesError

__all__ = ["Pattern", "format_label", "format_labels", "member_name", "natural_key", "parse_label", "parse_member",
           "split_extension"]  # fmt: skip

_INT = re.compile(r"-?\d+")
_FLOAT = re.compile(r"-?(\d+(p\d+)?(e[+-]?\d+)?|inf)|nan")
_RESERVED = re.compile(r'[%./\\:*?"<>|~{}\x00-\x1f\x7f]|^ | $')
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_LONGEST = 100  # bytes of one label: names are limited to 255


def format_label(value: Any, width: int = 0) -> str:
    """Return a coordinate value as a part of a name.

    Parameters
    ----------
    value : int, float, str or numpy scalar
        Integers are padded with zeros to `width`; of floats, the point becomes ``p``; in text, reserved characters are
        percent-encoded, and labels of more than 100 bytes are cut and marked with ``~`` and a hash.
    width : int
        Number of digits.

    Examples
    --------
    >>> format_label(3, 2), format_label(-0.5), format_label("actin"), format_label("03"), format_label("a/b.c")
    ('03', '-0p5', 'actin', '%303', 'a%2Fb%2Ec')
    """
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
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


def _percent(text: str) -> str:
    return "".join(f"%{b:02X}" for b in text.encode("utf-8", "surrogatepass"))


def parse_label(label: str) -> int | float | str:
    """Return the value of a label that `format_label` made, or a person wrote.

    Examples
    --------
    >>> parse_label("003"), parse_label("-0p5"), parse_label("%303"), parse_label("a%2Fb")
    (3, -0.5, '03', 'a/b')
    """
    if _INT.fullmatch(label):
        return int(label)
    if _FLOAT.fullmatch(label):
        return float(label.replace("p", "."))
    decoded = _ENCODED.sub(lambda m: bytes.fromhex(m[0].replace("%", "")).decode("utf-8", "surrogateescape"), label)
    return decoded


def format_labels(values: Iterable[Any]) -> list[str]:
    """Return labels for all values of an axis, integers padded to the widest."""
    values = list(values)
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
    """Return the labels by axis in a name that `member_name` could have made, or None.

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
    """Return stem and extension, the longest one known: ``a.ome.tif`` is ``a`` and ``.ome.tif``."""
    fits = [e for e in extensions if name.lower().endswith(e) and len(name) > len(e)]
    length = max(map(len, fits), default=0)
    if not length:
        dot = name.rfind(".")
        length = len(name) - dot if dot > 0 else 0
    return name[: len(name) - length], name[len(name) - length :]


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Return a sort key by which ``im2`` comes before ``im10``."""
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in re.split(r"(\d+)", text) if p]


class Pattern:
    """A path with fields: ``pos_{i}/t_{t:03d}.tif``; also ``*``, ``?`` and ``**``, which match without being kept.

    Parameters
    ----------
    text : str
        ``{field}`` stands for text without ``/``; ``{field:03d}`` for so many digits. ``{{`` and ``}}`` are braces.

    Attributes
    ----------
    fields : tuple of str
        In their order in the text.
    regex : str
        What a whole path must match, with a group for each field; it never matches a NUL.

    Raises
    ------
    AxesError
        If a field is repeated or is not an axis or ``var``.
    """

    _TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)(?::([^{}]*))?\}|\*\*/?|\*|\?|\[[^\]/]+\]|[^{}*?\[]+|.", re.S)

    def __init__(self, text: str) -> None:
        self.text = text
        fields: list[str] = []
        regex = []
        for token in self._TOKEN.finditer(text):
            piece, field, spec = token[0], token[1], token[2]
            if field:
                if field in fields:
                    raise AxesError(f"the pattern {text!r} repeats the field {field!r}: each may occur once")
                if not re.fullmatch(r"var|[a-z]", field):
                    raise AxesError(
                        f"the pattern {text!r} has the field {field!r}: expected an axis (a letter) or 'var'"
                    )
                fields.append(field)
                regex.append(f"({_field_regex(spec or '')})")
            else:
                regex.append(_glob_regex(piece))
        self.fields: Sequence[str] = tuple(fields)
        self.regex = "".join(regex)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields of a path that fits from end to end, or None."""
        found = re.fullmatch(self.regex, path, re.S)
        return dict(zip(self.fields, found.groups(), strict=True)) if found else None

    @property
    def fixed(self) -> str:
        """The folder before the first field or wildcard."""
        free = re.search(r"(?<!\{)\{(?!\{)|[*?\[]", self.text)
        head = self.text[: free.start()] if free else self.text
        return head.replace("{{", "{").replace("}}", "}").rpartition("/")[0]

    @property
    def depth(self) -> int | None:
        """How many folders below `fixed` the files lie; None if ``**`` leaves that open."""
        return None if "**" in self.text else self.text[len(self.fixed) :].strip("/").count("/")


def _field_regex(spec: str) -> str:
    width = re.fullmatch(r"0?(\d*)d", spec)
    if width:
        return rf"-?\d{{{width[1]},}}" if width[1] else r"-?\d+"
    return r"[^/\0]*?" if not spec else rf"[^/\0]{{{spec.lstrip('0')}}}" if spec.strip("0").isdecimal() else r"[^/\0]*?"


def _glob_regex(piece: str) -> str:
    if piece in ("{{", "}}"):
        return re.escape(piece[0])
    if piece.startswith("**"):
        return r"(?:[^\0]*/)?" if piece.endswith("/") else r"[^\0]*"
    if piece == "*":
        return r"[^/\0]*"
    if piece == "?":
        return r"[^/\0]"
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        body = piece[1:-1]
        return "[" + ("^" + body[1:] if body[0] in "!^" else body).replace("\\", r"\\").replace("[", r"\[") + "]"
    return re.escape(piece)
