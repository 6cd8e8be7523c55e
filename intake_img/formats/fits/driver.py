"""The format ``fits``: images in FITS files, each a scene; those in compressed tiles by astropy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.base import Format, Handle, StoredArray
from intake_img.formats.compression import level_of_name
from intake_img.formats.fits.describe import image_of, names_of, type_of, values_of
from intake_img.formats.fits.header import BLOCK, Hdu, hdus
from intake_img.formats.fits.write import header_bytes, stored_bytes
from intake_img.formats.format_source import source_of
from intake_img.formats.options import ScaledOption
from intake_img.formats.probe import Probe
from intake_img.formats.volumes import packing, stored_array, unpacked
from intake_img.model.chunks import Region
from intake_img.model.image import Image
from intake_img.model.packages import imported
from intake_img.storage.files import File
from intake_img.storage.inflated import Inflated

__all__ = ["Fits", "FitsSource"]


class _Turned(StoredArray):
    """Integers whose first bit is stored the other way round."""

    def __init__(self, stored: StoredArray) -> None:
        self.stored, self.shape, self.tiles, self.decodes = stored, stored.shape, stored.tiles, stored.decodes
        kind = "u" if stored.dtype.kind == "i" else "i"
        self.dtype = np.dtype(f"{kind}{stored.dtype.itemsize}")

    def read_into(self, region: Region, out: np.ndarray) -> None:
        numbers = out.view(self.stored.dtype)
        self.stored.read_into(region, numbers)
        bits = out.view(f"u{out.itemsize}")
        np.bitwise_xor(bits, bits.dtype.type(1 << 8 * out.itemsize - 1), out=bits)


class _Tiles(StoredArray):
    """An image in compressed tiles, which astropy decodes in one thread at a time."""

    def __init__(self, hdu: Any, cards: Any, lock: threading.Lock) -> None:
        self.section, self.lock = hdu.section, lock
        self.shape = tuple(hdu.shape)
        with lock:  # what scaling makes of the numbers shows a pixel
            first = np.asarray(self.section[tuple(slice(0, 1) for _ in self.shape)])
        self.dtype = first.dtype.newbyteorder("=")
        ndim = len(self.shape)
        self.tiles = tuple(int(cards.get(f"ZTILE{n}", self.shape[-n] if n == 1 else 1)) for n in range(ndim, 0, -1))

    def read_into(self, region: Region, out: np.ndarray) -> None:
        with self.lock:
            out[...] = self.section[region]


class _FitsHandle(Handle):
    def __init__(self, file: File, scaled: bool) -> None:
        self.scaled = scaled
        self.source = unpacked(file.open())
        self.images = [h for h in hdus(self.source) if h.is_image]
        if not self.images:
            raise FormatError(f"{file} contains no image: its FITS headers have tables or nothing")
        self._arrays: dict[int, StoredArray] = {}
        self._astropy: Any = None
        self._lock = threading.Lock()

    @property
    def scene_names(self) -> Sequence[str]:
        return names_of(self.images)

    def describe(self, scene: int | str, level: int) -> Image:
        hdu, names = self.images[int(scene)], names_of(self.images)
        pixels = self.pixels(int(scene))
        if self.scaled and not hdu.packed:
            pixels = values_of(pixels, hdu.cards)
        return image_of(pixels, hdu, names[int(scene)], names)

    def array(self, address: int) -> StoredArray:
        if address not in self._arrays:
            self._arrays[address] = self._made(address)
        return self._arrays[address]

    def _made(self, address: int) -> StoredArray:
        hdu = self.images[address]
        if hdu.packed:
            return _Tiles(self._opened(hdu), hdu.cards, self._lock)
        dtype, turned = type_of(hdu.cards)
        cut = not isinstance(self.source, Inflated) and hdu.offset + hdu.nbytes > self.source.size
        stored = stored_array(self.source, hdu.offset, dtype, hdu.shape, alone=cut)
        return _Turned(stored) if turned else stored

    def _opened(self, hdu: Hdu) -> Any:
        fits = imported("astropy.io.fits", "fits", "reading FITS images in compressed tiles")
        with self._lock:
            if self._astropy is None:
                options = {} if self.scaled else {"do_not_scale_image_data": True}
                stream = self.source.stream()
                try:
                    self._astropy = fits.open(stream, memmap=False, **options)
                except BaseException:
                    stream.close()
                    raise
            return self._astropy[hdu.number]

    def close(self) -> None:
        if self._astropy is not None:
            self._astropy.close()
        self.source.close()


class Fits(Format):
    """Image in a FITS file."""

    name = "fits"
    title = "FITS"
    private = "^(?:PI_?NAME|PR_?INV|OBSERVER$|IRAFNAME$)"  # and principal investigators
    extensions = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz")
    only_read = (".fits.fz",)
    starts = (b"SIMPLE  = ", b"\x1f\x8b", b"BZh")
    has_scenes = True
    options = ScaledOption
    extras = {"fits": "images in compressed tiles"}

    def claims(self, probe: Probe) -> int:
        return 2 * (probe.inner or probe.head).startswith(b"SIMPLE  = ")

    def open(self, file: File, options: ScaledOption) -> Handle:
        return _FitsHandle(file, options.scaled)

    def write(
        self,
        image: Image,
        path: str,
        *,
        compress: bool | int | None = None,
        progress: Callable[[int], None] | None = None,
        name: str = ".fits",
    ) -> None:
        """Write one image, the primary one of the file.

        Parameters
        ----------
        image, path, compress, progress
            See `Format.write`. `compress` is gzip's level, 1 to 9, only for ``.fits.gz``.
        name : str
            Name of the target: ``.fits`` or ``.fits.gz``.
        """
        method, level = level_of_name(compress, name, {".gz": "gzip"}, 1)
        pixels, head = header_bytes(image)
        with packing(path, method, level) as stream:
            stream.write(head)
            count = 0
            for data in stored_bytes(pixels):
                stream.write(data)
                count += len(data)
                if progress is not None:
                    progress(len(data))
            stream.write(bytes(-count % BLOCK))

    def sample(self, folder: str) -> tuple[str, Any]:
        import xarray as xr

        cards = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    3"]
        cards += [f"NAXIS{n}  = {size:20}" for n, size in ((1, 4), (2, 3), (3, 2))]
        cards += ["BSCALE  =                  0.5", "BZERO   =                    3", "CTYPE3  = 'WAVE    '"]
        cards += ["CDELT3  =                 10.0", "CUNIT3  = 'nm      '", "CRVAL3  =                500.0", "END"]
        values = np.arange(24, dtype=">i2").reshape(2, 3, 4)
        text = "".join(card.ljust(80) for card in cards).ljust(BLOCK).encode()
        with open(f"{folder}/a.fits", "wb") as stream:
            stream.write(text + values.tobytes().ljust(BLOCK, b"\0"))
        coords = {"l": ("l", [500.0, 510.0], {"units": "nm", "spacing": 10.0})}
        return f"{folder}/a.fits", xr.Dataset({"image": (tuple("lyx"), values.astype("f4") * 0.5 + 3)}, coords)


FitsSource = source_of(Fits())
