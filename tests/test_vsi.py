"""Olympus cellSens VSI, compared with slideio; missing and damaged pixels; never the overview."""

import os
import shutil
import sys

import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import FormatError, MissingExtraError, SceneError

slideio = pytest.importorskip("slideio")


@pytest.fixture
def copied(data, tmp_path):
    shutil.copytree(data / "vsi", tmp_path / "vsi")
    for folder, _, files in os.walk(tmp_path / "vsi"):
        os.chmod(folder, 0o755)
        for file in files:
            os.chmod(os.path.join(folder, file), 0o644)
    return tmp_path / "vsi" / "vsi-ets-test-jpg2k.vsi"


def test_equals_slideio(data):
    path = data / "vsi" / "vsi-ets-test-jpg2k.vsi"
    ds = imload(path)
    assert (ds.attrs["driver"], ds.attrs["scenes"]) == ("vsi", ["001 C405, C488"])
    assert dict(ds["image"].sizes) == {"c": 2, "z": 11, "y": 1682, "x": 1645}
    assert ds["image"].dtype == np.uint16
    assert ds["c"].values.tolist() == ["C405", "C488"]
    assert ds.img.spacing == {"z": 1.0, "y": 0.108333, "x": 0.108333}
    assert set(ds.img.units.values()) == {"µm"}
    with slideio.open_slide(str(path), "VSI") as slide, slide.get_scene(0) as scene:
        expected = scene.read_block((0, 0, 1645, 1682), channel_indices=[1], slices=(5, 6))
    np.testing.assert_array_equal(ds["image"].isel(c=1, z=5).values, expected)
    for chunks in (None, {"y": 500, "x": 700, "z": 3}):
        part = imload(path, chunks=chunks)["image"].isel(c=1, z=5, y=slice(800, 820), x=slice(690, 720))
        np.testing.assert_array_equal(part.values, expected[800:820, 690:720])
    with pytest.raises(SceneError, match="1 level"):
        imload(path, level=1)


def test_without_its_pixels_it_is_refused(copied):
    """Nor is the overview in the file taken for the image."""
    ets = copied.parent / "_vsi-ets-test-jpg2k_" / "stack1" / "frame_t_0.ets"
    ets.rename(ets.with_name("blob0.ets"))
    with pytest.raises(FormatError, match=r"_vsi-ets-test-jpg2k_ .*contains no stack"):
        imload(copied)
    shutil.rmtree(copied.parent / "_vsi-ets-test-jpg2k_")
    with pytest.raises(FormatError, match=r"_vsi-ets-test-jpg2k_ beside it, which is missing: copy"):
        imload(copied)
    renamed = copied.rename(copied.with_suffix(".bin"))
    with pytest.raises(FormatError, match="missing"):
        imload(renamed)


def test_named_tif_the_folder_decides(copied):
    """Cameras of Olympus write TIFF files with the same header."""
    renamed = copied.rename(copied.with_suffix(".tif"))
    assert imload(renamed).attrs["driver"] == "vsi"
    shutil.rmtree(copied.parent / "_vsi-ets-test-jpg2k_")
    assert imload(renamed).attrs["driver"] == "tif"


def test_damaged_pixels_are_refused(copied):
    ets = copied.parent / "_vsi-ets-test-jpg2k_" / "stack1" / "frame_t_0.ets"
    whole = ets.read_bytes()
    for content in (b"", whole[:40], whole[:300], whole[:50000], whole[:-10], b"SIX" + whole[3:]):
        ets.write_bytes(content)
        with pytest.raises(FormatError, match=r"frame_t_0\.ets"):
            imload(copied)
    table = int.from_bytes(whole[32:40], "little")
    moved = bytearray(whole)
    moved[table + 36 : table + 40] = b"\xff\xff\xff\x7f"  # length of the first tile
    ets.write_bytes(moved)
    with pytest.raises(FormatError, match="before some of its tiles"):
        imload(copied)


def test_needs_slideio(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "slideio", None)
    with pytest.raises(MissingExtraError, match=r"intake_img\[vsi\]"):
        imload(data / "vsi" / "vsi-ets-test-jpg2k.vsi")


def test_remote_is_refused(data):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/vsi/a.vsi", (data / "vsi" / "vsi-ets-test-jpg2k.vsi").read_bytes())
    try:
        with pytest.raises(FormatError, match="local files only"):
            imload("memory://vsi/a.vsi")
    finally:
        memory.rm("/vsi", recursive=True)
