"""Maxima along an axis, chunk by chunk: computed in this process, or on a dask cluster if they read much."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from intake_img.errors import IntakeImgError, TooLargeError
from intake_img.model.chunks import Region
from intake_img.model.pixels import Pixels
from intake_img.portal.costly_blocks import Blockwise, price, read_region
from intake_img.portal.metrics import log

__all__ = ["Cluster", "Projections", "TooDeepError", "brightest", "split_key"]

_HEAVY = 32 * 2**20  # bytes to read, from which on a cluster is used
_PAUSE = 30.0  # seconds until a cluster that did not answer is asked again
_MOST = 16 * 2**30  # bytes, for a cluster
_TASKS = 64  # at most for one projection
_DEEP = "this projection needs more of the file than one request may read"


class TooDeepError(IntakeImgError, ValueError):
    """A projection reads more than one request may read."""


def split_key(key: str) -> tuple[str, int | None]:
    """Split a key with ``max`` as the index of an axis: the key of the first chunk, and the position of the axis.

    Examples
    --------
    >>> split_key("0/c/0/1/max/2/3"), split_key("0/c/0/1/5/2/3")
    (('0/c/0/1/0/2/3', 2), ('0/c/0/1/5/2/3', None))
    """
    head, mark, tail = key.rpartition("/c/")
    numbers = tail.split("/")
    if not mark or numbers.count("max") != 1:
        return key, None
    axis = numbers.index("max")
    return f"{head}/c/{'/'.join('0' if n == 'max' else n for n in numbers)}", axis


def brightest(pixels: Pixels, region: Region, axis: int) -> np.ndarray:
    """Return the largest samples along an axis, which keeps the length 1; NaN is ignored.

    Parameters
    ----------
    pixels : Pixels
    region : tuple of slice
        Planes along `axis` are read one by one.
    axis : int
    """
    total: np.ndarray | None = None
    for k in range(region[axis].start, region[axis].stop):
        plane = read_region(pixels, (*region[:axis], slice(k, k + 1), *region[axis + 1 :]))
        total = plane if total is None else np.fmax(total, plane)
    assert total is not None
    return total


def _highest(parts: Sequence[np.ndarray]) -> np.ndarray:
    found: np.ndarray = np.fmax.reduce(parts)
    return found


def _whole(pixels: Pixels, region: Sequence[slice], axis: int) -> Region:
    """Return a region with all indices of an axis."""
    return (*region[:axis], slice(0, pixels.shape[axis]), *region[axis + 1 :])


class Cluster:
    """A dask cluster, connected when it is first used.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``"tcp://10.0.0.5:8786"``.
    seconds : float
        The time limit of a projection.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self.address, self.seconds = address, seconds
        self._client: Any = None
        self._failed = -_PAUSE
        self._lock = threading.Lock()

    def brightest(self, pixels: Pixels, region: Region, axis: int) -> np.ndarray | None:
        """Return the result of `brightest`, computed by the workers; None if the cluster cannot be reached.

        Parameters
        ----------
        pixels : Pixels
            Without a cache: workers read the file themselves.
        region, axis
            As for `brightest`.
        """
        client = self._connected()
        if client is None:
            return None
        n = region[axis].stop - region[axis].start
        step = max(1, -(-n // _TASKS))
        spans = [slice(k, min(k + step, region[axis].stop)) for k in range(region[axis].start, region[axis].stop, step)]
        parts = [(*region[:axis], span, *region[axis + 1 :]) for span in spans]
        futures = client.map(brightest, [pixels] * len(parts), parts, [axis] * len(parts), pure=False)
        try:
            found: np.ndarray = client.submit(_highest, futures, pure=False).result(self.seconds)
            return found
        finally:
            client.cancel(futures)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is not None and self._client.status == "running":
                return self._client
            if time.monotonic() - self._failed < _PAUSE:
                return None
            from distributed import Client

            try:
                self._client = Client(self.address, timeout=5, set_as_default=False)
            except (OSError, TimeoutError) as exc:
                self._client, self._failed = None, time.monotonic()
                log("cluster", kind=type(exc).__name__)
            return self._client

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close(timeout=2)
                self._client = None


class Projections:
    """Computes projections within the limits of a request.

    Parameters
    ----------
    limit : int
        The largest number of bytes of a file that one request may read in this process.
    cluster : Cluster, optional
    """

    def __init__(self, limit: int, cluster: Cluster | None) -> None:
        self.limit, self.cluster = limit, cluster

    @property
    def stated(self) -> int:
        """The number of bytes of chunks up to which viewers request projections; native tiles may be larger."""
        return _MOST if self.cluster is not None else self.limit // 4

    def read(self, pixels: Pixels, region: Sequence[slice], axis: int, times: int = 1) -> np.ndarray:
        """Return the largest samples along an axis of a region, little-endian.

        Parameters
        ----------
        pixels : Pixels
        region : sequence of slice
        axis : int
        times : int
            How many such regions the request reads; the limits are for all of them.

        Raises
        ------
        TooDeepError
            If this needs more of the file than one request may read, and there is no cluster; for complex numbers too.
        """
        if pixels.dtype.kind == "c":
            raise TooDeepError("complex numbers have no maximum")
        whole = _whole(pixels, region, axis)
        cost = price(pixels, whole, max(self.limit, _HEAVY))
        found = self._elsewhere(pixels, whole, axis) if cost > _HEAVY else None
        if found is None:
            if cost * times > self.limit:
                raise TooDeepError(_DEEP)
            found = self._here(pixels, whole, axis)
        return found.astype(found.dtype.newbyteorder("<"), copy=False)

    def _here(self, pixels: Pixels, region: Region, axis: int) -> np.ndarray:
        try:
            return brightest(pixels, region, axis)
        except TooLargeError as exc:
            raise TooDeepError(str(exc)) from exc

    def _elsewhere(self, pixels: Pixels, region: Region, axis: int) -> np.ndarray | None:
        if self.cluster is None:
            return None
        source = pixels.reader.source if isinstance(pixels.reader, Blockwise) else pixels
        return None if source is None else self.cluster.brightest(source, region, axis)

    def close(self) -> None:
        if self.cluster is not None:
            self.cluster.close()
