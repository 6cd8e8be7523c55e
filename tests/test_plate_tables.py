"""Tables of images (`write_table`) as plates: any loose files with a well become OME-Zarr that others accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import intake
import numpy as np
import pytest
import tifffile
import yaozarrs
from numpy.testing import assert_array_equal

import intake_img
from intake_img import imload, open_table, scan, write_table
from intake_img.doors.cli import main
from intake_img.errors import CannotWriteError, FormatError, IntakeImgError

NAMES = ("apple", "berry", "cherry", "damson")
SCENES = ("A01/1", "A01/2", "B02/1", "B02/2")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (4, 2, 16, 20), "uint16")


@pytest.fixture
def loose(tmp_path: Path, pixels: np.ndarray) -> Path:
    (tmp_path / "loose").mkdir()
    for name, image in zip(NAMES, pixels, strict=True):
        meta: dict[str, Any] = {"axes": "CYX", "unit": "um"}
        tifffile.imwrite(tmp_path / "loose" / f"{name}.tif", image, imagej=True, metadata=meta, resolution=(2, 2))
    return tmp_path / "loose"


def table_of(folder: Path, **columns: Any) -> Path:
    found = scan(folder)
    given = {"well": ["A01", "A01", "B02", "B02"], "field": ["1", "2", "1", "2"]} | columns
    path = folder.parent / "images.parquet"
    keyed = {k: dict(zip(NAMES, v, strict=True)) for k, v in given.items() if v is not None}
    write_table(found, path, columns=keyed, overwrite=True)
    return path


@pytest.mark.parametrize("how", ["command", "table", "written"])
def test_loose_files_become_a_plate(how: str, loose: Path, pixels: np.ndarray) -> None:
    path, target = table_of(loose), loose.parent / "o.zarr"
    if how == "command":
        assert main(["convert", str(path), str(target), "--jobs", "2"]) == 0
    else:
        plate = intake_img.plate(open_table(path) if how == "table" else intake_img.catalog.ImageTable(path))
        assert plate.scenes == list(SCENES)
        assert plate.table.present.all()
        plate.save(target)
    yaozarrs.validate_zarr_store(target)
    for scene, image in zip(SCENES, pixels, strict=True):
        ds = imload(target, scene=scene)
        assert_array_equal(ds.image, image)
        assert ds.img.spacing == {"y": 0.5, "x": 0.5}
        assert ds.x.attrs["units"] == "µm"


def test_the_command_takes_one_field_of_a_table(loose: Path, pixels: np.ndarray, capsys: Any) -> None:
    path, target = table_of(loose), loose.parent / "o.tif"
    assert main(["convert", str(path), str(target), "--scene", "B02/1"]) == 0
    assert_array_equal(imload(target).image, pixels[2])
    assert main(["convert", str(path), str(target), "--level", "1", "--overwrite"]) == 2
    assert "level" in capsys.readouterr().err


def test_rows_may_be_channels_of_a_field(tmp_path: Path) -> None:
    planes = np.arange(4 * 4 * 5, dtype="u1").reshape(4, 4, 5)
    (tmp_path / "loose").mkdir()
    for name, plane in zip(NAMES, planes, strict=True):
        np.save(tmp_path / "loose" / f"{name}.npy", plane)
    path = table_of(tmp_path / "loose", field=None, channel=["DAPI", "GFP"] * 2)
    plate = intake_img.plate(open_table(path))
    assert plate.scenes == ["A01/1", "B02/1"]
    assert plate["B02/1"].img.channels == ["DAPI", "GFP"]
    assert_array_equal(plate.load("all").image.values.reshape(planes.shape), planes)


@pytest.mark.parametrize("by", ["number", "name"])
def test_rows_may_be_scenes_of_one_file(by: str, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 255, (2, 4, 5), "uint8")
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as writer:
        for k in (0, 1):
            writer.write(values[k], metadata={"Name": f"s{k}", "axes": "YX"})
    names = list(imload(tmp_path / "two.ome.tif").attrs["scenes"])
    sources = {
        f"n{k}": intake.open_tif(str(tmp_path / "two.ome.tif"), scene=(k, names[k])[by == "name"]) for k in (1, 0)
    }
    path = tmp_path / "t.parquet"
    write_table(sources, path, columns={"well": {"n1": "C03", "n0": "A01"}})
    plate = intake_img.plate(open_table(path))
    assert_array_equal(plate["C03/1"].image, values[1])
    assert_array_equal(plate["A01/1"].image, values[0])


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"well": None}, "4 images have no well, e.g. 'apple'"),
        ({"well": ["A01", "A01", "B02", "x"]}, "has the well 'x'"),
        ({"plate": ["p", "p", "q", "q"]}, "images of 2 plates, 'p', 'q'"),
        ({"field": ["1"] * 4}, "have the same place"),
    ],
)
def test_a_table_that_is_no_plate_is_refused(columns: dict[str, Any], match: str, loose: Path, capsys: Any) -> None:
    path = table_of(loose, **columns)
    with pytest.raises((ValueError, FormatError), match=match):
        intake_img.plate(open_table(path))["A01/1"]
    assert main(["convert", str(path), str(loose.parent / "o.zarr")]) != 0
    assert not (loose.parent / "o.zarr").exists()
    assert match[-20:].strip("'") in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.* has no index")
def test_rows_that_do_not_open_by_their_file_alone_are_refused(tmp_path: Path, loose: Path) -> None:
    (tmp_path / "s").mkdir()
    for t in (0, 1):
        np.save(tmp_path / "s" / f"a_t{t}.npy", np.zeros((3, 4), "u1"))
    (tmp_path / "wells").mkdir()
    for c in (1, 2):
        tifffile.imwrite(tmp_path / "wells" / f"B02_w{c}.tif", np.zeros((3, 4), "u1"))
    np.zeros((3, 4), "i2").tofile(tmp_path / "flat.bin")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4), "u1"))
    with h5py.File(tmp_path / "x.nc", "w") as f:
        f["image"] = np.zeros((3, 4), "u1")
    for source, match in (
        (intake.open_hdf5(str(tmp_path / "x.nc")), "driver 'hdf5', but opens by itself as 'netcdf'"),
        (
            intake.open_filepattern(str(tmp_path / "s/a_t{w}.npy")),
            r"the fields \['w'\], which are not those of a plate",
        ),
        (intake.open_filepattern(str(tmp_path / "s/a_t{t}.npy"), member_options={"x": 1}), r"\['member_options'\]"),
        (intake.open_plate(str(tmp_path / "wells")), "not one file or a series, but a plate"),
        (intake.open_binary(str(tmp_path / "flat.bin"), shape=(3, 4)), r"options \['shape'\]"),
        (intake.open_tif(str(tmp_path / "a.tif"), metadata={"axes": "zx"}), r"options \['axes'\]"),
        (intake.open_tif(str(tmp_path / "a.tif"), scene="all"), "scene 'all' is not one image"),
    ):
        write_table({"a": source}, tmp_path / "t.parquet", columns={"well": {"a": "A01"}}, overwrite=True)
        with pytest.raises(IntakeImgError, match=match):
            intake_img.plate(open_table(tmp_path / "t.parquet"))
    with pytest.raises(ValueError, match="folder= and storage_options= are for a DataFrame"):
        intake_img.plate(open_table(table_of(loose)), folder=tmp_path)


def test_rows_may_be_series(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (2, 2, 3, 4, 5), "uint8")
    for k, t, z in np.ndindex(2, 2, 3):
        np.save(tmp_path / f"{'ab'[k]}_t{t}_z{z}.npy", planes[k, t, z])
    table = write_table(scan(tmp_path), tmp_path / "t.parquet", columns={"well": {"a": "A01", "b": "C12"}})
    plate = intake_img.plate(table)
    assert plate.scenes == ["A01/1", "C12/1"]
    for k, scene in enumerate(plate.scenes):
        assert plate[scene].image.dims == ("t", "z", "y", "x")
        assert_array_equal(plate[scene].image, planes[k])
    fields = intake.open_filepattern(str(tmp_path / "{well}_t{site}_z{z}.npy"))
    write_table({"all": fields}, tmp_path / "t.parquet", overwrite=True)
    with pytest.raises(ValueError, match=r"has the well '[ab]'"):
        intake_img.plate(open_table(tmp_path / "t.parquet"))
    for path in tmp_path.glob("*.npy"):
        path.rename(path.with_name("A01" * (path.name[0] == "a") + "B02" * (path.name[0] == "b") + path.name[1:]))
    plate = intake_img.plate(open_table(tmp_path / "t.parquet"))
    assert plate.scenes == ["A01/0", "A01/1", "B02/0", "B02/1"]
    assert_array_equal(plate["B02/1"].image, planes[1, 1])


def test_a_table_of_one_plate_is_the_plate(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    for field in (1, 2):
        tifffile.imwrite(tmp_path / "lab" / f"B02_s{field}_w1.tif", np.full((3, 4), field, "u1"))
    with pytest.warns(UserWarning, match="has no index"):
        intake_img.plate(tmp_path / "lab").save(tmp_path / "p.zarr")
    table = write_table({"p": intake.open_omezarr(str(tmp_path / "p.zarr"))}, tmp_path / "t.parquet")
    assert intake_img.plate(table).scenes == ["B02/1", "B02/2"]
    one = intake.open_omezarr(str(tmp_path / "p.zarr"), scene="B02/2")
    table = write_table({"one": one}, tmp_path / "t.parquet", overwrite=True)
    with pytest.raises(FormatError, match="a plate needs a row for each image"):
        intake_img.plate(table)


def test_rows_without_a_channel_among_others_are_refused(tmp_path: Path) -> None:
    import pandas as pd

    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.zeros((4, 5), "u1"))
    frame = pd.DataFrame({"well": ["A01", "B02"], "file": ["a.npy", "b.npy"]})
    for column, values, words in (
        ("channel", ["DAPI", None], "'channel' or 'c'"),
        ("c", [0, np.nan], "'channel' or 'c'"),
        ("z", [np.nan, 3], "'z'"),
        ("t", [0, None], "'t'"),
    ):
        with pytest.raises(FormatError, match=f"no {words} for"):
            intake_img.plate(frame.assign(**{column: values}), folder=tmp_path)


def test_scenes_among_several_rows_of_a_field_are_refused(tmp_path: Path) -> None:
    import pandas as pd

    np.save(tmp_path / "a.npy", np.zeros((4, 5), "u1"))
    frame = pd.DataFrame({"well": ["A01"] * 2, "file": ["a.npy"] * 2, "c": [0, 1], "scene": [0, 1]})
    with pytest.raises(FormatError, match="2 rows of the field 'A01/1', and scenes among them"):
        intake_img.plate(frame, folder=tmp_path)


def test_a_write_is_not_resumed_with_other_files(tmp_path: Path) -> None:
    import pandas as pd

    for name, value in (("a", 1), ("b", 2)):
        np.save(tmp_path / f"{name}.npy", np.full((4, 5), value, "u1"))
    rows = pd.DataFrame({"well": ["A01", "B02"], "file": ["a.npy", "a.npy"]})

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        intake_img.plate(rows, folder=tmp_path).save(tmp_path / "o.zarr", jobs=1, progress=stop)
    with pytest.raises(CannotWriteError, match="was of another image"):
        intake_img.plate(rows.assign(file="b.npy"), folder=tmp_path).save(tmp_path / "o.zarr", resume=True)
    intake_img.plate(rows, folder=tmp_path).save(tmp_path / "o.zarr", resume=True)
    assert (imload(tmp_path / "o.zarr", scene="B02/1").image == 1).all()
