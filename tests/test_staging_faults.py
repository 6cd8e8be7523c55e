"""Full disks, kills and terminations, and systems without links or locks: what is left, and what readers find."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import staging_laws as laws
import xarray as xr
from fork_trials import FORMATS, KINDS
from thoroughness import trials

from intake_img import imload, imsave, scan
from intake_img.errors import SourceChangedError, TargetExistsError
from intake_img.storage import local, renames
from intake_img.storage.files import File
from intake_img.storage.staging import begin, staging_folder

pytestmark = pytest.mark.thorough


def noise(*shape: int, seed: int = 0) -> xr.Dataset:
    values = np.random.default_rng(seed).integers(0, 255, shape, dtype="u1")
    return xr.Dataset({"image": (("t", "y", "x")[-len(shape) :], values)})


def in_fresh_process(trial: str, *arguments: object) -> None:
    """Run one of `fork_trials` in an interpreter without threads: a fork of this one might wait for its locks."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("fork_trials.py")), trial]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_a_disk_that_is_full_amid_the_pixels(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the system refuses to write further bytes."""
    needs = {"czi": "pylibCZIrw", "mp4": "av"}
    able = [n for n in FORMATS if find_spec(needs.get(n.rpartition(".")[2], "numpy")) is not None]
    in_fresh_process("disk_is_full", tmp_path, *able)


FULL = """
import gc, resource, signal, sys
import numpy as np
from intake_img import imsave

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    imsave(np.ones((3, 512, 512), "u2"), sys.argv[1])
except OSError as exc:
    assert "no space left for " in str(exc), exc
gc.collect()
print("alive", flush=True)
"""


def test_a_process_survives_a_disk_that_is_full(tmp_path: Path) -> None:
    """HDF5 ends a process that frees a file which it could not write."""
    pytest.importorskip("h5py")
    command = [sys.executable, "-W", "ignore", "-c", FULL, str(tmp_path / "a.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
    assert not list(tmp_path.iterdir())


def test_lists_of_names_from_before_a_commit_that_was_killed(tmp_path: Path) -> None:
    """Such a list is the old image, or it is the new one, or an error; old and new are not mixed."""
    in_fresh_process("names_are_old", tmp_path)


@pytest.mark.parametrize("name", ["p.npy", "p.tif", "p.zarr"])
def test_a_lazy_sequence_does_not_mix_old_and_new_members(name: str, tmp_path: Path) -> None:
    imsave(noise(4, 8, 8), tmp_path / name, partition="yx")
    uris: list[Any] = [tmp_path / name, sorted(tmp_path.iterdir()), f"{tmp_path}/*{name[1:]}"]
    lazy = [imload(uri, **({"axis": "t"} if k else {})).image for k, uri in enumerate(uris)]
    assert (lazy[0][0].values == noise(4, 8, 8).image[0].values).all()
    imsave(noise(4, 8, 8, seed=1), tmp_path / name, partition="yx", overwrite=True)
    for image in lazy:
        with pytest.raises(SourceChangedError, match=r"p\.t_\d.* was changed or replaced"):
            image[1:].compute()
    assert (imload(tmp_path / name).image.values == noise(4, 8, 8, seed=1).image.values).all()


def test_a_sequence_of_which_one_member_is_written_in_place(tmp_path: Path) -> None:
    for t in range(3):
        np.save(tmp_path / f"a_t{t}.npy", np.full((4, 4), t))
    image = imload(f"{tmp_path}/a_t{{t}}.npy").image
    np.save(tmp_path / "a_t1.npy", np.full((4, 4), 7))
    assert image[0].values.max() == 0
    assert image[2].values.max() == 2
    with pytest.raises(SourceChangedError, match=r"a_t1\.npy"):
        image.compute()


def test_a_sequence_found_amid_a_commit_is_read_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imsave(noise(3, 8, 8), tmp_path / "p.npy", partition="yx")
    place, seen = local._place, []

    def looked_at(*paths: str) -> None:
        if not seen:
            seen.extend([imload(tmp_path / "p.npy").image, next(iter(scan(tmp_path).values())).dataset().image])
        place(*paths)

    monkeypatch.setattr(local, "_place", looked_at)
    imsave(noise(3, 8, 8, seed=1), tmp_path / "p.npy", partition="yx", overwrite=True)
    for image in seen:
        assert (image.values == noise(3, 8, 8, seed=1).image.values).all()


TERMINATED = """
import os, sys, time
import dask.array as da, numpy as np, xarray as xr
from intake_img.formats.npy import handle
from intake_img.doors.cli import main
read = handle._Stored.read_into
def slow(self, *arguments):
    os.write(1, b"reading\\n")  # as one piece, whatever other threads write
    time.sleep(0.05)
    return read(self, *arguments)
handle._Stored.read_into = slow
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["b.zarr", "b.tif"])
def test_a_terminated_command_leaves_nothing(name: str, tmp_path: Path) -> None:
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", "u2", (600, 512, 512))
    array.flush()
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", TERMINATED, "convert", str(tmp_path / "a.npy"), str(out / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "reading\n"
        end = time.monotonic() + 60
        while not os.path.isdir(staging_folder(File.parse(out / name))) and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        assert writer.poll() is None
        writer.send_signal(signal.SIGTERM)
        writer.communicate(timeout=60)
    assert writer.returncode == 143
    assert not list(out.iterdir())


KILLED = """
import os, sys
import dask.array as da, numpy as np
from intake_img import imsave
def die(block_info=None):
    if block_info[None]["chunk-location"][0] == 90:
        os._exit(77)
    return np.full((1, 512, 512), 1, "u1")
planes = da.map_blocks(die, chunks=((1,) * 100, (512,), (512,)), dtype="u1", meta=np.empty((0, 0, 0), "u1"))
imsave(planes, sys.argv[1])
"""


def test_a_killed_czi_is_not_seen(tmp_path: Path) -> None:
    pytest.importorskip("pylibCZIrw")
    imsave(noise(1, 16, 16), tmp_path / "whole.czi")
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed.czi")], timeout=120).returncode == 77
    assert [p.name for p in tmp_path.rglob("*.czi") if p.name != "whole.czi"], "nothing was written before the kill"
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["whole.czi"]
    for uri in (tmp_path, f"{tmp_path}/*.czi", f"{tmp_path}/**/*.czi"):
        assert imload(uri).image.shape[-2:] == (16, 16)
        assert imload(uri).sizes.get("i", 1) == 1
    assert list(scan(tmp_path)) == ["whole"]
    imsave(noise(1, 16, 16), tmp_path / "killed.czi")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.czi", "whole.czi"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("missing", ["links", "locks", "both"])
def test_systems_without_links_or_locks(
    name: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is saved and replaced, and what exists, or is at work, is refused."""
    monkeypatch.setattr(renames, "rename_flagged", lambda *_: errno.ENOSYS)
    monkeypatch.setattr(local, "exchange", lambda *_: False)
    if missing != "locks":
        monkeypatch.delattr(os, "link")
    if missing != "links":
        monkeypatch.setattr(renames, "fcntl", None)
    target, options = tmp_path / name, KINDS[name]
    imsave(laws.image(4), target, **options)
    with pytest.raises(TargetExistsError):
        imsave(laws.image(3), target, **options)
    assert (imload(target).image.values == laws.image(4).image.values).all()
    imsave(laws.image(3), target, **options, overwrite=True)
    assert (imload(target).image.values == laws.image(3).image.values).all()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    with begin(File.parse(tmp_path / "b.npy")) as staging:
        staging.put("b.npy", b"old")
        with pytest.raises(TargetExistsError, match="being written by another process"):
            imsave(laws.image(3), tmp_path / "b.npy")
        (tmp_path / "b.npy").write_bytes(b"made meanwhile")
        with pytest.raises(TargetExistsError):
            staging.commit()
    assert (tmp_path / "b.npy").read_bytes() == b"made meanwhile"


@pytest.mark.parametrize("name", KINDS)
def test_without_locks_the_dead_are_swept_after_a_day(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its age distinguishes a dead writer from a running one; overwriting does not wait for it."""
    monkeypatch.setattr(renames, "fcntl", None)
    target, options = tmp_path / name, KINDS[name]
    dead = Path(staging_folder(File.parse(target)))
    dead.mkdir()
    (dead / ".~lock").touch()
    (dead / ".~0").write_bytes(b"half")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        imsave(laws.image(3), target, **options)
    imsave(laws.image(3), target, **options, overwrite=True)
    assert dead.exists()
    for path in (dead / ".~lock", dead):
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    imsave(laws.image(4), target, **options, overwrite=True)
    assert not dead.exists()
    assert (imload(target).image.values == laws.image(4).image.values).all()


@pytest.mark.parametrize("without", ["links", "locks"])
def test_a_kill_on_systems_without_links_or_locks(without: str, tmp_path: Path) -> None:
    """Replacing is safe there too; what the killed writer left, the next commit passes over or finishes."""
    in_fresh_process("is_limited", tmp_path, without, *KINDS)


def test_uploads_killed_at_random_moments(s3: dict[str, Any]) -> None:
    """Some kills of `killed_uploads`; the process fails if the law is broken."""
    script = str(Path(__file__).with_name("killed_uploads.py"))
    command = [sys.executable, "-W", "ignore", script, json.dumps(s3), str(trials(12, 3)), "3"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
