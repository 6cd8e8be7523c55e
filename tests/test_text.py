"""Nothing that a file says of itself reaches the terminal unescaped."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from intake_img import imload, imsave, open_catalog, scan, write_catalog
from intake_img.doors.cli import main
from intake_img.model.text import escaped, json_text, printable

pytestmark = pytest.mark.thorough

EVIL = [
    "a\x1b[2Jb",
    "a\x07",
    "a\x7f",
    "a\x9b31m",
    "a\u202egpj.exe",
    "a\u2066b\u2069",
    "a\nb",
    "a\rb",
    "a\u2028b",
    "a\x00b",
]


def harmless(text):
    return all(c.isprintable() or c == "\n" for c in text)


@given(st.text())
def test_escaped_texts_print_in_one_line(text):
    assert all(c.isprintable() or c == "\N{NO-BREAK SPACE}" for c in escaped(text))
    if text.isprintable():
        assert escaped(text) == text
    assert "\n" not in printable(text)
    assert len(printable(text, 10)) <= 10
    assert json.loads(json_text({"x": [text]})) == {"x": [text]}
    assert harmless(json_text({"x": [text]}))


def test_what_is_escaped_can_be_read():
    assert escaped("a\x1b[2J\n\u202eµ") == r"a\x1b[2J\n\u202eµ"
    assert printable(" a\n\t b\x07 ") == r"a b\x07"


def test_a_line_of_the_limit_is_complete():
    assert printable("0123456789", 10) == "0123456789"
    assert printable("0123456789a", 10) == "012345678…"
    assert printable("a" * 300) == "a" * 300
    assert printable("a" * 301) == "a" * 299 + "…"


@pytest.mark.parametrize("evil", EVIL)
def test_names_of_channels(evil, tmp_path, capsys):
    image = xr.DataArray(np.zeros((2, 4, 5), "u1"), dims=("c", "y", "x"), coords={"c": [evil, "b"]})
    imsave(image, tmp_path / "a.zarr")
    ds = imload(tmp_path / "a.zarr")
    assert ds.img.channels == [evil, "b"]
    assert harmless(repr(ds.img) + ds.img._repr_html_())
    patches = ds.rename(image=f"image {evil}").img.patches(2)
    assert harmless(repr(patches) + patches._repr_html_())
    found = scan(tmp_path)
    write_catalog(found, tmp_path / "c.yml")
    catalog = open_catalog(tmp_path / "c.yml")
    assert harmless(repr(found) + repr(catalog) + repr(catalog.entries["a"]) + repr(found["a"]) + repr(catalog.a))
    path = str(tmp_path / "a.zarr")
    for arguments in (
        ["info", path],
        ["info", path, "--json"],
        ["info", path, "--header"],
        ["scan", str(tmp_path)],
        ["list", str(tmp_path / "c.yml")],
        ["list", str(tmp_path / "c.yml"), "--json"],
        ["search", str(tmp_path / "c.yml"), "u1"],
        ["validate", str(tmp_path / "c.yml")],
    ):
        assert main(arguments) == 0
        assert harmless("".join(capsys.readouterr()))


@pytest.mark.parametrize("evil", EVIL)
def test_tables_of_colocalization(evil, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 99, (2, 9, 9), "u1")
    imsave(xr.DataArray(pixels, dims=("c", "y", "x"), coords={"c": [evil, "b"]}), tmp_path / "a.zarr")
    assert main(["coloc", str(tmp_path / "a.zarr"), "--thresholds", "none"]) == 0
    said = capsys.readouterr()
    assert escaped(evil) in said.out
    assert harmless(said.out + said.err)


@pytest.mark.parametrize("evil", [e for e in EVIL if "\0" not in e])
def test_names_of_files(evil, tmp_path, capsys):
    (tmp_path / f"{evil}.tif").write_bytes(b"II*\0 and nothing")
    (tmp_path / f"{evil}.nd2").write_bytes(b"")
    np.save(tmp_path / f"{evil}.npy", np.zeros((4, 5)))
    assert harmless(repr(scan(tmp_path)))
    for arguments in (
        ["info", str(tmp_path / f"{evil}.tif")],
        ["info", str(tmp_path / f"{evil}.none")],
        ["scan", str(tmp_path)],
        ["validate", str(tmp_path / "catalog.yml")],
        ["convert", str(tmp_path / f"{evil}.npy"), str(tmp_path / f"{evil}.zarr")],
    ):
        main(arguments)
        assert harmless("".join(capsys.readouterr()))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        (tmp_path / f"{evil}.png").write_bytes((tmp_path / f"{evil}.npy").read_bytes())
        assert main(["info", str(tmp_path / f"{evil}.png")]) == 0
    assert harmless("".join(capsys.readouterr()))
