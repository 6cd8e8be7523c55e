"""Helper threads call a function once for each item, end with the work, and leave other work alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from intake_img import imload
from intake_img.errors import FormatError
from intake_img.formats.omezarr import chunk_files
from intake_img.model import helpers
from intake_img.model.helpers import for_all


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_each_item_is_taken_once(threads: int, count: int) -> None:
    found: list[int] = []
    before = threading.active_count()
    for_all(found.append, range(count), threads)
    assert sorted(found) == list(range(count))
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_any_thread_is_raised(threads: int) -> None:
    with pytest.raises(KeyError, match="7"):
        for_all({k: k for k in range(7)}.__getitem__, range(20), threads)
    found: list[int] = []
    for_all(found.append, range(5), threads)  # the helpers are free again
    assert sorted(found) == [0, 1, 2, 3, 4]


def test_helpers_work_at_the_same_time_and_start_no_helpers() -> None:
    both, inner = threading.Barrier(2, timeout=60), set()

    def work(_: int) -> None:
        both.wait()  # passes only if two threads are here
        for_all(lambda _: inner.add(threading.current_thread()), range(50), 8)

    for_all(work, range(2), 2)
    assert len(inner) == 2


def test_helpers_that_the_system_starts_late_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[Callable[[], None]] = []
    monkeypatch.setattr(helpers._thread, "start_new_thread", lambda work, _: late.append(work))
    found: list[int] = []

    def work(item: int) -> None:
        found.append(item)
        if item == 5:
            raise KeyError(item)

    with pytest.raises(KeyError, match="5"):
        for_all(work, range(9), 3)
    assert len(late) == 2
    for helper in late:
        helper()
    assert found == [0, 1, 2, 3, 4, 5]


def test_a_system_without_further_threads_works_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers._thread, "start_new_thread", refuse)
    found: list[int] = []
    for_all(found.append, range(9), 3)
    assert found == list(range(9))


@pytest.mark.parametrize("shards", [None, (8, 512, 512)])
def test_a_small_region_of_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards) -> None:
    monkeypatch.setattr(chunk_files, "cpus", lambda: 3)
    values = np.random.default_rng(0).integers(1, 4000, (16, 512, 512), "u2")
    values[:8, 64:128, 64:128] = 0  # a chunk that is not written
    array = zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(8, 64, 64), shards=shards, compressors="auto")
    assert 25 * array.dtype.itemsize * 8 * 64 * 64 >= chunk_files._HELPED_FROM
    image = imload(tmp_path / "a.zarr", metadata={"axes": "zyx"}, chunks=None).image
    np.testing.assert_array_equal(image[5, 30:300, 40:320].values, values[5, 30:300, 40:320])
    if shards is None:
        (tmp_path / "a.zarr/c/0/3/3").write_bytes(b"damaged")
        with pytest.raises(FormatError, match=r"a\.zarr"):
            image[5, 30:300, 40:320].values  # noqa: B018
        np.testing.assert_array_equal(image[5, 30:64, 40:320].values, values[5, 30:64, 40:320])
