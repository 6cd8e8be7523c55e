"""Equality of images: values, dtype, axes, coordinates and attributes, but not their origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from intake_img.model.axes import canonical_order
from intake_img.model.datasets import FILE_ATTRS

__all__ = ["assert_holds", "assert_same", "values_of"]


def assert_same(found: xr.Dataset, given: xr.Dataset) -> None:
    """Assert that `found` equals `given` after saving and loading: nothing is lost or added.

    Parameters
    ----------
    found : xarray.Dataset
        The result of `imload`.
    given : xarray.Dataset
        The saved Dataset; its axes may be in any order, its values in any byte order.
    """
    assert_holds(found, given)
    assert set(found.coords) == set(given.coords), "coordinates"
    for name, coord in given.coords.items():
        assert _plain(found[name].attrs) == _plain(coord.attrs), f"attributes of the coordinate {name!r}"
    for name, variable in given.data_vars.items():
        assert _plain(found[name].attrs) == _plain(variable.attrs), f"attributes of {name!r}"
    assert _plain(found.attrs) == _plain(given.attrs), "attributes"


def assert_holds(found: xr.Dataset, expected: xr.Dataset) -> None:
    """Assert that `found` has exactly the variables of `expected`, and at least its coordinates and attributes."""
    assert set(found.data_vars) == set(expected.data_vars), "variables"
    for name, variable in expected.data_vars.items():
        dims = canonical_order(tuple(map(str, variable.dims)))
        assert found[name].dims == dims, f"axes of {name!r}"
        assert found[name].dtype == variable.dtype.newbyteorder("="), f"dtype of {name!r}"
        assert found[name].dtype.isnative, f"byte order of {name!r}"
        np.testing.assert_array_equal(values_of(found[name]), values_of(variable.transpose(*dims)), str(name))
        _assert_within(variable.attrs, found[name].attrs, f"attributes of {name!r}")
    for name, coord in expected.coords.items():
        assert name in found.coords, f"the coordinate {name!r} is lost"
        assert found[name].dims == coord.dims, f"axes of the coordinate {name!r}"
        if coord.dtype.kind not in "OUT":
            assert found[name].dtype == coord.dtype.newbyteorder("="), f"dtype of the coordinate {name!r}"
        np.testing.assert_array_equal(found[name].values, coord.values, str(name))
        _assert_within(coord.attrs, found[name].attrs, f"attributes of the coordinate {name!r}")
    _assert_within(expected.attrs, found.attrs, "attributes")


def values_of(array: xr.DataArray) -> np.ndarray:
    """Return the values of an array that may be lazy, computed in this thread."""
    import dask

    with dask.config.set(scheduler="synchronous"):
        return array.values


def _assert_within(expected: Mapping[Any, Any], found: Mapping[Any, Any], what: str) -> None:
    expected, found = _plain(expected), _plain(found)
    assert {k: found.get(k) for k in expected} == expected, what


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(k): v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v
        for k, v in attrs.items()
        if k not in FILE_ATTRS
    }
