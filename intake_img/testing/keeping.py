"""The table of what each writer keeps, made by writing tiny images and reading them again.

``python -m intake_img.testing.keeping`` prints the table in Markdown.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import IntakeImgError
from intake_img.formats.registry import formats, writer_for
from intake_img.io import imload, imsave
from intake_img.model.affine import Affine
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File
from intake_img.testing.datasets import DTYPES, all_axes, image_of, standard_dataset

__all__ = ["FACTS", "TARGETS", "kept", "table"]

TARGETS = (
    ".ome.zarr",
    ".ome.tif",
    ".tif",
    ".h5",
    ".npz",
    ".npy",
    ".nrrd",
    ".nii.gz",
    ".mha",
    ".mrc",
    ".fits",
    ".dcm",
    ".czi",
    ".klb",
    ".precomputed",
    ".exr",
    ".png",
    ".jp2",
    ".jxl",
    ".raw",
)
"""Endings of names, of each format that is written the usual ones."""
_NESTS = ("itczyx", "tczyx", "czyx", "tzyx", "zyx", "cyx", "yx")
_LABELS = ("uint8", "uint16", "uint32", "int32", "uint64", "int64")


def kept(extension: str) -> dict[str, str]:
    """Return what files with an extension keep, by column of the table.

    Parameters
    ----------
    extension : str
        Such as ``".ome.tif"``.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial = _Trial(os.path.join(folder, f"image{extension}"))
        return {name: probe(trial) for name, probe in FACTS.items()}


def table(extensions: Sequence[str] = TARGETS) -> str:
    """Return the table in Markdown, one row for each extension."""
    rows = [["", *FACTS], ["---"] * (len(FACTS) + 1)]
    rows += [[_link(extension), *kept(extension).values()] for extension in extensions]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _link(extension: str) -> str:
    driver = writer_for(File.parse(f"image{extension}")).name
    return f"[`{extension}`](../reference/formats/{driver}.md)"


class _Trial:
    """Images that are written to one name and read again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.dtypes = [d for d in DTYPES if self.pixels(image_of("yx", (6, 5), d))]
        self.most = next((d for d in ("uint16", "int16", "float32", "uint8") if d in self.dtypes), "uint8")

    def back(self, ds: xr.Dataset, **options: Any) -> xr.Dataset | None:
        """Return a Dataset after a round trip through one file; None if it is refused."""
        try:
            files = imsave(ds, self.path, overwrite=True, partition=all_axes(ds), **options)
            if files[0] != self.path:
                return None
            with imload(self.path, chunks=None) as found:
                return found.load()
        except (IntakeImgError, TypeError, ValueError):
            return None

    def pixels(self, ds: xr.Dataset, **options: Any) -> xr.Dataset | None:
        """Return a Dataset after a round trip if values and dtype are unchanged; else None."""
        found = self.back(ds, **options)
        if found is None or set(found.data_vars) != set(ds.data_vars):
            return None
        pairs = [(found[n], ds[n]) for n in ds.data_vars]
        same = all(f.dtype == g.dtype and np.array_equal(f.values.ravel(), g.values.ravel()) for f, g in pairs)
        return found if same else None

    def image(self, axes: str, **coords: Any) -> xr.Dataset:
        """Return an image of a dtype that the writer supports."""
        sizes = {"i": 2, "t": 2, "c": 3, "z": 2, "h": 2, "y": 6, "x": 5}
        return image_of(axes, [sizes[a] for a in axes], self.most, **coords)


def _dtypes(trial: _Trial) -> str:
    found = trial.dtypes
    if len(found) == len(DTYPES):
        return "all"
    kinds = {"u": "uint", "i": "int", "f": "float", "c": "complex", "b": "bool"}
    parts = []
    for kind, name in kinds.items():
        sizes = [np.dtype(d).itemsize * 8 for d in found if np.dtype(d).kind == kind]
        if sizes:
            parts.append(name if kind == "b" else name + "/".join(map(str, sizes)))
    return ", ".join(parts) or "none exactly"


def _axes(trial: _Trial) -> str:
    if _same_axes(trial, "hitczyx"):
        return "any"
    return next((axes for axes in _NESTS if _same_axes(trial, axes)), "none")


def _same_axes(trial: _Trial, axes: str) -> bool:
    found = trial.pixels(trial.image(axes))
    return found is not None and "".join(map(str, found["image"].dims)) == axes


def _richest(trial: _Trial, **coords: Any) -> xr.Dataset | None:
    """Return an image with coordinates after a round trip, with the axes that the writer supports."""
    for axes in ("zyx", "yx"):
        given = {a: v for a, v in coords.items() if a in axes}
        found = trial.pixels(trial.image(axes, **given))
        if found is not None:
            return found
    return None


def _spacing(trial: _Trial) -> str:
    found = _richest(trial, z=(2.0, "µm"), y=(0.5, "µm"), x=(0.25, "µm"))
    if found is None or found.img.spacing.get("x") != 0.25 or found.img.spacing.get("y") != 0.5:
        return ""
    return "yes" if found.img.units.get("x") == "µm" else "without units"


def _channels(trial: _Trial) -> str:
    found = trial.pixels(trial.image("cyx", c=["DAPI", "GFP", "mCherry"]))
    return "yes" if found is not None and found["image"].coords.get("c") is not None and _named(found) else ""


def _named(found: xr.Dataset) -> bool:
    return list(found["c"].values) == ["DAPI", "GFP", "mCherry"]


def _labels(trial: _Trial) -> str:
    for dtype in _LABELS:
        ds = image_of("yx", (6, 5), dtype)
        ds["image"].attrs["kind"] = "labels"
        found = trial.pixels(ds)
        if found is not None and found["image"].attrs.get("kind") == "labels":
            return "yes"
    return ""


def _affine(trial: _Trial) -> str:
    values = Pixels.of(trial.image("zyx")["image"].values)
    given = Affine(np.array([[0, -2, 0, 3], [2, 0, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1]]), "LPS+", "mm")
    turned = Image.single(values, "zyx").placed(given).to_xarray(chunks={})
    found = trial.pixels(turned)
    matrix = None if found is None else found.img.affine("LPS+")
    return "yes" if matrix is not None and np.array_equal(matrix, given.matrix) else ""


def _variables(trial: _Trial) -> str:
    return "yes" if trial.pixels(standard_dataset("two variables")) is not None else ""


def _attributes(trial: _Trial) -> str:
    ds = trial.image("yx")
    ds.attrs["note"] = {"lens": "63×", "lasers": [405, 488]}
    found = trial.pixels(ds)
    return "yes" if found is not None and found.attrs.get("note") == ds.attrs["note"] else ""


def _pyramid(trial: _Trial) -> str:
    base = trial.image("yx", y=(0.5, "µm"), x=(0.5, "µm"))
    half = base.isel(y=slice(0, None, 2), x=slice(0, None, 2))
    tree = xr.DataTree.from_dict({"/0": base, "/1": half})
    try:
        imsave(tree, trial.path, overwrite=True)
        return "yes" if imload(trial.path, level=1).sizes["y"] == half.sizes["y"] else ""
    except (IntakeImgError, TypeError, ValueError):
        return ""


def _compressed(trial: _Trial) -> str:
    """Return whether files are compressed by default, or on request; lossless in both cases."""
    ds = trial.image("yx")
    if trial.pixels(ds) is None:
        return ""
    flat = ds.isel(y=np.zeros(400, int), x=np.zeros(400, int)) * 0
    sizes = {}
    for compress in (None, True):
        if trial.pixels(flat.astype(trial.most), compress=compress) is not None:
            sizes[compress] = _size(trial.path)
    small = [c for c, size in sizes.items() if size < flat["image"].astype(trial.most).nbytes / 2]
    return "by default" if None in small else "if asked" if True in small else ""


def _size(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names)


FACTS: dict[str, Callable[[_Trial], str]] = {
    "Types of numbers": _dtypes,
    "Axes": _axes,
    "Spacing, units": _spacing,
    "Channel names": _channels,
    "Labels": _labels,
    "Affine": _affine,
    "Several variables": _variables,
    "Attributes": _attributes,
    "Pyramid": _pyramid,
    "Compressed": _compressed,
}
"""The columns of the table, and what finds them."""


if __name__ == "__main__":
    lacking = {f.name for f in formats().values() if f.writes} - {
        writer_for(File.parse(f"image{extension}")).name for extension in TARGETS
    }
    print(table() + (f"\nnot in the table: {lacking}" if lacking else ""))
