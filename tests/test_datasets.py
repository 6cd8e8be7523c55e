"""Datasets made without alignment: equal to those that xarray makes, errors included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from intake_img.model.datasets import coordinate, dataset_of

DIMS = st.lists(st.sampled_from("tcyx"), unique=True, max_size=3).map(tuple)
VALUES = {
    "f8": lambda n: 0.5 * np.arange(n),
    "f4": lambda n: np.arange(n, dtype="f4"),
    "i2": lambda n: np.arange(n, dtype="i2"),
    "U": lambda n: np.array([f"c{k}" for k in range(n)]),
    "O": lambda n: np.array([f"c{k}" for k in range(n)], object),
    "b": lambda n: np.arange(n) % 2 == 0,
    "M8": lambda n: np.arange(n).astype("M8[s]"),
}


@st.composite
def parts(draw: st.DrawFn) -> tuple[dict[str, xr.Variable], dict[str, xr.Variable]]:
    """Variables and coordinates, whose lengths rarely disagree, and whose names may."""
    sizes = {a: draw(st.integers(0, 3)) for a in "tcyx"}

    def shape(dims: tuple[str, ...]) -> list[int]:
        return [sizes[a] + (draw(st.integers(0, 30)) == 30) for a in dims]

    names = draw(st.lists(st.sampled_from(["image", "mask", "when", "y"]), unique=True, min_size=1, max_size=2))
    variables = {n: xr.Variable(dims := draw(DIMS), np.zeros(shape(dims)), {"of": n}) for n in names}
    coords = {}
    for name in draw(st.lists(st.sampled_from(["t", "c", "y", "x", "when", "well"]), unique=True)):
        dims = (name,) if name in sizes and draw(st.integers(0, 9)) else draw(DIMS)
        made = VALUES[draw(st.sampled_from(sorted(VALUES)))]
        lengths = shape(dims)
        coords[name] = coordinate(name, dims, made(int(np.prod(lengths))).reshape(lengths), {"units": name})
    return variables, coords


def outcome(make: Any, variables: Any, coords: Any) -> Any:
    try:
        return make(variables, coords=coords)
    except ValueError as exc:
        return type(exc), str(exc)


@given(parts())
@pytest.mark.filterwarnings("ignore")  # of xarray, in both
def test_equals_what_xarray_makes(made: Any) -> None:
    found, expected = (outcome(make, *made) for make in (dataset_of, xr.Dataset))
    if not isinstance(expected, xr.Dataset):
        assert found == expected
        return
    xr.testing.assert_identical(found, expected)
    assert list(found.variables) == list(expected.variables)
    assert list(found.sizes.items()) == list(expected.sizes.items())
    assert list(found.xindexes) == list(expected.xindexes)
    for name, index in expected.xindexes.items():
        own: Any = found.xindexes[name]
        assert type(own) is type(index)
        assert own.equals(index)
        pair = [i.to_pandas_index() for i in (own, index)]
        assert pair[0].identical(pair[1])
    for name, variable in expected.variables.items():
        own = found.variables[name]
        assert (type(own), own.dtype, own.attrs) == (type(variable), variable.dtype, variable.attrs)
    assert found.isel(dict.fromkeys(found.dims, slice(1))).identical(expected.isel(dict.fromkeys(found.dims, slice(1))))
    assert found.copy(deep=True).drop_vars(list(found.coords)).identical(expected.drop_vars(list(expected.coords)))


def test_coordinates_of_one_dataset_are_not_those_of_another() -> None:
    coords = {"x": coordinate("x", ("x",), np.arange(3.0), {"units": "nm"})}
    first, second = (dataset_of({"image": xr.Variable(("x",), np.zeros(3))}, coords) for _ in range(2))
    first["x"].attrs["units"] = "mm"
    assert second["x"].attrs == {"units": "nm"}
    assert coords["x"].attrs == {"units": "nm"}
