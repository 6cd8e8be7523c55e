"""Untrusted text, escaped for a terminal: it cannot move the cursor, or hide or reverse the text that follows."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["escaped", "json_text", "printable"]


def escaped(text: object) -> str:
    r"""Return a text with all unprintable characters as Python escapes: control characters, line ends, bidi controls.

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
    """Return a text as one line of at most `limit` characters: line ends become spaces, the rest is `escaped`."""
    line = escaped(re.sub(r"[ \t\r\n]+", " ", str(text)).strip())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def json_text(data: Any, indent: int | None = 2) -> str:
    """Return plain data as JSON in Unicode, with unprintable characters escaped; `indent` None gives one line."""
    text = json.dumps(data, ensure_ascii=False, indent=indent)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
