"""Every plate opens with the pixels, names, places and times that its index says, whichever instrument wrote it."""

from __future__ import annotations

import collections
import pickle
import re
import shutil
import time
import uuid
import warnings
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import fsspec
import intake
import numpy as np
import pandas as pd
import pytest
import tifffile
from fsspec.implementations.memory import MemoryFileSystem
from make_plates import CHANNELS, MAKERS, SECONDS, STEP, WELLS, phenix, position, values
from numpy.testing import assert_allclose, assert_array_equal

import intake_img
from intake_img import imload
from intake_img.collections.plates.index_files import plate_of
from intake_img.collections.plates.plate_images import present
from intake_img.errors import CatalogError, FormatError, SceneError
from intake_img.storage.files import File
from intake_img.storage.jail import Jail


@pytest.fixture(params=MAKERS)
def plate(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a plate that one of the instruments wrote."""
    make, options = MAKERS[request.param]
    return make(tmp_path / request.param, values(), **options)


def test_a_folder_with_an_index_is_a_plate(plate: Path) -> None:
    pixels = values()
    first = imload(plate)
    assert first.img.scenes == ["B03/1", "B03/2", "D11/1", "D11/2"]
    assert (first.attrs["driver"], first.img.scene) == ("plate", "B03/1")
    assert_array_equal(first.image, pixels[0, 0])
    assert first.img.axes == "tczyx"
    for w, well in enumerate(WELLS):
        for f in (1, 2):
            assert_array_equal(imload(plate, scene=f"{well}/{f}").image, pixels[w, f - 1])
    assert_array_equal(imload(plate, scene=-1).image, pixels[1, 1])
    assert_array_equal(imload(plate, scene="b/3/2").image, pixels[0, 1])
    one = imload(plate, scene="D11/2", partition={"c": "Alexa 488", "z": 1}, chunks={"y": 2})
    assert_array_equal(one.image, pixels[1, 1, :, 1, 1])


def test_fields_are_stacked_with_their_places(plate: Path) -> None:
    pixels = values()
    ds = imload(plate, scene="all")
    assert ds.img.axes == "itczyx"
    assert_array_equal(ds.image, pixels.reshape(-1, *pixels.shape[2:]))
    assert ds.well.values.tolist() == ["B03", "B03", "D11", "D11"]
    assert (ds.row.values.tolist(), ds.column.values.tolist()) == ([1, 1, 3, 3], [2, 2, 10, 10])
    assert ds.field.values.tolist() == ["1", "2", "1", "2"]
    assert ds.i.values.tolist() == ds.img.scenes
    assert_array_equal(imload(plate, scene="all", partition={"well": "D11"}).image, pixels[1])
    assert_array_equal(imload(plate, scene="D11").image, pixels[1])
    assert (ds.attrs["plate_rows"], ds.attrs["plate_columns"]) in ((16, 24), (4, 11))  # scanR does not say


def test_the_index_gives_the_facts(plate: Path) -> None:
    ds = imload(plate, scene="D11/2")
    assert ds.img.channels == list(CHANNELS)
    if plate.name == "imagexpress":  # its facts are in the files
        return
    assert ds.img.spacing == {"t": 60.5, "z": 2.0, "y": STEP, "x": STEP}
    assert ds.img.units == {"t": "s", "z": "µm", "y": "µm", "x": "µm"}
    assert_allclose(ds.t, SECONDS)
    assert ds.z.values.tolist() == [0.0, 2.0, 4.0]
    assert_allclose(ds.attrs["position"], position(1))
    stack = imload(plate, scene="all")
    assert_allclose(np.stack([stack.stage_x, stack.stage_y], 1), [position(0), position(1)] * 2)
    if plate.name != "scanr":
        assert ds.c.attrs["emission_wavelength"] == [456.0, 457.0]
        assert ds.c.attrs["excitation_wavelength"] == [405.0, 406.0]
        assert ds.attrs["plate"] == "P & Q"


def test_the_index_itself_opens_and_sources_travel(plate: Path, tmp_path: Path) -> None:
    table = plate_of(File.parse(plate))
    assert table is not None
    assert table.index is not None
    assert imload(table.index.path, scene="D11/1").equals(imload(plate, scene="D11/1"))
    source = intake.open_img(str(plate), scene="D11/1")
    assert_array_equal(pickle.loads(pickle.dumps(source)).read().image, values()[1, 0])
    (tmp_path / "c.yml").write_text(intake.open_plate(str(plate), scene="D11").yaml())
    assert_array_equal(intake_img.open_catalog(str(tmp_path / "c.yml")).plate.read().image, values()[1])


def test_missing_planes_are_told_and_filled(plate: Path) -> None:
    table = plate_of(File.parse(plate))
    assert table is not None
    lost = table.fields[table.scenes["B03/2"]][3]
    (Path(table.folder.path) / lost.file).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(imload(plate).image, values()[0, 0])  # the first field has all of its planes
    with pytest.warns(UserWarning, match=r"1 of 12 planes are missing, zeros are in their place: B03/2 t="):
        ds = imload(plate, scene="B03/2")
    assert len(ds.attrs["missing"]) == 1
    found, wanted = ds.image.values, values()[0, 1]
    same = found == wanted
    assert (~same).sum() == 20
    assert not found[~same].any()
    with pytest.raises(FileNotFoundError, match="1 of 12 planes are missing: B03/2"):
        imload(plate, scene="B03/2", missing="error")
    if plate.name == "imagexpress":  # its table is made of the files
        return
    for path in Path(table.folder.path).rglob("*.tif*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"none of the 12 files of 'B03/1' exists"):
        imload(plate)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<x/>", "not an index of Harmony"),
        ("<EvaluationInputData><Images>", "does not parse"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><EvaluationInputData>&b;</EvaluationInputData>", "document type or entities"),
        ("<EvaluationInputData><Images/></EvaluationInputData>", "names no image"),
        ("", "does not parse"),
    ],
)
def test_a_damaged_index_is_told(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "Index.idx.xml").write_text(text)
    for k in range(3):
        tifffile.imwrite(tmp_path / f"a{k}.tif", np.full((4, 5), k, "u2"))
    with pytest.raises(FormatError, match=match):
        imload(tmp_path / "Index.idx.xml")
    with pytest.warns(UserWarning, match=rf"cannot be read as one \(.*{match}"):
        assert imload(tmp_path).sizes["i"] == 3


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.tif", "a/../../b.tif", "C:\\a.tif", "https://x.org/a.tif", "a\\..\\b"]
)
def test_files_outside_of_the_plate_are_refused(name: str, tmp_path: Path) -> None:
    phenix(tmp_path, values())
    index = tmp_path / "Images" / "Index.idx.xml"
    text = index.read_text()
    index.write_text(text.replace("r02c03f01p01-ch1sk1fk1fl1.tiff", name))
    with pytest.raises(FormatError, match="names the file"):
        imload(index)


@pytest.mark.parametrize("tag", ["Row", "Col"])
def test_wells_on_no_plate_are_refused(tag: str, tmp_path: Path) -> None:
    index = phenix(tmp_path, values()) / "Images" / "Index.idx.xml"
    index.write_text(re.sub(rf"<{tag}>\d+<", f"<{tag}>99999999<", index.read_text(), count=1))
    with pytest.raises(FormatError, match=r"99999999.*no such plate"):
        imload(index)


def test_numbers_that_span_no_grid_are_refused(tmp_path: Path) -> None:
    lines = [{"well": "A01", "field": 1, "t": k, "c": k, "z": k, "file": f"{k}.tif"} for k in range(500)]
    with pytest.raises(FormatError, match="500 planes of 1 fields have places on a grid of t 500, c 500, z 500"):
        intake_img.plate(pd.DataFrame(lines), folder=tmp_path)["A01/1"]


def test_a_link_out_of_the_plate_is_refused(tmp_path: Path) -> None:
    folder = phenix(tmp_path / "plate", values()) / "Images"
    (folder / "r02c03f01p01-ch1sk1fk1fl1.tiff").rename(tmp_path / "secret.tiff")
    (folder / "r02c03f01p01-ch1sk1fk1fl1.tiff").symlink_to(tmp_path / "secret.tiff")
    (tmp_path / "plate" / "c.yml").write_text(intake.open_plate(str(folder)).yaml())
    with pytest.raises(CatalogError, match="lies outside"):
        intake_img.open_catalog(str(tmp_path / "plate" / "c.yml")).plate.read()


def test_two_planes_at_one_place_are_refused(tmp_path: Path) -> None:
    index = phenix(tmp_path, values()) / "Images" / "Index.idx.xml"
    index.write_text(index.read_text().replace("<PlaneID>2<", "<PlaneID>1<"))
    with pytest.raises(FormatError, match=r"'r02c03f01p01.*' and 'r02c03f01p02.*' have the same place in 'B03/1'"):
        imload(tmp_path)


def test_the_jail_holds_for_the_index_and_its_files(tmp_path: Path) -> None:
    phenix(tmp_path / "plate", values(), above=True)
    inside = Jail((str((tmp_path / "plate" / "Images").resolve()),))
    (tmp_path / "plate" / "Images" / "Index.idx.xml").symlink_to(tmp_path / "plate" / "Index.idx.xml")
    with pytest.raises(CatalogError, match="lies outside"):
        plate_of(File(str(tmp_path / "plate" / "Images" / "Index.idx.xml"), {}, inside))
    with pytest.raises(CatalogError, match="lies outside"):
        plate_of(File(str(tmp_path / "plate"), {}, inside))


def test_scenes_that_are_not_there_are_named(tmp_path: Path) -> None:
    phenix(tmp_path, values())
    for scene in ("C01/1", "B03/9", 4, "C01"):
        with pytest.raises(SceneError, match=r"B03/1"):
            imload(tmp_path, scene=scene)
    with pytest.raises(ValueError, match="expected 'fill' or 'error'"):
        imload(tmp_path, missing="skip")


def test_options_of_sequences_mean_the_files(tmp_path: Path) -> None:
    phenix(tmp_path, values())
    assert imload(tmp_path / "Images", ext="tiff", axis="t").sizes["t"] == values()[..., 0, 0].size


def test_a_channel_of_several_actions_is_several_channels(tmp_path: Path) -> None:
    folder = MAKERS["cellvoyager"][0](tmp_path, values())
    index = folder / "MeasurementData.mlf"
    index.write_text(
        index.read_text().replace('bts:ZIndex="3" bts:ActionIndex="1"', 'bts:ZIndex="1" bts:ActionIndex="2"')
    )
    with pytest.warns(UserWarning, match="planes are missing"):  # the second action has no stack
        ds = imload(folder)
    assert ds.img.channels == [f"{n}, action {a}" for n in CHANNELS for a in (1, 2)]
    assert_array_equal(ds.image[:, 0], values()[0, 0, :, 0, :2])
    assert_array_equal(ds.image[:, 3, 0], values()[0, 0, :, 1, 2])
    assert not ds.image[:, 3, 1].any()


def test_a_plate_opens_from_a_remote_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the index, a field costs no more than three requests a file; the others are not looked at."""
    phenix(tmp_path, values(1, 1, 1))
    fs, place = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    fs.put(f"{tmp_path}/Images", place, recursive=True)
    source = intake.open_img(f"memory:/{place}", scene="D11/2")
    assert source.found.table.scenes  # the index is read
    asked: list[str] = []
    for name in ("cat_file", "_open", "info", "ls", "find", "exists"):
        original = getattr(type(fs), name)

        def noted(self, path, *args, original=original, name=name, **kwargs):
            asked.append(f"{name} {path}")
            return original(self, path, *args, **kwargs)

        monkeypatch.setattr(type(fs), name, noted)
    assert_array_equal(source.read().image[0], values(1, 1, 1)[1, 1, 0, 0, 0])
    assert {a.rpartition("/")[2] for a in asked} == {"r04c11f02p01-ch1sk1fk1fl1.tiff"}
    fs.rm(f"{place}/r04c11f01p01-ch1sk1fk1fl1.tiff")
    with pytest.warns(UserWarning, match="does not exist: its plane is filled with 0"):
        stack = imload(f"memory:/{place}", scene="all").compute()
    assert_array_equal(stack.image.any(("c", "y", "x")), [True, True, False, True])
    fs.rm(place, recursive=True)


def test_a_plate_of_1536_wells_opens_in_the_time_of_its_index(tmp_path: Path) -> None:
    """13 824 fields: opening one takes hardly longer than making a tree of the XML would."""
    image = (
        "<Image><URL>{0:02d}{1:02d}f{2}.tif</URL><Row>{0}</Row><Col>{1}</Col><FieldID>{2}</FieldID>"
        "<PlaneID>1</PlaneID><TimepointID>0</TimepointID><ChannelID>1</ChannelID><PositionX>0</PositionX>"
        "<PositionY>0</PositionY><AcquisitionType>Confocal</AcquisitionType><BinningX>2</BinningX></Image>"
    )
    images = "".join(image.format(r, c, f) for r in range(1, 33) for c in range(1, 49) for f in range(1, 10))
    text = f"<EvaluationInputData><Images>{images}</Images></EvaluationInputData>"
    (tmp_path / "Index.idx.xml").write_text(text)
    tifffile.imwrite(tmp_path / "0101f1.tif", np.ones((4, 5), "u2"))
    imload(tmp_path)
    took, tree = [], []
    for _ in range(2):
        start = time.process_time()
        assert len(imload(tmp_path).img.scenes) == 1536 * 9
        took.append(time.process_time() - start)
        start = time.process_time()
        assert ElementTree.fromstring(text) is not None
        tree.append(time.process_time() - start)
    assert min(took) < 4 * min(tree)
    assert imload(tmp_path).img.scenes[-1] == "AF48/9"


def test_present_lists_folders_of_many_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for k in range(0, 200, 2):
        (tmp_path / "a" / f"{k}").touch()
    names = [f"a/{k}" for k in range(200)] + ["b/1"]
    assert present(File(str(tmp_path)), names) == [k % 2 == 0 for k in range(200)] + [False]


def test_real_plates(data: Path) -> None:
    wanted = np.load(data / "phenix" / "expected_well_field_tczyx.npy")
    ds = imload(data / "phenix" / "plate", scene="all")
    assert_array_equal(ds.image.values.reshape(wanted.shape), wanted)
    assert ds.img.spacing == {"t": 60.5, "z": 1.5, "y": 0.3, "x": 0.29}
    assert ds.img.channels == ["DAPI", "Alexa 488"]
    folder = data / "imagexpress" / "9987_Plate_3435"
    with pytest.warns(UserWarning, match="2 of 6 times and 2 of 4 wavelengths are there"):
        ds = imload(folder, scene="B03/2")
    assert (ds.img.axes, ds.img.channels) == ("tcyx", ["DAPI", "FITC"])
    assert ds.attrs["plate_rows"] == 8
    for t, w in ((0, 0), (1, 1)):
        assert_array_equal(ds.image[t, w], tifffile.imread(folder / f"TimePoint_{t + 1}" / f"9987_B03_s2_w{w + 1}.TIF"))


def test_real_scanr(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "scanr" / "1w_1p_1c_1z_1t", tmp_path / "p")
    with pytest.raises(FileNotFoundError, match="none of the 1 files of 'B02/1' exists"):
        imload(tmp_path / "p")
    name = "B2--W00014--P00001--Z00000--T00000--405 nm #1.tif"
    (tmp_path / "p" / "data").chmod(0o755)
    tifffile.imwrite(tmp_path / "p" / "data" / name, np.ones((8, 9), "u2"))
    ds = imload(tmp_path / "p")
    assert (ds.img.scenes, ds.img.channels) == (["B02/1"], ["405 nm #1"])
    assert ds.img.spacing == {"y": 0.325, "x": 0.325}
    assert ds.attrs["position"] == [100090.0, 61827.0]


class _Counting(MemoryFileSystem):
    """A store in memory that notes each request."""

    protocol = "counted"
    asked: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.partition("://")[2].strip("/") if "://" in path else "/" + path.strip("/")

    def info(self, path: str, **options: Any) -> Any:
        self.asked.append(path)
        return super().info(path, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self.asked.append(path)
        return super().ls(path, detail=detail, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> Any:
        self.asked.append(path)
        return fsspec.filesystem("memory").cat_file(path, start, end)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)])
def test_a_field_on_a_server_costs_one_request_a_file(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """A complete plane comes in one request, a part in three: size, header and pixels; of the first file a few more."""
    fsspec.register_implementation("counted", _Counting, clobber=True)
    phenix(tmp_path, values(*shape))
    place = f"/{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(f"{tmp_path}/Images", place, recursive=True)
    ds = imload(f"counted:/{place}", scene="all")
    _Counting.asked.clear()
    assert_array_equal(ds.image.values, values(*shape).reshape(4, *ds.image.shape[1:]))
    counts = collections.Counter(path for path in _Counting.asked if path.endswith(".tiff"))
    assert len(counts) == 4 * np.prod(shape)
    assert sorted(counts.values())[:-1] == [1] * (len(counts) - 1)
    assert max(counts.values()) <= 4
    assert sum(counts.values()) == len(_Counting.asked)
    _Counting.asked.clear()
    part = ds.image[..., 2:5, 3:9]
    assert_array_equal(part.values, values(*shape).reshape(4, *ds.image.shape[1:])[..., 2:5, 3:9])
    assert max(collections.Counter(_Counting.asked).values()) <= 3
    fsspec.filesystem("memory").rm(place, recursive=True)
