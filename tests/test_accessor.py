"""``ds.img``: what it says of an image, how it shows it, and what it draws."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import intake_img  # registers ds.img
from intake_img import imload
from intake_img.accessor.colors import default_colors, label_colors, legible, stated_colors
from intake_img.accessor.display import byte_size, summary
from intake_img.accessor.plot import bar_length
from intake_img.errors import AxesError, MissingExtraError
from intake_img.model.units import convert

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def even(axis, n, step, unit, start=0.0):
    return axis, start + step * np.arange(n), {"units": unit, "spacing": step}


@pytest.fixture
def ds():
    """Two channels of a stack in time, with labels; the value of each pixel encodes its position."""
    values = np.arange(2 * 2 * 3 * 20 * 30, dtype="uint16").reshape(2, 2, 3, 20, 30)
    labels = np.zeros((3, 20, 30), "int32")
    labels[:, 5:9, 5:9], labels[:, 10:15, 10:15] = 1, 2
    return xr.Dataset(
        {"image": (tuple("tczyx"), values), "cells": (tuple("zyx"), labels, {"kind": "labels"})},
        coords={
            "t": ("t", [0.0, 7.5], {"units": "s"}),
            "c": ["DAPI", "GFP"],
            "z": even("z", 3, 1.5, "µm"),
            "y": even("y", 20, 0.2, "µm", 100.0),
            "x": even("x", 30, 0.2, "µm"),
        },
        attrs={
            "uri": "/d/a.czi",
            "driver": "czi",
            "scene": "B",
            "scenes": ["A", "B"],
            "original_axes": "tczyx",
            "original_shape": [2, 2, 3, 20, 30],
            "fileheader": '{"a": 1}',
        },
    )


# what it says


def test_properties(ds):
    assert ds.img.axes == "tczyx"
    assert ds.img.channels == ["DAPI", "GFP"]
    assert ds.img.spacing == pytest.approx({"t": 7.5, "z": 1.5, "y": 0.2, "x": 0.2})
    assert ds.img.units == {"t": "s", "z": "µm", "y": "µm", "x": "µm"}
    assert ds.img.scene == "B"
    assert ds.img.scenes == ["A", "B"]
    assert ds.img.header == {"a": 1}
    assert ds["cells"].img.axes == "zyx"
    bare = xr.DataArray(np.zeros((3, 4)), dims=["y", "x"]).img
    assert (bare.channels, bare.spacing, bare.units, bare.scene, bare.scenes, bare.header) == (
        None,
        {},
        {},
        None,
        [],
        {},
    )


def test_text(ds):
    text = repr(ds.img)
    lines = [line.strip() for line in text.splitlines()]
    assert "image     tczyx 2 × 2 × 3 × 20 × 30, uint16, 14.4 kB" in lines
    assert "cells     zyx 3 × 20 × 30, int32, 7.2 kB, labels" in lines
    assert "scene     'B', 2 of 2: A, B" in lines
    assert "source    /d/a.czi (czi)" in lines
    assert "c   2  DAPI, GFP" in lines
    assert "y  20  every 0.2 µm, 4 µm in all, from 100 µm" in lines


def test_text_of_the_uneven_and_the_unknown():
    text = repr(
        xr.DataArray(
            np.zeros((3, 200, 4, 5), "uint8"),
            dims=list("tcyx"),
            coords={"t": ("t", [0.0, 1.0, 10.0], {"units": "s"}), "c": [f"channel {n}" for n in range(200)]},
        ).img
    )
    assert "0 to 10 s, not evenly spaced" in text
    assert "channel 7, ... (200)" in text
    assert "channel 8" not in text
    assert len(text) < 500


def test_chunks_are_counted(ds):
    lazy = ds.chunk({"t": 1, "z": 2})
    assert "chunks    1 × 2 × 2 × 20 × 30, 4 tasks" in repr(lazy.img)
    assert summary(lazy)["variables"]["image"]["tasks"] == 4
    assert "chunks" not in repr(ds.img)


def test_nothing_is_computed_to_be_shown():
    def never(*_):
        raise AssertionError("a pixel is read")

    array = da.map_blocks(never, chunks=((1, 1), (4,)), dtype="uint8", meta=np.empty((0, 0), "uint8"))
    image = xr.Dataset({"image": (("y", "x"), array)})
    assert "yx 2 × 4, uint8" in repr(image.img)
    assert "yx 2 × 4, uint8" in image.img._repr_html_()


def test_html_is_well_formed_and_escaped(ds):
    ds = ds.assign_coords(c=["<b>", 'a "&" b']).assign_attrs(uri="<script>alert(1)</script>")

    class Check(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.seen, self.text = [], set(), []

        def handle_starttag(self, tag, attrs):
            self.open.append(tag)
            self.seen.add(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            self.text.append(data)

    check = Check()
    check.feed(ds.img._repr_html_())
    check.close()
    assert check.open == []
    assert check.seen == {"table", "tbody", "tr", "th", "td", "details", "summary", "pre"}
    assert '<b>, a "&" b' in check.text


def test_the_header_is_folded(ds):
    header = {"PatientName": "Ada", "objective": "63x <oil>", "xml": "<a>\n <b/>\n</a>", "long": "z" * 19_000}
    kept = json.dumps(header)
    ds = ds.assign_attrs(fileheader=kept)
    assert f"header    {len(kept) / 1000:.1f} kB (ds.img.header)" in [x.strip() for x in repr(ds.img).splitlines()]
    html = ds.img._repr_html_()
    assert "<details><summary>objective, xml, long (19.1 kB)</summary>" in html
    assert "63x &lt;oil&gt;" in html
    assert "\n &lt;b" in html
    assert "ds.img.header)</pre>" in html
    assert "Ada" not in html
    assert "zzz" in html
    assert len(html) < 10_000
    assert ds.attrs["fileheader"] == kept
    assert ds.img.header == header


@pytest.mark.parametrize("header", ["{}", "", "no JSON", "[1]", 3, None, b"{}"])
def test_a_header_that_is_not_ours_is_no_trouble(ds, header):
    shown = ds.assign_attrs(fileheader=header).img
    assert "DAPI" in shown._repr_html_()
    assert "DAPI" in repr(shown)
    assert "<details>" not in shown._repr_html_()


def test_of_a_dataset_without_variables():
    with pytest.raises(ValueError, match="no variable"):
        _ = xr.Dataset().img.axes


@given(st.integers(0, 10**15))
def test_sizes_are_short_and_near(n):
    number, unit = byte_size(n).split()
    worth = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(number) * worth == pytest.approx(n, rel=0.06)
    assert len(number) <= 4


# what it draws


def picture(ax, n=0):
    """The array that was drawn."""
    return np.asarray(ax.images[n].get_array())


def words(ax):
    return {t.get_text() for t in ax.texts} | {ax.get_title()}


def bar(ax):
    """Length and label of the scale bar."""
    (box,) = [a for a in ax.artists if type(a).__name__ == "AnchoredSizeBar"]
    assert all(part.get_path_effects() for part in box.size_bar.get_children())  # outlined
    (rectangle,) = box.size_bar.get_children()
    return rectangle.get_width(), box.txt_label.get_text()


def test_the_plane_that_is_asked_for(ds):
    ax = ds.img.plot("GFP", t=7.5, z=0, limits=(0, 7199))
    expected = ds["image"].values[1, 1, 0] / 7199
    np.testing.assert_allclose(picture(ax), np.repeat(expected[..., None], 3, -1), atol=1e-6)
    assert "t = 7.5 s, z = 0 µm" in words(ax)
    assert "GFP" in words(ax)


def test_by_default_the_middle_of_the_stack(ds):
    ax = ds.img.plot(0, limits=(0, 7199))
    np.testing.assert_allclose(picture(ax)[..., 0], ds["image"].values[0, 0, 1] / 7199, atol=1e-6)
    assert "t = 0 s, z = 1.5 µm" in words(ax)


@pytest.mark.parametrize("how", ["max", "min", "mean"])
def test_projections(ds, how):
    ax = ds.img.plot("DAPI", projection=how, t=1, limits=(0, 7199))
    expected = getattr(ds["image"].values[1, 0], how)(axis=0) / 7199
    np.testing.assert_allclose(picture(ax)[..., 0], expected, atol=1e-6)
    assert f"t = 7.5 s, {how} over z" in words(ax)


def test_channels_are_overlaid_in_their_colours(ds):
    ax = ds.img.plot(colors=["red", "#00ff00"], limits=(0, 7199), z=0)
    values = ds["image"].values[0, :, 0] / 7199
    np.testing.assert_allclose(picture(ax)[..., 0], values[0], atol=1e-6)
    np.testing.assert_allclose(picture(ax)[..., 1], values[1], atol=1e-6)
    np.testing.assert_allclose(picture(ax)[..., 2], 0)
    assert {"DAPI", "GFP"} <= words(ax)


def test_panels(ds):
    axes = ds.img.plot(panels=True, colors={"GFP": "lime"}, limits={"GFP": (0, 7199), 0: (0, 100)}, z=0)
    assert axes.shape == (2,)
    np.testing.assert_allclose(picture(axes[1])[..., 1], ds["image"].values[0, 1, 0] / 7199, atol=1e-6)
    assert picture(axes[0]).max() == pytest.approx(1)
    _, mine = plt.subplots(1, 2)
    assert list(ds.img.plot(panels=True, ax=mine)) == list(mine)
    with pytest.raises(ValueError, match="ax has 1 axes, but 2 panels"):
        ds.img.plot(panels=True, ax=mine[0])


def test_what_netcdf_makes_of_lists_of_one(tmp_path):
    ds = one_channel()
    ds.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as back:
        assert back.img.scenes == ds.img.scenes == ["Position 7"]
        assert stated_colors(back["image"]) == stated_colors(ds["image"]) == {0: "#0000FF"}
        assert (back.img.spacing, back.img.units, back.img.channels) == ({"x": 0.5}, {"x": "µm"}, ["DAPI"])


def one_channel():
    coords = {"c": ("c", ["DAPI"], {"color": ["#0000FF"]}), "x": ("x", [0.0], {"units": "µm", "spacing": 0.5})}
    attrs = {"scene": "Position 7", "scenes": ["Position 7"]}
    return xr.Dataset({"image": (("c", "y", "x"), np.zeros((1, 1, 1)))}, coords=coords, attrs=attrs)


def test_colours_that_the_file_names(ds):
    ds["c"].attrs["color"] = ["FF0000", "#0000FFFF"]
    ax = ds.img.plot("GFP", limits=(0, 7199), z=0)
    shown = picture(ax)
    assert shown[..., 2].max() > 0
    assert shown[..., :2].max() == 0


@pytest.mark.parametrize("percentiles", [(0.5, 99.8), (10, 90)])
def test_percentiles_become_black_and_full(percentiles):
    values = np.random.default_rng(0).normal(100, 10, (50, 60))
    ax = xr.DataArray(values, dims=["y", "x"]).img.plot(percentiles=percentiles)
    low, high = np.percentile(values, percentiles)
    np.testing.assert_allclose(picture(ax)[..., 0], np.clip((values - low) / (high - low), 0, 1), atol=1e-5)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", "float16", "float32", "complex64"])
@pytest.mark.parametrize("value", [0, 1])
def test_constant_planes_of_any_dtype(dtype, value):
    shown = picture(xr.DataArray(np.full((5, 6), value, dtype), dims=["y", "x"]).img.plot())
    assert shown.shape == (5, 6, 3)
    assert np.isfinite(shown).all()


def test_few_bright_pixels_on_nothing_are_seen():
    values = np.zeros((100, 100), "uint16")
    values[50, 50] = 7
    assert picture(xr.DataArray(values, dims=["y", "x"]).img.plot())[50, 50, 0] == 1


def test_not_a_number_is_black():
    values = np.array([[np.nan, 0.0], [np.inf, 2.0]])
    shown = picture(xr.DataArray(values, dims=["y", "x"]).img.plot(limits=(0, 2)))
    assert shown[..., 0].tolist() == [[0, 0], [1, 1]]


def test_colour_pictures_are_shown_as_they_are():
    values = np.random.default_rng(0).integers(0, 200, (8, 9, 4), "uint8")
    for array in (
        xr.DataArray(values, dims=["y", "x", "c"], coords={"c": list("RGBA")}),
        xr.DataArray(values[..., :3][None], dims=["c", "y", "x", "s"], coords={"c": ["one"]}),
    ):
        ax = array.img.plot()
        np.testing.assert_allclose(picture(ax), values[..., :3] / 255, atol=1e-6)
        assert words(ax) == {""}


def test_colour_pictures_of_more_bits_are_stretched_together():
    values = np.random.default_rng(0).integers(0, 1000, (3, 40, 50), "uint16")
    shown = picture(xr.DataArray(values, dims=["c", "y", "x"], coords={"c": list("RGB")}).img.plot())
    expected = np.clip(np.moveaxis(values, 0, -1) / np.percentile(values, 99.8), 0, 1)
    np.testing.assert_allclose(shown, expected, atol=1e-5)


def test_a_spectrum_runs_from_blue_to_red_and_not_into_white():
    values = np.random.default_rng(0).integers(0, 1000, (28, 40, 50), "uint16")
    ax = xr.DataArray(values, dims=["c", "y", "x"]).img.plot()
    assert 0.1 < picture(ax).mean() < 0.9
    assert "... (28)" in words(ax)
    assert len(ax.texts) == 9
    colors = default_colors([str(n) for n in range(28)])
    assert colors[0].endswith("ff")
    assert colors[-1] == "#ff0000"


@given(st.tuples(*[st.floats(0, 1)] * 3))
def test_names_can_be_read_on_black(color):
    bright = np.array(legible(color))
    assert bright @ [0.2126, 0.7152, 0.0722] >= 0.35 - 1e-9
    assert (bright <= 1 + 1e-9).all()
    assert (bright >= np.array(color) - 1e-9).all()


def test_labels_get_colours_and_the_background_none(ds):
    shown = picture(ds.img.plot(variable="cells"))
    labels = ds["cells"].values[1]
    assert (shown[labels == 0] == 0).all()
    assert len(np.unique(shown.reshape(-1, 4), axis=0)) == 3
    ax = ds.img.plot(labels="cells", projection="max")
    assert len(ax.images) == 2
    over = picture(ax, 1)
    assert (over[labels == 0, 3] == 0).all()
    assert (over[labels > 0, 3] > 0).all()


def test_labels_of_each_channel_are_those_of_the_shown_ones():
    image = xr.DataArray(np.zeros((2, 6, 8), "u1"), {"c": ["a", "b"]}, list("cyx"))
    labels = xr.DataArray(np.zeros((2, 6, 8), int), dims=list("cyx"), attrs={"kind": "labels"})
    labels[0, 1, 1], labels[1, 4, 5] = 1, 1
    ds = xr.Dataset({"image": image, "cells": labels})

    def covered(ax):
        over = [picture(ax, k)[..., 3] for k in range(1, len(ax.images))]
        return [set(map(tuple, np.argwhere(alpha).tolist())) for alpha in over]

    assert covered(ds.img.plot("b", labels="cells")) == [{(4, 5)}]
    assert covered(ds.img.plot(labels="cells")) == [{(1, 1)}, {(4, 5)}]
    assert [covered(ax) for ax in ds.img.plot(["b", "a"], labels="cells", panels=True)] == [[{(4, 5)}], [{(1, 1)}]]


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=50))
def test_label_colours_are_stable(numbers):
    labels = np.array(numbers)
    colors = label_colors(labels)
    np.testing.assert_array_equal(colors, np.stack([label_colors(np.array([n]))[0] for n in numbers]))
    assert ((colors[:, 3] == 0) == (labels == 0)).all()


def test_neighbouring_labels_differ():
    colors = label_colors(np.arange(1, 300))[:, :3]
    assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 0.2


def test_only_what_is_shown_is_read(tmp_path, monkeypatch):
    from intake_img.formats.reading import FileReader

    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 3, 10, 50, 60), "uint8"))
    regions = []
    read = FileReader.read_into

    def spy(self, region, out):
        regions.append(region)
        return read(self, region, out)

    monkeypatch.setattr(FileReader, "read_into", spy)
    monkeypatch.setattr(FileReader, "view", lambda self: None)  # by which numpy reads small parts of a memory map
    for chunks in ({"t": 1, "c": 1, "z": 1}, None):
        with imload(path, metadata={"axes": "tczyx"}, chunks=chunks) as image:
            regions.clear()
            image.img.plot(1, t=2, z=3)
            planes = {tuple((s.start, s.stop) for s in r[:3]) for r in regions}
            assert planes == {((2, 3), (1, 2), (3, 4))}
            regions.clear()
            image.img.plot(1, t=2, projection="max")
            assert {(r[0].start, r[0].stop, r[1].start, r[1].stop) for r in regions} == {(2, 3, 1, 2)}


def test_planes_larger_than_a_screen_are_thinned():
    huge = xr.DataArray(
        da.zeros((9000, 3000), dtype="uint8", chunks=1000),
        dims=["y", "x"],
        coords={"y": even("y", 9000, 0.5, "µm"), "x": even("x", 3000, 0.5, "µm")},
    )
    ax = huge.img.plot()
    assert max(picture(ax).shape) <= 2048
    left, right, bottom, top = ax.images[0].get_extent()
    assert right - left == pytest.approx(1500)
    assert abs(top - bottom) == pytest.approx(4500)


# where it draws


def test_the_frame_is_in_physical_units(ds):
    ax = ds.img.plot()
    assert ax.images[0].get_extent() == pytest.approx([-0.1, 5.9, 103.9, 99.9])
    assert bar(ax) == (pytest.approx(1.0), "1 µm")
    assert list(ax.get_xticks()) == []


def test_axes_of_different_units_are_compared(ds):
    ds = ds.assign_coords(y=even("y", 20, 200.0, "nm"))
    assert ds.img.plot().images[0].get_extent() == pytest.approx([-0.1, 5.9, 3.9, -0.1])


def test_without_spacing_there_is_no_bar(ds):
    for bare in (ds.drop_vars(["y", "x"]), ds.assign_coords(y=("y", np.arange(20.0) ** 2)), ds.drop_attrs()):
        ax = bare.img.plot()
        assert [type(a).__name__ for a in ax.artists] == []
        assert ax.get_xlabel() == "x (pixels)"
    ax = ds.img.plot(scale_bar=False)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (µm)", "y (µm)")


@given(st.floats(1e-6, 1e7), st.sampled_from(["nm", "µm", "mm", "m", "in", "Å"]))
def test_bars_have_round_lengths(width, unit):
    length, label = bar_length(width, unit)
    number, shown = label.split()
    assert width / 10 * 0.999 <= length <= width / 4 * 1.001
    assert convert(float(number), shown, unit) == pytest.approx(length, rel=1e-6)
    digits = f"{float(number):.0e}".split("e")[0]
    assert digits in ("1", "2", "5")
    assert float(number) == pytest.approx(float(f"{float(number):.0e}"))


def test_default_colours_differ():
    names = ["DAPI", "Hoechst", "EGFP", "mCherry", "Cy5", "Phase", "a", "b"]
    colors = default_colors(names)
    assert len(set(colors)) == len(names)
    assert colors[0] == default_colors(["x", "DAPI"])[1]
    assert len(default_colors([str(n) for n in range(40)])) == 40


# what it refuses


@pytest.mark.parametrize(
    ("arguments", "error", "words_"),
    [
        ({"q": 1}, AxesError, "q=1 is not a position"),
        ({"c": 1}, AxesError, "channel="),
        ({"t": 5}, IndexError, "t=5 is out of range: the axis has 2"),
        ({"channel": "Cy5"}, AxesError, "there is no channel 'Cy5'; the image has 'DAPI', 'GFP'"),
        ({"projection": "median"}, ValueError, "expected one of max"),
        ({"projection": "max", "z": 1}, AxesError, "z is given too"),
        ({"variable": "nothing"}, KeyError, "it has image, cells"),
        ({"labels": "nothing"}, KeyError, "it has image, cells"),
        ({"channel": []}, ValueError, "expected a channel or several"),
        ({"colors": {"GFP": "red", "Cy5": "blue"}}, AxesError, r"colors\['Cy5'\]: there is no channel 'Cy5'"),
        ({"limits": {2: (0, 1)}}, AxesError, r"limits\[2\]: there is no channel 2"),
        ({"colors": {"GFP": "red", 1: "blue"}}, AxesError, "names the channel 'GFP' twice"),
        ({"colors": ["red"]}, ValueError, "1 colours, but 2 channels"),
    ],
)
def test_refusals_say_what_there_is(ds, arguments, error, words_):
    with pytest.raises(error, match=words_):
        ds.img.plot(**arguments)


def test_refusals_of_images_that_cannot_be_drawn():
    line = xr.DataArray(np.zeros((3, 5)), dims=["t", "x"])
    with pytest.raises(AxesError, match="no 'y'"):
        line.img.plot()
    flat = xr.DataArray(np.zeros((3, 5)), dims=["y", "x"])
    with pytest.raises(AxesError, match="no channels"):
        flat.img.plot(0)
    with pytest.raises(AxesError, match="along z"):
        flat.img.plot(projection="max")
    with pytest.raises(KeyError, match="no coordinate"):
        xr.DataArray(np.zeros((2, 3, 5)), dims=["t", "y", "x"]).img.plot(t=1.5)


def test_without_matplotlib(ds, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'intake_img\[plot\]'"):
        ds.img.plot()


def test_version_is_public():
    assert intake_img.__version__


def test_channels_are_given_by_wavelength_and_names_that_repeat_are_refused():
    values = np.random.default_rng(0).integers(0, 99, (2, 3, 9, 10))
    image = xr.DataArray(values, dims=list("tcyx"), coords={"c": [488.0, 561.0, 640.0]}, name="image")
    np.testing.assert_array_equal(picture(image.img.plot(561.0, t=0)), picture(image.img.plot(1, t=0)))
    by_name, by_number = (image.img.coloc.pearson(pair) for pair in ((561.0, np.float64(640)), (1, 2)))
    assert by_name.identical(by_number)
    again = image.assign_coords(c=["A", "A", "B"])
    for call in (
        lambda: again.img.plot("A", t=0),
        lambda: again.img.measure_shifts("t", c="A"),
        lambda: again.img.measure_shifts("c", reference="A", t=0),
        lambda: again.img.coloc.pearson(("A", "B")),
    ):
        with pytest.raises((AxesError, KeyError), match=r"2 (samples have this name, number 0, 1|channels are named)"):
            call()
