"""HDF5: real files against h5py, dialects of axes, filters, remote files, and what ilastik and Fiji read of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, MissingExtraError, SceneError
from intake_img.formats.hdf5.driver import Hdf5Source
from intake_img.storage.remote import RemoteBytes

VALUES = np.arange(3 * 14 * 18, dtype="u2").reshape(3, 14, 18)


def made(path: Path, write: Callable[[h5py.File], Any], **options: Any) -> Path:
    with h5py.File(path, "w", **options) as f:
        write(f)
    return path


def facts(ds: xr.Dataset) -> dict[str, Any]:
    return {a: (c.attrs.get("spacing"), c.attrs.get("units")) for a, c in ds.coords.items()}


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_file_that_was_cut_off_says_what_to_do(where: str, tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("a", data=VALUES))
    uri = str(path)
    if where == "memory":
        uri = "memory://hdf5/cut.h5"
        fsspec.filesystem("memory").pipe("/hdf5/cut.h5", path.read_bytes()[:3000])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FormatError, match="was cut off, and HDF5 opens complete files only: copy it again"):
        imload(uri)


# real files


@pytest.mark.parametrize(
    ("name", "path", "axes"),
    [
        ("hdf5/2d3c_Probabilities.h5", "exported_data", "yxc"),
        ("hdf5/5t2d_simple.h5", "simple", "tyx"),
        ("hdf5_ilastik/2d3c.h5", "data", "zyx"),
        ("hdf5_ilastik/5t3d2c.h5", "data", "tczyx"),
        ("hdf5_ilastik/5t3d2c_Probabilities.h5", "exported_data", "tzyxc"),
    ],
)
def test_real_files_are_what_h5py_reads(data, name, path, axes):
    with h5py.File(data / name) as f:
        expected = f[path][()]
    for chunks in ("auto", None, 20):
        ds = imload(data / name, chunks=chunks, output_axis_order=None)
        assert (ds.attrs["driver"], ds.attrs["scenes"], "".join(ds["image"].dims)) == ("hdf5", [path], axes)
        assert ds["image"].dtype == expected.dtype
        np.testing.assert_array_equal(ds["image"].values, expected)
        part = tuple(slice(n // 3, n // 3 + 17) for n in expected.shape)
        np.testing.assert_array_equal(ds["image"][part].values, expected[part])
        ds.close()


@pytest.mark.parametrize("name", ["NNLocaBatch-141b22-biov05-2d1c.ilp", "mitocheckDataConversion.ilp"])
def test_projects_without_pixels_say_where_these_are(data, name):
    with pytest.raises(FormatError, match=r"has no labels, and its raw data are elsewhere \(lane0000: .*h5/.*data\)"):
        imload(data / "hdf5" / name)


# dialects: what is written into the file, the axes, spacing and units that come of it


def _tags(keys: str, resolution: float = 0.0, units: str | None = None) -> Callable[[h5py.Dataset], None]:
    def write(d: h5py.Dataset) -> None:
        tags = [{"key": k, "typeFlags": 2, "resolution": resolution, "description": ""} for k in keys]
        d.attrs["axistags"] = json.dumps({"axes": tags})
        if units is not None:
            d.attrs["axis_units"] = json.dumps(dict.fromkeys(keys, units))

    return write


def _scales(d: h5py.Dataset) -> None:
    for k, (name, values, unit) in enumerate(
        [
            ("time", [0.0, 1.0, 5.0], "s"),
            ("y", 2 + 0.5 * np.arange(14), "um"),
            ("x", np.float32(0.1) * np.arange(18, dtype="f4"), "um"),
        ]
    ):
        d.file[name] = values
        d.file[name].make_scale(name)
        d.file[name].attrs["units"] = unit
        d.dims[k].attach_scale(d.file[name])


def _labels_of_dimensions(d: h5py.Dataset) -> None:
    for dimension, label in zip(d.dims, ["Z", "detector", "X"], strict=True):
        dimension.label = label


def _nexus(d: h5py.Dataset) -> None:
    d.parent.attrs.update({"NX_class": "NXdata", "signal": "d", "axes": ["energy", "y", "x"]})
    d.parent["energy"] = np.array([280.0, 281.0, 282.0])
    d.parent["energy"].attrs["units"] = "eV"


def _image(mode: str) -> Callable[[h5py.Dataset], None]:
    return lambda d: d.attrs.update({"CLASS": np.bytes_("IMAGE"), "INTERLACE_MODE": np.bytes_(mode)})


DIALECTS: dict[str, tuple[Callable[[h5py.Dataset], None], str, dict[str, Any]]] = {
    "nothing": (lambda d: None, "zyx", {}),
    "axis tags": (_tags("tyx"), "tyx", {}),
    "axis tags, calibrated": (_tags("zyx", 0.2, "um"), "zyx", dict.fromkeys("zyx", (0.2, "µm"))),
    "axis tags without units": (_tags("zyx", 0.2), "zyx", dict.fromkeys("zyx", (0.2, None))),
    "axis tags that are unknown": (_tags("z?x"), "zyx", {}),
    "axis tags of another array": (_tags("yx"), "zyx", {}),
    "axis tags that are no JSON": (lambda d: d.attrs.update(axistags="{"), "zyx", {}),
    "dimension scales": (_scales, "tyx", {"t": (None, "s"), "y": (0.5, "µm"), "x": (0.1, "µm")}),
    "labels of dimensions": (_labels_of_dimensions, "z,detector,x", {}),
    "NeXus": (_nexus, "lyx", {"l": (1.0, "eV")}),
    "Fiji": (
        lambda d: d.attrs.update(element_size_um=[2.0, 0.5, 0.25]),
        "zyx",
        {"z": (2.0, "µm"), "y": (0.5, "µm"), "x": (0.25, "µm")},
    ),
    "Fiji, one size": (lambda d: d.attrs.update(element_size_um=0.5), "zyx", dict.fromkeys("zyx", (0.5, "µm"))),
    "Fiji, no size": (lambda d: d.attrs.update(element_size_um=[0.0, np.nan, -1.0]), "zyx", {}),
    "HDF5 Image": (_image("INTERLACE_PIXEL"), "yxc", {}),
    "HDF5 Image by planes": (_image("INTERLACE_PLANE"), "cyx", {}),
    "MATLAB": (lambda d: d.attrs.update(MATLAB_class=np.bytes_("uint16")), "zxy", {}),
}


@pytest.mark.parametrize("what", list(DIALECTS))
def test_axes_are_what_the_dialect_says(tmp_path, what):
    write, axes, known = DIALECTS[what]
    path = made(tmp_path / "a.h5", lambda f: write(f.create_dataset("g/d", data=VALUES)))
    ds = imload(path, output_axis_order=None)
    assert ds["image"].dims == tuple(axes.split(",") if "," in axes else axes)
    assert {a: v for a, v in facts(ds).items() if a in known} == known
    assert set(ds.coords) == set(known)
    np.testing.assert_array_equal(ds["image"].values, VALUES)
    if what == "dimension scales":
        assert ds["t"].values.tolist() == [0.0, 1.0, 5.0]
        assert float(ds["y"][0]) == 2.0


def test_matlab_files_with_a_block_of_their_own_are_known(tmp_path):
    path = made(tmp_path / "a.mat", lambda f: f.create_dataset("d", data=VALUES), userblock_size=512)
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    np.testing.assert_array_equal(imload(path)["image"].values, VALUES)


def test_palettes_are_kept_beside_the_values(tmp_path):
    colours = np.arange(768, dtype="u1").reshape(256, 3)

    def write(f):
        f["palette"] = colours
        f["palette"].attrs["CLASS"] = np.bytes_("PALETTE")
        f["d"] = VALUES[0].astype("u1")
        f["d"].attrs["CLASS"] = np.bytes_("IMAGE")
        f["d"].attrs["PALETTE"] = f["palette"].ref

    ds = imload(made(tmp_path / "a.h5", write))
    assert ds.attrs["scenes"] == ["d"]
    assert ds["image"].attrs["palette"] == ["#" + bytes(row).hex().upper() for row in colours]


# scenes, and what is none


def test_arrays_are_scenes_and_the_header_says_what_is_not(tmp_path):
    made(tmp_path / "b.h5", lambda f: f.create_dataset("d", data=VALUES))

    def write(f):
        f["a/second"] = VALUES[1]
        f["a/first"] = VALUES
        f["again"] = f["a"]  # a hard link
        f["loop/back"] = f["/"]
        f["soft"] = h5py.SoftLink("/a/first")
        f["elsewhere"] = h5py.ExternalLink("b.h5", "/d")
        f["table"] = np.zeros((4, 4), [("a", "i4"), ("b", "f8")])
        f["texts"] = np.full((2, 2), "text", h5py.string_dtype())
        f["line"] = np.arange(4)
        f["number"] = 3
        f["nothing"] = h5py.Empty("f4")
        f.attrs["reference"] = f["a"].ref
        f.attrs["long"] = np.zeros(4000)

    path = made(tmp_path / "a.h5", write)
    ds = imload(path)
    assert ds.attrs["scenes"] == ["a/first", "a/second"]
    header = json.loads(ds.attrs["fileheader"])
    assert set(header["skipped"]) == {"elsewhere", "table", "texts"}
    assert "b.h5" in header["skipped"]["elsewhere"]
    assert "table" not in header["file"]
    np.testing.assert_array_equal(imload(path, scene="a/second")["image"].values, VALUES[1])
    with pytest.raises(SceneError, match="a/second"):
        imload(path, scene="b")
    with pytest.raises(FormatError, match=r"no array of numbers with at least two axes; table is of type"):
        imload(made(tmp_path / "c.h5", lambda f: f.create_dataset("table", data=np.zeros((2, 2), [("a", "i4")]))))


TYPES = ["?", "i1", ">u2", "<i4", ">u8", "f2", ">f4", "f8", "<c8", ">c16"]


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 5, 7), "compression": "gzip"}], ids=["plain", "chunks"])
def test_every_type_of_number_is_read(tmp_path, options):
    rng = np.random.default_rng(0)
    arrays = {t.strip("<>?") or "b": (rng.normal(size=(3, 14, 18)) * 9).astype(t) for t in TYPES}
    path = made(tmp_path / "a.h5", lambda f: [f.create_dataset(k, data=v, **options) for k, v in arrays.items()])
    for name, values in arrays.items():
        found = imload(path, scene=name, chunks=6)["image"]
        assert found.dtype == values.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found.values, values)


def test_numbers_of_twelve_bits_are_no_plain_bytes(tmp_path):
    def write(f):
        kind = h5py.h5t.STD_U16LE.copy()
        kind.set_precision(12)
        kind.set_offset(4)
        space = h5py.h5s.create_simple(VALUES.shape)
        h5py.h5d.create(f.id, b"d", kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, VALUES)

    np.testing.assert_array_equal(imload(made(tmp_path / "a.h5", write))["image"].values, VALUES)


def test_pixels_in_other_files_are_read_and_missing_ones_are_told(tmp_path):
    made(tmp_path / "part.h5", lambda f: f.create_dataset("d", data=VALUES[0]))
    layout = h5py.VirtualLayout((2, 14, 18), "u2")
    for k, name in enumerate(("part.h5", "lost.h5")):
        layout[k] = h5py.VirtualSource(name, "d", (14, 18))
    path = made(tmp_path / "a.h5", lambda f: f.create_virtual_dataset("d", layout, fillvalue=7))
    with pytest.warns(UserWarning, match=r"1 files with pixels of d are missing \(lost\.h5\)"):
        values = imload(path)["image"].values
    np.testing.assert_array_equal(values, [VALUES[0], np.full((14, 18), 7)])


# projects of ilastik


def test_labels_of_a_project_are_assembled(tmp_path):
    """Of new projects, whose blocks have axes, and of old ones, whose blocks have those that ilastik worked with."""
    labels = np.zeros((30, 40), "u1")
    labels[15:25, 14:20], labels[2:5, 30:33] = 1, 2

    def write(f):
        f["ilastikVersion"] = "1.3.3"
        f["PixelClassification/LabelNames"] = np.array([b"cell", b"background"])
        f["PixelClassification/ClassifierForests/numbers"] = np.zeros((5, 5))
        for lane, axes in enumerate(("yx", "txyzc")):
            raw = f.create_group(f"Input Data/infos/lane{lane:04}/Raw Data")
            raw["shape"], raw["filePath"] = [30, 40], "raw.h5/data"
            raw["axistags"] = json.dumps({"axes": [{"key": k, "resolution": 0} for k in "yx"]})
            for k, (y, x) in enumerate([(slice(15, 25), slice(14, 20)), (slice(2, 5), slice(30, 33))]):
                box = {"y": y, "x": x}
                names = "yxc" if lane == 0 else axes
                region = [box.get(a, slice(0, 1)) for a in names]
                part = labels[y, x] if lane == 0 else labels[y, x].T
                block = part.reshape([s.stop - s.start for s in region])
                made = f.create_dataset(f"PixelClassification/LabelSets/labels{lane:03}/block{k:04}", data=block)
                made.attrs["blockSlice"] = "[" + ",".join(f"{s.start}:{s.stop}" for s in region) + "]"
                if lane == 0:
                    made.attrs["axistags"] = json.dumps({"axes": [{"key": k, "resolution": 0} for k in names]})

    path = made(tmp_path / "a.ilp", write)
    ds = imload(path)
    assert ds.attrs["scenes"] == [f"PixelClassification/LabelSets/labels00{k}" for k in (0, 1)]
    assert ds["image"].attrs == {"kind": "labels", "label_names": ["cell", "background"]}
    assert json.loads(ds.attrs["fileheader"])["raw data"] == {"lane0000": "raw.h5/data", "lane0001": "raw.h5/data"}
    for scene in (0, 1):
        found = imload(path, scene=scene, chunks={"y": 7, "x": 9})["image"]
        np.testing.assert_array_equal(found.squeeze().transpose("y", "x").values, labels)
    damaged = tmp_path / "b.ilp"
    damaged.write_bytes(path.read_bytes())
    with h5py.File(damaged, "r+") as f:
        f["PixelClassification/LabelSets/labels000/block0000"].attrs["blockSlice"] = "[0:1,0:1,0:1]"
    with pytest.raises(FormatError, match="its blockSlice is not that of its array"):
        imload(damaged)


@pytest.mark.parametrize(("name", "kind"), [("a_Simple Segmentation.h5", "labels"), ("a_Probabilities.h5", None)])
def test_exports_of_labels_are_labels(tmp_path, name, kind):
    path = made(tmp_path / name, lambda f: f.create_dataset("exported_data", data=VALUES))
    assert imload(path)["image"].attrs.get("kind") == kind


# filters


def test_filters_that_are_missing_name_the_extra(tmp_path, monkeypatch):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    try:
        path = made(tmp_path / "a.h5", lambda f: f.create_dataset("d", data=VALUES, **hdf5plugin.Blosc()))
    except ValueError as exc:
        pytest.skip(f"the filters of another library came first: {exc}")
    np.testing.assert_array_equal(imload(path)["image"].values, VALUES)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code < 10)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(
        MissingExtraError, match=r"filter 32001 \(blosc\), needs 'hdf5plugin'.*intake_img\[hdf5plugin\]"
    ):
        imload(path)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("d", data=VALUES))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'intake_img\[hdf5\]'"):
        imload(path)


# remote


def _rich(f: h5py.File) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4000, (6, 40, 50)).astype(">u2")
    options = {"chunks": (2, 16, 16), "data": values}
    f.create_dataset("fletcher", fletcher32=True, **options)
    f.create_dataset("gzip", compression="gzip", shuffle=True, **options)
    f.create_dataset("lzf", compression="lzf", **options)
    f.create_dataset("plain", data=values)
    f.create_dataset("scaled", scaleoffset=12, **options)
    sparse = f.create_dataset("sparse", (6, 40, 50), "f4", chunks=(2, 16, 16), fillvalue=-1)
    sparse[2:4, 16:32, :16] = 5
    f.create_dataset("unwritten", (6, 40, 50), "i2", fillvalue=3)
    f.create_dataset("bulk", data=rng.integers(0, 255, (40, 300, 300)).astype("u1"), chunks=(1, 300, 300))


@pytest.fixture
def remote(tmp_path):
    path = made(tmp_path / "a.h5", _rich)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/hdf5/a.h5", path.read_bytes())
    yield path, "memory://hdf5/a.h5"
    fs.rm("/hdf5", recursive=True)


@pytest.mark.timeout(60)  # it would wait for ever where it fails
def test_remote_files_are_read_without_waiting_in_the_lock_of_hdf5(remote, monkeypatch):
    """While bytes are fetched another thread can use HDF5; else a garbage collection there would wait for ever."""
    local, url = remote
    fetched, blocked = [], []
    original = RemoteBytes.ranges

    def ranges(self, offsets, counts):
        free = threading.Thread(target=h5py.h5t.NATIVE_INT8.get_size, daemon=True)
        free.start()
        free.join(0 if any(blocked) else 5)  # one wait is enough to know
        blocked.append(free.is_alive())
        found = original(self, offsets, counts)
        fetched.append(sum(map(len, found)))
        return found

    monkeypatch.setattr(RemoteBytes, "ranges", ranges)
    scenes = imload(url).attrs["scenes"]
    assert scenes == imload(local).attrs["scenes"]
    for scene in scenes:
        expected, found = imload(local, scene=scene)["image"], imload(url, scene=scene, chunks={"y": 23})["image"]
        np.testing.assert_array_equal(found.values, expected.values)
        part = (slice(1, 4), slice(10, 33), slice(5, 19))
        np.testing.assert_array_equal(found[part].values, expected[part].values)
    fetched.clear()
    ds = imload(url, scene="bulk")
    assert ds["image"][20, 100:110, :5].values.shape == (10, 5)
    assert sum(fetched) < 1_000_000, "of 3.6 MB, the directory and a chunk"
    assert len(fetched) < 12
    assert not any(blocked)


def test_remote_virtual_datasets_are_refused(tmp_path):
    layout = h5py.VirtualLayout((14, 18), "u2")
    layout[...] = h5py.VirtualSource("part.h5", "d", (14, 18))
    path = made(tmp_path / "a.h5", lambda f: f.create_virtual_dataset("d", layout))
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/hdf5/v.h5", path.read_bytes())
    with pytest.raises(FormatError, match=r"are in other files \(part\.h5\), which are not opened on a server"):
        imload("memory://hdf5/v.h5")
    fs.rm("/hdf5", recursive=True)


# writing


@pytest.mark.parametrize("compress", [None, True, "lzf"])
def test_ilastik_and_fiji_find_the_axes(tmp_path, compress):
    """As ilastik's OpStreamingH5N5Reader and Fiji's HDF5 plug-in look for them."""
    given = xr.Dataset(
        {
            "raw": (tuple("tczyx"), np.arange(2 * 2 * 3 * 300 * 5, dtype="u2").reshape(2, 2, 3, 300, 5)),
            "nuclei/µ": (tuple("zyx"), np.ones((3, 300, 5), "i4"), {"kind": "labels"}),
        },
        {"c": ["DAPI", "GFP"]},
    )
    for axis, step, unit in (("t", 2.0, "s"), ("z", 300.0, "nm"), ("y", 0.1, "µm"), ("x", 0.1, "µm")):
        attrs = {"units": unit, "spacing": step}
        given = given.assign_coords({axis: (axis, step * np.arange(given.sizes[axis]), attrs)})
    imsave(given, tmp_path / "a.h5", compress=compress)
    with h5py.File(tmp_path / "a.h5") as f:
        assert sorted(f) == ["intake_img_record", "nuclei%2Fµ", "raw"]
        raw = f["raw"]
        tags = json.loads(raw.attrs["axistags"])["axes"]
        assert "".join(tag["key"] for tag in tags) == "tczyx"
        assert [tag["resolution"] for tag in tags] == [2.0, 0.0, 300.0, 0.1, 0.1]
        assert [tag["typeFlags"] for tag in tags] == [8, 1, 2, 2, 2]
        assert all(set(tag) == {"key", "typeFlags", "resolution", "description"} for tag in tags)
        assert json.loads(raw.attrs["axis_units"]) == {"t": "s", "c": "", "z": "nm", "y": "µm", "x": "µm"}
        np.testing.assert_allclose(raw.attrs["element_size_um"], [0.3, 0.1, 0.1], rtol=1e-6)
        assert [d.label for d in raw.dims] == list("tczyx")
        assert raw.compression == {None: None, True: "gzip", "lzf": "lzf"}[compress]
        assert raw.chunks == (None if compress is None else (1, 1, 1, 256, 5))
        assert f["nuclei%2Fµ"].attrs["display_mode"] == "random-colortable"
        np.testing.assert_array_equal(raw[()], given["raw"].values)
        without = {name: f[name][()] for name in ("raw", "nuclei%2Fµ")}
        attrs = dict(raw.attrs)
    found = imload(tmp_path / "a.h5")
    for name in given.data_vars:
        assert found[name].equals(given[name])
    assert found["nuclei/µ"].attrs["kind"] == "labels"

    def stripped(f):  # the file as others keep it, without the record
        f["raw"] = without["raw"]
        f["raw"].attrs.update({k: v for k, v in attrs.items() if k != "DIMENSION_LABELS"})

    again = imload(made(tmp_path / "b.h5", stripped))
    assert facts(again) == {"t": (2.0, "s"), "z": (300.0, "nm"), "y": (0.1, "µm"), "x": (0.1, "µm")}


def test_an_array_added_to_our_file_is_a_scene(tmp_path):
    imsave(xr.DataArray(VALUES, dims=list("zyx")), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as f:
        f["added"] = VALUES[0]
    assert imload(tmp_path / "a.h5").attrs["scenes"] == ["image", "added"]
    np.testing.assert_array_equal(imload(tmp_path / "a.h5", scene="added")["image"].values, VALUES[0])


def test_what_is_not_written_is_said(tmp_path):
    image = xr.DataArray(VALUES, dims=list("zyx"))
    with pytest.raises(CannotWriteError, match=r"only read; save as \.h5"):
        imsave(image, tmp_path / "a.ilp")
    with pytest.raises(CannotWriteError, match="expected False, True"):
        imsave(image, tmp_path / "a.h5", compress="jpeg")
    with pytest.raises(CannotWriteError, match="cannot be called 'intake_img_record'"):
        imsave(image.rename("intake_img_record"), tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_open_can_be_opened_by_others(tmp_path):
    """In any mode, in this process and in others; and nothing is left to be closed when Python ends."""
    path = made(tmp_path / "a.h5", lambda f: f.create_dataset("d", data=VALUES, chunks=True))
    with Hdf5Source(str(path)) as source:
        lazy = source.to_dask()
        with h5py.File(path, "r", locking=False):
            np.testing.assert_array_equal(lazy["image"].values, VALUES)
        h5py.File(path, "r+").close()
        code = "import sys, h5py, intake_img; ds = intake_img.imload(sys.argv[1]); h5py.File(sys.argv[1], 'r+').close()"
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


def test_damaged_records_are_ignored(tmp_path):
    imsave(xr.DataArray(VALUES, dims=list("tyx")), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as f:
        f["intake_img_record"][5:] = 255
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert imload(tmp_path / "a.h5")["image"].dims == ("t", "y", "x")


@pytest.mark.parametrize("project", [False, True])
def test_names_that_are_not_text_are_left_out(tmp_path, project):
    path, expected = tmp_path / "a.h5", np.arange(12, dtype="u1").reshape(3, 4)
    with h5py.File(path, "w") as f:
        if project:
            f["ilastikVersion"] = b"1.4"
            f.create_group(b"\xff\x80").create_group("LabelSets").create_group("labels000")
        else:
            f[b"\xff\x80"] = expected + 1
        f["Input Data/local_data/a"] = expected
    ds = imload(path)
    assert (ds.attrs["scenes"], ds.image.values.tolist()) == (["Input Data/local_data/a"], expected.tolist())
