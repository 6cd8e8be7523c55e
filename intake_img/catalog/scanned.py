"""The result of a scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from intake_img.catalog.unused import Unused
from intake_img.formats.source import ImageSource
from intake_img.model.text import escaped, printable

__all__ = ["Scan"]


@dataclass(frozen=True)
class Scan(Mapping[str, ImageSource]):
    """Result of `scan`: sources by name, and files that could not be read.

    Attributes
    ----------
    folder : str
    sources : mapping of str to ImageSource
        In natural order of their paths.
    skipped : dict of str to str
        For each path that looks like an image and is left out, the reason: damaged, special and unreachable files, and
        formats that no driver reads.
    others : dict of str to str
        For each other file, why it is not an image: by its name, or by its bytes if the name has no extension. Files
        whose name begins with a dot are not counted, nor are files inside of an image that is a folder.
    notes : dict of str to str
        Further notes by path, such as the index of a plate that cannot be read.
    unchanged : bool
        Whether nothing in the folder changed since the last scan with the same memory.
    """

    folder: str
    sources: Mapping[str, ImageSource]
    skipped: dict[str, str]
    facts: Mapping[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    notes: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    unchanged: bool = False

    def __getitem__(self, name: str) -> ImageSource:
        return self.sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        rows = [f"  {n}: {printable(s.description)}" for n, s in self.sources.items()]
        rows += [f"  {row}" for row in self.unused.rows()]
        rows += [f"  note {escaped(p)}: {printable(what)}" for p, what in self.notes.items()]
        more = [f"  … and {len(rows) - 40} more"] if len(rows) > 40 else []
        unused = f"{len(self.skipped)} skipped, {len(self.others)} other files"
        head = f"<scan of {escaped(self.folder)}: {len(self.sources)} images, {unused}>"
        return "\n".join([head, *rows[:40], *more])

    @property
    def unused(self) -> Unused:
        """`skipped` and `others` together."""
        return Unused(self.skipped, self.others)
