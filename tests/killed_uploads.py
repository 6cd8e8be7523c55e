"""Writes killed at random moments: ``python tests/killed_uploads.py OPTIONS KILLS SEED [ROOT]``.

OPTIONS is JSON for fsspec; ROOT is ``s3://images``, or a folder. A reader finds the old image or the new one, complete,
with its pyramid; the next write leaves nothing behind. All work is done in forks of this process, which itself has no
connection and no threads.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from functools import partial
from typing import Any

import fsspec
import numpy as np
import xarray as xr
from staging_laws import MODULES, image, in_fork

from intake_img import imload, imsave

CASES: dict[str, dict[str, Any]] = {
    "p.npy": {"partition": "yx"},
    "a.zarr": {"chunks": {"t": 1}},
    "a.npy": {},
    "patches.zarr": {"chunks": {"t": 1, "y": 4, "x": 4}},
    "pyramid.zarr": {"chunks": {"t": 1, "y": 2, "x": 2}, "pyramid": 1},
    "grown.zarr": {"chunks": {"t": 2, "y": 2, "x": 2}, "pyramid": 1},
}
OLD, NEW = 9, 8  # planes
GROWN = {OLD: 5, NEW: 8}
"""Planes of the store that grows; the next append makes `NEXT` of them."""
NEXT = 11
OUTCOMES = {10: "old", 11: "new", 12: "next"}


def content(name: str, planes: int) -> xr.Dataset:
    return image(NEXT).isel(t=slice(0, GROWN.get(planes, planes))) if name == "grown.zarr" else image(planes)


def save(planes: int, url: str, storage: dict[str, Any]) -> None:
    """Write an image, or what a model makes of it; an interrupted run of the same model is gone on with."""
    name = url.rpartition("/")[2]
    common = {**CASES[name], "overwrite": True, "storage_options": storage or None}
    if name == "patches.zarr":
        patches = image(planes).image.img.patches({"y": 4, "x": 4})
        patches.map(lambda batch: batch, store=url, batch_size=2, model_id=str(planes), resume=True, **common)
    elif name == "grown.zarr" and planes != OLD:
        begun = imload(url, storage_options=storage or None).sizes["t"]
        more = content(name, planes).isel(t=slice(begun, None))
        imsave(more, url, append_dim="t", storage_options=storage or None)
    else:
        imsave(content(name, planes), url, **common)


def read(url: str, storage: dict[str, Any]) -> int:
    """Return the code of what a reader finds."""
    name = url.rpartition("/")[2]
    levels = range(1 + CASES[name].get("pyramid", 0))
    found = [imload(url, level=level, storage_options=storage or None).image.values for level in levels]
    for code, planes in ((10, OLD), (11, NEW), (12, NEXT)):
        imsave(content(name, planes), "memory://whole.zarr", overwrite=True, **CASES[name] if len(levels) > 1 else {})
        whole = [imload("memory://whole.zarr", level=level).image.values for level in levels]
        if all(map(np.array_equal, found, whole)):
            return code
    raise AssertionError(f"{url} opens as {[f[:, 0, 0].tolist() for f in found]}")


def left(url: str, storage: dict[str, Any]) -> int:
    """Return how many hidden objects there are."""
    fs, root = fsspec.url_to_fs(url.rpartition("/")[0], **storage)
    return len([p for p in fs.find(root, withdirs=True) if "/." in p])


def killed(work: Any, seconds: float) -> None:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def trial(url: str, storage: dict[str, Any], rng: random.Random) -> tuple[str, float]:
    """Kill a write; return what a reader found then, and how long an undisturbed write took."""
    last = NEXT if url.endswith("grown.zarr") else NEW
    old, new, again = (partial(save, planes, url, storage) for planes in (OLD, NEW, last))
    start = time.perf_counter()
    assert in_fork(old) == 0
    duration = time.perf_counter() - start
    killed(new, rng.uniform(0.2, 1.2) * duration)
    code = in_fork(lambda: read(url, storage))
    assert code in (10, 11), f"{url}: neither old nor new"
    assert in_fork(again) == 0, f"{url} cannot be written again"
    assert in_fork(lambda: read(url, storage)) == (12 if last == NEXT else 11)
    assert in_fork(lambda: left(url, storage)) == 0, f"{url}: something is left after writing again"
    return OUTCOMES[code], duration


def main(storage: dict[str, Any], kills: int, seed: int, root: str = "s3://images") -> None:
    for module in [*MODULES.split(), *(["s3fs", "aiobotocore.session"] if "://" in root else [])]:
        importlib.import_module(module)  # so that a child need not
    rng, found = random.Random(seed), Counter[str]()
    durations: dict[str, float] = {}
    for k in range(kills):
        name = list(CASES)[k % len(CASES)]
        if "://" not in root:
            os.makedirs(f"{root}/{k}")
        outcome, durations[name] = trial(f"{root}/{k}/{name}", storage, rng)
        found[f"{name} {outcome}"] += 1
    print(json.dumps({"kills": kills, "found": dict(sorted(found.items())), "seconds": durations}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
