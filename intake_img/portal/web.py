"""The web pages: the list, an entry, the login; and their static files. Rendered on the server, without a build
step."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from intake_img.accessor.display import byte_size
from intake_img.model.wells import row_letters
from intake_img.portal import other_programs
from intake_img.portal.api import described
from intake_img.portal.replies import body, etag, problem, refusal, sentence
from intake_img.portal.search_index import Query
from intake_img.portal.site import Site
from intake_img.portal.tokens import COOKIE

__all__ = ["Static", "entry_page", "list_page", "login", "logout", "neuroglancer", "static"]

_HERE = Path(__file__).parent
_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE / "pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_TITLES = {
    "format": "Format",
    "channel": "Channel",
    "axes": "Axes",
    "pixel": "Pixel size",
    "size": "Size",
    "dtype": "Type",
    "year": "Year",
    "plate": "Plate",
}
_HTML = "text/html; charset=utf-8"


class Static:
    """The files of ``/static``, in memory by name: no path of a request reaches the disk."""

    def __init__(self) -> None:
        folders = {"": _HERE / "static", "viewer/": _HERE / "viewer"}
        self.files = {
            prefix + path.name: path.read_bytes()
            for prefix, folder in folders.items()
            for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
            if path.suffix in (".js", ".css", ".svg")
        }
        self.modules = sorted(n for n in self.files if n.startswith("viewer/") and n.endswith(".js"))
        self.modules.remove("viewer/notebook.js")
        self.mark = hashlib.sha256(b"".join(self.files.values())).hexdigest()[:10]


_STATIC = Static()


async def static(request: Request) -> Response:
    """``GET /static/{name}``."""
    name = request.path_params["path"]
    data = _STATIC.files.get(name)
    if data is None:
        return refusal(404, "not-found", "there is nothing with this name")
    media = {".js": "text/javascript", ".css": "text/css"}.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
    return body(request, data, media or "application/octet-stream", etag(name, data))


async def favicon(request: Request) -> Response:
    """``GET /favicon.ico``."""
    return body(request, _STATIC.files["icon.svg"], "image/svg+xml", etag(_STATIC.mark), seconds=3600)


def _page(request: Request, template: str, status: int = 200, /, **values: Any) -> Response:
    site: Site = request.app.state.site
    visitor = request.scope.get("visitor")
    shared = {
        "title": site.settings.title,
        "mark": _STATIC.mark,
        "visitor": visitor.name if visitor else "",
        "guarded": site.settings.guarded,
        "url": quote,
    }
    text = _TEMPLATES.get_template(template).render(**shared, **values)
    data = text.encode("utf-8", "replace")
    return Response(data, status, media_type=_HTML, headers={"Cache-Control": "no-cache"})


async def list_page(request: Request) -> Response:
    """``GET /``: the list, as cards or as a table, with search and facets."""
    site: Site = request.app.state.site
    await site.refresh()
    query, scope = Query.parse(request.query_params), site.scope(request)
    try:
        key = (query, scope, site.generation)
        found = await site.run(request, ("search", key), lambda: site.index.search(query, scope))
        counts = await site.run(request, ("facets", key), lambda: site.index.facets(query, scope))
    except Exception as exc:
        return problem(exc)
    chosen = dict(query.facets)
    folder = site.library.folders.get(query.folder) or site.library.folders[""]
    values = {
        "rows": [{**row, "size": byte_size(row["bytes"]) if row["bytes"] else ""} for row in found.rows],
        "total": found.total,
        "query": query,
        "words": " ".join(query.words),
        "chosen": [(_TITLES[f], v, _link(request, **{f: None})) for f, v in query.facets],
        "facets": [
            (f, _TITLES[f], [(v, n, _link(request, **{f: str(v)})) for v, n in counts[f]])
            for f in Query.FACETS
            if f not in chosen and len(counts[f]) > (0 if f == "channel" else 1)
        ],
        "view": "table" if request.query_params.get("view") == "table" else "cards",
        "cards": _link(request, True, view=None),
        "table": _link(request, True, view="table"),
        "folders": [(n, _link(request, folder=p)) for n, p in folder.folders.items()],
        "trail": _trail(site, query.folder),
        "hidden": [(k, v) for k, v in request.query_params.items() if k in (*Query.FACETS, "folder", "view")],
        "before": _link(request, True, offset=max(0, query.offset - query.limit)) if query.offset else "",
        "after": _link(request, True, offset=query.offset + query.limit)
        if query.offset + query.limit < found.total
        else "",
        "csv": "/catalog.csv?"
        + urlencode({k: v for k, v in request.query_params.items() if k in ("q", "folder", *Query.FACETS)}),
        "waiting": len(site.library.items) - site.index.count(),
        "problems": len(site.library.problems),
        "base": str(request.base_url),
        "sorts": Query.SORTS,
    }
    return _page(request, "list.html", **values)


def _trail(site: Site, place: str) -> list[tuple[str, str]]:
    parts = place.split("/") if place in site.library.folders and place else []
    return [(parts[k], "/?" + urlencode({"folder": "/".join(parts[: k + 1])})) for k in range(len(parts))]


def _link(request: Request, keep: bool = False, /, **changes: Any) -> str:
    """Return the address of this page with some parameters changed; parameters that are None are removed."""
    known = ("q", "folder", "view", "sort", "limit", *(("offset",) if keep else ()), *Query.FACETS)
    now = {k: v for k, v in request.query_params.items() if k in known}
    return "/?" + urlencode({k: v for k, v in {**now, **changes}.items() if v is not None})


async def entry_page(request: Request) -> Response:
    """``GET /e/{entry}``: the viewer, the metadata of the image, and how to load it."""
    site: Site = request.app.state.site
    name = request.path_params["id"]
    try:
        item = site.item(request, name)
    except KeyError:
        return _page(request, "problem.html", 404, heading="There is no image of this name", detail="")
    try:
        facts = await site.run(request, ("facts", item.id), lambda: described(site, item))
    except Exception as exc:
        site.metrics.failed(exc)
        return _page(request, "problem.html", 422, heading=f"{item.name} cannot be shown", detail=sentence(exc))
    base = str(request.base_url).rstrip("/")
    small = site.open_entries.get(item).dataset.nbytes <= site.settings.download_bytes
    first = "/".join(filter(None, (f"{base}/data/{quote(item.id)}.zarr", facts["series"][0]["path"])))
    values = {
        "item": item,
        "modules": _STATIC.modules,
        "planar": sum(a in "zyx" for a in facts["facts"]["axes"]) > 1,
        "projects": site.projections.stated,
        "facts": facts["facts"],
        "series": facts["series"],
        "plate": _plate(facts.get("plate")),
        "trail": _trail(site, item.folder),
        "header": json.dumps(facts["header"], indent=2, ensure_ascii=False)[:60_000] if facts["header"] else "",
        "variables": [(n, v, byte_size(v["bytes"])) for n, v in facts["facts"]["variables"].items()],
        "snippets": other_programs.snippets(base, item, site.settings.guarded, small),
        "links": [
            (name, link, _lacking(site, origin))
            for name, link, origin in (
                ("Neuroglancer", f"/neuroglancer/{quote(item.id)}", other_programs.NEUROGLANCER),
                ("Avivator", f"{other_programs.AVIVATOR}/?image_url={quote(first, safe='')}", other_programs.AVIVATOR),
            )
        ],
        "small": small,
    }
    return _page(request, "entry.html", **values)


def _lacking(site: Site, origin: str) -> str:
    """Return why a viewer of another site cannot fetch data; empty if it can."""
    settings = site.settings
    if settings.guarded:
        return "cannot send a token"
    return "" if {"*", origin} & set(settings.origins) else f"needs --cors {origin}"


async def neuroglancer(request: Request) -> Response:
    """``GET /neuroglancer/{entry}``: a page that leads to the first image of an entry in Neuroglancer."""
    site: Site = request.app.state.site
    try:
        item = site.item(request, request.path_params["id"])
    except KeyError:
        return _page(request, "problem.html", 404, heading="There is no image of this name", detail="")
    base = str(request.base_url).rstrip("/")

    def view() -> str:
        opened = site.open_entries.get(item)
        url = "/".join(filter(None, (f"{base}/data/{quote(item.id)}.zarr", opened.series[0].path)))
        return other_programs.neuroglancer(opened.store(), url, item.name)

    try:
        link = await site.run(request, ("neuroglancer", item.id, base), view)
    except Exception as exc:
        site.metrics.failed(exc)
        return _page(
            request, "problem.html", 422, heading=f"Neuroglancer cannot show {item.name}", detail=sentence(exc)
        )
    return _page(request, "leave.html", item=item, link=link, program="Neuroglancer")


def _plate(plate: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a plate as rows of wells, with None for wells without an image."""
    if plate is None:
        return None
    rows, columns = plate["shape"]
    there = {(w["row"], w["column"]): w for w in plate["wells"]}
    lines = [(row_letters(r), [there.get((r, c)) for c in range(columns)]) for r in range(rows)]
    return {**plate, "columns": columns, "rows": lines}


async def login(request: Request) -> Response:
    """``GET /login`` shows the form, ``POST /login`` takes a token and sets a cookie."""
    next_page = _inside(request.query_params.get("next", "/"))
    if request.method != "POST":
        return _page(request, "login.html", next=next_page, wrong=False)
    given = parse_qs((await request.body()).decode("utf-8", "replace"))
    authenticator = request.app.state.authenticator
    token = authenticator.known(given.get("token", [""])[0].strip())
    next_page = _inside(given.get("next", ["/"])[0])
    if token is None:
        return _page(request, "login.html", 401, next=next_page, wrong=True)
    reply = RedirectResponse(next_page, 303, headers={"Cache-Control": "no-store"})
    reply.set_cookie(
        COOKIE,
        authenticator.session(token),
        httponly=True,
        samesite="lax",
        max_age=7 * 24 * 3600,
        secure=request.app.state.site.settings.secure,
    )
    return reply


async def logout(request: Request) -> Response:
    """``POST /logout``: delete the cookie."""
    reply = RedirectResponse("/login", 303)
    reply.delete_cookie(COOKIE)
    return reply


def _inside(path: str) -> str:
    """Return a path of this server; anything else becomes the path of the list."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return quote(path, safe="/?=&~%") if safe else "/"
