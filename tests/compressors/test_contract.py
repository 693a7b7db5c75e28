"""What every codec promises, held against every registered one: a new codec only adds a line to `TEXTS`."""

import json

import numpy as np
import pytest

from bale.compressors import registry
from bale.compressors.base import Compressor, Known, Place, Quantizer, Serializer, Transform, Values
from bale.compressors.floats import from_float32, to_float32
from bale.compressors.given.exact import Exact
from bale.compressors.pipeline import Pipeline
from bale.compressors.quantizers import scales
from bale.compressors.quantizers.levels import Scaled
from bale.errors import Refused
from bale.spec import TensorSpec
from tests.compressors.cases import ALL_DTYPES, LOSSY_DTYPES, ROUNDING, SHAPES, random_bits, random_values

TEXTS = {
    "base": ["base/exact", "base/int4"],
    "bitpack": ["bitpack"],
    "codebook": ["codebook", "codebook:bits=2,group=row", "codebook:bits=3,group=100"],
    "cp": ["cp:rank=2", "cp:error=0.9", "cp:ratio=0.1,starts=1"],
    "exact": ["int4/exact"],
    "fp8": ["fp8", "fp8:format=e5m2,group=tensor"],
    "huffman": ["huffman"],
    "int": [
        "int8",
        "int4",
        "int:bits=2,group=tensor,symmetric=true",
        "int:bits=3,group=7,clip=mse",
        "int:bits=1,zero=float,group=5",
        "int:bits=5,group=column,zero=float,scale=fp8",
        "int:bits=4,group=16,rows=4,scale=log",
    ],
    "log": ["log", "log:bits=4,group=16", "log:mu=255.0,group=column"],
    "lossless": ["lossless", "lossless:effort=max"],
    "mx": ["mxfp4", "mxfp6", "mxfp8", "mx:format=e3m2", "mx:format=e5m2"],
    "nf4": ["nf4", "nf4:group=7,double=false"],
    "nvfp4": ["nvfp4"],
    "positive": ["positive:domain=sqrt", "positive"],
    "rans": ["rans"],
    "svd": ["svd:rank=1", "svd:error=0.5", "svd:ratio=1.0,force=true", "svd:rank=2,unfold=in"],
    "trellis": ["trellis", "trellis:bits=2.7,balance=column", "trellis:error=0.1,effort=high", "trellis:step=0.1"],
    "tt": ["tt:rank=2", "tt:error=0.3", "tt:ratio=0.5"],
    "tucker": ["tucker:rank=2", "tucker:error=0.3", "tucker:ratio=0.5"],
    "zstd": ["zstd", "zstd:level=1"],
}
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
            data = stage.encode(Values(flat, array, place=Place(shape)), Known(known))
            assert stage.decode(memoryview(data), flat, Known(known)).tobytes() == array.tobytes()
            out = np.empty(array.shape, array.dtype)
            stage.decode(memoryview(data), flat, Known(known), out)
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


def scales_of(parts, kind):
    count = parts["scale"].array.size
    return scales.load(parts, kind, count, slice(0, count)).astype(np.float64)


def within_bound(stage, x, y, parts, spec):
    """Whether the error is that which the codec's docstring states."""
    roundoff, least = ROUNDING[spec.dtype]
    rounding = roundoff * 1.01 * np.abs(y) + least
    if stage.name == "int":
        step = float(scales_of(parts, stage.scale).max())
        rounding += 2.0**-22 * np.abs(x).max(initial=0) * (stage.zero == "float")
        return stage.clip == "mse" or (np.abs(x - y) <= step * (0.5 + 2.0**-15) + rounding).all()
    if isinstance(stage, Scaled):  # each has a bound of its own in its tests
        count = stage.runs(spec).count
        step = float(stage.load_scales(parts, count, slice(0, count)).max())
        widest = max(np.diff(stage.levels.values).max() / 2, 0.36 * stage.levels.largest * (stage.name == "mx"))
        return (np.abs(x - y) <= step * widest * 1.0001 + rounding).all()
    if stage.name == "codebook":
        return np.linalg.norm(x - y) <= np.linalg.norm(x - x.mean()) + np.abs(rounding).sum()
    if stage.name == "positive":
        return ((x > 0) == (y > 0)).all() and (np.abs(x - y) <= 2.0**-17 * x + rounding).all()
    error = np.linalg.norm(x - y)
    if getattr(stage, "error", None) is not None:
        return error <= stage.error * np.linalg.norm(x) * (1 + 1e-12)
    if stage.name == "svd":
        s = np.linalg.svd(stage._unfolded(x), compute_uv=False)
        r = parts["u"].spec.shape[1]
        return error <= np.sqrt((s[r:] ** 2).sum()) + (4 * roundoff + 2e-6) * np.linalg.norm(x) + least
    if stage.name == "trellis":
        if stage.bits is not None:
            return 8 * parts["qdata"].array.size <= stage.bits * x.size
        allowed = np.sqrt(x.size) * stage.step if stage.error is None else stage.error * np.linalg.norm(x)
        return np.linalg.norm(x - y) <= allowed + (np.linalg.norm(rounding) if stage.error is None else 0)
    if stage.name == "cp":  # no promise but to be better than nothing
        return error <= (1 + 4 * roundoff) * np.linalg.norm(x) + 4 * least
    if stage.name in ("tucker", "tt"):
        return error <= bound_of_unfoldings(stage, x, parts) + (8 * roundoff + 2e-6) * np.linalg.norm(x) + 4 * least
    raise AssertionError(f"{stage.name} states no bound here")


def bound_of_unfoldings(stage, x, parts):
    """The root of the sum over unfoldings of the squared errors of their ranks, which TT-SVD and HOSVD stay below."""
    if stage.name == "tucker":
        unfolded = [(np.moveaxis(x, mode, 0).reshape(n, -1)) for mode, n in enumerate(x.shape)]
        ranks = parts["core"].spec.shape
    else:
        unfolded = [x.reshape(np.prod(x.shape[:at], dtype=int), -1) for at in range(1, x.ndim)]
        ranks = [parts[f"g{at}"].spec.shape[0] for at in range(1, x.ndim)]
    tails = [np.linalg.svd(matrix, compute_uv=False)[r:] for matrix, r in zip(unfolded, ranks, strict=True)]
    return np.sqrt(sum((tail**2).sum() for tail in tails))


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
