"""The table of supported formats: for the terminal, for programs, in Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from intake_img.doors.cli.parsing import command
from intake_img.model.text import json_text

__all__ = ["add_commands", "format_markdown", "formats", "formats_markdown", "writer_options"]


def add_commands(commands: Any) -> None:
    """Add ``formats``."""
    parser = command(commands, "formats", _formats, "list the formats that can be read and written")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")


def formats() -> list[dict[str, Any]]:
    """Return a row for each installed driver, in the order of the table.

    Returns
    -------
    list of dict
        ``name``, ``format``, ``own`` (of this package), ``extensions``, ``reads``, ``writes``, ``extras``,
        ``read_options`` and ``write_options``.
    """
    from dataclasses import fields

    from intake_img.formats.options import ReadOptions
    from intake_img.formats.registry import formats as installed

    common = {f.name for f in fields(ReadOptions)}
    return [
        {
            "name": name,
            "format": fmt.title,
            "own": type(fmt).__module__.startswith("intake_img."),
            "extensions": list(fmt.extensions),
            "reads": fmt.reads,
            "writes": fmt.writes,
            "extras": dict(fmt.extras),
            "read_options": [f.name for f in fields(fmt.source.Options) if f.name not in common],
            "write_options": writer_options(fmt) if fmt.writes else [],
        }
        for name, fmt in installed().items()
    ]


def writer_options(format: Any) -> list[str]:
    """Names of the options for users, without the options that imsave fills."""
    import inspect

    return [
        p
        for p in inspect.signature(format.write).parameters
        if p not in ("image", "path", "compress", "progress", "name", "levels")
    ]


def _formats(arguments: argparse.Namespace) -> int:
    rows = formats()
    if arguments.json:
        print(json_text(rows))
        return 0
    if arguments.markdown:
        print(formats_markdown())
        return 0
    titles = ("driver", "format", "", "extras", "extensions", "options of the writer")
    table = [
        (
            row["name"],
            row["format"],
            _access(row),
            ", ".join(row["extras"]),
            " ".join(row["extensions"]),
            ", ".join(row["write_options"]),
        )
        for row in rows
    ]
    widths = [max(len(line[k]) for line in [titles, *table]) for k in range(4)]
    for line in [titles, *table]:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        print("  ".join(cells) + "  " + line[4] + (f"  [{line[5]}]" if line[5] else ""))
    print(f"extras are installed with: pip install 'intake_img[EXTRA]'{_further()}")
    return 0


def _further() -> str:
    """Name the readers of files that no format of the table claims."""
    from intake_img.formats.registry import bridges

    return "".join(
        f"\nfiles that none of these claims: {fmt.title} (driver {name}, extras {', '.join(fmt.extras)})"
        for name, fmt in bridges().items()
    )


def _access(row: dict[str, Any]) -> str:
    return "".join(letter for letter, key in (("R", "reads"), ("W", "writes")) if row[key])


def formats_markdown() -> str:
    """Return the table of formats in Markdown, each with a link to its page."""
    table = {
        "Format": lambda row: f"[{row['format']}](formats/{row['name']}.md)" if row["own"] else row["format"],
        "Driver": lambda row: _code([row["name"]]),
        "Extensions": lambda row: _code(row["extensions"]),
        "Reads": lambda row: _yes(row["reads"]),
        "Writes": lambda row: _yes(row["writes"]),
        "Extras": lambda row: ", ".join(f"`{extra}`: {what}" for extra, what in row["extras"].items()),
    }
    lines = [list(table), ["---"] * len(table)]
    lines += [[cell(row) for cell in table.values()] for row in formats()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def format_markdown(format: Any) -> str:
    """Return the documentation of one format: facts, options of reading and of writing."""
    kind, source = type(format), format.source
    facts = {
        "Driver": _code([format.name]),
        "Extensions": _code(format.extensions),
        "Read": _yes(format.reads),
        "Written": _yes(format.writes) + (f", but for {_code(format.only_read)}" if format.only_read else ""),
        "Extras": ", ".join(f"`intake_img[{extra}]` ({what})" for extra, what in format.extras.items()) or "none",
    }
    lines = ["| | |", "| --- | --- |", *(f"| {fact} | {value} |" for fact, value in facts.items())]
    lines += ["", "```{eval-rst}", f".. autoclass:: {source.__module__}.{source.__qualname__}"]
    lines += ["", f".. automethod:: {kind.__module__}.{kind.__qualname__}.write"] * format.writes
    return "\n".join([*lines, "```"])


def _code(words: Sequence[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
