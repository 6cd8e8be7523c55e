"""``intake-img demo``: sample images, loaded, saved and checked."""

from __future__ import annotations

import argparse
from typing import Any

from intake_img.doors.cli.parsing import command

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add ``demo``."""
    parser = command(commands, "demo", _demo, "load, save and check sample images from a shipped catalog")
    parser.add_argument(
        "--output", metavar="FOLDER", default="demo-output", help="where to put the files (default: %(default)s)"
    )


def _demo(arguments: argparse.Namespace) -> int:
    from intake_img.doors.demo import run

    return run(arguments.output)
