"""Whatever a driver opens on behalf of a catalog lies below the catalog's roots, and is a regular file.

For each driver that opens more than the file that it is given (sets of TIFFs, Zarr stores, descriptions of flat files,
series), the further file becomes a link, a path or a special file that leads outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from servers import serving

from intake_img import imload, imsave, open_catalog
from intake_img.errors import CatalogError, FormatError
from intake_img.storage.files import File
from intake_img.storage.jail import Jail, open_regular
from intake_img.storage.redirects import GuardedSessions

pytestmark = pytest.mark.thorough

SECRET = 4242
MICROMANAGER = {"photometric": "minisblack", "extratags": [(51123, 2, 0, "{}", True)]}
NAMESPACE = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


@pytest.fixture(autouse=True)
def hurry():
    """What hangs fails."""
    previous = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def pixels(value: int = 1) -> np.ndarray:
    return np.full((8, 9), value, "uint16")


@pytest.fixture
def inside(tmp_path):
    """A folder for catalogs; beside it `outside`, with files that each hold the secret."""
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
    out = tmp_path / "outside"
    np.save(out / "s.npy", pixels(SECRET))
    ome = {"axes": "YX", "Channel": {"Name": [str(SECRET)]}}
    tifffile.imwrite(out / "s.ome.tif", pixels(SECRET), ome=True, metadata=ome)
    tifffile.imwrite(out / "s.tif", pixels(SECRET), photometric="minisblack")
    (out / "s.json").write_text(json.dumps({"shape": [8, 9], "dtype": "<u2", "note": str(SECRET)}))
    imsave(xr.DataArray(pixels(SECRET), dims=("y", "x")), out / "s.zarr")
    return tmp_path / "inside"


def refused(folder, uri, driver, error=CatalogError, word: str | None = "outside", **args):
    """The entry of a catalog does not open, here or in another process; the error says why."""
    text = {"sources": {"a": {"driver": driver, "args": {"uri": uri, **args}}}}
    (folder / "catalog.yml").write_text(json.dumps(text))
    with pytest.raises(error, match=word):
        open_catalog(folder / "catalog.yml").a.read()
    try:
        source = open_catalog(folder / "catalog.yml").a
    except CatalogError:
        return
    for again in (
        lambda: imload(pickle.loads(pickle.dumps(source))).compute(),
        lambda: imload(source, chunks=None).load(),
        lambda: source.renewed(chunks={"y": 4}).to_dask().compute(),
    ):
        with pytest.raises(error, match=word):
            again()


# sets of TIFF files

BINARY_ONLY = f'<OME {NAMESPACE} UUID="urn:uuid:1"><BinaryOnly MetadataFile="%s" UUID="urn:uuid:3"/></OME>'
SET = (
    f'<OME {NAMESPACE} UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="P:0" DimensionOrder="XYZCT" Type="uint16" '
    'SizeX="9" SizeY="8" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="C:0" SamplesPerPixel="1"/>'
    '<TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="o.ome.tif">urn:uuid:1</UUID></TiffData>'
    '<TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="%s">urn:uuid:2</UUID></TiffData>'
    "</Pixels></Image></OME>"
)


def described(folder, xml, name="o.ome.tif"):
    tifffile.imwrite(
        folder / name, pixels(), description='<?xml version="1.0"?>' + xml, metadata=None, photometric="minisblack"
    )


@pytest.mark.parametrize(
    "place",
    [
        "../outside/s.ome.tif",
        "{out}/s.ome.tif",
        "/etc/passwd",
        "link.ome.tif",
        "folder/s.ome.tif",
        "folder/../../outside/s.ome.tif",
        "/dev/zero",
        "/proc/self/maps",
    ],
)
def test_metadata_of_a_set_outside(place, inside):
    out = inside.parent / "outside"
    (inside / "link.ome.tif").symlink_to(out / "s.ome.tif")
    (inside / "folder").symlink_to(out)
    described(inside, BINARY_ONLY % place.format(out=out))
    for driver in ("tif", "img"):
        refused(inside, "{{ CATALOG_DIR }}/o.ome.tif", driver)
    described(inside, BINARY_ONLY % place.format(out=out), "o1.ome.tif")
    refused(inside, "{{ CATALOG_DIR }}/o{i}.ome.tif", "filepattern")


@pytest.mark.parametrize("place", ["link.tif", "folder/s.tif", "O.OME.TIF"])
def test_members_of_a_set_outside(place, inside):
    out = inside.parent / "outside"
    for name in ("link.tif", "O.OME.TIF"):
        (inside / name).symlink_to(out / "s.tif")
    (inside / "folder").symlink_to(out)
    described(inside, SET % place)
    (inside / "c.companion.ome").write_text('<?xml version="1.0"?>' + (SET % place).replace("uuid:1", "uuid:9", 1))
    if place == "O.OME.TIF":  # named like the file itself: then tifffile must not look for it
        ds = imload(inside / "o.ome.tif")
        assert SECRET not in ds["image"].values
        return
    refused(inside, "{{ CATALOG_DIR }}/o.ome.tif", "tif")
    refused(inside, "{{ CATALOG_DIR }}/c.companion.ome", "tif")
    refused(inside, ["{{ CATALOG_DIR }}/o.ome.tif"], "imagelist")


@pytest.mark.parametrize("index", ["NDTiff.index", "s.tif"])
def test_files_that_tifffile_would_open_by_itself(index, inside, monkeypatch):
    """NDTiff names its files in an index."""
    tifffile.imwrite(inside / "a_NDTiffStack.tif", pixels(), **MICROMANAGER)
    (inside / "NDTiff.index").write_bytes(b"")
    if index == "NDTiff.index":
        (inside / "NDTiff.index").unlink()
        (inside / "NDTiff.index").symlink_to(inside.parent / "outside" / "s.tif")
    monkeypatch.setattr(tifffile.TiffFile, "is_ndtiff", True)
    monkeypatch.setattr(tifffile, "read_ndtiff_index", lambda path: [({}, "../outside/s.tif")])
    refused(inside, "{{ CATALOG_DIR }}/a_NDTiffStack.tif", "tif")


def test_files_of_micro_manager(inside, monkeypatch):
    tifffile.imwrite(inside / "a_MMStack_1.tif", pixels(), **MICROMANAGER)
    (inside / "a_MMStack_2.tif").symlink_to(inside.parent / "outside" / "s.tif")
    monkeypatch.setattr(tifffile.TiffFile, "is_mmstack", True)
    refused(inside, "{{ CATALOG_DIR }}/a_MMStack_1.tif", "tif")


# Zarr


def outward(path, target=None):
    """Make a file of a store a link to itself, moved outside."""
    out = path
    while out.name != "inside":
        out = out.parent
    moved = out.parent / "outside" / f"moved{len(list((out.parent / 'outside').iterdir()))}"
    path.rename(moved)
    path.symlink_to(target or moved)


@pytest.mark.parametrize("kind", ["metadata", "array", "chunk", "folder", "root"])
@pytest.mark.parametrize("layout", [2, 3, "shards", "gzip"])
def test_files_of_a_store_outside(layout, kind, inside):
    store = inside / "a.zarr"
    version = 2 if layout == 2 else 3
    group = zarr.open_group(store, mode="w", zarr_format=version)
    more = {"shards": {"shards": (8, 8), "chunks": (4, 4)}, "gzip": {"compressors": zarr.codecs.GzipCodec()}}
    options = {"chunks": (4, 4), "dtype": "uint16", **more.get(layout, {})}
    group.create_array("0", shape=(8, 8), **options)[...] = SECRET
    names = {
        "metadata": "zarr.json" if version == 3 else ".zgroup",
        "array": "0/zarr.json" if version == 3 else "0/.zarray",
        "folder": "0",
        "root": "",
    }
    chunk = next(p for p in sorted((store / "0").rglob("*")) if p.is_file() and "z" not in p.name)
    outward(chunk if kind == "chunk" else store / names[kind])
    if kind == "root":
        refused(inside, "{{ CATALOG_DIR }}/*.zarr", "filepattern")
    else:
        error = (CatalogError, FormatError)  # a folder out of the store is refused without a catalog as well
        refused(inside, "{{ CATALOG_DIR }}/a.zarr", "omezarr", error, "outside|leads out")
        refused(inside, "{{ CATALOG_DIR }}/a.zarr", "img", error, "outside|leads out")
        refused(inside, "{{ CATALOG_DIR }}/{var}.zarr", "filepattern", error, "outside|leads out")


def test_labels_and_wells_outside(inside):
    image = xr.Dataset({"image": (("y", "x"), pixels()), "nuclei": (("y", "x"), pixels(SECRET), {"kind": "labels"})})
    imsave(image, inside / "a.zarr")
    (metadata,) = (inside / "a.zarr").rglob("labels/nuclei/*/zarr.json")
    outward(metadata)
    refused(inside, "{{ CATALOG_DIR }}/a.zarr", "omezarr")


# flat binary files


@pytest.mark.parametrize("args", [{}, {"conf": "link"}, {"conf": ".."}, {"conf": "dir"}])
def test_descriptions_of_flat_files_outside(args, inside):
    out = inside.parent / "outside"
    (inside / "d").mkdir()
    for k in (1, 2):
        (inside / "d" / f"a{k}.bin").write_bytes(bytes(144))
    (inside / "d" / "dir").symlink_to(out)
    for name in ("link", "a1.bin.json" if not args else "conf.json"):
        (inside / "d" / name).symlink_to(out / "s.json")
    error = CatalogError if args.get("conf") != ".." else (CatalogError, FormatError, OSError)
    refused(inside, "{{ CATALOG_DIR }}/d/a1.bin", "binary", error, None, **args)
    refused(inside, "{{ CATALOG_DIR }}/d/a{i}.bin", "filepattern", error, None, member_options=args)
    refused(inside, "{{ CATALOG_DIR }}/d", "directory", error, None, member_options=args, ext=".bin")


# series


@pytest.mark.parametrize(
    ("uri", "driver"),
    [
        ("s{i}.npy", "filepattern"),
        ("*.npy", "filepattern"),
        ("p{i}/s.npy", "filepattern"),
        ("**/*.npy", "filepattern"),
        ("", "directory"),
        ("name.npy", "filepattern"),
        (["s1.npy", "s2.npy"], "imagelist"),
    ],
)
def test_members_of_a_series_outside(uri, driver, inside):
    out = inside.parent / "outside"
    np.save(inside / "s1.npy", pixels())
    np.save(inside / "name.i_0.npy", pixels())
    for name in ("s2.npy", "name.i_1.npy"):
        (inside / name).symlink_to(out / "s.npy")
    (inside / "p1").symlink_to(out)
    named = [f"{{{{ CATALOG_DIR }}}}/{u}" for u in ([uri] if isinstance(uri, str) else uri)]
    refused(inside, named if driver == "imagelist" else named[0], driver)


# the jail alone


def test_a_jail_travels_with_its_file(inside):
    jail = Jail((str(inside),))
    file = File(str(inside / "a.npy"), {}, jail)
    np.save(inside / "a.npy", pixels())
    assert file.exists()
    assert file.read()
    assert pickle.loads(pickle.dumps(file)) == file
    assert file != File(file.path)
    for other in (
        file.sibling("../outside/s.npy"),
        file.parent.parent / "outside" / "s.npy",
        file.at("/etc/passwd"),
        file.sibling("/dev/zero"),
        pickle.loads(pickle.dumps(file)).at("https://example.org/a"),
        file.parent / "..",
        file.at(str(inside) + "2"),
    ):
        for look in (File.exists, File.is_folder, File.head, File.open, File.read, File.check):
            with pytest.raises(CatalogError):
                look(other)
    file.parent.parent.check(above=True)
    with pytest.raises(CatalogError):
        (file.parent.parent / "outside").check(above=True)


def test_a_handle_of_a_trusted_source_is_not_lent_to_a_catalog(inside):
    described(inside, SET % "link.tif")
    (inside / "link.tif").symlink_to(inside.parent / "outside" / "s.tif")
    trusted = imload(inside / "o.ome.tif")
    assert SECRET in trusted["image"].values
    refused(inside, "{{ CATALOG_DIR }}/o.ome.tif", "tif")
    trusted.close()


def test_a_jail_goes_to_other_processes(inside):
    """A worker refuses what is exchanged after the source was opened."""
    np.save(inside / "s1.npy", pixels())
    np.save(inside / "s2.npy", pixels())
    text = {"sources": {"a": {"driver": "filepattern", "args": {"uri": "{{ CATALOG_DIR }}/s{i}.npy"}}}}
    (inside / "c.yml").write_text(json.dumps(text))
    lazy = open_catalog(inside / "c.yml").a.to_dask()
    (inside / "s2.npy").unlink()
    (inside / "s2.npy").symlink_to(inside.parent / "outside" / "s.npy")
    (inside / "lazy").write_bytes(pickle.dumps(lazy))
    code = f"import pickle; print(pickle.load(open({str(inside / 'lazy')!r}, 'rb')).compute()['image'].values.max())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "CatalogError" in done.stderr
    assert str(SECRET) not in done.stdout


# redirects


WEB = {
    "a.npy": {"driver": "npy"},
    "a.tif": {"driver": "tif"},
    "a.ome.zarr": {"driver": "omezarr"},
    "a.zarr.zip": {"driver": "omezarr"},
    "a.png": {"driver": "imageio"},
    "a.bin": {"driver": "binary", "shape": [8, 9], "dtype": "<u2"},
}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A folder with an image for each of these drivers, and a catalog of them."""
    pytest.importorskip("aiohttp")
    folder = tmp_path_factory.mktemp("web")
    sources = {}
    for name, about in WEB.items():
        imsave(xr.DataArray(pixels(), dims=("y", "x")), folder / name)
        args = {"uri": "{{ CATALOG_DIR }}/" + name, **{k: v for k, v in about.items() if k != "driver"}}
        sources[name.replace(".", "_")] = {"driver": about["driver"], "args": args}
    sources["nested"] = {"driver": "yaml_file_cat", "args": {"path": "{{ CATALOG_DIR }}/other.yml"}}
    for name in ("c.yml", "other.yml"):
        (folder / name).write_text(json.dumps({"sources": sources}))
    return folder


@pytest.mark.parametrize("schemes", [(), ("https",)])
def test_a_server_cannot_lead_a_catalog_to_another_one(web, schemes):
    with serving(web) as (url, handler), serving(web) as (other, elsewhere):
        catalog = open_catalog(f"{url}/c.yml", schemes=schemes)
        lazy = [catalog["a_npy"].to_dask(), catalog["a_ome_zarr"].to_dask()]
        handler.redirects, handler.elsewhere = True, other
        for name in catalog:
            with pytest.raises(CatalogError, match="leads to another place"):
                list(catalog[name]) if name == "nested" else catalog[name].read()
        for ds in lazy:
            with pytest.raises(CatalogError, match="leads to another place"):
                ds.load()
        assert not elsewhere.log
        allowed = open_catalog(f"{url}/c.yml", schemes=["http"], roots=[url])  # wherever it points
        assert (allowed["a_npy"].read()["image"] == 1).all()
        assert (imload(f"{url}/a.npy")["image"] == 1).all()  # without a catalog, the user's own affair


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # fsspec closes its files late
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache"])
def test_a_catalog_reads_through_a_cache_on_disk(web, tmp_path, cache):
    """The caller says where the cache is; what is in it is not asked for again; redirects obey the jail as ever."""
    names = ["a.npy", "a.tif", "a.png"]
    sources = {
        n.replace(".", "_"): {"driver": WEB[n]["driver"], "args": {"uri": f"{cache}::{{{{ CATALOG_DIR }}}}/{n}"}}
        for n in names
    }
    (web / f"{cache}.yml").write_text(json.dumps({"sources": sources}))
    with serving(web) as (url, handler), serving(web) as (other, elsewhere):
        storage = {cache: {"cache_storage": str(tmp_path / "cache")}}
        for again in (False, True):
            for name in sources:
                catalog = open_catalog(f"{url}/{cache}.yml", storage_options=storage)
                handler.log.clear()
                assert (catalog[name].read()["image"] == 1).all()
                fetched = sum(n for asked, n in handler.log if not asked.endswith(".yml"))
                assert bool(fetched) != again
        assert len(os.listdir(tmp_path / "cache")) >= len(names)
        fresh = {cache: {"cache_storage": str(tmp_path / "fresh")}}
        catalog = open_catalog(f"{url}/{cache}.yml", storage_options=fresh)
        handler.redirects, handler.elsewhere = True, other
        for name in catalog:
            with pytest.raises(CatalogError, match="leads to another place"):
                catalog[name].read()
        assert not elsewhere.log


def test_redirects_below_the_roots_are_followed(web):
    with serving(web) as (url, handler):
        catalog = open_catalog(f"{url}/c.yml")
        handler.redirects = True
        for name in ("a_npy", "a_ome_zarr", "a_tif"):
            assert (catalog[name].read()["image"] == 1).all()
        with serving(web, redirects=True, elsewhere=url) as (first, _):
            asked = open_catalog(f"{url}/c.yml", roots=[first, url])
            assert (asked["a_npy"].read()["image"] == 1).all()


@pytest.mark.parametrize("target", ["127.0.0.1", "169.254.169.254", "10.1.2.3", "192.168.0.1:8080"])
def test_a_redirect_from_the_internet_into_a_private_network(target):
    yarl = pytest.importorskip("yarl")
    sessions = GuardedSessions(Jail((), frozenset({"http"})))
    public = yarl.URL("http://93.184.216.34/a")
    with pytest.raises(CatalogError, match="private network"):
        asyncio.run(sessions.check(public, yarl.URL(f"http://{target}/latest")))
    asyncio.run(sessions.check(public, yarl.URL("http://1.1.1.1/")))
    asyncio.run(sessions.check(yarl.URL("http://10.0.0.1/"), yarl.URL(f"http://{target}/")))


# only regular files, with or without a catalog


@pytest.fixture(params=["pipe", "socket", "device", "directory"])
def special(request, tmp_path):
    place = tmp_path / "special"
    if request.param == "pipe":
        os.mkfifo(place)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(place))
    elif request.param == "device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    return place


def test_only_regular_files_are_opened(special):
    error = IsADirectoryError if special.is_dir() else FormatError
    for look in (File.open, File.head, File.read, File.descriptor):
        with pytest.raises(error):
            look(File(str(special)))
    with pytest.raises(error):
        open_regular(str(special))


def test_special_files_as_members(special, tmp_path):
    if special.is_dir():
        return  # Zarr does not take a folder for a chunk
    inside = tmp_path / "inside"
    inside.mkdir()
    described(inside, BINARY_ONLY % "x")
    (inside / "a.bin").write_bytes(bytes(144))
    group = zarr.open_group(inside / "z.zarr", mode="w")
    group.create_array("0", shape=(8, 8), chunks=(4, 4), dtype="uint16")[...] = 1
    np.save(inside / "s1.npy", pixels())
    places = [inside / "x", inside / "a.bin.json", inside / "z.zarr" / "0" / "c" / "1" / "1", inside / "s2.npy"]
    for place in places:
        place.unlink(missing_ok=True)
        special.rename(place) if not special.is_symlink() else place.symlink_to("/dev/zero")
        uri = {"x": "o.ome.tif", "a.bin.json": "a.bin", "1": "z.zarr", "s2.npy": "s{i}.npy"}[place.name]
        with pytest.raises((FormatError, OSError)):
            imload(inside / uri).compute()
        if place.exists() and not place.is_symlink():
            place.rename(special)


def test_metadata_have_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes(bytes(100))
    assert len(File(str(path)).read()) == len(File(str(path)).read(100)) == 100
    assert len(File(str(path)).read(None)) == 100
    with pytest.raises(FormatError, match="100 bytes"):
        File(str(path)).read(99)
    import fsspec

    fsspec.filesystem("memory").pipe("/limit.json", bytes(100))
    with pytest.raises(FormatError, match="bytes"):
        File("memory://limit.json").read(99)
    assert len(File("memory://limit.json").read(100)) == 100
    monkeypatch.setattr("intake_img.formats.omezarr.local_store.METADATA_BYTES", 200)
    zarr.create_array(tmp_path / "a.zarr", shape=(8, 8), dtype="u2")[...] = 1
    with pytest.raises(FormatError, match="metadata"):
        imload(tmp_path / "a.zarr")
