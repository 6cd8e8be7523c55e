"""Coordinates as plain JSON: every value comes back exactly, and a record that does not fit is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from thoroughness import examples

from intake_img.model.record import coordinate_record, recorded_coordinate
from intake_img.model.variables import Coordinate

DTYPES = ["f8", "f4", "f2", "c16", "c8", "i8", "u8", "i2", "u1", "?", "U5", "M8[ns]", "m8[s]"]


def back(values: np.ndarray, **attrs: object) -> Coordinate:
    axes = tuple("xyz"[: values.ndim])
    record = json.loads(json.dumps(coordinate_record(Coordinate(axes, values, attrs)), allow_nan=False))
    return recorded_coordinate(record, dict(zip(axes, values.shape, strict=True)))


def same(found: np.ndarray, values: np.ndarray) -> bool:
    equal = np.array_equal(found, values, equal_nan=values.dtype.kind in "fcMm")
    return found.dtype == values.dtype and found.shape == values.shape and bool(equal)


@examples(200)
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_coordinates_come_back_exactly(data, dtype):
    texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5) if dtype == "U5" else None
    values = data.draw(
        hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=2, max_side=4), elements=texts)
    )
    assert same(back(values).values, values)


@examples(100)
@given(start=st.floats(-1e6, 1e6), step=st.floats(1e-9, 1e6), size=st.integers(3, 50))
def test_even_coordinates_are_three_numbers(start, step, size):
    values = start + step * np.arange(size)
    record = coordinate_record(Coordinate(("x",), values, {"spacing": step, "units": "µm"}))
    assert set(record) == {"axes", "dtype", "attrs", "start", "step", "size"}
    found = back(values, spacing=step, units="µm")
    assert same(found.values, values)
    assert found.attrs == {"spacing": step, "units": "µm"}


@pytest.mark.parametrize("values", [["a", "bc"], ["a", 1, None, 2.5]])
def test_objects_come_back(values):
    found = back(np.array(values, dtype=object)).values
    assert found.tolist() == values


def test_records_that_do_not_fit_are_refused():
    record = coordinate_record(Coordinate(("x",), np.arange(5.0), {}))
    for changes in ({"size": 6}, {"step": 1e308, "start": 1e308}, {"axes": ["x", "y"]}):
        with pytest.raises(ValueError, match="record"):
            recorded_coordinate({**record, **changes}, {"x": 5})
    assert recorded_coordinate(record).values.tolist() == [0, 1, 2, 3, 4]
