"""Pixels as dask arrays of given blocks: whatever was selected, moved, added or cast, the values are those read."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.model.blocks import blocks_of, is_computed
from intake_img.model.pixels import Pixels

pytestmark = pytest.mark.thorough


@st.composite
def changed(draw: st.DrawFn) -> Pixels:
    """Pixels of a dask array, or of one in memory, after some changes."""
    shape = draw(st.tuples(*[st.sampled_from([1, 2, 3, 5])] * 3))
    values = np.arange(np.prod(shape)).reshape(shape) * 90 - 1000
    computed = draw(st.booleans())
    pixels = Pixels.of(da.from_array(values, tuple(draw(st.integers(1, n)) for n in shape)) if computed else values)
    for _ in range(draw(st.integers(0, 4))):
        change = draw(st.sampled_from(["move", "add", "select", "cast"]))
        if change == "move":
            pixels = pixels.transpose(draw(st.permutations(range(pixels.ndim))))
        elif change == "add":
            kept: list[int | None] = [k for k, n in enumerate(pixels.shape) if n > 1 or draw(st.booleans())]
            if draw(st.booleans()):
                kept.insert(draw(st.integers(0, len(kept))), None)
            pixels = pixels.reshape(kept)
        elif change == "select":
            pixels = pixels.select([draw(selection(n)) for n in pixels.shape])
        else:
            pixels = pixels.astype(draw(st.sampled_from(["u1", "i2", "u4", "i8"])))
    assert is_computed(pixels) is computed
    return pixels


@st.composite
def selection(draw: st.DrawFn, n: int) -> Any:
    if draw(st.booleans()):
        return draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=4))
    steps = st.sampled_from([1, 2, 3, -1, -2])
    return slice(None, None, draw(steps)) if draw(st.booleans()) else draw(st.integers(-n, n - 1))


@examples(200)
@given(st.lists(changed(), min_size=1, max_size=2), st.data())
def test_blocks_hold_what_is_read(parts: list[Pixels], data: Any) -> None:
    blocks = [[data.draw(st.integers(1, n)) for n in pixels.shape] for pixels in parts]
    arrays = blocks_of(list(zip(parts, blocks, strict=True)))
    for pixels, block, array in zip(parts, blocks, arrays, strict=True):
        assert (array.shape, array.dtype) == (pixels.shape, pixels.dtype)
        assert all(
            len(c) == -(-n // b) and c[0] == b for n, b, c in zip(pixels.shape, block, array.chunks, strict=True)
        )
    for pixels, found in zip(parts, dask.compute(*arrays, scheduler="sync"), strict=True):
        np.testing.assert_array_equal(found, pixels.read())


def test_a_cast_between_two_others_is_not_left_out() -> None:
    values = np.array([-1, 1.75, 255, 300.5])
    lazy, held = (Pixels.of(v).astype("i2").astype("u1").astype("f8") for v in (da.from_array(values, 2), values))
    assert held.read().tolist() == [255, 1, 255, 44]
    (array,) = blocks_of([(lazy, [2])])
    assert array.compute(scheduler="sync").tolist() == held.read().tolist()
