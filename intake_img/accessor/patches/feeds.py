"""Sources of predictions: a model that is called on patches, or existing arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from intake_img.accessor.patches.models import predictor
from intake_img.accessor.patches.output import Made
from intake_img.accessor.patches.run import Batch, batches, predicted

__all__ = ["Check", "Given", "Mapped"]


class Mapped:
    """Predictions that a model makes from patches."""

    def __init__(
        self, patches: Any, variables: list[str], model: Any, input_dtype: Any, size: int, lookahead: int | str
    ) -> None:
        from intake_img.accessor.patches.batches import window_length

        self.patches, self.variables, self.model, self.input_dtype = patches, variables, model, input_dtype
        self.predict, self.size, self.which = predictor(model, input_dtype), size, None
        self.window = window_length(lookahead, size, patches.patch_nbytes)
        layer = patches.sources[0].layers[variables[0]]
        kept = len(layer.kept)
        self.kept = dict(zip(layer.patch_dims[:kept], layer.patch_shape[:kept], strict=True))

    def first(self) -> Batch:
        """Predict one batch, to find out shape and dtype of the predictions."""
        ids = np.arange(min(self.size, len(self.patches.plan)))
        return next(predicted(batches(self.patches, self.variables, ids, self.size, self.size), self.predict, _rows))

    def stream(self, order: np.ndarray, check: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Iterator[Batch]:
        return predicted(batches(self.patches, self.variables, order, self.size, self.window), self.predict, check)


class Given:
    """Existing predictions."""

    def __init__(self, patches: Any, arrays: Any, which: np.ndarray) -> None:
        self.patches, self.which = patches, which
        layer = patches.sources[0].reference
        sizes = dict(zip(layer.dims, layer.pixels.shape, strict=True))
        self.kept = {a: sizes[a] for a in layer.kept}
        self.array = arrays if hasattr(arrays, "shape") and hasattr(arrays, "dtype") else None
        if self.array is not None and len(self.array) != len(which):
            raise ValueError(f"arrays has {len(self.array)} predictions, expected one for each of {len(which)} patches")
        self.batches = None if self.array is not None else iter(arrays)

    def first(self) -> Batch:
        if self.array is not None:
            return self.which[:1], _loaded(self.array[:1])
        for batch in self.batches or ():
            self.batches = itertools.chain([batch], self.batches or ())
            return self.which[:0], _loaded(batch)[:0]
        raise ValueError("arrays is empty: expected a prediction for each patch")

    def stream(self, order: np.ndarray, check: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Iterator[Batch]:
        if self.array is not None:
            place = np.argsort(self.which)
            item = max(1, _loaded(self.array[:1]).nbytes) if len(self.which) else 1
            step = max(1, 2**26 // item)
            for k in range(0, len(order), step):
                ids = np.sort(order[k : k + step])
                rows = place[np.searchsorted(self.which, ids, sorter=place)]
                yield ids, check(ids, _loaded(self.array[_rows_key(rows)]))
            return
        at = 0
        for batch in self.batches or ():
            values = _loaded(batch)
            ids = self.which[at : at + len(values)]
            at += len(values)
            if len(ids) != len(values):
                raise ValueError(f"arrays contain more predictions than the {len(self.which)} patches")
            yield ids, check(ids, values)
        if at != len(self.which):
            raise ValueError(f"arrays contain {at} predictions, expected one for each of {len(self.which)} patches")


def _rows_key(rows: np.ndarray) -> Any:
    """Return rows as a slice if they are contiguous, since every kind of array accepts slices."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _loaded(array: Any) -> np.ndarray:
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    if hasattr(array, "compute"):
        array = array.compute()
    return np.asarray(array)


def _rows(ids: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    if predictions.ndim == 0 or len(predictions) != len(ids):
        raise ValueError(
            f"the model returned shape {predictions.shape} for a batch of {len(ids)} patches: expected "
            f"({len(ids)}, ...)"
        )
    return predictions


class Check:
    """Checks that predictions match the declared result. It is picklable."""

    def __init__(self, made: Made, cast: bool, blend: str, sized: tuple[str, ...]) -> None:
        self.made, self.cast, self.blend, self.sized = made, cast, blend, sized

    def __call__(self, ids: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        _rows(ids, predictions)
        lead = predictions.shape[1 : predictions.ndim - len(self.sized)]
        if tuple(lead) != self.made.lengths:
            raise ValueError(
                f"the model returned {predictions.shape[1:]} for a patch: expected ({_said(self.made)}"
                f"{', '.join(self.sized)})"
            )
        if not self.cast and predictions.dtype != np.dtype(self.made.dtype):
            raise TypeError(
                f"the model returned {predictions.dtype}, for the first patches {np.dtype(self.made.dtype)}: pass "
                "dtype="
            )
        if self.blend == "vote" and predictions.dtype.kind not in "iub":
            raise TypeError(f"blend='vote' counts labels, but the model returned {predictions.dtype}: return integers")
        return predictions


def _said(made: Made) -> str:
    return "".join(f"{a}: {n}, " for a, n in zip(made.axes, made.lengths, strict=True))
