"""Writing back: identities are exact for every plan, blocks are written once, an unfinished store is no image."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
import yaozarrs
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples
from trees import content

import intake_img
from intake_img import imload
from intake_img.accessor.patches import output, sinks
from intake_img.accessor.patches.output import name_of
from intake_img.accessor.patches.stitch import cast
from intake_img.errors import CannotWriteError, FormatError, TargetExistsError
from intake_img.storage.files import File
from intake_img.storage.spill import SpillingMemory
from intake_img.storage.staging import staging_folder

pytestmark = pytest.mark.thorough

BLENDS = ["crop", "mean", "hann", "gaussian", "max", "vote"]


def image(shape=(2, 3, 50, 61), dims="tcyx", dtype="u2", seed=0) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 60000, shape).astype(dtype)
    coords = {"c": [f"channel {k}" for k in range(shape[dims.index("c")])]} if "c" in dims else {}
    for axis, origin in (("y", 5.0), ("x", -3.0)):
        n = shape[dims.index(axis)]
        coords[axis] = (axis, origin + 0.25 * np.arange(n), {"units": "µm", "spacing": 0.25})
    return xr.DataArray(values, dims=list(dims), coords=coords, name="image")


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Blocks are single chunks, or as large as a patch, so that patches lie across many of them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(output, "grown", partial(output.grown, nbytes=1))
        yield


class Counting:
    """An identity that knows what it was called with."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.sizes.append(len(batch))
        return batch

    @property
    def patches(self) -> int:
        return sum(self.sizes)


# what is written


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("over", [("t",), ("t", "c")])
def test_an_identity_is_written_bit_for_bit_and_every_patch_predicted_once(blend, over, tmp_path):
    im, model = image(), Counting()
    p = im.img.patches({"y": 16, "x": 16}, overlap=5, over=over)
    out = p.map(model, blend=blend, store=tmp_path / "o.zarr", chunks={"t": 1, "c": 1, "y": 16, "x": 24}, batch_size=7)
    assert model.patches == len(p)
    assert max(model.sizes) <= 7
    assert out.image.dtype == im.dtype
    np.testing.assert_array_equal(out.image.transpose(*im.dims).values, im.values)
    xr.testing.assert_identical(out.y, im.y)
    xr.testing.assert_equal(out.c, im.c)
    assert not os.path.exists(staging_folder(File.parse(tmp_path / "o.zarr")))
    yaozarrs.validate_zarr_store(tmp_path / "o.zarr")
    again = imload(tmp_path / "o.zarr")
    assert again.img.spacing == {"y": 0.25, "x": 0.25}
    assert again.image.dims == im.dims


@examples(60)
@given(
    blend=st.sampled_from(BLENDS),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 19), st.integers(1, 23)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    part=st.floats(0, 0.9),
    halo=st.integers(0, 3),
    edge=st.sampled_from(["shift", "pad", "partial", "balanced"]),
    dtype=st.sampled_from(["bool", "u1", "i2", "u4", "i8", "u8", "f4", "f8"]),
    batch=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_identity_of_any_grid_in_memory(blend, shape, size, part, halo, edge, dtype, batch, seed):
    im = image(shape, "tyx", "u8", seed)
    im = (im % 2 == 1) if dtype == "bool" else (im * 7919).astype(dtype)
    if blend == "vote" and dtype[0] == "f":
        blend = "mean"
    size = tuple(min(s, n) for s, n in zip(size, shape[1:], strict=True)) if edge != "pad" else size
    overlap = dict(zip("yx", (int(s * part) for s in size), strict=True))
    model = Counting()
    p = intake_img.patches(im, dict(zip("yx", size, strict=True)), overlap=overlap, halo=halo, edge=edge)
    out = p.map(model, blend=blend, batch_size=batch)
    assert model.patches == len(p)
    assert out.image.dtype == im.dtype
    np.testing.assert_array_equal(out.image.values, im.values)
    again = p.stitch(p.read(slice(None)), blend=blend) if edge != "partial" else out
    np.testing.assert_array_equal(again.image.values, im.values)


@pytest.mark.parametrize("sizes", [{"z": 5, "y": 8, "x": 8}, {"z": 1, "y": 16, "x": 16}, {"y": 16, "x": 16}])
def test_volumes(sizes, tmp_path):
    im = image((2, 2, 9, 30, 33), "tczyx")
    p = im.img.patches(sizes, overlap={a: n // 3 for a, n in sizes.items()})
    for store in (None, tmp_path / "o.zarr"):
        out = p.map(lambda b: b, blend="hann", store=store)
        np.testing.assert_array_equal(out.image.transpose(*im.dims).values, im.values)


@pytest.mark.parametrize("store", [None, "o.zarr"])
def test_every_block_is_written_once_and_blocks_are_whole_chunks(store, tmp_path, monkeypatch):
    im = image((1, 2, 64, 96))
    written: list[tuple] = []
    for kind in (sinks.InMemory, sinks.InStore):
        put = kind.put

        def spy(self, source, number, block, put=put):
            out = self.outputs[source]
            written.append(out.key(number))
            put(self, source, number, block)

        monkeypatch.setattr(kind, "put", spy)
    p = im.img.patches({"y": 12, "x": 20}, overlap=4)
    p.map(lambda b: b, store=store and tmp_path / store, chunks=16, blend="mean")
    count = np.zeros((1, 2, 64, 96), int)
    for key in written:
        count[key] += 1
        assert all(s.start % 16 == 0 for s in key[-2:]) or store is None
    assert (count == 1).all()
    assert len(written) >= 12


def test_shards_are_written_whole(tmp_path):
    import zarr

    im = image((1, 2, 64, 96))
    p = im.img.patches({"y": 12, "x": 20}, overlap=4)
    out = p.map(lambda b: b, store=tmp_path / "o.zarr", chunks=8, shards=32)
    np.testing.assert_array_equal(out.image.values, im.values)
    assert zarr.open_array(tmp_path / "o.zarr/0").shards[-2:] == (32, 32)


def test_a_blend_is_the_weighted_mean(tmp_path):
    """Against plain numpy: each patch is given its own value."""
    from intake_img.kernels.patch_weights import window_nd

    im = image((1, 1, 40, 44), dtype="f4")
    p = im.img.patches({"y": 16, "x": 12}, overlap=6)
    values = np.arange(1, len(p) + 1, dtype="f4")[:, None, None, None] * np.ones((1, 1, 16, 12), "f4")
    for blend in ("mean", "hann", "gaussian"):
        total, weight = np.zeros((40, 44)), np.zeros((40, 44))
        for k, (y, x) in enumerate(p.plan.start):
            total[y : y + 16, x : x + 12] += (k + 1) * window_nd(blend, (16, 12))
            weight[y : y + 16, x : x + 12] += window_nd(blend, (16, 12))
        for store in (None, tmp_path / f"{blend}.zarr"):
            out = p.stitch(values, blend=blend, store=store, chunks=16)
            np.testing.assert_allclose(out.image.values[0, 0], total / weight, rtol=1e-6)
    largest = p.stitch(values, blend="max").image.values[0, 0]
    want = np.zeros((40, 44))
    for k, (y, x) in enumerate(p.plan.start):
        want[y : y + 16, x : x + 12] = k + 1
    np.testing.assert_array_equal(largest, want)


def test_a_halo_is_trimmed():
    """What a model spoils at the rim of its patches does not come into the result."""

    def spoiling(batch):
        out = batch.astype("i4")
        for axis in (-2, -1):
            for k in (0, 1, -1, -2):
                np.moveaxis(out, axis, 0)[k] = -1
        return out

    im = image()
    p = im.img.patches({"y": 16, "x": 16}, overlap=4, halo=2)
    for blend in BLENDS:
        out = p.map(spoiling, blend=blend)
        np.testing.assert_array_equal(out.image.values, im.values.astype("i4"))


def test_channels_and_dtype_may_change(tmp_path):
    im = image()
    p = im.img.patches({"y": 16, "x": 16}, overlap=4)
    two = p.map(lambda b: np.stack([b.mean(1), b.max(1)], 1), channels=["mean", "max"], store=tmp_path / "a.zarr")
    assert two.img.channels == ["mean", "max"]
    np.testing.assert_array_equal(two.image.sel(c="max").values, im.max("c").values)
    assert two.image.dtype == np.float64
    none = p.map(lambda b: b.max(1))
    assert none.image.dims == ("t", "y", "x")
    assert "c" not in none.coords
    five = p.map(lambda b: np.repeat(b[:, :1], 5, 1))
    assert five.sizes["c"] == 5
    assert "c" not in five.coords
    named = p.map(lambda b: np.repeat(b[:, :1, None], 4, 2), output_axes="cl")
    assert named.image.sizes["l"] == 4


def test_floats_are_rounded_into_integers_and_clipped():
    im = image()
    p = im.img.patches({"y": 16, "x": 16})
    out = p.map(lambda b: b / 2 - 1.0, dtype="u1")
    np.testing.assert_array_equal(out.image.values, np.clip(np.rint(im.values / 2 - 1), 0, 255))
    assert cast(np.array([1e30, -1e30, np.nan, 2.5]), "u8").tolist() == [2**64 - 2048, 0, 0, 2]
    assert cast(np.array([300, -5]), "u1").tolist() == [255, 0]


def test_the_sign_of_zero_is_kept(tmp_path):
    values = np.zeros((32, 32))
    values[:16] = -0.0
    p = xr.DataArray(values, dims=["y", "x"]).img.patches({"y": 8, "x": 8}, overlap=2)
    for blend in BLENDS[:-1]:
        out = p.map(lambda b: b, blend=blend, store=tmp_path / f"{blend}.zarr", chunks=8)
        assert out.image.values.tobytes() == values.tobytes()


def test_labels_are_labels(tmp_path):
    im = image()
    p = im.img.patches({"y": 16, "x": 16}, overlap=4, over=("t", "c"))
    out = p.map(lambda b: (b > 30000).astype("u1"), blend="vote", name="nuclei", store=tmp_path / "a.zarr")
    assert out.nuclei.attrs["kind"] == "labels"
    np.testing.assert_array_equal(out.nuclei.values, im.values > 30000)
    with pytest.raises(TypeError, match=r"vote.*float64"):
        p.map(lambda b: b / 2, blend="vote")


def test_pixels_that_no_patch_covers_hold_the_fill_value(tmp_path):
    im = image((1, 1, 50, 61))
    p = im.img.patches({"y": 16, "x": 16}, edge="drop")
    for store in (None, tmp_path / "a.zarr"):
        out = p.map(lambda b: b.astype("f4"), fill_value=np.nan, store=store, chunks=16)
        covered = ~np.isnan(out.image.values[0, 0])
        assert covered[:48, :48].all()
        assert covered.sum() == 48 * 48
    with pytest.raises(ValueError, match="fill_value=-1 is not a value of uint16"):
        p.map(lambda b: b, fill_value=-1)


def test_memory_is_bounded_by_files(tmp_path):
    im = image((1, 2, 96, 96))
    p = im.img.patches({"y": 32, "x": 32}, overlap=16)
    out = p.map(lambda b: b, blend="hann", memory=5000, store=tmp_path / "a.zarr", chunks=32)
    np.testing.assert_array_equal(out.image.values, im.values)
    memory = SpillingMemory(100, str(tmp_path))
    kept = [memory.empty((5, 5), "u2") for _ in range(6)]
    assert memory.held == 100
    assert memory.spilled == 200
    for k, array in enumerate(kept):
        array[...] = k
    assert [int(a[2, 2]) for a in kept] == list(range(6))
    assert set(os.listdir(tmp_path)) == {"a.zarr"}


def test_random_patches_and_several_variables():
    ds = image().to_dataset()
    ds["mask"] = (image().isel(c=0, drop=True) % 2).astype("u1")
    p = ds.img.patches({"y": 16, "x": 16}, sample="random", n=400, seed=1)
    out = p.map(lambda a, m: a * m[:, None], variables=["image", "mask"], blend="mean")
    covered = p.map(lambda b: np.ones_like(b)).image.values == 1
    np.testing.assert_array_equal(out.image.values[covered], (ds.image * ds.mask).values[covered])
    assert covered.mean() > 0.9


# several sources


def test_names_of_several_sources_never_collide_and_stay_inside_the_store(tmp_path):
    arrays = [image(seed=k).isel(t=[0]) for k in range(4)]
    places = [("a", "cells.zarr", "0"), ("b", "cells.zarr", "0"), ("b", "cells.zarr", "P1/../../2"), ("b", "", "0")]
    sources = [
        a.to_dataset().assign_attrs(uri=str(tmp_path / f / n) if n else "", scene=s)
        for a, (f, n, s) in zip(arrays, places, strict=True)
    ]
    p = intake_img.patches(sources, {"y": 16, "x": 16}, overlap=3)
    outs = p.map(lambda b: b + 1, store=tmp_path / "out.zarr", blend="hann")
    assert len(outs) == 4
    for out, a in zip(outs, arrays, strict=True):
        np.testing.assert_array_equal(out.image.values, a.values + 1)
    assert sorted(os.listdir(tmp_path)) == ["out.zarr"]
    yaozarrs.validate_zarr_store(tmp_path / "out.zarr")
    scenes = imload(tmp_path / "out.zarr").attrs["scenes"]
    assert scenes == ["0_cells", "1_cells", "2_cells_P1_2", "3"]
    np.testing.assert_array_equal(
        imload(tmp_path / "out.zarr", scene="2_cells_P1_2").image.values, arrays[2].values + 1
    )
    memory = p.map(lambda b: b + 1)
    np.testing.assert_array_equal(memory[3].image.values, arrays[3].values + 1)


def test_names_are_short_and_plain():
    from types import SimpleNamespace

    odd = SimpleNamespace(uri="/x/" + "ä b/.." * 50 + "/..", scene="..")
    assert name_of(odd, 3, 100) == "03"
    long = SimpleNamespace(uri="/x/" + "n" * 300 + ".czi", scene="0")
    assert len(name_of(long, 3, 100)) <= 63


# atomic writes


def failing(after: int):
    calls = []

    def model(batch):
        calls.append(len(batch))
        if sum(calls) > after:
            raise RuntimeError("the model broke")
        return batch

    return model


def test_a_run_goes_on_where_it_stopped(tmp_path):
    im, target = image((4, 1, 64, 64)), tmp_path / "o.zarr"
    p = im.img.patches({"y": 16, "x": 16}, overlap=4)
    options = {"store": target, "chunks": {"t": 1, "y": 64, "x": 64}, "batch_size": 3, "model_id": "same"}
    with pytest.raises(RuntimeError, match="the model broke") as info:
        p.map(failing(60), **options)
    assert "2 of 4 blocks" in info.value.__notes__[-1]
    assert not target.exists()
    with pytest.raises((FileNotFoundError, ValueError)):
        imload(target)
    with pytest.raises(ValueError, match="contains no Zarr group"):
        imload(Path(staging_folder(File.parse(target))) / ".~store")
    with pytest.raises(TargetExistsError, match="resume=True to finish"):
        p.map(Counting(), **options)
    model = Counting()
    out = p.map(model, **options, resume=True)
    assert model.patches == len(p) // 2
    np.testing.assert_array_equal(out.image.values, im.values)
    model = Counting()
    again = p.map(model, **options, resume=True)
    assert model.patches == 0
    xr.testing.assert_identical(again.load(), out.load())


def test_resuming_asks_no_model_what_it_makes(tmp_path):
    im, target = image((2, 1, 32, 32)), tmp_path / "o.zarr"
    p = im.img.patches({"y": 16, "x": 16})
    options = {"store": target, "chunks": {"t": 1}, "batch_size": 2, "model_id": "same"}
    with pytest.raises(RuntimeError):
        p.map(failing(4), **options)
    model = Counting()
    p.map(model, **options, resume=True)
    assert model.patches == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"blend": "hann"}, "blend"),
        ({"model_id": "other"}, "model"),
        ({"dtype": "f4"}, "dtype"),
        ({"chunks": 8}, "chunks"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_result_is_not_gone_on_with(change, named, finished, tmp_path):
    im, target = image((2, 1, 32, 32)), tmp_path / "o.zarr"
    p = im.img.patches({"y": 16, "x": 16})
    options = {"store": target, "chunks": {"t": 1}, "batch_size": 2, "model_id": "same"}
    if finished:
        p.map(Counting(), **options)
    else:
        with pytest.raises(RuntimeError):
            p.map(failing(4), **options)
    with pytest.raises(ValueError, match=f"another result.*{named}: there"):
        p.map(Counting(), resume=True, **{**options, **change})
    other = im.img.patches({"y": 16, "x": 16}, overlap=2)
    with pytest.raises(ValueError, match=r"another result.*plan: there"):
        other.map(Counting(), resume=True, **options)
    changed = (im + 1).to_dataset().assign_attrs(uri="/other.tif").img.patches({"y": 16, "x": 16})
    with pytest.raises(ValueError, match=r"another result.*sources: there"):
        changed.map(Counting(), resume=True, **options)


def test_a_finished_store_is_refused_or_replaced_when_the_new_one_is_whole(tmp_path):
    im, target = image((2, 1, 32, 32)), tmp_path / "o.zarr"
    p = im.img.patches({"y": 16, "x": 16})
    p.map(lambda b: b, store=target)
    with pytest.raises(FileExistsError, match=r"exists.*overwrite=True"):
        p.map(lambda b: b, store=target)
    with pytest.raises(RuntimeError):
        p.map(failing(4), store=target, overwrite=True, batch_size=2)
    np.testing.assert_array_equal(imload(target).image.values, im.values)
    out = p.map(lambda b: b + 1, store=target, overwrite=True)
    np.testing.assert_array_equal(out.image.values, im.values + 1)
    assert os.listdir(tmp_path) == ["o.zarr"]


def test_two_runs_do_not_write_one_store_at_once(tmp_path):
    im, target = image((2, 1, 32, 32)), tmp_path / "o.zarr"
    p = im.img.patches({"y": 16, "x": 16})

    def model(batch):
        with pytest.raises(FileExistsError, match="another process"):
            p.map(lambda b: b, store=target, resume=True)
        return batch

    p.map(model, store=target)
    assert os.listdir(tmp_path) == ["o.zarr"]


def test_the_mark_of_a_function_is_its_code_and_what_it_closes_over():
    from intake_img.accessor.patches.models import fingerprint

    def make(k, array=None):
        return lambda batch: batch + k if array is None else batch * array

    assert fingerprint(make(1)) == fingerprint(make(1))
    assert fingerprint(make(1)) != fingerprint(make(2))
    assert fingerprint(make(1, np.ones(3))) != fingerprint(make(1, np.zeros(3)))
    assert fingerprint(lambda b: b) != fingerprint(lambda b: -b)
    assert fingerprint(partial(np.add, 1)) != fingerprint(partial(np.add, 2))
    assert fingerprint(np.sqrt) == fingerprint(np.sqrt)
    assert fingerprint(make(1), "v1") == "v1"


def test_two_runs_make_identical_files(tmp_path):
    im = image()
    p = im.img.patches({"y": 16, "x": 16}, overlap=5)
    trees = []
    for k in range(2):
        p.map(np.sqrt, blend="gaussian", store=tmp_path / str(k) / "o.zarr", chunks=24, batch_size=3 + 10 * k)
        trees.append(content(tmp_path / str(k)))
    assert trees[0] == trees[1]


# wrong use


def test_what_is_wrong_is_said(tmp_path):
    im = image()
    p = im.img.patches({"y": 16, "x": 16})
    with pytest.raises(ValueError, match=r"blend='hamming'.*'crop'"):
        p.map(lambda b: b, blend="hamming")
    with pytest.raises(TypeError, match="expected a function"):
        p.map("model")
    with pytest.raises(ValueError, match=r"returned shape \(3, 8, 8\) for a patch, expected \(..., 16, 16\)"):
        p.map(lambda b: b[..., ::2, ::2])
    with pytest.raises(ValueError, match=r"shape \(1, 3, 16, 16\) for a batch of 32"):
        p.map(lambda b: b[:1])
    with pytest.raises(ValueError, match="resume=True is about a store"):
        p.map(lambda b: b, resume=True)
    with pytest.raises(ValueError, match="announces 2 channels, but the model returned 3"):
        p.map(lambda b: b, channels=2)
    with pytest.raises(TypeError, match="dict of 1"):
        p.map(lambda b: {"a": b})
    with pytest.raises(CannotWriteError, match="read-only"):
        p.map(lambda b: b, store="https://example.org/o.zarr")
    with pytest.raises(CannotWriteError, match="zip"):
        p.map(lambda b: b, store=tmp_path / "o.zarr.zip")
    with pytest.raises(ValueError, match="there is no 'mask'"):
        p.map(lambda b: b, variables="mask")
    with pytest.raises(ValueError, match="axis 'c' is one that patches iterate over"):
        im.img.patches({"y": 16, "x": 16}, over=("t", "c")).map(lambda b: b[:, None])
    with pytest.raises(ValueError, match="2 axes before"):
        p.map(lambda b: b[:, None])
    seen = []

    def changing(batch):
        seen.append(1)
        return batch if len(seen) == 1 else batch.astype("f4")

    with pytest.raises(TypeError, match="float32, for the first patches uint16"):
        p.map(changing, batch_size=2)


def test_stitching_takes_arrays_batches_and_parts():
    import dask.array as da

    im = image()
    p = im.img.patches({"y": 16, "x": 16}, overlap=4)
    every = p.read(slice(None))
    want = im.values
    for given_ in (every, da.from_array(every, chunks=(5, 3, 16, 16)), (every[k : k + 7] for k in range(0, len(p), 7))):
        np.testing.assert_array_equal(p.stitch(given_, blend="hann").image.values, want)
    order = np.random.default_rng(0).permutation(len(p))
    np.testing.assert_array_equal(p.stitch(every[order], patches=order, blend="mean").image.values, want)
    some = p.stitch(every[:1], patches=[0]).image.values
    assert (some[0, :, :12, :12] == want[0, :, :12, :12]).all()
    assert (some[1] == 0).all()
    with pytest.raises(ValueError, match=f"has 3 predictions, expected one for each of {len(p)}"):
        p.stitch(every[:3])
    with pytest.raises(ValueError, match="contain 7 predictions"):
        p.stitch(iter([every[:7]]))
    with pytest.raises(ValueError, match="distinct patches"):
        p.stitch(every[:2], patches=[0, 0])


def test_progress_is_shown_when_asked_for(capfd, tmp_path):
    p = image().img.patches({"y": 16, "x": 16})
    p.map(lambda b: b, store=tmp_path / "o.zarr", progress=True)
    shown = capfd.readouterr().err
    assert "o.zarr" in shown
    assert "100%" in shown
    p.map(lambda b: b)
    assert capfd.readouterr().err == ""


# a cluster

CALLED: list[int] = []


def noted(batch):
    CALLED.append(len(batch))
    return np.sqrt(batch)


@pytest.mark.filterwarnings("ignore")
def test_on_a_cluster(tmp_path):
    distributed = pytest.importorskip("distributed")
    im = image((2, 2, 64, 60))
    p = im.img.patches({"y": 16, "x": 16}, overlap=5)
    want = tmp_path / "here"
    out = p.map(np.sqrt, blend="hann", store=want / "o.zarr", chunks=24, model_id="root")
    with distributed.Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        CALLED.clear()
        p.map(noted, blend="hann", store=tmp_path / "there" / "o.zarr", chunks=24, batch_size=5, model_id="root")
        assert sum(CALLED) == len(p)
        assert max(CALLED) == 5
        assert content(tmp_path / "there") == content(want)
        memory = p.map(np.sqrt, blend="hann", client=client)
        np.testing.assert_array_equal(memory.image.values, out.image.values)
        lazily = (im.chunk(t=1, y=30) + 1).img.patches({"y": 16, "x": 16}, overlap=5)  # read by tasks of the cluster
        np.testing.assert_array_equal(lazily.map(lambda b: b).image.values, im.values + 1)
        target = tmp_path / "broken.zarr"
        with pytest.raises(RuntimeError, match="the model broke"):
            p.map(failing(20), store=target, batch_size=3, chunks=24, model_id="same")
        out = p.map(Counting(), store=target, batch_size=3, chunks=24, model_id="same", resume=True)
        np.testing.assert_array_equal(out.image.values, im.values)


def test_nothing_is_left_of_an_unfinished_run_without_a_record(tmp_path):
    target = tmp_path / "o.zarr"
    folder = Path(staging_folder(File.parse(target)))
    (folder / ".~store/0").mkdir(parents=True)
    (folder / ".~store/0/junk").write_text("junk")
    im = image((1, 1, 32, 32))
    im.img.patches({"y": 16, "x": 16}).map(lambda b: b, store=target, resume=True)
    assert json.loads((target / "zarr.json").read_text())["node_type"] == "group"
    assert not list(target.rglob("junk"))
    shutil.rmtree(target)


def test_a_store_on_a_server_grows_there(tmp_path):
    """An interrupted run shows nothing; the next one predicts what is missing, and makes the bytes of a local store."""
    files, url = fsspec.filesystem("memory"), f"memory://{tmp_path.name}/o.zarr"
    images = [image((2, 40, 33), "tyx"), image((1, 20, 30), "tyx", seed=1)]
    p = intake_img.patches(images, {"y": 12, "x": 12}, overlap=4)
    options = {"chunks": 16, "batch_size": 3, "model_id": "same"}
    calls = []

    def model(batch: np.ndarray) -> np.ndarray:
        calls.append(len(batch))
        if len(calls) in (4, 8):
            raise KeyboardInterrupt
        return batch * np.uint16(2)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt) as met:
            p.map(model, store=url, resume=bool(len(calls)), **options)
        assert "resume=True" in met.value.__notes__[0]
        with pytest.raises(FormatError, match="resume=True"):
            imload(url)
    with pytest.raises(ValueError, match="model"):
        p.map(model, store=url, resume=True, **{**options, "model_id": "another"})
    found = p.map(model, store=url, resume=True, **options)
    assert sum(calls[8:]) < len(p)
    for ds, source in zip(found, images, strict=True):
        np.testing.assert_array_equal(ds.image, source * 2)
    p.map(model, store=tmp_path / "o.zarr", **options)
    local = {str(f.relative_to(tmp_path)): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    assert {n.partition(f"{tmp_path.name}/")[2]: files.cat(n) for n in files.find(f"/{tmp_path.name}")} == local
    before = len(calls)
    p.map(model, store=url, resume=True, **options)
    assert len(calls) == before
    with pytest.raises(TargetExistsError):
        p.map(model, store=url, **options)


@pytest.mark.parametrize("option", [{"shards": 8}, {"compress": "zstd"}, {"storage_options": {"anon": True}}])
def test_options_of_a_store_need_one(option):
    p = xr.DataArray(np.zeros((16, 16)), dims=["y", "x"]).img.patches(8)
    for call in (lambda: p.map(lambda b: b, **option), lambda: p.stitch(np.zeros((4, 8, 8)), **option)):
        with pytest.raises(ValueError, match=f"{next(iter(option))}=.* is about a store"):
            call()
