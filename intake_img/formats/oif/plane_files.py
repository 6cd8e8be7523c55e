"""The TIFF file of each plane: ``s_C001Z002.tif`` is channel 1, slice 2."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Handle, PlaneArray
from intake_img.formats.cut_off import leading_part

__all__ = ["Group", "PlaneFiles", "decoded", "described", "groups_of", "leading"]

_NAME = re.compile(r"s_((?:[A-Z]\d+)+)(-R\d+)?\.tif", re.IGNORECASE)
_AXIS = re.compile(r"([A-Z])(\d+)")


@dataclass(frozen=True)
class Group:
    """Planes of one image: letters of their axes, numbers along each, and the file of each plane."""

    letters: str
    reference: bool
    numbers: tuple[tuple[int, ...], ...]
    files: dict[tuple[int, ...], str]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(n) for n in self.numbers)

    @property
    def missing(self) -> int:
        return math.prod(self.shape) - len(self.files)


def leading(group: Group) -> Group | None:
    """Return the planes before the first that is missing, in complete steps of the outermost axis; None without any.

    Planes are counted from 1.
    """
    shape = [min(max(known), len(group.files) + 1) for known in group.numbers]
    places = itertools.product(*(range(1, n + 1) for n in shape))
    held = next((k for k, place in enumerate(places) if place not in group.files), math.prod(shape))
    if not held:
        return None
    numbers = tuple(tuple(range(1, n + 1)) for n in leading_part(shape, held))
    return Group(group.letters, group.reference, numbers, {p: group.files[p] for p in itertools.product(*numbers)})


def groups_of(names: Iterable[str], order: str) -> list[Group]:
    """Return the images among the names of files, that of the acquisition first.

    Parameters
    ----------
    names : iterable of str
    order : str
        Letters of the axes, outermost first.
    """
    found: dict[tuple[bool, str], dict[tuple[int, ...], str]] = {}
    for name in names:
        if (match := _NAME.fullmatch(name)) is None:
            continue
        places = {letter: int(number) for letter, number in _AXIS.findall(match[1].upper())}
        letters = "".join(sorted(places, key=lambda a: order.find(a) if a in order else len(order)))
        key = (match[2] is not None, letters)
        found.setdefault(key, {})[tuple(places[a] for a in letters)] = name
    groups = [_group(letters, reference, files) for (reference, letters), files in found.items()]
    return sorted(groups, key=lambda g: (g.reference, -len(g.files)))


def _group(letters: str, reference: bool, files: dict[tuple[int, ...], str]) -> Group:
    numbers = tuple(tuple(sorted({place[k] for place in files})) for k in range(len(letters)))
    return Group(letters, reference, numbers, files)


class PlaneFiles(PlaneArray):
    """The pixels of a group; planes that are missing are 0.

    Parameters
    ----------
    group : Group
    store : StreamStore or FolderStore
    shape : tuple of int
        That of a plane.
    dtype : numpy.dtype
    handle : Handle
    address : int
    """

    def __init__(
        self, group: Group, store: Any, shape: tuple[int, ...], dtype: np.dtype, handle: Handle, address: int
    ) -> None:
        super().__init__((*group.shape, *shape), dtype, handle=handle, address=address)
        self.group, self.store = group, store

    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        place = tuple(numbers[k] for numbers, k in zip(self.group.numbers, index, strict=True))
        if (name := self.group.files.get(place)) is None:
            return np.zeros(self.shape[self.outer :], self.dtype)
        plane = decoded(self.store.read(name), name)
        if plane.shape != self.shape[self.outer :] or plane.dtype != self.dtype:
            raise FormatError(
                f"{name} contains {plane.shape} {plane.dtype}, but the first plane {self.shape[self.outer :]} "
                f"{self.dtype}"
            )
        return plane


def described(data: bytes, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and type of the pixels of a TIFF file of one plane."""
    with _page(data, name) as page:
        return page.shape, page.dtype.newbyteorder("=")


def decoded(data: bytes, name: str) -> np.ndarray:
    """Return the pixels of a TIFF file of one plane."""
    with _page(data, name) as page:
        pixels = page.asarray()
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def _page(data: bytes, name: str) -> Iterator[Any]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        page: Any = tif.pages[0]
        if page.dtype is None or page.nbytes > 64 * len(data) + 2**24:
            raise FormatError(f"{name}: {len(data)} bytes state {page.nbytes} bytes of pixels: damaged")
        yield page
