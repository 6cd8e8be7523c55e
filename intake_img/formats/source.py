"""`ImageSource`, the base of every driver: an Intake source whose data are an image with named axes.

A driver says how its format is recognised, opens a file, describes what is in it, reads a region and writes an image.
All else (lazy arrays, partitions, scenes, overrides, pickling, YAML, the handling of errors) is here, once.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import importlib.metadata
import inspect
import json
import re
import struct
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from intake.source.base import DataSource, Schema

from intake_img.errors import AxesError, FormatError, IntakeImgError, RemoteError, SceneError, SourceChangedError
from intake_img.model.axes import CANONICAL, canonical_order
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.record import plain
from intake_img.model.selection import select
from intake_img.storage.files import File
from intake_img.storage.handles import POOL
from intake_img.storage.remote import noted_failures

__all__ = [
    "ENTRY_POINTS",
    "OVERRIDES",
    "FileReader",
    "ImageSource",
    "Probe",
    "check_level",
    "scene_number",
    "translated_errors",
]

ENTRY_POINTS = "intake.drivers"
"""The group of entry points in which a driver is declared."""
OVERRIDES = ("axes", "spacing", "spacing_units", "origin", "coords")
"""What `metadata` may say of an image, in place of what its file says."""


# what a mistake in code raises; of a library, which may meet it on damaged bytes, it is translated as the others are
_MISTAKES = (AttributeError, NameError, NotImplementedError, AssertionError, TypeError)


@dataclass(frozen=True)
class Probe:
    """What is seen of a file before a driver is chosen: its name, its first bytes, whether it is a folder."""

    file: File
    head: bytes
    folder: bool

    @property
    def name(self) -> str:
        return self.file.name

    def holds(self, name: str) -> bool:
        """True if the folder holds a file of that name."""
        return self.folder and (self.file / name).exists()


@dataclass(frozen=True)
class FileReader:
    """Reads regions of one array in a file: names only, so that it pickles; the pool opens the file when it is needed.

    Parameters
    ----------
    driver : type
        Subclass of `ImageSource`.
    file : File
    stamp : tuple
        What the file looked like when it was opened; see `ImageSource.stamp`.
    address : hashable
        Which array of the file: whatever the driver's `read_region` understands.
    options : tuple of (str, object)
        Options of the driver's `open`.
    """

    driver: type[ImageSource]
    file: File
    stamp: tuple[Any, ...]
    address: Any
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> Hashable:
        place = self.file.path, repr(self.file.storage_options), self.file.jail  # what a jail refuses stays refused
        return (self.driver.__qualname__, *place, self.stamp, self.options)

    def __dask_tokenize__(self) -> Any:
        return (self.key, repr(self.address))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 in out.shape:
            return
        with translated_errors(self.driver, self.file):
            if self.file.local:
                self.check()
            with self.lease() as handle:
                self.driver.read_region(handle, self.address, region, out)

    def mapped(self) -> np.ndarray | None:
        """Return the array as it lies in the file, memory-mapped and read-only.

        None where it is compressed, remote or in pieces. Whoever reads from it calls `check` before.
        """
        if not self.file.local:
            return None
        with translated_errors(self.driver, self.file), self.lease() as handle:
            return self.driver.mapped(handle, self.address)

    def shards(self) -> tuple[int, ...] | None:
        """Return the shape of the shards that the array is stored in, if it is."""
        with translated_errors(self.driver, self.file), self.lease() as handle:
            return self.driver.shards(handle, self.address)

    def check(self) -> None:
        """Raise `SourceChangedError` if the file is not the one that was opened."""
        if self.driver.stamp(self.file) != self.stamp:
            raise SourceChangedError(f"{self.file} was changed or replaced since it was opened: load it again")

    def decodes(self) -> bool:
        """Whether parts of tiles cost as much as whole ones; remote bytes always do. See `ImageSource.decodes`."""
        if not self.file.local:
            return True
        with translated_errors(self.driver, self.file):
            self.check()
            with self.lease() as handle:
                return self.driver.decodes(handle, self.address)

    def lease(self) -> contextlib.AbstractContextManager[Any]:
        return POOL.lease(self.key, self._open)

    def _open(self) -> Any:
        self.check()
        with noted_failures() as met:
            handle = self.driver.open(self.file, **dict(self.options))
        if met:  # a library went on without what it could not read
            if hasattr(handle, "close"):
                handle.close()
            raise RemoteError(met[0])
        return handle


@contextlib.contextmanager
def translated_errors(driver: type[ImageSource], file: File) -> Iterator[None]:
    """Turn what a library raises on damaged bytes into `FormatError`, and let each error of ours name the file.

    Mistakes in the code of a driver, such as an `AttributeError`, are no fault of the file and pass unchanged.
    """
    try:
        with _failures_first():
            yield
    except (FormatError, AxesError) as exc:
        _check_empty(driver, file)
        if file.name in str(exc):
            raise
        raise type(exc)(f"{file}: {exc}") from exc
    except (IntakeImgError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ConnectionError,
            TimeoutError, ImportError):  # fmt: skip
        raise
    except MemoryError as exc:
        raise FormatError(f"{file}: its header asks for more memory than there is; it is damaged or too large") from exc
    except (Exception, struct.error) as exc:
        if isinstance(exc, _MISTAKES) and _own_code(driver, exc):
            raise
        # the disk or the network, not the bytes; but an invalid argument is an offset that damaged bytes gave
        if isinstance(exc, OSError) and exc.errno not in (None, errno.EINVAL):
            raise
        _check_empty(driver, file)
        raise FormatError(
            f"{file}: cannot be read as {driver.format_name}: {type(exc).__name__}: {str(exc)[:300] or 'no details'}; "
            "the file is truncated, damaged, or of another format"
        ) from exc


def _check_empty(driver: type[ImageSource], file: File) -> None:
    """Raise an error that says so if a file that could not be read is empty."""
    try:
        about = {} if file.local else file.remote_info()
        empty = not file.head(1) if file.local else about.get("size") == 0 and about.get("type") == "file"
    except (OSError, IntakeImgError):
        return
    if empty:
        raise FormatError(f"{file} is empty (0 bytes): expected a {driver.format_name} file; copy or save it again")


def _own_code(driver: type[ImageSource], exc: Exception) -> bool:
    """Whether an error was raised by this package or that of the driver, not by a library that parses the bytes."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""
    return raised_in.partition(".")[0] in ("intake_img", driver.__module__.partition(".")[0])


@contextlib.contextmanager
def _failures_first() -> Iterator[None]:
    """Raise what a server failed with within a ``with``, in place of what a library made of that."""
    with noted_failures() as met:
        try:
            yield
        except Exception as exc:
            if met and not isinstance(exc, RemoteError):
                raise RemoteError(met[0]) from None
            raise
    if met:
        raise RemoteError(met[0])


class ImageSource(DataSource):
    """Base of all drivers.

    A driver sets the class attributes `name`, `format_name`, `extensions` and `magic`, spells out its options in a
    constructor, and defines `open`, `describe_image`, `read_region` and, where it writes, `write`; see "How to add a
    format" in the documentation.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL.
    scene : int, str or None
        Number or name of the image to open, where the file holds several; None for the first, ``"all"`` to stack them
        on ``i``.
    level : int
        Level of a pyramid; 0 is full resolution.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays, ``"auto"`` for whole native tiles grouped to some MiB; None for xarray's own lazy
        indexing.
    output_axis_order : str or None
        Order of the axes; None keeps the file's.
    metadata : mapping, optional
        Free metadata of the catalog entry; ``axes``, ``spacing``, ``spacing_units``, ``origin`` and ``coords`` in
        it add to or overrule what the file says.
    storage_options : mapping, optional
        Options of the fsspec file system.
    open_options : object
        Options of the driver's `open`.
    """

    _captured_init_args: tuple[Any, ...]
    _captured_init_kwargs: dict[str, Any]
    _schema: Schema | None = None
    container = "xarray"
    version = "1"
    partition_access = True

    name: ClassVar[str]
    format_name: ClassVar[str]
    """What people call the format, e.g. ``"Zeiss CZI"``."""
    extensions: ClassVar[tuple[str, ...]] = ()
    """Lower-case endings of names, e.g. ``(".ome.tif", ".tif")``; the longest that matches any driver wins."""
    magic: ClassVar[tuple[tuple[int, bytes], ...]] = ()
    """Offsets and bytes found there, any of which tells the format."""
    pixels_only: ClassVar[tuple[str, ...]] = ()
    """Those of `extensions` whose files, when written, keep the pixels alone: no axes, coordinates or attributes."""
    folder: ClassVar[bool] = False
    """Whether the format is a folder of files."""
    extras: ClassVar[Mapping[str, str]] = {}
    """The extras of intake_img that widen the format, and what each brings."""
    special_scenes: ClassVar[tuple[str, ...]] = ()
    """Values of ``scene`` beyond numbers, names and ``"all"`` that `describe_image` understands."""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if "urlpath" in options:
            raise TypeError(f"{cls.__name__} has no argument 'urlpath': here it is uri={options['urlpath']!r}")
        return super().__new__(cls, *args, **options)

    def __init__(
        self,
        uri: Any,
        *,
        scene: int | str | None = None,
        level: int = 0,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **open_options: Any,
    ) -> None:
        for given, what in ((metadata, "metadata"), (storage_options, "storage_options")):
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"{what}={given!r}: expected a mapping")
        # what intake captured are the caller's own objects: keep copies, so that nobody's later change is ours
        self._captured_init_args = copy.deepcopy(tuple(self._captured_init_args))
        self._captured_init_kwargs = copy.deepcopy(dict(self._captured_init_kwargs))
        super().__init__(storage_options=dict(storage_options or {}), metadata=copy.deepcopy(dict(metadata or {})))
        self.file = File.parse(uri, self.storage_options)
        self.uri = self.file.path
        self.scene = _number(scene)
        self.level = int(level)
        self.chunks = _chunks(chunks)
        self.output_axis_order = output_axis_order
        self.open_options = open_options
        self._image: tuple[Image, Image] | None = None
        self._reader: FileReader | None = None
        if self.level < 0:
            raise ValueError(f"level={level!r}: expected 0 (full resolution) or a positive number")

    # what a driver defines

    @classmethod
    def file_axes(cls, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        """Return which axes of a variable one file called `name` holds; None for all of them."""
        return None

    @classmethod
    def claims(cls, probe: Probe) -> bool:
        """True if the bytes are of this format, whatever the file is called."""
        return any(probe.head[at : at + len(magic)] == magic for at, magic in cls.magic)

    @classmethod
    def stamp(cls, file: File) -> tuple[Any, ...]:
        """Return what changes when the file is replaced; formats that are folders know which of their files tell."""
        return file.stamp()

    @classmethod
    def open(cls, file: File) -> Any:
        """Return a handle: whatever the other methods need, with a ``close`` if it holds a file open."""
        raise NotImplementedError

    @classmethod
    def twin(cls, handle: Any, file: File) -> Any:
        """Return a handle of another file that is, but for its pixels, the same byte for byte; None if that is not so.

        Of many files with one layout only the first is parsed then. A driver that cannot tell quickly returns None.
        """
        return None

    @classmethod
    def renew(cls, handle: Any) -> None:
        """Forget what a handle knows of files that changed since, for formats whose `stamp` does not look at them all.

        Called before an image is described with a handle that may have been opened earlier.
        """

    @classmethod
    def scene_names(cls, handle: Any) -> Sequence[str]:
        """Return a name for each image in the file."""
        return ["0"]

    def describe_image(self, handle: Any, scene: int | str, level: int) -> Image:
        """Return one image, unread.

        Parameters
        ----------
        handle : object
            As `open` returned it.
        scene : int or str
            Its number, or one of `special_scenes`.
        level : int
            Level of the pyramid.
        """
        raise NotImplementedError

    @classmethod
    def read_region(cls, handle: Any, address: Any, region: Region, out: np.ndarray) -> None:
        """Fill `out` with a region of the array at `address`; called from many threads at once."""
        raise NotImplementedError

    @classmethod
    def mapped(cls, handle: Any, address: Any) -> np.ndarray | None:
        """Return the array at `address`, memory-mapped, where it lies in a local file as plain bytes."""
        return None

    @classmethod
    def shards(cls, handle: Any, address: Any) -> tuple[int, ...] | None:
        """Return the shape of the shards of the array at `address`, for formats that have them."""
        return None

    @classmethod
    def write(
        cls, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write an image to a new file.

        Parameters
        ----------
        image : Image
        path : str
            A local path that does not exist (an empty folder, for formats that are folders). Its name says nothing of
            the format.
        compress : object
            None for the format's default, False for none, a name of a codec, or True for a good one.
        progress : callable, optional
            To be called with the number of bytes of pixels after each step.
        """
        raise NotImplementedError

    @classmethod
    def many_variables(cls, name: str) -> bool:
        """Return whether one file called `name` holds several variables."""
        return False

    @classmethod
    def companions(cls, image: Image, name: str) -> Mapping[str, bytes]:
        """Return further small files, by name, that belong beside a file called `name` that holds `image`."""
        return {}

    @classmethod
    def sample(cls, folder: str) -> tuple[str, xr.Dataset]:
        """Make a tiny file of the format, by other means than `write`, for the conformance suite.

        Parameters
        ----------
        folder : str
            An empty folder to put it in.

        Returns
        -------
        path : str
        expected : xarray.Dataset
            What the file holds: variables with their axes, and the coordinates that the file knows.
        """
        raise NotImplementedError

    @classmethod
    def decodes(cls, handle: Any, address: Any) -> bool:
        """Whether reading a small part of a tile costs as much as the whole tile, because it is compressed."""
        return True

    # for the use of drivers

    def pixels(
        self, address: Any, shape: Sequence[int], dtype: Any, tiles: Sequence[int], parallel: bool = True
    ) -> Pixels:
        """Return the unread pixels of the array that `read_region` knows as `address`."""
        base = self._file_reader()
        reader = FileReader(base.driver, base.file, base.stamp, address, base.options)
        POOL.use(reader.key, reader)
        return Pixels(reader, tuple(shape), np.dtype(dtype), tuple(tiles), parallel)

    def _file_reader(self) -> FileReader:
        if self._reader is None:
            options = tuple(sorted(self.open_options.items()))
            self._reader = FileReader(type(self), self.file, self.stamp(self.file), None, options)
        return self._reader

    def beside(self, file: File) -> ImageSource:
        """Return a source of another file with the options of this one: what these cost to check is spent once."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, file=file, uri=file.path, _image=None, _reader=None, _schema=None)
        return new

    # images and datasets

    def image(self) -> Image:
        """Return the image, unread, as the file describes it and `metadata` overrules it."""
        return self._images()[0]

    def _images(self) -> tuple[Image, Image]:
        if self._image is None:
            with translated_errors(type(self), self.file):
                reader = self._file_reader()
                POOL.use(reader.key, reader)
                with reader.lease() as handle:
                    self.renew(handle)
                    names = [str(n) for n in self.scene_names(handle)]
                    original = self._describe_scene(handle, names)
            overrides = {k: self.metadata[k] for k in OVERRIDES if self.metadata.get(k) is not None}
            self._image = original.overruled(**overrides), original
        return self._image

    def _describe_scene(self, handle: Any, names: list[str]) -> Image:
        def one(number: int | str) -> Image:
            image = self.describe_image(handle, number, self.level)
            name = names[number] if isinstance(number, int) else number
            return _replace_scene(image, name, names)

        if self.scene == "all" and "all" not in names:
            return _replace_scene(Image.stacked([one(n) for n in range(len(names))]), "all", names)
        if self.scene in self.special_scenes and self.scene not in names:
            return one(str(self.scene))
        return one(scene_number(self.scene, names, self.file))

    def dataset(
        self, partition: Any = None, *, chunks: Any = "", data: Callable[[Pixels], Any] | None = None
    ) -> xr.Dataset:
        """Return the image as a Dataset.

        Parameters
        ----------
        partition : int, str, list or mapping, optional
            Load only a part: see `intake_img.imload`.
        chunks : "auto", None, int or mapping
            In place of the source's own.
        data : callable, optional
            Makes arrays of `Pixels`; in place of `chunks`.
        """
        image, original = self._images()
        dropped: dict[str, int] = {}
        if partition is not None:
            image, dropped = select(image, self._indexers(image, partition))
        ds = image.to_xarray(
            uri=str(self.file),
            driver=self.name_of_driver(),
            order=self.output_axis_order,
            chunks=self.chunks if chunks == "" else chunks,
            original=original,
            data=data,
        )
        if dropped:
            ds = ds.isel(dropped)
        ds.set_close(self.close)
        return ds

    def _indexers(self, image: Image, partition: Any) -> Mapping[Hashable, Any]:
        if isinstance(partition, Mapping):
            return partition
        return {self._first_axis(image): partition}

    def _first_axis(self, image: Image) -> str:
        return canonical_order(next(iter(image.variables.values())).axes, self.output_axis_order)[0]

    # Intake's contract

    def _get_schema(self) -> Schema:
        ds = self.dataset(chunks=None)
        first = next(iter(ds.data_vars.values()))
        facts = {
            "axes": "".join(map(str, first.dims)),
            "spacing": {str(a): c.attrs["spacing"] for a, c in ds.coords.items() if "spacing" in c.attrs},
            "spacing_units": {str(a): c.attrs["units"] for a, c in ds.coords.items() if "units" in c.attrs},
            "coords": {"c": ds["c"].values.tolist()} if "c" in ds.coords else {},
            "variables": {str(n): {"dims": list(v.dims), "shape": list(v.shape), "dtype": str(v.dtype)}
                          for n, v in ds.data_vars.items()},
            **ds.attrs,
        }  # fmt: skip
        return Schema(
            dtype=str(first.dtype), shape=first.shape, npartitions=first.shape[0], extra_metadata=plain(facts)
        )

    def _load_metadata(self) -> None:
        self._known_schema()

    def _known_schema(self) -> Schema:
        if self._schema is None:
            self._schema = self._get_schema()
            self.dtype, self.shape = self._schema["dtype"], self._schema["shape"]
            self.npartitions = self._schema["npartitions"]
        return self._schema

    def discover(self) -> dict[str, Any]:
        """Return dtype, shape, npartitions and metadata: the entry's own, and what the file says. Reads no pixel."""
        schema = self._known_schema()
        metadata = {**schema["extra_metadata"], **{k: v for k, v in self.metadata.items() if k not in OVERRIDES}}
        facts = {"dtype": self.dtype, "shape": self.shape, "npartitions": self.npartitions, "metadata": metadata}
        return copy.deepcopy(facts)  # what the caller does with it is not ours

    def describe(self) -> dict[str, Any]:
        """Return the catalog entry that the source was made from, or would be saved as, as plain data; opens nothing.

        Returns
        -------
        dict
            With Intake's keys: ``name``, ``container``, ``plugin`` and ``driver`` (lists of one name),
            ``description``, ``direct_access``, ``user_parameters``, ``metadata`` and ``args``.
        """
        if self._entry is not None:
            return self._entry.describe()
        entry = self._yaml()["sources"][self.name]
        driver = [entry["driver"]]
        fixed = {"container": self.container, "plugin": driver, "direct_access": "forbid", "user_parameters": []}
        return {"name": self.name, **fixed, **entry, "driver": driver}

    def to_dask(self) -> xr.Dataset:
        """Return a Dataset of dask arrays."""
        return self.dataset(chunks="auto" if self.chunks is None else self.chunks)

    def read(self) -> xr.Dataset:
        """Return a Dataset in memory: one array is filled, in several threads."""
        return self.dataset(data=Pixels.read)

    def read_partition(self, i: Any) -> xr.Dataset:
        """Return a part of the Dataset in memory.

        Parameters
        ----------
        i : int, str, list or mapping
            An index or label on the first axis, a list of them, or ``{axis: index | label | slice | list}``.
        """
        return self.dataset(i, data=Pixels.read)

    def _get_partition(self, i: int) -> xr.Dataset:
        return self.read_partition(i)

    def read_chunked(self) -> Iterator[xr.Dataset]:
        """Iterate over the partitions along the first axis, in memory one at a time."""
        self._load_metadata()
        for i in range(self.npartitions):
            yield self.read_partition(i)

    def _close(self) -> None:
        if self._reader is not None:
            POOL.close(self._reader.key)
        self._image = self._reader = self._schema = None

    @classmethod
    def name_of_driver(cls) -> str:
        return cls.__dict__.get("name") or cls.name

    # equality, pickling, YAML

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor that were given and are not its defaults, by name.

        The URI is absolute, and what Intake's catalogs add to the metadata is left out: it is no fact of the source.
        """
        bound = inspect.signature(type(self)).bind(*self._captured_init_args, **self._captured_init_kwargs)
        parameters = bound.signature.parameters
        given: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = parameters[name].kind
            given.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
        if given.get("metadata"):
            given["metadata"] = {k: v for k, v in given["metadata"].items() if k != "catalog_dir"}
        given["uri"] = self.uri
        return {k: v for k, v in given.items() if not _is_default(v, parameters.get(k))}

    def renewed(self, **options: Any) -> ImageSource:
        """Return a source of the same files, in the same jail, with other options."""
        return type(self)(**{**self.arguments(), "uri": self._place(), **options})

    def _place(self) -> Any:
        """Return what to give as URI, so that a jail is kept."""
        return self.file if self.file.jail is not None else self.uri

    def _identity(self) -> str:
        return json.dumps([type(self).__qualname__, plain(self.arguments())], sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._identity() == other._identity()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._identity())

    def __dask_tokenize__(self) -> Any:
        return self._identity()

    def __reduce__(self) -> tuple[Any, ...]:
        extra = {k: v for k, v in (("name", self.__dict__.get("name")), ("description", self.description)) if v}
        return _rebuilt, (type(self), {**self.arguments(), "uri": self._place()}, extra)

    def _yaml(self) -> dict[str, Any]:
        arguments = self.arguments()
        metadata = arguments.pop("metadata", None) or {}
        entry = {
            "driver": driver_name(type(self)),
            "description": self.description or "",
            "args": jinja_escaped(plain(arguments, strict=True)),
            "metadata": plain(metadata, strict=True),
        }
        return {"sources": {self.name: entry}}

    def yaml(self) -> str:
        """Return a catalog of this one entry: plain YAML that opens to an equal Dataset."""
        import yaml

        return yaml.safe_dump(self._yaml(), default_flow_style=False, allow_unicode=True, sort_keys=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uri!r}>" if self.uri else super().__repr__()

    def _ipython_display_(self) -> None:
        print(repr(self))


def scene_number(scene: int | str | None, names: Sequence[str], file: object) -> int:
    """Return the number of a scene given by number or name.

    Raises
    ------
    SceneError
        If there is no such scene; the message names them all.
    """
    if not names:
        raise FormatError(f"{file} holds no image")
    if scene is None:
        return 0
    shown = ", ".join(f"{n}: {name!r}" for n, name in enumerate(names[:20])) + (", …" if len(names) > 20 else "")
    if isinstance(scene, int):
        if not -len(names) <= scene < len(names):
            raise SceneError(f"{file} has no scene number {scene}; it has {len(names)} ({shown})")
        return scene % len(names)
    found = [n for n, name in enumerate(names) if name == scene]
    if len(found) > 1:
        raise SceneError(f"{file} has {len(found)} scenes named {scene!r}: give the number instead ({shown})")
    if not found and re.fullmatch(r"-?\d+", scene):  # templates of catalogs make texts of numbers
        return scene_number(int(scene), names, file)
    if not found:
        raise SceneError(f"{file} has no scene named {scene!r}; it has {shown}, or 'all'")
    return found[0]


def _number(scene: Any) -> int | str | None:
    if scene is None or isinstance(scene, str):
        return scene or None
    if isinstance(scene, (int, np.integer)) and not isinstance(scene, bool):
        return int(scene)
    raise TypeError(f"scene={scene!r}: expected a number, a name, 'all' or None")


def _chunks(chunks: Any) -> Any:
    """Chunks as given, or as the text that a template of a catalog makes of a number or None."""
    if not isinstance(chunks, str):
        return chunks
    if re.fullmatch(r"-?\d+", chunks):
        return int(chunks)
    return None if chunks in ("", "None") else chunks


def _is_default(value: Any, parameter: inspect.Parameter | None) -> bool:
    if value is None or isinstance(value, (str, bool, int)):
        return parameter is not None and type(value) is type(parameter.default) and value == parameter.default
    return isinstance(value, Mapping) and not value and parameter is not None and parameter.default is None


def _replace_scene(image: Image, name: str, names: Sequence[str]) -> Image:
    return replace(image, scene=name, scenes=tuple(names))


def _rebuilt(cls: type[ImageSource], arguments: dict[str, Any], extra: dict[str, Any]) -> ImageSource:
    source = cls(**arguments)
    for key, value in extra.items():
        setattr(source, key, value)
    return source


def driver_name(cls: type[ImageSource]) -> str:
    """The name under which a catalog finds the driver: that of its entry point, or else its dotted path."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.value == f"{cls.__module__}:{cls.__qualname__}":
            return point.name
    return f"{cls.__module__}.{cls.__qualname__}"


def jinja_escaped(value: Any) -> Any:
    """Quote what Jinja, which Intake runs over every text, would take for a template, or for ends of lines."""
    if isinstance(value, str):
        names = {"\r": r"\r", "\n": r"\n"}
        return re.sub(r"\{[{%#]|\{(?=\r|\n\Z)|\r|\n\Z", lambda m: "{{ '" + names.get(m[0], m[0]) + "' }}", value)
    if isinstance(value, dict):
        return {k: jinja_escaped(v) for k, v in value.items()}
    return [jinja_escaped(v) for v in value] if isinstance(value, list) else value


def check_level(level: int, levels: int, file: object) -> int:
    """Return the level if the pyramid has it, or raise `SceneError` that says how many there are."""
    if level >= levels:
        raise SceneError(f"{file} has {levels} level{'s' * (levels > 1)} of resolution, there is no level {level}")
    return level
