"""Damage that once crashed, hung or went unnoticed, and the damages that the law on damaged files tries."""

from __future__ import annotations

import collections
import struct

import pytest

from intake_img import imload
from intake_img.errors import FormatError
from intake_img.formats.registry import formats
from intake_img.testing.damage import FOREIGN, cases

pytestmark = pytest.mark.thorough


def sample(driver, folder):
    return formats()[driver].sample(str(folder))[0]


def changed(path, old, new):
    with open(path, "rb") as stream:
        data = stream.read()
    assert old in data
    with open(path, "wb") as stream:
        stream.write(data.replace(old, new))
    return path


def test_each_kind_of_damage_is_tried(tmp_path):
    path = tmp_path / "a.mha"
    path.write_bytes(b"ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementSpacing = 0.5 0.25 2\n" + bytes(300))
    found = list(cases(path, 300, 1))
    assert found == list(cases(path, 300, 1))
    kinds = collections.Counter(kind for kind, *_ in found)
    assert kinds["foreign"] == len(FOREIGN)
    assert all(kinds[kind] >= 100 for kind in ("truncated", "flipped", "extreme"))
    extremes = [content for kind, _, _, content in found if kind == "extreme"]
    assert any(b"99999999999999999999" in content for content in extremes)
    assert any(b"\xff\xff\xff\xff" in content for content in extremes)


@pytest.mark.parametrize("name", [b"", b".", b"a.mha/b"])
def test_pixels_in_a_folder(name, tmp_path):
    path = changed(sample("metaimage", tmp_path), b"LOCAL\n", name + b"\n")
    with pytest.raises(FormatError, match="which is missing"):
        imload(path)


@pytest.mark.parametrize("number", [-1, 33, 2**39])
def test_markers_that_are_no_bits(number, tmp_path):
    pytest.importorskip("ptufile")
    path = sample("ptu", tmp_path)
    start = b"ImgHdr_LineStart".ljust(32, b"\0") + struct.pack("<iI", -1, 0x10000008)
    changed(path, start + struct.pack("<q", 1), start + struct.pack("<q", number))
    with pytest.raises(FormatError, match=f"ImgHdr_LineStart is {number}"):
        imload(path)


@pytest.mark.parametrize("stop", [309, 319, 400])
def test_a_slice_that_ends_within_its_header(stop, tmp_path):
    pytest.importorskip("pydicom")
    path = sample("dicom", tmp_path)
    with open(f"{path}/IM2", "r+b") as stream:
        stream.truncate(stop)
    with pytest.raises(FormatError, match="IM2 ends before its pixels"):
        imload(path)


def test_an_index_that_names_fewer_images_than_there_are(tmp_path):
    path = sample("ndtiff", tmp_path)
    with open(f"{path}/NDTiff.index", "r+b") as stream:
        stream.truncate(2 * 81)
    with pytest.warns(UserWarning, match="contains more images than its index names"):
        assert imload(path).sizes["c"] == 2


def test_groups_whose_names_are_no_text(tmp_path):
    pytest.importorskip("h5py")
    path = changed(sample("ims", tmp_path), b"ResolutionLevel 1", b"ResolutionLevel \xff")
    assert imload(path)["image"].shape == (2, 2, 3, 12, 20)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [(322, 2**24, "larger tiles than"), (325, 2**40, "larger tiles than"), (270, 0, "beyond its end")],
)
def test_slides_with_tiles_larger_than_the_file(tag, value, message, tmp_path):
    """OpenSlide would end the process (GLib cannot allocate) instead of raising an error."""
    pytest.importorskip("openslide")
    path = sample("slide", tmp_path)
    with open(path, "r+b") as stream:
        data = bytearray(stream.read())
        at = struct.unpack_from("<Q", data, 8)[0]
        count = struct.unpack_from("<Q", data, at)[0]
        entries = [at + 8 + 20 * k for k in range(count)]
        entry = next(e for e in entries if struct.unpack_from("<H", data, e)[0] == tag)
        if tag == 270:
            struct.pack_into("<Q", data, entry + 4, 2**36)
        else:
            struct.pack_into("<HQQ", data, entry + 2, 16, 1, value)
        stream.seek(0)
        stream.write(data)
    with pytest.raises(FormatError, match=message):
        imload(path)


@pytest.mark.parametrize("stop", [0, 100, 128, 129, 131])
def test_a_slice_that_ends_before_its_first_attribute(stop, tmp_path):
    pytest.importorskip("pydicom")
    path = sample("dicom", tmp_path)
    with open(f"{path}/IM1", "r+b") as stream:
        stream.truncate(stop)
    with pytest.raises(FormatError, match="IM1 ends or contains zeros before its first attribute"):
        imload(path)


@pytest.mark.parametrize("name", ["Rows", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"])
def test_several_numbers_where_one_is_expected(name, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path = sample("dicom", tmp_path)
    ds = pydicom.dcmread(f"{path}/IM1")
    ds[name].value = [2, 3]
    ds.save_as(f"{path}/IM1")
    with pytest.raises(FormatError, match=rf"{name} is \[2, 3\]: expected one whole number"):
        imload(f"{path}/IM1").load()


def _heap(path):
    """Where the global heap of an HDF5 file begins, its bytes, and the bytes of the file."""
    with open(path, "rb") as stream:
        data = bytearray(stream.read())
    return data.index(b"GCOL"), data


@pytest.mark.parametrize(
    ("skip", "code", "value"),
    [
        (8, "<Q", 2**40),  # larger than the file
        (8, "<Q", 3),
        (16, "<H", 0),  # free space that ends within its own header: HDF5 takes it for all of 0 bytes, without end
        (24, "<Q", 2**63),  # the first object
        (24, "<Q", 4090),
    ],
)
def test_heaps_that_hdf5_would_walk_without_end(skip, code, value, tmp_path):
    pytest.importorskip("h5py")
    path = sample("hdf5", tmp_path)
    at, data = _heap(path)
    struct.pack_into(code, data, at + skip, value)
    if code == "<H":
        struct.pack_into("<Q", data, at + 24, 0)
    with open(path, "wb") as stream:
        stream.write(data)
    with pytest.raises(FormatError, match=f"the heap at byte {at}"):
        imload(path)


def test_pixels_that_begin_like_a_heap(tmp_path):
    h5py = pytest.importorskip("h5py")
    values = bytearray(400)
    values[:4] = b"GCOL"
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["a"] = [values[k : k + 20] for k in range(0, 400, 20)]
    assert bytes(imload(tmp_path / "a.h5")["image"].values.ravel()[:4]) == b"GCOL"


def test_attributes_of_unknown_kind_are_not_read(tmp_path):
    """HDF5 ends the process on lists of variable length whose description is damaged."""
    h5py = pytest.importorskip("h5py")
    path = sample("hdf5", tmp_path)
    with h5py.File(path) as f:
        kind = h5py.h5a.open(f["volume/data"].id, b"axis_units").get_type()
    assert kind.is_variable_str()
    with open(path, "rb") as stream:
        data = bytearray(stream.read())
    at = data.index(b"axis_units\0") + 16
    assert data[at : at + 2] == b"\x19\x01"  # class 9, variable length; kind 1, text
    data[at + 1] = 0xDE
    with open(path, "wb") as stream:
        stream.write(data)
    ds = imload(path)
    assert dict(ds.img.spacing) == {"z": 1.5, "y": 0.25, "x": 0.25}
    assert "axis_units" not in ds.attrs["fileheader"]


@pytest.mark.parametrize(
    ("at", "code", "value", "message"),
    [
        (0x80, "<I", 0x18, "run in circles"),  # the tag behind the first one is the first one
        (0x80, "<I", 2**31, "a tag is at byte"),
        (0xD8, "<I", 2**20, "ends before the contents of a tag"),
        (0x174, "<i", 65535, "an axis has the number 65535"),
        (0x174, "<i", -1, "an axis has the number -1"),
    ],
)
def test_trees_of_vsi_that_slideio_would_not_survive(at, code, value, message, tmp_path):
    pytest.importorskip("slideio")
    path = sample("vsi", tmp_path)
    with open(path, "r+b") as stream:
        stream.seek(at)
        stream.write(struct.pack(code, value))
    with pytest.raises(FormatError, match=message):
        imload(path)


@pytest.mark.parametrize("first", ["(nan,0,0)", "(1e308,1e308,0)", "(0,1,0)"])
def test_directions_that_span_no_space(first, tmp_path):
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nencoding: raw\nspace: LPS\n"
    header += f"space directions: {first} (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(24))
    with pytest.warns(UserWarning, match="do not span a space: directions and origin are left out"):
        ds = imload(tmp_path / "a.nrrd")
    assert "affine" not in ds.attrs


@pytest.mark.parametrize("kind", [[], {}, None, 3])
def test_a_type_that_is_no_text(kind, tmp_path):
    import json

    path = sample("n5", tmp_path)
    folder = next(p for p in (tmp_path / "sample.n5").rglob("attributes.json") if "dataType" in p.read_text())
    folder.write_text(json.dumps({**json.loads(folder.read_text()), "dataType": kind}))
    with pytest.raises(FormatError, match=r"sample\.n5"):
        imload(path)
