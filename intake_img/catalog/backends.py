"""Backends of tables of images: Parquet files, and databases.

Both have the same interface: the number of rows, the names, the rows, and searches by conditions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from intake_img.catalog.arrow_rows import ArrowRows, write_parquet
from intake_img.catalog.columns import Condition
from intake_img.catalog.sql_rows import SqlRows, write_sql
from intake_img.catalog.word_search import words_in
from intake_img.errors import CatalogError
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["Rows", "is_database", "is_parquet", "opened", "shown", "written"]

_DATABASE = re.compile(r"(?:sqlite|postgresql|mysql|mariadb|mssql|oracle|duckdb)(?:\+\w+)?://")


_PARQUET = (".parquet", ".parq", ".pq")


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


def is_parquet(file: File) -> bool:
    """True for a Parquet file, by its name."""
    return file.name.lower().endswith(_PARQUET)


def shown(file: File) -> str:
    """Return the place of a table for messages, without the password of a database."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", file.path) if _DATABASE.match(file.path) else file.path


def opened(file: File, table: str) -> Rows:
    """Return the rows of a table."""
    file.check()
    if file.local and not os.path.exists(file.path):
        raise FileNotFoundError(f"there is no table {file}")
    return SqlRows.opened(_url(file), table, shown(file)) if is_database(file) else ArrowRows.opened(file)


def _url(file: File) -> str:
    """Return the URL of SQLAlchemy for reading: files of SQLite are not made or changed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CatalogError
        If an SQLite file is not on this machine.
    """
    lite = re.fullmatch(r"(sqlite(?:\+pysqlite)?:)///([^?]+)", file.path)
    if not file.local and lite is None:
        if not _DATABASE.match(file.path):
            raise CatalogError(f"{file}: SQLite reads and writes files on this machine only: use .parquet there")
        return file.path
    path = os.path.abspath(lite[2]) if lite else file.path
    if lite and path.endswith("/:memory:"):
        return file.path
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no table {file}")
    return f"{lite[1] if lite else 'sqlite:'}///file:{quote(path)}?mode=ro&uri=true"


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
        if not _DATABASE.match(file.path):
            raise CatalogError(f"{file}: SQLite reads and writes files on this machine only: use .parquet there")
        return write_sql(rows, kinds, file.path, table, overwrite, shown(file))
    if not is_database(file) and not is_parquet(file):
        raise ValueError(f"{file}: a table ends in .parquet or .sqlite, or is a URL of SQLAlchemy")
    with replacing(file, overwrite=overwrite) as temporary:
        if is_database(file):
            write_sql(rows, kinds, f"sqlite:///{temporary}", table, False, shown(file))
        else:
            write_parquet(rows, kinds, str(temporary), words_in(kinds, free))
