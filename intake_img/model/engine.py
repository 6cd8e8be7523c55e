"""The engine of a write: threads of this process, or dask tasks, on a cluster if there is a client.

A task is a function and the key or keys of its inputs. Results of tasks are small, since they are sent to the client.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Engine", "Tasks", "current_client", "in_tasks"]

Engine = Literal["dask", "threads"]
Key = tuple[Any, ...]


def current_client() -> Any:
    """Return the client of the cluster on which dask currently computes, None if it computes in this process."""
    if "distributed" not in sys.modules:
        return None
    from dask import base

    client = getattr(base.get_scheduler(), "__self__", None)
    return client if hasattr(client, "nthreads") else None


def in_tasks(engine: Engine | None) -> bool:
    """Return whether to work in dask tasks: if requested, else if there is a client.

    Raises
    ------
    ValueError
        If there is no such engine.
    """
    if engine not in (None, "dask", "threads"):
        raise ValueError(f"engine={engine!r}: expected 'dask', 'threads', or None for dask if there is a client")
    return engine == "dask" or (engine is None and current_client() is not None)


@dataclass
class Tasks:
    """Tasks that are made now and run later, in layers; each layer may use the results of earlier layers.

    Attributes
    ----------
    keys : list
        The keys of all tasks, in the order in which they were added.
    """

    keys: list[Key] = field(default_factory=list)
    _layers: dict[str, Mapping[Key, Any]] = field(default_factory=dict)
    _needs: dict[str, set[str]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        tasks: Mapping[Any, tuple[Callable[..., Any], Any]],
        source: Any = None,
        after: Sequence[str] = (),
    ) -> str:
        """Add a layer.

        Parameters
        ----------
        name : str
            The name in dask's dashboard.
        tasks : mapping of tuple of int to (callable, key or list of keys)
            By position.
        source : dask.array.Array, optional
            An array whose chunks are inputs of the tasks.
        after : sequence of str
            Layers whose results are inputs of the tasks.

        Returns
        -------
        str
            Name of the layer; the key of a task is this name and its position.
        """
        unique = f"{name}-{uuid.uuid4().hex}"
        self._layers[unique] = {(unique, *position): task for position, task in tasks.items()}
        self._needs[unique] = set(after)
        if source is not None:
            self._layers |= source.dask.layers
            self._needs |= source.dask.dependencies
            self._needs[unique] |= set(source.__dask_layers__())
        self.keys += self._layers[unique]
        return unique

    def gathered(self, name: str, function: Callable[[list[Any]], Any]) -> Any:
        """Return a `dask.delayed.Delayed`: `function` applied to the results of all tasks."""
        unique = f"{name}-{uuid.uuid4().hex}"
        layers = {**self._layers, unique: {unique: (function, list(self.keys))}}
        return _delayed(unique, layers, {**self._needs, unique: {key[0] for key in self.keys}})

    def run(self, done: Callable[[Any], None] | None = None) -> list[Any]:
        """Run all tasks and return their results, in order.

        Parameters
        ----------
        done : callable, optional
            Called with the result of each task when it finishes.
        """
        if not self.keys:
            return []
        wanted = [_delayed(key, self._layers, self._needs) for key in self.keys]
        client = current_client()
        return _on_cluster(client, wanted, done) if client is not None else _here(wanted, set(self.keys), done)


def _delayed(key: Any, layers: Mapping[str, Any], needs: Mapping[str, set[str]]) -> Any:
    from dask import highlevelgraph
    from dask.delayed import Delayed

    return Delayed(key, highlevelgraph.HighLevelGraph(layers, needs), layer=key if isinstance(key, str) else key[0])


def _on_cluster(client: Any, wanted: Sequence[Any], done: Callable[[Any], None] | None) -> list[Any]:
    from distributed import as_completed

    futures = client.compute(list(wanted), optimize_graph=False)
    found: dict[Any, Any] = {}
    try:
        for future, result in as_completed(futures, with_results=True):
            found[future.key] = result
            if done is not None:
                done(result)
    except BaseException:
        client.cancel(futures)
        raise
    return [found[future.key] for future in futures]


def _here(wanted: Sequence[Any], keys: set[Key], done: Callable[[Any], None] | None) -> list[Any]:
    import dask
    from dask import callbacks

    def look(key: Any, result: Any, *_: Any) -> None:
        if done is not None and key in keys:
            done(result)

    with callbacks.Callback(posttask=look):
        return list(dask.compute(*wanted, optimize_graph=False))
