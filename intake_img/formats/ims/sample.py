"""A tiny Imaris file for the conformance suite, written with h5py."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["write_sample"]


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write two times, two channels and two levels, with their padding; see `Format.sample`."""
    import h5py

    def note(item: Any, **attributes: object) -> None:
        for name, value in attributes.items():
            item.attrs[name] = np.array([c.encode() for c in str(value)], "S1")

    path = os.path.join(folder, "sample.ims")
    values = np.arange(2 * 2 * 3 * 12 * 20, dtype="u2").reshape(2, 2, 3, 12, 20)
    with h5py.File(path, "w") as f:
        note(f, ImarisVersion="5.5.0", DataSetDirectoryName="DataSet", DataSetInfoDirectoryName="DataSetInfo")
        note(
            f.create_group("DataSetInfo/Image"),
            X=20,
            Y=12,
            Z=3,
            Unit="um",
            ExtMin0=5,
            ExtMax0=10,
            ExtMin1=0,
            ExtMax1=3,
            ExtMin2=-1,
            ExtMax2=5,
        )
        note(
            f.create_group("DataSetInfo/TimeInfo"),
            TimePoint1="2024-02-29 23:59:59.000",
            TimePoint2="2024-03-01 00:00:01.500",
        )
        for c, (name, color) in enumerate([("DAPI", "0 0 1"), ("GFP", "0.000 1.000 0.000")]):
            note(f.create_group(f"DataSetInfo/Channel {c}"), Name=name, Color=color)
        for t, c, level in np.ndindex(2, 2, 2):
            whole = values[t, c, :, :: 1 + level, :: 1 + level]
            group = f.create_group(f"DataSet/ResolutionLevel {level}/TimePoint {t}/Channel {c}")
            note(group, **{f"ImageSize{a}": n for a, n in zip("ZYX", whole.shape, strict=True)})
            padded = np.full((4, 16, 24), 9, "u2")
            padded[tuple(slice(0, n) for n in whole.shape)] = whole
            group.create_dataset("Data", data=padded, chunks=(2, 8, 8), compression="gzip")
    coords = {
        a: xr.Variable(a, first + step * np.arange(n), {"units": unit, "spacing": step})
        for a, n, first, step, unit in (
            ("t", 2, 0, 2.5, "s"),
            ("z", 3, -1, 2.0, "µm"),
            ("y", 12, 0, 0.25, "µm"),
            ("x", 20, 5, 0.25, "µm"),
        )
    }
    return path, xr.Dataset({"image": (tuple("tczyx"), values)}, {**coords, "c": ["DAPI", "GFP"]})
