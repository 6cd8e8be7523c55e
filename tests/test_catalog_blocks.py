"""Law: a catalog read block by block means what it means when it is parsed as a whole, and is checked as strictly."""

import os
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.catalog import open_catalog, write_catalog
from intake_img.catalog import spelling as s
from intake_img.catalog.document import read_document, spelled_out
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
