"""Registrations of ``import intake_img``: ``ds.img`` in xarray, readers in Intake 2, notebooks, a hook for forks.

The accessor's own modules are imported when ``ds.img`` is first used.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import xarray as xr

__all__ = ["register"]

_ACCESSOR = "intake_img.accessor.img"
_HOOKED: list[bool] = []


class _Door:
    """``img`` of xarray's classes until it is first used: it imports the accessor, which then replaces it.

    During this import, xarray checks whether the name is taken; that raises an AttributeError, since the module is
    incomplete.
    """

    def __get__(self, instance: xr.Dataset | xr.DataArray | None, owner: type) -> Any:
        accessor = importlib.import_module(_ACCESSOR).ImgAccessor
        return accessor if instance is None else accessor(instance)


def register() -> None:
    """Register ``ds.img``, the readers of Intake 2, the HTML of Datasets in notebooks, and what a fork needs."""
    from intake_img.doors import (
        intake2,  # noqa: F401  (registers itself)
        notebooks,
    )

    notebooks.register()
    if hasattr(os, "register_at_fork") and not _HOOKED:
        os.register_at_fork(after_in_child=_forget_threads)
        _HOOKED.append(True)
    if any(hasattr(kind, "img") for kind in (xr.Dataset, xr.DataArray)):
        importlib.import_module(_ACCESSOR)  # xarray warns of a name that is taken
        return
    for kind in (xr.Dataset, xr.DataArray):
        kind.img = _Door()  # type: ignore[union-attr]


def _forget_threads() -> None:
    """Have a forked child make a pool of its own: it has no threads of dask's pool, and would wait for them."""
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None  # type: ignore[attr-defined]
        getattr(threaded, "pools", {}).clear()  # of other numbers of threads, by thread
