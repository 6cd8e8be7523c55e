"""Running a model over patches on a dask cluster: a task for each batch, and a task for each block of the result.

The model and the patches are sent to every worker once. A batch is read and predicted once; its predictions are cut
along the blocks, and one task gathers and writes each block. Only as many batches run concurrently as keep all workers
busy, so that the amount of waiting predictions in the cluster is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intake_img.accessor.patches.models import predictor, working
from intake_img.accessor.patches.run import Batch, PatchJob
from intake_img.kernels.blending import Piece, blend
from intake_img.model.process_state import quiet

__all__ = ["spread"]

Pieces = dict[tuple[int, int], list[tuple[int, Piece]]]

_AHEAD = 4
"""Batches under way for each thread of the cluster."""


def spread(
    client: Any,
    job: PatchJob,
    patches: Any,
    variables: Sequence[str],
    model: Any,
    order: np.ndarray,
    size: int,
    check: Callable[[np.ndarray, np.ndarray], np.ndarray],
    known: Sequence[Batch],
    sink: Any,
    progress: Callable[[int], None],
    input_dtype: Any = None,
) -> None:
    """Make all blocks of a job on a cluster.

    Parameters
    ----------
    client : distributed.Client
    job, order, check, known, sink, progress
        As in `intake_img.accessor.patches.run.local`.
    patches, variables, model, size
        The patches, their variables, the model, and the batch size.
    """
    from distributed import wait

    shared = _shared(client, [patches, model, job])
    run = _Cluster(client, job, sink, progress, shared[2])
    most = _AHEAD * max(1, sum(client.nthreads().values()))
    try:
        for ids, values in known:
            run.add(ids, client.submit(_cut, shared[2], ids, values, pure=False))
        for k in range(0, len(order), size):
            ids = order[k : k + size]
            run.add(ids, client.submit(_predict, *shared, list(variables), ids, check, input_dtype, pure=False))
            while len(run.busy) > most:
                wait(run.busy, return_when="FIRST_COMPLETED")
                run.settle()
        while run.busy:
            wait(run.busy, return_when="FIRST_COMPLETED")
            run.settle()
    finally:
        run.release()


def _shared(client: Any, objects: Sequence[Any]) -> list[Any]:
    """Return futures of objects that all workers have.

    They are results of tasks, not scattered: if the workers that contain them die, the scheduler makes them again.
    """
    with quiet():  # that the graph is large: a model may be, and it is sent once
        futures = [client.submit(_same, value, pure=False) for value in objects]
    client.replicate(futures)
    return futures


def _same(value: Any) -> Any:
    return value


class _Cluster:
    """The running batches and blocks."""

    def __init__(self, client: Any, job: PatchJob, sink: Any, progress: Callable[[int], None], shared: Any) -> None:
        self.client, self.job, self.sink, self.progress, self.shared = client, job, sink, progress, shared
        self.busy: list[Any] = []
        self.parts: dict[tuple[int, int], list[Any]] = {}
        self.blocks: dict[str, tuple[int, int]] = {}
        self.missing = [dict(a.missing) for a in job.assemblies]

    def add(self, ids: np.ndarray, batch: Any) -> None:
        """Take the future of a batch; submit the blocks that it completes."""
        self.busy.append(batch)
        touched: dict[tuple[int, int], int] = {}
        for k, own in self.job.local(ids):
            for patch in own.tolist():
                for number in self.job.assemblies[k].blocks_of(patch):
                    touched[k, number] = touched.get((k, number), 0) + 1
        for (k, number), count in touched.items():
            part = batch if len(touched) == 1 else self.client.submit(_take, batch, (k, number), pure=False)
            self.parts.setdefault((k, number), []).append(part)
            self.missing[k][number] -= count
            if not self.missing[k][number]:
                self._write(k, number, self.parts.pop((k, number)))

    def _write(self, k: int, number: int, parts: list[Any]) -> None:
        sink = None if not hasattr(self.sink, "folder") else self.sink
        future = self.client.submit(_block, self.shared, k, number, parts, sink, pure=False)
        self.blocks[future.key] = (k, number)
        self.busy.append(future)

    def release(self) -> None:
        """Release unfinished tasks; cancelling them would break a scheduler with waiting tasks whose results are
        unreferenced."""
        for future in (*self.busy, *(part for parts in self.parts.values() for part in parts)):
            future.release()

    def settle(self) -> None:
        """Release finished tasks, raise the errors of failed ones."""
        still = []
        for future in self.busy:
            if not future.done():
                still.append(future)
            elif future.status != "finished":
                future.result()
            elif future.key in self.blocks:
                k, number = self.blocks.pop(future.key)
                found = future.result()
                if not isinstance(found, int):
                    self.sink.put(self.job.outputs[k].source, number, found)
                self.progress(found if isinstance(found, int) else found.size)
        self.busy = still


def _predict(
    patches: Any, model: Any, job: PatchJob, variables: list[str], ids: np.ndarray, check: Any, input_dtype: Any
) -> Pieces:
    from intake_img.accessor.patches.run import of_one_shape

    found: Pieces = {}
    with working(model):
        predict = predictor(model, input_dtype)
        for group in of_one_shape(patches.plan, ids):
            values = check(group, predict(*[patches.read(group, v) for v in variables]))
            for key, pieces in _cut(job, group, values).items():
                found.setdefault(key, []).extend(pieces)
    return found


def _cut(job: PatchJob, ids: np.ndarray, values: np.ndarray) -> Pieces:
    """Cut predictions along the blocks."""
    found: Pieces = {}
    for k, own, mine in job.parts(ids, values):
        assembly = job.assemblies[k]
        for patch, prediction in zip(own.tolist(), mine, strict=True):
            for number in assembly.blocks_of(patch):
                piece = assembly.boxes.piece(patch, prediction, assembly.canvas.region(number))
                piece = piece._replace(values=np.ascontiguousarray(piece.values))
                found.setdefault((k, number), []).append((patch, piece))
    return found


def _take(pieces: Pieces, key: tuple[int, int]) -> Pieces:
    return {key: pieces[key]}


def _block(job: PatchJob, k: int, number: int, parts: list[Pieces], sink: Any) -> Any:
    """Assemble a block and write it; without a store, return it."""
    pieces = sorted((pair for part in parts for pair in part[k, number]), key=lambda pair: pair[0])
    out = job.outputs[k]
    shape = [s.stop - s.start for s in out.key(number)]
    block = blend(job.how, shape, pieces[0][1].values.dtype, [p for _, p in pieces], job.fill)
    if sink is None:
        return block
    sink.put(out.source, number, block)
    return int(block.size)
