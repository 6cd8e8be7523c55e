"""Writers killed at random moments: ``python tests/killed_writers.py FOLDER KILLS SEED`` prints what was found.

Each writer is a fork of this process, so that a kill costs milliseconds and not an import. After each, nothing may open
as complete that is not complete and right; then the write is finished, and must give the bytes of one that was left
alone.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from staging_laws import in_fork
from trees import content

from intake_img import imload, imsave
from intake_img.errors import FormatError

MODULES = """dask.array dask.threaded imagecodecs intake_img.formats.imageio.driver intake_img.formats.npy.driver
intake_img.formats.tif.write intake_img.formats.omezarr.driver intake_img.formats.tif.driver
intake_img.formats.omezarr.store PIL.PngImagePlugin tifffile zarr zarr.storage"""

CASES: dict[str, dict[str, Any]] = {
    "f.tif": {"partition": "yx"},
    "f.ome.tif": {},
    "f.zarr": {},
    "f.png": {},
    "g.ome.tif": {"partition": "zyx"},
    "f.npz": {"partition": "zyx"},
    "g.zarr": {"partition": "zyx"},
}


def image(offset: int) -> xr.Dataset:
    """Four times three planes whose values encode their position, as dask blocks that take a moment each."""
    import dask.array as da

    def plane(block_info: Any = None) -> np.ndarray:
        time.sleep(0.001)
        t, z = block_info[None]["chunk-location"][:2]
        return np.full((1, 1, 48, 48), 100 * offset + 10 * t + z, "u2")

    planes = da.map_blocks(plane, chunks=((1,) * 4, (1,) * 3, (48,), (48,)), dtype="u2", meta=np.empty((0,) * 4, "u2"))
    return xr.Dataset({"image": (("t", "z", "y", "x"), planes)})


def values(offset: int) -> np.ndarray:
    return 100 * offset + np.add.outer(10 * np.arange(4), np.arange(3))


def in_child(work: Callable[[], Any], seconds: float | None = None) -> int:
    """Do something in a fork; kill it after some time. Return its exit code, -9 if it was killed."""
    if seconds is None:
        return in_fork(work)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(target: Path, allowed: list[int]) -> None:
    """Fail if what opens under the name of the target, or of a part of it, is not one of the whole images."""
    whole = [values(k) for k in allowed]
    try:
        found = imload(target).image[:, :, 5, 7].values
    except (FormatError, FileNotFoundError):
        assert not (allowed[1:] and target.exists()), "the old image is gone"
    else:
        assert any(np.array_equal(found, v) for v in whole), f"{target} opens as {found.tolist()}"
    for path in target.parent.iterdir():
        if path.name.startswith(".") or path == target:
            continue
        part = imload(path).image.values
        seen = np.unique(part.reshape(-1, *part.shape[-2:]).reshape(len(part.reshape(-1, *part.shape[-2:])), -1))
        assert any(np.isin(seen, v).all() for v in whole), f"{path} opens as {seen.tolist()}"
        assert part.min() >= 100, f"{path} has empty pixels"


def finish(target: Path, options: dict[str, Any]) -> None:
    """Finish the write as a person would: resume what can be, else save again."""
    imsave(image(1), target, **options, resume=True)


def trial(folder: Path, name: str, reference: dict[str, bytes], duration: float, rng: random.Random) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    target, options = folder / name, CASES[name]
    overwrite = rng.random() < 0.4
    if overwrite:
        assert in_child(lambda: imsave(image(2), target, **options)) == 0
    code = in_child(lambda: imsave(image(1), target, **options, overwrite=overwrite), rng.uniform(0, 1.1 * duration))
    assert code in (0, -signal.SIGKILL)
    assert in_child(lambda: check(target, [1, 2] if overwrite else [1])) == 0, f"{name} {overwrite}"
    visible = {k: v for k, v in content(folder).items() if not k.startswith(".")}
    if visible == reference and not (folder / f".{name}.partial").exists():
        return "complete"
    again = {**options, "overwrite": overwrite}
    assert in_child(lambda: finish(target, again)) == 0, f"{name} {overwrite} cannot be finished"
    after = content(folder)
    assert after == reference, f"{name}: {sorted(after)} in place of {sorted(reference)}"
    return "resumed" if visible else "from nothing"


def undisturbed(folder: Path, name: str) -> tuple[dict[str, bytes], float]:
    folder.mkdir(parents=True)
    start = time.perf_counter()
    assert in_child(lambda: imsave(image(1), folder / name, **CASES[name])) == 0
    return content(folder), time.perf_counter() - start


def main(folder: Path, kills: int, seed: int) -> None:
    for module in MODULES.split():  # so that a child need not
        importlib.import_module(module)
    rng = random.Random(seed)
    references, durations = {}, {}
    for name in CASES:
        undisturbed(folder / "first" / name, name)  # which imports what the next ones need not
        references[name], durations[name] = undisturbed(folder / "whole" / name, name)
    found: Counter[str] = Counter()
    for k in range(kills):
        name = list(CASES)[k % len(CASES)]
        outcome = trial(folder / "killed", name, references[name], durations[name], rng)
        found[f"{name} {outcome}"] += 1
    print(json.dumps({"kills": kills, "found": dict(sorted(found.items())), "seconds": durations}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
