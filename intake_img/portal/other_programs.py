"""How other programs open an entry: texts to copy, links, and a view of Neuroglancer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from intake_img.errors import IntakeImgError
from intake_img.model.units import parse_unit
from intake_img.portal.library import LibraryItem
from intake_img.portal.virtual_store import ImageStore

__all__ = ["AVIVATOR", "NEUROGLANCER", "neuroglancer", "snippets"]

NEUROGLANCER = "https://neuroglancer-demo.appspot.com"
AVIVATOR = "https://avivator.gehlenborglab.org"
_DTYPES = {*(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float32"}
_MOST_CHANNELS = 32
_WINDOW = {"x": 900, "y": 600}  # pixels of a window that the image fills
_SHADER = "#uicontrol invlerp contrast\n#uicontrol vec3 color color\nvoid main() { emitRGB(color * contrast()); }\n"


def snippets(base: str, item: LibraryItem, guarded: bool, small: bool) -> list[tuple[str, str]]:
    """Return titles and texts to copy.

    Parameters
    ----------
    base : str
        Address of the portal.
    item : LibraryItem
    guarded : bool
        Whether visitors need a token; the texts have a place for it.
    small : bool
        Whether the entry can be downloaded as a file.
    """
    url = f"{base}/data/{item.id}.zarr"
    headers = 'headers = {"Authorization": "Bearer TOKEN"}\n' if guarded else ""
    token = ', storage_options={"headers": headers}' if guarded else ""
    texts = [
        ("intake_img", f"from intake_img import imload\n\n{headers}ds = imload({url!r}{token})"),
        ("Intake", f"import intake\n\n{headers}catalog = intake.open_catalog({base + '/catalog.yml'!r}{token})"),
        ("zarr", f"import zarr\n\n{headers}group = zarr.open_group({url!r}, mode='r'{token})"),
        ("napari", f"napari --plugin napari-ome-zarr {url}"),
        ("Fiji", f"File > Import > HDF5/N5/Zarr/OME-NGFF ... , then {url}"),
    ]
    return [*texts, ("QuPath 0.5 or newer", _qupath(base, item, guarded))] if small else texts


def _qupath(base: str, item: LibraryItem, guarded: bool) -> str:
    """A script that downloads the image and opens it: QuPath reads OME-Zarr up to version 0.4, and OME-TIFF."""
    name = re.sub(r"[^\w.-]+", "_", item.name, flags=re.ASCII).strip(".") or "image"
    token = "link.setRequestProperty('Authorization', 'Bearer TOKEN')\n" if guarded else ""
    return (
        "// Automate > Script editor\n"
        f"def file = new File(System.getProperty('user.home'), '{name}.ome.tif')\n"
        f"def link = new URI('{base}/download/{quote(item.id)}.ome.tif').toURL().openConnection()\n"
        f"{token}"
        "file.withOutputStream { it << link.inputStream }\n"
        "javafx.application.Platform.runLater { getQuPath().openImage(getCurrentViewer(), file.path) }"
    )


def neuroglancer(store: ImageStore, url: str, name: str) -> str:
    """Return the address of a view in Neuroglancer: channels with their colours and limits, and labels.

    Parameters
    ----------
    store : ImageStore
        Its contrast windows are read.
    url : str
        Address of the store.
    name : str
        Title of the image.

    Raises
    ------
    IntakeImgError
        If Neuroglancer does not support the dtype of the image.

    Notes
    -----
    The JSON is that of Neuroglancer 2.40 and later. Without it, Neuroglancer shows the first three of t, z, y, x as
    space and one channel between 0 and 65535.
    """
    first = next(iter(store.levels.values()))[0]
    lengths = dict(zip(first.axes, first.pixels.shape, strict=True))
    dimensions = _dimensions(store.groups[""]["ome"]["multiscales"][0])
    shown = [a for a in "xyz" if a in dimensions]
    finest = min(dimensions[a][0] for a in shown)
    state = {
        "dimensions": dimensions,
        "displayDimensions": shown,
        "crossSectionScale": max(lengths[a] * dimensions[a][0] / _WINDOW[a] for a in "xy") / finest,
        "layers": list(_layers(store, url, name)),
        "layout": "xy",
    }
    return f"{NEUROGLANCER}/#!" + quote(json.dumps(state, separators=(",", ":")), safe="/:,")


def _dimensions(multiscale: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return scale and unit of x, y, z and t, in this order; the unit is m, s or none."""
    scales = next(t["scale"] for t in multiscale["datasets"][0]["coordinateTransformations"] if t["type"] == "scale")
    found = {}
    for axis, scale in zip(multiscale["axes"], scales, strict=True):
        unit = parse_unit(axis.get("unit"))
        found[axis["name"]] = [scale * unit.factor, "m" if unit.dimension == "length" else "s"] if unit else [scale, ""]
    return {a: found[a] for a in "xyzt" if a in found}


def _layers(store: ImageStore, url: str, name: str) -> Iterator[dict[str, Any]]:
    for key, served in store.levels.items():
        path = next(p for p, array in store.arrays.items() if array is served[0]).rpartition("/")[0]
        dtype = served[0].document["data_type"]
        if dtype not in _DTYPES:
            raise IntakeImgError(f"Neuroglancer cannot show {dtype} samples")
        source = f"{url}/{path}/|zarr3:" if path else f"{url}/|zarr3:"
        title = name if len(store.levels) == 1 else f"{name} {key}"
        if store.image.variables[key].kind == "labels":
            yield {"type": "segmentation", "source": source, "name": title}
        else:
            yield from _channels(store, key, source, title)


def _channels(store: ImageStore, key: str, source: str, title: str) -> Iterator[dict[str, Any]]:
    channel = next((a for a in store.levels[key][0].axes if a not in "tzyx"), None)
    for k, facts in enumerate(store.channels(key)[:_MOST_CHANNELS]):
        window = facts["window"]
        limits = {"range": [window["start"], window["end"]], "window": [window["min"], window["max"]]}
        place = {"localDimensions": {f"{channel}'": [1, ""]}, "localPosition": [k]} if channel else {}
        yield {
            "type": "image",
            "source": source,
            **place,
            "name": f"{title} {facts['label']}" if channel else title,
            "opacity": 1,
            "blend": "additive",
            "shader": _SHADER,
            "shaderControls": {"contrast": limits, "color": f"#{facts['color']}"},
            "visible": bool(facts["active"]),
        }
