"""Plates in one image file or store: OME-Zarr, OME-TIFF. Their fields are scenes of the driver."""

from __future__ import annotations

from intake_img.collections.plates.plate_table import Plane, PlateFacts, PlateTable
from intake_img.formats.format_source import FormatSource

__all__ = ["table_of"]


def table_of(source: FormatSource) -> PlateTable | None:
    """Return the table of a file whose format supports wells; None if the file is not a plate."""
    with source.opened() as handle:
        places = list(handle.places)
    if not places:
        return None
    planes = [Plane(place, None, None, None, source.file.name, scene=n) for n, place in enumerate(places)]
    return PlateTable(source.file.parent, planes, PlateFacts(source.title, source.file.name), source.file)
