"""``intake-img convert``: one image to a file, or many into a folder; each target appears atomically."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any

from intake_img.doors.cli.batch import Job, run_batch
from intake_img.doors.cli.failures import UsageError, usage_of
from intake_img.doors.cli.formats_table import writer_options
from intake_img.doors.cli.named_images import NamedImage, items
from intake_img.doors.cli.parsing import Parser, add_sources, command, count, pair
from intake_img.doors.cli.plates import save_plate, whole_plate
from intake_img.errors import CannotWriteError, TargetExistsError, UnknownFormatError
from intake_img.model.text import escaped, json_text, printable

__all__ = ["add_commands"]

_TOP = 256  # pixels: the longest side of the smallest level of a pyramid


def add_commands(commands: Any) -> None:
    """Add ``convert``."""
    usage = (
        "%(prog)s [options] SOURCE TARGET\n       %(prog)s [options] SOURCE [SOURCE ...] --to FOLDER --format EXTENSION"
    )
    parser = command(commands, "convert", _convert, "convert images; the extension chooses the format", usage=usage)
    add_sources(parser, "SOURCE")
    _add_batch(parser)
    parser.add_argument(
        "--compress", metavar="CODEC", help="a codec of the format, 'yes' for a good one, 'no' for none"
    )
    parser.add_argument("--pyramid", action="store_true", help=f"add halved levels, down to {_TOP} pixels")
    parser.add_argument("--overwrite", action="store_true", help="replace targets that exist")
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=pair,
        help="option of the format's writer, see 'intake-img formats'; may be repeated",
    )
    parser.add_argument(
        "--target-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        type=pair,
        help="option of the file system of the target; may be repeated",
    )
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=None, help="show a progress bar")
    parser.add_argument("--json", action="store_true", help="print JSON, an image a line")


def _add_batch(parser: Parser) -> None:
    parser.add_argument("--to", metavar="FOLDER", help="convert each image into this folder, under its own name")
    parser.add_argument("--format", metavar="EXTENSION", help="extension of the images in FOLDER (default: ome.zarr)")
    parser.add_argument("--together", action="store_true", help="with --to: read a folder or pattern as one image")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=count,
        help="convert this many images, or fields of a plate, at a "
        "time (default: one image; of a plate a field for each core)",
    )
    parser.add_argument("--skip-existing", action="store_true", help="leave targets that exist as they are")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume an interrupted run: targets that are complete and not older than their source are kept",
    )


def _convert(arguments: argparse.Namespace) -> int:
    if arguments.to is not None:
        return _many(arguments)
    if len(arguments.sources) != 2:
        raise UsageError("expected SOURCE and TARGET, or any number of sources and --to FOLDER")
    if lacking := [o for o in ("format", "together", "skip_existing") if getattr(arguments, o)]:
        raise UsageError(f"--{lacking[0].replace('_', '-')} needs --to FOLDER")
    arguments.sources, target = arguments.sources[:1], arguments.sources[1]
    writer = _writer(target, arguments)
    (item, *more) = items(arguments, each=False)
    if more:
        raise UsageError(f"{arguments.sources[0]} names {1 + len(more)} images: give --to FOLDER")
    if _kept(Job(item, target), arguments):
        kept = {"source": item.name, "status": "skipped", "files": []}
        print(json_text(kept, indent=None) if arguments.json else f"{escaped(target)} is complete: kept")
        return 0
    written, size = _save(item, target, writer, arguments, arguments.progress)
    if arguments.json:
        print(json_text({"source": item.name, "status": "converted", "files": written}, indent=None))
        return 0
    from intake_img.accessor.display import byte_size

    where = written[0] if len(written) == 1 else f"{len(written)} files, {written[0]} to {written[-1]}"
    print(f"{escaped(where)}: {byte_size(size)} of pixels as {writer.title}")
    return 0


def _writer(target: str, arguments: argparse.Namespace) -> Any:
    """Return the writer, if it supports the given options."""
    from intake_img.formats.registry import writer_for
    from intake_img.storage.files import File

    try:
        writer = writer_for(File.parse(target, dict(arguments.target_option)))
    except (CannotWriteError, UnknownFormatError) as exc:  # an error of the name: nothing was opened
        raise UsageError(f"--format {arguments.format}: {exc}" if arguments.to else exc) from exc
    known = writer_options(writer)
    if unknown := [key for key, _ in arguments.option if key not in known]:
        listed = ", ".join(known) or "none of its own"
        raise UsageError(f"--option {unknown[0]}: the writer of {writer.title} has {listed}")
    if arguments.pyramid and "pyramid" not in known:
        raise UsageError(f"--pyramid: {writer.title} cannot store pyramids; OME-Zarr and OME-TIFF do")
    return writer


def _save(
    item: NamedImage,
    target: str,
    writer: Any,
    arguments: argparse.Namespace,
    progress: bool | Callable[[int], None] | None,
) -> tuple[list[str], int]:
    """Convert an image; return the written files and the size of the pixels."""
    from intake_img.io import imsave

    source = item.open()
    if (plate := whole_plate(source, target, writer, arguments)) is not None:
        return save_plate(plate, target, _compress(arguments.compress), arguments, _depth)
    ds = source.dataset(chunks="" if arguments.pyramid else None)
    _note_scenes(item, source, ds)
    options = dict(arguments.option)
    if arguments.pyramid:
        options.setdefault("pyramid", _depth(ds))
    try:
        written = imsave(
            ds,
            target,
            _compress(arguments.compress),
            overwrite=arguments.overwrite,
            resume=arguments.resume,
            progress=progress,
            storage_options=dict(arguments.target_option) or None,
            **options,
        )
    except TargetExistsError as exc:
        raise TargetExistsError(f"{target} exists: choose another name, or give --overwrite to replace it") from exc
    finally:
        source.close()
    return written, sum(v.nbytes for v in ds.data_vars.values())


def _note_scenes(item: NamedImage, source: Any, ds: Any) -> None:
    """Say that only the first of several images of a file is converted, unless one was named."""
    names = ds.attrs.get("scenes", ())
    if len(names) > 1 and getattr(source, "scene", None) is None:
        listed = ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")
        note = f"{item.name} contains {len(names)} images ({listed}), the first is converted: name others as FILE@SCENE"
        print(f"intake-img: {printable(note, 5000)}", file=sys.stderr)


def _depth(ds: Any) -> int:
    """Return how often to halve the plane until it fits into the smallest level."""
    side = max(ds.sizes.get("y", 1), ds.sizes.get("x", 1))
    return max(0, math.ceil(math.log2(side / _TOP)))


def _compress(text: str | None) -> Any:
    words = {"yes": True, "true": True, "no": False, "false": False, "none": False}
    return words.get(text.lower(), text) if text is not None else None


# many images


def _many(arguments: argparse.Namespace) -> int:
    extension = (arguments.format or "ome.zarr").lstrip(".")
    writer = _writer(f"{arguments.to.rstrip('/')}/image.{extension}", arguments)
    found = items(arguments, each=not arguments.together)
    jobs = [Job(item, f"{arguments.to.rstrip('/')}/{item.place}.{extension}") for item in found]
    _check_targets(jobs)

    def work(job: Job, progress: Callable[[int], None]) -> list[str] | None:
        if _kept(job, arguments):
            return None
        with usage_of(arguments):
            return _save(job.item, job.target, writer, arguments, progress)[0]

    return run_batch(jobs, work, arguments.jobs or 1, arguments.progress, arguments.json)


def _check_targets(jobs: list[Job]) -> None:
    """Raise an error if two images would get the same name, also on case-insensitive file systems."""
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.target.casefold(), job)
        if other is not job:
            raise UsageError(
                f"{other.item.name} and {job.item.name} would both become {job.target}: "
                "convert them into different folders"
            )


def _kept(job: Job, arguments: argparse.Namespace) -> bool:
    """True if the target stays as it is: it exists, and the run is resumed or skips such targets."""
    from intake_img.storage.files import File
    from intake_img.storage.staging import sweep

    if not ((arguments.skip_existing or arguments.resume) and _stays(job, arguments)):
        return False
    if arguments.resume:  # a writer that was killed after its last step may have left its staging folder
        sweep(File.parse(job.target, dict(arguments.target_option)))
    return True


def _stays(job: Job, arguments: argparse.Namespace) -> bool:
    """True if the target exists, is complete and, for a resumed run, is not older than its source."""
    from intake_img.collections.sequence import parts
    from intake_img.errors import FormatError
    from intake_img.storage.files import File

    target = File.parse(job.target, dict(arguments.target_option))
    if target.exists():
        return arguments.skip_existing or not _older(target, job.item.name)
    try:
        return bool(parts(target))
    except FormatError:  # the write of its files was interrupted
        if arguments.resume:
            return False
        raise


def _older(target: Any, source: str) -> bool:
    import os

    return target.local and os.path.isfile(source) and os.path.getmtime(target.path) < os.path.getmtime(source)
