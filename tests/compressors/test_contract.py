"""What every codec promises, held against every registered one: a new codec only adds a line to `bounds.TEXTS`."""

import json

import numpy as np
import pytest

from bale.compressors import registry
from bale.compressors.base import Compressor, Place, Quantizer, Reference, Serializer, Transform, Values
from bale.compressors.conditional.exact import Exact
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.pipeline import Pipeline
from bale.errors import Refused
from bale.spec import TensorSpec
from tests.compressors.bounds import TEXTS, within_bound
from tests.compressors.cases import ALL_DTYPES, LOSSY_DTYPES, SHAPES, random_bits, random_values

PIPELINES = [Pipeline.parse(text) for texts in TEXTS.values() for text in texts]
STAGES = [pipeline.stages[0] for pipeline in PIPELINES if pipeline.rest is None]


def of_kind(kind):
    return [pytest.param(stage, id=str(Pipeline((stage,)))) for stage in STAGES if isinstance(stage, kind)]


def test_every_codec_is_here():
    assert set(TEXTS) == set(registry.names())
    assert {stage.name for pipeline in PIPELINES for stage in pipeline.codecs} == set(registry.names())


@pytest.mark.parametrize("stage", of_kind(object))
def test_a_codec_is_its_configuration(stage):
    cls = type(stage)
    assert cls(**json.loads(json.dumps(stage.configuration()))) == stage
    pipeline = Pipeline((stage,))
    assert Pipeline.parse(str(pipeline)).stages == (stage,)
    assert Pipeline.from_json(json.loads(json.dumps(pipeline.to_json()))).stages == (stage,)
    assert hash(stage) == hash(cls(**stage.configuration()))
    with pytest.raises(AttributeError):
        stage.anything = 1


@pytest.mark.parametrize("dtype", ALL_DTYPES)
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


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("stage", of_kind(Serializer))
def test_serializers_give_every_bit_back(stage, dtype):
    assert stage.lossless
    for number, shape in enumerate(SHAPES):
        spec = TensorSpec(dtype, shape)
        for array in (
            random_bits(spec, number),
            random_values(spec, number),
            np.zeros(spec.storage_shape, spec.storage),
        ):
            before = array.tobytes()
            data = bytes(stage.encode(Values(spec, array)))
            decoded = stage.decode(memoryview(data), spec, None)
            assert decoded.tobytes() == array.tobytes() == before
            assert (decoded.shape, decoded.dtype) == (spec.storage_shape, spec.storage)
            out = np.empty(spec.storage_shape, spec.storage)
            stage.decode(memoryview(data), spec, None, out)
            assert out.tobytes() == before
            assert bytes(stage.encode(Values(spec, array.copy()))) == data


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("stage", of_kind(Serializer))
def test_serializers_give_codes_back(stage, bits):
    for count in (0, 1, 7, 8, 4097):
        array = np.random.default_rng(count).integers(0, 2**bits, count, np.uint8)
        spec = TensorSpec("U8", (count,))
        data = bytes(stage.encode(Values(spec, array, bits)))
        assert (stage.decode(memoryview(data), spec, bits) == array).all()


@pytest.mark.parametrize("bits", [None, 3, 4, 8])
@pytest.mark.parametrize("stage", of_kind(Serializer))
def test_serializers_refuse_damage_with_value_error(stage, bits):
    rng = np.random.default_rng(1)
    array = np.minimum(rng.geometric(0.4, 3001), 2 ** (bits or 8)).astype(np.uint8) - np.uint8(1)
    spec = TensorSpec("U8", (3001,))
    data = bytes(stage.encode(Values(spec, array, bits)))
    for end in (*range(min(40, len(data))), len(data) - 2, len(data) - 1):
        with pytest.raises(ValueError):  # noqa: PT011 (each codec has its own words)
            stage.decode(memoryview(data[:end]), spec, bits)
    with pytest.raises(ValueError):  # noqa: PT011
        stage.decode(memoryview(data + b"\0"), spec, bits)
    for at in (*range(min(40, len(data))), *rng.integers(0, len(data), 200)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        try:
            decoded = stage.decode(memoryview(flipped), spec, bits)
        except ValueError:
            continue
        assert (decoded.shape, decoded.dtype) == ((3001,), np.uint8)


@pytest.mark.parametrize("stage", of_kind(Compressor))
def test_compressors_give_every_byte_back(stage):
    rng = np.random.default_rng(0)
    for data in (b"", b"a", bytes(5000), rng.bytes(5000), b"abc" * 700):
        coded = stage.encode(data)
        assert stage.decode(memoryview(coded), len(data)) == data
        assert stage.encode(bytearray(data)) == stage.encode(memoryview(data)) == coded
        for bad in (coded[:-1], b"", coded + b"\0", b"\0" * 20):
            with pytest.raises(ValueError):  # noqa: PT011
                stage.decode(memoryview(bad), len(data))


def refusal(pipeline, spec):
    try:
        pipeline.validate(spec)
    except Refused as reason:
        return reason.message
    return None


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("stage", of_kind(Transform))
def test_transforms_refuse_or_keep_their_bound(stage, dtype):
    """Refusals are for reasons of dtype and shape alone, and say so."""
    pipeline = Pipeline((stage,))
    taken = 0
    for number, shape in enumerate(SHAPES):
        spec = TensorSpec(dtype, shape)
        array = random_values(spec, number)
        if stage.name == "positive" and dtype in LOSSY_DTYPES:
            array = from_float32(np.abs(to_float32(array, spec)), spec)
        before = array.tobytes()
        if (reason := refusal(pipeline, spec)) is not None:
            assert len(reason) > 10
            continue
        taken += 1
        parts = pipeline.encode(Values(spec, array))
        decoded = pipeline.decode(parts, spec)
        assert array.tobytes() == before
        assert (decoded.shape, decoded.dtype) == (spec.storage_shape, spec.storage)
        bounds = {bound.name: bound for bound in stage.parts(spec)}
        for name, part in parts.items():
            assert part.spec.nbytes <= bounds[name].spec.nbytes
            assert (part.array.shape, part.array.dtype) == (part.spec.shape, part.spec.storage)
        again = pipeline.encode(Values(spec, array.copy()))
        assert all(again[name].array.tobytes() == parts[name].array.tobytes() for name in parts)
        x, y = (to_float32(bits, spec).astype(np.float64) for bits in (array, decoded))
        assert np.isfinite(y).all()
        assert within_bound(stage, x, y, parts, spec), shape
    assert bool(taken) == (dtype in LOSSY_DTYPES)


def scribbled(data):
    """Memory that now holds something else."""
    flat = data.reshape(-1).view(np.uint8) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    flat ^= 0x5A


@pytest.mark.parametrize("dtype", ALL_DTYPES)
@pytest.mark.parametrize("stage", of_kind(Transform))
def test_transforms_keep_nothing_of_the_memory_that_they_were_given(stage, dtype):
    """Buffers are used again: for the next tensor while parts wait, for the next parts while values do."""
    for number, shape in enumerate((*SHAPES, (1, 1, 1), (2, 1, 3))):
        spec = TensorSpec(dtype, shape)
        array = random_values(spec, number)
        if stage.name == "positive" and dtype in LOSSY_DTYPES:
            array = from_float32(np.abs(to_float32(array, spec)), spec)
        if refusal(Pipeline((stage,)), spec) is not None:
            continue
        buffer = np.array(array)
        parts = stage.encode(Values(spec, buffer))
        expected = {name: part.array.tobytes() for name, part in parts.items()}
        scribbled(buffer)
        assert {name: part.array.tobytes() for name, part in parts.items()} == expected
        copies = {name: Values(part.spec, np.array(part.array), part.bits) for name, part in parts.items()}
        decoded = stage.decode(copies, spec)
        before = decoded.tobytes()
        for part in copies.values():
            scribbled(part.array)
        assert decoded.tobytes() == before


@pytest.mark.parametrize("bits", [None, *range(1, 9)])
@pytest.mark.parametrize("stage", of_kind(Serializer))
def test_serializers_keep_nothing_of_the_memory_that_they_were_given(stage, bits):
    for dtype in ALL_DTYPES if bits is None else ("U8",):
        for number, shape in enumerate(SHAPES):
            spec = TensorSpec(dtype, shape)
            plain = random_bits(spec, number)
            for array in (plain, random_values(spec, number)) if bits is None else (plain >> (8 - bits), plain & 1):
                buffer = np.array(array)
                data = stage.encode(Values(spec, buffer, bits))
                expected = bytes(data)
                scribbled(buffer)
                assert bytes(data) == expected
                stored = bytearray(data)
                decoded = stage.decode(memoryview(stored), spec, bits)
                scribbled(stored)
                assert decoded.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_what_codes_given_known_values_keeps_nothing_of_the_memory_that_it_was_given(dtype):
    stage = Exact()
    for number, shape in enumerate(SHAPES):
        spec = TensorSpec(dtype, shape)
        array, near = random_bits(spec, number).reshape(-1), random_values(spec, number).reshape(-1)
        if refusal(Pipeline((stage,)), spec) is not None:
            continue
        flat, buffer, known = TensorSpec(dtype, (spec.elements,)), array.copy(), near.copy()
        data = stage.encode(Values(flat, buffer, place=Place(shape)), Reference(known))
        scribbled(buffer)
        scribbled(known)
        known, stored = near.copy(), bytearray(data)
        decoded = stage.decode(memoryview(stored), flat, Reference(known))
        scribbled(known)
        scribbled(stored)
        assert decoded.tobytes() == array.tobytes()


@pytest.mark.parametrize("stage", of_kind(Compressor))
def test_compressors_keep_nothing_of_the_memory_that_they_were_given(stage):
    for data in (b"", b"a", bytes(5000), np.random.default_rng(0).bytes(5000)):
        buffer = bytearray(data)
        coded = stage.encode(memoryview(buffer))
        scribbled(buffer)
        stored = bytearray(coded)
        decoded = stage.decode(memoryview(stored), len(data))
        scribbled(stored)
        assert decoded == data


@pytest.mark.parametrize("stage", of_kind(Quantizer))
def test_values_lie_in_the_cells_of_their_codes(stage):
    """All but what was clipped, and what is beyond the outermost levels of a codebook by far."""
    for seed in range(5):
        for shape in ((1,), (33, 65), (300,)):
            spec = TensorSpec("F32", shape)
            x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
            parts = stage.encode(Values(spec, x))
            side = {name: part for name, part in parts.items() if name != stage.code}
            cells = stage.cells_block(parts[stage.code].array.reshape(-1), 0, spec, side)
            x, y = x.reshape(-1), stage.decode(parts, spec).reshape(-1)
            slack = 2.0**-20 * np.abs(x).max()
            assert ((cells.low <= y) & (y <= cells.high)).all()
            outside = (x < cells.low - slack) | (cells.high + slack < x)
            assert outside.mean() <= (0.1 if getattr(stage, "clip", "") == "mse" else 0)
            assert (cells.high - cells.low).max() <= 8 * np.abs(x).max()


@pytest.mark.parametrize("stage", of_kind(Quantizer))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0, -1, 65504])
@pytest.mark.filterwarnings("error")
def test_forged_side_parts_are_refused_or_decoded(stage, bad):
    """In every place, and in both types that floats may have."""
    spec = TensorSpec("F32", (33, 65))
    good = stage.encode(Values(spec, np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)))
    for name in good.keys() - {stage.code}:
        array = good[name].array
        for kind, dtype in ((np.float16, "F16"), (np.float32, "F32")):
            if array.dtype == np.uint8:
                continue
            with np.errstate(over="ignore"):
                forged = array.astype(kind)
            forged.flat[0] = bad
            try:
                decoded = stage.decode({**good, name: Values(TensorSpec(dtype, forged.shape), forged)}, spec)
            except ValueError:
                continue
            assert (decoded.shape, decoded.dtype) == (spec.shape, np.float32)
            assert np.isfinite(decoded).all() or stage.name == "codebook"
