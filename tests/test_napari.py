"""Layers for napari: what is known of an image, lazily; the plug-in's manifest where npe2 is installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import yaml

import intake_img
from intake_img import imload, imsave
from intake_img.create import from_example
from intake_img.doors import napari as door


def test_layers_tell_what_is_known(tmp_path):
    ds = from_example("cells")
    path = tmp_path / "cells.zarr"
    imsave(ds, path)
    loaded = imload(str(path))
    layers = door.read(str(path))
    kinds = [kind for *_, kind in layers]
    assert kinds.count("image") == loaded.sizes["c"]
    assert kinds.count("labels") == len(loaded.data_vars) - 1
    for k, (data, meta, _kind) in enumerate(layers[: loaded.sizes["c"]]):
        assert isinstance(data, da.Array)  # nothing is read
        assert meta["name"] == str(loaded["c"].values[k])
        assert dict(zip(meta["axis_labels"], meta["scale"], strict=True)) == pytest.approx(
            {a: loaded.img.spacing.get(a, 1.0) for a in meta["axis_labels"]}
        )
        assert meta["units"][-1] == loaded.img.units["x"]
        low, high = meta["contrast_limits"]
        assert data.min().compute() <= low < high <= data.max().compute()
        np.testing.assert_array_equal(data.compute(), loaded["image"].isel(c=k).values)


def test_levels_of_the_file_are_those_of_the_layer(tmp_path):
    path = str(tmp_path / "cells.zarr")
    imsave(from_example("cells"), path, pyramid=2)
    for data, *_ in door.read(path):
        assert [level.shape[-1] for level in data] == [data[0].shape[-1] // f for f in (1, 2, 4)]


def test_crops_and_labels_lie_where_they_were(tmp_path):
    """A crop begins where it was cut; labels of each channel do not put their channels on the slider of time."""
    ds = from_example("cells").img.crop(y=(3, 40), x=(5, 30), t=(1, 2)).img.threshold(200).img.label(output="found")
    layers = door.layers_of(ds)
    assert [(m["name"], k) for _, m, k in layers if m["name"].startswith("found")] == [
        ("found DAPI", "labels"),
        ("found GFP", "labels"),
    ]
    for data, meta, _kind in layers:
        assert meta["axis_labels"] == layers[0][1]["axis_labels"]
        assert data.shape == layers[0][0].shape
        starts = dict(zip(meta["axis_labels"], meta["translate"], strict=True))
        assert starts == pytest.approx({a: float(ds[a][0]) if a in ds.coords else 0.0 for a in starts})
        assert starts["y"] > 0
    np.testing.assert_array_equal(layers[-1][0], ds["found"].isel(c=1))
    shown = [(data, {**meta, "translate": np.array(meta["translate"])}, kind) for data, meta, kind in layers]
    door.write(str(tmp_path / "out.zarr"), shown)
    again = imload(str(tmp_path / "out.zarr"))
    for axis in "yx":
        np.testing.assert_allclose(again[axis], ds[axis])


def test_layers_come_back(tmp_path):
    layers = door.sample()
    target = str(tmp_path / "out.zarr")
    door.write(target, layers)
    again = door.read(target)
    assert [(m["name"], k) for _, m, k in again] == [(m["name"], k) for _, m, k in layers]
    for (data, meta, _), (other, known, _) in zip(again, layers, strict=True):
        np.testing.assert_array_equal(np.asarray(data), np.asarray(other))
        assert meta["scale"] == pytest.approx(known["scale"])
        assert meta["units"] == known["units"]


def test_manifest_names_what_is_there():
    manifest = yaml.safe_load((Path(intake_img.__file__).parent / "doors" / "napari.yaml").read_text())
    parts = manifest["contributions"]
    commands = {c["id"]: c["python_name"].split(":") for c in parts["commands"]}
    for module, function in commands.values():
        assert callable(getattr(importlib.import_module(module), function))
    used = {each["command"] for key in ("readers", "writers", "sample_data") for each in parts[key]}
    assert used == set(commands)


def test_command_opens_all_levels(tmp_path, monkeypatch, capsys):
    """``intake-img napari`` gives a window the layers of each image, and waits for it; without napari it says so."""
    from types import ModuleType, SimpleNamespace

    from intake_img.doors.cli import main

    imsave(from_example("cells"), tmp_path / "cells.zarr", pyramid=1)
    imsave(from_example("cells")["image"].isel(t=0, z=0, c=0), tmp_path / "one.tif")
    shown, windows = [], []
    fake, layers = ModuleType("napari"), ModuleType("napari.layers")
    layers.Layer = SimpleNamespace(create=lambda *layer: layer)
    fake.Viewer = lambda: SimpleNamespace(add_layer=shown.append)
    fake.run = lambda: windows.append(len(shown))
    monkeypatch.setitem(sys.modules, "napari", fake)
    monkeypatch.setitem(sys.modules, "napari.layers", layers)
    assert main(["napari", str(tmp_path / "cells.zarr"), str(tmp_path / "one.tif")]) == 0
    assert windows == [4]
    assert [kind for *_, kind in shown] == ["image", "image", "labels", "image"]
    assert [meta["name"] for _, meta, _ in shown[:3]] == ["DAPI", "GFP", "labels"]
    assert [len(data) for data, *_ in shown[:3]] == [2, 2, 2]
    np.testing.assert_array_equal(shown[0][0][0].compute(), from_example("cells")["image"].isel(c=0).values)
    assert main(["napari", str(tmp_path / "absent.tif")]) != 0
    assert windows == [4]
    monkeypatch.setitem(sys.modules, "napari", None)
    assert main(["napari", str(tmp_path / "one.tif")]) != 0
    assert "pip install 'intake_img[napari]'" in capsys.readouterr().err
