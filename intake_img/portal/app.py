"""The application: its routes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intake_img.portal import api, data, downloads, render, web
from intake_img.portal.guard import Guard
from intake_img.portal.library import Library
from intake_img.portal.metrics import log
from intake_img.portal.replies import refusal
from intake_img.portal.settings import Settings
from intake_img.portal.site import Site
from intake_img.portal.tokens import Authenticator

__all__ = ["make_app"]


def make_app(library: Library, settings: Settings) -> Any:
    """Return the portal as an ASGI application.

    Parameters
    ----------
    library : Library
    settings : Settings
    """
    site, authenticator = Site(library, settings), Authenticator(settings)
    site.warm = render.warm_thumbnail

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        site.start_indexing()
        log("started", entries=len(library.items))
        watching = asyncio.create_task(site.watch())
        yield
        watching.cancel()
        site.close()
        log("stopped")

    app = Starlette(routes=_routes(), lifespan=lifespan, exception_handlers={404: _nothing, 405: _nothing})
    app.router.redirect_slashes = False  # a redirection would repeat the Host header
    app.state.site, app.state.authenticator = site, authenticator
    return Guard(app, site, authenticator)


def _routes() -> list[Route]:
    table = {
        "/data/{path:path}": data.chunks,
        "/pixels/{path:path}": data.pixels,
        "/catalog.yml": api.catalog,
        "/catalog.csv": api.table,
        "/api/entries": api.entries,
        "/api/facets": api.facets,
        "/api/openapi.json": api.openapi,
        "/api/entries/{id:path}": api.entry,
        "/": web.list_page,
        "/e/{id:path}": web.entry_page,
        "/neuroglancer/{id:path}": web.neuroglancer,
        "/thumb/{path:path}": render.thumbnail,
        "/tile/{path:path}": render.tile,
        "/download/{path:path}": downloads.download,
        "/static/{path:path}": web.static,
        "/favicon.ico": web.favicon,
        "/health": api.health,
        "/metrics": api.metrics,
    }
    pages = [Route(path, function, methods=["GET"]) for path, function in table.items()]
    forms = [Route("/login", web.login, methods=["GET", "POST"]), Route("/logout", web.logout, methods=["POST"])]
    return [*pages, *forms]


async def _nothing(request: Request, exc: Exception) -> Response:
    return refusal(404, "not-found", "there is nothing with this name")
