"""HTTP redirects: for a catalog, each redirect is checked like a URL of the catalog.

fsspec's HTTP file system creates its sessions with a given function; the function here checks every redirect before it
is followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from intake_img.errors import CatalogError
from intake_img.storage.jail import CACHES, Jail, split_cache

__all__ = ["GuardedSessions", "checked_options"]


@dataclass(frozen=True)
class GuardedSessions:
    """Creates the sessions of an HTTP file system for a catalog.

    Parameters
    ----------
    jail : Jail
        What may be opened.
    inner : callable, optional
        The caller's own function that creates sessions, called as ``await inner(**options)``.
    """

    jail: Jail
    inner: Callable[..., Awaitable[Any]] | None = None

    async def __call__(self, **options: Any) -> Any:
        import aiohttp

        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(self._look)
        traces = [*(options.pop("trace_configs", None) or ()), trace]
        if self.inner is not None:
            return await self.inner(trace_configs=traces, **options)
        return aiohttp.ClientSession(trace_configs=traces, **options)

    async def _look(self, session: Any, context: Any, redirect: Any) -> None:
        response = redirect.response
        location = response.headers.get("Location") or response.headers.get("URI")
        try:
            if location is not None:
                await self.check(redirect.url, redirect.url.join(type(redirect.url)(location)))
        except BaseException:
            response.close()
            raise

    async def check(self, origin: Any, target: Any) -> None:
        """Raise an error for a redirect that the jail does not allow, or from the internet into a private network.

        Parameters
        ----------
        origin, target : yarl.URL

        Raises
        ------
        CatalogError
            The message names both URLs.
        """
        try:
            self.jail.check(str(target))
        except CatalogError as exc:
            raise CatalogError(f"{origin} leads to another place (a redirect): {exc}") from None
        if await _private(target.host) and not await _private(origin.host):
            raise CatalogError(f"{origin} leads to {target}, an address in a private network: refused for catalogs")


async def _private(host: str | None) -> bool:
    """Whether an address, or one of the addresses of a host name, is not a public internet address."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # then nothing can be fetched from there either
    return any(not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global for *_, address in found)


def checked_options(path: str, options: Mapping[str, Any], jail: Jail | None) -> dict[str, Any]:
    """Return options of the file system of a URL with which it obeys a jail.

    Parameters
    ----------
    path : str
        A URL, which may begin with a cache of fsspec: ``simplecache::https://...``.
    options : mapping
        What stands under the name of a cache is for that alone, the rest for the file system of the URL.
    jail : Jail or None
    """
    if jail is None:
        return dict(options)
    cache, url = split_cache(path)
    scheme = url.partition("://")[0]
    own = {k: v for k, v in options.items() if k not in (*CACHES, scheme)} | (options.get(scheme) or {})
    if scheme in ("http", "https"):
        own["get_client"] = GuardedSessions(jail, own.get("get_client"))
    return {cache: dict(options.get(cache) or {}), scheme: own} if cache else own
