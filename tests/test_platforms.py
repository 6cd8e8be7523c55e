"""The package where the system has no Unix functions: files are read, written, replaced and staged all the same."""

from __future__ import annotations

import subprocess
import sys

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
