"""The first layer of a tensor as the reference of its second one."""

from __future__ import annotations

from collections.abc import Mapping

from bale.compressors.base import Quantizer, Reference, Values, once
from bale.compressors.chunks import flat_spec
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.pipeline import Pipeline
from bale.compressors.trellis.codec import Trellis
from bale.notes import Note
from bale.spec import Array, TensorSpec


def reference_of_block(
    quantizer: Quantizer, codes: Array, start: int, spec: TensorSpec, side: Mapping[str, Values]
) -> Reference:
    """What the codes of a block tell: its values, and the ends of their cells if the quantizer has any."""
    values = quantizer.decode_block(codes, start, spec, side)
    array = from_float32(values, flat_spec(spec, codes.size))
    return Reference(array, once(lambda: quantizer.cells_block(codes, start, spec, side)))


def reference_of(pipeline: Pipeline, parts: Mapping[str, Values], spec: TensorSpec, decoded: Array) -> Reference:
    """What the parts of a whole tensor tell, whose decoded values are at hand (flat, storage bits)."""
    first = pipeline.transforms[0] if len(pipeline.transforms) == 1 else None
    if isinstance(first, Trellis):
        return Reference(decoded, first.cells(decoded, parts, spec))
    if not isinstance(first, Quantizer):
        return Reference(decoded)
    side = {name: values for name, values in parts.items() if name != first.code}
    codes = parts[first.code].array.reshape(-1)
    return Reference(decoded, once(lambda: first.cells_block(codes, 0, spec, side)))


def compared(
    pipeline: Pipeline, leaves: Mapping[str, Values], values: Values, error2: float, stored: int
) -> Note | None:
    """A note on how a decomposition compares with a quantizer; None for other pipelines, and where its rank is 0."""
    from bale.compressors.lowrank.baseline import comparison
    from bale.compressors.lowrank.decomposition import Decomposition

    name = next((stage.name for stage in pipeline.transforms if isinstance(stage, Decomposition)), None)
    spec = values.spec
    if name is None or pipeline.is_first_missing(leaves):
        return None
    return comparison(name, to_float32(values.array, spec).reshape(spec.shape), error2, stored)
