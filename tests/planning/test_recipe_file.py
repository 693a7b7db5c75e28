"""Recipes as files: all keys, and errors that name the line. More errors are in cli/test_bad_inputs.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bale.errors import UsageError
from bale.planning.budget import Budget
from bale.planning.recipe_file import KEYS, Loaded, load_recipe
from bale.planning.rule import Rule
from bale.spec import TensorSpec

MATRIX = TensorSpec("BF16", (64, 64))


def load(folder: Path, text: str) -> Loaded:
    path = folder / "r.toml"
    path.write_text(text)
    loaded = load_recipe(path)
    assert isinstance(loaded, Loaded)
    return loaded


def test_equal_signs(tmp_path: Path) -> None:
    (rule,) = load(tmp_path, "[[rule]]\nname = 'a=b'\npipeline = 'int8'\n").rules
    assert rule.matches("a=b", MATRIX)


def test_conditions(tmp_path: Path) -> None:
    text = """
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
    (rule,) = load(tmp_path, text).rules
    assert rule.matches("x", TensorSpec("F16", (10, 10)))
    assert not rule.matches("x", TensorSpec("F16", (100,)))
    assert not rule.matches("x", TensorSpec("F16", (2, 2, 5, 5)))
    assert not rule.matches("x", TensorSpec("F16", (9, 11)))
    assert not rule.matches("x", TensorSpec("BF16", (10, 10)))
    assert rule.optional
    assert str(rule) == "recipe rule 1: *=int4 (because)"


def test_the_keys_are_those_of_a_rule() -> None:
    fields = {field.name for field in dataclasses.fields(Rule)} - {"origin", "place", "pattern", "budget"}
    assert set(KEYS) == fields | {"name", "bits", "max_error", "min_snr", "mean_error"}


def test_a_kind_needs_no_name(tmp_path: Path) -> None:
    (rule,) = load(tmp_path, '[[rule]]\nkind = "embedding"\npipeline = "int8"\n').rules
    assert (rule.pattern, rule.kind) == ("*", "embedding")


@pytest.mark.parametrize(
    ("text", "key", "value", "limit"),
    [
        ("bits = 4.5", "bits", "4.5", None),
        ("bits = 4", "bits", "4", None),
        ("bits = '4.50'", "bits", "4.50", None),
        ("max_size = '500MB'", "max_size", "500MB", 500_000_000),
        ("max_size = 1000", "max_size", "1000", 1000),
        ("max_size = '50%'", "max_size", "50%", 500),
        ("max_error = 0.05", "max_error", "0.05", None),
        ("min_snr = 30", "min_snr", "30", None),
        ("mean_error = 1e-3", "mean_error", "0.001", None),
    ],
)
def test_a_budget_of_the_whole(tmp_path: Path, text: str, key: str, value: str, limit: int | None) -> None:
    budget = load(tmp_path, f"[budget]\n{text}\n").budget
    assert budget == Budget(key, value, where="recipe")
    assert budget.origin == f"recipe: {key} {value}"
    assert limit is None or budget.limit(1000) == limit


def test_a_budget_has_a_weight(tmp_path: Path) -> None:
    budget = load(tmp_path, '[budget]\nbits = 3\nweight = "absolute"\n').budget
    assert budget is not None
    assert budget.weight == "absolute"


def test_budgets_of_rules_are_apart(tmp_path: Path) -> None:
    one, two, three = load(
        tmp_path,
        '[[rule]]\nname = "a*"\nbits = 3\n[[rule]]\nname = "b*"\nbits = 3\n[[rule]]\nname = "c"\nmin_snr = "20"\n',
    ).rules
    assert one.budget != two.budget
    assert one.budget == Budget("bits", "3", where="recipe rule 1", of_rule=True)
    assert [str(rule) for rule in (one, two)] == ["recipe rule 1: a*: bits 3", "recipe rule 2: b*: bits 3"]
    assert str(three.pipeline) == "trellis:error=0.1"


BAD = {
    "a typo in a key of the third rule": (
        "# head\n" + "[[rule]]\nname = '[[rule]]'\npipeline = 'int8'\n" * 2 + "[[rule]]\npipeline = 'int8'\nnmae = 'x'",
        "r.toml:10: rule 3: there is no key 'nmae'; did you mean 'name'?",
    ),
    "a typo in a table": ("\n[[rules]]\nname = 'x'", "r.toml:2: there is no key 'rules'; did you mean 'rule'?"),
    "no name": ("\n[[rule]]\npipeline = 'int8'", "r.toml:2: rule 1 has no name"),
    "no pipeline": ("[[rule]]\nname = 'x'", "r.toml:1: rule 1 has no pipeline"),
    "two of them": ("[[rule]]\nname = 'x'\nbits = 3\npipeline = 'int8'", "r.toml:3: rule 1 has pipeline and bits"),
    "an unknown codec": ("[[rule]]\nname = 'x'\n\npipeline = 'itn8'", "r.toml:4: rule 1: "),
    "a bad pattern": ("[[rule]]\nname = 're:('\npipeline = 'int8'", "r.toml:2: rule 1: 're:(' is not a regular"),
    "an unknown kind": (
        "[[rule]]\npipeline = 'int8'\nkind = 'moment'",
        "r.toml:3: rule 1: there is no kind 'moment'; it is one of weight, embedding, first-moment, second-moment",
    ),
    "a kind that is no text": ("[[rule]]\nkind = ['weight']\nbits = 3", "r.toml:2: rule 1: kind = ['weight'] is not a"),
    "a budget that is no number": ("[[rule]]\nname = 'x'\nbits = 'four'", "r.toml:3: rule 1: bits four: not a number"),
    "a budget that is a truth": ("[[rule]]\nname = 'x'\nbits = true", "r.toml:3: rule 1: bits = True is not a number"),
    "a size in a rule": ("[[rule]]\nname = 'x'\nmax_size = '1MB'", "r.toml:3: rule 1: there is no key 'max_size'"),
    "a weight in a rule": ("[[rule]]\nname = 'x'\nbits = 3\nweight = 'quality'", "r.toml:4: rule 1: there is no key"),
    "an empty budget": ("[budget]\n", "r.toml:1: the budget says nothing"),
    "a weight alone": ("[budget]\nweight = 'quality'", "r.toml:1: the budget says nothing"),
    "two budgets": ("[budget]\nbits = 3\nmean_error = 0.1", "r.toml:3: the budget has bits and mean_error"),
    "bits out of range": ("\n[budget]\nbits = 99", "r.toml:3: the budget: bits 99: not a number from 0.1 to 20"),
    "no size": ("[budget]\nmax_size = 'much'", "r.toml:2: the budget: max_size much: not a size"),
    "an unknown weight": ("[budget]\nbits = 3\nweight = 'x'", "r.toml:3: the budget: there is no weight 'x'"),
    "a weight of each": ("[budget]\nmin_snr = 3\nweight = 'quality'", "r.toml:3: the budget: weight is for all"),
    "a list of budgets": ("[[budget]]\nbits = 3", "r.toml:1: a budget is written as [budget]"),
    "a table of rules": ("[rule]\nname = 'x'", "r.toml:1: rules are written as [[rule]]"),
    "an inline rule": ("rule = [\n{nmae = 'x'}]", "r.toml:1: rule 1: there is no key 'nmae'"),
    "no TOML": ("[[rule]]\nname = \n", "r.toml:2: the recipe is not TOML: Invalid value"),
    "half a file": ("[[rule", "r.toml is not TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_name_the_line(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert message in "\n".join(caught.value.lines)
    if ":" in message.partition(" ")[0]:
        assert caught.value.message.startswith(f"{tmp_path}/")
