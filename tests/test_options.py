"""The law: an option of a public method changes the result, or is refused by an error; none is accepted and ignored.

Each case is a call and, for every option of the method, a value that must make a difference. Options that are missing
here fail the test as well.
"""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import intake_img
from intake_img.accessor.coloc import Coloc, detect_blobs
from intake_img.accessor.coloc.report import report
from intake_img.accessor.patches import Patches
from intake_img.accessor.patches.filters import mean_std
from intake_img.accessor.processing import Processing
from intake_img.kernels.conventions import ALL, Conventions

pytestmark = pytest.mark.thorough

REFUSED = (ValueError, TypeError)
NO_RESULT = {"progress", "overwrite", "compute", "ax", "storage_options", "engine"}
"""Options that do not act on the values of a result; they have tests of their own."""


@pytest.fixture(scope="module")
def ds():
    rng = np.random.default_rng(3)
    values = rng.integers(0, 200, (2, 2, 4, 20, 24)).astype("u2")
    values[:, 1] = (values[:, 0] + values[:, 1]) // 2
    values[:, :, :, 8:12, 8:12] += 120
    cells = rng.integers(0, 3, (4, 20, 24))
    values[..., cells == 2] += 60
    balance(values)
    coords = {a: (a, np.arange(n) * 0.5, {"units": "µm", "spacing": 0.5}) for a, n in zip("zyx", (4, 20, 24))}  # noqa: B905
    found = xr.Dataset({"image": (tuple("tczyx"), values)}, coords=coords | {"c": ["A", "B"]})
    return found.assign(
        cells=(tuple("zyx"), cells, {"kind": "labels"}), roi=(tuple("yx"), cells[0] > 0, {"kind": "mask"})
    )


def balance(values):
    """Make the mean of each two planes whole, so that some pixels lie at it: Li's ICQ has a rule for these."""
    for part in (values[t, c, z : z + 2] for t, c, z in np.ndindex(2, 2, 3) if z != 1):
        flat = part.reshape(-1)
        excess = int(flat.sum()) - flat.size * round(flat.mean())
        flat[np.flatnonzero(flat > 0)[: abs(excess)]] -= np.sign(excess).astype(flat.dtype)
        part[...] = flat.reshape(part.shape)


def blobs():
    rng = np.random.default_rng(5)
    n = 40
    places = {"z": rng.uniform(0, 1.4, n), "y": rng.uniform(0, 9, n), "x": rng.uniform(0, 11, n)}
    return pd.DataFrame({"blob_id": range(n), "channel": ["A", "B"] * 20, "t": 0} | places)


def same(one, two):
    """Whether two results are the same, with dtypes and coordinates."""
    if type(one) is not type(two):
        return False
    if isinstance(one, xr.Dataset):
        return one.equals(two) and one.dtypes == two.dtypes
    if isinstance(one, xr.DataArray):
        return one.equals(two) and one.dtype == two.dtype
    if isinstance(one, pd.DataFrame):
        return one.equals(two)
    if isinstance(one, xr.DataTree):
        return one.equals(two)
    if isinstance(one, Patches):
        first, second = (p.table for p in (one, two))
        if not first.equals(second) or one.variables != two.variables or one.dims != two.dims:
            return False
        return all(np.array_equal(one.read([k], v), two.read([k], v)) for v in one.variables for k in range(len(one)))
    if hasattr(one, "figure"):
        return np.array_equal(drawn(one), drawn(two))
    if isinstance(one, np.ndarray) and one.dtype == object:
        return all(np.array_equal(drawn(a), drawn(b)) for a, b in zip(one, two, strict=True))
    return bool(np.array_equal(one, two))


def drawn(ax):
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())


def options_of(function):
    """Names of the options of a function: what has a default."""
    return {
        n
        for n, p in inspect.signature(function).parameters.items()
        if p.default is not p.empty and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }


# colocalization


def shifts():
    return xr.DataArray([[0.0] * 3, [0.5, 0.25, 0.75]], dims=("c", "axis"), coords={"axis": list("zyx")})


MASKED = {"mask": "roi", "labels": "cells", "pairs": ("B", "A")}
COLOC = {
    "measure": (
        (),
        {},
        MASKED
        | {
            "measures": "n",
            "thresholds": 100,
            "thresholds_from": "image",
            "costes_options": {"scale": 100},
        },
    ),
    "manders": ((), {}, {"pairs": ("B", "A"), "thresholds": 100, "denominator": "above"}),
    "pearson": ((), {}, {"pairs": [("A", "B"), ("B", "A")]}),
    "spearman": ((), {}, {"pairs": [("A", "B"), ("B", "A")]}),
    "kendall_tau": ((), {}, {"pairs": [("A", "B"), ("B", "A")]}),
    "overlap": ((), {}, {"pairs": ("B", "A")}),
    "li_icq": ((), {}, {"pairs": [("A", "B"), ("B", "A")], "zero": "negative"}),
    "rwc": ((), {}, {"pairs": ("B", "A"), "thresholds": 100}),
    "intersection": ((), {}, {"pairs": ("B", "A")}),
    "linear_fit": ((), {}, {"pairs": ("B", "A"), "fit": "ols"}),
    "costes_threshold": (("A", "B"), {}, {"mask": "roi", "method": "cellprofiler_fast"}),
    "histogram": (("A", "B"), {}, {"mask": "roi"}),
    "significance": (
        (),
        {"block": 1, "n": 5},
        {
            "pairs": ("B", "A"),
            "units": "px",
            "mask": "roi",
            "n": 6,
            "seed": 1,
            "alternative": "less",
        },
    ),
    "ccf": ((), {}, {"pairs": ("B", "A"), "axis": "y", "limit": 1, "units": "px", "mask": "roi"}),
    "chromatic_shift": ((), {}, {"reference": "B", "upsample": 3, "normalization": "phase"}),
    "correct_shift": ((shifts(),), {}, {"order": 0, "fill": 7}),
    "blobs": ((blobs(),), {}, {"threshold": 50, "footprint": 1, "overlap": "last"}),
    "match": (
        (blobs(), 3.5),
        {},
        {
            "units": "px",
            "channels": ["A"],
            "roi": {"y": (0, 4)},
            "method": "max_pairs",
            "inner_padding": 2.0,
            "blocks": 1.0,
        },
    ),
    "nearest": ((blobs(), "A", "B"), {}, {}),
    "cross_k": ((blobs(), "A", "B"), {"radii": [1.0, 2]}, {"edges": "none", "n": 7, "seed": 2}),
    "scatter": (
        ("A", "B"),
        {},
        {
            "mask": "roi",
            "thresholds": 100,
            "fit": None,
            "bins": 9,
            "at": {"t": 1},
        },
    ),
    "ica": (("A", "B"), {}, {"mask": "roi", "bins": 9, "at": {"t": 1}}),
    "overlay": (("A", "B"), {}, {"mask": "roi", "thresholds": 100, "at": {"t": 1}}),
}
ELSEWHERE = {"objects", "insert_matches", "select_matches", "from_magmap", "plot_matches", "report"}
"""Methods whose options other test files try, since they need files or results of other methods."""


def test_every_method_of_coloc_is_here():
    methods = {n for n in dir(Coloc) if callable(getattr(Coloc, n)) and not n.startswith("_")}
    assert methods == set(COLOC) | ELSEWHERE
    for name, (_, _, options) in COLOC.items():
        assert options_of(getattr(Coloc, name)) - NO_RESULT <= set(options), name


def check(call, base, option, value):
    """The law for one option: another result, or an error that names the option."""
    import matplotlib.pyplot as plt

    expected = call(**base)
    try:
        ignored = same(expected, call(**base | {option: value}))
    except REFUSED as error:
        assert option in str(error), f"the error does not name {option}: {error}"  # noqa: PT017
        return
    finally:
        plt.close("all")
    assert not ignored, f"{option}={value!r} is accepted and ignored"


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, (_, _, options) in COLOC.items() for o in options])
def test_options_of_coloc(ds, name, option):
    args, base, options = COLOC[name]
    image = ds if name not in ("significance", "chromatic_shift", "ccf") else ds.isel(t=[0])
    check(lambda **kw: getattr(image.img.coloc, name)(*args, **kw), base, option, options[option])


SHORT = ("pearson", "spearman", "kendall_tau", "overlap", "li_icq", "intersection", "linear_fit", "manders", "rwc")
CONVENTIONS = {
    "above": "or",
    "below": "and",
    "manders_denominator": "above",
    "manders_comparison": ">",
    "icq_zero": "excluded",
    "overlap_region": "above",
    "rwc_ranks": "all",
    "fit": "ols",
}
GIVEN = {"thresholds": (100, 90), "thresholds_from": "image", "costes_options": {"ties": "below"}, **CONVENTIONS}


@pytest.mark.parametrize("option", GIVEN)
@pytest.mark.parametrize("name", SHORT)
def test_options_that_a_single_measure_passes_on(ds, name, option):
    own = {"manders": ("manders_denominator",), "li_icq": ("icq_zero",), "linear_fit": ("fit",)}
    if option in own.get(name, ()):
        pytest.skip("has a shorter name here")
    check(getattr(ds.img.coloc, name), {}, option, GIVEN[option])
    if name in ("manders", "rwc") and option not in ("thresholds",):
        check(getattr(ds.img.coloc, name), {"thresholds": "costes", "labels": "cells"}, option, GIVEN[option])


@pytest.mark.parametrize("measure", [*ALL, "intersection1", "n_above", "spearman_t"])
@pytest.mark.parametrize("option", GIVEN)
@pytest.mark.parametrize("base", [{}, {"thresholds": (150, 140)}, {"thresholds": "otsu", "labels": "cells"}])
def test_options_of_every_measure(ds, measure, option, base):
    if base and not {
        "pearson_above",
        "pearson_below",
        "manders_tm1",
        "manders_tm2",
        "rwc1",
        "rwc2",
        "threshold1",
        "threshold2",
        "n_above",
    } & {measure}:
        with pytest.raises(ValueError, match="thresholds"):
            ds.img.coloc.measure(measures=measure, **base)
        return
    image = ds.isel(t=[0], z=[0, 1])
    check(lambda **kw: image.img.coloc.measure(measures=measure, **kw), base, option, GIVEN[option])


def test_every_convention_is_tried():
    assert set(CONVENTIONS) == set(Conventions.__dataclass_fields__)


def test_a_report_takes_the_options_of_measure():
    assert options_of(report) - NO_RESULT == {"pairs", "thresholds", "mask"}


DETECT = {
    "channels": "A",
    "units": "px",
    "threshold": 0.02,
    "method": "dog",
    "num_sigma": 3,
    "sigma_ratio": 1.3,
    "overlap": 0.9,
}


@pytest.mark.parametrize("method", ["log", "dog"])
@pytest.mark.parametrize("option", DETECT)
def test_options_of_detect_blobs(option, method):
    pytest.importorskip("skimage")
    assert options_of(detect_blobs) == set(DETECT)
    rng = np.random.default_rng(2)
    values = (rng.random((2, 48, 48)) > 0.96).astype(float)
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(values, (0, 2, 2)) * 3
    coords = {a: (a, np.arange(48) * 0.5) for a in "yx"}
    image = xr.Dataset({"image": (("c", "y", "x"), values)}, coords=coords | {"c": ["A", "B"]})
    value = "log" if (option, method) == ("method", "dog") else DETECT[option]
    base = {"min_radius": 1, "max_radius": 2.5, "threshold": 0.05, "overlap": 0.01, "method": method}
    if method == "dog" and option != "sigma_ratio":
        base["sigma_ratio"] = 1.2
    check(lambda **kw: detect_blobs(image, **kw), base, option, value)


# patches


def weights():
    found = np.zeros((20, 24))
    found[12:, 14:] = 1
    return xr.DataArray(found, dims=("y", "x"))


def coarse():
    coords = {a: 0.25 + np.arange(n) for a, n in (("y", 10), ("x", 12))}
    return xr.DataArray(np.ones((2, 2, 10, 12)), dims=tuple("tcyx"), coords=coords, name="low")


SAMPLES = {
    "grid": {},
    "random": {"n": 9},
    "stratified": {},
    "weighted": {"n": 9, "weights": weights()},
    "centers": {"centers": pd.DataFrame({"t": 0, "y": [3, 9], "x": [4, 12]})},
    "fixed": {"table": pd.DataFrame({"t0": 0, "y0": [2, 8], "x0": [3, 10]})},
}
PATCHES = {
    "sample": "random",
    "n": 5,
    "seed": 4,
    "locality": 3,
    "step": 3,
    "overlap": 2,
    "halo": 2,
    "units": "physical",
    "edge": "pad",
    "pad_mode": "reflect",
    "fill_value": 9,
    "over": [],
    "variables": ["image", "roi"],
    "paired": {"other": weights()},
    "levels": [coarse()],
    "weights": "roi",
    "mask": weights(),
    "labels": "roi",
    "balance": {1: 2.0},
    "min_coverage": 0.5,
    "where": mean_std(160),
    "centers": pd.DataFrame({"t": [0], "y": [4.0], "x": [5.0]}),
    "table": pd.DataFrame({"t0": [0], "y0": [1], "x0": [2]}),
}
SEEDLESS = {"grid", "centers", "fixed"}
"""Here the seed is that of the order of batches."""


def test_every_option_of_patches_is_here():
    assert options_of(intake_img.patches) == set(PATCHES)


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("option", PATCHES)
def test_options_of_patches(ds, sample, option):
    if option == "seed" and sample in SEEDLESS:
        pytest.skip("the seed is that of the order of batches")
    image = ds[["image"]].isel(z=0, drop=True).assign(roi=ds.roi.astype("u1"))
    image.image.values[0, 0] += np.arange(20, dtype="u2")[:, None] * 7
    base = {"sample": sample, "variables": "image"} | SAMPLES[sample]
    value = "grid" if option == "sample" != sample and sample == "random" else PATCHES[option]
    size = {"y": 6, "x": 6}
    check(lambda **kw: intake_img.patches(image, size, **kw), base, option, value)


# processing


def one_plane():
    rng = np.random.default_rng(9)
    coords = {a: (a, np.arange(n) * 0.25, {"units": "µm", "spacing": 0.25}) for a, n in zip("yx", (21, 26))}  # noqa: B905
    values = rng.integers(3, 250, (3, 21, 26)).astype("u1")
    return xr.DataArray(values, dims=("t", "y", "x"), coords=coords, name="image")


VALUES = {
    "sigma": 1.2,
    "order": 1,
    "mode": "constant",
    "cval": 9,
    "truncate": 1.0,
    "radius": 1,
    "units": "physical",
    "dims": "x",
    "output_dtype": "f8",
    "size": 3,
    "footprint": np.ones((1, 3)),
    "origin": 1,
    "axis": "y",
    "block_size": 7,
    "method": "mean",
    "offset": 2.0,
    "param": 0.3,
}
FILTERS = {
    "gaussian_filter": {},
    "median_filter": {},
    "uniform_filter": {},
    "maximum_filter": {},
    "minimum_filter": {},
    "percentile_filter": {"percentile": 30},
    "rank_filter": {"rank": 1},
    "grey_erosion": {},
    "grey_dilation": {},
    "grey_opening": {},
    "grey_closing": {},
    "white_tophat": {},
    "black_tophat": {},
    "laplace": {},
    "gaussian_laplace": {},
    "gaussian_gradient_magnitude": {},
    "sobel": {},
    "prewitt": {},
    "correlate": {"weights": np.arange(9).reshape(3, 3)},
    "convolve": {"weights": np.arange(9).reshape(3, 3)},
    "threshold_local": {},
}


@pytest.mark.parametrize(
    ("name", "option"), [(n, o) for n in FILTERS for o in sorted(options_of(getattr(Processing, n)) - NO_RESULT)]
)
def test_options_of_filters(name, option):
    image = one_plane()
    base = dict(FILTERS[name])
    if "size" in options_of(getattr(Processing, name)):
        base["size"] = 4
    for more in (
        {},
        {"mode": "constant"},
        {"mode": "constant", "radius": 2},
        {"method": "median"},
        {"footprint": np.eye(3)},
    ):
        if (
            not set(more) <= options_of(getattr(Processing, name))
            or option in more
            or (option in ("size", "units") and "footprint" in more)
        ):
            continue
        if "footprint" in more:
            base.pop("size", None)
        value = "wrap" if option == "mode" else VALUES[option]
        if option == "origin" and name in ("grey_opening", "white_tophat"):
            pytest.skip("as in scipy, the second pass undoes the shift of the first")
        if option == "cval" and name in ("maximum_filter", "grey_dilation"):
            value = 255
        if option == "sigma" and name == "threshold_local" and more.get("method") == "median":
            value = 3.0
        check(lambda **kw: getattr(image.img, name)(**kw), base | more, option, value)


OTHERS = {
    "pyramid": ({}, {"factors": (2,), "method": "nearest"}),
    "rescale": ({"scale": 0.4}, {"spacing": 0.4, "order": 0, "anti_aliasing": False, "output_dtype": "f8"}),
    "normalize": ({}, {"p_min": 5, "p_max": 80, "by": None, "limits": (3, 90), "clip": False, "output_dtype": "f8"}),
    "clip": ({"min": 5}, {"max": 100}),
    "enhance_contrast": ({"kernel_size": 8}, {"clip_limit": 0.5, "kernel_size": 4, "nbins": 16}),
    "rolling_ball": ({"radius": 3}, {"units": "physical", "dims": "x"}),
    "subtract_background": ({"radius": 3}, {"units": "physical", "dims": "x"}),
    "label": ({}, {"connectivity": 2, "dims": "x"}),
    "max_projection": ({"dim": "y"}, {}),
}


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, (_, options) in OTHERS.items() for o in options])
def test_options_of_geometry_and_measures(name, option):
    pytest.importorskip("skimage")
    base, options = OTHERS[name]
    image = one_plane()
    image = image.rename(t="c") if name == "normalize" else image > 150 if name == "label" else image
    check(lambda **kw: getattr(image.img, name)(**kw), base, option, options[option])
    if name == "normalize" and option not in ("limits", "output_dtype"):
        check(lambda **kw: image.img.normalize(**kw), {"limits": (3, 200)}, option, options[option])
