"""Lazy dask graphs and layers: a graph is made when it is used, a task only when its block is requested."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any

from dask import highlevelgraph

__all__ = ["BlockLayer", "DeferredLayer", "LazyGraph", "Task", "apart_from_source"]

Task = tuple[Callable[..., Any], Any]
"""A function, and the key or list of keys whose values it receives."""


class BlockLayer(highlevelgraph.Layer):
    """A task for each block of an array, made from the position of the block.

    Parameters
    ----------
    name : str
        Of the array.
    numblocks : sequence of int
        How many blocks there are along each axis.
    make : callable
        ``make(position)`` returns the task of a block: a function, and the key or list of keys whose values it
        receives.
    """

    def __init__(self, name: str, numblocks: Sequence[int], make: Callable[[tuple[int, ...]], Task]) -> None:
        super().__init__()
        self.name, self.numblocks, self.make = name, tuple(numblocks), make

    def __getitem__(self, key: Any) -> Any:
        if key not in self:
            raise KeyError(key)
        return self.make(key[1:])

    def __contains__(self, key: object) -> bool:
        return (
            isinstance(key, tuple)
            and len(key) == len(self.numblocks) + 1
            and key[0] == self.name
            and all(isinstance(k, int) and 0 <= k < n for k, n in zip(key[1:], self.numblocks, strict=True))
        )

    def __iter__(self) -> Iterator[Any]:
        return product([self.name], *map(range, self.numblocks))

    def __len__(self) -> int:
        count = 1
        for n in self.numblocks:
            count *= n
        return count

    def is_materialized(self) -> bool:
        return False

    def get_output_keys(self) -> set[Any]:
        return set(self)

    def cull(
        self, keys: Collection[Any], all_hlg_keys: Collection[Any]
    ) -> tuple[highlevelgraph.Layer, dict[Any, set[Any]]]:
        """Return the layer with only the tasks of `keys`, and their dependencies."""
        tasks = {key: self.make(key[1:]) for key in keys if key in self}
        return highlevelgraph.MaterializedLayer(tasks), {key: _needed(keys) for key, (_, keys) in tasks.items()}


class DeferredLayer(highlevelgraph.Layer):
    """Tasks that are all made when one of them is first used.

    Parameters
    ----------
    make : callable
        ``make()`` returns the tasks by key.
    """

    def __init__(self, make: Callable[[], Mapping[Any, Any]]) -> None:
        super().__init__()
        self.make = make

    @cached_property
    def tasks(self) -> Mapping[Any, Any]:
        """All tasks by key."""
        return self.make()

    def __getitem__(self, key: Any) -> Any:
        return self.tasks[key]

    def __contains__(self, key: object) -> bool:
        return key in self.tasks

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def is_materialized(self) -> bool:
        return "tasks" in self.__dict__

    def get_output_keys(self) -> set[Any]:
        return set(self.tasks)

    def __reduce__(self) -> tuple[Any, ...]:
        return highlevelgraph.MaterializedLayer, (dict(self.tasks), self.annotations, self.collection_annotations)


class LazyGraph(highlevelgraph.HighLevelGraph):
    """A graph that is made when its layers are first used: many arrays are only selected from, or read without it.

    Parameters
    ----------
    make : callable
        ``make()`` returns the graph.
    computed : callable, optional
        ``computed()`` returns a graph for one computation of the complete array, or None to use the usual graph. Since
        release 2025.4, dask copies the graph of an array that it computes or persists, and of no other; earlier ones
        compute the usual graph.
    """

    def __init__(
        self,
        make: Callable[[], highlevelgraph.HighLevelGraph],
        computed: Callable[[], highlevelgraph.HighLevelGraph | None] | None = None,
    ) -> None:
        self._make, self._computed = make, computed

    @cached_property
    def _made(self) -> highlevelgraph.HighLevelGraph:
        return self._make()

    @property
    def layers(self) -> Mapping[str, highlevelgraph.Layer]:  # type: ignore[override]
        return self._made.layers

    @property
    def dependencies(self) -> Mapping[str, set[str]]:  # type: ignore[override]
        return self._made.dependencies

    @property
    def key_dependencies(self) -> dict[Any, set[Any]]:  # type: ignore[override]
        return self._made.key_dependencies

    def copy(self) -> highlevelgraph.HighLevelGraph:
        graph = self._computed() if self._computed is not None else None
        return super().copy() if graph is None else graph

    def __reduce__(self) -> tuple[Any, ...]:
        return highlevelgraph.HighLevelGraph, (self.layers, self.dependencies, self.key_dependencies)


def apart_from_source(graph: dict[Any, Any], name: str) -> tuple[Any, ...]:
    """Return the key of a task for others of a graph on this machine: with a second key, dask runs them by themselves.

    It would fuse each with the one that reads its chunk, and find an order for the two whenever it runs them: 0.2 ms.
    """
    graph[("apart-" + name,)] = None
    return (("apart-" + name,),)


def _needed(keys: Any) -> set[Any]:
    return set(keys) if isinstance(keys, list) else {keys}
