"""Recipes as files: rules and a budget in TOML; whatever is wrong with one is told with its line."""

from __future__ import annotations

import re
import reprlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bale.errors import SourceError, UsageError
from bale.planning.budget import METHOD, OPTIONS, WEIGHTS, Budget
from bale.planning.kinds import KINDS_OF_RULES
from bale.planning.lines import Lines
from bale.planning.presets import Preset, near_presets
from bale.planning.rule import Rule
from bale.planning.saved import SavedPlan, check_keys, parse_pipeline, read_plan
from bale.spec import DTYPES

_NUMBER = (int, float, str)
_BUDGETS = ("bits", "max_error", "min_snr", "mean_error")  # which a rule may have
KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "kind": (str,),
    "pipeline": (str,),
    **dict.fromkeys(_BUDGETS, _NUMBER),
    "min_ndim": (int,),
    "max_ndim": (int,),
    "min_elements": (int,),
    "dtype": (str,),
    "optional": (bool,),
    "why": (str,),
}
BUDGET_KEYS: dict[str, tuple[type, ...]] = {**dict.fromkeys(OPTIONS, _NUMBER), "weight": (str,)}
_CHOICES = {"dtype": tuple(DTYPES), "kind": KINDS_OF_RULES, "weight": WEIGHTS}
_WORDS = {(str,): "a text", (int,): "a whole number", (bool,): "true or false", _NUMBER: "a number"}
_AT_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


@dataclass(frozen=True)
class Loaded:
    """The rules of a recipe, and its budget if it has one."""

    rules: tuple[Rule, ...] = ()
    budget: Budget | None = None


def load_recipe(source: Path | Preset) -> Loaded | SavedPlan:
    """Read a recipe, or a plan that `plan --save` wrote. Raises `UsageError` for anything else."""
    path = source.path if isinstance(source, Preset) else source
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as problem:
        hint = "check the path and its permissions"
        if isinstance(problem, FileNotFoundError) and str(path) == path.name and not path.suffix:
            hint = near_presets(path.name)
        raise SourceError(f"cannot read the recipe {path}: {problem.strerror}", hint) from None
    except ValueError as problem:  # of TOML, of UTF-8, and of a number with thousands of digits
        line = _AT_LINE.search(str(problem))
        where = f"{path}:{line[1]}: the recipe" if line else f"the recipe {path}"
        raise UsageError(f"{where} is not TOML: {_AT_LINE.sub('', str(problem))}") from None
    except RecursionError:
        raise UsageError(f"the recipe {path} is not TOML that can be read: its values are nested too deeply") from None
    if "tensor" in data:
        check_keys(data, ("rule", "tensor"), f"the recipe {path}")
        return read_plan(path, data)
    if isinstance(source, Preset):
        return _Reader(f"preset {source.name}", f"preset {source.name}", text, data).read()
    return _Reader("recipe", str(path), text, data).read()


@dataclass(frozen=True)
class _Reader:
    """One recipe; `name` is for the report, `path` for errors."""

    name: str
    path: str
    text: str
    data: dict[str, Any]

    @cached_property
    def _lines(self) -> Lines:
        return Lines(self.text)

    def read(self) -> Loaded:
        for key in self.data:
            check_keys((key,), ("rule", "budget"), self._at(key=key))
        rules, budget = self.data.get("rule", []), self.data.get("budget")
        if not isinstance(rules, list) or not all(isinstance(item, dict) for item in rules):
            raise UsageError(f"{self._at('rule', 1)}: rules are written as [[rule]]")
        if budget is not None and not isinstance(budget, dict):
            raise UsageError(f"{self._at('budget', 1)}: a budget is written as [budget]")
        if not rules and budget is None:
            hint = "write a [budget], or at least one [[rule]] with name and pipeline"
            raise UsageError(f"the recipe {self.path} has no rules and no budget", hint)
        made = tuple(self._rule(item, number) for number, item in enumerate(rules, 1))
        return Loaded(made, None if budget is None else self._whole_budget(budget))

    def _at(self, table: str = "", number: int = 0, key: str = "") -> str:
        """The path and the line of a key, or of its table."""
        line = self._lines.of(table, number, key)
        return f"the recipe {self.path}" if line is None else f"{self.path}:{line}"

    def _rule(self, item: dict[str, Any], number: int) -> Rule:
        def at(key: str = "") -> str:
            return f"{self._at('rule', number, key)}: rule {number}"

        for key, value in item.items():
            _check(key, value, KEYS, at(key))
        if "name" not in item and "kind" not in item:
            raise UsageError(f"{at()} has no name", 'write name = "..." or kind = "..."')
        asked = _one_of(item, ("pipeline", *_BUDGETS), at)
        if asked is None:
            raise UsageError(f"{at()} has no pipeline", f'write pipeline = "...", or a budget: {", ".join(_BUDGETS)}')
        origin = f"{self.name} rule {number}"
        if asked == "pipeline":
            budget, pipeline = None, parse_pipeline(item[asked], at(asked))
        else:
            budget = replace(_budget(asked, item[asked], at(asked)), where=origin, of_rule=True)
            pipeline = budget.pipeline
        fields = {key: value for key, value in item.items() if key not in ("name", asked)}
        rule = Rule(item.get("name", "*"), pipeline, origin, at("name"), budget, **fields)
        rule.check()
        return replace(rule, place=at())

    def _whole_budget(self, table: dict[str, Any]) -> Budget:
        def at(key: str = "") -> str:
            return f"{self._at('budget', 1, key)}: the budget"

        for key, value in table.items():
            _check(key, value, BUDGET_KEYS, at(key))
        asked = _one_of(table, tuple(OPTIONS), at)
        if asked is None:
            raise UsageError(f"{at()} says nothing", f"write one of {', '.join(OPTIONS)}")
        budget = _budget(asked, table[asked], at(asked))
        if "weight" in table and budget.of_each:
            raise UsageError(f"{at('weight')}: weight is for all tensors together, and {asked} is of each")
        return replace(budget, where=self.name, weight=table.get("weight", "quality"))


def _check(key: str, value: Any, keys: dict[str, tuple[type, ...]], where: str) -> None:
    check_keys((key,), tuple(keys), where)
    if type(value) not in keys[key]:
        raise UsageError(f"{where}: {key} = {reprlib.repr(value)} is not {_WORDS[keys[key]]}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise UsageError(
            f"{where}: there is no {key} {reprlib.repr(value)}", f"it is one of {', '.join(_CHOICES[key])}"
        )


def _one_of(item: dict[str, Any], keys: Iterable[str], at: Any) -> str | None:
    """The only key of several that a table has, if it has one."""
    found = [key for key in keys if key in item]
    if len(found) > 1:
        raise UsageError(f"{at(found[1])} has {' and '.join(found)}", "leave one of them out")
    return found[0] if found else None


def _budget(key: str, value: float | str, where: str) -> Budget:
    budget = Budget(key, str(value), method=METHOD, where=where)
    budget.check()
    return budget
