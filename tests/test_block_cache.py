"""``cache="folder"``: blocks of files on servers are kept on the disk; each is requested once for each version."""

import os
import pickle
from pathlib import Path

import dask
import intake
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from servers import MODES, serving

from intake_img import imload, imsave
from intake_img.catalog import open_catalog
from intake_img.errors import CatalogError
from intake_img.storage.files import File
from intake_img.storage.kept_blocks import BLOCK, BlockFolder

NAMES = ["a.ome.tif", "a.npy", "a.npz", "a.png", "a.nii.gz", "a.czi", "a.h5"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    values = np.random.default_rng(0).integers(0, 4000, (3, 300, 400)).astype("uint16")
    for name in NAMES:
        image = values[0] if name == "a.png" else values
        axes = "yx" if name == "a.png" else "zyx"
        imsave(xr.DataArray(image, dims=list(axes)), folder / name)
    for k in range(3):
        np.save(folder / f"p_{k}.npy", values[k])
    return folder


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_a_second_read_requests_no_content(name, mode, samples, tmp_path):
    with serving(samples, **MODES[mode]) as (url, handler):
        first = imload(f"{url}/{name}", cache=tmp_path / "kept").load()
        xr.testing.assert_equal(first, imload(samples / name).load())
        if "sizes" in mode or mode == "chunked":
            return  # nothing can be kept without a size, and the image is right all the same
        assert handler.log
        assert any(path.is_file() for path in (tmp_path / "kept").rglob("*"))
        handler.log.clear()
        xr.testing.assert_identical(imload(f"{url}/{name}", cache=str(tmp_path / "kept")).load(), first)
        assert handler.log == []


def test_without_it_a_second_read_requests_content(samples):
    with serving(samples) as (url, handler):
        imload(f"{url}/a.npy").load()
        handler.log.clear()
        imload(f"{url}/a.npy").load()
        assert handler.log


def test_only_missing_blocks_are_requested(tmp_path):
    values = np.arange(8 * 512 * 512, dtype="uint16").reshape(8, 512, 512)
    np.save(tmp_path / "a.npy", values)
    with serving(tmp_path) as (url, handler), dask.config.set(scheduler="synchronous"):
        for part in (3, slice(2, 5), slice(None)):
            got = imload(f"{url}/a.npy", cache=tmp_path / "kept")["image"].isel(z=part).values
            np.testing.assert_array_equal(got, values[part])
        total = sum(n for _, n in handler.log)
        assert total == (tmp_path / "a.npy").stat().st_size  # each byte once


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_a_changed_file_is_read_again(name, tmp_path):
    old, new = (np.full((5, 50, 60), k, "uint8") for k in (1, 2))
    save = (
        (lambda v: tifffile.imwrite(tmp_path / name, v)) if name == "a.tif" else lambda v: np.save(tmp_path / name, v)
    )
    with serving(tmp_path) as (url, _):
        for values in (old, new, old):
            save(values)
            np.testing.assert_array_equal(imload(f"{url}/{name}", cache=tmp_path / "kept")["image"].values, values)


def test_a_damaged_block_is_read_again(samples, tmp_path):
    with serving(samples) as (url, _):
        first = imload(f"{url}/a.npy", cache=tmp_path).load()
        for path in tmp_path.rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[:-1])
        xr.testing.assert_identical(imload(f"{url}/a.npy", cache=tmp_path).load(), first)


@pytest.mark.parametrize("many", ["list", "pattern", "img"])
def test_many_files(many, samples, tmp_path):
    with serving(samples) as (url, handler):
        urls = [f"{url}/p_{k}.npy" for k in range(3)]
        options = {"cache": tmp_path / "kept", "axis": "t"}
        source = {
            "list": lambda: intake.open_imagelist(urls, **options),
            "img": lambda: intake.open_img(urls, **options),
            "pattern": lambda: intake.open_imagelist([File.parse(u) for u in urls], **options),
        }[many]
        first = source().read()
        source().close()
        assert first["image"].sizes["t"] == 3
        handler.log.clear()
        xr.testing.assert_identical(source().read(), first)
        xr.testing.assert_identical(pickle.loads(pickle.dumps(source())).read(), first)
        assert handler.log == []


def test_sources_keep_the_option(samples, tmp_path):
    with serving(samples) as (url, handler):
        source = intake.open_npy(f"{url}/a.npy", cache=str(tmp_path / "kept"))
        first = source.read()
        assert source.uri == f"{url}/a.npy" == first.attrs["uri"]
        assert source._yaml()["sources"]["npy"]["args"] == {"uri": f"{url}/a.npy", "cache": str(tmp_path / "kept")}
        handler.log.clear()
        for again in (
            pickle.loads(pickle.dumps(source)),
            source.renewed(chunks=None),
            intake.open_npy(**source.arguments()),
        ):
            xr.testing.assert_equal(again.read(), first)
        assert handler.log == []
        assert source != intake.open_npy(f"{url}/a.npy")


def test_what_is_refused(samples, tmp_path):
    for uri in (
        samples / "a.npy",
        f"file://{samples}/a.npy",
        "simplecache::http://127.0.0.1:1/a.npy",
        [samples / "a.npy"],
    ):
        with pytest.raises(ValueError, match="is for files on servers"):
            imload(uri, cache=tmp_path)
    with pytest.raises(TypeError, match="path of a folder"):
        imload("http://127.0.0.1:1/a.npy", cache=5)
    imsave(np.zeros((4, 5), "uint8"), tmp_path / "a.zarr")
    with serving(tmp_path) as (url, _), pytest.raises(ValueError, match="filecache::"):
        imload(f"{url}/a.zarr", cache=tmp_path / "kept")


def test_untrusted_catalogs_choose_no_folder(samples, tmp_path):
    with serving(samples) as (url, handler):
        text = f"sources:\n  a:\n    driver: npy\n    args: {{uri: '{url}/a.npy', cache: /tmp/x}}\n"
        (tmp_path / "c.yml").write_text(text)
        with pytest.raises(CatalogError, match="it writes files"):
            open_catalog(tmp_path / "c.yml", schemes="http")
        (tmp_path / "c.yml").write_text(text.replace(", cache: /tmp/x", ""))
        catalog = open_catalog(tmp_path / "c.yml", schemes="http")
        first = imload(catalog["a"], cache=tmp_path / "kept").load()
        handler.log.clear()
        xr.testing.assert_identical(catalog.entries["a"](cache=tmp_path / "kept").read(), first)
        assert handler.log == []


@given(st.integers(1, 3 * BLOCK), st.lists(st.tuples(st.integers(0, 3 * BLOCK), st.integers(0, 2 * BLOCK)), max_size=4))
def test_blocks_are_fetched_once(tmp_path_factory, size, spans):
    content, fetched = np.random.default_rng(size).bytes(size), []

    def fetch(wanted):
        fetched.extend(k for start, stop in wanted for k in range(start // BLOCK, -(-stop // BLOCK)))
        return [content[start:stop] for start, stop in wanted]

    folder = tmp_path_factory.mktemp("blocks")
    spans = [(min(a, size - 1), min(a + n, size)) for a, n in spans if min(a, size - 1) < min(a + n, size)]
    for _ in range(2):
        assert BlockFolder(os.fspath(folder), "url", size, fetch).read(spans) == [content[a:b] for a, b in spans]
    assert len(fetched) == len(set(fetched))
    assert not list(folder.rglob(".*"))
