"""How patches are read: each tile decoded once, files by whichever container, faults, processes, and dask beneath."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import threading
import time
import tracemalloc
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

import intake_img
from intake_img.accessor.patches import CACHE, Patches, box_reading
from intake_img.accessor.patches.box_reading import Gatherer
from intake_img.errors import FormatError, SourceChangedError
from intake_img.model.pixels import Pixels
from intake_img.model.readers import Dask
from intake_img.storage.cache import MemoryCache
from intake_img.testing.process import open_files


class Counted:
    """A reader that counts the regions it reads; of neighbouring tiles, each."""

    def __init__(self, array: np.ndarray, tiles: tuple[int, ...] | None = None) -> None:
        self.array, self.regions, self.lock = array, [], threading.Lock()
        self.tiles, self.calls = tiles or array.shape, 0

    def read_into(self, region, out):
        parts = [
            [(max(s.start, k), min(s.stop, k + t)) for k in range(s.start // t * t, s.stop, t)]
            for s, t in zip(region, self.tiles, strict=True)
        ]
        with self.lock:
            self.calls += 1
            self.regions += itertools.product(*parts)
        out[...] = self.array[region]


@pytest.fixture(autouse=True)
def empty_cache():
    CACHE.clear()
    before = CACHE.limit
    yield
    CACHE.limit = before
    CACHE.clear()


def counted(shape: tuple[int, ...], tiles: tuple[int, ...], dims: str = "yx") -> tuple[Counted, xr.Dataset]:
    reader = Counted(np.random.default_rng(0).integers(0, 60000, shape).astype("u2"), tiles)
    return reader, xr.Dataset({"image": (list(dims), Pixels(reader, shape, np.dtype("u2"), tiles).dask())})


# tiles


def test_64_patches_of_a_grid_over_4_chunks_decode_4_chunks():
    reader, ds = counted((64, 64), (32, 32))
    p = ds.img.patches(8)
    assert len(p) == 64
    held = p.read(slice(None))
    assert len(reader.regions) == 4
    assert len(set(reader.regions)) == 4
    want = reader.array.reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(64, 8, 8)
    np.testing.assert_array_equal(held, want)
    p.read(slice(None))
    assert len(reader.regions) == 4  # the tiles are kept


@pytest.mark.parametrize("sample", ["random", "stratified"])
def test_within_a_window_no_tile_is_decoded_twice(sample):
    reader, ds = counted((3, 2, 200, 260), (1, 1, 64, 64), "tcyx")
    CACHE.limit = 0
    p = ds.img.patches(30, sample=sample, edge="pad")
    held = p.read(slice(None))
    assert len(reader.regions) == len(set(reader.regions))
    padded = np.pad(reader.array, [(0, 0), (0, 0), (40, 40), (40, 40)])
    for k, (t, (y, x)) in enumerate(zip(p.plan.index[:, 0], p.plan.start, strict=True)):
        np.testing.assert_array_equal(held[k], padded[t, :, 40 + y : 70 + y, 40 + x : 70 + x])
    reader.regions.clear()
    for _ in p.batches(16, lookahead=len(p) + 16, shuffle=True, labelled=False):
        pass
    assert len(reader.regions) == len(set(reader.regions))


def test_mirrored_edges_decode_no_tile_twice():
    reader, ds = counted((100, 100), (32, 32))
    ds.img.patches(24, halo=20, pad_mode="reflect").read(slice(None))
    assert len(reader.regions) == 16


def test_windows_decode_what_they_need_and_no_more():
    reader, ds = counted((320, 320), (32, 32))
    CACHE.limit = 0
    p = ds.img.patches(32)
    for _ in p.batches(10, lookahead=10, labelled=False, prefetch=0):
        pass
    assert len(reader.regions) == 100
    reader.regions.clear()
    p.read(7)
    assert reader.regions == [((0, 32), (224, 256))]


def test_of_an_image_beyond_the_cache_kept_tiles_come_first_and_neighbours_together(monkeypatch):
    monkeypatch.setattr(box_reading, "cpus", lambda: 1)
    reader, ds = counted((512, 1024), (64, 64))
    CACHE.limit = 2**19  # of 1 MiB: 64 of 128 tiles
    p = ds.img.patches(48, sample="random", n=2000, edge="drop")
    want = [reader.array[y : y + 48, x : x + 48] for y, x in p.plan.start]
    numbers = np.arange(len(p))
    for window, (most_tiles, most_calls) in enumerate([(128, 8), (64, 4), (64, 4)]):
        reader.regions.clear()
        reader.calls = 0
        np.testing.assert_array_equal(p.read(numbers[window::3]), want[window::3])
        assert len(reader.regions) <= most_tiles
        assert reader.calls <= most_calls


def test_an_error_names_the_tile_of_those_read_together(monkeypatch):
    reader, ds = counted((64, 256), (64, 64))
    CACHE.limit = 2**15

    def broken(region, out):
        if region[1].start < 150 < region[1].stop:
            raise ValueError("damaged")

    monkeypatch.setattr(reader, "read_into", broken)
    with pytest.raises(FormatError, match=r"y=0:64, x=128:192 cannot be read: damaged"):
        ds.img.patches(64).read(slice(None))


def test_a_single_patch_of_a_huge_tile_is_read_alone():
    reader, ds = counted((400, 400), (400, 400))
    CACHE.limit = 1000
    p = ds.img.patches(8)
    p.read(51)
    assert reader.regions == [((8, 16), (8, 16))]


@examples(60)
@given(st.data())
def test_boxes_of_any_array(data):
    ndim = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(ndim))
    tiles = tuple(data.draw(st.integers(1, 12)) for _ in range(ndim))
    array = np.arange(np.prod(shape)).reshape(shape)
    kind = data.draw(st.sampled_from(["tiles", "memory", "dask"]))
    if kind == "dask":
        cuts = [data.draw(st.lists(st.integers(1, n), max_size=2)) for n in shape]
        chunks = tuple(tuple(np.diff(sorted({0, *c, n})).tolist()) for c, n in zip(cuts, shape, strict=True))
        pixels = Pixels.of(da.from_array(array, chunks=chunks) + 0)
    else:
        pixels = Pixels.of(array) if kind == "memory" else Pixels(Counted(array), shape, array.dtype, tiles)
    size = tuple(data.draw(st.integers(1, n)) for n in shape)
    n = data.draw(st.integers(1, 12))
    low = np.array([[data.draw(st.integers(0, m - s)) for m, s in zip(shape, size, strict=True)] for _ in range(n)])
    out = np.zeros((n, *size), array.dtype)
    Gatherer(pixels, "zyx"[-ndim:]).gather(low, low + size, out, np.arange(n), np.zeros_like(low))
    for k in range(n):
        np.testing.assert_array_equal(out[k], array[tuple(slice(a, a + s) for a, s in zip(low[k], size, strict=True))])


def test_the_cache_holds_no_more_than_it_may():
    cache = MemoryCache(1000)
    for k in range(20):
        cache.put(k, np.zeros(100, "u1"))
    assert cache.nbytes == 1000
    assert len(cache) == 10
    assert cache.get(9) is None
    assert cache.get(10) is not None
    cache.put(99, np.zeros(100, "u1"))
    assert cache.get(10) is not None
    assert cache.get(11) is None
    cache.put("large", np.zeros(300, "u1"))
    assert "large" not in cache
    cache.put("large", np.zeros(300, "u1"), share=0.3)
    assert "large" in cache
    assert cache.nbytes == 1000
    cache.put("large", np.zeros(200, "u1"))  # in its place
    cache.put("text", b"abc", nbytes=3)
    assert cache.nbytes == 903
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)


def test_threads_make_a_value_of_the_cache_once():
    cache, made, start = MemoryCache(1000), [], threading.Barrier(8)

    def make():
        made.append(np.zeros(5))
        time.sleep(0.01)
        return made[-1]

    found = []

    def ask():
        start.wait()
        found.append(cache.shared("a", make))

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(made) == 1
    assert len(found) == 8
    assert all(value is made[0] for value in found)


# lazily transformed data, and selections


@pytest.mark.parametrize("threads", [1, 4])
def test_an_image_that_fits_into_the_cache_becomes_one_array(threads):
    reader = Counted(np.random.default_rng(0).integers(0, 60000, (50, 70)).astype("u2"))
    pixels = Pixels(reader, (50, 70), np.dtype("u2"), (16, 16))
    broken: list[tuple[int, ...]] = [(32, 32)]

    class Damaged:
        def read_into(self, region, out):
            if tuple(s.start for s in region) in broken:
                raise FormatError("no pixels there")
            reader.read_into(region, out)

    damaged = Pixels(Damaged(), (50, 70), np.dtype("u2"), (16, 16))
    low = np.array([(y, x) for y in range(0, 31) for x in range(0, 61, 3)])
    high = low + np.array([20, 9])
    for k, image in enumerate((pixels, damaged)):
        gatherer = Gatherer(image, "yx", threads)
        out = np.zeros((len(low), 20, 9), "u2")
        reader.regions.clear()
        if k:
            with pytest.raises(FormatError, match="y=32:48, x=32:48"):
                gatherer.gather(low, high, out, np.arange(len(low)), np.zeros_like(low))
            broken.clear()  # what was read stays, what was not is read now
        arguments = low, high, out, np.arange(len(low)), np.zeros_like(low)
        with_threads = [threading.Thread(target=gatherer.gather, args=arguments) for _ in range(3)]
        for thread in with_threads:
            thread.start()
        for thread in with_threads:
            thread.join()
        expected = np.lib.stride_tricks.sliding_window_view(reader.array, (20, 9))[tuple(low.T)]
        np.testing.assert_array_equal(out, expected)
        assert len(reader.regions) == len(set(reader.regions)) == 4 * 5
        assert len(CACHE) == k + 1
        assert CACHE.nbytes == (k + 1) * reader.array.nbytes
    CACHE.limit = reader.array.nbytes  # too small for a whole image: single tiles are kept
    CACHE.clear()
    gatherer.gather(low, high, out, np.arange(len(low)), np.zeros_like(low))
    np.testing.assert_array_equal(out, expected)
    assert len(CACHE) > 1


def test_transformed_data_are_computed_once_a_window():
    calls = []

    def double(block):
        calls.append(block.shape)
        return block * 2

    values = np.arange(64 * 64).reshape(64, 64)
    array = da.from_array(values, chunks=(32, 32)).map_blocks(double, dtype=values.dtype, meta=values[:0, :0])
    p = xr.DataArray(array, dims=["y", "x"], name="image").img.patches(8)
    held = p.read(slice(None))
    assert len(calls) == 4
    np.testing.assert_array_equal(held[9], 2 * values[8:16, 8:16])
    calls.clear()
    for _ in p.batches(4, lookahead=64, labelled=False):
        pass
    assert len(calls) == 4


def test_smoothed_images_are_cut_as_they_are():
    rng = np.random.default_rng(0)
    image = xr.DataArray(rng.random((2, 60, 60)), dims=["t", "y", "x"], name="image").chunk(t=1, y=25, x=25)
    smooth = image.img.gaussian_filter(1)
    p = smooth.img.patches(16, sample="random", n=30)
    want = smooth.values
    held = p.read(slice(None))
    for k, (t, (y, x)) in enumerate(zip(p.plan.index[:, 0], p.plan.start, strict=True)):
        np.testing.assert_array_equal(held[k], want[t, y : y + 16, x : x + 16])


SELECTIONS = {
    "none": lambda a: a,
    "integer": lambda a: a[1],
    "slices": lambda a: a[1:, 3:35, 5:][:, :20],
    "steps": lambda a: a[::2, ::3],
    "backwards": lambda a: a[:, ::-1],
    "lists": lambda a: a[:, [3, 1, 7]],
    "transposed": lambda a: a.transpose(2, 0, 1)[4:9],
    "all": lambda a: a[1:, 3:, 5][:, :20].T,
    "xarray": lambda a: xr.DataArray(a, dims=list("tyx")).isel(t=1, y=slice(3, 30)).transpose("x", "y").data,
}
CHANGES = {
    "sum": lambda a: a + 1,
    "negative": lambda a: -a,
    "cast": lambda a: a.astype(float),
    "reduced": lambda a: a.max(0),
    "mapped": lambda a: a.map_blocks(lambda b: b * 2, dtype=a.dtype),
    "clipped": lambda a: a.clip(0, 9),
}


@pytest.mark.parametrize("name", [*SELECTIONS, *CHANGES])
def test_selections_lead_to_the_file_and_nothing_else_does(name):
    values = np.arange(3 * 40 * 50).reshape(3, 40, 50)
    pixels = Pixels(Counted(values), values.shape, values.dtype, (1, 16, 16))
    array = pixels.dask(((1, 1, 1), (16, 16, 8), (16, 16, 16, 2)))
    changed = {**SELECTIONS, **CHANGES}[name](array)
    found = Pixels.of(changed)
    assert isinstance(found.reader, Dask) == (name in CHANGES)
    assert found.shape == changed.shape
    np.testing.assert_array_equal(found.read(), changed.compute())


def test_patches_of_a_selection_read_no_more_than_their_tiles():
    reader, ds = counted((4, 3, 128, 128), (1, 1, 32, 32), "tcyx")
    part = ds.isel(t=2, c=[1], y=slice(32, 96)).transpose("x", "y", "c")
    p = part.img.patches({"y": 32, "x": 32})
    patch = p.read([5])[0]
    x, y = p.plan.start[5]
    np.testing.assert_array_equal(patch[0], reader.array[2, 1, 32 + y : 64 + y, x : x + 32].T)
    assert len(reader.regions) == 1


# containers


def saved(tmp_path, kind: str, image: np.ndarray) -> str:
    """Save zyx (or yx) uint16 in a container."""
    path = str(tmp_path / f"image.{kind.split('-')[0]}")
    axes = "zyx"[-image.ndim :]
    if kind == "tif":
        tifffile.imwrite(path, image, metadata={"axes": axes.upper()})
    elif kind == "tif-zstd":
        tifffile.imwrite(path, image, tile=(32, 32), compression="zstd", predictor=2, metadata={"axes": axes.upper()})
    elif kind == "tif-big":
        tifffile.imwrite(path, image, byteorder=">", metadata={"axes": axes.upper()})
    elif kind == "npy":
        np.save(path, image)
    elif kind.startswith("zarr"):
        chunks = (5, 32, 48)[-image.ndim :]
        options = {
            "zarr": {},
            "zarr-zstd": {"compressors": zarr.codecs.ZstdCodec(checksum=True)},
            "zarr-gzip": {"compressors": zarr.codecs.GzipCodec()},
            "zarr-plain": {"compressors": None},
            "zarr-shard": {"shards": tuple(2 * c for c in chunks)},
            "zarr-2": {"zarr_format": 2},
            "zarr-big": {"zarr_format": 2, "dtype": ">u2"},
        }[kind]
        if options.get("zarr_format") != 2:
            options["dimension_names"] = tuple(axes)
        else:
            options["attributes"] = {"_ARRAY_DIMENSIONS": list(axes)}
        array = zarr.create_array(path, **{"shape": image.shape, "dtype": "u2", "chunks": chunks, **options})
        array[...] = image
    else:
        write_czi(path, image, "zstd1:" if kind == "czi-zstd" else "uncompressed:")
    return path


def write_czi(path: str, image: np.ndarray, compression: str) -> None:
    from pylibCZIrw import czi

    with czi.create_czi(path, compression_options=compression) as document:
        for z, plane in enumerate(image.reshape(-1, *image.shape[-2:])):
            for y in range(0, plane.shape[0], 32):
                for x in range(0, plane.shape[1], 40):
                    document.write(plane[y : y + 32, x : x + 40, None].copy(), plane={"C": 0, "Z": z}, location=(x, y))


KINDS = (
    "tif",
    "tif-zstd",
    "tif-big",
    "npy",
    "zarr",
    "zarr-zstd",
    "zarr-gzip",
    "zarr-plain",
    "zarr-shard",
    "zarr-2",
    "zarr-big",
    "czi",
    "czi-zstd",
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_gives_the_same_patches(tmp_path, kind):
    image = np.random.default_rng(0).integers(0, 60000, (7, 90, 110)).astype("u2")
    image[:, :32, :48] = 0  # a chunk that Zarr does not store
    ds = intake_img.imload(saved(tmp_path, kind, image))
    p = ds.img.patches(
        {"z": 4, "y": 24, "x": 24}, sample="random", n=60, edge="pad", over=[a for a in ds.img.axes if a not in "zyx"]
    )
    padded = np.pad(image, 24)
    held = p.read(slice(None)).reshape(60, 4, 24, 24)
    get = p.reader()
    for k, start in enumerate(p.plan.start):
        want = padded[tuple(slice(24 + s, 24 + s + n) for s, n in zip(start, (4, 24, 24), strict=True))]
        np.testing.assert_array_equal(held[k], want)
        np.testing.assert_array_equal(get(k).reshape(want.shape), want)
    assert held.dtype == np.dtype("u2")
    assert held.dtype.isnative


@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_plain_bytes_are_mapped(tmp_path, kind):
    image = np.arange(90 * 110, dtype="u2").reshape(90, 110)
    ds = intake_img.imload(saved(tmp_path, kind, image))
    p = ds.img.patches({"y": 16, "x": 16})
    assert p._reading(None).gatherers[0].view() is not None
    transposed = ds.isel(y=slice(4, None)).transpose(..., "x", "y").img.patches({"y": 16, "x": 16})
    view = transposed._reading(None).gatherers[0].view()
    np.testing.assert_array_equal(np.squeeze(view), image[4:].T)


# faults


def test_a_file_that_was_replaced_is_refused(tmp_path):
    image = np.arange(90 * 110, dtype="u2").reshape(90, 110)
    for kind in ("tif", "tif-zstd", "zarr"):
        path = saved(tmp_path, kind, image)
        p = intake_img.imload(path).img.patches({"y": 16, "x": 16})
        p.read(0)
        kept = pickle.dumps(p)
        name = os.path.join(path, "zarr.json") if kind == "zarr" else path
        content = Path(name).read_bytes()
        os.replace(name, name + ".old")
        with open(name, "wb") as stream:
            stream.write(content + b" ")
        for q in (p, pickle.loads(kept)):
            with pytest.raises(SourceChangedError, match="changed or replaced"):
                q.read(0)
        del p, q
        if kind != "zarr":
            os.remove(path)


def test_a_damaged_chunk_names_file_and_position(tmp_path):
    image = np.random.default_rng(0).integers(0, 60000, (90, 110)).astype("u2")
    path = saved(tmp_path, "zarr-zstd", image)
    with open(os.path.join(path, "c", "1", "2"), "r+b") as stream:
        stream.seek(20)
        stream.write(b"damage" * 20)
    p = intake_img.imload(path).img.patches({"y": 16, "x": 16})
    assert p.read(0).any()
    bad = int(np.flatnonzero((p.plan.start == [32, 94]).all(axis=1))[0])
    with pytest.raises(FormatError, match=r"y=32:64, x=96:110.*image\.zarr"):
        p.read([0, bad, 1])
    with pytest.raises(FormatError, match=r"image\.zarr"):
        list(p.batches(4, prefetch=1))
    shard = saved(tmp_path / "s", "zarr-shard", image) if (tmp_path / "s").mkdir() is None else ""
    with open(os.path.join(shard, "c", "0", "0"), "r+b") as stream:
        stream.truncate(os.path.getsize(stream.name) - 9)
    with pytest.raises(FormatError, match=r"image\.zarr.*(index|truncated|damaged)"):
        intake_img.imload(shard).img.patches({"y": 16, "x": 16}).read(0)


def test_a_relative_path_survives_chdir_and_pickle(tmp_path, monkeypatch):
    image = np.arange(90 * 110, dtype="u2").reshape(90, 110)
    saved(tmp_path, "tif-zstd", image)
    monkeypatch.chdir(tmp_path)
    p = intake_img.imload("image.tif").img.patches({"y": 16, "x": 16})
    kept = pickle.dumps(p)
    assert len(kept) < 40_000
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(p.read(9), pickle.loads(kept).read(9))


def test_many_scenes_share_one_file(tmp_path):
    from pylibCZIrw import czi

    path = str(tmp_path / "scenes.czi")
    with czi.create_czi(path) as document:
        for k in range(96):
            plane = np.full((16, 16, 1), k, "u1")
            document.write(plane, location=(40 * k, 0), scene=k, plane={"C": 0})
    scenes = [intake_img.imload(path, scene=k).drop_vars(["y", "x"], errors="ignore") for k in range(96)]
    p = intake_img.patches(scenes, {"y": 8, "x": 8}, sample="random", n=400)
    most = 0
    for numbers, arrays in p.batches(20, labelled=False, shuffle=True):
        want = p.plan.source[numbers]
        assert (arrays["image"].reshape(len(numbers), -1) == want[:, None]).all()
        most = max(most, len(open_files(str(tmp_path), mapped=False)))
    assert 1 <= most <= 2


# processes


def _read_part(p: Patches, rank: int, world: int, results) -> None:
    part = p.shard(rank, world)
    results.put((rank, part.plan.start.tolist(), [int(a.sum()) for a in part.read(slice(None)).astype(int)]))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_see_the_same_patches(tmp_path, method):
    image = np.random.default_rng(0).integers(0, 60000, (90, 110)).astype("u2")
    p = intake_img.imload(saved(tmp_path, "tif-zstd", image)).img.patches({"y": 16, "x": 16}, sample="random", n=21)
    sums = [int(a.sum()) for a in p.set_epoch(2).read(slice(None)).astype(int)]  # threads and handles are in use
    context = multiprocessing.get_context(method)
    results = context.Queue()
    workers = [context.Process(target=_read_part, args=(p, r, 2, results)) for r in range(2)]
    for w in workers:
        w.start()
    found = sorted(results.get(timeout=60) for _ in workers)
    for w in workers:
        w.join()
    assert [w.exitcode for w in workers] == [0, 0]
    for rank, starts, totals in found:
        assert starts == p.plan.start[rank::2].tolist()
        assert totals == sums[rank::2]


def test_threads_share_patches():
    _, ds = counted((200, 200), (32, 32))
    CACHE.limit = 20_000
    p = ds.img.patches(24, sample="random", n=200)
    want = p.read(slice(None))
    wrong = []

    def work(k: int) -> None:
        wrong.extend(i for i in range(k, 200, 4) if not np.array_equal(p.read(i)[0], want[i]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_memory_of_batches_is_that_of_their_windows():
    values = np.zeros((2048, 2048), "u2")
    pixels = Pixels(Counted(values), values.shape, values.dtype, (256, 256))
    p = xr.DataArray(pixels.dask(), dims=["y", "x"]).img.patches(64, sample="random", n=4000)
    CACHE.limit = 2**20
    p.plan  # noqa: B018
    tracemalloc.start()
    for _ in p.batches(32, lookahead=256, labelled=False, prefetch=1):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 256 * 64 * 64 * 2 + 2**20 + 2 * 2**20  # three windows, the cache, and little else


# places that patches lie around


def test_patches_around_places_decode_fewer_tiles():
    decoded = {}
    for locality in (None, 16):
        reader, ds = counted((1024, 1024), (64, 64))
        CACHE.limit = 2**19  # of 2 MiB: no whole image is kept
        CACHE.clear()
        p = ds.img.patches(32, sample="random", n=1024, locality=locality, edge="drop")
        for numbers, arrays in p.batches(32, lookahead=128, labelled=False, prefetch=0):
            for k, patch in zip(numbers, arrays["image"], strict=True):
                y, x = p.plan.start[k]
                np.testing.assert_array_equal(patch, reader.array[y : y + 32, x : x + 32])
        decoded[locality] = len(reader.regions)
    assert decoded[16] < decoded[None] / 2
    turns = p.plan.start.reshape(4, 16, 16, 2)  # 16 places take 16 turns, four times
    apart = (turns - turns[:, :1]) % 993  # of 993 starts the last is followed by the first
    assert (np.minimum(apart, 993 - apart) < 64).all()
    places = {tuple(start) for start in (turns[:, 0] // 64).reshape(-1, 2).tolist()}
    assert len(places) > 40


def test_every_place_is_as_likely_with_locality():
    image = xr.DataArray(np.zeros((1, 40), "u1"), dims=["y", "x"])
    p = intake_img.patches(image, {"x": 4}, sample="random", n=240_000, locality=8, edge="drop")
    times = np.bincount(p.plan.start[:, 0], minlength=37)
    assert len(times) == 37
    np.testing.assert_allclose(times, 240_000 / 37, rtol=0.15)


def test_patches_around_places_are_a_function_of_their_number():
    image = xr.DataArray(np.random.default_rng(0).random((90, 80)), dims=["y", "x"])
    given = {"sample": "random", "locality": 5, "seed": 3, "where": lambda patch: patch.mean() > 0.5}
    many, few = (intake_img.patches(image, 16, n=n, **given) for n in (300, 40))
    np.testing.assert_array_equal(many.plan.start[: len(few)], few.plan.start)
    assert len(many) == 300
    with pytest.raises(ValueError, match="locality= is for sample='random'"):
        intake_img.patches(image, 16, locality=3)
    with pytest.raises(ValueError, match="locality=0"):
        intake_img.patches(image, 16, sample="random", locality=0)
    assert "around places of 5" in repr(many)
