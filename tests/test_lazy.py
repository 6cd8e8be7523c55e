"""Unread pixels: every view of them equals numpy's, chunks cover the array, writers get planes in order."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.errors import AxesError, TooLargeError
from intake_img.model import machine
from intake_img.model.chunks import CHUNK_BYTES, regions_of
from intake_img.model.pixels import Pixels, stack
from intake_img.storage.streams import Once, iter_planes


@dataclass(frozen=True)
class Counting:
    """Reads from an array and remembers what was asked for."""

    array: np.ndarray
    regions: list = field(default_factory=list)

    def read_into(self, region, out):
        assert len(region) == self.array.ndim
        for s, n in zip(region, self.array.shape, strict=True):
            assert isinstance(s, slice)
            assert s.step in (None, 1)
            assert 0 <= s.start <= s.stop <= n
        part = self.array[region]
        assert part.shape == out.shape
        assert out.flags.writeable
        self.regions.append(region)
        out[...] = part

    @property
    def pixels_read(self):
        return sum(int(np.prod([s.stop - s.start for s in r])) for r in self.regions)


def pixels_of(array, tiles=None, parallel=True):
    return Pixels(Counting(array), array.shape, array.dtype, tiles or (1, *array.shape[1:]), parallel)


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@st.composite
def arrays(draw):
    shape = draw(shapes)
    tiles = tuple(draw(st.integers(1, 4)) for _ in shape)
    return np.arange(np.prod(shape), dtype="int32").reshape(shape), tiles


def keys_for(n):
    return st.one_of(
        st.integers(-n, n - 1),
        st.slices(n),
        st.lists(st.integers(-n, n - 1), max_size=4),
        st.lists(st.booleans(), min_size=n, max_size=n),
    )


def outer(array, keys):
    dropped = tuple(k for k, key in enumerate(keys) if isinstance(key, int))
    for axis, key in enumerate(keys):
        index = np.arange(array.shape[axis])[[key] if isinstance(key, int) else key if key != [] else slice(0, 0)]
        array = np.take(array, index, axis)
    return array.squeeze(dropped)


@examples()
@given(arrays(), st.data())
def test_selection_is_that_of_numpy(made, data):
    array, tiles = made
    keys = [data.draw(keys_for(n)) for n in array.shape[: data.draw(st.integers(0, array.ndim))]]
    found = pixels_of(array, tiles)[tuple(keys)]
    np.testing.assert_array_equal(found, outer(array, keys))
    assert found.flags.owndata or found.base.flags.owndata


@examples()
@given(arrays(), st.data())
def test_views_of_views(made, data):
    array, tiles = made
    pixels = pixels_of(array, tiles)
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(["transpose", "select", "astype", "reshape"]))
        if kind == "transpose":
            order = data.draw(st.permutations(range(array.ndim)))
            pixels, array = pixels.transpose(order), array.transpose(order)
        elif kind == "astype":
            pixels, array = pixels.astype("float32"), array.astype("float32")
        elif kind == "reshape":
            axes = [k for k, n in enumerate(array.shape) if n != 1 or data.draw(st.booleans())]
            axes.insert(data.draw(st.integers(0, len(axes))), None)
            wanted = tuple(1 if k is None else array.shape[k] for k in axes)
            pixels, array = pixels.reshape(axes), array.reshape(wanted)
        else:
            keys = [data.draw(st.slices(n).filter(lambda s, n=n: len(range(n)[s]))) for n in array.shape]
            pixels, array = pixels.select(keys), array[tuple(keys)]
    assert pixels.shape == array.shape
    assert pixels.dtype == array.dtype
    np.testing.assert_array_equal(pixels.read(), array)
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(pixels.dask().compute(), array)
        np.testing.assert_array_equal(pixels.dask(pixels.chunks(1)).compute(), array)


@examples()
@given(arrays(), st.integers(1, 400))
def test_chunks_cover_the_array_with_whole_tiles(made, nbytes):
    array, tiles = made
    pixels = pixels_of(array, tiles)
    chunks = pixels.auto_chunks(nbytes)
    assert tuple(map(sum, chunks)) == array.shape
    for lengths, tile, n in zip(chunks, pixels.tiles, array.shape, strict=True):
        assert all(c % tile == 0 or c == n for c in lengths[:-1])
        assert len(set(lengths[:-1])) <= 1
    largest = np.prod([max(c) for c in chunks]) * 4
    assert largest <= max(nbytes, np.prod(pixels.tiles) * 4)
    seen = np.zeros(array.shape, int)
    for region in regions_of(chunks):
        seen[region] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("shape", "tiles", "most"),
    [
        ((100, 2048, 2048), (1, 256, 256), 200),
        ((20_000, 512, 512), (1, 512, 512), 3000),
        ((16, 40_000, 40_000), (1, 256, 256), 20_000),
        ((1, 100, 10_000_000), (1, 1, 1000), 1000),
        ((100_000, 8, 8), (1, 8, 8), 10),
    ],
)
def test_automatic_chunks_are_few(shape, tiles, most):
    pixels = Pixels(None, shape, np.dtype("uint16"), tiles)
    chunks = pixels.auto_chunks()
    assert np.prod([len(c) for c in chunks]) <= most
    assert np.prod([max(c) for c in chunks]) * 2 <= CHUNK_BYTES


def test_chunks_as_they_are_asked_for():
    pixels = pixels_of(np.zeros((5, 6, 7)))
    assert pixels.chunks({"z": 2, "x": -1}, "zyx") == ((2, 2, 1), (6,), (7,))
    assert pixels.chunks(3) == ((3, 2), (3, 3), (3, 3, 1))
    assert pixels.chunks({"z": (1, 4)}, "zyx")[0] == (1, 4)
    with pytest.raises(AxesError, match="'t', but the data have 'zyx'"):
        pixels.chunks({"t": 1}, "zyx")
    for wrong in ({"z": 0}, {"z": -2}, {"z": 1.5}, {"z": (1, 1)}):
        with pytest.raises(ValueError, match=r"chunk"):
            pixels.chunks(wrong, "zyx")
    with pytest.raises(TypeError, match="expected 'auto', None, a number or a mapping"):
        pixels.chunks("some")


# planes for writers


@examples()
@given(arrays(), st.integers(0, 3), st.integers(1, 500), st.integers(1, 500), st.booleans())
def test_planes_come_in_order(made, ndim, budget, slab, as_dask):
    array, tiles = made
    ndim = min(ndim, array.ndim)
    pixels = Pixels.of(da.from_array(array, chunks=tiles)) if as_dask else pixels_of(array, tiles)
    with dask.config.set(scheduler="synchronous"):
        planes = [p.copy() for p in iter_planes(pixels, ndim, budget, slab)]
    lead = array.shape[: array.ndim - ndim]
    expected = array.reshape(-1, *array.shape[array.ndim - ndim :])
    assert len(planes) == np.prod(lead, dtype=int)
    np.testing.assert_array_equal(np.array(planes).reshape(expected.shape), expected)


def test_each_tile_is_read_once():
    array = np.arange(8 * 6 * 10 * 10).reshape(8, 6, 10, 10)
    pixels = pixels_of(array, (2, 3, 10, 10))
    assert len(list(iter_planes(pixels))) == 48
    assert pixels.reader.pixels_read == array.size
    seen = set()
    for t, z, *_ in pixels.reader.regions:
        tiles = {(a, b) for a in range(t.start // 2, -(-t.stop // 2)) for b in range(z.start // 3, -(-z.stop // 3))}
        assert not tiles & seen
        seen |= tiles


def test_tiles_beyond_the_budget_pass_through_a_file(tmp_path, monkeypatch):
    array = np.random.default_rng(0).integers(0, 255, (64, 32, 32), "uint8")
    pixels = pixels_of(array, (16, 8, 32))
    made = []
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **given: (made.append(given["dir"]), real(**given))[1])
    planes = list(iter_planes(pixels, 2, budget=8 * 1024, slab_bytes=1024, folder=str(tmp_path)))
    np.testing.assert_array_equal(planes, array)
    assert len(pixels.reader.regions) == 4
    assert made == [str(tmp_path)]
    assert not list(tmp_path.iterdir())


@examples(60)
@given(st.data())
def test_no_chunk_is_computed_twice(data):
    """Whatever the chunks are, whatever was selected, transposed or added before, in planes and in any blocks."""
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=3, max_size=4)))
    chunks = []
    for n in shape:
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, n - 1)), max_size=3)) - {n})
        chunks.append(tuple(np.diff([0, *cuts, n]).tolist()))
    array = np.arange(math.prod(shape)).reshape(shape)
    computed: list[tuple[tuple[int, ...], ...]] = []
    lock = threading.Lock()

    def block(block_info=None):
        place = tuple(map(tuple, block_info[None]["array-location"]))
        with lock:
            computed.append(place)
        return array[tuple(slice(*p) for p in place)]

    lazy = Pixels.of(da.map_blocks(block, chunks=tuple(chunks), dtype=array.dtype))
    keys = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        step = data.draw(st.sampled_from([1, 1, 2]))
        keys.append(slice(start, data.draw(st.integers(start + 1, n)), step))
    order = data.draw(st.permutations(range(len(shape))))
    pixels = lazy.select(keys).transpose(order)
    expected = array[tuple(keys)].transpose(order)
    budget = data.draw(st.sampled_from([1, 60, 2**20]))
    if data.draw(st.booleans()):
        ndim = data.draw(st.integers(1, 2))
        found = np.array(list(iter_planes(pixels, ndim, budget, data.draw(st.sampled_from([1, 200]))))).reshape(
            expected.shape
        )
    else:
        blocks = [data.draw(st.integers(1, n)) for n in pixels.shape]
        once = Once(pixels, budget=budget)
        found = np.empty_like(expected)
        grid = [tuple(min(b, n - a) for a in range(0, n, b)) for n, b in zip(pixels.shape, blocks, strict=True)]
        for region in regions_of(tuple(grid)):
            once.read_into(region, found[region])
        assert not once._kept
        once.close()
    np.testing.assert_array_equal(found, expected)
    assert len(computed) == len(set(computed))


def test_no_planes_in_nothing():
    assert list(iter_planes(Pixels.of(np.zeros((0, 4, 4))))) == []


def test_a_writer_that_stops_early_stops_the_reader():
    pixels = pixels_of(np.zeros((400, 8, 8), "uint8"))
    planes = iter_planes(pixels, 2, 64, 64)
    next(planes)
    planes.close()
    assert len(pixels.reader.regions) <= 3
    assert not [t for t in threading.enumerate() if "ahead" in t.name]


# whole reads, dask, stacks


@pytest.mark.parametrize("parallel", [True, False])
def test_reading_reports_every_byte(parallel):
    array = np.arange(40 * 50 * 60, dtype="uint16").reshape(40, 50, 60)
    done = []
    np.testing.assert_array_equal(pixels_of(array, parallel=parallel).read(done.append), array)
    assert sum(done) == array.nbytes


@pytest.mark.parametrize("shape", [(), (1, 1), (0, 3), (1,)])
def test_shapes_at_the_edge(shape):
    array = np.full(shape, 7, "uint8")
    pixels = Pixels(Counting(array), shape, array.dtype, (1,) * len(shape))
    np.testing.assert_array_equal(pixels.read(), array)
    np.testing.assert_array_equal(Pixels.of(array).read(), array)
    np.testing.assert_array_equal(Pixels.of(array).reshape([None, *range(array.ndim)]).read(), array[None])


def test_a_slice_of_a_dask_array_reads_only_itself():
    pixels = pixels_of(np.zeros((20, 30, 40), "uint8"))
    lazy_array = pixels.dask()
    assert pixels.reader.regions == []
    with dask.config.set(scheduler="synchronous"):
        lazy_array[3, 4:9, ::2].compute()
    assert pixels.reader.pixels_read <= 5 * 40


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_dask_arrays_fill_the_same_with_every_scheduler(scheduler):
    array = np.arange(2 * 6 * 8).reshape(2, 6, 8)
    pixels = Pixels.of(da.from_array(array, chunks=(1, 3, 8)))
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,  # a fork of a process of threads may hang
        dask.config.set(scheduler=scheduler, pool=pool if scheduler == "processes" else None),
    ):
        np.testing.assert_array_equal(pixels.transpose((2, 0, 1)).read(), array.transpose(2, 0, 1))
        np.testing.assert_array_equal(pixels[1, 2:5, ::-1], array[1, 2:5, ::-1])
        np.testing.assert_array_equal(np.array(list(iter_planes(pixels))), array)


def test_tokens_tell_pixels_apart():
    array = np.zeros((4, 4))
    a, b = Pixels.of(array), Pixels.of(array + 1)
    tokens = {dask.base.tokenize(p) for p in (a, b, a.astype("uint8"), a.transpose((1, 0)), a.select([slice(2), 0]))}
    assert len(tokens) == 5
    assert dask.base.tokenize(a) == dask.base.tokenize(Pixels.of(array))


def test_pixels_pickle():
    pixels = Pixels.of(np.arange(12).reshape(3, 4)).select([[0, 2], slice(None, None, -1)]).astype("float32")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pixels)).read(), pixels.read())


def test_stacks_promote_and_refuse():
    parts = [Pixels.of(np.full((2, 3), k, t)) for k, t in enumerate(("uint8", "int16", "uint8"))]
    found = stack(parts)
    assert found.dtype == "int16"
    np.testing.assert_array_equal(found[1:, 0], [[1] * 3, [2] * 3])
    with pytest.raises(AxesError, match=r"the first has \(2, 3\), number 1 \(3, 2\)"):
        stack([parts[0], Pixels.of(np.zeros((3, 2)))])


def test_big_endian_becomes_native():
    pixels = Pixels.of(np.arange(6, dtype=">u4").reshape(2, 3))
    assert pixels.dtype.isnative
    assert pixels.read().dtype.isnative
    np.testing.assert_array_equal(pixels.read(), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ((5,), "index 5 is out of range for an axis of length 3"),
        ((slice(None), [7]), "out of range"),
        (([True, False],), "mask of length 2"),
        ((["a"],), "expected an integer, a slice or a list"),
    ],
)
def test_keys_that_do_not_fit(key, words):
    with pytest.raises(IndexError, match=words):
        _ = Pixels.of(np.zeros((3, 4)))[key]


def test_an_axis_with_pixels_is_not_dropped():
    with pytest.raises(AxesError, match="of length 3 cannot be left out"):
        Pixels.of(np.zeros((3, 4))).reshape([1])


# sizes that do not fit


def test_hostile_sizes_are_refused_not_allocated():
    pixels = Pixels(None, (10**6, 10**6), np.dtype("uint8"), (1, 10**6))
    for read in (pixels.read, lambda: pixels[:], lambda: pixels[::2]):
        with pytest.raises(TooLargeError, match=r"909\.5 GiB|931\.3 GiB|465\.7 GiB|454\.7 GiB"):
            read()
    assert np.prod([len(c) for c in pixels.auto_chunks()]) < 10**6


def test_memory_that_is_refused_is_too_large(monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(machine.np, "empty", refuse)
    with pytest.raises(TooLargeError, match="GiB"):
        Pixels.of(np.zeros((3, 4))).read()


_FIRST_USE = """
import sys, threading, time, warnings
from intake import open_catalog
from intake_img import imload
from intake_img.create.examples import catalog_path

class Slow:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1] and threading.current_thread() is other:
            begun.set()
            time.sleep(0.5)

warnings.simplefilter("ignore")
begun, failed = threading.Event(), []
threading.excepthook = lambda args: failed.append(args.exc_value)
root = sys.argv[1].partition(".")[0]
other = threading.Thread(target=__import__, args=(root,))
source = open_catalog(str(catalog_path("samples.yml")))[sys.argv[2]]
assert root not in sys.modules
sys.meta_path.insert(0, Slow())
other.start()
assert begun.wait(10)
with imload(source) as ds:
    ds.load()
other.join()
assert not failed, failed
"""


@pytest.mark.parametrize(
    ("half", "driver", "needed"),
    [
        ("dask.config", "bdv", "h5py"),
        ("zarr.api", "omezarr", "zarr"),
    ],
)
def test_another_thread_may_import_a_package_at_the_first_use(half, driver, needed):
    pytest.importorskip(needed)
    done = subprocess.run([sys.executable, "-c", _FIRST_USE, half, driver], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_FIRST_READ = """
import sys, threading, time
import numpy as np, zarr
from intake_img.formats.omezarr.store import read_array

class Slow:
    def find_spec(self, name, path, target=None):
        if name == "zarr.buffer.gpu":
            begun.set()
            time.sleep(0.5)

array = zarr.create_array({}, shape=(4, 4), dtype="u1")
assert "zarr.buffer" not in sys.modules
begun = threading.Event()
sys.meta_path.insert(0, Slow())
other = threading.Thread(target=__import__, args=("zarr.buffer",))
other.start()
assert begun.wait(10)
read_array(array, (slice(0, 4), slice(0, 4)), np.empty((4, 4), "u1"))
other.join()
"""


def test_two_threads_may_read_through_zarr_for_the_first_time():
    pytest.importorskip("zarr")
    done = subprocess.run([sys.executable, "-c", _FIRST_READ], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
