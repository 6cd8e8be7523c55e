"""Import of optional packages."""

from __future__ import annotations

import importlib
from typing import Any

from intake_img.errors import MissingExtraError

__all__ = ["imported"]


def imported(package: str, extra: str) -> Any:
    """Import an optional package, or raise an error that tells how to install it.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError(package, extra, f"patches for {package}") from None
