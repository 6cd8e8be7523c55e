"""Many files, one image: a folder, a list, a pattern or the parts of a partitioned image as one lazy array.

One listing of each folder finds the files, their names give the coordinates, the first header gives the rest. The other
headers are read when their pixels are, and then checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.axes import CANONICAL, canonical_order, check_axes, spell
from intake_img.detect import autodetect, drivers, find_driver, open_source
from intake_img.errors import AxesError, FormatError, UnknownFormatError
from intake_img.files import File
from intake_img.image import Coordinate, Image, Variable, recorded_coordinate
from intake_img.lazy import Pixels, Region
from intake_img.names import Pattern, format_labels, natural_key, parse_label, parse_member, split_extension
from intake_img.partition import existing_members, staging_of
from intake_img.source import ImageSource

__all__ = ["DirectorySource", "FilePatternSource", "ImageListSource", "SequenceSource", "find_sequence"]


@dataclass(frozen=True)
class _Found:
    """A file and the labels in its name; ``var`` names the variable."""

    path: str
    labels: Mapping[str, str]
    numbered: bool = False  # the label is but a number in a list
    value: Any = None  # the coordinate then, if there is one


@dataclass(frozen=True, eq=False)
class _Files:
    """Opens one file of many with the driver that the first one has, or with its own."""

    paths: tuple[str, ...]  # in C order of the grid; "" where there is no file
    first: str
    variable: str
    driver: type[ImageSource]
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: np.dtype
    options: tuple[tuple[str, Any], ...]
    storage_options: tuple[tuple[str, Any], ...]

    def source(self, path: str) -> ImageSource:
        options: dict[str, Any] = dict(self.options)
        if self.storage_options:
            options["storage_options"] = dict(self.storage_options)
        file = File(path, dict(self.storage_options))
        same = os.path.splitext(path)[1].lower() == os.path.splitext(self.first)[1].lower()
        return open_source(self.driver, file, **options) if same else open_source(find_driver(file), file, **options)

    def pixels(self, path: str) -> Pixels:
        """Return the pixels of one file, its header checked against the first one's."""
        image = self.source(path).image()
        v = image.variables.get(self.variable) or next(iter(image.variables.values()))
        if v.pixels.shape != self.shape or v.axes != self.axes or v.pixels.dtype != self.dtype:
            raise FormatError(
                f"{path} holds {spell(v.axes)} {v.pixels.shape} {v.pixels.dtype}, but {self.first} holds "
                f"{spell(self.axes)} {self.shape} {self.dtype}: the files of one image must be alike; load them in "
                "groups with group=True"
            )
        return v.pixels


@dataclass(frozen=True, eq=False)
class _Members:
    """Reads an array of which each step along the first axes is a file."""

    files: _Files
    grid: tuple[int, ...]
    fill: Any = 0

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        files = self.files
        stamps = [_stamp(p) for p in files.paths]
        return normalize_token((files.paths, stamps, files.driver.__qualname__, files.shape, self.grid, files.options))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        n = len(self.grid)
        for place in product(*(range(s.start, s.stop) for s in region[:n])):
            path = self.files.paths[int(np.ravel_multi_index(place, self.grid))] if n else self.files.paths[0]
            part = out[tuple(p - s.start for p, s in zip(place, region, strict=False))]
            if path:
                self.files.pixels(path).read_into(region[n:], part)
            else:
                part[...] = self.fill


def _stamp(path: str) -> Any:
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    return info.st_mtime_ns, info.st_size


class SequenceSource(ImageSource):
    """Base of the sources that make one image of many files."""

    def __init__(self, uri: Any, *, axis: str, missing: str, verify: bool, group: bool,
                 member_options: Mapping[str, Any] | None, **options: Any) -> None:  # fmt: skip
        super().__init__(uri, **options)
        if missing not in ("error", "fill"):
            raise ValueError(f"missing={missing!r}: expected 'error' or 'fill'")
        self.axis = check_axes(axis, 1)[0]
        self.missing, self.verify, self.group = missing, bool(verify), bool(group)
        self.member_options = dict(member_options or {})

    def find(self) -> list[_Found]:
        """Return the files with the labels that their names carry, in order."""
        raise NotImplementedError

    @cached_property
    def found(self) -> list[_Found]:
        """The files, found once."""
        return self.find()

    @property
    def files(self) -> list[str]:
        """The files that make the image, in order."""
        return [f.path for f in self.found]

    def _images(self) -> tuple[Image, Image]:
        if self._image is None:
            original = self._compose(self.found)
            overrides = {k: self.metadata[k] for k in ("axes", "spacing", "spacing_units", "coords")
                         if self.metadata.get(k) is not None}  # fmt: skip
            self._image = original.overruled(**overrides), original
        return self._image

    def groups(self) -> dict[str, Image]:
        """Return an image for each shape and dtype that occurs among the files, by ``"<shape>-<dtype>"``."""
        alike: dict[tuple[Any, ...], list[_Found]] = {}
        for f in self.found:
            v = next(iter(self._member(f.path).image().variables.values()))
            alike.setdefault((v.axes, v.pixels.shape, v.pixels.dtype.name), []).append(f)
        return {f"{'x'.join(map(str, shape))}-{dtype}": self._compose(found, fill_gaps=True)
                for (_, shape, dtype), found in alike.items()}  # fmt: skip

    def datatree(self, **options: Any) -> xr.DataTree:
        """Return a DataTree with one Dataset for each shape and dtype that occurs among the files."""
        nodes = {}
        for name, image in self.groups().items():
            chunks = options.get("chunks", self.chunks)
            nodes[name] = image.to_xarray(
                uri=self.uri, driver=self.name_of_driver(), order=self.output_axis_order, chunks=chunks
            )
        return xr.DataTree.from_dict(nodes)

    def _member(self, path: str) -> ImageSource:
        options = dict(self.member_options)
        if self.storage_options:
            options["storage_options"] = self.storage_options
        return autodetect(path if self.file.local else File(path, self.storage_options), **options)

    def _compose(self, found: Sequence[_Found], fill_gaps: bool = False) -> Image:
        if not found:
            raise FileNotFoundError(f"no image file fits {self.uri}")
        first = self._member(found[0].path)
        head = first.image()
        names = [parse_label(f.labels["var"]) for f in found if "var" in f.labels]
        whole = head.partition
        order = [str(n) for n in whole.get("variables", [])] or list(dict.fromkeys(map(str, names)))
        spread = {k: recorded_coordinate(c) for k, c in whole.get("coords", {}).items()}
        variables: dict[str, Variable] = {}
        coords = {k: c for k, c in head.coords.items() if k not in spread}
        facts = head
        for name in order or [""]:
            mine = [f for f in found if not name or str(parse_label(f.labels.get("var", ""))) == name]
            if not mine and name in order and len(order) > 1:
                raise FileNotFoundError(f"{self.uri}: none of the {len(found)} files holds the variable {name!r}")
            if not name or not mine:
                mine = list(found)
            start = first if mine[0] is found[0] else self._member(mine[0].path)
            axes, labels = _grid(mine, spread, start.image())
            paths = self._places(mine, axes, labels, fill_gaps)
            for key, v in start.image().variables.items():
                variables[name or key] = self._variable(start, key, v, axes, labels, paths)
            for axis, values in labels.items():
                coords.setdefault(axis, _coordinate(axis, values, spread))
        coords.update(spread)
        if all(f.numbered for f in found):
            coords.pop(self.axis, None)
            if all(f.value is not None for f in found):
                coords[self.axis] = Coordinate((self.axis,), np.asarray([f.value for f in found]))
        keep = {a for v in variables.values() for a in v.axes}
        coords = {k: c for k, c in coords.items() if set(c.axes) <= keep and not (k in keep and c.axes == ())}
        image = replace(facts, variables=variables, coords=coords, partition={}, scene="0", scenes=("0",),
                        header={**head.header, "files": len(found)})  # fmt: skip
        if self.verify:
            self._verify(image)
        return image

    def _places(self, found: Sequence[_Found], axes: Sequence[str], labels: Mapping[str, Sequence[str]],
                fill_gaps: bool) -> tuple[str, ...]:  # fmt: skip
        positions = {a: {text: k for k, text in enumerate(labels[a])} for a in axes}
        grid = [len(labels[a]) for a in axes]
        paths = [""] * int(np.prod(grid, dtype=int))
        for f in found:
            try:
                place = tuple(positions[a][f.labels[a]] for a in axes)
            except KeyError:
                continue  # a file of another image
            k = int(np.ravel_multi_index(place, grid)) if grid else 0
            if paths[k]:
                raise AxesError(
                    f"{f.path} and {paths[k]} have the same place: {dict(f.labels)}; give the pattern more fields"
                )
            paths[k] = f.path
        lost = [k for k, p in enumerate(paths) if not p]
        if lost and self.missing == "error" and not fill_gaps:
            shown = []
            for k in lost[:10]:
                at = [int(j) for j in np.unravel_index(k, grid)]
                shown.append(" ".join(f"{a}={labels[a][j]}" for a, j in zip(axes, at, strict=True)))
            raise FileNotFoundError(
                f"{self.uri}: {len(lost)} of {len(paths)} files are missing: {'; '.join(shown)}"
                f"{'; …' if len(lost) > 10 else ''}; missing='fill' puts zeros in their place"
            )
        return tuple(paths)

    def _variable(self, start: ImageSource, key: str, v: Variable, axes: Sequence[str],
                  labels: Mapping[str, Sequence[str]], paths: tuple[str, ...]) -> Variable:  # fmt: skip
        files = _Files(
            paths,
            str(start.file),
            key,
            type(start),
            v.pixels.shape,
            v.axes,
            v.pixels.dtype,
            tuple(sorted(self.member_options.items())),
            tuple(sorted(self.storage_options.items())),
        )
        if doubled := [a for a in axes if a in v.axes and v.pixels.shape[v.axes.index(a)] != 1]:
            raise AxesError(
                f"the names of the files and the files themselves have an axis {doubled[0]!r}: "
                "call that of the names otherwise"
            )
        grid = tuple(len(labels[a]) for a in axes)
        shape = (*grid, *v.pixels.shape)
        tiles = (1,) * len(grid) + tuple(max(c) for c in v.pixels.auto_chunks())
        pixels = Pixels(_Members(files, grid), shape, v.pixels.dtype, tiles, parallel=True, many_files=True)
        kept = [k for k, a in enumerate(v.axes) if a not in axes]
        pixels = pixels.reshape([*range(len(grid)), *(k + len(grid) for k in kept)])
        return Variable(pixels, (*axes, *(v.axes[k] for k in kept)), v.attrs)

    def _verify(self, image: Image) -> None:
        """Read all headers and compare them with the first."""
        for v in image.variables.values():
            reader: Any = v.pixels.reader
            while not isinstance(reader, _Members):
                reader = reader.reader
            for path in filter(None, reader.files.paths):
                reader.files.pixels(path)

    def _close(self) -> None:
        self.__dict__.pop("found", None)
        super()._close()


def _grid(
    found: Sequence[_Found], spread: Mapping[str, Coordinate], head: Image
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the axes that the names carry and the labels along each: in the order of the source where it was recorded,
    else in natural order."""
    axes = list(canonical_order([a for a in found[0].labels if a != "var"]))
    for f in found:
        if {a for a in f.labels if a != "var"} != set(axes):
            raise AxesError(f"{f.path} names {sorted(f.labels)}, but {found[0].path} names {sorted(found[0].labels)}")
    recorded = head.partition
    labels: dict[str, list[str]] = {}
    for axis in axes:
        seen = list(dict.fromkeys(f.labels[axis] for f in found))
        c = spread.get(axis)
        if c is not None and c.axes == (axis,):
            known = format_labels(c.values)
        elif axis in recorded.get("axes", []):
            known = format_labels(range(recorded["shape"][recorded["axes"].index(axis)]))
        else:
            known = []
        labels[axis] = known if known and set(seen) <= set(known) else sorted(seen, key=_label_key)
    return axes, labels


def _label_key(label: str) -> tuple[Any, ...]:
    value = parse_label(label)
    return (1, natural_key(value)) if isinstance(value, str) else (0, value)


def _coordinate(axis: str, labels: Sequence[str], spread: Mapping[str, Coordinate]) -> Coordinate:
    if axis in spread:
        return spread[axis]
    values = [parse_label(text) for text in labels]
    if any(isinstance(v, str) for v in values):
        values = [text if not isinstance(v, str) else v for v, text in zip(values, labels, strict=True)]
    return Coordinate((axis,), np.asarray(values))


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
        self.start, self.stop = start, stop

    def find(self) -> list[_Found]:
        if not re.search(r"[{}*?\[]", self.file.path):
            return find_parts(self.file)
        pattern = Pattern(self.file.path)
        base = File(pattern.fixed or "/", self.file.storage_options)
        paths = sorted(_walk(base, pattern.depth), key=natural_key)
        found = [_Found(path, fields) for path in paths if (fields := pattern.match(path)) is not None]
        return _numbered(found[slice(self.start, self.stop)], self.axis)


class DirectorySource(SequenceSource):
    """All images in a folder as one.

    Parameters
    ----------
    uri : str
        The folder.
    ext : str, optional
        Extension of the files that count, e.g. ``".tif"``; by default the known one that most files have.
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
        self.ext, self.recursive, self.start, self.stop = ext, bool(recursive), start, stop

    def find(self) -> list[_Found]:
        paths = sorted(_walk(self.file, None if self.recursive else 0), key=natural_key)
        known = _extensions()
        by_extension: dict[str, list[str]] = {}
        for path in paths:
            name = path.rsplit("/", 1)[-1]
            extension = split_extension(name, known)[1].lower()
            if not name.startswith(".") and (self.ext is not None or extension in known):
                by_extension.setdefault(extension, []).append(path)
        if self.ext is not None:
            wanted = self.ext.lower() if self.ext.startswith(".") else f".{self.ext.lower()}"
            chosen = [p for p in paths if p.lower().endswith(wanted)]
        else:
            chosen = max(by_extension.values(), key=len, default=[])
        if not chosen:
            raise FileNotFoundError(
                f"the folder {self.file} holds no image file{f' ending in {self.ext}' if self.ext else ''}; "
                f"it holds {len(paths)} files"
            )
        found = [_Found(p, {}) for p in chosen[slice(self.start, self.stop)]]
        return _parts_of_one(found) or _numbered(found, self.axis)


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

    def find(self) -> list[_Found]:
        texts = format_labels(range(len(self._list)))
        found = [_Found(f.path, {self.axis: text}, True) for f, text in zip(self._list, texts, strict=True)]
        if self.labels is not None:
            return [replace(f, value=label) for f, label in zip(found, self.labels, strict=True)]
        return [replace(f, value=f.path.rsplit("/", 1)[-1]) for f in found] if self.axis == "i" else found


def find_sequence(uri: Any, options: Mapping[str, Any]) -> SequenceSource | None:
    """Return the source of many files that a list, folder, pattern or name of parts stands for, or None.

    Parameters
    ----------
    uri : str, os.PathLike, or list of these
    options : mapping
        Options of the source.
    """
    if isinstance(uri, (list, tuple)):
        return ImageListSource(uri, **_sequence_options(ImageListSource, options))
    file = File.parse(uri, options.get("storage_options"))
    if file.exists():
        if file.is_folder():
            try:
                find_driver(file)
            except UnknownFormatError:
                return DirectorySource(file, **_sequence_options(DirectorySource, options))
        return None
    if re.search(r"[{*?\[]", file.path):
        return FilePatternSource(file, **_sequence_options(FilePatternSource, options))
    if staging_of(file).exists() or find_parts(file):
        return FilePatternSource(file, **_sequence_options(FilePatternSource, options))
    return None


def find_parts(file: File) -> list[_Found]:
    """Return the parts of a partitioned image called `file`, none if there are none.

    Raises
    ------
    FormatError
        If the write of the image was interrupted.
    """
    if staging_of(file).exists():
        raise FormatError(
            f"the write of {file} was interrupted: it is not complete; save it again with resume=True or overwrite=True"
        )
    stem, extension = split_extension(file.name, _extensions())
    parts = existing_members(file, stem, extension)
    return [_Found(file.sibling(name).path, parts[name]) for name in sorted(parts, key=natural_key)]


def _sequence_options(cls: type[SequenceSource], options: Mapping[str, Any]) -> dict[str, Any]:
    """Sort options into those of the sequence and those of the driver of each file."""
    import inspect

    own = inspect.signature(cls).parameters
    mine = {k: v for k, v in options.items() if k in own}
    theirs = {k: v for k, v in options.items() if k not in own}
    if theirs:
        mine["member_options"] = {**(mine.get("member_options") or {}), **theirs}
    return mine


def _extensions() -> set[str]:
    return {e for cls in drivers().values() for e in cls.extensions}


def _numbered(found: Iterable[_Found], axis: str) -> list[_Found]:
    """Give files without labels their number along `axis`; the parts of one image keep the labels of their names."""
    found = list(found)
    if any(f.labels for f in found):
        return found
    texts = format_labels(range(len(found)))
    folders = [f.path.rpartition("/")[0].split("/") for f in found]
    shared = [parts[0] for parts in zip(*folders, strict=False) if len(set(parts)) == 1]
    root = "/".join(shared) if all(f[: len(shared)] == shared for f in folders) else ""
    return [
        replace(f, labels={axis: text}, numbered=True, value=f.path[len(root) :].lstrip("/") if axis == "i" else None)
        for f, text in zip(found, texts, strict=True)
    ]


def _parts_of_one(found: Sequence[_Found]) -> list[_Found] | None:
    """Give files the labels in their names, if all are parts of the one image in the folder."""
    known = _extensions()
    stems, parts = set(), []
    for f in found:
        name = f.path.rsplit("/", 1)[-1]
        stem, extension = split_extension(name, known)
        head = re.split(r"\.(?=(?:var|[a-z])_)", stem, maxsplit=1)[0]
        labels = parse_member(name, head, extension)
        if labels is None:
            return None
        stems.add(f.path[: len(f.path) - len(name)] + head)
        parts.append(replace(f, labels=labels))
    return parts if len(stems) == 1 and len({frozenset(p.labels) for p in parts}) == 1 else None


def _walk(folder: File, depth: int | None) -> list[str]:
    """Return the files below a folder: at a depth of so many folders, or at any; one listing of each folder."""
    if not folder.local:
        fs, path = folder.filesystem()
        prefix = (
            folder.path[: len(folder.path) - len(path.lstrip("/"))] if folder.path.endswith(path.lstrip("/")) else ""
        )
        paths = fs.find(path, maxdepth=None if depth is None else depth + 1)
        level = path.rstrip("/").count("/") + (depth or 0) + 1
        return [prefix + p.lstrip("/") for p in paths if depth is None or p.count("/") == level]
    found: list[str] = []
    folders = [(folder.path, 0)]
    while folders:
        at, level = folders.pop()
        try:
            with os.scandir(at) as entries:
                for entry in entries:
                    if entry.is_dir():
                        if not entry.name.startswith(".") and (depth is None or level < depth):
                            folders.append((entry.path, level + 1))
                    elif depth is None or level == depth:
                        found.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"there is no folder {at}") from None
    return found
