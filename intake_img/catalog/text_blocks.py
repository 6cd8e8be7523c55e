"""Text blocks of a YAML catalog: a catalog of many entries is cut into one block of lines for each entry.

A regular expression recognises blocks in the layout of `write_catalog`, which need no parsing; any other block is
parsed separately. A text that could have another meaning when parsed completely (anchors, several documents, other
layouts) is not cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["WORDS", "Block", "Cut", "cut", "recognised"]

_MARK = re.compile(r"(?:^|[\s\[\]{},:])[&*!]", re.M)  # anchors, aliases, tags
_SOURCES = re.compile(r"^sources:\n(?=  [^ #\n])", re.M)
_PLAIN = re.compile(r"(?: *(?:#[^\n]*)?\n)*(?:[A-Za-z_][^\n]*(?:\n(?:[A-Za-z_# ][^\n]*)?)*)?")  # keys begin at column 0
_END = re.compile(r"^[^ \n]", re.M)
_FIRST = re.compile(r"^  (?=[^ #\n])", re.M)
_BLOCK = re.compile(
    r"  (?P<name>[A-Za-z_][A-Za-z0-9_]{0,199}):\n"
    r"    driver: (?P<driver>[a-z][a-z0-9_]{0,40})\n"
    r"(?:    description: (?P<description>[A-Za-z0-9]+ [^\n:#'\"]{0,1000}[^\s:#'\"])\n)?"
    r"    args:\n"
    r"      uri: '(?P<uri>\{\{ CATALOG_DIR \}\}/[^'{}\\\n]{1,1000})'\n"
    r"(?:    metadata:\n      scanned: (?P<facts>\{[^\n]{0,20000}\})\n)?"
)
WORDS = {"yes", "no", "true", "false", "on", "off", "null"}
"""Names that YAML does not read as texts, in lower case."""
_NUMBER = re.compile(r"(?<=[ \[,])-?\d{1,18}(?:\.\d{1,18})?(?:e[+\-]\d\d)?(?=[,\]}])")


@dataclass(frozen=True, slots=True)
class Block:
    """An entry that is known from its text: one image, below the folder of the catalog."""

    driver: str
    description: str
    uri: str
    facts: str
    pattern: str
    """The facts with each number replaced by 0: if it can be parsed, so can the facts."""

    @property
    def kind(self) -> tuple[str, bool, str]:
        """The common part of entries that are all valid if one of them is: they differ only in numbers, names and
        paths."""
        return self.driver, bool(self.description), self.pattern


@dataclass(frozen=True)
class Cut:
    """A catalog cut into blocks: the text before and after the entries, and the text and offset of each entry."""

    before: str
    after: str
    blocks: tuple[tuple[int, str], ...]


def cut(text: str) -> Cut | None:
    """Return a catalog cut into blocks; None if its layout does not allow this safely.

    A block begins at a line that is indented by two. If each block is a complete mapping in block style, then no text
    in quotes, brackets or a block scalar extends beyond its end, and the catalog means the same as its blocks.
    """
    begin = _SOURCES.search(text)
    if begin is None or _unusual(text):
        return None
    end = _END.search(text, begin.end())
    stop = end.start() if end else len(text)
    if not (_PLAIN.fullmatch(text, 0, begin.start()) and _PLAIN.fullmatch(text, stop)):
        return None
    starts = [m.start() for m in _FIRST.finditer(text, begin.end(), stop)]
    blocks = zip(starts, [text[a:b] for a, b in zip(starts, [*starts[1:], stop], strict=True)], strict=True)
    return Cut(text[: begin.start()], text[stop:], tuple(blocks))


def _unusual(text: str) -> bool:
    """True for constructs that span blocks (several documents, anchors, aliases), and for control characters."""
    if text.startswith(("%", "-", ".")) or any(start in text for start in ("\n---", "\n...", "\n%")):
        return True
    if not text.replace("\n", "").isprintable():
        return True
    return any(mark in text for mark in "&*!") and _MARK.search(text) is not None


def recognised(block: str) -> tuple[str, Block] | None:
    """Return the name of an entry, and the entry, if its text has the layout of `write_catalog`."""
    found = _BLOCK.fullmatch(block)
    if found is None or found["name"].lower() in WORDS:
        return None
    facts = found["facts"] or ""
    return found["name"], Block(
        found["driver"], found["description"] or "", found["uri"], facts, _NUMBER.sub("0", facts)
    )
