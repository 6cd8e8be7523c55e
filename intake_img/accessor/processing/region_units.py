"""Units of the columns of `regionprops`: the power of length of each property of scikit-image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from intake_img.model.units import power

__all__ = ["column_units"]

_LENGTHS = (
    "axis_major_length",
    "axis_minor_length",
    "equivalent_diameter_area",
    "feret_diameter_max",
    "perimeter",
    "perimeter_crofton",
    "major_axis_length",
    "minor_axis_length",
    "equivalent_diameter",
    "centroid_local",
    "centroid_weighted_local",
)
_AREAS = ("area", "area_bbox", "area_convex", "area_filled", "bbox_area", "convex_area", "filled_area")
_SQUARES = ("inertia_tensor", "inertia_tensor_eigvals", "surface_area")
_MOMENTS = ("moments", "moments_central", "moments_weighted", "moments_weighted_central")
"""Of order (p, q, ...): powers p + q + ... of a length; scikit-image sums over pixels without their volume."""
_POSITIONS = ("centroid", "centroid_weighted", "weighted_centroid")
_PIXELS = ("bbox",)


def column_units(columns: Iterable[str], unit: str | None, places: Sequence[str | None]) -> dict[str, str]:
    """Return the unit of each column that has one.

    Parameters
    ----------
    columns : iterable of str
        ``"area"``, ``"centroid-0"``, ``"moments-1-2"``, ...
    unit : str or None
        The common unit of lengths.
    places : sequence of str or None
        The unit of the coordinate of each axis.

    Examples
    --------
    >>> column_units(["label", "area", "centroid-0", "moments-1-2", "bbox-0"], "µm", ["nm", "µm", "µm"])
    {'area': 'µm³', 'centroid-0': 'nm', 'moments-1-2': 'µm³', 'bbox-0': 'px'}
    """
    found = {str(c): _unit(*_split(str(c)), unit, places) for c in columns}
    return {c: u for c, u in found.items() if u is not None}


def _split(column: str) -> tuple[str, list[int]]:
    name, *numbers = column.split("-")
    return name, [int(n) for n in numbers if n.isdigit()]


def _unit(name: str, numbers: Sequence[int], unit: str | None, places: Sequence[str | None]) -> str | None:
    if name in _POSITIONS and numbers:
        return places[numbers[0]]
    if name in _PIXELS:
        return "px"
    if name in _MOMENTS:
        return power(unit, sum(numbers))
    exponents = {**dict.fromkeys(_LENGTHS, 1), **dict.fromkeys(_AREAS, len(places)), **dict.fromkeys(_SQUARES, 2)}
    return power(unit, exponents.get(name, 0))
