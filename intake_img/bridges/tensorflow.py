"""Datasets of TensorFlow: `tf.data.Dataset`, fed by batches of numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from intake_img.model.packages import imported

__all__ = ["dataset"]

Spec = tuple[tuple[int | None, ...], np.dtype]


class _Batches(Protocol):
    """An iterable with a length, which can be iterated repeatedly."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]: ...


def dataset(batches: _Batches, specs: Mapping[str, Spec], count: int | None = None) -> Any:
    """Return a Dataset of dictionaries of tensors.

    Parameters
    ----------
    batches : iterable with a length, of mapping of str to ndarray
        It is iterated once for each epoch.
    specs : mapping of str to (shape, dtype)
        Shape and dtype of each tensor of an element; None for lengths that vary.
    count : int, optional
        Number of elements, if each patch of a batch is an element. By default the batches are the elements.

    Raises
    ------
    MissingExtraError
        If TensorFlow is not installed.
    """
    tf = imported("tensorflow", "tensorflow", "patches for tensorflow")
    signature = {name: tf.TensorSpec(shape, tf.as_dtype(dtype)) for name, (shape, dtype) in specs.items()}

    def elements() -> Iterator[Mapping[str, np.ndarray]]:
        for batch in batches:
            yield from (batch,) if count is None else _single(batch)

    size = len(batches) if count is None else count
    made = tf.data.Dataset.from_generator(elements, output_signature=signature)
    return made.apply(tf.data.experimental.assert_cardinality(size))


def _single(batch: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    for n in range(len(next(iter(batch.values())))):
        yield {name: values[n] for name, values in batch.items()}
