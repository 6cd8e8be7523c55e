"""Progress bars on stderr: shown if requested, or by default in a terminal for work of more than a second."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["is_shown", "meter", "writing"]


def is_shown(wanted: bool | None) -> bool:
    """Return whether a bar may appear; None asks for one in terminals."""
    return sys.stderr.isatty() if wanted is None else wanted


@contextlib.contextmanager
def meter(
    wanted: bool | None, total: int | None, what: str, unit: str, scaled: bool = True
) -> Iterator[Callable[[int], None]]:
    """A bar; yields a function that advances it.

    Parameters
    ----------
    wanted : bool, optional
        See `is_shown`.
    total : int, optional
        How far it advances, if that is known.
    what, unit : str
        What is done, and what is counted.
    scaled : bool
        Show large numbers as thousands, millions, ...
    """
    if not is_shown(wanted):
        yield lambda n: None
        return
    from tqdm import tqdm

    delay = 0 if wanted else 1
    with tqdm(total=total, desc=what, unit=unit, unit_scale=scaled, delay=delay, file=sys.stderr) as shown:
        yield lambda n: (shown.update(n), None)[1]


@contextlib.contextmanager
def writing(
    wanted: bool | Callable[[int], None] | None, total: int, what: str
) -> Iterator[Callable[[int], None] | None]:
    """Yield what a writer calls with numbers of bytes: the given function, that of a `meter`, or None."""
    if callable(wanted):
        yield wanted
    elif is_shown(wanted):
        with meter(wanted, total, what, "B") as step:
            yield step
    else:
        yield None
