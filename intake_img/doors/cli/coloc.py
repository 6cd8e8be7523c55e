"""``intake-img coloc``: measure pairs of channels of images, as CSV or as a report with figures."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from intake_img.doors.cli.failures import FAULTS, UsageError, code_of, complain, message_of, usage_of
from intake_img.doors.cli.parsing import command
from intake_img.errors import AxesError
from intake_img.model.text import escaped

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add ``coloc``."""
    parser = command(commands, "coloc", _run, "measure colocalization and write a report with figures")
    parser.add_argument("uri", nargs="+", metavar="URI", help="images")
    parser.add_argument("--pair", nargs=2, action="append", metavar=("A", "B"), help="channels, by name or number")
    parser.add_argument("--out", metavar="FILE", help="a report, .html or .pdf; without, the table is printed as CSV")
    parser.add_argument(
        "--thresholds", default="costes", help="costes, costes_bisection, otsu, 15%%, a number, or none"
    )
    parser.add_argument("--mask", help="variable of the image that is the mask")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing report")


def _run(arguments: argparse.Namespace) -> int:
    from intake_img.io import imload

    if arguments.out is not None and not arguments.out.lower().endswith((".html", ".pdf")):
        raise UsageError(f"--out {arguments.out}: a report is .html or .pdf")
    limits: Any = None if arguments.thresholds == "none" else arguments.thresholds
    with contextlib.suppress(TypeError, ValueError):
        limits = float(limits)
    pairs = arguments.pair
    options = {"pairs": pairs, "thresholds": limits, "mask": arguments.mask}
    if arguments.out is None:
        return _print(arguments, options)
    from intake_img.accessor.coloc.report import report

    images = {uri: imload(uri) for uri in arguments.uri}
    with _named_pair(pairs):
        table = report(images, arguments.out, overwrite=arguments.overwrite, **options)
    rows = f"{len(table)} row{'s' * (len(table) != 1)}"
    print(f"{escaped(arguments.out)}: {rows} of {len(images)} image{'s' * (len(images) != 1)}")
    return 0


def _print(arguments: argparse.Namespace, options: dict[str, Any]) -> int:
    """Print one table of all images, which may have different axes; images that fail are reported."""
    import pandas as pd

    from intake_img.accessor.coloc.report import table_of
    from intake_img.io import imload

    tables, code = [], 0
    for uri in arguments.uri:
        try:
            with usage_of(arguments), _named_pair(options["pairs"]):
                tables.append(_shown(table_of(uri, imload(uri), **options)))
        except FAULTS as exc:
            code = max(code, complain(message_of(exc), code_of(exc)))
    if tables:
        print(pd.concat(tables, ignore_index=True).to_csv(index=False), end="")
    return code


@contextlib.contextmanager
def _named_pair(pairs: Any) -> Iterator[None]:
    """Say that ``--pair`` names what the image lacks."""
    try:
        yield
    except AxesError as exc:
        if pairs is None:
            raise
        raise UsageError(f"--pair: {exc}") from exc


def _shown(table: Any) -> Any:
    """Return a table with the control characters in its texts escaped, since channel names are untrusted."""
    return table.rename(columns=escaped).map(lambda cell: escaped(cell) if isinstance(cell, str) else cell)
