"""Uploads killed at random moments: ``python tests/killed_uploads.py OPTIONS KILLS SEED``; OPTIONS is JSON for s3fs.

A reader finds the old image or the new one, complete; writing again leaves nothing behind. All work is done in forks of
this process, which itself has no connection and no threads.
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

import numpy as np
from staging_laws import MODULES, image, in_fork

from intake_img import imload, imsave

CASES: dict[str, dict[str, Any]] = {
    "p.npy": {"partition": "yx"},
    "a.zarr": {"chunks": {"t": 1}},
    "a.npy": {},
    "patches.zarr": {"chunks": {"t": 1, "y": 4, "x": 4}},
}
OLD, NEW = 9, 8  # planes
OUTCOMES = {10: "old", 11: "new"}


def save(planes: int, url: str, storage: dict[str, Any]) -> None:
    """Write an image, or what a model makes of it; an interrupted run of the same model is gone on with."""
    name = url.rpartition("/")[2]
    common = {**CASES[name], "overwrite": True, "storage_options": storage}
    if name == "patches.zarr":
        patches = image(planes).image.img.patches({"y": 4, "x": 4})
        patches.map(lambda batch: batch, store=url, batch_size=2, model_id=str(planes), resume=True, **common)
    else:
        imsave(image(planes), url, **common)


def read(url: str, storage: dict[str, Any]) -> int:
    """Return the code of what a reader finds."""
    found = imload(url, storage_options=storage).image.values
    whole = [code for code, planes in ((10, OLD), (11, NEW)) if np.array_equal(found, image(planes).image.values)]
    assert whole, f"{url} opens as {found[:, 0, 0].tolist()}"
    return whole[0]


def left(url: str, storage: dict[str, Any]) -> int:
    """Return how many hidden objects there are."""
    import s3fs

    return len([p for p in s3fs.S3FileSystem(**storage).find(url.rpartition("/")[0]) if "/." in p])


def killed(work: Any, seconds: float) -> None:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def main(storage: dict[str, Any], kills: int, seed: int) -> None:
    for module in [*MODULES.split(), "s3fs", "aiobotocore.session"]:  # so that a child need not
        importlib.import_module(module)
    rng, found = random.Random(seed), Counter[str]()
    durations: dict[str, float] = {}
    for k in range(kills):
        name = list(CASES)[k % len(CASES)]
        url = f"s3://images/{k}/{name}"
        old, new = (partial(save, planes, url, storage) for planes in (OLD, NEW))
        start = time.perf_counter()
        assert in_fork(old) == 0
        durations[name] = time.perf_counter() - start
        killed(new, rng.uniform(0.2, 1.2) * durations[name])
        code = in_fork(lambda url=url: read(url, storage))
        assert code in OUTCOMES, f"{url}: neither old nor new"
        found[f"{name} {OUTCOMES[code]}"] += 1
        assert in_fork(new) == 0, f"{url} cannot be written again"
        assert in_fork(lambda url=url: read(url, storage)) == 11
        assert in_fork(lambda url=url: left(url, storage)) == 0, f"{url}: something is left after writing again"
    print(dict(sorted(found.items())), durations)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
