"""The three kinds of codec, told apart by type, and what flows between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Values:
    """An array in its storage bits, with its spec.

    `bits` is given for integer codes only: every element of `array` (uint8) is below ``2**bits``.
    """

    spec: TensorSpec
    array: Array
    bits: int | None = None


@dataclass(frozen=True)
class PartBound:
    """What a stage may put out under a name: the largest spec it can have, known before any data is.

    A `primary` part is what the next stage of the pipeline goes on with; the others are stored beside it.
    """

    name: str
    spec: TensorSpec
    primary: bool = False
    bits: int | None = None


@dataclass(frozen=True)
class Codec(ABC):
    """A codec is its configuration: the fields of a frozen dataclass."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    lossless: ClassVar[bool] = True

    def configuration(self) -> dict[str, Any]:
        """All fields by name, as JSON values."""
        return asdict(self)

    @abstractmethod
    def validate(self, spec: TensorSpec) -> None:
        """Raise `Refused` with the reason when a tensor of this spec cannot be taken."""


class Transform(Codec):
    """Array -> named arrays. The mirror image of `encode` is `decode`."""

    @abstractmethod
    def parts(self, spec: TensorSpec) -> tuple[PartBound, ...]:
        """Names and upper bounds of what can come out."""

    @abstractmethod
    def encode(self, values: Values) -> dict[str, Values]:
        """Split an array into its parts, in the order of `parts`."""

    @abstractmethod
    def decode(self, parts: Mapping[str, Values], spec: TensorSpec) -> Array:
        """Storage bits of a tensor of this spec from its parts."""


class Quantizer(Transform):
    """A transform that codes an array element by element, given small side parts, so that blocks can stream through.

    Work goes in rounds over the flat tensor, in blocks of any length that `block_multiple` divides (the last
    block may be shorter): in each of `rounds` rounds every block is measured, then what was measured is settled into
    what is known. After the last round `known` is the side parts, and each block is coded with them alone.
    """

    lossless = False
    code: ClassVar[str] = "qdata"

    @property
    @abstractmethod
    def rounds(self) -> int:
        """How often the data is measured before it is coded."""

    @abstractmethod
    def block_multiple(self, spec: TensorSpec) -> int:
        """Length that block starts are multiples of."""

    @abstractmethod
    def measure(self, block: Array, start: int, spec: TensorSpec, known: Mapping[str, Array]) -> dict[str, Array]:
        """Measure one block (float32, flat) that starts at element `start`."""

    @abstractmethod
    def settle(
        self, measured: Sequence[dict[str, Array]], spec: TensorSpec, known: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Turn the measures of all blocks, in order, into what the next round (or the coding) knows."""

    @abstractmethod
    def side(self, known: Mapping[str, Array], spec: TensorSpec) -> dict[str, Values]:
        """The side parts as they are stored."""

    @abstractmethod
    def encode_block(self, block: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Codes (uint8, flat) of one block of float32 values."""

    @abstractmethod
    def decode_block(self, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]) -> Array:
        """Float32 values (flat) of one block of codes; the mirror image of `encode_block`."""


class Serializer(Codec):
    """Array -> bytes, exactly. Works on one chunk at a time."""

    @abstractmethod
    def encode(self, values: Values) -> bytes | bytearray | memoryview:
        """Bytes of one chunk."""

    @abstractmethod
    def decode(self, data: memoryview, spec: TensorSpec, bits: int | None, out: Array | None = None) -> Array:
        """Array of one chunk in its storage bits, written into `out` when given. Raises `ValueError` on bad bytes."""


class Compressor(Codec):
    """Bytes -> bytes, exactly."""

    @abstractmethod
    def encode(self, data: bytes | bytearray | memoryview) -> bytes:
        """Shorter bytes."""

    @abstractmethod
    def decode(self, data: memoryview, size: int) -> bytes:
        """The bytes again, `size` of them. Raises `ValueError` on bad bytes."""
