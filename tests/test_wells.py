"""Names of wells."""

from __future__ import annotations

import pytest

from intake_img.model.wells import parse_well


@pytest.mark.parametrize("name", ["B3", "b03", "B 3", "B-03", "B - 3", "B_ 003", " B/3 ", "B  3"])
def test_usual_forms(name: str) -> None:
    assert parse_well(name) == (1, 2)


@pytest.mark.parametrize("name", ["", "3", "B", "B0", "B--3", "ABC3", "B123", "B3x"])
def test_others_are_none(name: str) -> None:
    assert parse_well(name) is None


@pytest.mark.timeout(60)  # it would search for hours if a run of spaces could be divided in many ways
def test_long_names_take_no_time() -> None:
    assert parse_well("B" + " " * 10**6 + "x") is None
