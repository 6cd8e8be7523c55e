"""The folders of a server that a scan looks into; see `intake_img.catalog.places` for those of this machine.

Each folder is listed once; a folder that is an image, such as a Zarr store, is not looked into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from intake_img.catalog.places import FOLDERS, ScannedFolder, Stamp, is_excluded
from intake_img.catalog.unused import Unused
from intake_img.collections.file_names import natural_sorted
from intake_img.formats.foreign import unsupported
from intake_img.formats.registry import is_image_folder, known_extensions
from intake_img.storage.files import File
from intake_img.storage.journal import COMMITS, current_names
from intake_img.storage.remote import retried

__all__ = ["places_on_server"]

_STORES = {"zarr.json", ".zgroup", ".zarray", ".zattrs"}
_TIMES = ("ETag", "etag", "mtime", "LastModified", "last_modified", "created")


def places_on_server(root: File, recursive: bool, exclude: Sequence[str], unused: Unused) -> Iterator[ScannedFolder]:
    """Look into the folders of a tree on a server, as `intake_img.catalog.places.places_in` does.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    tree = _Tree(root, exclude, unused)
    waiting = [root.path.rstrip("/")]
    tree.listed(waiting[0], needed=True)
    while waiting:
        at = waiting.pop(0)
        place, below = tree.place(at)
        yield place
        if recursive:
            waiting += below


class _Tree:
    def __init__(self, root: File, exclude: Sequence[str], unused: Unused) -> None:
        self.root, self.exclude, self.unused = root, is_excluded(exclude), unused
        self.known = tuple(known_extensions())
        self.folders = tuple(known_extensions(folders=True))
        self._listed: dict[str, dict[str, Mapping[str, Any]]] = {}

    def listed(self, at: str, needed: bool = False) -> dict[str, Mapping[str, Any]]:
        """Return what the server knows of each entry of a folder."""
        if at in self._listed:
            return self._listed[at]
        fs, path = self.root.at(at).filesystem()
        found: dict[str, Mapping[str, Any]] = {}
        try:
            for info in retried(at, lambda: fs.ls(path, detail=True)):
                place = str(info["name"]).rstrip("/")
                above, _, name = place.rpartition("/")
                if name and "?" not in name and above.endswith(path.rstrip("/").lstrip("/")):
                    found[name] = info
        except OSError as exc:
            if needed:
                raise
            self.unused.skipped[at] = exc.strerror or str(exc)
        self._listed[at] = found
        return found

    def place(self, at: str) -> tuple[ScannedFolder, list[str]]:
        entries = self.listed(at)
        if COMMITS in entries:
            current = current_names(self.root.at(at), list(entries))
            entries = {n: entries[n] for n in current if n in entries}
        names, below = [], []
        stamps: dict[str, Stamp] = {}
        for name in natural_sorted(entries):
            path = f"{at}/{name}"
            if self._excluded(path):
                continue
            folder = entries[name].get("type") == "directory"
            stamps[name] = FOLDERS[0] if folder else _stamp(entries[name])
            if name.startswith("."):
                continue
            if folder and not self._is_image(path, name):
                below.append(path)
            elif folder or self._named(path, name):
                names.append(name)
        return ScannedFolder(at, tuple(names), frozenset(stamps), stamps), below

    def _excluded(self, path: str) -> bool:
        relative = path[len(self.root.path.rstrip("/")) + 1 :]
        return self.exclude(relative)

    def _is_image(self, path: str, name: str) -> bool:
        """Whether a folder is an image: the server is asked for more only where its name or its files say so."""
        if not name.lower().endswith(self.folders) and not _STORES & set(self.listed(path)):
            return False
        return is_image_folder(self.root.at(path))

    def _named(self, path: str, name: str) -> bool:
        """Whether the name of a file may be that of an image; note why not."""
        if (what := unsupported(name, self.known)) is not None:
            self.unused.skipped[path] = f"{what}: no driver reads it"
        if name.lower().endswith(self.known) or "." not in name:
            return True
        if what is None:
            self.unused.other(path)
        return False


def _stamp(info: Mapping[str, Any]) -> Stamp:
    """Return the time or tag and the size of a file; nothing if the server does not report when it was changed."""
    times = [str(info[k]) for k in _TIMES if info.get(k) is not None]
    return (*times, str(info.get("size"))) if times else ()
