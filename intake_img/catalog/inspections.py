"""What a scan sees of single files, one after another, in threads, or in tasks of dask."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

from intake_img.catalog.facts import facts_of, facts_of_image, is_consistent
from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle
from intake_img.formats.format_source import FormatSource
from intake_img.formats.registry import bridges, find_format, formats
from intake_img.formats.source import ImageSource
from intake_img.model.engine import Engine, current_client, in_tasks
from intake_img.storage.files import File

__all__ = [
    "Inspection",
    "SimilarFiles",
    "default_workers",
    "in_threads",
    "inspect_file",
    "inspect_files",
    "reason",
    "source_of",
]

Result = TypeVar("Result")
_BATCH = 64  # files of a task
_REMOTE_WORKERS = 16
_MISSES = 3


@dataclass(frozen=True)
class Inspection:
    """What was seen of a file.

    Attributes
    ----------
    driver : str
        Name of the driver that reads it; empty if none does.
    facts : mapping
        As `intake_img.catalog.facts.facts_of` returns them.
    fault : str
        Why it is left out.
    unknown : bool
        It is left out because it is not an image, although its name suggests one.
    passing : bool
        The next time it may be read, although it is the same: a server failed, or an extra is missing.
    """

    driver: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    unknown: bool = False
    passing: bool = False


class SimilarFiles:
    """Files whose headers were read, one for each folder and extension: others like it need not be parsed.

    Where three files follow each other of which none is like the one before, no further ones are compared.
    """

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], tuple[Handle, Inspection]] = {}
        self._missed: dict[tuple[str, str], int] = {}

    def seen(self, file: File) -> Inspection | None:
        """Return what was seen of a file that differs from this one in its pixels alone."""
        if (model := self._models.get(_kind(file))) is None:
            return None
        with contextlib.suppress(Exception):  # what is wrong is for the parser to say
            if (other := model[0].reuse_for(file)) is not None:
                other.close()
                self._missed.pop(_kind(file), None)
                return model[1]
        self._missed[_kind(file)] = self._missed.get(_kind(file), 0) + 1
        return None

    def add(self, file: File, handle: Handle, seen: Inspection) -> None:
        """Note an open file whose header was read, if its format can find out which others are like it."""
        kind = _kind(file)
        if not file.local or self._missed.get(kind, 0) >= _MISSES:
            self._models.pop(kind, None)
        elif (
            type(handle).reuse_for is Handle.reuse_for or (alike := handle.reuse_for(file)) is None
        ):  # it is compared later
            self._missed[kind] = _MISSES
        else:
            alike.close()
            self._models[kind] = handle, seen


def _kind(file: File) -> tuple[str, str]:
    folder, name = os.path.split(file.path)
    return folder, os.path.splitext(name)[1]


def inspect_file(file: File, similar: SimilarFiles) -> Inspection:
    """Read the header of a file. Whatever fails, the other files are inspected."""
    if (known := similar.seen(file)) is not None:
        return known
    try:
        file.name.encode()
        source = _model(find_format(file)).beside(file)
    except UnicodeEncodeError:
        return Inspection(fault="its name is not UTF-8, which a catalog cannot store: rename the file")
    except Exception as exc:
        unknown = "." not in file.name and isinstance(exc, FormatError)
        return Inspection(fault=reason(exc, file.path), unknown=unknown, passing=not isinstance(exc, FormatError))
    try:
        return _seen(source, similar)
    except Exception as exc:
        return Inspection(fault=reason(exc, file.path), passing=not isinstance(exc, FormatError))


@cache
def _model(format: Format) -> FormatSource:
    """Return a source without options; those of other files are made like it."""
    return format.source(File(os.devnull))


def _seen(source: FormatSource, similar: SimilarFiles) -> Inspection:
    with source.glanced() as (handle, image):
        if is_consistent(image):
            seen = Inspection(source.name, facts_of_image(image))
            similar.add(source.file, handle, seen)
            return seen
    try:
        return Inspection(source.name, facts_of(source))  # says what is wrong
    finally:
        source.close()


def source_of(found: Inspection, file: File) -> ImageSource:
    """Return the source of a file that was seen."""
    return (formats().get(found.driver) or bridges()[found.driver]).source(file)


def default_workers(file: File) -> int:
    """Return how many files are inspected at a time: of a server, more than there are processors."""
    return min(os.cpu_count() or 1, 8) if file.local else _REMOTE_WORKERS


def inspect_files(files: Sequence[File], workers: int, engine: Engine | None) -> Iterator[Inspection]:
    """Inspect files; yield the results in their order.

    Parameters
    ----------
    files : sequence of File
    workers : int
        Number of threads, each with some files at a time.
    engine : "threads" or "dask", optional
        ``"dask"`` inspects in tasks on the workers of the client; the default if there is one.
    """
    batches = [files[k : k + _BATCH] for k in range(0, len(files), _BATCH)]
    if in_tasks(engine) and (client := current_client()) is not None:
        for future in client.map(_inspect_all, batches, pure=False):
            yield from future.result()
    else:
        yield from in_threads(partial(inspect_file, similar=SimilarFiles()), files, workers)


def in_threads(work: Callable[[Any], Result], items: Sequence[Any], workers: int) -> Iterator[Result]:
    """Give what a function returns for each item, in their order; some are worked at at a time."""
    if workers == 1 or len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(work, item) for item in items]
        try:
            for future in waiting:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _inspect_all(files: Sequence[File]) -> list[Inspection]:
    similar = SimilarFiles()
    return [inspect_file(file, similar) for file in files]


def reason(exc: BaseException, path: str) -> str:
    """Return in a line why a file is left out."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    if isinstance(exc, OSError) and exc.strerror:
        text = exc.strerror
    if not text.startswith(f"{path}/"):  # a file in it has its own name
        text = text.removeprefix(path).removeprefix(":").strip()
    return text if len(text) <= 200 else text[:199] + "…"
