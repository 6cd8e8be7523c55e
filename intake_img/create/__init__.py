"""Datasets from arrays, lists, files and random numbers: lazy versions of thunder's loaders.

Thunder: https://github.com/thunder-project/thunder. Its ``npartitions``, ``engine`` and ``credentials`` are ``chunks``,
dask's schedulers and ``storage_options`` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from intake_img.bridges.spark import Records, find_records
from intake_img.collections.sequence import DirectorySource
from intake_img.create.examples import example_image, example_names
from intake_img.create.lists import Items, alike, files_of, lazy_dataset, recounted, series_axes
from intake_img.create.pages import cut
from intake_img.errors import AxesError, FormatError
from intake_img.model.axes import CANONICAL, check_axes
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.typed import ArrayLike, Chunks, DTypeLike, Uri
from intake_img.storage.files import File

__all__ = [
    "from_array",
    "from_binary",
    "from_example",
    "from_list",
    "from_path",
    "from_png",
    "from_random",
    "from_rdd",
    "from_tif",
]


def from_array(
    values: ArrayLike | Sequence[ArrayLike],
    axes: str | Sequence[str] | None = None,
    *,
    chunks: Chunks = "auto",
    spacing: Mapping[str, float] | None = None,
    spacing_units: Mapping[str, str] | str | None = None,
    coords: Mapping[str, Any] | None = None,
    name: str = "image",
) -> xr.Dataset:
    """Return an array as a Dataset with named axes.

    Parameters
    ----------
    values : array_like, dask array, or sequence of arrays of one shape and dtype
    axes : str or sequence of str, optional
        Names of the axes; by default ``yx``, ``tyx``, ``tzyx``, ``tczyx``, ``itczyx`` for two to six axes.
    chunks : "auto", None, int or mapping
        Chunks of the dask array; None keeps an array in memory unchanged.
    spacing, spacing_units, coords : mapping, optional
        Metadata of the axes, as in the ``metadata`` of `imload`.
    name : str
        Name of the variable.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    AxesError
        If the array has fewer than two axes, or the axes do not fit.
    ValueError
        If the items of a list differ in shape or dtype: they are not promoted silently.

    Examples
    --------
    >>> from_array(np.zeros((5, 4, 3)), spacing={"t": 0.5}, spacing_units={"t": "s"}).img.spacing
    {'t': 0.5}
    """
    array: Any = values
    if isinstance(values, (list, tuple)):
        array = alike([np.asarray(v) for v in values])
    elif not hasattr(values, "dtype"):
        array = np.asarray(values)
    if array.ndim < 2:
        raise AxesError(f"an array of shape {tuple(array.shape)} is not an image: expected at least two axes, y and x")
    names = check_axes(axes, array.ndim) if axes is not None else series_axes(array.ndim)
    image = Image({name: Variable(Pixels.of(array), names)})
    image = image.overruled(spacing=spacing, spacing_units=spacing_units, coords=coords)
    data = (lambda pixels: pixels.read()) if chunks is None and not hasattr(array, "dask") else None
    return lazy_dataset(image, chunks, data)


def from_list(
    items: Sequence[Any],
    accessor: Callable[[Any], Any] | None = None,
    keys: Sequence[Any] | None = None,
    shape: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    *,
    axis: str = "t",
    axes: str | None = None,
    name: str = "image",
) -> xr.Dataset:
    """Return a list of images, or of items that `accessor` converts to images, as one lazy Dataset.

    Parameters
    ----------
    items : sequence
    accessor : callable, optional
        ``accessor(item)`` returns an array.
    keys : sequence, optional
        Coordinate of each item along `axis`; the items are sorted by it.
    shape, dtype : optional
        Shape and dtype of one image. If both are given, no item is evaluated until its pixels are read; else the first
        one is evaluated now.
    axis : str
        The axis of the list.
    axes : str, optional
        Axes of one image: ``yx``, ``zyx``, ``czyx`` by default.
    name : str
        Name of the variable.

    Raises
    ------
    ValueError
        If the list is empty, or keys are repeated, or their number differs.
    FormatError
        When pixels are computed: an item differs from the first in shape or dtype.
    """
    items = tuple(items)
    if not items:
        raise ValueError("expected at least one item, got an empty list")
    order = list(range(len(items)))
    if keys is not None:
        if len(keys) != len(items) or len(set(keys)) < len(keys):
            raise ValueError(
                f"expected a different key for each of {len(items)} items, got {len(set(keys))} for {len(keys)}"
            )
        order = sorted(order, key=lambda k: keys[k])
        items = tuple(items[k] for k in order)
    if shape is None or dtype is None:
        first = np.asarray(items[0] if accessor is None else accessor(items[0]))
        shape, dtype = first.shape if shape is None else shape, first.dtype if dtype is None else dtype
    one = tuple(int(n) for n in shape)
    names = check_axes(axes, len(one)) if axes is not None else tuple(CANONICAL[len(CANONICAL) - len(one) :])
    reader = Items(items, accessor, one, np.dtype(dtype))
    pixels = Pixels(reader, (len(items), *one), np.dtype(dtype), (1, *one), many_files=True)
    coords = {axis: [keys[k] for k in order]} if keys is not None else None
    return lazy_dataset(Image({name: Variable(pixels, (axis, *names))}).overruled(coords=coords), "auto")


def from_path(
    path: Uri,
    accessor: Callable[[File], Any] | None = None,
    ext: str | None = None,
    start: int | None = None,
    stop: int | None = None,
    recursive: bool = False,
    recount: bool = False,
    shape: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    *,
    axis: str = "t",
    axes: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Return the images in a folder, or of a pattern or glob, as one lazy Dataset along `axis`.

    Parameters
    ----------
    path : str, os.PathLike or list of these
    accessor : callable, optional
        ``accessor(file)`` returns an array for an `intake_img.storage.files.File`; by default the drivers read the
        files.
    ext : str, optional
        Extension of the files to use in a folder.
    start, stop : int, optional
        A slice of the files in natural order (``im2`` before ``im10``), as in Python: 0 and negative numbers are valid.
    recursive : bool
        Include files in subfolders.
    recount : bool
        A file has several images, stacked on the first axis (before ``y`` and ``x``): all headers are read to count
        them. With an `accessor` all files are evaluated for that, and again when their pixels are read.
    shape, dtype : optional
        Shape and dtype of the array of `accessor` for one file. If both are given, and not `recount`, no file is opened
        until its pixels are read.
    axis : str
        Axis of the files.
    axes : str, optional
        Axes of the array of `accessor` (with `recount`, of one image).
    storage_options : mapping, optional
        Options of the fsspec file system.
    **options
        Options of the source, e.g. ``verify``, or of the driver of the files.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If a write into the folder was interrupted; or, when pixels are computed, if a file differs from the first.
    TypeError, ValueError
        For arguments that are valid only with an `accessor`, or only without one.
    """
    if accessor is None:
        if given := [k for k, v in (("shape", shape), ("dtype", dtype), ("axes", axes)) if v is not None]:
            raise ValueError(
                f"{given[0]}= states what an accessor returns: pass accessor=, or metadata= to overrule files"
            )
        source = files_of(path, ext, start, stop, recursive, axis, storage_options, options)
        return cut(source, 1, axis, False, first=True) if recount else source.dataset()
    if options:
        raise TypeError(f"{next(iter(options))}= is an option of drivers: with an accessor, none reads the files")
    source = files_of(path, ext, start, stop, recursive, axis, storage_options, {})
    files = [File.parse(f, storage_options) for f in source.files]
    if not recount:
        return from_list(files, accessor, shape=shape, dtype=dtype, axis=axis, axes=axes)
    if shape is not None or dtype is not None:
        raise ValueError("recount=True evaluates all files: shape= and dtype= are found out, leave them away")
    return recounted(files, accessor, axis, axes)


def from_tif(
    path: Uri,
    ext: str = "tif",
    start: int | None = None,
    stop: int | None = None,
    recursive: bool = False,
    nplanes: int | None = None,
    discard_extra: bool = False,
    *,
    axis: str = "t",
    **options: Any,
) -> xr.Dataset:
    """Return the TIFF files of a folder (or pattern, or list) as one lazy Dataset.

    Parameters
    ----------
    path, ext, start, stop, recursive, axis
        See `from_path`. If no file ends in ``.tif``, files that end in ``.tiff`` are used.
    nplanes : int, optional
        Number of planes (pages) of an image, if a file has several consecutive images.
    discard_extra : bool
        Drop the planes of a file beyond a multiple of `nplanes`, instead of raising an error.
    **options
        See `from_path`.

    Raises
    ------
    ValueError
        If `nplanes` is not positive, or does not divide the number of planes in a file; the message names the file.
    """
    storage_options = options.pop("storage_options", None)
    source = files_of(path, ext, start, stop, recursive, axis, storage_options, options)
    try:
        found = bool(source.found)
    except FileNotFoundError:
        if ext != "tif" or not isinstance(source, DirectorySource):
            raise
        found = False
    if not found:
        source = files_of(path, "tiff", start, stop, recursive, axis, storage_options, options)
    if nplanes is None:
        return source.dataset()
    return cut(source, nplanes, axis, discard_extra, first=True)


def from_png(
    path: Uri,
    ext: str = "png",
    start: int | None = None,
    stop: int | None = None,
    recursive: bool = False,
    *,
    axis: str = "t",
    **options: Any,
) -> xr.Dataset:
    """Return the PNG files of a folder (or pattern, or list) as one lazy Dataset; 16 bits stay 16 bits.

    Parameters
    ----------
    path, ext, start, stop, recursive, axis, **options
        See `from_path`.
    """
    return from_path(path, None, ext, start, stop, recursive, axis=axis, **options)


def from_binary(
    path: Uri,
    shape: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    ext: str = "bin",
    start: int | None = None,
    stop: int | None = None,
    recursive: bool = False,
    nplanes: int | None = None,
    conf: str = "conf.json",
    order: str | None = None,
    *,
    axis: str = "t",
    **options: Any,
) -> xr.Dataset:
    """Return the flat binary files of a folder (or pattern, or list) as one lazy Dataset, one image per file.

    Parameters
    ----------
    path, ext, start, stop, recursive, axis, **options
        See `from_path`.
    shape, dtype, conf, order
        See `intake_img.formats.binary.driver.BinarySource`.
    nplanes : int, optional
        Split the last axis of each file into images of this many planes.

    Raises
    ------
    ValueError
        If `nplanes` is not positive or does not divide the last axis.
    """
    given = {"shape": shape, "dtype": dtype, "conf": conf, "order": order}
    options |= {k: v for k, v in given.items() if v is not None}
    source = files_of(path, ext, start, stop, recursive, axis, options.pop("storage_options", None), options)
    if nplanes is None:
        return source.dataset()
    return cut(source, nplanes, axis, False, first=False)


@dataclass(frozen=True)
class _Normal:
    """Standard normal numbers: image k of seed s is drawn by numpy's RandomState(s + k), as in thunder."""

    seed: int
    shape: tuple[int, ...]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        for n, k in enumerate(range(region[0].start, region[0].stop)):
            out[n] = np.random.RandomState(self.seed + k).randn(*self.shape)[region[1:]]


def from_random(shape: Sequence[int] = (10, 50, 50), seed: int = 42, *, axes: str | None = None) -> xr.Dataset:
    """Return images of standard normal numbers (float64), the same for the same seed as thunder's ``fromrandom``.

    Parameters
    ----------
    shape : sequence of int
        Number of images, and the shape of each.
    seed : int
        Image k is drawn with ``seed + k``; numpy's global state is not changed.
    axes : str, optional
        ``tyx``, ``tzyx``, ... by default.
    """
    full = tuple(int(n) for n in shape)
    if len(full) < 3 or any(n < 1 for n in full):
        raise AxesError(f"shape={tuple(shape)}: expected a number of images and the shape of one, e.g. (10, 50, 50)")
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise TypeError(f"seed={seed!r}: expected an integer")
    pixels = Pixels(_Normal(int(seed), full[1:]), full, np.dtype(float), (1, *full[1:]))
    names = check_axes(axes, len(full)) if axes is not None else series_axes(len(full))
    return lazy_dataset(Image({"image": Variable(pixels, names)}), "auto")


def from_example(name: str | None = None) -> Any:
    """Return a bundled example or, without a name, the list of examples.

    Parameters
    ----------
    name : str, optional
        ``"cells"`` and ``"spots"`` are simulated, always the same, with the ground truth as a second variable
        (``labels``), several channels and a spacing in µm. ``"skimage/..."`` and ``"matplotlib/..."`` are real images
        from these packages, if they are installed. Nothing is downloaded.

    Returns
    -------
    xarray.Dataset, or dict of str to str
        The lazy example; or names and descriptions.

    Raises
    ------
    ValueError
        If there is no example of that name.
    MissingExtraError
        If the package of the example is not installed.

    Examples
    --------
    >>> ds = from_example("cells")
    >>> ds.img.axes, ds.img.channels, list(ds)
    ('tczyx', ['DAPI', 'GFP'], ['image', 'labels'])
    >>> sorted(from_example())[:2]
    ['cells', ...]
    """
    from intake_img.formats.registry import autodetect

    if name is None:
        return example_names()
    example = example_image(name)
    if isinstance(example, Image):
        return lazy_dataset(example, "auto")
    path, metadata = example
    return autodetect(path, metadata=metadata or None).dataset()


def from_rdd(
    rdd: Any,
    shape: Sequence[int] | None = None,
    nrecords: int | None = None,
    dtype: DTypeLike | None = None,
    *,
    axis: str | Sequence[str] | None = None,
    axes: str | None = None,
    name: str = "image",
) -> xr.Dataset:
    """Return the images in a Spark RDD as one lazy Dataset.

    A chunk is what one partition has, and is fetched, by a job on that partition, when it is computed: with threads,
    in the process that has the SparkContext. Nothing is collected. An RDD that is costly to make should be cached in
    Spark (``rdd.cache()``).

    Parameters
    ----------
    rdd : pyspark.RDD
        Of pairs of a key and an array. Keys are numbers (or anything that sorts), or tuples of these; images come in
        their order, and keys that are not 0, 1, 2, ... become coordinates.
    shape, nrecords, dtype : optional
        Shape and dtype of one image, and the number of them. If all are given, nothing is evaluated until pixels are
        wanted, and keys are single; else one job makes every record on the executors and brings back keys, shapes and
        dtypes.
    axis : str or sequence of str, optional
        An axis for each part of a key; by default ``t``, and ``i``, ``t`` for pairs.
    axes : str, optional
        Axes of one image: ``yx``, ``zyx``, ``czyx`` by default.
    name : str
        Name of the variable.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    FormatError
        If the images are not alike, or the keys repeat or fill no grid.
    TypeError
        If `rdd` is not an RDD.

    See Also
    --------
    ImgAccessor.to_spark : the way there.
    """
    if not callable(getattr(rdd, "mapPartitionsWithIndex", None)) or not hasattr(rdd, "context"):
        raise TypeError(f"expected a Spark RDD of (key, array), got {type(rdd).__name__}; from_list takes lists")
    coords: dict[str, Any] = {}
    if shape is not None and nrecords is not None and dtype is not None:
        one, kind, found = tuple(int(n) for n in shape), np.dtype(dtype), None
        grid: tuple[int, ...] = (int(nrecords),)
        parts = min(rdd.getNumPartitions(), grid[0])  # cut as Spark cuts a list: a guess that costs nothing if wrong
        cuts = [tuple((k + 1) * grid[0] // parts - k * grid[0] // parts for k in range(parts))]
    else:
        found = find_records(rdd)
        one, kind, grid, cuts = found.shape, found.dtype, tuple(map(len, found.labels)), found.cuts()
        given = None if shape is None else tuple(shape)
        announced = {"shape": (given, one), "dtype": (dtype, kind), "nrecords": (nrecords, int(np.prod(grid)))}
        for what, (said, is_) in announced.items():
            if said is not None and said != is_:
                raise FormatError(f"{what}={said!r} was given, but the RDD has {is_}")
    along = tuple(axis) if axis is not None else {1: ("t",), 2: ("i", "t")}.get(len(grid), ())
    if len(along) != len(grid):
        raise AxesError(f"axis={axis!r}: expected {len(grid)} letters, one for each part of a key")
    if found is not None:
        coords = {a: list(v) for a, v in zip(along, found.labels, strict=True) if v != tuple(range(len(v)))}
    names = check_axes(axes, len(one)) if axes is not None else tuple(CANONICAL[len(CANONICAL) - len(one) :])
    records = Records(rdd, grid, one, kind, found)
    tiles = (*(max(c) for c in cuts), *one)
    pixels = Pixels(records, (*grid, *one), kind, tiles, many_files=True)
    image = Image({name: Variable(pixels, (*along, *names))}).overruled(coords=coords)
    return lazy_dataset(image, dict(zip(along, cuts, strict=True)))
