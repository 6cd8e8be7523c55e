"""Labels of an axis select as `xarray.Dataset.sel` does; regions to write are indices."""

from __future__ import annotations

import numpy as np
import pytest

from intake_img.errors import AxesError, CannotWriteError
from intake_img.model.datasets import step_of
from intake_img.model.image import Image
from intake_img.model.joined import region_of
from intake_img.model.pixels import Pixels
from intake_img.model.selection import select

VALUES = np.arange(40).reshape(2, 20)


def image(spacing: float) -> Image:
    return Image.single(Pixels.of(VALUES), "zx", spacing={"x": spacing}, units={"x": "m"})


def picked(spacing: float, key: object) -> list[int]:
    found = select(image(spacing), {"x": key})[0]
    values: list[int] = found.to_xarray()["image"].values[0].tolist()
    if isinstance(key, slice) and key.step is None and float in map(type, (key.start, key.stop)):
        assert values == image(spacing).to_xarray()["image"].sel(x=key).values[0].tolist()
    return values


@pytest.mark.parametrize("spacing", [1e-9, 0.25, 1e6])
def test_numbers_are_labels_within_the_accuracy_of_the_spacing(spacing):
    assert picked(spacing, 3 * spacing) == [3]
    assert picked(spacing, 3 * spacing * (1 + 1e-8)) == [3]
    for between in (0.5 * spacing, 3.001 * spacing, -0.01 * spacing, 20 * spacing):
        with pytest.raises(KeyError, match="no label"):
            select(image(spacing), {"x": between})


@pytest.mark.parametrize("spacing", [1e-9, 0.25, 1e6])
def test_slices_of_labels_hold_both_ends_and_may_be_open(spacing):
    assert picked(spacing, slice(2 * spacing, 5 * spacing)) == [2, 3, 4, 5]
    assert picked(spacing, slice(None, 2.5 * spacing)) == [0, 1, 2]
    assert picked(spacing, slice(17.5 * spacing, None)) == [18, 19]
    assert picked(spacing, slice(2 * spacing, 9 * spacing, 3)) == [2, 5, 8]
    assert picked(spacing, slice(2.1 * spacing, 2.9 * spacing)) == []


def test_indices_count_from_either_end():
    for key, expected in ((-1, [19]), (0, [0]), (slice(-3, None), [17, 18, 19]), ([5, -1, 5], [5, 19, 5])):
        assert picked(0.25, key) == expected
    for key in (20, -21, [0, 20]):
        with pytest.raises(IndexError, match="out of range for 20 samples"):
            select(image(0.25), {"x": key})
    with pytest.raises(IndexError, match="expected an index or a label, got True"):
        select(image(0.25), {"x": True})


def test_an_axis_of_one_sample_has_one_label():
    one = Image.single(Pixels.of(VALUES[:, :1]), "zx", spacing={"x": 0.25}, units={"x": "µm"})
    assert select(one, {"x": 0.0})[0].sizes["x"] == 1
    with pytest.raises(KeyError, match=r"no label 0\.25"):
        select(one, {"x": 0.25})


@pytest.mark.parametrize(
    ("region", "error", "message"),
    [
        (3, TypeError, "expected a mapping from axes to slices, or 'auto'"),
        ([("x", 3)], TypeError, "expected a mapping"),
        ({"x": slice(0, 4, 2)}, TypeError, "expected an index or a slice without a step"),
        ({"x": [1, 2]}, TypeError, "expected an index or a slice"),
        ({"x": True}, TypeError, "expected an index or a slice"),
        ({"q": 1}, AxesError, "the axis 'q', but the store has zx"),
        ({"x": 20}, CannotWriteError, "20:21, but the store has 20 samples"),
        ({"x": slice(3, 3)}, CannotWriteError, "3:3"),
        ({"x": slice(-3, None)}, CannotWriteError, "-3:20"),
    ],
)
def test_a_region_to_write_is_indices_of_the_store(region, error, message):
    with pytest.raises(error, match=message):
        region_of(image(0.25), image(0.25), region)


def test_regions_to_write():
    whole, part = image(0.25), select(image(0.25), {"x": slice(4, 9)})[0]
    assert region_of(part, whole, {"x": slice(4, 9, 1), "z": -1}) == {"x": slice(4, 9), "z": slice(1, 2)}
    assert region_of(part, whole, {"x": slice(None, 5)}) == {"x": slice(0, 5)}
    assert region_of(part, whole, "auto") == {"x": slice(4, 9)}
    assert region_of(whole, whole, "auto") == {}
    with pytest.raises(CannotWriteError, match="the coordinate 'x' of the image is not found"):
        region_of(select(image(0.3), {"x": slice(4, 9)})[0], whole, "auto")


@pytest.mark.parametrize(
    ("values", "stated", "step"),
    [
        ([0, 0.5, 1], None, 0.5),
        ([0, 0.5, 1], 0.5 + 1e-8, 0.5 + 1e-8),  # more digits than the values have
        ([0, 0.5, 1], 0.6, 0.5),  # the values decide
        ([0, 0.5, 1], -1, 0.5),
        ([7, 9, 11], None, 2),
        ([0, 0.5, 1.1], 0.5, None),
        ([1, 0.5, 0], 0.5, None),
        ([0, 0, 0], 0.5, None),
        ([0, np.nan, 1], 0.5, None),
        ([0, np.inf], 0.5, None),
        ([-1e301, 1e301], None, None),
        ([3.0], 0.5, 0.5),
        ([3.0], None, None),
        ([], 0.5, 0.5),
        (["a", "b"], 0.5, None),
    ],
)
def test_the_spacing_is_that_of_the_values(values, stated, step):
    assert step_of(np.array(values), stated) == step


def test_a_number_is_not_a_label_of_texts():
    named = Image.single(Pixels.of(VALUES), "cx", channels=["DAPI", "GFP"])
    assert select(named, {"c": "GFP"})[0].to_xarray()["image"].values.tolist() == VALUES[1:].tolist()
    for label in (1.0, "RFP"):
        with pytest.raises(KeyError, match="there are DAPI, GFP"):
            select(named, {"c": label})
    with pytest.raises(KeyError, match="no label '0'"):
        select(image(0.25), {"x": "0"})
