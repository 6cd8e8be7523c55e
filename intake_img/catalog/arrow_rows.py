"""Tables of images in Parquet files, read and written by pyarrow."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from intake_img.catalog.cells import as_texts, cell, kind_of, plain
from intake_img.catalog.columns import COLUMNS, REPEATED, Condition
from intake_img.catalog.table_batches import BATCH, in_batches
from intake_img.catalog.trigrams import TRIGRAMS, Trigrams, groups_with, packed, trigrams_in, unpacked
from intake_img.catalog.word_search import SINGULAR, has_word, rows_with
from intake_img.errors import CatalogError, IntakeImgError
from intake_img.model.machine import cpus
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["ArrowRows", "write_parquet"]

_FEW = 4  # a chosen row in this many
_SHORT = 8  # bytes of a value, on average: of those that repeat only their numbers are stored
_GROUPS = 4  # row groups in which a name is sought before all names are read


def _pyarrow() -> Any:
    imported("pyarrow", "parquet", "tables of images in Parquet")
    import pyarrow.compute
    import pyarrow.parquet

    return pyarrow


def write_parquet(
    rows: Iterable[Mapping[str, Any]], kinds: Mapping[str, type], path: str, searched: Sequence[str]
) -> None:
    """Write a Parquet file, with the trigrams of the columns of which the texts consist."""
    pa = _pyarrow()
    types = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    schema = pa.schema([(name, types[kind]) for name, kind in kinds.items()])
    codecs = {c: "lz4" if c in searched else "zstd" for c in kinds}  # what searches read is decoded quickly
    repeated = [c for c in kinds if c in REPEATED or (c in searched and c not in SINGULAR)]
    trigrams, sizes = [], []
    with pa.parquet.ParquetWriter(path, schema, compression=codecs, use_dictionary=repeated) as writer:
        for batch in in_batches(rows, 2 * BATCH):
            writer.write_table(pa.Table.from_pylist(batch, schema))
            trigrams.append({c: trigrams_in(dict.fromkeys(row[c] for row in batch)) for c in searched})
            sizes.append(len(batch))
        writer.add_key_value_metadata({TRIGRAMS: packed(trigrams, sizes)})


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except IntakeImgError:  # of a server
        raise
    except (_pyarrow().ArrowException, OSError, UnicodeDecodeError) as exc:
        raise CatalogError(
            f"the table of images cannot be read: {str(exc)[:200]}; it is damaged: write it again"
        ) from exc


@dataclass
class _Parquet:
    """An open Parquet file, and the columns that were read; all results of searches share it.

    Parameters
    ----------
    another : callable
        Opens a reader of the file.
    many : bool
        Whether several readers may read at the same time.
    """

    another: Callable[[], Any]
    many: bool
    columns: dict[str, Any] = field(default_factory=dict)
    group: tuple[int, Any] = (-1, None)

    @classmethod
    def opened(cls, file: File) -> _Parquet:
        pa = _pyarrow()
        if not file.local:
            fs, path = file.filesystem()
            remote = fs.open(path)
        try:
            source = pa.memory_map(file.path) if file.local else remote
            footer = pa.parquet.read_metadata(source)
            repeated = [c for c in footer.schema.names if c in REPEATED or _is_short(footer, c)]
            another = partial(pa.parquet.ParquetFile, source, metadata=footer, read_dictionary=repeated)
            found = cls(another, file.local)
            found.reader  # noqa: B018
        except (pa.ArrowException, OSError) as exc:
            raise CatalogError(f"{file} cannot be read as Parquet: {str(exc)[:200]}") from exc
        return found

    @cached_property
    def reader(self) -> Any:
        return self.another()

    @cached_property
    def sizes(self) -> list[int]:
        """The number of rows of each row group."""
        footer = self.reader.metadata
        return [footer.row_group(g).num_rows for g in range(footer.num_row_groups)]

    @cached_property
    def bounds(self) -> np.ndarray:
        """The number of the first row of each row group, and of all rows."""
        return np.cumsum([0, *self.sizes])

    @cached_property
    def trigrams(self) -> Trigrams | None:
        stored = (self.reader.metadata.metadata or {}).get(TRIGRAMS)
        return unpacked(stored, self.sizes) if stored else None

    def places(self, words: Sequence[str]) -> list[dict[str, list[str]] | None]:
        """Return for each row group the columns that may contain each word; None if this is not known."""
        trigrams = self.trigrams
        if not trigrams:
            return [None] * len(self.sizes)
        masks = {word: {c: groups_with(word, own) for c, own in trigrams.items()} for word in words}
        return [
            {word: [c for c, mask in found.items() if mask[g]] for word, found in masks.items()}
            for g in range(len(self.sizes))
        ]

    def load(self, names: Sequence[str]) -> list[Any]:
        """Return columns; missing ones are read together, each in its own thread, and cached."""
        if new := [n for n in dict.fromkeys(names) if n not in self.columns]:
            with _damage_told():
                table = _whole(self.reader.read(new), self.bounds[-1])
                self.columns |= {n: _cells(n, table.column(n)) for n in new}
        return [self.columns[n] for n in names]

    @cached_property
    def kinds(self) -> dict[str, type]:
        return {f.name: _kind(f.name, f.type) for f in self.reader.schema_arrow}

    def cells(self, number: int) -> dict[str, Any]:
        """Return a row by its number, without its text; only its row group is read from the file, and cached."""
        group = int(np.searchsorted(self.bounds, number, side="right")) - 1
        with _damage_told():
            if self.group[0] != group:
                names = [n for n in self.kinds if n != "text"]
                self.group = group, _whole(self.reader.read_row_group(group, names), self.sizes[group])
            (row,) = self.group[1].slice(number - int(self.bounds[group]), 1).to_pylist()
        return {name: cell(value, self.kinds[name]) for name, value in row.items()}

    def number_of(self, name: str) -> int:
        """Return the number of the first row of a name, or -1."""
        pa = _pyarrow()
        groups = list(self._groups_of(name)) if "name" not in self.columns else None
        if groups is None or len(groups) > _GROUPS:
            return int(pa.compute.index(self.load(["name"])[0], name).as_py())
        for group in groups:
            at = pa.compute.index(_columns(self.reader, group, ["name"])[0], name).as_py()
            if at >= 0:
                return int(self.bounds[group]) + int(at)
        return -1

    def _groups_of(self, name: str) -> Iterator[int]:
        """Iterate over the row groups that may contain a name, by their first and last ones."""
        footer = self.reader.metadata
        column = footer.schema.names.index("name")
        for group in range(footer.num_row_groups):
            found = footer.row_group(group).column(column).statistics
            if found is None or not found.has_min_max or _between(found.min, name, found.max):
                yield group


def _between(least: Any, name: str, most: Any) -> bool:
    return not isinstance(least, str) or least.encode() <= name.encode("utf-8", "surrogatepass") <= most.encode()


def _is_short(footer: Any, column: str) -> bool:
    """Whether the values of a column of a file that we wrote are stored as numbers of repeated values."""
    if TRIGRAMS not in (footer.metadata or {}) or column in SINGULAR or not footer.num_row_groups:
        return False
    group = footer.row_group(0)
    found = group.column(footer.schema.names.index(column))
    return found.physical_type == "BYTE_ARRAY" and found.total_uncompressed_size <= _SHORT * group.num_rows


class ArrowRows:
    """Rows of a Parquet file; a column is read when it is first needed, and cached.

    Words are searched for in one row group after another, by several threads. What they read of local files is not
    kept: to decode it again takes less time than to get memory for all of it.
    """

    def __init__(self, file: _Parquet, chosen: Any = None) -> None:
        self.file, self.chosen = file, chosen
        self.kinds: Mapping[str, type] = file.kinds

    @classmethod
    def opened(cls, file: File) -> ArrowRows:
        found = cls(_Parquet.opened(file))
        if missing := [c for c in ("name", "uri", "driver") if c not in found.kinds]:
            raise CatalogError(f"{file} is not a table of images: it has no column {missing[0]!r}")
        return found

    def column(self, name: str) -> Any:
        """Return a column of the selected rows."""
        (column,) = self.file.load([name])
        return column if self.chosen is None else column.take(self.chosen)

    @_damage_told()
    def find(self, conditions: Sequence[Condition]) -> ArrowRows:
        words = tuple(word for one in conditions if one.column == "text" for word in one.value)
        others = [one for one in conditions if one.column != "text"]
        self.file.load([one.column for one in others])
        found = self
        for one in sorted(others, key=_cost):
            found = ArrowRows(self.file, found._fulfilling(one))
        return ArrowRows(self.file, found._saying(words)) if words else found

    def _fulfilling(self, one: Condition) -> Any:
        """Return the numbers of the rows that fulfil a condition."""
        pa = _pyarrow()
        if self.chosen is None:
            return pa.compute.indices_nonzero(_mask(self.column(one.column), one))
        if _FEW * len(self.chosen) < self.file.bounds[-1]:
            return self.chosen.take(pa.compute.indices_nonzero(_mask(self.column(one.column), one)))
        # to look at all rows is quicker than to copy the chosen ones
        (column,) = self.file.load([one.column])
        return self.chosen.filter(_mask(column, one).take(self.chosen))

    def _saying(self, words: Sequence[str]) -> Any:
        """Return the numbers of the rows that contain all words."""
        chosen = None if self.chosen is None else self.chosen.to_numpy().view(np.int64)
        bounds, groups = self.file.bounds, {}
        for group, places in enumerate(self.file.places(words)):
            start, stop = bounds[group : group + 2]
            rows = np.arange(start, stop) if chosen is None else chosen[slice(*np.searchsorted(chosen, (start, stop)))]
            if len(rows) and (places is None or all(places.values())):
                groups[group] = rows, places
        found = (
            _sought_in_groups(self.file, groups, words) if self.file.many else _sought_in_all(self.file, groups, words)
        )
        return _pyarrow().array(np.concatenate([bounds[:0], *found]))

    def count(self) -> int:
        return int(self.file.bounds[-1] if self.chosen is None else len(self.chosen))

    @_damage_told()
    def names(self) -> list[str]:
        return self.column("name").to_pylist()

    @_damage_told()
    def row(self, name: str) -> dict[str, Any] | None:
        if self.chosen is None:
            number = self.file.number_of(name)
            return None if number < 0 else self.file.cells(number)
        at = _pyarrow().compute.index(self.column("name"), name).as_py()
        return None if at < 0 else self.file.cells(self.chosen[at].as_py())

    def rows(self) -> Iterator[dict[str, Any]]:
        pa = _pyarrow()
        # columns are read one by one, so that few rows of a wide table need little memory
        with _damage_told():
            table = pa.table({name: self.column(name) for name in self.kinds})
        for batch in table.to_batches(BATCH):
            with _damage_told():
                columns = [_values(column) for column in batch.columns]
            yield from (dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True))

    def first(self, most: int) -> list[dict[str, Any]]:
        """Return the first rows, without reading all."""
        numbers = range(self.count()) if self.chosen is None else self.chosen[:most].to_pylist()
        return [self.file.cells(number) for number in numbers[:most]]


Groups = Mapping[int, tuple[np.ndarray, Mapping[str, Sequence[str]] | None]]
"""The row groups that may have words: the numbers of their rows that are looked at, and the columns for each word."""


def _sought_in_groups(file: _Parquet, groups: Groups, words: Sequence[str]) -> list[np.ndarray]:
    """Return the numbers of the rows that contain all words, of one row group after another, by several threads."""
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def found(group: int) -> np.ndarray:
        rows, places = groups[group]
        reader = free.get()
        try:
            read = partial(_columns, reader, group)
            return rows[rows_with(read, places, words)[rows - file.bounds[group]]]
        finally:  # else a damaged group would let the threads wait for ever
            free.put(reader)

    workers = max(1, min(cpus(), len(groups)))
    for _ in range(workers):
        free.put(file.another())
    with ThreadPoolExecutor(workers, thread_name_prefix="intake_img-words") as pool:
        return list(pool.map(found, groups))


def _sought_in_all(file: _Parquet, groups: Groups, words: Sequence[str]) -> list[np.ndarray]:
    """Return the numbers of the rows that contain all words; columns are read completely, and cached."""
    if not groups:
        return []
    places = None
    if all(own is not None for _, own in groups.values()):
        places = {w: dict.fromkeys(c for _, own in groups.values() if own for c in own[w]) for w in words}
    rows = np.concatenate([rows for rows, _ in groups.values()])
    return [rows[rows_with(file.load, places, words)[rows]]]


def _whole(table: Any, rows: int) -> Any:
    if len(table) != rows:
        raise OSError(f"{len(table)} of {rows} rows")
    return table


def _columns(reader: Any, group: int, names: Sequence[str]) -> list[Any]:
    with _damage_told():
        table = _whole(reader.read_row_group(group, names, False), reader.metadata.row_group(group).num_rows)
        return [_cells(n, table.column(n)) for n in names]


def _cells(name: str, column: Any) -> Any:
    pa = _pyarrow()
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), {str: pa.string(), float: pa.float64(), int: pa.int64()}[_kind(name, column.type)])
    found = plain(column)
    return as_texts(found) if name == "name" else found


def _kind(name: str, type_: Any) -> type:
    if name == "name":
        return str
    types = _pyarrow().types
    if types.is_null(type_):
        return COLUMNS.get(name, str)
    return kind_of(type_.value_type if types.is_dictionary(type_) else type_)


def _values(column: Any) -> list[Any]:
    """Return `column.to_pylist()`, quicker for texts, and for numbers none of which is missing."""
    types = _pyarrow().types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_string(column.type) or not column.null_count:
        return column.to_numpy(zero_copy_only=False).tolist()
    return column.to_pylist()


def _cost(one: Condition) -> int:
    return int(one.column not in REPEATED and COLUMNS.get(one.column) is str)


def _mask(column: Any, one: Condition) -> Any:
    pa = _pyarrow()
    if pa.types.is_dictionary(column.type):  # few distinct values: each is tested once
        mask = _mask(column.dictionary, one).take(column.indices)
    elif one.operator == "has":
        mask = pa.compute.is_valid(column)
        for word in one.value:
            mask = pa.compute.and_(mask, has_word(column, word))
    elif one.operator == "in":
        mask = pa.compute.is_in(column, pa.array(one.value, column.type))
    else:
        compare = {
            "<": "less",
            "<=": "less_equal",
            ">": "greater",
            ">=": "greater_equal",
            "==": "equal",
            "!=": "not_equal",
        }[one.operator]
        mask = pa.compute.call_function(compare, [column, pa.scalar(one.value, column.type)])
        if one.operator == "!=" and pa.types.is_floating(column.type):  # missing numbers of pandas are NaN
            mask = pa.compute.and_(mask, pa.compute.invert(pa.compute.is_nan(column)))
    return pa.compute.fill_null(mask, False)
