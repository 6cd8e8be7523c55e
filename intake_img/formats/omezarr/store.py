"""Zarr stores and arrays: opening the store of a file, folder or URL, and filling new arrays block by block.

This module decides how a block is cut so that no two writes meet in one chunk or shard, how compression is named in
both Zarr formats, and how an array is halved into the next level of a pyramid. It does not know what groups and
attributes mean.
"""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.omezarr.chunk_files import ChunkFiles
from intake_img.formats.omezarr.keys import is_document
from intake_img.formats.omezarr.layout import chunk_files
from intake_img.model.chunks import Region
from intake_img.model.machine import cpus, give_back
from intake_img.model.pixels import Pixels, chunk_of
from intake_img.model.readers import Dask, leaf_of
from intake_img.storage.files import File
from intake_img.storage.jail import METADATA_BYTES
from intake_img.storage.listings import LEAST, present
from intake_img.storage.streams import Once

__all__ = [
    "Halved",
    "block_shape",
    "chunk_shape",
    "edges_of",
    "is_zip",
    "open_store",
    "read_array",
    "read_member",
    "rounded_up",
    "shard_shape",
    "shifted",
    "tiles_of",
    "write_pixels",
]

_CHUNK_BYTES = 2**20
_SHARD_BYTES = 2**26
_LEAST_BYTES, _BLOCK_BYTES = 2**22, 2**24
_MOST_BYTES = 2**26
_OF_A_THREAD = 2  # chunks in a block for each thread that writes them, while the next block is read
_LAYERS_OF_AN_ARRAY = 2  # in a graph of dask.array.from_array
_GIVEN_BACK = 2**25  # bytes of an array, after the writing of which no freed memory is kept


# stores


def is_zip(file: File) -> bool:
    """True if the store is a single zip file, which its name or, of local ones, its being a file tells."""
    return os.path.isfile(file.path) if file.local else file.name.lower().endswith((".zip", ".ozx"))


def open_store(file: File) -> tuple[Any, str]:
    """Open the Zarr store in a folder, zip file or URL for reading.

    Returns
    -------
    store : zarr.abc.store.Store
    prefix : str
        Where the root is: not empty for a zip file that contains a folder.
    """
    from zarr import storage

    from intake_img.formats.omezarr.local_store import GuardedStore
    from intake_img.formats.omezarr.remote_store import RemoteStore, RemoteZip, store_at

    file.check()
    if is_zip(file):
        prefix = _zip_prefix(file)
        if file.local:
            return storage.ZipStore(file.path, mode="r"), prefix
        return RemoteZip(file), prefix
    if file.local:
        return GuardedStore(file), ""
    if file.block_folder:
        raise ValueError(f"cache= keeps blocks of single files; for a Zarr store pass 'filecache::{file.path}'")
    return store_at(RemoteStore, file, read_only=True), ""


def _zip_prefix(file: File) -> str:
    reader = file.open()
    try:
        with reader.stream() as stream, zipfile.ZipFile(stream) as archive:
            documents = [i for i in archive.infolist() if is_document(i.filename)]
            for document in documents:
                file.check_size(document.file_size, METADATA_BYTES, document.filename)
    finally:
        reader.close()
    roots = [i.filename.rpartition("/")[0] for i in documents]
    if not roots:
        raise FormatError(
            f"{file}: the zip file contains no Zarr group or array (no member zarr.json, .zgroup or .zarray)"
        )
    return min(roots, key=lambda r: (r.count("/") + bool(r), r))


def read_member(file: File, name: str) -> bytes | None:
    """Return a document in a zip file; None if there is none."""
    reader = file.open()
    try:
        with reader.stream() as stream, zipfile.ZipFile(stream) as archive:
            found = archive.getinfo(name)
            file.check_size(found.file_size, METADATA_BYTES, name)
            return archive.read(found)
    except KeyError:
        return None
    finally:
        reader.close()


def read_array(array: Any, region: Region, out: np.ndarray, folder: File | None = None) -> None:
    """Fill `out`, of any strides, with a region of a Zarr array, in one call of the library.

    Parameters
    ----------
    array : zarr.Array
    region : tuple of slice
    out : ndarray
    folder : File, optional
        Of the array. On an object store a listing shows which chunks are missing, if that takes fewer requests.
    """
    from zarr import buffer  # not a part of it, which may be there before the whole

    lacking: Any = getattr(array.store, "lacking", None)
    missing = _missing(array, region, folder) if lacking is not None and folder is not None else []
    with lacking(missing) if missing else contextlib.nullcontext():
        array.get_basic_selection(region, out=buffer.cpu.NDBuffer.from_numpy_array(out))


def _missing(array: Any, region: Region, folder: File) -> list[str]:
    """Return the keys of the chunks, or shards, of a region that a listing finds to be missing."""
    try:
        block = array.shards or array.chunks
    except NotImplementedError:  # chunks of unequal lengths
        return []
    spans = [range(s.start // n, -(-s.stop // n)) for s, n in zip(region, block, strict=True)]
    if math.prod(map(len, spans)) < LEAST:
        return []
    names = [array.metadata.encode_chunk_key(place) for place in product(*spans)]
    found = present(folder, names, [-(-n // m) for n, m in zip(array.shape, block, strict=True)])
    return [] if found is None else [f"{array.path}/{name}".lstrip("/") for name in names if name not in found]


def tiles_of(array: Any) -> tuple[int, ...]:
    """Return the shape of the unit of reading: a chunk (for shards: an inner chunk)."""
    try:
        return tuple(array.chunks)
    except NotImplementedError:  # chunks of unequal lengths
        return tuple(max(lengths, default=1) for lengths in array.read_chunk_sizes)


# shapes of chunks, shards and blocks


def chunk_shape(asked: Any, axes: Sequence[str], shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Return the shape of the chunks of a new array.

    Parameters
    ----------
    asked : None, int, sequence of int, or mapping of str to int
        None for planes of at most 1024 x 1024, several together while they have less than a MiB; one length for y and
        x; a length for each axis, in order or by name (-1: the full length).
    axes : sequence of str
    shape : sequence of int
    itemsize : int
    """
    automatic = [min(n, 1024) if a in "yx" else 1 for a, n in zip(axes, shape, strict=True)]
    if not {"y", "x"} & set(axes) and shape:
        automatic[-1] = min(shape[-1], _CHUNK_BYTES // itemsize)
    for k in reversed(range(len(axes))):
        if axes[k] not in "cyx":
            automatic[k] = min(shape[k], max(1, _CHUNK_BYTES // (itemsize * max(1, math.prod(automatic)))))
    if asked is None:
        return tuple(max(1, n) for n in automatic)
    return _asked_shape("chunks", asked, axes, shape, automatic)


def shard_shape(asked: Any, axes: Sequence[str], shape: Sequence[int], chunks: Sequence[int], itemsize: int) -> Any:
    """Return the shape of the shards of a new array, multiples of its chunks; None for no shards.

    Parameters
    ----------
    asked : None, bool, or as in `chunk_shape`
        True for shards of at most 64 MiB; lengths are rounded up to multiples of chunks.
    """
    if asked is None or asked is False:
        return None
    shard = list(chunks)
    if asked is True:
        for k in reversed(range(len(shard))):
            most = _SHARD_BYTES // max(1, itemsize * math.prod(shard))
            shard[k] *= max(1, min(most, -(-shape[k] // chunks[k])))
        return tuple(shard)
    lengths = _asked_shape("shards", asked, axes, shape, shard)
    return tuple(-(-n // c) * c for n, c in zip(lengths, chunks, strict=True))


def _asked_shape(
    what: str, asked: Any, axes: Sequence[str], shape: Sequence[int], default: Sequence[int]
) -> tuple[int, ...]:
    if isinstance(asked, Mapping):
        lengths = [asked.get(a, d) for a, d in zip(axes, default, strict=True)]
    elif isinstance(asked, (int, np.integer)) and not isinstance(asked, bool):
        lengths = [asked if a in "yx" else d for a, d in zip(axes, default, strict=True)]
    elif isinstance(asked, (list, tuple)) and len(asked) == len(axes):
        lengths = list(asked)
    else:
        raise CannotWriteError(
            f"{what}={asked!r}: expected a length for each of the axes {', '.join(axes)}, in order or by name"
        )
    if bad := [
        n for n in lengths if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or (n < 1 and n != -1)
    ]:
        raise CannotWriteError(f"{what}={asked!r}: {bad[0]!r} is not a length; expected a positive number, or -1")
    return tuple(max(1, n if m == -1 else min(int(m), n)) for m, n in zip(lengths, shape, strict=True))


def block_shape(
    shape: Sequence[int],
    tiles: Sequence[int],
    unit: Sequence[int],
    itemsize: int,
    most: int = _MOST_BYTES,
    least: int = _BLOCK_BYTES,
) -> tuple[int, ...]:
    """Return the shape of the blocks in which an array is copied.

    Every block consists of complete `unit` blocks (chunks or shards of the target), so that each is written once. It
    also consists of complete `tiles` of the source, so that each is read once, unless that takes more than `most`
    bytes. It grows to about `least` bytes. Tiles that blocks cut are kept until the next blocks come to them.

    Examples
    --------
    >>> block_shape((100, 4096, 4096), (1, 512, 512), (1, 1024, 1024), 2)
    (1, 2048, 4096)
    >>> block_shape((100, 4000, 4000), (7, 4000, 4000), (1, 1000, 1000), 2, most=2**27)
    (3, 4000, 4000)
    """
    block = [min(n, math.lcm(t, u)) for n, t, u in zip(shape, tiles, unit, strict=True)]
    while math.prod(block) * itemsize > most:
        k = max(range(len(block)), key=lambda k: block[k] / unit[k])
        if block[k] <= unit[k]:
            break
        block[k] = max(unit[k], block[k] // 2 // unit[k] * unit[k])
    for k in reversed(range(len(block))):
        times = least // max(1, itemsize * math.prod(block))
        if times > 1 and block[k] < shape[k]:
            block[k] = min(shape[k], block[k] * times)
    return tuple(max(1, b) for b in block)


def block_bytes(unit: int) -> int:
    """Return how large blocks of chunks of `unit` bytes are: two of them, one that is written while the next is read,
    hold four chunks for each thread, if these are 4 to 16 MiB.

    Examples
    --------
    >>> block_bytes(2**26) == 2**24  # a block has at least one chunk
    True
    """
    return max(_LEAST_BYTES, min(_BLOCK_BYTES, _OF_A_THREAD * cpus() * unit))


def rounded_up(block: Sequence[int], unit: Sequence[int]) -> tuple[int, ...]:
    """Return a shape of blocks in complete units; the last block may lie at the end of an axis."""
    return tuple(-(-b // u) * u for b, u in zip(block, unit, strict=True))


def edges_of(shape: Sequence[int], block: Sequence[int], offset: Sequence[int] = ()) -> list[list[slice]]:
    """Return for each axis where blocks lie in `shape`, which itself begins at `offset` of the grid of the blocks.

    Examples
    --------
    >>> edges_of((7,), (5,), (3,))
    [[slice(0, 2, None), slice(2, 7, None)]]
    """
    return [
        [slice(max(a - o, 0), min(a + b - o, n)) for a in range(o // b * b, o + n, b)]
        for n, b, o in zip(shape, block, offset or (0,) * len(shape), strict=True)
    ]


def shifted(region: Region, offset: Sequence[int]) -> Region:
    """Return a region moved by `offset`; none moves nothing."""
    return tuple(slice(s.start + o, s.stop + o) for s, o in zip(region, offset, strict=True)) if offset else region


def _is_computed(pixels: Pixels) -> bool:
    """Return whether reading pixels computes more than their chunks: the borders of each block, more than once."""
    leaf = leaf_of(pixels.reader)
    if not isinstance(leaf, Dask):
        return False
    from intake_img.model.graph_layers import LazyGraph  # imports dask

    graph = leaf.array.dask
    return isinstance(graph, LazyGraph) or len(getattr(graph, "layers", ())) > _LAYERS_OF_AN_ARRAY


def write_pixels(
    array: Any,
    pixels: Pixels,
    progress: Callable[[int], None] | None = None,
    share: int = 1,
    look: Callable[[Region, np.ndarray], None] | None = None,
    offset: Sequence[int] = (),
    write: Callable[[Region, np.ndarray], None] | None = None,
) -> None:
    """Fill a Zarr array with `pixels`, block by block, reading one block ahead.

    Blocks hold about `block_bytes`, 16 MiB of pixels that are computed, divided by `share`. `look` is called with each
    region of the array and its pixels. `offset` is where in the array the pixels begin. `write` writes a block of
    complete chunks or shards; by default zarr does.
    """
    if 0 in pixels.shape:
        return
    unit = array.shards or array.chunks
    if pixels.ndim == 0:
        array[...] = pixels.read()
        return
    item = pixels.dtype.itemsize
    most = max(_MOST_BYTES, min(4 * _MOST_BYTES, math.prod(pixels.tiles) * item))  # a tile is in memory anyway
    least = (_BLOCK_BYTES if _is_computed(pixels) else block_bytes(math.prod(unit) * item)) // share
    block = block_shape(pixels.shape, pixels.tiles, unit, item, most, least)
    roomy = math.prod(block) * item <= _MOST_BYTES
    edges = edges_of(pixels.shape, rounded_up(block, unit), offset)

    root = getattr(array.store, "root", None)
    once = Once(pixels, None if root is None else str(root), _MOST_BYTES)

    def read(region: Region) -> np.ndarray:
        if once.aligned(region) or pixels.in_memory:
            if (chunk := chunk_of(pixels, region)) is not None:
                return chunk
            return pixels.select(region).read()
        out = np.empty([s.stop - s.start for s in region], pixels.dtype)
        once.read_into(region, out)
        return out

    regions = list(product(*edges))
    write = write or array.__setitem__
    with contextlib.closing(once), ThreadPoolExecutor(1, thread_name_prefix="intake_img-ahead") as pool:
        ahead = pool.submit(read, regions[0])
        for n, region in enumerate(regions):
            data, more = ahead.result(), n + 1 < len(regions)
            if more and roomy:
                ahead = pool.submit(read, regions[n + 1])
            write(shifted(region, offset), data)
            if look is not None:
                look(shifted(region, offset), data)
            if progress is not None:
                progress(data.nbytes)
            if more and not roomy:
                del data
                ahead = pool.submit(read, regions[n + 1])
    if pixels.nbytes > _GIVEN_BACK:  # the next level needs blocks of other sizes
        give_back()


# pyramids


@dataclass(frozen=True, eq=False)
class Halved:
    """Reads an array at a lower resolution: each sample is made of a block of samples of the array.

    Parameters
    ----------
    array : zarr.Array
    factors : tuple of int
        How many samples of each axis become one. What is left at the end of an axis is left out.
    labels : bool
        Take the value that a block contains most often, in place of its mean.
    """

    array: Any
    factors: tuple[int, ...]
    labels: bool

    def pixels(self) -> Pixels:
        shape = tuple(n // f for n, f in zip(self.array.shape, self.factors, strict=True))
        # the smallest number of samples that whole chunks contain: half an odd chunk would fit no other length
        tiles = tuple(math.lcm(t, f) // f for t, f in zip(tiles_of(self.array), self.factors, strict=True))
        return Pixels(self, shape, self.array.dtype, tiles)

    @property
    def stretch(self) -> int:
        """How many samples become one."""
        return math.prod(self.factors)

    @cached_property
    def files(self) -> ChunkFiles | None:
        """The chunks of the array, None if only zarr can read them."""
        from zarr import storage

        store = self.array.store
        local = type(store) is storage.LocalStore and self.array.path == ""
        return chunk_files(self.array, File.parse(str(store.root))) if local else None

    def wanted(self, region: Region) -> Region:
        """Return the part of the array to read for a region."""
        return tuple(slice(s.start * f, s.stop * f) for s, f in zip(region, self.factors, strict=True))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        wanted = self.wanted(region)
        full = np.empty(tuple(s.stop - s.start for s in wanted), out.dtype)
        if self.files is not None:
            self.files.read_into(wanted, full)
        else:
            read_array(self.array, wanted, full)
        steps = [range(f) for f in self.factors]
        parts = [
            full[tuple(slice(k, None, f) for k, f in zip(at, self.factors, strict=True))] for at in product(*steps)
        ]
        out[...] = _most_frequent(parts) if self.labels or out.dtype.kind == "b" else _mean(parts)


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    dtype = parts[0].dtype
    if dtype.kind in "iu" and dtype.itemsize < 8:
        total = np.full(parts[0].shape, len(parts) // 2, np.int32 if dtype.itemsize < 4 else np.int64)
        for part in parts:
            total += part
        total //= len(parts)  # rounded half up
        return total
    if dtype.kind in "iu":
        share = [p // len(parts) for p in parts]  # sums of 64-bit numbers would overflow
        rest = sum(p % len(parts) for p in parts)
        return np.asarray(sum(share) + (rest + len(parts) // 2) // len(parts)).astype(dtype)
    wide = np.result_type(dtype, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values, and their parts if complex
        return np.asarray(sum(p.astype(wide) / len(parts) for p in parts)).astype(dtype)


def _most_frequent(parts: Sequence[np.ndarray]) -> np.ndarray:
    best, most = parts[0].copy(), np.zeros(parts[0].shape, np.int8)
    for part in parts:
        count = sum((part == other).view(np.int8) for other in parts)
        np.copyto(best, part, where=count > most)
        np.maximum(most, count, out=most)
    return best
