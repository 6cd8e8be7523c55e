"""The validated ``info`` file of a volume: its scales and their properties.

Specification: ``src/datasource/precomputed/volume.md`` of https://github.com/google/neuroglancer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_img.errors import FormatError
from intake_img.formats.chunked import positive
from intake_img.formats.precomputed.codecs import ENCODINGS

__all__ = ["DTYPES", "Scale", "VolumeInfo", "is_info"]

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32")


def is_info(found: Mapping[str, Any] | None) -> bool:
    """Return whether a JSON object is the info of a volume; those of meshes and skeletons have no scales."""
    return found is not None and isinstance(found.get("scales"), list) and "data_type" in found


@dataclass(frozen=True)
class Scale:
    """A level of the pyramid; all lengths are in the order x, y, z."""

    key: str
    size: tuple[int, ...]
    chunk: tuple[int, ...]
    offset: tuple[int, ...]
    resolution: tuple[float, ...]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class VolumeInfo:
    """What the info of a volume says."""

    labels: bool
    dtype: np.dtype
    channels: int
    scales: tuple[Scale, ...]

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> VolumeInfo:
        """Return what an info says, or raise `FormatError`."""
        if info.get("data_type") not in DTYPES:
            raise FormatError(f"data_type is {info.get('data_type')!r:.80}: expected {', '.join(DTYPES)}")
        channels = info.get("num_channels", 1)
        if type(channels) is not int or not 0 < channels < 2**16:
            raise FormatError(f"num_channels is {channels!r:.80}: expected a positive number")
        scales = tuple(_scale(s) for s in info["scales"])
        if not scales:
            raise FormatError("there are no scales: the volume is empty")
        return cls(info.get("type") == "segmentation", np.dtype(info["data_type"]), channels, scales)

    def sealed_facts(self) -> list[Any]:
        """Return what other programs may change of the full resolution."""
        return [self.labels, self.scales[0].resolution, self.scales[0].offset]


def _scale(about: Any) -> Scale:
    if not isinstance(about, dict):
        raise FormatError("a scale is not a JSON object: the info is damaged")
    key = about.get("key")
    if not isinstance(key, str) or not key or "://" in key or key.startswith("/") or ".." in key.split("/"):
        raise FormatError(f"the key of a scale is {key!r:.80}: expected a path inside the volume")
    if about.get("encoding") not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise FormatError(f"scale {key!r}: encoding {about.get('encoding')!r:.80} is not known; known are {known}")
    chunks = about.get("chunk_sizes")
    lengths = {
        "size": positive(about.get("size"), f"scale {key!r}: size"),
        "chunk": positive(chunks[0] if isinstance(chunks, list) and chunks else None, f"scale {key!r}: chunk_sizes"),
        "offset": positive(about.get("voxel_offset", [0, 0, 0]), f"scale {key!r}: voxel_offset", -(2**48)),
    }
    if about["encoding"] == "compressed_segmentation":
        block = about.get("compressed_segmentation_block_size")
        lengths["block"] = positive(block, f"scale {key!r}: compressed_segmentation_block_size")
    if any(len(n) != 3 for n in lengths.values()):
        raise FormatError(f"scale {key!r}: size, chunk_sizes and voxel_offset need three numbers each: x, y, z")
    lengths.pop("block", None)
    return Scale(key, **lengths, resolution=_resolution(about.get("resolution")), about=about)


def _resolution(value: Any) -> tuple[float, ...]:
    good = isinstance(value, list) and len(value) == 3 and all(type(n) in (int, float) for n in value)
    return tuple(float(n) if math.isfinite(n) and n > 0 else 0.0 for n in value) if good else (0.0, 0.0, 0.0)
