"""Image stacks: the numbers of the reference, the laws of patches and of the way back, errors, files, processes."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from servers import running
from thoroughness import examples

from intake_img import CziStack, FileStack, MemoryStack, ZarrStack, imload, imsave
from intake_img.accessor.stacks.stack import ImageStack
from intake_img.errors import AxesError, SceneError, SourceChangedError
from intake_img.model.pixels import Pixels
from intake_img.storage.handles import POOL
from intake_img.testing.process import open_files

SIZES = {"S": 2, "T": 3, "C": 2, "Z": 4, "Y": 6, "X": 7}


def numbered(axes: str, dtype: str = "uint16") -> np.ndarray:
    shape = [SIZES[a] for a in axes]
    return np.arange(math.prod(shape), dtype=dtype).reshape(shape)


def padded(array: np.ndarray, coords: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """The patch of C(Z)YX as numpy's own padding makes it."""
    reach = max([abs(c) + n for c, n in zip(coords, size, strict=True)] + [0])
    whole = np.pad(array, [(0, 0)] + [(reach, reach + n) for n in array.shape[1:]])
    return whole[(slice(None), *(slice(c + reach, c + reach + n) for c, n in zip(coords, size, strict=True)))]


def merged(array: np.ndarray, axes: str, samples: str, depth: str = "") -> np.ndarray:
    """SC(Z)YX of an array, by numpy alone."""
    order = samples + ("C" if "C" in axes else "") + depth + "YX"
    moved = array.transpose([axes.index(a) for a in order])
    count = math.prod(array.shape[axes.index(a)] for a in samples)
    return moved.reshape((count, array.shape[axes.index("C")] if "C" in axes else 1, *moved.shape[-2 - len(depth) :]))


def whole(stack: ImageStack) -> np.ndarray:
    space = stack.data_shape[2:]
    return np.stack([stack.extract_patch(k, None, (0,) * len(space), space) for k in range(len(stack))])


def write_tif(path: Path, array: np.ndarray, **options: object) -> None:
    tifffile.imwrite(path, array, photometric="minisblack", **options)


def write_czi(path: Path, planes: dict[tuple[int, int, int], np.ndarray], compression: str = "uncompressed:") -> Path:
    """Write planes by (t, c, z)."""
    from pylibCZIrw import czi

    with czi.create_czi(str(path), compression_options=compression) as document:
        for (t, c, z), plane in planes.items():
            document.write(np.ascontiguousarray(plane), plane={"T": t, "C": c, "Z": z})
    return path


@pytest.fixture(scope="module")
def tzc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CZI with T=2, Z=3, C=2 and pixels 100 t + 10 c + z."""
    planes = {(t, c, z): np.full((8, 10), 100 * t + 10 * c + z, "uint16") for t, c, z in np.ndindex(2, 2, 3)}
    return write_czi(tmp_path_factory.mktemp("tzc") / "tzc.czi", planes)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """CZI of three scenes, one of them left of and above the origin."""
    from pylibCZIrw import czi

    path = tmp_path_factory.mktemp("scenes") / "scenes.czi"
    rng = np.random.default_rng(3)
    arrays = [rng.integers(1, 60000, shape, "uint16") for shape in ((20, 30), (25, 15), (12, 12))]
    with czi.create_czi(str(path)) as document:
        for k, (array, place) in enumerate(zip(arrays, ((-40, -50), (10, -5), (100, 60)), strict=True)):
            document.write(array, location=place, plane={"C": 0}, scene=k)
    return path, arrays


RAMP = np.arange(36, dtype="uint16").reshape(6, 6)


def _ramps(folder: Path) -> dict[str, ImageStack]:
    """The 6 x 6 ramp as every kind of stack."""
    tif, tiled, png, npy = (folder / n for n in ("ramp.tif", "tiled.tif", "ramp.png", "ramp.npy"))
    write_tif(tif, RAMP)
    write_tif(tiled, RAMP, tile=(16, 16), compression="zlib")
    imsave(RAMP.astype("uint8"), png)
    np.save(npy, RAMP)
    czi = write_czi(folder / "ramp.czi", {(0, 0, 0): RAMP})
    zstd = write_czi(folder / "zstd.czi", {(0, 0, 0): RAMP}, "zstd1:ExplicitLevel=1")
    group = zarr.open_group(str(folder / "group.zarr"), mode="w")
    array = group.create_array("im", shape=(6, 6), chunks=(4, 4), dtype="uint16")
    array[...] = RAMP
    ome = folder / "ramp.ome.zarr"
    imsave(xr.DataArray(RAMP, dims=["y", "x"]), ome)
    ds = imload(tif)
    loaded = FileStack(tiled)
    loaded.load()
    return {
        "memory": MemoryStack(RAMP, "YX"),
        "dask": MemoryStack(da.from_array(RAMP, chunks=4), "YX"),
        "tiff": FileStack(tif),
        "tiled tiff": FileStack(tiled, "YX"),
        "loaded": loaded,
        "tiff in memory": MemoryStack.from_tiff(tif, "YX"),
        "png": FileStack(png),
        "npy": FileStack(npy),
        "custom": FileStack.from_custom_file_type(npy, "YX", np.load),
        "czi": CziStack(czi),
        "zstd czi": CziStack(zstd),
        "zarr": ZarrStack(folder / "group.zarr", "im", "YX"),
        "zarr array": ZarrStack(array, axes="YX"),
        "ome-zarr": ZarrStack(ome),
        "dataset": ds.img.stack(),
        "not dask": imload(tif, chunks=None).img.stack(),
        "computed": (ds * np.uint16(2) - ds).img.stack(),
        "selected": imload(tiled).isel(y=slice(0, 6)).img.stack(),
        "data array": xr.DataArray(RAMP, dims=["y", "x"]).img.stack(),
    }


def test_a_patch_beyond_the_edge_is_padded_alike_by_every_kind_of_stack(tmp_path):
    expected = np.pad(RAMP, 1)[None]
    corner = np.pad(RAMP[4:, 5:], ((0, 1), (0, 3)))[None]
    for name, stack in _ramps(tmp_path).items():
        assert stack.data_shape == (1, 1, 6, 6), name
        patch = stack.extract_patch(0, None, (-1, -1), (8, 8))
        np.testing.assert_array_equal(patch, expected, err_msg=name)
        assert patch.dtype == stack.data_dtype == ("uint8" if name == "png" else "uint16"), name
        np.testing.assert_array_equal(stack.extract_patch(0, [0], (4, 5), (3, 4)), corner, err_msg=name)
        assert not stack.extract_patch(0, None, (7, -9), (3, 4)).any(), name
        assert stack.extract_patch(0, None, (2, 2), (0, 3)).shape == (1, 0, 3), name
        patch[...] = 7  # it is the caller's own
        np.testing.assert_array_equal(stack.extract_patch(0, None, (-1, -1), (8, 8)), expected, err_msg=name)


# the order of samples


@pytest.mark.parametrize(
    ("depth", "axes", "shape", "original", "original_shape"),
    [
        ("none", "SCYX", (6, 2, 8, 10), "TZCYX", (2, 3, 2, 8, 10)),
        ("Z", "SCZYX", (2, 2, 3, 8, 10), "TCZYX", (2, 2, 3, 8, 10)),
        ("T", "SCTYX", (3, 2, 2, 8, 10), "ZCTYX", (3, 2, 2, 8, 10)),
    ],
)
def test_czi_samples_are_t_major(tzc, depth, axes, shape, original, original_shape):
    stack = CziStack(tzc, depth_axis=depth)
    assert (stack.axes, stack.data_shape, stack.original_axes, stack.original_data_shape) == (
        axes,
        shape,
        original,
        original_shape,
    )
    values = whole(stack)[..., 0, 0]
    t, c, z = np.ogrid[:2, :2, :3]
    pixel = 100 * t + 10 * c + z
    expected = {"none": pixel.transpose(0, 2, 1).reshape(6, 2), "Z": pixel, "T": pixel.transpose(2, 1, 0)}[depth]
    np.testing.assert_array_equal(values, expected)
    if depth == "none":
        assert values[:, 0].tolist() == [0, 1, 2, 100, 101, 102]
    restored = stack.restore(whole(stack))
    assert restored.shape == original_shape
    np.testing.assert_array_equal(
        restored[..., 0, 0], pixel.transpose(["TCZ".index(a) for a in original if a in "TCZ"])
    )
    same = imload(tzc).img.stack(depth)
    assert same.data_shape == stack.data_shape
    assert same.source == stack.source == tzc
    np.testing.assert_array_equal(whole(same), whole(stack))
    np.testing.assert_array_equal(same.restore(whole(same)), imload(tzc)["image"].values)


@pytest.mark.parametrize("axes", ["STCYX", "TSCYX", "YXTSC", "TYXCS", "stcyx", "YXTiC"])
def test_arrays_list_samples_s_major_whatever_their_order(axes):
    axes_, array = axes.upper().replace("I", "S"), numbered("STCYX")
    array = array.transpose(["STCYX".index(a) for a in axes_])
    stack = MemoryStack.from_array(array, axes)
    assert stack.data_shape == (6, 2, 6, 7)
    assert stack.original_axes == axes_
    np.testing.assert_array_equal(whole(stack), numbered("STCYX").reshape(6, 2, 6, 7))
    np.testing.assert_array_equal(stack.restore(whole(stack)), array)


def test_z_is_the_depth_of_arrays_and_can_be_chosen():
    array = numbered("TZYX")
    assert MemoryStack(array, "TZYX").axes == "SCZYX"
    flat = MemoryStack(array, "TZYX", depth_axis="none")
    np.testing.assert_array_equal(whole(flat), array.reshape(12, 1, 6, 7))
    time = MemoryStack(array, "TZYX", depth_axis="T")
    assert time.axes == "SCTYX"
    np.testing.assert_array_equal(whole(time), array.transpose(1, 0, 2, 3)[:, None])


def test_other_axes_of_a_dataset_come_after_t_and_z():
    array = xr.DataArray(np.arange(2 * 3 * 4 * 2 * 5 * 5).reshape(2, 3, 4, 2, 5, 5), dims=list("hztcyx"))
    stack = array.img.stack()
    assert stack.original_axes == "HZTCYX"
    expected = array.transpose("t", "z", "h", "c", "y", "x").values.reshape(24, 2, 5, 5)
    np.testing.assert_array_equal(whole(stack), expected)
    np.testing.assert_array_equal(stack.restore(whole(stack)), array.values)


def test_colour_samples_beside_channels_become_channels():
    array = xr.DataArray(np.arange(2 * 2 * 5 * 6 * 3).reshape(2, 2, 5, 6, 3), dims=list("tcyxs"))
    for obj in (array, array.chunk(x=4)):
        stack = obj.img.stack()
        assert stack.data_shape == (2, 6, 5, 6)
        np.testing.assert_array_equal(whole(stack), array.values.transpose(0, 1, 4, 2, 3).reshape(2, 6, 5, 6))
        some = stack.extract_patch(1, [5, 0, 2, 3], (1, 1), (2, 2))
        np.testing.assert_array_equal(some, whole(stack)[1, [5, 0, 2, 3], 1:3, 1:3])
        np.testing.assert_array_equal(stack.restore(whole(stack)), array.values)


def test_restore_takes_other_sizes_and_says_what_does_not_fit():
    stack = MemoryStack(numbered("YXTSC"), "YXTSC")
    assert stack.restore(np.zeros((6, 5, 3, 2))).shape == (3, 2, 3, 2, 5)
    assert isinstance(stack.restore(da.zeros((6, 2, 6, 7))), da.Array)
    with pytest.raises(ValueError, match=r"expected 6 samples \(the stack merges S=2, T=3 into S\), got 5"):
        stack.restore(np.zeros((5, 2, 6, 7)))
    with pytest.raises(ValueError, match=r"axes SCYX \(4 of them\), got one of shape \(6, 2\)"):
        stack.restore(np.zeros((6, 2)))
    with pytest.raises(ValueError, match="have 3 channels, the image has 1 and no single axis C"):
        MemoryStack(numbered("TYX"), "TYX").restore(np.zeros((3, 3, 6, 7)))


# laws


@st.composite
def stacks_and_patches(draw):
    rest = draw(st.lists(st.sampled_from("STCZ"), unique=True, max_size=4))
    axes = "".join(draw(st.permutations([*rest, "Y", "X"])))
    shape = [draw(st.integers(1, 4)) for _ in axes]
    chunks = [draw(st.integers(1, n)) for n in shape]
    depth = draw(st.sampled_from(["none", *[a for a in "ZT" if a in axes]]))
    space = 2 + (depth != "none")
    coords = tuple(draw(st.integers(-6, 6)) for _ in range(space))
    size = tuple(draw(st.integers(0, 7)) for _ in range(space))
    count = shape[axes.index("C")] if "C" in axes else 1
    channels = draw(st.none() | st.lists(st.integers(-count, count - 1), min_size=1, max_size=4))
    kind = draw(st.sampled_from(["memory", "dask", "reader", "float32"]))
    return axes, shape, chunks, depth, coords, size, channels, kind


@examples(250, suppress_health_check=[HealthCheck.too_slow])
@given(stacks_and_patches())
def test_a_patch_is_a_part_of_the_padded_whole_and_restore_is_the_inverse(drawn):
    axes, shape, chunks, depth, coords, size, channels, kind = drawn
    array = np.arange(1, 1 + math.prod(shape), dtype="uint32").reshape(shape)
    data = da.from_array(array, chunks=chunks) if kind == "dask" else array
    if kind == "reader":  # unread pixels in another order, with an axis more
        turned = array.T[None]
        stored = Pixels(_Reader(turned), turned.shape, array.dtype, (1,) * turned.ndim)
        data = stored.reshape(range(1, array.ndim + 1)).transpose(range(array.ndim)[::-1])
    stack = MemoryStack(data, axes, depth_axis=depth, dtype="float32" if kind == "float32" else None)
    deep = "" if depth == "none" else depth
    expected = merged(array, axes, "".join(a for a in "STZ" if a in axes and a != deep), deep)
    assert stack.data_shape == expected.shape
    for k in {0, len(stack) // 2, len(stack) - 1}:
        patch = stack.extract_patch(k, channels, coords, size)
        chosen = expected[k] if channels is None else expected[k][channels]
        np.testing.assert_array_equal(patch, padded(chosen, coords, size))
        assert patch.dtype == stack.data_dtype == ("float32" if kind == "float32" else "uint32")
        assert patch.flags.c_contiguous
    np.testing.assert_array_equal(whole(stack), expected)
    np.testing.assert_array_equal(stack.restore(whole(stack)), array)


class _Reader:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def read_into(self, region, out):
        out[...] = self.array[region]


# dtypes


@pytest.mark.parametrize(("dtype", "value"), [("uint32", 2**24 + 1), ("float64", 1 + 2**-40), ("int32", -(2**31) + 1)])
def test_values_keep_their_dtype_unless_another_is_asked_for(tmp_path, dtype, value):
    array = np.full((6, 6), value, dtype)
    write_tif(tmp_path / "a.tif", array, compression="zlib")
    for stack in (MemoryStack(array, "YX"), FileStack(tmp_path / "a.tif"), imload(tmp_path / "a.tif").img.stack()):
        patch = stack.extract_patch(0, None, (-1, 2), (4, 3))
        assert patch.dtype == stack.data_dtype == dtype
        assert patch[0, 2, 1] == array[0, 0]
    single = FileStack(tmp_path / "a.tif", dtype="float32")
    assert single.data_dtype == np.float32
    np.testing.assert_array_equal(single.extract_patch(0, None, (0, 0), (6, 6))[0], array.astype("float32"))


def test_big_endian_files_give_native_patches(tmp_path):
    write_tif(tmp_path / "be.tif", numbered("TYX"), byteorder=">", metadata={"axes": "TYX"})
    patch = FileStack(tmp_path / "be.tif", "TYX").extract_patch(2, None, (1, 1), (3, 3))
    assert patch.dtype.isnative
    np.testing.assert_array_equal(patch[0], numbered("TYX")[2, 1:4, 1:4])


# CZI


def test_scenes_with_negative_origins(scenes):
    path, arrays = scenes
    rectangles = CziStack.get_bounding_rectangles(path)
    assert rectangles == {0: (-40, -50, 30, 20), 1: (10, -5, 15, 25), 2: (100, 60, 12, 12)}
    assert rectangles[0].x == -40
    assert rectangles[1].h == 25
    for k, array in enumerate(arrays):
        stack = CziStack(path, scene=k)
        assert stack.data_shape == (1, 1, *array.shape)
        assert (stack.scene, stack.data_path, stack.source) == (k, path, path.with_name(f"scenes.czi@{k}"))
        size = tuple(n + 3 for n in array.shape)
        np.testing.assert_array_equal(stack.extract_patch(0, None, (-1, -2), size)[0], np.pad(array, ((1, 2), (2, 1))))
        again = CziStack(stack.source)
        assert (again.scene, again.source) == (k, stack.source)
        np.testing.assert_array_equal(whole(again), whole(stack))
        assert imload(path, scene=k).img.stack().source == stack.source


def test_without_a_scene_all_lie_in_their_places(scenes):
    path, arrays = scenes
    stack = CziStack(path)
    assert stack.source == path
    assert stack.scene is None
    assert stack.data_shape == (1, 1, 122, 152)
    expected = np.zeros((122, 152), "uint16")
    for (x, y, w, h), array in zip(CziStack.get_bounding_rectangles(path).values(), arrays, strict=True):
        expected[y + 50 : y + 50 + h, x + 40 : x + 40 + w] = array
    np.testing.assert_array_equal(whole(stack)[0, 0], expected)


def test_planes_that_do_not_begin_at_0(tmp_path):
    planes = {(t, 0, 0): np.full((6, 6), t, "uint16") for t in (5, 6, 7)}
    stack = CziStack(write_czi(tmp_path / "late.czi", planes))
    assert stack.original_data_shape == (3, 1, 1, 6, 6)
    assert whole(stack)[:, 0, 0, 0].tolist() == [5, 6, 7]
    assert CziStack.get_bounding_rectangles(stack) == {0: (0, 0, 6, 6)}


def test_rgb_czi(tmp_path):
    from pylibCZIrw import czi

    colours = np.random.default_rng(0).integers(0, 255, (9, 11, 3), "uint8")
    with czi.create_czi(str(tmp_path / "rgb.czi")) as document:
        document.write(np.ascontiguousarray(colours[..., ::-1]), plane={"C": 0})  # stored as B, G, R
    stack = CziStack(tmp_path / "rgb.czi")
    assert stack.data_shape == (1, 3, 9, 11)
    np.testing.assert_array_equal(whole(stack)[0], colours.transpose(2, 0, 1))
    some = stack.extract_patch(0, [2, 0], (1, 1), (4, 4))
    np.testing.assert_array_equal(some, colours[1:5, 1:5, [2, 0]].transpose(2, 0, 1))


def test_real_czi_files_agree_with_their_datasets(data):
    paths = sorted(data.rglob("*.czi"))
    assert paths
    for path in paths[:4]:
        image = imload(path)["image"]
        stack = imload(path).img.stack()
        assert stack.data_shape[-2:] == (image.sizes["y"], image.sizes["x"])
        start = tuple(max(0, n // 2 - 20) for n in stack.data_shape[2:])
        patch = stack.extract_patch(len(stack) - 1, None, start, (16, 24))
        last = image.isel({a: -1 for a in image.dims if a not in "csyx"})
        planes = last.transpose(*[a for a in "csyx" if a in last.dims]).values
        planes = planes.reshape(-1, *planes.shape[-2:])
        np.testing.assert_array_equal(patch, padded(planes, start, (16, 24)), err_msg=path.name)


# Zarr


def test_zarr_chunks_and_shards_in_the_order_of_the_original_axes(tmp_path):
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    array = numbered("YXTC")
    made = group.create_array("sub/im", shape=array.shape, chunks=(3, 4, 1, 2), shards=(6, 8, 3, 2), dtype="uint16")
    made[...] = array
    plain = group.create_array("plain", shape=array.shape, chunks=(6, 7, 1, 1), dtype="uint16")
    plain[...] = array
    for stack in (
        ZarrStack(tmp_path / "g.zarr", "sub/im", "YXTC"),
        ZarrStack(group, "sub/im", "YXTC"),
        ZarrStack(f"file://{tmp_path}/g.zarr/sub/im", axes="YXTC"),
    ):
        assert stack.source == f"file://{tmp_path}/g.zarr/sub/im"
        assert (stack.chunks, stack.shards) == ((3, 4, 1, 2), (6, 8, 3, 2))
        assert stack.original_axes == "YXTC"
        np.testing.assert_array_equal(whole(stack), array.transpose(2, 3, 0, 1))
        again = ZarrStack(stack.source, axes="YXTC")
        np.testing.assert_array_equal(whole(again), whole(stack))
        np.testing.assert_array_equal(whole(pickle.loads(pickle.dumps(stack))), whole(stack))
    assert ZarrStack(group, "plain", "YXTC").shards is None
    assert ZarrStack(tmp_path / "g.zarr", "plain", "YXTC").shards is None


def test_ome_zarr_knows_its_axes_and_levels(tmp_path):
    array = np.random.default_rng(0).integers(0, 9999, (2, 2, 3, 32, 40), "uint16")
    imsave(xr.DataArray(array, dims=list("tczyx")), tmp_path / "a.ome.zarr", pyramid=1)
    stack = ZarrStack(tmp_path / "a.ome.zarr")
    assert stack.axes == "SCZYX"
    np.testing.assert_array_equal(whole(stack), array)
    assert str(stack.source) == f"file://{tmp_path}/a.ome.zarr"
    np.testing.assert_array_equal(whole(ZarrStack(stack.source)), array)
    assert ZarrStack(tmp_path / "a.ome.zarr", level=1, depth_axis="none").data_shape == (6, 2, 16, 20)
    assert imload(tmp_path / "a.ome.zarr").img.stack("Z").chunks == stack.chunks


def test_remote_zarr(tmp_path):
    import fsspec

    array = numbered("TYX")
    url = "memory://stack-test/a.zarr"
    try:
        made = zarr.create_array(url, shape=array.shape, chunks=(1, 4, 4), dtype="uint16", dimension_names=tuple("tyx"))
        made[...] = array
        stack = ZarrStack(url)
        assert stack.source == url
        np.testing.assert_array_equal(whole(stack), array[:, None])
        np.testing.assert_array_equal(stack.extract_patch(1, None, (-1, -1), (4, 4))[0], np.pad(array[1], 1)[:4, :4])
    finally:
        fsspec.filesystem("memory").rm("/stack-test", recursive=True)


def test_zarr_over_http(tmp_path):
    pytest.importorskip("aiohttp")
    import functools
    import http.server

    array = numbered("TYX")
    options = {"shape": array.shape, "chunks": (1, 4, 4), "dtype": "uint16", "dimension_names": tuple("tyx")}
    made = zarr.create_array(str(tmp_path / "a.zarr"), **options)
    made[...] = array

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with running(functools.partial(Quiet, directory=str(tmp_path))) as place:
        stack = ZarrStack(f"{place}/a.zarr")
        assert stack.source == f"{place}/a.zarr"
        np.testing.assert_array_equal(whole(stack), array[:, None])


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_zarr_on_s3(s3):
    array = numbered("TCYX")
    imsave(xr.DataArray(array, dims=list("tcyx")), "s3://images/a.zarr", storage_options=s3)
    stack = ZarrStack("s3://images/a.zarr", storage_options=s3)
    assert stack.source == "s3://images/a.zarr"
    np.testing.assert_array_equal(whole(stack), array)


def test_zarr_errors_name_what_there_is(tmp_path):
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("im", shape=(4, 4), dtype="uint8")
    group.create_group("sub")
    with pytest.raises(ValueError, match=r"Did not find array at 'nope' in store .*: it has im"):
        ZarrStack(group, "nope", "YX")
    with pytest.raises(TypeError, match="data_path='sub' is a group"):
        ZarrStack(group, "sub", "YX")
    with pytest.raises(AxesError, match=r"does not name its axes: pass axes="):
        ZarrStack(group, "im")
    with pytest.raises(FileNotFoundError, match="nope"):
        ZarrStack(tmp_path / "g.zarr", "nope", "YX")
    write_tif(tmp_path / "a.tif", RAMP)
    with pytest.raises(ValueError, match=r"TIFF, not Zarr: use FileStack"):
        ZarrStack(tmp_path / "a.tif")


# files


def test_load_and_close(tmp_path):
    array = numbered("TCYX")
    write_tif(tmp_path / "a.tif", array, compression="zlib", metadata={"axes": "TCYX"})
    stack = FileStack.from_tiff(tmp_path / "a.tif", "TCYX")
    assert not stack.is_loaded
    before = whole(stack)  # loading is never necessary
    stack.load()
    assert stack.is_loaded
    np.testing.assert_array_equal(whole(stack), before)
    assert not pickle.loads(pickle.dumps(stack)).is_loaded
    stack.close()
    assert not stack.is_loaded
    assert len(POOL) == 0
    np.testing.assert_array_equal(whole(stack), array)
    memory = MemoryStack(array, "TCYX")
    memory.load()
    memory.close()
    assert memory.is_loaded


def _read_scaled(path: Path, factor: int = 1, **unknown: object) -> np.ndarray:
    assert not unknown
    return np.load(path) * np.uint16(factor)


@pytest.mark.parametrize("kind", [FileStack, MemoryStack])
def test_a_custom_file_type_is_read_with_its_arguments(tmp_path, kind):
    np.save(tmp_path / "a.dat.npy", numbered("TYX"))
    stack = kind.from_custom_file_type(tmp_path / "a.dat.npy", "TYX", _read_scaled, factor=3)
    assert stack.is_loaded == (kind is MemoryStack)
    assert stack.source == tmp_path / "a.dat.npy"
    stack.load()
    np.testing.assert_array_equal(whole(stack), 3 * numbered("TYX")[:, None])
    stack.close()
    np.testing.assert_array_equal(whole(pickle.loads(pickle.dumps(stack))), 3 * numbered("TYX")[:, None])
    with pytest.raises(TypeError, match="expected a function that takes a path"):
        kind.from_custom_file_type(tmp_path / "a.dat.npy", "TYX", None)


def test_a_relative_path_survives_chdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tif("a.tif", RAMP)
    write_czi(Path("a.czi"), {(0, 0, 0): RAMP})
    zarr.create_array("a.zarr", shape=(6, 6), dtype="uint16")[...] = RAMP
    stacks = [FileStack("a.tif"), CziStack("a.czi"), ZarrStack("a.zarr", axes="YX"), imload("a.tif").img.stack()]
    packed = pickle.dumps(stacks)
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    for stack in (*stacks, *pickle.loads(packed)):
        np.testing.assert_array_equal(whole(stack)[0, 0], RAMP)
        assert str(tmp_path) in str(stack.source)


def _replace(path: Path, other: Path) -> None:
    shutil.copy(other, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


@pytest.mark.parametrize("name", ["raw.tif", "zlib.tif", "a.czi", "a.npy"])
def test_a_replaced_file_is_an_error(tmp_path, name):
    path, other = tmp_path / name, tmp_path / f"other-{name}"
    for target, array in ((path, RAMP), (other, np.zeros((60, 60), "uint16"))):
        if name.endswith("czi"):
            write_czi(target, {(0, 0, 0): array})
        elif name.endswith("npy"):
            np.save(target, array)
        else:
            write_tif(target, array, compression="zlib" if "zlib" in name else None)
    stack = CziStack(path) if name.endswith("czi") else FileStack(path)
    packed = pickle.dumps(stack)
    assert whole(stack).any()
    _replace(path, other)
    time.sleep(0.002)  # for so long a memory map is trusted
    for known in (stack, pickle.loads(packed)):
        with pytest.raises(SourceChangedError, match="was changed or replaced since"):
            whole(known)
    custom = FileStack.from_custom_file_type(path, "YX", lambda p: RAMP)
    _replace(path, other)
    with pytest.raises(SourceChangedError, match="make it again"):
        custom.load()


def test_a_mapped_file_that_shrinks_is_an_error_and_kills_nothing(tmp_path):
    write_tif(tmp_path / "a.tif", np.ones((512, 512), "uint16"))
    stack = FileStack(tmp_path / "a.tif")
    assert stack.extract_patch(0, None, (500, 500), (4, 4)).all()
    os.truncate(tmp_path / "a.tif", 1000)
    time.sleep(0.002)
    for place in ((500, 500), (510, 510)):
        with pytest.raises(SourceChangedError):
            stack.extract_patch(0, None, place, (4, 4))
    with pytest.raises(SourceChangedError):
        FileStack.extract_patch(pickle.loads(pickle.dumps(stack)), 0, None, (0, 0), (4, 4))


@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_arrays_of_either_order_and_endianness(tmp_path, order):
    array = numbered("TYX", ">u4")
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    stack = FileStack(tmp_path / "a.npy", "TYX")
    np.testing.assert_array_equal(whole(stack)[:, 0], array)
    np.testing.assert_array_equal(
        stack.extract_patch(2, None, (-1, 3), (4, 9))[0], padded(array[2:], (-1, 3), (4, 9))[0]
    )
    assert stack.extract_patch(0, None, (0, 0), (2, 2)).dtype == np.dtype("uint32")
    imsave(xr.DataArray(array.astype("uint32"), dims=list("tyx")), tmp_path / "b.bin")
    np.testing.assert_array_equal(whole(FileStack(tmp_path / "b.bin"))[:, 0], array)


def test_threads_share_a_stack(tmp_path):
    array = np.random.default_rng(0).integers(0, 60000, (6, 90, 80), "uint16")
    write_tif(tmp_path / "raw.tif", array, metadata={"axes": "TYX"})
    write_tif(tmp_path / "tiles.tif", array, metadata={"axes": "TYX"}, tile=(32, 32), compression="zlib")
    czi = write_czi(tmp_path / "a.czi", {(t, 0, 0): array[t] for t in range(6)}, "zstd1:ExplicitLevel=1")
    rng = np.random.default_rng(1)
    jobs = [(int(rng.integers(6)), (int(rng.integers(-9, 85)), int(rng.integers(-9, 75)))) for _ in range(200)]
    for stack in (FileStack(tmp_path / "raw.tif"), FileStack(tmp_path / "tiles.tif"), CziStack(czi)):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda job: stack.extract_patch(job[0], None, job[1], (17, 19)), jobs))  # noqa: B023
        for (k, place), patch in zip(jobs, found, strict=True):
            np.testing.assert_array_equal(patch, padded(array[k][None], place, (17, 19)))


def _sums(stack: ImageStack, coords: list[tuple[int, int]]) -> list[int]:
    return [int(stack.extract_patch(0, None, c, (3, 3)).sum()) for c in coords]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_by_themselves(tmp_path, method):
    write_tif(tmp_path / "raw.tif", RAMP)
    write_tif(tmp_path / "zlib.tif", RAMP, compression="zlib")
    write_czi(tmp_path / "a.czi", {(0, 0, 0): RAMP}, "zstd1:ExplicitLevel=1")
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(6, 6), dtype="uint16")[...] = RAMP
    stacks = [
        FileStack(tmp_path / "raw.tif"),
        FileStack(tmp_path / "zlib.tif"),
        CziStack(tmp_path / "a.czi"),
        ZarrStack(tmp_path / "a.zarr", axes="YX"),
    ]
    coords = [(-1, -1), (2, 3), (5, 5)]
    expected = [_sums(s, coords) for s in stacks]  # files are open, maps are made
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(partial(_sums, coords=coords), stacks)
    assert found == expected


def test_96_scenes_need_no_more_than_2_open_files(tmp_path):
    from pylibCZIrw import czi

    path = tmp_path / "many.czi"
    with czi.create_czi(str(path)) as document:
        for k in range(96):
            document.write(np.full((8, 8), k, "uint16"), location=(20 * k, 0), plane={"C": 0}, scene=k)
    stacks = [CziStack(path, scene=k) for k in CziStack.get_bounding_rectangles(path)]
    assert len(stacks) == 96
    assert [int(s.extract_patch(0, None, (2, 2), (1, 1))[0, 0, 0]) for s in stacks] == list(range(96))
    assert len(open_files(str(tmp_path), mapped=False)) <= 2
    copies = pickle.loads(pickle.dumps(stacks))
    assert [int(s.extract_patch(0, None, (2, 2), (1, 1))[0, 0, 0]) for s in copies] == list(range(96))
    assert len(open_files(str(tmp_path), mapped=False)) <= 2


def test_96_series_of_a_mapped_tiff_share_one_map(tmp_path):
    with tifffile.TiffWriter(tmp_path / "many.ome.tif", ome=True) as writer:
        for k in range(96):
            writer.write(np.full((8, 8 + k % 3), k, "uint8"), metadata={"axes": "YX"})
    stacks = [FileStack(tmp_path / "many.ome.tif", scene=k) for k in range(96)]
    assert [int(s.extract_patch(0, None, (2, 2), (1, 1))[0, 0, 0]) for s in stacks] == list(range(96))
    assert len(open_files(str(tmp_path), mapped=False)) <= 2


def test_untouched_files_are_read_without_a_graph(tmp_path, monkeypatch):
    write_tif(tmp_path / "a.tif", numbered("TYX"), compression="zlib", metadata={"axes": "TYX"})
    ds = imload(tmp_path / "a.tif")
    stack, changed = ds.img.stack(), (ds + np.uint16(1)).img.stack()
    assert stack.source == tmp_path / "a.tif"
    assert changed.source == "array"
    assert (ds + np.uint16(1)).img.stack(source="plus one").source == "plus one"
    monkeypatch.setattr(da.Array, "__getitem__", lambda *_: pytest.fail("a dask graph was made"))
    np.testing.assert_array_equal(whole(stack)[:, 0], numbered("TYX"))
    with pytest.raises(pytest.fail.Exception, match="graph"):
        whole(changed)


# errors


def _said(error: type[Exception], sentence: str, call: Callable[[], object]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert sentence in str(caught.value)


@pytest.mark.parametrize("kind", ["memory", "dask", "czi", "zarr", "tiff"])
def test_errors_of_patches_say_what_was_given_and_what_is_allowed(tmp_path, kind):
    array = numbered("TCYX")
    write_tif(tmp_path / "a.tif", array, compression="zlib", metadata={"axes": "TCYX"})
    made = zarr.create_array(str(tmp_path / "a.zarr"), shape=array.shape, dtype="uint16")
    made[...] = array
    stack: ImageStack = {
        "memory": lambda: MemoryStack(array, "TCYX"),
        "dask": lambda: MemoryStack(da.from_array(array), "TCYX"),
        "czi": lambda: CziStack(write_czi(tmp_path / "a.czi", {(t, c, 0): array[t, c] for t, c in np.ndindex(3, 2)})),
        "zarr": lambda: ZarrStack(made, axes="TCYX"),
        "tiff": lambda: FileStack(tmp_path / "a.tif"),
    }[kind]()
    np.testing.assert_array_equal(stack.extract_patch(-1, [-1], (0, 0), (6, 7)), array[-1, -1:])
    for sample, channels, error, sentence in (
        (
            0,
            [0, 4],
            ValueError,
            "Channel index 4 is out of bounds for data with 2 channels: channels=[0, 4], allowed "
            "are 0 to 1, or None for all",
        ),
        (0, [-3], ValueError, "Channel index -3 is out of bounds for data with 2 channels"),
        (0, [], ValueError, "channels=[] selects no channel: give some of 0 to 1, or None for all 2"),
        (3, None, IndexError, "sample_idx=3 is out of range: the stack has 3 samples (0 to 2; original axes"),
        (-4, None, IndexError, "sample_idx=-4 is out of range"),
    ):
        _said(error, sentence, partial(stack.extract_patch, sample, channels, (0, 0), (2, 2)))
    for coords, size, error, sentence in (
        (
            (0, 0, 0),
            (2, 2, 2),
            ValueError,
            "Requested a 3D patch (patch_size=(2, 2, 2)) from a 2D image stack with "
            "axes SCYX: make the stack with depth_axis='Z' or 'T', or give two numbers each (YX)",
        ),
        (
            (0, 0),
            (2,),
            ValueError,
            "must have the same dimensions, but coords=(0, 0) has 2 and patch_size=(2,) has 1: give 2 each (YX)",
        ),
        ((0,), (2,), ValueError, "Requested a 1D patch (patch_size=(2,)) from a 2D image stack with axes SCYX"),
        ((0, 0), (-1, 2), ValueError, "patch_size=(-1, 2): expected numbers of pixels, none of them negative"),
        ((0.5, 0), (2, 2), TypeError, "float"),
    ):
        _said(error, sentence, partial(stack.extract_patch, 0, None, coords, size))


def test_a_2d_patch_of_a_3d_stack(tzc):
    stack = CziStack(tzc, depth_axis="Z")
    _said(
        ValueError,
        "Requested a 2D patch (patch_size=(2, 2)) from a 3D image stack with axes SCZYX: give three numbers each (ZYX)"
        ", or make the stack with depth_axis='none'",
        partial(stack.extract_patch, 0, None, (0, 0), (2, 2)),
    )


def test_errors_of_constructors(tmp_path, tzc, scenes):
    path = scenes[0]
    write_tif(tmp_path / "a.tif", RAMP)
    ramp = xr.DataArray(RAMP, dims=["y", "x"])
    thin = "no more than one sample along Z, so it cannot be the depth of 3-D patches: depth_axis='Z' was given, pass"
    for error, sentence, call in (
        (ValueError, "names the scene '0', and scene=0 was given too: give one", partial(CziStack, f"{path}@0", 0)),
        (SceneError, "scenes.czi has no scene number 7; it has 3 (0: '0', 1: '1', 2: '2')", partial(CziStack, path, 7)),
        (SceneError, "scenes.czi has no scene number 7", partial(CziStack, f"{path}@7")),
        (FileNotFoundError, "nope.czi", partial(CziStack, tmp_path / "nope.czi")),
        (FileNotFoundError, "nope.czi@0", partial(CziStack, tmp_path / "nope.czi@0")),
        (AxesError, thin, partial(CziStack, path, scene=0, depth_axis="Z")),
        (AxesError, thin, partial(ramp.expand_dims("z").img.stack, "Z")),
        (AxesError, "has axes 'YX' and no axis T to use as depth: pass depth_axis=", partial(ramp.img.stack, "T")),
        (AxesError, "has axes 'ZX' and no Y", ramp.rename(y="z").img.stack),
        (ValueError, "TIFF, not CZI: use FileStack", partial(CziStack, tmp_path / "a.tif")),
        (ValueError, "variable='nope': the Dataset has 'image'", partial(imload(path).img.stack, variable="nope")),
        (TypeError, "axes=3: expected a text such as 'TCYX'", partial(MemoryStack, RAMP, 3)),
    ):
        _said(error, sentence, call)
    for make in (partial(CziStack, tzc), imload(tzc).img.stack, partial(MemoryStack, numbered("TYX"), "TYX")):
        _said(ValueError, "depth_axis='X': expected one of 'none', 'Z', 'T'", partial(make, depth_axis="X"))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("TQYX", r"contain 'Q': allowed are S, T, C, Z, Y, X"),
        ("TTYX", r"repeat 'T'"),
        ("TCZX", r"lack 'Y': a stack needs Y and X"),
        ("TYX", r"name 3 axes, but the array has 4 \(shape \(2, 3, 6, 7\)\)"),
    ],
)
def test_errors_of_axes(axes, message):
    with pytest.raises(AxesError, match=message):
        MemoryStack(np.zeros((2, 3, 6, 7)), axes)


def test_a_real_file_with_an_at_in_its_name(tmp_path, tzc):
    shutil.copy(tzc, tmp_path / "a@1")
    stack = CziStack(tmp_path / "a@1")
    assert stack.source == tmp_path / "a@1"
    assert stack.scene is None
    np.testing.assert_array_equal(whole(CziStack(stack.source)), whole(CziStack(tzc)))


def test_the_repr_says_what_it_is(tzc):
    assert repr(CziStack(tzc, depth_axis="Z")) == (
        f"<CziStack SCZYX (2, 2, 3, 8, 10) uint16 of TCZYX (2, 2, 3, 8, 10), {str(tzc)!r}>"
    )


def test_the_name_of_an_array_that_is_alone_is_checked():
    image = xr.DataArray(np.zeros((4, 5)), dims=["y", "x"], name="image")
    assert image.img.stack(variable="image").data_shape == (1, 1, 4, 5)
    with pytest.raises(ValueError, match="variable='labels': this is the variable 'image' alone"):
        image.img.stack(variable="labels")
