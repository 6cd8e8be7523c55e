"""Names of pages (tag 285) as channel names, used by Imaging Mass Cytometry, Agilent and many pipelines."""

from __future__ import annotations

import re

from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.directories import page_texts
from intake_img.formats.tif.facts import TiffFacts

__all__ = ["page_names"]

_TAG = 285
_NUMBERED = re.compile(r"(page|slice|frame|image|layer|plane|background)?[\s_#:.-]*\d*(\s*(of|/)\s*\d+)?", re.I)


def page_names(view: View) -> TiffFacts:
    """Pages that each have a name of their own, and no mere number, are channels."""
    names = page_texts(view.tif, view.places, _TAG) if view.stack > 1 else None
    if not names or len(set(names)) != len(names) or any(_NUMBERED.fullmatch(name) for name in names):
        return TiffFacts()
    return TiffFacts(channels=names, lead=(("C", view.stack),))
