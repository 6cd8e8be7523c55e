"""Everything that the author of a format needs, in one import; see "Add a format" in the documentation.

These names are stable, as defined in `docs/explanation/stability.md`.
"""

from __future__ import annotations

from intake_img.errors import AxesError, CannotWriteError, FormatError, MissingExtraError, SceneError
from intake_img.formats.arguments import check_level
from intake_img.formats.base import Format, Handle, NoOptions, PlaneArray, RawArray, StoredArray
from intake_img.formats.format_source import FormatSource, source_of
from intake_img.formats.options import ScaledOption, option
from intake_img.formats.probe import Probe
from intake_img.model.affine import AFFINE_AXES, Affine
from intake_img.model.axes import default_axes
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.storage.files import ByteReader, File
from intake_img.storage.inflated import Inflated
from intake_img.storage.raw import map_raw, read_raw
from intake_img.storage.streams import iter_planes, write_planes

__all__ = [
    "AFFINE_AXES",
    "Affine",
    "AxesError",
    "ByteReader",
    "CannotWriteError",
    "Coordinate",
    "File",
    "Format",
    "FormatError",
    "FormatSource",
    "Handle",
    "Image",
    "Inflated",
    "MissingExtraError",
    "NoOptions",
    "Pixels",
    "PlaneArray",
    "Probe",
    "RawArray",
    "Region",
    "ScaledOption",
    "SceneError",
    "StoredArray",
    "Variable",
    "check_level",
    "default_axes",
    "iter_planes",
    "map_raw",
    "option",
    "read_raw",
    "source_of",
    "write_planes",
]
