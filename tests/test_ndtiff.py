"""Micro-Manager NDTiff: labels, holes, levels, lost indices; compared with ndstorage, Micro-Manager's own reader."""

import contextlib
import gc
import io
import itertools
import json
import os
import shutil
import warnings

import fsspec
import numpy as np
import pytest

from intake_img import autodetect, imload
from intake_img.errors import FormatError
from intake_img.formats.ndtiff.driver import NdtiffSource

ndstorage = pytest.importorskip("ndstorage")
# it does not close all that it opens
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@contextlib.contextmanager
def unclosed():
    """Let ndstorage leave files open, and print."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def judged(folder, **options) -> np.ndarray:
    with unclosed():
        dataset = ndstorage.Dataset(str(folder))
        found = np.array(dataset.as_array(**options))
        dataset.close()
        del dataset
    return found


@pytest.fixture
def written(tmp_path):
    """Make a dataset with ndstorage, of planes at given places; and return its folder."""

    def write(images, **summary):
        with unclosed():
            dataset = ndstorage.NDTiffDataset(str(tmp_path), name="run", summary_metadata=summary, writable=True)
            for axes, values in images:
                dataset.put_image(axes, values, json.dumps({"PixelSizeUm": 0.25, "Axes": axes}).encode())
            dataset.finish()
            dataset.close()
            del dataset
        return next(tmp_path.iterdir())

    return write


def plane(k: int, dtype: str = "u2") -> np.ndarray:
    return (np.arange(6 * 9).reshape(6, 9) * 7 + 1000 * k).astype(dtype)


@pytest.mark.parametrize(
    ("name", "axes", "coords"),
    [
        ("v2/ndtiffv2.0_stitched_test", ["row", "column", "c", "y", "x"], {"row": [0, 1], "column": [0, 1]}),
        ("v3/12_bit_pycromanager_mda", ["t", "c", "y", "x"], {"c": ["DAPI", "FITC"]}),
        ("v3/ndtiff3.2_11bit_1", ["t", "y", "x"], {}),
    ],
)
@pytest.mark.parametrize("chunks", ["auto", None, 5])
def test_equals_ndstorage(data, name, axes, coords, chunks):
    folder = data / "ndtiff" / name
    ds = imload(folder, chunks=chunks)
    assert (ds.attrs["driver"], list(ds["image"].dims)) == ("ndtiff", axes)
    expected = judged(folder)
    np.testing.assert_array_equal(ds["image"].values, expected)
    part = {a: slice(n // 3, n // 3 + 20) for a, n in ds.sizes.items()}
    np.testing.assert_array_equal(ds["image"].isel(part).values, expected[tuple(part.values())])
    assert {k: v.values.tolist() for k, v in ds.coords.items() if k not in "yx"} == coords
    assert (ds["x"].attrs["spacing"], ds["x"].attrs["units"]) == (1, "µm")


def test_labels_are_coordinates_in_their_order(written):
    labels = ["Pos10", "Pos2", "Pos0"]
    channels = ["GFP", "DAPI"]
    places = [{"position": p, "channel": c, "z": z} for p, c, z in itertools.product(labels, channels, (1, 0))]
    folder = written([(axes, plane(k)) for k, axes in enumerate(places)], **{"z-step_um": 2.0})
    ds = imload(folder)
    assert ds["i"].values.tolist() == ["Pos0", "Pos2", "Pos10"]
    assert ds["c"].values.tolist() == ["DAPI", "GFP"]
    assert ds.img.spacing == {"z": 2.0, "y": 0.25, "x": 0.25}
    for k, axes in enumerate(places):
        found = ds["image"].sel(i=axes["position"], c=axes["channel"]).isel(z=axes["z"])
        np.testing.assert_array_equal(found.values, plane(k))


def test_holes_are_zero_and_masked(written):
    """Images may lack or come again; the first place too; numbers may be negative."""
    places = [{"time": 0, "l": 1}, {"time": 1, "l": -1}, {"time": 1, "l": 1}, {"time": 1, "l": -1}]
    folder = written([(axes, plane(k)) for k, axes in enumerate(places)])
    ds = imload(folder)
    assert ds["image"].dims == ("l", "t", "y", "x")
    assert ds["l"].values.tolist() == [-1, 1]
    expected = np.zeros((2, 2, 6, 9), "u2")
    expected[1, 0], expected[0, 1], expected[1, 1] = plane(0), plane(3), plane(2)
    np.testing.assert_array_equal(ds["image"].values, expected)
    assert ds["valid_mask"].attrs["kind"] == "mask"
    np.testing.assert_array_equal(ds["valid_mask"].values[..., 0, 0], [[False, True], [True, True]])


def test_colour(written):
    rgb = np.random.default_rng(0).integers(0, 255, (6, 9, 3)).astype("u1")
    folder = written([({"time": 0}, rgb.reshape(6, 27))])  # ndstorage reads colour and does not write it
    index = folder / "NDTiff.index"
    numbers = np.frombuffer(index.read_bytes()[-32:], "<u4").copy()
    numbers[1], numbers[3] = 9, 2
    index.write_bytes(index.read_bytes()[:-32] + numbers.tobytes())
    ds = imload(folder)
    assert ds["c"].values.tolist() == ["R", "G", "B"]
    np.testing.assert_array_equal(ds["image"].isel(t=0).transpose("y", "x", "c").values, rgb)
    np.testing.assert_array_equal(judged(folder)[0], rgb)


def test_a_stack_leads_to_its_dataset(data, recwarn):
    folder = data / "ndtiff" / "v3" / "12_bit_pycromanager_mda"
    ds = imload(folder / "12_bit_pycromanager_mda_NDTiffStack.tif")
    assert ds.attrs["driver"] == "ndtiff"
    assert not recwarn.list
    assert ds["c"].values.tolist() == ["DAPI", "FITC"]
    assert ds["image"].equals(imload(folder)["image"])


def test_lost_index_is_read_from_the_pages(data, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(data / "ndtiff" / "v3" / "12_bit_pycromanager_mda", folder)
    os.chmod(folder, 0o755)
    whole = imload(folder).load()
    (folder / "NDTiff.index").unlink()
    with pytest.warns(UserWarning, match="no index"):
        ds = imload(folder / "12_bit_pycromanager_mda_NDTiffStack.tif")
    assert ds["image"].equals(whole["image"])


def test_interrupted_runs_open_with_what_is_there(written):
    folder = written([({"time": k}, plane(k)) for k in range(4)])
    index, stack = folder / "NDTiff.index", next(folder.glob("*.tif"))
    content = index.read_bytes()
    index.write_bytes(content + bytes(4096))  # a preallocated index ends with zeros, which are not entries
    assert imload(folder).sizes["t"] == 4
    index.write_bytes(content[:-20])
    with pytest.warns(UserWarning, match="ends within an entry"):
        assert imload(folder).sizes["t"] == 3
    index.write_bytes(content)
    whole = stack.read_bytes()
    stack.write_bytes(whole[: len(whole) - 150])
    with pytest.warns(UserWarning, match="1 of 4 images"):
        np.testing.assert_array_equal(imload(folder)["image"].values, [plane(k) for k in range(3)])
    stack.unlink()
    with pytest.raises(FormatError, match="contain none"):
        imload(folder)
    index.write_bytes(content.replace(stack.name.encode(), stack.name.replace("_", "/").encode()))
    with pytest.raises(FormatError, match="damaged"):
        imload(folder)


def test_tiles_are_stitched(data):
    folder = data / "ndtiff" / "v2" / "ndtiffv2.0_stitched_test"
    tiles = imload(folder)["image"]
    mosaic = imload(folder, stitched=True)
    assert dict(mosaic["image"].sizes) == {"c": 1, "y": 56, "x": 56}
    np.testing.assert_array_equal(mosaic["image"].values[0, :28, :28], tiles.values[0, 0, 0, 2:30, 2:30])
    np.testing.assert_array_equal(mosaic["image"].values[0, 28:, 28:], tiles.values[1, 1, 0, 2:30, 2:30])
    np.testing.assert_array_equal(mosaic["image"].values, judged(folder, stitched=True))
    assert mosaic["valid_mask"].values.sum() == 2 * 28 * 28
    assert not mosaic["image"].where(~mosaic["valid_mask"], 0).values.any()
    np.testing.assert_array_equal(
        imload(folder, stitched=True, chunks=11)["image"].isel(y=slice(20, 45), x=slice(25, 31)).values,
        mosaic["image"].values[:, 20:45, 25:31],
    )
    coarse = imload(folder, stitched=True, level=1)
    assert dict(coarse["image"].sizes) == {"c": 1, "y": 28, "x": 28}
    assert coarse["x"].attrs["spacing"] == 2
    halves = mosaic["image"].values[0, :28, :28].reshape(14, 2, 14, 2).mean((1, 3))
    assert np.abs(coarse["image"].values[0, :14, :14] - halves).max() <= 1
    assert dict(imload(folder, stitched=True, level=3)["image"].sizes) == {"c": 1, "y": 7, "x": 7}
    with pytest.raises(FormatError, match="no tiles"):
        imload(data / "ndtiff" / "v3" / "ndtiff3.2_11bit_1", stitched=True)


def test_remote(data):
    folder = data / "ndtiff" / "v3" / "12_bit_pycromanager_mda"
    memory = fsspec.filesystem("memory")
    for file in folder.iterdir():
        memory.pipe(f"/nd/run/{file.name}", file.read_bytes())
    try:
        ds = imload("memory://nd/run")
        assert isinstance(autodetect("memory://nd/run"), NdtiffSource)
        assert ds["image"].equals(imload(folder)["image"])
    finally:
        memory.rm("/nd", recursive=True)
