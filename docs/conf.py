"""Sphinx's configuration: MyST Markdown, numpydoc docstrings, and the table of formats made from the drivers."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

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

generated = HERE / "reference" / "generated"
generated.mkdir(exist_ok=True)
(generated / "formats.md").write_text(formats_markdown() + "\n", encoding="utf-8")
for name, fmt in formats().items():
    (generated / f"{name}.md").write_text(format_markdown(fmt) + "\n", encoding="utf-8")
