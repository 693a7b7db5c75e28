"""The first layer of a tensor as the reference of its second one."""

from __future__ import annotations

from collections.abc import Mapping

from bale.compressors.base import Quantizer, Reference, Values, once
from bale.compressors.chunks import flat_spec
from bale.compressors.floats import from_float32
from bale.compressors.pipeline import Pipeline
from bale.notes import Note
from bale.spec import Array, TensorSpec


def reference_of_block(
    quantizer: Quantizer, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]
) -> Reference:
    """The reference that the codes of a block determine: its values, and their cells if the quantizer has any."""
    values = quantizer.decode_block(codes, start, spec, side)
    array = from_float32(values, flat_spec(spec, codes.size))
    return Reference(array, once(lambda: quantizer.cells_block(codes, start, spec, side)))


def reference_of(pipeline: Pipeline, parts: Mapping[str, Values], spec: TensorSpec, decoded: Array) -> Reference:
    """A whole tensor as far as its parts are known, whose decoded values are at hand (flat, storage bits)."""
    only = pipeline.transforms[0] if len(pipeline.transforms) == 1 else None
    return Reference(decoded, None if only is None else only.cells(decoded, parts, spec))


def baseline_note(
    pipeline: Pipeline, leaves: Mapping[str, Values], values: Values, error2: float, stored: int
) -> Note | None:
    """A note on how a method compares with another of equal size, where there is one; None where its rank is 0."""
    if pipeline.is_first_missing(leaves):
        return None
    notes = (stage.baseline_note(values, error2, stored) for stage in pipeline.transforms)
    return next((note for note in notes if note is not None), None)
