"""Restrictions on opening files: only regular files and, for a catalog, only files below its roots.

Every local file is opened by `open_regular`, so that a named pipe or a device cannot block the process. A `Jail`
belongs to an `intake_img.storage.files.File`: all further files that a driver opens (files of a set, companions,
metadata, chunks) are checked against its roots too, after symbolic links are resolved.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from intake_img.errors import CatalogError, FormatError

__all__ = ["CACHES", "METADATA_BYTES", "Jail", "check_regular", "open_regular", "special", "split_cache"]

METADATA_BYTES = 2**28
"""The largest size of a metadata file (OME-XML, JSON, an index)."""
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
CACHES = ("simplecache", "filecache", "blockcache")
"""File systems of fsspec that keep what they read of others on the disk."""
_CACHED = re.compile(rf"({'|'.join(CACHES)})::(?=[A-Za-z][A-Za-z0-9+.\-]*://)")
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Jail:
    """The files and URLs that may be opened.

    Parameters
    ----------
    roots : tuple of str
        Local folders, as real paths, and URL prefixes.
    schemes : frozenset of str
        Schemes of which all URLs may be opened, e.g. ``{"https"}``.
    storage_options : mapping
        Options of the file systems of URLs, from the caller, never from the catalog.
    """

    roots: tuple[str, ...]
    schemes: frozenset[str] = frozenset()
    storage_options: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    def check(self, path: str, above: bool = False, folder: Callable[[str], str] | None = None) -> None:
        """Raise an error for a local path or a URL that is not allowed.

        Parameters
        ----------
        path : str
        above : bool
            Whether the folders above the roots are allowed too, since a search descends through them.
        folder : callable, optional
            Returns the real path of a folder. A cached function is fast for many files; use it only for a first check,
            not for the check before a file is opened.

        Raises
        ------
        CatalogError
            If it is not allowed; the message gives the reason.
        """
        if re.match(r"[A-Za-z][A-Za-z0-9+.\-]+(?:://|::)", path):
            self._check_url(path)
        else:
            self._check_local(path, above, folder or _real_folder)

    def _check_local(self, path: str, above: bool, folder: Callable[[str], str]) -> None:
        within, name = os.path.split(path)
        real = os.path.join(folder(within), name)
        mode = _mode(real)
        if stat.S_ISLNK(mode) or name in ("", ".", ".."):
            real, mode = os.path.realpath(real), 0
        if not (self.below(real) or (above and any(_below(root, real) for root in self.roots))):
            led = f" (it leads to {real})" if real != path else ""
            raise CatalogError(
                f"{path}{led} lies outside of {self._described()}; paths begin with {{{{ CATALOG_DIR }}}}, or add its "
                f"folder to roots= ({os.path.dirname(real)!r})"
            )
        if not stat.S_ISREG(mode):
            check_regular(real)

    def below(self, real: str) -> bool:
        """True for the real path of a local file below one of the roots."""
        return any(_below(real, root) for root in self.roots)

    def _check_url(self, url: str) -> None:
        cache, url = split_cache(url)
        scheme, _, rest = url.partition("://")
        if cache and scheme.lower() in ("file", "local"):
            raise CatalogError(f"{cache}::{url[:120]}: files of this machine need no cache: leave out {cache}::")
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


_RESOLVED: dict[str, tuple[int, int, str]] = {}
_MOST_RESOLVED = 1024


def _real_folder(path: str) -> str:
    """Return the real path of a folder: links are resolved again only if the folder was replaced."""
    try:
        now = os.stat(path)
    except (OSError, ValueError):
        return os.path.realpath(path)
    known = _RESOLVED.get(path)
    if known is not None and known[:2] == (now.st_dev, now.st_ino) and now.st_ino:
        return known[2]
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except OSError:
        return real
    if (found.st_dev, found.st_ino) != (now.st_dev, now.st_ino):  # it is being replaced
        return real
    if len(_RESOLVED) >= _MOST_RESOLVED:
        _RESOLVED.clear()
    _RESOLVED[path] = now.st_dev, now.st_ino, real
    return real


def split_cache(url: str) -> tuple[str, str]:
    """Return the name of the cache of fsspec before a URL, "" if there is none, and the URL.

    Examples
    --------
    >>> split_cache("simplecache::https://example.org/a.tif")
    ('simplecache', 'https://example.org/a.tif')
    """
    found = _CACHED.match(url)
    return (found[1], url[found.end() :]) if found else ("", url)


def _below(path: str, root: str, separator: str = os.sep) -> bool:
    return path == root or path.startswith(root.rstrip(separator) + separator)


def _mode(path: str) -> int:
    """Return the mode of a file, or of a link itself; 0 if it does not exist."""
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):
        return 0


def check_regular(path: str) -> int | None:
    """Return the size of a regular file; None for a folder, and if it does not exist.

    Raises
    ------
    FormatError
        If it is a named pipe, a socket or a device.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None  # opening it raises the error
    if stat.S_ISREG(found.st_mode):
        return found.st_size
    if not stat.S_ISDIR(found.st_mode):
        raise _not_regular(path, found.st_mode)
    return None


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Return a descriptor of a regular file, open for reading, and its status.

    Raises
    ------
    FormatError
        If it is a named pipe, a socket or a device: reading it may never end.
    IsADirectoryError, FileNotFoundError, PermissionError, OSError
        As from ``os.open``.
    """
    check_regular(path)  # opening a device can have side effects
    descriptor = os.open(path, _FLAGS)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, os.strerror(21), path)
    raise _not_regular(path, status.st_mode)


def special(mode: int) -> str:
    """Return the kind of a file that is neither regular nor a folder."""
    return next((name for test, name in _KINDS if test(mode)), "something else")


def _not_regular(path: str, mode: int) -> FormatError:
    return FormatError(f"{path} is neither a file nor a folder but {special(mode)}: only regular files are opened")
