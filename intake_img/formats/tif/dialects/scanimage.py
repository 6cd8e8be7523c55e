"""ScanImage: settings before the pixels, in the Software tag or, in older files, in the description of each page.

Channels are interleaved; frames follow for each slice, slices for each volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.errors import warn
from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.facts import TiffFacts
from intake_img.model.units import known_spacing

if TYPE_CHECKING:
    import tifffile

__all__ = ["scanimage", "settings_of"]


def settings_of(tif: tifffile.TiffFile) -> Mapping[str, Any]:
    """Return the settings by the names that ScanImage 2015 and later give them (``SI.hChannels.channelSave``)."""
    import tifffile

    found = (tif.scanimage_metadata or {}).get("FrameData")
    if isinstance(found, Mapping) and found:
        return found
    page = tif.pages.first
    for text in (page.software, page.description):
        try:
            found = tifffile.matlabstr2py(text) if "SI." in text else {}
        except (ValueError, TypeError, IndexError, KeyError):
            continue
        if found := {k.removeprefix("scanimage."): v for k, v in found.items() if isinstance(k, str)}:
            return found
    return {}


def scanimage(view: View) -> TiffFacts:
    """Field of view in µm, steps of the stack, rates of frames and volumes, names of the channels that were saved."""
    settings = settings_of(view.tif)
    saved = [int(n) for n in np.ravel(settings.get("SI.hChannels.channelSave", ())) if _number(n)]
    pages = len(view.stored.pages)
    if len(saved) > 1 and pages % len(saved):
        warn(
            f"{view.tif.filename}: its {pages} pages are not a multiple of its {len(saved)} channels: the pages "
            "are read one after the other"
        )
    slices, frames, volumes = _counts(settings, pages, max(len(saved), 1))
    spacing = {} if settings.get("SI.hRoiManager.mroiEnable") else _pixels(settings, view)
    units = dict.fromkeys(spacing, "µm")
    step = settings.get("SI.hStackManager.actualStackZStepSize", settings.get("SI.hStackManager.stackZStepSize"))
    if (depth := known_spacing(abs(step) if _number(step) else None)) is not None:
        spacing["z"], units["z"] = depth, "µm"
    rate = known_spacing(settings.get("SI.hRoiManager.scanFrameRate"))
    if volumes > 1 and slices > 1:
        rate = known_spacing(settings.get("SI.hRoiManager.scanVolumeRate"))
    if rate is not None:
        spacing["t"], units["t"] = 1 / rate, "s"
    lead = None
    if slices * frames * volumes * max(len(saved), 1) == pages and pages > 1:
        order = (("T", volumes), ("Z", slices), ("T", frames), ("C", max(len(saved), 1)))
        lead = tuple((a, n) for a, n in order if n > 1)
        lead = lead if len({a for a, _ in lead}) == len(lead) else None
    return TiffFacts(spacing, units, {}, _names(settings, saved), lead=lead)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


def _count(settings: Mapping[str, Any], *names: str) -> int:
    values: Iterator[Any] = (settings.get(f"SI.{name}") for name in names)
    return next((int(v) for v in values if _number(v) and v >= 1), 1)


def _counts(settings: Mapping[str, Any], pages: int, channels: int) -> tuple[int, int, int]:
    """Numbers of slices, of frames for each slice, and of volumes; the last are counted from the pages."""
    slices = _count(settings, "hStackManager.actualNumSlices", "hStackManager.numSlices")
    frames = _count(settings, "hStackManager.framesPerSlice")
    if settings.get("SI.hStackManager.enable") is False or pages % (slices * channels):
        slices = 1
    if pages % (slices * frames * channels):
        frames = 1
    return slices, frames, pages // (slices * frames * channels)


def _pixels(settings: Mapping[str, Any], view: View) -> dict[str, float]:
    """Sizes of pixels: the corners of the field of view over the size of the image."""
    try:
        corners = np.asarray(settings.get("SI.hRoiManager.imagingFovUm"), dtype=float)
        width, height = np.ptp(corners, axis=0)
    except (TypeError, ValueError):
        return {}
    sizes = {"x": known_spacing(width / view.page.imagewidth), "y": known_spacing(height / view.page.imagelength)}
    return {axis: size for axis, size in sizes.items() if size is not None}


def _names(settings: Mapping[str, Any], saved: list[int]) -> list[str] | None:
    names = settings.get("SI.hChannels.channelName")
    if not isinstance(names, (list, tuple)) or not saved or not all(1 <= n <= len(names) for n in saved):
        return None
    chosen = [str(names[n - 1]) for n in saved]
    return chosen if all(chosen) else None
