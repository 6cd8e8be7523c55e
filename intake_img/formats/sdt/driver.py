"""Becker & Hickl SDT: histograms of photon delays, read by region; sdtfile parses the headers.

Format: W. Becker, The bh TCSPC Handbook, "Data file structure".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions, RawArray, StoredArray
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.sdt.histograms import HistogramBlock, block_of, member_of, place_in
from intake_img.model.image import Image
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["Sdt", "SdtSource"]

_VALID, _CHECKSUM = (32, b"\x55\x55"), (40, b"\xaa\x55")
_MOST_BLOCKS = 2**16


class _SdtHandle(Handle):
    """An open file; an array is called by the number of its block."""

    def __init__(self, file: File) -> None:
        sdtfile = imported("sdtfile.sdtfile", "flim", "reading Becker & Hickl SDT")
        self.source = file.open()
        self.records: Any = sdtfile
        self.header = self._record(0, np.dtype(sdtfile.FILE_HEADER))
        if self.header["header_valid"] != 0x5555 and self.header["chksum"] != 0x55AA:
            raise FormatError(f"{file} has no valid header: expected 0x5555 at byte 32, or 0x55AA at byte 40")
        about = self.source.ranges([int(self.header["info_offs"])], [int(self.header["info_length"])])[0]
        self.info = about.decode("cp1250", "replace").replace("\r\n", "\n")
        self.blocks = [b for b in self._blocks() if b is not None]
        if not self.blocks:
            raise FormatError(f"{file} contains no image of photon delays; read its curves with sdtfile")

    def _record(self, offset: int, dtype: np.dtype) -> Any:
        data = self.source.ranges([offset], [dtype.itemsize])[0]
        return np.frombuffer(data, dtype.newbyteorder("<"))[0]

    def _blocks(self) -> list[HistogramBlock | None]:
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
            start, offset = (place_in(block, name) for name in ("data_offs", "next_block_offs"))
            if not 0 <= block["meas_desc_block_no"] < number:
                raise FormatError(f"{self.source.file}: a block belongs to no measurement: the file is damaged")
            found.append(block_of(block, measured[block["meas_desc_block_no"]], start, offset, self.records))
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
        return RawArray(member_of(self.source, block), 0, block.dtype, block.shape)

    def describe(self, scene: int | str, level: int) -> Image:
        assert isinstance(scene, int)
        block = self.blocks[scene]
        return Image.single(
            self.pixels(scene), block.axes, spacing={"h": block.step}, units={"h": "ns"}, header={"info": self.info}
        )

    def close(self) -> None:
        self.source.close()


class Sdt(Format):
    """Becker & Hickl SDT file: numbers of photons along ``y x h``, with the delay ``h`` in ns.

    Each histogram of an image is a scene; routed channels are on ``c``. Curves without an image are not read.
    """

    name = "sdt"
    title = "Becker & Hickl SDT"
    private = "^company$"
    extensions = (".sdt",)
    magic = (_VALID, _CHECKSUM)
    extras = {"flim": "reading"}
    has_scenes = True

    def claims(self, probe: Probe) -> int:
        return 2 * all(probe.head[at : at + 2] == value for at, value in self.magic)

    def open(self, file: File, options: NoOptions) -> Handle:
        return _SdtHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        from intake_img.formats.sdt.sample import write_sample

        return write_sample(folder)


SdtSource = source_of(Sdt())
