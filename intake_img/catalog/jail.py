"""Which files and URLs a catalog of strangers may name: those below given roots, and those of allowed schemes.

Paths are compared after all symbolic links are resolved. Nothing is opened to find out.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from intake_img.errors import CatalogError
from intake_img.storage.files import File

__all__ = ["Jail"]


@dataclass(frozen=True)
class Jail:
    """The files and URLs that may be opened.

    Parameters
    ----------
    roots : tuple of str
        Local folders, by their real paths, and beginnings of URLs.
    schemes : frozenset of str
        Schemes of URLs that may be opened wherever they point, e.g. ``{"https"}``.
    storage_options : mapping
        Options of the file systems of URLs: those of the caller, never of the catalog.
    """

    roots: tuple[str, ...]
    schemes: frozenset[str] = frozenset()
    storage_options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, roots: Iterable[Any], schemes: Iterable[str], storage_options: Mapping[str, Any] | None) -> Jail:
        """Return the jail of folders and URLs as people write them."""
        if isinstance(roots, (str, os.PathLike)):
            roots = [roots]
        if isinstance(schemes, str):
            schemes = [schemes]
        files = [File.parse(r) for r in roots]
        return cls(
            tuple(os.path.realpath(f.path) if f.local else f.path.rstrip("/") for f in files),
            frozenset(s.lower().removesuffix("://") for s in schemes),
            dict(storage_options or {}),
        )

    def admit(self, uri: str, pattern: bool = False) -> File:
        """Return the file that a URI names, if it may be opened.

        Parameters
        ----------
        uri : str
        pattern : bool
            Whether ``{field}``, ``*``, ``?`` and ``[...]`` in it stand for others; the files that fit are for
            `admit_files`.

        Raises
        ------
        CatalogError
            If it may not; the message says why.
        """
        if not isinstance(uri, str) or not uri or "\0" in uri:
            raise CatalogError(f"{str(uri)[:80]!r} is no path or URL")
        if uri.startswith("~"):
            raise CatalogError(f"{uri[:80]!r}: home folders are not looked up for catalogs of others")
        if re.match(r"[A-Za-z][\w+.\-]*::", uri):
            raise CatalogError(f"{uri[:120]}: chained URLs are refused")
        file = File.parse(uri, self.storage_options)
        if file.local:
            self.admit_real(_before_fields(file.path) if pattern else file.path)
        else:
            self._admit_url(file.path)
        return file

    def admit_real(self, path: str) -> None:
        """Refuse a local path that lies outside the roots, or is neither file nor folder."""
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not any(_below(real, root) for root in self.roots):
            led = f" (it leads to {real})" if real != path else ""
            raise CatalogError(
                f"{path}{led} lies outside of {self._described()}; paths begin with {{{{ CATALOG_DIR }}}}, or add its "
                "folder to roots="
            )
        try:
            mode = os.stat(real).st_mode
        except OSError:
            return  # opening it will say so
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise CatalogError(f"{path} is neither a file nor a folder")

    def admit_tree(self, path: str) -> None:
        """Refuse a local folder in which a symbolic link leads out of the roots."""
        folders = [path]
        while folders:
            below, odd = _contents(folders.pop())
            folders += below
            for inside in odd:
                self.admit_real(inside)

    def admit_files(self, paths: Iterable[str]) -> None:
        """Refuse a list of local files if one of them, or its folder, leads out of the roots."""
        by_folder: dict[str, list[str]] = {}
        for path in paths:
            by_folder.setdefault(os.path.dirname(path), []).append(path)
        for folder, members in by_folder.items():
            self.admit_real(folder)
            below, odd = (set(found) for found in _contents(folder))
            for path in {*members, *(o for o in odd if o.endswith(".json"))}:  # descriptions of flat binary files
                if path in odd:
                    self.admit_real(path)
                elif path in below:
                    self.admit_tree(path)

    def _admit_url(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        if "::" in url or "://" in rest:
            raise CatalogError(f"{url[:120]}: chained URLs are refused")
        plain = unquote(unquote(rest))
        if ".." in re.split(r"[/\\]", plain) or re.search(r"[\0-\x1f]", plain):
            raise CatalogError(f"{url[:120]}: '..' and control characters are refused in URLs")
        if scheme.lower() in self.schemes or any(_below(url, r, "/") for r in self.roots if "://" in r):
            return
        allowed = ", ".join(sorted(self.schemes)) or "none"
        raise CatalogError(
            f"{url[:120]}: the scheme {scheme}:// is not allowed here (allowed: {allowed}), and it is not below "
            f"{self._described()}; add it to schemes=, or its beginning to roots="
        )

    def _described(self) -> str:
        return ", ".join(self.roots) or "any root: none was given"


def _below(path: str, root: str, separator: str = os.sep) -> bool:
    return path == root or path.startswith(root.rstrip(separator) + separator)


def _before_fields(pattern: str) -> str:
    """Return the folder before the first field or wildcard of a pattern; all of it, if there are none."""
    parts, at = [], 0
    while piece := re.compile(r"\{\{|\}\}|\[[^\]/]\]|[^{}*?\[]").match(pattern, at):
        parts.append(piece[0][len(piece[0]) // 2])  # the character that is quoted
        at = piece.end()
    literal = "".join(parts)
    return literal if at == len(pattern) else os.path.dirname(literal) or "/"


def _contents(folder: str) -> tuple[list[str], list[str]]:
    """Return the folders in a folder, and what is neither folder nor file: symbolic links, pipes, devices."""
    folders, odd = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    odd.append(entry.path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return folders, odd
