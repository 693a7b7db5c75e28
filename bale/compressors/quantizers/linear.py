"""Linear quantization: evenly spaced levels, a scale and a zero point for each run of elements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.base import Cells, PartBound, Place, Quantizer, Spans, Values
from bale.compressors.floats import require_float
from bale.compressors.settings import setting
from bale.errors import Refused
from bale.spec import Array, TensorSpec

CLIPS = np.arange(20, 7, -1, dtype=np.float32) / np.float32(20)
"""Shares of the full range that ``clip=mse`` tries: 1, 0.95, ... 0.4."""

_LONGEST_RUN_IN_A_BLOCK = 1 << 20
_HALF_LEAST, _HALF_LARGEST = 2.0**-14, 65504.0
_LARGEST = np.finfo(np.float32).max
_RUNS_AT_ONCE = 1 << 16  # float64 working space of a few MB, however many runs there are
_BELOW, _ABOVE = np.float32(1 - 2.0**-20), np.float32(1 + 2.0**-20)  # room for rounding
_SHORT = 256  # elements of a run up to which its span is worth telling
_MAY_OVERFLOW = 2.0**119
"""Scales from here on, rounded up, may take the end of the range past float32's."""


@dataclass(frozen=True)
class Int(Quantizer):
    """Integers of 2 to 8 bits, evenly spaced between the least and the largest value of a row or group.

    The flat tensor is cut into *runs*: rows, groups of so many elements (the last may be shorter), or all of it. A
    run with values between ``lo = min(x, 0)`` and ``hi = max(x, 0)`` has the scale ``s = (hi - lo) / (2^bits - 1)``
    and the zero point ``z = rint(-lo / s)``; x becomes ``k = rint(x / s)``, limited to ``-z .. 2^bits - 1 - z``, and
    comes back as ``k s``. When symmetric, ``s = max|x| / (2^(bits - 1) - 1)`` and there is no zero point. Zero always
    comes back as zero.

    Parts: ``qdata``, k modulo 2^bits (so that entropy coding sees its peak at 0), uint8 in the tensor's shape;
    ``scale``, shape ``(runs,)``; ``zero``, z as uint8, shape ``(runs,)``, not when symmetric. Scales are F16, or F32
    for the whole tensor when one of them would not be a normal F16; they are rounded up, so that the range always
    fits.

    Error: ``|x - x'| <= s / 2`` for each element with the scale of its run, for ``clip=absmax``. (As ``n = 2^bits - 1
    >= (hi - lo) / s`` and z is within 1/2 of ``-lo / s``, the ends -z and n - z are at most 1/2 inside of lo / s and
    hi / s: limiting k costs no more than rounding it.) Float32 arithmetic adds at most 2^-15 s, and rounding to the
    tensor's own dtype half a unit in the last place. With ``clip=mse`` the sum of squared errors of each run is the
    least over `CLIPS`, and values beyond the clipped range may be off by more.

    Use it where a plain, fast and widely understood format is wanted: 8 bits by row keep about 40 dB, 4 bits in
    groups of 64 about 20 dB. Not for optimizer second moments, whose small values all become zero. About
    120 M weights/s encoding, 10 M with ``clip=mse``, 450 M decoding, which is elementwise float32, the same on every
    machine.

    Affine quantization as in Jacob et al. 2018 (arXiv:1712.05877), equation 1; storing k, not k + z, is bale's own.
    """

    name: ClassVar[str] = "int"

    bits: int = setting(8, low=2, high=8, help="bits of a code")
    group: int | Literal["row", "tensor"] = setting(
        "row", low=1, help="elements that share a scale: a row (first dimension), so many, or all"
    )
    symmetric: bool = setting(False, help="whether zero is the middle of the range, which saves the zero points")
    clip: Literal["absmax", "mse"] = setting(
        "absmax", help="range of a run: all its values, or the part of it with the least squared error"
    )

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not floating point, is quantized already or has no elements."""
        require_float(spec)
        if not spec.elements:
            raise Refused("it has no elements")

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Codes, scales and, unless symmetric, zero points."""
        runs = (self._runs(spec),)
        zero = () if self.symmetric else (PartBound("zero", TensorSpec("U8", runs), bits=self.bits),)
        return (
            PartBound("qdata", TensorSpec("U8", spec.shape), primary=True, bits=self.bits),
            PartBound("scale", TensorSpec("F32", runs)),
            *zero,
        )

    def rounds(self, spec: TensorSpec) -> int:
        """One for the ranges; one more for the errors of clipped ranges, where a run is not whole within a block."""
        return 2 if self.clip == "mse" and self.block_multiple(spec) < self._run_length(spec) else 1

    def block_multiple(self, spec: TensorSpec) -> int:
        """Whole runs, unless they are longer than 2^20."""
        length = self._run_length(spec)
        return length if length <= _LONGEST_RUN_IN_A_BLOCK else 1

    def measure(self, block: Array, start: int, spec: TensorSpec, known: Mapping[str, Array]) -> dict[str, Array]:
        """The ranges of the runs that the block touches; then, for long runs, their squared errors for each clip."""
        rows = list(_rows(block, start, self._run_length(spec)))
        first, last = rows[0][0].start, rows[-1][0].stop
        if known:
            errors = self._clip_errors(rows, known["lo"][first:last], known["hi"][first:last])
            return {"first": np.array(first), "errors": errors}
        lo = np.minimum(np.concatenate([values.min(axis=1) for _, values in rows]), 0)
        hi = np.maximum(np.concatenate([values.max(axis=1) for _, values in rows]), 0)
        if self.clip == "mse" and self.rounds(spec) == 1 and np.isfinite(lo).all() and np.isfinite(hi).all():
            best = CLIPS[self._clip_errors(rows, lo, hi).argmin(axis=0)]
            lo, hi = lo * best, hi * best
        return {"first": np.array(first), "lo": lo, "hi": hi}

    def settle(
        self, measured: Sequence[dict[str, Array]], spec: TensorSpec, known: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Ranges of all runs; once the errors are known too, or not wanted, scales and zero points."""
        if not known:
            lo, hi = np.zeros((2, self._runs(spec)), np.float32)
            for part in measured:
                at = slice(int(part["first"]), int(part["first"]) + part["lo"].size)
                np.minimum(lo[at], part["lo"], out=lo[at])
                np.maximum(hi[at], part["hi"], out=hi[at])
            if not np.isfinite(lo).all() or not np.isfinite(hi).all():
                raise Refused("it holds NaN or infinity")
            if self.rounds(spec) == 2:
                return {"lo": lo, "hi": hi}
        else:
            errors = np.zeros((CLIPS.size, self._runs(spec)))
            for part in measured:
                at = slice(int(part["first"]), int(part["first"]) + part["errors"].shape[1])
                errors[:, at] += part["errors"]
            best = CLIPS[errors.argmin(axis=0)]
            lo, hi = known["lo"] * best, known["hi"] * best
        scale, zero = self._steps(lo, hi)
        return {"scale": scale, "zero": zero}

    def side(self, known: Mapping[str, Array], spec: TensorSpec) -> dict[str, Values]:
        """Scales and, unless symmetric, zero points."""
        scale, zero, place = known["scale"], known["zero"], Place(self._table(spec))
        kind = "F16" if scale.itemsize == 2 else "F32"
        stored = {"scale": Values(TensorSpec(kind, scale.shape), scale, place=place)}
        if not self.symmetric:
            stored["zero"] = Values(TensorSpec("U8", zero.shape), zero, self.bits, place)
        return stored

    def encode_block(self, block: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Codes of one block."""
        codes = np.empty(block.shape, np.uint8)
        for (runs, values), (_, out) in zip(*self._cut(spec, start, block, codes), strict=True):
            scale, zero = self._known(side, spec, runs)
            levels = self._levels(values / scale, zero)
            np.bitwise_and(levels.astype(np.int16), self._mask, out=out, casting="unsafe")
        return codes

    def decode_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Values of one block: ``((code + z) mod 2^bits - z) s``."""
        block = np.empty(codes.shape, np.float32)
        for (runs, values), (_, out) in zip(*self._cut(spec, start, codes, block), strict=True):
            scale, zero = self._known(side, spec, runs)
            shifted = values + zero
            np.bitwise_and(shifted, self._mask, out=shifted)
            np.subtract(shifted, zero, out=out, dtype=np.float32)
            with np.errstate(over="ignore"):
                out *= scale
            if scale.max() >= _MAY_OVERFLOW:
                np.clip(out, -_LARGEST, _LARGEST, out=out)
        return block

    def cells_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Cells:
        """Ends of the cells of one block: ``(k - 1/2) s`` and ``(k + 1/2) s``, each one float32 multiplication."""
        low, high = np.empty((2, codes.size), np.float32)
        for (runs, values), (_, down), (_, up) in zip(*self._cut(spec, start, codes, low, high), strict=True):
            scale, zero = self._known(side, spec, runs)
            shifted = values + zero
            np.bitwise_and(shifted, self._mask, out=shifted)
            level = np.subtract(shifted, zero, dtype=np.float32)
            with np.errstate(over="ignore"):
                np.multiply(level - np.float32(0.5), scale, out=down)
                np.multiply(level + np.float32(0.5), scale, out=up)
        return Cells(low, high, self._spans(start, codes.size, spec, side["scale"].array))

    def _spans(self, start: int, count: int, spec: TensorSpec, scale: Array) -> Spans | None:
        """``hi - lo``, which lies between the scale and the one below it, times ``2^bits - 1``, for short runs."""
        length = self._run_length(spec)
        if self.clip != "absmax" or self.symmetric or start % length or length > _SHORT:
            return None
        most = scale[start // length : -(-(start + count) // length)]
        with np.errstate(all="ignore"):
            least = np.nextafter(most, most.dtype.type(0)).astype(np.float32) * np.float32(self._mask)
            bounds = least * _BELOW, most.astype(np.float32) * np.float32(self._mask) * _ABOVE
        return Spans(length, 0, np.stack(bounds, axis=1))

    @property
    def _mask(self) -> int:
        return int(2**self.bits - 1)

    def _run_length(self, spec: TensorSpec) -> int:
        if isinstance(self.group, int):
            return self.group
        by_row = self.group == "row" and len(spec.shape) > 1
        return max(1, math.prod(spec.shape[1:]) if by_row else spec.elements)

    def _table(self, spec: TensorSpec) -> tuple[int, ...]:
        """The runs as rows and columns, where each row of the tensor has a whole number of them."""
        rows, runs = spec.shape[0] if spec.shape else 1, self._runs(spec)
        row = spec.elements // max(rows, 1)
        return (rows, runs // rows) if rows and row % self._run_length(spec) == 0 else (runs,)

    def _runs(self, spec: TensorSpec) -> int:
        return -(-spec.elements // self._run_length(spec))

    def _cut(self, spec: TensorSpec, start: int, *blocks: Array) -> tuple[Iterator[tuple[slice, Array]], ...]:
        return tuple(_rows(block, start, self._run_length(spec)) for block in blocks)

    def _steps(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        """Scales, as they are stored, and zero points of runs with these ranges (float32, lo <= 0 <= hi)."""
        blocks = [slice(at, at + _RUNS_AT_ONCE) for at in range(0, lo.size, _RUNS_AT_ONCE)]
        normal = all(_are_normal_halves(self._exact_steps(lo[at], hi[at])) for at in blocks)
        kind = np.float16 if normal else np.float32
        scale: Array = np.empty(lo.shape, kind)
        zero = np.full(lo.shape, 2 ** (self.bits - 1), np.uint8)
        for at in blocks:
            scale[at] = _rounded_up(self._exact_steps(lo[at], hi[at]), kind)
            if not self.symmetric:
                zero[at] = np.rint(-lo[at].astype(np.float64) / scale[at])
        return scale, zero

    def _exact_steps(self, lo: Array, hi: Array) -> Array:
        """Scales before rounding, float64; 1 for runs of zeros."""
        low, high = lo.astype(np.float64), hi.astype(np.float64)
        exact = np.maximum(-low, high) / (self._mask // 2) if self.symmetric else (high - low) / self._mask
        exact[exact == 0] = 1.0
        return exact

    def _clip_errors(self, rows: Sequence[tuple[slice, Array]], lo: Array, hi: Array) -> Array:
        """Squared errors of runs with these ranges, shape ``(clips, runs)``; the first run is that of the first row."""
        first = rows[0][0].start
        errors = np.empty((CLIPS.size, lo.size))
        for clip, found in zip(CLIPS, errors, strict=True):
            scale, zero = self._steps(lo * clip, hi * clip)
            for runs, values in rows:
                at = slice(runs.start - first, runs.stop - first)
                found[at] = self._squared_errors(values, scale[at], zero[at])
        return errors

    def _levels(self, steps: Array, zero: Array) -> Array:
        """Nearest levels (float32) within the range, written over `steps`; a symmetric range leaves out the lowest."""
        np.rint(steps, out=steps)
        np.clip(steps, np.float32(self.symmetric) - zero, np.float32(self._mask) - zero, out=steps)
        return steps

    def _squared_errors(self, rows: Array, scale: Array, zero: Array) -> Array:
        """Sum over each row, float64; taken in steps, for the squares of values may leave float32's range."""
        steps = rows / scale[:, None].astype(np.float32)
        difference = steps - self._levels(steps.copy(), zero[:, None])
        errors: Array = np.einsum("ij,ij->i", difference, difference) * np.square(scale, dtype=np.float64)
        return errors

    def _known(self, side: Mapping[str, Values], spec: TensorSpec, runs: slice) -> tuple[Array, Array]:
        """Scales (float32) and zero points of some runs, as columns; their number in all is checked."""
        shape, scale = (self._runs(spec),), side["scale"].array
        zero = None if self.symmetric else side["zero"].array
        if scale.shape != shape or (zero is not None and zero.shape != shape):
            raise ValueError(f"{scale.size} scales for {shape[0]} runs, or as many zero points")
        count = runs.stop - runs.start
        middle = np.full(count, 2 ** (self.bits - 1), np.uint8) if zero is None else zero[runs]
        return scale[runs].astype(np.float32)[:, None], middle[:, None]


def _rows(block: Array, start: int, length: int) -> Iterator[tuple[slice, Array]]:
    """Cut a block that starts at element `start` into matrices of whole and partial runs, each with its run numbers."""
    head = min(-start % length, block.size)
    body = (block.size - head) // length * length
    at, run = 0, start // length
    for size, width in ((head, head), (body, length), (block.size - head - body,) * 2):
        if size:
            count = size // width
            yield slice(run, run + count), block[at : at + size].reshape(count, width)
            at, run = at + size, run + count


def _are_normal_halves(exact: Array) -> bool:
    """Whether all scales are normal numbers of F16, rounded up or not."""
    return bool(exact.min(initial=1.0) >= _HALF_LEAST and exact.max(initial=1.0) <= _HALF_LARGEST)


def _rounded_up(exact: Array, kind: type[np.float16 | np.float32]) -> Array:
    """The least numbers of `kind` that are not below these."""
    near: Array = exact.astype(kind)
    np.nextafter(near, kind(np.inf), out=near, where=near < exact)
    return near
