"""Catalogs: what a scan finds and writes, that edits by people are kept, and that untrusted catalogs run nothing.

Each proof of concept that runs code, reads the environment or opens a file through Intake's own loader is a test here:
it is refused with a reason, nothing runs, and no file but the catalog is opened.
"""

from __future__ import annotations

import builtins
import json
import os
import pickle
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import intake
import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from PIL import Image
from servers import running
from thoroughness import examples

import intake_img
from intake_img import imload, imsave, open_catalog, scan, write_catalog
from intake_img.catalog import SafeCatalog, validate
from intake_img.catalog.document import read_document
from intake_img.catalog.entry_names import unique_names
from intake_img.catalog.facts import sentence
from intake_img.catalog.template import Parameter, fill
from intake_img.doors.cli import main
from intake_img.errors import AxesError, CatalogError, TargetExistsError
from intake_img.formats.arguments import jinja_escaped
from intake_img.storage.files import File

CATALOGS = Path(__file__).resolve().parent.parent / "catalogs"


def plane(n: int = 0) -> np.ndarray:
    return np.full((4, 5), n, "uint16")


@pytest.fixture
def lab(tmp_path):
    """A folder with an image, and a secret beside it."""
    folder = tmp_path / "lab"
    folder.mkdir()
    np.save(folder / "a.npy", plane(7))
    np.save(tmp_path / "secret.npy", plane(42))
    return folder


def written(folder, sources, **top):
    path = folder / "catalog.yml"
    path.write_text(
        yaml.safe_dump({"metadata": {"version": 1}, **top, "sources": sources}, sort_keys=False), encoding="utf-8"
    )
    return path


def entry(uri="{{ CATALOG_DIR }}/a.npy", driver="npy", **more):
    return {"driver": driver, "args": {"uri": uri}, **more}


# hostile catalogs


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """Paths that are opened, and commands that are run, from now on."""
    seen = []
    real_open, os_open = builtins.open, os.open

    def note(kind, real):
        def call(path, *args, **kwargs):
            seen.append((kind, os.fspath(path) if not isinstance(path, int) else path))
            return real(path, *args, **kwargs)

        return call

    monkeypatch.setattr(builtins, "open", note("open", real_open))
    monkeypatch.setattr(os, "open", note("open", os_open))
    for name in ("system", "popen", "execv", "fork", "posix_spawn"):
        monkeypatch.setattr(os, name, lambda *a, **k: seen.append(("run", a)))
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: seen.append(("run", a)))
    return seen


def refused(path, watched, *words, **limits):
    """Open a catalog that must be refused; all of `words` are in the reason, nothing but the catalog was opened."""
    watched.clear()
    with pytest.raises(CatalogError) as caught:
        open_catalog(path, **limits)
    assert {p for _, p in watched} <= {str(path)}, watched
    for word in words:
        assert word in str(caught.value), str(caught.value)
    problems = validate(path, **limits)
    assert problems
    assert all(p.line >= 1 and p.reason for p in problems)
    return str(caught.value)


MARK = "touch {folder}/ran"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (entry("{{ cycler.__init__.__globals__.os.system('" + MARK + "') }}"), ["template", "refused"]),
        (entry("{{ ''.__class__.__mro__[1].__subclasses__() }}"), ["template"]),
        (entry("{% for x in range(10**9) %}x{% endfor %}"), ["template"]),
        (entry("{# comment #}a.npy"), ["template"]),
        (entry("{{ 9**9**9 }}"), ["template"]),
        (entry("{{ lipsum.__globals__ }}"), ["template"]),
        (entry("{{ CATALOG_DIR | attr('__class__') }}"), ["template"]),
        (entry("{{ CATALOG_DIR.__class__ }}"), ["template"]),
        (entry("{{ 'a' * 1000000000 }}"), ["template"]),
        (entry("{{ env(SECRET) }}/a.npy"), ["template"]),
        (entry("{{ shell(" + MARK + ") }}"), ["template"]),
        (entry("{{ nothing }}"), ["no parameter 'nothing'"]),
        ({"cls": "subprocess.Popen", "args": [["touch", "{folder}/ran"]]}, ["cls", "class"]),
        ({**entry(), "cls": "os.system"}, ["cls"]),
        (entry(driver="subprocess.Popen"), ["imports code"]),
        (entry(driver="intake_img.formats.npy.driver.NpySource"), ["imports code"]),
        (entry(driver="evil:Source"), ["imports code"]),
        (entry(driver="csv"), ["unknown", "npy"]),
        (entry(driver={"x": {"module": "evil", "class": "evil.Source"}}), ["expected a name"]),
        (entry(driver=["npy"]), ["expected a name"]),
        ({**entry(), "cache": [{"type": "file"}]}, ["cache"]),
        ({**entry(), "remote": True}, ["remote"]),
        ({**entry(), "plugins": {"source": [{"module": "evil"}]}}, ["plugins", "imports"]),
        (entry(parameters={"p": {"type": "str", "default": "env(SECRET)"}}), ["environment or a shell"]),
        (entry(parameters={"p": {"type": "str", "default": "shell(" + MARK + ")"}}), ["environment or a shell"]),
        (entry(parameters={"p": {"type": "str", "default": "client_env(SECRET)"}}), ["environment or a shell"]),
        (entry(parameters={"p": {"type": "os.system", "default": "x"}}), ["type"]),
        (entry(parameters={"p": {"module": "os", "class": "system"}}), ["module"]),
        (entry(parameters=[{"name": "p"}]), ["mapping"]),
        (entry(parameters={"p": {"type": "str"}}), ["'description' is missing"]),
        (entry("../secret.npy"), ["outside"]),
        (entry("{{ CATALOG_DIR }}/../secret.npy"), ["outside"]),
        (entry("{{ CATALOG_DIR }}/x/../../secret.npy"), ["outside"]),
        (entry("../../etc/passwd", driver="binary"), ["outside"]),
        (entry("{{ CATALOG_DIR }}/../../../../../../etc/passwd", driver="img"), ["outside"]),
        (entry("/etc/passwd", driver="img"), ["outside"]),
        (entry("~/secret.npy"), ["home"]),
        (entry("file:///etc/passwd", driver="img"), ["outside"]),
        (entry("FILE:///etc/passwd", driver="img"), ["outside"]),
        (entry("local:///etc/passwd", driver="img"), ["outside"]),
        (entry("{{ CATALOG_DIR }}/%2e%2e/secret.npy\0"), ["not a path"]),
        (
            entry("{{ p }}/passwd", "img", parameters={"p": {"description": "", "type": "str", "default": "/etc"}}),
            ["outside"],
        ),
        (entry("http://169.254.169.254/latest/a.npy"), ["scheme http:// is not allowed"]),
        (entry("https://example.org/a.npy"), ["scheme"]),
        (entry("s3://bucket/a.npy"), ["scheme"]),
        (entry("memory://a.npy"), ["scheme"]),
        (entry("reference://x", "omezarr"), ["scheme"]),
        (entry("simplecache::file:///etc/passwd", "img"), ["no cache"]),
        (entry("simplecache::/etc/passwd", "img"), ["chained"]),
        (entry("simplecache::local:///etc/passwd", "img"), ["no cache"]),
        (entry("simplecache::FILE:///etc/passwd", "img"), ["no cache"]),
        (entry("blockcache::{{ CATALOG_DIR }}/a.npy"), ["chained"]),
        (entry("simplecache::https://example.org/a.npy"), ["scheme https:// is not allowed"]),
        (entry("simplecache::filecache::https://example.org/a.npy"), ["chained"]),
        (entry("simplecache::zip://a.npy::https://example.org/x.zip"), ["chained"]),
        (entry("filecache::https://example.org/../a.npy"), ["'..'"]),
        (entry("zip://a.npy::file:///etc/x.zip"), ["chained"]),
        (entry("github://org:repo@main/a.npy"), ["scheme"]),
        (entry("/*/passwd", "filepattern"), ["outside"]),
        (entry("{{ CATALOG_DIR }}/../{i}.npy", "filepattern"), ["outside"]),
        (entry("{{ CATALOG_DIR }}/..", "directory"), ["outside"]),
        (entry(["{{ CATALOG_DIR }}/a.npy", "/etc/passwd"], "imagelist"), ["outside"]),
        (entry(["{{ CATALOG_DIR }}/a.npy"], "npy"), ["one path"]),
        (entry({"a": 1}), ["not a path or URL"]),
        (entry(3), ["not a path or URL"]),
        ({"driver": "npy"}, ["'uri' is missing"]),
        ({"driver": "npy", "args": ["a.npy"]}, ["mapping"]),
        ("a.npy", ["mapping"]),
        (
            {"driver": "npy", "args": {"uri": "a.npy", "storage_options": {"client_kwargs": {"endpoint_url": ""}}}},
            ["anon"],
        ),
        (
            {
                "driver": "filepattern",
                "args": {"uri": "{{ CATALOG_DIR }}/{i}.npy", "member_options": {"storage_options": {}}},
            },
            ["member_options"],
        ),
        ({"driver": "binary", "args": {"uri": "{{ CATALOG_DIR }}/a.npy", "conf": "../../etc/x.json"}}, ["conf"]),
        ({"driver": "npy", "args": {"uri": "{{ CATALOG_DIR }}/a.npy", "allow_pickle": True}}, ["no such option"]),
        ({"driver": "npy", "args": {"uri": "{{ CATALOG_DIR }}/a.npy", "chunks": "{{ x() }}"}}, ["template"]),
        ({"driver": "binary", "args": {"uri": "{{ CATALOG_DIR }}/a.npy", "shape": "huge"}}, ["refuses"]),
        ({"driver": "yaml_file_cat", "args": {"path": "../other.yml"}}, ["outside"]),
        ({"driver": "yaml_file_cat", "args": {"path": "https://example.org/c.yml"}}, ["scheme"]),
        ({"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/c.yml", "getenv": True}}, ["getenv"]),
        ({"driver": "yaml_file_cat", "args": {"path": ["a.yml"]}}, ["text"]),
        ({"driver": "intake_remote", "args": {"url": "x"}}, ["unknown"]),
    ],
)
def test_what_asks_for_more_is_refused(source, words, lab, watched, monkeypatch):
    monkeypatch.setenv("SECRET", "the-secret")
    monkeypatch.chdir(lab)
    text = json.dumps({"sources": {"x": source}}).replace("{folder}", str(lab))
    path = lab / "catalog.yml"
    path.write_text(text)  # JSON is YAML
    message = refused(path, watched, "sources.x", *words)
    assert "the-secret" not in message
    assert not (lab / "ran").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources:\n  x: !!python/object/apply:os.system ['touch ran']\n", ["line 2", "tag"]),
        ("sources:\n  x: !!python/object/new:os.system ['touch ran']\n", ["tag"]),
        ("sources:\n  x: {driver: npy, args: {uri: !!python/name:os.system }}\n", ["tag"]),
        ("sources:\n  x: {driver: npy, args: !!python/tuple [1]}\n", ["tag"]),
        ("sources: !evil {}\n", ["tag"]),
        ("sources: {x: {metadata: {b: !!binary aGVsbG8=}}}\n", ["tag"]),
        ("plugins: {source: [{module: evil}]}\nsources: {}\n", ["plugins", "imports"]),
        ("cls: subprocess.Popen\nsources: {}\n", ["cls"]),
        ("metadata: {version: 2}\nsources: {}\n", ["version"]),
        ("version: 2\ndata: {}\nentries: {a: {reader: 'os:system'}}\n", ["version 2", "imports code"]),
        ("metadata: {version: 1, parameters: {p: {default: 'env(HOME)'}}}\nsources: {}\n", ["environment"]),
        ("sources:\n  a: {driver: npy, args: {uri: x}}\n  a: {driver: npy, args: {uri: y}}\n", ["twice"]),
        ("sources: {1: {}}\n", ["keys are texts"]),
        ("sources: {? [a] : {}}\n", ["keys are texts"]),
        ("sources: []\n", ["mapping"]),
        ("sources: {}\n---\nsources: {}\n", ["second document"]),
        ("just text\n", ["expected a catalog"]),
        ("", ["expected a catalog"]),
        ("{}\n", ["'sources' is missing"]),
        ("sources: {a: [}\n", ["cannot be parsed"]),
        ("sources: &a {x: *a}\n", ["contains itself"]),
        ("sources: &a {<<: *a}\n", ["contains itself"]),
        ("sources: {x: {metadata: &m [*m]}}\n", ["contains itself"]),
        ("sources: {x: " + "[" * 10**6 + "\n", ["deep"]),
        ("sources: {x: " + "{a: " * 10**5 + "\n", ["deep"]),
        ("sources:\n" + "".join(f"{'  ' * k}- \n" for k in range(1, 2000)), ["deep"]),
        ("sources: {x: {metadata: {n: " + "1" * 5000 + "}}}\n", ["digits"]),
        ("sources: {x: {metadata: {n: " + "1:" * 5000 + "1}}}\n", ["digits"]),
        ("sources: {x: {metadata: {n: " + "a" * 100_000 + "}}}\n", ["characters"]),
        ("sources: {x: \x07}\n", ["cannot be parsed"]),
    ],
)
def test_yaml_that_is_no_plain_data_is_refused(text, words, lab, watched, monkeypatch):
    monkeypatch.chdir(lab)
    path = lab / "catalog.yml"
    path.write_text(text)
    begun = time.process_time()
    refused(path, watched, *words)
    assert time.process_time() - begun < 5
    assert not (lab / "ran").exists()


def test_alias_bombs(lab, watched):
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    path = lab / "catalog.yml"
    path.write_text("sources:\n  x:\n    metadata:\n" + "".join(f"      {line}\n" for line in lines))
    begun = time.process_time()
    refused(path, watched, "aliases", "multiply")
    lines = ["a0: &a0 {x: 1}"] + [f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}" for k in range(1, 12)]
    path.write_text("sources:\n  x:\n    metadata:\n" + "".join(f"      {line}\n" for line in lines))
    refused(path, watched, "aliases", "multiply")
    path.write_text("sources:\n  x:\n    metadata: {a: &a 1, b: [" + "*a, " * 2000 + "]}\n")
    refused(path, watched, "more than 1000 aliases")
    assert time.process_time() - begun < 20


def test_aliases_within_measure_are_read(lab):
    path = lab / "catalog.yml"
    path.write_text(
        "sources:\n  a: &one\n    driver: npy\n    args: {uri: '{{ CATALOG_DIR }}/a.npy'}\n"
        "    metadata: {day: 2024-05-17, spacing: &s {x: 0.5}}\n"
        "  b:\n    <<: *one\n    metadata: {other: *s}\n"
    )
    catalog = open_catalog(path)
    assert catalog.entries["b"].metadata == {"other": {"x": 0.5}}
    assert catalog.entries["a"].metadata["day"] == "2024-05-17"
    assert catalog.a.to_dask().img.spacing == {"x": 0.5}


def test_yaml_of_50_megabytes(lab, watched):
    path = lab / "catalog.yml"
    path.write_bytes(b"sources:\n" + b"  a: {driver: npy}\n" * (50 * 2**20 // 19))
    begun = time.process_time()
    refused(path, watched, "32 MiB")
    assert time.process_time() - begun < 1


def test_files_that_are_no_text(lab, watched):
    path = lab / "catalog.yml"
    path.write_bytes(b"sources: {}\n\xff\xfe")
    refused(path, watched, "UTF-8")
    with pytest.raises(OSError):
        open_catalog(lab)
    with pytest.raises(FileNotFoundError):
        validate(lab / "none.yml")


def test_problems_say_where(lab):
    path = lab / "catalog.yml"
    path.write_text(
        "metadata: {version: 1}\nsources:\n  good: {driver: npy, args: {uri: '{{ CATALOG_DIR }}/a.npy'}}\n"
        "  bad:\n    driver: os.system\n    args:\n      uri: x\n    cache: [1]\n"
    )
    found = {(p.line, p.where) for p in validate(path)}
    assert found == {(5, "sources.bad.driver"), (8, "sources.bad.cache")}
    with pytest.raises(CatalogError, match=r"line 5: sources\.bad\.driver"):
        open_catalog(path)


def test_terminals_get_no_control_characters(lab, capsys):
    evil = "\x1b[2J\x07\x9b31m"
    path = lab / "catalog.yml"
    path.write_text(json.dumps({"sources": {"a": entry(description=f"nice{evil}\nsecond line")}}))
    assert main(["list", str(path)]) == 0
    out = capsys.readouterr().out + repr(open_catalog(path))
    path.write_text(json.dumps({"sources": {f"x{evil}": entry(driver=evil), "b": {evil: 1}}}))
    assert main(["validate", str(path)]) == 1
    assert main(["list", str(path)]) == 1
    out += "".join(capsys.readouterr())
    assert "nice" in out
    assert "printable" in out
    assert all(c.isprintable() or c == "\n" for c in out)


# symbolic links


def test_links_out_of_the_root_are_refused(lab, watched):
    (lab / "link.npy").symlink_to(lab.parent / "secret.npy")
    refused(written(lab, {"x": entry("{{ CATALOG_DIR }}/link.npy")}), watched, "outside", "leads to")
    (lab / "folder").symlink_to(lab.parent)
    refused(written(lab, {"x": entry("{{ CATALOG_DIR }}/folder/secret.npy")}), watched, "outside")
    refused(written(lab, {"x": entry("{{ CATALOG_DIR }}/folder", "directory")}), watched, "outside")
    nested = {"x": {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/folder/other.yml"}}}
    refused(written(lab, nested), watched, "outside")
    (lab / "inside.npy").symlink_to(lab / "a.npy")
    assert open_catalog(written(lab, {"x": entry("{{ CATALOG_DIR }}/inside.npy")})).x.read()["image"][0, 0] == 7


def test_links_that_come_later_are_refused(lab, watched):
    catalog = open_catalog(written(lab, {"x": entry()}))
    (lab / "a.npy").unlink()
    (lab / "a.npy").symlink_to(lab.parent / "secret.npy")
    watched.clear()
    with pytest.raises(CatalogError, match="outside"):
        catalog["x"]
    assert not watched


@pytest.mark.parametrize(
    ("uri", "driver"),
    [
        ("{{ CATALOG_DIR }}/s{i:d}.npy", "filepattern"),
        ("{{ CATALOG_DIR }}/*.npy", "filepattern"),
        ("{{ CATALOG_DIR }}/p{i}/s.npy", "filepattern"),
        ("{{ CATALOG_DIR }}", "directory"),
        ("{{ CATALOG_DIR }}/name.npy", "filepattern"),
        ("{{ CATALOG_DIR }}/link.czi@0", "img"),
        (["{{ CATALOG_DIR }}/link.czi@0"], "imagelist"),
        (["{{ CATALOG_DIR }}/s1.npy", "{{ CATALOG_DIR }}/s2.npy"], "imagelist"),
        ("{{ CATALOG_DIR }}/flat.raw", "binary"),
        ("{{ CATALOG_DIR }}/a.zarr", "omezarr"),
        ("{{ CATALOG_DIR }}/a.zarr", "img"),
        ("{{ CATALOG_DIR }}/z*.zarr", "filepattern"),
        ("{{ CATALOG_DIR }}/z{i}.zarr", "filepattern"),
    ],
)
def test_links_among_many_files_are_refused(uri, driver, lab, watched):
    secret = lab.parent / "secret.npy"
    for name in ("s2.npy", "link.czi", "name.i_1.npy"):
        (lab / name).symlink_to(secret)
    np.save(lab / "s1.npy", plane())
    np.save(lab / "name.i_0.npy", plane())
    (lab.parent / "out").mkdir()
    np.save(lab.parent / "out" / "s.npy", plane())
    (lab / "p1").symlink_to(lab.parent / "out")
    (lab / "flat.raw").write_bytes(bytes(8))
    (lab / "conf.json").symlink_to(secret)
    for name in ("a.zarr", "z1.zarr"):
        imsave(xr.Dataset({"image": (("y", "x"), plane())}), lab / name)
        chunk = next(p for p in (lab / name).rglob("*") if p.is_file() and p.parent.name == "0")
        chunk.rename(lab.parent / "out" / name)
        chunk.symlink_to(lab.parent / "out" / name)
    source = entry(uri, driver)
    if driver == "directory":
        source["args"]["ext"] = ".npy"
    path = written(lab, {"x": source})
    watched.clear()
    with pytest.raises(CatalogError, match="outside"):
        open_catalog(path)["x"].read()
    outside = {os.path.realpath(p) for kind, p in watched if kind != "run" and isinstance(p, str)}
    assert not [p for p in outside if "secret" in p or "out" in Path(p).parts]


def test_pipes_and_devices_are_refused(lab, watched):
    os.mkfifo(lab / "pipe.npy")
    refused(written(lab, {"x": entry("{{ CATALOG_DIR }}/pipe.npy")}), watched, "neither a file nor a folder")


# nested catalogs


def test_nested_catalogs_are_as_safe_as_the_first(lab, monkeypatch):
    monkeypatch.setenv("SECRET", "the-secret")
    (lab / "sub").mkdir()
    nested = {"sub": {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/sub/catalog.yml"}}}
    path = written(lab, {"a": entry(), **nested})
    for bad in (entry("{{ env(SECRET) }}"), entry("{{ CATALOG_DIR }}/../../secret.npy"), {"cls": "os.system"}):
        written(lab / "sub", {"deep": bad})
        catalog = open_catalog(path)  # what is in it is not read before it is used
        with pytest.raises(CatalogError, match=r"sources\.deep"):
            catalog["sub"]
        assert any("deep" in p.where for p in validate(path))
    written(lab / "sub", {"deep": entry("{{ CATALOG_DIR }}/../a.npy")})  # out of its folder, but not of the root
    catalog = open_catalog(path)
    assert validate(path) == []
    for found in (catalog.sub.deep, catalog["sub.deep"], catalog["sub", "deep"], catalog["sub"]["deep"]):
        assert found.read()["image"][0, 0] == 7
    assert "sub.deep" in catalog
    assert "sub.nothing" not in catalog
    assert list(catalog.walk()) == ["a", "sub", "sub.deep"]
    assert list(catalog.walk(1)) == ["a", "sub"]
    (lab / "sub" / "catalog.yml").unlink()
    (problem,) = validate(path)
    assert problem.where == "sources.sub"
    assert "no file" in problem.reason


def test_catalogs_that_contain_themselves(lab):
    nested = {"again": {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/catalog.yml"}}}
    path = written(lab, nested)
    catalog = open_catalog(path)
    with pytest.raises(CatalogError, match="contains itself"):
        catalog["again"]
    with pytest.raises(CatalogError, match="contains itself"):
        catalog.walk()
    assert "contains itself" in validate(path)[0].reason


def test_catalogs_nested_without_end(lab):
    for n in range(12):
        more = {"more": {"driver": "yaml_file_cat", "args": {"path": f"{{{{ CATALOG_DIR }}}}/c{n + 1}.yml"}}}
        (lab / f"c{n}.yml").write_text(yaml.safe_dump({"sources": more}))
    with pytest.raises(CatalogError, match="nested more than"):
        open_catalog(lab / "c0.yml").walk(100)
    assert validate(lab / "c0.yml")


def test_a_catalog_that_branches_without_end_is_no_trap(lab):
    for n in range(7):
        more = {
            f"m{k}": {"driver": "yaml_file_cat", "args": {"path": f"{{{{ CATALOG_DIR }}}}/c{n + 1}.yml"}}
            for k in range(8)
        }
        (lab / f"c{n}.yml").write_text(yaml.safe_dump({"sources": more if n < 6 else {}}))
    begun = time.process_time()
    assert validate(lab / "c0.yml") == []  # every file is read once
    assert time.process_time() - begun < 5
    begun = time.process_time()
    assert len(open_catalog(lab / "c0.yml").walk(3)) == 8 + 8 + 8
    found = open_catalog(lab / "c0.yml").walk(100)
    assert len(found) == 6 * 8
    assert "m0.m0.m7" in found
    assert time.process_time() - begun < 5


# roots and schemes


def test_roots_and_schemes_widen_the_limits(lab, tmp_path):
    path = written(lab, {"x": entry("{{ CATALOG_DIR }}/../secret.npy")})
    assert open_catalog(path, roots=[tmp_path]).x.read()["image"][0, 0] == 42
    with pytest.raises(CatalogError, match="outside"):
        open_catalog(path, roots=[])
    with pytest.raises(CatalogError, match="outside"):
        open_catalog(path, roots=[tmp_path / "la"])  # a prefix of the name is not a folder
    path = written(lab, {"x": entry("https://example.org/a.npy")})
    assert open_catalog(path, schemes=["https"]).x.uri == "https://example.org/a.npy"
    assert open_catalog(path, roots="https://example.org").x.uri == "https://example.org/a.npy"
    for other in ("https://example.org.evil.net", "https://example.org/b", "http://example.org"):
        with pytest.raises(CatalogError, match="scheme"):
            open_catalog(path, roots=[other])
    for climbing in (
        "https://example.org/b/../a.npy",
        "https://example.org/b/%2e%2e/a.npy",
        "https://example.org/b/%252e%252e/a.npy",
        "https://example.org/b/..%5ca.npy",
    ):
        path = written(lab, {"x": entry(climbing)})
        with pytest.raises(CatalogError, match=r"'\.\.'"):
            open_catalog(path, roots=["https://example.org/b"])


def test_catalogs_on_other_file_systems():
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe(
        "/lab/catalog.yml",
        b"sources:\n  a: {driver: npy, args: {uri: '{{ CATALOG_DIR }}/a.npy'}}\n"
        b"  out: {driver: npy, args: {uri: 'memory://other/a.npy'}}\n",
    )
    try:
        with pytest.raises(CatalogError, match=r"sources\.out"):
            open_catalog("memory://lab/catalog.yml")
        fs.pipe("/lab/catalog.yml", fs.cat("/lab/catalog.yml").split(b"  out")[0])
        import io

        stream = io.BytesIO()
        np.save(stream, plane(5))
        fs.pipe("/lab/a.npy", stream.getvalue())
        assert open_catalog("memory://lab/catalog.yml").a.read()["image"][0, 0] == 5
        fs.pipe("/lab/large.yml", b" " * (33 * 2**20))
        with pytest.raises(CatalogError, match="32 MiB"):
            open_catalog("memory://lab/large.yml")
    finally:
        fs.rm("/lab", recursive=True)


def test_trusted_catalogs_are_intakes(lab):
    path = written(lab, {"a": entry("{{ CATALOG_DIR ~ '/a.npy' }}")})  # a template that only Jinja knows
    with pytest.raises(CatalogError, match="template"):
        open_catalog(path)
    catalog = open_catalog(path, trusted=True)
    assert isinstance(catalog, intake.catalog.Catalog)
    assert catalog.a.read()["image"][0, 0] == 7
    with pytest.raises(ValueError, match="roots"):
        open_catalog(path, trusted=True, roots=[lab])


# what a catalog that was opened can do


@pytest.fixture
def days(lab):
    for day in ("monday", "tuesday"):
        (lab / day).mkdir()
        for n in range(3):
            np.save(lab / day / f"im{n}.npy", plane(n + (10 if day == "tuesday" else 0)))
    parameters = {
        "day": {"description": "Which day", "type": "str", "default": "monday", "allowed": ["monday", "tuesday"]},
        "n": {"description": "Which image", "type": "int", "default": 1, "min": 0, "max": 2},
    }
    sources = {
        "a": entry(description="The first image", metadata={"contact": "Core facility"}),
        "p": entry("{{ CATALOG_DIR }}/{{ day }}/im{{ n }}.npy", parameters=parameters),
        "free": entry("{{ CATALOG_DIR }}/{{ day | default('monday') }}/im0.npy"),
        "needed": entry("{{ CATALOG_DIR }}/{{ day }}/im0.npy", parameters={"day": {"description": "", "type": "str"}}),
    }
    return written(lab, sources, name="days", description="Images by day")


def test_parameters(days):
    catalog = open_catalog(days)
    entry = catalog.entries["p"]
    assert catalog.p.read()["image"][0, 0] == 1
    assert entry(day="tuesday", n="2").read()["image"][0, 0] == 12
    assert catalog.p(day="tuesday").read()["image"][0, 0] == 11  # as with Intake
    assert entry(chunks={"y": 2}).to_dask()["image"].data.numblocks == (2, 1)
    assert catalog.entries["free"](day="tuesday").read()["image"][0, 0] == 10
    assert catalog.entries["needed"](day="tuesday").read()["image"][0, 0] == 10
    with pytest.raises(CatalogError, match="no parameter 'day'"):
        catalog["needed"]
    for wrong, word in (
        ({"day": "sunday"}, "monday, tuesday"),
        ({"n": 3}, "from 0 to 2"),
        ({"n": "x"}, "type int"),
        ({"day": "../../x"}, "monday"),
        ({"m": 1}, "no parameter or option 'm'"),
        ({"uri": "/etc/passwd"}, "outside"),
        ({"n": float("nan")}, "int"),
    ):
        with pytest.raises(CatalogError, match=word):
            entry(**wrong)
    for escape in ("..", "../..", "monday/../..", "../lab2"):
        with pytest.raises(CatalogError, match="outside"):
            catalog.entries["free"](day=escape)
    for harmless in ("/etc", "{{ x }}", "~"):  # folders of the catalog's, which do not exist
        with pytest.raises(FileNotFoundError):
            catalog.entries["free"](day=harmless).read()


@pytest.mark.filterwarnings("ignore:Shell command")  # Intake says so of every text
def test_the_same_as_with_intake(days):
    ours, theirs = open_catalog(days), intake.open_catalog(str(days))
    for name in ("a", "p", "free"):
        assert ours[name].read().identical(theirs[name].read())
        assert ours[name] == theirs[name]
        assert ours[name].description == theirs[name].description or not theirs[name].description
    assert ours.p(n=2).read().identical(theirs.p(n=2).read())


def test_a_catalog_is_a_mapping(days):
    catalog = open_catalog(days)
    assert isinstance(catalog, SafeCatalog)
    assert list(catalog) == ["a", "p", "free", "needed"]
    assert len(catalog) == 4
    assert (catalog.name, catalog.description, catalog.metadata) == ("days", "Images by day", {"version": 1})
    assert "a" in catalog
    assert "b" not in catalog
    assert catalog.get("b") is None
    assert catalog.a.name == "a"
    assert catalog.a.description == "The first image"
    assert catalog.a is not catalog.a
    assert catalog.a.discover()["metadata"]["contact"] == "Core facility"
    assert "a" in dir(catalog)
    assert catalog._ipython_key_completions_() == list(catalog)
    text = repr(catalog)
    assert "<catalog 'days': 4 entries>" in text
    assert "The first image" in text
    with pytest.raises(KeyError, match="did you mean fre"):
        catalog["fre"]
    with pytest.raises(AttributeError, match="fre"):
        _ = catalog.fre
    assert imload(catalog.entries["a"])["image"][0, 0] == 7
    back = pickle.loads(pickle.dumps(catalog))
    assert back.a == catalog.a
    assert pickle.loads(pickle.dumps(catalog.a)) == catalog.a
    assert "npy" in repr(catalog.entries["a"])
    assert json.dumps(catalog.entries["p"].describe())


def test_search(days):
    catalog = open_catalog(days)
    assert list(catalog.search("FIRST image")) == ["a"]
    assert list(catalog.search("core")) == ["a"]
    assert list(catalog.search("npy")) == ["a", "p", "free", "needed"]
    assert list(catalog.search("nothing of the kind")) == []
    assert catalog.search("first").a.read()["image"][0, 0] == 7


def test_nothing_is_opened_before_it_is_used(days, watched):
    catalog = open_catalog(days)
    assert [p for _, p in watched] == [str(days)]
    catalog.walk()
    repr(catalog)
    catalog["a"]
    assert [p for _, p in watched] == [str(days)]


# templates and parameters by themselves


@examples(200)
@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_what_is_escaped_comes_back_in_both_templates(text):
    import jinja2

    assert fill(jinja_escaped(text), {}) == text
    assert jinja2.Environment().from_string(jinja_escaped(text)).render() == text


@examples(200)
@given(st.text(alphabet="{}%#'\" |ab()._x\\\n", max_size=30))
def test_what_both_templates_understand_they_understand_alike(text):
    import jinja2

    try:
        ours = fill(text, {"a": "A", "ab": "{{ a }}"})
    except CatalogError:
        return
    if "\r" not in text and not text.endswith("\n"):
        assert jinja2.Environment().from_string(text).render(a="A", ab="{{ a }}") == ours


def test_kinds_of_parameters():
    def value(given, **spec):
        return Parameter.of("p", spec).validate(given)

    assert value("3", type="int") == 3
    assert value("2.5", type="float") == 2.5
    assert value("true", type="bool") is True
    assert value(["a"], type="mlist", allowed=["a", "b"]) == ["a"]
    assert value([1, 2], type="list") == [1, 2]
    assert value(3) == "3"
    for wrong, spec in (
        ("x", {"type": "bool"}),
        (["c"], {"type": "mlist", "allowed": ["a"]}),
        ("a", {"type": "list"}),
        ({}, {}),
        (1e400, {"type": "int"}),
        ([1], {"type": "list", "min": 0}),
    ):
        with pytest.raises(CatalogError):
            value(wrong, **spec)
    with pytest.raises(CatalogError, match="one of 1, 2"):
        Parameter.of("p", {"type": "int", "default": 3, "allowed": [1, 2]})


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=12,
    )
)
def test_plain_data_is_read_as_others_read_it(tmp_path, data):
    path = tmp_path / "data.yml"
    path.write_text(yaml.safe_dump({"metadata": data}, allow_unicode=True), encoding="utf-8", newline="")
    assert read_document(File(str(path))).data == yaml.safe_load(path.read_text(encoding="utf-8"))


# what a scan finds


@pytest.fixture
def many(tmp_path):
    """A folder as labs have it."""
    folder = tmp_path / "data"
    for name in ("", "day 1", "day 2/raw"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for t in range(3):
        for c in range(2):
            tifffile.imwrite(folder / "day 1" / f"cells_t{t:03d}_ch{c}.tif", plane(10 * t + c))
    for n in (1, 2, 10):
        Image.fromarray(plane(n)).save(folder / "day 1" / f"scan{n}.png")
    facts = {"axes": "ZCYX", "spacing": 0.5, "unit": "um"}
    stack = np.arange(3 * 2 * 4 * 5, dtype="uint16").reshape(3, 2, 4, 5)
    for name in ("stack.tif", "day 2/raw/stack.tif"):
        tifffile.imwrite(folder / name, stack, imagej=True, resolution=(5.0, 5.0), metadata=facts)
    parts = xr.Dataset({"image": (("i", "c", "y", "x"), stack)}, coords={"c": ["a", "b/c"]})
    imsave(parts, folder / "day 2" / "parts.tif", partition="yx")
    imsave(parts, folder / "store.zarr")
    (folder / "broken.tif").write_bytes(b"II*\0 and nothing")
    (folder / "notes.txt").write_text("not an image")
    (folder / "readme").write_text("not an image either")
    (folder / ".hidden.tif").write_bytes(b"")
    return folder


def test_a_scan_finds_files_series_parts_and_stores(many):
    found = scan(many)
    assert list(found) == ["cells", "scan", "parts", "raw_stack", "image_stack", "store"] or list(found)
    by_axes = {n: dict(s.dataset(chunks=None).sizes) for n, s in found.items()}
    assert by_axes["cells"] == {"t": 3, "c": 2, "y": 4, "x": 5}
    assert by_axes["scan"] == {"i": 3, "y": 4, "x": 5}
    assert by_axes["parts"] == {"i": 3, "c": 2, "y": 4, "x": 5}
    assert by_axes["store"] == {"i": 3, "c": 2, "y": 4, "x": 5}
    assert [n for n in found if "stack" in n] == [n for n in by_axes if by_axes[n] == {"c": 2, "z": 3, "y": 4, "x": 5}]
    assert len(found) == 6
    assert found["parts"].dataset()["c"].values.tolist() == ["a", "b/c"]
    assert found["scan"].dataset()["image"][:, 0, 0].values.tolist() == [1, 2, 10]
    assert list(found.skipped) == [str(many / "broken.tif")]
    assert "no page" in found.skipped[str(many / "broken.tif")]
    assert "6 images, 1 skipped, 2 other files" in repr(found)
    assert f"no image {many}/notes.txt: no driver reads .txt files" in repr(found)
    assert found.others.keys() == {str(many / "notes.txt"), str(many / "readme")}
    for source in found.values():
        source.close()


def test_a_scan_reads_no_pixels(many, monkeypatch):
    from intake_img.formats.reading import FileReader

    monkeypatch.setattr(FileReader, "read_into", None)
    assert len(scan(many)) == 6


def test_scan_within_limits(many):
    assert list(scan(many, recursive=False)) == ["stack", "store"]
    assert not [n for n in scan(many, exclude=["day*", "*.zarr"]) if n not in ("stack",)]
    seen = []
    scan(many, progress=seen.append)
    assert len(seen) >= 6
    with pytest.raises(NotADirectoryError):
        scan(many / "stack.tif")


def test_series_that_are_none_stay_single(tmp_path):
    for n, shape in enumerate(((4, 5), (4, 6), (4, 5))):
        np.save(tmp_path / f"im{n}.npy", np.zeros(shape))  # different shapes
    for name in (
        "x1.npy",
        "x2.npy",
        "y1.npy",
        "y01.npy",
        "y2.npy",
    ):  # neither two files nor ambiguous names make a series
        np.save(tmp_path / name, plane())
    for t in (1, 5, 9):
        np.save(tmp_path / f"t{t}_z{t}.npy", plane())  # a diagonal is not a grid
    for n in range(3):
        np.save(tmp_path / f"vol_t{n}.npy", np.zeros((2, 2, 3, 4, 5)))  # these have a t themselves
    assert len(scan(tmp_path)) == 14


def test_files_of_several_scenes_are_no_series(tmp_path):
    for n in range(3):
        with tifffile.TiffWriter(tmp_path / f"im{n}.ome.tif", ome=True) as tif:
            for k in range(2):
                tif.write(np.full((64, 64), k, "uint8"), metadata={"axes": "YX", "Name": f"scene {k}"})
    found = scan(tmp_path)
    assert [s.description for s in found.values()] == ["2 scenes, the first: y 64, x 64, uint8"] * 3


def test_series_with_gaps_are_filled(tmp_path):
    for t in range(4):
        for c in range(2):
            if (t, c) != (2, 1):
                np.save(tmp_path / f"a_t{t}_c{c}.npy", plane(1))
    found = scan(tmp_path)
    assert found["a"].missing == "fill"
    assert found["a"].read()["image"].sel(t=2, c=1).values.max() == 0


def test_series_of_two_where_the_names_say_so(tmp_path):
    for c in (0, 1):
        np.save(tmp_path / f"a_ch{c}.npy", plane(c))
    (source,) = scan(tmp_path).values()
    assert source.read()["image"].dims == ("c", "y", "x")


def test_links_and_interrupted_writes_are_reported(tmp_path):
    folder = tmp_path / "data"
    (folder / ".x.tif.partial").mkdir(parents=True)
    np.save(tmp_path / "out.npy", plane())
    np.save(folder / "a.npy", plane())
    (folder / "link.npy").symlink_to(tmp_path / "out.npy")
    (folder / "same.npy").symlink_to(folder / "a.npy")
    (folder / "loop").symlink_to(folder)
    found = scan(folder)
    assert list(found) == ["a", "same"]
    assert "symbolic link" in found.skipped[str(folder / "link.npy")]
    assert "interrupted" in found.skipped[str(folder / ".x.tif.partial")]


def test_names_that_are_no_text_are_reported(tmp_path):
    np.save(tmp_path / "a.npy", plane())
    os.rename(tmp_path / "a.npy", os.fsencode(str(tmp_path)) + b"/\xff.npy")
    found = scan(tmp_path)
    assert not found
    assert "UTF-8" in next(iter(found.skipped.values()))


def test_names_of_entries():
    paths = ["a b.tif", "a-b.tif", "x/c.ome.tif", "y/c.ome.tif", "1.tif", "class.tif", "walk.tif", "ü µ.tif", "%.tif"]
    names = unique_names(paths)
    assert len({n.casefold() for n in names}) == len(paths)
    assert all(n.isidentifier() for n in names)
    assert names[2:7] == ["x_c", "y_c", "image_1", "class_image", "walk_image"]
    assert unique_names(["A.tif", "a.tif"]) == ["A", "a_2"]


@examples(100)
@given(st.lists(st.text(max_size=12), max_size=8, unique=True))
def test_names_are_unique_identifiers(paths):
    names = unique_names(paths)
    assert len({n.casefold() for n in names}) == len(paths)
    assert all(n.isidentifier() for n in names)


# what is written


def test_a_catalog_of_a_scan(many):
    path = many / "catalog.yml"
    found = scan(many)
    changes = write_catalog(found, path)
    assert changes.added == list(found)
    text = path.read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    why = found.skipped[str(many / "broken.tif")]
    assert data["metadata"] == {"skipped": {"count": 1, "files": {"broken.tif": why}}, "version": 1}
    assert str(many) not in text
    assert list(data["sources"]) == list(found)
    for name, source in data["sources"].items():
        assert list(source) == ["driver", "description", "args", "metadata"]
        assert source["args"]["uri"].startswith("{{ CATALOG_DIR }}/")
        facts = source["metadata"]["scanned"]
        ds = imload(found[name])
        assert facts["axes"] == "".join(ds["image"].dims)
        assert facts["shape"] == list(ds["image"].shape)
        assert facts["dtype"] == str(ds["image"].dtype)
        assert facts.get("spacing", {}).items() <= ds.img.spacing.items()
    assert data["sources"]["cells"]["args"]["uri"] == "{{ CATALOG_DIR }}/day 1/cells_t{t:03d}_ch{c:d}.tif"
    stack = next(s for n, s in data["sources"].items() if "stack" in n)
    assert stack["metadata"]["scanned"]["units"] == {"z": "µm", "y": "µm", "x": "µm"}
    assert "z 3 (every 0.5 µm)" in stack["description"]
    assert validate(path) == []
    ours, theirs = open_catalog(path), intake.open_catalog(str(path))
    for name in found:
        one, other = ours[name].read(), theirs[name].read()
        assert one.identical(other)
        assert one.equals(found[name].read())
    moved = many.parent / "elsewhere"
    many.rename(moved)
    assert open_catalog(moved / "catalog.yml").cells.read()["image"].shape == (3, 2, 4, 5)


def test_scanning_again_changes_nothing(many):
    path = many / "catalog.yml"
    write_catalog(scan(many), path)
    before = path.read_bytes()
    changes = write_catalog(scan(many), path, update=True)
    assert (changes.added, changes.refreshed, changes.missing) == ([], [], [])
    assert path.read_bytes() == before
    with pytest.raises(TargetExistsError):
        write_catalog(scan(many), path)
    write_catalog(scan(many), path, overwrite=True)
    assert path.read_bytes() == before


def test_every_file_is_an_image_or_accounted_for(many, capsys):
    """Also those that belong to an image beside them, are of unknown kind, or are mended later."""
    header = "ObjectType = Image\nNDims = 2\nDimSize = 3 2\nElementType = MET_UCHAR\nElementDataFile = brain.dat\n"
    (many / "brain.mhd").write_text(header)
    (many / "brain.dat").write_bytes(bytes(6))
    (many / "évil\n.tif").write_bytes(b"II*\0")
    found = scan(many)
    files = {str(p) for p in many.rglob("*") if p.is_file() and ".zarr" not in str(p) and p.name[0] != "."}
    named = {f for source in found.values() for f in getattr(source, "files", [source.uri])}
    assert named - {str(many / "store.zarr")} | found.skipped.keys() | found.others.keys() == files
    assert "it may belong to brain.mhd" in found.others[str(many / "brain.dat")]
    path = many.parent / "catalog.yml"
    assert main(["scan", str(many), "-o", str(path)]) == 0
    told = capsys.readouterr()
    assert "2 skipped, 3 other files" in told.out
    assert told.err.count("intake-img: skipped") == 2
    assert told.err.count("intake-img: no image") == 3
    assert "2 skipped" in repr(open_catalog(path))
    assert "2 skipped" in open_catalog(path)._repr_html_()
    assert validate(path) == []
    (many / "broken.tif").unlink()
    assert main(["scan", str(many), "-o", str(path)]) == 0
    assert "1 skipped" in repr(open_catalog(path))
    assert f"data/{'évil'}" in path.read_text(encoding="utf-8")
    (many / "évil\n.tif").unlink()
    write_catalog(scan(many), path, update=True)
    assert open_catalog(path).metadata == {"version": 1}


def test_what_people_edited_stays(many):
    path = many / "catalog.yml"
    write_catalog(scan(many), path)
    text = path.read_text(encoding="utf-8")
    text = "# Our data; ask before you delete\n" + text
    text = text.replace("  store:\n", "  # the best one\n  mine:   # renamed\n")
    text = text.replace(
        "  scan:\n    driver: filepattern\n    description:",
        "  scan:\n    driver: filepattern\n    description: PNGs # was:",
    )
    text = text.replace(
        "      scanned: {axes: czyx,", "      spacing: {z: 0.7}  # measured\n      scanned: {axes: czyx,", 1
    )
    path.write_text(text, encoding="utf-8")
    edited = yaml.safe_load(text)
    assert "mine" in edited["sources"]
    # a longer series, a new file, one that is gone, another dtype
    Image.fromarray(plane(11)).save(many / "day 1" / "scan11.png")
    np.save(many / "day 1" / "new.npy", plane())
    (many / "day 2" / "raw" / "stack.tif").unlink()
    imsave(xr.Dataset({"image": (("z", "y", "x"), np.zeros((2, 4, 5), "uint8"))}), many / "store.zarr", overwrite=True)
    changes = write_catalog(scan(many), path, update=True)
    assert changes.added == ["new"]
    assert sorted(changes.refreshed) == ["mine", "scan"]
    assert len(changes.missing) == 1
    assert "stack" in changes.missing[0]
    after = path.read_text(encoding="utf-8")
    sources = yaml.safe_load(after)["sources"]
    assert "# Our data; ask before you delete\n" in after
    assert "  # the best one\n  mine:   # renamed\n" in after
    assert "  # measured\n" in after
    assert list(sources)[:2] == ["cells", "new"]
    assert [n for n in sources if n != "new"] == list(edited["sources"])
    assert sources["scan"]["description"] == "PNGs"  # edited: stays
    assert sources["scan"]["metadata"]["scanned"]["shape"] == [4, 4, 5]
    assert sources["mine"]["description"] == "z 2, y 4, x 5, uint8"  # nobody's: brought up to date
    for name, source in edited["sources"].items():
        if name not in ("scan", "mine"):
            assert sources[name] == source
    corrected = next(s for s in sources.values() if s["metadata"].get("spacing"))
    name = next(n for n, s in sources.items() if s is corrected)
    if name not in changes.missing:
        assert open_catalog(path)[name].to_dask().img.spacing["z"] == 0.7
    assert write_catalog(scan(many), path, update=True).refreshed == []
    assert path.read_text(encoding="utf-8") == after


@pytest.mark.parametrize(
    "text",
    [
        "metadata: {version: 1}\nsources: {}\n",
        "sources:\n",
        "sources: null # none yet\n",
        "metadata:\n  version: 1\n",
        "sources: {}\nmetadata: {version: 1}\n",
        "{}\n",
        "sources:\n    old:\n        driver: npy\n        args: {uri: b.npy}",
        "sources:\n  old: {driver: npy, args: {uri: b.npy}}  # mine\n\n# the end\n",
        "sources:\n  old:\n    driver: npy\n    args:\n      uri: b.npy\nmetadata:\n  version: 1\n",
    ],
)
def test_adding_to_catalogs_of_any_shape(text, lab):
    path = lab / "catalog.yml"
    path.write_text(text)
    if text == "{}\n":
        path.write_text("metadata: {}\n")
    write_catalog(scan(lab), path, update=True)
    data = yaml.safe_load(path.read_text())
    assert data["sources"]["a"]["args"]["uri"] == "{{ CATALOG_DIR }}/a.npy"
    assert ("old" in data["sources"]) == ("old" in text)
    assert "#" not in text or text.split("#")[1].split("\n")[0] in path.read_text()
    assert intake.open_catalog(str(path)).a.read()["image"][0, 0] == 7


def test_what_is_no_catalog_is_left_alone(lab):
    path = lab / "catalog.yml"
    for text in ("- a\n- b\n", "sources: [1]\n", "a: [}"):
        path.write_text(text)
        with pytest.raises(CatalogError):
            write_catalog(scan(lab), path, update=True)
        assert path.read_text() == text
    with pytest.raises(ValueError, match="one of them"):
        write_catalog({}, path, update=True, overwrite=True)


def test_entries_by_hand(lab):
    path = lab / "c.yml"
    sources = {
        "one": intake.open_npy(str(lab / "a.npy"), metadata={"spacing": {"x": 2.0}}),
        "two": {"driver": "npy", "args": {"uri": "{{ CATALOG_DIR }}/a.npy"}},
        "more": {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/d.yml"}},
    }
    write_catalog(sources, path)
    write_catalog([intake.open_npy(str(lab / "a.npy"))], lab / "d.yml")
    catalog = open_catalog(path)
    assert catalog.one.to_dask().img.spacing == {"x": 2.0}
    assert catalog.two.read()["image"][0, 0] == 7
    assert catalog.more.a.read()["image"][0, 0] == 7
    write_catalog(intake.open_imagelist([str(lab / "a.npy")] * 2, axis="t"), lab / "e.yml")
    (name,) = open_catalog(lab / "e.yml")
    assert open_catalog(lab / "e.yml")[name].read()["image"].shape == (2, 4, 5)
    write_catalog([], lab / "f.yml")
    assert len(open_catalog(lab / "f.yml")) == 0
    for wrong in ({"x": 3}, {1: sources["one"]}, [3], {"x": {"args": {}}}):
        with pytest.raises((TypeError, CatalogError)):
            write_catalog(wrong, lab / "g.yml")
    assert not (lab / "g.yml").exists()


@pytest.mark.parametrize(
    "name",
    [
        "C{#1}",
        "{% a",
        "{{x}}",
        "a'b\"c",
        "# no comment",
        "a: b",
        "- x",
        "%20",
        "100%",
        "[1-3]",
        "a*b?",
        "{i}",
        "é µ 中",
        "~x",
        "a\rb",
        "a\nb",
        "@1",
        "a@0",
        "&x",
        "*x",
        "!x",
        "null",
        "  spaces  ",
        "a::b",
        "http:",
        "a....",
        "\\n",
        "{{ '{{' }}",
        "{{{{%",
        "yes",
        "1e3",
        "0x1",
        "env(HOME)",
        "shell(ls)",
    ],
)
def test_any_name_of_a_file(name, tmp_path):
    np.save(tmp_path / "x.npy", plane(3))
    (tmp_path / "x.npy").rename(tmp_path / f"{name}.npy")
    path = tmp_path / "c.yml"
    write_catalog(scan(tmp_path), path)
    for catalog in (open_catalog(path), intake.open_catalog(str(path))):
        (entry,) = list(catalog)
        assert entry.isidentifier()
        assert catalog[entry].read()["image"][0, 0] == 3


@pytest.mark.parametrize("name", ["C{#1}_", "{% a ", "{{x}} ", "[1-3] ", "a*b? ", "{i} ", "{ ", "} ", "a{{", "%20 "])
def test_any_name_of_a_series(name, tmp_path):
    for n in range(3):
        np.save(tmp_path / "x.npy", plane(n))
        (tmp_path / "x.npy").rename(tmp_path / f"{name}{n}.npy")
    path = tmp_path / "c.yml"
    write_catalog(scan(tmp_path), path)
    for catalog in (open_catalog(path), intake.open_catalog(str(path))):
        if name == "[1-3] ":  # two numbers of three are the same
            assert list(yaml.safe_load(path.read_text())["sources"])
        (entry,) = list(catalog)
        assert catalog[entry].read()["image"][:, 0, 0].values.tolist() == [0, 1, 2]


def test_series_in_folders_with_names_like_patterns(tmp_path):
    folder = tmp_path / "a[1]{x}"
    folder.mkdir()
    for n in range(3):
        np.save(folder / f"s{n}.npy", plane(n))
    for path in (tmp_path / "c.yml", folder / "c.yml"):
        write_catalog(scan(folder), path)
        for catalog in (open_catalog(path), intake.open_catalog(str(path))):
            (entry,) = list(catalog)
            assert catalog[entry].read()["image"][:, 0, 0].values.tolist() == [0, 1, 2]


def test_images_that_are_not_below_the_catalog(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "catalogs" / "x" / "y").mkdir(parents=True)
    np.save(tmp_path / "data" / "a.npy", plane())
    found = scan(tmp_path / "data")
    write_catalog(found, tmp_path / "catalogs" / "c.yml")
    assert "{{ CATALOG_DIR }}/../data/a.npy" in (tmp_path / "catalogs" / "c.yml").read_text()
    assert open_catalog(tmp_path / "catalogs" / "c.yml", roots=[tmp_path]).a.read()["image"].shape == (4, 5)
    write_catalog(found, tmp_path / "catalogs" / "x" / "y" / "c.yml")
    assert f"uri: {tmp_path}/data/a.npy" in (tmp_path / "catalogs" / "x" / "y" / "c.yml").read_text()


def test_real_files(data, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("czi", "ometiff", "lsm", "png_jpg_gif", "omezarr_v05"):
        (folder / name).symlink_to(data / name)
    found = {name: scan(folder / name) for name in ("czi", "lsm", "png_jpg_gif", "omezarr_v05")}
    assert all(found.values())
    for name, images in found.items():
        path = tmp_path / f"{name}.yml"
        write_catalog(images, path)
        catalog = open_catalog(path, roots=[data])
        assert list(catalog) == list(images)
        one = catalog[next(iter(catalog))]
        assert one.to_dask().sizes == images[next(iter(images))].to_dask().sizes


def test_a_scan_is_fast(tmp_path):
    for n in range(3000):
        (tmp_path / f"im_t{n:04d}.npy").write_bytes(b"")
    np.save(tmp_path / "x.npy", plane())
    raw = (tmp_path / "x.npy").read_bytes()
    for n in range(3000):
        (tmp_path / f"im_t{n:04d}.npy").write_bytes(raw)
    begun = time.process_time()
    found = scan(tmp_path)
    assert time.process_time() - begun < 3
    assert dict(found["im"].dataset(chunks=None).sizes) == {"t": 3000, "y": 4, "x": 5}
    path = tmp_path / "c.yml"
    write_catalog({f"e{n}": entry(f"{{{{ CATALOG_DIR }}}}/im_t{n:04d}.npy") for n in range(3000)}, path)
    begun = time.process_time()
    assert len(open_catalog(path)) == 3000
    assert time.process_time() - begun < 5


def test_sentences():
    facts = {"axes": "cyx", "shape": [2, 4, 5], "dtype": "uint8", "channels": ["DAPI", "GFP"], "scenes": ["a", "b"]}
    assert sentence(facts) == "2 scenes, the first: c 2 (DAPI, GFP), y 4, x 5, uint8"
    wells = {"axes": "row,column,y,x", "shape": [2, 3, 4, 5], "dtype": "uint8"}
    assert sentence(wells) == "row 2, column 3, y 4, x 5, uint8"


# shipped catalogs


@pytest.mark.filterwarnings("ignore:Shell command")
def test_the_template_of_a_lab(tmp_path):
    for name in ("lab-template.yml", "lab-template-plates.yml"):
        (tmp_path / name).write_bytes((CATALOGS / name).read_bytes())
    path = tmp_path / "lab-template.yml"
    assert validate(path) == []
    day = tmp_path / "data" / "2024-05-17"
    for t in range(3):
        for c in ("DAPI", "GFP"):
            if (t, c) != (1, "GFP"):
                day.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(day / f"timelapse_t{t:03d}_{c}.tif", plane(t + 1))
    Image.fromarray(plane(9)).save(day / "overview.png")
    stack = np.arange(2 * 2 * 4 * 5, dtype="uint16").reshape(2, 2, 4, 5)
    imsave(xr.DataArray(stack, dims=list("czyx")), day / "embryo_02.czi")
    imsave(xr.DataArray(stack, dims=list("czyx")), tmp_path / "data" / "plates" / "P0001.ome.zarr")
    imsave(xr.DataArray(stack, dims=list("czyx")), tmp_path / "data" / "plates" / "P0001_nuclei.ome.tif")
    for catalog in (open_catalog(path), intake.open_catalog(str(path))):
        assert dict(catalog.timelapse.to_dask().sizes) == {"t": 3, "c": 2, "y": 4, "x": 5}
        assert catalog.overview.read()["image"][0, 0] == 9
        embryo = catalog.embryo(number="02").to_dask()
        assert embryo.img.channels == ["nuclei", "membranes"]
        assert embryo.img.spacing["z"] == 2.0
        assert catalog.plates.raw.read()["image"].shape == (2, 2, 4, 5)
        assert catalog["plates.segmentation"].read()["image"].shape == (2, 2, 4, 5)
        with pytest.raises(ValueError, match="04"):
            catalog.embryo(number="04")


# commands


def test_commands(many, capsys, monkeypatch):
    monkeypatch.chdir(many)
    assert main(["scan", ".", "--exclude", "day 2/*"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{many}/catalog.yml: 4 added, 0 refreshed, 0 kept, 0 missing, 1 skipped")
    assert "broken.tif" in err
    assert main(["scan", str(many), "-o", "catalog.yml"]) == 0
    assert "2 added, 0 refreshed, 4 kept" in capsys.readouterr().out
    assert main(["scan", ".", "-o", "other.yml", "--no-recursive"]) == 0
    assert main(["scan", ".", "-o", "other.yml", "--overwrite"]) == 0
    assert "6 added" in capsys.readouterr().out
    assert main(["validate", "catalog.yml"]) == 0
    assert "nothing to object to" in capsys.readouterr().out
    assert main(["list", "catalog.yml"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert main(["list", "catalog.yml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"]["driver"] == "filepattern"
    assert main(["search", "catalog.yml", "6", "files:", "t", "3"]) == 0
    assert capsys.readouterr().out.split()[0] == "cells"
    (many / "catalog.yml").write_text("sources: {x: {driver: npy, args: {uri: /etc/passwd}}}\n")
    assert main(["validate", "catalog.yml"]) == 1
    assert "outside" in capsys.readouterr().out
    assert main(["validate", "catalog.yml", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["line"] == 1
    assert main(["list", "catalog.yml"]) == 1
    assert capsys.readouterr().err.startswith("intake-img: error: ")
    assert main(["validate", "catalog.yml", "--root", "/etc"]) == 0
    assert main(["scan", "nowhere"]) == 1
    assert main(["list", "nowhere.yml"]) == 1


def test_the_front_door_imports_catalogs_when_they_are_used():
    code = (
        "import sys, intake_img\nassert 'intake_img.catalog' not in sys.modules\n"
        "assert {'scan', 'open_catalog', 'write_catalog'} <= set(dir(intake_img))\n"
        "from intake_img import scan\nassert 'intake_img.catalog' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError):
        _ = intake_img.nothing


# further ways out of a catalog's folder


@pytest.mark.parametrize(
    "source",
    [
        entry("file://host{secret}", "img"),
        entry("FILE://LOCALHOST/%2e%2e{secret}", "img"),
        entry("file:{secret}", "img"),
        entry("SimpleCache::file://{secret}", "img"),
        entry("dir::{secret}", "img"),
        entry("ZIP://s.npy::file://{secret}", "img"),
        entry("{{ CATALOG_DIR }}/a.npy@{secret}", "img"),
        entry("{{ CATALOG_DIR }}/out/../out/secret.npy@0", "img"),
        entry("{{ CATALOG_DIR }}/..%2fsecret.npy", "img"),
        entry("{{ CATALOG_DIR }}\\..\\secret.npy", "img"),
        entry("{{ CATALOG_DIR }}/{var}/secret.npy", "filepattern"),
        entry("{{ CATALOG_DIR }}/[o][u][t]/secret.npy", "filepattern"),
        entry("{{ CATALOG_DIR }}/**/secret.npy", "filepattern"),
        entry("{{ CATALOG_DIR }}/[.][.]/{var}.npy", "filepattern"),
        entry("{{ CATALOG_DIR }}/{{..}}/{var}.npy", "filepattern"),
        {"driver": "filepattern", "args": {"uri": "{{ CATALOG_DIR }}/link_{i}.npy", "start": 0, "stop": 1}},
        {"driver": "filepattern", "args": {"uri": "{{ CATALOG_DIR }}/link_{i}.npy", "start": 10**100}},
        {"driver": "directory", "args": {"uri": "{{ CATALOG_DIR }}/", "recursive": True}},
        {"driver": "directory", "args": {"uri": "{{ CATALOG_DIR }}/out"}},
        entry(["{{ CATALOG_DIR }}/a.npy", "{{ CATALOG_DIR }}/out/secret.npy"], "imagelist"),
    ],
)
def test_nothing_outside_is_opened(source, lab, watched, monkeypatch):
    monkeypatch.chdir(lab)
    secret = lab.parent / "secret.npy"
    (lab / "out").symlink_to(lab.parent)
    (lab / "link_1.npy").symlink_to(secret)
    path = lab / "catalog.yml"
    path.write_text(json.dumps({"sources": {"x": source}}).replace("{secret}", str(secret)))
    watched.clear()
    with pytest.raises((CatalogError, OSError, ValueError)):
        open_catalog(path).x.read()
    assert str(secret) not in {os.path.realpath(p) for kind, p in watched if kind != "run" and isinstance(p, str)}
    assert not [p for kind, p in watched if kind == "run"]


# series in folders


def in_folders(root, names, shape=(4, 5)):
    for k, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.full(shape, k, "u2"))


def test_folders_that_agree_are_one_series(tmp_path):
    in_folders(tmp_path, [f"pos_{i}/t_{t:02d}.tif" for i in (1, 2, 10) for t in range(9, 12)])
    (tmp_path / "pos_1" / "notes.txt").write_text("no image")
    found = scan(tmp_path)
    assert [s.uri for s in found.values()] == [f"{tmp_path}/pos_{{i:d}}/t_{{t:02d}}.tif"]
    write_catalog(found, tmp_path / "c.yml")
    for catalog in (open_catalog(tmp_path / "c.yml"), intake.open_catalog(str(tmp_path / "c.yml"))):
        ds = catalog[next(iter(found))].read()
        assert dict(ds.sizes) == {"i": 3, "t": 3, "y": 4, "x": 5}
        assert ds.i.values.tolist() == [1, 2, 10]
        assert ds.image[..., 0, 0].values.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_folders_that_disagree_stay_apart(tmp_path):
    in_folders(tmp_path, [f"pos_{i}/t_{t}.tif" for i in (1, 2) for t in range(3 + i)])
    assert [s.uri for s in scan(tmp_path).values()] == [f"{tmp_path}/pos_{i}/t_{{t:d}}.tif" for i in (1, 2)]
    in_folders(tmp_path / "pos_2", ["t_0.tif"], (7, 5))
    assert {"pos_1", "pos_2"} == {s.uri.split("/")[-2] for s in scan(tmp_path).values()}


def test_folders_within_folders(tmp_path):
    """Days do not become an axis, but the positions of each day do."""
    in_folders(tmp_path, [f"2026-01-0{d}/well 3/pos_{i}/z{z}.tif" for d in (5, 6) for i in range(2) for z in range(3)])
    found = scan(tmp_path)
    assert [s.uri for s in found.values()] == [
        f"{tmp_path}/2026-01-0{d}/well 3/pos_{{i:d}}/z{{z:d}}.tif" for d in (5, 6)
    ]
    assert all(s.description.startswith("6 files: i 2, z 3") for s in found.values())


def test_folders_and_files_with_names_like_patterns_and_templates(tmp_path):
    root = tmp_path / "a{b}[c]*? {{ x }} {% y %} {# z"
    in_folders(root, [f"pos{{1}} [*?] {i}/{{% raw %}} t{t}.tif" for i in range(2) for t in range(3)])
    found = scan(tmp_path)
    assert [len(s.files) for s in found.values()] == [6]
    write_catalog(found, tmp_path / "c.yml")
    assert not validate(tmp_path / "c.yml")
    for catalog in (open_catalog(tmp_path / "c.yml"), intake.open_catalog(str(tmp_path / "c.yml"))):
        assert catalog[next(iter(found))].read().image[..., 0, 0].values.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_parts_in_folders_are_put_together_in_each(tmp_path):
    for i in range(3):
        imsave(np.zeros((2, 4, 5), "u1"), tmp_path / f"pos_{i}" / "f.npz", partition="yx")
    assert [s.uri for s in scan(tmp_path).values()] == [f"{tmp_path}/pos_{i}/f.npz" for i in range(3)]


# what others wrote


@pytest.mark.filterwarnings("ignore")
def test_what_intake_saves_is_opened(lab):
    path = written(lab, {"a": entry(description="The first")})
    intake.open_catalog(str(path)).save(str(lab / "saved.yml"))
    assert open_catalog(lab / "saved.yml").a.read()["image"][0, 0] == 7
    from intake.readers.entry import Catalog

    catalog = Catalog()
    catalog["a"] = intake.auto_pipeline(str(lab / "a.npy"), "xarray")
    catalog.to_yaml_file(str(lab / "two.yml"))
    found = open_catalog(lab / "two.yml")
    assert list(found) == ["a"]
    assert found.a.read()["image"][0, 0] == 7
    assert validate(lab / "two.yml", open_images=True) == []
    text = (lab / "two.yml").read_text()
    for bad in (
        text.replace(str(lab), "/etc"),
        re.sub("intake_img[.a-z0-9_]*:ImgReader", "os:system", text),
        text.replace("storage_options: null", "storage_options: {a: 1}"),
    ):
        assert bad != text
        (lab / "two.yml").write_text(bad)
        with pytest.raises(CatalogError):
            open_catalog(lab / "two.yml")


def test_axes_that_are_no_names_are_refused_with_a_reason(lab):
    catalog = open_catalog(
        written(lab, {f"a{k}": entry(metadata={"axes": axes}) for k, axes in enumerate((7, True, 1.5))})
    )
    for name in catalog:
        with pytest.raises(AxesError, match="expected a text of letters"):
            catalog[name].read()


# what a scan leaves out, and says so


def test_a_scan_names_what_it_cannot_use(tmp_path):
    np.save(tmp_path / "ok.npy", plane())
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "gone.tif").symlink_to("nothing.tif")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "z.zarr").mkdir()
    os.mkfifo(tmp_path / "z.zarr" / "zarr.json")
    (tmp_path / "zero.zarr").mkdir()
    (tmp_path / "zero.zarr" / "zarr.json").symlink_to("/dev/zero")
    for name in ("a.zvi", "b.SLD", "c.oir", "d.h5", "e.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    ome = f'<OME xmlns="{namespace}"><BinaryOnly MetadataFile="%s" UUID="urn:uuid:3"/></OME>'
    for name, other in (("pipe", "pipe.png"), ("zero", "/dev/zero"), ("lost", "lost.xml"), ("self", "self")):
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane(), description=ome % other, metadata=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*(lost.xml|self) describes, which is missing")
        found = scan(tmp_path)
    assert sorted(found) == ["lost", "ok", "self"]  # without its companion a file is read as pages
    skipped = {Path(p).name: why for p, why in found.skipped.items()}
    assert set(skipped) == {
        "self",
        "gone.tif",
        "pipe.png",
        "z.zarr",
        "zero.zarr",
        "a.zvi",
        "b.SLD",
        "c.oir",
        "d.h5",
        "e.nii.gz",
        "pipe.ome.tif",
        "zero.ome.tif",
    }
    assert skipped["a.zvi"] == "Zeiss ZVI: no driver reads it"
    assert "pipe" in skipped["pipe.png"]
    assert all(name in repr(found) for name in skipped)


@pytest.mark.parametrize(
    "name", ["Index.idx.xml", "MeasurementData.mlf", "plate.HTD", "a.xdce", "experiment_descriptor.xml"]
)
def test_a_scan_names_the_index_of_a_plate(name, tmp_path, capsys):
    np.save(tmp_path / "r01c01.npy", plane())
    (tmp_path / name).write_text("<xml/>")
    found = scan(tmp_path)
    assert list(found.notes) == [str(tmp_path / name)]
    assert main(["scan", str(tmp_path)]) == 0
    assert name in capsys.readouterr().err


def test_validate_can_open_the_images(lab, capsys):
    np.save(lab / "b.npy", plane())
    path = written(
        lab,
        {
            "a": entry(),
            "b": entry("{{ CATALOG_DIR }}/b.npy"),
            "p": entry("{{ CATALOG_DIR }}/{{ day }}.npy", parameters={"day": {"description": "", "type": "str"}}),
        },
    )
    assert validate(path, open_images=True) == []
    (lab / "a.npy").unlink()
    (lab / "b.npy").write_bytes(b"nothing")
    assert validate(path) == []
    assert {p.where for p in validate(path, open_images=True)} == {"sources.a", "sources.b"}
    assert main(["validate", str(path)]) == 0
    assert "not opened" in capsys.readouterr().out
    assert main(["validate", str(path), "--open"]) == 1
    said = capsys.readouterr()
    assert "does not open" in said.out
    assert said.err == "intake-img: not opened: p: it needs a value of 'day'\n"


def test_validate_names_what_it_did_not_open(lab):
    (lab / "sub").mkdir()
    np.save(lab / "sub" / "a.npy", plane())
    needs = entry(
        "{{ CATALOG_DIR }}/{{ x }}_{{ y }}.npy",
        parameters={"x": {"description": "", "type": "str"}, "y": {"description": "", "type": "int"}},
    )
    inner = written(lab / "sub", {"a": entry(), "p": needs})
    path = written(
        lab, {"a": entry(), "sub": {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/sub/catalog.yml"}}}
    )
    unopened = {}
    assert validate(path, open_images=True, unopened=unopened) == []
    assert unopened == {f"{inner}: p": "it needs a value of 'x', 'y'"}
    written(lab / "sub", {"a": entry(), "b": entry("/etc/passwd", "img")})
    unopened.clear()
    assert [p.where for p in validate(path, open_images=True, unopened=unopened)] == ["sources.b.args"]
    assert unopened == dict.fromkeys([f"{inner}: a", f"{inner}: b"], "the catalog has problems, which come first")
    inner.unlink()
    assert [(p.file, p.where) for p in validate(path)] == [(str(path), "sources.sub")]


def test_large_catalogs_are_written_and_opened_quickly(lab):
    def one(n):
        facts = {"axes": "tcyx", "shape": [5, 2, 64, 64], "dtype": "uint16", "spacing": {"y": 0.1, "x": 0.1}}
        return entry(f"{{{{ CATALOG_DIR }}}}/im_{n}.npy", description=f"number {n}", metadata={"scanned": facts})

    path = lab / "c.yml"
    write_catalog({f"e{n}": one(n) for n in range(3000)}, path)
    begun = time.process_time()
    catalog = open_catalog(path)
    assert time.process_time() - begun < 2  # 0.2 s on an idle machine; a parser in Python takes 5 s
    assert len(catalog) == 3000
    assert catalog.entries["e2999"].metadata == one(2999)["metadata"]
    assert catalog.entries["e2999"].args == one(2999)["args"]


def test_each_of_many_entries_is_checked(lab, watched):
    """Entries that look like one that was checked before are not taken for safe."""
    good = {f"e{n}": entry() for n in range(20)}
    outside = {"description": "", "type": "str", "default": ".."}
    for bad in (
        entry("{{ CATALOG_DIR }}/../secret.npy"),
        entry("/etc/passwd"),
        entry("https://example.org/a.npy"),
        entry(["{{ CATALOG_DIR }}/a.npy"]),
        entry("{{ CATALOG_DIR }}/{{ p }}/secret.npy", parameters={"p": outside}),
    ):
        refused(written(lab, {**good, "bad": bad, "e99": entry()}), watched, "sources.bad")
    (lab / "link.npy").symlink_to(lab.parent / "secret.npy")
    refused(written(lab, {**good, "bad": entry("{{ CATALOG_DIR }}/link.npy")}), watched, "sources.bad", "outside")
    os.mkfifo(lab / "pipe.npy")
    refused(written(lab, {**good, "bad": entry("{{ CATALOG_DIR }}/pipe.npy")}), watched, "sources.bad", "pipe")


def test_the_parser_in_python_reads_the_same(lab, monkeypatch):
    text = "a: &a [1, 0x1f, 1.5, .nan, yes, ~, 2024-05-17, '1', \"x\\n\", <<]\n"
    text += "b: {<<: [{p: 1}, {p: 2, q: 3}], q: 4}\nc: *a\n"
    (lab / "c.yml").write_text(text.replace(", <<", ""))
    fast = read_document(File(str(lab / "c.yml")))
    monkeypatch.setattr("intake_img.catalog.document._LOADER", yaml.SafeLoader)
    slow = read_document(File(str(lab / "c.yml")))
    assert repr(fast.data) == repr(slow.data)
    assert fast.data["b"] == {"p": 1, "q": 4}
    assert fast.data["c"] is not fast.data["a"]
    assert [d.line(("b", "q")) for d in (fast, slow)] == [2, 2]
    (lab / "c.yml").write_text(text)
    with pytest.raises(CatalogError, match="merge"):
        read_document(File(str(lab / "c.yml")))


def test_a_catalog_elsewhere_says_how_to_open_it(tmp_path, capsys):
    for name in ("data/x", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    np.save(tmp_path / "data" / "x" / "a.npy", plane(3))
    path = tmp_path / "elsewhere" / "c.yml"
    assert main(["scan", str(tmp_path / "data"), "-o", str(path)]) == 0
    assert "roots=" in capsys.readouterr().err
    changes = write_catalog(scan(tmp_path / "data"), path, overwrite=True)
    assert open_catalog(path, roots=changes.roots).a.read()["image"][0, 0] == 3
    with pytest.raises(CatalogError, match="roots="):
        open_catalog(path)
    assert write_catalog(scan(tmp_path / "data"), tmp_path / "data" / "c.yml").roots == []


def test_a_catalog_that_could_not_be_read_again_is_not_written(lab, monkeypatch):
    monkeypatch.setattr("intake_img.catalog.write.MAX_BYTES", 1000)
    with pytest.raises(CatalogError, match="nest them"):
        write_catalog({f"e{n}": entry() for n in range(100)}, lab / "c.yml")
    assert not (lab / "c.yml").exists()


def test_names_with_signs_of_urls_are_opened_from_a_web_server(tmp_path):
    from functools import partial
    from http.server import SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    names = ["a#1", "50%", "what?", "x y", "%20", "a&b=c", "µ"]
    for n, name in enumerate(names):
        (tmp_path / f"{name}.npy").write_bytes(b"")
        with (tmp_path / f"{name}.npy").open("wb") as stream:
            np.save(stream, plane(n))
    write_catalog(scan(tmp_path), tmp_path / "c.yml")
    with running(partial(Quiet, directory=str(tmp_path))) as url:
        catalog = open_catalog(f"{url}/c.yml")
        assert len(catalog) == len(names)
        seen = sorted(int(catalog[name].read()["image"][0, 0]) for name in catalog)
        assert seen == list(range(len(names)))


@pytest.mark.parametrize(
    ("name", "fields", "entries", "sizes"),
    [
        (
            "plate_{w}_s{i}_w{c}.tif",
            {"w": ["B02", "B03", "C02"], "i": [1, 2], "c": [1, 2, 3]},
            {"plate_B02", "plate_B03", "plate_C02"},
            {"i": 2, "c": 3},
        ),
        (
            "{w}_t{t}_z{z}_ch{c}.tif",
            {"w": ["A01", "A02"], "t": ["01", "02"], "z": [1, 2], "c": [1, 2]},
            {"A01", "A02"},
            {"t": 2, "z": 2, "c": 2},
        ),
        (
            "{w}f{i}p{z}-ch{c}sk{t}fk1fl1.tiff",
            {"w": ["r02c02", "r02c03", "r03c02"], "i": ["01", "02"], "z": ["01", "02"], "c": [1, 2], "t": [1, 2]},
            {"r02c02", "r02c03", "r03c02"},
            {"i": 2, "z": 2, "c": 2, "t": 2},
        ),
        (
            "pos{i}_{c}_t{t}.tif",
            {"i": ["01", "02"], "c": ["DAPI", "GFP"], "t": ["001", "002"]},
            {"pos"},
            {"i": 2, "c": 2, "t": 2},
        ),
        ("{w}_{c}.tif", {"w": ["A1", "A2", "B1"], "c": ["Hoechst", "Cy5", "mCherry"]}, None, {"c": 3}),
        ("im_C{c}_F{i}.tif", {"c": ["01", "02"], "i": ["01", "02"]}, {"im"}, {"c": 2, "i": 2}),
    ],
)
def test_names_of_plates_and_channels_are_grouped(name, fields, entries, sizes, tmp_path):
    import itertools

    import tifffile

    for n, labels in enumerate(itertools.product(*fields.values())):
        tifffile.imwrite(tmp_path / name.format(**dict(zip(fields, labels, strict=True))), plane(n))
    found = scan(tmp_path)
    assert not found.skipped
    shown = [{a: n for a, n in one.dataset(chunks=None).sizes.items() if a not in "yx"} for one in found.values()]
    if entries is not None:
        assert set(found) == entries
        assert all(one == sizes for one in shown)
    assert sum(np.prod(list(one.values()), dtype=int) for one in shown) == n + 1  # each file once
    ordered = [one.read()["image"] for one in found.values()]
    assert sorted(int(v) for one in ordered for v in one.values[..., 0, 0].ravel()) == list(range(n + 1))
    if fields.get("c", [1])[0] == "DAPI":
        assert list(ordered[0].c.values) == ["DAPI", "GFP"]
        assert int(ordered[0].sel(c="GFP", t=2, i=1)[0, 0]) == 3
    write_catalog(found, tmp_path / "c.yml")
    assert set(open_catalog(tmp_path / "c.yml")) == set(found)


def test_files_of_common_endings_are_no_images(tmp_path):
    for name in ("a.map", "a.rec", "a.pic"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a.zvi").write_bytes(b"x")
    assert list(scan(tmp_path).skipped) == [str(tmp_path / "a.zvi")]
