"""Laws of all methods on objects: equal to scikit-image and scipy for each complete image, whatever the chunks (of one
pixel too), further axes, anisotropic pixels and types; nothing is read at the call; memory does not grow."""

from __future__ import annotations

import inspect
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from processing_laws import Source, cuts, stack
from scipy import ndimage
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.accessor.processing import kept

pytestmark = pytest.mark.thorough

feature = pytest.importorskip("skimage.feature")
filters = pytest.importorskip("skimage.filters")
morphology = pytest.importorskip("skimage.morphology")
segmentation = pytest.importorskip("skimage.segmentation")
STEPS = {"z": 2.0, "y": 0.5, "x": 0.7}  # µm


@dataclass
class Law:
    """A method, and what it is equal to.

    Parameters
    ----------
    call : callable
        ``call(dataset, axes)`` returns a DataArray; the dataset has the variables image, mask, labels and seeds.
    oracle : callable
        ``oracle(images, steps)`` returns what is right for one complete image, from arrays by name.
    grows : str
        With which part its memory grows: ``chunk``, or ``image`` (of which there may be several).
    """

    call: Callable[[xr.Dataset, str], xr.DataArray]
    oracle: Callable[[dict[str, np.ndarray], tuple[float, ...]], Any]
    grows: str = "chunk"


def removed(func: Any, mask: np.ndarray, size: float, connectivity: int) -> np.ndarray:
    new = "max_size" in inspect.signature(func).parameters
    name = "min_size" if func is morphology.remove_small_objects else "area_threshold"
    return func(mask, **({"max_size": size - 1} if new else {name: size}), connectivity=connectivity)


def ball(radius: float, steps: tuple[float, ...]) -> np.ndarray:
    """Return the pixels whose centres are within a physical radius."""
    reach = [int(radius / s) for s in steps]
    offsets = np.indices([2 * n + 1 for n in reach]) - np.reshape(reach, (-1, *[1] * len(steps)))
    return (np.square(offsets * np.reshape(steps, (-1, *[1] * len(steps)))).sum(axis=0)) <= radius**2 + 1e-9


def eroded(mask: np.ndarray, steps: tuple[float, ...]) -> np.ndarray:
    return ndimage.binary_erosion(mask, ball(1.1, steps), border_value=1)


def dilated(mask: np.ndarray, steps: tuple[float, ...]) -> np.ndarray:
    return ndimage.binary_dilation(mask, ball(1.1, steps))


def distances(mask: np.ndarray, steps: tuple[float, ...]) -> np.ndarray:
    return np.full(mask.shape, np.inf) if mask.all() else ndimage.distance_transform_edt(mask, sampling=steps)


def in_order(labels: np.ndarray) -> np.ndarray:
    ids, first = np.unique(labels[labels > 0], return_index=True)
    out = np.zeros(labels.shape, int)
    for number, k in enumerate(ids[np.argsort(first)], 1):
        out[labels == k] = number
    return out


def components(mask: np.ndarray) -> list[np.ndarray]:
    labels, n = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return [labels == k for k in range(1, n + 1)]


def parts(mask: np.ndarray, steps: tuple[float, ...]) -> np.ndarray:
    found = np.zeros(mask.shape, int)
    for own in components(mask):
        away = distances(own, steps)
        places = feature.peak_local_max(away, min_distance=2, threshold_abs=0, exclude_border=False)
        markers = np.zeros(mask.shape, int)
        markers[tuple(places.T)] = np.arange(1, len(places) + 1)
        if len(places) > 1:
            markers = segmentation.watershed(-away, markers, connectivity=mask.ndim, mask=own)
        else:  # scikit-image finds no peak in an image without background
            markers = own.astype(int)
        found[own] = markers[own] + found.max()
    return in_order(found)


def thinned(mask: np.ndarray) -> np.ndarray:
    border = [(1, 1)] * mask.ndim
    if mask.ndim == 3 and len(mask) == 1:
        border[0] = (0, 0)  # scikit-image thins a volume of one plane as a plane
    inside = tuple(slice(k, -k or None) for k, _ in border)
    alone = [morphology.skeletonize(np.pad(own, border))[inside] for own in components(mask)]
    return np.any([np.zeros(mask.shape, bool), *alone], axis=0)


def of_labels(func: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray], Any], np.ndarray]:
    """Return the oracle of a function that leaves labels out, which gets small numbers."""

    def right(given: dict[str, np.ndarray], steps: Any) -> np.ndarray:
        _, index = np.unique(given["cells"], return_inverse=True)
        small = np.where(given["cells"] > 0, index.reshape(given["cells"].shape) + 1, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of scikit-image, about a single label
            return np.where(func(small), given["cells"], 0)

    return right


def above(method: str) -> Law:
    def right(given: dict[str, np.ndarray], steps: Any) -> np.ndarray:
        image = given["image"]
        if np.ptp(image) == 0:
            return np.zeros(image.shape, bool)
        return image > getattr(filters, f"threshold_{method}")(image.reshape(len(image), -1))

    return Law(lambda ds, axes: ds.image.img.threshold(method, per=ds.image.dims[: -len(axes)]), right)


def unequal_pixels(axes: str, radius: int) -> dict[str, float]:
    return {a: radius * STEPS[a] for a in axes}


def physical(call: str, *given: Any) -> Callable[[xr.Dataset, str], xr.DataArray]:
    return lambda ds, axes: getattr(ds.mask.img, call)(*given, units="physical")


LAWS = {
    **{method: above(method) for method in ("otsu", "triangle", "yen", "isodata", "mean", "li")},
    "hysteresis_threshold": Law(
        lambda ds, axes: ds.image.img.hysteresis_threshold(6, 11),
        lambda g, s: filters.apply_hysteresis_threshold(g["image"], 6, 11),
    ),
    "label": Law(
        lambda ds, axes: ds.mask.img.label(len(axes)),
        lambda g, s: ndimage.label(g["mask"], np.ones((3,) * g["mask"].ndim))[0],
    ),
    "fill_holes": Law(lambda ds, axes: ds.mask.img.fill_holes(), lambda g, s: ndimage.binary_fill_holes(g["mask"])),
    "clear_border": Law(lambda ds, axes: ds.mask.img.clear_border(), lambda g, s: segmentation.clear_border(g["mask"])),
    "remove_small objects": Law(
        lambda ds, axes: ds.mask.img.remove_small(4 * np.prod([STEPS[a] for a in axes]), units="physical"),
        lambda g, s: removed(morphology.remove_small_objects, g["mask"], 4, 1),
    ),
    "remove_small holes": Law(
        lambda ds, axes: ds.mask.img.remove_small(3, "holes", connectivity=len(axes)),
        lambda g, s: removed(morphology.remove_small_holes, g["mask"], 3, g["mask"].ndim),
    ),
    "clear_border of labels": Law(lambda ds, axes: ds.cells.img.clear_border(), of_labels(segmentation.clear_border)),
    "remove_small labels": Law(
        lambda ds, axes: ds.cells.img.remove_small(4 * np.prod([STEPS[a] for a in axes]), units="physical"),
        of_labels(lambda labels: removed(morphology.remove_small_objects, labels, 4, 1)),
    ),
    "binary_erosion": Law(physical("binary_erosion", 1.1), lambda g, s: eroded(g["mask"], s)),
    "binary_dilation": Law(physical("binary_dilation", 1.1), lambda g, s: dilated(g["mask"], s)),
    "binary_opening": Law(physical("binary_opening", 1.1), lambda g, s: dilated(eroded(g["mask"], s), s)),
    "binary_closing": Law(physical("binary_closing", 1.1), lambda g, s: eroded(dilated(g["mask"], s), s)),
    "distance_transform": Law(physical("distance_transform"), lambda g, s: distances(g["mask"], s), "image"),
    "expand_labels": Law(
        lambda ds, axes: ds.labels.img.expand_labels("1.3 µm"),
        lambda g, s: segmentation.expand_labels(g["labels"], 1.3, spacing=s) if g["labels"].any() else g["labels"],
    ),
    "split": Law(
        lambda ds, axes: ds.mask.img.split(unequal_pixels(axes, 2), units="physical"),
        lambda g, s: parts(g["mask"], s),
        "image",
    ),
    "watershed": Law(
        lambda ds, axes: ds.image.img.watershed(ds.seeds, ds.mask),
        lambda g, s: segmentation.watershed(g["image"], g["seeds"], mask=g["mask"]) * g["mask"],
        "image",
    ),
    "skeletonize": Law(lambda ds, axes: ds.mask.img.skeletonize(), lambda g, s: thinned(g["mask"]), "image"),
    "relabel": Law(lambda ds, axes: ds.labels.img.relabel(), lambda g, s: in_order(g["labels"])),
}


def mask_like(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return no object, one that is everywhere, one that winds through all chunks, a frame, or objects of any form."""
    where = np.indices(shape)
    if kind == "blobs":
        smooth = ndimage.gaussian_filter(rng.random(shape), 1)
        return smooth > np.quantile(smooth, 0.5)
    if kind == "snake":
        row, column = where[-2], where[-1]
        return (row % 2 == 0) | (column == np.where(row % 4 == 1, shape[-1] - 1, 0))
    if kind == "frame":
        return np.any([(w == 0) | (w == n - 1) for w, n in zip(where, shape, strict=True)], axis=0)
    return rng.random(shape) < {"none": 0, "all": 1, "pixels": 0.5}[kind]


def physical_axes(lengths: dict[str, int]) -> dict[str, Any]:
    return {a: (a, np.arange(n) * STEPS[a], {"units": "µm", "spacing": STEPS[a]}) for a, n in lengths.items()}


def dataset(dims: str, shape: tuple[int, ...], rng: np.random.Generator, kind: str, dtypes: tuple[str, str]) -> Any:
    axes, lead = dims.strip("tc"), shape[: len(dims.rstrip("zyx"))]
    mask = np.stack([mask_like(kind, shape[len(lead) :], rng) for _ in np.ndindex(*lead)]).reshape(shape)
    image = rng.integers(0, 16, shape).astype(dtypes[0])
    seeds = np.where(rng.random(shape) < 0.1, rng.integers(1, 100, shape), 0)
    large = 2 ** (8 * np.dtype(dtypes[1]).itemsize - 1) - 100  # some labels are too large for a table of all numbers
    labels = np.where(rng.random(shape) < 0.15, rng.integers(1, 99, shape), 0).astype(dtypes[1])
    labels[labels > 80] += np.array(large, dtypes[1])
    numbers = np.concatenate([[0], rng.permutation(99) + 1]).astype(dtypes[1])
    cells = np.stack([numbers[ndimage.label(mask[p], np.ones((3,) * len(axes)))[0]] for p in np.ndindex(*lead)])
    cells = cells.reshape(shape)
    cells[cells > 80] += np.array(large, dtypes[1])
    arrays = {"image": image, "mask": mask, "labels": labels, "cells": cells, "seeds": seeds}
    ds = xr.Dataset({n: stack(v, dims) for n, v in arrays.items()})
    ds["cells"].attrs = {"kind": "labels"}
    return ds.assign_coords(physical_axes(dict(zip(axes, shape[len(lead) :], strict=True))))


def whole(law: Law, ds: xr.Dataset, dims: str) -> np.ndarray:
    """Return what is right: each image by itself, put together by numpy."""
    axes = dims.strip("tc")
    lead = ds.mask.shape[: -len(axes)]
    steps = tuple(STEPS[a] for a in axes)
    found = [law.oracle({n: v.values[place] for n, v in ds.items()}, steps) for place in np.ndindex(*lead)]
    return np.stack(found).reshape(ds.mask.shape)


@examples(16)
@given(data=st.data())
@pytest.mark.parametrize("name", LAWS)
def test_objects_equal_those_of_each_complete_image(name, data):
    dims = data.draw(st.sampled_from(["yx", "zyx", "tcyx", "tczyx"]))
    most = {"t": 2, "c": 2, "z": 3, "y": 6, "x": 7} if len(dims) > 3 else {"z": 5, "y": 8, "x": 9}
    shape = tuple(data.draw(st.integers(1, most[d])) for d in dims)
    kind = data.draw(st.sampled_from(["blobs", "snake", "pixels", "frame", "none", "all"]))
    dtypes = tuple(
        data.draw(st.sampled_from(t)) for t in (["u1", "i1", "u2", "i4", "i8", "f4"], ["u1", "u2", "i4", "i8", "u8"])
    )
    ds = dataset(dims, shape, np.random.default_rng(data.draw(st.integers(0, 999))), kind, dtypes)
    if name == "watershed":  # pixels of one value are flooded in an order that depends on the others
        ds["image"] = ds.image.astype("i8") * 1000 + np.arange(ds.image.size).reshape(shape) % 997
    chunks = {d: data.draw(st.one_of(st.just(1), cuts(n))) for d, n in zip(dims, shape, strict=True)}
    equal_to_whole(LAWS[name], ds, dims, chunks)


def equal_to_whole(law: Law, ds: xr.Dataset, dims: str, chunks: dict[str, int]) -> None:
    with dask.config.set(scheduler="sync"):
        found = law.call(ds.chunk({d: chunks[d] for d in dims}), dims.strip("tc"))
        assert found.dims == ds.mask.dims
        np.testing.assert_array_equal(found.values, whole(law, ds, dims))
        np.testing.assert_array_equal(law.call(ds, dims.strip("tc")).values, found.values)


@pytest.mark.parametrize(("dims", "shape"), [("yx", (13, 15)), ("zyx", (5, 7, 8)), ("tcyx", (2, 2, 9, 10))])
@pytest.mark.parametrize("name", LAWS)
def test_many_objects_equal_those_of_each_complete_image(name, dims, shape):
    for seed, kind in enumerate(("pixels", "blobs")):
        ds = dataset(dims, shape, np.random.default_rng(seed), kind, ("u2", "i4"))
        if name == "watershed":
            ds["image"] = ds.image.astype("i8") * 1000 + np.arange(ds.image.size).reshape(shape) % 997
        equal_to_whole(LAWS[name], ds, dims, {"t": 1, "c": 1, "z": 2, "y": 3, "x": 4})


@pytest.mark.parametrize("name", LAWS)
def test_nothing_is_read_at_the_call(name):
    ds = dataset("tzyx", (2, 4, 6, 7), np.random.default_rng(0), "blobs", ("u2", "i4"))
    sources = {
        n: Source(v.values, refuse=True).image("tzyx", (1, 2, 3, 4)).assign_attrs(v.attrs) for n, v in ds.items()
    }
    found = LAWS[name].call(xr.Dataset(sources).assign_coords(ds.coords), "zyx")
    assert found.chunks is not None
    repr(found)


class Nowhere:
    """A target that keeps nothing."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


PIECE = np.zeros((1, 512, 512), bool)
"""A chunk with objects that its edges do not cut."""
PIECE[:, 100:140, 30:90] = PIECE[:, 200:220, 200:260] = PIECE[:, 400:403, 100:400] = True


def unread(images: int, chunks: int) -> xr.Dataset:
    """Return `images` images of `chunks` chunks that are made when they are computed."""

    def lazy(dtype: str) -> xr.DataArray:
        zeros = da.zeros((images, 512 * chunks, 512), chunks=(1, 512, 512), dtype=dtype)
        return xr.DataArray(
            zeros.map_blocks(lambda block: PIECE.astype(block.dtype), dtype=dtype), dims=["t", "y", "x"]
        )

    types = {"image": "u1", "mask": "?", "labels": "u1", "cells": "u1", "seeds": "u1"}
    ds = xr.Dataset({name: lazy(dtype) for name, dtype in types.items()})
    ds["cells"].attrs = {"kind": "labels"}
    return ds.assign_coords(physical_axes({"y": 512 * chunks, "x": 512}))


def peak(call: Callable[[xr.Dataset, str], Any], images: int, chunks: int) -> int:
    """Return the peak memory of computing something from `unread`."""
    ds = unread(images, chunks)
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="sync"):
            found = call(ds, "yx")
            if isinstance(found, xr.DataArray):
                da.store(found.data, Nowhere(), lock=False)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def two_heaps(image: xr.DataArray) -> xr.DataArray:
    """Return an image of zeros and ones with values around 3 and 103."""
    return image * np.uint8(100) + xr.DataArray(np.arange(image.sizes["x"], dtype="u1") % 7, dims="x")


HALF = xr.DataArray([0.5, -3.25], dims="axis", coords={"axis": ["y", "x"]}, attrs={"units": "px"})
OTHERS = {
    "apply_shifts": lambda ds, axes: ds.image.img.apply_shifts(HALF),
    "mosaic": lambda ds, axes: ds.image.img.mosaic({"y": [0], "x": [0]}, along="t", units="pixel"),
    "regionprops": lambda ds, axes: ds[["image", "cells"]].img.regionprops(
        properties=["area", "centroid", "perimeter", "eccentricity", "intensity_mean", "intensity_std"], progress=False
    ),
    "measure_objects": lambda ds, axes: ds[["image", "cells"]].img.measure_objects(),
    "threshold_values": lambda ds, axes: float(ds.image.img.threshold_values("otsu")),
    "minimum": lambda ds, axes: two_heaps(ds.image).img.threshold("minimum"),
    "multiotsu": lambda ds, axes: two_heaps(ds.image).img.threshold("multiotsu", classes=2),
}


@pytest.mark.parametrize("name", [*LAWS, *OTHERS])
def test_memory_does_not_grow_with_the_image(name, monkeypatch):
    """Neither with the chunks of one image, which is larger than what may be kept of it, nor with the number of images;
    where objects that are cut are processed together, only not with the latter."""
    monkeypatch.setattr(kept, "memory", lambda: 8 * PIECE.size)  # of the labels of one chunk
    law = LAWS.get(name)
    few, many = ((2, 2), (8, 2)) if law and law.grows == "image" else ((1, 4), (1, 16))
    more = (many[0] * many[1] - few[0] * few[1]) * PIECE.size
    call = law.call if law else OTHERS[name]
    least = peak(call, *few)  # first, for it imports modules too
    assert peak(call, *many) - least < 0.6 * more  # that of a mask is 1


def test_labels_that_are_left_out():
    mask = np.zeros((8, 9), bool)
    mask[0, 0] = mask[3:5, 3:5] = mask[6, 6] = True
    labels = stack(np.where(mask, 4, 0).astype("u2"), "yx", {"y": 3, "x": 2}).assign_attrs(
        kind="labels", long_name="cells"
    )
    assert not labels.img.clear_border().any()  # one label, in three places
    assert int((labels.img.remove_small(6) > 0).sum()) == 6
    assert not labels.img.remove_small(7).any()
    kept = labels.img.remove_small(1)
    assert (kept.dtype, kept.attrs) == (np.uint16, {"kind": "labels"})
    ds = xr.Dataset({"image": labels.astype("u1").drop_attrs(), "labels": labels})
    assert not ds.img.clear_border()["labels"].any()
    assert ds.img.clear_border()["image"].equals(ds["image"])
    both = ds.assign(mask=stack(mask, "yx").assign_attrs(kind="mask")).img.clear_border()
    assert (int(both["mask"].sum()), int((both["labels"] > 0).sum())) == (5, 6)  # of a mask, where there is one
    for wrong in (ds["image"], labels.astype("f4")):
        for method, size in (("clear_border", ()), ("remove_small", (2,))):
            with pytest.raises(TypeError, match=r"expected a mask.*kind='labels'"):
                getattr(wrong.img, method)(*size)
    for options in ({"what": "holes"}, {"connectivity": 2}):
        with pytest.raises(ValueError, match="labels > 0"):
            labels.img.remove_small(2, **options)
    for held in (labels, labels.compute()):
        with pytest.raises(ValueError, match="remove_small: expected labels of 0 and more, but there is -1"):
            (held.astype("i4") - 1).assign_attrs(kind="labels").img.remove_small(2).compute()


@pytest.mark.parametrize("axes", ["yx", "zyx"])
def test_lengths_have_the_defaults_that_are_documented(axes):
    ds = dataset(axes, (5, 14, 15)[-len(axes) :], np.random.default_rng(3), "blobs", ("u2", "i4"))
    same = {
        **{f"binary_{m}": {"radius": 1} for m in ("erosion", "dilation", "opening", "closing")},
        "distance_transform": {"units": "pixel"},
        "split": {"min_distance": 5, "units": "pixel"},
        "remove_small": {"what": "objects", "connectivity": 1, "units": "pixel"},
    }
    for method, defaults in same.items():
        needed = (3,) if method == "remove_small" else ()
        func = getattr(ds.mask.img, method)
        np.testing.assert_array_equal(func(*needed), func(*needed, **defaults))
        assert {k: inspect.signature(func).parameters[k].default for k in defaults} == defaults
    np.testing.assert_array_equal(ds.labels.img.expand_labels(), segmentation.expand_labels(ds.labels.values, 1))
    cross = ndimage.generate_binary_structure(len(axes), 1)
    np.testing.assert_array_equal(ds.mask.img.binary_dilation(), ndimage.binary_dilation(ds.mask, cross))


@examples(20)
@given(data=st.data())
def test_peaks_of_images_along_other_axes(data):
    dims = data.draw(st.sampled_from(["tcyx", "czyx"]))
    shape = tuple(data.draw(st.integers(1, 2 if d in "tc" else 7)) for d in dims)
    axes, lead = dims.strip("tc"), shape[: len(dims.rstrip("zyx"))]
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    values = rng.integers(0, 9, shape).astype(data.draw(st.sampled_from(["u1", "i8", "f4"])))
    chunks = {d: data.draw(st.one_of(st.just(1), cuts(n))) for d, n in zip(dims, shape, strict=True)}
    image = stack(values, dims, chunks).assign_coords(physical_axes(dict(zip(axes, shape[len(lead) :], strict=True))))
    with dask.config.set(scheduler="sync"):
        table = image.img.peaks({a: 2 * STEPS[a] for a in axes}, units="physical", exclude_border=False)
    rows = []
    for place in np.ndindex(*lead):
        found = feature.peak_local_max(values[place].astype(float), min_distance=2, exclude_border=False)
        rows += [(*place, *(p * [STEPS[a] for a in axes])) for p in found]
    assert table[list(dims)].to_numpy().shape == (len(rows), len(dims))
    np.testing.assert_allclose(table[list(dims)].to_numpy(float), np.reshape(rows, (-1, len(dims))))


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning:skimage")  # of its marching cubes
@pytest.mark.parametrize("axes", ["yx", "zyx"])
def test_every_property_in_physical_units_equals_scikit_image(axes):
    measure = pytest.importorskip("skimage.measure")
    rng = np.random.default_rng(7)
    shape, steps = (9, 16, 17)[-len(axes) :], tuple(STEPS[a] for a in axes)
    ds = dataset(axes, shape, rng, "blobs", ("u2", "i4"))
    ds["image"] = ds.image.copy(data=rng.random(shape) * 90)
    ds["cells"] = ds.cells.img.remove_small(20).img.relabel()  # a convex hull needs some pixels
    values = ds.cells.values
    pictures = {"coords", "coords_scaled", "image", "image_convex", "image_filled", "image_intensity", "slice", "label"}
    names = []
    for name in sorted(set(properties()) - pictures):
        try:
            measure.regionprops_table(values, ds.image.values, properties=[name], spacing=steps)
        except NotImplementedError:  # of planes, or of square pixels
            with pytest.raises(NotImplementedError):
                ds.drop_vars(["mask", "labels", "seeds"]).img.regionprops(properties=[name], units="physical")
        else:
            names.append(name)
    assert len(names) > 25
    wanted = measure.regionprops_table(values, ds.image.values, properties=["label", *names], spacing=steps)
    chunked = ds.drop_vars(["mask", "labels", "seeds"]).chunk(dict.fromkeys(axes, 4))
    table = chunked.img.regionprops(properties=names, units="physical", progress=False)
    assert set(wanted) == set(table.columns)
    for column, numbers in wanted.items():
        np.testing.assert_allclose(
            table[column].astype(float), numbers.astype(float), rtol=1e-8, atol=1e-8, err_msg=column
        )


def properties() -> list[str]:
    """Return the names of all properties of a region that scikit-image has."""
    from skimage.measure._regionprops import COL_DTYPES

    return list(COL_DTYPES)


@examples(12)
@given(data=st.data())
def test_images_that_are_moved_and_put_together_from_single_pixels(data):
    dims = data.draw(st.sampled_from(["tyx", "tcyx", "tzyx"]))
    shape = (2, *(data.draw(st.integers(1, 4)) for _ in dims[1:]))
    axes = dims.strip("tc")
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 200, shape).astype("u2")
    held, cut = stack(values, dims), stack(values, dims, dict.fromkeys(dims, 1))
    steps = [[data.draw(st.sampled_from([-1.5, 0, 0.25, 3])) for _ in axes] for _ in range(2)]
    shifts = xr.DataArray(steps, dims=["t", "axis"], coords={"axis": list(axes)}, attrs={"units": "px"})
    places = {"y": [0, 2], "x": [1, 0]}
    for call in (
        lambda image: image.img.apply_shifts(shifts),
        lambda image: image.img.mosaic(places, along="t", units="pixel"),
    ):
        np.testing.assert_array_equal(call(cut).compute(scheduler="sync"), call(held))
