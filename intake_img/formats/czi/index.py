"""The directory of a CZI file as columns of numbers: the plane and rectangle of each subblock.

It alone knows how entries of the directory are laid out, and how subblocks make up planes: levels of a pyramid,
scenes, the order in which overlapping tiles cover each other, missing tiles. It reads no pixels. Format: ZEISS, "CZI
image file format", DS_ZISRAW-FileFormat; order of tiles (by scene, then M-index) as in libCZI's
SingleChannelScalingTileAccessor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.czi.directory_entries import (
    ABSENT,
    agree,
    column,
    dimension_names,
    entry_size,
    gathered,
    records,
)

__all__ = [
    "ABSENT",
    "COMPRESSIONS",
    "LETTERS",
    "PIXEL_TYPES",
    "Directory",
    "Mosaic",
    "agree",
    "distinct",
    "parse_directory",
]

LETTERS = {"Z": "z", "C": "c", "T": "t", "R": "r", "I": "u", "H": "h", "V": "v", "B": "b"}
"""Dimensions of planes and our axes: rotation, illumination, phase, view and block have their own letters."""
PIXEL_TYPES = {
    0: ("u1", 1),
    1: ("<u2", 1),
    2: ("<f4", 1),
    3: ("u1", 3),
    4: ("<u2", 3),
    8: ("<f4", 3),
    9: ("u1", 4),
    10: ("<c8", 1),
    11: ("<c8", 3),
    12: ("<i4", 1),
    13: ("<f8", 1),
}
"""Code of a pixel type: dtype, and number of colour samples (in the order blue, green, red, alpha)."""
COMPRESSIONS = {0: "uncompressed", 1: "JPEG", 2: "LZW", 4: "JPEG-XR", 5: "zstd0", 6: "zstd1"}
_KNOWN = frozenset(LETTERS) | {"X", "Y", "S", "M"}
_MOST_PIXELS = 2**24  # of the side of a plane
_COVERAGE_CELLS = 2**23


def distinct(column: np.ndarray) -> list[int]:
    """Return the values in a column, ascending; fast where there is one."""
    if len(column) and (column == column[0]).all():
        return [int(column[0])]
    return [int(v) for v in np.unique(column)]


@dataclass(frozen=True, eq=False)
class Directory:
    """All subblocks of a file; every attribute but `dims` is a column, or a dict of columns, of equal length.

    Parameters
    ----------
    dims : tuple of str
        Dimensions of planes, outermost first, as the file orders them.
    starts : dict of str to ndarray
        Index along each of `dims`.
    scene, tile : ndarray
        Index of the scene and M-index, or `ABSENT`.
    left, top, width, height : ndarray
        Rectangle in pixels of full resolution.
    stored_width, stored_height : ndarray
        Size of the array that is stored.
    pixel_type, compression, position, pyramid : ndarray
        Codes, offset of the subblock in the file, and 0 for what says that it is of full resolution.
    raw, offsets : bytes, ndarray
        The entries themselves, and where each begins.
    held : ndarray of bool, optional
        Which subblocks the file still contains, if some are lost.
    """

    dims: tuple[str, ...]
    starts: dict[str, np.ndarray]
    scene: np.ndarray
    tile: np.ndarray
    left: np.ndarray
    top: np.ndarray
    width: np.ndarray
    height: np.ndarray
    stored_width: np.ndarray
    stored_height: np.ndarray
    pixel_type: np.ndarray
    compression: np.ndarray
    position: np.ndarray
    pyramid: np.ndarray
    raw: bytes
    offsets: np.ndarray
    held: np.ndarray | None = None

    def entry(self, block: int) -> bytes:
        """Return an entry as the file has it; a subblock carries a copy."""
        at = int(self.offsets[block])
        return self.raw[at : at + entry_size(int.from_bytes(self.raw[at + 28 : at + 32], "little"))]

    def __len__(self) -> int:
        return len(self.position)

    @cached_property
    def scenes(self) -> list[int]:
        """Indices of scenes, ascending; empty if the file knows no scenes."""
        return [s for s in distinct(self.scene) if s != ABSENT]

    @cached_property
    def _ratio(self) -> np.ndarray:
        """Minification of each subblock along its longer side, which is the most accurate."""
        wide = self.width >= self.height
        return np.where(wide, self.width, self.height) / np.where(wide, self.stored_width, self.stored_height)

    @cached_property
    def factors(self) -> list[float]:
        """Minification of each level of the pyramid; the first is 1."""
        small = np.flatnonzero(self._reduced)
        if not len(small):
            return [1.0]
        ratio = self._ratio[small]
        order = np.argsort(ratio, kind="stable")
        cuts = np.flatnonzero(ratio[order][1:] > 1.25 * ratio[order][:-1]) + 1
        longest = np.maximum(self.stored_width, self.stored_height)[small]
        groups = np.split(order, cuts)
        best = [float(ratio[g[longest[g].argmax()]]) for g in groups]
        return [1.0] + [float(round(f)) if abs(f - round(f)) < 0.1 * f else f for f in best]

    @cached_property
    def _reduced(self) -> np.ndarray:
        return (self.stored_width != self.width) | (self.stored_height != self.height)

    @property
    def doubtful(self) -> list[int]:
        """Numbers of subblocks to compare with the directory before it is believed: a slip of it would hide pixels.

        Those whose size and whose mark of pyramids contradict each other, and the first one of each scene.
        """
        firsts = np.unique(self.scene, return_index=True)[1].tolist() if len(self.scenes) > 1 else []
        found = [*np.flatnonzero(self._reduced != (self.pyramid != 0)).tolist(), *firsts]
        return found if self.held is None else [k for k in found if self.held[k]]

    def at_level(self, level: int) -> np.ndarray:
        """Return a mask of the subblocks of one level."""
        if level == 0:
            return ~self._reduced
        factors = np.asarray(self.factors[1:])
        nearest = np.abs(np.log(self._ratio[:, None] / factors[None, :])).argmin(axis=1)
        return self._reduced & (nearest == level - 1)

    def mosaic(self, scene: int | None, level: int) -> Mosaic:
        """Return the planes of one scene (None: of all of them), at one level of the pyramid.

        Raises
        ------
        FormatError
            If there are none, or they spread further than any image.
        """
        mine = np.ones(len(self), bool) if scene is None else (self.scene == scene) | (self.scene == ABSENT)
        full = np.flatnonzero(mine & self.at_level(0))
        if not len(full):
            raise FormatError("the scene contains no subblock of full resolution")
        chosen = full if level == 0 else np.flatnonzero(mine & self.at_level(level))
        if self.held is not None:
            chosen = chosen[self.held[chosen]]
        return Mosaic.of(self, full, chosen, self.factors[level])


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Planes of tiles: one image. Columns are sorted by plane, then by the tile's top and left.

    Parameters
    ----------
    dims : tuple of str
        Dimensions of planes, outermost first.
    starts, shape : tuple of int
        First index and length along each.
    x, y : int
        Where the image begins, in pixels of full resolution.
    height, width : int
        Of a plane, at this level.
    factor : float
        Minification.
    blocks : ndarray
        Numbers of the subblocks in the directory.
    plane : ndarray
        Flat number of the plane.
    top, left, bottom, right : ndarray
        Rectangle within the plane, in pixels of this level; it may reach beyond the plane.
    rank : ndarray
        Tiles of higher rank cover tiles of lower rank.
    """

    dims: tuple[str, ...]
    starts: tuple[int, ...]
    shape: tuple[int, ...]
    x: int
    y: int
    height: int
    width: int
    factor: float
    blocks: np.ndarray
    plane: np.ndarray
    top: np.ndarray
    left: np.ndarray
    bottom: np.ndarray
    right: np.ndarray
    rank: np.ndarray

    @classmethod
    def of(cls, d: Directory, full: np.ndarray, chosen: np.ndarray, factor: float) -> Mosaic:
        """Make a mosaic of the subblocks `chosen`, in the frame of the subblocks `full` of full resolution."""
        x, y = int(d.left[full].min()), int(d.top[full].min())
        wide, high = int((d.left + d.width)[full].max()) - x, int((d.top + d.height)[full].max()) - y
        starts = tuple(int(d.starts[k][full].min()) for k in d.dims)
        shape = tuple(int(d.starts[k][full].max()) - s + 1 for k, s in zip(d.dims, starts, strict=True))
        if max(wide, high) > _MOST_PIXELS or math.prod(shape) > 1000 * len(full) + 100_000:
            raise FormatError(
                f"its {len(full)} subblocks spread over {math.prod(shape)} planes of {high} x {wide} pixels: "
                "the directory is damaged"
            )
        area, covered = wide * high, int((d.width[full] * d.height[full]).sum())
        if area > 2**28 and area > 4096 * covered:
            raise FormatError(f"its subblocks lie scattered over {high} x {wide} pixels: the directory is damaged")
        plane = np.zeros(len(chosen), np.int64)
        inside = np.ones(len(chosen), bool)
        for k, start, n in zip(d.dims, starts, shape, strict=True):
            index = d.starts[k][chosen] - start
            inside &= (index >= 0) & (index < n)
            plane = plane * n + index
        chosen, plane = chosen[inside], plane[inside]
        top, left = d.top[chosen] - y, d.left[chosen] - x
        if factor != 1:
            top, left = np.rint(top / factor).astype(np.int64), np.rint(left / factor).astype(np.int64)
        bottom, right = top + d.stored_height[chosen], left + d.stored_width[chosen]
        rank = np.empty(len(chosen), np.int64)
        rank[np.lexsort((d.tile[chosen], d.scene[chosen]))] = np.arange(len(chosen))
        order = np.lexsort((left, top, plane))
        return cls(
            d.dims,
            starts,
            shape,
            x,
            y,
            _side(high, factor, bottom),
            _side(wide, factor, right),
            factor,
            *(column[order] for column in (chosen, plane, top, left, bottom, right, rank)),
        )

    @property
    def planes(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def _tallest(self) -> int:
        return int((self.bottom - self.top).max(initial=0))

    @cached_property
    def covered(self) -> int:
        """Number of pixels that the tiles contain, at most: those that overlap are counted twice."""
        return int(((self.bottom - self.top) * (self.right - self.left)).sum())

    def find(self, plane: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Return the indices (in the columns) of the tiles that touch a rectangle, in drawing order."""
        first, last = self.plane.searchsorted((plane, plane + 1))
        low = first + self.top[first:last].searchsorted(y0 - self._tallest, "right")
        high = first + self.top[first:last].searchsorted(y1, "left")
        near = slice(low, high)
        hit = (self.bottom[near] > y0) & (self.left[near] < x1) & (self.right[near] > x0)
        found = low + np.flatnonzero(hit)
        return found if len(found) < 2 else found[self.rank[found].argsort()]

    @cached_property
    def complete(self) -> bool:
        """True if tiles cover every pixel of every plane."""
        edges = np.flatnonzero(np.diff(self.plane, prepend=-1))
        if len(edges) < self.planes:
            return False
        if self._in_rows(edges):
            return True
        top, left = np.maximum(self.top, 0), np.maximum(self.left, 0)
        bottom, right = np.minimum(self.bottom, self.height), np.minimum(self.right, self.width)
        area = np.add.reduceat((bottom - top) * (right - left), edges)
        if (area < self.height * self.width).any():
            return False
        layouts = {}
        for begin, end in zip(edges.tolist(), [*edges[1:].tolist(), len(self.plane)], strict=True):
            if end - begin > 1:  # one tile of that area covers the plane
                rectangles = np.stack([c[begin:end] for c in (top, bottom, left, right)])
                layouts[rectangles.tobytes()] = rectangles
        return all(_covers(r, self.height, self.width) for r in layouts.values())

    def _in_rows(self, edges: np.ndarray) -> bool:
        """True if tiles cover the planes in the simplest way: in rows of equal height, without a gap."""
        top, left, bottom, right = self.top, self.left, self.bottom, self.right
        ends = np.append(edges[1:], len(top)) - 1
        if not ((top[edges] <= 0).all() and (left[edges] <= 0).all() and (bottom[ends] >= self.height).all()):
            return False
        along = (top[1:] == top[:-1]) & (bottom[1:] == bottom[:-1]) & (left[1:] <= right[:-1])
        below = (right[:-1] >= self.width) & (left[1:] <= 0) & (top[1:] <= bottom[:-1])
        good = along | below
        good[edges[1:] - 1] = True  # from one plane to the next
        return bool(good.all() and (right[ends] >= self.width).all())

    @cached_property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of the grid on which the tiles lie, roughly: the unit in which it is best to read."""
        return (
            min(self.height, _pitch(self.top, self._tallest)),
            min(self.width, _pitch(self.left, int((self.right - self.left).max(initial=1)))),
        )


def _side(length: int, factor: float, ends: np.ndarray) -> int:
    """Length of a side at a level: rounded up or down, as the stored tiles have it."""
    low, high = max(1, math.floor(length / factor)), max(1, math.ceil(length / factor))
    return min(max(int(ends.max(initial=0)), low), high)


def _pitch(begins: np.ndarray, size: int) -> int:
    steps = np.diff(np.unique(begins))
    step = int(np.median(steps)) if len(steps) else size
    return max(1, size if step < size // 2 else step)


def _covers(rectangles: np.ndarray, height: int, width: int) -> bool:
    """True if rectangles (rows: top, bottom, left, right) cover a plane: counted on the grid that their edges make."""
    top, bottom, left, right = rectangles
    ys = np.unique(np.concatenate([top, bottom, [0, height]]))
    xs = np.unique(np.concatenate([left, right, [0, width]]))
    if len(ys) * len(xs) > _COVERAGE_CELLS:
        return False  # not worth the memory: a mask is shown, and is right, though it may be true everywhere
    count = np.zeros((len(ys), len(xs)), np.int32)
    t, b, le, r = ys.searchsorted(top), ys.searchsorted(bottom), xs.searchsorted(left), xs.searchsorted(right)
    for rows, columns, sign in ((t, le, 1), (t, r, -1), (b, le, -1), (b, r, 1)):
        np.add.at(count, (rows, columns), sign)
    return bool(count.cumsum(axis=0, out=count).cumsum(axis=1, out=count)[:-1, :-1].all())


def parse_directory(data: bytes, count: int) -> Directory:
    """Return the directory of `count` entries.

    Parameters
    ----------
    data : bytes
        What follows the header of the directory's segment.
    count : int
        The stated number of entries.

    Raises
    ------
    FormatError
        If the entries do not fit into `data`, or do not describe images.
    """
    if count <= 0 or count * entry_size(2) > len(data):
        raise FormatError(f"the directory states {count} subblocks in {len(data)} bytes: it is empty or damaged")
    groups, offsets = records(data, count)
    names: list[int] = list(dict.fromkeys(n for _, r in groups for n in dimension_names(r)))
    table = groups[0][1]["entries"]["name"]
    alike = len(groups) == 1 and table.shape[1] == len(names) and bool((table == names).all())
    letters = {n: n.to_bytes(4, "little").rstrip(b"\0").decode("latin-1") for n in names}
    if unknown := [v for v in letters.values() if v not in _KNOWN]:
        raise FormatError(f"the directory names the dimension {unknown[0]!r}: it is damaged, or of a newer kind")
    columns = {letters[n]: column(groups, n, count, k if alike else None) for k, n in enumerate(names)}
    fixed = {k: gathered(groups, k, count) for k in ("pixel_type", "compression", "position", "pyramid")}
    planar = tuple(reversed([k for k in columns if k in LETTERS]))
    _check(columns, fixed, planar)
    (left, width, stored_width), (top, height, stored_height) = columns["X"], columns["Y"]
    starts = {k: np.where(columns[k][0] == ABSENT, 0, columns[k][0]) for k in planar}
    absent = np.full(count, ABSENT, np.int64)
    return Directory(
        planar,
        starts,
        columns["S"][0] if "S" in columns else absent,
        columns["M"][0] if "M" in columns else absent,
        left,
        top,
        width,
        height,
        stored_width,
        stored_height,
        **fixed,
        raw=data,
        offsets=offsets,
    )


def _check(columns: dict[str, tuple[np.ndarray, ...]], fixed: dict[str, np.ndarray], planar: Sequence[str]) -> None:
    for k in "XY":
        if k not in columns or (columns[k][0] == ABSENT).any():
            raise FormatError(f"a subblock has no {k}: the directory is damaged")
        _, size, stored = columns[k]
        stored[stored == 0] = size[stored == 0]  # "else 0", where no pixels were left out
        if not ((size > 0) & (size <= _MOST_PIXELS) & (stored > 0) & (stored <= _MOST_PIXELS)).all():
            raise FormatError(f"a subblock is {int(size.min())} to {int(size.max())} pixels long along {k}: damaged")
    if thick := [k for k in planar if (columns[k][1] > 1).any()]:
        raise FormatError(f"subblocks that contain several planes along {thick[0]!r} are not known")
    if "M" in columns:  # libCZI takes the largest number, too, for none
        columns["M"][0][columns["M"][0] == 2**31 - 1] = ABSENT
    if unknown := sorted(set(distinct(fixed["pixel_type"])) - set(PIXEL_TYPES)):
        raise FormatError(f"pixel type {unknown[0]} is unknown; known are {', '.join(map(str, PIXEL_TYPES))}")
