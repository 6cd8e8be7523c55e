"""Bundle of the viewer's modules, for environments that load a single JavaScript text, such as notebook widgets.

Each module becomes a function that returns its exports; nothing is minified or renamed.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from intake_img.portal.viewer import FOLDER

__all__ = ["bundled"]

_IMPORT = re.compile(r'^import (?:\{(?P<names>[^}]*)\} from )?"\./(?P<module>[\w-]+)\.js";$', re.M)
_EXPORT = re.compile(r"^export (?P<kind>(?:async )?function|class|const) (?P<name>\w+)", re.M)
_DEFAULT = re.compile(r"^export default (?P<value>.*);$", re.M)


@cache
def bundled(entry: str = "notebook", folder: Path = FOLDER) -> str:
    """Return a module of the viewer and all its imports as one module, with the same default export.

    Parameters
    ----------
    entry : str
        Name of the module, without ``.js``.
    folder : Path

    Raises
    ------
    ValueError
        If a module uses an unsupported form of import or export.
    """
    done: dict[str, str] = {}
    _add(entry, folder, done)
    return "\n".join([*done.values(), f"export default {_variable(entry)}.default;\n"])


def _add(name: str, folder: Path, done: dict[str, str]) -> None:
    text = (folder / f"{name}.js").read_text("utf-8")
    for found in _IMPORT.finditer(text):
        if found["module"] not in done:
            _add(found["module"], folder, done)
    done[name] = _wrapped(name, text)


def _wrapped(name: str, text: str) -> str:
    exported = [found["name"] for found in _EXPORT.finditer(text)]
    text = _IMPORT.sub(_taken, text)
    text = _EXPORT.sub(r"\g<kind> \g<name>", text)
    if default := _DEFAULT.search(text):
        exported.append(f"default: {default['value']}")
        text = _DEFAULT.sub("", text)
    if left := re.search(r"^(?:import|export)\b.*", text, re.M):
        raise ValueError(f"{name}.js: {left[0]!r} is not understood: write names in braces, one statement a line")
    return f"const {_variable(name)} = (() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();"


def _taken(found: re.Match[str]) -> str:
    names = (found["names"] or "").replace(" as ", ": ")
    return f"const {{{names}}} = {_variable(found['module'])};"


def _variable(name: str) -> str:
    return f"module_{name.replace('-', '_')}"
