"""The result of `ds.img.view`: an image in the viewer, and its visible region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from intake_img.accessor.colors import is_rgb
from intake_img.accessor.display import as_text, summary
from intake_img.accessor.thumbnail import png
from intake_img.errors import AxesError
from intake_img.model.datasets import spacing_of
from intake_img.model.units import parse_unit
from intake_img.portal.caches import BlockCache, DiskCache, memory_cache
from intake_img.portal.hierarchy import Hierarchy
from intake_img.portal.notebook.drawing import Camera, drawn
from intake_img.portal.virtual_store import ImageStore

__all__ = ["ImageView", "view"]

_BUDGET = 8 * 2**30  # largest number of bytes to read for one tile of a computed level
_MANY, _FIRST = 8, 4  # largest number of channels that are shown


def view(
    obj: xr.Dataset | xr.DataArray,
    *,
    levels: Sequence[xr.Dataset] = (),
    height: int = 480,
    memory: int = 256 * 2**20,
    title: str | None = None,
) -> ImageView:
    """Return a view of an image; see `ImgAccessor.view`."""
    ds = obj if isinstance(obj, xr.Dataset) else obj.to_dataset(name=obj.name or "image")
    for name, array in ds.data_vars.items():
        if lacking := [a for a in "yx" if a not in array.dims]:
            raise AxesError(f"the viewer shows planes of y and x, but {name!r} has no {lacking[0]!r}")
    if not ds.data_vars or 0 in ds.sizes.values():
        raise AxesError(f"there is nothing to see: the image has the sizes {dict(ds.sizes)}")
    if not 120 <= height <= 4000:
        raise ValueError(f"height={height}: expected 120 to 4000 pixels of the screen")
    return ImageView(ds, levels, height, memory, title or str(ds.attrs.get("uri", "image")).rsplit("/", 1)[-1])


class ImageView:
    """An image in the viewer: the last line of a cell shows it, and its attributes describe the visible region.

    In a notebook whose front end runs widgets it is interactive; elsewhere (GitHub, nbconvert, no ``anywidget``) a
    picture of it is shown. Visible chunks are computed in threads of this process.
    """

    def __init__(self, ds: xr.Dataset, levels: Sequence[xr.Dataset], height: int, memory: int, title: str) -> None:
        kept = BlockCache(memory_cache(memory), DiskCache.none())
        self.dataset = ds
        self.images = Hierarchy(ds, title, "view", kept, _BUDGET, coarser=tuple(levels))
        self._height = height

    # the state

    @cached_property
    def widget(self) -> Any:
        """The widget (an `anywidget.AnyWidget`), for layouts of ipywidgets.

        Raises
        ------
        MissingExtraError
            If anywidget is not installed.
        """
        from intake_img.portal.notebook.widget import make_widget

        return make_widget(self.images, self._height)

    @property
    def state(self) -> dict[str, Any]:
        """The state of the viewer: ``scene``, ``image``, ``index``, ``channels``, ``labels``, ``camera`` ...

        Before it is shown, the initial state.
        """
        seen = dict(self.widget.seen) if "widget" in self.__dict__ else {}
        return seen or self._first

    @property
    def link(self) -> str:
        """The view as a short text, as in links of the portal; set it to restore the view."""
        return str(self.widget.link)

    @link.setter
    def link(self, text: str) -> None:
        self.widget.link = text

    @property
    def channels(self) -> list[dict[str, Any]]:
        """For each channel ``name``, ``visible``, ``limits`` (black, full colour), ``color`` and ``gamma``."""
        return [
            {
                "name": c["name"],
                "visible": c["on"],
                "limits": None if c["lo"] is None else (c["lo"], c["hi"]),
                "color": c["color"] if len(c["stops"]) > 2 else f"#{c['color']}",
                "gamma": c["gamma"],
            }
            for c in self.state["channels"]
        ]

    @property
    def region(self) -> dict[str, Any]:
        """The visible region as indexers: ``ds.isel(view.region)`` is the cropped image.

        Slices along ``y`` and ``x``, indices along the axes with a slider, and a full slice for a projection.
        """
        state = self.state
        top, bottom, left, right = self._camera(state).edges
        spans = {}
        for axis, low, high in (("y", top, bottom), ("x", left, right)):
            n = self.dataset.sizes[axis]
            start = min(max(int(np.floor(low)), 0), n - 1)
            spans[axis] = slice(start, max(start + 1, min(int(np.ceil(high)), n)))
        index = {a: slice(None) if at == "max" else int(at) for a, at in state["index"].items()}
        place = self.images.series[state["scene"]].place
        return {**{a: k for a, k in {**place, **index}.items() if a in self.dataset.sizes}, **spans}

    # pictures

    def png(self) -> bytes:
        """Return the visible picture, without controls and scale bar, as a PNG file; computes the visible chunks."""
        return png(self._picture(self.state))

    def _picture(self, state: Mapping[str, Any]) -> np.ndarray:
        store = self._store(state)
        return drawn(store, _images(store)[state["image"]], self._camera(state), state)

    def _store(self, state: Mapping[str, Any]) -> ImageStore:
        return self.images.store(self.images.series[state["scene"]].path)

    def _camera(self, state: Mapping[str, Any]) -> Camera:
        if state["camera"] is None:
            return Camera.whole(self.dataset.sizes["y"], self.dataset.sizes["x"], _aspect(self.dataset))
        return Camera.from_state(state["camera"], state["screen"], state["aspect"])

    @cached_property
    def _first(self) -> dict[str, Any]:
        """The initial state of the viewer; samples some tiles for the limits."""
        store = self.images.store()
        array = store.levels[_images(store)[0]][0]
        channels = store.channels(_images(store)[0])
        names = [c["label"] for c in channels]
        few = len(channels) <= _MANY
        colors = ["ff0000", "00ff00", "0000ff", "000000"] if is_rgb(names) else [c["color"].lower() for c in channels]
        channels = [
            {
                "name": c["label"],
                "on": (few or k < _FIRST) and color != "000000",
                "lo": c["window"]["start"],
                "hi": c["window"]["end"],
                "color": color,
                "gamma": 1.0,
                "stops": ["000000", color],
            }
            for k, (c, color) in enumerate(zip(channels, colors, strict=True))
        ]
        middle = {
            a: n // 2 if a == "z" else 0 for a, n in zip(array.axes, array.pixels.shape, strict=True) if a not in "cyx"
        }
        return {"scene": 0, "image": 0, "index": middle, "channels": channels, "labels": [], "camera": None}

    # in notebooks

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from intake_img.portal.notebook.widget import mimebundle

        return {"image/png": self.png(), **mimebundle(self), "text/plain": repr(self)}

    def __repr__(self) -> str:
        from intake_img.portal.notebook.widget import lacking

        return "\n".join(filter(None, (as_text(summary(self.dataset), "ImageView"), lacking())))

    def close(self) -> None:
        """Remove the view from the notebook, and start no more computations for it."""
        if "widget" in self.__dict__:
            self.widget.close()


def _images(store: ImageStore) -> list[str]:
    """The variables that the viewer lists as images: the first, and all others except labels."""
    first, *others = store.levels
    return [first, *(k for k in others if store.image.variables[k].kind != "labels")]


def _aspect(ds: xr.Dataset) -> float:
    """Height of a pixel divided by its width; 1 if unknown."""
    steps = {a: spacing_of(ds[a]) for a in "yx" if a in ds.coords}
    units = {a: parse_unit(ds[a].attrs.get("units")) for a in steps}
    if len(steps) < 2 or not all(steps.values()) or not all(units.values()):
        return 1.0
    y, x = (steps[a] * units[a].factor for a in "yx")  # type: ignore[operator, union-attr]
    same = units["y"].dimension == units["x"].dimension  # type: ignore[union-attr]
    return y / x if same and 0.01 < y / x < 100 else 1.0
