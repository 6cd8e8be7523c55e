"""TIFF and its dialects: ImageJ hyperstacks, OME-TIFF, LSM, MetaMorph, slide scanners' pyramids, BigTIFF.

Structure is read by `intake_img.formats.tif.parser`, pixels by `intake_img.formats.tif.read`, and files are written by
`intake_img.formats.tif.write`; here they meet the contract of a driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.arguments import check_level
from intake_img.formats.source import ImageSource
from intake_img.formats.tif.file import Scene, TiffHandle
from intake_img.formats.tif.levels import factors
from intake_img.formats.tif.parser import open_tiff
from intake_img.formats.tif.plan import MINISWHITE
from intake_img.formats.tif.read import read_layout
from intake_img.formats.tif.write import write_tiff
from intake_img.model.axes import CANONICAL
from intake_img.model.chunks import Region
from intake_img.model.datasets import spacing_of
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.storage.files import File
from intake_img.storage.raw import map_raw

__all__ = ["TifSource"]


class TifSource(ImageSource):
    """Image in a TIFF file.

    Pixels are what the file stores. Where 0 means white (MinIsWhite), the variable says so by
    ``attrs["photometric"] = "miniswhite"``, and TIFF files written with that attribute mean it as well. YCbCr
    becomes RGB, as libtiff converts it; deeper than 8 bits or in separate planes it keeps its values, in channels
    named Y, Cb and Cr.

    Parameters
    ----------
    uri : str or os.PathLike
        Path or URL.
    scene : int, str or None
        Number or name of the image, where the file holds several (series; Images of OME-TIFF; label and macro image of
        a slide); None for the first, ``"all"`` to stack equal ones on ``i``.
    level : int
        Level of a pyramid; 0 is full resolution.
    chunks : "auto", None, int or mapping
        Chunks of the dask arrays, ``"auto"`` for whole tiles or strips grouped to some MiB.
    output_axis_order : str or None
        Order of the axes; None keeps the file's.
    metadata : mapping, optional
        ``axes``, ``spacing``, ``spacing_units``, ``coords`` that add to or overrule what the file says.
    storage_options : mapping, optional
        Options of the fsspec file system.
    """

    name = "tif"
    format_name = "TIFF"
    extensions = (
        ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".btf", ".tf2", ".tf8", ".ome.btf", ".ome.tf2", ".ome.tf8", ".lsm",
        ".stk", ".svs", ".ndpi", ".companion.ome",
    )  # fmt: skip
    extras = {"codecs": "LZW, JPEG, JPEG 2000 and further compressions"}
    magic = ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+"))

    def __init__(
        self,
        uri: Any,
        *,
        scene: int | str | None = None,
        level: int = 0,
        chunks: Any = "auto",
        output_axis_order: str | None = CANONICAL,
        metadata: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            uri,
            scene=scene,
            level=level,
            chunks=chunks,
            output_axis_order=output_axis_order,
            metadata=metadata,
            storage_options=storage_options,
        )

    @classmethod
    def open(cls, file: File) -> TiffHandle:
        return open_tiff(file)

    @classmethod
    def twin(cls, handle: TiffHandle, file: File) -> TiffHandle | None:
        return handle.twin(file)

    @classmethod
    def scene_names(cls, handle: TiffHandle) -> Sequence[str]:
        return [scene.name for scene in handle.scenes]

    def describe_image(self, handle: TiffHandle, scene: int | str, level: int) -> Image:
        number = int(scene)
        found = handle.scenes[number]
        check_level(level, len(found.levels), self.file)
        native = self._native(found, number, 0)
        image = native if found.record is None else native.restored(found.record)
        if level == 0:
            return image
        small, shapes = self._native(found, number, level), [la.shape for la in found.levels]
        ratios = dict(zip(found.axes, factors(found.axes, shapes)[level], strict=True))
        if image is native:
            return replace(small, spacing={a: v * ratios[a] for a, v in small.spacing.items()})
        return _restored_level(small, image, found.record, shapes[0], ratios)

    def _native(self, scene: Scene, number: int, level: int) -> Image:
        layout, facts = scene.levels[level], scene.facts
        pixels = self.pixels((number, level), layout.shape, layout.dtype, layout.tiles)
        known = set(scene.axes)
        coords = {"t": facts.times} if facts.times is not None and _fits(facts.times, scene.axes, layout.shape) else {}
        names = facts.channels
        if names is not None and ("c" not in known or len(names) != layout.shape[scene.axes.index("c")]):
            names = None
        attrs = dict(facts.channel_attrs) if names is not None else {}
        inverted = scene.header["tags"].get("Photometric") == "MINISWHITE"
        return Image.single(
            pixels,
            scene.axes,
            channels=names,
            channel_attrs=attrs,
            variable_attrs={"photometric": MINISWHITE} if inverted else {},
            spacing={a: v for a, v in facts.spacing.items() if a in known},
            units={a: u for a, u in facts.units.items() if a in known},
            origin={a: o for a, o in facts.origin.items() if a in known},
            coords=coords,
            header=scene.header,
        )

    @classmethod
    def read_region(cls, handle: TiffHandle, address: tuple[int, int], region: Region, out: np.ndarray) -> None:
        number, level = address
        read_layout(handle.source, handle.scenes[number].levels[level], region, out)

    @classmethod
    def mapped(cls, handle: TiffHandle, address: tuple[int, int]) -> np.ndarray | None:
        layout = handle.scenes[address[0]].levels[address[1]]
        if layout.offset is None or layout.raw is None:
            return None
        return map_raw(handle.source, layout.offset, layout.raw, layout.shape)

    @classmethod
    def decodes(cls, handle: TiffHandle, address: tuple[int, int]) -> bool:
        return handle.scenes[address[0]].levels[address[1]].raw is None

    @classmethod
    def file_axes(cls, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        """A file is one image: ``i`` is an axis of files; OME-TIFF has no further axes either."""
        if name.lower().rpartition(".")[0].endswith(".ome"):
            return tuple(
                a for a, n in zip(variable.axes, variable.pixels.shape, strict=True) if a in "tzcyxs" or n == 1
            )
        return tuple(a for a in variable.axes if a != "i")

    @classmethod
    def write(
        cls,
        image: Image,
        path: str,
        *,
        compress: Any = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".tif",
        tile: int | Sequence[int] | None = None,
        pyramid: int = 0,
        levels: Sequence[Image] = (),
        rgb: bool | None = None,
        bigtiff: bool | None = None,
        byteorder: str | None = None,
    ) -> None:
        """Write ``.ome.tif`` as OME-TIFF, other names as ImageJ hyperstack where that can hold the image, else plain.

        Parameters
        ----------
        image, path, compress, progress
            See `ImageSource.write`. `compress` is True for zlib, or one of tifffile's names (``"lzw"``,
            ``"zstd"``, ...; most need the extra ``codecs``).
        name : str
            Name of the target, which tells OME-TIFF.
        tile : int or (int, int), optional
            Height and width of tiles, multiples of 16; strips if absent.
        pyramid : int
            Number of further levels, each half as large in y and x: means, of labels and masks every other pixel.
        levels : sequence of Image
            Further levels, in place of `pyramid`.
        rgb : bool, optional
            Store ``c`` as the colours of each pixel. By default where the channels are named R, G, B(, A) and have 8 or
            16 bits.
        bigtiff : bool, optional
            Use 64-bit offsets; by default where the file may exceed 4 GB.
        byteorder : str, optional
            ``"<"`` or ``">"``.
        """
        write_tiff(image, path, compress=compress, progress=progress, name=name, tile=tile, pyramid=pyramid,
                   levels=levels, rgb=rgb, bigtiff=bigtiff, byteorder=byteorder)  # fmt: skip

    @classmethod
    def sample(cls, folder: str) -> tuple[str, xr.Dataset]:
        import os

        import tifffile

        values = np.arange(3 * 2 * 20 * 30, dtype="u2").reshape(3, 2, 20, 30)
        path = os.path.join(folder, "sample.ome.tif")
        metadata = {
            "axes": "ZCYX",
            "Channel": {"Name": ["nuclei", "actin"]},
            "PhysicalSizeX": 0.25,
            "PhysicalSizeY": 0.25,
            "PhysicalSizeZ": 2.0,
        }
        tifffile.imwrite(path, values, ome=True, photometric="minisblack", metadata=metadata, compression="zlib",
                         rowsperstrip=7)  # fmt: skip
        coords: dict[str, Any] = {"c": ("c", ["nuclei", "actin"])}
        for axis, spacing, n in (("z", 2.0, 3), ("y", 0.25, 20), ("x", 0.25, 30)):
            coords[axis] = (axis, spacing * np.arange(n), {"units": "µm", "spacing": spacing})
        return path, xr.Dataset({"image": (tuple("zcyx"), values)}, coords)


def _fits(coord: Coordinate, axes: Sequence[str], shape: Sequence[int]) -> bool:
    return all(a in axes and shape[axes.index(a)] == n for a, n in zip(coord.axes, coord.values.shape, strict=True))


def _restored_level(native: Image, image: Image, record: Mapping[str, Any], full: Sequence[int],
                    ratios: Mapping[str, float]) -> Image:  # fmt: skip
    """Return a level with what the record says of full resolution, its coordinates made coarser.

    Parameters
    ----------
    native : Image
        The level as the file describes it.
    image : Image
        Full resolution, restored from the record.
    full : sequence of int
        Shape in which full resolution is stored.
    ratios : mapping
        By how much the level is smaller along each axis of the file.
    """
    name, facts = next(iter(record["variables"].items()))
    small = iter([n for n, whole in zip(native.only.pixels.shape, full, strict=True) if whole != 1])
    shape = [next(small) if n != 1 else 1 for n in facts["shape"]]
    sizes = dict(zip(facts["axes"], shape, strict=True))
    whole = image.sizes
    changed = {a: ratios.get(a, whole[a] / n) for a, n in sizes.items() if whole[a] != n or ratios.get(a, 1) != 1}
    coords = {k: c for k, c in record["coords"].items() if not changed.keys() & {k, *c["axes"]}}
    level = native.restored({**record, "variables": {name: {**facts, "shape": shape}}, "coords": coords})
    spacing, units, origin = {}, {}, {}
    for axis, ratio in changed.items():
        coord = image.coords.get(axis)
        if coord is None or coord.axes != (axis,):
            continue
        step = spacing_of(xr.DataArray(coord.values, dims=axis, name=axis, attrs=dict(coord.attrs)))
        if step is None:
            continue
        spacing[axis], origin[axis] = step * ratio, float(coord.values[0])
        if "units" in coord.attrs:
            units[axis] = coord.attrs["units"]
    return replace(level, spacing=spacing, units=units, origin=origin)
