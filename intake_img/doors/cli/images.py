"""Commands that show images: metadata, thumbnails, pictures in the terminal or a window."""

from __future__ import annotations

import argparse
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from intake_img.doors.cli.failures import UsageError
from intake_img.doors.cli.named_images import NamedImage, for_each, items, levels
from intake_img.doors.cli.parsing import Parser, add_sources, command, count
from intake_img.errors import AxesError
from intake_img.model.packages import imported
from intake_img.model.text import escaped, json_text

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from intake_img.formats.source import ImageSource
    from intake_img.model.pixels import Pixels

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add ``info``, ``thumbnail`` and ``show``."""
    parser = command(commands, "info", _info, "show the metadata of images, without reading their pixels")
    add_sources(parser)
    parser.add_argument("--each", action="store_true", help="the images in a folder or pattern one by one")
    parser.add_argument("--json", action="store_true", help="print JSON, an image a line")
    parser.add_argument("--header", action="store_true", help="print the format's own header too (in JSON)")
    parser = command(commands, "thumbnail", _thumbnail, "write small pictures of images as PNG")
    add_sources(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="the picture of a single image (default: NAME.png)")
    parser.add_argument("--to", metavar="FOLDER", help="the folder of the pictures of several images")
    parser.add_argument("--together", action="store_true", help="read a folder or pattern as one image")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures that exist")
    _add_look(parser, 256)
    parser = command(commands, "show", _show, "show images in the terminal, or in a window")
    add_sources(parser)
    parser.add_argument("--each", action="store_true", help="the images in a folder or pattern one by one")
    parser.add_argument("--window", action="store_true", help="open a window (needs a display and matplotlib)")
    _add_look(parser, None)


def _add_look(parser: Parser, size: int | None) -> None:
    shown = "default: %(default)s" if size else "default: as the terminal is wide"
    parser.add_argument("--size", metavar="N", type=count, default=size, help=f"the longer side in pixels ({shown})")
    parser.add_argument("--channel", metavar="C", action="append", help="a channel, by name or number; may be repeated")
    parser.add_argument("--projection", choices=("max", "min", "mean", "sum"), help="project along z")


# info


def _info(arguments: argparse.Namespace) -> int:
    wanted = items(arguments, arguments.each)
    return for_each(wanted, lambda item: _tell(item, arguments, first=item is wanted[0]), arguments)


def _tell(item: NamedImage, arguments: argparse.Namespace, first: bool) -> None:
    from intake_img.accessor.display import as_text, summary

    source = item.open()
    ds, plans = _planned(source)
    facts = summary(ds)
    for variable, plan in zip(facts["variables"].values(), plans, strict=True):
        variable.update(chunks=[max(c, default=0) for c in plan], tasks=math.prod(map(len, plan)))
    name = next(iter(ds.data_vars))
    shapes = [list(level[name].shape) for _, level in levels(source, chunks=None) if name in level]
    if shapes:
        facts["levels"] = [list(ds[name].shape), *shapes]
    if arguments.header:
        facts["header"] = ds.img.header
    source.close()
    if arguments.json or arguments.header:
        print(json_text(facts, indent=None if arguments.json else 2))
        return
    if not first:
        print()
    print(as_text(facts, title="", header="printed by --header"))
    if shapes:
        print("  levels    " + ", ".join(" × ".join(map(str, shape)) for shape in facts["levels"]))


def _planned(source: ImageSource) -> tuple[xr.Dataset, list[tuple[tuple[int, ...], ...]]]:
    """Return a Dataset and the chunks that its variables would have as dask arrays, without importing dask."""
    from intake_img.model.datasets import indexed_lazily

    plans = []

    def planned(pixels: Pixels) -> Any:
        plans.append(pixels.auto_chunks())
        return indexed_lazily(pixels)

    return source.dataset(data=planned), plans


# thumbnail


def _thumbnail(arguments: argparse.Namespace) -> int:
    wanted = items(arguments, each=not arguments.together)
    if arguments.output and (len(wanted) > 1 or arguments.to):
        raise UsageError("--output names the picture of one image: give --to FOLDER for several")
    targets = {item.place: _picture_of(item, arguments) for item in wanted}
    if len(targets) < len(wanted):
        raise UsageError("two images would get the same picture: give their folders, or one by one")
    return for_each(wanted, lambda item: _write(item, targets[item.place], arguments), arguments)


def _picture_of(item: NamedImage, arguments: argparse.Namespace) -> str:
    return arguments.output or os.path.join(arguments.to or ".", *f"{item.place}.png".split("/"))


def _write(item: NamedImage, path: str, arguments: argparse.Namespace) -> None:
    from intake_img.accessor.thumbnail import png
    from intake_img.errors import TargetExistsError
    from intake_img.storage.files import File
    from intake_img.storage.staging import replacing

    if os.path.exists(path) and not arguments.overwrite:
        raise TargetExistsError(f"{path} exists: give --overwrite to replace it")
    picture = _drawn(item, arguments, arguments.size)
    with replacing(File.parse(path), overwrite=arguments.overwrite) as staged, open(staged, "wb") as stream:
        stream.write(png(picture))
    print(f"{escaped(path)}: {picture.shape[1]} × {picture.shape[0]}")


def _drawn(item: NamedImage, arguments: argparse.Namespace, size: int) -> np.ndarray:
    """Return the thumbnail, from the smallest sufficient level of a pyramid."""
    from intake_img.accessor.thumbnail import thumbnail

    source = item.open()
    chosen = source.dataset(chunks="auto")
    for _, smaller in levels(source):
        if max(smaller.sizes.get("y", 0), smaller.sizes.get("x", 0)) < size:
            break
        chosen = smaller
    try:
        return thumbnail(chosen, size, channel=arguments.channel, projection=arguments.projection)
    except (AxesError, KeyError, IndexError) as exc:
        if not arguments.channel:  # then the fault is in the image, which may have no pixels
            raise
        raise UsageError(f"{item.name}: {exc.args[0]}") from exc
    finally:
        source.close()


# show


def _show(arguments: argparse.Namespace) -> int:
    draw = _open_window if arguments.window else _print
    return for_each(items(arguments, arguments.each), lambda item: draw(item, arguments), arguments)


def _print(item: NamedImage, arguments: argparse.Namespace) -> None:
    """Draw in the terminal, in 24-bit colour: a character has two pixels, one above the other."""
    import shutil

    columns, rows = shutil.get_terminal_size()
    picture = _drawn(item, arguments, arguments.size or max(8, min(columns, 2 * (rows - 3))))
    print(escaped(item.name))
    print(_blocks(picture))


def _blocks(picture: np.ndarray) -> str:
    import numpy as np

    if len(picture) % 2:
        picture = np.concatenate([picture, np.zeros_like(picture[:1])])
    lines = []
    for above, below in zip(picture[::2].tolist(), picture[1::2].tolist(), strict=True):
        cells = (f"\x1b[38;2;{r};{g};{b};48;2;{u};{v};{w}m▀" for (r, g, b), (u, v, w) in zip(above, below, strict=True))
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)


def _open_window(item: NamedImage, arguments: argparse.Namespace) -> None:
    plt = imported("matplotlib.pyplot", "plot", "opening a window")
    if plt.get_backend().lower() in ("agg", "pdf", "svg", "ps", "cairo", "template"):
        raise OSError(
            "there is no display to open a window on: leave out --window, or write a picture: intake-img thumbnail"
        )
    source = item.open()
    ax = source.dataset().img.plot(arguments.channel, projection=arguments.projection)
    ax.figure.canvas.manager.set_window_title(item.name)
    plt.show()
    source.close()


if sys.platform == "win32":  # terminal colours are off until this call
    os.system("")
