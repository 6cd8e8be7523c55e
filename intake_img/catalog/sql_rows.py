"""Tables of images in databases, accessed through SQLAlchemy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from intake_img.catalog.cells import cell
from intake_img.catalog.columns import Condition
from intake_img.catalog.sqlite_words import (
    ROW,
    add_index,
    add_search,
    drop_index,
    has_index,
    is_valid,
    terms_of_words,
)
from intake_img.catalog.table_batches import BATCH, in_batches
from intake_img.errors import CatalogError
from intake_img.model.packages import imported

__all__ = ["SqlRows", "write_sql"]

_INDEXED = (("plate", "well"), ("well",))
"""Columns of few rows for each value."""


def _sqlalchemy() -> Any:
    return imported("sqlalchemy", "sql", "tables of images in databases")


@contextlib.contextmanager
def _connected(url: str, shown: str) -> Iterator[Any]:
    """Open a database, in a transaction; what it reports is a `CatalogError`."""
    sa = _sqlalchemy()
    try:
        engine = sa.create_engine(url)
    except (sa.exc.SQLAlchemyError, ImportError) as exc:
        raise CatalogError(f"{shown} cannot be opened: {str(exc)[:200]}") from exc
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda connection, _: add_search(connection))
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.NoSuchTableError:
        raise
    except (sa.exc.SQLAlchemyError, UnicodeDecodeError) as exc:
        said = getattr(exc, "orig", None) or exc
        raise CatalogError(f"{shown} cannot be used as a database: {str(said)[:300]}") from exc
    finally:
        engine.dispose()


def write_sql(
    rows: Iterable[Mapping[str, Any]], kinds: Mapping[str, type], url: str, name: str, overwrite: bool, shown: str
) -> None:
    """Write a table of a database; in SQLite, with an index of its words."""
    sa = _sqlalchemy()
    types = _types()
    with _connected(url, shown) as connection:
        lite = connection.dialect.name == "sqlite"
        if lite:  # else each statement is a transaction
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        if sa.inspect(connection).has_table(name) and not overwrite:
            raise FileExistsError(f"{shown} has a table {name!r}: choose another name, or pass overwrite=True")
        columns = [
            sa.Column(c, types[k], primary_key=c == "name" and not lite, unique=c == "name" and lite)
            for c, k in kinds.items()
        ]
        number = [sa.Column(ROW, sa.Integer, primary_key=True)] if lite else []
        table = sa.Table(name, sa.MetaData(), *number, *columns)
        if lite:
            drop_index(connection, name)
            for indexed in _INDEXED:
                sa.Index(f"{name}_{'_'.join(indexed)}", *(table.columns[c] for c in indexed))
        table.drop(connection, checkfirst=True)
        table.create(connection)
        for batch in in_batches(rows, BATCH):
            connection.execute(sa.insert(table), [dict(row) for row in batch])
        if lite:
            add_index(connection, name)


class SqlRows:
    """Rows of a table of a database; the database executes searches."""

    def __init__(
        self, url: str, shown: str, name: str, table: Any, indexed: bool, conditions: tuple[Condition, ...] = ()
    ) -> None:
        self.url, self.shown, self.name, self.table, self.conditions = url, shown, name, table, conditions
        self.indexed = indexed  # whether there is an index of words
        self.columns = [c for c in table.columns if c.name != ROW]
        self.kinds: Mapping[str, type] = {c.name: _kind(c) for c in self.columns}

    @classmethod
    def opened(cls, url: str, name: str, shown: str) -> SqlRows:
        sa = _sqlalchemy()
        try:
            with _connected(url, shown) as connection:
                table = sa.Table(name, sa.MetaData(), autoload_with=connection)
                lite = connection.dialect.name == "sqlite"
                indexed = lite and has_index(connection, name)
            for column in table.columns if lite else ():  # SQLite stores anything in any column
                column.type = _types()[_kind(column)]()
        except sa.exc.NoSuchTableError:
            raise CatalogError(f"{shown} has no table {name!r}; give its name as table=") from None
        if missing := [c for c in ("name", "uri", "driver") if c not in table.columns]:
            raise CatalogError(f"{shown}: {name!r} is not a table of images: it has no column {missing[0]!r}")
        return cls(url, shown, name, table, indexed)

    def _ask(
        self, *columns: Any, where: Sequence[Any] = (), most: int | None = None, ordered: bool = True
    ) -> list[Any]:
        sa = _sqlalchemy()
        with _connected(self.url, self.shown) as connection:
            words = any(one.column == "text" for one in self.conditions)
            indexed = words and self.indexed and is_valid(connection, self.name)
            terms = [term for one in self.conditions for term in self._terms(one, connection.dialect.name, indexed)]
            statement = sa.select(*columns).select_from(self.table).where(*terms, *where).limit(most)
            if ordered and ROW in self.table.columns:
                statement = statement.order_by(self.table.columns[ROW])
            return list(connection.execute(statement))

    def _terms(self, one: Condition, dialect: str, indexed: bool) -> list[Any]:
        if one.column == "text" and dialect == "sqlite":
            return terms_of_words(self.table, one.value, indexed)
        return _terms(_comparable(self.table.columns[one.column]), one, dialect)

    def find(self, conditions: Sequence[Condition]) -> SqlRows:
        return SqlRows(self.url, self.shown, self.name, self.table, self.indexed, (*self.conditions, *conditions))

    def count(self) -> int:
        return int(self._ask(_sqlalchemy().func.count(), ordered=False)[0][0])

    def names(self) -> list[str]:
        return [row[0] for row in self._ask(self.table.columns["name"])]

    def row(self, name: str) -> dict[str, Any] | None:
        found = self._ask(*self.columns, where=[self.table.columns["name"] == name], most=1)
        return self._cells(found[0]) if found else None

    def rows(self) -> Iterator[dict[str, Any]]:
        return map(self._cells, self._ask(*self.columns))

    def first(self, most: int) -> list[dict[str, Any]]:
        """Return the first rows, without reading all."""
        return list(map(self._cells, self._ask(*self.columns, most=most)))

    def _cells(self, row: Any) -> dict[str, Any]:
        return {c: cell(value, kind) for value, (c, kind) in zip(row, self.kinds.items(), strict=True)}


def _types() -> Mapping[type, Any]:
    sa = _sqlalchemy()
    return {str: sa.Text, float: sa.Double, int: sa.BigInteger}


def _kind(column: Any) -> type:
    try:
        found = column.type.python_type
    except NotImplementedError:
        return str
    return {bool: int, int: int, float: float, Decimal: float}.get(found, str)


def _comparable(column: Any) -> Any:
    """Return a column, or an expression for it, that is compared with values of its kind."""
    kind = _kind(column)
    same = isinstance(column.type, _sqlalchemy().String) if kind is str else column.type.python_type is kind
    return column if same else _sqlalchemy().cast(column, _types()[kind])


def _terms(column: Any, one: Condition, dialect: str) -> list[Any]:
    if one.operator == "has":
        if dialect == "sqlite":  # where LIKE ignores case
            return [_sqlalchemy().func.instr(column, word) > 0 for word in one.value]
        searched = _sqlalchemy().func.lower(column) if one.column == "text" else column
        return [searched.contains(word, autoescape=True) for word in one.value]
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
