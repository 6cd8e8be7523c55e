"""A plate as an object: its table, its tree, and OME-Zarr plates that others accept and that read back equal."""

from __future__ import annotations

import json
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
import yaozarrs
import zarr
from make_plates import CHANNELS, MAKERS, WELLS, phenix, values
from numpy.testing import assert_array_equal

import intake_img
from intake_img import imload
from intake_img.doors.cli import main
from intake_img.errors import CannotWriteError, FormatError, SceneError, TargetExistsError
from intake_img.formats.omezarr.driver import OmeZarr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return phenix(tmp_path / "plate", values())


def same_pixels(path: Path, pixels: np.ndarray) -> None:
    for w, well in enumerate(WELLS):
        for f in (1, 2):
            assert_array_equal(imload(path, scene=f"{well}/{f}").image, pixels[w, f - 1])


@pytest.mark.parametrize("kind", ["phenix-v6", "cellvoyager", "imagexpress", "incell", "scanr"])
def test_the_table_lists_all_planes_and_what_is_missing(kind: str, tmp_path: Path) -> None:
    make, options = MAKERS[kind]
    plate = intake_img.plate(make(tmp_path / "p", values(), **options))
    table = plate.table
    assert len(table) == values()[..., 0, 0].size
    assert table["present"].all()
    assert plate.missing.empty
    assert (plate.wells, plate.scenes) == (list(WELLS), ["B03/1", "B03/2", "D11/1", "D11/2"])
    assert plate.channels == list(CHANNELS)
    line = table[(table.well == "D11") & (table.field == "2") & (table.channel == "Alexa 488")].iloc[-1]
    (path,) = (p for p in (tmp_path / "p").rglob(Path(line.file).name) if str(p).endswith(line.file))
    assert_array_equal(tifffile.imread(path), values()[1, 1, -1, 1, -1])
    if kind != "imagexpress":
        path.unlink()
        assert plate.missing.file.tolist() == [line.file]
    assert "2 wells, 4 fields" in repr(plate)
    assert plate._repr_html_().count("<td>2</td>") == 2


def test_the_tree_has_wells_and_fields(folder: Path) -> None:
    tree = intake_img.plate(folder).tree()
    assert list(tree.children) == list(WELLS)
    assert_array_equal(tree["D11/2"].image, values()[1, 1])
    assert tree["B03/1"].to_dataset().drop_attrs().equals(imload(folder).drop_attrs())
    one = intake_img.plate(folder, chunks=None).tree("d11")
    assert [node.path for node in one.leaves] == ["/D11/1", "/D11/2"]
    with pytest.raises(SceneError, match="no images of the well 'A01'; it has B03, D11"):
        intake_img.plate(folder).tree(["A01"])


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_written_plate_is_valid_and_reads_back(version: str, folder: Path, tmp_path: Path) -> None:
    told: list[int] = []
    target = tmp_path / "o.zarr"
    assert intake_img.plate(folder).save(target, version=version, progress=told.append) == [str(target)]
    assert sum(told) == values().nbytes
    yaozarrs.validate_zarr_store(target)
    models = pytest.importorskip("ome_zarr_models")
    kind = {"0.5": models.v05, "0.4": models.v04}[version].hcs.HCS
    hcs = kind.from_zarr(zarr.open_group(target, mode="r"))
    plate = hcs.ome_attributes.plate if version == "0.5" else hcs.attributes.plate
    assert [w.path for w in plate.wells] == ["B/3", "D/11"]
    assert (len(plate.rows), len(plate.columns)) == (16, 24)
    same_pixels(target, values())
    for scene in ("B03/2", "D11/1"):
        assert imload(target, scene=scene).equals(imload(folder, scene=scene))
    stack = imload(target, scene="all")
    assert stack.well.values.tolist() == ["B03", "B03", "D11", "D11"]
    assert_array_equal(imload(target, scene="D11").image, values()[1])
    assert imload(target, scene="b03/1").attrs["well"] == "B03"
    again = intake_img.plate(target)
    assert_array_equal(again["D11/2"].image, values()[1, 1])
    again.save(tmp_path / "again.zarr", version=version)
    same_pixels(tmp_path / "again.zarr", values())


def test_an_interrupted_write_is_resumed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, write, made, lock = tmp_path / "o.zarr", OmeZarr.write, [], threading.Lock()

    def failing(self, image, path, **options):
        with lock:
            if len(made) == 2:
                raise OSError("the disk is gone")
            made.append(options["name"])
        return write(self, image, path, **options)

    plate = intake_img.plate(folder)
    monkeypatch.setattr(OmeZarr, "write", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        plate.save(target, jobs=1)
    assert not target.exists()
    with pytest.raises((TargetExistsError, CannotWriteError), match="other settings"):
        plate.save(target, resume=True, compress="gzip")
    done = list(made)
    monkeypatch.setattr(
        OmeZarr, "write", lambda self, image, path, **o: (made.append(o["name"]), write(self, image, path, **o))
    )
    plate.save(target, resume=True)
    assert (len(done), len(made), len(set(made))) == (2, 4, 4)
    yaozarrs.validate_zarr_store(target)
    same_pixels(target, values())
    with pytest.raises(TargetExistsError, match="exists"):
        plate.save(target)
    plate.save(target, overwrite=True)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_plate_is_written_to_a_remote_store_and_in_tasks(folder: Path) -> None:
    place = f"memory://{uuid.uuid4().hex}/o.zarr"
    intake_img.plate(folder).save(place, engine="dask")
    assert_array_equal(imload(place, scene="D11/2").image, values()[1, 1])
    assert imload(place).img.scenes == ["B/3/1", "B/3/2", "D/11/1", "D/11/2"]
    fsspec.filesystem("memory").rm(place.removeprefix("memory:/").rpartition("/")[0], recursive=True)


def test_the_command_converts_a_plate(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    target = tmp_path / "o.zarr"
    assert main(["convert", str(folder), str(target), "--jobs", "2", "--pyramid", "--progress"]) == 0
    shown = capsys.readouterr()
    assert "of pixels as OME-Zarr" in shown.out
    assert "field" in shown.err
    yaozarrs.validate_zarr_store(target)
    same_pixels(target, values())
    assert main(["convert", str(folder), str(target)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", str(folder), str(tmp_path / "one.zarr"), "--scene", "B03/2"]) == 0
    assert_array_equal(imload(tmp_path / "one.zarr").image, values()[0, 1])
    assert main(["convert", str(target), str(tmp_path / "two.zarr"), "--resume"]) == 0
    same_pixels(tmp_path / "two.zarr", values())


@pytest.mark.parametrize("how", ["planes", "pages", "rows"])
def test_a_table_of_images_is_a_plate(how: str, tmp_path: Path) -> None:
    pixels = values()
    lines = []
    for w, (well, (row, column)) in enumerate(WELLS.items()):
        for f in (0, 1):
            if how == "pages":  # t, c and z are pages of one file, out of order
                tifffile.imwrite(
                    tmp_path / f"{well}{f}.tif", pixels[w, f].reshape(-1, 4, 5)[::-1], photometric="minisblack"
                )
            for k, (t, c, z) in enumerate(np.ndindex(pixels.shape[2:5])):
                line = {"well": well, "field": f + 1, "t": t, "channel": CHANNELS[c], "z": z, "x": f * 2.5, "y": 0.0}
                line |= {"file": f"{well}{f}.tif", "page": pixels[0, 0, ..., 0, 0].size - 1 - k}
                if how != "pages":
                    line |= {"file": str(tmp_path / f"{well}{f}{k}.npy"), "page": None}
                    np.save(line["file"], pixels[w, f, t, c, z])
                if how == "rows":
                    line |= {"row": row, "column": column}
                    del line["well"]
                lines.append(line)
    frame = pd.DataFrame(lines)
    plate = intake_img.plate(frame, folder=tmp_path if how == "pages" else None)
    ds = plate.load("all")
    assert_array_equal(ds.image.values.reshape(pixels.shape), pixels)
    assert ds.img.channels == list(CHANNELS)
    assert ds.stage_x.values.tolist() == [0.0, 2.5, 0.0, 2.5]
    plate.save(tmp_path / "o.zarr", engine="dask")
    yaozarrs.validate_zarr_store(tmp_path / "o.zarr")
    same_pixels(tmp_path / "o.zarr", pixels)


def without(column: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.drop(columns=column)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (without("file"), "needs the columns 'file' and 'well'"),
        (without("well"), "needs the columns 'file' and 'well'"),
        (lambda f: f.assign(well="Q"), "has the well 'Q'"),
        (lambda f: f.assign(z=-1), "has z=-1: expected a whole number"),
        (lambda f: f.assign(page=7), "has 2 pages, but the index of the plate names page 7"),
        (lambda f: pd.concat([f, f]), "have the same place"),
        (lambda f: f.assign(file="../a.npy"), "names the file"),
        (lambda f: f[:0], "names no image"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(change: Callable, match: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 5), "u1"))
    frame = pd.DataFrame({"well": ["A01"], "file": ["a.npy"], "page": [1], "z": [0]})
    with pytest.raises(ValueError, match=match):
        intake_img.plate(change(frame), folder=tmp_path)["A01/1"]


def test_what_is_no_plate_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 5), "u1"))
    with pytest.raises(FormatError, match=r"a\.npy is not a plate: expected the folder of an instrument"):
        intake_img.plate(tmp_path / "a.npy")
    folder = phenix(tmp_path / "p", values())
    with pytest.raises(CannotWriteError, match="written as a folder"):
        intake_img.plate(folder).save(tmp_path / "o.zarr.zip")
    frame = pd.DataFrame({"well": [""], "field": ["Pos0"], "file": ["a.npy"]})
    positions = intake_img.plate(frame, folder=tmp_path)
    assert positions.scenes == ["Pos0"]
    assert list(positions.tree().children) == ["Pos0"]
    with pytest.raises(CannotWriteError, match="'Pos0' is in no well"):
        positions.save(tmp_path / "o.zarr")


def test_an_ome_tiff_that_describes_a_plate(tmp_path: Path) -> None:
    path = tmp_path / "p.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for k in range(3):
            writer.write(np.full((4, 5), k, "u1"), metadata={"axes": "YX", "Name": f"image {k}"})
    text = tifffile.tiffcomment(path)
    wells = (
        '<Well ID="W:0" Row="1" Column="2"><WellSample ID="S:0" Index="0"><ImageRef ID="Image:2"/></WellSample></Well>'
    )
    samples = "".join(f'<WellSample ID="S:{k}" Index="{k}"><ImageRef ID="Image:{k}"/></WellSample>' for k in (0, 1))
    wells += f'<Well ID="W:1" Row="0" Column="11">{samples}</Well>'
    tifffile.tiffcomment(path, text.replace("</OME>", f'<Plate ID="Plate:0">{wells}</Plate></OME>').encode())
    assert imload(path, scene="B03/1").image.values.max() == 2
    stack = imload(path, scene="all")
    assert stack.well.values.tolist() == ["A12", "A12", "B03"]
    assert imload(path, scene="A12").field.values.tolist() == ["1", "2"]
    plate = intake_img.plate(path)
    assert plate.scenes == ["A12/1", "A12/2", "B03/1"]
    plate.save(tmp_path / "o.zarr")
    yaozarrs.validate_zarr_store(tmp_path / "o.zarr")
    assert [int(imload(tmp_path / "o.zarr", scene=s).image.max()) for s in plate.scenes] == [0, 1, 2]


def test_a_real_plate_of_others(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "omezarr_v04" / "single-plane-hcs.zarr", tmp_path / "p.zarr")
    plate = intake_img.plate(tmp_path / "p.zarr")
    assert plate.wells == ["E07", "E08"]
    assert_array_equal(plate["E08/0"].image, zarr.open_array(tmp_path / "p.zarr" / "E/08/0/0", mode="r")[...])
    plate.save(tmp_path / "o.zarr")
    yaozarrs.validate_zarr_store(tmp_path / "o.zarr")
    assert imload(tmp_path / "o.zarr", scene="E07/0").equals(imload(tmp_path / "p.zarr", scene="E/07/0"))
    told = json.loads((tmp_path / "o.zarr" / "zarr.json").read_text())["attributes"]["ome"]["plate"]
    assert told["wells"][0] == {"path": "E/7", "rowIndex": 4, "columnIndex": 6}
    assert isinstance(plate.tree(), xr.DataTree)
