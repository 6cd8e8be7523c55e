"""The portal's data: every entry is an OME-Zarr 0.5 store that is equal to its source, for every reader.

Law: for each entry, `imload(url)` equals `imload` of the file in pixels, axes, coordinates and attributes (those that
tell where the file lies aside); zarr-python reads the same pixels; yaozarrs finds the store valid.
"""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import intake
import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml
from portal_server import serving

from intake_img import imload, imsave
from intake_img.create.examples import catalog_path
from intake_img.doors.demo import make_samples
from intake_img.portal.library import slug
from intake_img.portal.virtual_store import node
from intake_img.storage.handles import POOL

pytest.importorskip("uvicorn")
zarr = pytest.importorskip("zarr")
KEEPS_FILES_OPEN = True  # by design; `portal` looks at the pool when it has ended

_ABOUT_FILE = ("uri", "driver", "scene", "scenes", "original_axes", "original_shape", "fileheader")


def _images(folder: Path) -> dict[str, xr.Dataset]:
    """Images of several kinds: larger than a chunk, with labels, with more axes than OME-Zarr has, of odd dtypes."""
    random = np.random.default_rng(0)
    made = {}
    y, x = np.mgrid[:700, :1300]
    values = np.stack([(y * 3 + x) % 4000, (x * 2) % 900]).astype("u2")
    big = xr.Dataset({"image": (("c", "y", "x"), values)}, coords={"c": ["DAPI", "GFP"]})
    big = big.assign_coords(x=("x", 2 + 0.5 * np.arange(1300), {"units": "µm", "spacing": 0.5}))
    labels = xr.DataArray((values[0] // 500).astype("i4"), dims=("y", "x"), attrs={"kind": "labels"})
    made["big"] = big.assign(labels=labels)
    many = random.integers(0, 255, (2, 3, 2, 1, 20, 30)).astype("u1")
    made["many"] = xr.Dataset({"image": (tuple("itczyx"), many)}, coords={"i": ["first", "second"]})
    made["one"] = xr.Dataset({"image": (tuple("bhyx"), random.random((1, 1, 9, 11)).astype("f4"))})
    made["mask"] = xr.Dataset({"image": (tuple("zyx"), random.random((3, 17, 19)) > 0.5)})
    for name, ds in made.items():
        imsave(ds, folder / f"{name}.zarr", chunks=100 if name == "big" else None)
    return made


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portal")
    _images(folder)
    (folder / "demo").mkdir()
    make_samples(folder / "demo")
    sources = {
        n: {"driver": "img", "args": {"uri": "{{ CATALOG_DIR }}/" + f"{n}.zarr"}}
        for n in ("big", "many", "one", "mask")
    }
    sources["wells"] = {"driver": "czi", "args": {"uri": "{{ CATALOG_DIR }}/demo/wells.czi"}}
    sources["broken <b>"] = {"driver": "tif", "args": {"uri": "{{ CATALOG_DIR }}/broken.tif"}}
    (folder / "broken.tif").write_bytes(b"II*\0" + bytes(50))
    inner = {"cells": {"driver": "tif", "args": {"uri": "{{ CATALOG_DIR }}/demo/cells.tif"}}}
    (folder / "inner.yml").write_text(yaml.safe_dump({"sources": inner}))
    sources["inner"] = {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/inner.yml"}}
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": sources}))
    with serving([folder / "lab.yml", catalog_path("samples.yml")], folder) as one:
        yield one
    gc.collect()
    assert len(POOL) == 0, list(POOL._entries)


def _original(portal, name: str, **options) -> xr.Dataset:
    return imload(portal.library.items[name].entry(), **options)


def _plain(ds: xr.Dataset) -> xr.Dataset:
    """An image without attributes that state where its file lies."""
    attrs = {k: v for k, v in ds.attrs.items() if k not in _ABOUT_FILE}
    return ds.load().assign_attrs(attrs).drop_attrs(deep=False).assign_attrs(attrs)


def test_every_entry_is_equal_and_valid(portal):
    from yaozarrs import validate_zarr_store

    left_out = (
        "lab/broken",
        "lab/many",
        "lab/wells",
        "samples/imagelist",
        "samples/img",
        "samples/directory",
        "samples/ptu",
        "samples/sdt",
    )  # axes that OME-Zarr lacks
    names = [n for n in portal.library.items if not n.startswith(left_out)]
    assert len(names) > 9
    for name in names:
        url = f"{portal.url}/data/{name}.zarr"
        original = _original(portal, name)
        with imload(url) as served:
            xr.testing.assert_identical(_plain(served), _plain(original))
        group = zarr.open_group(f"{url}/", mode="r", zarr_format=3)
        if len(original.attrs["scenes"]) > 1 and "multiscales" not in group.attrs["ome"]:
            continue  # a collection of images
        told = group.attrs["ome"]["multiscales"][0]
        first = np.asarray(group[told["datasets"][0]["path"]][...])
        axes = [a["name"] for a in told["axes"]]
        squeezed = original["image"].squeeze([d for d in original["image"].dims if d not in axes])
        np.testing.assert_array_equal(first, squeezed.transpose(*axes).values)
        validate_zarr_store(f"{url}/")
        for channel in group.attrs["ome"]["omero"]["channels"]:
            assert channel["window"]["end"] <= max(1.0, float(original["image"].max()))
        original.close()


def test_scenes_and_further_axes_are_images_of_their_own(portal):
    from yaozarrs import validate_zarr_store

    url = f"{portal.url}/data/lab/many.zarr"
    validate_zarr_store(f"{url}/")
    with _original(portal, "lab/many") as original:
        for k, label in enumerate(original["i"].values):
            with imload(url, scene=k) as served:
                assert served.attrs["scenes"] == ["i=0", "i=1"]
                assert served["i"].item() == label
                np.testing.assert_array_equal(served["image"].isel(i=0), original["image"].isel(i=k))
    for k in range(2):
        with (
            imload(f"{portal.url}/data/lab/wells.zarr", scene=k) as served,
            _original(portal, "lab/wells", scene=k) as original,
        ):
            xr.testing.assert_identical(_plain(served), _plain(original))


def test_levels_that_the_file_lacks(portal):
    with imload(f"{portal.url}/data/lab/big.zarr", level=1) as coarse, _original(portal, "lab/big") as full:
        values = full["image"].values.astype(float)
        means = values.reshape(2, 350, 2, 650, 2).mean(axis=(2, 4))
        assert np.abs(coarse["image"].values - means).max() <= 0.5
        np.testing.assert_array_equal(coarse["labels"].values, full["labels"].values[::2, ::2])
        assert coarse["x"].attrs["spacing"] == 1.0
        assert coarse["x"].values[0] == 2.25
    assert list((Path(portal.library.places[0]).parent / "cache" / "blocks").glob("??/*"))


def test_the_catalog_opens_with_intake(portal):
    catalog = intake.open_catalog(f"{portal.url}/catalog.yml")
    assert set(catalog) == {"lab", "samples"}
    with catalog.lab.big.to_dask() as ds, _original(portal, "lab/big") as original:
        np.testing.assert_array_equal(ds["image"][0, :9], original["image"][0, :9])
    with catalog.lab.inner.cells.to_dask() as ds:
        assert ds.img.channels == ["DAPI", "GFP"]


def test_pixels_ranges_and_validators(portal):
    path = "/lab/big.zarr/0/c/1/1/2"
    document = portal.get("/data/lab/big.zarr/0/zarr.json").json
    _, y, x = document["chunk_grid"]["configuration"]["chunk_shape"]
    with _original(portal, "lab/big") as original:
        wanted = original["image"].values[1, y : 2 * y, 2 * x : 3 * x]
    for encoding, unpack in {"identity": bytes, "gzip": _gunzip, "zstd": _unzstd}.items():
        reply = portal.get(f"/pixels{path}", Accept_Encoding=encoding)
        assert reply.headers.get("content-encoding", "identity") == encoding
        np.testing.assert_array_equal(np.frombuffer(unpack(reply.body), "<u2"), wanted.ravel())
    whole = portal.get(f"/data{path}")
    tag = whole.headers["etag"]
    assert portal.get(f"/data{path}", If_None_Match=tag).status == 304
    for asked, part in {"0-9": whole.body[:10], "-7": whole.body[-7:], "5-": whole.body[5:]}.items():
        reply = portal.get(f"/data{path}", Range=f"bytes={asked}")
        assert (reply.status, reply.body) == (206, part)
    assert portal.get(f"/data{path}", Range="bytes=99999999-").status == 416
    assert portal.get(f"/data{path}", Range="bytes=0-1,3-4").body == whole.body
    head = portal.get(f"/data{path}", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(whole.body)))


def _gunzip(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


def _unzstd(data: bytes) -> bytes:
    from numcodecs.zstd import decompress

    return decompress(data)


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".zgroup",
        "zarr.json/",
        "0/c/0/9/9",
        "0/c/0/0",
        "0/c/-1/0/0",
        "0/c/00/0/0",
        "9/zarr.json",
        "labels/x/zarr.json",
        "0/c/0/0/0/zarr.json",
        "0/c/1e3/0/0",
    ],
)
def test_absent_keys_are_404(portal, key):
    reply = portal.get(f"/data/lab/big.zarr/{key}")
    assert (reply.status, reply.json["error"]) == (404, "not-found")


def test_the_page_of_an_image_names_all_modules_of_the_viewer(portal):
    page = portal.get("/e/lab/big").body.decode()
    named = set(re.findall(r'<link rel="modulepreload" href="([^"]+)">', page))
    needed, todo = set(), ["/static/viewer/intake-viewer.js"]
    while todo:
        path = todo.pop()
        if path not in needed:
            needed.add(path)
            script = portal.get(path).body.decode()
            todo += [
                f"/static/viewer/{name}" for name in re.findall(r'^import .* from "\./([\w-]+\.js)"', script, re.M)
            ]
    assert named == needed
    assert len(needed) > 10


def test_entries_are_opened_without_dask(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from intake_img.portal.app import make_app\n"
        "from intake_img.portal.library import Library\n"
        "from intake_img.portal.settings import Settings\n"
        "app = make_app(Library([sys.argv[1]], Path(sys.argv[2])), Settings(cache=Path(sys.argv[2])))\n"
        "item, = app.site.library.items.values()\n"
        "opened = app.site.open_entries.get(item)\n"
        "assert opened.store().documents and opened.facts\n"
        "assert opened.resolve('0/c/0/0')[0].encoded((slice(0, 8), slice(0, 9)))\n"
        "assert 'dask.array' not in sys.modules, 'it takes half a second'\n"
        "app.site.close()\n"
    )
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), "u1"))
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.tif"), str(tmp_path / "cache")], check=True)


def test_keys_are_told_apart():
    assert node("labels/a/2/c/0/10") == ("labels/a/2", (0, 10))
    assert node("labels/zarr.json") == ("labels", None)
    assert slug("../../x.zarr/") == "~2e~2e~2f~2e~2e~2fx~2ezarr~2f"


def test_a_broken_entry_costs_itself_alone(portal):
    name = next(n for n in portal.library.items if n.startswith("lab/broken"))
    reply = portal.get(f"/data/{name}.zarr/zarr.json")
    assert (reply.status, reply.json["error"]) == (422, "unreadable")
    assert "/" not in reply.json["detail"].replace("intake_img/", "")
    until = time.monotonic() + 15
    while portal.get("/health").json["indexed"] < len(portal.library.items) and time.monotonic() < until:
        time.sleep(0.1)
    found = {e["id"]: e for e in portal.get("/api/entries?limit=500").json["entries"]}
    assert len(found) == len(portal.library.items)
    assert found[name]["error"]
    assert found["lab/big"]["channels"] == ["DAPI", "GFP"]
    assert not found["lab/big"]["error"]


def test_search_and_facets(portal):
    test_a_broken_entry_costs_itself_alone(portal)  # the index is complete

    def ids(query: str) -> set[str]:
        return {e["id"] for e in portal.get(f"/api/entries?limit=500&{query}").json["entries"]}

    assert ids("q=nucleus+surround") == {"samples/tif"}
    assert "lab/inner/cells" in ids("channel=DAPI&format=tif")
    assert ids("folder=lab/inner") == {"lab/inner/cells"}
    for hostile in ('q="', "q=*", "q=NEAR(", "q=a%20OR%20b", "q=%00", "q=-x", "q='%3B--", "offset=-1&limit=0&sort=no"):
        assert portal.get(f"/api/entries?{hostile}").status == 200
    counts = portal.get("/api/facets").json
    assert dict(counts["channel"])["DAPI"] >= 3
    total = portal.get("/api/entries").json["total"]
    assert sum(n for _, n in counts["format"]) == total == len(portal.library.items)


def test_api_describes_itself(portal):
    description = portal.get("/api/openapi.json").json
    assert description["openapi"].startswith("3.")
    facts = portal.get("/api/entries/lab/big").json
    assert facts["facts"]["axes"]["x"] == {"size": 1300, "spacing": 0.5, "origin": 2.0, "unit": "µm"}
    assert str(Path(portal.library.places[0]).parent) not in json.dumps(facts)
    assert "portal_requests_total" in portal.get("/metrics").body.decode()
