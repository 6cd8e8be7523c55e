"""Whole slides through OpenSlide: MIRAX, Leica SCN, Ventana BIF, Philips TIFF, Hamamatsu VMS, Sakura.

Aperio SVS, Hamamatsu NDPI and plain pyramids are TIFF, which the driver ``tif`` reads by itself; ``intake.open_slide``
reads them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, SceneError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, PlaneArray, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.options import option
from intake_img.formats.probe import Probe
from intake_img.formats.slide.claims import STARTS, claimed, taken_for_another
from intake_img.formats.slide.levels import SlideLevel
from intake_img.formats.slide.tiff_guard import check_tiff
from intake_img.model.image import Image
from intake_img.model.packages import imported
from intake_img.model.untrusted import finite
from intake_img.storage.files import File

__all__ = ["Slide", "SlideSource"]

_SLIDE = "slide"  # the first scene
_LABEL = "label"


@dataclass(frozen=True)
class SlideOptions:
    """What of the slide is offered."""

    bounds: bool = option(
        True, "bool", "Whether to crop the empty margin around the scanned area, if the slide gives its bounds."
    )
    label: bool = option(
        False, "bool", "Whether to include the label, which may show the name of a patient, as a scene."
    )


class _Associated(PlaneArray):
    """A picture beside the slide: an overview, a thumbnail, the label."""

    def __init__(self, handle: _SlideHandle, name: str) -> None:
        self.picture = handle.slide.associated_images[name]
        width, height = self.picture.size
        super().__init__((height, width, 3), np.dtype("u1"), 3)

    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        return np.asarray(self.picture.convert("RGB"))


class _SlideHandle(Handle):
    """An open slide; an array is called by its scene and level."""

    def __init__(self, file: File, options: SlideOptions) -> None:
        openslide = imported("openslide", "slide", "reading whole slides", package="openslide-python")
        path = file.local_path()
        check_tiff(file)
        if (vendor := openslide.OpenSlide.detect_format(path)) is None:
            raise FormatError(
                f"{file} is not a slide that OpenSlide reads; of a MIRAX slide the folder of the same name, and of a "
                "Hamamatsu VMS the files that it names, have to be beside it"
            )
        if taken_for_another(file.name, vendor):
            raise FormatError(
                f"{file}: OpenSlide takes it for {vendor}, whose first page would be shown, perhaps a thumbnail; "
                "its description is damaged, or the name is wrong"
            )
        self.file, self.options, self.vendor = file, options, vendor
        self.slide = openslide.OpenSlide(path)

    @property
    def scene_names(self) -> Sequence[str]:
        return [_SLIDE, *(n for n in sorted(self.slide.associated_images) if n != _LABEL or self.options.label)]

    def array(self, address: tuple[str, int]) -> StoredArray:
        name, level = address
        if name != _SLIDE:
            return _Associated(self, name)
        return SlideLevel(self, level, self.options.bounds)

    def describe(self, scene: int | str, level: int) -> Image:
        assert isinstance(scene, int)
        name = self.scene_names[scene]
        if name != _SLIDE and level:
            raise SceneError(f"{self.file}: the picture {name!r} has one level of resolution")
        check_level(level, self.slide.level_count, self.file)
        pixels = self.pixels((name, level))
        spacing = self._spacing(level) if name == _SLIDE else {}
        header = {"vendor": self.vendor, "levels": [list(size) for size in self.slide.level_dimensions]}
        header |= {k: v for k, v in self.slide.properties.items() if k.startswith("openslide.")}
        return Image.single(
            pixels, "yxc", channels="RGB", spacing=spacing, units=dict.fromkeys(spacing, "µm"), header=header
        )

    def _spacing(self, level: int) -> dict[str, float]:
        factor = self.slide.level_downsamples[level]
        found = {a: finite(self.slide.properties.get(f"openslide.mpp-{a}")) * factor for a in "yx"}
        return {a: float(f"{v:.12g}") for a, v in found.items()}

    def close(self) -> None:
        self.slide.close()


class Slide(Format):
    """Whole slide: MIRAX, Leica SCN, Ventana BIF, Philips TIFF, Hamamatsu VMS, Sakura. Local files only.

    Pixels that were not scanned have the background colour that the slide gives, else white. Scenes are the slide and
    the pictures beside it (macro, thumbnail, ...).
    """

    name = "slide"
    title = "whole slide"
    private = "barcode|comment"
    extensions = (".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide")
    starts = STARTS
    extras = {"slide": "reading"}
    has_scenes = True
    has_levels = True
    options = SlideOptions

    def claims(self, probe: Probe) -> int:
        return 2 * claimed(probe)

    def open(self, file: File, options: SlideOptions) -> Handle:
        return _SlideHandle(file, options)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        from intake_img.formats.slide.sample import write_sample

        return write_sample(folder)


SlideSource = source_of(Slide())
