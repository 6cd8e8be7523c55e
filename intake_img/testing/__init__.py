"""The laws that every driver keeps, as tests to run over one's own: what a stranger's driver needs to prove itself.

Install the driver (one entry point in the group ``intake.drivers``) and run the laws over all that is installed::

    pytest --pyargs intake_img.testing                       # all drivers
    pytest --pyargs intake_img.testing -k myformat           # the one of that name
    pytest --pyargs intake_img.testing -k "not streams"      # without the 300 MB image

or over one class, installed or not, from one's own tests::

    from intake_img.testing import DriverLaws
    from mypackage import MySource

    class TestMySource(DriverLaws):
        driver_class = MySource

pytest has to be installed.

The laws, each a test of `DriverLaws`:

- declares itself: name, entry point, extensions or magic bytes, every option spelled out and documented;
- reads what its sample holds (`ImageSource.sample`); a driver that cannot write must have one;
- keeps or refuses: each of `standard_datasets` comes back equal (values, dtype, dims, coordinates, attributes) or is
  refused with `CannotWriteError`, by every extension; a driver that writes keeps at least one of them;
- lazy: to open, show, pickle and describe an image reads no pixel, and a part reads no more than itself;
- closed: nothing stays open after ``close``, or when the Dataset is gone, and lazy data compute after ``close`` too;
- picklable: sources and Datasets, dask or not, compute in another process;
- a part equals the part of the whole, for every chunking, partition, thread and order of axes;
- plain: attributes are JSON, and go to NetCDF, Zarr and YAML as they are;
- private: `Format.public_header` shows no names of people and no paths, wherever in the header they stand;
- fails well: truncated, damaged, empty and foreign files raise an error of `intake_img.errors`, or read as they should;
- streams: an image larger than the memory it may use is written, opened and read plane by plane (some seconds);
- small graphs: not more tasks than chunks, and tasks that hold names and no data.
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


def __getattr__(name: str) -> Any:  # late: the laws that start a Python of their own need neither pytest nor the laws
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
