"""EMD, electron microscopy data: two HDF5 formats with the same extension, of Velox and of Berkeley."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.emd import berkeley, velox
from intake_img.formats.format_source import source_of
from intake_img.formats.h5.axes import AxisFacts
from intake_img.formats.h5.file import SIGNATURE, item_at
from intake_img.formats.h5.handle import H5Handle
from intake_img.formats.h5.sniff import claim
from intake_img.formats.h5.tree import attributes_of
from intake_img.formats.probe import Probe
from intake_img.model.image import Image
from intake_img.storage.files import File

__all__ = ["Emd", "EmdSource"]

_KINDS = (frozenset({"Version", "Data"}), frozenset({"version_major", "version_minor"}), frozenset({"emd_group_type"}))
_FURTHER = ("Application", "microscope", "emd_group_type")  # what each has too, if the name does not tell
_TOP = ("4DSTEM_simulation", "4DSTEM_experiment")  # the group of Prismatic and of early py4DSTEM


class _EmdHandle(H5Handle):
    """An open file; an address is the path of an array."""

    def look(self) -> None:
        self.velox = self.h5.run(velox.images_of)
        found = {title: path for title, (path, _) in self.velox.items()}
        self.images = found or self.h5.run(berkeley.images_of)
        if not self.images:
            spectra = self.h5.run(lambda f: "Data" in f and "Spectrum" in f["Data"])
            met = "spectra, which are not read" if spectra else "no array of EMD"
            raise FormatError(f"{self.h5.file}: it contains {met}")

    @property
    def scene_names(self) -> Sequence[str]:
        return list(self.images)

    def describe(self, scene: int | str, level: int) -> Image:
        title, path = list(self.images.items())[int(scene)]
        group = path.rpartition("/")[0]
        if self.velox:
            metadata = self.velox[title][1]
            facts, header = velox.facts_of(metadata), {"metadata": metadata}
        else:
            facts, header = self.h5.run(lambda f: _described(f, group))
        return Image.single(self.pixels(path), facts.axes, header={"path": path, **header}, **facts.facts)


def _described(f: Any, path: str) -> tuple[AxisFacts, dict[str, Any]]:
    """Return the axes of Berkeley's array in a group, and the header."""
    group = item_at(f, path)
    about = {name: attributes_of(item_at(f, name)) for name in ("microscope", "sample") if name.encode() in f.id}
    return berkeley.facts_of(group), {"file": attributes_of(f), "attributes": attributes_of(group), **about}


class Emd(Format):
    """Images of an EMD file, of Velox (Thermo Fisher), Berkeley (versions 0.2 and 1.0) or Prismatic.

    Each image, or array, is a scene. Of Velox axes are ``t y x`` (frames, in seconds), a scene is called by its display
    or detector, lengths are in nm and those of Fourier transforms in 1/nm. Of Berkeley the file names the axes.
    """

    name = "emd"
    title = "EMD (electron microscopy)"
    private = "^Users?$"
    extensions = (".emd",)
    starts = (SIGNATURE,)
    has_scenes = True
    extras = {"hdf5": "reading", "hdf5plugin": "further filters of HDF5"}

    def claims(self, probe: Probe) -> int:
        named = probe.name.lower().endswith(self.extensions)
        marks = _KINDS if named else [kind | {further} for kind, further in zip(_KINDS, _FURTHER, strict=True)]
        return max(claim(probe, frozenset(kind), self.extensions) for kind in [*marks, *({top} for top in _TOP)])

    def open(self, file: File, options: NoOptions) -> Handle:
        return _EmdHandle(file)

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        import h5py

        path = os.path.join(folder, "sample.emd")
        values = np.arange(3 * 12 * 20, dtype="i4").reshape(3, 12, 20)
        with h5py.File(path, "w") as f:
            f.attrs.update(version_major=0, version_minor=2)
            group = f.create_group("data/stack")
            group.attrs["emd_group_type"] = 1
            group.create_dataset("data", data=values, chunks=(1, 8, 8), compression="gzip")
            for k, (name, unit, step) in enumerate((("z", "[n_m]", 2.0), ("y", "[n_m]", 0.5), ("x", "[n_m]", 0.25))):
                dim = group.create_dataset(f"dim{k + 1}", data=10 + step * np.arange(values.shape[k]))
                dim.attrs.update(name=name, units=unit)
        coords = {
            a: xr.Variable(a, 10 + step * np.arange(n), {"units": "nm", "spacing": step})
            for a, n, step in (("z", 3, 2.0), ("y", 12, 0.5), ("x", 20, 0.25))
        }
        return path, xr.Dataset({"image": (tuple("zyx"), values)}, coords)


EmdSource = source_of(Emd())
