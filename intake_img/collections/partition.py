"""One image into many files: which file holds what, and what each is called.

How the files are staged, appear together and take the place of older ones: see `storage.staging`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from intake_img.collections.listing import find_parts, list_folder
from intake_img.collections.names import format_labels, member_name
from intake_img.errors import AxesError, CannotWriteError, TargetExistsError
from intake_img.formats.source import ImageSource
from intake_img.model.axes import canonical_order, check_axes, spell
from intake_img.model.chunks import regions_of, split
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.machine import cpus
from intake_img.model.pixels import Pixels
from intake_img.model.record import coordinate_record
from intake_img.storage.files import File
from intake_img.storage.staging import Staging, begin
from intake_img.storage.streams import Once

__all__ = [
    "Member",
    "Plan",
    "file_blocks",
    "make_members",
    "make_plan",
    "series_interrupted",
    "series_target",
    "write_members",
]

_BLOCK_BYTES = 2**27  # files whose source chunks are larger together come through a file
_SLAB_BYTES = 2**24  # smaller files are made by so many bytes at once


@dataclass(frozen=True)
class Member:
    """One file of a plan: its name, the variable in it, and its place along the axes that are not in the file."""

    name: str
    variable: str
    place: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What goes into which file.

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


def make_plan(image: Image, cls: type[ImageSource], stem: str, extension: str, partition: Any = None) -> Plan | None:
    """Return which files an image needs; None if it is one file.

    Parameters
    ----------
    image : Image
    cls : type
        The driver that will write.
    stem, extension : str
        The target's name in two.
    partition : str or sequence of str, optional
        Exactly the axes that each file holds, in this order; by default as many as the format can hold.

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
                f"{spell(tuple(image.sizes))!r}: expected the axes that each file is to hold"
            )
    kept: dict[str, tuple[str, ...]] = {}
    files: dict[str, tuple[str, ...]] = {}
    for name, v in image.variables.items():
        held: Sequence[str] | None = wanted if partition is not None else None
        if partition is None:
            held = cls.file_axes(v, image.channels, stem + extension)
        kept[name] = tuple(a for a in held if a in v.axes) if partition is not None and held is not None else tuple(
            a for a in v.axes if held is None or a in held
        )  # fmt: skip
        files[name] = canonical_order([a for a in v.axes if a not in kept[name]])
    several = len(image.variables) > 1 and (not cls.many_variables(stem + extension) or any(files.values()))
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
    if not members:  # no pixel: one file says so, or refuses
        return None
    if longest := next((m.name for m in members if len(os.fsencode(m.name)) > 240), None):
        raise CannotWriteError(f"the file name {longest!r} is too long: choose a shorter name or fewer axes of files")
    return Plan(members, files, kept)


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


def member_image(image: Image, plan: Plan, member: Member, pixels: Pixels) -> Image:
    """Return what one file holds: its pixels, with the kept axes, and what it knows of them and of the whole."""
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


Make = Callable[[Image, Staging, str], None]


def write_members(
    image: Image,
    plan: Plan,
    target: File,
    make: Make,
    *,
    overwrite: bool = False,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    extension: str = "",
) -> list[str]:
    """Write all files of a plan beside `target`; they appear under their names when all are complete.

    Parameters
    ----------
    image : Image
    plan : Plan
    target : File
        The name of the image as a whole.
    make : callable
        ``make(image, staging, name)`` makes one member, and what belongs beside it before.
    overwrite : bool
        Replace files of an earlier write, all of them.
    resume : bool
        Finish an interrupted write of the same image; files that are complete are not made again.
    settings : mapping, optional
        What else determines the bytes (compression, options): a resumed write must have the same.
    extension : str
        Extension of the files.

    Returns
    -------
    list of str
        The paths of the files, in the order of the plan.

    Raises
    ------
    TargetExistsError
        If there are files of an earlier write, or of an interrupted one, and neither `overwrite` nor `resume` is given.
    CannotWriteError
        If the interrupted write was of another image or with other settings.
    """
    stem = target.name[: len(target.name) - len(extension)]

    def claim(names: Sequence[str]) -> list[str]:
        return _superseded(target, stem, extension, names, overwrite)

    token = _token(image, plan, settings or {})
    wanted = [m.name for m in plan.members]
    with begin(target, overwrite=overwrite, resume=resume, token=token, claim=claim) as staging:
        made: Sequence[str] = staging.completed
        if not made:
            if staging.noted is None:
                staging.note({})
            make_members(image, plan, staging, make)
            made = sorted(staging.finished())
            staging.commit(made)
    return [str(target.sibling(name)) for name in dict.fromkeys([*wanted, *made])]


def _superseded(target: File, stem: str, extension: str, names: Sequence[str], overwrite: bool) -> list[str]:
    """Return the names of the parts of an earlier image, and of what lies beside them, or refuse to replace them."""
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
    described = {f"{n}.json" for n in old} & there if any(n.endswith(".json") for n in names) else set()
    return sorted(old | described)


def series_target(folder: File, prefix: str, extension: str) -> File:
    """Return the name under which a series of images in `folder` is staged and committed."""
    return folder / f"{prefix}-NNNNN{extension}"


def series_interrupted(folder: File) -> bool:
    """Return whether the first write of a series into a folder was interrupted: nothing else is there."""
    names = list_folder(folder)
    return all(n.startswith(".") for n in names) and any(map(_SERIES.fullmatch, names))


_SERIES = re.compile(r"\..+-NNNNN\..*\.partial")


def make_members(image: Image, plan: Plan, staging: Staging, make: Make) -> None:
    """Make the members of a plan that are not made yet, several at a time; each chunk of the source is read once."""
    finished = staging.finished()
    jobs: list[tuple[Pixels, list[Member], tuple[slice, ...]]] = []
    for name, v in image.variables.items():
        axes, kept = plan.file_axes[name], plan.kept_axes[name]
        pixels = v.pixels.transpose([v.axes.index(a) for a in (*axes, *kept)])
        members = {m.place: m for m in plan.members if m.variable == name}
        blocks = file_blocks(pixels, len(axes), min(_SLAB_BYTES, pixels.nbytes // (4 * cpus())))
        for region in regions_of(blocks):
            inside = [members[p] for p in product(*(range(s.start, s.stop) for s in region))]
            if any(m.name not in finished for m in inside):
                jobs.append((pixels, [m for m in inside if m.name not in finished], region))
    failed = threading.Event()

    def run(job: tuple[Pixels, list[Member], tuple[slice, ...]]) -> None:
        pixels, members, region = job
        if failed.is_set():
            return
        try:
            whole = [slice(None)] * (pixels.ndim - len(region))
            with _at_hand(pixels.select([*region, *whole]), len(region), staging.folder) as block:
                for m in members:
                    at = tuple(p - s.start for p, s in zip(m.place, region, strict=True))
                    part = block[at] if isinstance(block, np.ndarray) else block.select([*at, *whole])
                    if isinstance(part, Pixels):
                        part = part.reshape(range(len(at), part.ndim))
                    make(member_image(image, plan, m, Pixels.of(part)), staging, m.name)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(min(cpus(), max(1, len(jobs))), thread_name_prefix="intake_img-write") as pool:
        for _ in pool.map(run, jobs):
            pass


@contextlib.contextmanager
def _at_hand(block: Pixels, n: int, staging: File) -> Iterator[Pixels | np.ndarray]:
    """Lend the pixels of several files so that taking one after the other reads no chunk of the source twice."""
    chunk = math.prod(block.tiles) * block.dtype.itemsize
    if block.in_memory or math.prod(block.shape[:n]) == 1:
        yield block
    elif block.nbytes <= max(_BLOCK_BYTES, 2 * chunk):
        yield block.read()
    else:
        once = Once(block, os.path.abspath(staging.path) if staging.local else None, _BLOCK_BYTES)
        with contextlib.closing(once):
            yield replace(block, reader=once)


def file_blocks(pixels: Pixels, n: int, least: int = 0) -> tuple[tuple[int, ...], ...]:
    """Chunks along the first `n` axes: as many files as one chunk of the source spans, and `least` bytes at least."""
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


def _token(image: Image, plan: Plan, settings: Mapping[str, Any]) -> str:
    facts = [
        {n: [v.axes, v.pixels.shape, v.pixels.dtype.str] for n, v in image.variables.items()},
        {n: coordinate_record(c) for n, c in image.coords.items()},
        [m.name for m in plan.members],
        {k: repr(v) for k, v in settings.items()},
    ]
    return hashlib.blake2b(json.dumps(facts, default=str, sort_keys=True).encode(), digest_size=16).hexdigest()
