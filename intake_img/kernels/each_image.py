"""Arrays of many images: a function of one image is applied to each of them, and cut to the requested part."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["EachImage", "Elementwise", "roomy"]


@dataclass(frozen=True)
class EachImage:
    """A function of arrays of images, made from a function of one image.

    Parameters
    ----------
    func : callable
        ``func(image, output)`` fills `output`, which has the shape of the image.
    axes : sequence of int
        The axes of an array that are the axes of an image.
    dtype : numpy.dtype
        Dtype of the output.
    roomy : bool
        Whether the function works along columns, so that copies with a padded row stride, which avoids cache conflicts,
        are faster.

    Notes
    -----
    Images are filtered one by one, so that intermediate arrays have the size of one image, and images do not affect
    each other.
    """

    func: Callable[[np.ndarray, np.ndarray], Any]
    axes: Sequence[int]
    dtype: np.dtype
    roomy: bool = True

    def __call__(self, piece: np.ndarray, inner: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        """Return the part `inner` of the filtered `piece`; if `out` is given, it is filled and returned."""
        last = range(-len(self.axes), 0)
        lead = piece.ndim - len(self.axes)
        given_out = out is not None
        out = np.empty([s.stop - s.start for s in inner], self.dtype) if out is None else out
        if not out.size:
            return out
        target = np.moveaxis(out, self.axes, last)
        others = [k for k in range(piece.ndim) if k not in self.axes]
        source = np.moveaxis(piece, self.axes, last)[tuple(inner[k] for k in others)]
        kept = tuple(inner[k] for k in self.axes)
        shape = source.shape[lead:]
        direct = shape == target.shape[lead:] and not (self.roomy and _aliased(target[(0,) * lead]))
        image = roomy(shape, source.dtype) if self.roomy and _aliased(source[(0,) * lead]) else None
        scratch = None if direct else roomy(shape, self.dtype)
        # the part of a single image is passed as a view, if the complete array is not much larger
        single = not given_out and math.prod(target.shape[:lead]) == 1 and out.size > 0.8 * math.prod(shape)
        for place in np.ndindex(target.shape[:lead]):
            given = source[place]
            if image is not None:
                image[...] = given
                given = image
            if scratch is None:
                self.func(given, target[place])
            else:
                self.func(given, scratch)
                if single:
                    return np.moveaxis(scratch[kept][(None,) * lead], last, self.axes)
                target[place] = scratch[kept]
        return out


@dataclass(frozen=True)
class Elementwise:
    """A ufunc of one array, for all images of an array together.

    Parameters
    ----------
    func : numpy.ufunc
    """

    func: np.ufunc

    def __call__(self, piece: np.ndarray, inner: tuple[slice, ...], out: np.ndarray | None = None) -> np.ndarray:
        """Return the function of the part `inner` of `piece`; if `out` is given, it is filled and returned."""
        found: np.ndarray = self.func(piece[inner], out=out)
        return found


def _aliased(image: np.ndarray) -> bool:
    """Whether the row stride of an image causes cache conflicts."""
    return any(
        n > 16 and abs(step) >= 1024 and step % 1024 == 0 for n, step in zip(image.shape, image.strides, strict=True)
    )


def roomy(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Return a new array; it is not contiguous if its row stride would otherwise cause cache conflicts."""
    image = np.empty(shape, dtype)
    if not _aliased(image):
        return image
    room = np.empty((*shape[:-1], shape[-1] + max(1, 64 // image.itemsize)), dtype)
    return room[..., : shape[-1]]
