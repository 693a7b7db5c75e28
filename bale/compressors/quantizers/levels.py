"""Tables of levels, and quantizers whose elements are a level of a table times the scale of their group."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bale.compressors.base import Cells, PartBound, Quantizer, Values
from bale.compressors.floats import require_float
from bale.compressors.importance import Importance
from bale.compressors.kernels import native
from bale.compressors.quantizers import scales
from bale.compressors.quantizers.groups import Groups, span, within
from bale.errors import Refused
from bale.spec import Array, TensorSpec

_LARGEST = np.finfo(np.float32).max
_AT_ONCE = 1 << 16  # elements, so that working space stays in the cache
_NONE = np.zeros(0, np.uint8)


@dataclass(frozen=True, eq=False)
class Levels:
    """The numbers that codes stand for.

    Attributes
    ----------
    values : Array
        Float32, ascending.
    codes : Array
        uint8, the code of each.
    bounds : Array
        Float32: a number from ``bounds[i - 1]`` up to but not including ``bounds[i]`` is nearest to level i.
    signed : bool
        Whether the values are magnitudes, and codes have the sign as the bit above them, zero too.
    """

    values: Array
    codes: Array
    bounds: Array
    signed: bool = False

    @classmethod
    def of(cls, values: Any, codes: Any) -> Levels:
        """Levels with bounds in the middle between them."""
        exact = np.asarray(values, np.float32).astype(np.float64)
        bounds = ((exact[1:] + exact[:-1]) / 2).astype(np.float32)
        return cls(exact.astype(np.float32), np.asarray(codes).astype(np.uint8), bounds)

    @classmethod
    def centered(cls, values: Any, zero: int, bits: int) -> Levels:
        """Levels whose codes count from level number `zero`, modulo 2^bits: entropy coding sees a peak at 0."""
        return cls.of(values, (np.arange(len(values)) - zero) % 2**bits)

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return float(np.abs(self.values).max())

    def encode(self, values: Array, scale: Array, codes: Array) -> bool:
        """Write the codes of float32 values in groups of these scales, by a loop in C; False where there is none.

        The values are flat, and the groups have the same width, but for the last one.
        """
        loop = native.of("encode_levels")
        if loop is None:
            return False
        width = -(-values.size // scale.size)
        starts = _NONE if self._is_small or self._starts is None else self._starts
        loop(values, width, scale, self.bounds, starts, self.codes, self._sign if self.signed else 0, codes)
        return True

    def decode(self, codes: Array, scale: Array, values: Array) -> bool:
        """Write the levels of codes times the scales of their groups; see `encode`."""
        loop = native.of("decode_levels")
        if loop is None:
            return False
        loop(codes, -(-codes.size // scale.size), scale, self.table, values)
        return True

    @property
    def _is_small(self) -> bool:
        return self.bounds.size <= 16

    def nearest(self, numbers: Array) -> Array:
        """Codes of the nearest levels of float32 numbers, in their shape."""
        flat = np.ascontiguousarray(numbers).reshape(-1)
        codes = np.empty(flat.shape, np.uint8)
        for at in range(0, flat.size, _AT_ONCE):
            piece = flat[at : at + _AT_ONCE]
            size = np.abs(piece) if self.signed else piece
            out = codes[at : at + _AT_ONCE]
            np.take(self.codes, self._find(size, flat.size), out=out)
            if self.signed:
                out |= np.signbit(piece).astype(np.uint8) * np.uint8(self._sign)
        return codes.reshape(numbers.shape)

    @cached_property
    def table(self) -> Array:
        """The number of each of 256 codes; NaN for those without one."""
        table = np.full(256, np.nan, np.float32)
        table[self.codes] = self.values
        if self.signed:
            table[self.codes | self._sign] = -self.values
        return table

    def ends(self, reach: float) -> tuple[Array, Array]:
        """Ends of the interval of each of 256 codes, where no number is larger than `reach`."""
        low, high = np.zeros((2, 256), np.float32)
        end = np.float32(reach)
        low[self.codes] = np.append(np.float32(0) if self.signed else -end, self.bounds)
        high[self.codes] = np.append(self.bounds, end)
        if self.signed:
            low[self.codes | self._sign], high[self.codes | self._sign] = -high[self.codes], -low[self.codes]
        return low, high

    @property
    def _sign(self) -> int:
        return 1 << (len(self.values) - 1).bit_length()

    def _find(self, numbers: Array, many: int) -> Array:
        """Number of each one's level; for many, by the upper half of its bits and one comparison."""
        if many < _AT_ONCE or self._starts is None:
            return np.searchsorted(self.bounds, numbers, side="right")
        found = self._starts.take(numbers.view(np.uint16)[1::2])
        found += numbers >= self._ends.take(found)
        return found

    @cached_property
    def _ends(self) -> Array:
        return np.append(self.bounds, np.float32(np.inf))

    @cached_property
    def _starts(self) -> Array | None:
        """The least level of the floats with each upper half; None where these can lie over two bounds."""
        words = np.arange(1 << 16, dtype=np.uint32) << 16
        ends = np.stack((words, words | 0xFFFF)).view(np.float32)
        least, most = (np.searchsorted(self.bounds, each, side="right") for each in np.sort(ends, axis=0))
        twice = (most - least > 1) & np.isfinite(ends).all(axis=0)
        return None if twice.any() else least.astype(np.uint8)


def float_levels(exponent: int, mantissa: int, largest: float) -> Levels:
    """Magnitudes of a small float: codes are its bits, and ties go to the even one."""
    bias = 2 ** (exponent - 1) - 1
    codes = np.arange(1 << (exponent + mantissa))
    field, rest = codes >> mantissa, codes & ((1 << mantissa) - 1)
    values = np.ldexp(rest + (field > 0) * (1 << mantissa), np.maximum(field, 1) - bias - mantissa)
    values = values[values <= largest].astype(np.float32)
    middle = ((values[1:].astype(np.float64) + values[:-1]) / 2).astype(np.float32)
    bounds = np.where(codes[: middle.size] & 1, middle, np.nextafter(middle, np.float32(np.inf)))
    return Levels(values, codes[: values.size].astype(np.uint8), bounds, signed=True)


class Scaled(Quantizer):
    """A quantizer whose values are a level of a table times the scale of their group."""

    @property
    @abstractmethod
    def levels(self) -> Levels:
        """The table."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Bits of a code."""

    @abstractmethod
    def groups(self, spec: TensorSpec) -> Groups:
        """Groups of elements that share a scale."""

    @property
    def reach(self) -> float:
        """The largest magnitude that an element can have, in units of its scale."""
        return self.levels.largest

    @property
    def kind(self) -> str:
        """The way that scales are stored; see `scales.store`."""
        return "auto"

    def scales_of(self, peaks: Array) -> dict[str, Array]:
        """Scales, as they are stored, that take these largest magnitudes of groups (float32) to the largest level."""
        return scales.store(scales.rounded_up(peaks.astype(np.float64) / self.levels.largest), self.kind)

    def scale_parts(self, groups: int) -> tuple[PartBound, ...]:
        """Bounds of what `scales_of` returns."""
        return scales.parts(self.kind, groups)

    def load_scales(self, side: Mapping[str, Values], groups: int, at: slice) -> Array:
        """Float32 scales of some groups. Raises `ValueError` on parts that do not fit."""
        return scales.load(side, self.kind, groups, at)

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not floating point, is quantized already or has no elements."""
        require_float(spec)

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Codes and scales."""
        codes = PartBound("qdata", TensorSpec("U8", spec.shape), primary=True, bits=self.width)
        return (codes, *self.scale_parts(self.groups(spec).count))

    def passes(self, spec: TensorSpec) -> int:
        """One, for the largest magnitudes."""
        return 1

    def block_multiple(self, spec: TensorSpec) -> int:
        """Whole groups, unless they are longer than 2^20."""
        return self.groups(spec).multiple

    def observe(
        self,
        block: Array,
        start: int,
        spec: TensorSpec,
        state: Mapping[str, Array],
        importance: Importance | None = None,
    ) -> dict[str, Array]:
        """The largest magnitudes of the groups that the block touches."""
        pieces = list(self.groups(spec).slices(start, block.size))
        groups = span(pieces)
        peaks = np.zeros(groups.stop - groups.start, np.float32)
        widen = native.of("widen_ranges")
        for piece in pieces:
            if widen is not None and piece.width is not None:
                low, high = np.zeros((2, piece.groups.stop - piece.groups.start), np.float32)
                widen(piece.flat(block), piece.width, low, high)
                peaks[within(piece, groups)] = np.maximum(-low, high)
                continue
            at, values = within(piece, groups), piece.of(block)
            for found in (piece.reduce(np.maximum, values), -piece.reduce(np.minimum, values)):
                np.maximum(peaks[at], found, out=peaks[at])
        return {"first": np.array(groups.start), "peaks": peaks}

    def fit(
        self, observed: Sequence[dict[str, Array]], spec: TensorSpec, state: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Scales of all groups."""
        peaks = np.zeros(self.groups(spec).count, np.float32)
        for part in observed:
            at = slice(int(part["first"]), int(part["first"]) + part["peaks"].size)
            np.maximum(peaks[at], part["peaks"], out=peaks[at])
        if not np.isfinite(peaks).all():
            raise Refused("it holds NaN or infinity")
        return self.scales_of(np.abs(peaks))  # no negative zeros

    def side_info(self, state: Mapping[str, Array], spec: TensorSpec) -> dict[str, Values]:
        """The scales."""
        return scales.values(state)

    def encode_block(self, block: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Codes of one block: of the levels nearest to its elements in units of their scales."""
        codes, groups = np.empty(block.shape, np.uint8), self.groups(spec)
        for piece in groups.slices(start, block.size):
            scale = self.load_scales(side, groups.count, piece.groups)
            if piece.width is None or not self.levels.encode(piece.flat(block), scale, piece.flat(codes)):
                piece.of(codes)[:] = self.levels.nearest(piece.of(block) / piece.spread(scale))
        return codes

    def decode_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Values of one block: levels times scales, one float32 multiplication."""
        block, groups = np.empty(codes.shape, np.float32), self.groups(spec)
        for piece in groups.slices(start, codes.size):
            scale, out = self.load_scales(side, groups.count, piece.groups), piece.of(block)
            if piece.width is None or not self.levels.decode(piece.flat(codes), scale, piece.flat(block)):
                with np.errstate(over="ignore", invalid="ignore"):
                    np.multiply(self.levels.table.take(piece.of(codes)), piece.spread(scale), out=out)
            if not scale.max() < _LARGEST / (2 * self.levels.largest):
                np.clip(out, -_LARGEST, _LARGEST, out=out)
        return block

    def cells_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Cells:
        """Ends of the cells of one block: the bounds of levels times scales, each one float32 multiplication."""
        low, high = (ends.take(codes) for ends in self.levels.ends(self.reach))
        groups = self.groups(spec)
        for piece in groups.slices(start, codes.size):
            scale = piece.spread(self.load_scales(side, groups.count, piece.groups))
            with np.errstate(over="ignore"):
                for ends in (low, high):
                    np.multiply(piece.of(ends), scale, out=piece.of(ends))
        return Cells(low, high)
