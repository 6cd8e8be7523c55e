"""Many files, one image: what is written in parts comes back equal, and other people's files are put together."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from thoroughness import examples

import intake_img
from intake_img import imload, imsave
from intake_img.errors import AxesError, CannotWriteError, FormatError
from intake_img.model.datasets import FILE_ATTRS


def make(sizes: dict[str, int], dtype: str = "u2", coords: dict | None = None, name: str = "image") -> xr.Dataset:
    n = int(np.prod(list(sizes.values())))
    values = (np.arange(n) % 251).astype(dtype).reshape(tuple(sizes.values()))
    return xr.Dataset({name: (tuple(sizes), values)}, coords=coords or {}, attrs={"note": "kept"})


def assert_same(loaded: xr.Dataset, saved: xr.Dataset) -> None:
    xr.testing.assert_identical(loaded.drop_attrs(deep=False).load(), saved.drop_attrs(deep=False).load())
    assert {k: v for k, v in loaded.attrs.items() if k not in FILE_ATTRS} == saved.attrs


@pytest.fixture
def two_variables() -> xr.Dataset:
    coords = {
        "i": [3, 10, 21],
        "c": ["nuclei", "actin"],
        "z": ("z", np.arange(4) * 0.5, {"units": "µm", "spacing": 0.5}),
        "day": ("i", [0.5, 1.5, 9.0]),
        "dose": (("c", "z"), np.arange(8.0).reshape(2, 4)),
    }
    ds = make({"i": 3, "c": 2, "z": 4, "y": 5, "x": 6}, coords=coords)
    ds["segmentation"] = (("i", "c", "y", "x"), np.arange(180).reshape(3, 2, 5, 6) % 7, {"kind": "labels"})
    return ds


def test_names_are_those_of_the_documentation(tmp_path: Path, two_variables: xr.Dataset) -> None:
    written = imsave(two_variables.drop_dims("z").astype("u2"), tmp_path / "filename.tif", partition="yx")
    assert [Path(w).name for w in written][:2] == [
        "filename.i_03.c_nuclei.tif",
        "filename.i_03.c_actin.tif",
    ]
    written = imsave(two_variables.astype("u2"), tmp_path / "both.tif", partition="zyx")
    names = [Path(w).name for w in written]
    assert names[0] == "both.var_image.i_03.c_nuclei.tif"
    assert names[-1] == "both.var_segmentation.i_21.c_actin.tif"
    assert sorted(names) == sorted(p.name for p in tmp_path.glob("both*"))
    text = make({"i": 2, "y": 4, "x": 5}, coords={"i": ["treatment", "control"]})
    assert Path(imsave(text, tmp_path / "t.tif")[0]).name == "t.i_treatment.tif"


@pytest.mark.parametrize("extension", [".npz", ".zarr", ".tif"])
def test_parts_come_back_equal_in_source_order(tmp_path: Path, two_variables: xr.Dataset, extension: str) -> None:
    ds = two_variables.astype("u2") if extension == ".tif" else two_variables
    imsave(ds, tmp_path / f"f{extension}", partition="zyx")
    loaded = imload(tmp_path / f"f{extension}")
    assert_same(loaded, ds)
    assert list(loaded.c.values) == ["nuclei", "actin"]
    part = imload(tmp_path / f"f{extension}", partition={"c": "actin", "i": [2, 0]})
    xr.testing.assert_equal(part.image.load(), ds.image.sel(c="actin").isel(i=[2, 0]))
    for chunked in (imload(tmp_path / f"f{extension}", chunks=None), pickle.loads(pickle.dumps(loaded))):
        assert_same(chunked, ds)


def test_by_default_there_are_as_few_files_as_the_format_allows(tmp_path: Path) -> None:
    ds = make({"t": 2, "c": 2, "z": 4, "y": 5, "x": 6})
    assert len(imsave(ds, tmp_path / "a.tif")) == 1
    assert len(imsave(ds, tmp_path / "a.png")) == 16
    assert len(imsave(ds.astype("u1").isel(c=0, z=0), tmp_path / "a.gif")) == 1
    assert len(imsave(ds.expand_dims(i=2), tmp_path / "b.tif")) == 2
    assert_same(imload(tmp_path / "a.png"), ds)
    assert_same(imload(tmp_path / "b.tif"), ds.expand_dims(i=2).assign_attrs(ds.attrs))


def test_axes_that_the_format_lacks_keep_their_order(tmp_path: Path) -> None:
    ds = make({"v": 1, "h": 3, "q": 2, "t": 2, "y": 4, "x": 5})
    names = [Path(w).name for w in imsave(ds, tmp_path / "a.ome.tif")]
    assert names[:2] == ["a.h_0.q_0.ome.tif", "a.h_0.q_1.ome.tif"]
    loaded = imload(tmp_path / "a.ome.tif")
    assert_same(loaded, ds)
    assert loaded.img.axes == "vhqtyx"
    assert imload(tmp_path / "a.ome.tif", partition={"h": 1}, output_axis_order=None).img.axes == "vqtyx"


def test_axes_of_a_part_stand_in_the_given_order(tmp_path: Path) -> None:
    ds = make({"t": 2, "c": 3, "y": 5, "x": 6})
    [first, *_] = imsave(ds, tmp_path / "f.npy", partition="xty")
    assert np.load(first).shape == (6, 2, 5)
    assert_array_equal(np.load(first), ds.image.isel(c=0).transpose("x", "t", "y"))


HARD = [
    "a/b",
    "a\\b",
    "a.b",
    "a_b",
    "nul\0",
    "two words",
    "-lead",
    "50%",
    "é—µ",
    "3",
    "03",
    "0p5",
    "nan",
    "",
    " x ",
    "%41",
]


def test_hard_labels(tmp_path: Path) -> None:
    labels = [*HARD, "long" * 100]
    ds = make({"c": len(labels), "y": 2, "x": 3}, coords={"c": np.array(labels, dtype=object)})
    imsave(ds, tmp_path / "f.npz", partition="yx")
    assert imload(tmp_path / "f.npz").c.values.tolist() == labels
    assert_array_equal(imload(tmp_path / "f.npz").image, ds.image)


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.permutations("itczyx").flatmap(
        lambda p: st.integers(2, 5).map(lambda n: [a for a in "itczyx" if a in p[:n] or a in "yx"])
    ),
    st.data(),
)
def test_any_partition_of_any_axes(
    tmp_path_factory: pytest.TempPathFactory, axes: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any")
    sizes = {a: data.draw(st.integers(1, 3)) for a in axes}
    coords: dict = {}
    for a in axes:
        kind = data.draw(st.sampled_from(["none", "even", "int", "float", "text"]))
        if kind == "even":
            coords[a] = (a, 2.5 + 0.1 * np.arange(sizes[a]), {"units": "µm", "spacing": 0.1})
        elif kind != "none":
            values = {"int": st.integers(-50, 5000), "float": st.floats(-1e6, 1e6), "text": st.text(max_size=6)}[kind]
            unique = st.lists(values, min_size=sizes[a], max_size=sizes[a], unique_by=lambda v: str(v).casefold())
            coords[a] = np.array(data.draw(unique), dtype=object if kind == "text" else None)
    ds = make(sizes, data.draw(st.sampled_from(["u1", "i2", "f4", "f8"])), coords)
    partition = data.draw(st.lists(st.sampled_from(axes), unique=True, min_size=1))
    imsave(ds, folder / "f.npz", partition=partition)
    assert_same(imload(folder / "f.npz"), ds)


def test_existing_parts_refuse_the_whole_write(tmp_path: Path) -> None:
    ds = make({"c": 2, "y": 3, "x": 4})
    imsave(ds, tmp_path / "f.npy", partition="yx")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        imsave(ds * 2, tmp_path / "f.npy", partition="x")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_overwriting_leaves_no_part_of_the_old_image(tmp_path: Path) -> None:
    imsave(make({"c": 5, "y": 3, "x": 4}), tmp_path / "f.npz", partition="yx")
    smaller = make({"c": 2, "y": 3, "x": 4})
    imsave(smaller, tmp_path / "f.npz", partition="yx", overwrite=True)
    assert_same(imload(tmp_path / "f.npz"), smaller)
    lazy = imload(tmp_path / "f.npz")
    imsave(lazy + 1, tmp_path / "f.npz", partition="yx", overwrite=True)
    assert_array_equal(imload(tmp_path / "f.npz").image, smaller.image + 1)


def test_a_failing_write_can_be_resumed(tmp_path: Path) -> None:
    calls = []

    def plane(block_info=None):
        k = block_info[None]["chunk-location"][0]
        calls.append(k)
        if k == 3 and calls.count(3) == 1:
            raise OSError(28, "No space left on device")
        return np.full((1, 8, 8), k, "u2")

    lazy = dask.array.map_blocks(plane, chunks=((1,) * 6, (8,), (8,)), dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    ds = xr.Dataset({"image": (("t", "y", "x"), lazy)})
    with pytest.raises(OSError, match="no space left"):
        imsave(ds, tmp_path / "f.npz", partition="yx")
    assert not list(tmp_path.glob("*.npz"))
    with pytest.raises(FormatError, match="interrupted"):
        imload(tmp_path / "f.npz")
    with pytest.raises(FileExistsError, match="resume=True"):
        imsave(ds, tmp_path / "f.npz", partition="yx")
    with pytest.raises(CannotWriteError, match="another image"):
        imsave(ds, tmp_path / "f.npz", partition="yx", compress=True, resume=True)
    imsave(ds, tmp_path / "f.npz", partition="yx", resume=True)
    assert set(calls) == set(range(6))
    assert_array_equal(imload(tmp_path / "f.npz").image[:, 0, 0], np.arange(6))
    assert not list(tmp_path.glob(".*"))


WRITER = """
import sys, time
import dask.array as da, numpy as np, xarray as xr
from intake_img import imsave
def plane(block_info=None):
    time.sleep(0.01)
    return np.full((1, 64, 64), block_info[None]["chunk-location"][0], "u2")
lazy = da.map_blocks(plane, chunks=((1,) * 40, (64,), (64,)), dtype="u2", meta=np.empty((0, 0, 0), "u2"))
print("go", flush=True)
imsave(xr.Dataset({"image": (("t", "y", "x"), lazy)}), sys.argv[1], partition="yx", resume=len(sys.argv) > 2)
"""


def test_a_killed_writer_leaves_nothing_that_reads_as_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    monkeypatch.setattr(sys, "argv", ["writer", str(whole / "f.npy")])
    exec(WRITER, {})
    for delay in (0.0, 0.05, 0.12, 0.2):
        folder = tmp_path / f"killed-{delay}"
        folder.mkdir()
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder / "f.npy")], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        complete = not list(folder.glob(".*"))
        if not complete:
            with pytest.raises((FormatError, FileNotFoundError)):
                imload(folder / "f.npy")
            monkeypatch.setattr(sys, "argv", ["writer", str(folder / "f.npy"), "resume"])
            exec(WRITER, {})
        if list(folder.iterdir()):
            assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
                p.name: p.read_bytes() for p in whole.iterdir()
            }


def test_each_chunk_of_the_source_is_read_once(tmp_path: Path) -> None:
    seen: list[int] = []

    def block(block_info=None):
        seen.append(block_info[None]["chunk-location"][0])
        return np.zeros((4, 1, 8, 8), "u2")

    lazy = dask.array.map_blocks(block, chunks=((4, 4), (1, 1), (8,), (8,)), dtype="u2", meta=np.empty((0,) * 4, "u2"))
    imsave(xr.Dataset({"image": (("t", "c", "y", "x"), lazy)}), tmp_path / "f.npy", partition="yx")
    assert len(seen) == 4


# other people's files


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    for i in range(2):
        for t in (1, 2, 10):
            folder = tmp_path / f"pos_{i}"
            folder.mkdir(exist_ok=True)
            tifffile.imwrite(folder / f"t_{t}.tif", np.full((4, 5), 100 * i + t, "u2"))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_patterns_with_fields_in_folders(planes: Path) -> None:
    ds = imload(f"{planes}/pos_{{i}}/t_{{t}}.tif")
    assert ds.img.axes == "ityx"
    assert ds.t.values.tolist() == [1, 2, 10]
    assert_array_equal(ds.image[:, :, 0, 0], [[1, 2, 10], [101, 102, 110]])
    assert ds.driver == "filepattern"


def test_globs_lists_and_folders(planes: Path) -> None:
    glob = imload(f"{planes}/pos_1/*.tif", axis="t")
    assert_array_equal(glob.image[:, 0, 0], [101, 102, 110])
    assert "t" not in glob.coords
    listed = imload([planes / "pos_0" / "t_10.tif", planes / "pos_1" / "t_1.tif"])
    assert listed.i.values.tolist() == ["t_10.tif", "t_1.tif"]
    assert_array_equal(listed.image[:, 0, 0], [10, 101])
    folder = imload(planes / "pos_0")
    assert_array_equal(folder.image[:, 0, 0], [1, 2, 10])
    recursive = imload(planes, recursive=True)
    assert recursive.i.values.tolist() == [f"pos_{i}/t_{t}.tif" for i in (0, 1) for t in (1, 2, 10)]


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 2), (2, 2), (-1, None), (None, -1)])
def test_start_and_stop_are_a_slice(planes: Path, start: int | None, stop: int | None) -> None:
    wanted = [1, 2, 10][start:stop]
    if not wanted:
        with pytest.raises(FileNotFoundError):
            imload(planes / "pos_0", start=start, stop=stop)
        return
    assert_array_equal(imload(planes / "pos_0", start=start, stop=stop).image[:, 0, 0], wanted)


def test_variables_in_names(tmp_path: Path) -> None:
    for name in ("raw", "mask"):
        for t in range(2):
            np.save(tmp_path / f"{name}-{t}.npy", np.full((2, 3), t))
    ds = imload(f"{tmp_path}/{{var}}-{{t}}.npy")
    assert set(ds.data_vars) == {"raw", "mask"}
    assert dict(ds.sizes) == {"t": 2, "y": 2, "x": 3}


@pytest.mark.parametrize("names", [["a.i_0.c_x.tif", "a.c_y.i_0.tif"], ["a.i_0.tif", "a.i_0.c_x.tif"]])
def test_files_of_two_partitions_are_not_chosen_silently(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        imsave(np.zeros((4, 5), "u1"), tmp_path / name)
    with pytest.raises(AxesError, match="different partitions") as refused:
        imload(tmp_path / "a.tif")
    assert all(name in str(refused.value) for name in names)


def test_missing_files_are_listed_or_filled(planes: Path) -> None:
    (planes / "pos_1" / "t_2.tif").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 6 files are missing: i=1 t=2 \(pos_1/t_2.tif\); .*missing='fill'"
    ):
        imload(f"{planes}/pos_{{i}}/t_{{t}}.tif")
    filled = imload(f"{planes}/pos_{{i}}/t_{{t}}.tif", missing="fill")
    assert_array_equal(filled.image[:, :, 0, 0], [[1, 2, 10], [101, 0, 110]])


def test_unequal_files_are_named_or_grouped(planes: Path) -> None:
    tifffile.imwrite(planes / "pos_1" / "t_2.tif", np.zeros((7, 5), "u2"))
    pattern = f"{planes}/pos_{{i}}/t_{{t}}.tif"
    with pytest.raises(FormatError, match=r"t_2\.tif contains yx \(7, 5\) uint16, but .*t_1\.tif contains yx \(4, 5\)"):
        imload(pattern).load()
    with pytest.raises(FormatError, match="group=True"):
        imload(pattern, verify=True)
    tree = imload(pattern, group=True)
    assert set(tree.children) == {"4x5-uint16", "7x5-uint16"}


def test_files_of_several_formats(tmp_path: Path) -> None:
    np.save(tmp_path / "a_0.npy", np.full((4, 5), 7, "u2"))
    tifffile.imwrite(tmp_path / "a_1.tif", np.full((4, 5), 8, "u2"))
    ds = imload([tmp_path / "a_0.npy", tmp_path / "a_1.tif"], axis="t")
    assert_array_equal(ds.image[:, 0, 0], [7, 8])


def test_sources_of_intake(planes: Path) -> None:
    import intake

    source = intake.open_filepattern(f"{planes}/pos_{{i}}/t_{{t}}.tif")
    assert source.discover()["shape"] == (2, 3, 4, 5)
    again = pickle.loads(pickle.dumps(source))
    assert again == source
    (planes / "c.yml").write_text(source.yaml())
    assert intake.open_catalog(str(planes / "c.yml")).filepattern.read().identical(source.read())
    assert intake.open_directory(str(planes / "pos_0")).read().sizes["i"] == 3
    listed = intake.open_imagelist([str(planes / "pos_0" / "t_1.tif")], axis="t")
    assert listed.read().image.shape == (1, 4, 5)
    assert eval(repr(listed.arguments()["uri"])) == [str(planes / "pos_0" / "t_1.tif")]


def test_wrong_arguments_say_so(planes: Path) -> None:
    with pytest.raises(AxesError, match="'q'"):
        imsave(make({"y": 2, "x": 3}), planes / "n.npy", partition="qyx")
    twice = make({"c": 2, "y": 2, "x": 3}, coords={"c": ["a", "A"]})
    with pytest.raises(CannotWriteError, match="differ by case"):
        imsave(twice, planes / "n.npy", partition="yx")
    with pytest.raises(FileNotFoundError):
        imload(f"{planes}/nothing_{{i}}.tif")
    with pytest.raises(ValueError, match="'error' or 'fill'"):
        imload(f"{planes}/pos_{{i}}/t_{{t}}.tif", missing="maybe")


def test_a_plane_is_a_task_and_names_are_not_copied_into_each(planes: Path) -> None:
    ds = imload(f"{planes}/pos_{{i}}/t_{{t}}.tif")
    assert len(dict(ds.image.data.dask)) <= 2 * ds.image.data.npartitions + 1
    assert ds.image.data.chunksize == (1, 1, 4, 5)


@pytest.mark.parametrize("remote", ["memory"])
def test_remote_parts(remote: str) -> None:
    ds = make({"c": 2, "y": 3, "x": 4}, coords={"c": ["b", "a"]})
    url = f"{remote}://{os.getpid()}-parts/f.npz"
    imsave(ds, url, partition="yx")
    assert_same(imload(url), ds)
    imsave(ds * 2, url, partition="yx", overwrite=True)
    assert_array_equal(imload(url).image, ds.image * 2)


def test_loaders(expected: Path) -> None:
    from intake_img import create

    random = create.from_random((4, 3, 5), seed=42)
    assert_array_equal(random.image, np.load(expected / "processing" / "fromrandom_4x3x5_seed42.npz")["output"])
    fixture = expected / "processing" / "tobinary_fixture"
    assert_array_equal(create.from_binary(fixture / "out").image, np.load(fixture / "input.npy"))
    assert_array_equal(imload(fixture / "out").image, np.load(fixture / "input.npy"))
    assert intake_img.__version__


# corners of finding files


def test_numbers_of_any_width_and_padding_are_in_order(tmp_path: Path) -> None:
    names = ["a_9.npy", "a_010.npy", "a_-3.npy", "a_11.npy", "A_12.npy", ".a_13.npy", "a_x.txt", "a_14.npy.bak"]
    for k, name in enumerate(names):
        np.save(tmp_path / "x.npy", np.full((2, 3), k))
        (tmp_path / "x.npy").rename(tmp_path / name)
    ds = imload(f"{tmp_path}/a_{{t}}.npy")
    assert ds.t.values.tolist() == [-3, 9, 10, 11]
    assert_array_equal(ds.image[:, 0, 0], [2, 0, 1, 3])
    (tmp_path / "a_09.npy").write_bytes((tmp_path / "a_9.npy").read_bytes())
    with pytest.raises(AxesError, match=r"a_0?9\.npy and .*a_0?9\.npy have the same place"):
        imload(f"{tmp_path}/a_{{t}}.npy")


@examples(60)
@given(st.data())
def test_columns_of_numbers_are_those_of_the_regex(data: st.DataObject) -> None:
    """The quick way through digits finds the same files, labels and order as matching one by one."""
    from intake_img.collections.digits import find_numbers
    from intake_img.collections.listing import Column
    from intake_img.collections.patterns import Pattern

    text = data.draw(
        st.sampled_from(["a_{t}.npy", "a{i}_{t:02d}.npy", "{i}{t:03d}", "{i}1{t}", "a_{t}*.npy", "{t:3}x"])
    )
    piece = st.sampled_from(["a", "_", "0", "1", "12", "007", ".npy", "x", "-", "é"])
    names = data.draw(st.lists(st.lists(piece, max_size=6).map("".join), unique=True, max_size=12))
    regex = Pattern(text).matcher
    found = {n: m.groups() for n in names if (m := regex.fullmatch(n))}
    quick = find_numbers(regex, names)
    if quick is None:
        return
    places, groups = quick
    matching = [names[k] for k in places.tolist()]
    assert set(matching) == set(found)
    for k, numbers in enumerate(groups):
        column, slow = Column.of_numbers(matching, numbers), Column([found[n][k] for n in matching])
        assert list(map(int, column.labels)) == list(map(int, slow.labels))
        assert_array_equal(column.codes, slow.codes)


def test_only_folders_that_fit_are_looked_into(planes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (planes / "other" / "deep").mkdir(parents=True)
    (planes / ".hidden").mkdir()
    seen = []
    listdir, scandir = os.listdir, os.scandir
    monkeypatch.setattr(os, "listdir", lambda p: (seen.append(str(p)), listdir(p))[1])
    monkeypatch.setattr(os, "scandir", lambda p: (seen.append(str(p)), scandir(p))[1])
    imload(f"{planes}/pos_{{i}}/t_{{t}}.tif")
    assert sorted(seen) == sorted([str(planes), str(planes / "pos_0"), str(planes / "pos_1")])


def test_links_in_circles_end(planes: Path) -> None:
    (planes / "pos_0" / "up").symlink_to(planes)
    assert imload(planes, recursive=True).sizes["i"] == 6
    assert len(intake_img.collections.sequence.FilePatternSource(f"{planes}/**/*.tif").files) == 6


def test_a_slice_of_a_pattern_is_in_order(planes: Path) -> None:
    ds = imload(f"{planes}/pos_{{i}}/t_{{t}}.tif", start=3)
    assert ds.i.values.tolist() == [1]
    assert_array_equal(ds.image[0, :, 0, 0], [101, 102, 110])
    text = intake_img.collections.sequence.FilePatternSource(
        f"{planes}/pos_{{i}}/t_{{t}}.tif", start="3", stop="", verify="False"
    )
    assert (text.start, text.stop, text.verify) == (3, None, False)
    for wrong in ({"start": "x"}, {"stop": 1.5}, {"verify": "perhaps"}):
        with pytest.raises(TypeError, match="expected"):
            imload(f"{planes}/pos_{{i}}/t_{{t}}.tif", **wrong)


def test_files_laid_out_alike_are_not_parsed_again(planes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import intake_img.formats.tif.parser as driver

    parsed = []
    real = driver.open_tiff
    monkeypatch.setattr(driver, "open_tiff", lambda file, kind: (parsed.append(file.name), real(file, kind))[1])
    expected = [[1, 2, 10], [101, 102, 110]]
    assert_array_equal(imload(f"{planes}/pos_{{i}}/t_{{t}}.tif").image.values[:, :, 0, 0], expected)
    assert set(parsed) == {"t_1.tif"}
    tifffile.imwrite(planes / "pos_1" / "t_2.tif", np.full((4, 5), 102, "u2"), compression="zlib")
    assert_array_equal(imload(f"{planes}/pos_{{i}}/t_{{t}}.tif").image.values[:, :, 0, 0], expected)
    tifffile.imwrite(planes / "pos_1" / "t_10.tif", np.full((4, 5), 110, "i2"))  # one tag differs, the size does not
    with pytest.raises(FormatError, match=r"t_10\.tif contains yx \(4, 5\) int16"):
        imload(f"{planes}/pos_{{i}}/t_{{t}}.tif").load()


def test_coordinates_of_axes_that_one_variable_lacks(tmp_path: Path) -> None:
    ds = make({"i": 3, "y": 2, "x": 3}, coords={"i": [0.5, 0.0, 1.0]})
    ds["all"] = (("y", "x"), np.ones((2, 3), "u2"))
    imsave(ds[["all", "image"]], tmp_path / "f.tif", partition="yx")
    assert_same(imload(tmp_path / "f.tif"), ds)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "tile": (16, 16), "bigtiff": True},
        {"compression": "zstd", "byteorder": ">", "rowsperstrip": 7},
    ],
)
def test_compressed_files_with_the_same_header_are_not_parsed_again(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import intake_img.formats.tif.parser as driver

    planes = np.random.default_rng(0).poisson(40, (7, 60, 50)).astype("u2")
    planes[3] //= 20  # compresses to another length
    for k, plane in enumerate(planes):
        tifffile.imwrite(tmp_path / f"t_{k}.tif", plane, **options)
    parsed = []
    real = driver.open_tiff
    monkeypatch.setattr(driver, "open_tiff", lambda file, kind: (parsed.append(file.name), real(file, kind))[1])
    assert_array_equal(imload(f"{tmp_path}/t_{{t}}.tif").image.values, planes)
    assert set(parsed) == {"t_0.tif"}
    planes[4] = 0  # inflates so much that its header is looked at in full
    tifffile.imwrite(tmp_path / "t_4.tif", planes[4], **options)
    tifffile.imwrite(tmp_path / "t_5.tif", planes[5], description="another header", **options)
    assert_array_equal(imload(f"{tmp_path}/t_{{t}}.tif").image.values, planes)
    assert "t_5.tif" in parsed
    assert "t_6.tif" not in parsed
    content = (tmp_path / "t_6.tif").read_bytes()
    (tmp_path / "t_6.tif").write_bytes(content[: len(content) - 200])
    with pytest.raises(FormatError, match=r"t_6\.tif"):
        imload(f"{tmp_path}/t_{{t}}.tif").load()


# folders of several formats, and what a source of any format takes


def test_endings_of_one_format_belong_together(tmp_path: Path) -> None:
    for k, ending in enumerate([".tif", ".tiff", ".TIF", ".ome.tif", ".tif"]):
        tifffile.imwrite(tmp_path / f"m_{k}{ending}", np.full((4, 5), k, "u2"))
    assert_array_equal(imload(tmp_path).image[:, 0, 0], range(5))
    assert imload(tmp_path, ext=".tiff").sizes["i"] == 1


@pytest.mark.parametrize(("pictures", "refused"), [(4, True), (3, True), (2, True), (1, False)])
def test_previews_are_not_chosen_silently(pictures: int, refused: bool, tmp_path: Path) -> None:
    for k in range(3):
        tifffile.imwrite(tmp_path / f"m_{k}.tif", np.full((4, 5), k, "u2"))
    for k in range(pictures):
        imsave(np.zeros((4, 5), "u1"), tmp_path / f"m_{k}.png")
    counts = rf"(3 TIFF|{pictures} \.png), (3 TIFF|{pictures} \.png)"
    if refused:
        with pytest.raises(FormatError, match=rf"{counts}.*ext='\.(png|tif)'"):
            imload(tmp_path)
    else:
        with pytest.warns(UserWarning, match=rf"{counts}.*TIFF files are taken; ext='\.png'"):
            assert imload(tmp_path).image.dtype == "u2"
    assert imload(tmp_path, ext="tif").image.dtype == "u2"
    assert imload(tmp_path, ext=".png").sizes["i"] == pictures


INDEXES = ["Index.idx.xml", "Index.xml", "MeasurementData.mlf", "9987.HTD", "scan.xdce", "experiment_descriptor.xml"]


@pytest.mark.parametrize("name", INDEXES)
@pytest.mark.parametrize("above", [False, True])
def test_the_index_of_a_plate_is_named(name: str, above: bool, tmp_path: Path) -> None:
    folder = tmp_path / "plate" / "Images"
    folder.mkdir(parents=True)
    for k in range(3):
        tifffile.imwrite(folder / f"r01c0{k}.tif", np.full((4, 5), k, "u2"))
    ((folder.parent if above else folder) / name).write_text("<x/>")
    with pytest.warns(UserWarning, match=rf"{name} has the name of the index of a plate, but cannot be read as one"):
        assert imload(folder).sizes["i"] == 3
    imload(f"{folder}/r01c{{i}}.tif")  # who says what the names mean is not warned


@pytest.mark.parametrize("kind", ["pattern", "glob", "folder", "list", "parts"])
def test_a_source_of_any_format_takes_what_imload_takes(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import intake

    from intake_img.doors.cli import main

    (tmp_path / "d").mkdir()
    stack = xr.Dataset({"image": (("t", "y", "x"), np.arange(60, dtype="u2").reshape(3, 4, 5))})
    imsave(stack, tmp_path / "d" / "f.tif", partition="yx")
    paths = sorted(map(str, (tmp_path / "d").iterdir()))
    uri = {
        "pattern": f"{tmp_path}/d/f.t_{{t}}.tif",
        "glob": f"{tmp_path}/d/*.tif",
        "folder": f"{tmp_path}/d",
        "list": paths,
        "parts": f"{tmp_path}/d/f.tif",
    }[kind]
    options = {"axis": "t"} if kind in ("glob", "list") else {}
    wanted = imload(uri, **options)
    source = intake.open_img(uri, **options)
    xr.testing.assert_identical(source.read(), wanted.load())
    assert pickle.loads(pickle.dumps(source)) == source
    (tmp_path / "c.yml").write_text(source.yaml())
    xr.testing.assert_identical(intake.open_catalog(str(tmp_path / "c.yml")).img.read(), wanted)
    strict = intake_img.open_catalog(str(tmp_path / "c.yml"))
    xr.testing.assert_identical(strict.img.read(), wanted)
    if kind != "list":
        assert main(["info", str(uri)]) == 0
        assert main(["convert", str(uri), str(tmp_path / "out.npy")]) == 0
        assert_array_equal(np.load(tmp_path / "out.npy"), stack.image)
        assert "3" in capsys.readouterr().out
