"""The JSON API and the catalogs that Intake opens."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any, TypeVar

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from intake_img.model.record import plain
from intake_img.portal.api_description import description
from intake_img.portal.library import Folder, LibraryItem
from intake_img.portal.replies import body, etag, problem, refusal
from intake_img.portal.search_index import ROW, Query
from intake_img.portal.site import Site

__all__ = ["catalog", "described", "entries", "entry", "facets", "openapi", "table"]

_DIRECTORY = "{{ CATALOG_DIR }}"
T = TypeVar("T")


async def catalog(request: Request) -> Response:
    """``GET /catalog.yml``: a catalog of the stores for ``intake.open_catalog(url)``; ``?in=`` a nested one."""
    site: Site = request.app.state.site
    await site.refresh()
    place = request.query_params.get("in", "")
    folder = site.library.folders.get(place)
    if folder is None or (place and not _open(site, request, place)):
        return refusal(404, "not-found", "there is no catalog of this name")
    data = _catalog_yaml(site, request, folder)
    return body(request, data, "application/yaml", etag(data))


def _open(site: Site, request: Request, place: str) -> bool:
    """Whether a visitor may see a folder, or an entry in it."""
    return site.visible(request, place) or any(
        key.startswith(place + "/") and site.visible(request, key) for key in site.library.items
    )


def _catalog_yaml(site: Site, request: Request, folder: Folder) -> bytes:
    sources: dict[str, Any] = {}
    for name, item in folder.items.items():
        if site.visible(request, item.id):
            uri = f"{_DIRECTORY}/data/{item.id}.zarr"
            sources[name] = {"description": item.description, "driver": "omezarr", "args": {"uri": uri}}
    for name, place in folder.folders.items():
        if _open(site, request, place):
            path = f"{_DIRECTORY}/catalog.yml?in={place.replace('/', '%2F')}"
            sources[name] = {
                "description": site.library.folders[place].description,
                "driver": "yaml_file_cat",
                "args": {"path": path},
            }
    document = {"metadata": {"version": 1}, "sources": sources}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode("utf-8", "replace")


def query_of(request: Request) -> Query:
    """Return the query of a request."""
    return Query.parse(request.query_params)


async def entries(request: Request) -> Response:
    """``GET /api/entries``: a page of the entries found by words and facets."""
    site: Site = request.app.state.site
    try:
        query = query_of(request)
        found = await _asked(request, "search", query, site.index.search)
    except Exception as exc:
        return problem(exc)
    rows = [{**row, "links": _links(row["id"])} for row in found.rows]
    return JSONResponse({"total": found.total, "offset": query.offset, "entries": rows})


async def facets(request: Request) -> Response:
    """``GET /api/facets``: the number of found entries for each value."""
    site: Site = request.app.state.site
    try:
        return JSONResponse(await _asked(request, "facets", query_of(request), site.index.facets))
    except Exception as exc:
        return problem(exc)


async def _asked(request: Request, what: str, query: Query, ask: Callable[[Query, Any], T]) -> T:
    """Ask the index of what the visitor may see; equal questions are answered together."""
    site: Site = request.app.state.site
    scope = site.scope(request)
    return await site.run(request, (what, query, scope, site.generation), lambda: ask(query, scope))


def _links(name: str) -> dict[str, str]:
    return {"page": f"/e/{name}", "zarr": f"/data/{name}.zarr", "thumbnail": f"/thumb/{name}.webp"}


async def entry(request: Request) -> Response:
    """``GET /api/entries/{entry}``: all metadata of one entry."""
    site: Site = request.app.state.site
    try:
        item = site.item(request, request.path_params["id"])
        facts = await site.run(request, ("facts", item.id), lambda: described(site, item))
    except Exception as exc:
        site.metrics.failed(exc)
        return problem(exc)
    return JSONResponse({**facts, "links": _links(item.id)})


def described(site: Site, item: LibraryItem) -> dict[str, Any]:
    """Return the facts of an entry, as plain data; opens its file."""
    opened = site.open_entries.get(item)
    series = [{"path": s.path, "name": s.name} for s in opened.series]
    about: dict[str, Any] = {"id": item.id, "name": item.name, "description": item.description, "driver": item.driver}
    if opened.wells:
        about["plate"] = opened.wells
    return plain({**about, "facts": opened.facts, "series": series, "header": opened.header, "version": opened.stamp})


async def table(request: Request) -> Response:
    """``GET /catalog.csv``: the list as a table, with the columns of BioFile Finder."""
    site: Site = request.app.state.site
    base = str(request.base_url).rstrip("/")
    query, scope = query_of(request), site.scope(request)
    try:
        key = ("csv", query, scope, site.generation)
        rows = await site.run(request, key, lambda: site.index.everything(query, scope))
    except Exception as exc:
        return problem(exc)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["File Path", "File Name", "Thumbnail", *ROW])
    for row in rows:
        cells = [f"{base}/data/{row['id']}.zarr", row["name"], f"{base}/thumb/{row['id']}.webp", *(row[c] for c in ROW)]
        writer.writerow([_harmless(c) for c in cells])
    data = out.getvalue().encode("utf-8", "replace")
    return Response(data, media_type="text/csv", headers={"Content-Disposition": 'attachment; filename="catalog.csv"'})


def _harmless(cell: Any) -> Any:
    """Put a quote before a text that spreadsheets would take as a formula."""
    return "'" + cell if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


async def openapi(request: Request) -> Response:
    """``GET /api/openapi.json``."""
    return JSONResponse(description())


async def health(request: Request) -> Response:
    """``GET /health``: the state of the server and the progress of the index."""
    site: Site = request.app.state.site
    return JSONResponse(
        {
            "status": "ok",
            "entries": len(site.library.items),
            "indexed": site.index.count(),
            "worker": site.settings.worker,
        }
    )


async def metrics(request: Request) -> Response:
    """``GET /metrics``: counters in Prometheus' format."""
    site: Site = request.app.state.site
    gauges = {
        "entries": len(site.library.items),
        "queued": site.workers.queued,
        "memory_cache_bytes": site.bodies.nbytes,
        "indexed": site.index.count(),
        "dropped_jobs": site.workers.cancelled,
    }
    return Response(site.metrics.text(**gauges), media_type="text/plain; version=0.0.4")
