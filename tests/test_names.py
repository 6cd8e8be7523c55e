"""Labels in names read back to the same value and type; patterns match from end to end."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.collections.file_names import (
    format_label,
    format_labels,
    member_name,
    natural_key,
    parse_label,
    parse_member,
    split_extension,
)
from intake_img.collections.patterns import Pattern
from intake_img.collections.token_matching import Matcher
from intake_img.errors import AxesError

pytestmark = pytest.mark.thorough

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


@pytest.mark.parametrize("text", ["{i}_{i}.tif", "{well}/{well}.tif", "{i}/**/{i}.tif"])
def test_bad_fields_are_named(text: str) -> None:
    with pytest.raises(AxesError, match="field"):
        Pattern(text)


# what a pattern means, spelled out as a regular expression that backtracks
MEANING = {
    "*": r"[^/\0]*",
    "?": r"[^/\0]",
    "[ab]": r"[ab]",
    "[!a]": r"(?![/\0])[^a]",
    "{n:d}": r"(-?\d+)",
    "/": "/",
    "{n:02d}": r"(-?\d{2,})",
    "{n:3}": r"([^/\0]{3})",
    "{n}": r"([^/\0]*?)",
    "**/": r"(?:[^\0]*/)?",
    "**": r"[^\0]*",
    "a": "a",
    "_": "_",
    "1": "1",
    "b.": r"b\.",
    "{{": r"\{",
}
FREE = ("*", "?", "[", "{n")


def meaning(tokens: list[str]) -> re.Pattern[str]:
    """The expression for tokens; a name that begins with a dot is hidden from what may be anything."""
    hides = [
        t.startswith(FREE) and not t.startswith("**") and (k == 0 or tokens[k - 1] == "/") for k, t in enumerate(tokens)
    ]
    return re.compile("".join((r"(?!\.)" * h) + MEANING[t] for t, h in zip(tokens, hides, strict=True)), re.S)


@examples(1500)
@given(
    st.lists(st.sampled_from(list(MEANING)), min_size=1, max_size=7),
    st.lists(st.text("ab_1.-/{\0é", max_size=9), min_size=1, max_size=5),
)
def test_a_pattern_matches_as_backtracking_would(tokens: list[str], names: list[str]) -> None:
    """Both ways of a `Matcher` find what the plain expression finds, with the same fields."""
    numbered = [t.replace("{n", f"{{f{k}") for k, t in enumerate(tokens)]
    assume(not any(a.endswith("*") and b.startswith(("*", "/")) for a, b in pairwise(tokens)))  # read otherwise
    assume(not any(a == "{{" and b.startswith("{") for a, b in pairwise(tokens)))
    matcher, regex = Pattern("".join(numbered)).matcher, meaning(tokens)
    for name in names:
        wanted = regex.fullmatch(name)
        for found in (matcher.fullmatch(name), matcher._slow(name)):
            assert (found and found.groups()) == (wanted and wanted.groups())
            assert not found or [found.span(g + 1) for g in range(matcher.groups)] == list(wanted.regs[1:])


@given(st.text("ab*?[]!-", min_size=1, max_size=8), st.text("ab-!]", max_size=8))
def test_wildcards_are_those_of_fnmatch(glob: str, name: str) -> None:
    assume(
        "**" not in glob and not re.search(r"\[[^\]]*$|\[!?\]|\[[^\]]*[-!][^\]]*\]|\[[^\]]*\[", glob)
    )  # read otherwise
    assert (Pattern(glob).match(name) is not None) == fnmatch.fnmatchcase(name, glob)


HOSTILE = [
    "*a" * 12 + "b.npy",
    "{a}a{b}a{c}a{d}a{e}a{f}ab.npy",
    "*{a:d}*{b:d}*{c:d}*{d:d}*{e}b",
    "{a:d}{b:d}{c:d}{d:d}{e:d}b",
    "**/" * 9 + "b",
    "*?*?*?*?*?*?*?b",
    "*[ab]*[ab]*[ab]*[ab]*{t}b",
    "*_{a}_*_{b}_*_{c}_*_{d}b",
    "**a" * 9 + "b",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("letter", ["a", "1", "a_", "a/", "1a"])
def test_no_pattern_takes_long(text: str, letter: str) -> None:
    """The time is bounded, however many wildcards there are: matching by backtracking would not end."""
    matcher = Pattern(text).matcher
    name = letter * (240 // len(letter)) + "c"
    start = time.process_time()
    assert matcher.fullmatch(name) is None
    assert time.process_time() - start < 1


def test_common_patterns_are_matched_by_regular_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Matcher, "_slow", lambda *_: pytest.fail("the slow way"))
    name = "Experiment-12_plate-03_" + "x" * 90 + "_actin_B03_f07_t0012.tif"
    for text in ("*_{c}_{w}_f{i:02d}_t{t:04d}.tif", "{a}_{b}_{c}_{d}_{e}_f{f}_t{t}.tif", "*_*_*_*_B03_f07_t*.tif"):
        assert Pattern(text).match(name) is not None


def test_natural_order() -> None:
    assert sorted(["im10", "im2", "im1"], key=natural_key) == ["im1", "im2", "im10"]
