"""Memory that a plan says its compression takes at most."""

from __future__ import annotations

import pytest

from bale.compressors.pipeline import Pipeline
from bale.engine.estimate.memory import most_memory
from bale.spec import TensorSpec

LARGE = TensorSpec("BF16", (30_000, 10_000))
SMALL = TensorSpec("BF16", (100, 100))


def most(pipeline: str, *specs: TensorSpec, threads: int = 2) -> int:
    return most_memory([Pipeline.parse(pipeline)] * len(specs), specs, threads)


@pytest.mark.parametrize("pipeline", ["lossless", "int8", "int4+bitpack", "nf4"])
def test_what_goes_in_chunks_takes_the_same_for_any_size(pipeline: str) -> None:
    assert most(pipeline, LARGE) == most(pipeline, SMALL) == most(pipeline)
    assert most(pipeline, threads=8) > most(pipeline, threads=1)


def test_what_is_coded_as_a_whole_takes_some_times_its_size() -> None:
    assert LARGE.nbytes < most("trellis:bits=4", LARGE) < most("svd:rank=8", LARGE)
    assert most("trellis:bits=4", LARGE, SMALL) == most("trellis:bits=4", LARGE)
    assert most("trellis:bits=4", SMALL) == most("int8", SMALL)


def test_layers_count_too() -> None:
    assert most("trellis:bits=2/exact", LARGE) == most("trellis:bits=2", LARGE)
