"""`Patches`: a plan over sources, indexed like a sequence; every patch is a labelled Dataset, or a plain array."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from intake_img.accessor.arguments import choice, integer, number
from intake_img.accessor.patches import display
from intake_img.accessor.patches.batches import Batches, Buffers
from intake_img.accessor.patches.choosing import covered, foreground, passing
from intake_img.accessor.patches.cutting import Padding, Reading
from intake_img.accessor.patches.filters import Filter
from intake_img.accessor.patches.labels import as_dataset, one
from intake_img.accessor.patches.loaders import Loaders
from intake_img.accessor.patches.plan import Plan
from intake_img.accessor.patches.plan_table import as_table, read_table, sizes_of
from intake_img.accessor.patches.sampling import SamplingRule, draw
from intake_img.accessor.patches.sources import Layer, Source
from intake_img.accessor.patches.specification import Recipe, Specification
from intake_img.accessor.patches.split import Region, split_blocks, split_places
from intake_img.accessor.patches.write import WriteBack
from intake_img.kernels.sampling import running_sums
from intake_img.model.typed import AxisKey, Lengths, Uri

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["Patches"]


class Patches(Loaders, WriteBack):
    """Patches of images: a sequence of labelled Datasets that are read on access.

    Made by `intake_img.patches` and ``ds.img.patches``. Making it, ``len``, `table` and `split` read no pixels, unless
    patches are chosen by values: a map of weights, a mask, labels, or filters are read when the plan is first used.

    Parameters
    ----------
    sources : sequence of Source
    rule : SamplingRule
    padding : Padding
    where : sequence of Filter
        Filters on pixels.
    cover : sequence of Layer, optional
        A mask for each source; it must cover at least the share `min_coverage` of a patch.
    min_coverage : float
    """

    def __init__(
        self,
        sources: Sequence[Source],
        rule: SamplingRule,
        padding: Padding,
        where: Sequence[Filter] = (),
        cover: Sequence[Layer] | None = None,
        min_coverage: float = 0.0,
    ) -> None:
        self.sources = tuple(sources)
        self.rule, self.padding, self.where = rule, padding, tuple(where)
        self.cover, self.min_coverage = None if cover is None else tuple(cover), min_coverage
        self.epoch = 0
        self._region: Region | None = None
        self._shard: tuple[int, int] | None = None
        self._rows: np.ndarray | None = None
        self._renew()

    @classmethod
    def of(cls, recipe: Recipe) -> Patches:
        """Return the patches of a validated recipe."""
        made = cls(recipe.sources, recipe.rule, recipe.padding, recipe.where, recipe.cover, recipe.min_coverage)
        for f in made.where:
            made._layer(f.variable)
        return made

    def _renew(self) -> None:
        self._plan: Plan | None = None
        self._tables: list[np.ndarray] | None = None
        self._readings: dict[str, Reading] = {}
        self._buffers = Buffers(1)

    def _changed(self, **changes: Any) -> Patches:
        """Return the same patches with some attributes changed; maps and tiles that were read are shared."""
        new = copy.copy(self)
        new.__dict__.update(changes)
        new._plan = None
        return new

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_tables", "_readings", "_buffers")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._renew()
        self.__dict__.update(state)

    # what there is

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes along which patches have a size."""
        return self.rule.axes

    @property
    def over(self) -> tuple[str, ...]:
        """Axes that are iterated over."""
        return self.rule.over

    @property
    def size(self) -> dict[str, int]:
        """Pixels of a patch along each cut axis, with its halo."""
        return dict(zip(self.rule.axes, self.rule.full, strict=True))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables of a patch, the reference first."""
        return self.sources[0].variables

    def dims(self, variable: str | None = None) -> tuple[str, ...]:
        """Axes of patches of a variable: ``patch``, the kept axes, the cut axes."""
        return ("patch", *self._layer(variable).patch_dims)

    def dtype(self, variable: str | None = None) -> np.dtype:
        """Dtype of a variable, as in the files."""
        return self._layer(variable).pixels.dtype

    def shape(self, variable: str | None = None) -> tuple[int, ...]:
        """Shape of one patch of a variable."""
        return self._layer(variable).patch_shape

    @property
    def patch_nbytes(self) -> int:
        """Bytes of one patch, all variables together."""
        return sum(math.prod(self.shape(v)) * self.dtype(v).itemsize for v in self.variables)

    def _layer(self, variable: str | None) -> Layer:
        if variable is None:
            return self.sources[0].reference
        if variable not in self.variables:
            raise ValueError(f"variable={variable!r}: patches have {', '.join(map(repr, self.variables))}")
        return self.sources[0].layers[variable]

    @property
    def known(self) -> bool:
        """Whether the plan exists, or can be drawn without reading pixels."""
        return self._plan is not None or not (self.where or self.cover or self.rule.weights)

    def __repr__(self) -> str:
        return display.as_text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self)

    def plot(
        self,
        *,
        source: int = 0,
        projection: str | None = None,
        most: int = 2000,
        image: bool = True,
        core: bool = False,
        ax: Axes | None = None,
        **indexers: int,
    ) -> Any:
        """Draw the positions of patches, over one plane of the image or a projection along ``z``.

        Powered by matplotlib. Only the shown plane is read.

        Parameters
        ----------
        source : int
            Number of the source.
        projection : {"max", "min", "mean", "sum"}, optional
            Project along ``z`` instead of showing the plane in the middle.
        most : int
            The largest number of patches to draw.
        image : bool
            Draw the image (its first channel); False draws only the boxes and reads nothing.
        core : bool
            Draw the core of each patch, the part that is written back, instead of the complete patch.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.
        **indexers : int
            Index along the axes that are iterated over; 0 by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return display.plot(self, source, projection, integer("most", most, 1), image, core, ax, **indexers)

    # the plan

    @property
    def plan(self) -> Plan:
        """The plan: the positions of the patches of this epoch."""
        if self._plan is None:
            accept = self._accept if self._choosy else None
            plan = draw(self.rule, self.sources, self.epoch, accept)
            if self._rows is not None:
                plan = plan.take(self._rows)
            if not len(plan) and self._rows is None:
                raise ValueError(self._nothing_left())
            if self._shard is not None:
                plan = plan.take(slice(self._shard[0], None, self._shard[1]))
            self._plan = plan
        return self._plan

    def _nothing_left(self) -> str:
        reasons = [repr(f) for f in self.where]
        reasons += [f"min_coverage={self.min_coverage:g} of the mask"] if self.cover is not None else []
        reasons += ["this part of the split (take smaller blocks or patches)"] if self._region is not None else []
        reasons += [f"edge={'/'.join(dict.fromkeys(self.rule.edge))!r} with size {self.size}"] * (not reasons)
        return f"no patch is left: nothing passes {' and '.join(reasons)}"

    @property
    def _choosy(self) -> bool:
        return bool(self.where) or self.cover is not None or self._region is not None

    @property
    def _lengths(self) -> np.ndarray:
        return np.array([[s.sizes[a] for a in self.axes] for s in self.sources], np.int64)

    def _accept(self, plan: Plan) -> np.ndarray:
        """Whether each patch lies in the region, on the mask, and passes the filters."""
        good = np.ones(len(plan), bool)
        if self._region is not None:
            good = self._region.accept(plan, self._lengths)
        if self.cover is not None and good.any():
            rows = np.flatnonzero(good)
            good[rows] = self._covered(plan.take(rows))
        for f in self.where:
            good = passing(f, plan, good, self._reading(f.variable))
        return good

    def _covered(self, plan: Plan) -> np.ndarray:
        if self._tables is None:
            self._tables = [running_sums(foreground(layer, self.rule)) for layer in self.cover or ()]
        return covered(plan, self.rule, self.sources, self.cover or (), self._tables, self.min_coverage)

    @property
    def table(self) -> pd.DataFrame:
        """The plan as a DataFrame; save it with ``to_csv`` or ``to_parquet``, `from_table` opens it again."""
        return as_table(self.plan, self.sources)

    @classmethod
    def from_table(cls, table: pd.DataFrame | Uri, source: Any, size: Lengths | None = None, **options: Any) -> Patches:
        """Return the patches that a table lists.

        Parameters
        ----------
        table : pandas.DataFrame, str or os.PathLike
            A `table`, or a CSV or Parquet file of it.
        source : Dataset, DataArray, DataTree, or sequence of these
            The images, in the order of the column ``source``.
        size : optional
            Size of the patches; by default from the table (with halo).
        **options
            See `intake_img.patches`.
        """
        frame = read_table(table)
        options.setdefault("edge", "pad")
        size = sizes_of(frame) if size is None else size
        return cls.of(Specification(source, size, sample="fixed", table=frame, **options).recipe())

    @property
    def plan_id(self) -> str:
        """Hash of the plan."""
        return self.plan.id

    def __len__(self) -> int:
        return len(self.plan)

    def set_epoch(self, epoch: int) -> Patches:
        """Draw the patches of another epoch from now on; grids and tables are the same in all epochs."""
        epoch = integer("epoch", epoch, 0)
        if epoch != self.epoch:
            self.epoch, self._plan = epoch, None
        return self

    def shard(self, rank: int, world: int) -> Patches:
        """Return the patches of one of `world` processes: each ``world``-th patch, from number `rank` on.

        All shards together have each patch once, for any number of shards.
        """
        world = integer("world", world, 1)
        rank = integer("rank", rank, 0)
        if rank >= world:
            raise ValueError(f"rank={rank}: expected a number below world={world}")
        if self._shard is not None:  # a worker's share of a rank's share
            rank, world = self._shard[0] + rank * self._shard[1], world * self._shard[1]
        return self._changed(_shard=(rank, world))

    def take(self, which: AxisKey) -> Patches:
        """Return a subset of the patches, selected by numbers, a slice or a mask."""
        if self._shard is not None or self._rows is not None:
            rows = np.arange(len(draw(self.rule, self.sources, self.epoch, self._accept if self._choosy else None)))
            rows = rows if self._rows is None else rows[self._rows]
            rows = rows if self._shard is None else rows[self._shard[0] :: self._shard[1]]
        else:
            rows = np.arange(len(self))
        return self._changed(_rows=rows[which if isinstance(which, slice) else np.asarray(which)], _shard=None)

    def split(
        self, val: float = 0.1, *, block: int | Mapping[str, int] = 2, by: str | None = None, seed: int = 0
    ) -> tuple[Patches, Patches]:
        """Return patches for training and for validation that have no pixel in common.

        Parameters
        ----------
        val : float
            Share of the images for validation.
        block : int or mapping of str to int
            The images are cut into blocks of this many patches along each axis; each block, with all of its time points
            and channels, belongs to one side. Patches that would extend into both sides are left out, or, if they are
            random, drawn elsewhere.
        by : str, optional
            ``"source"`` or an iterated axis: divide along it instead of by blocks.
        seed : int
            Seed of the choice of blocks.

        Returns
        -------
        (Patches, Patches)
        """
        val = number("val", val, 0, 1)
        if not 0 < val < 1:
            raise ValueError(f"val={val!r}: expected a share between 0 and 1, both excluded")
        if self._region is not None or self._rows is not None or self._shard is not None:
            raise ValueError(
                "these patches are a subset already: split all of them first, then take subsets of the halves"
            )
        if by is None:
            lengths = {
                a: integer("block", block[a] if isinstance(block, Mapping) else block, 1) * n
                for a, n in zip(self.axes, self.rule.size, strict=True)
                if not isinstance(block, Mapping) or a in block
            }
            cells = [lengths.get(a, max(s.sizes[a] for s in self.sources)) for a in self.axes]
            parts = split_blocks(self._lengths, cells, val, seed)
        elif by == "source":
            parts = split_places([len(self.sources)], None, val, seed)
        else:
            choice("by", by, ("source", *self.over))
            parts = split_places([s.sizes[by] for s in self.sources], self.over.index(by), val, seed)
        halves = [self._changed(_region=r) for r in parts]
        if self.rule.sample in ("random", "weighted"):
            from dataclasses import replace

            n = self.rule.n if self.rule.n is not None else len(draw(self.rule, self.sources, 0))
            of_val = min(n - 1, max(1, round(n * val))) if n > 1 else n
            for half, m in zip(halves, (n - of_val, of_val), strict=True):
                half.rule = replace(self.rule, n=max(1, m))
        return halves[0], halves[1]

    # pixels

    def _reading(self, variable: str | None) -> Reading:
        name = self._layer(variable).name
        if name not in self._readings:
            self._readings[name] = Reading(self.sources, name, self.padding)
        return self._readings[name]

    def _numbers(self, which: AxisKey) -> np.ndarray:
        n = len(self)
        if isinstance(which, slice):
            return np.arange(n)[which]
        found = np.asarray(which)
        if found.dtype.kind == "b" and found.shape == (n,):
            return np.flatnonzero(found)
        if found.size == 0:
            return np.zeros(0, np.int64)
        if found.ndim > 1 or found.dtype.kind not in "iu":
            raise IndexError(
                f"patches are chosen by a number, a slice, or a list of numbers or booleans, not {which!r}"
            )
        found = np.atleast_1d(found).astype(np.int64)
        if found.min() < -n or found.max() >= n:
            bad = found.max() if found.max() >= n else found.min()
            raise IndexError(f"there is no patch {bad}: there are {n}")
        return found % n

    def read(self, indices: AxisKey, variable: str | None = None) -> np.ndarray:
        """Return the pixels of patches, in the dtype of the files.

        Parameters
        ----------
        indices : int, slice, or sequence of int or bool
        variable : str, optional
            The reference by default.

        Returns
        -------
        ndarray of shape (n, kept axes, cut axes)
            See `dims`.
        """
        return self._reading(variable).read(self.plan.take(self._numbers(indices)))

    def reader(self, variable: str | None = None) -> Callable[[int], np.ndarray]:
        """Return a function that reads the pixels of one patch by its number, with the least overhead.

        It keeps reading the epoch in which it was made, also after `set_epoch`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, intake_img
        >>> image = xr.DataArray(np.arange(16).reshape(4, 4), dims=["y", "x"])
        >>> get = intake_img.patches(image, 2).reader()
        >>> get(3)
        array([[10, 11],
               [14, 15]])
        """
        return self._reading(variable).reader(self.plan)

    def labelled(self, arrays: Mapping[str, np.ndarray], numbers: Any) -> xr.Dataset:
        """Return arrays of the patches `numbers`, as returned by `read`, as a Dataset with their coordinates."""
        numbers = self._numbers(numbers)
        valid = any(h > 0 or e == "pad" for h, e in zip(self.rule.halo, self.rule.edge, strict=True))
        return as_dataset(arrays, self.plan.take(numbers), numbers, self.sources, valid)

    def __getitem__(self, which: AxisKey) -> xr.Dataset:
        numbers = self._numbers(which)
        arrays = {v: self.read(numbers, v) for v in self.variables}
        ds = self.labelled(arrays, numbers)
        return ds if isinstance(which, slice) or np.ndim(np.asarray(which)) else one(ds)

    def __iter__(self) -> Iterator[xr.Dataset]:
        for batch in self.batches(64):
            for k in range(batch.sizes["patch"]):
                yield one(batch.isel(patch=[k]))

    def batches(
        self,
        n: int,
        *,
        shuffle: bool = False,
        lookahead: int | str = "64MB",
        drop_last: bool = False,
        prefetch: int = 1,
        seed: int | None = None,
        epoch: int | None = None,
        labelled: bool = True,
    ) -> Batches:
        """Return an iterable over the patches of an epoch in batches.

        Parameters
        ----------
        n : int
            Patches in a batch; the last batch may be smaller, unless `drop_last`.
        shuffle : bool
            Whether patches are in a random order, which depends on seed and epoch.
        lookahead : int or str
            Size of a window in patches or bytes: within a window, each tile of a file is decoded once.
        prefetch : int
            How many windows are read ahead, in a separate thread; 0 reads them on demand.
        seed, epoch : int, optional
            Seed of the order and epoch of the patches; by default those of the patches.
        labelled : bool
            Whether to yield Datasets, or ``(numbers, {variable: array})``.

        Returns
        -------
        Batches
            An iterable with a length.
        """
        size = integer("n", n, 1)
        epoch = self.epoch if epoch is None else integer("epoch", epoch, 0)
        own = self if epoch == self.epoch else self._changed(epoch=epoch)
        seed = self.rule.seed if seed is None else integer("seed", seed)
        return Batches(
            own,
            size,
            bool(shuffle),
            lookahead,
            bool(drop_last),
            integer("prefetch", prefetch, 0),
            seed,
            epoch,
            bool(labelled),
        )
