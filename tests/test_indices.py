"""Indices of axes select what numpy selects, and are read in runs that cover every selected sample once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.model.indices import composed, index_of, runs_of, span, taken


@st.composite
def keys(draw, n: int):
    """An index, a slice, a list of indices or a mask of an axis of length `n`."""
    ends = st.none() | st.integers(-n - 2, n + 2)
    kinds = [st.builds(slice, ends, ends, st.none() | st.integers(-4, 4).filter(bool))]
    if n:
        kinds += [st.integers(-n, n - 1), st.lists(st.integers(-n, n - 1), max_size=6)]
    kinds += [st.lists(st.booleans(), min_size=n, max_size=n)] if n else []
    return draw(st.one_of(kinds))


@examples(200)
@given(data=st.data(), n=st.integers(0, 12))
def test_a_key_selects_what_numpy_selects(data, n):
    key = data.draw(keys(n))
    expected = np.arange(n)[np.asarray(key, int) if key == [] else key]
    assert list(index_of(key, n)) == np.atleast_1d(expected).tolist()
    if isinstance(key, (int, list)):
        assert list(index_of(np.asarray(key, None if key != [] else int)[()], n)) == np.atleast_1d(expected).tolist()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (5, "index 5 is out of range for an axis of length 5"),
        (-6, "index -6 is out of range"),
        ([0, 5], "are out of range"),
        ([-6], "are out of range"),
        ([True, False], "a mask of length 2 does not fit an axis of length 5"),
        ([True] * 6, "a mask of length 6"),
        ([[0, 1]], "expected an integer, a slice or a list"),
        ([0.5], "expected an integer, a slice or a list"),
        (True, "expected an integer, a slice or a list"),
    ],
)
def test_other_keys_are_refused(key, message):
    with pytest.raises(IndexError, match=message):
        index_of(key, 5)


@examples(200)
@given(data=st.data(), n=st.integers(1, 30), tile=st.integers(1, 9), spared=st.integers(0, 9))
def test_runs_cover_each_selected_sample_once(data, n, tile, spared):
    index = index_of(data.draw(keys(n)), n)
    if not len(index):
        return
    source, found = np.arange(n) * 10, np.full(len(index), -1)
    seen = np.zeros(len(index), int)
    runs = runs_of(index, tile, spared)
    for run in runs:
        assert 0 <= run.source.start < run.source.stop <= n
        found[run.target] = source[run.source][list(run.within)]
        seen[run.target] += 1
    assert (seen == 1).all()
    assert found.tolist() == source[list(index)].tolist()
    if isinstance(index, range) and index.step != 1 and abs(index.step) >= max(tile, spared + 1):
        assert all(run.source.stop - run.source.start == 1 for run in runs)  # nothing between them is read


@examples(200)
@given(data=st.data(), n=st.integers(1, 12))
def test_selections_of_selections(data, n):
    first = index_of(data.draw(keys(n)), n)
    then = index_of(data.draw(keys(len(first))), len(first))
    assert list(composed(first, then)) == [first[k] for k in then]


@examples(100)
@given(data=st.data(), shape=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_taken_is_the_outer_selection(data, shape):
    indices = tuple(index_of(data.draw(keys(n)), n) for n in shape)
    array = np.arange(np.prod(shape)).reshape(shape)
    found = taken(array, indices)
    assert found.tolist() == array[np.ix_(*map(list, indices))].tolist()
    if all(isinstance(i, range) for i in indices):
        assert np.shares_memory(found, array) or not found.size
    for index, n in zip(indices, shape, strict=True):
        if len(index):
            assert span(index) == slice(min(index), max(index) + 1)
        assert all(0 <= k < n for k in index)
