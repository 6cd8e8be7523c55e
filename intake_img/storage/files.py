"""Files, folders and objects named by a path or URL.

`intake_img.storage.byte_readers` reads the bytes of local files, `intake_img.storage.remote` those of remote files.
"""

from __future__ import annotations

import copy
import math
import os
import re
import reprlib
import stat
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

from intake_img.errors import FormatError, MissingExtraError
from intake_img.storage.byte_readers import ByteReader, LocalBytes, noted
from intake_img.storage.jail import METADATA_BYTES, Jail, check_regular, open_regular, split_cache
from intake_img.storage.redirects import checked_options
from intake_img.storage.remote import RemoteBytes, first_bytes, retried

__all__ = ["ByteReader", "File"]

_CACHES = r"(?:simplecache|filecache|blockcache|cached)::"  # fsspec chains that begin without "://"
_SCHEME = re.compile(rf"^(?:{_CACHES}|[A-Za-z][A-Za-z0-9+.\-]+://)")
_BLOCKS = "intake_img_blocks"  # in storage_options, so that all files derived from one are cached like it
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "created")
_INFO_SECONDS = 5  # how long the last check of a remote file is valid
_MOST_KNOWN = 64  # files in a folder on a web server of which the last check is remembered
_EXTRAS = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "http": ("aiohttp", "http"), "https": ("aiohttp", "http")}


@dataclass(frozen=True)
class File:
    """A file, folder or object named by a path or URL.

    Parameters
    ----------
    path : str
        An absolute local path, or a URL that fsspec supports.
    storage_options : mapping
        Options of the fsspec file system; empty for local paths.
    jail : Jail, optional
        Restricts what a catalog may open. Files derived from this one (`sibling`, `parent`, `at`, ``/``) keep it, and
        every access to the bytes checks it.
    """

    path: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    jail: Jail | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, uri: object, storage_options: Mapping[str, Any] | None = None) -> File:
        """Return the file that `uri` names.

        Parameters
        ----------
        uri : str, os.PathLike or File
            A local path (any characters; ``~`` is expanded; relative paths are resolved now, so that a later ``chdir``
            does not matter), a ``file://`` URL (percent-decoded as in RFC 8089), or another URL, also a chain
            (``simplecache::https://...``, ``zip://a.tif::s3://...``), which fsspec opens.
        storage_options : mapping, optional
            Options of the fsspec file system.
        """
        if isinstance(uri, File):
            return uri
        if not isinstance(uri, (str, os.PathLike)):
            raise TypeError(f"expected a path or URL, got {reprlib.repr(uri)} of type {type(uri).__name__}")
        text = os.fspath(uri)
        if isinstance(text, bytes):
            text = os.fsdecode(text)
        if not text:
            raise ValueError("expected a path or URL, got an empty string")
        if isinstance(uri, str) and _SCHEME.match(text):
            if not text.lower().startswith(("file://", "local://")):
                return cls(_single_slashes(text), dict(storage_options or {}))
            text = _path_of_file_url(text)
        return cls(os.path.abspath(os.path.expanduser(text)))

    @classmethod
    def given(cls, uri: object, options: Mapping[str, Any]) -> File:
        """Return the file that `uri` names, with the options ``storage_options`` and ``cache`` of its source.

        Raises
        ------
        ValueError
            If `cache` is given for a local file, or for a URL that names a cache of fsspec.
        """
        file, folder = cls.parse(uri, options.get("storage_options")), options.get("cache")
        if folder is None or file.storage_options.get(_BLOCKS):
            return file
        if not isinstance(folder, (str, os.PathLike)):
            raise TypeError(f"cache={folder!r}: expected the path of a folder")
        if file.local or _SCHEME.match(file.path)[0].endswith("::"):  # type: ignore[index]
            raise ValueError(f"cache={os.fspath(folder)!r} is for files on servers by their plain URL, not for {file}")
        kept = os.path.abspath(os.path.expanduser(os.fspath(folder)))
        return cls(file.path, {**file.storage_options, _BLOCKS: kept}, file.jail)

    @property
    def block_folder(self) -> str | None:
        """The folder in which blocks of this file are kept, None if they are not."""
        folder: str | None = self.storage_options.get(_BLOCKS)
        return folder

    @cached_property
    def local(self) -> bool:
        return _SCHEME.match(self.path) is None

    @cached_property
    def name(self) -> str:
        """Last component of the path, without the query of a URL; its extension is used to choose the format."""
        if self.local:
            return os.path.basename(self.path)
        path = _link(self.path)[1]
        if path.startswith(("http://", "https://")):
            path = unquote(urlsplit(path).path)
        return path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def identity(self) -> str:
        """Identity of the file: the real path of a local file, the URL of a remote one."""
        return os.path.realpath(self.path) if self.local else self.path

    def __str__(self) -> str:
        return self.path

    def sibling(self, name: str) -> File:
        """Return the file `name` in the same folder."""
        return self.parent / name

    @property
    def parent(self) -> File:
        if self.local:
            return self.at(os.path.dirname(self.path))
        before, own, behind = _link(self.path)
        scheme, root, path = own.rpartition("://")
        return self.at(before + scheme + root + path.rstrip("/").rpartition("/")[0] + behind)

    def __truediv__(self, name: str) -> File:
        if self.local:
            return self.at(os.path.join(self.path, name))
        known: dict[str, File] = self.__dict__.setdefault("_inside", {}) if self.web else {}
        if name not in known:
            before, own, behind = _link(self.path)
            folder = own if own.endswith("://") else f"{own.rstrip('/')}/"
            found = self.at(f"{before}{folder}{name}{behind}")
            if len(known) == _MOST_KNOWN:
                known.clear()
            known[name] = found  # with what the server stated about it
        return known[name]

    def within(self, *parts: str) -> File:
        """Return the file at a path below this folder, with slashes; empty components are ignored."""
        path = "/".join(p for p in parts if p)
        return self / path if path else self

    def at(self, path: str) -> File:
        """Return the file at another path or URL, with the same options and in the same jail."""
        return File(path, self.storage_options, self.jail)

    def check(self, most: int | None = None, above: bool = False) -> None:
        """Raise an error if the file must not be opened. Call this before passing a path to a library that opens it.

        Parameters
        ----------
        most : int, optional
            The largest size in bytes; checked only for local files.
        above : bool
            Whether it is a folder to search in, which may lie above the roots of the jail.

        Raises
        ------
        CatalogError
            If the jail does not allow it.
        FormatError
            If it is a pipe, socket or device, or too large.
        """
        if self.jail is not None:
            self.jail.check(self.path, above)
        if self.local:
            size = check_regular(self.path)
            if most is not None and size is not None:
                self.check_size(size, most)

    def descriptor(self) -> int:
        """Return a descriptor of this local file, open for reading, after all checks."""
        if self.jail is not None:
            self.jail.check(self.path)
        return open_regular(self.path)[0]

    def opened(self, name: str) -> tuple[int, os.stat_result]:
        """Return the same for a file in this local folder, and its status."""
        path = f"{self.path}/{name}"
        if self.jail is not None:
            self.jail.check(path)
        return open_regular(path)

    def check_size(self, nbytes: int, most: int, member: str = "") -> None:
        """Raise `FormatError` if this file, or a file in this archive, has more than `most` bytes."""
        if nbytes > most:
            place = f"{self}: {member}" if member else f"{self}"
            raise FormatError(f"{place} has {nbytes} bytes: metadata of more than {most / 2**20:.4g} MiB are not read")

    @property
    def fsspec_options(self) -> dict[str, Any]:
        """Options for the fsspec file system; they include the check of redirects against the jail."""
        options = {k: v for k, v in self.storage_options.items() if k != _BLOCKS}
        return checked_options(self.path, options, None if self.local else self.jail)

    def filesystem(self) -> tuple[Any, str]:
        """Return the fsspec file system and the path on it.

        Raises
        ------
        MissingExtraError
            If the package for the protocol is not installed.
        ValueError
            If fsspec knows no such protocol.
        """
        import fsspec

        if self.local:
            return fsspec.filesystem("file"), self.path
        protocol, url, _ = _link(self.path)[1].partition("://")
        if url and protocol not in {*fsspec.available_protocols(), *fsspec.registry}:
            raise ValueError(
                f"{self.path}: fsspec knows no protocol {protocol!r}; paths and e.g. s3:// and https:// open"
            )
        try:
            return fsspec.core.url_to_fs(self.path, **self.fsspec_options)
        except ImportError as exc:
            package, extra = _EXTRAS.get(protocol) or (_package_of(protocol, exc), None)
            raise MissingExtraError(package, extra, f"opening {protocol}:// URLs") from exc

    def _uncached(self) -> tuple[Any, str]:
        """Return the file system without fsspec's caches on disk, which would list the folder to find files."""
        fs, path = self.filesystem()
        return (fs.fs, path) if split_cache(self.path)[0] else (fs, path)

    def followed(self) -> File:
        """Return the file or folder, existing or not, to which a symbolic link leads; this file if it is none."""
        return self.at(os.path.realpath(self.path)) if self.local and os.path.islink(self.path) else self

    def exists(self) -> bool:
        if self.jail is not None:
            self.jail.check(self.path)
        if self.local:
            return os.path.exists(self.path)
        if self.web:  # fsspec would begin to download it
            try:
                return bool(self.remote_info())
            except (FileNotFoundError, PermissionError):  # S3 without listing permission: 403 for missing keys
                return False
        fs, path = self._uncached()
        return bool(fs.exists(path))

    def is_folder(self) -> bool:
        """True for a directory; for a URL, for a prefix that is not empty."""
        if self.jail is not None:
            self.jail.check(self.path)
        if self.local:
            return os.path.isdir(self.path)
        if self.web:  # fsspec would download a page that could be a listing
            try:
                info = self.remote_info()
            except (FileNotFoundError, PermissionError):
                return False
            if info.get("mimetype") not in (None, "text/html") or (info.get("size") and "mimetype" not in info):
                return False
            if not self.head().lstrip().startswith(b"<"):
                return False
        fs, path = self._uncached()
        return bool(retried(self.path, lambda: fs.isdir(path)))

    @property
    def web(self) -> bool:
        """True for a file on a web server."""
        return self.path.startswith(("http://", "https://"))

    def local_path(self) -> str:
        """Return the local path of this file, for libraries that open files by path.

        Raises
        ------
        FormatError
            If it is remote, and not cached by fsspec's ``simplecache`` or ``filecache``.
        """
        self.check()
        if self.local:
            return self.path
        if not re.match(r"(?:simplecache|filecache)::", self.path):
            raise FormatError(
                f"{self}: the library that reads this format opens local files only: download it, or pass "
                f"'simplecache::{self.path}'"
            )
        import fsspec

        path: str = fsspec.open_local(self.path, **self.fsspec_options)
        return path

    def stamp(self) -> tuple[Any, ...]:
        """Return a stamp that changes when the file is replaced: modification time, size and inode, or an ETag.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        """
        if self.local:
            found = os.stat(self.path)
            return found.st_mtime_ns, found.st_size if not stat.S_ISDIR(found.st_mode) else 0, found.st_ino
        info = self.remote_info()
        keys = (*_VERSIONS, "size")
        return tuple(str(info[k]) for k in keys if info.get(k) is not None)

    def remote_info(self) -> Mapping[str, Any]:
        """Return the file system's information on a remote file, requested at most once in a few seconds.

        A web server is not asked again either for a file that it does not have; other files may be written meanwhile.
        """
        seen = self.__dict__.get("_seen")
        if seen is None or time.monotonic() - seen[0] > _INFO_SECONDS:
            fs, path = self._uncached()
            try:
                seen = time.monotonic(), retried(self.path, lambda: fs.info(path))
            except FileNotFoundError:
                if not self.web:
                    raise
                seen = time.monotonic(), None
            object.__setattr__(self, "_seen", seen)
        if seen[1] is None:
            raise FileNotFoundError(self.path)
        return seen[1]

    def fetched(self, most: int) -> File:
        """Return this remote file together with its content, which a single request brings.

        For files that are read completely, once, soon: what is opened of the result sends no request. A file of more
        than `most` bytes is returned as it is, after `most` bytes of it were fetched unnecessarily.
        """
        self.check()
        if self.block_folder:  # what opens it finds the blocks there, or keeps them
            return self
        content = first_bytes(self, most + 1, ranged=False)
        if len(content) > most:
            return self
        found = self.at(self.path)
        known = {"size": len(content), "etag": f"{zlib.crc32(content):08x}"}
        object.__setattr__(found, "_content", content)
        object.__setattr__(found, "_seen", (math.inf, known))
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> File:
        return File(self.path, copy.deepcopy(self.storage_options, memo) if self.storage_options else {}, self.jail)

    def __getstate__(self) -> dict[str, Any]:
        return {k: self.__dict__[k] for k in ("path", "storage_options", "jail")}

    def head(self, n: int = 512) -> bytes:
        """Return the first `n` bytes, fewer if the file is shorter."""
        if self.local:
            descriptor = self.descriptor()
            try:
                return os.read(descriptor, n)
            finally:
                os.close(descriptor)
        self.check()
        content: bytes | None = self.__dict__.get("_content")
        return self._first_bytes(n) if content is None else content[:n]

    def _first_bytes(self, n: int | None, ranged: bool = True) -> bytes:
        if not self.block_folder:
            return first_bytes(self, n, ranged)
        reader = RemoteBytes(self)
        try:
            return reader.ranges([0], [reader.size if n is None else min(n, reader.size)])[0]
        finally:
            reader.close()

    def open(self) -> ByteReader:
        """Open for reading; see `ByteReader`."""
        if self.local:
            return noted(LocalBytes(self))
        self.check()
        return noted(RemoteBytes(self, self.__dict__.get("_content")))

    def read(self, most: int | None = METADATA_BYTES) -> bytes:
        """Return all bytes of a small file, such as a metadata file.

        Parameters
        ----------
        most : int or None
            The largest allowed size in bytes; None for no limit.

        Raises
        ------
        FormatError
            If the file is larger.
        """
        if self.local:
            with os.fdopen(self.descriptor(), "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                content = b"" if most is not None and size > most else stream.read(size + 1)
                if len(content) > size:  # it is being written, or its size is unknown
                    content += stream.read(-1 if most is None else max(0, most + 1 - len(content)))
        else:
            self.check()
            content = self._first_bytes(None if most is None else most + 1, ranged=False)
            size = 0
        size = max(size, len(content))
        if most is not None:
            self.check_size(size, most)
        return content


def _link(url: str) -> tuple[str, str, str]:
    """Split a URL chain at the link that names the file: ``zip://a.tif`` of ``simplecache::zip://a.tif::s3://b``."""
    links = url.split("::")
    k = next((k for k, link in enumerate(links) if "://" in link), len(links) - 1)
    return "".join(f"{link}::" for link in links[:k]), links[k], "".join(f"::{link}" for link in links[k + 1 :])


def _single_slashes(url: str) -> str:
    # a catalog's '{{ CATALOG_DIR }}/a.tif' gives 'memory://dir//a.tif'; in object stores '//' would be another key
    head, sep, tail = url.rpartition("://")
    query = re.search(r"[?#]", tail) if head.rsplit("::", 1)[-1] in ("http", "https") else None
    cut = query.start() if query else len(tail)
    return head + sep + re.sub(r"(?<=.)/{2,}", "/", tail[:cut]) + tail[cut:]


def _path_of_file_url(url: str) -> str:
    rest = url.split("://", 1)[1]
    if not rest.startswith("/") and "/" in rest and rest.split("/", 1)[0] in ("localhost", "127.0.0.1"):
        rest = rest[rest.index("/") :]
    path = unquote(rest)
    return path[1:] if os.name == "nt" and re.match(r"/[A-Za-z]:", path) else path


def _package_of(protocol: str, failure: ImportError) -> str:
    """Return the distribution that a protocol of fsspec needs."""
    from fsspec.registry import known_implementations

    module = str(known_implementations.get(protocol, {}).get("class", "")).partition(".")[0]
    return module if module and module != "fsspec" else str(failure.name or protocol)
