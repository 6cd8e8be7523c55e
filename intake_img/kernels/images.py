"""Arrays of many images: a function of one image, applied to each of them and cut to the part that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["EachImage"]


@dataclass(frozen=True)
class EachImage:
    """A function of single images, made one of arrays of images.

    Parameters
    ----------
    func : callable
        ``func(image, output)`` fills `output`, of the shape of the image.
    axes : sequence of int
        The axes of an array that are the axes of an image.
    dtype : numpy.dtype
        Of the output.

    Notes
    -----
    Images are filtered one by one, so that intermediate arrays are of the size of an image, and nothing of one image
    can reach another.
    """

    func: Callable[[np.ndarray, np.ndarray], Any]
    axes: Sequence[int]
    dtype: np.dtype

    def __call__(self, piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        """Return the part `inner` of the filtered `piece`."""
        last = range(-len(self.axes), 0)
        lead = piece.ndim - len(self.axes)
        out = np.empty([s.stop - s.start for s in inner], self.dtype)
        if not out.size:
            return out
        target = np.moveaxis(out, self.axes, last)
        others = [k for k in range(piece.ndim) if k not in self.axes]
        source = np.moveaxis(piece, self.axes, last)[tuple(inner[k] for k in others)]
        kept = tuple(inner[k] for k in self.axes)
        whole = source.shape[lead:] == target.shape[lead:]
        scratch = None if whole else np.empty(source.shape[lead:], self.dtype)
        for place in np.ndindex(target.shape[:lead]):
            if scratch is None:
                self.func(source[place], target[place])
            else:
                self.func(source[place], scratch)
                target[place] = scratch[kept]
        return out
