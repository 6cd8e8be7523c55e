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
    imsave(image, tmp_path / "a.npz", compress=True)
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


@pytest.mark.filterwarnings("ignore:.*(LimitedMetadata|drops|do not hold)")
@pytest.mark.parametrize("extension", [".npz", ".bin", ".nii", ".nrrd", ".mha", ".mrc", ".fits"])
def test_uncompressed_files_are_expressed_right_or_refused(image, extension, tmp_path):
    volume = image[:, 0].rename(t="z")
    if "c" in volume.coords:
        volume = volume.drop_vars("c")
    imsave(volume, tmp_path / f"a{extension}")
    try:
        virtualize(tmp_path / f"a{extension}", tmp_path / "refs.json")
    except CannotWriteError:
        assert extension not in (".npz", ".bin")
        return
    with group(tmp_path / "refs.json") as found:
        expected = imload(tmp_path / f"a{extension}", output_axis_order=None).image
        assert found["image"].attrs["_ARRAY_DIMENSIONS"] == list(expected.dims)
        assert equal(found["image"][...], expected.values)


@contextlib.contextmanager
def lazy_group(refs):
    """As `group`, through fsspec's own reader of Parquet references."""
    import fsspec
    from fsspec.implementations.reference import LazyReferenceMapper

    protocol = {"remote_protocol": "file", "asynchronous": True, "skip_instance_cache": True}
    mapper = LazyReferenceMapper(str(refs), engine="pyarrow")
    yield zarr.open_group(
        zarr.storage.FsspecStore(fsspec.filesystem("reference", fo=mapper, **protocol), path=""), mode="r"
    )


@pytest.mark.filterwarnings("ignore")
def test_parquet_holds_what_json_holds(data, tmp_path):
    """Real TIFF files and stores: equal pixels, or refused because of shards."""
    pytest.importorskip("pyarrow")
    tiffs = [p for p in sorted(data.rglob("*.tif")) if p.stat().st_size < 60_000][:12]
    counts = {"read": 0, "refused": 0}
    for path in [*tiffs, *sorted(data.rglob("*.zarr"))]:
        try:
            virtualize(path, tmp_path / "refs.json", overwrite=True)
        except IntakeImgError:
            continue
        try:
            refs = virtualize(path, tmp_path / "refs.parquet", overwrite=True)
        except CannotWriteError as exc:
            counts["refused"] += "has shards" in str(exc) or "codec" in str(exc)
            continue
        with group(tmp_path / "refs.json") as one, lazy_group(refs) as two:
            for name, array in one.members(max_depth=None):
                if isinstance(array, zarr.Array) and array.nbytes < 2e6:
                    assert equal(two[name][...], array[...]), (path, name)
                    counts["read"] += 1
    assert counts["read"] > 20
    assert counts["read"] > 5 * counts["refused"]


def test_parquet_of_many_chunks_and_of_missing_ones(image, tmp_path, monkeypatch):
    """Several files of rows; a chunk that is not there has the fill value; shards are refused, JSON has them."""
    pq = pytest.importorskip("pyarrow.parquet")
    from intake_img.doors import references_parquet

    monkeypatch.setattr(references_parquet, "RECORD", 7)
    image[1, 0, :32] = 0
    imsave(image, tmp_path / "a.zarr", chunks={"t": 1, "c": 1, "y": 16, "x": 16})
    chunks = sorted((tmp_path / "a.zarr").rglob("c/*/*/*/*"))
    assert 60 < len(chunks) < 72
    refs = virtualize(tmp_path / "a.zarr", tmp_path / "refs.parquet")
    assert len(list((tmp_path / "refs.parquet").rglob("*.parq"))) > 72 / 7
    with lazy_group(refs) as found:
        (array,) = (a for n, a in found.members(max_depth=None) if isinstance(a, zarr.Array) and a.ndim == 4)
        assert equal(array[[0, 2]], image.values[[0, 2]])  # of missing chunks, pandas 3 makes NaN, fastparquet None
        assert found.attrs["ome"]["version"] == "0.5"
    tables = [pq.read_table(p) for p in (tmp_path / "refs.parquet").rglob("0/refs.*.parq")]
    assert sum(len(t) - t["path"].null_count for t in tables) == len(chunks)
    assert sum(map(len, tables)) == 72
    imsave(image, tmp_path / "s.zarr", chunks=16, shards=True)
    with pytest.raises(CannotWriteError, match=r"has shards.*\.json"):
        virtualize(tmp_path / "s.zarr", tmp_path / "s.parquet")
    assert not (tmp_path / "s.parquet").exists()
    with group(virtualize(tmp_path / "s.zarr", tmp_path / "s.json")) as found:
        (array,) = (a for n, a in found.members(max_depth=None) if isinstance(a, zarr.Array) and a.ndim == 4)
        assert equal(array[...], image.values)
    with pytest.raises(TargetExistsError):
        virtualize(tmp_path / "a.zarr", tmp_path / "refs.parquet")
    with lazy_group(virtualize({"one": tmp_path / "a.zarr"}, tmp_path / "many.parq")) as found:
        assert "one" in found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compressors": "crc"}, "crc32c"),
        ({"filters": "turned"}, "transposed"),
        ({"compressors": "gzip"}, None),
        ({"compressors": "zstd"}, None),
        ({"compressors": None}, None),
        ({"order": "F"}, None),
        ({"serializer": "big"}, None),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "i4", "f8", "c16", "?"])
def test_arrays_of_version_3_as_version_2(options, words, dtype):
    """Law: the chunks of an array, read under the metadata of format 2, are the same pixels."""
    from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

    from intake_img.formats.omezarr.version2 import array_of_version_3

    codecs = {
        "crc": Crc32cCodec(),
        "gzip": GzipCodec(),
        "zstd": ZstdCodec(checksum=True),
        "big": BytesCodec(endian="big"),
    }
    turned = {"turned": [TransposeCodec(order=(1, 2, 0))], "F": [TransposeCodec(order=(2, 1, 0))]}
    given = {k: codecs.get(v) for k, v in options.items() if k in ("compressors", "serializer")}
    if how := options.get("filters", options.get("order")):
        given["filters"] = turned[how]
    three = zarr.storage.MemoryStore()
    values = (np.random.default_rng(0).random((5, 4, 3)) * 100).astype(dtype)
    three_array = zarr.create_array(three, shape=values.shape, chunks=(2, 4, 2), dtype=dtype, **given)
    three_array[...] = values
    document = json.loads(three._store_dict["zarr.json"].to_bytes())
    if words:
        with pytest.raises(CannotWriteError, match=words):
            array_of_version_3(document)
        return
    two = zarr.storage.MemoryStore()
    buffers = zarr.core.buffer.default_buffer_prototype().buffer
    two._store_dict[".zarray"] = buffers.from_bytes(json.dumps(array_of_version_3(document)).encode())
    two._store_dict |= {k[2:].replace("/", "."): v for k, v in three._store_dict.items() if k.startswith("c/")}
    assert equal(zarr.open_array(two, mode="r", zarr_format=2)[...], values)
