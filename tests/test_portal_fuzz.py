"""Requests made up from the portal's OpenAPI description: each answer is one that it states."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import HealthCheck, given, settings

from intake_img.portal.app import make_app
from intake_img.portal.library import Library
from intake_img.portal.settings import Settings

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("uvicorn")

pytestmark = pytest.mark.thorough
KEEPS_FILES_OPEN = True  # a portal does, by design

EXAMPLES = 30
_CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
    schemathesis.checks.response_headers_conformance,
]
_NAMES = ("a", "many", "broken", "gone")
_KEYS = ["zarr.json", "0/zarr.json", "0/c/0/0", "0/c/0/1", "0/c/0/0/0/0/0", "0/c/0/max/0/0/0", ".zattrs", "0/c/0/-1"]
_KNOWN = {
    "entry": {"enum": list(_NAMES)},
    "key": {"enum": _KEYS},
    **{a: {"enum": [0, 1]} for a in ("level", "y", "x")},
    **{a: {"enum": [0, "max"]} for a in "tz"},
    "Range": {"enum": ["bytes=0-9", "bytes=-4", "bytes=9999999-", "bytes=3-1"]},
    "If-None-Match": {"enum": ["*", '"x"']},
}
_HEADERS = {
    "Accept-Encoding": ["zstd", "gzip;q=0, zstd;q=0.0", "identity", "*;q=x"],
    "Origin": ["null", "http://localhost", "https://evil.example"],
    "Authorization": ["Bearer x", "Basic eDp4"],
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("fuzz")
    tifffile.imwrite(folder / "a.tif", np.arange(600 * 70, dtype="u2").reshape(600, 70))
    tifffile.imwrite(folder / "many.tif", np.zeros((2, 3, 4, 20, 30), "f4"), imagej=True)
    (folder / "broken.tif").write_bytes(b"II*\0" + bytes(50))
    entries = {n: {"driver": "tif", "args": {"uri": "{{ CATALOG_DIR }}/" + f"{n}.tif"}} for n in _NAMES}
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": entries}))
    portal = make_app(Library([folder / "lab.yml"], folder / "made"), Settings(cache=folder / "cache", hosts=()))

    async def started(scope: Any, receive: Any, send: Any) -> None:
        """The portal, which does not end with each request."""
        if scope["type"] != "lifespan":
            return await portal(scope, receive, send)
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})

    portal.site.start_indexing()
    yield started
    portal.site.close()


def _schema(app: Any, known: dict[str, Any]) -> Any:
    """The description with headers, and with values of some parameters."""
    found = copy.deepcopy(schemathesis.openapi.from_asgi("/api/openapi.json", app).raw_schema)
    for path in found["paths"].values():
        parameters = path["get"].setdefault("parameters", [])
        for one in parameters:
            one["schema"] = known.get(one["name"], one["schema"])
        parameters += [{"name": n, "in": "header", "schema": {"enum": values}} for n, values in _HEADERS.items()]
    schema = schemathesis.openapi.from_dict(found)
    schema.app = app
    return schema


def _check(operation: Any) -> set[int]:
    seen: set[int] = set()

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        reply = case.call()
        seen.add(reply.status_code)
        case.validate_response(reply, checks=_CHECKS)
        assert reply.status_code < 500 or (reply.status_code == 503 and "Retry-After" in reply.headers)

    check()
    return seen


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of other packages
@pytest.mark.parametrize("known", [{}, _KNOWN], ids=["anything", "entries"])
def test_answers_are_those_that_the_api_states(app: Any, known: dict[str, Any]) -> None:
    operations = [found.ok() for found in _schema(app, known).get_all_operations()]
    assert len(operations) == 12
    seen = {operation.label.removeprefix("GET "): _check(operation) for operation in operations}
    of_entries = {path: found for path, found in seen.items() if "{entry}" in path}
    if not known:
        assert all(404 in found for found in of_entries.values()), seen
        assert all(200 in found for path, found in seen.items() if path not in of_entries), seen
    else:
        assert all({200, 422} <= found for found in of_entries.values()), seen
        assert {200, 404, 410, 422} <= seen["/data/{entry}.zarr/{key}"], seen
