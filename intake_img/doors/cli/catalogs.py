"""Commands for catalogs: scan a folder, validate, list and search."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from intake_img.doors.cli.catalog_tables import is_database_url, is_table, listed, problems
from intake_img.doors.cli.parsing import add_limits, command
from intake_img.errors import TargetExistsError
from intake_img.model.progress_bar import meter
from intake_img.model.text import escaped, json_text, printable

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add ``scan``, ``validate``, ``list`` and ``search``."""
    parser = command(commands, "scan", _scan, "find the images in a folder and write a catalog of them")
    parser.add_argument("folder", metavar="FOLDER", help="folder or URL that contains images")
    parser.add_argument(
        "-o",
        "--output",
        metavar="CATALOG",
        help="the catalog (default: FOLDER/catalog.yml; catalog.yml for a URL), or a table of images, .parquet or "
        ".sqlite",
    )
    parser.add_argument(
        "--exclude",
        metavar="PATH",
        action="append",
        default=[],
        help="leave out a path below FOLDER, such as 'old/*'; may be repeated",
    )
    parser.add_argument(
        "--memory",
        metavar="FILE",
        help="file in which the scan keeps its results: the next one reads only what has changed, and an interrupted "
        "one continues; an existing table is updated",
    )
    parser.add_argument("--workers", metavar="N", type=int, help="number of files to inspect at a time, in threads")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=None, help="show a progress bar")
    parser.add_argument("--no-recursive", action="store_true", help="do not scan subfolders")
    parser.add_argument("--overwrite", action="store_true", help="write a new catalog instead of updating it")
    for name, run, help_ in (
        ("validate", _validate, "check whether a catalog is safe to open, and complete"),
        ("list", _list, "list the entries of a catalog, without running code from it"),
        ("search", _search, "list the entries of a catalog that mention all words"),
    ):
        parser = command(commands, name, run, help_)
        parser.add_argument("catalog", metavar="CATALOG", help="path or URL of a YAML file, or a table of images")
        if name == "search":
            parser.add_argument("words", metavar="WORD", nargs="+", help="words in the name, description or metadata")
        if name == "validate":
            parser.add_argument("--open", action="store_true", help="open each image too: is it there, can it be read?")
        else:
            parser.add_argument("--depth", metavar="N", type=int, default=5, help="depth of nested catalogs to follow")
        parser.add_argument("--json", action="store_true", help="print JSON")
        add_limits(parser)


def _scan(arguments: argparse.Namespace) -> int:
    from intake_img.catalog import scan, write_catalog

    folder = os.path.expanduser(arguments.folder)
    remote = "://" in folder
    target = arguments.output or ("catalog.yml" if remote else os.path.join(folder, "catalog.yml"))
    with meter(arguments.progress, None, "scanning", "file", scaled=False) as step:
        found: Any = scan(
            folder,
            recursive=not arguments.no_recursive,
            exclude=[*arguments.exclude, *(_written(target, folder) if arguments.memory else ())],
            progress=lambda _: step(1),
            memory=arguments.memory,
            workers=arguments.workers,
        )
    if found.unchanged and os.path.exists(target) and not arguments.overwrite:
        print(f"{escaped(target)}: nothing changed, {len(found)} images, {len(found.skipped)} skipped")
        return 0
    if is_database_url(target):
        _write_table(found, target, arguments.overwrite, False)
        return 0
    if is_table(target):
        found, target = _with_table(found, target, arguments.overwrite, arguments.memory is not None)
    there = os.path.exists(target) and not arguments.overwrite
    changes = write_catalog(found, target, update=there, overwrite=not there)
    for row in found.unused.rows():
        print(f"intake-img: {row}", file=sys.stderr)
    for path, note in found.notes.items():
        print(f"intake-img: note: {escaped(path)}: {note}", file=sys.stderr)
    for name in changes.missing:
        print(f"intake-img: the file of {name!r} is not found any more; its entry stays", file=sys.stderr)
    if changes.roots:
        print(
            f"intake-img: these images do not lie below the catalog's folder; open it with "
            f"open_catalog({changes.path!r}, roots={changes.roots!r})",
            file=sys.stderr,
        )
    if remote:
        print(f"intake-img: open it with open_catalog({changes.path!r}, roots=[{folder!r}])", file=sys.stderr)
    counts = {what: len(getattr(changes, what)) for what in ("added", "refreshed", "kept", "missing")}
    listed = ", ".join(f"{n} {what}" for what, n in {**counts, "skipped": len(found.skipped)}.items())
    print(f"{escaped(changes.path)}: {listed}, {len(found.others)} other files")
    return 0


def _written(target: str, folder: str) -> list[str]:
    """Return what the command itself writes into the folder, which does not count as a change."""
    names = {target, os.path.splitext(target)[0] + ".yml"}
    inside = [os.path.relpath(name, folder) for name in names]
    return [re.sub(r"([*?\[])", r"[\1]", name) for name in inside if not name.startswith("..")]


def _free_columns(target: str, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the columns that people added to a table, by the names of the images, of which some are still there."""
    from intake_img.catalog import open_table
    from intake_img.catalog.columns import COLUMNS

    rows = [row for row in open_table(target).images.rows() if row["name"] in names]
    return {c: {r["name"]: r[c] for r in rows} for c in (rows[0] if rows else ()) if c not in COLUMNS}


def _write_table(found: Any, target: str, overwrite: bool, update: bool) -> Any:
    from intake_img.catalog import write_table

    free = _free_columns(target, found) if update and not overwrite and os.path.exists(target) else None
    try:
        table = write_table(found, target, overwrite=overwrite or free is not None, columns=free)
    except FileExistsError as exc:
        raise TargetExistsError(f"{target} exists: choose another name, or give --overwrite to replace it") from exc
    print(f"{escaped(target)}: {len(table)} images")
    if any(row["uri"].startswith(("/", "..")) for row in table.images.rows()):
        print(
            f"intake-img: these images do not lie below the table's folder; open it with "
            f"open_table({target!r}, roots=[{found.folder!r}])",
            file=sys.stderr,
        )
    return table


def _with_table(found: Any, target: str, overwrite: bool, update: bool) -> tuple[Any, str]:
    """Write a table of images; return the entry of a catalog that names it, and the path of that catalog."""
    table = _write_table(found, target, overwrite, update)
    stem, _ = os.path.splitext(target)
    name = os.path.basename(target)
    entry = {
        "driver": "image_table",
        "description": f"{len(table)} images",
        "args": {"uri": "{{ CATALOG_DIR }}/" + name},
    }
    return _Found({"images": entry}, found), stem + ".yml"


class _Found(dict[str, Any]):
    """The only entry of the catalog of a table, with the files that the scan skipped."""

    def __init__(self, entries: Any, found: Any) -> None:
        super().__init__(entries)
        self.unused, self.skipped, self.others, self.notes = found.unused, found.skipped, found.others, found.notes


def _limits(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"roots": arguments.root, "schemes": arguments.scheme}


def _validate(arguments: argparse.Namespace) -> int:
    from intake_img.catalog import validate

    unopened: dict[str, str] = {}
    if is_table(arguments.catalog):
        wrong = list(problems(arguments.catalog, arguments.open, _limits(arguments)))
        return _reported(arguments, wrong, wrong)
    found = validate(arguments.catalog, open_images=arguments.open, unopened=unopened, **_limits(arguments))
    for name, why in unopened.items():
        print(f"intake-img: not opened: {escaped(name)}: {printable(why)}", file=sys.stderr)
    return _reported(arguments, list(map(str, found)), [vars(p) for p in found])


def _reported(arguments: argparse.Namespace, wrong: Sequence[str], facts: Sequence[Any]) -> int:
    if arguments.json:
        print(json_text(facts))
    else:
        rest = "" if arguments.open else " (the images were not opened: --open does that)"
        clean = f"{escaped(arguments.catalog)}: nothing to object to{rest}"
        print("\n".join(wrong) if wrong else clean)
    return 1 if wrong else 0


def _list(arguments: argparse.Namespace) -> int:
    from intake_img.catalog import open_catalog

    if is_table(arguments.catalog):
        return _rows(listed(arguments.catalog, (), _limits(arguments)), arguments.json)
    return _entries(open_catalog(arguments.catalog, **_limits(arguments)).walk(arguments.depth), arguments.json)


def _search(arguments: argparse.Namespace) -> int:
    from intake_img.catalog import open_catalog

    if is_table(arguments.catalog):
        return _rows(listed(arguments.catalog, arguments.words, _limits(arguments)), arguments.json)
    found = open_catalog(arguments.catalog, **_limits(arguments)).search(" ".join(arguments.words), arguments.depth)
    return _entries(found.entries, arguments.json)


def _rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> int:
    if as_json:
        print(json_text({str(row.get("name")): row for row in rows}))
        return 0
    _columns([(str(row.get("name")), str(row.get("driver")), str(row.get("description", ""))) for row in rows])
    return 0


def _entries(entries: Any, as_json: bool) -> int:
    if as_json:
        facts = {name: {**entry.describe(), "name": name} for name, entry in entries.items()}
        print(json_text(facts))
        return 0
    _columns([(name, entry.driver, entry.description) for name, entry in entries.items()])
    return 0


def _columns(rows: Sequence[tuple[str, str, str]]) -> None:
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(2)]
    for name, driver, description in rows:
        print(f"{escaped(name):<{widths[0]}}  {escaped(driver):<{widths[1]}}  {printable(description)}".rstrip())
