"""Edges of regions, counted in small neighbourhoods of pixels: perimeters, surfaces, Euler numbers.

Each neighbourhood adds an integer to a region, so the counts of chunks, each with a margin from its neighbours, add up
to the counts of the complete image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np

__all__ = ["MARGINS", "Edges", "edges_in", "edges_merged", "edges_of"]

Edges = tuple[np.ndarray, np.ndarray]
"""Labels, and of each a row of counts."""
MARGINS = {"perimeter": 2, "perimeter_crofton": 1, "euler_number": 1, "surface_area": 1}
"""How many pixels around a chunk must be known."""
_PERIMETER = {1: (5, 7, 15, 17, 25, 27), 2: (21, 33), 3: (13, 23)}
"""Classes of border pixels by ``1 + 2 * n4 + 10 * n8`` of their neighbours on the border, as in `skimage.measure`."""
_FINE = 2.0**40
"""Areas are whole multiples of the largest one, divided by this."""


def edges_in(name: str, piece: np.ndarray, last: Sequence[bool], steps: Sequence[float]) -> Edges:
    """Return the contributions of the neighbourhoods of a chunk to its regions.

    Parameters
    ----------
    name : str
        One of `MARGINS`.
    piece : ndarray
        Labels of the chunk and of a margin around it, 0 beyond the image.
    last : sequence of bool
        Whether the chunk is the last one along each axis.
    steps : sequence of float
        Size of a pixel.
    """
    if name == "perimeter":
        return _borders(piece)
    return _corners(piece, last, _table(name, piece.ndim, tuple(steps)))


def edges_merged(parts: Sequence[Edges], ids: np.ndarray) -> np.ndarray:
    """Return the counts of all chunks for the sorted labels `ids`, which contain all labels of the parts."""
    total = np.zeros((len(ids), parts[0][1].shape[1]), np.int64)
    np.add.at(total, np.searchsorted(ids, np.concatenate([p[0] for p in parts])), np.concatenate([p[1] for p in parts]))
    return total


def edges_of(name: str, counts: np.ndarray, steps: Sequence[float]) -> np.ndarray:
    """Return the property of each region from its counts."""
    if name == "perimeter":
        return counts @ np.array([1.0, np.sqrt(2), (1 + np.sqrt(2)) / 2]) * steps[0]
    if name == "perimeter_crofton":
        return counts @ np.array([np.pi / 4, np.pi / (4 * np.sqrt(2))]) * steps[0]
    if name == "euler_number":
        return counts[:, 0] >> len(steps)
    return counts[:, 0] * (_largest_area(tuple(steps)) / _FINE)


def _borders(piece: np.ndarray) -> Edges:
    """Classes of the pixels on the border of their region (Benkrid and Crookes)."""
    inner = piece[1:-1, 1:-1]
    border = np.zeros(piece.shape, bool)
    edge = border[1:-1, 1:-1]
    for other in (piece[:-2, 1:-1], piece[2:, 1:-1], piece[1:-1, :-2], piece[1:-1, 2:]):
        edge |= other != inner
    edge &= inner > 0
    y, x = np.nonzero(border[2:-2, 2:-2])
    label = piece[y + 2, x + 2]
    code = np.ones(len(y), np.int64)
    for dy, dx in product((-1, 0, 1), repeat=2):
        if dy or dx:
            there = (y + 2 + dy, x + 2 + dx)
            code += (10 if dy and dx else 2) * (border[there] & (piece[there] == label))
    classes = np.zeros((50, 3), np.int64)
    for column, codes in _PERIMETER.items():
        classes[list(codes), column - 1] = 1
    return _added([label], [classes[code]], 3)


def _corners(piece: np.ndarray, last: Sequence[bool], table: np.ndarray) -> Edges:
    """Sum a table over the blocks of 2 x 2 (x 2) pixels: bit k of a block's code is its pixel k in C order."""
    ends = [n - 1 if end else n - 2 for n, end in zip(piece.shape, last, strict=True)]
    views = [
        piece[tuple(slice(o, o + e) for o, e in zip(offset, ends, strict=True))]
        for offset in product((0, 1), repeat=piece.ndim)
    ]
    mixed = np.zeros(views[0].shape, bool)
    for view in views[1:]:
        mixed |= view != views[0]
    around = np.stack([v[mixed] for v in views])
    labels, found = [], []
    for k, label in enumerate(around):
        new = (label > 0) & ~(around[:k] == label).any(axis=0)
        same = around[:, new] == label[new]
        labels.append(label[new])
        found.append(table[(same << np.arange(len(views))[:, None]).sum(axis=0)])
    return _added(labels, found, table.shape[1])


def _added(labels: list[np.ndarray], rows: list[np.ndarray], columns: int) -> Edges:
    ids, index = np.unique(np.concatenate(labels), return_inverse=True)
    total = np.zeros((len(ids), columns), np.int64)
    np.add.at(total, index, np.concatenate(rows))
    return ids, total


def _table(name: str, ndim: int, steps: tuple[float, ...]) -> np.ndarray:
    """Return the contribution of each code of a block, as integers."""
    made: dict[str, Callable[[], np.ndarray]] = {
        "perimeter_crofton": _crofton,
        "euler_number": lambda: _euler(ndim),
        "surface_area": lambda: np.rint(_areas(steps) * (_FINE / _largest_area(steps))).astype(np.int64)[:, None],
    }
    return made[name]()


def _crofton() -> np.ndarray:
    """Return the multiples of pi/4 and pi/(4 sqrt 2) for each code, as in `skimage.measure.perimeter_crofton`."""
    straight = {1: 1, 5: 1, 8: 1, 9: 2, 12: 1, 13: 2}
    slanted = {1: 1, 2: 1, 3: 2, 5: 1, 7: 1, 10: 1, 11: 1}
    table = np.zeros((16, 2), np.int64)
    for code in range(16):
        bits = [code >> k & 1 for k in range(4)]
        theirs = bits[3] | bits[1] << 1 | bits[2] << 2 | bits[0] << 3
        table[code] = straight.get(theirs, 0), slanted.get(theirs, 0)
    return table


@cache
def _euler(ndim: int) -> np.ndarray:
    """Return 2**n times the contribution of a block to the Euler number of closed pixels: vertices - edges + faces -
    volumes.

    A block's centre is a vertex. An edge, face or volume is counted from all of its vertices.
    """
    table = np.zeros((1 << 2**ndim, 1), np.int64)
    for code in range(len(table)):
        block = np.array([code >> k & 1 for k in range(2**ndim)]).reshape((2,) * ndim)
        sides: tuple[Any, ...] = (slice(None), 0, 1)
        for cell in product(sides, repeat=ndim):
            order = sum(c in (0, 1) for c in cell if not isinstance(c, slice))
            table[code] += (-1) ** order * 2 ** (ndim - order) * int(np.any(block[cell]))
    return table


@cache
def _areas(steps: tuple[float, ...]) -> np.ndarray:
    """Return the area of the mesh of marching cubes in each block (Lewiner et al. 2003)."""
    from skimage.measure import marching_cubes, mesh_surface_area

    table = np.zeros(256)
    for code in range(1, 255):
        block = np.array([code >> k & 1 for k in range(8)], float).reshape(2, 2, 2)
        vertices, faces, *_ = marching_cubes(block, 0.5, spacing=steps)
        table[code] = mesh_surface_area(vertices, faces)
    return table


def _largest_area(steps: tuple[float, ...]) -> float:
    return float(_areas(steps).max())
