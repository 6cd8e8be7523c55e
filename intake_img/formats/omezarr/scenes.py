"""The images of a store: multiscales, plates, series, label images, plain arrays."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from intake_img.errors import FormatError, warn
from intake_img.formats.omezarr import metadata as ngff
from intake_img.formats.omezarr.contents import data_arrays, fitting, labels_of, sizes_of
from intake_img.formats.omezarr.handle import StoreHandle
from intake_img.formats.omezarr.plain_arrays import dimensions
from intake_img.formats.omezarr.record import record_of
from intake_img.formats.omezarr.spatialdata import elements, is_spatial
from intake_img.formats.omezarr.write import OURS, join

__all__ = ["StoreScene", "scenes_of"]


_DEPTH, _MOST_GROUPS = 4, 1000


@dataclass(frozen=True)
class StoreScene:
    """An image in a store: its name, its node, and which of the node's multiscales it is (None: plain arrays)."""

    name: str
    path: str
    number: int | None = 0
    only: str | None = None


def scenes_of(handle: StoreHandle) -> list[StoreScene]:
    """Return all images in a store."""
    return handle.remembered("scenes", lambda: _unique(_scenes(handle)))


def _scenes(handle: StoreHandle) -> list[StoreScene]:
    root = handle.node("")
    if hasattr(root, "dtype"):
        return [StoreScene("0", "", None)]
    attributes = handle.attributes("")
    ome = ngff.ome_of(attributes)
    if (wells := ngff.well_paths(ome)) is not None:
        return _fields(handle, wells)
    if (fields := ngff.image_paths(ome)) is not None:
        return _present(handle, [StoreScene(f, f) for f in fields])
    images = ngff.multiscales(ome)
    if record_of(attributes) is not None:
        return [StoreScene(images[0].name or "0", "", 0) if images else StoreScene("0", "", None)]
    if images:
        return _multiscales(handle, images)
    if is_spatial(attributes) and (paths := elements(handle)):
        return _present(handle, [StoreScene(p, p) for p in paths])
    if "bioformats2raw.layout" in ome:
        return _series(handle)
    if labels := ngff.label_paths(ome):
        return [StoreScene(p, p) for p in labels]
    if plain_ones := _plain_scenes(handle):
        return plain_ones
    if nested := _nested(handle):
        return nested
    raise FormatError(
        f"{handle.file}: the Zarr group contains no image: no multiscales, plate, labels or series in its metadata, "
        f"and no array of numbers{_met(handle)}; name a group inside it"
    )


def _met(handle: StoreHandle) -> str:
    shown = [f"{n} ({node.dtype})" if hasattr(node, "dtype") else f"{n}/" for n, node in handle.members("").items()]
    return f" (it contains {', '.join(shown[:8])})" if shown else ""


def _fields(handle: StoreHandle, wells: Sequence[str]) -> list[StoreScene]:
    """The fields of all wells of a plate that are there, each named by its path."""
    with ThreadPoolExecutor(8, thread_name_prefix="intake_img-wells") as pool:
        fields = dict(zip(wells, pool.map(lambda well: ngff.image_paths(handle.ome(well)), wells), strict=True))
    scenes = [StoreScene(join(w, f), join(w, f)) for w, found in fields.items() for f in found or ()]
    return _present(handle, scenes, [w for w, found in fields.items() if found is None])


def _present(handle: StoreHandle, named: Sequence[StoreScene], lost: Sequence[str] = ()) -> list[StoreScene]:
    """Return the images that exist, of those that the metadata name, and warn of the others.

    Of a remote store, where each look is a request, only those before the first that exists are left out.
    """
    missing = [*lost]
    scenes: list[StoreScene] = []
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
            f"{handle.file}: none of the images that the metadata name exists: missing are {shown}; copy it again"
        )
    warn(
        f"{handle.file}: {len(missing)} of the wells and images that the metadata name do not exist and are left out: "
        f"{shown}"
    )
    return scenes


def _multiscales(handle: StoreHandle, images: Sequence[ngff.Multiscale]) -> list[StoreScene]:
    scenes = [StoreScene(m.name or str(k), "", k) for k, m in enumerate(images)] + _further(handle)
    beside = labels_of(handle, "")
    if not beside:
        return scenes
    sizes = sizes_of(handle, "", images[0], 0)
    unfit = [n for n in beside if fitting(handle, join("labels", n), sizes) is None]
    return scenes + [StoreScene(f"labels/{n}", f"labels/{n}") for n in unfit]


def _further(handle: StoreHandle) -> list[StoreScene]:
    """Images in groups of their own, in a store that we wrote and somebody edited."""
    ours = handle.attributes("").get(OURS)
    arrays = ours.get("arrays") if isinstance(ours, Mapping) else None
    firsts = [p[0] for p in arrays.values() if isinstance(p, list) and p] if isinstance(arrays, Mapping) else []
    groups = [ngff.check_path(p).rpartition("/")[0] for p in firsts]
    return [StoreScene(g, g) for g in groups if g and not g.startswith("labels/") and ngff.multiscales(handle.ome(g))]


def _series(handle: StoreHandle) -> list[StoreScene]:
    """The series of a bioformats2raw layout, by the names that OME/METADATA.ome.xml gives them."""
    xml = handle.text("OME/METADATA.ome.xml")
    names: list[str] = []
    if xml is not None:
        tags = re.findall(r"<(?:\w+:)?Image\b[^>]*>", xml.decode("utf-8", "replace"))  # parsing all of it takes long
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
        raise FormatError(f"{handle.file}: the bioformats2raw layout contains no series (no group '0')")
    names = names if len(names) == len(paths) else [""] * len(paths)
    return _present(handle, [StoreScene(name or path, path) for name, path in zip(names, paths, strict=True)])


def _plain_scenes(handle: StoreHandle) -> list[StoreScene]:
    """Arrays of the first group as one scene where their axes agree, else as one scene each."""
    arrays = data_arrays(handle, "")
    if not arrays:
        return []
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        for axis, n in zip(dimensions(array), array.shape, strict=True):
            if sizes.setdefault(axis, n) != n:
                return [StoreScene(other, "", None, only=other) for other in arrays]
        del name
    return [StoreScene("0", "", None)]


def _nested(handle: StoreHandle) -> list[StoreScene]:
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
                found += [StoreScene(inner if count == 1 else f"{inner}:{k}", inner, k) for k in range(count)]
                if not count:
                    below.append(inner)
        level = below
    return found


def _unique(scenes: list[StoreScene]) -> list[StoreScene]:
    """Tell scenes of one node that share a name apart."""
    names = [s.name for s in scenes]
    return [
        replace(s, name=f"{s.name}:{s.number}") if s.number and names.count(s.name) > 1 and s.path == "" else s
        for s in scenes
    ]
