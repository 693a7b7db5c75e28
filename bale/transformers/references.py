"""Tensors of open archives that can be named in a file, and are decoded when their values are asked for."""

from __future__ import annotations

import threading
from secrets import token_hex
from typing import Any
from weakref import WeakValueDictionary

import torch

from bale.engine.reading.tensors import Tensors
from bale.torch.values import dtype_of, tensor_of

_OPEN: WeakValueDictionary[str, Tensors] = WeakValueDictionary()
_LOCK = threading.Lock()  # each is decoded by several threads


def publish(tensors: Tensors) -> str:
    """Make tensors known as long as they are in use; returns the token that references have."""
    token = token_hex(8)
    _OPEN[token] = tensors
    return token


class Reference:
    """One tensor, with the methods that transformers expects of a slice of a safetensors file."""

    def __init__(self, token: str, name: str) -> None:
        self._token, self._name = token, name

    def __reduce__(self) -> tuple[type[Reference], tuple[str, str]]:
        return Reference, (self._token, self._name)

    def get_shape(self) -> list[int]:
        """Its shape."""
        return list(_OPEN[self._token].spec(self._name).shape)

    def get_dtype(self) -> str:
        """Its dtype, as safetensors calls it."""
        return _OPEN[self._token].spec(self._name).dtype

    @property
    def dtype(self) -> torch.dtype:
        """Its dtype in torch."""
        return dtype_of(self.get_dtype())

    def is_floating_point(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype.is_floating_point

    def __getitem__(self, key: Any) -> torch.Tensor:
        with _LOCK:
            return tensor_of(_OPEN[self._token], self._name)[key]


torch.serialization.add_safe_globals([Reference])
