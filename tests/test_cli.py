"""The command ``intake-img``: what it prints, what it writes, how it fails, how fast it starts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from PIL import Image

import intake_img.doors.cli.formats_table
from intake_img import imload, imsave
from intake_img.create.examples import catalog_path, simulate_cells
from intake_img.doors.cli import formats, main
from intake_img.formats.reading import FileReader
from intake_img.formats.registry import formats as installed
from intake_img.formats.registry import open_any


@pytest.fixture
def stack(tmp_path):
    """An ImageJ hyperstack, written by tifffile."""
    path = tmp_path / "a b%20#ü.tif"
    values = np.random.default_rng(0).integers(0, 1000, (3, 4, 2, 30, 40), "uint16")
    facts = {"axes": "TZCYX", "spacing": 0.5, "unit": "\\u00B5m", "finterval": 2.0}
    tifffile.imwrite(path, values, imagej=True, resolution=(5.0, 5.0), metadata=facts)
    return path


def fails(capsys, code, *arguments):
    """Run a command that must fail with `code`; return its message, which must be one line without a traceback."""
    found: object
    try:
        found = main([str(a) for a in arguments])
    except SystemExit as exc:  # argparse
        found = exc.code
    assert found == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert "Traceback" not in err
    assert lines[-1].startswith("intake-img"), err
    assert len(lines) == 1 or lines[0].startswith("usage: "), err
    return lines[-1]


# info


def test_info_says_what_is_in_the_file(stack, capsys):
    assert main(["info", str(stack)]) == 0
    out, err = capsys.readouterr()
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert err == ""
    assert "tczyx 3 × 2 × 4 × 30 × 40, uint16, 57.6 kB" in lines["image"]
    assert "every 2 s" in lines["t"]
    assert "every 0.5 µm, 2 µm in all" in lines["z"]
    assert "every 0.2 µm, 8 µm in all" in lines["x"]
    assert lines["source"].endswith(f"{stack} (tif)")


def test_info_for_programs(stack, capsys):
    assert main(["info", str(stack), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["driver"] == "tif"
    assert facts["variables"]["image"]["shape"] == [3, 2, 4, 30, 40]
    assert facts["variables"]["image"]["dtype"] == "uint16"
    assert facts["variables"]["image"]["bytes"] == 3 * 2 * 4 * 30 * 40 * 2
    assert facts["axes"]["z"] == {"size": 4, "spacing": 0.5, "origin": 0.0, "unit": "µm"}
    assert "header" not in facts


def test_info_shows_the_header_on_request(stack, capsys):
    assert main(["info", str(stack), "--header"]) == 0
    assert "hyperstack" in json.dumps(json.loads(capsys.readouterr().out)["header"])


def test_info_reads_no_pixel(stack, capsys, monkeypatch):
    monkeypatch.setattr(FileReader, "read_into", None)
    assert main(["info", str(stack)]) == 0


def test_info_shows_scenes_and_levels(tmp_path, capsys):
    path = tmp_path / "p.zarr"
    imsave(np.zeros((64, 80), "uint8"), path, pyramid=2)
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["levels"] == [[64, 80], [32, 40], [16, 20]]
    assert main(["info", str(path)]) == 0
    assert "64 × 80, 32 × 40, 16 × 20" in capsys.readouterr().out
    assert main(["info", str(path), "--level", "1"]) == 0
    assert "yx 32 × 40" in capsys.readouterr().out
    assert main(["convert", str(path), str(tmp_path / "half.npz"), "--level", "1"]) == 0
    assert imload(tmp_path / "half.npz").sizes == {"y": 32, "x": 40}
    capsys.readouterr()

    path = tmp_path / "s.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(np.zeros((20, 30), "uint8"))
        tif.write(np.zeros((40, 50), "uint8"))
    assert main(["info", str(path), "--scene", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["variables"]["image"]["shape"] == [40, 50]
    assert len(facts["scenes"]) == 2
    assert main(["info", f"{path}@1"]) == 0
    assert "2 of 2" in capsys.readouterr().out


# convert


@pytest.mark.parametrize("target", ["out.ome.tif", "out.zarr", "out", "out.npz", "new folder/out.czi"])
def test_convert(stack, tmp_path, capsys, target):
    path = tmp_path / target
    assert main(["convert", str(stack), str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(str(path))
    assert err == ""  # no progress bar where there is no terminal
    with imload(stack) as given, imload(path) as found:
        xr.testing.assert_equal(found, given)


def test_convert_to_several_files(stack, tmp_path, capsys):
    assert main(["convert", str(stack), str(tmp_path / "a.png")]) == 0
    out = capsys.readouterr().out
    with imload(stack) as ds:
        count = ds["image"].size // ds.sizes["y"] // ds.sizes["x"]
    assert count == len(list(tmp_path.glob("a.*.png")))
    assert out.startswith(f"{count} files, {tmp_path}")
    assert out.count("\n") == 1


def test_convert_passes_options(stack, tmp_path):
    packed, tiled = tmp_path / "packed.ome.tif", tmp_path / "tiled.ome.tif"
    assert main(["convert", str(stack), str(packed), "--compress", "zlib"]) == 0
    assert main(["convert", str(stack), str(tiled), "--option", "tile=[16, 32]", "--compress", "no"]) == 0
    with tifffile.TiffFile(packed) as tif:
        assert tif.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    with tifffile.TiffFile(tiled) as tif:
        assert tif.pages[0].chunks == (16, 32)
        assert tif.pages[0].compression == tifffile.COMPRESSION.NONE


def test_convert_reports_progress_if_asked(stack, tmp_path, capsys):
    assert main(["convert", str(stack), str(tmp_path / "a.npz"), "--progress"]) == 0
    assert "saving a.npz" in capsys.readouterr().err


def test_convert_keeps_what_exists(stack, tmp_path, capsys):
    path = tmp_path / "there.npz"
    path.write_bytes(b"old")
    assert "--overwrite" in fails(capsys, 1, "convert", stack, path)
    assert path.read_bytes() == b"old"
    assert main(["convert", str(stack), str(path), "--overwrite"]) == 0
    assert imload(path).sizes["t"] == 3


def test_storage_options_reach_the_file_system(tmp_path, monkeypatch):
    given = {}

    def spy(uri, **options):
        given.update(options)
        return open_any(uri)

    monkeypatch.setattr("intake_img.formats.registry.open_any", spy)
    imsave(np.zeros((5, 6), "uint8"), "memory://cli/a.npy", overwrite=True)
    assert main(["info", "memory://cli/a.npy", "--storage-option", "anon=true", "--storage-option", "key=a=b"]) == 0
    assert given == {"storage_options": {"anon": True, "key": "a=b"}}


# errors


def test_errors_of_data_give_1(tmp_path, capsys):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0\x08\0\0\0")
    text = tmp_path / "text.xyz"
    text.write_text("hello")
    assert "missing.tif" in fails(capsys, 1, "info", tmp_path / "missing.tif")
    assert "broken.tif" in fails(capsys, 1, "info", broken)
    assert "no driver reads it" in fails(capsys, 1, "info", text)
    imsave(np.zeros((5, 6), "uint8"), tmp_path / "a.tif")
    assert "scene" in fails(capsys, 2, "info", tmp_path / "a.tif", "--scene", "7")
    assert "a.docx" in fails(capsys, 2, "convert", tmp_path / "a.tif", tmp_path / "a.docx")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path, capsys):
    path = tmp_path / "secret.npy"
    np.save(path, np.zeros((5, 6)))
    path.chmod(0)
    assert "secret.npy: Permission denied" in fails(capsys, 1, "info", path)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "COMMAND"),
        (["inf"], "invalid choice"),
        (["info"], "URI"),
        (["info", "{stack}", "--level", "-1"], "--level"),
        (["info", "{stack}", "--storage-option", "novalue"], "KEY=VALUE"),
        (["info", "{stack}@1", "--scene", "0"], "give one"),
        (["convert", "{stack}"], "TARGET"),
        (["convert", "{stack}", "{folder}/a.npz", "--option", "tile=3"], "--option tile"),
        (["convert", "{nrrd}", "{folder}/a.npz", "--scene", "1"], "has no option 'scene'"),
    ],
)
def test_errors_of_the_command_line_give_2(arguments, word, stack, tmp_path, capsys):
    imsave(np.zeros((5, 6)), tmp_path / "plain.nrrd")
    places = {"stack": stack, "folder": tmp_path, "nrrd": tmp_path / "plain.nrrd"}
    assert word in fails(capsys, 2, *[a.format(**places) for a in arguments])
    assert not (tmp_path / "a.npz").exists()


def test_errors_of_ours_are_not_hidden(monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(intake_img.doors.cli.formats_table, "formats", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["formats"])


def test_interrupted(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(intake_img.doors.cli.formats_table, "formats", interrupted)
    assert "interrupted" in fails(capsys, 130, "formats")


def test_warnings_are_one_line(stack, tmp_path, capsys):
    named = tmp_path / "stack.png"
    named.write_bytes(stack.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["info", str(named)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("intake-img: warning: ")
    assert "stack.png" in line


# formats


def test_formats_come_from_the_drivers(capsys):
    assert main(["formats", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == formats()
    assert [r["name"] for r in rows] == list(installed())
    for row, fmt in zip(rows, installed().values(), strict=True):
        assert row["extensions"] == list(fmt.extensions)
        assert row["writes"] is fmt.writes
        assert row["reads"] is True
    assert {"czi", "imageio", "npy", "omezarr", "tif"} <= {r["name"] for r in rows}
    assert "tile" in next(r for r in rows if r["name"] == "tif")["write_options"]


def test_formats_for_people(capsys):
    assert main(["formats"]) == 0
    out = capsys.readouterr().out
    for row in formats():
        (line,) = [line for line in out.splitlines() if line.startswith(row["name"] + " ")]
        assert row["format"] in line
        assert all(e in line for e in row["extensions"])
        assert all(o in line for o in row["write_options"])


# demo


def test_demo_finds_its_catalog():
    path = catalog_path("demo.yml")
    assert path.name == "demo.yml"
    assert path.is_file()


def test_samples_are_the_same_everywhere(tmp_path):
    image, labels = simulate_cells((2, 4, 60, 70), count=4)
    again, _ = simulate_cells((2, 4, 60, 70), count=4)
    assert np.array_equal(image, again)
    assert image.shape == (2, 4, 2, 60, 70)
    assert set(np.unique(labels)) == set(range(5))
    inside = image[:, :, 0][labels > 0].mean()
    assert inside > 2 * image[:, :, 0][labels == 0].mean()


def test_demo_checks_what_comes_back(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["demo", "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.count("comes back equal") == 10
    assert {"cells.zarr", "wells.ome.tif", "demo.png", "samples"} <= set(os.listdir(tmp_path / "out"))
    assert len(list((tmp_path / "out").glob("cells.t_*.c_*.ome.tif"))) == 6
    with Image.open(tmp_path / "out" / "demo.png") as shown:
        assert len(shown.convert("RGB").getcolors(2**24)) > 1000


def test_demo_fails_if_an_image_comes_back_different(tmp_path, monkeypatch, capsys):
    import intake_img.doors.demo as demo

    def samples(folder):
        demo._write_tif(folder / "cells.tif", simulate_cells((1, 2, 30, 30), count=1)[0])

    def wrong(ds, target, **options):
        return imsave(ds.assign(image=ds["image"] + 1) if str(target).endswith(".tif") else ds, target, **options)

    monkeypatch.setattr(demo, "make_samples", samples)
    monkeypatch.setattr(demo, "_picture", lambda *_: None)
    monkeypatch.setattr("intake_img.io.imsave", wrong)
    assert main(["demo", "--output", str(tmp_path / "out")]) == 1
    out = capsys.readouterr().out
    assert "cells.ome.tif, 2 files: other pixels in image" in out
    assert "cells.zarr: comes back equal" in out
    assert "1 of the saved images differ" in out


# the process


def run(*arguments, **options):
    command = [sys.executable, "-m", "intake_img.doors.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, encoding="utf-8", **options)


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"intake-img {intake_img.__version__}\n", "")


def test_a_reader_that_has_seen_enough_is_no_error(stack):
    command = f"{sys.executable} -m intake_img.doors.cli info '{stack}' --header | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{0\n"
    assert done.stderr == ""


def test_names_beyond_the_character_set_of_the_terminal(stack):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run("info", str(stack), env=environment)
    assert done.returncode == 0, done.stderr
    assert "\\xb5m" in done.stdout


def test_starts_without_what_it_does_not_need():
    heavy = ("matplotlib", "tifffile", "zarr", "imageio", "pylibCZIrw", "scipy", "tqdm", "dask.array")
    code = (
        "import sys, intake_img.doors.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


# wrong values: the command line is at fault


@pytest.mark.parametrize("target", ["a.tif", "a.zarr", "a.png", "a.npy", "a.nrrd", "a.nii"])
def test_an_unknown_codec_is_a_fault_of_the_command_line(tmp_path, capsys, target):
    np.save(tmp_path / "in.npy", np.zeros((8, 8), "u1"))
    said = fails(capsys, 2, "convert", tmp_path / "in.npy", tmp_path / target, "--compress", "nonsense")
    assert "compress='nonsense'" in said
    assert not (tmp_path / target).exists()
    command = ["convert", tmp_path / "in.npy", "--to", tmp_path / "out", "--format", target[2:]]
    assert main([str(a) for a in [*command, "--compress", "nonsense"]]) == 2
    assert main([str(a) for a in command]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "in.npy", "a.tif", "--option", "tile=abc"),
        ("convert", "in.npy", "a.zarr", "--option", "chunks=abc"),
        ("convert", "in.npy", "a.zarr", "--option", "version=0.9"),
        ("show", "in.npy", "--channel", "7"),
        ("diff", "in.npy", "in.npy", "--rtol", "-1"),
        ("diff", "in.npy", "in.npy", "--atol", "nan"),
        ("coloc", "two.tif", "--thresholds", "nonsense"),
        ("coloc", "two.tif", "--mask", "nothing"),
        ("coloc", "two.tif", "--out", "a.docx"),
    ],
)
def test_wrong_values_of_options_are_faults_of_the_command_line(tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    np.save("in.npy", np.zeros((8, 8), "u1"))
    tifffile.imwrite("two.tif", np.arange(3 * 64, dtype="u1").reshape(8, 8, 3), photometric="rgb")
    option, value = words[-2:]
    name = value.partition("=")[0] if option == "--option" else option.strip("-")
    assert name in fails(capsys, 2, *words)


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (("coloc", "two.tif", "--pair", "R", "GFP"), "'R', 'G', 'B'"),
        (("coloc", "two.tif", "--pair", "0", "3"), "'R', 'G', 'B'"),
        (("coloc", "two.tif", "--out", "a.html", "--pair", "R", "GFP"), "'R', 'G', 'B'"),
        (("show", "two.tif", "--channel", "GFP"), "'R', 'G', 'B'"),
        (("thumbnail", "two.tif", "--channel", "R", "--channel", "GFP"), "'R', 'G', 'B'"),
        (("info", "two.tif@second"), "0: '0'"),
        (("info", "two.tif", "--scene", "7"), "0: '0'"),
        (("show", "two.tif", "--level", "7"), "1 level"),
        (("convert", "two.tif", "a.tif", "--scene", "7"), "0: '0'"),
        (("convert", "two.tif@7", "a.tif"), "0: '0'"),
        (("diff", "two.tif", "two.tif@7"), "0: '0'"),
        (("coloc", "two.tif@7"), "0: '0'"),
    ],
)
def test_a_name_that_the_image_lacks_is_refused_with_those_it_has(tmp_path, capsys, monkeypatch, words, known):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("two.tif", np.arange(3 * 64, dtype="u1").reshape(8, 8, 3), photometric="rgb")
    said = fails(capsys, 2, *words)
    assert known in said
    assert said.count("two.tif") == 1
    assert os.listdir(tmp_path) == ["two.tif"]
    assert main(["convert", "two.tif", "--to", "out", "--scene", "7"]) == 2
    assert capsys.readouterr().err.count("two.tif") == 1


def test_the_table_of_images_with_different_axes_has_the_columns_of_all(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    for name, axes in (("movie.zarr", "tcyx"), ("still.zarr", "cyx"), ("stack.zarr", "tcyx")):
        shape = [{"t": 2, "c": 2, "y": 20, "x": 20}[a] for a in axes]
        imsave(xr.DataArray(rng.integers(0, 99, shape, "uint8"), dims=list(axes)), name)
    np.save("flat.npy", np.zeros((8, 8), "u1"))
    names = ["movie.zarr", "flat.npy", "still.zarr", "missing.tif", "stack.zarr"]
    assert main(["coloc", *names, "--thresholds", "30"]) == 1
    out, err = capsys.readouterr()
    assert [name for name in names if name in err] == ["flat.npy", "missing.tif"]
    table = pd.read_csv(io.StringIO(out)).set_index(["image", "t"])
    assert len(table) == 5
    for (name, t), row in table.iterrows():
        image = imload(name).image
        image = image.isel(t=int(t)) if name != "still.zarr" else image
        assert row["pearson"] == pytest.approx(np.corrcoef(image.values.reshape(2, -1))[0, 1])
        assert row["n"] == 400


def test_a_pair_of_an_image_without_channels_names_the_option(tmp_path, capsys):
    np.save(tmp_path / "in.npy", np.zeros((8, 8), "u1"))
    assert "'yx'" in fails(capsys, 1, "coloc", tmp_path / "in.npy")
    assert "--pair" in fails(capsys, 2, "coloc", tmp_path / "in.npy", "--pair", "0", "1")


def test_what_the_data_lack_is_no_fault_of_the_command_line(tmp_path, capsys):
    np.save(tmp_path / "in.npy", np.zeros((8, 8), "c16"))
    fails(capsys, 1, "convert", tmp_path / "in.npy", tmp_path / "a.png", "--compress", "yes")
    (tmp_path / "bad.tif").write_bytes(b"II*\0junk")
    fails(capsys, 1, "convert", tmp_path / "bad.tif", tmp_path / "a.png", "--compress", "yes")
