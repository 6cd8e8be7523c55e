"""Small unusual Datasets for round trips; each has a property that has broken a reader or writer before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["DTYPES", "all_axes", "image_of", "standard_dataset", "standard_datasets"]

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
)


def standard_datasets() -> dict[str, xr.Dataset]:
    """Return the Datasets, named by their special property.

    Returns
    -------
    dict of str to xarray.Dataset
        In memory, with some hundreds to thousands of pixels each; made once, and copied for each caller.
    """
    return {name: ds.copy(deep=True) for name, ds in _made().items()}


def standard_dataset(name: str) -> xr.Dataset:
    """Return one of `standard_datasets`."""
    return _made()[name].copy(deep=True)


@cache
def _made() -> dict[str, xr.Dataset]:
    return {
        **{f"zyx {dtype}": image_of("zyx", (2, 5, 7), dtype) for dtype in DTYPES},
        **{f"yx {dtype}": image_of("yx", (31, 45), dtype) for dtype in ("uint8", "uint16", "float32")},
        "big-endian": _big_endian(),
        "three planes in z": image_of("zyx", (3, 16, 20), "uint8"),
        "three planes in t": image_of("tyx", (3, 16, 20), "uint8"),
        "colours": image_of("cyx", (3, 16, 20), "uint8", c=["R", "G", "B"]),
        "colours and transparency": image_of("cyx", (4, 16, 20), "uint8", c=["R", "G", "B", "A"]),
        "colours, 16 bit": image_of("cyx", (3, 16, 20), "uint16", c=["R", "G", "B"]),
        "movie in colour": image_of("tcyx", (4, 3, 16, 20), "uint8", c=["R", "G", "B"]),
        "channels": image_of("cyx", (2, 16, 20), "uint16", c=["DAPI", "GFP"], y=(0.5, "µm"), x=(0.5, "µm")),
        "hyperstack": _hyperstack(),
        "all axes": image_of("itczyx", (2, 2, 2, 2, 6, 5), "uint16", i=["first", "second"], c=["a", "b"]),
        "axes of length one": image_of(
            "itczyx", (1, 1, 1, 1, 6, 5), "uint8", t=(2.5, "s"), c=["only"], z=(0.3, "µm"), y=(0.1, "µm"), x=(0.1, "µm")
        ),
        "further axes": image_of("hltczyx", (2, 3, 1, 2, 2, 6, 5), "uint16", c=["a", "b"]),
        "order of its own": image_of("yxc", (6, 5, 2), "uint16", c=["a", "b"]),
        "spacing that differs": image_of("zyx", (3, 6, 5), "uint16", z=(2.0, "µm"), y=(130.0, "nm"), x=(0.13, "µm")),
        "spacing without a unit": image_of("yx", (6, 5), "uint16", y=(0.25, None), x=(0.25, None)),
        "origin": image_of("zyx", (3, 6, 5), "uint16", z=(0.5, "µm", -7.25), y=(0.1, "µm", 1e4), x=(0.1, "µm", -1e4)),
        "a third of a micrometre": image_of("yx", (60, 50), "uint8", y=(1 / 3, "µm"), x=(1 / 3, "µm")),
        "names that are text": image_of("cyx", (4, 6, 5), "uint16", c=["µ α/β", 'a "b" <c>', "", "a\nb, c; d=e"]),
        "names that repeat": image_of("cyx", (3, 6, 5), "uint16", c=["GFP", "GFP", "DAPI"]),
        "times that are not even": _with(image_of("tyx", (4, 6, 5), "uint16"), "t", [0.0, 1.5, 1.75, 60.0], "s"),
        "whole numbers": _with(image_of("cyx", (2, 6, 5), "uint16"), "c", [488, 405]),
        "dates": _with(
            image_of("tyx", (2, 6, 5), "uint16"), "t", np.array(["2024-02-29T12:00", "2024-03-01"], "M8[ns]")
        ),
        "a coordinate along two axes": image_of("tcyx", (2, 3, 6, 5), "uint16").assign_coords(
            stamp=(("t", "c"), np.arange(6.0).reshape(2, 3) * 0.7, {"units": "s"})
        ),
        "a coordinate without an axis": _hyperstack().isel(t=1, c=0),
        "a name of its own": image_of("zyx", (2, 6, 5), "uint16").rename(image="segmentation"),
        "two variables": _two_variables(),
        "attributes": _attributes(),
        "not a number": _not_a_number(),
        "one pixel": image_of("yx", (1, 1), "uint8"),
        "one row": image_of("yx", (1, 300), "uint16"),
        "no pixel": image_of("zyx", (0, 6, 5), "uint16"),
        "a line": image_of("x", (40,), "uint16", x=(0.5, "µm")),
        "a number beside an image": image_of("yx", (6, 5), "uint8").assign(dose=3.5),
        "a line beside an image": image_of("tyx", (3, 6, 5), "uint8").assign(dose=("t", np.array([0.0, 1.5, 7.0]))),
    }


def image_of(axes: str, shape: Sequence[int], dtype: Any, **coords: Any) -> xr.Dataset:
    """Return a Dataset of one variable, ``image``, of reproducible noise over the full range of its dtype.

    Parameters
    ----------
    axes : str
        One letter for each axis.
    shape : sequence of int
    dtype : dtype-like
    **coords
        For an axis, the names along it (list of str), or its spacing, unit and (optional) origin (tuple).
    """
    ds = xr.Dataset({"image": (tuple(axes), _noise(tuple(shape), np.dtype(dtype)))})
    for axis, given in coords.items():
        if isinstance(given, tuple):
            spacing, unit, origin = (*given, 0.0)[:3]
            attrs = {"spacing": spacing} if unit is None else {"units": unit, "spacing": spacing}
            ds = ds.assign_coords({axis: (axis, origin + spacing * np.arange(ds.sizes[axis]), attrs)})
        else:
            ds = ds.assign_coords({axis: (axis, np.asarray(given))})
    return ds


def _noise(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    rng = np.random.default_rng(sum(shape) + dtype.itemsize)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _with(ds: xr.Dataset, axis: str, values: Any, unit: str | None = None) -> xr.Dataset:
    return ds.assign_coords({axis: (axis, np.asarray(values), {} if unit is None else {"units": unit})})


def _hyperstack() -> xr.Dataset:
    return image_of(
        "tczyx",
        (2, 3, 4, 17, 23),
        "uint16",
        t=(0.5, "s"),
        c=["DAPI", "GFP", "mCherry"],
        z=(0.3, "µm"),
        y=(0.065, "µm"),
        x=(0.065, "µm"),
    )


def _big_endian() -> xr.Dataset:
    ds = image_of("zyx", (2, 5, 7), "uint16")
    return ds.assign(image=ds["image"].astype(">u2"))


def _two_variables() -> xr.Dataset:
    ds = image_of("czyx", (2, 2, 6, 5), "uint16", c=["a", "b"], y=(0.1, "µm"), x=(0.1, "µm"))
    labels = (np.arange(60).reshape(2, 6, 5) // 7).astype("int32")
    return ds.assign(segmentation=(("z", "y", "x"), labels, {"kind": "labels"}))


def _attributes() -> xr.Dataset:
    ds = image_of("yx", (6, 5), "uint16", y=(0.1, "µm"), x=(0.1, "µm"))
    tree: Mapping[str, Any] = {"lens": {"NA": 1.4, "name": "Plan-Apo 63×"}, "lasers": [405, 488], "used": True}
    ds.attrs.update(title="Zellkern µ", number=3, ratio=0.1, flag=False, names=["a", "b"], microscope=dict(tree))
    ds["image"].attrs.update(kind="labels", note="a\tb\n\"c\" <d> & 'e'")
    return ds


def _not_a_number() -> xr.Dataset:
    ds = image_of("yx", (6, 5), "float32")
    ds["image"].values[0, :4] = np.nan, np.inf, -np.inf, -0.0
    return ds


def all_axes(ds: xr.Dataset) -> list[str]:
    """Return all axes of a Dataset, in the order of its variables: the partition into one file."""
    return list(dict.fromkeys(str(a) for v in ds.data_vars.values() for a in v.dims))
