"""Tiles of CZI files: which of them meet a region, and whether they cover the planes, as painting them shows."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_czi import Block, make_czi
from thoroughness import examples

from intake_img import imload
from intake_img.formats.czi.index import Mosaic

pytestmark = pytest.mark.thorough
HEIGHT, WIDTH, PLANES = 7, 9, 2


def mosaic_of(tiles: list[tuple[int, int, int, int, int]]) -> Mosaic:
    """Tiles (plane, top, left, bottom, right) in two planes; later ones cover earlier ones."""
    columns = np.array(tiles, np.int64).reshape(-1, 5)
    order = np.lexsort((columns[:, 2], columns[:, 1], columns[:, 0]))
    parts = columns[order].T
    return Mosaic(("T",), (0,), (PLANES,), 0, 0, HEIGHT, WIDTH, 1.0, order, *parts, order)


@st.composite
def sides(draw: st.DrawFn, length: int) -> tuple[int, int]:
    """Two ends of a tile, often at the edges of the plane, sometimes beyond them."""
    first = draw(st.sampled_from([-1, 0, 0, 1, length // 2, length - 1]))
    return first, draw(st.sampled_from([n for n in (1, length // 2, length - 1, length, length + 1) if n > first]))


@st.composite
def rows_of(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """A grid that covers the plane, of which one number may be off by one, or one tile may be missing."""
    ys = [0, *sorted(draw(st.sets(st.integers(1, HEIGHT - 1), max_size=2))), HEIGHT]
    xs = [0, *sorted(draw(st.sets(st.integers(1, WIDTH - 1), max_size=2))), WIDTH]
    tiles = [[t, a, b, r] for t, b in pairwise(ys) for a, r in pairwise(xs)]
    one, side = draw(st.integers(0, len(tiles) - 1)), draw(st.integers(0, 3))
    change = draw(st.sampled_from(["none", "more", "less", "missing"]))
    if change == "missing" and len(tiles) > 1:
        del tiles[one]
    elif change in ("more", "less"):
        tiles[one][side] += 1 if change == "more" else -1
    return [(t, a, b, r) for t, a, b, r in tiles if b > t and r > a]


free = st.lists(st.tuples(sides(HEIGHT), sides(WIDTH)).map(lambda s: (s[0][0], s[1][0], s[0][1], s[1][1])), max_size=5)


WHOLE = (0, 0, HEIGHT, WIDTH)
ANY = ((0, HEIGHT), (0, WIDTH)), random.Random(0)


@example(([(1, 0, HEIGHT, WIDTH)] * 2, [WHOLE]), *ANY)  # one row or column is missing; the area would do
@example(([(0, 1, HEIGHT, WIDTH)] * 2, [WHOLE]), *ANY)
@example(([WHOLE], [(0, 0, HEIGHT - 1, WIDTH)] * 2), *ANY)
@example(([WHOLE], [(0, 0, HEIGHT, WIDTH - 1)] * 2), *ANY)
@examples(300)
@given(st.tuples(*[free | rows_of()] * PLANES), st.tuples(sides(HEIGHT), sides(WIDTH)), st.randoms())
def test_tiles_are_found_where_they_are_painted(planes: Any, region: Any, chance: Any) -> None:
    tiles = [(p, *tile) for p, found in enumerate(planes) for tile in found]
    chance.shuffle(tiles)
    mosaic = mosaic_of(tiles)
    painted = np.zeros((PLANES, HEIGHT, WIDTH), bool)
    for p, top, left, bottom, right in tiles:
        painted[p, max(top, 0) : bottom, max(left, 0) : right] = True
    assert mosaic.complete == painted.all()
    assert mosaic.covered == sum((b - t) * (r - a) for _, t, a, b, r in tiles)
    (y0, y1), (x0, x1) = region
    for p in range(PLANES):
        found = mosaic.blocks[mosaic.find(p, y0, y1, x0, x1)].tolist()
        assert found == [
            k for k, (q, t, a, b, r) in enumerate(tiles) if q == p and t < y1 and b > y0 and a < x1 and r > x0
        ]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8", "c8"])
def test_pixels_of_every_type(dtype: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 200, (6, 5)) * (1 if dtype[0] == "u" else -1.5)
    values = (values + 1j * values.T.reshape(6, 5) if dtype == "c8" else values).astype(dtype)
    image = imload(make_czi(tmp_path / "a.czi", [Block(values, 0, 0, {"C": 0})])).image
    assert image.dtype == values.dtype
    np.testing.assert_array_equal(image.squeeze(), values)


def test_a_row_that_no_tile_covers_is_masked(tmp_path: Path) -> None:
    blocks = [
        Block(np.full((4, 5), 7, "u2"), 0, 4 * k, {"C": c}) for c in range(2) for k in range(3) if (c, k) != (1, 0)
    ]
    ds = imload(make_czi(tmp_path / "a.czi", blocks))
    np.testing.assert_array_equal(ds.valid_mask.squeeze(), ds.image.squeeze() == 7)
    assert int((~ds.valid_mask).sum()) == 20
    blocks = [Block(np.full((4, 5), 7, "u2"), 0, 0, {"C": 0}), Block(np.full((3, 5), 7, "u2"), 0, 1, {"C": 1})]
    ds = imload(make_czi(tmp_path / "b.czi", blocks))
    np.testing.assert_array_equal(ds.valid_mask.squeeze(), ds.image.squeeze() == 7)
    assert int((~ds.valid_mask).sum()) == 5
