"""The letters of axes: their canonical order, their kinds, and the validation of an order given by a user.

An axis is one lower-case letter: ``i`` image or sample, ``t`` time, ``c`` channel, ``z y x`` space (canonical order
``itczyx``), after the vocabulary of OME and OME-NGFF. Further axes keep their own name and come first; ``s`` (colour
samples beside channels) comes last. Names longer than a letter occur only in formats with free dimension names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from intake_img.errors import AxesError

__all__ = ["CANONICAL", "KINDS", "RGB", "SPATIAL", "canonical_order", "check_axes", "default_axes", "spell", "spelt"]

CANONICAL = "itczyx"
SPATIAL = "zyx"
KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
"""Kind of each axis as OME-NGFF names it; other axes have no kind."""
RGB = ("R", "G", "B", "A")
"""Names of colour samples when they become the channel axis."""


def check_axes(axes: Iterable[str], ndim: int | None = None) -> tuple[str, ...]:
    """Return `axes` as a tuple of names, or raise.

    Parameters
    ----------
    axes : str or iterable of str
        A string of one-letter axes (``"tyx"``), or a sequence of names.
    ndim : int, optional
        The expected number of axes.

    Raises
    ------
    AxesError
        If they are not names, a name is empty or repeated, or their number differs from `ndim`.
    """
    if not isinstance(axes, Iterable):
        raise AxesError(f"axes are {axes!r}: expected a text of letters such as 'tzyx', or a list of names")
    names = tuple(str(a) for a in axes)
    if len(set(names)) != len(names):
        repeated = [a for a, n in Counter(names).items() if n > 1]
        raise AxesError(f"axes {spell(names)!r} repeat {', '.join(map(repr, repeated))}: each axis may occur once")
    if bad := [a for a in names if not a.strip()]:
        raise AxesError(f"axes {names!r} contain the empty name {bad[0]!r}: an axis is a lower-case letter, e.g. 'z'")
    if isinstance(axes, str) and (bad := [a for a in names if not a.isalpha() or a != a.lower()]):
        raise AxesError(
            f"axes {axes!r} contain {bad[0]!r}: an axis is a lower-case letter; did you mean {axes.lower()!r}?"
        )
    if ndim is not None and len(names) != ndim:
        raise AxesError(f"axes {spell(names)!r} name {len(names)} axes, but the array has {ndim}")
    return names


def canonical_order(axes: Sequence[str], order: str | Sequence[str] | None = CANONICAL) -> tuple[str, ...]:
    """Return the names in `axes`, in the order in which a Dataset shows them.

    Parameters
    ----------
    axes : sequence of str
        The axes that the data have.
    order : str or None
        The requested order. It may name axes that the data lack; axes beyond `CANONICAL` that it does not name come
        first (``s``: last). None keeps the order of `axes`.

    Raises
    ------
    AxesError
        If `order` repeats an axis or lacks an axis of the data.

    Examples
    --------
    >>> canonical_order("yxc")
    ('c', 'y', 'x')
    >>> canonical_order("hzyxs")
    ('h', 'z', 'y', 'x', 's')
    """
    axes = tuple(axes)
    if order is None:
        return axes
    wanted = check_axes(order)
    if lacking := [a for a in axes if a in CANONICAL and a not in wanted]:
        raise AxesError(
            f"output_axis_order {spell(wanted)!r} lacks the axis {', '.join(map(repr, lacking))} of the data "
            f"(axes {spell(axes)!r}): name every axis, select with partition=, or pass None to keep the file's order"
        )
    named = [a for a in wanted if a in axes]
    rest = [a for a in axes if a not in wanted]
    return tuple([a for a in rest if a != "s"] + named + [a for a in rest if a == "s"])


def default_axes(ndim: int) -> tuple[str, ...]:
    """Return axes for an array without axis names: the last canonical axes, preceded by spare letters.

    Examples
    --------
    >>> default_axes(3)
    ('z', 'y', 'x')
    """
    if ndim <= len(CANONICAL):
        return tuple(CANONICAL[len(CANONICAL) - ndim :])
    return tuple("abdefghjklmn"[: ndim - len(CANONICAL)]) + tuple(CANONICAL)


def spell(axes: Sequence[str]) -> str:
    """Return axes as one word if each is a letter (``"tyx"``), else separated by commas."""
    return ("" if all(len(a) == 1 for a in axes) else ",").join(axes)


def spelt(text: str) -> tuple[str, ...]:
    """Return the axes that `spell` made a word of.

    Examples
    --------
    >>> spelt("tyx"), spelt("row,column,y,x")
    (('t', 'y', 'x'), ('row', 'column', 'y', 'x'))
    """
    return tuple(text.split(",") if "," in text else text)
