"""Pictures and films: we read what Pillow, imagecodecs and PyAV read; what is written comes back, to us and to them."""

from __future__ import annotations

import contextlib
import gc
import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from PIL import Image as Pillow
from PIL import ImageSequence, PngImagePlugin

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, IntakeImgError, MissingExtraError
from intake_img.formats.imageio.driver import Imageio
from intake_img.storage.cache import CACHE
from intake_img.testing.process import open_files

RNG = np.random.default_rng(3)


def noise(*shape, dtype="u1"):
    if dtype == "bool":
        return RNG.random(shape) > 0.5
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def dataset(values, axes, **coords):
    ds = xr.Dataset({"image": (tuple(axes), values)}, coords)
    ds["image"].attrs["kind"] = "picture"
    return ds.assign_attrs(title="a", list=[1, 2.5])


def axis(name, n, step, units):
    return xr.Variable((name,), step * np.arange(n), {"units": units, "spacing": step})


def equal(got: xr.Dataset, wanted: xr.Dataset) -> None:
    xr.testing.assert_equal(got, wanted)
    assert got.image.dtype == wanted.image.dtype
    assert got.image.dims == wanted.image.dims
    assert got.image.attrs == wanted.image.attrs
    for name in wanted.coords:
        assert got[name].attrs == wanted[name].attrs, name
    for key, value in wanted.attrs.items():
        assert got.attrs[key] == value


# reading


@pytest.mark.parametrize("name", ["chelsea.png", "hopper.png", "hopper.jpg"])
def test_colour_pictures(data, name):
    path = data / "png_jpg_gif" / name
    ds = imload(path)
    assert ds.img.axes == "cyx"
    assert ds.img.channels == ["R", "G", "B"]
    assert ds.img.spacing == {}  # 72 and 96 dpi are defaults of screens
    np.testing.assert_array_equal(ds.image.values.transpose(1, 2, 0), np.asarray(Pillow.open(path)))


def test_pgm_of_16_bits_is_uint16(data):
    path = data / "png_jpg_gif" / "hopper_16bit.pgm"
    ds = imload(path)
    assert (ds.img.axes, ds.image.dtype, ds.image.shape) == ("yx", np.uint16, (128, 128))
    np.testing.assert_array_equal(ds.image.values, np.asarray(Pillow.open(path)))
    assert ds.image.values.max() == 65535


def test_frames_of_a_gif_are_composed(data):
    path = data / "png_jpg_gif" / "dispose_bgnd.gif"
    ds = imload(path)
    assert (ds.img.axes, ds.image.shape) == ("tcyx", (5, 3, 100, 100))
    assert ds.img.spacing == {"t": 1.0}
    assert ds.t.attrs["units"] == "s"
    with Pillow.open(path) as im:
        frames = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(im)]
    np.testing.assert_array_equal(ds.image.values.transpose(0, 2, 3, 1), frames)


@pytest.mark.parametrize(
    ("mode", "axes", "dtype", "bands"),
    [
        ("1", "yx", "bool", None),
        ("L", "yx", "u1", None),
        ("LA", "cyx", "u1", ["L", "A"]),
        ("RGB", "cyx", "u1", ["R", "G", "B"]),
        ("RGBA", "cyx", "u1", ["R", "G", "B", "A"]),
        ("I;16", "yx", "u2", None),
    ],
)
def test_png_keeps_its_samples(tmp_path, mode, axes, dtype, bands):
    im = (
        Pillow.fromarray(noise(9, 13, dtype="u2"))
        if mode == "I;16"
        else Pillow.frombytes(
            mode, (13, 9), noise(9 * 13 * 4).tobytes()[: 9 * 2 if mode == "1" else 9 * 13 * len(mode)]
        )
    )
    im.save(tmp_path / "a.png")
    ds = imload(tmp_path / "a.png")
    assert (ds.img.axes, ds.image.dtype, ds.img.channels) == (axes, np.dtype(dtype), bands)
    np.testing.assert_array_equal(ds.image.transpose("y", "x", ...).values, np.asarray(im))


PALETTES = [
    ("png", {}),
    ("png", {"transparency": 3}),
    ("png", {"bits": 4}),
    ("gif", {}),
    ("bmp", {}),
    ("tga", {}),
    ("tif", {}),
]


@pytest.mark.parametrize(("kind", "options"), PALETTES)
def test_values_of_a_palette_stay_and_their_colours_are_told(tmp_path, kind, options):
    path = tmp_path / f"a.{kind}"
    Pillow.fromarray(noise(9, 13, 3)).quantize(16).save(path, **options)
    mode = "RGBA" if "transparency" in options else "RGB"
    with Pillow.open(path) as again:
        values, colours = np.asarray(again), np.asarray(again.convert(mode))
    ds, rgb = imload(path), imload(path, rgb=True)
    assert (ds.img.axes, ds.image.dtype) == ("yx", "uint8")
    np.testing.assert_array_equal(ds.image, values)
    table = np.array([list(bytes.fromhex(text[1:])) for text in ds.image.attrs["palette"]])
    np.testing.assert_array_equal(table[values], colours)
    np.testing.assert_array_equal(rgb.image.transpose("y", "x", "c"), colours)
    assert (rgb.img.channels, "palette" in rgb.image.attrs) == (list(mode), False)
    np.testing.assert_array_equal(
        imload(path, rgb=True, chunks={"y": 4}).image[1:2, 3:6, 2:5], rgb.image[1:2, 3:6, 2:5]
    )
    for ending in ("png", "gif", "tif", "ome.tif"):  # other programs see the same colours
        imsave(ds, tmp_path / f"b.{ending}")
        xr.testing.assert_identical(imload(tmp_path / f"b.{ending}").image, ds.image)
        with Pillow.open(tmp_path / f"b.{ending}") as im:
            np.testing.assert_array_equal(np.asarray(im.convert("RGB")), colours[..., :3])


def test_a_ramp_of_grey_is_no_palette(tmp_path):
    values = noise(9, 13)
    for kind in ("png", "gif", "bmp", "tif"):
        im = Pillow.frombytes("P", (13, 9), values.tobytes())
        im.putpalette([k for k in range(256) for _ in range(3)])
        im.save(tmp_path / f"a.{kind}", **({"optimize": False} if kind == "gif" else {}))
        ds = imload(tmp_path / f"a.{kind}")
        np.testing.assert_array_equal(ds.image, values)
        assert "palette" not in ds.image.attrs


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_colour_of_16_bits_is_never_squeezed(tmp_path, samples):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = noise(9, 13, samples, dtype="u2")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
    ds = imload(tmp_path / "a.png")
    assert ds.image.dtype == np.uint16
    np.testing.assert_array_equal(ds.image.transpose("y", "x", "c").values, values)


def test_colour_of_16_bits_without_imagecodecs_says_what_to_install(tmp_path, monkeypatch):
    imagecodecs = pytest.importorskip("imagecodecs")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(noise(9, 13, 3, dtype="u2")))
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'intake_img\[codecs\]'"):
        imload(tmp_path / "a.png")
    with pytest.raises(MissingExtraError, match="codecs"):
        imsave(dataset(noise(5, 6, 3, dtype="u2"), "yxc"), tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("kind", ["gif", "apng", "webp"])
@pytest.mark.parametrize("durations", [[40] * 6, [40, 100, 40, 400, 30, 10]])
def test_times_of_frames(tmp_path, kind, durations):
    frames = [Pillow.fromarray(noise(12, 15, 3)) for _ in durations]
    path = tmp_path / f"a.{kind}"
    frames[0].save(
        path,
        format={"apng": "PNG"}.get(kind),
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        **({"lossless": True} if kind == "webp" else {}),
    )
    ds = imload(path)
    assert ds.image.shape == (6, 3, 12, 15)
    np.testing.assert_allclose(ds.t, np.cumsum([0, *durations[:-1]]) / 1000)
    assert ds.t.attrs["units"] == "s"
    assert ("spacing" in ds.t.attrs) == (len(set(durations)) == 1)
    with Pillow.open(path) as im:
        wanted = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(im)]
    np.testing.assert_array_equal(ds.image.transpose("t", "y", "x", "c").values, wanted)


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
@pytest.mark.parametrize("transparent", [False, True])
def test_animations_with_disposal_and_transparency(tmp_path, disposal, transparent):
    frames = []
    for k in range(5):
        rgba = np.zeros((20, 20, 4), "u1")
        rgba[k : k + 8, 3 : 9 + k] = (50 * k, 200, 20, 255)
        frames.append(Pillow.fromarray(rgba if transparent else rgba[..., :3]))
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50, disposal=disposal)
    ds = imload(tmp_path / "a.gif")
    with Pillow.open(tmp_path / "a.gif") as im:
        wanted = np.stack([np.asarray(f.convert("RGBA")) for f in ImageSequence.Iterator(im)])
    got = ds.image.transpose("t", "y", "x", "c").values
    np.testing.assert_array_equal(got, wanted[..., : got.shape[-1]])
    if got.shape[-1] == 3:
        assert (wanted[..., 3] == 255).all()


def test_default_image_of_an_apng_is_no_frame(tmp_path):
    frames = [Pillow.fromarray(noise(8, 9)) for _ in range(4)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=True, duration=20)
    ds = imload(tmp_path / "a.png")
    np.testing.assert_array_equal(ds.image.values, [np.asarray(f) for f in frames[1:]])


@pytest.mark.parametrize("name", ["a.bmp", "a.tga", "a.webp", "a.ppm", "a.jpg", "a.pbm"])
def test_other_formats_read_as_pillow_reads_them(tmp_path, name):
    im = Pillow.fromarray(noise(9, 13) > 99 if name == "a.pbm" else noise(9, 13, 3))
    im.save(tmp_path / name)
    with Pillow.open(tmp_path / name) as again:
        wanted = np.asarray(again)
    got = imload(tmp_path / name).image.transpose("y", "x", ...).values
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == wanted.dtype


@pytest.mark.parametrize("maxval", [1, 200, 4095, 65535])
def test_netpbm_values_are_not_stretched(tmp_path, maxval):
    values = RNG.integers(0, maxval, (5, 7), dtype="u2", endpoint=True)
    raw = values.astype(">u2" if maxval > 255 else "u1").tobytes()
    (tmp_path / "a.pgm").write_bytes(b"P5\n# a comment\n7 5\n# another\n%d\n" % maxval + raw)
    got = imload(tmp_path / "a.pgm").image
    assert got.dtype == (np.uint16 if maxval > 255 else np.uint8)
    np.testing.assert_array_equal(got, values)


def test_orientation_is_reported_and_not_applied(tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    values = noise(8, 16)
    Pillow.fromarray(values).save(tmp_path / "a.jpg", exif=exif)
    ds = imload(tmp_path / "a.jpg")
    assert ds.image.shape == (8, 16)
    assert ds.img.header["orientation"] == 6


@pytest.mark.parametrize(("dpi", "spacing"), [(72, {}), (1200, {}), (254000, {"y": 0.1, "x": 0.1})])
def test_only_the_resolution_of_a_microscope_is_spacing(tmp_path, dpi, spacing):
    Pillow.fromarray(noise(8, 16)).save(tmp_path / "a.png", dpi=(dpi, dpi))
    ds = imload(tmp_path / "a.png")
    assert ds.img.spacing == pytest.approx(spacing)
    assert all(u == "µm" for u in ds.img.units.values())


def test_large_pictures_open_without_a_warning(tmp_path):
    side = 9600  # Pillow warns above 89 million pixels
    rows = zlib.compress(b"\0" * (side // 8 + 1) * side)

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    ds = imload(tmp_path / "a.png")
    assert ds.image.shape == (side, side)
    assert not ds.image[:5, -5:].values.any()


def test_animations_read_in_any_order_and_by_many_threads(tmp_path):
    values = noise(40, 16, 16)
    imsave(dataset(values, "tyx"), tmp_path / "a.gif")
    ds = imload(tmp_path / "a.gif", chunks={"t": 1})
    order = list(range(40))
    random.Random(1).shuffle(order)
    with ThreadPoolExecutor(8) as pool:
        for k, got in pool.map(lambda k: (k, ds.image[k].values), order):
            np.testing.assert_array_equal(got, values[k])


@pytest.mark.parametrize("kind", ["gif", "apng"])
def test_animations_go_back_from_the_middle(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(CACHE, "limit", 2 * 16 * 16)  # as if frames were large
    values = noise(9, 16, 16)
    imsave(dataset(values, "tyx"), tmp_path / f"a.{kind}")
    ds = imload(tmp_path / f"a.{kind}", chunks=None)
    for k in (5, 0, 1, 6, 2, 8, 7):
        np.testing.assert_array_equal(ds.image.isel(t=k), values[k])


def test_reading_an_animation_in_order_decodes_each_frame_once(tmp_path, monkeypatch):
    from PIL.GifImagePlugin import GifImageFile

    seeks = []
    original = GifImageFile._seek
    monkeypatch.setattr(GifImageFile, "_seek", lambda self, k, *rest: (seeks.append(k), original(self, k, *rest))[1])
    values = noise(60, 8, 8)
    imsave(dataset(values, "tyx"), tmp_path / "a.gif")
    ds = imload(tmp_path / "a.gif", chunks={"t": 5})
    np.testing.assert_array_equal(ds.image.values, values)
    assert len(seeks) < 4 * 60


# writing

CASES = {
    "png grey": (noise(8, 9), "yx", "a.png"),
    "png 16": (noise(8, 9, dtype="u2"), "yx", "a.png"),
    "png bool": (noise(8, 9, dtype="bool"), "yx", "a.png"),
    "png rgb": (noise(3, 8, 9), "cyx", "a.png"),
    "png rgb 16": (noise(3, 8, 9, dtype="u2"), "cyx", "a.png"),
    "png rgba": (noise(8, 9, 4), "yxs", "a.png"),
    "png samples": (noise(8, 9, 3), "yxs", "a.png"),
    "png x first": (noise(9, 8), "xy", "a.png"),
    "png with single axes": (noise(1, 1, 1, 8, 9), "tczyx", "a.png"),
    "png of a row": (noise(1, 9), "yx", "a.png"),
    "apng": (noise(4, 8, 9), "tyx", "a.apng"),
    "apng 16": (noise(4, 8, 9, dtype="u2"), "tyx", "a.apng"),
    "apng rgb": (noise(4, 3, 8, 9), "tcyx", "a.apng"),
    "apng rgb 16": (noise(4, 3, 8, 9, dtype="u2"), "tcyx", "a.apng"),
    "apng of equal frames": (np.zeros((4, 8, 9), "u1"), "tyx", "a.apng"),
    "apng of one": (noise(1, 8, 9), "tyx", "a.apng"),
    "gif": (noise(4, 8, 9), "tyx", "a.gif"),
    "gif of equal frames": (np.full((4, 8, 9), 7, "u1"), "tyx", "a.gif"),
    "gif of one": (noise(8, 9), "yx", "a.gif"),
    "webp": (noise(3, 8, 9), "cyx", "a.webp"),
    "pgm": (noise(8, 9), "yx", "a.pgm"),
    "pgm 16": (noise(8, 9, dtype="u2"), "yx", "a.pgm"),
    "pgm bool": (noise(8, 9, dtype="bool"), "yx", "a.pgm"),
    "ppm 16": (noise(3, 8, 9, dtype="u2"), "cyx", "a.ppm"),
    "upper case": (noise(8, 9), "yx", "A.PNG"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("known", [False, True], ids=["bare", "coords"])
def test_round_trip(tmp_path, case, known):
    values, axes, name = CASES[case]
    sizes = dict(zip(axes, values.shape, strict=True))
    coords = {}
    if known:
        coords = {"y": axis("y", sizes["y"], 0.1234567891, "µm"), "x": axis("x", sizes["x"], 1 / 3, "µm")}
        if "t" in sizes:
            coords["t"] = axis("t", sizes["t"], 0.7, "s")
        if sizes.get("c") == 3:
            coords["c"] = ["DAPI", "GFP µ", "RFP"]
    ds = dataset(values, axes, **coords)
    assert imsave(ds, tmp_path / name) == [str(tmp_path / name)]
    equal(imload(tmp_path / name, output_axis_order=None).transpose(*axes), ds)


def read_by_others(path, case):
    """Frames, height, width and samples, without those that are one, as Pillow or imagecodecs reads them."""
    if "rgb 16" in case or case == "ppm 16":
        imagecodecs = pytest.importorskip("imagecodecs")
        data = path.read_bytes()
        if case == "ppm 16":
            return np.frombuffer(data[-8 * 9 * 6 :], ">u2").reshape(8, 9, 3)
        return (
            np.stack([imagecodecs.apng_decode(data, k) for k in range(4)])
            if "apng" in case
            else imagecodecs.png_decode(data)
        )
    with Pillow.open(path) as im:
        got = np.stack([np.asarray(f) for f in ImageSequence.Iterator(im)]).squeeze()
    return got == 255 if case == "pgm bool" else got


@pytest.mark.parametrize("case", CASES)
def test_others_read_what_is_written(tmp_path, case):
    values, axes, name = CASES[case]
    imsave(dataset(values, axes), tmp_path / name)
    order = [axes.index(a) for a in "itzyxcs" if a in axes]
    np.testing.assert_array_equal(read_by_others(tmp_path / name, case), values.transpose(order).squeeze())


def test_others_see_spacing_and_delays(tmp_path):
    coords = {"y": axis("y", 8, 0.5, "µm"), "x": axis("x", 9, 250.0, "nm"), "t": axis("t", 4, 0.2, "s")}
    imsave(dataset(noise(4, 8, 9), "tyx", **coords), tmp_path / "a.apng")
    imsave(dataset(noise(4, 8, 9), "tyx", **coords), tmp_path / "a.gif")
    with Pillow.open(tmp_path / "a.apng") as im:
        assert im.info["dpi"] == pytest.approx((25400 / 0.25, 25400 / 0.5), rel=1e-4)
        assert im.info["duration"] == 200
    with Pillow.open(tmp_path / "a.gif") as im:
        assert im.info["duration"] == 200


def test_foreign_edits_make_the_record_void(tmp_path):
    imsave(dataset(noise(8, 9), "yx", x=axis("x", 9, 0.1, "µm")), tmp_path / "a.png")
    with Pillow.open(tmp_path / "a.png") as im:
        info = PngImagePlugin.PngInfo()
        for key, value in im.text.items():
            info.add_itxt(key, value)
        im.crop((0, 0, 4, 4)).save(tmp_path / "b.png", pnginfo=info)
    assert imload(tmp_path / "b.png").image.shape == (4, 4)


@pytest.mark.parametrize(
    ("values", "axes", "name", "sentence"),
    [
        (np.zeros((4, 5), "f4"), "yx", "a.png", r"PNG stores bool, uint8, uint16, the image is float32: save as \.tif"),
        (np.zeros((4, 5), "u4"), "yx", "a.pgm", "the image is uint32"),
        (np.zeros((3, 4, 5), "u1"), "zyx", "a.png", r"one plane 'yx', the image has 'zyx'.*select a plane"),
        (np.zeros((3, 4, 5), "u1"), "tyx", "a.png", "one plane 'yx'"),
        (np.zeros((2, 4, 5), "u1"), "cyx", "a.png", "2 channels: select a channel"),
        (np.zeros((5, 4, 5), "u1"), "cyx", "a.png", "5 channels"),
        (np.zeros((4, 5), "u1"), "yx", "a.webp", "WebP stores RGB, RGBA, the image has no colour"),
        (np.zeros((3, 4, 5), "u1"), "cyx", "a.gif", "GIF stores grey"),
        (np.zeros((4, 5), "u1"), "yz", "a.png", "one plane"),
        (np.zeros((0, 5), "u1"), "yx", "a.png", "no pixels"),
        (np.zeros((4, 5), "u1"), "yx", "a.jpg", r"JPEG changes the pixels: pass lossy=True"),
        (np.zeros((4, 5), "u1"), "yx", "a.tga", r"only read; save as .*\.png"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, values, axes, name, sentence):
    with pytest.raises(CannotWriteError, match=sentence):
        imsave(xr.Dataset({"image": (tuple(axes), values)}), tmp_path / name, partition=axes)
    assert list(tmp_path.iterdir()) == []


def test_a_channel_is_not_written_as_transparency(tmp_path):
    ds = dataset(noise(4, 5, 6), "cyx", c=["DAPI", "GFP", "RFP", "Cy5"])
    with pytest.raises(CannotWriteError, match="RGBA, the image has 4 channels \\(DAPI, GFP, RFP, Cy5\\)"):
        imsave(ds, tmp_path / "a.png", partition="cyx")
    assert len(imsave(ds, tmp_path / "a.png")) == 4


def test_jpeg_and_webp_with_loss_on_request(tmp_path):
    ds = dataset(np.full((3, 16, 16), 100, "u1"), "cyx", x=axis("x", 16, 0.2, "µm"), c=["a", "b", "c"])
    for name in ("a.jpg", "a.webp"):
        imsave(ds, tmp_path / name, lossy=True, quality=90)
        got = imload(tmp_path / name)
        assert int(np.abs(got.image.astype(int) - 100).max()) <= 2
        xr.testing.assert_equal(got.drop_vars("image"), ds.drop_vars("image"))
    with pytest.raises(ValueError, match="quality=0: expected 1 to 100"):
        imsave(ds, tmp_path / "b.jpg", lossy=True, quality=0)


def test_bmp_keeps_pixels(tmp_path):
    for values, axes in ((noise(5, 7), "yx"), (noise(3, 5, 7), "cyx"), (noise(5, 7, dtype="bool"), "yx")):
        imsave(xr.Dataset({"image": (tuple(axes), values)}), tmp_path / "a.bmp", overwrite=True)
        np.testing.assert_array_equal(imload(tmp_path / "a.bmp").image, values)


def test_compression_on_and_off(tmp_path):
    ds = dataset(np.zeros((100, 100), "u1"), "yx")
    imsave(ds, tmp_path / "a.png", compress=False)
    imsave(ds, tmp_path / "b.png", compress=True)
    assert (tmp_path / "a.png").stat().st_size > 10_000 > (tmp_path / "b.png").stat().st_size
    with pytest.raises(CannotWriteError, match="compress='zstd'"):
        imsave(ds, tmp_path / "c.png", compress="zstd")


# videos


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    pytest.importorskip("av")
    y, x = np.mgrid[:48, :64]
    values = np.stack([np.stack([(x * 2 + 5 * k) % 256, y * 4, np.full_like(x, 6 * k)], -1) for k in range(40)]).astype(
        "u1"
    )
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    imsave(dataset(values, "tyxc", t=axis("t", 40, 0.04, "s")), path, lossy=True, quality=100)
    return path, values


def test_videos(film):
    import av

    path, values = film
    ds = imload(path)
    assert (ds.img.axes, ds.image.shape) == ("tcyx", (40, 3, 48, 64)) or ds.img.axes == "tyxc"
    assert ds.img.spacing["t"] == pytest.approx(0.04)
    with av.open(str(path)) as container:
        wanted = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    got = ds.image.transpose("t", "y", "x", "c").values
    np.testing.assert_array_equal(got, wanted)
    for k in (39, 3, 20, 19, 38):
        np.testing.assert_array_equal(ds.image.isel(t=k).transpose("y", "x", "c"), wanted[k])
    assert np.abs(got.astype(int) - values).mean() < 12


def test_videos_need_leave_to_lose(tmp_path):
    with pytest.raises(CannotWriteError, match="lossy=True"):
        imsave(dataset(noise(4, 8, 10), "tyx"), tmp_path / "a.mp4")


def test_videos_without_av_say_what_to_install(film, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'intake_img\[video\]'"):
        imload(film[0])


# damage


def samples(folder):
    """A small file of each format, and whether its format has checksums."""
    rgb, grey = noise(24, 30, 3), noise(24, 30)
    for name, values, options in (
        ("a.png", rgb, {}),
        ("b.png", noise(24, 30, dtype="u2"), {}),
        ("a.jpg", rgb, {}),
        ("a.bmp", rgb, {}),
        ("a.webp", rgb, {"lossless": True}),
        ("a.pgm", grey, {}),
        ("a.tga", rgb, {}),
    ):
        Pillow.fromarray(values).save(folder / name, **options)
    imsave(dataset(noise(4, 24, 30), "tyx"), folder / "a.gif")
    imsave(dataset(noise(4, 24, 30), "tyx"), folder / "a.apng")
    return sorted(folder.iterdir())


def test_truncated_pictures_are_errors(tmp_path):
    source = tmp_path / "whole"
    source.mkdir()
    for path in samples(source):
        whole = path.read_bytes()
        wanted = imload(path).load()
        for cut in sorted(
            {0, 1, 3, 8, 20, 40, *range(60, len(whole), len(whole) // 17), len(whole) - 12, len(whole) - 1}
        ):
            target = tmp_path / f"cut-{cut}{path.suffix}"
            target.write_bytes(whole[:cut])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    got = imload(target).load()
                except IntakeImgError:
                    continue
                assert path.suffix in (".tga", ".webp", ".bmp"), f"{path.name} cut at {cut} of {len(whole)} is read"
                xr.testing.assert_equal(got, wanted)  # what was cut off was padding or a trailer


def test_flipped_bits_give_our_errors_or_a_picture(tmp_path):
    source = tmp_path / "whole"
    source.mkdir()
    draw = random.Random(7)
    for path in samples(source):
        whole = path.read_bytes()
        wanted = imload(path).load()
        for _ in range(60):
            broken = bytearray(whole)
            for _ in range(draw.choice((1, 3))):
                broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
            target = tmp_path / f"flip{path.suffix}"
            target.write_bytes(broken)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    got = imload(target).load()
                except IntakeImgError:
                    continue
                if path.suffix in (".png", ".apng"):  # checksums reveal it
                    np.testing.assert_array_equal(got.image.values, wanted.image.values)


def test_a_process_forks_after_threads_have_read_a_video(tmp_path, film):
    imsave(dataset(film[1][:6], "tyxc"), tmp_path / "a.mp4", lossy=True)
    code = f"""
import os, signal, intake_img
ds = intake_img.imload({str(tmp_path / "a.mp4")!r}, chunks={{"t": 1}})
ds.image.data.compute(scheduler="threads", num_workers=2)
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
os._exit(0)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("suffix", ["mp4", "m4v", "mov", "avi", "mkv"])
def test_videos_keep_coordinates_and_attributes(tmp_path, film, suffix):
    ds = dataset(film[1][:4], "tyxc").assign_coords(x=("x", np.arange(64) ** 2.0, {"units": "µm"}))
    ds.image.attrs["note"] = "hi"
    imsave(ds, tmp_path / f"a.{suffix}", lossy=True)
    found = imload(tmp_path / f"a.{suffix}")
    assert found.image.attrs["note"] == "hi"
    np.testing.assert_array_equal(found.x, ds.x)
    assert found.x.attrs["units"] == "µm"


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_damaged_videos(tmp_path, film, suffix):
    values = film[1][:12]
    imsave(dataset(values, "tyxc"), tmp_path / f"a.{suffix}", lossy=True)
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    draw = random.Random(5)
    for k in range(40):
        broken = bytearray(whole)
        if k % 2:
            broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        else:
            broken = broken[: draw.randrange(len(broken))]
        (tmp_path / f"b.{suffix}").write_bytes(broken)
        try:
            imload(tmp_path / f"b.{suffix}").load()
        except IntakeImgError:
            continue


def test_no_thread_decodes_when_a_decoder_is_freed(tmp_path, film):
    """Frame threads report damage with the interpreter's lock, for which the process would wait for ever."""
    av = pytest.importorskip("av")
    imsave(dataset(film[1][:4], "tyxc"), tmp_path / "a.mp4", lossy=True)
    kinds = []
    with pytest.MonkeyPatch.context() as patch:
        opened = av.open
        patch.setattr(av, "open", lambda *args, **options: kinds.append(opened(*args, **options)) or kinds[-1])
        with imload(tmp_path / "a.mp4") as ds:
            ds.load()
            assert [c.streams.video[0].thread_type for c in kinds] == [av.codec.context.ThreadType.SLICE]


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_damage_anywhere_in_the_comment_of_a_video(tmp_path, film, suffix):
    imsave(dataset(film[1][:4], "tyxc"), tmp_path / f"a.{suffix}", lossy=True)
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    at = whole.index(b"intake_img")
    for k in range(0, 60, 3):
        broken = bytearray(whole)
        broken[at + k] ^= 0x80  # no UTF-8 any more
        (tmp_path / f"b.{suffix}").write_bytes(broken)
        with contextlib.suppress(IntakeImgError):
            imload(tmp_path / f"b.{suffix}").load()
        gc.collect()
        assert not [f for f in open_files(str(tmp_path)) if f.endswith(f"b.{suffix}")]


def test_hostile_sizes_are_refused(tmp_path):
    for name, at, count in (("a.png", 16, 8), ("a.bmp", 18, 8), ("a.gif", 6, 4)):
        target = io.BytesIO()
        Pillow.fromarray(noise(9, 9)).save(target, format=name[2:])
        broken = bytearray(target.getvalue())
        broken[at : at + count] = (b"\x7f\xff\xff\xff" * 2)[:count] if name != "a.bmp" else b"\xff\xff\xff\x7f" * 2
        if name == "a.png":
            broken[29:33] = struct.pack(">I", zlib.crc32(bytes(broken[12:29])))
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(FormatError):
            imload(tmp_path / name).load()
    (tmp_path / "a.pgm").write_bytes(b"P5 1000000 1000000 255\n" + b"\0" * 100)
    with pytest.raises(FormatError, match="truncated or damaged"):
        imload(tmp_path / "a.pgm")


@pytest.mark.parametrize("kind", ["png", "gif", "pgm"])
def test_remote(kind):
    import fsspec

    url = f"memory://imageio/a.{kind}"
    values = noise(4, 24, 30) if kind == "gif" else noise(24, 30)
    imsave(dataset(values, "tyx"[-values.ndim :]), url)
    ds = imload(url)
    np.testing.assert_array_equal(ds.image, values)
    ds.close()
    fsspec.filesystem("memory").rm("/imageio", recursive=True)


def test_sample(tmp_path):
    path, expected = Imageio().sample(str(tmp_path))
    xr.testing.assert_equal(imload(path), expected)


@pytest.mark.parametrize("extension", [".png", ".bmp"])
@pytest.mark.parametrize(("names", "files"), [("RGB", 1), ("abc", 1), ("BGR", 3), ("GRB", 3)])
def test_colours_in_another_order_are_no_samples_of_a_pixel(tmp_path, extension, names, files):
    """Other programs take the first sample for red."""
    values = np.arange(3 * 4 * 5, dtype="u1").reshape(3, 4, 5)
    saved = xr.DataArray(values, dims=("c", "y", "x"), coords={"c": list(names)}, name="image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of BMP, which keeps no names
        written = imsave(saved, tmp_path / f"a{extension}")
    assert len(written) == files
    if files == 1:
        np.testing.assert_array_equal(np.asarray(Pillow.open(written[0])).transpose(2, 0, 1), values)
    else:
        found = imload(tmp_path / f"a{extension}").sel(c=list(names))
        np.testing.assert_array_equal(found["image"], values)
