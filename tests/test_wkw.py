"""WKW against the library wkw: raw and packed cubes, layers, magnifications."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import to_memory

from intake_img import imload
from intake_img.errors import FormatError, SceneError
from intake_img.formats.registry import find_format
from intake_img.formats.wkw import cubes
from intake_img.formats.wkw.driver import WkwSource
from intake_img.storage.files import File

MAKES = [("raw", "uint8", 3), ("lz4", "uint16", 1), ("lz4hc", "float32", 2), ("lz4", "uint64", 1), ("raw", "int16", 1)]


def _cubes(folder: Path, values: np.ndarray, kind: str = "raw", at: tuple[int, int, int] = (0, 0, 0)) -> None:
    """Write values, an array of axes c, x, y, z, with the library, in cubes of 32 voxels of blocks of 8."""
    wkw = pytest.importorskip("wkw")
    types = {"raw": wkw.Header.BLOCK_TYPE_RAW, "lz4": wkw.Header.BLOCK_TYPE_LZ4, "lz4hc": wkw.Header.BLOCK_TYPE_LZ4HC}
    header = wkw.Header(values.dtype, len(values), block_type=types["raw"], block_len=8, file_len=4)
    raw = folder if kind == "raw" else folder.with_name(f"{folder.name}-raw")
    with wkw.Dataset.create(str(raw), header) as dataset:
        dataset.write(at, values)
        if kind != "raw":
            _compressed(dataset, folder, types[kind])
            shutil.rmtree(raw)


def _compressed(dataset: Any, folder: Path, kind: int) -> None:
    import wkw

    about = dataset.header
    header = wkw.Header(about.voxel_type, about.num_channels, block_type=kind, block_len=8, file_len=4)
    wkw.Dataset.create(str(folder), header).close()
    for cube in dataset.list_files():
        target = folder / Path(cube).relative_to(Path(dataset.root))
        target.parent.mkdir(parents=True, exist_ok=True)
        wkw.File.compress(cube, str(target))


def _read(folder: Path, start: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """Return a box as the library reads it, with the axes c, z, y, x."""
    wkw = pytest.importorskip("wkw")
    with wkw.Dataset.open(str(folder)) as dataset:
        return dataset.read(start, size).transpose(0, 3, 2, 1)


def _properties(root: Path, *layers: dict[str, Any], scale: Any = (4.0, 5.0, 6.0)) -> None:
    scale = list(scale) if isinstance(scale, tuple) else scale
    (root / "datasource-properties.json").write_text(json.dumps({"dataLayers": list(layers), "scale": scale}))


def _layer(name: str, start: list[int], size: list[int], mags: list[Any], **more: Any) -> dict[str, Any]:
    box = dict(zip(("topLeft", "width", "height", "depth"), (start, *size), strict=True))
    return {
        "name": name,
        "dataFormat": "wkw",
        "category": "color",
        "boundingBox": box,
        "wkwResolutions": [{"resolution": m} for m in mags],
        **more,
    }


@pytest.mark.parametrize(("kind", "dtype", "channels"), MAKES)
def test_reads_what_the_library_wrote(kind: str, dtype: str, channels: int, tmp_path: Path) -> None:
    root, mag = tmp_path / "d", tmp_path / "d" / "color" / "1"
    mag.parent.mkdir(parents=True)
    values = (np.random.default_rng(2).standard_normal((channels, 45, 20, 37)) * 50).astype(dtype)
    _cubes(mag, values, kind, (3, 2, 30))
    _properties(root, _layer("color", [3, 2, 30], [45, 20, 37], [1]))
    expected = values.transpose(0, 3, 2, 1)
    np.testing.assert_array_equal(_read(mag, (3, 2, 30), (45, 20, 37)), expected)
    for uri in (str(root), to_memory(root)):
        assert find_format(File.parse(uri)).name == "wkw"
        found = imload(uri)
        array = found["image"].transpose("c", "z", "y", "x")
        assert array.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(array.values, expected)
        part = imload(uri, chunks=None)["image"].transpose("c", "z", "y", "x")[:, 5:36, 3:9, 1:44]
        np.testing.assert_array_equal(part.values, expected[:, 5:36, 3:9, 1:44])
        found.close()
    assert found.img.spacing == {"z": 6.0, "y": 5.0, "x": 4.0}
    assert [float(found[a][0]) for a in "zyx"] == [180.0, 10.0, 12.0]
    assert found["x"].attrs["units"] == "nm"
    for folder in (root / "color", mag):  # the dataset around it says where it begins
        np.testing.assert_array_equal(imload(folder)["image"].transpose("c", "z", "y", "x").values, expected)
    (root / "datasource-properties.json").unlink()
    for folder in (root / "color", mag):  # nothing does: all cubes, from voxel 0 on
        whole = imload(folder)["image"].transpose("c", "z", "y", "x").values
        assert whole.shape[1:] == (96, 32, 64)
        np.testing.assert_array_equal(whole[:, 30:67, 2:22, 3:48], expected)


@pytest.mark.parametrize("kind", ["raw", "lz4"])
@pytest.mark.parametrize("small", [0, 2**18])  # bytes of a block that is mapped, and of one that is read
def test_every_region(kind: str, small: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions that begin and end anywhere in blocks and cubes, of several cubes of which one is missing."""
    monkeypatch.setattr(cubes, "_SMALL", small)
    monkeypatch.setattr(cubes, "_AT_ONCE", 3000)  # two or three blocks of 1 kB
    monkeypatch.setattr(cubes, "_TABLE", 40)
    values = np.random.default_rng(8).integers(1, 2**16, (2, 70, 40, 37), "uint16")
    _cubes(tmp_path / "a.wkw", values, kind)
    (tmp_path / "a.wkw" / "z0" / "y0" / "x1.wkw").unlink()
    values[:, 32:64, :32, :32] = 0
    expected = values.transpose(0, 3, 2, 1)
    for uri in (str(tmp_path / "a.wkw"), to_memory(tmp_path / "a.wkw")):
        image = imload(uri, chunks=None)["image"].transpose("c", "z", "y", "x")
        rng = np.random.default_rng(9)
        for _ in range(40):
            ends = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in expected.shape]
            region = tuple(slice(*pair) for pair in ends)
            np.testing.assert_array_equal(image[region].values, expected[region])


def test_a_cube_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    values = np.random.default_rng(8).integers(1, 9, (1, 40, 20, 20), "uint8")
    _cubes(tmp_path / "a.wkw", values)
    image = imload(tmp_path / "a.wkw", chunks=None)["image"].squeeze()
    np.testing.assert_array_equal(image[:20, :20, :40].values, values[0].T)
    cube = tmp_path / "a.wkw" / "z0" / "y0" / "x0.wkw"
    content = cube.read_bytes()
    cube.write_bytes(content[:16] + bytes(len(content) - 16))
    assert not image[:20, :20, :32].values.any()
    cube.write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match=r"x0\.wkw"):
        image.load()
    cube.unlink()
    assert not image[:20, :20, :32].values.any()


def test_layers_and_magnifications(tmp_path: Path) -> None:
    for name, dtype, mags in (("color", "uint8", ["1", "2-2-1"]), ("seg", "uint32", ["1"])):
        for mag in mags:
            (tmp_path / name).mkdir(exist_ok=True)
            _cubes(tmp_path / name / mag, np.full((1, 9, 9, 9), 7, dtype))
    _properties(
        tmp_path,
        _layer("color", [1, 0, 0], [8, 9, 9], [[1, 1, 1], [2, 2, 1], [4, 4, 2]]),
        {"name": "other", "dataFormat": "zarr3"},
        _layer("seg", [0, 0, 0], [9, 9, 9], [1], category="segmentation"),
        scale={"factor": [0.01, 0.01, 0.03], "unit": "micrometer"},
    )
    with pytest.warns(UserWarning, match="other \\(zarr3\\)"):
        found = imload(tmp_path, level=1)
    assert found.attrs["scenes"] == ["color", "seg"]
    assert found["image"].shape == (1, 9, 5, 5)
    assert found.img.spacing == {"z": 0.03, "y": 0.02, "x": 0.02}
    assert float(found["x"][0]) == pytest.approx(0.005)
    assert found["x"].attrs["units"] == "µm"
    with pytest.warns(UserWarning, match="left out"), pytest.raises(SceneError, match="has 2 levels"):
        imload(tmp_path, level=2)
    with pytest.warns(UserWarning, match="left out"):
        assert imload(tmp_path, scene="seg")["image"].attrs["kind"] == "labels"


def test_real_file(data: Path) -> None:
    root = data / "wkw" / "simple_wkw_dataset"
    found = imload(root)
    assert found["image"].sizes == {"c": 3, "z": 24, "y": 24, "x": 24}
    assert found.img.channels == ["R", "G", "B"]
    assert found["image"].dtype == np.uint8
    np.testing.assert_array_equal(found["image"].values, _read(root / "color" / "1", (0, 0, 0), (24, 24, 24)))


@pytest.mark.parametrize("kind", ["raw", "lz4"])
def test_refuses_damage(kind: str, tmp_path: Path) -> None:
    _cubes(tmp_path / "a.wkw", np.random.default_rng(4).integers(0, 9, (1, 32, 32, 32)).astype("uint16"), kind)
    cube = tmp_path / "a.wkw" / "z0" / "y0" / "x0.wkw"
    good = cube.read_bytes()
    damaged = [b"", good[:10], good[: len(good) // 2], b"WKX" + good[3:], good[:4] + b"\x33" + good[5:]]
    if kind == "lz4":
        damaged += [good[:16] + struct.pack("<Q", 2**60) + good[24:], good[:600] + bytes(len(good) - 600)]
    for content in damaged:
        cube.write_bytes(content)
        with pytest.raises(FormatError, match=r"a\.wkw"):
            WkwSource(str(tmp_path / "a.wkw")).read()
    cube.write_bytes(good)
    (tmp_path / "a.wkw" / "header.wkw").write_bytes(b"WKW\x01" + b"\xff" * 12)
    with pytest.raises(FormatError, match=r"header\.wkw"):
        imload(tmp_path / "a.wkw").compute()


def test_says_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty.wkw").mkdir()
    with pytest.raises(FormatError, match="contains no layer"):
        imload(tmp_path / "empty.wkw")
    _properties(tmp_path / "empty.wkw", {"name": "../x", "dataFormat": "wkw"}, {"name": "y", "dataFormat": "wkw"})
    with pytest.raises(FormatError, match="contains no layer"):
        imload(tmp_path / "empty.wkw")


def test_a_lost_bounding_box_is_warned_of(tmp_path: Path) -> None:
    _cubes(tmp_path / "color" / "1", np.full((1, 9, 9, 9), 7, "uint8"))
    _properties(tmp_path, _layer("color", [1, 0, 0], ["x", 9, 9], [1]))
    with pytest.warns(UserWarning, match="boundingBox of the layer 'color' is missing or damaged"):
        found = imload(tmp_path)
    assert found.sizes["x"] > 9
