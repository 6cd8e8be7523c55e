"""The part of a file's header that may be published: without names of people, patients and paths.

`Format.public_header` applies these rules, and those of the format, to headers that portals and catalogs show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

from intake_img.errors import FormatError
from intake_img.model.untrusted import xml_root

__all__ = ["names_people", "names_place", "public"]

_PRIVATE = re.compile(
    r"patient|birth|operator|observer|experimenter|user_?name|\buser\b|author|artist|creator(?!_?(sw|version|tool))|owner|"
    r"copyright|e-?mail|physician|accession|\bssn\b|telephone|phone|address|institution|investigator|\bgroup_?name|"
    r"password|token|secret|credential|computer|host_?name|(first|last|middle)_name",
    re.I,
)
_PLACE_KEY = re.compile(r"(file|folder|dir|directory|path)_?(name|path)?$|^saved_as$|^ur[il]$", re.I)
_PLACE = re.compile(
    r"""(?<![\w.<])(?:(?:[A-Za-z]:[\\/]|\\\\\w)[^\r\n"'<>|*?;,]*|file:[^\s"'<>]*|\w+://[^\s"'<>]*|~/[^\s"'<>]*|"""
    r"""/(?:[^\s/"'<>]+/)+[^\s/"'<>]*)"""
)
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.]+")
_XML = re.compile(
    r"(<(?:\w+:)?(?:Experimenter|ExperimenterGroup|UserName|User|DisplayName|FirstName|LastName|MiddleName|Author|"
    r"Institution|Patient\w*)\b[^>]*?)(?:/>|>.*?(?:</[^>]+>|\Z))",
    re.I | re.S,
)
_TAG = re.compile(r"""<(?P<name>[\w:.-]+)(?P<attributes>(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*(?P<empty>/?)>""")
_ATTRIBUTE = re.compile(r"""\s+(?P<key>[\w:.-]+)\s*=\s*(?:"(?P<one>[^"]*)"|'(?P<other>[^']*)')""")
_STOP = r"\r\n,;<>|\t\u2028\u2029"
_KEY = re.compile(r"""["']?\s{0,8}(?P<key>[\w.-](?:[\w .-]{0,58}?[\w.-])?)\s{0,8}["']?\s*[=:]""")
_VALUE = re.compile(rf"""\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^{_STOP}]*)""")
_SPOKEN = re.compile(r"(?:(?<=[\r\n\u2028])|\A)(?:User|Operator|Author|Experimenter|Patient)\b[^\r\n\u2028]*", re.I)
_NAME_KEYS = {"label", "name", "key", "title", "k", "id", "tag"}
_VALUE_KEYS = {"value", "v", "text", "data", "content"}
_LONGEST = 20_000
_LONGEST_DOCUMENT = 4_000_000
_DEEPEST = 24
_SHORT = 64  # texts up to this length are remembered: they are the same in many headers


def public(value: Any, private: str = "") -> Any:
    """Return plain data without names of people and local paths; long texts are truncated.

    Parameters
    ----------
    value : object
        Mappings, lists, texts and numbers, as in JSON. XML and JSON within texts are parsed, too.
    private : str
        A regular expression of further keys to leave out; case is ignored.

    Examples
    --------
    >>> public({"PatientName": "A", "objective": "63x", "note": "from /home/ada/x.tif", "UserName": "ada"})
    {'objective': '63x', 'note': 'from …'}
    """
    return _public(value, re.compile(private, re.I) if private else None, 0)


def names_people(key: str, private: re.Pattern[str] | None = None) -> bool:
    """Whether the value of a key of a header names people or local paths."""
    return _named(key, private) if len(key) <= _SHORT else _named.__wrapped__(key, private)


@lru_cache(maxsize=4096)
def _named(key: str, private: re.Pattern[str] | None) -> bool:
    words = _words(key)
    return bool(_PRIVATE.search(words) or _PLACE_KEY.search(words) or (private and private.search(key)))


def _words(key: str) -> str:
    """Split a camel-case name into words, so that complete words can be matched."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key.strip())


def names_place(text: str) -> bool:
    """Whether a text contains a path or a URL of a file."""
    return bool(_PLACE.search(text))


def _public(value: Any, private: re.Pattern[str] | None, depth: int) -> Any:
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        kept = {str(k): v for k, v in value.items() if not _is_private_entry(str(k), v, private)}
        return {_public_line(k, private): _public(v, private, depth + 1) for k, v in kept.items()}
    if isinstance(value, (list, tuple)):
        return [_public(v, private, depth + 1) for v in value if not _is_private_pair(v, private)]
    return _public_text(value, private, depth) if isinstance(value, str) else value


def _is_private_entry(key: str, value: Any, private: re.Pattern[str] | None) -> bool:
    """Whether an entry of a mapping is private; a nested header under the key ``file`` is not private by its key."""
    if isinstance(value, Mapping) and _PLACE_KEY.search(_words(key)):
        return bool(private and private.search(key))
    return names_people(key, private)


def _is_private_pair(value: Any, private: re.Pattern[str] | None) -> bool:
    """Whether a mapping is a private name with its value, such as ``{"Label": "Operator", "Value": "Ada"}``."""
    if not isinstance(value, Mapping):
        return False
    lower = {str(k).lower(): v for k, v in value.items()}
    names = [str(lower[k]) for k in _NAME_KEYS & set(lower)]
    return bool(_VALUE_KEYS & set(lower)) and any(names_people(n, private) for n in names)


def _public_text(text: str, private: re.Pattern[str] | None, depth: int) -> str:
    document = text.lstrip("\ufeff \r\n\t")  # parsers refuse a byte-order mark, or a line before the XML declaration
    if len(text) < _LONGEST_DOCUMENT and document.startswith("<"):
        text = _public_xml(document, private)
    elif len(text) < _LONGEST_DOCUMENT and document.startswith(("{", "[")):
        text = _public_json(document, private, depth)
    return _public_line(text[:_LONGEST], private)


def _public_line(text: str, private: re.Pattern[str] | None) -> str:
    return _cleaned(text, private) if len(text) <= _SHORT else _cleaned.__wrapped__(text, private)


@lru_cache(maxsize=4096)
def _cleaned(text: str, private: re.Pattern[str] | None) -> str:
    if "<" in text:
        text = _without_private_tags(_XML.sub("", text), private)
    text = _without_private_values(text, private)
    text = _SPOKEN.sub("", text)
    return _MAIL.sub("…", _PLACE.sub("…", text))


def _without_private_tags(text: str, private: re.Pattern[str] | None) -> str:
    """Return XML that cannot be parsed, or a part of it, without private elements and attributes.

    A private element without an end hides all that follows.
    """
    kept, at = [], 0
    for found in _TAG.finditer(text):
        if found.start() < at:
            continue
        attributes = list(_ATTRIBUTE.finditer(found["attributes"]))
        named = [a["one"] or a["other"] or "" for a in attributes if _unprefixed(a["key"]).lower() in _NAME_KEYS]
        kept.append(text[at : found.start()])
        if any(names_people(n, private) for n in (_unprefixed(found["name"]), *named)):
            ending = (
                None if found["empty"] else re.compile(rf"</{re.escape(found['name'])}\s*>").search(text, found.end())
            )
            at = found.end() if found["empty"] else ending.end() if ending else len(text)
            continue
        public = [a[0] for a in attributes if not names_people(_unprefixed(a["key"]), private)]
        kept.append("<" + found["name"] + "".join(public) + found["empty"] + ">")
        at = found.end()
    return "".join(kept) + text[at:]


def _unprefixed(name: str) -> str:
    return name.rpartition(":")[2]


def _without_private_values(text: str, private: re.Pattern[str] | None) -> str:
    """Return text without the ``key = value`` and ``key: value`` whose keys are private."""
    kept, at = [], 0
    for found in _KEY.finditer(text):
        if found.start() >= at and names_people(found["key"], private):
            kept.append(text[at : found.start()])
            value = _VALUE.match(text, found.end())
            at = value.end() if value else found.end()
    return "".join(kept) + text[at:]


def _public_json(text: str, private: re.Pattern[str] | None, depth: int) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(_public(value, private, depth + 1), ensure_ascii=False)


def _public_xml(text: str, private: re.Pattern[str] | None) -> str:
    """Return XML without the elements and attributes whose names are private; unchanged if it cannot be parsed, see
    `_without_private_tags`.
    """
    try:
        root = xml_root(text)
    except FormatError:
        return text
    return ElementTree.tostring(_public_element(root, private), encoding="unicode")


def _public_element(root: ElementTree.Element, private: re.Pattern[str] | None) -> ElementTree.Element:
    for element in list(root.iter()):
        for child in [c for c in element if _is_private_element(c, private)]:
            element.remove(child)
        kept = {_local(n): v for n, v in element.attrib.items() if not names_people(_local(n), private)}
        element.tag = _local(str(element.tag))
        element.attrib = {name: _public_line(value, private) for name, value in kept.items()}
        if element.text and element.text.strip():
            element.text = _public_line(element.text, private)
    return root


def _is_private_element(element: ElementTree.Element, private: re.Pattern[str] | None) -> bool:
    names = [_local(str(element.tag)), *_titles(element)]
    return any(names_people(n, private) for n in names)


def _titles(element: ElementTree.Element) -> Iterator[str]:
    """Attributes in which an element names its value: ``<M K="Operator">Ada</M>``."""
    for key, value in element.attrib.items():
        if _local(key).lower() in _NAME_KEYS and not len(element):
            yield value


def _local(name: str) -> str:
    return name.rpartition("}")[2]
