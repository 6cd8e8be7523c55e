"""How targets are replaced: writers that are killed, meet a full disk, or write to one name together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from thoroughness import THOROUGH

from intake_img import imload, imsave
from intake_img.errors import TargetExistsError
from intake_img.storage import local, renames
from intake_img.storage.files import File
from intake_img.storage.journal import Journal
from intake_img.storage.staging import UnfinishedCommitError, begin, replacing, sweep

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parent


def image(value: int, planes: int = 3) -> xr.Dataset:
    return xr.Dataset({"image": (("t", "y", "x"), np.full((planes, 4, 4), value, "u2"))})


def test_writers_stopped_at_system_calls(tmp_path: Path) -> None:
    """Some calls of the campaign of `staging_laws`, in two processes; each process fails if the law is broken."""
    law = [sys.executable, "-W", "ignore", str(HERE / "staging_laws.py")]
    runs = [
        subprocess.Popen(
            [*law, str(tmp_path / names[0]), "13" if THOROUGH else "37", *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for names in (("a.npy", "a.zarr"), ("a.bin", "p.npy", "p.bin"))
    ]
    for run in runs:
        said, _ = run.communicate(timeout=600)
        assert run.returncode == 0, said


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("name", ["a.npy", "a.zarr", "a.bin"])
def test_a_target_made_meanwhile_is_not_replaced(name, portable, tmp_path, monkeypatch) -> None:
    """The check at the commit, not that at the start, decides."""
    if portable:
        monkeypatch.setattr(renames, "rename_flagged", lambda *_: 38)
    target = File.parse(tmp_path / name)
    with begin(target) as staging:
        with staging.member(name, folder=name.endswith("zarr")) as path:
            Path(path, "x").touch() if os.path.isdir(path) else Path(path).touch()
        other = tmp_path / "other"
        imsave(image(1), other / name)
        for made in other.iterdir():
            made.rename(tmp_path / made.name)
        with pytest.raises(TargetExistsError):
            staging.commit()
    assert (imload(tmp_path / name).image == 1).all()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_writer_at_work_refuses_a_second_one_and_is_not_swept(tmp_path: Path) -> None:
    target = File.parse(tmp_path / "a.npy")
    with replacing(target) as path:
        Path(path).write_bytes(b"half")
        with pytest.raises(FileExistsError, match="being written by another process"):
            imsave(image(2), tmp_path / "a.npy")
        imsave(image(3), tmp_path / "a.npy", overwrite=True)
        assert Path(path).read_bytes() == b"half"
        Path(path).unlink()
        np.save(path, np.zeros(3))
        os.replace(f"{path}.npy", path)
        os.unlink(tmp_path / "a.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_sweeping_removes_what_dead_writers_left(tmp_path: Path) -> None:
    target = File.parse(tmp_path / "a.npy")
    imsave(image(1), tmp_path / "a.npy")
    dead = [tmp_path / ".a.npy.partial", tmp_path / ".a.npy~2.partial"]
    for folder in dead:
        folder.mkdir()
        (folder / ".~lock").touch()
        (folder / "a.npy").write_bytes(b"half")
    with replacing(target, overwrite=True) as path:  # takes the first, removes the second
        assert not dead[1].exists()
        dead[1].mkdir()
        sweep(target)
        assert not dead[1].exists()
        assert Path(path).parent.is_dir()  # of a writer at work
        np.save(f"{path}.npy", np.zeros(3))
        os.replace(f"{path}.npy", path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_the_later_of_two_writers_of_parts_wins(tmp_path: Path) -> None:
    """In every race the files of one writer alone are left."""
    for _ in range(8):
        writers = [
            threading.Thread(
                target=imsave, args=(image(k), tmp_path / "p.npy"), kwargs={"partition": "yx", "overwrite": True}
            )
            for k in (1, 2)
        ]
        for w in writers:
            w.start()
        for w in writers:
            w.join()
        assert len(np.unique(imload(tmp_path / "p.npy").image)) == 1
        assert len(list(tmp_path.iterdir())) == 3


def test_an_error_while_files_get_their_names_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imsave(image(1), tmp_path / "p.npy", partition="yx")
    place, seen = local._place, []

    def full(*paths: str) -> None:
        seen.append(paths)
        if len(seen) == 2:
            raise OSError(28, "No space left on device")
        place(*paths)

    monkeypatch.setattr(local, "_place", full)
    with pytest.raises(UnfinishedCommitError, match="is what imload reads") as caught:
        imsave(image(2), tmp_path / "p.npy", partition="yx", overwrite=True)
    assert "untouched" not in str(caught.value)
    for uri in (tmp_path / "p.npy", f"{tmp_path}/p.t_{{t}}.npy", tmp_path, f"{tmp_path}/*.npy"):
        assert (imload(uri).image == 2).all()
    paths = sorted(str(p) for p in tmp_path.glob("*.npy"))
    if len(paths) == 3:
        assert (imload(paths, axis="t").image == 2).all()
    imsave(image(2), tmp_path / "p.npy", partition="yx", resume=True)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("error", "at"), [(KeyboardInterrupt, 1), (SystemExit, 2), (TypeError, 3)])
def test_an_interrupt_while_files_get_their_names_loses_nothing(error, at, tmp_path, monkeypatch) -> None:
    imsave(image(1), tmp_path / "p.npy", partition="yx")
    place, seen = local._place, []

    def interrupted(*paths: str) -> None:
        seen.append(paths)
        if len(seen) == at:
            raise error
        place(*paths)

    monkeypatch.setattr(local, "_place", interrupted)
    with pytest.raises(error):
        imsave(image(2), tmp_path / "p.npy", partition="yx", overwrite=True)
    monkeypatch.undo()
    assert (imload(tmp_path / "p.npy").image == 2).all()
    assert imload(tmp_path / "p.npy").sizes["t"] == image(2).sizes["t"]
    imsave(image(3), tmp_path / "p.npy", partition="yx", overwrite=True)
    assert (imload(tmp_path / "p.npy").image == 3).all()
    assert len(list(tmp_path.iterdir())) == image(3).sizes["t"]


@pytest.mark.parametrize("name", ["../a", "a/b", "..", "", 3])
def test_a_journal_names_nothing_outside_of_its_folder(name: object) -> None:
    good = Journal("t", ".t.partial", ("a",), ("b",))
    assert Journal.loads(good.dumps()) == good
    for field in ("names", "superseded"):
        assert Journal.loads(Journal(**{**good.__dict__, field: (name,)}).dumps()) is None
    assert Journal.loads(Journal("t", str(name), ("a",)).dumps()) is None


def test_parts_and_folders_on_an_object_store(s3: dict) -> None:
    for name, options in (("p.npy", {"partition": "yx"}), ("a.zarr", {})):
        for k in (1, 2):
            url = f"s3://images/{name}"
            imsave(image(k, 4 - k), url, **options, overwrite=k == 2, storage_options=s3)
            found = imload(url, storage_options=s3).image
            assert found.shape[0] == 4 - k
            assert (found == k).all()
    import s3fs

    fs = s3fs.S3FileSystem(**s3)
    fs.invalidate_cache()
    assert not [p for p in fs.find("images") if "/." in p]


@pytest.mark.parametrize(("name", "options"), [("a.zarr", {"chunks": {"t": 1}}), ("p.npy", {"partition": "yx"})])
@pytest.mark.parametrize(
    ("copies", "error"),
    [
        (0, OSError("the network is down")),
        (1, OSError("the network is down")),
        (2, OSError("the network is down")),
        (1, KeyboardInterrupt()),
        (2, SystemExit(143)),
        (1, NameError()),
    ],
)
def test_a_copy_on_the_server_that_fails_loses_nothing(name, options, copies, error, tmp_path, monkeypatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    url = f"memory://{tmp_path.name}-{copies}/{name}"
    imsave(image(1), url, **options)
    copy, seen = MemoryFileSystem.cp_file, []

    def failing(self, *paths, **more) -> None:
        seen.append(paths)
        if len(seen) > copies:
            raise error
        copy(self, *paths, **more)

    monkeypatch.setattr(MemoryFileSystem, "cp_file", failing)
    told = (UnfinishedCommitError, "the new data are complete") if isinstance(error, OSError) else (type(error), None)
    with pytest.raises(told[0], match=told[1]):
        imsave(image(2), url, **options, overwrite=True)
    assert (imload(url).image == 2).all()
    monkeypatch.undo()
    imsave(image(3), url, **options, overwrite=True)
    assert (imload(url).image == 3).all()
    assert not [p for p in MemoryFileSystem().find(url.rpartition("/")[0]) if "/." in p]
