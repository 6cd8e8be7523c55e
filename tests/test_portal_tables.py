"""Tables of images in the portal: listed from their columns alone, searched and counted as plain Python does."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from portal_server import Portal, serving

from intake_img import imload
from intake_img.catalog.columns import COLUMNS
from intake_img.portal import facets
from intake_img.portal.indexing import facts_of_row
from intake_img.portal.library import Library, LibraryItem, RowEntry
from intake_img.portal.search_index import Index, Query

pytestmark = pytest.mark.thorough

pytest.importorskip("uvicorn")
pa = pytest.importorskip("pyarrow")
KEEPS_FILES_OPEN = True  # a portal does, by design

COUNT = 700
STAINS, CHANNELS = ("actin", "tubulin", "nucleus"), ("DAPI", "GFP", "RFP", "Cy5")


def _rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for k in range(COUNT):
        chosen = sorted(rng.choice(CHANNELS, 2, replace=False).tolist())
        rows.append(
            {
                "name": f"exp{k // 100}/img_{k:04d}",
                "uri": "pixels.npy",
                "driver": "npy" if k % 3 else "tif",
                "description": f"{rng.choice(STAINS)} staining, day {k % 7}",
                "axes": "cyx",
                "shape": f"[2, {64 * (k % 5 + 1)}, 64]",
                "dtype": "uint16",
                "channels": json.dumps(chosen),
                "spacing_x": float(rng.choice([0.05, 0.15, 0.65])),
                "plate": f"P{k // 100}",
                "modified": f"202{k % 4}-05-01T00:00:00",
                "operator": "somebody",
            }
        )
    return rows


ROWS = _rows()


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a table with all columns that every table has, and a free one."""
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    fields = {**{name: kinds[kind] for name, kind in COLUMNS.items()}, "operator": pa.string()}
    full = [{**dict.fromkeys(fields), **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(full, pa.schema(list(fields.items()))), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    np.save(folder / "pixels.npy", np.arange(2 * 30 * 40, dtype="u2").reshape(2, 30, 40))
    _write(ROWS, folder / "screen.parquet")
    entry = {"driver": "image_table", "args": {"uri": "{{ CATALOG_DIR }}/screen.parquet"}}
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": {"all of it": entry}}))
    return folder


def _updated(index: Index, items: Iterable[LibraryItem]) -> list[str]:
    """Update the index to these entries; return the ids of new and changed ones."""
    return [name for some in index.listing(items, facts_of_row) for name in some]


@pytest.fixture(scope="module")
def index(folder: Path) -> Iterator[Index]:
    library = Library([folder / "screen.parquet"], folder / "made")
    index = Index(folder / "index.sqlite")
    assert len(_updated(index, library.items.values())) == COUNT
    assert index.undescribed() == []  # no file has to be opened
    assert _updated(index, library.items.values()) == []
    yield index
    index.close()


def _fits(row: dict[str, Any], asked: dict[str, str]) -> bool:
    words = (row["name"] + " " + row["description"]).replace("/", " ").replace("_", " ").replace(",", " ").split()
    tests = {
        "q": lambda v: all(any(w.lower().startswith(x.lower()) for w in words) for x in v.split()),
        "channel": lambda v: v in json.loads(row["channels"]),
        "format": lambda v: row["driver"] == v,
        "pixel": lambda v: {0.05: "below 0.1 µm", 0.15: "0.1 to 0.2 µm", 0.65: "0.5 to 1 µm"}[row["spacing_x"]] == v,
        "plate": lambda v: row["plate"] == v,
        "year": lambda v: row["modified"][:4] == v,
    }
    return all(tests[key](value) for key, value in asked.items())


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"q": "actin"},
        {"q": "Tubulin stain"},
        {"q": "img 069"},
        {"q": "nothing"},
        {"channel": "DAPI"},
        {"channel": "DAPI", "pixel": "0.1 to 0.2 µm", "q": "actin"},
        {"format": "tif", "plate": "P3", "year": "2021"},
    ],
)
def test_search_and_counts_are_those_of_plain_python(index: Index, asked: dict[str, str]) -> None:
    wanted = [r for r in ROWS if _fits(r, asked)]
    found = index.search(Query.parse({**asked, "limit": "500"}))
    assert found.total == len(wanted)
    assert [r["name"] for r in found.rows] == [r["name"] for r in wanted][:500]
    by_name = index.search(Query.parse({**asked, "sort": "name", "offset": "5", "limit": "7"}))
    assert [r["name"] for r in by_name.rows] == sorted(r["name"] for r in wanted)[5:12]
    counts = index.facets(Query.parse(asked))
    assert dict(counts["channel"]) == Counter(c for r in wanted for c in json.loads(r["channels"]))
    for facet, column in {"format": "driver", "plate": "plate"}.items():
        assert dict(counts[facet]) == Counter(r[column] for r in wanted)
    assert dict(counts["year"]) == Counter(r["modified"][:4] for r in wanted)
    seen = index.search(Query.parse({**asked, "limit": "500"}), ("exp1~2f*",))
    assert [r["name"] for r in seen.rows] == [r["name"] for r in wanted if r["name"].startswith("exp1/")]


def test_counts_follow_changes(tmp_path: Path, folder: Path) -> None:
    library = Library([folder / "screen.parquet"], tmp_path)
    items = list(library.items.values())
    for index in (Index(tmp_path / "index.sqlite"), Index(Path("/dev/null/none.sqlite"))):  # that one is in memory
        _updated(index, items[:10])
        assert sum(n for _, n in index.facets(Query())["plate"]) == 10
        index.describe(items[0].id, {"axes": "qyx", "channels": ["Cy9"]})
        assert ["Cy9", 1] in index.facets(Query())["channel"]
        assert index.search(Query.parse({"axes": "qyx"})).total == 1
        _updated(index, items[5:8])
        assert index.search(Query()).total == sum(n for _, n in index.facets(Query())["plate"]) == 3
        index.close()


def _listed(index: Index) -> list[tuple[str, str]]:
    return [(row["id"], row["description"]) for row in index.everything(Query())]


def test_a_list_in_steps_is_the_list(tmp_path: Path, folder: Path) -> None:
    items = list(Library([folder / "screen.parquet"], tmp_path / "made").items.values())[:60]
    changed = [
        LibraryItem(i.id, i.name, i.folder, RowEntry(i.entry.table, i.name, {**i.entry.cells, "description": "new"}))
        for i in items[:48:3]
    ]
    index = Index(tmp_path / "index.sqlite")
    steps = [len(some) for some in index.listing(items[:40], facts_of_row, step=15)]
    assert steps == [15, 15, 10]
    before, columns = _listed(index), index._columns.current()
    assert before == [(i.id, i.description) for i in items[:40]]
    wanted = [*items[50:], *changed, *items[1:30:3]]  # others, those that changed, and a part of the old, in this order
    listing = index.listing(wanted, facts_of_row, step=7)
    assert len(next(listing)) == 7
    assert {i for i, _ in before} < {i for i, _ in _listed(index)}  # the old ones are there until all is done
    assert sum(map(len, listing)) == 3 + len(changed)
    assert _listed(index) == [(i.id, i.description) for i in wanted]
    assert _updated(index, wanted) == []
    assert len(columns.ordered(columns.everything, "position, position")) == 40  # as it was when it was asked for
    index.close()


def test_a_table_is_served(folder: Path) -> None:
    """By itself and inside a catalog: pages, search, pixels, and the list as CSV; people are not told of."""
    with serving([folder / "screen.parquet", folder / "lab.yml"], folder) as portal:
        _check(portal, "screen", 2 * COUNT)
        _check(portal, "lab/all~20of~20it", 2 * COUNT)


def _check(portal: Portal, place: str, total: int) -> None:
    name = f"{place}/exp3~2fimg_0346"
    with imload(f"{portal.url}/data/{name}.zarr") as served:
        np.testing.assert_array_equal(served["image"].values.ravel(), np.arange(2400))
    assert portal.get("/api/entries").json["total"] == total
    [found] = portal.get(f"/api/entries?q=img+0346&folder={place.replace('~', '%7E')}").json["entries"]
    assert (found["id"], found["axes"], found["plate"]) == (name, "cyx", "P3")
    assert f"/e/{name}".replace("~", "%7E") in portal.get("/?q=img+0346").body.decode().replace("~", "%7E")
    lines = list(csv.DictReader(io.StringIO(portal.get("/catalog.csv?plate=P2").body.decode())))
    assert len(lines) == 200
    assert lines[0]["File Path"].endswith("/data/screen/exp2~2fimg_0200.zarr")
    assert portal.get("/api/entries?q=somebody").json["total"] == 0  # a column that names people


@pytest.mark.parametrize("row", [{"uri": "../secret.npy"}, {"uri": "/etc/hostname"}, {"options": '{"shell": "x"}'}])
def test_rows_that_leave_the_folder_are_refused(tmp_path: Path, row: dict[str, str]) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    np.save(tmp_path / "secret.npy", np.ones((4, 5)))
    _write([{**ROWS[1], **row}], inside / "one.parquet")
    with serving([inside / "one.parquet"], tmp_path) as portal:
        [name] = portal.library.items
        reply = portal.get(f"/data/{name}.zarr/zarr.json")
        assert (reply.status, reply.json["error"]) == (422, "unreadable")
        assert str(tmp_path) not in reply.body.decode()


def test_an_order_that_a_search_adds_does_not_stop_the_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the columns are read again, and the known orders with them, a search ends that asked for another order."""
    monkeypatch.setattr(facets, "_SMALL", 0)
    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        base.executescript("create table entries (key, a); create table channel (entry, name);")
        base.execute("insert into entries values (1, 'x')")
        columns = facets.FacetColumns(base, {"a": "a"})
        columns.refresh(["key"])
        held = columns.current()
        base.execute("insert into entries values (2, 'y')")
        base.set_trace_callback(lambda text: held.orders.update({"a": np.array([1])}) if "ORDER BY" in text else None)
        columns.refresh()
        base.set_trace_callback(None)
        assert columns.current().size == 3
