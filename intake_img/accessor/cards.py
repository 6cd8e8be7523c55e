"""Cards for notebooks: the metadata of an image, a source, a catalog or patches as HTML, beside a small picture.

A picture is drawn only if that is fast: for pixels in memory or unread in a local file, if at most `MOST_BYTES` must be
decoded. Showing an object computes nothing and sends no request to a server. All text is escaped, since names are
untrusted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.display import as_html, summary
from intake_img.accessor.picture_planes import variable_of
from intake_img.accessor.thumbnail import data_url, thumbnail
from intake_img.model.datasets import data_of
from intake_img.model.pixels import Pixels
from intake_img.model.process_state import quiet
from intake_img.model.text import escaped, printable

__all__ = ["card", "of_source", "picture_and_facts", "picture_of", "table"]

MOST_BYTES = 16 * 2**20
_CELL = "style='text-align:left;padding:0.1em 0.8em 0.1em 0'"


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Return pairs of key and text as an HTML table; both are escaped."""
    lines = [
        f"<tr><th {_CELL}>{escape(escaped(k))}</th><td {_CELL}>{escape(escaped(text))}</td></tr>" for k, text in rows
    ]
    return f"<table class='intake-img'><tbody>{''.join(lines)}</tbody></table>"


def card(facts: str, picture: str = "") -> str:
    """Return HTML of facts, with the HTML of a picture, if any, to the left of them."""
    return f"<div class='intake-img' style='display:flex;gap:1em;align-items:flex-start'>{picture}{facts}</div>"


def picture_of(obj: xr.Dataset | xr.DataArray | None, size: int = 128) -> str:
    """Return a small picture as an HTML image; an empty text if it cannot be drawn fast.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray, optional
    size : int
        The longer side, in pixels.
    """
    if obj is None:
        return ""
    try:
        with quiet():  # for a picture that nobody asked for
            return _image(thumbnail(obj, size)) if _is_quick(obj) else ""
    except Exception:  # damaged, moved, or not an image: the facts are shown without a picture
        return ""


def _image(picture: np.ndarray) -> str:
    height, width = picture.shape[:2]
    return f"<img alt='thumbnail' width='{width}' height='{height}' src='{data_url(picture)}'>"


def _is_quick(obj: xr.Dataset | xr.DataArray) -> bool:
    """Return whether a plane is cheap to read: no computation, no server, few bytes."""
    array = variable_of(obj, None)
    data = data_of(array.variable)
    if isinstance(data, np.ndarray):
        return True
    pixels = data if isinstance(data, Pixels) else getattr(data, "pixels", None)
    if not isinstance(pixels, Pixels) or not _is_local(str(obj.attrs.get("uri", ""))):
        return False
    drawn = [d in ("c", "y", "x", "s") for d in array.dims]
    read = [n if whole else min(n, tile) for n, tile, whole in zip(pixels.shape, pixels.tiles, drawn, strict=True)]
    return math.prod(read) * pixels.dtype.itemsize <= MOST_BYTES


def _is_local(uri: str) -> bool:
    return re.match(r"(?!file:)[\w+.-]{2,}:(//|:)", uri) is None


def of_source(source: Any) -> str:
    """Return the HTML of an Intake source: the header of a local file is read; other sources are only named.

    Parameters
    ----------
    source : ImageSource
    """
    named = [("source", printable(repr(source), 1000))]
    if not _is_local(str(source.uri)):
        return card(table(named))
    own = source.renewed()  # close what this function opens
    try:
        with quiet():
            ds = own.dataset(chunks=None)
            return card(f"<div>{table(named)}{as_html(summary(ds))}</div>", picture_of(ds))
    except Exception as exc:
        return card(table([*named, (type(exc).__name__, printable(exc, 1000))]))
    finally:
        own.close()


def picture_and_facts(source: Any) -> tuple[str, str]:
    """Return the small picture of an Intake source, and a table of what it contains, as HTML.

    The picture is empty if it cannot be drawn fast; both are, if the source is not local or cannot be opened.
    """
    if not hasattr(source, "dataset") or not _is_local(str(source.uri)):
        return "", ""
    try:
        with quiet():
            ds = source.dataset(chunks=None)
            return picture_of(ds, 48), as_html(summary(ds))
    except Exception:
        return "", ""
    finally:
        source.close()
