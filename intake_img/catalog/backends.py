"""Backends of tables of images: Parquet files, read by pyarrow, and databases, accessed through SQLAlchemy.

Both have the same interface: the number of rows, the names, the rows, and searches by conditions.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np

from intake_img.catalog.columns import COLUMNS, REPEATED, Condition
from intake_img.catalog.spoken import SINGULAR, SPOKEN, has_word, is_short, saying, words_in
from intake_img.errors import CatalogError, IntakeImgError
from intake_img.model.machine import cpus
from intake_img.model.packages import imported
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["Rows", "is_database", "opened", "written"]

_DATABASE = re.compile(r"(?:sqlite|postgresql|mysql|mariadb|mssql|oracle|duckdb)(?:\+\w+)?://")
_BATCH = 10_000
_FEW = 4  # a chosen row of so many


class Rows(Protocol):
    """All rows of a table, or the rows of a search result."""

    @property
    def kinds(self) -> Mapping[str, type]: ...
    def find(self, conditions: Sequence[Condition]) -> Rows: ...
    def count(self) -> int: ...
    def names(self) -> list[str]: ...
    def row(self, name: str) -> dict[str, Any] | None: ...
    def rows(self) -> Iterator[dict[str, Any]]: ...
    def first(self, most: int) -> list[dict[str, Any]]: ...


def is_database(file: File) -> bool:
    """True for a URL of SQLAlchemy, and for the file of an SQLite database by its name."""
    return bool(_DATABASE.match(file.path)) or file.name.lower().endswith((".sqlite", ".sqlite3", ".db"))


def opened(file: File, table: str) -> Rows:
    """Return the rows of a table."""
    file.check()
    if file.local and not os.path.exists(file.path):
        raise FileNotFoundError(f"there is no table {file}")
    return SqlRows.opened(file, table) if is_database(file) else ArrowRows.opened(file)


def written(
    rows: Iterable[Mapping[str, Any]],
    kinds: Mapping[str, type],
    file: File,
    table: str,
    overwrite: bool,
    free: Collection[str] = (),
) -> None:
    """Write a table, of which some columns are given freely; an existing file is replaced atomically."""
    if is_database(file) and not file.local:
        return _write_sql(rows, kinds, file.path, table, overwrite)
    with replacing(file, overwrite=overwrite) as temporary:
        if is_database(file):
            _write_sql(rows, kinds, f"sqlite:///{temporary}", table, False)
        else:
            _write_parquet(rows, kinds, str(temporary), words_in(kinds, free))


# Parquet


def _pyarrow() -> Any:
    imported("pyarrow", "parquet", "tables of images in Parquet")
    import pyarrow.compute
    import pyarrow.parquet

    return pyarrow


def _write_parquet(
    rows: Iterable[Mapping[str, Any]], kinds: Mapping[str, type], path: str, spoken: Sequence[str]
) -> None:
    pa = _pyarrow()
    types = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    fields = [(name, types[kind]) for name, kind in kinds.items()]
    schema = pa.schema(fields, metadata={SPOKEN: json.dumps(spoken)})
    codecs = {c: "lz4" if c in spoken else "zstd" for c in kinds}  # what searches read is decoded quickly
    repeated = [c for c in kinds if c in REPEATED or (c in spoken and c not in SINGULAR)]
    with pa.parquet.ParquetWriter(path, schema, compression=codecs, use_dictionary=repeated) as writer:
        for batch in _batches(rows, 2 * _BATCH):
            writer.write_table(pa.Table.from_pylist(batch, schema))


def _batches(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class ArrowRows:
    """Rows of a Parquet file; a column is read when it is first needed, and cached.

    Words are searched for in one row group after another, by several threads. What they read of local files is not
    kept: to decode it again takes less time than to get memory for all of it.
    """

    def __init__(self, reader: Any, columns: dict[str, Any], chosen: Any = None, another: Any = None) -> None:
        self.reader, self.columns, self.chosen = reader, columns, chosen
        self.another = another  # opens a further reader of the same bytes
        types, schema = _pyarrow().types, reader.schema_arrow
        kind = lambda t: int if types.is_integer(t) else float if types.is_floating(t) else str  # noqa: E731
        self.kinds: Mapping[str, type] = {field.name: kind(field.type) for field in schema}
        self.spoken = json.loads((schema.metadata or {}).get(SPOKEN, b"[]"))

    @classmethod
    def opened(cls, file: File) -> ArrowRows:
        pa = _pyarrow()
        if not file.local:
            fs, path = file.filesystem()
            remote = fs.open(path)
        try:
            source = pa.memory_map(file.path) if file.local else remote
            footer = pa.parquet.read_metadata(source)
            repeated = [c for c in footer.schema.names if c in REPEATED or is_short(footer, c)]
            another = partial(pa.parquet.ParquetFile, source, metadata=footer, read_dictionary=repeated)
            reader = another()
        except (pa.ArrowException, OSError) as exc:
            raise CatalogError(f"{file} cannot be read as Parquet: {str(exc)[:200]}") from exc
        found = cls(reader, {}, None, another if file.local else None)
        if missing := [c for c in ("name", "uri", "driver") if c not in found.kinds]:
            raise CatalogError(f"{file} is not a table of images: it has no column {missing[0]!r}")
        return found

    def column(self, name: str) -> Any:
        """Return a column of the selected rows."""
        self._load([name])
        column = self.columns[name]
        return column if self.chosen is None else column.take(self.chosen)

    def _load(self, names: Sequence[str]) -> None:
        """Read missing columns together, each in its own thread."""
        if new := [n for n in dict.fromkeys(names) if n not in self.columns]:
            with _damage_told():
                table = self.reader.read(new)
            self.columns |= {n: _in_one(table.column(n)) for n in new}

    def find(self, conditions: Sequence[Condition]) -> ArrowRows:
        words = tuple(word for one in conditions if one.column == "text" for word in one.value)
        others = [one for one in conditions if one.column != "text" or not one.value]
        self._load([one.column for one in others])
        found = self
        for one in sorted(others, key=_cost):
            found = found._with(found._fulfilling(one))
        return found._with(found._saying(words)) if words else found

    def _with(self, chosen: Any) -> ArrowRows:
        return ArrowRows(self.reader, self.columns, chosen, self.another)

    def _fulfilling(self, one: Condition) -> Any:
        """Return the numbers of the rows that fulfil a condition."""
        pa = _pyarrow()
        if self.chosen is None:
            return pa.compute.indices_nonzero(_mask(self.column(one.column), one))
        if _FEW * len(self.chosen) < self.reader.metadata.num_rows:
            return self.chosen.take(pa.compute.indices_nonzero(_mask(self.column(one.column), one)))
        # to look at all rows is quicker than to copy the chosen ones
        return self.chosen.filter(_mask(self._with(None).column(one.column), one).take(self.chosen))

    def _saying(self, words: Sequence[str]) -> Any:
        """Return the numbers of the rows that hold all words."""
        chosen = None if self.chosen is None else self.chosen.to_numpy().view(np.int64)
        if self.another is None:
            mask = saying(self._cached, self.spoken, words)
            return _pyarrow().array(np.flatnonzero(mask) if chosen is None else chosen[mask[chosen]])
        sizes = [self.reader.metadata.row_group(g).num_rows for g in range(self.reader.metadata.num_row_groups)]
        bounds = np.cumsum([0, *sizes])
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def found(group: int) -> np.ndarray:
            start, stop = bounds[group : group + 2]
            rows = np.arange(start, stop) if chosen is None else chosen[slice(*np.searchsorted(chosen, (start, stop)))]
            if not len(rows):
                return rows
            reader = free.get()
            try:
                read = partial(_columns, reader, group)
                return rows[saying(read, self.spoken, words)[rows - start]]
            finally:  # else a damaged group would let the threads wait for ever
                free.put(reader)

        workers = max(1, min(cpus(), len(sizes)))
        for _ in range(workers):
            free.put(self.another())
        with ThreadPoolExecutor(workers, thread_name_prefix="intake_img-words") as pool:
            return _pyarrow().array(np.concatenate([bounds[:0], *pool.map(found, range(len(sizes)))]))

    def _cached(self, names: Sequence[str]) -> list[Any]:
        self._load(names)
        return [self.columns[n] for n in names]

    def count(self) -> int:
        return int(self.reader.metadata.num_rows if self.chosen is None else len(self.chosen))

    def names(self) -> list[str]:
        return self.column("name").to_pylist()

    def row(self, name: str) -> dict[str, Any] | None:
        pa = _pyarrow()
        at = pa.compute.index(self.column("name"), name).as_py()
        if at < 0:
            return None
        return self._one(at if self.chosen is None else self.chosen[at].as_py())

    def _one(self, number: int) -> dict[str, Any]:
        """Return a row by its number; only its row group is read from the file, and cached."""
        group = 0
        while number >= (size := self.reader.metadata.row_group(group).num_rows):
            number, group = number - size, group + 1
        key = "\0group"
        if self.columns.get(key, (None,))[0] != group:
            with _damage_told():
                self.columns[key] = group, self.reader.read_row_group(group)
        return self.columns[key][1].slice(number, 1).to_pylist()[0]

    def rows(self) -> Iterator[dict[str, Any]]:
        for batch in self._table(self.chosen).to_batches(_BATCH):
            names = batch.schema.names
            yield from (dict(zip(names, row, strict=True)) for row in zip(*map(_values, batch.columns), strict=True))

    def first(self, most: int) -> list[dict[str, Any]]:
        """Return the first rows, without reading all."""
        numbers = range(self.count()) if self.chosen is None else self.chosen[:most].to_pylist()
        return [self._one(number) for number in numbers[:most]]

    def _table(self, numbers: Any) -> Any:
        """Return rows by number; columns are read one by one, so that few rows of a wide table need little memory."""
        pa = _pyarrow()
        whole = ArrowRows(self.reader, self.columns)
        columns = {n: whole.column(n) if numbers is None else whole.column(n).take(numbers) for n in self.kinds}
        return pa.table(columns)


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except IntakeImgError:  # of a server
        raise
    except (_pyarrow().ArrowException, OSError) as exc:
        raise CatalogError(
            f"the table of images cannot be read: {str(exc)[:200]}; it is damaged: write it again"
        ) from exc


def _columns(reader: Any, group: int, names: Sequence[str]) -> list[Any]:
    with _damage_told():
        table = reader.read_row_group(group, names, False)
    return [_in_one(table.column(n)) for n in names]


def _in_one(column: Any) -> Any:
    """Return the array of a column; it is copied only if it is in several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _values(column: Any) -> list[Any]:
    """Return `column.to_pylist()`, quicker for texts, and for numbers none of which is missing."""
    types = _pyarrow().types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    number = types.is_integer(column.type) or types.is_floating(column.type)
    if types.is_string(column.type) or (number and not column.null_count):
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
    return pa.compute.fill_null(mask, False)


# databases


def _sqlalchemy() -> Any:
    return imported("sqlalchemy", "sql", "tables of images in databases")


def _write_sql(
    rows: Iterable[Mapping[str, Any]], kinds: Mapping[str, type], url: str, name: str, overwrite: bool
) -> None:
    sa = _sqlalchemy()
    types = {str: sa.Text, float: sa.Float(53), int: sa.BigInteger}
    engine = sa.create_engine(url)
    try:
        if sa.inspect(engine).has_table(name) and not overwrite:
            raise FileExistsError(f"{url} has a table {name!r}: choose another name, or pass overwrite=True")
        columns = [sa.Column(c, types[k], primary_key=c == "name") for c, k in kinds.items()]
        table = sa.Table(name, sa.MetaData(), *columns)
        with engine.begin() as connection:
            table.drop(connection, checkfirst=True)
            table.create(connection)
            for batch in _batches(rows, _BATCH):
                connection.execute(sa.insert(table), [dict(row) for row in batch])
    finally:
        engine.dispose()


class SqlRows:
    """Rows of a table of a database; the database executes searches."""

    def __init__(self, url: str, name: str, table: Any, conditions: tuple[Condition, ...] = ()) -> None:
        self.url, self.name, self.table, self.conditions = url, name, table, conditions
        self.kinds: Mapping[str, type] = {c.name: _kind(c) for c in table.columns}

    @classmethod
    def opened(cls, file: File, name: str) -> SqlRows:
        sa = _sqlalchemy()
        url = f"sqlite:///file:{_quoted(file.path)}?mode=ro&uri=true" if file.local else file.path
        engine = sa.create_engine(url)
        try:
            table = sa.Table(name, sa.MetaData(), autoload_with=engine)
        except sa.exc.NoSuchTableError:
            raise CatalogError(f"{file} has no table {name!r}; give its name as table=") from None
        except sa.exc.SQLAlchemyError as exc:
            raise CatalogError(f"{file} cannot be read as a database: {str(exc)[:200]}") from exc
        finally:
            engine.dispose()
        if missing := [c for c in ("name", "uri", "driver") if c not in table.columns]:
            raise CatalogError(f"{file}: {name!r} is not a table of images: it has no column {missing[0]!r}")
        return cls(url, name, table)

    @cached_property
    def _where(self) -> list[Any]:
        return [term for one in self.conditions for term in _terms(self.table.columns[one.column], one)]

    def _ask(self, statement: Any) -> list[Any]:
        engine = _sqlalchemy().create_engine(self.url)
        try:
            with engine.connect() as connection:
                return list(connection.execute(statement.where(*self._where)))
        finally:
            engine.dispose()

    def find(self, conditions: Sequence[Condition]) -> SqlRows:
        return SqlRows(self.url, self.name, self.table, (*self.conditions, *conditions))

    def count(self) -> int:
        sa = _sqlalchemy()
        return int(self._ask(sa.select(sa.func.count()).select_from(self.table))[0][0])

    def names(self) -> list[str]:
        return [row[0] for row in self._ask(_sqlalchemy().select(self.table.columns["name"]))]

    def row(self, name: str) -> dict[str, Any] | None:
        sa = _sqlalchemy()
        found = self._ask(sa.select(self.table).where(self.table.columns["name"] == name).limit(1))
        return dict(found[0]._mapping) if found else None

    def rows(self) -> Iterator[dict[str, Any]]:
        return (dict(row._mapping) for row in self._ask(_sqlalchemy().select(self.table)))

    def first(self, most: int) -> list[dict[str, Any]]:
        """Return the first rows, without reading all."""
        return [dict(row._mapping) for row in self._ask(_sqlalchemy().select(self.table).limit(most))]


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _kind(column: Any) -> type:
    try:
        return column.type.python_type if column.type.python_type in (int, float) else str
    except NotImplementedError:
        return str


def _terms(column: Any, one: Condition) -> list[Any]:
    if one.operator == "has":
        return [column.contains(word, autoescape=True) for word in one.value]
    if one.operator == "in":
        return [column.in_(one.value)]
    compare: Mapping[str, Callable[[Any], Any]] = {
        "<": column.__lt__,
        "<=": column.__le__,
        ">": column.__gt__,
        ">=": column.__ge__,
        "==": column.__eq__,
        "!=": column.__ne__,
    }
    return [compare[one.operator](one.value)]
