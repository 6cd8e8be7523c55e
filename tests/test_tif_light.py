"""Simple TIFF files are read without tifffile: what is found is what the parser finds with tifffile, to the last field.

The oracle of each scene is the parser with tifffile; of pixels, what was written.
"""

from __future__ import annotations

import io
import os
import random
import warnings
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiff_bytes import find, with_value

from intake_img import imload
from intake_img.formats.tif import light, parser
from intake_img.formats.tif.file import TiffHandle
from intake_img.formats.tif.simple import simple_scene
from intake_img.storage.files import File

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tifffile")

RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def simple(path: Any) -> Any:
    """What is found without tifffile: a scene and tables, or None."""
    file = File.parse(path)
    source = file.open()
    try:
        return simple_scene(file, source)
    finally:
        source.close()


def parsed(path: Any) -> Any:
    """What is found with tifffile."""
    with mock.patch.object(parser, "simple_scene", return_value=None):
        handle = parser.open_tiff(File.parse(path), TiffHandle)
    handle.close()
    return handle


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    if callable(a) and callable(b):  # decoders are compared by what they decode
        return
    assert type(a) is type(b), (where, a, b)
    if is_dataclass(a):
        for f in fields(a):
            assert_equal(getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}")
    elif isinstance(a, dict):
        assert list(a) == list(b), (where, a, b)
        for key in a:
            assert_equal(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), (where, a, b)
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{k}]")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        np.testing.assert_array_equal(a, b, where)
    else:
        assert a == b or a != a, (where, a, b)


def agrees(path: Any) -> bool:
    """Check one file; return whether it is read without tifffile."""
    found = simple(path)
    if found is None:
        return False
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)  # what is simple is worth no warning
        handle = parsed(path)
    assert_equal([found[0]], list(handle.scenes))
    assert_equal(found[1], handle.tables)
    return True


@st.composite
def written(draw: Any) -> bytes:
    """A simple file, as tifffile writes it."""
    kind = draw(st.sampled_from(["plain", "imagej", "ome", "shaped"]))
    h, w = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    dtypes = ["u1", "u2", "f4"] if kind == "imagej" else ["u1", "u2", "i2", "u4", "f4", "f8"]
    lead = {"plain": draw(st.integers(0, 1)), "imagej": 3, "ome": 3}.get(kind, draw(st.integers(0, 4)))
    most = 12 if kind == "plain" else 3
    shape = (*draw(st.tuples(*[st.integers(1, most)] * lead)), h, w)
    values = np.arange(np.prod(shape)).reshape(shape).astype(draw(st.sampled_from(dtypes)))
    options: dict[str, Any] = {"photometric": "minisblack", "byteorder": draw(st.sampled_from("<>"))}
    if kind != "imagej":
        options |= {"bigtiff": draw(st.booleans()), "compression": draw(st.sampled_from([None, "zlib"]))}
        if draw(st.booleans()):
            options["tile"] = (16, 32)
    if "tile" not in options and kind != "imagej" and draw(st.booleans()):
        options["rowsperstrip"] = draw(st.integers(1, h))
    if draw(st.booleans()):
        step = draw(st.sampled_from([3, 72, 10_000, 1e4 / 3]))
        options |= {"resolution": (step, 2 * step), "resolutionunit": draw(st.sampled_from([1, 2, 3]))}
    metadata: dict[str, Any] | None = {
        "plain": None,
        "imagej": {"axes": "TZCYX", "unit": "micron", "finterval": 0.5, "spacing": 2},
        "ome": {"axes": draw(st.sampled_from(["TZCYX", "TCZYX", "CTZYX"])), "PhysicalSizeX": 0.25},
        "shaped": {"axes": "QTZC"[:lead] + "YX", "name": "a name", "unit": "um"},
    }[kind]
    if kind == "imagej" and draw(st.booleans()):
        metadata |= {
            "Labels": ["a", "b"] * 20,
            "Info": "said",
            "Ranges": (0.0, 9.0),
            "LUTs": [np.zeros((3, 256), "u1")],
        }
        metadata["Labels"] = metadata["Labels"][: int(np.prod(shape[:3]))]
    if kind == "ome" and draw(st.booleans()):
        metadata["Channel"] = {"Name": [f"c{k}" for k in range(shape[metadata["axes"].index("C")])]}
    out = io.BytesIO()
    extra = {"imagej": {"imagej": True}, "ome": {"ome": True}}.get(kind, {})
    tifffile.imwrite(out, values, metadata=metadata, datetime=draw(st.booleans()) or None, **extra, **options)
    return out.getvalue()


@given(written())
@RELAXED
def test_files_that_are_written(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ome.tif"
    path.write_bytes(content)
    assert agrees(path)


@given(written(), st.integers(0, 2**32))
@RELAXED
def test_files_that_are_damaged(tmp_path: Path, content: bytes, seed: int) -> None:
    """A changed file is read in the same way, or left to the parser."""
    chance, path = random.Random(seed), tmp_path / "a.tif"
    changed = bytearray(content)
    for _ in range(chance.randint(1, 2)):
        near = chance.choice([min(len(changed), 600), len(changed)])
        at = chance.choice([chance.randrange(near), len(changed) - 1 - chance.randrange(near)])
        changed[at] = chance.choice([0, 1, 2, 3, 4, 5, 8, 16, 255, changed[at] ^ (1 << chance.randrange(8))])
    path.write_bytes(changed if chance.random() < 0.9 else changed[: chance.randrange(8, len(changed))])
    agrees(path)


@pytest.mark.every_case
def test_real_files(data: Path) -> None:
    known = 0
    for folder, _, names in os.walk(data):
        for path in (os.path.join(folder, name) for name in names):
            with open(path, "rb") as stream:
                first = stream.read(4)
            if first[:2] in (b"II", b"MM") and os.path.getsize(path) < 2**28:
                known += agrees(path)
    assert known > 40


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("dtype", ["<u1", "<u2", ">u2", "<f4", ">i4"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}, {"bigtiff": True}], ids=str)
def test_pixels_are_decoded_as_tifffile_decodes(tmp_path, compression, predictor, dtype, options) -> None:
    path = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(0, 200, (3, 37, 45)).astype(dtype)
    options = {"byteorder": dtype[0], "compression": compression, "predictor": predictor, **options}
    tifffile.imwrite(path, values, photometric="minisblack", metadata={"axes": "ZYX"}, **options)
    assert simple(path) is not None
    assert (imload(path, chunks=None).image.values == values).all()
    assert (imload(path, chunks=None).image[1, :, 3:20].values == values[1, :, 3:20]).all()


def test_pixels_are_decoded_after_the_first_file_is_replaced(tmp_path) -> None:
    """The members of a sequence share the decoder of the first one, which does not open it."""
    values = np.random.default_rng(0).integers(0, 2**16, (4, 20, 30), "u2")
    for k, plane in enumerate(values):
        tifffile.imwrite(tmp_path / f"a_{k}.tif", plane, compression="zlib", predictor=True)
    image = imload(tmp_path / "a_{t}.tif", chunks=None).image
    tifffile.imwrite(tmp_path / "a_0.tif", values[0], compression="lzw")
    assert (image[1:].values == values[1:]).all()


LEFT = {
    "colours": (np.zeros((9, 9, 3), "u1"), {"photometric": "rgb"}),
    "palette": (np.zeros((9, 9), "u1"), {"photometric": "palette", "colormap": np.zeros((3, 256), "u2")}),
    "bits": (np.zeros((9, 9), bool), {}),
    "complex": (np.zeros((9, 9), "c8"), {}),
    "description": (np.zeros((9, 9), "u1"), {"description": "Aperio Image", "metadata": None}),
    "software": (np.zeros((9, 9), "u1"), {"software": "SI.2016", "metadata": None}),
    "a tag of a vendor": (np.zeros((9, 9), "u1"), {"extratags": [(33628, 4, 1, 1, True)]}),
    "pyramid": (np.zeros((9, 9), "u1"), {"subifds": 1}),
    "no data": (np.zeros((9, 9), "u1"), {"extratags": [(42113, 2, 0, "7", True)]}),
    "planes in one page": (np.zeros((4, 9, 9), "u1"), {"truncate": True, "photometric": "minisblack"}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", LEFT)
def test_what_is_not_simple_is_left_to_the_parser(tmp_path, what: str) -> None:
    values, options = LEFT[what]
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        out.write(values, **options)
        if "subifds" in options:
            out.write(values[::2, ::2], subfiletype=1)
    assert simple(tmp_path / "a.tif") is None
    assert parsed(tmp_path / "a.tif").scenes


@pytest.mark.parametrize("change", ["Modulo", "uuid", "order", "missing"])
def test_ome_xml_that_is_not_simple_is_left_to_the_parser(tmp_path, change: str) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((2, 3, 9, 9), "u1"), photometric="minisblack", metadata={"axes": "TZYX"})
    assert agrees(path)
    text = tifffile.tiffcomment(path)
    changed = {
        "Modulo": text.replace("</OME>", "<!-- modulo --></OME>"),
        "uuid": text.replace("</TiffData>", "").replace(
            "/></Pixels>", '><UUID FileName="b.tif">urn:uuid:1</UUID></TiffData></Pixels>'
        ),
        "order": text.replace("<TiffData ", '<TiffData IFD="1" '),
        "missing": text.replace('SizeT="2"', 'SizeT="3"'),
    }[change]
    assert changed != text
    tifffile.tiffcomment(path, changed.encode())
    assert simple(path) is None


PLANES = [(t, z) for t in range(2) for z in range(3)]
TIFFDATA = {
    "each plane": "".join(f'<TiffData IFD="{3 * t + z}" FirstT="{t}" FirstZ="{z}" PlaneCount="1"/>' for t, z in PLANES),
    "no counts": "".join(f'<TiffData IFD="{3 * t + z}" FirstT="{t}" FirstZ="{z}"/>' for t, z in PLANES),
    "all": "<TiffData/>",
    "halves": '<TiffData IFD="0" PlaneCount="3"/><TiffData IFD="3" FirstT="1" PlaneCount="3"/>',
    "halves from the last": '<TiffData IFD="3" FirstT="1" PlaneCount="3"/><TiffData IFD="0" PlaneCount="3"/>',
    "more than there are": '<TiffData IFD="0" PlaneCount="7"/>',
    "one twice": '<TiffData IFD="0" PlaneCount="6"/><TiffData IFD="2" FirstZ="2" PlaneCount="1"/>',
    "halves exchanged": '<TiffData IFD="3" PlaneCount="3"/><TiffData IFD="0" FirstT="1" PlaneCount="3"/>',
    "too few": '<TiffData IFD="0" PlaneCount="5"/>',
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("what", TIFFDATA)
def test_planes_are_where_ome_xml_places_them(tmp_path, what: str) -> None:
    path, values = tmp_path / "a.ome.tif", np.arange(6, dtype="u1").reshape(2, 3, 1, 1) * np.ones((9, 9), "u1")
    tifffile.imwrite(path, values, photometric="minisblack", metadata={"axes": "TZYX"})
    text = tifffile.tiffcomment(path)
    changed = text.replace('<TiffData IFD="0" PlaneCount="6"/>', TIFFDATA[what])
    assert TIFFDATA[what] in changed
    tifffile.tiffcomment(path, changed.encode())
    assert agrees(path) is (list(TIFFDATA).index(what) < 5)
    wanted = values[::-1] if what == "halves exchanged" else values
    if what != "too few":
        np.testing.assert_array_equal(imload(path, chunks=None).image.squeeze(), wanted)


@pytest.mark.parametrize("line", ["order=zct", "images=0", "images=6.5", "slices=0", "frames=two", "channels=-1"])
def test_descriptions_of_imagej_that_are_not_simple_are_left_to_the_parser(tmp_path, line: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2, 3, 9, 9), "u1"), imagej=True, metadata={"axes": "TZYX"})
    assert agrees(path)
    tifffile.tiffcomment(path, f"{tifffile.tiffcomment(path)}\n{line}\n".encode())
    assert simple(path) is None


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("change", ["magic", "odd", "short", "long", "beyond"])
def test_damaged_metadata_of_imagej_are_left_to_the_parser(tmp_path, byteorder: str, change: str) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "TZYX", "Labels": list("abcdef")}
    tifffile.imwrite(path, np.zeros((2, 3, 9, 9), "u1"), imagej=True, metadata=metadata, byteorder=byteorder)
    assert agrees(path)
    content = path.read_bytes()
    if change == "magic":
        changed = content.replace(b"IJIJ", b"IJXX").replace(b"JIJI", b"XXJI")
    else:
        at, size = {"odd": (0, 16), "short": (0, 4), "long": (0, 812), "beyond": (6, 2000)}[change]
        changed = with_value(content, 50838, size, at)
    assert changed != content
    path.write_bytes(changed)
    assert simple(path) is None


def test_one_read_of_a_small_file(tmp_path) -> None:
    """The header of a small file is read at once."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3, 9, 9), "u1"), imagej=True, metadata={"axes": "ZYX"})
    source = File.parse(path).open()
    with mock.patch.object(source, "ranges", wraps=source.ranges) as ranges:
        assert len(light.light_tiff(source)) == 3
    source.close()
    assert ranges.call_count == 1


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", "<>")
def test_directories_that_differ_in_places_are_parsed_once(tmp_path, byteorder: str, compression: Any) -> None:
    """Each page has its own resolution, elsewhere in the file; one that lies beyond its end is left to the parser."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, byteorder=byteorder) as out:
        for k in range(40):
            plane = np.random.default_rng(k).integers(0, 9, (9, 9), "u2")
            out.write(plane, resolution=(3, 3), metadata=None, photometric="minisblack", compression=compression)
    with mock.patch.object(light, "_directory", wraps=light._directory) as parsed_ones:
        assert simple(path) is not None
    assert parsed_ones.call_count == 1
    assert agrees(path)
    content = bytearray(path.read_bytes())
    at = find(bytes(content), 283, page=30).at + 8
    content[at : at + 4] = np.array(len(content) - 7, f"{byteorder}u4").tobytes()
    path.write_bytes(content)
    assert simple(path) is None


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("change", ["nothing", "offset", "count", "width", "no offset", "end", "loop", "skipped"])
def test_one_of_many_directories_is_not_like_the_others(tmp_path, big: bool, byteorder: str, change: str) -> None:
    values = np.arange(120 * 64, dtype="u2").reshape(120, 8, 8)
    options = {"compression": "zlib", "photometric": "minisblack", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "a.tif", values, bigtiff=big, byteorder=byteorder, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        tif.pages.useframes = False
        tags, chain = tif.pages[60].tags, [page.offset for page in tif.pages]
        (offset,), (count,) = (tif.pages[7].tags[code].value for code in (273, 279))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    kind = light._KINDS[bytes(content[:4])]
    code, number = {"offset": (273, offset), "count": (279, count), "width": (256, 9), "no offset": (273, 0)}.get(
        change, (256, 8)
    )
    stored = np.array(number, byteorder + {3: "u2", 4: "u4", 16: "u8"}[tags[code].dtype]).tobytes()
    link = kind.link.pack({"end": 0, "loop": chain[20], "skipped": chain[63]}.get(change, chain[61]))
    after = chain[60] + kind.number.size + len(tags) * kind.entry.size
    for at, data in ((tags[code].valueoffset, stored), (after, link)):
        content[at : at + len(data)] = data
    (tmp_path / "a.tif").write_bytes(content)
    if change not in ("nothing", "offset", "count"):
        assert simple(tmp_path / "a.tif") is None
        return
    assert agrees(tmp_path / "a.tif")
    layout = simple(tmp_path / "a.tif")[0].levels[0]
    assert (layout.offsets[60, 0] == offset) == (change == "offset")
    assert (layout.counts[60, 0] == count) or change != "count"
