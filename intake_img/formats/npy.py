"""NumPy's own files: ``.npy`` (one array) and ``.npz`` (an archive of arrays, which alone of the two keeps names).

Format: NEP 1, https://numpy.org/neps/nep-0001-npy-format.html. Pickled objects are never loaded.
"""

from __future__ import annotations

import io
import json
import math
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.reading import Probe
from intake_img.formats.source import ImageSource
from intake_img.model.axes import CANONICAL, default_axes
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.storage.files import ByteReader, File
from intake_img.storage.limits import record_of_stream
from intake_img.storage.raw import map_raw, read_raw
from intake_img.storage.streams import iter_planes

__all__ = ["NpySource"]

_RECORD = "intake_img.json"  # the member of an archive that holds what arrays cannot say
_HEADER_LIMIT = 2**14  # numpy itself refuses headers of more than 10 000 bytes
_VERIFIED = 2**26  # larger members are read without a look at their checksum


@dataclass(frozen=True)
class _Array:
    """Where an array lies: offset of its first value, or the archive member that must be inflated."""

    dtype: np.dtype
    shape: tuple[int, ...]  # as stored, C order
    transposed: bool  # the file is in Fortran order: the axes are those of `shape` reversed
    offset: int
    member: str | None = None


class _Handle:
    def __init__(self, file: File) -> None:
        self.source: ByteReader = file.open()
        self.record: Any = None
        self._sums: dict[str, tuple[int, int, int]] = {}  # of stored members not yet verified: place, size, checksum
        self._lock = threading.Lock()
        try:
            if self.source.ranges([0], [min(4, self.source.size)])[0] == b"PK\x03\x04":
                self.arrays = self._archive()
            else:
                stop = min(self.source.size, _HEADER_LIMIT)
                self.arrays = {"image": _header(io.BytesIO(self.source.ranges([0], [stop])[0]), 0)}
                self._check_size(self.arrays["image"], self.source.size)
        except BaseException:
            self.source.close()
            raise

    def _archive(self) -> dict[str, _Array]:
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
                if array.offset + math.prod(array.shape) * array.dtype.itemsize != info.file_size:
                    raise FormatError(f"{self.source.file}: the size of {info.filename} is not that of its array")
                place = start + array.offset if stored else array.offset
                name = info.filename.removesuffix(".npy")
                if stored:
                    self._sums[name] = (start, info.file_size, info.CRC)
                arrays[name] = _Array(
                    array.dtype, array.shape, array.transposed, place, None if stored else info.filename
                )
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

    def _check_size(self, array: _Array, size: int) -> None:
        need = array.offset + math.prod(array.shape) * array.dtype.itemsize
        if need > size:
            raise FormatError(
                f"{self.source.file}: the header promises an array of shape {array.shape} and dtype {array.dtype}, "
                f"{need} bytes, but the file has {size}: it is truncated or damaged"
            )

    def inflate(self, member: str) -> np.ndarray:
        with self.source.stream() as stream, zipfile.ZipFile(stream) as archive, archive.open(member) as data:
            return np.lib.format.read_array(data, allow_pickle=False)

    def close(self) -> None:
        self.source.close()


def _header(stream: Any, base: int) -> _Array:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise FormatError(f"version {version} of the .npy format is unknown")
    shape, fortran, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "biufc" or any(n < 0 for n in shape):
        raise FormatError(f"an array of dtype {dtype} and shape {shape} is no image: expected numbers")
    return _Array(dtype, tuple(reversed(shape)) if fortran else shape, fortran, base + stream.tell())


class NpySource(ImageSource):
    """Image in a ``.npy`` or ``.npz`` file, memory-mapped where it is not compressed.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays.
    output_axis_order : str or None
        Order of the axes.
    metadata : mapping, optional
        ``axes``, ``spacing``, ``spacing_units``, ``coords``: the format knows none of them. Without `axes`, an array
        has the last of the canonical ones (``yx``, ``zyx``, ``czyx``, ...).
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name = "npy"
    format_name = "NumPy .npy/.npz"
    extensions = (".npy", ".npz")
    pixels_only = (".npy",)
    magic = ((0, b"\x93NUMPY"),)

    def __init__(
        self,
        uri: Any,
        *,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )

    @classmethod
    def claims(cls, probe: Probe) -> bool:
        return super().claims(probe) or (probe.head[:4] == b"PK\x03\x04" and b".npy" in probe.head[:300])

    @classmethod
    def open(cls, file: File) -> _Handle:
        return _Handle(file)

    def describe_image(self, handle: _Handle, scene: int | str, level: int) -> Image:
        variables = {}
        for name, array in handle.arrays.items():
            pixels = self.pixels(name, array.shape, array.dtype, _tiles(array))
            if array.transposed:
                pixels = pixels.transpose(range(len(array.shape))[::-1])
            variables[name] = Variable(pixels, default_axes(pixels.ndim))
        if len(variables) == 1:
            variables = {"image": next(iter(variables.values()))}
        header = {"arrays": {n: {"dtype": a.dtype.str, "shape": a.shape} for n, a in handle.arrays.items()}}
        return Image(variables, header=header).restored(handle.record)

    @classmethod
    def read_region(cls, handle: _Handle, address: str, region: Region, out: np.ndarray) -> None:
        array = handle.arrays[address]
        if array.member is None:
            handle.verify(address, out.shape == array.shape)
            read_raw(handle.source, array.offset, array.dtype, array.shape, region, out)
        else:
            whole = handle.inflate(array.member)
            out[...] = (whole.T if array.transposed else whole)[region]

    @classmethod
    def mapped(cls, handle: _Handle, address: str) -> np.ndarray | None:
        array = handle.arrays[address]
        handle.verify(address, True)
        return None if array.member is not None else map_raw(handle.source, array.offset, array.dtype, array.shape)

    @classmethod
    def many_variables(cls, name: str) -> bool:
        return not name.lower().endswith(".npy")

    @classmethod
    def write(cls, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None,
              name: str = ".npz") -> None:  # fmt: skip
        """Write ``.npz`` (any image, lossless) or ``.npy`` (one array; axes and coordinates have no place in it).

        Parameters
        ----------
        image, path, compress, progress
            See `ImageSource.write`. `compress` (zip's deflate) is for ``.npz`` alone.
        name : str
            Name of the target, which tells ``.npy`` from ``.npz``.
        """
        if compress not in (None, False, True, "deflate"):
            raise CannotWriteError(f"compress={compress!r}: .npz knows True ('deflate') and False")
        if name.lower().endswith(".npy"):
            if compress:
                raise CannotWriteError(".npy files are not compressed: save as .npz, or leave out compress=")
            with open(path, "wb") as stream:
                _write_array(stream, image.only, progress)
            return
        method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", method) as archive:
            for key, variable in image.variables.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as stream:
                    _write_array(stream, variable, progress)
            record = zipfile.ZipInfo(_RECORD)  # without the time, so that equal images are equal files
            archive.writestr(record, json.dumps(image.record()), method)


def _write_array(stream: Any, variable: Variable, progress: Callable[[int], None] | None) -> None:
    pixels = variable.pixels
    if pixels.dtype.kind not in "biufc":
        raise CannotWriteError(f"dtype {pixels.dtype} is no image")
    header = {"descr": pixels.dtype.str, "fortran_order": False, "shape": pixels.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for plane in iter_planes(pixels, min(2, pixels.ndim)):
        stream.write(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data)
        if progress is not None:
            progress(plane.nbytes)


def _tiles(array: _Array) -> tuple[int, ...]:
    """A compressed member is inflated whole; of others any row can be read."""
    return array.shape if array.member else (1,) * max(0, len(array.shape) - 1) + tuple(array.shape[-1:])
