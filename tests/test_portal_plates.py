"""Plates and further axes in the portal: every field and every index is served, and reads back equal to its source."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import make_plates
import numpy as np
import pytest
import xarray as xr
import yaml
from portal_server import Portal, serving

import intake_img
from intake_img import imload, imsave

pytestmark = pytest.mark.thorough

pytest.importorskip("uvicorn")
KEEPS_FILES_OPEN = True  # a portal does, by design
AXES = ("hyx", "hzyx", "icyx", "hicyx", "tlzyx", "bhtczyx")
SIZES = {"b": 2, "h": 3, "i": 2, "l": 4, "t": 2, "c": 2, "z": 2, "y": 5, "x": 6}


def _counted(axes: str) -> xr.Dataset:
    """Return an image in which no two samples are equal."""
    shape = [SIZES[a] for a in axes]
    return xr.Dataset({"image": (tuple(axes), np.arange(np.prod(shape), dtype="u2").reshape(shape))})


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("plates")
    make_plates.phenix(folder / "screen", make_plates.values())
    intake_img.plate(folder / "screen").save(folder / "stored.zarr")
    names = ["screen", "stored.zarr"]
    for axes in AXES:
        imsave(_counted(axes), folder / f"{axes}.zarr")
        names.append(f"{axes}.zarr")
    args = {name: {"uri": "{{ CATALOG_DIR }}/" + name} for name in names}
    sources = {n.removesuffix(".zarr"): {"driver": "img", "args": args[n]} for n in names}
    sources["well"] = {"driver": "plate", "args": {"uri": "{{ CATALOG_DIR }}/screen", "scene": "D11"}}
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": sources}))
    with serving([folder / "lab.yml"], folder) as one:
        yield one


@pytest.mark.parametrize("name", ["screen", "stored"])
def test_a_plate_is_served_as_hcs(portal: Portal, name: str) -> None:
    from yaozarrs import validate_zarr_store

    url = f"{portal.url}/data/{name}.zarr"
    validate_zarr_store(f"{url}/")
    original = intake_img.plate(Path(portal.library.places[0]).parent / "screen")
    served = intake_img.plate(url)
    assert served.scenes == original.scenes == ["B03/1", "B03/2", "D11/1", "D11/2"]
    for number, scene in enumerate(original.scenes):
        mine, theirs = original[scene], served[scene]
        np.testing.assert_array_equal(theirs["image"].values, mine["image"].values)
        assert {a: theirs.img.spacing[a] for a in "zyx"} == {a: mine.img.spacing[a] for a in "zyx"}
        assert theirs.img.channels == mine.img.channels
        with imload(url, scene=number) as one:
            np.testing.assert_array_equal(one["image"].values, mine["image"].values)
    for absent in ("B/9/zarr.json", "B/3/7/zarr.json", "B/3/1/9/zarr.json", "OME/zarr.json", "C/zarr.json"):
        assert portal.get(f"/data/{name}.zarr/{absent}").status == 404


def test_a_well_of_a_plate_is_an_image_with_an_axis_of_fields(portal: Portal) -> None:
    values = make_plates.values()
    for field in range(2):
        with imload(f"{portal.url}/data/well.zarr", scene=field) as one:
            np.testing.assert_array_equal(one["image"].isel(i=0).values, values[1, field])


@pytest.mark.parametrize("axes", AXES)
def test_all_indices_of_further_axes_are_reached(portal: Portal, axes: str) -> None:
    """The images that are served hold every sample once, each where its name says."""
    whole = _counted(axes)["image"]
    facts = portal.get(f"/api/entries/{axes}").json
    seen = []
    for number, one in enumerate(facts["series"]):
        place = {a: int(k) for a, k in re.findall(r"([a-z])=(\d+)", one["name"])}
        with imload(f"{portal.url}/data/{axes}.zarr", scene=number) as served:
            found = served["image"]
            wanted = whole.isel({a: [k] for a, k in place.items()})
            np.testing.assert_array_equal(found.transpose(*axes).values, wanted.values)
            seen.append(found.values.ravel())
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(whole.size))


def test_the_page_of_a_plate_is_a_grid_of_its_wells(portal: Portal) -> None:
    page = portal.get("/e/screen").body.decode()
    cells = re.findall(r'<a href="#s=(\d+)" title="([A-Z]\d+), 2 fields"><img [^>]*src="(/thumb/[^"]+)"', page)
    assert [(s, well) for s, well, _ in cells] == [("0", "B03"), ("2", "D11")]
    assert len(re.findall(r'<th scope="row">[A-P]</th>', page)) == 16
    assert portal.get("/api/entries/screen").json["plate"]["wells"][1] == {
        "well": "D11",
        "row": 3,
        "column": 10,
        "scene": 2,
        "path": "D/11/1",
        "fields": 2,
    }
    pictures = [portal.get(address) for *_, address in cells]
    assert [p.status for p in pictures] == [200, 200]
    assert pictures[0].body != pictures[1].body
    assert portal.get("/thumb/screen.webp?scene=Z/9/9").status == 404


def test_fields_of_a_plate_are_lit_alike(portal: Portal) -> None:
    """The last well is the brightest: counted values rise from well to well."""
    import io

    from PIL import Image

    means = []
    for path in ("B/3/1", "B/3/2", "D/11/1", "D/11/2"):
        body = portal.get(f"/thumb/screen.png?scene={path}").body
        means.append(np.asarray(Image.open(io.BytesIO(body))).mean())
    assert all(low < high for low, high in itertools.pairwise(means))
