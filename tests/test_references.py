"""Law: what `virtualize` writes, zarr-python reads alone, with the pixels that `imload` reads; all else is refused."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
import zarr

from intake_img import imload, imsave, virtualize
from intake_img.errors import CannotWriteError, IntakeImgError, TargetExistsError

imagecodecs = pytest.importorskip("imagecodecs.numcodecs")
tifffile = pytest.importorskip("tifffile")


@contextlib.contextmanager
def group(refs):
    import fsspec

    protocol = {"fo": str(refs), "remote_protocol": "file", "asynchronous": True, "skip_instance_cache": True}
    yield zarr.open_group(zarr.storage.FsspecStore(fsspec.filesystem("reference", **protocol), path=""), mode="r")


@pytest.fixture(autouse=True)
def codecs():
    imagecodecs.register_codecs(verbose=False)


def equal(a, b):
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=np.dtype(a.dtype).kind == "f")


@pytest.mark.filterwarnings("ignore")  # of zarr, and of files with odd tags
def test_every_real_tiff_and_npy(data, tmp_path):
    paths = [p for p in sorted(data.rglob("*")) if p.suffix.lower() in (".tif", ".tiff", ".npy", ".lsm", ".stk")]
    read, refused = 0, {}
    for path in (p for p in paths if p.is_file() and p.stat().st_size < 150_000):
        try:
            expected = imload(path, output_axis_order=None)
            refs = virtualize(path, tmp_path / "refs.json", overwrite=True)
        except IntakeImgError as exc:
            refused[str(path)] = str(exc)
            continue
        with group(refs) as found:
            assert found["image"].attrs["_ARRAY_DIMENSIONS"] == list(expected.image.dims), path
            assert equal(found["image"][...], expected.image.values), path
        read += 1
    assert read > 4 * len(refused)
    assert all(len(why) > 20 for why in refused.values())


@pytest.mark.filterwarnings("ignore")
def test_every_real_zarr(data, tmp_path):
    read = 0
    for path in sorted(data.rglob("*.zarr")):
        with group(virtualize(path, tmp_path / "refs.json", overwrite=True)) as found:
            for name, array in zarr.open_group(path, mode="r").members(max_depth=None):
                if isinstance(array, zarr.Array) and array.nbytes < 2e6:
                    assert equal(found[name][...], array[...]), (path, name)
                    read += 1
    assert read > 5


@pytest.fixture
def image(tmp_path):
    values = np.random.default_rng(0).integers(0, 60000, (3, 2, 64, 48)).astype("uint16")
    image = xr.DataArray(values, dims=("t", "c", "y", "x"), coords={"c": ["DAPI", "GFP"], "x": np.arange(48) * 0.5})
    image["x"].attrs = {"units": "µm", "spacing": 0.5}
    return image


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"compression": "zstd", "tile": (32, 32)},
        {"tile": (32, 32), "byteorder": ">"},
        {"compression": "lzma", "rowsperstrip": 16},
        {"rowsperstrip": 24},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tiffs_of_all_codecs(image, tmp_path, options):
    tifffile.imwrite(tmp_path / "a.ome.tif", image.values, metadata={"axes": "TCYX"}, **options)
    with group(virtualize(tmp_path / "a.ome.tif", tmp_path / "refs.json")) as found:
        assert np.array_equal(found["image"][...], image.values)


ALONE = """
import sys, xarray as xr
ds = xr.open_dataset("reference://", engine="zarr", chunks=None, group=sys.argv[2] or None,
                     backend_kwargs={"storage_options": {"fo": sys.argv[1], "remote_protocol": "file"}})
assert "intake_img" not in sys.modules
print(int(ds.image.astype("int64").sum()), "".join(ds.image.dims), float(ds.x[1]), *ds.c.values)
"""


def test_xarray_reads_them_without_us(image, tmp_path):
    image[0, 0, 0] = 0
    imsave(image, tmp_path / "a.ome.tif")
    np.save(tmp_path / "b.npy", image.values)
    one = virtualize(imload(tmp_path / "a.ome.tif"), tmp_path / "refs.json")
    many = virtualize({"first": tmp_path / "a.ome.tif", "second": tmp_path / "b.npy"}, tmp_path / "many.json")
    for refs, name in ((one, ""), (many, "first")):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ALONE, refs, name],
            capture_output=True,
            text=True,
            timeout=60,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
        assert done.stdout.split() == [str(int(image.values.astype("int64").sum())), "tcyx", "0.5", "DAPI", "GFP"], (
            done.stderr[-2000:]
        )
    refs = json.loads((tmp_path / "refs.json").read_text())["refs"]
    assert sum(v[2] for v in refs.values() if isinstance(v, list)) == image.nbytes
    with group(many) as found:
        assert np.array_equal(found["second/image"][...], image.values)


def test_what_cannot_be_expressed_is_refused(image, tmp_path):
    imsave(image[0, 0], tmp_path / "a.png")
    imsave(image, tmp_path / "a.npz")
    tifffile.imwrite(tmp_path / "bits.tif", image.values[0, 0] % 2 == 1)
    tifffile.imwrite(tmp_path / "strips.tif", image.values[0, 0], compression="zlib", rowsperstrip=10)
    for name, words in (("a.png", "does not store"), ("a.npz", "does not store"), ("strips.tif", "incomplete chunks")):
        with pytest.raises(CannotWriteError, match=words):
            virtualize(tmp_path / name, tmp_path / "refs.json")
    assert not (tmp_path / "refs.json").exists()
    with pytest.raises(CannotWriteError, match=r"refs\.json"):
        virtualize(tmp_path / "strips.tif", tmp_path / "refs.txt")
    with pytest.raises(CannotWriteError, match="does not know its file"):
        virtualize(xr.Dataset(), tmp_path / "refs.json")
    np.save(tmp_path / "a.npy", image.values)
    virtualize(tmp_path / "a.npy", tmp_path / "refs.json")
    with pytest.raises(TargetExistsError):
        virtualize(tmp_path / "a.npy", tmp_path / "refs.json")
