"""Laws of patches: where they lie, what they hold, and what they say of themselves.

Tilings cover every pixel exactly once, padding is that of numpy.pad, a patch is a function of (seed, epoch, index),
shards and splits are exact, and making patches reads nothing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from patch_images import image, spaced, unread
from thoroughness import examples

import intake_img
from intake_img.accessor.patches import Patches, filters
from intake_img.errors import AxesError
from intake_img.kernels import sampling, tiling

pytestmark = pytest.mark.thorough

EDGES = ("shift", "pad", "drop", "partial", "balanced")


# tilings


@examples(200)
@given(st.data())
def test_cores_of_a_grid_cover_every_pixel_exactly_once(data):
    axes = data.draw(st.integers(1, 3))
    edge = data.draw(st.sampled_from(("shift", "pad", "partial", "balanced")))
    shape, size, step = [], [], []
    for _ in range(axes):
        n = data.draw(st.integers(1, 14))
        s = data.draw(st.integers(1, n if edge in ("shift", "balanced") else 16))
        shape.append(n)
        size.append(s)
        step.append(data.draw(st.integers(1, s)))
    halo = data.draw(st.integers(0, 3))
    dims = list("zyx")[-axes:]
    array = xr.DataArray(np.zeros((2, *shape), "u1"), dims=["t", *dims])
    sizes, steps = dict(zip(dims, size, strict=True)), dict(zip(dims, step, strict=True))
    p = intake_img.patches(array, sizes, step=steps, edge=edge, halo=halo)
    covered = np.zeros((2, *shape), int)
    plan = p.plan
    for t, a, b, c, d in zip(plan.index[:, 0], plan.core_start, plan.core_stop, plan.start, plan.stop, strict=True):
        assert (a >= c).all()
        assert (b <= d).all()
        covered[(t, *map(slice, a, b))] += 1
    assert (covered == 1).all()
    assert (plan.stop - plan.start == plan.shape).all()
    if edge != "partial":
        assert (plan.shape == plan.size).all()


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 25))
def test_starts_of_each_edge_policy(n, size, step):
    covers = n > size and step <= size
    for edge in EDGES:
        if size > n and edge in ("shift", "balanced"):
            with pytest.raises(ValueError, match="larger"):
                tiling.starts(n, size, step, edge)
            continue
        first = tiling.starts(n, size, step, edge)
        assert (np.diff(first) > 0).all() or edge in ("shift", "balanced")
        if edge in ("shift", "balanced", "drop"):
            assert ((first >= 0) & (first + size <= n)).all()
        if edge == "drop":
            assert len(first) == max(0, (n - size) // step + 1)
        if covers and edge != "drop":
            hit = np.zeros(n, bool)
            for a in first:
                hit[max(a, 0) : a + size] = True
            assert hit.all()
    if size <= n and (n - size) % step == 0:
        assert (tiling.starts(n, size, step, "error") == np.arange(0, n - size + 1, step)).all()


def test_error_edge_refuses_what_does_not_come_out_even():
    a = image(20, 16)
    assert len(intake_img.patches(a, 4, edge="error")) == 20
    with pytest.raises(ValueError, match=r"axis 'y': 20 pixels do not come out even in patches of 8.*edge='shift'"):
        intake_img.patches(a, 8, edge="error").plan  # noqa: B018


# padding


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
def test_a_patch_beyond_the_corner_is_that_of_numpy_pad(mode):
    ramp = np.arange(36).reshape(6, 6)
    table = pd.DataFrame({"y0": [-1, -9, 3], "x0": [-1, 2, 7]})
    p = intake_img.patches(
        xr.DataArray(ramp, dims=["y", "x"]), 8, sample="fixed", table=table, edge="pad", pad_mode=mode
    )
    padded = np.pad(ramp, 20, mode)
    for k, (y, x) in enumerate(zip(table.y0, table.x0, strict=True)):
        np.testing.assert_array_equal(p.read(k)[0], padded[20 + y : 28 + y, 20 + x : 28 + x])
        np.testing.assert_array_equal(p.reader()(k), padded[20 + y : 28 + y, 20 + x : 28 + x])
    first = p[0]
    assert (first.valid_y0, first.valid_y1, first.valid_x0, first.valid_x1) == (1, 7, 1, 7)


@examples(60)
@given(st.data())
def test_modes_of_axes_follow_one_another_as_in_numpy(data):
    shape = tuple(data.draw(st.integers(1, 7)) for _ in range(2))
    modes = {a: data.draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"])) for a in "yx"}
    start = [data.draw(st.integers(-12, 12)) for _ in range(2)]
    size = data.draw(st.integers(1, 9))
    ramp = np.arange(np.prod(shape)).reshape(shape) + 1
    padded = ramp
    for k, a in enumerate("yx"):
        width = [(30, 30) if j == k else (0, 0) for j in range(2)]
        options = {"constant_values": 77} if modes[a] == "constant" else {}
        padded = np.pad(padded, width, modes[a], **options)
    array = xr.DataArray(ramp, dims=["y", "x"]).chunk(y=3, x=2)
    p = intake_img.patches(
        array,
        {"y": size, "x": size},
        sample="fixed",
        edge="pad",
        pad_mode=modes,
        fill_value=77,
        table=pd.DataFrame({"y0": [start[0]], "x0": [start[1]]}),
    )
    want = padded[tuple(slice(30 + s, 30 + s + size) for s in start)]
    np.testing.assert_array_equal(p.read(0)[0], want)


@examples(40)
@given(st.data())
def test_pixels_of_every_way_of_sampling(data):
    sample = data.draw(st.sampled_from(["grid", "random", "stratified"]))
    edge = data.draw(st.sampled_from(["shift", "pad", "drop", "partial"]))
    halo = data.draw(st.integers(0, 2))
    size = {a: data.draw(st.integers(1, 9)) for a in "yx"}
    values = np.random.default_rng(0).integers(1, 200, (2, 3, 11, 13)).astype("u1")
    array = xr.DataArray(values, dims=["t", "c", "y", "x"], name="image")
    if data.draw(st.booleans()):
        array = array.chunk(t=1, c=2, y=data.draw(st.integers(1, 11)), x=5)
    array = array.transpose(*data.draw(st.permutations(["t", "c", "y", "x"])))
    beyond = {"pad_mode": "reflect"} if edge == "pad" or halo else {}
    p = array.img.patches(size, sample=sample, edge=edge, halo=halo, **beyond)
    padded = np.pad(values, [(0, 0), (0, 0), (20, 20), (20, 20)], "reflect")
    order = p.dims()[2:]
    for k in range(0, len(p), max(1, len(p) // 10)):
        plan = p.plan
        box = dict(zip(p.axes, zip(plan.start[k], plan.stop[k], strict=True), strict=True))
        want = padded[plan.index[k, 0]][:, 20 + box["y"][0] : 20 + box["y"][1], 20 + box["x"][0] : 20 + box["x"][1]]
        got = xr.DataArray(p.read([k])[0], dims=["c", *order]).transpose("c", "y", "x")
        np.testing.assert_array_equal(got.values, want)
        np.testing.assert_array_equal(p[k].image.transpose("c", "y", "x").values, want)


# laws of sampling


def coverage(p: Patches, shape: tuple[int, int], epochs: int) -> np.ndarray:
    total = np.zeros(shape)
    for e in range(epochs):
        plan = p.set_epoch(e).plan
        for (y, x), (b, d) in zip(np.maximum(plan.start, 0), plan.stop, strict=True):
            total[y:b, x:d] += 1
    return total / epochs


@pytest.mark.parametrize("sample", ["random", "stratified"])
def test_no_pixel_comes_up_less_often_than_those_in_the_middle(sample):
    a = image(24, 24)
    padded = coverage(intake_img.patches(a, 8, sample=sample, edge="pad"), (24, 24), 1500)
    assert abs(padded / padded.mean() - 1).max() < 0.25
    assert abs(padded[[0, 0, -1, -1], [0, -1, 0, -1]].mean() / padded.mean() - 1) < 0.08
    shifted = coverage(intake_img.patches(a, 8, sample=sample), (24, 24), 600)
    assert shifted[0, 0] > 0.85 * shifted[12, 12]
    dropped = coverage(intake_img.patches(a, 8, sample=sample, edge="drop"), (24, 24), 300)
    assert dropped[0, 0] < 0.1 * dropped[12, 12]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 6))
def test_strata_expect_every_place_alike(places, cells, seed):
    u = (np.arange(2000) + 0.5) / 2000
    times = np.zeros(places)
    for cell in range(cells):
        found = sampling.strata(u, np.full(2000, cell), np.full(2000, cells), np.full(2000, places))
        times += np.bincount(found, minlength=places) / 2000
    np.testing.assert_allclose(times, cells / places, atol=2e-3 * cells)


def test_a_patch_is_a_function_of_seed_epoch_and_index():
    a = image(50, 60)
    p = intake_img.patches(a, 8, sample="random", n=100, seed=3)
    longer = intake_img.patches(a, 8, sample="random", n=500, seed=3)
    np.testing.assert_array_equal(p.plan.start, longer.plan.start[:100])
    first = p.plan
    assert p.set_epoch(1).plan.id != first.id
    assert p.set_epoch(0).plan.id == first.id
    assert intake_img.patches(a, 8, sample="random", n=100, seed=4).plan.id != first.id
    assert len(np.unique(first.start, axis=0)) > 90
    masked = intake_img.patches(a, 8, sample="random", n=100, seed=3, where=lambda q: q[0, 0] % 2 == 0)
    good = a.values[first.start[:, 0], first.start[:, 1]] % 2 == 0
    np.testing.assert_array_equal(masked.plan.start[good], first.start[good])  # what is turned down moves no other


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shards_together_are_the_whole(world):
    p = intake_img.patches(image(50, 60), 8, sample="random", n=101)
    parts = [p.shard(r, world) for r in range(world)]
    assert sum(map(len, parts)) == 101
    rows = {tuple(r) for q in parts for r in np.column_stack([q.plan.start, q.plan.source]).tolist()}
    assert rows == {tuple(r) for r in np.column_stack([p.plan.start, p.plan.source]).tolist()}
    for r, q in enumerate(parts):
        np.testing.assert_array_equal(q.plan.start, p.plan.start[r::world])
        np.testing.assert_array_equal(q.read([0]), p.read([r]))
    nested = [q.shard(w, 3) for q in parts for w in range(3)]
    assert sum(map(len, nested)) == 101
    assert {tuple(s) for q in nested for s in q.plan.start.tolist()} == {tuple(s) for s in p.plan.start.tolist()}


def touched(p: Patches, sizes: tuple[int, int]) -> np.ndarray:
    hit = np.zeros((len(p.sources), *sizes), bool)
    for s, a, b in zip(p.plan.source, p.plan.start, p.plan.stop, strict=True):
        hit[(s, *map(slice, np.maximum(a, 0), np.maximum(b, 0)))] = True
    return hit


@examples(20)
@given(st.data())
def test_halves_of_a_split_share_no_pixel(data):
    sample = data.draw(st.sampled_from(["grid", "random", "stratified"]))
    edge = data.draw(st.sampled_from(["shift", "pad", "drop"]))
    array = xr.DataArray(np.zeros((2, 48, 64), "u1"), dims=["t", "y", "x"])
    p = intake_img.patches([array] * 2, 8, sample=sample, edge=edge, seed=data.draw(st.integers(0, 99)))
    share, block = data.draw(st.floats(0.1, 0.6)), data.draw(st.integers(2, 3))
    train, val = p.split(share, block=block, seed=data.draw(st.integers(0, 9)))
    one, two = touched(train, (48, 64)), touched(val, (48, 64))
    assert not (one & two).any()
    assert one.any()
    assert two.any()


def test_split_by_source_and_by_axis():
    several = intake_img.patches([image(16, 16, seed=k) for k in range(5)], 8)
    train, val = several.split(0.4, by="source")
    assert not set(train.plan.source) & set(val.plan.source)
    assert len(set(val.plan.source)) == 2
    times = intake_img.patches(image(10, 16, 16, dims="tyx"), 8)
    train, val = times.split(0.3, by="t")
    assert not set(train.plan.index[:, 0]) & set(val.plan.index[:, 0])
    assert len(val) == 3 * 4
    with pytest.raises(ValueError, match="by='z'"):
        times.split(0.3, by="z")
    with pytest.raises(ValueError, match="single block"):
        intake_img.patches(image(16, 16), 8).split(0.1, block=2)


def test_random_halves_have_their_shares():
    train, val = intake_img.patches(image(200, 200), 8, sample="random", n=1000).split(0.2, block=2)
    assert (len(train), len(val)) == (800, 200)
    assert val.set_epoch(3).plan.id != val.set_epoch(4).plan.id


def test_weights_masks_and_labels():
    values = np.zeros((40, 40), "u1")
    values[5:8, 5:8], values[30:35, 20:28] = 1, 2
    ds = xr.Dataset({"image": (("y", "x"), np.zeros((40, 40))), "objects": (("y", "x"), values)})
    centre = np.array([4, 4])
    p = ds.img.patches(8, sample="weighted", mask="objects", n=2000, edge="pad", variables=["image"])
    at = tuple((p.plan.start + centre).T)
    assert (values[at] > 0).all()
    share = (values[at] == 2).mean()
    assert abs(share - 40 / 49) < 0.05
    np.testing.assert_array_equal(p.plan.weight, values[at])
    p = ds.img.patches(8, sample="weighted", labels="objects", n=2000, edge="pad")
    assert abs((values[tuple((p.plan.start + centre).T)] == 2).mean() - 0.5) < 0.05
    p = ds.img.patches(8, sample="weighted", labels="objects", balance={0: 1, 1: 3}, n=2000, edge="pad")
    found = values[tuple((p.plan.start + centre).T)]
    assert abs((found == 1).mean() - 0.75) < 0.05
    assert not (found == 2).any()
    weights = np.zeros((40, 40))
    weights[0, 0], weights[39, 39] = 1, 3
    p = ds.img.patches(8, sample="weighted", weights=weights, n=1000)
    assert {tuple(s) for s in p.plan.start.tolist()} == {(0, 0), (32, 32)}
    assert abs((p.plan.start[:, 0] == 32).mean() - 0.75) < 0.06
    with pytest.raises(ValueError, match="0 everywhere"):
        ds.img.patches(8, sample="weighted", weights=np.zeros((40, 40))).plan  # noqa: B018
    with pytest.raises(ValueError, match="label 7"):
        ds.img.patches(8, sample="weighted", labels="objects", balance={7: 1}).plan  # noqa: B018


def test_a_coarse_map_is_aligned_by_coordinates():
    fine = spaced(image(40, 40), {"y": 0.5, "x": 0.5})
    coarse = np.zeros((10, 10))
    coarse[2, 7] = 1
    weights = spaced(xr.DataArray(coarse, dims=["y", "x"]), {"y": 2.0, "x": 2.0}, {"y": 0.75, "x": 0.75})
    p = fine.img.patches(4, sample="weighted", weights=weights, n=400, edge="pad")
    centres = p.plan.start + 2
    assert {tuple(c) for c in centres.tolist()} == {(y, x) for y in range(8, 12) for x in range(28, 32)}


def test_coverage_of_a_mask():
    mask = np.zeros((2, 32, 32), bool)
    mask[1, :16, :12] = True
    ds = xr.Dataset({"image": (("t", "y", "x"), np.zeros((2, 32, 32))), "mask": (("t", "y", "x"), mask)})
    p = ds.img.patches(8, mask="mask", min_coverage=0.5)
    shares = [mask[t, y : y + 8, x : x + 8].mean() for t, (y, x) in zip(p.plan.index[:, 0], p.plan.start, strict=True)]
    assert min(shares) == 0.5
    assert len(p) == 4
    q = ds.img.patches(8, sample="random", mask="mask", min_coverage=0.5, n=50)
    assert len(q) == 50
    assert all(
        mask[t, y : y + 8, x : x + 8].mean() >= 0.5 for t, (y, x) in zip(q.plan.index[:, 0], q.plan.start, strict=True)
    )


def test_centers_in_pixels_and_units():
    a = spaced(image(3, 40, 40, dims="tyx"), {"y": 0.5, "x": 0.25}, {"y": 10.0})
    p = a.img.patches(
        5, sample="centers", centers=pd.DataFrame({"t": [0, 2], "y": [12.0, 29.5], "x": [3.0, 5.0]}), units="pixel"
    )
    np.testing.assert_array_equal(p.plan.start, [[10, 1], [28, 3]])
    np.testing.assert_array_equal(p.plan.index[:, 0], [0, 2])
    q = a.img.patches(
        {"y": 2.5, "x": 1.25},
        sample="centers",
        units="physical",
        edge="drop",
        centers={"t": [0, 2, 1], "y": [16.0, 24.0, 10.0], "x": [3.0, 5.0, 5.0]},
    )
    assert q.size == {"y": 5, "x": 5}
    np.testing.assert_array_equal(q.plan.start, [[10, 10], [26, 18]])
    with pytest.raises(ValueError, match="patch 2 reaches from -2 to 3 along 'y'"):
        len(a.img.patches(5, sample="centers", edge="error", centers={"t": [0, 2, 1], "y": [16, 24, 0], "x": [9] * 3}))
    r = a.isel(t=0).img.patches(5, sample="centers", centers=[[3, 4], [20, 20]])
    np.testing.assert_array_equal(r.plan.start, [[1, 2], [18, 18]])


def test_more_errors():
    p = image(40, 40).img.patches(8)
    with pytest.raises(ValueError, match="lookahead='many'"):
        p.batches(4, lookahead="many")
    with pytest.raises(ValueError, match="n=0"):
        p.batches(0)
    with pytest.raises(ValueError, match="rank=2"):
        p.shard(2, 2)
    with pytest.raises(ValueError, match="'raw'"):
        p.read(0, "raw")
    with pytest.raises(ValueError, match="val=1"):
        p.split(1)
    with pytest.raises(ValueError, match="a subset already"):
        p.split(0.2)[0].split(0.2)
    with pytest.raises(TypeError, match="not from str"):
        intake_img.patches(["a.tif"], 8)
    with pytest.raises(ValueError, match="list is empty"):
        intake_img.patches([], 8)
    with pytest.raises(ValueError, match="no patch is left"):
        len(image(4, 4).img.patches(8, edge="drop"))
    with pytest.raises(ValueError, match="no patch is left"):
        len(image(4, 4).img.patches(8, edge="drop", sample="random"))


# text and pictures


def test_repr_says_what_there_is():
    p = image(3, 2, 40, 40, dims="tcyx").img.patches(16, overlap=4, halo=2)
    text = repr(p)
    assert text.startswith("<Patches>")
    assert "27, 1.6 kB each, 43.2 kB in all" in text
    assert "(c: 2, y: 20, x: 20) uint16" in text
    assert "grid, step 12 × 12, halo 2 × 2, edge shift" in text
    assert "<table" in p._repr_html_()
    named = image(40, 40).to_dataset().assign_attrs(uri="/a/<b>.tif")
    assert "/a/&lt;b&gt;.tif" in named.img.patches(8)._repr_html_()
    lazy = unread((40, 40), "yx", (8, 8)).img.patches(8, where=filters.mean_std(5))
    assert "chosen by pixels" in repr(lazy)


def test_plot_draws_the_patches_of_a_plane():
    import matplotlib.pyplot as plt

    p = image(3, 2, 5, 40, 48, dims="tczyx").img.patches({"y": 16, "x": 16})
    ax = p.plot(t=1, z=2)
    assert len(ax.collections[0].get_paths()) == 9
    assert ax.images[0].get_array().shape == (40, 48)
    assert p.plot(ax=ax, projection="max") is ax
    with pytest.raises(AxesError, match="'c' is not iterated over"):
        p.plot(c=1)
    with pytest.raises(ValueError, match="projection='median'"):
        p.plot(projection="median")
    boxes = unread((40, 40), "yx", (8, 8)).img.patches(8).plot(image=False)
    assert not boxes.images
    with pytest.raises(AxesError, match="only those with y and x"):
        image(40, 40).img.patches({"y": 8}).plot()
    plt.close("all")
