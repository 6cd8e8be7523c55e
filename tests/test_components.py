"""Laws of labels across chunks: the same for boundaries near and far, wherever labels are kept, and however they are
looked up."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.accessor.processing import components, kept, renumbering
from intake_img.kernels import labelling

RNG = np.random.default_rng(0)
MASK = ndimage.gaussian_filter(RNG.random((6, 40, 50)), 1) > 0.5
CUT = stack(MASK, "zyx", {"z": 2, "y": 17, "x": 9})
METHODS = {
    "label": lambda mask: mask.img.label(2),
    "remove_small": lambda mask: mask.img.remove_small(30),
    "fill_holes": lambda mask: mask.img.fill_holes(),
    "relabel": lambda mask: (mask * np.arange(50)).assign_attrs(kind="labels").img.relabel(),
    "relabel large numbers": lambda mask: (mask * (np.arange(50) + 2**40)).assign_attrs(kind="labels").img.relabel(),
    "labels at borders": lambda mask: (mask * np.arange(50, dtype="u2")).assign_attrs(kind="labels").img.clear_border(),
    "hysteresis_threshold": lambda mask: (mask * np.arange(50)).img.hysteresis_threshold(3, 20),
}


@examples(80)
@given(
    st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9)),
    st.floats(0, 1),
    st.integers(1, 3),
    st.integers(0, 999),
    st.sampled_from([1, 200]),
)
def test_volumes_are_numbered_as_by_scipy(shape, share, rank, seed, compared):
    smooth = ndimage.uniform_filter(np.random.default_rng(seed).random(shape), (1, 1, 2))
    mask = np.asfortranarray(smooth < share)
    structure = ndimage.generate_binary_structure(3, rank)
    wanted, count = ndimage.label(mask, structure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelling, "ROUGH", 0)  # by planes, always
        patch.setattr(labelling, "SHORT", mask.size)
        patch.setattr(labelling, "COMPARED", compared)
        labels, n = labelling.label_chunk(mask, structure)
        out = np.empty(shape, np.int64)
        labelling.label_image(mask, structure, out)
    np.testing.assert_array_equal(labels, wanted)
    np.testing.assert_array_equal(out, wanted)
    assert n == count


@pytest.mark.parametrize("rank", [1, 3])
def test_parts_of_volumes_are_planes(rank):
    pytest.importorskip("cv2")
    structure = ndimage.generate_binary_structure(3, rank)
    labels = np.empty(MASK.shape, np.int32)
    n, pairs = labelling.label_parts(MASK, structure, labels)
    assert n == sum(ndimage.label(plane, structure[1])[1] for plane in MASK)
    assert n == labels.max()
    assert len(pairs) < MASK.size / 16
    for share in [0.5, 0.1] if rank == 3 else [0.5]:
        rough = RNG.random((4, 30, 30)) < share
        assert labelling.label_parts(rough, structure, labels[:4, :30, :30])[0] == ndimage.label(rough, structure)[1]


def test_four_chunks_that_touch_in_a_corner_are_joined():
    """Of pixels that meet side by side in two chunks, each counts: the way round the corner may lead to no other."""
    for shape in [(2, 2), (6, 7), (2, 3, 4)]:
        mask = xr.DataArray(np.ones(shape, bool), dims=list("zyx")[-len(shape) :])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(components, "CLOSE", 1)
            found = mask.chunk({d: -(-n // 2) for d, n in mask.sizes.items()}).img.label()
            assert (found == 1).all()
            assert (mask.chunk(dict.fromkeys(mask.dims, 1)).img.label() == 1).all()


@examples(40)
@given(data=st.data())
def test_boundaries_near_and_far_join_the_same_components(data):
    dims, shape = data.draw(st.sampled_from([("x", (30,)), ("yx", (11, 13)), ("zyx", (5, 6, 7))]))
    mask = np.random.default_rng(data.draw(st.integers(0, 999))).random(shape) < data.draw(st.sampled_from([0.4, 0.6]))
    rank = data.draw(st.integers(1, len(dims)))
    chunks = {d: data.draw(cuts(n)) for d, n in zip(dims, shape, strict=True)}
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="sync"):
        patch.setattr(components, "CLOSE", data.draw(st.sampled_from([1, 3, 99])))
        found = stack(mask, dims, chunks).img.label(rank, dims=dims).values
    np.testing.assert_array_equal(found, ndimage.label(mask, ndimage.generate_binary_structure(len(dims), rank))[0])


def test_planes_of_near_boundaries_are_not_kept():
    grid = components.ChunkGrid(((2,) * 8, (64, 64)), np.ones((3, 3), bool))
    part = grid.part((3, 1), np.ones((2, 64), bool), labelling.sizes, False, False)
    assert grid.close == [0]
    assert list(part.planes) == [(1, 0)]


@pytest.mark.parametrize("name", METHODS)
def test_labels_in_files_are_the_same(name, monkeypatch):
    wanted = METHODS[name](stack(MASK, "zyx")).values
    spaces = []

    class Spilling(kept.SpillingMemory):
        def __init__(self, *given):
            super().__init__(*given)
            spaces.append(self)

    monkeypatch.setattr(kept, "SpillingMemory", Spilling)
    monkeypatch.setattr(kept, "memory", lambda: 8 * 2000)
    with dask.config.set(scheduler="sync"):
        found = (METHODS[name](CUT) * 1).compute()
    np.testing.assert_array_equal(found, wanted)
    assert spaces[0].limit == 2000
    assert spaces[0].spilled >= MASK.size - 2000


def test_arrays_that_are_given_away_are_kept_as_they_are(monkeypatch):
    monkeypatch.setattr(kept, "memory", lambda: 8 * 1000)
    monkeypatch.setattr(kept, "_KEPT", kept._Kept())
    given = [np.arange(200, dtype="u2") for _ in range(3)]
    found = [kept.kept(a, "u2") for a in given]
    assert [f is g for f, g in zip(found, given, strict=True)] == [True, True, False]
    np.testing.assert_array_equal(found[2], given[2])
    assert found[2].base is not None  # in a file
    view = np.arange(100, dtype="u2")[:50]
    assert kept.kept(view, "u2") is not view  # it would hold all of the array
    del found[0], given[0]
    gc.collect()
    assert kept._KEPT._space.held == 400


def test_labels_are_released(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "memory", lambda: 8 * 1000)
    own = kept._Kept()
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        arrays = [own.empty((300,), "u2") for _ in range(3)]
    assert (own._space.held, own._space.spilled, own._space.folder) == (600, 1200, str(tmp_path))
    del arrays[0]
    gc.collect()
    assert own._space.held == 0
    assert own.empty((500,), "u2").base is None
    del arrays
    gc.collect()
    assert own._space is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", METHODS)
def test_labels_are_not_sent_to_the_task_that_joins_them(name, monkeypatch):
    """On a cluster, what is gathered of all chunks does not contain their pixels."""

    def gathered(mask):
        return [str(task) for key, task in dict(mask.data.dask).items() if str(key[0]).startswith("table")]

    wanted = METHODS[name](CUT)
    assert all("part-" in task for task in gathered(wanted))
    for module in (components, renumbering):
        monkeypatch.setattr(module, "on_this_machine", lambda: False)
    found = METHODS[name](CUT)
    np.testing.assert_array_equal(found, wanted)
    assert not any("part-" in task for task in gathered(found))


def test_a_summary_does_not_hold_the_labels():
    summary = components._summary(components.ChunkLabels(np.ones((5, 5)), 1, np.ones(1), np.ones((0, 2)), {}))
    assert summary.labels.base is None
    assert not summary.labels.size


@pytest.mark.parametrize("labels", ["u1", "u2", "u4"])
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "u8"])
@pytest.mark.parametrize("opencv", ["wide", "narrow", "none"])
def test_tables_are_looked_up(labels, dtype, opencv, monkeypatch):
    module = labelling.opencv() or pytest.skip("OpenCV is not installed")

    def lut(image, table, dst=None):
        if opencv == "narrow" and image.dtype == np.uint16:
            raise module.error
        return module.LUT(image, table, dst=dst)

    monkeypatch.setattr(
        labelling, "opencv", lambda: None if opencv == "none" else SimpleNamespace(LUT=lut, error=module.error)
    )
    labelling._looks_up_wide.cache_clear()
    most = {"u1": 255, "u2": 40_000, "u4": 70_000}[labels]
    info = np.iinfo("u1" if dtype == "?" else dtype)
    table = RNG.integers(info.min, info.max, most + 1, info.dtype, endpoint=True)
    table = (table % 2).astype(bool) if dtype == "?" else table
    for shape in [(2, 300, 500), (600, 450), (20,), (0, 5), (7, 1)]:
        image = RNG.integers(0, most, shape, endpoint=True).astype(labels)
        whole = np.zeros([2 * n for n in shape], dtype)
        for out in (whole[tuple(slice(0, n) for n in shape)], np.zeros(shape[::-1], dtype).T):
            labelling.look_up(table, image, out)
            np.testing.assert_array_equal(out, table[image])
        whole[tuple(slice(0, n) for n in shape)] = 0
        assert not whole.any()
    labelling._looks_up_wide.cache_clear()


@examples(60)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    st.floats(0, 1),
    st.integers(1, 3),
    st.integers(0, 99),
    st.booleans(),
)
def test_few_labels_fit_into_16_bits(shape, share, rank, seed, opencv):
    mask = np.random.default_rng(seed).random(shape) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelling, "WIDE", 300)
        patch.setattr(labelling, "opencv", labelling.opencv if opencv else lambda: None)
        for part in (mask, mask[0], mask[0, 0]):
            structure = ndimage.generate_binary_structure(part.ndim, min(rank, part.ndim))
            wanted, count = ndimage.label(part, structure)
            assert not labelling.are_few(part) or count < 300
            filled = np.zeros(part.shape, np.uint16)
            assert labelling.label_image(part, structure, filled) == count
            np.testing.assert_array_equal(filled, wanted)


@pytest.mark.parametrize("wide", [2, 2**16])
def test_labels_of_chunks_are_replaced_where_they_are_many(wide, monkeypatch):
    """The labels of an array that is computed as a whole; of its parts, and of arrays made of it, there are others."""
    monkeypatch.setattr(labelling, "WIDE", wide)
    for mask, dims in ((MASK[0], "yx"), (MASK, "zyx")):
        made = stack(mask, dims, {"y": 17, "x": 20}).img.label()
        wanted = ndimage.label(mask)[0]
        for _ in range(2):
            np.testing.assert_array_equal(made.compute(), wanted)
        np.testing.assert_array_equal(made * 2, wanted * 2)
        np.testing.assert_array_equal(made[..., 18:30], wanted[..., 18:30])
        keys = [{k for k in dict(made.data.dask.copy()) if str(k[0]).startswith("part-")} for _ in range(2)]
        assert keys[0].isdisjoint(keys[1])  # what is replaced is of one computation


def test_strided_masks_and_types(monkeypatch):
    monkeypatch.setattr(labelling, "LOOKED_UP", 7)
    mask = xr.DataArray(np.asfortranarray(MASK[0]), dims=["y", "x"]).chunk(y=33, x=20)
    for given_mask in (mask, mask.astype("f4"), mask.astype("i8") * -3):
        np.testing.assert_array_equal(given_mask.img.label(), ndimage.label(MASK[0])[0])


def test_labels_have_the_type_that_numbers_each_pixel_of_an_image():
    large = xr.DataArray(
        dask.array.zeros((2, 50_000, 50_000), dtype=bool, chunks=(1, 25_000, 50_000)), dims=["t", "y", "x"]
    )
    for mask, dtype in ((large, "int64"), (large.isel(y=slice(40_000)), "int32"), (CUT, "int32")):
        for labels in (mask.img.label(), mask.img.split(3), mask.img.label().img.relabel()):
            assert labels.dtype == dtype
    for mask in (CUT, CUT.compute(), CUT.chunk(-1)):
        for labels in (mask.img.label(), mask.img.split(3), mask.img.label().astype("u8").img.relabel()):
            assert labels.compute().dtype == "int32"


def test_watersheds_have_the_type_of_the_markers():
    image, mask = CUT.astype("f4"), CUT
    for dtype in ("u1", "i8"):
        markers = (CUT * np.arange(50, dtype=dtype)).astype(dtype)
        for chunked in (True, False):
            inputs = [a if chunked else a.compute() for a in (image, markers, mask)]
            found = inputs[0].img.watershed(*inputs[1:])
            assert found.dtype == found.compute().dtype == np.dtype(dtype)
