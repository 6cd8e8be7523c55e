"""The contract of our sources with Intake: version-1 drivers and catalogs, and version-2 readers.

Asking a source for what it is changes nothing of the caller's; its YAML and its pickle are equal to it; catalogs with
parameters, templates and nesting open it.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import dask
import intake
import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml
from intake.readers import datatypes, readers

from intake_img import ImageSource, imload, imsave
from intake_img.doors.intake2 import ImgReader, datatypes_of_formats
from intake_img.formats.registry import ImgSource, autodetect, formats
from intake_img.model.datasets import attributes_of
from intake_img.storage.handles import POOL

# Intake warns of a shell for every text parameter that calls for none
pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed due to getshell=False:UserWarning")
RNG = np.random.default_rng(5)
METADATA = {"axes": "tyx", "spacing": {"y": 0.5, "x": 0.5}, "spacing_units": {"y": "um", "x": "um"}, "note": "by hand"}


@pytest.fixture
def stack(tmp_path):
    np.save(tmp_path / "a.npy", RNG.integers(0, 1000, (4, 5, 6), dtype="u2"))
    return tmp_path / "a.npy"


@pytest.fixture(params=["npy", "imageio", "tif", "omezarr", "czi"])
def source(request, tmp_path):
    """A source of every driver, with options and metadata."""
    if request.param == "npy":
        path = str(tmp_path / "a.npy")
        np.save(path, np.arange(60).reshape(3, 4, 5))
    else:
        path, _ = formats()[request.param].sample(str(tmp_path))
    cls = getattr(intake, f"open_{request.param}")
    assert cls is formats()[request.param].source
    made = cls(path, chunks={"y": 2}, metadata={"note": "by hand", "spacing": {"x": 0.3}})
    made.name, made.description = "embryo", "the lab's embryo"
    yield made
    made.close()


def same(a: xr.Dataset, b: xr.Dataset) -> None:
    xr.testing.assert_identical(a.load(), b.load())


def selected(ds: xr.Dataset, **indexers) -> xr.Dataset:
    """Return a selection; xarray leaves the lists of a value for each channel as they are."""
    found = ds.isel(indexers)
    if "c" in found.coords:
        found.c.attrs = attributes_of(found.c)
    return found


# the source itself


def test_discover_changes_nothing_of_the_callers(source):
    metadata = source._captured_init_kwargs["metadata"]
    mine = {"note": "by hand", "spacing": {"x": 0.3}}
    again = type(source)(source.uri, metadata=mine)
    before = copy.deepcopy(mine), hash(again), again.yaml(), dask.base.tokenize(again)
    twin = type(source)(source.uri, metadata=copy.deepcopy(mine))
    info = again.discover()
    assert (mine, hash(again), again.yaml(), dask.base.tokenize(again)) == before
    assert again == twin
    assert metadata == {"note": "by hand", "spacing": {"x": 0.3}}
    info["metadata"]["note"] = "changed"
    info["metadata"]["spacing"]["x"] = 7
    assert again.discover()["metadata"]["note"] == "by hand"
    assert again.discover()["metadata"]["spacing"]["x"] == 0.3
    again.close()


def test_discover_says_what_the_data_are(source):
    info = source.discover()
    ds = source.to_dask()
    first = next(iter(ds.data_vars.values()))
    assert info["dtype"] == str(first.dtype)
    assert tuple(info["shape"]) == first.shape
    assert info["npartitions"] == first.shape[0]
    assert info["metadata"]["axes"] == "".join(first.dims)
    assert info["metadata"]["spacing"]["x"] == 0.3
    yaml.safe_dump(info["metadata"])  # plain types


@pytest.mark.parametrize("name", ["tif", "npy", "img", "filepattern", "directory", "imagelist"])
def test_describe_is_that_of_intake(name, tmp_path):
    """`describe` takes no argument, says what Intake's own drivers say, of a source and of an entry; opens nothing."""
    (tmp_path / "table.csv").write_text("a\n1\n")
    (tmp_path / "sub").mkdir()
    imsave(RNG.random((4, 5)).astype("f4"), tmp_path / "sub" / "a.tif")
    np.save(tmp_path / "a.npy", np.zeros((4, 5)))
    place = {"tif": "sub/a.tif", "npy": "a.npy", "img": "sub/a.tif", "filepattern": "sub/{t}.tif", "directory": "sub"}
    there = f"{{{{ CATALOG_DIR }}}}/{place.get(name, 'sub/a.tif').replace('{t}', '*')}"
    uri = [there] if name == "imagelist" else there
    args = {"uri": uri, "metadata": {"note": "mine"}}
    sources = {
        "image": {"driver": name, "args": args},
        "table": {"driver": "csv", "args": {"urlpath": "{{ CATALOG_DIR }}/table.csv"}},
    }
    (tmp_path / "c.yml").write_text(yaml.safe_dump({"sources": sources}))
    catalog = intake.open_catalog(str(tmp_path / "c.yml"))
    theirs = catalog["table"].describe()
    for found in (catalog["image"].describe(), catalog._entries["image"].describe()):
        assert found.keys() == theirs.keys()
        assert (found["name"], found["driver"], found["args"]) == ("image", [name], args)
    path = str(tmp_path / place.get(name, "sub/a.tif"))
    lone = getattr(intake, f"open_{name}")([path] if name == "imagelist" else path, metadata={"note": "mine"})
    own = lone.describe()
    assert {k: type(v) for k, v in own.items()} == {k: type(v) for k, v in theirs.items()}
    assert own["driver"] == [name]
    assert own["metadata"] == {"note": "mine"}
    assert lone._image is None
    again = getattr(intake, f"open_{own['driver'][0]}")(**own["args"], metadata=own["metadata"])
    assert again == lone


@pytest.mark.parametrize("name", ["tif", "img", "filepattern", "omezarr"])
def test_the_word_of_intake_xarray_gets_a_hint(name):
    with pytest.raises(TypeError, match=r"no argument 'urlpath': here it is uri='a/b\.tif'"):
        getattr(intake, f"open_{name}")(urlpath="a/b.tif")


def test_later_changes_of_the_callers_metadata_are_not_the_sources(stack):
    mine = copy.deepcopy(METADATA)
    source = intake.open_npy(stack, metadata=mine)
    text = source.yaml()
    mine["spacing"]["x"] = 99
    assert source.yaml() == text
    assert source.read().x.attrs["spacing"] == 0.5


def test_yaml_reopens_to_an_equal_dataset(source, tmp_path):
    text = source.yaml()
    assert yaml.safe_load(text)["sources"]["embryo"]["description"] == "the lab's embryo"
    (tmp_path / "cat.yml").write_text(text, encoding="utf-8")
    entry = intake.open_catalog(str(tmp_path / "cat.yml"))["embryo"]
    assert entry == source
    assert entry.yaml() == text
    same(entry.read(), source.read())


@pytest.mark.parametrize(
    "name",
    [
        "a b.npy",
        "é ü µ 日本.npy",
        "{{x}}.npy",
        "{% if %}.npy",
        "C{#1}.npy",
        "a{b}.npy",
        "100%.npy",
        "a#1?.npy",
        "[1]::x.npy",
        "quote'\".npy",
        "{{ '{{' }}.npy",
        "- a: b.npy",
    ],
)
def test_yaml_of_any_name(stack, tmp_path, name):
    path = stack.rename(stack.parent / name)
    source = intake.open_npy(path, metadata={"note": "{{ nothing }}", "axes": "tyx"})
    (tmp_path / "cat.yml").write_text(source.yaml(), encoding="utf-8")
    entry = intake.open_catalog(str(tmp_path / "cat.yml"))[source.name]
    assert entry.uri == str(path)
    same(entry.read(), source.read())


def test_yaml_of_numpy_values(stack):
    source = intake.open_npy(
        stack, chunks={"y": np.int64(2)}, metadata={"axes": ("t", "y", "x"), "spacing": {"x": np.float32(0.5)}}
    )
    entry = yaml.safe_load(source.yaml())["sources"]["npy"]
    assert entry["args"] == {"uri": str(stack), "chunks": {"y": 2}}
    assert entry["metadata"] == {"axes": ["t", "y", "x"], "spacing": {"x": 0.5}}


def test_pickles_keep_name_description_and_equality(source):
    source.discover()
    again = pickle.loads(pickle.dumps(source))
    assert again == source
    assert hash(again) == hash(source)
    assert (again.name, again.description) == ("embryo", "the lab's embryo")
    same(again.read(), source.read())
    again.close()


def test_equality_is_that_of_arguments(stack):
    a = intake.open_npy(stack)
    assert a == intake.open_npy(str(stack))
    assert a == intake.open_npy(uri=stack)
    assert a != intake.open_npy(stack, chunks=None)
    assert a != intake.open_img(stack)
    assert len({a, intake.open_npy(stack)}) == 1


def test_ways_to_read_agree(source):
    whole = source.read()
    assert all(isinstance(v.data, np.ndarray) for v in whole.data_vars.values())
    lazy = source.to_dask()
    assert all(hasattr(v.data, "dask") for v in lazy.data_vars.values())
    same(lazy, whole)
    first = whole.image.dims[0]
    parts = list(source.read_chunked())
    assert len(parts) == whole.sizes[first]
    for k, part in enumerate(parts):
        same(part, selected(whole, **{first: k}))
        same(source.read_partition(k), part)
    same(source.read_partition({"y": slice(1, 3), "x": [0, 2]}), selected(whole, y=slice(1, 3), x=[0, 2]))


def test_partitions_by_label(tmp_path):
    _, expected = formats()["imageio"].sample(str(tmp_path))
    source = intake.open_imageio(tmp_path / "sample.png")
    np.testing.assert_array_equal(source.read_partition("G").image, expected.image.sel(c="G"))
    assert source.read_partition(["R", "B"]).c.values.tolist() == ["R", "B"]
    with pytest.raises(LookupError, match="no label 'X'; there are R, G, B"):
        source.read_partition("X")
    with pytest.raises(IndexError, match="out of range"):
        source.read_partition(3)


def test_context_manager_and_close(source):
    with source as opened:
        ds = opened.to_dask()
        assert ds.image.shape
    assert len(POOL) == 0
    same(ds, source.read())  # lazy data still compute
    source.close()
    source.close()
    assert len(POOL) == 0
    source.discover()


def test_computing_after_close_leaves_nothing_open(source):
    ds = source.to_dask()
    source.close()
    ds.load()
    assert len(POOL) == 0


def test_constructors_spell_out_their_options():
    import inspect

    for name, cls in {**{n: f.source for n, f in formats().items()}, "img": ImgSource}.items():
        parameters = inspect.signature(cls).parameters
        assert {"uri", "chunks", "output_axis_order", "metadata", "storage_options"} <= set(parameters), name
        variadic = [p for p in parameters.values() if p.kind is p.VAR_KEYWORD]
        assert not variadic or name == "img", name
        for option in parameters:
            assert option.strip("*") in inspect.getdoc(cls), f"{name}: {option} is not documented"


def test_open_img_finds_the_driver(source):
    found = intake.open_img(source.uri, metadata=source.metadata)
    assert found.to_dask().attrs["driver"] == type(source).name
    xr.testing.assert_equal(found.read(), source.read())
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    again.close()
    found.close()


def test_sources_are_listed():
    for name in formats():
        assert name in intake.registry
    assert all(issubclass(f.source, ImageSource) for f in formats().values())


# catalogs of version 1


CATALOG = """
metadata:
  version: 1
  parameters:
    which: {type: str, description: which one, default: a, allowed: [a, b]}
sources:
  embryo:
    driver: npy
    description: lab embryo stack
    args: {uri: "{{ CATALOG_DIR }}/data set/{{ which }}.npy", chunks: {y: 2}}
    metadata: {axes: tyx, spacing: {y: 0.5, x: 0.5}, spacing_units: {y: um, x: um}, note: kept}
  chosen:
    driver: img
    description: any format
    args: {uri: "{{ CATALOG_DIR }}/data set/{{ name }}.npy", scene: "{{ scene }}", level: "{{ level }}"}
    parameters:
      name: {type: str, description: name, default: a}
      scene: {type: str, description: scene, default: ""}
      level: {type: int, description: level, default: 0, min: 0, max: 3}
  dotted:
    driver: intake_img.formats.npy.driver.NpySource
    args: {uri: "{{ CATALOG_DIR }}/data set/b.npy"}
  chunked:
    driver: npy
    args: {uri: "{{ CATALOG_DIR }}/data set/a.npy", chunks: "{{ chunks }}"}
    parameters:
      chunks: {type: str, description: chunks, default: auto}
  nested:
    driver: yaml_file_cat
    description: more
    args: {path: "{{ CATALOG_DIR }}/sub/cat.yml"}
"""


@pytest.fixture
def catalog(tmp_path):
    folder = tmp_path / "my cat"
    (folder / "data set").mkdir(parents=True)
    (folder / "sub").mkdir()
    for name in "ab":
        np.save(folder / "data set" / f"{name}.npy", RNG.integers(0, 1000, (4, 5, 6), dtype="u2"))
    (folder / "cat.yml").write_text(CATALOG)
    (folder / "sub" / "cat.yml").write_text(
        'sources: {deep: {driver: npy, description: deep one, args: {uri: "{{ CATALOG_DIR }}/../data set/b.npy"}}}'
    )
    cat = intake.open_catalog(str(folder / "cat.yml"))
    yield cat, folder / "data set"
    for source in (cat.embryo, cat.chosen, cat.dotted, cat.chunked, cat.nested.deep):  # the catalog keeps them
        source.close()


def test_catalogs_with_parameters_and_their_folder(catalog):
    cat, folder = catalog
    source = cat.embryo
    assert source.uri == str(folder / "a.npy")  # and not with '//'
    assert (source.name, source.description) == ("embryo", "lab embryo stack")
    ds = source.to_dask()
    np.testing.assert_array_equal(ds.image, np.load(folder / "a.npy"))
    assert ds.image.dims == tuple("tyx")
    assert ds.chunks["y"] == (2, 2, 1)
    assert ds.x.attrs == {"units": "µm", "spacing": 0.5}
    assert source.discover()["metadata"]["note"] == "kept"
    np.testing.assert_array_equal(cat.embryo(which="b").read().image, np.load(folder / "b.npy"))
    with pytest.raises(ValueError, match="z"):
        cat.embryo(which="z")


def test_templates_give_texts_that_options_understand(catalog):
    cat, folder = catalog
    np.testing.assert_array_equal(cat.chosen.read().image, np.load(folder / "a.npy"))
    assert cat.chosen.level == 0
    with pytest.raises(TypeError, match="no option 'level'"):
        cat.chosen(level=2).read()
    assert cat.chosen(level=2).level == 2
    assert cat.chunked.to_dask().image.chunks == imload(folder / "a.npy").image.chunks
    assert cat.chunked(chunks="2").to_dask().image.chunks == ((2, 2), (2, 2, 1), (2, 2, 2))
    assert cat.chunked(chunks="None").dataset().chunks == {}


def test_scenes_and_levels_by_template(data, tmp_path):
    store = data / "omezarr_v04" / "mri-stack.ome.zarr"
    (tmp_path / "cat.yml").write_text(
        f'sources: {{a: {{driver: omezarr, args: {{uri: "{store}", scene: "{{{{ s }}}}", level: "{{{{ l }}}}"}}, '
        "parameters: {s: {type: str, default: '0', description: s}, l: {type: int, default: 1, description: l}}}}"
    )
    cat = intake.open_catalog(str(tmp_path / "cat.yml"))
    xr.testing.assert_equal(cat.a.to_dask(), imload(store, level=1))
    xr.testing.assert_equal(cat.a(l=0).to_dask(), imload(store))


def test_overriding_arguments(catalog):
    cat, folder = catalog
    changed = cat.embryo(output_axis_order="xyt", chunks=None)
    assert changed.read().image.dims == tuple("xyt")
    assert cat.embryo.read().image.dims == tuple("tyx")
    assert cat.embryo(uri=str(folder / "b.npy")).uri == str(folder / "b.npy")


def test_nested_catalogs(catalog):
    cat, folder = catalog
    for source in (cat.nested.deep, cat["nested.deep"], cat["nested", "deep"]):
        assert source.uri == str(folder / "b.npy")
        np.testing.assert_array_equal(source.read().image, np.load(folder / "b.npy"))
    assert {"embryo", "nested.deep"} <= set(cat.walk(depth=3))
    assert "nested.deep" in list(cat.search("deep one", depth=3)) or "deep" in " ".join(cat.search("deep one", depth=3))
    assert list(cat.search("embryo stack")) == ["embryo"]


def test_drivers_by_dotted_path(catalog):
    cat, folder = catalog
    np.testing.assert_array_equal(cat.dotted.read().image, np.load(folder / "b.npy"))


def test_catalogs_are_saved_and_pickled(catalog, tmp_path):
    cat, folder = catalog
    cat.save(str(folder.parent / "saved.yml"))
    again = intake.open_catalog(str(folder.parent / "saved.yml"))
    assert set(again) == set(cat)
    xr.testing.assert_equal(again.embryo.read(), cat.embryo.read())
    xr.testing.assert_equal(pickle.loads(pickle.dumps(cat)).embryo.read(), cat.embryo.read())


def test_an_entry_is_equal_after_its_yaml_and_pickle(catalog, tmp_path):
    cat, _ = catalog
    source = cat.embryo
    assert "catalog_dir" not in source.yaml()
    (tmp_path / "one.yml").write_text(source.yaml())
    again = intake.open_catalog(str(tmp_path / "one.yml")).embryo
    assert again == source
    same(again.read(), source.read())
    assert pickle.loads(pickle.dumps(source)) == source


def test_imload_takes_sources_and_entries(catalog):
    cat, folder = catalog
    xr.testing.assert_equal(imload(cat.embryo), cat.embryo.to_dask())
    assert imload(cat.embryo, output_axis_order="yxt").image.dims == tuple("yxt")
    assert imload(cat["chosen"], chunks=None).chunks == {}
    imsave(cat.embryo, folder / "c.npz")
    xr.testing.assert_equal(imload(folder / "c.npz"), cat.embryo.read())


# Intake 2


def run(code: str, *arguments: str, seed: str = "0") -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_intake_does_not_import_us():
    out = run(
        "import intake, sys; print([m for m in sys.modules if m.split('.')[0] in ('intake_img', 'xarray', 'dask')])"
    )
    assert out.strip() == "[]"


def test_auto_pipeline_is_ours_whatever_the_order_of_sets(tmp_path):
    values = RNG.integers(0, 255, (5, 6), dtype="u1")
    for name in ("a.tif", "a.png", "a.npy", "a.pgm", "a.zarr", "a.czi"):
        imsave(xr.Dataset({"image": (("y", "x"), values)}), tmp_path / name)
    code = (
        "import sys, glob, intake, intake_img\n"
        "for path in sorted(glob.glob(sys.argv[1] + '/a.*')):\n"
        "    reader = intake.auto_pipeline(path, 'xarray')\n"
        "    print(type(reader).__name__, type(reader.read()).__name__, reader.read().image.squeeze().shape)\n"
    )
    for seed in ("1", "2", "3"):
        assert run(code, str(tmp_path), seed=seed).splitlines() == ["ImgReader Dataset (5, 6)"] * 6


@pytest.mark.parametrize(
    ("name", "datatype"),
    [
        ("x.tif", "TIFF"),
        ("x.ome.tiff", "TIFF"),
        ("x.czi", "czi_file"),
        ("x.png", "PNG"),
        ("x.jpg", "JPEG"),
        ("x.ome.zarr", "Zarr"),
        ("x.lsm", "tif_file"),
        ("x.stk", "tif_file"),
        ("x.zarr.zip", "omezarr_file"),
        ("x.npz", "npy_file"),
        ("x.npy", "NumpyFile"),
        ("x.gif", "imageio_file"),
        ("x.bmp", "imageio_file"),
        ("x.webp", "imageio_file"),
        ("x.pgm", "imageio_file"),
        ("x.mp4", "imageio_file"),
        ("x.avi", "imageio_file"),
        ("x.mrc", "mrc_file"),
        ("x.nii.gz", "Nifti"),
        ("x.dcm", "DICOM"),
        ("x.n5", "n5_file"),
        ("x.ims", "ims_file"),
    ],
)
def test_recommend_by_name(name, datatype):
    found = datatypes.recommend(f"/nowhere/{name}", head=False)
    assert [cls.__name__ for cls in found][:1] == [datatype]
    reader = found[0](f"/nowhere/{name}").to_reader("xarray")
    assert type(reader).__name__ == "ImgReader"


def test_recommend_by_bytes(data, tmp_path):
    for path, datatype in (
        (next((data / "czi").glob("*.czi")), "czi_file"),
        (next((data / "lsm").glob("*.lsm")), "TIFF"),
        (data / "png_jpg_gif" / "dispose_bgnd.gif", "imageio_file"),
        (data / "png_jpg_gif" / "hopper_16bit.pgm", "imageio_file"),
    ):
        assert datatypes.recommend(str(path))[0].__name__ == datatype
        xr.testing.assert_equal(intake.auto_pipeline(str(path), "xarray").read(), imload(path))


def test_every_format_has_a_datatype_or_is_known_to_intake():
    known = datatypes_of_formats()
    for name, format in formats().items():
        for extension in format.extensions:
            kind = datatypes.recommend(f"/nowhere/x{extension}", head=False)[0]
            assert kind in ImgReader.implements
            assert kind is known.get(name) or kind.__module__ == datatypes.__name__
    assert known["dm"].filepattern == r"(\.dm3|\.dm4)$"
    assert (0, b"ZISRAWFILE") in known["czi"].magic
    assert not {m for kind in known.values() for _, m in kind.magic if len(m) < 4}


def test_folders_are_told_by_their_names(tmp_path):
    path, expected = formats()["n5"].sample(str(tmp_path))
    assert [c.__name__ for c in datatypes.recommend(path)] == ["n5_file"]
    assert intake.auto_pipeline(path, "xarray").read().image.shape == expected.image.shape


def test_containers_of_anything_are_left_to_other_readers(tmp_path):
    for kind in (datatypes.HDF5, datatypes.NetCDF3):
        names = [r.__name__ for r in readers.recommend(kind("/nowhere/a"))["importable"]]
        assert names.index("XArrayDatasetReader") < names.index("ImgReader")
    names = [r.__name__ for r in readers.recommend(datatypes.Zarr("/nowhere/a"))["importable"]]
    assert names.index("XArrayDatasetReader") > names.index("ImgReader")


def test_the_path_in_an_hdf5_file_is_the_scene(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["one"], f["two"] = np.zeros((3, 4), "u1"), np.ones((5, 6), "u1")
    reader = datatypes.HDF5(str(tmp_path / "a.h5"), path="two").to_reader(reader="ImgReader")
    assert reader.read().image.shape == (5, 6)


def test_catalogs_name_datatypes():
    assert intake.import_name("intake_img.doors.intake2:czi_file") is datatypes_of_formats()["czi"]
    with pytest.raises(AttributeError, match="no installed format"):
        intake.import_name("intake_img.doors.intake2:czi")


def test_readers_take_options_and_discover_without_reading(stack):
    reader = datatypes.NumpyFile(str(stack)).to_reader(
        "xarray", output_axis_order="xyz", metadata={"spacing": {"x": 0.5}}
    )
    assert reader.read().image.dims == tuple("xyz")
    assert reader.read().x.attrs["spacing"] == 0.5
    assert reader.discover().chunks == {}
    assert reader.read(partition={"x": 2}).image.dims == tuple("yz")
    assert "spacing_units" in type(reader).doc()


@pytest.mark.parametrize("name", ["a.npy", "with space.npy", "é µ.npy", "100%25.npy"])
def test_catalogs_of_version_2(stack, tmp_path, name):
    path = stack.rename(stack.parent / name)
    catalog = intake.Catalog()
    catalog["img"] = datatypes.NumpyFile(str(path), metadata={"axes": "tyx"}).to_reader("xarray", chunks=None)
    catalog.to_yaml_file(str(tmp_path / "v2.yml"))
    again = intake.open_catalog(str(tmp_path / "v2.yml"))
    ds = again["img"].read()
    assert ds.image.dims == tuple("tyx")
    np.testing.assert_array_equal(ds.image, np.load(path))
    out = run(
        "import sys, intake; print(type(intake.open_catalog(sys.argv[1])['img'].read()).__name__)",
        str(tmp_path / "v2.yml"),
    )
    assert out.strip() == "Dataset"  # without an import of ours


def test_file_urls(stack):
    path = stack.rename(stack.parent / "a b%20c.npy")
    for text in (path.as_uri(), str(path)):
        np.testing.assert_array_equal(datatypes.NumpyFile(text).to_reader("xarray").read().image, np.load(path))
        assert autodetect(text).uri == str(path)


def test_warnings_name_the_line_of_the_user(tmp_path):
    """Whatever called this package for them: a warning that names a line of this package helps nobody."""
    for unit, path in ((0.5, tmp_path / "0.tif"), (None, tmp_path / "1.tif")):
        spacing = {"resolution": (1 / unit, 1 / unit), "metadata": {"unit": "um"}} if unit else {}
        tifffile.imwrite(path, np.zeros((4, 4), "u1"), imagej=True, **spacing)
    with pytest.warns(UserWarning, match="only one of them has") as direct:
        imload(f"{tmp_path}/{{t}}.tif").compute()
    with pytest.warns(UserWarning, match="only one of them has") as through_intake:
        intake.open_filepattern(f"{tmp_path}/{{t}}.tif").to_dask().compute()
    assert {w.filename for w in [*direct, *through_intake]} == {__file__}
