"""Azure Blob Storage, on an emulator: every kind of target is written, replaced, grown and read as on S3.

Needs ``pip install adlfs`` and ``npm install --global azurite``, which is no package of Python. At the end, adlfs says
"Loop is not running" for each file system that zarr opened; it does so without this package, too.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

adlfs = pytest.importorskip("adlfs")
AZURITE = shutil.which("azurite-blob")
if AZURITE is None:
    pytest.skip("azurite is not installed", allow_module_level=True)

from intake_img import imload, imsave, scan  # noqa: E402
from intake_img.errors import TargetExistsError  # noqa: E402

VALUES = np.arange(3 * 32 * 32, dtype="u2").reshape(3, 32, 32)
IMAGE = xr.Dataset({"image": (tuple("tyx"), VALUES)})
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # of the emulator


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("azurite")
    command = [str(AZURITE), "--blobPort", str(port), "--location", str(folder), "--silent", "--skipApiVersionCheck"]
    with open(folder / "log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            url = f"http://127.0.0.1:{port}/{ACCOUNT}"
            options = {
                "connection_string": f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
                f"BlobEndpoint={url};"
            }
            _wait_for(port, server)
            adlfs.AzureBlobFileSystem(**options).mkdir("images")
            yield options
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the emulator did not start")


def _hidden(azure: dict[str, Any]) -> list[str]:
    fs = adlfs.AzureBlobFileSystem(**azure)
    fs.invalidate_cache()
    return [name for name in fs.find("images") if "/." in name]


@pytest.mark.parametrize("extension", [".npy", ".npz", ".ome.tif", ".zarr", ".zarr.zip", ".nii.gz"])
def test_targets_and_their_parts(azure: dict[str, Any], extension: str) -> None:
    url, parts = f"az://images/a{extension}", f"az://images/parts{extension}/a{extension}"
    imsave(VALUES, url, storage_options=azure)
    with pytest.raises(TargetExistsError):
        imsave(VALUES, url, storage_options=azure)
    imsave(VALUES + 1, url, overwrite=True, storage_options=azure)
    np.testing.assert_array_equal(imload(url, storage_options=azure).image, VALUES + 1)
    assert len(imsave(VALUES, parts, partition="yx", storage_options=azure)) == 3
    np.testing.assert_array_equal(imload(parts, storage_options=azure).image, VALUES)
    assert not _hidden(azure)


def test_pyramids_and_stores_that_grow(azure: dict[str, Any]) -> None:
    url = "az://images/grown.zarr"
    imsave(IMAGE.isel(t=[0, 1]), url, pyramid=1, chunks={"t": 2, "y": 16, "x": 16}, storage_options=azure)
    imsave(IMAGE.isel(t=[2]), url, append_dim="t", storage_options=azure)
    np.testing.assert_array_equal(imload(url, storage_options=azure).image, VALUES)
    assert imload(url, level=1, storage_options=azure).image.shape == (3, 16, 16)
    assert not _hidden(azure)


def test_patches_and_catalogs(azure: dict[str, Any]) -> None:
    patches, url = IMAGE.image.img.patches({"y": 8, "x": 8}), "az://images/maps/m.zarr"
    for k in (1, 2):
        options = {"model_id": str(k), "batch_size": 8, "overwrite": True, "storage_options": azure}
        patches.map(lambda batch, k=k: batch + np.uint16(k), store=url, **options)
        np.testing.assert_array_equal(imload(url, storage_options=azure).image, VALUES + k)
    assert not _hidden(azure)
    imsave(VALUES, "az://images/folder/b.npy", storage_options=azure)
    (source,) = scan("az://images/folder", storage_options=azure).values()
    assert source.uri == "az://images/folder/b.npy"
    np.testing.assert_array_equal(source.read().image, VALUES)
