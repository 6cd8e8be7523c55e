"""What can be set of the portal: limits, addresses, who may come in."""

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
        Limits of what is kept in memory, and in `cache`.
    request_bytes : int
        The most bytes of a file that one request may have read.
    threads : int
        Threads that read and encode.
    waiting : int
        Requests that may wait for a thread; further ones are answered with 503.
    open_entries : int
        Files that are held open.
    download_bytes : int
        The largest image, in bytes of its pixels, that may be downloaded as a file.
    seconds : float
        The longest time that one request may take.
    header_seconds : float
        Time that a client has to send the header of a request.
    hosts : tuple of str
        Names by which the server may be called; empty for any. Others are refused: a page of somebody else could
        otherwise reach a server on this machine.
    origins : tuple of str
        Origins whose pages may fetch data (CORS), ``"*"`` for all.
    tokens : Path, optional
        File with the tokens of users.
    token : str, optional
        A single token for everybody.
    user_header, proxy_secret : str, optional
        Header in which a reverse proxy names a user that it let in, and the secret by which the proxy is known
        (header ``X-Portal-Secret``).
    secure : bool
        Cookies are only sent over TLS.
    worker : int
        The number of this process among several that serve together, from 0; the first fills the search index.
    shared : Path, optional
        Folder in which such processes put their counters.
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

    @property
    def guarded(self) -> bool:
        """Whether visitors have to show who they are."""
        return bool(self.tokens or self.token or self.user_header)
