"""`ImageSource`, the base of every driver: an Intake source whose data are an image with named axes.

A driver says how its format is recognised, opens a file, describes what is in it, reads a region and writes an image.
All else (lazy arrays, partitions, scenes, overrides, pickling, YAML, the handling of errors) is here, once.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from intake.source.base import DataSource, Schema

from intake_img.formats.arguments import (
    driver_name,
    is_default,
    jinja_escaped,
    parsed_chunks,
    parsed_scene,
    scene_number,
)
from intake_img.formats.faults import translated_errors
from intake_img.formats.reading import FileReader, Probe
from intake_img.model.axes import CANONICAL, canonical_order
from intake_img.model.chunks import Region
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.record import plain
from intake_img.model.selection import select
from intake_img.storage.files import File
from intake_img.storage.handles import POOL

__all__ = ["OVERRIDES", "ImageSource"]

OVERRIDES = ("axes", "spacing", "spacing_units", "origin", "coords")
"""What `metadata` may say of an image, in place of what its file says."""


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
        self.scene = parsed_scene(scene)
        self.level = int(level)
        self.chunks = parsed_chunks(chunks)
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
            return replace(image, scene=name, scenes=tuple(names))

        if self.scene == "all" and "all" not in names:
            return replace(Image.stacked([one(n) for n in range(len(names))]), scene="all", scenes=tuple(names))
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
        return {k: v for k, v in given.items() if not is_default(v, parameters.get(k))}

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


def _rebuilt(cls: type[ImageSource], arguments: dict[str, Any], extra: dict[str, Any]) -> ImageSource:
    source = cls(**arguments)
    for key, value in extra.items():
        setattr(source, key, value)
    return source
