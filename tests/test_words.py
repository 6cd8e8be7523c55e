"""Fields of patterns that are words: coordinates along ``i``, or axes that `axes` names; missing files are named."""

from __future__ import annotations

import pickle
import re
import time
from itertools import product
from pathlib import Path

import intake
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from thoroughness import examples

import intake_img
from intake_img import imload, imsave, open_catalog
from intake_img.collections.patterns import Pattern
from intake_img.errors import AxesError
from intake_img.model.image import FILE_ATTRS

pytestmark = pytest.mark.thorough

WELLS, SITES, CHANNELS = ("A2", "A10", "B1"), (0, 1), (1, 2)
PIXELS = {key: k + 1 for k, key in enumerate(product(WELLS, SITES, CHANNELS))}
WORDS = "{well}_s{site}_c{c}.tif"


def write(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full((3, 4), value, "uint16"))


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    """A folder with a file for each well, site and channel, filled with its number in `PIXELS`."""
    for (well, site, c), value in PIXELS.items():
        write(tmp_path / f"{well}_s{site}_c{c}.tif", value)
    return tmp_path


def pixels_of(ds: xr.Dataset) -> dict:
    """Return the pixel of each well, site and channel as the coordinates say."""
    ds = ds.load()
    flat = ds.image[..., 0, 0].stack(all=[d for d in ds.image.dims if d not in "yx"])
    keys = zip(flat.well.values.tolist(), flat.site.values.tolist(), flat.c.values.tolist(), strict=True)
    return dict(zip(keys, flat.values.tolist(), strict=True))


def test_words_are_coordinates_along_i(screen: Path) -> None:
    ds = imload(f"{screen}/{WORDS}")
    assert dict(ds.image.sizes) == {"i": 6, "c": 2, "y": 3, "x": 4}
    assert ds.well.dims == ds.site.dims == ("i",)
    assert "i" not in ds.coords
    assert ds.well.values.tolist() == ["A2", "A2", "A10", "A10", "B1", "B1"]  # natural order, the first field slowest
    assert ds.site.dtype.kind == "i"
    assert pixels_of(ds) == PIXELS


@pytest.mark.parametrize("pattern", ["{well}/{site}/{c}.tif", "{site}/{well}_{c}.tif", "{c}/x{site}/{well}.tif"])
def test_words_in_folders(tmp_path: Path, pattern: str) -> None:
    for (well, site, c), value in PIXELS.items():
        write(tmp_path / pattern.format(well=well, site=site, c=c), value)
    assert pixels_of(imload(f"{tmp_path}/{pattern}")) == PIXELS


def test_one_word_and_a_capital_letter(screen: Path) -> None:
    ds = imload(f"{screen}/{{Well}}_s0_c1.tif")
    assert ds.Well.dims == ("i",)
    assert ds.Well.values.tolist() == list(WELLS)
    assert imload(f"{screen}/{{W}}_s0_c1.tif").W.dims == ("i",)


def test_words_become_axes(screen: Path) -> None:
    ds = imload(f"{screen}/{WORDS}", axes={"well": "i", "site": "p"})
    assert dict(ds.image.sizes) == {"p": 2, "i": 3, "c": 2, "y": 3, "x": 4}
    assert ds.i.values.tolist() == list(WELLS)
    assert pixels_of(ds.rename(i="well", p="site")) == PIXELS
    mixed = imload(f"{screen}/{WORDS}", axes={"site": "t"})
    assert mixed.well.dims == ("i",)
    assert pixels_of(mixed.rename(t="site")) == PIXELS


def test_words_that_share_an_axis_are_coordinates_along_it(screen: Path) -> None:
    ds = imload(f"{screen}/{WORDS}", axes={"well": "t", "site": "t"})
    assert dict(ds.image.sizes) == {"t": 6, "c": 2, "y": 3, "x": 4}
    assert ds.well.dims == ds.site.dims == ("t",)
    assert pixels_of(ds) == PIXELS


def test_a_word_beside_a_field_of_its_axis(tmp_path: Path) -> None:
    for k, name in enumerate(["1_B1", "2_A1", "10_A1"]):
        write(tmp_path / f"{name}.tif", k)
    ds = imload(f"{tmp_path}/{{i}}_{{well}}.tif")
    assert ds.i.values.tolist() == [1, 2, 10]
    assert ds.well.values.tolist() == ["B1", "A1", "A1"]
    assert ds.image[:, 0, 0].values.tolist() == [0, 1, 2]
    write(tmp_path / "1_A1.tif", 9)
    with pytest.raises(AxesError, match=re.escape("{i} repeats its labels: use another name, or give {well} an axis")):
        imload(f"{tmp_path}/{{i}}_{{well}}.tif")
    assert dict(imload(f"{tmp_path}/{{i}}_{{well}}.tif", axes={"well": "p"}, missing="fill").sizes)["p"] == 2


def test_uneven_wells_leave_no_holes_but_channels_do(screen: Path) -> None:
    for c in CHANNELS:
        (screen / f"A10_s0_c{c}.tif").unlink()  # a well with fewer sites is not a hole
    assert imload(f"{screen}/{WORDS}").well.values.tolist() == ["A2", "A2", "A10", "B1", "B1"]
    with pytest.raises(FileNotFoundError, match=re.escape("2 of 12 files are missing")):
        imload(f"{screen}/{WORDS}", axes={"well": "i", "site": "p"})
    (screen / "A10_s1_c2.tif").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        imload(f"{screen}/{WORDS}")
    assert "1 of 10 files are missing: well=A10 site=1 c=2 (A10_s1_c2.tif)" in str(caught.value)
    assert "missing='fill'" in str(caught.value)
    filled = pixels_of(imload(f"{screen}/{WORDS}", missing="fill"))
    assert filled == {k: 0 if k == ("A10", 1, 2) else v for k, v in PIXELS.items() if k[:2] != ("A10", 0)}


@pytest.mark.parametrize(
    ("pattern", "axes", "words"),
    [
        (WORDS, {"wel": "i"}, "names 'wel', which is not a field of the pattern .* its fields are well, site, c"),
        ("*.tif", {"well": "i"}, "it has no fields"),
        (WORDS, {"well": "plate"}, "the axis of 'well' is 'plate'; expected a lower-case letter"),
        (WORDS, {"well": "I"}, "expected a lower-case letter"),
        (WORDS, {"well": 3}, "expected a lower-case letter"),
        (WORDS, {"well": "y"}, "have an axis 'y'"),
        ("{image}_s0_c{c}.tif", None, "has the name of a variable"),
    ],
)
def test_wrong_words_are_named(screen: Path, pattern: str, axes: dict | None, words: str) -> None:
    with pytest.raises(AxesError, match=words):
        imload(f"{screen}/{pattern}", **({} if axes is None else {"axes": axes}))


def test_axes_are_for_patterns(screen: Path) -> None:
    with pytest.raises(TypeError, match="expected a mapping from fields"):
        imload(f"{screen}/{WORDS}", axes="i")
    for uri in (screen, [screen / "A2_s0_c1.tif"]):
        with pytest.raises(TypeError, match="give a pattern"):
            imload(uri, axes={"well": "i"})


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif", "out.zarr", "out.czi"])
@pytest.mark.parametrize("partition", [None, "yx", "cyx"])
def test_words_come_back_from_files(screen: Path, name: str, partition: str | None) -> None:
    ds = imload(f"{screen}/{WORDS}").load()
    imsave(ds, screen / "saved" / name, partition=partition)
    again = imload(screen / "saved" / name)
    xr.testing.assert_equal(again.load(), ds)
    kept = {k: v for k, v in ds.attrs.items() if k not in FILE_ATTRS}
    assert {k: v for k, v in again.attrs.items() if k not in FILE_ATTRS} == kept


def test_part_by_label(screen: Path) -> None:
    ds = imload(f"{screen}/{WORDS}", axes={"well": "i", "site": "p"}, partition={"i": ["B1", "A2"], "c": 1})
    assert ds.i.values.tolist() == ["B1", "A2"]
    assert ds.image[:, :, 0, 0].values.T.tolist() == [[PIXELS[w, s, 2] for s in SITES] for w in ("B1", "A2")]
    assert imload(f"{screen}/{WORDS}", partition={"i": 3}).well.item() == "A10"


@pytest.mark.parametrize(
    ("partition", "wells", "sites"),
    [
        ({"well": "A10"}, ["A10"], SITES),
        ({"well": ["B1", "A2"]}, ["A2", "B1"], SITES),
        ({"site": 1}, WELLS, [1]),
        ({"site": 1, "well": ("A10", "B1"), "c": [1]}, ["A10", "B1"], [1]),
    ],
)
def test_part_by_words(screen: Path, partition: dict, wells: list, sites: list) -> None:
    ds = imload(f"{screen}/{WORDS}", partition=partition)
    expected = {
        k: v for k, v in PIXELS.items() if k[0] in wells and k[1] in sites and ("c" not in partition or k[2] == 2)
    }
    assert pixels_of(ds) == expected


def test_wrong_parts_by_words(screen: Path) -> None:
    (screen / "A2_s1_c1.tif").unlink()
    (screen / "A2_s1_c2.tif").unlink()
    for partition, error, words in (
        ({"well": "A3"}, KeyError, "no label 'A3'; there are A2, A10, B1"),
        ({"site": "1"}, KeyError, "no label '1'; there are 0, 1"),
        ({"well": "A2", "site": 1}, KeyError, "no sample along 'i' has well='A2', site=1"),
        ({"well": slice("A2", "B1")}, TypeError, "expected a label or a list"),
        ({"well": "A2", "i": 0}, AxesError, "names the axis 'i' and 'well'"),
        ({"i": "A2"}, KeyError, "or the name of another coordinate"),
        ({"wel": "A2"}, AxesError, "names the axis 'wel'"),
    ):
        with pytest.raises(error, match=words):
            imload(f"{screen}/{WORDS}", partition=partition)


@pytest.mark.parametrize("driver", ["filepattern", "img"])
def test_words_in_catalogs_and_pickles(screen: Path, driver: str) -> None:
    source = getattr(intake, f"open_{driver}")(f"{screen}/{WORDS}", axes={"well": "i", "site": "p"})
    ds = source.read()
    assert ds.i.values.tolist() == list(WELLS)
    twin = pickle.loads(pickle.dumps(source))
    assert twin == source
    assert source != getattr(intake, f"open_{driver}")(f"{screen}/{WORDS}")
    xr.testing.assert_identical(twin.read(), ds)
    for path in (screen / "own.yml", screen / "hand.yml"):
        if path.name == "own.yml":
            intake_img.write_catalog({"screen": source}, path)
        else:
            args = f"{{uri: '{{{{ CATALOG_DIR }}}}/{WORDS}', axes: {{well: i, site: p}}}}"
            path.write_text(f"sources: {{screen: {{driver: {driver}, args: {args}}}}}\n")
        for catalog in (open_catalog(path), intake.open_catalog(str(path))):
            xr.testing.assert_equal(catalog["screen"].read(), ds)


def test_kinds_apart_keep_their_words(screen: Path) -> None:
    tifffile.imwrite(screen / "C1_s0_c1.tif", np.full((5, 6), 99, "uint16"))
    tree = imload(f"{screen}/{WORDS}", group=True)
    assert pixels_of(tree["3x4-uint16"].to_dataset()) == PIXELS
    assert tree["5x6-uint16"].well.values.tolist() == ["C1"]


def test_variables_keep_their_words(tmp_path: Path) -> None:
    for k, (var, well) in enumerate(product(("raw", "mask"), ("A1", "A2"))):
        write(tmp_path / f"{well}_{var}.tif", k)
    ds = imload(f"{tmp_path}/{{well}}_{{var}}.tif")
    assert ds.well.values.tolist() == ["A1", "A2"]
    assert {n: v[:, 0, 0].values.tolist() for n, v in ds.data_vars.items()} == {"raw": [0, 1], "mask": [2, 3]}


def test_ten_thousand_files_are_quick(tmp_path: Path) -> None:
    for well, site, c in product(range(100), range(50), range(2)):
        (tmp_path / f"W{well}_s{site}_c{c}.tif").touch()
    tifffile.imwrite(tmp_path / "W0_s0_c0.tif", np.zeros((3, 4), "uint16"))
    times = {}
    for name, pattern in (("axes", "{a}_s{b}_c{c}.tif"), ("words", WORDS)):
        start = time.process_time()
        assert imload(f"{tmp_path}/{pattern}", chunks=None).image.size == 10_000 * 12
        times[name] = time.process_time() - start
    assert times["words"] < 3 * times["axes"] + 0.5, times


@pytest.mark.parametrize("missing", [("i_0", "c_a"), ("i_0", None), (None, "c_b")])
def test_parts_without_the_first_file_name_it(tmp_path: Path, missing: tuple) -> None:
    values = np.arange(3 * 2 * 3 * 4, dtype="uint16").reshape(3, 2, 3, 4)
    ds = xr.Dataset({"image": (tuple("icyx"), values)}, coords={"c": ["a", "b"]})
    lost = [f for f in imsave(ds, tmp_path / "cells.tif", partition="yx") if all(m is None or m in f for m in missing)]
    for path in lost:
        Path(path).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        imload(tmp_path / "cells.tif")
    assert f"{len(lost)} of 6 files are missing" in str(caught.value)
    assert all(Path(path).name in str(caught.value) for path in lost)
    filled = imload(tmp_path / "cells.tif", missing="fill")
    there = np.array([[f"i_{i}.c_{c}" not in " ".join(lost) for c in "ab"] for i in range(3)])
    np.testing.assert_array_equal(filled.image.values, values * there[:, :, None, None])


names = st.text("ab_1.é", min_size=1, max_size=4)


@given(well=names, site=names)
@examples(60, suppress_health_check=[HealthCheck.too_slow])
def test_a_filled_pattern_matches(well: str, site: str) -> None:
    pattern = Pattern("d{{/w{well}/s-{site:3}-x{t:03d}.tif")
    path = pattern.filled({"well": well, "site": site, "t": "007"})
    assert path == f"d{{/w{well}/s-{site}-x007.tif"
    assert (pattern.match(path) is not None) == (len(site) == 3)
    assert pattern.filled({"well": well}) is None
    assert Pattern("a*{t}").filled({"t": "1"}) is None
