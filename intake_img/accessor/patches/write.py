"""Writing results of patches back onto the grid of their sources: `map` calls a model, `stitch` takes what it made."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, integer
from intake_img.accessor.patches.ledger import Ledger
from intake_img.accessor.patches.models import fingerprint, predictor, working
from intake_img.accessor.patches.output import (
    Made,
    Output,
    chunks_for,
    made_of,
    outputs_of,
    stored_as,
    template,
)
from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.run import Batch, Job, batches, local, predicted, untouched
from intake_img.accessor.patches.sinks import InMemory, InStore
from intake_img.accessor.patches.sources import Source
from intake_img.accessor.patches.stitch import BLENDS, Memory
from intake_img.accessor.progress import meter
from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.files import File

__all__ = ["WriteBack"]

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_FACTS = "prediction"
"""Attribute of a result that says how it was made."""


@dataclass(frozen=True)
class _Options:
    """What `map` and `stitch` have in common."""

    blend: str
    store: Any
    resume: bool
    overwrite: bool
    dtype: Any
    channels: Any
    output_axes: Any
    name: str
    kind: str | None
    fill: Any
    chunks: Any
    shards: Any
    compress: Any
    memory: Any
    progress: bool | None

    def checked(self) -> _Options:
        choice("blend", self.blend, BLENDS)
        choice("kind", self.kind, (None, "labels"))
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name={self.name!r}: expected the name of a variable")
        if self.store is None and (self.resume or self.overwrite):
            what = "resume" if self.resume else "overwrite"
            raise ValueError(f"{what}=True is about a store: pass store='name.zarr'")
        return self

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "blend": self.blend, "dtype": None if self.dtype is None else str(np.dtype(self.dtype)),
            "channels": self.channels if self.channels is None or isinstance(self.channels, (int, np.integer))
            else [str(c) for c in self.channels],
            "output_axes": None if self.output_axes is None else list(self.output_axes), "name": self.name,
            "kind": self.kind, "fill_value": str(self.fill), "chunks": _plain(self.chunks),
            "shards": _plain(self.shards), "compress": self.compress,
        }  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return int(value) if isinstance(value, np.integer) else value


class WriteBack:
    """Writing back, for `Patches` to inherit."""

    plan: Any  # a property of what inherits it
    sources: tuple[Source, ...]

    def map(self, model: Any, *, blend: str = "crop", store: Any = None, resume: bool = False, overwrite: bool = False,
            variables: str | Sequence[str] | None = None, batch_size: int = 32, dtype: Any = None, channels: Any = None,
            output_axes: str | Sequence[str] | None = None, input_dtype: Any = None, name: str = "image",
            kind: str | None = None, fill_value: Any = 0, chunks: Any = None, shards: Any = None, compress: Any = None,
            model_id: str | None = None, memory: int | str = "1GB", lookahead: int | str = "64MB",
            progress: bool | None = None, client: Any = None) -> Any:  # fmt: skip
        """Call a model on every patch and put what it makes back onto the grid of the image.

        Patches are read once, a window ahead, and predicted once, in batches; blocks of the result are written while it
        goes on, each by one task and whole. With a `store` the work survives being killed: what is written stays, and
        ``resume=True`` predicts what is missing and no more.

        Parameters
        ----------
        model : callable
            Gets a batch, an array (patch, kept axes such as c, axes with a size), and returns one with the same patches
            and sizes; the axes in between may differ. Several `variables` come as several arguments. A torch or Keras
            model gets tensors of the dtype of its weights, in evaluation mode and without gradients. What it makes of
            a patch must not depend on the others in the batch.
        blend : {"crop", "mean", "hann", "gaussian", "max", "vote"}
            How patches that overlap are put together: ``"crop"`` takes every pixel from the patch that answers for it
            (``plan.core_start``); ``"mean"`` and the windows ``"hann"`` and ``"gaussian"`` (standard deviation an
            eighth of the patch) take means in float64, rounded before they are cast to integers; ``"max"``;
            ``"vote"`` takes the most frequent label, of equally frequent ones the smallest. Where patches agree,
            the result is their value, bit for bit. A `halo` is cut off first.
        store : str or os.PathLike, optional
            Local folder to write an OME-Zarr 0.5 store into; in memory by default. Several sources become its images,
            named by their number, file and scene. Until all is there it grows in ``.<name>.unfinished`` beside it.
        resume : bool
            Go on with an unfinished store of the same patches, model and options; if it is finished, return it.
        overwrite : bool
            Replace a finished store, once the new one is complete, or an unfinished one, now.
        variables : str or sequence of str, optional
            What the model gets; the first variable by default.
        batch_size : int
            Patches to a call, at most.
        dtype : dtype, optional
            Of the result; that of the first batch by default. Floats become integers by rounding half to even; what
            lies beyond the range of the dtype becomes its end.
        channels : int or sequence of str, optional
            Number or names of the channels that the model makes.
        output_axes : str or sequence of str, optional
            Names of the axes of a prediction before the sized ones, where they are not those of the patch.
        input_dtype : dtype, optional
            Cast batches to it for the model.
        name : str
            Of the variable.
        kind : {None, "labels"}
            ``"labels"``: the result is a label image; so it is anyway if `blend` is ``"vote"``.
        fill_value : scalar
            Value of pixels that no patch covers.
        chunks, shards, compress
            Of the store, as `intake_img.imsave` takes them for OME-Zarr. By default planes are cut into chunks of
            1024 x 1024, volumes into 64 x 128 x 128.
        model_id : str, optional
            Tells this model from others when a run goes on. By default it is made of the weights of a torch or Keras
            model, or of the code of a function and the plain values it uses.
        memory : int or str
            Bytes of predictions that wait for their neighbours; what goes beyond is put into temporary files.
        lookahead : int or str
            Patches, or bytes such as ``"64MB"``, that are read at once; twice that is in memory.
        progress : bool, optional
            Show a progress bar; by default only for long work in a terminal.
        client : distributed.Client, optional
            Cluster to work on; the current one if there is one, else the threads of this process. Its workers must see
            the store at the same path.

        Returns
        -------
        xarray.Dataset, or list of these for several sources
            On the grid of the source, with its coordinates; lazy if there is a `store`.

        Raises
        ------
        FileExistsError
            If the store exists and neither `resume` nor `overwrite` allows it.
        ValueError
            If the store is another result, or predictions do not fit.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import intake_img
        >>> image = xr.DataArray(np.arange(100.0).reshape(10, 10), dims=["y", "x"])
        >>> out = image.img.patches(dict(y=4, x=4), overlap=2).map(lambda batch: batch + 1, blend="hann")
        >>> bool((out["image"] == image + 1).all())
        True
        """
        options = _Options(blend, store, resume, overwrite, dtype, channels, output_axes, name, kind, fill_value, chunks,
                           shards, compress, memory, progress).checked()  # fmt: skip
        names = self._mapped_variables(variables)
        size = integer("batch_size", batch_size, 1)
        work = _Mapping(self, names, model, input_dtype, size, lookahead)
        facts = {"model": fingerprint(model, model_id), "variables": names,
                 "input_dtype": None if input_dtype is None else str(np.dtype(input_dtype)), **options.facts}  # fmt: skip
        with working(model):
            return _written(self, options, facts, work, _client(client))

    def stitch(self, arrays: Any, *, blend: str = "crop", patches: Any = None, store: Any = None,
               overwrite: bool = False, dtype: Any = None, channels: Any = None,
               output_axes: str | Sequence[str] | None = None, name: str = "image", kind: str | None = None,
               fill_value: Any = 0, chunks: Any = None, shards: Any = None, compress: Any = None,
               memory: int | str = "1GB", progress: bool | None = None) -> Any:  # fmt: skip
        """Put predictions that were made elsewhere back onto the grid of the image.

        Parameters
        ----------
        arrays : array of shape (n, ..., *size), or iterable of batches of these
            A prediction for each patch, in the order of the plan. An array may be lazy (Zarr, dask): it is read in
            parts. Batches may be tensors.
        patches : sequence of int, optional
            The numbers of the patches that `arrays` are about; all by default. What no patch covers is `fill_value`.
        blend, store, overwrite, dtype, channels, output_axes, name, kind, fill_value, chunks, shards, compress, memory, \
progress
            As for `map`.

        Returns
        -------
        xarray.Dataset, or list of these for several sources

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import intake_img
        >>> image = xr.DataArray(np.arange(100).reshape(10, 10), dims=["y", "x"])
        >>> p = image.img.patches(dict(y=4, x=4))
        >>> bool((p.stitch(p.read(range(len(p))))["image"] == image).all())
        True
        """
        options = _Options(blend, store, False, overwrite, dtype, channels, output_axes, name, kind, fill_value, chunks,
                           shards, compress, memory, progress).checked()  # fmt: skip
        which = np.arange(len(self.plan)) if patches is None else np.asarray(patches)
        which = np.flatnonzero(which) if which.dtype.kind == "b" else which.astype(np.int64)
        if len(np.unique(which)) != len(which) or (len(which) and not 0 <= which.min() <= which.max() < len(self.plan)):
            raise ValueError(f"patches= must name distinct patches, from 0 to {len(self.plan) - 1}")
        return _written(self, options, {"model": "stitch", **options.facts}, _Given(self, arrays, which), None)

    def _mapped_variables(self, variables: str | Sequence[str] | None) -> list[str]:
        known = self.sources[0].variables
        names = [known[0]] if variables is None else [variables] if isinstance(variables, str) else list(variables)
        if missing := [v for v in names if v not in known]:
            raise ValueError(f"variables={variables!r}: there is no {missing[0]!r}; patches have {', '.join(known)}")
        if not names:
            raise ValueError("variables=[]: name at least one")
        return names


# where predictions come from


class _Mapping:
    """Predictions are made from the pixels of patches."""

    def __init__(self, patches: Any, variables: list[str], model: Any, input_dtype: Any, size: int,
                 lookahead: int | str) -> None:  # fmt: skip
        from intake_img.accessor.patches.batches import window_length

        self.patches, self.variables, self.model, self.input_dtype = patches, variables, model, input_dtype
        self.predict, self.size, self.which = predictor(model, input_dtype), size, None
        self.window = window_length(lookahead, size, patches.patch_nbytes)
        layer = patches.sources[0].layers[variables[0]]
        self.kept = dict(zip(layer.patch_dims, layer.patch_shape, strict=False))
        self.kept = {a: n for a, n in self.kept.items() if a in layer.kept}

    def first(self) -> Batch:
        """Predict one batch, to find out what the model makes."""
        ids = np.arange(min(self.size, len(self.patches.plan)))
        return next(predicted(batches(self.patches, self.variables, ids, self.size, self.size), self.predict, _rows))

    def stream(self, order: np.ndarray, check: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Iterator[Batch]:
        return predicted(batches(self.patches, self.variables, order, self.size, self.window), self.predict, check)


class _Given:
    """Predictions are there already."""

    def __init__(self, patches: Any, arrays: Any, which: np.ndarray) -> None:
        self.patches, self.which = patches, which
        layer = patches.sources[0].reference
        sizes = dict(zip(layer.dims, layer.pixels.shape, strict=True))
        self.kept = {a: sizes[a] for a in layer.kept}
        self.array = arrays if hasattr(arrays, "shape") and hasattr(arrays, "dtype") else None
        if self.array is not None and len(self.array) != len(which):
            raise ValueError(
                f"arrays holds {len(self.array)} predictions, expected one for each of {len(which)} patches"
            )
        self.batches = None if self.array is not None else iter(arrays)

    def first(self) -> Batch:
        if self.array is not None:
            return self.which[:1], _loaded(self.array[:1])
        for batch in self.batches or ():
            self.batches = itertools.chain([batch], self.batches or ())
            return self.which[:0], _loaded(batch)[:0]
        raise ValueError("arrays is empty: expected a prediction for each patch")

    def stream(self, order: np.ndarray, check: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Iterator[Batch]:
        if self.array is not None:
            place = np.argsort(self.which)
            item = max(1, _loaded(self.array[:1]).nbytes) if len(self.which) else 1
            step = max(1, 2**26 // item)
            for k in range(0, len(order), step):
                ids = np.sort(order[k : k + step])
                rows = place[np.searchsorted(self.which, ids, sorter=place)]
                yield ids, check(ids, _loaded(self.array[_rows_key(rows)]))
            return
        at = 0
        for batch in self.batches or ():
            values = _loaded(batch)
            ids = self.which[at : at + len(values)]
            at += len(values)
            if len(ids) != len(values):
                raise ValueError(f"arrays hold more predictions than the {len(self.which)} patches")
            yield ids, check(ids, values)
        if at != len(self.which):
            raise ValueError(f"arrays hold {at} predictions, expected one for each of {len(self.which)} patches")


def _rows_key(rows: np.ndarray) -> Any:
    """Return rows as a slice where they follow each other: every kind of array takes that."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _loaded(array: Any) -> np.ndarray:
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    if hasattr(array, "compute"):
        array = array.compute()
    return np.asarray(array)


def _rows(ids: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    if predictions.ndim == 0 or len(predictions) != len(ids):
        raise ValueError(
            f"the model returned shape {predictions.shape} for a batch of {len(ids)} patches: expected "
            f"({len(ids)}, ...)"
        )
    return predictions


# writing


def _written(patches: Any, options: _Options, facts: dict[str, Any], work: Any, client: Any) -> Any:
    plan, sources = patches.plan, patches.sources
    if not len(plan):
        raise ValueError("there are no patches: nothing can be put together")
    halo = patches.law.halo
    if options.store is None:
        made, first = _find_out(work, plan, options)
        outputs = outputs_of(sources, plan, made)
        sink = InMemory(outputs, _fill(options, made))
        job = Job.of(plan, outputs, options.blend, options.fill, halo, Memory(_nbytes(options.memory)), None,
                     work.which)  # fmt: skip
        _run(
            job, work, first, made, sink, options, client, [np.ones(len(o.canvas), bool) for o in outputs], "predicting"
        )
        return _in_memory(sources, outputs, made, sink, options, facts)
    target = _target(options.store)
    facts = {"plan": plan.id, "halo": [int(h) for h in halo], "sources": [_identity(s) for s in sources], **facts}
    ledger = Ledger(target, facts)
    with ledger.alone():
        if not _finished(ledger, options):
            _into_store(patches, options, ledger, work, client, halo)
    return _opened(target, sources)


def _into_store(patches: Any, options: _Options, ledger: Ledger, work: Any, client: Any, halo: Sequence[int]) -> None:
    plan, sources = patches.plan, patches.sources
    ledger.begin(options.resume, options.overwrite)
    first = None
    if ledger.layout is None:
        made, first = _find_out(work, plan, options)
        _lay_out(ledger, sources, plan, made, options)
    layout = ledger.layout
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in layout["made"].items()}
    made = Made(**given)
    outputs = [Output.of_json(o) for o in layout["outputs"]]
    done = [ledger.done(o.source, len(o.canvas)) for o in outputs]
    memory = Memory(_nbytes(options.memory), ledger.folder)
    job = Job.of(plan, outputs, options.blend, options.fill, halo, memory, done, work.which)
    with _kept(ledger, outputs):
        _run(job, work, first, made, InStore(ledger.folder, outputs), options, client, [~d for d in done],
             os.path.basename(ledger.target))  # fmt: skip
        _complete(ledger, layout["groups"])


def _run(job: Job, work: Any, first: Batch | None, made: Made, sink: Any, options: _Options, client: Any,
         wanted: Sequence[np.ndarray], what: str) -> None:  # fmt: skip
    order = job.order
    check = _Check(made, options.dtype is not None, options.blend, job.outputs[0].sized)
    known = [] if first is None else [(first[0], check(*first))]
    if known:
        needed = np.isin(first[0], order)  # type: ignore[index]
        known = [(ids[needed], values[needed]) for ids, values in known]
        order = order[~np.isin(order, first[0])]  # type: ignore[index]
    total = sum(_pixels(job, k, mask) for k, mask in enumerate(wanted))
    with meter(options.progress, total, what, "px") as step:
        for k, number in untouched(job, dict(enumerate(wanted))):
            sink.put(job.outputs[k].source, number, job.empty(k, number))
            step(job.empty(k, number).size)
        if client is not None and isinstance(work, _Mapping):
            from intake_img.accessor.patches.cluster import spread

            spread(client, job, work.patches, work.variables, work.model, order, work.size, check, known, sink, step,
                   work.input_dtype)  # fmt: skip
        else:
            local(job, itertools.chain(known, work.stream(order, check)), sink, step)


def _pixels(job: Job, k: int, mask: np.ndarray) -> int:
    out = job.outputs[k]
    if mask.all():
        return int(np.prod(list(out.sizes.values()), dtype=object))
    return sum(int(np.prod([s.stop - s.start for s in out.key(n)])) for n in np.flatnonzero(mask).tolist())


class _Check:
    """Refuses predictions that are not what the result is made for. It pickles."""

    def __init__(self, made: Made, cast: bool, blend: str, sized: tuple[str, ...]) -> None:
        self.made, self.cast, self.blend, self.sized = made, cast, blend, sized

    def __call__(self, ids: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        _rows(ids, predictions)
        lead = predictions.shape[1 : predictions.ndim - len(self.sized)]
        if tuple(lead) != self.made.lengths:
            raise ValueError(
                f"the model returned {predictions.shape[1:]} for a patch: expected ({_said(self.made)}"
                f"{', '.join(self.sized)})"
            )
        if not self.cast and predictions.dtype != np.dtype(self.made.dtype):
            raise TypeError(
                f"the model returned {predictions.dtype}, for the first patches {np.dtype(self.made.dtype)}: pass dtype="
            )
        if self.blend == "vote" and predictions.dtype.kind not in "iub":
            raise TypeError(f"blend='vote' counts labels, but the model returned {predictions.dtype}: return integers")
        return predictions


def _said(made: Made) -> str:
    return "".join(f"{a}: {n}, " for a, n in zip(made.axes, made.lengths, strict=True))


def _find_out(work: Any, plan: Plan, options: _Options) -> tuple[Made, Batch]:
    """Predict the first patches, which are not predicted again."""
    ids, values = work.first()
    size = tuple(int(n) for n in plan.shape[ids[0]]) if len(ids) else plan.size
    made = made_of(values.shape[1:], options.dtype or values.dtype, plan, work.kept, size=size,
                   channels=options.channels, output_axes=options.output_axes)  # fmt: skip
    _fill(options, made)
    return made, (ids, values)


def _fill(options: _Options, made: Made) -> Any:
    dtype = np.dtype(made.dtype)
    with np.errstate(all="ignore"):
        try:
            value = np.asarray(options.fill).astype(dtype)
        except (TypeError, ValueError) as exc:
            raise TypeError(f"fill_value={options.fill!r}: expected a number") from exc
    if not (np.isnan(options.fill) and dtype.kind in "fc") and value != options.fill:
        raise ValueError(f"fill_value={options.fill!r} is no value of {dtype}: pass dtype=, or another value")
    return value[()]


def _nbytes(value: Any) -> int:
    from dask.utils import parse_bytes

    return int(parse_bytes(value))


# the store


def _target(store: Any) -> str:
    file = File.parse(store)
    if not file.local:
        raise CannotWriteError(
            f"store={str(store)!r}: results grow in a local folder; write there, then copy the store to {file.path}"
        )
    if file.name.lower().endswith((".zip", ".ozx")):
        raise CannotWriteError(
            f"store={str(store)!r}: a zip file cannot be filled piece by piece; name a folder (.zarr)"
        )
    return file.path


def _identity(source: Source) -> dict[str, Any]:
    """Return what tells a source from others, without reading it."""
    sizes = {a: int(n) for a, n in source.sizes.items()}
    facts: dict[str, Any] = {
        "uri": source.uri,
        "scene": source.scene,
        "sizes": sizes,
        "dtype": str(source.reference.pixels.dtype),
    }
    if source.uri and os.path.isfile(source.uri):
        found = os.stat(source.uri)
        facts["file"] = [found.st_size, found.st_mtime_ns]
    return facts


def _finished(ledger: Ledger, options: _Options) -> bool:
    """Return whether the target is the result already; refuse one that is in the way."""
    if not os.path.exists(ledger.target):
        return False
    if options.overwrite:
        return False
    if not options.resume:
        raise TargetExistsError(
            f"{ledger.target} exists: choose another name, or pass overwrite=True to replace it "
            "(resume=True returns it if it is this very result)"
        )
    ledger.same_as(_attributes(ledger.target).get(_FACTS))
    ledger.sweep()
    return True


def _attributes(path: str) -> dict[str, Any]:
    import json

    try:
        with open(os.path.join(path, "zarr.json"), encoding="utf-8") as stream:
            return json.load(stream)["attributes"]["intake_img"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _lay_out(ledger: Ledger, sources: Sequence[Source], plan: Plan, made: Made, options: _Options) -> None:
    """Make the empty arrays of the result, and write down what it is."""
    from intake_img.drivers.omezarr import lay_out
    from intake_img.image import Image

    kind = _kind(options, made)
    outputs, groups = [], {}
    for out, source in zip(outputs_of(sources, plan, made), sources, strict=True):
        folder = os.path.join(ledger.store, out.path)
        os.makedirs(folder, exist_ok=True)
        image = Image.from_xarray(template(source, out, made, options.name, {}, kind))
        title = out.path or os.path.basename(ledger.target)
        empty = lay_out(image, folder, compress=options.compress, name=title, shards=options.shards,
                        chunks=chunks_for(options.chunks, plan.axes))  # fmt: skip
        array, stored = empty.arrays[options.name]
        outputs.append(stored_as(out, array, stored, _unit(os.path.join(folder, array)), plan.size, _tiles(source)))
        groups[out.path] = empty.groups
    ledger.record({"made": vars(made), "outputs": [o.json() for o in outputs], "groups": groups})


def _unit(path: str) -> tuple[int, ...]:
    import zarr

    array = zarr.open_array(path, mode="r")
    return tuple(array.shards or array.chunks)


def _tiles(source: Source) -> dict[str, int]:
    pixels, dims = source.reference.pixels, source.reference.dims
    return dict(zip(dims, pixels.tiles, strict=True)) if pixels.tiles != pixels.shape else {}


def _complete(ledger: Ledger, groups: Mapping[str, Any]) -> None:
    """Write the metadata, by which the store becomes an image, and put it in its place."""
    from intake_img.drivers.omezarr import Empty

    facts = {_FACTS: ledger.facts}
    for path, members in groups.items():
        root = {k: dict(v) for k, v in members.items()}
        root[""] = {**root[""], "intake_img": {**root[""].get("intake_img", {}), **facts}}
        Empty({}, root).finish(os.path.join(ledger.store, path))
    if list(groups) != [""]:
        ome = {"version": "0.5", "bioformats2raw.layout": 3}
        series = {"ome": {"version": "0.5", "series": list(groups)}}
        Empty({}, {"": {"ome": ome, "intake_img": facts}, "OME": series}).finish(ledger.store)
    ledger.finish()


@contextlib.contextmanager
def _kept(ledger: Ledger, outputs: Sequence[Output]) -> Iterator[None]:
    """Say of an error how much is done, and that it is kept."""
    try:
        yield
    except BaseException as exc:
        said = _progress_of(ledger, outputs)
        if isinstance(exc, OSError) and exc.errno in _FULL:
            raise OSError(exc.errno, f"no space left for {ledger.target}: {said}") from exc
        exc.add_note(said)
        raise


def _progress_of(ledger: Ledger, outputs: Sequence[Output]) -> str:
    total = sum(len(o.canvas) for o in outputs)
    try:
        done = sum(int(ledger.done(o.source, len(o.canvas)).sum()) for o in outputs)
    except OSError:
        return f"{ledger.folder} cannot be read"
    return f"{done} of {total} blocks of {ledger.target} are written and kept; resume=True goes on with the rest"


def _kind(options: _Options, made: Made) -> str | None:
    labels = options.kind == "labels" or options.blend == "vote"
    return "labels" if labels and np.dtype(made.dtype).kind in "iu" else None


def _opened(target: str, sources: Sequence[Source]) -> Any:
    from intake_img.drivers.omezarr import OmeZarrSource

    if len(sources) == 1:
        return OmeZarrSource(target).dataset()
    return [OmeZarrSource(target, scene=k).dataset() for k in range(len(sources))]


def _in_memory(sources: Sequence[Source], outputs: Sequence[Output], made: Made, sink: InMemory, options: _Options,
               facts: Mapping[str, Any]) -> Any:  # fmt: skip
    found = []
    for source, out, array in zip(sources, outputs, sink.arrays, strict=True):
        empty = template(source, out, made, options.name, {}, _kind(options, made))
        filled = xr.Variable(out.dims, array, empty[options.name].attrs).transpose(*empty[options.name].dims)
        found.append(empty.assign({options.name: filled}))
    return found[0] if len(found) == 1 else found


def _client(client: Any) -> Any:
    """Return the given or the current client of a cluster, None if there is none."""
    import sys

    if client is not None or "distributed" not in sys.modules:
        return client
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None
