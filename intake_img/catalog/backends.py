"""Backends of tables of images: Parquet files, and databases.

Both have the same interface: the number of rows, the names, the rows, and searches by conditions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from intake_img.catalog.arrow_rows import ArrowRows, write_parquet
from intake_img.catalog.columns import Condition
from intake_img.catalog.spoken import words_in
from intake_img.catalog.sql_rows import SqlRows, write_sql
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["Rows", "is_database", "opened", "written"]

_DATABASE = re.compile(r"(?:sqlite|postgresql|mysql|mariadb|mssql|oracle|duckdb)(?:\+\w+)?://")


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
        return write_sql(rows, kinds, file.path, table, overwrite)
    with replacing(file, overwrite=overwrite) as temporary:
        if is_database(file):
            write_sql(rows, kinds, f"sqlite:///{temporary}", table, False)
        else:
            write_parquet(rows, kinds, str(temporary), words_in(kinds, free))
