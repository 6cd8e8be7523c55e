"""Tables of images: searches against the same search by pyarrow and by sqlite3, each of a file that is opened anew."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from intake_img import open_table
from intake_img.catalog.backends import written
from intake_img.catalog.columns import COLUMNS, row_of
from intake_img.storage.files import File

pc = pytest.importorskip("pyarrow.compute")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("sqlalchemy")
ROWS = 100_000
SOUGHT: dict[str, Any] = {"channels": "DAPI", "spacing_x": "<0.5", "text": "mitosis"}


def rows() -> Iterator[dict[str, Any]]:
    notes = ["control", "treated, washed", "siRNA overnight"]
    for k in range(ROWS):
        plate, well, field = k // 3456, k // 9 % 384, k % 9
        place = f"{'ABCDEFGHIJKLMNOP'[well // 24]}{well % 24 + 1:02d}"
        facts = {
            "axes": "czyx",
            "shape": [3, 5 + k % 7, 1024, 1024],
            "dtype": "uint16",
            "spacing": {"x": 0.1 + k % 5 / 10},
            "units": {"x": "\u00b5m"},
            "channels": ["DAPI", "GFP", "RFP"] if k % 3 else ["Cy5", "RFP"],
        }
        entry = {
            "driver": "tif",
            "args": {"uri": f"plate_{plate:04d}/{place}/image_{place}_s{field}_{k:07d}.ome.tif"},
            "description": f"c 3 (DAPI, GFP, RFP), z {5 + k % 7}, x 1024 (every 0.{1 + k % 5} \u00b5m), uint16",
            "metadata": {"scanned": facts},
        }
        note = "mitosis" if k % 1000 == 7 else f"{notes[k % 3]}, batch {k % 997}"
        yield row_of(f"plate{plate:04d}_{place}_f{field}", entry, "/nowhere", {"note": note})


@pytest.fixture(scope="module", params=["parquet", "sqlite"])
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables") / f"a.{request.param}"
    written(rows(), {**COLUMNS, "note": str}, File.parse(path), "images", False)
    return path


def by_pyarrow(path: Path) -> int:
    found = pq.read_table(path, columns=["name", "channels", "spacing_x", "text"])
    mask = pc.and_(pc.match_substring(found["channels"], '"DAPI"'), pc.less(found["spacing_x"], 0.5))
    return len(found.filter(pc.and_(mask, pc.match_substring(found["text"], "mitosis"))))


def by_sqlite(path: Path) -> int:
    asked = "SELECT name FROM images WHERE channels LIKE '%\"DAPI\"%' AND spacing_x < 0.5 AND text LIKE '%mitosis%'"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return len(connection.execute(asked).fetchall())


def test_search_by_three_columns(table: Path, versus: Callable[..., float], benchmark: Any) -> None:
    benchmark.extra_info["gate"] = "1"
    raw = by_pyarrow if table.suffix == ".parquet" else by_sqlite
    assert len(open_table(table).search(**SOUGHT)) == raw(table) > 0
    assert versus(lambda: len(open_table(table).search(**SOUGHT)), lambda: raw(table), clock=time.process_time) <= 1


def test_an_image_by_its_name(table: Path, versus: Callable[..., float], benchmark: Any) -> None:
    """Against reading the row alone by pyarrow."""
    if table.suffix != ".parquet":
        pytest.skip("SQLite finds it in its index of names")
    benchmark.extra_info["gate"] = "1"
    name = "plate0007_C05_f3"
    assert (
        versus(
            lambda: open_table(table).images.row(name),
            lambda: pq.read_table(table, filters=[("name", "=", name)]).to_pylist(),
            clock=time.process_time,
        )
        <= 1
    )
