"""``intake-img convert PLATE TARGET.zarr``: a complete plate, several fields at a time."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from intake_img.errors import TargetExistsError
from intake_img.model.progress_bar import meter

if TYPE_CHECKING:
    from intake_img.collections.plates.plate import Plate
    from intake_img.formats.source import ImageSource

__all__ = ["save_plate", "whole_plate"]


def whole_plate(source: ImageSource, target: str, writer: Any, arguments: argparse.Namespace) -> Plate | None:
    """Return the plate to convert; None if the source is not a plate, or if one scene of it is requested."""
    from intake_img.collections.plates.plate import Plate, plate_source

    scene = source.arguments().get("scene")  # also of FILE@SCENE, and of an entry of a catalog
    if scene is not None or arguments.level or writer.name != "omezarr" or target.lower().endswith((".zip", ".ozx")):
        return None
    found = plate_source(source)
    return None if found is None or found.scene is not None else Plate(found)


def save_plate(
    plate: Plate, target: str, compress: Any, arguments: argparse.Namespace, depth: Callable[[Any], int]
) -> tuple[list[str], int]:
    """Convert a plate; return the store and the number of written bytes of pixels.

    Parameters
    ----------
    plate : Plate
    target : str
    compress : object
    arguments : argparse.Namespace
    depth : callable
        Returns the number of levels for a Dataset.
    """
    options = dict(arguments.option)
    if arguments.pyramid:
        options.setdefault("pyramid", depth(plate[0]))
    written = [0]
    with meter(arguments.progress, len(plate), "converting", "field", scaled=False) as step:

        def count(nbytes: int) -> None:
            written[0] += nbytes
            step(1)

        try:
            files = plate.save(
                target,
                compress,
                overwrite=arguments.overwrite,
                resume=arguments.resume,
                jobs=arguments.jobs,
                progress=count,
                storage_options=dict(arguments.target_option) or None,
                **options,
            )
        except TargetExistsError as exc:
            raise TargetExistsError(f"{target} exists: choose another name, or give --overwrite to replace it") from exc
    return files, written[0]
