"""Catalogs of the portal that are edited while it serves them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from portal_server import serving

from intake_img.errors import CatalogError
from intake_img.portal import library as library_module
from intake_img.portal import site
from intake_img.portal.library import Library

BROKEN = "sources: [\n"


def _catalog(path: Path, *names: str, **nested: str) -> str:
    sources = {n: {"driver": "npy", "args": {"uri": f"{{{{ CATALOG_DIR }}}}/{n}.npy"}} for n in names}
    sources |= {
        n: {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/" + target}} for n, target in nested.items()
    }
    for name in names:
        np.save(path.parent / f"{name}.npy", np.zeros((2, 3), "u1"))
    path.write_text(yaml.safe_dump({"sources": sources}))
    return path.read_text()


def test_a_mended_catalog_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "lab.yml"
    _catalog(path, "a", "b")
    library = Library([path], tmp_path / "work")
    path.write_text(BROKEN)
    assert library.refresh(0)
    assert set(library.items) == {"a", "b"}
    assert set(library.problems) == {"lab.yml"}
    assert not library.refresh(0)
    _catalog(path, "a", "c")
    assert library.refresh(0)
    assert set(library.items) == {"a", "c"}
    assert not library.problems


def test_a_mended_nested_catalog_is_read_again(tmp_path: Path) -> None:
    path, other, below = (tmp_path / f"{n}.yml" for n in ("lab", "other", "below"))
    good = _catalog(below, "c")
    _catalog(path, "a", below="below.yml")
    _catalog(other, "b")
    library = Library([path, other], tmp_path / "work")
    names = {"lab/a", "lab/below/c", "other/b"}
    assert set(library.items) == names
    below.write_text(BROKEN)
    assert library.refresh(0)
    assert set(library.items) == names
    assert set(library.problems) == {"lab.yml"}
    below.write_text(good)
    assert library.refresh(0)
    assert set(library.items) == names
    assert not library.problems


def test_a_process_that_is_replaced_waits_for_a_broken_catalog(tmp_path: Path) -> None:
    path, other = tmp_path / "lab.yml", tmp_path / "other.yml"
    _catalog(other, "b")
    path.write_text(BROKEN)
    with pytest.raises(CatalogError, match=r"lab\.yml"):
        Library([path, other], tmp_path / "work")
    library = Library([path, other], tmp_path / "work", patient=True)
    assert set(library.items) == {"other/b"}
    assert set(library.folders) == {"", "lab", "other"}
    assert set(library.problems) == {"lab.yml"}
    _catalog(path, "a")
    assert library.refresh(0)
    assert set(library.items) == {"lab/a", "other/b"}
    assert not library.problems


def test_a_change_during_the_reading_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lab.yml"
    _catalog(path, "a")
    library = Library([path], tmp_path / "work")
    _catalog(path, "a", "b")
    original = library_module.open_catalog

    def read(*arguments: Any, **options: Any) -> Any:
        catalog = original(*arguments, **options)
        _catalog(path, "a", "b", "c")
        return catalog

    with monkeypatch.context() as patch:
        patch.setattr(library_module, "open_catalog", read)
        assert library.refresh(0)
    assert set(library.items) == {"a", "b"}
    assert library.refresh(0)
    assert set(library.items) == {"a", "b", "c"}


def test_changes_are_noticed_whatever_is_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "_WATCH", 0.05)
    path = tmp_path / "lab.yml"
    _catalog(path, "a")
    with serving([path], tmp_path) as portal:
        assert portal.get("/api/entries/b").status == 404
        _catalog(path, "a", "b")
        portal.library._looked = 0.0
        end = time.monotonic() + 60
        while portal.get("/api/entries/b").status != 200 and time.monotonic() < end:
            time.sleep(0.05)
        assert portal.get("/api/entries/b").json["id"] == "b"
