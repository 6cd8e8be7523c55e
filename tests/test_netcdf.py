"""NetCDF, classic and 4, against netCDF4 and scipy: axes, coordinates, packed values, records, damaged headers."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
from scipy.io import netcdf_file

from intake_img import imload
from intake_img.errors import FormatError
from intake_img.formats.netcdf.driver import Netcdf

netCDF4 = pytest.importorskip("netCDF4")
KINDS = ["NETCDF4", "NETCDF4_CLASSIC", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


def test_the_real_file(data):
    path = data / "netcdf" / "nc4.nc"
    with netCDF4.Dataset(path) as f:
        values = f["intensity"][:].filled(np.nan)
        f.set_auto_maskandscale(False)
        stored = f["intensity"][:]
    for chunks in ("auto", None, {"z": 2, "y": 3}):
        ds = imload(path, chunks=chunks)
        assert (ds.attrs["driver"], ds["image"].dims, ds["image"].dtype) == ("netcdf", tuple("tzyx"), "f8")
        np.testing.assert_allclose(ds["image"].values, values, rtol=1e-12)
        np.testing.assert_allclose(ds["image"][1, 1:, 2:5, 3].values, values[1, 1:, 2:5, 3], rtol=1e-12)
        np.testing.assert_array_equal(imload(path, chunks=chunks, scaled=False)["image"].values, stored)
    found = {a: (c.attrs["spacing"], c.attrs["units"], float(c[0])) for a, c in ds.coords.items()}
    assert found == {"t": (30.0, "s", 0.0), "z": (2.0, "µm", 0.0), "y": (0.25, "µm", 5.0), "x": (0.25, "µm", 5.0)}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_are_what_netcdf4_reads(tmp_path, kind):
    """Variables of records, alone and beside others, of sizes that are padded; attributes of all types."""
    path, rng = tmp_path / "a.nc", np.random.default_rng(0)
    with netCDF4.Dataset(path, "w", format=kind) as f:
        f.setncatts({"title": "µ", "numbers": np.arange(3.0), "one": np.int16(5)})
        for name, n in (("time", None), ("y", 5), ("x", 7)):
            f.createDimension(name, n)
        for name, dtype, axes in (
            ("records", "i1", ("time", "y", "x")),
            ("fixed", "f4", ("y", "x")),
            ("more", "f8", ("time", "x")),
            ("time", "f8", ("time",)),
        ):
            shape = tuple({"time": 3, "y": 5, "x": 7}[a] for a in axes)
            made = f.createVariable(name, dtype, axes)
            made[:] = np.array([0.0, 1.0, 4.0]) if name == "time" else (rng.normal(size=shape) * 50).astype(dtype)
        f["time"].units = "days since 2000-01-01"
        f["records"].long_name = "a name"
        f.set_auto_maskandscale(False)
        expected = {name: f[name][:] for name in ("records", "fixed", "more")}
    names = imload(path).attrs["scenes"]
    assert set(names) == set(expected)
    for name in names:
        for chunks in ("auto", None, 2):
            ds = imload(path, scene=name, scaled=False, chunks=chunks, output_axis_order=None)
            assert ds["image"].dtype == expected[name].dtype.newbyteorder("=")
            np.testing.assert_array_equal(ds["image"].values, expected[name])
            np.testing.assert_array_equal(ds["image"][1:3, 2:4].values, expected[name][1:3, 2:4])
        if "t" in ds.coords:
            assert (ds["t"].values.tolist(), ds["t"].attrs["units"]) == ([0.0, 1.0, 4.0], "d")
    assert imload(path, scene="records")["image"].attrs["long_name"] == "a name"


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
@pytest.mark.parametrize(
    ("dtype", "attributes"),
    [
        ("i2", {"scale_factor": 0.1, "add_offset": 5.0, "_FillValue": np.int16(-9)}),
        ("u1", {}),
        ("f4", {}),
        ("i1", {"dtype": "bool"}),
        ("i4", {"_FillValue": np.int32(3)}),
        ("f8", {"missing_value": 3.0}),
        ("f4", {"scale_factor": np.float32(2)}),
        ("i2", {"scale_factor": "no number"}),
        ("i1", {"_Unsigned": "true"}),
        ("i1", {"_Unsigned": "true", "_FillValue": np.int8(-3)}),
        ("i2", {"_Unsigned": "true", "scale_factor": 0.5, "add_offset": -1.0, "_FillValue": np.int16(-1)}),
        ("i2", {"_Unsigned": "false"}),
        ("u1", {"_Unsigned": "false"}),
        ("i2", {"missing_value": np.int16(5)}),
    ],
)
def test_packed_values_are_those_of_xarray(tmp_path, kind, dtype, attributes):
    if dtype == "u1" and kind != "NETCDF4":
        pytest.skip("classic files have no unsigned bytes")
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4) % 2 if "dtype" in attributes else np.arange(24).reshape(2, 3, 4) - 9
    with netCDF4.Dataset(tmp_path / "a.nc", "w", format=kind) as f:
        for name, n in (("z", 2), ("y", 3), ("x", 4)):
            f.createDimension(name, n)
        made = f.createVariable("v", dtype, ("z", "y", "x"), fill_value=attributes.get("_FillValue"))
        made.set_auto_maskandscale(False)
        made.setncatts({k: v for k, v in attributes.items() if k != "_FillValue"})
        made[:] = values.astype(dtype)
    found = imload(tmp_path / "a.nc")["image"]
    if attributes.get("scale_factor") == "no number":
        np.testing.assert_array_equal(found.values, values)
        return
    with xr.open_dataset(tmp_path / "a.nc", engine="netcdf4") as expected:
        np.testing.assert_allclose(found.values, expected["v"].values, rtol=1e-6)
        assert found.dtype.kind == expected["v"].dtype.kind


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
@pytest.mark.parametrize("attributes", [{}, {"scale_factor": 0.5, "add_offset": -3.0}, {"_Unsigned": "true"}])
def test_packed_coordinates_are_those_of_xarray(tmp_path, kind, attributes):
    with netCDF4.Dataset(tmp_path / "a.nc", "w", format=kind) as f:
        for name, n in (("y", 3), ("x", 4)):
            f.createDimension(name, n)
            made = f.createVariable(name, "i1", (name,))
            made.set_auto_maskandscale(False)
            made.setncatts({"units": "mm", **attributes})
            made[:] = 2 * np.arange(n) - 100
        f.createVariable("v", "i2", ("y", "x"))[:] = np.arange(12).reshape(3, 4)
    found = imload(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="netcdf4") as expected:
        for axis in "yx":
            np.testing.assert_allclose(found[axis], expected[axis])
    assert found.img.spacing == dict.fromkeys("yx", 2 * attributes.get("scale_factor", 1.0))


@pytest.mark.filterwarnings("ignore:.*multiple fill values:xarray.SerializationWarning")
@pytest.mark.parametrize("dtype", ["i2", "i4", "f4"])
@pytest.mark.parametrize("packing", [{}, {"scale_factor": 0.5, "add_offset": 1.0}])
def test_two_fill_values_are_both_missing(tmp_path, dtype, packing):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as f:
        for name, n in (("y", 3), ("x", 4)):
            f.createDimension(name, n)
        made = f.createVariable("v", dtype, ("y", "x"), fill_value=2)
        made.set_auto_maskandscale(False)
        made.setncatts({"missing_value": np.dtype(dtype).type(7), **packing})
        made[:] = np.arange(12).reshape(3, 4)
    found = imload(tmp_path / "a.nc")["image"]
    assert int(np.isnan(found).sum()) == 2
    with xr.open_dataset(tmp_path / "a.nc", engine="netcdf4") as expected:
        np.testing.assert_allclose(found.values, expected["v"].values)


def test_classic_files_that_were_never_finished(tmp_path):
    """A count of records that nobody wrote is that of the records in the file."""
    path, expected = Netcdf().sample(str(tmp_path))
    content = bytearray(Path(path).read_bytes())
    content[4:8] = b"\xff" * 4
    Path(path).write_bytes(content)
    np.testing.assert_array_equal(imload(path)["image"].values, expected["image"].values)


@pytest.mark.parametrize(
    ("at", "content", "message"),
    [
        (4, b"\0\0\xff\xff", "ends at byte"),
        (8, b"\0\0\0\x0b", "damaged"),
        (12, b"\x7f\xff\xff\xff", "damaged"),
        (16, b"\x7f\xff\xff\xff", "does not end within"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, at, content, message):
    path, _ = Netcdf().sample(str(tmp_path))
    damaged = bytearray(Path(path).read_bytes())
    damaged[at : at + len(content)] = content
    Path(path).write_bytes(damaged)
    with pytest.raises(FormatError, match=message):
        imload(path)


@pytest.mark.parametrize("kind", ["classic", "4"])
def test_on_a_server(tmp_path, kind):
    path, expected = Netcdf().sample(str(tmp_path))
    if kind == "4":
        path = str(tmp_path / "b.nc")
        expected.to_netcdf(path, engine="netcdf4")
    fs = fsspec.filesystem("memory")
    with open(path, "rb") as stream:
        fs.pipe_file("/netcdf/a.nc", stream.read())
    found = imload("memory://netcdf/a.nc")
    np.testing.assert_array_equal(found["image"].values, expected["image"].values)
    assert found["x"].attrs["spacing"] == 0.25
    fs.rm("/netcdf", recursive=True)


def test_without_an_image(tmp_path):
    with netcdf_file(str(tmp_path / "a.nc"), "w") as f:
        f.createDimension("x", 3)
        f.createVariable("line", "f8", ("x",))[:] = 0
    with pytest.raises(FormatError, match="no variable of numbers with at least two axes"):
        imload(tmp_path / "a.nc")
