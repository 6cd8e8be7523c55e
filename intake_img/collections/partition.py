"""Partition of one image into many files: the contents and the name of each file.

See `storage.staging` for the staging and the atomic replacement of the files.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from intake_img.collections.file_names import format_labels, member_name
from intake_img.collections.listing import find_parts, list_folder
from intake_img.collections.resumption import Check, token_of
from intake_img.errors import AxesError, CannotWriteError, TargetExistsError
from intake_img.formats.base import Format
from intake_img.model.axes import canonical_order, check_axes, spell
from intake_img.model.blocks import blocks_of, is_computed
from intake_img.model.chunks import Region, regions_of, split
from intake_img.model.engine import Tasks
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.machine import cpus
from intake_img.model.pixels import Pixels
from intake_img.model.record import coordinate_record
from intake_img.storage.files import File
from intake_img.storage.shared import SharedFolder
from intake_img.storage.staging import Staging, begin
from intake_img.storage.streams import Once

__all__ = [
    "FilePlan",
    "Member",
    "file_blocks",
    "make_members",
    "make_plan",
    "series_interrupted",
    "series_target",
    "write_members",
]

_BLOCK_BYTES = 2**27  # source chunks of more bytes together pass through a temporary file
_SLAB_BYTES = 2**24  # small files are written in groups of this many bytes


@dataclass(frozen=True)
class Member:
    """One file of a plan: its name, its variable, and its indices along the axes that are not in the file."""

    name: str
    variable: str
    place: tuple[int, ...]


@dataclass(frozen=True)
class FilePlan:
    """The assignment of an image to files.

    Parameters
    ----------
    members : sequence of Member
    file_axes : mapping of str to tuple of str
        For each variable the axes along which there are files.
    kept_axes : mapping of str to tuple of str
        For each variable the axes in each file, in their order there.
    """

    members: Sequence[Member]
    file_axes: Mapping[str, tuple[str, ...]]
    kept_axes: Mapping[str, tuple[str, ...]]


def make_plan(image: Image, format: Format, stem: str, extension: str, partition: Any = None) -> FilePlan | None:
    """Return the files of an image; None if it is one file.

    Parameters
    ----------
    image : Image
    format : Format
        The format of the files.
    stem, extension : str
        The two parts of the target's name.
    partition : str or sequence of str, optional
        The axes of each file, in this order; by default as many as the format can hold.

    Raises
    ------
    AxesError
        If `partition` names an axis that no variable has.
    CannotWriteError
        If labels along an axis of files repeat, or a name would be too long.
    """
    if partition is not None:
        wanted = check_axes(partition)
        if unknown := [a for a in wanted if a not in image.sizes]:
            raise AxesError(
                f"partition={spell(wanted)!r} names the axis {unknown[0]!r}, but the image has "
                f"{spell(tuple(image.sizes))!r}: expected the axes that each file contains"
            )
    kept: dict[str, tuple[str, ...]] = {}
    files: dict[str, tuple[str, ...]] = {}
    for name, v in image.variables.items():
        held: Sequence[str] | None = wanted if partition is not None else None
        if partition is None:
            held = format.file_axes(v, image.channels, stem + extension)
        kept[name] = (
            tuple(a for a in held if a in v.axes)
            if partition is not None and held is not None
            else tuple(a for a in v.axes if held is None or a in held)
        )
        files[name] = canonical_order([a for a in v.axes if a not in kept[name]])
    several = len(image.variables) > 1 and (not format.many_variables(stem + extension) or any(files.values()))
    if not several and not any(files.values()):
        return None
    labels = {a: _labels(image, a) for a in {a for axes in files.values() for a in axes}}
    members = []
    for name, axes in files.items():
        for place in product(*(range(image.sizes[a]) for a in axes)):
            parts = {a: labels[a][k] for a, k in zip(axes, place, strict=True)}
            if several:
                parts = {"var": format_labels([name])[0], **parts}
            members.append(Member(member_name(stem, extension, parts), name, place))
    if not members:  # an empty image is one file, or an error
        return None
    if longest := next((m.name for m in members if len(os.fsencode(m.name)) > 240), None):
        raise CannotWriteError(f"the file name {longest!r} is too long: choose a shorter name or fewer axes of files")
    return FilePlan(members, files, kept)


def _labels(image: Image, axis: str) -> list[str]:
    c = image.coords.get(axis)
    values: Any = c.values if c is not None and c.axes == (axis,) else range(image.sizes[axis])
    labels = format_labels(values)
    if len(set(map(str.casefold, labels))) < len(labels):
        raise CannotWriteError(
            f"the coordinate {axis!r} repeats a label, or has labels that differ by case alone, so that files cannot "
            f"be told apart by it: {labels[:8]}; assign another coordinate, or keep {axis!r} in the files (partition=)"
        )
    return labels


def member_image(image: Image, plan: FilePlan, member: Member, pixels: Pixels) -> Image:
    """Return the image of one file: its pixels, with the kept axes, its metadata, and a record of the complete
    image."""
    axes = plan.file_axes[member.variable]
    kept = plan.kept_axes[member.variable]
    at = dict(zip(axes, member.place, strict=True))
    coords: dict[str, Coordinate] = {}
    spread: dict[str, Any] = {}
    for name, c in image.coords.items():
        if not set(c.axes) & set(axes):
            coords[name] = c
            continue
        spread[name] = coordinate_record(c)
        rest = tuple(a for a in c.axes if a not in at)
        index = tuple(at.get(a, slice(None)) for a in c.axes)
        coords[name] = Coordinate(rest, np.asarray(c.values[index]), c.attrs)
    facts = {
        "axes": list(axes),
        "order": list(image.variables[member.variable].axes),
        "shape": [image.sizes[a] for a in axes],
        "place": list(member.place),
        "variable": member.variable,
        "variables": list(image.variables),
        "coords": spread,
    }
    variable = Variable(pixels, kept, image.variables[member.variable].attrs)
    only: dict[str, Any] = {
        k: {a: v for a, v in getattr(image, k).items() if a in kept} for k in ("spacing", "units", "origin")
    }
    header = image.header if member is plan.members[0] else {}
    channels = {n: c for n, c in coords.items() if set(c.axes) <= set(kept)}
    return replace(
        image, variables={member.variable: variable}, coords=channels, header=header, partition=facts, **only
    )


Make = Callable[[Image, Staging | SharedFolder, str], None]


def write_members(
    image: Image,
    plan: FilePlan,
    target: File,
    make: Make,
    *,
    overwrite: bool = False,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    extension: str = "",
    done: Callable[[int], None] | None = None,
    compute: bool = True,
    check: Check | None = None,
) -> Any:
    """Write all files of a plan beside `target`; they appear together when all are complete.

    Parameters
    ----------
    image : Image
    plan : FilePlan
    target : File
        The name of the complete image.
    make : callable
        ``make(image, staging, name)`` writes one file, and before it its companion files.
    overwrite : bool
        Replace all files of an earlier write.
    resume : bool
        Finish an interrupted write of the same image; complete files are not written again.
    settings : mapping, optional
        Further settings that determine the bytes (compression, options): they must be equal in a resumed write.
    extension : str
        Extension of the files.
    done : callable, optional
        Write the files in dask tasks, and call this with the number of written bytes of each; `make` must be picklable.
    compute : bool
        False: return the tasks, and the commit after them, without running them.
    check : callable, optional
        Called with the part of the image for, and the location of, a complete file of an interrupted write.

    Returns
    -------
    list of str, or dask.delayed.Delayed of it
        The paths of the files, in the order of the plan.

    Raises
    ------
    TargetExistsError
        If files of an earlier or interrupted write exist, and neither `overwrite` nor `resume` is given.
    CannotWriteError
        If the interrupted write has another image or other settings.
    """
    stem = target.name[: len(target.name) - len(extension)]

    claim = partial(_superseded, target, stem, extension, overwrite)
    token = token_of(image, [m.name for m in plan.members], settings or {})
    wanted = [m.name for m in plan.members]
    start = partial(begin, target, overwrite=overwrite, token=token, claim=claim)
    with start(resume=resume) as staging:
        made: Sequence[str] = staging.completed
        if not made:
            if staging.noted is None:
                staging.note({})
            elif check is not None:
                _check_finished(image, plan, staging, check)
            if not compute:
                tasks = member_tasks(image, plan, staging, make)
                staging.keep()
                return tasks.gathered(f"save-{target.name}", partial(_commit_later, start, target, wanted))
            if done is not None:
                member_tasks(image, plan, staging, make).run(done)
            else:
                make_members(image, plan, staging, make)
            made = _committed(staging)
    return _paths(target, wanted, made)


def _check_finished(image: Image, plan: FilePlan, staging: Staging, check: Check) -> None:
    """Compare the first complete file of an earlier run with the image; the token does not depend on the pixels."""
    finished = staging.finished()
    for m in [m for m in plan.members if m.name in finished][:1]:
        pixels, n = _turned(image, plan, m.variable), len(m.place)
        part = pixels.select([*m.place, *[slice(None)] * (pixels.ndim - n)]).reshape(range(n, pixels.ndim))
        check(member_image(image, plan, m, part), staging.folder / m.name)


def _committed(staging: Staging) -> list[str]:
    made = sorted(staging.finished())
    staging.commit(made)
    return made


def _commit_later(start: Callable[..., Staging], target: File, wanted: Sequence[str], _: Any) -> list[str]:
    with start(resume=True) as staging:
        return _paths(target, wanted, staging.completed or _committed(staging))


def _paths(target: File, wanted: Sequence[str], made: Sequence[str]) -> list[str]:
    return [str(target.sibling(name)) for name in dict.fromkeys([*wanted, *made])]


def _superseded(target: File, stem: str, extension: str, overwrite: bool, names: Sequence[str]) -> list[str]:
    """Return the names of the files of an earlier image, and of their companions, or raise an error if they must not be
    replaced."""
    there = set(list_folder(target.parent))
    old = {p.rsplit("/", 1)[-1] for listing in find_parts(target, stem, extension) for p in listing.paths}
    if target.name in there:
        old.add(target.name)
    if old and not overwrite:
        shown = ", ".join(sorted(old)[:3])
        raise TargetExistsError(
            f"{target} exists already ({shown}{', …' if len(old) > 3 else ''}): choose another name, or pass "
            "overwrite=True to replace it"
        )
    stems = [n[: -len(extension)] for n in names if n.endswith(extension)]
    endings = {n[len(s) :] for s in stems[:1] for n in names if n.startswith(f"{s}.") and not n.endswith(extension)}
    return sorted(old | {n[: -len(extension)] + ending for n in old for ending in endings} & there)


def series_target(folder: File, prefix: str, extension: str) -> File:
    """Return the name under which a series of images in `folder` is staged and committed."""
    return folder / f"{prefix}-NNNNN{extension}"


def series_interrupted(folder: File) -> bool:
    """Return whether the first write of a series into a folder was interrupted, so that the folder has nothing else."""
    names = list_folder(folder)
    return all(n.startswith(".") for n in names) and any(map(_SERIES.fullmatch, names))


_SERIES = re.compile(r"\..+-NNNNN\..*\.partial")


@dataclass(frozen=True)
class _FileGroup:
    """Files that are written together, since they share chunks of the source."""

    pixels: Pixels
    members: Sequence[Member]
    region: Region

    def run(self, make_one: Callable[[Member, Pixels], None], folder: str | None) -> None:
        whole = [slice(None)] * (self.pixels.ndim - len(self.region))
        with _at_hand(self.pixels.select([*self.region, *whole]), len(self.region), folder) as block:
            for m in self.members:
                at = tuple(p - s.start for p, s in zip(m.place, self.region, strict=True))
                part = block[at] if isinstance(block, np.ndarray) else block.select([*at, *whole])
                if isinstance(part, Pixels):
                    part = part.reshape(range(len(at), part.ndim))
                make_one(m, Pixels.of(part))


def _turned(image: Image, plan: FilePlan, name: str) -> Pixels:
    """Return the pixels of a variable with the axes of files first, then the axes within each file."""
    v = image.variables[name]
    return v.pixels.transpose([v.axes.index(a) for a in (*plan.file_axes[name], *plan.kept_axes[name])])


def _jobs(image: Image, plan: FilePlan, name: str, finished: Container[str]) -> Iterator[_FileGroup]:
    """Yield the groups of files of a variable."""
    pixels, n = _turned(image, plan, name), len(plan.file_axes[name])
    members = {m.place: m for m in plan.members if m.variable == name}
    for region in regions_of(file_blocks(pixels, n, min(_SLAB_BYTES, pixels.nbytes // (4 * cpus())))):
        inside = [members[p] for p in product(*(range(s.start, s.stop) for s in region))]
        if left := [m for m in inside if m.name not in finished]:
            yield _FileGroup(pixels, left, region)


def make_members(
    image: Image, plan: FilePlan, staging: Staging, make: Make, names: Sequence[str] | None = None
) -> None:
    """Write the missing files of a plan, several at a time; each chunk of the source is read once.

    Parameters
    ----------
    image : Image
    plan : FilePlan
    staging : Staging
    make : callable
        See `write_members`.
    names : sequence of str, optional
        Variables; by default all.
    """
    finished = staging.finished()
    jobs = [job for name in (image.variables if names is None else names) for job in _jobs(image, plan, name, finished)]
    failed = threading.Event()

    def make_one(m: Member, pixels: Pixels) -> None:
        make(member_image(image, plan, m, pixels), staging, m.name)

    def run(job: _FileGroup) -> None:
        if failed.is_set():
            return
        try:
            job.run(make_one, os.path.abspath(staging.folder.path) if staging.folder.local else None)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(min(cpus(), max(1, len(jobs))), thread_name_prefix="intake_img-write") as pool:
        for _ in pool.map(run, jobs):
            pass


def member_tasks(image: Image, plan: FilePlan, staging: Staging, make: Make) -> Tasks:
    """Return the tasks that write the files of a plan, one per file; files of pixels in memory are written now.

    If several files share a chunk of a source file, one task writes them, so that the chunk is read once. Chunks that
    dask computes are computed once, and passed to the tasks of the files.
    """
    tasks, shared, finished = Tasks(), SharedFolder(staging.folder), staging.finished()
    local = [n for n, v in image.variables.items() if v.pixels.in_memory]
    make_members(image, plan, staging, make, local)
    for name in image.variables:
        if name in local:
            continue
        pixels = _turned(image, plan, name)
        if not is_computed(pixels):
            jobs = enumerate(_jobs(image, plan, name, finished))
            runs = {(k,): partial(_run_job, job, _Maker.of(image, plan, job, make, shared)) for k, job in jobs}
            tasks.add(f"write-{name}", {k: (run, []) for k, run in runs.items()})
            continue
        n = len(plan.file_axes[name])
        (source,) = blocks_of([(pixels, [1] * n + [max(1, k) for k in pixels.shape[n:]])])
        part = _unread_part(pixels, n)
        members = [m for m in plan.members if m.variable == name and m.name not in finished]
        rest = (0,) * (pixels.ndim - n)
        tasks.add(
            f"write-{name}",
            {
                m.place: (
                    partial(_make_computed, make, shared, member_image(image, plan, m, part), m.name),
                    (source.name, *m.place, *rest),
                )
                for m in members
            },
            source,
        )
    return tasks


@dataclass(frozen=True)
class _Maker:
    """Writes the files of a job in another process: it has everything except their pixels."""

    images: Mapping[str, Image]
    make: Make
    shared: SharedFolder

    @classmethod
    def of(cls, image: Image, plan: FilePlan, job: _FileGroup, make: Make, shared: SharedFolder) -> _Maker:
        part = _unread_part(job.pixels, len(job.region))
        return cls({m.name: member_image(image, plan, m, part) for m in job.members}, make, shared)

    def __call__(self, m: Member, pixels: Pixels) -> None:
        self.make(_with_pixels(self.images[m.name], pixels), self.shared, m.name)


def _unread_part(pixels: Pixels, n: int) -> Pixels:
    """Return the pixels of one file of `pixels`, whose first `n` axes number the files, without a reader."""
    nothing: Any = None
    part = pixels.select([slice(0, 1)] * n + [slice(None)] * (pixels.ndim - n)).reshape(range(n, pixels.ndim))
    return replace(part, reader=nothing)


def _with_pixels(image: Image, pixels: Pixels) -> Image:
    return replace(image, variables={n: replace(v, pixels=pixels) for n, v in image.variables.items()})


def _run_job(job: _FileGroup, maker: _Maker, _: Any) -> int:
    job.run(maker, maker.shared.folder.path if maker.shared.folder.local else None)
    return job.pixels.nbytes // max(1, math.prod(job.pixels.shape[: len(job.region)])) * len(job.members)


def _make_computed(make: Make, shared: SharedFolder, image: Image, name: str, data: Any) -> int:
    (variable,) = image.variables.values()
    pixels = Pixels.of(np.asarray(data).reshape(variable.pixels.shape))
    make(_with_pixels(image, pixels), shared, name)
    return pixels.nbytes


@contextlib.contextmanager
def _at_hand(block: Pixels, n: int, folder: str | None) -> Iterator[Pixels | np.ndarray]:
    """Yield the pixels of several files such that reading one file after the other reads each source chunk once."""
    chunk = math.prod(block.tiles) * block.dtype.itemsize
    if block.in_memory or math.prod(block.shape[:n]) == 1:
        yield block
    elif block.nbytes <= max(_BLOCK_BYTES, 2 * chunk):
        yield block.read()
    else:
        once = Once(block, folder, _BLOCK_BYTES)
        with contextlib.closing(once):
            yield replace(block, reader=once)


def file_blocks(pixels: Pixels, n: int, least: int = 0) -> tuple[tuple[int, ...], ...]:
    """Chunks along the first `n` axes: as many files as one chunk of the source spans, and at least `least` bytes."""
    if pixels.in_memory:
        return tuple((1,) * size or (0,) for size in pixels.shape[:n])
    lengths = list(pixels.tiles[:n])
    held = max(1, math.prod(lengths) * math.prod(pixels.shape[n:]) * pixels.dtype.itemsize)
    for k in reversed(range(n)):
        longer = min(pixels.shape[k], lengths[k] * max(1, least // held))
        held, lengths[k] = held // lengths[k] * longer, longer
        if longer < pixels.shape[k]:
            break
    return tuple(split(pixels.edges(k), length) or (0,) for k, length in enumerate(lengths))
