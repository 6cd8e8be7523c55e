"""Many files, one image: a folder, a list, a pattern or the parts of a partitioned image as one lazy array.

One listing of each folder finds the files, their names give the coordinates, the first header gives the rest. All other
headers are compared with it: of few files when the image is loaded, of many when their pixels are read.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from intake_img.collections.agreement import Facts, disagreement, facts_of
from intake_img.collections.listing import (
    Listing,
    find_in_folder,
    find_parts,
    find_pattern,
    numbered,
    parts_of_one,
    plate_index,
)
from intake_img.collections.members import Files, Members
from intake_img.collections.names import format_labels, parse_label, split_extension
from intake_img.collections.partition import series_interrupted
from intake_img.collections.patterns import Pattern
from intake_img.errors import AxesError, FormatError, UnknownFormatError
from intake_img.formats.registry import autodetect, drivers, find_driver, finder
from intake_img.formats.source import OVERRIDES, ImageSource
from intake_img.model.axes import CANONICAL, canonical_order, check_axes
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.record import recorded_coordinate
from intake_img.storage.files import File
from intake_img.storage.journal import located, resolve
from intake_img.storage.staging import interrupted

__all__ = ["DirectorySource", "FilePatternSource", "ImageListSource", "SequenceSource", "find_sequence"]

CHECKED = 50
"""Up to so many local files, all headers are compared when an image is loaded."""
SAMPLED = 8
"""Of more files, so many are, the last one among them; the others when their pixels are read."""


class SequenceSource(ImageSource):
    """Base of the sources that make one image of many files."""

    def __init__(self, uri: Any, *, axis: str, missing: str, verify: bool, group: bool,
                 member_options: Mapping[str, Any] | None, **options: Any) -> None:  # fmt: skip
        super().__init__(uri, **options)
        if missing not in ("error", "fill"):
            raise ValueError(f"missing={missing!r}: expected 'error' or 'fill'")
        self.axis = check_axes(axis, 1)[0]
        self.missing, self.verify, self.group = missing, _flag(verify, "verify"), _flag(group, "group")
        self.member_options = dict(member_options or {})

    def find(self) -> list[Listing]:
        """Return the files with the labels that their names carry, a listing for each set of fields."""
        raise NotImplementedError

    @cached_property
    def found(self) -> list[Listing]:
        """The files, found once; those of a commit under way where they are staged."""
        return [replace(k, paths=located(k.paths, self.file)) for k in self.find()]

    @property
    def files(self) -> list[str]:
        """The files that make the image."""
        return [path for listing in self.found for path in listing.in_order().paths]

    def _images(self) -> tuple[Image, Image]:
        if self._image is None:
            original = self._compose(self.found)
            self._image = original.overruled(**self._overrides()), original
        return self._image

    def _overrides(self) -> dict[str, Any]:
        return {k: self.metadata[k] for k in OVERRIDES if self.metadata.get(k) is not None}

    def _overruled(self, axes: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return for each override the axes, as the files call them, whose facts it replaces."""
        given = self._overrides()
        named = dict(zip(check_axes(given["axes"]), axes, strict=False)) if "axes" in given else {}
        if isinstance(given.get("spacing_units"), str):
            given["spacing_units"] = "zyx"
        keys = ("spacing", "spacing_units", "origin", "coords")
        return {k: frozenset(named.get(a, a) for a in given.get(k, ())) for k in keys}

    def groups(self) -> dict[str, Image]:
        """Return an image for each kind of file: of one shape, dtype, spacing, unit, origin and channel names.

        They are called ``"<shape>-<dtype>"``; of several with the same name, the further ones end in ``-2``, ``-3``...
        """
        alike: dict[str, dict[int, list[int]]] = {}
        kinds: dict[tuple[Any, ...], list[tuple[str, Facts]]] = {}
        for n, listing in enumerate(self.found):
            for k, path in enumerate(listing.paths):
                image = self.member(path).image()
                v = next(iter(image.variables.values()))
                name = f"{'x'.join(map(str, v.pixels.shape))}-{v.pixels.dtype.name}"
                facts = facts_of(image, [a for a in v.axes if a not in listing.fields])
                known = kinds.setdefault((v.axes, name), [])
                overruled = self._overruled([*listing.fields, *v.axes])
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
        """Return a DataTree with one Dataset for each kind of file; see `groups`."""
        nodes = {}
        for name, image in self.groups().items():
            chunks = options.get("chunks", self.chunks)
            nodes[name] = image.overruled(**self._overrides()).to_xarray(
                uri=self.uri, driver=self.name_of_driver(), order=self.output_axis_order, chunks=chunks, original=image
            )
        return xr.DataTree.from_dict(nodes)

    def member(self, path: str) -> ImageSource:
        """Return the source of one of the files."""
        options = dict(self.member_options)
        if self.storage_options:
            options["storage_options"] = self.storage_options
        return autodetect(self.file.at(path), **options)

    def _compose(self, found: Sequence[Listing], fill_gaps: bool = False) -> Image:
        listings = {name: listing for all_of in found for name, listing in all_of.by_variable().items()}
        if not any(map(len, listings.values())):
            raise FileNotFoundError(f"no image file fits {self.uri}")
        head = self.member(_first_path(next(iter(listings.values())))).image()
        whole = head.partition
        order = format_labels(whole.get("variables", []))
        if lost := [n for n in order if n not in listings and len(order) > 1]:
            raise FileNotFoundError(f"{self.uri}: none of the files holds the variable {parse_label(lost[0])!r}")
        spread: dict[str, Coordinate] = {}
        coords: dict[str, Coordinate] = {}
        even: dict[str, dict[str, Any]] = {"spacing": {}, "units": {}, "origin": {}}
        variables: dict[str, Variable] = {}
        for label in sorted(listings, key=lambda n: order.index(n) if n in order else len(order)):
            listing = listings[label]
            start = self.member(_first_path(listing))
            image = start.image()
            # each file knows the coordinates of the axes of its own variable
            spread |= {k: recorded_coordinate(c) for k, c in image.partition.get("coords", {}).items()}
            axes, labels = _grid(listing, spread, image)
            own = {k: c for k, c in image.coords.items() if k not in spread and not set(axes) & set(c.axes)}
            coords = own | coords
            even = {k: {**getattr(image, k), **known} for k, known in even.items()}
            paths = self._places(listing, axes, labels, fill_gaps)
            for key, v in image.variables.items():
                name = str(parse_label(label)) if label else key
                variables[name] = self._variable(start, key, v, axes, labels, paths)
            for axis in [a for a in axes if a not in image.partition.get("axes", [])]:
                coords.setdefault(axis, Coordinate((axis,), _values(labels[axis])))
            if listing.numbered:
                coords.pop(self.axis, None)
                if listing.values is not None:
                    coords[self.axis] = Coordinate((self.axis,), np.asarray(listing.values))
        coords.update(spread)
        keep = {a for v in variables.values() for a in v.axes}
        coords = {k: c for k, c in coords.items() if set(c.axes) <= keep and not (k in keep and c.axes == ())}
        header = {**head.header, "files": sum(map(len, listings.values()))}
        image = replace(
            head, variables=variables, coords=coords, partition={}, scene="0", scenes=("0",), header=header, **even
        )
        self._check(image, fill_gaps)
        return image

    def _places(self, listing: Listing, axes: Sequence[str], labels: Mapping[str, Sequence[str]], fill_gaps: bool
                ) -> tuple[str, ...]:  # fmt: skip
        """Return the paths in C order of the grid, empty where there is none."""
        grid = [len(labels[a]) for a in axes]
        columns = [listing.fields[a].along(labels[a]) for a in axes]
        at = np.ravel_multi_index(columns, grid) if axes else np.zeros(len(listing), int)
        size = int(np.prod(grid, dtype=int))
        counts = np.bincount(at, minlength=size)
        if counts.max(initial=0) > 1:
            twice = [listing.paths[k] for k in np.flatnonzero(at == int(counts.argmax())).tolist()]
            raise AxesError(f"{twice[0]} and {twice[1]} have the same place; give the pattern more fields")
        if self.missing == "error" and not fill_gaps and not counts.all():
            lost = np.flatnonzero(counts == 0)
            shown = []
            for k in lost[:10]:
                place = [int(j) for j in np.unravel_index(int(k), grid)]
                shown.append(" ".join(f"{a}={labels[a][j]}" for a, j in zip(axes, place, strict=True)))
            raise FileNotFoundError(
                f"{self.uri}: {len(lost)} of {size} files are missing: {'; '.join(shown)}"
                f"{'; …' if len(lost) > 10 else ''}; missing='fill' puts zeros in their place"
            )
        paths = np.full(size, "", dtype=object)
        paths[at] = listing.paths
        return tuple(paths)

    def _variable(self, start: ImageSource, key: str, v: Variable, axes: Sequence[str],
                  labels: Mapping[str, Sequence[str]], paths: tuple[str, ...]) -> Variable:  # fmt: skip
        files = Files(
            paths,
            str(start.file),
            key,
            type(start),
            v.pixels.shape,
            v.axes,
            v.pixels.dtype,
            tuple(sorted(self.member_options.items())),
            tuple(sorted(self.storage_options.items())),
            tuple(axes),
            facts_of(start.image(), [a for a in v.axes if a not in axes]),
            self._overruled(v.axes),
            self.file.jail,
        )
        if doubled := [a for a in axes if a in v.axes and v.pixels.shape[v.axes.index(a)] != 1]:
            raise AxesError(
                f"the names of the files and the files themselves have an axis {doubled[0]!r}: "
                "call that of the names otherwise"
            )
        grid = tuple(len(labels[a]) for a in axes)
        shape = (*grid, *v.pixels.shape)
        tiles = (1,) * len(grid) + v.pixels.auto_block()
        pixels = Pixels(Members(files, grid), shape, v.pixels.dtype, tiles, parallel=True, many_files=True)
        kept = [k for k, a in enumerate(v.axes) if a not in axes]
        pixels = pixels.reshape([*range(len(grid)), *(k + len(grid) for k in kept)])
        whole = Variable(pixels, (*axes, *(v.axes[k] for k in kept)), v.attrs)
        return _ordered(whole, start.image().partition.get("order"))

    def _check(self, image: Image, fill_gaps: bool) -> None:
        """Read further headers and compare them with the first: all with `verify` or of few files, else some."""
        for v in image.variables.values():
            reader: Any = v.pixels.reader
            while not isinstance(reader, Members):
                reader = reader.reader
            paths = [p for p in reader.files.paths if p]
            if self.verify:
                for path in paths:
                    reader.files.pixels(path)
            elif self.file.local and not fill_gaps:
                step = 1 if len(paths) <= CHECKED else len(paths) // SAMPLED
                reader.files.check(dict.fromkeys([*paths[1::step], paths[-1]]))

    def _close(self) -> None:
        self.__dict__.pop("found", None)
        super()._close()


def _ordered(v: Variable, order: Any) -> Variable:
    """Return a variable with its axes in the recorded order, where that is known and fits."""
    axes = tuple(map(str, order)) if isinstance(order, list) else v.axes
    if axes == v.axes or sorted(axes) != sorted(v.axes):
        return v
    return Variable(v.pixels.transpose([v.axes.index(a) for a in axes]), axes, v.attrs)


def _first_path(listing: Listing) -> str:
    """The file whose labels come first: its header stands for all."""
    firsts = np.logical_and.reduce([column.codes == 0 for column in listing.fields.values()])
    return listing.paths[int(np.argmax(firsts))]  # the first of all, if there is none


def _grid(
    listing: Listing, spread: Mapping[str, Coordinate], head: Image
) -> tuple[list[str], dict[str, Sequence[str]]]:
    """Return the axes in the names and the labels along each: in the order that was recorded, else in natural order."""
    axes = list(canonical_order([a for a in listing.fields if a != "var"]))
    recorded = head.partition
    labels: dict[str, Sequence[str]] = {}
    for axis in axes:
        seen = listing.fields[axis].labels
        c = spread.get(axis)
        known: list[str] = []
        if c is not None and c.axes == (axis,):
            known = format_labels(c.values)
        elif axis in recorded.get("axes", []):
            known = format_labels(range(recorded["shape"][recorded["axes"].index(axis)]))
        labels[axis] = known if known and set(seen) <= set(known) else seen
    return axes, labels


def _values(labels: Sequence[str]) -> np.ndarray:
    values = [parse_label(text) for text in labels]
    if any(isinstance(v, str) for v in values):
        values = [v if isinstance(v, str) else text for v, text in zip(values, labels, strict=True)]
    return np.asarray(values)


class FilePatternSource(SequenceSource):
    """Files whose names fit a pattern as one image.

    Parameters
    ----------
    uri : str
        ``d/f.i_{i}.c_{c}.tif``: a field is an axis, or ``var`` for variables; fields may be in folders
        (``pos_{i}/t_{t}.tif``); ``{z:03d}`` for three digits or more; ``*``, ``?`` and ``**`` match anything. A pattern
        without fields gives the axis `axis`, in natural order of the paths. A plain name stands for the parts that
        ``imsave(..., partition=)`` wrote for it.
    axis : str
        Axis of the files where the names carry none.
    missing : "error" or "fill"
        What to do where a file of the grid does not exist.
    verify : bool
        Read all headers now, instead of each with its pixels.
    group : bool
        Allow files of several shapes: `imload` then returns a DataTree with one Dataset for each.
    start, stop : int, optional
        A slice of the files, in order.
    member_options : mapping, optional
        Options of the driver that reads each file, e.g. ``{"scene": 1}``.
    chunks, output_axis_order, metadata, storage_options
        As for every source.
    """

    name = "filepattern"
    format_name = "files that fit a pattern"

    def __init__(
        self,
        uri: Any,
        *,
        axis: str = "i",
        missing: str = "error",
        verify: bool = False,
        group: bool = False,
        start: int | None = None,
        stop: int | None = None,
        member_options: Mapping[str, Any] | None = None,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            axis=axis,
            missing=missing,
            verify=verify,
            group=group,
            member_options=member_options,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )
        self.start, self.stop = _whole(start, "start"), _whole(stop, "stop")

    def find(self) -> list[Listing]:
        if not re.search(r"[{}*?\[]", self.file.path):
            return parts(self.file)
        listing = find_pattern(Pattern(self.file.path), self.file)
        if (self.start, self.stop) != (None, None):
            listing = listing.in_order().take(range(len(listing))[self.start : self.stop])
        return [numbered(listing, self.axis)]


class DirectorySource(SequenceSource):
    """All images in a folder as one.

    Parameters
    ----------
    uri : str
        The folder.
    ext : str, optional
        Extension of the files that count, e.g. ``".tif"``; by default those of the format that most files have; files
        of other formats are warned of, and refused if they are more than half as many.
    recursive : bool
        Take the files in folders below as well.
    axis, missing, verify, group, start, stop, member_options
        As for `FilePatternSource`. Files that are the parts of one image (``name.t_0.tif``, ...) are put together by
        the labels in their names; others are numbered along `axis`, with their names as labels if that is ``i``.
    chunks, output_axis_order, metadata, storage_options
        As for every source.
    """

    name = "directory"
    format_name = "folder of image files"
    folder = True

    def __init__(
        self,
        uri: Any,
        *,
        ext: str | None = None,
        recursive: bool = False,
        axis: str = "i",
        missing: str = "error",
        verify: bool = False,
        group: bool = False,
        start: int | None = None,
        stop: int | None = None,
        member_options: Mapping[str, Any] | None = None,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            axis=axis,
            missing=missing,
            verify=verify,
            group=group,
            member_options=member_options,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )
        self.ext, self.recursive = ext, _flag(recursive, "recursive")
        self.start, self.stop = _whole(start, "start"), _whole(stop, "stop")

    def find(self) -> list[Listing]:
        if series_interrupted(self.file):
            raise FormatError(f"a write into {self.file} was interrupted: its files are not complete, write them again")
        listing = find_in_folder(self.file, self.ext, self.recursive, _formats(), _extensions(folders=True))
        if not len(listing):
            raise FileNotFoundError(
                f"the folder {self.file} holds no image{f' ending in {self.ext}' if self.ext else ''}"
            )
        listing = listing.take(range(len(listing))[self.start : self.stop])
        if (parted := parts_of_one(listing, _extensions())) is not None:
            return [parted]
        if (index := plate_index(self.file)) is not None:
            warnings.warn(
                f"{index[0]} is the index of {index[1]} plate, which is not read yet: the files are numbered along "
                f"{self.axis!r} without wells, channels and positions; a pattern gives these from their names",
                stacklevel=2,
            )
        return [numbered(listing, self.axis)]


class ImageListSource(SequenceSource):
    """A list of files as one image.

    Parameters
    ----------
    uri : sequence of str
        Paths or URLs; their order is kept.
    axis, missing, verify, group, member_options
        As for `FilePatternSource`.
    labels : sequence, optional
        Coordinates along `axis`; by default the names of the files if that is ``i``.
    chunks, output_axis_order, metadata, storage_options
        As for every source.
    """

    name = "imagelist"
    format_name = "list of image files"

    def __init__(
        self,
        uri: Sequence[Any],
        *,
        axis: str = "i",
        labels: Sequence[Any] | None = None,
        missing: str = "error",
        verify: bool = False,
        group: bool = False,
        member_options: Mapping[str, Any] | None = None,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(uri, (str, os.PathLike)) or not len(uri):
            raise ValueError(f"expected a list of paths, got {uri!r}")
        self._list = [File.parse(u, storage_options) for u in uri]
        super().__init__(
            self._list[0],
            axis=axis,
            missing=missing,
            verify=verify,
            group=group,
            member_options=member_options,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )
        if labels is not None and len(labels) != len(self._list):
            raise ValueError(f"{len(labels)} labels for {len(self._list)} files")
        self.labels = None if labels is None else list(labels)

    def arguments(self) -> dict[str, Any]:
        return {**super().arguments(), "uri": [f.path for f in self._list]}

    def _place(self) -> Any:
        return [f if f.jail is not None else f.path for f in self._list]

    def find(self) -> list[Listing]:
        paths = [f.path for f in self._list]
        names = [path.rsplit("/", 1)[-1] for path in paths]
        return [numbered(Listing(paths), self.axis, self.labels or (names if self.axis == "i" else None))]


def _whole(value: Any, what: str) -> int | None:
    """A number or None, also as the text that a template of a catalog makes of it."""
    if value is None or (isinstance(value, str) and value in ("", "None")):
        return None
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"{what}={value!r}: expected a whole number or None")


def _flag(value: Any, what: str) -> bool:
    """True or False, also as text."""
    known = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}
    found = known.get(str(value).lower())
    if found is None:
        raise TypeError(f"{what}={value!r}: expected True or False")
    return found


@finder
def find_sequence(uri: Any, options: Mapping[str, Any]) -> SequenceSource | None:
    """Return the source of many files that a list, folder, pattern or name of parts stands for, or None.

    Parameters
    ----------
    uri : str, os.PathLike, or list of these
    options : mapping
        Options of the source.
    """
    if isinstance(uri, (list, tuple)):
        return ImageListSource(uri, **sequence_options(ImageListSource, options))
    file = File.parse(uri, options.get("storage_options"))
    if file.exists():
        if file.is_folder():
            try:
                find_driver(file)
            except UnknownFormatError as exc:
                if resolve(file) != file:
                    return None
                folder = DirectorySource(file, **sequence_options(DirectorySource, options))
                try:
                    folder.found  # noqa: B018  (listed once, kept)
                except FileNotFoundError as nothing:
                    raise nothing if set(options) & {"ext", "recursive", "start", "stop"} else exc from None
                return folder
        return None
    if re.search(r"[{*?\[]", file.path):
        return FilePatternSource(file, **sequence_options(FilePatternSource, options))
    found = parts(file)
    if found:
        source = FilePatternSource(file, **sequence_options(FilePatternSource, options))
        source.__dict__["found"] = [replace(k, paths=located(k.paths, file)) for k in found]  # listed once
        return source
    return None


def parts(file: File) -> list[Listing]:
    """Return the parts of a partitioned image called `file`, none if there are none.

    Raises
    ------
    FormatError
        If the first write of the image was interrupted; an earlier image of that name is complete and is found.
    """
    stem, extension = split_extension(file.name, _extensions())
    found = find_parts(file, stem, extension)
    if not found and interrupted(file):
        raise FormatError(
            f"the write of {file} was interrupted: it is not complete; save it again with resume=True or overwrite=True"
        )
    return found


def sequence_options(cls: type[SequenceSource], options: Mapping[str, Any]) -> dict[str, Any]:
    """Sort options into those of the sequence and those of the driver of each file."""
    import inspect

    own = inspect.signature(cls).parameters
    mine = {k: v for k, v in options.items() if k in own}
    theirs = {k: v for k, v in options.items() if k not in own}
    if theirs:
        mine["member_options"] = {**(mine.get("member_options") or {}), **theirs}
    return mine


def _formats() -> dict[str, str]:
    """Return the format of each extension; of pictures each ending is its own, but for other spellings of it."""
    found = {}
    for name, cls in drivers().items():
        for extension in cls.extensions:
            found[extension] = _SPELLINGS.get(extension, extension) if name == "imageio" else cls.format_name
    return found


_SPELLINGS = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".pgm": ".pnm", ".ppm": ".pnm", ".pbm": ".pnm"}


def _extensions(folders: bool = False) -> set[str]:
    return {e for cls in drivers().values() for e in cls.extensions if cls.folder or not folders}
