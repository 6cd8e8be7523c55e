"""Files of microscopes that were cut off, by a copy or an acquisition that was interrupted: what they hold opens.

The pixels that are read are those that another reader finds in the complete file; a warning tells what is lost; lost
pixels are left out, or 0 where `valid_mask` is False.
"""

from __future__ import annotations

import gzip
import math
import struct
import warnings
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from olympus import main_file, oib, planes, shuffled
from test_dm import Writer
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.errors import FormatError
from intake_img.formats.cut_off import leading_part
from intake_img.formats.registry import formats

SHARES = (0.3, 0.4, 0.7, 0.9, 0.99)
ND2 = Path(__file__).parent / "files" / "nd2"


def cut(path: Path, content: bytes, share: float) -> Path:
    path.write_bytes(content[: int(len(content) * share)])
    return path


def opened(path: Path, match: str = "cut off") -> xr.Dataset:
    """Open a file, which must warn once, naming the file."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ds = imload(path, output_axis_order=None).load()
    said = [str(w.message) for w in told]
    assert len(said) == 1, said
    assert path.name in said[0]
    assert match in said[0]
    return ds


def assert_first_of(ds: xr.Dataset, whole: np.ndarray) -> int:
    """Check that an image is the first planes of an array, and all where it is masked; return how many pixels."""
    found = ds["image"].values
    part = whole[tuple(slice(n) for n in found.shape)]
    if "valid_mask" in ds:
        mask = ds["valid_mask"].broadcast_like(ds["image"]).transpose(*ds["image"].dims).values
        np.testing.assert_array_equal(found, np.where(mask, part, 0))
        return int(mask.sum())
    np.testing.assert_array_equal(found, part)
    return found.size


@examples(100)
@given(st.lists(st.integers(1, 5), max_size=4), st.data())
def test_the_leading_part_is_the_largest_box_of_complete_steps(shape, data):
    held = data.draw(st.integers(1, math.prod(shape)))
    part = leading_part(shape, held)
    numbers = np.arange(math.prod(shape)).reshape(shape)[tuple(slice(n) for n in part)]
    assert numbers.size
    np.testing.assert_array_equal(numbers.ravel(), np.arange(numbers.size))  # no gap
    assert numbers.size <= held
    boxes = [math.prod((n, *shape[k + 1 :])) for k, size in enumerate(shape) for n in range(1, size + 1)]
    assert numbers.size == max([n for n in boxes if n <= held], default=1)


def test_no_leading_part():
    with pytest.raises(FormatError, match="truncated"):
        leading_part((2, 3), 0)


# CZI


@pytest.mark.parametrize("name", ["CellDivision_T3_Z5_CH2_X240_Y170", "CellDivision_T3_Z5_CH2_X240_Y170_comp1"])
def test_czi_whose_directory_is_in_front_or_lost(data, tmp_path, name):
    """Judged by libCZI."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    path = data / "czi" / f"{name}.czi"
    with czi.open_czi(str(path)) as document:
        planes = [
            [
                [document.read(plane=dict(zip("TCZ", (t, c, z), strict=True)))[..., 0] for z in range(5)]
                for c in range(2)
            ]
            for t in range(3)
        ]
    whole, content = np.asarray(planes), path.read_bytes()
    counts = []
    for share in SHARES:
        ds = opened(cut(tmp_path / "a.czi", content, share))
        ds = ds.squeeze("b", drop=True) if "b" in ds.dims else ds
        counts.append(assert_first_of(ds, whole))
    assert counts == sorted(set(counts))
    assert counts[-1] == whole[0, 0, 0].size * 29
    with pytest.raises(FormatError, match=r"truncated|no directory|directory is damaged"):
        imload(cut(tmp_path / "a.czi", content, 0.001))


def test_czi_of_an_acquisition_that_did_not_end(tmp_path):
    """The header has no positions yet; the space for the pixels may be reserved."""
    path = Path(formats()["czi"].sample(str(tmp_path))[0])
    content, whole = bytearray(path.read_bytes()), imload(path, output_axis_order=None)["image"].values
    content[32 + 52 : 32 + 68] = bytes(16)
    end = content.index(b"ZISRAWMETADATA")
    path.write_bytes(content[:end])
    ds = opened(path, "its 24 complete subblocks")
    np.testing.assert_array_equal(ds["image"], whole)
    assert "c" not in ds.coords
    path.write_bytes(content[: end - 200] + bytes(5000))
    assert assert_first_of(opened(path, "its 23 complete subblocks"), whole) == whole.size - 120
    path.write_bytes(content)  # metadata and directory are there, but unknown to the header
    assert opened(path, "its 24 complete subblocks").img.channels == ["DAPI", "GFP"]


def test_czi_of_too_many_segments(tmp_path, monkeypatch):
    path = Path(formats()["czi"].sample(str(tmp_path))[0])
    cut(path, path.read_bytes(), 0.7)
    monkeypatch.setattr("intake_img.formats.czi.segments._MOST_LOCAL", 5)
    with pytest.raises(FormatError, match=r"sample\.czi: more than 5 segments"):
        imload(path)


# ND2


def test_nd2_without_its_map(data, tmp_path):
    """Judged by the library nd2."""
    nd2 = pytest.importorskip("nd2")
    path = data / "nd2" / "lim_t3z2c2_u16.nd2"
    with nd2.ND2File(path) as document:
        whole = document.asarray()
    content = path.read_bytes()[: 73728 + 8192]  # once; the other half of the file is all of it again
    ds = opened(cut(tmp_path / "a.nd2", content, 0.95), "6 of 6 frames")
    assert ds["image"].dims == tuple("tzcyx")
    assert assert_first_of(ds, whole) == whole.size
    assert ds.img.channels == imload(path).img.channels
    for share, count in ((0.2, 1), (0.4, 3), (0.65, 5)):  # the experiment and the metadata are behind the frames
        ds = opened(cut(tmp_path / "a.nd2", content, share), f"{count} of 6 frames are there; the experiment")
        assert ds["image"].dims == tuple("icyx")
        assert ds.img.channels is None
        np.testing.assert_array_equal(ds["image"], whole.reshape(6, *whole.shape[2:])[:count])


def test_nd2_whose_experiment_was_written_before(tmp_path):
    """Frames of two positions; of the second position fewer are left."""
    pytest.importorskip("nd2")
    content = gzip.decompress((ND2 / "loops.nd2.gz").read_bytes())
    (tmp_path / "a.nd2").write_bytes(content)
    whole = imload(tmp_path / "a.nd2", scene="all", output_axis_order=None)["image"].values
    frames = content.index(b"ImageDataSeq|0!") - 16
    details = content[content.index(b"ImageMetadataLV!") - 16 : content.index(b"ND2 FILEMAP") - 16]
    found, sizes = [], set()
    for stop in (content.index(b"ImageDataSeq|%d!" % k) - 10 for k in range(1, 12)):
        (tmp_path / "b.nd2").write_bytes(content[:frames] + details + content[frames:stop])
        ds = opened(tmp_path / "b.nd2", "of 12 frames are there")
        assert ds["image"].dims == tuple("tzcyx")
        np.testing.assert_array_equal(ds["image"], whole[0][: ds.sizes["t"], : ds.sizes["z"]])
        found.append(ds.sizes["t"] * ds.sizes["z"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                other = imload(tmp_path / "b.nd2", scene=-1, output_axis_order=None)["image"]
            except FormatError as exc:
                assert "are lost: it was cut off" in str(exc)  # noqa: PT017
                sizes.add(0)
                continue
        np.testing.assert_array_equal(other, whole[-1][: other.sizes["t"], : other.sizes["z"]])
        sizes.add(other.size)
    assert found == sorted(found)
    assert set(found) == {1, 2, 4}
    assert len(sizes) > 1


def test_nd2_that_cannot_be_described(data, tmp_path, monkeypatch):
    pytest.importorskip("nd2")
    content = (data / "nd2" / "cluster.nd2").read_bytes()
    with pytest.raises(FormatError, match=r"a\.nd2 was cut off: 27 frames are there, but their size is lost"):
        imload(cut(tmp_path / "a.nd2", content, 0.7))
    reserved = tmp_path / "b.nd2"
    short = (data / "nd2" / "lim_t3z2c2_u16.nd2").read_bytes()[: 40960 + 5000]
    reserved.write_bytes(short + bytes(30000))  # the fifth frame was not written to its end
    assert opened(reserved, "4 of 6 frames").sizes["i"] == 4
    monkeypatch.setattr("intake_img.formats.nd2.lost_map._MOST_LOCAL", 3)
    with pytest.raises(FormatError, match=r"b\.nd2: more than 3 chunks"):
        imload(reserved)


# DICOM


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A file of 12 frames, with the record of a hyperstack, and its pixels."""
    pytest.importorskip("pydicom")
    path = tmp_path_factory.mktemp("film") / "a.dcm"
    values = np.random.default_rng(0).integers(0, 2000, (4, 3, 20, 24)).astype("u2")
    z = ("z", 2.0 * np.arange(3), {"units": "mm", "spacing": 2.0})
    imsave(xr.Dataset({"image": (tuple("tzyx"), values)}, {"z": z}), path)
    return path, values


def test_dicom_of_several_axes(film, tmp_path):
    path, values = film
    content = path.read_bytes()
    for frames, shape in ((11, (3, 3)), (4, (1, 3)), (2, (1, 2))):
        (tmp_path / "a.dcm").write_bytes(content[: len(content) - (12 - frames) * 960 + 10])
        ds = opened(tmp_path / "a.dcm", f"it contains {frames} of 12 frames")
        assert ds["image"].shape[:2] == shape
        assert_first_of(ds, values)
        assert ds["z"].values.tolist() == [0.0, 2.0, 4.0][: shape[1]]
    (tmp_path / "a.dcm").write_bytes(content[: len(content) - 12 * 960 + 10])
    with pytest.raises(FormatError, match="none of its 12 frames is complete"):
        imload(tmp_path / "a.dcm")


def compressed(path: Path, target: Path, syntax: str, fragments: int, table: bool) -> None:
    import pydicom
    from pydicom.encaps import encapsulate, generate_frames

    ds = pydicom.dcmread(path)
    for tag in [element.tag for element in ds if element.tag.is_private]:
        del ds[tag]
    ds.compress(getattr(pydicom.uid, syntax))
    frames = list(generate_frames(ds.PixelData, number_of_frames=12))
    ds.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    ds.save_as(target)


@pytest.mark.parametrize(
    ("syntax", "fragments", "table"),
    [("RLELossless", 1, True), ("RLELossless", 1, False), ("JPEGLSLossless", 3, True), ("JPEGLSLossless", 2, False)],
)
def test_dicom_of_compressed_frames(film, tmp_path, syntax, fragments, table):
    """Judged by pydicom."""
    pydicom = pytest.importorskip("pydicom")
    if syntax != "RLELossless":
        pytest.importorskip("jpeg_ls")
    path = tmp_path / "whole.dcm"
    compressed(film[0], path, syntax, fragments, table)
    whole, content = pydicom.dcmread(path).pixel_array, path.read_bytes()
    counts = []
    for share in SHARES:
        ds = opened(cut(tmp_path / "a.dcm", content, share), "of 12 frames")
        counts.append(assert_first_of(ds, whole) // 480)
    assert counts == sorted(set(counts))
    assert counts[-1] == 11


def test_dicom_of_too_many_fragments(film, tmp_path, monkeypatch):
    """They are not followed, so that it is not known what is lost."""
    compressed(film[0], tmp_path / "whole.dcm", "RLELossless", 1, False)
    path = cut(tmp_path / "a.dcm", (tmp_path / "whole.dcm").read_bytes(), 0.7)
    for name, uri, advice in (
        ("_MOST_LOCAL", path, "cut off$"),
        ("_MOST_REMOTE", f"memory://{tmp_path}/a.dcm", "copy"),
    ):
        monkeypatch.setattr(f"intake_img.formats.dicom.cut.{name}", 5)
        fsspec.filesystem("memory").pipe(f"{tmp_path}/a.dcm", path.read_bytes())
        with pytest.warns(UserWarning, match=f"more than 5 fragments .* it may have been .*{advice}"):
            imload(uri).close()


@pytest.mark.parametrize("name", ["sm_image", "sm_image_jpegls", "seg_image_sm_dots_tiled_full"])
def test_dicom_tiles_that_are_left(data, tmp_path, name):
    pytest.importorskip("pydicom")
    if name.endswith("jpegls"):
        pytest.importorskip("jpeg_ls")
    path = data / "dicom" / f"{name}.dcm"
    whole = imload(path, output_axis_order=None)["image"].values
    counts = [
        assert_first_of(
            opened(cut(tmp_path / "a.dcm", path.read_bytes(), share), "frames; pixels of the others"), whole
        )
        for share in (0.9, 0.95, 0.99)
    ]
    assert counts == sorted(set(counts))


# TIA, PTU, DigitalMicrograph


def test_tia_elements_before_the_cut(data, tmp_path):
    path = data / "tia" / "new" / "128x128x5-diffraction_preview_1.ser"
    content = path.read_bytes()
    whole = imload(path, output_axis_order=None)["image"].values
    at = struct.unpack_from("<5Q", content, struct.unpack_from("<Q", content, 22)[0])  # where elements begin
    stored = np.frombuffer(content, "<i4", 128 * 128, at[2] + 50).reshape(128, 128)
    np.testing.assert_array_equal(whole[2], stored[::-1])
    for count in (4, 3, 1):
        (tmp_path / "a.ser").write_bytes(content[: at[count] + 100])
        ds = opened(tmp_path / "a.ser", f"it contains {count} of 5 elements")
        np.testing.assert_array_equal(ds["image"].values.reshape(-1, 128, 128), whole[:count])


def test_ptu_frames_and_lines_before_the_cut(data, tmp_path):
    """Judged by the numbers that belong to the file, and by ptufile."""
    ptufile = pytest.importorskip("ptufile")
    path = data / "flim" / "flim_t3y16x20h32.ptu"
    whole = np.load(data / "flim" / "flim_t3y16x20h32_tyxch.npy")
    np.testing.assert_array_equal(ptufile.imread(path, keepdims=True)[:], whole)
    for share, t, y in ((0.1, 1, 4), (0.3, 1, 14), (0.4, 1, 16), (0.7, 2, 16), (0.99, 2, 16)):
        ds = opened(cut(tmp_path / "a.ptu", path.read_bytes(), share), "records of photons are lost")
        assert (ds.sizes["t"], ds.sizes["y"]) == (t, y)
        assert_first_of(ds, whole)
    with pytest.warns(UserWarning, match="cut off"):
        summed = imload(tmp_path / "a.ptu", output_axis_order=None, summed=True)
    np.testing.assert_array_equal(summed["image"], whole[:2].sum(axis=-1))
    with pytest.raises(FormatError, match="no complete line"):
        imload(cut(tmp_path / "a.ptu", path.read_bytes(), 0.01))


def test_dm_whose_sizes_come_first(tmp_path):
    values = np.arange(4 * 3 * 40 * 50, dtype="i2").reshape(4, 3, 40, 50)
    scale = {"Dimension": [{"Origin": 0.0, "Scale": s, "Units": "nm"} for s in (0.5, 0.25, 2.0, -3.0)]}
    facts = {"Calibrations": scale, "DataType": 1, "Dimensions": [50, 40, 3, 4], "Data": values.ravel()}
    content = Writer(4, "<").file({"ImageList": [{"ImageData": facts, "Name": "a"}], "Thumbnails": []})
    start = content.index(values.tobytes()[2:100]) - 2
    for count, shape in ((11, (3, 3)), (7, (2, 3)), (2, (1, 2))):
        (tmp_path / "a.dm4").write_bytes(content[: start + count * 4000 + 10])
        ds = opened(tmp_path / "a.dm4", f"its image contains {shape} of (4, 3) planes")
        assert ds["image"].shape[:2] == shape
        np.testing.assert_array_equal(ds["image"], values[: shape[0], : shape[1]])
    (tmp_path / "a.dm4").write_bytes(content[: start + values.nbytes + 5])
    np.testing.assert_array_equal(opened(tmp_path / "a.dm4")["image"], values)
    (tmp_path / "a.dm4").write_bytes(content[: start + 100])
    with pytest.raises(FormatError, match="nothing of it is there"):
        imload(tmp_path / "a.dm4")


def test_dm_as_gatan_writes_it(data, tmp_path):
    """The sizes come behind the pixels: a cut in the pixels is refused, and the thumbnail before them is not shown."""
    content = (data / "dm" / "3D_EELS_SI.dm4").read_bytes()
    whole = imload(data / "dm" / "3D_EELS_SI.dm4", output_axis_order=None)["image"].values
    for share in (0.7, 0.9, 0.99):
        np.testing.assert_array_equal(opened(cut(tmp_path / "a.dm4", content, share))["image"], whole)
    for share in (0.3, 0.46, 0.5):
        with pytest.raises(FormatError, match=r"a\.dm4 was cut off before the sizes of its image"):
            imload(cut(tmp_path / "a.dm4", content, share))


def test_oib_whose_tables_come_first(tmp_path):
    values = np.random.default_rng(0).integers(0, 4000, (6, 2, 60, 70)).astype("u2")
    settings = main_file("XYCZ", {"X": 70, "Y": 60, "C": 2, "Z": 6}, {})
    path = oib(tmp_path / "a.oib", settings, planes(values, "ZC"))
    content = path.read_bytes()
    path.write_bytes(shuffled(content, 0, 32))  # tables, and short streams such as settings
    np.testing.assert_array_equal(imload(path, output_axis_order=None)["image"], values)
    content, steps = path.read_bytes(), []
    for share in SHARES:
        ds = opened(cut(tmp_path / "a.oib", content, share), "of its planes are read")
        steps.append(assert_first_of(ds, values) // (60 * 70))
    assert steps == sorted(set(steps))
    assert steps[-1] == 10
    with pytest.raises(FormatError, match=r"a\.oib"):
        imload(cut(tmp_path / "a.oib", content, 0.01))
