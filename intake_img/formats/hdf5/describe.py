"""Axes of an array in an HDF5 file, in the conventions of ilastik, netCDF, NeXus, Fiji, MATLAB and HDF5 Image."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from intake_img.formats.h5.axes import AxisFacts, letters_of, scales_of
from intake_img.formats.h5.tree import attribute, text_of
from intake_img.model.axes import default_axes

__all__ = ["axis_facts", "is_labels", "palette_of", "tags_of"]

_LABELS = ("simple segmentation", "object identities", "object predictions", "object-identities")
_INTERLACED = {"INTERLACE_PIXEL": "yxc", "INTERLACE_LINE": "ycx", "INTERLACE_PLANE": "cyx"}


def axis_facts(f: Any, dataset: Any) -> AxisFacts:
    """Return the axes of a dataset and their metadata.

    The first of these that names all axes counts: ilastik's ``axistags``, names of dimensions, NeXus' ``axes``, HDF5
    Image, MATLAB; else they are the last of the canonical ones. Fiji's ``element_size_um`` gives missing spacing.
    """
    names = set(dataset.attrs)
    readers = [read for signs, read in _DIALECTS if not names.isdisjoint(signs)]
    if "/" in dataset.name.strip("/") and _nexus not in readers:  # there the group tells
        readers.append(_nexus)
    found = next((facts for read in readers if (facts := read(f, dataset)) is not None), None)
    facts = found or AxisFacts(default_axes(len(dataset.shape)))
    sizes = _element_size(dataset, facts.axes) if "element_size_um" in names else ((), ())
    for axis, size in zip(*sizes, strict=True):
        if axis not in facts.spacing:
            facts.step(axis, size, "µm")
    return facts


def _element_size(dataset: Any, axes: tuple[str, ...]) -> tuple[list[str], list[float]]:
    """Fiji's size of a voxel in micrometres: z, y, x; one for each axis; or one for all."""
    try:
        sizes = np.asarray(attribute(dataset, "element_size_um"), float).ravel().tolist()
    except (KeyError, OSError, TypeError, ValueError):
        return [], []
    spatial = [a for a in axes if a in "zyx"]
    if len(sizes) == len(axes) and len(sizes) > 3:
        pairs = [(a, s) for a, s in zip(axes, sizes, strict=True) if a in spatial]
        return [a for a, _ in pairs], [s for _, s in pairs]
    if len(sizes) == 1:
        return spatial, sizes * len(spatial)
    names = list("zyx")[3 - len(sizes) :] if len(sizes) <= 3 else []
    return names, sizes[: len(names)]


# ilastik


def _ilastik(f: Any, dataset: Any) -> AxisFacts | None:
    tags, units = (text_of(attribute(dataset, name)) for name in ("axistags", "axis_units"))
    return tags_of(tags, units, len(dataset.shape))


def tags_of(text: str, units: str = "", ndim: int | None = None) -> AxisFacts | None:
    """Return what vigra's axis tags say, JSON text such as ilastik writes; None if they do not name each axis.

    Parameters
    ----------
    text, units : str
        Attributes ``axistags`` and ``axis_units`` (ilastik 1.4.1).
    ndim : int, optional
        Number of axes that are expected.
    """
    try:
        tags = [(str(tag["key"]), tag.get("resolution")) for tag in json.loads(text)["axes"]]
        known = json.loads(units) if units else {}
        known = known if isinstance(known, dict) else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    axes = letters_of([key for key, _ in tags])
    if axes is None or "?" in axes or len(axes) != (len(axes) if ndim is None else ndim):
        return None
    facts = AxisFacts(axes)
    for axis, (key, resolution) in zip(axes, tags, strict=True):
        if axis != "c":
            facts.step(axis, resolution, known.get(key))
    return facts


def is_labels(dataset: Any, name: str) -> bool:
    """Whether integers are labels: ilastik says so, or the file is named as its exports of labels are."""
    shown = text_of(attribute(dataset, "display_mode")) == "random-colortable"
    return dataset.dtype.kind in "iu" and (shown or any(what in name.lower().replace("_", " ") for what in _LABELS))


# netCDF and h5py's dimension scales, NeXus


def _scaled(f: Any, dataset: Any) -> AxisFacts | None:
    return _named(dataset, scales_of(dataset))


def _nexus(f: Any, dataset: Any) -> AxisFacts | None:
    """``axes`` of an NXdata group, or of the signal itself, as a list or with colons."""
    group = dataset.parent
    signal = text_of(attribute(group, "signal"))
    given = attribute(group if signal == dataset.name.rpartition("/")[2] else dataset, "axes")
    if given is None:
        return None
    text = text_of(given)
    if text and (":" in text or "," in text):
        names = text.strip("[]").replace(",", ":").split(":")
    else:
        names = list(text) if text else [text_of(v) for v in np.ravel(given).tolist()]
    return _named(dataset, [(name, _axis_of(group, name, n)) for name, n in zip(names, dataset.shape, strict=False)])


def _axis_of(group: Any, name: str, n: int) -> dict[str, Any]:
    try:
        values = group[name]
        if values.shape != (n,) or values.dtype.kind not in "iuf":
            return {}
        return {"values": values[()], "unit": text_of(attribute(values, "units"))}
    except (KeyError, OSError, RuntimeError, TypeError, ValueError, AttributeError):
        return {}


def _named(dataset: Any, scales: list[tuple[str, Any]]) -> AxisFacts | None:
    axes = letters_of([name for name, _ in scales])
    if axes is None or len(axes) != len(dataset.shape):
        return None
    facts = AxisFacts(axes)
    for axis, (_, scale) in zip(axes, scales, strict=True):
        if scale:
            facts.positions(axis, scale["values"], scale["unit"])
    return facts


# HDF5 Image 1.2, MATLAB


def _image(f: Any, dataset: Any) -> AxisFacts | None:
    if text_of(attribute(dataset, "CLASS")) != "IMAGE":
        return None
    mode = text_of(attribute(dataset, "INTERLACE_MODE"))
    axes = {2: "yx", 3: _INTERLACED.get(mode, "yxc")}.get(len(dataset.shape))
    return AxisFacts(tuple(axes)) if axes else None


def _matlab(f: Any, dataset: Any) -> AxisFacts | None:
    """Arrays of MATLAB, y first, are stored in reverse order."""
    if "MATLAB_class" not in dataset.attrs or len(dataset.shape) > 5:
        return None
    return AxisFacts(tuple("tczxy"[-len(dataset.shape) :]))


_DIALECTS: tuple[tuple[tuple[str, ...], Callable[[Any, Any], AxisFacts | None]], ...] = (
    (("axistags",), _ilastik),
    (("DIMENSION_LABELS", "DIMENSION_LIST"), _scaled),
    (("axes",), _nexus),
    (("CLASS",), _image),
    (("MATLAB_class",), _matlab),
)


def palette_of(f: Any, dataset: Any) -> np.ndarray | None:
    """Return the colours that the values of an HDF5 Image stand for; None if there are none."""
    reference = dataset.attrs.get("PALETTE")
    if reference is None:
        return None
    try:
        palette = f[np.ravel(np.asarray(reference, object))[0]]
        usable = len(palette.shape) == 2 and palette.shape[0] <= 256 and palette.shape[1] == 3
        return palette[()] if usable and palette.dtype == np.uint8 else None
    except (KeyError, OSError, RuntimeError, TypeError, ValueError, AttributeError):
        return None
