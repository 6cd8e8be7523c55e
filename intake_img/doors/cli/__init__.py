"""The command ``intake-img``: images, conversion, comparison, catalogs, the table of formats, shell completion.

Each module has a group of commands, which are thin wrappers of the package's functions. Exit codes: 0 for success, 1
for faults of the data or the disk, 2 for errors in the command line. Heavy modules are imported by the commands that
need them.
"""

from intake_img.doors.cli.formats_table import format_markdown, formats, formats_markdown
from intake_img.doors.cli.main import main

__all__ = ["format_markdown", "formats", "formats_markdown", "main"]
