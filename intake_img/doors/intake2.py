"""Intake 2: one reader, hung on the datatypes that Intake knows and on those that it does not.

To be defined is to be registered, so importing `intake_img` is what makes ``intake.auto_pipeline(url, "xarray")``,
``intake.datatypes.recommend`` and version-2 catalogs know these formats; a bare ``import intake`` knows nothing of us.
Only Intake's own light modules are imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from intake.readers import datatypes, readers
from intake.readers.datatypes import FileData
from intake.readers.readers import FileReader

__all__ = ["AVI", "BMP", "CZI", "GIF", "LSM", "MP4", "NPZ", "PNM", "STK", "ZARRZIP", "ImgReader", "WebP"]


class CZI(FileData):
    """Zeiss CZI."""

    filepattern = r"\.czi$"
    magic: ClassVar[set[Any]] = {b"ZISRAWFILE"}
    structure: ClassVar[set[str]] = {"array", "image"}


class LSM(datatypes.TIFF):
    """Zeiss LSM, a kind of TIFF."""

    filepattern = r"\.lsm$"
    magic: ClassVar[set[Any]] = set()  # its bytes are those of TIFF
    mimetypes = ""


class STK(datatypes.TIFF):
    """MetaMorph stack, a kind of TIFF."""

    filepattern = r"\.stk$"
    magic: ClassVar[set[Any]] = set()
    mimetypes = ""


class ZARRZIP(FileData):
    """Zarr store in a zip file."""

    filepattern = r"\.zarr\.zip$"
    structure: ClassVar[set[str]] = {"array", "hierarchy"}


class NPZ(FileData):
    """Archive of NumPy arrays."""

    filepattern = r"\.npz$"
    structure: ClassVar[set[str]] = {"array"}


class GIF(FileData):
    """Graphics Interchange Format."""

    filepattern = r"\.gif$"
    magic: ClassVar[set[Any]] = {b"GIF87a", b"GIF89a"}
    mimetypes = "image/gif"
    structure: ClassVar[set[str]] = {"array", "image"}


class BMP(FileData):
    """Windows bitmap."""

    filepattern = r"\.bmp$"
    magic: ClassVar[set[Any]] = {(None, rb"\ABM[\s\S]{4}\0{4}")}  # None: a pattern to be searched for
    mimetypes = "image/bmp"
    structure: ClassVar[set[str]] = {"array", "image"}


class WebP(FileData):
    """WebP picture."""

    filepattern = r"\.webp$"
    magic: ClassVar[set[Any]] = {(8, b"WEBP")}
    mimetypes = "image/webp"
    structure: ClassVar[set[str]] = {"array", "image"}


class PNM(FileData):
    """Netpbm picture: PBM, PGM, PPM."""

    filepattern = r"\.p[bgpn]m$"
    magic: ClassVar[set[Any]] = {(None, rb"\AP[1-6]\s")}
    mimetypes = "image/x-portable-"
    structure: ClassVar[set[str]] = {"array", "image"}


class MP4(FileData):
    """MPEG-4 or QuickTime video."""

    filepattern = r"\.(mp4|m4v|mov)$"
    magic: ClassVar[set[Any]] = {(4, b"ftyp")}
    mimetypes = "video/(mp4|quicktime)"
    structure: ClassVar[set[str]] = {"array", "image", "timeseries"}


class AVI(FileData):
    """AVI video."""

    filepattern = r"\.avi$"
    magic: ClassVar[set[Any]] = {(8, b"AVI ")}
    mimetypes = "video/(x-msvideo|avi)"
    structure: ClassVar[set[str]] = {"array", "image", "timeseries"}


class ImgReader(FileReader):
    """Reads an image of any format as an `xarray.Dataset`; see `intake_img.imload` for the options.

    ``axes``, ``spacing``, ``spacing_units`` and ``coords`` in the metadata of the entry overrule the file.
    """

    implements: ClassVar[set[type]] = {
        datatypes.TIFF,
        datatypes.Zarr,
        datatypes.PNG,
        datatypes.JPEG,
        datatypes.NumpyFile,
        CZI,
        LSM,
        STK,
        ZARRZIP,
        NPZ,
        GIF,
        BMP,
        WebP,
        PNM,
        MP4,
        AVI,
    }
    imports: ClassVar[set[str]] = {"intake_img", "xarray"}
    output_instance = "xarray:Dataset"
    func = "intake_img:imload"
    url_arg = "uri"
    storage_options = True

    def discover(self, **kwargs: Any) -> Any:
        """Return the Dataset without a pixel read."""
        return self.read(metadata_only=True, **kwargs)

    def _read(self, data: Any, **options: Any) -> Any:
        from intake_img.formats.source import OVERRIDES

        url = data.url[0] if isinstance(data.url, (list, tuple)) and len(data.url) == 1 else data.url
        if root := getattr(data, "root", ""):
            url = f"{url.rstrip('/')}/{root}"
        overrides = {k: v for k, v in self.metadata.items() if k in OVERRIDES}
        if data.storage_options:
            options.setdefault("storage_options", data.storage_options)
        return self._func(url, metadata=overrides or None, **options)


def _ours_first(recommend: Callable[[Any], dict[str, list[type]]]) -> Callable[[Any], dict[str, list[type]]]:
    """Give the order of readers that yield equal things a rule: Intake takes it from a set, by chance."""

    @wraps(recommend)
    def ordered(data: Any) -> dict[str, list[type]]:
        found = recommend(data)
        for listed in found.values():
            if ImgReader in listed:
                rivals = [k for k, r in enumerate(listed) if r.output_instance == ImgReader.output_instance]  # type: ignore[attr-defined]
                listed.remove(ImgReader)
                listed.insert(rivals[0], ImgReader)
        return found

    ordered.ours_first = True  # type: ignore[attr-defined]
    return ordered


if not hasattr(readers.recommend, "ours_first"):
    readers.recommend = _ours_first(readers.recommend)
if "intake.readers.convert" in sys.modules:  # what it found before it knew of us
    sys.modules["intake.readers.convert"].path.cache_clear()
