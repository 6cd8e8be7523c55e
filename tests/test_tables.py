"""Tables state the units of their positions: any method reads them in these, whatever the unit of the image is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import intake_img  # noqa: F401
from intake_img.errors import UnitsError
from intake_img.model.units import convert

STEP, START = {"y": 0.5, "x": 0.25}, {"y": 3.0, "x": -2.0}
PLACES = {"y": [4.0, 9.0, 20.0, 24.0], "x": [6.0, 7.0, 30.0, 5.0]}  # pixels


def image(unit: str | None = "µm", dims: str = "cyx", lead: int = 2) -> xr.DataArray:
    values = np.random.default_rng(0).integers(0, 999, (lead, 32, 40)).astype("u2")
    coords = {}
    for axis, n in (("y", 32), ("x", 40)):
        if unit is not None:
            at = convert(1.0, "µm", unit) * (START[axis] + STEP[axis] * np.arange(n))
            coords[axis] = xr.Variable(axis, at, {"units": unit})
    return xr.DataArray(values, coords, list(dims), name="image")


def table(units: dict[str, str], **columns: Any) -> pd.DataFrame:
    """The same places in other units; absent ones are not stated, and those of the image in µm."""
    found = {}
    for axis, places in PLACES.items():
        unit, pixels = units.get(axis, "µm"), np.asarray(places)
        line = START[axis] + STEP[axis] * pixels
        found[axis] = pixels if unit == "px" else np.asarray([convert(v, "µm", unit) for v in line])
    out = pd.DataFrame({**found, **columns})
    out.attrs = {"column_units": units}
    return out


STATED = [{}, {"y": "µm", "x": "µm"}, {"y": "nm", "x": "µm"}, {"y": "px", "x": "px"}, {"y": "px", "x": "mm"}]


@pytest.mark.parametrize("units", STATED)
@pytest.mark.parametrize("own", ["µm", "nm"])
def test_blobs(units, own):
    if own == "nm":
        units = {"y": "µm", "x": "µm"} | units
    columns = {"channel": [0, 0, 1, 1], "radius": [0.5, 1.0, 0.5, 1.0]}
    blobs, scene = table(units, **columns), image(own).img.coloc
    blobs.attrs["column_units"] = blobs.attrs["column_units"] | {"radius": "µm"}
    wanted, plain = image().img.coloc, pd.DataFrame(table({}, **columns).to_dict("list"))
    for footprint in (2, "radius"):
        found = scene.blobs(blobs, footprint=footprint)
        pd.testing.assert_frame_equal(found, wanted.blobs(plain, footprint=footprint))
        assert found.filter(like="mean_").notna().all(axis=None)
    matched = scene.match(blobs, "8 µm")
    assert len(matched) == len(wanted.match(plain, 8.0)) == 1
    again = scene.match(matched.source, "8 µm")  # its units were changed, too
    pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(matched))
    near = scene.nearest(blobs, 0, 1)
    assert near["nearest_id"].tolist() == wanted.nearest(plain, 0, 1)["nearest_id"].tolist()
    ratio = convert(1.0, "µm", own)
    np.testing.assert_allclose(near["distance"], ratio * wanted.nearest(plain, 0, 1)["distance"])
    known = scene.cross_k(blobs, 0, 1, radii=["3 µm"], n=9)["k"]
    np.testing.assert_allclose(known, ratio**2 * wanted.cross_k(plain, 0, 1, radii=[3.0], n=9)["k"])


@pytest.mark.parametrize("units", STATED)
@pytest.mark.parametrize("own", ["µm", "nm"])
def test_centres_of_patches(units, own):
    for given in "pixel", "physical":
        stated = {"y": "px", "x": "px"} | units if given == "pixel" else {"y": "µm", "x": "µm"} | units
        p = image(own).isel(c=0).img.patches(4, sample="centers", centers=table(stated))
        wanted = np.stack([PLACES["y"], PLACES["x"]], 1).astype(int) - 2
        np.testing.assert_array_equal(p.plan.start, wanted)


def test_found_blobs_are_in_the_middle_of_their_patches():
    values = np.zeros((3, 64, 64), "f4")
    y, x = np.mgrid[:64, :64]
    for t, (a, b) in enumerate([(20, 30), (40, 25), (33, 33)]):
        values[t] = np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8)
    coords = {
        "t": xr.Variable("t", [0.0, 2.0, 4.0], {"units": "s"}),
        "y": xr.Variable("y", 5 + 0.1 * np.arange(64), {"units": "µm"}),
        "x": xr.Variable("x", 100.0 * np.arange(64), {"units": "nm"}),
    }
    movie = xr.DataArray(values, coords, list("tyx"), name="image")
    channel = movie.expand_dims(c=1).transpose("t", "c", "y", "x")
    found = channel.img.detect_blobs(min_radius="200 nm", max_radius="400 nm", threshold=0.05)
    assert len(found) == 3
    for centers in (found, movie.img.peaks(5, 0.5)):
        p = movie.img.patches(9, sample="centers", centers=centers)
        assert p.plan.index[:, 0].tolist() == [0, 1, 2]
        assert [np.unravel_index(np.argmax(patch["image"].values), (9, 9)) for patch in p] == [(4, 4)] * 3
    with pytest.raises(ValueError, match=r"row 0 of the table has t=1\.0: the image has no such sample"):
        len(movie.img.patches(9, sample="centers", centers={"t": [1.0], "y": [5], "x": [5]}))
    by_index = movie.img.patches(9, sample="centers", centers={"t0": [1], "y": [5], "x": [5]})
    assert by_index.plan.index.tolist() == [[1]]


@pytest.mark.parametrize("units", STATED)
@pytest.mark.parametrize("own", ["µm", "nm"])
def test_tiles_of_a_mosaic(units, own):
    tiles = image(own, "iyx", 4)
    wanted = image(None, "iyx", 4).img.mosaic(PLACES, units="pixel").values
    for given in "pixel", "physical":
        stated = {"y": "px", "x": "px"} | units if given == "pixel" else {"y": "µm", "x": "µm"} | units
        found = tiles.img.mosaic(table(stated), units=given)
        np.testing.assert_array_equal(found.values, wanted)
    refined = tiles.img.refine_positions(table({"y": "px", "x": "px"}), units="pixel", min_correlation=1)
    np.testing.assert_array_equal(tiles.img.mosaic(refined).values, wanted)  # says that it is in pixels


def test_units_that_the_image_lacks_are_refused():
    stated = table({"y": "µm", "x": "µm"}, channel=[0, 0, 1, 1])
    for call in (
        lambda: image(None).img.coloc.match(stated, 2),
        lambda: image(None).isel(c=0).img.patches(4, sample="centers", centers=stated),
        lambda: image(None, "iyx", 4).img.mosaic(stated, units="pixel"),
    ):
        with pytest.raises(UnitsError, match=r"ha(s|ve) no unit"):
            call()
