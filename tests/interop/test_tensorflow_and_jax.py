"""Patches in TensorFlow and JAX."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import intake_img

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def patches(**options):
    values = np.arange(2 * 2 * 20 * 22).reshape(2, 2, 20, 22).astype("u2")
    image = xr.DataArray(values, dims=list("tcyx"), name="image")
    return intake_img.patches(image, {"y": 8, "x": 8}, **options)


def test_elements_of_tf_data_are_the_patches(needs):
    needs("tensorflow")
    p = patches()
    ds = p.to_tf()
    assert int(ds.cardinality()) == len(p)
    seen = list(ds.as_numpy_iterator())
    assert [int(s["patch"]) for s in seen] == list(range(len(p)))
    np.testing.assert_array_equal(np.stack([s["image"] for s in seen]), p.read(slice(None)))
    assert seen[0]["image"].dtype == np.uint16


def test_batches_of_tf_data(needs):
    needs("tensorflow")
    p = patches(sample="random", n=10, seed=1)
    ds = p.to_tf(4, dtype="float32", shuffle=True)
    assert ds.element_spec["image"].shape.as_list() == [None, 2, 8, 8]
    seen = list(ds.as_numpy_iterator())
    assert len(seen) == int(ds.cardinality()) == 3
    assert seen[0]["image"].dtype == np.float32
    for batch in seen:
        np.testing.assert_array_equal(batch["image"], p.read(batch["patch"]))
    assert sorted(np.concatenate([b["patch"] for b in seen])) == list(range(10))
    whole = p.to_tf(4, drop_last=True)
    assert whole.element_spec["image"].shape.as_list() == [4, 2, 8, 8]
    assert len(list(whole)) == 2


def test_an_epoch_reaches_tf_data(needs):
    needs("tensorflow")
    p = patches(sample="random", n=10, seed=1)
    ds = p.to_tf(4)
    first = np.concatenate([b["image"] for b in ds.as_numpy_iterator()])
    p.set_epoch(1)
    second = np.concatenate([b["image"] for b in ds.as_numpy_iterator()])
    np.testing.assert_array_equal(second, p.read(slice(None)))
    assert (first != second).any()


def test_partial_patches_have_open_shapes_in_tf_data(needs):
    needs("tensorflow")
    p = patches(edge="partial")
    ds = p.to_tf()
    assert ds.element_spec["image"].shape.as_list() == [2, None, None]
    seen = {int(s["patch"]): s["image"] for s in ds.as_numpy_iterator()}
    for k, image in seen.items():
        np.testing.assert_array_equal(image, p.read([k])[0])


def test_a_keras_model_is_mapped(needs):
    needs("tensorflow")
    keras = needs("keras")
    p = patches(over=("t", "c"))
    inputs = keras.Input((8, 8))
    model = keras.Model(inputs, keras.layers.Rescaling(2.0, offset=1.0)(inputs))
    out = p.map(model)
    np.testing.assert_array_equal(out.image.values, p.sources[0].dataset.image.values * 2 + 1)
    assert out.image.dtype == np.float32


def test_arrays_of_jax_are_the_patches(needs):
    jax = needs("jax")
    p = patches(sample="random", n=10, seed=1)
    seen = list(p.to_jax(4, dtype="float32"))
    assert [len(b["patch"]) for b in seen] == [4, 4, 2]
    for batch in seen:
        assert isinstance(batch["image"], jax.Array)
        np.testing.assert_array_equal(np.asarray(batch["image"]), p.read(batch["patch"]))


def test_a_function_of_jax_is_mapped(needs):
    jax = needs("jax")
    p = patches(overlap=2)
    out = p.map(jax.jit(lambda x: x.astype("float32") * 2), blend="hann")
    np.testing.assert_array_equal(out.image.values, p.sources[0].dataset.image.values * 2)
