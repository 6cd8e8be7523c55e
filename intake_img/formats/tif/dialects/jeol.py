"""JEOL SightX: a report of the microscope, XML, as the description of the page.

Source: RosettaSciIO's ``tiff`` reader.
"""

from __future__ import annotations

from intake_img.formats.tif.dialects.evidence import View
from intake_img.formats.tif.facts import TiffFacts
from intake_img.model.units import convert, known_spacing
from intake_img.model.untrusted import xml_root

__all__ = ["jeol"]

_UNITS = {2: "in", 3: "cm"}
_RESOLUTION = {"x": 282, "y": 283}


def jeol(view: View) -> TiffFacts:
    """Size of a pixel of the detector, which the resolution tags give, over the magnification, which the report gives.

    Diffraction patterns have no lengths.
    """
    report, tags = xml_root(view.page.description), view.page.tags
    mode = report.findtext("Eos/EosMode"), report.findtext("ImageFormingSystem/ModeString")
    magnification = known_spacing(report.findtext("ImageFormingSystem/SelectorValue"))
    unit = _UNITS.get(tags.valueof(296, 2))
    if mode != ("eosTEM", "MAG") or magnification is None or unit is None:
        return TiffFacts()
    ratios = {a: tags.valueof(code, (0, 1)) for a, code in _RESOLUTION.items()}
    spacing = {a: convert(n / count, unit, "nm") / magnification for a, (count, n) in ratios.items() if count and n}
    return TiffFacts(spacing, dict.fromkeys(spacing, "nm"))
