"""Tar files of samples for the package `webdataset`, which is not needed for writing.

A sample is the files ``<number>.<variable>.npy`` and ``<number>.json``.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from intake_img.collections.listing import list_folder
from intake_img.storage.files import File
from intake_img.storage.staged import exists_already
from intake_img.storage.staging import begin

__all__ = ["write_shards"]


def write_shards(
    patches: Any,
    pattern: Any,
    samples: int,
    variables: Sequence[str],
    shuffle: bool,
    overwrite: bool,
    step: Callable[[int], Any],
) -> list[str]:
    """Write patches into tar files; `step` is called for each patch. See `Loaders.to_webdataset`."""
    text = os.fspath(pattern)
    place = re.compile(r"%0?\d*d")
    if len(place.findall(text)) != 1 or text.count("%") != 1:
        raise ValueError(f"pattern={text!r}: expected one place for the number of the file, e.g. 'train-%06d.tar'")
    whole = File.parse(text % 0).sibling(os.path.basename(text))
    if "%" not in whole.name:
        raise ValueError(f"pattern={text!r}: the number is in a folder; expected it in the name of the file")
    if bad := [v for v in variables if not re.fullmatch(r"[\w-]+", v)]:
        raise ValueError(f"the variable {bad[0]!r} cannot be part of a sample's name: rename it (ds.rename)")
    names = [whole.name % k for k in range(-(-len(patches) // samples))]
    fits = re.compile(r"\d+".join(map(re.escape, place.split(whole.name))))
    earlier = partial(_shards, whole.parent, fits, overwrite)
    rows = _samples(patches, variables, shuffle)
    with begin(whole, overwrite=overwrite, claim=earlier) as staging:
        for k, name in enumerate(names):
            with staging.member(name) as path, tarfile.open(path, "w") as archive:
                for _ in range(min(samples, len(patches) - k * samples)):
                    _add(archive, *next(rows))
                    step(1)
        return staging.commit()


def _shards(folder: File, fits: re.Pattern[str], overwrite: bool, _: Sequence[str]) -> list[str]:
    """Return the files of an earlier set of the same pattern; raise an error without `overwrite`."""
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
