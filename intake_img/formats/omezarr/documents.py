"""Groups and arrays of Zarr format 3 made of their documents, which were read already.

zarr reads a document in threads of its event loop, which takes longer than reading and parsing it here.
"""

from __future__ import annotations

from typing import Any

__all__ = ["node_of"]


def node_of(store: Any, path: str, document: Any) -> Any:
    """Return the group or array that a ``zarr.json`` describes; None if zarr must open it, and say what is wrong.

    Parameters
    ----------
    store : zarr.abc.store.Store
    path : str
        Of the node in the store.
    document : object
        The parsed content of its ``zarr.json``.
    """
    import zarr
    from zarr import storage

    if not isinstance(document, dict) or document.get("zarr_format") != 3:
        return None
    kind = document.get("node_type")
    facts = {k: v for k, v in document.items() if k != "consolidated_metadata"}
    try:
        if kind == "array":
            return zarr.Array.from_dict(storage.StorePath(store, path), facts)
        if kind == "group":
            return zarr.Group(zarr.AsyncGroup.from_dict(storage.StorePath(store, path), facts))
    except Exception:  # zarr opens the node again, and raises it
        return None
    return None
