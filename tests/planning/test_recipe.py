"""Rules: reading them, and what they match. The errors of bad recipes are in cli/test_bad_inputs.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from bale.errors import UsageError
from bale.planning.recipe import KEYS, Rule, load_recipe, make_recipe, parse_rule
from bale.spec import TensorSpec

MATRIX = TensorSpec("BF16", (64, 64))


def matches(pattern: str, name: str, spec: TensorSpec = MATRIX) -> bool:
    return parse_rule(f"{pattern}=int8", 1).matches(name, spec)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*.weight", "a.b.weight", True),
        ("*.weight", "weight", False),
        ("layers.1.*", "layers.1.weight", True),
        ("layers.1.*", "layers.10.weight", False),
        ("layers.1*", "layers.10.weight", True),
        ("layers.?.w", "layers.1.w", True),
        ("layers.?.w", "layers.10.w", False),
        ("layers.[0-3].w", "layers.2.w", True),
        ("layers.[!0-3].w", "layers.2.w", False),
        ("*", "a/b\nc", True),
        ("a", "A", False),
        ("weight", "a.weight", False),
        ("", "x", False),
        ("re:layers\\.(1|10)\\..*", "layers.10.w", True),
        ("re:layers", "layers.1", False),
        ("re:.*", "a\nb", True),
        ("re:[^x]{2,}", "ab", True),
    ],
)
def test_patterns_match_whole_names(pattern: str, name: str, expected: bool) -> None:
    if pattern:
        assert matches(pattern, name) is expected


def test_equal_signs() -> None:
    """Split at the first; a pattern that needs one writes `?` or an escape."""
    rule = parse_rule("a=int:bits=4,group=64", 1)
    assert (rule.pattern, str(rule.pipeline)) == ("a", "int4")
    assert matches(r"a\x3db", "a=b")
    assert not matches(r"a\x3db", "a-b")
    assert matches("a?b", "a=b")
    assert matches(r"re:a\x3db", "a=b")
    with pytest.raises(UsageError, match="--rule 1"):
        parse_rule("a=b=int8", 1)


def test_equal_signs_in_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[[rule]]\nname = 'a=b'\npipeline = 'int8'\n")
    assert load_recipe(path)[0].matches("a=b", MATRIX)


def test_conditions(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        """
        [[rule]]
        name = "*"
        pipeline = "int4"
        min_ndim = 2
        max_ndim = 3
        min_elements = 100
        dtype = "F16"
        optional = true
        why = "because"
        """
    )
    (rule,) = load_recipe(path)
    assert rule.matches("x", TensorSpec("F16", (10, 10)))
    assert not rule.matches("x", TensorSpec("F16", (100,)))
    assert not rule.matches("x", TensorSpec("F16", (2, 2, 5, 5)))
    assert not rule.matches("x", TensorSpec("F16", (9, 11)))
    assert not rule.matches("x", TensorSpec("BF16", (10, 10)))
    assert rule.optional
    assert str(rule) == "recipe rule 1: *=int4 (because)"


def test_the_keys_are_those_of_a_rule() -> None:
    import dataclasses

    fields = {field.name for field in dataclasses.fields(Rule)} - {"origin", "pattern"} | {"name"}
    assert set(KEYS) == fields


def test_order_of_lists(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[[rule]]\nname = "b"\npipeline = "int8"\n[[rule]]\nname = "c"\npipeline = "int4"\n')
    recipe = make_recipe("svd:rank=2", ("a=int8", "b=int4"), path)
    assert [[rule.pattern for rule in rules] for rules in recipe.lists] == [["a", "b"], ["b", "c"]]
    assert [rule.origin for rules in recipe.lists for rule in rules] == [
        "--rule 1",
        "--rule 2",
        "recipe rule 1",
        "recipe rule 2",
    ]
    assert str(recipe.default) == "svd:rank=2"
    assert make_recipe().lists == ()
