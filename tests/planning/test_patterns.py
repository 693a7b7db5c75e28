"""Which patterns are taken, and that each name is then answered soon."""

from __future__ import annotations

from pathlib import Path

import pytest

import bale
from bale.errors import UsageError
from bale.planning.patterns import compile_pattern
from bale.planning.recipe_file import load_recipe
from tests.making import weights, write

TAKEN = [
    (r"encoder\.layer\.[0-9]+\..*\.weight", "encoder.layer.11.attention.self.query.weight"),
    ("(a|b)+", "abba"),
    (".*(foo|bar).*", "bar.b"),
    ("(gate|up|down)+", "gateupdown"),
    (r"(model\.)?layers\.([0-9]|1[0-9])\..*(q|k|v|o)_proj\.weight", "layers.17.self_attn.o_proj.weight"),
    ("(?!.*norm).*weight", "a.weight"),
    ("(?i)EMBED.*", "embed.tokens"),
    (r"(.)\1", "aa"),
    ("(ab){3}", "ababab"),
    ("a{2,5}(b+)?", "aaabb"),
    ("a++b*?", "aaab"),
    ("(?P<n>x)?(?(n)a|b)", "xa"),
]
TOLD_APART = [
    (r"(\w+\.)*l1", "model.layers.l1"),
    (r"(\w+[.])+weight", "model.layers.7.weight"),
    (r"\w+(?:\.\w+)*", "model.layers.weight"),
    (r"(?:[^.]+\.){2,}bias", "model.layers.bias"),
    (r"(?:[a-z]+\d+_proj\.)*w", "q1_proj.kv22_proj.w"),
    (r"(layers\.\d+?\.(\w*)\.)*w", "layers.1.attention.layers.22..w"),
    (r"(?i)(\w{1,9}-)*X", "ab-cd-x"),
]
NESTED = [
    *("(x+x+)+y", "(x*)*y", "(x+)+y", "(x|xx)+y", "(.|x)*y", "((x+)y?)*z", "(x{1,9})*y", "(?:a|ab|c)+d", "(x?)+y"),
    *("(?i)(xx|XX)*y", "(x+x+){2,}y", "(x+){3,40}y", "((?:x|x)y*)*z", "(x*|y)+z", "(?>x+x+)+y", "(?:(?=.*x)x)*y"),
]
NOT_TOLD_APART = [
    *(r"(\w+\w+\.)*y", r"(\w+x)*y", r"(\w+\.?)*y", r"(\w*\d?\.)*y", r"(.+\.)*y", r"([^x]+X)*y", r"(\w+\.|x)*y"),
    *(r"((\w+\.)*x)*y", "(\\W+\u00e9)*y", r"(?i)([a-z]+X)*y", r"(\w+..\.)*y", r"(\.?\w+)*y", r"(\w+(?=\.))*y"),
    *("(?i)([\u017f]+s)*y", "(\\w+\u00e9)*y", r"([^\x00-\x7f]+\W)*y", r"(\S+\.)*y", r"(?i)(?-i:([^x]+X)*)y"),
]
MANY = ["(x?){60}y", "(x|xy)" * 40, "x?" * 40 + "y", "(x{0,9}y?){30}z"]


@pytest.mark.parametrize(("pattern", "name"), TAKEN)
def test_patterns_that_are_taken(pattern: str, name: str) -> None:
    found = compile_pattern(f"re:{pattern}", "--rule 1")
    assert found.matches(name)
    assert not found.matches(f"!{name[1:]}" if ".*" in pattern[-3:] else f"{name}!")


@pytest.mark.parametrize(("pattern", "name"), TOLD_APART)
def test_a_repeat_whose_rounds_are_told_apart_is_taken_and_answers_soon(pattern: str, name: str) -> None:
    found = compile_pattern(f"re:{pattern}", "--rule 1")
    assert found.matches(name)
    for long in (name[:-1] * 60 + "!", "a." * 800 + "!", ".a" * 800 + "!", "a" * 1600 + "!", "ab-" * 500 + "!"):
        assert not found.matches(long)


@pytest.mark.parametrize("pattern", NOT_TOLD_APART)
def test_a_repeat_whose_rounds_could_end_elsewhere_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="repeats what can itself match in many ways"):
        compile_pattern(f"re:{pattern}", "--rule 1")


@pytest.mark.parametrize(
    ("pattern", "group"),
    [
        (r"model[(]\((a|b)*(x+x+)+y", "(x+x+)+"),
        ("(?:z(?P<n>(?:xx?){2,}?)*)?", "(?:xx?){2,}?"),
        (r"(.)(\1+x*)*", ""),
    ],
)
def test_the_refusal_names_the_group(pattern: str, group: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_pattern(f"re:{pattern}", "--rule 1")
    named = f"{group!r} in {f're:{pattern}'!r}" if group else repr(f"re:{pattern}")
    assert caught.value.message == f"--rule 1: {named} repeats what can itself match in many ways"


@pytest.mark.parametrize("pattern", NESTED)
def test_a_repeat_of_what_has_several_ways_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"--rule 1: .* repeats what can itself match in many ways; write it"):
        compile_pattern(f"re:{pattern}", "--rule 1")


@pytest.mark.parametrize("pattern", MANY)
def test_too_many_alternatives_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="can be tried in more than"):
        compile_pattern(f"re:{pattern}", "--rule 1")


@pytest.mark.parametrize("pattern", ["(", "*", "(" * 5000 + ")" * 5000, "a{99999999999}", "[z-a]", "(?P<n>"])
def test_what_is_no_expression_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is not a regular expression"):
        compile_pattern(f"re:{pattern}", "--tensor")


def test_repeats_in_a_row_are_refused_for_names_that_are_too_long_for_them() -> None:
    found = compile_pattern("re:x+x+x+x+y", "--rule 1")
    assert found.matches("xxxxy")
    assert not found.matches("x" * 200)
    with pytest.raises(UsageError, match=r"4 repeats without a limit, which is too many for the name 'x*'... of 3000"):
        found.matches("x" * 3000)


def test_globs_of_many_stars_are_answered() -> None:
    assert not compile_pattern("*x" * 20 + "y", "--rule 1").matches("x" * 3000)


def test_every_place_of_a_pattern_checks_it(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"x" * 60: weights(64, 64)})
    bale.compress(source)
    recipe = tmp_path / "r.toml"
    recipe.write_text('[[rule]]\nname = "re:(x+x+)+y"\npipeline = "int8"\n')
    for ask in (
        lambda: bale.plan(source, rules=["re:(x+x+)+y=int8"]),
        lambda: bale.plan(source, recipe=recipe),
        lambda: bale.decompress(f"{source}.bale", tmp_path / "out", tensors=["re:(x+x+)+y"]),
    ):
        with pytest.raises(UsageError, match="repeats what can itself match"):
            ask()


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "[" * 20_000,
        "a=" + "{a=" * 20_000,
        "[[rule]]\nname" + ".a" * 5_000 + " = 1\n",
        "rule" + ".a" * 5_000 + " = 1\n",
        '[[rule]]\nname = "*"\npipeline = "int8"\n' + "a" * 100_000 + " = 1\n",
        "[" + "a." * 5_000 + "a]\n",
        '[[rule]]\nname = "*"\npipeline = "int8"\nmin_ndim = ' + "9" * 5000 + "\n",
        '[[rule]]\nname = "*"\npipeline = "int8"\ndtype = "' + "F" * 100_000 + '"\n',
        '[[rule]]\nname = "*"\npipeline = "' + "int8/" * 20_000 + 'int8"\n',
        '[[rule]]\nname = "*"\npipeline = "' + "int8+" * 20_000 + 'int8"\n',
    ],
)
def test_recipes_of_any_depth_and_length_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_recipe(tmp_path / "r.toml")
    assert "\n" not in str(caught.value)
