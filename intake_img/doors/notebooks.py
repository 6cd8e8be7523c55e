"""Notebooks show xarray's objects without the text of a long file header.

xarray writes each attribute into its HTML in full, and the header of a CZI file has up to a megabyte, which every shown
Dataset would add to the notebook. Printers that IPython keeps by type come before ``_repr_html_``.
"""

from __future__ import annotations

import sys
from typing import Any

import xarray as xr

__all__ = ["html_of", "register"]

_KEY = "fileheader"
_LONGEST = 300  # characters of a header that are shown in full
_SHOWN = 50


def register() -> None:
    """Register `html_of` for xarray's classes, if this process is a kernel of a notebook; keep printers of others."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return
    printers = shell.display_formatter.formatters["text/html"]
    for kind in (xr.Dataset, xr.DataArray, xr.DataTree):
        if kind not in printers:
            printers.for_type(kind, html_of)


def html_of(shown: xr.Dataset | xr.DataArray | xr.DataTree) -> str:
    """Return xarray's HTML of an object, with a long ``fileheader`` cut; the object is not changed.

    Parameters
    ----------
    shown : xarray.Dataset, xarray.DataArray or xarray.DataTree

    Returns
    -------
    str
    """
    short = shown.copy(deep=False)
    for part in short.subtree if isinstance(short, xr.DataTree) else [short]:
        text = part.attrs.get(_KEY)
        if isinstance(text, str) and len(text) > _LONGEST:
            part.attrs = {**part.attrs, _KEY: f"{text[:_SHOWN]}... ({len(text):,} characters: ds.img.header)"}
    return short._repr_html_()  # type: ignore[union-attr]
