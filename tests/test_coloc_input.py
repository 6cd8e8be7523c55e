"""Wrong input to every public method of ``ds.img.coloc`` is refused by a sentence that names the argument."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import intake_img  # noqa: F401

pytestmark = pytest.mark.thorough

NAN = float("nan")


@pytest.fixture(scope="module")
def ds():
    values = np.random.default_rng(0).integers(0, 200, (2, 2, 3, 12, 14)).astype(np.uint16)
    coords = {a: (a, np.arange(n) * 0.5, {"units": "µm", "spacing": 0.5}) for a, n in zip("zyx", (3, 12, 14))}  # noqa: B905
    return xr.Dataset({"image": (tuple("tczyx"), values)}, coords=coords | {"c": ["A", "B"]})


def blobs(**columns):
    places = {"z": [0.5] * 6, "y": [1.0, 1, 3, 3, 5, 5], "x": [1.0, 1.2, 3, 3.2, 5, 5.2]}
    return pd.DataFrame({"blob_id": range(6), "channel": ["A", "B"] * 3, "t": [0] * 6} | places).assign(**columns)


def call(name, *args, **options):
    return lambda ds: getattr(ds.img.coloc, name)(*args, **options)


def detect(**options):
    return lambda ds: ds.img.detect_blobs(**{"min_radius": 1, "max_radius": 2} | options)


def on(change, name="measure", **options):
    return lambda ds: getattr(change(ds).img.coloc, name)(**options)


def shifts(axes="zyx", channels=2):
    return xr.DataArray(np.zeros((channels, len(axes))), dims=("c", "axis"), coords={"axis": list(axes)})


def match(**options):
    return call("match", blobs(), **{"tol": 1} | options)


CASES = [
    # pixels
    (call("measure", "A"), TypeError, "pairs='A': expected a pair"),
    (call("measure", 3), TypeError, "pairs=3: expected a pair"),
    (call("measure", []), TypeError, "pairs=\\[\\]: expected a pair"),
    (call("measure", ("A", "B", "A")), ValueError, "pairs contain 'A'"),
    (call("measure", ("A", "Z")), ValueError, "no channel 'Z'; the image has 'A', 'B'"),
    (call("measure", (0, 5)), ValueError, "no channel 5"),
    (call("measure", measures=3), TypeError, "measures=3: expected names"),
    (call("measure", measures=[]), ValueError, "measures=\\[\\]: expected at least one"),
    (call("measure", measures=["r"]), ValueError, "measures contain 'r'"),
    (call("measure", mask=np.ones((3, 3, 3))), ValueError, "mask has length 3 along 'y'"),
    (call("measure", mask=np.ones(3)), ValueError, "mask has 1 axes"),
    (call("measure", mask=[1, 2]), ValueError, "mask has 1 axes"),
    (call("measure", mask="nope"), KeyError, "mask='nope'"),
    (call("measure", mask=np.full((3, 12, 14), "a")), TypeError, "mask contains <U1"),
    (call("measure", mask=xr.DataArray(np.ones((2, 12)), dims=("c", "y"))), ValueError, "mask has the axis 'c'"),
    (call("measure", labels=np.ones((3, 12, 14))), TypeError, "labels are float64"),
    (call("measure", labels=np.ones((12, 13), int)), ValueError, "labels has 2 axes"),
    (call("measure", thresholds="x"), ValueError, "thresholds='x'"),
    (call("measure", thresholds="abc%"), ValueError, "thresholds='abc%'"),
    (call("measure", thresholds="-5%"), ValueError, "thresholds='-5%'"),
    (call("measure", thresholds=(1, 2, 3)), TypeError, "thresholds=\\(1, 2, 3\\)"),
    (call("measure", thresholds=("a", 1)), TypeError, "thresholds='a'"),
    (call("measure", thresholds={"A": "x", "B": 1}), TypeError, "thresholds\\['A'\\]='x'"),
    (call("measure", thresholds={"A": 1}), ValueError, "thresholds lack the channel 'B'"),
    (call("measure", thresholds={"A": 1, "Z": 1}), ValueError, "no channel 'Z'"),
    (call("measure", thresholds=object()), TypeError, "thresholds=<object"),
    (call("measure", thresholds=NAN), ValueError, "thresholds=nan"),
    (call("measure", thresholds_from="x"), ValueError, "thresholds_from='x'"),
    (call("measure", thresholds="costes", costes_options={"q": 1}), TypeError, "costes_options has no 'q'"),
    (call("measure", thresholds="costes", costes_options=5), TypeError, "costes_options=5"),
    (
        call("measure", thresholds="costes", costes_options={"scale": 0}),
        ValueError,
        "scale=0: expected a finite number above",
    ),
    (call("measure", thresholds="costes", costes_options={"ties": "x"}), ValueError, "ties='x'"),
    (call("measure", abov="and"), TypeError, "has no 'abov': expected names among above, below"),
    (call("measure", above=1), ValueError, "above=1"),
    (call("manders", denominator="x", thresholds=1), ValueError, "manders_denominator='x'"),
    (call("li_icq", zero=3), ValueError, "icq_zero=3"),
    (call("linear_fit", fit="x"), ValueError, "fit='x'"),
    (call("costes_threshold", "A", "B", method="x"), ValueError, "method='x'"),
    (call("costes_threshold", "A", None), ValueError, "no channel None"),
    (call("costes_threshold", "A", "B", foo=1), TypeError, "costes_options has no 'foo'"),
    (call("histogram", "A", "Q"), ValueError, "no channel 'Q'"),
    (call("histogram", "A", "B", mask=np.ones((2, 2))), ValueError, "mask has 2 axes"),
    # significance and shift
    (call("significance", block=-1), ValueError, "block=-1: expected a finite number above 0"),
    (call("significance", block="a"), TypeError, "block='a'"),
    (call("significance", block=NAN), ValueError, "block=nan"),
    (call("significance", block=[1, 2]), TypeError, "block=\\[1, 2\\]"),
    (call("significance", block={"q": 1}), ValueError, "block names the axis 'q'"),
    (call("significance", block={"y": 1}), ValueError, "block lacks the axis 'z'"),
    (call("significance", block={"z": "a", "y": 1, "x": 1}), TypeError, "block\\['z'\\]='a'"),
    (call("significance", block=1, units="mm"), ValueError, "units='mm'"),
    (call("significance", block=1, n=-1), ValueError, "n=-1"),
    (call("significance", block=1, n=2.5), TypeError, "n=2.5"),
    (call("significance", block=1, seed="a"), TypeError, "seed='a'"),
    (call("significance", block=1, alternative="x"), ValueError, "alternative='x'"),
    (call("ccf", axis="c"), ValueError, "axis='c'"),
    (call("ccf", limit=-1), ValueError, "limit=-1"),
    (call("ccf", limit="a"), TypeError, "limit='a'"),
    (call("ccf", units="um"), ValueError, "units='um'"),
    (call("chromatic_shift", "Q"), ValueError, "no channel 'Q'"),
    (call("chromatic_shift", upsample=0), ValueError, "upsample=0"),
    (call("chromatic_shift", normalization="x"), ValueError, "normalization='x'"),
    (call("correct_shift", shifts(), order=3), ValueError, "order=3"),
    (call("correct_shift", shifts(), fill="a"), TypeError, "fill='a'"),
    (call("correct_shift", 5), TypeError, "shifts are int"),
    (call("correct_shift", xr.DataArray([1, 2], dims="q")), ValueError, "shifts have the axes"),
    (call("correct_shift", shifts(channels=3)), ValueError, "shifts has length 3 along 'c'"),
    (call("correct_shift", shifts("zy")), ValueError, "shifts lack the axis 'x'"),
    # blobs
    (call("blobs", [1]), TypeError, "blobs are list"),
    (call("blobs", blobs().drop(columns="y")), ValueError, "blobs lack the column 'y'"),
    (call("blobs", blobs(channel="Q")), ValueError, "no channel 'Q'"),
    (call("blobs", blobs(y="a")), TypeError, "the column 'y' of blobs"),
    (call("blobs", blobs(), threshold=101), ValueError, "threshold=101"),
    (call("blobs", blobs(), threshold="a"), ValueError, "threshold='a'"),
    (call("blobs", blobs(), threshold=None), TypeError, "threshold=None"),
    (call("blobs", blobs(), threshold={"A": "x"}), TypeError, "threshold\\['A'\\]='x'"),
    (call("blobs", blobs(), footprint="a"), ValueError, "footprint='a'"),
    (call("blobs", blobs(), footprint=-1), ValueError, "footprint=-1"),
    (call("blobs", blobs(), footprint=None), TypeError, "footprint=None"),
    (call("blobs", blobs(), footprint={"z": 1}), ValueError, "footprint lacks the axis 'y'"),
    (call("blobs", blobs(), footprint={"z": -1, "y": 1, "x": 1}), ValueError, "footprint\\['z'\\]=-1"),
    (call("blobs", blobs(), footprint="radius"), ValueError, "needs a column 'radius'"),
    (call("blobs", blobs(radius=NAN), footprint="radius"), ValueError, "column 'radius'"),
    (call("blobs", blobs(), overlap="x"), ValueError, "overlap='x'"),
    (detect(min_radius=-1), ValueError, "min_radius=-1"),
    (detect(min_radius=3), ValueError, "min_radius=3 is larger than max_radius=2"),
    (detect(min_radius="a"), TypeError, "min_radius='a'"),
    (detect(min_radius={"q": 1}), ValueError, "min_radius names the axis 'q'"),
    (detect(max_radius=NAN), ValueError, "max_radius=nan"),
    (detect(channels="Q"), ValueError, "no channel 'Q'"),
    (detect(channels=2.5), TypeError, "channels=2.5"),
    (detect(units="mm"), ValueError, "units='mm'"),
    (detect(method="doh"), ValueError, "method='doh'"),
    (detect(num_sigma=0), ValueError, "num_sigma=0"),
    (detect(sigma_ratio=1), ValueError, "sigma_ratio=1"),
    (detect(overlap=2), ValueError, "overlap=2"),
    (detect(threshold="a"), TypeError, "threshold='a'"),
    # matching and statistics in space
    (call("match", 5, 1), TypeError, "blobs are int"),
    (match(tol="a"), TypeError, "tol='a'"),
    (match(tol=None), TypeError, "tol=None"),
    (match(tol=-1), ValueError, "tol=-1"),
    (match(tol=NAN), ValueError, "tol=nan"),
    (match(tol=float("inf")), ValueError, "tol=inf"),
    (match(tol=[1, 2, 3]), TypeError, "tol=\\[1, 2, 3\\]"),
    (match(tol={"z": 1, "y": 1, "x": 1, "q": 1}), ValueError, "tol names the axis 'q'"),
    (match(units="mm"), ValueError, "units='mm'"),
    (match(channels=["Q"]), ValueError, "no channel 'Q'"),
    (match(channels=1.5), TypeError, "channels=1.5"),
    (match(roi={"q": (0, 1)}), ValueError, "roi names the axis 'q'"),
    (match(roi=5), TypeError, "roi=5"),
    (match(roi={"x": 5}), TypeError, "roi\\['x'\\]: 5"),
    (match(roi={"x": (1, 2, 3)}), TypeError, "roi\\['x'\\]: \\(1, 2, 3\\)"),
    (match(roi={"x": ("a", 1)}), TypeError, "roi\\['x'\\]='a'"),
    (match(method="x"), ValueError, "method='x'"),
    (match(inner_padding="x"), TypeError, "inner_padding='x'"),
    (match(inner_padding=-1), ValueError, "inner_padding=-1"),
    (match(blocks=0), ValueError, "blocks=0"),
    (call("match", blobs(y=NAN), 1), ValueError, "blobs contain positions that are not finite"),
    (call("match", blobs(blob_id=1), 1), ValueError, "blob_id 1 occurs twice"),
    (call("nearest", 3, "A", "B"), TypeError, "blobs are int"),
    (call("nearest", blobs(), "A", "Q"), ValueError, "no channel 'Q'"),
    (call("nearest", blobs(y=NAN), "A", "B"), ValueError, "not finite"),
    (call("cross_k", blobs(), "A", "B", radii="a"), TypeError, "radii='a'"),
    (call("cross_k", blobs(), "A", "B", radii=[-1]), ValueError, "radii=-1"),
    (call("cross_k", blobs(), "A", "B", radii=[]), ValueError, "radii=\\[\\]"),
    (call("cross_k", blobs(), "A", "B", radii=[1], edges="x"), ValueError, "edges='x'"),
    (call("cross_k", blobs(), "A", "B", radii=[1], n=-1), ValueError, "n=-1"),
    (call("cross_k", blobs(), "A", "B", radii=[1], seed="a"), TypeError, "seed='a'"),
    (call("objects", 1, 2), TypeError, "labels1 are int"),
    (call("objects", "q", "image"), KeyError, "labels1='q'"),
    (lambda ds: ds.img.coloc.objects(ds.image.astype(float), ds.image), TypeError, "labels1 are float64"),
    (
        lambda ds: ds.img.coloc.objects(ds.image, ds.image[..., :3].drop_vars("x")),
        ValueError,
        "labels2 has length 3 along 'x'",
    ),
    (call("objects", "image", "image", max_distance=-1), ValueError, "max_distance=-1"),
    # storage
    (call("insert_matches", "a.db", None), ValueError, "blobs are needed"),
    (call("insert_matches", "a.db", 5), TypeError, "matches are int"),
    (call("insert_matches", 5, None, blobs()), TypeError, "target=5"),
    (call("insert_matches", "no/folder/a.db", None, blobs()), FileNotFoundError, "target='no/folder/a.db'"),
    (call("insert_matches", "nodb://x/y", None, blobs()), ValueError, "target='nodb://x/y'"),
    (call("insert_matches", "a.db", None, 5), TypeError, "blobs are int"),
    (call("insert_matches", "a.db", None, blobs(), experiment=5), TypeError, "experiment=5"),
    (
        call("insert_matches", "a.db", pd.DataFrame({"a": [1]}), blobs()),
        ValueError,
        "matches lack the column 'blob1_id'",
    ),
    (
        lambda ds: ds.img.coloc.insert_matches("a.db", ds.img.coloc.match(blobs(), 1), blobs().iloc[:1]),
        ValueError,
        "blobs lack the blob_id 1 that a match",
    ),
    (call("select_matches", "none.db"), FileNotFoundError, "there is no file 'none.db'"),
    (call("select_matches", "none.db", roi={"q": (0, 1)}), ValueError, "roi names the axis 'q'"),
    (call("select_matches", "none.db", roi=5), TypeError, "roi=5"),
    (call("from_magmap", "none.db"), FileNotFoundError, "no file 'none.db'"),
    # pictures
    (call("scatter", "A", "Q"), ValueError, "no channel 'Q'"),
    (call("scatter", "A", "B", fit="x"), ValueError, "fit='x'"),
    (call("scatter", "A", "B", bins=0), ValueError, "bins=0"),
    (call("scatter", "A", "B", at={"q": 0}), ValueError, "at names the axis 'q'"),
    (call("scatter", "A", "B", at={"t": 9}), ValueError, "at\\['t'\\]=9"),
    (call("scatter", "A", "B", at=5), TypeError, "at=5"),
    (call("ica", "A", "B", bins="a"), TypeError, "bins='a'"),
    (call("ica", "A", "B", ax=5), TypeError, "ax=5"),
    (call("overlay", "A", "B", at={"t": 9}), ValueError, "at\\['t'\\]=9"),
    (call("overlay", "A", "B", thresholds=None), ValueError, "thresholds=None"),
    (call("plot_matches", 5), TypeError, "matches are int"),
    (call("plot_matches", pd.DataFrame({"a": [1]})), ValueError, "matches lack the column 'channel1'"),
    (call("report", "a.txt"), ValueError, "a report is .html or .pdf"),
    (call("report", 5), TypeError, "not int"),
    (call("report", "a.html", images=5), TypeError, "images are int"),
    (call("report", "a.html", images={"a": 5}), TypeError, "images\\['a'\\] is int"),
    (call("report", "a.html", foo=1), TypeError, "has no 'foo'"),
    (call("report", "no/a.html"), FileNotFoundError, "there is no folder '.*no'"),
    # images
    (on(lambda ds: ds.astype(complex)), TypeError, "the image has dtype complex128"),
    (on(lambda ds: ds.isel(c=[0])), ValueError, "needs two channels"),
    (on(lambda ds: ds.isel(c=0)), ValueError, "needs a channel axis 'c'"),
    (on(lambda ds: ds.isel(z=0, y=0, x=0)), ValueError, "needs an axis of space"),
]


@pytest.mark.parametrize(("do", "kind", "sentence"), CASES, ids=[c[2] for c in CASES])
def test_wrong_input(do, kind, sentence, ds, tmp_path, monkeypatch):
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=sentence):
        do(ds)
    assert list(tmp_path.iterdir()) == []
    pyplot.close("all")


def test_an_empty_image_is_undefined(ds):
    empty = ds.isel(x=slice(0, 0))
    found = empty.img.coloc.measure(thresholds="costes")
    assert (found.n == 0).all()
    assert np.isnan(found.pearson).all()
    assert np.isnan(empty.img.coloc.ccf()).all()
    assert np.isnan(empty.img.coloc.significance(block=1, n=3).p_value).all()
