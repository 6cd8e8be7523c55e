"""The JSON API, its OpenAPI description, and the catalogs that Intake opens."""

from __future__ import annotations

import csv
import io
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from intake_img import __version__
from intake_img.model.record import plain
from intake_img.portal.library import Folder, LibraryItem
from intake_img.portal.replies import body, etag, problem, refusal
from intake_img.portal.search_index import ROW, Query
from intake_img.portal.site import Site

__all__ = ["catalog", "described", "entries", "entry", "facets", "openapi", "table"]

_DIRECTORY = "{{ CATALOG_DIR }}"


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
        found = await site.run(
            request,
            ("search", query, site.scope(request), site.generation),
            lambda: site.index.search(query, site.scope(request)),
        )
    except Exception as exc:
        return problem(exc)
    rows = [{**row, "links": _links(row["id"])} for row in found.rows]
    return JSONResponse({"total": found.total, "offset": query.offset, "entries": rows})


async def facets(request: Request) -> Response:
    """``GET /api/facets``: the number of found entries for each value."""
    site: Site = request.app.state.site
    try:
        query = query_of(request)
        counts = await site.run(
            request,
            ("facets", query, site.scope(request), site.generation),
            lambda: site.index.facets(query, site.scope(request)),
        )
    except Exception as exc:
        return problem(exc)
    return JSONResponse(counts)


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
    opened = site.holdings.get(item)
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
    return JSONResponse(_description())


def _description() -> dict[str, Any]:
    def reply(about: str, *media: str, **schema: Any) -> dict[str, Any]:
        return {"description": about, "content": {one: {"schema": schema or {}} for one in media}}

    def route(about: str, ok: dict[str, Any], *names: str, absent: bool = True, parts: bool = False) -> dict[str, Any]:
        error = {"$ref": "#/components/responses/Error"}
        replies = {
            "200": ok,
            "401": error,
            "422": error,
            "503": error,
            **({"404": error, "410": error} if absent else {}),
            **({"206": ok, "304": {"description": "what you have is the same"}} if parts else {}),
            **({"416": {"description": "there is no such part"}} if parts else {}),
        }
        return {"get": {"summary": about, "parameters": [parameters[n] for n in names], "responses": replies}}

    def parameter(name: str, about: str, where: str = "query", **schema: Any) -> dict[str, Any]:
        return {"name": name, "in": where, "description": about, "required": where == "path", "schema": schema}

    filters = {
        "q": parameter("q", "Words, all of which occur; the last may be a beginning", type="string", maxLength=200),
        **{f: parameter(f, f"Entries whose {f} is this", type="string", maxLength=200) for f in Query.FACETS},
        "folder": parameter("folder", "Entries of this catalog and those nested in it", type="string", maxLength=400),
    }
    pages = {
        "offset": parameter("offset", "Entries to skip", type="integer", minimum=0, maximum=10**6),
        "limit": parameter("limit", "Entries of a page", type="integer", minimum=1, maximum=500),
        "sort": parameter("sort", "Order", type="string", enum=list(Query.SORTS)),
    }
    parameters = {
        **filters,
        **pages,
        "entry": parameter("entry", "Id of the entry", "path", type="string"),
        "key": parameter("key", "Key of the Zarr store", "path", type="string"),
        **{a: parameter(a, f"Number of the {a}", "path", type="integer", minimum=0) for a in ("level", "y", "x")},
        **{a: parameter(a, f"Index along {a}", type="integer", minimum=0) for a in "tz"},
        "c": parameter("c", "Channels, 'number~low~high~RRGGBB' with '_' between", type="string", maxLength=400),
        "scene": parameter("scene", "Path of one of several images", type="string", maxLength=100),
        "range": parameter("Range", "A part of it", "header", type="string", pattern="^bytes=[0-9]*-[0-9]*$"),
        "match": parameter("If-None-Match", "The ETag of what you have", "header", type="string"),
        "in": parameter("in", "Id of a nested catalog", type="string"),
    }
    any_json = reply("found", "application/json", type="object")
    paths = {
        "/api/entries": route("Search the entries", any_json, *filters, *pages, absent=False),
        "/api/facets": route("Count values among the entries found", any_json, *filters, absent=False),
        "/api/entries/{entry}": route("Facts of an entry", any_json, "entry"),
        "/data/{entry}.zarr/{key}": route(
            "A key of the entry's OME-Zarr 0.5 store",
            reply("a document or an encoded chunk", "application/octet-stream", "application/json", "application/xml"),
            "entry",
            "key",
            "range",
            "match",
            parts=True,
        ),
        "/pixels/{entry}.zarr/{key}": route(
            "The little-endian samples of a chunk, clipped at the edges",
            reply(
                "samples in C order, or a document", "application/octet-stream", "application/json", "application/xml"
            ),
            "entry",
            "key",
            "range",
            "match",
            parts=True,
        ),
        "/thumb/{entry}.webp": route(
            "A small picture", reply("a picture", "image/webp"), "entry", "scene", "range", "match", parts=True
        ),
        "/tile/{entry}/{level}/{y}/{x}.webp": route(
            "A tile in colour",
            reply("a picture", "image/webp"),
            *("entry", "level", "y", "x", "t", "z", "c", "range", "match"),
            parts=True,
        ),
        "/download/{entry}.ome.tif": route(
            "The first scene as a file", reply("OME-TIFF", "application/octet-stream"), "entry", parts=True
        ),
        "/catalog.yml": route(
            "A catalog that Intake opens", reply("YAML", "application/yaml"), "in", "range", "match", parts=True
        ),
        "/catalog.csv": route("The list as a table", reply("CSV", "text/csv"), *filters, absent=False),
        "/health": {"get": {"summary": "Is the server alive?", "responses": {"200": any_json}}},
        "/metrics": route("Counters for Prometheus", reply("text", "text/plain"), absent=False),
    }
    error = {
        "type": "object",
        "required": ["error", "detail"],
        "properties": {"error": {"type": "string"}, "detail": {"type": "string"}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "intake_img portal", "version": __version__},
        "paths": paths,
        "components": {
            "responses": {"Error": reply("what went wrong", "application/json", **error)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


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
        "memory_cache_bytes": site.bodies.held,
        "indexed": site.index.count(),
        "dropped_jobs": site.workers.cancelled,
    }
    return Response(site.metrics.text(**gauges), media_type="text/plain; version=0.0.4")
