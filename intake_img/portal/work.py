"""Work for requests: in threads, the most urgent first, once for all waiting requests, and not for disconnected
clients."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

__all__ = ["BACKGROUND", "SEEN", "THUMBNAIL", "BusyError", "GoneError", "Workers"]

SEEN, THUMBNAIL, BACKGROUND = 0, 1, 2
T = TypeVar("T")


class BusyError(Exception):
    """Too many jobs are waiting, or one takes too long; try again later."""


class GoneError(Exception):
    """The client has disconnected."""


class _Job:
    def __init__(self, key: Hashable, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.key, self.work, self.loop = key, work, loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.waiters = 0

    def finish(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
            self.future.exception()  # marks the exception as retrieved, also if nobody waits any more
        else:
            self.future.set_result(result)


class Workers:
    """Worker threads that take the newest of the most urgent jobs.

    Parameters
    ----------
    threads : int
    waiting : int
        Number of waiting jobs; beyond that `run` raises `BusyError`.
    seconds : float
        How long a request waits for its job.
    """

    def __init__(self, threads: int, waiting: int, seconds: float) -> None:
        self.waiting, self.seconds = waiting, seconds
        self.cancelled = 0
        self._heap: list[tuple[int, int, _Job]] = []
        self._count = itertools.count()
        self._jobs: dict[Hashable, _Job] = {}
        self._ready = threading.Condition()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"intake_img-portal-{k}", daemon=True) for k in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queued(self) -> int:
        return len(self._heap)

    async def run(
        self, key: Hashable, work: Callable[[], T], priority: int = SEEN, gone: Awaitable[Any] | None = None
    ) -> T:
        """Return the result of `work`, computed in a thread; jobs of the same key are computed once.

        Parameters
        ----------
        key : hashable
        work : callable
        priority : int
            `SEEN`, `THUMBNAIL` or `BACKGROUND`.
        gone : awaitable, optional
            Ends when the client disconnects; its job is dropped if no other request waits for it.

        Raises
        ------
        BusyError
            If too many jobs wait, or this one takes too long.
        GoneError
            If the client has disconnected.
        """
        loop = asyncio.get_running_loop()
        job = self._jobs.get(key)
        if job is None or job.loop is not loop:
            if len(self._heap) >= self.waiting:
                raise BusyError("too many requests are waiting")
            job = self._jobs[key] = _Job(key, work, loop)
            self._push(job, priority)
        job.waiters += 1
        watched = {asyncio.ensure_future(gone)} if gone is not None else set()
        try:
            done, _ = await asyncio.wait(
                {job.future, *watched}, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if job.future in done:
                return job.future.result()
            if done:
                raise GoneError
            raise BusyError("the request takes too long")
        finally:
            for one in watched:
                one.cancel()
            job.waiters -= 1
            if not job.waiters and self._withdrawn(job):
                self._forget(job)

    def later(self, work: Callable[[], Any]) -> None:
        """Run a function when the workers are idle, without waiting for it."""
        job = _Background(work)
        self._push(job, BACKGROUND)  # type: ignore[arg-type]

    def _push(self, job: _Job, priority: int) -> None:
        with self._ready:
            heapq.heappush(self._heap, (priority, -next(self._count), job))
            self._ready.notify()

    def _withdrawn(self, job: _Job) -> bool:
        """Remove a job from the waiting ones, and return whether it was waiting."""
        with self._ready:
            rest = [one for one in self._heap if one[2] is not job]
            found = len(rest) < len(self._heap)
            if found:
                heapq.heapify(rest)
                self._heap = rest
            return found

    def _forget(self, job: _Job) -> None:
        self.cancelled += 1
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]

    def _serve(self) -> None:
        while True:
            with self._ready:
                while not self._heap and not self._stopped:
                    self._ready.wait()
                if self._stopped:
                    return
                _, _, job = heapq.heappop(self._heap)
            if isinstance(job, _Background):
                job.run()
            elif job.waiters:
                self._do(job)
            else:
                self._drop(job)

    def _drop(self, job: _Job) -> None:
        """Drop a job that nobody waits for; a job that was requested meanwhile is queued again."""

        def finish() -> None:
            if job.waiters:
                self._push(job, SEEN)
            else:
                self._forget(job)

        self._in_loop(job, finish)

    def _in_loop(self, job: _Job, finish: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            job.loop.call_soon_threadsafe(finish)

    def _do(self, job: _Job) -> None:
        result, error = None, None
        try:
            result = job.work()
        except BaseException as exc:  # the request's own affair
            error = exc

        def finish() -> None:
            if self._jobs.get(job.key) is job:
                del self._jobs[job.key]
            job.finish(result, error)

        self._in_loop(job, finish)

    def stop(self, seconds: float = 5.0) -> None:
        """Wait some seconds for running jobs, and start no others."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


class _Background:
    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work

    def run(self) -> None:
        try:
            self.work()
        except Exception:  # its result is handled by the waiting requests
            return
