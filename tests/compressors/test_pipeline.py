"""What pipelines are, and what their layers make of a tensor."""

import numpy as np
import pytest

from bale.compressors.base import PartBound, Values
from bale.compressors.pipeline import Pipeline
from bale.compressors.serializers.bitpack import Bitpack
from bale.compressors.serializers.zstd import Zstd
from bale.errors import Refused, UsageError
from bale.spec import TensorSpec

MATRIX = TensorSpec("F32", (40, 30))


@pytest.mark.parametrize(
    ("text", "lossless", "storers"),
    [
        ("lossless", True, None),
        ("int8", False, None),
        ("svd:rank=3", False, None),
        ("int8+bitpack", False, (Bitpack(),)),
        ("int8+zstd", False, (Bitpack(), Zstd())),
        ("bitpack+zstd:level=9", True, (Bitpack(), Zstd(level=9))),
        ("zstd", True, (Bitpack(), Zstd())),
    ],
)
def test_properties(text, lossless, storers):
    pipeline = Pipeline.parse(text)
    assert pipeline.lossless is lossless
    assert pipeline.storers == storers


def test_leaves():
    assert Pipeline.parse("lossless").leaves(MATRIX) == (PartBound("data", MATRIX, primary=True),)
    leaves = Pipeline.parse("svd:rank=5+int:bits=4,group=64").leaves(MATRIX)
    assert [(leaf.name, str(leaf.spec), leaf.bits) for leaf in leaves] == [
        ("u.qdata", "U8[40,5]", 4),
        ("u.scale", "F32[4]", None),
        ("u.zero", "U8[4]", 4),
        ("vh.qdata", "U8[5,30]", 4),
        ("vh.scale", "F32[3]", None),
        ("vh.zero", "U8[3]", 4),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "lossless",
        "bitpack+zstd",
        "int8",
        "int4",
        "svd:rank=5",
        "svd:error=0.3+int8",
        "svd:rank=9+svd:rank=3,force=true+int8",
    ],
)
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
def test_encode_and_decode(text, dtype):
    from bale.compressors.floats import from_float32, to_float32

    spec = TensorSpec(dtype, (40, 30))
    x = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    array = from_float32(x, spec)
    pipeline = Pipeline.parse(text)
    parts = pipeline.encode(Values(spec, array))
    bounds = {leaf.name: leaf for leaf in pipeline.leaves(spec)}
    assert list(parts) == list(bounds)
    for name, part in parts.items():
        assert part.spec.nbytes <= bounds[name].spec.nbytes
        assert part.bits == bounds[name].bits
        assert part.array.shape == part.spec.shape
        assert part.array.dtype == part.spec.storage
    decoded = pipeline.decode(parts, spec)
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    if pipeline.lossless:
        assert decoded.tobytes() == array.tobytes()
    elif not text.startswith("svd"):
        assert np.linalg.norm(to_float32(decoded, spec) - x) < 0.15 * np.linalg.norm(x)


def test_parts_that_do_not_fit():
    pipeline = Pipeline.parse("svd:rank=5+int8")
    parts = pipeline.encode(Values(MATRIX, np.ones((40, 30), np.float32)))
    with pytest.raises(ValueError, match=r"vh\.scale"):
        pipeline.decode({name: part for name, part in parts.items() if name != "vh.scale"}, MATRIX)
    with pytest.raises(ValueError, match="factors"):
        pipeline.decode(parts, TensorSpec("F32", (30, 40)))
    int8 = Pipeline.parse("int8")
    codes = int8.encode(Values(MATRIX, np.ones((40, 30), np.float32)))
    with pytest.raises(ValueError, match="not of F32"):
        int8.decode(codes, TensorSpec("F32", (40, 15, 2)))


@pytest.mark.parametrize(
    ("text", "spec", "reason"),
    [
        ("int8", TensorSpec("I32", (8, 8)), "I32 is not floating point"),
        ("int8", TensorSpec("C64", (8, 8)), "C64 is not floating point"),
        ("int8+zstd", TensorSpec("BOOL", (8, 8)), "BOOL is not floating point"),
        ("int8", TensorSpec("F6_E2M3", (8, 8)), "quantized already"),
        ("int8", TensorSpec("F8_E8M0", (8, 8)), "quantized already"),
        ("int8", TensorSpec("F32", (0, 8)), "no elements"),
        ("int8", TensorSpec("F64", (8, 8)), None),
        ("int8", TensorSpec("F8_E4M3", (8, 8)), None),
        ("lossless", TensorSpec("I32", (0, 8)), None),
        ("bitpack+zstd", TensorSpec("F4", (3,)), None),
    ],
)
def test_validate(text, spec, reason):
    if reason is None:
        Pipeline.parse(text).validate(spec)
    else:
        with pytest.raises(Refused, match=reason):
            Pipeline.parse(text).validate(spec)


def test_empty_pipeline_is_refused():
    with pytest.raises(UsageError, match="without codecs"):
        Pipeline(())


def test_parts_of_the_second_layer_have_its_name():
    spec = TensorSpec("BF16", (64, 128))
    assert [bound.name for bound in Pipeline.parse("int4/exact").leaves(spec)] == [
        "qdata",
        "scale",
        "zero",
        "rest.data",
    ]
    assert [bound.name for bound in Pipeline.parse("base/exact").leaves(spec)] == ["rest.data"]
    assert [bound.name for bound in Pipeline.parse("base/int8").leaves(spec)] == [
        "rest.qdata",
        "rest.scale",
        "rest.zero",
    ]


@pytest.mark.parametrize(
    "text",
    ["svd:rank=2+int8/int:bits=3", "svd:rank=2/int8", "base/svd:rank=auto+int8/int4", "positive+svd:rank=auto/int4"],
)
def test_a_quantized_residual_as_text_and_json(text):
    pipeline = Pipeline.parse(text)
    assert str(pipeline) == text
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    assert not pipeline.lossless
    names = [bound.name for bound in pipeline.leaves(TensorSpec("F32", (30, 20)))]
    prefix = "rest." if pipeline.on_base else ""
    assert {f"{prefix}rest.qdata", f"{prefix}rest.scale", f"{prefix}rest.zero"} < set(names)
    assert any(name.removeprefix(prefix).removeprefix("value.").startswith("u") for name in names)


@pytest.mark.parametrize(
    "text", ["lossless+zstd", "int4+huffman+zstd", "int4+rans+zstd", "svd:rank=2+int4+huffman+zstd"]
)
def test_a_compressor_follows_only_what_has_a_known_length(text: str) -> None:
    """It is what tells how many bytes come out of it again."""
    with pytest.raises(UsageError, match="leaves nothing to compress"):
        Pipeline.parse(text)
    assert Pipeline.parse("int4+zstd") != Pipeline.parse("int4+bitpack")
