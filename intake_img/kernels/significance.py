"""Significance of a correlation and registration of channels: permuted blocks, cross-correlation by shift."""

from __future__ import annotations

import numpy as np

from intake_img.kernels import conventions, exact, tally
from intake_img.kernels.conventions import FIELDS
from intake_img.kernels.moments import Moments
from intake_img.kernels.wide import offsets

__all__ = ["add_shifted", "blocks_of", "permute_blocks", "shifted_moments", "shifted_sums"]


def permute_blocks(blocks_a: np.ndarray, blocks_b: np.ndarray, n: int, seed: int) -> tuple[float, np.ndarray]:
    """Pearson's r of two channels, and of `n` random permutations of the blocks of the first.

    Costes' randomisation: blocks as large as the point spread function keep the correlation of neighbours; pixels are
    not smoothed. Blocks are read in batches, so that they may be in a file.

    Parameters
    ----------
    blocks_a, blocks_b : ndarray of shape (K, P)
        Pixels of the used blocks, see `blocks_of`.
    n : int
    seed : int

    Returns
    -------
    r : float
        NaN if there are fewer than two blocks or a channel is constant in them.
    permuted : ndarray of shape (n,)

    References
    ----------
    .. [1] Costes et al., Biophysical Journal 86 (2004), https://doi.org/10.1529/biophysj.103.038422
    """
    size, pixels = blocks_a.shape
    step = max(1, _BATCH // max(1, pixels))
    batches = [slice(k, k + step) for k in range(0, size, step)]
    if size < 2:
        return np.nan, np.full(n, np.nan)
    centred_a, centred_b = (_Centred(x, batches) for x in (blocks_a, blocks_b))

    def product(order: np.ndarray) -> float:
        return sum(float(np.einsum("ij,ij->", centred_a(order[k]), centred_b(k))) for k in batches)

    square_a, square_b = (
        sum(float(np.einsum("ij,ij->", part, part)) for part in (c(k) for k in batches)) for c in (centred_a, centred_b)
    )
    norm = np.sqrt(square_a * square_b)
    if norm == 0:
        return np.nan, np.full(n, np.nan)
    generator = np.random.default_rng(seed)
    permuted = np.array([product(generator.permutation(size)) / norm for _ in range(n)])
    return product(np.arange(size)) / norm, permuted


class _Centred:
    """Batches of blocks of a channel, as float64 minus their mean; an integer is subtracted from wide integers
    first."""

    def __init__(self, blocks: np.ndarray, batches: list[slice]) -> None:
        self.blocks = blocks
        self.base = min(int(blocks[k].min()) for k in batches) if blocks.dtype.str[1:] in ("i8", "u8") else None
        self.mean = 0.0
        self.mean = sum(float(self(k).sum()) for k in batches) / blocks.size

    def __call__(self, rows: slice | np.ndarray) -> np.ndarray:
        part = self.blocks[rows]
        part = part.astype(np.float64) if self.base is None else offsets(part, self.base).astype(np.float64)
        part -= self.mean
        return part


_BATCH = 2**20


def blocks_of(array: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """Return the complete blocks of an array as rows, in the order of their positions.

    Parameters
    ----------
    array : ndarray
    block : tuple of int
        Edge lengths in pixels; remainders at the ends are dropped.
    """
    array = array[tuple(slice(0, n // s * s) for n, s in zip(array.shape, block, strict=True))]
    split = array.reshape([k for n, s in zip(array.shape, block, strict=True) for k in (n // s, s)])
    order = [*range(0, split.ndim, 2), *range(1, split.ndim, 2)]
    return split.transpose(order).reshape(-1, int(np.prod(block)))


def shifted_sums(
    a: np.ndarray,
    b: np.ndarray,
    keep: np.ndarray | None,
    axis: int,
    shifts: list[int],
    halo: tuple[int, int] = (0, 0),
) -> list[dict]:
    """Sums for Pearson's r of a[x] with b[x + d], for each shift d along an axis.

    Parameters
    ----------
    a, b : ndarray, same shape
    keep : ndarray of bool, optional
        Both pixels of a pair must be kept.
    axis : int
    shifts : list of int
    halo : (int, int)
        Pixels at both ends of the axis that belong to the neighbouring chunks: x is never one of them.

    Returns
    -------
    list of dict
        Integers as Python integers, floats as exact sums; see `shifted_moments`.
    """
    out = []
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    inside = None if keep is None else np.moveaxis(keep, axis, 0)
    length = len(a)
    for d in shifts:
        low, high = max(halo[0], -d), min(length - halo[1], length - d)
        first, second = slice(low, max(low, high)), slice(low + d, max(low, high) + d)
        x, y = a[first].ravel(), b[second].ravel()
        chosen = None if inside is None else (inside[first] & inside[second]).ravel()
        if a.dtype.kind == "f":
            finite = np.isfinite(x) & np.isfinite(y)
            chosen = finite if chosen is None else chosen & finite
        if chosen is not None:
            x, y = x[chosen], y[chosen]
        out.append(_sums(x, y))
    return out


_ALL = {"all": FIELDS}


def _sums(x: np.ndarray, y: np.ndarray) -> dict:
    if x.dtype.kind == "f" or x.dtype.itemsize > 2:
        parts = tally.tally_pixels(x, y, None, _ALL, 0, 0, conventions.Conventions())
        return dict(parts)
    sums = dict.fromkeys(FIELDS, 0)
    for k in range(0, len(x), 2**20):  # sums of this many 32-bit products are exact in a float
        p, q = (v[k : k + 2**20].astype(np.float64) for v in (x, y))
        part = {"n": len(p), "a": p.sum(), "b": q.sum(), "aa": p @ p, "bb": q @ q, "ab": p @ q}
        sums = {name: sums[name] + int(part[name]) for name in FIELDS}
    return sums


def add_shifted(parts: list[list[dict]]) -> list[dict]:
    """Return the sum of `shifted_sums` of chunks."""
    out = []
    for sums in zip(*parts, strict=True):
        if "n" in sums[0]:
            out.append({k: sum(s[k] for s in sums) for k in sums[0]})
        else:
            out.append({key: exact.add([s[key] for s in sums]) for key in sums[0]})
    return out


def shifted_moments(parts: list[list[dict]]) -> list[Moments]:
    """Return the moments of the sum of chunks: one `Moments` of one group for each shift."""
    out = []
    for sums in add_shifted(parts):
        if "n" in sums:
            out.append(Moments(scale=0, **{k: np.array([sums[k]], object) for k in FIELDS}))
        else:
            whole = tally.as_integers(sums, np.zeros(1, np.int64))
            out.append(Moments(scale=exact.LOWEST, **{k: whole["all", k] for k in FIELDS}))
    return out
