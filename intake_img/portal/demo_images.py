"""Sample images for ``intake-img portal --demo``: simulated cells in several formats, and real pictures."""

from __future__ import annotations

from pathlib import Path

import yaml

__all__ = ["make_demo"]


def make_demo(folder: Path) -> Path:
    """Write sample images and a catalog of them; return the catalog.

    Parameters
    ----------
    folder : Path
        An empty folder.
    """
    from intake_img.doors.demo import make_samples

    make_samples(folder)
    entries = {
        "cells": ("tif", "cells.tif", "Drifting cells in 3-D: nuclei (DAPI) and cytoplasm (GFP); ImageJ TIFF"),
        "nuclei": ("omezarr", "nuclei.ome.zarr", "The first frame with the labels of its nuclei; OME-Zarr"),
        "wells": ("czi", "wells.czi", "Two positions on a stage as scenes; Zeiss CZI"),
        "head": ("img", "head.png", "Magnetic resonance image of a head, 16-bit PNG"),
        "portrait": ("img", "photo", "Portrait of Grace Hopper, RGB JPEG"),
    }
    sources = {
        name: {"description": about, "driver": driver, "args": {"uri": "{{ CATALOG_DIR }}/" + file}}
        for name, (driver, file, about) in entries.items()
        if (folder / file).exists()
    }
    path = folder / "samples.yml"
    document = {"metadata": {"version": 1}, "sources": sources}
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
