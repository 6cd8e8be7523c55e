"""Text of somebody else, made fit for a terminal: nothing in it moves the cursor, hides or reverses what follows."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["escaped", "json_text", "printable"]


def escaped(text: object) -> str:
    r"""Return a text with everything that does not print as a Python escape: control characters, ends of lines, bidi.

    Examples
    --------
    >>> print(escaped("DAPI\x1b[2J\n\u202egnp.exe"))
    DAPI\x1b[2J\n\u202egnp.exe
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\N{NO-BREAK SPACE}" else ascii(c)[1:-1] for c in text)


def printable(text: object, limit: int = 300) -> str:
    """Return a text in one line of at most `limit` characters: ends of lines become spaces, the rest is `escaped`."""
    line = escaped(re.sub(r"[ \t\r\n]+", " ", str(text)).strip())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def json_text(data: Any, indent: int | None = 2) -> str:
    """Return plain data as JSON, readable in every script, with what does not print escaped; None: in one line."""
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
