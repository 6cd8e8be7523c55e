"""The contract of a format: `Format` says how files are known, opened and written; `Handle` is an open file.

Sources, catalogs, pickling, partitions, scenes and the handling of errors are made of these two, once, in
`intake_img.formats.format_source`. Nothing here knows of Intake.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from intake_img.formats.probe import Probe
from intake_img.model.chunks import Region
from intake_img.model.engine import Tasks
from intake_img.model.image import Image, Variable
from intake_img.model.pixels import Pixels
from intake_img.model.privacy import public
from intake_img.model.wells import Place
from intake_img.storage.cache import CACHE
from intake_img.storage.files import ByteReader, File
from intake_img.storage.raw import map_raw, read_raw

if TYPE_CHECKING:
    import xarray as xr

    from intake_img.formats.format_source import FormatSource
    from intake_img.formats.reading import FileReader

__all__ = ["Format", "Handle", "NoOptions", "PlaneArray", "RawArray", "StoredArray"]


@dataclass(frozen=True)
class NoOptions:
    """Own options of a format that has none."""


class StoredArray:
    """An array in an open file.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    tiles : tuple of int
        Shape of the blocks in which the file stores it, so that chunks are made of whole blocks.
    parallel : bool
        Whether several threads that read at once are faster; False where one reading uses all cores by itself.
    decodes : bool
        Whether a small part of a tile costs as much as the whole tile, because it is compressed.
    shards : tuple of int or None
        Shape of the shards that hold several tiles each, for formats that have them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    tiles: tuple[int, ...]
    parallel: bool = True
    decodes: bool = True
    shards: tuple[int, ...] | None = None

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Fill `out` with a region; called from many threads at once.

        Parameters
        ----------
        region : tuple of slice
            A slice without a step for each axis, within the shape.
        out : ndarray
            Of the shape of `region`; in any layout of memory.
        """
        raise NotImplementedError

    def mapped(self) -> np.ndarray | None:
        """Return the whole array, memory-mapped, where it lies in a local file as plain bytes; else None."""
        return None


class RawArray(StoredArray):
    """An array that lies in a file as plain bytes, in C order.

    Parameters
    ----------
    source : ByteReader
    offset : int
        Where it begins, in bytes.
    dtype : numpy.dtype
        With the byte order of the file.
    shape : tuple of int
    """

    decodes = False

    def __init__(self, source: ByteReader, offset: int, dtype: np.dtype, shape: Sequence[int]) -> None:
        self.source, self.offset, self.stored = source, offset, np.dtype(dtype)
        self.shape, self.dtype = tuple(shape), self.stored.newbyteorder("=")
        self.tiles = (1,) * (len(self.shape) - 1) + self.shape[-1:]  # any row can be read by itself

    def read_into(self, region: Region, out: np.ndarray) -> None:
        read_raw(self.source, self.offset, self.stored, self.shape, region, out)

    def mapped(self) -> np.ndarray | None:
        return map_raw(self.source, self.offset, self.stored, self.shape)


class PlaneArray(StoredArray):
    """An array whose planes, or frames, can only be read as a whole: `read_plane` is all that a format defines.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    plane_axes : int
        Number of the last axes that make a plane.
    handle : Handle, optional
        The open file. With it, planes of which a part was asked for are kept for a while; see `Handle.kept`.
    address : hashable
        What tells this array from others of the handle.
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
    """An open file, as `Format.open` returns it: the images in it, and their arrays.

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
    _token: object | None = None

    def kept(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what `make` returns, from memory if it was made lately.

        All files of a process share some MiB for what they keep (`intake_img.storage.cache.CACHE`).

        Parameters
        ----------
        key : hashable
            What tells it from all else that this handle keeps.
        make : callable
            Returns an array of its own, which nobody changes later.
        """
        if self._token is None:
            self._token = object()
            weakref.finalize(self, CACHE.forget, self._token).atexit = False
        found = CACHE.get((self._token, key))
        if found is None:
            found = make()
            CACHE.put((self._token, key), found)
        return found

    @property
    def scene_names(self) -> Sequence[str]:
        """A name for each image in the file."""
        return ["0"]

    @property
    def places(self) -> Sequence[Place]:
        """The well and the field of each image, of a file that is a plate; none of any other file."""
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
        """Return what to open where no scene is asked for, if that is none of the scenes; else None: the first."""
        return None

    def array(self, address: Any) -> StoredArray:
        """Return the array that is called `address`: whatever `describe` gave to `pixels`, hashable and picklable."""
        raise NotImplementedError

    def pixels(self, address: Hashable = None) -> Pixels:
        """Return the unread pixels of the array at `address`."""
        return self.reader.pixels(address, self.array(address))

    def renew(self) -> None:
        """Forget what is known of files that changed since, for formats whose `Format.stamp` does not look at them all.

        Called before an image is described with a handle that may have been opened earlier.
        """

    def twin(self, file: File) -> Handle | None:
        """Return a handle of another file that is the same byte for byte but for its pixels; None if that is not so.

        Of many files with one layout only the first is parsed then. A format that cannot tell quickly returns None.
        """
        return None

    def close(self) -> None:
        """Close what is open."""


class Format:
    """A file format: how its files are known, opened and written.

    Define a subclass, and make its source with `intake_img.plugin.source_of`; see "How to add a format" in the
    documentation. A format has no state: an instance stands for the class.
    """

    name: ClassVar[str]
    """Name of the driver: ``intake.open_<name>``, ``driver: <name>`` in a catalog."""
    title: ClassVar[str]
    """What people call the format, e.g. ``"Zeiss CZI"``."""
    extensions: ClassVar[tuple[str, ...]] = ()
    """Lower-case endings of names, e.g. ``(".ome.tif", ".tif")``; the longest that matches any format wins."""
    magic: ClassVar[tuple[tuple[int, bytes], ...]] = ()
    """Offsets and bytes found there, any of which tells the format."""
    folder: ClassVar[bool] = False
    """Whether the format is a folder of files."""
    series: ClassVar[bool] = False
    """Whether a folder of the format's files is an image as well, as one of slices; `claims` knows such folders."""
    has_scenes: ClassVar[bool] = False
    """Whether a file can hold several images: the source then has the option ``scene``."""
    has_levels: ClassVar[bool] = False
    """Whether a file can hold pyramids: the source then has the option ``level``."""
    special_scenes: ClassVar[tuple[str, ...]] = ()
    """Values of ``scene`` beyond numbers, names and ``"all"`` that `Handle.describe` understands."""
    serial: ClassVar[bool] = False
    """Whether only one thread at a time may use an open file, as the library that reads it is not made for more."""
    bridge: ClassVar[bool] = False
    """Whether plug-ins of another package read the files: it is asked last, by `reads_name`, and is in no table."""
    options: ClassVar[type] = NoOptions
    """Frozen dataclass of the format's own options; fields are made with `intake_img.plugin.option`."""
    option_docs: ClassVar[Mapping[str, str]] = {}
    """What the documentation says of a common option in place of the usual text."""
    pixels_only: ClassVar[tuple[str, ...]] = ()
    """Extensions whose files, when written, keep the pixels alone: no axes, coordinates or attributes."""
    extras: ClassVar[Mapping[str, str]] = {}
    """The extras of intake_img that widen the format, and what each brings."""
    private: ClassVar[str] = ""
    """Regular expression of the keys of the header that name people, patients or places; see `public_header`."""
    source: ClassVar[type[FormatSource]]
    """The Intake source of the format; set by `source_of`."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def claims(self, probe: Probe) -> int:
        """Return how surely the bytes are of this format, whatever the file is called.

        Returns
        -------
        int
            0: not at all; 1: the container is (TIFF, HDF5, zip); 2: this very dialect. The highest claim wins.
        """
        return int(any(probe.head[at : at + len(magic)] == magic for at, magic in self.magic))

    def reads_name(self, name: str) -> bool:
        """Return whether plug-ins read a file of this name, for a format that is a `bridge`."""
        return False

    def stamp(self, file: File) -> tuple[Any, ...]:
        """Return what changes when the file is replaced; formats that are folders know which of their files tell."""
        return file.stamp()

    def same(self, file: File, stamp: tuple[Any, ...]) -> bool:
        """Return whether a file that had this stamp still holds what it held then."""
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
            If the file is damaged. What a library raises becomes one by itself, and what `File.open` opened is closed.
        """
        raise NotImplementedError

    def public_header(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a file's own header may be shown to strangers, as portals and catalogs do.

        What every format leaves out (`intake_img.model.privacy`) and the keys that match `private` are taken away,
        in XML and JSON too. A format whose header says more of people in other ways overrides this.

        Parameters
        ----------
        header : mapping
            As `Image.header` has it: plain data.

        Returns
        -------
        dict
            Without names of patients, users and operators, and without paths.
        """
        return public(header, self.private)

    @property
    def reads(self) -> bool:
        """Whether the format is read."""
        return type(self).open is not Format.open

    @property
    def writes(self) -> bool:
        """Whether the format is written."""
        return type(self).write is not Format.write

    @property
    def writes_in_tasks(self) -> bool:
        """Whether several processes can write one image of the format: see `write_in_tasks`."""
        return type(self).write_in_tasks is not Format.write_in_tasks

    @property
    def has_sample(self) -> bool:
        """Whether the format makes a `sample`."""
        return type(self).sample is not Format.sample

    def write(
        self, image: Image, path: str, *, compress: Any = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """Write an image to a new file.

        Parameters
        ----------
        image : Image
        path : str
            A local path that does not exist (an empty folder, for formats that are folders). Its name says nothing of
            the format.
        compress : object
            None for the format's default, False for none, a name of a codec, or True for a good one.
        progress : callable, optional
            To be called with the number of bytes of pixels after each step.

        Raises
        ------
        CannotWriteError
            If the format cannot hold the image.
        """
        raise NotImplementedError

    def write_in_tasks(self, image: Image, path: str | File, **options: Any) -> tuple[Tasks, Callable[[Any], None]]:
        """Return the tasks that write an image, for formats whose blocks are files of their own.

        Parameters
        ----------
        image, path, options
            See `write`.

        Returns
        -------
        tasks : Tasks
        finish : callable
            Takes what the tasks returned, and completes the image. It pickles.
        """
        raise NotImplementedError

    @property
    def extends(self) -> bool:
        """Whether images are written into what is there: see `extend`."""
        return type(self).extend is not Format.extend

    def extend(
        self,
        image: Image,
        file: File,
        *,
        append_dim: str | None = None,
        region: Any = None,
        progress: Callable[[int], None] | None = None,
        parallel: bool = False,
    ) -> None:
        """Write an image into one that is there.

        Parameters
        ----------
        image : Image
        file : File
        append_dim : str, optional
            The axis at whose end it is added; readers see all of it or nothing.
        region : mapping of str to (int or slice) or "auto", optional
            What it overwrites.
        progress : callable, optional
            See `write`.
        parallel : bool
            Whether tasks of dask write it.

        Raises
        ------
        CannotWriteError
            If it does not fit what is there.
        """
        raise NotImplementedError

    def file_axes(self, variable: Variable, channels: Sequence[str] | None, name: str) -> Sequence[str] | None:
        """Return which axes of a variable one file called `name` holds; None for all of them."""
        return None

    def many_variables(self, name: str) -> bool:
        """Return whether one file called `name` holds several variables."""
        return False

    def companions(self, image: Image, name: str) -> Mapping[str, bytes]:
        """Return further small files, by name, that belong beside a file called `name` that holds `image`."""
        return {}

    def sample(self, folder: str) -> tuple[str, xr.Dataset]:
        """Make a tiny file of the format, by other means than `write`, for the conformance suite.

        Parameters
        ----------
        folder : str
            An empty folder to put it in.

        Returns
        -------
        path : str
        expected : xarray.Dataset
            What the file holds: variables with their axes, and the coordinates that the file knows.
        """
        raise NotImplementedError
