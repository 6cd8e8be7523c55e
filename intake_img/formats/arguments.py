"""Arguments of sources: parsing, comparison with their defaults, and writing into catalogs."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intake_img.errors import FormatError, SceneError, warn

__all__ = [
    "ENTRY_POINTS",
    "check_keys",
    "check_level",
    "driver_name",
    "is_default",
    "jinja_escaped",
    "parsed_chunks",
    "parsed_level",
    "parsed_scene",
    "scene_number",
]

ENTRY_POINTS = "intake.drivers"
"""The entry point group of drivers."""


def scene_number(scene: int | str | None, names: Sequence[str], file: object) -> int:
    """Return the number of a scene given by number or name.

    Raises
    ------
    SceneError
        If there is no such scene; the message names them all.
    """
    if not names:
        raise FormatError(f"{file} contains no image")
    if scene is None:
        return 0
    shown = ", ".join(f"{n}: {name!r}" for n, name in enumerate(names[:20])) + (", …" if len(names) > 20 else "")
    if isinstance(scene, int):
        if not -len(names) <= scene < len(names):
            raise SceneError(f"{file} has no scene number {scene}; it has {len(names)} ({shown})")
        return scene % len(names)
    found = [n for n, name in enumerate(names) if name == scene]
    if len(found) > 1:
        raise SceneError(f"{file} has {len(found)} scenes named {scene!r}: give the number instead ({shown})")
    if not found and re.fullmatch(r"-?\d+", scene):  # templates of catalogs make texts of numbers
        return scene_number(int(scene), names, file)
    if not found:
        raise SceneError(f"{file} has no scene named {scene!r}; it has {shown}, or 'all'")
    return found[0]


def parsed_scene(scene: Any) -> int | str | None:
    if scene is None or isinstance(scene, str):
        return scene or None
    if isinstance(scene, (int, np.integer)) and not isinstance(scene, bool):
        return int(scene)
    raise TypeError(f"scene={scene!r}: expected a number, a name, 'all' or None")


def parsed_level(level: Any) -> int:
    """Return the level as a number, also from the text that a template of a catalog makes of it."""
    number = int(level) if isinstance(level, str) and re.fullmatch(r"-?[0-9]+", level) else level
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"level={level!r}: expected a number, 0 for full resolution")
    if number < 0:
        raise ValueError(f"level={level!r}: expected 0 (full resolution) or a positive number")
    return int(number)


def check_keys(metadata: Mapping[str, Any], known: Sequence[str]) -> None:
    """Warn of keys of `metadata` that look like misspelt ones, or mean one of them; other keys describe an entry of a
    catalog."""
    if not (others := [key for key in metadata if isinstance(key, str) and key not in known]):
        return
    import difflib

    for key in others:
        meant = _MEANT.get(key) or next(map(repr, difflib.get_close_matches(key, known, 1, 0.85)), None)
        if meant is not None:
            warn(f"metadata has the key {key!r}, which is ignored: did you mean {meant}?")


_MEANT = dict.fromkeys(("units", "unit"), "'spacing_units'")
_MEANT |= dict.fromkeys(("channels", "channel_names"), "'coords', {'c': [...]}")


def parsed_chunks(chunks: Any) -> Any:
    """Chunks as given, or as the text that a template of a catalog makes of a number or None."""
    if not isinstance(chunks, str):
        return chunks
    if re.fullmatch(r"-?\d+", chunks):
        return int(chunks)
    return None if chunks in ("", "None") else chunks


def is_default(value: Any, parameter: inspect.Parameter | None) -> bool:
    if value is None or isinstance(value, (str, bool, int)):
        return parameter is not None and type(value) is type(parameter.default) and value == parameter.default
    return isinstance(value, Mapping) and not value and parameter is not None and parameter.default is None


def driver_name(cls: type) -> str:
    """The name under which a catalog finds the driver: that of its entry point, or else its dotted path."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.value == f"{cls.__module__}:{cls.__qualname__}":
            return point.name
    return f"{cls.__module__}.{cls.__qualname__}"


def jinja_escaped(value: Any) -> Any:
    """Quote what Jinja, which Intake runs over every text, would take for a template, or for ends of lines."""
    if isinstance(value, str):
        names = {"\r": r"\r", "\n": r"\n"}
        return re.sub(r"\{[{%#]|\{(?=\r|\n\Z)|\r|\n\Z", lambda m: "{{ '" + names.get(m[0], m[0]) + "' }}", value)
    if isinstance(value, dict):
        return {k: jinja_escaped(v) for k, v in value.items()}
    return [jinja_escaped(v) for v in value] if isinstance(value, list) else value


def check_level(level: int, levels: int, file: object) -> int:
    """Return the level if the pyramid has it, or raise `SceneError` that says how many there are."""
    if level >= levels:
        raise SceneError(f"{file} has {levels} level{'s' * (levels > 1)} of resolution, there is no level {level}")
    return level
