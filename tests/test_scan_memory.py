"""Large folders: a scan that remembers looks again only at what changed, also on servers, in threads and on a cluster.

The law: with a memory, in whatever state it is, a scan finds what a scan without one finds. What is looked at is
counted by `progress`, which is called for each file and series that is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import urllib.parse
from functools import partial
from http.server import SimpleHTTPRequestHandler

import fsspec
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import running

from intake_img import imsave, open_catalog, open_table, scan, write_catalog, write_table
from intake_img.catalog import inspections
from intake_img.doors.cli.main import main
from intake_img.errors import CatalogError
from intake_img.storage.files import File
from intake_img.storage.handles import POOL

WORDS = ("alpha", "beta", "gamma", "delta")


def image(value: int = 1, size: int = 6) -> np.ndarray:
    return np.full((size, 7), value, "uint8")


@pytest.fixture
def lab(tmp_path):
    """Single files, a series, a series across folders, a store, a damaged file and a file that is not an image."""
    root = tmp_path / "lab"
    for folder in ("a", "b/pos_1", "b/pos_2"):
        (root / folder).mkdir(parents=True)
    for k, word in enumerate(WORDS):
        np.save(root / "a" / f"{word}.npy", image(k, 5 + k))
    for t in range(4):
        tifffile.imwrite(root / "a" / f"m_t{t}.tif", image(t))
        for p in (1, 2):
            tifffile.imwrite(root / f"b/pos_{p}" / f"t_{t}.tif", image(t))
    imsave(xr.DataArray(image(), dims=("y", "x")), root / "store.zarr")
    (root / "a" / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (root / "a" / "notes.txt").write_text("x")
    return root


class Seen(list):
    """The paths that a scan looked at."""

    def __call__(self, path: str) -> None:
        self.append(os.path.basename(path))


def facts(found) -> dict:
    named = {n: (s.uri, s.name, s.description, s.arguments(), found.facts[n]) for n, s in found.items()}
    return {"named": named, "skipped": found.skipped, "others": found.others, "notes": found.notes}


def test_what_did_not_change_is_not_looked_at_again(lab, tmp_path):
    memory, first, again = tmp_path / "memory.sqlite", Seen(), Seen()
    found = scan(lab, memory=memory, progress=first)
    assert not found.unchanged
    assert set(first) >= {"alpha.npy", "bad.npy", "store.zarr", "m_t{t:d}.tif"}
    same = scan(lab, memory=memory, progress=again)
    assert same.unchanged
    assert again == []
    assert facts(same) == facts(found) == facts(scan(lab))
    assert same["m"].read().image.shape == (4, 6, 7)
    assert repr(same) == repr(found)


@pytest.mark.parametrize("what", ["content", "time", "new", "gone", "member", "store", "renamed"])
def test_a_change_is_seen(lab, tmp_path, what):
    memory, seen = tmp_path / "memory.sqlite", Seen()
    scan(lab, memory=memory)
    path = lab / "a" / "beta.npy"
    if what == "content":
        np.save(path, image(3, 11))
    elif what == "time":
        os.utime(path, ns=(1, 1))
    elif what == "new":
        np.save(lab / "a" / "epsilon.npy", image())
    elif what == "gone":
        path.unlink()
    elif what == "member":
        tifffile.imwrite(lab / "a" / "m_t1.tif", image(9, 8))
    elif what == "store":
        imsave(xr.DataArray(image(1, 9), dims=("y", "x")), lab / "store.zarr", overwrite=True)
    else:
        path.rename(lab / "a" / "omega.npy")
    found = scan(lab, memory=memory, progress=seen)
    assert not found.unchanged
    assert facts(found) == facts(scan(lab))
    assert "alpha.npy" not in seen
    assert "t_{t:d}.tif" not in seen
    looked = {"content": 1, "time": 1, "new": 1, "gone": 0, "member": 5, "store": 1, "renamed": 1}[what]
    assert len(seen) == looked
    assert scan(lab, memory=memory).unchanged


def test_another_folder_or_other_options_forget(lab, tmp_path):
    memory = tmp_path / "memory.sqlite"
    scan(lab, memory=memory)
    for given_ in ({"recursive": False}, {"exclude": ["a/al*"]}, {}):
        found = scan(lab, memory=memory, **given_)
        assert not found.unchanged
        assert facts(found) == facts(scan(lab, **given_))
    assert facts(scan(lab / "a", memory=memory)) == facts(scan(lab / "a"))


def test_a_memory_in_the_folder_is_no_change_of_it(lab):
    scan(lab, memory=lab / "memory.sqlite")
    assert scan(lab, memory=lab / "memory.sqlite").unchanged


def test_a_scan_that_was_stopped_goes_on(lab, tmp_path):
    memory, again = tmp_path / "memory.sqlite", Seen()

    def stop(path: str) -> None:
        if path.endswith("delta.npy"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(lab, memory=memory, progress=stop, workers=1)
    found = scan(lab, memory=memory, progress=again, workers=1)
    assert facts(found) == facts(scan(lab))
    assert "delta.npy" in again
    assert not {"alpha.npy", "beta.npy", "m_t{t:d}.tif"} & set(again)


def test_what_fails_for_another_reason_than_its_content_is_looked_at_again(lab, tmp_path, monkeypatch):
    memory, found = tmp_path / "memory.sqlite", inspections.find_format

    def failing(file):
        if file.name == "beta.npy":
            raise PermissionError(13, "Permission denied")
        return found(file)

    with monkeypatch.context() as patched:
        patched.setattr(inspections, "find_format", failing)
        assert "Permission denied" in scan(lab, memory=memory).skipped[str(lab / "a/beta.npy")]
    seen = Seen()
    again = scan(lab, memory=memory, progress=seen)
    assert "beta" in again
    assert seen == ["beta.npy"]


def test_links_and_special_files(lab, tmp_path):
    os.symlink(lab / "store.zarr", lab / "a" / "link.zarr")
    os.symlink("nowhere.npy", lab / "a" / "lost.npy")
    os.symlink("../b", lab / "a" / "beside")
    os.mkfifo(lab / "a" / "pipe.npy")
    memory = tmp_path / "memory.sqlite"
    first = scan(lab, memory=memory)
    assert {os.path.basename(p) for p in first.skipped} == {"bad.npy", "lost.npy", "pipe.npy"}
    assert scan(lab, memory=memory).unchanged
    imsave(xr.DataArray(image(1, 9), dims=("y", "x")), lab / "store.zarr", overwrite=True)
    assert facts(scan(lab, memory=memory)) == facts(scan(lab))
    np.save(lab / "a" / "nowhere.npy", image())
    assert facts(scan(lab, memory=memory)) == facts(scan(lab))


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "remove", "move"]), st.integers(0, 5), st.integers(4, 6)), max_size=4
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=1, max_size=3))
def test_a_scan_with_a_memory_finds_what_one_without_finds(tmp_path, rounds):
    root, memory = tmp_path / "tree", tmp_path / "memory.sqlite"
    shutil.rmtree(root, ignore_errors=True)
    memory.unlink(missing_ok=True)
    places = [root / f"{folder}/{name}.npy" for folder in ("a", "b") for name in ("t_1", "t_2", "word")]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
    for steps in rounds:
        for what, k, size in steps:
            if what == "write":
                np.save(places[k], image(k, size))
            elif what == "remove":
                places[k].unlink(missing_ok=True)
            elif places[k].exists():
                places[k].rename(places[(k + 1) % 6])
        assert facts(scan(root, memory=memory)) == facts(scan(root))
        assert scan(root, memory=memory).unchanged


def test_a_file_of_another_kind_is_no_memory(lab, tmp_path):
    (tmp_path / "other").write_bytes(b"this is not a database" * 100)
    with pytest.raises(CatalogError, match="cannot be used as the memory of a scan"):
        scan(lab, memory=tmp_path / "other")


@pytest.mark.parametrize("kind", ["table of images", "other tables", "other columns", "view"])
def test_another_database_is_no_memory(lab, tmp_path, kind):
    """A table of images has a table `images` as well: its rows were deleted."""
    path = tmp_path / "a.sqlite"
    if kind == "table of images":
        pytest.importorskip("sqlalchemy")
        write_table({"a": {"driver": "npy", "args": {"uri": "a.npy"}}}, path)
    else:
        made = {
            "other tables": "table mine(a)",
            "other columns": "table looks(path, look)",
            "view": "view v as select 1",
        }
        with contextlib.closing(sqlite3.connect(path)) as base:
            base.execute(f"create {made[kind]}")
    content = path.read_bytes()
    with pytest.raises(CatalogError, match="another database"):
        scan(lab, memory=path)
    assert path.read_bytes() == content


def test_a_memory_that_fails_is_told(lab, tmp_path, monkeypatch):
    path = tmp_path / "a.memory"
    scan(lab, memory=path)
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute("create trigger t before insert on results begin select raise(abort, 'disk full'); end")
    (lab / "more.npy").write_bytes(b"none")
    with pytest.raises(CatalogError, match="disk full"):
        scan(lab, memory=path)


def test_an_older_result_is_not_mixed_with_a_newer_one(lab, tmp_path):
    memory = tmp_path / "memory.sqlite"
    scan(lab, memory=memory)
    old = scan(lab, memory=memory)
    np.save(lab / "a" / "epsilon.npy", image())
    scan(lab, memory=memory)
    with pytest.raises(CatalogError, match="scan again"):
        list(old)


# at a time


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_are_threads(lab, monkeypatch, workers):
    names = set()
    inner = inspections.find_format
    both = threading.Barrier(workers)
    left = iter(range(workers))

    def noted(file):
        names.add(threading.current_thread().name)
        if next(left, None) is not None and workers > 1:
            both.wait(30)  # so many files are looked at at a time
        return inner(file)

    monkeypatch.setattr(inspections, "find_format", noted)
    found = scan(lab, workers=workers)
    assert len(names) == workers
    assert facts(found) == facts(scan(lab))


def test_no_workers_are_refused(lab):
    with pytest.raises(ValueError, match="workers=0: expected 1 or more"):
        scan(lab, workers=0)
    with pytest.raises(ValueError, match="engine='spark'"):
        scan(lab, engine="spark")


@pytest.mark.parametrize("engine", ["dask", "threads", None])
def test_dask_looks_on_its_workers(lab, monkeypatch, engine):
    distributed = pytest.importorskip("distributed")
    inner, places = inspections.find_format, []

    def noted(file):
        try:
            places.append(distributed.get_worker().name)
        except ValueError:
            places.append("here")
        return inner(file)

    monkeypatch.setattr(inspections, "find_format", noted)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
    ):
        found = scan(lab, engine=engine)
    assert set(places) == ({"here"} if engine == "threads" else {0})
    monkeypatch.undo()
    assert facts(found) == facts(scan(lab))


# servers


def test_a_scan_of_urls(lab, tmp_path):
    fs = fsspec.filesystem("memory")
    fs.put(str(lab), "/scanned/lab", recursive=True)
    try:
        found = scan("memory://scanned/lab")
        local = scan(lab)
        assert list(found) == list(local)
        assert found.facts == local.facts
        assert {os.path.basename(p) for p in found.skipped} == {"bad.npy"}
        assert {os.path.basename(p) for p in found.others} == {"notes.txt"}
        np.testing.assert_array_equal(found["beta"].read().image, image(1, 6))
        assert (
            found["b/pos_t"].read().image.shape == local["b/pos_t"].read().image.shape if "b/pos_t" in local else True
        )
        write_catalog(found, tmp_path / "c.yml")
        catalog = open_catalog(tmp_path / "c.yml", roots=["memory://scanned/lab"])
        np.testing.assert_array_equal(catalog["beta"].read().image, image(1, 6))
        assert not [n for n in scan("memory://scanned/lab", recursive=False) if "/" in n]
        assert "beta" not in scan("memory://scanned/lab", exclude=["a/b*"])
        memory, seen = tmp_path / "memory.sqlite", Seen()
        scan("memory://scanned/lab", memory=memory)
        assert scan("memory://scanned/lab", memory=memory, progress=seen).unchanged
        assert seen == []
        fs.pipe("/scanned/lab/a/new.npy", (lab / "a" / "beta.npy").read_bytes())
        assert "new" in scan("memory://scanned/lab", memory=memory, progress=seen)
        assert seen == ["new.npy"]
    finally:
        fs.rm("/scanned", recursive=True)


def test_members_on_servers_are_compared(tmp_path):
    fs = fsspec.filesystem("memory")
    for t in range(4):
        tifffile.imwrite(
            tmp_path / f"m_t{t}.ome.tif", image(), metadata={"axes": "YX", "PhysicalSizeX": 1.0 + (t == 2)}
        )
    fs.put(str(tmp_path), "/compared", recursive=True)
    try:
        assert len(scan("memory://compared")) == 4
    finally:
        fs.rm("/compared", recursive=True)


def test_a_scan_of_a_web_listing(lab, tmp_path):
    pytest.importorskip("aiohttp")
    handler = partial(SimpleHTTPRequestHandler, directory=str(lab))
    handler.func.log_message = lambda *_: None
    with running(handler) as url:
        found = scan(url, exclude=["store.zarr"], memory=tmp_path / "memory.sqlite")
        assert {urllib.parse.unquote(n) for n in found} == set(scan(lab, exclude=["store.zarr"]))
        assert found.facts["beta"] == scan(lab).facts["beta"]


def test_a_scan_of_s3(lab, s3):
    fs = fsspec.filesystem("s3", **s3)
    fs.put(str(lab), "images/lab", recursive=True)
    found = scan("s3://images/lab", storage_options=s3)
    assert list(found) == list(scan(lab))
    np.testing.assert_array_equal(found["beta"].read().image, image(1, 6))


def test_a_url_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        scan("memory://there/is/nothing")


# the command


def test_the_command_brings_a_table_up_to_date(lab, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    target, memory = str(lab / "images.parquet"), str(tmp_path / "memory.sqlite")
    run = ["scan", str(lab), "-o", target, "--memory", memory, "--workers", "2"]
    assert main(run) == 0
    before = len(open_table(target))
    np.save(lab / "a" / "epsilon.npy", image())
    assert main(run) == 0
    assert len(open_table(target)) == before + 1
    assert main(run) == 0
    capsys.readouterr()
    assert main(run) == 0
    assert "nothing changed" in capsys.readouterr().out


def test_the_command_keeps_the_columns_of_people(lab, tmp_path):
    pytest.importorskip("pyarrow")
    from intake_img import write_table

    target = str(lab / "images.parquet")
    write_table(scan(lab), target, columns={"drug": {"beta": "Taxol"}})
    assert main(["scan", str(lab), "-o", target, "--memory", str(tmp_path / "memory.sqlite")]) == 0
    assert open_table(target).images.row("beta")["drug"] == "Taxol"
    assert main(["scan", str(lab), "-o", target]) != 0  # without a memory it is another table


def test_the_command_shows_progress(lab, capsys):
    assert main(["scan", str(lab), "--progress"]) == 0
    assert "scanning" in capsys.readouterr().err
    assert main(["scan", str(lab), "--no-progress"]) == 0
    assert "scanning" not in capsys.readouterr().err


def test_the_memory_is_a_database(lab, tmp_path):
    scan(lab, memory=tmp_path / "m.sqlite")
    with sqlite3.connect(tmp_path / "m.sqlite") as base:
        assert base.execute("select count(*) from looks").fetchone()[0] >= len(WORDS)
    base.close()


def test_a_scan_leaves_no_file_open(lab, monkeypatch):
    """Each file is open only while it is looked at, past the pool: the files that are read meanwhile stay open."""
    monkeypatch.setattr(POOL, "lease", None)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    files = [File.parse(p) for p in sorted(lab.rglob("*")) if p.is_file()]
    seen = [inspections.inspect_file(file, inspections.SimilarFiles()) for file in files]
    assert any(one.facts for one in seen)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
