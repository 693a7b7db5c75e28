"""What every codec promises, held against every registered one: a new codec only adds a line to `bounds.TEXTS`."""

import numpy as np
import pytest

from bale.compressors import registry
from bale.compressors.base import Compressor, Place, Quantizer, Reference, Serializer, Transform, Values
from bale.compressors.conditional.exact import Exact
from bale.compressors.pipeline import Pipeline
from bale.errors import Refused
from bale.spec import DTYPES, TensorSpec
from bale.testing import (
    SHAPES,
    CompressorContract,
    QuantizerContract,
    SerializerContract,
    TransformContract,
    adversarial,
    random_bits,
    random_values,
)
from bale.testing.contract import refusal, scribble
from tests.compressors.bounds import TEXTS, within_bound

PIPELINES = [Pipeline.parse(text) for texts in TEXTS.values() for text in texts]
ENOUGH = 200


def of_kind(kind, but=()):
    stages = [pipeline.stages[0] for pipeline in PIPELINES if pipeline.rest is None]
    return [stage for stage in stages if isinstance(stage, kind) and not isinstance(stage, but)]


def test_every_codec_is_here():
    assert set(TEXTS) == set(registry.names())
    assert {stage.name for pipeline in PIPELINES for stage in pipeline.codecs} == set(registry.names())


class TestSerializers(SerializerContract):
    codecs = of_kind(Serializer)


class TestCompressors(CompressorContract):
    codecs = of_kind(Compressor)


class Ours:
    """What the codecs of bale take, and the errors that they state."""

    def within_bound(self, codec, x, y, parts, spec):
        return within_bound(codec, x, y, parts, spec)

    def suited(self, codec, x):
        return np.abs(x) if codec.name == "positive" else x

    def hard_tensors(self, codec, seed):
        return adversarial(seed) if getattr(codec, "least_ndim", 2) == 2 else adversarial(seed, 3, 9)

    @pytest.mark.soak
    @pytest.mark.filterwarnings("error")
    def test_two_hundred_hard_tensors(self, codec):
        assert self.check_hard_tensors(codec, range(100, 140)) >= ENOUGH


class TestTransforms(Ours, TransformContract):
    codecs = of_kind(Transform, but=Quantizer)


class TestQuantizers(Ours, QuantizerContract):
    codecs = of_kind(Quantizer)

    def clipped(self, codec):
        return 0.1 if getattr(codec, "clip", "") == "mse" else 0

    def is_finite_when_forged(self, codec):
        return codec.name != "codebook"

    def test_all_have_cells(self, codec):
        spec = TensorSpec("F32", (7,))
        parts = codec.encode(Values(spec, random_values(spec, 0)))
        side = {name: part for name, part in parts.items() if name != codec.code}
        assert codec.cells_block(parts[codec.code].array, 0, spec, side) is not None


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_codes_given_known_values_gives_every_bit_back(dtype):
    stage = Exact()
    for number, shape in enumerate(SHAPES):
        spec = TensorSpec(dtype, shape)
        array, near = random_bits(spec, number).reshape(-1), random_values(spec, number).reshape(-1)
        flat = TensorSpec(dtype, (spec.elements,))
        try:
            stage.validate(spec)
        except Refused:
            assert spec.info.packed or spec.info.kind == "complex"
            continue
        for known in (near, array, array[::-1].copy()):
            data = stage.encode(Values(flat, array, place=Place(shape)), Reference(known))
            assert stage.decode(memoryview(data), flat, Reference(known)).tobytes() == array.tobytes()
            out = np.empty(array.shape, array.dtype)
            stage.decode(memoryview(data), flat, Reference(known), out)
            assert out.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_codes_given_known_values_keeps_nothing_of_the_memory_that_it_was_given(dtype):
    stage = Exact()
    for number, shape in enumerate(SHAPES):
        spec = TensorSpec(dtype, shape)
        array, near = random_bits(spec, number).reshape(-1), random_values(spec, number).reshape(-1)
        if refusal(Pipeline((stage,)), spec) is not None:
            continue
        flat, buffer, known = TensorSpec(dtype, (spec.elements,)), array.copy(), near.copy()
        data = stage.encode(Values(flat, buffer, place=Place(shape)), Reference(known))
        scribble(buffer)
        scribble(known)
        known, stored = near.copy(), bytearray(data)
        decoded = stage.decode(memoryview(stored), flat, Reference(known))
        scribble(known)
        scribble(stored)
        assert decoded.tobytes() == array.tobytes()
