"""Import of optional packages."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

from intake_img.errors import MissingExtraError

__all__ = ["imported"]


def imported(module: str, extra: str, purpose: str, package: str = "") -> Any:
    """Import a module of an optional package, or raise an error that says how to install it.

    Parameters
    ----------
    module : str
    extra : str
        The extra of intake_img that installs the package.
    purpose : str
        The feature that needs it, e.g. ``"reading OpenEXR"``.
    package : str, optional
        Name of the distribution, if it is not that of the module.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        # packages before their modules: another thread may be importing them just now, or they may be hidden
        return [importlib.import_module(name) for name in itertools.accumulate(module.split("."), "{}.{}".format)][-1]
    except ImportError as exc:
        raise MissingExtraError(package or module.partition(".")[0], extra, purpose) from exc
