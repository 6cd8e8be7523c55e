"""The description beside a flat binary file, and the options that stand for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.options import option
from intake_img.storage.files import File
from intake_img.storage.journal import resolve

__all__ = ["BinaryOptions", "agreed", "description", "thunder_dtype"]


@dataclass(frozen=True)
class BinaryOptions:
    """How the bytes are to be understood."""

    shape: Sequence[int] | None = option(
        None,
        "sequence of int, optional",
        "Shape of the array; by default that of the description beside the file.",
    )
    dtype: Any = option(
        None,
        "str or numpy.dtype, optional",
        'Its type, with byte order, e.g. ``">u2"``; by default that of the description.',
    )
    order: Literal["C", "F"] | None = option(
        None, '"C" or "F", optional', "Whether the last (C, the default) or the first axis varies fastest."
    )
    offset: int | None = option(None, "int, optional", "Number of bytes before the pixels; 0 by default.")
    conf: str = option(
        "conf.json",
        "str",
        "Name of the description in the file's folder, JSON with the keys ``shape`` and ``dtype``, and optionally "
        "``order``, ``offset`` and ``axes``. A file ``<name>.json`` comes first. What it says must not contradict the "
        "arguments.",
    )

    def __post_init__(self) -> None:
        if self.order not in (None, "C", "F"):
            raise ValueError(f"order={self.order!r}: expected 'C' or 'F'")
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.dtype is not None:
            object.__setattr__(self, "dtype", np.dtype(self.dtype).str)
        if self.offset is not None:
            object.__setattr__(self, "offset", int(self.offset))


def agreed(file: File, stated: Mapping[str, Any], options: BinaryOptions) -> dict[str, Any]:
    """Return what the options or the description say, and refuse what they contradict each other in."""
    facts: dict[str, Any] = {k: getattr(options, k) for k in ("shape", "dtype", "order", "offset")}
    stated = {"shape": stated.get("dims"), **stated}  # thunder's older key
    spelling: dict[str, Callable[[Any], Any]] = {"shape": tuple, "dtype": lambda said: np.dtype(said).str}
    for key, given in facts.items():
        if (said := stated.get(key)) is None:
            continue
        try:
            said = spelling.get(key, lambda value: value)(said)
        except (TypeError, ValueError) as exc:
            raise FormatError(f"{file}: its description has {key} {said!r}: {exc}") from exc
        if given is not None and given != said:
            raise FormatError(f"{file}: {key}={given!r} was given, but its description has {said!r}")
        facts[key] = said
    return facts


def thunder_dtype(dtype: np.dtype) -> str:
    """Return the name of a type, as thunder writes it."""
    return dtype.name if dtype.isnative else dtype.str


def description(file: File, conf: str) -> dict[str, Any]:
    """Return the description beside a file, empty if there is none."""
    for candidate in (file.sibling(f"{file.name}.json"), file.sibling(conf)):
        try:
            text = resolve(candidate).read(2**24)
        except FileNotFoundError:
            continue
        facts = json.loads(text)
        if not isinstance(facts, dict):
            raise FormatError(f"{candidate}: expected a JSON object with 'shape' and 'dtype'")
        return facts
    return {}
