"""Fields of patterns with names of several letters: ``{well}_{site}`` makes one axis, with a coordinate for each
field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.collections.file_names import parse_label
from intake_img.collections.listing import Column, Listing
from intake_img.errors import AxesError

__all__ = ["check_mapping", "label_values", "on_axes", "split_label", "word_values"]


def check_mapping(axes: Any) -> dict[str, str]:
    """Return the validated axis of each field.

    Raises
    ------
    TypeError
        If it is not a mapping from names to names.
    AxesError
        If an axis is not a lower-case letter.
    """
    if axes is None:
        return {}
    if not isinstance(axes, Mapping) or not all(isinstance(k, str) for k in axes):
        raise TypeError(f"axes={axes!r}: expected a mapping from fields of the pattern to axes, e.g. {{'well': 'i'}}")
    for field, axis in axes.items():
        if not isinstance(axis, str) or not re.fullmatch("[a-z]", axis):
            raise AxesError(f"axes={dict(axes)!r}: the axis of {field!r} is {axis!r}; expected a lower-case letter")
    return dict(axes)


def on_axes(listing: Listing, axes: Mapping[str, str], uri: str) -> Listing:
    """Return a listing whose fields are axes: word fields lie along ``i``, or along their axis in `axes`.

    Fields that share an axis are joined: only existing combinations have a position along it.

    Raises
    ------
    AxesError
        If `axes` names a field that the pattern lacks.
    """
    if unknown := [f for f in axes if f not in listing.fields]:
        known = f"its fields are {', '.join(listing.fields)}" if listing.fields else "it has no fields"
        raise AxesError(f"axes={dict(axes)!r} names {unknown[0]!r}, which is not a field of the pattern {uri}: {known}")
    sharing: dict[str, list[str]] = {}
    for field in listing.fields:
        sharing.setdefault(axes.get(field, field if _is_axis(field) else "i"), []).append(field)
    columns: dict[str, Column] = {}
    joint: dict[str, Sequence[str]] = {}
    for axis, fields in sharing.items():
        if len(fields) == 1 and (fields[0] == axis or fields[0] in axes):
            columns[axis] = listing.fields[fields[0]]
        else:
            columns[axis] = Column.joined([listing.fields[f] for f in fields])
            joint[axis] = tuple(fields)
    return replace(listing, fields=columns, joint=joint)


def _is_axis(field: str) -> bool:
    return field == "var" or re.fullmatch("[a-z]", field) is not None


def word_values(listing: Listing, axis: str, labels: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the values of each coordinate along an axis of joined fields.

    Raises
    ------
    AxesError
        If one of the fields is the axis itself, and its labels are not unique.
    """
    texts = zip(*(label.split("\0") for label in labels), strict=True)
    for field, column in zip(listing.joint[axis], texts, strict=True):
        if field == axis and len(set(column)) < len(column):
            word = next(f for f in listing.joint[axis] if f != axis)
            free = next(a for a in "pqruvwabdefghjklmno" if a not in listing.fields)
            raise AxesError(
                f"the fields {{{field}}} and {{{word}}} share the axis {axis!r}, along which {{{field}}} repeats its "
                f"labels: use another name, or give {{{word}}} an axis of its own: axes={{{word!r}: {free!r}}}"
            )
        yield field, label_values(column)


def split_label(listing: Listing, axis: str, label: str) -> dict[str, str]:
    """Return the label of each field along an axis: of the axis itself, or of its joined fields."""
    return dict(zip(listing.joint.get(axis, (axis,)), label.split("\0"), strict=True))


def label_values(labels: Sequence[str]) -> np.ndarray:
    """Return the values of labels: numbers, or texts if one of them is not a number."""
    if (text := "".join(labels)).isascii() and text.isdecimal() and all(labels):
        return np.asarray(list(map(int, labels)))
    values = [parse_label(text) for text in labels]
    if any(isinstance(v, str) for v in values):
        values = [v if isinstance(v, str) else text for v, text in zip(values, labels, strict=True)]
    return np.asarray(values)
