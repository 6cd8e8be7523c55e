"""The components of an image: pixels with named axes, and explicit coordinates along them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intake_img.model.axes import check_axes
from intake_img.model.pixels import Pixels

__all__ = ["Coordinate", "Variable", "kind_of"]


def kind_of(attrs: Mapping[Any, Any], dtype: np.dtype) -> str | None:
    """Return the kind that ``attrs["kind"]`` states, if values of this type can be of it: ``labels``, ``mask`` or None.

    xarray keeps attributes in arithmetic: ``labels > 0`` is a mask, and ``mask * image`` is an image, whatever they
    state.
    """
    kind = attrs.get("kind")
    if dtype.kind == "b":
        return "mask" if kind in ("mask", "labels") else None
    return "labels" if kind == "labels" and dtype.kind in "iuf" else None


@dataclass(frozen=True)
class Coordinate:
    """Explicit values along one or more axes: channel names, time stamps, positions that are not evenly spaced."""

    axes: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variable:
    """Unread pixels with named axes.

    Parameters
    ----------
    pixels : Pixels
    axes : tuple of str
        A name for each axis, in the file's order.
    attrs : mapping
        Attributes of the variable, e.g. ``{"kind": "labels"}``.
    """

    pixels: Pixels
    axes: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", check_axes(self.axes, self.pixels.ndim))

    @property
    def kind(self) -> str | None:
        """``labels``, ``mask``, or None for an image; see `kind_of`."""
        return kind_of(self.attrs, self.pixels.dtype)
