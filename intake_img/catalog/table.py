"""Tables of images, one row per image, for more images than YAML can handle: the Intake driver ``image_table``.

A row is checked like an entry of a YAML catalog, when it is opened: its paths cannot lead out of the jail.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from intake.source.base import DataSource

from intake_img.catalog.backends import Rows, opened, shown, written
from intake_img.catalog.columns import COLUMNS, JSON, Condition, condition, row_of, spec_of
from intake_img.catalog.free_columns import checked_columns, kind_of_values
from intake_img.catalog.gallery import MOST, GalleryRow, gallery
from intake_img.catalog.jail import jail_of
from intake_img.errors import CatalogError
from intake_img.formats.arguments import jinja_escaped
from intake_img.model.text import escaped
from intake_img.model.typed import Uri
from intake_img.storage.files import File

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from intake_img.catalog.entries import Entry
    from intake_img.catalog.write import Sources

__all__ = ["ImageTable", "open_table", "write_table"]


class ImageTable(DataSource):
    """A table of images: a mapping of names to sources that can be searched by columns.

    Parameters
    ----------
    uri : str or os.PathLike
        A Parquet file, an SQLite file, or a URL of SQLAlchemy (``postgresql://...``).
    table : str
        Name of the table in a database.
    metadata : mapping, optional
        Free metadata of the catalog entry.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name: ClassVar[str] = "image_table"
    title: ClassVar[str] = "table of images"
    container = "dataframe"
    version = "1"

    def __init__(
        self,
        uri: Uri | File,
        *,
        table: str = "images",
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(storage_options=dict(storage_options or {}), metadata=copy.deepcopy(dict(metadata or {})))
        self.file = File.parse(uri, storage_options)
        self.uri, self.table = self.file.path, table
        home = [self.file.parent.path] if self.file.local or not self.file.path.startswith("sqlite") else []
        self.jail = self.file.jail or jail_of(home, (), storage_options)
        self._found: Rows | None = None
        self._conditions: tuple[Condition, ...] = ()

    @property
    def images(self) -> Rows:
        """The rows."""
        if self._found is None:
            rows = opened(self.file, self.table)
            self._found = rows.find(self._conditions) if self._conditions else rows
        return self._found

    # a mapping

    def __len__(self) -> int:
        return self.images.count()

    def __iter__(self) -> Iterator[str]:
        return iter(self.images.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.images.row(name) is not None

    def __getitem__(self, name: str) -> Any:
        """Return the source of an image."""
        return self.entry(name)()

    def keys(self) -> list[str]:
        """Return the names."""
        return self.images.names()

    def entry(self, name: str) -> Entry:
        """Return the row of an image as an entry of a catalog.

        Raises
        ------
        KeyError
            If there is no such name.
        CatalogError
            If the row is refused; the message gives the reason.
        """
        row = self.images.row(name) if isinstance(name, str) else None
        if row is None:
            close = difflib.get_close_matches(str(name), filter(None, self.images.names()[:100_000]), 3)
            raise KeyError(
                f"the table {shown(self.file)} has no image {name!r}" + (f"; did you mean {close}?" if close else "")
            )
        return self._checked(row)

    def _checked(self, row: Mapping[str, Any]) -> Entry:
        from intake_img.catalog.document import Document
        from intake_img.catalog.schema import CatalogReader  # its catalogs contain tables

        name = str(row["name"])
        if row["name"] is None:
            raise CatalogError(f"{shown(self.file)}: a row has no name")
        data = {"sources": {name: spec_of(row, jinja_escaped)}}
        reader = CatalogReader(Document(data, ""), self.file, self.jail, (self.file.identity,))
        if reader.problems:
            raise CatalogError("; ".join(str(p) for p in reader.problems[:5]))
        if reader.entries[name].driver not in _single_images():
            raise CatalogError(f"{shown(self.file)}: {name!r} is not an image but a {reader.entries[name].driver!r}")
        return reader.entries[name]

    # searching

    def search(self, **columns: Any) -> ImageTable:
        """Return the images that match all conditions.

        Parameters
        ----------
        **columns
            A value; a list of values; or a comparison as text, such as ``spacing_x="<0.5"`` or ``modified=">2024-05"``.
            ``channels`` finds images that have these channels, among others; ``text`` finds words anywhere in names,
            descriptions and free columns, ignoring case. Spacings are in µm and s.

        Returns
        -------
        ImageTable

        Raises
        ------
        CatalogError
            If there is no such column, or a value has the wrong type for it.
        """
        given = [condition(c, v, self.images.kinds) for c, v in columns.items()]
        conditions = [one for one in given if one.operator != "has" or one.value]
        found = object.__new__(type(self))
        found.__dict__.update(self.__dict__, _found=self.images.find(conditions))
        found._conditions = (*self._conditions, *conditions)
        return found

    def sel(self, **columns: Any) -> ImageTable:
        """Return the images with exactly these values, or one of a list of values, in the columns.

        Raises
        ------
        KeyError
            If no row matches.
        """
        one_of = {
            c: v if c in JSON or (isinstance(v, Iterable) and not isinstance(v, str)) else [v]
            for c, v in columns.items()
        }
        found = self.search(**one_of)
        if not len(found):
            raise KeyError(f"no image of {shown(self.file)} has {', '.join(f'{c}={v!r}' for c, v in columns.items())}")
        return found

    # as something else

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table as a `pandas.DataFrame`, one row per image."""
        import pandas as pd

        kinds = self.images.kinds
        frame = pd.DataFrame(list(self.images.rows()), columns=list(kinds))
        empty = [c for c, kind in kinds.items() if kind is not str and frame[c].isna().all()]
        return frame.astype(dict.fromkeys(empty, float))  # else they could not be compared with numbers

    def read(self) -> pd.DataFrame:
        """Return `to_dataframe`."""
        return self.to_dataframe()

    def to_dataset(self, along: str) -> xr.Dataset:
        """Return all images as one lazy Dataset, in the order of the rows.

        Parameters
        ----------
        along : str
            An axis of the images, or a column: then they are stacked along the axis ``i``, whose coordinate has the
            values of the column.

        Raises
        ------
        CatalogError
            If the table is empty, or axes, lengths, dtypes, variables, spacings, units or names of channels differ.

        Warns
        -----
        UserWarning
            If the positions along an axis of the images start again in each: then it has no coordinate.
        """
        from intake_img.catalog.joining import joined

        rows = list(self.images.rows())
        if not rows:
            raise CatalogError(f"no image of {shown(self.file)} is left to be joined: search for less")
        images = {str(row["name"]): self._checked(row)().to_dask() for row in rows}
        column = along in self.images.kinds
        axis = "i" if column else along
        missing = [name for name, ds in images.items() if not column and axis not in ds.dims]
        if missing:
            raise CatalogError(f"along={along!r}: {missing[0]!r} has no such axis, and the table no such column")
        ds = joined(images, along, axis)
        if not column:
            return ds
        missing_value = np.nan if self.images.kinds[along] is not str else None
        return ds.assign_coords({axis: [missing_value if row[along] is None else row[along] for row in rows]})

    def to_datatree(self, by: Iterable[str] = ("plate", "well")) -> xr.DataTree:
        """Return all images as a lazy `xarray.DataTree`: a group for each value of the columns contains the images.

        Parameters
        ----------
        by : sequence of str
            Columns; if an image has no value in a column, that level is left out.

        Raises
        ------
        CatalogError
            If two images have the same place in the tree: ``/`` in their names becomes ``_``.
        """
        import xarray as xr

        levels = [by] if isinstance(by, str) else list(by)
        nodes = {}
        for row in self.images.rows():
            groups = [str(row[c]).replace("/", "_") for c in levels if row.get(c) not in (None, "")]
            node = "/".join([*groups, str(row["name"]).replace("/", "_")])
            if node in nodes:
                raise CatalogError(f"{row['name']!r} and another image would be the same node {node!r} of the tree")
            nodes[node] = self._checked(row)().to_dask()
        return xr.DataTree.from_dict(nodes)

    def to_stac(self, datetime: dt.datetime | None = None) -> Any:
        """Return all images as STAC items: their files are the assets, and their axes are dimensions of a datacube.

        Parameters
        ----------
        datetime : datetime.datetime, optional
            The time of images without a modification time in the table; STAC requires a time for each.

        Returns
        -------
        pystac.ItemCollection
            Paths are absolute. Needs the extra ``stac``.

        Raises
        ------
        CatalogError
            If a row is refused, consists of several files, or has no time.
        """
        from intake_img.catalog.stac import items_of

        return items_of(((row, self._place(row)) for row in self.images.rows()), datetime)

    def _place(self, row: Mapping[str, Any]) -> str:
        source = self._checked(row)()
        if hasattr(source, "files"):
            raise CatalogError(f"{row['name']!r} consists of several files: an item of STAC names one")
        return str(source.uri)

    def problems(self, open_images: bool = False) -> Iterator[tuple[str, str]]:
        """Yield the name of each image that is refused, and the reason.

        Parameters
        ----------
        open_images : bool
            Open each image, too: images that are missing or damaged are then reported as well. No pixels are read.
        """
        for row in self.images.rows():
            try:
                entry = self._checked(row)
                if open_images:
                    with contextlib.closing(entry()) as source:
                        source.discover()
            except Exception as exc:  # whatever one file does, the others are looked at
                yield str(row["name"]), str(exc) or type(exc).__name__

    def unreadable(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each image that is refused or does not open, and the reason; no pixels are read."""
        return self.problems(open_images=True)

    # Intake

    def discover(self) -> dict[str, Any]:
        """Return the number of rows and columns."""
        shape = (len(self), len(self.images.kinds))
        return {"dtype": None, "shape": shape, "npartitions": 1, "metadata": self.metadata}

    def close(self) -> None:
        """Drop cached rows."""
        self._found = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageTable) and super().__eq__(other) and self._conditions == other._conditions

    def __hash__(self) -> int:
        return super().__hash__()

    def _yaml(self) -> Any:
        if self._conditions:
            raise CatalogError("an entry of a catalog names a complete table, and not what a search of it found")
        return super()._yaml()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found": None}  # open files cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        names = map(str, self.images.names()) if len(self) <= 10 else []
        listed = f": {', '.join(names)}" if names else ""
        return f"<table of {len(self)} images in {shown(self.file)}{listed}>"

    _ipython_display_: Any = None  # Intake's own prints YAML; notebooks show the list

    def _repr_html_(self) -> str:
        rows = (
            GalleryRow(
                str(row["name"]),
                str(row["driver"]),
                str(row.get("description") or ""),
                f"table[{row['name']!r}]",
                partial(self._source, row),
            )
            for row in self.images.first(MOST)
        )
        head = f"<b>{escape(escaped(self.file.name))}</b>: {len(self)} images"
        return gallery(head, rows, len(self))

    def _source(self, row: Mapping[str, Any]) -> Any:
        return self._checked(row)()


def _single_images() -> Any:
    from intake_img.catalog.entries import image_drivers

    return [name for name in image_drivers() if name != ImageTable.name]


def open_table(
    path: Uri,
    *,
    table: str = "images",
    roots: Iterable[Uri] = (),
    schemes: Iterable[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> ImageTable:
    """Open an untrusted table of images, with the same checks as `open_catalog`.

    Parameters
    ----------
    path : str or os.PathLike
        A Parquet file, an SQLite file, or a URL of SQLAlchemy.
    table : str
        Name of the table in a database.
    roots : sequence of str
        Folders and URL prefixes in which images may lie, in addition to the folder of the table.
    schemes : sequence of str
        Schemes of URLs that the rows may name.
    storage_options : mapping, optional
        Options of the fsspec file systems.
    """
    file = File.parse(path, storage_options)
    home = [file.parent.path] if file.local else [file.path]
    jail = jail_of([*home, *([roots] if isinstance(roots, str) else roots)], schemes, storage_options)
    return ImageTable(File(file.path, file.storage_options, jail), table=table)


def write_table(
    sources: Sources,
    path: Uri,
    *,
    overwrite: bool = False,
    table: str = "images",
    checksum: bool = False,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
) -> ImageTable:
    """Write a table of images.

    Parameters
    ----------
    sources : Scan, mapping of str to ImageSource or dict, or sequence of ImageSource
        As in `write_catalog`.
    path : str or os.PathLike
        ``.parquet`` (needs the extra ``parquet``), ``.sqlite`` or a URL of SQLAlchemy (the extra ``sql``). Local images
        are named relative to its folder.
    overwrite : bool
        Replace an existing table.
    table : str
        Name of the table in a database.
    columns : mapping of str to mapping, optional
        Free columns: for each, values by image name.
    checksum : bool
        Read each file and store the SHA-256 of its bytes.

    Returns
    -------
    ImageTable

    Raises
    ------
    FileExistsError
        If the table exists and `overwrite` is not given.
    ValueError
        If the path is that of no table, or a free column has the name of another one, or no value for any image.
    """
    from intake_img.catalog.write import entries_of

    file = File.parse(path)
    entries = entries_of(sources, file.parent)
    free = checked_columns(columns or {}, entries)
    folder = file.parent.path if file.local else ""
    rows = (
        _summed(row_of(name, entry, folder, {c: v[name] for c, v in free.items()}), folder, checksum)
        for name, entry in entries.items()
    )
    kinds = {**COLUMNS, **{c: kind_of_values(v.values()) for c, v in free.items()}}
    written(rows, kinds, file, table, overwrite, free)
    return ImageTable(path, table=table)


def _summed(row: dict[str, Any], folder: str, wanted: bool) -> dict[str, Any]:
    if wanted and row["size"] is not None:
        import hashlib
        import os

        with open(os.path.join(folder, row["uri"]), "rb") as stream:
            row["checksum"] = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
    return row
