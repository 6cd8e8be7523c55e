"""TIFF files whose metadata promise other planes than they hold: what is there is read, and a warning says the rest."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import tifffile
from tiff_bytes import entries as tags_of
from tiff_bytes import find

from intake_img import imload
from intake_img.errors import FormatError

PLANES = np.random.default_rng(3).integers(0, 4000, (12, 21, 33)).astype("u2")


def imagej(**counts):
    return "ImageJ=1.54f\n" + "".join(f"{key}={n}\n" for key, n in counts.items()) + "hyperstack=true\nunit=micron\n"


def shaped(*shape, axes=""):
    facts = {"shape": [*shape, 21, 33]} | ({"axes": axes + "YX"} if axes else {})
    return json.dumps(facts)


def written(path, planes, description, **options):
    """Write pages, each with its own strips or tiles; the first has the description."""
    with tifffile.TiffWriter(path) as tif:
        for k, plane in enumerate(planes):
            text = description.encode() if k == 0 else None
            tif.write(plane, photometric="minisblack", metadata=None, description=text, contiguous=False, **options)


LAYOUTS = {"strips": {}, "compressed": {"compression": "zlib"}, "tiles": {"tile": (16, 16)}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("description", "held", "dims", "shape"),
    [
        (imagej(images=9, frames=9), 6, "tyx", (6,)),
        (imagej(images=12, slices=6, channels=2), 8, "zcyx", (4, 2)),
        (imagej(images=12, frames=4, slices=3), 9, "tzyx", (3, 3)),
        (imagej(images=12, slices=6, channels=2), 7, "iyx", (7,)),
        (imagej(images=12, channels=12), 1, "yx", ()),
        (shaped(9, axes="Z"), 6, "zyx", (6,)),
        (shaped(6, 2, axes="TC"), 8, "tcyx", (4, 2)),
        (shaped(12), 5, "iyx", (5,)),
    ],
)
def test_stacks_that_promise_more_planes_than_there_are(tmp_path, layout, description, held, dims, shape):
    path = tmp_path / "a.tif"
    written(path, PLANES[:held], description, **LAYOUTS[layout])
    with pytest.warns(
        UserWarning, match=rf"a\.tif: its description counts .* planes.* the file contains {held}: these"
    ):
        ds = imload(path, output_axis_order=None)
    assert sorted(ds.image.dims) == sorted(dims)
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES[:held])
    assert tuple(ds.sizes[a] for a in dims if a not in "yx") == shape


@pytest.mark.parametrize("left", [1, 3, 4])
def test_stacks_in_one_piece_that_end_early(tmp_path, left):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANES[:8].reshape(4, 2, 21, 33), imagej=True, metadata={"axes": "ZCYX"})
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[0]
    content = path.read_bytes()
    path.write_bytes(content[: start + left * PLANES[0].nbytes + 100])
    with pytest.warns(UserWarning, match=f"counts 8 planes .*the file contains {left}"):
        ds = imload(path, output_axis_order=None)
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES[:left])
    path.write_bytes(content[: start + 100])
    with pytest.raises(FormatError, match="truncated"):
        imload(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "description", [imagej(images=6, frames=3, channels=2), shaped(3, 2, axes="TC"), shaped(6), "ome", "ome elsewhere"]
)
def test_further_pages_are_further_scenes(tmp_path, layout, description):
    path = tmp_path / "a.ome.tif"
    if description.startswith("ome"):
        data = "" if description == "ome" else '<TiffData IFD="0" PlaneCount="6"/>'
        description = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" '
            'Name="own"><Pixels ID="Pixels:0" DimensionOrder="XYCTZ" Type="uint16" SizeX="33" SizeY="21" SizeZ="1" '
            f'SizeC="2" SizeT="3">{data}</Pixels></Image></OME>'
        )
    written(path, [*PLANES[:9], PLANES[0, :5, :7]], description, **LAYOUTS[layout])
    with pytest.warns(UserWarning, match=r"fewer pages than there are: 4 further pages are the scenes 'pages 6 to 8'"):
        ds = imload(path, output_axis_order=None)
    assert len(ds.img.scenes) == 3
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES[:6])
    np.testing.assert_array_equal(imload(path, scene="pages 6 to 8").image, PLANES[6:9])
    np.testing.assert_array_equal(imload(path, scene="page 9").image, PLANES[0, :5, :7])


def test_descriptions_that_count_right_are_not_questioned(tmp_path):
    """Warnings are errors in tests."""
    for n, description in enumerate([imagej(images=12, slices=6, channels=2), shaped(6, 2, axes="ZC"), shaped(12)]):
        written(tmp_path / f"{n}.tif", PLANES, description)
        ds = imload(tmp_path / f"{n}.tif", output_axis_order=None)
        np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES)


def test_unlike_pages_end_a_stack(tmp_path):
    written(tmp_path / "a.tif", [*PLANES[:4], PLANES[0, :5]], imagej(images=6, slices=6))
    with pytest.warns(UserWarning, match=r"contains 4|page 4"):
        ds = imload(tmp_path / "a.tif")
    np.testing.assert_array_equal(ds.image, PLANES[:4])
    assert ds.img.scenes[1] == "page 4"


# metadata that cannot be read


@pytest.mark.parametrize(("code", "name"), [(270, "ImageDescription"), (282, "XResolution"), (283, "YResolution")])
def test_damaged_metadata_are_dropped_with_a_warning(tmp_path, code, name):
    path = tmp_path / "a.tif"
    options = {"resolution": (20000, 20000), "resolutionunit": 3, "description": "a long description of a cell"}
    tifffile.imwrite(path, PLANES[0], photometric="minisblack", metadata=None, **options)
    assert imload(path).img.spacing == {"y": 0.5, "x": 0.5}
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, find(bytes(content), code).at + 8, len(content) + 1000)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"a\.tif: the tag {name} \({code}\) cannot be read and is left out"):
        ds = imload(path)
    np.testing.assert_array_equal(ds.image, PLANES[0])
    assert bool(ds.img.spacing) == (code == 270)


def test_damaged_tags_of_vendors_are_dropped_with_a_warning(tmp_path, data):
    """The table of an LSM file and the planes of a MetaMorph stack, of real files."""
    for source, code in [(next((data / "lsm").glob("*.lsm")), 34412), (data / "stk_metamorph/movie.stk", 33628)]:
        content = bytearray(source.read_bytes())
        entry = next(e for e in tags_of(bytes(content)) if e.code == code)
        order = "<" if content[:2] == b"II" else ">"
        struct.pack_into(f"{order}I", content, entry.at + 8, len(content) + 1000)
        path = tmp_path / source.name
        path.write_bytes(content)
        with pytest.warns(UserWarning, match=rf"\({code}\) cannot be read and is left out"):
            ds = imload(path)
        with tifffile.TiffFile(source) as tif:
            first = tif.pages.first.asarray()
        plane = ds.image.values.reshape(-1, *first.shape)[0] if first.ndim == 2 else None
        assert plane is None or np.array_equal(plane, first)


# Micro-Manager


def run(path, places, ending, index=False, summary=None, more=lambda *place: {}):
    """Write a stack of Micro-Manager: directories of 162 bytes, each before its pixels.

    Parameters
    ----------
    ending : str
        What the last directory points to: nothing (``"closed"``), the end of the file, or zeros.
    places : list of tuple
        Time, channel, slice and, if there are several, position of each plane.
    index : bool
        Write the index of planes, as runs do that were not interrupted.
    summary, more
        What the file says of the run, and of each plane.
    """
    summary = json.dumps(summary or {"Channels": 2, "Frames": 9, "MicroManagerVersion": "2.0"}).encode()
    head = struct.pack("<8I", 54773648, 0, 483765892, 0, 99384722, 0, 2355492, len(summary))
    content = bytearray(b"II*\0" + struct.pack("<I", 0) + head + summary)
    link, entries = 4, b""
    for plane, place in zip(PLANES, places, strict=False):
        t, c, z, p = (*place, 0)[:4]
        facts = {"FrameIndex": t, "ChannelIndex": c, "SliceIndex": z, "PositionIndex": p, **more(*place)}
        facts = json.dumps(facts).encode()
        at = len(content)
        struct.pack_into("<I", content, link, at)
        entries += struct.pack("<5I", c, z, t, p, at)
        tags = [
            (256, 4, 1, 33),
            (257, 4, 1, 21),
            (258, 3, 1, 16),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, at + 162),
            (277, 3, 1, 1),
            (278, 4, 1, 21),
            (279, 4, 1, plane.nbytes),
            (296, 3, 1, 1),
            (51123, 2, len(facts), at + 162 + plane.nbytes),
            (65001, 3, 1, 0),
            (65002, 3, 1, 0),
        ]
        content += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link = len(content)
        content += bytes(4) + plane.tobytes() + facts + b"\0" * (len(facts) % 2)
    if index:
        struct.pack_into("<I", content, 12, len(content))
        content += struct.pack("<2I", 3453623, len(places)) + entries
    struct.pack_into("<I", content, link, {"closed": 0, "beyond": len(content) + 50, "zeros": len(content)}[ending])
    path.write_bytes(content + bytes(200) * (ending == "zeros"))


def test_finished_runs_of_which_files_are_missing(tmp_path):
    path = tmp_path / "a_MMStack_1.tif"
    places = [(t, c, 0) for t in range(3, 6) for c in range(2)]
    run(path, places, "closed", index=True)
    with pytest.warns(UserWarning, match=r"missing files\. Returning subset \(3, 1, 1, 2\) of \(9, 1, 1, 2\)"):
        ds = imload(path)
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES[:6])


@pytest.mark.parametrize("ending", ["closed", "beyond", "zeros"])
def test_interrupted_runs_of_micro_manager(tmp_path, ending):
    path = tmp_path / "a_MMStack.tif"
    places = [(t, c, 0) for t in range(3) for c in range(2)][:5]
    run(path, places, ending)
    missing = pytest.warns(UserWarning, match="1 of 6 planes of '0' are missing; they read as 0")
    with pytest.warns(UserWarning, match="was interrupted: 5 planes are read"), missing:
        ds = imload(path)
    assert ds.image.dims == ("t", "c", "y", "x")
    for plane, (t, c, _) in zip(PLANES, places, strict=False):
        np.testing.assert_array_equal(ds.image[t, c], plane)
    assert not ds.image[2, 1].values.any()


def test_a_run_that_is_cut_off_within_a_plane(tmp_path):
    """The plane that is not whole is missing; a finished run needs no chain of pages."""
    path = tmp_path / "a_MMStack.tif"
    places = [(t, c, 0) for t in range(3) for c in range(2)]
    run(path, places, "closed", index=True)
    path.write_bytes(path.read_bytes()[: -PLANES[0].nbytes - 900])
    tag = pytest.warns(UserWarning, match=r"\(51123\) cannot be read and is left out")  # of the plane that is not whole
    with pytest.warns(UserWarning, match="was interrupted: 4 planes are read"), tag:
        ds = imload(path, output_axis_order=None)
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES[:4])
    run(path, places, "beyond", index=True, summary={"Channels": 2, "Frames": 3, "MicroManagerVersion": "2.0"})
    np.testing.assert_array_equal(imload(path).image.values.reshape(-1, 21, 33), PLANES[:6])


def test_images_without_a_plane_are_told(tmp_path):
    one = (
        '<Image ID="Image:{0}" Name="{1}"><Pixels ID="Pixels:{0}" DimensionOrder="XYCTZ" Type="uint16" SizeX="33" '
        'SizeY="21" SizeZ="1" SizeC="2" SizeT="3"><TiffData IFD="{2}" PlaneCount="6"/></Pixels></Image>'
    )
    images = one.format(0, "here", 0) + one.format(1, "gone", 6)
    text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME>'
    written(tmp_path / "a.ome.tif", PLANES[:6], text)
    with pytest.warns(UserWarning, match="lists 1 images of which no plane is here: 'gone'"):
        ds = imload(tmp_path / "a.ome.tif", output_axis_order=None)
    assert ds.img.scenes == ["here"]
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES[:6])


def test_open_chains_of_others_are_read_as_far_as_they_go(tmp_path):
    path = tmp_path / "a.tif"
    run(path, [(0, 0, 0), (1, 0, 0)], "beyond")
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<H", 51123), struct.pack("<H", 51124)))
    with pytest.warns(UserWarning, match=r"page 2 would begin at byte .* 2 pages are read"):
        ds = imload(path)
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES[:2])


def test_a_copy_of_ome_tiff_that_was_interrupted(tmp_path):
    """The pages that are complete are read, in the order of the file; the OME-XML was at its end."""
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in PLANES[:6]:
            writer.write(plane, contiguous=False, metadata=None, description="<OME" if plane is PLANES[0] else None)
    with tifffile.TiffFile(path) as tif:
        stop = tif.pages[4].offset
    path.write_bytes(path.read_bytes()[:stop])
    with (
        pytest.warns(UserWarning, match=r"page 4 .* 4 pages are read"),
        pytest.warns(UserWarning, match="ImageDescription"),
    ):
        ds = imload(path)
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 21, 33), PLANES[:4])
