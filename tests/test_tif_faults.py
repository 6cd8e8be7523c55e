"""TIFF files that contradict themselves: pixels that can be read are read right or refused, never wrong in silence."""

from __future__ import annotations

import warnings

import numpy as np
import PIL.Image
import pytest
import tifffile
from tiff_bytes import entries, retyped, with_value, without

from intake_img import imload, imsave
from intake_img.errors import FormatError, IntakeImgError
from intake_img.formats.tif.driver import TifSource
from intake_img.formats.tif.levels import factors

RAMP = np.add.outer(np.arange(70) * 30, np.arange(80) * 7).astype("u2")
STACK = np.stack([RAMP, RAMP[::-1]])
LAYOUTS = {"page": {}, "strips": {"rowsperstrip": 16}, "tiles": {"tile": (32, 32)}}


def written(path, layout="page", **options):
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=None, **LAYOUTS[layout], **options)
    return path.read_bytes()


def counts_code(layout):
    return 325 if layout == "tiles" else 279


@pytest.mark.parametrize(("layout", "code"), [("tiles", 322), ("tiles", 323), ("strips", 278)])
def test_pieces_without_pixels_are_refused(tmp_path, layout, code):
    content = written(tmp_path / "a.tif", layout)
    (tmp_path / "a.tif").write_bytes(with_value(with_value(content, code, 0), code, 0, page=1))
    with pytest.raises(FormatError, match=r"in pieces of \(1, 0, \d+, 1\) contains no pixels"):
        imload(tmp_path / "a.tif")


def test_a_last_tile_that_is_cut_off_is_noticed_at_opening(tmp_path):
    content = written(tmp_path / "a.tif", "tiles")
    (tmp_path / "a.tif").write_bytes(content[:-1])
    message = f"pixels up to byte {len(content)}, but the file ends at {len(content) - 1}: it is truncated"
    with pytest.raises(FormatError, match=message):
        imload(tmp_path / "a.tif")


# byte counts that are missing


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("absent", [True, False])
def test_byte_counts_of_raw_pixels_are_not_needed(tmp_path, layout, byteorder, absent):
    path = tmp_path / "a.tif"
    content = written(path, layout, byteorder=byteorder)
    code = counts_code(layout)
    if absent:
        content = without(content, code)
    else:
        for found in [e for e in entries(content) if e.code == code]:
            for k in range(found.count):
                content = with_value(content, code, 0, k, found.page)
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = imload(path)
    np.testing.assert_array_equal(ds.image, STACK)
    np.testing.assert_array_equal(ds.image[1, 5:30, 40:], STACK[1, 5:30, 40:])
    with PIL.Image.open(path) as other:
        np.testing.assert_array_equal(np.asarray(other), STACK[0])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "packbits", "lzma", "jpegxl", "lerc"])
def test_compressed_pieces_without_byte_counts_end_where_the_next_begins(tmp_path, layout, compression):
    path = tmp_path / "a.tif"
    content = written(path, layout, compression=compression)
    some = 0 if layout == "page" else 1
    for changed in (without(content, counts_code(layout)), with_value(content, counts_code(layout), 0, some)):
        path.write_bytes(changed)
        with pytest.warns(UserWarning, match="lacks the byte counts of .* compressed strips or tiles"):
            ds = imload(path)
        np.testing.assert_array_equal(ds.image, STACK)


def test_tiles_that_share_their_place_with_another_are_empty(tmp_path):
    """Slide scanners leave out empty tiles in this way; OpenSlide takes them for missing as well."""
    path = tmp_path / "a.tif"
    content = written(path, "tiles", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        following = tif.pages.first.dataoffsets[2]
    content = with_value(with_value(content, 324, following, 1), 325, 0, 1)
    path.write_bytes(content)
    wanted = STACK.copy()
    wanted[0, :32, 32:64] = 0
    np.testing.assert_array_equal(imload(path).image, wanted)


def test_strips_at_byte_0_are_told(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(with_value(written(path, "strips", compression="zlib"), 273, 0, 1))
    with pytest.warns(UserWarning, match="places 1 strips or tiles at byte 0, where none can be: they read as 0"):
        ds = imload(path)
    assert not ds.image[0, 16:32].any()
    np.testing.assert_array_equal(ds.image[1], STACK[1])


# tags that cannot be what they are for


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize("kind", [1, 2, 5, 6, 7, 10, 11, 12, 99])
@pytest.mark.parametrize("code", [256, 258, 259, 262, 273, 277, 278, 279])
def test_pixel_tags_of_impossible_types_are_refused(tmp_path, code, kind, page):
    path = tmp_path / "a.tif"
    path.write_bytes(retyped(written(path, "strips", compression="zlib"), code, kind, page=page))
    with pytest.raises(FormatError, match=rf"\({code}\) has the type {kind}: expected|damaged"):
        imload(path)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("code", [256, 257, 259, 262, 277, 317])
def test_pixel_tags_of_impossible_counts_are_refused(tmp_path, code, count):
    path = tmp_path / "a.tif"
    path.write_bytes(retyped(written(path, compression="zlib", predictor=True), code, count=count, page=1))
    with pytest.raises(FormatError, match=rf"\({code}\) has {count} values: expected 1"):
        imload(path)


def test_tags_of_reduced_levels_are_judged_as_well(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        options = {"photometric": "minisblack", "compression": "zlib", "tile": (16, 16)}
        tif.write(RAMP, subifds=1, **options)
        tif.write(RAMP[::2, ::2], subfiletype=1, **options)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages.first.pages[0].tags[324].offset
    content = bytearray(path.read_bytes())
    content[at + 2] = 11
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"expected an integer type|is truncated or damaged"):
        imload(path)


@pytest.mark.parametrize("options", [{"imagej": True}, {"compression": "zlib", "rowsperstrip": 20}, {"tile": (16, 16)}])
def test_no_type_or_count_of_a_tag_gives_wrong_pixels_in_silence(tmp_path, options):
    """Whatever an entry is changed to: the same pixels, a warning, or a refusal."""
    path = tmp_path / "a.tif"
    if "imagej" not in options:
        options = {**options, "photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, STACK, **options)
    content = path.read_bytes()
    for found in [e for e in entries(content) if e.code != 278]:
        for kind in range(0, 19):
            for count in {0, 1, 2, found.count, found.count + 1}:
                path.write_bytes(retyped(content, found.code, kind, count, found.page))
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    try:
                        values = TifSource(path).read().image.values
                    except IntakeImgError:
                        continue
                if not told:
                    case = f"page {found.page} tag {found.code} as {count} x type {kind}"
                    np.testing.assert_array_equal(values, STACK, err_msg=case)


# levels


@pytest.mark.parametrize("size", [(101, 67), (67, 101), (67, 67), (33, 1000), (9, 500)])
@pytest.mark.parametrize("steps", [(2, 4, 8), (3, 9), (4, 16), (2, 8, 32), (5,)])
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_levels_have_one_factor_for_y_and_x(tmp_path, size, steps, up, name):
    """Whether sizes were rounded up or down, spacing grows by the same whole number on both axes."""
    image = np.zeros(size, "u1")
    shapes = [tuple(-(-n // f) if up else max(n // f, 1) for n in size) for f in steps]
    assert [f[0] for f in factors("yx", [size, *shapes])[1:]] == [f[1] for f in factors("yx", [size, *shapes])[1:]]
    assert [f[0] for f in factors("yx", [size, *shapes])[1:]] == list(steps)
    with tifffile.TiffWriter(tmp_path / name) as tif:
        options = {"photometric": "minisblack", "tile": (16, 16), "resolutionunit": 3, "resolution": (20000, 20000)}
        said = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} if "ome" in name else {"axes": "YX"}
        tif.write(image, subifds=len(steps), metadata=said, **options)
        for shape in shapes:
            tif.write(np.zeros(shape, "u1"), subfiletype=1, metadata={"axes": "YX"}, **options)
    for level, step in enumerate(steps, 1):
        assert imload(tmp_path / name, level=level).img.spacing == {"y": 0.5 * step, "x": 0.5 * step}


def test_sizes_that_no_whole_factor_explains_keep_their_ratio():
    assert factors("zyx", [(10, 100, 90), (5, 70, 60)])[1] == [2.0, 100 / 70, 1.5]


# what pixels mean


@pytest.mark.parametrize("name", ["b.tif", "b.ome.tif", "b.btf"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_zero_stays_white(tmp_path, name, dtype):
    values = RAMP.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    ds = imload(tmp_path / "a.tif")
    np.testing.assert_array_equal(ds.image, values)
    assert ds.image.attrs["photometric"] == "miniswhite"
    imsave(ds, tmp_path / name)
    again = imload(tmp_path / name)
    np.testing.assert_array_equal(again.image, values)
    assert again.image.attrs["photometric"] == "miniswhite"
    with tifffile.TiffFile(tmp_path / name) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        np.testing.assert_array_equal(tif.asarray(), values)


def test_zero_of_other_files_is_black(tmp_path):
    written(tmp_path / "a.tif")
    assert "photometric" not in imload(tmp_path / "a.tif").image.attrs


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("channels", ["", *('<Channel ID="Channel:0:0"/>' * n for n in (1, 3))])
def test_colours_that_ome_xml_counts_as_planes(tmp_path, count, channels):
    values = np.random.default_rng(0).integers(0, 255, (count, 5, 6, 3)).astype("u1")
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="6" SizeY="5" SizeZ="{count}" SizeC="3" '
        f'SizeT="1">{channels}<TiffData/></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", values, photometric="rgb", description=text.encode(), metadata=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = imload(tmp_path / "a.ome.tif")
    assert ds.img.channels == ["R", "G", "B"]
    wanted = ("z", "y", "x", "c") if count > 1 else ("y", "x", "c")
    np.testing.assert_array_equal(ds.image.transpose(*wanted), values.squeeze())
