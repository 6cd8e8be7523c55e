"""Is the correlation more than chance, and are the channels in register: permuted blocks, cross-correlation by
shift.
"""

from __future__ import annotations

import numpy as np

from intake_img.kernels import exact, measures
from intake_img.kernels.moments import FIELDS, Moments

__all__ = ["add_shifted", "permute_blocks", "shifted_moments", "shifted_sums"]


def permute_blocks(
    a: np.ndarray, b: np.ndarray, block: tuple[int, ...], mask: np.ndarray | None, n: int, seed: int
) -> tuple[float, np.ndarray]:
    """Pearson's r of two channels, and of `n` arrangements of the first in which its blocks are exchanged at random.

    Costes' randomisation: blocks as large as the point spread function keep the correlation of neighbours. Only blocks
    that lie whole within the image, and the mask, take part, in the r that is tested as well; pixels are not smoothed.

    Parameters
    ----------
    a, b : ndarray, same shape
    block : tuple of int
        Edge lengths of a block in pixels.
    mask : ndarray of bool, same shape, optional
    n : int
    seed : int

    Returns
    -------
    r : float
        NaN if fewer than two blocks take part or a channel is constant in them.
    permuted : ndarray of shape (n,)

    References
    ----------
    .. [1] Costes et al., Biophysical Journal 86 (2004), https://doi.org/10.1529/biophysj.103.038422
    """
    blocks_a, blocks_b = (_blocks(x, block).astype(np.float64) for x in (a, b))
    whole = np.isfinite(blocks_a).all(axis=1) & np.isfinite(blocks_b).all(axis=1)
    if mask is not None:
        whole &= _blocks(mask, block).all(axis=1)
    blocks_a, blocks_b = blocks_a[whole], blocks_b[whole]
    if len(blocks_a) < 2:
        return np.nan, np.full(n, np.nan)
    blocks_a -= blocks_a.mean()
    blocks_b -= blocks_b.mean()
    norm = np.sqrt((blocks_a**2).sum() * (blocks_b**2).sum())
    if norm == 0:
        return np.nan, np.full(n, np.nan)
    generator = np.random.default_rng(seed)
    permuted = np.empty(n)
    for k in range(n):
        permuted[k] = np.einsum("ij,ij->", blocks_a[generator.permutation(len(blocks_a))], blocks_b) / norm
    return float(np.einsum("ij,ij->", blocks_a, blocks_b) / norm), permuted


def _blocks(array: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """Whole blocks as rows."""
    array = array[tuple(slice(0, n // s * s) for n, s in zip(array.shape, block, strict=True))]
    split = array.reshape([k for n, s in zip(array.shape, block, strict=True) for k in (n // s, s)])
    order = [*range(0, split.ndim, 2), *range(1, split.ndim, 2)]
    return split.transpose(order).reshape(-1, int(np.prod(block)))


def shifted_sums(a: np.ndarray, b: np.ndarray, keep: np.ndarray | None, axis: int, shifts: list[int]) -> list[dict]:
    """Sums for Pearson's r of a[x] with b[x + d], for each shift d along an axis that the chunk holds whole.

    Parameters
    ----------
    a, b : ndarray, same shape
    keep : ndarray of bool, optional
        Both pixels of a pair must be kept.
    axis : int
    shifts : list of int

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
        first, second = slice(max(0, -d), min(length, length - d)), slice(max(0, d), min(length, length + d))
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
        parts = measures.tally_pixels(x.astype(float), y.astype(float), None, _ALL, 0, 0, measures.Conventions())
        return dict(parts)
    x, y = x.astype(np.int64), y.astype(np.int64)
    sums = {"n": len(x), "a": x.sum(), "b": y.sum(), "aa": x @ x, "bb": y @ y, "ab": x @ y}
    return {k: int(v) for k, v in sums.items()}


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
            whole = measures.as_integers(sums, np.zeros(1, np.int64))
            out.append(Moments(scale=exact.LOWEST, **{k: whole["all", k] for k in FIELDS}))
    return out
