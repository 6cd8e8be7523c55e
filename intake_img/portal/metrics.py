"""Counters of the portal in Prometheus' text format, and log lines as JSON.

References
----------
.. [1] https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter

__all__ = ["Metrics", "log"]

LOG = logging.getLogger("intake_img.portal")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


def log(event: str, **facts: object) -> None:
    """Write one event as a line of JSON; never a token, a query or a path."""
    if LOG.isEnabledFor(logging.INFO):
        LOG.info("%s", json.dumps({"time": round(time.time(), 3), "event": event, **facts}, default=str))


class Metrics:
    """What was asked and how long it took."""

    def __init__(self) -> None:
        self.started = time.time()
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._cache: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()

    def request(self, route: str, status: int, seconds: float, sent: int) -> None:
        """Count one request."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]
            self._bytes[route] += sent
            self._buckets[route, next((b for b in _BUCKETS if seconds <= b), float("inf"))] += 1

    def cached(self, hit: bool) -> None:
        self._cache["hit" if hit else "miss"] += 1

    def failed(self, exc: BaseException) -> None:
        self._errors[type(exc).__name__] += 1

    def text(self, **gauges: float) -> str:
        """Return everything in the text format."""
        with self._lock:
            lines = _counter(
                "portal_requests_total",
                "Requests by route and status.",
                {f'route="{r}",status="{s}"': n for (r, s), n in self._requests.items()},
            )
            lines += self._histogram()
            lines += _counter(
                "portal_sent_bytes_total", "Bytes of bodies.", {f'route="{r}"': n for r, n in self._bytes.items()}
            )
        lines += _counter(
            "portal_chunk_cache_total",
            "Chunks that were, and were not, kept in memory.",
            {f'result="{k}"': n for k, n in self._cache.items()},
        )
        lines += _counter(
            "portal_errors_total", "Requests that failed, by kind.", {f'kind="{k}"': n for k, n in self._errors.items()}
        )
        gauges = {"uptime_seconds": round(time.time() - self.started, 1), **gauges}
        for name, value in gauges.items():
            lines += [f"# TYPE portal_{name} gauge", f"portal_{name} {value}"]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        lines = ["# HELP portal_request_seconds Time to answer.", "# TYPE portal_request_seconds histogram"]
        for route, seconds in self._seconds.items():
            total = 0
            for bucket in (*_BUCKETS, float("inf")):
                total += self._buckets[route, bucket]
                edge = "+Inf" if bucket == float("inf") else bucket
                lines.append(f'portal_request_seconds_bucket{{route="{route}",le="{edge}"}} {total}')
            lines.append(f'portal_request_seconds_sum{{route="{route}"}} {seconds:.6f}')
            lines.append(f'portal_request_seconds_count{{route="{route}"}} {total}')
        return lines


def _counter(name: str, about: str, values: dict[str, int]) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} counter", *(f"{name}{{{k}}} {n}" for k, n in values.items())]
