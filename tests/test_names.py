"""Labels in names read back to the same value and type; patterns match from end to end."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_img.collections.names import (
    Pattern,
    format_label,
    format_labels,
    member_name,
    natural_key,
    parse_label,
    parse_member,
    split_extension,
)
from intake_img.errors import AxesError

LABELS = st.one_of(
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=25),
    st.text(alphabet="0123456789.-e/\\%_~ p\0"),
)


@given(LABELS)
def test_a_label_reads_back_with_its_type(value: object) -> None:
    label = format_label(value)
    back = parse_label(label)
    assert back == value
    assert type(back) is type(value)


@given(LABELS)
def test_a_label_is_safe_in_a_name(value: object) -> None:
    label = format_label(value)
    assert not set(label) & set('./\\:*?"<>|\0{}')
    assert len(os.fsencode(label)) <= 120


@given(st.dictionaries(st.sampled_from(["var", *"itczyxhs"]), LABELS.map(format_label), min_size=1))
def test_a_name_gives_its_parts_back(parts: dict[str, str]) -> None:
    assert parse_member(member_name("stem", ".ome.tif", parts), "stem", ".ome.tif") == parts


def test_long_labels_are_cut_and_stay_apart() -> None:
    one, other = format_label("x" * 300), format_label("x" * 299 + "y")
    assert one != other
    assert len(one) == len(other) <= 100


def test_integers_are_padded_to_the_widest() -> None:
    assert format_labels([3, 10, 21]) == ["03", "10", "21"]
    assert format_labels(["treatment", "3"]) == ["treatment", "%33"]


@pytest.mark.parametrize(
    ("name", "stem", "extension"),
    [
        ("a.c_0.ome.tif", "a.c_0", ".ome.tif"),
        ("b.nii.gz", "b", ".nii.gz"),
        ("B.OME.TIF", "B", ".OME.TIF"),
        ("c", "c", ""),
    ],
)
def test_compound_extensions_keep_their_stem(name: str, stem: str, extension: str) -> None:
    assert split_extension(name, {".tif", ".ome.tif", ".nii.gz"}) == (stem, extension)


def test_a_pattern_is_anchored_and_greedy_for_nothing() -> None:
    pattern = Pattern("img_{c}_{z:03d}.tif")
    assert pattern.match("img_my_cell_004.tif") == {"c": "my_cell", "z": "004"}
    assert pattern.match("img_my_cell_04.tif") is None
    assert pattern.match("ximg_a_004.tif") is None
    assert pattern.match("img_a_004.tiff") is None


def test_fields_in_folders_wildcards_and_braces() -> None:
    assert Pattern("pos_{i}/t_{t}/*.tif").match("pos_1/t_22/any.tif") == {"i": "1", "t": "22"}
    assert Pattern("pos_{i}/*.tif").match("pos_1/t/any.tif") is None
    assert Pattern("**/f_{i}.tif").match("a/b/f_1.tif") == {"i": "1"}
    assert Pattern("x{{y}}_{i}.tif").match("x{y}_7.tif") == {"i": "7"}
    assert Pattern("f[!0-9]_{i}.tif").match("fa_7.tif") == {"i": "7"}


@pytest.mark.parametrize("text", ["{i}_{i}.tif", "{Treatment}.tif"])
def test_bad_fields_are_named(text: str) -> None:
    with pytest.raises(AxesError, match="field"):
        Pattern(text)


def test_natural_order() -> None:
    assert sorted(["im10", "im2", "im1"], key=natural_key) == ["im1", "im2", "im10"]
