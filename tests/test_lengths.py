"""The law of lengths: an image says the same whatever the units of its axes are.

An image whose ``z`` is in nm gives, for every function that takes or returns a length, what the same image gives with
``z`` in µm. A bare number is a length in the unit of ``x``; a position is a value of its coordinate; both may also
state their unit, in any spelling, or be quantities of pint or astropy.
"""

import ast
import functools
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given as always
from hypothesis import strategies as st
from scipy import ndimage as ndi
from thoroughness import examples

from intake_img import from_array, imload, imsave, patches
from intake_img.accessor.lengths import common_unit, length, pixels, position, voxel_size
from intake_img.errors import UnitsError
from intake_img.model.units import LENGTH, TIME, convert, has_unit, power, quantity, symbol

pytestmark = pytest.mark.thorough

STEPS = {"z": 2.0, "y": 0.5, "x": 0.5}
SHAPE = {"c": 2, "z": 6, "y": 20, "x": 24}
UNITS = [{"z": "nm"}, {"z": "mm"}, {"y": "nm", "z": "Å"}, {"z": "micron"}, {"y": "pm"}, {"z": "inch"}]


def image(units: dict[str, str] | None = None, *, kind: str = "u2", origin: float = 0.0) -> xr.Dataset:
    """An image in µm, with some axes in other units, and labels."""
    rng = np.random.default_rng(4)
    values = ndi.gaussian_filter(rng.random(tuple(SHAPE.values())), (0, 0.5, 1, 1))
    values = ((values - values.min()) / np.ptp(values) * 4000).astype(kind)
    units = {**dict.fromkeys("zyx", "µm"), **(units or {})}
    coords: dict[str, Any] = {"c": ["A", "B"]}
    for a in "zyx":
        step, start = convert(STEPS[a], "µm", units[a]), convert(origin, "µm", units[a])
        coords[a] = (a, start + step * np.arange(SHAPE[a]), {"units": units[a], "spacing": step})
    ds = xr.Dataset({"image": (tuple(SHAPE), values)}, coords=coords)
    ds["labels"] = ("z", "y", "x"), ndi.label(values[0] > 2400)[0], {"kind": "labels"}
    ds["other"] = ("z", "y", "x"), ndi.label(values[1] > 2400)[0], {"kind": "labels"}
    return ds.chunk({"z": 3, "y": 10})


def blobs(ds: xr.Dataset) -> pd.DataFrame:
    """Positions on the coordinates of an image."""
    rng = np.random.default_rng(7)
    table = pd.DataFrame({"blob_id": np.arange(40), "channel": np.repeat(["A", "B"], 20)})
    for a in "zyx":
        place = rng.uniform(0, STEPS[a] * (SHAPE[a] - 1), 40)
        unit = ds[a].attrs["units"]
        table[a] = float(ds[a][0]) + (place if symbol(unit) == "µm" else convert(1.0, "µm", unit) * place)
    return table.assign(radius=np.linspace(0.6, 1.4, 40))


def in_micrometres(table: pd.DataFrame) -> pd.DataFrame:
    out = table.copy()
    for column, unit in table.attrs.get("column_units", {}).items():
        if column in table and unit in LENGTH:
            out[column] = table[column] * convert(1.0, unit, "µm")
    return out


MOMENTS = [
    "area",
    "moments_central",
    "inertia_tensor",
    "equivalent_diameter_area",
    "centroid_local",
    "axis_major_length",
]
LAWS = {
    "gaussian": lambda ds: ds.img.gaussian_filter(1.0, units="physical"),
    "gaussian by name": lambda ds: ds.img.gaussian_filter({"z": 3.0, "x": 1.0}, units="physical", output_dtype=float),
    "gaussian with units": lambda ds: ds.img.gaussian_filter("1.5 µm"),
    "gaussian radius": lambda ds: ds.img.gaussian_filter(1, radius="4 µm"),
    "median": lambda ds: ds.img.median_filter(2.0, units="physical"),
    "uniform": lambda ds: ds.img.uniform_filter("3000 nm"),
    "percentile": lambda ds: ds.img.percentile_filter(30, {"z": "4 µm", "y": "1.5 µm", "x": "1.5 µm"}),
    "rank": lambda ds: ds.img.rank_filter(1, 4.0, units="physical"),
    "dilation": lambda ds: ds.img.grey_dilation(2.0, units="physical"),
    "tophat": lambda ds: ds.img.white_tophat(2.0, units="physical"),
    "laplace": lambda ds: ds.img.gaussian_laplace(2.0, units="physical"),
    "gradient": lambda ds: ds.img.gaussian_gradient_magnitude(2.0, units="physical"),
    "threshold": lambda ds: ds.img.threshold_local("5 µm", sigma="1 µm"),
    "contrast": lambda ds: ds.img.enhance_contrast(kernel_size="4 µm"),
    "ball": lambda ds: ds.image.img.rolling_ball(2.0, units="physical"),
    "background": lambda ds: ds.image.img.subtract_background("2 µm"),
    "rescale": lambda ds: ds.img.rescale(spacing=1.0),
    "rescale by name": lambda ds: ds.img.rescale(spacing={"z": "500 nm"}),
    "crop": lambda ds: ds.img.crop(z=("2 µm", "8 µm"), x=("1000 nm", None)),
    "map": lambda ds: ds.img.map(
        lambda p: ndi.uniform_filter(p, 3), depth=2.0, units="physical", core_dims=("z", "y", "x"), boundary="reflect"
    ),
    "map of a region": lambda ds: ds.img.map(lambda p: p + 1, region={"y": ("2 µm", "7 µm")}),
    "localcorr": lambda ds: ds.rename(c="t").drop_vars("t").image.img.localcorr("2 µm"),
    "pyramid": lambda ds: ds.img.pyramid([2])["scale1"].to_dataset(),
    "subsample": lambda ds: ds.img.subsample(2),
    "regionprops": lambda ds: ds.img.regionprops("labels", units="physical"),
    "regionprops moments": lambda ds: ds.img.regionprops("labels", False, MOMENTS, units="physical"),
    "objects": lambda ds: ds.img.coloc.objects("labels", "other", max_distance=3.0),
    "match": lambda ds: ds.img.coloc.match(blobs(ds), 3.0),
    "match by name": lambda ds: ds.img.coloc.match(blobs(ds), {"z": "4 µm", "y": 2.0, "x": "2000 nm"}),
    "match in pixels": lambda ds: ds.img.coloc.match(blobs(ds), 2, units="px"),
    "match in blocks": lambda ds: ds.img.coloc.match(blobs(ds), 2.0, blocks=4.0, inner_padding="1 µm"),
    "match in a region": lambda ds: ds.img.coloc.match(blobs(ds), 4.0, roi={"z": ("1 µm", "9 µm")}),
    "match moved": lambda ds: ds.img.coloc.match(blobs(ds), 3.0).update_blobs(lambda p: p * [1.5, 1, 1]),
    "nearest": lambda ds: ds.img.coloc.nearest(blobs(ds), "A", "B"),
    "cross_k": lambda ds: ds.img.coloc.cross_k(blobs(ds), "A", "B", radii=[2.0, "3000 nm"], n=9),
    "blobs": lambda ds: ds.img.coloc.blobs(blobs(ds), footprint={"z": 3.0, "y": "1 µm", "x": 1.0}),
    "blobs by radius": lambda ds: ds.img.coloc.blobs(blobs(ds), footprint="radius"),
    "detect_blobs": lambda ds: ds.img.detect_blobs(min_radius=1.0, max_radius="2 µm", threshold=0.001, num_sigma=3),
    "significance": lambda ds: ds.img.coloc.significance(block=2.0, n=19),
    "ccf along z": lambda ds: ds.img.coloc.ccf(axis="z", limit=4.0),
    "ccf along y": lambda ds: ds.img.coloc.ccf(axis="y", limit="2 µm"),
    "shift": lambda ds: ds.img.coloc.chromatic_shift("A", upsample=10),
    "correct": lambda ds: ds.img.coloc.correct_shift(ds.img.coloc.chromatic_shift("A", upsample=10)).image,
    "patches": lambda ds: [p.image.values for p in ds.img.patches(4.0, units="physical", overlap=1.0)],
    "patches with halo": lambda ds: [p.image.values for p in ds.img.patches({"z": "8 µm", "y": "4 µm"}, halo="1 µm")],
    "patches around": lambda ds: [
        p.image.values
        for p in ds.img.patches("4 µm", sample="centers", centers=blobs(ds)[["z", "y", "x"]], units="physical")
    ],
}


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(found, list):
        assert len(found) == len(wanted) > 0
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    elif isinstance(found, pd.DataFrame):
        assert len(found)
        pd.testing.assert_frame_equal(in_micrometres(found), in_micrometres(wanted), rtol=1e-9, check_dtype=False)
    else:
        arrays = found.data_vars.values() if isinstance(found, xr.Dataset) else [found]
        others = wanted.data_vars.values() if isinstance(found, xr.Dataset) else [wanted]
        for a, b in zip(arrays, others, strict=True):
            assert a.sizes == b.sizes
            if a.dtype.kind == "f":
                np.testing.assert_allclose(a.values, b.values, rtol=1e-9, atol=1e-9)
            else:
                np.testing.assert_array_equal(a.values, b.values)
            assert a.attrs.get("units") == b.attrs.get("units")
            for axis in a.coords:
                one, two = a[axis], b[axis]
                if axis in STEPS and axis in a.dims:
                    factor = convert(1.0, one.attrs["units"], "µm")
                    np.testing.assert_allclose(one * factor, two, rtol=1e-12, atol=1e-12)
                    assert math.isclose(one.attrs["spacing"] * factor, two.attrs["spacing"])
                elif axis not in STEPS:
                    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("units", UNITS, ids=str)
def test_an_image_says_the_same_in_other_units(law, units):
    if law == "shift" and "inch" in units.values():
        pytest.skip("one unit is enough for a slow function")
    assert_same(LAWS[law](image(units, origin=3.0 if law == "nearest" else 0.0)), plainly(law))


@functools.cache
def plainly(law: str) -> Any:
    """Return what an entry gives for the image in µm, computed once for all units."""
    (found,) = dask.compute(LAWS[law](image(origin=3.0 if law == "nearest" else 0.0)))
    return found


@pytest.mark.parametrize("law", LAWS)
def test_the_law_is_about_lengths(law):
    """Every entry depends on the spacing: else the law above would say nothing of it."""
    if law in ("pyramid", "subsample") or (law.startswith(("match", "nearest")) and law != "match in pixels"):
        pytest.skip("coordinates are compared, or positions given, in any case")
    stretched = image()
    for a, factor in (("z", 3.0), ("y", 2.0), ("x", 2.0)):
        stretched[a] = (a, stretched[a].values * factor, {"units": "µm", "spacing": STEPS[a] * factor})
    with pytest.raises((AssertionError, ValueError)):  # it differs, or the image is too small for it
        assert_same(LAWS[law](stretched), LAWS[law](image()))


# independent oracles


def test_filters_agree_with_scipy_in_pixels():
    ds = image({"z": "nm"}, kind="f8")
    values = ds.image.values
    for c in range(2):
        wanted = ndi.gaussian_filter(values[c], [1 / 2.0, 1 / 0.5, 1 / 0.5])
        np.testing.assert_allclose(ds.img.gaussian_filter(1, units="physical").image.values[c], wanted, rtol=1e-12)
        wanted = ndi.median_filter(values[c], (3, 5, 5))
        np.testing.assert_array_equal(ds.img.median_filter({"z": "6000 nm", "y": "2.5 µm", "x": 5}).image[c], wanted)


def test_regions_agree_with_scikit_image_on_converted_spacing():
    from skimage.measure import regionprops

    ds = image({"z": "nm", "y": "mm"}, origin=1.0)
    names = ["area", "centroid", "inertia_tensor", "moments_central", "equivalent_diameter_area"]
    table = ds.img.regionprops("labels", False, names, units="physical")
    wanted = regionprops(ds.labels.values, spacing=tuple(STEPS.values()))
    np.testing.assert_allclose(table.area, [r.area for r in wanted])
    np.testing.assert_allclose(table["inertia_tensor-0-1"], [r.inertia_tensor[0, 1] for r in wanted])
    np.testing.assert_allclose(table["moments_central-2-0-0"], [r.moments_central[2, 0, 0] for r in wanted])
    places = np.array([r.centroid for r in wanted]) + 1.0
    np.testing.assert_allclose(table["centroid-0"], places[:, 0] * 1000)  # as on the coordinate: in nm
    np.testing.assert_allclose(table["centroid-1"], places[:, 1] / 1000)
    np.testing.assert_allclose(table["centroid-2"], places[:, 2])
    units = table.attrs["column_units"]
    assert table.attrs["units"] == "µm"
    assert (units["area"], units["centroid-0"], units["centroid-1"]) == ("µm³", "nm", "mm")
    assert (units["inertia_tensor-0-1"], units["moments_central-2-0-0"]) == ("µm²", "µm²")
    assert "label" not in units
    assert ds.img.regionprops("labels", False).attrs["units"] == "px"


def test_one_voxel_has_the_volume_of_its_sides():
    labels = np.zeros((3, 4, 4), int)
    labels[1, 2, 2] = 7
    coords: dict = {a: (a, 0.5 * np.arange(4), {"units": "µm"}) for a in "yx"}
    coords["z"] = ("z", [0.0, 2000.0, 4000.0], {"units": "nm"})
    array = xr.DataArray(labels, dims=("z", "y", "x"), coords=coords)
    assert array.img.regionprops(units="physical").area.tolist() == [0.5]  # 2 * 0.5 * 0.5 µm³


def test_distances_are_those_of_converted_points():
    from scipy.spatial import cKDTree

    ds = image({"z": "nm", "y": "mm"})
    table = blobs(ds)
    points = table[["z", "y", "x"]].to_numpy() * [1e-3, 1e3, 1]
    a, b = points[:20], points[20:]
    found = ds.img.coloc.nearest(table, "A", "B")
    np.testing.assert_allclose(found.distance, cKDTree(b).query(a)[0])
    assert found.attrs["units"] == "µm"
    matched = ds.img.coloc.match(table, 3.0, method="mutual_nearest")
    np.testing.assert_allclose(
        matched.distance, np.linalg.norm(points[matched.blob1_id] - points[matched.blob2_id], axis=1)
    )
    moved = matched.update_blobs(lambda p: p)
    np.testing.assert_allclose(moved.distance, matched.distance)
    assert matched.attrs["column_units"]["z1"] == "nm"
    assert matched.attrs["column_units"]["distance"] == "µm"


def test_shifts_come_back_in_pixels():
    ds = image({"z": "nm"})
    shifts = xr.DataArray([[0.0, 0, 0], [2.0, 1.0, -0.5]], dims=("c", "axis"), coords={"axis": ["z", "y", "x"]})
    moved = ds.img.coloc.correct_shift(shifts).image.values  # in µm: by 1, 2 and -1 pixels
    wanted = np.zeros_like(moved[1])
    wanted[:-1, :-2, 1:] = ds.image.values[1][1:, 2:, :-1]
    np.testing.assert_array_equal(moved[1], wanted)
    for unit, factor in (("nm", 1000.0), ("mm", 1e-3)):
        same = ds.img.coloc.correct_shift((shifts * factor).assign_attrs(units=unit)).image
        np.testing.assert_array_equal(same[1], wanted)
    voxels = (shifts / list(STEPS.values())).assign_attrs(units="px")
    np.testing.assert_array_equal(ds.img.coloc.correct_shift(voxels).image[1], wanted)


def test_files_with_units_of_their_own(tmp_path):
    import tifffile

    metadata = {
        "axes": "ZYX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 500.0,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 0.002,
        "PhysicalSizeZUnit": "mm",
    }
    values = np.random.default_rng(1).integers(0, 99, (6, 20, 24)).astype("u1")
    tifffile.imwrite(tmp_path / "a.ome.tif", values, ome=True, metadata=metadata)
    ds = imload(tmp_path / "a.ome.tif")
    assert ds.img.units == {"z": "mm", "y": "nm", "x": "µm"}
    assert dict(ds.img.rescale(spacing="1 µm").sizes) == {"z": 12, "y": 10, "x": 12}
    assert ds.img.patches("4 µm")[0].image.shape == (2, 8, 8)
    imsave(ds, tmp_path / "b.zarr", pyramid=2)
    assert imload(tmp_path / "b.zarr", level=1).sizes["z"] == 6  # 2 µm is coarser than 0.5 µm: z is not halved


@pytest.mark.parametrize(("z", "halved"), [(500.0, 3), (400.0, 3), (500.1, 6), (2000.0, 6)])
def test_pyramids_halve_z_where_it_is_as_fine_as_y(tmp_path, z, halved):
    ds = image().drop_vars(["labels", "other"])
    ds["z"] = ("z", z * np.arange(6), {"units": "nm", "spacing": z})
    imsave(ds, tmp_path / "a.zarr", pyramid=2)
    assert imload(tmp_path / "a.zarr", level=1).sizes["z"] == halved


def test_spacing_may_state_its_unit(tmp_path):
    from intake_img import from_array

    values = np.zeros((4, 5, 6), "u1")
    ds = from_array(
        values, "zyx", spacing={"z": "300 nm", "y": 0.5, "x": Astropy(500.0, "nm")}, spacing_units={"x": "µm"}
    )
    assert ds.img.spacing == {"z": 300.0, "y": 0.5, "x": 0.5}
    assert ds.img.units == {"z": "nm", "x": "µm"}
    imsave(ds, tmp_path / "a.ome.tif")
    again = imload(tmp_path / "a.ome.tif", metadata={"spacing": {"z": "0.4 micron"}})
    assert (again.img.spacing["z"], again.img.units["z"]) == (0.4, "µm")
    for wrong in ("3 px", "fast", "3 kg m", "-3 µm"):
        with pytest.raises(ValueError, match=r"spacing of 'z'|unknown unit 'kg m'"):
            from_array(values, "zyx", spacing={"z": wrong}, spacing_units={"z": "µm"})


# spellings


class Astropy:
    """As astropy's Quantity: ``value`` and ``unit``, and ``to``."""

    def __init__(self, value: float, unit: str) -> None:
        self.value, self.unit = value, unit

    def __repr__(self) -> str:
        return f"Astropy({self.value}, {self.unit!r})"


SPELLINGS = [
    "3 µm",
    "3µm",
    " 3.0 um ",
    "3 \u03bcm",
    "3 micron",
    "3 microns",
    "3 micrometer",
    "3 micrometre",
    "3e0 µm",
    "3000 nm",
    "3000nanometers",
    "+3000 nm",
    "30000 Å",
    "30000 angstrom",
    "0.003 mm",
    "3e-6 m",
    "3E-4 cm",
    ".003 mm",
    Astropy(3000, "nm"),
    Astropy(3.0, "micron"),
    Astropy(0.003, "mm"),
    3,
    3.0,
    np.float32(3),
]


@pytest.mark.parametrize("given", SPELLINGS, ids=repr)
def test_spellings_of_one_length(given):
    array = image({"z": "nm"}).image
    assert math.isclose(length("size", given, array, "z"), 3.0)
    found = pixels("size", given, array, "yx", units="physical", absent=1, whole=True)
    assert found == {"y": 6, "x": 6}
    if has_unit(given):  # whatever `units` says of bare numbers
        assert pixels("size", given, array, "yx", units="pixel", absent=1, whole=True) == found
        assert math.isclose(position("z", given, array, "z"), 3000)


def test_quantities_of_pint():
    pint = pytest.importorskip("pint")
    ureg = pint.UnitRegistry()
    array = image({"z": "nm"}).image
    for one in (3 * ureg.micrometer, ureg.Quantity("3000 nm"), 0.003 * ureg.mm, 3e-6 * ureg.meter):
        assert math.isclose(length("size", one, array, "z"), 3.0)
    per_axis = np.array([4000, 1500, 1500]) * ureg.nm
    assert pixels("size", per_axis, array, "zyx", units="pixel", absent=1, whole=True) == {"z": 2, "y": 3, "x": 3}
    smoothed = array.img.gaussian_filter(1 * ureg.micrometer)
    xr.testing.assert_identical(smoothed, array.img.gaussian_filter("1 µm"))
    assert math.isclose(length("size", 3.240779e-26 * ureg.kiloparsec, array), 1.0, rel_tol=1e-6)
    with pytest.raises(UnitsError, match=r"second|'s'"):
        length("size", 3 * ureg.second, array)
    with pytest.raises(UnitsError, match="gram"):
        length("size", 3 * ureg.gram, array)


def test_quantities_of_astropy():
    units = pytest.importorskip("astropy.units")
    array = image({"z": "nm"}).image
    for one in (3 * units.um, 3000 * units.nm, 3 * units.micron, 30000 * units.AA):
        assert math.isclose(length("size", one, array, "z"), 3.0)
        assert pixels("size", one, array, "yx", units="pixel", absent=1, whole=True) == {"y": 6, "x": 6}
    per_axis = [4000, 1500, 1500] * units.nm
    assert pixels("size", per_axis, array, "zyx", units="pixel", absent=1, whole=True) == {"z": 2, "y": 3, "x": 3}
    with pytest.raises(UnitsError, match="kg"):
        length("size", 3 * units.kg, array)


@examples(200)
@always(st.sampled_from([*LENGTH]), st.sampled_from([*LENGTH]), st.floats(1e-3, 1e6, allow_nan=False))
def test_conversion_is_that_of_the_definitions(unit, to, value):
    metres = {
        "pm": Fraction(1, 10**12),
        "Å": Fraction(1, 10**10),
        "nm": Fraction(1, 10**9),
        "µm": Fraction(1, 10**6),
        "mm": Fraction(1, 1000),
        "cm": Fraction(1, 100),
        "dm": Fraction(1, 10),
        "m": Fraction(1),
        "km": Fraction(1000),
        "in": Fraction(254, 10000),
        "ft": Fraction(3048, 10000),
        "pt": Fraction(254, 720000),
    }
    wanted = Fraction(value) * metres[unit] / metres[to]
    assert math.isclose(convert(value, unit, to), float(wanted), rel_tol=1e-9)
    x = xr.Variable("x", value * np.arange(3), {"units": to})
    array = xr.DataArray(np.zeros(3), dims="x", coords={"x": x})
    assert math.isclose(length("size", f"{value!r} {unit}", array), float(wanted), rel_tol=1e-9)


@examples(100)
@always(st.floats(0, 1e9, allow_nan=False), st.sampled_from([*LENGTH, *TIME]), st.sampled_from(["", " ", "\t", "  "]))
def test_text_is_read_back(value, unit, between):
    assert quantity(f"{value!r}{between}{unit}") == (value, unit)


@examples(100)
@always(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_type_error(text):
    number = re.match(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE)
    rest = text[number.end() :].strip() if number else ""
    if number and rest and not (rest[0].isdecimal() or rest[0] == "."):
        assert quantity(text).value == float(number[0].strip())
    else:
        with pytest.raises(TypeError, match="expected a number"):
            quantity(text)


@pytest.mark.parametrize("text", ["0", "00", "12", "1.5", "1e5", "-3", "3 3", "1.2.3 µm", " 7 "])
def test_a_number_without_a_unit_is_not_split(text):
    with pytest.raises(TypeError, match="expected a number, or a number with its unit"):
        quantity(text)


def test_powers():
    assert [power("µm", n) for n in (0, 1, 2, 3, 12)] == [None, "µm", "µm²", "µm³", "µm¹²"]
    assert power(None, 2) is None


# which unit a bare number has, and what is refused


@dataclass
class Axes:
    z: str | None
    y: str | None
    x: str | None

    def array(self) -> xr.DataArray:
        coords = {a: (a, 2.0 * np.arange(4), {"units": u} if (u := getattr(self, a)) else {}) for a in "zyx"}
        return xr.DataArray(np.zeros((4, 4, 4)), dims=("z", "y", "x"), coords=coords)


@pytest.mark.parametrize(
    ("units", "common"),
    [
        (Axes("nm", "µm", "µm"), "µm"),
        (Axes("µm", "µm", "nm"), "nm"),
        (Axes("mm", "nm", None), "nm"),
        (Axes("mm", None, None), "mm"),
        (Axes(None, None, None), None),
        (Axes("um", "micron", "µm"), "µm"),
        (Axes("pixel", "px", "voxel"), "px"),
        (Axes("furlong", "furlong", "furlong"), "furlong"),
    ],
)
def test_bare_numbers_are_in_the_unit_of_x(units, common):
    assert common_unit(units.array()) == common


def test_numbers_without_any_unit_are_as_on_the_coordinates():
    array = Axes(None, None, None).array()
    assert pixels("size", 6, array, "zyx", units="physical", absent=1, whole=True) == {"z": 3, "y": 3, "x": 3}
    with pytest.raises(UnitsError, match=r"size.*'µm'.*without a unit"):
        pixels("size", "6 µm", array, "zyx", units="physical", absent=1, whole=True)
    assert pixels("size", "3 px", array, "zyx", units="physical", absent=1, whole=True) == {"z": 3, "y": 3, "x": 3}
    one_without = Axes(None, "µm", "µm").array()  # taken to be in the unit of the others
    assert pixels("size", 6, one_without, "zyx", units="physical", absent=1, whole=True)["z"] == 3


@pytest.mark.parametrize(
    ("units", "says"),
    [
        (Axes("pixel", "µm", "µm"), r"'z'.*px.*µm"),
        (Axes("µm", "µm", "pixel"), r"'z'.*µm.*px"),
        (Axes("s", "µm", "µm"), r"'z'.*'s'.*'µm'"),
        (Axes("ms", "nm", None), r"'z'.*'ms'.*'nm'"),
        (Axes("furlong", "µm", "µm"), r"furlong.*µm"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda i: i.gaussian_filter(1, units="physical"),
        lambda i: i.median_filter("3 px", units="pixel", dims="z").img.median_filter(4, units="physical"),
        lambda i: i.rescale(spacing=1.0),
        lambda i: i.patches(4, units="physical"),
        lambda i: i._obj.astype(int).img.regionprops(units="physical"),
        lambda i: i.map(np.negative, depth=2, units="physical", core_dims="zyx"),
        lambda i: i._obj.expand_dims(c=2).img.coloc.significance(block=4),
        lambda i: i._obj.expand_dims(c=2).img.coloc.nearest(
            pd.DataFrame({"channel": [0, 1], "z": 0.0, "y": 0.0, "x": 0.0}), 0, 1
        ),
        lambda i: i.detect_blobs(min_radius=2, max_radius=3),
    ],
)
def test_units_that_do_not_convert_are_named(call, units, says):
    with pytest.raises(UnitsError, match=says):
        call(units.array().img)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda i: i.gaussian_filter("3 s"), UnitsError, r"sigma.*'s'.*'µm'"),
        (lambda i: i.gaussian_filter("3 furlong"), UnitsError, r"furlong.*µm"),
        (lambda i: i.gaussian_filter("3"), TypeError, r"sigma.*'3'.*3 µm"),
        (lambda i: i.gaussian_filter("µm"), TypeError, r"sigma.*expected a number"),
        (lambda i: i.gaussian_filter("-3 µm"), ValueError, r"sigma.*at least 0"),
        (lambda i: i.gaussian_filter("inf µm"), TypeError, "sigma"),
        (lambda i: i.median_filter("2.5 px"), ValueError, "whole number of pixels"),
        (lambda i: i.median_filter({"t": "3 µm"}), ValueError, "axis 't'"),
        (lambda i: i.crop(z=("1 s", None)), UnitsError, r"region.*'s'.*'nm'"),
        (lambda i: i.rescale(spacing="0 µm"), ValueError, "above 0"),
        (lambda i: i.coloc.significance(block="2 ms"), UnitsError, r"block.*'ms'.*'µm'"),
        (lambda i: i.coloc.match(blobs(i._obj), "3 h"), UnitsError, r"tol.*'h'.*'µm'"),
        (lambda i: i.coloc.match(blobs(i._obj), [1, 2, 3]), TypeError, "tol"),
        (lambda i: i.coloc.objects("labels", "other", max_distance="1 s"), UnitsError, "max_distance"),
        (lambda i: i.coloc.ccf(axis="z", limit="1 s"), UnitsError, "limit"),
        (lambda i: i.coloc.cross_k(blobs(i._obj), 0, 1, radii=["1 s"]), UnitsError, "radii"),
        (lambda i: i.patches("4 s"), UnitsError, r"size.*'s'.*'µm'"),
    ],
)
def test_wrong_lengths_are_named(call, error, says):
    with pytest.raises(error, match=says):
        call(image({"z": "nm"}).img)


def test_pixels_beside_lengths_are_refused():
    ds = image().drop_vars("z")  # z counts pixels, x and y have µm
    with pytest.raises(UnitsError, match=r"'z'.*px.*µm"):
        ds.img.coloc.nearest(blobs(image()), "A", "B")
    with pytest.raises(UnitsError, match=r"'z'.*pixels.*µm"):
        ds.img.coloc.significance(block=2.0)
    assert ds.img.coloc.significance(block=2, units="px", n=3).sizes["pair"] == 1
    assert ds.img.coloc.chromatic_shift("A", upsample=2).attrs["units"] == "px"
    assert voxel_size(ds.isel(z=[0]).image, "z") == 1.0
    flat = blobs(image()).assign(z=0)
    wanted = image().isel(z=[0]).img.coloc.nearest(flat, "A", "B")
    pd.testing.assert_frame_equal(ds.isel(z=[0]).img.coloc.nearest(flat, "A", "B"), wanted)


def test_uneven_positions_need_no_spacing():
    ds = image().isel(z=[0, 1, 3])
    del ds["z"].attrs["spacing"]
    table = blobs(image())
    assert len(ds.img.coloc.match(table, 3.0)) == len(image().img.coloc.match(table, 3.0)) > 0


def test_lengths_along_time_are_in_the_unit_of_time():
    t = xr.Variable("t", 0.5 * np.arange(20), {"units": "s"})
    x = xr.Variable("x", 0.1 * np.arange(30), {"units": "µm"})
    array = xr.DataArray(np.zeros((20, 4, 30)), dims=("t", "y", "x"), coords={"t": t, "x": x})
    cut = patches(array, {"t": "2000 ms", "x": "1 µm"})
    assert dict(cut[0].sizes) | {"t": 4, "x": 10} == dict(cut[0].sizes)
    assert patches(array, {"t": 2, "x": 1}, units="physical")[0].sizes["t"] == 4
    with pytest.raises(UnitsError, match=r"'µm'.*'s'"):
        patches(array, {"t": "2 µm"})


def test_a_decreasing_coordinate_is_told():
    ds = from_array(np.zeros((4, 5)), spacing={"y": 0.5, "x": 0.5}, spacing_units="µm").isel(y=slice(None, None, -1))
    advice = r"flip it, since its coordinate decreases: \.isel\(y=slice\(None, None, -1\)\)"
    with pytest.raises(ValueError, match=advice):
        ds.img.gaussian_filter(1, units="physical")
    with pytest.raises(UnitsError, match=advice):
        voxel_size(ds.image, "y")


def test_the_advice_for_an_image_without_units_can_be_followed(tmp_path):
    path = tmp_path / "a.png"
    imsave(np.arange(63, dtype="u1").reshape(7, 9), path)
    with pytest.raises(UnitsError, match=r"imload\(\.\.\., metadata=") as failed:
        imload(path).img.gaussian_filter("0.3 µm")
    given = ast.literal_eval(str(failed.value).partition("metadata=")[2].removesuffix(")"))
    with imload(path, metadata=given) as ds, imload(path) as bare:
        wanted = bare.img.gaussian_filter(3, output_dtype="f4")["image"]
        np.testing.assert_allclose(ds.img.gaussian_filter("0.3 µm", output_dtype="f4")["image"], wanted, rtol=1e-5)


def test_pixels_are_lengths_of_images_without_coordinates():
    values = np.random.default_rng(0).random((2, 2, 9, 10))
    image = xr.DataArray(values, dims=list("tcyx"), name="image")
    found, expected = (image.img.detect_blobs(min_radius=1, max_radius=r, threshold=1e-3) for r in ("2 px", 2))
    assert len(found)
    pd.testing.assert_frame_equal(found, expected)
    coloc = image.img.coloc
    pd.testing.assert_frame_equal(coloc.match(found, tol="2 px"), coloc.match(found, tol=2))
    assert coloc.cross_k(found, 0, 1, radii=["2 px"], n=3).identical(coloc.cross_k(found, 0, 1, radii=[2], n=3))
    table = pd.DataFrame({"t": [0, 1, 0], "y": [1.0, 2.0, 5.0], "x": [1.0, 1.0, 5.0]})
    pd.testing.assert_frame_equal(image.img.track(table, "2 px"), image.img.track(table, 2))


@pytest.mark.parametrize("spacing", [{}, {"y": 0.5, "x": 0.25}])
def test_labels_grow_by_pixels(spacing):
    labels = xr.DataArray(
        np.zeros((9, 10), int), dims=["y", "x"], coords={a: s * np.arange(9 + (a == "x")) for a, s in spacing.items()}
    )
    labels[4, 5] = 1
    assert labels.img.expand_labels("2 px").equals(labels.img.expand_labels(2))
    assert int(labels.img.expand_labels("2 px").sum()) == 13
