"""Olympus FluoView, OIF and OIB: settings as text, and a TIFF file for each plane, beside them or in one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError, warn
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.format_source import source_of
from intake_img.formats.oif.acquisition_files import FolderStore, StreamStore
from intake_img.formats.oif.axes import axis_facts, letter_of, planned
from intake_img.formats.oif.compound import MAGIC
from intake_img.formats.oif.plane_files import PlaneFiles, described, groups_of, leading
from intake_img.formats.probe import Probe
from intake_img.formats.samples import packaged
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Oif", "OifSource"]

_TEXTS = (b"\xff\xfe[\0", b"[")
_PRIVATE = ("UserName", "Path")


class _OifHandle(Handle):
    """An open file; an array is called by the number of its group of planes."""

    def __init__(self, file: File) -> None:
        self.source = file.open()
        compound = self.source.ranges([0], [min(8, self.source.size)])[0] == MAGIC
        self.store: Any = StreamStore(self.source) if compound else FolderStore(file, self.source)
        self.order = self.store.main.get("Axis Parameter Common", {}).get("AxisOrder", "XYCZT").upper()
        self.groups = groups_of(self.store.names, self.order[::-1])
        if self.store.cut:
            self.groups = [part for group in self.groups if (part := leading(group)) is not None]
        if not self.groups or len(self.order) < 2:
            raise FormatError(f"{file} contains no plane: no file is called like s_C001.tif; axes {self.order!r}")
        self._tell_what_is_missing(file)
        self._planes: dict[int, tuple[tuple[int, ...], np.dtype]] = {}

    def _tell_what_is_missing(self, file: File) -> None:
        if self.store.cut:
            held = sum(len(group.files) for group in self.groups)
            said = f"{file} was cut off: {held} of its planes are read, those of complete steps of the outermost axis"
            warn(said)
            return
        for group in self.groups:
            if group.missing:
                warn(f"{file}: {group.missing} of its planes are missing and shown as 0")
        first = self.groups[0]
        for axis, numbers in [] if first.reference else zip(first.letters, first.numbers, strict=True):
            if (plan := planned(self.store.main, axis)) > (found := len(numbers)):
                text = f"{file}: its settings state {plan} planes along {letter_of(axis)}, but there are {found}"
                warn(text)

    @property
    def scene_names(self) -> Sequence[str]:
        plain = [g for g in self.groups if not g.reference]
        names = ["0"] if len(plain) == 1 else [g.letters for g in plain]
        others = [g for g in self.groups if g.reference]
        return names + ["reference" if len(others) == 1 else f"reference {g.letters}" for g in others]

    def array(self, address: int) -> PlaneFiles:
        group = self.groups[address]
        if address not in self._planes:
            name = next(iter(group.files.values()))
            plane, kind = described(self.store.read(name), name)
            if len(plane) != 2 or 0 in plane:
                raise FormatError(f"{name} contains an array of shape {plane}: expected a plane")
            self._planes[address] = plane, kind
        shape, dtype = self._planes[address]
        return PlaneFiles(group, self.store, shape, dtype, self, address)

    def describe(self, scene: int | str, level: int) -> Image:
        number = int(scene)
        group, names = self.groups[number], self.scene_names
        within = "YX" if group.reference else self.order[1::-1]
        axes = [letter_of(a) for a in group.letters + within]
        pixels = self.pixels(number)
        facts = axis_facts(self.store.main, group, within, dict(zip(axes, pixels.shape, strict=True)))
        header = {s: {k: v for k, v in keys.items() if k not in _PRIVATE} for s, keys in self.store.main.items()}
        return Image.single(pixels, axes, scene=names[number], scenes=names, header=header, **facts)

    def close(self) -> None:
        self.source.close()


class Oif(Format):
    """Image in an Olympus OIF file (with its folder ``<name>.oif.files``) or OIB file.

    Axes are those that were scanned: ``t c z y x``, emission ``l``, and in line scans ``t x`` within a plane; each
    keeps its own unit (z is often in nm). A region costs the planes that it meets. Planes that are missing are 0, with
    a warning. The overview of a line scan is the scene ``reference``.
    """

    name = "oif"
    title = "Olympus FluoView"
    private = "^(?:UserName|Path|DataName)$"
    extensions = (".oif", ".oib")
    starts = (MAGIC, *_TEXTS)
    has_scenes = True

    def claims(self, probe: Probe) -> int:
        name = probe.name.lower()
        if probe.head.startswith(MAGIC):
            return 2 * name.endswith(".oib")
        return 2 * (probe.head.startswith(_TEXTS) and name.endswith(".oif"))

    def open(self, file: File, options: NoOptions) -> Handle:
        return _OifHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        values = np.arange(2 * 3 * 4 * 5, dtype="u2").reshape(3, 2, 4, 5)  # z c y x
        coords: dict[str, Any] = {
            a: (a, step * np.arange(n), {"units": unit, "spacing": step})
            for a, n, step, unit in (("z", 3, 500.0, "nm"), ("y", 4, 0.25, "µm"), ("x", 5, 0.25, "µm"))
        }
        expected = xr.Dataset({"image": (tuple("zcyx"), values)}, coords | {"c": ["DAPI", "Alexa Fluor 488"]})
        return packaged("sample.oib.gz", folder), expected


OifSource = source_of(Oif())
