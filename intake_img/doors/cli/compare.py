"""``intake-img diff``: how two images differ, in axes, coordinates, values and metadata."""

from __future__ import annotations

import argparse
from typing import Any

from intake_img.doors.cli.failures import UsageError
from intake_img.doors.cli.named_images import items
from intake_img.doors.cli.parsing import add_limits, add_source_options, command, tolerance
from intake_img.model.text import escaped, json_text

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add ``diff``."""
    parser = command(commands, "diff", _diff, "show how two images differ; the exit code is 1 if they do")
    parser.add_argument("a", metavar="A", help="path or URL, folder or pattern; FILE@SCENE, CATALOG.yml@ENTRY")
    parser.add_argument("b", metavar="B", help="the other one")
    add_source_options(parser)
    add_limits(parser)
    parser.add_argument(
        "--rtol", metavar="R", type=tolerance, default=0.0, help="relative tolerance of values (default: 0)"
    )
    parser.add_argument(
        "--atol", metavar="A", type=tolerance, default=0.0, help="absolute tolerance of values (default: 0)"
    )
    parser.add_argument("--pixels", action="store_true", help="compare axes and values alone, no metadata")
    parser.add_argument("--json", action="store_true", help="print JSON, a difference a line")


def _diff(arguments: argparse.Namespace) -> int:
    from intake_img.accessor.comparison import differences

    sources = [_one(text, arguments) for text in (arguments.a, arguments.b)]
    pair = [source.dataset() for source in sources]
    found = differences(*pair, rtol=arguments.rtol, atol=arguments.atol, metadata=not arguments.pixels)
    for source in sources:
        source.close()
    for one in found:
        print(json_text(one.facts(), indent=None) if arguments.json else escaped(one))
    if not found and not arguments.json:
        print("no difference")
    return 1 if found else 0


def _one(text: str, arguments: argparse.Namespace) -> Any:
    arguments.sources = [text]
    (item, *more) = items(arguments, each=False)
    if more:
        raise UsageError(f"{text} names {1 + len(more)} images: name one entry, as in {text}@{more[0].place}")
    return item.open()
