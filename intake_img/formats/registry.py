"""The registry of formats: a file's format is chosen by its magic bytes, then by the longest extension.

The sources of formats are declared as entry points in the group ``intake.drivers``; formats of other packages join
the registry in the same way.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Unpack

from intake_img.errors import CannotWriteError, UnknownFormatError, warn
from intake_img.formats.arguments import ENTRY_POINTS
from intake_img.formats.base import Format, NoOptions
from intake_img.formats.candidates import CERTAIN, Candidates, by_extension
from intake_img.formats.format_source import FormatSource
from intake_img.formats.options import joined
from intake_img.formats.probe import Probe
from intake_img.formats.source import ImageSource
from intake_img.model.image import Image
from intake_img.model.privacy import public
from intake_img.model.typed import SourceOptions, Uri
from intake_img.storage.files import File
from intake_img.storage.journal import resolve
from intake_img.storage.listings import names_in

__all__ = [
    "ImgSource",
    "autodetect",
    "bridges",
    "check_options",
    "check_replaced",
    "find_format",
    "formats",
    "is_image_folder",
    "known_extensions",
    "open_any",
    "open_source",
    "public_header",
    "writer_for",
]

# messages for known formats that no driver reads yet
_FOREIGN = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\xd0\xcf\x11\xe0", "an OLE2 document (Olympus OIB, Zeiss ZVI)"),
    (b"<?xml", "an XML text"),
    (b"<html", "an HTML page"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"WKW", "part of a WEBKNOSSOS data set: open its folder"),
)


@cache
def formats() -> Mapping[str, Format]:
    """Return all installed formats by the name of their driver, those of this package first; without `bridges`.

    A driver that fails to import is left out, with a warning that gives the reason.
    """
    return {name: f for name, f in _installed().items() if not f.bridge}


@cache
def bridges() -> Mapping[str, Format]:
    """Return the formats whose files are read by plug-ins of other packages, by the name of their driver."""
    return {name: f for name, f in _installed().items() if f.bridge}


def _installed() -> Mapping[str, Format]:
    found: dict[str, Format] = {}
    for point in sorted(_candidates(), key=lambda p: (not p.value.startswith("intake_img."), p.name)):
        try:
            cls = point.load()
        except Exception as exc:
            warn(f"the driver {point.name!r} ({point.value}) does not import: {exc}")
            continue
        if inspect.isclass(cls) and issubclass(cls, FormatSource):
            found.setdefault(point.name, cls.format)
    return found


def _candidates() -> list[importlib.metadata.EntryPoint]:
    """Entry points of drivers, without packages that do not depend on ours, since they are slow to import."""
    points = []
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.value.startswith(("intake_img.catalog.", "intake_img.collections.")):  # of many files or images
            continue
        if point.value.startswith("intake_img.") or _may_be_ours(point):
            points.append(point)
    return points


def _may_be_ours(point: importlib.metadata.EntryPoint) -> bool:
    """Return whether a distribution depends on this package, or does not state its dependencies."""
    needs = (point.dist.requires if point.dist else None) or []
    return not needs or any(re.match(r"intake[-_.]img\b", n, re.I) for n in needs)


def known_extensions(folders: bool = False) -> frozenset[str]:
    """Return the extensions of all formats, or of formats whose images are folders."""
    return frozenset(e for f in formats().values() for e in f.extensions if f.folder or not folders)


def is_image_folder(file: File) -> bool:
    """Return whether a folder is itself an image, such as a Zarr store."""
    probe = Probe(file, b"", True)
    named = _known().named(file.name)  # checked first, since on a server each check is a request
    asked = sorted((f for f in formats().values() if f.folder or f.series), key=lambda f: f is not named)
    return any(f.claims(probe) for f in asked)


def check_replaced(target: File) -> None:
    """Raise an error if `target` is a folder of other data, which ``overwrite=True`` does not mean.

    Folders with the extension of an image, empty folders, and folders that are an image may be replaced.

    Raises
    ------
    CannotWriteError
        If it is none of them.
    """
    named = _known().named(target.name)
    if (named is not None and (named.folder or not target.local)) or not target.is_folder():
        return
    if (names := sorted(names_in(target))) and not is_image_folder(target):
        raise CannotWriteError(
            f"{target} is a folder that is not an image ({', '.join(names[:3])}{', ...' * (len(names) > 3)}), so that "
            "overwrite=True does not replace it: choose another name, or remove it first"
        )


def public_header(header: Mapping[str, Any], driver: str) -> dict[str, Any]:
    """Return the public part of a header.

    Parameters
    ----------
    header : mapping
    driver : str
        The name of the driver that read the image. For many files, or if it is unknown, the rules of all formats are
        applied.
    """
    found = formats().get(driver)
    if found is not None:
        return found.public_header(header)
    return public(header, "|".join(f"(?:{f.private})" for f in formats().values() if f.private))


def find_format(file: File, folder: bool | None = None) -> Format:
    """Return the format of an existing file, by its magic bytes, else by its extension.

    Parameters
    ----------
    file : File
    folder : bool, optional
        Whether it is a folder, if that is known: on a server the question is a request.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnknownFormatError
        If no format matches; the message shows the first bytes, the installed formats and how to install more.
    """
    probe = _probe(file, folder)
    by_name = _known().named(file.name)
    if claiming := _surest(probe, by_name):
        chosen = by_extension(file.name, claiming) or next(iter(claiming.values()))
        if by_name is not None and chosen is not by_name and by_name.magic and not by_name.claims(probe):
            warn(f"{file} is named like {by_name.title}, but its bytes are {chosen.title}: opened as that")
        return chosen
    # a remote store without its metadata may be in the process of replacement: see `resolve`
    if by_name is not None and by_name.folder == probe.folder and (file.local or resolve(file) == file):
        return by_name
    if not probe.folder and (bridge := next((f for f in bridges().values() if f.reads_name(file.name)), None)):
        return bridge
    raise UnknownFormatError(_unknown(probe))


def _surest(probe: Probe, named: Format | None) -> dict[str, Format]:
    """Return the formats with the most specific claim to the bytes; none if no format claims them.

    If the format of the name is certain, it is the only one: it would be chosen whatever the others claim.
    """
    own = int(named.claims(probe)) if named is not None else 0
    if named is not None and own and (probe.folder or own >= CERTAIN):
        return {named.name: named}  # each further check of a folder is a request, or a file access
    asked = formats() if probe.folder else _known().starting(probe.head)
    claims = {name: own if f is named else int(f.claims(probe)) for name, f in asked.items()}
    most = max(claims.values(), default=0)
    return {name: asked[name] for name, claim in claims.items() if claim == most > 0}


_KNOWN: list[Candidates] = []


def _known() -> Candidates:
    """Return the tables of all formats."""
    table = formats()
    found = next(iter(_KNOWN), None)
    if found is None or found.table is not table:
        found = Candidates(table)
        _KNOWN[:] = [found]
    return found


def _probe(file: File, folder: bool | None) -> Probe:
    if folder is None and file.local:  # opening it tells
        with contextlib.suppress(OSError):
            return Probe(file, file.head(), False)
    if file.is_folder() if folder is None else folder:
        return Probe(file, b"", True)
    try:
        return Probe(file, file.head(), False)
    except (FileNotFoundError, PermissionError) as exc:
        # a prefix of a store without listing, or with 403 for missing objects, may still be a Zarr group
        named = _known().named(file.name)
        may_be_folder = named is None or named.folder  # checking the contents of a folder is one request per format
        if not file.local and may_be_folder and is_image_folder(file):
            return Probe(file, b"", True)
        if isinstance(exc, PermissionError):
            raise
        raise FileNotFoundError(f"there is no file or folder {file}") from None


def _unknown(probe: Probe) -> str:
    if probe.folder:
        met = "is a folder that contains no Zarr group or other known format"
    elif not probe.head:
        met = "is empty"
    else:
        seen = next(
            (what for magic, what in _FOREIGN if probe.head.lower().startswith(magic.lower())),
            "no driver recognises it",
        )
        met = f"starts with {probe.head[:16]!r} ({seen})"
    return (
        f"{probe.file} {met}: no driver reads it. Installed drivers: {', '.join(formats())}. "
        "pip install 'intake_img[all]' installs those that need an extra; intake.open_<name>(uri) forces a driver"
    )


def writer_for(file: File) -> Format:
    """Return the format to write to files of this name; OME-Zarr for names without an extension.

    Raises
    ------
    UnknownFormatError
        If no format has the extension.
    CannotWriteError
        If its files are only read.
    """
    able = {n: f for n, f in formats().items() if f.writes}
    if found := by_extension(file.name, able):
        if file.name.lower().endswith(found.only_read):
            raise CannotWriteError(f"{file}: files of this kind are only read; save as {_endings({'': found})}")
        return found
    if readers := _known().named(file.name):
        raise CannotWriteError(f"{file}: {readers.title} is only read, not written; written are {_endings(able)}")
    if "." not in file.name.lstrip(".") and "omezarr" in able:
        return able["omezarr"]
    raise UnknownFormatError(f"{file}: no driver writes {file.name!r}; written are {_endings(able)}")


def _endings(table: Mapping[str, Format]) -> str:
    return ", ".join(sorted({e for f in table.values() for e in f.extensions if e not in f.only_read}))


def open_source(format: Format, uri: Any, **options: Any) -> FormatSource:
    """Return a format's source; unknown options are a `TypeError` that lists the known ones."""
    check_options(format.source, options)
    return format.source(uri, **options)


def check_options(cls: type[ImageSource], options: Mapping[str, Any]) -> None:
    """Raise a `TypeError` that lists the options of a source if a given option is unknown."""
    known = [f.name for f in fields(cls.Options)]
    if unknown := [o for o in options if o not in known]:
        raise TypeError(
            f"the driver {cls.name!r} ({cls.title}) has no option {unknown[0]!r}; it has {', '.join(known)}"
        )


def autodetect(uri: Uri | File, **options: Unpack[SourceOptions]) -> FormatSource:
    """Return the source for a path or URL, of the driver chosen by its bytes and name.

    Parameters
    ----------
    uri : str, os.PathLike
        Path or URL. ``file.czi@0`` is scene 0 (number or name) of ``file.czi``, unless a file has exactly this name.
    **options
        Options of the driver, e.g. ``scene``, ``chunks``, ``metadata``, ``storage_options``.

    Returns
    -------
    ImageSource

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    UnknownFormatError
        If no driver reads it; the message shows the first bytes, the installed drivers, and the extra to install.
    """
    return _detected(File.given(uri, options), options, None)


def _detected(given: File, options: Mapping[str, Any], folder: bool | None) -> FormatSource:
    """Return the source of a file; `folder` is whether it is a folder, if that is known."""
    file = resolve(given) if given.local else given
    at = re.fullmatch(r"(.+)@([^@/\\]+)", file.path)
    if at and not file.exists():
        base = file.at(at[1])
        if base.exists():
            if options.get("scene") is not None:
                raise ValueError(
                    f"{file} names the scene {at[2]!r}, and scene={options['scene']!r} was given too: give one"
                )
            return open_source(find_format(base), base, **{**options, "scene": at[2]})
    try:
        found = find_format(file, folder if file == given else None)
    except (FileNotFoundError, UnknownFormatError):
        staged = file if file.local else resolve(file)  # avoids a useless request
        if staged == file:
            raise
        file, found = staged, find_format(staged)
    return open_source(found, file, **options)


def open_any(uri: Any, **options: Any) -> ImageSource:
    """Return the source for any argument of `imload`: also a list, a folder, a pattern, or a partitioned image."""
    above = importlib.import_module("intake_img.collections.sequence")  # a higher layer
    if isinstance(uri, (list, tuple)):
        return above.of_list(uri, options)
    file = File.given(uri, options)
    if _is_folder_on_web(file):
        return _detected(file, options, True)
    if not file.exists():
        return above.of_absent(file, options) or _detected(file, options, None)
    if not file.is_folder():
        return above.of_index(file, options) or _detected(file, options, False)
    try:
        return _detected(file, options, True)
    except UnknownFormatError as exc:
        if file.local and resolve(file) != file:
            raise
        return above.of_folder(file, options, exc)


def _is_folder_on_web(file: File) -> bool:
    """Return whether a web server has the metadata of the image of which this is the name of a folder.

    Asked first, since most servers report nothing about folders.
    """
    named = _known().named(file.name) if file.web else None
    if named is None or not named.folder or file.name.lower().endswith(named.archives):
        return False
    return bool(named.claims(Probe(file, b"", True)))


class ImgSource(ImageSource):
    """Image of any format: the driver is chosen when the source is first used."""

    name = "img"
    title = "image of any format"
    uri_doc = (
        "str, os.PathLike, or list of these",
        "Path or URL of a file; a list, a folder, a pattern (``d/f_{t}.tif``) or the name of parts, as for `imload`.",
    )
    Options = joined(NoOptions, "ImgOptions", scene=True, level=True, docs={})
    further_options = ("driver_options", "Further options of the driver that is found.")

    def __init__(self, uri: Any, **options: Any) -> None:
        listed = isinstance(uri, (list, tuple))
        if listed and not uri:
            raise ValueError("expected a path, a URL or a list of these, got an empty list")
        self._list = [File.given(u, options) for u in uri] if listed else None
        super().__init__(self._list[0] if self._list else uri, **options)
        self._found: ImageSource | None = None

    def arguments(self) -> dict[str, Any]:
        given = super().arguments()
        return {**given, "uri": [f.path for f in self._list]} if self._list else given

    def _place(self) -> Any:
        return [f if f.jail is not None else f.path for f in self._list] if self._list else super()._place()

    @property
    def found(self) -> ImageSource:
        """The source of the chosen driver."""
        if self._found is None:
            options: dict[str, Any] = {
                "chunks": self.chunks,
                "output_axis_order": self.output_axis_order,
                "metadata": self.metadata,
                "storage_options": self.storage_options,
                **self.more_options,
            }
            if self.scene is not None:  # not all drivers have these
                options["scene"] = self.scene
            if self.level:
                options["level"] = self.level
            self._found = open_any(self._list or self.file, **options)
        return self._found

    def stamp(self) -> tuple[Any, ...]:
        return self.found.stamp()

    def _images(self) -> tuple[Image, Image]:
        return self.found._images()

    def name_of_driver(self) -> str:  # type: ignore[override]
        return self.found.name_of_driver()

    def _close(self) -> None:
        if self._found is not None:
            self._found.close()
        self._found = None
        super()._close()
