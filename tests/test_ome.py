"""OME-XML: facts are read with tolerance, sets of files are assembled, and what we write others read."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import tifffile
import xarray as xr

from intake_img import imload, imsave, scan
from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.tif.driver import Tif
from intake_img.formats.tif.ome import channel_metadata, parse_ome
from intake_img.model.image import Image

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
NAMESPACE = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
PIXELS = 'ID="Pixels:0" Type="uint8" SizeX="4" SizeY="3"'


def document(inner="", attributes='SizeZ="1" SizeC="1" SizeT="1" DimensionOrder="XYZCT"', root=NAMESPACE, name="one"):
    pixels = f"<Pixels {PIXELS} {attributes}>{inner}</Pixels>"
    return f'{HEAD}<OME {root}><Image ID="Image:0" Name="{name}">{pixels}</Image></OME>'


@pytest.mark.parametrize("root", [NAMESPACE, "", 'xmlns="http://example.org/other"', 'xmlns:xsi="x" xsi:a="b"'])
def test_namespaces_do_not_matter(root):
    (image,) = parse_ome(document(root=root)).images
    assert (image.name, image.order, image.sizes["x"], image.sizes["y"]) == ("one", "tczyx", 4, 3)


def test_prefixes_without_namespaces_are_understood():
    text = document(root='xsi:schemaLocation="a b"').replace("<Image", "<ome:Image").replace("</Image", "</ome:Image")
    assert parse_ome(text).images[0].name == "one"


@pytest.mark.parametrize(
    ("attributes", "spacing", "units"),
    [
        ('PhysicalSizeX="0.5"', 0.5, "µm"),  # the schema's default
        ('PhysicalSizeX="0.5" PhysicalSizeXUnit="micron"', 0.5, "µm"),
        ('PhysicalSizeX="0.5" PhysicalSizeXUnit="\u03bcm"', 0.5, "µm"),
        ('PhysicalSizeX="500" PhysicalSizeXUnit="nm"', 500, "nm"),
        ('PhysicalSizeX="0.0"', None, "µm"),
        ('PhysicalSizeX="-1"', None, "µm"),
        ('PhysicalSizeX="NaN"', None, "µm"),
        ('PhysicalSizeX="lots"', None, "µm"),
        ('PhysicalSizeX="1.0" PhysicalSizeXUnit="pixel"', None, None),
        ('PhysicalSizeX="0.5" PhysicalSizeXUnit="reference frame"', None, None),
        ('PhysicalSizeX="0.5" PhysicalSizeXUnit=""', 0.5, "µm"),
        ('PhysicalSizeX="3" PhysicalSizeXUnit="thou"', 3, "thou"),
    ],
)
def test_physical_sizes(attributes, spacing, units):
    (image,) = parse_ome(document(attributes=attributes)).images
    assert image.spacing.get("x") == spacing
    assert image.units.get("x") == units


def test_channels_have_names_colours_and_wavelengths():
    inner = (
        '<Channel Name="GFP" Color="16711935" EmissionWavelength="509" Fluor="EGFP"/>'
        '<Channel Name="RFP" Color="-16776961" EmissionWavelength="0.607" EmissionWavelengthUnit="µm" Fluor="x"/>'
    )
    (image,) = parse_ome(document(inner, 'SizeC="2"')).images
    assert image.channel_names == ["GFP", "RFP"]
    attrs = image.channel_attrs()
    assert attrs["color"] == ["#00FF00", "#FF0000"]
    assert attrs["emission_wavelength"] == pytest.approx([509, 607])
    assert attrs["fluor"] == ["EGFP", "x"]
    again = channel_metadata(image.channel_names, attrs, 2)
    assert again["Color"] == [16711935, -16776961]
    assert channel_metadata(None, {"color": ["red", "green"]}, 2) == {}


@pytest.mark.parametrize(
    ("inner", "names"),
    [
        ('<Channel Name="GFP"/><Channel/>', ["GFP", "Channel:1"]),
        ('<Channel ID="Channel:0:0" Name=" "/><Channel ID="Channel:0:1" Name="GFP"/>', ["Channel:0:0", "GFP"]),
        ('<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1" Name=""/>', None),
        ('<Channel Name="GFP"/>', None),
    ],
)
def test_channels_without_a_name_beside_others_have_their_identifiers(inner, names):
    (image,) = parse_ome(document(inner, 'SizeC="2"')).images
    assert image.channel_names == names


@pytest.mark.parametrize(
    ("deltas", "unit", "stamps", "step", "origin"),
    [
        ([0, 1, 2.5], "s", [0, 1, 2.5], None, 0),
        ([500, 1500, 2500], "ms", None, 1000, 500),
        ([0, None, 2], "s", None, None, 0),
        ([3, 2, 1], "s", None, None, 0),
    ],
)
def test_time_stamps(deltas, unit, stamps, step, origin):
    planes = "".join(
        f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{d}" DeltaTUnit="{unit}"/>'
        for t, d in enumerate(deltas)
        if d is not None
    )
    (image,) = parse_ome(document(planes, 'SizeT="3"')).images
    coord, spacing, start = image.time()
    assert (spacing, start) == (step, origin)
    if stamps is None:
        assert coord is None
    else:
        assert coord.values.tolist() == stamps
        assert coord.attrs == {"units": unit}


@pytest.mark.parametrize(
    "text",
    [
        "<OME",
        document(attributes='DimensionOrder="XXYZC"'),
        document(attributes='SizeT="many"'),
        document(attributes='SizeC="0"'),
        '<!DOCTYPE x [<!ENTITY a "b">]>' + document().removeprefix(HEAD),
    ],
)
def test_damaged_documents_are_refused(text):
    with pytest.raises(FormatError):
        parse_ome(text)


# files


def write(path, values, text):
    tifffile.imwrite(path, values, photometric="minisblack", description=text.encode(), metadata=None, ome=False)


def planes_of(uuids, axes="T"):
    return "".join(
        f'<TiffData First{axes}="{k}" IFD="{ifd}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
        for k, (name, ifd) in enumerate(uuids)
    )


@pytest.fixture
def file_set(tmp_path):
    values = np.arange(4 * 3 * 4, dtype="u1").reshape(4, 3, 4)
    inner = planes_of([("b.ome.tif", 0), ("a.ome.tif", 1), ("a.ome.tif", 0), ("b.ome.tif", 1)])
    text = document('<Channel Name="GFP"/>' + inner, 'SizeT="4" TimeIncrement="2"')
    for name, pages in (("a", [2, 1]), ("b", [0, 3])):
        own = text.replace("<OME ", f'<OME UUID="urn:uuid:{name}.ome.tif" ')
        write(tmp_path / f"{name}.ome.tif", values[pages], own)
    return values


@pytest.mark.parametrize("name", ["a.ome.tif", "b.ome.tif"])
def test_sets_of_files(tmp_path, file_set, name):
    ds = imload(tmp_path / name)
    assert ds.image.dims == ("t", "c", "y", "x")
    assert ds.c.values.tolist() == ["GFP"]
    np.testing.assert_array_equal(ds.image[:, 0], file_set)
    np.testing.assert_array_equal(ds.image[1:3, 0, 1:, 2], file_set[1:3, 1:, 2])
    assert ds.t.attrs == {"spacing": 2.0, "units": "s"}


def test_sets_of_files_through_fsspec(tmp_path, file_set):
    import fsspec

    fs = fsspec.filesystem("memory")
    for name in ("a", "b"):
        fs.pipe(f"/set/{name}.ome.tif", (tmp_path / f"{name}.ome.tif").read_bytes())
    np.testing.assert_array_equal(imload("memory://set/b.ome.tif").image[:, 0], file_set)


def test_planes_of_a_missing_member_read_as_0(tmp_path, file_set):
    (tmp_path / "b.ome.tif").unlink()
    planes = pytest.warns(UserWarning, match="2 of 4 planes of 'one' are missing; they read as 0")
    named = pytest.warns(UserWarning, match=r"a\.ome\.tif is part of a set of files, of which 1 .*: 'b\.ome\.tif'; put")
    with planes, named:
        ds = imload(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(ds.image[1:3, 0], file_set[1:3])
    assert not ds.image[[0, 3]].values.any()


def test_sets_with_a_missing_member_are_listed(tmp_path, file_set):
    (tmp_path / "b.ome.tif").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = scan(tmp_path)
    assert len(found) == 1
    assert not found.skipped


@pytest.mark.parametrize("uri", ["", "*.ome.tif", "{i}.ome.tif"])
def test_the_files_of_a_set_are_no_sequence(tmp_path, file_set, uri):
    """Each of them is the complete image: together they would have it once for each file."""
    with pytest.raises(FormatError, match=r"parts of one image: open one of them, .*a\.ome\.tif"):
        imload(f"{tmp_path}/{uri}")
    assert [source.to_dask().image.shape for source in scan(tmp_path).values()] == [(4, 1, 3, 4)] * 2


def test_files_of_several_sets_are_a_sequence(tmp_path, file_set):
    (tmp_path / "x").mkdir()
    for name in ("a", "b"):
        (tmp_path / "x" / f"{name}.ome.tif").write_bytes((tmp_path / f"{name}.ome.tif").read_bytes())
    found = imload(f"{tmp_path}/**/a.ome.tif", axis="i")
    np.testing.assert_array_equal(found.image[:, :, 0], [file_set, file_set])


def test_files_elsewhere_are_not_read(tmp_path):
    inner = planes_of([("../secret.tif", 0)])
    write(tmp_path / "a.ome.tif", np.zeros((3, 4), "u1"), document(inner, root=f'UUID="urn:uuid:a" {NAMESPACE}'))
    with pytest.raises(FormatError, match=r"names the file '\.\./secret\.tif'"):
        imload(tmp_path / "a.ome.tif")


def test_a_renamed_file_is_no_set(tmp_path):
    values = np.arange(24, dtype="u1").reshape(2, 3, 4)
    write(tmp_path / "new.ome.tif", values, document(planes_of([("old.ome.tif", 0), ("old.ome.tif", 1)]), 'SizeT="2"'))
    np.testing.assert_array_equal(imload(tmp_path / "new.ome.tif").image, values)


def companion(tmp_path):
    values = np.arange(24, dtype="u1").reshape(2, 3, 4)
    binary = f'{HEAD}<OME {NAMESPACE}><BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:a"/></OME>'
    write(tmp_path / "a.ome.tif", values, binary)
    inner = planes_of([("a.ome.tif", 1), ("a.ome.tif", 0)], "Z")
    (tmp_path / "set.companion.ome").write_text(document(inner, 'SizeZ="2"'))
    return values


@pytest.mark.parametrize("name", ["a.ome.tif", "set.companion.ome"])
def test_companion_files(tmp_path, name):
    values = companion(tmp_path)
    ds = imload(tmp_path / name)
    assert ds.image.dims == ("z", "y", "x")
    assert ds.attrs["driver"] == "tif"
    np.testing.assert_array_equal(ds.image, values[::-1])


def test_without_its_companion_a_file_is_pages(tmp_path):
    values = companion(tmp_path)
    (tmp_path / "set.companion.ome").unlink()
    with pytest.warns(UserWarning, match=r"a\.ome\.tif: .* that set\.companion\.ome describes, which is missing"):
        ds = imload(tmp_path / "a.ome.tif", output_axis_order=None)
    assert ds.image.dims == ("i", "y", "x")
    np.testing.assert_array_equal(ds.image, values)


@pytest.mark.parametrize("text", ["<OME", f"<OME {NAMESPACE}/>", document(attributes='SizeT="many"')])
def test_with_a_damaged_companion_a_file_is_pages(tmp_path, text):
    values = companion(tmp_path)
    (tmp_path / "set.companion.ome").write_text(text)
    with pytest.warns(UserWarning, match=r"set\.companion\.ome, which describes it, cannot be used"):
        ds = imload(tmp_path / "a.ome.tif", output_axis_order=None)
    np.testing.assert_array_equal(ds.image, values)


def test_a_companion_without_its_files_holds_nothing(tmp_path):
    companion(tmp_path)
    (tmp_path / "a.ome.tif").unlink()
    missing = pytest.warns(UserWarning, match=r"1 are missing: 'a\.ome\.tif'")
    with missing, pytest.raises(FormatError, match=r"set\.companion\.ome contains no image"):
        imload(tmp_path / "set.companion.ome")


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}<OME {NAMESPACE}><Image",
        document(attributes='DimensionOrder="XXYZC"'),
        document(attributes='SizeT="many"'),
        document(attributes='SizeT="1000000000"'),
        document(attributes='SizeT="1000000000000000"'),  # there is no memory for so many times
        document('<TiffData IFD="0" PlaneCount="1"/>', 'SizeT="90000" SizeC="40000"'),
        HEAD + '<!DOCTYPE x [<!ENTITY a "b">]>' + document().removeprefix(HEAD),
    ],
)
def test_documents_that_make_no_sense_are_left_out(tmp_path, text):
    values = np.arange(24, dtype="u1").reshape(2, 3, 4)
    text = text if text.rstrip().endswith("OME>") else text + "></OME>"
    write(tmp_path / "a.ome.tif", values, text)
    with pytest.warns(UserWarning, match=r"a\.ome\.tif: its OME-XML .* (left out|ignored)"):
        ds = imload(tmp_path / "a.ome.tif", output_axis_order=None)
    assert ds.image.dims == ("i", "y", "x")
    np.testing.assert_array_equal(ds.image, values)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ('<TiffData IFD="0" PlaneCount="1"/><TiffData FirstT="2" IFD="7" PlaneCount="1"/>', [0, None, None]),
        ('<TiffData IFD="0" PlaneCount="3"/>', [0, 1, None]),
        ('<TiffData IFD="1" PlaneCount="4000000000"/>', [1, None, None]),
        ('<TiffData IFD="0" PlaneCount="1"/><TiffData FirstT="9" IFD="1" PlaneCount="1"/>', [0, None, None]),
    ],
)
def test_planes_beyond_the_pages_read_as_0(tmp_path, data, wanted):
    values = np.arange(1, 25, dtype="u1").reshape(2, 3, 4)
    write(tmp_path / "a.ome.tif", values, document(data, 'SizeT="3"'))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ds = imload(tmp_path / "a.ome.tif")
    assert any(f"{wanted.count(None)} of 3 planes of 'one' are missing" in str(w.message) for w in told)
    zeros = np.zeros((3, 4), "u1")
    np.testing.assert_array_equal(ds.image, [zeros if k is None else values[k] for k in wanted])


def test_stray_prefixes_in_a_file(tmp_path):
    values = np.arange(24, dtype="u1").reshape(2, 3, 4)
    text = document('<Channel Name="A"/><Channel Name="B"/>', 'SizeC="2"', root="").replace("<", "<ome:")
    text = text.replace("<ome:/", "</ome:").replace("<ome:?", "<?")
    write(tmp_path / "a.ome.tif", values, text)
    ds = imload(tmp_path / "a.ome.tif")
    assert ds.c.values.tolist() == ["A", "B"]
    np.testing.assert_array_equal(ds.image, values)


def test_missing_planes_are_told(tmp_path):
    write(tmp_path / "a.ome.tif", np.ones((2, 3, 4), "u1"), document(attributes='SizeT="3"'))
    with pytest.warns(UserWarning, match="1 of 3 planes of 'one' are missing; they read as 0"):
        ds = imload(tmp_path / "a.ome.tif")
    assert ds.image.values.sum(axis=(1, 2)).tolist() == [12, 12, 0]


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "frame"])
def test_sizes_in_pixels_are_unknown_and_stay_so(tmp_path, unit):
    attributes = " ".join(f'PhysicalSize{a}="2" PhysicalSize{a}Unit="{unit}"' for a in "XYZ")
    attributes += f' TimeIncrement="3" TimeIncrementUnit="{unit}" SizeT="2" SizeZ="2"'
    write(tmp_path / "a.ome.tif", np.ones((4, 3, 4), "u1"), document(attributes=attributes))
    for path in (tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"):
        ds = imload(path)
        assert ds.image.shape == (2, 2, 3, 4)
        assert not set("tzyx") & set(ds.coords)
        if not (tmp_path / "b.ome.tif").exists():
            imsave(ds, tmp_path / "b.ome.tif")
            forget(tmp_path / "b.ome.tif")
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tif:
        assert "PhysicalSize" not in tif.ome_metadata
        assert "TimeIncrement" not in tif.ome_metadata


def test_times_in_frames_are_unknown():
    inner = "".join(f'<Plane TheC="0" TheZ="0" TheT="{t}" DeltaT="{t}" DeltaTUnit="frame"/>' for t in range(3))
    (image,) = parse_ome(document(inner, 'SizeT="3" DimensionOrder="XYZCT"')).images
    assert image.time() == (None, None, 0.0)


# what we write


def image(**more):
    values = np.arange(3 * 2 * 4 * 8 * 10, dtype="u2").reshape(3, 2, 4, 8, 10)
    coords = {
        "t": ("t", [0.5, 1.0, 4.0], {"units": "min"}),
        "c": ("c", ["DAPI & co", "<GFP>"], {"color": ["#0000FF", "#00FF00"], "emission_wavelength": [461.0, 509.0]}),
        "z": ("z", 2.5 * np.arange(4), {"units": "µm", "spacing": 2.5}),
        "y": ("y", 250.0 * np.arange(8), {"units": "nm", "spacing": 250.0}),
        "x": ("x", 0.25 * np.arange(10), {"units": "µm", "spacing": 0.25}),
    }
    return xr.Dataset({"image": (tuple("tczyx"), values)}, coords | more)


def forget(path):
    """Take away the record, so that the facts of the format alone are read."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[65100].overwrite("{}")


def test_others_read_what_we_write(tmp_path):
    path = tmp_path / "a.ome.tif"
    imsave(image(), path)
    with tifffile.TiffFile(path) as tif:
        (series,) = tif.series
        text = tif.ome_metadata
        np.testing.assert_array_equal(series.asarray(), image().image.transpose("t", "z", "c", "y", "x"))
    assert series.axes == "TZCYX"
    assert 'PhysicalSizeX="0.25" PhysicalSizeXUnit="µm" PhysicalSizeY="250.0" PhysicalSizeYUnit="nm"' in text
    assert 'Name="DAPI &amp; co"' in text
    assert re.search('TheC="1" TheZ="3" TheT="2" DeltaT="4.0" DeltaTUnit="min"', text)


def test_the_format_alone_says_it_all(tmp_path):
    path = tmp_path / "a.ome.tif"
    imsave(image(), path)
    forget(path)
    xr.testing.assert_identical(imload(path).load().drop_attrs(deep=False), image())


def test_increments_of_time(tmp_path):
    path = tmp_path / "a.ome.tif"
    wanted = image(t=("t", 5.0 * np.arange(3), {"units": "ms", "spacing": 5.0}))
    imsave(wanted, path)
    forget(path)
    xr.testing.assert_identical(imload(path).load().drop_attrs(deep=False), wanted)
    with tifffile.TiffFile(path) as tif:
        assert 'TimeIncrement="5.0" TimeIncrementUnit="ms"' in tif.ome_metadata


def test_what_ome_cannot_hold(tmp_path):
    many = xr.DataArray(np.zeros((2, 4, 5), "u1"), dims=("h", "y", "x"))
    with pytest.raises(CannotWriteError, match=r"no 'h': save as \.tif or \.zarr"):
        Tif().write(Image.from_xarray(many), str(tmp_path / "a"), name="a.ome.tif")
    with pytest.raises(CannotWriteError, match=r"dtype int64: .* labels, with \.astype\('int32'\)"):
        imsave(many[0].astype("i8"), tmp_path / "a.ome.tif")
    with pytest.raises(CannotWriteError, match="needs the axes y and x"):
        imsave(many[0].rename(y="t"), tmp_path / "a.ome.tif")
    assert not list(tmp_path.iterdir())
    imsave(many[:1], tmp_path / "a.ome.tif")  # an axis of length 1 comes back
    assert imload(tmp_path / "a.ome.tif").image.dims == ("h", "y", "x")


def test_one_named_channel_keeps_its_axis(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((5, 6), "u1"), metadata={"axes": "YX", "Channel": {"Name": "GFP"}})
    ds = imload(path)
    assert ds.image.dims == ("c", "y", "x")
    assert ds.c.values.tolist() == ["GFP"]


def test_headers_are_kept(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((5, 6), "u1"), metadata={"axes": "YX", "Description": "a cell"})
    import json

    header = json.loads(imload(path).attrs["fileheader"])
    assert header["format"] == "ome"
    assert "<Description>a cell</Description>" in header["ome"]
