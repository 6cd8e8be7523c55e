"""Catalogued images as a plate: files of a table of images, by its columns ``well`` and ``field``, and their names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from intake_img.collections.many_files import SequenceSource
from intake_img.collections.plates.unindexed import facts_in_names
from intake_img.collections.words import split_label
from intake_img.errors import FormatError
from intake_img.formats.format_source import FormatSource
from intake_img.formats.registry import ImgSource, autodetect
from intake_img.storage.files import File

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_of"]

_ALLOWED = {"uri", "metadata", "scene", "storage_options"}
_SERIES = {*_ALLOWED, "axis", "axes", "start", "stop", "missing", "verify"} - {"scene"}
_MANY = "search for one: plate(table.search(plate=...))"
_FIELDS = {"i": "field", "site": "field", "position": "field", "c": "channel"}
"""Columns of a plate for the fields of a pattern; ``well``, ``field``, ``channel``, ``t`` and ``z`` are columns."""
_COLUMNS = ("well", "field", "channel", "t", "z")
_FURTHER = ("c", "page", "x", "y", "height", "seconds")


def frame_of(table: Any) -> pd.DataFrame:
    """Return the files of a table of images in the form that `intake_img.plate` takes.

    Names that follow a well-known scheme, and the fields of a series, give what the columns do not.

    Parameters
    ----------
    table : ImageTable
        Each row is checked before its file is used.

    Raises
    ------
    FormatError
        If images have no well, or are of several plates; if a row is not one file, or a series of files, that open by
        themselves: another driver, or options.
    """
    import pandas as pd

    frame = table.to_dataframe()
    plates = list(dict.fromkeys(frame["plate"].dropna()))
    if len(plates) > 1:
        raise FormatError(f"the table has images of {len(plates)} plates, {plates[0]!r}, {plates[1]!r}, ...: {_MANY}")
    opened = {str(name): table[name] for name in frame["name"]}
    sources = {name: s.found if isinstance(s, ImgSource) else s for name, s in opened.items()}
    _check(sources)
    rows = dict(zip(sources, frame.to_dict("records"), strict=True))
    found = [(name, *file) for name, source in sources.items() for file in _files(name, source)]
    of_names = facts_in_names([file.name for _, file, _, _ in found]) or [facts for *_, facts in found]
    lines = [
        {**_facts(rows[name], facts, alone=sources[name].file == file), "file": file, "scene": scene}
        for (name, file, scene, _), facts in zip(found, of_names, strict=True)
    ]
    _check_wells(lines)
    _number_channels(lines)
    return pd.DataFrame(lines)


def _files(name: str, source: Any) -> Iterator[tuple[File, int | None, dict[str, Any]]]:
    """Yield the files of an image, the scene in each, and the columns that the fields of a series give."""
    if isinstance(source, FormatSource):
        yield source.file, _scene(source), {}
        return
    for listing in source.found:
        for k, path in enumerate(listing.paths):
            labels = {axis: column.labels[int(column.codes[k])] for axis, column in listing.fields.items()}
            words = {w: v for a, label in labels.items() for w, v in split_label(listing, a, label).items()}
            facts = {_FIELDS.get(word, word): value for word, value in words.items()}
            if len(facts) < len(words) or not facts.keys() <= set(_COLUMNS):
                raise FormatError(f"the image {name!r} has the fields {list(words)}, which are not those of a plate")
            yield (
                source.file.at(path),
                None,
                {k: int(v) if k in "tz" and v.isdecimal() else v for k, v in facts.items()},
            )


def _facts(row: Mapping[str, Any], of_name: Mapping[str, Any], alone: bool) -> dict[str, Any]:
    """Return what a row says of a file, else its name; of a file of a series the name comes first, but for the well."""
    own = {k: row[k] for k in ("name", *_COLUMNS, *_FURTHER) if row.get(k) is not None and row[k] == row[k]}
    if not alone:
        return {"field": "1", **own, **of_name, **({"well": own["well"]} if "well" in own else {})}
    known = {k: v for k, v in of_name.items() if k != "c" or "channel" not in own}
    if str(own.get("field", "")).lstrip("0") == known.get("field", "").lstrip("0"):
        own.pop("field", None)
    return {"field": "1", **known, **own}


def _number_channels(lines: Sequence[dict[str, Any]]) -> None:
    """Number channels by their names where some lines have only names."""
    if any("channel" in line and "c" not in line for line in lines):
        for line in lines:
            number = line.pop("c", None)
            if number is not None:
                line.setdefault("channel", f"channel {number}")


def _check_wells(lines: Sequence[Mapping[str, Any]]) -> None:
    lacking = list(dict.fromkeys(str(line["name"]) for line in lines if not line.get("well")))
    if lacking:
        shown = ", ".join(map(repr, lacking[:5]))
        raise FormatError(
            f"{len(lacking)} images have no well, e.g. {shown}: write_table(..., columns={{'well': ...}})"
        )


def _check(sources: Mapping[str, Any]) -> None:
    """Raise an error for rows that do not open as they are by their files alone; a file of each kind is looked at."""
    seen: set[tuple[str, str]] = set()
    for name, source in sources.items():
        if not isinstance(source, (FormatSource, SequenceSource)):
            raise FormatError(
                f"the image {name!r} is not one file or a series, but a {type(source).name}: a plate needs files"
            )
        allowed = _SERIES if isinstance(source, SequenceSource) else _ALLOWED
        if further := [*({*source.arguments()} - allowed), *source.overrides]:
            raise FormatError(f"the image {name!r} has the options {further}, which a plate does not use")
        if isinstance(source, SequenceSource):
            continue
        driver = source.format.name
        kind = (driver, os.path.splitext(source.file.name)[1].lower())
        if kind not in seen and (found := autodetect(source.file).format.name) != driver:
            raise FormatError(f"the image {name!r} has the driver {driver!r}, but opens by itself as {found!r}")
        seen.add(kind)


def _scene(source: FormatSource) -> int | None:
    """Return the number of the scene of a row; None for the first one."""
    scene = source.arguments().get("scene")
    if scene is None or isinstance(scene, int):
        return scene
    with source.opened() as handle:
        names = list(map(str, handle.scene_names))
    if scene not in names:
        raise FormatError(f"{source.file}: the scene {scene!r} is not one image: a plate needs a row for each image")
    return names.index(scene)
