"""One image of many files: their names give the coordinates, the first header gives the other metadata.

All other headers are compared with the first one: for few files when the image is loaded, for many files when their
pixels are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from intake_img.collections.file_names import format_labels, parse_label
from intake_img.collections.grid import FileGrid, first_path, grid_of
from intake_img.collections.listing import Listing
from intake_img.collections.members import Files, Members
from intake_img.collections.options import SequenceOptions, flag, one_axis
from intake_img.collections.words import label_values, word_values
from intake_img.errors import AxesError, FormatError
from intake_img.formats.format_source import FormatSource
from intake_img.formats.registry import autodetect
from intake_img.formats.source import ImageSource
from intake_img.model.agreement import CommonFacts, disagreement, facts_of, overruled_axes
from intake_img.model.axes import RGB
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.record import recorded_coordinate
from intake_img.storage.journal import located

__all__ = ["CHECKED", "SAMPLED", "SequenceSource"]

CHECKED = 50
"""Up to this many local files, all headers are compared when an image is loaded."""
SAMPLED = 8
"""Of more files, this many headers are compared, the last among them; the others when their pixels are read."""


class SequenceSource(ImageSource):
    """Base of the sources for one image of many files."""

    Options = SequenceOptions

    def __init__(self, uri: Any, **options: Any) -> None:
        super().__init__(uri, **options)
        given: Any = self.options
        if given.missing not in ("error", "fill"):
            raise ValueError(f"missing={given.missing!r}: expected 'error' or 'fill'")
        self.axis = one_axis(given.axis)
        self.missing = given.missing
        self.verify, self.group = flag(given.verify, "verify"), flag(given.group, "group")
        self.member_options = dict(given.member_options or {})
        self.unread: list[str] = []  # compared files that cannot be read, or contain several scenes
        self._compares = False  # also for remote files

    def find(self) -> list[Listing]:
        """Return the files with the labels in their names, a listing for each set of fields."""
        raise NotImplementedError

    @cached_property
    def found(self) -> list[Listing]:
        """The files, found once; for a running commit at their staged paths."""
        return [replace(k, paths=located(k.paths, self.file)) for k in self.find()]

    @property
    def files(self) -> list[str]:
        """The files of the image."""
        return [path for listing in self.found for path in listing.in_order().paths]

    def agrees(self) -> bool:
        """Return whether all compared files, also remote ones, can be read and have one scene each.

        Raises
        ------
        FormatError
            If two files differ in shape, dtype, axes, spacing, units, origin or channel names.
        """
        self._compares, self.unread = True, []
        try:
            self._image = None
            self._images()
        finally:
            self._compares = False
        return not self.unread

    def stamp(self) -> tuple[Any, ...]:
        """Return the names of the files, and the stamps of local ones."""
        return tuple((path, self.file.at(path).stamp() if self.file.local else ()) for path in self.files)

    def _images(self) -> tuple[Image, Image]:
        if self._image is None:
            original = self._compose(self.found)
            self._image = original.overruled(**self.overrides), original
        return self._image

    def groups(self) -> dict[str, Image]:
        """Return an image for each group of files with the same shape, dtype, spacing, unit, origin and channel names.

        They are named ``"<shape>-<dtype>"``; further groups with the same name end in ``-2``, ``-3``...
        """
        alike: dict[str, dict[int, list[int]]] = {}
        kinds: dict[tuple[Any, ...], list[tuple[str, CommonFacts]]] = {}
        for n, listing in enumerate(self.found):
            for k, path in enumerate(listing.paths):
                image = self.member(path).image()
                v = next(iter(image.variables.values()))
                name = f"{'x'.join(map(str, v.pixels.shape))}-{v.pixels.dtype.name}"
                facts = facts_of(image, [a for a in v.axes if a not in listing.fields])
                known = kinds.setdefault((v.axes, name), [])
                overruled = overruled_axes(self.overrides, [*listing.fields, *v.axes])
                group = next((g for g, f in known if disagreement(f, facts, overruled) is None), None)
                if group is None:
                    taken = sum(len(groups) for (_, same), groups in kinds.items() if same == name)
                    group = f"{name}-{taken + 1}" if taken else name
                    known.append((group, facts))
                alike.setdefault(group, {}).setdefault(n, []).append(k)
        return {
            group: self._compose([self.found[n].take(places) for n, places in members.items()], fill_gaps=True)
            for group, members in alike.items()
        }

    def datatree(self, **options: Any) -> xr.DataTree:
        """Return a DataTree with one Dataset for each group of files; see `groups`."""
        nodes = {}
        for name, image in self.groups().items():
            chunks = options.get("chunks", self.chunks)
            nodes[name] = image.overruled(**self.overrides).to_xarray(
                uri=self.uri, driver=self.name_of_driver(), order=self.output_axis_order, chunks=chunks, original=image
            )
        return xr.DataTree.from_dict(nodes)

    def member(self, path: str) -> FormatSource:
        """Return the source of one of the files."""
        options = dict(self.member_options)
        if self.storage_options:
            options["storage_options"] = self.storage_options
        return autodetect(self.file.at(path), **options)

    def _compose(self, found: Sequence[Listing], fill_gaps: bool = False) -> Image:
        listings: dict[str, Listing] = {}
        for name, listing in (pair for all_of in found for pair in all_of.by_variable().items()):
            if (other := listings.setdefault(name, listing)) is not listing:
                raise AxesError(
                    f"{first_path(other)} and {first_path(listing)} belong to different partitions of one image: "
                    "remove the files of one, or give a pattern that fits the others"
                )
        if not any(map(len, listings.values())):
            raise FileNotFoundError(f"no image file fits {self.uri}")
        first = self.member(first_path(next(iter(listings.values()))))
        head = first.image()
        _refuse_set(first.uri, head, [path for listing in listings.values() for path in listing.paths])
        if len(head.scenes) > 1:
            self.unread.append(first.uri)
        order = format_labels(head.partition.get("variables", []))
        if lost := [n for n in order if n not in listings and len(order) > 1]:
            raise FileNotFoundError(f"{self.uri}: none of the files contains the variable {parse_label(lost[0])!r}")
        whole = _Gathered()
        for label in sorted(listings, key=lambda n: order.index(n) if n in order else len(order)):
            self._add(whole, first, label, listings[label], fill_gaps)
        header = {**head.header, "files": sum(map(len, listings.values()))}
        image = replace(
            head,
            variables=whole.variables,
            coords=whole.known_coords(),
            partition={},
            scene="0",
            scenes=("0",),
            header=header,
            **whole.even,
        )
        self._check(image, fill_gaps)
        return image

    def _add(self, whole: _Gathered, first: FormatSource, label: str, listing: Listing, fill_gaps: bool) -> None:
        """Add the variables of one listing, and the metadata of its first file."""
        path = first_path(listing)
        start = first if first.uri == path else self.member(path)
        image = start.image()
        grid = whole.grid(listing, image)
        paths = grid.paths(self.uri, fill_gaps or self.missing == "fill", self.expected)
        for key, v in image.variables.items():
            name = str(parse_label(label)) if label else key
            whole.variables[name] = self._variable(start, key, v, grid, paths)
        whole.add_coords(grid, image)

    def expected(self, labels: Mapping[str, str]) -> str | None:
        """Return the name of the file with the given label of each field, if known."""
        return None

    def _variable(self, start: FormatSource, key: str, v: Variable, grid: FileGrid, paths: tuple[str, ...]) -> Variable:
        axes = grid.axes
        files = Files(
            paths,
            str(start.file),
            key,
            start.format,
            v.pixels.shape,
            v.axes,
            v.pixels.dtype,
            tuple(sorted(self.member_options.items())),
            tuple(sorted(self.file.storage_options.items())),
            axes,
            facts_of(start.image(), [a for a in v.axes if a not in axes]),
            overruled_axes(self.overrides, v.axes),
            self.file.jail,
        ).begin(v.pixels if start.file.local else None)
        names = _samples_apart(v, start.image(), axes)
        if doubled := [a for a in axes if a in names and v.pixels.shape[names.index(a)] != 1]:
            raise AxesError(
                f"the names of the files and the files themselves have an axis {doubled[0]!r}: "
                "rename the axis of the names"
            )
        n = len(axes)
        shape = (*grid.shape, *v.pixels.shape)
        tiles = (1,) * n + v.pixels.auto_block()
        pixels = Pixels(Members(files, grid.shape), shape, v.pixels.dtype, tiles, parallel=True, many_files=True)
        kept = [k for k, a in enumerate(names) if a not in axes]
        pixels = pixels.reshape([*range(n), *(k + n for k in kept)])
        whole = Variable(pixels, (*axes, *(names[k] for k in kept)), v.attrs)
        return _ordered(whole, start.image().partition.get("order"))

    def _check(self, image: Image, fill_gaps: bool) -> None:
        """Read further headers and compare them with the first: all for `verify` or few files, else some."""
        for v in image.variables.values():
            reader: Any = v.pixels.reader
            while not isinstance(reader, Members):
                reader = reader.reader
            paths = [p for p in reader.files.paths if p]
            if self.verify:
                for path in paths:
                    reader.files.pixels(path)
            elif (self.file.local or self._compares) and not fill_gaps:
                step = 1 if len(paths) <= CHECKED else len(paths) // SAMPLED
                self.unread += reader.files.check(dict.fromkeys([*paths[1::step], paths[-1]]))

    def _close(self) -> None:
        self.__dict__.pop("found", None)
        super()._close()


def _samples_apart(variable: Variable, image: Image, axes: Sequence[str]) -> tuple[str, ...]:
    """Return the axes of a variable of one file: its colour samples are ``s`` where the files are channels."""
    names = tuple(image.channels or ())
    if "c" in axes and "s" not in variable.axes and names in (RGB[:3], RGB[:4]):
        return tuple("s" if a == "c" else a for a in variable.axes)
    return variable.axes


class _Gathered:
    """The merged metadata of the first files of all variables."""

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self.even: dict[str, dict[str, Any]] = {"spacing": {}, "units": {}, "origin": {}}
        self._spread: dict[str, Coordinate] = {}  # recorded coordinates of the axes in the names
        self._coords: dict[str, Coordinate] = {}

    def grid(self, listing: Listing, image: Image) -> FileGrid:
        """Return the grid of a listing; the first file has the coordinates of the axes of its own variable."""
        recorded = {k: recorded_coordinate(c) for k, c in image.partition.get("coords", {}).items()}
        self._spread |= {k: c for k, c in recorded.items() if not set(c.axes) & set(listing.joint)}
        return grid_of(listing, self._spread, image)

    def add_coords(self, grid: FileGrid, image: Image) -> None:
        """Add the coordinates from a first file and from the names."""
        listing, axes = grid.listing, grid.axes
        words = {w for fields in listing.joint.values() for w in fields}
        if taken := [w for w in words if w in self.variables or w in image.sizes]:
            raise AxesError(
                f"the field {{{taken[0]}}} has the name of {'a variable' if taken[0] in self.variables else 'an axis'} "
                f"in the files: use another name in the pattern"
            )
        own = {k: c for k, c in image.coords.items() if k not in self._spread and not set(axes) & set(c.axes)}
        self._coords = {k: c for k, c in own.items() if k not in words} | self._coords
        self.even = {k: {**getattr(image, k), **known} for k, known in self.even.items()}
        for axis, labels in grid.labels.items():
            if axis in listing.joint:
                for word, values in word_values(listing, axis, labels):
                    self._coords.setdefault(word, Coordinate((axis,), values))
            elif listing.numbered:
                self._coords.pop(axis, None)
                if listing.values is not None:
                    self._coords[axis] = Coordinate((axis,), np.asarray(listing.values))
            elif axis not in image.partition.get("axes", []):
                self._coords.setdefault(axis, Coordinate((axis,), label_values(labels)))

    def known_coords(self) -> dict[str, Coordinate]:
        """Return the coordinates of the axes that the variables have."""
        coords = {**self._coords, **self._spread}
        keep = {a for v in self.variables.values() for a in v.axes}
        return {k: c for k, c in coords.items() if set(c.axes) <= keep and not (k in keep and c.axes == ())}


def _ordered(v: Variable, order: Any) -> Variable:
    """Return a variable with its axes in the recorded order, if it is known and matches."""
    axes = tuple(map(str, order)) if isinstance(order, list) else v.axes
    if axes == v.axes or sorted(axes) != sorted(v.axes):
        return v
    return Variable(v.pixels.transpose([v.axes.index(a) for a in axes]), axes, v.attrs)


def _refuse_set(uri: str, head: Image, paths: Sequence[str]) -> None:
    """Raise an error if the first of some files reads others of them itself, as an OME-TIFF of several files does."""
    together = head.header.get("set")
    names = {path.rpartition("/")[2] for path in paths} if isinstance(together, list) else set()
    if len(names & set(together or ())) > 1:
        raise FormatError(f"the files are parts of one image: open one of them, {uri}, which reads the others")
