"""The metadata of an image in a catalog: plain data from its header, and a description made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intake_img.formats.source import ImageSource
from intake_img.model.axes import CANONICAL, canonical_order, spell, spelt
from intake_img.model.image import Image
from intake_img.model.privacy import public
from intake_img.model.record import plain
from intake_img.model.units import canonical

__all__ = ["facts_of", "facts_of_image", "is_consistent", "sentence"]

_MAX_NAMES = 100


def facts_of(source: ImageSource) -> dict[str, Any]:
    """Return the metadata of an image for a catalog: plain data from its header, without private data."""
    image = source.image()
    if not is_consistent(image):
        source.dataset(chunks=None)  # says what is wrong
    return facts_of_image(image, source.output_axis_order)


def facts_of_image(image: Image, order: str | None = CANONICAL) -> dict[str, Any]:
    """Return the same of an image that is consistent, in an order of axes."""
    first = next(iter(image.variables.values()))
    axes = canonical_order(first.axes, order)
    steps = {a: step for a, step in image.steps().items() if not _counts(image, a)}
    facts: dict[str, Any] = {
        "axes": spell(axes),
        "shape": [first.pixels.shape[first.axes.index(a)] for a in axes],
        "dtype": str(first.pixels.dtype),
        "spacing": {a: steps[a] for a in axes if a in steps},
        "units": {a: unit for a in axes if a in steps and (unit := _unit(image, a))},
    }
    c = image.coords.get("c")
    if c is not None and "c" in axes and c.axes == ("c",):
        facts["channels"] = [str(v) for v in c.values[:_MAX_NAMES]]
    if len(image.variables) > 1:
        facts["variables"] = [str(n) for n in image.variables][:_MAX_NAMES]
    if len(image.scenes) > 1:
        facts["scenes"] = [str(n) for n in image.scenes][:_MAX_NAMES]
    facts = {k: v for k, v in facts.items() if v != {}}
    return public(plain(facts, strict=True))


def _counts(image: Image, axis: str) -> bool:
    """Whether the coordinate of an axis numbers its samples: whole numbers without a unit."""
    c = image.coords.get(axis)
    return c is not None and c.values.dtype.kind in "iu" and not _unit(image, axis)


def _unit(image: Image, axis: str) -> str:
    c = image.coords.get(axis)
    return str((c.attrs.get("units") if c is not None else None) or canonical(image.units.get(axis)) or "")


def is_consistent(image: Image) -> bool:
    """Whether each axis has one length in all variables and coordinates."""
    sizes = image.sizes
    arrays = [(v.axes, v.pixels.shape) for v in image.variables.values()]
    arrays += [(c.axes, c.values.shape) for c in image.coords.values()]
    return all(len(axes) == len(shape) for axes, shape in arrays) and all(
        sizes.get(a, n) == n for axes, shape in arrays for a, n in zip(axes, shape, strict=True)
    )


def sentence(facts: Mapping[str, Any]) -> str:
    """Return a one-line description of an image.

    Examples
    --------
    >>> sentence({"axes": "zyx", "shape": [9, 64, 64], "dtype": "uint8", "spacing": {"z": 2.0}, "units": {"z": "µm"}})
    'z 9 (every 2 µm), y 64, x 64, uint8'
    """
    axes = facts["axes"] if isinstance(facts["axes"], list) else spelt(facts["axes"])
    words = []
    for axis, size in zip(axes, facts["shape"], strict=True):
        note = ""
        names = facts.get("channels") if axis == "c" else None
        if names:
            note = f" ({', '.join(names[:6])}{', …' if len(names) > 6 else ''})"
        elif axis in facts.get("spacing", {}):
            unit = facts.get("units", {}).get(axis, "")
            note = f" (every {facts['spacing'][axis]:.4g}{' ' + unit if unit else ''})"
        words.append(f"{axis} {size}{note}")
    text = ", ".join([*words, str(facts["dtype"])])
    if len(facts.get("variables", ())) > 1:
        text += f"; variables {', '.join(facts['variables'][:6])}"
    if len(facts.get("scenes", ())) > 1:
        text = f"{len(facts['scenes'])} scenes, the first: {text}"
    return f"{facts['files']} files: {text}" if facts.get("files", 1) > 1 else text
