"""EMD files of Berkeley: groups with an array and the positions along its axes.

Format: https://emdatasets.com/format (0.2), py4DSTEM's EMD 1.0, and that of py4DSTEM before it, which Prismatic writes
and which names the array by what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.formats.h5.arrays import dtype_of, read_stored
from intake_img.formats.h5.axes import AxisFacts, letters_of
from intake_img.formats.h5.file import h5py_module
from intake_img.formats.h5.tree import attribute, group_at, hard_links, text_of
from intake_img.model.axes import default_axes

__all__ = ["array_name", "facts_of", "images_of"]

_DEEP = 12  # groups within each other
_REAL_SPACE = {"R_x": "x", "R_y": "y", "Rx": "x", "Ry": "y"}  # beside Q_x and Q_y
_ARRAYS = (b"data", b"realslice", b"datacube", b"diffractionslice")


def images_of(f: Any) -> dict[str, str]:
    """Return the paths of the arrays, by the path of their group."""
    marked = _marked(f)
    found = _groups(f, "", 0) if marked is None else [path for path in marked if _is_array(group_at(f, path))]
    return {path: f"{path}/{array_name(group_at(f, path))}" for path in found}


def array_name(group: Any) -> str:
    """Return the name of the array in a group."""
    return next((name for name in _ARRAYS if name in group.id), _ARRAYS[0]).decode()


def _marked(f: Any) -> list[str] | None:
    """Paths of groups with a type, none or one, which needs no order; None if there are several, or links between."""
    h5py = h5py_module()
    paths: list[bytes] = []

    def note(path: bytes, info: Any) -> bool | None:
        group = info.type == h5py.h5o.TYPE_GROUP
        if group and h5py.h5a.exists(f.id, b"emd_group_type", obj_name=path):
            paths.append(path)
        return len(paths) > 1 or (group and info.rc > 1) or path.count(b"/") >= _DEEP or None

    try:
        ended = h5py.h5o.visit(f.id, note, info=True)
        return None if ended else [path.decode() for path in paths if path != b"."]
    except (KeyError, OSError, RuntimeError, ValueError):  # damaged
        return None


def _groups(group: Any, path: str, depth: int) -> Iterator[str]:
    for name in hard_links(group) if depth < _DEEP else ():
        item, inner = group_at(group, name), f"{path}/{name}".lstrip("/")
        if item is None:
            continue
        if _is_array(item):
            yield inner
        yield from _groups(item, inner, depth + 1)


def _is_array(group: Any) -> bool:
    """Whether a group says that it is an array, or image data, and has one of at least two axes."""
    kind = attribute(group, "emd_group_type")
    known = text_of(kind) in ("array", "1") or (not isinstance(kind, (str, bytes)) and np.size(kind) == 1 and kind == 1)
    data = _inner(group, array_name(group)) if known else None
    return len(getattr(data, "shape", None) or ()) > 1 and dtype_of(data) is not None


def _inner(group: Any, name: str) -> Any:
    """The low-level dataset in a group; None if there is nothing. Damaged, it is an error: it has the axes."""
    h5py = h5py_module()
    found = h5py.h5o.open(group.id, name.encode(), lapl=group._lapl) if name.encode() in group.id else None
    return found if isinstance(found, h5py.h5d.DatasetID) else None


def facts_of(group: Any) -> AxisFacts:
    """Return the axes of the array in a group: ``dim1``, ``dim2``, ... (1.0: ``dim0``, ...), the first axis first."""
    shape = _inner(group, array_name(group)).shape
    first = 0 if b"dim0" in group.id else 1
    dims = [_Dimension.of(_inner(group, f"dim{k + first}")) for k in range(len(shape))]
    facts = AxisFacts(letters_of([dim.name for dim in dims]) or default_axes(len(shape)))
    for axis, n, dim in zip(facts.axes, shape, dims, strict=True):
        values = _values(dim.stored, n)
        counted = not dim.unit and values.size > 1 and bool((values[1:] - values[:-1] == 1).all())  # pixels
        if values.size > 1 and not counted:
            facts.positions(axis, values, dim.unit)
    return facts


@dataclass(frozen=True)
class _Dimension:
    """What a file says of an axis."""

    stored: Any
    name: str = ""
    unit: str = ""

    @classmethod
    def of(cls, stored: Any) -> _Dimension:
        if stored is None:
            return cls(None)
        name, unit = (text_of(attribute(stored, known)) for known in ("name", "units"))
        name = "energy" if name == "E" and _unit(unit) == "eV" else _REAL_SPACE.get(name, name)
        return cls(stored, name, _unit(unit))


def _values(stored: Any, n: int) -> np.ndarray:
    """The positions along an axis; two stand for a first one and a step. Empty if there are none."""
    shape = () if stored is None else stored.shape
    if shape not in ((n,), (2,)) or stored.dtype.kind not in "iuf":
        return np.empty(0)
    values = read_stored(stored)
    return values if shape == (n,) else values[0] + (values[1] - values[0]) * np.arange(n)


def _unit(text: str) -> str:
    """A unit such as ``[n_m]`` or ``n_m^-1``, as others spell it; empty for pixels and none."""
    plain = text.strip().strip("[]").replace("_", "").strip()
    if match := re.fullmatch(r"(\S+?)\^?\{?-1\}?", plain):
        return f"1/{match[1]}"
    return "" if plain.lower() in ("px", "pixel", "pixels", "none", "unknown") else plain
