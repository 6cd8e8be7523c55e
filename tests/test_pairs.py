"""Headers with their pixels in a file beside them: pairs of NIfTI, NRRD and MetaImage, judged by others."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, TargetExistsError, UnknownFormatError
from intake_img.testing import assert_same

PIXELS = {".hdr": ".img", ".nhdr": ".raw", ".mhd": ".raw"}
VALUES = (np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) * 37 % 251).astype("i2")


def volume(dtype="i2"):
    spaced = {
        a: (a, np.arange(n) * 0.25, {"units": "µm", "spacing": 0.25}) for a, n in zip("zyx", (3, 4, 5), strict=True)
    }
    return xr.Dataset(
        {"image": (tuple("czyx"), VALUES.astype(dtype))}, {**spaced, "c": ["DAPI", "GFP"]}, {"note": "kept"}
    )


def judged(path):
    """Return pixels in C order, as another library reads them."""
    if path.suffix == ".hdr":
        nibabel = pytest.importorskip("nibabel")
        found = nibabel.load(path)
        assert isinstance(found, (nibabel.Nifti1Pair, nibabel.Nifti2Pair))
        return np.asarray(found.dataobj).T.squeeze()
    if path.suffix == ".nhdr":
        return pytest.importorskip("nrrd").read(str(path), index_order="C")[0]
    simple = pytest.importorskip("SimpleITK")
    return np.moveaxis(simple.GetArrayFromImage(simple.ReadImage(str(path))), -1, 0)


@pytest.mark.filterwarnings("ignore:pixdim")
@pytest.mark.parametrize("ending", PIXELS)
def test_others_and_we_read_what_is_written(tmp_path, ending):
    path = tmp_path / f"my image{ending}"
    for dtype in ("u1", "i2", "f4"):
        given = volume(dtype)
        made = imsave(given, path, overwrite=True)
        assert made == [str(path), str(path.with_suffix(PIXELS[ending]))]
        assert path.with_suffix(PIXELS[ending]).stat().st_size == given.image.nbytes
        assert_same(imload(path), given)
        np.testing.assert_array_equal(judged(path), given.image)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.with_suffix(PIXELS[ending]).name]
    imsave(given, f"memory://pairs/a{ending}", overwrite=True)
    assert_same(imload(f"memory://pairs/a{ending}"), given)


def test_nifti_pairs_have_versions_and_capitals(tmp_path):
    imsave(volume(), tmp_path / "A.HDR", version=2)
    assert (tmp_path / "A.HDR").read_bytes()[:8] == b"\x1c\x02\0\0ni2\0"
    assert (tmp_path / "A.IMG").exists()
    assert_same(imload(tmp_path / "A.HDR"), volume())


@pytest.mark.parametrize("ending", [*PIXELS, ".bin"])
def test_many_files_replace_all_of_earlier_ones(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    imsave(volume(), path, partition="zyx")
    assert len(list(tmp_path.iterdir())) == 4
    assert_same(imload(path), volume())
    imsave(volume().isel(c=[1]), path, partition="zyx", overwrite=True)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(imload(path).image, VALUES[1:])


@pytest.mark.parametrize("ending", PIXELS)
def test_pixels_of_another_image_stay(tmp_path, ending):
    def compute(block):
        raise AssertionError("computed before it is refused")

    other = tmp_path / f"a{PIXELS[ending]}"
    other.write_bytes(b"mine")
    image = xr.apply_ufunc(compute, volume().image.chunk(), dask="parallelized", output_dtypes=["i2"])
    with pytest.raises(TargetExistsError, match=other.name):
        imsave(image, tmp_path / f"a{ending}")
    assert [p.name for p in tmp_path.iterdir()] == [other.name]
    assert other.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a%03d 1 2 1.mhd", "cannot name"),
        ("a%03d 1 2 1.nhdr", "cannot name"),
        (" a.mhd", "cannot name"),
        ("ä.nhdr", "ASCII"),
    ],
)
def test_names_that_a_header_cannot_hold(tmp_path, name, why):
    with pytest.raises(CannotWriteError, match=why):
        imsave(volume(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.svs", "a.companion.ome", "a.fits.fz", "a.ilp", "a.tga"])
def test_what_is_only_read_is_in_no_list_of_what_is_written(tmp_path, name):
    with pytest.raises(CannotWriteError, match="only read; save as"):
        imsave(volume(), tmp_path / name)
    with pytest.raises(UnknownFormatError) as told:
        imsave(volume(), tmp_path / "a.unheard")
    assert f" {name[1:]}," not in str(told.value)
    assert " .mhd," in str(told.value)


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_a_header_that_names_no_file(tmp_path, ending):
    imsave(volume(), tmp_path / f"a{ending}")
    text = (tmp_path / f"a{ending}").read_bytes()
    for name, why in ((b"x" * 300, "too long"), (b"a\0b", "null"), (b"gone.raw", "missing")):
        (tmp_path / f"b{ending}").write_bytes(text.replace(b"a.raw", name))
        with pytest.raises(FormatError, match=why):
            imload(tmp_path / f"b{ending}")
