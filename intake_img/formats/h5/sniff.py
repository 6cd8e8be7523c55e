"""Inspection of an HDF5 file before a format is chosen."""

from __future__ import annotations

from intake_img.errors import IntakeImgError
from intake_img.formats.h5.file import SIGNATURE, H5File
from intake_img.formats.h5.tree import attribute_names, names_in
from intake_img.formats.handover import leave, stamp_before
from intake_img.formats.probe import Probe

__all__ = ["claim", "names_in_root"]

_MOST = 256  # names of the root that are looked at


def names_in_root(probe: Probe) -> frozenset[str] | None:
    """Return the first names of members and attributes of the root; None where they cannot be read."""
    if not probe.head.startswith(SIGNATURE):
        return frozenset()
    if "h5" not in probe.seen:
        probe.seen["h5"] = _names(probe)
    return probe.seen["h5"]


def _names(probe: Probe) -> frozenset[str] | None:
    try:
        stamp, h5 = stamp_before(probe.file), H5File(probe.file)
    except (IntakeImgError, OSError, ValueError, RuntimeError):  # not installed; damaged
        return None
    names = None
    try:
        found = h5.run(lambda f: [*names_in(f)[:_MOST], *attribute_names(f)[:_MOST]])
        names = frozenset(name for name in found if isinstance(name, str))  # those that are not UTF-8 are bytes
    except Exception:  # any error of damaged bytes: the driver reports it
        return None
    finally:
        if names is None:
            h5.close()
        else:
            leave(h5, stamp)
    return names


def claim(probe: Probe, marks: frozenset[str], extensions: tuple[str, ...]) -> int:
    """Return the rank of a dialect's claim to a file: 2 if its root has all names of `marks`, else 0.

    Where the root cannot be read, as h5py is not installed or the file is damaged, the extension decides.
    """
    names = names_in_root(probe)
    if names is None:
        return 2 * probe.name.lower().endswith(extensions)
    return 2 * (bool(names) and marks <= names)
