"""NumPy's own files: ``.npy`` (one array) and ``.npz`` (an archive of arrays, which keeps names).

Format: NEP 1, https://numpy.org/neps/nep-0001-npy-format.html. Pickled objects are never loaded.
"""

from __future__ import annotations

import io
import json
import math
import threading
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions, RawArray, StoredArray
from intake_img.formats.compression import codec_of, none_of
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.model.axes import default_axes
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.storage.files import ByteReader, File
from intake_img.storage.inflated import Inflated
from intake_img.storage.limits import record_of_stream
from intake_img.storage.streams import write_planes

__all__ = ["Npy", "NpySource"]

_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_METHODS = {None: _STORED, False: _STORED, True: _DEFLATED, "deflate": _DEFLATED}
_RECORD = "intake_img.json"  # the member of an archive that holds what arrays cannot say
_HEADER_LIMIT = 2**14  # numpy itself refuses headers of more than 10 000 bytes
_VERIFIED = 2**26  # larger members are read without a look at their checksum


@dataclass(frozen=True)
class _Place:
    """Where an array lies: offset of its first value in the file, or in the archive member that must be inflated."""

    dtype: np.dtype
    shape: tuple[int, ...]  # as stored, C order
    transposed: bool  # the file is in Fortran order: the axes are reversed
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class _Stored(RawArray):
    """An array in a ``.npy`` file or an uncompressed member of an archive."""

    def __init__(self, handle: _NpyHandle, name: str, place: _Place) -> None:
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


class _NpyHandle(Handle):
    def __init__(self, file: File) -> None:
        self.source: ByteReader = file.open()
        self.record: Any = None
        self._sums: dict[str, tuple[int, int, int]] = {}  # of stored members not yet verified: place, size, checksum
        self._members: dict[str, Inflated] = {}  # that are compressed
        self._lock = threading.Lock()
        if self.source.ranges([0], [min(4, self.source.size)])[0] == b"PK\x03\x04":
            self.arrays = self._archive()
            return
        stop = min(self.source.size, _HEADER_LIMIT)
        self.arrays = {"image": _header(io.BytesIO(self.source.ranges([0], [stop])[0]), 0)}
        self._check_size(self.arrays["image"], self.source.size)

    def _archive(self) -> dict[str, _Place]:
        arrays = {}
        with self.source.stream() as stream, zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise FormatError(
                        f"{self.source.file}: {info.filename} is compressed by method {info.compress_type} of zip; "
                        "NumPy knows stored (0) and deflate (8)"
                    )
                if info.filename == _RECORD:
                    self.record = self._read_record(archive, info)
                    continue
                if not info.filename.endswith(".npy"):
                    continue
                with archive.open(info) as member:
                    array = _header(io.BytesIO(member.read(_HEADER_LIMIT)), 0)
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
                arrays[name] = _Place(array.dtype, array.shape, array.transposed, place)
        if not arrays:
            raise FormatError(f"{self.source.file}: the archive holds no array (.npy member)")
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

    def _check_size(self, array: _Place, size: int) -> None:
        need = array.offset + array.nbytes
        if need > size:
            raise FormatError(
                f"{self.source.file}: the header states an array of shape {array.shape} and dtype {array.dtype}, "
                f"{need} bytes, but the file has {size}: it is truncated or damaged"
            )

    def describe(self, scene: int | str, level: int) -> Image:
        variables = {}
        for name, place in self.arrays.items():
            pixels = self.pixels(name)
            if place.transposed:
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


_PARSING = (
    threading.Lock()
)  # until Python 3.12, `ast` fails where two threads parse (github.com/python/cpython/issues/106905)


def _header(stream: Any, base: int) -> _Place:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise FormatError(f"version {version} of the .npy format is unknown")
    with _PARSING:
        shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "biufc" or any(n < 0 for n in shape):
        raise FormatError(f"an array of dtype {dtype} and shape {shape} is not supported: expected numbers")
    return _Place(dtype, tuple(reversed(shape)) if fortran else shape, fortran, base + stream.tell())


class Npy(Format):
    """Image in a ``.npy`` or ``.npz`` file, memory-mapped where it is not compressed.

    The format knows no axes: without ``metadata={"axes": ...}`` an array has the last of the canonical ones (``yx``,
    ``zyx``, ``czyx``, ...).
    """

    name = "npy"
    title = "NumPy .npy/.npz"
    extensions = (".npy", ".npz")
    pixels_only = (".npy",)
    magic = ((0, b"\x93NUMPY"),)
    starts = (b"\x93NUMPY", b"PK\x03\x04")

    def claims(self, probe: Probe) -> int:
        archive = probe.head[:4] == b"PK\x03\x04" and b".npy" in probe.head[:300]
        return 1 if archive else super().claims(probe)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _NpyHandle(file)

    def many_variables(self, name: str) -> bool:
        return not name.lower().endswith(".npy")

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | str | None = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".npz",
    ) -> None:
        """Write ``.npz`` (any image, lossless) or ``.npy`` (one array; axes and coordinates have no place in it).

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. `compress` (zip's deflate) is for ``.npz`` alone.
        name : str
            Name of the target, which tells ``.npy`` from ``.npz``.
        """
        method = codec_of(compress, _METHODS, ".npz")
        if name.lower().endswith(".npy"):
            none_of(compress, ".npy files are not compressed; .npz files are")
            with open(path, "wb") as stream:
                _write_array(stream, image.only.pixels, progress)
            return
        with zipfile.ZipFile(path, "w", method) as archive:
            for key, variable in image.variables.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as stream:
                    _write_array(stream, variable.pixels, progress)
            record = zipfile.ZipInfo(_RECORD)  # without the time, so that equal images are equal files
            archive.writestr(record, json.dumps(image.record()), method)


NpySource = source_of(Npy())


def _write_array(stream: Any, pixels: Pixels, progress: Callable[[int], None] | None) -> None:
    header = {"descr": pixels.dtype.str, "fortran_order": False, "shape": pixels.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    write_planes(stream, pixels, progress)
