"""Contents of an HDF5 file: numeric arrays by path, and attributes as plain values."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from intake_img.formats.h5.arrays import dtype_of
from intake_img.formats.h5.file import h5py_module, item_at
from intake_img.model.record import plain

__all__ = [
    "array_at",
    "attribute",
    "attribute_names",
    "attributes_of",
    "children",
    "dataset_at",
    "found_at",
    "group_at",
    "hard_links",
    "image_paths",
    "names_in",
    "numbered",
    "text_of",
]

_ATTRIBUTE_BYTES = 2**16  # larger ones are not shown
_SKIPPED = 100  # for at most this many the reason is stated
_LETTERS = np.dtype("S1")


def image_paths(f: Any) -> tuple[list[str], dict[str, str]]:
    """Return the paths of all arrays of numbers that have at least two axes.

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
    seen: set[Any] = set()  # addresses: damaged files may contain cycles
    waiting = [""]
    while waiting:
        path = waiting.pop()
        try:
            item = item_at(f, path or "/")
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
        kind = _kind(group, name)
        if kind == h5l.TYPE_EXTERNAL:
            link = group.get(name, getlink=True)
            _note(skipped, f"{path}/{name}".lstrip("/"), f"a link to {link.path} of {link.filename}: open that file")
        elif kind == h5l.TYPE_HARD:
            yield name


def _kind(group: Any, name: str | bytes) -> int:
    """The kind of the link with a name: hard, soft, external."""
    encoded = name if isinstance(name, bytes) else name.encode("utf8", "surrogateescape")
    return int(group.id.links.get_info(encoded).type)


def names_in(group: Any) -> list[str]:
    """Return the names in a group, in the order of h5py: that of creation, if the file keeps it."""
    h5py, names, links = h5py_module(), list[bytes](), group.id
    if not len(links):  # HDF5 would look into the heap of its names, which may be damaged
        return []
    if isinstance(links, h5py.h5f.FileID):  # it does not report the order in its root
        links = h5py.h5g.open(links, b"/")
    tracked = links.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED
    links.links.iterate(names.append, idx_type=h5py.h5.INDEX_CRT_ORDER if tracked else h5py.h5.INDEX_NAME)
    return [_decoded(name) for name in names]


def _decoded(name: bytes) -> Any:
    """A name as h5py gives it: as bytes if it is no text."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name


def hard_links(group: Any) -> Iterator[str]:
    """Names in a group that are no links to elsewhere in this file, or in others; they are UTF-8."""
    hard = h5py_module().h5l.TYPE_HARD
    return (name for name in names_in(group) if isinstance(name, str) and _kind(group, name) == hard)


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
    """Return number and name of what a group contains under names that are a prefix and a number, by number."""
    names: list[bytes] = []
    group.id.links.iterate(names.append)
    start = prefix.encode()
    ends = {name.decode(): name[len(start) :] for name in names if name.startswith(start) and name.isascii()}
    return sorted((int(end), name) for name, end in ends.items() if end.isdigit() and len(end) < 10)


def children(group: Any, prefix: str) -> list[str]:
    """Return the names in a group that are a prefix and a number, in the order of the numbers."""
    return [name for _, name in numbered(group, prefix)]


def dataset_at(group: Any, path: str) -> Any:
    """Return the dataset at a path; None if there is none."""
    found = found_at(group, path)
    return found if isinstance(found, h5py_module().Dataset) else None


def found_at(group: Any, path: str) -> Any:
    """Return the group or dataset at a path; None if there is none."""
    try:
        return item_at(group, path)
    except KeyError:
        return None


def array_at(group: Any, path: str | bytes) -> Any:
    """Return the low-level dataset at a path; None if there is none."""
    h5py = h5py_module()
    try:
        found = h5py.h5o.open(group.id, path.encode() if isinstance(path, str) else path, lapl=group._lapl)
    except KeyError:
        return None
    return found if isinstance(found, h5py.h5d.DatasetID) else None


def group_at(group: Any, path: str | bytes) -> Any:
    """Return the group at a path where there is a link; None if it is not a group.

    Raises
    ------
    KeyError
        If there is nothing, or it is damaged.
    """
    h5py = h5py_module()
    found = h5py.h5o.open(group.id, path.encode() if isinstance(path, str) else path, lapl=group._lapl)
    return h5py.Group(found) if isinstance(found, h5py.h5g.GroupID) else None


def attributes_of(item: Any, names: Collection[str] | None = None) -> dict[str, Any]:
    """Return the attributes of a group or dataset as plain JSON; of large or unreadable ones, what they are.

    Parameters
    ----------
    item : h5py.Group, h5py.Dataset, or one of their low-level classes
    names : collection of str, optional
        Only these are read.
    """
    h5py = h5py_module()
    at, there = _low(h5py, item), h5py.h5a.exists
    wanted = attribute_names(at) if names is None else [name for name in names if there(at, name.encode())]
    return {name: value for name in wanted if (value := _attribute(h5py, at, name)) is not None}


def _low(h5py: Any, item: Any) -> Any:
    """The low-level object of h5py."""
    return item.id if isinstance(item, h5py.HLObject) else item


def attribute_names(item: Any) -> list[Any]:
    """Return the names of attributes in the order of h5py: that of creation, if the file keeps it."""
    h5py, names, again = h5py_module(), list[bytes](), list[bytes]()
    at = _low(h5py, item)
    h5py.h5a.iterate(at, names.append)
    if len(names) > 1 and at.get_create_plist().get_attr_creation_order() & h5py.h5p.CRT_ORDER_TRACKED:
        h5py.h5a.iterate(at, again.append, index_type=h5py.h5.INDEX_CRT_ORDER)
        names = again
    return [_decoded(name) for name in names]


def attribute(item: Any, name: str) -> Any:
    """Return an attribute of a group or dataset as h5py gives it; None if there is none, or it is no plain value."""
    h5py, encoded = h5py_module(), name.encode()
    at = _low(h5py, item)
    if not h5py.h5a.exists(at, encoded):
        return None
    found = h5py.h5a.open(at, encoded)
    return _value(h5py, at, name, found, found.get_type())


def _attribute(h5py: Any, at: Any, name: str | bytes) -> Any:
    try:
        found = h5py.h5a.open(at, name.encode() if isinstance(name, str) else name)
        nbytes = found.get_storage_size()
        if nbytes > _ATTRIBUTE_BYTES:
            return f"{nbytes} bytes, not shown"
        stored = found.get_type()
        if type(stored) is h5py.h5t.TypeStringID and stored.get_size() == 1:
            letters = np.empty(nbytes, _LETTERS)
            found.read(letters, stored)
            if nbytes > 1 or b"!" <= letters[0] <= b"~":  # one may be a text, or an array of one
                return text_of(letters)
        value = _value(h5py, at, name, found, stored)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as exc:
        return f"unreadable: {exc}"
    return None if value is None else _plain(value)


def _value(h5py: Any, at: Any, name: str | bytes, found: Any, stored: Any) -> Any:
    """The value as h5py gives it, None for references, records and lists.

    Numbers and text are read without opening the attribute again. A damaged description of a record or a list can end
    the process.
    """
    h5t, shape = h5py.h5t, found.shape
    text = type(stored) is h5t.TypeStringID
    if shape is None or not (text or isinstance(stored, (h5t.TypeIntegerID, h5t.TypeFloatID, h5t.TypeEnumID))):
        return _by_h5py(h5py, at, name, stored)
    if text and stored.is_variable_str():
        return _texts(found, shape, stored.get_cset())
    value = np.zeros(shape, f"S{stored.get_size()}" if text else stored.dtype)
    found.read(value, _padded(h5t, stored) if text else None)
    return value if shape else value[()]


def _padded(h5t: Any, stored: Any) -> Any:
    """The type of texts of one length, with zeros behind the end of a text, where the file may hold anything."""
    if stored.get_strpad() != h5t.STR_NULLTERM:
        return stored
    kind = stored.copy()
    kind.set_strpad(h5t.STR_NULLPAD)
    return kind


def _by_h5py(h5py: Any, at: Any, name: str | bytes, stored: Any) -> Any:
    h5t, kind = h5py.h5t, stored.get_class()
    refused = kind in (h5t.REFERENCE, h5t.COMPOUND, h5t.OPAQUE) or stored.detect_class(h5t.VLEN)
    return None if refused else h5py.AttributeManager(SimpleNamespace(id=at))[name]


@cache
def _type_of_texts(charset: int) -> tuple[np.dtype, Any]:
    h5py = h5py_module()
    dtype = h5py.string_dtype("utf-8" if charset == h5py.h5t.CSET_UTF8 else "ascii")
    return dtype, h5py.h5t.py_create(dtype)


def _texts(found: Any, shape: tuple[int, ...], charset: int) -> Any:
    """Texts of any length, as h5py reads them: an array, or one text."""
    dtype, kind = _type_of_texts(charset)
    value = np.zeros(shape, dtype)
    found.read(value, kind)
    texts = [text.decode("utf-8", "surrogateescape") for text in value.ravel().tolist()]
    return np.array(texts, value.dtype).reshape(shape) if shape else texts[0]


def _plain(value: Any) -> Any:
    """Plain JSON of an attribute; None for references to other objects of the file."""
    if type(value) is str:
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind == "S":
        return text_of(value) if value.dtype.itemsize == 1 else [text_of(v) for v in value.ravel().tolist()]
    h5py = h5py_module()
    if isinstance(value, (h5py.Empty, h5py.Reference, h5py.RegionReference)):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind in "OV":
        if value.dtype.kind == "V" or any(not isinstance(v, (str, bytes)) for v in value.ravel().tolist()):
            return None
        return [text_of(v) for v in value.ravel().tolist()]
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
