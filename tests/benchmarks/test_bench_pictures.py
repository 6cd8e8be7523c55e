"""Pictures that are always decoded completely, against the libraries that decode them: opening and a complete read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from intake_img import autodetect
from intake_img.formats.cameraraw.driver import CameraRaw

imagecodecs = pytest.importorskip("imagecodecs")

Raw = tuple[Callable[[], object], Callable[[], object]]


def _exr(path: Path, texture: np.ndarray) -> Raw:
    library = pytest.importorskip("OpenEXR")
    planes = {name: np.roll(texture, k, axis=1).astype("f2") for k, name in enumerate("RGB")}
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    library.File(header, planes).write(str(path))

    def whole() -> np.ndarray:
        return np.stack([c.pixels for c in library.File(str(path), separate_channels=True).channels().values()])

    return lambda: library.File(str(path), header_only=True), whole


def _coded(name: str, **options: object) -> Callable[[Path, np.ndarray], Raw]:
    def made(path: Path, texture: np.ndarray) -> Raw:
        path.write_bytes(getattr(imagecodecs, f"{name}_encode")(texture, **options))
        decode = getattr(imagecodecs, f"{name}_decode")
        whole = lambda: decode(path.read_bytes())  # noqa: E731
        return whole, whole

    return made


def _dng(path: Path, texture: np.ndarray) -> Raw:
    library = pytest.importorskip("rawpy")
    path.write_bytes(Path(CameraRaw().sample(str(path.parent))[0]).read_bytes())

    def whole() -> object:
        with library.imread(str(path)) as raw:
            return raw.raw_image_visible.copy()

    return whole, whole


KINDS = {
    "exr": _exr,
    "jp2": _coded("jpeg2k", level=0, reversible=True),
    "jxl": _coded("jpegxl", lossless=True),
    "dng": _dng,
}


@pytest.fixture(scope="module", params=list(KINDS))
def picture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, texture: np.ndarray):
    path = tmp_path_factory.mktemp("pictures") / f"a.{request.param}"
    return path, *KINDS[request.param](path, np.ascontiguousarray(texture[:1024, :1024]))


def test_open(picture, versus, benchmark) -> None:
    path, opened, _ = picture
    benchmark.extra_info["gate"] = "1.1, or 3 ms above the library"  # where the library decodes all, the share tells
    ratio = versus(lambda: autodetect(path).image().sizes, opened, rounds=10)
    assert ratio <= 1.1 or benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 3


def test_read(picture, versus, benchmark) -> None:
    path, _, whole = picture
    benchmark.extra_info["gate"] = (
        "1.25, or 2.5 ms above the library"  # for the file and the Dataset, of small pictures
    )
    ratio = versus(lambda: autodetect(path).read(), whole)
    assert ratio <= 1.25 or benchmark.extra_info["ours_ms"] <= benchmark.extra_info["raw_ms"] + 2.5
