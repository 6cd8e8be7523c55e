"""A plate as an object: its table, missing planes, fields as Datasets and as a tree, and conversion to OME-Zarr."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from intake_img.collections.plates.catalogued import frame_of
from intake_img.collections.plates.dataframes import table_from
from intake_img.collections.plates.plate_images import present
from intake_img.collections.plates.plate_table import PlateTable
from intake_img.collections.plates.scenes import table_of
from intake_img.collections.plates.source import PlateSource
from intake_img.collections.plates.write import write_plate
from intake_img.errors import FormatError, SceneError
from intake_img.formats.format_source import FormatSource
from intake_img.formats.registry import ImgSource, open_any
from intake_img.formats.source import ImageSource
from intake_img.model.engine import Engine
from intake_img.model.wells import row_letters
from intake_img.storage.files import File

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Plate", "plate", "plate_source"]


def plate(uri: Any, *, folder: Any = None, storage_options: Mapping[str, Any] | None = None, **options: Any) -> Plate:
    """Open a plate, or many positions, as an object.

    Parameters
    ----------
    uri : str, os.PathLike, source, pandas.DataFrame or ImageTable
        The folder of an instrument, the index in it, or an OME-Zarr or OME-TIFF that contains a plate. Or a table of
        images: a row for each file, with the columns ``well`` (or ``row`` and ``column``, from 0), ``field`` and
        ``file``; and optionally ``t``, ``c``, ``z`` (numbers), ``channel`` (names), ``page`` and ``scene`` in the file,
        ``x`` and ``y`` (µm, downwards), ``height`` (µm) and ``seconds``. Or a table that `write_table` or `open_table`
        returned: of one plate, or of files and series of files with a ``well``; names that follow a well-known scheme
        (``B02_s1_w1.tif``) give what the columns do not.
    folder : str or os.PathLike, optional
        The folder of the files of a table of images.
    storage_options : mapping, optional
        Options of the fsspec file system.
    **options
        Of the driver ``plate``: ``missing``, ``chunks``, ``metadata``, ``member_options``, ...

    Returns
    -------
    Plate

    Raises
    ------
    FormatError
        If it is not a plate.

    Examples
    --------
    >>> import numpy as np, os, pandas as pd, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> for well in ("A01", "B02"):
    ...     np.save(os.path.join(folder, f"{well}.npy"), np.ones((4, 5), "uint8"))
    >>> p = plate(pd.DataFrame({"well": ["A01", "B02"], "file": ["A01.npy", "B02.npy"]}), folder=folder)
    >>> p.scenes, p["B02/1"].sizes["x"]
    (['A01/1', 'B02/1'], 5)
    """
    if storage_options:
        options["storage_options"] = storage_options
    if hasattr(uri, "to_dataframe"):
        if folder is not None or storage_options:
            raise ValueError("folder= and storage_options= are for a DataFrame: a table of images knows its files")
        if (only := _only(uri)) is not None:
            return Plate(only)
        uri = frame_of(uri)
    if hasattr(uri, "columns") and hasattr(uri, "itertuples"):
        return Plate(_of_table(table_from(uri, folder, storage_options), options))
    source = uri if isinstance(uri, ImageSource) else open_any(uri, **options)
    found = plate_source(source)
    if found is None:
        raise FormatError(
            f"{uri} is not a plate: expected the folder of an instrument with its index, an OME-Zarr or OME-TIFF with "
            "wells, or a table of images; a pattern such as '{well}_s{site}_c{c}.tif' opens files by their names"
        )
    return Plate(found)


def _only(table: Any) -> PlateSource | None:
    """Return the plate that is the only row of a table of images; None for other tables."""
    rows = table.to_dataframe()
    alone = len(rows) == 1 and rows[["well", "scene"]].isna().all(axis=None)
    return plate_source(table[rows["name"][0]]) if alone else None


def plate_source(source: ImageSource) -> PlateSource | None:
    """Return the plate source for another source; None if it is not a plate."""
    if isinstance(source, ImgSource):
        source = source.found
    if isinstance(source, PlateSource):
        return source
    table = table_of(source) if isinstance(source, FormatSource) else None
    options = {k: v for k, v in source.arguments().items() if k in ("chunks", "metadata", "storage_options")}
    return None if table is None else _of_table(table, options)


def _of_table(table: PlateTable, options: Mapping[str, Any]) -> PlateSource:
    source = PlateSource(table.index or table.folder, **options)
    source.__dict__["table"] = table
    return source


class Plate:
    """A plate: its wells and fields, unread.

    Parameters
    ----------
    source : PlateSource
    """

    def __init__(self, source: PlateSource) -> None:
        self.source = source

    @property
    def name(self) -> str:
        """Name of the plate, or of its folder."""
        return self._table.facts.name or self._table.folder.name

    @property
    def _table(self) -> PlateTable:
        return self.source.table

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of the plate."""
        return self._table.shape

    @property
    def wells(self) -> list[str]:
        """Names of the wells with images."""
        return list(self._table.wells)

    @property
    def scenes(self) -> list[str]:
        """Names of all fields, e.g. ``"B03/1"``."""
        return list(self._table.scenes)

    @property
    def channels(self) -> list[str]:
        """Names of the channels in the index."""
        return [self._table.channel(c).name for c in self._table.numbers("c")]

    @property
    def table(self) -> pd.DataFrame:
        """The planes of the index, a row for each: its well, field, position on the axes, file, and stage position.

        The column ``present`` says whether the file exists.
        """
        frame = self._table.frame()
        frame["present"] = present(self._table.folder, frame["file"].tolist())
        return frame

    @property
    def missing(self) -> pd.DataFrame:
        """The rows of `table` whose file does not exist."""
        frame = self.table
        return frame[~frame["present"]].reset_index(drop=True)

    def load(self, scene: int | str | None = None, **options: Any) -> xr.Dataset:
        """Return a field, a well or ``"all"``, like `intake_img.imload`.

        Parameters
        ----------
        scene : int or str, optional
        **options
            Of the driver ``plate``.
        """
        return self._renewed(scene=scene, **options).dataset()

    def __getitem__(self, scene: int | str) -> xr.Dataset:
        return self.load(scene)

    def __iter__(self) -> Any:
        return iter(self.scenes)

    def __len__(self) -> int:
        return len(self.scenes)

    def tree(self, wells: str | Sequence[str] | None = None, **options: Any) -> xr.DataTree:
        """Return the plate as a tree: wells, which contain the unread Datasets of their fields.

        Parameters
        ----------
        wells : str or sequence of str, optional
            Only these wells.
        **options
            Of the driver ``plate``, e.g. ``chunks=None``.

        Returns
        -------
        xarray.DataTree
            Positions outside of a plate are directly below the root.

        Raises
        ------
        SceneError
            If a well has no images.
        """
        chosen = self._table.fields if wells is None else self._fields([wells] if isinstance(wells, str) else wells)
        source = self._renewed(**options) if options else self.source
        nodes = {}
        for place in chosen:
            well = f"{place.well}/" if place.well else ""
            nodes[well + place.field.replace("/", "_")] = source.field(place).to_xarray(
                uri=source.uri, driver=source.name, order=source.output_axis_order, chunks=source.chunks
            )
        return xr.DataTree.from_dict(nodes, name=self.name)

    def _fields(self, wells: Sequence[str]) -> list[Any]:
        found = []
        for well in wells:
            fields = self._table.well_of(well)
            if fields is None:
                raise SceneError(
                    f"{self.source.uri} has no images of the well {well!r}; it has {', '.join(self.wells)}"
                )
            found += fields
        return found

    def _renewed(self, **options: Any) -> PlateSource:
        source = self.source.renewed(**options)
        source.__dict__["table"] = self._table
        return source  # type: ignore[return-value]

    def save(
        self,
        uri: Any,
        compress: Any = None,
        *,
        overwrite: bool = False,
        resume: bool = False,
        jobs: int | None = None,
        engine: Engine | None = None,
        progress: Callable[[int], None] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> list[str]:
        """Write the plate as OME-Zarr, with the metadata of high-content screening.

        Parameters
        ----------
        uri : str or os.PathLike
            Folder or URL that ends in ``.zarr``.
        compress : bool or str, optional
            See `intake_img.imsave`.
        overwrite : bool
            Replace an existing target.
        resume : bool
            Finish an interrupted write: complete fields are not written again.
        jobs : int, optional
            Number of fields to write concurrently; by default one for each core.
        engine : {"dask", "threads"}, optional
            The engine of the write; by default the workers of a dask cluster if there is a client.
        progress : callable, optional
            Called with the number of bytes of each written field.
        storage_options : mapping, optional
            Options of the target's file system.
        **options
            Options of the writer of OME-Zarr: ``chunks``, ``shards``, ``pyramid``, ``version``.

        Returns
        -------
        list of str
            The store.
        """
        return write_plate(
            self.source,
            self.name,
            File.parse(uri, storage_options),
            compress=compress,
            overwrite=overwrite,
            resume=resume,
            jobs=jobs,
            engine=engine,
            progress=progress,
            options=options,
        )

    def __repr__(self) -> str:
        rows, columns = self.shape
        size = f" of {rows} x {columns} wells" if rows else ""
        sizes = ", ".join(f"{a} {len(self._table.numbers(a))}" for a in self._table.axes)
        counts = f"{len(self.wells)} wells, {len(self)} fields" if rows else f"{len(self)} positions"
        return f"<Plate {self.name!r} ({self._table.facts.instrument}{size}): {counts}{f', {sizes}' if sizes else ''}>"

    def _repr_html_(self) -> str:
        """Return a picture of the plate: the number of fields of each well."""
        rows, columns = self.shape
        head = f"<p>{html.escape(repr(self))}</p>"
        if not rows:
            return head
        counts = {(p[0].row, p[0].column): len(p) for p in self._table.wells.values()}
        numbers = "".join(f"<th>{c + 1}</th>" for c in range(columns))
        lines = []
        for r in range(rows):
            cells = "".join(f"<td>{counts.get((r, c), '')}</td>" for c in range(columns))
            lines.append(f"<tr><th>{row_letters(r)}</th>{cells}</tr>")
        return f"{head}<table><tr><th></th>{numbers}</tr>{''.join(lines)}</table>"
