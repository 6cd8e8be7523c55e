"""Matching of a name against a sequence of tokens, like a regular expression, in bounded time.

A regular expression with many wildcards may backtrack over all divisions of a name, which can take hours. Here
wildcards whose first match is always right are atomic groups. If several other wildcards remain and names are long, the
tokens are matched from the end to the start, in time proportional to tokens times characters. Both methods prefer the
same match.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

__all__ = ["Match", "Matcher", "Token"]

_STEPS = 200_000  # limit of steps of a regular expression for one name: a few milliseconds


@dataclass(frozen=True)
class Token:
    """A part of a pattern.

    Parameters
    ----------
    regex : str
        The regex of the token, without groups.
    kind : {"fixed", "wild", "digits", "deep"}
        A fixed token matches texts of one length; ``wild`` matches any text without ``/``; ``digits`` a number;
        ``deep`` text with ``/`` or, if the regex ends in it, empty text or text that ends in ``/``.
    lazy : bool
        The shortest match is preferred to the longest.
    field : str or None
        Name of the field that keeps the match.
    low : int
        Minimal number of digits.
    literal : str
        The only text that a fixed token matches, if there is only one.
    """

    regex: str
    kind: Literal["fixed", "wild", "digits", "deep"] = "fixed"
    lazy: bool = False
    field: str | None = None
    low: int = 0
    literal: str = ""

    @cached_property
    def run(self) -> re.Pattern[str]:
        """The largest length of a match of the token."""
        text = {"wild": r"[^/\0]*", "digits": r"-?\d*", "deep": r"[^\0]*"}.get(self.kind, self.regex)
        return re.compile(text, re.S)

    def ends(self, text: str, start: int) -> tuple[int, int] | None:
        """Return the first and the last possible end of a match from `start` on; None if there is none."""
        found = self.run.match(text, start)
        if found is None:
            return None
        if self.kind == "fixed":
            return found.end(), found.end()
        low = start + self.low + self.slash + (self.kind == "digits" and text.startswith("-", start))
        return (low, found.end()) if low <= found.end() else None

    @property
    def slash(self) -> bool:
        """Whether the match is nothing or ends in ``/``."""
        return self.kind == "deep" and self.regex.endswith("/)?")


@dataclass(frozen=True)
class Match:
    """A match of a complete text, with its groups, like `re.Match`."""

    string: str
    spans: Sequence[tuple[int, int]]

    def span(self, group: int) -> tuple[int, int]:
        return self.spans[group - 1]

    def groups(self) -> tuple[str, ...]:
        return tuple(self.string[a:b] for a, b in self.spans)


class Matcher:
    """Matches complete texts; used like a compiled regular expression.

    Parameters
    ----------
    tokens : sequence of Token

    Attributes
    ----------
    groups : int
        Number of fields.

    Raises
    ------
    ValueError
        If a token is not a valid regular expression.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tuple(tokens)
        self.groups = sum(t.field is not None for t in tokens)
        try:
            self._regex = re.compile(regex_of(self.tokens, _settling(self.tokens)), re.S)
        except (re.error, OverflowError) as exc:
            raise ValueError(str(exc)) from exc
        rivals = [k for k in range(len(self.tokens)) if _competes(self.tokens, k)]
        self._behind = [t.literal[:1] for k in rivals for t in [*self.tokens[k + 1 : k + 2], Token("")][:1]]

    def fullmatch(self, text: str) -> re.Match[str] | Match | None:
        """Return the match of a complete text, or None."""
        # a competing wildcard may end before each occurrence of the next token
        if math.prod(text.count(behind) + 1 for behind in self._behind) * len(text) <= _STEPS:
            return self._regex.fullmatch(text)
        return self._slow(text)

    def _slow(self, text: str) -> Match | None:
        ends: list[list[int | None]] = []  # for each token, the last first: its end, for each possible start
        possible = [len(text)]
        for token in reversed(self.tokens):
            ends.append(_ends(token, text, possible))
            possible = [p for p, end in enumerate(ends[-1]) if end is not None]
        at, spans = 0, []
        for token, of_start in zip(self.tokens, reversed(ends), strict=True):
            end = of_start[at]
            if end is None:
                return None
            if token.field is not None:
                spans.append((at, end))
            at = end
        return Match(text, spans) if at == len(text) else None


def _ends(token: Token, text: str, possible: Sequence[int]) -> list[int | None]:
    """Return the preferred end of a token, among the sorted positions `possible`, for each start."""
    if not token.slash:
        return [_end(token, text, start, possible) for start in range(len(text) + 1)]
    slashes = [e for e in possible if text[e - 1 : e] == "/"]
    empty = set(possible)
    found = [_end(token, text, start, slashes) for start in range(len(text) + 1)]
    return [k if end is None and k in empty else end for k, end in enumerate(found)]


def _end(token: Token, text: str, start: int, possible: Sequence[int]) -> int | None:
    span = token.ends(text, start)
    if span is None:
        return None
    first, last = bisect_left(possible, span[0]), bisect_right(possible, span[1])
    return possible[first if token.lazy else last - 1] if first < last else None


def regex_of(tokens: Sequence[Token], settling: Sequence[int] = ()) -> str:
    """Return the regular expression of tokens; tokens at the indices `settling` are atomic."""
    parts, opened = [], False
    for k, token in enumerate(tokens):
        if opened and token.kind != "fixed":
            parts.append(")")
            opened = False
        if k in settling:
            parts.append("(?>")
            token, opened = replace(token, regex=r"[^/\0]*?"), True
        parts.append(f"({token.regex})" if token.field is not None else token.regex)
    return "".join(parts) + ")" * opened


def _settling(tokens: Sequence[Token]) -> list[int]:
    """Return which wildcards can be atomic, because another wildcard soon after matches the rest.

    A ``*`` before a field cannot: it matches as much as possible.
    """
    return [k for k, token in enumerate(tokens) if token.kind == "wild" and _settles(tokens, k)]


def _settles(tokens: Sequence[Token], k: int) -> bool:
    rest = _rest_of_step(tokens, k)
    variable = [t for t in rest if t.kind != "fixed"]
    if not variable or variable[0].kind != "wild" or any(t.kind == "deep" for t in tokens):
        return False
    return tokens[k].lazy or not any(t.field for t in rest)


def _competes(tokens: Sequence[Token], k: int) -> bool:
    """Return whether a token may have to try several ends."""
    token, rest = tokens[k], _rest_of_step(tokens, k)
    if token.kind == "digits":
        return bool(rest) and not _begins_without_digit(rest[0])
    if token.kind == "wild":
        return any(t.kind != "fixed" for t in rest) and not _settles(tokens, k)
    return token.kind == "deep"


def _rest_of_step(tokens: Sequence[Token], k: int) -> Sequence[Token]:
    """Return the tokens after one, up to the next ``/``."""
    stop = next((n for n in range(k + 1, len(tokens)) if tokens[n].regex == "/"), len(tokens))
    return tokens[k + 1 : stop]


def _begins_without_digit(token: Token) -> bool:
    return token.literal != "" and not token.literal[0].isdecimal()
