"""Downloads of images as files: `imsave` writes them to a temporary folder, then they are sent."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from intake_img.errors import AxesError, TooLargeError
from intake_img.io import imsave
from intake_img.portal.open_entries import Opened
from intake_img.portal.privacy import cleaned_image
from intake_img.portal.replies import problem
from intake_img.portal.site import Site
from intake_img.portal.work import THUMBNAIL

__all__ = ["download"]

_KINDS = {".zarr.zip": ".ozx", ".ome.tif": ".ome.tif"}


async def download(request: Request) -> Response:
    """``GET /download/{entry}.zarr.zip`` and ``.ome.tif``: the first scene of an entry as a file."""
    site: Site = request.app.state.site
    try:
        path = request.path_params["path"]
        kind = next((k for k in _KINDS if path.endswith(k)), None)
        if kind is None:
            raise KeyError(path)
        item = site.item(request, path.removesuffix(kind))
        opened = await site.opened(item, request)
        if opened.dataset.nbytes > site.settings.download_bytes:
            raise TooLargeError("this image is too large for a download: load the part that you need")
        folder = Path(tempfile.mkdtemp(prefix="intake_img-portal-"))
        try:
            written = await site.run(None, ("download", str(folder)), lambda: _write(opened, folder, kind), THUMBNAIL)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        name = f"{item.id.rpartition('/')[2]}{kind}"
        return FileResponse(
            written,
            filename=name,
            media_type="application/octet-stream",
            background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
        )
    except Exception as exc:
        site.metrics.failed(exc)
        return problem(exc)


def _write(opened: Opened, folder: Path, kind: str) -> Path:
    """Write the public part of an image."""
    image = cleaned_image(opened.store().image)
    ds = image.to_xarray(chunks="auto")
    if kind == ".ome.tif":
        ds = ds[[next(iter(ds.data_vars))]]  # a TIFF contains one variable
    target = folder / f"image{_KINDS[kind]}"
    if imsave(ds, target, progress=False) != [str(target)]:
        raise AxesError("this image takes several files of this kind: download it as .zarr.zip")
    return target
