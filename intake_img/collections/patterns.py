"""Patterns of paths: ``pos_{i}/t_{t:03d}.tif`` finds files and extracts the fields in their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from intake_img.collections.token_matching import Matcher, Token
from intake_img.errors import AxesError

__all__ = ["Pattern", "Step"]


@dataclass(frozen=True)
class Step:
    """The pattern of one path component.

    Attributes
    ----------
    tokens : tuple of Token
        A name that begins with a dot is hidden: only a literal dot matches it.
    literal : str or None
        The name itself, if it has neither fields nor wildcards.
    """

    tokens: tuple[Token, ...]
    literal: str | None

    @cached_property
    def matcher(self) -> Matcher:
        return Matcher(self.tokens)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(t.field for t in self.tokens if t.field is not None)


class Pattern:
    """A path with fields: ``pos_{i}/t_{t:03d}.tif``; also ``*``, ``?`` and ``**``, whose matches are not kept.

    Parameters
    ----------
    text : str
        ``{field}`` matches text without ``/``; ``{field:03d}`` matches that many digits. ``{{`` and ``}}`` are braces.
    classes : bool
        ``[ab]`` matches one of these characters; False: brackets are characters of the name.

    Attributes
    ----------
    fields : tuple of str
        The fields, in their order in the text.
    matcher : Matcher
        Matches complete paths, with a group for each field; it never matches a NUL.

    Raises
    ------
    AxesError
        If a field is repeated.
    ValueError
        If the pattern is invalid.
    """

    def __init__(self, text: str, classes: bool = True) -> None:
        self.text = text
        self._token = _TOKEN if classes else _TOKEN_OF_BRACKETS
        self._steps: list[Step] = []
        tokens: list[Token] = []
        literal: str | None = ""
        for part in self._token.finditer(text):
            piece, field, spec = part[0], part[1], part[2]
            if piece == "/":
                self._steps.append(Step(tuple(tokens), literal))
                tokens, literal = [], ""
                continue
            free = bool(field) or piece[0] in "*?" or (piece[0] == "[" and len(piece) > 2)
            if free and not tokens and not piece.startswith("**"):
                tokens.append(_VISIBLE)
            tokens.append(_field_token(field, spec or "") if field else _glob_token(piece))
            literal = None if free or literal is None else literal + (piece[0] if piece in ("{{", "}}") else piece)
        self._steps.append(Step(tuple(tokens), literal))
        self.fields: Sequence[str] = tuple(f for s in self._steps for f in s.fields)
        if twice := next((f for k, f in enumerate(self.fields) if f in self.fields[:k]), None):
            raise AxesError(f"the pattern {text!r} repeats the field {twice!r}: each may occur once")
        whole = [t for step in self._steps for t in (_literal("/"), *step.tokens)][1:]
        try:
            self.matcher = Matcher(whole)
        except ValueError as exc:
            raise ValueError(f"the pattern {text!r} cannot be understood: {exc}") from exc

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields of a path that matches completely, or None."""
        found = self.matcher.fullmatch(path)
        return dict(zip(self.fields, found.groups(), strict=True)) if found else None

    def filled(self, labels: Mapping[str, str]) -> str | None:
        """Return the path with the given labels in its fields; None if it has wildcards, or a field has no label."""
        parts = []
        for part in self._token.finditer(self.text):
            piece = labels.get(part[1]) if part[1] else _glob_token(part[0]).literal
            if piece is None or not (piece or part[1]):
                return None
            parts.append(piece)
        return "".join(parts)

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
        """The patterns of the names below `fixed`, folders first."""
        return self._steps[self._fixed :]

    @property
    def depth(self) -> int | None:
        """The depth of the files below `fixed`; None if ``**`` leaves it open."""
        return None if "**" in self.text else len(self.steps) - 1


_WILD = r"\{\{|\}\}|\{([A-Za-z_]\w*)(?::([^{}/]*))?\}|\*\*/?|\*|\?"
_TOKEN = re.compile(rf"{_WILD}|\[[^\]/]+\]|/|[^{{}}*?\[/]+|.", re.S)
_TOKEN_OF_BRACKETS = re.compile(rf"{_WILD}|/|[^{{}}*?/]+", re.S)

_VISIBLE = Token(r"(?!\.)")


def _literal(text: str) -> Token:
    return Token(re.escape(text), literal=text)


def _field_token(name: str, spec: str) -> Token:
    digits = re.fullmatch(r"0?(\d*)d", spec)
    if digits:
        low = max(1, int(digits[1] or 1))
        return Token(rf"-?\d{{{low},}}", "digits", field=name, low=low)
    if spec and spec.strip("0").isdecimal():
        return Token(rf"[^/\0]{{{spec.lstrip('0')}}}", field=name)
    return Token(r"[^/\0]*?", "wild", lazy=True, field=name)


def _glob_token(piece: str) -> Token:
    if piece in ("{{", "}}"):
        return _literal(piece[0])
    if piece.startswith("**"):
        return Token(r"(?:[^\0]*/)?" if piece.endswith("/") else r"[^\0]*", "deep")
    if piece == "*":
        return Token(r"[^/\0]*", "wild")
    if piece == "?":
        return Token(r"[^/\0]")
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
        negated = piece[1] in "!^" and len(piece) > 3
        body = "".join(c if c == "-" else re.escape(c) for c in piece[1 + negated : -1])
        body = re.sub("-{2,}", "-", body)
        return Token(rf"(?![/\0])[{'^' * negated}{body}]")
    return _literal(piece)
