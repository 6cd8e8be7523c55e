"""Open entries: images with their levels, scenes and facts; they are opened once, and again when the file changes."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from intake_img.accessor.display import summary
from intake_img.errors import IntakeImgError
from intake_img.formats.registry import public_header
from intake_img.formats.source import ImageSource
from intake_img.io import imload
from intake_img.portal.caches import BlockCache
from intake_img.portal.hierarchy import Hierarchy
from intake_img.portal.library import LibraryItem

__all__ = ["OpenEntries", "Opened"]

_LOOKED = 8  # number of fields of a plate for the contrast limits
_LATELY = 2.0  # seconds between checks of an entry


@dataclass(eq=False, kw_only=True)
class Opened(Hierarchy):
    """An entry whose file is open.

    Parameters
    ----------
    item : LibraryItem
    """

    item: LibraryItem

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The result of `intake_img.accessor.display.summary`, without local paths."""
        found = summary(self.dataset)
        return {k: v for k, v in found.items() if k not in ("uri",)}

    @cached_property
    def header(self) -> Any:
        """The public part of the file's own header."""
        try:
            header = json.loads(self.dataset.attrs.get("fileheader") or "{}")
        except ValueError:
            header = {}
        return public_header(header, str(self.dataset.attrs.get("driver", "")))

    @cached_property
    def wells(self) -> dict[str, Any]:
        """For a plate, its ``shape`` and ``wells``: name, row and column from 0, the number and path of the first
        field.

        Empty for other images.
        """
        if self.plate is None:
            return {}
        found: dict[str, dict[str, Any]] = {}
        for number, one in enumerate(self.series):
            assert one.well is not None
            first = {"well": one.well.well, "row": one.well.row, "column": one.well.column}
            well = found.setdefault(one.well.well, {**first, "scene": number, "path": one.path, "fields": 0})
            well["fields"] += 1
        return {"shape": list(self.plate.table.shape), "wells": list(found.values())}

    @cached_property
    def limits(self) -> dict[int, tuple[float, float]]:
        """Contrast limits of each channel for all fields of a plate, so that wells can be compared."""
        chosen = self.series[:: max(1, len(self.series) // _LOOKED)]
        windows = [[c["window"] for c in self.store(one.path).channels()] for one in chosen]
        of_channels = zip(*windows, strict=False)
        return {k: (min(w["start"] for w in ws), max(w["end"] for w in ws)) for k, ws in enumerate(of_channels)}

    def close(self) -> None:
        self.dataset.close()
        self.source.close()


def stamp_of(source: ImageSource) -> str:
    """Return a text that changes when the file of a source changes."""
    try:
        stamp = repr(source.stamp())
    except (OSError, IntakeImgError):  # opening it raises the error
        stamp = ""
    text = f"{source.arguments()}|{stamp}"
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:20]


class OpenEntries:
    """The open entries, in limited number; concurrent requests for an entry open it once.

    Parameters
    ----------
    kept : BlockCache
    most : int
        Number of entries to keep open.
    budget : int
        See `Hierarchy`.
    """

    def __init__(self, kept: BlockCache, most: int, budget: int) -> None:
        self.kept, self.most, self.budget = kept, most, budget
        self._open: OrderedDict[str, tuple[float, Opened]] = OrderedDict()
        self._opening: dict[str, Future[Opened]] = {}
        self._failed: dict[str, tuple[float, Exception]] = {}
        self._lock = threading.Lock()

    def get(self, item: LibraryItem) -> Opened:
        """Return an open entry; called in a thread.

        Raises
        ------
        Exception
            Any error of the file. It is raised again for some seconds without opening the file.
        """
        with self._lock:
            now = time.monotonic()
            if item.id in self._failed and now - self._failed[item.id][0] < 10:
                raise self._failed[item.id][1]
            checked, held = self._open.get(item.id, (0.0, None))
            if held is not None and held.item.entry is item.entry and now - checked < _LATELY:
                self._open.move_to_end(item.id)
                return held
            mine = item.id not in self._opening
            future = self._opening.setdefault(item.id, Future())
        if not mine:
            return future.result(timeout=120)
        try:
            opened = self._renewed(item, held)
            with self._lock:
                self._failed.pop(item.id, None)
                self._open[item.id] = time.monotonic(), opened
                self._open.move_to_end(item.id)
                while len(self._open) > self.most:
                    self._open.popitem(last=False)
            future.set_result(opened)
            return opened
        except Exception as exc:
            with self._lock:
                self._failed[item.id] = time.monotonic(), exc
                self._open.pop(item.id, None)
            future.set_exception(exc)
            raise
        finally:
            with self._lock:
                self._opening.pop(item.id, None)

    def current(self, item: LibraryItem) -> Opened | None:
        """Return an entry that is open and was checked recently; None otherwise. Does not block."""
        checked, held = self._open.get(item.id, (0.0, None))
        lately = time.monotonic() - checked < _LATELY
        return held if held is not None and held.item.entry is item.entry and lately else None

    def _renewed(self, item: LibraryItem, held: Opened | None) -> Opened:
        source = item.entry()
        stamp = stamp_of(source)
        if held is not None and held.stamp == stamp and held.item.entry is item.entry:
            return held
        ds = imload(source, chunks=None)
        return Opened(ds, item.name, stamp, self.kept, self.budget, source, item=item)

    def forget(self, item: LibraryItem) -> None:
        """Open an entry again at its next request, since its file changed."""
        with self._lock:
            self._open.pop(item.id, None)
            self._failed.pop(item.id, None)

    def close(self) -> None:
        with self._lock:
            held, self._open = list(self._open.values()), OrderedDict()
        for _, opened in held:
            opened.close()
