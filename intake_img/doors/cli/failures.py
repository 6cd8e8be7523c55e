"""Errors on the command line: the message in one line, and the exit code."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator, Sequence

from intake_img.errors import IntakeImgError, SceneError
from intake_img.model.text import printable

__all__ = ["FAULTS", "UsageError", "code_of", "complain", "given_options", "message_of", "usage_of"]


class UsageError(Exception):
    """The command line names something that does not exist."""


FAULTS = (UsageError, IntakeImgError, OSError)
"""Errors that are reported in one line; all others are ours, and keep their traceback."""


def given_options(words: Sequence[str]) -> frozenset[str]:
    """Return the names of the options among the words of a command line, as their arguments are called in Python.

    ``FILE@SCENE`` gives a scene, too.
    """
    named = {w[2:].partition("=")[0].replace("-", "_") for w in words if w.startswith("--")}
    return frozenset(named | ({"scene"} if any("@" in w for w in words if not w.startswith("--")) else set()))


@contextlib.contextmanager
def usage_of(arguments: argparse.Namespace) -> Iterator[None]:
    """Turn an error whose message names an option that was given, ``name=value: ...``, into a usage error.

    A scene or level that was named and does not exist is one, too. Else only wrong values say so: what is wrong with
    the data, or the disk, is said without the name of an argument.
    """
    try:
        yield
    except (IntakeImgError, ValueError, TypeError, KeyError) as exc:
        text = str(exc.args[0]) if isinstance(exc, KeyError) and exc.args else str(exc)
        named = re.match(r"(?:[^=]*: )?(\w+)(?:\[[^\]]*\])?=", text)
        given = arguments.given | {key for key, _ in getattr(arguments, "option", ())}
        absent = isinstance(exc, SceneError) and given & {"scene", "level"}
        if absent or (named and named[1] in given):
            raise UsageError(printable(text, 5000)) from exc
        raise


def code_of(exc: BaseException) -> int:
    """Return the exit code of an error: 2 if the command line is wrong, else 1."""
    return 2 if isinstance(exc, UsageError) else 1


def message_of(exc: BaseException) -> str:
    """Return the message of an error, in one line without control characters."""
    text = str(exc)
    if isinstance(exc, OSError) and exc.strerror:
        text = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return printable(text, 5000)


def complain(text: str, code: int) -> int:
    """Print a line on the standard error stream; return the exit code."""
    print(f"intake-img: error: {text}", file=sys.stderr)
    return code
