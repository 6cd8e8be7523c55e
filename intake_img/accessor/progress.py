"""Computing with a progress bar, and describing a computation before it runs."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any

import xarray as xr

from intake_img.accessor.arguments import choice
from intake_img.model.progress_bar import is_shown, meter
from intake_img.model.text import escaped

PLUMBING = re.compile(r"original|checkpoint|bind|blocks|chunks|getitem|reshape|concatenate|rechunk-(split|merge)")
"""Names of steps that only put chunks in their place."""


__all__ = ["Pending", "bar", "computed", "counted", "steps"]


@contextlib.contextmanager
def bar(wanted: bool | None, what: str) -> Iterator[None]:
    """A bar on stderr while dask computes: shown if requested, or in a terminal for work of more than a second."""
    if not is_shown(wanted):
        yield
        return
    from tqdm.dask import TqdmCallback

    with TqdmCallback(desc=what, delay=0 if wanted else 1, file=sys.stderr):
        yield


def counted(items: Iterator[Any], total: int, wanted: bool | None, what: str) -> Iterator[Any]:
    """Iterate over images, with a bar on stderr."""
    with meter(wanted, total, what, "image", scaled=False) as step:
        for item in items:
            yield item
            step(1)


def computed(obj: Any, progress: bool | None = None) -> Any:
    """Return `obj` with its data in memory."""
    choice("progress", progress, (None, True, False))
    with bar(progress, "computing"):
        return obj.compute()


def steps(array: xr.DataArray) -> list[str]:
    """Return the names of the steps that compute the data of an array, in order; none if they are in memory."""
    from dask import utils

    if array.chunks is None:
        return []
    graph = array.data.dask
    if not hasattr(graph, "layers"):  # dask array expressions
        return list(dict.fromkeys(utils.key_split(name) for name in graph))[::-1]
    names = [utils.key_split(name) for name in TopologicalSorter(graph.dependencies).static_order()]
    names = [re.sub(r"_(chunk|(agg|combine)(-aggregate|-partial)?)$", "", n) for n in names if not PLUMBING.match(n)]
    return [n for k, n in enumerate(names) if k == 0 or n != names[k - 1]]


class Pending:
    """A text that describes the computation of an object.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
    """

    def __init__(self, obj: Any) -> None:
        self.obj = obj

    def __repr__(self) -> str:
        arrays = self.obj.data_vars if isinstance(self.obj, xr.Dataset) else {self.obj.name or "image": self.obj}
        return "\n".join(self._line(escaped(name), array) for name, array in arrays.items()) or "no variable"

    @staticmethod
    def _line(name: str, array: xr.DataArray) -> str:
        shape = ", ".join(f"{d}: {n}" for d, n in array.sizes.items())
        head = f"{name} ({shape}) {array.dtype}, {array.nbytes / 1e6:.1f} MB"
        if array.chunks is None:
            return f"{head}: nothing to compute"
        data = array.data
        largest = math.prod(max(c, default=0) for c in data.chunks) * data.dtype.itemsize
        return (
            f"{head}: {' -> '.join(steps(array))}\n"
            f"    {len(data.dask)} tasks, {data.npartitions} chunks of at most {largest / 1e6:.2f} MB"
        )
