"""The layout of a result on the grid of a source: its axes, dtype, coordinates, blocks, and arrays in the store.

The layout is recorded as plain JSON, so that a resumed run continues the result without calling the model first.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.sources import Source
from intake_img.accessor.patches.stitch import Canvas, grown
from intake_img.errors import AxesError
from intake_img.model.axes import canonical_order
from intake_img.model.datasets import FILE_ATTRS

__all__ = ["Made", "Output", "chunks_for", "made_of", "outputs_of", "stored_as", "template"]

_CHUNK_3D = {"z": 64, "y": 128, "x": 128}


@dataclass(frozen=True)
class Made:
    """The prediction for a patch.

    Parameters
    ----------
    axes : tuple of str
        Names of the axes before those along which patches have a size.
    lengths : tuple of int
    dtype : str
        Of the result.
    channels : tuple of str, optional
        Names along ``c``.
    """

    axes: tuple[str, ...]
    lengths: tuple[int, ...]
    dtype: str
    channels: tuple[str, ...] | None = None


def made_of(
    shape: Sequence[int],
    dtype: Any,
    plan: Plan,
    kept: Mapping[str, int],
    *,
    size: Sequence[int],
    channels: Any = None,
    output_axes: str | Sequence[str] | None = None,
) -> Made:
    """Return the description of predictions, from one prediction and the declared options.

    Parameters
    ----------
    shape : tuple of int
        Shape of the prediction for one patch.
    dtype : dtype
        Of the result.
    plan : Plan
    kept : mapping of str to int
        Axes that patches keep at full length.
    size : tuple of int
        Size of that patch.
    channels : int or sequence of str, optional
        Declared number or names of channels.
    output_axes : str or sequence of str, optional
        Declared names of the axes before the sized ones.
    """
    names = None if channels is None or isinstance(channels, (int, np.integer)) else tuple(str(c) for c in channels)
    count = None if channels is None else len(names) if names is not None else int(channels)
    cut = len(shape) - len(size)
    if cut < 0 or tuple(shape[cut:]) != tuple(size):
        raise ValueError(
            f"the model returned shape {tuple(shape)} for a patch, expected (..., {', '.join(map(str, size))}): "
            f"predictions are written on the grid of the patches (axes {', '.join(plan.axes)})"
        )
    lead = tuple(int(n) for n in shape[:cut])
    axes = _lead_axes(lead, tuple(kept), output_axes, plan)
    if count is not None and ("c" not in axes or lead[axes.index("c")] != count):
        got = lead[axes.index("c")] if "c" in axes else "no axis 'c'"
        raise ValueError(f"channels={channels!r} announces {count} channels, but the model returned {got}")
    return Made(axes, lead, np.dtype(dtype).str, names)


def _lead_axes(lead: tuple[int, ...], kept: tuple[str, ...], given: Any, plan: Plan) -> tuple[str, ...]:
    if given is not None:
        axes = tuple(given)
        if len(axes) != len(lead):
            raise AxesError(
                f"output_axes={given!r}, but the model returned {len(lead)} axes before {plan.axes}: {lead}"
            )
    elif len(lead) == len(kept):
        axes = kept
    elif len(lead) == 0:
        axes = ()
    elif len(lead) == 1:
        axes = ("c",)
    else:
        raise AxesError(
            f"the model returned {len(lead)} axes before {', '.join(plan.axes)}, of lengths {lead}; patches have "
            f"{', '.join(kept) or 'none'} there: name them with output_axes="
        )
    if taken := [a for a in axes if a in (*plan.over, *plan.axes)]:
        raise AxesError(
            f"the model's axis {taken[0]!r} is one that patches {'iterate over' if taken[0] in plan.over else 'cut'}: "
            "name its axes with output_axes="
        )
    return axes


@dataclass(frozen=True)
class Output:
    """The result for one source.

    Parameters
    ----------
    source : int
    path : str
        Path of its group in the store; empty if it is the root.
    array, stored
        Path of its array in the group and the axes as they are stored; empty for results in memory.
    over, made, sized : tuple of str
        Axes that patches iterate over, axes that the model adds, and axes along which patches have a size.
    kept : tuple of int
        Lengths of the axes that the model adds.
    dtype : str
    lengths, block : tuple of int
        Lengths of the canvas and of a block: along the iterated axes, then the axes with a size.
    unit : tuple of int
        Shape of a chunk file of the array, along the stored axes; empty for results in memory.
    """

    source: int
    path: str
    array: str
    stored: tuple[str, ...]
    over: tuple[str, ...]
    made: tuple[str, ...]
    sized: tuple[str, ...]
    kept: tuple[int, ...]
    dtype: str
    lengths: tuple[int, ...]
    block: tuple[int, ...]
    unit: tuple[int, ...] = ()

    @property
    def canvas(self) -> Canvas:
        return Canvas(self.lengths, self.block)

    @property
    def dims(self) -> tuple[str, ...]:
        """Axes of the blocks."""
        return (*self.over, *self.made, *self.sized)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis of the result."""
        over = len(self.over)
        return dict(zip(self.dims, (*self.lengths[:over], *self.kept, *self.lengths[over:]), strict=True))

    def key(self, number: int) -> tuple[slice, ...]:
        """Return the region of a block in an array with the axes `dims`."""
        region, over = self.canvas.region(number), len(self.over)
        return (*region[:over], *[slice(0, n) for n in self.kept], *region[over:])

    def files(self, number: int) -> list[str]:
        """Return the files of a block, relative to the root of the store; empty chunks have none."""
        key = dict(zip(self.dims, self.key(number), strict=True))
        at = (range(key[a].start // n, -(-key[a].stop // n)) for a, n in zip(self.stored, self.unit, strict=True))
        return [os.path.join(self.path, self.array, "c", *map(str, place)) for place in itertools.product(*at)]

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> Output:
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
        return cls(**given)


def outputs_of(sources: Sequence[Source], plan: Plan, made: Made) -> list[Output]:
    """Return the result for each source, in memory."""
    found = []
    for k, source in enumerate(sources):
        sizes = source.sizes
        lengths = tuple(sizes[a] for a in (*plan.over, *plan.axes))
        item = np.dtype(made.dtype).itemsize * math.prod(made.lengths)
        block = grown([1] * len(lengths), lengths, [*[1] * len(plan.over), *plan.size], item)
        path = "" if len(sources) == 1 else name_of(source, k, len(sources))
        found.append(Output(k, path, "", (), plan.over, made.axes, plan.axes, made.lengths, made.dtype, lengths, block))
    return found


def name_of(source: Source, k: int, count: int) -> str:
    """Return the name of a source in a store of several sources: its number comes first, so that names are unique.

    Examples
    --------
    >>> import xarray as xr
    >>> from types import SimpleNamespace
    >>> name_of(SimpleNamespace(uri="/a/cells.czi", scene="P1/2"), 3, 12)
    '03_cells_P1_2'
    """
    stem = os.path.basename(source.uri.rstrip("/")).split(".")[0]
    scene = source.scene if source.scene not in ("0", stem) else ""
    text = "_".join(t for t in (stem, scene) if t)
    text = re.sub(r"[^A-Za-z0-9-]+", "_", text)[:60].strip("_")
    return f"{k:0{len(str(count - 1))}d}" + (f"_{text}" if text else "")


def stored_as(
    output: Output,
    array: str,
    stored: Sequence[str],
    unit: Sequence[int],
    size: Sequence[int],
    tiles: Mapping[str, int],
) -> Output:
    """Return a result whose blocks are complete write units, not smaller than patches and source tiles if possible.

    Parameters
    ----------
    output : Output
    array : str
        Path of its array in its group.
    stored : sequence of str
        Its axes as they are stored.
    unit : sequence of int
        The unit of writing: a chunk, or a shard.
    size : sequence of int
        Size of a patch.
    tiles : mapping of str to int
        Tiles of the source.
    """
    units = dict(zip(stored, unit, strict=True))
    axes = (*output.over, *output.sized)
    lengths = [units.get(a, 1) for a in axes]
    least = [*[1] * len(output.over), *[max(n, tiles.get(a, 1)) for a, n in zip(output.sized, size, strict=True)]]
    item = np.dtype(output.dtype).itemsize * math.prod(output.kept)
    block = grown(lengths, output.lengths, least, item)
    return replace(output, array=array, stored=tuple(stored), block=block, unit=tuple(unit))


def chunks_for(asked: Any, sized: Sequence[str]) -> Any:
    """Return the chunks of the store: the user's chunks, or by default cubes for volumes."""
    if asked is None and len(sized) > 2 and set(sized) <= set(_CHUNK_3D):
        return dict(_CHUNK_3D)
    return asked


def template(
    source: Source, output: Output, made: Made, name: str, attrs: Mapping[str, Any], kind: str | None
) -> xr.Dataset:
    """Return the result as a Dataset with the source's coordinates and no pixels."""
    from dask import array as da

    sizes = output.sizes
    shape = tuple(sizes.values())
    data = da.zeros(shape, dtype=np.dtype(output.dtype), chunks=shape)
    variable = xr.Variable(output.dims, data, {"kind": kind} if kind else {})
    coords = {}
    for key, coord in source.coords.coords.items():
        dims = [str(d) for d in coord.dims]
        changed = "c" in dims and made.channels is not None
        if not changed and all(sizes.get(d) == n for d, n in zip(dims, coord.shape, strict=True)):
            coords[key] = coord.variable
    if made.channels is not None:
        coords["c"] = xr.Variable(("c",), list(made.channels))
    own = {k: v for k, v in source.coords.attrs.items() if k not in FILE_ATTRS}
    ds = xr.Dataset({name: variable}, coords=coords, attrs={**own, **attrs})
    return ds.transpose(*canonical_order(output.dims))
