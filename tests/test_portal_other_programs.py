"""How the portal hands images to other programs: texts to copy, and links.

The views of Neuroglancer and the links of Avivator were driven in a browser against these programs; here their parts
are checked.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import xarray as xr
from portal_server import Portal, serving

from intake_img import imload, imsave
from intake_img.create.examples import catalog_path

pytest.importorskip("uvicorn")
KEEPS_FILES_OPEN = True  # a portal does, by design

_HOSTILE = "a'\"<b>${x}\\"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other_programs")
    values = (np.arange(3 * 2 * 4 * 90 * 120).reshape(3, 2, 4, 90, 120) % 900).astype("u2")
    spacing = {"z": (0.5, "µm"), "y": (0.25, "µm"), "x": (0.2, "µm"), "t": (2.0, "min")}
    ds = xr.Dataset({"image": (tuple("tczyx"), values)}, coords={"c": ["DAPI", _HOSTILE]})
    for axis, (step, unit) in spacing.items():
        told = {"units": unit, "spacing": step}
        ds = ds.assign_coords({axis: (axis, step * np.arange(ds.sizes[axis]), told)})
    labels = xr.DataArray((values[0, 0] // 300).astype("i4"), dims=tuple("zyx"), attrs={"kind": "labels"})
    imsave(ds.assign(cells=labels), folder / "images" / "cells.zarr")
    imsave(xr.Dataset({"image": (tuple("yx"), np.zeros((9, 8)))}), folder / "images" / "floats.zarr")
    return folder / "images"


@pytest.fixture(scope="module")
def portal(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("served")
    places = [images, catalog_path("samples.yml")]
    with serving(places, folder, origins=("https://avivator.gehlenborglab.org",), download_bytes=1_000_000) as one:
        yield one


def _page(portal: Portal, path: str, status: int = 200, **headers: str) -> str:
    reply = portal.get(path, **headers)
    assert reply.status == status, reply.body
    return reply.body.decode()


def _state(portal: Portal, name: str) -> dict[str, Any]:
    page = _page(portal, f"/neuroglancer/{name}")
    address = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]*)">', page)
    assert address is not None
    link = re.search(r'<a rel="noreferrer" href="([^"]*)"', page)
    assert link is not None
    assert link[1] == address[1]
    site, _, told = html.unescape(address[1]).partition("/#!")
    assert site == "https://neuroglancer-demo.appspot.com"
    return json.loads(unquote(told))


def test_neuroglancer_gets_axes_channels_limits_and_labels(portal: Portal) -> None:
    state = _state(portal, "images/cells")
    url = f"http://127.0.0.1:{portal.port}/data/images/cells.zarr"
    expected = {"x": [2e-7, "m"], "y": [2.5e-7, "m"], "z": [5e-7, "m"], "t": [120.0, "s"]}
    assert list(state["dimensions"]) == list(expected)
    for axis, (scale, unit) in expected.items():
        assert state["dimensions"][axis] == [pytest.approx(scale, rel=1e-12), unit]
    assert state["displayDimensions"] == ["x", "y", "z"]
    assert state["crossSectionScale"] == pytest.approx(90 * 0.25 / 600 / 0.2)
    document = portal.get("/data/images/cells.zarr/zarr.json").json["attributes"]["ome"]
    first, second, cells = state["layers"]
    for k, (layer, told) in enumerate(zip((first, second), document["omero"]["channels"], strict=True)):
        window = told["window"]
        assert layer["source"] == f"{url}/|zarr3:"
        assert (layer["localDimensions"], layer["localPosition"]) == ({"c'": [1, ""]}, [k])
        assert layer["shaderControls"]["contrast"]["range"] == [window["start"], window["end"]]
        assert layer["shaderControls"]["color"] == "#" + told["color"]
        assert layer["blend"] == "additive"
        assert layer["name"].endswith(told["label"])
    assert second["name"].endswith(_HOSTILE)
    assert (cells["type"], cells["source"]) == ("segmentation", f"{url}/labels/cells/|zarr3:")


def test_neuroglancer_gets_the_first_of_several_images(portal: Portal) -> None:
    name = next(n for n in portal.library.items if len(portal.get(f"/api/entries/{n}").json.get("series", [])) > 1)
    path = portal.get(f"/api/entries/{name}").json["series"][0]["path"]
    assert path
    assert f"/data/{name}.zarr/{path}/|zarr3:" in _state(portal, name)["layers"][0]["source"]
    assert f"/data/{name}.zarr/{path}" in unquote(_page(portal, f"/e/{name}"))


def test_neuroglancer_refuses_with_the_reason(portal: Portal) -> None:
    assert "cannot show float64 samples" in _page(portal, "/neuroglancer/images/floats", 422)
    assert "no image of this name" in _page(portal, "/neuroglancer/images/absent", 404)


def test_the_page_states_what_a_viewer_lacks(portal: Portal, images: Path, tmp_path: Path) -> None:
    page = _page(portal, "/e/images/cells")
    assert "Open in Neuroglancer</a> <small>needs --cors https://neuroglancer-demo.appspot.com</small>" in page
    assert "Open in Avivator</a></li>" in page
    with serving([images], tmp_path, token="secret") as guarded:
        page = _page(guarded, "/e/cells", Authorization="Bearer secret")
        assert page.count("<small>cannot send a token</small>") == 2
        assert guarded.get("/neuroglancer/cells").status == 303


def test_the_script_of_qupath_downloads_the_image(portal: Portal, images: Path, tmp_path: Path) -> None:
    page = html.unescape(_page(portal, "/e/images/cells"))
    address = re.search(r"new URI\('http://127\.0\.0\.1:\d+(/download/[^']*)'\)", page)
    assert address is not None
    (tmp_path / "cells.ome.tif").write_bytes(portal.get(address[1]).body)
    np.testing.assert_array_equal(
        imload(tmp_path / "cells.ome.tif").image, imload(f"{portal.url}/data/images/cells.zarr").image
    )
    assert "'Authorization'" not in page
    with serving([images], tmp_path / "guarded", token="secret", download_bytes=100_000) as guarded:
        assert "QuPath" not in _page(guarded, "/e/cells", Authorization="Bearer secret")  # too large to download
        floats = html.unescape(_page(guarded, "/e/floats", Authorization="Bearer secret"))
        assert "link.setRequestProperty('Authorization', 'Bearer TOKEN')" in floats
