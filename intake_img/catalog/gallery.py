"""Catalogs and tables in notebooks: a row for each image with a small picture, which opens to what the image holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from intake_img.model.text import escaped, printable

__all__ = ["MOST", "GalleryRow", "gallery"]

MOST = 40
"""Rows that are listed."""
_SECONDS = 1.0  # time for the pictures of a list
_CELL = "style='text-align:left;padding:0.1em 0.8em 0.1em 0'"


@dataclass(frozen=True)
class GalleryRow:
    """One image of a list.

    Parameters
    ----------
    name, driver, description : str
    code : str
        Python that opens it.
    source : callable, optional
        Returns its Intake source; what it raises is not shown. Without it no picture is tried.
    """

    name: str
    driver: str
    description: str
    code: str
    source: Callable[[], Any] | None = None


def gallery(head: str, rows: Iterable[GalleryRow], count: int) -> str:
    """Return a list as HTML; all texts are escaped.

    Pictures are drawn for at most a second in total, each only if that is fast.

    Parameters
    ----------
    head : str
        HTML of the heading.
    rows : iterable of GalleryRow
        The first of them; at most `MOST` are used.
    count : int
        How many there are in all.
    """
    end = time.monotonic() + _SECONDS
    listed = [_row(row, end) for row, _ in zip(rows, range(MOST), strict=False)]
    more = f"<p>… and {count - MOST} more</p>" if count > MOST else ""
    return f"<div class='intake-img'><p>{head}</p><table><tbody>{''.join(listed)}</tbody></table>{more}</div>"


def _row(row: GalleryRow, end: float) -> str:
    picture, facts = "", ""
    if row.source is not None and time.monotonic() < end:
        with contextlib.suppress(Exception):  # the entry may be refused
            from intake_img.accessor.cards import picture_and_facts

            picture, facts = picture_and_facts(row.source())
    name = f"<details><summary>{escape(escaped(row.name))}</summary><code>{escape(row.code)}</code>{facts}</details>"
    return (
        f"<tr><td {_CELL}>{picture}</td><th {_CELL}>{name}</th>"
        f"<td {_CELL}>{escape(escaped(row.driver))}</td><td {_CELL}>{escape(printable(row.description))}</td></tr>"
    )
