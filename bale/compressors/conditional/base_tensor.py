"""The tensor of a base as the first layer of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bale.compressors.base import Transform, Values
from bale.spec import Array, TensorSpec


@dataclass(frozen=True)
class Base(Transform):
    """The tensor of the base: the first layer of what is stored as a difference to another checkpoint.

    It has no parts of its own: the tensor stands in another file, the one given by `--base`, which is
    needed to decompress too. `base/exact` is what `--base` makes of `lossless`, and `base/int4` of `int4`.

    Use it for fine-tunes, for training checkpoints of one run, and for the exact rest of a model whose quantized form
    is there already. Not for models that only share their architecture: their bits have nothing in common.

    >>> pipeline = Pipeline.parse("base/int4")
    >>> pipeline.on_base, str(pipeline.rest)
    (True, 'int4')
    """

    name: ClassVar[str] = "base"

    def validate(self, spec: TensorSpec) -> None:
        """Accept every tensor; whether the base has one like it is found out later."""

    def parts(self, spec: TensorSpec) -> tuple[()]:
        """Nothing."""
        return ()

    def encode(self, values: Values) -> dict[str, Values]:
        """Nothing."""
        return {}

    def decode(self, parts: object, spec: TensorSpec) -> Array:
        """Not possible from parts."""
        raise ValueError(f"{spec} stands in the base")
