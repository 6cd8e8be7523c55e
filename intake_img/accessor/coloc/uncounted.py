"""Labels without a valid pixel (all outside of the mask, or not finite): they keep their row in a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Noting", "uncounted"]


def uncounted(labels: np.ndarray | None, keep: np.ndarray | None, *, every: bool = False) -> np.ndarray:
    """Return the labels of a chunk, except 0, that have excluded pixels: sorted, distinct; all labels if `every`."""
    if labels is None:
        return np.empty(0, np.int64)
    if every:
        chosen = labels != 0
    else:
        chosen = labels < 0 if labels.dtype.kind == "i" else np.zeros(labels.shape, bool)
        if keep is not None:
            chosen |= ~keep & (labels != 0)
    found = labels[chosen]
    changes = np.flatnonzero(found[1:] != found[:-1]) + 1  # labels come in runs
    return np.unique(found[np.append(0, changes)] if len(found) else found).astype(np.int64)


@dataclass(frozen=True)
class Noting:
    """The functions of a reduction over chunks (see `blocks.reduce_blocks`), wrapped so that each result is paired with
    the labels that `uncounted` finds: ``(result, labels)``.
    """

    per_block: Callable[..., Any]
    merge: Callable[[list[Any]], Any]
    finish: Callable[[Any, tuple[int, ...]], Any]
    collect: tuple[Callable[..., Any], ...] | None = None
    every: bool = False

    def block(self, planes: Any, keep: Any, labels: Any, place: Any) -> tuple[Any, np.ndarray]:
        return self.per_block(planes, keep, labels, place), uncounted(labels, keep, every=self.every)

    def merged(self, parts: list[Any]) -> list[Any]:
        return [self.merge([p[0] for p in parts]), _union([p[1] for p in parts])]

    def finished(self, part: Any, place: tuple[int, ...]) -> tuple[Any, np.ndarray]:
        return self.finish(part[0], place), part[1]

    def begin(self, size: int) -> list[Any]:
        assert self.collect is not None
        return [self.collect[0](size), np.empty(0, np.int64)]

    def add(self, state: list[Any], parts: list[Any]) -> None:
        assert self.collect is not None
        self.collect[1](state[0], [p[0] for p in parts])
        state[1] = _union([state[1], *(p[1] for p in parts)])

    def settle(self, state: list[Any]) -> None:
        assert self.collect is not None
        self.collect[2](state[0])

    def run(self, run: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the results of the positions, and the labels noted at any of them."""
        collect = None if self.collect is None else (self.begin, self.add, self.settle)
        found = run(self.block, self.merged, self.finished, collect=collect)
        results = np.empty(found.shape, object)
        for place in np.ndindex(found.shape):
            results[place] = found[place][0]
        return results, _union([np.empty(0, np.int64), *(f[1] for f in found.ravel())])


def _union(parts: list[np.ndarray]) -> np.ndarray:
    parts = [p for p in parts if len(p)] or parts[:1]
    return parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
