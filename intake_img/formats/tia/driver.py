"""FEI TIA (ES Vision, Emispec): series of images and spectra in ``.ser``, and microscope settings in ``.emi``."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.cut_off import leading_part
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.tia.describe import axis_facts, conditions, letters_of
from intake_img.formats.tia.ser import MAGIC, Elements, TiaSeries
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Tia", "TiaSource"]

_EMI = b"JK\0\2"
_MOST = 1000  # series beside an .emi file


class _TiaHandle(Handle):
    """An open file; an array is called by the number of its series."""

    def __init__(self, file: File) -> None:
        self.file = file
        numbered = re.fullmatch(r"(.+)_(\d+)\.ser", file.name, re.IGNORECASE)
        if file.head(4) == MAGIC:
            self.names, files = ["0"], [file]
            self.numbers = [int(numbered[2]) - 1 if numbered else 0]
            described = file.sibling(f"{numbered[1]}.emi") if numbered else None
        else:
            files = _series_of(file)
            self.names = [f.name.removesuffix(".ser") for f in files]
            self.numbers, described = list(range(len(files))), file
        self.series = [TiaSeries(f.open()) for f in files]
        self.described = described
        self.renew()

    def renew(self) -> None:
        """Read the ``.emi`` file again, which may have come or changed since."""
        self.description = self._described(self.described)

    def _described(self, file: File | None) -> bytes:
        if file is None:
            return b""
        try:
            return file.read()
        except FileNotFoundError:
            return b""
        except FormatError as exc:
            warn(f"{self.file}: the conditions in {file.name} are left out: {exc}")
            return b""

    @property
    def scene_names(self) -> Sequence[str]:
        return self.names

    def array(self, address: int) -> Elements:
        series = self.series[address]
        outer = [d.size for d in series.dimensions[::-1]]
        inner = int(np.prod(outer[1:], dtype=np.int64))
        if len(series.offsets) < series.recorded:
            return Elements(series, leading_part(outer, len(series.offsets)))
        if outer:
            outer[0] = -(-len(series.offsets) // inner)
        return Elements(series, tuple(outer))

    def describe(self, scene: int | str, level: int) -> Image:
        number = int(scene)
        series, pixels = self.series[number], self.pixels(number)
        self._warn_of_lost(series)
        said = self._conditions(number)
        letters = letters_of(series)
        facts = axis_facts(series, letters, pixels.shape, "diffraction" in said.get("Mode", "").lower())
        kept = [k for k, a in enumerate(letters) if a in "yxlzt" or pixels.shape[k] > 1]  # a series of one is none
        header = {
            "version": f"{series.version:#x}",
            "dimensions": [d._asdict() for d in series.dimensions],
            "conditions": said,
        }
        return Image.single(
            pixels.reshape(kept),
            [letters[k] for k in kept],
            scene=self.names[number],
            scenes=self.names,
            header=header,
            **facts,
        )

    def _warn_of_lost(self, series: TiaSeries) -> None:
        file, held, recorded = series.source.file, len(series.offsets), series.recorded
        lacking = int(np.prod([d.size for d in series.dimensions], dtype=np.int64)) - recorded
        if held < recorded:
            said = (
                f"{file} was cut off: it contains {held} of {recorded} elements; complete steps of its outer dimension"
            )
            warn(f"{said} are read")
        elif lacking:
            warn(f"{file}: {lacking} elements beside {held} were not recorded: 0 where shown")

    def _conditions(self, number: int) -> dict[str, str]:
        try:
            return conditions(self.description, self.numbers[number])
        except FormatError as exc:
            warn(f"{self.file}: {exc}; it is left out")
            return {}

    def close(self) -> None:
        for series in self.series:
            series.source.close()


def _series_of(file: File) -> list[File]:
    """Return the series that belong to an ``.emi`` file: ``a_1.ser``, ``a_2.ser`` of ``a.emi``."""
    stem = re.sub(r"\.emi$", "", file.name, flags=re.IGNORECASE)
    found: list[File] = []
    while len(found) < _MOST and (member := file.sibling(f"{stem}_{len(found) + 1}.ser")).exists():
        found.append(member)
    if not found:
        raise FormatError(f"{file}: its pixels are in {stem}_1.ser beside it, which is missing")
    return found


class Tia(Format):
    """Series of images or spectra of FEI's TIA: a ``.ser`` file, or the ``.emi`` file beside several.

    The series of an ``.emi`` file are scenes. Images are in nm, diffraction patterns in 1/nm, as the ``.emi`` states;
    energies are ``l`` in eV. Positions of a scan with spectra are ``y x``; images that were taken one after the other
    are on ``i``.
    """

    name = "tia"
    title = "FEI TIA"
    private = "^User$"
    extensions = (".ser", ".emi")
    magic = ((0, MAGIC), (0, _EMI))
    starts = (MAGIC, _EMI)
    has_scenes = True

    def claims(self, probe: Probe) -> int:
        return 2 * (
            probe.head.startswith(MAGIC) or (probe.head.startswith(_EMI) and probe.name.lower().endswith(".emi"))
        )

    def open(self, file: File, options: NoOptions) -> Handle:
        return _TiaHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(3 * 4 * 5, dtype="<i4").reshape(3, 4, 5)
        size = 50 + values[0].nbytes
        head = MAGIC + struct.pack("<H4IQI", 0x220, 0x4122, 0x4152, 3, 3, 72, 1)
        head += struct.pack("<IddiI", 3, 0.0, 1.0, 0, 6) + b"Number" + struct.pack("<I", 0)
        head += struct.pack("<3Q", *[96 + k * size for k in range(3)])
        with open(f"{folder}/sample_1.ser", "wb") as stream:
            stream.write(head)
            for plane in values:
                stream.write(
                    struct.pack("<ddiddiHii", -1e-9, 5e-10, 2, -2e-9, 1e-9, 2, 6, 5, 4) + plane[::-1].tobytes()
                )
        coords = {
            a: (a, origin + step * np.arange(n), {"units": "nm", "spacing": step})
            for a, n, step, origin in (("y", 4, 1.0, -4.0), ("x", 5, 0.5, -2.0))
        }
        return f"{folder}/sample_1.ser", xr.Dataset({"image": (tuple("iyx"), values)}, coords)


TiaSource = source_of(Tia())
