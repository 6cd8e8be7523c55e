"""The package where the system has no Unix functions: files are read, written, replaced and staged all the same."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.storage import renames, replacing
from intake_img.storage.handles import POOL

TRIAL = """
import builtins, ctypes, os, signal, sys, threading

import dask.array, fsspec, intake, intake.readers, pylibCZIrw, tifffile, tqdm, zarr  # which have ways of their own
import numpy as np, xarray as xr

for name in ("pread preadv pwrite pwritev fork forkpty register_at_fork link getuid geteuid getgid chown fchmod fchown "
             "sched_getaffinity sysconf statvfs fstatvfs posix_fadvise mkfifo sendfile sync uname killpg").split():
    if hasattr(os, name):
        delattr(os, name)
if hasattr(os, "process_cpu_count"):  # which calls one of them
    os.process_cpu_count = os.cpu_count
for name in "SIGKILL SIGHUP SIGALRM SIGCHLD SIGUSR1".split():
    delattr(signal, name)
original = builtins.__import__
def imports(name, *args, **kwargs):
    if name.split(".")[0] in ("fcntl", "resource", "pwd", "grp") and args and args[0] and (
        str(args[0].get("__name__")).startswith("intake_img")
    ):
        raise ImportError(f"No module named {name!r} on this platform")
    return original(name, *args, **kwargs)
builtins.__import__ = imports

def no_library(*args, **kwargs):
    raise OSError("there is no such library")
ctypes.CDLL = no_library

import intake_img
from intake_img.storage import positioned, renames

assert renames.fcntl is None
folder = sys.argv[1]
values = np.random.default_rng(0).integers(0, 9, (3, 40, 50)).astype("u2")
ds = xr.Dataset({"image": (tuple("zyx"), values)})
for name in ("a.tif", "a.npy", "a.zarr", "a.czi", "a.npz"):
    path = f"{folder}/{name}"
    intake_img.imsave(ds, path)
    for given in (ds, ds + np.uint16(1)):  # replaced, while the old is in use
        intake_img.imsave(given, path, overwrite=True)
        with intake_img.imload(path, chunks={"y": 16, "x": 16}) as found:
            np.testing.assert_array_equal(found.image.squeeze().values, given.image.values, name)
            np.testing.assert_array_equal(found.image.squeeze()[1, 3:30, 7:9].values, given.image[1, 3:30, 7:9].values)
files = intake_img.imsave(ds, f"{folder}/parts.tif", partition="yx")
np.testing.assert_array_equal(intake_img.imload(f"{folder}/parts.tif").image.squeeze().values, values)
assert len(files) == 3

path = f"{folder}/bytes"
content = np.random.default_rng(1).bytes(200_000)
with open(path, "wb") as stream:
    stream.write(content)
fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
wrong = []
def reads(seed):
    for offset in np.random.default_rng(seed).integers(0, 199_000, 300).tolist():
        out = memoryview(bytearray(700))
        n = positioned.read_into_at(fd, out, offset)
        good = positioned.read_at(fd, 900, offset) == content[offset : offset + 900]
        if not good or out[:n] != content[offset : offset + n]:
            wrong.append(offset)
threads = [threading.Thread(target=reads, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join(60) for t in threads]
os.close(fd)
assert not wrong and not any(t.is_alive() for t in threads)
left = sorted(n for n in os.listdir(folder) if n.startswith(".") or "staging" in n or n.endswith(".tmp"))
print("left:", left)
"""


def test_files_are_read_and_replaced_without_functions_of_unix(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRIAL, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "left: []"


def refusing(monkeypatch, name, target, held):
    """Let a function of `os` fail, as Windows does, for as long as `held()` says that `target` is open."""
    plain, refused = getattr(os, name), []

    def call(source, to, **options):
        if os.fspath(target) in (os.fspath(source), os.fspath(to)) and held():
            refused.append(1)
            exc = PermissionError(errno.EACCES, "Access is denied")
            exc.winerror = 5
            raise exc
        return plain(source, to, **options)

    monkeypatch.setattr(os, name, call)
    return refused


def image(value):
    return xr.Dataset({"image": (("y", "x"), np.full((30, 40), value, "u2"))})


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_a_file_that_an_idle_handle_holds_open_is_replaced(tmp_path, monkeypatch, name):
    path = tmp_path / name
    imsave(image(1), path)
    old = imload(path)
    assert old.image.values.max() == 1
    assert len(POOL) > 0
    refused = refusing(monkeypatch, "replace", path, lambda: len(POOL) > 0)
    imsave(image(2), path, overwrite=True)
    assert refused
    assert imload(path).image.values.max() == 2


def test_a_file_that_is_open_for_a_moment_is_replaced(tmp_path, monkeypatch):
    imsave(image(1), tmp_path / "a.tif")
    left = iter(range(3))
    refused = refusing(monkeypatch, "replace", tmp_path / "a.tif", lambda: next(left, None) is not None)
    imsave(image(2), tmp_path / "a.tif", overwrite=True)
    assert len(refused) == 3
    assert imload(tmp_path / "a.tif").image.values.max() == 2


def test_a_file_that_stays_open_keeps_its_content_and_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(replacing, "PATIENCE", 0.05)
    imsave(image(1), tmp_path / "a.tif")
    with monkeypatch.context() as patch:
        refusing(patch, "replace", tmp_path / "a.tif", lambda: True)
        with pytest.raises(PermissionError, match=r"is open: close programs.*nothing was replaced.*a\.tif"):
            imsave(image(2), tmp_path / "a.tif", overwrite=True)
    assert os.listdir(tmp_path) == ["a.tif"]
    assert imload(tmp_path / "a.tif").image.values.max() == 1


def test_a_store_that_stays_open_is_finished_by_the_next_write(tmp_path, monkeypatch):
    monkeypatch.setattr(replacing, "PATIENCE", 0.05)
    monkeypatch.setattr(renames, "rename_flagged", lambda *_: errno.ENOSYS)
    imsave(image(1), tmp_path / "a.zarr")
    with monkeypatch.context() as patch:
        refusing(patch, "rename", tmp_path / "a.zarr", lambda: True)
        with pytest.raises(OSError, match=r"the new .* is complete.*is open: close programs"):
            imsave(image(2), tmp_path / "a.zarr", overwrite=True)
    assert imload(tmp_path / "a.zarr").image.values.max() == 2
    imsave(image(3), tmp_path / "a.zarr", overwrite=True)
    assert imload(tmp_path / "a.zarr").image.values.max() == 3
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_a_file_that_may_not_be_written_is_not_waited_for(tmp_path, monkeypatch):
    calls = []

    def denied(source, target):
        calls.append(1)
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", denied)
    with pytest.raises(PermissionError, match="Permission denied"):
        replacing.replace(str(tmp_path / "a"), str(tmp_path / "b"))
    assert len(calls) == 1


def test_open_files_are_removed_when_they_are_closed(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"1")
    left, plain = iter(range(2)), shutil.rmtree

    def refused(path):
        if next(left, None) is not None:
            exc = PermissionError(errno.EACCES, "Access is denied")
            exc.winerror = 32
            raise exc
        plain(path)

    monkeypatch.setattr(shutil, "rmtree", refused)
    renames.remove_tree(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == []
