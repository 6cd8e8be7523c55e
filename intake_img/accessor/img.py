"""`ImgAccessor`, the accessor ``ds.img``: an image by axis name, channel name and physical unit."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from intake_img.accessor import display
from intake_img.accessor.coloc import Coloc, detect_blobs
from intake_img.accessor.methods import method_of
from intake_img.accessor.patches import Patches, patches
from intake_img.accessor.processing import Processing
from intake_img.accessor.variables import first_image, native
from intake_img.errors import AxesError
from intake_img.model.affine import Affine, Space
from intake_img.model.axes import spell
from intake_img.model.datasets import spacing_of
from intake_img.model.typed import Colors, DTypeLike, Lengths

if TYPE_CHECKING:
    from pathlib import Path

    import napari
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import ArrayLike

    from intake_img.accessor.stacks.stack import ImageStack

__all__ = ["ImgAccessor"]


@xr.register_dataset_accessor("img")
@xr.register_dataarray_accessor("img")
class ImgAccessor(Processing):
    """Image view of a Dataset or DataArray.

    Parameters
    ----------
    obj : xarray.Dataset or xarray.DataArray
    """

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self._given: Any = obj

    @property
    def _obj(self) -> Any:  # not kept: xarray keeps the accessor as long as the object
        return native(self._given)

    @property
    def _main(self) -> xr.DataArray:
        return self._given if isinstance(self._given, xr.DataArray) else first_image(self._given)

    @property
    def _first(self) -> xr.DataArray:
        return native(self._main)

    @property
    def axes(self) -> str:
        """Axes of the image, in their order, e.g. ``"tczyx"``."""
        return spell(tuple(map(str, self._main.dims)))

    @property
    def spacing(self) -> dict[str, float]:
        """Distance of neighbouring samples for each axis, if known, in `units`."""
        first = self._main
        found = {str(a): spacing_of(first[a]) for a in first.dims if a in first.coords}
        return {a: s for a, s in found.items() if s is not None}

    @property
    def units(self) -> dict[str, str]:
        """Unit of the coordinate of each axis, if known, e.g. ``{"y": "µm"}``."""
        first = self._main
        return {str(a): str(u) for a in first.dims if a in first.coords and (u := first[a].attrs.get("units"))}

    def affine(self, space: Space = "RAS+") -> np.ndarray | None:
        """Position of the pixels in space, if the file states it (NIfTI, NRRD, MetaImage, DICOM, MRC).

        Parameters
        ----------
        space : {"RAS+", "LPS+"}
            Orientation of the space: x to the right, y to the front, z to the head (as nibabel), or x to the left, y to
            the back, z to the head (as DICOM and ITK).

        Returns
        -------
        (4, 4) ndarray of float64, or None
            Maps ``(index of x, of y, of z, 1)`` of this image to the space, in the unit of its coordinates. Crops and
            strides are taken into account. None if the file states no position, or a coordinate was dropped.
        """
        found = Affine.of(self._given.attrs)
        if found is None:
            return None
        try:
            return found.at({str(a): c.values for a, c in self._main.coords.items()}).to(space)
        except AxesError:
            return None

    @property
    def channels(self) -> list[str] | None:
        """Names of the channels; None if they are unknown."""
        return [str(c) for c in self._given["c"].values.ravel()] if "c" in self._given.coords else None

    @property
    def coloc(self) -> Coloc:
        """Colocalization of the channels; see `intake_img.accessor.coloc.Coloc`."""
        return Coloc(self._obj)

    @method_of(detect_blobs)
    def detect_blobs(self, **options: Any) -> pd.DataFrame:
        """Find round spots; see `intake_img.accessor.coloc.detect_blobs`."""
        return detect_blobs(self._obj, **options)

    def stack(
        self,
        depth_axis: str = "none",
        *,
        variable: str | None = None,
        dtype: DTypeLike | None = None,
        source: Path | str | None = None,
    ) -> ImageStack:
        """Return the image as a stack of samples for CAREamics, from which patches are cut; no pixel is read.

        Axes other than channels, y, x and the depth axis are merged into samples: ``i`` outermost, then ``t``, ``z``,
        and any other axes. Unchanged pixels are read from the file patch by patch, without a dask graph; the result of
        a lazy computation is computed patch by patch.

        Parameters
        ----------
        depth_axis : {"none", "Z", "T"}
            Third axis of 3-D patches.
        variable : str, optional
            Which variable of a Dataset; ``image`` by default.
        dtype : dtype, optional
            Dtype of the patches; by default that of the image. CAREamics trains on ``"float32"``.
        source : str or os.PathLike, optional
            Name of the image; by default the file, with ``@scene``, for an image that was not changed since it was
            loaded, else ``"array"``.

        Returns
        -------
        ImageStack

        Raises
        ------
        ValueError
            If `depth_axis` or `variable` is unknown.
        AxesError
            If the image lacks y, x or the depth axis, or is one sample deep.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.arange(240).reshape(2, 3, 5, 8), dims=["t", "c", "y", "x"])
        >>> stack = image.img.stack()
        >>> stack.axes, stack.data_shape, stack.original_axes
        ('SCYX', (2, 3, 5, 8), 'TCYX')
        >>> stack.extract_patch(1, [0], coords=(-1, 6), patch_size=(3, 3))[0]
        array([[  0,   0,   0],
               [126, 127,   0],
               [134, 135,   0]])
        """
        from intake_img.accessor.stacks.sources import stack_of

        return stack_of(self._obj, depth_axis, variable=variable, dtype=dtype, source=source)

    @method_of(patches)
    def patches(self, size: Lengths, **options: Any) -> Patches:
        """Cut the image into patches; see `intake_img.patches`.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.zeros((3, 100, 100), "u1"), dims=["t", "y", "x"])
        >>> len(image.img.patches(32, overlap=8))
        48
        """
        return patches(self._obj, size, **options)

    @property
    def scene(self) -> str | None:
        """Name of the image in its file."""
        return self._given.attrs.get("scene")

    @property
    def scenes(self) -> list[str]:
        """Names of all images in the file; empty for data that do not come from a file."""
        scenes = self._given.attrs.get("scenes", [])  # NetCDF turns a list of one text into a text
        return [scenes] if isinstance(scenes, str) else [str(s) for s in scenes]

    @property
    def header(self) -> dict[str, Any]:
        """The format's own header; empty if there is none."""
        return json.loads(self._given.attrs.get("fileheader") or "{}")

    def __repr__(self) -> str:
        return display.as_text(display.summary(self._given))

    def _repr_html_(self) -> str:
        from intake_img.formats.registry import public_header

        header: Any = None
        with contextlib.suppress(ValueError, TypeError):  # not a header of ours
            header = self.header
        shown = None
        if isinstance(header, Mapping):
            shown = public_header(header, str(self._given.attrs.get("driver", "")))  # notebooks are published
        return display.as_html(display.summary(self._given), shown)

    def to_napari(self, viewer: napari.Viewer | None = None) -> napari.Viewer:
        """Show the image in napari, lazily: a layer for each channel, and for labels.

        Powered by napari. Layers have names, colours, contrast limits, scale and units.

        Parameters
        ----------
        viewer : napari.Viewer, optional
            A new one by default.

        Returns
        -------
        napari.Viewer

        Raises
        ------
        MissingExtraError
            If napari is not installed.
        AxesError
            If the image lacks y or x.
        """
        from intake_img.accessor.napari_layers import to_napari

        return to_napari(self._obj, viewer)

    def view(
        self,
        *,
        levels: Sequence[xr.Dataset] = (),
        height: int = 480,
        memory: int = 256 * 2**20,
        title: str | None = None,
    ) -> Any:
        """View the image in a notebook: pan, zoom, channels, contrast, ``z`` and ``t``, labels.

        The viewer is the one of the portal. Only visible chunks are computed. It works without open ports, in
        JupyterLab, VS Code, Colab and on hubs. Powered by anywidget; if that is not installed, or no widget can run, a
        picture is shown.

        Parameters
        ----------
        levels : sequence of xarray.Dataset, optional
            Coarser levels of the same image, finest first, such as ``imload(uri, level=1)``. By default levels are
            computed from the image when you zoom out.
        height : int
            Height in screen pixels.
        memory : int
            Size of the cache of chunks and levels, in bytes.
        title : str, optional
            By default the name of the file.

        Returns
        -------
        ImageView
            ``.channels``, ``.region`` (``ds.isel(view.region)`` is the visible part), ``.link``, ``.png()``,
            ``.widget``.

        Raises
        ------
        AxesError
            If a variable lacks ``y`` or ``x``, or the image is empty.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> view = xr.DataArray(np.eye(8), dims=["y", "x"]).img.view()
        >>> view.region
        {'y': slice(0, 8, None), 'x': slice(0, 8, None)}
        """
        from importlib import import_module

        notebook = import_module("intake_img.portal.notebook")  # a higher layer: named, not imported
        return notebook.view(self._obj, levels=levels, height=height, memory=memory, title=title)

    def plot(
        self,
        channel: int | str | Sequence[int | str] | None = None,
        *,
        variable: str | None = None,
        projection: str | None = None,
        panels: bool = False,
        percentiles: tuple[float, float] = (0.5, 99.8),
        limits: Mapping[int | str, tuple[float, float]] | tuple[float, float] | None = None,
        colors: Colors = None,
        labels: str | None = None,
        scale_bar: bool = True,
        ax: Axes | None = None,
        **indexers: int | float | str,
    ) -> Any:
        """Draw one plane of the image, or a projection along ``z``, with a scale bar.

        Only the shown pixels are read. Powered by matplotlib.

        Parameters
        ----------
        channel : int, str, or sequence of these, optional
            Channels to show, by name or number; all by default.
        variable : str, optional
            Which variable of a Dataset; ``image`` by default. A variable whose ``attrs["kind"]`` is ``"labels"`` gets a
            colour for each label, and none for the background, 0.
        projection : {"max", "min", "mean", "sum"}, optional
            Project along ``z`` instead of showing one plane.
        panels : bool
            One panel for each channel, in its colour, instead of all of them overlaid.
        percentiles : (float, float)
            The percentiles of the plane that are mapped to black and to full colour; each channel is stretched
            separately. Images with the channels R, G, B are not stretched.
        limits : (float, float), or mapping of channel to (float, float), optional
            The values that are mapped to black and to full colour, instead of `percentiles`.
        colors : sequence, or mapping of channel to colour, optional
            Colours of matplotlib, in the order in which channels are shown, or by name or number. By default the
            colours in the file (``attrs["color"]`` of the coordinate ``c``), else colours that the channel names
            suggest (DAPI blue, GFP green, ...), else a palette; grey for a single channel.
        labels : str, optional
            Name of a variable of labels to draw over the image; of labels of each channel, those of the shown ones.
        scale_bar : bool
            Draw a bar of a round length in the unit of ``x`` instead of axes; without spacing, or if False, axes are
            drawn.
        ax : matplotlib.axes.Axes, or sequence of them for panels, optional
            Where to draw; a new figure by default.
        **indexers : int, float or str
            Position on the other axes, as an index (int) or a coordinate (float, str): ``t=0``, ``z=2.5``. By default
            the middle of ``z`` and the first position on all others.

        Returns
        -------
        matplotlib.axes.Axes, or ndarray of them
            An array, one for each channel, if `panels`.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        AxesError
            If the image has no ``y`` or ``x``, or lacks an axis that is named.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.eye(8), dims=["y", "x"])
        >>> ax = image.img.plot()  # doctest: +SKIP
        """
        from intake_img.accessor.plot import plot

        return plot(
            self._obj,
            channel,
            variable=variable,
            projection=projection,
            panels=panels,
            percentiles=percentiles,
            limits=limits,
            colors=colors,
            labels=labels,
            scale_bar=scale_bar,
            ax=ax,
            indexers=indexers,
        )

    def plot_plate(
        self,
        show: str | Callable[[xr.DataArray], float] | ArrayLike = "mean",
        *,
        channel: int | str | None = None,
        variable: str | None = None,
        projection: str | None = None,
        limits: tuple[float, float] | None = None,
        cmap: str | Colormap | None = None,
        size: int = 96,
        ax: Axes | None = None,
    ) -> Any:
        """Draw a plate: a number or a small picture for each well.

        For images stacked along ``i`` with the coordinates ``row`` and ``column``, as returned by ``imload(plate,
        scene="all")``. Powered by matplotlib.

        Parameters
        ----------
        show : str, callable, array-like or "thumbnail"
            A statistic of the pixels of each image: ``"mean"``, ``"max"``, ``"min"``, ``"sum"``, ``"std"``, ``"var"``
            or ``"median"``; a function of an image (a DataArray) that returns a number; or a number for each image
            along ``i``. If a well has several images, their mean is drawn. ``"thumbnail"`` draws the first image of
            each well, all with the same contrast.
        channel : int or str, optional
            Channel to show, by number or name; all by default.
        variable : str, optional
            Which variable of a Dataset; ``image`` by default.
        projection : {"max", "min", "mean", "sum"}, optional
            Projection of thumbnails along ``z``; by default the middle plane.
        limits : (float, float), optional
            The numbers, or the pixels of thumbnails, at the ends of the colours.
        cmap : str or matplotlib.colors.Colormap, optional
            Colours of the numbers.
        size : int
            The largest size of the longer side of a thumbnail in pixels.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            Wells without images are empty.

        Raises
        ------
        AxesError
            If the images do not lie along ``i`` with their rows and columns.
        MissingExtraError
            If matplotlib is not installed.
        """
        from intake_img.accessor.plate import plot_plate

        return plot_plate(
            self._obj,
            show,
            channel=channel,
            variable=variable,
            projection=projection,
            limits=limits,
            cmap=cmap,
            size=size,
            ax=ax,
        )
