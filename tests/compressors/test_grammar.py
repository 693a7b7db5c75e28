"""How pipelines are written: text and JSON, and what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.compressors.lowrank.svd import Svd
from bale.compressors.pipeline import Pipeline
from bale.compressors.quantizers.linear import Int
from bale.compressors.serializers.bitpack import Bitpack
from bale.compressors.serializers.zstd import Zstd
from bale.errors import Refused, UsageError


@pytest.mark.parametrize(
    ("text", "normal", "stages"),
    [
        ("int8", "int8", (Int(),)),
        ("int", "int8", (Int(),)),
        ("int:bits=8", "int8", (Int(),)),
        ("int4", "int4", (Int(bits=4, group=64),)),
        ("int:group=64,bits=4", "int4", (Int(bits=4, group=64),)),
        ("int:bits=4", "int:bits=4", (Int(bits=4),)),
        ("int:symmetric=true,group=tensor,clip=mse", None, (Int(group="tensor", symmetric=True, clip="mse"),)),
        ("svd:rank=64+int8", "svd:rank=64+int8", (Svd(rank=64), Int())),
        ("svd:error=0.010", "svd:error=0.01", (Svd(error=0.01),)),
        ("svd:error=1e-5", "svd:error=1e-05", (Svd(error=1e-5),)),
        ("svd:energy=1", "svd:energy=1", (Svd(energy=1.0),)),
        ("svd:ratio=.5,force=true", "svd:ratio=0.5,force=true", (Svd(ratio=0.5, force=True),)),
        ("svd:rank=2,force=false", "svd:rank=2", (Svd(rank=2),)),
        ("svd:rank=2+svd:rank=1", "svd:rank=2+svd:rank=1", (Svd(rank=2), Svd(rank=1))),
        ("int8+bitpack+zstd:level=9", "int8+bitpack+zstd:level=9", (Int(), Bitpack(), Zstd(level=9))),
        ("zstd:level=3", "zstd", (Zstd(),)),
    ],
)
def test_text(text, normal, stages):
    pipeline = Pipeline.parse(text)
    assert pipeline.stages == stages
    if normal is not None:
        assert str(pipeline) == normal
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert str(Pipeline.parse(str(pipeline))) == str(pipeline)
    assert Pipeline.from_json(json.loads(json.dumps(pipeline.to_json()))) == pipeline


def test_order_of_parameters_is_that_of_the_fields():
    assert str(Pipeline.parse("int:clip=mse,symmetric=true,bits=3")) == "int:bits=3,symmetric=true,clip=mse"


def test_json_by_hand():
    data = [{"name": "int", "configuration": {"bits": 4, "group": 64}}]
    assert Pipeline.parse("int4").to_json() == data
    assert Pipeline.from_json(data) == Pipeline.parse("int4")
    assert Pipeline.parse("lossless").to_json() == [{"name": "lossless", "configuration": {}}]
    assert Pipeline.from_json([{"name": "lossless"}]) == Pipeline.parse("lossless")
    full = {"bits": 4, "group": 64, "symmetric": False, "clip": "absmax"}
    assert Pipeline.from_json([{"name": "int", "configuration": full}]).to_json() == data


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "empty stage", "codec"),
        ("int8+", "empty stage", "codec"),
        ("+int8", "empty stage", "codec"),
        ("int:", "empty stage", "codec"),
        ("int8/int4", "int4 cannot code what int8 leaves over", "write exact"),
        ("svd:rank=2/svd:rank=2", "cannot code what svd:rank=2 leaves over", "or a quantizer behind low rank"),
        ("svd:rank=2/svd:rank=2+int8", "cannot code", "or a quantizer"),
        ("svd:rank=2/int8/exact", "cannot code", "or a quantizer"),
        ("base/svd:rank=2/exact", "'base' is the first", ""),
        ("svd:rank=auto", "rank=auto is chosen by what a second layer makes", "svd:rank=auto+int8/int:bits=3"),
        ("svd:rank=auto+int8/exact", "rank=auto", "write a second layer"),
        ("svd:rank=2+svd:rank=auto/int8", "rank=auto", ""),
        ("base/svd:rank=auto", "rank=auto", ""),
        ("positive+svd:rank=auto", "rank=auto", "write a second layer"),
        ("tt:rank=2+svd:rank=auto/int8", "rank=auto", ""),
        ("lossless/exact", "exact cannot code what lossless leaves over", "write exact"),
        ("exact", "'exact' stands behind a /", "int4/exact"),
        ("int4+exact", "'exact' stands alone", "int4/exact"),
        ("int4/", "empty stage", "codec"),
        ("base", "'base' is the first of two layers", "base/exact"),
        ("base/base/exact", "'base' is the first of two layers", "base/exact"),
        ("int 8", "character ' ' is not allowed", ""),
        ("int8\n", "not allowed", ""),
        ("Int8", "no codec 'Int8'", "did you mean int8"),
        ("svg:rank=3", "no codec 'svg'", "did you mean svd"),
        ("int:bit=3", "no parameter 'bit'", "did you mean bits? it has bits, group, symmetric, clip"),
        ("lossless:level=3", "no parameter 'level'", "it has effort"),
        ("bitpack:level=3", "no parameter 'level'", "it has none"),
        ("int:bits", "not key=value", ""),
        ("int:bits=", "not key=value", ""),
        ("int:bits=3,", "not key=value", ""),
        ("int:bits=3,,group=4", "not key=value", ""),
        ("int:bits=3=4", "not key=value", ""),
        ("int:bits=3:group=4", "not key=value", ""),
        ("int:bits=3,bits=3", "given twice", ""),
        ("int:bits=9", "bits=9 is not a whole number from 1 to 8", ""),
        ("int:bits=4.0", "bits=4.0 is not a whole number from 1 to 8", ""),
        ("int:bits=true", "bits=true is not", ""),
        ("int:symmetric=1", "symmetric=1 is not true or false", ""),
        ("int:symmetric=True", "symmetric=True is not true or false", ""),
        ("int:group=rows", "group=rows is not row or column or tensor or a whole number from 1", "did you mean row"),
        ("int:group=-4", "group=-4 is not", ""),
        ("svd:error=nan", "error=nan is not a number from 0 to 1", ""),
        ("svd:error=1e999", "error=inf is not", ""),
        ("svd:rank=99999999999999999999", "a whole number from 1", ""),
        ("int8:bits=4", "int8 takes no parameters", "stands for int;"),
        ("int8+svd:rank=3", "'svd' cannot follow 'int'", "quantizer"),
        ("int8+int4", "'int' cannot follow 'int'", "quantizer"),
        ("bitpack+int8", "'int' cannot follow 'bitpack'", "transforms come first"),
        ("zstd+bitpack", "'bitpack' cannot follow 'zstd'", "transforms come first"),
        ("bitpack+huffman", "'huffman' cannot follow 'bitpack'", "one serializer"),
        ("zstd+zstd", "'zstd' cannot follow 'zstd'", "one compressor"),
    ],
)
def test_text_that_is_refused(text, message, hint):
    with pytest.raises(UsageError) as caught:
        Pipeline.parse(text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert not isinstance(caught.value, Refused)


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        "int8",
        ["int8"],
        [{}],
        [{"name": 3}],
        [{"name": "int8"}],
        [{"name": "int", "config": {}}],
        [{"name": "int", "configuration": []}],
        [{"name": "int", "configuration": {"bits": "4"}}],
        [{"name": "int", "configuration": {"bits": 4.0}}],
        [{"name": "int", "configuration": {"bits": None}}],
        [{"name": "int", "configuration": {"bits": 10**400}}],
        [{"name": "int", "configuration": {"group": [64]}}],
        [{"name": "svd", "configuration": {"error": 10**400}}],
        [{"name": "int", "configuration": {"nbits": 4}}],
        [{"name": "zstd"}, {"name": "int"}],
    ],
)
def test_json_that_is_refused(data):
    with pytest.raises(UsageError):
        Pipeline.from_json(data)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="intsvd48:=,+.-/row bits", max_size=25))
def test_any_text_is_a_pipeline_or_a_usage_error(text):
    try:
        pipeline = Pipeline.parse(text)
    except UsageError:
        return
    assert Pipeline.parse(str(pipeline)) == pipeline


ints = st.builds(
    Int,
    bits=st.integers(2, 8),
    group=st.one_of(st.sampled_from(["row", "tensor"]), st.integers(1, 10**9)),
    symmetric=st.booleans(),
    clip=st.sampled_from(["absmax", "mse"]),
)
svds = st.one_of(
    st.builds(Svd, rank=st.integers(1, 9999), force=st.booleans()),
    st.builds(Svd, error=st.floats(0, 1), force=st.booleans()),
)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(svds, ints) | st.tuples(ints), st.sampled_from([(), (Bitpack(),), (Bitpack(), Zstd(level=7)), (Zstd(),)])
)
def test_text_and_json_lose_nothing(transforms, storers):
    pipeline = Pipeline(transforms + storers)
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert Pipeline.from_json(json.loads(json.dumps(pipeline.to_json()))) == pipeline
    assert Pipeline.from_json(pipeline.to_json()).to_json() == pipeline.to_json()


@pytest.mark.parametrize(
    "text", ["int4/exact", "svd:rank=4+int8/exact", "base/exact", "base/int4", "base/svd:rank=2+int8"]
)
def test_layers_as_text_and_json(text):
    pipeline = Pipeline.parse(text)
    assert str(pipeline) == text
    data = json.loads(json.dumps(pipeline.to_json()))
    assert [len(layer) for layer in data["layers"]] == [len(part.split("+")) for part in text.split("/")]
    assert Pipeline.from_json(data) == pipeline
    assert pipeline.lossless == text.endswith("exact")
