"""The program: its parser, one-line warnings and errors, exit codes, and clean-up on SIGTERM.

The arguments are parsed before xarray, Intake and the modules of other commands are imported.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from intake_img.doors.cli.failures import FAULTS, code_of, complain, given_options, message_of, usage_of
from intake_img.doors.cli.parsing import Parser, parse
from intake_img.model.text import printable

__all__ = ["main", "make_parser"]

_GROUPS = {  # the commands of a module, in the order of the help
    "intake_img.doors.cli.images": ("info", "thumbnail", "show"),
    "intake_img.doors.cli.convert": ("convert",),
    "intake_img.doors.cli.compare": ("diff",),
    "intake_img.doors.cli.catalogs": ("scan", "validate", "list", "search"),
    "intake_img.doors.cli.formats_table": ("formats",),
    "intake_img.doors.cli.coloc": ("coloc",),
    "intake_img.doors.cli.completion": ("completion",),
    "intake_img.doors.cli.napari": ("napari",),
    "intake_img.doors.cli.portal": ("portal",),
    "intake_img.doors.cli.demo": ("demo",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default the command line of this process.
    """
    for stream in (sys.stdout, sys.stderr):  # the terminal may lack characters of file names and units
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parse(make_parser(_needed(words[:1])), words)
    with _short_warnings(), _terminated():
        try:
            with _uncollected() if argv is None else contextlib.nullcontext():
                _register(arguments)
            arguments.given = given_options(words)
            with usage_of(arguments):
                code: int = arguments.run(arguments)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader of our output, such as head, has stopped
            _silence_stdout()
            return 0
        except FAULTS as exc:
            return complain(message_of(exc), code_of(exc))
        except KeyboardInterrupt:
            return complain("interrupted", 130)


def _needed(first: Sequence[str]) -> Sequence[str]:
    """Return the modules that can parse a command line with this first word: one for a command, else all."""
    if first == ["--version"]:
        return ()
    return [module for module, names in _GROUPS.items() if {*first} & {*names}] or list(_GROUPS)


def _register(arguments: argparse.Namespace) -> None:
    """Register ``ds.img`` for the commands that need more than their arguments."""
    if getattr(arguments, "registers", True):
        from intake_img.doors.registration import register

        register()


def make_parser(groups: Sequence[str] = tuple(_GROUPS)) -> Parser:
    """Return the parser of the command line.

    Parameters
    ----------
    groups : sequence of str
        Modules of the commands; all by default.
    """
    parser = Parser(prog="intake-img", description="Open, inspect and convert microscopy images.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for group in groups:
        importlib.import_module(group).add_commands(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        from intake_img import __version__

        print(f"intake-img {__version__}")
        parser.exit()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage during imports, nor search their modules for garbage later: that would take 0.1 s."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that writers remove their partial files."""

    def leave(number: int, _: Any) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _silence_stdout() -> None:
    """Point standard output to nowhere, so that Python's last flush does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"intake-img: warning: {printable(message, 5000)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield
