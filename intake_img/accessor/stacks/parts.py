"""Regions of an array in a file, clipped to its extent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np

from intake_img.accessor.stacks.axes import Merge

__all__ = ["Parts", "clipped", "copied", "runs"]


class Parts:
    """The relation of the axes of plain pixels to (samples, channels, space); it turns a patch into a region.

    Parameters
    ----------
    merge : Merge
    places : tuple of (int or None)
        The axis of the image for each axis of the pixels, as returned by `Pixels.plain`.
    """

    def __init__(self, merge: Merge, places: Sequence[int | None]) -> None:
        order = (*merge.samples, *merge.channels, *merge.space)
        self.axes = tuple(None if k is None else merge.axes[k] for k in places)
        one = len(order)  # for axes of length 1 that the image does not have
        self._of_axis = tuple(one if a is None else order.index(a) for a in self.axes)
        self._kept = sorted(set(self._of_axis) - {one})
        present = [k for k in self._of_axis if k != one]
        self._transposed = None if present == self._kept else [self._kept.index(k) for k in present]
        self._lacking = any(k == one for k in self._of_axis)
        self._spread = tuple(None if k == one else slice(None) for k in self._of_axis)
        self._unspread = tuple(0 if k == one else slice(None) for k in self._of_axis)
        self._back = [present.index(k) for k in self._kept]
        channel = () if merge.channels else (None,)
        count = len(merge.samples)
        full = tuple(slice(None) if k in self._kept else None for k in range(len(order)))
        self._full = (*full[:count], *channel, *full[count:])

    def region(
        self, samples: list[slice], channels: list[slice], windows: list[slice], out: np.ndarray
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return the region of a patch in the pixels, and `out` (channels and space) with the axes of the pixels."""
        parts = [*samples, *channels, *windows, slice(0, 1)]
        region = tuple([parts[k] for k in self._of_axis])
        view = out.reshape([parts[k].stop - parts[k].start for k in self._kept])  # a view: only axes of length 1 differ
        if self._transposed is not None:
            view = view.transpose(self._transposed)
        return region, view[self._spread] if self._lacking else view

    def arranged(self, array: np.ndarray) -> np.ndarray:
        """Return a view of all pixels with the axes samples, channels (at least one), space."""
        return array[self._unspread].transpose(self._back)[self._full]


def clipped(
    coords: Sequence[int], patch_size: Sequence[int], space: tuple[int, ...]
) -> tuple[list[slice], list[slice] | None]:
    """Return the part of a box inside the image, and its position in the patch; None for the position if it is
    complete."""
    windows = []
    for k, n, m in zip(coords, patch_size, space, strict=True):
        start, size = index(k), index(n)
        if start < 0 or size < 0 or start + size > m:
            return _cropped([index(k) for k in coords], [index(n) for n in patch_size], space)
        windows.append(slice(start, start + size))
    return windows, None


def _cropped(starts: list[int], sizes: list[int], space: tuple[int, ...]) -> tuple[list[slice], list[slice]]:
    if min(sizes) < 0:
        raise ValueError(f"patch_size={tuple(sizes)}: expected numbers of pixels, none of them negative")
    windows, places = [], []
    for k, n, m in zip(starts, sizes, space, strict=True):
        low = min(max(k, 0), m)
        high = max(min(k + n, m), low)
        windows.append(slice(low, high))
        places.append(slice(low - k, high - k))
    return windows, places


def copied(direct: np.ndarray, sample: tuple[int, ...], picked: Any, windows: list[slice], dtype: Any) -> np.ndarray:
    """Return a patch of an array whose axes are samples, channels (one axis or two) and space."""
    several = direct.ndim - len(sample) - len(windows) == 2
    if not several and isinstance(picked, slice):
        return direct[(*sample, picked, *windows)].astype(dtype, "C")  # type: ignore[arg-type]
    key: Any = (*sample, *[slice(None)] * (1 + several), *windows)
    patch = direct[key]
    if several:
        patch = patch.reshape((patch.shape[0] * patch.shape[1], *patch.shape[2:]))
    return patch[picked].astype(dtype, order="C")


def runs(picked: slice | list[int], count: int, single: bool) -> list[tuple[int, int, int]]:
    """Cut channels into runs that are read together: first, last (exclusive), and the start of the run in the patch.

    Parameters
    ----------
    picked : slice or list of int
    count : int
        Number of all channels.
    single : bool
        Runs of one channel each, unless all channels are selected.
    """
    if isinstance(picked, slice):
        first, last, _ = picked.indices(count)
        if not single or last - first == count:
            return [(first, last, 0)]
        picked = list(range(first, last))
    cuts = [0, *(n + 1 for n, (a, b) in enumerate(pairwise(picked)) if single or b != a + 1), len(picked)]
    return [(picked[a], picked[b - 1] + 1, a) for a, b in pairwise(cuts)]
