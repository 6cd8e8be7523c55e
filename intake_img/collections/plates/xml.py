"""XML of instruments, read with limits: no document types, no entities, and not above the size limit of metadata.

Small documents become a tree (`parse`). From large indices only the requested elements are kept (`scan`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from intake_img.errors import FormatError
from intake_img.storage.files import File

__all__ = ["Element", "number", "parse", "scan", "whole"]

Element = ElementTree.Element
_LARGEST = 10**9


def parse(file: File) -> Element:
    """Return the root element of an XML file, its names without namespaces.

    Raises
    ------
    FormatError
        If it is not XML, larger than `intake_img.storage.jail.METADATA_BYTES`, or has a document type, which may
        declare entities.
    """
    builder = ElementTree.TreeBuilder()

    def start(name: str, found: dict[str, str]) -> None:
        builder.start(_bare(name), {_bare(k): v for k, v in found.items()})

    _feed(file, start, lambda name: builder.end(_bare(name)), builder.data)
    return builder.close()


def scan(file: File, wanted: Mapping[str, Callable[[dict[str, str]], Any]], inner: bool = False) -> str:
    """Call a function for each element of some names, with its attributes and the texts of all elements in it.

    Parameters
    ----------
    file : File
    wanted : mapping of str to callable
        Functions by element name. A function gets a new mapping of names to texts; the text of the element itself is at
        ``""``. Nested elements of these names are ignored.
    inner : bool
        Include the attributes of inner elements, as ``"Name@attribute"``.

    Returns
    -------
    str
        The name of the root element.

    Raises
    ------
    FormatError
        See `parse`.
    """
    found = _Scan(wanted, inner)
    _feed(file, found.start, found.end, found.data)
    return _bare(found.root)


class _Scan:
    """The state of `scan`: the facts of the current element."""

    def __init__(self, wanted: Mapping[str, Callable[[dict[str, str]], Any]], inner: bool) -> None:
        self.inner = inner
        self.root, self.inside, self.text = "", "", ""
        self.wanted, self.called = dict(wanted), dict(wanted)
        self.facts: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.text = ""
        if self.inside:
            if self.inner:
                self.facts.update({f"{name}@{key}": value for key, value in attributes.items()})
        elif name in self.called:
            self.inside, self.facts = name, attributes
        elif not self.root:
            self.root = name
            prefix = name[: len(name) - len(_bare(name))]
            self.called = {prefix + key: function for key, function in self.wanted.items()}

    def data(self, text: str) -> None:
        self.text = self.text + text if self.text else text

    def end(self, name: str) -> None:
        if name == self.inside:
            facts = {_bare(k): v for k, v in self.facts.items()} if ":" in name else self.facts
            self.inside, facts[""] = "", self.text.strip()
            self.called[name](facts)
        elif self.inside:
            self.facts[name] = self.text
        self.text = ""


def _bare(name: str) -> str:
    return name.rpartition(":")[2]


def _feed(
    file: File, start: Callable[[str, dict[str, str]], Any], end: Callable[[str], Any], data: Callable[[str], Any]
) -> None:
    """Parse a file; names keep their prefixes, which the functions remove."""

    def refused(*_: Any) -> NoReturn:
        raise FormatError(f"{file} declares a document type or entities: refused")

    content = file.read().strip(b"\0 \t\r\n")
    parser = expat.ParserCreate(_encoding(content))
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refused
    try:
        parser.Parse(content, True)
    except FormatError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as exc:
        raise FormatError(f"{file} is damaged: its XML does not parse ({exc})") from exc


def _encoding(content: bytes) -> str | None:
    """Return Latin-1 for texts that are not UTF-8 and declare no encoding, as some instruments write µm."""
    if re.match(rb"\xff\xfe|\xfe\xff|<\?xml[^>]*encoding=", content):
        return None
    try:
        content.decode()
    except UnicodeDecodeError:
        return "iso-8859-1"
    return None


def number(text: str | None, factor: float = 1.0) -> float:
    """Return a finite number times a factor, rounded to 12 digits if there is a factor; NaN if there is no number."""
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    if not math.isfinite(value):
        return math.nan
    return value if factor == 1.0 else float(f"{value * factor:.12g}")


def whole(text: str | None, default: int) -> int:
    """Return an integer of reasonable size, or the default if there is none."""
    try:
        value = int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
    return value if -_LARGEST < value < _LARGEST else default
