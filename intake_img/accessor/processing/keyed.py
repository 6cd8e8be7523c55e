"""Functions and keyword arguments that differ from channel to channel, slice to slice: from nested mappings to a table.

This module decides the meaning of a key: a label of an axis if the axis has a coordinate, else an index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import axis_names
from intake_img.errors import AxesError
from intake_img.kernels.each_image import Elementwise

__all__ = ["Call", "CallTable", "table"]


@dataclass(frozen=True)
class Call:
    """A function and its keyword arguments."""

    func: Callable[..., Any]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class CallTable:
    """The call for each position along some axes.

    Parameters
    ----------
    axes : tuple of str
    calls : mapping of tuple of int to Call
        For each position along `axes`; positions without a call are absent.
    """

    axes: tuple[str, ...]
    calls: Mapping[tuple[int, ...], Call]

    def elementwise(self, given: np.dtype, dtype: np.dtype) -> Elementwise | None:
        """Return the ufunc without arguments that makes `dtype` of `given` and is called for every plane, if any."""
        call = None if self.axes else next(iter(self.calls.values()))
        if call is None or call.kwargs or not isinstance(call.func, np.ufunc):
            return None
        func = call.func
        if (func.nin, func.nout, func.signature) != (1, 1, None):
            return None
        try:
            return Elementwise(func) if func.resolve_dtypes((given, None))[-1] == dtype else None
        except TypeError:
            return None


def table(
    array: xr.DataArray, func: Any, fn_kwargs: Mapping[Any, Any] | None, by: Any, axes: Sequence[str]
) -> CallTable:
    """Return the call for each position along the axes by which functions or arguments are keyed.

    Parameters
    ----------
    array : xarray.DataArray
    func : callable, or mapping of labels to callables, nested or not
    fn_kwargs : mapping
        Keyword arguments, or mappings of labels to them, nested or not.
    by : None, str or sequence of str
        The axes of the keys, outermost first. None infers them, if the keys are unambiguous.
    axes : sequence of str
        The possible axes of keys.

    Raises
    ------
    ValueError
        If a key is unknown or ambiguous.
    TypeError
        If a leaf is not a function, or arguments are not a mapping.
    """
    given = {} if fn_kwargs is None else fn_kwargs
    if not isinstance(given, Mapping):
        raise TypeError(f"fn_kwargs={given!r} ({type(given).__name__}): expected a mapping")
    order = (by,) if isinstance(by, str) else None if by is None else axis_names("by", by)
    if order is not None and (unknown := [a for a in order if a not in axes]):
        raise AxesError(f"by={by!r}: {unknown[0]!r} is not among the axes over which func is mapped, {tuple(axes)!r}")
    keyed_func = isinstance(func, Mapping)
    if not keyed_func and not callable(func):
        raise TypeError(f"func={func!r}: expected a function, or a mapping of labels to functions")
    if order is not None and not keyed_func and not _all_mappings(given):
        raise ValueError(f"by={by!r}, but neither func nor fn_kwargs is keyed: expected {{label: {{...}}}}")
    funcs = _spread(array, func, order, axes, "func", lambda v: not isinstance(v, Mapping))
    flat = keyed_func and not _all_mappings(given)
    options = [({}, given)] if flat else _spread(array, given, order, axes, "fn_kwargs", None)
    for _, f in funcs:
        if not callable(f):
            raise TypeError(f"func contains {f!r} ({type(f).__name__}): expected functions")
    for _, k in options:
        if bad := [name for name in k if not isinstance(name, str)]:
            raise ValueError(_unknown_key(array, bad[0], axes, "fn_kwargs"))
    used = tuple(a for a in axes if any(a in place for place, _ in (*funcs, *options)))
    calls = {}
    for place in product(*[range(array.sizes[a]) for a in used]):
        here = dict(zip(used, place, strict=True))
        f = _at(funcs, here)
        k = _at(options, here)
        if f is not None and k is not None:
            calls[place] = Call(f, dict(k))
    return CallTable(used, calls)


def _at(entries: Sequence[tuple[dict[str, int], Any]], here: Mapping[str, int]) -> Any:
    return next((v for place, v in entries if all(here[a] == k for a, k in place.items())), None)


def _all_mappings(tree: Mapping[Any, Any]) -> bool:
    return bool(tree) and all(isinstance(v, Mapping) for v in tree.values())


def _spread(
    array: xr.DataArray,
    tree: Any,
    order: tuple[str, ...] | None,
    axes: Sequence[str],
    name: str,
    is_leaf: Callable[[Any], bool] | None,
) -> list[tuple[dict[str, int], Any]]:
    return list(_leaves(array, tree, order, tuple(axes), name, is_leaf, {}))


def _leaves(
    array: xr.DataArray,
    tree: Any,
    order: tuple[str, ...] | None,
    axes: tuple[str, ...],
    name: str,
    is_leaf: Callable[[Any], bool] | None,
    place: dict[str, int],
) -> Iterator[tuple[dict[str, int], Any]]:
    axis = _axis_of_keys(array, tree, order, axes, name, is_leaf)
    if axis is None:
        yield place, tree
        return
    rest = tuple(a for a in axes if a != axis)
    for key, value in tree.items():
        position = _position(array, axis, key)
        if position is None:
            raise ValueError(_unknown_key(array, key, (axis,), name))
        yield from _leaves(array, value, order[1:] if order else order, rest, name, is_leaf, {**place, axis: position})


def _axis_of_keys(
    array: xr.DataArray,
    tree: Any,
    order: tuple[str, ...] | None,
    axes: tuple[str, ...],
    name: str,
    is_leaf: Callable[[Any], bool] | None,
) -> str | None:
    """The axis of the keys of a mapping; None if it is a leaf."""
    if is_leaf is not None:
        if is_leaf(tree):
            return None
    elif not _all_mappings(tree):
        return None
    if order is not None:
        if order:
            return order[0]
        if is_leaf is None:
            return None  # keyword arguments whose values are all mappings
        raise ValueError(f"{name} is nested deeper than by= names axes")
    found = [a for a in axes if all(_position(array, a, k) is not None for k in tree)]
    if len(found) == 1 and tree:
        return found[0]
    if len(found) > 1:
        raise ValueError(
            f"the keys {list(tree)!r} of {name} may be labels of {' or '.join(map(repr, found))}: name it with by="
        )
    known = [a for a in axes if any(_position(array, a, k) is not None for k in tree)]
    strings = all(isinstance(k, str) for k in tree)
    if is_leaf is None and strings and not known:
        return None  # keyword arguments whose values are all mappings
    wrong = next((k for k in tree if not any(_position(array, a, k) is not None for a in axes)), next(iter(tree), None))
    raise ValueError(_unknown_key(array, wrong, known or axes, name))


def _position(array: xr.DataArray, axis: str, key: Any) -> int | None:
    """Return the index of a label along an axis; without a coordinate, labels are numbers from 0."""
    if isinstance(key, bool):
        return None
    if axis not in array.coords:
        number = isinstance(key, (int, np.integer)) and 0 <= key < array.sizes[axis]
        return int(key) if number else None
    values = array[axis].values
    if values.dtype.kind in "iuf":
        if not isinstance(key, (int, float, np.number)):
            return None
        near = np.flatnonzero(np.isclose(values.astype(float), float(key), rtol=1e-9, atol=0))
    else:
        near = np.flatnonzero([v == key for v in values.tolist()])
    return int(near[0]) if near.size else None


def _unknown_key(array: xr.DataArray, key: Any, axes: Sequence[str], name: str) -> str:
    known = "; ".join(
        f"{a}: {', '.join(repr(v) for v in (array[a].values.tolist() if a in array.coords else range(array.sizes[a])))}"
        for a in axes
    )
    return f"{name} has the key {key!r}, which is not a label ({known or 'there is no axis to be keyed by'})"
