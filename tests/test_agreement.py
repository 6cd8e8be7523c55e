"""Files of one image agree in spacing, unit, origin and channel names: else an error names files and values."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from intake_img import imload, imsave
from intake_img.collections import many_files
from intake_img.errors import FormatError

pytestmark = pytest.mark.thorough

FACTS: dict[str, Any] = {"spacing": 0.1, "unit": "µm", "origin": 0.0, "channels": ["DAPI", "GFP"], "zspacing": 0.5}


def member(path: Path, value: int = 0, axes: str = "czyx", **changed: Any) -> None:
    facts = {**FACTS, **changed}
    sizes = {"c": 2, "z": 3, "y": 4, "x": 5}
    coords: dict[str, Any] = {"c": facts["channels"]} if facts["channels"] else {}
    for axis, step in (("z", facts["zspacing"]), ("y", facts["spacing"]), ("x", facts["spacing"])):
        if step:
            values = facts["origin"] + step * np.arange(sizes[axis])
            coords[axis] = (axis, values, {"units": facts["unit"], "spacing": step})
    pixels = np.full(tuple(sizes[a] for a in axes), value, "u2")
    imsave(xr.Dataset({"image": (tuple(axes), pixels)}, {k: v for k, v in coords.items() if k in axes}), path)


def ome(path: Path, value: int = 0, **metadata: Any) -> None:
    known = {"PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.1, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, np.full((4, 5), value, "u2"), metadata={"axes": "YX", **known, **metadata})


DIFFERENT = [
    (
        {"spacing": 0.11},
        r"spacing of y is 0\.1 µm in .*m_0.*, but 0\.11 µm in .*m_2",
        {"spacing": {"y": 0.1, "x": 0.1}},
    ),
    ({"spacing": 0.1 * (1 + 1e-5)}, "spacing of y", {"spacing": {"y": 0.1, "x": 0.1}}),
    ({"zspacing": 0.6}, r"spacing of z is 0\.5 µm in .*, but 0\.6 µm", {"spacing": {"z": 0.5}}),
    ({"unit": "nm"}, "unit of z is µm in .*, but nm in", {"spacing_units": "µm"}),
    ({"origin": 7.0}, r"origin of z is 0\.0 µm in .*, but 7\.0 µm", {"origin": {"z": 0, "y": 0, "x": 0}}),
    ({"channels": ["GFP", "DAPI"]}, r"channel names is|channel names", {"coords": {"c": ["a", "b"]}}),
]


@pytest.mark.parametrize("ending", [".ome.tif", ".zarr", ".npz"])
@pytest.mark.parametrize(("changed", "words", "metadata"), DIFFERENT)
def test_what_disagrees_is_named(changed: dict, words: str, metadata: dict, ending: str, tmp_path: Path) -> None:
    for k in range(3):
        member(tmp_path / f"m_{k}{ending}", k, **(changed if k == 2 else {}))
    pattern = f"{tmp_path}/m_{{t}}{ending}"
    with pytest.raises(FormatError, match=words) as caught:
        imload(pattern)
    assert "group=True" in str(caught.value)
    assert f"metadata={{'{next(iter(metadata))}'" in str(caught.value)
    ds = imload(pattern, metadata=metadata)
    assert_array_equal(ds.image[:, 0, 0, 0, 0], [0, 1, 2])
    tree = imload(pattern, group=True)
    assert sorted(node.image.sizes["t"] for node in tree.children.values()) == [1, 2]


@pytest.mark.parametrize("driver", ["pattern", "folder", "list"])
def test_every_way_to_a_sequence_compares(driver: str, tmp_path: Path) -> None:
    ome(tmp_path / "a.ome.tif")
    ome(tmp_path / "b.ome.tif", PhysicalSizeX=0.2)
    uri = {"pattern": f"{tmp_path}/*.ome.tif", "folder": str(tmp_path)}.get(driver)
    with pytest.raises(FormatError, match=r"spacing of x is 0\.1 µm in .*a\.ome\.tif, but 0\.2 µm in .*b\.ome\.tif"):
        imload(uri or [tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"])


def test_of_many_files_a_chunk_compares_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_files, "CHECKED", 3)
    monkeypatch.setattr(many_files, "SAMPLED", 2)
    for k in range(9):
        ome(tmp_path / f"m_{k}.ome.tif", k, PhysicalSizeX=0.11 if k == 3 else 0.1)
    ds = imload(f"{tmp_path}/m_{{t}}.ome.tif")
    assert_array_equal(ds.image[4:, 0, 0], np.arange(4, 9))
    for lazy in (ds, pickle.loads(pickle.dumps(ds))):
        with pytest.raises(FormatError, match=r"0\.11 µm in .*m_3\.ome\.tif.*metadata=\{'spacing'"):
            lazy.image[3].compute()
    with pytest.raises(FormatError, match=r"m_3\.ome\.tif"):
        imload(f"{tmp_path}/m_{{t}}.ome.tif", verify=True)
    same = imload(f"{tmp_path}/m_{{t}}.ome.tif", metadata={"spacing": {"x": 0.1}})
    assert_array_equal(same.image[:, 0, 0], np.arange(9))
    ome(tmp_path / "m_8.ome.tif", 8, PhysicalSizeX=0.12)
    with pytest.raises(FormatError, match=r"0\.12 µm in .*m_8\.ome\.tif"):  # the last one is always looked at
        imload(f"{tmp_path}/m_{{t}}.ome.tif", metadata={"spacing": {"y": 0.1}})


def test_one_length_in_two_units_is_no_difference(tmp_path: Path) -> None:
    ome(tmp_path / "m_0.ome.tif")
    ome(tmp_path / "m_1.ome.tif", PhysicalSizeX=100.0, PhysicalSizeXUnit="nm")
    ds = imload(f"{tmp_path}/m_{{t}}.ome.tif")
    assert ds.x.attrs == {"units": "µm", "spacing": 0.1}


@pytest.mark.parametrize("lacks", [0, 1])
def test_a_file_without_metadata_is_warned_of(lacks: int, tmp_path: Path) -> None:
    for k in range(2):
        member(tmp_path / f"m_{k}.ome.tif", k, **({"zspacing": None, "channels": None} if k == lacks else {}))
    with pytest.warns(UserWarning, match=r"m_0.*m_1.*only one of them has the spacing of z and the channel names"):
        ds = imload(f"{tmp_path}/m_{{t}}.ome.tif")
    assert ("z" in ds.coords) == (lacks == 1)


def test_what_the_names_tell_may_differ(tmp_path: Path) -> None:
    """Along an axis in the names each file has another origin: the files do not contradict each other."""
    for k, name in enumerate(["DAPI", "GFP"]):
        one = xr.DataArray(np.full((1, 4, 5), k, "u2"), dims=("c", "y", "x"), coords={"c": [name]}, name="image")
        imsave(one, tmp_path / f"m_{name}.ome.tif")
    ds = imload(f"{tmp_path}/m_{{c}}.ome.tif")
    assert ds.c.values.tolist() == ["DAPI", "GFP"]
    whole = xr.Dataset({"image": (("z", "y", "x"), np.zeros((3, 4, 5)))}, {"z": [0.0, 0.5, 1.5]})
    imsave(whole, tmp_path / "parts.npy", partition="yx")
    assert_allclose(imload(tmp_path / "parts.npy").z, [0, 0.5, 1.5])


def test_origin_is_overruled(tmp_path: Path) -> None:
    member(tmp_path / "a.ome.tif", origin=3.0)
    ds = imload(tmp_path / "a.ome.tif", metadata={"origin": {"x": -1}})
    assert_allclose(ds.x, -1 + 0.1 * np.arange(5))
    assert_allclose(ds.y, 3 + 0.1 * np.arange(4))
    for bad, error in (({"x": "left"}, ValueError), ({"q": 1}, ValueError), (7, TypeError), ({"c": 1}, ValueError)):
        with pytest.raises(error, match="metadata origin"):
            imload(tmp_path / "a.ome.tif", metadata={"origin": bad})
