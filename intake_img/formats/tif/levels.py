"""Levels of a pyramid: the downsampling factor of each, from their shapes.

Sizes are rounded down or up, so that a size alone leaves several factors open: 67 pixels become 9 with 7 (down) and
with 8 (up). Axes of a plane share the factor that explains all their sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["factors"]


def factors(axes: Sequence[str], shapes: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the factor of each axis, for each level.

    Parameters
    ----------
    axes : sequence of str
    shapes : sequence of tuple of int
        Shapes of the levels, full resolution first.

    Examples
    --------
    >>> factors("yx", [(101, 67), (51, 34), (13, 9)])
    [[1.0, 1.0], [2.0, 2.0], [8.0, 8.0]]
    """
    full = shapes[0]
    found = [[1.0] * len(axes)]
    before = 1
    for shape in shapes[1:]:
        own = [_single(n, m) for n, m in zip(full, shape, strict=True)]
        plane = [(n, m) for a, n, m in zip(axes, full, shape, strict=True) if a in "yx"]
        common = _common(plane, before)
        if common is not None:
            own = [float(common) if a in "yx" else f for a, f in zip(axes, own, strict=True)]
            before = common
        found.append(own)
    return found


def _explains(full: int, small: int, factor: int) -> bool:
    return small in (max(full // factor, 1), -(-full // factor))


def _single(full: int, small: int) -> float:
    """The nearest integer if rounding explains the difference, else the ratio."""
    factor = max(round(full / small), 1)
    return float(factor) if _explains(full, small, factor) else full / small


def _common(sizes: Sequence[tuple[int, int]], before: int) -> int | None:
    """Return the factor that explains all sizes: a multiple of the level before, and a power of two, where possible."""
    if not sizes or all(n == m for n, m in sizes):
        return None
    n, m = max(sizes, key=lambda pair: pair[1])  # the largest level leaves fewest factors open
    near = range(max(n // (m + 1), 1), n // max(m - 1, 1) + 2)
    fits = [f for f in near if all(_explains(n, m, f) for n, m in sizes)]
    return min(fits, key=lambda f: (f % before != 0, f & (f - 1) != 0, abs(f - n / m)), default=None)
