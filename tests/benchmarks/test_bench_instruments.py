"""Microscopes, cameras and stores of instruments against the best that reads them: opening, a whole read, a region.

Formats that are a header and plain pixels are compared with NumPy, which is told where these lie; those in HDF5 with
h5py; ND2, DICOM and WKW with the library of each; KLB with bz2.
"""

from __future__ import annotations

import bz2
import contextlib
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from intake_img import autodetect, imsave
from intake_img.formats.registry import formats

FRAMES, SIDE = 32, 1024
ROWS, COLUMNS = slice(200, 250), slice(300, 350)


@dataclass(frozen=True)
class Raw:
    """What the library does with a file; its region is that of the sixth plane."""

    path: Path
    open: Callable[[], Any]
    read: Callable[[], np.ndarray]
    region: Callable[[], np.ndarray]


def _plain(path: Path, values: np.ndarray, upward: bool = False) -> Raw:
    """Frames that lie in the file as they are, each in one piece; their rows are stored from below if `upward`."""
    content, at, places = path.read_bytes(), 0, []
    for frame in values:
        at = content.index((frame[::-1] if upward else frame)[:8].tobytes(), at)
        places.append(at)
    step = -1 if upward else 1
    mapped = np.memmap(path, values.dtype, "r", places[5], values.shape[1:])[::step]

    def read() -> np.ndarray:
        out = np.empty(values.shape, values.dtype)
        with open(path, "rb") as stream:
            for k, place in enumerate(places):
                stream.seek(place)
                stream.readinto(out[k].reshape(-1).view("u1").data)
        return out

    def turned() -> np.ndarray:
        out, whole = np.empty(values.shape, values.dtype), np.memmap(path, np.uint8, "r")
        for k, place in enumerate(places):
            out[k] = np.ndarray(values.shape[1:], values.dtype, whole, place)[::-1]
        return out

    def opened() -> bytes:
        with open(path, "rb") as stream:
            return stream.read(1024)

    return Raw(path, opened, turned if upward else read, lambda: mapped[ROWS, COLUMNS].copy())


def _dv(folder: Path, values: np.ndarray) -> Raw:
    from test_dv import dv

    return _plain(dv(folder / "a.dv", values, waves=(457,)), values)


def _dm(folder: Path, values: np.ndarray) -> Raw:
    from test_dm import dm, image

    return _plain(dm(folder / "a.dm4", [image(values, 10)], version=4), values)


def _tia(folder: Path, values: np.ndarray) -> Raw:
    from test_tia import NUMBER, ser

    dimension = (len(values), *NUMBER)
    return _plain(ser(folder / "a.ser", values, [dimension]), values, upward=True)


def _spe(folder: Path, values: np.ndarray) -> Raw:
    head = bytearray(Path(formats()["spe"].sample(str(folder))[0]).read_bytes()[:4100])
    for layout, at, number in (("<H", 42, SIDE), ("<H", 656, SIDE), ("<i", 1446, len(values))):
        struct.pack_into(layout, head, at, number)
    (folder / "a.spe").write_bytes(bytes(head) + values.tobytes())
    return _plain(folder / "a.spe", values)


def _sif(folder: Path, values: np.ndarray) -> Raw:
    values = values.astype("<f4")
    head = Path(formats()["sif"].sample(str(folder))[0]).read_bytes()[: -3 * 4 * 6 * 4]
    n, size = len(values), SIDE * SIDE
    head = head.replace(b" 6 4 8\n", f" {SIDE} {SIDE} 8\n".encode())
    head = head.replace(b"65541 1 4 6 1 3 1 72 24\n", f"65541 1 {SIDE} {SIDE} 1 {n} 1 {n * size} {size}\n".encode())
    head = head.replace(b"65538 1 4 6 1 1 1 0\n", f"65538 1 {SIDE} {SIDE} 1 1 1 0\n".encode())
    times = "".join(f"{k:10d}\n" for k in range(n)).encode()
    head = re.sub(rb"( +\d\n){3}0\n$", times + b"0\n", head)
    (folder / "a.sif").write_bytes(head + values.tobytes())
    return _plain(folder / "a.sif", values)


def _klb(folder: Path, values: np.ndarray) -> Raw:
    from test_cameras import write_klb

    path, block, values = folder / "a.klb", (1, 1, 8, 128, 128), values[:8]
    write_klb(path, values[None, None], 1, block)
    content = path.read_bytes()
    count = int(np.prod([n // b for n, b in zip(values.shape, block[2:], strict=True)]))
    start = content.index(b"BZh", 319 + 8 * count)
    ends = [0, *np.frombuffer(content, "<u8", count, start - 8 * count).tolist()]
    corners = list(product(*(range(0, n, b) for n, b in zip(values.shape, block[2:], strict=True))))

    def block_of(k: int) -> np.ndarray:
        data = bz2.decompress(content[start + ends[k] : start + ends[k + 1]])
        return np.frombuffer(data, "<u2").reshape(block[2:])

    def read() -> np.ndarray:
        out = np.empty(values.shape, values.dtype)
        for k, (z, y, x) in enumerate(corners):
            out[z : z + 8, y : y + 128, x : x + 128] = block_of(k)
        return out

    inside = [k for k, (z, y, x) in enumerate(corners) if z == 0 and y in (128,) and x in (256,)]
    return Raw(path, path.stat, read, lambda: next(block_of(k) for k in inside)[5, 72:122, 44:94])


def _in_hdf5(path: Path, inner: str, place: Sequence[Any]) -> Raw:
    import h5py

    stored = h5py.File(path)[inner]

    def opened() -> Any:
        with h5py.File(path) as f:
            return f[inner].shape

    return Raw(path, opened, lambda: stored[()], lambda: stored[tuple(place)])


def _ims(folder: Path, values: np.ndarray) -> Raw:
    import h5py

    path = Path(formats()["ims"].sample(str(folder))[0]).rename(folder / "a.ims")
    with h5py.File(path, "r+") as f:
        for name in ("TimePoint 1", "TimePoint 0/Channel 1"):
            del f[f"DataSet/ResolutionLevel 0/{name}"]
        del f["DataSet/ResolutionLevel 1"]
        group = f["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"]
        del group["Data"]
        for axis, n in zip("ZYX", values.shape, strict=True):
            for item in (group, f["DataSetInfo/Image"]):
                item.attrs[f"ImageSize{axis}" if item is group else axis] = np.array(list(str(n)), "S1")
        group.create_dataset("Data", data=values, chunks=(8, 128, 128), compression="gzip", compression_opts=1)
    return _in_hdf5(path, "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data", (5, ROWS, COLUMNS))


def _emd(folder: Path, values: np.ndarray) -> Raw:
    from test_emd import _velox

    shown = np.ascontiguousarray(values[:8].transpose(1, 2, 0))
    path = _velox(folder / "a.emd", shown, [b"{}"])
    return _in_hdf5(path, f"Data/Image/{0:032x}/Data", (ROWS, COLUMNS, 5))


def _netcdf(folder: Path, values: np.ndarray) -> Raw:
    path = folder / "a.nc"
    coding = {"image": {"zlib": True, "complevel": 1, "chunksizes": (8, 128, 128)}}
    xr.Dataset({"image": (tuple("zyx"), values)}).to_netcdf(path, engine="netcdf4", encoding=coding)
    return _in_hdf5(path, "image", (5, ROWS, COLUMNS))


def _wkw_lz4(folder: Path, values: np.ndarray) -> Raw:
    return _wkw(folder, np.concatenate([values[:, y::2, x::2] for y in (0, 1) for x in (0, 1)]), file_len=4)


def _wkw(folder: Path, values: np.ndarray, file_len: int = 32) -> Raw:
    """Cubes of `file_len` blocks; small ones are packed, which the library does only with complete cubes."""
    wkw = pytest.importorskip("wkw")
    from test_wkw import _layer, _properties

    root = folder / "dataset"
    (root / "color").mkdir(parents=True)
    kind = wkw.Header.BLOCK_TYPE_RAW if file_len == 32 else wkw.Header.BLOCK_TYPE_LZ4
    header = wkw.Header(values.dtype, 1, block_type=kind, block_len=32, file_len=file_len)
    with wkw.Dataset.create(str(root / "color/1"), header) as dataset:
        dataset.write((0, 0, 0), np.asfortranarray(values.T[None]))
    _properties(root, _layer("color", [0, 0, 0], list(values.shape[::-1]), [[1, 1, 1]]))
    opened = wkw.Dataset.open(str(root / "color/1"))
    return Raw(
        root,
        lambda: wkw.Dataset.open(str(root / "color/1")).close(),
        lambda: np.ascontiguousarray(opened.read((0, 0, 0), values.shape[::-1])[0].T),
        lambda: opened.read((300, 200, 5), (50, 50, 1))[0, :, :, 0].T.copy(),
    )


def _nd2(folder: Path, values: np.ndarray) -> Raw:
    nd2 = pytest.importorskip("nd2")
    from nd2_files import grown

    frames = np.stack([values[k : k + 2].transpose(1, 2, 0) for k in range(12)])  # 2 times, 3 positions, 2 planes
    path = grown(folder / "a.nd2", "loops", frames)

    def opened() -> Any:
        with nd2.ND2File(path) as document:
            return document.sizes, document.metadata

    def read() -> np.ndarray:
        with nd2.ND2File(path) as document:
            return np.ascontiguousarray(document.asarray(0))

    def region() -> np.ndarray:
        with nd2.ND2File(path) as document:
            return document.read_frame(0)[0, ROWS, COLUMNS].copy()

    return Raw(path, opened, read, region)


def _dicom(folder: Path, values: np.ndarray) -> Raw:
    pydicom = pytest.importorskip("pydicom")
    path = folder / "a.dcm"
    imsave(xr.DataArray(values, dims=list("zyx")), path)
    return Raw(
        path,
        lambda: pydicom.dcmread(path, stop_before_pixels=True),
        lambda: pydicom.dcmread(path).pixel_array,
        lambda: pydicom.pixels.pixel_array(path, index=5)[ROWS, COLUMNS].copy(),
    )


def _bdv(folder: Path, values: np.ndarray) -> Raw:
    import h5py

    path = Path(formats()["bdv"].sample(str(folder))[0])
    content = path.read_text(encoding="utf-8").replace("20 12 3", f"{SIDE} {SIDE} 4")
    path.write_text(content, encoding="utf-8")
    with h5py.File(path.with_suffix(".h5"), "r+") as f:
        for k, (t, s) in enumerate(np.ndindex(2, 2)):
            for level in (0, 1):
                name, stored = f"t{t:05d}/s{s:02d}/{level}/cells", values[4 * k : 4 * k + 4, :: level + 1, :: level + 1]
                del f[name]
                f.create_dataset(name, data=stored.view("i2"), chunks=(4, 64, 64), compression="gzip")
    stored = h5py.File(path.with_suffix(".h5"))
    cells = [[stored[f"t{t:05d}/s{s:02d}/0/cells"] for s in (0, 1)] for t in (0, 1)]

    def opened() -> Any:
        with h5py.File(path.with_suffix(".h5")) as f:
            return f["t00000/s00/0/cells"].shape

    def read() -> np.ndarray:
        return np.stack([np.stack([view[()] for view in views]) for views in cells]).view("u2")

    return Raw(path, opened, read, lambda: cells[0][0][0, ROWS, COLUMNS].view("u2"))


MAKERS = {
    "bdv": _bdv,
    "dicom": _dicom,
    "nd2": _nd2,
    "dv": _dv,
    "dm": _dm,
    "tia": _tia,
    "spe": _spe,
    "sif": _sif,
    "klb": _klb,
    "ims": _ims,
    "emd": _emd,
    "netcdf": _netcdf,
    "wkw": _wkw,
    "wkw_lz4": _wkw_lz4,
}


@pytest.fixture(scope="session", params=list(MAKERS))
def raw(request: pytest.FixtureRequest, big: Path, texture: np.ndarray) -> Raw:
    folder = big / f"instrument-{request.param}"
    folder.mkdir()
    frames = [np.roll(texture[:SIDE, :SIDE], 97 * k, axis=1) for k in range(FRAMES)]
    return MAKERS[request.param](folder, np.ascontiguousarray(np.stack(frames).astype("<u2")))


def test_open(raw: Raw, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "3 ms above the library"

    def ours() -> Any:
        with contextlib.closing(autodetect(str(raw.path))) as source:
            return source.image().sizes

    versus(ours, raw.open, rounds=40)
    assert benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 3


def test_read(raw: Raw, versus, benchmark) -> None:
    benchmark.extra_info["gate"] = "1.25"
    with autodetect(str(raw.path), output_axis_order=None) as ours:
        assert ours.read()["image"].values.sum(dtype=float) == raw.read().sum(dtype=float)
        assert versus(ours.read, raw.read) <= 1.25


def test_region(raw: Raw, versus, benchmark) -> None:
    """Two times as long as the library at most, or 0.5 ms longer: what xarray and our layers take for each access."""
    benchmark.extra_info["gate"] = "2, or 0.5 ms above the library"
    with autodetect(str(raw.path)) as source:
        pixels = source.image().only.pixels
        axes = source.image().only.axes
        inner = {"y": ROWS, "x": COLUMNS}
        key = tuple(inner.get(a, 5 if n > 5 else 0) for a, n in zip(axes, pixels.shape, strict=True))
        np.testing.assert_array_equal(np.squeeze(pixels[key]), raw.region())
        ratio = versus(lambda: pixels[key], raw.region, rounds=30)
    assert ratio <= 2 or benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 0.5
