"""Writing one image into one chunked store with dask tasks: creation of its folder, and commit."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from intake_img.errors import CannotWriteError
from intake_img.formats.base import Format
from intake_img.model.engine import Tasks
from intake_img.model.image import Image
from intake_img.storage.files import File
from intake_img.storage.staging import begin

__all__ = ["extend_store", "write_store"]

Finish = Callable[[Sequence[Any]], None]


def write_store(
    start: Callable[[File], tuple[Tasks, Finish]],
    target: File,
    *,
    overwrite: bool,
    done: Callable[[int], None],
    compute: bool = True,
) -> Any:
    """Write a store in dask tasks; it appears when its metadata are written, after all chunks.

    Parameters
    ----------
    start : callable
        ``start(folder)`` creates the empty arrays, and returns the tasks that fill them and the function that completes
        the store with their results.
    target : File
    overwrite : bool
    done : callable
        Called with the bytes of each written block.
    compute : bool
        False: return a `dask.delayed.Delayed` of the remaining work.

    Returns
    -------
    list of str, or dask.delayed.Delayed of it
        The store.
    """
    token = "" if compute else uuid.uuid4().hex
    with begin(target, overwrite=overwrite, token=token) as staging:
        tasks, finish = start(staging.place(target.name))
        if not compute:
            staging.note({})
            staging.keep()
            return tasks.gathered(f"save-{target.name}", partial(_commit, target, overwrite, token, finish))
        finish(tasks.run(lambda block: done(block.nbytes)))
        return staging.commit([target.name])


def extend_store(
    format: Format,
    image: Image,
    target: File,
    append_dim: str | None,
    region: Any,
    step: Callable[[int], None] | None,
    parallel: bool,
) -> list[str]:
    """Write an image into an existing store; see `Format.extend`.

    Raises
    ------
    CannotWriteError
        If the format does not support this, or the image does not fit.
    FileNotFoundError
        If there is no store.
    TargetExistsError
        If another process of this machine is writing it.
    """
    if not (format.extends and format.folder) or target.name.lower().endswith((".zip", ".ozx")):
        asked = f"append_dim={append_dim!r}" if append_dim is not None else f"region={region!r}"
        raise CannotWriteError(
            f"{target.name}: {asked} is for folders of OME-Zarr; {format.title} is always written completely"
        )
    if not target.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no store with this region; save one first", str(target))
    with begin(target, claim=lambda _: ()):  # one writer at a time
        format.extend(image, target, append_dim=append_dim, region=region, progress=step, parallel=parallel)
    return [str(target)]


def _commit(target: File, overwrite: bool, token: str, finish: Finish, written: Sequence[Any]) -> list[str]:
    """Complete and commit a store that another process has begun."""
    with begin(target, overwrite=overwrite, resume=True, token=token) as staging:
        if not staging.completed and staging.noted is None:
            raise CannotWriteError(f"the delayed write of {target} was removed, or done, by another one: save it again")
        if not staging.completed:
            finish(written)
            staging.commit([target.name])
    return [str(target)]
