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
    with pytest.warns(UserWarning, match="holds more images than its index names"):
        assert imload(path).sizes["c"] == 2


def test_groups_whose_names_are_no_text(tmp_path):
    pytest.importorskip("h5py")
    path = changed(sample("ims", tmp_path), b"ResolutionLevel 1", b"ResolutionLevel \xff")
    assert imload(path)["image"].shape == (2, 2, 3, 12, 20)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [(322, 2**24, "larger than they can be"), (325, 2**40, "larger than they can be"), (270, 0, "behind its end")],
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
