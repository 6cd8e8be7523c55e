"""``intake-img portal``: the command of the web portal, which imports nothing from this folder."""

from __future__ import annotations

from typing import Any

from intake_img.doors.cli.parsing import command
from intake_img.portal.command import add_command

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add ``portal``."""
    add_command(commands, command)
