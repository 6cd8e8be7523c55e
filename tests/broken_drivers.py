"""Drivers that each break one law, to see that the conformance suite notices."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.npy import NpySource


class Eager(NpySource):
    """Reads pixels to describe them."""

    def describe_image(self, handle: Any, scene: Any, level: int) -> Any:
        image = super().describe_image(handle, scene, level)
        for variable in image.variables.values():
            variable.pixels.read()
        return image


class Leaky(NpySource):
    """Opens the file once more and forgets about it."""

    @classmethod
    def open(cls, file: Any) -> Any:
        os.open(file.path, os.O_RDONLY)
        return super().open(file)


class OffByOne(NpySource):
    """Reads the first columns whatever columns are asked for."""

    @classmethod
    def read_region(cls, handle: Any, address: Any, region: Any, out: np.ndarray) -> None:
        last = slice(0, region[-1].stop - region[-1].start)
        super().read_region(handle, address, (*region[:-1], last), out)


class Greedy(NpySource):
    """Reads the whole array for any part of it."""

    @classmethod
    def read_region(cls, handle: Any, address: Any, region: Any, out: np.ndarray) -> None:
        whole = np.empty(handle.arrays[address].shape, out.dtype)
        if whole.shape != out.shape:
            cls.read_region(handle, address, tuple(slice(0, n) for n in whole.shape), whole)
            out[...] = whole[region]
        else:
            super().read_region(handle, address, region, out)


class Vague(NpySource):
    """Takes options that it does not name."""

    def __init__(self, uri: Any, **options: Any) -> None:
        super().__init__(uri, **options)


class Terse(NpySource):
    """Says nothing of its options."""


class Credulous(NpySource):
    """Takes a truncated file for a whole one."""

    @classmethod
    def read_region(cls, handle: Any, address: Any, region: Any, out: np.ndarray) -> None:
        try:
            super().read_region(handle, address, region, out)
        except FormatError:
            out[...] = 0

    @classmethod
    def open(cls, file: Any) -> Any:
        from intake_img.formats.npy import _Handle

        _Handle._check_size = lambda *_: None  # type: ignore[method-assign]
        return super().open(file)


class Crashing(NpySource):
    """Takes the process with it when the file is not as expected."""

    @classmethod
    def open(cls, file: Any) -> Any:
        try:
            return super().open(file)
        except FormatError:
            os.abort()


class Foreign(NpySource):
    """Lets errors out that are not of the family."""

    def read(self) -> Any:
        try:
            return super().read()
        except FormatError as exc:
            raise KeyError("header") from exc


class ReadOnly(NpySource):
    """Does not write, and has no sample."""

    from intake_img.formats.source import ImageSource

    write = ImageSource.write


class Heavy(NpySource):
    """Puts the pixels into the tasks."""

    def describe_image(self, handle: Any, scene: Any, level: int) -> Any:
        from dataclasses import replace

        image = super().describe_image(handle, scene, level)
        pixels = image.only.pixels
        heavy = self.pixels(_Address(pixels.reader.address), pixels.shape, pixels.dtype, pixels.tiles)
        return replace(image, variables={"image": replace(image.only, pixels=heavy)})


class _Address(str):
    ballast: bytes

    def __new__(cls, name: str) -> _Address:
        self = super().__new__(cls, name)
        self.ballast = bytes(10_000)
        return self
