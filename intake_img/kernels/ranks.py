"""Exact rank statistics of weighted pairs in groups: Spearman's rho, Kendall's tau-b, and the dense ranks of RWC.

All use a sorted `Table`. In one group of integers a lookup table gives the ranks by grey level. Kendall's concordant
pairs are counted by bits of the rank (a wavelet tree: time K times the number of bits), or, in one dense group, by
running sums of the histogram.
"""

from __future__ import annotations

import numpy as np

from intake_img.kernels.exact import grouped_sum, ratio, root_ratio
from intake_img.kernels.runs import strips
from intake_img.kernels.tables import Levels, Table

__all__ = ["dense_ranks", "kendall", "rank_product", "spearman"]


def _runs(*columns: np.ndarray) -> np.ndarray:
    """Starts of runs of equal rows."""
    change = np.zeros(max(0, len(columns[0]) - 1), bool)
    for c in columns:
        change |= c[1:] != c[:-1]
    return np.concatenate([[0], np.flatnonzero(change) + 1]) if len(columns[0]) else np.empty(0, np.int64)


def _marginal(group: np.ndarray, value: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct (group, value) of rows sorted by them, with counts: (starts, group, count)."""
    starts = _runs(group, value)
    return starts, group[starts], np.add.reduceat(count, starts) if len(starts) else count[:0]


def _within(group: np.ndarray, cumulative: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Subtract from a running sum its value at the start of the group, `first` being the starts of the groups."""
    return cumulative - np.repeat(cumulative[first], np.diff(first, append=len(group)))


def _twice_midranks(table: Table, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For rows sorted by (group, a): 2 * (mid-rank of a) - (n + 1), and where each distinct value starts."""
    starts, group, count = _marginal(table.group, table.a, table.count)
    before = np.concatenate([[0], np.cumsum(count)[:-1]])
    before = _within(group, before, _runs(group))
    return 2 * before + count - totals[group], starts


def _expand(values: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    return np.repeat(values, np.diff(starts, append=size))


def _totals(table: Table) -> np.ndarray:
    return np.bincount(table.group, weights=table.count, minlength=table.ngroups).astype(np.int64)


_STRIP = 2**20
"""Rows that are processed together."""


def _total(*factors: np.ndarray) -> int:
    """Sum of products of integers, exact."""
    return int(grouped_sum(np.zeros(len(factors[0]), np.int8), 1, *factors)[0])


def _spearman_of_levels(table: Table, a: Levels, b: Levels) -> float:
    covariance = 0
    for run in strips(table):
        rank = b.twice_midranks[run.rows.b - b.low]
        for scale, part in ((2**16, rank >> 16), (1, rank & 0xFFFF)):  # so that sums over a run fit into 63 bits
            inner = np.add.reduceat(run.rows.count * part, run.first)
            covariance += scale * _total(inner, a.twice_midranks[run.a - a.low])
    va, vb = (_total(c.count, c.twice_midranks, c.twice_midranks) for c in (a, b))
    return root_ratio(covariance, va * vb)


def spearman(table: Table) -> np.ndarray:
    """Spearman's rho of each group: Pearson's r of mid-ranks. NaN for a constant channel.

    Returns
    -------
    ndarray of shape (G,)
    """
    if not len(table):
        return np.full(table.ngroups, np.nan)
    if levels := table.levels:
        return np.array([_spearman_of_levels(table, *levels)])
    n = _totals(table)
    rank_a, starts_a = _twice_midranks(table, n)
    order = table.by_b
    back = Table(table.group[order], table.b[order], table.a[order], table.count[order], table.ngroups)
    rank_b, starts_b = _twice_midranks(back, n)
    group_a, group_b = table.group[starts_a], back.group[starts_b]
    per_row = np.empty(len(table), np.int64)
    per_row[order] = _expand(rank_b, starts_b, len(table))
    # sums of counts times ranks within a row of equal a stay below n*n; across rows Python integers where needed
    inner = np.add.reduceat(per_row * table.count, starts_a)
    g = table.ngroups
    cov = grouped_sum(group_a, g, rank_a, inner)
    va = grouped_sum(group_a, g, rank_a, rank_a * np.add.reduceat(table.count, starts_a))
    vb = grouped_sum(group_b, g, rank_b, rank_b * np.add.reduceat(back.count, starts_b))
    return np.array([root_ratio(c, x * y) for c, x, y in zip(cov, va, vb, strict=True)], dtype=float)


def dense_ranks(table: Table, pooled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the 0-based dense ranks of a and of b: within its group, or over all groups (`pooled`)."""
    if pooled:
        return tuple(np.unique(x, return_inverse=True)[1] for x in (table.a, table.b))  # type: ignore[return-value]
    starts = _runs(table.group, table.a)
    group = table.group[starts]
    rank_a = _expand(_within(group, np.arange(len(starts)), _runs(group)), starts, len(table))
    order = table.by_b
    b_group = table.group[order]
    starts = _runs(b_group, table.b[order])
    group = b_group[starts]
    rank_b = np.empty(len(table), np.int64)
    rank_b[order] = _expand(_within(group, np.arange(len(starts)), _runs(group)), starts, len(table))
    return rank_a, rank_b


def kendall(table: Table) -> np.ndarray:
    """Kendall's tau-b of each group: (concordant - discordant) / sqrt((pairs - ties in a)(pairs - ties in b)).

    Returns
    -------
    ndarray of shape (G,)
        NaN for a constant channel.
    """
    if not len(table):
        return np.full(table.ngroups, np.nan)
    if levels := table.levels:
        return np.array([_kendall_of_levels(table, *levels)])
    size = table.ngroups
    n = _totals(table)
    concordant = _concordant_by_bits(table, dense_ranks(table)[1])

    def pairs(group: np.ndarray, count: np.ndarray) -> np.ndarray:
        return grouped_sum(group, size, count, count - 1) // 2

    _, group_a, count_a = _marginal(table.group, table.a, table.count)
    order = table.by_b
    _, group_b, count_b = _marginal(table.group[order], table.b[order], table.count[order])
    starts = _runs(table.group, table.a, table.b)
    both = pairs(table.group[starts], np.add.reduceat(table.count, starts))
    ties_a, ties_b = pairs(group_a, count_a), pairs(group_b, count_b)
    every = np.array([int(k) * (int(k) - 1) // 2 for k in n], object)
    difference = 2 * concordant - (every - ties_a - ties_b + both)
    return np.array(
        [root_ratio(d, (e - x) * (e - y)) for d, e, x, y in zip(difference, every, ties_a, ties_b, strict=True)],
        dtype=float,
    )


def _kendall_of_levels(table: Table, a: Levels, b: Levels) -> float:
    if (int(a.dense_ranks[-1]) + 1) * (int(b.dense_ranks[-1]) + 1) <= 100 * len(table):
        concordant = _concordant_dense(table, a, b)
    else:
        concordant = int(_concordant_by_bits(table, b.dense_ranks[table.b - b.low])[0])
    n = int(a.count.sum())
    every, ties_a, ties_b = n * (n - 1) // 2, *(_total(c.count, c.count - 1) // 2 for c in (a, b))
    both = sum(_total(w, w - 1) for k in range(0, len(table), _STRIP) for w in [table.count[k : k + _STRIP]]) // 2
    difference = 2 * concordant - (every - ties_a - ties_b + both)
    return root_ratio(difference, (every - ties_a) * (every - ties_b))


def _concordant_dense(table: Table, a: Levels, b: Levels) -> int:
    """Number of concordant pairs, by running sums over blocks of rows."""
    values = (a.low + np.flatnonzero(a.count)).astype(table.a.dtype)
    ends = np.append(np.searchsorted(table.a, values), len(table))
    width = int(b.dense_ranks[-1]) + 1
    step = max(1, 2**19 // width)
    carry = np.zeros(width + 1, np.int64)  # carry[b]: pixels of earlier rows below b, exclusive
    total = 0
    for first in range(0, len(values), step):
        own = values[first : first + step]
        start, stop = ends[first], ends[min(first + step, len(values))]
        row = a.dense_ranks[table.a[start:stop] - a.low] - first
        column = b.dense_ranks[table.b[start:stop] - b.low]
        weight = table.count[start:stop]
        cells = np.zeros((len(own) + 1, width + 1), np.int64)
        cells[row + 1, column + 1] = weight  # rows of a table are distinct
        np.cumsum(cells, axis=0, out=cells)
        np.cumsum(cells, axis=1, out=cells)
        cells += carry
        total += _total(weight, cells[row, column])
        carry = cells[-1].copy()
    return total


def _concordant_by_bits(table: Table, rank: np.ndarray) -> np.ndarray:
    """The same in groups: for each bit of the rank of b, pairs that agree in the higher bits and differ in this bit."""
    order = np.lexsort((-rank, table.a, table.group))  # for equal a, larger b first, so that the pair is not counted
    group, rank, weight = table.group[order], rank[order], table.count[order]
    total = np.zeros(table.ngroups, object)
    node = group.copy()
    for bit in reversed(range(int(rank.max()).bit_length())):
        one = (rank >> bit) & 1 == 1
        starts = _runs(node)
        zeros = np.concatenate([[0], np.cumsum(np.where(one, 0, weight))[:-1]])
        below = _within(node, zeros, starts)
        upper = np.flatnonzero(one)
        # nodes of one group follow each other, so that the group is still sorted
        total = total + grouped_sum(group[upper], table.ngroups, weight[upper], below[upper])
        # split each node by the bit, keeping the order
        k = np.concatenate([[0], np.cumsum(~one)])
        lengths = np.diff(starts, append=len(node))
        zeros_in = np.repeat(k[starts + lengths] - k[starts], lengths)
        begin = np.repeat(starts, lengths)
        rank_zero = k[:-1] - np.repeat(k[starts], lengths)
        place = np.where(one, begin + zeros_in + (np.arange(len(node)) - begin - rank_zero), begin + rank_zero)
        moved = np.empty_like(rank), np.empty_like(weight), np.empty_like(node), np.empty_like(group)
        for new, old in zip(moved, (rank, weight, node * 2 + one, group), strict=True):
            new[place] = old
        rank, weight, node, group = moved
        node = np.concatenate([[0], np.cumsum(np.diff(node) != 0)])
    return total


def rank_product(table: Table, keep: np.ndarray, pooled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the kept pixels of A, and of B, times the rank weight (R - |rank a - rank b|) / R.

    Singan et al. 2011, as CellProfiler computes it: dense ranks from 0, R the largest rank of both channels plus 1.
    """
    size = table.ngroups
    if not len(table):
        return np.zeros(size), np.zeros(size)
    if levels := table.levels:
        return _rank_product_of_levels(table, keep, *levels)
    rank_a, rank_b = dense_ranks(table, pooled)
    top = np.zeros(size, np.int64)
    np.maximum.at(top, table.group, np.maximum(rank_a, rank_b) + 1)
    if pooled:
        top[:] = top.max()
    weight = (top[table.group] - np.abs(rank_a - rank_b))[keep]
    group, a, b, count = table.group[keep], table.a[keep], table.b[keep], table.count[keep]
    sums = []
    for x in (a, b):
        if x.dtype.kind == "f":
            sums.append(np.bincount(group, weights=count * weight * x, minlength=size) / np.maximum(top, 1))
        else:
            whole = grouped_sum(group, size, count * weight, x)
            sums.append(np.array([ratio(s, int(t)) if t else 0.0 for s, t in zip(whole, top, strict=True)], float))
    return sums[0], sums[1]


def _rank_product_of_levels(table: Table, keep: np.ndarray, a: Levels, b: Levels) -> tuple[np.ndarray, np.ndarray]:
    top = int(max(a.dense_ranks[-1], b.dense_ranks[-1])) + 1
    sums = [0, 0]
    for k in range(0, len(table), _STRIP):
        x, y, count = (v[k : k + _STRIP][keep[k : k + _STRIP]] for v in (table.a, table.b, table.count))
        weight = count * (top - np.abs(a.dense_ranks[x - a.low] - b.dense_ranks[y - b.low]))
        for j, value in enumerate((x, y)):
            sums[j] += _total(weight, value.astype(np.int64))
    return np.array([ratio(sums[0], top)]), np.array([ratio(sums[1], top)])
