"""Pages with code as notebooks, which each page offers for download: cells of text and of code, without outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

__all__ = ["code_of", "has_code", "linked", "notebook_of", "write_notebooks"]

_FENCE = re.compile(r"^(?:<!-- (?P<mark>[^\n]*?) -->\n+)?```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
_NOTHING = ("{toctree}", "{include}")
_DEMO = "# sample images, in the folder demo-output\n!intake-img demo"
_FOLDER = "reference/generated/notebooks"


def code_of(fence: re.Match[str]) -> str | None:
    """Return the code of a fenced block, or None if a reader of the page would not run it."""
    text, mark, language = fence["text"].rstrip(), fence["mark"] or "", fence["language"]
    if mark.startswith("file: "):
        return f"%%writefile {mark.removeprefix('file: ')}\n{text}"
    if mark.startswith("not run"):
        return None
    if language == "console" and all(line.startswith("$ intake-img ") for line in text.splitlines()):
        return "\n".join("!" + line.removeprefix("$ ") for line in text.splitlines())
    return text if language == "python" else None


def notebook_of(page: str) -> dict[str, Any]:
    """Return a page as a notebook of Jupyter's format 4.5.

    Parameters
    ----------
    page : str
        The Markdown text.

    Returns
    -------
    dict
        JSON. Links to other pages become text; pictures are left out, since the code makes them.
    """
    cells: list[tuple[str, str]] = []
    text, end = "", 0
    for fence in _FENCE.finditer(page):
        text += page[end : fence.start()]
        end = fence.end()
        code = code_of(fence)
        if code is None:
            text += "" if fence["language"] in _NOTHING else f"```{fence['language']}\n{fence['text']}```"
            continue
        cells += [("markdown", text), ("code", code)]
        text = ""
    cells.append(("markdown", text + page[end:]))
    if "!intake-img demo" not in next((code for kind, code in cells if kind == "code" and "demo" in code), _DEMO):
        cells.insert(1, ("code", _DEMO))
    listed = [(kind, source if kind == "code" else _plain(source)) for kind, source in cells]
    return {
        "cells": [_cell(n, kind, source) for n, (kind, source) in enumerate(listed) if source],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _plain(text: str) -> str:
    """Return Markdown without pictures, comments and links into the documentation."""
    text = re.sub(r"!\[[^\]]*\]\([^)\s]+\)|<!--.*?-->", "", text, flags=re.S)
    return re.sub(r"\[([^\]]*)\]\((?!https?:)[^)\s]+\)", r"\1", text).strip()


def _cell(number: int, kind: str, source: str) -> dict[str, Any]:
    cell = {"id": f"cell-{number}", "cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def has_code(page: str) -> bool:
    """Return whether a page has Python code to run."""
    return any(fence["language"] == "python" and code_of(fence) is not None for fence in _FENCE.finditer(page))


def write_notebooks(docs: Path) -> None:
    """Write the notebooks of all pages into the folder of generated files."""
    for path in docs.rglob("*.md"):
        page = path.read_text(encoding="utf-8")
        if "generated" not in path.parts and has_code(page):
            target = docs / _FOLDER / path.relative_to(docs).with_suffix(".ipynb")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(notebook_of(page), indent=1, ensure_ascii=False), encoding="utf-8")


def linked(name: str, page: str) -> str:
    """Return a page with a link to its notebook below the title.

    Parameters
    ----------
    name : str
        As Sphinx names pages, such as ``tutorials/first-steps``.
    page : str
    """
    if not has_code(page):
        return page
    title, _, rest = page.partition("\n")
    return f"{title}\n\n{{download}}`Download as a notebook </{_FOLDER}/{name}.ipynb>`\n{rest}"
