"""Writing of Zeiss CZI with libCZI (pylibCZIrw): planes of an image, and names that libCZI does not accept."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.czi.metadata import RECORD
from intake_img.model.axes import RGB
from intake_img.model.image import Image, Variable
from intake_img.model.units import convert, parse_unit
from intake_img.storage.replacing import replace
from intake_img.storage.streams import iter_planes

__all__ = ["WRITTEN_AXES", "write_czi"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_STRANGE = re.compile(rf"{_CONTROL.pattern}|[/,;\[\]\n]")
_STORED = {"u1": "u1", "u2": "u2", "f4": "f4", "b1": "u1", "f2": "f4"}
"""Dtypes that are written, and the pixel type that represents their values."""
WRITTEN_AXES = "itczyxs"


def write_czi(image: Image, path: str, compress: Any = None, progress: Callable[[int], None] | None = None) -> None:
    """Write an image; see `CziSource.write`."""
    from pylibCZIrw import czi

    plan = _plan(image)
    options = _compression(compress, plan)
    record = json.dumps(image.record(stored_axes=plan.stored_axes))
    spacing = {f"scale_{a}": _metres(image, a) for a in "xyz"}
    names = dict(enumerate(image.channels or ())) if plan.colour != "c" else {}
    strange = {k: name for k, name in names.items() if _STRANGE.search(name)}
    names |= {k: f"{RECORD}-channel-{k}" for k in strange}
    with _full_disk(path), _ascii_path(path) as target:
        with czi.create_czi(target, compression_options=options) as document:
            for place, plane in plan.planes():
                at = dict(zip(plan.lead, place, strict=True))
                scene = at.pop("i", 0)
                stored = np.ascontiguousarray(plane if plane.ndim == 3 else plane[:, :, None])
                where = scene * plane.shape[1], 0
                coordinates = {a.upper(): at[a] for a in "tcz" if a in at}
                if not document.write(stored, location=where, plane=coordinates, scene=scene):
                    raise OSError(f"libCZI could not write the plane {coordinates} of {path}")
                if progress is not None:
                    progress(plane.nbytes)
            document.write_metadata(channel_names=names, custom_attributes={RECORD: record}, **spacing)
        if strange:
            _rename_channels(target, strange)


@dataclass(frozen=True)
class _Plan:
    """How an image becomes planes: which axes lead, whether pixels are colours."""

    variable: Variable
    lead: tuple[str, ...]
    colour: str | None  # the axis that becomes samples
    stored_axes: tuple[str, ...]

    def planes(self) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Yield the index along `lead`, and the plane (y, x, or y, x and samples blue, green, red)."""
        axes = (*self.lead, "y", "x", *([self.colour] if self.colour else []))
        own = self.variable.axes
        pixels = self.variable.pixels.transpose([own.index(a) for a in axes])
        dtype = np.dtype(_STORED[pixels.dtype.str[1:]])
        places = np.ndindex(pixels.shape[: len(self.lead)])
        for place, plane in zip(places, iter_planes(pixels, len(axes) - len(self.lead)), strict=True):
            plane = plane.astype(dtype, copy=False)
            yield place, plane[..., ::-1] if self.colour else plane


def _plan(image: Image) -> _Plan:
    variable = image.only
    sizes = dict(zip(variable.axes, variable.pixels.shape, strict=True))
    dtype = variable.pixels.dtype
    instead = "save as .zarr, which stores any image"
    further = [a for a in sizes if a not in WRITTEN_AXES]  # the record alone keeps those of length 1
    if beyond := [a for a in further if sizes[a] > 1]:
        raise CannotWriteError(
            f"CZI files are written with the axes i, t, c, z, y, x, not {beyond[0]!r} (of {sizes[beyond[0]]} samples): "
            f"select one (.isel({beyond[0]}=0)), or {instead}"
        )
    if "y" not in sizes or "x" not in sizes:
        raise CannotWriteError(f"a CZI file stores planes yx, the image has {''.join(sizes)!r}: {instead}")
    if 0 in sizes.values():
        raise CannotWriteError(f"a CZI file cannot store an image of shape {variable.pixels.shape}: {instead}")
    if dtype.str[1:] not in _STORED:
        raise CannotWriteError(f"CZI stores uint8, uint16 and float32, not {dtype}: convert it (.astype), or {instead}")
    colour = None
    if "s" in sizes:
        colour = "s"
    elif image.channels is not None and tuple(image.channels) == RGB[:3] and dtype.str[1:] in ("u1", "u2"):
        colour = "c"
    if colour == "s" and (sizes["s"] != 3 or dtype.str[1:] not in ("u1", "u2")):
        raise CannotWriteError(
            f"CZI stores colour as 3 samples of uint8 or uint16, not {sizes['s']} of {dtype}: {instead}"
        )
    lead = (*further, *(a for a in "itcz" if a in sizes and a != colour))
    found = (*(["i"] if sizes.get("i", 1) > 1 else []), "t", "c", "z", "y", "x")  # as pylibCZIrw orders dimensions
    if colour:
        one = sizes.get("c", 1) == 1 or colour == "c"
        found = (*[a for a in found if not (a == "c" and one)], "s")
    stored = [a for a in found if a in sizes or a == "s"]
    if colour:
        stored[-1] = colour
    stored = [a for a in sizes if a not in stored] + stored  # of length 1
    return _Plan(variable, lead, colour, tuple(stored))


def _compression(compress: Any, plan: _Plan) -> str:
    """Return the options for libCZI."""
    if compress in (None, False):
        return "uncompressed:"
    if compress in (True, "zstd1"):
        # libCZI 0.68 cannot read back colour pixels whose low and high bytes it separated
        separate = plan.variable.pixels.dtype.itemsize == 2 and not plan.colour
        return "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack" if separate else "zstd1:ExplicitLevel=1"
    if isinstance(compress, str) and compress.split(":", 1)[0] in ("zstd0", "zstd1", "uncompressed"):
        return compress if ":" in compress else f"{compress}:"
    raise CannotWriteError(
        f"compress={compress!r}: CZI knows 'zstd1' (also True), 'zstd0' and 'uncompressed' (also False)"
    )


def _metres(image: Image, axis: str) -> float:
    """Spacing for the file; 0 where it is unknown, or no length."""
    unit = parse_unit(image.units.get(axis))
    if axis not in image.spacing or unit is None or unit.dimension != "length":
        return 0.0
    return convert(image.spacing[axis], unit.symbol, "m")


def _rename_channels(path: str, names: Mapping[int, str]) -> None:
    """Put names into the XML that libCZI, which takes them for parts of a path, does not write."""
    from pylibCZIrw import czi

    with czi.edit_czi(path) as editor, editor.edit_session() as builder:
        xml = builder.get_xml()
        for k, name in names.items():
            xml = xml.replace(f'"{RECORD}-channel-{k}"', quoteattr(_CONTROL.sub(" ", name), {"\n": "&#10;"}))
        builder.set_xml(xml)


@contextlib.contextmanager
def _full_disk(path: str) -> Iterator[None]:
    """Let a write that came out short be an `OSError`, as everywhere; libCZI does not give the system's error."""
    try:
        yield
    except RuntimeError as exc:
        if "not enough data written" not in str(exc).lower():
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) from exc


@contextlib.contextmanager
def _ascii_path(path: str) -> Iterator[str]:
    """Yield a path that libCZI can open, which takes neither other letters nor names that do not end in .czi.

    What was written there becomes `path`.
    """
    folder, name = os.path.split(os.path.abspath(path))
    name = f"intake_img-{uuid.uuid4().hex[:8]}.partial.czi"
    real = os.path.join(folder, name)
    link = None
    try:
        if not folder.isascii() and os.name == "posix":
            link = os.path.join(tempfile.mkdtemp(prefix="intake_img-"), "folder")
            os.symlink(folder, link)
        yield os.path.join(link or folder, name)
        replace(real, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(real)
        if link is not None:
            os.unlink(link)
            os.rmdir(os.path.dirname(link))
