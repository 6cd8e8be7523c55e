"""Makes the files of ``catalogs/samples``: small crops of the simulated cells, one for each driver.

``python tests/make_samples.py`` makes those that are missing, ``--all`` makes all of them again. What each must hold is
here too, for the tests.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from intake_img import from_example, imsave
from intake_img.formats.arguments import ENTRY_POINTS
from intake_img.formats.registry import formats

FOLDER = Path(__file__).resolve().parent.parent / "catalogs" / "samples"


def crop(**where) -> xr.Dataset:
    """A crop of the image, around one nucleus."""
    ds = from_example("cells").isel(z=slice(3, 5), y=slice(30, 62), x=slice(20, 60))
    ds.attrs = {}
    return ds.isel(where)[["image"]].compute()


def with_labels() -> xr.Dataset:
    ds = from_example("cells").isel(t=0, z=slice(3, 5), y=slice(30, 62), x=slice(20, 60))
    ds.attrs = {}
    return ds.compute()


CONTENT: dict[str, Callable[[], xr.Dataset]] = {
    "tif": lambda: crop(t=0),
    "omezarr": with_labels,
    "czi": lambda: crop(t=0),
    "npy": lambda: crop(c=0, z=0),
    "imageio": lambda: crop(t=0, z=0, c=0),
    "binary": lambda: crop(t=0, c=0),
    "img": lambda: crop(t=0, z=0, c=1),
    "filepattern": lambda: crop(z=0),
    "directory": lambda: crop(z=0, c=0),
    "imagelist": lambda: crop(z=0, c=0).isel(t=[2, 0]),
}
"""What the entry of each driver holds; of a driver that is not named here, what its `sample` says."""

TARGETS = {
    "tif": "cells.ome.tif",
    "omezarr": "cells.ozx",
    "czi": "cells.czi",
    "npy": "nuclei.npy",
    "imageio": "nuclei.png",
    "binary": "binary",
    "img": "cytoplasm",
    "filepattern": "parts",
    "directory": "movie",
}
"""The file or folder of each; ``imagelist`` shares that of ``directory``."""


def own_drivers() -> list[str]:
    """The drivers of this package, with `img` and the drivers of many files, without tables and plates."""
    points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    own = {p.name for p in points if p.value.startswith("intake_img.")}
    return sorted(own - {"image_table", "bioio", "plate"})


def make(name: str, folder: Path = FOLDER) -> None:
    """Make the file of one driver's entry."""
    target = folder / TARGETS.get(name, name)
    if name == "imagelist":
        return
    if name not in CONTENT:
        with tempfile.TemporaryDirectory() as there:
            path = Path(formats()[name].sample(there)[0])
            if len(list(Path(there).iterdir())) > 1:  # files that belong together
                shutil.copytree(there, folder / name)
                return
            rest = path.name.removeprefix("sample")
            target = folder / f"{name}{rest if rest[0] in '._' else ''.join(path.suffixes)}"
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)
        return
    ds = CONTENT[name]()
    if name == "binary":
        ds.img.to_binary(target)
    elif name == "directory":
        ds.img.to_png(target, prefix="nuclei")
    elif name == "filepattern":
        imsave(ds, target / "cells.tif", partition="yx")
    elif name == "img":
        imsave(ds, folder / "cytoplasm.png")
        (folder / "cytoplasm.png").rename(target)  # a name without information
    else:
        imsave(ds, target)


if __name__ == "__main__":
    if "--all" in sys.argv:
        shutil.rmtree(FOLDER, ignore_errors=True)
    for driver in own_drivers():
        if not (FOLDER / TARGETS.get(driver, driver)).exists() and not list(FOLDER.glob(f"{driver}[._]*")):
            make(driver)
            print("made", driver)
