"""Headers with a person's name in all positions where files have one."""

from __future__ import annotations

from typing import Any

__all__ = ["PERSON", "with_people"]

PERSON = "Lovelace"
"""A name that no sample holds."""

_TOLD: dict[str, Any] = {
    "PatientName": f"{PERSON}^Ada",
    "UserName": PERSON,
    "Operator": [PERSON, {"name": PERSON}],
    "user": {"name": PERSON, "department": PERSON},
    "experimenters": [{"LastName": PERSON}],
    "Items": [{"Label": "Operator", "Value": PERSON}, {"Label": "Specimen", "Value": "W"}],
    "saved as": f"C:\\Data of {PERSON}\\image 1.dm3",
    "note": f"from /home/{PERSON}/a.tif, by {PERSON}@example.org, on file:///{PERSON}",
    f"/data/{PERSON}/a.tif": 1,
    "lines": f"Vendor 1.0\r\nAppMag = 20|User = {PERSON}|Date = 12\r\nOperator: {PERSON}",
    "json": f'{{"summary": {{"userName": "{PERSON}"}}}}',
    "cut json": f'{{"summary": {{"userName": "{PERSON}", "a',
    "xml": f'<OME xmlns="http://ome.org"><Experimenter LastName="{PERSON}"/><User><DisplayName>{PERSON}</DisplayName>'
    f'</User><A UserName="{PERSON}">t</A><M K="Operator">{PERSON}</M></OME>',
    "cut xml": f"<A><UserName>{PERSON}",
}


def with_people(value: Any) -> Any:
    """Return a header whose mappings, at every depth, also contain a person named `PERSON`."""
    if isinstance(value, dict):
        return {**{k: with_people(v) for k, v in value.items()}, **_TOLD}
    return [with_people(v) for v in value] if isinstance(value, list) else value
