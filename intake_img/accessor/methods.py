"""`method_of`: functions of an image as methods of the accessor, with the options of the function spelt out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["method_of"]

Options = ParamSpec("Options")
Result = TypeVar("Result")


def method_of(
    function: Callable[Concatenate[Any, Options], Result],
) -> Callable[[Callable[..., Result]], Callable[Concatenate[Any, Options], Result]]:
    """Decorate a method that passes its arguments to a function, so that editors and `help` show that function's.

    Parameters
    ----------
    function : callable
        Its first argument is the image; the others become those of the method.
    """
    signature = inspect.signature(function)
    _, *options = signature.parameters.values()
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)

    def decorate(method: Callable[..., Result]) -> Callable[Concatenate[Any, Options], Result]:
        method.__signature__ = signature.replace(parameters=[own, *options])  # type: ignore[attr-defined]
        return method

    return decorate
