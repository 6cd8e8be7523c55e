"""Models: any function of a batch, or a torch or Keras module, as a function from arrays to one array.

This module handles the needs of torch and Keras (evaluation mode, no gradients, the device and dtype of the weights),
and the identity of a model when an interrupted run is resumed. Neither package is imported: a torch or Keras model has
imported it already.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

__all__ = ["fingerprint", "is_module", "predictor", "working"]


def _torch_module(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and hasattr(torch, "nn") and isinstance(model, torch.nn.Module)


def _keras_model(model: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and hasattr(keras, "Model") and isinstance(model, keras.Model)


def is_module(model: Any) -> bool:
    """True for a module of torch or Keras."""
    return _torch_module(model) or _keras_model(model)


def predictor(model: Any, input_dtype: Any = None) -> Callable[..., np.ndarray]:
    """Return ``predict(*batches) -> ndarray`` for a model.

    Parameters
    ----------
    model : callable
        Gets one array (torch and Keras: tensor) for each variable, and returns an array or tensor.
    input_dtype : dtype, optional
        Cast batches to this dtype. By default a torch or Keras model gets the dtype of its weights, and a function the
        dtype of the patches.
    """
    if not callable(model):
        raise TypeError(f"model={model!r}: expected a function of a batch, or a torch or Keras model")
    call = functools.partial(_call_torch, model) if _torch_module(model) else model
    if input_dtype is None and _keras_model(model):
        input_dtype = np.float32
    cast = None if input_dtype is None else np.dtype(input_dtype)

    def predict(*batches: np.ndarray) -> np.ndarray:
        given = [b if cast is None else b.astype(cast, copy=False) for b in batches]
        return _as_array(call(*given))

    return predict


def _call_torch(model: Any, *batches: np.ndarray) -> Any:
    import torch

    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    tensors = [torch.from_numpy(np.ascontiguousarray(b)) for b in batches]
    if weight is not None:
        tensors = [t.to(device=weight.device, dtype=weight.dtype) for t in tensors]
    with torch.inference_mode():
        return model(*tensors)


def _as_array(result: Any) -> np.ndarray:
    if isinstance(result, (list, tuple)) and len(result) == 1:
        result = result[0]
    if isinstance(result, (list, tuple, dict)):
        raise TypeError(
            f"the model returned a {type(result).__name__} of {len(result)}: expected one array; wrap it so that it "
            "returns the one to write"
        )
    if hasattr(result, "detach"):
        result = result.detach().cpu()
        if str(result.dtype) == "torch.bfloat16":
            result = result.float()
    array = np.asarray(result)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"the model returned {array.dtype}: expected an array of numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def working(model: Any) -> AbstractContextManager[None]:
    """Return the context for predictions: it sets a torch module to evaluation mode, and restores its mode
    afterwards."""
    return _evaluating(model) if _torch_module(model) else nullcontext()


class _evaluating(AbstractContextManager[None]):
    def __init__(self, model: Any) -> None:
        self.modes = [(m, m.training) for m in model.modules()]
        model.eval()

    def __exit__(self, *_: object) -> None:
        for module, training in self.modes:
            module.training = training


# distinguishing models


def fingerprint(model: Any, given: str | None = None) -> str:
    """Return the identity of a model.

    Parameters
    ----------
    model : callable
        A torch or Keras model is identified by its class and weights, a function by its name, code, defaults, and the
        plain values and arrays that it closes over, and another object by its class.
    given : str, optional
        An identity given by the user, instead of this.
    """
    if given is not None:
        return str(given)
    digest = hashlib.blake2b(digest_size=8)
    name = _feed(digest, model)
    return f"{name}-{digest.hexdigest()}"


def _feed(digest: Any, model: Any) -> str:
    if isinstance(model, functools.partial):
        for value in (*model.args, *(v for pair in sorted(model.keywords.items()) for v in pair)):
            _feed_value(digest, value)
        return _feed(digest, model.func)
    if _torch_module(model):
        for key, tensor in model.state_dict().items():
            digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(_as_array(tensor).tobytes())
        return type(model).__qualname__
    if _keras_model(model):
        for weights in model.get_weights():
            _feed_value(digest, weights)
        return type(model).__qualname__
    if isinstance(model, types.MethodType):
        return _feed(digest, model.__func__)
    if isinstance(model, types.FunctionType):
        _feed_code(digest, model.__code__)
        for value in (*(model.__defaults__ or ()), *(model.__kwdefaults__ or {}).values()):
            _feed_value(digest, value)
        for cell in model.__closure__ or ():
            _feed_value(digest, _content(cell))
        return model.__qualname__
    return getattr(model, "__qualname__", None) or getattr(model, "__name__", None) or type(model).__qualname__


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # an empty cell
        return None


def _feed_value(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes() if value.dtype != object else b"")
    elif isinstance(value, (types.FunctionType, functools.partial)) or is_module(value):
        digest.update(_feed(digest, value).encode())
    elif value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        digest.update(repr(value).encode())
    elif isinstance(value, (list, tuple)):
        for item in value:
            _feed_value(digest, item)
    else:
        digest.update(type(value).__qualname__.encode())


def _feed_code(digest: Any, code: types.CodeType) -> None:
    digest.update(code.co_code)
    digest.update(repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _feed_code(digest, constant)
        else:
            digest.update(repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode())
