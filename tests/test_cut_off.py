"""Files that promise more than they hold open as far as they go, with a warning that says what is missing.

Files that hold more than their header describes open with a warning: a size in the header may be damaged, and then the
pixels are not what they were.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.formats.registry import formats

VALUES = np.arange(5 * 6 * 7, dtype="u2").reshape(5, 6, 7)  # z, y, x
WRITTEN = (".nii", ".nrrd", ".mha", ".mrc")
SAMPLES = ("dv", "mif", "spe")  # of these drivers


def files(folder):
    """Write a file of each format; yield its path and the image that it holds."""
    for ending in WRITTEN:
        path = folder / f"a{ending}"
        imsave(xr.Dataset({"image": (tuple("zyx"), VALUES)}), path)
        yield path
    for driver in (*SAMPLES, "ptu"):
        place = folder / driver
        place.mkdir()
        path, _ = formats()[driver].sample(str(place))
        yield place / path.rpartition("/")[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return {path.suffix[1:]: path for path in files(tmp_path_factory.mktemp("made"))}


@pytest.mark.parametrize("ending", [*(e[1:] for e in WRITTEN), *SAMPLES])
def test_what_is_there_opens_with_a_warning(made, ending, tmp_path):
    path = made[ending]
    whole = imload(path, output_axis_order=None)["image"].compute()
    content = path.read_bytes()
    short = tmp_path / path.name
    short.write_bytes(content[: len(content) - whole.nbytes // 5])
    with pytest.warns(UserWarning, match=rf"{path.name}.*contains (only )?\d+ of \d+"):
        found = imload(short, output_axis_order=None)["image"].compute()
    count = found.sizes[found.dims[0]]
    assert 0 < count < whole.sizes[whole.dims[0]]
    np.testing.assert_array_equal(found, whole[:count])


@pytest.mark.parametrize("ending", [*(e[1:] for e in WRITTEN), *SAMPLES, "ptu"])
def test_bytes_left_over_are_warned_of(made, ending, tmp_path):
    """The redundancy between the header and the size of the file tells of damaged sizes and data types."""
    path = made[ending]
    whole = imload(path)["image"].compute()
    longer = tmp_path / path.name
    longer.write_bytes(path.read_bytes() + bytes(8))
    with pytest.warns(UserWarning, match=rf"{path.name}.* has 8 bytes after the pixels"):
        found = imload(longer)["image"].compute()
    np.testing.assert_array_equal(found, whole)


def test_a_smaller_size_in_the_header_is_warned_of(tmp_path):
    path, _ = formats()["dv"].sample(str(tmp_path))
    content = bytearray(Path(path).read_bytes())
    content[0:4] = (4).to_bytes(4, "big")  # x was 5
    (tmp_path / "b.dv").write_bytes(content)
    with pytest.warns(UserWarning, match=r"b\.dv has 96 bytes after the pixels"):
        assert imload(tmp_path / "b.dv").sizes["x"] == 4


def test_deltavision_of_no_wavelengths(tmp_path):
    path, _ = formats()["dv"].sample(str(tmp_path))
    content = bytearray(Path(path).read_bytes())
    content[196:198] = bytes(2)
    (tmp_path / "b.dv").write_bytes(content)
    with pytest.warns(UserWarning, match="0 wavelengths: taken as 1"):
        assert imload(tmp_path / "b.dv").sizes["z"] == 6


def test_parts_of_a_fits_file_before_a_cut_are_read(tmp_path):
    from astropy.io import fits

    parts = [fits.PrimaryHDU(VALUES.astype("i2")), fits.ImageHDU(VALUES.astype("i2") + 1, name="next")]
    fits.HDUList(parts).writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    header = content.index(b"XTENSION")
    (tmp_path / "b.fits").write_bytes(content[: header + 2880 - 80])
    with pytest.warns(UserWarning, match=r"b\.fits: .* the 1 parts of the file before it are read"):
        np.testing.assert_array_equal(imload(tmp_path / "b.fits").image, VALUES)
    (tmp_path / "c.fits").write_bytes(content[: header + 2880 + 2 * 84])
    with pytest.warns(UserWarning, match=r"c\.fits contains only 2 of 5"):
        found = imload(tmp_path / "c.fits", scene=1).image
    np.testing.assert_array_equal(found, VALUES[:2] + 1)


def test_blocks_of_a_klb_file_before_a_cut_are_read(tmp_path):
    values = np.arange(3 * 40 * 50, dtype="u2").reshape(3, 40, 50)
    imsave(xr.Dataset({"image": (tuple("zyx"), values)}), tmp_path / "a.klb")
    content = (tmp_path / "a.klb").read_bytes()
    (tmp_path / "b.klb").write_bytes(content[: len(content) * 8 // 10])
    with pytest.warns(UserWarning, match=r"b\.klb contains \d of 3 along 'z'"):
        found = imload(tmp_path / "b.klb").image.compute()
    np.testing.assert_array_equal(found, values[: len(found)])
