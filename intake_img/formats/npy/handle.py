"""The arrays of an open ``.npy`` or ``.npz`` file."""

from __future__ import annotations

import io
import json
import threading
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Handle, RawArray, StoredArray
from intake_img.formats.npy.header import HEADER_LIMIT, ArrayPlace, read_header
from intake_img.model.axes import default_axes
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.storage.files import ByteReader, File
from intake_img.storage.inflated import Inflated
from intake_img.storage.limits import record_of_stream

__all__ = ["RECORD", "NpyHandle"]

RECORD = "intake_img.json"
"""The member of an archive that contains what arrays cannot say."""

_VERIFIED = 2**26  # larger members are read without a look at their checksum


class _Stored(RawArray):
    """An array in a ``.npy`` file or an uncompressed member of an archive."""

    def __init__(self, handle: NpyHandle, name: str, place: ArrayPlace) -> None:
        super().__init__(handle.source, place.offset, place.dtype, place.shape)
        self.verify = partial(handle.verify, name)

    def read_into(self, region: Region, out: np.ndarray) -> None:
        self.verify(out.shape == self.shape)
        super().read_into(region, out)

    def mapped(self) -> np.ndarray | None:
        self.verify(True)
        return super().mapped()


class _Deflated(RawArray):
    """A compressed member of an archive."""

    decodes = True


class NpyHandle(Handle):
    def __init__(self, file: File) -> None:
        self.source: ByteReader = file.open()
        self.record: Any = None
        self._sums: dict[str, tuple[int, int, int]] = {}  # of stored members not yet verified: place, size, checksum
        self._members: dict[str, Inflated] = {}  # that are compressed
        self._lock = threading.Lock()
        if self.source.ranges([0], [min(4, self.source.size)])[0] == b"PK\x03\x04":
            self.arrays = self._archive()
            return
        stop = min(self.source.size, HEADER_LIMIT)
        self.arrays = {"image": read_header(io.BytesIO(self.source.ranges([0], [stop])[0]))}
        self._check_size(self.arrays["image"], self.source.size)

    def _archive(self) -> dict[str, ArrayPlace]:
        arrays = {}
        with self.source.stream() as stream, zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise FormatError(
                        f"{self.source.file}: {info.filename} is compressed by method {info.compress_type} of zip; "
                        "NumPy knows stored (0) and deflate (8)"
                    )
                if info.filename == RECORD:
                    self.record = self._read_record(archive, info)
                    continue
                if not info.filename.endswith(".npy"):
                    continue
                with archive.open(info) as member:
                    array = read_header(io.BytesIO(member.read(HEADER_LIMIT)))
                start = info.header_offset + self._local_header(info.header_offset)
                stored = info.compress_type == zipfile.ZIP_STORED
                if array.offset + array.nbytes != info.file_size:
                    raise FormatError(f"{self.source.file}: the size of {info.filename} is not that of its array")
                place = start + array.offset if stored else array.offset
                name = info.filename.removesuffix(".npy")
                if stored:
                    self._sums[name] = (start, info.file_size, info.CRC)
                else:
                    self._members[name] = Inflated(
                        self.source, "deflate", start, info.compress_size, size=info.file_size, checksum=info.CRC
                    )
                arrays[name] = ArrayPlace(array.dtype, array.shape, array.transposed, place)
        if not arrays:
            raise FormatError(f"{self.source.file}: the archive contains no array (.npy member)")
        return arrays

    def _read_record(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
        with archive.open(info) as stream:
            return json.loads(record_of_stream(stream, info.compress_size, f"{self.source.file}: {info.filename}"))

    def verify(self, name: str, whole: bool) -> None:
        """Compare a stored member with its checksum, once, before it is read for the first time.

        Members of more than 64 MiB are not verified, and of remote ones only those that are read as a whole: what is
        asked for would be a small part of what is fetched.

        Parameters
        ----------
        name : str
        whole : bool
            Whether all of the member is wanted.
        """
        with self._lock:
            start, size, expected = self._sums.get(name, (0, _VERIFIED + 1, 0))
            if size > _VERIFIED or not (whole or self.source.file.local):
                return
            with self.source.window(start, size) as view:
                found = zlib.crc32(view)
            if found != expected:
                raise FormatError(
                    f"{self.source.file}: the checksum of {name}.npy is {found:#010x}, the archive says "
                    f"{expected:#010x}: the file is damaged"
                )
            del self._sums[name]

    def _local_header(self, offset: int) -> int:
        """Length of the header before a member's data: 30 bytes, and a name and extra field of their own lengths."""
        fixed = self.source.ranges([offset], [30])[0]
        return 30 + int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little")

    def _check_size(self, array: ArrayPlace, size: int) -> None:
        need = array.offset + array.nbytes
        if need > size:
            raise FormatError(
                f"{self.source.file}: the header states an array of shape {array.shape} and dtype {array.dtype}, "
                f"{need} bytes, but the file has {size}: it is truncated or damaged"
            )

    @cached_property
    def scenes(self) -> list[list[str]]:
        """Names of the arrays of each image: all are variables of one, or each is one if their lengths contradict."""
        lengths: dict[str, int] = {}
        for place in self.arrays.values() if self.record is None else ():
            shape = place.shape[::-1] if place.transposed else place.shape
            for axis, length in zip(default_axes(len(shape)), shape, strict=True):
                if lengths.setdefault(axis, length) != length:
                    return [[name] for name in self.arrays]
        return [list(self.arrays)]

    @property
    def scene_names(self) -> Sequence[str]:
        return [names[0] for names in self.scenes] if len(self.scenes) > 1 else super().scene_names

    def describe(self, scene: int | str, level: int) -> Image:
        variables = {}
        for name in self.scenes[int(scene)]:
            pixels = self.pixels(name)
            if self.arrays[name].transposed:
                pixels = pixels.transpose(range(pixels.ndim)[::-1])
            variables[name] = Variable(pixels, default_axes(pixels.ndim))
        if len(variables) == 1:
            variables = {"image": next(iter(variables.values()))}
        header = {"arrays": {n: {"dtype": a.dtype.str, "shape": a.shape} for n, a in self.arrays.items()}}
        return Image(variables, header=header).restored(self.record)

    def array(self, address: str) -> StoredArray:
        place = self.arrays[address]
        if address in self._members:
            return _Deflated(self._members[address], place.offset, place.dtype, place.shape)
        return _Stored(self, address, place)

    def close(self) -> None:
        self.source.close()
