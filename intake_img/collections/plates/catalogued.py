"""Catalogued images as a plate: the rows of a table of images, by their columns ``well`` and ``field``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from intake_img.errors import FormatError
from intake_img.formats.format_source import FormatSource
from intake_img.formats.registry import autodetect

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_of"]

_ALLOWED = {"uri", "metadata", "scene", "storage_options"}
_MANY = "search for one: plate(table.search(plate=...))"


def frame_of(table: Any) -> pd.DataFrame:
    """Return the rows of a table of images in the form that `intake_img.plate` takes.

    Parameters
    ----------
    table : ImageTable
        Each row is checked before its file is used.

    Raises
    ------
    FormatError
        If images have no well, or are of several plates; if a row is not one file that opens by itself: a series,
        another driver, or options.
    """
    frame = table.to_dataframe()
    lacking = [str(n) for n, well in zip(frame["name"], frame["well"], strict=True) if not (well and well == well)]
    if lacking:
        shown = ", ".join(map(repr, lacking[:5]))
        raise FormatError(
            f"{len(lacking)} images have no well, e.g. {shown}: write_table(..., columns={{'well': ...}})"
        )
    plates = list(dict.fromkeys(frame["plate"].dropna()))
    if len(plates) > 1:
        raise FormatError(f"the table has images of {len(plates)} plates, {plates[0]!r}, {plates[1]!r}, ...: {_MANY}")
    sources = {str(name): table[name] for name in frame["name"]}
    _check(sources)
    scenes = [_scene(source) for source in sources.values()]
    files = [source.file for source in sources.values()]  # in their jail
    return frame.assign(file=files, scene=scenes, field=frame["field"].fillna("1"))


def _check(sources: dict[str, Any]) -> None:
    """Raise an error for rows that do not open as they are by their file alone; a file of each kind is looked at."""
    seen: set[tuple[str, str]] = set()
    for name, source in sources.items():
        if not isinstance(source, FormatSource):
            raise FormatError(
                f"the image {name!r} is not one file but a {type(source).name}: a plate needs a row for each file"
            )
        if further := [*({*source.arguments()} - _ALLOWED), *source.overrides]:
            raise FormatError(f"the image {name!r} has the options {further}, which a plate does not use")
        driver = source.format.name
        kind = (driver, os.path.splitext(source.file.name)[1].lower())
        if kind not in seen and (found := autodetect(source.file).format.name) != driver:
            raise FormatError(f"the image {name!r} has the driver {driver!r}, but opens by itself as {found!r}")
        seen.add(kind)


def _scene(source: FormatSource) -> int | None:
    """Return the number of the scene of a row; None for the first one."""
    scene = source.arguments().get("scene")
    if scene is None or isinstance(scene, int):
        return scene
    with source.opened() as handle:
        names = list(map(str, handle.scene_names))
    if scene not in names:
        raise FormatError(f"{source.file}: the scene {scene!r} is not one image: a plate needs a row for each image")
    return names.index(scene)
