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
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from intake_img.errors import AxesError

__all__ = ["Pattern", "format_label", "format_labels", "label_key", "member_name", "natural_key", "natural_sorted",
           "parse_label", "parse_member", "split_extension"]  # fmt: skip

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
    known = extensions if isinstance(extensions, frozenset) else frozenset(extensions)
    match = _extension_regex(known).search(name)
    if match is not None:
        return name[: match.start()], match[0]
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if dot > 0 else (name, "")


@lru_cache(maxsize=16)
def _extension_regex(extensions: frozenset[str]) -> re.Pattern[str]:
    """A regex that finds the longest of some extensions at the end of a name, and not the whole name."""
    tails = "|".join(re.escape(e) for e in sorted(extensions, key=len, reverse=True))
    return re.compile(rf"(?<=.)(?:{tails})\Z" if tails else r"(?!)", re.I | re.S)


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Return a sort key by which ``im2`` comes before ``im10``."""
    return [(0, int(p)) if p.isdecimal() else (1, p) for p in re.split(r"(\d+)", text) if p]


def natural_sorted(names: Iterable[str]) -> list[str]:
    """Return names sorted by `natural_key`: at once where all have their digits at the same places.

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
    """Return a sort key of labels: numbers by value before text in natural order; equal for labels that mean the same.

    Examples
    --------
    >>> label_key("7") == label_key("007"), label_key("7") == label_key("%37")
    (True, False)
    """
    value = parse_label(label)
    if isinstance(value, str):
        return (2, natural_key(value), value)
    return (1,) if math.isnan(value) else (0, value)


@dataclass(frozen=True)
class Step:
    """What one name on the way to a file must match.

    Attributes
    ----------
    regex : str
        With a group for each field. A name that begins with a dot is hidden: it matches only a literal dot.
    fields : tuple of str
    literal : str or None
        The name itself, where it has neither fields nor wildcards.
    """

    regex: str
    fields: tuple[str, ...]
    literal: str | None


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

    _TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)(?::([^{}/]*))?\}|\*\*/?|\*|\?|\[[^\]/]+\]|/|[^{}*?\[/]+|.", re.S)

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps: list[Step] = []
        regex: list[str] = []
        step: list[str] = []
        fields: list[str] = []
        literal: str | None = ""
        for token in self._TOKEN.finditer(text):
            piece, field, spec = token[0], token[1], token[2]
            if piece == "/":
                self._steps.append(Step("".join(step), tuple(fields), literal))
                regex += [*step, "/"]
                step, fields, literal = [], [], ""
                continue
            free = bool(field) or piece[0] in "*?" or (piece[0] == "[" and len(piece) > 2)
            if free and not step and not piece.startswith("**"):
                step.append(r"(?!\.)")
            if field:
                self._check_field(field, fields)
                fields.append(field)
                step.append(f"({_field_regex(spec or '')})")
            else:
                step.append(_glob_regex(piece))
            literal = None if free or literal is None else literal + (piece[0] if piece in ("{{", "}}") else piece)
        self._steps.append(Step("".join(step), tuple(fields), literal))
        self.regex = "".join([*regex, *step])
        self.fields: Sequence[str] = tuple(f for s in self._steps for f in s.fields)
        try:
            re.compile(self.regex)
        except re.error as exc:
            raise ValueError(f"the pattern {text!r} cannot be understood: {exc}") from exc

    def _check_field(self, field: str, fields: Sequence[str]) -> None:
        if field in fields or any(field in s.fields for s in self._steps):
            raise AxesError(f"the pattern {self.text!r} repeats the field {field!r}: each may occur once")
        if not re.fullmatch(r"var|[a-z]", field):
            raise AxesError(f"the pattern {self.text!r} has the field {field!r}: expected an axis (a letter) or 'var'")

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields of a path that fits from end to end, or None."""
        found = re.fullmatch(self.regex, path, re.S)
        return dict(zip(self.fields, found.groups(), strict=True)) if found else None

    @cached_property
    def _fixed(self) -> int:
        """Number of steps before the first field or wildcard."""
        last = len(self._steps) - 1
        return next((k for k, s in enumerate(self._steps) if s.literal is None), last)

    @property
    def fixed(self) -> str:
        """The folder before the first field or wildcard."""
        return "/".join(str(s.literal) for s in self._steps[: self._fixed])

    @property
    def steps(self) -> Sequence[Step]:
        """What the names below `fixed` must match, folders first."""
        return self._steps[self._fixed :]

    @property
    def depth(self) -> int | None:
        """How many folders below `fixed` the files lie; None if ``**`` leaves that open."""
        return None if "**" in self.text else len(self.steps) - 1


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
        negated = piece[1] in "!^" and len(piece) > 3
        body = "".join(c if c == "-" else re.escape(c) for c in piece[1 + negated : -1])
        body = re.sub("-{2,}", "-", body)
        return rf"(?![/\0])[{'^' * negated}{body}]"
    return re.escape(piece)
