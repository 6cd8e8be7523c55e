"""What is written to servers goes there directly: little memory, no local files, for every kind of result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem
from thoroughness import THOROUGH

from intake_img import imload, imsave
from intake_img.errors import TargetExistsError

pytestmark = pytest.mark.thorough

MIB = 2048 if THOROUGH else 48


def test_a_large_lazy_image_needs_little_memory_and_no_disk(s3: dict[str, Any], tmp_path: Path) -> None:
    """An image of 2 GB in a thorough run; the limit holds for any size."""
    script = str(Path(__file__).with_name("bounded_upload.py"))
    command = [sys.executable, "-W", "ignore", script, json.dumps(s3), str(MIB)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(run.stdout)
    assert found["blocks"] >= MIB / 64
    assert found["disk"] < 1
    assert found["memory"] < min(300, MIB)


def test_reports_and_series_on_a_server(tmp_path: Path) -> None:
    """Their bytes equal those of local files."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 99, (1, 2, 16, 16)).astype("u2")
    image = xr.DataArray(values, dims=list("tcyx"), name="image", coords={"c": ["A", "B"]})
    url, files = f"memory://{tmp_path.name}", fsspec.filesystem("memory")
    for root in (url, str(tmp_path)):
        image.img.coloc.report(f"{root}/report.html")
        image.isel(c=0).img.to_tif(f"{root}/series")
        imsave(image, f"{root}/members/f.tif", partition="yx", resume=True)
    local = {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    remote = {n.partition(f"{tmp_path.name}/")[2]: files.cat(n) for n in files.find(f"/{tmp_path.name}")}
    assert remote.keys() == local.keys()
    assert [n for n in local if local[n] != remote[n]] == []
    assert imload(f"{url}/members/f.tif").image.equals(image)


class Shelf(MemoryFileSystem):
    """A server like WebDAV: it takes no options that it does not know, and renames to no name that exists."""

    protocol = "shelf"
    store: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("shelf://", "memory://"))

    def mv(self, path1: str, path2: str, recursive: bool = False, **options: Any) -> None:
        if self.exists(path2):
            raise FileExistsError(path2)
        super().mv(path1, path2, recursive=recursive)


@pytest.mark.parametrize("extension", [".npy", ".ome.tif", ".zarr", ".zarr.zip"])
def test_servers_that_are_no_object_stores(extension: str, tmp_path: Path) -> None:
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    values = np.arange(3 * 16 * 16, dtype="u2").reshape(3, 16, 16)
    url, again = f"shelf://{tmp_path.name}/a{extension}", f"shelf://{tmp_path.name}/p/a{extension}"
    imsave(values, url)
    with pytest.raises(TargetExistsError):
        imsave(values, url)
    before = imload(url)
    imsave(values + 1, url, overwrite=True)
    np.testing.assert_array_equal(imload(url).image, values + 1)
    assert before.image.shape == values.shape
    imsave(values, again, partition="yx")
    np.testing.assert_array_equal(imload(again).image, values)
    assert not [name for name in Shelf().find(tmp_path.name) if "/." in name]


def test_patches_on_a_server_that_is_no_object_store(tmp_path: Path) -> None:
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    values = np.arange(3 * 16 * 16, dtype="u2").reshape(3, 16, 16)
    patches = xr.DataArray(values, dims=list("tyx"), name="image").img.patches({"y": 8, "x": 8})
    url = f"shelf://{tmp_path.name}/a.zarr"
    for k in (1, 2):
        patches.map(lambda b, k=k: b + np.uint16(k), store=url, model_id=str(k), batch_size=4, overwrite=True)
        np.testing.assert_array_equal(imload(url).image, values + k)
