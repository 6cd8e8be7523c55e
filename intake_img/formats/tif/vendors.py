"""What vendors' dialects of TIFF say of an image, one function a dialect: MetaSeries, NDTiff.

ImageJ, LSM, MetaMorph stacks and slides are read by `intake_img.formats.tif.facts`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from intake_img.formats.tif.facts import Facts
from intake_img.model.units import canonical, known_spacing

if TYPE_CHECKING:
    import tifffile

__all__ = ["vendor_facts", "vendor_header"]


def vendor_facts(tif: tifffile.TiffFile, kind: str) -> Facts | None:
    """Return what the dialect of a series of that kind says of it; None if it is not a dialect of the table."""
    return next((read(tif) for is_one, read, _ in _DIALECTS if is_one(tif, kind)), None)


def vendor_header(tif: tifffile.TiffFile, kind: str) -> dict[str, Any]:
    """Return the metadata of the dialect, under its name; empty if it is not a dialect of the table."""
    return next((header(tif) for is_one, _, header in _DIALECTS if is_one(tif, kind)), {})


# MetaSeries: MetaMorph, MetaXpress (ImageXpress)


def _plane(tif: tifffile.TiffFile) -> Mapping[str, Any]:
    """Properties of the plane; the XML of a damaged description has none."""
    try:
        found = (tif.metaseries_metadata or {}).get("PlaneInfo")
    except (ValueError, SyntaxError):  # of XML
        found = None
    return found if isinstance(found, Mapping) else {}


def _metaseries(tif: tifffile.TiffFile) -> Facts:
    """Size of a pixel, where it is calibrated; its units are ``um`` or a word such as ``pixel``."""
    plane = _plane(tif)
    unit = canonical(str(plane.get("spatial-calibration-units", "")))
    sizes = {axis: known_spacing(plane.get(f"spatial-calibration-{axis}")) for axis in "xy"}
    if not plane.get("spatial-calibration-state", True) or unit is None:
        return Facts()
    spacing = {axis: value for axis, value in sizes.items() if value is not None}
    return Facts(spacing, dict.fromkeys(spacing, unit))


# NDTiff: Micro-Manager, Pycro-Manager


def _summary(tif: tifffile.TiffFile) -> Mapping[str, Any]:
    found = (tif.micromanager_metadata or {}).get("Summary")
    return found if isinstance(found, Mapping) else {}


def _ndtiff(tif: tifffile.TiffFile) -> Facts:
    summary = _summary(tif)
    spacing = {axis: size for axis, key in (("x", "PixelSize_um"), ("y", "PixelSize_um"), ("z", "z-step_um"))
               if (size := known_spacing(summary.get(key))) is not None}  # fmt: skip
    return Facts(spacing, dict.fromkeys(spacing, "µm"), {}, _labels(tif) or None)


def _labels(tif: tifffile.TiffFile) -> list[str]:
    """Names of channels in the order in which the index of the data set meets them, which is that of the axis."""
    import tifffile

    index = os.path.join(tif.filehandle.dirname, "NDTiff.index")
    if not tif.filehandle.is_file or not os.path.exists(index):
        return []
    names = dict.fromkeys(row[0].get("channel") for row in tifffile.read_ndtiff_index(index))
    return [str(name) for name in names] if all(isinstance(name, str) for name in names) else []


def _is_metaseries(tif: tifffile.TiffFile, kind: str) -> bool:
    return kind in ("generic", "uniform") and bool(tif.is_metaseries)


def _is_ndtiff(tif: tifffile.TiffFile, kind: str) -> bool:
    return kind == "ndtiff"  # then the index was allowed to be read


_Dialect = tuple[
    Callable[["tifffile.TiffFile", str], bool],
    Callable[["tifffile.TiffFile"], Facts],
    Callable[["tifffile.TiffFile"], dict[str, Any]],
]
_DIALECTS: tuple[_Dialect, ...] = (
    (_is_metaseries, _metaseries, lambda tif: {"metaseries": dict(_plane(tif))}),
    (_is_ndtiff, _ndtiff, lambda tif: {"ndtiff": dict(_summary(tif))}),
)
