"""The position of a volume in the space of a patient, a scanner or a stage.

A file states a matrix from its indices to that space. The attribute ``affine`` of a Dataset keeps it together with the
coordinates of these indices. Later changes of the coordinates (a crop, a stride, a new spacing) change the indices, and
the new matrix follows from both; if a coordinate is missing, there is no matrix.

Conventions: indices and space are ordered x, y, z, as in NIfTI-1 (https://nifti.nimh.nih.gov/nifti-1) and ITK.
``"RAS+"`` means that x grows to the right, y to the front and z to the head of a patient; ``"LPS+"`` (DICOM PS3.3
C.7.6.2, ITK) to the left, the back and the head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from intake_img.errors import AxesError

__all__ = ["AFFINE_AXES", "Affine", "Space"]

AFFINE_AXES = ("x", "y", "z")
Space = Literal["RAS+", "LPS+"]
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # between RAS+ and LPS+, either way


@dataclass(frozen=True)
class Affine:
    """An affine map from the indices of an image to a space.

    Parameters
    ----------
    matrix : (4, 4) array_like
        Maps ``(index of x, of y, of z, 1)`` to ``(x, y, z, 1)`` in the space.
    space : {"RAS+", "LPS+"}
    unit : str
        The unit of the space; "" if unknown.
    grid : mapping of str to (float, float)
        For each axis the coordinate of index 0 and the spacing of the image to which the matrix applies; by default 0
        and the length of the column of the matrix.
    """

    matrix: np.ndarray
    space: Space = "RAS+"
    unit: str = ""
    grid: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, float)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or matrix[3].tolist() != [0, 0, 0, 1]:
            raise ValueError(f"affine {self.matrix!r}: expected 4 x 4 finite numbers, the last row 0, 0, 0, 1")
        if self.space not in ("RAS+", "LPS+"):
            raise ValueError(f"space {self.space!r}: expected 'RAS+' or 'LPS+'")
        if abs(np.linalg.det(matrix[:3, :3])) == 0:
            raise ValueError(f"affine {self.matrix!r}: its columns lie in a plane")
        object.__setattr__(self, "matrix", matrix)
        lengths = np.linalg.norm(matrix[:3, :3], axis=0).tolist()
        known = {a: (0.0, n) for a, n in zip(AFFINE_AXES, lengths, strict=True)}
        grid = {**known, **{a: (float(o), float(s)) for a, (o, s) in self.grid.items()}}
        object.__setattr__(self, "grid", grid)

    @property
    def spacing(self) -> dict[str, float]:
        """Distance of neighbours along x, y and z."""
        return {a: step for a, (_, step) in self.grid.items()}

    @property
    def origin(self) -> dict[str, float]:
        """Coordinate of index 0 along x, y and z."""
        return {a: start for a, (start, _) in self.grid.items()}

    def to(self, space: Space) -> np.ndarray:
        """Return the matrix with another orientation of the space; it is exact, since only signs change."""
        if space not in ("RAS+", "LPS+"):
            raise ValueError(f"space {space!r}: expected 'RAS+' or 'LPS+'")
        return self.matrix.copy() if space == self.space else _FLIP @ self.matrix + 0.0

    def at(self, coords: Mapping[str, ArrayLike]) -> Affine:
        """Return the map from the indices of an image with other coordinates.

        Parameters
        ----------
        coords : mapping of str to array_like
            The coordinates of x, y and z, evenly spaced.

        Raises
        ------
        AxesError
            If one is missing or uneven.
        """
        grid = {a: self._axis(a, coords) for a in AFFINE_AXES}
        if grid == dict(self.grid):
            return self
        step = np.eye(4)
        for k, axis in enumerate(AFFINE_AXES):
            start, spacing = self.grid[axis]
            step[k, k] = grid[axis][1] / spacing
            step[k, 3] = (grid[axis][0] - start) / spacing
        near = np.rint(step)  # a crop or a stride moves by an integer number of pixels
        step = np.where(np.abs(step - near) < 1e-6, near, step)
        return Affine(self.matrix @ step, self.space, self.unit, grid)

    def _axis(self, axis: str, coords: Mapping[str, ArrayLike]) -> tuple[float, float]:
        if axis not in coords:
            raise AxesError(f"the position along {axis!r} is not known any more: the image has no coordinate of it")
        values = np.atleast_1d(np.asarray(coords[axis], float))
        if not values.size or not np.isfinite(values).all():  # as after `pad`, which fills coordinates with NaN
            raise AxesError(
                f"the position along {axis!r} is not known any more: its coordinates contain NaN, or nothing"
            )
        start, step = self.grid[axis]
        even = start + step * np.rint((values - start) / step)
        if values.size == 1:
            return float(values[0]), step
        found = float(values[-1] - values[0]) / (values.size - 1)
        if np.abs(np.diff(values) - found).max() > 1e-6 * abs(found) or found == 0:
            raise AxesError(f"the coordinates of {axis!r} are not evenly spaced: no affine map has them")
        whole = np.abs(values - even).max() <= 1e-6 * step  # the numbers equal those of the grid, except for rounding
        times = round(found / step)
        return (float(even[0]), step * times) if whole and times else (float(values[0]), found)

    def attribute(self) -> str:
        """Return the attribute ``affine`` as JSON, which every format can keep."""
        facts = {"matrix": self.matrix.tolist(), "space": self.space, "unit": self.unit}
        return json.dumps({**facts, "grid": {a: list(g) for a, g in self.grid.items()}})

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> Affine | None:
        """Return the map in the attribute ``affine``; None if it is missing or not an affine map."""
        try:
            found = json.loads(attrs["affine"])
            grid = {a: (g[0], g[1]) for a, g in found["grid"].items()}
            return cls(found["matrix"], found["space"], str(found["unit"]), grid)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            return None
