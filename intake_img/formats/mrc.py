"""The format ``mrc``: volumes, images and stacks of electron microscopy, MRC2014 and CCP4, also gzip- or bzip2-packed.

Specification: https://www.ccpem.ac.uk/mrc_format/mrc2014.php; unsigned bytes after IMOD's flag
(https://bio3d.colorado.edu/imod/doc/mrc_format.txt). Nothing is flipped: by convention, y runs upwards.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.base import Format, Handle, NoOptions
from intake_img.formats.compression import level_of_name
from intake_img.formats.format_source import source_of
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import (
    ArrayHandle,
    packing,
    sample_volume,
    sealed,
    spacing_in,
    stored_array,
    unpacked,
    unsealed,
)
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.units import canonical, convert, known_spacing
from intake_img.storage.files import File
from intake_img.storage.limits import record_limit
from intake_img.storage.streams import write_planes

__all__ = ["Mrc", "MrcSource"]

_FIELDS = """
n:3i4 mode:i4 nstart:3i4 m:3i4 cella:3f4 cellb:3f4 map_axes:3i4 dmin:f4 dmax:f4 dmean:f4 ispg:i4 nsymbt:i4 extra1:V8
exttyp:S4 nversion:i4 extra2:V40 imod_stamp:i4 imod_flags:i4 extra3:V36 origin:3f4 map:S4 machst:V4 rms:f4 nlabl:i4
label:10S80
"""
_HEADER = np.dtype([(name, kind) for name, _, kind in (field.partition(":") for field in _FIELDS.split())])
_MODES = {0: "i1", 1: "i2", 2: "f4", 3: "i2", 4: "c8", 6: "u2", 12: "f2", 16: "u1"}
_SAMPLES = {3: ("real", "imaginary"), 16: ("R", "G", "B")}
_IMOD = 1146047817  # the stamp of files whose flags are set
_SIGNED = 1
_SEALED = ("n", "mode", "nstart", "m", "cella", "map_axes", "ispg", "origin")
_RECORD = b"MRCO"  # type of the extended header in which the record is
_BARE = (".mrc", ".mrcs", ".map", ".ccp4", ".st", ".rec", ".ali")


class Mrc(Format):
    """Volume, image or stack in an MRC or CCP4 file."""

    name = "mrc"
    title = "MRC/CCP4"
    extensions = tuple(f"{e}{p}" for p in ("", ".gz", ".bz2") for e in (".mrc", ".mrcs", ".ccp4"))

    def claims(self, probe: Probe) -> int:
        head = probe.inner or probe.head
        small = not head[12:15].strip(b"\0") or not head[13:16].strip(b"\0")  # the mode, in either byte order
        if len(head) < 216 or not small or _parsed(head.ljust(1024, b"\0")[:1024]) is None:
            return 0
        return 2 if head[208:212] == b"MAP " else int(probe.name.lower().endswith(_BARE))

    def open(self, file: File, options: NoOptions) -> Handle:
        source = unpacked(file.open())
        header = _parsed(source.ranges([0], [1024])[0])
        if header is None:
            raise FormatError(f"{file} does not begin with a header of MRC: sizes, a mode, axes")
        mode, more = int(header["mode"]), max(int(header["nsymbt"]), 0)
        if mode not in _MODES:
            raise FormatError(f"{file}: mode {mode} of MRC is not supported; {', '.join(map(str, _MODES))} are")
        shape, axes = _layout(header)
        dtype = np.dtype("u1" if mode == 0 and _unsigned(header) else _MODES[mode])
        dtype = dtype.newbyteorder("<" if header.dtype == _HEADER.newbyteorder("<") else ">")
        stored = stored_array(source, 1024 + more, dtype, shape)
        text = b""
        if bytes(header["exttyp"]) == _RECORD and more <= record_limit(0):
            text = source.ranges([1024], [more])[0].rstrip(b"\0")
        return ArrayHandle(stored, lambda pixels: _image(pixels, axes, header, text), source)

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        lead = [a for a in variable.axes if a not in "zyx"]
        return None if len(lead) < 2 else [a for a in variable.axes if a in "zyx"]

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | int | None = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".mrc",
    ) -> None:
        """Write an image, a volume, or a stack of either.

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. `compress` is the level, 1 to 9, for names that end in ``.gz`` or ``.bz2``.
        name : str
            Name of the target, which says whether and how it is compressed.
        """
        method, level = level_of_name(compress, name, {".gz": "gzip", ".bz2": "bzip2"}, 4)
        pixels, header, record = _written(image)
        with packing(path, method, level) as stream:
            stream.write(header.tobytes() + record)
            write_planes(stream, pixels, progress)

    def sample(self, folder: str) -> tuple[str, Any]:
        head = np.zeros((), _HEADER.newbyteorder(">"))
        head["n"], head["m"], head["mode"], head["ispg"] = (4, 3, 2), (4, 3, 2), 6, 1
        head["map_axes"], head["cella"], head["map"] = (1, 2, 3), (2, 0.75, 4), b"MAP "
        return sample_volume(f"{folder}/a.mrc", head.tobytes(), unit="Å")


MrcSource = source_of(Mrc())


def _parsed(head: bytes) -> np.void | None:
    """Return the header in the byte order in which it makes sense; None if it does in neither."""
    for dtype in (_HEADER.newbyteorder("<"), _HEADER.newbyteorder(">")):
        header: np.void = np.frombuffer(head, dtype, 1)[0]
        axes = sorted(header["map_axes"].tolist())
        if 0 <= header["mode"] <= 101 and header["n"].min() > 0 and axes in ([1, 2, 3], [0, 0, 0]):
            return header
    return None


def _unsigned(header: np.void) -> bool:
    return bool(header["imod_stamp"] == _IMOD and not header["imod_flags"] & _SIGNED)


def _layout(header: np.void) -> tuple[list[int], str]:
    """Return shape and axes, in C order."""
    nx, ny, nz = header["n"].tolist()
    ispg, mz = int(header["ispg"]), int(header["m"][2])
    letters = "".join("xyz"[k - 1] for k in _map_axes(header)[::-1])
    shape, axes = [nz, ny, nx], letters
    if 401 <= ispg <= 630 and mz > 0 and nz % mz == 0:
        shape, axes = [nz // mz, mz, ny, nx], "i" + letters
    elif ispg == 0 and nz == 1:
        shape, axes = [ny, nx], letters[1:] if letters[0] == "z" else "yx"
    elif ispg == 0 and mz == 1:
        axes = "i" + (letters[1:] if letters[0] == "z" else "yx")
    samples = _SAMPLES.get(int(header["mode"]), ())
    return [*shape, *[len(samples)] * bool(samples)], axes + "c" * bool(samples)


def _map_axes(header: np.void) -> list[int]:
    found: list[int] = header["map_axes"].tolist()
    return found if sorted(found) == [1, 2, 3] else [1, 2, 3]


def _image(pixels: Pixels, axes: str, header: np.void, text: bytes) -> Image:
    cell, counts = header["cella"].tolist(), header["m"].tolist()
    steps = {a: known_spacing(c / n) for a, c, n in zip("xyz", cell, counts, strict=True) if a in axes and n > 0}
    spacing = {a: step for a, step in steps.items() if step is not None}
    if any(c < 0 for c in cell):
        warnings.warn(f"the cell is {cell} Å: its negative lengths are left out", stacklevel=2)
    starts = {"xyz"[k - 1]: n for k, n in zip(_map_axes(header), header["nstart"].tolist(), strict=True)}
    stated = dict(zip("xyz", header["origin"].tolist(), strict=True))
    if not any(stated.values()) or not all(map(math.isfinite, stated.values())):
        stated = {a: starts[a] * s for a, s in spacing.items()}
    facts = {name: header[name].tolist() for name in _HEADER.names or () if not name.startswith("extra")}
    facts = {k: v for k, v in facts.items() if not (isinstance(v, float) and not math.isfinite(v))}
    facts |= {"machst": bytes(header["machst"]).hex(), "label": [v for v in facts["label"] if v], "y_axis": "up"}
    named = Image.single(pixels, axes, channels=_SAMPLES.get(int(header["mode"])), header=facts)
    units, origin = dict.fromkeys(spacing, "Å"), {a: stated[a] for a in spacing}
    image = replace(named, spacing=spacing, units=units, origin=origin)
    return image.restored(unsealed(text, _seal(header))) if text else image


def _seal(header: Any) -> bytes:
    return b"".join(np.asarray(header[name]).astype(header[name].dtype.newbyteorder("<")).tobytes() for name in _SEALED)


def _written(image: Image) -> tuple[Pixels, np.ndarray, bytes]:
    """Return the pixels in the order of MRC, the header and the record."""
    variable = image.only
    lead = [a for a in variable.axes if a not in "zyx"]
    if len(lead) > 1 or not {"y", "x"} <= set(variable.axes):
        raise CannotWriteError(f"MRC holds y, x, z and one axis more, but the image has {', '.join(variable.axes)}")
    order = lead + [a for a in "zyx" if a in variable.axes]
    pixels = variable.pixels.transpose([variable.axes.index(a) for a in order])
    pixels = pixels.astype("u1") if pixels.dtype == bool else pixels
    modes = {np.dtype(name): mode for mode, name in _MODES.items() if mode not in _SAMPLES} | {np.dtype("u1"): 0}
    if pixels.dtype not in modes or pixels.size == 0:
        raise CannotWriteError(f"MRC holds no pixels of {pixels.dtype} and shape {pixels.shape}")
    sizes = {a: image.sizes.get(a, 1) for a in "xyz"}
    header = np.zeros((), _HEADER)
    header["n"] = sizes["x"], sizes["y"], sizes["z"] * math.prod(image.sizes[a] for a in lead)
    header["m"], header["mode"], header["map_axes"] = list(sizes.values()), modes[pixels.dtype], (1, 2, 3)
    header["ispg"] = (401 if lead else 1) if "z" in order else 0
    spacing, unit = spacing_in(image, "xyz", ("Å",))
    if unit:
        header["cella"] = [spacing.get(a, 0) * n for a, n in sizes.items()]
        given = {a: canonical(image.units[a]) or "Å" for a in spacing}
        header["origin"] = [convert(image.origin.get(a, 0.0), given[a], "Å") if a in spacing else 0 for a in "xyz"]
    header["cellb"], header["dmax"], header["dmean"], header["rms"] = 90, -1, -2, -1  # statistics are not known
    header["imod_stamp"], header["imod_flags"] = _IMOD, 0 if pixels.dtype == np.dtype("u1") else _SIGNED
    header["map"], header["nversion"], header["exttyp"] = b"MAP ", 20141, _RECORD
    header["machst"] = np.void(b"\x44\x44\0\0" if sys.byteorder == "little" else b"\x11\x11\0\0")
    record = sealed(image.record(order), _seal(header)).encode()
    record += bytes(-len(record) % 4)
    header["nsymbt"] = len(record)
    return pixels, header, record
