"""The portal's stores in zarrita, the reader of Zarr in browsers (Viv, Avivator, Vizarr).

Law: for every array of every entry, zarrita reads shape, dtype and samples as zarr-python does, whose equality with the
source `test_portal_every` checks. Run ``npm install zarrita`` in a folder that the environment variable ``ZARRITA``
names; without it, or without node, the tests are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from portal_server import Portal, serving

from intake_img import imsave
from intake_img.create.examples import catalog_path

pytest.importorskip("uvicorn")
zarr = pytest.importorskip("zarr")
KEEPS_FILES_OPEN = True  # a portal does, by design

FOLDER = os.environ.get("ZARRITA", "")
SCRIPT = Path(__file__).with_name("zarrita_digests.mjs")
pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and (Path(FOLDER) / "node_modules" / "zarrita").is_dir() and FOLDER),
    reason="needs node, and zarrita in the folder of the environment variable ZARRITA",
)
_MOST = 2**25  # bytes of an array


def _arrays(portal: Portal, name: str) -> dict[str, Any]:
    """Return the arrays of all images of an entry by their addresses."""
    found = {}
    for one in portal.get(f"/api/entries/{name}").json["series"]:
        url = f"{portal.url}/data/{name}.zarr/{one['path']}".rstrip("/")
        group = zarr.open_group(f"{url}/", mode="r", zarr_format=3)
        members = dict(group.members(max_depth=None))
        found |= {f"{url}/{path}": a for path, a in members.items() if isinstance(a, zarr.Array) and a.nbytes < _MOST}
    return found


def _by_zarrita(addresses: list[str]) -> dict[str, dict[str, Any]]:
    command = ["node", "--input-type=module", "-", *addresses]
    done = subprocess.run(command, cwd=FOLDER, input=SCRIPT.read_bytes(), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def _by_zarr_python(array: Any) -> dict[str, Any]:
    values = np.ascontiguousarray(array[...]).astype(array.dtype.newbyteorder("<"), copy=False)
    names = list(array.metadata.dimension_names)
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": array.dtype.name, "names": names, "digest": digest}


def test_every_dtype_and_edge_chunks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for dtype in ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        values = (random.standard_normal((2, 20, 530)) * 100).astype(dtype)
        imsave(xr.Dataset({"image": (tuple("cyx"), values)}), tmp_path / "images" / f"{dtype}.zarr")
    with serving([tmp_path / "images"], tmp_path) as portal:
        wanted: dict[str, Any] = {}
        for name in portal.library.items:
            wanted |= _arrays(portal, name)
        found = _by_zarrita(list(wanted))
        assert len({one.dtype for one in wanted.values()}) == 11
        assert found == {address: _by_zarr_python(array) for address, array in wanted.items()}


@pytest.mark.thorough
def test_the_sample_of_each_driver(tmp_path: Path) -> None:
    with serving([catalog_path("samples.yml")], tmp_path) as portal:
        wanted: dict[str, Any] = {}
        for name in portal.library.items:
            wanted |= _arrays(portal, name)
        known = {a: one for a, one in wanted.items() if one.dtype.kind != "c" and one.dtype != np.float16}
        assert len(known) > 40
        assert _by_zarrita(list(known)) == {address: _by_zarr_python(array) for address, array in known.items()}
