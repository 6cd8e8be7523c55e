"""The files of an acquisition: streams of an OIB file, or files of the folder ``<name>.oif.files``."""

from __future__ import annotations

from intake_img.errors import FormatError
from intake_img.formats.oif.compound import Compound
from intake_img.formats.oif.fluoview import parse_settings
from intake_img.storage.files import ByteReader, File

__all__ = ["FolderStore", "StreamStore"]

_LIMIT = 2**24  # bytes of settings


class StreamStore:
    """The files in an OIB file; ``OibInfo.txt`` says which stream is which."""

    def __init__(self, source: ByteReader) -> None:
        self.compound = Compound(source)
        self.cut = self.compound.cut
        if "OibInfo.txt" not in self.compound:
            raise FormatError(f"{source.file} is a compound file, but no OIB: it contains no OibInfo.txt")
        info = parse_settings(self.compound.read("OibInfo.txt")).get("OibSaveInfo", {})
        places = {path.rpartition("/")[2]: path for path in self.compound.streams}
        self.members = {_name(v): places[k] for k, v in info.items() if k.startswith("Stream") and k in places}
        main = info.get("MainFileName", "")
        if main not in places:
            raise FormatError(
                f"{source.file}: the stream {main!r} of its main settings is missing: it is truncated or damaged"
            )
        self.main = parse_settings(self.compound.read(places[main]))

    @property
    def names(self) -> list[str]:
        return list(self.members)

    def read(self, name: str) -> bytes:
        return self.compound.read(self.members[name])


class FolderStore:
    """The files beside an OIF file."""

    cut = False

    def __init__(self, file: File, source: ByteReader) -> None:
        file.check_size(source.size, _LIMIT)
        self.main = parse_settings(source.ranges([0], [source.size])[0])
        self.folder = file.sibling(f"{file.name}.files")
        if not self.folder.is_folder():
            raise FormatError(f"{file}: its pixels are in the folder {self.folder.name} beside it, which is missing")
        filesystem, path = self.folder.filesystem()
        self.names = [_name(name) for name in filesystem.ls(path, detail=False)]

    def read(self, name: str) -> bytes:
        return (self.folder / name).read(None)


def _name(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
