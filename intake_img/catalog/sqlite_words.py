"""Words in tables of SQLite databases: found by an index of SQLite's own, FTS5 [1]_, or text by text.

The index has the trigrams of all texts: runs of three characters. It is valid until a program inserts a row or changes
a text: triggers of the database note this. Then, and in tables of other programs, each text is put into lower case by
Python and searched.

References
----------
.. [1] https://www.sqlite.org/fts5.html#the_trigram_tokenizer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intake_img.model.packages import imported

__all__ = ["ROW", "add_index", "add_search", "drop_index", "has_index", "is_valid", "terms_of_words"]

ROW = "_row"
"""The column of the number of a row in tables that we write; it is none of a table of images."""
_TRIGRAM = 3
_HAS = "intake_img_has"


def _index(table: str) -> str:
    return f"{table}_trigrams"


def _statements(table: str) -> dict[str, str]:
    """Return what makes an index, by the names of its parts."""
    index = _index(table)
    return {
        index: f"CREATE VIRTUAL TABLE {index} USING fts5(text, content='{table}', content_rowid='{ROW}', "
        "tokenize='trigram case_sensitive 1', detail='none', columnsize=0)",
        f"{index}_valid": f"CREATE TABLE {index}_valid (valid INTEGER)",
        f"{index}_insert": f"CREATE TRIGGER {index}_insert AFTER INSERT ON {table} "
        f"BEGIN DELETE FROM {index}_valid; END",
        f"{index}_update": f"CREATE TRIGGER {index}_update AFTER UPDATE OF text, {ROW} ON {table} "
        f"BEGIN DELETE FROM {index}_valid; END",
    }


def add_index(connection: Any, table: str) -> None:
    """Index the texts of a table, if SQLite can, the name of the table is plain, and no text has a NUL."""
    ask = connection.exec_driver_sql
    if not table.isascii() or not table.isidentifier() or not _can(connection):
        return
    if ask(f"SELECT 1 FROM {table} WHERE instr(text, char(0)) LIMIT 1").first() is not None:
        return
    for statement in _statements(table).values():
        ask(statement)
    ask(f"INSERT INTO {_index(table)}({_index(table)}) VALUES ('rebuild')")
    ask(f"INSERT INTO {_index(table)}_valid VALUES (1)")


def _can(connection: Any) -> bool:
    try:
        connection.exec_driver_sql("CREATE VIRTUAL TABLE temp.intake_img_can USING fts5(text, tokenize='trigram')")
    except imported("sqlalchemy", "sql", "tables of images in databases").exc.DBAPIError:
        return False
    connection.exec_driver_sql("DROP TABLE temp.intake_img_can")
    return True


def drop_index(connection: Any, table: str) -> None:
    """Remove the index of a table, if it has one."""
    if has_index(connection, table):
        connection.exec_driver_sql(f"DROP TABLE {_index(table)}")
        connection.exec_driver_sql(f"DROP TABLE {_index(table)}_valid")


def has_index(connection: Any, table: str) -> bool:
    """Whether a table has an index that this SQLite can read, with its triggers; it need not be valid."""
    wanted = _statements(table)
    try:
        marks = ", ".join("?" * len(wanted))
        found = connection.exec_driver_sql(
            f"SELECT name, sql FROM sqlite_master WHERE name IN ({marks})", tuple(wanted)
        )
        if {row.name: row.sql for row in found} != wanted:
            return False
        connection.exec_driver_sql(f"SELECT rowid FROM {_index(table)} LIMIT 0")
    except imported("sqlalchemy", "sql", "tables of images in databases").exc.DBAPIError:
        return False
    return True


def is_valid(connection: Any, table: str) -> bool:
    """Whether the index of a table is valid until the end of the transaction that this begins."""
    connection.exec_driver_sql("BEGIN")
    return connection.exec_driver_sql(f"SELECT 1 FROM {_index(table)}_valid").first() is not None


def add_search(connection: Any) -> None:
    """Give a connection of the driver the function for texts without an index."""
    connection.create_function(_HAS, 2, lambda text, word: word in str(text).casefold(), deterministic=True)


def terms_of_words(table: Any, words: Sequence[str], indexed: bool) -> list[Any]:
    """Return the SQLAlchemy expressions for rows that hold all words.

    Parameters
    ----------
    table : sqlalchemy.Table
    words : sequence of str
        In lower case.
    indexed : bool
        Whether the table has a valid index.
    """
    sa = imported("sqlalchemy", "sql", "tables of images in databases")
    text = table.columns["text"]
    if not indexed:
        return [text.is_not(None), *(sa.func.intake_img_has(text, word) for word in words)]
    found = [sa.func.instr(text, word) > 0 for word in words]
    if trigrams := {word[k : k + _TRIGRAM] for word in words for k in range(len(word) - _TRIGRAM + 1)}:
        sought = " AND ".join('"' + t.replace('"', '""') + '"' for t in sorted(trigrams))
        index = sa.table(_index(table.name), sa.column("rowid"), sa.column(_index(table.name)))
        rows = sa.select(index.columns["rowid"]).where(index.columns[_index(table.name)].op("MATCH")(sought))
        found.insert(0, table.columns[ROW].in_(rows))
    return found
