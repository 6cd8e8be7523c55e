"""What is inflated, checked and said when a file is opened: bombs, checksums, empty files, and mistakes of our own."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image as Pillow

from intake_img import imload, imsave
from intake_img.errors import FormatError
from intake_img.formats.faults import translated_errors
from intake_img.formats.npy import handle as npy_handle
from intake_img.formats.npy.driver import Npy, NpySource
from intake_img.formats.registry import formats
from intake_img.plugin import FormatSource, Handle, source_of
from intake_img.storage.files import File
from intake_img.storage.limits import inflate, record_limit

pytestmark = pytest.mark.thorough

BOMB = 2**28
"""Bytes to which each bomb inflates."""


@contextmanager
def little_memory(most: int = 3 * 2**25) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bomb(path: Path, keyword: bytes) -> None:
    stream = io.BytesIO()
    Pillow.fromarray(np.zeros((8, 8), "u1")).save(stream, "PNG")
    plain = stream.getvalue()
    text = keyword + b"\0\1\0\0\0" + zlib.compress(b" " * BOMB, 9)
    path.write_bytes(plain[:33] + _png_chunk(b"iTXt", text) + plain[33:])


def npz_bomb(path: Path, member: str, head: bytes = b"") -> None:
    values = io.BytesIO()
    np.save(values, np.zeros((8, 8), "u1"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", values.getvalue())
        archive.writestr(member, head + b" " * BOMB)


LONG_HEADER = b"\x93NUMPY\x02\x00" + struct.pack("<I", BOMB - 100)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.png", lambda p: png_bomb(p, b"intake_img")),
        ("b.png", lambda p: png_bomb(p, b"Comment")),
        ("a.npz", lambda p: npz_bomb(p, "intake_img.json")),
        ("b.npz", lambda p: npz_bomb(p, "z.npy", LONG_HEADER)),
        ("c.npz", lambda p: npz_bomb(p, "z.npy")),
    ],
)
def test_bombs_are_refused_in_little_memory(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / name)
    assert (tmp_path / name).stat().st_size < BOMB / 200
    with little_memory(), pytest.raises(FormatError, match=name):
        imload(tmp_path / name)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_npz_with_other_compressions_are_refused(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("image.npy", b"\x93NUMPY")
    with pytest.raises(FormatError, match=f"method {method}"):
        NpySource(tmp_path / "a.npz").read()


def test_the_limit_of_inflated_metadata() -> None:
    content = bytes(record_limit(0))
    assert inflate(zlib.compress(content), "x") == content
    with pytest.raises(FormatError, match=r"x has \d+ bytes and inflates to more than 3\d"):
        inflate(zlib.compress(bytes(BOMB)), "x")
    with pytest.raises(FormatError, match="truncated"):
        inflate(zlib.compress(bytes(1000))[:-6], "x")
    with pytest.raises(FormatError, match="damaged"):
        inflate(b"no zlib", "x")


def test_large_records_are_written_and_read(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).random(100_000))
    ds = imload(_saved(tmp_path, np.zeros((100_000, 1, 1), "u1"), times))
    assert_array_equal(ds.t, times)


def _saved(folder: Path, values: np.ndarray, times: np.ndarray) -> Path:
    import xarray as xr

    ds = xr.Dataset({"image": (("t", "y", "x"), values)}, {"t": ("t", times, {"units": "s"})})
    imsave(ds, folder / "times.npz", compress=True)
    return folder / "times.npz"


# checksums


def _flipped(path: Path, values: np.ndarray) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(values.tobytes()) + values.nbytes // 2] ^= 4
    path.write_bytes(data)


VALUES = np.random.default_rng(1).integers(0, 1000, (8, 60, 40), "u2")


@pytest.mark.parametrize("chunks", ["auto", None, {"z": 1}])
@pytest.mark.parametrize("fortran", [False, True])
def test_a_stored_member_is_compared_with_its_checksum(chunks: object, fortran: bool, tmp_path: Path) -> None:
    values = np.asfortranarray(VALUES) if fortran else VALUES
    np.savez(tmp_path / "a.npz", image=values, other=VALUES + 1)
    _flipped(tmp_path / "a.npz", VALUES.T.copy() if fortran else VALUES)
    with pytest.raises(zipfile.BadZipFile):
        np.load(tmp_path / "a.npz")["image"]
    ds = imload(tmp_path / "a.npz", chunks=chunks)
    with pytest.raises(FormatError, match=r"a\.npz.*checksum of image\.npy"):
        ds["image"][0].values  # noqa: B018
    assert_array_equal(ds["other"].values, VALUES + 1)


def test_a_member_is_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", image=VALUES)
    calls: list[int] = []
    monkeypatch.setattr(npy_handle.zlib, "crc32", lambda data, *a: calls.append(len(data)) or zlib_crc32(data, *a))
    ds = imload(tmp_path / "a.npz", chunks={"z": 1})
    opened = len(calls)
    assert_array_equal(ds["image"].values, VALUES)
    assert_array_equal(ds["image"][2].values, VALUES[2])
    assert [n for n in calls[opened:] if n > VALUES.nbytes] == [VALUES.nbytes + 128]


zlib_crc32 = zlib.crc32


def test_large_members_stay_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", image=VALUES)
    _flipped(tmp_path / "a.npz", VALUES)
    monkeypatch.setattr(npy_handle, "_VERIFIED", 1000)
    assert_array_equal(imload(tmp_path / "a.npz")["image"][0].values, VALUES[0])


# mistakes


def _trap(error: Exception) -> type[FormatSource]:
    """Return a source whose format fails to open any file."""

    class Trap(Npy):
        def open(self, file: File, options: object) -> Handle:
            raise error

    return source_of(Trap())


@pytest.mark.parametrize(
    "kind", [AttributeError, NameError, UnboundLocalError, NotImplementedError, AssertionError, TypeError]
)
def test_mistakes_of_a_driver_are_no_damage(kind: type[Exception], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    driver = _trap(kind("oh"))
    with pytest.raises(kind, match=r"^oh$"):
        driver(tmp_path / "a.npy").read()


@pytest.mark.parametrize("kind", [ValueError, KeyError, IndexError, struct.error, ZeroDivisionError])
def test_what_damaged_bytes_cause_is_damage(kind: type[Exception], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    driver = _trap(kind("oh"))
    with pytest.raises(FormatError, match="truncated, damaged"):
        driver(tmp_path / "a.npy").read()


def test_mistakes_within_a_library_are_damage() -> None:
    file = File.parse("a.npy")
    with pytest.raises(FormatError, match="TypeError"), translated_errors(Npy(), file):
        json.loads(3)  # type: ignore[arg-type]


# empty files, and several images in one


@pytest.mark.parametrize("name", sorted(formats()))
def test_an_empty_file_is_said_to_be_empty(name: str, tmp_path: Path) -> None:
    fmt = formats()[name]
    driver = fmt.source
    path = tmp_path / f"a{fmt.extensions[0] if fmt.extensions else ''}"
    path.write_bytes(b"")
    if name == "binary":
        (tmp_path / "conf.json").write_text(json.dumps({"axes": "yx", "shape": [3, 4], "dtype": "u1"}))
    for opened in (lambda: driver(path).read(), lambda: imload(path)):
        with pytest.raises(FormatError, match=rf"{path.name} is empty"):
            opened()


@pytest.mark.parametrize("dtype", ["", "no", 5, [["a"]]], ids=str)
def test_a_description_without_a_type_is_refused(tmp_path, dtype):
    (tmp_path / "a.bin").write_bytes(bytes(12))
    (tmp_path / "a.bin.json").write_text(json.dumps({"axes": "yx", "shape": [3, 4], "dtype": dtype}))
    with pytest.raises(FormatError, match=r"a\.bin: its description has dtype"):
        imload(tmp_path / "a.bin")


def _pgm(values: np.ndarray, comment: bytes = b"") -> bytes:
    maxval = 255 if values.dtype == "u1" else 65535
    magic = b"P6" if values.ndim == 3 else b"P5"
    head = b"%b\n%b%d %d\n%d\n" % (magic, comment, values.shape[1], values.shape[0], maxval)
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("chunks", ["auto", None, {"i": 2, "y": 5}])
def test_all_images_of_a_netpbm_are_read(dtype: str, colour: bool, chunks: object, tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(0, 255, (4, 11, 7) + (3,) * colour).astype(dtype)
    path = tmp_path / ("a.ppm" if colour else "a.pgm")
    path.write_bytes(b"".join(_pgm(v, b"# %d\n" % 10**k) for k, v in enumerate(values)))
    ds = imload(path, chunks=chunks)
    assert ds.sizes["i"] == 4
    expected = np.moveaxis(values, 3, 1) if colour else values
    assert_array_equal(ds["image"].transpose("i", *("c",) * colour, "y", "x").values, expected)
    assert_array_equal(ds["image"].isel(i=[3, 1], y=slice(2, 9, 3)).values.shape[0], 2)


def test_netpbms_of_several_kinds_are_told(tmp_path: Path) -> None:
    one, other = np.zeros((5, 6), "u1"), np.ones((6, 5), "u1")
    (tmp_path / "a.pgm").write_bytes(_pgm(one) + _pgm(other))
    with pytest.warns(UserWarning, match="2 images of 2 sizes"):
        assert_array_equal(imload(tmp_path / "a.pgm")["image"].values, one)
    (tmp_path / "a.pgm").write_bytes(_pgm(one) + _pgm(one)[:-3])
    with pytest.raises(FormatError, match="truncated"):
        imload(tmp_path / "a.pgm")
    (tmp_path / "a.pbm").write_bytes(2 * (b"P4\n9 3\n" + bytes(6)))
    with pytest.warns(UserWarning, match="several pictures"):
        assert imload(tmp_path / "a.pbm")["image"].shape == (3, 9)


def test_further_pictures_of_an_mpo_are_told(tmp_path: Path) -> None:
    frames = [Pillow.fromarray(np.full((16, 24), v, "u1")) for v in (10, 90, 200)]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="3 pictures"):
        assert imload(tmp_path / "a.jpg")["image"].shape == (16, 24)
    frames[0].save(tmp_path / "b.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imload(tmp_path / "b.jpg")
