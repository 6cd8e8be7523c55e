"""Faults that were once put into the code on purpose and that no test noticed."""

from __future__ import annotations

import argparse
import functools
import json

import fsspec
import mutate
import numpy as np
import pytest
import scipy.ndimage as ndi
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

import intake_img
from intake_img.errors import FormatError
from intake_img.formats.npy.driver import Npy
from intake_img.formats.tif.index import _merged
from intake_img.model.datasets import spacing_of
from intake_img.storage import local
from intake_img.storage.files import File
from intake_img.storage.staging import UnfinishedCommitError

CONTENT = np.random.default_rng(0).bytes(40_000)


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 39_000), st.integers(0, 1000)), min_size=1, max_size=6), st.booleans())
def test_ranges_inside_others_are_read_from_servers(wanted, nested):
    if nested:  # one that lies within another, and begins after it
        wanted = [*wanted, (0, 30_000), (10, 20)]
    with fsspec.open("memory://ranges.bin", "wb") as stream:
        stream.write(CONTENT)
    reader = File.parse("memory://ranges.bin").open()
    found = reader.ranges([o for o, _ in wanted], [n for _, n in wanted])
    reader.close()
    assert found == [CONTENT[o : o + n] for o, n in wanted]


def test_a_jittered_coordinate_is_not_evenly_spaced():
    even = np.arange(9) * 0.25
    jitter = np.array([0, 1, -1, 0, 1, 0, -1, 1, 0])
    for share, known in ((1e-9, True), (1e-4, False), (5e-4, False)):
        spacing = spacing_of(xr.DataArray(even + share * 0.25 * jitter, dims="x"))
        assert (spacing is not None) is known, share


def test_swapped_entries_of_a_shard_are_noticed(tmp_path):
    values = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    ds = xr.Dataset({"image": (("y", "x"), values)})
    intake_img.imsave(ds, tmp_path / "a.zarr", chunks={"y": 16, "x": 16}, shards={"y": 64, "x": 64}, compress=False)
    (shard,) = [
        p for p in (tmp_path / "a.zarr").rglob("*") if p.is_file() and "c" in p.parent.parts[-1:] + p.parts[-4:-1]
    ]
    data = bytearray(shard.read_bytes())
    start = len(data) - 4 - 16 * 16
    data[start : start + 16], data[start + 16 : start + 32] = data[start + 16 : start + 32], data[start : start + 16]
    shard.write_bytes(data)
    with pytest.raises(FormatError, match="checksum"):
        intake_img.imload(tmp_path / "a.zarr").load()


@pytest.mark.parametrize("name", ["grey_opening", "grey_closing", "white_tophat"])
def test_filters_of_two_passes_are_exact_for_small_chunks(name):
    rng = np.random.default_rng(1)
    for length in (7, 11, 20):
        values = rng.integers(0, 50, (length, length + 2)).astype("i4")
        expected = getattr(ndi, name)(values, size=2, mode="mirror")
        for chunk in (1, 2, 3, 4):
            image = xr.DataArray(values, dims=list("yx")).chunk(chunk)
            found = getattr(image.img, name)(size=2, mode="mirror")
            np.testing.assert_array_equal(found.values, expected, f"{name} {length} {chunk}")


SOURCE = '''
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import numpy
def f(a: int | None, b=2):
    """Doc."""
    if a < b and not a:  # µ
        print(a)
        raise ValueError(f"{a + 1}")
    a += 1
    return a[1:] if b else -a
class C:
    def g(self):
        return True
'''


def test_the_mutator_changes_one_place_at_a_time():
    found = [str(m).partition(": ")[2] for m in mutate.mutants(SOURCE)]
    assert found == [
        "2  ->  3",
        "a < b and (not a)  ->  True",
        "a < b and (not a)  ->  False",
        "a < b and (not a)  ->  a < b or not a",
        "a < b  ->  a <= b",
        "not a  ->  a",
        "print(a)  ->  pass",
        "a += 1  ->  a -= 1",
        "1  ->  2",
        "b  ->  True",
        "b  ->  False",
        "1  ->  2",
        "-a  ->  a",
        "True  ->  False",
    ]
    assert len({m.source for m in mutate.mutants(SOURCE)} - {SOURCE}) == len(found)
    for mutant in mutate.mutants(SOURCE):
        compile(mutant.source, "mutant", "exec")
        changed = zip(SOURCE.splitlines(), mutant.source.splitlines(), strict=True)
        assert [k for k, (old, new) in enumerate(changed, 1) if old != new] == [mutant.line]
    assert [m.after for m in mutate.mutants(SOURCE, "C")] == ["False"]


def project(folder, test):
    """A package of one module, and its test."""
    for name in ("intake_img", "tests", "catalogs"):
        (folder / name).mkdir()
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n")
    (folder / "intake_img" / "__init__.py").write_text("")
    (folder / "intake_img" / "m.py").write_text("def f(a):\n    return a if a > 1 else 4\n\n\nK = 7\n")
    (folder / "tests" / "test_m.py").write_text(f"from intake_img.m import *\ndef test():\n    assert {test}\n")


def in_this_process(folder, arguments, limit, wanted=None, notes=None):
    """Run the test in this process: another process would take a second for each change."""
    names: dict = {}
    exec((folder / "intake_img" / "m.py").read_text(), names)
    exec((folder / "tests" / "test_m.py").read_text().split("\n", 1)[1], names)
    try:
        names["test"]()
    except AssertionError:
        return "failed"
    return "passed"


@pytest.mark.parametrize(("test", "alive"), [("f(2) == 2 and f(1) == 4", 1), ("f(2) == 2", 4)])
def test_the_mutator_lists_and_logs_what_no_test_notices(tmp_path, monkeypatch, capsys, test, alive):
    project(tmp_path, test)
    log = tmp_path / "log.jsonl"
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    monkeypatch.setattr(mutate, "run", in_this_process)
    monkeypatch.setattr(mutate, "learn", lambda *given: mutate.Learnt({}, {"test": 1.0}))
    arguments = ["intake_img/m.py", "--log", str(log)]
    assert mutate.main(arguments) == alive
    assert "line 5: 7  ->  8" in capsys.readouterr().out
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 6
    assert sum(row["result"] == "survived" for row in rows) == alive
    assert {row["module"] for row in rows} == {"intake_img/m.py"}
    assert mutate.main(arguments) == 0  # all is known
    (tmp_path / "tests" / "test_m.py").write_text("\ndef test():\n    assert (f(2), f(1), K) == (2, 4, 7)\n")
    assert mutate.main([*arguments, "--again"]) == 0  # only those that survived are tried, and all are noticed now
    again = [json.loads(line)["result"] for line in log.read_text().splitlines()]
    assert again[6:] == ["killed"] * alive
    assert mutate.main([*arguments, "--minutes", "1e-9", "--sample", "2"]) == 0


@pytest.mark.thorough
def test_the_mutator_runs_tests_in_processes_that_end(tmp_path, monkeypatch):
    project(tmp_path, "f(2) == 2")
    monkeypatch.setattr(mutate, "HEAVY", [])
    given = argparse.Namespace(seconds=60, longest=9e9)
    learnt = mutate.learn(tmp_path, "intake_img/m.py", ["tests/test_m.py"], given)
    assert learnt.lines[2] == {"tests/test_m.py::test"}
    assert learnt.seconds.keys() == {"tests/test_m.py::test"}
    (tmp_path / "intake_img" / "m.py").write_text("def f(a):\n    return 7\n")
    assert mutate.run(tmp_path, ["tests/test_m.py"], 600, ["tests/test_m.py::test"]) == "failed"
    (tmp_path / "intake_img" / "m.py").write_text("def f(a):\n    while True:\n        pass\n")
    assert mutate.run(tmp_path, ["tests/test_m.py"], 2, ["tests/test_m.py::test"]) == "timeout"


def test_the_tests_of_a_line_are_those_that_run_it():
    learnt = mutate.Learnt({2: {"slow", "quick"}, 3: {"other"}}, {"slow": 9, "quick": 1, "other": 2}, longest=5)
    mutant = mutate.Mutant(2, "", "", "", range(2, 3))
    assert learnt.tests(mutant) == ["quick"]
    assert learnt.tests(mutate.Mutant(8, "", "", "", range(8, 9))) == ["quick", "other"]  # reached in no test's process
    assert learnt.limit(["quick"]) == 20


def test_modules_and_their_tests_are_found():
    assert "intake_img/model/units.py" in mutate.modules_like(["model/*"])
    assert mutate.modules_like(["intake_img/model/units.py"]) == ["intake_img/model/units.py"]
    assert mutate.modules_like(["nothing"]) == []
    assert {"intake_img/model/units.py", "tests/test_axes_units.py"} <= set(
        mutate.tests_of("intake_img/model/units.py")
    )
    known = {p.removeprefix("intake_img/").removesuffix(".py") for p in mutate.modules_like(["*"])}
    assert set(mutate.TESTS) <= known
    for module in mutate.TESTS:
        assert all((mutate.ROOT / t).is_file() for t in mutate.tests_of(f"intake_img/{module}.py"))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_files_of_a_commit_that_was_interrupted_are_not_made_again(at, tmp_path, monkeypatch):
    ds = xr.Dataset({"image": (("t", "y", "x"), np.arange(36.0).reshape(3, 3, 4))})
    place, seen = local._place, []

    def interrupted(*paths):
        seen.append(paths)
        if len(seen) == at:
            raise OSError(28, "No space left on device")
        place(*paths)

    monkeypatch.setattr(local, "_place", interrupted)
    with pytest.raises(UnfinishedCommitError):
        intake_img.imsave(ds, tmp_path / "p.npy", partition="yx")
    monkeypatch.undo()

    @functools.wraps(Npy.write)
    def again(*args, **options):
        pytest.fail("a complete file is written again")

    monkeypatch.setattr(Npy, "write", again)
    paths = intake_img.imsave(ds, tmp_path / "p.npy", partition="yx", resume=True)
    assert len(paths) == len(list(tmp_path.iterdir())) == 3
    np.testing.assert_array_equal(intake_img.imload(tmp_path / "p.npy")["image"].values, ds["image"].values)


@pytest.mark.parametrize(
    ("offsets", "counts", "merged"),
    [
        ([[8, 18, 28], [38, 48, 58]], [[10, 10, 10], [10, 10, 10]], [[30], [30]]),
        ([[8, 18, 28], [0, 0, 0]], [[10, 10, 10], [0, 0, 0]], [[30], [0]]),  # a page that is missing
        ([[8, 19, 29], [0, 0, 0]], [[10, 10, 10], [0, 0, 0]], None),  # a gap
        ([[8, 18, 18], [0, 0, 0]], [[10, 0, 10], [0, 0, 0]], None),  # a strip that is missing
    ],
)
def test_strips_without_gaps_are_read_as_one(offsets, counts, merged):
    first, sizes, segment, whole = _merged(np.array(offsets), np.array(counts), (1, 1, 6, 5, 1), (1, 2, 5, 1))
    assert whole is (merged is not None)
    if whole:
        assert (first.tolist(), sizes.tolist(), segment) == ([[o[0]] for o in offsets], merged, (1, 6, 5, 1))
    else:
        assert (first.tolist(), sizes.tolist(), segment) == (offsets, counts, (1, 2, 5, 1))
