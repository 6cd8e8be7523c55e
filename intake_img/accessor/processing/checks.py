"""Checks that several methods of processing share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.processing.halo import halo, rechunked
from intake_img.accessor.processing.in_memory import chunked
from intake_img.accessor.variables import with_data
from intake_img.kernels.each_image import EachImage
from intake_img.model.packages import imported

__all__ = ["real", "skimage_for", "whole_images"]


def skimage_for(purpose: str) -> Any:
    return imported("skimage", "skimage", purpose, package="scikit-image")


def real(name: str, array: xr.DataArray) -> None:
    if array.dtype.kind == "c":
        raise TypeError(
            f"{name}: the image has dtype {array.dtype}; expected bool, integers or floats: take a part or the "
            "magnitude, image.real, image.imag, abs(image)"
        )


def whole_images(
    array: xr.DataArray, func: Callable[..., Any], axes: Sequence[str], dtype: np.dtype, name: str
) -> xr.DataArray:
    places = [array.get_axis_num(a) for a in axes]
    data = rechunked(chunked(array), dict.fromkeys(places, -1))
    return with_data(array, halo(data, EachImage(func, places, dtype), dtype=dtype, name=name))
