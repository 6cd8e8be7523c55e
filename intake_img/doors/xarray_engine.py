"""The xarray engine: ``xr.open_dataset(uri, engine="intake_img")`` and ``xr.open_datatree`` for pyramids.

It calls `imload`: pixels stay in the file and are indexed lazily by xarray itself, and ``chunks={}`` makes dask arrays
of complete native tiles. Without ``engine=`` it is used only for files that no other engine claims.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint, list_engines

from intake_img.errors import SceneError
from intake_img.formats.registry import formats, known_extensions
from intake_img.io import imload
from intake_img.model.axes import CANONICAL
from intake_img.storage.files import File

__all__ = ["ImgBackend"]


class ImgBackend(BackendEntrypoint):
    """Microscopy images for xarray."""

    description = "Microscopy images: TIFF, OME-TIFF, OME-Zarr, CZI, pictures and all other drivers of intake_img"
    supports_groups = True

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        scene: int | str | None = None,
        level: int = 0,
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        driver_options: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Open an image.

        Parameters
        ----------
        filename_or_obj : str or os.PathLike
            Path or URL.
        drop_variables : str or iterable of str, optional
            Variables and coordinates to leave out.
        scene, level, output_axis_order, metadata, storage_options
            See `intake_img.imload`.
        driver_options : mapping, optional
            Further options of the driver.

        Returns
        -------
        xarray.Dataset
            The result of `imload`, indexed lazily.
        """
        ds = imload(
            filename_or_obj,
            scene=scene,
            level=level,
            chunks=None,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
            **dict(driver_options or {}),
        )
        if drop_variables is None:
            return ds
        close, names = ds._close, [drop_variables] if isinstance(drop_variables, str) else list(drop_variables)
        ds = ds.drop_vars(names, errors="ignore")
        ds.set_close(close)
        return ds

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        scene: int | str | None = None,
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        driver_options: Mapping[str, Any] | None = None,
    ) -> dict[str, xr.Dataset]:
        """Open all levels of a pyramid, the finest as ``/scale0``; for the parameters see `open_dataset`."""
        options: dict[str, Any] = {
            "drop_variables": drop_variables,
            "scene": scene,
            "output_axis_order": output_axis_order,
            "metadata": metadata,
            "storage_options": storage_options,
            "driver_options": driver_options,
        }
        levels = [self.open_dataset(filename_or_obj, **options)]
        format = formats().get(levels[0].attrs["driver"])  # many files of one image have none
        if format is not None and format.has_levels:
            with contextlib.suppress(SceneError):  # there is no further level
                while True:
                    levels.append(self.open_dataset(filename_or_obj, level=len(levels), **options))
        return {f"/scale{k}": level for k, level in enumerate(levels)}

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        scene: int | str | None = None,
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        driver_options: Mapping[str, Any] | None = None,
    ) -> xr.DataTree:
        """Open all levels of a pyramid as a tree of ``scale0``, ``scale1``, ...; see `open_groups_as_dict`."""
        groups = self.open_groups_as_dict(
            filename_or_obj,
            drop_variables=drop_variables,
            scene=scene,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
            driver_options=driver_options,
        )
        return xr.DataTree.from_dict(groups)

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """True for names with an extension of one of the drivers, unless another engine claims the file."""
        if not isinstance(filename_or_obj, (str, os.PathLike)):
            return False
        name = File.parse(filename_or_obj).name.lower()
        if not name.endswith(tuple(known_extensions())):
            return False
        others = (engine for name, engine in list_engines().items() if name not in ("intake_img", "store"))
        return not any(_claims(engine, filename_or_obj) for engine in others)


def _claims(engine: BackendEntrypoint, filename_or_obj: Any) -> bool:
    try:
        return bool(engine.guess_can_open(filename_or_obj))
    except Exception:
        return False
