"""Laws of tables of images: they hold what a catalog holds, find what pandas finds, open no more than a catalog."""

import json
import pickle
import re
import sys
from unittest import mock

import intake
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import imsave, open_catalog, open_table, scan, write_catalog, write_table
from intake_img.catalog import ImageTable, arrow_rows, rare_words, validate, word_search
from intake_img.catalog.rare_words import containing, containing_in_any_case
from intake_img.errors import CatalogError


@pytest.fixture
def plate(tmp_path):
    import tifffile

    for k, well in enumerate(["A01", "A02", "B01", "B02"]):
        folder = tmp_path / "plate_7" / well
        folder.mkdir(parents=True)
        data = np.full((2, 6, 5), k, "uint16")
        tifffile.imwrite(
            folder / f"{well}_x.ome.tif",
            data,
            metadata={
                "axes": "CYX",
                "Channel": {"Name": ["DAPI" if k % 2 else "GFP", "RFP"]},
                "PhysicalSizeX": 0.1 + k % 2 / 5,
                "PhysicalSizeY": 0.5,
            },
        )
    np.save(tmp_path / "loose.npy", np.zeros((4, 5), "uint8"))
    return tmp_path


@pytest.fixture(params=["images.parquet", "images.sqlite", "sqlite"])
def table(plate, request):
    path = f"sqlite:///{plate}/url.sqlite3" if request.param == "sqlite" else plate / request.param
    found = scan(plate)
    write_table(
        found,
        path,
        columns={"drug": dict.fromkeys(found, "Taxol mitosis"), "dose": {n: k for k, n in enumerate(found)}},
    )
    return open_table(path, roots=[plate])


def test_a_table_holds_what_a_scan_found(table, plate):
    if not str(table.uri).startswith("sqlite"):  # relative paths have a folder
        found = scan(plate)
        assert sorted(table) == sorted(found)
        for name in found:
            assert table[name].to_dask().identical(found[name].to_dask()) or np.array_equal(
                table[name].read()["image"], found[name].read()["image"]
            )
    assert len(table) == 5
    assert "loose" in table
    assert "nothing" not in table
    with pytest.raises(KeyError, match="did you mean"):
        table["loose1"]


def test_a_search_finds_what_pandas_finds(table):
    df = table.to_dataframe()
    assert set(df.well.dropna()) == {"A01", "A02", "B01", "B02"}
    assert set(df.plate.dropna()) == {"7"}
    for found, mask in (
        (table.search(channels="DAPI"), df.channels.fillna("").str.contains('"DAPI"')),
        (table.search(channels="DAP"), df.name == ""),
        (
            table.search(channels=["DAPI", "RFP"], spacing_x="<0.5"),
            df.channels.fillna("").str.contains("DAPI") & (df.spacing_x < 0.5),
        ),
        (
            table.search(spacing_x=">=0.3", text="MITOSIS a0"),
            (df.spacing_x >= 0.3) & df.text.str.contains("mitosis") & df.text.str.contains("a0"),
        ),
        (table.search(well=["A01", "B02"]), df.well.isin(["A01", "B02"])),
        (table.search(well="!=A01"), df.well.notna() & (df.well != "A01")),
        (table.search(dose=">2").search(dose="<4"), df.dose == 3),
        (table.search(dtype="uint8"), df.dtype == "uint8"),
        (table.search(shape=[2, 6, 5]), df["shape"] == "[2, 6, 5]"),
        (table.sel(well="A01"), df.well == "A01"),
    ):
        assert sorted(found) == sorted(df.name[mask])
        assert sorted(pickle.loads(pickle.dumps(found))) == sorted(found)
    for wrong, words in (({"well2": 1}, "no column 'well2'"), ({"spacing_x": "small"}, "a number")):
        with pytest.raises(CatalogError, match=words):
            table.search(**wrong)
    with pytest.raises(KeyError, match="no image"):
        table.sel(well="H12")


def test_images_go_together(plate):
    table = write_table(scan(plate), plate / "t.parquet")
    ds = table.search(plate="7", channels="DAPI").to_dataset(along="well")
    assert ds.image.dims[0] == "i"
    for well in ds.i.values:
        (name,) = table.sel(well=str(well))
        assert np.array_equal(ds.image.sel(i=well).values, table[name].read()["image"])
    assert ds.sizes == {"i": 2, "c": 2, "y": 6, "x": 5}
    assert table.search(channels="DAPI").to_dataset(along="c").sizes["c"] == 4
    tree = table.to_datatree()
    assert "/7/A01" in tree.groups
    with pytest.raises(CatalogError):
        table.to_dataset(along="well")


AXES = {"z": 3, "y": 4, "x": 5}


def made(axes="zyx", value=1, dtype="u2", spacing=None, units="µm", channels=None, start=0.0, **more):
    sizes = {a: {**AXES, "t": 3, "c": 3}[a] for a in axes} | more
    ds = xr.Dataset({"image": (list(axes), np.full(list(sizes.values()), value, dtype))})
    for a, step in (spacing or {}).items():
        where = start + np.arange(sizes[a]) * step
        ds = ds.assign_coords({a: (a, where, {"units": units, "spacing": step})})
    return ds if channels is None else ds.assign_coords(c=channels)


EVEN = {"z": 2.0, "y": 0.5, "x": 0.5}
DIFFERENT = {
    "units of": (made(spacing=EVEN), made(spacing=EVEN, units="nm")),
    "coordinates": (made(spacing=EVEN), made()),
    "spacing of x": (made(spacing=EVEN), made(spacing={**EVEN, "x": 0.25})),
    "spacing of z": (made(spacing=EVEN, z=1), made(spacing={**EVEN, "z": 1.0}, z=1)),
    "values of x": (made(spacing={"x": 1.0}), made(spacing={"x": 1.0}, start=7.0)),
    "values of c": (made("cyx", channels=["a", "b", "c"]), made("cyx", channels=["a", "b", "d"])),
    "variables": (made().assign(labels=made(value=2).image.assign_attrs(kind="labels")), made()),
    "dtype": (made(), made(dtype="u1")),
    "axes and lengths": (made(), made("tyx")),
    "lengths": (made(), made(x=6)),
}


def table_of(folder, **images):
    folder.mkdir()
    for name, ds in images.items():
        imsave(ds, folder / f"{name}.zarr")
    return write_table(scan(folder), folder / "t.parquet")


@pytest.mark.parametrize("what", DIFFERENT)
@pytest.mark.parametrize("order", [1, -1])
def test_images_that_differ_are_refused(what, order, tmp_path):
    """xarray would broadcast, fill with NaN, or take the units of the first."""
    first, second = DIFFERENT[what][::order]
    table = table_of(tmp_path / "d", a=first, b=second)
    with pytest.raises(CatalogError, match=f"'b' has .*{what}.*'a' has"):
        table.to_dataset(along="name")


def test_images_of_several_formats_go_together(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    for k, name in enumerate(["a.nii.gz", "b.ome.tif", "c.nrrd", "d.zarr", "e.h5", "f.mha"]):
        imsave(made(value=k, spacing=EVEN), folder / name)
    imsave(made(value=6, spacing=EVEN), folder / "g.tif", partition="yx")
    ds = write_table(scan(folder), folder / "t.parquet").to_dataset(along="name")
    assert ds.img.spacing == EVEN
    assert ds.img.units == dict.fromkeys("zyx", "µm")
    assert {str(n): int(v) for n, v in zip(ds.i.values, ds.image.isel(x=0, y=0, z=2).values, strict=True)} == {
        n: k for k, n in enumerate("abcdefg")
    }


@pytest.mark.parametrize(("start", "spacing"), [(6.0, 2.0), (7.0, None)])
def test_positions_along_an_axis_go_on(start, spacing, tmp_path):
    pair = (
        made(spacing=EVEN),
        made(spacing={"z": 2.0}, start=start).assign_coords(made(spacing=EVEN).coords.drop_vars("z")),
    )
    ds = table_of(tmp_path / "d", a=pair[0], b=pair[1]).to_dataset(along="z")
    assert ds.z.values.tolist() == [0, 2, 4, start, start + 2, start + 4]
    assert ds.z.attrs.get("spacing") == spacing
    assert ds.z.attrs["units"] == "µm"


def test_positions_that_begin_anew_are_dropped(tmp_path):
    table = table_of(tmp_path / "d", a=made(spacing=EVEN), b=made(value=2, spacing=EVEN))
    with pytest.warns(UserWarning, match="start again"):
        ds = table.to_dataset(along="z")
    assert "z" not in ds.coords
    assert ds.image.isel(x=0, y=0).values.tolist() == [1, 1, 1, 2, 2, 2]


def test_a_missing_member_is_said_not_filled(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    imsave(made(), folder / "g.tif", partition="yx")
    table = write_table(scan(folder), folder / "t.parquet")
    (folder / "g.z_1.tif").unlink()
    for put_together in (lambda: table.to_dataset(along="name"), table.to_datatree):
        with pytest.raises(FileNotFoundError, match="1 of 3 files"):
            put_together()


def test_two_images_are_not_one_node(tmp_path):
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.zeros((4, 5), "u1"))
    sources = {"p/q": {"driver": "npy", "args": {"uri": "{{ CATALOG_DIR }}/a.npy"}}}
    sources["p_q"] = {"driver": "npy", "args": {"uri": "{{ CATALOG_DIR }}/b.npy"}}
    table = write_table(sources, tmp_path / "t.parquet")
    with pytest.raises(CatalogError, match="same node"):
        table.to_datatree()


def test_a_table_in_catalogs(plate):
    write_table(scan(plate), plate / "t.parquet")
    entry = {"driver": "image_table", "args": {"uri": "{{ CATALOG_DIR }}/t.parquet"}}
    write_catalog({"images": entry}, plate / "c.yml")
    write_catalog({"lab": {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/c.yml"}}}, plate / "top.yml")
    assert validate(plate / "top.yml", open_images=True) == []
    for cat in (open_catalog(plate / "top.yml").lab, intake.open_catalog(str(plate / "c.yml"))):
        images = cat.images
        assert len(images.search(channels="DAPI")) == 2
        assert images["loose"].to_dask().sizes == {"y": 4, "x": 5}
        assert len(images.read()) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"uri": "/etc/hostname", "driver": "binary"},
        {"uri": "../x.npy"},
        {"uri": "http://example.org/a.npy"},
        {"driver": "yaml_file_cat"},
        {"driver": "os.system"},
        {"options": '{"storage_options": {"key": 1}}'},
        {"options": "{"},
        {"options": '{"nothing": 1}'},
        {"driver": "image_table", "uri": "t.parquet"},
        {"uri": "{{ CATALOG_DIR }}/../x.npy"},
        {"uri": "simplecache::http://example.org/a.npy"},
        {"uri": "~/x.npy"},
    ],
)
def test_untrusted_rows(plate, change):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_table(scan(plate), plate / "t.parquet")
    rows = pq.read_table(plate / "t.parquet").to_pylist()
    rows[0] |= {"name": "evil", **change}
    pq.write_table(pa.Table.from_pylist(rows), plate / "t.parquet")
    table = open_table(plate / "t.parquet")
    with pytest.raises((CatalogError, FileNotFoundError)):
        table["evil"].read()
    assert table["loose" if "loose" in table else rows[1]["name"]].read() is not None


def test_what_is_no_table(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1nothing")
    (tmp_path / "a.sqlite").write_bytes(b"nothing at all, but long enough to be looked at")
    for path in ("a.parquet", "a.sqlite"):
        with pytest.raises(CatalogError, match=r"cannot be (read as Parquet|used as a database)"):
            len(ImageTable(tmp_path / path))
    with pytest.raises(FileNotFoundError, match=re.escape("b.parquet")):
        len(ImageTable(tmp_path / "b.parquet"))
    write_table({}, tmp_path / "b.parquet")
    with pytest.raises(FileExistsError):
        write_table({}, tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="every table"):
        write_table({}, tmp_path / "c.parquet", columns={"uri": {}})


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_table_of_three_columns_that_others_wrote(plate, where):
    pa, pq, fsspec = (pytest.importorskip(m) for m in ("pyarrow", "pyarrow.parquet", "fsspec"))
    path = plate / "own.parquet"
    pq.write_table(pa.table({"driver": ["npy"], "uri": [str(plate / "loose.npy")], "name": ["mine"]}), path)
    if where == "memory":
        fsspec.filesystem("memory").pipe("/own.parquet", path.read_bytes())
        path = "memory://own.parquet"
    found = open_table(path, roots=[plate]).search(driver="npy")
    assert list(found) == ["mine"]
    assert found["mine"].to_dask().image.shape == (4, 5)


def test_a_table_by_the_command(plate, capsys):
    from intake_img.doors.cli import main

    for ending in ("parquet", "sqlite"):
        target = plate / f"of_command.{ending}"
        assert main(["scan", str(plate), "-o", str(target), "--overwrite"]) == 0
        assert len(open_catalog(plate / "of_command.yml").images) == 5
        assert main(["scan", str(plate), "-o", str(target)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    (plate / "elsewhere").mkdir()
    assert main(["scan", str(plate / "plate_7"), "-o", str(plate / "elsewhere" / "t.parquet")]) == 0
    assert f"roots=[{str(plate / 'plate_7')!r}]" in capsys.readouterr().err
    table = open_table(plate / "elsewhere" / "t.parquet", roots=[plate / "plate_7"])
    assert table["A01_x"].read().image.shape == (2, 6, 5)


@pytest.mark.parametrize("ending", ["parquet", "sqlite"])
def test_the_command_lists_searches_and_checks_tables(plate, ending, capsys):
    from intake_img.doors.cli.main import main

    path = str(plate / f"images.{ending}")
    write_table(scan(plate), path)
    assert main(["list", path]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(open_table(path))
    assert main(["search", path, "A02", "RFP"]) == 0
    assert capsys.readouterr().out.split()[0] == "A02_x"
    assert main(["search", path, "A02", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["A02_x"]["well"] == "A02"
    assert main(["validate", path]) == main(["validate", "--open", path]) == 0
    (plate / "loose.npy").unlink()
    capsys.readouterr()
    assert main(["validate", path]) == 0
    assert "nothing to object to" in capsys.readouterr().out
    assert main(["validate", "--open", path]) == 1
    assert "'loose'" in capsys.readouterr().out
    assert main(["validate", "--open", "--json", path]) == 1
    assert "'loose'" in json.loads(capsys.readouterr().out)[0]


def test_the_command_writes_tables_of_databases(plate, capsys):
    pytest.importorskip("sqlalchemy")
    from intake_img.doors.cli.main import main

    url = f"sqlite:///{plate}/url.sqlite3"
    assert main(["scan", str(plate), "-o", url]) == 0
    assert "5 images" in capsys.readouterr().out
    assert main(["list", url, "--root", str(plate)]) == 0
    assert "A02_x" in capsys.readouterr().out
    assert main(["scan", str(plate), "-o", url]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["scan", str(plate), "-o", url, "--overwrite"]) == 0
    assert not list(plate.glob("*.yml"))


def test_of_many_rows_only_the_columns_that_a_search_names_are_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 200_000
    rows = write_table({"a": {"driver": "npy", "args": {"uri": "a.npy"}}}, tmp_path / "one.parquet")
    numbers = np.arange(n)
    names = [f"image_{k}" for k in range(n)]
    types = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    (row,) = rows.images.rows()
    columns = {c: pa.array([row[c]] * n, types[k]) for c, k in rows.images.kinds.items()}
    columns |= {
        "name": pa.array(names),
        "text": pa.array([f"{m}\n{'mitosis' if k % 7 == 0 else 'rest'}" for k, m in enumerate(names)]),
        "spacing_x": pa.array(numbers % 10 / 10),
        "channels": pa.array(['["DAPI"]', '["GFP"]'] * (n // 2)).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "many.parquet")
    table = ImageTable(tmp_path / "many.parquet")
    assert len(table) == n
    assert not table.images.file.columns
    expected = sum(1 for k in range(n) if k % 7 == 0 and k % 10 / 10 < 0.5 and k % 2 == 0)
    assert len(table.search(channels="DAPI", spacing_x="<0.5", text="mitosis")) == expected
    assert set(table.images.file.columns) == {"channels", "spacing_x"}  # texts are not kept


def test_items_of_stac_open_as_the_images_do(table, plate):
    pystac = pytest.importorskip("pystac")
    from datetime import UTC, datetime

    from intake_img import imload

    items = table.to_stac(datetime(2024, 5, 1, tzinfo=UTC))
    again = pystac.ItemCollection.from_dict(items.to_dict())  # as others read it
    assert sorted(item.id for item in again) == sorted(table)
    for item in again:
        ds, dimensions = imload(item.assets["image"].href, metadata_only=True), item.properties["cube:dimensions"]
        assert dict(ds.sizes) == {a: len(d["values"]) if a == "c" else ds.sizes[a] for a, d in dimensions.items()}
        assert dimensions.get("c", {}).get("values", []) == (ds.img.channels or [])
        for axis, spacing in ds.img.spacing.items():
            assert dimensions[axis]["step"] == pytest.approx(spacing)
            assert dimensions[axis]["extent"][1] == pytest.approx(spacing * (ds.sizes[axis] - 1))
    well = next(item for item in again if item.properties.get("intake_img:well") == "B01")
    assert well.assets["image"].media_type == "image/tiff"
    assert well.properties["intake_img:drug"] == "Taxol mitosis"


def test_validating_opens_what_the_rows_name(plate):
    write_table(scan(plate), plate / "images.parquet")
    entry = {"driver": "image_table", "args": {"uri": "{{ CATALOG_DIR }}/images.parquet"}}
    write_catalog({"images": entry}, plate / "all.yml")
    assert validate(plate / "all.yml", open_images=True) == []
    (plate / "plate_7" / "A02" / "A02_x.ome.tif").unlink()
    (plate / "loose.npy").write_bytes(b"none")
    assert validate(plate / "all.yml") == []
    problems = sorted(str(p) for p in validate(plate / "all.yml", open_images=True))
    assert len(problems) == 2
    assert "A02" in problems[0] + problems[1]
    assert "'loose' does not open" in problems[0] + problems[1]


def test_intake_2_reads_tables(plate, tmp_path):
    """By itself, and from a catalog of version 2; other files of Parquet are not taken for tables of images."""
    from intake.readers.datatypes import Parquet, recommend

    from intake_img.doors.intake2 import ImageTableFile, ImageTableReader

    path = plate / "images.parquet"
    write_table(scan(plate), path)
    reader = ImageTableReader(data=ImageTableFile(url=str(path)), roots=[str(plate)])
    assert isinstance(reader.read(), ImageTable)
    assert list(reader.discover()) == list(open_table(path))
    catalog = intake.Catalog()
    catalog["images"] = reader
    catalog.to_yaml_file(str(tmp_path / "two.yml"))
    again = intake.open_catalog(str(tmp_path / "two.yml"))["images"].read()
    assert len(again.search(channels="DAPI")) == 2
    name = next(iter(again))
    assert again[name].read().equals(open_table(path)[name].read())
    found = recommend(str(path))
    assert Parquet in found
    assert ImageTableFile not in found
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pq.read_table(path).select(["uri"]), tmp_path / "other.parquet")
    with pytest.raises(CatalogError, match="no column 'name'"):
        len(ImageTableReader(data=ImageTableFile(url=str(tmp_path / "other.parquet"))).read())


@pytest.mark.parametrize("extension", [".ome.tif", ".ome.zarr", ".nrrd", ".npz", ".tif"])
def test_even_coordinates_are_spacing(tmp_path, extension):
    """Catalogs and tables state the spacing of images whose coordinates were made by hand; uneven ones have none."""
    ds = xr.Dataset(
        {"image": (("z", "y", "x"), np.arange(3 * 4 * 6, dtype="uint8").reshape(3, 4, 6))},
        {
            "z": [0.0, 1.0, 5.0],
            "y": ("y", 7 + np.arange(4) * 500.0, {"units": "nm"}),
            "x": ("x", np.arange(6) * 0.3, {"units": "µm"}),
        },
    )
    imsave(ds, tmp_path / f"a{extension}")
    found = scan(tmp_path)
    write_table(found, tmp_path / "images.parquet")
    (row,) = open_table(tmp_path / "images.parquet").search(spacing_x="<0.5").to_dataframe().to_dict("records")
    assert (row["spacing_y"], row["spacing_x"]) == pytest.approx((0.5, 0.3))
    assert np.isnan(row["spacing_z"] if row["spacing_z"] is not None else np.nan)
    assert json.loads(row["units"]) == {"y": "nm", "x": "µm"}
    assert "y 4 (every 500 nm), x 6 (every 0.3 µm)" in row["description"]


@given(
    st.lists(st.none() | st.text("ab\u00b5", max_size=6), min_size=1, max_size=60),
    st.text("ab\u00b5", max_size=4),
    st.data(),
)
@examples(200)
def test_words_in_all_texts_at_once(texts, word, data):
    """Also words that reach over the end of a text, in a part of a column, and words that occur often; found by their
    rarest pair of letters, and one by one."""
    pa = pytest.importorskip("pyarrow")
    start = data.draw(st.integers(0, len(texts) - 1))
    column = pa.array([*texts, *["b"] * 200], pa.string())[start:]
    expected = [bool(t) and word in t for t in column.to_pylist()]
    with mock.patch.object(rare_words, "_SPARSE", data.draw(st.sampled_from([1, 10**9]))):
        found = containing(column, word)
    if found is None:
        assert not word or "".join(t or "" for t in column.to_pylist()).count(word) > len(column) // 20
    else:
        assert found.tolist() == expected


def test_a_word_across_two_texts_is_in_neither():
    pa = pytest.importorskip("pyarrow")
    column = pa.array(["xa", "aab", "a", "a", None, *[""] * 100])
    assert np.flatnonzero(containing(column, "aa")).tolist() == [1]


def test_letters_that_have_ascii_in_lower_case():
    letters = map(chr, range(128, sys.maxunicode + 1))
    assert "".join(c for c in letters if any(x.isascii() for x in c.casefold())) == rare_words.FOLDED


@given(
    st.lists(st.none() | st.text("aAbBkS@`_\x7fzZ[{\u00b5", max_size=6), min_size=1, max_size=60),
    st.text("abks@`_\x7fz[{", min_size=1, max_size=3) | st.just("\u03bc"),
    st.sampled_from(["", "b", "a", "\u00b5", "\u212a", "\u00df", "\ufb06"]),
    st.data(),
)
@examples(200)
def test_words_in_any_case(texts, word, further, data):
    """Signs that differ from others by the bit of lower case, letters beyond ASCII, words that occur often."""
    pa = pytest.importorskip("pyarrow")
    start = data.draw(st.integers(0, len(texts) - 1))
    column = pa.array([*texts, *[further] * 100], pa.string())[start:]
    with mock.patch.object(rare_words, "_SPARSE", data.draw(st.sampled_from([1, 10**9]))):
        found = containing_in_any_case(column, word)
    said = "".join(t or "" for t in column.to_pylist())
    assert (found is None) == (bool(set(said) & set(rare_words.FOLDED)) or not (word.isascii() or said.isascii()))
    if found is not None:
        assert found.tolist() == [bool(t) and word in t.casefold() for t in column.to_pylist()]


WORDS = st.text("aAbB1_-. \u00b5\u00df\u212a", max_size=8)


@given(
    st.lists(st.tuples(WORDS, WORDS, WORDS | st.none()), min_size=1, max_size=30),
    st.text("aAbB1_- \u00b5\u00dfks", max_size=5),
    st.integers(0, 30),
)
@examples(60)
def test_a_search_for_words_finds_what_the_texts_hold(tmp_path_factory, rows, words, below):
    """Also where letters are beyond ASCII, or change their number in lower case; among few rows, or most."""
    pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("words") / "a.parquet"
    names = [f"{k}{name}" for k, (name, _, _) in enumerate(rows)]
    entries = {
        name: {"driver": "npy", "args": {"uri": f"{name}.npy"}, "description": told}
        for name, (_, told, _) in zip(names, rows, strict=True)
    }
    doses = {n: k for k, n in enumerate(names)}
    write_table(entries, path, columns={"note": {n: row[2] for n, row in zip(names, rows, strict=True)}, "dose": doses})
    table = open_table(path)
    texts = table.to_dataframe().text
    expected = [n for n, t in zip(names, texts, strict=True) if all(w in t for w in words.casefold().split())]
    assert list(table.search(text=words)) == expected
    assert list(table.search(text=words)) == expected  # and again, of what was read
    assert list(table.search(dose=f"<{below}", text=words)) == [n for n in expected if doses[n] < below]


@given(st.lists(st.text("ab ", max_size=3), max_size=40), st.text("ab ", max_size=3), st.integers(1, 7), st.booleans())
@examples(40)
def test_words_are_sought_in_one_row_group_after_another(tmp_path_factory, notes, word, size, before):
    """Also in few of its rows; by several threads."""
    pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("groups") / "a.parquet"
    entries = {f"x{k}": {"driver": "npy", "args": {"uri": f"{k}.npy"}} for k in range(len(notes))}
    doses = {f"x{k}": k * 7 % 5 for k in range(len(notes))}
    told = dict(zip(entries, notes, strict=True))
    with mock.patch.object(arrow_rows, "BATCH", size), mock.patch.object(arrow_rows, "cpus", return_value=3):
        write_table(entries, path, columns={"note": told, "dose": doses})
        table = open_table(path).search(dose="<2") if before else open_table(path)
        found = list(table.search(text=word, name=list(entries)))
    expected = [n for n in entries if all(w in told[n] for w in word.split()) and not (before and doses[n] >= 2)]
    assert found == expected


def test_damaged_row_groups_are_told(tmp_path, monkeypatch):
    """Threads that seek words do not wait for readers of groups that failed."""
    pa = pytest.importorskip("pyarrow")
    monkeypatch.setattr(arrow_rows, "BATCH", 2)
    monkeypatch.setattr(arrow_rows, "cpus", lambda: 3)
    entries = {f"x{k}": {"driver": "npy", "args": {"uri": f"{k}.npy"}} for k in range(40)}
    write_table(entries, tmp_path / "a.parquet")

    def damaged(self, *args, **options):
        raise OSError("Corrupt snappy compressed data.")

    for name in ("read_row_group", "read"):
        with monkeypatch.context() as patch:
            patch.setattr(pa.parquet.ParquetFile, name, damaged)
            table = open_table(tmp_path / "a.parquet")
            with pytest.raises(CatalogError, match="write it again"):
                list(table.search(text="x3"))
    with monkeypatch.context() as patch:
        table = open_table(tmp_path / "a.parquet")
        names = list(table)
        patch.setattr(pa.parquet.ParquetFile, "read_row_group", damaged)
        with pytest.raises(CatalogError, match="Corrupt"):
            table[names[7]]


@pytest.mark.parametrize("note", ["Control", "\u00b5m", "Fu\u00df"])
def test_texts_are_not_read_for_words_in_ascii(tmp_path, note, monkeypatch):
    """Not even for other texts, unless a letter becomes one of ASCII in lower case."""
    pa = pytest.importorskip("pyarrow")
    entries = {f"a{k}": {"driver": "npy", "args": {"uri": f"B{k}.npy"}, "description": "y 4"} for k in range(100)}
    write_table(entries, tmp_path / "a.parquet", columns={"note": {n: f"{note} {n}" for n in entries}})
    table = open_table(tmp_path / "a.parquet")
    read, original = [], pa.parquet.ParquetFile.read_row_group

    def read_row_group(self, group, columns, *options):
        read.extend(columns)
        return original(self, group, columns, *options)

    monkeypatch.setattr(pa.parquet.ParquetFile, "read_row_group", read_row_group)
    monkeypatch.setattr(word_search, "_MOST", 0)  # not one by one
    assert list(table.search(text="b7 A7", driver="npy")) == ["a7", *(f"a{k}" for k in range(70, 80))]
    assert ("text" in read) == (note == "Fu\u00df")
    whole = pa.parquet.read_table(tmp_path / "a.parquet").to_pylist()  # others read it as before
    assert whole[7]["text"] == f"a7\nb7.npy\ny 4\n{note} a7".casefold()
