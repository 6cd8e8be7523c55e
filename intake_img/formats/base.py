"""The interface of a format: `Format` recognises, opens and writes files; `Handle` is an open file.

`intake_img.formats.format_source` builds sources, catalogs, pickling, partitions, scenes and error handling on these
two classes. This module is independent of Intake.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from intake_img.formats.probe import Probe
from intake_img.model.chunks import Region
from intake_img.model.engine import Tasks
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.privacy import public
from intake_img.model.wells import Place
from intake_img.storage.cache import Shelf
from intake_img.storage.files import ByteReader, File
from intake_img.storage.raw import map_raw, read_raw

if TYPE_CHECKING:
    import xarray as xr

    from intake_img.formats.format_source import FormatSource
    from intake_img.formats.reading import FileReader

__all__ = ["Format", "Handle", "NoOptions", "PlaneArray", "RawArray", "StoredArray"]


@dataclass(frozen=True)
class NoOptions:
    """The options of a format without own options."""


class StoredArray:
    """An array in an open file.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    tiles : tuple of int
        Shape of the blocks in the file; chunks consist of complete blocks.
    parallel : bool
        Whether several concurrently reading threads are faster; False if a single read uses all cores itself.
    decodes : bool
        Whether reading a small part of a tile costs as much as the complete tile, because it is compressed.
    shards : tuple of int or None
        Shape of the shards that contain several tiles each, for formats that have them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    tiles: tuple[int, ...]
    parallel: bool = True
    decodes: bool = True
    shards: tuple[int, ...] | None = None

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Fill `out` with a region; called from many threads concurrently.

        Parameters
        ----------
        region : tuple of slice
            A slice without a step for each axis, within the shape.
        out : ndarray
            An array of the shape of `region`, in any memory layout.
        """
        raise NotImplementedError

    def mapped(self) -> np.ndarray | None:
        """Return the complete array, memory-mapped, if it is uncompressed in a local file; else None."""
        return None


class RawArray(StoredArray):
    """An uncompressed array in a file, in C order.

    Parameters
    ----------
    source : ByteReader
    offset : int
        Its start, in bytes.
    dtype : numpy.dtype
        With the byte order of the file.
    shape : tuple of int
    """

    decodes = False

    def __init__(self, source: ByteReader, offset: int, dtype: np.dtype, shape: Sequence[int]) -> None:
        self.source, self.offset, self.stored = source, offset, np.dtype(dtype)
        self.shape, self.dtype = tuple(shape), self.stored.newbyteorder("=")
        self.tiles = (1,) * (len(self.shape) - 1) + self.shape[-1:]  # any row can be read separately

    def read_into(self, region: Region, out: np.ndarray) -> None:
        read_raw(self.source, self.offset, self.stored, self.shape, region, out)

    def mapped(self) -> np.ndarray | None:
        return map_raw(self.source, self.offset, self.stored, self.shape)


class PlaneArray(StoredArray):
    """An array that can only be read by complete planes, or frames: a format defines only `read_plane`.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    plane_axes : int
        Number of the last axes that make a plane.
    handle : Handle, optional
        The open file. With it, decoded planes are cached for some time; see `Handle.kept`.
    address : hashable
        What distinguishes this array from others of the handle.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: np.dtype,
        plane_axes: int = 2,
        *,
        handle: Handle | None = None,
        address: Hashable = None,
    ) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.handle, self.address = handle, address
        self.outer = len(self.shape) - plane_axes
        self.tiles = (1,) * self.outer + self.shape[self.outer :]

    def read_plane(self, index: tuple[int, ...]) -> np.ndarray:
        """Return the plane at `index`, one number for each axis before the axes of the plane."""
        raise NotImplementedError

    def read_into(self, region: Region, out: np.ndarray) -> None:
        outer, inner = region[: self.outer], region[self.outer :]
        for index in itertools.product(*(range(s.start, s.stop) for s in outer)):
            place = tuple(k - s.start for k, s in zip(index, outer, strict=True))
            out[place] = self._plane(index, inner)[inner]

    def _plane(self, index: tuple[int, ...], region: Region) -> np.ndarray:
        plane = self.shape[self.outer :]
        if self.handle is None or all(s.stop - s.start == n for s, n in zip(region, plane, strict=True)):
            return self.read_plane(index)
        return self.handle.kept((self.address, index), lambda: self.read_plane(index))


class Handle:
    """An open file, returned by `Format.open`: its images and their arrays.

    A pool shares one handle between all threads of a process and closes it when it is not used any more.

    Attributes
    ----------
    reader : FileReader
        Names the file, so that `pixels` can be read anywhere; set when the handle is opened.
    turn : context manager
        Held by whoever uses the handle of a format that is `Format.serial`; set when the handle is opened.
    """

    reader: FileReader
    turn: contextlib.AbstractContextManager[Any]

    @cached_property
    def shelf(self) -> Shelf:
        """What is kept of this file in the cache of the process (`intake_img.storage.cache`), of some MiB."""
        return Shelf()

    def kept(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the result of `make`, from `shelf` if possible.

        Parameters
        ----------
        key : hashable
            What distinguishes it from all else that this handle keeps.
        make : callable
            Returns an array of its own, which nobody changes later.
        """
        found: np.ndarray | None = self.shelf.get(key)
        if found is None:
            found = make()
            self.shelf.put(key, found)
        return found

    @property
    def scene_names(self) -> Sequence[str]:
        """A name for each image in the file."""
        return ["0"]

    @property
    def places(self) -> Sequence[Place]:
        """The well and the field of each image, if the file is a plate; empty for other files."""
        return ()

    def describe(self, scene: int | str, level: int) -> Image:
        """Return one image, unread.

        Parameters
        ----------
        scene : int or str
            Its number, or one of `Format.special_scenes`.
        level : int
            Level of the pyramid.
        """
        raise NotImplementedError

    def unasked(self, level: int) -> Image | None:
        """Return what to open by default, if it is not one of the scenes; None for the first scene."""
        return None

    def array(self, address: Any) -> StoredArray:
        """Return the array with this `address`, which `describe` passed to `pixels`; hashable and picklable."""
        raise NotImplementedError

    def pixels(self, address: Hashable = None) -> Pixels:
        """Return the unread pixels of the array at `address`."""
        return self.reader.pixels(address, self.array(address))

    def renew(self) -> None:
        """Drop cached data of files that have changed, for formats whose `Format.stamp` does not check all files.

        Called before an image is described with a handle that may have been opened earlier.
        """

    def reuse_for(self, file: File) -> Handle | None:
        """Return a handle of another file whose bytes are identical except for the pixels; None for other files.

        With this, only the first of many files with the same layout is parsed. A format that cannot compare quickly
        returns None.
        """
        return None

    def close(self) -> None:
        """Close the file."""


class Format:
    """A file format: recognition, opening and writing of its files.

    Define a subclass, and make its source with `intake_img.plugin.source_of`; see "How to add a format" in the
    documentation. A format has no state: all instances are equivalent.
    """

    name: ClassVar[str]
    """Name of the driver: ``intake.open_<name>``, ``driver: <name>`` in a catalog."""
    title: ClassVar[str]
    """The common name of the format, e.g. ``"Zeiss CZI"``."""
    extensions: ClassVar[tuple[str, ...]] = ()
    """Lower-case extensions, e.g. ``(".ome.tif", ".tif")``; the longest match of all formats wins."""
    magic: ClassVar[tuple[tuple[int, bytes], ...]] = ()
    """Magic bytes with their offsets; any one of them identifies the format."""
    starts: ClassVar[tuple[bytes, ...] | None] = None
    """First bytes, one of which a file must have for `claims` to be positive: it is not called for other files. None if
    any file may be of the format. Only valid for the `claims` of the same class or its parents."""
    folder: ClassVar[bool] = False
    """Whether the format is a folder of files."""
    archives: ClassVar[tuple[str, ...]] = ()
    """Of the extensions of a format that is a folder, those of single files that contain such a folder."""
    series: ClassVar[bool] = False
    """Whether a folder of the format's files is an image as well, such as a folder of slices; `claims` recognises
    it."""
    has_scenes: ClassVar[bool] = False
    """Whether a file can store several images: the source then has the option ``scene``."""
    has_levels: ClassVar[bool] = False
    """Whether a file can store pyramids: the source then has the option ``level``."""
    special_scenes: ClassVar[tuple[str, ...]] = ()
    """Values of ``scene`` beyond numbers, names and ``"all"`` that `Handle.describe` accepts."""
    serial: ClassVar[bool] = False
    """Whether only one thread at a time may use an open file, because its library is not thread-safe."""
    bridge: ClassVar[bool] = False
    """Whether plug-ins of another package read the files: it is tried last, by `reads_name`, and is not in tables."""
    options: ClassVar[type] = NoOptions
    """Frozen dataclass of the format's own options; fields are made with `intake_img.plugin.option`."""
    option_docs: ClassVar[Mapping[str, str]] = {}
    """Documentation of common options that replaces the usual text."""
    only_read: ClassVar[tuple[str, ...]] = ()
    """Those of `extensions` whose files are only read, of a format that writes others."""
    pixels_only: ClassVar[tuple[str, ...]] = ()
    """Extensions whose files keep only the pixels when written: no axes, coordinates or attributes."""
    extras: ClassVar[Mapping[str, str]] = {}
    """The extras of intake_img that extend the format, and what each adds."""
    private: ClassVar[str] = ""
    """Regular expression of the keys of the header that name people, patients or places; see `public_header`."""
    source: ClassVar[type[FormatSource]]
    """The Intake source of the format; set by `source_of`."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def claims(self, probe: Probe) -> int:
        """Return the confidence that the bytes are of this format, whatever the file name is.

        Returns
        -------
        int
            0: no match; 1: the container matches (TIFF, HDF5, zip); 2: the dialect matches. The highest claim wins.
        """
        return int(any(probe.head[at : at + len(magic)] == magic for at, magic in self.magic))

    def reads_name(self, name: str) -> bool:
        """Return whether plug-ins read a file of this name, for a format that is a `bridge`."""
        return False

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return a stamp that changes when the file is replaced; formats that are folders choose the files to check."""
        return file.stamp()

    def same(self, file: File, stamp: tuple[Any, ...]) -> bool:
        """Return whether a file that had this stamp still has the same contents."""
        return self.stamp(file) == stamp

    def open(self, file: File, options: Any) -> Handle:
        """Return an open file.

        Parameters
        ----------
        file : File
        options : object
            An instance of `options`.

        Raises
        ------
        FormatError
            If the file is damaged. Exceptions of a library are converted to it, and everything that `File.open` opened
            is closed.
        """
        raise NotImplementedError

    def public_header(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a file's header that portals and catalogs may publish.

        Generally private data (`intake_img.model.privacy`) and keys that match `private` are removed, in XML and JSON
        too. Override this if the header contains personal data in other forms.

        Parameters
        ----------
        header : mapping
            The header as in `Image.header`: plain data.

        Returns
        -------
        dict
            Without names of patients, users and operators, and without paths.
        """
        return public(header, self.private)

    @property
    def reads(self) -> bool:
        """Whether the format can be read."""
        return type(self).open is not Format.open

    @property
    def writes(self) -> bool:
        """Whether the format can be written."""
        return type(self).write is not Format.write

    @property
    def writes_in_tasks(self) -> bool:
        """Whether several processes can write one image of the format: see `write_in_tasks`."""
        return type(self).write_in_tasks is not Format.write_in_tasks

    @property
    def has_sample(self) -> bool:
        """Whether the format has a `sample`."""
        return type(self).sample is not Format.sample

    def write(
        self, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write an image to a new file.

        Parameters
        ----------
        image : Image
        path : str
            A local path that does not exist (an empty folder, for formats that are folders). Its name has no meaningful
            extension.
        compress : object
            None for the format's default, False for no compression, a name of a codec, or True for a good codec.
        progress : callable, optional
            Call it with the number of bytes of pixels after each step.

        Raises
        ------
        CannotWriteError
            If the format cannot store the image.
        """
        raise NotImplementedError

    def write_in_tasks(self, image: Image, path: str | File, **options: Any) -> tuple[Tasks, Callable[[Any], None]]:
        """Return the tasks that write an image, for formats whose blocks are separate files.

        Parameters
        ----------
        image, path, options
            See `write`.

        Returns
        -------
        tasks : Tasks
            Each returns an object whose `nbytes` are the bytes of the image that it wrote.
        finish : callable
            Takes the results of the tasks, and completes the image. It is picklable.
        """
        raise NotImplementedError

    @property
    def extends(self) -> bool:
        """Whether the format can write into an existing image: see `extend`."""
        return type(self).extend is not Format.extend

    def extend(
        self,
        image: Image,
        file: File,
        *,
        append_dim: str | None = None,
        region: Mapping[str, int | slice] | Literal["auto"] | None = None,
        progress: Callable[[int], None] | None = None,
        parallel: bool = False,
    ) -> None:
        """Write an image into an existing one.

        Parameters
        ----------
        image : Image
        file : File
        append_dim : str, optional
            The axis along which it is appended; readers see all of it or nothing.
        region : mapping of str to (int or slice) or "auto", optional
            The region to overwrite.
        progress : callable, optional
            See `write`.
        parallel : bool
            Whether dask tasks write it.

        Raises
        ------
        CannotWriteError
            If it does not fit the existing image.
        """
        raise NotImplementedError

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        """Return the axes of a variable that one file named `name` can store; None for all of them."""
        return None

    def many_variables(self, name: str) -> bool:
        """Return whether one file named `name` can store several variables."""
        return False

    def pixels_in(self, name: str) -> str:
        """Return the name of the file that `write` makes for an image of this name: another one if `companions` has the
        header that is opened."""
        return name

    def companions(self, image: Image, name: str, options: Mapping[str, Any]) -> Mapping[str, bytes]:
        """Return further small files, by name, that belong beside the file of pixels.

        Parameters
        ----------
        image : Image
        name : str
            Name of the image.
        options : mapping
            Those of `write`.
        """
        return {}

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        """Make a tiny file of the format, without `write`, for the conformance tests.

        Parameters
        ----------
        folder : str
            An empty folder to put it in.

        Returns
        -------
        path : str
        expected : xarray.Dataset
            The contents of the file: variables with their axes, and the coordinates in the file.
        """
        raise NotImplementedError
