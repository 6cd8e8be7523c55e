"""Tables of images in databases, accessed through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from intake_img.catalog.columns import Condition
from intake_img.catalog.table_batches import BATCH, in_batches
from intake_img.errors import CatalogError
from intake_img.model.packages import imported
from intake_img.storage.files import File

__all__ = ["SqlRows", "write_sql"]


def _sqlalchemy() -> Any:
    return imported("sqlalchemy", "sql", "tables of images in databases")


def write_sql(
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
            for batch in in_batches(rows, BATCH):
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
