"""Random access into compressed streams: equal to inflating all, each byte inflated once, damage noticed."""

from __future__ import annotations

import bz2
import gzip
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.errors import FormatError
from intake_img.formats.inflating import inflated_quickly
from intake_img.storage import inflated
from intake_img.storage.cache import CACHE
from intake_img.storage.files import File
from intake_img.storage.inflated import Inflated
from intake_img.storage.raw import read_raw

pytestmark = pytest.mark.thorough

CONTENT = np.repeat(np.random.default_rng(3).integers(0, 50, 60_000, dtype="u1"), 5).tobytes()


def deflate(content):
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


PACKED = {
    "gzip": gzip.compress(CONTENT, 4),
    "zlib": zlib.compress(CONTENT),
    "deflate": deflate(CONTENT),
    "bzip2": bz2.compress(CONTENT, 1),
}
SEVERAL = {
    "gzip": gzip.compress(CONTENT[:100_001]) + gzip.compress(b"") + gzip.compress(CONTENT[100_001:]) + b"\0\0\0",
    "bzip2": bz2.compress(CONTENT[:100_001]) + bz2.compress(CONTENT[100_001:]),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small blocks, so that small streams have many; and a cache of twelve of them."""
    monkeypatch.setattr(inflated, "_BLOCK", 2**14)
    monkeypatch.setattr(inflated, "_PIECE", 1000)
    monkeypatch.setattr(Inflated, "slack", 2**14)
    before, CACHE.limit = CACHE.limit, 12 * 2**14
    yield
    CACHE.limit = before
    CACHE.clear()


def opened(tmp_path, packed, kind, before=b"", after=b"", **facts):
    path = tmp_path / f"stream.{kind}"
    path.write_bytes(before + packed + after)
    return Inflated(File.parse(path).open(), kind, len(before), len(packed), **facts)


@pytest.mark.parametrize("kind", PACKED)
def test_any_range_is_that_of_the_content(tmp_path, kind):
    reader = opened(tmp_path, PACKED[kind], kind, b"head", b"tail")

    @examples(40)
    @given(st.integers(0, len(CONTENT)), st.integers(0, 60_000))
    def law(at, count):
        count = min(count, len(CONTENT) - at)
        assert reader.ranges([at], [count]) == [CONTENT[at : at + count]]
        out = bytearray(count)
        reader.read_into(at, memoryview(out))
        assert out == CONTENT[at : at + count]
        with reader.window(at, count) as view:
            assert view == CONTENT[at : at + count]

    law()
    assert reader.size == len(CONTENT)
    with pytest.raises(FormatError, match="ends at 300000"):
        reader.ranges([len(CONTENT) - 2], [3])
    with reader.stream() as stream:
        stream.seek(-5, 2)
        assert stream.read() == CONTENT[-5:]
    reader.close()


@pytest.mark.parametrize("kind", SEVERAL)
def test_streams_that_follow_each_other_are_one(tmp_path, kind):
    reader = opened(tmp_path, SEVERAL[kind], kind)
    assert reader.ranges([99_999, 299_990], [5, 10]) == [CONTENT[99_999:100_004], CONTENT[-10:]]
    assert reader.size == len(CONTENT)
    reader.close()


def test_each_byte_is_inflated_once_in_a_pass_and_a_second_crop_begins_near(tmp_path, monkeypatch):
    count = {"bytes": 0}
    step = Inflated._step

    def counted(self, state):
        block, after = step(self, state)
        count["bytes"] += block.size
        return block, after

    monkeypatch.setattr(Inflated, "_step", counted)
    reader = opened(tmp_path, PACKED["gzip"], "gzip")
    assert b"".join(reader.ranges([at], [10_000])[0] for at in range(0, len(CONTENT), 10_000)) == CONTENT
    assert count["bytes"] == len(CONTENT)
    CACHE.clear()
    count["bytes"] = 0
    assert reader.ranges([250_000], [100]) == [CONTENT[250_000:250_100]]
    assert count["bytes"] <= 2**14
    reader.close()


@pytest.mark.parametrize("kind", PACKED)
def test_threads_share_a_stream_and_inflate_each_byte_once_while_the_cache_holds_them(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(CACHE, "limit", 2 * len(CONTENT))
    blocks = []
    step = Inflated._step
    monkeypatch.setattr(Inflated, "_step", lambda self, state: blocks.append(state.at) or step(self, state))
    reader = opened(tmp_path, PACKED[kind], kind)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda at: reader.ranges([at], [10_000])[0], range(0, len(CONTENT), 10_000)))
    assert b"".join(parts) == CONTENT
    assert len(blocks) == -(-len(CONTENT) // 2**14)
    reader.close()


@pytest.mark.parametrize("kind", PACKED)
def test_damage_is_noticed(tmp_path, kind):
    packed = PACKED[kind]
    cut = opened(tmp_path, packed[: len(packed) // 2], kind)
    assert cut.ranges([0], [1000]) == [CONTENT[:1000]]  # what is there can be read
    with pytest.raises(FormatError, match="truncated or damaged"):
        cut.ranges([len(CONTENT) - 1], [1])
    cut.close()
    more = opened(tmp_path, packed, kind, size=len(CONTENT) + 5)
    with pytest.raises(FormatError, match="more were expected"):
        more.ranges([len(CONTENT)], [2])
    more.close()
    sums = opened(tmp_path, packed, kind, checksum=zlib.crc32(CONTENT) ^ 1)
    with pytest.raises(FormatError, match="checksum"):
        sums.ranges([len(CONTENT) - 1], [1])
    sums.close()
    spoilt = bytearray(packed)
    spoilt[len(packed) // 3 : len(packed) // 3 + 20] = bytes(20)
    broken = opened(tmp_path, bytes(spoilt), kind, checksum=zlib.crc32(CONTENT))
    with pytest.raises(FormatError, match="damaged"):
        broken.ranges([len(CONTENT) - 1], [1])
    broken.close()


@pytest.mark.parametrize("kind", PACKED)
def test_damage_is_noticed_each_time(tmp_path, kind):
    """What was refused once is not kept, though it was inflated."""
    last = len(CONTENT) - 1
    wrong = {"size": last + 5, "checksum": zlib.crc32(CONTENT) ^ 1}
    spoilt = bytearray(PACKED[kind])
    spoilt[len(spoilt) // 3 : len(spoilt) // 3 + 20] = bytes(20)
    streams = [(PACKED[kind], {name: fact}) for name, fact in wrong.items()]
    streams += [(bytes(spoilt), {"checksum": zlib.crc32(CONTENT)}), (PACKED[kind][:-2000], {})]
    for packed, facts in streams:
        reader = opened(tmp_path, packed, kind, **facts)
        for _ in range(3):
            with pytest.raises(FormatError, match="damaged"):
                reader.ranges([last], [1])
        reader.close()


@pytest.mark.parametrize("kind", PACKED)
def test_a_failure_of_the_file_leaves_no_trace(tmp_path, monkeypatch, kind):
    reader = opened(tmp_path, PACKED[kind], kind, checksum=zlib.crc32(CONTENT))
    whole = reader.source.ranges
    for fails in (3, 20, 41):
        calls = iter(range(10_000))

        def ranges(offsets, counts, calls=calls, fails=fails):
            if next(calls) == fails:
                raise OSError("the server is away")
            return whole(offsets, counts)

        monkeypatch.setattr(reader.source, "ranges", ranges)
        with pytest.raises(OSError, match="away"):
            reader.ranges([0], [len(CONTENT)])
    assert reader.ranges([0, 1000], [len(CONTENT), 50_000]) == [CONTENT, CONTENT[1000:51_000]]
    reader.close()


def test_regions_of_arrays(tmp_path):
    values = np.frombuffer(CONTENT, ">u2").reshape(30, 50, 100)
    reader = opened(tmp_path, PACKED["gzip"], "gzip")
    for region in (
        np.s_[3:5, 2:40, 5:6],
        np.s_[0:30, 7:8, 3:99],
        np.s_[0:30, 0:50, 99:100],
        np.s_[29:30, 49:50, 0:100],
    ):
        out = np.empty(values[region].shape, "u2")
        read_raw(reader, 0, values.dtype, values.shape, region, out)
        np.testing.assert_array_equal(out, values[region])
    reader.close()


def test_compressed_npz_reads_regions(tmp_path):
    values = np.frombuffer(CONTENT, "u1").reshape(3, 100, 1000)
    np.savez_compressed(tmp_path / "a.npz", image=values, turned=np.asfortranarray(values))
    ds = imload(str(tmp_path / "a.npz"), chunks={"y": 30})
    np.testing.assert_array_equal(ds["image"].values, values)
    np.testing.assert_array_equal(ds["turned"].values, values)
    np.testing.assert_array_equal(ds["image"][1, 3:40:2, ::-7].values, values[1, 3:40:2, ::-7])


@given(st.integers(0, 9000), st.integers(0, 3), st.sampled_from(["gzip", "zlib"]))
def test_chunks_of_known_size_are_inflated_or_left_to_zlib(size, change, method):
    pytest.importorskip("imagecodecs")
    content = np.random.default_rng(size).integers(0, 250, size, "u1").tobytes()
    packed = gzip.compress(content) if method == "gzip" else zlib.compress(content)
    damaged = packed[:-2] + bytes([packed[-2] ^ 1, packed[-1]])
    data, want = [(packed, size), (packed, size + 1), (packed, size - 1), (damaged, size)][change]
    found = inflated_quickly(memoryview(data), want, method)
    if change == 0 and len(packed) >= 2**12:
        assert found == content
    else:
        assert found is None


def test_blocks_of_klb_in_zlib(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 300, (4, 80, 90)).astype("u2")
    imsave(xr.DataArray(values, dims=list("zyx")), tmp_path / "a.klb", compress="zlib")
    with_library = imload(tmp_path / "a.klb").image.squeeze().values
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    for found in (with_library, imload(tmp_path / "a.klb").image.squeeze().values):
        np.testing.assert_array_equal(found, values)
