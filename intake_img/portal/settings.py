"""Settings of the portal: limits, addresses, access."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LOOPBACK", "Settings", "cache_folder"]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_MIB = 2**20


def cache_folder() -> Path:
    """Return the user's folder for the portal's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "intake_img" / "portal"


@dataclass(frozen=True)
class Settings:
    """Options of the portal.

    Parameters
    ----------
    title : str
        Heading of the pages.
    cache : Path
        Folder of computed levels, thumbnails and the search index.
    memory_bytes, disk_bytes : int
        Size limits of the caches in memory, and in `cache`.
    request_bytes : int
        The largest number of bytes of a file that one request may read.
    threads : int
        Number of threads that read and encode.
    waiting : int
        Number of requests that may wait for a thread; further requests get 503.
    open_entries : int
        Number of files to keep open.
    download_bytes : int
        The largest image for downloads as a file, in bytes of its pixels.
    seconds : float
        The time limit of a request.
    header_seconds : float
        The time limit for a client to send the header of a request.
    hosts : tuple of str
        Allowed host names of the server; empty for any. Other names are refused, since a foreign web page could
        otherwise reach a server on this machine.
    origins : tuple of str
        Origins whose pages may fetch data (CORS), ``"*"`` for all.
    tokens : Path, optional
        File with the tokens of users.
    token : str, optional
        A single token for everybody.
    user_header, proxy_secret : str, optional
        Header in which a reverse proxy names an authenticated user, and the secret that authenticates the proxy (header
        ``X-Portal-Secret``).
    secure : bool
        Whether cookies are only sent over TLS.
    worker : int
        The number of this process among several server processes, from 0; the first fills the search index.
    shared : Path, optional
        Folder in which these processes publish their counters.
    dask : str, optional
        Address of the scheduler of a dask cluster that computes projections which read much. Its workers open the
        files by the same paths.
    """

    title: str = "Images"
    cache: Path = field(default_factory=cache_folder)
    memory_bytes: int = 512 * _MIB
    disk_bytes: int = 4096 * _MIB
    request_bytes: int = 256 * _MIB
    threads: int = field(default_factory=lambda: max(2, min(8, os.cpu_count() or 2)))
    waiting: int = 256
    open_entries: int = 64
    download_bytes: int = 4096 * _MIB
    seconds: float = 60.0
    header_seconds: float = 10.0
    hosts: tuple[str, ...] = LOOPBACK
    origins: tuple[str, ...] = ()
    tokens: Path | None = None
    token: str | None = None
    user_header: str | None = None
    proxy_secret: str | None = None
    secure: bool = False
    worker: int = 0
    shared: Path | None = None
    dask: str | None = None

    @property
    def guarded(self) -> bool:
        """Whether visitors must authenticate."""
        return bool(self.tokens or self.token or self.user_header)
