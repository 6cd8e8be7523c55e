"""An open Zarr store: its groups, arrays and attributes, each read once until its metadata change."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from intake_img.errors import FormatError, SourceChangedError
from intake_img.formats.base import Handle
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.chunk_files import ChunkFiles
from intake_img.formats.omezarr.documents import node_of
from intake_img.formats.omezarr.growth import Growth, growth_of
from intake_img.formats.omezarr.layout import chunk_files
from intake_img.formats.omezarr.plain_arrays import check_array, with_found_separator
from intake_img.formats.omezarr.stamps import MetadataStamps, document_digest
from intake_img.formats.omezarr.store import is_zip, open_store, read_member
from intake_img.formats.omezarr.write import OURS, join
from intake_img.storage.files import File

__all__ = ["StoreHandle"]


class StoreHandle(Handle):
    """An open store; groups and arrays are opened once, when they are asked for."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.store, self.prefix = open_store(file)
        self._root = os.path.realpath(file.path) if file.local and not is_zip(file) else None
        self._nodes: dict[str, Any] = {}
        self._checked: dict[str, Any] = {}  # arrays that passed `check_array`
        self._attributes: dict[str, dict[str, Any]] = {}
        self._chunk_files: dict[str, ChunkFiles | None] = {}
        self._journal = MetadataStamps(self._root)
        self._remembered: dict[str, Any] = {}
        self._described = False
        self._stamps: dict[str, Hashable] = {}  # of the arrays that are open
        self._grown: tuple[Hashable, Growth] | None = None
        self.zarr_format = 3
        try:
            if self._lacks_zarr_json():
                self.zarr_format = 2
            elif self.node("") is None:
                self.zarr_format = 2
                self._nodes.clear()
            if self.node("") is None:
                raise FormatError(f"{file} contains no Zarr group or array: there is no zarr.json, .zgroup or .zarray")
        except BaseException:
            self.close()
            raise

    def _lacks_zarr_json(self) -> bool:
        """Whether the store is known to be of an older format; on a web server this was asked before."""
        if self._root is not None:
            return self._journal.look("zarr.json") is None
        return self.file.web and not is_zip(self.file) and not (self.file / "zarr.json").exists()

    @property
    def in_folder(self) -> bool:
        """Whether the store is a local folder."""
        return self._root is not None

    def close(self) -> None:
        self._nodes.clear()
        # a local zip file that was never read has nothing to close
        if hasattr(self.store, "_lock") or not (self.file.local and is_zip(self.file)):
            self.store.close()

    def renew(self) -> None:
        """Forget metadata that were changed since they were read; called before an image is described.

        Of remote stores all metadata are read again: asking whether they changed takes as many requests.
        """
        if self._described and (self._journal.changed() if self._root is not None else not is_zip(self.file)):
            for kept in (self._nodes, self._attributes, self._chunk_files, self._stamps, self._remembered):
                kept.clear()
            self._journal.clear()
        self._described = True

    def array_stamp(self, path: str) -> Hashable:
        """Return what changes when the metadata of the array at `path` are written again.

        Times, sizes and inodes of local files, as they are now; a hash of the metadata that were read of others.
        """
        if self._root is not None:
            return tuple(self._journal.stat(join(path, name)) for name in self._names(array=True))
        return document_digest(self.zarr_array(path))

    def opened_stamp(self, path: str) -> Hashable:
        """Return the stamp that the array at `path` had when it was opened, or before it first grew."""
        self.zarr_array(path)
        now = self._stamps[path] if self._root is not None else self.array_stamp(path)
        return growth_of(self.attributes("").get(OURS)).arrays.get(path, now)

    def unchanged_array(self, path: str, stamp: Hashable) -> Any:
        """Return the array at `path` if it is the one that had this stamp, else raise `SourceChangedError`."""
        now = self.array_stamp(path)
        if now != stamp and self.growth().arrays.get(path) != stamp:
            raise SourceChangedError(f"{self.file}: the array {path!r} was changed since it was opened: load it again")
        if self._root is not None and self._stamps.get(path) != now:
            self._nodes.pop(path, None)
            self._chunk_files.pop(path, None)
        return self.zarr_array(path)

    def growth(self) -> Growth:
        """Return how the store has grown, as its root states now (of remote stores, when it was read)."""
        if self._root is None:
            return growth_of(self.attributes("").get(OURS))
        name = "zarr.json" if self.zarr_format == 3 else ".zattrs"
        now = self._journal.stat(name)
        if self._grown is None or self._grown[0] != now:
            self._grown = now, growth_of(self._read_attributes("").get(OURS))
        return self._grown[1]

    def _names(self, array: bool = False) -> tuple[str, ...]:
        if self.zarr_format == 3:
            return ("zarr.json",)
        return (".zarray", ".zattrs") if array else (".zarray", ".zgroup", ".zattrs")

    def node(self, path: str, array: bool = False) -> Any:
        """Return the group or array at `path`, None if there is none; `array` says which is expected."""
        if path not in self._nodes:
            self._inside(path)
            if self._root is not None:
                self._stamps[path] = self.array_stamp(path)  # before it is read
            self._nodes[path] = self._open(path, array)
        return self._nodes[path]

    def holds(self, path: str) -> bool:
        """Return whether there is a group or array at `path`."""
        self._inside(path)
        if self._root is None:
            return self.node(path) is not None
        return any(self._journal.look(join(path, name)) is not None for name in self._names())

    def _open(self, path: str, array: bool) -> Any:
        import zarr
        from zarr import errors

        from intake_img.formats.omezarr.codecs import opening

        if self._root is not None:
            found = [self._journal.look(join(path, name)) for name in self._names()]
            if not any(found):
                return None
            if self.zarr_format == 3 and (node := self._of_document(path)) is not None:
                return node
        place: dict[str, Any] = {
            "store": self.store,
            "path": join(self.prefix, path),
            "mode": "r",
            "zarr_format": self.zarr_format,
        }
        for wanted in (array, not array):
            try:
                with opening():
                    if not wanted:
                        return zarr.open_group(**place, use_consolidated=False)
                    return with_found_separator(
                        zarr.open_array(**place), None if self._root is None else os.path.join(self._root, path)
                    )
            except (errors.ContainsArrayError, FileNotFoundError):
                continue
            except AssertionError:  # older zarr says so that there is an array in place of a group
                if wanted or self.zarr_format != 3:
                    raise
        return None

    def _of_document(self, path: str) -> Any:
        """Return the node of a sound ``zarr.json`` in a local folder, and keep its attributes; None for others."""
        from intake_img.formats.omezarr.codecs import opening

        try:
            document = json.loads(self.store.document(join(path, "zarr.json")))
        except (OSError, ValueError, FormatError):
            return None
        with opening():
            node = node_of(self.store, path, document)
        attributes = document.get("attributes", {}) if node is not None else None
        if isinstance(attributes, dict):
            self._attributes.setdefault(path, attributes)
        return node

    def _file(self, *parts: str) -> File:
        """Return a file or folder of a local store."""
        return self.file.at(os.path.join(self._root or "", *filter(None, parts)))

    def _inside(self, path: str) -> None:
        if self._root is None or not path:
            return
        real = os.path.realpath(os.path.join(self._root, path))
        if os.path.commonpath([real, self._root]) != self._root:
            raise FormatError(f"{self.file}: {path!r} is a link that leads out of the store: refused")

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of the node at `path`; none if there is no such node."""
        if path not in self._attributes:
            self._inside(path)
            self._attributes[path] = self._read_attributes(path)
        return self._attributes[path]

    def _read_attributes(self, path: str) -> dict[str, Any]:
        if self._root is None:
            node = self.node(path)
            return {} if node is None else dict(node.attrs)
        name = "zarr.json" if self.zarr_format == 3 else ".zattrs"
        if self._journal.look(join(path, name)) is None:
            return {}
        try:
            content = json.loads(self._file(path, name).read())  # at a fifth of zarr's time
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return {}
        attributes = content.get("attributes", {}) if name == "zarr.json" and isinstance(content, dict) else content
        if not isinstance(attributes, dict):
            raise FormatError(f"{self.file}: the attributes of {path or 'the root'!r} are not a JSON object: damaged")
        return attributes

    def ome(self, path: str) -> Mapping[str, Any]:
        return ngff.ome_of(self.attributes(path))

    def zarr_array(self, path: str) -> Any:
        """Return the array at `path`, of numbers, or raise `FormatError`."""
        node = self.node(path, array=True)
        if node is None or not hasattr(node, "dtype"):
            what = "is a group" if node is not None else "is missing"
            raise FormatError(f"{self.file}: the array {path!r}, which the metadata name, {what}")
        if self._checked.get(path) is not node:
            check_array(node, f"{self.file}: {path!r}")
            self._checked[path] = node
        return node

    def chunk_files(self, path: str) -> ChunkFiles | None:
        """Return the chunks of the array at `path` as files, None if only zarr can read them."""
        if path not in self._chunk_files:
            folder = None if self._root is None else self._file(path)
            self._chunk_files[path] = None if folder is None else chunk_files(self.zarr_array(path), folder)
        return self._chunk_files[path]

    def members(self, path: str) -> dict[str, Any]:
        """Return the groups and arrays right inside the group at `path`; none where the store cannot be listed."""
        if self._root is not None:
            self._journal.look(path)
            with os.scandir(os.path.join(self._root, path)) as entries:
                names = sorted(e.name for e in entries if os.path.isdir(e.path) and not e.name.startswith("."))
            found = {name: self.node(join(path, name)) for name in names}
            return {name: node for name, node in found.items() if node is not None}
        from intake_img.formats.omezarr.codecs import opening

        try:
            with opening():
                found = dict(sorted(self.node(path).members()))
        except (NotImplementedError, FileNotFoundError):
            return {}
        self._nodes.update({join(path, name): node for name, node in found.items()})
        return found

    def text(self, path: str) -> bytes | None:
        """Return a file of the store, None if there is none."""
        if is_zip(self.file):
            return read_member(self.file, join(self.prefix, path))
        self._inside(path)
        if self._root is not None and self._journal.look(path) is None:
            return None
        file = self.file
        for part in path.split("/"):
            file = file / part
        try:
            return file.read()
        except FileNotFoundError:
            return None

    def remembered(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what `make` returned when it was called for `key`, until metadata change."""
        if key not in self._remembered:
            self._remembered[key] = make()
        return self._remembered[key]
