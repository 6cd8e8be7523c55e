"""Becker & Hickl SDT: histograms of photon delays, read by region; sdtfile parses the headers.

Format: W. Becker, The bh TCSPC Handbook, "Data file structure".
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, MissingExtraError
from intake_img.formats.base import Format, Handle, NoOptions, RawArray, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.storage.files import ByteReader, File
from intake_img.storage.inflated import Inflated

__all__ = ["Sdt", "SdtSource"]

_VALID, _CHECKSUM = (32, b"\x55\x55"), (40, b"\xaa\x55")
_MOST_BLOCKS = 2**16


@dataclass(frozen=True)
class _Block:
    """One histogram: its offset, dtype, and axes."""

    offset: int
    stop: int
    dtype: np.dtype
    packed: bool
    shape: tuple[int, ...]
    axes: str
    step: float  # ns between bins; 0 where unknown


class _SdtHandle(Handle):
    """An open file; an array is called by the number of its block."""

    def __init__(self, file: File) -> None:
        try:
            from sdtfile import sdtfile
        except ImportError as exc:
            raise MissingExtraError("sdtfile", "flim", "reading Becker & Hickl SDT") from exc
        self.source = file.open()
        self.records: Any = sdtfile
        self.header = self._record(0, np.dtype(sdtfile.FILE_HEADER))
        if self.header["header_valid"] != 0x5555 and self.header["chksum"] != 0x55AA:
            raise FormatError(f"{file} has no valid header: expected 0x5555 at byte 32, or 0x55AA at byte 40")
        about = self.source.ranges([int(self.header["info_offs"])], [int(self.header["info_length"])])[0]
        self.info = about.decode("cp1250", "replace").replace("\r\n", "\n")
        self.blocks = [b for b in self._blocks() if b is not None]
        if not self.blocks:
            raise FormatError(f"{file} holds no image of photon delays; read its curves with sdtfile")

    def _record(self, offset: int, dtype: np.dtype) -> Any:
        data = self.source.ranges([offset], [dtype.itemsize])[0]
        return np.frombuffer(data, dtype.newbyteorder("<"))[0]

    def _blocks(self) -> list[_Block | None]:
        header, records = self.header, self.records
        length = int(header["meas_desc_block_length"])
        if length <= 0:
            raise FormatError(f"{self.source.file}: its measurements are described in {length} bytes: it is damaged")
        kind = records.record_dtype(records.MEASURE_INFO, length)
        first, number = int(header["meas_desc_block_offs"]), int(header["no_of_meas_desc_blocks"])
        measured = [self._record(first + k * length, kind) for k in range(number)]
        new = records.FileRevision(int(header["revision"])).revision >= 15
        layout = np.dtype(records.BLOCK_HEADER if new else records.BLOCK_HEADER_OLD)
        count = int(header["no_of_data_blocks"])
        count = int(header["reserved1"]) if count == 0x7FFF else count
        found, offset = [], int(header["data_block_offs"])
        for _ in range(min(count, _MOST_BLOCKS)):
            block = self._record(offset, layout)
            start, offset = (_place(block, name) for name in ("data_offs", "next_block_offs"))
            if not 0 <= block["meas_desc_block_no"] < number:
                raise FormatError(f"{self.source.file}: a block belongs to no measurement: the file is damaged")
            found.append(_block(block, measured[block["meas_desc_block_no"]], start, offset, self.records))
        for each in filter(None, found):
            stop = each.stop if each.packed else each.offset + math.prod(each.shape) * each.dtype.itemsize
            if not 0 < each.offset < stop <= self.source.size:
                raise FormatError(f"{self.source.file} ends before its data, at byte {stop}: it is truncated")
        return found

    @property
    def scene_names(self) -> Sequence[str]:
        return [str(k) for k in range(len(self.blocks))]

    def array(self, address: int) -> StoredArray:
        block = self.blocks[address]
        if not block.packed:
            return RawArray(self.source, block.offset, block.dtype, block.shape)
        return RawArray(_member(self.source, block), 0, block.dtype, block.shape)

    def describe(self, scene: int | str, level: int) -> Image:
        assert isinstance(scene, int)
        block = self.blocks[scene]
        return Image.single(
            self.pixels(scene), block.axes, spacing={"h": block.step}, units={"h": "ns"}, header={"info": self.info}
        )

    def close(self) -> None:
        self.source.close()


def _place(block: Any, name: str) -> int:
    high = int(block[f"{name}_ext"]) if f"{name}_ext" in block.dtype.names else 0
    return (high << 32) + int(block[name])


def _block(block: Any, measured: Any, start: int, stop: int, records: Any) -> _Block | None:
    """Return the contents of a block; None if it is not a histogram of an image."""
    kind = records.BlockType(int(block["block_type"]))
    count = int(block["block_length"]) // kind.dtype.itemsize
    bins = int(measured["adc_re"]) or 65536
    step = float(measured["tac_r"]) / (float(measured["tac_g"]) * bins) * 1e9 if measured["tac_g"] else 0.0
    step = float(f"{step:.7g}")  # of single precision
    for prefix in ("scan", "image"):
        y, x, ry, rx = (_field(measured, f"{prefix}_{a}") for a in ("y", "x", "ry", "rx"))
        for channels, axes in ((0, "yxh"), (ry * rx, "cyxh")):
            shape = (channels, y, x, bins)[4 - len(axes) :]
            if count and count == math.prod(shape):
                single = shape[0] == 1 and len(shape) == 4
                shape, axes = (shape[1:], "yxh") if single else (shape, axes)
                return _Block(start, stop, kind.dtype, kind.compress, shape, axes, step)
    return None


def _field(measured: Any, name: str) -> int:
    return int(measured[name]) if name in measured.dtype.names else 0


def _member(source: ByteReader, block: _Block) -> ByteReader:
    """Return the bytes of a block that is a zip archive of one member."""
    head = source.ranges([block.offset], [30])[0]
    magic, method, name, extra = *struct.unpack_from("<4s4xH", head), *struct.unpack_from("<HH", head, 26)
    start = block.offset + 30 + name + extra
    if magic != b"PK\x03\x04" or method != 8 or start >= block.stop:
        raise FormatError(f"{source.file}: a block begins with {magic!r}: expected a deflated zip archive")
    size = math.prod(block.shape) * block.dtype.itemsize
    return Inflated(source, "deflate", start, block.stop - start, size=size)


class Sdt(Format):
    """Becker & Hickl SDT file: numbers of photons along ``y x h``, with the delay ``h`` in ns.

    Each histogram of an image is a scene; routed channels are on ``c``. Curves without an image are not read.
    """

    name = "sdt"
    title = "Becker & Hickl SDT"
    private = "^company$"
    extensions = (".sdt",)
    magic = (_VALID, _CHECKSUM)
    extras = {"flim": "needed"}
    has_scenes = True

    def claims(self, probe: Probe) -> int:
        return 2 * all(probe.head[at : at + 2] == value for at, value in self.magic)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _SdtHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        from sdtfile import sdtfile

        values = np.arange(5 * 6 * 8, dtype="<u2").reshape(5, 6, 8)
        info = b"*IDENTIFICATION\r\n  ID : SPC Setup & Data File\r\n*END\r\n"
        measured = np.zeros(1, sdtfile.MEASURE_INFO)
        for name, value in {"tac_r": 8e-9, "tac_g": 1, "adc_re": 8, "scan_x": 6, "scan_y": 5}.items():
            measured[name] = value
        block, header = np.zeros(1, sdtfile.BLOCK_HEADER), np.zeros(1, sdtfile.FILE_HEADER)
        places = np.cumsum([header.nbytes, len(info), measured.nbytes, block.nbytes, values.nbytes]).tolist()
        facts = dict(zip(("info_offs", "meas_desc_block_offs", "data_block_offs"), places, strict=False))
        facts |= {"revision": 15, "info_length": len(info), "no_of_data_blocks": 1, "no_of_meas_desc_blocks": 1}
        facts |= {"meas_desc_block_length": measured.nbytes, "header_valid": 0x5555, "chksum": 0x55AA}
        for name, value in facts.items():
            header[name] = value
        block["data_offs"], block["next_block_offs"], block["block_length"] = places[3], places[4], values.nbytes
        path = os.path.join(folder, "sample.sdt")
        with open(path, "wb") as stream:
            stream.write(header.tobytes() + info + measured.tobytes() + block.tobytes() + values.tobytes())
        coords = {"h": ("h", 1.0 * np.arange(8), {"units": "ns", "spacing": 1.0})}
        return path, xr.Dataset({"image": (tuple("yxh"), values)}, coords)


SdtSource = source_of(Sdt())
