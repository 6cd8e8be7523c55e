"""The formats that may be meant by a name or by first bytes, from tables that are made once.

Asking every format costs as much as parsing a small header. What is found is equal to what asking all of them finds.
"""

from __future__ import annotations

from collections.abc import Mapping

from intake_img.formats.base import Format

__all__ = ["CERTAIN", "Candidates", "by_extension", "may_claim"]

CERTAIN = 2
"""The highest result of `Format.claims`."""
_FIRST = 4  # bytes that distinguish formats
_MOST = 1024  # kinds of first bytes that are remembered


class Candidates:
    """Tables of the formats by extension and by first bytes.

    Parameters
    ----------
    table : mapping of str to Format
        The formats by the name of their driver. It does not change.
    """

    def __init__(self, table: Mapping[str, Format]) -> None:
        self.table = table
        found: dict[str, Format] = {}
        for format in table.values():
            for extension in format.extensions:
                found.setdefault(extension, format)
        self._extensions = found
        self._lengths = sorted({len(extension) for extension in found}, reverse=True)
        self._starting: dict[bytes, dict[str, Format]] = {}

    def named(self, name: str) -> Format | None:
        """Return the format of the longest extension of a file name."""
        lower = name.lower()
        for length in self._lengths:
            if length <= len(lower) and (found := self._extensions.get(lower[-length:])) is not None:
                return found
        return None

    def starting(self, head: bytes) -> Mapping[str, Format]:
        """Return the formats whose `Format.claims` may be positive for a file with these first bytes."""
        first = head[:_FIRST]
        found = self._starting.get(first)
        if found is None:
            if len(self._starting) >= _MOST:
                self._starting.clear()
            found = self._starting[first] = {n: f for n, f in self.table.items() if may_claim(f, first)}
        return found


def by_extension(name: str, table: Mapping[str, Format]) -> Format | None:
    """Return the format of the longest extension of a file name, of a table that is used once."""
    lower = name.lower()
    fits = [f for f in table.values() if lower.endswith(f.extensions)]
    return max(fits, key=lambda f: max(len(e) for e in f.extensions if lower.endswith(e)), default=None)


def may_claim(format: Format, first: bytes) -> bool:
    """Return whether a format may claim a file with these first bytes, up to four (fewer for a shorter file)."""
    kinds = type(format).__mro__
    asks = next(k for k, kind in enumerate(kinds) if "claims" in vars(kind))
    if kinds[asks] is Format:
        return any(at > 0 or first.startswith(magic[:_FIRST]) for at, magic in format.magic)
    states = next(k for k, kind in enumerate(kinds) if "starts" in vars(kind))
    if states > asks or format.starts is None:  # stated for the `claims` of a parent
        return True
    return any(first.startswith(start[:_FIRST]) for start in format.starts)
