"""Arrays whose graph dask makes when it is first used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
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

    def counted(self: Any, *args: Any) -> Any:
        calls.append(args)
        return original(self, *args)

    monkeypatch.setattr(da.Array, "rechunk", counted)
    made = rechunked(array, {0: -1})
    assert made.chunks == ((80,), (30,), (20,))
    assert not calls
    assert rechunked(array, {0: 1}) is array
    some = dask.optimize(made[:, :3])[0]
    assert len(calls) == 1
    assert len(some.__dask_graph__()) < 4 * array.npartitions
    np.testing.assert_array_equal(some.compute(scheduler="sync"), np.tile(-VALUES[:, :3], (2, 1, 1)))


@pytest.mark.parametrize("dtype", ["u1", "i8", "f2", "f4", "c8", "bool"])
@pytest.mark.parametrize("name", ["std", "var", "max", "mean", "sum"])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_are_those_of_xarray(dtype: str, name: str, keepdims: bool) -> None:
    values = np.random.default_rng(0).integers(0, 200, (40, 3, 12)).astype(dtype)
    if values.dtype.kind == "f":
        values[3:5, 1, 2:7] = np.nan
    coords = {"t": np.arange(40.0), "x": ("x", np.arange(12.0), {"units": "µm"}), "place": 3, "zoom": ("y", [1, 2, 3])}
    array = xr.DataArray(values, dims=("t", "y", "x"), coords=coords, name="image", attrs={"a": 1})
    lazy = array.chunk({"t": 1, "x": 5})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dims in (("t",), ("y", "x"), ("x",)):
            made = getattr(lazy.img, name)(dims, keepdims=keepdims)
            held = getattr(array.img, name)(dims, keepdims=keepdims)
            assert made.dtype == made.compute(scheduler="sync").dtype == held.dtype
            tolerance = 1e-3 if dtype == "f2" else 1e-6
            xr.testing.assert_allclose(made.compute(scheduler="sync"), held, rtol=tolerance)
            assert made.coords.keys() == held.coords.keys()
            assert made.attrs == held.attrs


@pytest.mark.parametrize("call", [lambda i: i.std("t"), lambda i: i.normalize(), lambda i: i.to_timeseries()])
def test_calls_make_no_tasks(call: Callable[[Any], xr.DataArray]) -> None:
    data = da.from_array(VALUES, chunks=(1, 30, 20)).map_blocks(np.negative, dtype="u2")
    made = call(xr.DataArray(da.concatenate([data, data]), dims=("t", "y", "x")).img)
    layer = made.data.dask.layers[made.data.name]
    assert not layer.is_materialized()
    assert len(dict(layer)) == len(layer)
    assert layer.is_materialized()
