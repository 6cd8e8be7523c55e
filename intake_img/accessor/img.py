"""`ImgAccessor`, which is ``ds.img``: an image by axis name, channel name and physical unit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from intake_img.accessor import display
from intake_img.accessor.coloc import Coloc, detect_blobs
from intake_img.accessor.patches import Patches, patches
from intake_img.accessor.processing import Processing
from intake_img.accessor.variables import first_image
from intake_img.errors import AxesError
from intake_img.model.affine import Affine, Space
from intake_img.model.axes import spell
from intake_img.model.datasets import spacing_of
from intake_img.model.typed import DTypeLike, Lengths

if TYPE_CHECKING:
    from pathlib import Path

    import napari
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

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
        self._obj = obj

    @property
    def _first(self) -> xr.DataArray:
        return self._obj if isinstance(self._obj, xr.DataArray) else first_image(self._obj)

    @property
    def axes(self) -> str:
        """Axes of the image, in their order, e.g. ``"tczyx"``."""
        return spell(tuple(map(str, self._first.dims)))

    @property
    def spacing(self) -> dict[str, float]:
        """Distance of neighbouring samples for each axis where it is known, in `units`."""
        first = self._first
        found = {str(a): spacing_of(first[a]) for a in first.dims if a in first.coords}
        return {a: s for a, s in found.items() if s is not None}

    @property
    def units(self) -> dict[str, str]:
        """Unit of the coordinate of each axis where it is known, e.g. ``{"y": "µm"}``."""
        first = self._first
        return {str(a): str(u) for a in first.dims if a in first.coords and (u := first[a].attrs.get("units"))}

    def affine(self, space: Space = "RAS+") -> np.ndarray | None:
        """Where the pixels lie in space, where the file says so (NIfTI, NRRD, MetaImage, DICOM, MRC).

        Parameters
        ----------
        space : {"RAS+", "LPS+"}
            Orientation of the space: x to the right, y to the front, z to the head (as nibabel), or x to the left, y to
            the back, z to the head (as DICOM and ITK).

        Returns
        -------
        (4, 4) ndarray of float64, or None
            Maps ``(index of x, of y, of z, 1)`` of this image to the space, in the unit of its coordinates. Crops and
            strides are followed. None if the file states none, or a coordinate is gone.
        """
        found = Affine.of(self._obj.attrs)
        if found is None:
            return None
        try:
            return found.at({str(a): c.values for a, c in self._first.coords.items()}).to(space)
        except AxesError:
            return None

    @property
    def channels(self) -> list[str] | None:
        """Names of the channels; None if they are unknown."""
        return [str(c) for c in self._obj["c"].values.ravel()] if "c" in self._obj.coords else None

    @property
    def coloc(self) -> Coloc:
        """Colocalization of the channels; see `intake_img.accessor.coloc.Coloc`."""
        return Coloc(self._obj)

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
        and what else there is. Pixels that were not changed are read from the file patch by patch, without a dask
        graph; those of a lazy computation are computed patch by patch.

        Parameters
        ----------
        depth_axis : {"none", "Z", "T"}
            Third axis of 3-D patches.
        variable : str, optional
            Which variable of a Dataset; ``image`` by default.
        dtype : dtype, optional
            Of the patches; that of the image by default. CAREamics trains on ``"float32"``.
        source : str or os.PathLike, optional
            What to call the image; by default the file, with ``@scene``, of an image that was not changed since it was
            loaded, and ``"array"`` of all else.

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
        return self._obj.attrs.get("scene")

    @property
    def scenes(self) -> list[str]:
        """Names of all images in the file; empty for data that come from no file."""
        scenes = self._obj.attrs.get("scenes", [])  # NetCDF makes a text of a list of one
        return [scenes] if isinstance(scenes, str) else [str(s) for s in scenes]

    @property
    def header(self) -> dict[str, Any]:
        """The format's own header; empty if there is none."""
        return json.loads(self._obj.attrs.get("fileheader") or "{}")

    def __repr__(self) -> str:
        return display.as_text(display.summary(self._obj))

    def _repr_html_(self) -> str:
        return display.as_html(display.summary(self._obj))

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
        """Look at the image in a notebook: pan, zoom, channels, contrast, ``z`` and ``t``, labels.

        The viewer is that of the portal. What is looked at is computed chunk by chunk; nothing else is. Works without
        open ports, in JupyterLab, VS Code, Colab and on hubs. Powered by anywidget; where that is not installed, or no
        widget can run, a picture is shown.

        Parameters
        ----------
        levels : sequence of xarray.Dataset, optional
            Coarser levels of the same image, finest first, such as ``imload(uri, level=1)``. Without them, levels are
            made of the image where one zooms out.
        height : int
            In pixels of the screen.
        memory : int
            Bytes of chunks and levels that are kept.
        title : str, optional
            By default the name of the file.

        Returns
        -------
        ImageView
            ``.channels``, ``.region`` (``ds.isel(view.region)`` is what is seen), ``.link``, ``.png()``, ``.widget``.

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

        notebook = import_module("intake_img.portal.notebook")  # a room above this one: named, not imported
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
        colors: Mapping[str, Any] | Sequence[Any] | None = None,
        labels: str | None = None,
        scale_bar: bool = True,
        ax: Axes | None = None,
        **indexers: int | float | str,
    ) -> Any:
        """Draw one plane of the image, or a projection along ``z``, with a scale bar.

        Only what is shown is read. Powered by matplotlib.

        Parameters
        ----------
        channel : int, str, or sequence of these, optional
            Channels to show, by number or name; all by default.
        variable : str, optional
            Which variable of a Dataset; ``image`` by default. A variable whose ``attrs["kind"]`` is ``"labels"`` gets a
            colour for each label, and none for the background, 0.
        projection : {"max", "min", "mean", "sum"}, optional
            Project along ``z`` instead of showing one plane.
        panels : bool
            One panel for each channel, in its colour, instead of all of them overlaid.
        percentiles : (float, float)
            The percentiles of the plane that become black and full colour; channels are stretched one by one.
            Images whose channels are R, G, B are shown as they are.
        limits : (float, float), or mapping of channel to (float, float), optional
            The values that become black and full colour, in place of `percentiles`.
        colors : sequence, or mapping of channel name to colour, optional
            Colours as matplotlib knows them. By default those that the file names (``attrs["color"]`` of the
            coordinate ``c``), else what the names of the channels suggest (DAPI blue, GFP green, ...), else a palette;
            grey for a single channel.
        labels : str, optional
            Name of a variable of labels to draw over the image.
        scale_bar : bool
            Draw a bar of a round length in the unit of ``x`` and no axes; without spacing, or if False, axes are drawn.
        ax : matplotlib.axes.Axes, or sequence of them for panels, optional
            Where to draw; a new figure by default.
        **indexers : int, float or str
            Place on the other axes, as an index (int) or a coordinate (float, str): ``t=0``, ``z=2.5``. By default the
            middle of ``z`` and the first on all others.

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
        show: Any = "mean",
        *,
        channel: int | str | None = None,
        variable: str | None = None,
        projection: str | None = None,
        limits: Any = None,
        cmap: Any = None,
        size: int = 96,
        ax: Any = None,
    ) -> Any:
        """Draw a plate: a number or a small picture for each well.

        For images that are stacked along ``i`` with the coordinates ``row`` and ``column``, as ``imload(plate,
        scene="all")`` gives them. Powered by matplotlib.

        Parameters
        ----------
        show : str, callable, array-like or "thumbnail"
            A statistic of the pixels of each image: ``"mean"``, ``"max"``, ``"min"``, ``"sum"``, ``"std"``, ``"var"``
            or ``"median"``; a function of an image (a DataArray) that returns a number; or a number for each image
            along ``i``. Of several images of a well the mean is drawn. ``"thumbnail"`` draws the first image of each
            well, all stretched alike.
        channel : int or str, optional
            Channel to show, by number or name; all by default.
        variable : str, optional
            Which variable of a Dataset; ``image`` by default.
        projection : {"max", "min", "mean", "sum"}, optional
            Of thumbnails, along ``z``; the middle of ``z`` by default.
        limits : (float, float), optional
            The numbers, or the pixels of thumbnails, at the ends of the colours.
        cmap : str or matplotlib.colors.Colormap, optional
            Colours of the numbers.
        size : int
            The longer side of a thumbnail in pixels, at most.
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
