"""The images named on a command line: files, scenes, patterns, folders, entries of catalogs, a list on stdin."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from intake_img.doors.cli.failures import FAULTS, UsageError, code_of, complain, message_of, usage_of
from intake_img.errors import IntakeImgError, SceneError
from intake_img.model.text import escaped, json_text

if TYPE_CHECKING:
    from intake_img.formats.source import ImageSource

__all__ = ["NamedImage", "for_each", "items", "levels"]

_CATALOG = re.compile(r"(.+\.ya?ml)(?:@([^/\\]+))?", re.I | re.S)
_TABLE = re.compile(r"(?!.*://).+\.(?:parquet|sqlite)", re.I | re.S)
_MAX_LEVELS = 32


@dataclass(frozen=True)
class NamedImage:
    """An image that the command line names.

    Parameters
    ----------
    name : str
        The user's name of the image.
    place : str
        The path of its result below the target folder, without extension.
    open : callable
        Returns its source.
    """

    name: str
    place: str
    open: Callable[[], ImageSource] = field(repr=False)


def for_each(found: Sequence[NamedImage], show: Callable[[NamedImage], None], arguments: argparse.Namespace) -> int:
    """Call a function for all images; failures are reported, and the other images are processed.

    Parameters
    ----------
    found : sequence of NamedImage
    show : callable
    arguments : argparse.Namespace
        With ``json``, failures among several images are reported as lines of JSON, too.

    Returns
    -------
    int
        The exit code.
    """
    code = 0
    for item in found:
        try:
            with usage_of(arguments):
                show(item)
        except BrokenPipeError:
            raise
        except FAULTS as exc:
            code = max(code, complain(message_of(exc), code_of(exc)))
            if getattr(arguments, "json", False) and len(found) > 1:
                print(json_text({"uri": item.name, "error": message_of(exc)}, indent=None))
    return code


def items(arguments: argparse.Namespace, each: bool) -> list[NamedImage]:
    """Return the images named by the positional arguments.

    Parameters
    ----------
    arguments : argparse.Namespace
    each : bool
        Whether a folder, or a pattern without fields, means its images one by one; else it is one image, as in
        `imload`.
    """
    found = [item for text in _named(arguments.sources) for item in _items(text, arguments, each)]
    if not found:
        raise UsageError("no image was named: the standard input is empty")
    return found


def _named(texts: list[str]) -> Iterator[str]:
    for text in texts:
        if text != "-":
            yield text
            continue
        given = sys.stdin.read()
        yield from filter(None, given.split("\0") if "\0" in given else given.splitlines())


def _items(text: str, arguments: argparse.Namespace, each: bool) -> list[NamedImage]:
    if catalog := _CATALOG.fullmatch(text):
        return _entries(catalog[1], catalog[2], arguments)
    if _TABLE.fullmatch(text):
        return [_table(text, arguments)]
    if each and (paths := _inside(text, arguments)) is not None:
        if not paths:
            raise FileNotFoundError(f"there is no image in {text}, of the formats that 'intake-img formats' lists")
        base = _base(text)
        return [_item(path, arguments, os.path.relpath(path, base) if "://" not in path else None) for path in paths]
    return [_item(text, arguments)]


def _item(text: str, arguments: argparse.Namespace, place: str | None = None) -> NamedImage:
    return NamedImage(text, _stem(place or re.split(r"[/\\]", text.rstrip("/\\"))[-1]), lambda: _open(text, arguments))


def _stem(path: str) -> str:
    """Return a relative path without the extension of an image; a scene is kept in the name."""
    from intake_img.collections.file_names import split_extension

    folder, _, name = path.replace(os.sep, "/").rpartition("/")
    name, at, scene = name.partition("@")
    stem = split_extension(name, _extensions())[0] + at + scene
    return f"{folder}/" * bool(folder) + (re.sub(r"[^\w.,;=@+() -]+", "_", stem).lstrip(".") or "image")


def _extensions() -> frozenset[str]:
    from intake_img.formats.registry import known_extensions

    return known_extensions()


def _open(uri: str, arguments: argparse.Namespace) -> ImageSource:
    """Return the source, with the options of the command line."""
    from intake_img.formats.registry import open_any

    options = {
        "scene": arguments.scene,
        "level": arguments.level or None,
        "storage_options": dict(arguments.storage_option) or None,
    }
    try:
        return open_any(uri, **{k: v for k, v in options.items() if v is not None})
    except (TypeError, ValueError) as exc:
        if isinstance(exc, IntakeImgError):
            raise
        raise UsageError(exc) from exc


# folders and patterns


def _inside(text: str, arguments: argparse.Namespace) -> list[str] | None:
    """Return the images in a folder or of a pattern without fields; None if it is one image."""
    from intake_img.collections.listing import find_images, find_matches
    from intake_img.errors import UnknownFormatError
    from intake_img.formats.registry import find_format, known_extensions
    from intake_img.storage.files import File

    file = File.parse(text, dict(arguments.storage_option))
    if file.exists():
        if not file.is_folder():
            return None
        try:
            find_format(file)
        except UnknownFormatError:
            return find_images(file, _extensions(), sorted(known_extensions(folders=True)))
        return None
    if re.search(r"[*?\[]", text) and "{" not in text:
        return list(find_matches(file)[1].paths)
    return None


def _base(text: str) -> str:
    """Return the local absolute folder that contains the images of a folder or pattern."""
    path = os.path.abspath(os.path.expanduser(text))
    fixed = re.split(r"[*?\[]", path, maxsplit=1)[0]
    return path if fixed == path else os.path.dirname(fixed + "x")


# entries of catalogs


def _entries(path: str, name: str | None, arguments: argparse.Namespace) -> list[NamedImage]:
    from intake_img.catalog import open_catalog
    from intake_img.catalog.entries import NESTED

    catalog = open_catalog(
        path, roots=arguments.root, schemes=arguments.scheme, storage_options=dict(arguments.storage_option) or None
    )
    if name is not None:
        return [_entry(f"{path}@{name}", name, lambda: _resolved(catalog, name), arguments)]
    found = {n: e for n, e in catalog.walk().items() if e.driver != NESTED}
    return [_entry(f"{path}@{n}", n, e, arguments) for n, e in found.items()]


def _entry(shown: str, name: str, make: Callable[[], Any], arguments: argparse.Namespace) -> NamedImage:
    def opened() -> Any:
        from intake_img.formats.source import ImageSource

        source = make()
        if not isinstance(source, ImageSource):
            raise UsageError(f"{shown} is a catalog, not an image: name an entry of it")
        options = {"scene": arguments.scene, "level": arguments.level or None}
        given = {k: v for k, v in options.items() if v is not None}
        try:
            return source.renewed(**given) if given else source
        except TypeError as exc:
            raise UsageError(exc) from exc

    return NamedImage(shown, re.sub(r"[^\w.,;=@+() -]+", "_", name).lstrip(".") or "image", opened)


def _resolved(catalog: Any, name: str) -> Any:
    try:
        return catalog[name]
    except KeyError as exc:
        raise UsageError(escaped(exc.args[0])) from exc


def _table(path: str, arguments: argparse.Namespace) -> NamedImage:
    """Return a table of images, which is a plate."""

    def opened() -> ImageSource:
        from intake_img.catalog import open_table
        from intake_img.collections.plates.plate import plate

        table = open_table(path, roots=arguments.root or (), schemes=arguments.scheme or ())
        options = {"scene": arguments.scene, "level": arguments.level or None}
        try:
            return plate(table, **{k: v for k, v in options.items() if v is not None}).source
        except (TypeError, ValueError) as exc:
            if isinstance(exc, IntakeImgError):
                raise
            raise UsageError(exc) from exc

    return NamedImage(path, _stem(re.split(r"[/\\]", path)[-1]), opened)


# levels of a pyramid


def levels(source: ImageSource, chunks: Any = "auto") -> Iterator[tuple[ImageSource, Any]]:
    """Yield the source and the unread Dataset of each further level of a pyramid."""
    import inspect

    if "level" not in inspect.signature(type(source)).parameters or vars(source).get("level"):
        return
    for number in range(1, _MAX_LEVELS):
        try:
            one = source.renewed(level=number)
            ds = one.dataset(chunks=chunks)
        except (SceneError, KeyError):  # the level does not exist
            return
        yield one, ds
