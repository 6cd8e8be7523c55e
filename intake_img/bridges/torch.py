"""Datasets of torch: map-style, which reads a batch at a time, and iterable, which reads windows ahead.

torch is imported when a dataset is made. Its classes are created then, from the classes here; they are pickled by their
constructor arguments, so that spawned workers create them again. The epoch is in shared memory, so that workers see
changes.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from intake_img.kernels.sampling import permutation

__all__ = ["Samples", "iterable", "mapped", "numpy_dtype"]

_READ = 64
"""Patches that are read together where single ones are handed over."""


def numpy_dtype(dtype: Any) -> np.dtype | None:
    """Return a dtype of numpy or torch as a numpy dtype."""
    if dtype is None:
        return None
    return np.dtype(str(dtype).removeprefix("torch.") if str(dtype).startswith("torch.") else dtype)


class Samples(list):
    """Consecutive samples in `whole`, so that collating them copies nothing."""

    whole: dict[str, Any]


class _Common:
    """The common base of both kinds of datasets."""

    def __init__(
        self,
        patches: Any,
        variables: Sequence[str],
        dtype: np.dtype | None,
        transform: Callable[[dict[str, Any]], Any] | None,
        shared: Any = None,
    ) -> None:
        import torch

        self.patches = copy.copy(patches)  # its epoch is its own
        self.variables, self.dtype, self.transform = tuple(variables), dtype, transform
        self.shared = shared if shared is not None else torch.tensor([patches.epoch]).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch of the patches."""
        return int(self.shared[0])

    def set_epoch(self, epoch: int) -> None:
        """Use the patches of another epoch from now on, in all workers."""
        self.patches = self.patches.set_epoch(epoch)
        self.shared[0] = epoch

    def _current(self) -> Any:
        return self.patches.set_epoch(self.epoch)

    def _tensors(self, arrays: dict[str, np.ndarray], numbers: np.ndarray) -> dict[str, Any]:
        import torch

        cast = {v: a if self.dtype is None else a.astype(self.dtype, copy=False) for v, a in arrays.items()}
        found = {v: torch.from_numpy(np.ascontiguousarray(cast[v])) for v in self.variables}
        found["patch"] = torch.from_numpy(np.array(numbers, np.int64))
        return found

    def _split(self, whole: dict[str, Any]) -> Iterator[Any]:
        for k in range(len(whole["patch"])):
            sample = {name: tensor[k] for name, tensor in whole.items()}
            yield sample if self.transform is None else self.transform(sample)


def collate(samples: Any) -> Any:
    """Collate samples into a batch; samples that were read together are a batch already."""
    from torch.utils.data import default_collate

    return samples.whole if isinstance(samples, Samples) else default_collate(samples)


class _Mapped(_Common):
    """Patches by their number."""

    collate = staticmethod(collate)

    def __len__(self) -> int:
        return len(self._current())

    def _read(self, numbers: list[int]) -> dict[str, Any]:
        patches = self._current()
        return self._tensors({v: patches.read(numbers, v) for v in self.variables}, np.asarray(numbers))

    def __getitem__(self, number: int) -> Any:
        n = len(self)
        if not -n <= int(number) < n:
            raise IndexError(f"there is no patch {int(number)}: there are {n}")
        return next(self._split(self._read([int(number) % n])))

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        wanted = [int(n) for n in numbers]
        shape = self._current().plan.shape[wanted]
        if len(wanted) and (shape != shape[0]).any():  # partial patches
            return [self[n] for n in wanted]
        whole = self._read(wanted)
        found = Samples(self._split(whole))
        if self.transform is not None:
            return list(found)
        found.whole = whole
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return mapped, (self.patches, self.variables, self.dtype, self.transform, self.shared)

    def loader(self, batch_size: int = 1, *, num_workers: int = 0, **options: Any) -> Any:
        """Return a `torch.utils.data.DataLoader`; it accepts all its options."""
        from torch.utils.data import DataLoader

        options.setdefault("collate_fn", collate)
        return DataLoader(self, batch_size, num_workers=num_workers, **options)  # type: ignore[arg-type]


class _Iterable(_Common):
    """Patches in the order of an epoch, divided between ranks and workers."""

    def __init__(
        self,
        patches: Any,
        variables: Sequence[str],
        dtype: np.dtype | None,
        transform: Any,
        size: int | None,
        shuffle: bool,
        drop_last: bool,
        lookahead: int | str,
        place: tuple[int, int] | None,
        even: bool,
        shared: Any = None,
    ) -> None:
        super().__init__(patches, variables, dtype, transform, shared)
        self.size, self.shuffle, self.drop_last, self.lookahead = size, shuffle, drop_last, lookahead
        self.place, self.even = place, even

    @property
    def rank(self) -> tuple[int, int]:
        """The rank of this process (with all its workers) and the number of ranks."""
        import torch.distributed as dist

        if self.place is not None:
            return self.place
        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
        return 0, 1

    def numbers(self) -> np.ndarray:
        """Return the numbers of the patches of this rank, and of this worker if it is one."""
        from torch.utils.data import get_worker_info

        patches = self._current()
        n = len(patches)
        order = permutation(patches.rule.seed, self.epoch, n) if self.shuffle else np.arange(n)
        rank, world = self.rank
        if self.even and n % world:
            order = np.resize(order, -(-n // world) * world)
        order = order[rank::world]
        worker = get_worker_info()
        return order if worker is None else order[worker.id :: worker.num_workers]

    def __iter__(self) -> Iterator[Any]:
        numbers = self.numbers()
        if not len(numbers):
            return
        size = self.size or _READ
        patches = self._current()
        part = patches.take(numbers)
        part._plan = patches.plan.take(numbers)  # avoids drawing and filtering again
        dropping = self.drop_last and self.size is not None
        for own, arrays in part.batches(size, lookahead=self.lookahead, drop_last=dropping, labelled=False):
            whole = self._tensors(arrays, numbers[own])
            if self.size is None:
                yield from self._split(whole)
            elif self.transform is None:
                yield whole
            else:
                yield collate(list(self._split(whole)))

    def __reduce__(self) -> tuple[Any, ...]:
        place = self.place or (self.rank if self.rank != (0, 1) else None)  # a spawned worker has no process group
        return iterable, (
            self.patches,
            self.variables,
            self.dtype,
            self.transform,
            self.size,
            self.shuffle,
            self.drop_last,
            self.lookahead,
            place,
            self.even,
            self.shared,
        )

    def loader(self, *, num_workers: int = 0, **options: Any) -> Any:
        """Return a `torch.utils.data.DataLoader`; the dataset itself sets the options for batches."""
        from torch.utils.data import DataLoader

        if taken := [o for o in ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last") if o in options]:
            raise ValueError(
                f"{taken[0]}= is for to_torch('iterable', ...): there patches are put into batches and order"
            )
        whole: dict[str, Any] = (
            {"batch_size": None} if self.size is not None else {"batch_size": 1, "collate_fn": _only}
        )
        return DataLoader(self, num_workers=num_workers, **{**whole, **options})  # type: ignore[arg-type]


def _only(samples: list[Any]) -> Any:
    return samples[0]


@functools.cache
def _class(own: type, base: str) -> type:
    import torch.utils.data

    return type(
        f"Torch{own.__name__.strip('_')}Patches", (own, getattr(torch.utils.data, base)), {"__doc__": own.__doc__}
    )


def mapped(patches: Any, variables: Sequence[str], dtype: Any, transform: Any, shared: Any = None) -> Any:
    """Return a map-style dataset of torch."""
    return _class(_Mapped, "Dataset")(patches, variables, dtype, transform, shared)


def iterable(
    patches: Any,
    variables: Sequence[str],
    dtype: Any,
    transform: Any,
    size: int | None,
    shuffle: bool,
    drop_last: bool,
    lookahead: int | str,
    place: tuple[int, int] | None,
    even: bool,
    shared: Any = None,
) -> Any:
    """Return an iterable dataset of torch."""
    return _class(_Iterable, "IterableDataset")(
        patches, variables, dtype, transform, size, shuffle, drop_last, lookahead, place, even, shared
    )
