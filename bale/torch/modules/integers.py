"""Weights of 8 and 4 bits, multiplied by torch's own operations for the CPU, which compute in BF16.

With FP32 inputs these operations take another way, which is far slower: whatever comes in is rounded to BF16. For one
token they are faster than a dense weight, as less of it is read; for a long prompt they are slower than dense BF16
where the processor multiplies in BF16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Self

import torch

from bale.compressors.base import Values
from bale.compressors.pipeline import Pipeline
from bale.compressors.quantizers import scales
from bale.compressors.quantizers.linear import Int
from bale.torch.modules.kept import KeptLinear, as_torch

_MULTIPLE = 16  # of columns: with an odd number of them torch 2.13 ends the process
_PARTS = 3  # numbers of BF16 that hold one of float32
_ROWS = 16  # whose codes are packed together
_AT_ONCE = 1 << 22  # codes, of 4 bytes each while they are packed


def _int_of(pipeline: Pipeline) -> Int | None:
    """The codec of a pipeline that stores nothing but integers."""
    only = pipeline.transforms
    return only[0] if len(only) == 1 and isinstance(only[0], Int) and pipeline.rest is None else None


class _IntegerLinear(KeptLinear):
    """Stays in BF16, whatever dtype the model is converted to: torch's operations know no other."""

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, own in before.items():
            after = self._buffers[name]
            if own is not None and after is not None and own.dtype != after.dtype:
                self._buffers[name] = own.to(after.device)
        return self


class Int8Linear(_IntegerLinear):
    """A weight of 8-bit integers with a scale for each row: ``int8``.

    ``w = s (u - z)``, u from 0 to 255, is ``s (u - 128)`` and ``s (128 - z)``, which is the same for all of a row. Both
    can be large where they cancel, so both are summed in one product before anything is rounded to BF16: the sum of the
    inputs stands behind them, in `_PARTS` numbers of BF16, and ``128 - z`` behind the codes, in halves. Scales are
    rounded to BF16.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    has_zeros: bool

    @classmethod
    def refusal(cls, pipeline: Pipeline, shape: tuple[int, ...]) -> str | None:  # noqa: D102
        codec = _int_of(pipeline)
        if codec is None or codec.bits != 8 or codec.zero != "int":
            return f"{pipeline} is not int8"
        if codec.group != "row" or codec.rows != 1:
            return "not one scale a row"
        return None if shape[1] % _MULTIPLE == 0 else f"{shape[1]} columns, not a multiple of {_MULTIPLE}"

    def fill(self, pipeline: Pipeline, parts: Mapping[str, Values]) -> None:  # noqa: D102
        codec = _int_of(pipeline)
        assert codec is not None
        codes = as_torch(parts["qdata"]).view(torch.int8)
        self.has_zeros = "zero" in parts
        if self.has_zeros:
            zero = as_torch(parts["zero"])
            codes = ((codes.view(torch.uint8) + zero[:, None]) ^ 128).view(torch.int8)
            shift = 128 - zero.int()
            behind = torch.zeros(len(codes), _MULTIPLE, dtype=torch.int8)
            behind[:, :_PARTS] = (shift // 2)[:, None]
            behind[:, _PARTS : 2 * _PARTS] = (shift - shift // 2)[:, None]
            codes = torch.cat([codes, behind], 1)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", _scales(codec, parts, self.out_features).bfloat16())

    def multiply(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = x.bfloat16()
        if self.has_zeros:
            behind = x.new_zeros(len(x), _MULTIPLE)
            left = x.sum(1, dtype=torch.float32)
            for part in range(_PARTS):
                behind[:, part] = behind[:, _PARTS + part] = left
                left = left - behind[:, part]
            x = torch.cat([x, behind], 1)
        y: torch.Tensor = torch.ops.aten._weight_int8pack_mm(x.contiguous(), self.codes, self.scales)
        return y


class Int4Linear(_IntegerLinear):
    """A weight of 4-bit integers in groups of 32, 64, 128 or 256 columns: ``int4``.

    ``w = s (u - z)`` is ``s (u - 8) + s (8 - z)``, and with ``zero=float`` ``s k + m``: torch takes scale and offset of
    each group in BF16. An offset is off by up to 1/512 of it for all of a group: nothing where zero is near the middle
    of the range, as in trained weights, but much where all values of a group have one sign, and inputs have one too.
    Not for such weights; with ``symmetric=true`` there are no offsets.
    """

    codes: torch.Tensor
    scales: torch.Tensor

    @classmethod
    def refusal(cls, pipeline: Pipeline, shape: tuple[int, ...]) -> str | None:  # noqa: D102
        codec = _int_of(pipeline)
        if codec is None or codec.bits != 4:
            return f"{pipeline} is not int4"
        if codec.group not in (32, 64, 128, 256) or codec.rows != 1:
            return "not in groups of 32, 64, 128 or 256 columns"
        if shape[0] % _ROWS:
            return f"{shape[0]} rows, not a multiple of {_ROWS}"
        return None if shape[1] % codec.group == 0 else f"{shape[1]} columns, not a multiple of {codec.group}"

    def fill(self, pipeline: Pipeline, parts: Mapping[str, Values]) -> None:  # noqa: D102
        codec = _int_of(pipeline)
        assert codec is not None
        self.group = int(codec.group)
        grid = (self.out_features, self.in_features // self.group)
        steps, zero = _scales(codec, parts, grid[0] * grid[1]).reshape(grid), None
        if "zero" in parts and codec.zero == "int":
            zero = as_torch(parts["zero"]).reshape(grid)
            offsets = steps * (8 - zero.float())
        else:
            offsets = as_torch(parts["zero"]).float().reshape(grid) if "zero" in parts else torch.zeros(grid)
        packed = [
            torch.ops.aten._convert_weight_to_int4pack_for_cpu(each, 1)
            for each in _levels(as_torch(parts["qdata"]), zero, self.group)
        ]
        self.register_buffer("codes", torch.cat(packed))
        pair = torch.stack([steps.T, offsets.T], -1)
        self.register_buffer("scales", pair.bfloat16().contiguous())

    def multiply(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        y: torch.Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x.bfloat16().contiguous(), self.codes, self.group, self.scales
        )
        return y


def _scales(codec: Int, parts: Mapping[str, Values], groups: int) -> torch.Tensor:
    """The scale of each group, in float32, whatever form it is stored in."""
    return torch.from_numpy(scales.load(parts, codec.scale, groups, slice(0, groups)))


def _levels(codes: torch.Tensor, zero: torch.Tensor | None, group: int) -> Iterator[torch.Tensor]:
    """Levels from 0 to 15, some rows at a time: those stored are modulo 16, and 0 for the zero point or the middle."""
    rows = max(_ROWS, _AT_ONCE // codes.shape[1] // _ROWS * _ROWS)
    for start in range(0, codes.shape[0], rows):
        some = codes[start : start + rows].int()
        shift = 8 if zero is None else zero[start : start + rows].int().repeat_interleave(group, 1)
        yield (some + shift) & 15
