"""Regions of local Zarr arrays equal those that zarr reads, in whatever chunks, shards and codecs they are stored."""

from __future__ import annotations

import os

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

from intake_img import imload
from intake_img.errors import FormatError
from intake_img.formats.omezarr.chunk_files import ChunkFiles

RNG = np.random.default_rng(5)
PLAIN = {
    "none": None,
    "zstd": ZstdCodec(),
    "gzip": GzipCodec(),
    "blosc": BloscCodec(cname="lz4", shuffle="bitshuffle"),
    "crc32c": Crc32cCodec(),
}
OLD = {
    "none": None,
    "zlib": numcodecs.Zlib(),
    "blosc": numcodecs.Blosc(),
    "lz4": numcodecs.LZ4(),
}  # the last is left to zarr
DTYPES = ["u1", "u2", ">u2", "i4", "f4", "f8", "c8", "bool"]


def _values(shape, dtype):
    return RNG.integers(0, 50, shape).astype(dtype)


@st.composite
def stores(draw):
    """Options of an array, and its values; a quarter of the chunks are never written."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 10)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(3, 6)) for _ in range(ndim))
    dtype = draw(st.sampled_from(DTYPES))
    options = {"shape": shape, "dtype": np.dtype(dtype), "fill_value": draw(st.sampled_from([0, 1]))}
    if draw(st.booleans()):
        compressor = OLD[draw(st.sampled_from(sorted(OLD)))]
        order, dots = draw(st.sampled_from("CCF")), draw(st.sampled_from([".", "/"]))
        return options | {
            "zarr_format": 2,
            "chunks": chunks,
            "order": order,
            "compressors": compressor,
            "chunk_key_encoding": {"name": "v2", "separator": dots},
        }
    codec = PLAIN[draw(st.sampled_from(sorted(PLAIN)))]
    inner = [BytesCodec(endian=draw(st.sampled_from(["little", "big"]))), *([codec] if codec else [])]
    if draw(st.integers(0, 5)) == 0:
        inner = [TransposeCodec(order=tuple(range(ndim))[::-1]), *inner]  # left to zarr
    if draw(st.booleans()):
        shard = tuple(c * draw(st.integers(1, 3)) for c in chunks)
        place = draw(st.sampled_from(["start", "end"]))
        return options | {"sharding": (shard, ShardingCodec(chunk_shape=chunks, codecs=inner, index_location=place))}
    return options | {"sharding": (chunks, None), "codecs": inner}


def _made(path, options):
    options = dict(options)
    if "sharding" in options:
        chunk, sharding = options.pop("sharding")
        codecs = [sharding] if sharding is not None else options.pop("codecs")
        array = zarr.create(store=path, overwrite=True, zarr_format=3, chunks=chunk, codecs=codecs, **options)
    else:
        array = zarr.create_array(path, overwrite=True, **options)
    values = _values(array.shape, array.dtype)
    half = tuple(slice(n // 3, n) for n in array.shape)  # the chunks before are missing
    array[half] = values[half]
    return array


@given(options=stores(), data=st.data())
@examples(40)
def test_regions_are_those_of_zarr(options, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("a") / "a.zarr"
    array = _made(path, options)
    expected = array[...]
    keys = []
    for n in array.shape:
        start = data.draw(st.integers(0, n - 1))
        stop = data.draw(st.integers(start + 1, n))
        keys.append(slice(start, stop, data.draw(st.sampled_from([1, 1, 2, 5]))))
    for chunks in (None, "auto"):
        image = imload(path, chunks=chunks, output_axis_order=None).image
        assert image.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(image.values, expected)
        np.testing.assert_array_equal(image[tuple(keys)].values, expected[tuple(keys)])


@pytest.mark.parametrize("name", sorted(PLAIN))
@pytest.mark.parametrize("sharded", [False, True])
def test_every_damaged_chunk_is_an_error_that_names_the_store(tmp_path, name, sharded):
    shards = {"shards": (16, 32)} if sharded else {}
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(16, 32), chunks=(8, 8), dtype="u2", compressors=PLAIN[name], **shards
    )
    array[...] = RNG.integers(0, 2**16, (16, 32))  # no chunk is shorter than the numbers that it holds
    victim = max((p for p in (tmp_path / "a.zarr/c").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    whole = victim.read_bytes()
    for kept in (0, 5, len(whole) // 2, len(whole) - 3):
        victim.write_bytes(whole[:kept])
        for chunks in (None, "auto"):
            with pytest.raises(FormatError, match=r"a\.zarr"):
                imload(tmp_path / "a.zarr", chunks=chunks).compute()


def test_of_uncompressed_chunks_no_more_is_read_than_the_rows_that_are_wanted(tmp_path, monkeypatch):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(4, 64, 64), chunks=(4, 64, 64), dtype="u2", compressors=None)
    array[...] = values = RNG.integers(0, 99, (4, 64, 64))
    image = imload(tmp_path / "a.zarr", chunks=None).image
    read, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: read.append(n) or pread(fd, n, at))
    np.testing.assert_array_equal(image[2, 8:12, 10:20].values, values[2, 8:12, 10:20])
    assert sum(read) <= 4 * 64 * 2


def test_of_a_shard_only_the_chunks_that_are_wanted_are_read(tmp_path, monkeypatch):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(64, 64), chunks=(8, 8), shards=(64, 64), dtype="u2", compressors=None
    )
    array[...] = values = RNG.integers(0, 99, (64, 64))
    read, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: read.append(n) or pread(fd, n, at))
    for chunks in (None, "auto"):
        read.clear()
        np.testing.assert_array_equal(
            imload(tmp_path / "a.zarr", chunks=chunks).image[8:16, 4:12].values, values[8:16, 4:12]
        )
        assert sum(read) <= 2 * 128 + 64 * 16 + 4  # two chunks, and the index


def test_usual_layouts_are_not_left_to_zarr(tmp_path, monkeypatch):
    """What is quick is what is used: a layout that falls back to zarr costs several times as much."""
    calls, read_into = [], ChunkFiles.read_into
    monkeypatch.setattr(ChunkFiles, "read_into", lambda *a: calls.append(1) or read_into(*a))
    for k, (fmt, codec) in enumerate([(3, ZstdCodec()), (3, BloscCodec()), (3, None), (2, numcodecs.Blosc())]):
        array = zarr.create_array(
            tmp_path / f"{k}.zarr", shape=(32, 32), chunks=(8, 8), dtype="u2", zarr_format=fmt, compressors=codec
        )
        array[...] = 1
        calls.clear()
        assert imload(tmp_path / f"{k}.zarr", chunks=None).image.values.sum() == 1024
        assert calls
