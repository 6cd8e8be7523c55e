"""The command ``intake-img``: what is in a file, conversion, catalogs, the table of formats, and a demonstration.

Each command is a few lines over the functions of the package. Exit codes: 0 done, 1 the data or the disk are at fault,
2 the command line is. Heavy modules are imported by the commands that need them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from intake_img.errors import IntakeImgError, SceneError, TargetExistsError
from intake_img.model.text import escaped, json_text, printable

__all__ = ["formats", "formats_markdown", "main"]

_MAX_LEVELS = 32


class _UsageError(Exception):
    """The command line asks for something that does not exist."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files and units may lie beyond the terminal's character set
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    with _short_warnings(), _terminated():
        try:
            code = arguments.run(arguments)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader of our output, such as head, has seen enough
            _silence_stdout()
            return 0
        except _UsageError as exc:
            return _complain(exc, 2)
        except (IntakeImgError, OSError) as exc:
            return _complain(exc, 1)
        except KeyboardInterrupt:
            return _complain("interrupted", 130)


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that writers remove their partial files."""

    def leave(number: int, _: Any) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(problem: object, code: int) -> int:
    text = str(problem)
    if isinstance(problem, OSError) and problem.strerror:
        text = f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    print(f"intake-img: error: {printable(text, 5000)}", file=sys.stderr)
    return code


def _silence_stdout() -> None:
    """Point standard output to nowhere, so that Python's last flush does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"intake-img: warning: {printable(message, 5000)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


# the command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="intake-img", description="Open, inspect and convert microscopy images.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_info(commands)
    _add_convert(commands)
    _add_catalogs(commands)
    command = _command(commands, "formats", _formats, "list the formats that can be read and written")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--markdown", action="store_true", help="print a Markdown table")
    from intake_img.accessor.coloc.command import add_command

    add_command(commands, _command, _lazy)
    from intake_img.portal.command import add_command as add_portal

    add_portal(commands, _command)
    command = _command(commands, "demo", _demo, "load, save and check sample images from a shipped catalog")
    command.add_argument(
        "--output", metavar="FOLDER", default="demo-output", help="where to put the files (default: %(default)s)"
    )
    return parser


def _lazy(uri: str) -> Any:
    from intake_img.io import imload

    return imload(uri)


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".", allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        from intake_img import __version__

        print(f"intake-img {__version__}")
        parser.exit()


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", _info, "say what is in an image file, without reading its pixels")
    parser.add_argument("uri", metavar="URI", help="path or URL, folder or pattern; FILE@SCENE names a scene")
    _add_source_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--header", action="store_true", help="print the format's own header too (in JSON)")


def _add_convert(commands: Any) -> None:
    parser = _command(commands, "convert", _convert, "convert an image; the format is that of the target's extension")
    parser.add_argument("source", metavar="SOURCE", help="path or URL, folder or pattern; FILE@SCENE names a scene")
    parser.add_argument("target", metavar="TARGET", help="path or URL, e.g. image.ome.tif, image.zarr")
    _add_source_options(parser)
    parser.add_argument(
        "--compress", metavar="CODEC", help="a codec of the format, 'yes' for a good one, 'no' for none"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the target if it exists")
    parser.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], type=_pair,
        help="option of the format's writer, see 'intake-img formats'; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--target-option", metavar="KEY=VALUE", action="append", default=[], type=_pair,
        help="option of the file system of the target; may be repeated",
    )  # fmt: skip
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=None, help="show a progress bar")


def _add_catalogs(commands: Any) -> None:
    parser = _command(commands, "scan", _scan, "find the images in a folder and write a catalog of them")
    parser.add_argument("folder", metavar="FOLDER", help="folder that holds images")
    parser.add_argument(
        "-o",
        "--output",
        metavar="CATALOG",
        help="the catalog (default: FOLDER/catalog.yml), or a table of images, .parquet or .sqlite",
    )
    parser.add_argument("--exclude", metavar="PATH", action="append", default=[],
                        help="leave out a path below FOLDER, such as 'old/*'; may be repeated")  # fmt: skip
    parser.add_argument("--no-recursive", action="store_true", help="do not look into the folders below")
    parser.add_argument("--overwrite", action="store_true", help="begin the catalog anew instead of adding to it")
    for name, run, help_ in (
        ("validate", _validate, "check a catalog of others: is it safe to open, and complete?"),
        ("list", _list, "list the entries of a catalog; nothing that it says is run"),
        ("search", _search, "list the entries of a catalog that mention all words"),
    ):
        parser = _command(commands, name, run, help_)
        parser.add_argument("catalog", metavar="CATALOG", help="path or URL of a YAML file")
        if name == "search":
            parser.add_argument("words", metavar="WORD", nargs="+", help="what name, description or metadata mention")
        if name == "validate":
            parser.add_argument("--open", action="store_true", help="open each image too: is it there, can it be read?")
        else:
            parser.add_argument("--depth", metavar="N", type=int, default=5, help="how many nested catalogs deep to go")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--root", metavar="FOLDER", action="append",
                            help="where images may be (default: the catalog's folder); may be repeated")  # fmt: skip
        parser.add_argument("--scheme", metavar="SCHEME", action="append", default=[],
                            help="URLs that the catalog may name, such as https; may be repeated")  # fmt: skip


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scene", metavar="SCENE", help="which image of the file, by number or name, or 'all'")
    parser.add_argument("--level", metavar="N", type=_level, default=0, help="level of a pyramid; 0 is full resolution")
    parser.add_argument(
        "--storage-option", metavar="KEY=VALUE", action="append", default=[], type=_pair,
        help="option of the file system of the source, e.g. anon=true for s3://; may be repeated",
    )  # fmt: skip


def _level(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0 or a positive number, got {text!r}")
    return int(text)


def _pair(text: str) -> tuple[str, Any]:
    """Split KEY=VALUE; the value is read as YAML, so that numbers, true, false and lists are what they look like."""
    import yaml

    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value


# the commands


def _open(uri: str, arguments: argparse.Namespace, **options: Any) -> Any:
    """Return the source, with the options of the command line that were given."""
    from intake_img.formats.registry import open_any

    given = {
        "scene": arguments.scene,
        "level": arguments.level or None,
        "storage_options": dict(arguments.storage_option) or None,
        **options,
    }
    try:
        return open_any(uri, **{k: v for k, v in given.items() if v is not None})
    except (TypeError, ValueError) as exc:
        if isinstance(exc, IntakeImgError):
            raise
        raise _UsageError(exc) from exc


def _info(arguments: argparse.Namespace) -> int:

    from intake_img.accessor.display import as_text, summary

    source = _open(arguments.uri, arguments)
    ds = source.dataset(chunks="auto")
    facts = summary(ds)
    if levels := _levels(source, ds):
        facts["levels"] = levels
    if arguments.header:
        facts["header"] = ds.img.header
    source.close()
    if arguments.json or arguments.header:
        print(json_text(facts))
        return 0
    print(as_text(facts, title=""))
    if levels:
        print("  levels    " + ", ".join(" × ".join(map(str, shape)) for shape in levels))
    return 0


def _levels(source: Any, ds: Any) -> list[list[int]]:
    """Shapes of the first variable at all levels of a pyramid; empty if there is but one."""
    import inspect

    if "level" not in inspect.signature(type(source)).parameters or source.level:
        return []
    name, first = next(iter(ds.data_vars.items()))
    shapes = [list(first.shape)]
    for level in range(1, _MAX_LEVELS):
        try:
            one = source.renewed(level=level)
            shapes.append(list(one.dataset(chunks=None)[name].shape))
        except (SceneError, KeyError):  # the level does not exist, or lacks the variable
            break
    return shapes if len(shapes) > 1 else []


def _convert(arguments: argparse.Namespace) -> int:
    from intake_img.accessor.display import byte_size
    from intake_img.formats.registry import writer_for
    from intake_img.io import imsave
    from intake_img.storage.files import File

    storage = dict(arguments.target_option) or None
    writer = writer_for(File.parse(arguments.target, storage))
    known = _writer_options(writer)
    options = dict(arguments.option)
    if unknown := [key for key in options if key not in known]:
        listed = ", ".join(known) or "none of its own"
        raise _UsageError(f"--option {unknown[0]}: the writer of {writer.format_name} has {listed}")
    source = _open(arguments.source, arguments)
    ds = source.dataset()
    try:
        written = imsave(
            ds, arguments.target, _compress(arguments.compress), overwrite=arguments.overwrite,
            progress=arguments.progress, storage_options=storage, **options,
        )  # fmt: skip
    except TargetExistsError as exc:
        raise TargetExistsError(
            f"{arguments.target} exists: choose another name, or give --overwrite to replace it"
        ) from exc
    size = sum(v.nbytes for v in ds.data_vars.values())
    source.close()
    where = written[0] if len(written) == 1 else f"{len(written)} files, {written[0]} to {written[-1]}"
    print(f"{escaped(where)}: {byte_size(size)} of pixels as {writer.format_name}")
    return 0


def _compress(text: str | None) -> Any:
    words = {"yes": True, "true": True, "no": False, "false": False, "none": False}
    return words.get(text.lower(), text) if text is not None else None


def _scan(arguments: argparse.Namespace) -> int:
    from intake_img.catalog import scan, write_catalog

    folder = os.path.expanduser(arguments.folder)
    target = arguments.output or os.path.join(folder, "catalog.yml")
    found = scan(folder, recursive=not arguments.no_recursive, exclude=arguments.exclude)
    if target.lower().endswith((".parquet", ".sqlite", ".sqlite3", ".db")):
        found, target = _with_table(found, target, arguments.overwrite)
    there = os.path.exists(target) and not arguments.overwrite
    changes = write_catalog(found, target, update=there, overwrite=not there)
    for path, reason in found.skipped.items():
        print(f"intake-img: skipped {escaped(path)}: {printable(reason)}", file=sys.stderr)
    for path, note in found.notes.items():
        print(f"intake-img: note: {escaped(path)}: {note}", file=sys.stderr)
    for name in changes.missing:
        print(f"intake-img: the file of {name!r} is not found any more; its entry stays", file=sys.stderr)
    if changes.roots:
        print(f"intake-img: these images do not lie below the catalog's folder; open it with "
              f"open_catalog({changes.path!r}, roots={changes.roots!r})", file=sys.stderr)  # fmt: skip
    counts = {what: len(getattr(changes, what)) for what in ("added", "refreshed", "kept", "missing")}
    listed = ", ".join(f"{n} {what}" for what, n in {**counts, "skipped": len(found.skipped)}.items())
    print(f"{escaped(changes.path)}: {listed}")
    return 0


def _with_table(found: Any, target: str, overwrite: bool) -> tuple[Any, str]:
    """Write a table of images; return the entry of a catalog that names it, and the path of that catalog."""
    from intake_img.catalog import write_table

    try:
        table = write_table(found, target, overwrite=overwrite)
    except FileExistsError as exc:
        raise TargetExistsError(f"{target} exists: choose another name, or give --overwrite to replace it") from exc
    print(f"{escaped(target)}: {len(table)} images")
    stem, _ = os.path.splitext(target)
    name = os.path.basename(target)
    entry = {"driver": "image_table", "description": f"{len(table)} images",
             "args": {"uri": "{{ CATALOG_DIR }}/" + name}}  # fmt: skip
    return _Found({"images": entry}, found.skipped, found.notes), stem + ".yml"


class _Found(dict[str, Any]):
    """The only entry of the catalog of a table, with what the scan left out."""

    def __init__(self, entries: Any, skipped: Any, notes: Any) -> None:
        super().__init__(entries)
        self.skipped, self.notes = skipped, notes


def _limits(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"roots": arguments.root, "schemes": arguments.scheme}


def _validate(arguments: argparse.Namespace) -> int:
    from intake_img.catalog import validate

    unopened: dict[str, str] = {}
    problems = validate(arguments.catalog, open_images=arguments.open, unopened=unopened, **_limits(arguments))
    for name, why in unopened.items():
        print(f"intake-img: not opened: {escaped(name)}: {printable(why)}", file=sys.stderr)
    if arguments.json:
        print(json_text([vars(p) for p in problems]))
    else:
        rest = "" if arguments.open else " (the images were not opened: --open does that)"
        clean = f"{escaped(arguments.catalog)}: nothing to object to{rest}"
        print("\n".join(map(str, problems)) if problems else clean)
    return 1 if problems else 0


def _list(arguments: argparse.Namespace) -> int:
    from intake_img.catalog import open_catalog

    return _entries(open_catalog(arguments.catalog, **_limits(arguments)).walk(arguments.depth), arguments.json)


def _search(arguments: argparse.Namespace) -> int:
    from intake_img.catalog import open_catalog

    found = open_catalog(arguments.catalog, **_limits(arguments)).search(" ".join(arguments.words), arguments.depth)
    return _entries(found.entries, arguments.json)


def _entries(entries: Any, as_json: bool) -> int:

    if as_json:
        facts = {name: {**entry.describe(), "name": name} for name, entry in entries.items()}
        print(json_text(facts))
        return 0
    widths = [max(map(len, column), default=0) for column in ([*entries], [e.driver for e in entries.values()])]
    for name, entry in entries.items():
        print(f"{escaped(name):<{widths[0]}}  {entry.driver:<{widths[1]}}  {printable(entry.description)}".rstrip())
    return 0


def formats() -> list[dict[str, Any]]:
    """Return a row for each installed driver, in the order of the table.

    Returns
    -------
    list of dict
        ``name``, ``format``, ``extensions``, ``reads``, ``writes``, ``extra``, ``read_options`` and ``write_options``.
    """
    import inspect

    from intake_img.formats.registry import can_write, drivers
    from intake_img.formats.source import ImageSource

    common = {"uri", "chunks", "output_axis_order", "metadata", "storage_options"}
    return [
        {
            "name": name,
            "format": cls.format_name,
            "extensions": list(cls.extensions),
            "reads": cls.describe_image is not ImageSource.describe_image,
            "writes": can_write(cls),
            "extras": dict(cls.extras),
            "read_options": [p for p in inspect.signature(cls).parameters if p not in common],
            "write_options": _writer_options(cls) if can_write(cls) else [],
        }
        for name, cls in drivers().items()
    ]


def _writer_options(cls: Any) -> list[str]:
    """Names of the options that are the user's to give: not those that imsave fills."""
    import inspect

    return [p for p in inspect.signature(cls.write).parameters
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


def _demo(arguments: argparse.Namespace) -> int:
    from intake_img.doors.demo import run

    return run(arguments.output)


if __name__ == "__main__":
    sys.exit(main())
