"""What patches hold and say: filters, tables, labels, other grids, several sources, batches, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from patch_images import image, spaced, unread

import intake_img
from intake_img.accessor.patches import Patches, filters
from intake_img.errors import AxesError

# filters


def test_filters_are_those_of_careamics():
    patch = np.zeros((1, 16, 16))
    patch[0, 4:8, 4:8] = 10
    assert filters.max_above(10, 0.25)(patch).tolist() == [False]  # nothing lies above 10
    assert filters.max_above(9, 0.25)(patch).tolist() == [True]
    assert filters.max_above(11, 0.0)(patch).tolist() == [False]
    assert filters.max_above(9, 0.9)(patch).tolist() == [False]
    assert filters.mean_std(0.625, 2)(patch).tolist() == [True]
    assert filters.mean_std(0.626, 2)(patch).tolist() == [False]
    assert filters.mean_std(0.1, 3)(patch).tolist() == [False]
    from skimage.measure import shannon_entropy

    noise = np.random.default_rng(0).integers(0, 9, (1, 16, 16))
    entropy = shannon_entropy(noise[0])
    assert filters.shannon(entropy - 1e-9)(noise).tolist() == [True]
    assert filters.shannon(entropy + 1e-9)(noise).tolist() == [False]
    assert filters.foreground("m", 1 / 16)(patch).tolist() == [True]
    assert filters.foreground("m", 0.07)(patch).tolist() == [False]


def test_filters_choose_and_say_when_nothing_is_left():
    values = np.zeros((32, 32), "u1")
    values[:8, 8:16] = 50
    ds = xr.Dataset({"image": (("y", "x"), values), "mask": (("y", "x"), values > 0)})
    p = ds.img.patches(8, where=filters.mean_std(10))
    assert p.plan.start.tolist() == [[0, 8]]
    assert ds.img.patches(8, where=filters.foreground("mask")).plan.start.tolist() == [[0, 8]]
    q = ds.img.patches(8, sample="random", n=20, where=[lambda a: a.mean() > 10])
    assert len(q) == 20
    assert (q.read(slice(None)).mean(axis=(1, 2)) > 10).all()
    with pytest.raises(ValueError, match=r"no patch is left: nothing passes mean_std\(mean=99, std=0.0\)"):
        len(ds.img.patches(8, where=filters.mean_std(99)))
    with pytest.raises(TypeError, match="where=3"):
        ds.img.patches(8, where=[3])
    with pytest.raises(ValueError, match="'nothing'"):
        ds.img.patches(8, where=filters.foreground("nothing"))
    partial = intake_img.patches(image(20, 20), 8, edge="partial", where=lambda a: a.size < 64)
    assert len(partial) == 5


# reading nothing


def test_making_patches_reads_nothing(tmp_path):
    ds = unread((4, 3, 100, 120), "tcyx", (1, 1, 32, 32))
    for sample in ("grid", "random", "stratified"):
        p = ds.img.patches(16, sample=sample)
        assert len(p) == len(p.table) > 0
        train, val = p.split(0.2)
        assert len(train) + len(val) > 0
        assert len(p.shard(0, 2)) > 0
        assert repr(p)
        assert p._repr_html_()
        assert pickle.dumps(p)
        assert len(p.batches(8))
    p.table.to_csv(tmp_path / "plan.csv")
    assert len(Patches.from_table(tmp_path / "plan.csv", ds)) == len(p)
    filtered = ds.img.patches(16, where=filters.mean_std(1))
    weighted = ds.isel(c=0).img.patches(16, sample="weighted", weights="image")
    for q in (filtered, weighted):
        with pytest.raises(AssertionError, match="pixels are read"):
            len(q)


# tables


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_open_again(tmp_path, suffix):
    a = spaced(image(3, 40, 44, dims="tyx"), {"y": 0.5, "x": 0.5})
    p = a.img.patches(16, overlap=3, halo=2)
    table = p.table
    path = tmp_path / f"plan.{suffix}"
    table.to_csv(path) if suffix == "csv" else table.to_parquet(path)
    again = Patches.from_table(path, a)
    assert again.plan == p.plan
    assert again.size == p.size == {"y": 20, "x": 20}
    np.testing.assert_array_equal(again.read(slice(None)), p.read(slice(None)))
    some = Patches.from_table(table[table.t0 == 1], a)
    assert (some.plan.index == 1).all()
    assert table.index.name == "patch"
    assert {"source", "uri", "scene", "t0", "y0", "y_size", "valid_y0", "core_y1", "epoch"} <= set(table.columns)


def test_tables_that_do_not_fit():
    a = image(3, 40, 40, dims="tyx")
    with pytest.raises(AxesError, match="no column 'x0'"):
        intake_img.patches(a, 8, sample="fixed", table=pd.DataFrame({"y0": [1], "t0": [0]}))
    with pytest.raises(AxesError, match="no column 't0' or 't'"):
        intake_img.patches(a, 8, sample="fixed", table=pd.DataFrame({"y0": [1], "x0": [0]}))
    with pytest.raises(ValueError, match="row 0 of the table has t0=7"):
        intake_img.patches(a, 8, sample="fixed", table=pd.DataFrame({"y0": [1], "x0": [0], "t0": [7]}))
    with pytest.raises(ValueError, match="size of patches"):
        Patches.from_table(pd.DataFrame({"y0": [1], "x0": [0], "t0": [1]}), a)
    with pytest.raises(ValueError, match="names source 3"):
        intake_img.patches(a, 8, sample="fixed", table=pd.DataFrame({"y0": [1], "x0": [0], "t0": [1], "source": [3]}))


# what patches say


def test_patches_know_where_they_come_from():
    a = image(3, 2, 40, 40, dims="tcyx", c=["dapi", "gfp"], t=[0.0, 1.5, 3.0])
    a = spaced(a, {"y": 0.5, "x": 0.25}, {"x": -4.0})
    p = a.to_dataset(name="raw").assign_attrs(uri="/data/a.czi", scene="S1").img.patches(16, edge="pad")
    some = p[[10, 26]]
    assert some.raw.dims == ("patch", "c", "y", "x")
    assert some.patch.values.tolist() == [10, 26]
    assert some.t.values.tolist() == [1.5, 3.0]
    assert some.t0.values.tolist() == [1, 2]
    assert some.y.dims == ("patch", "y")
    np.testing.assert_allclose(some.y.values, (some.y0.values[:, None] + np.arange(16)) * 0.5)
    np.testing.assert_allclose(some.x.values, -4 + (some.x0.values[:, None] + np.arange(16)) * 0.25)
    assert some.uri.values.tolist() == ["/data/a.czi"] * 2
    assert some.scene.values.tolist() == ["S1"] * 2
    assert some.c.values.tolist() == ["dapi", "gfp"]
    assert some.valid_y1.values.tolist() == [16, 8]
    one = p[10]
    assert one.raw.dims == ("c", "y", "x")
    assert one.img.spacing == {"y": 0.5, "x": 0.25}
    assert one.img.units == {"y": "µm", "x": "µm"}
    want = a.isel(t=1, y=slice(0, 16), x=slice(16, 32))
    np.testing.assert_array_equal(one.raw.values, want.values)
    np.testing.assert_array_equal(one.x.values, want.x.values)
    assert p[-1].patch == len(p) - 1
    assert p[2:5].sizes["patch"] == 3
    assert p[np.arange(len(p)) < 4].sizes["patch"] == 4
    assert p[[]].sizes["patch"] == 0
    with pytest.raises(IndexError, match=r"no patch 99: there are 27"):
        p[99]
    with pytest.raises(IndexError, match="chosen by"):
        p["a"]
    xr.testing.assert_identical(pickle.loads(pickle.dumps(p))[[10, 26]], some)


def test_axes_kept_iterated_and_cut():
    a = image(2, 3, 4, 20, 20, dims="tczyx")
    assert intake_img.patches(a, {"y": 8, "x": 8}).over == ("t", "z")
    p = intake_img.patches(a, {"y": 8, "x": 8}, over=["t"])
    assert p.dims() == ("patch", "c", "z", "y", "x")
    assert p.shape() == (3, 4, 8, 8)
    assert intake_img.patches(a, {"y": 8, "x": 8}, over=["t", "c", "z"]).shape() == (8, 8)
    p = intake_img.patches(a, {"t": 2, "y": 8})
    assert p.axes == ("t", "y")
    assert p.over == ("z", "x")
    assert intake_img.patches(a, (8, 8)).size == {"y": 8, "x": 8}
    assert intake_img.patches(a, 4).size == {"z": 4, "y": 4, "x": 4}
    np.testing.assert_array_equal(p.read([0])[0], a.values[:2, :, 0, :8, 0].transpose(1, 0, 2))


# several variables, levels, sources


def test_variables_on_other_grids_are_cut_at_the_same_box():
    fine = spaced(image(64, 64), {"y": 0.5, "x": 0.5}, {"y": 3.0})
    coarse = fine.coarsen(y=2, x=4).mean().rename("label")
    coarse = spaced(coarse, {"y": 1.0, "x": 2.0}, {"y": 3.25, "x": 0.75})
    p = fine.img.patches(16, paired={"label": coarse})
    assert p.variables == ("image", "label")
    assert p.dims("label") == ("patch", "y_label", "x_label")
    for k in (0, 5, 15):
        patch = p[k]
        np.testing.assert_allclose(patch.label.values, patch.image.values.reshape(8, 2, 4, 4).mean(axis=(1, 3)))
        np.testing.assert_allclose(patch.y_label[0], patch.y[0] + 0.25)
    shifted = spaced(coarse.isel(y=slice(8, None)), {"y": 1.0, "x": 2.0}, {"y": 11.25, "x": 0.75})
    q = fine.img.patches(16, paired={"label": shifted}, edge="pad")  # by coordinates, not by index
    np.testing.assert_allclose(q.read([4], "label")[0], p.read([4], "label")[0])
    assert not q.read([0], "label").any()
    nanometres = coarse.assign_coords(y=("y", coarse.y.values * 1000, {"units": "nm", "spacing": 1000.0}))
    same = fine.img.patches(16, paired={"label": nanometres})
    np.testing.assert_array_equal(same.read([5], "label"), p.read([5], "label"))
    with pytest.raises(ValueError, match="aligned by coordinates"):
        fine.img.patches(16, paired={"label": coarse.drop_vars("y")})


def test_levels_keep_the_centre():
    fine = image(64, 64)
    half = fine.coarsen(y=2, x=2).mean().rename("image")
    tree = xr.DataTree.from_dict({"0": fine.to_dataset(), "1": half.to_dataset()})
    p = intake_img.patches(tree, 16, levels=["1"], edge="pad")
    assert p.variables == ("image", "image_level1")
    assert p.shape("image_level1") == (16, 16)
    np.testing.assert_array_equal(p[5].image_level1.values, half.values[4:20, 4:20])  # centre 24 is at 12 of the half
    assert p.dims("image_level1") == ("patch", "y_level1", "x_level1")
    each = intake_img.patches(tree, 16)
    assert [s.scene for s in each.sources] == ["0", "1"]
    assert len(each) == 16 + 4
    with pytest.raises(ValueError, match=r"no such node; it has '0', '1'"):
        intake_img.patches(tree, 16, levels=["7"])


def test_several_sources_in_one_sampler():
    parts = [image(40, 40, seed=0), image(24, 56, seed=1), image(16, 16, seed=2).astype("u1")]
    p = intake_img.patches(parts, 16, sample="random", n=300)
    assert set(p.plan.source) == {0, 1, 2}
    assert p.dtype() == np.uint16
    for k in range(0, 300, 17):
        s, (y, x) = p.plan.source[k], p.plan.start[k]
        np.testing.assert_array_equal(p.read([k])[0], parts[s].values[y : y + 16, x : x + 16])
        np.testing.assert_array_equal(p.reader()(k), parts[s].values[y : y + 16, x : x + 16])
    share = np.bincount(p.plan.source) / 300
    np.testing.assert_allclose(share, np.array([9, 8, 1]) / 18, atol=0.1)
    mixed = p[[int(np.flatnonzero(p.plan.source == k)[0]) for k in range(3)]]
    assert mixed.source.values.tolist() == [0, 1, 2]


def test_sources_that_do_not_fit_together():
    one = image(2, 20, 20, dims="cyx", c=["a", "b"])
    with pytest.raises(ValueError, match=r"source 1 are c: 3, y: 8, x: 8, of the first c: 2"):
        intake_img.patches([one, image(3, 20, 20, dims="cyx")], 8)
    with pytest.raises(ValueError, match=r"channels \['b', 'a'\], the first \['a', 'b'\]"):
        intake_img.patches([one, image(2, 20, 20, dims="cyx", c=["b", "a"])], 8)
    with pytest.raises(ValueError, match="variables other"):
        intake_img.patches([one, one.rename("other")], 8)
    with pytest.raises(AxesError, match="of source 1"):
        intake_img.patches([image(20, 20), image(20, 20, dims="zx")], 8)


# batches


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("lookahead", [1, 40, "1kB", "1MB"])
def test_batches_are_the_patches_of_an_epoch(prefetch, lookahead):
    p = image(3, 40, 40, dims="tyx").chunk(y=16, x=16).img.patches(8, sample="random", n=77)
    batches = p.batches(10, shuffle=True, lookahead=lookahead, prefetch=prefetch)
    held = list(batches)
    assert len(held) == len(batches) == 8
    order = np.concatenate([b.patch.values for b in held])
    assert sorted(order) == list(range(77))
    assert order.tolist() != list(range(77))
    np.testing.assert_array_equal(np.concatenate([b.image.values for b in held]), p.read(order))  # none was overwritten
    np.testing.assert_array_equal(np.concatenate([n for n, _ in p.batches(10, shuffle=True, labelled=False)]), order)
    assert [b.sizes["patch"] for b in p.batches(10, drop_last=True)] == [10] * 7
    assert len(p.batches(10, drop_last=True)) == 7
    other = np.concatenate([n for n, _ in p.batches(10, shuffle=True, labelled=False, epoch=1)])
    assert other.tolist() != order.tolist()


def test_windows_use_memory_again_only_when_nobody_holds_it():
    p = image(40, 40).chunk(y=16, x=16).img.patches(8, sample="random", n=60)
    batches = p.batches(10, lookahead=10, prefetch=0, labelled=False)
    places = {a["image"].ctypes.data for _, a in batches}
    assert len(places) < 6
    held = [a["image"] for _, a in batches]
    assert len({a.ctypes.data for a in held}) == 6
    np.testing.assert_array_equal(np.concatenate(held), p.read(slice(None)))
    rows = [a["image"][3] for _, a in batches]  # a view is enough
    np.testing.assert_array_equal(rows, p.read(slice(3, None, 10)))


def test_batches_of_an_epoch_are_its_patches():
    p = image(40, 40).img.patches(8, sample="random", n=20)
    later = np.concatenate([b.image.values for b in p.batches(7, epoch=5)])
    assert p.epoch == 0
    np.testing.assert_array_equal(later, p.set_epoch(5).read(slice(None)))


def test_partial_patches_come_in_batches_of_one_shape():
    p = image(20, 20).img.patches(8, edge="partial")
    shapes = [b.image.shape for b in p.batches(3)]
    assert sum(s[0] for s in shapes) == 9
    assert {s[1:] for s in shapes} == {(8, 8), (8, 4), (4, 8), (4, 4)}
    with pytest.raises(ValueError, match="different shapes"):
        p.read(slice(None))
    assert p[8].image.shape == (4, 4)
    assert len(list(p)) == 9


def test_iterating_gives_all_patches():
    p = image(20, 20).img.patches(5)
    for k, patch in enumerate(p):
        xr.testing.assert_identical(patch, p[k])
    assert k == 15


# errors


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"size": 64}, ValueError, r"size\['y'\]=64: source 0 has only 40 pixels.*edge='pad'"),
        ({"size": 0}, ValueError, "at least one pixel"),
        ({"size": {"z": 8}}, AxesError, "size names the axis 'z', but the image has 'cyx'"),
        ({"size": {}}, ValueError, "name at least one"),
        ({"size": (1, 2, 3)}, AxesError, "at most one for each spatial axis"),
        ({"size": 8.5}, TypeError, "expected an integer"),
        ({"size": 8, "units": "physical"}, ValueError, "spacing of axis 'y' is not known"),
        ({"size": 8, "sample": "anyhow"}, ValueError, "sample='anyhow': expected one of 'grid'"),
        ({"size": 8, "edge": "mirror"}, ValueError, "edge='mirror': expected one of 'shift'"),
        ({"size": 8, "edge": {"z": "pad"}}, AxesError, "edge names the axis 'z'"),
        ({"size": 8, "pad_mode": "mean"}, ValueError, "pad_mode='mean': expected one of 'constant'"),
        ({"size": 8, "step": 4, "overlap": 4}, ValueError, "give one of them"),
        ({"size": 8, "overlap": 8}, ValueError, "must move by at least one pixel"),
        ({"size": 8, "step": 4, "sample": "random"}, ValueError, "step= is for grids"),
        ({"size": 8, "n": 4}, ValueError, "n= is for sample='random' or 'weighted'"),
        ({"size": 8, "over": ["y"]}, AxesError, "'y' is cut"),
        ({"size": 8, "over": ["t"]}, AxesError, "'t' is not an axis"),
        ({"size": 8, "edge": "balanced", "sample": "random"}, ValueError, "balanced"),
        ({"size": 8, "sample": "weighted"}, ValueError, "needs a map"),
        ({"size": 8, "sample": "centers"}, ValueError, "needs centers="),
        ({"size": 8, "sample": "fixed"}, ValueError, "needs table="),
        ({"size": 8, "min_coverage": 0.5}, ValueError, "needs mask="),
        ({"size": 8, "balance": {1: 1}, "sample": "weighted", "mask": "image"}, ValueError, "which labels"),
        ({"size": 8, "mask": "nothing"}, ValueError, "mask='nothing'"),
        ({"size": 8, "mask": np.zeros((3, 3))}, ValueError, r"shape \(3, 3\)"),
        ({"size": 8, "variables": ["nothing"]}, ValueError, "no 'nothing', it has image"),
        ({"size": 8, "sample": "random", "n": 0}, ValueError, "n=0"),
        ({"size": 8, "seed": 1.5}, TypeError, "seed=1.5"),
        ({"size": 8, "fill_value": "x"}, TypeError, "fill_value"),
    ],
)
def test_errors_say_what_to_do(options, error, text):
    ds = image(2, 40, 40, dims="cyx").to_dataset()
    options = dict(options)
    with pytest.raises(error, match=text):
        len(ds.img.patches(options.pop("size"), **options))


def two_spacings(second, unit="µm", n=40):
    def one(step, unit):
        coords = {a: (a, np.arange(n) * step, {"units": unit, "spacing": step}) for a in "yx"}
        return xr.DataArray(np.arange(n * n, dtype="u2").reshape(n, n), dims=("y", "x"), coords=coords)

    return [one(0.5, "µm"), one(second, unit)]


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ("5 µm", {}),
        ({"y": "5000 nm", "x": 8}, {}),
        (5, {"units": "physical"}),
        (4, {"overlap": "1 µm"}),
        (4, {"halo": "1 µm"}),
        (4, {"step": "2 µm"}),
    ],
)
def test_a_length_needs_one_spacing_of_all_sources(size, options):
    with pytest.raises(ValueError, match=r"0\.25 µm along 'y', the first 0\.5 µm"):
        intake_img.patches(two_spacings(0.25), size, **options)
    with pytest.raises(ValueError, match=r"0\.25 µm along 'y', the first 0\.5 µm"):
        intake_img.patches(two_spacings(250.0, "nm"), size, **options)
    unknown = two_spacings(0.5)
    unknown[1] = unknown[1].drop_vars("y")
    with pytest.raises(ValueError, match="spacing unknown along 'y'"):
        intake_img.patches(unknown, size, **options)
    for same in (two_spacings(0.5), two_spacings(500.0, "nm")):
        assert len(intake_img.patches(same, size, **options)) > 1
    assert len(intake_img.patches(two_spacings(0.25), 10)) == 32
