"""The table of formats that can be read and written: for the terminal, for programs, in Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from intake_img.doors.cli.parsing import command
from intake_img.model.text import json_text

__all__ = ["add_commands", "formats", "formats_markdown", "writer_options"]


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
        ``name``, ``format``, ``extensions``, ``reads``, ``writes``, ``extra``, ``read_options`` and ``write_options``.
    """
    from dataclasses import fields

    from intake_img.formats.options import ReadOptions
    from intake_img.formats.registry import formats as installed

    common = {f.name for f in fields(ReadOptions)}
    return [
        {
            "name": name,
            "format": fmt.title,
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
    """Names of the options that are the user's to give: not those that imsave fills."""
    import inspect

    return [p for p in inspect.signature(format.write).parameters
            if p not in ("image", "path", "compress", "progress", "name", "levels")]  # fmt: skip


def _formats(arguments: argparse.Namespace) -> int:
    rows = formats()
    if arguments.json:
        print(json_text(rows))
        return 0
    if arguments.markdown:
        print(formats_markdown(rows))
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
    return 0


def _access(row: dict[str, Any]) -> str:
    return "".join(letter for letter, key in (("R", "reads"), ("W", "writes")) if row[key])


def formats_markdown(rows: Sequence[dict[str, Any]] | None = None, brief: bool = False) -> str:
    """Return the table of formats in Markdown.

    Parameters
    ----------
    rows : sequence of dict, optional
        As `formats` returns them.
    brief : bool
        Without the options.
    """

    def code(words: Sequence[str]) -> str:
        return " ".join(f"`{word}`" for word in words)

    def yes(answer: bool) -> str:
        return "yes" if answer else "no"

    table = {
        "Format": lambda row: row["format"],
        "Driver": lambda row: code([row["name"]]),
        "Extensions": lambda row: code(row["extensions"]),
        "Reads": lambda row: yes(row["reads"]),
        "Writes": lambda row: yes(row["writes"]),
        "Options of reading": lambda row: code(row["read_options"]),
        "Options of writing": lambda row: code(row["write_options"]),
        "Extras": lambda row: ", ".join(f"`{extra}`: {what}" for extra, what in row["extras"].items()),
    }
    columns = [c for c in table if not (brief and c.startswith("Options"))]
    lines = [columns, ["---"] * len(columns)]
    lines += [[table[c](row) for c in columns] for row in (formats() if rows is None else rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
