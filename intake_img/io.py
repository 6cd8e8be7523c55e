"""`imload` and `imsave`: load any image as a lazy Dataset, and save it to a file with atomic replacement."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache, partial
from typing import Any, Literal, Unpack

import xarray as xr
from intake.source.base import DataSource
from numpy.typing import ArrayLike

from intake_img.collections.computed_once import computed_now, computed_once
from intake_img.collections.file_names import split_extension
from intake_img.collections.metadata_loss import warn_of_loss
from intake_img.collections.partition import make_plan, write_members
from intake_img.collections.resumption import holds
from intake_img.collections.sequence import SequenceSource
from intake_img.collections.stores import extend_store, write_store
from intake_img.errors import CannotWriteError, warn
from intake_img.formats.base import Format
from intake_img.formats.handover import handing_over
from intake_img.formats.registry import (
    ImgSource,
    check_options,
    check_replaced,
    formats,
    known_extensions,
    open_any,
    writer_for,
)
from intake_img.formats.source import ImageSource
from intake_img.model.axes import CANONICAL
from intake_img.model.engine import Engine, in_tasks
from intake_img.model.image import Image
from intake_img.model.progress_bar import writing
from intake_img.model.typed import Chunks, DriverOptions, Selection, Uri, WriterOptions
from intake_img.storage.files import File
from intake_img.storage.shared import SharedFolder
from intake_img.storage.staging import Staging, UnfinishedCommitError, begin, other_write

__all__ = ["imload", "imsave"]

_USUAL = {f.name: f.default for f in fields(ImgSource.Options)}
_HELD = 2**26  # bytes of an image that is computed before a region of a store is changed
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def imload(
    uri: Uri | Sequence[Uri] | ImageSource,
    partition: Selection = None,
    metadata_only: bool = False,
    *,
    scene: int | str | None = None,
    level: int = 0,
    chunks: Chunks = "auto",
    output_axis_order: str | None = CANONICAL,
    metadata: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    cache: str | os.PathLike[str] | None = None,
    **driver_options: Unpack[DriverOptions],
) -> xr.Dataset:
    """Load an image lazily, with named axes, channel names and physical units.

    Parameters
    ----------
    uri : str, os.PathLike, or Intake source
        A path, a URL that fsspec supports, or an Intake source or catalog entry. ``file.czi@0`` names a scene.
    partition : int, str, list or mapping, optional
        Load only a selection: an index or label on the first axis, a list of them, or ``{axis: index | label | slice |
        list}``. Integers are indices; text and floats are labels, looked up in the coordinate; slices of labels include
        their end. ``{coordinate: label | list}`` selects all samples with the label, e.g. ``{"well": "A01"}`` if the
        wells lie along ``i``. Only the bytes of the selection are read.
    metadata_only : bool
        Load only coordinates, attributes, dtype and shape, without a dask array. (Pixels are never read before they are
        used.)
    scene : int or str, optional
        The image of the file, by number or name; the first by default. ``"all"`` stacks scenes of equal shape on ``i``.
    level : int
        Level of a pyramid; 0 is full resolution.
    chunks : "auto", None, int or mapping
        ``"auto"``: dask arrays whose chunks are groups of native tiles of some MiB; None: xarray's own lazy indexing
        without dask; or chunk lengths by axis (-1: the full length).
    output_axis_order : str or None
        Order of the axes; axes that it does not name come first. None keeps the file's order.
    metadata : mapping, optional
        ``axes``, ``spacing``, ``spacing_units`` and ``coords``, by axis; they add to or overrule the metadata of the
        file.
    storage_options : mapping, optional
        Options of the fsspec file system.
    cache : str or os.PathLike, optional
        Folder on this machine in which to keep the blocks that are read from a server, so that they are read only once;
        a changed file is read again. For files, not for Zarr stores. It grows without limit: delete it when you like.
    **driver_options
        Further options of the driver.

    Returns
    -------
    xarray.Dataset
        A Dataset with the variable ``image`` (and further variables of the file: labels, masks). Coordinates are in the
        unit of their ``attrs["units"]``; evenly spaced ones have ``attrs["spacing"]``. The attributes of the Dataset
        describe its origin: ``uri``, ``driver``, ``scene``, ``scenes``, ``original_axes``, ``original_shape`` and
        ``fileheader`` (JSON text; ``ds.img.header`` is the parsed one).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the file is truncated, damaged or of another format.
    SceneError
        If the file has no such scene or level.
    AxesError
        If an axis is named that the image lacks, or `output_axis_order` lacks one of the image.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "a.npy")
    >>> np.save(path, np.zeros((3, 4, 5), "uint16"))
    >>> ds = imload(path, metadata={"axes": "cyx", "coords": {"c": ["DAPI", "GFP", "RFP"]}})
    >>> ds.img.axes, ds.img.channels
    ('cyx', ['DAPI', 'GFP', 'RFP'])
    """
    given = {
        "scene": scene,
        "level": level,
        "chunks": chunks,
        "output_axis_order": output_axis_order,
        "metadata": metadata,
        "storage_options": storage_options,
        "cache": cache,
    }
    options = {k: v for k, v in given.items() if type(v) is not type(_USUAL[k]) or v != _USUAL[k]}
    with handing_over():
        source = _source(uri, {**options, **driver_options})
        if isinstance(source, SequenceSource) and source.group:
            return source.datatree(**({"chunks": None} if metadata_only else {}))  # type: ignore[return-value]
        return source.dataset(partition, chunks=None) if metadata_only else source.dataset(partition)


def _source(uri: Any, options: dict[str, Any]) -> ImageSource:
    if isinstance(uri, ImageSource):
        if not options:
            return uri
        if not isinstance(uri, ImgSource):  # it accepts the options of the driver that it finds
            check_options(type(uri), options)
        return uri.renewed(**options)
    foreign = isinstance(uri, DataSource)
    if not foreign and callable(getattr(uri, "get", None)) and hasattr(uri, "describe"):  # an entry of a catalog
        return _source(uri.get(), options)
    if foreign or hasattr(uri, "discover") or hasattr(uri, "to_dask"):
        raise TypeError(
            f"expected a path, a URL or a source of an image driver ({', '.join(formats())}), got {type(uri).__name__}"
        )
    return open_any(uri, **options)


def imsave(
    image: xr.Dataset | xr.DataArray | xr.DataTree | ImageSource | ArrayLike,
    uri: Uri,
    compress: bool | str | None = None,
    partition: str | Sequence[str] | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | Callable[[int], None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
    compute: bool = True,
    append_dim: str | None = None,
    region: Mapping[str, int | slice] | Literal["auto"] | None = None,
    **driver_options: Unpack[WriterOptions],
) -> Any:
    """Save an image; the extension chooses the format, OME-Zarr without one.

    Lazy data are computed slab by slab while they are written, so that images larger than memory can be saved. With a
    client of a dask cluster, the workers write: Zarr stores block by block, and images of many files with one task per
    file.

    Parameters
    ----------
    image : xarray.Dataset, xarray.DataArray, xarray.DataTree, numpy.ndarray, dask.array.Array or Intake source
        The image. A DataTree is a multiscale image, for formats that support pyramids. An array without names has the
        axes ``yx``, ``zyx``, ``czyx``, ``tczyx`` or ``itczyx``.
    uri : str or os.PathLike
        Target: a path or a URL that fsspec can write.
    compress : bool or str, optional
        None for the format's default, False for no compression, True for a good lossless codec, or the name of a codec
        of the format.
    partition : str or sequence of str, optional
        The axes of each file, in this order; positions along the other axes go into the file names: ``imsave(ds,
        "f.tif", partition="tyx")`` makes ``f.c_actin.tif``, ``f.c_nuclei.tif``. By default there are as few files as
        the format allows. ``imload("f.tif")`` joins them again.
    overwrite : bool
        Replace an existing target. The old data are not changed until the new ones are complete; they may be the source
        of the saved image. A folder of other data is not replaced. If the target is a symbolic link, the link stays,
        and the file or store to which it leads is replaced; links in place of the files of a partition are replaced.
    resume : bool
        Finish an interrupted write of many files: complete files are not written again. The first of them is compared
        with the image, unless the write is lossy. An interrupted write of a single file starts again.
    progress : bool or callable, optional
        Show a progress bar; by default only for long work in a terminal. A callable gets the number of bytes written
        since the last call; if it raises an error, the write is aborted and leaves nothing behind, except for the
        complete ones of many files, hidden, for `resume`.
    storage_options : mapping, optional
        Options of the fsspec file system.
    engine : {"dask", "threads"}, optional
        The engine of the write: dask tasks, or threads of this process. By default tasks if there is a client
        (`distributed.Client`). Workers need access to the target under the same name: a shared folder, or a server. A
        single file that is the complete image is always written by this process.
    compute : bool
        False: return a `dask.delayed.Delayed` that writes and finally commits the target when it is computed. The
        target is reserved now, as by an interrupted write. For folders of chunks (Zarr, precomputed) and images of
        many files.
    append_dim : str, optional
        Append the image to a Zarr store along this axis, ``"t"`` or ``"i"``; a missing store is created. The axes,
        dtypes and other coordinates must equal those of the store; its chunks and levels are used. Readers see the old
        image until the new one is complete, also if the write is killed; a Dataset that was opened before keeps its
        length and stays readable. Only one process may append at a time.
    region : mapping of str to (int or slice), or "auto", optional
        Overwrite a region of a Zarr store, e.g. ``{"t": slice(2, 4)}``; ``"auto"`` finds it by the coordinates. The new
        values may be computed from the store itself, as a Dataset (with its ``attrs["uri"]``) or up to 64 MiB. Each
        chunk is replaced atomically, but not the complete region: if the write is killed, `imload` warns until the
        region is written again. Datasets that were opened before raise `SourceChangedError`.
    **driver_options
        Options of the format's writer; ``intake-img formats`` lists them.

    Returns
    -------
    list of str, or dask.delayed.Delayed of it
        The written files.

    Raises
    ------
    FileExistsError
        If the target exists and `overwrite` is False. Nothing is written.
    CannotWriteError
        If the format cannot store the image, or the target is a folder that is no image.

    Warns
    -----
    UserWarning
        If a format that contains only pixels (``.npy``, ``.bmp``) loses metadata; the warning names them. If an array
        without names looks like a colour picture, and is written as many files.

    Notes
    -----
    A write that is killed leaves the old target or, after the last byte was written, the new image; and a hidden folder
    ``.<name>.partial``, which the next write to that name removes. SIGTERM kills Python without clean-up unless the
    program handles it, as the command ``intake-img`` does: ``signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))``.
    If two processes write to one name, with ``overwrite=False`` one gets `FileExistsError`, with ``overwrite=True`` the
    later one wins.
    """
    target = File.parse(uri, storage_options)
    format = writer_for(target)
    if region is not None or (append_dim is not None and target.exists()):
        layout = {"compress": compress, "partition": partition, **driver_options}
        given = {"overwrite": overwrite or None, "resume": resume or None, "compute": compute and None, **layout}
        _check_alone(given | ({"region": region} if append_dim is not None else {}), append_dim)
        return _extend(image, format, target, append_dim, region, progress, in_tasks(engine))
    if overwrite:
        check_replaced(target)
    known = _writer_options(format, driver_options)
    models = _models(image, format, known)
    settings: dict[str, Any] = {"compress": compress, **driver_options}
    if "name" in known:
        settings.setdefault("name", target.name)
    stem, extension = split_extension(target.name, known_extensions())
    plan = None if isinstance(image, xr.DataTree) else make_plan(models[0], format, stem, extension, partition)
    if plan is not None and partition is None and not isinstance(image, (xr.Dataset, xr.DataArray, ImageSource)):
        _check_colours(image, len(plan.members))
    if extension.lower() in format.pixels_only:
        named = {a for axes in plan.file_axes.values() for a in axes} if plan is not None else ()
        warn_of_loss(models[0], named, target.name)
    parallel = in_tasks(engine) or not compute
    folder = _is_folder(format, target)
    if plan is None and not (folder and format.writes_in_tasks):
        _check_one_process(target, engine, compute)
        parallel = False
    if not parallel:
        models = computed_once(models, target.parent.path if target.local else None)
    if isinstance(image, xr.DataTree):
        settings["levels"] = models[1:]
    total = sum(v.pixels.nbytes for m in models for v in m.variables.values())
    with _no_space(target), writing(progress if compute else False, total, f"saving {target.name}") as step:
        if plan is None:
            return _write_one(format, models[0], target, settings, step, folder, overwrite, parallel, compute)
        make = partial(_make, format, folder, settings, None if parallel else step)
        done = (step or _silent) if parallel else None
        return write_members(
            models[0],
            plan,
            target,
            make,
            overwrite=overwrite,
            resume=resume,
            settings=settings,
            extension=extension,
            done=done,
            compute=compute,
            check=None if settings.get("lossy") else partial(_check_same, target),
        )


def _check_same(target: File, part: Image, file: File) -> None:
    """Raise an error if a complete file of an interrupted write is not of the image that is saved now."""
    found = open_any(file).dataset()
    arrays = [found.get(n, next(iter(found.data_vars.values()))) for n in part.variables]
    if not all(map(holds, arrays, part.variables.values())):
        raise other_write(target)


def _check_colours(array: Any, files: int) -> None:
    """Warn of an array without names that looks like a colour picture, and becomes many files."""
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        warn(
            f"an array of shape {tuple(array.shape)} is taken as zyx, in {files} files: if it is a colour picture, "
            "name its axes, xarray.DataArray(array, dims=['y', 'x', 'c'])"
        )


def _check_one_process(target: File, engine: Engine | None, compute: bool) -> None:
    if engine == "dask" or not compute:
        raise CannotWriteError(
            f"{target.name} is one file, which one process writes: "
            f"{'compute=False' if not compute else 'engine=dask'} is for folders of chunks (.zarr, .precomputed) "
            "and images of many files (partition=)"
        )


def _check_alone(given: Mapping[str, Any], append_dim: str | None) -> None:
    """Raise an error for options that are not valid when writing into an existing store."""
    if refused := [name for name, value in given.items() if value is not None]:
        raise TypeError(
            f"{refused[0]}= does not go with {'region' if append_dim is None else 'append_dim'}=: the store keeps "
            "its layout and is not replaced"
        )


def _extend(
    image: Any,
    format: Format,
    target: File,
    append_dim: str | None,
    region: Any,
    progress: bool | Callable[[int], None] | None,
    parallel: bool,
) -> list[str]:
    """Write into an existing store.

    What is read from the store itself is computed before a region of it is changed; so is any small image, so that an
    error of the computation leaves the store as it is.
    """
    models = _models(image, format, ())
    (model,) = models if parallel else computed_once(models)
    total = sum(v.pixels.nbytes for v in model.variables.values())
    own = getattr(image, "attrs", {}).get("uri") == str(target)
    if region is not None and (own or (total <= _HELD and not parallel)):
        model = computed_now(model, target.parent.path if target.local else None)
    with _no_space(target), writing(progress, total, f"saving {target.name}") as step:
        return extend_store(format, model, target, append_dim, region, step, parallel)


@cache
def _parameters(write: Callable[..., None]) -> Sequence[str]:
    general = ("self", "image", "path", "compress", "progress")
    return [p for p in inspect.signature(write).parameters if p not in general]


def _writer_options(format: Format, given: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of a writer's own options; unknown options are an error."""
    known = _parameters(type(format).write)
    if unknown := [o for o in given if o not in known]:
        raise TypeError(
            f"writing {format.title} has no option {unknown[0]!r}; it has {', '.join(known) or 'none of its own'}"
        )
    return known


def _models(image: Any, format: Format, known: Sequence[str]) -> list[Image]:
    """Return the image to save, and further levels of a DataTree."""
    if not isinstance(image, xr.DataTree):
        return [Image.from_xarray(image.dataset() if isinstance(image, ImageSource) else image)]
    if "levels" not in known:
        raise CannotWriteError(
            f"{format.title} cannot store pyramids: save one level, e.g. tree['scale0'].to_dataset()"
        )
    return [Image.from_xarray(node) for node in _levels(image)]


def _write_one(
    format: Format,
    model: Image,
    target: File,
    settings: Mapping[str, Any],
    step: Callable[[int], None] | None,
    folder: bool,
    overwrite: bool,
    parallel: bool,
    compute: bool,
) -> Any:
    """Write an image that is one file or one store; a symbolic link stays, and what it leads to is written."""
    target = _followed(target)
    in_store = folder and format.writes_in_tasks
    if in_store and parallel:
        return write_store(
            partial(format.write_in_tasks, model, progress=step, **settings),
            target,
            overwrite=overwrite,
            done=step or _silent,
            compute=compute,
        )
    with begin(target, overwrite=overwrite) as staging:
        if (pixels := format.pixels_in(target.name)) != target.name:
            staging.superseded([pixels])  # refuses to replace it before anything is written
        if in_store and not target.local:  # chunk by chunk, without a local folder
            write: Any = format.write  # that of a store takes such a place as well as a local path
            write(model, staging.place(target.name), progress=step, **settings)
            return staging.commit()
        _make(format, folder, settings, step, model, staging, target.name)
        return staging.commit()[::-1]


def _followed(target: File) -> File:
    real = target.followed()
    endings = [split_extension(file.name, known_extensions())[1].lower() for file in (target, real)]
    if endings[0] != endings[1]:
        raise CannotWriteError(
            f"{target} is a link to {real}, a name with another extension: save under that name, or remove the link"
        )
    return real


def _make(
    format: Format,
    folder: bool,
    settings: Mapping[str, Any],
    step: Callable[[int], None] | None,
    part: Image,
    staging: Staging | SharedFolder,
    name: str,
) -> None:
    """Write the files of an image, last the one that is opened."""
    texts = dict(format.companions(part, name, settings))
    header = texts.pop(name, None)
    for companion, text in texts.items():
        staging.put(companion, text)
    with staging.member(format.pixels_in(name), folder=folder) as path:
        format.write(part, path, progress=step, **settings)
    if header is not None:
        staging.put(name, header)


def _silent(_: int) -> None:
    """Ignore progress."""


@contextlib.contextmanager
def _no_space(target: File) -> Iterator[None]:
    try:
        yield
    except UnfinishedCommitError:
        raise
    except OSError as exc:
        short = (
            type(exc) is OSError and exc.errno is None and "written" in str(exc)
        )  # numpy's tofile does not give the reason
        if exc.errno in _FULL or short:
            code = exc.errno or errno.ENOSPC
            raise OSError(code, f"no space left for {target} (disk or quota); existing data are unchanged") from exc
        raise


def _is_folder(format: Format, target: File) -> bool:
    return format.folder and not target.name.lower().endswith((".zip", ".ozx"))


def _levels(tree: xr.DataTree) -> list[xr.Dataset]:
    nodes = [node for node in tree.subtree if node.data_vars]
    if not nodes:
        raise CannotWriteError("the DataTree contains no image")
    datasets = [node.to_dataset() for node in nodes]
    return sorted(datasets, key=lambda ds: -sum(v.size for v in ds.data_vars.values()))
