"""Quantization to one bit: the signs of the weights, and a scale for each group of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bale.compressors.base import PartBound, Quantizer, Values
from bale.compressors.floats import require_float
from bale.compressors.importance import Importance
from bale.compressors.settings import setting
from bale.errors import Refused
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Sign(Quantizer):
    """One bit for each element: its sign, and a scale for each group of elements.

    The flat tensor is cut into groups of `group` elements (the last may be shorter). Each has a scale s, the mean m of
    ``|x|`` rounded to float32; x becomes 1 where it is negative and else 0, and comes back as -s or s.

    Parts: ``qdata``, the signs, uint8 of one bit in the tensor's shape; ``scale``, F32, shape ``(groups,)``.

    Error: of a group of n elements, ``sum (x - x')^2 = sum x^2 - n m^2 + n (s - m)^2``, the least that one scale for
    all allows, and what rounding it costs. Rounding to the tensor's own dtype adds half a unit in the last place of s.

    Use it for networks that were trained to have binary weights. Not for others: of normal deviates 0.6 of the norm is
    lost.

    Binary weights as in Rastegari et al. 2016 (arXiv:1603.05279), section 3.1.

    >>> x = Values(TensorSpec("F32", (1, 4)), np.array([[-1, 2, 3, -2]], np.float32))
    >>> parts = Sign().encode(x)
    >>> {name: part.array.tolist() for name, part in parts.items()}
    {'qdata': [[1, 0, 0, 1]], 'scale': [2.0]}
    >>> Sign().decode(parts, x.spec).tolist()
    [[-2.0, 2.0, 2.0, -2.0]]
    """

    name: ClassVar[str] = "sign"

    group: int = setting(64, low=1, high=1 << 20, help="elements that share a scale")

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not floating point, is quantized already or has no elements."""
        require_float(spec)

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Signs and scales."""
        return (
            PartBound(self.code, TensorSpec("U8", spec.shape), primary=True, bits=1),
            PartBound("scale", TensorSpec("F32", (self._groups(spec.elements),))),
        )

    def passes(self, spec: TensorSpec) -> int:
        """One, for the scales."""
        return 1

    def block_multiple(self, spec: TensorSpec) -> int:
        """Whole groups."""
        return self.group

    def observe(
        self,
        block: Array,
        start: int,
        spec: TensorSpec,
        state: Mapping[str, Array],
        importance: Importance | None = None,
    ) -> dict[str, Array]:
        """The scales of the groups of a block."""
        if not np.isfinite(block).all():
            raise Refused("it holds NaN or infinity")
        first = np.arange(0, block.size, self.group)
        sums = np.add.reduceat(np.abs(block.astype(np.float64)), first)
        return {"scale": (sums / np.minimum(self.group, block.size - first)).astype(np.float32)}

    def fit(
        self, observed: Sequence[dict[str, Array]], spec: TensorSpec, state: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The scales of all blocks."""
        return {"scale": np.concatenate([each["scale"] for each in observed])}

    def side_info(self, state: Mapping[str, Array], spec: TensorSpec) -> dict[str, Values]:
        """The scales as they are stored."""
        return {"scale": Values(TensorSpec("F32", state["scale"].shape), state["scale"])}

    def encode_block(self, block: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """The signs of a block."""
        return (block < 0).astype(np.uint8)

    def decode_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """The scale of its group for each element, with its sign. Raises `ValueError` for scales that none has."""
        scale = side["scale"].array.astype(np.float32)
        if scale.shape != (self._groups(spec.elements),) or not (np.isfinite(scale) & (scale >= 0)).all():
            raise ValueError(f"scales of shape {scale.shape}, or negative ones, for {spec}")
        of_each = scale[np.arange(start, start + codes.size) // self.group]
        return np.where(codes == 0, of_each, -of_each)

    def _groups(self, elements: int) -> int:
        return -(-elements // self.group)
