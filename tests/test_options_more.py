"""The law of `test_options` for maps, reductions, series, crops, batches of patches, regions and exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from test_options import NO_RESULT, check, one_plane, options_of

import intake_img
from intake_img.accessor.patches import Patches
from intake_img.accessor.processing import Processing

pytestmark = pytest.mark.thorough


def image() -> xr.DataArray:
    """Three frames of 21 x 26 pixels, in chunks; one frame holds NaN."""
    found = one_plane().astype("f4").chunk(t=1, y=8, x=9)
    return found.where(~((found.t == 1) & (found.y < 1)))


def spread(plane, gain=1):
    return plane * gain + plane.max() - plane.shape[0]


REGION = {"y": (2, 9), "x": (3, 12)}
CASES = {
    "map": (
        (spread,),
        {},
        {
            "fn_kwargs": {"gain": 3},
            "by": "t",
            "missing": "drop",
            "core_dims": ("t", "y", "x"),
            "keep_unit_dims": True,
            "chunks": 5,
            "depth": 2,
            "boundary": "reflect",
            "units": "physical",
            "blockwise": False,
            "crd": (2, 9, 3, 12),
            "region": REGION,
            "coordinate_system": "physical",
            "scale_factors": (2,),
            "dtype": "f8",
            "meta": np.empty((0, 0), "f8"),
            "output_sizes": {"y": 20, "x": 26},
            "output": "new",
        },
    ),
    "map with keys": (
        (lambda given: given if isinstance(given, np.ndarray) else given[1] + given[0][0],),
        {},
        {
            "with_keys": True,
        },
    ),
    "map of labels": (({0: spread, 2: np.negative},), {"missing": "copy"}, {"missing": "drop", "by": "y"}),
    "map of a neighbourhood": ((spread,), {"depth": 1}, {"depth": 3, "boundary": 5.0, "units": "physical"}),
    "map of a region": ((spread,), {"region": REGION}, {"coordinate_system": "physical", "depth": 2}),
    **{name: ((), {}, {"dim": "y", "keepdims": True, "skipna": False}) for name in ("max", "min", "mean", "sum")},
    **{name: ((), {}, {"dim": "y", "keepdims": True, "skipna": False, "ddof": 1}) for name in ("std", "var")},
    "first": ((), {}, {"dim": "y"}),
    "reduce": ((lambda a, b: a * 2 - b,), {}, {"dim": "y", "keepdims": True, "dtype": "f8"}),
    "filter": ((lambda plane: bool(np.nansum(plane) > 9800),), {}, {"dim": "y"}),
    "sample": ((2,), {"seed": 1}, {"nsamples": 1, "seed": 5, "replace": True, "dim": "y"}),
    "localcorr": ((), {}, {"neighborhood": 3, "size": 3, "dim": "y", "mode": "constant", "dims": "x"}),
    "map_as_series": (
        (np.cumsum,),
        {},
        {
            "value_size": 2,
            "dtype": "f8",
            "dim": "y",
            "out_dim": "k",
            "fn_kwargs": {"dtype": "f2"},
        },
    ),
    "to_series": ((), {}, {"dim": "y"}),
    "crop": ((), {"y": (1, 5)}, {"region": {"x": (2, 5)}, "coordinate_system": "physical"}),
    "max_projection": ((), {"dim": "y"}, {"dim": "x"}),
    "max_min_projection": ((), {"dim": "y"}, {"dim": "x"}),
}
CHUNKS = {"block_size", "compute", "progress", "overwrite", "associative"}
"""Options of how values are computed, not which."""


def method_of(case: str) -> str:
    return case.partition(" ")[0]


def test_every_option_is_here():
    for method in {method_of(case) for case in CASES}:
        tried = {o for case, (_, _, options) in CASES.items() if method_of(case) == method for o in options}
        assert options_of(getattr(Processing, method)) - CHUNKS <= tried, method


@pytest.mark.parametrize(("case", "option"), [(c, o) for c, (_, _, options) in CASES.items() for o in options])
def test_options_of_maps_reductions_and_series(case, option):
    args, base, options = CASES[case]

    def call(**given):
        positional = () if set(given) & {"nsamples"} else args
        result = getattr(image().img, method_of(case))(*positional, **given)
        return result.compute() if hasattr(result, "compute") else result

    check(call, base, option, options[option])


BATCHES = {"shuffle": True, "lookahead": 1, "drop_last": True, "prefetch": 0, "seed": 5, "epoch": 2, "labelled": False}
SAME_VALUES = {"lookahead", "prefetch"}
"""How far ahead files are read."""


@pytest.mark.parametrize("option", BATCHES)
def test_options_of_batches(option):
    assert options_of(Patches.batches) == set(BATCHES)
    patches = intake_img.patches(one_plane().to_dataset(), {"y": 6, "x": 7}, sample="random", n=7, seed=1)

    def call(**given):
        batches = list(patches.batches(3, **given))
        first = [b if isinstance(b, tuple) else (b.sizes, b["image"].values) for b in batches]
        return np.array([type(batches[0]).__name__, len(batches), *(repr(part) for part in first)], dtype="U20000")

    if option in SAME_VALUES:
        np.testing.assert_array_equal(call(**{option: BATCHES[option]}), call())
    else:
        check(call, {"shuffle": True} if option == "seed" else {}, option, BATCHES[option])


REGIONS = {
    "labels": one_plane() // 70,
    "intensity": False,
    "properties": ("label", "area"),
    "units": "physical",
    "extra_properties": [lambda mask: int(mask.sum()) + 1],
}


@pytest.mark.parametrize("option", REGIONS)
def test_options_of_regionprops(option):
    pytest.importorskip("skimage")
    assert options_of(Processing.regionprops) - NO_RESULT == set(REGIONS)
    labels = (one_plane().isel(t=0, drop=True) // 90).astype("i4").assign_attrs(kind="labels")
    ds = xr.Dataset({"image": one_plane(), "cells": labels}).chunk(y=8, x=9)
    value = REGIONS[option].isel(t=0, drop=True).astype("i4") if option == "labels" else REGIONS[option]
    check(lambda **kw: ds.img.regionprops(**kw), {}, option, value)


EXPORTS = {
    "to_tif": {"prefix": "frame", "compress": "zlib"},
    "to_png": {"prefix": "frame", "vmin": 20.0, "vmax": 120.0, "scale": "chunk", "bits": 8},
    "to_binary": {"prefix": "frame"},
}


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, options in EXPORTS.items() for o in options])
def test_options_of_exports(name, option, tmp_path):
    left = options_of(getattr(Processing, name)) - NO_RESULT - {"storage_options"}
    assert left == set(EXPORTS[name])
    places = iter(range(9))

    def call(**given):
        folder = tmp_path / str(next(places))
        getattr(one_plane().astype("f4").img, name)(folder, **given)
        files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
        return np.array([(p.name, p.read_bytes().hex()) for p in files], dtype=object).astype(str)

    base = {"vmin": 0.0, "vmax": 255.0} if name == "to_png" else {}
    check(call, base, option, EXPORTS[name][option])
