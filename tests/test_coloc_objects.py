"""Overlaps and distances of objects equal counting and measuring them one by one; pictures and reports are drawn."""

from __future__ import annotations

import os
import warnings

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import center_of_mass
from scipy.ndimage import label as components
from scipy.spatial.distance import cdist

import intake_img
from intake_img.doors import cli
from intake_img.storage.files import File

pytestmark = pytest.mark.thorough

SPACING = {"z": 2.0, "y": 0.5, "x": 0.5}


@pytest.fixture(scope="module")
def two():
    rng = np.random.default_rng(0)
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(size=(2, 12, 40, 45)), (0, 1, 2, 2))
    return [components(n > np.quantile(n, 0.9))[0].astype(np.int32) for n in noise]


def labelled(values, chunks=None):
    coords = {a: (a, np.arange(n) * SPACING[a], {"units": "µm"}) for a, n in zip("zyx", values.shape, strict=True)}
    return xr.DataArray(da.from_array(values, chunks=chunks or values.shape), dims=tuple("zyx"), coords=coords)


def test_objects_equal_brute_force(two):
    scale = np.array(list(SPACING.values()))
    limit = 3.0
    ds = xr.Dataset({"image": (tuple("czyx"), np.zeros((2, 12, 40, 45), np.uint8))})
    found = ds.img.coloc.objects(*(labelled(x, (5, 13, 45)) for x in two), max_distance=limit)
    whole = ds.img.coloc.objects(*(labelled(x) for x in two), max_distance=limit)
    assert found.equals(whole)
    assert found.attrs["units"] == "µm"
    points = [{k: np.argwhere(x == k) * scale for k in range(1, x.max() + 1)} for x in two]
    want = {}
    for p, one in points[0].items():
        for q, other in points[1].items():
            distance = cdist(one, other).min()
            if distance <= limit:
                want[p, q] = distance
    assert list(zip(found["label1"], found["label2"], strict=True)) == sorted(want)
    assert len(want) > 20
    for row in found.itertuples():
        common = int(((two[0] == row.label1) & (two[1] == row.label2)).sum())
        sizes = [int((x == k).sum()) for x, k in zip(two, (row.label1, row.label2), strict=True)]
        assert (row.overlap, row.size1, row.size2) == (common, *sizes)
        assert row.fraction1 == common / sizes[0]
        assert row.iou == common / (sum(sizes) - common)
        centres = [np.array(center_of_mass(x == k)) * scale for x, k in zip(two, (row.label1, row.label2), strict=True)]
        assert row.centre_distance == pytest.approx(np.linalg.norm(centres[0] - centres[1]))
        assert row.edge_distance == pytest.approx(want[row.label1, row.label2])


def test_only_overlaps_without_a_limit(two):
    ds = xr.Dataset({"image": (tuple("czyx"), np.zeros((2, 12, 40, 45), np.uint8))})
    found = ds.img.coloc.objects(*(labelled(x) for x in two))
    assert (found["overlap"] > 0).all()
    none = ds.img.coloc.objects(labelled(two[0]), labelled(two[0] * 0))
    assert len(none) == 0
    assert "iou" in none
    with pytest.raises(ValueError, match="labels2 has length 3 along 'z', labels1 12"):
        ds.img.coloc.objects(labelled(two[0]), labelled(two[1][:3]).drop_vars("z", errors="ignore"))
    with pytest.raises(ValueError, match="the label images differ"):
        ds.img.coloc.objects(labelled(two[0]), labelled(two[1])[0])
    with pytest.raises(TypeError, match="labels2 are float64"):
        ds.img.coloc.objects(labelled(two[0]), labelled(two[1] * 1.0))


# pictures and reports


@pytest.fixture
def ds():
    import matplotlib as mpl

    mpl.use("agg")
    rng = np.random.default_rng(0)
    a = rng.poisson(20, (2, 5, 30, 40)).astype(np.uint16)
    values = np.stack([a, a // 2 + rng.poisson(5, a.shape).astype(np.uint16)], axis=1)
    coords = {"c": ["actin", "DNA"]} | {
        k: (k, np.arange(n) * SPACING[k], {"units": "µm"}) for k, n in zip("zyx", a.shape[1:], strict=True)
    }
    yield xr.Dataset({"image": (tuple("tczyx"), da.from_array(values, chunks=(1, 1, 5, 20, 20)))}, coords=coords)
    import matplotlib.pyplot as plt

    plt.close("all")


def test_scatter_is_labelled_and_counts_every_pixel(ds):
    ax = ds.img.coloc.scatter("actin", "DNA", thresholds="costes", bins=32, at={"t": 1})
    assert ax.get_xlabel() == "actin (grey value)"
    assert ax.get_ylabel() == "DNA (grey value)"
    assert ax.collections[0].get_array().sum() == 5 * 30 * 40
    assert "thresholds" in ax.get_legend().get_texts()[-1].get_text()
    assert ax.figure.axes[1].get_ylabel() == "pixels"
    floats = (ds * 0.5).img.coloc.scatter("actin", "DNA", thresholds=(3, 4), fit="ols", ax=ax.figure.axes[0])
    assert floats is ax.figure.axes[0]


def test_ica_overlay_and_matches(ds):
    import pandas as pd

    one, two = ds.img.coloc.ica("actin", "DNA")
    assert one.get_ylabel() == "actin (grey value)"
    assert two.collections[0].get_array().sum() == 5 * 30 * 40
    ax = ds.img.coloc.overlay("actin", "DNA", thresholds=(25, 15), at={"t": 1})
    values = ds.image.isel(t=1).values
    both = ((values[0] > 25) & (values[1] > 15)).any(axis=0)
    assert np.array_equal((ax.images[0].get_array() == 1).all(axis=-1), both)
    assert ax.get_xlabel() == "x (µm)"
    blobs = pd.DataFrame({"channel": ["actin", "DNA"], "t": [0, 0], "z": [0.0, 0], "y": [3.0, 3.2], "x": [3.0, 3.2]})
    found = ds.img.coloc.match(blobs, 1)
    ax = ds.img.coloc.plot_matches(found, channel="DNA")
    assert ax.get_title() == "1 matches"


@pytest.mark.parametrize(
    ("stated", "colors", "mark"),
    [
        (None, ["#ff3b30", "#4d6dff"], (1, 1, 1)),  # by name, as in plot
        (["00FFFF", "#ff9500"], ["#00ffff", "#ff9500"], (1, 1, 1)),
        (["#ffffff", "#22dd44"], ["#ffffff", "#22dd44"], (1, 0.84, 0.04)),
        (["#ff0000", "#ff0000"], ["#22dd44", "#e040fb"], (1, 1, 1)),  # one colour for both would show nothing
    ],
)
def test_pictures_of_colocalization_have_the_colours_of_the_image(ds, stated, colors, mark):
    import pandas as pd
    from matplotlib.colors import to_rgb

    ds = ds.isel(t=[0]).assign_coords(c=("c", ["actin", "DNA"], {} if stated is None else {"color": stated}))
    ax = ds.img.coloc.overlay("actin", "DNA", thresholds=(25, 15))
    shown = [p.get_facecolor()[:3] for p in ax.get_legend().get_patches()]
    np.testing.assert_allclose(shown, [to_rgb(c) for c in colors] + [mark], atol=1e-6)
    assert [t.get_text() for t in ax.get_legend().get_texts()][:2] == ["actin", "DNA"]
    picture, values = ax.images[0].get_array(), ds.image.values[0].max(axis=1)
    alone = (values[0] >= np.percentile(values[0], 99.8)) & (values[1] <= np.percentile(values[1], 0.5))
    both = ((ds.image.values[0, 0] > 25) & (ds.image.values[0, 1] > 15)).any(axis=0)
    assert np.allclose(picture[both], mark)
    if (alone & ~both).any():
        assert np.allclose(picture[alone & ~both], to_rgb(colors[0]), atol=1e-6)
    blobs = pd.DataFrame({"channel": ["actin", "DNA"], "t": [0, 0], "z": [0.0, 0], "y": [3.0, 3.2], "x": [3.0, 3.2]})
    lines = ds.img.coloc.plot_matches(ds.img.coloc.match(blobs, 1)).lines
    assert lines[-2].get_color() != lines[-1].get_color()
    if stated is None:
        assert to_rgb(lines[-2].get_color()) == to_rgb(colors[0])


def test_channels_without_names_have_colours(ds):
    ax = ds.drop_vars("c").isel(t=0).img.coloc.overlay(0, 1, thresholds=(25, 15))
    assert [t.get_text() for t in ax.get_legend().get_texts()][:2] == ["channel 0", "channel 1"]


def test_report(ds, tmp_path):
    small = ds.isel(t=[0])
    table = small.img.coloc.report(tmp_path / "a.html", images={"other": small}, thresholds="otsu")
    assert table["image"].tolist() == ["image", "other"]
    text = (tmp_path / "a.html").read_text()
    assert text.count("data:image/png") == 2
    assert "pearson" in text
    with pytest.raises(FileExistsError):
        small.img.coloc.report(tmp_path / "a.html")
    small.img.coloc.report(tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes()[:5] == b"%PDF-"
    with pytest.raises(ValueError, match=r"a report is \.html or \.pdf"):
        small.img.coloc.report(tmp_path / "a.docx")
    with pytest.raises(ValueError, match="has the name of this image"):
        small.img.coloc.report(tmp_path / "b.pdf", images={"image": small})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.pdf"]
    url = f"memory://{os.getpid()}-reports/a.html"
    small.img.coloc.report(url, thresholds="otsu")
    with pytest.raises(FileExistsError):
        small.img.coloc.report(url, thresholds="otsu")
    small.img.coloc.report(url, thresholds="otsu", overwrite=True)
    assert File.parse(url).read().count(b"data:image/png") == 1


def test_command(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 99, (2, 20, 20)).astype(np.uint8))
    intake_img.imsave(
        xr.Dataset({"image": (("c", "y", "x"), np.load(tmp_path / "a.npy"))}, coords={"c": ["g", "r"]}),
        tmp_path / "b.npz",
    )
    path = str(tmp_path / "b.npz")
    assert cli.main(["coloc", path, "--pair", "g", "r", "--out", str(tmp_path / "r.html")]) == 0
    assert (tmp_path / "r.html").exists()
    assert cli.main(["coloc", path, "--thresholds", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("image,pair")
    assert cli.main(["coloc", path, "--pair", "g", "blue"]) == 2
    assert f"{path}: there is no channel 'blue'" in capsys.readouterr().err


@pytest.mark.parametrize("chunks", [None, 4])
@pytest.mark.parametrize("dtype", ["i2", "i8", "u2"])
def test_numbers_below_0_are_no_objects_and_a_warning_names_them(chunks, dtype):
    skimage = pytest.importorskip("skimage.measure")
    values = np.zeros((9, 9), dtype)
    values[1:4, 1:8], values[6:8, 2:5] = 3, 1
    other = np.roll(values, 1, axis=1)
    if dtype != "u2":
        values[0], other[8] = -5, -1
    one, two = (xr.DataArray(da.from_array(v, chunks=chunks or v.shape), dims=("y", "x")) for v in (values, other))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        regions = one.img.regionprops()
        objects = xr.Dataset({"a": one, "b": two}).img.coloc.objects("a", "b")
    assert regions["label"].tolist() == [r.label for r in skimage.regionprops(values)] == [1, 3]
    assert regions["area"].tolist() == [6, 21]
    assert objects[["label1", "label2", "size1", "size2"]].values.tolist() == [[1, 1, 6, 6], [3, 3, 21, 21]]
    found = [str(w.message) for w in said if "below 0" in str(w.message)]
    assert len(found) == (0 if dtype == "u2" else 3)
    if found:
        assert "labels contains numbers below 0 (-5)" in found[0]
        assert "labels1" in found[1]
        assert "labels2 contains numbers below 0 (-1)" in found[2]
