"""Messages of wrong calls say what to do instead."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import FormatError, UnitsError

COORDS = {a: (a, np.arange(8) * 0.5, {"units": "µm", "spacing": 0.5}) for a in "zyx"}
IMAGE = xr.DataArray(np.arange(512, dtype="u2").reshape(8, 8, 8), dims=list("zyx"), coords=COORDS, name="image")
LABELS = (IMAGE > 100).astype("i4").assign_attrs(kind="labels")
DATASET = IMAGE.to_dataset()


@pytest.mark.parametrize(
    ("call", "error", "advice"),
    [
        (lambda: IMAGE.img.gaussian_filter("3 s"), UnitsError, r"give a length, such as '3 µm'$"),
        (lambda: IMAGE.img.threshold(["otsu"]), TypeError, r"method=\['otsu'\]: expected one of 'otsu', 'li'"),
        (lambda: IMAGE.img.threshold(None), TypeError, "a number, or a mapping of channels to numbers"),
        (lambda: LABELS.img.regionprops(properties=["aera"]), ValueError, r"did you mean 'area'\?"),
        (lambda: LABELS.img.regionprops(properties=["surfacearea"]), ValueError, r"did you mean 'surface_area'\?"),
        (lambda: LABELS.img.regionprops(properties=["zzz"]), ValueError, "measures no 'zzz'$"),
        (lambda: LABELS.img.regionprops(properties=["perimeter"]), NotImplementedError, "measure 'surface_area'"),
        (lambda: LABELS.img.regionprops(properties=["moments_hu"]), NotImplementedError, r"ds\.isel\(z=\.\.\.\)"),
        (lambda: DATASET.img.regionprops("cells"), KeyError, "labels='cells': .* only image"),
        (lambda: DATASET.img.regionprops(LABELS, "cells"), KeyError, "intensity='cells': .* only image"),
        (lambda: DATASET.img.measure_objects(), ValueError, r"only image: make one of a mask, with \.img\.label\(\)"),
        (lambda: DATASET.assign(a=LABELS, b=LABELS).img.regionprops(), ValueError, "2 variables of labels: a, b"),
        (lambda: IMAGE.img.patches([8, 8, 8, 8]), ValueError, "for each spatial axis, 'zyx'"),
        (lambda: IMAGE.img.uniform_filter([3]), ValueError, "has 1 value: expected"),
    ],
)
def test_what_to_do_instead(call, error, advice):
    with pytest.raises(error, match=advice):
        call()


@pytest.mark.parametrize(("level", "error"), [("a", TypeError), (1.7, TypeError), (True, TypeError), (-1, ValueError)])
def test_a_level_is_a_number(tmp_path, level, error):
    imsave(DATASET, tmp_path / "a.zarr")
    with pytest.raises(error, match="level="):
        imload(tmp_path / "a.zarr", level=level)


@pytest.mark.parametrize(
    ("key", "meant"), [("spacings", "spacing"), ("spacing_unit", "spacing_units"), ("axess", "axes"), ("note", None)]
)
def test_a_misspelt_key_of_metadata_is_said(tmp_path, key, meant):
    np.save(tmp_path / "a.npy", IMAGE.values)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        imload(tmp_path / "a.npy", metadata={key: "zyx", "axes": "zyx"})
    assert [f"did you mean {meant!r}" in str(w.message) for w in said] == ([True] if meant else [])


def test_a_folder_of_several_formats_names_a_pattern(tmp_path):
    for name in ("a.npy", "b.tif"):
        imsave(DATASET, tmp_path / name)
    with pytest.raises(FormatError) as caught:
        imload(tmp_path)
    pattern = re.search(r"such as '(.*?)' or ext='(\.\w+)'", str(caught.value))
    assert pattern
    assert imload(pattern[1]).sizes["z"] == 8
    assert imload(tmp_path, ext=pattern[2]).sizes["z"] == 8
