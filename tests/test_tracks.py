"""Laws of tracks: all assignments, tried one by one, say which links are best; gaps, units, groups, what is refused."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import stack
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.errors import AxesError, UnitsError

pytestmark = pytest.mark.thorough


def best(cost, allowed):
    """The assignment of rows to columns, or to nothing, that saves most: 1 - cost for each pair; by trying all."""
    n, m = cost.shape
    found, most = [], 0.0
    for columns in permutations([*range(m), *[None] * n], n):
        pairs = [(i, j) for i, j in enumerate(columns) if j is not None]
        if all(allowed[p] for p in pairs) and sum(1 - cost[p] for p in pairs) > most + 1e-12:
            found, most = pairs, sum(1 - cost[p] for p in pairs)
    return found


def distances(a, b, most):
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)) / most


def brute_force(table, most, gap, steps):
    points, frames = table[list(steps)].to_numpy() * list(steps.values()), table["t"].to_numpy()
    links = {}
    for t in range(frames.max(initial=0)):
        own, new = np.flatnonzero(frames == t), np.flatnonzero(frames == t + 1)
        cost = distances(points[own], points[new], most)
        links |= {own[i]: new[j] for i, j in best(cost, cost < 1)}
    if gap:
        ends = [k for k in range(len(table)) if k not in links]
        starts = [k for k in range(len(table)) if k not in links.values()]
        cost = distances(points[ends], points[starts], most)
        later = frames[starts][None] - frames[ends][:, None]
        usable = (cost < 1) & (later > 1) & (later <= gap + 1)
        rows, columns = np.flatnonzero(usable.any(1)), np.flatnonzero(usable.any(0))
        for i, j in best(cost[np.ix_(rows, columns)], usable[np.ix_(rows, columns)]):
            links[ends[rows[i]]] = starts[columns[j]]
    numbers = {}
    for k in range(len(table)):
        if k not in links.values():
            number = len(set(numbers.values())) + 1
            while k is not None:
                numbers[k], k = number, links.get(k)
    order = list(dict.fromkeys(numbers[k] for k in range(len(table))))
    return [order.index(numbers[k]) + 1 for k in range(len(table))]


@examples(150)
@given(
    seed=st.integers(0, 10**6),
    gap=st.integers(0, 2),
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    steps=st.sampled_from([{"y": 1.0, "x": 1.0}, {"y": 0.5, "x": 2.0}, {"z": 1.8, "y": 0.5, "x": 0.6}]),
)
def test_links_are_the_best_of_all(seed, gap, counts, steps):
    rng = np.random.default_rng(seed)
    frames = np.repeat(np.arange(len(counts)), counts)
    table = pd.DataFrame({"t": frames, **{a: rng.uniform(0, 10, len(frames)) for a in steps}})
    table.attrs = {"column_units": dict.fromkeys(steps, "px")}
    coords = {a: (a, s * np.arange(4), {"units": "µm", "spacing": s}) for a, s in steps.items()}
    image = stack(np.zeros((len(counts), *[4] * len(steps))), ["t", *steps]).assign_coords(coords)
    most = rng.uniform(1, 8)
    assert image.img.track(table, most, gap=gap)["track"].tolist() == brute_force(table, most, gap, steps)
    shuffled = table.sample(frac=1, random_state=seed)
    again = image.img.track(shuffled, most, gap=gap)
    assert again.index.equals(shuffled.index)
    same = again["track"].sort_index().to_numpy()
    wanted = image.img.track(table, most, gap=gap)["track"].to_numpy()
    assert len({*zip(same, wanted, strict=True)}) == len({*wanted}) == len({*same})


def movie():
    """Two cells that move; one is not seen at t = 2."""
    values = np.zeros((5, 40, 60), int)
    for t in range(5):
        values[t, 5 + t : 9 + t, 10 + 3 * t : 14 + 3 * t] = 7 - t
        if t != 2:
            values[t, 30:34, 40 - 4 * t : 44 - 4 * t] = 11 + t
    coords = {a: (a, s * np.arange(n), {"units": u, "spacing": s}) for a, n, s, u in SCALES}
    labels = xr.DataArray(values, dims=["t", "y", "x"], coords=coords, attrs={"kind": "labels"})
    return xr.Dataset({"image": labels.copy(data=values * 10).assign_attrs(kind="intensity"), "labels": labels})


SCALES = [("y", 40, 500.0, "nm"), ("x", 60, 0.25, "µm"), ("t", 5, 2.0, "s")]


@pytest.mark.parametrize("units", ["pixel", "physical"])
def test_regions_of_a_movie_in_any_unit(units):
    pytest.importorskip("skimage")
    ds = movie()
    table = ds.img.measure_objects(units=units)
    found = ds.img.track(table, "2.5 µm", gap=1)
    assert found.drop(columns="track").equals(table)
    assert found.attrs == table.attrs
    assert found.groupby("track").size().tolist() == [5, 4]
    assert set(found.loc[found["track"] == 1, "intensity_mean"]) == {70, 60, 50, 40, 30}
    assert ds.img.track(table, 2.5)["track"].max() == 3  # µm; the gap stays open
    assert ds.img.track(table, "1.1 µm", gap=1)["track"].max() == 3  # 1 µm a step along x, 2 over the gap
    assert ds.img.track(table, 0.95, gap=1)["track"].max() == 1 + 4  # along y and x 0.9 µm
    assert ds.img.track(table, 0.9, gap=1)["track"].max() == 9


def test_what_other_axes_keep_apart():
    table = pd.DataFrame({"c": [0, 1, 0, 1], "t": [0, 0, 1, 1], "y": [1.0, 1, 1, 1], "x": [1.0, 1, 1, 1]})
    image = stack(np.zeros((2, 2, 4, 4)), "ctyx")
    assert image.img.track(table, 3)["track"].tolist() == [1, 2, 1, 2]
    empty = image.img.track(table.iloc[:0], 3)
    assert (empty["track"].dtype, len(empty)) == (np.int64, 0)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda t: t.drop(columns="t"), ValueError, "lacks the column 't'"),
        (lambda t: t.drop(columns="centroid-1"), ValueError, "lacks the column 'centroid-1'"),
        (lambda t: t.assign(t=t["t"] + 0.5), ValueError, "t=.*which the image has not"),
        (lambda t: t.assign(**{"centroid-0": np.nan}), ValueError, "not finite"),
        (lambda t: pd.DataFrame(t.to_dict("list")), ValueError, r"does not say the unit.*'centroid-0': 'nm'"),
        (lambda t: t.to_numpy(), TypeError, "expected a DataFrame"),
    ],
)
def test_tables_that_cannot_be_linked(change, error, said):
    pytest.importorskip("skimage")
    ds = movie()
    with pytest.raises(error, match=said):
        ds.img.track(change(ds.img.measure_objects()), 2)


def test_lengths_and_images_that_do_not_fit():
    table = pd.DataFrame({"t": [0], "y": [1.0], "x": [1.0]})
    image = stack(np.zeros((2, 4, 4)), "tyx")
    for wrong in (0, -1, np.nan, "a", None, True, [1]):
        with pytest.raises((ValueError, TypeError), match="max_distance"):
            image.img.track(table, wrong)
    with pytest.raises(UnitsError):
        image.img.track(table, "3 µm")
    with pytest.raises(AxesError, match="'t'"):
        image[0].img.track(table, 3)
