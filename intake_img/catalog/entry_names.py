"""Names of catalog entries from paths: unique, and valid for ``catalog.name``."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection, Sequence

from intake_img.collections.file_names import split_extension

__all__ = ["unique_names"]

_METHODS = """
    add auth cat catalog_object classname close configure_new container cookies describe description discover dtype
    entries entry exclude file filter force_reload format from_dict get get_close gui has_been_persisted hvplot
    is_persisted items keys kwargs metadata name on_server persist plot plots pmode pop popitem read read_chunked
    read_partition reload save schema search serialize shape to_dask to_spark ttl update user_parameters values version
    walk yaml
"""  # attributes of catalogs, Intake's and ours
_TAKEN = frozenset(_METHODS.split())


def unique_names(paths: Sequence[str]) -> list[str]:
    """Return a name for each path: the file name, preceded by folder names if it is not unique.

    Parameters
    ----------
    paths : sequence of str
        Relative paths, with ``/``.

    Examples
    --------
    >>> unique_names(["a/cells 1.ome.tif", "b/cells 1.ome.tif", "2.tif", "values.tif"])
    ['a_cells_1', 'b_cells_1', 'image_2', 'values_image']
    """
    from intake_img.formats.registry import known_extensions

    extensions = known_extensions()
    parts = [_words(path, extensions) for path in paths]
    depth = [1] * len(parts)
    while True:
        names = [_identifier("_".join(words[-n:])) for words, n in zip(parts, depth, strict=True)]
        count: dict[str, int] = {}
        for name in names:
            count[name.casefold()] = count.get(name.casefold(), 0) + 1
        longer = [k for k, name in enumerate(names) if count[name.casefold()] > 1 and depth[k] < len(parts[k])]
        if not longer:
            break
        for k in longer:
            depth[k] += 1
    used: set[str] = set()
    found = []
    for name in names:
        n, one = 2, name
        while one.casefold() in used:
            one, n = f"{name}_{n}", n + 1
        used.add(one.casefold())
        found.append(one)
    return found


def _words(path: str, extensions: Collection[str]) -> list[str]:
    *folders, name = path.replace("\\", "/").strip("/").split("/")
    stem = split_extension(name, extensions)[0] or name
    return [w for w in (_letters(p) for p in [*folders, stem]) if w] or [""]


def _letters(text: str) -> str:
    return re.sub(r"_{2,}", "_", re.sub(r"\W+", "_", unicodedata.normalize("NFKC", text))).strip("_")


def _identifier(text: str) -> str:
    name = text[:100].rstrip("_") or "image"
    if not name.isidentifier():
        name = f"image_{name}"
    if not name.isidentifier():  # digits of other scripts, for example
        name = re.sub(r"[^A-Za-z0-9_]+", "_", name)
    return f"{name}_image" if name in _TAKEN or keyword.iskeyword(name) else name
