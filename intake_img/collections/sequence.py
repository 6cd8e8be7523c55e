"""A folder, a list, a pattern or a partitioned image as one image."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from intake_img.collections.file_names import member_name, split_extension
from intake_img.collections.listing import (
    Listing,
    find_in_folder,
    find_matches,
    find_parts,
    numbered,
    parts_of_one,
)
from intake_img.collections.many_files import SequenceSource
from intake_img.collections.options import SequenceOptions, SliceOptions, flag, sequence_options, whole_number
from intake_img.collections.partition import series_interrupted
from intake_img.collections.patterns import Pattern
from intake_img.collections.plates.index_files import is_index
from intake_img.collections.words import check_mapping, on_axes
from intake_img.errors import FormatError, UnknownFormatError
from intake_img.formats.options import option
from intake_img.formats.registry import formats, known_extensions
from intake_img.storage.files import File
from intake_img.storage.journal import located
from intake_img.storage.staging import interrupted

if TYPE_CHECKING:
    from intake_img.collections.plates.source import PlateSource

__all__ = [
    "DirectorySource",
    "FilePatternSource",
    "ImageListSource",
    "SequenceSource",
    "of_absent",
    "of_folder",
    "of_index",
    "of_list",
    "parts",
]


@dataclass(frozen=True)
class _PatternOptions(SliceOptions):
    axes: Mapping[str, str] | None = option(
        None,
        "mapping of str to str, optional",
        'The axis of a field, e.g. ``{"well": "i", "day": "t"}``: its labels are the coordinate of that axis. Fields '
        "that share an axis are coordinates along it, of the combinations that occur.",
    )


_WILDCARDS = re.compile(r"[{*?\[]")


class FilePatternSource(SequenceSource):
    """Files whose names match a pattern, as one image."""

    name = "filepattern"
    title = "files that fit a pattern"
    Options = _PatternOptions
    uri_doc = (
        "str",
        "``d/f.i_{i}.c_{c}.tif``: a field is an axis, or ``var`` for variables; fields may be in folders "
        "(``pos_{i}/t_{t}.tif``); ``{z:03d}`` for three digits or more; ``*``, ``?`` and ``**`` match anything. Fields "
        "whose name is not a lower-case letter (``{well}_{site}_c{c}.tif``) become coordinates along ``i``. A pattern "
        "without fields gives the axis `axis`, in natural order of the paths. A plain name stands for the parts that "
        "``imsave(..., partition=)`` wrote for it.",
    )

    def __init__(self, uri: Any, **options: Any) -> None:
        super().__init__(uri, **options)
        given: Any = self.options
        self.start, self.stop = whole_number(given.start, "start"), whole_number(given.stop, "stop")
        self.field_axes = check_mapping(given.axes)
        self.pattern: Pattern | None = None

    def find(self) -> list[Listing]:
        self.pattern, listing = self._matching()
        if listing is None:
            return [on_axes(found, self.field_axes, self.uri) for found in parts(self.file)]
        listing = on_axes(listing, self.field_axes, self.uri)
        if (self.start, self.stop) != (None, None):
            listing = listing.in_order().take(range(len(listing))[self.start : self.stop])
        return [numbered(listing, self.axis)]

    def _matching(self) -> tuple[Pattern | None, Listing | None]:
        """Return the pattern and the files that match it; None for the name of a partitioned image.

        Wildcards may be characters of names: files of a partitioned image are found by a name such as ``a[1].tif``.
        """
        path = self.file.path
        if not _WILDCARDS.search(path):
            return None, None
        pattern, found = find_matches(self.file)
        stem = split_extension(path, known_extensions())[0]
        if (not len(found) or found.paths[0].startswith(f"{stem}.")) and parts(self.file):
            return None, None
        return pattern, found

    def expected(self, labels: Mapping[str, str]) -> str | None:
        if self.pattern is not None:
            of_field = {**labels} | {f: labels[a] for f, a in self.field_axes.items() if a in labels}
            path = self.pattern.filled(of_field)
            return None if path is None else path.removeprefix(f"{self.pattern.fixed}/")
        stem, extension = split_extension(self.file.name, known_extensions())
        return member_name(stem, extension, labels)


@dataclass(frozen=True)
class _FolderOptions(SliceOptions):
    ext: str | None = option(
        None,
        "str, optional",
        'Extension of the files that count, e.g. ``".tif"``; by default those of the format that most files have; '
        "files of other formats are warned of, and refused if they are more than half as many.",
    )
    recursive: bool = option(False, "bool", "Take the files in folders below as well.")


class DirectorySource(SequenceSource):
    """All images in a folder, as one image.

    Files of one partitioned image (``name.t_0.tif``, ...) are joined by the labels in their names; others are numbered
    along `axis`, with their names as labels if it is ``i``.
    """

    name = "directory"
    title = "folder of image files"
    Options = _FolderOptions
    uri_doc = ("str or os.PathLike", "The folder.")

    def __init__(self, uri: Any, **options: Any) -> None:
        super().__init__(uri, **options)
        given: Any = self.options
        self.ext, self.recursive = given.ext, flag(given.recursive, "recursive")
        self.start, self.stop = whole_number(given.start, "start"), whole_number(given.stop, "stop")

    def find(self) -> list[Listing]:
        if series_interrupted(self.file):
            raise FormatError(f"a write into {self.file} was interrupted: its files are not complete, write them again")
        listing = find_in_folder(self.file, self.ext, self.recursive, _formats(), known_extensions(folders=True))
        if not len(listing):
            raise FileNotFoundError(
                f"the folder {self.file} contains no image{f' ending in {self.ext}' if self.ext else ''}"
            )
        listing = listing.take(range(len(listing))[self.start : self.stop])
        if (parted := parts_of_one(listing, known_extensions())) is not None:
            return [parted]
        return [numbered(listing, self.axis)]


@dataclass(frozen=True)
class _ListOptions(SequenceOptions):
    labels: Sequence[Any] | None = option(
        None, "sequence, optional", "Coordinates along `axis`; by default the names of the files if that is ``i``."
    )


class ImageListSource(SequenceSource):
    """A list of files, as one image."""

    name = "imagelist"
    title = "list of image files"
    Options = _ListOptions
    uri_doc = ("sequence of str", "Paths or URLs; their order is kept.")

    def __init__(self, uri: Sequence[Any], **options: Any) -> None:
        if isinstance(uri, (str, os.PathLike)) or not len(uri):
            raise ValueError(f"expected a list of paths, got {uri!r}")
        self._list = [File.given(u, options) for u in uri]
        super().__init__(self._list[0], **options)
        labels = self.options.labels
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


def of_list(uris: Sequence[Any], options: Mapping[str, Any]) -> ImageListSource:
    """Return the source of a list of files."""
    return ImageListSource(uris, **sequence_options(ImageListSource, options))


def of_absent(file: File, options: Mapping[str, Any]) -> FilePatternSource | None:
    """Return the source of a pattern or of a partitioned image, for a name of which there is no file; or None."""
    if _WILDCARDS.search(file.path):
        return FilePatternSource(file, **sequence_options(FilePatternSource, options))
    found = parts(file)
    if not found:
        return None
    source = FilePatternSource(file, **sequence_options(FilePatternSource, options))
    source.__dict__["found"] = [replace(k, paths=located(k.paths, file)) for k in found]  # listed once
    return source


def of_index(file: File, options: Mapping[str, Any]) -> PlateSource | None:
    """Return the source of the plate that a file is the index of; None for other files."""
    if not is_index(file.name):
        return None
    from intake_img.collections.plates.source import find_plate

    return find_plate(file, options)


def of_folder(folder: File, options: Mapping[str, Any], unknown: UnknownFormatError) -> SequenceSource | PlateSource:
    """Return the source of a folder that is not itself an image: a plate, or files of one format.

    Raises
    ------
    UnknownFormatError
        The given one, if the folder contains no image and no option says that there are some.
    """
    if (plate := _plate(folder, options)) is not None:
        return plate
    source = DirectorySource(folder, **sequence_options(DirectorySource, options))
    try:
        source.found  # noqa: B018  (listed once, kept)
    except FileNotFoundError as nothing:
        raise nothing if set(options) & {"ext", "recursive", "start", "stop"} else unknown from None
    return source


def _plate(folder: File, options: Mapping[str, Any]) -> PlateSource | None:
    """Return the source of the plate in a folder, unless an option is given that only sequences of files have."""
    from intake_img.collections.plates.source import PlateSource, find_plate

    of_sequences = {f.name for f in fields(_FolderOptions)} - {f.name for f in fields(PlateSource.Options)}
    return None if of_sequences & set(options) else find_plate(folder, options)


def parts(file: File) -> list[Listing]:
    """Return the files of a partitioned image named `file`, none if there are none.

    Raises
    ------
    FormatError
        If the first write of the image was interrupted; an earlier image of that name is complete and is found.
    """
    stem, extension = split_extension(file.name, known_extensions())
    found = find_parts(file, stem, extension)
    if not found and interrupted(file):
        raise FormatError(
            f"the write of {file} was interrupted: it is not complete; save it again with resume=True or overwrite=True"
        )
    return found


def _formats() -> dict[str, str]:
    """Return the format of each extension; for pictures each extension is separate, except its other spellings."""
    found = {}
    for name, fmt in formats().items():
        for extension in fmt.extensions:
            found[extension] = _SPELLINGS.get(extension, extension) if name == "imageio" else fmt.title
    return found


_SPELLINGS = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".pgm": ".pnm", ".ppm": ".pnm", ".pbm": ".pnm"}
