"""Common parts of the parsers: errors that name the right help, and options of sources and writers."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = [
    "Parser",
    "add_limits",
    "add_source_options",
    "add_sources",
    "command",
    "count",
    "level",
    "pair",
    "parse",
    "tolerance",
]

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser with one-line errors that name the right help."""

    def error(self, message: str) -> NoReturn:
        """Print the message and the command for help; exit with 2."""
        self.exit(2, f"{self.prog}: error: {message}; see '{self.prog} --help'\n")


def parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; unknown arguments are an error of the command, not of the main program."""
    arguments, rest = parser.parse_known_args(argv)
    if not hasattr(arguments, "run"):
        parser.error(_unknown(rest[0], parser) if rest else "the following arguments are required: COMMAND")
    if rest:
        arguments.parser.error(_unknown(rest[0], arguments.parser))
    return arguments


def _unknown(word: str, parser: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    name = word.partition("=")[0]
    known = [option for action in parser._actions for option in action.option_strings]
    if name in known:
        return f"{name} comes after the command: {parser.prog} {name} ..."
    close = difflib.get_close_matches(name, known, 1)
    return f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else "")


def command(commands: Any, name: str, run: Run, help_: str, **options: Any) -> Parser:
    """Add a command and return its parser.

    Parameters
    ----------
    commands : the subparsers of argparse
    name : str
    run : callable
        Takes the arguments, returns the exit code.
    help_ : str
    **options
        Of the parser.
    """
    described = help_[0].upper() + help_[1:] + "."
    parser: Parser = commands.add_parser(name, help=help_, description=described, allow_abbrev=False, **options)
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_sources(parser: Parser, metavar: str = "URI") -> None:
    """Add the positional arguments that name images, and the options for opening them."""
    parser.add_argument(
        "sources",
        metavar=metavar,
        nargs="+",
        help="path or URL, folder or pattern; FILE@SCENE names a scene, CATALOG.yml@ENTRY an entry of a catalog; "
        "- reads names from the standard input, one a line",
    )
    add_source_options(parser)
    add_limits(parser)


def add_source_options(parser: Parser) -> None:
    """Add the options for opening an image."""
    parser.add_argument("--scene", metavar="SCENE", help="which image of the file, by number or name, or 'all'")
    parser.add_argument("--level", metavar="N", type=level, default=0, help="level of a pyramid; 0 is full resolution")
    parser.add_argument(
        "--storage-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=pair,
        help="option of the file system of the source, e.g. anon=true for s3://; may be repeated",
    )


def add_limits(parser: Parser) -> None:
    """Add the options for the files that a catalog may name."""
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        action="append",
        help="where images of a catalog may be (default: its folder); may be repeated",
    )
    parser.add_argument(
        "--scheme",
        metavar="SCHEME",
        action="append",
        default=[],
        help="URLs that a catalog may name, such as https; may be repeated",
    )


def level(text: str) -> int:
    """Return a number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0 or a positive number, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """Return a number of 1 or more."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return int(text)


def tolerance(text: str) -> float:
    """Return a number that is not negative."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected 0 or a positive number, got {text!r}")
    return value


def pair(text: str) -> tuple[str, Any]:
    """Split KEY=VALUE; the value is parsed as YAML, for numbers, true, false and lists."""
    import yaml

    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value
