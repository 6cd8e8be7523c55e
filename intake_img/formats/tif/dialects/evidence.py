"""Input of a dialect: the file, the kind of series, and the array with its pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intake_img.formats.tif.index import StoredPages

if TYPE_CHECKING:
    import tifffile

__all__ = ["View"]


@dataclass(frozen=True)
class View:
    """An image of a file, before anything is known of it.

    Attributes
    ----------
    kind : str
        tifffile's name for the kind of series.
    stored : StoredPages
        Full resolution.
    """

    tif: tifffile.TiffFile
    kind: str
    stored: StoredPages

    @property
    def page(self) -> tifffile.TiffPage:
        return self.stored.keyframe

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis, by its name in lower case."""
        return {a.lower(): n for a, n in zip(self.stored.axes, self.stored.shape, strict=True)}

    @property
    def stack(self) -> int:
        """Number of pages that nothing but their order is known of; 0 if they have axes."""
        return len(self.stored.pages) if self.stored.axes.startswith("I") else 0

    @property
    def places(self) -> list[int]:
        """Offset of the directory of each page; empty where some are missing or lie in other files."""
        pages = self.stored.pages
        if any(p is None or p.parent is not self.tif or not p.offset for p in pages):
            return []
        return [int(p.offset) for p in pages]
