"""What happens when writing back is killed, the disk is full or a source is damaged: nothing finished is lost.

One interpreter is started that forks a process for each run and kills it with SIGKILL at a random moment, so that many
are met in a few seconds. The model notes which patches it is called with.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from trees import content

import intake_img  # noqa: F401
from intake_img import imload, imsave
from intake_img.accessor.patches import output
from intake_img.errors import FormatError
from intake_img.storage.cache import CACHE
from intake_img.storage.files import File
from intake_img.storage.staging import staging_folder

pytestmark = pytest.mark.thorough

KILLER = """
import json, os, random, signal, sys, time
import numpy as np, xarray as xr
import intake_img
from intake_img.storage.files import File
from intake_img.storage.staging import staging_folder
import functools
from intake_img.accessor.patches import output
import intake_img.formats.omezarr.driver, zarr, zarr.storage, zarr.codecs, dask.array, tqdm

output.grown = functools.partial(output.grown, nbytes=1)  # blocks are chunks, so that patches lie across them
folder, blend, kills, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
values = np.arange(2 * 96 * 96, dtype="u4").reshape(2, 96, 96)
image = xr.DataArray(values, dims=list("tyx"), name="image")
p = image.img.patches(dict(y=16, x=16), overlap=6)
first = {int(v): k for k, v in enumerate(values[p.plan.index[:, 0], p.plan.start[:, 0], p.plan.start[:, 1]])}
target = os.path.join(folder, "o.zarr")


def model(batch):
    with open(log, "a") as stream:
        stream.write("".join(f"{first[int(b[0, 0])]}\\n" for b in batch))
    time.sleep(0.01)
    return batch.astype("f4") * np.float32(0.1)


def run():
    p.map(model, blend=blend, store=target, resume=True, batch_size=4, chunks={"t": 1, "y": 32, "x": 32}, model_id="m")


def done():
    place = os.path.join(staging_folder(File.parse(target)), ".~done")
    return sorted(os.listdir(place)) if os.path.isdir(place) else []


random.seed(seed)
runs = []
for k in range(kills + 1):
    log = os.path.join(folder, f"{k}.log")
    before = done()
    pid = os.fork()
    if pid == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    killed = False
    if k < kills:
        enough, late = random.randint(0, 50), random.uniform(0, 0.02)
        while not killed:
            if os.waitpid(pid, os.WNOHANG)[0]:
                killed = None
                break
            if os.path.exists(log) and len(open(log).readlines()) >= enough or (k == 0 and not enough):
                time.sleep(late)
                break
            time.sleep(0.001)
        if killed is not None:
            os.kill(pid, signal.SIGKILL)
            killed = True
    status = os.waitpid(pid, 0)[1] if killed is not None else 0
    called = [int(n) for n in open(log).read().split()] if os.path.exists(log) else []
    runs.append(dict(before=before, after=done(), called=called, finished=os.path.exists(target), status=status))
    if killed is None or (not killed and k < kills):
        break
print(json.dumps(dict(runs=runs, starts=p.plan.start.tolist(), t=p.plan.index[:, 0].tolist())))
"""


def killing(tmp_path: Path, blend: str, kills: int, seed: int = 0) -> tuple[dict, dict[str, bytes]]:
    folder = tmp_path / f"{blend}-{kills}"
    folder.mkdir()
    script = tmp_path / "killer.py"
    script.write_text(textwrap.dedent(KILLER))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(folder), blend, str(kills), str(seed)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), content(folder / "o.zarr")


def uninterrupted(folder: Path, blend: str, monkeypatch) -> tuple[int, dict[str, bytes]]:
    """The same in one go, in this process."""
    monkeypatch.setattr(output, "grown", functools.partial(output.grown, nbytes=1))
    values = np.arange(2 * 96 * 96, dtype="u4").reshape(2, 96, 96)
    p = xr.DataArray(values, dims=list("tyx"), name="image").img.patches({"y": 16, "x": 16}, overlap=6)
    p.map(
        lambda batch: batch.astype("f4") * np.float32(0.1),
        blend=blend,
        store=folder / "o.zarr",
        chunks={"t": 1, "y": 32, "x": 32},
        model_id="m",
    )
    return len(p), content(folder / "o.zarr")


@pytest.mark.parametrize("blend", ["crop", "hann"])
def test_a_run_that_is_killed_again_and_again_makes_the_same_bytes(blend, tmp_path, monkeypatch):
    patches, want = uninterrupted(tmp_path / "plain", blend, monkeypatch)
    found, got = killing(tmp_path, blend, 6)
    runs = found["runs"]
    assert sum(os.WIFSIGNALED(r["status"]) for r in runs) >= 3, "too few runs were killed to mean anything"
    assert got == want
    starts, t = np.array(found["starts"]), np.array(found["t"])
    side = 96 // 3  # blocks are chunks: 3 x 3 for each of 2 times
    for run in runs:
        assert len(set(run["called"])) == len(run["called"]), "a patch was predicted twice in one run"
        assert set(run["before"]) <= set(run["after"]) or run["finished"]
        missing = set(range(18)) - {int(name.split(".")[1]) for name in run["before"]}
        needed = set()
        for block in missing:
            k, y, x = np.unravel_index(block, (2, 3, 3))
            low = np.array([y, x]) * side
            touching = (t == k) & (starts < low + side).all(axis=1) & (starts + 16 > low).all(axis=1)
            needed |= set(np.flatnonzero(touching).tolist())
        first = set(range(4)) if not run["before"] else set()  # the first batch determines the output of the model
        assert set(run["called"]) <= needed | first
    whole = [k for k, r in enumerate(runs) if r["finished"]]
    assert not [n for k in whole[1:] for n in runs[k]["called"]]
    assert len(runs[whole[0]]["called"]) < patches or not runs[whole[0]]["before"]
    assert {n for n in os.listdir(tmp_path / f"{blend}-6") if not n.endswith(".log")} == {"o.zarr"}


def test_after_any_kill_the_finished_blocks_are_valid(tmp_path):
    """Blocks with a mark hold what an uninterrupted run writes there."""
    import zarr

    im = xr.DataArray(np.arange(2 * 64 * 64, dtype="u2").reshape(2, 64, 64), dims=list("tyx"), name="image")
    p = im.img.patches({"y": 16, "x": 16}, overlap=4)
    target = tmp_path / "o.zarr"
    calls = []

    def model(batch):
        calls.append(1)
        if len(calls) > 8:
            raise KeyboardInterrupt
        return batch

    with pytest.raises(KeyboardInterrupt):
        p.map(model, store=target, batch_size=4, chunks={"t": 1, "y": 16, "x": 64}, model_id="m")
    folder = Path(staging_folder(File.parse(target)))
    record = json.loads((folder / ".~plan.json").read_text())
    out = record["facts"]["layout"]["outputs"][0]
    array = zarr.open_array(folder / ".~store/0", mode="r")
    marks = sorted((folder / ".~done").iterdir())
    assert marks
    for mark in marks:
        number = int(mark.name.split(".")[1])
        counts = [-(-n // b) for n, b in zip(out["lengths"], out["block"], strict=True)]
        at = np.unravel_index(number, counts)
        key = tuple(slice(k * b, (k + 1) * b) for k, b in zip(at, out["block"], strict=True))
        np.testing.assert_array_equal(array[key], im.values[key])


def test_a_damaged_source_names_file_and_position_and_keeps_what_is_done(tmp_path):
    im = xr.DataArray(np.random.default_rng(0).integers(0, 999, (4, 64, 64)).astype("u2"), dims=list("tyx"))
    source = tmp_path / "in.zarr"
    imsave(im, source, chunks={"t": 1, "y": 32, "x": 32})
    chunk = source / "0/c/2/1/0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    p = imload(source).img.patches({"y": 32, "x": 32})
    target = tmp_path / "o.zarr"
    options = {"store": target, "batch_size": 2, "lookahead": 2, "chunks": {"t": 1}, "model_id": "m"}
    with pytest.raises((FormatError, OSError)) as info:
        p.map(lambda b: b, **options)
    said = str(info.value)
    assert str(source) in said
    assert "t=2:3, y=32:64, x=0:32" in said
    assert "blocks of" in info.value.__notes__[-1]
    marks = list((Path(staging_folder(File.parse(target))) / ".~done").iterdir())
    assert marks
    chunk.write_bytes(content)
    CACHE.clear()
    out = imload(source).img.patches({"y": 32, "x": 32}).map(lambda b: b, **options, resume=True)
    np.testing.assert_array_equal(out.image.values, im.values)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_keeps_the_finished_blocks(small_disk):
    rng = np.random.default_rng(0)
    im = xr.DataArray(rng.integers(0, 2**16, (20, 256, 256)).astype("u2"), dims=list("tyx"), name="image")
    p = im.img.patches({"y": 64, "x": 64})
    target = small_disk / "o.zarr"
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * 2**21)
    options = {"store": target, "chunks": {"t": 1, "y": 128, "x": 128}, "model_id": "m", "batch_size": 8}
    with pytest.raises(OSError, match=r"no space left.*o\.zarr: \d+ of \d+ blocks .* are written and kept") as info:
        p.map(lambda b: b, **options)
    assert info.value.errno == errno.ENOSPC
    assert not target.exists()
    marks = len(list((Path(staging_folder(File.parse(target))) / ".~done").iterdir()))
    assert marks > 0
    filler.unlink()
    seen = []

    def model(batch):
        seen.append(len(batch))
        return batch

    out = p.map(model, **options, resume=True)
    np.testing.assert_array_equal(out.image.values, im.values)
    assert sum(seen) < len(p)
