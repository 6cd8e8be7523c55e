"""Stores of SpatialData, made as its design document says: images and labels are scenes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from trees import to_memory

from intake_img import imload
from intake_img.errors import FormatError
from intake_img.formats.omezarr.handle import StoreHandle

AXES = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]


def _to(system: str, kind: str, axes: list[dict[str, str]], **numbers: Any) -> dict[str, Any]:
    ends = {"input": {"name": "".join(a["name"] for a in axes), "axes": axes}, "output": {"name": system, "axes": axes}}
    return {"type": kind, **ends, **numbers}


def _element(group: Any, pixels: list[np.ndarray], to: list[dict[str, Any]], version: int, **more: Any) -> None:
    axes = AXES[-pixels[0].ndim :]
    datasets = []
    for k, level in enumerate(pixels):
        group.create_array(str(k), shape=level.shape, dtype=level.dtype, chunks=level.shape)[...] = level
        scale = [1.0] * (level.ndim - 2) + [pixels[0].shape[-1] / level.shape[-1]] * 2
        datasets.append({"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    ome = {"multiscales": [{"axes": axes, "datasets": datasets, "coordinateTransformations": to}], **more}
    ome["version"] = ome["multiscales"][0]["version"] = "0.4-dev-spatialdata"
    group.attrs.update({"ome": ome} if version == 3 else ome)


@pytest.fixture(params=[2, 3])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    version = request.param
    root = zarr.open_group(str(tmp_path / "blobs.zarr"), mode="w", zarr_format=version)
    root.attrs["spatialdata_attrs"] = {"version": "0.2", "spatialdata_software_version": "0.5.0"}
    full = np.arange(3 * 16 * 12, dtype="u2").reshape(3, 16, 12)
    affine = [[1.0, 0, 0, 0], [0, 0.8, -0.6, 5], [0, 0.6, 0.8, 7]]
    steps = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}, {"type": "translation", "translation": [0.0, 10.0, 20.0]}]
    to = [
        _to("aligned", "affine", AXES, affine=affine),
        _to("global", "sequence", AXES, transformations=steps),
        _to("stage", "scale", AXES, scale=[1.0, 3.0, 3.0]),
    ]
    _element(root.create_group("images/tissue"), [full, full[:, ::2, ::2]], to, version)
    labels = root.create_group("labels/cells")
    cells = np.arange(16 * 12, dtype="i4").reshape(16, 12) // 20
    _element(labels, [cells], [_to("global", "identity", AXES[1:])], version, **{"image-label": {"version": "0.4"}})
    root["labels"].attrs.update({"ome": {"labels": ["cells"]}} if version == 3 else {"labels": ["cells"]})
    for other in ("tables/table/X", "points/transcripts", "shapes/circles/coords"):
        root.create_array(other, shape=(7,), dtype="f8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Zarr format 3 does not specify it yet
        zarr.consolidate_metadata(root.store)
    return tmp_path / "blobs.zarr"


def test_images_and_labels_are_scenes(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in (str(store), to_memory(store)):
        found = imload(uri)
        assert found.attrs["scenes"] == ["images/tissue", "labels/cells"]
        assert found["image"].dims == ("c", "y", "x")
        np.testing.assert_array_equal(found["image"].values.ravel(), np.arange(3 * 16 * 12))
        labels = imload(uri, scene="labels/cells")
        assert labels["image"].attrs["kind"] == "labels"
        assert labels["image"].dims == ("y", "x")
        assert "transformations" not in labels.attrs
        found.close()
        labels.close()
    monkeypatch.setattr(StoreHandle, "members", lambda self, path: {})  # as of a web server
    uri = to_memory(store)
    assert imload(uri, scene="labels/cells").attrs["scenes"] == ["images/tissue", "labels/cells"]


def test_coordinate_systems(store: Path) -> None:
    found = imload(store, level=1)
    assert found.img.spacing == {"y": 1.0, "x": 1.0}
    assert [float(found[a][0]) for a in "yx"] == [10.0, 20.0]
    others = found.attrs["transformations"]
    assert set(others) == {"aligned", "stage"}
    assert others["stage"] == {"type": "scale", "scale": [1.0, 3.0, 3.0], "axes": ["c", "y", "x"]}
    assert others["aligned"]["affine"][1] == [0, 0.8, -0.6, 5]
    json.dumps(found.attrs)


def test_says_where_there_is_no_image(tmp_path: Path) -> None:
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=3)
    root.attrs["spatialdata_attrs"] = {"version": "0.2"}
    root.create_group("images")
    with pytest.raises(FormatError, match="contains no image"):
        imload(tmp_path / "a.zarr")
