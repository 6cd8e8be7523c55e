"""Microscopy images by name: lazy, labelled arrays from any format, through Intake and xarray.

`imload` opens, `imsave` writes, ``ds.img`` works on what was loaded; every format is an Intake driver.
"""

from intake_img import accessor, intake2  # noqa: F401  (registers ds.img, and the readers of Intake 2)
from intake_img.detect import autodetect
from intake_img.io import imload, imsave
from intake_img.source import ImageSource

__version__ = "0.1.0"
__all__ = ["ImageSource", "__version__", "autodetect", "imload", "imsave"]
