"""Fixtures for all tests: where real files are, and that nothing stays open."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import time
import urllib.request
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, settings
from thoroughness import THOROUGH, trials

from intake_img.storage.handles import POOL

# how long an example takes says nothing of its result
settings.register_profile("thorough", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.register_profile(  # a change is judged by the same examples as the one before; thorough runs look for new ones
    "quick",
    settings.get_profile("thorough"),
    max_examples=trials(settings.default.max_examples),
    derandomize=True,
)
settings.load_profile("thorough" if THOROUGH else "quick")

_FINISHED = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases", type=int, help="cases to run of each parametrized test, but all of those marked every_case"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep ``--cases`` cases of each parametrized test: the first, the last, and some between, evenly spread."""
    if not (most := config.getoption("--cases")):
        return
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {item for cases in tests.values() for item in thinned(cases, most)}
    kept |= {item for item in items if item.get_closest_marker("every_case")}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def pytest_collection_finish() -> None:
    """Leave libraries and tests out of later collections of garbage, which a test asks for and waits for."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logfinish() -> None:
    """Leave out as well what the last hundred tests have imported and keep."""
    if next(_FINISHED) % 100 == 0:
        pytest_collection_finish()


def thinned(cases: list[pytest.Item], most: int) -> list[pytest.Item]:
    """Return at most so many of the cases, evenly spread."""
    count = min(most, len(cases))
    return [cases[k * (len(cases) - 1) // max(count - 1, 1)] for k in range(count)]


def _shared(part: str) -> Path:
    root = os.environ.get("INTAKE_IMG_DATA")
    if not root:
        pytest.skip("INTAKE_IMG_DATA is not set: no real files")
    folder = Path(root) / part
    assert folder.is_dir(), f"INTAKE_IMG_DATA={root} contains no folder {part!r}"
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real files of many formats."""
    return _shared("data")


@pytest.fixture(scope="session")
def expected() -> Path:
    """Folder of known answers."""
    return _shared("expected")


@pytest.fixture(autouse=True)
def same_data_in_any_order(request: pytest.FixtureRequest) -> None:
    """The random numbers of a test do not depend on which tests ran before it."""
    generator = getattr(request.module, "RNG", None)
    if generator is not None:
        seed = zlib.crc32(request.node.name.encode())
        generator.bit_generator.state = type(generator.bit_generator)(seed).state


@pytest.fixture(autouse=True)
def nothing_stays_open(request: pytest.FixtureRequest):
    """After each test the pool is empty once its images are gone, unless the module says `KEEPS_FILES_OPEN`."""
    yield
    if getattr(request.module, "KEEPS_FILES_OPEN", False):
        return
    for attempt in range(50):  # where a chunk failed, other threads of dask may still be at theirs
        if len(POOL):
            if attempt:
                gc.unfreeze()  # what a fixture of the module kept may be garbage by now
            gc.collect()
        if not len(POOL):
            break
        time.sleep(0.1)
    assert len(POOL) == 0, f"handles stay open: {list(POOL._entries)}"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of a server that speaks S3."""
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel("ERROR")
    moto.MotoRequestHandler.disable_nagle_algorithm = True  # else contents wait 40 ms for the receipt of the headers
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def s3(s3_server: str) -> dict[str, Any]:
    """Options of a server that speaks S3 and holds one bucket, ``images``, which is empty."""
    s3fs = pytest.importorskip("s3fs")
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/moto-api/reset", method="POST")).close()
    options = {
        "key": uuid.uuid4().hex,  # another file system for each test
        "secret": "s",
        "endpoint_url": s3_server,
        "client_kwargs": {"region_name": "eu-west-1"},
    }
    s3fs.S3FileSystem(**options).mkdir("images")
    return options


@pytest.fixture
def in_memory() -> Iterator[Callable[[Path], str]]:
    """A function that copies a file into the file system ``memory://`` and returns its URL there."""
    memory = fsspec.filesystem("memory")

    def put(path: Path) -> str:
        memory.pipe(f"/copies/{path.name}", path.read_bytes())
        return f"memory://copies/{path.name}"

    yield put
    if memory.exists("/copies"):
        memory.rm("/copies", recursive=True)
