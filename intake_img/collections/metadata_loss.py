"""A warning for metadata that files of pixels alone do not keep."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from intake_img.collections.file_names import format_labels, label_key, parse_label
from intake_img.errors import warn
from intake_img.model.axes import default_axes, spell
from intake_img.model.image import Image
from intake_img.model.variables import Coordinate

__all__ = ["warn_of_loss"]


def warn_of_loss(image: Image, named: Collection[str], name: str) -> None:
    """Warn of metadata that are lost when an image is saved as pixels alone.

    Parameters
    ----------
    image : Image
    named : collection of str
        Axes whose labels are in the names of the files.
    name : str
        Name of the target.
    """
    if lost := list(_lost(image, named)):
        warn(f"{name} contains only pixels and loses {'; '.join(lost)}: save as .ome.zarr or .ome.tif to keep them")


def _lost(image: Image, named: Collection[str]) -> Iterator[str]:
    for variable in image.variables.values():
        axes = tuple(a for a in variable.axes if a not in named)
        if axes != default_axes(len(axes)):
            yield f"the names of the axes {spell(axes)!r}"
    given = {k: c for k, c in image.coords.items() if k not in named and not _is_count(c)}
    if spaced := [a for a in image.spacing if a in given and a in image.sizes]:
        yield f"the spacing of {', '.join(spaced)}"
        given = {k: c for k, c in given.items() if k not in spaced}
    labelled = {k: c for k, c in image.coords.items() if k in named and c.axes == (k,)}
    if spaced := [a for a, c in labelled.items() if c.attrs]:
        yield f"the units of {', '.join(spaced)}"
    if mixed := [a for a, c in labelled.items() if not _is_named(c)]:
        yield f"the values or the order of {', '.join(mixed)}, which the names of the files have sorted"
    if "c" in given:
        yield "the names of the channels"
    if others := [k for k in given if k != "c"]:
        yield f"the coordinates {_quoted(others)}"
    if attrs := sorted({*image.attrs, *(k for v in image.variables.values() for k in v.attrs)}):
        yield f"the attributes {_quoted(attrs)}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _is_named(coord: Coordinate) -> bool:
    """Whether the names of files give back the values, in this order."""
    labels = sorted(format_labels(coord.values), key=label_key)
    return list(map(parse_label, labels)) == coord.values.tolist()


def _is_count(coord: Coordinate) -> bool:
    """Whether a coordinate only counts the samples: 0, 1, 2, ..."""
    values = coord.values
    return (
        not coord.attrs
        and values.ndim == 1
        and values.dtype.kind in "iu"
        and bool((values == np.arange(len(values))).all())
    )
