"""The table of "Which format should I save to?" says what writers keep, and lists every format that is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from intake_img.formats.registry import formats, writer_for
from intake_img.storage.files import File
from intake_img.testing.keeping import FACTS, TARGETS, table

pytestmark = pytest.mark.thorough

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "choose-a-format.md"
LINES = PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("extension", TARGETS)
def test_the_page_says_what_comes_back(extension):
    """Written and read again: types, axes, spacing, names, labels, affine, variables, attributes, levels, size."""
    if extension in (".jp2", ".jxl"):
        pytest.importorskip("imagecodecs")
    heading, _, line = table([extension]).splitlines()
    assert heading in LINES
    assert line in LINES, "print the table anew: python -m intake_img.testing.keeping"


def test_every_format_that_is_written_is_in_the_table():
    assert {writer_for(File.parse(f"image{e}")).name for e in TARGETS} == {
        name for name, f in formats().items() if f.writes and type(f).__module__.startswith("intake_img.")
    }
    page = "\n".join(LINES)
    assert all(page.count(f"`{extension}`") >= 2 for extension in TARGETS if extension != ".raw")
    assert len(FACTS) == 10
