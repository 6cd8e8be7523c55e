"""What goes wrong on the command line: the message in one line, and the exit code."""

from __future__ import annotations

import sys

from intake_img.errors import IntakeImgError
from intake_img.model.text import printable

__all__ = ["FAULTS", "UsageError", "code_of", "complain", "message_of"]


class UsageError(Exception):
    """The command line asks for something that does not exist."""


FAULTS = (UsageError, IntakeImgError, OSError)
"""Errors that are reported in one line; all others are ours, and keep their traceback."""


def code_of(exc: BaseException) -> int:
    """Return the exit code of an error: 2 where the command line is at fault, else 1."""
    return 2 if isinstance(exc, UsageError) else 1


def message_of(exc: BaseException) -> str:
    """Return what an error says, in one line without control characters."""
    text = str(exc)
    if isinstance(exc, OSError) and exc.strerror:
        text = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return printable(text, 5000)


def complain(text: str, code: int) -> int:
    """Print a line on the standard error stream; return the exit code."""
    print(f"intake-img: error: {text}", file=sys.stderr)
    return code
