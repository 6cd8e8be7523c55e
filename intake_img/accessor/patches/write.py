"""Writing results of patches back onto the grid of their sources: `map` calls a model, `stitch` takes predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_img.accessor.arguments import integer
from intake_img.accessor.patches.feeds import Given, Mapped
from intake_img.accessor.patches.models import fingerprint, working
from intake_img.accessor.patches.results import Options, written
from intake_img.accessor.patches.sources import Source
from intake_img.model.typed import DTypeLike, Uri

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["WriteBack"]


class WriteBack:
    """Methods for writing results back; `Patches` inherits them."""

    plan: Any  # a property of the subclass
    sources: tuple[Source, ...]

    def map(
        self,
        model: Callable[..., Any],
        *,
        blend: str = "crop",
        store: Uri | None = None,
        resume: bool = False,
        overwrite: bool = False,
        variables: str | Sequence[str] | None = None,
        batch_size: int = 32,
        dtype: DTypeLike | None = None,
        channels: int | Sequence[str] | None = None,
        output_axes: str | Sequence[str] | None = None,
        input_dtype: DTypeLike | None = None,
        name: str = "image",
        kind: str | None = None,
        fill_value: float = 0,
        chunks: int | Sequence[int] | Mapping[str, int] | None = None,
        shards: int | Sequence[int] | Mapping[str, int] | None = None,
        compress: bool | str | None = None,
        model_id: str | None = None,
        memory: int | str = "1GB",
        lookahead: int | str = "64MB",
        progress: bool | None = None,
        client: Client | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a model on every patch and write its predictions back onto the grid of the image.

        Patches are read once, a window ahead, and predicted once, in batches; meanwhile complete blocks of the result
        are written, each by one task. With a `store` a killed run can be resumed: written blocks are kept, and
        ``resume=True`` predicts only the missing ones.

        Parameters
        ----------
        model : callable
            Gets a batch, an array (patch, kept axes such as c, axes with a size), and returns one with the same patches
            and sizes; the axes in between may differ. Several `variables` come as several arguments. A torch or Keras
            model gets tensors of the dtype of its weights, in evaluation mode and without gradients. What it makes of
            a patch must not depend on the others in the batch.
        blend : {"crop", "mean", "hann", "gaussian", "max", "vote"}
            How overlapping patches are blended: ``"crop"`` takes every pixel from the patch whose core contains it
            (``plan.core_start``; if several cores of random patches do, from the last); ``"mean"`` and the windows
            ``"hann"`` and ``"gaussian"`` (standard deviation an eighth of the patch) take means in float64, rounded
            before they are cast to integers; ``"max"``; ``"vote"`` takes the most frequent label, among equally
            frequent labels the smallest. Where patches agree, the result is their value, bit for bit. A `halo` is cut
            off first.
        store : str or os.PathLike, optional
            Folder or URL (``s3://...``) to write an OME-Zarr 0.5 store into; in memory by default. Several sources
            become its images, named by their number, file and scene. Until it is complete, it is written to
            ``.<name>.partial`` beside the target or, on servers, to a hidden prefix from which it is copied on the
            server. Servers have no locks: only one process at a time may write a result there.
        resume : bool
            Continue an unfinished store of the same patches, model and options; if it is complete, return it.
        overwrite : bool
            Replace a finished store when the new one is complete, or an unfinished one now. Together with `resume`,
            continue an interrupted replacement.
        variables : str or sequence of str, optional
            The inputs of the model; by default the first variable.
        batch_size : int
            The largest number of patches for each call.
        dtype : dtype, optional
            Dtype of the result; by default that of the first batch. Floats are converted to integers by rounding half
            to even and clipping to the range of the dtype.
        channels : int or sequence of str, optional
            Number or names of the channels of the predictions.
        output_axes : str or sequence of str, optional
            Names of the axes of a prediction before the sized ones, if they differ from the axes of the patch.
        input_dtype : dtype, optional
            Cast batches to this dtype for the model.
        name : str
            Name of the variable.
        kind : {None, "labels"}
            ``"labels"``: the result is a label image, as it always is if `blend` is ``"vote"``.
        fill_value : scalar
            Value of pixels that no patch covers.
        chunks, shards, compress
            Layout of the store, as in `intake_img.imsave` for OME-Zarr. By default chunks are 1024 x 1024, or 64 x 128
            x 128 for volumes.
        model_id : str, optional
            Identifies the model when a run is resumed. By default the identity is computed from the weights of a torch
            or Keras model, or from the code of a function and the plain values it uses.
        memory : int or str
            Bytes of predictions in memory that wait for their neighbours; further predictions are put into temporary
            files.
        lookahead : int or str
            Patches, or bytes such as ``"64MB"``, that are read together; two such windows are in memory.
        progress : bool, optional
            Show a progress bar; by default only for long work in a terminal.
        client : distributed.Client, optional
            The cluster; by default the current one if there is one, else the threads of this process. Its workers must
            see the store at the same path.
        storage_options : mapping, optional
            Options of the fsspec file system of a `store` on a server.

        Returns
        -------
        xarray.Dataset, or list of these for several sources
            On the grid of the source, with its coordinates; lazy if there is a `store`.

        Raises
        ------
        FileExistsError
            If the store exists and neither `resume` nor `overwrite` allows it.
        ValueError
            If the store contains another result, or predictions do not fit.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import intake_img
        >>> image = xr.DataArray(np.arange(100.0).reshape(10, 10), dims=["y", "x"])
        >>> out = image.img.patches(dict(y=4, x=4), overlap=2).map(lambda batch: batch + 1, blend="hann")
        >>> bool((out["image"] == image + 1).all())
        True
        """
        options = Options(
            blend,
            store,
            resume,
            overwrite,
            dtype,
            channels,
            output_axes,
            name,
            kind,
            fill_value,
            chunks,
            shards,
            compress,
            memory,
            progress,
            storage_options,
        ).checked()
        names = self._mapped_variables(variables)
        size = integer("batch_size", batch_size, 1)
        work = Mapped(self, names, model, input_dtype, size, lookahead)
        cast = None if input_dtype is None else str(np.dtype(input_dtype))
        facts = {"model": fingerprint(model, model_id), "variables": names, "input_dtype": cast, **options.facts}
        with working(model):
            return written(self, options, facts, work, _client(client))

    def stitch(
        self,
        arrays: Any,
        *,
        blend: str = "crop",
        patches: Sequence[int] | np.ndarray | None = None,
        store: Uri | None = None,
        overwrite: bool = False,
        dtype: DTypeLike | None = None,
        channels: int | Sequence[str] | None = None,
        output_axes: str | Sequence[str] | None = None,
        name: str = "image",
        kind: str | None = None,
        fill_value: float = 0,
        chunks: int | Sequence[int] | Mapping[str, int] | None = None,
        shards: int | Sequence[int] | Mapping[str, int] | None = None,
        compress: bool | str | None = None,
        memory: int | str = "1GB",
        progress: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Write existing predictions back onto the grid of the image.

        Parameters
        ----------
        arrays : array of shape ``(n, ..., *size)``, or iterable of batches of these
            A prediction for each patch, in the order of the plan. An array may be lazy (Zarr, dask): it is read in
            parts. Batches may be tensors.
        patches : sequence of int, optional
            The numbers of the patches of `arrays`; all by default. Pixels that no patch covers are `fill_value`.
        blend, store, overwrite, dtype, channels, output_axes, name, kind, fill_value
            As for `map`.
        chunks, shards, compress, memory, progress, storage_options
            As for `map`.

        Returns
        -------
        xarray.Dataset, or list of these for several sources

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> import intake_img
        >>> image = xr.DataArray(np.arange(100).reshape(10, 10), dims=["y", "x"])
        >>> p = image.img.patches(dict(y=4, x=4))
        >>> bool((p.stitch(p.read(range(len(p))))["image"] == image).all())
        True
        """
        options = Options(
            blend,
            store,
            False,
            overwrite,
            dtype,
            channels,
            output_axes,
            name,
            kind,
            fill_value,
            chunks,
            shards,
            compress,
            memory,
            progress,
            storage_options,
        ).checked()
        which = np.arange(len(self.plan)) if patches is None else np.asarray(patches)
        which = np.flatnonzero(which) if which.dtype.kind == "b" else which.astype(np.int64)
        if len(np.unique(which)) != len(which) or (len(which) and not 0 <= which.min() <= which.max() < len(self.plan)):
            raise ValueError(f"patches= must name distinct patches, from 0 to {len(self.plan) - 1}")
        return written(self, options, {"model": "stitch", **options.facts}, Given(self, arrays, which), None)

    def _mapped_variables(self, variables: str | Sequence[str] | None) -> list[str]:
        known = self.sources[0].variables
        names = [known[0]] if variables is None else [variables] if isinstance(variables, str) else list(variables)
        if missing := [v for v in names if v not in known]:
            raise ValueError(f"variables={variables!r}: there is no {missing[0]!r}; patches have {', '.join(known)}")
        if not names:
            raise ValueError("variables=[]: name at least one")
        return names


def _client(client: Any) -> Any:
    """Return the given or the current client of a cluster, None if there is none."""
    import sys

    if client is not None or "distributed" not in sys.modules:
        return client
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None
