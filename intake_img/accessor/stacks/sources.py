"""Constructors of image stacks: from an xarray object, a CZI file, any other image file, an array, a Zarr array.

Each constructor finds unread pixels and their axes and passes them to `ImageStack`; its subclasses differ only in this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from intake_img.accessor.stacks.axes import Merge, merge, parse_axes, parse_depth
from intake_img.accessor.stacks.stack import ImageStack, WholeFile
from intake_img.accessor.variables import first_image
from intake_img.errors import AxesError
from intake_img.formats.czi.driver import CziSource
from intake_img.formats.format_source import FormatSource
from intake_img.formats.omezarr.driver import OmeZarrSource
from intake_img.formats.omezarr.store import read_array, tiles_of
from intake_img.formats.reading import FileReader
from intake_img.formats.registry import autodetect
from intake_img.formats.source import ImageSource
from intake_img.model.chunks import Region
from intake_img.model.datasets import data_of
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.model.typed import DTypeLike, Uri
from intake_img.storage.files import File

if TYPE_CHECKING:
    import zarr

__all__ = ["CziStack", "FileStack", "MemoryStack", "Rectangle", "ZarrStack", "stack_of"]


class Rectangle(NamedTuple):
    """Position of a scene on the stage, in pixels of the file."""

    x: int
    y: int
    w: int
    h: int


class CziStack(ImageStack):
    """Stack of a scene of a CZI file. Samples are T-major, then Z, R, I, H, V and B; RGB becomes three channels.

    Parameters
    ----------
    data_path : str or os.PathLike
        Path or URL; ``file.czi@1`` is scene 1.
    scene : int or str, optional
        Number or name of the scene. By default all scenes at their stage positions, with zeros between them.
    depth_axis : {"none", "Z", "T"}
        Third axis of 3-D patches; the other axes are samples.
    dtype : dtype, optional
        Dtype of the patches; by default that of the file. ``"float32"`` gives the result of CAREamics' own stacks.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SceneError
        If the file has no such scene.
    ValueError
        If two scenes have this name, the file is not a CZI file, or there is no such depth axis.
    """

    def __init__(
        self,
        data_path: Uri,
        scene: int | str | None = None,
        depth_axis: str = "none",
        *,
        dtype: DTypeLike | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        depth = parse_depth(depth_axis)
        source = _czi(data_path, scene, storage_options)
        image = source.image()
        if source.scene is None and len(image.scenes) > 1 and "i" not in image.sizes:  # all scenes, at their positions
            source = CziSource(source.file, scene="canvas")
            image = source.image()
            source.scene = None
        pixels, plan = _czi_merge(image, depth, str(source.file))
        super().__init__(pixels, plan, dtype=dtype, **_place(source))

    @staticmethod
    def get_bounding_rectangles(
        data_path: Uri | CziStack, storage_options: Mapping[str, Any] | None = None
    ) -> dict[int | None, Rectangle]:
        """Return the positions of the scenes of a CZI file.

        Parameters
        ----------
        data_path : str, os.PathLike or CziStack
            Path or URL of the file.
        storage_options : mapping, optional
            Options of the fsspec file system.

        Returns
        -------
        dict of int to Rectangle
            ``(x, y, w, h)`` in pixels for each scene number; for a file without scenes the key is None.
        """
        path = data_path.data_path if isinstance(data_path, CziStack) else data_path
        with _czi(path, None, storage_options).opened() as handle:
            found = handle.rectangles()  # type: ignore[attr-defined]
        return {number: Rectangle(*rectangle) for number, rectangle in found.items()}


class FileStack(ImageStack):
    """Stack of an image file of any format. Patches are read from the file; `load` reads the complete file into memory.

    Parameters
    ----------
    path : str or os.PathLike
        Path or URL; ``file@1`` is scene 1 of a file that contains several.
    axes : str, optional
        Axes of the file, of the letters STCZYX; by default the axes that the file states.
    scene : int or str, optional
        Number or name of the scene.
    level : int
        Level of a pyramid.
    depth_axis : {"none", "Z", "T"}, optional
        Third axis of 3-D patches; by default Z where there is one.
    dtype : dtype, optional
        Of the patches; that of the file by default.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    def __init__(
        self,
        path: Uri,
        axes: str | None = None,
        *,
        scene: int | str | None = None,
        level: int = 0,
        depth_axis: str | None = None,
        dtype: DTypeLike | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        source = _opened(path, scene, level, storage_options)
        pixels, plan = _merged(source.image(), axes, depth_axis, str(source.file))
        super().__init__(pixels, plan, dtype=dtype, **_place(source))

    @classmethod
    def from_tiff(cls, path: Uri, axes: str | None = None, *, dtype: DTypeLike | None = None) -> Self:
        """Return the stack of a TIFF file; only its header is read."""
        return cls(path, axes, dtype=dtype)

    @classmethod
    def from_custom_file_type(
        cls,
        path: Uri,
        axes: str,
        read_func: Callable[..., ArrayLike],
        /,
        *,
        dtype: DTypeLike | None = None,
        **read_kwargs: Any,
    ) -> Self:
        """Return the stack of a file that is read by a function of yours.

        The file is read once now, for its shape and dtype, and again by `load`, or by the first patch.

        Parameters
        ----------
        path : str or os.PathLike
        axes : str
            Axes of the array that the function returns, of the letters STCZYX.
        read_func : callable
            ``read_func(path, **read_kwargs)`` returns an array. For other processes it must be picklable.
        dtype : dtype, optional
            Of the patches.
        **read_kwargs
            Passed to `read_func`, each time.
        """
        whole = _whole(path, read_func, read_kwargs)
        array = whole.read()
        pixels = Pixels(whole, array.shape, array.dtype, array.shape, parallel=False)
        plan = _array_merge(axes, array.shape, None, str(whole.file))
        stack = cls.__new__(cls)
        ImageStack.__init__(stack, pixels, plan, dtype=dtype, source=_path(whole.file))
        return stack


class MemoryStack(ImageStack):
    """Stack of an array in memory, which is not copied. Samples are S-major, then T.

    Parameters
    ----------
    array : ndarray, or anything that becomes one
        A dask array is computed patch by patch.
    axes : str
        Axes of the array, of the letters STCZYX.
    depth_axis : {"none", "Z", "T"}, optional
        Third axis of 3-D patches; by default Z where there is one.
    dtype : dtype, optional
        Of the patches; that of the array by default.
    """

    def __init__(
        self,
        array: ArrayLike,
        axes: str,
        *,
        depth_axis: str | None = None,
        dtype: DTypeLike | None = None,
        source: Path | str = "array",
    ) -> None:
        pixels = Pixels.of(array)
        super().__init__(pixels, _array_merge(axes, pixels.shape, depth_axis, "the array"), dtype=dtype, source=source)

    @classmethod
    def from_array(cls, data: ArrayLike, axes: str, *, dtype: DTypeLike | None = None) -> Self:
        """Return the stack of an array."""
        return cls(data, axes, dtype=dtype)

    @classmethod
    def from_tiff(cls, path: Uri, axes: str | None = None, *, dtype: DTypeLike | None = None) -> Self:
        """Return the stack of a TIFF file, read into memory with its own dtype."""
        source = _opened(path, None, 0, None)
        pixels, plan = _merged(source.image(), axes, None, str(source.file))
        return cls._of(pixels.read(), plan, dtype, _path(source.file))

    @classmethod
    def from_custom_file_type(
        cls,
        path: Uri,
        axes: str,
        read_func: Callable[..., ArrayLike],
        /,
        *,
        dtype: DTypeLike | None = None,
        **read_kwargs: Any,
    ) -> Self:
        """Return the stack of the array that ``read_func(path, **read_kwargs)`` returns, in memory."""
        whole = _whole(path, read_func, read_kwargs)
        array = whole.read()
        return cls._of(array, _array_merge(axes, array.shape, None, str(whole.file)), dtype, _path(whole.file))

    @classmethod
    def _of(cls, array: np.ndarray, plan: Merge, dtype: DTypeLike | None, source: Path | str) -> Self:
        stack = cls.__new__(cls)
        ImageStack.__init__(stack, Pixels.of(array), plan, dtype=dtype, source=source)
        return stack


class ZarrStack(ImageStack):
    """Stack of a Zarr array: of an OME-Zarr image, of any other store, local or remote, or of an open group or array.

    Parameters
    ----------
    store : str, os.PathLike, zarr.Group or zarr.Array
        Path or URL of a store, or of a group or array inside one; or an open zarr group or array.
    data_path : str
        Path of the array, or of the image, within `store`.
    axes : str, optional
        Axes of the array, of the letters STCZYX; by default from OME-Zarr's metadata or the names of its dimensions.
    scene : int or str, optional
        The image, if an OME-Zarr store has several.
    level : int
        Level of the pyramid of an OME-Zarr image.
    depth_axis : {"none", "Z", "T"}, optional
        Third axis of 3-D patches; by default Z where there is one.
    dtype : dtype, optional
        Of the patches; that of the array by default.
    storage_options : mapping, optional
        Options of the fsspec file system.

    Raises
    ------
    ValueError
        If there is no such array.
    """

    def __init__(
        self,
        store: str | Path | zarr.Group | zarr.Array,
        data_path: str = "",
        axes: str | None = None,
        *,
        scene: int | str | None = None,
        level: int = 0,
        depth_axis: str | None = None,
        dtype: DTypeLike | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if hasattr(store, "store_path"):
            pixels, names, source = _zarr_pixels(store, data_path, axes)
            image = Image.single(pixels, names)
            pixels, plan = _merged(image, axes, depth_axis, source)
            super().__init__(pixels, plan, dtype=dtype, source=source)
            return
        uri = str(store).rstrip("/") + "/" + data_path.strip("/") if data_path.strip("/") else store
        opened = _opened(uri, scene, level, storage_options)
        if not isinstance(opened, OmeZarrSource):
            raise ValueError(f"{opened.file} is {opened.title}, not Zarr: use FileStack, which reads any format")
        pixels, plan = _merged(opened.image(), axes, depth_axis, str(opened.file))
        place = _place(opened)
        if opened.file.local:
            place = {k: f"file://{v}" if k != "scene" else v for k, v in place.items()}
        super().__init__(pixels, plan, dtype=dtype, **place)


def stack_of(
    obj: xr.Dataset | xr.DataArray,
    depth_axis: str = "none",
    *,
    variable: str | None = None,
    dtype: DTypeLike | None = None,
    source: Path | str | None = None,
) -> ImageStack:
    """Return the stack of an image in an xarray object; see `ImgAccessor.stack`."""
    depth = parse_depth(depth_axis)
    array = _variable(obj, variable)
    axes = tuple(map(str, array.dims))
    pixels = Pixels.of(data_of(array.variable))
    plan = merge(axes, pixels.shape, depth, "the image")
    if depth is not None and plan.sizes[depth] < 2:
        raise _too_thin("the image", depth_axis)
    place: dict[str, Any] = {"source": source} if source is not None else {}
    reader = pixels.plain()[0].reader
    if source is None and isinstance(reader, FileReader):  # the unchanged image of a file
        scene = _scene_number(obj.attrs)
        path = _path(reader.file)
        place = {"source": _at(path, scene), "data_path": path, "scene": scene}
    return ImageStack(pixels, plan, dtype=dtype, **place)


def _variable(obj: xr.Dataset | xr.DataArray, name: str | None) -> xr.DataArray:
    if isinstance(obj, xr.DataArray):
        if name not in (None, obj.name):
            raise ValueError(f"variable={name!r}: this is the variable {obj.name!r} alone, not a Dataset")
        return obj
    if name is None:
        return first_image(obj)
    if name not in obj.data_vars:
        raise ValueError(f"variable={name!r}: the Dataset has {', '.join(map(repr, map(str, obj.data_vars)))}")
    return obj[name]


def _scene_number(attrs: Mapping[Any, Any]) -> int | str | None:
    """Return the scene argument of a loaded Dataset, None if the file has one scene."""
    names, scene = attrs.get("scenes", []), attrs.get("scene")
    names = [names] if isinstance(names, str) else list(names)
    if scene is None or len(names) < 2:
        return None
    return names.index(scene) if names.count(scene) == 1 else str(scene)


# files


def _opened(uri: Any, scene: int | str | None, level: int, storage_options: Mapping[str, Any] | None) -> FormatSource:
    options: dict[str, Any] = {"storage_options": storage_options} if storage_options else {}
    if scene is not None:
        options["scene"] = scene
    if level:
        options["level"] = level
    return autodetect(uri, **options)


def _czi(path: Any, scene: int | str | None, storage_options: Mapping[str, Any] | None) -> FormatSource:
    source = _opened(path, scene, 0, storage_options)
    if not isinstance(source, CziSource):
        raise ValueError(f"{source.file} is {source.title}, not CZI: use FileStack, which reads any format")
    return source


def _path(file: File) -> Path | str:
    return Path(file.path) if file.local else file.path


def _at(path: Path | str, scene: int | str | None) -> Path | str:
    if scene is None:
        return path
    return path.with_name(f"{path.name}@{scene}") if isinstance(path, Path) else f"{path}@{scene}"


def _place(source: ImageSource) -> dict[str, Any]:
    scene = source.scene
    if isinstance(scene, str) and scene.isdecimal():  # as from a path with @
        scene = int(scene)
    path = _path(source.file)
    return {"source": _at(path, scene), "data_path": path, "scene": scene}


def _whole(path: Any, read_func: Callable[..., Any], read_kwargs: Mapping[str, Any]) -> WholeFile:
    if not callable(read_func):
        raise TypeError(f"read_func={read_func!r}: expected a function that takes a path and returns an array")
    file = File.parse(path)
    return WholeFile(file, file.stamp(), read_func, dict(read_kwargs))


# axes


def _array_merge(axes: str, shape: Sequence[int], depth_axis: str | None, what: str) -> Merge:
    names = parse_axes(axes, shape, what)
    return merge(names, shape, _depth(depth_axis, names), what)


def _merged(image: Image, axes: str | None, depth_axis: str | None, what: str) -> tuple[Pixels, Merge]:
    first = next(iter(image.variables.values()))
    names = first.axes if axes is None else parse_axes(axes, first.pixels.shape, what)
    return first.pixels, merge(names, first.pixels.shape, _depth(depth_axis, names), what)


def _depth(depth_axis: str | None, names: Sequence[str]) -> str | None:
    if depth_axis is None:
        return "z" if "z" in names else None
    return parse_depth(depth_axis)


def _czi_merge(image: Image, depth: str | None, what: str) -> tuple[Pixels, Merge]:
    """Return the pixels of a CZI file in the order in which libCZI names its dimensions, always with T, Z and C."""
    variable = image.variables.get("image") or next(iter(image.variables.values()))
    own = variable.axes
    if depth is not None and dict(zip(own, variable.pixels.shape, strict=True)).get(depth, 1) < 2:
        raise _too_thin(what, depth.upper())
    places: list[int | None] = list(range(len(own)))
    missing = [a for a in "tzc" if a not in own]
    names = (*own, *missing)
    pixels = variable.pixels.reshape([*places, *[None] * len(missing)])
    plan = merge(names, pixels.shape, depth, what)
    order = (*plan.samples, *plan.channels, *plan.space)
    pixels = pixels.transpose([names.index(a) for a in order])
    return pixels, replace(plan, axes=order, shape=pixels.shape)


def _too_thin(what: str, axis: str) -> AxesError:
    return AxesError(
        f"{what} has no more than one sample along {axis}, so it cannot be the depth of 3-D patches: "
        f"depth_axis={axis!r} was given, pass depth_axis='none' for 2-D patches"
    )


# zarr


@dataclass(frozen=True, eq=False)
class _ZarrArray:
    """An array that zarr opened."""

    array: Any
    shard_shape: tuple[int, ...] | None

    def read_into(self, region: Region, out: np.ndarray) -> None:
        if 0 not in out.shape:
            read_array(self.array, region, out)


def _zarr_pixels(store: Any, data_path: str, axes: str | None) -> tuple[Pixels, tuple[str, ...], str]:
    import zarr

    array = store
    if isinstance(store, zarr.Group):
        members = ", ".join(sorted(store.array_keys())) or "none"
        if data_path not in store:
            raise ValueError(f"Did not find array at {data_path!r} in store '{store.store_path}': it has {members}")
        array = store[data_path]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"data_path={data_path!r} is a group of '{store.store_path}', not an array: {members}")
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if axes is not None:
        names = parse_axes(axes, array.shape, str(array.store_path))
    elif named and all(named):
        names = tuple(map(str, named))
    else:
        raise AxesError(
            f"{array.store_path} of shape {array.shape} does not name its axes: pass axes=, e.g. axes='TCYX'"
        )
    shards = None if array.shards is None else tuple(array.shards)
    pixels = Pixels(_ZarrArray(array, shards), array.shape, array.dtype, tiles_of(array), parallel=False)
    return pixels, names, str(array.store_path)
