"""Making a result, in memory or in a store that appears atomically, and opening it on the grid of its sources."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice
from intake_img.accessor.patches.feeds import Check, Mapped
from intake_img.accessor.patches.ledger import FACTS, Ledger, facts_of, sweep
from intake_img.accessor.patches.output import Made, Output, chunks_for, made_of, outputs_of, stored_as, template
from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.run import Batch, PatchJob, local, untouched
from intake_img.accessor.patches.sinks import InMemory, InStore
from intake_img.accessor.patches.sources import Source
from intake_img.accessor.patches.stitch import BLENDS
from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.formats.registry import check_replaced
from intake_img.model.progress_bar import meter
from intake_img.storage.files import File
from intake_img.storage.spill import SpillingMemory
from intake_img.storage.staging import settle

__all__ = ["Options", "written"]

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass(frozen=True)
class Options:
    """The common options of `map` and `stitch`."""

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
    storage_options: Mapping[str, Any] | None = None

    def checked(self) -> Options:
        choice("blend", self.blend, BLENDS)
        choice("kind", self.kind, (None, "labels"))
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name={self.name!r}: expected the name of a variable")
        of_store = ("resume", "overwrite", "shards", "compress", "storage_options")
        if self.store is None and (idle := [n for n in of_store if getattr(self, n)]):
            raise ValueError(f"{idle[0]}={getattr(self, idle[0])!r} is about a store: pass store='name.zarr'")
        return self

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "blend": self.blend,
            "dtype": None if self.dtype is None else str(np.dtype(self.dtype)),
            "channels": self.channels
            if self.channels is None or isinstance(self.channels, (int, np.integer))
            else [str(c) for c in self.channels],
            "output_axes": None if self.output_axes is None else list(self.output_axes),
            "name": self.name,
            "kind": self.kind,
            "fill_value": str(self.fill),
            "chunks": _plain(self.chunks),
            "shards": _plain(self.shards),
            "compress": self.compress,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return int(value) if isinstance(value, np.integer) else value


def written(patches: Any, options: Options, facts: dict[str, Any], work: Any, client: Any) -> Any:
    """Make the result of `work`, and return it as a Dataset, or one for each source.

    Parameters
    ----------
    patches : Patches
    options : Options
    facts : mapping
        Plain JSON that identifies the result, together with the patches.
    work : Mapped or Given
        The source of predictions.
    client : distributed.Client, optional
    """
    plan, sources = patches.plan, patches.sources
    if not len(plan):
        raise ValueError("there are no patches: nothing can be put together")
    halo = patches.rule.halo
    if options.store is None:
        made, first = _find_out(work, plan, options)
        outputs = outputs_of(sources, plan, made)
        sink = InMemory(outputs, _fill(options, made))
        job = PatchJob.of(
            plan, outputs, options.blend, options.fill, halo, SpillingMemory(_nbytes(options.memory)), None, work.which
        )
        _run(
            job, work, first, made, sink, options, client, [np.ones(len(o.canvas), bool) for o in outputs], "predicting"
        )
        return _in_memory(sources, outputs, made, sink, options)
    target = _target(options.store, options.storage_options)
    facts = {"plan": plan.id, "halo": [int(h) for h in halo], "sources": [_identity(s) for s in sources], **facts}
    ledger = Ledger(target, facts, keeps=isinstance(work, Mapped))
    if not _finished(ledger, options):
        with ledger.begin(options.resume, options.overwrite):
            _into_store(patches, options, ledger, work, client, halo)
    return _opened(target, sources)


def _into_store(patches: Any, options: Options, ledger: Ledger, work: Any, client: Any, halo: Sequence[int]) -> None:
    plan, sources = patches.plan, patches.sources
    first = None
    if ledger.layout is None:
        made, first = _find_out(work, plan, options)
        _lay_out(ledger, sources, plan, made, options)
    layout = ledger.layout
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in layout["made"].items()}
    made = Made(**given)
    outputs = [Output.of_json(o) for o in layout["outputs"]]
    done = [ledger.done(o) for o in outputs]
    memory = SpillingMemory(_nbytes(options.memory), ledger.folder.path if ledger.folder.local else None)
    job = PatchJob.of(plan, outputs, options.blend, options.fill, halo, memory, done, work.which)
    with _kept(ledger, outputs):
        _run(
            job,
            work,
            first,
            made,
            InStore(ledger.folder, ledger.store, outputs),
            options,
            client,
            [~d for d in done],
            ledger.target.name,
        )
        _complete(ledger, layout["groups"])
    ledger.finish()


def _run(
    job: PatchJob,
    work: Any,
    first: Batch | None,
    made: Made,
    sink: Any,
    options: Options,
    client: Any,
    wanted: Sequence[np.ndarray],
    what: str,
) -> None:
    order = job.order
    check = Check(made, options.dtype is not None, options.blend, job.outputs[0].sized)
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
        if client is not None and isinstance(work, Mapped):
            from intake_img.accessor.patches.cluster import spread

            spread(
                client,
                job,
                work.patches,
                work.variables,
                work.model,
                order,
                work.size,
                check,
                known,
                sink,
                step,
                work.input_dtype,
            )
        else:
            local(job, itertools.chain(known, work.stream(order, check)), sink, step)


def _pixels(job: PatchJob, k: int, mask: np.ndarray) -> int:
    out = job.outputs[k]
    if mask.all():
        return int(np.prod(list(out.sizes.values()), dtype=object))
    return sum(int(np.prod([s.stop - s.start for s in out.key(n)])) for n in np.flatnonzero(mask).tolist())


def _find_out(work: Any, plan: Plan, options: Options) -> tuple[Made, Batch]:
    """Predict the first patches; these predictions are used later."""
    ids, values = work.first()
    size = tuple(int(n) for n in plan.shape[ids[0]]) if len(ids) else plan.size
    made = made_of(
        values.shape[1:],
        options.dtype or values.dtype,
        plan,
        work.kept,
        size=size,
        channels=options.channels,
        output_axes=options.output_axes,
    )
    _fill(options, made)
    return made, (ids, values)


def _fill(options: Options, made: Made) -> Any:
    dtype = np.dtype(made.dtype)
    with np.errstate(all="ignore"):
        try:
            value = np.asarray(options.fill).astype(dtype)
        except (TypeError, ValueError) as exc:
            raise TypeError(f"fill_value={options.fill!r}: expected a number") from exc
    if not (np.isnan(options.fill) and dtype.kind in "fc") and value != options.fill:
        raise ValueError(f"fill_value={options.fill!r} is not a value of {dtype}: pass dtype=, or another value")
    return value[()]


def _nbytes(value: Any) -> int:
    from dask import utils

    return int(utils.parse_bytes(value))


# the store


def _target(store: Any, storage_options: Mapping[str, Any] | None) -> File:
    file = File.parse(store, storage_options).followed()
    if file.web:
        raise CannotWriteError(f"store={str(store)!r}: web servers are read-only: name a folder or an s3:// URL")
    if file.name.lower().endswith((".zip", ".ozx")):
        raise CannotWriteError(
            f"store={str(store)!r}: a zip file cannot be filled piece by piece; name a folder (.zarr)"
        )
    return file


def _identity(source: Source) -> dict[str, Any]:
    """Return the identity of a source, without reading it; of pixels in memory, a digest."""
    from dask import base

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
    if loaded := [layer.pixels for layer in source.layers.values() if layer.pixels.in_memory]:
        facts["loaded"] = base.tokenize(loaded)
    return facts


def _finished(ledger: Ledger, options: Options) -> bool:
    """Return whether the target already is the result; raise an error for any other existing target."""
    settle(ledger.target)
    target = ledger.target
    if not (os.path.lexists(target.path) if target.local else target.exists()):
        return False
    if options.resume and (not options.overwrite or facts_of(target) == ledger.facts):
        ledger.same_as_target()
        sweep(ledger.target)
        return True
    if options.overwrite:
        check_replaced(target)
        return False
    raise TargetExistsError(
        f"{ledger.target} exists: choose another name, or pass overwrite=True to replace it "
        "(resume=True returns it if it is this very result)"
    )


def _lay_out(ledger: Ledger, sources: Sequence[Source], plan: Plan, made: Made, options: Options) -> None:
    """Create the empty arrays of the result, and record its layout."""
    from intake_img.formats.omezarr.write import lay_out
    from intake_img.model.image import Image

    kind = _kind(options, made)
    outputs, groups = [], {}
    for out, source in zip(outputs_of(sources, plan, made), sources, strict=True):
        folder = ledger.store.within(out.path)
        if folder.local:
            os.makedirs(folder.path, exist_ok=True)
        image = Image.from_xarray(template(source, out, made, options.name, {}, kind))
        title = out.path or ledger.target.name
        empty = lay_out(
            image,
            folder,
            compress=options.compress,
            name=title,
            shards=options.shards,
            chunks=chunks_for(options.chunks, plan.axes),
        )
        array, stored = empty.arrays[options.name]
        outputs.append(stored_as(out, array, stored, _unit(folder / array), plan.size, _tiles(source)))
        groups[out.path] = empty.groups
    ledger.record({"made": vars(made), "outputs": [o.json() for o in outputs], "groups": groups})


def _unit(array_folder: File) -> tuple[int, ...]:
    import zarr

    from intake_img.formats.omezarr.target import folder_store

    array = zarr.open_array(folder_store(array_folder), mode="r")
    return tuple(array.shards or array.chunks)


def _tiles(source: Source) -> dict[str, int]:
    pixels, dims = source.reference.pixels, source.reference.dims
    return dict(zip(dims, pixels.tiles, strict=True)) if pixels.tiles != pixels.shape else {}


def _complete(ledger: Ledger, groups: Mapping[str, Any]) -> None:
    """Write the metadata, which make the store an image."""
    from intake_img.formats.omezarr.write import Empty

    facts = {FACTS: ledger.facts}
    for path, members in groups.items():
        root = {k: dict(v) for k, v in members.items()}
        root[""] = {**root[""], "intake_img": {**root[""].get("intake_img", {}), **facts}}
        Empty({}, root).finish(ledger.store.within(path))
    if list(groups) != [""]:
        ome = {"version": "0.5", "bioformats2raw.layout": 3}
        series = {"ome": {"version": "0.5", "series": list(groups)}}
        Empty({}, {"": {"ome": ome, "intake_img": facts}, "OME": series}).finish(ledger.store)


@contextlib.contextmanager
def _kept(ledger: Ledger, outputs: Sequence[Output]) -> Iterator[None]:
    """Add to an error how much is done, and that it is kept."""
    try:
        yield
    except BaseException as exc:
        if not ledger.keeps:
            raise
        said = _progress_of(ledger, outputs)
        if isinstance(exc, OSError) and exc.errno in _FULL:
            raise OSError(exc.errno, f"no space left for {ledger.target}: {said}") from exc
        exc.add_note(said)
        raise


def _progress_of(ledger: Ledger, outputs: Sequence[Output]) -> str:
    total = sum(len(o.canvas) for o in outputs)
    try:
        done = sum(int(ledger.done(o).sum()) for o in outputs)
    except OSError:
        return f"{ledger.folder} cannot be read"
    return f"{done} of {total} blocks of {ledger.target} are written and kept; resume=True goes on with the rest"


def _kind(options: Options, made: Made) -> str | None:
    labels = options.kind == "labels" or options.blend == "vote"
    return "labels" if labels and np.dtype(made.dtype).kind in "iu" else None


def _opened(target: File, sources: Sequence[Source]) -> Any:
    from intake_img.formats.omezarr.driver import OmeZarrSource

    options: dict[str, Any] = {"storage_options": dict(target.storage_options)} if target.storage_options else {}
    if len(sources) == 1:
        return OmeZarrSource(target.path, **options).dataset()
    return [OmeZarrSource(target.path, scene=k, **options).dataset() for k in range(len(sources))]


def _in_memory(
    sources: Sequence[Source],
    outputs: Sequence[Output],
    made: Made,
    sink: InMemory,
    options: Options,
) -> Any:
    found = []
    for source, out, array in zip(sources, outputs, sink.arrays, strict=True):
        empty = template(source, out, made, options.name, {}, _kind(options, made))
        filled = xr.Variable(out.dims, array, empty[options.name].attrs).transpose(*empty[options.name].dims)
        found.append(empty.assign({options.name: filled}))
    return found[0] if len(found) == 1 else found
