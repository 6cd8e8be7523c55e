"""A tiny Leica SCN for the conformance suite, written by tifffile: tiles in the middle of a slide, in two levels."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

__all__ = ["write_sample"]

_NAMESPACE = "http://www.leica-microsystems.com/scn/2010/10/01"
_NANOMETRES = 500  # of a pixel
_TILE = (16, 16)


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write a slide of 30 x 40 scanned pixels; see `Format.sample`."""
    import tifffile

    values = (np.arange(30 * 40 * 3) // 7).astype("u1").reshape(30, 40, 3)
    macro = np.full((16, 20, 3), 200, "u1")
    path = os.path.join(folder, "sample.scn")
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for k, page in enumerate((macro, values, values[::2, ::2])):
            text = None if k else _description()
            tif.write(
                page,
                tile=_TILE,
                photometric="rgb",
                metadata=None,
                compression="zlib",
                description=text,
                resolution=(1e7 / _NANOMETRES,) * 2,
                resolutionunit="CENTIMETER",
            )
    step = _NANOMETRES / 1000
    coords = {a: (a, step * np.arange(n), {"units": "µm", "spacing": step}) for a, n in (("y", 30), ("x", 40))}
    expected = xr.Dataset({"image": (("y", "x", "c"), values)}, {**coords, "c": list("RGB")})
    return path, expected.transpose("c", "y", "x")


def _description() -> str:
    slide = _image("macro", (200, 160), (0, 0), [(20, 16, 0)])
    scanned = _image("scan", (40, 30), (60, 50), [(40, 30, 1), (20, 15, 2)])
    size = f'sizeX="{200 * _NANOMETRES}" sizeY="{160 * _NANOMETRES}"'
    collection = f'<collection name="c" {size}>{slide}{scanned}</collection>'
    return f'<?xml version="1.0"?><scn xmlns="{_NAMESPACE}">{collection}</scn>'


def _image(name: str, size: tuple[int, int], offset: tuple[int, int], pages: list[tuple[int, int, int]]) -> str:
    """Return one image: size and place on the slide in pixels of the scan; width, height and number of pages."""
    levels = "".join(f'<dimension sizeX="{w}" sizeY="{h}" r="{r}" ifd="{k}"/>' for r, (w, h, k) in enumerate(pages))
    places = zip(("sizeX", "sizeY", "offsetX", "offsetY"), (*size, *offset), strict=True)
    view = " ".join(f'{key}="{n * _NANOMETRES}"' for key, n in places)
    return (
        f'<image name="{name}"><creationDate>2020-01-01T00:00:00Z</creationDate><device model="SCN400" version="1"/>'
        f'<pixels sizeX="{pages[0][0]}" sizeY="{pages[0][1]}">{levels}</pixels><view {view}/><scanSettings>'
        "<objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings><numericalAperture>0.4"
        "</numericalAperture><illuminationSource>brightfield</illuminationSource></illuminationSettings>"
        "</scanSettings></image>"
    )
