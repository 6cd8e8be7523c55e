"""Lower envelopes of parabolas, of many lines of pixels at once: least sums of a value and its squared distance.

A line is passed once [1]_. Of the parabolas over its pixels so far, those that are the lowest anywhere are on a stack,
each with the first pixel where it is. A further one removes those at the end that it lies below from their first pixel
on. Lines take these steps side by side, so that numpy works on all of them: as many steps as pixels have values.

References
----------
.. [1] P. F. Felzenszwalb, D. P. Huttenlocher: Distance transforms of sampled functions. Theory of Computing 8, 415-428
   (2012), doi:10.4086/toc.2012.v008a019
"""

from __future__ import annotations

import numpy as np

__all__ = ["least"]

NONE, BOTTOM = 1e18, 1e17
"""Heights of a parabola that is nowhere the lowest, and of the one below the stack, which any other lies below."""
FILLED = 2**16
"""Pixels that are filled together."""


def least(lines: np.ndarray, far: int) -> np.ndarray:
    """Return, for each pixel of lines along axis 1, the least of their values, each plus the square of its distance.

    Parameters
    ----------
    lines : ndarray of int32, of shape (m, n)
        Less than `far`, where there is a value. Sums with squares of n fit into 32 bits.
    far : int
        Stands for no value.
    """
    there = np.flatnonzero((lines < far).any(axis=0))
    if not len(there):
        return lines.copy()
    heights = np.ascontiguousarray(lines[:, there].T)
    return _filled(lines, there, heights, *_envelopes(heights, there, far, lines.shape[1]))


def _envelopes(heights: np.ndarray, there: np.ndarray, far: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the stacks of lines.

    Parameters
    ----------
    heights : ndarray of int32, of shape (s, m)
        The values of the pixels that are `there`.
    there : ndarray of shape (s,)
    far : int
    n : int
        Pixels of a line.

    Returns
    -------
    site, first : ndarray of int16, of shape (s + 1, m)
        Which value is the lowest, and the first pixel where it is; each stack begins at 1.
    depth : ndarray of shape (m,)
    """
    s, m = heights.shape
    place = there.astype(float)
    sums = np.where(heights < far, heights + place[:, None] ** 2, NONE)  # of a height and the square of its place
    site, first = np.full((s + 1, m), -1, np.int16), np.full((s + 1, m), -1, np.int16)
    sites, firsts, flat = site.ravel(), first.ravel(), sums.ravel()
    end = np.arange(m)
    last_place, last_sum, last_first = np.full(m, -1.0), np.full(m, BOTTOM), np.full(m, -1.0)
    for k in range(s):
        begin = _meeting(sums[k], place[k], last_sum, last_place)
        hidden = np.flatnonzero(begin <= last_first)
        while len(hidden):
            end[hidden] -= m
            number, own_first = sites[end[hidden]].astype(np.intp), firsts[end[hidden]]
            bottom = number < 0
            own_place = np.where(bottom, -1.0, place[number])
            own_sum = np.where(bottom, BOTTOM, flat[number * m + hidden])
            last_place[hidden], last_sum[hidden], last_first[hidden] = own_place, own_sum, own_first
            begin[hidden] = found = _meeting(sums[k][hidden], place[k], own_sum, own_place)
            hidden = hidden[found <= own_first]
        added = np.flatnonzero(begin < n)
        end[added] += m
        sites[end[added]], firsts[end[added]] = k, begin[added]
        last_place[added], last_sum[added], last_first[added] = place[k], sums[k][added], begin[added]
    return site, first, end // m


def _meeting(own: np.ndarray, place: float, other: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return the first pixel where a parabola lies below another one that lies before it; exact up to 2^53."""
    begin = own - other
    begin /= 2 * (place - before)
    np.floor(begin, out=begin)
    begin += 1
    return np.maximum(begin, 0, out=begin)


def _filled(
    lines: np.ndarray, there: np.ndarray, heights: np.ndarray, site: np.ndarray, first: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Return the values of lines of their envelopes."""
    n, out = lines.shape[1], lines.copy()
    some, pixels = np.flatnonzero(depth), np.arange(lines.shape[1], dtype=np.int32)
    for k in range(0, len(some), max(1, FILLED // n)):
        part = some[k : k + max(1, FILLED // n)]
        deep = depth[part]
        levels = 1 + np.arange(deep.max())
        there_are = levels <= deep[:, None]
        sites, firsts = (a[levels[0] : levels[-1] + 1, part].T[there_are] for a in (site, first))
        after = np.append(firsts[1:], n)
        after[np.cumsum(deep) - 1] = n
        away = np.repeat(there[sites].astype(np.int32), after - firsts).reshape(-1, n)
        np.subtract(pixels, away, out=away)
        away *= away
        away += np.repeat(heights[sites, np.repeat(part, deep)], after - firsts).reshape(-1, n)
        out[part] = away
    return out
