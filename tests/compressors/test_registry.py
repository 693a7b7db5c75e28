import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import bale.compressors
from bale.compressors import registry
from bale.compressors.base import Codec
from bale.compressors.pipeline import Pipeline
from bale.compressors.settings import settings
from bale.errors import UsageError


def codec_classes():
    """Every concrete codec in any module of the package."""
    found = set()
    for info in pkgutil.walk_packages(bale.compressors.__path__, "bale.compressors."):
        for value in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(value) and issubclass(value, Codec) and not inspect.isabstract(value):
                found.add(value)
    return found


def test_every_codec_is_in_the_table():
    assert {registry.get(name) for name in registry.names()} == codec_classes()


@pytest.mark.parametrize("name", registry.names())
def test_names_agree(name):
    codec = registry.get(name)
    assert codec.name == name
    assert issubclass(codec, Codec)
    assert codec.version >= 1


def test_a_name_clash_is_an_error():
    with pytest.raises(ValueError, match="two codecs are called 'int'"):
        registry.unique([("int", "a:A"), ("svd", "b:B"), ("int", "c:C")])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("itn4", "did you mean int4"), ("zstdd", "zstd"), ("", "there are"), ("gptq", "bitpack, codebook, cp, exact")],
)
def test_unknown_name(name, hint):
    with pytest.raises(UsageError, match="there is no codec") as caught:
        registry.get(name)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", registry.names())
def test_everything_is_described(name):
    told = registry.describe(name)
    assert told.summary.endswith(".")
    assert len(told.summary) < 120
    assert told.kind in ("quantizer", "transform", "serializer", "conditional", "compressor")
    assert "Use it" in told.details or told.lossless
    assert [each.name for each in told.parameters] == list(settings(registry.get(name)))
    assert all(each.help and each.allowed and each.type for each in told.parameters)


def test_description_of_int():
    told = registry.describe("int4")
    assert (told.name, told.kind, told.lossless) == ("int", "quantizer", False)
    assert told.aliases == {"int4": "int:bits=4,group=64", "int8": "int"}
    bits, group, symmetric, clip, rows, zero, scale = told.parameters
    assert (bits.type, bits.default, bits.allowed) == ("int", 8, "a whole number from 1 to 8")
    assert (group.type, group.default, group.allowed) == (
        "int or word",
        "row",
        "row or column or tensor or a whole number from 1",
    )
    assert (symmetric.default, symmetric.allowed) == (False, "true or false")
    assert (clip.type, clip.allowed) == ("word", "absmax or mse")
    assert (rows.default, zero.default, scale.default) == (1, "int", "auto")


@pytest.mark.parametrize("name", registry.names())
def test_defaults_are_shown_as_they_are_written(name):
    for each in registry.describe(name).parameters:
        assert (each.written is None) == (each.default is None)
        if each.written is not None:
            assert settings(registry.get(name))[each.name].parse(each.written) == each.default
    if name == "int":
        assert [each.written for each in registry.describe(name).parameters][:3] == ["8", "row", "false"]


def test_aliases_are_normal_pipelines():
    for alias, text in registry.ALIASES.items():
        assert str(Pipeline.parse(text)) == alias


def test_nothing_heavy_is_imported_before_it_is_used():
    code = (
        "import sys; from bale.compressors.pipeline import Pipeline; Pipeline.parse('svd:rank=3+int8');"
        "print([m for m in ('scipy', 'ml_dtypes', 'numba', 'torch', 'zstandard') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
