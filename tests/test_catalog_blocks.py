"""Law: a catalog read block by block equals the catalog parsed by a YAML parser, and is checked as strictly."""

import os
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.catalog import open_catalog, write_catalog
from intake_img.catalog import spelling as s
from intake_img.catalog.document import parse, read_document, spelled_out
from intake_img.catalog.plain_lines import LineReader
from intake_img.catalog.text_blocks import Block, cut
from intake_img.errors import CatalogError
from intake_img.storage.files import File

pytestmark = pytest.mark.thorough

FACTS = {"axes": "zyx", "shape": [3, 4, 5], "dtype": "uint8", "spacing": {"z": 0.5}, "units": {"z": "µm"}}


def entries(n: int, **changes) -> dict:
    return {
        f"img_{k:04d}": {
            "driver": "npy",
            "description": f"z {k} (every 0.5 µm), y 4",
            "args": {"uri": f"{{{{ CATALOG_DIR }}}}/p{k % 3}/img {k}.npy", **changes},
            "metadata": {"scanned": {**FACTS, "shape": [k, 4, 5]}},
        }
        for k in range(n)
    }


def plain(data):
    sources = data.get("sources")
    return {**data, "sources": {n: as_dict(e) for n, e in sources.items()}} if isinstance(sources, dict) else data


def as_dict(entry):
    data = spelled_out(entry)
    return {**data, "metadata": dict(data["metadata"])} if isinstance(entry, Block) and "metadata" in data else data


LINES = r"""  b:|    driver: npy|  img_0001:|name: "x|  c: "|"|    args:|# note|  # note|sources:|  d: >|
  e: [|  f: {a: 1}|]|---|
...|  yes:|  g: &x 1|  h: *x|  true: {}|    description: yes we can|    description: 12 x|      scanned: {a: 1} # }
   odd|  - a|    metadata:|text: >| x|description: a|  ? j|  'k':|      scanned: {a: 1, a: 2}|
  l: a\|  !!str m: 1|%YAML 1.1
      scanned: {x: 08, 1: 2}|      scanned: {x: [1}|      uri: '{{ CATALOG_DIR }}/é.npy'""".replace("\n", "|").split(
    "|"
)
LINES += ["", "\t", "\x85", "  i: |+", "text: |"]


@examples(250)
@given(st.lists(st.tuples(st.integers(0, 24), st.sampled_from(LINES), st.booleans()), max_size=3))
def test_in_blocks_as_in_whole(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("blocks") / "c.yml"
    text = s.dump({"metadata": {"version": 1}}) + "sources:\n"
    lines = (text + "".join(s.entry_block(n, e, "  ") for n, e in entries(2).items()) + "name: lab\n").splitlines()
    for at, line, replace in changes:
        lines[at : at + replace] = [line]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def read(whole: bool):
        with pytest.MonkeyPatch.context() as patch:
            if whole:
                patch.setattr("intake_img.catalog.document.cut", lambda text: None)
            try:
                return read_document(File.parse(path)).data
            except CatalogError as exc:
                return str(exc)

    quick, slow = read(False), read(True)
    assert (plain(quick) if isinstance(quick, dict) else quick) == (slow if not isinstance(slow, dict) else plain(slow))


def test_what_is_written_is_cut_and_opens_alike(tmp_path, monkeypatch):
    write_catalog(
        {**entries(20), "odd one": {"driver": "npy", "args": {"uri": "{{ CATALOG_DIR }}/[1].npy"}}}, tmp_path / "c.yml"
    )
    document = read_document(File.parse(tmp_path / "c.yml"))
    assert [isinstance(e, Block) for e in document.data["sources"].values()] == [True] * 20 + [False]
    quick = open_catalog(tmp_path / "c.yml")
    monkeypatch.setattr("intake_img.catalog.document.cut", lambda text: None)
    slow = open_catalog(tmp_path / "c.yml")
    assert {n: e.describe() for n, e in quick.entries.items()} == {n: e.describe() for n, e in slow.entries.items()}
    for words in ("img_0003", "zyx µm", "scanned", "nothing", "'zyx'", "0.5", "axes 'z'", "uint8 odd"):
        assert list(quick.search(words)) == list(slow.search(words)), words
    assert quick["img_0003"].uri == slow["img_0003"].uri


def test_one_that_is_refused_among_many_alike(tmp_path):
    os.makedirs(tmp_path / "lab" / "p0")
    os.symlink("/etc/hostname", tmp_path / "lab" / "p0" / "link.npy")
    os.symlink("/etc", tmp_path / "lab" / "etc")
    good = entries(9)
    for uri in ("/p0/link.npy", "/../x.npy", "/p0/../../x.npy", "/etc/hostname"):
        bad = {**good["img_0001"], "args": {"uri": "{{ CATALOG_DIR }}" + uri}}
        write_catalog({**good, "img_0010": bad}, tmp_path / "lab" / "c.yml", overwrite=True)
        with pytest.raises(CatalogError, match="outside"):
            open_catalog(tmp_path / "lab" / "c.yml")
    text = (tmp_path / "lab" / "c.yml").read_text()
    (tmp_path / "lab" / "c.yml").write_text(text.replace("shape: [3, 4, 5]", "shape: [3, 4, 5], 3: x"))
    with pytest.raises(CatalogError, match="keys are texts"):
        open_catalog(tmp_path / "lab" / "c.yml")


HAND = """  cell_{0}:
    description: "Embryo {0}, DAPI"
    driver: npy
    args:
      uri: "{{{{ CATALOG_DIR }}}}/raw/embryo_{0}.npy"
      chunks: {{y: 512, x: 512}}
    metadata:
      spacing: {{z: 0.5, y: 0.1, x: 0.1}}
      coords: {{c: [DAPI, actin]}}
      depths: [{0}, 1.5, surface]
      patient: P{0}
"""
VALUES = r"""a text ;; yes ;; On ;; ~ ;; null ;; 12 ;; -0 ;; 012 ;; 1_000 ;; 1e5 ;; 1.5 ;; .5 ;; 0x1f ;; 1:30
2001-01-01 ;; "quoted: 'x'" ;; 'single, #' ;; 'it''s' ;; "a\n" ;; a # note ;; # note ;; {y: 1, x: -2.5} ;; {a: 1, a: 2}
{a: yes, b: no way} ;; {y: 1,x: 2} ;; {a : 1} ;; {"a": 1} ;; {a} ;; {a:1} ;; [a, b, 1] ;; [a,b] ;; [a, ] ;; [a b, c-d]
[yes, No] ;; [[1]] ;; {a: [1, {b: c}]} ;; a: b ;; - a ;; a: ;; [1 ;; {a: 1 ;; "open ;; 'open ;; > ;; | ;; a, b ;; [a: 1]
{a: b: c} ;; µm ;; = ;; << ;; {<<: {a: 1}} ;; @a ;; %a ;; a/b (c) +1 ;; - ;; --- a ;; ? a ;; [?, a] ;; [-, 1] ;; [- a]
0.10 ;; 1. ;; a  b ;; a #b ;; a- #b ;; {a: } ;; {a: b #c} ;; {n: 1} ;; {Yes: 1} ;; 1e400 ;; -1.50 ;; 0o7
.inf ;; [1.0, 1]""".replace("\n", " ;; ").split(" ;; ")
VALUES += [" a", "a "]
ROW = st.tuples(
    st.sampled_from([2, 4, 4, 4, 6, 6, 8]),
    st.sampled_from(["a", "b", "c", "args", "uri", "yes", "y", "Null", "_x", "k1", "<<", "'q'", "- a", "?"]),
    st.sampled_from([*VALUES, "", ""]),
    st.sampled_from(["\n", "\n", "\n", "\n", "\n\n", " \n", "\n      more\n", "\n# c\n"]),
)


@examples(400)
@given(st.sampled_from(["a", "no", "img_1", "'a b'"]), st.lists(ROW, max_size=6))
def test_lines_mean_what_the_parser_says(name, rows):
    """Types count as well: 1, 1.0 and True are different values."""
    block = f"  {name}:\n" + "".join(f"{' ' * n}{key}:{' ' * bool(v)}{v}{end}" for n, key, v, end in rows)
    found = LineReader(parse, (CatalogError, yaml.YAMLError, ValueError)).entry(block)
    if found is not None:
        assert repr({found[0]: found[1]}) == repr(parse(block))


@pytest.mark.parametrize("value", VALUES)
def test_values_mean_what_the_parser_says(value):
    block = f"  a:\n    b: {value}\n    c: {value}\n"
    found = LineReader(parse, (CatalogError, yaml.YAMLError, ValueError)).entry(block)
    if found is not None:
        assert repr({found[0]: found[1]}) == repr(parse(block))
        assert found[1]["b"] is not found[1]["c"] or not isinstance(found[1]["b"], (dict, list))


def test_entries_written_by_hand_are_read_without_the_parser(tmp_path, monkeypatch):
    text = "sources:\n" + "".join(HAND.format(k) for k in range(20))
    (tmp_path / "c.yml").write_text(text)
    slow_blocks = []
    monkeypatch.setattr("intake_img.catalog.document._single", lambda data: slow_blocks.append(data))
    quick = open_catalog(tmp_path / "c.yml")
    assert not slow_blocks
    monkeypatch.setattr("intake_img.catalog.document.cut", lambda text: None)
    slow = open_catalog(tmp_path / "c.yml")
    assert {n: e.describe() for n, e in quick.entries.items()} == {n: e.describe() for n, e in slow.entries.items()}
    quick.entries["cell_3"].metadata["coords"]["c"].append("x")  # entries share no values
    assert quick.entries["cell_4"].metadata["coords"] == {"c": ["DAPI", "actin"]}


BAD = {
    "uri: 5": "not a path",
    'uri: "{{ CATALOG_DIR }}/../x.npy"': "outside",
    'uri: "{{ CATALOG_DIR }}/{{ day }}.npy"': "no parameter 'day'",
    'uri: "{{ CATALOG_DIR }}/{{ 1+1 }}.npy"': "refused",
    'uri: "/etc/hostname"': "outside",
    'uri: "{{ CATALOG_DIR }}/raw/link.npy"': "outside",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_path_among_many_by_hand(tmp_path, line):
    os.makedirs(tmp_path / "lab" / "raw")
    os.symlink("/etc/hostname", tmp_path / "lab" / "raw" / "link.npy")
    blocks = [HAND.format(k) for k in range(9)]
    blocks[6] = blocks[6].replace('uri: "{{ CATALOG_DIR }}/raw/embryo_6.npy"', line)
    (tmp_path / "lab" / "c.yml").write_text("sources:\n" + "".join(blocks))
    with pytest.raises(CatalogError, match=BAD[line]):
        open_catalog(tmp_path / "lab" / "c.yml")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("chunks: {y: 512, x: 512}", "chunk: {y: 512, x: 512}", "no such option"),
        ("driver: npy", "driver: npyy", "missing or unknown"),
        ("driver: npy", "driver: npy\n    cls: os.system", "names a class"),
        ('description: "Embryo 6, DAPI"', "description: 6", "expected a text"),
        ("patient: P6", "patient: !!python/name:os.system", "refused"),
        ("patient: P6", "spacing: 1", "twice"),
    ],
)
def test_a_bad_entry_among_many_by_hand(tmp_path, old, new, why):
    blocks = [HAND.format(k) for k in range(9)]
    assert old in blocks[6]
    blocks[6] = blocks[6].replace(old, new)
    (tmp_path / "c.yml").write_text("sources:\n" + "".join(blocks))
    with pytest.raises(CatalogError, match=why):
        open_catalog(tmp_path / "c.yml")


def test_many_entries_are_quick(tmp_path):
    write_catalog(entries(800), tmp_path / "c.yml")
    text = (tmp_path / "c.yml").read_text()
    assert cut(text) is not None

    def seconds(work) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    parsing = seconds(lambda: yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    assert seconds(lambda: open_catalog(tmp_path / "c.yml")) < 0.3 * parsing
    assert seconds(lambda: open_catalog(tmp_path / "c.yml").search("img_0777")) < 0.4 * parsing
    assert seconds(lambda: write_catalog(entries(800), tmp_path / "c.yml", update=True)) < 2 * parsing
    assert (tmp_path / "c.yml").read_text() == text


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["yes", "On", "1e5", "{{ CATALOG_DIR }}/a b.tif", "- a", "a: b", "a #b", "~", "", "1:30", "a, b", "2001-01-01", "="]
)
_SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT
_DATA = st.recursive(_SCALAR, lambda c: st.lists(c, max_size=3) | st.dictionaries(_TEXT, c, max_size=3), max_leaves=6)


@examples(150)
@given(_TEXT.filter(bool), st.dictionaries(_TEXT, _DATA, max_size=3), st.dictionaries(_TEXT, _DATA, max_size=3))
def test_what_is_written_is_read(name, entry, facts):
    entry = {**entry, "metadata": {"scanned": facts}}
    assert yaml.safe_load(s.entry_block(name, entry, "  ")) == {name: entry}
