"""Laws of searches in tables of images: they find what a loop over the rows finds, whoever wrote the table, and read
no more than is necessary."""

import contextlib
import datetime as dt
import decimal
import json
import operator
import pickle
import sqlite3
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import open_table, write_table
from intake_img.catalog import arrow_rows, sqlite_words, trigrams
from intake_img.catalog.backends import shown
from intake_img.catalog.trigrams import groups_with, packed, trigrams_in, unpacked
from intake_img.errors import CatalogError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

COMPARED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "!=": operator.ne}
LETTERS = st.text("aAbB1 \u00b5\u03bc\u00df\u0130\u212a\ufb03\U0001f600", max_size=7)


def entries(names, **more):
    return {n: {"driver": "npy", "args": {"uri": f"{n}.npy"}, **more} for n in names}


# trigrams


@given(st.lists(st.lists(LETTERS | st.none(), min_size=1, max_size=4), min_size=1, max_size=5), LETTERS)
@examples(150)
def test_row_groups_without_trigrams_of_a_word_do_not_hold_it(groups, said):
    stored = packed([{"a": trigrams_in(texts)} for texts in groups], [len(g) for g in groups])
    found = unpacked(stored, [len(g) for g in groups])["a"]
    for word in said.casefold().split():
        mask = groups_with(word, found)
        for texts, may in zip(groups, mask, strict=True):
            assert may or not any(word in text.casefold() for text in texts if text)
    none = groups_with("xyz", found)
    assert not none.any()


@pytest.mark.parametrize("change", ["sizes", "text", "empty", "list", "number", "cut", "bits"])
def test_damaged_trigrams_are_not_used(change):
    stored = packed([{"a": trigrams_in(["abcdef"])}, {"a": trigrams_in(["xyz"])}], [1, 1])
    document = json.loads(stored)
    if change in ("cut", "bits"):
        which = int(change == "bits")
        document["columns"]["a"][which] = trigrams._text(trigrams._bytes(document["columns"]["a"][which])[:-1])
    changed = {"sizes": stored.replace(b"[1, 1]", b"[2, 0]"), "text": b"{", "empty": b"{}", "list": b"[]"}
    changed |= {"number": json.dumps(document | {"columns": {"a": [1, 2]}}).encode()}
    assert unpacked(stored, [1, 1]) is not None
    assert unpacked(changed.get(change, json.dumps(document).encode()), [1, 1]) is None


def test_of_texts_only_those_that_may_hold_a_word_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_rows, "BATCH", 5)
    names = [f"image_{k:02d}" for k in range(40)]
    notes = {n: "mitosis" if k == 17 else f"control {k}" for k, n in enumerate(names)}
    write_table(entries(names), tmp_path / "a.parquet", columns={"note": notes})
    read, original = [], pq.ParquetFile.read_row_group

    def read_row_group(self, group, columns, *options):
        read.append((group, tuple(columns)))
        return original(self, group, columns, *options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    assert open_table(tmp_path / "a.parquet").search(text="MITOSIS").images.count() == 1
    assert read == [(1, ("note",))]
    read.clear()
    assert open_table(tmp_path / "a.parquet").search(text="nowhere").images.count() == 0
    assert read == []


@pytest.mark.parametrize("how", ["pyarrow", "pandas"])
def test_a_table_that_was_changed_and_written_again_is_searched_anew(how, tmp_path):
    """Trigrams of the old rows are not taken for those of the new ones."""
    path = tmp_path / "a.parquet"
    write_table(entries(["one", "two"]), path, columns={"note": {"one": "taxol", "two": "none"}})
    if how == "pandas":
        pd = pytest.importorskip("pandas")
        frame = pd.read_parquet(path)
        frame["text"] = ["Nocodazole", "nothing"]
        frame.to_parquet(path)
    else:
        table = pq.read_table(path)
        place = table.schema.names.index("text")
        pq.write_table(table.set_column(place, "text", pa.array(["Nocodazole", "nothing"])), path)
    table = open_table(path)
    assert list(table.search(text="nocodazole")) == ["one"]
    assert list(table.search(text="taxol")) == []


# names


@given(st.lists(st.text("ab\u00e4\U0001f600", max_size=3), min_size=1, max_size=30), st.data())
@examples(60)
def test_an_image_is_found_by_its_name(tmp_path_factory, names, data):
    """In sorted and unsorted names, of which some are the same: the first one."""
    path = tmp_path_factory.mktemp("names") / "a.parquet"
    names = sorted(names) if data.draw(st.booleans()) else names
    table = pa.table({"name": names, "uri": [f"{k}.npy" for k in range(len(names))], "driver": ["npy"] * len(names)})
    options = {"row_group_size": data.draw(st.integers(1, 8)), "write_statistics": data.draw(st.booleans())}
    pq.write_table(table, path, **options)
    for name in [*names, "none", ""]:
        row = open_table(path).images.row(name)
        assert (row is None) == (name not in names)
        assert row is None or row["uri"] == f"{names.index(name)}.npy"


def test_of_many_names_only_those_near_it_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_rows, "BATCH", 5)
    names = [f"image_{k:02d}" for k in range(40)]
    write_table(entries(names), tmp_path / "a.parquet")
    table = open_table(tmp_path / "a.parquet")
    assert table.entry("image_33").name == "image_33"
    assert not table.images.file.columns


# tables of others


def foreign(tmp_path, **columns):
    n = len(next(iter(columns.values())))
    known = {"name": [f"x{k}" for k in range(n)], "uri": ["a.npy"] * n, "driver": ["npy"] * n}
    pq.write_table(pa.table({**known, **columns}), tmp_path / "o.parquet")
    return open_table(tmp_path / "o.parquet")


@given(st.lists(LETTERS | st.none(), min_size=1, max_size=20), LETTERS, st.sampled_from(range(4)))
@examples(100)
def test_words_in_texts_that_others_wrote(tmp_path_factory, texts, words, kind):
    """In any case, of any letters, and of any type of texts."""
    types = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
    table = foreign(tmp_path_factory.mktemp("o"), text=pa.array(texts, pa.string()).cast(types[kind]))
    sought = words.casefold().split()
    expected = [f"x{k}" for k, t in enumerate(texts) if all(t is not None and w in t.casefold() for w in sought)]
    assert list(table.search(text=words)) == expected


@given(
    st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=20),
    st.sampled_from(list(COMPARED)),
    st.integers(-12, 12).map(lambda k: k / 2) | st.sampled_from([np.inf, -np.inf, 1e30, -1e30, 2.0**63, 300.0]),
    st.sampled_from([pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(5, 1)]),
)
@examples(150)
def test_numbers_that_others_wrote(tmp_path_factory, numbers, sign, value, type_):
    values = [None if n is None else decimal.Decimal(n) if pa.types.is_decimal(type_) else n for n in numbers]
    table = foreign(tmp_path_factory.mktemp("o"), dose=pa.array(values, type_))
    expected = [f"x{k}" for k, n in enumerate(numbers) if n is not None and COMPARED[sign](n, value)]
    assert list(table.search(dose=f"{sign}{value}")) == expected
    for one in (value, [value, 2], np.array([value, 2.0])):
        wanted = np.atleast_1d(np.asarray(one, float)).tolist()
        assert list(table.search(dose=one)) == [f"x{k}" for k, n in enumerate(numbers) if n in wanted]


def test_missing_numbers_of_pandas_are_not_unequal(tmp_path):
    table = foreign(tmp_path, spacing_x=pa.array([0.1, float("nan"), None]))
    assert list(table.search(spacing_x="!=0.5")) == ["x0"]


def test_lists_times_and_flags_that_others_wrote(tmp_path):
    times = [dt.datetime(2024, 5, 1, 12, 30), None, dt.datetime(2023, 1, 2)]
    table = foreign(
        tmp_path,
        channels=[["DAPI", "5 \u00b5m"], None, ["GFP"]],
        shape=[[2, 3], [4], None],
        modified=pa.array(times, pa.timestamp("us")),
        good=[True, False, None],
        other=pa.array([b"a", b"b", None]),
        nothing=pa.nulls(3),
    )
    assert list(table.search(channels="DAPI")) == ["x0"]
    assert list(table.search(channels=["5 \u00b5m", "DAPI"])) == ["x0"]
    assert list(table.search(shape=(2, 3))) == list(table.sel(shape="[2, 3]")) == ["x0"]
    assert list(table.search(shape=np.array([4]))) == ["x1"]
    assert list(table.search(modified=">2023-06")) == ["x0"]
    assert list(table.search(modified=times[2])) == ["x2"]
    assert list(table.search(good=True)) == ["x0"]
    assert list(table.search(good=0)) == ["x1"]
    assert list(table.search(other="b")) == ["x1"]
    assert list(table.search(nothing="x")) == []
    row = next(table.images.rows())
    assert row == table.images.row("x0")
    assert (row["channels"], row["modified"], row["good"]) == ('["DAPI", "5 \u00b5m"]', "2024-05-01T12:30:00", 1)
    pytest.importorskip("pystac")
    assert [item.datetime.replace(tzinfo=None) for item in table.search(good=1).to_stac()] == times[:1]


def test_names_that_are_no_texts(tmp_path):
    path = tmp_path / "o.parquet"
    pq.write_table(pa.table({"name": [7, None, 9], "uri": ["a.npy"] * 3, "driver": ["npy"] * 3}), path)
    np.save(tmp_path / "a.npy", np.zeros((3, 4), "u1"))
    table = open_table(path)
    assert list(table.search(name="9")) == ["9"]
    assert table["9"].to_dask().image.shape == (3, 4)
    for wrong in (9, None, "8"):
        with pytest.raises(KeyError, match="no image"):
            table[wrong]
    category = pa.array(["a", "b", "a"]).dictionary_encode()
    pq.write_table(pa.table({"name": category, "uri": ["a.npy", "b.npy", "c.npy"], "driver": ["npy"] * 3}), path)
    assert open_table(path).images.row("b")["uri"] == "b.npy"
    assert list(open_table(path).search(name="a")) == ["a", "a"]


def test_texts_that_are_not_utf_8_are_told(tmp_path):
    wrong = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 2], "i4")), pa.py_buffer(b"a\xff")]
    )
    pq.write_table(
        pa.table({"name": wrong, "uri": ["a.npy"] * 2, "driver": ["npy"] * 2, "text": wrong}), tmp_path / "o.parquet"
    )
    for ask in (list, lambda t: list(t.images.rows()), lambda t: t.images.first(2), lambda t: t.search(text="\u00e4")):
        with pytest.raises(CatalogError, match="damaged"):
            ask(open_table(tmp_path / "o.parquet"))


def test_columns_that_are_too_short_are_told(tmp_path, monkeypatch):
    """As if the pages of a column were damaged."""
    write_table(entries(["a", "b"]), tmp_path / "t.parquet")
    for name in ("read", "read_row_group"):
        whole = getattr(pq.ParquetFile, name)
        monkeypatch.setattr(pq.ParquetFile, name, lambda *args, whole=whole: whole(*args)[:1])
    for ask in (list, lambda t: list(t.images.rows()), lambda t: t.images.first(2), lambda t: t.search(text="npy")):
        with pytest.raises(CatalogError, match="1 of 2 rows; it is damaged"):
            ask(open_table(tmp_path / "t.parquet"))


# values of searches


@pytest.fixture(params=["parquet", "sqlite"])
def table(tmp_path, request):
    if request.param == "sqlite":
        pytest.importorskip("sqlalchemy")
    path = tmp_path / f"a.{request.param}"
    names = [f"x{k}" for k in range(6)]
    free = {"dose": dict(zip(names, [1, 2, None, 4, 5, 2**40], strict=True)), "drug": dict.fromkeys(names[:3], "Taxol")}
    return write_table(entries(names), path, columns=free)


def test_numbers_with_a_fraction_are_compared_with_integers(table):
    assert sorted(table.search(dose="<2.5")) == ["x0", "x1"]
    assert sorted(table.search(dose=">=4.5")) == ["x4", "x5"]
    assert sorted(table.search(dose=">1e6")) == ["x5"]
    assert sorted(table.search(dose=2.5)) == []
    assert sorted(table.search(dose=[2.5, 4.0])) == ["x3"]
    assert sorted(table.search(dose="!=2.5")) == ["x0", "x1", "x3", "x4", "x5"]
    assert (
        sorted(table.search(dose="<1e300"))
        == sorted(table.search(dose=f"<{10**25}"))
        == sorted(table.search(dose=">0"))
    )


CONDITIONS = {
    "dose": st.tuples(st.sampled_from(list(COMPARED)), st.integers(-3, 3) | st.sampled_from([0.5, -1.5])),
    "score": st.tuples(st.sampled_from(list(COMPARED)), st.sampled_from([-0.5, 0, 0.25, 1])),
    "note": st.tuples(st.sampled_from(list(COMPARED)), st.text("abB\u00b5", min_size=1, max_size=2)),
    "well": st.lists(st.sampled_from(["A1", "B2", "none"]), max_size=2),
    "channels": st.lists(st.sampled_from(["DAPI", "dapi", 'a"b', "\u00b5"]), max_size=2),
    "text": st.text("abB \u00b5\u00df", max_size=4),
}
CELLS = st.fixed_dictionaries(
    {
        "dose": st.none() | st.integers(-3, 3),
        "score": st.none() | st.sampled_from([-0.5, 0.0, 0.25, 1.0]),
        "note": st.none() | st.text("abB\u00b5\u00df", max_size=3),
        "well": st.none() | st.sampled_from(["A1", "B2"]),
        "channels": st.none() | st.lists(st.sampled_from(["DAPI", "DAP", 'a"b', "\u00b5"]), min_size=1, max_size=2),
    }
)


def fulfils(row, column, value):
    cell = row[column]
    if column == "text":
        return all(word in cell for word in value.casefold().split())
    if column == "channels":
        return not value or (cell is not None and set(value) <= set(json.loads(cell)))
    if column == "well":
        return cell in value
    sign, operand = value
    return cell is not None and COMPARED[sign](cell, operand)


@pytest.mark.parametrize("ending", ["parquet", "sqlite"])
@given(
    st.lists(CELLS, min_size=1, max_size=12),
    st.lists(st.sampled_from(list(CONDITIONS)), max_size=3, unique=True),
    st.data(),
)
@examples(40)
def test_several_conditions_find_what_a_loop_finds(ending, tmp_path_factory, cells, columns, data):
    if ending == "sqlite":
        pytest.importorskip("sqlalchemy")
    names = [f"x{k}" for k in range(len(cells))]
    scanned = {n: {"channels": c["channels"]} for n, c in zip(names, cells, strict=True)}
    sources = {n: {"driver": "npy", "args": {"uri": "a.npy"}, "metadata": {"scanned": scanned[n]}} for n in names}
    free = {c: {n: own[c] for n, own in zip(names, cells, strict=True)} for c in ("dose", "score", "note", "well")}
    table = write_table(sources, tmp_path_factory.mktemp("all") / f"a.{ending}", columns=free)
    assume(all(table.images.kinds[c] is not str for c in columns if c in ("dose", "score")))
    rows = list(table.images.rows())
    asked = {c: data.draw(CONDITIONS[c]) for c in columns}
    said = {c: f"{v[0]}{v[1]}" if isinstance(v, tuple) else v for c, v in asked.items()}
    expected = [r["name"] for r in rows if all(fulfils(r, c, v) for c, v in asked.items())]
    assert list(table.search(**said)) == expected
    one_by_one = table
    for column, value in said.items():
        one_by_one = one_by_one.search(**{column: value})
    assert list(one_by_one) == expected


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"dose": None}, "expected a number"),
        ({"dose": "<"}, "expected a number"),
        ({"dose": "nan"}, "expected a number"),
        ({"dose": [1, "many"]}, "expected a number"),
        ({"drug": None}, "expected a value"),
        ({"drug": ["Taxol", None]}, "expected a value"),
        ({"text": None}, "expected a value"),
        ({"channels": None}, "expected a value"),
        ({"shape": object()}, "expected JSON"),
        ({"nothing": 1}, "no column 'nothing'"),
    ],
)
def test_values_that_are_none(table, wrong, words):
    with pytest.raises(CatalogError, match=words):
        table.search(**wrong)


def test_lists_of_values_of_any_type(table):
    pd = pytest.importorskip("pandas")
    for values in (["x1", "x2"], ("x1", "x2"), {"x1", "x2"}, np.array(["x1", "x2"]), pd.Series(["x1", "x2"])):
        assert sorted(table.search(name=values)) == sorted(table.sel(name=values)) == ["x1", "x2"]
    assert sorted(table.search(text=["x1", "npy"])) == ["x1"]
    assert sorted(table.search(text="")) == sorted(table.search(channels=[])) == sorted(table)
    assert sorted(table.search(name=[])) == []


def test_results_of_searches_are_kept_by_conditions(table):
    found = table.search(drug="Taxol").search(dose=">1")
    assert list(found) == ["x1"]
    assert list(pickle.loads(pickle.dumps(found))) == ["x1"]
    found.close()
    assert list(found) == ["x1"]
    assert len(table) == 6
    assert found == table.search(drug="Taxol", dose=">1") != table
    assert found != table.search(dose=">1")
    assert hash(found) == hash(table.search(drug="Taxol", dose=">1"))
    assert "image_table" in table.yaml()
    with pytest.raises(CatalogError, match="a complete table"):
        found.yaml()


def test_columns_of_numbers_of_which_none_is_known(table):
    frame = table.to_dataframe()
    assert not (frame.spacing_x < 0.5).any()
    assert not (table.search(name="x2").to_dataframe().dose > 0).any()
    assert not (table.search(name="none").to_dataframe().spacing_x < 1).any()


def test_the_values_of_a_column_are_numbers_along_the_images(tmp_path):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.zeros((3, 4), "u1"))
    table = write_table(entries("ab"), tmp_path / "t.parquet", columns={"dose": {"a": 3}})
    dose = table.to_dataset("dose").i
    assert dose.dtype == float
    assert np.array_equal(dose.values, [3, np.nan], equal_nan=True)


def test_columns_of_numbers_that_hold_texts_are_not_compared(tmp_path):
    """'10.0' is before '9' in texts."""
    table = foreign(tmp_path, spacing_x=["10.0", "9"], size=pa.nulls(2))
    with pytest.raises(CatalogError, match="'spacing_x' of the table has texts"):
        table.search(spacing_x="<0.5")
    assert list(table.search(size=">0")) == []


# SQLite

TEXTS = st.lists(LETTERS | st.just("a\0b"), min_size=1, max_size=8)


def others(path, statements):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(*statement)


INSERT = "INSERT {}INTO images(name, uri, driver, text) VALUES (?, 'a.npy', 'npy', ?)"
EDITS = {
    "nothing": lambda text: [],
    "insert": lambda text: [(INSERT.format(""), ("new", text))],
    "replace": lambda text: [(INSERT.format("OR REPLACE "), ("x0", text))],
    "replace and insert": lambda text: [
        (INSERT.format("OR REPLACE "), ("x0", text)),
        (INSERT.format(""), ("new", text + "b")),
    ],
    "update": lambda text: [("UPDATE images SET text = ? WHERE name = 'x0'", (text,))],
    "delete": lambda text: [("DELETE FROM images WHERE name = 'x0'",)],
    "delete and insert": lambda text: [("DELETE FROM images",), (INSERT.format(""), ("new", text))],
    "renumber": lambda text: [("UPDATE images SET _row = _row + 100",)],
    "drop": lambda text: [
        ("DROP TABLE images",),
        ("CREATE TABLE images(_row INTEGER PRIMARY KEY, name, uri, driver, text)",),
        (INSERT.format(""), ("new", text)),
    ],
    "rename": lambda text: [
        ("ALTER TABLE images RENAME TO old",),
        ("CREATE TABLE images AS SELECT * FROM old",),
        ("UPDATE images SET text = ?", (text,)),
    ],
    "no index": lambda text: [("DROP TABLE IF EXISTS images_trigrams",)],
    "another index": lambda text: [
        ("DROP TABLE IF EXISTS images_trigrams",),
        ("CREATE TABLE images_trigrams(text)",),
    ],
    "no triggers": lambda text: [
        ("DROP TRIGGER IF EXISTS images_trigrams_insert",),
        (INSERT.format(""), ("new", text)),
    ],
}


@given(TEXTS, LETTERS, st.data(), st.sampled_from(list(EDITS)))
@examples(25)
def test_words_in_a_database_that_others_changed(tmp_path_factory, texts, added, data, edit):
    pytest.importorskip("sqlalchemy")
    path = tmp_path_factory.mktemp("sql") / "a.sqlite"
    names = [f"x{k}" for k in range(len(texts))]
    write_table(entries(names), path, columns={"note": dict(zip(names, texts, strict=True))})
    others(path, EDITS[edit](added))
    others(path, [("VACUUM",)] if data.draw(st.booleans()) else [])
    words = data.draw(st.sampled_from([*texts, added]).flatmap(lambda t: st.sampled_from([t, t[1:], t[:3]])) | LETTERS)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, text FROM images").fetchall()
    expected = [n for n, t in rows if all(t is not None and w in t.casefold() for w in words.casefold().split())]
    assert sorted(open_table(path).search(text=words)) == sorted(expected)


def test_words_of_a_database_are_found_by_its_index(tmp_path):
    pytest.importorskip("sqlalchemy")
    path = tmp_path / "a.sqlite"
    write_table(entries(["a", "b"]), path, columns={"note": {"a": "mitosis"}})
    assert list(open_table(path).search(text="mitosis")) == ["a"]
    others(path, [("INSERT INTO images_trigrams(images_trigrams) VALUES ('delete-all')",)])
    assert list(open_table(path).search(text="mitosis")) == []
    others(path, [("UPDATE images SET text = text",)])
    assert list(open_table(path).search(text="mitosis")) == ["a"]


def test_a_database_without_an_index_of_words(tmp_path, monkeypatch):
    """SQLite was built without FTS5, or the name of the table is a strange one."""
    pytest.importorskip("sqlalchemy")
    write_table(entries(["a", "b"]), tmp_path / "b.sqlite", table="my 'images'")
    assert list(open_table(tmp_path / "b.sqlite", table="my 'images'").search(text="A.NPY")) == ["a"]
    monkeypatch.setattr(sqlite_words, "_can", lambda connection: False)
    write_table(entries(["a", "b"]), tmp_path / "a.sqlite")
    assert list(open_table(tmp_path / "a.sqlite").search(text="A.NPY")) == ["a"]
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%trigrams%'").fetchall() == []


def test_a_table_of_a_database_is_replaced_with_its_index(tmp_path):
    pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path}/a.sqlite3"
    others(tmp_path / "a.sqlite3", [("CREATE TABLE mine(a)",)])
    for name in ("first", "second"):
        write_table(entries([name]), url, overwrite=name == "second")
        assert list(open_table(url).search(text=name)) == [name]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_table(entries(["third"]), url)
    assert list(open_table(url)) == ["second"]
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite3")) as connection:
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (0,)


def test_rows_of_a_database_keep_their_order(tmp_path):
    pytest.importorskip("sqlalchemy")
    write_table(entries(["b", "c", "a"]), tmp_path / "a.sqlite")
    table = open_table(tmp_path / "a.sqlite")
    assert list(table) == [r["name"] for r in table.images.rows()] == ["b", "c", "a"]
    assert list(table.search(text="npy")) == ["b", "c", "a"]
    assert [r["name"] for r in table.images.first(2)] == ["b", "c"]
    assert "_row" not in table.to_dataframe()


def test_types_of_other_databases(tmp_path):
    pytest.importorskip("sqlalchemy")
    path = tmp_path / "o.sqlite"
    create = (
        "CREATE TABLE images(name TEXT, uri TEXT, driver VARCHAR(20), text TEXT, modified DATETIME, good BOOLEAN, "
        "channels JSON, dose DECIMAL(5, 2), free, spacing_x TEXT)"
    )
    insert = "INSERT INTO images VALUES (?, 'a.npy', 'npy', ?, ?, ?, ?, ?, ?, '0.5')"
    first = ("a", "Stra\u00dfe \u00c4R", "2024-05-01 12:00:00.000000", True, '["DAPI"]', 0.5, "x")
    second = ("b", None, "long ago", False, "none", None, 3)
    others(path, [(create,), (insert, first), (insert, second)])
    table = open_table(path)
    assert list(table.search(text="STRASSE \u00e4r")) == ["a"]
    assert list(table.search(modified=">2024-05")) == ["a", "b"]
    assert list(table.search(good=True)) == ["a"]
    assert list(table.search(channels="DAPI")) == ["a"]
    assert list(table.search(channels="dapi")) == []
    assert list(table.search(dose="<1")) == ["a"]
    assert list(table.search(free="x")) == ["a"]
    with pytest.raises(CatalogError, match="has texts"):
        table.search(spacing_x="<1")
    assert [row["modified"] for row in table.images.rows()] == ["2024-05-01 12:00:00.000000", "long ago"]


def test_locked_and_damaged_databases_are_told(tmp_path, monkeypatch):
    sa = pytest.importorskip("sqlalchemy")
    path = tmp_path / "a.sqlite"
    write_table(entries([f"x{k}" for k in range(500)]), path)
    table = open_table(path)
    assert len(table) == 500
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        create = sa.create_engine
        monkeypatch.setattr(sa, "create_engine", lambda url: create(url, connect_args={"timeout": 0}))
        for ask in (len, list, lambda t: list(t.search(text="x3")), lambda t: t["x3"], lambda t: len(open_table(path))):
            with pytest.raises(CatalogError, match="locked"):
                ask(table)
        connection.rollback()
    assert len(table) == 500
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    for ask in (list, lambda t: list(t.search(text="x3")), lambda t: t["x3"]):
        with pytest.raises(CatalogError, match="cannot be used as a database"):
            ask(table)


def test_texts_of_databases_that_are_not_utf_8_are_told(tmp_path):
    pytest.importorskip("sqlalchemy")
    create = "CREATE TABLE images(name TEXT, uri TEXT, driver TEXT, text TEXT)"
    insert = "INSERT INTO images VALUES (CAST(x'61ff' AS TEXT), 'a.npy', 'npy', CAST(x'61ff' AS TEXT))"
    others(tmp_path / "a.sqlite", [(create,), (insert,)])
    for ask in (list, lambda t: list(t.images.rows()), lambda t: len(t.search(text="a"))):
        with pytest.raises(CatalogError, match="cannot be used as a database"):
            ask(open_table(tmp_path / "a.sqlite"))


@pytest.mark.parametrize("url", ["oracle+nothing://me:secret@host/a", "postgresql+nosuch://me:secret@host/a"])
def test_databases_that_cannot_be_opened_are_told_without_passwords(url):
    pytest.importorskip("sqlalchemy")
    for ask in (lambda: len(open_table(url)), lambda: write_table({}, url)):
        with pytest.raises(CatalogError, match="cannot be opened") as error:
            ask()
        assert "secret" not in str(error.value)


def test_reading_makes_no_database(tmp_path, monkeypatch):
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///none.sqlite", f"sqlite+pysqlite:///{tmp_path}/none.sqlite"):
        with pytest.raises(FileNotFoundError, match="no table"):
            len(open_table(url))
    assert not list(tmp_path.iterdir())
    write_table(entries(["a"]), "sqlite:///some.sqlite")
    assert list(open_table("sqlite:///some.sqlite")) == ["a"]
    for ask in (lambda: len(open_table("memory://a.sqlite")), lambda: write_table({}, "memory://a.sqlite")):
        with pytest.raises(CatalogError, match="on this machine only"):
            ask()


def test_passwords_of_databases_are_not_shown():
    table = open_table("postgresql://me:secret:word@host/a")
    assert shown(table.file) == "postgresql://me:***@host/a"
    assert shown(open_table("postgresql://me@host/a").file) == "postgresql://me@host/a"


def test_a_table_of_a_database_is_replaced_in_one_step(tmp_path):
    """Readers have the old rows or the new ones; a second writer waits."""
    sa = pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path}/a.sqlite3"
    write_table(entries(["old"]), url)
    seen, execute = [], sa.engine.Connection.execute

    def looking(self, statement, *args, **options):
        if "INSERT" in str(statement):
            with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite3", timeout=0)) as other:
                seen.append(other.execute("SELECT name FROM images").fetchall())
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("DELETE FROM images")
        return execute(self, statement, *args, **options)

    with mock.patch.object(sa.engine.Connection, "execute", looking):
        write_table(entries(["new"]), url, overwrite=True)
    assert seen == [[("old",)]]
    assert list(open_table(url)) == ["new"]


# free columns


@pytest.mark.parametrize("ending", ["parquet", "sqlite"])
def test_free_values_of_any_type(ending, tmp_path):
    """Numbers of numpy are numbers: their bytes were stored as texts."""
    pd = pytest.importorskip("pandas")
    if ending == "sqlite":
        pytest.importorskip("sqlalchemy")
    when = dt.datetime(2024, 5, 1, 12)
    columns = {
        "a": {"x": np.float32(0.5), "y": np.float64("nan")},
        "b": {"x": np.int64(3), "y": np.bool_(True)},
        "c": {"x": np.str_("z"), "y": None},
        "d": pd.Series({"x": 1.5, "y": 2}),
        "e": {"x": when, "y": pd.NaT},
        "f": {"x": [1, "two"]},
        "g": {"x": 2, "y": "two"},
        "h": {"x": 1, "y": 2.5},
        "well": {"x": 7},
    }
    table = write_table(entries(["x", "y"]), tmp_path / f"t.{ending}", columns=columns)
    x, y = table.images.rows()
    assert {c: (x[c], y[c]) for c in columns if c != "well"} == {
        "a": (0.5, None),
        "b": (3, 1),
        "c": ("z", None),
        "d": (1.5, 2.0),
        "e": ("2024-05-01T12:00:00", None),
        "f": ('[1, "two"]', None),
        "g": ("2", "two"),
        "h": (1.0, 2.5),
    }
    assert x["well"] == "7"
    assert list(table.search(a="<1", b=3, h="<2", well=7, text="2024-05-01 two")) == ["x"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"uri": {}}, "every table"),
        ({"Name": {"x": 1}}, "every table"),
        ({"_row": {"x": 1}}, "every table"),
        ({"a": {"x": 1}, "A": {"x": 1}}, "'A' is a column"),
        ({"a": {"typo": 1}}, "no value for any image; its first key is 'typo'"),
        ({"a": {"x": 2**63}}, "more than 64 bits"),
    ],
)
def test_free_columns_that_are_refused(columns, words, tmp_path):
    for ending in ("parquet", "sqlite"):
        with pytest.raises(ValueError, match=words):
            write_table(entries(["x"]), tmp_path / f"t.{ending}", columns=columns)
    assert not list(tmp_path.iterdir())


def test_names_of_files_that_are_no_tables(tmp_path):
    for name in ("a.csv", "a"):
        with pytest.raises(ValueError, match=r"ends in \.parquet or \.sqlite"):
            write_table(entries(["x"]), tmp_path / name)


@pytest.mark.parametrize(
    "change", [{"options": "[]"}, {"options": "5"}, {"options": '{"metadata": 5}'}, {"name": None}, {"scene": "{"}]
)
def test_cells_that_cannot_be_understood(change, tmp_path):
    cells = {"name": "x", "uri": "a.npy", "driver": "npy", "options": None, "scene": None} | change
    types = dict.fromkeys(cells, pa.string())
    pq.write_table(pa.Table.from_pylist([cells], pa.schema(list(types.items()))), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    for ask in (table.to_datatree, lambda: table.to_dataset("name"), table.to_stac):
        with pytest.raises(CatalogError, match=r"cannot be understood|has no name"):
            ask()
    assert len(list(table.unreadable())) == len(list(table.problems())) == 1
    assert "1 images" in repr(table)
