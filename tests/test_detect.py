"""The driver is found: by bytes before names, by the longest ending, in any case; what is unknown is said clearly."""

from __future__ import annotations

import bz2
import gzip
import importlib
import shutil
import sys
import zipfile
from collections import Counter

import fsspec
import numpy as np
import pytest

from intake_img import autodetect, imload, imsave
from intake_img.errors import CannotWriteError, FormatError, MissingExtraError, UnknownFormatError
from intake_img.formats import candidates
from intake_img.formats import registry as detect
from intake_img.formats.base import Format
from intake_img.formats.format_source import source_of
from intake_img.formats.npy.driver import Npy
from intake_img.formats.probe import Probe
from intake_img.formats.reading import FileReader
from intake_img.formats.registry import ImgSource, find_format, formats, writer_for
from intake_img.storage.files import File


def driver_of(path) -> str:
    return find_format(File.parse(path)).name


@pytest.fixture
def array(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(3, 4))
    return tmp_path / "a.npy"


@pytest.mark.parametrize("name", ["noextension", "a.bin", "dotted.name.1", "ä ö.ñ", "a.npy.bak"])
def test_bytes_tell_without_a_known_ending(array, name):
    path = array.rename(array.parent / name)
    assert driver_of(path) == "npy"
    assert imload(path).image.shape == (3, 4)


@pytest.mark.parametrize("name", ["a.png", "a.TIF", "a.ome.tif", "a.czi"])
def test_bytes_overrule_the_name_with_a_warning(array, name):
    path = array.rename(array.parent / name)
    with pytest.warns(UserWarning, match=r"is named like .*, but its bytes are NumPy") as caught:
        assert autodetect(path).name == "npy"
    assert str(path) in str(caught[0].message)
    assert len(caught) == 1


def test_a_tiff_named_png(data, tmp_path):
    source = next((data / "tiff_gray").glob("*.tif"))
    shutil.copyfile(source, tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a\.png is named like picture or video, but its bytes are TIFF"):
        ds = imload(tmp_path / "a.png")
    assert ds.attrs["driver"] == "tif"
    np.testing.assert_array_equal(ds.image, imload(source).image)


FOLDERS = (
    "czi lsm ometiff omezarr_v04 omezarr_v05 png_jpg_gif stk_metamorph "
    "tiff_bigtiff tiff_gray tiff_imagej tiff_pyramid tiff_rgb"
)


@pytest.mark.parametrize("folder", FOLDERS.split())
def test_real_files_are_found(data, folder):
    wanted = {"czi": "czi", "png_jpg_gif": "imageio", "omezarr_v04": "omezarr", "omezarr_v05": "omezarr"}.get(
        folder, "tif"
    )
    for path in sorted((data / folder).iterdir()):
        assert driver_of(path) == wanted, path


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("a.OME.TIFF", "tif"),
        ("a.Ome.Tif", "tif"),
        ("a.ome.zarr", "omezarr"),
        ("a.ZARR", "omezarr"),
        ("a.zarr.zip", "omezarr"),
        ("a.OME.ZARR.ZIP", "omezarr"),
        ("a.czi", "czi"),
        ("A.PNG", "imageio"),
        ("a.b.c.JPeG", "imageio"),
        ("a.NPZ", "npy"),
        ("name", "omezarr"),
    ],
)
def test_the_longest_ending_in_any_case_says_who_writes(name, driver):
    assert writer_for(File.parse(f"/x/{name}")).name == driver


def test_the_longest_ending_wins(monkeypatch, array):
    class Long(Format):
        name, title, extensions = "long", "long", (".xx.yy",)

    class Short(Format):
        name, title, extensions = "short", "short", (".yy",)

    (array.parent / "a.XX.yy").write_bytes(b"abc")
    (array.parent / "xx.yy").write_bytes(b"abc")
    for table in ({"long": Long(), "short": Short()}, {"short": Short(), "long": Long()}):
        monkeypatch.setattr(detect, "formats", lambda table=table: table)
        assert driver_of(array.parent / "a.XX.yy") == "long"
        assert driver_of(array.parent / "xx.yy") == "short"


@pytest.mark.parametrize(
    ("content", "met"),
    [
        (b"no image at all", r"starts with b'no image at all' \(no driver recognises it\)"),
        (b"", "is empty"),
        (b"%PDF-1.4", "a PDF"),
        (b"PK\x03\x04abc", "a zip archive"),
        (b"<!DOCTYPE html>", "HTML"),
    ],
)
def test_unknown_bytes_say_what_was_met_and_what_there_is(tmp_path, content, met):
    path = tmp_path / "thing.dat"
    path.write_bytes(content)
    with pytest.raises(UnknownFormatError, match=met) as caught:
        imload(path)
    message = str(caught.value)
    assert str(path) in message
    for name in formats():
        assert f" {name}," in message or f" {name}." in message
    assert "pip install 'intake_img[all]'" in message


def test_an_empty_folder_is_no_image(tmp_path):
    with pytest.raises(UnknownFormatError, match="is a folder that contains no"):
        imload(tmp_path)


def test_what_is_missing_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*a\.tif"):
        imload(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.tif", "a.czi", "a.jpg", "a.gif"])
def test_a_name_without_the_bytes_is_an_error_of_that_format(tmp_path, name):
    (tmp_path / name).write_bytes(b"something else entirely, and long enough to be a header" * 20)
    with pytest.raises(FormatError):
        imload(tmp_path / name)


def test_scene_after_an_at(data, tmp_path, array):
    imsave(np.zeros((3, 4)), tmp_path / "a.nrrd")
    with pytest.raises(TypeError, match="no option 'scene'"):
        autodetect(f"{tmp_path}/a.nrrd@0")
    strange = array.rename(tmp_path / "b@0")
    assert autodetect(strange).uri == str(strange)
    path = next(p for p in sorted((data / "czi").glob("*.czi")) if p.stat().st_size < 2**22)
    source = autodetect(f"{path}@0")
    assert (source.uri, str(source.scene)) == (str(path), "0")
    with pytest.raises(ValueError, match="scene=1 was given too"):
        autodetect(f"{path}@0", scene=1)


def test_unknown_options_are_refused_with_the_known_ones(array):
    with pytest.raises(TypeError, match=r"the driver 'npy' .* has no option 'level'; it has scene, chunks"):
        autodetect(array, level=1)


def test_writers(tmp_path):
    with pytest.raises(UnknownFormatError, match=r"no driver writes 'a\.docx'; written are .*\.npz"):
        imsave(np.zeros((3, 4)), tmp_path / "a.docx")
    assert list(tmp_path.iterdir()) == []


def test_the_most_specific_claim_wins(monkeypatch, array):
    class Container(Format):
        name, title, extensions = "container", "Container", (".npy",)

        def claims(self, probe):
            return int(probe.head.startswith(b"\x93NUMPY"))

    class Dialect(Container):
        name, title, extensions = "dialect", "Dialect", (".other",)

        def claims(self, probe):
            return 2 * super().claims(probe)

    table = {"container": Container(), "dialect": Dialect()}
    monkeypatch.setattr(detect, "formats", lambda: table)
    assert driver_of(array) == "dialect"  # although the name speaks for the other one
    alone = {"container": Container()}
    monkeypatch.setattr(detect, "formats", lambda: alone)
    assert driver_of(array) == "container"


@pytest.mark.parametrize("module", [gzip, bz2])
def test_a_format_is_known_inside_a_compressed_file(monkeypatch, module, tmp_path):
    class Packed(Format):
        name, title, extensions = "packed", "Packed", (".packed",)

        def claims(self, probe):
            return int(probe.inner[344:348] == b"n+1\0")

    monkeypatch.setattr(detect, "formats", lambda: {"packed": Packed()})
    (tmp_path / "a").write_bytes(module.compress(bytes(344) + b"n+1\0" + bytes(10**6)))
    assert driver_of(tmp_path / "a") == "packed"
    for content in (module.compress(bytes(400)), module.compress(b"x" * 400)[:5], bytes(400)):
        (tmp_path / "b").write_bytes(content)
        with pytest.raises(UnknownFormatError):
            driver_of(tmp_path / "b")


def test_no_more_than_the_first_bytes_are_inflated(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(bytes(10**7)))
    file = File.parse(tmp_path / "a")
    assert len(Probe(file, file.head(), False).inner) == 1024


def test_formats_that_are_only_read_say_so(monkeypatch):
    class Readonly(Format):
        name, title, extensions = "only", "Only", (".only",)

    monkeypatch.setattr(detect, "formats", lambda: {"only": Readonly(), "npy": Npy()})
    with pytest.raises(CannotWriteError, match="Only is only read, not written"):
        writer_for(File.parse("/x/a.only"))


def test_archives_of_arrays_are_not_zip_files_of_others(tmp_path):
    np.savez(tmp_path / "a", x=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "b")
    assert driver_of(tmp_path / "b") == "npy"
    with zipfile.ZipFile(tmp_path / "c", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UnknownFormatError, match="a zip archive"):
        driver_of(tmp_path / "c")


def test_a_driver_that_does_not_import_is_left_out_with_a_warning(monkeypatch):
    class Point:
        name, value = "broken", "broken_package:Driver"

        def load(self):
            raise ImportError("no module named 'rare'")

    monkeypatch.setattr(detect, "_candidates", lambda: [Point()])
    formats.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"the driver 'broken' \(broken_package:Driver\) does not import.*rare"):
            assert formats() == {}
    finally:
        formats.cache_clear()


def test_a_driver_of_another_package_joins(monkeypatch, tmp_path):
    class Other(Npy):
        name, title, extensions, magic = "other", "Other", (".other",), ((0, b"OTHER"),)

        def claims(self, probe):
            return int(probe.head[:5] == b"OTHER")

    class Point:
        name, value = "other", "other_package:Other"

        def load(self):
            return source_of(Other())

    candidates = detect._candidates()
    monkeypatch.setattr(detect, "_candidates", lambda: [Point(), *candidates])
    formats.cache_clear()
    try:
        (tmp_path / "a.bin").write_bytes(b"OTHER")
        assert find_format(File.parse(tmp_path / "a.bin")) == Other()
        assert list(formats())[-1] == "other"  # ours come first
    finally:
        formats.cache_clear()


def test_missing_extras_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for protocol in ("s3", "s3a"):  # fsspec keeps what it has imported
        monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, protocol, raising=False)
    with pytest.raises(MissingExtraError, match=r"opening s3:// URLs needs 's3fs'.*pip install 'intake_img\[s3\]'"):
        imload("s3://bucket/a.tif")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtraError, match=r"opening gs:// URLs needs 'gcsfs'.*: pip install gcsfs$"):
        imload("gs://bucket/a.tif")
    with pytest.raises(ValueError, match=r"foo://a\.tif: fsspec knows no protocol 'foo'"):
        imload("foo://a.tif")


def test_img_source_is_the_driver_that_it_finds(array):
    source = ImgSource(array, metadata={"axes": "zx"})
    assert source.name_of_driver() == "npy"
    assert source.read().image.dims == ("z", "x")
    assert source.read().attrs["driver"] == "npy"
    source.close()


def test_drivers_of_intake_itself_are_not_imported():
    assert not any(p.value.startswith("intake.") for p in detect._candidates())


@pytest.mark.parametrize("name", ["scan.dcm", "scan", "scan.tif"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.filterwarnings("ignore:.*named like TIFF")
def test_what_only_begins_like_a_tiff_is_dicom(name, order, tmp_path):
    """The first 128 bytes of DICOM are anybody's; what does not go on as DICOM is damaged, and no TIFF."""
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), "u1"), byteorder=order)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[128:132] = b"DICM"
    (tmp_path / name).write_bytes(content)
    assert autodetect(tmp_path / name).name_of_driver() == "dicom"
    with pytest.raises(FormatError, match="DICOM"):
        imload(tmp_path / name)


def heads(data) -> list[bytes]:
    """First bytes of real files, and of none."""
    found = {b"", b"\0" * 512, b"ObjectType = Image\n", b"PK\x03\x04" + b"\0" * 26 + b"zarr.json"}
    for path in sorted(data.rglob("*")):
        if path.is_file() and path.suffix not in (".tsv", ".md"):
            with open(path, "rb") as stream:
                found.add(stream.read(512))
    magics = {b"\0" * at + magic for fmt in formats().values() for at, magic in fmt.magic}
    starts = {start for fmt in formats().values() for start in fmt.starts or ()}
    kept = {head[:40]: head for head in sorted(found)}
    return sorted({*kept.values(), *(m.ljust(512, b"\0") for m in magics | starts)})


def test_few_formats_are_asked_and_the_answer_is_that_of_all(data, tmp_path):
    """For the first bytes of all files, under their own names and those of other formats."""
    table = formats()
    names = ["a", "a.unknown", *("a" + fmt.extensions[0] for fmt in table.values() if fmt.extensions)]
    files = [File.parse(tmp_path / name) for name in names]
    for file in files:
        (tmp_path / file.name).touch()
    known = candidates.Candidates(table)
    asked = []
    for head in heads(data):
        few = known.starting(head)
        asked.append(len(few))
        for file in files:
            probe = Probe(file, head, False)
            claims = {name: int(fmt.claims(probe)) for name, fmt in table.items()}
            most = max(claims.values())
            assert most <= candidates.CERTAIN
            assert not [name for name, claim in claims.items() if claim and name not in few]
            every = {name: table[name] for name, claim in claims.items() if claim == most > 0}
            named = candidates.by_extension(file.name, table)
            assert known.named(file.name) is named
            found = detect._surest(probe, named)
            if named is not None and named in every.values():
                assert named in found.values()
            else:
                assert found == every, (head[:16], file.name)
    assert max(asked) < len(table) * 3 / 4


def test_first_bytes_of_a_parent_do_not_bind_the_claims_of_a_child():
    class Child(Npy):
        def claims(self, probe):
            return int(probe.head[:5] == b"OTHER")

    class Silent(Npy):
        starts = (b"X",)

    assert candidates.may_claim(Child(), b"O")
    assert not candidates.may_claim(Npy(), b"O")
    assert candidates.may_claim(Silent(), b"X")
    assert not candidates.may_claim(Silent(), b"O")


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.ome.zarr", "a.czi"])
@pytest.mark.parametrize("server", [False, True])
def test_a_location_is_parsed_once_and_its_driver_found_once(tmp_path, monkeypatch, name, server):
    imsave(np.zeros((3, 4), "uint8"), tmp_path / name)
    place = str(tmp_path / name)
    if server:
        place = f"memory://{tmp_path.name}/{name}"
        fsspec.filesystem("memory").put(str(tmp_path / name), f"/{tmp_path.name}/{name}", recursive=True)
    counts = Counter()

    def count(owner, method, when=lambda *given: True):
        inner = getattr(owner, method)

        def counted(*given, **options):
            counts[method] += when(*given)
            return inner(*given, **options)

        monkeypatch.setattr(owner, method, counted)

    count(File, "parse", lambda uri, *_: not isinstance(uri, File))
    count(File, "is_folder")
    count(detect, "find_format")
    count(FileReader, "opened_now")
    for open_it in (imload, lambda uri: ImgSource(uri).to_dask()):
        counts.clear()
        with open_it(place) as ds:
            ds.load()
        assert counts == {"parse": 1, "is_folder": 1, "find_format": 1, "opened_now": 1}
