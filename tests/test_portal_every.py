"""Every format and every real file, served: the store equals its source.

Law: for each image of each entry, zarr-python reads the pixels of the source at level 0, `imload(url)` restores pixels,
axes, units, spacing, origin, names of channels and labels, and yaozarrs finds the store valid. Of images of very many
chunks the first, a middle and the last index of each axis are compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_samples
import numpy as np
import pytest
import xarray as xr
from portal_server import Portal, serving

from intake_img import imload
from intake_img.create.examples import catalog_path

pytest.importorskip("uvicorn")
zarr = pytest.importorskip("zarr")
validate_zarr_store = pytest.importorskip("yaozarrs").validate_zarr_store
KEEPS_FILES_OPEN = True  # a portal does, by design

_ABOUT_FILE = ("uri", "driver", "scene", "scenes", "original_axes", "original_shape", "fileheader")
_MANY = 300  # chunks
_PARTS = 6  # tests of real files: one would take minutes
_SERIES = 8  # images of an entry that are compared


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with serving([catalog_path("samples.yml")], tmp_path_factory.mktemp("samples")) as one:
        yield one


@pytest.mark.every_case
@pytest.mark.parametrize("driver", make_samples.own_drivers())
def test_a_sample_of_each_driver_is_served_as_it_is(samples: Portal, driver: str) -> None:
    _check(samples, driver)


@pytest.fixture(scope="module")
def real(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with serving([data], tmp_path_factory.mktemp("real"), seconds=60.0) as one:
        assert len(one.library.items) > 150
        yield one


@pytest.mark.thorough
@pytest.mark.every_case
@pytest.mark.filterwarnings("default::UserWarning")  # some of these files are damaged or incomplete
@pytest.mark.parametrize("part", range(_PARTS))
def test_real_files_are_served_as_they_are(real: Portal, part: int) -> None:
    wrong = {}
    for name in sorted(real.library.items)[part::_PARTS]:
        try:
            _check(real, name)
        except Exception as exc:  # all of a part are told together
            wrong[name] = f"{type(exc).__name__}: {exc}"
    assert not wrong


def _check(portal: Portal, name: str) -> None:
    """Compare all images of an entry with those of its source."""
    item = portal.library.items[name]
    url = f"{portal.url}/data/{item.id}.zarr"
    source, series = item.entry(), portal.get(f"/api/entries/{item.id}").json["series"]
    with imload(source) as first:
        scenes = first.attrs.get("scenes", ["0"])
        several = len(series) > 1
        if several:
            validate_zarr_store(f"{url}/")
        for k in range(0, len(series), max(1, len(series) // _SERIES)):
            path, title = series[k]["path"], series[k]["name"]
            wells = [scene.replace("/", "", 1) for scene in scenes]  # those of a plate are served in another order
            number = wells.index(title) if title in wells else k * len(scenes) // len(series)
            options = {"scene": number} if several and len(scenes) > 1 else {}
            place = {a: int(n) for a, n in re.findall(r"\b([a-z]+)=(\d+)", title)} if several else {}
            with imload(source, **options) if options else first.copy() as whole:
                wanted = whole.isel({a: [n] for a, n in place.items()})
                _same(f"{url}/{path}".rstrip("/"), wanted)


def _same(url: str, wanted: xr.Dataset) -> None:
    planar = [a for a in wanted.sizes if a in "zyx"]
    if len(planar) >= 2:  # OME-Zarr has no place for a line
        validate_zarr_store(f"{url}/")
    where = _few(wanted.sizes)
    with imload(url) as served:
        xr.testing.assert_identical(_plain(served.isel(where)), _plain(wanted.isel(where)))
    group = zarr.open_group(f"{url}/", mode="r", zarr_format=3)
    for key, variable in wanted.data_vars.items():
        array = _level_0(group, key)
        if array is None:
            continue
        axes, stored = array
        lean = variable.squeeze([a for a in variable.dims if a not in axes], drop=True).transpose(*axes)
        few = _few(lean.sizes)
        found = stored.oindex[tuple(few.get(a, slice(None)) for a in axes)]
        np.testing.assert_array_equal(found, lean.isel(few).values)


def _few(sizes: Any) -> dict[str, list[int]]:
    """Return some indices of the axes other than y and x, if there are many chunks."""
    further = {a: n for a, n in sizes.items() if a not in ("y", "x")}
    if math.prod(further.values()) <= _MANY:
        return {}
    return {a: sorted({0, n // 2, n - 1}) for a, n in further.items()}


def _level_0(group: Any, key: str) -> tuple[list[str], Any] | None:
    """Return the names of the axes and the array of a variable as other programs find it; None if they cannot."""
    for path in (f"labels/{key}", f"labels/var_{key}", key, f"var_{key}", ""):
        node = group if not path else group.get(path)
        told = {} if node is None else node.attrs.get("ome", {})
        if "multiscales" in told:
            first = told["multiscales"][0]
            return [a["name"] for a in first["axes"]], node[first["datasets"][0]["path"]]
    return None


def _plain(ds: xr.Dataset) -> xr.Dataset:
    """Return an image without attributes that state where its file lies."""
    found = ds.load().copy()
    found.attrs = {k: v for k, v in ds.attrs.items() if k not in _ABOUT_FILE}
    return found
