"""Every argument of every method of processing refuses what it cannot use, by a sentence that names it.

Two tables: wrong values for each name of an argument, and what else a method needs to be called. A test goes over the
signatures, so that a new argument without wrong values is noticed.
"""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from processing_laws import stack

from intake_img.accessor.processing.drift import Registrations
from intake_img.accessor.processing.filter_methods import Filters
from intake_img.accessor.processing.geometry import Geometry
from intake_img.accessor.processing.mapping import Maps
from intake_img.accessor.processing.measure import Measures
from intake_img.accessor.processing.mosaic import Mosaics
from intake_img.accessor.processing.reductions import Reductions
from intake_img.accessor.processing.series import SeriesMethods
from intake_img.accessor.processing.splitting import Splits
from intake_img.accessor.processing.tracks import Tracks

pytestmark = pytest.mark.thorough

GROUPS = (Maps, Filters, Reductions, SeriesMethods, Geometry, Splits, Measures, Registrations, Mosaics, Tracks)
METHODS = {n: f for g in GROUPS for n, f in vars(g).items() if inspect.isfunction(f) and not n.startswith("_")}
BOOLS = ["yes", 2, None]
DIMS = ["t", "q", "", "yy", 3, [1], 2.5]
WRONG = {
    "along": ["x", "q", 3, None, ["t"]],
    "anti_aliasing": ["yes", 2],
    "associative": BOOLS,
    "axis": ["z", "t", 3, None, ["x"]],
    "block_size": [-1, 0, 2.5, [2, 2, 2], {"q": 1}, "much", [99, 99]],
    "blockwise": BOOLS,
    "boundary": ["symmetric", None, [1], True],
    "by": ["q", 3, ["c", "q"], 2.5],
    "chunks": [0, -2, 2.5, "huge", {"q": 1}, (1, 2, 3, 4, 5), [0, 1], {"y": "a"}, {"y": 0}],
    "clip": BOOLS,
    "clip_limit": [-1, 2, "a", None, np.nan],
    "compute": BOOLS,
    "connectivity": [0, 3, 1.5, "a", None, True],
    "coordinate_system": ["world", 3, None],
    "core_dims": [("q",), ("y", "y"), (), 3, [1]],
    "crd": [(0, 1), "abcd", 5, (9, 1, 0, 5), ("a", 1, 0, 1), (90, 99, 0, 5)],
    "cval": ["a", None, np.nan, [1], 1j, True],
    "ddof": [-1, 1.5, "a", None],
    "depth": [-1, 1.5, "a", True, [1, 2, 3], {"t": 1}, {5: 1}],
    "dim": ["q", 3.5, ["t", "q"], {"t": 1}],
    "dims": DIMS,
    "dtype": ["nonsense", 3.5, object, "M8[s]"],
    "exclude_border": [3, "yes", None],
    "engine": ["cv2", None, 3, True, ["opencv"]],
    "extra_properties": [3, [3], ["area"]],
    "factor": [0, -1, 1.5, "a", True, None, [1, 2, 3], {"t": 2}],
    "factors": [2, [0], ["a"], [{"q": 2}], None, [1.5], "22"],
    "fill": ["a", [1], 1j, True, np.inf],
    "fn_kwargs": [[1], 3, "a"],
    "footprint": [np.ones((2, 2, 2)), np.zeros((2, 2)), np.ones(2), 3, np.ones((0, 2)), "ab"],
    "func": [None, 3, "mean"],
    "gap": [-1, 1.5, "a", None, True],
    "intensity": ["nothing", 3, np.ones((2, 5, 6))],
    "keepdims": BOOLS,
    "keep_unit_dims": BOOLS,
    "kernel_size": [0, -1, 1.5, "a", [1, 2, 3], {"t": 1}],
    "labels": ["nothing", 3, np.ones((2, 5, 6), int)],
    "limits": [(2, 1), 3, "ab", (1, 2, 3), (np.nan, 1), ("a", "b"), (1, None)],
    "markers": ["nothing", 3, xr.DataArray(np.ones((5, 6)), dims=["y", "x"])],
    "mask": ["nothing", 3, np.ones((5, 6), bool), xr.DataArray(np.ones(5, bool), dims="y")],
    "max": ["a", np.nan, [1], True],
    "max_distance": [0, -1, "a", None, True, np.nan, [1], {"x": 1}, "3 s"],
    "max_shift": [-1, "a", True, [1, 2, 3], {"t": 1}, {"q": 1}, np.nan],
    "meta": [3, "f4", np.float32],
    "method": ["otsu", 3, None],
    "min_distance": [-1, 1.5, "a", None, [1, 2, 3], {"t": 1}, True],
    "min": ["a", np.nan, [1], True],
    "min_correlation": [-2, 2, "a", None, np.nan],
    "missing": ["skip", 3, None],
    "mode": ["reflct", None, 3, ["reflect"]],
    "nbins": [1, 1.5, "a", None],
    "neighborhood": [-1, 1.5, "a", None, [1, 2, 3], {"t": 1}, True],
    "normalization": ["faze", 3, True],
    "nsamples": [0, -1, 1.5, "a", None, True],
    "offset": ["a", None, np.nan],
    "order": [-1, 1.5, "a", None, True],
    "origin": [99, -99, 1.5, "a", None, [0, 0, 0], {"t": 1}],
    "out_dim": ["y", 3, ["t"]],
    "output": [3, "x", "image", ["new"]],
    "output_dtype": ["nonsense", object, "M8[s]", "c16"],
    "output_sizes": [3, [1], {"y": -1, "x": 1}, {"y": 1.5, "x": 1}, "yx"],
    "overlap": ["maximum", 3, None],
    "overwrite": BOOLS,
    "p_max": [101, "a", np.nan, None, 0],
    "p_min": [-1, "a", np.nan, None, 100],
    "padding": [-1, 1.5, "a", None, [1, 2, 3], {"t": 1}],
    "percentile": [101, -101, "a", None, np.nan],
    "positions": [
        3,
        [1, 2],
        {"y": [0, 1]},
        {"y": [0], "x": [0]},
        {"y": [0, np.inf], "x": [0, 1]},
        {"y": "ab", "x": "ab"},
    ],
    "progress": ["yes", 2],
    "properties": [["beauty"], 3, [3], "area"],
    "radius": [-1, "a", np.nan],
    "rank": [99, -99, 1.5, "a", None],
    "reference": ["before", 2, -3, True, [0], 0.5],
    "region": [3, {"q": (0, 1)}, {"x": 3}, {"x": (9, 1)}, {"x": ("a", 1)}, {"x": (90, 99)}, {"x": "ab"}],
    "replace": BOOLS,
    "scale": [0, -1, "a", None, np.nan, [1, 2, 3], {"t": 1}],
    "scale_factors": [2, [0], ["a"], [{"q": 2}], "22"],
    "seed": [-1, 1.5, "a"],
    "shifts": [
        3,
        {"x": 1},
        xr.DataArray([1.0], dims="axis"),
        xr.DataArray([1.0], dims="axis", coords={"axis": ["x"]}),
        xr.DataArray([1.0], dims="axis", coords={"axis": ["z"]}, attrs={"units": "px"}),
        xr.DataArray([np.nan], dims="axis", coords={"axis": ["x"]}, attrs={"units": "px"}),
        xr.DataArray([[1.0]] * 3, dims=["t", "axis"], coords={"axis": ["x"]}, attrs={"units": "px"}),
        xr.DataArray([[1.0]] * 3, dims=["q", "axis"], coords={"axis": ["x"]}, attrs={"units": "px"}),
    ],
    "sigma": [-1, "2", True, [1, 2, 3], {"t": 1}, {"q": 1}, np.nan, 1j],
    "size": [-1, "3x", True, [1, 2, 3], {"t": 1}, {"q": 1}, 2.5],
    "skipna": ["yes", 2],
    "spacing": [0, -1, "a", np.nan, [1, 2, 3], {"t": 1}],
    "table": [3, None, pd.DataFrame({"t": [0]}), pd.DataFrame({"t": [7], "y": [0.0], "x": [0.0]})],
    "threshold": ["a", np.nan, [1], True],
    "truncate": [-1, "a", None, np.nan],
    "units": ["um", 3, None, "physical"],
    "upsample": [0, -1, 1.5, "a", None, True],
    "val": [
        "a",
        None,
        np.ones((3, 3)),
        xr.DataArray(np.ones(3), dims="x"),
        xr.DataArray(np.ones(3), dims="q"),
        {"a": 1},
        np.array("a"),
        np.ones((5, 6), object),
        np.array(["a"]),
    ],
    "value_size": [-1, 1.5, "a", True],
    "weights": [np.ones(3), 3, "a", np.ones((2, 2, 2)), np.ones((0, 2)), None, np.ones((2, 2), "M8[s]")],
    "window": BOOLS,
    "with_keys": BOOLS,
}
TILES = {"along": "t", "units": "pixel", "positions": {"y": [0, 1], "x": [0, 1]}}
NEEDED = {
    "mosaic": TILES,
    "refine_positions": TILES,
    "apply_shifts": {
        "shifts": xr.DataArray([0.5], dims="axis", coords={"axis": ["x"]}, attrs={"units": "px"}),
    },
    "map": {"func": np.negative},
    "percentile_filter": {"percentile": 30},
    "rank_filter": {"rank": 1},
    "correlate": {"weights": np.ones((2, 2))},
    "convolve": {"weights": np.ones((2, 2))},
    "reduce": {"func": np.add},
    "filter": {"func": np.any},
    "foreach": {"func": print},
    "track": {"table": pd.DataFrame({"t": [0], "y": [0.0], "x": [0.0]}), "max_distance": 2},
    "subsample": {"factor": 2},
    "subtract": {"val": 1},
    "map_as_series": {"func": np.mean},
    "clip": {"min": 0},
    "rescale": {"scale": 2},
    "pyramid": {"factors": [2]},
    "crop": {"region": {"x": (0, 2)}},
    "watershed": {
        "markers": xr.DataArray(np.ones((2, 5, 6), int), dims=["t", "y", "x"]),
        "mask": xr.DataArray(np.ones((2, 5, 6), bool), dims=["t", "y", "x"]),
    },
}
"""Arguments without which a method cannot be called."""
DTYPES = {
    **dict.fromkeys(("regionprops", "measure_objects", "relabel"), int),
    **dict.fromkeys(("distance_transform", "split", "skeletonize"), bool),
}
BESIDE = {
    "boundary": {"depth": 1},
    "spacing": {"scale": None},
    "coordinate_system": {"region": {"x": (0, 2)}},
    "footprint": {"size": None},
}
"""Arguments that mean something only beside others."""
OWN = {
    ("rolling_ball", "radius"): [0, -1, "a", None, np.nan, [1]],
    ("subtract_background", "radius"): [0, -1, "a", None, np.nan, [1]],
    **{(m, "order"): [-1, 6, 1.5, "a", None] for m in ("rescale", "apply_shifts", "register")},
    ("localcorr", "size"): [-1, 1.5, "a", [1, 2, 3], {"t": 1}, True],
    ("to_blocks", "size"): [0, -1, 2.5, "much", [2, 2, 2], 99, None, {"q": 1}],
    ("threshold_local", "sigma"): [-1, "2", [1, 2, 3], {"t": 1}, np.nan],
    ("threshold_local", "block_size"): [0, -1, 4, 2.5, "a", None, [3, 3, 3], {"t": 3}],
    ("normalize", "by"): ["q", 3, ["c", "q"], 2.5],
    ("normalize", "output_dtype"): [int, "nonsense", object, "c16"],
    ("rescale", "output_dtype"): ["nonsense", object, "c16"],
    ("map", "dtype"): ["nonsense", 3.5],
    ("map", "units"): ["um", 3, None],
    ("map", "func"): [None, 3, "mean", {"c0": 3}],
    ("rescale", "spacing"): [0, -1, "a", [1, 2, 3], {"t": 1}],
    ("pyramid", "factors"): [2, [0], ["a"], [{"q": 2}], None, [1.5], "22"],
}
PROJECTIONS = ["z", 9, -9, None, 1.5, ["y"]]


def cases():
    for name, method in METHODS.items():
        for argument, parameter in list(inspect.signature(method).parameters.items())[1:]:
            if parameter.kind == parameter.VAR_KEYWORD:
                continue
            values = OWN.get((name, argument))
            if values is None:
                values = PROJECTIONS if name.endswith("projection") else WRONG.get(argument)
            yield name, argument, values


def test_every_argument_is_in_the_table():
    assert len(METHODS) > 50
    assert [f"{name}({argument}=)" for name, argument, values in cases() if not values] == []


@pytest.mark.parametrize(("name", "argument"), [(n, a) for n, a, _ in cases()])
def test_wrong_values_are_named(name, argument):
    pytest.importorskip("skimage")
    (values,) = [v for n, a, v in cases() if (n, a) == (name, argument)]
    array = stack(np.zeros((2, 5, 6), DTYPES.get(name, float)), chunks={})
    image = array if argument not in ("output", "overwrite") else xr.Dataset({"image": array})
    allowed = inspect.signature(METHODS[name]).parameters
    for value in values:
        options = {**NEEDED.get(name, {}), **{k: v for k, v in BESIDE.get(argument, {}).items() if k in allowed}}
        with pytest.raises((ValueError, TypeError), match=argument) as caught:
            getattr(image.img, name)(**{**options, argument: value})  # must not be accepted
        assert len(str(caught.value)) > len(argument) + 8
