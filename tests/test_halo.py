"""Functions over chunks with a halo: for any chunks and depths, the values of the complete array in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from thoroughness import examples

from intake_img.accessor.processing.halo import halo
from intake_img.accessor.processing.in_memory import Held

da = pytest.importorskip("dask.array")
pytestmark = pytest.mark.thorough
RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(1, 1000, 20)  # all differ: no pixel can stand for another


def summed(values: np.ndarray, depth: dict[int, tuple[int, int]], mode: str) -> np.ndarray:
    """A weighted sum of each pixel and its neighbours: `depth` before and after it along each axis."""
    for axis, (before, after) in depth.items():
        n = before + 1 + after
        values = ndimage.correlate1d(values, WEIGHTS[:n], axis, mode=mode, origin=before - n // 2)
    return values


@st.composite
def lengths(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    cuts = sorted(draw(st.sets(st.integers(1, size - 1), max_size=4))) if size > 1 else []
    return tuple(np.diff([0, *cuts, size]).tolist())


@st.composite
def inputs(draw: st.DrawFn) -> tuple[np.ndarray, Any, dict[int, tuple[int, int]], dict[int, tuple[int, int]]]:
    """Values, the same in chunks or held in memory, depths and windows by axis."""
    values = RNG.integers(0, 100, draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 9))))
    chunks = tuple(draw(lengths(n)) for n in values.shape)
    array = Held(values, chunks) if draw(st.booleans()) else da.from_array(values, chunks)
    depths = st.sampled_from([(0, 1), (1, 0), (1, 1), (0, 0), (2, 3), (3, 1), (0, 2)])
    depth = {k: draw(depths) for k in (1, 2) if draw(st.booleans())}
    ends = {k: sorted(draw(st.tuples(*[st.integers(0, values.shape[k])] * 2))) for k in (1, 2) if draw(st.booleans())}
    return values, array, depth, {k: (a, b) for k, (a, b) in ends.items()}


def computed(found: Any) -> np.ndarray:
    return found if isinstance(found, np.ndarray) else found.compute(scheduler="sync")


def part(window: dict[int, tuple[int, int]]) -> tuple[slice, ...]:
    return tuple(slice(*window.get(k, (None, None))) for k in range(3))


@pytest.mark.parametrize("depth", [(0, 1), (1, 0), (0, 0), (1, 1), (2, 0)])
@pytest.mark.parametrize("chunk", [1, 2, 5, 11])
def test_each_depth_has_its_own_side(depth: tuple[int, int], chunk: int) -> None:
    values = RNG.integers(0, 100, (11, 4))
    found = halo(
        da.from_array(values, (chunk, 2)),
        lambda piece, inner: summed(piece, {0: depth}, "constant")[inner],
        {0: depth, 1: (0, 0)},
        dtype=values.dtype,
    )
    np.testing.assert_array_equal(computed(found), summed(values, {0: depth}, "constant"))


@examples(150)
@given(inputs(), st.sampled_from(["constant", "nearest", "mirror", "reflect"]), st.booleans())
def test_the_edge_is_that_of_the_function(given_: Any, mode: str, twice: bool) -> None:
    values, array, depth, window = given_

    def func(piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        found = summed(piece, depth, mode)
        return (summed(found, depth, mode) if twice else found)[inner]

    far = {k: (d[0] * (1 + twice), d[1] * (1 + twice)) for k, d in depth.items()}
    found = computed(halo(array, func, far, passes=1 + twice, window=window, dtype=values.dtype))
    np.testing.assert_array_equal(found, func(values, part(window)))


@examples(100)
@given(inputs(), st.booleans())
def test_periodic_images_are_continued_from_the_other_side(given_: Any, padded: bool) -> None:
    values, array, depth, window = given_

    def func(piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        return summed(piece, depth, "wrap")[inner]

    pad = {} if padded else None
    found = computed(halo(array, func, depth, edge="wrap", pad=pad, window=window, dtype=values.dtype))
    np.testing.assert_array_equal(found, func(values, part(window)))


@examples(100)
@given(inputs(), st.sampled_from([{"mode": "constant", "constant_values": 7}, {"mode": "edge"}]))
def test_padded_inputs_have_the_depth_on_both_sides(given_: Any, pad: dict[str, Any]) -> None:
    values, array, depth, window = given_
    before = np.array([depth.get(k, (0, 0)) for k in range(3)])

    def func(piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        assert [s.start for s in inner] == before[:, 0].tolist()
        assert [n - s.stop for n, s in zip(piece.shape, inner, strict=True)] == before[:, 1].tolist()
        return summed(piece, depth, "constant")[inner]

    window = {k: (a, b) for k, (a, b) in window.items() if b > a}
    found = computed(halo(array, func, depth, pad=pad, window=window, dtype=values.dtype))
    whole = summed(np.pad(values, before, **pad), depth, "constant")
    whole = whole[tuple(slice(a, a + n) for (a, _), n in zip(before, values.shape, strict=True))]
    np.testing.assert_array_equal(found, whole[part(window)])


@examples(60)
@given(inputs())
def test_positions_are_those_in_the_source(given_: Any) -> None:
    values, array, depth, window = given_

    def func(piece: np.ndarray, inner: tuple[slice, ...], start: tuple[int, ...]) -> np.ndarray:
        places = np.indices([s.stop - s.start for s in inner]) + np.reshape(start, (3, 1, 1, 1))
        return piece[inner] * 10**6 + np.ravel_multi_index(tuple(places), values.shape)

    found = computed(halo(array, func, depth, window=window, positions=True, dtype=values.dtype))
    whole = values * 10**6 + np.arange(values.size).reshape(values.shape)
    np.testing.assert_array_equal(found, whole[part(window)])


@examples(60)
@given(inputs(), st.integers(1, 4))
def test_complete_axes_become_others(given_: Any, axes: int) -> None:
    values, array, *_ = given_
    array = Held(values, (array.chunks[0], *[(n,) for n in values.shape[1:]])) if isinstance(array, Held) else array
    array = array if isinstance(array, Held) else array.rechunk({1: -1, 2: -1})
    sizes = (2, 3, 1, 2)[:axes]

    def func(piece: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        ends = piece[:, -1, -1].reshape(-1, *[1] * axes)
        return ends + np.arange(np.prod(sizes)).reshape(sizes)

    chunks = [array.chunks[0], *[(n,) for n in sizes]]
    found = computed(halo(array, func, chunks=lambda spans: chunks, kept=1, dtype=values.dtype))
    np.testing.assert_array_equal(found, func(values, ()))
