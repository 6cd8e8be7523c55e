"""What of a file's header strangers may see: no people, no patients, no places on a disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.model.image import Coordinate, Image

__all__ = ["cleaned_image", "public"]

_PRIVATE = re.compile(
    r"patient|birth|operator|experimenter|username|user_?name|\buser\b|author|creator|owner|e-?mail|physician|"
    r"accession|\bssn\b|telephone|phone|address|institution|investigator|\bgroup_?name|password|token|secret|credential|"
    r"(file|folder|dir|directory|path)_?(name|path)?$|^ur[il]$|computer|host_?name",
    re.I,
)
_PLACE = re.compile(r"""(?<![\w.<])(?:[A-Za-z]:[\\/]|\\\\\w|file:|~/|/(?:[^\s/"'<>]+/)+[^\s/"'<>]*)""")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_XML = re.compile(
    r"(<(?:\w+:)?(?:Experimenter|ExperimenterGroup|UserName|User|DisplayName|FirstName|LastName|MiddleName|Author|"
    r"Institution|Patient\w*)\b[^>]*?)(?:/>|>.*?</[^>]+>)",
    re.I | re.S,
)
_LINE = re.compile(r"""(?P<key>[\w .-]{1,60}?)\s*[=:]\s*(?:"[^"]*"|'[^']*'|[^\r\n,;<>]*)""")
_LONGEST = 20_000


def public(value: Any, depth: int = 0) -> Any:
    """Return plain data without what names people or places on a disk; long texts are cut.

    Examples
    --------
    >>> public({"PatientName": "A", "objective": "63x", "note": "from /home/ada/x.tif", "UserName": "ada"})
    {'objective': '63x', 'note': 'from …'}
    """
    if depth > 24:
        return "…"
    if isinstance(value, Mapping):
        return {str(k): public(v, depth + 1) for k, v in value.items() if not _PRIVATE.search(_words(str(k)))}
    if isinstance(value, (list, tuple)):
        return [public(v, depth + 1) for v in value]
    return _public_text(value) if isinstance(value, str) else value


def _words(key: str) -> str:
    """Separate the words of a name in camel case, so that whole words can be matched."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key)


def _public_text(text: str) -> str:
    text = text[:_LONGEST]
    if "<" in text:
        text = _XML.sub("", text)
    text = _LINE.sub(lambda m: "" if _PRIVATE.search(_words(m["key"].strip())) else m[0], text)
    return _MAIL.sub("…", _PLACE.sub("…", text))


def cleaned_image(image: Image) -> Image:
    """Return an image without the file's own header, and with public attributes and coordinates alone."""
    header = {k: v for k, v in image.header.items() if k in ("driver", "scene")}
    coords = {name: c for name, c in image.coords.items() if _is_public(name, c)}
    variables = {n: replace(v, attrs=public(v.attrs)) for n, v in image.variables.items()}
    return replace(image, header=header, attrs=public(image.attrs), coords=coords, variables=variables, partition={})


def _is_public(name: str, c: Coordinate) -> bool:
    values = np.asarray(c.values)
    if c.axes == (name,) or values.dtype.kind not in "UO":
        return True
    return not _PRIVATE.search(name) and not any(_PLACE.search(str(v)) for v in values.ravel()[:1000])
