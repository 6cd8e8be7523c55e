"""The command ``intake-img portal``: its options, and the start of the server."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from intake_img.errors import IntakeImgError
from intake_img.model.packages import imported

__all__ = ["add_command"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MIB = 2**20
_OF_WORKERS = ("places", "root", "scheme", "log", "host", "port", "behind_proxy")


def add_command(commands: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``portal`` to the commands of a parser."""
    parser = command(commands, "portal", _run, "serve images as web pages and as OME-Zarr, read-only")
    for name, about, settings in _OPTIONS:
        parser.add_argument(name, help=about, **settings)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return int(text)


_OPTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (  # name, what the help says, and how it is read
    (
        "places",
        "catalog (.yml), table (.parquet, .sqlite), folder of images, or image",
        {"metavar": "CATALOG", "nargs": "*"},
    ),
    ("--demo", "serve sample images, and open the browser where there is one", {"action": "store_true"}),
    (
        "--host",
        "address to listen on; any address but this machine's own requires a token (default: %(default)s)",
        {"metavar": "ADDRESS", "default": "127.0.0.1"},
    ),
    ("--port", "port; 0 for a free one (default: %(default)s)", {"metavar": "N", "type": int, "default": 8700}),
    ("--title", "heading of the pages", {"metavar": "TEXT", "default": "Images"}),
    ("--open", "open the browser", {"action": "store_true"}),
    ("--public", "allow access without a token", {"action": "store_true"}),
    ("--tokens", "YAML file of the accepted tokens, see --new-token", {"metavar": "FILE"}),
    ("--new-token", "add a token to the file of --tokens, print it, and exit", {"metavar": "NAME"}),
    (
        "--for",
        "with --new-token: catalogs or entries that it opens, such as 'screen/*'; may be repeated",
        {"metavar": "PATTERN", "dest": "patterns", "action": "append"},
    ),
    (
        "--cors",
        "web site whose pages may fetch data, '*' for all (with --public); may be repeated",
        {"metavar": "ORIGIN", "action": "append", "default": []},
    ),
    (
        "--host-name",
        "host name that requests may use, besides localhost; may be repeated",
        {"metavar": "NAME", "action": "append", "default": []},
    ),
    (
        "--behind-proxy",
        "a reverse proxy whose X-Forwarded headers are trusted, such as 127.0.0.1",
        {"metavar": "ADDRESS"},
    ),
    (
        "--user-header",
        "header in which the proxy names the user; needs PORTAL_PROXY_SECRET in the environment",
        {"metavar": "NAME"},
    ),
    ("--cache", "folder of computed levels, thumbnails and the search index", {"metavar": "FOLDER"}),
    (
        "--cache-mb",
        "maximum size of that folder in MB (default: %(default)s)",
        {"metavar": "N", "type": _count, "default": 4096},
    ),
    (
        "--memory-mb",
        "memory for decoded chunks in MB, all processes together (default: %(default)s)",
        {"metavar": "N", "type": _count, "default": 512},
    ),
    ("--threads", "threads of a process that read and encode", {"metavar": "N", "type": _count}),
    (
        "--workers",
        "number of server processes (default: %(default)s)",
        {"metavar": "N", "type": _count, "default": 1},
    ),
    (
        "--dask",
        "scheduler of a dask cluster for projections that read much, such as tcp://10.0.0.5:8786",
        {"metavar": "ADDRESS"},
    ),
    (
        "--root",
        "where images may be (default: the catalog's folder); may be repeated",
        {"metavar": "FOLDER", "action": "append"},
    ),
    (
        "--scheme",
        "URLs that catalogs may name, such as https; may be repeated",
        {"metavar": "SCHEME", "action": "append", "default": []},
    ),
    ("--log", "write a line of JSON for each request ('-': to the terminal)", {"metavar": "FILE"}),
)


class _UnusableError(IntakeImgError, ValueError):
    """Options that contradict each other."""


def _run(arguments: argparse.Namespace) -> int:
    if arguments.new_token is not None:
        return _new_token(arguments)
    for package in ("starlette", "uvicorn"):
        imported(package, "portal", "the web portal")
    if not arguments.places and not arguments.demo:
        raise _UnusableError("name a catalog, a folder or an image to serve, or give --demo")
    with tempfile.TemporaryDirectory(prefix="intake_img-portal-") as work:
        return _serve(arguments, Path(work))


def _new_token(arguments: argparse.Namespace) -> int:
    from intake_img.portal.tokens import add_token

    if not arguments.tokens:
        raise _UnusableError("--new-token needs --tokens FILE, the file to add it to")
    token = add_token(Path(arguments.tokens), arguments.new_token, tuple(arguments.patterns or ["*"]))
    print(f"{token}\n(shown once: {arguments.tokens} keeps only its digest)", file=sys.stdout)
    return 0


def _serve(arguments: argparse.Namespace, work: Path) -> int:
    from intake_img.portal.server_processes import end_cleanly, listen, serve_together

    arguments.places += [str(_demo(work))] if arguments.demo else []
    settings = _settings(arguments, work)
    library = _library(arguments, work)
    sockets = listen(arguments.host, arguments.port, arguments.workers)
    try:
        _announce(arguments, settings, len(library.items), sockets[0].getsockname()[1])
        if arguments.workers == 1:
            end_cleanly()
            _start_log(arguments.log)
            _serve_one(arguments, settings, library, sockets[0])
        else:
            del library
            plain = argparse.Namespace(**{name: getattr(arguments, name) for name in _OF_WORKERS})
            serve_together(_work, sockets, plain, settings, work)
    finally:
        for one in sockets:
            one.close()
    return 0


def _library(arguments: argparse.Namespace, work: Path, patient: bool = False) -> Any:
    from intake_img.portal.library import Library

    return Library(arguments.places, work / "catalogs", roots=arguments.root, schemes=arguments.scheme, patient=patient)


def _serve_one(arguments: argparse.Namespace, settings: Any, library: Any, listening: socket.socket) -> None:
    from intake_img.portal.app import make_app
    from intake_img.portal.server import serve

    app = make_app(library, settings)
    serve(app, settings, arguments.host, arguments.port, proxies=arguments.behind_proxy, socket=listening)


def _work(number: int, listening: socket.socket, arguments: argparse.Namespace, settings: Any, work: Path) -> None:
    """Serve as one of several processes."""
    own = work / f"worker-{number}"
    own.mkdir(exist_ok=True)
    _start_log(arguments.log)
    settings = replace(settings, worker=number, shared=work)
    library = _library(arguments, own, patient=True)  # the command has read the catalogs: they are being edited
    _serve_one(arguments, settings, library, listening)


def _settings(arguments: argparse.Namespace, work: Path) -> Any:
    from intake_img.portal.settings import LOOPBACK, Settings, cache_folder

    local = arguments.host in _LOOPBACK
    if "*" in arguments.cors and not arguments.public:
        raise _UnusableError("--cors '*' lets pages of all web sites fetch data: give --public too, or name the sites")
    secret = os.environ.get("PORTAL_PROXY_SECRET")
    if arguments.user_header and not secret:
        raise _UnusableError("--user-header needs a secret that only the proxy knows, in PORTAL_PROXY_SECRET")
    if arguments.tokens and not os.path.exists(arguments.tokens):
        raise _UnusableError(
            f"{arguments.tokens} does not exist: 'intake-img portal --new-token NAME --tokens FILE' makes it"
        )
    chosen = arguments.tokens or arguments.user_header
    made_up = None if local or arguments.public or chosen else secrets.token_urlsafe(24)
    cache = Path(arguments.cache) if arguments.cache else (work / "cache" if arguments.demo else cache_folder())
    more = {"threads": arguments.threads} if arguments.threads else {}
    return Settings(
        title="Sample images" if arguments.demo and arguments.title == "Images" else arguments.title,
        cache=cache,
        memory_bytes=arguments.memory_mb * _MIB // arguments.workers,
        disk_bytes=arguments.cache_mb * _MIB,
        hosts=(*LOOPBACK, *(h.lower() for h in arguments.host_name)) if local or arguments.host_name else (),
        origins=tuple(arguments.cors),
        tokens=Path(arguments.tokens) if arguments.tokens else None,
        token=made_up,
        user_header=arguments.user_header,
        proxy_secret=secret,
        dask=_reachable(arguments.dask),
        secure=arguments.behind_proxy is not None,
        **more,
    )


def _reachable(address: str | None) -> str | None:
    """Return the address of a cluster that answers.

    Raises
    ------
    IntakeImgError
        If it does not answer, or the dependency is missing.
    """
    if address is None:
        return None
    Client = imported("distributed", "distributed", "--dask").Client
    try:
        with Client(address, timeout=10, set_as_default=False):
            return address
    except (OSError, TimeoutError, ValueError) as exc:
        raise _UnusableError(f"--dask {address}: no scheduler of dask answers there") from exc


def _announce(arguments: argparse.Namespace, settings: Any, count: int, port: int) -> None:
    host = arguments.host if ":" not in arguments.host else f"[{arguments.host}]"
    url = f"http://{'localhost' if host in ('0.0.0.0', '[::]') else host}:{port}/"
    print(f"{count} images at {url}  (Ctrl-C ends)", flush=True)
    if settings.token:
        print(f"token for visitors: {settings.token}  (--tokens names several, --public lets everybody in)", flush=True)
    if arguments.open or arguments.demo:
        import webbrowser

        if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform in ("darwin", "win32"):
            timer = threading.Timer(0.5, webbrowser.open, [url])
            timer.daemon = True
            timer.start()


def _start_log(target: str | None) -> None:
    if target is None:
        return
    handler = logging.StreamHandler() if target == "-" else logging.FileHandler(target, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("intake_img.portal")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _demo(work: Path) -> Path:
    """Write sample images, and return the folder of their catalog."""
    from intake_img.portal.demo_images import make_demo

    folder = work / "samples"
    folder.mkdir()
    return make_demo(folder)
