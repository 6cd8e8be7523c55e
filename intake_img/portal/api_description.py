"""The OpenAPI description of the portal's routes."""

from __future__ import annotations

from typing import Any

from intake_img import __version__
from intake_img.portal.search_index import Query

__all__ = ["description"]

_JSON = ("application/json",)
_STORE = ("application/octet-stream", "application/json", "application/xml")
_ERROR = {"$ref": "#/components/responses/Error"}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {"error": {"type": "string"}, "detail": {"type": "string"}},
}


def description() -> dict[str, Any]:
    """Return the description as a JSON document of OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "intake_img portal", "version": __version__},
        "paths": {**_listings(), **_stores(), **_pictures(), **_others()},
        "components": {
            "responses": {"Error": _reply("what went wrong", _JSON, **_ERROR_SCHEMA)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _listings() -> dict[str, Any]:
    found = _reply("found", _JSON, type="object")
    pages = ("offset", "limit", "sort")
    return {
        "/api/entries": _route("Search the entries", found, *_FILTERS, *pages, absent=False),
        "/api/facets": _route("Count values among the entries found", found, *_FILTERS, absent=False),
        "/api/entries/{entry}": _route("Facts of an entry", found, "entry"),
    }


def _stores() -> dict[str, Any]:
    names = ("range", "match")
    stored = "A key of the entry's OME-Zarr 0.5 store"
    encoded = _reply("a document or an encoded chunk", _STORE)
    samples = _reply("samples in C order, or a document", _STORE)
    about = "The little-endian samples of a chunk, clipped at the edges, or the largest ones along an axis"
    return {
        "/data/{entry}.zarr/{key}": _route(stored, encoded, "entry", "key", *names, parts=True),
        "/pixels/{entry}.zarr/{key}": _route(about, samples, "entry", "samples", *names, parts=True),
    }


def _pictures() -> dict[str, Any]:
    picture = _reply("a picture", ("image/webp",))
    small = ("entry", "scene", "range", "match")
    tile = ("entry", "level", "y", "x", "t", "z", "c", "range", "match")
    return {
        "/thumb/{entry}.webp": _route("A small picture", picture, *small, parts=True),
        "/tile/{entry}/{level}/{y}/{x}.webp": _route("A tile in colour", picture, *tile, parts=True),
    }


def _others() -> dict[str, Any]:
    tiff = _reply("OME-TIFF", ("application/octet-stream",))
    catalog = _reply("YAML", ("application/yaml",))
    alive = {"200": _reply("found", _JSON, type="object")}
    return {
        "/download/{entry}.ome.tif": _route("The first scene as a file", tiff, "entry", parts=True),
        "/catalog.yml": _route("A catalog that Intake opens", catalog, "in", "range", "match", parts=True),
        "/catalog.csv": _route("The list as a table", _reply("CSV", ("text/csv",)), *_FILTERS, absent=False),
        "/health": {"get": {"summary": "Is the server alive?", "responses": alive}},
        "/metrics": _route("Counters for Prometheus", _reply("text", ("text/plain",)), absent=False),
    }


def _reply(about: str, media: tuple[str, ...], **schema: Any) -> dict[str, Any]:
    return {"description": about, "content": {one: {"schema": schema} for one in media}}


def _route(
    about: str, ok: dict[str, Any], *names: str, absent: bool = True, parts: bool = False
) -> dict[str, dict[str, Any]]:
    """Describe a GET request: the names of its parameters; may its target be absent, may parts of it be requested."""
    replies = {"200": ok, "401": _ERROR, "422": _ERROR, "503": _ERROR}
    if absent:
        replies |= {"404": _ERROR, "410": _ERROR}
    if parts:
        replies |= {"206": ok, "304": {"description": "not modified"}}
        replies["416"] = {"description": "there is no such part"}
    return {"get": {"summary": about, "parameters": [_PARAMETERS[n] for n in names], "responses": replies}}


def _parameter(name: str, about: str, where: str = "query", **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "description": about, "required": where == "path", "schema": schema}


_FILTERS = {
    "q": _parameter("q", "Words, all of which occur; the last may be a beginning", type="string", maxLength=200),
    **{f: _parameter(f, f"Entries whose {f} is this", type="string", maxLength=200) for f in Query.FACETS},
    "folder": _parameter("folder", "Entries of this catalog and those nested in it", type="string", maxLength=400),
}
_INDEX: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "max"}]}
_KEY = "Key of the Zarr store"
_PARAMETERS = {
    **_FILTERS,
    "offset": _parameter("offset", "Entries to skip", type="integer", minimum=0, maximum=10**6),
    "limit": _parameter("limit", "Entries of a page", type="integer", minimum=1, maximum=500),
    "sort": _parameter("sort", "Order", type="string", enum=list(Query.SORTS)),
    "entry": _parameter("entry", "Id of the entry", "path", type="string"),
    "key": _parameter("key", _KEY, "path", type="string"),
    "samples": _parameter("key", _KEY + "; 'max' as the index of an axis but y and x", "path", type="string"),
    **{a: _parameter(a, f"Number of the {a}", "path", type="integer", minimum=0) for a in ("level", "y", "x")},
    **{a: _parameter(a, f"Index along {a}; max: the largest samples along it", **_INDEX) for a in "tz"},
    "c": _parameter("c", "Channels, 'number~low~high~RRGGBB' with '_' between", type="string", maxLength=400),
    "scene": _parameter("scene", "Path of one of several images", type="string", maxLength=100),
    "range": _parameter("Range", "A part of it", "header", type="string", pattern="^bytes=[0-9]*-[0-9]*$"),
    "match": _parameter("If-None-Match", "The ETag of what you have", "header", type="string"),
    "in": _parameter("in", "Id of a nested catalog", type="string"),
}
