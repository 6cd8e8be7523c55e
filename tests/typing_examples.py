"""The public API as people use it, for type checkers: ``mypy tests/typing_examples.py``. It is never run.

Lines that a checker must refuse carry an ignore; ``warn_unused_ignores`` makes them fail where it does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from intake_img import CziStack, ImageSource, autodetect, imload, imsave, patches, scan
from intake_img.accessor import ImgAccessor
from intake_img.accessor.patches import Patches
from intake_img.plugin import Format, Handle, Image, PlaneArray, option


def loading() -> xr.Dataset:
    ds: xr.Dataset = imload(Path("a.czi"), scene="B03", chunks={"z": 1, "y": "auto"}, partition={"t": slice(0, 3)})
    imload("a.tif", {"c": ["DAPI", "GFP"]}, metadata={"spacing": {"z": "300 nm"}})
    imload("a.bin", shape=(3, 4), dtype="u2", offset=512)
    imload("a.tif", chunks="native")  # type: ignore[arg-type]
    imload("a.tif", rgbs=True)  # type: ignore[call-arg]
    imload("a.bin", offset="512")  # type: ignore[arg-type]
    of_a_plugin: dict[str, Any] = {"gain": 3}
    imload("a.xyz", **of_a_plugin)
    imload(7)  # type: ignore[arg-type]
    source: ImageSource = autodetect("a.nd2", scene="all", chunks=None)
    source.read_partition(0)
    imsave(ds, "b.ome.zarr", True, overwrite=True, progress=True)
    imsave(ds, "c_{t}.tif", partition=["c", "y", "x"], engine="dask")
    imsave(ds, "c.tif", tile=256, pyramid=2)
    imsave(ds, "c.tif", engine="spark")  # type: ignore[arg-type]
    imsave(ds, "c.png", quality="best")  # type: ignore[arg-type]
    for path in scan("folder", recursive=False).skipped:
        print(path)
    return ds


def processing(ds: xr.Dataset) -> xr.DataArray:
    img: ImgAccessor = ds.img
    img.gaussian_filter({"z": 1, "y": "2 µm", "x": "2 µm"}, mode="nearest", units="physical")
    img.gaussian_filter(2, mode="mirrored")  # type: ignore[arg-type]
    img.gaussian_filter(2, units="microns")  # type: ignore[arg-type]
    img.median_filter(footprint=np.ones((3, 3), bool), dims="yx")
    img.map(np.sqrt, depth={"y": 2}, dtype="f4", chunks="auto").img.max("z")
    matrix: np.ndarray | None = img.affine("LPS+")
    assert matrix is not None
    img.affine("RAI")  # type: ignore[arg-type]
    measured: xr.Dataset = img.coloc.measure([("DAPI", "GFP")], thresholds=("fraction", 0.15), mask="cells")
    pearson: xr.DataArray = img.coloc.pearson((0, "GFP"))
    img.coloc.manders(mask="cells", denominator="all")  # type: ignore[arg-type]
    img.crop(x=(10, None), y=("1 µm", "2 µm"))
    img.pyramid([2, {"z": 1, "y": 2, "x": 2}])
    img.pyramid(2)  # type: ignore[arg-type]
    img.detect_blobs(min_radius="1 µm", max_radius="2 µm", method="dog")
    img.detect_blobs(max_radius=3)  # type: ignore[call-arg]
    print(measured)
    return pearson


def cutting(ds: xr.Dataset) -> np.ndarray:
    found: Patches = patches([ds], {"y": "20 µm", "x": "20 µm"}, sample="random", n=100, mask=ds["mask"], halo=8)
    patches(ds, 64, sample="everywhere")  # type: ignore[arg-type]
    more: Patches = ds.img.patches(64)
    img: ImgAccessor = ds.img
    more = img.patches({"y": 32, "x": 32}, overlap=8, mask="mask", where=lambda patch: patch.max() > 0)
    img.patches(64, stride=32)  # type: ignore[call-arg]
    img.patches(64, units="microns")  # type: ignore[arg-type]
    print(len(more))
    stack = CziStack("a.czi", scene=0, depth_axis="Z")
    print(stack.data_shape)
    return found.read([0, 1, 2])


class Planes(PlaneArray):
    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        return np.zeros((3, 4), "u1")


class Toy(Format):
    name = "toy"
    title = "toy"
    extensions = (".toy",)

    def open(self, file: object, options: object) -> Handle:
        return Handle()


FLAG: bool = option(True, "bool", "Whether.")
MODE: Literal["RAS+"] = "RAS+"
IMAGE: Image | None = None
