"""Members of a sequence that differ in their pixels alone are not parsed one by one; all others are.

The oracle of each read is tifffile, or Pillow; what is parsed is counted.
"""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from intake_img import imload, scan
from intake_img.errors import CatalogError, FormatError
from intake_img.formats.imageio import frames
from intake_img.formats.tif import parser
from intake_img.storage.jail import Jail

N = 60  # more than are all compared at opening


def planes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**16, (N, 12, 10), "uint16")


@pytest.fixture
def parsed(monkeypatch):
    """The paths of the files that are parsed."""
    seen: list[str] = []
    opened, described = parser.open_tiff, frames.Frames._describe

    def open_tiff(file, kind):
        seen.append(file.name)
        return opened(file, kind)

    def describe(self):
        seen.append(self.source.file.name)
        return described(self)

    monkeypatch.setattr(parser, "open_tiff", open_tiff)
    monkeypatch.setattr(frames.Frames, "_describe", describe)
    return seen


def write_ome(folder, values, told=None, **options) -> None:
    for t, plane in enumerate(values):
        metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, **((told or {}).get(t, {}))}
        tifffile.imwrite(folder / f"m_{t:02d}.ome.tif", plane, metadata=metadata, **options)


def uuid_of(path) -> str:
    return re.search(r'UUID="(urn:uuid:[^"]+)"', tifffile.tiffcomment(path))[1]


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}])
def test_ome_tiffs_with_uuids_of_their_own_are_twins(tmp_path, parsed, options):
    values = planes()
    write_ome(tmp_path, values, **options)
    assert uuid_of(tmp_path / "m_00.ome.tif") != uuid_of(tmp_path / "m_01.ome.tif")
    np.testing.assert_array_equal(imload(f"{tmp_path}/m_{{t}}.ome.tif").image.values, values)
    assert set(parsed) == {"m_00.ome.tif"}


def test_the_name_of_a_file_beside_its_uuid_is_its_own(tmp_path, parsed):
    values = planes()
    write_ome(tmp_path, values)
    for t in range(N):
        path = tmp_path / f"m_{t:02d}.ome.tif"
        own = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{path.name}">{uuid_of(path)}</UUID></TiffData>'
        text = re.sub(r"<TiffData[^>]*/>|<TiffData.*?</TiffData>", own, tifffile.tiffcomment(path))
        tifffile.tiffcomment(path, text.encode())
    np.testing.assert_array_equal(imload(f"{tmp_path}/m_{{t}}.ome.tif").image.values, values)
    assert set(parsed) == {"m_00.ome.tif"}


@pytest.mark.filterwarnings("ignore:.*its description counts fewer pages")
def test_an_ome_tiff_that_names_another_file_is_no_twin(tmp_path):
    """The same but for a UUID, and yet its pixels lie elsewhere."""
    values = planes()
    write_ome(tmp_path, values)
    for t in range(N):
        path, other = tmp_path / f"m_{t:02d}.ome.tif", tmp_path / "m_03.ome.tif"
        place = other if t == 7 else path
        own = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{place.name}">{uuid_of(place)}</UUID></TiffData>'
        text = re.sub(r"<TiffData[^>]*/>|<TiffData.*?</TiffData>", own, tifffile.tiffcomment(path))
        tifffile.tiffcomment(path, text.encode())
    ds = imload(f"{tmp_path}/m_{{t}}.ome.tif")
    np.testing.assert_array_equal(ds.image[7].values, imload(tmp_path / "m_07.ome.tif").image.values)


@pytest.mark.parametrize("at", [1, 30, N - 1])
def test_an_ome_tiff_with_another_spacing_is_no_twin(tmp_path, at):
    write_ome(tmp_path, planes(), {at: {"PhysicalSizeX": 0.6}})
    with pytest.raises(FormatError, match=r"spacing of x is 0.5 µm in .*m_00.* but 0.6 µm"):
        imload(f"{tmp_path}/m_{{t}}.ome.tif").image.values  # noqa: B018


def write_png(folder, values, told=None) -> None:
    for t, plane in enumerate(values):
        per_inch = (told or {}).get(t, 25400)
        picture = Picture.fromarray((plane >> 8).astype("uint8"))
        picture.save(folder / f"p_{t:02d}.png", dpi=(per_inch, per_inch))


def test_pngs_that_differ_in_pixels_alone_are_twins(tmp_path, parsed):
    values = (planes() >> 8).astype("uint8")
    write_png(tmp_path, planes())
    np.testing.assert_array_equal(imload(f"{tmp_path}/p_{{t}}.png").image.values, values)
    assert set(parsed) == {"p_00.png"}


@pytest.mark.parametrize("at", [1, 30, N - 1])
def test_a_png_with_another_pitch_is_no_twin(tmp_path, at):
    write_png(tmp_path, planes(), {at: 2 * 25400})
    with pytest.raises(FormatError, match="spacing of y is 1 µm"):
        imload(f"{tmp_path}/p_{{t}}.png").image.values  # noqa: B018


def test_a_png_twin_with_damaged_pixels_is_refused(tmp_path):
    write_png(tmp_path, planes())
    path = tmp_path / "p_20.png"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    path.write_bytes(content)
    ds = imload(f"{tmp_path}/p_{{t}}.png")
    with pytest.raises(FormatError, match="checksum"):
        ds.image[20].values  # noqa: B018


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_a_scan_parses_one_header_of_a_series_of_twins(tmp_path, parsed, kind):
    {"tif": write_ome, "png": write_png}[kind](tmp_path, planes())
    found = scan(tmp_path)
    assert len(found) == 1
    assert len(set(parsed)) == 1


@pytest.mark.parametrize("at", [0, 1, N - 1])
def test_a_scan_forms_no_series_of_files_that_hold_several_images(tmp_path, at):
    for t in range(N):
        path = tmp_path / f"m_{t:02d}.ome.tif"
        with tifffile.TiffWriter(path) as tif:
            for k in range(1 + (t == at)):
                tif.write(np.full((12, 10), t, "uint8"), metadata={"axes": "YX", "Name": f"image {k}"})
    assert len(scan(tmp_path)) == N


def test_a_scan_forms_no_series_if_a_sample_is_damaged(tmp_path):
    write_png(tmp_path, planes())
    (tmp_path / f"p_{N - 1:02d}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    found = scan(tmp_path)
    assert len(found) == N - 1
    assert len(found.skipped) == 1


def test_a_folder_that_becomes_a_link_is_resolved_anew(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "a").mkdir(parents=True)
    outside.mkdir()
    for folder in (inside / "a", outside):
        (folder / "m.bin").write_bytes(b"1")
    jail = Jail((os.path.realpath(inside),))
    path = str(inside / "a" / "m.bin")
    jail.check(path)
    os.rename(inside / "a", inside / "b")
    os.symlink(outside, inside / "a")
    with pytest.raises(CatalogError, match="outside of"):
        jail.check(path)
    os.unlink(inside / "a")
    os.rename(inside / "b", inside / "a")
    jail.check(path)
