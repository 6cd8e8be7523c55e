"""The position of each file of a listing in the grid of its labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intake_img.collections.file_names import format_labels
from intake_img.collections.listing import Listing
from intake_img.collections.words import split_label
from intake_img.errors import AxesError
from intake_img.model.axes import canonical_order
from intake_img.model.image import Coordinate, Image

__all__ = ["FileGrid", "first_path", "grid_of"]

_SHOWN = 10  # number of missing files in a message


@dataclass(frozen=True)
class FileGrid:
    """The grid of files.

    Parameters
    ----------
    listing : Listing
    labels : mapping of str to sequence of str
        For each axis, in canonical order, the labels along it.
    """

    listing: Listing
    labels: Mapping[str, Sequence[str]]

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(len, self.labels.values()))

    def paths(self, uri: str, gaps: bool, name: Callable[[Mapping[str, str]], str | None]) -> tuple[str, ...]:
        """Return the paths in C order of the grid; missing files are empty texts.

        Parameters
        ----------
        uri : str
            For messages.
        gaps : bool
            Allow positions without a file.
        name : callable
            Returns the name of the file with the given labels, if known.

        Raises
        ------
        AxesError
            If two files have the same position.
        FileNotFoundError
            If a position has no file, and `gaps` are not allowed.
        """
        listing, size = self.listing, int(np.prod(self.shape, dtype=int))
        columns = [listing.fields[a].along(labels) for a, labels in self.labels.items()]
        at = np.ravel_multi_index(columns, self.shape) if columns else np.zeros(len(listing), int)
        counts = np.bincount(at, minlength=size)
        if counts.max(initial=0) > 1:
            twice = [listing.paths[k] for k in np.flatnonzero(at == int(counts.argmax())).tolist()]
            raise AxesError(f"{twice[0]} and {twice[1]} have the same place; give the pattern more fields")
        if not gaps and not counts.all():
            lost = np.flatnonzero(counts == 0)
            shown = "; ".join(self._shown(k, name) for k in lost[:_SHOWN].tolist())
            raise FileNotFoundError(
                f"{uri}: {len(lost)} of {size} files are missing: {shown}{'; …' if len(lost) > _SHOWN else ''}; "
                "put them there, or pass missing='fill' for zeros in their place"
            )
        paths = np.full(size, "", dtype=object)
        paths[at] = listing.paths
        return tuple(paths)

    def _shown(self, place: int, name: Callable[[Mapping[str, str]], str | None]) -> str:
        at = np.unravel_index(place, self.shape)
        fields: dict[str, str] = {}
        for (axis, labels), k in zip(self.labels.items(), at, strict=True):
            fields |= split_label(self.listing, axis, labels[int(k)])
        fields_text = " ".join(f"{f}={text}" for f, text in fields.items())
        return f"{fields_text} ({path})" if (path := name(fields)) else fields_text


def grid_of(listing: Listing, spread: Mapping[str, Coordinate], head: Image) -> FileGrid:
    """Return the grid of a listing: labels in the recorded order, else in natural order.

    Parameters
    ----------
    listing : Listing
    spread : mapping of str to Coordinate
        The recorded coordinates of axes in the names.
    head : Image
        The first file, which may have the length of these axes.
    """
    recorded = head.partition
    labels: dict[str, Sequence[str]] = {}
    for axis in canonical_order([a for a in listing.fields if a != "var"]):
        seen = listing.fields[axis].labels
        if axis in listing.joint:
            labels[axis] = seen
            continue
        c = spread.get(axis)
        known: list[str] = []
        if c is not None and c.axes == (axis,):
            known = format_labels(c.values)
        elif axis in recorded.get("axes", []):
            known = format_labels(range(recorded["shape"][recorded["axes"].index(axis)]))
        labels[axis] = known if known and set(seen) <= set(known) else seen
    return FileGrid(listing, labels)


def first_path(listing: Listing) -> str:
    """The file whose labels come first: its header represents all files."""
    firsts = np.logical_and.reduce([column.codes == 0 for column in listing.fields.values()])
    return listing.paths[int(np.argmax(firsts))]  # the first of all files, if the position has none
