"""Rules: reading them from the command line, and what they match."""

from __future__ import annotations

import pytest

from bale.errors import UsageError
from bale.planning.rule import Rule, parse_rule
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


def test_a_rule_of_a_kind_asks_for_it() -> None:
    rule = Rule("*", parse_rule("*=int8", 1).pipeline, "recipe rule 1", kind="second-moment")
    assert rule.matches("v", MATRIX, kind="second-moment")
    assert not rule.matches("v", MATRIX, kind="first-moment")
    assert not rule.matches("v", MATRIX)
    assert str(rule) == "recipe rule 1: second-moment=int8"
    assert str(Rule("a.*", rule.pipeline, "recipe rule 1", kind="weight")) == "recipe rule 1: weight a.*=int8"


def test_a_rule_has_its_line_in_errors_only() -> None:
    rule = Rule("a", parse_rule("*=int8", 1).pipeline, "recipe rule 2", "r.toml:7: rule 2", why="because")
    assert str(rule) == "recipe rule 2: a=int8 (because)"
    assert rule.placed == "r.toml:7: rule 2: a=int8 (because)"
