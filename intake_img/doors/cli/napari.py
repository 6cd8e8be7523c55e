"""``intake-img napari``: images in napari, a layer for each channel and for labels, with the levels of the file."""

from __future__ import annotations

import argparse
from typing import Any

from intake_img.doors.cli.named_images import NamedImage, for_each, items, levels
from intake_img.doors.cli.parsing import add_sources, command
from intake_img.model.packages import imported

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add ``napari``."""
    parser = command(commands, "napari", _run, "open images in napari, lazily (needs napari and a display)")
    add_sources(parser)
    parser.add_argument("--each", action="store_true", help="the images in a folder or pattern one by one")


def _run(arguments: argparse.Namespace) -> int:

    napari = imported("napari", "napari", "showing images in napari")
    viewer = napari.Viewer()
    code = for_each(items(arguments, arguments.each), lambda item: _add(viewer, item), arguments)
    if not code:
        napari.run()
    return code


def _add(viewer: Any, item: NamedImage) -> None:
    from napari.layers import Layer

    from intake_img.accessor.napari_layers import layers_of

    source = item.open()
    for layer in layers_of(source.dataset(chunks="auto"), [level for _, level in levels(source)]):
        viewer.add_layer(Layer.create(*layer))
