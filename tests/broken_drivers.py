"""Formats that each break one law, to see that the conformance suite notices."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.format_source import source_of
from intake_img.formats.npy.driver import Npy
from intake_img.formats.npy.handle import NpyHandle
from intake_img.plugin import Format, StoredArray


class _Reading(Npy):
    """Npy with another handle."""

    kind: type[NpyHandle] = NpyHandle

    def open(self, file: Any, options: Any) -> Any:
        return self.kind(file)


class _EagerHandle(NpyHandle):
    def describe(self, scene: Any, level: int) -> Any:
        image = super().describe(scene, level)
        for variable in image.variables.values():
            variable.pixels.read()
        return image


class _Eager(_Reading):
    """Reads pixels to describe them."""

    kind = _EagerHandle


class _Leaky(Npy):
    """Opens the file once more and forgets about it."""

    def open(self, file: Any, options: Any) -> Any:
        os.open(file.path, os.O_RDONLY)
        return super().open(file, options)


class _Wrapped(StoredArray):
    """An array that asks another one."""

    def __init__(self, inner: StoredArray) -> None:
        self.inner = inner
        self.shape, self.dtype, self.tiles = inner.shape, inner.dtype, inner.tiles


class _FirstColumns(_Wrapped):
    def read_into(self, region: Any, out: np.ndarray) -> None:
        last = slice(0, region[-1].stop - region[-1].start)
        self.inner.read_into((*region[:-1], last), out)


class _OffByOneHandle(NpyHandle):
    def array(self, address: str) -> StoredArray:
        return _FirstColumns(super().array(address))


class _OffByOne(_Reading):
    """Reads the first columns whatever columns are asked for."""

    kind = _OffByOneHandle


class _GreedyHandle(NpyHandle):
    def describe(self, scene: Any, level: int) -> Any:
        image = super().describe(scene, level)
        pixels = replace(image.only.pixels, reader=_GreedyReader(image.only.pixels))
        return replace(image, variables={"image": replace(image.only, pixels=pixels)})


class _GreedyReader:
    def __init__(self, pixels: Any) -> None:
        self.pixels = pixels

    def read_into(self, region: Any, out: np.ndarray) -> None:
        whole = np.empty(self.pixels.shape, self.pixels.dtype)
        self.pixels.read_into(tuple(slice(0, n) for n in whole.shape), whole)
        out[...] = whole[region]


class _Greedy(_Reading):
    """Reads the whole array for any part of it."""

    kind = _GreedyHandle


class _Credulous(_Reading):
    """Takes a truncated file for a whole one."""

    def open(self, file: Any, options: Any) -> Any:
        NpyHandle._check_size = lambda *_: None  # type: ignore[method-assign]
        return _CredulousHandle(file)


class _Blank(_Wrapped):
    def read_into(self, region: Any, out: np.ndarray) -> None:
        try:
            self.inner.read_into(region, out)
        except FormatError:
            out[...] = 0


class _CredulousHandle(NpyHandle):
    def array(self, address: str) -> StoredArray:
        return _Blank(super().array(address))


class _Crashing(Npy):
    """Takes the process with it when the file is not as expected."""

    def open(self, file: Any, options: Any) -> Any:
        try:
            return super().open(file, options)
        except FormatError:
            os.abort()


class _ReadOnly(Npy):
    """Does not write, and has no sample."""

    write = Format.write


class _Address(str):
    ballast: bytes

    def __new__(cls, name: str) -> _Address:
        self = super().__new__(cls, name)
        self.ballast = bytes(10_000)
        return self


class _HeavyHandle(NpyHandle):
    def pixels(self, address: Any = None) -> Any:
        return super().pixels(_Address(address))


class _Heavy(_Reading):
    """Puts the pixels into the tasks."""

    kind = _HeavyHandle


class _Plain(Npy):
    """Image in a ``.npy`` or ``.npz`` file."""


def _named(format: Format) -> Any:
    cls = source_of(format)
    cls.__name__ = cls.__qualname__ = type(format).__name__.removeprefix("_")
    return cls


Eager, Leaky, OffByOne = _named(_Eager()), _named(_Leaky()), _named(_OffByOne())
Greedy, Credulous, Crashing = _named(_Greedy()), _named(_Credulous()), _named(_Crashing())
ReadOnly, Heavy, Npy_ = _named(_ReadOnly()), _named(_Heavy()), _named(_Plain())


class Vague(Npy_):
    """Takes options that it does not name."""

    __signature__ = None  # that of the constructor: any


class Terse(Npy_):
    """Says nothing of its options."""


class Foreign(Npy_):
    """Lets errors out that are not of the family."""

    def read(self) -> Any:
        try:
            return super().read()
        except FormatError as exc:
            raise KeyError("header") from exc
