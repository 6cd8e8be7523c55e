"""Encoding of pictures and animations with our record, and the capabilities of each format.

Pillow and imagecodecs encode single planes; the blocks of animations are put together here, frame by frame, as Pillow
would merge equal neighbours into one. Sources: W3C PNG 3rd edition (acTL, fcTL, fdAT), GIF89a specification.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, UnitsError
from intake_img.formats.imageio.coded import boxed
from intake_img.formats.imageio.containers import KEY, png_chunks
from intake_img.formats.imageio.video import write_video
from intake_img.formats.palettes import colours_of
from intake_img.model.axes import RGB, spell
from intake_img.model.image import Image, Variable
from intake_img.model.packages import imported
from intake_img.model.pixels import Pixels
from intake_img.model.units import convert
from intake_img.storage.streams import iter_planes

__all__ = ["KINDS", "write"]

KINDS = {
    ".png": "PNG",
    ".apng": "APNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WebP",
    ".pgm": "PGM",
    ".ppm": "PPM",
    ".pnm": "PNM",
    ".pbm": "PBM",
    ".tga": "TGA",
    ".jp2": "JP2",
    ".jpf": "JP2",
    ".jpx": "JP2",
    ".j2k": "J2K",
    ".jpc": "J2K",
    ".jxl": "JXL",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".avi": "avi",
    ".mkv": "matroska",
}
"""Extensions and their formats."""
_DELAY = 100.0  # ms, for frames whose times are not known
_XMP_LIMIT = 65_000  # a JPEG's segment


@dataclass(frozen=True)
class _Holds:
    """What a format can store: dtypes, numbers of samples (0: grey), frames."""

    dtypes: str
    samples: tuple[int, ...]
    frames: bool = False
    lossy: bool = False


_VIDEO = _Holds("u1", (0, 3), frames=True, lossy=True)
HELD = {
    "PNG": _Holds("b1 u1 u2", (0, 2, 3, 4)),
    "APNG": _Holds("b1 u1 u2", (0, 2, 3, 4), frames=True),
    "JPEG": _Holds("u1", (0, 3), lossy=True),
    "GIF": _Holds("u1", (0,), frames=True),
    "BMP": _Holds("b1 u1", (0, 3)),
    "WebP": _Holds("u1", (3, 4)),
    "JP2": _Holds("u1 u2", (0, 2, 3, 4)),
    "JXL": _Holds("u1 u2 f2 f4", (0, 2, 3, 4)),
    "PGM": _Holds("b1 u1 u2", (0,)),
    "PPM": _Holds("b1 u1 u2", (3,)),
    "PNM": _Holds("b1 u1 u2", (0, 3)),
    **dict.fromkeys(("mp4", "mov", "avi", "matroska"), _VIDEO),
}
_NAMES = {2: ("L", "A"), 4: ("R", "G", "B", "A")}
_DTYPES = {"b1": "bool", "u1": "uint8", "u2": "uint16", "f2": "float16", "f4": "float32"}


def write(
    image: Image,
    path: str,
    name: str,
    compress: bool,
    lossy: bool,
    quality: int,
    progress: Callable[[int], None] | None,
) -> None:
    """Write an image in the format of `name`; see `ImageioSource.write`.

    Raises
    ------
    CannotWriteError
        If the format cannot store the image, or changes its pixels and `lossy` is False.
    """
    kind = KINDS[os.path.splitext(name.lower())[1]]
    if HELD[kind].lossy and not lossy:
        raise CannotWriteError(
            f"{kind} changes the pixels: pass lossy=True (and quality=1 to 100) if that is wanted, "
            "or save as .png, .tif or .zarr"
        )
    pixels, stored = _layout(image, kind)
    singles = [a for a in image.only.axes if a not in stored]
    record = image.record(stored_axes=(*singles, *stored))
    text = json.dumps(record)
    if len(text) > _XMP_LIMIT:  # headers of microscopes may be long; they describe the file that the image came from
        text = json.dumps({**record, "source": {}})
    durations = _durations(image, pixels.shape[0]) if stored[0] == "t" else []
    frames = pixels if durations or not HELD[kind].frames else pixels.reshape((None, *range(pixels.ndim)))
    if HELD[kind] is _VIDEO:
        rate = 1000 * len(durations) / sum(durations) if durations else 1000 / _DELAY
        write_video(frames, path, kind, rate, quality, f"{KEY} {text}", progress)
        return
    if kind == "APNG":
        blocks = _apng(frames, durations, _png_texts(image, text), compress)
    elif kind in ("JP2", "JXL"):
        blocks = iter([boxed(kind, pixels.read(), _xmp(text))])
    elif kind == "GIF":
        blocks = _gif(frames, durations, text, colours_of(image.only.attrs))
    elif kind in ("PGM", "PPM", "PNM"):
        blocks = _netpbm(pixels, text)
    else:
        blocks = _still(image, pixels, kind, text, compress, lossy, quality)
    with open(path, "wb") as stream:
        for block in blocks:
            stream.write(block)
    if progress is not None:
        progress(pixels.nbytes)


def axes_of(variable: Variable, channels: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """Return which axes of a variable a picture called `name` has: a plane, its colours, frames of an animation."""
    holds = HELD.get(KINDS.get(os.path.splitext(name.lower())[1], ""))
    sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    count = sizes.get("c", 1)
    named = _are_samples(tuple(channels or ()), count)
    masks = variable.pixels.dtype == bool  # these have no colour variant
    colours = holds is not None and count in holds.samples and named and sizes.get("s", 1) == 1 and not masks
    kept = {"y", "x", "s"} | ({"c"} if colours else set()) | ({"t"} if holds and holds.frames else set())
    return tuple(a for a, n in sizes.items() if a in kept or n == 1)


def _are_samples(names: Sequence[str], count: int) -> bool:
    """Whether channels of such names are samples of a pixel, in this order: three are, except B, G, R and the like."""
    if count == 3:
        return tuple(names) == RGB[:3] or sorted(names) != sorted(RGB[:3])
    return count not in _NAMES or tuple(names) == _NAMES[count]


def _layout(image: Image, kind: str) -> tuple[Pixels, tuple[str, ...]]:
    """Return the pixels in the order in which a format stores them, and the axes in that order."""
    holds, variable = HELD[kind], image.only
    sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    sample = next((a for a in ("c", "s") if sizes.get(a, 1) > 1), None)
    if sizes.get("c", 1) > 1 and sizes.get("s", 1) > 1:
        sample = "s"
    stored = tuple(
        a
        for a in ("t" if holds.frames else None, "y", "x", sample)
        if a is not None and (a in "yx" or sizes.get(a, 1) > 1)
    )
    spare = [a for a, n in sizes.items() if n != 1 and a not in stored]
    advice = "select a plane of it (e.g. ds.isel(z=0)), or save as .tif or .zarr"
    if spare or not {"y", "x"} <= set(sizes):
        can = "frames on 't' of planes 'yx'" if holds.frames else "one plane 'yx'"
        raise CannotWriteError(f"{kind} stores {can}, the image has {spell(variable.axes)!r} {sizes}: {advice}")
    if 0 in sizes.values():
        raise CannotWriteError(f"the image has no pixels ({sizes}): {kind} cannot store an empty image")
    if f"{variable.pixels.dtype.kind}{variable.pixels.dtype.itemsize}" not in holds.dtypes.split():
        raise CannotWriteError(
            f"{kind} stores {', '.join(_DTYPES[d] for d in holds.dtypes.split())}, "
            f"the image is {variable.pixels.dtype}: save as .tif or .zarr, which keep it, or scale it to such a type"
        )
    if sample and variable.pixels.dtype == bool:
        raise CannotWriteError(f"{kind} stores masks of one plane, the image has an axis {sample!r}: {advice}")
    count = sizes[sample] if sample else 0
    names = tuple(image.channels or ()) if sample == "c" else ()
    if count not in holds.samples or (sample == "c" and not _are_samples(names, count)):
        can = ", ".join("grey" if n == 0 else "".join(_NAMES.get(n, "RGB")) for n in holds.samples)
        have = f"{count} channels" + (f" ({', '.join(names)})" if names else "") if count else "no colour"
        name = f", name them with ds.assign_coords(c={list(_NAMES[count])})" if count in _NAMES and not names else ""
        raise CannotWriteError(
            f"{kind} stores {can}, the image has {have}: select a channel{name}, or save as .tif or .zarr"
        )
    kept = [k for k, a in enumerate(variable.axes) if a in stored]
    order = [[variable.axes[k] for k in kept].index(a) for a in stored]
    return variable.pixels.reshape(kept).transpose(order), stored


def _durations(image: Image, frames: int) -> list[float]:
    """How long each frame is to be shown, in milliseconds."""
    unit = image.units.get("t", "")
    try:
        if step := image.spacing.get("t"):
            times = [convert(step, unit, "ms")] * frames
        else:
            steps = np.diff(np.asarray(image.coords["t"].values, float))
            times = [convert(float(v), unit, "ms") for v in (*steps, steps[-1])]
    except (KeyError, ValueError, TypeError, UnitsError):
        return [_DELAY] * frames
    return times if all(1 <= t <= 600_000 for t in times) else [_DELAY] * frames


def _pillow(plane: np.ndarray) -> Any:
    from PIL import Image as Pillow

    mode = "LA" if plane.shape[2:] == (2,) else None
    plane = np.ascontiguousarray(plane)
    if mode:
        return Pillow.frombytes(mode, (plane.shape[1], plane.shape[0]), plane.tobytes())
    return Pillow.fromarray(plane)


def _still(
    image: Image, pixels: Pixels, kind: str, text: str, compress: bool, lossy: bool, quality: int
) -> Iterator[bytes]:
    plane = pixels.read()
    if kind == "PNG":
        data = _png(plane, compress, colours_of(image.only.attrs))
        yield data[:33]
        yield from _png_texts(image, text)
        yield data[33:]
        return
    if max(plane.shape[:2]) > (16383 if kind == "WebP" else 65500 if kind == "JPEG" else 2**31):
        raise CannotWriteError(f"{kind} cannot store {plane.shape[1]} x {plane.shape[0]} pixels: save as .png or .tif")
    options: dict[str, Any] = {}
    if kind in ("JPEG", "WebP"):
        if len(packet := _xmp(text)) > _XMP_LIMIT:
            raise CannotWriteError(f"the coordinates and attributes are too long for {kind}: save as .png or .tif")
        options = {"xmp": packet, "quality": quality}
    if kind == "JPEG":
        options["subsampling"] = 0
    if kind == "WebP":
        options |= {"lossless": not lossy, "exact": True}
    target = io.BytesIO()
    _pillow(plane).save(target, format=kind, **options)
    yield target.getvalue()


def _xmp(text: str) -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:intake_img="urn:intake_img"><intake_img:record>{escape(text, quote=False)}</intake_img:record>'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


# PNG


def _png(plane: np.ndarray, compress: bool, palette: np.ndarray | None = None) -> bytes:
    """Return a plane as PNG, with a palette where its values stand for the colours of one."""
    if plane.dtype == np.uint16 and plane.ndim == 3:
        imagecodecs = imported("imagecodecs", "codecs", "writing 16-bit colour PNG")
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(plane), level=6 if compress else 0))
    target = io.BytesIO()
    picture, options = _pillow(plane), {}
    if palette is not None and plane.dtype == np.uint8 and plane.ndim == 2:
        table = np.zeros((256, palette.shape[1]), np.uint8)[: max(len(palette), int(plane.max()) + 1)]
        table[: len(palette)] = palette
        picture.putpalette(table[:, :3].tobytes())
        options = {"transparency": table[:, 3].tobytes()} if table.shape[1] == 4 else {}
    picture.save(target, format="PNG", compress_level=6 if compress else 0, **options)
    return target.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_texts(image: Image, text: str) -> list[bytes]:
    """The record, and the spacing where it is a length."""
    chunks = [_chunk(b"iTXt", KEY.encode() + b"\0\0\0\0\0" + text.encode())]
    try:
        x, y = (round(1e6 / convert(image.spacing[a], image.units[a], "µm")) for a in "xy")
    except (KeyError, UnitsError, OverflowError):
        return chunks
    return [_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)), *chunks] if 0 < min(x, y) <= max(x, y) < 2**31 else chunks


def _apng(frames: Pixels, durations: list[float], texts: list[bytes], compress: bool) -> Iterator[bytes]:
    count, height, width = frames.shape[:3]
    sequence = 0
    for number, plane in enumerate(iter_planes(frames, frames.ndim - 1)):
        data = _png(plane, compress)
        view = memoryview(data)
        if number == 0:
            yield data[:33]
            yield from texts
            if durations:
                yield _chunk(b"acTL", struct.pack(">II", count, 0))
        if durations:
            delay = Fraction(durations[number] / 1000).limit_denominator(1000)
            share, whole = delay.numerator, delay.denominator
            if share > 65535:
                share, whole = round(durations[number] / 1000), 1
            yield _chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, share, whole, 0, 0))
            sequence += 1
        for name, at, size in png_chunks(view):
            if name != b"IDAT":
                continue
            if number == 0:
                yield data[at - 8 : at + size + 4]
            else:
                yield _chunk(b"fdAT", struct.pack(">I", sequence) + data[at : at + size])
                sequence += 1
    yield _chunk(b"IEND", b"")


# GIF and Netpbm


def _gif(frames: Pixels, durations: list[float], text: str, palette: np.ndarray | None) -> Iterator[bytes]:
    from PIL.GifImagePlugin import getdata

    height, width = frames.shape[1:]
    if max(height, width) > 65535:
        raise CannotWriteError(f"GIF cannot store {width} x {height} pixels: save as .png or .tif")
    yield b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0)
    table = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(-1, 3)  # a ramp of grey
    if palette is not None and not durations:  # frames of animations are composed of colours
        table = np.zeros((256, 3), np.uint8)
        table[: len(palette)] = palette[:, :3]
    yield table.tobytes()
    if durations:
        yield b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"  # play for ever
    comment = f"{KEY} {text}".encode()
    yield b"!\xfe"
    yield b"".join(bytes([len(part)]) + part for part in (comment[k : k + 255] for k in range(0, len(comment), 255)))
    yield b"\0"
    for number, plane in enumerate(iter_planes(frames)):
        options: dict[str, Any] = {"duration": max(10, round(durations[number]))} if durations else {}
        yield from getdata(_pillow(plane), **options)
    yield b";"


def _netpbm(pixels: Pixels, text: str) -> Iterator[bytes]:
    maxval = {"b": 1, "u": 2 ** (8 * pixels.dtype.itemsize) - 1}[pixels.dtype.kind]
    magic = "P6" if pixels.ndim == 3 else "P5"
    comment = f"# {KEY} {text}\n" if len(text) < 60_000 else ""  # readers look for it in the first 64 KiB
    yield f"{magic}\n{comment}{pixels.shape[1]} {pixels.shape[0]}\n{maxval}\n".encode()
    for plane in iter_planes(pixels, pixels.ndim):
        yield plane.astype(">u2" if maxval > 255 else "u1").tobytes()
