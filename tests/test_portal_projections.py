"""Projections that the server computes: those of the planes, within limits, and beyond them on a dask cluster."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml
from PIL import Image

pytest.importorskip("starlette")

from portal_calls import Calls, calling

from intake_img import imsave
from intake_img.errors import IntakeImgError
from intake_img.portal import command, projections
from intake_img.portal.projections import Cluster, brightest

KEEPS_FILES_OPEN = True  # a portal does, by design

_SIZES = {"t": 2, "c": 2, "z": 3, "y": 600, "x": 1100}


def _image(dtype: str) -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, tuple(_SIZES.values())).astype(dtype)
    if np.dtype(dtype).kind == "f":
        values[:, :, 1, ::3] = np.nan
        values[0, 0, :, 5, 7] = np.nan
    return xr.DataArray(values, dims=list(_SIZES))


def _catalog(folder: Path, dtype: str = "u2", name: str = "a.tif") -> Path:
    imsave(_image(dtype), folder / name)
    entry = {"driver": name.rpartition(".")[2], "args": {"uri": "{{ CATALOG_DIR }}/" + name}}
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": {"a": entry}}))
    return folder / "lab.yml"


async def _samples(calls: Calls, key: str) -> np.ndarray:
    level = key.split("/")[0]
    about = json.loads((await calls.get(f"/data/a.zarr/{level}/zarr.json")).body)
    reply = await calls.get(f"/pixels/a.zarr/{key}")
    assert reply.status == 200, reply.body
    return np.frombuffer(reply.body, np.dtype(about["data_type"]).newbyteorder("<"))


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
@pytest.mark.parametrize("place", ["0/c/1/0/{}/0/0", "0/c/0/0/{}/1/1", "1/c/0/1/{}/0/0"])
def test_a_projection_is_that_of_the_planes(tmp_path: Path, dtype: str, place: str) -> None:
    async def check() -> None:
        async with calling([_catalog(tmp_path, dtype)], tmp_path) as calls:
            planes = [await _samples(calls, place.format(z)) for z in range(_SIZES["z"])]
            found = await _samples(calls, place.format("max"))
            np.testing.assert_array_equal(found, np.fmax.reduce(planes))
            again = await calls.get(f"/pixels/a.zarr/{place.format('max')}", Accept_Encoding="zstd")
            assert again.status == 200
            assert again.headers["etag"] != (await calls.get(f"/pixels/a.zarr/{place.format(0)}")).headers["etag"]

    asyncio.run(check())


def test_other_axes_are_projected_too(tmp_path: Path) -> None:
    async def check() -> None:
        async with calling([_catalog(tmp_path)], tmp_path) as calls:
            planes = [await _samples(calls, f"0/c/{t}/1/2/0/0") for t in range(2)]
            np.testing.assert_array_equal(await _samples(calls, "0/c/max/1/2/0/0"), np.maximum(*planes))
            for key in (
                "0/c/0/0/0/max/0",
                "0/c/0/0/0/0/max",
                "0/c/max/0/max/0/0",
                "0/c/0/0/max/9/0",
                "0/c/0/7/max/0/0",
            ):
                assert (await calls.get(f"/pixels/a.zarr/{key}")).status == 404
            assert (await calls.get("/data/a.zarr/0/c/0/0/max/0/0")).status == 404

    asyncio.run(check())


@pytest.mark.parametrize(("dtype", "limit"), [("u2", 2_000_000), ("c8", 10**9)])
def test_what_costs_too_much_is_refused(tmp_path: Path, dtype: str, limit: int) -> None:
    async def check() -> None:
        async with calling([_catalog(tmp_path, dtype, "a.npy")], tmp_path, request_bytes=limit) as calls:
            key = "/pixels/a.zarr/0/c/0/0/{}/0/0"
            assert (await calls.get(key.format(0))).status == 200
            reply = await calls.get(key.format("max"))
            assert reply.status == 422  # not 503: the client need not try again
            assert ("maximum" if dtype == "c8" else "projection") in reply.json["detail"]

    asyncio.run(check())


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A scheduler and a worker of this process, to which everything is sent through sockets."""
    distributed = pytest.importorskip("distributed")
    options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "n_workers": 1}
    with distributed.LocalCluster(threads_per_worker=2, **options) as found:
        yield found


@pytest.mark.parametrize("key", ["0/c/1/1/{}/0/0", "1/c/0/1/{}/0/0"])
def test_a_cluster_computes_what_costs_too_much(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(projections, "_HEAVY", 0)
    monkeypatch.setattr(projections, "_TASKS", 3)
    address = cluster.scheduler_address
    here: list[Any] = []
    monkeypatch.setattr(projections.Projections, "_here", lambda *given: here.append(given))

    async def check() -> None:
        async with calling([_catalog(tmp_path)], tmp_path, request_bytes=2_000_000, dask=address) as calls:
            found = await _samples(calls, key.format("max"))
            assert here == []
            planes = [await _samples(calls, key.format(z)) for z in range(_SIZES["z"])]
            np.testing.assert_array_equal(found, np.maximum.reduce(planes))

    asyncio.run(check())


def test_a_cluster_that_is_away_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(projections, "_HEAVY", 0)
    tried: list[str] = []

    def away(address: str, **_: Any) -> None:
        tried.append(address)
        raise OSError("nobody there")

    monkeypatch.setattr(distributed, "Client", away)

    async def check() -> None:
        async with calling([_catalog(tmp_path)], tmp_path, dask="tcp://a:1") as calls:
            for t in range(2):
                found = await _samples(calls, f"0/c/{t}/0/max/0/0")
                planes = [await _samples(calls, f"0/c/{t}/0/{z}/0/0") for z in range(_SIZES["z"])]
                np.testing.assert_array_equal(found, np.maximum.reduce(planes))
            assert tried == ["tcp://a:1"]  # not for every request

    asyncio.run(check())


def test_a_cluster_that_fails_is_an_error(cluster: Any) -> None:
    class Broken:
        dtype, shape = np.dtype("u1"), (2, 3)

        def read_into(self, region: Any, out: Any) -> None:
            raise ValueError("damaged")

    one = Cluster(cluster.scheduler_address, 60.0)
    try:
        with pytest.raises(ValueError, match="damaged"):
            one.brightest(Broken(), (slice(0, 2), slice(0, 3)), 0)  # type: ignore[arg-type]
    finally:
        one.close()


def test_the_command_asks_the_cluster_first(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[Any] = []
    monkeypatch.setattr(command, "_serve_one", lambda arguments, one, *_: settings.append(one))
    monkeypatch.setattr("intake_img.portal.server_processes.end_cleanly", lambda: None)
    parser = argparse.ArgumentParser()
    command.add_command(parser.add_subparsers(), lambda commands, name, run, about: _added(commands, name, run))
    start = ["portal", str(_catalog(tmp_path)), "--port", "0", "--cache", str(tmp_path / "cache"), "--dask"]
    arguments = parser.parse_args([*start, cluster.scheduler_address])
    assert arguments.run(arguments) == 0
    assert settings[0].dask == cluster.scheduler_address
    arguments = parser.parse_args([*start, "nonsense://x"])
    with pytest.raises(IntakeImgError, match="nonsense"):
        arguments.run(arguments)


def _added(commands: Any, name: str, run: Any) -> argparse.ArgumentParser:
    found: argparse.ArgumentParser = commands.add_parser(name)
    found.set_defaults(run=run)
    return found


def test_nan_is_ignored_and_planes_are_read_one_by_one() -> None:
    class Planes:
        dtype, shape = np.dtype("f4"), (3, 2)
        values = np.array([[1, np.nan], [3, np.nan], [2, np.nan]], "f4")

        def read_into(self, region: Any, out: Any) -> None:
            assert out.shape == (1, 2)
            out[...] = self.values[region]

    found = brightest(Planes(), (slice(0, 3), slice(0, 2)), 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, [[3, np.nan]])


def _picture(reply: Any) -> np.ndarray:
    assert reply.status == 200, reply.body
    return np.asarray(Image.open(io.BytesIO(reply.body)))


def test_tiles_show_projections(tmp_path: Path) -> None:
    async def check() -> None:
        async with calling([_catalog(tmp_path)], tmp_path) as calls:
            shown = "c=1~0~200~ffffff"
            for axis, rest in (("z", "t=1"), ("t", "z=2")):
                at = {"t": 1, "c": 1, "z": 2, axis: slice(None)}
                planes = _image("u2").isel({k: at[k] for k in "tcz"}).values[:, :512, :512]
                found = _picture(await calls.get(f"/tile/a/0/0/0.png?{axis}=max&{rest}&{shown}"))
                np.testing.assert_allclose(found[..., 0], planes.max(axis=0) * (255 / 200), atol=0.51)
                other = _picture(await calls.get(f"/tile/a/0/0/0.png?{rest}&{shown}"))
                assert (found >= other).all()
                assert (found > other).any()
            both = await calls.get("/tile/a/0/0/0.png?z=max&t=max")
            assert both.status == 404

    asyncio.run(check())


def test_axes_without_a_projection_show_their_plane(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "b.tif", np.arange(600, dtype="u2").reshape(20, 30))

    async def check() -> None:
        async with calling([tmp_path / "b.tif"], tmp_path) as calls:
            plain = _picture(await calls.get("/tile/b/0/0/0.png"))
            np.testing.assert_array_equal(_picture(await calls.get("/tile/b/0/0/0.png?z=max")), plain)

    asyncio.run(check())


@pytest.mark.parametrize(("channels", "status"), [("0", 200), ("0_1", 422)])
def test_the_channels_of_a_tile_share_the_limit(tmp_path: Path, channels: str, status: int) -> None:
    limit = 3 * 600 * 1100 * 2 + 1  # one channel of the stack

    async def check() -> None:
        async with calling([_catalog(tmp_path)], tmp_path, request_bytes=limit) as calls:
            reply = await calls.get(f"/tile/a/0/0/0.png?z=max&c={channels}")
            assert reply.status == status
            assert status == 200 or reply.json["error"] == "unreadable"

    asyncio.run(check())


def test_the_api_tells_of_projections(tmp_path: Path) -> None:
    async def check() -> None:
        async with calling([_catalog(tmp_path)], tmp_path) as calls:
            paths = (await calls.get("/api/openapi.json")).json["paths"]
            for axis in "tz":
                tile = paths["/tile/{entry}/{level}/{y}/{x}.webp"]["get"]["parameters"]
                schema = next(p["schema"] for p in tile if p["name"] == axis)
                assert {"const": "max"} in schema["anyOf"]
            key = next(p for p in paths["/pixels/{entry}.zarr/{key}"]["get"]["parameters"] if p["name"] == "key")
            assert "max" in key["description"]

    asyncio.run(check())
