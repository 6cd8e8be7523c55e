"""Files of patches: a Zarr group with the table beside the arrays, and tar files as WebDataset reads them."""

from __future__ import annotations

import io
import json
import math
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from intake_img.accessor.progress import meter
from intake_img.collections.listing import list_folder
from intake_img.storage.files import File
from intake_img.storage.staged import exists_already
from intake_img.storage.staging import begin, replacing

__all__ = ["write_shards", "write_zarr"]

_CHUNK_BYTES = 2**20
_WINDOW_BYTES = 2**25


def write_zarr(
    patches: Any,
    path: Any,
    variables: Sequence[str],
    chunk: int | None,
    compress: Any,
    overwrite: bool,
    progress: bool | None,
) -> str:
    """Write patches into a Zarr group; see `Loaders.to_zarr`."""
    from intake_img.formats.omezarr.target import Target

    target, n = File.parse(path), len(patches)
    _one_shape(patches, "a Zarr array")
    table = patches.table
    coords = {str(c): _column(table[c]) for c in table.columns}
    beside = _beside(patches, variables)
    listed = [*coords, *(k for k, c in beside.items() if c.dims != (k,))]
    attributes = {"coordinates": " ".join(listed), "plan": patches.plan.id}
    with replacing(target, overwrite=overwrite, folder=True) as folder, Target(folder, 3, {"": attributes}) as made:
        arrays = {}
        for v in variables:
            shape, dtype = patches.shape(v), patches.dtype(v)
            lead = chunk or max(1, _CHUNK_BYTES // max(1, math.prod(shape) * dtype.itemsize))
            arrays[v] = made.create(
                v,
                (n, *shape),
                dtype,
                patches.dims(v),
                (max(1, min(lead, n)), *shape),
                None,
                compress,
                _plain_attrs(patches, v),
            )
        for name, values in coords.items():
            _put(made, name, values, ("patch",), {})
        for name, c in beside.items():
            values = np.asarray(c.values).astype(object) if c.dtype.kind in "UO" else np.asarray(c.values)
            _put(made, name, values, c.dims, {"units": c.attrs["units"]} if "units" in c.attrs else {})
        with meter(progress, n * len(variables), f"saving {target.name}", "patch") as step:
            for v in variables:
                _fill(patches, v, arrays[v], step)
    return str(target)


def _beside(patches: Any, variables: Sequence[str]) -> dict[str, Any]:
    """Return the coordinates of axes that patches hold whole: names of channels."""
    source = patches.sources[0]
    kept = {d for v in variables for d in source.layers[v].kept}
    found = {str(k): c for k, c in source.coords.coords.items() if c.dims and set(map(str, c.dims)) <= kept}
    return {k: c for k, c in found.items() if c.dtype.kind in "biufUO"}


def _one_shape(patches: Any, what: str) -> None:
    shape = patches.plan.shape
    if len(shape) and (shape != shape[0]).any():
        raise ValueError(
            f"patches of different shapes (edge='partial') do not go into {what}: use edge='pad' or 'shift'"
        )


def _plain_attrs(patches: Any, variable: str) -> dict[str, Any]:
    kind = patches.sources[0].layers[variable].attrs.get("kind")
    return {"kind": kind} if isinstance(kind, str) else {}


def _column(column: Any) -> np.ndarray:
    values = column.to_numpy()
    return values.astype(object) if values.dtype.kind in "UO" or not hasattr(values.dtype, "kind") else values


def _put(made: Any, name: str, values: np.ndarray, dims: Sequence[str], attrs: dict[str, Any]) -> None:
    whole = tuple(max(1, min(k, 2**16)) for k in values.shape)
    array = made.create(name, values.shape, values.dtype, dims, whole, None, None, attrs, fill=None)
    if values.size:
        array[...] = values


def _fill(patches: Any, variable: str, array: Any, step: Any) -> None:
    """Fill an array, whole chunks at a time."""
    chunk = array.chunks[0]
    item = max(1, math.prod(patches.shape(variable)) * patches.dtype(variable).itemsize)
    many = max(1, _WINDOW_BYTES // (chunk * item)) * chunk
    for k in range(0, len(patches), many):
        stop = min(k + many, len(patches))
        array[k:stop] = patches.read(slice(k, stop), variable)
        step(stop - k)


def write_shards(
    patches: Any,
    pattern: Any,
    samples: int,
    variables: Sequence[str],
    shuffle: bool,
    overwrite: bool,
    progress: bool | None,
) -> list[str]:
    """Write patches into tar files; see `Loaders.to_webdataset`."""
    text = os.fspath(pattern)
    place = re.compile(r"%0?\d*d")
    if len(place.findall(text)) != 1 or text.count("%") != 1:
        raise ValueError(f"pattern={text!r}: expected one place for the number of the file, e.g. 'train-%06d.tar'")
    whole = File.parse(text % 0).sibling(os.path.basename(text))
    if "%" not in whole.name:
        raise ValueError(f"pattern={text!r}: the number stands in a folder; expected it in the name of the file")
    if bad := [v for v in variables if not re.fullmatch(r"[\w-]+", v)]:
        raise ValueError(f"the variable {bad[0]!r} cannot be part of a sample's name: rename it (ds.rename)")
    names = [whole.name % k for k in range(-(-len(patches) // samples))]
    fits = re.compile(r"\d+".join(map(re.escape, place.split(whole.name))))
    earlier = partial(_shards, whole.parent, fits, overwrite)
    rows = _samples(patches, variables, shuffle)
    with (
        meter(progress, len(patches), f"saving {whole.name}", "patch") as step,
        begin(whole, overwrite=overwrite, claim=earlier) as staging,
    ):
        for k, name in enumerate(names):
            with staging.member(name) as path, tarfile.open(path, "w") as archive:
                for _ in range(min(samples, len(patches) - k * samples)):
                    _add(archive, *next(rows))
                    step(1)
        return staging.commit()


def _shards(folder: File, fits: re.Pattern[str], overwrite: bool, _: Sequence[str]) -> list[str]:
    """Return the files of an earlier set of the same pattern; refuse them without `overwrite`."""
    found = sorted(filter(fits.fullmatch, list_folder(folder)))
    if found and not overwrite:
        raise exists_already(folder / found[0])
    return found


def _samples(patches: Any, variables: Sequence[str], shuffle: bool) -> Iterator[tuple[int, dict[str, bytes]]]:
    table = patches.table
    for numbers, arrays in patches.batches(64, shuffle=shuffle, labelled=False):
        for k, number in enumerate(numbers):
            row = {str(c): _json(table[c].iloc[int(number)]) for c in table.columns}
            members = {f"{v}.npy": _npy(arrays[v][k]) for v in variables}
            yield int(number), {**members, "json": json.dumps(row, ensure_ascii=False).encode()}


def _json(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, number: int, members: dict[str, bytes]) -> None:
    for name, content in members.items():
        info = tarfile.TarInfo(f"{number:09d}.{name}")
        info.size, info.mode = len(content), 0o644
        archive.addfile(info, io.BytesIO(content))
