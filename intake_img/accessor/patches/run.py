"""Running a model over patches: reading a window ahead, predicting in batches, writing blocks meanwhile.

A patch is read once and predicted once, for any number of blocks that it touches;
`intake_img.accessor.patches.stitch.Assembly` keeps predictions that wait for other patches. In memory are at most
two windows of patches, the waiting predictions (up to a limit, beyond it in files), and a few blocks that are being
written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.accessor.patches.output import Output
from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.stitch import Assembly, Boxes
from intake_img.model.machine import cpus
from intake_img.storage.spill import SpillingMemory

__all__ = ["Batch", "PatchJob", "batches", "local", "of_one_shape", "predicted", "untouched"]

Batch = tuple[np.ndarray, np.ndarray]
"""Numbers of patches, and what was predicted for them."""


@dataclass(frozen=True)
class PatchJob:
    """The blocks to make.

    Parameters
    ----------
    outputs : sequence of Output
    numbers : sequence of ndarray
        For each output the numbers of its patches in the plan.
    assemblies : sequence of Assembly
    how : str
    fill : scalar
    """

    outputs: Sequence[Output]
    numbers: Sequence[np.ndarray]
    assemblies: Sequence[Assembly]
    how: str
    fill: Any

    @classmethod
    def of(
        cls,
        plan: Plan,
        outputs: Sequence[Output],
        how: str,
        fill: Any,
        halo: Sequence[int],
        memory: SpillingMemory,
        done: Sequence[np.ndarray] | None = None,
        which: np.ndarray | None = None,
    ) -> PatchJob:
        """Return the job of making all blocks that are not `done`, of the patches `which`, or of all."""
        mine = np.ones(len(plan), bool) if which is None else np.isin(np.arange(len(plan)), which)
        numbers = [np.flatnonzero(mine & (plan.source == out.source)) for out in outputs]
        assemblies = []
        for k, out in enumerate(outputs):
            boxes = Boxes.of(plan, numbers[k], out.lengths, how, halo)
            wanted = None if done is None else ~done[k]
            assemblies.append(Assembly(out.canvas, boxes, how, wanted, fill, memory))
        return cls(outputs, numbers, assemblies, how, fill)

    @property
    def order(self) -> np.ndarray:
        """The needed patches, in the order in which blocks need them."""
        return np.concatenate([n[a.order] for n, a in zip(self.numbers, self.assemblies, strict=True)])

    def local(self, ids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Return, for each output with some of the patches `ids`, its number and its own numbers of these patches."""
        for k, _, own in self._places(ids):
            yield k, own

    def parts(self, ids: np.ndarray, predictions: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Split a batch by output: its number, its own numbers of the patches, their predictions."""
        for k, mine, own in self._places(ids):
            yield k, own, predictions[mine]

    def _places(self, ids: np.ndarray) -> Iterator[tuple[int, Any, np.ndarray]]:
        for k, numbers in enumerate(self.numbers):
            place = np.searchsorted(numbers, ids)
            mine = np.append(numbers, -1)[place] == ids
            if mine.all():
                yield k, slice(None), place
            elif mine.any():
                yield k, mine, place[mine]

    def empty(self, k: int, number: int) -> np.ndarray:
        """Return a block that no patch touches."""
        out = self.outputs[k]
        return np.full([s.stop - s.start for s in out.key(number)], self.fill, out.dtype)


def batches(
    patches: Any, variables: Sequence[str], order: np.ndarray, size: int, window: int
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Read patches in `order`, one window ahead; yield batches of at most `size` patches of equal shape."""
    windows = [order[k : k + window] for k in range(0, len(order), window)]

    def read(ids: np.ndarray) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        return [(g, [patches.read(g, v) for v in variables]) for g in of_one_shape(patches.plan, ids)]

    if not windows:
        return
    with ThreadPoolExecutor(1, thread_name_prefix="intake_img-ahead") as pool:
        ahead = pool.submit(read, windows[0])
        for k in range(len(windows)):
            groups = ahead.result()
            if k + 1 < len(windows):
                ahead = pool.submit(read, windows[k + 1])
            for ids, arrays in groups:
                for a in range(0, len(ids), size):
                    yield ids[a : a + size], [array[a : a + size] for array in arrays]


def of_one_shape(plan: Plan, ids: np.ndarray) -> list[np.ndarray]:
    """Group patches by shape: partial patches at the edge have other shapes."""
    shapes = plan.shape[ids]
    if not len(ids) or (shapes == shapes[0]).all():
        return [ids]
    _, group = np.unique(shapes, axis=0, return_inverse=True)
    return [ids[group.ravel() == k] for k in range(int(group.max()) + 1)]


def predicted(
    given: Iterator[tuple[np.ndarray, list[np.ndarray]]],
    predict: Callable[..., np.ndarray],
    check: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Iterator[Batch]:
    """Call a model on every batch."""
    for ids, arrays in given:
        yield ids, check(ids, predict(*arrays))


def local(job: PatchJob, stream: Iterator[Batch], sink: Any, progress: Callable[[int], None]) -> None:
    """Assemble predictions and write blocks, in the threads of this process.

    Parameters
    ----------
    job : PatchJob
    stream : iterator of Batch
    sink : InMemory or InStore
    progress : callable
        Called with the number of pixels of each written block.
    """
    workers = max(1, cpus())
    waiting: deque[tuple[Future[int], Assembly, Any]] = deque()

    def finish(k: int, number: int, state: Any) -> int:
        block = job.assemblies[k].finished(number, state, job.outputs[k].kept)
        sink.put(job.outputs[k].source, number, block)
        return block.size

    def settle(most: int) -> None:
        while len(waiting) > most:
            future, assembly, state = waiting.popleft()
            progress(future.result())
            assembly.release(state)

    with ThreadPoolExecutor(workers, thread_name_prefix="intake_img-blocks") as pool:
        try:
            for ids, predictions in stream:
                for k, own, values in job.parts(ids, predictions):
                    assembly = job.assemblies[k]
                    for number, state in assembly.add(own.tolist(), values):
                        waiting.append((pool.submit(finish, k, number, state), assembly, state))
                        settle(2 * workers)
            settle(0)
            if lacking := sum(a.waiting for a in job.assemblies):
                raise ValueError(f"{lacking} blocks are incomplete: predictions of some patches never came")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def untouched(job: PatchJob, wanted: Mapping[int, np.ndarray]) -> Iterator[tuple[int, int]]:
    """Return the wanted blocks that no patch touches: they contain the fill value."""
    for k, mask in wanted.items():
        rest = mask.copy()
        rest[job.assemblies[k].touched_blocks] = False
        for number in np.flatnonzero(rest).tolist():
            yield k, number
