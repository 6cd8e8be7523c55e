"""The groups of a plate in OME-Zarr: paths of its fields, and metadata of the groups of plate, rows and wells.

Metadata: https://ngff.openmicroscopy.org/0.5/#hcs-layout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from intake_img.collections.plates.plate_table import PlateTable
from intake_img.model.wells import Place, row_letters

__all__ = ["field_paths", "groups"]


def field_paths(table: PlateTable) -> dict[Place, str]:
    """Return the path of each field in the store; fields with other names than letters and digits are numbered."""
    plain = all(re.fullmatch(r"[A-Za-z0-9]+", p.field) for p in table.fields)
    found = {}
    for places in table.wells.values():
        for n, p in enumerate(places):
            found[p] = f"{row_letters(p.row)}/{p.column + 1}/{p.field if plain else n}"
    return found


def groups(table: PlateTable, name: str, paths: Mapping[Place, str], version: str) -> dict[str, dict[str, Any]]:
    """Return the metadata of the groups above the fields by their paths: wells, rows and, last, the plate (``""``)."""
    fields: dict[str, list[str]] = {}
    for path in paths.values():
        well, _, last = path.rpartition("/")
        fields.setdefault(well, []).append(last)
    found: dict[str, dict[str, Any]] = {}
    for well, names in fields.items():
        found[well] = {"well": {"version": version, "images": [{"path": n, "acquisition": 0} for n in names]}}
    found |= {well.partition("/")[0]: {} for well in fields}
    return {**found, "": {"plate": _plate(table, name, paths, version)}}


def _plate(table: PlateTable, name: str, paths: Mapping[Place, str], version: str) -> dict[str, Any]:
    rows, columns = table.shape
    wells = {path.rpartition("/")[0]: p for p, path in paths.items()}
    listed = [{"path": path, "rowIndex": p.row, "columnIndex": p.column} for path, p in wells.items()]
    most = max(map(len, table.wells.values()))
    return {
        "version": version,
        "name": name,
        "acquisitions": [{"id": 0, "maximumfieldcount": most}],
        "columns": [{"name": str(c + 1)} for c in range(columns)],
        "rows": [{"name": row_letters(r)} for r in range(rows)],
        "wells": listed,
        "field_count": most,
    }
