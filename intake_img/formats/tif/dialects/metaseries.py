"""MetaSeries (MetaMorph, MetaXpress, ImageXpress): XML on each page, with calibration, channel, position and time.

Positions along z are in micrometres, as MetaMorph has them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.directories import page_texts
from intake_img.formats.tif.facts import TiffFacts, stamps_of
from intake_img.model.image import Coordinate
from intake_img.model.units import canonical, known_spacing
from intake_img.model.untrusted import finite, xml_root

if TYPE_CHECKING:
    pass

__all__ = ["metaseries", "metaseries_plane", "order_of"]


def metaseries_plane(view: View) -> Mapping[str, Any]:
    """Return the properties of the first plane; the XML of a damaged description has none."""
    try:
        found = (view.tif.metaseries_metadata or {}).get("PlaneInfo")
    except (ValueError, SyntaxError):  # of XML
        found = None
    return found if isinstance(found, Mapping) else {}


def _properties(text: str) -> Mapping[str, str]:
    """Return the properties of any plane, as text."""
    if not text.startswith("<MetaData>"):
        return {}
    try:
        root = xml_root(text)
    except FormatError:
        return {}
    return {p.get("id", ""): p.get("value", "") for info in root.iter("PlaneInfo") for p in info.iter("prop")}


def metaseries(view: View) -> TiffFacts:
    """Size of a pixel, where it is calibrated, and what the planes of a stack say of channels, depth and times."""
    plane = metaseries_plane(view)
    unit = canonical(str(plane.get("spatial-calibration-units", "")))
    sizes = {axis: known_spacing(plane.get(f"spatial-calibration-{axis}")) for axis in "xy"}
    if not plane.get("spatial-calibration-state", True) or unit is None:
        sizes = {}
    spacing = {axis: value for axis, value in sizes.items() if value is not None}
    units = {axis: unit for axis in spacing if unit is not None}
    texts = page_texts(view.tif, view.places, 270) if view.stack > 1 else None
    if texts is None:
        return TiffFacts(spacing, units)
    return _stack([_properties(text) for text in texts], spacing, units)


def _stack(planes: Sequence[Mapping[str, str]], spacing: dict[str, float], units: dict[str, str]) -> TiffFacts:
    channels, depths = [_channel(p) for p in planes], [finite(p.get("z-position")) for p in planes]
    lead = order_of(channels, depths)
    if lead is None:
        return TiffFacts(spacing, units)
    sizes = dict(lead)
    first = np.arange(len(planes)).reshape([n for _, n in lead])  # of the other axes
    attrs, coords = {}, {}
    names = list(dict.fromkeys(channels))
    if waves := [known_spacing(planes[channels.index(name)].get("wavelength")) for name in names]:
        attrs = {"emission_wavelength": waves} if all(waves) else {}
    if "Z" in sizes:
        values = np.asarray(list(dict.fromkeys(depths)))
        step = np.diff(values)
        if np.allclose(step, step[0], rtol=1e-3) and step[0] > 0:
            spacing["z"], units["z"] = float(values[-1] - values[0]) / (len(values) - 1), "µm"
        else:
            coords["z"] = Coordinate(("z",), values, {"units": "µm"})
    times = None
    if "T" in sizes:
        at = first[tuple(slice(None) if a == "T" else 0 for a, _ in lead)]
        times = stamps_of([_seconds(planes[k]) for k in at], sizes["T"])
        units["t"] = "s"
        if isinstance(times, float):
            spacing["t"] = times
    return TiffFacts(
        spacing,
        units,
        {},
        names if all(names) else None,
        attrs,
        times if isinstance(times, Coordinate) else None,
        lead,
        coords,
    )


def _channel(plane: Mapping[str, str]) -> str:
    return (plane.get("_IllumSetting_") or plane.get("image-name") or plane.get("wavelength") or "").strip()


def _seconds(plane: Mapping[str, str]) -> float:
    try:
        return datetime.strptime(plane["acquisition-time-local"], "%Y%m%d %H:%M:%S.%f").timestamp()
    except (KeyError, ValueError, OverflowError):
        return math.nan


def order_of(channels: Sequence[Hashable], depths: Sequence[Hashable]) -> tuple[tuple[str, int], ...] | None:
    """Return axes and lengths of planes, slowest first, from the channel and depth of each; None if they are irregular.

    Examples
    --------
    >>> order_of("ababab", [0, 0, 1, 1, 2, 2])
    (('Z', 3), ('C', 2))
    >>> order_of("abab", [0, 0, 0, 0])
    (('T', 2), ('C', 2))
    >>> order_of("aab", [0, 1, 0]) is None
    True
    """
    count = len(channels)
    numbers = {"C": _numbered(channels), "Z": _numbered(depths)}
    sizes = {a: int(own.max()) + 1 for a, own in numbers.items()}
    sizes["T"] = count // (sizes["C"] * sizes["Z"])
    if sizes["T"] * sizes["C"] * sizes["Z"] != count:
        return None
    for order in itertools.permutations("TZC"):
        index = dict(zip(order, np.indices([sizes[a] for a in order]).reshape(3, -1), strict=True))
        if all((index[a] == own).all() for a, own in numbers.items()):
            return tuple((a, sizes[a]) for a in order if sizes[a] > 1)
    return None


def _numbered(values: Sequence[Hashable]) -> np.ndarray:
    """Number values in the order in which they first appear."""
    known = {value: k for k, value in enumerate(dict.fromkeys(values))}
    return np.asarray([known[value] for value in values])
