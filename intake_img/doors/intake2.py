"""Intake 2: one reader, registered for the datatypes of Intake and for those that the table of formats adds.

Intake registers a reader when its class is defined. After ``import intake_img``, ``intake.auto_pipeline(url,
"xarray")``, ``intake.datatypes.recommend`` and version-2 catalogs know all installed formats, also those of other
packages; after a bare ``import intake`` they do not. This module imports only Intake's light modules: the table of
formats is read when Intake first needs datatypes.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ClassVar

from intake.readers import datatypes, readers, utils
from intake.readers.datatypes import FileData
from intake.readers.readers import FileReader

from intake_img.storage.locks import ProcessLock

if TYPE_CHECKING:
    from intake_img.formats.base import Format

__all__ = ["ImageTableFile", "ImageTableReader", "ImgReader", "datatypes_of_formats"]

_STRUCTURE = {"array", "image"}
_MIMETYPES = {"imageio": r"image/(gif|bmp|webp|x-portable-\w+)|video/(mp4|quicktime|x-msvideo|avi)"}
_SURE = 4  # bytes that identify a format; fewer are left to the name, and to `imload`, which looks closer
_GENERAL = {datatypes.HDF5, datatypes.NetCDF3}  # of any content: other readers go first
_LOCK = ProcessLock()


def datatypes_of_formats() -> Mapping[str, type[FileData]]:
    """Return a datatype for each installed format that Intake does not know, by the name of its driver.

    Extensions and first bytes that a datatype of Intake recognises are left to that datatype; a format without any
    other has no datatype here. Formats of other packages are included. `ImgReader` reads all of these, and Intake's
    own datatypes.
    """
    with _LOCK:
        return _made()


@cache
def _made() -> Mapping[str, type[FileData]]:
    from intake_img.formats.registry import formats

    known = [c for c in vars(datatypes).values() if _is_file(c) and c.__module__ == datatypes.__name__]
    made, taken = {}, set()
    for name, format in formats().items():
        by_extension = {e: [c for c in known if _names(c, e)] for e in format.extensions if e not in taken}
        bytes_of = {m: [c for c in known if _tells(c, *m)] for m in format.magic}
        ImgReader.implements.update(*by_extension.values(), *bytes_of.values())
        taken |= set(by_extension)
        endings = [e for e, found in by_extension.items() if not found]
        magic = {m for m, found in bytes_of.items() if not found and len(m[1]) >= _SURE}
        if endings or magic:
            bases = {c for found in bytes_of.values() for c in found}
            made[name] = _datatype(format, endings, magic, bases.pop() if len(bases) == 1 else FileData)
    ImgReader.implements.update(made.values())
    return made


def _is_file(kind: Any) -> bool:
    """Whether a datatype is a file of which `ImgReader` understands all properties besides its URL."""
    if not (isinstance(kind, type) and issubclass(kind, FileData) and kind is not FileData):
        return False
    return set(inspect.signature(kind).parameters) <= {"url", "storage_options", "metadata", "root", "path"}


def _names(kind: type[FileData], extension: str) -> bool:
    """Whether a datatype is recognised by an extension, as a whole or by its last part."""
    found = re.search(kind.filepattern, f"x{extension}") if kind.filepattern else None
    return found is not None and f"x{extension}"[: found.start()].endswith(".")


def _tells(kind: type[FileData], offset: int, magic: bytes) -> bool:
    pairs = [m if isinstance(m, tuple) else (0, m) for m in kind.magic]
    return any(at == offset and magic.startswith(start) for at, start in pairs)


def _datatype(format: Format, endings: Sequence[str], magic: set[Any], base: type[FileData]) -> type[FileData]:
    """Make the datatype of a format. Its pattern names the end of a name, because Intake searches anywhere in it."""
    pattern = "|".join(map(re.escape, sorted(endings)))
    about = {
        "__doc__": f"{format.title[0].upper()}{format.title[1:]}.",
        "__module__": __name__,
        "filepattern": rf"({pattern})$" if endings else "",
        "magic": magic,
        "mimetypes": _MIMETYPES.get(format.name, ""),
        "structure": _STRUCTURE,
        "contains": {rf"({pattern})/[^/]+/?$"} if format.folder and endings else set(),
    }
    return type(f"{format.name}_file", (base,), about)


def __getattr__(name: str) -> type[FileData]:
    """Return a datatype by its name, which catalogs of version 2 hold."""
    found = {} if name.startswith("_") else datatypes_of_formats()
    driver = name.removesuffix("_file")
    if driver not in found or driver == name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: no installed format has this datatype")
    return found[driver]


class ImgReader(FileReader):
    """Reads an image of any format as an `xarray.Dataset`; see `intake_img.imload` for the options.

    ``axes``, ``spacing``, ``spacing_units`` and ``coords`` in the metadata of the entry overrule the file.
    """

    implements: ClassVar[set[type]] = set()  # filled by `datatypes_of_formats`
    imports: ClassVar[set[str]] = {"intake_img", "xarray"}
    output_instance = "xarray:Dataset"
    func = "intake_img:imload"
    url_arg = "uri"
    storage_options = True

    def discover(self, **kwargs: Any) -> Any:
        """Return the Dataset without reading pixels."""
        return self.read(metadata_only=True, **kwargs)

    def _read(self, data: Any, **options: Any) -> Any:
        from intake_img.formats.source import OVERRIDES

        url = data.url[0] if isinstance(data.url, (list, tuple)) and len(data.url) == 1 else data.url
        if root := getattr(data, "root", ""):
            url = f"{url.rstrip('/')}/{root}"
        overrides = {k: v for k, v in self.metadata.items() if k in OVERRIDES}
        if path := getattr(data, "path", ""):  # of the array in an HDF5 file
            options.setdefault("scene", path)
        if data.storage_options:
            options.setdefault("storage_options", data.storage_options)
        return self._func(url, metadata=overrides or None, **options)


class ImageTableFile(FileData):
    """A table of images, in Parquet or SQLite; Intake does not guess it, for other tables look the same."""

    filepattern = ""
    structure: ClassVar[set[str]] = {"catalog"}


class ImageTableReader(FileReader):
    """Reads a table of images as an `intake_img.catalog.ImageTable`; see `intake_img.open_table` for the options."""

    implements: ClassVar[set[type]] = {ImageTableFile}
    imports: ClassVar[set[str]] = {"intake_img"}
    output_instance = "intake_img.catalog:ImageTable"
    func = "intake_img:open_table"
    url_arg = "path"
    storage_options = True

    def discover(self, **kwargs: Any) -> Any:
        """Return the table; rows are read when they are asked for."""
        return self.read(**kwargs)


def _ours_first(recommend: Callable[[Any], dict[str, list[type]]]) -> Callable[[Any], dict[str, list[type]]]:
    """Give the order of readers that yield equal things a rule: Intake takes it from a set, by chance.

    Ours go first, but for containers of anything, `_GENERAL`.
    """

    @wraps(recommend)
    def ordered(data: Any) -> dict[str, list[type]]:
        found = recommend(data)
        kind = data if isinstance(data, type) else type(data)
        for listed in found.values():
            if ImgReader in listed:
                rivals = [k for k, r in enumerate(listed) if r.output_instance == ImgReader.output_instance]  # type: ignore[attr-defined]
                listed.remove(ImgReader)
                listed.insert(rivals[-1 if kind in _GENERAL else 0], ImgReader)
        return found

    ordered.ours_first = True  # type: ignore[attr-defined]
    return ordered


def _completed(subclasses: Callable[[type], set[type]]) -> Callable[[type], set[type]]:
    """Make the datatypes of formats when Intake first asks which datatypes or readers there are."""

    @wraps(subclasses)
    def completed(cls: type) -> set[type]:
        if cls in (datatypes.BaseData, FileData, readers.BaseReader):
            datatypes_of_formats()
        return subclasses(cls)

    completed.ours_too = True  # type: ignore[attr-defined]
    return completed


def _register() -> None:
    """Hang the rule and the datatypes on Intake's own functions, which its modules contain by name."""
    if not hasattr(readers.recommend, "ours_first"):
        readers.recommend = _ours_first(readers.recommend)
    if not hasattr(utils.subclasses, "ours_too"):
        plain, completed = utils.subclasses, _completed(utils.subclasses)
        for name, module in list(sys.modules.items()):
            if name.startswith("intake.readers.") and getattr(module, "subclasses", None) is plain:
                module.subclasses = completed  # type: ignore[attr-defined]
    if "intake.readers.convert" in sys.modules:  # cached before our registration
        sys.modules["intake.readers.convert"].path.cache_clear()


_register()
