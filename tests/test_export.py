"""Series of images in a folder: names, values, what is read, what is replaced, and what a failure leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from thoroughness import examples

from intake_img import create, imload, imsave
from intake_img.errors import CannotWriteError, FormatError, TargetExistsError
from intake_img.model.pixels import Pixels
from intake_img.testing.datasets import image_of

WRITERS = {"to_tif": ".tif", "to_png": ".png", "to_binary": ".bin"}
BESIDE = {"to_binary": {"conf.json", "SUCCESS"}}


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def series(n: int = 3, dtype: str = "uint16", **more) -> xr.Dataset:
    return image_of("tyx", (n, 6, 5), dtype, **more)


# names and values


def test_tif_holds_each_image(tmp_path):
    ds = image_of("itczyx", (2, 3, 2, 2, 6, 5), "uint16", i=["a", "b"], t=(0.5, "s"), c=["DAPI", "GFP"], x=(0.1, "µm"))
    files = ds.img.to_tif(tmp_path / "out", prefix="cells")
    assert files == [str(tmp_path / "out" / f"cells-{k:05d}.tif") for k in range(6)]
    assert names(tmp_path / "out") == {Path(f).name for f in files}
    for k, (i, t) in enumerate(np.ndindex(2, 3)):
        own = tifffile.imread(files[k])  # as ImageJ has it: zcyx
        assert np.array_equal(own, ds.image[i, t].transpose("z", "c", "y", "x"))
        back = imload(files[k])
        assert back.image.dims == tuple("czyx")
        assert np.array_equal(back.image, ds.image[i, t])
        assert back.img.channels == ["DAPI", "GFP"]
        assert back.img.spacing["x"] == 0.1
        assert float(back.t) == 0.5 * t
        assert str(back.i.values) == "ab"[i]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "float32", "float64"])
def test_tif_is_lossless(tmp_path, dtype):
    ds = series(dtype=dtype)
    back = create.from_tif(tmp_path / "out" if ds.img.to_tif(tmp_path / "out") else None)
    assert back.image.dtype == ds.image.dtype
    assert np.array_equal(back.image, ds.image)


def test_a_stack_of_three_planes_is_no_colour_picture(tmp_path):
    ds = image_of("tzyx", (2, 3, 4, 5), "uint16")  # thunder writes RGB here
    for file in ds.img.to_tif(tmp_path / "out"):
        with tifffile.TiffFile(file) as tif:
            assert len(tif.pages) == 3
            assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK


def test_an_image_without_batch_axes_is_one_file(tmp_path):
    ds = image_of("zyx", (2, 6, 5), "uint16")
    (file,) = ds.img.to_tif(tmp_path / "out")
    assert Path(file).name == "image-00000.tif"
    assert np.array_equal(imload(file).image, ds.image)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16"])
def test_png_is_lossless(tmp_path, dtype):
    ds = series(dtype=dtype)
    files = ds.img.to_png(tmp_path / "out")
    assert [Path(f).name for f in files] == [f"image-{k:05d}.png" for k in range(3)]
    for file, image in zip(files, ds.image.values, strict=True):
        with Pillow.open(file) as im:
            assert np.array_equal(np.asarray(im), image)
    assert create.from_png(tmp_path / "out").image.dtype == dtype


def test_png_in_colour(tmp_path):
    ds = image_of("tcyx", (2, 3, 6, 5), "uint8", c=["DAPI", "GFP", "RFP"])
    for file, image in zip(ds.img.to_png(tmp_path / "out"), ds.image, strict=True):
        with Pillow.open(file) as im:
            assert im.mode == "RGB"
            assert np.array_equal(np.asarray(im), image.transpose("y", "x", "c"))
    assert imload(file).img.channels == ["DAPI", "GFP", "RFP"]


@given(
    st.sampled_from(["float32", "float64", "int16", "int32", "uint16", "uint8"]),
    st.floats(-50, 50),
    st.floats(0.5, 200),
    st.sampled_from([None, 8, 16]),
    st.booleans(),
    st.integers(0, 99),
)
@examples(25)
def test_png_stretches_one_range(tmp_path_factory, dtype, low, width, bits, lazy, seed):
    folder = tmp_path_factory.mktemp("png") / "out"
    values = np.random.default_rng(seed).integers(-100, 250, (3, 4, 5)).astype(dtype)
    ds = create.from_array(values)
    ds = ds.chunk(t=2) if lazy else ds
    files = ds.img.to_png(folder, vmin=low, vmax=low + width, bits=bits)
    depth = bits or (8 if np.dtype(dtype).itemsize == 1 else 16)
    unit = np.clip((values.astype(float) - low) / ((low + width) - low), 0, 1)
    for k, file in enumerate(files):
        with Pillow.open(file) as im:
            found = np.asarray(im)
        assert found.dtype == f"u{depth // 8}"
        assert np.array_equal(found, np.rint(unit[k] * (2**depth - 1)))


def test_png_minmax_is_that_of_the_whole_series(tmp_path):
    values = np.stack([np.full((4, 5), v, "f4") for v in (0.0, 0.25, 1.0)])
    values[1, 0, :2] = np.nan, np.inf
    files = create.from_array(values).img.to_png(tmp_path / "out", scale="minmax")
    found = [np.asarray(Pillow.open(f)) for f in files]
    assert [int(f[2, 2]) for f in found] == [0, 16384, 65535]  # stretched one by one, all would be the same
    assert found[1][0, :2].tolist() == [0, 65535]
    assert imload(files[0]).image.attrs["vmax"] == 1.0


def test_png_minmax_of_a_constant(tmp_path):
    files = create.from_array(np.full((1, 4, 5), 7.0)).img.to_png(tmp_path / "out", scale="minmax")
    assert not np.asarray(Pillow.open(files[0])).any()


@pytest.mark.parametrize(
    ("dtype", "arguments", "error", "said"),
    [
        ("float32", {}, CannotWriteError, "vmin= and vmax="),
        ("int16", {}, CannotWriteError, "scale='minmax'"),
        ("float32", {"vmin": 1}, ValueError, "give both"),
        ("float32", {"vmin": 1, "vmax": 1}, ValueError, "less than"),
        ("uint16", {"bits": 8}, ValueError, "needs vmin= and vmax="),
        ("float32", {"scale": "image"}, ValueError, "minmax"),
        ("float32", {"vmin": np.nan, "vmax": 1}, ValueError, "finite"),
        ("complex64", {"vmin": 0, "vmax": 1}, CannotWriteError, "absolute"),
    ],
)
def test_png_refuses(tmp_path, dtype, arguments, error, said):
    with pytest.raises(error, match=said):
        series(dtype=dtype).img.to_png(tmp_path / "out", **arguments)
    assert not names(tmp_path)


def test_png_does_not_hold_volumes(tmp_path):
    with pytest.raises(CannotWriteError, match="one plane"):
        image_of("tzyx", (2, 3, 4, 5), "uint8").img.to_png(tmp_path / "out")
    assert not names(tmp_path)


def test_nothing_finite(tmp_path):
    with pytest.raises(ValueError, match="no finite"):
        create.from_array(np.full((2, 3, 4), np.nan)).img.to_png(tmp_path / "out", scale="minmax")


@pytest.mark.parametrize("lazy", [False, True])
def test_binary_is_that_of_thunder(tmp_path, expected, lazy):
    fixture = expected / "processing" / "tobinary_fixture"
    ds = create.from_array(np.load(fixture / "input.npy"))
    files = (ds.chunk(t=1) if lazy else ds).img.to_binary(tmp_path / "out")
    assert [Path(f).name for f in files] == ["image-00000.bin", "image-00001.bin", "conf.json", "SUCCESS"]
    assert names(tmp_path / "out") == names(fixture / "out")
    for name in names(fixture / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (fixture / "out" / name).read_bytes()


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">i4", "float16", "float64", "complex64"])
def test_binary_comes_back(tmp_path, dtype):
    ds = image_of("tzyx", (2, 3, 4, 5), "uint8").astype(dtype)
    ds.img.to_binary(tmp_path / "out")
    back = create.from_binary(tmp_path / "out")
    assert back.image.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(back.image, ds.image)
    assert np.array_equal(
        np.fromfile(tmp_path / "out" / "image-00001.bin", back.image.dtype), ds.image[1].values.ravel()
    )


def test_transposed_arrays_are_written_in_their_order(tmp_path):
    values = np.arange(24).reshape(2, 3, 4)
    ds = xr.Dataset({"image": (("y", "x", "t"), values)})
    ds.img.to_binary(tmp_path / "out")
    assert np.array_equal(create.from_binary(tmp_path / "out").image, values.transpose(2, 0, 1))


# which variable


def test_labels_are_left_out_and_can_be_asked_for(tmp_path):
    ds = create.from_example("cells").isel(c=0)
    files = ds.img.to_tif(tmp_path / "out")
    assert imload(files[0]).image.dtype == "uint16"
    labels = ds["labels"].img.to_tif(tmp_path / "labels", prefix="labels")
    back = imload(labels[1])
    assert back["labels"].attrs["kind"] == "labels"
    assert np.array_equal(back["labels"], ds["labels"][1])


def test_several_images(tmp_path):
    ds = series().rename(image="a")
    ds["b"] = ds["a"]
    with pytest.raises(ValueError, match=r"ds\['a'\]"):
        ds.img.to_tif(tmp_path / "out")


@pytest.mark.parametrize("prefix", ["", "a/b", ".hidden", 3])
def test_prefixes(tmp_path, prefix):
    with pytest.raises(ValueError, match="prefix="):
        series().img.to_tif(tmp_path / "out", prefix=prefix)


def test_no_image(tmp_path):
    with pytest.raises(CannotWriteError, match="no image"):
        image_of("tyx", (0, 4, 5), "uint8").img.to_tif(tmp_path / "out")
    assert not names(tmp_path)


# what is read


class Counting:
    """A reader that notes which chunks it was asked for."""

    def __init__(self, values):
        self.values, self.asked, self.lock, self.threads = values, [], threading.Lock(), set()

    def read_into(self, region, out):
        with self.lock:
            self.asked.append(tuple((s.start, s.stop) for s in region))
            self.threads.add(threading.get_ident())
        time.sleep(0.01)
        out[...] = self.values[region]

    def __dask_tokenize__(self):
        return id(self)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("lazy", ["pixels", "dask"])
def test_each_chunk_is_read_once(tmp_path, writer, lazy):
    reader = Counting(np.arange(8 * 6 * 5, dtype="u2").reshape(8, 6, 5))
    pixels = Pixels(reader, (8, 6, 5), np.dtype("u2"), (2, 6, 5), many_files=True)
    data = pixels.dask(((2,) * 4, (6,), (5,)))
    if lazy == "dask":
        data = data + np.uint16(0)
    ds = xr.Dataset({"image": (tuple("tyx"), data)})
    getattr(ds.img, writer)(tmp_path / "out")
    assert len(reader.asked) == len(set(reader.asked)) == 4
    assert len(os.listdir(tmp_path / "out")) == 8 + len(BESIDE.get(writer, ()))
    if len(os.sched_getaffinity(0)) > 1:
        assert len(reader.threads) > 1


def test_lazily_indexed_data(tmp_path):
    ds = series()
    imsave(ds, tmp_path / "a.npy")
    lazy = imload(tmp_path / "a.npy", metadata={"axes": "tyx"}, chunks=None)
    lazy.img.to_tif(tmp_path / "out")
    assert np.array_equal(create.from_tif(tmp_path / "out").image, ds.image)
    lazy.close()


# folders


@pytest.mark.parametrize("writer", WRITERS)
def test_existing_folders_are_refused(tmp_path, writer):
    write = getattr(series().img, writer)
    write(tmp_path / "a" / "b" / "out")  # parents are made
    before = {n: (tmp_path / "a/b/out" / n).stat() for n in names(tmp_path / "a/b/out")}
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        write(tmp_path / "a" / "b" / "out")
    assert {n: (tmp_path / "a/b/out" / n).stat() for n in names(tmp_path / "a/b/out")} == before
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(TargetExistsError, match="is a file"):
        write(tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("writer", WRITERS)
def test_overwriting_deletes_only_what_such_a_writer_wrote(tmp_path, writer):
    out, extension = tmp_path / "out", WRITERS[writer]
    getattr(series(5).img, writer)(out)
    foreign = {"notes.txt", f"image-7{extension}", f"image-00009{extension}", f"other-00000{extension}.bak"}
    for name in foreign:
        (out / name).write_bytes(b"somebody else's")
    imsave(series(1), out / "x.npy")
    (out / "sub").mkdir()
    (out / "sub" / f"image-00000{extension}").write_bytes(b"below")
    getattr((series(2) * 0).img, writer)(out, overwrite=True)
    kept = {"x.npy", "sub", *foreign}
    assert names(out) == kept | {f"image-0000{k}{extension}" for k in (0, 1)} | BESIDE.get(writer, set())
    assert all((out / name).read_bytes() == b"somebody else's" for name in foreign)
    assert (out / "sub" / f"image-00000{extension}").read_bytes() == b"below"
    back = create.from_path([out / f"image-0000{k}{extension}" for k in (0, 1)])
    assert not back.image.values.any()


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_in_the_way_is_refused(tmp_path, writer):
    out, extension = tmp_path / "out", WRITERS[writer]
    getattr(series(2).img, writer)(out)
    before = (out / f"image-00000{extension}").read_bytes()
    if writer == "to_tif":
        tifffile.imwrite(out / "image-00002.tif", np.ones((6, 5), "u2"))  # the same image, by another writer
    else:
        (out / f"image-00002{extension}").write_bytes(b"mine")
    with pytest.raises(TargetExistsError, match="image-00002"):
        getattr(series(3).img, writer)(out, overwrite=True)
    assert (out / f"image-00000{extension}").read_bytes() == before
    getattr(series(2).img, writer)(out, overwrite=True)
    assert (out / f"image-00002{extension}").exists()


def test_images_under_other_prefixes_stay(tmp_path):
    series(2).img.to_tif(tmp_path / "out", prefix="a")
    series(2).img.to_tif(tmp_path / "out", prefix="b", overwrite=True)
    series(1).img.to_tif(tmp_path / "out", prefix="a", overwrite=True)
    assert names(tmp_path / "out") == {"a-00000.tif", "b-00000.tif", "b-00001.tif"}


def test_somebody_elses_conf_is_refused(tmp_path):
    (tmp_path / "conf.json").write_text(json.dumps({"shape": [6, 5], "dtype": "uint16", "owner": "me"}))
    with pytest.raises(TargetExistsError, match=r"conf\.json"):
        series().img.to_binary(tmp_path, overwrite=True)
    assert names(tmp_path) == {"conf.json"}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("existed", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path, writer, existed):
    out = tmp_path / "out"
    if existed:
        getattr(series(4).img, writer)(out)
    before = {p.name: p.read_bytes() for p in out.glob("*")} if existed else {}

    def fail(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 3:
            raise RuntimeError("no more")
        return block

    data = da.map_blocks(fail, da.ones((5, 6, 5), "u1", chunks=(1, 6, 5)), dtype="u1", meta=np.empty((0, 0, 0), "u1"))
    with pytest.raises(RuntimeError, match="no more"):
        getattr(xr.Dataset({"image": (tuple("tyx"), data)}).img, writer)(out, overwrite=True)
    assert ({p.name: p.read_bytes() for p in out.glob("*")} if out.exists() else {}) == before
    assert out.exists() == existed


KILLED = """
import sys, os, time, threading, signal
import numpy as np
from intake_img import create
from intake_img.storage import local
writer, out, moment = sys.argv[1:4]
if moment == "commit":
    places, place = [], local._place
    def dying(*paths):
        if len(places) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        places.append(1)
        place(*paths)
    local._place = dying
else:
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
    def slow(item):
        if item == 4:
            threading.Timer(0.02, die).start()
            time.sleep(60)
        return np.full((6, 5), item, "u2")
items = list(range(8))
plain = lambda k: np.full((6, 5), k, "u2")
ds = create.from_list(items, slow if moment == "write" else plain, shape=(6, 5), dtype="u2")
getattr(ds.img, writer)(out, overwrite=True)
"""


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("moment", ["write", "commit"])
def test_a_killed_write_is_recognised(tmp_path, writer, moment):
    out = tmp_path / "out"
    old = image_of("tyx", (2, 4, 4), "uint16") * 0  # of another shape than the new ones
    getattr(old.img, writer)(out)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), writer, str(out), moment], timeout=60)
    assert done.returncode == -signal.SIGKILL
    read = {"to_tif": create.from_tif, "to_png": create.from_png, "to_binary": create.from_binary}[writer]
    if moment == "write":  # what was there is complete
        assert read(out).image.shape == (2, 4, 4)
        assert not read(out).image.values.any()
    else:  # what is new is complete, although not all files have their names
        for found in (read(out), imload(out)):
            assert found.image.values[:, 0, 0].tolist() == list(range(8))
        assert not (out / "SUCCESS").exists()
    with pytest.raises(TargetExistsError, match="exists and is not empty"):
        getattr(series(3).img, writer)(out)
    getattr(series(3).img, writer)(out, overwrite=True)
    assert names(out) == {f"image-0000{k}{WRITERS[writer]}" for k in range(3)} | BESIDE.get(writer, set())
    assert np.array_equal(read(out).image, series(3).image)


def test_success_is_written_last(tmp_path, monkeypatch):
    from intake_img.storage import local

    seen, place = [], local._place
    series(2).img.to_binary(tmp_path / "out")

    def noted(source, target, aside):
        seen.append((os.path.basename(target), (tmp_path / "out" / "SUCCESS").exists()))
        place(source, target, aside)

    monkeypatch.setattr(local, "_place", noted)
    series(2).img.to_binary(tmp_path / "out", overwrite=True)
    assert seen == [(n, False) for n in ("image-00000.bin", "image-00001.bin", "conf.json", "SUCCESS")]
    assert (tmp_path / "out" / "SUCCESS").exists()


def test_remote_folders(tmp_path):
    url = f"memory://{os.getpid()}-export/out"
    for write in ("to_tif", "to_binary"):
        files = getattr(series().img, write)(f"{url}-{write}")
        assert files[0].endswith(f"image-00000{WRITERS[write]}")
        getattr((series(2) * 0).img, write)(f"{url}-{write}", overwrite=True)
        assert create.from_path(f"{url}-{write}", ext=WRITERS[write]).image.shape == (2, 6, 5)


def test_more_than_a_hundred_thousand_files_sort():
    from intake_img.accessor.processing.export import _Series

    ds = xr.Dataset({"image": (tuple("tyx"), da.zeros((100_001, 1, 1), "u1", chunks=(50_000, 1, 1)))})
    members = _Series.of(ds).plan("image", ".tif").members
    assert members[0].name == "image-000000.tif"
    assert [m.name for m in members] == sorted(m.name for m in members)


def test_a_first_write_that_was_killed_leaves_nothing_to_read(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), "to_tif", str(tmp_path / "out"), "write"]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    with pytest.raises(FormatError, match="interrupted"):
        create.from_tif(tmp_path / "out")
    with pytest.raises(FormatError, match="interrupted"):
        imload(tmp_path / "out", ext="tif")


@pytest.mark.parametrize("writer", WRITERS)
def test_over_ones_own_source(tmp_path, writer):
    ds = series(4)
    getattr(ds.img, writer)(tmp_path / "out")
    read = {"to_tif": create.from_tif, "to_png": create.from_png, "to_binary": create.from_binary}[writer]
    half = read(tmp_path / "out") // 2
    getattr(half.img, writer)(tmp_path / "out", overwrite=True)
    assert np.array_equal(read(tmp_path / "out").image, ds.image // 2)


def test_progress(tmp_path, capsys):
    series().img.to_tif(tmp_path / "a", progress=True)
    assert "writing a" in capsys.readouterr().err
    series().img.to_tif(tmp_path / "b")
    assert capsys.readouterr().err == ""
