"""A channel is given by its name, or by its number where names are no integers: one convention for all methods."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

import intake_img
from intake_img.accessor.colors import stated_colors
from intake_img.accessor.thumbnail import thumbnail
from intake_img.doors.cli.main import main
from intake_img.errors import AxesError

VALUES = np.random.default_rng(0).integers(0, 999, (3, 16, 18)).astype("u2")
BLOBS = {"z": [0.0] * 4, "y": [3.0, 4, 9, 12], "x": [3.0, 4, 9, 12]}


def image(names: Any = None) -> xr.DataArray:
    coords = {} if names is None else {"c": names}
    return xr.DataArray(VALUES, coords, list("cyx"), name="image")


def drawn(array: xr.DataArray, *channel: Any, **options: Any) -> np.ndarray:
    ax = array.img.plot(*channel, ax=Figure().subplots(), **options)
    return np.asarray(ax.images[0].get_array())


def pair(array: xr.DataArray, key: Any, other: Any) -> float:
    return float(array.img.coloc.pearson([(key, other)])[0])


def threshold(array: xr.DataArray, key: Any, others: Any) -> list[int]:
    found = array.img.threshold({key: 100, **dict.fromkeys(others, 800)})
    return found.sum(("y", "x")).values.tolist()


WAYS: dict[str, Callable[[xr.DataArray, Any], Any]] = {
    "plot": lambda a, key: drawn(a, key),
    "thumbnail": lambda a, key: thumbnail(a, channel=key),
    "limits": lambda a, key: drawn(a, limits={key: (100, 300)}, colors=["r", "g", "b"]),
    "limits of the shown one": lambda a, key: drawn(a, key, limits={key: (100, 300)}),
    "colors": lambda a, key: drawn(a, key, colors={key: "#123456"}),
    "histogram": lambda a, key: a.img.coloc.histogram(key, key).values,
    "chromatic_shift": lambda a, key: a.img.coloc.chromatic_shift(key, upsample=1).values,
    "measure_shifts along c": lambda a, key: a.img.measure_shifts("c", key).values,
    "measure_shifts of a channel": lambda a, key: a.expand_dims(t=2).img.measure_shifts("t", c=key).values,
    "detect_blobs": lambda a, key: a.img.detect_blobs(min_radius=1, max_radius=2, channels=[key]).drop(
        columns="channel"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_channel_by_each_of_its_names(way):
    if "shift" in way:
        pytest.importorskip("skimage")
    call = WAYS[way]
    each = [np.asarray(call(image(), k)) for k in range(3)]
    for names in (["2", "0", "1"], [2, 0, 1], [1.5, 2.5, 3.5]):
        for k, name in list(enumerate(names))[:2]:
            keys = [name, str(name), *([k, np.int64(k), k - 3] if isinstance(name, str | float) else [np.int64(name)])]
            for key in keys:
                found = np.asarray(call(image(names), key))
                np.testing.assert_array_equal(found, each[k], err_msg=f"{key!r} of {names}")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("names", "key"), [([1, 2, 3], 0), ([1, 2, 3], -1), (["a", "b", "c"], 3), ([488, 561, 640], 1), (None, True)]
)
def test_an_integer_among_integers_is_a_name(way, names, key):
    with pytest.raises((AxesError, TypeError), match=r"there is no channel|expected an index or a coordinate"):
        WAYS[way](image(names), key)


def test_pairs_thresholds_and_blobs():
    pd = pytest.importorskip("pandas")
    numbered = image([2, 0, 1])
    assert pair(numbered, 2, 1) == pair(image(), 0, 2) == pair(image(["a", "b", "c"]), "a", -1)
    assert (
        threshold(numbered, 0, [1, 2]) == threshold(image(), 1, [0, 2]) == threshold(image(list("abc")), "b", [0, "c"])
    )
    with pytest.raises(AxesError, match="names the channel 'a' twice"):
        threshold(image(list("abc")), "a", [0, 1, 2])
    flat = image([1, 2, 3])
    blobs = pd.DataFrame(BLOBS).drop(columns="z").assign(channel=[1, 1, 1, 1])
    assert flat.img.coloc.match(blobs, 2, channels=[1, 2]).channel_pairs == [(1, 2)]
    with pytest.raises(ValueError, match="threshold lacks a value for the channel 3"):
        flat.img.coloc.blobs(blobs, {1: 5, 2: 7})


def test_a_chosen_channel_keeps_its_name_and_colour():
    axes = image().img.plot([2, 0], panels=True)
    assert [ax.texts[0].get_text() for ax in axes] == ["channel 2", "channel 0"]
    coloured = image(list("abc"))
    coloured["c"].attrs["color"] = ["#ff0000", "#00ff00", "#0000ff"]
    assert [int(k) for k in thumbnail(coloured, channel="b").reshape(-1, 3).max(0)] == [0, 255, 0]
    samples = xr.DataArray(np.moveaxis(VALUES, 0, -1), dims=list("yxs"))
    shown = drawn(samples, limits={"G": (0, 10), 2: (0, 1e9), "R": (0, 1e9)})
    assert shown[..., 1].mean() > 0.9
    assert shown[..., [0, 2]].max() < 0.01


def test_digits_that_a_command_gets_are_names_first(tmp_path, capsys):
    path = str(tmp_path / "a.npz")
    intake_img.imsave(image(["2", "0", "1"]).to_dataset(), path)
    for name, number in (("0", 1), ("1", 2), ("2", 0)):
        out = tmp_path / f"{name}.png"
        assert main(["thumbnail", path, "--channel", name, "--output", str(out)]) == 0
        np.testing.assert_array_equal(np.asarray(Image.open(out)), thumbnail(image(), channel=number))
    assert main(["coloc", path, "--pair", "0", "2", "--thresholds", "none"]) == 0
    assert "0-2" in capsys.readouterr().out


COLOURS = {"a": "#FF0000", "b": "#00FF00", "d": "#0000FF"}
LENGTHS = {"a": 500.0, "b": 600.0, "d": 700.0}
SELECTED: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "sorted": lambda ds: ds.sel(c=["d", "a", "b"]),
    "two": lambda ds: ds.isel(c=slice(1, None)),
    "one": lambda ds: ds.isel(c=[1]),
    "one without an axis": lambda ds: ds.isel(c=1),
    "lazy": lambda ds: ds.chunk(c=1).isel(c=[2, 0]).img.gaussian_filter(1).transpose("y", "x", "c"),
    "kept": lambda ds: pickle.loads(pickle.dumps(ds.isel(c=[1, 2]).load() * 1.0)).isel(c=[1, 0]),
    "renamed": lambda ds: ds.isel(c=[0, 1]).assign_coords(c=("c", ["d", "a"], {"color": ["#FF0000", "#00FF00"]})),
}


@pytest.fixture
def coloured(tmp_path):
    names = list(COLOURS)
    ds = image(names).to_dataset()
    ds["c"].attrs = {"color": [COLOURS[n] for n in names], "emission_wavelength": [LENGTHS[n] for n in names], "n": "m"}
    path = str(tmp_path / "in.npz")
    intake_img.imsave(ds, path)
    return path


@pytest.mark.parametrize("how", SELECTED)
def test_colours_and_wavelengths_follow_a_selection(coloured, how, tmp_path):
    ds = intake_img.imload(coloured)
    found = SELECTED[how](ds)
    names = np.atleast_1d(found["c"].values).tolist()
    wanted = [COLOURS[n] for n in (["a", "b"] if how == "renamed" else names)]
    assert list(stated_colors(found["image"]).values()) == wanted
    for name in ("out.npz", "out.ome.tif", "out.ome.zarr"):
        intake_img.imsave(found.drop_attrs(deep=False), tmp_path / name)
        attrs = intake_img.imload(tmp_path / name)["c"].attrs
        assert attrs["color"] == wanted
        if how != "renamed":
            assert attrs["emission_wavelength"] == [LENGTHS[n] for n in names]
    if how == "renamed":
        return
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tif:
        told = re.findall(r'<Channel [^>]*Name="(.)"[^>]*EmissionWavelength="([^"]*)"', tif.ome_metadata)
    assert [(name, float(v)) for name, v in told] == [(n, LENGTHS[n]) for n in names]


def test_colours_follow_a_partition(coloured):
    for key in ("b", ["d", "a"], slice(1, 3), [-1], {"c": 0}):
        ds = intake_img.imload(coloured, partition={"c": key} if not isinstance(key, dict) else key)
        names = np.atleast_1d(ds["c"].values).tolist()
        assert ds["c"].attrs["color"] == [COLOURS[n] for n in names]
        assert ds["c"].attrs["emission_wavelength"] == [LENGTHS[n] for n in names]
        assert ds["c"].attrs["n"] == "m"
