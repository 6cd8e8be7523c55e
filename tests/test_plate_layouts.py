"""Wells as mosaics, pictures of plates, plates by the names of their files, positions of Micro-Manager, and scans."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from make_plates import CHANNELS, MAKERS, STEP, WELLS, imagexpress, phenix, planes, position, values
from numpy.testing import assert_array_equal

import intake_img
from intake_img import imload, imsave, scan
from intake_img.collections.plates.unindexed import table_of_names
from intake_img.errors import AxesError, FormatError, SceneError
from intake_img.storage.files import File


def drawn(pixels: np.ndarray, places: list[tuple[float, float]], step: float) -> np.ndarray:
    """Fields of shape (field, ..., y, x) on one canvas, as it is made by hand: the last is on top."""
    corners = np.rint((np.array(places) - np.min(places, 0)) / step).astype(int)
    height, width = corners[:, 1].max() + pixels.shape[-2], corners[:, 0].max() + pixels.shape[-1]
    canvas = np.zeros((*pixels.shape[1:-2], height, width), pixels.dtype)
    for field, (left, top) in zip(pixels, corners, strict=True):
        canvas[..., top : top + pixels.shape[-2], left : left + pixels.shape[-1]] = field
    return canvas


@pytest.mark.parametrize("kind", ["phenix-v7", "cellvoyager", "incell", "scanr"])
def test_a_well_is_a_mosaic_of_its_fields(kind: str, tmp_path: Path) -> None:
    make, options = MAKERS[kind]
    folder, pixels = make(tmp_path / "p", values(), **options), values()
    wanted = [drawn(p, [position(0), position(1)], STEP) for p in pixels]
    ds = imload(folder, layout="stage")
    assert (ds.img.scenes, ds.img.scene, ds.img.axes) == (list(WELLS), "B03", "tczyx")
    assert_array_equal(ds.image, wanted[0])
    assert (ds.attrs["well"], ds.attrs["fields"], ds.attrs["layout"]) == ("B03", ["1", "2"], "stage")
    assert ds.img.spacing["x"] == STEP
    assert_array_equal(imload(folder, layout="stage", scene="d11", chunks={"y": 3, "x": 2}).image, wanted[1])
    stack = imload(folder, layout="stage", scene="all")
    assert_array_equal(stack.image, np.stack(wanted))
    assert stack.well.values.tolist() == list(WELLS)
    part = imload(folder, layout="stage", scene=1, partition={"y": slice(2, 5), "x": slice(3, 9), "c": "DAPI"})
    assert_array_equal(part.image, wanted[1][:, 0, :, 2:5, 3:9])
    with pytest.raises(SceneError, match="B03"):
        imload(folder, layout="stage", scene="B03/1")


@settings(max_examples=12, deadline=None)
@given(
    places=st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=1, max_size=5),
    window=st.tuples(*[st.integers(0, 40)] * 4),
)
def test_any_positions_and_any_window(
    places: list[tuple[float, float]], window: tuple[int, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("p")
    fields = np.arange(1, len(places) * 12 + 1, dtype="u1").reshape(-1, 3, 4)
    lines = []
    for k, (x, y) in enumerate(places):
        tifffile.imwrite(folder / f"{k}.tif", fields[k], imagej=True, resolution=(2, 2), metadata={"unit": "um"})
        lines.append({"well": "A01", "field": k, "file": f"{k}.tif", "x": x, "y": y})
    wanted = drawn(fields, places, 0.5)
    ds = intake_img.plate(pd.DataFrame(lines), folder=folder).load(layout="stage")
    assert_array_equal(ds.image, wanted)
    y0, y1, x0, x1 = window
    assert_array_equal(ds.image[y0:y1, x0:x1], wanted[y0:y1, x0:x1])


def test_mosaics_of_files_with_coordinates(tmp_path: Path) -> None:
    """The spacing comes from even coordinates, in any unit of length, where a file states no other."""
    fields = np.arange(1, 25, dtype="u1").reshape(2, 3, 4)
    lines = []
    for k in range(2):
        along = {a: (a, 40 + 500.0 * np.arange(n), {"units": "nm"}) for a, n in (("y", 3), ("x", 4))}
        imsave(xr.Dataset({"image": (("y", "x"), fields[k])}, along), tmp_path / f"{k}.ome.tif")
        lines.append({"well": "A01", "field": k, "file": f"{k}.ome.tif", "x": 1.5 * k, "y": 0.0})
    ds = intake_img.plate(pd.DataFrame(lines), folder=tmp_path).load(layout="stage")
    assert ds.img.spacing == {"y": 0.5, "x": 0.5}
    assert_array_equal(ds.image, drawn(fields, [(0.0, 0.0), (1.5, 0.0)], 0.5))


@pytest.mark.parametrize(
    ("metadata", "step"),
    [
        ({"spacing": {"z": 3, "y": 0.5, "x": 0.5}, "spacing_units": "um"}, 0.5),
        ({"spacing": {"y": 500.0, "x": 500.0}, "spacing_units": {"y": "nm", "x": "nm"}}, 0.5),
        ({"spacing": {"y": "250 nm", "x": "250 nm"}}, 0.25),
    ],
)
def test_mosaics_by_a_spacing_that_is_given(metadata: dict[str, object], step: float, tmp_path: Path) -> None:
    """What `metadata` says of the pixels places the fields, whether the files state another spacing or none."""
    fields = np.arange(1, 49, dtype="u1").reshape(2, 2, 3, 4)
    stated = {a: (a, 40 + 700.0 * np.arange(n), {"units": "nm"}) for a, n in (("y", 3), ("x", 4))}
    for coords, name in (({}, "none"), (stated, "other")):
        lines = []
        for k in range(2):
            image = xr.DataArray(fields[k], dims=("z", "y", "x"), coords=coords)
            imsave(image, tmp_path / f"{name}{k}.ome.tif")
            lines.append({"well": "A01", "field": k, "file": f"{name}{k}.ome.tif", "x": 1.5 * k, "y": 0.0})
        ds = intake_img.plate(pd.DataFrame(lines), folder=tmp_path, metadata=metadata).load(layout="stage")
        assert_array_equal(ds.image, drawn(fields, [(0.0, 0.0), (1.5, 0.0)], step))
        assert (ds.img.spacing["x"], ds.img.units["x"]) == (step, "µm")
        assert ds.img.spacing.get("z") == (3 if "z" in metadata["spacing"] else None)


def test_mosaics_need_positions_and_spacing(tmp_path: Path) -> None:
    folder = imagexpress(tmp_path / "p", values())
    with pytest.raises(FormatError, match="needs the spacing of 'y'"):
        imload(folder, layout="stage")
    with pytest.raises(ValueError, match="expected 'stage' or None"):
        imload(folder, layout="grid")
    phenix(tmp_path / "q", values())
    index = tmp_path / "q" / "Images" / "Index.idx.xml"
    index.write_text(index.read_text().replace("PositionX", "PositionW"))
    with pytest.raises(FormatError, match=r"position.* of 'B03/1' is not known"):
        imload(tmp_path / "q", layout="stage")


def test_positions_are_read_from_the_files(data: Path, tmp_path: Path) -> None:
    folder = data / "imagexpress" / "9987_Plate_3435"
    with pytest.warns(UserWarning, match="plans more"):
        ds = imload(folder, layout="stage", scene="B03")
    sites = [imload(folder / "TimePoint_1" / f"9987_B03_s{s}_w1.TIF") for s in (1, 2)]
    shift = [s.img.header["metaseries"]["stage-position-x"] for s in sites]
    left = round((shift[1] - shift[0]) / 1.3672)
    assert_array_equal(ds.image[0, 0, :, left:], sites[1].image)
    assert_array_equal(ds.image[0, 0, :, :left], sites[0].image[:, :left])
    written = tmp_path / "o.zarr"
    intake_img.plate(phenix(tmp_path / "p", values())).save(written)
    wanted = imload(tmp_path / "p", layout="stage", scene="D11").image
    assert_array_equal(intake_img.plate(written).load("D11", layout="stage").image, wanted)


# pictures


def test_a_plate_is_drawn_with_a_number_a_well(tmp_path: Path) -> None:
    ds = imload(phenix(tmp_path, values()), scene="all")
    shown = {"mean": ds.image.mean(list("tczyx")), "max": ds.image.max(list("tczyx"))}
    for how, numbers in shown.items():
        ax = ds.img.plot_plate(how)
        table = np.asarray(ax.images[0].get_array().filled(np.nan))
        assert table.shape == (16, 24)
        assert np.isfinite(table).sum() == 2
        assert table[1, 2] == pytest.approx(float(numbers[:2].mean()))
        assert table[3, 10] == pytest.approx(float(numbers[2:].mean()))
        assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["A", "B"]
        plt.close(ax.figure)
    ax = ds.img.plot_plate(lambda image: image.sizes["t"], channel="DAPI")
    assert ax.images[0].get_array()[1, 2] == 2
    plt.close(ax.figure)
    ax = ds.image.img.plot_plate(np.array([1.0, 3.0, np.nan, 5.0]), limits=(0, 9))
    assert (ax.images[0].get_array()[1, 2], ax.images[0].get_array()[3, 10]) == (2.0, 5.0)
    assert ax.images[0].get_clim() == (0, 9)
    plt.close(ax.figure)


def test_a_plate_is_drawn_with_thumbnails(tmp_path: Path) -> None:
    ds = imload(phenix(tmp_path, values()), scene="all")
    ax = ds.img.plot_plate("thumbnail", channel=0)
    assert [tuple(np.mean(np.reshape(i.get_extent(), (2, 2)), 1)) for i in ax.images] == [(2.0, 1.0), (10.0, 3.0)]
    first, second = (np.asarray(i.get_array()).mean() for i in ax.images)
    assert first < second  # the same stretch, so that wells can be compared
    plt.close(ax.figure)
    with pytest.raises(AxesError, match="along 'i' with the coordinates 'row' and 'column'"):
        imload(tmp_path).img.plot_plate()
    with pytest.raises(ValueError, match="expected 'thumbnail'"):
        ds.img.plot_plate("mode")
    with pytest.raises(ValueError, match="4 images along 'i'"):
        ds.img.plot_plate([1, 2])


# names


def rename(kind: str, well: str, f: int, t: int, c: int, z: int) -> str:
    row, column = WELLS[well]
    return {
        "Operetta": f"r{row + 1:02d}c{column + 1:02d}f{f + 1:02d}p{z + 1:02d}-ch{c + 1}sk{t + 1}fk1fl1.tiff",
        "CellVoyager": f"a_{well}_T{t + 1:04d}F{f + 1:03d}L01A01Z{z + 1:02d}C{c + 1:02d}.tif",
        "InCell": f"{well[0]} - {column + 1}(fld {f + 1} wv {CHANNELS[c]} z {z + 1} tm {t + 1}).tif",
        "scanR": f"{well}--W00001--P{f + 1:05d}--Z{z:05d}--T{t:05d}--{CHANNELS[c]}.tif",
        "ImageXpress": f"p_{well}_s{f + 1}_w{c + 1}.TIF",
        "positions": f"pos{2 * list(WELLS).index(well) + f:02d}_{CHANNELS[c].replace(' ', '')}_t{t:03d}.tif",
    }[kind]


@pytest.mark.parametrize("kind", ["Operetta", "CellVoyager", "InCell", "scanR", "ImageXpress", "positions"])
def test_names_of_well_known_schemes_are_a_plate(kind: str, tmp_path: Path) -> None:
    few = {"ImageXpress": values(1, 2, 1), "positions": values(2, 2, 1)}
    pixels = few.get(kind, values())
    for well, _, f, t, c, z, plane in planes(pixels):
        tifffile.imwrite(tmp_path / rename(kind, well, f, t, c, z), plane)
    with pytest.warns(UserWarning, match=rf"no index: the names of its \d+ files are taken as those of .*{kind}"):
        ds = imload(tmp_path, scene="all")
    if kind in ("InCell", "scanR", "positions"):  # channels have names, which are in order
        names = [c.replace(" ", "") if kind == "positions" else c for c in CHANNELS]
        assert ds.img.channels == sorted(names)
        ds = ds.sel(c=names)
    squeezed = pixels.reshape(4, *pixels.shape[2:])
    assert_array_equal(ds.image.values.reshape(squeezed.shape), squeezed)
    notes = scan(tmp_path).notes
    if kind == "positions":
        assert not notes
        assert ds.i.values.tolist() == ["pos00", "pos01", "pos02", "pos03"]
        assert "well" not in ds.coords
    else:
        assert ds.well.values.tolist() == ["B03", "B03", "D11", "D11"]
        assert re.match(
            rf"the names of its \d+ files are those of .*{kind}.* \(2 wells, 4 fields", notes[str(tmp_path)]
        )
    (tmp_path / "other.tif").write_bytes((tmp_path / rename(kind, "B03", 0, 0, 0, 0)).read_bytes())
    assert table_of_names(File(str(tmp_path)), [p.name for p in tmp_path.iterdir()]) is None


@pytest.mark.parametrize(
    "names",
    [["a.tif", "b.tif"], ["img_t1.tif", "img_t2.tif"], ["x_B00_s1_w1.tif", "x_B00_s2_w1.tif"], ["x_B02_s1.tif"]],
)
def test_other_names_are_no_plate(names: list[str]) -> None:
    assert table_of_names(File("/nowhere"), names) is None


# Micro-Manager


def test_positions_of_micro_manager_in_folders(tmp_path: Path) -> None:
    pixels = values(2, 2, 3)
    labels = {("B03", 0): "B03-Site_0", ("B03", 1): "B03-Site_1", ("D11", 0): "D11-Site_0", ("D11", 1): "D11-Site_1"}
    for well, _, f, t, c, z, plane in planes(pixels):
        folder = tmp_path / labels[well, f]
        folder.mkdir(exist_ok=True)
        tifffile.imwrite(folder / f"img_{t:09d}_{CHANNELS[c]}_{z:03d}.tif", plane)
        summary = {"ChNames": list(CHANNELS), "PixelSize_um": STEP, "z-step_um": 2.0, "Positions": 4}
        text = json.dumps({"Summary": summary, "FrameKey-0-0-0": {"Time": "2024"}})
        (folder / "metadata.txt").write_text(text[:-1] if f else text)  # the run was interrupted
    ds = imload(tmp_path, scene="all")
    assert_array_equal(ds.image, pixels.reshape(4, *pixels.shape[2:]))
    assert ds.img.spacing == {"z": 2.0, "y": STEP, "x": STEP}
    assert (ds.well.values.tolist(), ds.field.values.tolist()) == (["B03", "B03", "D11", "D11"], ["0", "1", "0", "1"])
    assert ds.img.channels == list(CHANNELS)
    for path in tmp_path.iterdir():
        path.rename(tmp_path / f"Pos{sorted(labels.values()).index(path.name)}")
    assert imload(tmp_path).img.scenes == ["Pos0", "Pos1", "Pos2", "Pos3"]
    assert_array_equal(imload(tmp_path, scene="Pos3").image, pixels[1, 1])


def test_positions_of_micro_manager_as_stacks(tmp_path: Path) -> None:
    for k in range(3):
        tifffile.imwrite(
            tmp_path / f"a_MMStack_Pos{k}.ome.tif", np.full((2, 4, 5), k, "u2"), ome=True, metadata={"axes": "ZYX"}
        )
    assert imload(tmp_path).img.scenes == ["Pos0", "Pos1", "Pos2"]
    stack = imload(tmp_path, scene="all")
    assert stack.i.values.tolist() == ["Pos0", "Pos1", "Pos2"]
    assert_array_equal(stack.image.max(["z", "y", "x"]), [0, 1, 2])


# scans


@pytest.mark.parametrize("kind", MAKERS)
def test_a_scan_makes_one_image_of_a_plate(kind: str, tmp_path: Path) -> None:
    make, options = MAKERS[kind]
    make(tmp_path / "my plate", values(), **options)
    np.save(tmp_path / "other.npy", np.zeros((4, 5)))
    found = scan(tmp_path)
    assert not found.notes
    names = {re.sub(r"\W", "_", n): n for n in found}
    assert {"my_plate", "other"} <= set(names)
    source = found[names["my_plate"]]
    assert source.description.startswith("48 files: 4 scenes, the first: ")
    assert_array_equal(source.renewed(scene="D11/2").read().image, values()[1, 1])
    if kind != "imagexpress":  # whose projections and thumbnails are images, too
        assert len(found) == 2
    shutil.rmtree(tmp_path / "my plate")


def test_real_plates_are_scanned(data: Path) -> None:
    found = scan(data / "imagexpress" / "9987_Plate_3435")
    assert [source.name_of_driver() for source in found.values()] == ["plate"]
    with pytest.warns(UserWarning, match="plans more"):
        assert isinstance(next(iter(found.values())).dataset(), xr.Dataset)
