"""OME-Zarr 0.1 to 0.5, and any other Zarr group or array: folders, zip files and remote stores.

Of the format it is known here where images are found in a store (multiscales, labels, plates, series, plain arrays);
`write` lays out an image in a store, `metadata` spells the metadata, `store` reads and writes stores and chunks.
"""

from __future__ import annotations

import html
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from intake_img.errors import CannotWriteError, FormatError, SourceChangedError
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.chunks import ChunkFiles, chunk_files
from intake_img.formats.omezarr.guards import (
    Journal,
    check_chunk,
    checked_member,
    document_digest,
    with_found_separator,
)
from intake_img.formats.omezarr.store import (
    METADATA_FILES,
    Target,
    is_zip,
    open_store,
    read_array,
    tiles_of,
)
from intake_img.formats.omezarr.write import OURS, PACKED, Layout, join, write_coordinate
from intake_img.formats.source import ImageSource, Probe, check_level
from intake_img.model.axes import CANONICAL, default_axes
from intake_img.model.chunks import Region
from intake_img.model.datasets import FILE_ATTRS
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File

_MOST_BYTES = 2**50
_Address = tuple[str, bool, Hashable]
"""Of an array: its path in the store, whether its numbers stand for others, and the stamp of its metadata."""
_DEPTH, _MOST_GROUPS = 4, 1000


@dataclass(frozen=True)
class _Scene:
    """An image in a store: its name, its node, and which of the node's multiscales it is (None: plain arrays)."""

    name: str
    path: str
    number: int | None = 0
    only: str | None = None


class _Handle:
    """An open store; groups and arrays are opened once, when they are asked for."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.store, self.prefix = open_store(file)
        self._root = os.path.realpath(file.path) if file.local and not is_zip(file) else None
        self._nodes: dict[str, Any] = {}
        self._attributes: dict[str, dict[str, Any]] = {}
        self._chunk_files: dict[str, ChunkFiles | None] = {}
        self._journal = Journal(file, self._root)
        self._described = False
        self._stamps: dict[str, Hashable] = {}  # of the arrays that are open
        self.zarr_format = 3
        try:
            if self._root is not None and self._journal.look("zarr.json") is None:
                self.zarr_format = 2
            elif self.node("") is None:
                self.zarr_format = 2
                self._nodes.clear()
            if self.node("") is None:
                raise FormatError(f"{file} holds no Zarr group or array: there is no zarr.json, .zgroup or .zarray")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._nodes.clear()
        if hasattr(self.store, "_lock") or not is_zip(self.file):  # a zip file that was never read has nothing to close
            self.store.close()

    def renew(self) -> None:
        """Forget metadata that were changed since they were read; called before an image is described.

        Of remote stores all metadata are read again: asking whether they changed takes as many requests.
        """
        if self._described and (self._journal.changed() if self._root is not None else not is_zip(self.file)):
            for kept in (self._nodes, self._attributes, self._chunk_files, self._stamps):
                kept.clear()
            self._journal.clear()
            self.__dict__.pop("scenes", None)
        self._described = True

    def array_stamp(self, path: str) -> Hashable:
        """Return what changes when the metadata of the array at `path` are written anew.

        Times, sizes and inodes of local files, as they are now; a hash of the metadata that were read of others.
        """
        if self._root is not None:
            return tuple(self._journal.stat(join(path, name)) for name in self._names(array=True))
        return document_digest(self.array(path))

    def opened_stamp(self, path: str) -> Hashable:
        """Return the stamp that the array at `path` had when it was opened."""
        self.array(path)
        return self._stamps[path] if self._root is not None else self.array_stamp(path)

    def unchanged_array(self, path: str, stamp: Hashable) -> Any:
        """Return the array at `path` if it is the one that had this stamp, else raise `SourceChangedError`."""
        if self.array_stamp(path) != stamp:
            raise SourceChangedError(f"{self.file}: the array {path!r} was changed since it was opened: load it again")
        if self._root is not None and self._stamps.get(path) != stamp:
            self._nodes.pop(path, None)
            self._chunk_files.pop(path, None)
        return self.array(path)

    def _names(self, array: bool = False) -> tuple[str, ...]:
        if self.zarr_format == 3:
            return ("zarr.json",)
        return (".zarray", ".zattrs") if array else (".zarray", ".zgroup", ".zattrs")

    def node(self, path: str, array: bool = False) -> Any:
        """Return the group or array at `path`, None if there is none; `array` says which is expected."""
        if path not in self._nodes:
            self._inside(path)
            if self._root is not None:
                self._stamps[path] = self.array_stamp(path)  # before it is read
            self._nodes[path] = self._open(path, array)
        return self._nodes[path]

    def holds(self, path: str) -> bool:
        """Return whether there is a group or array at `path`."""
        self._inside(path)
        if self._root is None:
            return self.node(path) is not None
        return any(self._journal.look(join(path, name)) is not None for name in self._names())

    def _open(self, path: str, array: bool) -> Any:
        import zarr
        from zarr.errors import ContainsArrayError

        from intake_img.formats.omezarr.codecs import opening

        if self._root is not None:
            found = [self._journal.look(join(path, name)) for name in self._names()]
            if not any(found):
                return None
        place: dict[str, Any] = {"store": self.store, "path": join(self.prefix, path), "mode": "r",
                                 "zarr_format": self.zarr_format}  # fmt: skip
        for wanted in (array, not array):
            try:
                with opening():
                    if not wanted:
                        return zarr.open_group(**place, use_consolidated=False)
                    return with_found_separator(
                        zarr.open_array(**place), None if self._root is None else os.path.join(self._root, path)
                    )
            except (ContainsArrayError, FileNotFoundError):
                continue
        return None

    def _file(self, *parts: str) -> File:
        """Return a file or folder of a local store."""
        return self.file.at(os.path.join(self._root or "", *filter(None, parts)))

    def _inside(self, path: str) -> None:
        if self._root is None or not path:
            return
        real = os.path.realpath(os.path.join(self._root, path))
        if os.path.commonpath([real, self._root]) != self._root:
            raise FormatError(f"{self.file}: {path!r} is a link that leads out of the store: refused")

    def attributes(self, path: str) -> dict[str, Any]:
        """Return the attributes of the node at `path`; none if there is no such node."""
        if path not in self._attributes:
            self._inside(path)
            self._attributes[path] = self._read_attributes(path)
        return self._attributes[path]

    def _read_attributes(self, path: str) -> dict[str, Any]:
        if self._root is None:
            node = self.node(path)
            return {} if node is None else dict(node.attrs)
        name = "zarr.json" if self.zarr_format == 3 else ".zattrs"
        if self._journal.look(join(path, name)) is None:
            return {}
        try:
            content = json.loads(self._file(path, name).read())  # at a fifth of zarr's time
        except (FileNotFoundError, NotADirectoryError):
            return {}
        attributes = content.get("attributes", {}) if name == "zarr.json" and isinstance(content, dict) else content
        if not isinstance(attributes, dict):
            raise FormatError(f"{self.file}: the attributes of {path or 'the root'!r} are no JSON object: damaged")
        return attributes

    def ome(self, path: str) -> Mapping[str, Any]:
        return ngff.ome_of(self.attributes(path))

    def array(self, path: str) -> Any:
        """Return the array at `path`, of numbers, or raise `FormatError`."""
        node = self.node(path, array=True)
        if node is None or not hasattr(node, "dtype"):
            what = "is a group" if node is not None else "is missing"
            raise FormatError(f"{self.file}: the array {path!r}, which the metadata name, {what}")
        if node.dtype.kind not in "biufc" or any(n < 0 for n in node.shape) or _nbytes(node) > _MOST_BYTES:
            raise FormatError(f"{self.file}: {path!r} has dtype {node.dtype} and shape {node.shape}: no image")
        check_chunk(node, f"{self.file}: {path!r}")
        return node

    def chunk_files(self, path: str) -> ChunkFiles | None:
        """Return the chunks of the array at `path` as files, None if only zarr can read them."""
        if path not in self._chunk_files:
            folder = None if self._root is None else self._file(path)
            self._chunk_files[path] = None if folder is None else chunk_files(self.array(path), folder)
        return self._chunk_files[path]

    def members(self, path: str) -> dict[str, Any]:
        """Return the groups and arrays right inside the group at `path`; none where the store cannot be listed."""
        if self._root is not None:
            self._journal.look_at_folder(path)
            with os.scandir(os.path.join(self._root, path)) as entries:
                names = sorted(e.name for e in entries if os.path.isdir(e.path) and not e.name.startswith("."))
            found = {name: self.node(join(path, name)) for name in names}
            return {name: node for name, node in found.items() if node is not None}
        from intake_img.formats.omezarr.codecs import opening

        try:
            with opening():
                found = dict(sorted(self.node(path).members()))
        except (NotImplementedError, FileNotFoundError):
            return {}
        self._nodes.update({join(path, name): node for name, node in found.items()})
        return found

    def text(self, path: str) -> bytes | None:
        """Return a file of the store, None if there is none."""
        if is_zip(self.file):
            import zipfile

            reader = self.file.open()
            try:
                with reader.stream() as stream, zipfile.ZipFile(stream) as archive:
                    return archive.read(checked_member(archive.getinfo(join(self.prefix, path)), self.file))
            except KeyError:
                return None
            finally:
                reader.close()
        self._inside(path)
        if self._root is not None and self._journal.look(path) is None:
            return None
        file = self.file
        for part in path.split("/"):
            file = file / part
        try:
            return file.read()
        except FileNotFoundError:
            return None

    @cached_property
    def scenes(self) -> list[_Scene]:
        """All images in the store."""
        return _unique(_scenes(self))


def _nbytes(array: Any) -> int:
    return math.prod(array.shape) * int(array.dtype.itemsize)  # zarr's own number may overflow


# which images a store holds


def _scenes(handle: _Handle) -> list[_Scene]:
    root = handle.node("")
    if hasattr(root, "dtype"):
        return [_Scene("0", "", None)]
    attributes = handle.attributes("")
    ome = ngff.ome_of(attributes)
    if (wells := ngff.well_paths(ome)) is not None:
        return _fields(handle, wells)
    if (fields := ngff.image_paths(ome)) is not None:
        return _present(handle, [_Scene(f, f) for f in fields])
    images = ngff.multiscales(ome)
    if _record_of(attributes) is not None:
        return [_Scene(images[0].name or "0", "", 0) if images else _Scene("0", "", None)]
    if images:
        return _multiscales(handle, images)
    if "bioformats2raw.layout" in ome:
        return _series(handle)
    if labels := ngff.label_paths(ome):
        return [_Scene(p, p) for p in labels]
    if plain_ones := _plain_scenes(handle, ""):
        return plain_ones
    if nested := _nested(handle):
        return nested
    raise FormatError(
        f"{handle.file}: the Zarr group holds no image: no multiscales, plate, labels or series in its metadata, and "
        f"no array of numbers{_met(handle)}; name a group inside it"
    )


def _met(handle: _Handle) -> str:
    shown = [f"{n} ({node.dtype})" if hasattr(node, "dtype") else f"{n}/" for n, node in handle.members("").items()]
    return f" (it holds {', '.join(shown[:8])})" if shown else ""


def _fields(handle: _Handle, wells: Sequence[str]) -> list[_Scene]:
    """The fields of all wells of a plate that are there, each named by its path."""
    with ThreadPoolExecutor(8, thread_name_prefix="intake_img-wells") as pool:
        fields = dict(zip(wells, pool.map(lambda well: ngff.image_paths(handle.ome(well)), wells), strict=True))
    scenes = [_Scene(join(w, f), join(w, f)) for w, found in fields.items() for f in found or ()]
    return _present(handle, scenes, [w for w, found in fields.items() if found is None])


def _present(handle: _Handle, named: Sequence[_Scene], lost: Sequence[str] = ()) -> list[_Scene]:
    """Return the images that exist, of those that the metadata name, and warn of the others.

    Of a remote store, where each look is a request, only those before the first that exists are left out.
    """
    missing = [*lost]
    scenes: list[_Scene] = []
    for scene in named:
        if (scenes and not handle.file.local) or handle.holds(scene.path):
            scenes.append(scene)
        else:
            missing.append(scene.path)
    if not missing:
        return scenes
    shown = ", ".join(map(repr, missing[:5])) + (", …" if len(missing) > 5 else "")
    if not scenes:
        raise FormatError(
            f"{handle.file}: none of the images that the metadata name exists: missing are {shown}; copy the store anew"
        )
    warnings.warn(
        f"{handle.file}: {len(missing)} of the wells and images that the metadata name do not exist and are left out: "
        f"{shown}",
        stacklevel=2,
    )
    return scenes


def _multiscales(handle: _Handle, images: Sequence[ngff.Multiscale]) -> list[_Scene]:
    scenes = [_Scene(m.name or str(k), "", k) for k, m in enumerate(images)] + _further(handle)
    beside = _labels(handle, "")
    if not beside:
        return scenes
    sizes = _sizes(handle, "", images[0], 0)
    unfit = [n for n in beside if _fitting(handle, join("labels", n), sizes) is None]
    return scenes + [_Scene(f"labels/{n}", f"labels/{n}") for n in unfit]


def _further(handle: _Handle) -> list[_Scene]:
    """Images in groups of their own, in a store that we wrote and somebody edited."""
    ours = handle.attributes("").get(OURS)
    arrays = ours.get("arrays") if isinstance(ours, Mapping) else None
    firsts = [p[0] for p in arrays.values() if isinstance(p, list) and p] if isinstance(arrays, Mapping) else []
    groups = [ngff.check_path(p).rpartition("/")[0] for p in firsts]
    return [_Scene(g, g) for g in groups if g and not g.startswith("labels/") and ngff.multiscales(handle.ome(g))]


def _series(handle: _Handle) -> list[_Scene]:
    """The series of a bioformats2raw layout, by the names that OME/METADATA.ome.xml gives them."""
    xml = handle.text("OME/METADATA.ome.xml")
    names: list[str] = []
    if xml is not None:
        tags = re.findall(r"<(?:\w+:)?Image\b[^>]*>", xml.decode("utf-8", "replace"))  # parsing the whole takes long
        named = [re.search(r"""\bName\s*=\s*(?:"([^"]*)"|'([^']*)')""", tag) for tag in tags]
        names = [html.unescape(m[1] or m[2] or "") if m else "" for m in named]
    listed = handle.ome("OME").get("series")
    if isinstance(listed, list):
        paths = [ngff.check_path(p) for p in listed]
    elif names:
        paths = [str(k) for k in range(len(names))]
    else:
        paths = []
        while handle.node(str(len(paths))) is not None and len(paths) < _MOST_GROUPS:
            paths.append(str(len(paths)))
    if not paths:
        raise FormatError(f"{handle.file}: the bioformats2raw layout holds no series (no group '0')")
    names = names if len(names) == len(paths) else [""] * len(paths)
    return _present(handle, [_Scene(name or path, path) for name, path in zip(names, paths, strict=True)])


def _plain_scenes(handle: _Handle, path: str) -> list[_Scene]:
    """Arrays of a group as one scene where their axes agree, else as one scene each."""
    arrays = _data_arrays(handle, path)
    if not arrays:
        return []
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        for axis, n in zip(_dimensions(array), array.shape, strict=True):
            if sizes.setdefault(axis, n) != n:
                return [_Scene(other, path, None, only=other) for other in arrays]
        del name
    return [_Scene("0", path, None)]


def _nested(handle: _Handle) -> list[_Scene]:
    """Multiscale images in groups further down, by their paths."""
    found, level, seen = [], [""], 0
    for _ in range(_DEPTH):
        below = []
        for path in level:
            for name, node in handle.members(path).items():
                if hasattr(node, "dtype") or seen > _MOST_GROUPS:
                    continue
                seen += 1
                inner = join(path, name)
                count = len(ngff.multiscales(handle.ome(inner)))
                found += [_Scene(inner if count == 1 else f"{inner}:{k}", inner, k) for k in range(count)]
                if not count:
                    below.append(inner)
        level = below
    return found


def _unique(scenes: list[_Scene]) -> list[_Scene]:
    """Tell scenes of one node that share a name apart."""
    names = [s.name for s in scenes]
    return [
        replace(s, name=f"{s.name}:{s.number}") if s.number and names.count(s.name) > 1 and s.path == "" else s
        for s in scenes
    ]


# arrays and their axes


def _dimensions(array: Any) -> tuple[str, ...]:
    """Names of the axes of an array, as Zarr itself knows them, else the last of the canonical ones."""
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(named, (list, tuple)) and len(named) == array.ndim and len(set(named)) == len(named):
        spare = [a for a in "xyzctihabdefgjklmn" if a not in named]
        told = [str(n) if n else None for n in named]
        return tuple(reversed([n or spare.pop(0) for n in reversed(told)]))
    return default_axes(array.ndim)


def _data_arrays(handle: _Handle, path: str) -> dict[str, Any]:
    """The arrays of a group that are images: numbers along axes, and no coordinates."""
    arrays = {n: a for n, a in handle.members(path).items() if hasattr(a, "dtype")}
    coordinates = _coordinate_names(handle.attributes(path), arrays)
    data = {n: a for n, a in arrays.items() if n not in coordinates and a.dtype.kind in "biufc"}
    if any(a.ndim >= 2 for a in data.values()):
        return data
    named = any(getattr(a.metadata, "dimension_names", None) or "_ARRAY_DIMENSIONS" in a.attrs for a in data.values())
    return data if named else {}


def _coordinate_names(attributes: Mapping[str, Any], arrays: Mapping[str, Any]) -> set[str]:
    """Names of arrays that are coordinates, by the rules of xarray: dimensions, and what ``coordinates`` lists."""
    listed = [attributes.get("coordinates"), *(a.attrs.get("coordinates") for a in arrays.values())]
    names = {n for text in listed if isinstance(text, str) for n in text.split()}
    names |= {d for a in arrays.values() for d in _dimensions(a) if d in arrays and arrays[d].ndim == 1}
    return names & set(arrays)


def _packed(array: Any) -> bool:
    """True for arrays whose numbers stand for others, by the CF conventions that xarray writes."""
    attrs = array.attrs
    masked = "_FillValue" in attrs and array.dtype.kind in "iu"
    decoded = any(k in attrs for k in PACKED) or attrs.get("dtype") == "bool" or " since " in str(attrs.get("units"))
    return masked or decoded


def _decoded(array: Any, values: np.ndarray) -> xr.Variable:
    variable = xr.Variable(_dimensions(array), values, _cf_attrs(array))
    return xr.conventions.decode_cf_variable("array", variable, decode_timedelta=False)


def _cf_attrs(array: Any) -> dict[str, Any]:
    attrs = {k: v for k, v in dict(array.attrs).items() if k not in ("_ARRAY_DIMENSIONS", "coordinates")}
    if array.metadata.zarr_format == 2 and any(k in attrs for k in PACKED) and array.fill_value is not None:
        attrs["_FillValue"] = array.fill_value  # there, xarray keeps it in its own place
    elif isinstance(attrs.get("_FillValue"), str):  # xarray's base64 text of the fill value
        attrs.pop("_FillValue")
        if array.fill_value is not None and array.dtype.kind in "iuf":
            attrs["_FillValue"] = array.fill_value
    return attrs


def _coordinates(
    handle: _Handle, path: str, arrays: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, Coordinate]:
    """The coordinates of a plain group, read and decoded."""
    found = {}
    for name in sorted(_coordinate_names(handle.attributes(path), arrays)):
        array = arrays[name]
        axes = _dimensions(array)
        if any(sizes.get(a) != n for a, n in zip(axes, array.shape, strict=True)) or array.nbytes > 2**28:
            continue
        decoded = _decoded(array, np.asarray(array[...]))
        values = np.asarray(decoded.values)
        if values.dtype.kind in "UT":
            texts = values.astype(object)  # fails on damaged text, which pandas would choke on
            values = texts if values.dtype.kind == "T" else values
        found[name] = Coordinate(axes, values, dict(decoded.attrs))
    return found


def _sizes(handle: _Handle, path: str, image: ngff.Multiscale, level: int) -> dict[str, int]:
    array = handle.array(join(path, image.levels[level].path))
    return dict(zip(_axes(image, array), array.shape, strict=True))


def _axes(image: ngff.Multiscale, array: Any) -> tuple[str, ...]:
    """Axes as the metadata name them, as the array does, or (before 0.3) those that there were then."""
    if names := image.axis_names(array.ndim):
        return names
    if getattr(array.metadata, "dimension_names", None) or array.ndim > 5:
        return _dimensions(array)
    return tuple("tczyx"[5 - array.ndim :])


# labels


def _labels(handle: _Handle, path: str) -> list[str]:
    return ngff.label_paths(handle.ome(join(path, "labels")))


def _fitting(
    handle: _Handle, path: str, sizes: Mapping[str, int]
) -> tuple[str, tuple[int, ...], tuple[str, ...]] | None:
    """Find the level of a label image that lies on the grid of an image of these sizes.

    Returns
    -------
    path : str
        Of its array.
    kept : tuple of int
        Which axes of the array are the variable's; others have length 1 and stand for the whole of the image's axis.
    axes : tuple of str
    """
    images = ngff.multiscales(handle.ome(path))
    for level in range(len(images[0].levels) if images else 0):
        own = _sizes(handle, path, images[0], level)
        axes = list(own)
        kept = tuple(k for k, a in enumerate(axes) if not (own[a] == 1 and sizes.get(a, 1) != 1))
        shared = [axes[k] for k in kept]
        new = any(a not in sizes and own[a] != 1 for a in shared)
        if not new and all(sizes.get(a, own[a]) == own[a] for a in shared):
            return join(path, images[0].levels[level].path), kept, tuple(shared)
    return None


# the record of what NGFF cannot say


def _record_of(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Return where the arrays of a group written by us are, and its record; None if its metadata were edited since."""
    ours = attributes.get(OURS)
    if not isinstance(ours, Mapping) or ours.get("of") != ngff.digest(attributes):
        return None
    record, arrays = ours.get("record"), ours.get("arrays")
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except ValueError:
            return None
    return (arrays, record) if isinstance(arrays, Mapping) and isinstance(record, Mapping) else None


def _level_record(record: Mapping[str, Any], image: Image) -> dict[str, Any]:
    """Return the record of a further level: shapes and positions are those of the level, the rest stays."""
    full = {a: n for f in record["variables"].values() for a, n in zip(f["axes"], f["shape"], strict=True)}
    sizes = {**{a: 1 for a, n in full.items() if n == 1}, **image.sizes}
    variables = {
        name: {**facts, "shape": [sizes[a] for a in facts["axes"]]}
        for name, facts in record["variables"].items()
        if name in image.variables
    }
    coords = {}
    for name, c in record["coords"].items():
        if all(sizes.get(a) == full.get(a) for a in c["axes"]):
            coords[name] = c
        elif name in image.spacing and c["axes"] == [name]:
            spacing, start = float(image.spacing[name]), float(image.origin.get(name, 0.0))
            attrs = {**c["attrs"], **({"spacing": spacing} if "spacing" in c["attrs"] else {})}
            coords[name] = {"axes": [name], "dtype": "<f8", "attrs": attrs, "start": start, "step": spacing,
                            "size": sizes[name]}  # fmt: skip
    return {**record, "variables": variables, "coords": coords}


class OmeZarrSource(ImageSource):
    """Image in an OME-Zarr store, or any Zarr group or array: folder, ``.zarr.zip`` or ``.ozx`` file, or URL.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL of a store, or of a group or array inside one.
    scene : int or str, optional
        Which image, by number or name: a field of a plate (``"B/03/0"``), a series, a multiscale image, a label image
        of another resolution (``"labels/nuclei"``); ``"all"`` stacks equal ones on ``i``.
    level : int
        Level of the pyramid; 0 is full resolution.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays.
    output_axis_order : str or None
        Order of the axes.
    metadata : mapping, optional
        Free metadata; ``axes``, ``spacing``, ``spacing_units``, ``coords`` overrule the file.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name = "omezarr"
    format_name = "OME-Zarr"
    extensions = (".ome.zarr", ".zarr", ".zarr.zip", ".ome.zarr.zip", ".ozx")
    folder = True

    def __init__(
        self,
        uri: Any,
        *,
        scene: int | str | None = None,
        level: int = 0,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            scene=scene,
            level=level,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )

    @classmethod
    def claims(cls, probe: Probe) -> bool:
        if probe.folder:
            return any(probe.holds(name) for name in METADATA_FILES)
        if not probe.head.startswith(b"PK\x03\x04"):
            return False
        named = probe.name.lower().endswith(tuple(e for e in cls.extensions if e.endswith((".zip", ".ozx"))))
        first = probe.head[30 : 30 + int.from_bytes(probe.head[26:28], "little")]
        return named or first.rpartition(b"/")[2] in [name.encode() for name in METADATA_FILES]

    @classmethod
    def stamp(cls, file: File) -> tuple[Any, ...]:
        """Return what changes when the metadata at the root of the store are written anew."""
        if is_zip(file):
            return file.stamp()
        found: list[Any] = [os.stat(file.path).st_ino] if file.local else []
        for name in METADATA_FILES:
            try:
                if file.local:  # this is asked before each read
                    about = os.stat(f"{file.path}/{name}")
                    found.append((name, about.st_mtime_ns, about.st_size, about.st_ino))
                    continue
                found.append((name, *(file / name).stamp()))
                break
            except (FileNotFoundError, NotADirectoryError):
                continue
        return tuple(found)

    @classmethod
    def open(cls, file: File) -> _Handle:
        return _Handle(file)

    @classmethod
    def renew(cls, handle: _Handle) -> None:
        handle.renew()

    @classmethod
    def scene_names(cls, handle: _Handle) -> list[str]:
        return [s.name for s in handle.scenes]

    @classmethod
    def read_region(cls, handle: _Handle, address: _Address, region: Region, out: np.ndarray) -> None:
        path, packed, stamp = address
        array = handle.unchanged_array(path, stamp)
        if not packed:
            chunks = handle.chunk_files(path)
            if chunks is None or not chunks.read_into(region, out):
                read_array(array, region, out)
            return
        raw = np.empty(out.shape, array.dtype)
        read_array(array, region, raw)
        out[...] = _decoded(array, raw).values

    @classmethod
    def shards(cls, handle: _Handle, address: _Address) -> tuple[int, ...] | None:
        shards = handle.array(address[0]).shards
        return None if shards is None else tuple(shards)

    def _pixels_of(self, handle: _Handle, array: Any, path: str, packed: bool = False) -> Pixels:
        dtype = _decoded(array, np.empty((0,) * array.ndim, array.dtype)).dtype if packed else array.dtype
        return self.pixels(
            (path, packed, handle.opened_stamp(path)), array.shape, dtype, tiles_of(array), parallel=False
        )

    # reading

    def describe_image(self, handle: _Handle, scene: int | str, level: int) -> Image:
        entry = handle.scenes[int(scene)]
        attributes = handle.attributes(entry.path)
        image = self._recorded(handle, entry, attributes, level) or self._native(handle, entry, attributes, level)
        told = {k: v for k, v in attributes.items() if k != OURS}
        return replace(image, header={"zarr_format": handle.zarr_format, "path": entry.path, "attributes": told})

    def _native(self, handle: _Handle, entry: _Scene, attributes: Mapping[str, Any], level: int) -> Image:
        """Return the image as the store's own metadata describe it."""
        if entry.number is None:
            bare = hasattr(handle.node(entry.path), "dtype")
            return self._bare(handle, entry.path, level) if bare else self._plain(handle, entry, level)
        images = ngff.multiscales(ngff.ome_of(attributes))
        if len(images) <= entry.number:
            raise FormatError(f"{handle.file}: the group {entry.path!r} holds no multiscales metadata")
        return self._multiscale(handle, entry.path, images[entry.number], level)

    def _multiscale(self, handle: _Handle, path: str, described: ngff.Multiscale, level: int) -> Image:
        check_level(level, len(described.levels), handle.file)
        place = join(path, described.levels[level].path)
        array = handle.array(place)
        axes = _axes(described, array)
        ome = handle.ome(path)
        attrs = {"kind": "labels"} if ngff.is_labels(ome) and array.dtype.kind in "iu" else {}
        variables = {"image": Variable(self._pixels_of(handle, array, place), axes, attrs)}
        sizes = dict(zip(axes, array.shape, strict=True))
        for name in _labels(handle, path):
            if (fit := _fitting(handle, join(path, "labels", name), sizes)) is not None:
                own, kept, names = fit
                pixels = self._pixels_of(handle, handle.array(own), own).reshape(kept)
                key = name if name not in variables and name not in sizes else f"labels/{name}"
                variables[key] = Variable(pixels, names, {"kind": "labels"})
        coords = {}
        if "c" in sizes:
            channels, about = ngff.channels(ome, sizes["c"])
            if channels is not None:
                coords["c"] = Coordinate(("c",), np.asarray(channels, dtype=str), about)
        spacing, units, origin = described.calibration(level)
        return Image(variables, spacing, units, origin, coords)

    def _bare(self, handle: _Handle, path: str, level: int) -> Image:
        check_level(level, 1, handle.file)
        array = handle.array(path)
        return Image.single(self._pixels_of(handle, array, path, _packed(array)), _dimensions(array))

    def _plain(self, handle: _Handle, entry: _Scene, level: int) -> Image:
        check_level(level, 1, handle.file)
        data = _data_arrays(handle, entry.path)
        if entry.only is not None:
            data = {entry.only: data[entry.only]}
        variables = {}
        for name, array in data.items():
            packed = _packed(array)
            attrs = _decoded(array, np.empty((0,) * array.ndim, array.dtype)).attrs
            pixels = self._pixels_of(handle, handle.array(join(entry.path, name)), join(entry.path, name), packed)
            variables[name] = Variable(pixels, _dimensions(array), dict(attrs))
        if entry.only is not None:
            variables = {"image": next(iter(variables.values()))}
        attributes = handle.attributes(entry.path)
        attrs = {k: v for k, v in attributes.items() if k not in (*FILE_ATTRS, OURS, "coordinates")}
        arrays = {n: a for n, a in handle.members(entry.path).items() if hasattr(a, "dtype")}
        image = Image(variables, attrs=attrs)
        return replace(image, coords=_coordinates(handle, entry.path, arrays, image.sizes))

    def _recorded(self, handle: _Handle, entry: _Scene, attributes: Mapping[str, Any], level: int) -> Image | None:
        """Return the image as it was saved; None where there is no record, or one that does not fit the arrays."""
        if (ours := _record_of(attributes)) is None:
            return None
        arrays, record = ours
        image = self._native(handle, entry, attributes, level) if level else Image({})
        try:
            variables = {}
            for name, facts in record["variables"].items():
                if level < len(arrays[name]):
                    place = join(entry.path, ngff.check_path(arrays[name][level]))
                    array, dtype = handle.array(place), np.dtype(facts["dtype"])
                    if dtype != array.dtype.newbyteorder("=") and not (dtype.kind in "mM" and array.dtype.kind == "i"):
                        return None
                    stored = tuple(facts.get("stored", facts["axes"]))
                    variables[name] = Variable(self._pixels_of(handle, array, place), stored)
            image = replace(image, variables=variables, coords={}, attrs={})
            restored = image.restored(_level_record(record, image) if level else record)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        return None if restored is image or not variables else restored

    # writing

    @classmethod
    def many_variables(cls, name: str) -> bool:
        return True

    @classmethod
    def write(
        cls,
        image: Image,
        path: str,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".zarr",
        version: str = "0.5",
        chunks: Any = None,
        shards: Any = None,
        pyramid: bool | int = False,
        levels: Sequence[Image] = (),
    ) -> None:
        """Write OME-Zarr: a folder, or a zip file.

        A variable whose axes NGFF can hold (two or three of ``zyx``, ``t``, and ``c`` or one other) becomes a
        multiscale image, without further axes of length 1, which only the record keeps; integers with
        ``attrs["kind"] == "labels"`` beside an image become label images. If there is no such variable, the group is
        one that `xarray.open_zarr` opens. All else is kept in the attribute ``"intake_img"`` of the group, by which
        this package reads an equal Dataset back.

        Parameters
        ----------
        image, path, progress
            See `ImageSource.write`.
        compress : bool or str, optional
            True or None for blosc (zstd with bit shuffling); False; ``"zstd"``, ``"gzip"``, ``"lz4"``, ``"lz4hc"``,
            ``"zlib"``, ``"blosclz"``.
        name : str
            Name of the target: gives the image's name in the metadata.
        version : {"0.5", "0.4"}
            Of OME-NGFF: 0.5 is Zarr format 3, 0.4 format 2.
        chunks : int, sequence of int or mapping, optional
            A length for y and x; one for each axis, in the order ``tczyx`` in which the file has them, or by name
            (-1: the whole axis). By default planes of at most 1024 x 1024, several together while they hold less than
            a MiB.
        shards : bool, int, sequence of int or mapping, optional
            Put chunks together in files: True for files of at most 64 MiB of pixels, or lengths as for `chunks`.
            Version 0.5 alone.
        pyramid : bool or int
            Number of further levels, or True for as many as make y and x at most 256. Each halves y and x, and z where
            it is sampled at least as finely as y; samples are means of the level above (of labels and masks: the most
            frequent value), a last odd row is left out.
        levels : sequence of Image
            The further levels themselves, from the nodes of a DataTree.

        Raises
        ------
        CannotWriteError
            For dtypes that Zarr lacks, and options that do not fit.
        """
        if version not in ngff.VERSIONS:
            raise CannotWriteError(f"version={version!r}: OME-Zarr is written in {' or '.join(ngff.VERSIONS)}")
        if shards and version == "0.4":
            raise CannotWriteError("shards= needs version='0.5': Zarr format 2, which 0.4 uses, has no shards")
        if levels and pyramid:
            raise CannotWriteError("pyramid= makes levels, but the DataTree brings its own: give one of them")
        layout = Layout(image, name, version, chunks, shards, pyramid, tuple(levels))
        with Target(path, 3 if version == "0.5" else 2, layout.groups) as target:
            for plan in layout.plans:
                plan.write(target, compress, progress)
            for key, c in layout.coordinates.items():
                write_coordinate(target, key, c, compress)

    @classmethod
    def sample(cls, folder: str) -> tuple[str, xr.Dataset]:
        import zarr

        pixels = np.arange(2 * 3 * 8 * 9, dtype="uint16").reshape(2, 3, 8, 9)
        path = os.path.join(folder, "sample.ome.zarr")
        axes = [{"name": "c", "type": "channel"}]
        axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
        transformations = [
            {"type": "scale", "scale": [1.0, 2.0, 0.25, 0.25]},
            {"type": "translation", "translation": [0.0, 10.0, 0.0, -1.0]},
        ]
        datasets = [{"path": "full", "coordinateTransformations": transformations}]
        omero = {"channels": [{"label": n, "color": c} for n, c in (("DAPI", "0000FF"), ("GFP", "00FF00"))]}
        ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}], "omero": omero}
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.attrs["ome"] = ome  # type: ignore[assignment]
        array = group.create_array("full", shape=pixels.shape, dtype=pixels.dtype, chunks=(1, 1, 5, 4))
        array[...] = pixels
        coords: dict[str, Any] = {"c": ("c", ["DAPI", "GFP"], {"color": ["#0000FF", "#00FF00"]})}
        for axis, start, step, n in (("z", 10.0, 2.0, 3), ("y", 0.0, 0.25, 8), ("x", -1.0, 0.25, 9)):
            coords[axis] = (axis, start + step * np.arange(n), {"units": "µm", "spacing": step})
        return path, xr.Dataset({"image": (tuple("czyx"), pixels)}, coords=coords)
