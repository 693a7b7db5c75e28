"""What all linear modules with compressed weights have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from bale.compressors.base import Values
from bale.compressors.pipeline import Pipeline
from bale.torch.values import dtype_of


class KeptLinear(nn.Module):
    """A linear module that multiplies by a weight as it is stored.

    It is made without a weight, from the module that it stands for, and given one by `fill`; bias and name are those of
    the module. It is for inference: no gradient flows through it. Its `weight` is on the meta device: it says shape and
    dtype to models that ask for them, and cannot be computed with.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self.weight = torch.empty_like(linear.weight, device="meta", requires_grad=False).data

    @classmethod
    @abstractmethod
    def refusal(cls, pipeline: Pipeline, shape: tuple[int, ...]) -> str | None:
        """Why a weight cannot be kept like this; None where it can."""

    @abstractmethod
    def fill(self, pipeline: Pipeline, parts: Mapping[str, Values]) -> None:
        """Take the weight, from the parts that it is stored in."""

    @abstractmethod
    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of inputs by the transposed weight."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply and add the bias; the output has the dtype of the input."""
        y = self.multiply(x.reshape(-1, self.in_features)).to(x.dtype)
        if self.bias is not None:
            y = y + self.bias.to(x.dtype)
        return y.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Sizes, as of `torch.nn.Linear`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def as_torch(values: Values) -> torch.Tensor:
    """A stored part."""
    array = np.ascontiguousarray(values.array)
    return torch.from_numpy(array.reshape(-1).view(np.uint8)).view(dtype_of(values.spec.dtype)).reshape(array.shape)
