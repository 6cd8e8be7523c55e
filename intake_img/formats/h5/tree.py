"""Contents of an HDF5 file: numeric arrays by path, and attributes as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from intake_img.formats.h5.arrays import dtype_of
from intake_img.formats.h5.file import h5py_module
from intake_img.model.record import plain

__all__ = ["attribute", "attributes_of", "children", "image_paths", "numbered", "text_of"]

_ATTRIBUTE_BYTES = 2**16  # larger ones are not shown
_SKIPPED = 100  # of so many it is said why


def image_paths(f: Any) -> tuple[list[str], dict[str, str]]:
    """Return the paths of all arrays of numbers that have two axes or more.

    Parameters
    ----------
    f : h5py.File

    Returns
    -------
    paths : list of str
        In the order of the file, without a leading slash.
    skipped : dict of str to str
        What may be meant as an image and is not read, and why.
    """
    h5py = h5py_module()
    found: list[str] = []
    skipped: dict[str, str] = {}
    seen: set[Any] = set()  # addresses: damaged files can hold circles
    waiting = [""]
    while waiting:
        path = waiting.pop()
        try:
            item = f[path or "/"]
            address = h5py.h5o.get_info(item.id).addr
        except (KeyError, OSError, RuntimeError, ValueError) as exc:
            _note(skipped, path, f"cannot be opened: {exc}")
            continue
        if address in seen:
            continue
        seen.add(address)
        if isinstance(item, h5py.Group):
            waiting += [f"{path}/{name}".lstrip("/") for name in reversed(list(_inner(item, path, skipped)))]
        elif isinstance(item, h5py.Dataset) and (reason := _no_image(item)) is None:
            found.append(path)
        elif isinstance(item, h5py.Dataset) and reason:
            _note(skipped, path, reason)
    return found, skipped


def _note(skipped: dict[str, str], path: str, reason: str) -> None:
    if len(skipped) < _SKIPPED:
        skipped[path] = reason


def _inner(group: Any, path: str, skipped: dict[str, str]) -> Iterator[str]:
    """Names in a group, except links to other files, which are not followed, and their names."""
    h5l = h5py_module().h5l
    for name in group:
        kind = group.id.links.get_info(name if isinstance(name, bytes) else name.encode("utf8", "surrogateescape")).type
        if kind == h5l.TYPE_EXTERNAL:
            link = group.get(name, getlink=True)
            _note(skipped, f"{path}/{name}".lstrip("/"), f"a link to {link.path} of {link.filename}: open that file")
        elif kind == h5l.TYPE_HARD:
            yield name


def _no_image(dataset: Any) -> str | None:
    """Why a dataset is not an image; empty if it does not look like one."""
    shape = dataset.shape
    if shape is None or len(shape) < 2 or text_of(attribute(dataset, "CLASS")) in ("PALETTE", "DIMENSION_SCALE"):
        return ""
    return None if dtype_of(dataset) is not None else f"of type {_type_of(dataset)}, which is not a number"


def _type_of(dataset: Any) -> str:
    try:
        return str(dataset.dtype)
    except TypeError as exc:
        return str(exc)


def numbered(group: Any, prefix: str) -> list[tuple[int, str]]:
    """Return number and name of what a group holds under names that are a prefix and a number, by number."""
    ends = {name: name[len(prefix) :] for name in group if isinstance(name, str) and name.startswith(prefix)}
    return sorted((int(end), name) for name, end in ends.items() if end.isascii() and end.isdigit() and len(end) < 10)


def children(group: Any, prefix: str) -> list[str]:
    """Return the names in a group that are a prefix and a number, in the order of the numbers."""
    return [name for _, name in numbered(group, prefix)]


def attributes_of(item: Any) -> dict[str, Any]:
    """Return the attributes of a group or dataset as plain JSON; of large or unreadable ones, what they are."""
    attrs = item.attrs  # each time a new object
    return {name: value for name in attrs if (value := _attribute(attrs, name)) is not None}


def attribute(item: Any, name: str) -> Any:
    """Return an attribute of a group or dataset as h5py gives it; None if there is none, or it is no plain value."""
    return _value(item.attrs, name, item.attrs.get_id(name)) if name in item.attrs else None


def _attribute(attrs: Any, name: str) -> Any:
    try:
        found = attrs.get_id(name)
        nbytes = found.get_storage_size()
        if nbytes > _ATTRIBUTE_BYTES:
            return f"{nbytes} bytes, not shown"
        value = _value(attrs, name, found)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as exc:
        return f"unreadable: {exc}"
    return None if value is None else _plain(value)


def _value(attrs: Any, name: str, found: Any) -> Any:
    """The value as h5py gives it, None for references, records and lists.

    Numbers and text of fixed length are read without opening the attribute again. A damaged description of a record or
    a list can end the process.
    """
    h5t = h5py_module().h5t
    stored = found.get_type()
    kind = stored.get_class()
    if kind in (h5t.REFERENCE, h5t.COMPOUND, h5t.OPAQUE) or stored.detect_class(h5t.VLEN):
        return None
    if kind == h5t.STRING and not stored.is_variable_str():
        dtype = np.dtype(f"S{stored.get_size()}")
    elif kind in (h5t.INTEGER, h5t.FLOAT):
        dtype, stored = stored.dtype, None
    else:
        return attrs[name]
    if (shape := found.shape) is None:
        return attrs[name]
    value = np.zeros(shape, dtype)
    found.read(value, stored)
    return value if shape else value[()]


def _plain(value: Any) -> Any:
    """Plain JSON of an attribute; None for references to other objects of the file."""
    h5py = h5py_module()
    if isinstance(value, (h5py.Empty, h5py.Reference, h5py.RegionReference)):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind in "SOV":
        if value.dtype.kind == "V" or any(not isinstance(v, (str, bytes)) for v in value.ravel().tolist()):
            return None
        return text_of(value) if value.dtype == "S1" else [text_of(v) for v in value.ravel().tolist()]
    return None if isinstance(value, np.void) else plain(value)


def text_of(value: Any) -> str:
    """Return an attribute as text: bytes, text, or an array of single characters; empty where it is none of these."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "S" and value.dtype.itemsize == 1:
            value = value.tobytes()
        elif value.size == 1:
            value = value.ravel()[0]
    if isinstance(value, (bytes, np.bytes_)):
        return bytes(value).decode("utf-8", "replace").rstrip("\0 ")
    return str(value) if isinstance(value, str) else ""
