"""The state of a running portal: its catalogs, open entries, workers and caches."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request

from intake_img.portal.caches import BlockCache, DiskCache, memory_cache
from intake_img.portal.costly_blocks import Blockwise
from intake_img.portal.indexing import facts_of_row, index_facts
from intake_img.portal.library import Library, LibraryItem
from intake_img.portal.metrics import Metrics, log
from intake_img.portal.open_entries import Opened, OpenEntries
from intake_img.portal.projections import Cluster, Projections
from intake_img.portal.ready import Kept, form_of, name_of, wants_whole
from intake_img.portal.search_index import Index
from intake_img.portal.settings import Settings
from intake_img.portal.virtual_store import ServedArray
from intake_img.portal.work import SEEN, Workers

__all__ = ["Site"]

T = TypeVar("T")
_WATCH = 2.5  # seconds between looks at the files of the catalogs
_LISTED_NOW = 5000


class Site:
    """One running portal.

    Parameters
    ----------
    library : Library
    settings : Settings
    """

    def __init__(self, library: Library, settings: Settings) -> None:
        self.library, self.settings = library, settings
        self.metrics = Metrics(settings.shared, settings.worker)
        self.bodies = memory_cache(settings.memory_bytes // 2)
        self.disk = DiskCache(settings.cache / "blocks", settings.disk_bytes)
        self.blocks = BlockCache(memory_cache(settings.memory_bytes // 2), self.disk)
        self.open_entries = OpenEntries(self.blocks, settings.open_entries, settings.request_bytes)
        cluster = Cluster(settings.dask, settings.seconds) if settings.dask else None
        self.projections = Projections(settings.request_bytes, cluster)
        self.workers = Workers(settings.threads, settings.waiting, settings.seconds)
        self.index = Index(settings.cache / f"index-{_name(library)}.sqlite", self.workers.later)
        self.warm: Callable[[Site, LibraryItem], None] | None = (
            None  # called for entries that were opened for the index
        )
        self._listing: Any = None
        self._building: set[str] = set()
        self._lock = threading.Lock()

    @property
    def generation(self) -> int:
        """Changes when the catalogs are read again."""
        return self.library.generation

    def scope(self, request: Request) -> tuple[str, ...] | None:
        """Return the patterns of the visible ids of a visitor; None for all."""
        visitor = request.scope.get("visitor")
        return None if visitor is None or visitor.catalogs == ("*",) else visitor.catalogs

    async def refresh(self) -> None:
        """Read changed catalogs again, and update the index in the background.

        Errors are counted and logged; the existing catalogs are kept.
        """
        try:
            changed = await self.run(None, "refresh", self.library.refresh)
        except Exception as exc:
            self.metrics.failed(exc)
            return log("catalogs", kind=type(exc).__name__)
        if changed:
            log("catalogs", entries=len(self.library.items), problems=len(self.library.problems))
            self.start_indexing(some_now=False)

    async def watch(self) -> None:
        """Read changed catalogs again, whatever is requested: several processes must know the same entries."""
        while True:
            await asyncio.sleep(_WATCH)
            await self.refresh()

    def start_indexing(self, some_now: bool = True) -> None:
        """List the entries, and open them one by one when the workers are idle.

        Parameters
        ----------
        some_now : bool
            If there are many, list only some before the first response, and the others in the background. Few entries
            are all listed now.
        """
        if self.settings.worker:
            return  # another process does it
        listing = self.index.listing(self.library.items.values(), facts_of_row)
        self._listing = listing
        if len(self.library.items) <= _LISTED_NOW:
            for _ in listing:
                pass
            self._describe_all()
            return

        def step() -> None:
            if self._listing is not listing:  # the catalogs were read again
                return
            if next(listing, None) is not None:
                return self.workers.later(step)
            self.index.refresh(complete=True)
            self._describe_all()

        if some_now:
            next(listing, None)
            self.index.refresh()
        self.workers.later(step)

    def _describe_all(self) -> None:
        waiting = iter(self.index.undescribed())

        def step() -> None:
            name = next(waiting, None)
            item = self.library.items.get(name or "")
            if item is not None:
                self.index.describe(item.id, index_facts(self.open_entries, item))
                if self.warm is not None:
                    self.warm(self, item)
            if name is not None:
                self.workers.later(step)

        self.workers.later(step)

    def visible(self, request: Request, name: str) -> bool:
        """Whether the visitor of a request may see an entry or a folder."""
        visitor = request.scope.get("visitor")
        return visitor is None or visitor.sees(name)

    def kept(self, scope: Any, headers: Mapping[str, str]) -> Kept | None:
        """Return the response to a request for a complete body, if it is in memory and its entry has not changed."""
        if not wants_whole(scope, headers):
            return None
        path, visitor = scope["path"], scope.get("visitor")
        kept: Kept | None = self.bodies.get(name_of(path, form_of(path, headers.get("accept-encoding", ""))))
        if kept is None or self.library.items.get(kept.item.id) is not kept.item:
            return None
        opened = self.open_entries.current(kept.item)
        same = opened is not None and opened.stamp == kept.stamp
        return kept if same and (visitor is None or visitor.sees(kept.item.id)) else None

    def item(self, request: Request, name: str) -> LibraryItem:
        """Return an entry by its id.

        Raises
        ------
        KeyError
            If there is no such entry, or the visitor may not see it.
        """
        item = self.library.items[name]
        if not self.visible(request, item.id):
            raise KeyError(name)
        request.scope["entry"] = item.id
        return item

    async def opened(self, item: LibraryItem, request: Request | None = None, priority: int = SEEN) -> Opened:
        """Return an entry, opened in a thread unless it is open."""
        current = self.open_entries.current(item)
        if current is not None:
            return current
        return await self.run(request, ("open", item.id), lambda: self.open_entries.get(item), priority)

    async def run(self, request: Request | None, key: Hashable, work: Callable[[], T], priority: int = SEEN) -> T:
        """Run a function in a thread, unless the client of `request` disconnects before it starts."""
        gone = None if request is None else _disconnected(request)
        return await self.workers.run(key, work, priority, gone)

    def build_levels(self, opened: Opened, array: ServedArray) -> None:
        """Compute a missing level, and the finer ones that it needs, when the workers are idle.

        Nothing is done for a level of the file.
        """
        if not isinstance(array.pixels.reader, Blockwise):
            return
        with self._lock:
            if array.pixels.reader.name in self._building:
                return
            served = next(s for store in opened.stores.values() for s in store.levels.values() if array in s)
            lacking = [
                one
                for one in served[: served.index(array) + 1]
                if isinstance(one.pixels.reader, Blockwise) and one.pixels.reader.lasting
            ]
            self._building.update(one.pixels.reader.name for one in lacking)  # type: ignore[attr-defined]
        log("levels", entry=opened.item.id, levels=len(lacking))
        work = ((one, at) for one in lacking for at in itertools.product(*_counts(one)))

        def step() -> None:
            one, at = next(work, (None, ()))
            if one is None:
                return
            region = one.region(at)
            with contextlib.suppress(Exception):  # a request for a damaged tile gets the error
                if region is not None:
                    one.read(region)
            self.workers.later(step)

        self.workers.later(step)

    def close(self) -> None:
        self.workers.stop()
        self.projections.close()
        self.open_entries.close()
        self.index.close()


def _name(library: Library) -> str:
    """A name for the index of a set of catalogs."""
    return hashlib.sha256("|".join(library.places).encode("utf-8", "replace")).hexdigest()[:16]


def _counts(array: ServedArray) -> list[range]:
    return [range(-(-n // c)) for n, c in zip(array.pixels.shape, array.chunk, strict=True)]


async def _disconnected(request: Request) -> Any:
    """Return when the client has disconnected."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
        await asyncio.sleep(0)
