"""What people meet first: the names of the package, and a catalog in a notebook."""

from __future__ import annotations

import base64
import html
import inspect
import io
import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

import intake_img
from intake_img import imload, imsave, open_catalog, open_table, scan, write_catalog
from intake_img.catalog import Entry, SafeCatalog
from intake_img.doors import registration
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


# what notebooks show


class _Page(HTMLParser):
    """The tags, texts and pictures of a page, which has to be well-formed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.pictures, self.text = [], set(), [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            source = dict(attrs)["src"]
            assert set(dict(attrs)) == {"alt", "width", "height", "src"}
            self.pictures.append(
                Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
            )
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


EVIL = "<img src=x onerror=alert(1)>\x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}"


@pytest.fixture
def evil(tmp_path):
    """Return an image whose names are an attack; each half is bright in another channel."""
    values = np.zeros((2, 40, 60), "u2")
    values[0, :, :30], values[1, :, 30:] = 900, 700
    array = xr.DataArray(values, dims=["c", "y", "x"], coords={"c": [EVIL, "b & c"]}, name="image")
    path = tmp_path / "a&<b>.zarr"
    imsave(array, path)
    return path


def _cards(path):
    ds = imload(path)
    write_catalog(scan(path.parent), path.parent / "c.yml")
    opened = open_catalog(path.parent / "c.yml")
    catalog = SafeCatalog({**opened.entries, EVIL: Entry(EVIL, "tif", EVIL)}, opened.file)
    yield "coloc", ds.img.coloc
    yield "source", intake_img.autodetect(path)
    yield "patches", ds.img.patches(8)
    yield "catalog", catalog
    row = {"uri": path.name, "driver": "omezarr", "description": EVIL}
    rows = pd.DataFrame([{"name": "<i>a", **row}, {"name": EVIL, **row}])
    rows.to_parquet(path.parent / "t.parquet")
    yield "table", open_table(path.parent / "t.parquet")


def test_a_row_of_a_catalog_opens_to_what_the_image_holds(evil):
    for _, shown in list(_cards(evil))[-2:]:
        page = _Page(shown._repr_html_())
        assert "cyx 2 × 40 × 60, uint16" in page.text
        name = next(iter(shown))
        assert f"[{name!r}]" in page.text


def test_cards_have_facts_and_a_picture_and_escape_all_names(evil):
    for name, shown in _cards(evil):
        page = _Page(shown._repr_html_())
        opened = {"details", "summary", "code"} if name in ("catalog", "table") else set()
        assert page.tags <= {"div", "table", "tbody", "tr", "th", "td", "p", "b", "img"} | opened, name
        assert opened <= page.tags, name
        assert "\x1b" not in page.text
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page.text
        assert "onerror" in page.text or name == "patches"
        (picture,) = page.pictures
        left, right = (
            np.asarray(picture)[:, k].reshape(-1, 3).max(axis=0) for k in (picture.width // 6, picture.width * 5 // 6)
        )
        assert left.any(), name
        assert right.any(), name
        assert (left != right).any(), name  # the channels in two colours


def test_a_card_reads_no_server_and_computes_nothing(evil, monkeypatch):
    ds = imload(evil)
    assert "<img" in ds.img.coloc._repr_html_()
    assert "<img" not in ds.img.gaussian_filter(1).img.coloc._repr_html_()
    assert "<img" not in ds.assign_attrs(uri="https://example.org/a.zarr").img.coloc._repr_html_()
    assert "<img" not in imload(evil, chunks=None).assign_attrs(uri="s3://b/a.zarr").img.patches(8)._repr_html_()
    remote = intake_img.autodetect(evil)
    monkeypatch.setattr(type(remote), "uri", "https://example.org/a.zarr", raising=False)
    remote.__dict__.pop("uri", None)
    monkeypatch.setattr(type(remote), "dataset", None)
    assert "https://example.org/a.zarr" in remote._repr_html_()


def test_the_card_of_a_source_that_cannot_be_opened_says_why(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0\x08\0\0\0")
    page = _Page(intake_img.autodetect(tmp_path / "broken.tif")._repr_html_())
    assert "FormatError" in page.text
    assert page.pictures == []
    assert intake_img.autodetect(tmp_path / "broken.tif")._ipython_display_ is None


def test_coloc_says_what_it_measures(evil):
    text = repr(imload(evil).img.coloc)
    assert "pairs        " in text
    assert "pooled over" in text
    assert "y, x" in text
    assert "measure" in text


# the header of a file in notebooks


@pytest.fixture
def shell():
    """Return IPython's shell, as a kernel has it."""
    interactive = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    yield interactive.instance()
    interactive.clear_instance()


def _with_header(length):
    text = json.dumps({"xml": "<a>" + "q" * length + "</a>"})
    image = xr.DataArray(np.zeros((3, 4), "u1"), dims=["y", "x"], attrs={"other": "q" * 2000, "fileheader": text})
    return image.drop_attrs().to_dataset(name="image").assign_attrs(image.attrs), text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_notebooks_show_the_length_of_a_long_header(shell):
    ds, text = _with_header(500_000)
    registration.register()
    for shown in (ds, ds["image"].assign_attrs(ds.attrs), xr.DataTree.from_dict({"/": ds, "/a": ds})):
        data, _ = shell.display_formatter.format(shown)
        page = data["text/html"]
        assert len(page) < 100_000
        assert "ds.img.header" in page
        assert "q" * 2000 in page  # other attributes are not cut
        assert f"{len(text):,} characters" in page
        assert len(data["text/plain"]) < 10_000
    assert ds.attrs["fileheader"] == text
    short, text = _with_header(20)
    assert html.escape(text) in shell.display_formatter.format(short)[0]["text/html"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_printers_of_others_are_kept_in_notebooks(shell):
    printers = shell.display_formatter.formatters["text/html"]
    printers.for_type(xr.Dataset, lambda _: "mine")
    registration.register()
    assert shell.display_formatter.format(_with_header(20)[0])[0]["text/html"] == "mine"
