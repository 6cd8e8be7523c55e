"""Arrays in other chunks, whose graph dask makes when it is first used."""

from __future__ import annotations

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_img.accessor.processing.halo import rechunked

da = pytest.importorskip("dask.array")
SHAPE = (40, 30, 20)
VALUES = np.arange(40 * 30 * 20, dtype="u2").reshape(SHAPE)


@st.composite
def lengths(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    cuts = sorted(draw(st.sets(st.integers(1, size - 1), max_size=6)))
    return tuple(np.diff([0, *cuts, size]).tolist())


@given(st.data())
def test_chunks_and_values_are_those_of_dask(data: st.DataObject) -> None:
    chunks = tuple(data.draw(lengths(n)) for n in SHAPE)
    chunks = (chunks[0], chunks[1], (1,) * 20)  # many, so that the graph waits
    array = da.from_array(VALUES, chunks=chunks) + 1
    lengths_of = st.sampled_from([-1, 1, 7, None, "auto"])
    wanted = {k: data.draw(lengths_of | lengths(n)) for k, n in enumerate(SHAPE) if data.draw(st.booleans())}
    wanted = {k: SHAPE[k] if c is None else c for k, c in wanted.items()}
    made, expected = rechunked(array, wanted), array.rechunk(wanted)
    assert made.chunks == expected.chunks
    assert made.dtype == expected.dtype
    np.testing.assert_array_equal(made.compute(scheduler="sync"), VALUES + 1)
    np.testing.assert_array_equal(made[3:9, 5].compute(scheduler="sync"), (VALUES + 1)[3:9, 5])


def test_no_graph_is_made_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    array = da.from_array(VALUES, chunks=(1, 30, 20)).map_blocks(np.negative, dtype="u2")
    array = da.concatenate([array, array])
    calls = []
    original = da.Array.rechunk
    monkeypatch.setattr(da.Array, "rechunk", lambda self, *args: calls.append(args) or original(self, *args))
    made = rechunked(array, {0: -1})
    assert made.chunks == ((80,), (30,), (20,))
    assert not calls
    assert rechunked(array, {0: 1}) is array
    some = dask.optimize(made[:, :3])[0]
    assert len(calls) == 1
    assert len(some.__dask_graph__()) < 4 * array.npartitions
    np.testing.assert_array_equal(some.compute(scheduler="sync"), np.tile(-VALUES[:, :3], (2, 1, 1)))
