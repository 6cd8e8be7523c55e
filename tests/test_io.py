"""`imload` and `imsave`: what may be saved, which part is loaded, what a caller may overrule, and what is refused."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
import warnings

import dask.array as da
import intake
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import autodetect, imload, imsave
from intake_img.errors import (
    AxesError,
    CannotWriteError,
    FormatError,
    SceneError,
    SourceChangedError,
    TargetExistsError,
    TooLargeError,
    UnknownFormatError,
)
from intake_img.formats.reading import FileReader
from intake_img.model.image import Image
from intake_img.model.progress_bar import meter
from intake_img.testing import assert_same, standard_datasets
from intake_img.testing.datasets import image_of, standard_dataset

HYPERSTACK = standard_datasets()["hyperstack"]


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stack.npz"
    imsave(HYPERSTACK, path)
    return path


# what may be saved


@pytest.mark.parametrize("ndim", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("make", [np.asarray, da.from_array], ids=["numpy", "dask"])
def test_arrays(ndim, make, tmp_path):
    values = np.arange(2**ndim, dtype="uint16").reshape((2,) * ndim)
    path = tmp_path / "a.npz"
    assert imsave(make(values), path) == [str(path)]
    found = imload(path)
    assert found.img.axes == {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx", 6: "itczyx"}[ndim]
    np.testing.assert_array_equal(found["image"].values, values)


def test_data_arrays(tmp_path):
    array = HYPERSTACK["image"].rename("nuclei").assign_attrs(kind="labels")
    imsave(array, tmp_path / "a.npz")
    found = imload(tmp_path / "a.npz")["nuclei"]
    xr.testing.assert_identical(found.compute(), array)


def test_sources_and_catalog_entries(stack, tmp_path):
    source = autodetect(stack)
    imsave(source, tmp_path / "a.npz")
    assert_same(imload(tmp_path / "a.npz"), HYPERSTACK)
    (tmp_path / "catalog.yml").write_text(source.yaml(), encoding="utf-8")
    entry = intake.open_catalog(str(tmp_path / "catalog.yml"))[source.name]
    assert_same(imload(entry), HYPERSTACK)
    assert_same(imload(entry, {"c": "GFP"}), HYPERSTACK.sel(c="GFP"))
    assert imload(source, chunks=None)["image"].chunks is None
    assert imload(source)["image"].chunks is not None


def test_what_is_no_image(tmp_path):
    for wrong in ([1, 2], "text", None, {}):
        with pytest.raises(TypeError, match="expected a Dataset, a DataArray or an array"):
            imsave(wrong, tmp_path / "a.npz")
    with pytest.raises(AxesError, match="no names for its axes"):
        imsave(np.zeros(3), tmp_path / "a.npz")
    with pytest.raises(CannotWriteError, match="no variable"):
        imsave(xr.Dataset(), tmp_path / "a.npz")
    with pytest.raises(TypeError, match="expected a path, a URL or a source"):
        imload(intake.open_csv("a.csv"))
    assert os.listdir(tmp_path) == []


def test_what_a_writer_does_not_know(tmp_path):
    values = np.zeros((4, 5), "uint8")
    with pytest.raises(UnknownFormatError, match=r"no driver writes 'a\.xyz'; written are .*\.npz"):
        imsave(values, tmp_path / "a.xyz")
    with pytest.raises(TypeError, match="has no option 'colour'"):
        imsave(values, tmp_path / "a.npz", colour=True)
    with pytest.raises(CannotWriteError, match="compress='lzw'"):
        imsave(values, tmp_path / "a.npz", compress="lzw")
    with pytest.raises(CannotWriteError, match="pyramid"):
        imsave(xr.DataTree(xr.Dataset({"image": (("y", "x"), values)})), tmp_path / "a.npz")
    two = Image.from_xarray(standard_datasets()["two variables"])
    with pytest.raises(CannotWriteError, match=r"2: image, segmentation; select one \(ds\[\['image'\]\]\), or save as"):
        two.only  # noqa: B018
    assert os.listdir(tmp_path) == []


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(standard_datasets())), st.booleans(), st.sampled_from([None, 1, 2, "auto"]), st.booleans()
)
def test_whatever_is_saved_comes_back(tmp_path, what, compress, chunks, lazily):
    given_ds = standard_dataset(what)
    if chunks is not None:
        given_ds = given_ds.chunk(chunks)
    imsave(given_ds, tmp_path / "a.npz", compress, overwrite=True)
    found = imload(tmp_path / "a.npz", chunks=None if lazily else "auto")
    assert_same(found, given_ds)
    imsave(found, tmp_path / "b.npz", overwrite=True)
    assert_same(imload(tmp_path / "b.npz"), given_ds)
    assert (tmp_path / "b.npz").read_bytes()[:2] == b"PK"


def test_loading_and_saving_on_adds_nothing(stack, tmp_path):
    """What describes the file a Dataset came from is not an attribute of the image: it does not pile up."""
    first = imload(stack)
    imsave(first, tmp_path / "b.npz")
    second = imload(tmp_path / "b.npz")
    assert set(second.attrs) == set(first.attrs)
    assert second.attrs["uri"] == str(tmp_path / "b.npz")
    xr.testing.assert_identical(first.drop_attrs(deep=False).compute(), second.drop_attrs(deep=False).compute())


# parts


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        (0, {"t": 0}),
        (-1, {"t": 1}),
        (0.5, {"t": 1}),
        ([1, 0], {"t": [1, 0]}),
        ({"c": "GFP"}, {"c": 1}),
        ({"c": ["mCherry", "DAPI"], "z": slice(1, 3)}, {"c": [2, 0], "z": slice(1, 3)}),
        ({"z": slice(0.3, 0.9)}, {"z": slice(1, 4)}),
        ({"y": slice(None, None, 3), "x": 4}, {"y": slice(None, None, 3), "x": 4}),
        ({}, {}),
    ],
)
def test_partitions(partition, expected, stack):
    for chunks in ("auto", None):
        found = imload(stack, partition, chunks=chunks)
        assert_same(found, HYPERSTACK.isel(expected))
    assert_same(autodetect(stack).read_partition(partition), HYPERSTACK.isel(expected))


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        (2, "partition of 't': index 2 is out of range for 2"),
        ("DAPI", "partition of 't': no label 'DAPI'; there are 0.0, 0.5"),
        ({"c": "Cy5"}, "partition of 'c': no label 'Cy5'; there are DAPI, GFP, mCherry"),
        ({"i": 0}, "partition names the axis 'i', but the image has 'tczyx'"),
        ({"z": [0, 9]}, "partition of 'z': index 9"),
    ],
)
def test_partitions_that_are_not_there(partition, words, stack):
    with pytest.raises((LookupError, AxesError), match=words):
        imload(stack, partition)


def test_the_first_axis_is_that_of_the_order_asked_for(stack):
    found = imload(stack, "GFP", output_axis_order="ctzyx")
    np.testing.assert_array_equal(found["image"].values, HYPERSTACK["image"].sel(c="GFP").values)


def test_only_the_bytes_of_a_part_are_read(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((50, 64, 64), "uint8"))
    sizes = _count_pixels(monkeypatch)
    imload(tmp_path / "a.npy", {"z": 3, "y": slice(0, 8)}).compute()
    assert sum(sizes) == 8 * 64


# what a caller may overrule, and order and chunks


def test_metadata_overrules(stack):
    metadata = {
        "spacing": {"y": 2.0, "x": 2.0},
        "spacing_units": {"y": "nm", "x": "nm"},
        "coords": {"c": ["a", "b", "c"]},
    }
    ds = imload(stack, metadata=metadata)
    assert (ds.img.spacing["y"], ds.img.units["x"], ds.img.channels) == (2.0, "nm", ["a", "b", "c"])
    assert ds.img.spacing["z"] == 0.3
    assert_same(imload(stack), HYPERSTACK)
    renamed = imload(stack, metadata={"axes": "ictyx"})
    assert renamed.img.axes == "itcyx"
    assert renamed.attrs["original_axes"] == "tczyx"
    assert "z" not in renamed.coords
    with pytest.raises(AxesError, match="name 2 axes, but the array has 5"):
        imload(stack, metadata={"axes": "yx"})


def test_the_order_of_axes(stack):
    assert imload(stack, output_axis_order="xyzct").img.axes == "xyzct"
    assert imload(stack, output_axis_order=None).img.axes == "tczyx"
    for chunks in ("auto", None):
        turned = imload(stack, output_axis_order="xyzct", chunks=chunks)["image"]
        np.testing.assert_array_equal(turned.values, HYPERSTACK["image"].transpose(*"xyzct").values)
    with pytest.raises(ValueError, match=r"output_axis_order 'tzyx' lacks the axis 'c' of the data \(axes 'tczyx'\)"):
        imload(stack, output_axis_order="tzyx")
    with pytest.raises(ValueError, match="axes 'tczyxx' repeat 'x'"):
        imload(stack, output_axis_order="tczyxx")


def test_chunks(stack):
    assert imload(stack)["image"].chunks is not None
    assert imload(stack, chunks=None)["image"].chunks is None
    assert imload(stack, chunks={"z": 2, "y": -1})["image"].chunksizes["z"] == (2, 2)
    assert set(imload(stack, chunks=5)["image"].data.chunksize) == {2, 3, 4, 5}
    with pytest.raises(AxesError, match="chunks name the axis 'q', but the image has 'tczyx'"):
        imload(stack, chunks={"q": 2})
    with pytest.raises(TypeError, match="expected 'auto', None, a number or a mapping"):
        imload(stack, chunks="large")
    with pytest.raises(ValueError, match="chunk length 0"):
        imload(stack, chunks=0)
    assert imload(stack, chunks=None)["image"].encoding["preferred_chunks"].keys() == set("tczyx")


def test_metadata_only_reads_no_pixel(stack, monkeypatch):
    sizes = _count_pixels(monkeypatch)
    ds = imload(stack, metadata_only=True)
    assert ds["image"].shape == HYPERSTACK["image"].shape
    assert ds["image"].chunks is None
    assert ds.img.channels == ["DAPI", "GFP", "mCherry"]
    assert repr(ds)
    assert not sizes
    assert_same(ds, HYPERSTACK)
    assert sizes


def test_unknown_options_name_the_known_ones(stack, tmp_path):
    with pytest.raises(TypeError, match=r"the driver 'npy' \(NumPy .*\) has no option 'colour'; it has .*chunks"):
        imload(stack, colour=3)
    imsave(np.zeros((5, 6)), tmp_path / "a.nrrd")
    with pytest.raises(TypeError, match="no option 'scene'"):
        imload(tmp_path / "a.nrrd", scene=1)


def test_scenes_that_are_not_there(tmp_path):
    imsave(np.zeros((4, 5), "uint8"), tmp_path / "a.tif")
    with pytest.raises(SceneError, match="no scene number 3; it has 1"):
        imload(tmp_path / "a.tif", scene=3)
    with pytest.raises(SceneError, match="no scene named 'B7'"):
        imload(f"{tmp_path}/a.tif@B7")
    with pytest.raises(ValueError, match="give one"):
        imload(f"{tmp_path}/a.tif@0", scene=1)
    with pytest.raises(SceneError, match="there is no level 2"):
        imload(tmp_path / "a.tif", level=2)
    np.testing.assert_array_equal(imload(f"{tmp_path}/a.tif@0")["image"].values, 0)


def test_scenes_that_differ_cannot_be_stacked(tmp_path):
    import tifffile

    with tifffile.TiffWriter(tmp_path / "two.tif") as tif:
        tif.write(np.zeros((4, 5), "uint8"))
        tif.write(np.zeros((6, 5), "uint8"))
    with pytest.raises(
        AxesError, match=r"two\.tif: scenes cannot be stacked.*\(4, 5\).*\(6, 5\).*one by one with scene="
    ):
        imload(tmp_path / "two.tif", scene="all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": "x"}, "metadata='x': expected a mapping"),
        ({"metadata": {"spacing": 3}}, "metadata spacing is 3: expected a mapping from axes"),
        ({"metadata": {"coords": ["a"]}}, r"metadata coords is \['a'\]: expected a mapping"),
        ({"storage_options": "anon"}, "storage_options='anon': expected a mapping"),
    ],
)
def test_options_that_are_no_mappings(stack, options, message):
    with pytest.raises(TypeError, match=message):
        imload(stack, **options)


# files that change, and files that lie


@pytest.mark.parametrize("chunks", ["auto", None])
def test_a_file_that_was_replaced_is_not_read_as_the_old_one(chunks, stack):
    ds = imload(stack, chunks=chunks)
    time.sleep(0.01)
    imsave(HYPERSTACK + 1, stack, overwrite=True)
    with pytest.raises(
        SourceChangedError, match=r"stack\.npz was changed or replaced since it was opened: load it again"
    ):
        ds["image"].compute()
    np.testing.assert_array_equal(imload(stack)["image"].values, HYPERSTACK["image"].values + 1)


def test_a_file_that_is_gone(stack):
    ds = imload(stack)
    ds.close()
    stack.unlink()
    with pytest.raises(FileNotFoundError):
        ds.compute()


def test_hostile_sizes_are_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(100))
    with pytest.raises(FormatError, match=r"a\.npy: the header states an array of shape \(1000000, 1000000\)"):
        imload(tmp_path / "a.npy")
    with open(tmp_path / "b.npy", "wb") as stream:  # and one that keeps its promise, with a hole
        stream.write(header.getvalue())
        stream.truncate(len(header.getvalue()) + 10**12)
    ds = imload(tmp_path / "b.npy", chunks=None)
    assert ds["image"].nbytes == 10**12
    assert int(ds["image"][-1, -5:].sum()) == 0
    with pytest.raises(TooLargeError, match="work on it lazily, or load a part"):
        autodetect(tmp_path / "b.npy").read()


def test_an_existing_target_is_an_error_of_both_kinds(stack):
    with pytest.raises(TargetExistsError) as caught:
        imsave(HYPERSTACK, stack)
    assert isinstance(caught.value, FileExistsError)


# progress

FILES = [
    ".tif",
    ".ome.tif",
    ".npy",
    ".npz",
    ".zarr",
    ".h5",
    ".nii.gz",
    ".mrc",
    ".fits",
    ".nrrd",
    ".czi",
    ".klb",
    ".bin",
]


@pytest.mark.parametrize("extension", FILES)
@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError, OSError])
def test_an_error_of_the_callback_ends_the_write_as_it_is(tmp_path, extension, error):
    """No writer takes it for its own."""
    told, values = [], da.zeros((4, 30, 40), dtype="u1", chunks=(1, -1, -1))

    def progress(nbytes):
        told.append(nbytes)
        raise error("stop")

    with pytest.raises(error) as caught:
        imsave(xr.Dataset({"image": (("t", "y", "x"), values)}), tmp_path / f"a{extension}", progress=progress)
    assert type(caught.value) is error
    assert caught.value.args == ("stop",)
    assert len(told) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{}, {"pyramid": 1}, {"tile": 64}], ids=str)
def test_no_thread_reads_ahead_after_an_error_of_tifffile(tmp_path, monkeypatch, options):
    def write(self, data, **others):
        next(iter(data))
        raise ValueError("a mistake")

    monkeypatch.setattr("tifffile.TiffWriter.write", write)
    values = da.zeros((40, 800, 800), dtype="u1", chunks=(1, -1, -1))  # more than is read together
    image = xr.Dataset({"image": (("t", "y", "x"), values)})
    with pytest.raises(CannotWriteError, match="a mistake") as caught:
        imsave(image, tmp_path / "a.tif", **options)
    assert caught.value.__traceback__ is not None
    assert not [t.name for t in threading.enumerate() if t.name.startswith("intake_img-ahead")]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_bar_where_there_is_no_terminal(tmp_path, capfd):
    imsave(HYPERSTACK, tmp_path / "a.npz")
    assert capfd.readouterr() == ("", "")


def test_a_bar_where_it_is_asked_for(tmp_path, capfd):
    imsave(HYPERSTACK, tmp_path / "a.npz", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "saving a.npz: 100%" in err
    assert "18.8k/18.8k" in err


def test_no_bar_where_it_is_refused(tmp_path, monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    imsave(HYPERSTACK, tmp_path / "a.npz", progress=False)
    assert terminal.getvalue() == ""


def test_in_a_terminal_only_long_work_shows_a_bar(tmp_path, monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    imsave(HYPERSTACK, tmp_path / "a.npz")
    assert terminal.getvalue() == ""
    with meter(None, 100, "saving b", "B") as step:
        time.sleep(1.1)
        step(60)
    assert "saving b" in terminal.getvalue()


def _count_pixels(monkeypatch):
    sizes: list[int] = []
    original = FileReader.read_into

    def counting(self, region, out):
        sizes.append(out.size)
        original(self, region, out)

    monkeypatch.setattr(FileReader, "read_into", counting)
    monkeypatch.setattr(FileReader, "view", lambda self: None)  # by which numpy reads small parts of a memory map
    return sizes


def test_image_of_makes_what_it_says():
    ds = image_of("cyx", (2, 3, 4), "uint8", c=["a", "b"], y=(0.5, "µm", 1.0))
    assert ds["y"].values.tolist() == [1.0, 1.5, 2.0]
    assert ds["y"].attrs == {"units": "µm", "spacing": 0.5}


# what the documentation says of saving, sentence by sentence


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["a.npz", "a.tif", "a.ome.tif", "a.zarr", "a.bin", "a"])
def test_an_existing_target_is_refused_before_anything_is_written(name, tmp_path):
    written = imsave(np.zeros((4, 5), "uint8"), tmp_path / name)
    (tmp_path / "a.bin.json").unlink(missing_ok=True)
    (tmp_path / "conf.json").unlink(missing_ok=True)
    before = content(tmp_path)
    ran = []

    def compute(block_info=None):
        ran.append(1)
        return np.ones((4, 5), "uint8")

    lazy = da.map_blocks(compute, chunks=((4,), (5,)), dtype="uint8", meta=np.empty((0, 0), "uint8"))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        imsave(lazy, tmp_path / name)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        imsave(lazy, written[0], partition="yx")
    assert content(tmp_path) == before
    assert not ran


@pytest.mark.parametrize("name", ["a.npz", "a.tif", "a.ome.tif", "a.zarr", "a.png"])
@pytest.mark.parametrize("chunks", ["auto", None])
def test_saving_over_ones_own_lazy_source(name, chunks, tmp_path):
    plane = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    imsave(plane, tmp_path / name)
    for k in range(1, 3):
        imsave(imload(tmp_path / name, chunks=chunks) + np.uint16(1), tmp_path / name, overwrite=True)
        np.testing.assert_array_equal(imload(tmp_path / name)["image"].values, plane + k)
    imsave(imload(tmp_path / name, chunks=chunks), tmp_path / name, overwrite=True)
    np.testing.assert_array_equal(imload(tmp_path / name)["image"].values, plane + 2)


def test_without_an_extension_it_is_zarr(tmp_path):
    [path] = imsave(np.ones((4, 5), "uint8"), tmp_path / "plain")
    assert path == str(tmp_path / "plain")
    assert (tmp_path / "plain" / "zarr.json").exists()
    assert imload(path).attrs["driver"] == "omezarr"
    parts = imsave(np.ones((2, 4, 5), "uint8"), tmp_path / "many", partition="yx")
    assert [os.path.basename(p) for p in parts] == ["many.z_0", "many.z_1"]
    assert imload(tmp_path / "many")["image"].shape == (2, 4, 5)


def test_a_tree_is_a_pyramid(tmp_path):
    full = np.arange(16 * 16, dtype="uint16").reshape(16, 16)
    nodes = {f"scale{k}": xr.Dataset({"image": (("y", "x"), full[:: 2**k, :: 2**k])}) for k in range(2)}
    for name in ("a.zarr", "a.ome.tif"):
        [path] = imsave(xr.DataTree.from_dict(nodes), tmp_path / name)
        for k in range(2):
            np.testing.assert_array_equal(imload(path, level=k)["image"].values, full[:: 2**k, :: 2**k])


@pytest.mark.parametrize(("name", "partition"), [("a.npz", None), ("a.npy", "yx"), ("a.zarr", "yx"), ("a.bin", None)])
def test_it_returns_the_files_it_wrote(name, partition, tmp_path):
    written = imsave(np.ones((2, 4, 5), "uint8"), tmp_path / "new" / name, partition=partition)
    assert sorted(written) == sorted(str(p) for p in (tmp_path / "new").iterdir())
    again = imsave(np.ones((2, 4, 5), "uint8"), tmp_path / "new" / name, partition=partition, overwrite=True)
    assert again == written


# warnings


def _pictures(folder):
    (folder / "a.pgm").write_bytes(b"P5 2 2 255\n\1\2\3\4P5 1 2 255\n\5\6")
    return folder / "a.pgm", "contains 2 images of 2 sizes"


def _planes(folder):
    tifffile = pytest.importorskip("tifffile")
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="4" SizeY="3" SizeZ="2" SizeC="1" SizeT="1">'
        '<Channel ID="Channel:0:0"/><TiffData/></Pixels></Image></OME>'
    )
    values = np.ones((3, 4), "u1")
    tifffile.imwrite(folder / "a.ome.tif", values, photometric="minisblack", description=text.encode(), metadata=None)
    return folder / "a.ome.tif", "1 of 2 planes of .* are missing"


def _wells(folder):
    import json

    path = folder / "a.ome.zarr"
    imsave(xr.DataArray(np.ones((3, 4), "u1"), dims=("y", "x")), path / "A/1/0")
    for group, about in (
        ("", {"plate": {"wells": [{"path": "A/1"}, {"path": "A/2"}]}}),
        ("A", {}),
        ("A/1", {"well": {"images": [{"path": "0"}]}}),
    ):
        document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", **about}}}
        (path / group / "zarr.json").write_text(json.dumps(document))
    return path, "1 of the wells and images that the metadata name do not exist"


def _name(folder):
    np.save(folder / "a.npy", np.ones((3, 4), "u1"))
    return (folder / "a.npy").rename(folder / "a.tif"), "named like TIFF, but its bytes are"


@pytest.mark.parametrize("made", [_pictures, _planes, _wells, _name])
def test_a_warning_that_is_turned_into_an_error_is_not_called_damage(made, tmp_path):
    path, said = made(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=said):
            imload(path)
    with pytest.warns(UserWarning, match=said):
        assert imload(path).image.values.any()
