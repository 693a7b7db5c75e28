"""Memory that a compression takes at most."""

from __future__ import annotations

from collections.abc import Sequence

from bale.compressors.base import Quantizer
from bale.compressors.pipeline import Pipeline
from bale.engine.run import WHOLE_COST, least_budget
from bale.spec import TensorSpec

_START = 80 << 20
_WHOLE = 3  # times its size: a tensor that is coded as a whole, without being decomposed


def most_memory(pipelines: Sequence[Pipeline], specs: Sequence[TensorSpec], threads: int) -> int:
    """Bytes at most, about: start-up, and what jobs hold that are under way together."""
    largest = max((_held(*pair) for pair in zip(pipelines, specs, strict=True)), default=0)
    return _START + max(least_budget(threads), largest)


def _held(pipeline: Pipeline, spec: TensorSpec) -> int:
    transforms = [stage for layer in pipeline.layers for stage in layer.transforms]
    if not transforms or all(isinstance(stage, Quantizer) for stage in transforms):
        return 0  # in chunks
    decomposed = any(stage.needs_whole for stage in transforms)
    return (WHOLE_COST if decomposed else _WHOLE) * spec.nbytes
