"""A short description of an image: for ``ds.img`` in a terminal or notebook, and for ``intake-img info``.

It uses only shapes, coordinates and attributes; no pixel is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.progress import steps
from intake_img.model.axes import spell
from intake_img.model.datasets import spacing_of
from intake_img.model.record import plain
from intake_img.model.text import escaped
from intake_img.model.variables import kind_of

__all__ = ["as_html", "as_text", "byte_size", "summary"]

_LONGEST_HEADER = 5_000
_MANY = 8  # names beyond these are counted, not listed


def summary(obj: xr.Dataset | xr.DataArray) -> dict[str, Any]:
    """Return, as plain JSON, the metadata of an image, without reading pixels.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray

    Returns
    -------
    dict
        ``axes``: for each axis ``size`` and, where known, ``spacing``, ``unit``, ``origin``, ``names``;
        ``variables``: for each ``axes``, ``shape``, ``dtype``, ``bytes``, ``chunks``, ``tasks``, ``steps``
        (of a computation) and ``kind``;
        ``scene``, ``scenes``, ``uri``, ``driver``, ``original_axes``, ``original_shape``; ``header_bytes``: length of
        the format's own header.
    """
    variables = {str(n): v for n, v in obj.data_vars.items()} if isinstance(obj, xr.Dataset) else {_name(obj): obj}
    keys = ("uri", "driver", "scene", "scenes", "original_axes", "original_shape")
    axes = list(dict.fromkeys(a for v in variables.values() for a in v.dims))
    found: dict[str, Any] = {k: obj.attrs[k] for k in keys if k in obj.attrs}
    if (header := obj.attrs.get("fileheader")) and header != "{}":
        found["header_bytes"] = len(str(header).encode(errors="replace"))
    found["axes"] = {str(a): _axis(obj, str(a)) for a in axes}
    found["variables"] = {name: _variable(v) for name, v in variables.items()}
    return plain(found)


def _name(array: xr.DataArray) -> str:
    return str(array.name) if array.name is not None else "image"


def _axis(obj: xr.Dataset | xr.DataArray, axis: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"size": obj.sizes[axis]}
    if axis not in obj.coords:
        return facts
    coord = obj.coords[axis]
    if coord.dtype.kind in "UOST":
        return {**facts, "names": [str(v) for v in coord.values]}
    if (step := spacing_of(coord)) is not None:
        facts["spacing"] = step
    elif coord.size > 1:
        facts["range"] = [coord.values[0], coord.values[-1]]
    if coord.size and coord.dtype.kind in "iuf":
        facts["origin"] = coord.values[0]
    if coord.attrs.get("units"):
        facts["unit"] = str(coord.attrs["units"])
    return facts


def _variable(array: xr.DataArray) -> dict[str, Any]:
    facts = {
        "axes": [str(d) for d in array.dims],
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "bytes": array.nbytes,
    }
    if kind := kind_of(array.attrs, array.dtype):
        facts["kind"] = kind
    if array.chunks is not None:
        facts["chunks"] = [max(c, default=0) for c in array.chunks]
        facts["tasks"] = math.prod(map(len, array.chunks))
        if len(done := steps(array)) > 1:
            facts["steps"] = done
    elif "preferred_chunks" in array.encoding:
        facts["tiles"] = [array.encoding["preferred_chunks"].get(d, n) for d, n in array.sizes.items()]
    return facts


def as_text(facts: dict[str, Any], title: str = "ds.img", header: str = "ds.img.header") -> str:
    """Return the result of `summary` as lines of text.

    Parameters
    ----------
    facts : dict
    title : str
        The beginning of the first line.
    header : str
        Where to see the format's own header; only its length is shown.
    """
    lines = [f"<{title}>" if title else ""]
    rows = _rows(facts)
    if "header_bytes" in facts:
        rows.append(("header", f"{byte_size(facts['header_bytes'])} ({header})"))
    widest = max([9, *(len(key) for key, _ in rows)])
    lines += [f"  {escaped(key):<{widest}} {escaped(text)}" for key, text in rows]
    table = [[axis, str(a["size"]), _meaning(a)] for axis, a in facts["axes"].items()]
    widths = [max((len(row[k]) for row in table), default=0) for k in range(2)]
    lines += [f"  {escaped(a):<{widths[0]}}  {size:>{widths[1]}}  {escaped(text)}".rstrip() for a, size, text in table]
    return "\n".join(line for line in lines if line)


def as_html(facts: dict[str, Any], header: Mapping[str, Any] | None = None) -> str:
    """Return the result of `summary` as an HTML table for notebooks; everything in it is escaped.

    Parameters
    ----------
    facts : dict
    header : mapping, optional
        The format's own header, or what of it may be published: it is folded, and long ones are cut.
    """
    cell = "style='text-align:left;padding:0.1em 0.8em 0.1em 0'"
    rows = [f"<tr><th {cell}>{_html(k)}</th><td {cell} colspan='2'>{_html(t)}</td></tr>" for k, t in _rows(facts)]
    axes = [
        f"<tr><th {cell}>{_html(axis)}</th><td {cell}>{a['size']}</td><td {cell}>{_html(_meaning(a))}</td></tr>"
        for axis, a in facts["axes"].items()
    ]
    if header:
        rows.append(f"<tr><th {cell}>header</th><td {cell} colspan='2'>{_folded(header, facts)}</td></tr>")
    return f"<table class='intake-img'><tbody>{''.join(rows + axes)}</tbody></table>"


def _folded(header: Mapping[str, Any], facts: dict[str, Any]) -> str:
    text = json.dumps(header, indent=1, ensure_ascii=False).replace("\\n", "\n").replace('\\"', '"')  # XML is readable
    cut = f"{text[:_LONGEST_HEADER]}\n... (all of it: ds.img.header)" if len(text) > _LONGEST_HEADER else text
    lines = "\n".join(escape(escaped(line)) for line in cut.split("\n"))
    size = f" ({byte_size(facts['header_bytes'])})" if "header_bytes" in facts else ""
    shown = "max-height:20em;overflow:auto;white-space:pre-wrap"
    return f"<details><summary>{_html(', '.join(header))}{size}</summary><pre style='{shown}'>{lines}</pre></details>"


def _html(text: str) -> str:
    return escape(escaped(text))


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Key and text of each line that is not an axis."""
    rows = []
    for name, v in facts["variables"].items():
        kind = f", {v['kind']}" if "kind" in v else ""
        rows.append((name, f"{spell(v['axes'])} {_shape(v['shape'])}, {v['dtype']}, {byte_size(v['bytes'])}{kind}"))
        if "chunks" in v:
            rows.append(("chunks", f"{_shape(v['chunks'])}, {v['tasks']} task{'s' * (v['tasks'] != 1)}"))
            if "steps" in v:
                rows.append(("to compute", _path(v["steps"])))
        elif "tiles" in v:
            rows.append(("read by", _shape(v["tiles"])))
    scenes = facts.get("scenes") or []
    if len(scenes) > 1:
        scene = facts.get("scene")
        place = f"{scenes.index(scene) + 1} of {len(scenes)}" if scene in scenes else f"of {len(scenes)}"
        rows.append(("scene", f"{scene!r}, {place}: {_listed(scenes)}"))
    if facts.get("uri"):
        rows.append(("source", facts["uri"] + (f" ({facts['driver']})" if facts.get("driver") else "")))
    return rows


def _path(steps: Sequence[str]) -> str:
    """The steps of a computation; of many steps, only the first and last."""
    shown = list(steps) if len(steps) <= _MANY else [*steps[:2], "...", *steps[-_MANY + 3 :]]
    return " → ".join(shown)


def _shape(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


def _meaning(axis: dict[str, Any]) -> str:
    """The coordinate of an axis in words."""
    if "names" in axis:
        return _listed(axis["names"])
    unit = f" {axis['unit']}" if "unit" in axis else ""
    if "spacing" in axis:
        extent = axis["spacing"] * axis["size"]
        start = f", from {_number(axis['origin'])}{unit}" if axis.get("origin") else ""
        return f"every {_number(axis['spacing'])}{unit}, {_number(extent)}{unit} in all{start}"
    if "range" in axis:
        first, last = axis["range"]
        return f"{_number(first)} to {_number(last)}{unit}, not evenly spaced"
    if "origin" in axis:
        return f"at {_number(axis['origin'])}{unit}"
    return ""


def _listed(names: list[Any]) -> str:
    shown = ", ".join(map(str, names[:_MANY]))
    return shown if len(names) <= _MANY else f"{shown}, ... ({len(names)})"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, (int, float, np.number)) else str(value)


def byte_size(n: int) -> str:
    """Return a human-readable number of bytes.

    Examples
    --------
    >>> byte_size(999), byte_size(5_242_880)
    ('999 B', '5.2 MB')
    """
    size = float(n)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
