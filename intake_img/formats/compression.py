"""What ``compress=`` asks of a writer: a codec of the format, or a level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from intake_img.errors import CannotWriteError

__all__ = ["codec_of", "level_of", "level_of_name", "none_of"]

T = TypeVar("T")


def codec_of(compress: Any, codecs: Mapping[Any, T], format: str) -> T:
    """Return the codec of a format.

    Parameters
    ----------
    compress : object
        What the user passed.
    codecs : mapping
        The codec for each value that the format takes: None, bool, and names. A number is not taken for a bool.
    format : str
        For the error.

    Raises
    ------
    CannotWriteError
        If the format has no such codec.
    """
    compress = _plain(compress)
    for known, codec in codecs.items():
        if type(known) is type(compress) and known == compress:
            return codec
    names = [repr(known) for known in codecs if known is not None]
    raise CannotWriteError(f"compress={compress!r}: expected {', '.join(names[:-1])} or {names[-1]} for {format}")


def level_of(compress: Any, default: int) -> int:
    """Return the level that ``compress=`` asks of gzip, bzip2 or zlib: a number, or True or None for the default."""
    compress = _plain(compress)
    if compress is None or compress is True:
        return default
    if isinstance(compress, (int, np.integer)) and 1 <= compress <= 9:
        return int(compress)
    raise CannotWriteError(f"compress={compress!r}: expected True, or a level from 1 (quick) to 9 (small)")


def level_of_name(compress: Any, name: str, packed: Mapping[str, str], default: int) -> tuple[Any, int]:
    """Return method and level for a format whose file names say whether, and how, a file is compressed.

    Parameters
    ----------
    compress : object
        What the user passed.
    name : str
        Name of the target.
    packed : mapping of str to str
        The method for each extension, such as ``{".gz": "gzip"}``.
    default : int
        The level where the user gives none.

    Returns
    -------
    method : str or None
    level : int

    Raises
    ------
    CannotWriteError
        If `compress` contradicts the name, or is not a level.
    """
    compress = _plain(compress)
    stem, dot, last = name.lower().rpartition(".")
    method = packed.get(dot + last)
    if method is not None and compress is not False:
        return method, level_of(compress, default)
    if method is None and (compress is None or compress is False):
        return None, default
    plain = stem.rpartition(".")[2] if method is not None else last
    raise CannotWriteError(
        f"compress={compress!r}: .{plain} is not compressed, {' and '.join(f'.{plain}{p}' for p in packed)} "
        f"{'is' if len(packed) == 1 else 'are'}; choose by the name"
    )


def none_of(compress: Any, reason: str) -> None:
    """Raise `CannotWriteError` if compression is requested of a format that has none; the reason says so."""
    if compress is not None and _plain(compress) is not False:
        raise CannotWriteError(f"compress={compress!r}: {reason}; leave it out")


def _plain(compress: Any) -> Any:
    return bool(compress) if isinstance(compress, np.bool_) else compress
