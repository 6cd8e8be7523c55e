"""BigDataViewer: setups as channels or scenes, levels, partitions, missing views; what the XML gets wrong."""

from __future__ import annotations

import json
import shutil

import fsspec
import h5py
import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import AxesError, FormatError, SceneError, SourceChangedError
from intake_img.formats.bdv.driver import Bdv
from intake_img.formats.bdv.spim import parse_spim


@pytest.fixture
def sample(tmp_path):
    _, ds = Bdv().sample(str(tmp_path))
    return tmp_path / "sample.xml", ds["image"].values


def edited(path, *changes):
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path


def test_levels_are_what_h5py_reads(sample):
    path, _ = sample
    with h5py.File(path.with_suffix(".h5")) as f:
        expected = [
            [[f[f"t{t:05d}/s{s:02d}/{level}/cells"][()].astype("u2") for s in (0, 1)] for t in (0, 1)]
            for level in (0, 1)
        ]
    for level in (0, 1):
        for chunks in ("auto", None, {"z": 1, "y": 5, "x": 7}):
            ds = imload(path, level=level, chunks=chunks)
            assert (ds["image"].dtype, ds.attrs["scenes"]) == ("u2", ["0"])
            np.testing.assert_array_equal(ds["image"].values, expected[level])
            part = (1, slice(None), 2, slice(2, 6), slice(1, 8))
            np.testing.assert_array_equal(ds["image"][part].values, np.asarray(expected[level])[part])
    assert {a: ds[a].attrs["spacing"] for a in "zyx"} == {"z": 2.0, "y": 1.0, "x": 0.5}
    assert [float(ds[a][0]) for a in "zyx"] == [0.0, 0.25, 0.125]
    registered = json.loads(ds.attrs["fileheader"])["registrations"]["setup 0, time point 0"]
    assert registered == [[0.25, 0, 0, 5], [0, 0.5, 0, 0], [0, 0, 2, 0]]
    with pytest.raises(SceneError, match="has 2 levels"):
        imload(path, level=2)


def test_the_pixels_alone_find_their_xml(sample):
    path, values = sample
    ds = imload(path.with_suffix(".h5"))
    assert ds.attrs["driver"] == "bdv"
    assert ds["x"].attrs["spacing"] == 0.25
    np.testing.assert_array_equal(ds["image"].values, values)
    path.unlink()
    with pytest.warns(UserWarning, match="no XML beside it"):
        ds = imload(path.with_suffix(".h5"))
    assert ds.attrs["scenes"] == ["setup 0", "setup 1"]
    np.testing.assert_array_equal(ds["image"].values, values[:, :1])


def test_setups_that_differ_in_more_than_the_channel_are_scenes(sample):
    path, values = sample
    edited(path, ("<angle>0</angle><channel>1<", "<angle>45</angle><channel>1<"))
    ds = imload(path, scene=1)
    assert ds.attrs["scenes"] == ["angle 0, channel GFP", "angle 45, channel RFP"]
    np.testing.assert_array_equal(ds["image"].values, values[:, 1:])
    with pytest.raises(AxesError, match="channel names"):
        imload(path, scene="all")
    assert imload(path, scene="all", metadata={"coords": {"c": ["any"]}}).sizes["i"] == 2


def test_missing_views_read_as_zero(sample):
    path, values = sample
    with h5py.File(path.with_suffix(".h5"), "r+") as f:
        del f["t00001/s00"]
    with pytest.warns(UserWarning, match="1 views are missing"):
        found = imload(path)["image"].values
    np.testing.assert_array_equal(found[1, 0], 0)
    np.testing.assert_array_equal(found[:, 1], values[:, 1])
    edited(path, ("</Timepoints>", '</Timepoints><MissingViews><MissingView timepoint="1" setup="0"/></MissingViews>'))
    np.testing.assert_array_equal(imload(path)["image"].values, found)  # as was said: no warning


def test_partitions_are_followed(sample, tmp_path):
    path, values = sample
    shutil.move(path.with_suffix(".h5"), tmp_path / "part.h5")
    with h5py.File(path.with_suffix(".h5"), "w") as f:
        for t, s in np.ndindex(2, 2):
            f[f"t{t:05d}/s{s:02d}"] = h5py.ExternalLink("part.h5", f"/t{t:05d}/s{s:02d}")
        f["s00/resolutions"] = np.ones((1, 3))
    np.testing.assert_array_equal(imload(path)["image"].values, values)


def test_on_a_server(sample):
    path, values = sample
    fs = fsspec.filesystem("memory")
    for file in (path, path.with_suffix(".h5")):
        fs.pipe_file(f"/bdv/{file.name}", file.read_bytes())
    np.testing.assert_array_equal(imload("memory://bdv/sample.xml")["image"].values, values)
    fs.rm("/bdv", recursive=True)


def test_replaced_pixels_are_noticed(sample):
    path, _ = sample
    ds = imload(path)
    with open(path.with_suffix(".h5"), "ab") as stream:
        stream.write(b"more")
    with pytest.raises(SourceChangedError):
        ds["image"].values  # noqa: B018


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("sample.h5", "lost.h5")], r"its pixels are in .*lost\.h5, which is not there"),
        (
            [('"bdv.hdf5"', '"spimreconstruction.stack"')],
            "of the kind 'spimreconstruction.stack': expected 'bdv.hdf5' or 'bdv.n5'",
        ),
        ([("</SpimData>", "")], "the XML is damaged"),
        ([("<SpimData", "<!DOCTYPE a [<!ENTITY b 'c'>]><SpimData")], "declares entities"),
        ([("<id>0</id><size>", "<id>none</id><size>")], "setups or time points cannot be read"),
        ([("<last>1</last>", "<last>99999999999</last>")], "setups or time points cannot be read"),
        ([("<first>0</first><last>1</last>", "<first>7</first><last>9</last>")], "pixels of none of the setups"),
        ([("<ImageLoader", "<Loader"), ("</ImageLoader", "</Loader")], "does not name the location of the pixels"),
    ],
)
def test_wrong_xml_is_refused(sample, changes, message):
    with pytest.raises(FormatError, match=message):
        imload(edited(sample[0], *changes))


def test_time_points_are_ranges_patterns_or_lists():
    xml = (
        '<SpimData><SequenceDescription><ImageLoader format="bdv.hdf5"><hdf5>a.h5</hdf5></ImageLoader>'
        "<ViewSetups><ViewSetup><id>3</id></ViewSetup></ViewSetups>{}</SequenceDescription></SpimData>"
    )
    pattern = '<Timepoints type="pattern"><integerpattern>{}</integerpattern></Timepoints>'
    for text, times in (
        ("", [0]),
        ('<Timepoints type="range"><first>2</first><last>4</last></Timepoints>', [2, 3, 4]),
        (pattern.format("0-4:2, 7"), [0, 2, 4, 7]),
        (pattern.format(""), [0]),
        ("<Timepoints><Timepoint><id>5</id></Timepoint><Timepoint><id>1</id></Timepoint></Timepoints>", [1, 5]),
    ):
        spim = parse_spim(xml.format(text).encode())
        assert list(spim.times) == times
        assert [s.title for s in spim.setups] == ["setup 3"]


# pixels in N5


@pytest.fixture
def in_n5(tmp_path):
    """A dataset of 3 time points and 2 setups, two levels, written by tensorstore, and what it holds."""
    ts = pytest.importorskip("tensorstore")
    Bdv().sample(str(tmp_path))
    values = np.random.default_rng(0).integers(0, 2**16, (3, 2, 3, 12, 20)).astype("u2")
    kinds = [{"type": "gzip"}, {"type": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1}]
    for t, s in np.ndindex(3, 2):
        for level in (0, 1):
            step = 1 + level
            data = values[t, s][:, ::step, ::step].T
            about = {"dimensions": list(data.shape), "dataType": "uint16", "blockSize": [8, 5, 2]}
            place = str(tmp_path / f"sample.n5/setup{s}/timepoint{t}/s{level}")
            spec = {"driver": "n5", "kvstore": {"driver": "file", "path": place}}
            ts.open({**spec, "metadata": {**about, "compression": kinds[s]}}, create=True).result().write(data).result()
    for s in range(2):
        text = json.dumps({"downsamplingFactors": [[1, 1, 1], [2, 2, 1]], "dataType": "uint16"})
        (tmp_path / f"sample.n5/setup{s}/attributes.json").write_text(text)
    path = edited(
        tmp_path / "sample.xml",
        ('"bdv.hdf5"', '"bdv.n5" version="1.0"'),
        ('<hdf5 type="relative">sample.h5</hdf5>', '<n5 type="relative">sample.n5</n5>'),
        ("<last>1</last>", "<last>2</last>"),
    )
    (tmp_path / "sample.h5").unlink()
    return path, values


def test_n5_holds_what_tensorstore_wrote(in_n5):
    path, values = in_n5
    for level in (0, 1):
        expected = values[..., :: level + 1, :: level + 1]
        for chunks in ("auto", None, {"z": 1, "y": 5, "x": 7}):
            ds = imload(path, level=level, chunks=chunks)
            assert (ds["image"].dtype, ds.attrs["driver"]) == ("u2", "bdv")
            np.testing.assert_array_equal(ds["image"].values, expected)
            part = (1, slice(None), 2, slice(2, 6), slice(1, 8))
            np.testing.assert_array_equal(ds["image"][part].values, expected[part])
    assert ds["c"].values.tolist() == ["GFP", "RFP"]
    assert {a: ds[a].attrs["spacing"] for a in "zyx"} == {"z": 2.0, "y": 1.0, "x": 0.5}
    assert [float(ds[a][0]) for a in "zyx"] == [0.0, 0.25, 0.125]


def test_views_missing_from_n5_read_as_zero(in_n5):
    path, values = in_n5
    shutil.rmtree(path.parent / "sample.n5/setup0/timepoint1")
    values[1, 0] = 0
    with pytest.warns(UserWarning, match="1 views are missing"):
        np.testing.assert_array_equal(imload(path)["image"].values, values)
    (path.parent / "sample.n5/setup1/timepoint2/s0/attributes.json").unlink()
    with (
        pytest.warns(UserWarning, match="1 views"),
        pytest.raises(FormatError, match="no N5 dataset 'setup1/timepoint2"),
    ):
        imload(path)["image"].values  # noqa: B018


def test_n5_on_a_server(in_n5):
    path, values = in_n5
    fs = fsspec.filesystem("memory")
    fs.put(str(path.parent) + "/", "/bdvn5/", recursive=True)
    np.testing.assert_array_equal(imload("memory://bdvn5/sample.xml")["image"].values, values)
    fs.rm("/bdvn5", recursive=True)


def test_n5_that_lacks_or_contradicts(in_n5):
    path, values = in_n5
    (path.parent / "sample.n5/setup0/attributes.json").write_text('{"downsamplingFactors": [[1, 1]]}')
    with pytest.raises(FormatError, match="expected triples"):
        imload(path)
    (path.parent / "sample.n5/setup0/attributes.json").unlink()
    with pytest.raises(SceneError, match="has 1 level"):
        imload(path, level=1)
    np.testing.assert_array_equal(imload(path)["image"].values, values)
    shutil.rmtree(path.parent / "sample.n5")
    with pytest.raises(FormatError, match=r"sample\.n5, which is not there"):
        imload(path)
