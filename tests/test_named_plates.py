"""Tables of images made by `scan` of folders whose file names follow a well-known scheme, as plates in OME-Zarr."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaozarrs
from numpy.testing import assert_array_equal

import intake_img
from intake_img import imload, scan, write_table

WELLS = ("B02", "B03", "C05")
Index = tuple[str, str, int, int, int]
"""Well, field, and the numbers along t, c and z, from 0."""


def imagexpress(well: str, field: str, t: int, c: int, z: int) -> str:
    return f"{well}_s{field}_w{c + 1}.tif"


def exported(well: str, field: str, t: int, c: int, z: int) -> str:
    return f"exp 1_{well}_s{field}_w{c + 1}.tif"


def phenix(well: str, field: str, t: int, c: int, z: int) -> str:
    return f"r{'ABC'.index(well[0]) + 1:02}c{well[1:]}f{int(field):02}p{z + 1:02}-ch{c + 1}sk{t + 1}fk1fl1.tiff"


def positions(well: str, field: str, t: int, c: int, z: int) -> str:
    return f"{field}_{('DAPI', 'GFP')[c]}_t{t + 1:03}.tif"


SCHEMES: dict[str, tuple[Callable[..., str], dict[str, int], list[str]]] = {
    "imagexpress": (imagexpress, {"c": 2}, ["channel 1", "channel 2"]),
    "exported": (exported, {"c": 2}, ["channel 1", "channel 2"]),
    "phenix": (phenix, {"t": 2, "c": 2, "z": 2}, ["channel 1", "channel 2"]),
    "positions": (positions, {"t": 3, "c": 2}, ["DAPI", "GFP"]),
}


def grid(scheme: str) -> list[Index]:
    lengths = {"t": 1, "c": 1, "z": 1} | SCHEMES[scheme][1]
    fields = [("B02", "pos01"), ("B02", "pos02")] if scheme == "positions" else itertools.product(WELLS, "12")
    return [(*place, t, c, z) for place in fields for t, c, z in np.ndindex(lengths["t"], lengths["c"], lengths["z"])]


def left(scheme: str, what: str) -> list[Index]:
    """Return which files there are: a field, a channel of a field, or single planes may be missing."""
    every = grid(scheme)
    last = every[-1][:2]
    without = {
        "complete": lambda at: False,
        "planes": lambda at: at in every[3:4],
        "field": lambda at: at[:2] == last,
        "alone": lambda at: at[:2] == last or (at[0] == last[0] and at[2:] != every[0][2:]),
    }[what]
    return [at for at in every if not without(at)]


@pytest.mark.parametrize("what", ["complete", "planes", "field", "alone"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_a_scan_finds_becomes_a_valid_plate(scheme: str, what: str, tmp_path: Path) -> None:
    named, _, channels = SCHEMES[scheme]
    rng, pixels = np.random.default_rng(0), {}
    (tmp_path / "lab").mkdir()
    for at in left(scheme, what):
        pixels[at] = rng.integers(0, 60000, (6, 7), "uint16")
        tifffile.imwrite(
            tmp_path / "lab" / named(*at), pixels[at], imagej=True, resolution=(2, 2), metadata={"unit": "um"}
        )
    found = scan(tmp_path / "lab")
    wells = {"well": dict.fromkeys(found, "B02")} if scheme == "positions" else {}
    table = write_table(found, tmp_path / "images.parquet", columns=wells)
    scenes = list(dict.fromkeys(f"{w}/{f}" for w, f, *_ in pixels))
    cells = len(scenes) * math.prod(len({at[k] for at in pixels}) for k in (2, 3, 4))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plate = intake_img.plate(table)
        assert plate.scenes == scenes
        plate.save(tmp_path / "o.zarr", jobs=1)
    assert any("planes are missing" in str(w.message) for w in told) == (len(pixels) < cells)
    yaozarrs.validate_zarr_store(tmp_path / "o.zarr")
    for scene in scenes:
        image = imload(tmp_path / "o.zarr", scene=scene).image
        assert image.img.spacing == {"y": 0.5, "x": 0.5}
        assert image.c.values.tolist() == channels[: len({at[3] for at in pixels})]
        full = image.expand_dims([a for a in "tcz" if a not in image.dims]).transpose("t", "c", "z", "y", "x")
        for t, c, z in np.ndindex(full.shape[:3]):
            expected = pixels.get((*scene.split("/"), t, c, z), np.zeros((6, 7)))
            assert_array_equal(full.values[t, c, z], expected)


def test_names_of_rows_and_columns_are_wells_of_the_table(tmp_path: Path) -> None:
    for at in grid("phenix"):
        np.save(tmp_path / phenix(*at).replace(".tiff", ".npy"), np.zeros((2, 3)))
    table = write_table(scan(tmp_path), tmp_path / "t.parquet")
    assert table.to_dataframe()["well"].tolist() == list(WELLS)
    assert len(table.search(well="C05")) == 1
