"""The laws of computing unread images: the tasks of dask read into one array that nobody else holds, anywhere."""

from __future__ import annotations

import pickle
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from intake_img import imload, imsave
from intake_img.model.buffers import ReadBuffer, joined
from intake_img.model.pixels import Pixels

VALUES = np.arange(6 * 7 * 8, dtype="u2").reshape(6, 7, 8)
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
