"""Names and targets: any path or URL opens as itself, ranges are read as asked, targets are replaced whole or not."""

from __future__ import annotations

import errno
import glob
import gzip
import http.server
import io
import mmap
import os
import pickle
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import running
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, MissingExtraError, TargetExistsError
from intake_img.storage import byte_readers
from intake_img.storage.byte_readers import ByteStream
from intake_img.storage.files import File
from intake_img.storage.inflated import Inflated
from intake_img.storage.staging import replacing

VALUES = np.arange(3 * 20 * 30, dtype="uint16").reshape(3, 20, 30)

NAMES = [
    "with space.npy",
    "100%.npy",
    "%20.npy",
    "a#b.npy",
    "what?.npy",
    "[1].npy",
    "{x}.npy",
    "{{x}}.npy",
    "a::b.npy",
    "zip::c.npy",
    "Zellkern µ.npy",
    "細胞.npy",
    "e\u0301.npy",
    "~.npy",
    "~root.npy",
    "-rf.npy",
    "a'b\"c.npy",
    "a\nb.npy",
    "*.npy",
    "a@b.npy",
    "a:b.npy",
    "http:.npy",
    ".hidden.npy",
    "a\\b.npy",
    "$HOME.npy",
    "& ;|.npy",
]


# names


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_itself(name, tmp_path, monkeypatch):
    folder = tmp_path / f"in {name.removesuffix('.npy')} dir"
    folder.mkdir()
    written = imsave(VALUES, folder / name)
    assert written == [str(folder / name)]
    assert os.listdir(folder) == [name]
    monkeypatch.chdir(folder)
    for uri in (folder / name, str(folder / name), os.path.join(".", name), (folder / name).as_uri()):
        np.testing.assert_array_equal(imload(uri)["image"].values, VALUES)
    assert imload(folder / name).attrs["uri"] == str(folder / name)


@examples(60)
@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=30))
def test_any_text_is_a_name(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "names"
    folder.mkdir(exist_ok=True)
    path = folder / f"{text}.npy"
    np.save(path, VALUES[0])
    found = imload(path)
    np.testing.assert_array_equal(found["image"].values, VALUES[0])
    np.testing.assert_array_equal(imload(path.as_uri())["image"].values, VALUES[0])
    path.unlink()


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    imsave(VALUES, "~/a.npy")
    assert (tmp_path / "a.npy").exists()
    np.testing.assert_array_equal(imload("~/a.npy")["image"].values, VALUES)
    np.testing.assert_array_equal(imload(Path("~/a.npy"))["image"].values, VALUES)


def test_relative_paths_outlive_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    imsave(VALUES, "a.npy")
    for chunks in ("auto", None):
        ds = imload("a.npy", chunks=chunks)
        monkeypatch.chdir("/")
        np.testing.assert_array_equal(ds["image"].values, VALUES)
        monkeypatch.chdir(tmp_path)


def test_links_are_followed(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    (tmp_path / "link.npy").symlink_to(tmp_path / "a.npy")
    np.testing.assert_array_equal(imload(tmp_path / "link.npy")["image"].values, VALUES)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///a/b%20c.tif", "/a/b c.tif"),
        ("file:///a/100%25.tif", "/a/100%.tif"),
        ("file://localhost/a.tif", "/a.tif"),
        ("FILE:///a%23.tif", "/a#.tif"),
        ("file:///%C2%B5.tif", "/µ.tif"),
        ("/a/../b//c.tif", "/b/c.tif"),
        (b"/bytes.tif", "/bytes.tif"),
    ],
)
def test_what_names_local_files(url, path):
    file = File.parse(os.fsdecode(url) if isinstance(url, bytes) else url)
    assert (file.path, file.local) == (path, True)


def test_files_are_parsed_once():
    file = File.parse("s3://bucket/a//b.zarr", {"anon": True})
    assert File.parse(file) is file
    assert file.path == "s3://bucket/a/b.zarr"
    assert (file / "c").path == "s3://bucket/a/b.zarr/c"
    assert file.parent.path == "s3://bucket/a"
    assert file.name == "b.zarr"
    assert File.parse("https://host/a%20b.tif?x=1//2#z").name == "a b.tif"
    assert File.parse("https://host/a.tif?x=1//2").path == "https://host/a.tif?x=1//2"


@pytest.mark.parametrize(("uri", "error"), [("", ValueError), (None, TypeError), (3, TypeError), (["a"], TypeError)])
def test_what_is_no_name(uri, error):
    with pytest.raises(error, match=r"expected a path or URL"):
        File.parse(uri)


def test_what_is_no_name_is_shown_in_short():
    with pytest.raises(TypeError, match="of type bytes") as found:
        File.parse(b"many bytes" * 1000)
    assert len(str(found.value)) < 120


def test_names_at_the_limit(tmp_path):
    for stem in ("a" * 251, "µ" * 125 + "a", "細" * 83 + "aa"):
        name = f"{stem}.npz"
        assert len(os.fsencode(name)) == 255
        imsave(VALUES, tmp_path / name)
        imsave(VALUES + 1, tmp_path / name, overwrite=True)
        np.testing.assert_array_equal(imload(tmp_path / name)["image"].values, VALUES + 1)
        assert os.listdir(tmp_path) == [name]
        (tmp_path / name).unlink()
    with replacing(File.parse(tmp_path / ("b" * 250 + ".zarr")), folder=True) as folder:
        assert len(os.path.basename(folder)) <= 255


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        imload(tmp_path / "nothing.npy")
    with pytest.raises(FileNotFoundError, match="nothing"):
        imload(f"memory://{uuid.uuid4()}/nothing.npy")


def test_a_missing_package_says_what_to_install(monkeypatch):
    import fsspec

    def refuse(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'intake_img\[s3\]'"):
        File.parse("s3://bucket/a.npy").filesystem()


# ranges


@examples(40)
@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 300)), max_size=8), st.booleans())
def test_ranges_are_read_as_asked(tmp_path_factory, ranges, local):
    data = bytes(np.random.default_rng(1).integers(0, 256, 1000, dtype="uint8"))
    if local:
        file = File.parse(tmp_path_factory.getbasetemp() / "ranges.bin")
        Path(file.path).write_bytes(data)
    else:
        file = File.parse("memory://ranges/a.bin")
        fs, path = file.filesystem()
        fs.pipe_file(path, data)
    source = file.open()
    try:
        assert source.size == 1000
        inside = [(o, n) for o, n in ranges if o + n <= 1000]
        offsets, counts = [o for o, _ in inside], [n for _, n in inside]
        assert source.ranges(offsets, counts) == [data[o : o + n] for o, n in inside]
        for offset, count in inside:
            with source.window(offset, count) as window:
                assert bytes(window) == data[offset : offset + count]
            out = bytearray(count)
            source.read_into(offset, memoryview(out))
            assert out == data[offset : offset + count]
        for offset, count in set(ranges) - set(inside):
            with pytest.raises(FormatError, match="file ends at 1000"):
                source.ranges([offset], [count])
        with source.stream() as stream:
            stream.seek(500)
            assert stream.read(10) == data[500:510]
    finally:
        source.close()
        source.close()


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(("offset", "count"), [(8, 3), (11, 0), (10, 1), (-1, 1), (-1, 0), (2**70, 1)])
def test_no_range_beyond_the_file_is_read(tmp_path, local, offset, count):
    file = File.parse(tmp_path / "a.bin" if local else f"memory://{uuid.uuid4()}/a.bin")
    fs, place = file.filesystem()
    fs.pipe_file(place, bytes(10))
    source = file.open()
    message = f"points to bytes {offset} to {offset + count}, but the file ends at 10"
    try:
        with pytest.raises(FormatError, match=message):
            source.ranges([offset], [count])
        with pytest.raises(FormatError, match=message):
            source.read_into(offset, memoryview(bytearray(count)))
        with pytest.raises(FormatError, match=message), source.window(offset, count):
            pass
        with source.window(10, 0) as empty:
            assert len(empty) == 0
    finally:
        source.close()


STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 1200)),
    st.tuples(st.just("records"), st.integers(0, 40)),
    st.tuples(st.just("seek"), st.integers(-1100, 1100), st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END])),
)


@pytest.mark.parametrize("kind", ["local", "remote", "inflated"])
@examples(40)
@given(st.lists(STEPS, max_size=12))
def test_streams_read_as_files_do(tmp_path_factory, kind, steps):
    data = bytes(np.random.default_rng(1).integers(0, 256, 1000, dtype="uint8"))
    path = tmp_path_factory.getbasetemp() / f"{kind}.bin"
    path.write_bytes(gzip.compress(data) if kind == "inflated" else data)
    file = File.parse(path)
    if kind == "remote":
        file = File.parse("memory://streams/a.bin")
        fs, place = file.filesystem()
        fs.pipe_file(place, data)
    source = Inflated(file.open(), "gzip") if kind == "inflated" else file.open()
    stream = ByteStream(source) if kind == "local" else source.stream()
    real = io.BytesIO(data)
    try:
        assert stream.seekable()
        assert stream.readable()
        for what, *given_ in steps:
            if what == "read":
                assert stream.read(*given_) == real.read(*given_)
            elif what == "records":
                records, wanted = np.zeros(given_[0] + 1, "u1,<u2"), np.zeros(given_[0] + 1, "u1,<u2")
                assert stream.readinto(records) == real.readinto(wanted)
                assert records.tobytes() == wanted.tobytes()
            else:
                offset, whence = given_
                if {io.SEEK_SET: 0, io.SEEK_CUR: real.tell(), io.SEEK_END: len(data)}[whence] + offset < 0:
                    with pytest.raises(OSError):
                        stream.seek(offset, whence)
                else:
                    assert stream.seek(offset, whence) == real.seek(offset, whence)
            assert stream.tell() == real.tell()
    finally:
        stream.close()
        source.close()


def test_small_windows_share_a_map(tmp_path, monkeypatch):
    path, made = tmp_path / "a.bin", []
    path.write_bytes(bytes(range(256)) * 40_000)
    true_map = mmap.mmap
    monkeypatch.setattr(mmap, "mmap", lambda *a, **more: made.append(a[1]) or true_map(*a, **more))
    source = File.parse(path).open()
    for offset in (0, 1000, 10_000_000):
        with source.window(offset, 5000) as window:
            assert bytes(window) == (bytes(range(256)) * 21)[offset % 256 :][:5000]
    assert made == [0]  # of the complete file
    with source.window(3, 10_000_000) as window:
        assert bytes(window[:4]) == bytes([3, 4, 5, 6])
    assert len(made) == 2  # a large one is not kept in memory
    monkeypatch.setattr(byte_readers, "_GIVES_BACK", False)  # as on Windows
    with source.window(70_000, 5000) as window:
        assert bytes(window) == path.read_bytes()[70_000:75_000]
    assert len(made) == 3
    source.close()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this platform does not tell what is in memory")
def test_a_file_that_is_read_window_by_window_does_not_stay_in_memory(tmp_path):
    path, size = tmp_path / "a.bin", 2**23
    path.write_bytes(bytes(range(256)) * (size // 256))
    source = File.parse(path).open()
    for offset in range(100, size - 2**18, 2**18):
        with source.window(offset, 2**18) as window:
            assert sum(window[:: 2**12]) == 64 * window[0]
    assert _resident(path) < size / 8
    source.close()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this platform does not tell what is in memory")
@pytest.mark.parametrize("chunks", [None, {"y": 64, "x": 64}])
def test_a_file_that_is_read_chunk_by_chunk_does_not_stay_in_memory(tmp_path, monkeypatch, chunks):
    values = np.arange(2048 * 2048, dtype="u4").reshape(2048, 2048)
    np.save(tmp_path / "a.npy", values)
    resident = []
    for most in (2**40, 1):
        monkeypatch.setattr(byte_readers, "_MOST_RESIDENT", most)
        with imload(tmp_path / "a.npy", chunks=chunks) as ds:
            for y, x in np.ndindex(32, 32):
                part = {"y": slice(64 * y, 64 * y + 64), "x": slice(64 * x, 64 * x + 64)}
                assert ds.image.isel(part).values[1, 2] == values[64 * y + 1, 64 * x + 2]
            resident.append(_resident(tmp_path / "a.npy"))
    assert resident[1] < values.nbytes / 4 < resident[0]


def _resident(path):
    """Bytes of the memory maps of a file that are in memory."""
    told = Path("/proc/self/smaps").read_text().split(str(path))[1:]
    return sum(int(re.search(r"Rss:\s+(\d+) kB", one)[1]) for one in told) * 1024


@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_shrinks_while_it_is_read(known, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(100_000))
    source = File.parse(path).open()
    if known:
        with source.window(50_000, 10) as window:
            assert not any(window)
    os.truncate(path, 10)
    with pytest.raises(FormatError, match="truncated"), source.window(50_000, 10):
        pass
    with pytest.raises(FormatError, match="truncated"):
        source.ranges([50_000], [10])
    with pytest.raises(FormatError, match="truncated"):
        source.read_into(50_000, memoryview(bytearray(10)))
    source.close()


# remote


def test_memory_files(tmp_path):
    url = f"memory://{uuid.uuid4()}/sub dir/a#%20.npz"
    assert imsave(VALUES, url) == [url]
    np.testing.assert_array_equal(imload(url)["image"].values, VALUES)
    with pytest.raises(TargetExistsError):
        imsave(VALUES, url)
    imsave(imload(url) + 1, url, overwrite=True)
    np.testing.assert_array_equal(imload(url)["image"].values, VALUES + 1)


class _Ranges(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    content: dict[str, bytes] = {}
    log: list[int] = []
    ranges = True

    def do_GET(self):
        data = self.content.get(self.path.partition("?")[0])
        if data is None:
            self.send_error(404)
            return
        found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.ranges else None
        part = data[int(found[1]) : int(found[2]) + 1 if found[2] else None] if found else data
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {found[1]}-{int(found[1]) + len(part) - 1}/{len(data)}")
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hash(data)}"')
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "GET":
            self.log.append(len(part))
            self.wfile.write(part)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("url", "sibling", "child"),
    [
        ("memory://a.npy", "memory://b", "memory://a.npy/b"),
        ("memory://", "memory://b", "memory://b"),
        ("s3://images/a.npy", "s3://images/b", "s3://images/a.npy/b"),
        ("zip://a.npy::s3://c/d.zip", "zip://b::s3://c/d.zip", "zip://a.npy/b::s3://c/d.zip"),
        ("simplecache::/c/a.npy", "simplecache::/c/b", "simplecache::/c/a.npy/b"),
    ],
)
def test_neighbours_of_a_url(url, sibling, child):
    assert str(File.parse(url).sibling("b")) == sibling
    assert str(File.parse(url) / "b") == child


@pytest.mark.parametrize("extension", [".npy", ".ome.tif", ".zarr"])
def test_a_target_at_the_root_of_a_server(extension, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url, values = f"memory://{uuid.uuid4().hex}{extension}", np.arange(60, dtype="u2").reshape(3, 4, 5)
    imsave(values, url)
    with pytest.raises(TargetExistsError):
        imsave(values, url)
    imsave(values + 1, url, overwrite=True)
    assert (imload(url).image.values == values + 1).all()
    parts = f"memory://{uuid.uuid4().hex}{extension}"
    imsave(values, parts, partition="yx")
    assert (imload(parts).image.values == values).all()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server():
    handler = type("Handler", (_Ranges,), {"content": {}, "log": []})
    with running(handler) as handler.url:
        yield handler


def test_http_reads_ranges(server, tmp_path):
    big = np.arange(40 * 200 * 300, dtype="uint16").reshape(40, 200, 300)
    np.save(tmp_path / "a.npy", big)
    server.content["/a%20b.npy"] = (tmp_path / "a.npy").read_bytes()
    for query in ("", "?token=1/2"):
        server.log.clear()
        ds = imload(f"{server.url}/a%20b.npy{query}")
        assert sum(server.log) < len(server.content["/a%20b.npy"]) / 2  # nothing is asked for without a range
        server.log.clear()
        np.testing.assert_array_equal(ds["image"][5, 10:20, 100:200].values, big[5, 10:20, 100:200])
        assert sum(server.log) < 70_000 * 2
        np.testing.assert_array_equal(imload(f"{server.url}/a%20b.npy{query}", chunks=None)["image"].values, big)
    with pytest.raises(FileNotFoundError):
        imload(f"{server.url}/missing.npy")


def test_http_without_ranges(server, tmp_path):
    server.ranges = False
    np.save(tmp_path / "a.npy", VALUES)
    server.content["/a.npy"] = (tmp_path / "a.npy").read_bytes()
    np.testing.assert_array_equal(imload(f"{server.url}/a.npy")["image"].values, VALUES)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
@pytest.mark.parametrize("key", ["a.npz", "sub/with space.npz", "sub/100%20.npz", "a#b.npz"])
def test_s3(s3, key):
    url = f"s3://images/{key}"
    assert imsave(VALUES, url, storage_options=s3) == [url]
    ds = imload(url, storage_options=s3)
    np.testing.assert_array_equal(ds["image"].values, VALUES)
    with pytest.raises(TargetExistsError):
        imsave(VALUES, url, storage_options=s3)
    imsave(ds + 1, url, overwrite=True, storage_options=s3)
    np.testing.assert_array_equal(imload(url, chunks=None, storage_options=s3)["image"].values, VALUES + 1)


# targets


@pytest.mark.parametrize("name", ["a.npz", "a.zarr"])
def test_existing_targets_are_refused_before_anything_is_written(name, tmp_path, monkeypatch):
    imsave(VALUES, tmp_path / name)
    before = _snapshot(tmp_path)
    read = []
    lazy = imload(tmp_path / name)
    monkeypatch.setattr(type(lazy["image"].data), "compute", lambda *_, **__: read.append(1))
    with pytest.raises(FileExistsError, match=rf"{name} exists: .*overwrite=True"):
        imsave(lazy, tmp_path / name)
    assert not read
    assert _snapshot(tmp_path) == before


@pytest.mark.parametrize(("old", "new"), [("a.npz", "a.npz"), ("a.zarr", "a.zarr")])
@pytest.mark.parametrize("chunks", ["auto", None, {"y": 7}])
def test_ones_own_lazy_source_is_overwritten(old, new, chunks, tmp_path):
    imsave(VALUES, tmp_path / old)
    ds = imload(tmp_path / old, chunks=chunks)
    imsave(ds.isel(y=slice(2, 9)), tmp_path / new, overwrite=True)
    np.testing.assert_array_equal(imload(tmp_path / new)["image"].values, VALUES[:, 2:9])
    assert os.listdir(tmp_path) == [new]


def test_a_file_takes_the_place_of_a_folder_and_back(tmp_path):
    (tmp_path / "a.npz").mkdir()
    (tmp_path / "a.npz" / "inside").touch()
    with pytest.raises(CannotWriteError, match="not an image"):
        imsave(VALUES, tmp_path / "a.npz", overwrite=True)
    assert os.listdir(tmp_path / "a.npz") == ["inside"]
    with replacing(File.parse(tmp_path / "a.npz"), overwrite=True) as path:
        Path(path).touch()
    imsave(VALUES, tmp_path / "a.npz", overwrite=True)
    np.testing.assert_array_equal(imload(tmp_path / "a.npz")["image"].values, VALUES)
    with replacing(File.parse(tmp_path / "a.npz"), overwrite=True, folder=True) as folder:
        Path(folder, "new").touch()
    assert os.listdir(tmp_path / "a.npz") == ["new"]
    assert os.listdir(tmp_path) == ["a.npz"]


def test_the_folder_of_a_target_is_made(tmp_path):
    imsave(VALUES, tmp_path / "new" / "deep" / "a.npz")
    assert (tmp_path / "new" / "deep" / "a.npz").exists()


def _write_and_fail(file, folder):
    with replacing(file, overwrite=True, folder=folder) as path:
        Path(path, "part").touch() if folder else Path(path).write_text("half")
        raise ZeroDivisionError


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_a_write_that_fails_leaves_the_old(folder, exists, tmp_path):
    target = tmp_path / "a.any"
    if exists:
        target.mkdir() if folder else target.write_text("old")
        (target / "old").touch() if folder else None
    before = _snapshot(tmp_path)
    with pytest.raises(ZeroDivisionError):
        _write_and_fail(File.parse(target), folder)
    assert _snapshot(tmp_path) == before


@pytest.mark.parametrize("url", ["memory://targets/a.zarr", "memory://targets/b.npz"])
def test_a_remote_write_that_fails_leaves_the_old(url):
    file = File.parse(url)
    folder = url.endswith(".zarr")
    fs, path = file.filesystem()
    fs.pipe_file(path + "/old" * folder, b"old")
    with pytest.raises(ZeroDivisionError):
        _write_and_fail(file, folder)
    assert fs.cat_file(path + "/old" * folder) == b"old"
    with replacing(file, overwrite=True, folder=folder) as local:
        Path(local, "new").write_text("new") if folder else Path(local).write_text("new")
    assert fs.cat_file(path + "/new" * folder) == b"new"
    assert not fs.exists(path + "/old") or not folder
    assert not [p for p in fs.find("targets") if "partial" in p]
    fs.rm("targets", recursive=True)


def test_leftovers_are_not_taken_for_data(tmp_path):
    target = tmp_path / "a.npz"
    with replacing(File.parse(target)) as path:
        assert not glob.glob(str(tmp_path / "*.npz"))
        assert not path.endswith(".npz")
        assert os.path.basename(path).startswith(".")
        assert os.path.dirname(path) == str(tmp_path / ".a.npz.partial")  # the same file system: a rename ends it
        Path(path).touch()


def test_permissions_are_those_of_any_new_file(tmp_path):
    imsave(VALUES, tmp_path / "a.npz")
    (tmp_path / "b").touch()
    assert (tmp_path / "a.npz").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_full_disk(tmp_path, monkeypatch):
    import builtins

    imsave(VALUES, tmp_path / "a.npy")
    before = _snapshot(tmp_path)

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    original = builtins.open
    monkeypatch.setattr(
        builtins,
        "open",
        lambda f, mode="r", *a, **k: Full(original(f, mode, *a, **k)) if "w" in mode else original(f, mode, *a, **k),
    )
    with pytest.raises(OSError, match=r"no space left for .*a\.npy") as caught:
        imsave(VALUES + 1, tmp_path / "a.npy", overwrite=True)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert _snapshot(tmp_path) == before


LIMITED = """
import resource, signal, sys
import numpy as np, dask.array as da
from intake_img import imsave
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
image = da.random.default_rng(0).integers(0, 255, (20, 200, 200), dtype="uint8", chunks=(1, 200, 200))
for path in sys.argv[1:]:
    try:
        imsave(image, path, overwrite=True)
    except OSError as exc:
        print(exc.strerror)
"""


def test_files_that_may_not_grow(tmp_path):
    paths = [tmp_path / name for name in ("a.npy", "a.npz", "a.tif", "a.ome.tif")]
    for path in paths:
        imsave(VALUES, path)
    before = _snapshot(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, timeout=120, check=True
    )
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"no space left for {path}")
    assert _snapshot(tmp_path) == before


KILLED = """
import sys, threading, time
import numpy as np, dask.array as da
from intake_img import imsave
started = []
def slow(block_info=None):
    k = block_info[None]["array-location"][0][0]
    if k == 120:  # in the third slab: the first is being written
        started.append(k)
    time.sleep(0.001 if k < 120 else 0.5)
    return np.full((1, 600, 600), k, "uint16")
def write(path):
    imsave(da.map_blocks(slow, chunks=((1,) * 400, (600,), (600,)), dtype="uint16"), path, overwrite=True)
for path in sys.argv[1:]:
    threading.Thread(target=write, args=(path,), daemon=True).start()
while len(started) < len(sys.argv) - 1:
    time.sleep(0.01)
print("writing", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("exists", [False, True])
def test_killed_writers(exists, tmp_path):
    """Of a process that is killed while it writes there is nothing, or what was there before."""
    targets = [tmp_path / name for name in ("a.npz", "a.tif", "a.zarr")]
    for target in targets if exists else ():
        imsave(VALUES, target)
    before = _snapshot(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", KILLED, *targets], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    after = _snapshot(tmp_path)
    assert {k: v for k, v in after.items() if k in before} == before
    leftovers = [p for p in tmp_path.iterdir() if p not in targets]
    assert len(leftovers) == 3
    assert all(sum(len(b) for k, b in after.items() if k.startswith(p.name)) > 100 for p in leftovers)
    assert all(p.name.startswith(".") and p.name.endswith(".partial") for p in leftovers)
    for target in targets:
        assert [Path(p) for p in glob.glob(str(tmp_path / f"*{target.suffix}"))] == [target] * exists
        if exists:
            np.testing.assert_array_equal(imload(target)["image"].values, VALUES)
        else:
            with pytest.raises(FileNotFoundError):
                imload(target)


def _snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_chains_of_fsspec(tmp_path):
    """A chain goes to fsspec as it is; the link that names the file gives its name and its neighbours."""
    import zipfile

    from intake_img import imload

    np.save(tmp_path / "a.npy", np.arange(12).reshape(3, 4))
    with zipfile.ZipFile(tmp_path / "box.zip", "w") as archive:
        archive.write(tmp_path / "a.npy", "in/a.npy")
    local, folder = f"file://{tmp_path}", str(tmp_path / "cache")
    options = {"simplecache": {"cache_storage": folder}, "filecache": {"cache_storage": folder}}
    for uri in (
        f"simplecache::{local}/a.npy",
        f"simplecache::{tmp_path}/a.npy",
        f"filecache::{local}/a.npy",
        f"zip://in/a.npy::{local}/box.zip",
        f"simplecache::zip://in/a.npy::{local}/box.zip",
    ):
        file = File.parse(uri)
        assert not file.local, uri
        assert (file.name, file.sibling("b.npy").name, (file.parent / "a.npy").path) == ("a.npy", "b.npy", uri)
        known = {k: v for k, v in options.items() if uri.startswith(k)}
        assert imload(uri, storage_options=known).image.values.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert File.parse("simplecached_a::b.npy").local


def test_a_remote_file_is_fetched_with_one_request() -> None:
    """Its content serves head, size and ranges; it does not travel, and a file that is too large stays remote."""
    fs, path = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}.bin"
    fs.pipe_file(path, b"0123456789")
    file = File.parse(f"memory:/{path}")
    assert file.fetched(9) is file
    found = file.fetched(10)
    fs.rm(path)
    reader = found.open()
    assert (reader.size, reader.ranges([2, 9], [3, 1]), found.head(4)) == (10, [b"234", b"9"], b"0123")
    reader.close()
    assert found == file
    fs.pipe_file(path, b"012345678!")
    assert file.at(file.path).fetched(10).stamp() != found.stamp()
    fs.rm(path)
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(found)).open()
