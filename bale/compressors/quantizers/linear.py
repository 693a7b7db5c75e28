"""Linear quantization: evenly spaced levels, a scale and a zero point for each group of elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.base import Cells, PartBound, Place, Quantizer, Spans, Values
from bale.compressors.floats import require_float
from bale.compressors.importance import Importance
from bale.compressors.kernels import native
from bale.compressors.quantizers import scales
from bale.compressors.quantizers.groups import Groups, GroupSlice, span, within
from bale.compressors.settings import setting
from bale.errors import Refused, UsageError
from bale.spec import Array, TensorSpec

CLIPS = np.arange(20, 7, -1, dtype=np.float32) / np.float32(20)
"""Shares of the full range that ``clip=mse`` tries: 1, 0.95, ... 0.4."""

CLIPS_OF_FEW_BITS = np.arange(20, 1, -1, dtype=np.float32) / np.float32(20)
"""The same for 1 and 2 bits: down to 0.1."""

_LARGEST = np.finfo(np.float32).max
_GROUPS_AT_ONCE = 1 << 16  # float64 working space of a few MB, however many groups there are
_BELOW, _ABOVE = np.float32(1 - 2.0**-20), np.float32(1 + 2.0**-20)  # room for rounding
_SHORT = 256  # elements of a group up to which its span is worth using
_MAY_OVERFLOW = 2.0**119
"""Scales from here on, rounded up, may take the end of the range past float32's."""


@dataclass(frozen=True)
class Int(Quantizer):
    """Integers of 1 to 8 bits, evenly spaced between the least and the largest value of a row or group.

    The tensor is cut into *groups*: rows, columns, stretches of `group` elements (the last may be shorter), tiles of
    `rows` rows by `group` elements, or all of it. A group with values between ``lo = min(x, 0)`` and ``hi = max(x, 0)``
    has the scale ``s = (hi - lo) / (2^bits - 1)`` and the zero point ``z = rint(-lo / s)``; x becomes ``k = rint(x /
    s)``, limited to ``-z .. 2^bits - 1 - z``, and comes back as ``k s``. When symmetric, ``s = max|x| / (2^(bits - 1) -
    1)`` and there is no zero point. Zero then always comes back as zero.

    With ``zero=float`` the zero point is a number m, ``lo = min x``, ``hi = max x`` and ``m = lo + 2^(bits-1) s``; x
    becomes ``k = rint((x - m) / s)``, limited to ``-2^(bits-1) .. 2^(bits-1) - 1``, and comes back as ``k s + m``.

    Parts: ``qdata``, k modulo 2^bits (so that entropy coding sees its peak at 0), uint8 in the tensor's shape;
    ``scale``, shape ``(groups,)``; ``zero``, z as uint8 or m, shape ``(groups,)``, not when symmetric. Scales are F16,
    or F32 for the whole tensor when one of them would not be a normal F16, unless ``scale`` says otherwise: ``fp8`` and
    ``log`` take 8 bits each and two numbers for all (``scale.range``), and fit best where the scales of a tensor are
    alike; ``fp16`` leaves a tensor that it does not suit lossless; ``bf16`` is what software for models in BF16 loads
    (`bale export`). They are rounded up, so that the range always fits,
    and never zero. m is F16 too, or F32 for the whole tensor where F16 would be off by more than a quarter of a step.

    Error: ``|x - x'| <= s / 2`` for each element with the stored scale of its group, for ``clip=absmax``. (As ``n =
    2^bits - 1 >= (hi - lo) / s`` and z is within 1/2 of ``-lo / s``, the ends -z and n - z are at most 1/2 inside of
    lo / s and hi / s: limiting k costs no more than rounding it. With m, the same holds for what is left of 1/2 by
    rounding m.) Float32 arithmetic adds at most 2^-15 s, with m also ``2^-23 (|x| + |m|)``, and rounding to the
    tensor's own dtype half a unit in the last place. With ``clip=mse`` the sum of squared errors of each group is the
    least over `CLIPS` (shares of the range, around 0, or around the middle with ``zero=float``; for 1 and 2 bits
    `CLIPS_OF_FEW_BITS`), and values beyond the clipped range may be off by more. Given statistics of the tensor's
    inputs, squared errors are weighted there by the mean squares of their inputs.

    Use it where a plain, fast and widely understood format is wanted: 8 bits by row keep about 40 dB, 4 bits in
    groups of 64 about 20 dB. ``zero=float`` is for values far from zero, and for a single bit. Not for optimizer second
    moments, whose small values all become zero (`positive` in front of it keeps them). About 120 M weights/s encoding,
    10 M with ``clip=mse``, 450 M decoding, which is elementwise float32, the same on every machine.

    Affine quantization as in Jacob et al. 2018 (arXiv:1712.05877), equation 1; storing k, not k + z, is bale's own.

    >>> x = Values(TensorSpec("F32", (1, 4)), np.array([[-1, -0.5, 0.5, 2]], np.float32))
    >>> parts = Int(bits=2).encode(x)
    >>> {name: part.array.tolist() for name, part in parts.items()}
    {'qdata': [[3, 0, 0, 2]], 'scale': [1.0], 'zero': [1]}
    >>> Int(bits=2).decode(parts, x.spec).tolist()
    [[-1.0, 0.0, 0.0, 2.0]]
    """

    name: ClassVar[str] = "int"

    bits: int = setting(8, low=1, high=8, help="bits of a code")
    group: int | Literal["row", "column", "tensor"] = setting(
        "row", low=1, help="elements that share a scale: a row (first dimension), a column, a number of them, or all"
    )
    symmetric: bool = setting(False, help="whether zero is the middle of the range, which saves the zero points")
    clip: Literal["absmax", "mse"] = setting(
        "absmax", help="range of a group: all its values, or the part of it with the least squared error"
    )
    rows: int = setting(1, low=1, help="rows that share a scale, too: tiles of `rows` rows by `group` elements")
    zero: Literal["int", "float"] = setting("int", help="zero points: whole steps from zero, or any numbers")
    scale: Literal["auto", "fp16", "bf16", "fp32", "fp8", "log"] = setting(
        "auto", help="form that scales are stored in; auto is fp16, or fp32 where that does not do"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.symmetric and (self.bits == 1 or self.zero == "float"):
            raise UsageError("int: symmetric=true has no zero points, and needs 2 bits", "leave out symmetric=true")
        if self.rows > 1 and self.group in ("column", "tensor"):
            raise UsageError(f"int: rows={self.rows} does not go with group={self.group}", "give group as a number")

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not floating point, is quantized already or has no elements."""
        require_float(spec)

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Codes, scales and, unless symmetric, zero points."""
        groups = self._groups(spec).count
        zero = (
            ()
            if self.symmetric
            else (PartBound("zero", TensorSpec("F32", (groups,))),)
            if self.zero == "float"
            else (PartBound("zero", TensorSpec("U8", (groups,)), bits=self.bits),)
        )
        return (
            PartBound("qdata", TensorSpec("U8", spec.shape), primary=True, bits=self.bits),
            *scales.parts(self.scale, groups),
            *zero,
        )

    def passes(self, spec: TensorSpec) -> int:
        """One for the ranges; one more for the errors of clipped ranges, where a group is not whole within a block."""
        return 2 if self.clip == "mse" and not self._groups(spec).whole else 1

    def block_multiple(self, spec: TensorSpec) -> int:
        """Whole groups or rows, unless they are longer than 2^20."""
        return self._groups(spec).multiple

    def observe(
        self,
        block: Array,
        start: int,
        spec: TensorSpec,
        state: Mapping[str, Array],
        importance: Importance | None = None,
    ) -> dict[str, Array]:
        """The ranges of the groups that the block touches; then, for long ones, their squared errors for each clip."""
        pieces = list(self._groups(spec).slices(start, block.size))
        groups = span(pieces)
        weights = (
            importance.weights(spec.shape, start, block.size) if importance is not None and self.clip == "mse" else None
        )
        if state:
            errors = self._clip_errors(block, pieces, state["lo"][groups], state["hi"][groups], weights)
            return {"first": np.array(groups.start), "errors": errors}
        lo, hi = self._no_range(groups.stop - groups.start)
        widen = native.of("widen_ranges") if self.zero == "int" else None  # which takes -0 and 0 for the same
        for piece in pieces:
            at, values = within(piece, groups), piece.of(block)
            if widen is not None and piece.width is not None:
                widen(piece.flat(block), piece.width, lo[at], hi[at])
                continue
            np.minimum(lo[at], piece.reduce(np.minimum, values), out=lo[at])
            np.maximum(hi[at], piece.reduce(np.maximum, values), out=hi[at])
        if self.clip == "mse" and self.passes(spec) == 1 and np.isfinite(lo).all() and np.isfinite(hi).all():
            lo, hi = self._clipped(
                lo, hi, self._clips[self._clip_errors(block, pieces, lo, hi, weights).argmin(axis=0)]
            )
        return {"first": np.array(groups.start), "lo": lo, "hi": hi}

    def fit(
        self, observed: Sequence[dict[str, Array]], spec: TensorSpec, state: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Ranges of all groups; once the errors are known too, or not wanted, scales and zero points."""
        if not state:
            lo, hi = self._no_range(self._groups(spec).count)
            for part in observed:
                at = slice(int(part["first"]), int(part["first"]) + part["lo"].size)
                np.minimum(lo[at], part["lo"], out=lo[at])
                np.maximum(hi[at], part["hi"], out=hi[at])
            if not np.isfinite(lo).all() or not np.isfinite(hi).all():
                raise Refused("it holds NaN or infinity")
            if self.passes(spec) == 2:
                return {"lo": lo, "hi": hi}
        else:
            errors = np.zeros((self._clips.size, self._groups(spec).count))
            for part in observed:
                at = slice(int(part["first"]), int(part["first"]) + part["errors"].shape[1])
                errors[:, at] += part["errors"]
            lo, hi = self._clipped(state["lo"], state["hi"], self._clips[errors.argmin(axis=0)])
        return self._steps(lo, hi)

    def side_info(self, state: Mapping[str, Array], spec: TensorSpec) -> dict[str, Values]:
        """Scales and, unless symmetric, zero points."""
        return scales.values(state, self.bits, Place(self._table(spec)))

    def encode_block(self, block: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Codes of one block."""
        codes = np.empty(block.shape, np.uint8)
        encode = native.of("encode_linear")
        for piece in self._groups(spec).slices(start, block.size):
            if encode is not None and self._is_plain(piece):
                numbers = self._of_groups(side, spec, piece)
                encode(piece.flat(block), piece.width, *numbers, int(self.symmetric), self._mask, piece.flat(codes))
                continue
            scale, zero = self._loaded(side, spec, piece)
            levels = self._levels(self._in_steps(piece.of(block), scale, zero), zero)
            np.bitwise_and(levels.astype(np.int16), self._mask, out=piece.of(codes), casting="unsafe")
        return codes

    def decode_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Values of one block: ``((code + z) mod 2^bits - z) s``, and with ``zero=float`` m more."""
        block = np.empty(codes.shape, np.float32)
        decode = native.of("decode_linear")
        for piece in self._groups(spec).slices(start, codes.size):
            if decode is not None and self._is_plain(piece):
                scale, zero = self._of_groups(side, spec, piece)
                decode(piece.flat(codes), piece.width, scale, zero, self._mask, piece.flat(block))
                if scale.max() >= _MAY_OVERFLOW:
                    np.clip(piece.flat(block), -_LARGEST, _LARGEST, out=piece.flat(block))
                continue
            scale, zero = self._loaded(side, spec, piece)
            out = self._signed(piece.of(codes), zero, piece.of(block))
            with np.errstate(over="ignore"):
                out *= scale
                if self.zero == "float":
                    out += zero
            if self.zero == "float" or scale.max() >= _MAY_OVERFLOW:
                np.clip(out, -_LARGEST, _LARGEST, out=out)
        return block

    def cells_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Cells:
        """Ends of the cells of one block: ``(k - 1/2) s`` and ``(k + 1/2) s``, plus m with ``zero=float``; float32."""
        low, high = np.empty((2, codes.size), np.float32)
        for piece in self._groups(spec).slices(start, codes.size):
            scale, zero = self._loaded(side, spec, piece)
            level = self._signed(piece.of(codes), zero)
            with np.errstate(over="ignore"):
                for ends, half in ((piece.of(low), np.float32(-0.5)), (piece.of(high), np.float32(0.5))):
                    np.multiply(level + half, scale, out=ends)
                    if self.zero == "float":
                        ends += zero
        return Cells(low, high, self._spans(start, codes.size, spec, side["scale"].array))

    def _spans(self, start: int, count: int, spec: TensorSpec, scale: Array) -> Spans | None:
        """``hi - lo``, which lies between the scale and the one below it, times ``2^bits - 1``, for short groups."""
        groups = self._groups(spec)
        if self.clip != "absmax" or self.symmetric or self.zero == "float" or scale.dtype.kind == "u":
            return None
        if groups.rows > 1 or start % groups.width or groups.width > _SHORT:
            return None
        most = scale[start // groups.width : -(-(start + count) // groups.width)]
        with np.errstate(all="ignore"):
            least = np.nextafter(most, most.dtype.type(0)).astype(np.float32) * np.float32(self._mask)
            bounds = least * _BELOW, most.astype(np.float32) * np.float32(self._mask) * _ABOVE
        return Spans(groups.width, 0, np.stack(bounds, axis=1))

    @property
    def _mask(self) -> int:
        return int(2**self.bits - 1)

    @property
    def _middle(self) -> int:
        return int(2 ** (self.bits - 1))

    @property
    def _clips(self) -> Array:
        return CLIPS_OF_FEW_BITS if self.bits <= 2 else CLIPS

    def _groups(self, spec: TensorSpec) -> Groups:
        return Groups.of(spec, self.group, self.rows)

    def _table(self, spec: TensorSpec) -> tuple[int, ...]:
        """The groups as rows and columns, where each row of the tensor has a whole number of them."""
        groups, rows = self._groups(spec), spec.shape[0] if spec.shape else 1
        if groups.rows > 1:
            return (groups.count // groups.across, groups.across)
        return (rows, groups.count // rows) if groups.columns % (rows * groups.width) == 0 else (groups.count,)

    def _no_range(self, groups: int) -> tuple[Array, Array]:
        """Ranges to begin with: at zero, or empty with ``zero=float``."""
        first = np.float32(np.inf if self.zero == "float" else 0)
        return np.full(groups, first), np.full(groups, -first)

    def _clipped(self, lo: Array, hi: Array, share: Array | np.float32) -> tuple[Array, Array]:
        """Shares of ranges: around zero, or around their middle with ``zero=float``."""
        middle = (lo / 2 + hi / 2) if self.zero == "float" else np.float32(0)
        return (lo - middle) * share + middle, (hi - middle) * share + middle

    def _steps(self, lo: Array, hi: Array) -> dict[str, Array]:
        """Scales and zero points, as they are stored, of groups with these ranges (float32)."""
        blocks = [slice(at, at + _GROUPS_AT_ONCE) for at in range(0, lo.size, _GROUPS_AT_ONCE)]
        wanted = np.empty(lo.shape, np.float32)
        for at in blocks:
            wanted[at] = self._wanted(lo[at], hi[at])
        found = scales.store(wanted, self.scale)
        if self.symmetric:
            return found
        side, zero, coarse = scales.values(found), np.empty(lo.shape, np.float32), self.zero == "float"
        for at in blocks:
            zero[at], close = self._zero_points(lo[at], hi[at], scales.load(side, self.scale, lo.size, at))
            coarse = coarse and bool(close.all())
        return {**found, "zero": zero.astype(np.uint8 if self.zero == "int" else np.float16 if coarse else np.float32)}

    def _wanted(self, lo: Array, hi: Array) -> Array:
        """Scales before they are stored, float32."""
        wanted = scales.rounded_up(self._exact_steps(lo, hi))
        if not wanted.max(initial=0) <= _LARGEST / (2**self.bits if self.zero == "float" else 1):
            raise Refused("its range is beyond float32")
        return wanted

    def _zero_points(self, lo: Array, hi: Array, scale: Array) -> tuple[Array, Array]:
        """Zero points (float32) for stored scales, and of which F16 is close enough."""
        low, step = lo.astype(np.float64), scale.astype(np.float64)
        if self.zero == "int":
            return np.rint(-low / step).astype(np.float32), np.zeros(lo.shape, np.bool_)
        exact = np.where(lo == hi, low, low + self._middle * step)
        zero = np.clip(exact, -_LARGEST, _LARGEST).astype(np.float32)
        with np.errstate(over="ignore"):
            return zero, np.abs(zero.astype(np.float16) - exact) <= step / 4

    def _exact_steps(self, lo: Array, hi: Array) -> Array:
        """Scales before rounding, float64; 0 for groups of zeros; of a group of equal numbers their magnitude."""
        low, high = lo.astype(np.float64), hi.astype(np.float64)
        if self.symmetric:
            return np.maximum(-low, high) / (self._mask // 2)
        return np.where(low == high, np.abs(low), (high - low) / self._mask)

    def _clip_errors(
        self, block: Array, pieces: Sequence[GroupSlice], lo: Array, hi: Array, weights: Array | None
    ) -> Array:
        """Squared errors of groups with these ranges, shape ``(clips, groups)``, for each share of them."""
        groups, errors = span(list(pieces)), np.zeros((self._clips.size, lo.size))
        for clip, found in zip(self._clips, errors, strict=True):
            begin, end = self._clipped(lo, hi, clip)
            scale = scales.estimated(self._wanted(begin, end))
            zeros = np.full(lo.size, self._middle, np.float32)
            if not self.symmetric:
                zeros, close = self._zero_points(begin, end, scale)
                zeros[close] = zeros[close].astype(np.float16)
            for piece in pieces:
                at = within(piece, groups)
                weight = None if weights is None else piece.of(weights)
                found[at] += self._squared_errors(piece, piece.of(block), scale[at], zeros[at], weight)
        return errors

    def _in_steps(self, values: Array, scale: Array, zero: Array) -> Array:
        return (values - zero.astype(np.float32) if self.zero == "float" else values) / scale

    def _levels(self, steps: Array, zero: Array) -> Array:
        """Nearest levels (float32) within the range, written over `steps`; a symmetric range leaves out the lowest."""
        np.rint(steps, out=steps)
        below = np.float32(self._middle) if self.zero == "float" else zero
        np.clip(steps, np.float32(self.symmetric) - below, np.float32(self._mask) - below, out=steps)
        return steps

    def _signed(self, codes: Array, zero: Array, out: Array | None = None) -> Array:
        """Levels (float32) of codes."""
        below = np.uint8(self._middle) if self.zero == "float" else zero
        shifted = codes + below
        np.bitwise_and(shifted, self._mask, out=shifted)
        return np.asarray(np.subtract(shifted, below, out=out, dtype=np.float32))

    def _squared_errors(
        self, piece: GroupSlice, values: Array, scale: Array, zero: Array, weights: Array | None
    ) -> Array:
        """Sum over each group, float64; taken in steps, for the squares of values may leave float32's range."""
        spread = piece.spread(zero)
        steps = self._in_steps(values, piece.spread(scale), spread)
        difference = steps - self._levels(steps.copy(), spread)
        np.square(difference, out=difference)  # no einsum, which rounds as the machine has it
        if weights is not None:
            difference = difference * weights.astype(np.float64)
        sums = piece.reduce(np.add, difference if piece.widths is None else difference.astype(np.float64))
        return np.asarray(sums * np.square(scale, dtype=np.float64))

    def _is_plain(self, piece: GroupSlice) -> bool:
        """Whether the loops in C are made for this slice."""
        return piece.width is not None and self.zero == "int"

    def _loaded(self, side: Mapping[str, Values], spec: TensorSpec, piece: GroupSlice) -> tuple[Array, Array]:
        """Scales (float32) and zero points of the groups of a slice, spread over it."""
        scale, zero = self._of_groups(side, spec, piece)
        if self.symmetric:
            return piece.spread(scale), np.array([[self._middle]], np.uint8)
        return piece.spread(scale), piece.spread(zero)

    def _of_groups(self, side: Mapping[str, Values], spec: TensorSpec, piece: GroupSlice) -> tuple[Array, Array]:
        """Scales (float32) and zero points of the groups of a slice. The number of all is checked."""
        groups = self._groups(spec).count
        scale = scales.load(side, self.scale, groups, piece.groups)
        if self.symmetric:
            return scale, np.full(scale.shape, self._middle, np.uint8)
        zero = side["zero"].array
        if zero.shape != (groups,):
            raise ValueError(f"{zero.size} zero points for {groups} groups")
        if not np.isfinite(zero[piece.groups]).all():
            raise ValueError("a zero point is not a number")
        found = zero[piece.groups]
        return scale, found.astype(np.float32) if self.zero == "float" else found
