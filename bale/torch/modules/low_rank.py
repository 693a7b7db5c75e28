"""Weights of low rank: two thin products in place of one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn.functional import linear

from bale.compressors.base import Values
from bale.compressors.lowrank.svd import Svd
from bale.compressors.pipeline import Pipeline
from bale.torch.modules.kept import KeptLinear, as_torch


class LowRankLinear(KeptLinear):
    """A weight that is the product of two factors: ``svd`` without a second layer, dequantized where it was quantized.

    Faster than the dense weight where both factors together are smaller: ``svd:ratio=0.5`` by up to twice.
    """

    left: torch.Tensor
    right: torch.Tensor

    @classmethod
    def refusal(cls, pipeline: Pipeline, shape: tuple[int, ...]) -> str | None:  # noqa: D102
        is_product = pipeline.rest is None and pipeline.transforms and isinstance(pipeline.transforms[0], Svd)
        return None if is_product else f"{pipeline} is not svd alone"

    def fill(self, pipeline: Pipeline, parts: Mapping[str, Values]) -> None:  # noqa: D102
        self.register_buffer("left", as_torch(parts["u"]))
        self.register_buffer("right", as_torch(parts["vh"]))

    def multiply(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        inner = linear(x.to(self.right.dtype), self.right)
        return linear(inner, self.left)
