"""Zarr stores that change below their root, ask for too much, or leave out what they should say."""

import json
import os
import shutil
import threading
import uuid
import zipfile

import fsspec
import numcodecs.registry
import numpy as np
import pytest
import zarr

from intake_img import imload, imsave
from intake_img.errors import FormatError, SourceChangedError, TooLargeError
from intake_img.formats.omezarr.codecs import opening
from intake_img.formats.omezarr.documents import node_of

A = np.arange(48 * 64, dtype="u2").reshape(48, 64)


def make(path, fmt, values=A, chunks=(16, 32), **options):
    group = zarr.open_group(path, mode="w", zarr_format=fmt)
    axes = [{"name": n, "type": "space"} for n in "yx"]
    scale = {"coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    images = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0", **scale}]}]
    described = {"multiscales": images}
    group.attrs.update(described if fmt == 2 else {"ome": {"version": "0.5", **described}})
    replace_array(path, values, chunks, **options)
    return path


def replace_array(path, values, chunks, **options):
    shutil.rmtree(os.path.join(path, "0"), ignore_errors=True)
    array = zarr.open_group(path, mode="r+").create_array(
        "0", shape=values.shape, dtype=values.dtype, chunks=chunks, **options
    )
    array[...] = values


def edit(path, **facts):
    with open(path, encoding="utf-8") as stream:
        content = {k: v for k, v in (json.load(stream) | facts).items() if v is not None}
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(content, stream)


@pytest.mark.parametrize("fmt", [2, 3])
@pytest.mark.parametrize("lazy", ["auto", None])
@pytest.mark.parametrize("values", [A[::-1] + 7, A.astype("f4") / 3, A[:32, :48]], ids=["chunks", "dtype", "shape"])
def test_an_array_that_is_created_anew_is_never_mixed_with_the_old_one(tmp_path, fmt, lazy, values):
    path = make(str(tmp_path / "a.zarr"), fmt, compressors=None)
    old = imload(path, chunks=lazy)
    np.testing.assert_array_equal(old.image[:8, :8], A[:8, :8])
    replace_array(path, np.ascontiguousarray(values), (32, 16), compressors=None)
    with pytest.raises(SourceChangedError, match="array '0' was changed"):
        old.image[8:].values  # noqa: B018
    np.testing.assert_array_equal(imload(path, chunks=lazy).image, values)
    with pytest.raises(SourceChangedError):
        old.image[8:].values  # noqa: B018


@pytest.mark.parametrize("fmt", [2, 3])
def test_labels_and_frames_of_another_program_are_seen_while_an_older_dataset_lives(tmp_path, fmt):
    path = make(str(tmp_path / "a.zarr"), fmt)
    old = imload(path)
    labels = zarr.open_group(path, mode="r+").require_group("labels")
    described = {"labels": ["cells"]}
    labels.attrs.update(described if fmt == 2 else {"ome": {"version": "0.5", **described}})
    make(os.path.join(path, "labels", "cells"), fmt, A.astype("i4"))
    assert list(imload(path).data_vars) == ["image", "cells"]
    np.testing.assert_array_equal(old.image, A)  # its own array did not change
    array = zarr.open_group(path, mode="r+")["0"]
    array.resize((60, 64))
    array[48:] = 5
    assert imload(path).image.sizes["y"] == 60
    with pytest.raises(SourceChangedError):
        old.image.values  # noqa: B018


@pytest.mark.parametrize("compressors", [None, "auto"])
def test_nested_chunks_are_found_where_the_separator_is_not_said(tmp_path, compressors):
    key = {"name": "v2", "separator": "/"}
    path = make(str(tmp_path / "a.zarr"), 2, A + 1, chunk_key_encoding=key, compressors=compressors)
    edit(f"{path}/0/.zarray", dimension_separator=None)
    np.testing.assert_array_equal(imload(path).image, A + 1)
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        for folder, _, names in os.walk(path):
            for name in names:
                full = os.path.join(folder, name)
                archive.write(full, os.path.relpath(full, path))
    np.testing.assert_array_equal(imload(str(tmp_path / "a.zarr.zip")).image, A + 1)


@pytest.mark.parametrize("options", [{}, {"shards": (32, 64)}, {"compressors": None}], ids=["plain", "shards", "none"])
def test_a_huge_shape_opens_lazily_and_is_refused_as_a_graph(tmp_path, options):
    path = make(str(tmp_path / "a.zarr"), 3, **options)
    edit(f"{path}/0/zarr.json", shape=[10**11, 10**3])
    with pytest.raises(TooLargeError, match="chunks=None"):
        imload(path)
    lazy = imload(path, chunks=None).image
    assert lazy.shape == (10**11, 10**3)
    np.testing.assert_array_equal(lazy[3:20, :64], A[3:20])
    edit(f"{path}/0/zarr.json", shape=[10**18, 2**18])
    with pytest.raises(FormatError, match="no image"):
        imload(path)


def test_chunks_far_larger_than_their_array_are_refused_with_the_numbers(tmp_path):
    path = make(str(tmp_path / "a.zarr"), 3, A[:8, :8], (8, 8))
    grid = {"name": "regular", "configuration": {"chunk_shape": [40000, 40000]}}
    edit(f"{path}/0/zarr.json", chunk_grid=grid)
    with pytest.raises(FormatError, match=r"\(40000, 40000\).*GiB"):
        imload(path)


def test_metadata_have_a_limit_and_are_regular_files(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bomb.zarr.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("zarr.json", "w") as stream,
    ):
        for _ in range(2**6):
            stream.write(bytes(2**22))
        stream.write(b" ")
    with pytest.raises(FormatError, match=r"zarr.json has .* 256 MiB"):
        imload(str(tmp_path / "bomb.zarr.zip"))
    path = make(str(tmp_path / "a.zarr"), 3)
    os.truncate(f"{path}/0/zarr.json", 2**28 + 1)
    with pytest.raises(FormatError, match="256 MiB"):
        imload(path)
    os.remove(f"{path}/0/zarr.json")
    os.mkfifo(f"{path}/0/zarr.json")
    with pytest.raises(FormatError, match="a named pipe"):
        imload(path)


@pytest.mark.parametrize("fmt", [2, 3])
def test_metadata_of_remote_stores_have_the_limit_too(tmp_path, monkeypatch, fmt):
    fs, root = fsspec.filesystem("memory"), f"/limits-{uuid.uuid4()}"
    fs.put(make(str(tmp_path / "a.zarr"), fmt), f"{root}/a.zarr", recursive=True)
    np.testing.assert_array_equal(imload(f"memory:/{root}/a.zarr").image, A)
    place = f"{root}/a.zarr/0/" + ("zarr.json" if fmt == 3 else ".zarray")
    monkeypatch.setattr("intake_img.formats.omezarr.remote_store.METADATA_BYTES", 10000)
    fs.pipe(place, fs.cat(place).ljust(10000))
    np.testing.assert_array_equal(imload(f"memory:/{root}/a.zarr").image, A)
    fs.pipe(place, fs.cat(place) + b" ")
    with pytest.raises(FormatError, match="metadata of more than"):
        imload(f"memory:/{root}/a.zarr")


@pytest.mark.parametrize("fmt", [2, 3])
@pytest.mark.parametrize("lazy", ["auto", None])
def test_a_remote_array_that_is_created_anew_is_read_anew(tmp_path, fmt, lazy):
    fs, root = fsspec.filesystem("memory"), f"/stamps-{uuid.uuid4()}"
    path = make(str(tmp_path / "a.zarr"), fmt)
    fs.put(path, f"{root}/a.zarr", recursive=True)
    np.testing.assert_array_equal(imload(f"memory:/{root}/a.zarr", chunks=lazy).image, A)
    for values in (A[:32, :48] + 7, (A / 3).astype("f4"), A[::-1].copy()):
        replace_array(path, values, (32, 16))
        fs.rm(f"{root}/a.zarr/0", recursive=True)
        fs.put(f"{path}/0", f"{root}/a.zarr/0", recursive=True)  # the metadata of the root are left as they are
        found = imload(f"memory:/{root}/a.zarr", chunks=lazy).image
        np.testing.assert_array_equal(found, values)
        assert found.dtype == values.dtype


@pytest.mark.parametrize("name", ["a.zarr", "a.tif", "a.npy", "a.bin"])
@pytest.mark.parametrize("dtype", ["q", "Q", "l", "L", "p", ">i8", "=u8", ">u2", ">f4"])
def test_every_spelling_of_a_dtype_can_be_written(tmp_path, name, dtype):
    import xarray as xr

    values = A.astype(dtype)
    imsave(xr.DataArray(values, dims=("y", "x"), name="image").to_dataset(), str(tmp_path / name))
    found = imload(str(tmp_path / name)).image
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype.newbyteorder("=")


def test_documents_make_the_nodes_that_zarr_opens(data):
    """For all arrays and groups of Zarr format 3 among the real files."""
    kinds = set()
    for path in sorted((data / "omezarr_v05").rglob("zarr.json")):
        document = json.loads(path.read_bytes())
        store = zarr.storage.LocalStore(path.parent, read_only=True)
        expected = zarr.open(store, mode="r", zarr_format=3)
        found = node_of(store, "", document)
        assert type(found) is type(expected)
        assert found.path == expected.path
        if isinstance(expected, zarr.Array):
            assert found == expected
            assert found.metadata == expected.metadata
        assert dict(found.attrs) == dict(expected.attrs)
        kinds.add(document["node_type"])
    assert kinds == {"array", "group"}


@pytest.mark.parametrize(
    "change",
    [
        {"node_type": "other"},
        {"zarr_format": 2},
        {"shape": "abc"},
        {"data_type": "unknown"},
        {"codecs": [{"name": "unknown"}]},
        {"chunk_grid": {"name": "other"}},
    ],
)
def test_zarr_says_what_is_wrong_with_a_document(tmp_path, change):
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 6), dtype="u2")
    path = tmp_path / "a.zarr" / "zarr.json"
    document = json.loads(path.read_bytes()) | change
    assert node_of(zarr.storage.LocalStore(tmp_path), "a.zarr", document) is None
    path.write_text(json.dumps(document))
    with pytest.raises(FormatError, match=r"a\.zarr"):
        imload(tmp_path / "a.zarr")


def test_a_local_store_is_opened_without_the_event_loop_of_zarr(tmp_path, monkeypatch):
    imsave(np.arange(24, dtype="u2").reshape(4, 6), tmp_path / "a.zarr")

    def refused(*args, **kwargs):
        raise AssertionError("zarr opens a node")

    monkeypatch.setattr(zarr, "open_array", refused)
    monkeypatch.setattr(zarr, "open_group", refused)
    np.testing.assert_array_equal(imload(tmp_path / "a.zarr").image, np.arange(24).reshape(4, 6))


def test_opening_does_not_wait_for_another_thread_that_opens(tmp_path):
    """One that waits for a server, which may be in this process, would stop all others."""
    path, entered = make(tmp_path / "a.zarr", 3, compressors=zarr.codecs.BloscCodec()), []

    def other():
        with imload(path) as ds:
            entered.append((numcodecs.registry.codec_registry["blosc"], ds.load().image.values))

    before = numcodecs.registry.codec_registry["blosc"]
    with opening():
        thread = threading.Thread(target=other, daemon=True)
        thread.start()
        thread.join(30)
    ((within, values),) = entered
    np.testing.assert_array_equal(values, A)
    assert within is not before
    assert numcodecs.registry.codec_registry["blosc"] is before
