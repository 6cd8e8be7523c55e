"""The conformance tests ("laws") for drivers, for use in the tests of plug-ins.

Install the driver (one entry point in the group ``intake.drivers``) and run the laws for all installed drivers::

    pytest --pyargs intake_img.testing                       # all drivers
    pytest --pyargs intake_img.testing -k myformat           # the driver of that name
    pytest --pyargs intake_img.testing -k "not streams"      # without the 300 MB image

or for one class, installed or not, from your own tests::

    from intake_img.testing import DriverLaws
    from mypackage import MySource

    class TestMySource(DriverLaws):
        driver_class = MySource

This requires pytest.

The laws, each a test of `DriverLaws`:

- declares itself: name, entry point, extensions or magic bytes, every option named and documented;
- reads the contents of its sample (`ImageSource.sample`); a driver that cannot write must have a sample;
- keeps or refuses: each of `standard_datasets` comes back equal (values, dtype, dims, coordinates, attributes) or is
  refused with `CannotWriteError`, by every extension; a driver that writes keeps at least one of them;
- lazy: opening, showing, pickling and describing an image reads no pixel, and a region reads only its own pixels;
- closed: no file stays open after ``close``, or when the Dataset is gone, and lazy data compute after ``close`` too;
- picklable: sources and Datasets, dask or not, compute in another process;
- a region equals the same region of the complete image, for every chunking, partition, thread and order of axes;
- plain: attributes are JSON, and can be saved to NetCDF, Zarr and YAML unchanged;
- private: `Format.public_header` contains no names of people and no paths from any part of the header;
- fails well: truncated, damaged, empty and foreign files raise an error of `intake_img.errors`, or are read correctly;
- streams: an image larger than its memory limit is written, opened and read plane by plane (some seconds);
- small graphs: not more tasks than chunks, and tasks contain names instead of data.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intake_img.testing.datasets import standard_datasets
    from intake_img.testing.equality import assert_same
    from intake_img.testing.laws import DriverLaws

__all__ = ["DriverLaws", "assert_same", "standard_datasets"]

_HOMES = {"DriverLaws": "laws", "assert_same": "equality", "standard_datasets": "datasets"}

if "pytest" in sys.modules:
    sys.modules["pytest"].register_assert_rewrite(*(f"intake_img.testing.{m}" for m in ("equality", "laws", "trials")))


def __getattr__(
    name: str,
) -> Any:  # late import: subprocesses need neither pytest nor the laws
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
