"""Writing computes nothing twice where every chunk depends on all of the image."""

import pickle
import threading

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.collections import computed_once as module
from intake_img.collections.computed_once import computed_once, depends_on_far
from intake_img.errors import CannotWriteError
from intake_img.model.image import Image
from intake_img.storage.spill import SpillingMemory

VALUES = np.random.default_rng(0).random((2, 512, 2048)) > 0.6


class Counted:
    """A lazy mask that counts how often each block is computed."""

    def __init__(self, chunks=(1, 64, 2048)):
        self.blocks, self._lock = 0, threading.Lock()
        lazy = da.from_array(VALUES, chunks=chunks).map_blocks(self._count, dtype=bool, meta=np.empty((0, 0, 0), bool))
        self.count = lazy.npartitions
        self.mask = xr.DataArray(lazy, dims=("z", "y", "x"), name="image", attrs={"kind": "mask"})

    def _count(self, block):
        with self._lock:
            self.blocks += 1
        return block


def labels(mask):
    return mask.img.label().astype("i4")


def divided(mask):
    floats = mask.astype("f4").drop_attrs()
    return floats / floats.std()


@pytest.mark.parametrize("operation", [labels, divided])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.zarr", {}),
        ("a.zarr", {"pyramid": 1}),
        ("a.zarr.zip", {}),
        ("a.npy", {}),
        ("a.tif", {}),
        ("a.npy", {"partition": "yx"}),
        ("a.zarr", {"engine": "threads"}),
    ],
)
def test_each_block_is_computed_once(tmp_path, operation, name, options):
    source = Counted()
    made = operation(source.mask)
    imsave(made.to_dataset(name="image"), tmp_path / name, **options)
    assert source.blocks == source.count
    np.testing.assert_array_equal(imload(tmp_path / name).image.values, operation(Counted().mask).values)


def test_levels_of_a_pyramid_share_their_image(tmp_path):
    source = Counted()
    tree = labels(source.mask).to_dataset(name="image").img.pyramid([{"y": 2, "x": 2}])
    imsave(tree, tmp_path / "a.zarr")
    assert source.blocks == source.count
    expected = labels(Counted().mask).to_dataset(name="image").img.pyramid([{"y": 2, "x": 2}])
    np.testing.assert_array_equal(imload(tmp_path / "a.zarr", level=1).image, expected["scale1"]["image"])


def test_what_is_appended_is_computed_once(tmp_path):
    source = Counted()
    floats = divided(source.mask).rename(z="t").drop_attrs().to_dataset(name="image")
    imsave(xr.zeros_like(floats.isel(t=slice(1))).compute(), tmp_path / "a.zarr")
    source.blocks = 0
    imsave(floats, tmp_path / "a.zarr", append_dim="t")
    assert source.blocks == source.count
    np.testing.assert_array_equal(imload(tmp_path / "a.zarr").image[1:], divided(Counted().mask))


@pytest.mark.parametrize("method", ["to_tif", "to_binary"])
def test_exported_series_are_computed_once(tmp_path, method):
    source = Counted()
    floats = divided(source.mask).rename(z="t")
    getattr(floats.img, method)(tmp_path / "out")
    assert source.blocks == source.count
    first = sorted(p for p in (tmp_path / "out").iterdir() if p.name.startswith("image-"))[0]
    stored = imload(first).image.values if method == "to_tif" else np.fromfile(first, "f4").reshape(VALUES.shape[1:])
    np.testing.assert_array_equal(stored.squeeze(), divided(Counted().mask)[0])


def test_nothing_is_computed_for_a_target_that_is_refused(tmp_path):
    source = Counted()
    np.save(tmp_path / "a.npy", VALUES)
    with pytest.raises(FileExistsError):
        imsave(labels(source.mask).to_dataset(name="image"), tmp_path / "a.npy")
    with pytest.raises(CannotWriteError):
        imsave(source.mask.img.label().astype("int64").to_dataset(name="image"), tmp_path / "a.ome.tif")
    assert not source.blocks


def test_images_that_do_not_fit_into_memory_pass_through_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "memory", lambda: 8 * 2**20)
    made = []

    class Spilling(SpillingMemory):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(module, "SpillingMemory", Spilling)
    imsave(labels(Counted().mask).to_dataset(name="image"), tmp_path / "a.npy")
    assert made[0].spilled >= VALUES.size * 4
    assert made[0].folder == str(tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), labels(Counted().mask).values)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_what_depends_on_neighbours_stays_lazy(tmp_path):
    mask = Counted().mask
    floats = mask.astype("f4").drop_attrs()
    assert depends_on_far(labels(mask).data)
    assert depends_on_far(divided(mask).data)
    assert not depends_on_far(mask.data)
    assert not depends_on_far(floats.img.gaussian_filter(2).data)
    assert not depends_on_far(floats.img.median_filter(3).data + 1)
    planes = Counted((1, 512, 2048)).mask
    assert not depends_on_far(planes.img.label(dims="yx").data)
    np.save(tmp_path / "a.npy", VALUES.view("u1"))
    read = imload(tmp_path / "a.npy", chunks={"y": 32}).image
    assert not depends_on_far(read.img.gaussian_filter(1).data)
    assert not depends_on_far((read.data.rechunk((1, 64, 2048)) + 1)[:, 10:])


def test_other_schedulers_fill_the_values(tmp_path):
    with dask.config.set(scheduler="synchronous"):
        imsave(labels(Counted().mask).to_dataset(name="image"), tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), labels(Counted().mask).values)


def test_unread_values_pickle_as_dask_arrays():
    lazy = divided(xr.DataArray(da.from_array(VALUES, chunks=(1, 64, 2048)), dims=("z", "y", "x"), name="image"))
    (image,) = computed_once([Image.from_xarray(lazy)])
    pixels = pickle.loads(pickle.dumps(image.only.pixels))
    np.testing.assert_array_equal(pixels[0, :70], lazy[0, :70])
