"""Compressed strips are decompressed into their place, wherever they lie in the file and whatever part is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import imload
from intake_img.errors import FormatError
from intake_img.formats.tif import read as module

RNG = np.random.default_rng(8)
VALUES = np.cumsum(RNG.integers(0, 5, (3, 37, 41)), -1)

KINDS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 5},
    "big-endian": {"rowsperstrip": 5, "byteorder": ">"},
    "predictor": {"rowsperstrip": 5, "predictor": True},
    "tiles": {"tile": (16, 16)},
    "planes": {"rowsperstrip": 37},
    "old deflate": {"rowsperstrip": 3, "compression": 32946},
    "zstd": {"rowsperstrip": 5, "compression": "zstd"},
}
DIRECT = ("strips", "planes", "old deflate")


def written(path: Path, dtype: str, options: dict[str, Any]) -> np.ndarray:
    values = VALUES.astype(dtype)
    given = {"compression": "zlib", "photometric": "minisblack", **options}
    tifffile.imwrite(path, values, byteorder=given.pop("byteorder", "<"), **given)
    return values


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_that_were_written(tmp_path, kind, dtype, monkeypatch):
    if kind == "predictor" and dtype == "f8":
        pytest.skip("tifffile writes none")
    values = written(tmp_path / "a.tif", dtype, KINDS[kind])
    filled = []
    original = module._inflated
    monkeypatch.setattr(module, "_inflated", lambda *given: filled.append(original(*given)) or filled[-1])
    found = imload(tmp_path / "a.tif", chunks=None)["image"]
    np.testing.assert_array_equal(found.values, values)
    assert any(filled) == (kind in DIRECT or (kind, dtype) == ("big-endian", "u1"))
    np.testing.assert_array_equal(found[1:, 3:29, 7:30].values, values[1:, 3:29, 7:30])
    np.testing.assert_array_equal(found[::-2, ::3, ::-1].values, values[::-2, ::3, ::-1])


@pytest.mark.parametrize("colour", [{"photometric": "rgb"}, {"photometric": "rgb", "planarconfig": "separate"}])
def test_samples_of_colours(tmp_path, colour):
    shape = (33, 21, 3) if len(colour) == 1 else (3, 33, 21)
    values = RNG.integers(0, 9, shape).astype("u2")
    tifffile.imwrite(tmp_path / "a.tif", values, compression="zlib", rowsperstrip=4, **colour)
    wanted = np.moveaxis(values, -1, 0) if len(colour) == 1 else values
    np.testing.assert_array_equal(imload(tmp_path / "a.tif")["image"].values, wanted)


def test_a_strip_that_is_too_short_is_an_error(tmp_path):
    values = written(tmp_path / "a.tif", "u2", {"rowsperstrip": 5})
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset, count = tif.pages[1].dataoffsets[2], tif.pages[1].databytecounts[2]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[offset + 4 : offset + count] = bytes(count - 4)
    (tmp_path / "a.tif").write_bytes(data)
    image = imload(tmp_path / "a.tif")["image"]
    np.testing.assert_array_equal(image[0].values, values[0])
    with pytest.raises(FormatError):
        image[1].values  # noqa: B018


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 99)), min_size=1, max_size=12))
@examples(60)
def test_ranges_are_those_of_the_file(ranges):
    content = bytes(RNG.integers(0, 256, 1000, "u1"))
    found: Any = module._fetched(Bytes(content), [a for a, _ in ranges], [n for _, n in ranges])
    assert [bytes(f) for f in found] == [content[a : a + n] for a, n in ranges]


class Bytes:
    """A local file of some bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.file = type("Local", (), {"local": True})()

    def ranges(self, offsets: list[int], counts: list[int]) -> list[bytes]:
        return [self.content[a : a + n] for a, n in zip(offsets, counts, strict=True)]
