"""References as virtual chunks of Icechunk: versions and transactions, read by zarr-python and xarray.

Icechunk stores arrays of Zarr format 3; format 2 is translated if format 3 can express it, else it is refused. A
virtual chunk is a range of bytes at a URL. A repository reads them only at places that its configuration names (virtual
chunk containers) and that whoever opens it authorizes. Icechunk refuses to read a file that was modified after it was
referenced; servers that report no time of modification have no such check.
"""

from __future__ import annotations

import base64
import json
import math
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from intake_img.doors.reference_chunks import Chunks, Found, chunks_of, joined
from intake_img.errors import CannotWriteError, TargetExistsError
from intake_img.formats.omezarr.version3 import array_of_version_2
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["is_icechunk", "write_into", "write_repository"]

_STORES = {"file": "file", "s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "https"}
_PLAIN = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*")  # containers with other characters match no URL


def is_icechunk(target: Any) -> bool:
    """Return whether something is an Icechunk store or session."""
    return type(target).__module__.split(".")[0] == "icechunk" and hasattr(_session(target), "store")


def write_repository(found: Found, folder: str) -> None:
    """Make a repository with one commit in an empty folder.

    Its configuration contains the endpoint and the region of object stores, and no key or secret.

    Raises
    ------
    CannotWriteError
        If an array cannot be expressed, or lies where Icechunk cannot read.
    """
    icechunk = _icechunk()
    nodes = _nodes(found.references)
    config = icechunk.RepositoryConfig.default()
    for prefix, store in _containers(icechunk, found.files):
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(folder), config)
    session = repository.writable_session("main")
    _write(icechunk, session.store, nodes, found)
    session.commit("references")


def write_into(found: Found, target: Any, overwrite: bool) -> str:
    """Write into a store or writable session of Icechunk; the commit is left to the caller.

    Parameters
    ----------
    found : Found
        What the groups of its images contain is replaced or refused; other groups stay.
    target : icechunk.Session or icechunk.IcechunkStore
    overwrite : bool

    Returns
    -------
    str
        The snapshot on which the session is based.

    Raises
    ------
    CannotWriteError
        If an array cannot be expressed, or no container of the repository contains a file.
    TargetExistsError
        If a group exists and `overwrite` is False.
    """
    import zarr
    import zarr.core.sync

    icechunk, session = _icechunk(), _session(target)
    nodes, store = _nodes(found.references), session.store
    _check_containers(found.files, tuple(session.config.virtual_chunk_containers or {}))
    there = {name for name in nodes if zarr.core.sync.sync(store.exists(joined(name, "zarr.json")))}
    replaced = there.intersection(found.names)
    if replaced and not overwrite:
        raise TargetExistsError(
            f"{min(replaced) or 'the root group'} exists in the repository: expected overwrite=True"
        )
    for name in replaced:
        zarr.core.sync.sync(store.delete_dir(name) if name else store.clear())
    kept = {name for name in there if not any(f"{name}/".startswith(f"{own}/") or not own for own in found.names)}
    _write(icechunk, store, {k: v for k, v in nodes.items() if k not in kept}, found)
    return str(session.snapshot_id)


def _check_containers(files: Mapping[str, File], prefixes: tuple[str, ...]) -> None:
    for url in sorted(map(_location, files)):
        if not url.startswith(prefixes):
            raise CannotWriteError(
                f"the repository has no virtual chunk container for {url}: set one in its configuration "
                "(set_virtual_chunk_container), and authorize it when you open the repository"
            )


def _icechunk() -> Any:
    return imported("icechunk", "icechunk", "references in Icechunk")


def _session(target: Any) -> Any:
    return getattr(target, "session", target)


# nodes


def _nodes(references: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the documents of format 3 of all arrays and groups, parents first."""
    found: dict[str, dict[str, Any]] = {}
    for key, text in references.items():
        name, document = os.path.split(key)
        if document == "zarr.json":
            found[name] = {k: v for k, v in json.loads(text).items() if k != "consolidated_metadata"}
        elif document in (".zgroup", ".zarray"):
            attributes = json.loads(references.get(joined(name, ".zattrs"), "{}"))
            found[name] = _translated(name, json.loads(text) if document == ".zarray" else None, attributes)
    parents = {name[:k] for name in found for k, c in enumerate(name) if c == "/"} | {""}
    found |= {name: _translated(name, None, {}) for name in parents if name not in found}
    return dict(sorted(found.items()))


def _translated(name: str, array: Mapping[str, Any] | None, attributes: dict[str, Any]) -> dict[str, Any]:
    if array is None:
        return {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    if np.dtype(array["dtype"]).kind == "U":  # names of channels, which are stored inline
        text = {**array, "dtype": "|u1"}
        codecs = [{"name": "vlen-utf8", "configuration": {}}]
        return array_of_version_2(text, attributes) | {"data_type": "string", "fill_value": "", "codecs": codecs}
    try:
        return array_of_version_2(array, attributes)
    except CannotWriteError as exc:
        raise CannotWriteError(
            f"the array {name!r} {exc}, which references in Icechunk cannot express: write them to a .json file"
        ) from exc


def _counts(document: Mapping[str, Any]) -> list[int]:
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise CannotWriteError(f"chunks of the grid {grid['name']!r} are not supported by Icechunk")
    chunks = grid["configuration"]["chunk_shape"]
    return [-(-n // c) for n, c in zip(document["shape"], chunks, strict=True)]


def _write(icechunk: Any, store: Any, nodes: Mapping[str, Any], found: Found) -> None:
    import zarr
    import zarr.core.buffer
    import zarr.core.sync

    of_bytes = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes
    arrays = {name: _counts(document) for name, document in nodes.items() if document["node_type"] == "array"}
    for name, document in nodes.items():
        zarr.core.sync.sync(store.set(joined(name, "zarr.json"), of_bytes(json.dumps(document).encode())))
    for name, chunks in chunks_of(found.references, arrays).items():
        inline = {index: value for index, value in chunks.items() if isinstance(value, str)}
        if inline:
            _write_values(store, name, inline, found.references)
        places = [icechunk.VirtualChunkSpec(*place) for place in _places(chunks, found)]
        if places and (failed := store.set_virtual_refs(f"/{name}", places, validate_containers=True)):
            raise CannotWriteError(f"Icechunk refuses the places of {len(failed)} chunks of the array {name!r}")


def _write_values(store: Any, name: str, chunks: Chunks, references: Mapping[str, Any]) -> None:
    """Write a coordinate, which is one chunk of uncompressed values."""
    import zarr

    stored = json.loads(references[joined(name, ".zarray")])
    (text,) = chunks.values()
    values = np.frombuffer(base64.b64decode(text.removeprefix("base64:")), stored["dtype"]).reshape(stored["shape"])
    zarr.open_array(store, path=name, mode="r+")[...] = values


# places


def _places(chunks: Chunks, found: Found) -> Iterator[tuple[list[int], str, int, int, None, datetime | None]]:
    """Yield the arguments of `icechunk.VirtualChunkSpec`."""
    for index, value in chunks.items():
        if isinstance(value, list):
            size, modified = found.look(value[0])
            offset, length = (value[1], value[2]) if len(value) > 1 else (0, size)
            yield list(index), _location(value[0]), offset, length, None, modified and _next_second(modified)


def _next_second(time: datetime) -> datetime:
    """Return a time that a file is not newer than: Icechunk keeps seconds."""
    return time.replace(microsecond=0) + timedelta(seconds=math.ceil(time.microsecond / 1e6))


def _location(url: str) -> str:
    """Return the URL in the form that Icechunk reads: percent-encoded."""
    protocol, _, path = url.partition("://")
    if protocol not in _STORES:
        raise CannotWriteError(f"Icechunk cannot read {url}: expected a local file, or s3://, gs:// or https://")
    if protocol in ("http", "https"):
        return url  # which is encoded already
    return f"{_STORES[protocol]}://{quote(path)}"


def _containers(icechunk: Any, files: Mapping[str, File]) -> Iterator[tuple[str, Any]]:
    """Yield the prefixes of the URLs that the repository may read, and how."""
    places = {urlsplit(_location(url)): file for url, file in files.items()}
    local = [place.path for place in places if place.scheme == "file"]
    if local:
        folder = posixpath.commonpath([posixpath.dirname(path) for path in local]).rstrip("/") + "/"
        root = plain[0] if (plain := _PLAIN.match(folder)) else "/"
        yield f"file://{root}", icechunk.local_filesystem_store(root)
    servers = {f"{p.scheme}://{p.netloc}/": file for p, file in places.items() if p.scheme != "file"}
    for prefix, file in servers.items():
        yield prefix, _STORE_OF[prefix.partition("://")[0]](icechunk, file.storage_options)


def _s3(icechunk: Any, options: Mapping[str, Any]) -> Any:
    client = options.get("client_kwargs") or {}
    endpoint = options.get("endpoint_url") or client.get("endpoint_url")
    return icechunk.s3_store(
        region=client.get("region_name"),
        endpoint_url=endpoint,
        allow_http=str(endpoint).startswith("http://"),
        anonymous=bool(options.get("anon")),
        s3_compatible=endpoint is not None,
        force_path_style=endpoint is not None,
    )


_STORE_OF: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "s3": _s3,
    "gs": lambda icechunk, options: icechunk.gcs_store(),
    "http": lambda icechunk, options: icechunk.http_store({"allow_http": "true"}),
    "https": lambda icechunk, options: icechunk.http_store(),
}
