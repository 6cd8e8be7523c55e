"""Pages of the documentation: their fenced blocks of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, the line it begins at, and the comment right before it."""

    language: str
    text: str
    line: int
    mark: str


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    fence = re.compile(
        r"^(?:<!-- (?P<mark>[^\n]*?) -->\n+)?```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S
    )
    return [
        Block(m["language"], m["text"], text[: m.start("text")].count("\n") + 1, m["mark"] or "")
        for m in fence.finditer(text)
    ]


def write_files(blocks: list[Block]) -> None:
    """Write the blocks that are marked as files into the current folder."""
    for block in blocks:
        if block.mark.startswith("file: "):
            Path(block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
