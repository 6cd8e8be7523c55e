"""The sample of every driver on servers that answer well, badly, or not at every time.

Law: what a URL gives is identical to what the local file gives, with all its metadata, or it is an error of this
package. A driver that reads its sample from a good server reads it from each server that answers in the end.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr
from servers import MODES, serving

from intake_img import imload
from intake_img.errors import IntakeImgError
from intake_img.formats.registry import formats
from intake_img.storage import remote

pytest.importorskip("aiohttp")

PASSING = {
    **{name: mode for name, mode in MODES.items() if name != "good"},
    "errors that pass": {"flaky": ("503", "truncated")},
    "resets that pass": {"flaky": ("reset", "429")},
    "without ranges, cut at first": {"ranges": False, "flaky": ("truncated", "500")},
}
"""Servers that answer each request in the end."""
LASTING = {1: "503", 2: "reset", 3: "truncated", 5: "500", 9: "503"}
"""What all requests fail with after so many that are answered."""


UNSERVED = ("dicom", "n5", "ndtiff", "slide", "vsi")
"""Drivers whose samples are folders, which web servers do not list, or are opened by a library that needs a path."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_DELAYS", (0.001, 0.002))


def read(uri: object) -> xr.Dataset:
    """Return an image without its place."""
    ds = imload(uri).load()
    for attrs in (ds.attrs, *(v.attrs for v in ds.variables.values())):
        attrs.pop("uri", None)
    return ds


@pytest.mark.every_case
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [n for n, f in formats().items() if f.has_sample])
def test_a_sample_reads_the_same_or_not_at_all(name: str, tmp_path: Path) -> None:
    path = Path(formats()[name].sample(str(tmp_path))[0])
    near, within = read(path), path.relative_to(tmp_path)

    def agrees(**mode: object) -> bool:
        with serving(tmp_path, **mode) as (url, handler):
            handler.failures = [""] * int(mode.get("healthy", 0))
            try:
                far = read(f"{url}/{within}")
            except (IntakeImgError, FileNotFoundError):  # a folder that the server does not list is not found
                return False
        xr.testing.assert_identical(far, near)
        return True

    served = agrees()
    assert served != (name in UNSERVED)
    for what, mode in PASSING.items():
        assert agrees(**mode) == served, what
    for healthy, what in LASTING.items():
        agrees(always=what, healthy=healthy)
    assert not agrees(always="503")
