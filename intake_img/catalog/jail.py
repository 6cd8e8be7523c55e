"""Restriction of the files that an untrusted catalog may name: each file gets the jail of the catalog."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from intake_img.errors import CatalogError, FormatError
from intake_img.storage.files import File
from intake_img.storage.jail import Jail, split_cache

__all__ = ["admit", "jail_of"]


def jail_of(roots: Iterable[Any], schemes: Iterable[str], storage_options: Mapping[str, Any] | None) -> Jail:
    """Return the jail of folders and URLs given by users."""
    if isinstance(roots, (str, os.PathLike)):
        roots = [roots]
    if isinstance(schemes, str):
        schemes = [schemes]
    files = [File.parse(r) for r in roots]
    return Jail(
        tuple(os.path.realpath(f.path) if f.local else f.path.rstrip("/") for f in files),
        frozenset(s.lower().removesuffix("://") for s in schemes),
        dict(storage_options or {}),
    )


def admit(jail: Jail, uri: str, pattern: bool = False, folder: Callable[[str], str] = os.path.realpath) -> File:
    """Return the file that a URI names, if it may be opened. It keeps the jail, like all files derived from it.

    Parameters
    ----------
    jail : Jail
    uri : str
    pattern : bool
        Whether ``{field}``, ``*``, ``?`` and ``[...]`` in it are patterns; matching files are checked when they are
        found and opened.
    folder : callable
        Returns the real path of a folder; see `Jail.check`.

    Raises
    ------
    CatalogError
        If it may not be opened; the message gives the reason.
    """
    if not isinstance(uri, str) or not uri or "\0" in uri:
        raise CatalogError(f"{str(uri)[:80]!r} is not a path or URL")
    if uri.startswith("~"):
        raise CatalogError(f"{uri[:80]!r}: home folders are not expanded in untrusted catalogs")
    if re.match(r"[A-Za-z][\w+.\-]*::", split_cache(uri)[1]):
        raise CatalogError(f"{uri[:120]}: chained URLs are refused")
    file = File.parse(uri, jail.storage_options)
    try:
        jail.check(_before_fields(file.path) if pattern and file.local else file.path, folder=folder)
    except FormatError as exc:
        raise CatalogError(str(exc)) from None
    return File(file.path, file.storage_options, jail)


def _before_fields(pattern: str) -> str:
    """Return the folder before the first field or wildcard of a pattern; the complete pattern if it has none."""
    parts, at = [], 0
    while piece := re.compile(r"\{\{|\}\}|\[[^\]/]\]|[^{}*?\[]").match(pattern, at):
        parts.append(piece[0][len(piece[0]) // 2])  # the quoted character
        at = piece.end()
    literal = "".join(parts)
    return literal if at == len(pattern) else os.path.dirname(literal) or "/"
