"""References to the bytes of image files: zarr-python, xarray and others read these files without this package.

The references are in kerchunk's format, which fsspec's ``reference`` file system reads. An image that a Zarr array
cannot express is refused with the reason.
"""

from __future__ import annotations

import base64
import io
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.doors.reference_chunks import DOCUMENTS, Found, References
from intake_img.doors.references_icechunk import is_icechunk, write_into, write_repository
from intake_img.doors.references_parquet import write_parquet
from intake_img.errors import CannotWriteError
from intake_img.formats.reading import FileReader
from intake_img.formats.registry import autodetect
from intake_img.formats.source import ImageSource
from intake_img.model.record import plain
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["virtualize"]

_CHUNK_BYTES = 2**26  # for uncompressed pixels: an array is cut along its first axis


def virtualize(
    uris: Any, target: Any, *, overwrite: bool = False, storage_options: Mapping[str, Any] | None = None
) -> str:
    """Write references to the pixels of image files, without copying pixels.

    Parameters
    ----------
    uris : str, os.PathLike, Dataset, ImageSource, or a mapping or sequence of these
        Images: TIFF, OME-Zarr, NumPy and raw files. Several become groups of one store, named by the keys of the
        mapping, or by their files.
    target : str, os.PathLike, icechunk.Session or icechunk.IcechunkStore
        A ``.json`` file; ``.parquet``, a folder that readers load in parts, for many chunks; or ``.icechunk``, a new
        repository of Icechunk. A writable session of a repository of your own, or its store: commit it yourself.
    overwrite : bool
        Replace an existing target.
    storage_options : mapping, optional
        Options of the fsspec file system of the images.

    Returns
    -------
    str
        The target; for a session, the snapshot on which it is based.

    Raises
    ------
    CannotWriteError
        If an image cannot be expressed; the message gives the reason. Parquet supports arrays of Zarr format 2: shards
        of format 3, for example, can be expressed only in JSON and Icechunk. Icechunk supports arrays of format 3.
    TargetExistsError
        If the target exists and `overwrite` is not given.

    Notes
    -----
    Readers need ``imagecodecs.numcodecs.register_codecs()`` for codecs with names like ``imagecodecs_lzw``; with
    Icechunk ``imagecodecs.zarr.register_codecs()``. Paths of local files are absolute, so the references can be moved
    without the files.

    Examples
    --------
    >>> import numpy as np, tempfile, xarray as xr
    >>> folder = tempfile.mkdtemp()
    >>> np.save(f"{folder}/a.npy", np.arange(20).reshape(4, 5))
    >>> refs = virtualize(f"{folder}/a.npy", f"{folder}/refs.json")
    >>> ds = xr.open_dataset("reference://", engine="zarr", chunks=None,
    ...                      backend_kwargs={"storage_options": {"fo": refs}})
    >>> int(ds.image[3, 4])
    19
    """
    if is_icechunk(target):
        return write_into(_found(_images(uris, storage_options)), target, overwrite)
    file = File.parse(target)
    kind = os.path.splitext(file.name.lower())[1]
    if kind not in _WRITERS:
        raise CannotWriteError(
            f"{file}: references are written as JSON, Parquet or Icechunk: expected a name such as refs.json, "
            "refs.parquet or refs.icechunk"
        )
    found = _found(_images(uris, storage_options))
    with replacing(file, overwrite=overwrite, folder=kind != ".json") as temporary:
        _WRITERS[kind](found, temporary)
    return str(file)


def _write_json(found: Found, path: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        json.dump({"version": 1, "refs": found.references}, stream, ensure_ascii=False)


_WRITERS: Mapping[str, Callable[[Found, str], None]] = {
    ".json": _write_json,
    ".parquet": lambda found, folder: write_parquet(found.references, folder),
    ".parq": lambda found, folder: write_parquet(found.references, folder),
    ".icechunk": write_repository,
}


def _found(images: Mapping[str, ImageSource]) -> Found:
    references: References = {}
    files: dict[str, File] = {}
    if "" not in images:
        references[".zgroup"] = _text({"zarr_format": 2})
    for name, source in images.items():
        try:
            found = _of_source(source)
        finally:
            source.close()
        references |= {f"{name}/{key}" if name else key: value for key, value in found.items()}
        files |= dict.fromkeys((value[0] for value in found.values() if isinstance(value, list)), source.file)
    if "" not in images and not any(os.path.basename(key) == "zarr.json" for key in references):
        references = _consolidated(references)
    return Found(references, tuple(images), files)


def _images(uris: Any, storage_options: Mapping[str, Any] | None) -> dict[str, ImageSource]:
    import xarray as xr

    if isinstance(uris, (str, os.PathLike, ImageSource, xr.Dataset)):
        return {"": _source(uris, storage_options)}
    if isinstance(uris, Mapping):
        return {str(name): _source(uri, storage_options) for name, uri in uris.items()}
    from intake_img.catalog.entry_names import unique_names

    sources = [_source(uri, storage_options) for uri in uris]
    return dict(zip(unique_names([s.uri.lstrip("/") for s in sources]), sources, strict=True))


def _source(uri: Any, storage_options: Mapping[str, Any] | None) -> ImageSource:
    import xarray as xr

    if isinstance(uri, ImageSource):
        return uri
    options: dict[str, Any] = {"storage_options": storage_options} if storage_options else {}
    if isinstance(uri, xr.Dataset):
        if "uri" not in uri.attrs:
            raise CannotWriteError("the Dataset does not know its file: expected one that imload returned")
        if uri.attrs.get("scene") not in (None, ""):
            options["scene"] = uri.attrs["scene"]
        uri = uri.attrs["uri"]
    return autodetect(uri, **options)


def _of_source(source: ImageSource) -> References:
    driver = type(source).name_of_driver()
    if driver == "omezarr":
        return dict(_of_store(source.file))
    image = source.image()
    if len(image.variables) != 1:
        raise CannotWriteError(f"{source.file} contains {len(image.variables)} images of one scene: expected one")
    (name, variable), *_ = image.variables.items()
    reader = variable.pixels.reader
    mapped = reader.mapped() if isinstance(reader, FileReader) else None
    if mapped is not None and (plain_bytes := _of_plain(source.file, name, variable, mapped)):
        return _consolidated({**_described(source), **plain_bytes})
    if driver == "tif":
        return _consolidated({**_described(source), **_of_tiff(source, name, variable)})
    raise CannotWriteError(
        f"{source.file}: {source.title} does not store its pixels as a Zarr array can express them: "
        "expected TIFF, OME-Zarr, or uncompressed NumPy and raw files. Convert it: imsave(image, 'a.zarr')"
    )


def _consolidated(references: References) -> References:
    """Add consolidated metadata, so that readers need not list the store."""
    metadata = {k: json.loads(v) for k, v in references.items() if os.path.basename(k) in DOCUMENTS[:3]}
    return {**references, ".zmetadata": _text({"zarr_consolidated_format": 1, "metadata": metadata})}


def _described(source: ImageSource) -> References:
    """Return the group: its attributes and the coordinates, which are small and are stored inline."""
    ds = source.renewed(output_axis_order=None).dataset(chunks=None)
    attributes = {k: v for k, v in plain(dict(ds.attrs), strict=True).items() if k != "fileheader"}
    found: References = {".zgroup": _text({"zarr_format": 2}), ".zattrs": _text(attributes)}
    for axis, coordinate in ds.coords.items():
        if coordinate.dims == (axis,) and coordinate.dtype.kind in "iufU":
            values = np.ascontiguousarray(coordinate.values)
            found[f"{axis}/.zarray"] = _text(_array(values.shape, values.shape, values.dtype))
            found[f"{axis}/.zattrs"] = _text(_named([str(axis)], plain(dict(coordinate.attrs), strict=True)))
            found[f"{axis}/0"] = "base64:" + base64.b64encode(values.tobytes()).decode()
    return found


def _array(shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype, order: str = "C") -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": list(chunks),
        "dtype": dtype.str,
        "order": order,
        "compressor": None,
        "filters": None,
        "fill_value": None,
    }


def _named(dims: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"_ARRAY_DIMENSIONS": list(dims), **attributes}


def _text(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


def _url(file: File) -> str:
    return "file://" + file.path if file.local else file.path


# formats


def _of_store(file: File) -> Iterator[tuple[str, Any]]:
    """Yield the references of a Zarr store: its metadata as texts, its chunks as complete files."""
    if file.name.lower().endswith(".zip"):
        raise CannotWriteError(f"{file} is a zip archive: unpack it; references cannot name the files in it")
    fs, root = file.filesystem()
    for path in sorted(fs.find(root)):
        key = path[len(root.rstrip("/")) + 1 :]
        if os.path.basename(key) in DOCUMENTS:
            yield key, fs.cat_file(path).decode()
        else:
            yield key, [_url(file / key)]


def _of_plain(file: File, name: str, variable: Any, mapped: np.ndarray) -> References:
    """Return the references of pixels that are one uncompressed block in a local file; empty if they are not."""
    order = "C" if mapped.flags.c_contiguous else "F" if mapped.flags.f_contiguous else ""
    offset = _offset(file, mapped)
    if not order or offset is None or mapped.shape != variable.pixels.shape or 0 in mapped.shape:
        return {}
    first, *rest = mapped.shape
    rows = _rows(first, mapped.nbytes) if order == "C" else first
    size = mapped.nbytes // first * rows
    tail = "".join(".0" for _ in rest)
    found: References = {
        f"{name}/.zarray": _text(_array(mapped.shape, [rows, *rest], mapped.dtype, order)),
        f"{name}/.zattrs": _text(_named(variable.axes, {})),
    }
    return found | {f"{name}/{k}{tail}": [_url(file), offset + k * size, size] for k in range(first // rows)}


def _offset(file: File, mapped: np.ndarray) -> int | None:
    """Return the offset of a memory-mapped array in its file, None if it is unknown."""
    base: Any = mapped
    while not isinstance(base, np.memmap) and isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    if isinstance(base, np.memmap):
        start, before = np.asarray(base), int(base.offset)
    elif isinstance(base, (mmap.mmap, memoryview)):
        start, before = np.frombuffer(base, "uint8"), 0
    else:
        return None
    offset = before + _address(mapped) - _address(start)
    with open(file.path, "rb") as stream:  # a map may begin at any offset
        stream.seek(offset)
        return offset if stream.read(64) == mapped.ravel(order="K")[:64].tobytes()[:64] else None


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _rows(first: int, nbytes: int) -> int:
    """Return the number of rows of a chunk: a divisor of all rows, because all chunks of a Zarr array are complete."""
    row = nbytes // max(first, 1)
    fits = [d for d in range(1, first + 1) if first % d == 0 and d * row <= _CHUNK_BYTES]
    return max(fits, default=1)


def _of_tiff(source: ImageSource, name: str, variable: Any) -> References:
    import tifffile

    file = source.file
    axes, shape, dtype = variable.axes, variable.pixels.shape, variable.pixels.dtype
    with _opened(file) as stream, tifffile.TiffFile(stream, name=file.name) as tif:
        number = source.image().scenes.index(source.image().scene)
        if number >= len(tif.series):
            raise CannotWriteError(f"{file}: scene {number} is made of pages that are not one series")
        series = tif.series[number]
        if series.shape != tuple(shape) or series.dtype.newbyteorder("=") != dtype:
            raise CannotWriteError(
                f"{file}: its image ({''.join(axes)} {tuple(shape)} {dtype}) is computed from what is stored "
                f"({series.axes} {series.shape} {series.dtype})"
            )
        _check_tiff(file, series)
        text = io.StringIO()
        try:
            with series.aszarr(level=source.level) as store:
                store.write_fsspec(text, url=_url(file).rsplit("/", 1)[0])
        except (ValueError, NotImplementedError) as exc:
            raise CannotWriteError(f"{file} cannot be expressed: {exc}") from exc
    found: References = {}
    for key, value in json.loads(text.getvalue()).items():
        if key == ".zattrs":
            continue
        found[f"{name}/{key}"] = value if isinstance(value, str) else [_url(file), *value[1:]]
    array = json.loads(found[f"{name}/.zarray"])
    array["fill_value"] = None  # xarray would read 0 as missing
    found[f"{name}/.zarray"] = _text(array)
    found[f"{name}/.zattrs"] = _text(_named(axes, {}))
    return found


def _opened(file: File) -> Any:
    if file.local:
        return open(file.path, "rb")
    fs, path = file.filesystem()
    return fs.open(path)


def _check_tiff(file: File, series: Any) -> None:
    """Raise an error if Zarr would read other pixels than a TIFF reader."""
    if series.is_multifile:
        raise CannotWriteError(f"{file}: its pixels lie in several files; give each of them")
    page = series.keyframe
    if page.photometric == 6 and page.compression not in (7, 33007, 34892) and page.subsampling not in (None, (1, 1)):
        raise CannotWriteError(f"{file}: subsampled YCbCr is computed when it is read")
    if page.photometric == 6 and page.compression == 1:
        raise CannotWriteError(f"{file}: YCbCr is converted to RGB when it is read")
    if page.photometric in (5, 8, 9, 10):
        raise CannotWriteError(f"{file}: the colours {page.photometric.name} are converted when they are read")
