"""Loaders: what is read and when, equal to thunder where thunder is right, and what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

import intake_img
from intake_img import create, imload, imsave
from intake_img.create.examples import _examples, example_names
from intake_img.errors import AxesError, FormatError, MissingExtraError


def test_loaders_are_at_the_front_door():
    for name in create.__all__:
        assert getattr(intake_img, name) is getattr(create, name)
    with pytest.raises(AttributeError, match="from_nothing"):
        _ = intake_img.from_nothing


# random


def test_random_is_that_of_thunder(expected):
    known = np.load(expected / "processing" / "fromrandom_4x3x5_seed42.npz")["output"]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    ds = create.from_random((4, 3, 5), seed=42)
    assert np.array_equal(ds.image, known)
    assert ds.image.dtype == np.float64
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002  (left alone)
    assert np.array_equal(create.from_random((3, 3, 5), seed=43).image, known[1:])
    assert create.from_random().image.shape == (10, 50, 50)
    with pytest.raises(TypeError, match="seed=None"):
        create.from_random(seed=None)


# lists


class Counted:
    """An accessor that notes what it was called with."""

    def __init__(self, shape=(4, 5), dtype="u2"):
        self.shape, self.dtype, self.calls = shape, dtype, []

    def __call__(self, item):
        self.calls.append(item)
        number = item if isinstance(item, int) else int(item.name[3:].split(".")[0])
        return np.full(self.shape, number, self.dtype)

    def __dask_tokenize__(self):
        return id(self)


def test_no_item_is_evaluated_before_it_is_wanted():
    accessor = Counted()
    ds = create.from_list(range(100), accessor, shape=(4, 5), dtype="u2")
    _ = ds.image[3], repr(ds), ds.img
    assert accessor.calls == []
    assert ds.image[7].values.tolist() == [[7] * 5] * 4
    assert accessor.calls == [7]
    accessor = Counted()
    create.from_list(range(100), accessor)
    assert accessor.calls == [0]


def test_keys_are_sorted_and_become_the_coordinate():
    ds = create.from_list([3, 1, 2], Counted(), keys=[0.3, 0.1, 0.2])
    assert ds.t.values.tolist() == [0.1, 0.2, 0.3]
    assert ds.image[:, 0, 0].values.tolist() == [1, 2, 3]
    for keys in ([1, 2], [1, 1, 2]):
        with pytest.raises(ValueError, match="different key"):
            create.from_list([3, 1, 2], Counted(), keys=keys)


def test_items_that_are_not_as_announced():
    ds = create.from_list([1, 2], Counted(dtype="f4"), shape=(4, 5), dtype="u2")
    with pytest.raises(FormatError, match="float32"):
        ds.image.values  # noqa: B018
    with pytest.raises(ValueError, match="empty"):
        create.from_list([])


# paths


@pytest.fixture
def folder(tmp_path):
    for k in (1, 2, 10):
        imsave(np.full((4, 5), k, "u2"), tmp_path / f"img{k}.tif")
    (tmp_path / "sub").mkdir()
    imsave(np.full((4, 5), 99, "u2"), tmp_path / "sub" / "img99.tif")
    imsave(np.full((4, 5), 50, "u2"), tmp_path / "img50.npy")
    return tmp_path


@pytest.mark.parametrize(
    ("start", "stop"), [(None, None), (0, 0), (0, None), (None, 0), (0, 2), (1, 2), (-1, None), (None, -1), (2, 2)]
)
@pytest.mark.parametrize("kind", ["folder", "glob", "list"])
def test_start_and_stop_are_slices(folder, kind, start, stop):
    natural = [1, 2, 10]
    path = {"folder": folder, "glob": folder / "img*.tif", "list": [folder / f"img{k}.tif" for k in natural]}[kind]
    wanted = natural[start:stop]
    if not wanted:
        with pytest.raises((FileNotFoundError, ValueError)):
            create.from_path(path, ext="tif", start=start, stop=stop)
        return
    ds = create.from_path(path, ext="tif", start=start, stop=stop)
    assert ds.image[:, 0, 0].values.tolist() == wanted
    assert create.from_tif(path, start=start, stop=stop).image[:, 0, 0].values.tolist() == wanted


@pytest.mark.parametrize("write", [str, Path, lambda path: [path]])
def test_the_path_of_one_file(tmp_path, write):
    """The path of one file is a series of one image, for every loader, and `start` and `stop` are a slice of it."""
    values = np.arange(20, dtype="u1").reshape(4, 5)
    values.tofile(tmp_path / "a.bin")
    for ext in ("tif", "png"):
        imsave(values, tmp_path / f"a.{ext}")
    loaders = {
        "tif": [create.from_tif, create.from_path, partial(create.from_tif, nplanes=1)],
        "png": [create.from_png, partial(create.from_path, recount=True)],
        "bin": [partial(create.from_binary, shape=(4, 5), dtype="u1")],
    }
    for ext, load in [(ext, f) for ext, functions in loaders.items() for f in functions]:
        path = write(tmp_path / f"a.{ext}")
        for part in ({}, {"start": 0}, {"start": -1, "stop": 1}):
            ds = load(path, **part)
            assert ds.image.dims == tuple("tyx")
            np.testing.assert_array_equal(ds.image[0], values)
        with pytest.raises(FileNotFoundError, match="start=1"):
            load(path, start=1)
    read = create.from_path(write(tmp_path / "a.bin"), lambda file: np.fromfile(file.path, "u1").reshape(4, 5), stop=1)
    np.testing.assert_array_equal(read.image[0], values)


def test_extensions_and_folders_below(folder):
    assert create.from_path(folder, ext="npy").image[:, 0, 0].values.tolist() == [50]
    below = create.from_path(folder, ext="tif", recursive=True)
    assert sorted(below.image[:, 0, 0].values.tolist()) == [1, 2, 10, 99]
    with pytest.raises(FileNotFoundError, match="png"):
        create.from_png(folder)
    with pytest.raises(FileNotFoundError):
        create.from_tif(folder / "nothing*.tif")


def test_tiff_is_tif(tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", np.ones((4, 5), "u1"))
    assert create.from_tif(tmp_path).image.shape == (1, 4, 5)
    assert create.from_tif(tmp_path, nplanes=1).image.shape == (1, 4, 5)
    tifffile.imwrite(tmp_path / "b.TIF", np.full((4, 5), 2, "u1"))
    assert create.from_tif(tmp_path).image.max() == 2
    with pytest.raises(FileNotFoundError):
        create.from_tif(tmp_path, ext="btf")


def test_accessor_of_files(folder):
    accessor = Counted()
    ds = create.from_path(folder, accessor, ext="tif", start=1, shape=(4, 5), dtype="u2", axis="i")
    assert accessor.calls == []
    assert ds.image.dims == ("i", "y", "x")
    assert ds.image[:, 0, 0].values.tolist() == [2, 10]
    accessor = Counted()
    assert create.from_path(folder, accessor, ext="tif").image.sizes["t"] == 3
    assert [f.name for f in accessor.calls] == ["img1.tif"]


def test_recount_with_an_accessor(folder):
    calls = []

    def accessor(file):
        calls.append(file.name)
        count = {"img1.tif": 2, "img2.tif": 1, "img10.tif": 3}[file.name]
        return np.stack([np.full((4, 5), 100 * count + k, "i4") for k in range(count)])

    ds = create.from_path(folder, accessor, ext="tif", recount=True)
    assert calls == ["img1.tif", "img2.tif", "img10.tif"]  # once each, to count them
    assert ds.image.dims == ("t", "y", "x")
    assert ds.image[:, 0, 0].values.tolist() == [200, 201, 100, 300, 301, 302]
    calls.clear()
    assert ds.image[2, 0, 0] == 100
    assert calls == ["img2.tif"]
    calls.clear()
    assert ds.image[1:].values[:, 0, 0].tolist() == [201, 100, 300, 301, 302]
    assert sorted(calls) == ["img1.tif", "img10.tif", "img2.tif"]  # a file is a chunk


def test_recount_of_unequal_images(folder):
    def accessor(file):
        return np.zeros((2, 4, len(file.name)), "u1")

    with pytest.raises(FormatError, match=r"img10\.tif.*img1\.tif"):
        create.from_path(folder, accessor, ext="tif", recount=True)
    with pytest.raises(FormatError, match="first axis"):
        create.from_path(folder, Counted(), ext="tif", recount=True)


def test_recount_without_an_accessor(tmp_path):
    for k, pages in enumerate((3, 1, 2)):
        values = np.full((pages, 4, 5), 10 * k, "u2") + np.arange(pages, dtype="u2")[:, None, None]
        tifffile.imwrite(tmp_path / f"f{k}.tif", values.squeeze(), photometric="minisblack")
    with pytest.raises(FormatError, match="must have the same"):
        create.from_path(tmp_path, ext="tif").image.values  # noqa: B018
    ds = create.from_path(tmp_path, ext="tif", recount=True)
    assert ds.image.dims == ("t", "y", "x")
    assert ds.image[:, 0, 0].values.tolist() == [0, 1, 2, 10, 20, 21]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": (4, 5)}, "shape="),
        ({"dtype": "u2"}, "dtype="),
        ({"accessor": np.asarray, "verify": True}, "verify="),
        ({"accessor": Counted(), "recount": True, "shape": (4, 5)}, "leave them away"),
        ({"accessor": Counted(), "recount": True}, "first axis"),
    ],
)
def test_arguments_that_would_be_ignored_are_refused(folder, arguments, said):
    with pytest.raises((TypeError, ValueError), match=said):
        create.from_path(folder, ext="tif", **arguments)


# planes of tif and binary


@pytest.fixture
def pages(tmp_path):
    """Two files of six pages: pixel (0, 0) counts them."""
    for k in range(2):
        values = np.arange(6 * 4 * 5, dtype="i4").reshape(6, 4, 5) * 2 + 1000 * k
        tifffile.imwrite(tmp_path / f"f{k}.tif", values, photometric="minisblack")
    return tmp_path


def test_nplanes(pages):
    whole = np.stack([tifffile.imread(pages / f"f{k}.tif") for k in range(2)])
    two = create.from_tif(pages, nplanes=2)
    assert two.image.dims == ("t", "z", "y", "x")
    assert np.array_equal(two.image, whole.reshape(6, 2, 4, 5))
    assert two.image[:, 0, 0, 0].values.tolist() == [0, 80, 160, 1000, 1080, 1160]
    one = create.from_tif(pages, nplanes=1)
    assert one.image.dims == ("t", "y", "x")
    assert np.array_equal(one.image, whole.reshape(12, 4, 5))
    assert one.image.data.chunksize == (1, 4, 5)


def test_nplanes_that_do_not_divide(pages):
    with pytest.raises(ValueError, match=r"nplanes=4 does not divide the 6 planes in .*f0\.tif.*discard_extra"):
        create.from_tif(pages, nplanes=4)
    ds = create.from_tif(pages, nplanes=4, discard_extra=True)
    assert ds.image[:, :, 0, 0].values.tolist() == [[0, 40, 80, 120], [1000, 1040, 1080, 1120]]
    with pytest.raises(ValueError, match="no file has that many planes"):
        create.from_tif(pages, nplanes=7, discard_extra=True)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="positive"):
            create.from_tif(pages, nplanes=wrong)


def test_a_single_page_is_one_plane(folder):
    assert create.from_tif(folder, nplanes=1).image.shape == (3, 4, 5)  # thunder makes an image of each row
    with pytest.raises(ValueError, match="does not divide the 1 planes"):
        create.from_tif(folder, nplanes=2)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_are_no_planes(tmp_path, planar):
    values = np.random.default_rng(0).integers(0, 255, (4, 5, 3), "u1")
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    ds = create.from_tif(tmp_path, nplanes=1)
    assert ds.image.dims == ("t", "c", "y", "x")
    assert np.array_equal(ds.image[0].transpose("y", "x", "c"), values)
    assert ds.img.channels == ["R", "G", "B"]


def test_pages_of_a_hyperstack_are_counted_in_the_files_order(tmp_path):
    values = np.arange(3 * 2 * 4 * 5, dtype="u2").reshape(3, 2, 4, 5)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZCYX"})
    ds = create.from_tif(tmp_path, nplanes=3)
    assert np.array_equal(ds.image, values.reshape(2, 3, 4, 5))


def test_files_of_unequal_images_name_themselves(tmp_path):
    for k, dtype in enumerate(("u1", "u2")):
        tifffile.imwrite(tmp_path / f"f{k}.tif", np.zeros((2, 4, 5), dtype), photometric="minisblack")
    with pytest.raises(FormatError, match=r"f0\.tif"):
        create.from_tif(tmp_path, nplanes=2)


def test_planes_of_binary_files_are_those_of_the_last_axis(tmp_path):
    values = np.arange(2 * 4 * 6, dtype="i2").reshape(2, 4, 6)
    for k in range(4):
        (values + 100 * k).tofile(tmp_path / f"a{k}.bin")
    load = lambda n: create.from_binary(tmp_path, shape=(2, 4, 6), dtype="int16", nplanes=n).image  # noqa: E731
    two = load(2)
    assert two.shape == (12, 2, 4, 2)
    wanted = np.concatenate([(values + 100 * k).reshape(2, 4, 3, 2).transpose(2, 0, 1, 3) for k in range(4)])
    assert np.array_equal(two, wanted)
    one = load(1)
    assert one.dims == ("t", "y", "x")
    assert one.shape == (24, 2, 4)
    assert np.array_equal(one[6], values[..., 0] + 100)
    with pytest.raises(ValueError, match="does not divide the last axis"):
        load(4)
    with pytest.raises(ValueError, match="positive"):
        load(0)


def test_binary_files_tell_what_is_wrong(tmp_path):
    np.zeros((4, 6), "i2").tofile(tmp_path / "a.bin")
    with pytest.raises(FormatError, match="pass shape="):
        create.from_binary(tmp_path)
    with pytest.raises(FormatError, match="48 bytes"):
        create.from_binary(tmp_path, shape=(4, 5))
    assert create.from_binary(tmp_path, shape=(4, 6)).image.dtype == "int16"  # as thunder assumes
    (tmp_path / "conf.json").write_text('{"dims": [4, 6], "dtype": "int16"}')
    assert create.from_binary(tmp_path).image.shape == (1, 4, 6)
    with pytest.raises(FormatError, match="dtype"):
        create.from_binary(tmp_path, dtype="u1")


# arrays


def test_from_array():
    assert create.from_array(np.zeros((3, 4))).image.dims == ("y", "x")
    assert create.from_array(np.zeros((5, 3, 4))).image.dims == ("t", "y", "x")
    assert create.from_array([np.zeros((3, 4))] * 2).image.shape == (2, 3, 4)
    for wrong in ([np.zeros((3, 4)), np.zeros((3, 5))], [np.zeros((3, 4)), np.zeros((3, 4), "u1")]):
        with pytest.raises(ValueError, match="item 1"):
            create.from_array(wrong)
    with pytest.raises(AxesError, match="two axes"):
        create.from_array(np.zeros(3))


# examples


@pytest.mark.parametrize("name", ["cells", "spots"])
def test_simulated_examples(name):
    ds = create.from_example(name)
    assert ds.image.chunks is not None
    assert len(ds.img.channels) == 2
    assert {ds.img.units[a] for a in "zyx"} == {"µm"}
    assert all(ds.img.spacing[a] > 0 for a in "zyx")
    assert ds["labels"].attrs["kind"] == "labels"
    found = ds.isel(z=slice(2, 4)).compute()
    assert np.array_equal(found.image, create.from_example(name).image.values[..., 2:4, :, :])
    signal = found.image.isel(c=0)
    truth = found.labels.isel(c=0) if "c" in found.labels.dims else found.labels
    assert signal.where(truth > 0).mean() > 2 * signal.where(truth == 0).mean()
    assert found.equals(create.from_example(name).isel(z=slice(2, 4)))


def test_the_truth_about_spots():
    ds = create.from_example("spots").compute()
    first, second = (set(np.unique(ds.labels.isel(c=c))) - {0} for c in (0, 1))
    assert len(first) == len(second) == ds.attrs["spots"]
    assert len(first & second) == ds.attrs["shared_spots"]
    for number in first:
        where = np.argwhere(ds.labels.isel(c=0).values == number)
        brightest = max(where, key=lambda at: ds.image.isel(c=0).values[tuple(at)])
        assert np.abs(brightest - where.mean(axis=0)).max() < 3


def test_examples_are_the_same_in_another_process():
    code = (
        "import hashlib; from intake_img import from_example;"
        "print([hashlib.sha256(from_example(n)[v].values.tobytes()).hexdigest() for n in ('cells', 'spots') "
        "for v in ('image', 'labels')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = [
        hashlib.sha256(create.from_example(n)[v].values.tobytes()).hexdigest()
        for n in ("cells", "spots")
        for v in ("image", "labels")
    ]
    assert done.stdout.strip() == repr(own)


def test_examples_are_listed():
    names = create.from_example()
    assert {"cells", "spots"} <= set(names)
    assert all(isinstance(about, str) and about for about in names.values())


@pytest.mark.parametrize("name", [n for n in example_names() if "/" in n])
def test_real_examples(name):
    ds = create.from_example(name)
    assert {"y", "x"} <= set(ds.image.dims)
    assert ds.image.isel(y=slice(0, 3)).values.size
    ds.close()


def test_a_real_example_is_what_its_package_shows():
    data = pytest.importorskip("skimage.data")
    ds = create.from_example("skimage/cell")
    assert np.array_equal(ds.image, data.cell())
    assert ds.img.spacing == {"y": 0.107, "x": 0.107}
    ds.close()


def test_unknown_examples():
    for wrong in ("mouse", "", 3):
        with pytest.raises(ValueError, match="cells, spots"):
            create.from_example(wrong)


def test_examples_of_packages_that_are_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("intake_img.create.examples.find_spec", lambda name: None)
    assert set(create.from_example()) == {"cells", "spots"}
    with pytest.raises(MissingExtraError, match=r"intake_img\[skimage\]"):
        create.from_example("skimage/cell")
    here = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr("intake_img.create.examples.find_spec", lambda name: here)
    with pytest.raises(FileNotFoundError, match="does not contain"):
        create.from_example("skimage/cell")
    assert {"skimage/cell", "matplotlib/portrait"} <= set(_examples())


def test_what_an_example_is_saved_as(tmp_path):
    ds = create.from_example("cells").isel(t=[0], z=[3])
    imsave(ds, tmp_path / "a.zarr")
    with imload(tmp_path / "a.zarr") as back:
        assert back.equals(ds.compute())
        assert back["labels"].attrs["kind"] == "labels"
