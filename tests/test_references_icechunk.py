"""Law: what `virtualize` writes into Icechunk, zarr-python and xarray read with the pixels that `imload` reads."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from intake_img import imload, imsave, virtualize
from intake_img.errors import CannotWriteError, IntakeImgError, TargetExistsError
from intake_img.formats.omezarr.version3 import array_of_version_2

icechunk = pytest.importorskip("icechunk")
tifffile = pytest.importorskip("tifffile")
pytestmark = pytest.mark.filterwarnings("ignore:.*not in the Zarr version 3 specification", "ignore:.*Object at")
LOCAL = getattr(getattr(icechunk, "credentials", None), "LocalFileSystemAccess", None)
"""What Icechunk 2 expects in place of None."""


@pytest.fixture(autouse=True, scope="module")
def quiet():
    icechunk.set_logs_filter("error")
    try:
        from imagecodecs.zarr import register_codecs
    except ImportError:
        return
    register_codecs(verbose=False)


def opened(target: Any, credential: Any = LOCAL) -> Any:
    """Return the store of a repository whose containers are all authorized."""
    storage = icechunk.local_filesystem_storage(str(target))
    prefixes = icechunk.Repository.fetch_config(storage).virtual_chunk_containers
    repository = icechunk.Repository.open(storage, authorize_virtual_chunk_access=dict.fromkeys(prefixes, credential))
    return repository.readonly_session("main").store


def equal(a: Any, b: Any) -> bool:
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=np.dtype(a.dtype).kind == "f")


@pytest.fixture
def image() -> xr.DataArray:
    values = np.random.default_rng(0).integers(0, 60000, (3, 2, 64, 48)).astype("uint16")
    image = xr.DataArray(values, dims=("t", "c", "y", "x"), coords={"c": ["DAPI", "µ-GFP"], "x": np.arange(48) * 0.5})
    image["x"].attrs = {"units": "µm", "spacing": 0.5}
    return image


@pytest.mark.filterwarnings("ignore")  # of zarr, and of files with odd tags
def test_real_files(data, tmp_path):
    """Equal, or refused for a codec that no Zarr 3 package here has."""
    paths = [p for p in sorted(data.rglob("*")) if p.suffix.lower() in (".tif", ".npy", ".lsm", ".stk") and p.is_file()]
    target, counts = tmp_path / "refs.icechunk", {"read": 0, True: 0, False: 0}
    for path in [p for p in paths if p.stat().st_size < 50_000][:30]:
        try:
            expected = imload(path, output_axis_order=None)
            virtualize(path, tmp_path / "refs.json", overwrite=True)
        except IntakeImgError:
            continue
        try:
            virtualize(path, target, overwrite=True)
        except CannotWriteError as exc:
            counts["has the codec 'imagecodecs_" in str(exc)] += 1
            continue
        found = zarr.open_group(opened(target), mode="r")["image"]
        assert list(found.metadata.dimension_names) == list(expected.image.dims), path
        assert equal(found[...], expected.image.values), path
        counts["read"] += 1
    assert counts["read"] > 10
    assert counts[False] == 0  # all that is refused is refused for its codec


@pytest.mark.filterwarnings("ignore")
def test_real_stores(data, tmp_path):
    read = 0
    for path in sorted(data.rglob("*.zarr")):
        virtualize(path, tmp_path / "refs.icechunk", overwrite=True)
        found = zarr.open_group(opened(tmp_path / "refs.icechunk"), mode="r")
        for name, array in zarr.open_group(path, mode="r").members(max_depth=None):
            if isinstance(array, zarr.Array) and array.nbytes < 2e6:
                assert equal(found[name][...], array[...]), (path, name)
                assert dict(found[name].attrs).items() <= dict(array.attrs).items()
                read += 1
    assert read > 5


@pytest.mark.parametrize("options", [{}, {"chunks": 16}, {"chunks": 16, "shards": True}, {"version": "0.4"}])
def test_stores_with_shards_levels_and_missing_chunks(image, options, tmp_path):
    image[1, 0, :32] = 0
    imsave(image, tmp_path / "a.zarr", pyramid=1, **options)
    expected = zarr.open_group(tmp_path / "a.zarr", mode="r")
    found = zarr.open_group(opened(virtualize(tmp_path / "a.zarr", tmp_path / "refs.icechunk")), mode="r")
    for name in ("0", "1"):
        assert equal(found[name][...], expected[name][...])
    assert dict(found.attrs) == dict(expected.attrs)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (32, 32), "byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "zstd", "tile": (32, 32)},
        {"compression": "lzma", "rowsperstrip": 16},
        {"compression": "lzw", "predictor": True},
        {"compression": "packbits"},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tiffs_are_read_by_xarray(image, options, tmp_path):
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a b#%é.ome.tif", image.values, metadata={"axes": "TCYX"}, **options)
    if options.get("compression") in ("lzw", "packbits") and importlib.util.find_spec("imagecodecs.zarr") is None:
        with pytest.raises(CannotWriteError, match="needs an imagecodecs with codecs for Zarr format 3"):
            virtualize(tmp_path / "a b#%é.ome.tif", tmp_path / "refs.icechunk")
        assert not (tmp_path / "refs.icechunk").exists()
        return
    virtualize(tmp_path / "a b#%é.ome.tif", tmp_path / "refs.icechunk")
    with xr.open_zarr(opened(tmp_path / "refs.icechunk"), consolidated=False, chunks=None) as found:
        assert found.image.dims == image.dims
        assert equal(found.image.values, image.values)


def test_coordinates_and_names_of_channels(image, tmp_path):
    imsave(image, tmp_path / "a.ome.tif")
    np.save(tmp_path / "b.npy", image.values)
    uris = {"first/one": tmp_path / "a.ome.tif", "second": tmp_path / "b.npy"}
    store = opened(virtualize(uris, tmp_path / "refs.icechunk"))
    with xr.open_zarr(store, group="first/one", consolidated=False, chunks=None) as found:
        assert list(found.c.values) == ["DAPI", "µ-GFP"]
        assert equal(found.x.values, image.x.values)
        assert (found.x.attrs["units"], found.img.spacing["x"]) == ("µm", 0.5)
    assert equal(zarr.open_group(store, mode="r")["second/image"][...], image.values)


def test_a_file_that_changed_is_not_read(image, tmp_path):
    np.save(tmp_path / "a.npy", image.values)
    store = opened(virtualize(tmp_path / "a.npy", tmp_path / "refs.icechunk"))
    assert equal(zarr.open_group(store, mode="r")["image"][...], image.values)
    os.utime(tmp_path / "a.npy", (time.time() + 5,) * 2)
    with pytest.raises(Exception, match=r"changed|checksum|modified"):
        zarr.open_group(store, mode="r")["image"][...]


def _repository(folder: Path) -> Any:
    prefix = f"file://{folder}/"
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store(str(folder)))
    )
    return icechunk.Repository.create(
        icechunk.in_memory_storage(), config, authorize_virtual_chunk_access={prefix: LOCAL}
    )


def test_a_session_of_ones_own_repository(image, tmp_path):
    """Nothing is committed; other groups stay; what exists is refused, or replaced."""
    (tmp_path / "in").mkdir()
    for k in range(3):
        np.save(tmp_path / "in" / f"{k}.npy", image.values + np.uint16(k))
    repository = _repository(tmp_path / "in")
    session = repository.writable_session("main")
    base = session.snapshot_id
    assert virtualize({"d/one": tmp_path / "in/0.npy"}, session) == base
    assert virtualize({"d/two": tmp_path / "in/1.npy"}, session.store) == base
    first = session.commit("two images")
    assert repository.lookup_branch("main") == first
    session = repository.writable_session("main")
    with pytest.raises(TargetExistsError, match=r"d/one exists .* overwrite=True"):
        virtualize({"d/one": tmp_path / "in/2.npy"}, session)
    virtualize({"d/one": tmp_path / "in/2.npy"}, session, overwrite=True)
    session.commit("another")
    for version, added in (
        (repository.readonly_session(snapshot_id=first), 0),
        (repository.readonly_session("main"), 2),
    ):
        found = zarr.open_group(version.store, mode="r")
        assert equal(found["d/one/image"][...], image.values + np.uint16(added))
        assert equal(found["d/two/image"][...], image.values + np.uint16(1))
    session = repository.writable_session("main")
    with pytest.raises(TargetExistsError, match="the root group exists"):
        virtualize(tmp_path / "in/2.npy", session)
    virtualize(tmp_path / "in/2.npy", session, overwrite=True)
    assert [name for name, _ in zarr.open_group(session.store, mode="r").members()] == ["image"]
    np.save(tmp_path / "out.npy", image.values)
    with pytest.raises(CannotWriteError, match=r"no virtual chunk container for .*out\.npy"):
        virtualize({"new": tmp_path / "out.npy"}, session)
    assert "new" not in zarr.open_group(session.store, mode="r")


def test_what_icechunk_cannot_read_is_refused(image, tmp_path):
    imsave(image, f"memory://{tmp_path.name}/a.zarr")
    with pytest.raises(CannotWriteError, match="Icechunk cannot read memory://"):
        virtualize(f"memory://{tmp_path.name}/a.zarr", tmp_path / "refs.icechunk")
    assert not (tmp_path / "refs.icechunk").exists()
    np.save(tmp_path / "a.npy", image.values)
    virtualize(tmp_path / "a.npy", tmp_path / "refs.icechunk")
    with pytest.raises(TargetExistsError):
        virtualize(tmp_path / "a.npy", tmp_path / "refs.icechunk")
    virtualize(tmp_path / "a.npy", tmp_path / "refs.icechunk", overwrite=True)


def test_images_on_s3(image, s3, tmp_path):
    import s3fs

    stream = io.BytesIO()
    tifffile.imwrite(stream, image.values, compression="zlib")
    s3fs.S3FileSystem(**s3).pipe("images/a b#%é.tif", stream.getvalue())
    imsave(image, "s3://images/a.zarr", storage_options=s3)
    uris = {"tif": "s3://images/a b#%é.tif", "zarr": "s3://images/a.zarr"}
    target = virtualize(uris, tmp_path / "refs.icechunk", storage_options=s3)
    assert not any(s3["key"].encode() in p.read_bytes() for p in Path(target).rglob("*") if p.is_file())
    key = icechunk.s3_credentials(access_key_id=s3["key"], secret_access_key=s3["secret"])
    (credentials,) = icechunk.containers_credentials({"": key}).values()
    found = zarr.open_group(opened(target, credentials), mode="r")
    assert equal(found["tif/image"][...], imload(uris["tif"], output_axis_order=None, storage_options=s3).image.values)
    assert equal(found["zarr/0"][...], image.values)


def _two(values: np.ndarray, **options: Any) -> Any:
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=values.shape, chunks=(2, 4, 2), dtype=values.dtype, zarr_format=2, **options)
    array[...] = values
    return store


@pytest.mark.parametrize("codec", ["none", "gzip", "zlib", "zstd", "blosc", "lzma", "bz2", "F", "delta"])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f8", "c16", "?"])
@pytest.mark.filterwarnings("ignore")
def test_arrays_of_version_2_as_version_3(codec, dtype):
    """Law: the chunks of an array, read under the metadata of format 3, are the same pixels."""
    import numcodecs

    values = (np.random.default_rng(0).random((5, 4, 3)) * 100).astype(dtype)
    made = {
        "gzip": numcodecs.GZip(),
        "zlib": numcodecs.Zlib(),
        "zstd": numcodecs.Zstd(),
        "blosc": numcodecs.Blosc(shuffle=-1),
        "lzma": numcodecs.LZMA(),
        "bz2": numcodecs.BZ2(),
    }
    filters = [numcodecs.Delta(dtype)] if codec == "delta" and np.dtype(dtype).kind in "iu" else None
    options: dict[str, Any] = {"compressors": made.get(codec), "order": "F" if codec == "F" else "C"}
    two = _two(values, **options, filters=filters)
    document = array_of_version_2(json.loads(two._store_dict[".zarray"].to_bytes()), {"_ARRAY_DIMENSIONS": list("zyx")})
    three = zarr.storage.MemoryStore()
    buffers = zarr.core.buffer.default_buffer_prototype().buffer
    three._store_dict["zarr.json"] = buffers.from_bytes(json.dumps(document).encode())
    chunks = {k: v for k, v in two._store_dict.items() if not k.startswith(".z")}
    three._store_dict |= {f"c/{k.replace('.', '/')}": v for k, v in chunks.items()}
    found = zarr.open_array(three, mode="r")
    assert equal(found[...], values)
    assert found.metadata.dimension_names == ("z", "y", "x")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dtype": "|S4"}, "data type"),
        ({"dtype": [["a", "<u2"]]}, "data type"),
        ({"compressor": {"id": "unheard"}}, "codec 'unheard'"),
        ({"compressor": {"id": "imagecodecs_unheard"}}, "codec 'imagecodecs_unheard'"),
        ({"filters": [{"id": "zlib", "level": 1}, {"id": "delta", "dtype": "<u2"}]}, "after one that makes bytes"),
        ({"filters": [{"id": "delta", "dtype": "<u2"}], "order": "F"}, "Fortran"),
    ],
)
def test_arrays_that_version_3_cannot_express(changed, words):
    array = {"shape": [4], "chunks": [2], "dtype": "<u2", "fill_value": 0, "order": "C", "filters": None}
    with pytest.raises(CannotWriteError, match=words):
        array_of_version_2({**array, "compressor": None, **changed}, {})
