"""Tables of images as the command line lists, searches and checks them: by their rows, which need not be opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from intake_img.model.text import printable

__all__ = ["is_database_url", "is_table", "listed", "problems"]


def is_database_url(target: str) -> bool:
    """True for a URL of SQLAlchemy."""
    from intake_img.catalog.backends import is_database
    from intake_img.storage.files import File

    file = File.parse(target)
    return not file.local and is_database(file)


def is_table(target: str) -> bool:
    """True for a table of images, by its name."""
    from intake_img.catalog.backends import is_database, is_parquet
    from intake_img.storage.files import File

    file = File.parse(target)
    return is_database(file) or is_parquet(file)


def listed(target: str, words: Iterable[str], limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a table, or those that hold all words.

    Parameters
    ----------
    target : str
    words : iterable of str
    limits : mapping
        ``roots`` and ``schemes``.
    """
    table = _opened(target, limits)
    found = table.search(text=" ".join(words)) if words else table
    return [{k: v for k, v in row.items() if v is not None and k != "text"} for row in found.images.rows()]


def problems(target: str, open_images: bool, limits: Mapping[str, Any]) -> Iterator[str]:
    """Iterate over what is wrong with the rows of a table, of which each is opened if `open_images` is given."""
    for name, reason in _opened(target, limits).problems(open_images):
        yield printable(f"{target}: {name!r}: {reason}")


def _opened(target: str, limits: Mapping[str, Any]) -> Any:
    from intake_img.catalog import open_table

    return open_table(target, roots=limits["roots"] or (), schemes=limits["schemes"] or ())
