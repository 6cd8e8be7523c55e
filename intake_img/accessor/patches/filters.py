"""Filters: predicates on the pixels of patches.

Each gets patches, an array ``(n, kept axes, cut axes)``, and returns ``n`` booleans. The rules of
`max_above`, `mean_std` and `shannon` are those of CAREamics' patch filters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.accessor.alignment import inside

__all__ = ["Filter", "foreground", "max_above", "mean_std", "shannon"]


@dataclass(frozen=True)
class Filter:
    """A predicate on arrays of patches.

    Parameters
    ----------
    name : str
    check : callable
        ``check(patch, **options)`` returns whether to keep one patch.
    options : tuple of (str, object)
    variable : str, optional
        The variable to test; the reference by default.
    """

    name: str
    check: Callable[..., bool]
    options: tuple[tuple[str, Any], ...] = ()
    variable: str | None = None

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        options = dict(self.options)
        return np.fromiter((bool(self.check(p, **options)) for p in patches), bool, len(patches))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.options)})"


def max_above(threshold: float, coverage: float = 0.25, variable: str | None = None) -> Filter:
    """Keep patches that are bright enough in a large enough part.

    The maximum must reach `threshold`, and the maximum filter of half the patch's size must exceed it in at least the
    share `coverage` of the patch.
    """
    return Filter("max_above", _max_above, (("threshold", threshold), ("coverage", coverage)), variable)


def _max_above(patch: np.ndarray, threshold: float, coverage: float) -> bool:
    from scipy import ndimage

    if not patch.max() >= threshold:
        return False
    spread = ndimage.maximum_filter(patch, [max(1, n // 2) for n in patch.shape], mode="constant")
    return bool((spread > threshold).mean() >= coverage)


def mean_std(mean: float, std: float = 0.0, variable: str | None = None) -> Filter:
    """Keep patches whose mean and standard deviation reach both limits."""
    return Filter("mean_std", _mean_std, (("mean", mean), ("std", std)), variable)


def _mean_std(patch: np.ndarray, mean: float, std: float) -> bool:
    return bool(patch.mean() >= mean and patch.std() >= std)


def shannon(threshold: float, variable: str | None = None) -> Filter:
    """Keep patches whose Shannon entropy, in bits, reaches a threshold."""
    return Filter("shannon", _shannon, (("threshold", threshold),), variable)


def _shannon(patch: np.ndarray, threshold: float) -> bool:
    _, times = np.unique(patch, return_counts=True)
    share = times / patch.size
    return bool(-(share * np.log2(share)).sum() >= threshold)


def foreground(variable: str, coverage: float = 0.25) -> Filter:
    """Keep patches in which a mask or label image is neither 0 nor NaN in at least the share `coverage`."""
    return Filter("foreground", _foreground, (("coverage", coverage),), variable)


def _foreground(patch: np.ndarray, coverage: float) -> bool:
    return bool(np.count_nonzero(inside(patch)) / patch.size >= coverage)


def as_filter(predicate: Any) -> Filter:
    """Return a function of one patch as a filter."""
    if isinstance(predicate, Filter):
        return predicate
    if not callable(predicate):
        raise TypeError(
            f"where={predicate!r} ({type(predicate).__name__}): expected functions of a patch, or filters such as "
            "intake_img.accessor.patches.filters.max_above(12)"
        )
    return Filter(getattr(predicate, "__name__", "predicate"), predicate)
