"""Many images on the command line: what is named, what is written, what fails, what a stop or a kill leaves."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from intake_img import imload, imsave, scan, write_catalog
from intake_img.doors.cli import main
from intake_img.doors.cli.batch import Job, run_batch
from intake_img.doors.cli.named_images import NamedImage

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(0)


@pytest.fixture
def pictures(tmp_path):
    """Six grey PNG files, two of them in a folder below, and a text."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for n in range(6):
        path = folder / ("below" if n > 3 else "") / f"p{n}.png"
        Image.fromarray(RNG.integers(0, 255, (20, 30), "uint8")).save(path)
    (folder / "notes.txt").write_text("not an image")
    return folder


def files_below(folder: Path) -> dict[str, str]:
    """Digest of each file below a folder."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# what is named


def test_info_takes_files_folders_patterns_catalogs_and_lists(pictures, tmp_path, capsys, monkeypatch):
    catalog = tmp_path / "c.yml"
    write_catalog(scan(pictures, recursive=False), catalog, overwrite=True)
    name = next(iter(scan(pictures, recursive=False)))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{pictures}/p0.png\n\n{pictures}/p1.png\n"))
    named = ["-", str(pictures), f"{pictures}/p?.png", f"{pictures}/p2.png"]
    assert main(["info", *named, f"{catalog}@{name}", "--root", str(pictures), "--each", "--json"]) == 0
    facts = lines_of(capsys.readouterr().out)
    found = [Path(f["uri"]).name for f in facts[:-1]]
    assert found == [
        "p0.png",
        "p1.png",
        "p4.png",
        "p5.png",
        *(f"p{n}.png" for n in range(4)),
        *(f"p{n}.png" for n in range(4)),
        "p2.png",
    ]
    assert all(f["variables"]["image"]["shape"][-2:] == [20, 30] for f in facts)
    assert main(["info", f"{pictures}/p?.png", "--json"]) == 0  # one image, as for imload
    (one,) = lines_of(capsys.readouterr().out)
    assert one["variables"]["image"]["shape"] == [4, 20, 30]


def test_info_of_several_images_is_parted_by_empty_lines(pictures, capsys):
    names = sorted(str(p) for p in pictures.glob("p?.png"))
    assert main(["info", *names]) == 0
    blocks = capsys.readouterr().out.rstrip("\n").split("\n\n")
    assert [name in block for name, block in zip(names, blocks, strict=True)] == [True] * len(names)
    assert main(["info", names[0]]) == 0
    assert not capsys.readouterr().out.startswith("\n")


def test_what_fails_is_reported_and_the_rest_goes_on(pictures, capsys):
    (pictures / "p1.png").write_bytes(b"broken")
    arguments = [f"{pictures}/p0.png", f"{pictures}/p1.png", f"{pictures}/none.png", f"{pictures}/p2.png"]
    assert main(["info", *arguments, "--json"]) == 1
    out, err = capsys.readouterr()
    assert ["error" in f for f in lines_of(out)] == [False, True, True, False]
    assert "none.png" in err.splitlines()[1]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["convert", "a.png", "b.png", "c.png"], "--to FOLDER"),
        (["convert", "a.png", "b.tif", "--skip-existing"], "--to FOLDER"),
        (["convert", "a.png", "--to", "out", "--format", "png", "--pyramid"], "cannot store pyramids"),
        (["convert", "a.png", "x/a.png", "--to", "out"], "both become"),
        (["convert", "a.png", "--to", "out", "--jobs", "0"], "positive number"),
        (["convert", "a.png", "b.tif", "--formt", "x"], "did you mean --format?; see 'intake-img convert --help'"),
        (["--json", "info", "a.png"], "intake-img info --json"),
        (["--versio"], "unknown option --versio; did you mean --version?; see 'intake-img --help'"),
        (["convert", "a.png", "b.nothing"], "no driver writes 'b.nothing'"),
        (["convert", "a.png", "--to", "out", "--format", "lif"], "--format lif: "),
        (["thumbnail", "a.png", "b.png", "-o", "x.png"], "--to FOLDER"),
        (["info", "c.yml@none"], "no entry 'none'"),
    ],
)
def test_faults_of_the_command_line_give_2_and_write_nothing(arguments, word, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    for name in ("a.png", "x/a.png", "b.png", "c.png"):
        Image.new("L", (4, 4)).save(name)
    write_catalog(scan("x"), "c.yml")
    before = files_below(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as exc:
        code = exc.code
    assert code == 2
    assert word in capsys.readouterr().err
    assert files_below(tmp_path) == before


# what is written


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_convert_a_folder_into_another(pictures, tmp_path, capsys, jobs):
    out = tmp_path / "out"
    (pictures / "p3.png").write_bytes(b"broken")
    command = ["convert", str(pictures), "--to", str(out), "--format", "ome.tif", "--jobs", jobs]
    assert main([*command, "--json", "--progress"]) == 1
    shown, err = capsys.readouterr()
    status = {Path(f["source"]).name: f["status"] for f in lines_of(shown)}
    assert status == {f"p{n}.png": "failed" if n == 3 else "converted" for n in range(6)}
    assert "5 converted, 1 failed" in err
    assert "failed: " in err.splitlines()[-1]
    assert sorted(files_below(out)) == ["below/p4.ome.tif", "below/p5.ome.tif", *(f"p{n}.ome.tif" for n in range(3))]
    for n in range(3):
        np.testing.assert_array_equal(
            imload(out / f"p{n}.ome.tif").image, np.asarray(Image.open(pictures / f"p{n}.png"))
        )
    before = files_below(out)
    assert main(command) == 1  # those that are there are kept
    assert "give --overwrite" in capsys.readouterr().err
    assert main([*command, "--skip-existing"]) == 1
    assert "0 converted, 5 skipped, 1 failed" in capsys.readouterr().err
    assert files_below(out) == before


def test_resume_makes_what_is_missing_and_keeps_what_is_newer(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["convert", str(pictures), "--to", str(out), "--format", "npy", "--resume"]
    assert main([*command]) == 0
    before = files_below(out)
    (out / "p0.npy").unlink()
    os.utime(out / "p1.npy", (1, 1))  # older than its source
    capsys.readouterr()
    assert main(command) == 1
    assert "1 converted, 4 skipped, 1 failed" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert "1 converted, 5 skipped" in capsys.readouterr().err
    assert files_below(out) == before


def test_resume_keeps_a_single_target_that_is_complete(pictures, tmp_path, capsys):
    """A run that was killed right after its last step is complete."""
    command = ["convert", str(pictures / "p1.png"), str(tmp_path / "p1.npy"), "--resume"]
    assert main(command) == 0
    before = files_below(tmp_path)
    capsys.readouterr()
    assert main(command) == 0
    assert "p1.npy is complete: kept" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "skipped"
    assert files_below(tmp_path) == before
    os.utime(tmp_path / "p1.npy", (1, 1))  # older than its source
    assert main(command) == 1
    assert main([*command, "--overwrite"]) == 0


def test_convert_makes_pyramids(tmp_path, capsys):
    imsave(RNG.integers(0, 9, (600, 300), "uint8"), tmp_path / "big.npy")
    for extension in ("ome.zarr", "ome.tif"):
        out = tmp_path / "out"
        assert main(["convert", str(tmp_path / "big.npy"), "--to", str(out), "--format", extension, "--pyramid"]) == 0
        assert imload(out / f"big.{extension}", level=2).sizes == {"y": 150, "x": 75}
        assert main(["info", str(out / f"big.{extension}"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["levels"] == [[600, 300], [300, 150], [150, 75]]


def test_a_stop_ends_the_threads():
    """The writers of a batch are told to stop by the function that they report their progress to."""
    ended = []

    def work(job, progress):
        if job.target == "2":
            raise KeyboardInterrupt
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                progress(1)
                time.sleep(0.01)
        finally:
            ended.append(time.monotonic() < deadline)
        return [job.target]

    jobs = [Job(NamedImage(str(n), str(n), lambda: None), str(n)) for n in range(9)]
    with pytest.raises(KeyboardInterrupt):
        run_batch(jobs, work, 3, None, False)
    assert ended
    assert all(ended)


def test_what_the_progress_raises_ends_a_write_and_leaves_nothing(tmp_path):
    class Enough(Exception):
        pass

    def stop(_):
        raise Enough

    for name in ("a.ome.tif", "a.zarr", "a.npy"):
        with pytest.raises(Enough):
            imsave(np.ones((3, 40, 50), "uint8"), tmp_path / name, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_is_resumed_with_the_same_bytes(tmp_path, number):
    sources = tmp_path / "in"
    sources.mkdir()
    for n in range(40):
        np.save(sources / f"s{n}.npy", RNG.integers(0, 999, (4, 64, 64), "uint16"))
    command = ["convert", str(sources), "--jobs", "2", "--format", "ome.tif", "--compress", "zlib", "--to"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "intake_img", *command, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    made = {n for n in files_below(out) if not n.startswith(".")}
    assert 5 <= len(made) < 40
    if number == signal.SIGTERM:
        assert made == set(files_below(out))  # nothing else is left
    left = sorted(made)[0]
    (out / f".{left}.partial").mkdir(exist_ok=True)  # as of a writer killed between its last two steps
    (out / f".{left}.partial" / ".~lock").touch()
    assert main([*command, str(out), "--resume"]) == 0
    assert files_below(out) == files_below(tmp_path / "whole")


# pictures


def test_thumbnails(tmp_path, capsys):
    values = np.zeros((2, 400, 600), "uint8")
    values[0, :, 300:] = values[1, 200:] = 200
    imsave(xr.Dataset({"image": (("c", "y", "x"), values)}, {"c": ["DAPI", "GFP"]}), tmp_path / "a.ome.zarr", pyramid=2)
    assert main(["thumbnail", str(tmp_path), "--to", str(tmp_path / "out"), "--size", "60"]) == 0
    capsys.readouterr()
    shown = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert shown.shape == (40, 60, 3)
    blue, green = shown[5, 50], shown[35, 10]
    assert blue[2] == 255
    assert blue[2] > blue[1]
    assert green[1] > green[2]
    assert not shown[5, 10].any()
    assert main(["thumbnail", str(tmp_path / "a.ome.zarr"), "--to", str(tmp_path / "out")]) == 1
    assert "--overwrite" in capsys.readouterr().err
    one = ["thumbnail", str(tmp_path / "a.ome.zarr"), "-o", str(tmp_path / "one.png"), "--channel", "GFP"]
    assert main([*one, "--size", "60"]) == 0
    assert not np.asarray(Image.open(tmp_path / "one.png"))[5].any()
    assert main([*one[:-1], "RFP", "--overwrite"]) == 2


def test_show_draws_in_the_terminal(pictures, capsys):
    assert main(["show", f"{pictures}/p0.png", "--size", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("p0.png")
    assert len(lines) == 11  # two rows of pixels in each line
    assert lines[1].count("▀") == 30
    grey = np.asarray(Image.open(pictures / "p0.png"))[0]
    shown = [int(cell.partition("38;2;")[2].partition(";")[0]) for cell in lines[1].split("▀")[:30]]
    assert np.all(np.diff(np.array(shown)[np.argsort(grey)]) >= 0)  # brighter pixels are not shown darker
    assert max(shown) - min(shown) > 100
    assert main(["show", f"{pictures}/p0.png", "--window"]) == 1
    assert "no display" in capsys.readouterr().err


# diff


def test_diff_says_what_differs(tmp_path, capsys):
    values = RNG.integers(0, 99, (2, 30, 40)).astype("uint16")
    given = xr.Dataset(
        {"image": (("c", "y", "x"), values)}, {"c": ["a", "b"], "x": ("x", np.arange(40) * 0.5, {"units": "µm"})}
    )
    other = given.copy(deep=True)
    other.image[1, 3, 7] += 12
    other.image[1, 29, 39] += 5
    renamed = other.assign_coords(c=["a", "B"])
    paths = {name: str(tmp_path / f"{name}.zarr") for name in ("given", "other", "renamed", "small")}
    for ds, path in zip((given, other, renamed, given.isel(y=slice(5))), paths.values(), strict=True):
        imsave(ds, path)
    imsave(given, tmp_path / "given.ome.tif")
    assert main(["diff", paths["given"], str(tmp_path / "given.ome.tif")]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["diff", paths["given"], paths["other"]]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    pair = f"{values[1, 3, 7]} and {values[1, 3, 7] + 12}"
    assert line == f"values of image: 2 of 2400 differ, by at most 12 | first at c=1, y=3, x=7: {pair}"
    assert main(["diff", paths["given"], paths["other"], "--atol", "12"]) == 0
    assert main(["diff", paths["given"], paths["renamed"], "--json"]) == 1
    what = {f["what"] for f in lines_of(capsys.readouterr().out.partition("\n")[2])}
    assert what == {"values", "coordinate"}
    assert main(["diff", paths["given"], paths["small"]]) == 1
    assert "cyx 2 × 30 × 40 | cyx 2 × 5 × 40" in capsys.readouterr().out


# the process


def test_python_dash_m_and_completion():
    for shell in ("zsh", "fish"):
        command = [sys.executable, "-m", "intake_img", "completion", shell]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert all(word in done.stdout for word in ("thumbnail", "skip-existing", "projection"))


def test_bash_completes_options():
    script = f"""eval "$({sys.executable} -m intake_img completion bash)"
    COMP_WORDS=(intake-img convert --re); COMP_CWORD=2; _shtab_intake_img; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["--resume"]


def test_converting_builds_no_dask_graph(pictures, tmp_path):
    """Importing dask.array takes as long as converting fifty pictures."""
    code = (
        "import sys; from intake_img.doors.cli import main\n"
        f"assert main(['convert', {str(pictures)!r}, '--to', {str(tmp_path / 'out')!r}, '--format', 'ome.tif']) == 0\n"
        "print('dask.array' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
