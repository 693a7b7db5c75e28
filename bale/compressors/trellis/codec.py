"""Entropy-coded trellis quantization: the codec."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bale.compressors.base import Cells, PartBound, Values
from bale.compressors.floats import require_float, to_float32
from bale.compressors.rate_controlled import RateControlled, Trials
from bale.compressors.settings import setting
from bale.errors import Refused, UsageError
from bale.spec import Array, TensorSpec

if TYPE_CHECKING:
    from bale.compressors.trellis.pool import Member

STATES = {"fast": 8, "high": 32, "max": 256}
_LEAST_BYTES = 64
_ROOM = 64
_AROUND = np.float32(2)
"""Steps: levels of a subset are four apart, centroids lie near them, and values are rounded."""


@dataclass(frozen=True)
class Trellis(RateControlled):
    """Trellis coded quantization with an entropy coder: the least error for a size, or the least size for an error.

    One of `bits`, `error` and `snr`, or `step` alone, says how much is kept; ``bits=4`` is the default. A value comes
    back as ``k step``, where a convolutional code restricts k: its state fixes the parity of the next k, and bit 1 of
    k leads to the next state. So each value has levels two steps apart, and the search for the best path (Viterbi's)
    makes the error nearly that of levels one step apart. Levels are entropy-coded with a table for each parity and each
    class of rows and columns of like size. The smallest levels come back as their centroids. Where most values are
    zero, and in tiny tensors, levels are chosen without a trellis if that is better.

    Part: ``qdata``, bytes that hold all there is.

    Error: with `error` or `snr`, the relative error, after rounding to the tensor's dtype, is at most what was asked
    for, and within 1 % of it where there are enough values. With `bits`, the part takes at most that many bits a weight
    with everything counted, and at least 99.5 % of that unless the tensor holds less information or is small; the SNR
    of normal deviates is then 6.02 bits - 0.5 dB. With `step`, it is about step / 2; a step below 2^-22 of the largest
    magnitude becomes that. A `step` beside one of the others is where their search begins, and is kept if it meets the
    target: if it takes no more than `bits` and no less than 99.5 % of them, or has the error within 1 %. So a plan that
    knows the step has it coded once.

    With ``pool=model``, all tensors that this pipeline is chosen for meet `bits`, `error` or `snr` together, by one
    step that is found on samples of them and stands in plan and report as ``trellis:step=...``. That is the least
    error of all weights together for a size, and the reverse: an error of 10 % takes 3.28 bits on MiniLM in place of
    3.34, and 1.37 in place of 2.80 on Whisper, whose matrices differ more. Matrices of small values get few bits
    then; whether a model can spare them, only the model can say.

    Given mean squares of its inputs (`bale stats`), paths are chosen by the error of the layer's output, while step,
    size and decoder stay as they are. On MiniLM that takes 0.63 and 0.68 of the divergence at 3 and 4 bits, for 0.8 dB
    of the weights' own SNR. Given their covariances too, paths are searched a second time, each given the errors on all
    others: 0.46 and 0.48, at 3 M weights/s, in memory of 8 times the float32 size. Such files depend on the machine's
    BLAS in the last digits. `error` and `snr` are still met by the weights, with more bits. Where levels are chosen
    without a trellis, statistics change nothing.

    As a second layer, ``svd:rank=16+int8/trellis:bits=3``, it meets `bits`, `error` or `snr` together with the first
    one: it takes what bits the first layer leaves, or lets the sum of both have the error. Where the first layer alone
    has less error than that, it takes some 50 bytes. A tensor whose first layer takes all bits is refused. Only `step`
    is its own. Behind a base, all of them are about the difference.

    `trellis:bits=3/exact`, or a base that was coded so, takes 0.4 to 1.4 % more than `lossless:effort=max` alone.

    Use it wherever size or error count and weights are decoded before they are used: at 4 bits about 24 dB on
    linear layers, 4 dB more than int4 in groups. Not where codes are to be computed with as they are. About 90 M
    weights/s a core with ``effort=fast``, 70 and 20 M with `high` and `max`, which gain 0.12 and 0.24 dB; small
    tensors, which are coded with several steps until one fits, take some times as long. Decoding, 180 M, is whole
    numbers and one float32 multiplication a value, the same on every machine.

    Ungerboeck 1982, doi:10.1109/TIT.1982.1056454 (codes); Marcellin and Fischer 1990, doi:10.1109/26.46532; Fischer and
    Wang 1992, IEEE Trans. Inf. Theory 38, page 415 (entropy coding). Classes and generated tables are bale's own.

    >>> x = Values(TensorSpec("F32", (64, 64)), np.sin(np.arange(4096, dtype=np.float32)).reshape(64, 64))
    >>> parts = Trellis(bits=4).encode(x)
    >>> 8 * parts["qdata"].array.size / x.spec.elements <= 4
    True
    >>> bool(np.abs(Trellis(bits=4).decode(parts, x.spec) - x.array).max() < 0.2)
    True
    """

    name: ClassVar[str] = "trellis"
    lossless: ClassVar[bool] = False
    last: ClassVar[bool] = True
    uses_covariance: ClassVar[bool] = True
    one_step: ClassVar[bool] = True

    bits: float | None = setting(
        None, low=0.1, high=20, help="bits a weight as stored, all that it takes counted, at most"
    )
    error: float | None = setting(None, low=1e-7, high=1, help="relative error in the Frobenius norm, at most")
    snr: float | None = setting(None, low=0, high=140, help="signal-to-noise ratio in dB, at least")
    step: float | None = setting(
        None, low=1e-38, high=1e38, help="distance of neighbouring levels; beside bits, error or snr: where to begin"
    )
    effort: Literal["fast", "high", "max"] = setting("fast", help="states of the trellis: 8, 32 or 256")
    balance: Literal["none", "column"] = setting(
        "none", help="whether columns are divided by the square root of their mean magnitude"
    )
    pool: Literal["tensor", "model"] = setting(
        "tensor", help="what meets bits, error or snr: each tensor, or all that are coded so together, with one step"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [key for key in ("bits", "error", "snr") if getattr(self, key) is not None]
        if len(given) > 1:
            raise UsageError(f"trellis: {' and '.join(given)} given", "give one of bits, error, snr")
        if not given and self.step is None:
            object.__setattr__(self, "bits", 4.0)
        if self.pool == "model" and self.step is not None:
            raise UsageError("trellis: a step is the same for all tensors anyway", "leave out pool=model")

    def with_bits(self, bits: float) -> Trellis:
        """The same codec with a number of bits as its target."""
        return replace(self, bits=bits, error=None, snr=None, step=None)

    def with_error(self, error: float) -> Trellis:
        """The same codec with a relative error as its target."""
        return replace(self, bits=None, error=error, snr=None, step=None)

    def with_step(self, step: float) -> Trellis:
        """The same codec with a step in place of its target."""
        return replace(self, bits=None, error=None, snr=None, step=step, pool="tensor")

    def near(self, step: float) -> Trellis:
        """The same codec with a step at which the search for its target begins."""
        return replace(self, step=step)

    @property
    def has_target(self) -> bool:
        """Whether it is more than a step."""
        return self.bits is not None or self.relative_error is not None

    @property
    def relative_error(self) -> float | None:
        """The relative error that `error` or `snr` asks for."""
        return self.error if self.snr is None else float(10 ** (-self.snr / 20))

    @property
    def is_pooled(self) -> bool:
        """Whether all tensors of a pipeline meet the target together."""
        return self.pool == "model"

    def member(self, values: Values, most: int) -> Member:
        """A tensor whose size and error are wanted for steps; see `pool.Member`."""
        from bale.compressors.trellis.pool import Member

        return Member(values, self, most)

    def common_step(self, members: Sequence[Any], trials: Trials) -> float | None:
        """The step with which all members meet the target together, or None where none does; see `pool.common_step`."""
        from bale.compressors.trellis.pool import common_step

        return common_step(members, self, trials)

    def load(self) -> None:
        """Import the compiled code."""
        import bale.compressors.trellis.rate_control  # noqa: F401

    def validate(self, spec: TensorSpec) -> None:
        """Refuse what is not floating point, is quantized already, or has too few elements for `bits`."""
        require_float(spec)
        if self.bits is not None and self._most(spec) < _LEAST_BYTES:
            raise Refused(
                f"{spec.elements} elements of {self.bits:g} bits are {self._most(spec)} bytes, "
                f"and trellis takes {_LEAST_BYTES} at least"
            )

    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """One part: what a size asks for, or no more than the tensor takes and a little."""
        return (PartBound("qdata", TensorSpec("U8", (self._most(spec),))),)

    def encode(self, values: Values) -> dict[str, Values]:
        """Code a tensor.

        Raises
        ------
        Refused
            For NaN or Inf, for an error that rounding to the dtype breaks alone, or where nothing is gained.
        """
        return self.encode_and_decode(values)[0]

    def encode_and_decode(self, values: Values) -> tuple[dict[str, Values], Callable[[], Array] | None]:
        """Code a tensor, and say what it comes back as."""
        from bale.compressors.trellis.rate_control import Target, encode, encode_step
        from bale.compressors.trellis.scaled_tensor import ScaledTensor

        tensor = ScaledTensor(
            values.array.reshape(-1), values.spec, balanced=self.balance == "column", importance=values.importance
        )
        states, error = STATES[self.effort], self.relative_error
        if self.step is not None and not self.has_target:
            stream = encode_step(tensor, self.step, states)
        else:
            target = Target.bits(self.bits or 0, tensor) if error is None else Target.error(error, tensor)
            stream = encode(tensor, target, states, self.step)
        data = stream.data
        if len(data) > self._most(values.spec):
            raise Refused(f"it would take {len(data)} bytes, of {self._most(values.spec)} at most")
        return {"qdata": Values(TensorSpec("U8", (len(data),)), np.frombuffer(data, np.uint8))}, stream.decoded

    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        """Values of a tensor."""
        from bale.compressors.trellis.stream import Reader, is_plain, read_plain

        data = parts["qdata"].array.data
        if is_plain(data):
            return read_plain(data, spec).reshape(spec.shape)
        return Reader.open(data, spec).decode().reshape(spec.shape)

    def cells(
        self, decoded: Array, parts: Mapping[str, Values], spec: TensorSpec
    ) -> Callable[[slice], Cells | None] | None:
        """Cells of any run of the elements of a decoded tensor: two steps around the decoded values."""
        from bale.compressors.trellis.stream import Reader, is_plain

        data = parts["qdata"].array.data
        if is_plain(data):
            return None
        reader = Reader.open(data, spec)
        if reader.scaling.exponent or reader.scaling.balance is not None:
            return None
        around = _AROUND * reader.model.step

        def cells(at: slice) -> Cells:
            values = to_float32(decoded[at], spec)
            return Cells(values - around, values + around, overlap=True)

        return cells

    def spec_of(self, parts: Mapping[str, Values], bound: TensorSpec) -> TensorSpec:
        """The shape stands in the bytes."""
        from bale.compressors.trellis.stream import read_shape

        shape = read_shape(parts["qdata"].array.data)[0]
        if len(shape) != len(bound.shape) or any(a > b for a, b in zip(shape, bound.shape, strict=True)):
            raise ValueError(f"a trellis stream of the shape {shape}, not {bound.shape}")
        return TensorSpec(bound.dtype, shape)

    def _most(self, spec: TensorSpec) -> int:
        """Bytes at most."""
        if self.bits is not None:
            return math.floor(self.bits * spec.elements / 8)
        return spec.nbytes + _ROOM
