"""Volumes of 64 MB against nibabel, pynrrd, SimpleITK, mrcfile and astropy: opening, all of it, and a part."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intake_img import autodetect, imload

pytestmark = pytest.mark.filterwarnings("ignore")  # files that others leave open
SHAPE = (32, 1024, 1024)
NAMES = ["a.nii", "a.nii.gz", "a.nrrd", "b.nrrd", "a.mha", "a.mrc", "a.fits"]
CROP = (slice(3, 4), slice(100, 164), slice(500, 564))


@pytest.fixture(scope="module")
def volumes(big: Path, texture: np.ndarray) -> Path:
    """A folder with one volume in each format, made by the other library."""
    import mrcfile
    import nibabel
    import nrrd
    import SimpleITK
    from astropy.io import fits

    folder = big / "volumes"
    if not folder.exists():
        folder.mkdir()
        values = np.stack([texture[:1024, 64 * k : 64 * k + 1024] for k in range(SHAPE[0])])
        for name in ("a.nii", "a.nii.gz"):
            nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), folder / name)
        nrrd.write(str(folder / "a.nrrd"), values, {"encoding": "raw"}, index_order="C")
        nrrd.write(str(folder / "b.nrrd"), values, {"encoding": "gzip"}, index_order="C", compression_level=4)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), folder / "a.mha")
        fits.writeto(folder / "a.fits", values)
        with mrcfile.new(folder / "a.mrc", values):
            pass
    return folder


def _judge(path: Path) -> Callable[[Any], np.ndarray]:
    """Return what reads a part of a file with the other library."""
    if path.suffix == ".nrrd":
        import nrrd

        return lambda part: nrrd.read(str(path), index_order="C")[0][part]
    if path.suffix == ".mha":
        import SimpleITK

        return lambda part: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[part]
    if path.suffix == ".mrc":
        import mrcfile

        return lambda part: np.array(mrcfile.mmap(path, permissive=True).data[part])
    if path.suffix == ".fits":
        from astropy.io import fits

        return lambda part: np.array(fits.open(path, memmap=False)[0].section[part])
    import nibabel

    return lambda part: np.array(nibabel.load(path).dataobj[part[::-1]]).T


@pytest.mark.parametrize("name", NAMES)
def test_whole_volume(name: str, volumes: Path, versus: Any, benchmark: Any) -> None:
    judge = _judge(volumes / name)
    whole = (slice(None),) * 3
    benchmark.extra_info["gate"] = "1.25"
    assert versus(lambda: autodetect(volumes / name).read(), lambda: judge(whole), rounds=3) <= 1.25


@pytest.mark.parametrize("name", NAMES)
def test_part_of_a_volume(name: str, volumes: Path, versus: Any, benchmark: Any) -> None:
    judge = _judge(volumes / name)
    ds = imload(volumes / name, chunks=None)

    def ours() -> np.ndarray:
        return np.asarray(ds.image[CROP])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(ours(), judge(CROP))
    versus(ours, lambda: judge(CROP), rounds=3)
    info = benchmark.extra_info
    info["gate"] = "2, or 0.5 ms above"
    assert info["ours_ms"] <= max(2 * info["raw_ms"], info["raw_ms"] + 0.5)


@pytest.mark.parametrize("name", ["a.nii.gz", "b.nrrd"])
def test_second_part_of_a_packed_volume(name: str, volumes: Path, versus: Any, benchmark: Any) -> None:
    ds = imload(volumes / name, chunks=None)
    np.asarray(ds.image[-1, :2, :2])
    places = itertools.cycle(np.random.default_rng(0).integers(0, 900, (9, 2)).tolist())

    def part() -> None:
        y, x = next(places)
        np.asarray(ds.image[17, y : y + 64, x : x + 64])

    benchmark.extra_info["gate"] = "0.2"
    assert versus(part, lambda: autodetect(volumes / name).read(), rounds=3) <= 0.2
