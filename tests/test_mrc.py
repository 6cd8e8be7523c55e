"""MRC and CCP4: axes, stacks, modes, cells; what is written is valid for mrcfile."""

from __future__ import annotations

import warnings

import fsspec
import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError
from intake_img.testing import assert_same

mrcfile = pytest.importorskip("mrcfile")
pytestmark = pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")  # of NumPy 2.5, at mrcfile
VALUES = (np.arange(3 * 4 * 5).reshape(3, 4, 5) * 37 % 251).astype("i2")


def judged(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with mrcfile.open(path, permissive=True) as found:
            return np.array(found.data)


@pytest.mark.parametrize(
    ("name", "axes", "spacing", "origin"),
    [
        ("EMD-3197.map", "zyx", (11.4, 11.4, 11.4), (-22.8, 0, 0)),
        ("emd_3197.map.gz", "zyx", (11.4, 11.4, 11.4), (-22.8, 0, 0)),
        ("stack_2x_volumes_mode12.mrcs", "izyx", (1.1, 1.1, 1.1), (0, 0, 0)),
        ("20241021_00405_movie.mrc", "zyx", None, None),
    ],
)
def test_real_files(data, name, axes, spacing, origin):
    path = data / "mrc" / name
    expected = judged(path)
    if spacing is None:
        with pytest.warns(UserWarning, match="negative"):
            ds = imload(path)
        assert ds.img.spacing == {}
    else:
        ds = imload(path)
        assert [ds.img.spacing[a] for a in "xyz"] == pytest.approx(spacing, rel=1e-6)
        assert [float(ds[a][0]) for a in "xyz"] == pytest.approx(origin, rel=1e-6)
        assert set(ds.img.units.values()) == {"Å"}
        part = imload(path, chunks={"y": 3}).image[..., 1:, 1:4, 2]
        np.testing.assert_array_equal(part, expected[..., 1:, 1:4, 2])
    assert (ds.attrs["driver"], ds.img.axes) == ("mrc", axes)
    np.testing.assert_array_equal(ds.image, expected)
    assert ds.image.dtype == expected.dtype
    assert ds.img.header["y_axis"] == "up"


def made(path, values, **fields):
    with mrcfile.new(path, overwrite=True) as target:
        target.set_data(values)
        for name, value in fields.items():
            target.header[name] = value
    return path


def test_axes_are_where_the_header_maps_them(tmp_path):
    fields = {
        "mapc": 3,
        "mapr": 1,
        "maps": 2,
        "mx": 4,
        "my": 3,
        "mz": 5,
        "cella": (40, 60, 150),
        "nxstart": 2,
        "nystart": 1,
    }
    ds = imload(made(tmp_path / "a.mrc", VALUES, **fields), output_axis_order=None)
    assert ds.img.axes == "yxz"
    np.testing.assert_array_equal(ds.image, VALUES)
    assert ds.img.spacing == {"x": 10, "y": 20, "z": 30}
    assert [float(ds[a][0]) for a in "xyz"] == [10, 0, 60]
    ds = imload(made(tmp_path / "b.mrc", VALUES, origin=(1, 2, 3), cella=(5, 4, 3), nxstart=9))
    assert [float(ds[a][0]) for a in "xyz"] == [1, 2, 3]
    for ispg, mz, values, axes in (
        (0, 1, VALUES, "iyx"),
        (0, 3, VALUES, "zyx"),
        (1, 3, VALUES, "zyx"),
        (0, 1, VALUES[0], "yx"),
    ):
        assert imload(made(tmp_path / "c.mrc", values, ispg=ispg, mz=mz)).img.axes == axes


def test_modes_and_byte_orders(tmp_path):
    path = tmp_path / "a.mrc"
    for dtype in ("i1", "i2", "f4", "c8", "u2", "f2"):
        for order in "<>":
            made(path, VALUES.astype(np.dtype(dtype).newbyteorder(order)))
            ds = imload(path)
            np.testing.assert_array_equal(ds.image, VALUES.astype(dtype))
            assert ds.image.dtype == dtype
    content = bytearray(made(path, VALUES.astype("i1")).read_bytes())
    content[152:160] = np.array([1146047817, 0], "i4").tobytes()  # IMOD's flag: not signed
    content[208:216] = bytes(8)  # an old file has no name and no stamp
    path.write_bytes(content)
    np.testing.assert_array_equal(imload(path).image, VALUES.astype("u1"))
    pairs = np.stack([VALUES, -VALUES], -1)
    for mode, values, channels in (
        (3, pairs, ["real", "imaginary"]),
        (16, np.repeat(VALUES.astype("u1")[..., None], 3, -1), list("RGB")),
    ):
        content[12:16] = np.array([mode], "i4").tobytes()
        path.write_bytes(content[:1024] + values.tobytes())
        ds = imload(path)
        assert ds.img.channels == channels
        np.testing.assert_array_equal(ds.image.transpose("z", "y", "x", "c"), values)


def spaced(values, axes, unit="nm"):
    steps = {"x": 0.5, "y": 0.5, "z": 2.0}
    coords = {
        a: (a, np.arange(n) * steps[a] - 3, {"units": unit, "spacing": steps[a]})
        for a, n in zip(axes, values.shape, strict=True)
        if a in steps
    }  # one a line
    return xr.Dataset({"image": (tuple(axes), values)}, coords, {"title": "µ"})


@pytest.mark.parametrize("name", ["a.mrc", "a.mrcs", "a.ccp4.gz", "a.mrc.bz2"])
def test_what_is_written_is_valid(tmp_path, name):
    path = tmp_path / name
    stacks = np.stack([VALUES, VALUES + 1])
    for values, axes in ((VALUES, "zyx"), (VALUES, "tyx"), (VALUES[0], "yx"), (stacks, "izyx"), (stacks, "tzyx")):
        for dtype in ("i1", "u1", "i2", "f4", "c8", "u2", "f2") if axes == "zyx" else ("f4",):
            given = spaced(values.astype(dtype), axes)
            imsave(given, path, overwrite=True)
            assert_same(imload(path), given)
            assert mrcfile.validate(path)
            found = judged(path)
            np.testing.assert_array_equal(found.astype(dtype), given.image)
            assert found.dtype == (dtype if dtype != "u1" else "i1")  # mrcfile does not know IMOD's flag
    with mrcfile.open(path) as found:
        assert found.is_volume_stack()
        assert found.voxel_size.tolist() == (5, 5, 20)
        assert found.header.origin.tolist() == (-30, -30, -30)


def test_what_is_not_held_is_split_or_refused(tmp_path):
    given = spaced(np.stack([[VALUES, VALUES + 1], [VALUES + 2, VALUES + 3]]), "tczyx")
    assert len(imsave(given, tmp_path / "a.mrc")) == 4
    assert_same(imload(tmp_path / "a.mrc"), given)
    for bad, compress, why in (
        (given.isel(t=0, c=0).astype("f8"), None, "float64"),
        (given.isel(x=0), None, "stores y, x"),
        (given.isel(t=0, c=0), True, "not compressed"),
    ):
        with pytest.raises(CannotWriteError, match=why):
            imsave(bad, tmp_path / "b.mrc", compress)
    content = bytearray(made(tmp_path / "c.mrc", VALUES).read_bytes())
    for place, number, why in (
        (12, 101, "mode 101"),
        (0, 40000, "truncated"),
        (0, -4, "does not begin"),
        (92, 9000, "truncated"),
    ):
        damaged = bytearray(content)
        damaged[place : place + 4] = np.array([number], "i4").tobytes()
        (tmp_path / "d.mrc").write_bytes(damaged)
        with pytest.raises(FormatError, match=why):
            imload(tmp_path / "d.mrc")


def test_remote(data):
    fs = fsspec.filesystem("memory")
    fs.pipe("/mrc/a.map.gz", (data / "mrc" / "emd_3197.map.gz").read_bytes())
    np.testing.assert_array_equal(imload("memory://mrc/a.map.gz").image[3], judged(data / "mrc" / "EMD-3197.map")[3])
    fs.rm("/mrc", recursive=True)
