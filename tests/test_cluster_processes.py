"""Clusters whose workers are processes: they die, work in other folders, and send no pixels to the client.

One cluster serves all tests. A worker dies at a step of its own work, once, so that the test is deterministic.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pages import blocks_of
from thoroughness import THOROUGH
from trees import content

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError
from intake_img.storage.handles import POOL

pytestmark = pytest.mark.thorough

distributed = pytest.importorskip("distributed")

SECONDS = 120
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster, timeout=SECONDS) as client:
        client.wait_for_workers(1, timeout=SECONDS)
        yield client
    for key in list(POOL._entries):  # the scheduler, in this process, lets go of what it was sent when it likes
        POOL.shut(key)


def _source(folder: Path, planes: int = 6, side: int = 96) -> xr.Dataset:
    values = np.random.default_rng(0).integers(0, 4000, (planes, side, side), "uint16")
    imsave(xr.Dataset({"image": (tuple("zyx"), values)}), folder / "source.tif", engine="threads")
    return imload(folder / "source.tif", chunks={"z": 1})


STORE = {"chunks": {"z": 1, "y": 32, "x": 32}, "pyramid": 1}


def _dying(client, mark: Path, where: str, before: bool) -> Callable[[], None]:
    """Have the first worker that comes to a function die there; return what checks that one did, and mends the rest."""

    def arm(mark: str, where: str, before: bool) -> None:
        import importlib
        import os
        import signal

        module, owner, name = where.split(":")
        holder = importlib.import_module(module)
        holder = getattr(holder, owner) if owner else holder
        real = getattr(holder, name)

        def die() -> None:
            try:
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

        def stand_in(*args, **kwargs):
            if before:
                die()
            result = real(*args, **kwargs)
            die()
            return result

        holder._real = real
        setattr(holder, name, stand_in)

    def disarm(where: str) -> None:
        import importlib

        module, owner, name = where.split(":")
        holder = importlib.import_module(module)
        holder = getattr(holder, owner) if owner else holder
        if hasattr(holder, "_real"):
            setattr(holder, name, holder._real)
            del holder._real

    client.run(arm, str(mark), where, before)

    def died() -> None:
        assert mark.exists(), "no worker came there"
        client.wait_for_workers(1, timeout=SECONDS)  # a new one has nothing to mend
        client.run(disarm, where)

    return died


DEATHS = {
    "reading": ("intake_img.formats.reading:FileReader:read_into", True),
    "filtering": ("scipy.ndimage::gaussian_filter", True),
    "writing": ("zarr:Array:__setitem__", True),
    "after writing": ("zarr:Array:__setitem__", False),
}


SLOW = pytest.mark.skipif(not THOROUGH, reason="a new worker takes some seconds to start")


@pytest.mark.parametrize("step", ["reading", *(pytest.param(k, marks=SLOW) for k in list(DEATHS)[1:])])
def test_a_worker_dies(client, tmp_path, step):
    """The store is byte for byte the one that threads write."""
    ds = _source(tmp_path).img.gaussian_filter({"y": 3, "x": 3})
    imsave(ds, tmp_path / "threads" / "a.zarr", engine="threads", **STORE)
    died = _dying(client, tmp_path / "died", *DEATHS[step])
    imsave(ds, tmp_path / "dask" / "a.zarr", **STORE)
    died()
    assert content(tmp_path / "dask") == content(tmp_path / "threads")


@SLOW
def test_a_worker_dies_while_it_writes_files(client, tmp_path):
    ds = _source(tmp_path) + np.uint16(1)
    imsave(ds, tmp_path / "threads" / "a.tif", engine="threads", partition="yx")
    died = _dying(client, tmp_path / "died", "intake_img.storage.shared:SharedFolder:_give_name", True)
    imsave(ds, tmp_path / "dask" / "a.tif", partition="yx")
    died()
    assert content(tmp_path / "dask") == content(tmp_path / "threads")


@pytest.mark.parametrize("where", [pytest.param("model", marks=SLOW), "intake_img.accessor.patches.cluster::_block"])
def test_a_worker_dies_in_patches_map(client, tmp_path, where):
    image = _source(tmp_path).image
    mark = str(tmp_path / "died")

    def model(batch):
        return batch + 1

    here = os.getpid()  # where the first batch is predicted, to know the shape of what comes out

    def mortal(batch):
        if where == "model" and os.getpid() != here and not os.path.exists(mark):
            open(mark, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch + 1

    patches = image.img.patches({"y": 32, "x": 32})
    options = {"batch_size": 6, "chunks": {"z": 1, "y": 32, "x": 32}, "model_id": "m"}
    died = (lambda: None) if where == "model" else _dying(client, tmp_path / "died", where, True)
    patches.map(mortal, store=tmp_path / "dask" / "a.zarr", client=client, **options)
    died()
    assert Path(mark).exists()
    patches.map(model, store=tmp_path / "alive" / "a.zarr", client=client, **options)
    found, expected = (imload(tmp_path / k / "a.zarr").image for k in ("dask", "alive"))
    np.testing.assert_array_equal(found.values, image.values + 1)
    xr.testing.assert_equal(found.compute(), expected.compute())
    chunks = {k: {p: v for p, v in content(tmp_path / k).items() if "zarr.json" not in p} for k in ("dask", "alive")}
    assert chunks["dask"] == chunks["alive"]


def test_workers_in_other_folders(client, tmp_path, monkeypatch):
    """Relative paths start at the folder of the client, also for workers on another host that shares it."""
    _source(tmp_path)
    monkeypatch.chdir(tmp_path)
    client.wait_for_workers(2, timeout=SECONDS)
    homes = [str(tmp_path / f"host {k}") for k in range(2)]
    old = {}
    for home, worker in zip(homes, client.scheduler_info()["workers"], strict=True):
        os.mkdir(home)
        old |= client.run(os.getcwd, workers=[worker])
        client.run(os.chdir, home, workers=[worker])
    try:
        ds = imload("source.tif", chunks={"z": 1})
        imsave(ds + np.uint16(1), "out/a.zarr", **STORE)
        imsave(ds + np.uint16(1), "out/p.tif", partition="yx")
        joined = imload("out/p.z_{z}.tif")
        imsave(joined + np.uint16(1), "out/b.zarr", **STORE)
        patches = joined.image.img.patches({"y": 32, "x": 32})
        patches.map(lambda b: b + 2, store="out/c.zarr", client=client, batch_size=6, model_id="m")
    finally:
        for worker, home in old.items():
            client.run(os.chdir, home, workers=[worker])
    for name, more in (("a.zarr", 1), ("p.tif", 1), ("b.zarr", 2), ("c.zarr", 3)):
        np.testing.assert_array_equal(imload(f"out/{name}").image.values, ds.image.values + more)
    assert [os.listdir(home) for home in homes] == [[], []]


def test_a_target_that_workers_do_not_see_is_refused(client, tmp_path):
    """A folder of this machine alone: workers have another one at that place."""

    def blind(hidden: str) -> None:
        import os

        real = os.path.isdir
        os.path._isdir = real
        os.path.isdir = lambda p: False if str(p).startswith(hidden) else real(p)

    def see() -> None:
        import os

        os.path.isdir = os.path._isdir

    ds = _source(tmp_path) + np.uint16(1)
    (tmp_path / "local").mkdir()
    client.run(blind, str(tmp_path / "local"))
    try:
        for name, options in (("a.zarr", STORE), ("a.tif", {"partition": "yx"})):
            with pytest.raises(CannotWriteError, match="folder that all of them share"):
                imsave(ds, tmp_path / "local" / name, **options)
    finally:
        client.run(see)
    assert os.listdir(tmp_path / "local") == []


def test_few_bytes_reach_the_client(client, tmp_path, monkeypatch):
    """Of what is written under 5 % goes through the process of client and scheduler, in both directions together."""
    from distributed.comm.tcp import TCP

    passed = []
    real_read, real_write = TCP.read, TCP.write

    async def write(self, *args, **kwargs):
        passed.append(await real_write(self, *args, **kwargs))
        return passed[-1]

    async def read(self, *args, **kwargs):
        message = await real_read(self, *args, **kwargs)
        passed.append(distributed.utils.nbytes(message) if isinstance(message, bytes) else _size(message))
        return message

    ds = _source(tmp_path, planes=12, side=512).img.gaussian_filter({"y": 1, "x": 1})
    monkeypatch.setattr(TCP, "write", write)
    monkeypatch.setattr(TCP, "read", read)
    imsave(ds, tmp_path / "a.zarr", chunks={"z": 1, "y": 256, "x": 256}, pyramid=1)
    assert sum(passed) > 1000
    assert sum(passed) < 0.05 * ds.image.nbytes


def _size(message: object) -> int:
    from distributed.protocol import dumps

    return sum(len(frame) for frame in dumps(message))


# without the cluster


def test_job_script_of_the_page(tmp_path, monkeypatch):
    """The SLURM block of the page gives a script that asks for what it says; no scheduler is needed."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.chdir(tmp_path)
    (block,) = [b for b in blocks_of(ROOT / "docs" / "how-to" / "clusters.md") if "SLURMCluster" in b.text]
    code = block.text.split("cluster.scale(")[0]
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=SECONDS)
    script = run.stdout.splitlines()
    assert script[0].startswith("#!"), run.stderr
    for line in ("#SBATCH -p short", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=15G", "#SBATCH -t 01:00:00"):
        assert line in script
    (command,) = [
        line for line in script if "dask_worker" in line or "distributed.cli" in line or "dask worker" in line
    ]
    for words in ("--nthreads 1", "--nworkers 4", "--memory-limit 3.73GiB", "--local-directory /tmp", "--lifetime 55m"):
        assert words in command


FORKED = """
import os, signal, sys
import intake_img
ds = intake_img.imload(sys.argv[1], chunks={"z": 1})
total = int(ds.image.data.sum().compute())
pid = os.fork()
if not pid:
    signal.alarm(60)
    same = int(intake_img.imload(sys.argv[1], chunks={"z": 1}).image.data.sum().compute()) == total
    (path,) = intake_img.imsave(ds + 1, sys.argv[1] + ".zarr", pyramid=1)
    os._exit(0 if same and int(intake_img.imload(path).image.sum().compute()) == total + ds.image.size else 1)
print(os.waitpid(pid, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_computes(tmp_path):
    """A child of a process that has used dask reads, computes and writes; it waits for no thread of its parent."""
    _source(tmp_path)
    code = [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path / "source.tif")]
    run = subprocess.run(code, capture_output=True, text=True, timeout=SECONDS)
    assert run.stdout.split() == ["0"], run.stderr
