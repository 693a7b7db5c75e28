"""Budgets as they are asked for."""

from __future__ import annotations

from typing import Any

import pytest

from bale.errors import UsageError
from bale.planning.budget import Budget, make_budget
from bale.planning.recipe import make_recipe


def made(**given: Any) -> Budget:
    found = make_budget(**given)
    assert found is not None
    return found


def test_numbers_are_taken_like_texts() -> None:
    assert made(bits=4.25) == made(bits="4.25")
    assert made(max_size=1000).limit(5000) == 1000
    assert made(max_size="50%").limit(5001) == 2500


def test_a_limit_of_each_tensor_is_a_pipeline() -> None:
    assert str(made(max_error=0.02).pipeline) == "trellis:error=0.02"
    assert str(made(min_snr=20).pipeline) == "trellis:error=0.1"
    assert made(max_error=0.02).of_each
    assert not made(mean_error=0.02).of_each


def test_the_option_stands_for_it() -> None:
    assert made(max_size="5MB").origin == "--max-size 5MB"
    assert make_recipe(budget=made(bits=3)).origin == "--bits 3"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bits": 4, "max_size": "5MB"}, "--max-size and --bits given"),
        ({"weight": "relative"}, "there is none"),
        ({"bits": 4, "weight": "heavy"}, "no such weight"),
        ({"max_error": 0.1, "weight": "relative"}, "--max-error is of each"),
        ({"bits": 21}, "--bits 21"),
        ({"max_size": "5"}, None),
        ({"max_size": "big"}, "--max-size big"),
        ({"mean_error": 0}, "--mean-error 0"),
    ],
)
def test_what_makes_no_sense(given: dict[str, Any], words: str | None) -> None:
    if words is None:
        made(**given)
    else:
        with pytest.raises(UsageError, match=words):
            made(**given)


def test_the_method_is_a_codec_whose_target_is_free() -> None:
    recipe = make_recipe("trellis:effort=high", budget=made(bits=3))
    assert str(recipe.default) == "trellis:bits=4,effort=high"
    for pipeline in ("int8", "trellis:bits=3", "trellis:error=0.1", "trellis:pool=model", "svd:rank=4+int8"):
        with pytest.raises(UsageError, match="--bits"):
            make_recipe(pipeline, budget=made(bits=3))


def test_second_moments_go_through_their_root() -> None:
    assert str(made(bits=3).positive) == "positive:domain=sqrt+trellis:bits=4"
