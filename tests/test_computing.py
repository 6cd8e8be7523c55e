"""The laws of computing unread images: the tasks of dask read into one array that nobody else holds, anywhere."""

from __future__ import annotations

import pickle
import sys
import tracemalloc
from importlib.util import find_spec

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from intake_img import imload, imsave
from intake_img.accessor.processing import halo
from intake_img.model.buffers import ReadBuffer, joined
from intake_img.model.pixels import Pixels

VALUES = np.arange(6 * 7 * 8, dtype="u2").reshape(6, 7, 8)
COPIES_GRAPHS = find_spec("dask._expr") is not None  # since release 2025.4, when it computes an array
CHUNKS = ((2, 2, 2), (4, 3), (8,))


class Held:
    """Reads from an array of this module, so that it pickles."""

    def read_into(self, region, out):
        out[...] = VALUES[region]


class Counted(Held):
    def __init__(self):
        self.read = []

    def read_into(self, region, out):
        self.read.append(tuple(s.start for s in region))
        super().read_into(region, out)


class Planes(Counted):
    """Planes of one value each, their number."""

    def read_into(self, region, out):
        self.read.append(tuple(s.start for s in region))
        out[...] = np.arange(region[0].start, region[0].stop)[:, None, None]


def unread(chunks=CHUNKS):
    return Pixels(Held(), VALUES.shape, VALUES.dtype, (1, 7, 8)).dask(chunks)


@given(st.data())
def test_blocks_of_any_chunks_make_the_array(data):
    chunks = tuple(
        tuple(np.diff([0, *sorted(data.draw(st.sets(st.integers(1, n - 1)))), n]).tolist()) for n in VALUES.shape
    )
    order = data.draw(st.permutations(range(3)))
    array = unread(chunks).transpose(order)[1:, ::2]
    expected = VALUES.transpose(order)[1:, ::2]
    computed = array.compute(scheduler="synchronous")
    np.testing.assert_array_equal(computed, expected)
    assert computed.flags.c_contiguous
    assert computed.flags.writeable


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_every_scheduler_computes_the_values(scheduler):
    np.testing.assert_array_equal(unread().compute(scheduler=scheduler), VALUES)


def test_tasks_in_another_process_return_arrays_of_their_own():
    array = unread()
    graph = pickle.loads(pickle.dumps(dict(array.dask.copy())))
    blocks = [dask.get(graph, key) for key in graph]
    assert all(block.base is None for block in blocks)
    assert sum(block.size for block in blocks) == VALUES.size
    for (_, *key), block in zip(graph, blocks, strict=True):
        z, y = (sum(lengths[:k]) for lengths, k in zip(CHUNKS, key[:2], strict=False))
        np.testing.assert_array_equal(block, VALUES[z : z + len(block), y : y + block.shape[1]])


@pytest.mark.skipif(not COPIES_GRAPHS, reason="this dask computes the usual graph")
def test_computing_needs_the_memory_of_the_image(tmp_path):
    values = np.zeros((64, 256, 256), "u2")
    imsave(xr.Dataset({"image": (("z", "y", "x"), values)}), tmp_path / "a.zarr", compress=False)
    imsave(xr.Dataset({"image": (("z", "y", "x"), values)}), tmp_path / "a.npy")
    for path in (tmp_path / "a.zarr", tmp_path / "a.npy"):
        image = imload(path, chunks={"z": 4}).image
        image[:1].compute()
        tracemalloc.start()
        computed = image.compute()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.4 * values.nbytes, path.name  # joined by dask, it would be 2
        np.testing.assert_array_equal(computed, values)


def test_results_are_arrays_of_their_own():
    array = unread()
    (optimized,) = dask.optimize(array)
    results = [f.compute() for f in (array, array, optimized, optimized, array[2:4, 4:], array.persist())]
    held = dask.compute(array, array + 1)
    expected = [result.copy() for result in (*results, *held)]
    for k, result in enumerate((*results, *held)):
        result += np.uint16(k + 1)
    for k, (result, before) in enumerate(zip((*results, *held), expected, strict=True)):
        np.testing.assert_array_equal(result, before + np.uint16(k + 1))
    for result in expected[:4]:
        np.testing.assert_array_equal(result, VALUES)
    np.testing.assert_array_equal(expected[7], VALUES + 1)
    assert not any(np.shares_memory(a, b) for n, a in enumerate(results) for b in results[:n])
    np.testing.assert_array_equal(array.persist().compute(), VALUES)


def test_values_that_are_computed_together_are_read_once():
    array = Pixels(counted := Counted(), VALUES.shape, VALUES.dtype, (1, 7, 8)).dask(CHUNKS)
    image, raised, total = dask.compute(array, array + 1, array.sum(), scheduler="synchronous")
    np.testing.assert_array_equal(image, VALUES)
    np.testing.assert_array_equal(raised, VALUES + 1)
    assert total == VALUES.sum()
    assert len(counted.read) == len(set(counted.read)) == 6


def test_blocks_that_are_not_parts_of_one_array_are_joined():
    def join(blocks):
        return "joined"

    buffer, chunks = ReadBuffer((4, 3), np.dtype("i4")), ((2, 2), (3,))
    first, second = (buffer.part((slice(k, k + 2), slice(0, 3))) for k in (0, 2))
    again = buffer.part((slice(2, 4), slice(0, 3)))
    assert not np.shares_memory(second, again)
    assert joined(join, chunks, [[first], [again]]) == "joined"
    away = pickle.loads(pickle.dumps(buffer))
    parts = [[away.part((slice(k, k + 2), slice(0, 3)))] for k in (0, 2)]
    assert joined(join, chunks, parts) == "joined"
    assert joined(join, chunks, []) == "joined"
    swapped = ReadBuffer((4, 3), np.dtype("i4"))
    one, two = (swapped.part((slice(k, k + 2), slice(0, 3))) for k in (0, 2))
    assert joined(join, chunks, [[two], [one]]) == "joined"
    assert joined(join, chunks, [[one], [two]]).shape == (4, 3)


def test_plain_arrays_of_dask_are_joined_by_dask():
    array = da.from_array(VALUES, chunks=CHUNKS)
    np.testing.assert_array_equal(dask.compute(array, unread())[1], VALUES)


def test_a_method_makes_tasks_only_of_the_chunks_that_are_computed(monkeypatch):
    made, make = [], halo._Tasks.__call__
    monkeypatch.setattr(halo._Tasks, "__call__", lambda self, place: made.append(place) or make(self, place))
    pixels = Pixels(counted := Planes(), (10_000, 8, 8), np.dtype("u2"), (1, 8, 8))
    stack = xr.DataArray(pixels.dask(((1,) * 10_000, (4, 4), (8,))), dims=list("tyx"))
    found = stack.img.gaussian_filter(1).img.median_filter(3)
    assert not made
    assert found.chunks == ((1,) * 10_000, (4, 4), (8,))
    assert not any(layer.is_materialized() for name, layer in found.data.dask.layers.items())
    expected = ndimage.median_filter(ndimage.gaussian_filter(np.full((8, 8), 7000, "u2"), 1), 3)
    np.testing.assert_array_equal(found[7000].compute(scheduler="synchronous"), expected)
    assert {place[0] for place in made} <= {0, 7000}  # dask looks at the first
    assert {start[0] for start in counted.read} == {7000}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found[2])).compute(scheduler="synchronous")[0, 0], 2)


STEPS = {
    "label": lambda mask: mask.img.label(),
    "fill_holes": lambda mask: mask.img.fill_holes(),
    "clear_border": lambda mask: mask.img.clear_border(),
    "distance_transform": lambda mask: mask.img.distance_transform(),
    "skeletonize": lambda mask: mask.img.skeletonize(),
    "relabel": lambda mask: (mask * 3).img.relabel(),
    "max": lambda mask: mask.astype("u2").img.max("t"),
    "mean": lambda mask: mask.astype("u2").img.mean("t"),
    "reduce": lambda mask: mask.astype("u2").img.reduce(np.add),
    "apply_shifts": lambda mask: mask.astype("f4").img.apply_shifts(shifts_of(mask)),
}


def shifts_of(mask):
    coords = {"axis": ["y", "x"]}
    return xr.DataArray(
        np.ones((mask.sizes["t"], 2)), dims=("t", "axis"), coords=coords, name="shift", attrs={"units": "pixel"}
    )


@pytest.mark.parametrize("name", STEPS)
def test_a_step_over_all_chunks_makes_its_tasks_when_it_is_computed(name):
    values = np.random.default_rng(0).random((3, 16, 20)) > 0.4
    mask = xr.DataArray(da.from_array(values, chunks=(1, 8, 7)), dims=list("tyx"))
    found, known = STEPS[name](mask), set(mask.data.dask.layers)
    own = [layer for key, layer in found.data.dask.layers.items() if key not in known]
    assert own
    assert not any(layer.is_materialized() for layer in own)
    expected = STEPS[name](mask.compute()).values
    part = found[..., 3:9]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).values, expected)
    np.testing.assert_array_equal(part.values, expected[..., 3:9])
    np.testing.assert_array_equal(found.values, expected)


def test_labels_of_chunks_are_filled_into_one_array(monkeypatch):
    values = np.random.default_rng(0).random((2, 16, 20)) > 0.4
    labels = xr.DataArray(da.from_array(values, chunks=(1, 8, 7)), dims=list("tyx")).img.label()
    expected = np.stack([ndimage.label(image)[0] for image in values])
    both = dask.compute(labels, labels + 1, labels.isel(x=slice(2, 9)), labels.transpose("x", "t", "y"))
    both[0].values[...] += 1000  # nobody else has it
    np.testing.assert_array_equal(labels.persist().values, expected)
    assigned = labels.copy()
    assigned[0, :, 3] = 7
    np.testing.assert_array_equal(assigned[0, :, 3], 7)
    np.testing.assert_array_equal(assigned[:, :, 4:], expected[:, :, 4:])
    for found, wanted in zip(both[1:], (expected + 1, expected[..., 2:9], expected.transpose(2, 0, 1)), strict=True):
        np.testing.assert_array_equal(found, wanted)
    if not COPIES_GRAPHS:
        return
    monkeypatch.setattr(da.core, "concatenate3", None)
    for _ in range(2):
        np.testing.assert_array_equal(labels.compute(), expected)
    with pytest.raises(TypeError):
        (labels + 1).compute()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_parts_of_chunks_are_what_a_run_of_samples_takes(lengths, data):
    n = sum(lengths)
    low, high = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    stops = np.cumsum(lengths).tolist()
    chunks = np.split(np.arange(n), stops[:-1])
    parts = list(halo.parts_of([(low, high)], stops))
    assert parts
    assert [k for k, _ in parts] == sorted({k for k, _ in parts})
    np.testing.assert_array_equal(np.concatenate([chunks[k][part] for k, part in parts]), np.arange(low, high))


def test_reading_does_not_import_the_cluster(monkeypatch):
    array = unread()
    monkeypatch.delitem(sys.modules, "distributed", raising=False)
    np.testing.assert_array_equal(np.asarray(array), VALUES)
    assert "distributed" not in sys.modules


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_chunks_of_a_range_are_those_of_dask(lengths, data):
    n = sum(lengths)
    key = slice(data.draw(st.integers(-n - 1, n + 1)), data.draw(st.integers(-n - 1, n + 1)))
    pixels = Pixels(Held(), (n,), np.dtype("u2"), (1,))
    found = pixels.dask((tuple(lengths),))[key].chunks[0]
    wanted = [k for k in da.zeros(n, chunks=(tuple(lengths),))[key].chunks[0] if k]
    assert [k for k in found if k] == wanted
    assert all(found) or found == (0,) or found == tuple(lengths)
