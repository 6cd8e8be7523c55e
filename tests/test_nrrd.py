"""NRRD: all encodings, detached pixels, positions in space, segmentations; judged by pynrrd and SimpleITK."""

from __future__ import annotations

import bz2
import gzip
import shutil
import subprocess

import fsspec
import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, SourceChangedError
from intake_img.testing import assert_same

nrrd = pytest.importorskip("nrrd")
simple = pytest.importorskip("SimpleITK")
VALUES = (np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) * 37 % 251).astype("i2")
TURN = np.array([[0.8, -0.6, 0, 11.5], [0.6, 0.8, 0, -7.25], [0, 0, -1, 3], [0, 0, 0, 1.0]]) @ np.diag([0.1, 2, 3, 1])


@pytest.mark.parametrize("name", ["BallBinary30x30x30.nrrd", "BallBinary30x30x30_gz.nrrd", "FLAIR.nrrd"])
def test_real_files(data, name):
    path = data / "nrrd" / name
    expected, header = nrrd.read(str(path), index_order="C")
    ds = imload(path)
    assert (ds.attrs["driver"], ds.img.axes) == ("nrrd", "zyx")
    np.testing.assert_array_equal(ds.image, expected)
    matrix = ds.img.affine("LPS+")
    np.testing.assert_array_equal(matrix[:3, :3], header["space directions"].T)
    np.testing.assert_array_equal(matrix[:3, 3], header["space origin"])
    np.testing.assert_array_equal(imload(path, chunks={"z": 7, "x": 11}).image[5:9, ::3, 8], expected[5:9, ::3, 8])
    if name.startswith("Ball"):
        assert int(ds.image.sum()) == 3682296
    else:
        np.testing.assert_array_equal(ds.image, imload(data / "nifti" / "FLAIR.nii.gz").image)


def head(**fields):
    shape = VALUES.shape[::-1]
    known = {"type": "short", "dimension": 4, "sizes": " ".join(map(str, shape)), "encoding": "raw", "endian": "little"}
    known |= {k.replace("_", " "): v for k, v in fields.items()}
    return "NRRD0005\n# made here\n" + "".join(f"{k}: {v}\n" for k, v in known.items() if v is not None)


def written(path, content, **fields):
    path.write_bytes(head(**fields).encode() + b"\n" + content)
    return path


ENCODED = {
    "raw": VALUES.tobytes(),
    "txt": " ".join(map(str, VALUES.ravel())).encode(),
    "ASCII": "\n".join(map(str, VALUES.ravel())).encode(),
    "hex": VALUES.tobytes().hex().encode(),
    "gz": gzip.compress(VALUES.tobytes()),
    "bzip2": bz2.compress(VALUES.tobytes()),
}


@pytest.mark.parametrize("encoding", list(ENCODED))
def test_encodings_and_places(tmp_path, encoding):
    content = ENCODED[encoding]
    packed = encoding in ("gz", "bzip2")
    paths = [written(tmp_path / "a.nrrd", content, encoding=encoding)]
    (tmp_path / "pixels.bin").write_bytes(b"one\ntwo\n" + content)
    for name, more in (
        ("b.nhdr", {"data_file": "pixels.bin", "line_skip": 2}),
        ("c.nhdr", {"datafile": "./pixels.bin", "byteskip": 8}),
    ):
        if not (packed and "byteskip" in more):
            (tmp_path / name).write_text(head(encoding=encoding, **more))  # without an empty line at the end
            paths.append(tmp_path / name)
    if encoding == "raw":
        paths.append(written(tmp_path / "d.nrrd", b"in between" + content, encoding=encoding, byte_skip=-1))
        paths.append(written(tmp_path / "e.nrrd", VALUES.astype(">i2").tobytes(), endian="big"))
    if encoding == "gz":
        paths.append(
            written(tmp_path / "f.nrrd", gzip.compress(b"8 bytes." + VALUES.tobytes()), encoding=encoding, byte_skip=8)
        )
    for path in paths:
        ds = imload(path)
        assert ds.img.axes == "czyx"
        np.testing.assert_array_equal(ds.image, VALUES, path.name)
        np.testing.assert_array_equal(imload(path, chunks={"z": 1}).image[1, :, 1:3, 4], VALUES[1, :, 1:3, 4])
        if packed or path.name != "a.nrrd" or encoding == "hex":
            continue
        np.testing.assert_array_equal(nrrd.read(str(path), index_order="C")[0], VALUES)


def test_many_files(tmp_path):
    for c in range(2):
        (tmp_path / f"volume{c}.raw").write_bytes(VALUES[c].tobytes())
        for z in range(3):
            (tmp_path / f"plane{3 * c + z + 1:03d}.gz").write_bytes(gzip.compress(VALUES[c, z].tobytes()))
    (tmp_path / "slab0").write_bytes(VALUES[:, :, :, :].tobytes()[: VALUES.nbytes // 2])
    (tmp_path / "slab1").write_bytes(VALUES.tobytes()[VALUES.nbytes // 2 :])
    lists = {
        "a.nhdr": head(data_file="LIST\nvolume0.raw\nvolume1.raw"),
        "b.nhdr": head(data_file="volume%d.raw 0 1 1"),
        "c.nhdr": head(encoding="gzip", data_file="plane%03d.gz 1 6 1 2"),
        "d.nhdr": head(data_file="LIST 4\nslab0\nslab1"),
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        np.testing.assert_array_equal(imload(tmp_path / name).image, VALUES, name)
        np.testing.assert_array_equal(
            imload(tmp_path / name, chunks={"y": 3}).image[1, 1:, 2:, 3], VALUES[1, 1:, 2:, 3]
        )
    lazy = imload(tmp_path / "a.nhdr")
    (tmp_path / "volume1.raw").write_bytes(bytes(len(VALUES[1].tobytes())))
    with pytest.raises(SourceChangedError):
        lazy.compute()
    (tmp_path / "volume1.raw").unlink()
    with pytest.raises(FormatError, match=r"volume1\.raw, which is missing"):
        imload(tmp_path / "b.nhdr").compute()
    for text, why in (
        ("plane%s.gz 1 6 1", "%03d"),
        ("p%d 1 9 0", "step 0"),
        ("p%d 1 1000000000 1", "files"),
        ("LIST\na\nb\nc", "shared by 3"),
    ):
        (tmp_path / "z.nhdr").write_text(head(data_file=text))
        with pytest.raises(FormatError, match=why):
            imload(tmp_path / "z.nhdr")


def test_axes_are_what_the_header_calls_them(tmp_path):
    made = {
        "nzyx": {"labels": '"x" "y" "z" "n"'},
        "czyx": {"kinds": "domain domain domain list"},
        "tzyx": {"kinds": "space space space time", "spacings": "1 2 3 0.5", "units": '"" "" "" "s"'},
        "zyxc": {
            "space": "RAS",
            "space_directions": "none (1,0,0) (0,2,0) (0,0,3)",
            "kinds": "vector domain domain domain",
        },
        "tzyx+": {"space": "LPST", "space_directions": "(1,0,0,0) (0,2,0,0) (0,0,3,0) (0,0,0,0.5)"},
    }
    for axes, fields in made.items():
        ds = imload(written(tmp_path / "a.nrrd", VALUES.tobytes(), **fields), output_axis_order=None)
        assert ds.img.axes == axes.rstrip("+")
        if "spacings" in fields or "space" in fields:
            assert [ds.img.spacing[a] for a in "xyz"] == [1, 2, 3]
        if "t" in axes:
            assert ds.img.spacing["t"] == 0.5
    mins = {
        "kinds": "domain domain domain list",
        "axis_mins": "1 10 0 nan",
        "axis_maxs": "6 13 3 nan",
        "centerings": "cell node ??? ???",
    }
    ds = imload(written(tmp_path / "b.nrrd", VALUES.tobytes(), **mins))
    assert ds.img.spacing == {"x": 1, "y": 1, "z": 1}
    assert [float(ds[a][0]) for a in "xyz"] == [1.5, 10, 0.5]


def test_spaces(tmp_path):
    three = {
        "dimension": 3,
        "sizes": "5 4 6",
        "space_directions": "(0.8,0.6,0) (-1.2,1.6,0) (0,0,3)",
        "space_origin": "(1,2,3)",
        "space_units": '"mm" "mm" "mm"',
    }
    matrix = np.array([[0.8, -1.2, 0, 1], [0.6, 1.6, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
    for space, signs in (("right-anterior-superior", [1, 1]), ("LPS", [-1, -1]), ("left-anterior-superior", [-1, 1])):
        ds = imload(written(tmp_path / "a.nrrd", VALUES.tobytes(), space=space, **three))
        np.testing.assert_array_equal(ds.img.affine("RAS+"), np.diag([*signs, 1, 1]) @ matrix)
        assert ds.img.units == dict.fromkeys("xyz", "mm")
    with pytest.warns(UserWarning, match="turned"):
        ds = imload(written(tmp_path / "a.nrrd", VALUES.tobytes(), space_dimension=3, **three))
    assert ds.img.affine() is None
    assert ds.img.spacing == pytest.approx({"x": 1, "y": 2, "z": 3})
    straight = {**three, "space_directions": "(1,0,0) (0,2,0) (0,0,3)"}
    ds = imload(written(tmp_path / "a.nrrd", VALUES.tobytes(), space_dimension=3, **straight))
    assert [float(ds[a][0]) for a in "xyz"] == [1, 2, 3]


def test_segmentations_are_labels(tmp_path):
    keys = "Segment0_LabelValue:=1\nSegment0_Name:=bone\nSegment1_LabelValue:=7\nSegment1_Name:=a\\nb\n"
    path = tmp_path / "a.seg.nrrd"
    path.write_bytes((head(kinds="domain domain domain list") + keys + "\n").encode() + VALUES.tobytes())
    attrs = imload(path).image.attrs
    assert attrs == {"kind": "labels", "label_values": [1, 7], "label_names": ["bone", "a\nb"]}


def volume(dtype="u2", **attrs):
    grid = (("x", 5, 130.0, "nm"), ("y", 4, 0.13, "µm"), ("z", 3, 0.5, "µm"), ("t", 2, 1500.0, "ms"))
    spaced = {a: (a, np.arange(n) * step + 3, {"units": unit, "spacing": step}) for a, n, step, unit in grid}
    pixels = np.broadcast_to(VALUES[:, None], (2, 3, 3, 4, 5)).astype(dtype)
    return xr.Dataset({"image": (tuple("tczyx"), pixels, attrs)}, {**spaced, "c": ["α", "b\n", 'd"\\']})


@pytest.mark.parametrize("compress", [None, "gzip", "bzip2"])
def test_what_is_written_is_judged_by_others(tmp_path, compress):
    path = tmp_path / "a.nrrd"
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        given = volume(dtype, kind="labels") if dtype == "u4" else volume(dtype)
        imsave(given, path, compress, overwrite=True)
        pixels, header = nrrd.read(str(path), index_order="C")
        np.testing.assert_array_equal(pixels, given.image)
        assert pixels.dtype == dtype
        assert_same(imload(path), given)
    np.testing.assert_array_equal(header["spacings"], [130, 0.13, 0.5, np.nan, 1500])
    assert header["units"] == ["nm", "um", "um", "", "ms"]
    assert header["kinds"] == ["domain", "domain", "domain", "list", "time"]
    if tool := shutil.which("unu") or shutil.which("teem-unu"):
        found = subprocess.run([tool, "minmax", str(path)], capture_output=True, text=True, timeout=30, check=False)
        ends = [float(line.split()[1]) for line in found.stdout.splitlines() if line.startswith(("min:", "max:"))]
        assert ends == [given.image.min(), given.image.max()], found.stdout + found.stderr
    if compress == "bzip2":
        return  # the build of ITK does not have it
    imsave(given.isel(t=0, c=0, drop=True), path, compress, overwrite=True)
    found = simple.ReadImage(str(path))
    np.testing.assert_array_equal(simple.GetArrayFromImage(found), given.image[0, 0])
    assert found.GetSpacing() == (130, 0.13, 0.5)
    assert found.GetOrigin() == (3, 3, 3)
    colours = given.isel(t=0, z=0, drop=True).assign_coords(c=list("RGB")).transpose("y", "x", "c").astype("u1")
    imsave(colours, path, compress, overwrite=True)
    np.testing.assert_array_equal(simple.GetArrayFromImage(simple.ReadImage(str(path))), colours.image)
    imsave(given.image[0, 0].astype("c8"), path, compress, overwrite=True)
    np.testing.assert_array_equal(simple.GetArrayFromImage(simple.ReadImage(str(path))), given.image[0, 0].astype("c8"))
    assert imload(path).image.dtype == "c8"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:nrrd")
@pytest.mark.parametrize("space", ["RAS+", "LPS+"])
def test_positions_stay(tmp_path, space):
    from intake_img.plugin import Affine, Image, Pixels

    given = Image.single(Pixels.of(VALUES[0]), "zyx").placed(Affine(TURN, space, "mm")).to_xarray()
    imsave(given, tmp_path / "a.nrrd")
    assert_same(imload(tmp_path / "a.nrrd"), given)
    _, header = nrrd.read(str(tmp_path / "a.nrrd"))
    assert (TURN[:3, :3] == header["space directions"].T).all()
    found = simple.ReadImage(str(tmp_path / "a.nrrd"))
    np.testing.assert_allclose(found.GetOrigin(), given.img.affine("LPS+")[:3, 3])
    np.testing.assert_allclose(
        found.TransformIndexToPhysicalPoint((3, 2, 1)), (given.img.affine("LPS+") @ [3, 2, 1, 1])[:3]
    )
    pixels, header = nrrd.read(str(tmp_path / "a.nrrd"))
    header["space origin"] = np.array([1.0, 2, 3])
    nrrd.write(str(tmp_path / "b.nrrd"), pixels, header)  # which keeps our record
    assert imload(tmp_path / "b.nrrd").img.affine(space)[:3, 3].tolist() == [1, 2, 3]


def test_refusals(tmp_path):
    given = volume()
    with pytest.raises(CannotWriteError, match=r"save as \.nrrd"):
        imsave(given, tmp_path / "a.nhdr", compress="gzip")
    with pytest.raises(CannotWriteError, match="'lzma'"):
        imsave(given, tmp_path / "a.nrrd", "lzma")
    with pytest.raises(CannotWriteError, match="shape"):
        imsave(given.isel(x=slice(0)), tmp_path / "a.nrrd")
    content = VALUES.tobytes()
    for fields, why in (
        ({"type": "block"}, "'block'"),
        ({"endian": None}, "endian"),
        ({"sizes": "5 4 3"}, "3 entries"),
        ({"dimension": 99}, "99 axes"),
        ({"sizes": "5 4 3 -2"}, "positive"),
        ({"encoding": "zrl"}, "'zrl'"),
        ({"encoding": None}, "lacks the field 'encoding'"),
        ({"sizes": "500 4 3 2"}, "truncated"),
        ({"sizes": "a b c d"}, "expected numbers"),
        ({"encoding": "text"}, "cannot be read|numbers"),
        ({"encoding": "hex", "sizes": "5 4 3 9"}, "truncated"),
        ({"byte_skip": -7}, "byte skip -7"),
    ):
        with pytest.raises(FormatError, match=why):
            imload(written(tmp_path / "a.nrrd", content, **fields)).compute()


def test_remote():
    fs = fsspec.filesystem("memory")
    fs.pipe("/nrrd/a.nhdr", head(data_file="b.raw").encode())
    fs.pipe("/nrrd/b.raw", VALUES.tobytes())
    np.testing.assert_array_equal(imload("memory://nrrd/a.nhdr").image[1, :, 1:, 2], VALUES[1, :, 1:, 2])
    fs.rm("/nrrd", recursive=True)


@pytest.mark.timeout(60)  # it would search for hours where each quote is one to begin at
def test_quotes_without_an_end(tmp_path):
    path = tmp_path / "a.nrrd"
    lines = [b"NRRD0004", b"type: uint8", b"dimension: 1", b"sizes: 4", b"encoding: raw"]
    path.write_bytes(b"\n".join([*lines, b"space units: " + b'\\"' * 10**5, b'units: "mm" "a\\', b"", b"abcd"]))
    assert imload(path).image.values.tolist() == [97, 98, 99, 100]
