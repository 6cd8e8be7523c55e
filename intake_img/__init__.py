"""Microscopy images by name: lazy, labelled arrays from any format, through Intake and xarray.

`imload` opens, `imsave` writes, ``ds.img`` works on what was loaded; every format is an Intake driver. `scan`,
`write_catalog` and `open_catalog` make and open catalogs; `CziStack`, `FileStack`, `MemoryStack` and `ZarrStack` are
image stacks for CAREamics.
"""

import importlib
import typing

from intake_img import accessor  # noqa: F401  (registers ds.img)
from intake_img.accessor.patches import patches
from intake_img.doors import intake2  # noqa: F401  (registers the readers of Intake 2)
from intake_img.formats.registry import autodetect
from intake_img.formats.source import ImageSource
from intake_img.io import imload, imsave

if typing.TYPE_CHECKING:
    from intake_img.accessor.stacks.sources import CziStack, FileStack, MemoryStack, ZarrStack
    from intake_img.catalog import open_catalog, scan, write_catalog
    from intake_img.catalog import open_table as open_table
    from intake_img.catalog import write_table as write_table
    from intake_img.doors.references import virtualize as virtualize

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
_LATER = dict.fromkeys(("open_catalog", "scan", "write_catalog"), "intake_img.catalog")
_LATER |= dict.fromkeys(("CziStack", "FileStack", "MemoryStack", "ZarrStack"), "intake_img.accessor.stacks.sources")
_BESIDE = {
    "open_table": "intake_img.catalog",
    "write_table": "intake_img.catalog",
    "plate": "intake_img.collections.plates.plate",
    "virtualize": "intake_img.doors.references",
}


def __getattr__(name: str) -> object:
    if name.startswith("from_"):  # the loaders of `create` are attributes of the package as well
        from intake_img import create

        if name in create.__all__:
            return getattr(create, name)
    if name == "create":
        return importlib.import_module("intake_img.create")
    if name in _BESIDE:
        return getattr(importlib.import_module(_BESIDE[name]), name)
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(_LATER[name]), name)  # imported when it is first used
    return globals()[name]


def __dir__() -> list[str]:
    from intake_img import create

    loaders = (name for name in create.__all__ if name.startswith("from_"))
    return sorted({*__all__, *_BESIDE, "create", *loaders})
