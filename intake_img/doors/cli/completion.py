"""Completion of commands, options and file names in bash, zsh and fish. Powered by shtab."""

from __future__ import annotations

import argparse
from typing import Any

from intake_img.doors.cli.parsing import command

__all__ = ["add_commands"]

_SHELLS = ("bash", "zsh", "fish")
_PATHS = {"URI", "SOURCE", "A", "B", "FILE", "CATALOG"}
_FOLDERS = {"FOLDER"}


def add_commands(commands: Any) -> None:
    """Add ``completion``."""
    parser = command(commands, "completion", _completion, "print a script that completes commands in a shell")
    parser.add_argument("shell", choices=_SHELLS, help='for bash: eval "$(intake-img completion bash)"')
    parser.set_defaults(registers=False)  # shells run it at start-up


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    from intake_img.doors.cli.main import make_parser

    parser = make_parser()
    _complete_paths(parser, shtab.FILE, shtab.DIRECTORY)
    print(shtab.complete(parser, arguments.shell))
    return 0


def _complete_paths(parser: argparse.ArgumentParser, file: Any, folder: Any) -> None:
    """Complete arguments that are paths with file names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                _complete_paths(one, file, folder)
        elif action.metavar in _PATHS | _FOLDERS:
            action.complete = file if action.metavar in _PATHS else folder  # type: ignore[attr-defined]
