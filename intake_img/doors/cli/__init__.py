"""The command ``intake-img``: images, conversion, comparison, catalogs, the table of formats, shell completion.

A module a group of commands, each a few lines over the functions of the package. Exit codes: 0 done, 1 the data or the
disk are at fault, 2 the command line is. Heavy modules are imported by the commands that need them.
"""

from intake_img.doors.cli.formats_table import format_markdown, formats, formats_markdown
from intake_img.doors.cli.main import main

__all__ = ["format_markdown", "formats", "formats_markdown", "main"]
