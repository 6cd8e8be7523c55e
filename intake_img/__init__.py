"""Microscopy images by name: lazy, labelled arrays from any format, through Intake and xarray.

`imload` opens, `imsave` writes, ``ds.img`` works on what was loaded; every format is an Intake driver. `scan`,
`write_catalog` and `open_catalog` make and open catalogs.
"""

from intake_img import accessor, intake2  # noqa: F401  (registers ds.img, and the readers of Intake 2)
from intake_img.accessor.patches import patches
from intake_img.detect import autodetect
from intake_img.io import imload, imsave
from intake_img.source import ImageSource

__version__ = "0.1.0"
__all__ = ["ImageSource", "__version__", "autodetect", "imload", "imsave", "open_catalog", "patches", "scan",
           "write_catalog"]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in ("open_catalog", "scan", "write_catalog"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from intake_img import catalog

    globals()[name] = getattr(catalog, name)  # imported when it is first used
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
