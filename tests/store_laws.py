"""Results stopped at every system call that changes a name: ``python tests/store_laws.py FOLDER [STRIDE [CASE ...]]``.

As `staging_laws`, for what patches and colocalization write. Each case prepares a folder, does its work in a fork that
is stopped at the k-th call (ended, or told that the disk is full), and looks at what is there: the old result or the
new one, complete, or, where there was none, nothing or a message that names ``resume=True``. Then the work is done
again, must succeed, and leaves nothing behind.
"""

from __future__ import annotations

import errno
import functools
import importlib
import io
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from staging_laws import in_fork, stopped

from intake_img import imload
from intake_img.accessor.coloc import database as tables
from intake_img.accessor.patches import output
from intake_img.collections.listing import list_folder
from intake_img.errors import FormatError
from intake_img.formats.registry import formats
from intake_img.storage import local, renames
from intake_img.storage.files import File
from intake_img.storage.journal import resolve

MODULES = """dask.array dask.threaded distributed zarr zarr.storage zarr.codecs matplotlib.figure pyarrow.parquet
matplotlib.backends.backend_agg matplotlib.backends.backend_pdf intake_img.formats.omezarr.driver scipy.ndimage
intake_img.accessor.coloc.report intake_img.accessor.patches.export intake_img.accessor.patches.cluster"""

OLD, NEW = 3, 2  # results are multiples of the image
IMAGE = xr.DataArray(np.arange(1, 1025, dtype="u2").reshape(32, 32), dims=["y", "x"], name="image")


@dataclass(frozen=True)
class Case:
    """What is written.

    Parameters
    ----------
    name : str
        Of the target.
    work : callable
        ``work(target, factor, **options)`` writes the result.
    read : callable
        ``read(target)`` returns the factor of what is there, None if there is nothing.
    prepare : callable
        ``prepare(target)`` makes what was there before; it runs in a fork.
    options : mapping
        Of the work that is stopped.
    again : mapping
        Of the one that follows.
    existed : bool
        A result is there from the beginning.
    """

    name: str
    work: Callable[..., Any]
    read: Callable[[Path], Any]
    prepare: Callable[[Path], Any]
    options: dict[str, Any]
    again: dict[str, Any]
    existed: bool


def predict(target: Path, factor: int, **options: Any) -> None:
    p = IMAGE.img.patches({"y": 16, "x": 16}, overlap=4)
    p.map(
        lambda batch: batch * np.uint16(factor), store=target, batch_size=3, chunks=16, model_id=str(factor), **options
    )


def stitch(target: Path, factor: int, **options: Any) -> None:
    p = IMAGE.img.patches({"y": 16, "x": 16})
    p.stitch(p.read(range(len(p))) * np.uint16(factor), store=target, chunks=16, **options)


def unfinished(target: Path) -> None:
    """Leave a run that has written some blocks."""
    calls = []

    def model(batch: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return batch * np.uint16(NEW)

    p = IMAGE.img.patches({"y": 16, "x": 16}, overlap=4)
    try:
        p.map(model, store=target, batch_size=2, chunks=16, model_id=str(NEW))
    except KeyboardInterrupt:
        return
    raise AssertionError("the run was to be interrupted")


def read_image(target: Path) -> int | None:
    try:
        values = imload(target).image.values
    except FileNotFoundError:
        return None
    except FormatError as exc:
        if "resume=True" in str(exc):
            return None
        raise
    return factor_of(values)


def factor_of(values: np.ndarray) -> int:
    factor = int(values[0, 0])
    np.testing.assert_array_equal(values, IMAGE.values * factor)
    assert factor in (OLD, NEW)
    return factor


def export_zarr(target: Path, factor: int, **options: Any) -> None:
    (IMAGE * factor).astype("u2").img.patches({"y": 16, "x": 16}).to_zarr(target, **options)


def read_zarr(target: Path) -> int | None:
    if not resolve(File.parse(target)).exists():
        return None
    values = xr.open_zarr(resolve(File.parse(target)).path, consolidated=False)["image"].values
    return factor_of(values.reshape(2, 2, 16, 16).transpose(0, 2, 1, 3).reshape(32, 32))


def write_shards(target: Path, factor: int, **options: Any) -> None:
    """Two files of the new result, four of the old one."""
    p = (IMAGE * factor).astype("u2").img.patches({"y": 16, "x": 16})
    p.to_webdataset(target, 2 if factor == NEW else 1, **options)


def read_shards(target: Path) -> int | None:
    folder = File.parse(target.parent)
    names = sorted(n for n in list_folder(folder) if n.endswith(".tar"))
    found = []
    for name in names:
        with tarfile.open(resolve(folder / name).path) as archive:
            found += [
                np.load(io.BytesIO(archive.extractfile(m).read())) for m in archive if m.name.endswith("image.npy")
            ]
    if not found:
        return None
    factor = factor_of(np.stack(found).reshape(2, 2, 16, 16).transpose(0, 2, 1, 3).reshape(32, 32))
    assert len(names) == (2 if factor == NEW else 4)
    return factor


def write_table(target: Path, factor: int) -> None:
    tables.write_parquet(target, pd.DataFrame({"a": np.arange(10) * factor}))


def read_table(target: Path) -> int | None:
    if not target.exists():
        return None
    values = tables.read_parquet(target)["a"].values
    np.testing.assert_array_equal(values, np.arange(10) * values[1])
    return int(values[1])


def write_report(target: Path, factor: int, **options: Any) -> None:
    """The new one is about two images, the old one about one."""
    ds = xr.Dataset({"image": (("c", "x"), np.random.default_rng(0).integers(1, 9, (2, 50)))})
    ds.img.coloc.report(target, (0, 1), images={"second": ds} if factor == NEW else {}, thresholds=None, **options)


def read_html(target: Path) -> int | None:
    if not target.exists():
        return None
    content = target.read_text("utf-8")
    factor = NEW if "second" in content else OLD
    assert content.endswith("'>")
    assert content.count("<h2>") == (2 if factor == NEW else 1)
    return factor


def read_pdf(target: Path) -> int | None:
    if not target.exists():
        return None
    content = target.read_bytes()
    assert content.rstrip().endswith(b"%%EOF")
    return {2: OLD, 3: NEW}[len(re.findall(rb"/Type /Page\b", content))]


def nothing(_: Path) -> None:
    pass


def earlier(work: Callable[..., Any]) -> Callable[[Path], Any]:
    return lambda target: work(target, OLD)


OVER = {"overwrite": True}
RESUME = {"resume": True}
CASES = {
    "map": Case("o.zarr", predict, read_image, nothing, {}, RESUME, False),
    "map resumed": Case("o.zarr", predict, read_image, unfinished, RESUME, RESUME, False),
    "map over unfinished": Case("o.zarr", predict, read_image, unfinished, OVER, RESUME, False),
    "map over old": Case("o.zarr", predict, read_image, earlier(predict), OVER, OVER, True),
    "map over old, resumed": Case("o.zarr", predict, read_image, earlier(predict), OVER, {**OVER, **RESUME}, True),
    "stitch": Case("o.zarr", stitch, read_image, earlier(stitch), OVER, OVER, True),
    "to_zarr": Case("p.zarr", export_zarr, read_zarr, earlier(export_zarr), OVER, OVER, True),
    "shards": Case("s-%02d.tar", write_shards, read_shards, earlier(write_shards), OVER, OVER, True),
    "parquet": Case("a.parquet", write_table, read_table, earlier(write_table), {}, {}, True),
    "html": Case("a.html", write_report, read_html, earlier(write_report), OVER, OVER, True),
    "pdf": Case("a.pdf", write_report, read_pdf, earlier(write_report), OVER, OVER, True),
}


def check(case: Case, target: Path, expected: tuple[int | None, ...]) -> None:
    found = case.read(target)
    assert found in expected, f"found {found}, expected one of {expected}"


def trial(folder: Path, before: Path, case: Case, at: int, full: bool) -> bool:
    """Return whether the work was stopped; False when it had fewer calls."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    target = folder / case.name
    what = f"{case.name} stopped at call {at}, full={full}"
    code = stopped(lambda: case.work(target, NEW, **case.options), at, full, folder)
    assert code in ((0, 28, 78) if full else (0, 77)), f"{what}: exit code {code}"
    assert in_fork(lambda: check(case, target, (OLD, NEW) if case.existed else (NEW, None))) == 0, what
    assert in_fork(lambda: case.work(target, NEW, **case.again)) == 0, f"{what}: cannot be done again"
    left = sorted(p.name for p in folder.iterdir() if p.name.startswith("."))
    assert not left, f"{what}: {left} are left after doing it again"
    assert in_fork(lambda: check(case, target, (NEW,))) == 0, f"{what}, then done again"
    return code != 0


def campaign(folder: Path, name: str, stride: int, how: str) -> None:
    case, before, at = CASES[name], folder / "before", 1
    shutil.rmtree(before, ignore_errors=True)
    before.mkdir(parents=True)
    assert in_fork(lambda: case.prepare(before / case.name)) == 0
    while trial(folder / "t", before, case, at, False):
        at += stride
    for full_at in range(1 + stride // 2, at, 2 * stride):
        trial(folder / "t", before, case, full_at, True)
    print(f"{name}{how}: {at} calls", flush=True)


def main(folder: Path, stride: int = 1, *names: str) -> None:
    for module in MODULES.split():  # so that a child need not
        importlib.import_module(module)
    formats()
    output.grown = functools.partial(output.grown, nbytes=1)  # blocks are chunks
    for name in names or [n for n in CASES if n != "pdf"]:
        campaign(folder, name, stride, "")
    renames.rename_flagged = lambda *_: errno.ENOSYS  # as on a system without flagged renames
    local.exchange = lambda *_: False
    for name in names or ("map over old, resumed",):
        campaign(folder, name, stride, ", without flagged renames")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1, *sys.argv[3:])
