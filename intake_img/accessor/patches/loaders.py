"""Loaders of patches for other libraries: torch, TensorFlow, JAX and numpy, Zarr stores and WebDataset shards.

These libraries are imported only when they are used. All loaders use the patches of the plan: a worker or rank takes a
share of the numbers, and never draws its own patches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.accessor.arguments import choice, integer
from intake_img.accessor.patches.sources import Source
from intake_img.model.packages import imported
from intake_img.model.progress_bar import meter
from intake_img.model.typed import DTypeLike, Uri

if TYPE_CHECKING:
    import jax
    import torch

__all__ = ["Arrays", "Loaders", "chosen"]


def chosen(patches: Any, variables: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the variables to load; all by default."""
    if variables is None:
        return tuple(patches.variables)
    names = (variables,) if isinstance(variables, str) else tuple(variables)
    if missing := [v for v in names if v not in patches.variables]:
        raise ValueError(
            f"variables={variables!r}: there is no {missing[0]!r}; patches have {', '.join(patches.variables)}"
        )
    if not names:
        raise ValueError("variables=[]: name at least one")
    return names


class Arrays:
    """The batches of an epoch as dictionaries; can be iterated over again, and has a length.

    Parameters
    ----------
    patches : Patches
    variables : sequence of str
    convert : callable
        Converts a numpy array to the type of the library.
    size, options
        See `Patches.batches`.
    """

    def __init__(
        self, patches: Any, variables: Sequence[str], convert: Callable[[np.ndarray], Any], size: int, **options: Any
    ) -> None:
        self.patches, self.variables, self.convert, self.size, self.options = (
            patches,
            tuple(variables),
            convert,
            size,
            options,
        )
        self._batches()

    def _batches(self) -> Any:
        return self.patches.batches(self.size, labelled=False, **self.options)

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for numbers, arrays in self._batches():
            yield {**{v: self.convert(arrays[v]) for v in self.variables}, "patch": np.asarray(numbers)}


def _caster(dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    if dtype is None:
        return lambda array: array
    wanted = np.dtype(dtype)
    return lambda array: array.astype(wanted, copy=False)


class Loaders:
    """Loaders of patches, for `Patches` to inherit."""

    plan: Any
    sources: tuple[Source, ...]
    variables: Any

    def to_numpy(
        self,
        batch_size: int,
        *,
        variables: str | Sequence[str] | None = None,
        dtype: DTypeLike | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        lookahead: int | str = "64MB",
        prefetch: int = 1,
        seed: int | None = None,
    ) -> Arrays:
        """Return batches as dictionaries of numpy arrays, ``{variable: (n, kept axes, cut axes), "patch": (n,)}``.

        Parameters
        ----------
        batch_size : int
        variables : str or sequence of str, optional
            All by default.
        dtype : dtype, optional
            Cast to it; that of the files by default.
        shuffle, drop_last, lookahead, prefetch, seed
            See `batches`.

        Returns
        -------
        Arrays
            An iterable with a length, over the epoch that was last set with `set_epoch`.
        """
        return Arrays(
            self,
            chosen(self, variables),
            _caster(dtype),
            integer("batch_size", batch_size, 1),
            shuffle=shuffle,
            drop_last=drop_last,
            lookahead=lookahead,
            prefetch=prefetch,
            seed=seed,
        )

    def to_jax(
        self,
        batch_size: int,
        *,
        variables: str | Sequence[str] | None = None,
        dtype: DTypeLike | None = None,
        device: jax.Device | jax.sharding.Sharding | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        lookahead: int | str = "64MB",
        prefetch: int = 1,
        seed: int | None = None,
    ) -> Arrays:
        """Return batches as dictionaries of JAX arrays; ``"patch"``, the numbers, stays a numpy array.

        Parameters
        ----------
        device : jax.Device or jax.sharding.Sharding, optional
            The device of the arrays.
        batch_size, variables, dtype, shuffle, drop_last, lookahead, prefetch, seed
            As in `to_numpy`. Without ``jax_enable_x64`` JAX converts 64 bits to 32.

        Raises
        ------
        MissingExtraError
            If JAX is not installed.
        """
        from intake_img.bridges.jax import putter

        put, cast = putter(device), _caster(dtype)
        return Arrays(
            self,
            chosen(self, variables),
            lambda array: put(cast(array)),
            integer("batch_size", batch_size, 1),
            shuffle=shuffle,
            drop_last=drop_last,
            lookahead=lookahead,
            prefetch=prefetch,
            seed=seed,
        )

    def to_tf(
        self,
        batch_size: int | None = None,
        *,
        variables: str | Sequence[str] | None = None,
        dtype: DTypeLike | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        lookahead: int | str = "64MB",
        prefetch: int = 1,
        seed: int | None = None,
    ) -> Any:
        """Return a `tf.data.Dataset` of dictionaries of tensors, ``"patch"`` the numbers of the patches.

        Parameters
        ----------
        batch_size : int, optional
            Patches per element; by default elements are single patches, without a patch axis.
        variables, dtype, shuffle, drop_last, lookahead, prefetch, seed
            As for `to_numpy`.

        Raises
        ------
        MissingExtraError
            If TensorFlow is not installed.
        """
        from intake_img.bridges.tensorflow import dataset

        imported("tensorflow", "tensorflow", "patches for tensorflow")
        names, size = chosen(self, variables), 64 if batch_size is None else integer("batch_size", batch_size, 1)
        batches = self.to_numpy(
            size,
            variables=names,
            dtype=dtype,
            shuffle=shuffle,
            drop_last=drop_last,
            lookahead=lookahead,
            prefetch=prefetch,
            seed=seed,
        )
        lead = () if batch_size is None else (batch_size if drop_last else None,)
        specs = {v: ((*lead, *self._varying_shape(v)), self._handed_dtype(v, dtype)) for v in names}
        count = len(self.plan) if batch_size is None else None
        return dataset(batches, {"patch": (lead, np.dtype("int64")), **specs}, count)

    def _varying_shape(self, variable: str) -> tuple[int | None, ...]:
        """Shape of a patch of a variable; lengths that differ between patches are None."""
        layer = self.sources[0].layers[variable]
        partial = not (self.plan.shape == np.asarray(self.plan.size)).all()
        kept = len(layer.kept)
        return (*layer.patch_shape[:kept], *([None] * len(layer.cut) if partial else layer.patch_shape[kept:]))

    def _handed_dtype(self, variable: str, dtype: Any) -> np.dtype:
        return np.dtype(dtype or self.sources[0].layers[variable].pixels.dtype)

    def to_torch(
        self,
        style: str = "map",
        *,
        variables: str | Sequence[str] | None = None,
        dtype: DTypeLike | torch.dtype | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        lookahead: int | str = "64MB",
        rank: int | None = None,
        world: int | None = None,
        even: bool = False,
    ) -> Any:
        """Return a `torch.utils.data.Dataset` of dictionaries of tensors, ``"patch"`` the number of the patch.

        Its method ``loader(batch_size=..., num_workers=..., ...)`` makes a `DataLoader` of it that collates without
        copying; ``set_epoch(n)`` draws the patches of another epoch, also in persistent workers. Workers may be forked
        or spawned; each gets a share of the plan, so that together they yield the same patches for any number of
        workers.

        Parameters
        ----------
        style : {"map", "iterable"}
            ``"map"``: a Dataset with a length and indices, for samplers of torch (`DistributedSampler`);
            ``"iterable"``: reads windows of many patches, so that each tile of a file is decoded once for each window,
            and divides the patches between ranks and workers itself.
        variables : str or sequence of str, optional
            All by default.
        dtype : dtype or torch.dtype, optional
            Cast to it; that of the files by default.
        transform : callable, optional
            Called with the dictionary of each patch; the results are collated.
        batch_size : int, optional
            For ``"iterable"``: elements are batches of this size; by default single patches.
        shuffle, drop_last, lookahead
            For ``"iterable"``: see `batches`.
        rank, world : int, optional
            For ``"iterable"``: the rank and the number of ranks; by default from `torch.distributed`, if it is
            initialised.
        even : bool
            For ``"iterable"``: give each rank the same number of patches, by repeating some.

        Raises
        ------
        MissingExtraError
            If torch is not installed.
        """
        imported("torch", "torch", "patches for torch")
        from intake_img.bridges import torch as torch_data

        choice("style", style, ("map", "iterable"))
        given = {
            "batch_size": batch_size,
            "shuffle": shuffle or None,
            "drop_last": drop_last or None,
            "rank": rank,
            "world": world,
            "even": even or None,
        }
        if style == "map" and (extra := [k for k, v in given.items() if v is not None]):
            raise ValueError(
                f"{extra[0]}={given[extra[0]]!r} is for style='iterable'; with style='map' it is the DataLoader's or "
                "its sampler's"
            )
        common: dict[str, Any] = {
            "variables": chosen(self, variables),
            "dtype": torch_data.numpy_dtype(dtype),
            "transform": transform,
        }
        if style == "map":
            return torch_data.mapped(self, **common)
        if (rank is None) != (world is None):
            raise ValueError(f"rank={rank!r}, world={world!r}: give both, or none")
        if world is not None and not 0 <= integer("rank", rank) < integer("world", world, 1):
            raise ValueError(f"rank={rank}: expected a number below world={world}")
        size = None if batch_size is None else integer("batch_size", batch_size, 1)
        return torch_data.iterable(
            self,
            **common,
            size=size,
            shuffle=bool(shuffle),
            drop_last=bool(drop_last),
            lookahead=lookahead,
            place=None if rank is None or world is None else (rank, world),
            even=bool(even),
        )

    def to_zarr(
        self,
        path: Uri,
        *,
        variables: str | Sequence[str] | None = None,
        chunk: int | None = None,
        compress: bool | str | None = None,
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> str:
        """Write the patches into a Zarr group: an array (patch, kept axes, cut axes) for each variable, and the table.

        `xarray.open_zarr` and `intake_img.imload` open it, with the columns of `table` as coordinates along ``patch``.

        Parameters
        ----------
        path : str or os.PathLike
            Local folder or URL.
        variables : str or sequence of str, optional
            All by default.
        chunk : int, optional
            Patches per chunk; by default a MiB of patches.
        compress : bool or str, optional
            As for OME-Zarr: see `intake_img.imsave`.
        overwrite : bool
            Replace an existing store when the new one is complete.
        progress : bool, optional
            Show a progress bar.

        Returns
        -------
        str
            The path.
        """
        from intake_img.accessor.patches.export import write_zarr

        return write_zarr(self, path, chosen(self, variables), chunk, compress, overwrite, progress)

    def to_webdataset(
        self,
        pattern: Uri,
        samples: int = 1000,
        *,
        variables: str | Sequence[str] | None = None,
        shuffle: bool = False,
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> list[str]:
        """Write the patches into tar files for the `webdataset` package, which is not needed for writing.

        Each sample is ``<number>.<variable>.npy`` for each variable, and ``<number>.json``, its row of `table`.

        Parameters
        ----------
        pattern : str or os.PathLike
            Local paths with a field for the number in the file name, ``"train-%06d.tar"``.
        samples : int
            Patches per file.
        variables : str or sequence of str, optional
            All by default.
        shuffle : bool
            Write them in the random order of the epoch.
        overwrite : bool
            Replace all files of this pattern when the new ones are complete.
        progress : bool, optional
            Show a progress bar.

        Returns
        -------
        list of str
            The files.
        """
        from intake_img.bridges.webdataset import write_shards

        many, names = integer("samples", samples, 1), chosen(self, variables)
        with meter(progress, len(self.plan), f"saving {os.path.basename(os.fspath(pattern))}", "patch") as step:
            return write_shards(self, pattern, many, names, shuffle, overwrite, step)
