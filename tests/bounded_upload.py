"""A large lazy image on S3: ``python tests/bounded_upload.py OPTIONS MIB``; OPTIONS is JSON for s3fs.

Prints how much memory the write took beyond that of a small one, and the most that lay in temporary files, in MiB.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile

import dask.array as da
import numpy as np
import xarray as xr

from intake_img import imload, imsave

CHUNK = (1, 1024, 1024)


def image(count: int) -> xr.DataArray:
    """Planes of 2 MiB that are made when they are asked for."""
    return xr.DataArray(
        da.map_blocks(_plane, chunks=((1,) * count, *CHUNK[1:]), dtype="u2"), dims=list("tyx"), name="image"
    )


def _plane(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
    k = block_info[None]["array-location"][0][0]
    return (np.arange(CHUNK[1] * CHUNK[2], dtype="u2") // 64 + np.uint16(k)).reshape(CHUNK)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main(storage: dict[str, object], mib: int) -> None:
    imsave(image(8), "s3://images/small.zarr", storage_options=storage)
    before, seen = peak(), [0]

    def look(_: int) -> None:
        files = (os.path.join(p, n) for p, _, names in os.walk(tempfile.gettempdir()) for n in names)
        seen.append(sum(os.path.getsize(f) for f in files))

    imsave(image(mib // 2), "s3://images/large.zarr", storage_options=storage, progress=look)
    grown = peak() - before
    found = imload("s3://images/large.zarr", {"t": [0, -1]}, storage_options=storage).image.values
    np.testing.assert_array_equal(found, image(mib // 2).isel(t=[0, -1]))
    print(json.dumps({"memory": grown, "disk": max(seen) / 2**20, "blocks": len(seen) - 1}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
