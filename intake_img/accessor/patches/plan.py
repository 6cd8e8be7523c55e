"""The plan: the position of every patch, as plain arrays; it is independent of how patches are chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["Plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Positions of n patches.

    Parameters
    ----------
    axes : tuple of str
        The axes along which patches have a size, in the order of the data.
    size : tuple of int
        Pixels of a patch along `axes`, with its halo.
    over : tuple of str
        The iterated axes.
    source : ndarray of int64, shape (n,)
        Number of the source of each patch.
    index : ndarray of int64, shape (n, len(over))
        Its index along `over`.
    start : ndarray of int64, shape (n, len(axes))
        Its first pixel, in the source; if edges are padded it may be negative, and the patch may extend beyond the
        image.
    shape : ndarray of int64, shape (n, len(axes))
        Its lengths: `size`, or less at the edge if patches may be partial.
    core_start, core_stop : ndarray of int64, shape (n, len(axes))
        The part of the image that is written back from this patch. The cores of a grid tile the area that it covers;
        for other patches the core is their part inside the image.
    epoch : int
        The epoch that it was drawn for.
    weight : ndarray of float64, shape (n,), optional
        The reason of the choice: the value of the map at its centre, or the number of the label.
    """

    axes: tuple[str, ...]
    size: tuple[int, ...]
    over: tuple[str, ...]
    source: np.ndarray
    index: np.ndarray
    start: np.ndarray
    shape: np.ndarray
    core_start: np.ndarray
    core_stop: np.ndarray
    epoch: int = 0
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def stop(self) -> np.ndarray:
        """The pixel after the last pixel, of shape (n, len(axes))."""
        return self.start + self.shape

    @cached_property
    def id(self) -> str:
        """Hash of the positions: equal plans have equal ids, in every process."""
        digest = hashlib.blake2b(repr((self.axes, self.size, self.over)).encode(), digest_size=16)
        for name in ("source", "index", "start", "shape", "core_start", "core_stop"):
            digest.update(np.ascontiguousarray(getattr(self, name), "<i8").tobytes())
        return digest.hexdigest()

    def take(self, which: Any) -> Plan:
        """Return the plan of some of the patches, in the order of `which`: numbers, a slice or a mask."""
        which = which if isinstance(which, slice) else np.asarray(which)
        arrays: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays = {n: a[which] for n, a in arrays.items() if isinstance(a, np.ndarray)}
        return replace(self, **arrays)

    @classmethod
    def joined(cls, plans: Sequence[Plan]) -> Plan:
        """Return plans of the same axes, concatenated."""
        first = plans[0]
        names = ("source", "index", "start", "shape", "core_start", "core_stop")
        arrays: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in plans]) for n in names}
        weight = None if any(p.weight is None for p in plans) else np.concatenate([p.weight for p in plans])  # type: ignore[misc]
        return replace(first, **arrays, weight=weight)
