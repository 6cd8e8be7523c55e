"""`ImageSource`: an Intake source of an image with named axes.

Lazy arrays, partitions, overrides, pickling, equality and YAML are here, once, for sources of one file
(`intake_img.formats.format_source`) and of many (`intake_img.collections`).
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Literal, Self

import xarray as xr
from intake.source.base import DataSource, Schema

from intake_img.formats.arguments import (
    check_keys,
    driver_name,
    is_default,
    jinja_escaped,
    parsed_chunks,
    parsed_level,
    parsed_scene,
)
from intake_img.formats.options import ReadOptions, documented, signature_of
from intake_img.model.axes import canonical_order
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.record import plain
from intake_img.model.selection import select
from intake_img.model.typed import Chunks, Selection, Uri
from intake_img.storage.files import File

__all__ = ["OVERRIDES", "ImageSource"]

OVERRIDES = ("axes", "spacing", "spacing_units", "origin", "coords")
"""Keys of `metadata` that overrule the file."""


class ImageSource(DataSource):
    """Base of all sources of images: ``intake.open_tif`` and its like, patterns, folders and lists of files.

    A subclass has a dataclass `Options`, whose fields are its options, and defines `_images`.
    """

    _captured_init_args: tuple[Any, ...]
    _captured_init_kwargs: dict[str, Any]
    _schema: Schema | None = None
    container = "xarray"
    version = "1"
    partition_access = True

    name: ClassVar[str]
    title: ClassVar[str]
    """What people call what is opened, e.g. ``"Zeiss CZI"``."""
    Options: ClassVar[type] = ReadOptions
    """Frozen dataclass of the options."""
    uri_doc: ClassVar[tuple[str, str]] = ("str or os.PathLike", "Path or URL.")
    """Type and meaning of the URI, for the documentation."""
    further_options: ClassVar[tuple[str, str] | None] = None
    """Name and meaning of the parameter that takes further options, if there is one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Options" in cls.__dict__:
            more = cls.further_options
            cls.__signature__ = signature_of(cls.Options, more[0] if more else "")  # type: ignore[attr-defined]
            cls.__doc__ = documented(cls.__doc__, cls.Options, cls.uri_doc, more)

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if "urlpath" in options:
            raise TypeError(f"{cls.__name__} has no argument 'urlpath': here it is uri={options['urlpath']!r}")
        return super().__new__(cls, *args, **options)

    def __init__(self, uri: Uri | File | Sequence[Uri | File], **options: Any) -> None:
        known = {f.name for f in fields(self.Options)}
        more = {k: v for k, v in options.items() if k not in known}
        if more and self.further_options is None:
            raise TypeError(
                f"{type(self).__name__} got an unexpected keyword argument {next(iter(more))!r}; "
                f"its options are {', '.join(sorted(known))}"
            )
        self.options = self.Options(**{k: v for k, v in options.items() if k in known})
        metadata, storage = self.options.metadata, self.options.storage_options
        for given, what in ((metadata, "metadata"), (storage, "storage_options")):
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"{what}={given!r}: expected a mapping")
        # what intake captured are the caller's own objects: keep copies, so that nobody's later change is ours
        self._captured_init_args = copy.deepcopy(tuple(self._captured_init_args))
        self._captured_init_kwargs = copy.deepcopy(dict(self._captured_init_kwargs))
        check_keys(metadata or {}, OVERRIDES)
        file = File.given(uri, {"storage_options": storage, "cache": self.options.cache})
        kept = file.storage_options if self.options.cache is not None else storage
        super().__init__(storage_options=dict(kept or {}), metadata=copy.deepcopy(dict(metadata or {})))
        self.more_options = more
        self.file = file
        self.uri = self.file.path
        self.scene = parsed_scene(getattr(self.options, "scene", None))
        self.level = parsed_level(getattr(self.options, "level", 0))
        self.chunks = parsed_chunks(self.options.chunks)
        self.output_axis_order = self.options.output_axis_order
        self._image: tuple[Image, Image] | None = None

    # images and datasets

    def image(self) -> Image:
        """Return the image, unread, as the file describes it and `metadata` overrules it."""
        return self._images()[0]

    @property
    def overrides(self) -> dict[str, Any]:
        """What `metadata` says of the axes in place of the file: arguments of `Image.overruled`."""
        return {k: self.metadata[k] for k in OVERRIDES if self.metadata.get(k) is not None}

    def _images(self) -> tuple[Image, Image]:
        """Return the image with what `metadata` overrules, and without."""
        raise NotImplementedError

    def stamp(self) -> tuple[Any, ...]:
        """Return what changes when what the source opens is replaced: times and sizes of its files."""
        return self.file.stamp()

    def dataset(
        self,
        partition: Selection = None,
        *,
        chunks: Chunks | Literal[""] = "",
        data: Callable[[Pixels], Any] | None = None,
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
            "variables": {
                str(n): {"dims": list(v.dims), "shape": list(v.shape), "dtype": str(v.dtype)}
                for n, v in ds.data_vars.items()
            },
            **ds.attrs,
        }
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

    def read_partition(self, i: Selection) -> xr.Dataset:
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
        self._image = self._schema = None

    @classmethod
    def name_of_driver(cls) -> str:
        return cls.__dict__.get("name") or cls.name

    # equality, pickling, YAML

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the constructor that were given and are not its defaults, by name.

        The URI is absolute, and what Intake's catalogs add to the metadata is left out.
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
        return type(self) is type(other) and self._identity() == other._identity()

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

    _ipython_display_: Any = None  # Intake's own prints YAML; notebooks show the card

    def _repr_html_(self) -> str:
        cards = importlib.import_module("intake_img.accessor.cards")  # by name: that layer is above this one
        return str(cards.of_source(self))


def _rebuilt(cls: type[ImageSource], arguments: dict[str, Any], extra: dict[str, Any]) -> ImageSource:
    source = cls(**arguments)
    for key, value in extra.items():
        setattr(source, key, value)
    return source
