"""Laws of shifts: scikit-image measures and scipy moves whole images; every chunking gives the same."""

from __future__ import annotations

import tracemalloc

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
from intake_img.errors import AxesError, UnitsError

pytestmark = pytest.mark.thorough
registration = pytest.importorskip("skimage.registration")


def drawn(data, dtypes=("u1", "i4", "f4", "f8")):
    dims = data.draw(st.sampled_from(["tyx", "tzyx", "tcyx"]))
    shape = [3, *data.draw(st.tuples(*[st.integers(4, 14) for _ in dims[1:]]))]
    chunks = {d: data.draw(cuts(n).filter(lambda c, n=n: n / c < 5)) for d, n in zip(dims, shape, strict=True)}
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    values = ndimage.gaussian_filter(rng.random(shape), [0] + [1] * (len(dims) - 1)) * 250
    return dims, values.astype(data.draw(st.sampled_from(dtypes))), chunks, rng


def movie(dims="tyx", seed=0, n=40):
    """A frame of smooth noise, and the same moved by whole pixels."""
    rng = np.random.default_rng(seed)
    d = len(dims) - 1
    world = ndimage.gaussian_filter(rng.random((n + 16,) * 2 if d == 2 else (n // 2 + 16, n + 16, n + 16)), 1.5) * 1e4
    steps = [np.zeros(d, int), *rng.integers(-5, 6, (3, d))]
    frames = [world[tuple(slice(8 + k, s - 8 + k) for k, s in zip(step, world.shape, strict=True))] for step in steps]
    return stack(np.stack(frames).astype("u2"), dims), np.array(steps)


@examples(60)
@given(data=st.data())
def test_shifts_equal_scikit_image(data):
    dims, values, chunks, _ = drawn(data)
    planar = data.draw(st.booleans()) if dims == "tzyx" else False
    options = {"normalization": data.draw(st.sampled_from(["phase", None])), "upsample": data.draw(st.integers(1, 8))}
    there = {"normalization": options["normalization"], "upsample_factor": options["upsample"]}
    options["window"] = False
    place = {"c": 1} if dims == "tcyx" else {}
    reference = data.draw(st.sampled_from([0, 1, "previous"]))
    found = stack(values, dims, chunks).img.measure_shifts(
        "t", reference, dims="yx" if planar else None, progress=False, **options, **place
    )
    images = values[:, 1] if place else values
    for k in range(3):
        before = (k - 1 if k else 0) if reference == "previous" else reference
        for z in range(images.shape[1]) if planar else [slice(None)]:
            own = found.isel(z=z) if planar else found
            pair = [images[n][z].astype(float) if images.dtype.kind in "iu" else images[n][z] for n in (before, k)]
            if before == k or min(np.ptp(p) for p in pair) == 0:
                continue
            shift, _, _ = registration.phase_cross_correlation(*pair, **there)
            got = own[k] - own[k - 1] if reference == "previous" else own[k]
            np.testing.assert_allclose(got, shift, atol=1e-12)
    assert found["axis"].values.tolist() == list("yx" if planar or place or dims == "tyx" else "zyx")
    assert found.attrs == {"units": "px"}


@pytest.mark.parametrize("dims", ["tyx", "tzyx"])
@pytest.mark.parametrize("reference", [1, "previous"])
def test_shifts_of_images_in_chunks_of_one_pixel(dims, reference):
    shape = (3, 9, 8) if dims == "tyx" else (3, 4, 6, 5)
    values = ndimage.gaussian_filter(np.random.default_rng(2).random(shape), [0] + [1] * (len(dims) - 1))
    options = {"reference": reference, "window": False, "progress": False}
    wanted = stack(values, dims).img.measure_shifts(**options)
    found = stack(values, dims, dict.fromkeys(dims, 1)).img.measure_shifts(**options)
    xr.testing.assert_identical(found, wanted)


@pytest.mark.parametrize("reference", [0, 2, "previous"])
def test_two_images_are_in_memory_while_shifts_are_measured(reference):
    """In one worker: memory does not grow with the number of images."""
    frame = ndimage.gaussian_filter(np.random.default_rng(0).random((128, 128)), 2)
    peaks = []
    for count in (3, 3, 12):  # modules are imported by the first
        frames = da.zeros((count, 128, 128), chunks=(1, 64, 128)).map_blocks(
            lambda block, block_info=None: (
                frame[tuple(slice(*s) for s in block_info[0]["array-location"][1:])][None] + block
            ),
            dtype=float,
        )
        image = xr.DataArray(frames, dims=list("tyx"))
        tracemalloc.start()
        try:
            with dask.config.set(scheduler="sync"):
                shifts = image.img.measure_shifts(reference=reference, upsample=1, window=False, progress=False)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert not shifts.any()
    assert peaks[2] - peaks[1] < 3 * frame.nbytes  # of 9 more


@examples(80)
@given(data=st.data())
def test_whole_pixels_only_select(data):
    dims, values, chunks, rng = drawn(data, ("u1", "i8", "f4", "?"))
    axes = dims[2 if "c" in dims else 1 :]
    steps = rng.integers(-16, 17, (3, len(axes)))
    shifts = xr.DataArray(steps, dims=["t", "axis"], coords={"axis": list(axes)}, attrs={"units": "px"})
    fill = data.draw(st.sampled_from([None, 1]))
    order = data.draw(st.integers(0, 5))
    found = stack(values, dims, chunks).img.apply_shifts(shifts, order=order, fill=fill)
    outside = fill if fill is not None else np.nan if values.dtype.kind == "f" else 0
    wanted = np.full_like(values, outside)
    for t, step in enumerate(steps):
        full = [0] * (values.ndim - 1 - len(axes)) + step.tolist()
        source = tuple(slice(max(0, -s), max(0, n - max(0, s))) for s, n in zip(full, values.shape[1:], strict=True))
        target = tuple(slice(max(0, s), max(0, n + min(0, s))) for s, n in zip(full, values.shape[1:], strict=True))
        wanted[t][target] = values[t][source]
    np.testing.assert_array_equal(found.compute(scheduler="sync"), wanted)
    assert (found.dtype, found.dims, found.shape) == (values.dtype, tuple(dims), values.shape)
    assert found.data.chunks[1:] == stack(values, dims, chunks).data.chunks[1:] or order > 1


@examples(80)
@given(data=st.data())
def test_parts_of_pixels_equal_scipy_and_every_chunking(data):
    dims, values, chunks, rng = drawn(data)
    axes = dims[2 if "c" in dims else 1 :]
    sixteenths = values.dtype.kind in "iu"  # exact weights: rounding of integers is then the same
    steps = rng.integers(-80, 81, (3, len(axes))) / 16 if sixteenths else rng.uniform(-5, 5, (3, len(axes)))
    shifts = xr.DataArray(steps, dims=["t", "axis"], coords={"axis": list(axes)}, attrs={"units": "px"})
    order = data.draw(st.integers(0, 4))
    image = stack(values, dims, chunks)
    found = image.img.apply_shifts(shifts, order=order, fill=7).compute(scheduler="sync")
    every = [(0,) * (values.ndim - 1 - len(axes)) + tuple(s) for s in steps]
    whole = [ndimage.shift(v, s, order=order, mode="constant", cval=7) for v, s in zip(values, every, strict=True)]
    if dims == "tcyx" and order > 1:  # scipy filters along c as well, where nothing moves
        whole = [[ndimage.shift(p, s[1:], order=order, cval=7) for p in v] for v, s in zip(values, every, strict=True)]
    close = {"rtol": 1e-5, "atol": 1e-4} if values.dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-9}
    np.testing.assert_allclose(found, whole, **close)
    np.testing.assert_array_equal(found, image.compute().img.apply_shifts(shifts, order=order, fill=7))


@pytest.mark.parametrize("chunks", [None, {"y": 5}])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_float16_is_moved_in_float32(order, chunks):
    values = np.random.default_rng(0).random((2, 12, 14)).astype("f2")
    shifts = xr.DataArray(
        [[0, 0], [1.25, -0.5]], dims=["t", "axis"], coords={"axis": ["y", "x"]}, attrs={"units": "px"}
    )
    found = stack(values, "tyx", chunks).img.apply_shifts(shifts, order=order, fill=0)
    assert found.dtype == found.compute().dtype == np.float16
    whole = ndimage.shift(values[1].astype("f4"), [1.25, -0.5], order=order, mode="constant")
    np.testing.assert_allclose(found[1], whole, atol=1e-3)


@pytest.mark.parametrize("dims", ["tyx", "tzyx"])
@pytest.mark.parametrize("reference", [0, 2, "previous"])
def test_drift_is_found_and_taken_away(dims, reference):
    image, steps = movie(dims)
    found = image.img.measure_shifts(reference=reference, upsample=1, window=False, progress=False)
    still = reference if isinstance(reference, int) else 0
    np.testing.assert_array_equal(found, steps - steps[still])
    moved = image.img.register(reference=reference, progress=False)
    inner = (slice(None), *[slice(11, -11) if n > 24 else slice(n // 2, n // 2 + 1) for n in image.shape[1:]])
    assert (moved.values[inner] == moved.values[still][inner[1:]]).all()


def test_shifts_of_volumes_in_physical_units():
    image, steps = movie("tzyx", n=28)
    spacing = {"z": 2.0, "y": 0.5, "x": 0.25}
    coords = {a: (a, s * np.arange(image.sizes[a]), {"units": "µm", "spacing": s}) for a, s in spacing.items()}
    image = image.assign_coords(coords).chunk({"t": 1, "y": 17})
    found = image.img.measure_shifts(units="physical", progress=False)
    np.testing.assert_allclose(found, steps * list(spacing.values()))
    np.testing.assert_array_equal(image.img.apply_shifts(found), image.img.register(progress=False))


def test_shifts_of_parts_of_pixels_are_found():
    image, _ = movie(n=64)
    frame = image[0].values.astype(float)
    moves = [(0.3, -1.6), (-2.25, 0.5)]
    many = stack(np.stack([frame, *(ndimage.shift(frame, m, order=3, mode="mirror") for m in moves)]))
    found = many.img.measure_shifts(upsample=20, progress=False)
    np.testing.assert_allclose(found[1:], -np.array(moves), atol=0.1)
    coarse = many.img.measure_shifts(upsample=1, progress=False)
    assert (coarse.values % 1 == 0).all()
    assert (found.values % 1 != 0).any()


def test_the_correlation_says_which_shift_was_not_found():
    image, steps = movie()
    other = image.copy(data=np.concatenate([image[:3].values, movie(seed=5)[0][:1].values]))
    found = other.img.measure_shifts(progress=False)
    assert found.correlation[:3].min() > 0.999
    assert found.correlation[3] < 0.5
    one, two = (image[k].values for k in (0, 2))
    (dy, dx), (h, w) = steps[2], one.shape
    own, there = one[max(0, dy) : h + min(0, dy), max(0, dx) :], two[max(0, -dy) : h - max(0, dy), : w - max(0, dx)]
    own, there = own[:, : w + min(0, dx)], there[:, max(0, -dx) :]
    assert np.isclose(found.correlation[2], np.corrcoef(own.ravel(), there.ravel())[0, 1])


def test_without_a_window_edges_do_not_move():
    rng = np.random.default_rng(3)
    world = ndimage.gaussian_filter((rng.random((200, 200)) > 0.997) * 1.0, 4) * 5e4 + 200
    cells = stack(np.stack([world[20:148, 20:148], world[27:155, 9:137]]))
    assert cells.img.measure_shifts(progress=False)[1].values.tolist() == [7, -11]
    for options in [{"window": False, "normalization": "phase"}, {"normalization": "phase", "window": True}]:
        found = cells.img.measure_shifts(progress=False, **options)[1].values.tolist()
        assert (found == [7, -11]) == options["window"]


def test_channels_and_times():
    image, steps = movie()
    both = xr.concat([image, image.isel(t=[0, 0, 0, 0])], dim="c").assign_coords(c=["DAPI", "GFP"])
    with pytest.raises(AxesError, match=r"2 samples along 'c'.*c=0"):
        both.img.measure_shifts()
    for name, wanted in [("DAPI", steps), ("GFP", 0 * steps)]:
        np.testing.assert_array_equal(both.img.measure_shifts(c=name, progress=False), wanted)
    by_channel = both.img.measure_shifts("c", "GFP", progress=False)  # of each t
    assert by_channel.dims == ("t", "c", "axis")
    np.testing.assert_array_equal(by_channel.sel(c="DAPI"), steps)
    one = both.img.measure_shifts("c", "GFP", t=2, progress=False)
    assert one.dims == ("c", "axis")
    np.testing.assert_array_equal(one.sel(c="DAPI"), steps[2])
    moved = both.img.register("c", "GFP", progress=False)
    assert (moved.sel(c="DAPI")[:, 11:-11, 11:-11].values == image.values[0, 11:-11, 11:-11]).all()
    wrong = both.img.register("c", "GFP", t=0, progress=False)  # channels of the other times stay where they are
    np.testing.assert_array_equal(wrong, both)


def test_saved_shifts_move_another_level(tmp_path):
    image, steps = movie(n=64)
    spacing = {"y": 0.5, "x": 0.25}
    coords = {a: (a, s * np.arange(64), {"units": "µm", "spacing": s}) for a, s in spacing.items()}
    times = ("t", [0.0, 2.0, 4.0, 6.0], {"units": "s"})
    fine = image.assign_coords(coords | {"t": times}).to_dataset()
    shifts = fine.img.measure_shifts(units="physical", progress=False)
    assert shifts.attrs == {"units": "µm"}
    np.testing.assert_allclose(shifts, steps * [0.5, 0.25])
    shifts.to_netcdf(tmp_path / "shifts.nc", engine="scipy")
    again = xr.load_dataarray(tmp_path / "shifts.nc", engine="scipy")
    twice = fine.isel(t=slice(1, None), y=slice(None, None, 2), x=slice(None, None, 2))  # 1 and 0.5 µm
    for a in "yx":
        twice[a] = (a, twice[a].values * 1000, {"units": "nm", "spacing": spacing[a] * 2000})
    found = twice.img.apply_shifts(again).image
    every = [ndimage.shift(v.astype(float), s / 2, order=1) for v, s in zip(twice.image.values, steps[1:], strict=True)]
    np.testing.assert_allclose(found, np.round(every), atol=1)
    xr.testing.assert_identical(found.coords.to_dataset(), twice.image.coords.to_dataset())
    with pytest.raises(AxesError, match="shifts does not cover"):
        fine.img.apply_shifts(again.isel(t=slice(2)))
    with pytest.raises(UnitsError, match=r"'µm'.*'1'|'µm'"):
        image.assign_coords(x=("x", np.arange(64.0)), y=("y", np.arange(64.0))).img.apply_shifts(again)


def test_labels_of_a_dataset_follow_and_are_not_mixed():
    image, _ = movie()
    labels = stack(np.arange(image.size).reshape(image.shape) + 1).assign_attrs(kind="labels")
    ds = xr.Dataset({"image": image.astype("f4"), "labels": labels, "exposure": ("t", np.ones(4))})
    shifts = xr.DataArray([[0.5, -0.6]], dims=["t", "axis"], coords={"axis": ["y", "x"]}, attrs={"units": "px"})
    shifts = xr.concat([shifts] * 4, "t")
    found = ds.img.apply_shifts(shifts, fill=3)
    whole = [ndimage.shift(v, (0.5, -0.6), order=0, cval=0) for v in labels.values]
    np.testing.assert_array_equal(found.labels, whole)
    assert (float(found.image[0, 0, 0]), int(found.labels[0, -1, -1])) == (3, 0)
    assert found.exposure.identical(ds.exposure)
    with pytest.raises(AxesError, match=r"along 't', an axis that 'labels' lacks"):
        ds.assign(labels=labels[0]).img.apply_shifts(shifts)


def test_images_without_a_shift_are_named():
    image, steps = movie()
    dark = image.copy(data=np.where(np.arange(4)[:, None, None] == 2, 5, image))
    shifts = dark.img.measure_shifts(progress=False)
    assert np.isnan(shifts[2]).all()
    np.testing.assert_array_equal(shifts[[0, 1, 3]], steps[[0, 1, 3]])
    with pytest.raises(ValueError, match=r"shifts contain NaN.*fillna"):
        dark.img.apply_shifts(shifts)
    with pytest.raises(ValueError, match="shifts contain NaN"):
        dark.img.register(progress=False)
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        image.astype(float).where(image > image.min()).img.measure_shifts(progress=False)


def test_shifts_that_say_too_little():
    image, _ = movie()
    shifts = image.img.measure_shifts(progress=False)
    with pytest.raises(ValueError, match="do not say their unit"):
        image.img.apply_shifts(shifts.drop_attrs())
    with pytest.raises(ValueError, match=r"2\*\*53|beyond"):
        raise_overflow(image)
    for wrong in ({"x": 3}, shifts.drop_vars("axis")):
        with pytest.raises(TypeError, match="expected the result of measure_shifts"):
            image.img.apply_shifts(wrong)
    with pytest.raises(AxesError, match="'x', which is not a spatial axis"):
        image.isel(x=0).img.apply_shifts(shifts)
    with pytest.raises(ValueError, match="fill=-1"):
        image.img.apply_shifts(shifts, fill=-1)


def raise_overflow(image):
    huge = image.astype("i8") + 2**60
    half = xr.DataArray([0.5, 0.5], dims="axis", coords={"axis": ["y", "x"]}, attrs={"units": "px"})
    try:
        huge.img.apply_shifts(half).compute(scheduler="sync")
    except OverflowError as exc:
        raise ValueError(str(exc)) from exc


def test_moving_is_lazy_and_reads_what_it_shows():
    source = Source(np.zeros((4, 1000, 1000), "u1"), refuse=True)
    shifts = xr.DataArray(np.full((4, 2), 0.5), dims=["t", "axis"], coords={"axis": ["y", "x"]}, attrs={"units": "px"})
    source.image("tyx", (2, 100, 100)).img.apply_shifts(shifts)
    seen = Source(np.zeros((4, 400, 400), "u1"))
    moved = seen.image("tyx", (1, 100, 100)).img.apply_shifts(shifts)
    moved[2, 150:250, 150:250].compute(scheduler="sync")
    assert seen.pixels[2].any()
    assert not seen.pixels[[0, 1, 3]].any()
    assert seen.reads <= 9
