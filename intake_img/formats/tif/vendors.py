"""The table of vendors' dialects of TIFF: how each is recognised, what it states, and what goes into the header.

ImageJ, LSM, MetaMorph stacks and slides are read by `intake_img.formats.tif.facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from intake_img.formats.tif.dialects.detectors import andor, nih, pilatus
from intake_img.formats.tif.dialects.electron import fei, tvips, zeiss
from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.dialects.gatan import gatan, gatan_tags, has_gatan_tags
from intake_img.formats.tif.dialects.jeol import jeol
from intake_img.formats.tif.dialects.metaseries import metaseries, metaseries_plane
from intake_img.formats.tif.dialects.micromanager import mmstack, ndtiff, summary_of
from intake_img.formats.tif.dialects.olympus import fluoview, sis, sis_of
from intake_img.formats.tif.dialects.page_names import page_names
from intake_img.formats.tif.dialects.scanimage import scanimage, settings_of
from intake_img.formats.tif.facts import TiffFacts, resolution_of

if TYPE_CHECKING:
    import tifffile

__all__ = ["vendor_facts", "vendor_header"]

_PLAIN = ("generic", "uniform")


class _Dialect(NamedTuple):
    """A dialect, by tifffile's name for it or its metadata.

    Attributes
    ----------
    kinds : collection of str
        tifffile's kinds of series that may be in the dialect.
    is_one : callable
        Tells it by the first page.
    resolution : bool
        Whether the resolution tags give the pixel size where the dialect does not.
    """

    name: str
    kinds: Collection[str]
    is_one: Callable[[tifffile.TiffPage], bool]
    facts: Callable[[View], TiffFacts]
    header: Callable[[View], Mapping[str, Any] | None]
    resolution: bool = True


def _scanimage(view: View) -> Mapping[str, Any]:
    return {**(view.tif.scanimage_metadata or {}), "FrameData": settings_of(view.tif)}


_DIALECTS = (
    _Dialect("metaseries", _PLAIN, lambda page: page.is_metaseries, metaseries, metaseries_plane, False),
    _Dialect("ndtiff", ("ndtiff",), lambda page: True, ndtiff, lambda view: summary_of(view.tif)),
    _Dialect("micromanager", ("mmstack",), lambda page: True, mmstack, lambda view: summary_of(view.tif)),
    _Dialect("sem", _PLAIN, lambda page: page.is_sem, zeiss, lambda view: view.tif.sem_metadata),
    _Dialect("fei", _PLAIN, lambda page: page.is_fei, fei, lambda view: view.tif.fei_metadata),
    _Dialect("tvips", _PLAIN, lambda page: page.is_tvips, tvips, lambda view: view.tif.tvips_metadata),
    _Dialect("sis", (*_PLAIN, "sis"), lambda page: page.is_sis, sis, lambda view: sis_of(view.page)),
    _Dialect("fluoview", ("fluoview",), lambda page: True, fluoview, lambda view: view.tif.fluoview_metadata),
    _Dialect("scanimage", (*_PLAIN, "scanimage"), lambda page: page.is_scanimage, scanimage, _scanimage),
    _Dialect("pilatus", _PLAIN, lambda page: page.is_pilatus, pilatus, lambda view: view.tif.pilatus_metadata),
    _Dialect("andor", _PLAIN, lambda page: page.is_andor, andor, lambda view: view.tif.andor_metadata),
    _Dialect("nih", ("nih",), lambda page: True, nih, lambda view: view.tif.nih_metadata),
    _Dialect("gatan", _PLAIN, has_gatan_tags, gatan, lambda view: gatan_tags(view.page), False),
    _Dialect("jeol", _PLAIN, lambda page: "<TemReporter" in page.description, jeol, lambda view: None, False),
    _Dialect("page_names", _PLAIN, lambda page: 285 in page.tags, page_names, lambda view: None),
)


def _dialect(view: View) -> _Dialect | None:
    return next((d for d in _DIALECTS if view.kind in d.kinds and d.is_one(view.page)), None)


def vendor_facts(view: View) -> TiffFacts | None:
    """Return what the dialect of a series says of it; None if it is not a dialect of the table."""
    dialect = _dialect(view)
    if dialect is None:
        return None
    facts = dialect.facts(view)
    if not dialect.resolution or {"x", "y"} & set(facts.spacing):
        return facts
    spacing, units = resolution_of(view.page)
    return replace(facts, spacing={**facts.spacing, **spacing}, units={**facts.units, **units})


def vendor_header(view: View) -> dict[str, Any]:
    """Return the metadata of the dialect, under its name; empty if it is not a dialect of the table."""
    dialect = _dialect(view)
    found = dialect.header(view) if dialect is not None else None
    return {dialect.name: dict(found)} if dialect is not None and found else {}
