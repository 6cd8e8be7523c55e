"""What thunder, harpy, dask-image or numpy get wrong, or decide in a way that surprises: each as it is here."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from processing_laws import CHUNKINGS, Source, stack
from scipy import ndimage

import intake_img


def test_sigma_zero_leaves_an_axis_alone_its_order_included():
    values = np.random.default_rng(1).random((2, 9, 8))
    found = stack(values, chunks={"y": 4}).img.gaussian_filter({"y": 0, "x": 1.5}, order={"y": 1, "x": 1})
    wanted = np.stack([ndimage.gaussian_filter1d(v, 1.5, axis=1, order=1) for v in values])
    np.testing.assert_array_equal(found, wanted)


def test_derivatives_of_bytes_wrap_as_in_scipy_unless_asked_otherwise():
    step = np.zeros((1, 5, 12), "u1")
    step[..., :6] = 100
    wrapped = stack(step, chunks={"x": 5}).img.gaussian_filter({"x": 1}, order={"x": 1})
    true = stack(step, chunks={"x": 5}).img.gaussian_filter({"x": 1}, order={"x": 1}, output_dtype=float)
    assert float(true.min()) < -20
    assert wrapped.dtype == np.uint8
    assert int(wrapped.max()) > 200


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
@pytest.mark.parametrize("chunks", CHUNKINGS)
def test_images_smaller_than_the_kernel(chunks, mode):
    values = np.arange(48.0).reshape(2, 4, 6)
    for name, options in (
        ("gaussian_filter", {"sigma": 2}),
        ("uniform_filter", {"size": 5}),
        ("median_filter", {"size": 5}),
    ):
        found = getattr(stack(values, chunks=chunks).img, name)(**options, mode=mode)
        wanted = np.stack([getattr(ndimage, name)(v, mode=mode, **options) for v in values])
        np.testing.assert_allclose(found, wanted, rtol=1e-13)


@pytest.mark.parametrize("n", [7, 20, 64])
def test_wrap_across_chunks(n):
    values = np.random.default_rng(1).random((1, 40, 50))
    for name, options in (
        ("gaussian_filter", {"sigma": 2}),
        ("maximum_filter", {"size": 4}),
        ("grey_opening", {"size": 5}),
        ("correlate", {"weights": np.eye(3)}),
    ):
        found = getattr(stack(values, chunks={"y": n, "x": n}).img, name)(**options, mode="wrap")
        np.testing.assert_array_equal(found[0], getattr(ndimage, name)(values[0], mode="wrap", **options))


def test_a_deep_halo_is_not_made_smaller():
    values = np.random.default_rng(1).random((100, 120)) * 1000
    image = stack(values, "yx", {"y": 20, "x": 25})
    found = image.img.map(lambda b: ndimage.gaussian_filter(b, 2), depth=30, boundary="reflect")
    np.testing.assert_allclose(found, ndimage.gaussian_filter(values, 2), rtol=1e-12)


def test_a_crop_sees_what_lies_around_it():
    values = np.random.default_rng(1).random((60, 70)) * 1000
    image = stack(values, "yx", {"y": 20, "x": 25})
    found = image.img.map(lambda b: ndimage.gaussian_filter(b, 2), depth=8, crd=(30, 50, 10, 33))
    np.testing.assert_array_equal(found, ndimage.gaussian_filter(values, 2)[10:33, 30:50])


def test_a_crop_outside_is_an_error_and_never_the_whole_image():
    with pytest.raises(ValueError, match="contains no pixel"):
        stack(np.zeros((8, 9)), "yx").img.map(np.negative, crd=(20, 30, 0, 5))


def test_without_keyword_arguments():
    assert float(stack(np.ones((4, 5)), "yx").img.map(lambda b: b + 1).sum()) == 40


def test_functions_are_never_tried_on_made_up_data():
    seen = []
    image = stack(np.full((2, 8, 9), 7.0), chunks={"t": 1, "y": 4})
    image.img.map(lambda b: seen.append(b.shape) or b).compute(scheduler="sync")
    image.img.map_as_series(lambda s: seen.append(s.shape) or s.sum(), value_size=0, dtype=float).compute(
        scheduler="sync"
    )
    assert set(seen) == {(4, 9), (2,)}


def test_pyramids_round_and_begin_where_the_image_begins():
    values = np.arange(25 * 7).reshape(25, 7).astype("u2")
    levels = stack(values, "yx", {"y": 6}).img.map(np.positive, scale_factors=[2, 2])
    assert [levels[f"scale{k}"]["image"].shape for k in range(3)] == [(25, 7), (12, 3), (6, 1)]
    blocks = values[:24, :6].reshape(12, 2, 3, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(levels["scale1"]["image"], np.rint(blocks))


def test_means_of_a_bright_background_keep_their_digits():
    values = 1e12 + np.random.default_rng(1).integers(0, 9, (1, 6, 300)).astype(float)
    found = stack(values, chunks={"x": 7}).img.uniform_filter(3)
    wanted = np.stack([ndimage.uniform_filter(v - 1e12, 3) for v in values]) + 1e12
    np.testing.assert_allclose(found, wanted, atol=4e-4)
    np.testing.assert_array_equal(found, stack(values).img.uniform_filter(3))


def test_series_are_whole_however_they_are_cut():
    values = np.random.default_rng(1).random((12, 3, 4))
    found = stack(values, chunks={"t": 5, "y": 1}).img.map_as_series(lambda s: s - s.mean())
    np.testing.assert_allclose(found, values - values.mean(axis=0), atol=1e-15)


def test_one_image_keeps_its_batch_axis_where_axes_are_squeezed():
    assert stack(np.zeros((1, 1, 5)), "tyx").img.squeeze().dims == ("t", "x")


def test_pyramids_of_a_map_come_back_from_a_file(tmp_path):
    coords = {a: (a, 0.25 * np.arange(n), {"units": "micrometer", "spacing": 0.25}) for a, n in (("y", 24), ("x", 32))}
    values = np.random.default_rng(1).integers(0, 999, (2, 24, 32)).astype("u2")
    ds = xr.Dataset({"image": stack(values, "cyx", {"y": 8}, c=["DAPI", "GFP"], **coords)})
    tree = ds.img.map(lambda p, gain: p * np.uint16(gain), {"GFP": {"gain": 2}}, missing="copy", scale_factors=[2, 2])
    intake_img.imsave(tree, tmp_path / "a.ome.zarr")
    for level in range(3):
        back = intake_img.imload(tmp_path / "a.ome.zarr", level=level)
        np.testing.assert_array_equal(back["image"], tree[f"scale{level}"]["image"])
        assert back.img.spacing == {"y": 0.25 * 2**level, "x": 0.25 * 2**level}
        np.testing.assert_allclose(back["x"], tree[f"scale{level}"]["x"])
        assert back.img.channels == ["DAPI", "GFP"]


# what is told


def test_the_summary_tells_what_will_be_computed_and_reads_nothing():
    image = Source(np.zeros((3, 8, 9)), refuse=True).image("tyx", (1, 4, 9))
    assert "to compute" not in repr(image.img)
    ds = xr.Dataset({"image": image}).img.gaussian_filter(1).img.subtract(2).img.mean()
    for text in (repr(ds.img), ds.img._repr_html_()):
        assert "to compute" in text
        assert "gaussian_filter → subtract → mean" in text
    assert "gaussian_filter -> subtract -> mean" in repr(ds.img.pending())
    assert "→ percentile" in repr(image.img.normalize().img)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda i, p: i.filter(lambda one: True, progress=p), "filtering"),
        (lambda i, p: i.foreach(lambda pair: None, progress=p), "visiting"),
        (lambda i, p: i.first(compute=True, progress=p), "computing"),
        (lambda i, p: i.to_local(progress=p), "computing"),
        (lambda i, p: i.label().img.regionprops(progress=p), "measuring"),
    ],
)
def test_what_computes_at_once_shows_a_bar_if_asked(call, said, capsys):
    pytest.importorskip("skimage")
    image = stack(np.ones((3, 8, 9)), chunks={"t": 1})
    call(image.img, None)
    call(image.img, False)
    assert capsys.readouterr().err == ""  # not a terminal
    call(image.img, True)
    assert said in capsys.readouterr().err
