"""The source of plates: a field, the fields of a well, or all of them, by the names of their wells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

from intake_img.collections.plates.index_files import plate_of
from intake_img.collections.plates.mosaic import mosaics
from intake_img.collections.plates.plate_images import composed
from intake_img.collections.plates.plate_table import PlateTable
from intake_img.collections.plates.positions import located
from intake_img.errors import FormatError
from intake_img.formats.arguments import scene_number
from intake_img.formats.format_source import FormatSource
from intake_img.formats.options import ReadOptions, option
from intake_img.formats.registry import autodetect
from intake_img.formats.source import ImageSource
from intake_img.model.image import Image
from intake_img.model.wells import Place
from intake_img.storage.files import File

__all__ = ["PlateSource", "find_plate"]


@dataclass(frozen=True)
class _PlateOptions(ReadOptions):
    scene: int | str | None = option(
        None,
        "int, str or None",
        'A field by number or name (``"B03/1"``); a well (``"B03"``), whose fields are stacked on ``i``; ``"all"``, '
        "which stacks those of all wells; None for the first field.",
    )
    missing: Literal["fill", "error"] = option(
        "fill",
        '"fill" or "error"',
        "What to do with planes that the index names and that do not exist: zeros (NaN for floats) in their place with "
        "a warning, or an error.",
    )
    layout: Literal["stage"] | None = option(
        None,
        '"stage" or None',
        "Make a mosaic of the fields of each well, placed by their positions on the stage to the nearest pixel; where "
        'fields overlap, the last one is on top. Scenes are wells then: ``"B03"``, ``"all"`` stacks them on ``i``.',
    )
    member_options: Mapping[str, Any] | None = option(
        None, "mapping, optional", "Options of the driver that reads each file."
    )


class PlateSource(ImageSource):
    """Plate or many positions: the folder of an instrument, or the index in it.

    It reads the indices of Operetta, Opera Phenix and Sonata (``Index.idx.xml``), CellVoyager
    (``MeasurementData.mlf``), ImageXpress (``.HTD``), InCell (``.xdce``) and scanR (``metadata.ome.xml``). Coordinates
    and attributes give the position of images: ``well``, ``row`` and ``column`` (from 0), ``field``, and the stage
    position in µm, with ``y`` downwards like the rows of an image.
    """

    name = "plate"
    title = "plate"
    Options = _PlateOptions
    uri_doc = ("str or os.PathLike", "Folder of a plate, or the index in it.")

    def __init__(self, uri: Any, **options: Any) -> None:
        super().__init__(uri, **options)
        given: Any = self.options
        if given.missing not in ("fill", "error"):
            raise ValueError(f"missing={given.missing!r}: expected 'fill' or 'error'")
        if given.layout not in (None, "stage"):
            raise ValueError(f"layout={given.layout!r}: expected 'stage' or None")
        self.fill = given.missing == "fill"
        self.layout = given.layout
        self.member_options = dict(given.member_options or {})

    @cached_property
    def table(self) -> PlateTable:
        """The table of all planes."""
        found = plate_of(self.file)
        if found is None:
            raise FormatError(
                f"{self.file} is not a plate: expected a folder with the index of an instrument, or an index"
            )
        return found

    def stamp(self) -> tuple[Any, ...]:
        """Return a stamp that changes when the index is replaced."""
        return (self.table.index or self.file).stamp()

    def member(self, file: File, options: Mapping[str, Any]) -> FormatSource:
        """Return the source of one file."""
        given = {**self.member_options, **options}
        if self.storage_options:
            given["storage_options"] = self.storage_options
        return autodetect(file, **given)

    def _images(self) -> tuple[Image, Image]:
        if self._image is None:
            original = self._composed()
            others = self.overrides if self.layout is None else _divided(self.overrides)[1]
            self._image = original.overruled(**others), original
        return self._image

    def field(self, place: Place) -> Image:
        """Return one field, independently of the option `scene`; it does not list the other scenes."""
        image = composed(self.table, [place], self.member, stacked=False, fill=self.fill)
        image = replace(image, scene=place.scene, scenes=(place.scene,))
        return image.overruled(**self.overrides)

    def _composed(self) -> Image:
        if self.layout is not None:
            return self._mosaics()
        places, stacked = self._chosen()
        image = composed(self.table, places, self.member, stacked=stacked, fill=self.fill, overrides=self.overrides)
        scene = str(self.scene) if stacked else places[0].scene
        return replace(image, scene=scene, scenes=tuple(self.table.scenes))

    def _mosaics(self) -> Image:
        """Return a well, or all wells, as mosaics; positions outside of a plate form one mosaic."""
        table = self.table
        wells: Mapping[str, list[Place]] = table.wells or {table.facts.name or "stage": list(table.fields)}
        stacked = self.scene == "all" and "all" not in wells
        if not stacked:
            found = table.well_of(self.scene) if isinstance(self.scene, str) else None
            name = found[0].well if found else list(wells)[scene_number(self.scene, list(wells), self.file)]
        chosen = wells if stacked else {name: wells[name]}
        places = [p for fields in chosen.values() for p in fields]
        table = located(table, places, self.member)
        image = composed(table, places, self.member, stacked=True, fill=self.fill, overrides=self.overrides)
        scene = "all" if stacked else name
        image = image.overruled(**_divided(self.overrides)[0])
        return replace(mosaics(table, chosen, image, stacked), scene=scene, scenes=tuple(wells))

    def _chosen(self) -> tuple[list[Place], bool]:
        """Return the fields of the option `scene`, and whether they are stacked."""
        table, scene = self.table, self.scene
        if scene == "all" and scene not in table.scenes:
            return list(table.fields), True
        if isinstance(scene, str):
            if (place := table.place_of(scene)) is not None:
                return [place], False
            if (well := table.well_of(scene)) is not None:
                return well, True
        names = list(table.scenes)
        return [table.scenes[names[scene_number(scene, names, self.file)]]], False

    def _close(self) -> None:
        self.__dict__.pop("table", None)
        super()._close()


def _divided(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `metadata` says of the size of pixels, which places the fields of a mosaic, and the rest."""
    planes: dict[str, Any] = {}
    others = dict(overrides)
    for name in {"spacing", "spacing_units"} & {*overrides}:
        given = others.pop(name)
        if isinstance(given, str):  # the unit of all lengths
            planes[name] = given
            continue
        planes[name] = {a: v for a, v in given.items() if a in ("y", "x")}
        others[name] = {a: v for a, v in given.items() if a not in ("y", "x")}
    return planes, others


def find_plate(file: File, options: Mapping[str, Any]) -> PlateSource | None:
    """Return the plate source of a folder or an index; None if it is not a plate."""
    own = {f.name for f in fields(_PlateOptions)}
    known = {k: v for k, v in options.items() if k in own}
    if (table := plate_of(file)) is None:
        return None
    if further := {k: v for k, v in options.items() if k not in own}:
        known["member_options"] = {**(known.get("member_options") or {}), **further}
    source = PlateSource(file, **known)
    source.__dict__["table"] = table  # read once
    return source
