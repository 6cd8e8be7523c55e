"""What people meet first: the names of the package, and a catalog in a notebook."""

from __future__ import annotations

import inspect

import intake_img
from intake_img.catalog import Entry, SafeCatalog
from intake_img.storage.files import File


def test_dir_shows_exactly_what_is_public():
    names = dir(intake_img)
    assert names == sorted(set(names))
    assert {*intake_img.__all__, "create", "from_array", "from_list"} <= set(names)
    for name in names:
        found = getattr(intake_img, name)
        assert name in ("create", "__version__") or not inspect.ismodule(found), name
    assert not {"importlib", "accessor", "intake2", "io"} & set(names)


def test_a_catalog_is_a_table_in_notebooks():
    entries = {f"e{n}": Entry(f"e{n}", "tif", "<script>alert(1)</script>\x1b[2J") for n in range(50)}
    html = SafeCatalog(entries, File("/a.yml"), description="a <b>")._repr_html_()
    assert html.count("<tr>") == 40
    assert "50 entries" in html
    assert "and 10 more" in html
    assert "<script" not in html
    assert "\x1b" not in html
    assert "a &lt;b&gt;" in html
