"""Microscopy images by name: lazy, labelled arrays from any format, through Intake and xarray.

`imload` opens images, `imsave` saves them, ``ds.img`` has methods for loaded images; every format is an Intake driver.
`scan`, `write_catalog` and `open_catalog` make and open catalogs; `CziStack`, `FileStack`, `MemoryStack` and
`ZarrStack` are image stacks for CAREamics.

Names are imported when they are first used (PEP 562); importing the package only registers ``ds.img`` and the readers
of Intake 2.
"""

import importlib
import os
import sys
import typing

if typing.TYPE_CHECKING:
    from intake_img import create as create
    from intake_img.accessor.patches import patches
    from intake_img.accessor.stacks.sources import CziStack, FileStack, MemoryStack, ZarrStack
    from intake_img.catalog import open_catalog, scan, write_catalog
    from intake_img.catalog import open_table as open_table
    from intake_img.catalog import write_table as write_table
    from intake_img.collections.plates.plate import plate as plate
    from intake_img.create import from_array as from_array
    from intake_img.create import from_binary as from_binary
    from intake_img.create import from_example as from_example
    from intake_img.create import from_list as from_list
    from intake_img.create import from_path as from_path
    from intake_img.create import from_png as from_png
    from intake_img.create import from_random as from_random
    from intake_img.create import from_rdd as from_rdd
    from intake_img.create import from_tif as from_tif
    from intake_img.doors.references import virtualize as virtualize
    from intake_img.formats.registry import autodetect
    from intake_img.formats.source import ImageSource
    from intake_img.io import imload, imsave

__version__ = "0.1.0"
__all__ = [
    "CziStack",
    "FileStack",
    "ImageSource",
    "MemoryStack",
    "ZarrStack",
    "__version__",
    "autodetect",
    "imload",
    "imsave",
    "open_catalog",
    "patches",
    "scan",
    "write_catalog",
]
_HOME = {  # where a name is defined
    "intake_img.accessor.patches": ("patches",),
    "intake_img.accessor.stacks.sources": ("CziStack", "FileStack", "MemoryStack", "ZarrStack"),
    "intake_img.catalog": ("open_catalog", "open_table", "scan", "write_catalog", "write_table"),
    "intake_img.collections.plates.plate": ("plate",),
    "intake_img.create": (
        "from_array",
        "from_binary",
        "from_example",
        "from_list",
        "from_path",
        "from_png",
        "from_random",
        "from_rdd",
        "from_tif",
    ),
    "intake_img.doors.references": ("virtualize",),
    "intake_img.formats.registry": ("autodetect",),
    "intake_img.formats.source": ("ImageSource",),
    "intake_img.io": ("imload", "imsave"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "create":
        return importlib.import_module("intake_img.create")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULE_OF[name]), name)
    if name in __all__:
        globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULE_OF, "create"})


def _is_command() -> bool:
    """Return whether this process is ``intake-img`` or ``python -m intake_img``, which parses its arguments first."""
    program = sys.orig_argv[-len(sys.argv) :] if sys.argv else []
    return bool(program) and os.path.basename(program[0]).partition(".")[0] in ("intake-img", "intake_img")


if not _is_command():
    from intake_img.doors import registration

    registration.register()
