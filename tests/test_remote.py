"""Files on servers: whatever a server can and cannot do, an image reads as the local one does, or there is an error.

Laws, for samples of every driver. On each server from which a file can be read, the Dataset from the URL is identical
to the local one, with all its metadata. A failure that passes is not noticed. One that stays is an error that names the
URL and what the server said, and never says that the file is damaged.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
import xarray as xr
from PIL import Image as Pillow
from servers import MODES, Handler, serving

from intake_img import imload, imsave
from intake_img.errors import FormatError, RemoteError
from intake_img.storage import remote
from intake_img.storage.files import File
from intake_img.storage.remote import noted_failures, retried

pytest.importorskip("aiohttp")

VALUES = np.random.default_rng(3).integers(0, 4000, (3, 2, 90, 110), dtype="uint16")
NAMES = [
    "a.tif",
    "a.ome.tif",
    "a.lsm",
    "tiles.tif",
    "set.ome.tif",
    "a.npy",
    "a.npz",
    "deflate.npz",
    "a.czi",
    "a.png",
    "a.gif",
    "a.webp",
    "a.pgm",
    "a.jpg",
    "a.zarr",
    "sharded.zarr",
    "a.zarr.zip",
    "a.bin",
]


def image() -> xr.Dataset:
    ds = xr.Dataset({"image": (("t", "c", "y", "x"), VALUES)}, {"c": ["DAPI", "Cy5"]})
    return ds.assign_coords(
        y=("y", np.arange(90) * 0.25, {"units": "µm"}), x=("x", np.arange(110) * 0.25, {"units": "µm"})
    )


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    ds, plane = image(), (VALUES[0, 0] >> 4).astype("u1")
    for name in ("a.tif", "a.ome.tif", "a.npz", "a.czi", "a.zarr", "a.zarr.zip"):
        imsave(ds, folder / name)
    imsave(ds, folder / "deflate.npz", compress=True)
    imsave(ds, folder / "sharded.zarr", version="0.5", chunks=(1, 1, 32, 32), shards=(1, 2, 96, 96))
    np.save(folder / "a.npy", VALUES)
    tifffile.imwrite(folder / "tiles.tif", VALUES, tile=(32, 32), compression="zlib", metadata={"axes": "TCYX"})
    _ome_set(folder)
    for name in ("a.png", "a.webp", "a.pgm", "a.jpg"):
        Pillow.fromarray(plane).save(folder / name)
    frames = [Pillow.fromarray(np.roll(plane, k, 1)) for k in range(3)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    (folder / "a.bin").write_bytes(VALUES[0, 0].tobytes())
    (folder / "conf.json").write_text(json.dumps({"axes": "yx", "shape": [90, 110], "dtype": "<u2"}))
    return folder


def _ome_set(folder: Path) -> None:
    """Two files of one plane each, described by the document in both."""
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{k}" for k in (1, 2)]
    names = ["set.ome.tif", "set2.ome.tif"]
    planes = "".join(
        f'<TiffData FirstT="{k}" IFD="0" PlaneCount="1"><UUID FileName="{names[k]}">{uuids[k]}</UUID></TiffData>'
        for k in (0, 1)
    )
    for k in (0, 1):
        document = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuids[k]}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="110" SizeY="90" '
            f'SizeZ="1" SizeC="1" SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / names[k], VALUES[k, 0], description=document, metadata=None)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_DELAYS", (0.01, 0.02))


@pytest.fixture
def lsm(samples: Path, data: Path) -> Path:
    found = sorted((data / "lsm").glob("*.lsm"))
    target = samples / "a.lsm"
    if not target.exists():
        target.write_bytes(found[0].read_bytes())
    return target


def same(url: str, path: Path) -> None:
    far, near = imload(url).load(), imload(path).load()
    far.attrs.pop("uri", None), near.attrs.pop("uri", None)
    for ds in (far, near):
        for variable in ds.variables.values():
            variable.attrs.pop("uri", None)
    xr.testing.assert_identical(far, near)


@pytest.mark.every_case
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_every_format_from_every_server(name: str, mode: str, samples: Path, request: pytest.FixtureRequest) -> None:
    if name == "a.lsm":
        request.getfixturevalue("lsm")
    with serving(samples, **MODES[mode]) as (url, _):
        same(f"{url}/{name}", samples / name)


def test_an_lsm_keeps_its_channel_names(lsm: Path) -> None:
    assert imload(lsm).img.channels[:2] == ["423", "433"]


@pytest.mark.parametrize("name", ["a.ome.tif", "a.npz", "a.czi", "a.png", "sharded.zarr", "a.zarr.zip", "a.bin"])
@pytest.mark.parametrize(
    ("mode", "flaky"),
    [("good", ("503", "truncated")), ("good", ("reset", "429")), ("no ranges", ("truncated", "500"))],
)
def test_a_failure_that_passes_is_not_noticed(name: str, mode: str, flaky: tuple[str, ...], samples: Path) -> None:
    """Each request is answered well when it is made for the third time."""
    with serving(samples, **MODES[mode], flaky=flaky) as (url, _):
        same(f"{url}/{name}", samples / name)


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("a.ome.tif", "503"),
        ("a.npz", "reset"),
        ("a.czi", "truncated"),
        ("a.png", "502"),
        ("a.zarr", "503"),
        ("a.zarr", "reset"),
        ("a.zarr.zip", "500"),
        ("a.bin", "503"),
        ("a.bin", "truncated"),
    ],
)
def test_a_failure_that_stays_names_the_url_and_is_no_damage(name: str, failure: str, samples: Path) -> None:
    with serving(samples, always=failure) as (url, _), pytest.raises(RemoteError, match="try again later") as caught:
        imload(f"{url}/{name}").load()
    assert url in str(caught.value)
    assert "damaged" not in str(caught.value)
    assert not failure.isdigit() or failure in str(caught.value)
    assert isinstance(caught.value, ConnectionError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("name", ["a.ome.tif", "a.czi", "a.png", "sharded.zarr"])
def test_a_failure_at_any_moment_gives_the_complete_image_or_an_error(name: str, samples: Path) -> None:
    """Libraries that go on without what they could not read must not hide it."""
    for healthy in (0, 1, 2, 3, 5, 7, 10, 15, 22, 33, 50, 75, 200):
        with serving(samples, always="503") as (url, handler):
            handler.failures = [""] * healthy
            with contextlib.suppress(RemoteError):
                same(f"{url}/{name}", samples / name)
                break
    else:
        pytest.fail("200 requests were not enough")


@pytest.mark.filterwarnings("ignore:the LSM's .* cannot be read:UserWarning")  # the error comes after the warning
def test_an_lsm_whose_metadata_fail_is_an_error(lsm: Path) -> None:
    complete = 0
    for healthy in range(1, 30):
        with serving(lsm.parent, always="500") as (url, handler):
            handler.failures = [""] * healthy
            try:
                complete += imload(f"{url}/{lsm.name}").img.channels == imload(lsm).img.channels
            except RemoteError:
                assert not complete
                continue
            assert complete
            break
    assert complete


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_a_permission_error(status: int, samples: Path) -> None:
    with (
        serving(samples, always=str(status)) as (url, handler),
        pytest.raises(PermissionError, match=f"{status}.*storage"),
    ):
        imload(f"{url}/a.npy")
    assert len(handler.log) < 8


def test_what_is_not_there_is_not_waited_for(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_DELAYS", (1000.0,))
    with serving(samples) as (url, _), pytest.raises(FileNotFoundError):
        imload(f"{url}/missing.npy")


def test_no_server() -> None:
    with serving(Path()) as (url, _):
        pass
    with pytest.raises(ConnectionError, match="try again"):
        imload(f"{url}/a.npy")


@pytest.mark.parametrize("mode", ["no ranges", "no sizes"])
def test_large_files_without_ranges_are_fetched_once_and_kept_on_disk(
    mode: str, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_IN_MEMORY", 1000)
    with serving(samples, **MODES[mode]) as (url, handler):
        same(f"{url}/tiles.tif", samples / "tiles.tif")
        size = (samples / "tiles.tif").stat().st_size
        assert sum(n == size for _, n in handler.log) <= 4  # but one are dropped: looks at the size, the head, a range
        source = File.parse(f"{url}/tiles.tif").open()
        assert not isinstance(source._whole, bytes)
        assert source.size == size
        source.close()


def test_without_ranges_a_file_is_fetched_once(samples: Path) -> None:
    with serving(samples, ranges=False) as (url, handler):
        lazy = imload(f"{url}/tiles.tif")
        handler.log.clear()
        lazy.load()
        assert not handler.log


def test_with_ranges_only_what_is_needed_is_fetched(samples: Path) -> None:
    big = np.zeros((20, 300, 300), "u2")
    np.save(samples / "big.npy", big)
    with serving(samples) as (url, handler):
        imload(f"{url}/big.npy")["image"][3].values  # noqa: B018
        assert sum(n for _, n in handler.log) < big.nbytes / 2


@pytest.mark.parametrize("mode", MODES)
def test_streams_and_ranges(mode: str, samples: Path) -> None:
    content = (samples / "tiles.tif").read_bytes()
    rng = np.random.default_rng(0)
    with serving(samples, **MODES[mode]) as (url, _):
        source = File.parse(f"{url}/tiles.tif").open()
        with source.stream() as stream:
            for at, n in rng.integers(0, len(content), (30, 2)).tolist():
                stream.seek(at)
                assert stream.read(n) == content[at : at + n]
                assert stream.tell() == min(len(content), at + n)
            stream.seek(-7, 2)
            assert stream.read() == content[-7:]
            assert stream.read(3) == b""
        spans = [(int(a), int(min(n, len(content) - a))) for a, n in rng.integers(0, len(content), (30, 2))]
        found = source.ranges([a for a, _ in spans], [n for _, n in spans])
        assert found == [content[a : a + n] for a, n in spans]
        with pytest.raises(FormatError, match="ends at"):
            source.ranges([len(content)], [1])
        source.close()


def test_only_what_may_pass_is_tried_again() -> None:
    calls: list[int] = []

    def failing(error: Exception) -> None:
        calls.append(1)
        raise error

    for error, times in (
        (ValueError("x"), 1),
        (FileNotFoundError("x"), 1),
        (ConnectionResetError("x"), 3),
        (TimeoutError(), 3),
        (OSError(28, "full"), 1),
    ):
        calls.clear()
        with noted_failures() as met, pytest.raises(RemoteError if times == 3 else type(error)):
            retried("https://example.org/a", lambda error=error: failing(error))
        assert len(calls) == times
        assert len(met) == (times == 3)


@pytest.mark.parametrize(("version", "most"), [("0.5", 3), ("0.4", 7)])
def test_a_store_on_a_web_server_is_opened_by_few_requests(version: str, most: int, tmp_path: Path) -> None:
    imsave(xr.Dataset({"image": (tuple("zyx"), VALUES[:, 0])}), tmp_path / "a.ome.zarr", version=version)
    asked = []

    def look(handler: Handler) -> None:
        asked.append(handler.path)
        handler.do_GET()

    with serving(tmp_path, do_HEAD=look) as (url, handler):
        ds = imload(f"{url}/a.ome.zarr")
        assert len(handler.log) + len(asked) <= most
        np.testing.assert_array_equal(ds.image, VALUES[:, 0])


def test_a_store_that_was_not_there_is_found_when_it_is(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, _):
        with pytest.raises(FileNotFoundError):
            imload(f"{url}/a.ome.zarr")
        imsave(xr.Dataset({"image": (tuple("zyx"), VALUES[:, 0])}), tmp_path / "a.ome.zarr")
        np.testing.assert_array_equal(imload(f"{url}/a.ome.zarr").image, VALUES[:, 0])


def test_many_files_of_a_folder_on_a_web_server() -> None:
    folder = File.parse("http://localhost/a")
    assert folder / "b" is folder / "b"
    for k in range(200):
        assert (folder / f"{k}").path == f"http://localhost/a/{k}"
    assert len(folder.__dict__["_inside"]) <= 64
    assert not pickle.loads(pickle.dumps(folder)).__dict__.get("_inside")
