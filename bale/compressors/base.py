"""The kinds of codec, distinguished by type, and the values that flow between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np

from bale.compressors import settings
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.importance import Importance
from bale.notes import Note
from bale.spec import Array, TensorSpec

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a chunk lies: the shape of its tensor, and the number of its first element there."""

    shape: tuple[int, ...]
    start: int = 0


@dataclass(frozen=True)
class Values:
    """An array in its storage bits, with its spec.

    `bits` is given for integer codes only: every element of `array` (uint8) is below ``2**bits``. `place` is a hint for
    encoders that use rows and columns, `importance` one for those that can make some errors smaller than others.
    """

    spec: TensorSpec
    array: Array
    bits: int | None = None
    place: Place | None = None
    importance: Importance | None = None


@dataclass(frozen=True)
class Spans:
    """Distance of the largest and the least value of each run of elements, where zero counts as a value too.

    Attributes
    ----------
    length : int
        Elements of a run.
    start : int
        Place of the first element in its run.
    bounds : Array
        Float32, shape ``(runs, 2)``: bounds of the distance, for that run and those behind it.
    """

    length: int
    start: int
    bounds: Array

    def cut(self, start: int) -> Spans:
        """Spans of the elements from `start` on."""
        runs, start = divmod(self.start + start, self.length)
        return Spans(self.length, start, self.bounds[runs:])


@dataclass(frozen=True)
class Cells:
    """Bounds between which values are expected: the float32 ends of a quantizer's cells, and spans if they are known.

    Cells may `overlap`: those of neighbouring levels lie a quarter of their width apart.
    """

    low: Array
    high: Array
    spans: Spans | None = None
    overlap: bool = False

    def cut(self, at: slice) -> Cells:
        """The cells of a run of elements."""
        spans = None if self.spans is None else self.spans.cut(at.start)
        return Cells(self.low[at], self.high[at], spans, self.overlap)

    @classmethod
    def joined(cls, found: Sequence[Cells]) -> Cells:
        """Cells of runs of elements that follow each other; spans only if they end where runs do."""
        bounds: list[Array] = []
        for each in found:
            spans = each.spans
            if spans is not None and not (bounds and spans.start) and (spans.start + each.low.size) % spans.length == 0:
                bounds.append(spans.bounds[: (spans.start + each.low.size) // spans.length])
        first_cells, first = found[0], found[0].spans
        known = first is not None and len(bounds) == len(found)
        spans = Spans(first.length, first.start, np.concatenate(bounds)) if first is not None and known else None
        low, high = (np.concatenate(ends) for ends in zip(*((each.low, each.high) for each in found), strict=True))
        return cls(low, high, spans, first_cells.overlap)


@dataclass(frozen=True)
class Reference:
    """A reference that encoder and decoder both hold: values near those of an array, before its bits are known.

    Attributes
    ----------
    values : Array
        Storage bits of a flat array of the same spec.
    cells : callable or None
        Computes the cells of a run of the elements, which are often not wanted.
    """

    values: Array
    cells: Callable[[slice], Cells | None] | None = None

    @cached_property
    def ends(self) -> Cells | None:
        """The cells of all elements."""
        return None if self.cells is None else self.cells(slice(0, self.values.size))

    def cut(self, start: int, stop: int) -> Reference:
        """The reference of a run of elements."""
        cells = self.cells
        return Reference(
            self.values[start:stop],
            None if cells is None else lambda at: cells(slice(start + at.start, start + at.stop)),
        )


def once(cells: Callable[[], Cells | None]) -> Callable[[slice], Cells | None]:
    """Cells that are computed for all elements when the first ones are asked for."""
    whole = cache(cells)
    return lambda at: _cut(whole(), at)


def _cut(ends: Cells | None, at: slice) -> Cells | None:
    return None if ends is None else ends.cut(at)


@dataclass(frozen=True)
class PartBound:
    """Upper bound of a part that a stage may put out: a name, and the largest spec it can have.

    A `primary` part is what the next stage of the pipeline goes on with; the others are stored beside it. An `optional`
    one may be missing.
    """

    name: str
    spec: TensorSpec
    primary: bool = False
    bits: int | None = None
    optional: bool = False


def owned(array: Array, *given: Array) -> Array:
    """The array, or a copy of it where it may share memory with those given."""
    return array.copy() if any(np.may_share_memory(array, each) for each in given) else array


@dataclass(frozen=True)
class Codec(ABC):
    """A codec is its configuration: the fields of a frozen dataclass, each declared with `settings.setting`.

    What `encode` and `decode` return shares no memory with what they were given: callers use their buffers again.

    Raises
    ------
    UsageError
        When it is made with a value that is not allowed.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    lossless: ClassVar[bool] = True
    uses_covariance: ClassVar[bool] = False
    """Whether its encoder goes by the covariance of inputs, not by their mean squares alone."""

    def __post_init__(self) -> None:
        settings.check(self)

    def configuration(self) -> dict[str, Any]:
        """All fields by name, as JSON values."""
        return asdict(self)

    def load(self) -> None:  # noqa: B027  (most need none)
        """Import the libraries that encoding needs: a limit on threads holds only for what is loaded when it is set."""

    @abstractmethod
    def validate(self, spec: TensorSpec) -> None:
        """Raise `Refused` with the reason when a tensor of this spec cannot be taken."""


class Transform(Codec):
    """Array -> named arrays. The mirror image of `encode` is `decode`. No other follows one that is `last`."""

    last: ClassVar[bool] = False
    needs_whole: ClassVar[bool] = False
    """Whether a sample of its rows says little of what it makes of a tensor, as with ranks."""
    one_step: ClassVar[bool] = False
    """Whether all values of a tensor have one step, so that rows of small ones can come back as zeros."""
    keeps_positive: ClassVar[bool] = False
    """Whether positive values never come back as zero or below."""

    @property
    def finds_rank(self) -> bool:
        """Whether it puts out factors of a rank that is chosen by a second layer; `ranked` gives them."""
        return False

    def ranked(self, values: Values) -> Any:
        """The parts of a tensor at every rank (`lowrank.svd.Ranks`), where that is chosen by a second layer."""
        raise NotImplementedError

    @abstractmethod
    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Names and upper bounds of what can come out."""

    @abstractmethod
    def encode(self, values: Values) -> dict[str, Values]:
        """Split an array into its parts, in the order of `parts`."""

    def encode_and_decode(self, values: Values) -> tuple[dict[str, Values], Callable[[], Array] | None]:
        """The parts, and a function for the storage bits that they come back as where encoding has found them.

        What the function holds in memory is given free when it is called.
        """
        return self.encode(values), None

    @abstractmethod
    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        """Storage bits of a tensor of this spec from its parts. Raises `ValueError` on parts that do not fit."""

    def cells(
        self, decoded: Array, parts: Mapping[str, Values], spec: TensorSpec
    ) -> Callable[[slice], Cells | None] | None:
        """Cells of any run of the elements of a decoded tensor, flat, where it is known what they were between."""
        return None

    def baseline_note(self, values: Values, error2: float, stored: int) -> Note | None:
        """A note on what another method would make of a tensor, where there is one to be compared with.

        Parameters
        ----------
        error2 : float
            Squared error of what was stored.
        stored : int
            Bytes that this took.
        """
        return None

    def check_size(self, spec: TensorSpec, stored_bits: int) -> None:
        """Raise `Refused` when it makes no sense that all parts, once through the pipeline, take `stored_bits`."""

    def spec_of(self, parts: Mapping[str, Values], bound: TensorSpec) -> TensorSpec:
        """Spec of the tensor that has these parts, where only an upper bound of it is known."""
        return bound


class Quantizer(Transform):
    """A transform that codes an array element by element, given small side parts, so that blocks can stream through.

    Work goes in passes over the flat tensor, in blocks of any length that `block_multiple` divides (the last block may
    be shorter): in each of `passes` passes every block is observed, then the state is fitted to all observations. After
    the last pass the state becomes the side parts, and each block is coded with them alone.
    """

    lossless = False
    last = True
    code: ClassVar[str] = "qdata"

    @abstractmethod
    def passes(self, spec: TensorSpec) -> int:
        """Number of passes over the data before it is coded."""

    @abstractmethod
    def block_multiple(self, spec: TensorSpec) -> int:
        """Length that block starts are multiples of."""

    @abstractmethod
    def observe(
        self,
        block: Array,
        start: int,
        spec: TensorSpec,
        state: Mapping[str, Array],
        importance: Importance | None = None,
    ) -> dict[str, Array]:
        """Observe one block (float32, flat) that starts at element `start` of a tensor of this importance."""

    @abstractmethod
    def fit(
        self, observed: Sequence[dict[str, Array]], spec: TensorSpec, state: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Fit the state for the next pass, or for coding, to the observations of all blocks, in order."""

    @abstractmethod
    def side_info(self, state: Mapping[str, Array], spec: TensorSpec) -> dict[str, Values]:
        """The side parts as they are stored."""

    @abstractmethod
    def encode_block(self, block: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Codes (uint8, flat) of one block of float32 values."""

    @abstractmethod
    def decode_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Float32 values (flat) of one block of codes; the mirror image of `encode_block`."""

    def cells_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Cells | None:
        """The cells of one block of codes, if it has any."""
        return None

    def cells(
        self, decoded: Array, parts: Mapping[str, Values], spec: TensorSpec
    ) -> Callable[[slice], Cells | None] | None:
        """Those of `cells_block`."""
        side = {name: values for name, values in parts.items() if name != self.code}
        codes = parts[self.code].array.reshape(-1)
        return once(lambda: self.cells_block(codes, 0, spec, side))

    def encode(self, values: Values) -> dict[str, Values]:
        """Code a whole tensor, block by block."""
        spec, flat, blocks = values.spec, values.array.reshape(-1), self._blocks(values.spec)
        state: Mapping[str, Array] = {}
        for _ in range(self.passes(spec)):
            observed = [
                self.observe(to_float32(flat[at], spec), at.start, spec, state, values.importance) for at in blocks
            ]
            state = self.fit(observed, spec, state)
        side = self.side_info(state, spec)
        codes = np.empty(flat.size, np.uint8)
        for at in blocks:
            codes[at] = self.encode_block(to_float32(flat[at], spec), at.start, spec, side)
        bits = next(part.bits for part in self.parts(spec) if part.name == self.code)
        return {self.code: Values(TensorSpec("U8", spec.shape), codes.reshape(spec.shape), bits), **side}

    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        """Decode a whole tensor, block by block."""
        codes = parts[self.code]
        if codes.spec.shape != spec.shape:
            raise ValueError(f"codes of shape {codes.spec.shape} for {spec}")
        side = {name: values for name, values in parts.items() if name != self.code}
        flat, decoded = codes.array.reshape(-1), np.empty(spec.elements, spec.storage)
        for at in self._blocks(spec):
            decoded[at] = from_float32(self.decode_block(flat[at], at.start, spec, side), spec)
        return decoded.reshape(spec.shape)

    def _blocks(self, spec: TensorSpec) -> list[slice]:
        """Runs of about a million elements."""
        multiple = self.block_multiple(spec)
        length = max(1, _BLOCK // multiple) * multiple
        return [slice(start, min(start + length, spec.elements)) for start in range(0, spec.elements, length)]

    def spec_of(self, parts: Mapping[str, Values], bound: TensorSpec) -> TensorSpec:
        """Codes have the shape of the tensor."""
        return TensorSpec(bound.dtype, parts[self.code].spec.shape)


class Serializer(Codec):
    """Array -> bytes, exactly. Works on one chunk at a time."""

    plain: ClassVar[bool] = False
    """Whether its bytes are as many as the bits of the elements fill: only then can a compressor follow."""

    @abstractmethod
    def encode(self, values: Values) -> bytes | bytearray | memoryview:
        """Bytes of one chunk."""

    @abstractmethod
    def decode(self, data: memoryview, spec: TensorSpec, bits: int | None, out: Array | None = None) -> Array:
        """Array of one chunk in its storage bits, written into `out` when given. Raises `ValueError` on bad bytes."""


class Conditional(Codec):
    """Array -> bytes, exactly, given a reference. Works on one chunk at a time."""

    @abstractmethod
    def encode(self, values: Values, reference: Reference) -> bytes | bytearray | memoryview:
        """Bytes of one chunk."""

    @abstractmethod
    def decode(self, data: memoryview, spec: TensorSpec, reference: Reference, out: Array | None = None) -> Array:
        """Array of one chunk in its storage bits, written into `out` when given. Raises `ValueError` on bad bytes."""


class Compressor(Codec):
    """Bytes -> bytes, exactly."""

    @abstractmethod
    def encode(self, data: bytes | bytearray | memoryview) -> bytes:
        """Shorter bytes."""

    @abstractmethod
    def decode(self, data: memoryview, size: int) -> bytes:
        """The bytes again, `size` of them. Raises `ValueError` on bad bytes."""
