"""Codecs of other packages: found by name, refused in one line, and never looked for without need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bale.compressors import registry
from bale.compressors.pipeline import Pipeline
from bale.errors import UsageError
from tests.conftest import Install

CODE = """
from dataclasses import dataclass
from typing import ClassVar

from bale.compressors.base import Compressor, Conditional
from bale.compressors.settings import setting


@dataclass(frozen=True)
class Flip(Compressor):
    '''Bytes with all bits turned.'''

    name: ClassVar[str] = "flip"

    mask: int = setting(255, low=0, high=255, help="the bits that are turned")

    def validate(self, spec):
        pass

    def encode(self, data):
        return bytes(byte ^ self.mask for byte in bytes(data))

    def decode(self, data, size):
        return self.encode(data)
"""


def test_a_codec_of_another_package_is_found_by_its_name(install: Install) -> None:
    install("bale-flip", CODE, flip="Flip")
    pipeline = Pipeline.parse("int8+flip:mask=3")
    assert str(pipeline) == "int8+flip:mask=3"
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    told = registry.describe("flip")
    assert (told.kind, told.package, told.summary) == ("compressor", "bale-flip 1.2", "Bytes with all bits turned.")
    assert [each.name for each in told.parameters] == ["mask"]
    assert registry.describe_others() == ([told], [])
    assert registry.describe("int").package is None
    assert "flip" not in registry.names()


def test_it_is_among_the_names_that_are_suggested(install: Install) -> None:
    install("bale-flip", CODE, flip="Flip")
    with pytest.raises(UsageError, match="there is no codec 'flop'") as caught:
        registry.get("flop")
    assert "did you mean flip or" in caught.value.hint
    assert caught.value.hint.endswith("mxfp8, flip")


def test_two_packages_with_one_name_clash(install: Install) -> None:
    install("one", CODE, flip="Flip")
    install("two", CODE, flip="Flip")
    with pytest.raises(UsageError, match=r"two codecs are called 'flip': one 1.2 has one, and two 1.2; uninstall one"):
        registry.get("flip")
    with pytest.raises(UsageError, match="two codecs are called 'flip'"):
        registry.describe_others()
    assert registry.get("int").name == "int"


@pytest.mark.parametrize("name", ["int", "int4"])
def test_names_of_bale_clash(install: Install, name: str) -> None:
    """Also its short names. Who asks for it gets bale's own, for which nothing is searched."""
    install("bale-flip", CODE, **{name: "Flip"})
    with pytest.raises(UsageError, match=f"two codecs are called '{name}': bale has one, and bale-flip 1.2"):
        registry.describe_others()
    assert Pipeline.parse(name).codecs[0].name == "int"


FLAWS = {
    "raise ImportError('no\\nwood')": "ImportError: no wood",
    "import sys; sys.exit(3)": "SystemExit: 3",
    "1 / 0": "ZeroDivisionError",
    "syntax error": "SyntaxError",
    "": "has no attribute 'Flip'",
    "Flip = 3": "no quantizer, transform, serializer or compressor",
    "class Flip: name = 'flip'": "no quantizer, transform, serializer or compressor",
    CODE.replace("(Compressor)", "(Conditional)"): "no quantizer, transform, serializer or compressor",
    CODE.replace('"flip"', '"flap"'): "it calls itself 'flap'",
    CODE.replace("def decode", "def other"): "it lacks decode",
    CODE.replace("@dataclass(frozen=True)", ""): "no frozen dataclass",
    CODE.replace("@dataclass(frozen=True)", "@dataclass"): "TypeError",
    CODE.replace("name:", "version = 0\n    name:"): "its version is 0",
    CODE.replace('setting(255, low=0, high=255, help="the bits that are turned")', "255"): "not declared with setting",
    CODE.replace("mask: int", "mask: 'Nothing'"): "Nothing",
    f"raise ValueError({'x' * 1000!r})": "xxx...",
}


@pytest.mark.parametrize("code", FLAWS)
def test_what_cannot_be_used_is_said_when_it_is_asked_for(install: Install, code: str) -> None:
    install("bale-flip", code, flip="Flip")
    with pytest.raises(UsageError) as caught:
        registry.get("flip")
    told = str(caught.value)
    assert told.startswith("the codec 'flip' of bale-flip 1.2 cannot be used (")
    assert FLAWS[code] in told
    assert "\n" not in told
    assert len(told) < 400
    assert registry.describe_others() == ([], [told])


def test_a_name_that_no_pipeline_can_hold(install: Install) -> None:
    install("bale-flip", CODE.replace('"flip"', '"f+p"'), **{"f+p": "Flip"})
    _, (told,) = registry.describe_others()
    assert "its name cannot be written in a pipeline" in told


def test_nothing_is_searched_for_what_is_bales_own() -> None:
    code = (
        "import sys; from bale.compressors.pipeline import Pipeline; Pipeline.parse('svd:rank=3+int8+zstd');"
        "from bale.compressors import plugins; print(plugins.claims.cache_info().misses)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "0"
