"""``ds.img.map``: any function of an image, plane or volume, over all channels, slices and times, lazily."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import axis_names, choice, data_type, flag, integer
from intake_img.accessor.lengths import pixels
from intake_img.accessor.processing.crop import as_region, window
from intake_img.accessor.processing.halo import halo, rechunked
from intake_img.accessor.processing.in_memory import Held, chunked
from intake_img.accessor.processing.keyed import CallTable, table
from intake_img.accessor.variables import checked_output, images, joined, lacking_plane, with_data
from intake_img.errors import AxesError
from intake_img.model.axes import spell
from intake_img.model.typed import Dims, DTypeLike, Factors, Lengths, Region, Units

__all__ = ["Maps"]

PADS = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "constant": "constant"}
"""Boundaries in scipy's words, and the mode of `numpy.pad` that makes them."""
BOUNDARIES = ("none", *PADS, "wrap", "periodic")


class Maps:
    """The method `map`."""

    _obj: Any

    def map(
        self,
        func: Callable[..., Any] | Mapping[Any, Any],
        fn_kwargs: Mapping[Any, Any] | None = None,
        *,
        by: Dims = None,
        missing: str = "error",
        core_dims: Sequence[str] = ("y", "x"),
        keep_unit_dims: bool = False,
        chunks: int | Literal["auto"] | Sequence[int] | Mapping[str, int] | None = None,
        depth: Lengths | None = None,
        boundary: float | Literal["none", "reflect", "mirror", "nearest", "wrap", "periodic"] = "none",
        units: Units = "pixel",
        blockwise: bool = True,
        crd: Sequence[float | str | None] | None = None,
        region: Region | None = None,
        coordinate_system: str = "pixel",
        scale_factors: Factors | None = None,
        dtype: DTypeLike | None = None,
        meta: np.ndarray | None = None,
        output_sizes: Mapping[str, int] | None = None,
        with_keys: bool = False,
        output: str | None = None,
        overwrite: bool = False,
    ) -> Any:
        """Apply a function to every plane; lazily, unless the image is in memory.

        The function gets numpy arrays with the axes `core_dims`, one for each position on all other axes, several at a
        time in threads, never artificial data. **If a plane has several chunks, it gets one chunk at a time**; `depth`
        adds a halo, and ``blockwise=False`` passes complete planes.

        Parameters
        ----------
        func : callable, or mapping of labels to callables
            ``func(array, **fn_kwargs)``. A mapping gives a function for each channel (or slice, ...); it may be nested.
        fn_kwargs : mapping, optional
            Keyword arguments; or a mapping of labels to them, nested or not, for each channel, slice, ...
        by : str or sequence of str, optional
            The axes whose labels are the keys, outermost first: ``"c"``, ``"z"``, ``("c", "z")``. Where an axis has no
            coordinate, labels are numbers from 0. By default they are inferred, if the keys are unambiguous.
        missing : {"error", "copy", "drop"}
            How to treat channels (slices, ...) that no key names.
        core_dims : sequence of str
            Axes of the arrays that the function gets: ``("y", "x")``, ``("z", "y", "x")``.
        keep_unit_dims : bool
            Pass planes with two further axes, ``(1, 1, y, x)``, as harpy does.
        chunks : int, "auto", sequence or mapping, optional
            Chunks to cut first, along `core_dims`; or a mapping of any axes.
        depth : int, sequence or mapping, optional
            Halo: how many pixels around its chunk the function gets as well. They are cut off its result. A mapping is
            by axis name, or by number within `core_dims`. Smaller chunks are merged; the halo is never reduced.
        boundary : str or float
            The halo beyond the edge of the image: ``"none"`` for no halo there (for functions that handle edges
            themselves), ``"reflect"``, ``"mirror"``, ``"nearest"``, ``"wrap"`` (or ``"periodic"``), or a number.
        units : {"pixel", "physical"}
            Unit of a bare `depth`; a length is in the common unit, that of ``x``, and is rounded up.
        blockwise : bool
            False: the function gets complete planes.
        crd, region : sequence or mapping, optional
            Process only a region: ``(x_min, x_max, y_min, y_max)``, or ``{axis: (low, high)}``. The halo is read from
            outside of it.
        coordinate_system : {"pixel", "physical"}
            The coordinate system of `crd` and `region`. A pixel belongs to the region if its centre does.
        scale_factors : sequence of int or mapping, optional
            Return a DataTree with a pyramid of the result, with the means of `pyramid`.
        dtype : dtype or "infer", optional
            Dtype of the result; by default that of the image (for a ufunc, its result dtype), which is checked on
            computing. ``"infer"`` computes one block now to find it.
        meta : array, optional
            An empty array of the type of the result, instead of `dtype`.
        output_sizes : mapping, optional
            Lengths of all axes of the result of the function, if they differ from its input: ``{"y": 20, "x": 25}``,
            ``{"bin": 256}``, ``{}`` for a number. Axes that change their length lose their coordinate.
        with_keys : bool
            The function gets ``(key, array)``, where the key is the tuple of indices along the other axes.
        output : str, optional
            Add the result for the variable ``image`` (or the only image) as a variable of this name to the Dataset,
            instead of replacing every image.
        overwrite : bool
            Allow `output` to replace a variable.

        Returns
        -------
        xarray.Dataset, xarray.DataArray or xarray.DataTree

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.arange(12.0).reshape(2, 2, 3), dims=["c", "y", "x"], coords={"c": ["DAPI", "GFP"]})
        >>> image.img.map(np.multiply, {"DAPI": {"x2": 0}, "GFP": {"x2": 1}}).dims  # doctest: +SKIP
        ('c', 'y', 'x')
        >>> image.img.map(lambda plane, gain: plane * gain, {"DAPI": {"gain": 0}, "GFP": {"gain": 1}}).values[:, 0, 1]
        array([0., 7.])
        """
        choice("missing", missing, ("error", "copy", "drop"))
        choice("units", units, ("pixel", "physical"))
        flags = {"keep_unit_dims": keep_unit_dims, "blockwise": blockwise, "with_keys": with_keys}
        for name, value in {**flags, "overwrite": overwrite}.items():
            flag(name, value)
        request = _Request(
            func,
            fn_kwargs,
            by,
            missing,
            axis_names("core_dims", core_dims),
            keep_unit_dims,
            chunks,
            depth,
            boundary,
            units,
            blockwise,
            as_region(crd, region),
            coordinate_system,
            dtype,
            meta,
            output_sizes,
            with_keys,
        )
        _refuse_idle(request)
        found = checked_output(self._obj, output, overwrite, images(self._obj))
        results = {output or name: _mapped(array, request) for name, array in found.items()}
        result = _assembled(self._obj, results, request, output)
        if scale_factors is None:
            return result
        return result.img._pyramid(scale_factors, "mean", "scale_factors")


def _refuse_idle(request: _Request) -> None:
    """Raise an error for options without effect."""
    if request.units == "physical" and request.depth is None:
        raise ValueError("units='physical' is the unit of depth=: give a depth, or leave units out")
    if request.coordinate_system == "physical" and not request.region:
        raise ValueError("coordinate_system='physical' is for crd= and region=: give one of them")


@dataclass(frozen=True)
class _Request:
    """The arguments of `map`."""

    func: Any
    fn_kwargs: Any
    by: Any
    missing: str
    core: tuple[str, ...]
    keep_unit_dims: bool
    chunks: Any
    depth: Any
    boundary: Any
    units: str
    blockwise: bool
    region: dict[str, tuple[Any, Any]]
    coordinate_system: str
    dtype: Any
    meta: Any
    output_sizes: Any
    with_keys: bool

    @property
    def edge(self) -> str:
        return "wrap" if self.boundary in ("wrap", "periodic") else "own"

    @property
    def pad(self) -> dict[str, Any] | None:
        if isinstance(self.boundary, str):
            if choice("boundary", self.boundary, BOUNDARIES) == "none":
                return None
            return {} if self.edge == "wrap" else {"mode": PADS[self.boundary]}
        if isinstance(self.boundary, (bool, np.bool_)) or not isinstance(self.boundary, (int, float, np.number)):
            raise TypeError(
                f"boundary={self.boundary!r}: expected one of {', '.join(map(repr, BOUNDARIES))}, or a number"
            )
        return {"mode": "constant", "constant_values": self.boundary}


def _assembled(obj: Any, results: dict[str, xr.DataArray], request: _Request, output: str | None) -> Any:
    if isinstance(obj, xr.DataArray):
        return next(iter(results.values()))
    windows = {
        a: slice(*window(obj, a, w, request.coordinate_system)) for a, w in request.region.items() if a in obj.dims
    }
    if output is None and windows:
        obj = obj.isel(windows)
    if request.missing == "drop":
        first = next(iter(results.values()))
        kept = {d: first[d].values for d in first.dims if d in obj.coords and first.sizes[d] != obj.sizes.get(d)}
        obj = obj.sel({d: v for d, v in kept.items() if set(v) <= set(obj[d].values)}) if output is None else obj
    return joined(obj, {n: r.rename(n) for n, r in results.items()})


def _mapped(array: xr.DataArray, request: _Request) -> xr.DataArray:
    core = request.core
    _check_core(array, request)
    outer = [d for d in map(str, array.dims) if d not in core]
    windows = {a: window(array, a, w, request.coordinate_system) for a, w in request.region.items()}
    array = array.isel({a: slice(*w) for a, w in windows.items() if a not in core})
    calls = table(array, request.func, request.fn_kwargs, request.by, outer)
    array, calls = _without_missing(array, calls, request.missing)
    lead = len(outer)
    depth = _depth(array, request)
    far = {lead + k: (depth[a], depth[a]) for k, a in enumerate(core) if depth[a]}
    inner_windows = {lead + k: windows[a] for k, a in enumerate(core) if a in windows}
    data, inner_windows = _arranged(array, (*outer, *core), request, inner_windows)
    sizes = _sizes(request.output_sizes, far)
    own = isinstance(data, Held)
    cropped = array.isel({a: slice(*w) for a, w in windows.items() if a in core})
    whole = {a: cropped.sizes[a] for a in core}
    kernel = _Planes(calls, tuple(outer), whole, request.keep_unit_dims, request.with_keys, sizes, own)
    dtype = _dtype(array, request, calls, kernel, data)
    strict = request.dtype is None and request.meta is None
    own_shape = request.with_keys or request.keep_unit_dims or sizes is not None
    every = None if own_shape else calls.elementwise(array.dtype, dtype)
    result = halo(
        data,
        replace(kernel, dtype=dtype, strict=strict) if every is None else every,
        far,
        edge=request.edge,
        pad=request.pad if far else None,
        window=inner_windows,
        chunks=None if sizes is None else _ChunksOut(core, sizes, lead),
        kept=None if sizes is None or tuple(sizes) == core else lead,
        dtype=dtype,
        name="map",
        positions=bool(request.with_keys or calls.axes),
    )
    named = with_data(cropped, result, (*outer, *(core if sizes is None else sizes)))
    return named.transpose(*[d for d in map(str, array.dims) if d in named.dims], ...)


def _check_core(array: xr.DataArray, request: _Request) -> None:
    """Raise an error for `core_dims` that the image lacks or the request forbids."""
    core = request.core
    if missing := [d for d in core if d not in array.dims] or (["y"] if not core else []):
        said = lacking_plane(array) if core == ("y", "x") else None
        raise AxesError(
            said or f"core_dims={core!r}: the image has axes {spell(tuple(map(str, array.dims)))!r}, not {missing[0]!r}"
        )
    if len(set(core)) != len(core):
        raise AxesError(f"core_dims={core!r} repeat an axis")
    if request.keep_unit_dims and tuple(core) != ("y", "x"):
        raise ValueError(f"keep_unit_dims=True hands over (1, 1, y, x): core_dims={core!r} must be ('y', 'x')")


def _arranged(
    array: xr.DataArray, axes: Sequence[str], request: _Request, windows: dict[int, tuple[int, int]]
) -> tuple[Any, dict[int, tuple[int, int]]]:
    """Return the array with the chunks that are asked for, and the windows that are still to be cut."""
    lead = len(axes) - len(request.core)
    data = chunked(array.transpose(*axes))
    if request.chunks is not None:
        data = rechunked(data, _chunks(request.chunks, axes, request.core))
    if request.blockwise:
        return data, windows
    data = data[tuple(slice(*windows.get(k, (0, n))) for k, n in enumerate(data.shape))]
    return rechunked(data, dict.fromkeys(range(lead, len(axes)), -1)), {}


def _without_missing(array: xr.DataArray, calls: CallTable, missing: str) -> tuple[xr.DataArray, CallTable]:
    if missing != "error" and not calls.axes:
        raise ValueError(f"missing={missing!r}, but neither func nor fn_kwargs is keyed by labels: leave it out")
    places = list(np.ndindex(*[array.sizes[a] for a in calls.axes]))
    lacking = [p for p in places if p not in calls.calls]
    if not lacking or missing == "copy":
        return array, calls
    labels = {a: array[a].values[k] if a in array.coords else k for a, k in zip(calls.axes, lacking[0], strict=True)}
    said = ", ".join(f"{a}={v}" for a, v in labels.items())
    if missing == "error":
        raise ValueError(
            f"func and fn_kwargs have no entry for {said}: pass missing='copy' or missing='drop', or add one"
        )
    kept = [sorted({p[k] for p in calls.calls}) for k in range(len(calls.axes))]
    if math.prod(map(len, kept)) != len(calls.calls):
        raise ValueError(
            f"missing='drop': {said} cannot be dropped alone, since no whole {' or '.join(calls.axes)} is missing"
        )
    renumbered = {tuple(kept[k].index(n) for k, n in enumerate(p)): c for p, c in calls.calls.items()}
    return array.isel(dict(zip(calls.axes, kept, strict=True))), CallTable(calls.axes, renumbered)


def _depth(array: xr.DataArray, request: _Request) -> dict[str, int]:
    core, depth = request.core, request.depth
    if depth is None:
        if not (isinstance(request.boundary, str) and request.boundary == "none"):
            raise ValueError(f"boundary={request.boundary!r} fills the halo of a chunk: it needs depth=")
        return dict.fromkeys(core, 0)
    if not request.blockwise:
        raise ValueError(
            f"depth={depth!r} adds a halo to chunks, but blockwise=False passes complete planes: give one of them"
        )
    if isinstance(depth, Mapping) and all(isinstance(k, (int, np.integer)) for k in depth):
        if bad := [k for k in depth if not 0 <= k < len(core)]:
            raise ValueError(
                f"depth names the axis number {bad[0]}: core_dims {core!r} are numbered 0 to {len(core) - 1}"
            )
        depth = {core[int(k)]: v for k, v in depth.items()}
    return pixels("depth", depth, array, core, units=request.units, absent=0, whole=True, rounding="up")


def _chunks(chunks: Any, axes: Sequence[str], core: Sequence[str]) -> dict[int, Any]:
    if isinstance(chunks, (int, np.integer)) or chunks == "auto":
        chunks = dict.fromkeys(core, chunks)
    elif isinstance(chunks, (tuple, list)):
        if len(chunks) not in (len(core), len(axes)):
            raise ValueError(f"chunks={chunks!r}: expected a length for each of {tuple(core)!r}, or of {tuple(axes)!r}")
        chunks = dict(zip(core if len(chunks) == len(core) else axes, chunks, strict=True))
    if not isinstance(chunks, Mapping):
        raise TypeError(f"chunks={chunks!r}: expected a number, 'auto', a sequence or a mapping by axis name")
    if unknown := [a for a in chunks if a not in axes]:
        raise AxesError(f"chunks name the axis {unknown[0]!r}: expected some of {', '.join(map(repr, axes))}")
    for a, n in chunks.items():
        if isinstance(n, (int, np.integer)) and n != -1:
            integer(f"chunks[{a!r}]", n, 1)
        elif not (
            n in (-1, "auto", None) if isinstance(n, (str, int, np.integer, type(None))) else isinstance(n, tuple)
        ):
            raise TypeError(
                f"chunks[{a!r}]={n!r}: expected a number of pixels, -1 for all, 'auto', or a tuple of chunks"
            )
    return {list(axes).index(a): n for a, n in chunks.items()}


def _sizes(given: Any, far: Mapping[int, Any]) -> dict[str, int] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise TypeError(f"output_sizes={given!r}: expected a mapping of axes to lengths, {{}} for a number")
    if far:
        raise ValueError(
            "output_sizes and depth: a result of another shape cannot be cut to its chunk; give one of them"
        )
    return {str(a): integer(f"output_sizes[{a!r}]", n, 0) for a, n in given.items()}


@dataclass(frozen=True)
class _ChunksOut:
    """Chunks of a result with other axis lengths: in proportion along cut axes, else one chunk."""

    core: tuple[str, ...]
    sizes: Mapping[str, int]
    lead: int

    def __call__(self, spans: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
        cut = dict(zip(self.core, spans[self.lead :], strict=True))
        if lost := [a for a, s in cut.items() if len(s) > 1 and a not in self.sizes] or (
            tuple(self.sizes) != self.core and any(len(s) > 1 for s in cut.values())
        ):
            what = lost[0] if isinstance(lost, list) else self.core[0]
            raise ValueError(f"output_sizes={dict(self.sizes)!r}: planes are cut along {what!r}; pass blockwise=False")
        out = []
        for a, n in self.sizes.items():
            spans_in = cut.get(a, (n,))
            total = sum(spans_in)
            if len(spans_in) > 1 and any(s * n % total for s in spans_in):
                raise ValueError(
                    f"output_sizes[{a!r}]={n}: chunks {spans_in} do not become whole numbers of pixels; pass "
                    "blockwise=False"
                )
            out.append(tuple(s * n // total for s in spans_in) if len(spans_in) > 1 else (n,))
        return [*spans[: self.lead], *out]


@dataclass(frozen=True)
class _Planes:
    """Calls the functions of a table on every plane of a block."""

    calls: CallTable
    outer: tuple[str, ...]
    core: Mapping[str, int]
    unit_dims: bool
    with_keys: bool
    sizes: Mapping[str, int] | None
    copied: bool
    dtype: np.dtype | None = None
    strict: bool = True

    def __call__(self, piece: np.ndarray, inner: tuple[slice, ...], start: tuple[int, ...] | None = None) -> np.ndarray:
        lead = piece.ndim - len(self.core)
        out: np.ndarray | None = None
        counts = piece.shape[:lead]
        start = (0,) * lead if start is None else start
        for place in np.ndindex(counts):
            at = tuple(int(s) + k for s, k in zip(start, place, strict=False))
            plane = self._checked(self.one(piece[place], at), piece[place], inner[lead:])
            if out is None:
                out = np.empty((*counts, *plane.shape), self.dtype)
            out[place] = plane
        if out is None:
            shape = [s.stop - s.start for s in inner]
            out = np.empty(shape if self.sizes is None else [*shape[:lead], *self.sizes.values()], self.dtype)
        return out

    def one(self, plane: np.ndarray, at: tuple[int, ...]) -> Any:
        """Apply the function for this position to a plane."""
        axes = [self.outer.index(a) for a in self.calls.axes]
        call = self.calls.calls.get(tuple(at[k] for k in axes))
        if call is None:
            return plane
        plane = plane.copy() if self.copied and not isinstance(call.func, np.ufunc) else plane  # func may change it
        given = plane[None, None] if self.unit_dims else plane
        result = call.func((at, given) if self.with_keys else given, **call.kwargs)
        if not self.unit_dims:
            return result
        array = np.asarray(result)
        if array.ndim < 2 or array.shape[:2] != (1, 1):
            raise ValueError(f"func returned shape {array.shape}: with keep_unit_dims=True expected (1, 1, ...)")
        return array[0, 0]

    def _checked(self, result: Any, plane: np.ndarray, inner: tuple[slice, ...]) -> np.ndarray:
        array = np.asarray(result)
        assert self.dtype is not None
        if array.dtype != self.dtype and (self.strict or not np.can_cast(array.dtype, self.dtype, "same_kind")):
            raise TypeError(
                f"func returned {array.dtype}, expected {self.dtype}: pass dtype={str(array.dtype)!r} to map, or "
                "dtype='infer' to find out from one block"
            )
        if array.shape != (expected := self._expected(plane.shape)):
            advice = "announce it with" if self.sizes is None else f"expected {expected}, from"
            raise ValueError(
                f"func returned shape {array.shape} for a plane of shape {plane.shape}: {advice} output_sizes="
            )
        return array[inner] if self.sizes is None else array

    def _expected(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the result for a plane, or a chunk of a plane: its share of the announced lengths."""
        own = dict(zip(self.core, shape, strict=True))
        if self.sizes is None:
            return shape
        return tuple(n * own[a] // self.core[a] if self.core.get(a) else n for a, n in self.sizes.items())


def _dtype(array: xr.DataArray, request: _Request, calls: CallTable, kernel: _Planes, data: Any) -> np.dtype:
    if request.meta is not None:
        if isinstance(request.meta, type) or not isinstance(getattr(request.meta, "dtype", None), np.dtype):
            raise TypeError(f"meta={request.meta!r}: expected an empty array")
        if request.dtype is not None and data_type("dtype", request.dtype) != request.meta.dtype:
            raise ValueError(f"dtype={request.dtype!r} and meta of {request.meta.dtype}: give one of them")
        return request.meta.dtype
    if isinstance(request.dtype, str) and request.dtype == "infer":
        return _inferred(array, calls, kernel, data)
    if request.dtype is not None:
        return data_type("dtype", request.dtype, "biufcmM")
    made = [
        c.func.resolve_dtypes((array.dtype, None))[-1]
        for c in calls.calls.values()
        if isinstance(c.func, np.ufunc) and c.func.nin == c.func.nout == 1 and not c.kwargs
    ]
    if made and len(made) == len(calls.calls):
        return np.result_type(*made)
    return array.dtype


def _inferred(array: xr.DataArray, calls: CallTable, kernel: _Planes, data: Any) -> np.dtype:
    """Call each function on one block of the data."""
    found = [] if len(calls.calls) == math.prod(array.sizes[a] for a in calls.axes) else [array.dtype]
    seen = set()
    for place, call in calls.calls.items():
        if id(call.func) in seen:
            continue
        seen.add(id(call.func))
        where = dict(zip(calls.axes, place, strict=True))
        at = tuple(where.get(a, 0) for a in kernel.outer)
        corner: Any = (*at, *(slice(0, c[0]) for c in data.chunks[len(at) :]))
        plane = data.array[corner] if isinstance(data, Held) else np.asarray(data[corner].compute())
        found.append(np.asarray(kernel.one(plane, at)).dtype)
    return np.result_type(*found)
