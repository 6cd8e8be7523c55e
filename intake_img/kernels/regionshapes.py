"""Properties of regions from sums over their pixels, with the names of scikit-image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np

from intake_img.kernels.regionedges import MARGINS, edges_of
from intake_img.kernels.runlengths import Powers, Sums

__all__ = ["SHAPES", "Shapes", "powers_for"]


@dataclass(frozen=True)
class Shapes:
    """Regions of one image, and the sums for their properties.

    Parameters
    ----------
    sums : Sums
    steps : sequence of float
        Size of a pixel along each axis.
    edges : mapping of str to ndarray
        Counts of `intake_img.kernels.regionedges`.
    """

    sums: Sums
    steps: Sequence[float]
    edges: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def ndim(self) -> int:
        return len(self.steps)

    @property
    def count(self) -> np.ndarray:
        """Number of pixels, int64."""
        return self.sums.moments[(0,) * self.ndim].astype(np.int64)

    @property
    def area(self) -> np.ndarray:
        return self.count * math.prod(self.steps)

    @property
    def area_bbox(self) -> np.ndarray:
        return (self.sums.high - self.sums.low).prod(axis=1) * math.prod(self.steps)

    @property
    def mean(self) -> np.ndarray:
        """Centroids in pixels from the low corner of the bounding box, shape (K, n), in the widest float."""
        firsts = [self.sums.moments[p] for p in _units(self.ndim)]
        return np.stack([np.asarray(f, np.longdouble) / self.count for f in firsts], axis=1)

    def raw(self, power: Powers) -> np.ndarray:
        return self._scaled(np.asarray(self.sums.moments[power], np.longdouble), power).astype(float)

    def central(self, power: Powers) -> np.ndarray:
        """Return moments about the centroids, by the binomial theorem in the widest float."""
        total = np.zeros(len(self.sums.ids), np.longdouble)
        centre = self.mean
        for lower in product(*[range(p + 1) for p in power]):
            factor: np.ndarray = np.asarray(self.sums.moments[lower], np.longdouble)
            for axis, (p, k) in enumerate(zip(power, lower, strict=True)):
                if p > k:
                    factor = factor * math.comb(p, k) * (-centre[:, axis]) ** (p - k)
            total += factor
        return self._scaled(total, power).astype(float)

    def _scaled(self, moment: np.ndarray, power: Powers) -> np.ndarray:
        return moment * math.prod(s**p for s, p in zip(self.steps, power, strict=True))

    def normalized(self, power: Powers) -> np.ndarray:
        order = sum(power)
        if order < 2:
            return np.full(len(self.sums.ids), np.nan)
        return self.central(power) / min(self.steps) ** order / self.count ** (order / self.ndim + 1.0)

    def inertia(self) -> np.ndarray:
        """Return inertia tensors, shape (K, n, n)."""
        tensor = np.zeros((len(self.sums.ids), self.ndim, self.ndim))
        squares = np.stack([self.central(tuple(2 * k for k in p)) for p in _units(self.ndim)], axis=1)
        for axis in range(self.ndim):
            tensor[:, axis, axis] = (squares.sum(axis=1) - squares[:, axis]) / self.count
        for a, b in combinations(range(self.ndim), 2):
            power = tuple(int(k in (a, b)) for k in range(self.ndim))
            tensor[:, a, b] = tensor[:, b, a] = -self.central(power) / self.count
        return tensor

    def eigenvalues(self) -> np.ndarray:
        """Return the eigenvalues of the inertia tensor, the largest first, shape (K, n)."""
        return np.clip(np.linalg.eigvalsh(self.inertia())[:, ::-1], 0, None)


def _units(ndim: int) -> list[Powers]:
    return [tuple(int(k == axis) for k in range(ndim)) for axis in range(ndim)]


def _every(of: Callable[[Shapes, Powers], np.ndarray]) -> Callable[[Shapes], np.ndarray]:
    """Return a function of moments up to order 3 along each axis: shape (K, 4, 4, ...)."""

    def table(shapes: Shapes) -> np.ndarray:
        found = np.stack([of(shapes, p) for p in product(range(4), repeat=shapes.ndim)], axis=1)
        return found.reshape(-1, *(4,) * shapes.ndim)

    return table


def _axis_length(shapes: Shapes, which: int) -> np.ndarray:
    values = shapes.eigenvalues()
    if shapes.ndim == 2:
        return 4 * np.sqrt(values[:, which])
    return np.sqrt(np.clip(10 * (values.sum(axis=1) - 2 * values[:, 2 if which == 0 else 0]), 0, None))


def _eccentricity(shapes: Shapes) -> np.ndarray:
    large, small = shapes.eigenvalues().T
    return np.sqrt(1 - np.divide(small, large, out=np.ones_like(small), where=large > 0))


def _orientation(shapes: Shapes) -> np.ndarray:
    tensor = shapes.inertia()
    a, b, c = tensor[:, 0, 0], tensor[:, 0, 1], tensor[:, 1, 1]
    return np.where(a == c, np.where(b < 0, np.pi / 4, -np.pi / 4), 0.5 * np.arctan2(-2 * b, c - a))


def _slices(shapes: Shapes) -> np.ndarray:
    found = np.empty(len(shapes.sums.ids), object)
    for k, (low, high) in enumerate(zip(shapes.sums.low.tolist(), shapes.sums.high.tolist(), strict=True)):
        found[k] = tuple(map(slice, low, high))
    return found


def _hu(shapes: Shapes) -> np.ndarray:
    """Return Hu's invariants (Hu 1962, table of equation 60), shape (K, 7)."""

    def nu(p: int, q: int) -> np.ndarray:
        return shapes.normalized((p, q))

    a, b = nu(3, 0) + nu(1, 2), nu(2, 1) + nu(0, 3)
    c, d = nu(3, 0) - 3 * nu(1, 2), 3 * nu(2, 1) - nu(0, 3)
    total, less = nu(2, 0) + nu(0, 2), nu(2, 0) - nu(0, 2)
    rows = [
        total,
        less**2 + 4 * nu(1, 1) ** 2,
        c**2 + d**2,
        a**2 + b**2,
        c * a * (a**2 - 3 * b**2) + d * b * (3 * a**2 - b**2),
        less * (a**2 - b**2) + 4 * nu(1, 1) * a * b,
        d * a * (a**2 - 3 * b**2) - c * b * (3 * a**2 - b**2),
    ]
    return np.stack(rows, axis=1)


SHAPES: dict[str, tuple[int, Callable[[Shapes], np.ndarray]]] = {
    "label": (0, lambda s: s.sums.ids),
    "num_pixels": (0, lambda s: s.count),
    "area": (0, lambda s: s.area),
    "area_bbox": (0, lambda s: s.area_bbox),
    "bbox": (0, lambda s: np.concatenate([s.sums.low, s.sums.high], axis=1)),
    "slice": (0, _slices),
    "extent": (0, lambda s: s.area / s.area_bbox),
    "equivalent_diameter_area": (0, lambda s: (2 * s.ndim * s.area / np.pi) ** (1 / s.ndim)),
    "centroid": (1, lambda s: (s.mean + s.sums.low).astype(float)),
    "centroid_local": (1, lambda s: s.mean.astype(float) * np.asarray(s.steps)),
    "inertia_tensor": (2, Shapes.inertia),
    "inertia_tensor_eigvals": (2, Shapes.eigenvalues),
    "axis_major_length": (2, lambda s: _axis_length(s, 0)),
    "axis_minor_length": (2, lambda s: _axis_length(s, 1)),
    "eccentricity": (2, _eccentricity),
    "orientation": (2, _orientation),
    "moments": (3, _every(Shapes.raw)),
    "moments_central": (3, _every(Shapes.central)),
    "moments_normalized": (3, _every(Shapes.normalized)),
    "moments_hu": (3, _hu),
    **{name: (0, lambda s, name=name: edges_of(name, s.edges[name], s.steps)) for name in MARGINS},  # type: ignore[misc]
}
"""Of each property the highest exponent of the moments that it needs, and its values; ``centroid`` is in pixels."""


def powers_for(names: Sequence[str], ndim: int) -> list[Powers]:
    """Return the moments that properties need.

    Examples
    --------
    >>> powers_for(["area", "centroid"], 2)
    [(0, 0), (0, 1), (1, 0)]
    """
    order = max((SHAPES[n][0] for n in names), default=0)
    return [p for p in product(range(order + 1), repeat=ndim) if order == 3 or sum(p) <= order]
