"""The public part of an image: without names of people and patients, and without local paths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from intake_img.model.image import Coordinate, Image
from intake_img.model.privacy import names_people, names_place, public

__all__ = ["cleaned_image"]


def cleaned_image(image: Image) -> Image:
    """Return an image without the file's header, and with only public attributes and coordinates."""
    header = {k: v for k, v in image.header.items() if k in ("driver", "scene")}
    coords = {name: c for name, c in image.coords.items() if _is_public(name, c)}
    variables = {n: replace(v, attrs=public(v.attrs)) for n, v in image.variables.items()}
    return replace(image, header=header, attrs=public(image.attrs), coords=coords, variables=variables, partition={})


def _is_public(name: str, c: Coordinate) -> bool:
    values = np.asarray(c.values)
    if c.axes == (name,) or values.dtype.kind not in "UO":
        return True
    return not names_people(name) and not any(names_place(str(v)) for v in values.ravel()[:1000])
