"""Writers take ``compress=`` in one way: exactly the values that a format knows; a number is a level, never a bool."""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

import intake_img
from intake_img.errors import CannotWriteError
from intake_img.formats.compression import codec_of, level_of, level_of_name

CODECS = {None: "none", False: "none", True: "good", "good": "good"}


@pytest.mark.parametrize(("given", "codec"), [*CODECS.items(), (np.True_, "good"), (np.False_, "none")])
def test_a_codec_is_found_by_its_name(given, codec):
    assert codec_of(given, CODECS, "X") == codec


@pytest.mark.parametrize("given", [0, 1, 1.0, 0.0, "", "Good", [], {}, ["good"], np.int8(1), float("nan")])
def test_what_a_format_does_not_know_is_refused(given):
    with pytest.raises(CannotWriteError, match="expected False, True or 'good' for X"):
        codec_of(given, CODECS, "X")


def test_levels():
    assert [level_of(c, 6) for c in (None, True, np.True_)] == [6, 6, 6]
    assert [level_of(c, 6) for c in (1, 9, np.uint8(4))] == [1, 9, 4]
    for wrong in (0, 10, -1, False, "gzip", 5.0, [5]):
        with pytest.raises(CannotWriteError, match="a level from 1"):
            level_of(wrong, 6)


PACKED = {".gz": "gzip", ".bz2": "bzip2"}


@examples(60)
@given(st.sampled_from(["a.x", "A.X.GZ", "a.x.bz2"]), st.sampled_from([None, True, False, 0, 1, 9, 10, "gzip"]))
def test_the_name_says_whether_a_file_is_compressed(name, compress):
    method = PACKED.get(name.lower()[3:])
    good = (None, False) if method is None else (None, True, 1, 9)
    if any(compress is g or (type(compress) is int and compress == g) for g in good if type(g) is type(compress)):
        level = compress if type(compress) is int else 3
        assert level_of_name(compress, name, PACKED, 3) == (method, level)
        return
    with pytest.raises(CannotWriteError, match=r"compress="):
        level_of_name(compress, name, PACKED, 3)


def test_what_contradicts_the_name_is_explained():
    with pytest.raises(CannotWriteError, match=r"compress=False: \.x is not compressed, \.x\.gz and \.x\.bz2 are"):
        level_of_name(False, "a.x.gz", PACKED, 3)
    with pytest.raises(CannotWriteError, match=r"compress=True: \.nii is not compressed, \.nii\.gz is"):
        level_of_name(True, "a.nii", {".gz": "gzip"}, 3)


@pytest.fixture(scope="module")
def image():
    return xr.Dataset({"image": (("z", "y", "x"), np.random.default_rng(0).poisson(3, (4, 60, 70)).astype("u2"))})


@pytest.mark.parametrize("name", ["a.mrc.gz", "a.nii.gz"])
def test_level_one_of_gzip_is_level_one(tmp_path, image, name):
    for level, said in ((1, 4), (9, 2)):  # RFC 1952: the extra flags of the quickest and of the best
        (path,) = intake_img.imsave(image, tmp_path / str(level) / name, compress=level)
        with open(path, "rb") as stream:
            assert stream.read(9)[8] == said
        with gzip.open(path) as stream:
            assert image["image"].values.tobytes() in stream.read()


def test_level_one_of_zlib_is_level_one(tmp_path, image):
    for level in (1, 4, 9, True):
        (path,) = intake_img.imsave(image, tmp_path / f"{level}.mha", compress=level)
        with open(path, "rb") as stream:
            packed = stream.read().partition(b"ElementDataFile = LOCAL\n")[2]
        assert packed[:2] == zlib.compress(b"", 4 if level is True else level)[:2]
        assert zlib.decompress(packed) == image["image"].values.tobytes()


ENDS = [
    "exr",
    "nrrd",
    "mha",
    "nii",
    "nii.gz",
    "fits",
    "mrc",
    "h5",
    "npz",
    "npy",
    "png",
    "bin",
    "czi",
    "tif",
    "zarr",
    "dcm",
    "precomputed",
]


@pytest.mark.parametrize("wrong", [["gzip"], {}, "strange", 0.5])
@pytest.mark.parametrize("end", ENDS)
def test_every_writer_refuses_what_it_does_not_know(tmp_path, image, end, wrong):
    plane = image.isel(z=0).astype("u4" if end == "exr" else "u2")
    with pytest.raises(CannotWriteError, match="compress"):
        intake_img.imsave(plane, tmp_path / f"a.{end}", compress=wrong)
    assert list(tmp_path.iterdir()) == []
