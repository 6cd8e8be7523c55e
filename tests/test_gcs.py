"""Google Cloud Storage, on an emulator: every kind of target is written, replaced, grown and read as on S3.

Needs ``pip install gcsfs gcp-storage-emulator``, which the extras leave out: their protobuf may not be TensorFlow's.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # which asks Google's own servers, by gRPC
gcsfs = pytest.importorskip("gcsfs")
emulator = pytest.importorskip("gcp_storage_emulator.server")

from intake_img import imload, imsave, scan  # noqa: E402
from intake_img.errors import TargetExistsError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LimitedMetadata")
VALUES = np.arange(3 * 32 * 32, dtype="u2").reshape(3, 32, 32)
IMAGE = xr.Dataset({"image": (tuple("tyx"), VALUES)})


@pytest.fixture(scope="module")
def gcs() -> Iterator[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="images")
    server.start()
    url = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        yield {"endpoint_url": url, "token": "anon", "project": "test"}
    server.stop()


def _hidden(gcs: dict[str, Any]) -> list[str]:
    return [name for name in gcsfs.GCSFileSystem(**gcs).find("images") if "/." in name]


@pytest.mark.parametrize("extension", [".npy", ".npz", ".ome.tif", ".zarr", ".zarr.zip", ".nii.gz"])
def test_targets_and_their_parts(gcs: dict[str, Any], extension: str) -> None:
    url, parts = f"gs://images/a{extension}", f"gs://images/parts{extension}/a{extension}"
    imsave(VALUES, url, storage_options=gcs)
    with pytest.raises(TargetExistsError):
        imsave(VALUES, url, storage_options=gcs)
    imsave(VALUES + 1, url, overwrite=True, storage_options=gcs)
    np.testing.assert_array_equal(imload(url, storage_options=gcs).image, VALUES + 1)
    assert len(imsave(VALUES, parts, partition="yx", storage_options=gcs)) == 3
    np.testing.assert_array_equal(imload(parts, storage_options=gcs).image, VALUES)
    assert not _hidden(gcs)


def test_pyramids_and_stores_that_grow(gcs: dict[str, Any]) -> None:
    url = "gs://images/grown.zarr"
    imsave(IMAGE.isel(t=[0, 1]), url, pyramid=1, chunks={"t": 2, "y": 16, "x": 16}, storage_options=gcs)
    imsave(IMAGE.isel(t=[2]), url, append_dim="t", storage_options=gcs)
    np.testing.assert_array_equal(imload(url, storage_options=gcs).image, VALUES)
    assert imload(url, level=1, storage_options=gcs).image.shape == (3, 16, 16)
    assert not _hidden(gcs)


def test_patches_and_catalogs(gcs: dict[str, Any]) -> None:
    patches, url = IMAGE.image.img.patches({"y": 8, "x": 8}), "gs://images/maps/m.zarr"
    for k in (1, 2):
        options = {"model_id": str(k), "batch_size": 8, "overwrite": True, "storage_options": gcs}
        patches.map(lambda batch, k=k: batch + np.uint16(k), store=url, **options)
        np.testing.assert_array_equal(imload(url, storage_options=gcs).image, VALUES + k)
    assert not _hidden(gcs)
    imsave(VALUES, "gs://images/folder/b.npy", storage_options=gcs)
    (source,) = scan("gs://images/folder", storage_options=gcs).values()
    assert source.uri == "gs://images/folder/b.npy"
    np.testing.assert_array_equal(source.read().image, VALUES)
