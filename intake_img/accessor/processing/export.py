"""Export of series of images: a folder with one file per image, named as in thunder, or Spark records.

All files of a series appear together, see `storage.staging`. This module decides which files of a folder an earlier
export has written and may be replaced.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, number
from intake_img.accessor.variables import batch_axes, image_axes, images, lazy
from intake_img.collections.computed_once import computed_once
from intake_img.collections.listing import list_folder
from intake_img.collections.partition import FilePlan, Member, file_blocks, make_members, series_target
from intake_img.errors import CannotWriteError, IntakeImgError, TargetExistsError
from intake_img.formats.base import Format
from intake_img.model.chunks import Region, regions_of
from intake_img.model.datasets import data_of
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.progress_bar import writing
from intake_img.model.readers import Reader
from intake_img.model.typed import Uri
from intake_img.storage.files import File
from intake_img.storage.shared import SharedFolder
from intake_img.storage.staging import Staging, begin, is_bookkeeping, settle

if TYPE_CHECKING:
    from pyspark import SparkContext

__all__ = ["Exports"]


class Exports:
    """Methods that write series of images; see each of them."""

    _obj: Any

    def to_tif(
        self,
        path: Uri,
        prefix: str = "image",
        overwrite: bool = False,
        *,
        compress: bool | str | None = None,
        progress: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Write one TIFF file for each image: ``image-00000.tif``, ``image-00001.tif``, ...

        There is a file for each position along the batch axes (``i``, ``t``, and all axes that are neither channel nor
        space). Lazy data are computed file by file, in several threads, and each of their chunks once.

        Parameters
        ----------
        path : str or os.PathLike
            A folder; it is created if it does not exist.
        prefix : str
            Prefix of the file names.
        overwrite : bool
            Write into a folder that is not empty. Files that an earlier call wrote under this prefix are replaced or
            removed when the new ones are complete; all other files are kept.
        compress : bool or str, optional
            As for `imsave`.
        progress : bool, optional
            Show a progress bar; by default only for long work in a terminal.
        storage_options : mapping, optional
            Options of the fsspec file system.

        Returns
        -------
        list of str
            The files, in the order of the images.

        Raises
        ------
        FileExistsError
            If the folder is not empty and `overwrite` is False; or if a file of that name exists that no such call
            wrote. Nothing is written then.
        CannotWriteError
            If the format cannot store an image.

        See Also
        --------
        intake_img.imsave : writes one image into as few files as possible; it loads back equal.
        intake_img.create.from_tif : loads the files.
        """
        from intake_img.formats.tif.driver import Tif

        series = _Series.of(self._obj)
        return _write(
            series,
            _Made(Tif(), ".tif", {"compress": compress}),
            _folder(path, storage_options),
            prefix,
            overwrite,
            progress,
        )

    def to_png(
        self,
        path: Uri,
        prefix: str = "image",
        overwrite: bool = False,
        *,
        vmin: float | None = None,
        vmax: float | None = None,
        scale: str | None = None,
        bits: int | None = None,
        progress: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Write one PNG file for each image: ``image-00000.png``, ...

        Masks and data of 8 and 16 bits are written unchanged. Other types need a range, one for the complete series:
        ``round((value - vmin) / (vmax - vmin) * (2**bits - 1))``, clipped, NaN as 0. A file has one plane, grey or of
        3 channels (or 2 or 4 that are named as colours with transparency).

        Parameters
        ----------
        path, prefix, overwrite, progress, storage_options
            See `to_tif`.
        vmin, vmax : float, optional
            The values that are mapped to 0 and to the largest number.
        scale : "minmax", optional
            Use the smallest and largest finite value of the complete series for `vmin` and `vmax`, if they are not
            given. This computes the data once more.
        bits : 8 or 16, optional
            Depth of stretched images; by default 8 for 8-bit data and 16 for others.

        Returns
        -------
        list of str
            The files, in the order of the images.

        Raises
        ------
        FileExistsError, CannotWriteError
            See `to_tif`; also for a dtype that needs a range if none is given.
        """
        from intake_img.formats.imageio.driver import Imageio

        series = _Series.of(self._obj)
        stretched = _stretched(series, vmin, vmax, scale, bits)
        return _write(
            stretched, _Made(Imageio(), ".png", {}), _folder(path, storage_options), prefix, overwrite, progress
        )

    def to_binary(
        self,
        path: Uri,
        prefix: str = "image",
        overwrite: bool = False,
        *,
        progress: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Write one flat binary file for each image, ``image-00000.bin``, ..., as thunder's ``tobinary`` does.

        Bytes are in C order. ``conf.json`` has the shape and dtype of one image, and an empty file ``SUCCESS``, written
        last, marks completeness. Axes and coordinates are not kept.

        Parameters
        ----------
        path, prefix, overwrite, progress, storage_options
            See `to_tif`; since a folder has only one ``conf.json``, images under other prefixes are replaced as well.

        Returns
        -------
        list of str
            The files, in the order of the images, ``conf.json`` and ``SUCCESS``.

        Raises
        ------
        FileExistsError, CannotWriteError
            See `to_tif`.
        """
        from intake_img.formats.binary.conf import thunder_dtype
        from intake_img.formats.binary.driver import Binary

        series = _Series.of(self._obj)
        pixels = series.variable.pixels
        shape = [n for a, n in zip(series.variable.axes, pixels.shape, strict=True) if a in series.kept]
        conf = json.dumps({"shape": shape, "dtype": thunder_dtype(pixels.dtype)}, indent=2)
        beside = {"conf.json": conf.encode(), "SUCCESS": b""}
        return _write(
            series, _Made(Binary(), ".bin", {}, beside), _folder(path, storage_options), prefix, overwrite, progress
        )

    def to_spark(self, sc: SparkContext, partitions: int | None = None) -> Any:
        """Return a Spark RDD of ``((k, ...), ndarray)``, a record for each image along the batch axes.

        Images of files are read on the executors, which open the file by its name; no pixels pass through this process.
        Lazy results are computed on the executors as well. Arrays in memory are sent to them.

        Parameters
        ----------
        sc : pyspark.SparkContext
            Its executors need intake_img, and access to the files under the same names.
        partitions : int, optional
            Number of partitions of the RDD; by default one for each chunk along the batch axes.

        Returns
        -------
        pyspark.RDD
            The keys are tuples of indices along the batch axes; an image without batch axes has the key ``(0,)``.

        Raises
        ------
        TypeError
            If `sc` is not a SparkContext.

        See Also
        --------
        intake_img.create.from_rdd : the inverse.
        """
        from intake_img.bridges.spark import read_block, spread

        series = _Series.of(self._obj)
        v, lead = series.variable, len(series.batch)
        pixels = v.pixels.transpose([v.axes.index(a) for a in (*series.batch, *series.kept)])
        regions = list(regions_of(file_blocks(pixels, lead)))
        if series.in_memory:
            whole = [slice(None)] * (pixels.ndim - lead)
            blocks = [(r, np.ascontiguousarray(pixels[(*r, *whole)])) for r in regions]
            return spread(sc, blocks, read_block(None, lead), partitions)
        return spread(sc, [(r, None) for r in regions], read_block(pixels, lead), partitions)


# series


@dataclass(frozen=True)
class _Series:
    """One variable as a series of images."""

    image: Image
    batch: tuple[str, ...]
    kept: tuple[str, ...]
    in_memory: bool
    array: xr.DataArray

    @classmethod
    def of(cls, obj: xr.Dataset | xr.DataArray) -> _Series:
        found = images(obj)
        name = "image" if "image" in found else next(iter(found))
        if name != "image" and len(found) > 1:
            raise ValueError(
                f"the Dataset has several images ({', '.join(found)}): choose one, e.g. ds[{name!r}].img.to_tif(...)"
            )
        array = found[name]
        (image,) = computed_once([Image.from_xarray(obj[[name]] if isinstance(obj, xr.Dataset) else array)])
        in_memory = isinstance(data_of(array.variable), np.ndarray)
        return cls(image, batch_axes(array), image_axes(array), in_memory, array)

    @property
    def name(self) -> str:
        return next(iter(self.image.variables))

    @property
    def variable(self) -> Variable:
        return self.image.variables[self.name]

    def changed(self, pixels: Pixels, attrs: Mapping[str, Any]) -> _Series:
        variable = replace(self.variable, pixels=pixels, attrs={**self.variable.attrs, **attrs})
        return replace(self, image=replace(self.image, variables={self.name: variable}))

    def plan(self, prefix: str, extension: str) -> FilePlan:
        sizes = self.image.sizes
        places = list(product(*(range(sizes[a]) for a in self.batch)))
        if not places or 0 in sizes.values():
            raise CannotWriteError(f"there is no image to write: the sizes are {sizes}")
        digits = max(5, len(str(len(places) - 1)))
        members = [Member(f"{prefix}-{k:0{digits}d}{extension}", self.name, p) for k, p in enumerate(places)]
        return FilePlan(members, {self.name: self.batch}, {self.name: self.kept})


@dataclass(frozen=True)
class _Stretched:
    """Values of a range as values of a PNG."""

    reader: Reader
    source: np.dtype
    low: float
    high: float

    def read_into(self, region: Region, out: np.ndarray) -> None:
        values = np.empty(out.shape, self.source)
        self.reader.read_into(region, values)
        top = np.iinfo(out.dtype).max
        with np.errstate(invalid="ignore", over="ignore"):
            unit = (values.astype(np.float64) - self.low) / ((self.high - self.low) or 1.0)
        out[...] = np.rint(np.nan_to_num(np.clip(unit, 0, 1), nan=0.0) * top)


def _stretched(series: _Series, vmin: Any, vmax: Any, scale: str | None, bits: int | None) -> _Series:
    dtype = series.variable.pixels.dtype
    choice("scale", scale, (None, "minmax"))
    choice("bits", bits, (None, 8, 16))
    low = None if vmin is None else number("vmin", vmin)
    high = None if vmax is None else number("vmax", vmax)
    if low is None and high is None and scale is None:
        if bits is not None:
            raise ValueError(f"bits={bits} is the depth of stretched images: it needs vmin= and vmax=, or scale=")
        if dtype not in (np.dtype(bool), np.dtype(np.uint8), np.dtype(np.uint16)):
            raise CannotWriteError(
                f"PNG stores bool, uint8 and uint16, and the image is {dtype}: pass the range to show, vmin= and "
                "vmax=, or scale='minmax'; to_tif and to_binary keep the values"
            )
        return series
    if dtype.kind == "c":
        raise CannotWriteError(f"the image is {dtype}: write its absolute value or its angle, e.g. abs(ds).img.to_png")
    if scale is None and (low is None or high is None):
        raise ValueError(f"vmin={vmin!r} and vmax={vmax!r}: give both, or scale='minmax' for the other")
    if scale is not None:
        least, most = _limits(series.array)
        low, high = least if low is None else low, most if high is None else high
    assert low is not None
    assert high is not None
    if low > high or (low == high and scale is None):
        raise ValueError(f"vmin={low:g} and vmax={high:g}: expected vmin to be less than vmax")
    depth = bits or (8 if dtype.itemsize == 1 else 16)
    pixels = series.variable.pixels
    out = np.dtype(f"u{depth // 8}")
    stretched = replace(pixels, reader=_Stretched(pixels.reader, dtype, low, high), dtype=out)
    return series.changed(stretched, {"vmin": low, "vmax": high})


def _limits(array: xr.DataArray) -> tuple[float, float]:
    """Smallest and largest finite value; each chunk is read once."""
    import dask
    from dask import array as da

    data = lazy(array)
    if data.dtype.kind != "f":
        found = dask.compute(data.min(), data.max())
    else:
        finite = da.isfinite(data)
        found = dask.compute(da.where(finite, data, np.inf).min(), da.where(finite, data, -np.inf).max())
    low, high = map(float, found)
    if low > high:
        raise ValueError("scale='minmax': the image has no finite value")
    return low, high


# folders


@dataclass(frozen=True)
class _Made:
    """The file type of an export: format, extension, options of its writer, and further files of the folder."""

    format: Format
    extension: str
    options: Mapping[str, Any]
    beside: Mapping[str, bytes] = field(default_factory=dict)


def _folder(path: Any, storage_options: Mapping[str, Any] | None) -> File:
    return File.parse(path, storage_options)


def _write(series: _Series, fmt: _Made, folder: File, prefix: str, overwrite: bool, progress: bool | None) -> list[str]:
    if not isinstance(prefix, str) or not prefix or prefix.startswith(".") or set(prefix) & set("/\\\0"):
        raise ValueError(f"prefix={prefix!r}: expected the beginning of a file name")
    plan = series.plan(prefix, fmt.extension)
    names = [m.name for m in plan.members]
    existed = folder.exists()
    facts = {"export": {"prefix": prefix, "count": len(names)}}
    known = "name" in inspect.signature(fmt.format.write).parameters

    def claim(_: Sequence[str]) -> set[str]:
        return _own_files(folder, fmt, prefix, {*names, *fmt.beside}, overwrite) if folder.exists() else set()

    def make(part: Image, staging: Staging | SharedFolder, name: str) -> None:
        options = {**fmt.options, **({"name": name} if known else {})}
        with staging.member(name) as temporary:
            fmt.format.write(replace(part, partition=facts), temporary, progress=step, **options)

    target = series_target(folder, prefix, fmt.extension)
    settle(target)
    claim(names)  # before a folder is created
    try:
        with (
            writing(progress, series.variable.pixels.nbytes, f"writing {folder.name}") as step,
            begin(target, overwrite=overwrite, claim=claim) as staging,
        ):
            make_members(series.image, plan, staging, make)
            for name, content in fmt.beside.items():
                staging.put(name, content)
            return staging.commit([*names, *fmt.beside])  # the last further file marks completeness
    except BaseException:
        if not existed and folder.local:
            with suppress(OSError):  # another process has created the target
                os.rmdir(folder.path)
        raise


def _own_files(folder: File, fmt: _Made, prefix: str, wanted: set[str], overwrite: bool) -> set[str]:
    """Return the names in a folder that an earlier export wrote.

    Raises
    ------
    TargetExistsError
        If the folder may not be written to.
    """
    if not folder.is_folder():
        raise TargetExistsError(f"{folder} is a file: expected the name of a folder")
    there = {n for n in list_folder(folder) if not is_bookkeeping(n)}
    if there and not overwrite:
        raise TargetExistsError(
            f"the folder {folder} exists and is not empty: choose another one, or pass overwrite=True, which replaces "
            "what an earlier call wrote and leaves all else"
        )
    if fmt.beside:
        own = _own_binaries(folder, there, fmt)
    else:
        numbered = re.compile(rf"{re.escape(prefix)}-\d{{5,}}{re.escape(fmt.extension)}")
        own = {n for n in there if numbered.fullmatch(n) and _is_export(fmt.format, folder / n)}
    if foreign := sorted((there & wanted) - own):
        raise TargetExistsError(
            f"{folder / foreign[0]} exists and was not written by such a call"
            f"{f' (nor were {len(foreign) - 1} more)' if len(foreign) > 1 else ''}: move it, or choose another folder "
            "or prefix"
        )
    return own


def _is_export(format: Format, file: File) -> bool:
    source = format.source(file)
    try:
        return bool(source.image().partition.get("export"))
    except (IntakeImgError, OSError):
        return False
    finally:
        source.close()


def _own_binaries(folder: File, there: set[str], fmt: _Made) -> set[str]:
    """Flat files whose size matches ``conf.json``, and ``conf.json`` itself, if it has no other entries."""
    if "conf.json" not in there:
        return set()
    try:
        conf = json.loads((folder / "conf.json").read())
        size = int(np.prod(conf["shape"], dtype=object)) * np.dtype(conf["dtype"]).itemsize
        known = set(conf) == {"shape", "dtype"}
    except (ValueError, TypeError, KeyError):
        return set()
    if not known:
        return set()
    own = {"conf.json"}
    if "SUCCESS" in there and _size(folder / "SUCCESS") == 0:
        own.add("SUCCESS")
    numbered = re.compile(rf".+-\d{{5,}}{re.escape(fmt.extension)}")
    return own | {n for n in there if numbered.fullmatch(n) and _size(folder / n) == size}


def _size(file: File) -> int:
    fs, path = file.filesystem()
    return int(fs.size(path))
