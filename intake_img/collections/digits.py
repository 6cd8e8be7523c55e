"""Numbers in many names: if names differ only in their digits, numpy parses them together, instead of a regex each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from intake_img.collections.token_matching import Matcher

__all__ = ["Numbers", "find_numbers"]

_WIDEST = 18  # digits that fit into an int64


@dataclass(frozen=True)
class Numbers:
    """The numbers in one field of many names.

    Attributes
    ----------
    values, starts, stops : ndarray of int
        The number in each name, and its character range.
    """

    values: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def find_numbers(regex: re.Pattern[str] | Matcher, names: Sequence[str]) -> tuple[np.ndarray, list[Numbers]] | None:
    """Read the groups of a regex in the names that match it, if all groups contain only digits.

    Parameters
    ----------
    regex : re.Pattern or Matcher
        A regex of literal text, wildcards and groups, as made by `intake_img.collections.patterns.Pattern`.
    names : sequence of str

    Returns
    -------
    places : ndarray of int
        The names that match completely.
    groups : list of Numbers
        Their numbers, for each group.
    None
        If the names are not that simple: then the regex must be applied to each.
    """
    text = "\0".join(names) + "\0"
    if not regex.groups or not text.isascii():
        return None
    data = np.frombuffer(text.encode(), np.uint8)
    ends = np.flatnonzero(data == 0)
    if len(ends) != len(names):
        return None
    begins = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - begins
    found: list[tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]] = []
    for length in np.flatnonzero(np.bincount(lengths)).tolist():
        places = np.flatnonzero(lengths == length)
        same = _alike(regex, names, places, data[begins[places][:, None] + np.arange(length)])
        if same is None:
            return None
        if len(same[0]):
            found.append(same)
    if not found:
        return np.empty(0, np.intp), [Numbers(*np.empty((3, 0), np.int64)) for _ in range(regex.groups)]
    places = np.concatenate([at for at, _, _ in found])
    groups = []
    for k in range(regex.groups):
        spans = np.repeat([s[k] for _, _, s in found], [len(at) for at, _, _ in found], axis=0)
        values = np.concatenate([_numbers(table[:, slice(*s[k])]) for _, table, s in found])
        groups.append(Numbers(values, spans[:, 0], spans[:, 1]))
    return places, groups


def _alike(
    regex: re.Pattern[str] | Matcher, names: Sequence[str], places: np.ndarray, table: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]] | None:
    """Return which names of one length match, their characters and the position of each group; None if digits do not
    suffice.

    The first match represents all names that differ from it only in the digits of its groups.
    """
    tried = ((k, regex.fullmatch(names[place])) for k, place in enumerate(places.tolist()))
    k, match = next(((k, m) for k, m in tried if m is not None), (0, None))
    if match is None:
        return places[:0], table, []
    spans = [match.span(g) for g in range(1, regex.groups + 1)]
    between = [match.string[a:b] for (_, a), (b, _) in pairwise(spans)]
    if any(not 0 < b - a <= _WIDEST for a, b in spans) or any(map(_HAS_DIGIT, between)):
        return None
    free = np.zeros(table.shape[1], bool)
    for a, b in spans:
        free[a:b] = True
    digits = table[:, free]
    fits = (table[:, ~free] == table[k, ~free]).all(1) & ((digits >= 48) & (digits <= 57)).all(1)
    if not fits[k] or any(regex.fullmatch(names[place]) for place in places[k + 1 :][~fits[k + 1 :]].tolist()):
        return None
    return places[fits], table[fits], spans


_HAS_DIGIT = re.compile(r"\d").search


def _numbers(table: np.ndarray) -> np.ndarray:
    values = np.zeros(len(table), np.int64)
    for column in table.T:
        values = values * 10 + (column - 48)
    return values
