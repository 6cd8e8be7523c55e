"""Counters of the portal in Prometheus' text format, and log lines as JSON.

References
----------
.. [1] https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

__all__ = ["Metrics", "log", "logged"]

LOG = logging.getLogger("intake_img.portal")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_INFINITE = "+Inf"
_LIMITS = (*_BUCKETS, _INFINITE)
_PAUSE = 1.0  # seconds between publications to other processes
_KINDS = ("requests", "seconds", "buckets", "bytes", "cache", "errors")
_LISTED = {
    "bytes": ("portal_sent_bytes_total", "Bytes of bodies.", "route"),
    "cache": ("portal_chunk_cache_total", "Chunks that were, and were not, kept in memory.", "result"),
    "errors": ("portal_errors_total", "Requests that failed, by kind.", "kind"),
}


def logged() -> bool:
    """Whether events are written."""
    return LOG.isEnabledFor(logging.INFO)


def log(event: str, **facts: object) -> None:
    """Write one event as a line of JSON; never a token, a query or a path."""
    if logged():
        LOG.info("%s", json.dumps({"time": round(time.time(), 3), "event": event, **facts}, default=str))


class Metrics:
    """Counts and durations of requests, of all processes of the server.

    Parameters
    ----------
    folder : Path, optional
        Folder in which each process publishes its counts; by default this is the only process.
    number : int
        The number of this process.
    """

    def __init__(self, folder: Path | None = None, number: int = 0) -> None:
        self.started = time.time()
        self._lock = threading.Lock()
        self._folder, self._number, self._written = folder, number, 0.0
        self._counts: dict[str, Counter[Any]] = {name: Counter() for name in _KINDS}

    def request(self, route: str, status: int, seconds: float, sent: int) -> None:
        """Count one request."""
        counts = self._counts
        with self._lock:
            counts["requests"][route, status] += 1
            counts["seconds"][route] += seconds  # type: ignore[assignment]
            counts["bytes"][route] += sent
            counts["buckets"][route, _LIMITS[bisect_left(_BUCKETS, seconds)]] += 1
        if self._folder is not None and time.monotonic() > self._written + _PAUSE:
            self.share()

    def cached(self, hit: bool) -> None:
        self._counts["cache"]["hit" if hit else "miss"] += 1

    def failed(self, exc: BaseException) -> None:
        self._counts["errors"][type(exc).__name__] += 1

    def share(self) -> None:
        """Publish the counts to other processes; errors of writing are ignored."""
        self._written = time.monotonic()
        with self._lock:
            found = {name: list(counts.items()) for name, counts in self._counts.items()}
        if self._folder is not None:
            with contextlib.suppress(OSError):
                path = self._folder / f"counts-{self._number}.json"
                path.with_suffix(".new").write_text(json.dumps(found))
                os.replace(path.with_suffix(".new"), path)

    def _of_all(self) -> dict[str, Counter[Any]]:
        """Return the total counts of all processes."""
        with self._lock:
            found = {name: Counter(counts) for name, counts in self._counts.items()}
        for path in sorted(self._folder.glob("counts-*.json")) if self._folder is not None else []:
            if path.name != f"counts-{self._number}.json":
                for name, items in json.loads(path.read_text()).items():
                    found[name].update({tuple(k) if isinstance(k, list) else k: n for k, n in items})
        return found

    def text(self, **gauges: float) -> str:
        """Return everything in the text format."""
        counts = self._of_all()
        requests = {f'route="{r}",status="{s}"': n for (r, s), n in counts["requests"].items()}
        lines = _counter("portal_requests_total", "Requests by route and status.", requests)
        lines += _histogram(counts["seconds"], counts["buckets"])
        for kind, (name, about, label) in _LISTED.items():
            lines += _counter(name, about, {f'{label}="{k}"': n for k, n in counts[kind].items()})
        gauges = {"uptime_seconds": round(time.time() - self.started, 1), **gauges}
        own = f'{{worker="{self._number}"}}' if self._folder is not None else ""  # these are of this process
        for name, value in gauges.items():
            lines += [f"# TYPE portal_{name} gauge", f"portal_{name}{own} {value}"]
        return "\n".join(lines) + "\n"


def _histogram(seconds: Counter[Any], buckets: Counter[Any]) -> list[str]:
    lines = ["# HELP portal_request_seconds Time to answer.", "# TYPE portal_request_seconds histogram"]
    for route, total in seconds.items():
        below = 0
        for bucket in _LIMITS:
            below += buckets[route, bucket]
            lines.append(f'portal_request_seconds_bucket{{route="{route}",le="{bucket}"}} {below}')
        lines.append(f'portal_request_seconds_sum{{route="{route}"}} {total:.6f}')
        lines.append(f'portal_request_seconds_count{{route="{route}"}} {below}')
    return lines


def _counter(name: str, about: str, values: dict[str, int]) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} counter", *(f"{name}{{{k}}} {n}" for k, n in values.items())]
