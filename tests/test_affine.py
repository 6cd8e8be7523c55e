"""Affine maps follow crops, strides and files; where the position is not known any more there is none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.model.affine import Affine
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels

pytestmark = pytest.mark.thorough

TURN = np.array([[0.8, -0.6, 0, 11.5], [0.6, 0.8, 0, -7.25], [0, 0, 1, 3], [0, 0, 0, 1.0]])
MATRIX = TURN @ np.diag([0.3, 0.7, 1.1, 1])
VALUES = np.arange(6 * 7 * 8, dtype="i2").reshape(6, 7, 8)


def volume(affine=None):
    image = Image.single(Pixels.of(VALUES), "zyx").placed(affine or Affine(MATRIX, "RAS+", "mm"))
    return image.to_xarray(chunks={})


def test_the_file_s_matrix_comes_back_exactly():
    ds = volume()
    assert (ds.img.affine() == MATRIX).all()
    assert (ds.img.affine("LPS+") == np.diag([-1, -1, 1, 1]) @ MATRIX).all()
    assert ds.img.spacing == pytest.approx({"x": 0.3, "y": 0.7, "z": 1.1})
    assert ds.img.units == {"x": "mm", "y": "mm", "z": "mm"}
    assert Image.from_xarray(ds).affine.matrix.tolist() == MATRIX.tolist()
    assert ds.image.img.affine() is None or (ds.image.img.affine() == MATRIX).all()


@examples(30)
@given(st.data())
def test_crops_and_strides_are_followed(data):
    ds = volume()
    keys = {}
    for axis, n in (("x", 8), ("y", 7), ("z", 6)):
        start = data.draw(st.integers(0, n - 2))
        keys[axis] = slice(start, data.draw(st.integers(start + 1, n)), data.draw(st.integers(1, 3)))
    part = ds.isel(keys)
    found = part.img.affine()
    for index in ((0, 0, 0), tuple(part.sizes[a] - 1 for a in "xyz")):
        source = [keys[a].start + keys[a].step * k for a, k in zip("xyz", index, strict=True)]
        if all(part.sizes[a] > 1 or k == 0 for a, k in zip("xyz", index, strict=True)):
            np.testing.assert_allclose(found @ [*index, 1], MATRIX @ [*source, 1], rtol=1e-12, atol=1e-12)


def test_one_slice_a_flip_and_a_gap():
    ds = volume()
    np.testing.assert_allclose(ds.isel(z=4).img.affine() @ [1, 2, 0, 1], MATRIX @ [1, 2, 4, 1])
    np.testing.assert_allclose(ds.isel(x=slice(None, None, -1)).img.affine() @ [0, 2, 0, 1], MATRIX @ [7, 2, 0, 1])
    assert ds.isel(z=[0, 1, 4]).img.affine() is None
    assert ds.mean("z").img.affine() is None
    assert ds.drop_vars("x").img.affine() is None


@pytest.mark.parametrize("ending", ["nii", "nrrd", "mha", "ome.zarr", "tif"])
def test_padded_images_are_saved_without_it(tmp_path, ending):
    """`pad` fills coordinates with NaN, one of a single plane too: the position is not known, and saving works."""
    for ds in (volume().pad(x=1, constant_values=0), volume().isel(x=[0]).assign_coords(x=[np.nan])):
        assert Image.from_xarray(ds).affine is None
        assert ds.img.affine() is None
        imsave(ds, tmp_path / f"a.{ending}", overwrite=True)
        back = imload(tmp_path / f"a.{ending}")
        np.testing.assert_array_equal(back.image, ds.image)
        assert back.img.affine() is None
        assert "x" not in back.img.spacing


def test_files_of_other_formats_keep_it(tmp_path):
    part = volume().isel(x=slice(2, None))
    for name in ("a.ome.zarr", "a.ome.tif", "a.npz"):
        imsave(part, str(tmp_path / name))
        assert (imload(str(tmp_path / name)).img.affine() == part.img.affine()).all()
        again = imload(str(tmp_path / name), metadata={"spacing": {"x": 1.0}})
        assert again.img.affine() is None  # whoever knows better than the file knows better than its matrix


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan), np.diag([1, 1, 1, 2]), np.diag([1, 0, 1, 1])]
)
def test_what_is_no_affine_is_refused(bad):
    with pytest.raises(ValueError, match="affine"):
        Affine(bad)
    facts = {"matrix": bad.tolist(), "space": "RAS+", "unit": "", "grid": {}}
    assert Affine.of({"affine": json.dumps(facts)}) is None
    assert Affine.of({"affine": facts}) is None
    with pytest.raises(ValueError, match="space"):
        Affine(np.eye(4), "xyz")
    with pytest.raises(ValueError, match="space"):
        Affine(np.eye(4)).to("RAI")
