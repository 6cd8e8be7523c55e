"""Templates: only ``{{ CATALOG_DIR }}``, ``{{ name }}`` and ``{{ name | default('x') }}``.

Intake passes such texts to Jinja, whose templates can reach every object of the process. The supported forms mean the
same as in Jinja; all others are refused. Inserted values are never parsed as templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from intake_img.errors import CatalogError

__all__ = ["Parameter", "fill", "names_in"]

_OPENING = re.compile(r"\{[{%#]")
_FORM = re.compile(
    r"""\{\{\s*(?:
        (?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:\s*\|\s*default\(\s*(?P<q>['"])(?P<default>[^'"\\{}]*)(?P=q)\s*\))?
        | (?P<p>['"])(?P<literal>[^'"\\]*|\\[nr])(?P=p)
    )\s*\}\}""",
    re.X,
)
_KEYWORDS = {"true", "false", "none", "True", "False", "None"}
_COMMAND = re.compile(r"\s*(client_)?(env|shell)\s*\(")
_TYPES: Mapping[str, Any] = {
    "str": str,
    "unicode": str,
    "int": int,
    "float": float,
    "bool": bool,
    "datetime": str,
    "list": list,
    "mlist": list,
}


def _forms(text: str) -> list[tuple[int, int, re.Match[str]]]:
    found = []
    at = 0
    while opening := _OPENING.search(text, at):
        form = _FORM.match(text, opening.start())
        if form is None or form["name"] in _KEYWORDS:
            raise CatalogError(
                f"the template {text[opening.start() : opening.start() + 60]!r} is refused: only {{{{ name }}}}, "
                "{{ name | default('text') }} and {{ 'text' }} are understood, no code"
            )
        found.append((opening.start(), form.end(), form))
        at = form.end()
    return found


def names_in(text: str) -> dict[str, str | None]:
    """Return the parameters that a text names, with their inline defaults.

    Raises
    ------
    CatalogError
        If the text contains an unsupported template.

    Examples
    --------
    >>> names_in("{{ CATALOG_DIR }}/{{ day | default('monday') }}.tif")
    {'CATALOG_DIR': None, 'day': 'monday'}
    """
    return {form["name"]: form["default"] for _, _, form in _forms(text) if form["name"]}


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Fill values into all texts of plain data.

    Parameters
    ----------
    value : str, list, dict, ...
    values : mapping of str to object
        Values of the parameters; they are inserted as ``str``.

    Raises
    ------
    CatalogError
        If a parameter is unknown, or a template is not supported.

    Examples
    --------
    >>> fill("{{ CATALOG_DIR }}/a{{ '{{' }}b.tif", {"CATALOG_DIR": "/data"})
    '/data/a{{b.tif'
    """
    if isinstance(value, dict):
        return {k: fill(v, values) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(v, values) for v in value]
    if not isinstance(value, str):
        return value
    pieces: list[str] = []
    at = 0
    for start, stop, form in _forms(value):
        pieces += [value[at:start], _content(form, values)]
        at = stop
    return "".join([*pieces, value[at:]])


def _content(form: re.Match[str], values: Mapping[str, Any]) -> str:
    if form["name"] is None:
        return {r"\n": "\n", r"\r": "\r"}.get(form["literal"], form["literal"])
    if form["name"] in values:
        return str(values[form["name"]])
    if form["default"] is not None:
        return form["default"]
    known = ", ".join(values)
    raise CatalogError(f"there is no parameter {form['name']!r}; there are {known}")


@dataclass(frozen=True)
class Parameter:
    """A parameter of an entry, chosen by the user.

    Parameters
    ----------
    name, description : str
    type : str
        ``str``, ``int``, ``float``, ``bool``, ``datetime`` (as text), ``list`` or ``mlist`` (several of `allowed`).
    default : object
    min, max : object, optional
        Limits of the value.
    allowed : sequence, optional
        The allowed values.
    """

    name: str
    description: str = ""
    type: str = "str"
    default: Any = None
    min: Any = None
    max: Any = None
    allowed: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, name: str, spec: Mapping[str, Any]) -> Parameter:
        """Return the parameter that an entry of a catalog describes.

        Raises
        ------
        CatalogError
            If the description is invalid or inconsistent.
        """
        known = ("description", "type", "default", "min", "max", "allowed")
        if unknown := [k for k in spec if k not in known]:
            raise CatalogError(f"the key {unknown[0]!r} is refused; a parameter has {', '.join(known)}")
        kind = spec.get("type", "str")
        if kind not in _TYPES:
            raise CatalogError(f"the type {str(kind)[:40]!r} is unknown; expected one of {', '.join(_TYPES)}")
        default = spec.get("default")
        for value in default if isinstance(default, list) else [default]:
            if isinstance(value, str) and _COMMAND.match(value):
                raise CatalogError(
                    f"default: {value[:60]!r} requests the environment or a shell, which untrusted catalogs may not use"
                )
        allowed = spec.get("allowed")
        if allowed is not None and (not isinstance(allowed, list) or not allowed):
            raise CatalogError("allowed: expected a list of values")
        if not isinstance(spec.get("description", ""), str):
            raise CatalogError("description: expected a text")
        parameter = cls(name, spec.get("description", ""), kind)
        limits = {k: parameter.coerced(spec[k]) for k in ("min", "max") if spec.get(k) is not None}
        if kind != "mlist":
            allowed = allowed and [parameter.coerced(v) for v in allowed]
        parameter = cls(
            name, spec.get("description", ""), kind, None, allowed=tuple(allowed) if allowed else None, **limits
        )
        if default is None:
            return parameter
        return cls(**{**vars(parameter), "default": parameter.validate(default)})

    def coerced(self, value: Any) -> Any:
        """Return a value in the parameter's type."""
        kind = _TYPES[self.type]
        try:
            if kind is bool and isinstance(value, str):
                return {"true": True, "false": False, "1": True, "0": False}[value.strip().lower()]
            if kind is list:
                if not isinstance(value, (list, tuple)):
                    raise TypeError
                return list(value)
            if kind is str and isinstance(value, (list, dict)):
                raise TypeError
            return kind(value)
        except (TypeError, ValueError, KeyError, OverflowError):
            raise CatalogError(f"the parameter {self.name!r} is of type {self.type}, got {str(value)[:60]!r}") from None

    def validate(self, value: Any) -> Any:
        """Return a value in the parameter's type.

        Raises
        ------
        CatalogError
            If the parameter does not allow it.
        """
        value = self.coerced(value)
        if self.allowed is not None:
            for one in value if self.type == "mlist" else [value]:
                if one not in self.allowed:
                    listed = ", ".join(map(str, self.allowed))
                    raise CatalogError(f"the parameter {self.name!r} takes one of {listed}; got {str(one)[:60]!r}")
        try:
            low = self.min is not None and value < self.min
            high = self.max is not None and value > self.max
        except TypeError:
            raise CatalogError(
                f"the parameter {self.name!r} of type {self.type} has no order for min and max"
            ) from None
        if low or high or value != value:
            raise CatalogError(f"the parameter {self.name!r} goes from {self.min} to {self.max}, got {value}")
        return value

    def describe(self) -> dict[str, Any]:
        """Return the parameter in the form of a catalog."""
        facts = {
            "description": self.description,
            "type": self.type,
            "default": self.default,
            "min": self.min,
            "max": self.max,
            "allowed": list(self.allowed) if self.allowed else None,
        }
        return {k: v for k, v in facts.items() if v not in (None, "")}
