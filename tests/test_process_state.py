"""State of the process is as before when the blocks of several threads that change it have ended, in any order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import warnings
from functools import partial

import numpy as np
import pytest
import xarray as xr

from intake_img.model.process_state import Overlapping, Silenced, quiet
from intake_img.storage.cache import CACHE, MemoryCache, Shelf
from intake_img.storage.handles import HandlePool
from intake_img.storage.locks import ProcessLock, SafeLock, finally_call

SECONDS = 20


class Steps:
    """The lines of several threads in one order: ``step(k)`` waits until all smaller ones are done."""

    def __init__(self):
        self._at, self._changed = 0, threading.Condition()

    def __call__(self, number):
        with self._changed:
            assert self._changed.wait_for(lambda: self._at == number, SECONDS)
            self._at += 1
            self._changed.notify_all()


def in_threads(*works):
    failed = []
    before, threading.excepthook = threading.excepthook, lambda args: failed.append(args.exc_value)
    try:
        threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in threads), "the threads wait for each other"
    finally:
        threading.excepthook = before
    assert not failed, failed


def crossed(block):
    """Two threads: the first one enters, the second one enters, the first one leaves, the second one leaves."""
    step = Steps()

    def first():
        step(0)
        with block():
            step(1)
            step(4)
        step(5)

    def second():
        step(2)
        with block():
            step(3)
            step(6)
        step(7)

    in_threads(first, second)


@pytest.fixture
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_the_filters_of_warnings_are_those_of_the_user_again(strict):
    before = list(warnings.filters)
    crossed(quiet)
    assert [f for f in warnings.filters if f[2] is not Silenced] == before
    with pytest.raises(RuntimeWarning, match="loud"):
        warnings.warn("loud", RuntimeWarning, stacklevel=1)
    crossed(quiet)
    assert [f[2] for f in warnings.filters].count(Silenced) == 1


def test_a_quiet_thread_does_not_silence_others(strict):
    step, met = Steps(), []

    def silent():
        with quiet():
            step(0)
            warnings.warn("silent", UserWarning, stacklevel=1)
            with quiet():
                warnings.warn("silent", DeprecationWarning, stacklevel=1)
            warnings.warn("silent", UserWarning, stacklevel=1)
            step(2)

    def loud():
        step(1)
        try:
            warnings.warn("loud", UserWarning, stacklevel=1)
        except UserWarning as exc:
            met.append(str(exc))
        step(3)

    in_threads(silent, loud)
    assert met == ["loud"]


def test_what_a_quiet_thread_runs_in_an_event_loop_is_quiet(strict):
    async def warn():
        warnings.warn("silent", UserWarning, stacklevel=1)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with quiet():
        asyncio.run_coroutine_threadsafe(warn(), loop).result(SECONDS)
    with pytest.raises(UserWarning, match="silent"):
        asyncio.run_coroutine_threadsafe(warn(), loop).result(SECONDS)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(SECONDS)
    loop.close()


def test_filters_that_were_set_meanwhile_do_not_undo_the_silence(strict):
    with quiet():
        pass
    warnings.simplefilter("error")
    with quiet():
        warnings.warn("silent", UserWarning, stacklevel=1)
    with pytest.raises(UserWarning):
        warnings.warn("loud", UserWarning, stacklevel=1)


def test_an_overlapping_change_is_made_once_and_undone_once():
    seen = []

    @contextlib.contextmanager
    def change():
        seen.append("made")
        yield
        seen.append("undone")

    block = Overlapping(change)
    crossed(lambda: block)
    assert seen == ["made", "undone"]
    with block, block:
        assert seen == ["made", "undone", "made"]
    assert seen == ["made", "undone"] * 2


def test_a_change_that_fails_is_tried_again():
    @contextlib.contextmanager
    def change():
        if not tried:
            tried.append(1)
            raise OSError("no")
        yield

    tried, block = [], Overlapping(change)
    with pytest.raises(OSError, match="no"), block:
        pass
    with block:
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("own", [False, True])
def test_a_forked_child_undoes_what_only_other_threads_wanted(own):
    step, value = Steps(), {"on": False}

    @contextlib.contextmanager
    def change():
        value["on"] = True
        yield
        value["on"] = False

    block = Overlapping(change)

    def other():
        with block:
            step(0)
            step(2)

    def forking():
        step(1)
        with block if own else contextlib.nullcontext():
            child = os.fork()
            if child == 0:
                inside = value["on"]
                with contextlib.suppress(BaseException):
                    block.__exit__() if own else None
                os._exit(int(inside) + 2 * value["on"])
        step(3)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    codes = []
    in_threads(other, forking)
    step(4)
    assert codes == [int(own)]
    assert not value["on"]


def test_the_reduction_of_two_threads_leaves_the_options_of_xarray(monkeypatch):
    ds = xr.Dataset({"image": (("t", "y", "x"), np.zeros((2, 4, 4), np.float32))})
    step, order = Steps(), {}

    def later(self, *args, **kwargs):
        first, last = order[threading.current_thread().name]
        step(first)
        step(last)
        return known(self, *args, **kwargs)

    known = xr.DataArray.mean
    monkeypatch.setattr(xr.DataArray, "mean", later)

    def reduce(name, first, last):
        threading.current_thread().name = name
        order[name] = first, last
        ds.img.mean("t")
        step(last + 1)

    with xr.set_options(use_bottleneck=True):
        in_threads(partial(reduce, "a", 0, 2), partial(reduce, "b", 1, 4))
        assert xr.get_options()["use_bottleneck"]


def test_two_dicom_headers_leave_the_validation_of_pydicom(tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    from intake_img import imload, imsave

    for name in "ab":
        imsave(np.zeros((4, 4), np.uint16), tmp_path / f"{name}.dcm")
    step, order = Steps(), {"a.dcm": (0, 2), "b.dcm": (1, 4)}

    def later(stream, **options):
        first, last = order[threading.current_thread().name]
        step(first)
        step(last)
        return known(stream, **options)

    known = pydicom.dcmread

    def look(name):
        threading.current_thread().name = name
        imload(tmp_path / name, chunks=None).close()
        step(order[name][1] + 1)

    settings = pydicom.config.settings
    before = settings.reading_validation_mode, settings.writing_validation_mode
    monkeypatch.setattr(pydicom, "dcmread", later)
    in_threads(partial(look, "a.dcm"), partial(look, "b.dcm"))
    assert (settings.reading_validation_mode, settings.writing_validation_mode) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("own", [False, True])
def test_a_forked_child_gets_a_lock_of_the_process_unlocked(own):
    step, forked, lock, codes = Steps(), threading.Event(), ProcessLock(), []

    def other():
        with contextlib.nullcontext() if own else lock:
            step(0)
            assert forked.wait(SECONDS)

    def forking():
        step(1)
        with lock if own else contextlib.nullcontext():
            child = os.fork()
        if child == 0:
            free = threading.Event()
            threading.Thread(target=lambda: lock.__enter__() or free.set(), daemon=True).start()
            os._exit(0 if free.wait(SECONDS) else 1)
        forked.set()
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    in_threads(other, forking)
    assert codes == [0]


# finalizers


class Owner:
    pass


def test_a_finalizer_waits_for_the_end_of_a_turn():
    owner, called = Owner(), []
    finally_call(owner, called.append, 1)
    outer, inner = SafeLock(), SafeLock()
    with outer:
        with inner, outer:
            owner = None
            gc.collect()
        assert called == []
    assert called == [1]


def test_a_finalizer_without_a_turn_does_not_wait():
    owner, called = Owner(), []
    finally_call(owner, called.append, 1)
    owner = None
    gc.collect()
    assert called == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_of_a_finalizer_is_not_raised_at_the_end_of_a_turn():
    owner, called = Owner(), []

    def fail():
        called.append(1)
        raise OSError("no")

    finally_call(owner, fail)
    with SafeLock():
        owner = None
        gc.collect()
    assert called == [1]


class Interrupted:
    """The key of a cache: while it is looked up, the collector runs."""

    def __init__(self, meanwhile):
        self.meanwhile = meanwhile

    def __hash__(self):
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return 1


def test_a_collection_within_the_cache_does_not_wait_for_a_handle_that_is_closed():
    """Thread 1, in the cache, collects an image; thread 2 closes a handle, for which it needs the cache."""
    pool, cache, closed = HandlePool(), MemoryCache(1000), []
    inside, closing = threading.Event(), threading.Event()

    class Handle:
        def close(self):
            closing.set()
            assert inside.wait(SECONDS)
            cache.forget(self)
            closed.append("b")

    class Other:
        def close(self):
            closed.append("a")

    users = {"a": Owner(), "b": Owner()}
    for key, make in (("a", Other), ("b", Handle)):
        pool.use(key, users[key])
        with pool.lease(key, make):
            pass

    def collect():
        inside.set()
        assert closing.wait(SECONDS)
        del users["a"]
        gc.collect()

    in_threads(lambda: cache.put(Interrupted(collect), np.zeros(3)), lambda: pool.close("b"))
    assert sorted(closed) == ["a", "b"]
    assert len(pool) == 0


def test_closing_a_handle_does_not_stop_those_who_want_others():
    """So that a handle may wait for a lock, such as that of HDF5, whose holder wants a handle."""
    pool, user = HandlePool(), Owner()
    closing, leased = threading.Event(), threading.Event()

    class Handle:
        def close(self):
            closing.set()
            assert leased.wait(SECONDS)

    pool.use("a", user)
    with pool.lease("a", Handle):
        pass

    def lease():
        assert closing.wait(SECONDS)
        with pool.lease("b", Owner):
            leased.set()

    in_threads(lambda: pool.close("a"), lease)
    assert leased.is_set()


def test_all_handles_are_closed_though_one_fails():
    closed = []

    class Handle:
        def __init__(self, name):
            self.name = name

        def close(self):
            closed.append(self.name)
            if self.name == "b":
                raise OSError("no")

    pool = HandlePool()
    for name in "abc":
        with pool.lease(name, partial(Handle, name)):
            pass
    with pytest.raises(OSError, match="no"):
        pool.close_idle()
    assert sorted(closed) == ["a", "b", "c"]
    assert len(pool) == 0


def test_a_shelf_that_is_collected_within_the_cache_is_dropped_after():
    shelf, other = Shelf(), Shelf()
    shelf.put("x", np.zeros(5))
    other.put("x", np.zeros(5))
    held = [shelf]
    del shelf
    before, seen = CACHE.nbytes, []

    def collect():
        held.clear()
        gc.collect()
        seen.append(CACHE.nbytes)

    assert CACHE.get(Interrupted(collect)) is None
    assert seen == [before]
    assert CACHE.nbytes == before - 40
    assert "x" in other
