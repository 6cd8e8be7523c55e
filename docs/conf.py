"""Sphinx's configuration: MyST Markdown, numpydoc docstrings, and the table of formats made from the drivers."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import notebooks  # noqa: E402

from intake_img import __version__  # noqa: E402
from intake_img.doors.cli import format_markdown, formats_markdown  # noqa: E402
from intake_img.formats.registry import formats  # noqa: E402

project = "intake_img"
author = "The intake_img developers"
copyright = "The intake_img developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "reference/generated"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_title = "intake_img"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

generated = HERE / "reference" / "generated"
generated.mkdir(exist_ok=True)
(generated / "formats.md").write_text(formats_markdown() + "\n", encoding="utf-8")
for name, fmt in formats().items():
    (generated / f"{name}.md").write_text(format_markdown(fmt) + "\n", encoding="utf-8")


def home_formats():
    """Return the formats that the home page lists, each with a link to its page."""
    own = sorted(formats().values(), key=lambda f: f.title.casefold())
    rows = {"Read and written": [f for f in own if f.writes], "Read": [f for f in own if not f.writes]}
    listed = {k: ", ".join(f"[{f.title}](reference/formats/{f.name}.md)" for f in row) for k, row in rows.items()}
    return "\n".join(["| | |", "| --- | --- |", *(f"| **{k}** | {v} |" for k, v in listed.items())])


(generated / "home.md").write_text(home_formats() + "\n", encoding="utf-8")
notebooks.write_notebooks(HERE)


def add_notebook(app, name, source):
    """Link a page's notebook."""
    source[0] = notebooks.linked(name, source[0])


def setup(app):
    """Register what this file adds to Sphinx."""
    app.connect("source-read", add_notebook)
