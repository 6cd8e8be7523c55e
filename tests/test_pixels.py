"""Unread pixels: the shapes of automatic chunks, and views without the readers that transpose and reshape."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.errors import AxesError, TooLargeError
from intake_img.model.chunks import MOST_CHUNKS, cut
from intake_img.model.pixels import Pixels

MIB = 2**20


@pytest.mark.parametrize(
    ("shape", "tiles", "nbytes", "block"),
    [
        ((10, 2048, 2048), (1, 256, 256), 4 * MIB, (1, 1024, 2048)),  # the last axis grows first
        ((10, 2048, 2048), (1, 256, 256), 4 * MIB - 2, (1, 1024, 1024)),
        ((10, 2048, 2048), (1, 256, 256), 1, (1, 256, 256)),  # never less than a tile
        ((1000, 64, 64), (1, 64, 64), 4 * MIB, (512, 64, 64)),  # complete planes together
        ((100, 64, 64), (1, 64, 64), 4 * MIB, (100, 64, 64)),
        ((10, 1024, 1024), (1, 1024, 1024), 4 * MIB, (2, 1024, 1024)),
        ((10, 1024, 1024), (1, 1024, 1024), 4 * MIB - 2, (1, 1024, 1024)),
        ((3, 100, 64, 64), (1, 1, 64, 64), 4 * MIB, (3, 100, 64, 64)),
        ((9, 100, 64, 64), (1, 1, 64, 64), 4 * MIB, (5, 100, 64, 64)),
        ((9, 600, 64, 64), (1, 1, 64, 64), 4 * MIB, (1, 512, 64, 64)),  # not several of an axis that is cut
        ((300, 300), (1, 1), 2 * MIB, (300, 300)),
    ],
)
def test_automatic_chunks_are_squares_of_tiles_then_planes(shape, tiles, nbytes, block):
    pixels = Pixels(None, shape, np.dtype("u2"), tiles)
    assert pixels.auto_block(nbytes) == block
    assert tuple(c[0] for c in pixels.auto_chunks(nbytes)) == block
    assert tuple(map(sum, pixels.auto_chunks(nbytes))) == shape


def test_an_automatic_chunk_has_4_mib():
    pixels = Pixels(None, (10, 2048, 2048), np.dtype("u2"), (1, 256, 256))
    assert pixels.auto_block() == pixels.auto_block(4 * MIB) == (1, 1024, 2048)
    assert [c[0] for c in pixels.auto_chunks()] == [1, 1024, 2048]


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [
        ((2 * MOST_CHUNKS + 1,), (2,)),  # a last chunk of one sample is one too many
        ((MOST_CHUNKS // 1000 + 1, 7, 1001), (1, 7, 1)),
        ((3, MOST_CHUNKS), ((1, 2), 1)),
    ],
)
def test_more_chunks_than_a_graph_holds_are_refused(shape, lengths):
    with pytest.raises(TooLargeError, match=r"1e\+07 chunks|2e\+07 chunks"):
        cut(shape, lengths)
    small = tuple(min(n, 6) if isinstance(b, int) else n for n, b in zip(shape, lengths, strict=True))
    assert tuple(map(sum, cut(small, lengths))) == small


@examples(150)
@given(data=st.data())
def test_plain_pixels_have_no_axes_moved_added_or_dropped(data):
    shape = data.draw(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=4))
    source = np.arange(np.prod(shape)).reshape(shape)
    pixels = Pixels.of(source)
    for _ in range(data.draw(st.integers(0, 4))):
        if data.draw(st.booleans()):
            pixels = pixels.transpose(data.draw(st.permutations(range(pixels.ndim))))
            continue
        kept = [k for k, n in enumerate(pixels.shape) if n > 1 or data.draw(st.booleans())]
        for _ in range(data.draw(st.integers(0, 2))):
            kept.insert(data.draw(st.integers(0, len(kept))), None)
        pixels = pixels.reshape(kept)
    plain, places = pixels.plain()
    np.testing.assert_array_equal(plain.read(), source)
    assert (plain.shape, plain.tiles) == (source.shape, source.shape)
    order = [k for k in places if k is not None]
    added = [k for k in range(pixels.ndim) if k not in order]
    assert all(pixels.shape[k] == 1 for k in added)
    assert all(n == 1 for n, k in zip(plain.shape, places, strict=True) if k is None)
    np.testing.assert_array_equal(pixels.read().transpose(order + added).reshape(source.shape), source)


def test_only_axes_of_length_1_are_dropped():
    pixels = Pixels.of(np.zeros((1, 3, 4)))
    assert pixels.reshape([1, 2]).shape == (3, 4)
    assert pixels.reshape([0, 1, 2]) is pixels
    with pytest.raises(AxesError, match="an axis of length 3 cannot be left out"):
        pixels.reshape([0, 2])


def test_lazy_arrays_refuse_what_dask_refuses():
    source = np.arange(24).reshape(2, 3, 4)
    lazy = Pixels.of(source).dask(((1, 1), (3,), (2, 2)))
    plain = da.from_array(source, (1, 3, 2))
    for key in ((..., ...), ([0, 1], [0, 1]), (0, 0, 0, 0), (5,), ([0, 9],), ([True],)):
        with pytest.raises((IndexError, NotImplementedError, TypeError)) as expected:
            plain[key]
        with pytest.raises(type(expected.value)):
            lazy[key]
    for key in ((..., -1), (-1, ..., [3, -4]), ([True, False],), (slice(None), [], 0), (None, 1, ..., None)):
        np.testing.assert_array_equal(lazy[key].compute(), plain[key].compute())
