"""The user's choices: rules, and the pipeline or the budget of all other tensors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bale.compressors.pipeline import Pipeline
from bale.errors import UsageError
from bale.notes import Note
from bale.planning.budget import Budget
from bale.planning.presets import Preset, is_preset
from bale.planning.recipe_file import load_recipe
from bale.planning.rule import Rule, parse_rule
from bale.planning.saved import SavedPlan, parse_pipeline


@dataclass(frozen=True)
class Recipe:
    """All choices of one run: lists of rules in order of precedence, and the pipeline of all other tensors.

    Within a list the first rule that matches wins; an earlier list goes before a later one. A saved plan has no rules,
    as it has a choice for every tensor. `path` is the file that rules or plan were read from; of a preset None. With a
    budget, `default` is the pipeline whose target it finds.
    """

    lists: tuple[tuple[Rule, ...], ...] = ()
    default: Pipeline | None = None
    allow_unmatched: bool = False
    saved: SavedPlan | None = None
    path: Path | None = None
    budget: Budget | None = None
    notes: tuple[Note, ...] = ()

    @property
    def origin(self) -> str:
        """What the choice for all other tensors stands under: an option and its value."""
        return f"-p {self.default}" if self.budget is None else self.budget.origin

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """All pipelines that the choices name."""
        if self.saved is not None:
            return tuple(choice.pipeline for choice in self.saved.choices)
        asked = [rule.pipeline for rules in self.lists for rule in rules]
        return tuple(asked) if self.default is None else (*asked, self.default)


def make_recipe(
    pipeline: str | None = None,
    rules: tuple[str, ...] = (),
    recipe: Path | str | None = None,
    allow_unmatched: bool = False,
    budget: Budget | None = None,
) -> Recipe:
    """Put the choices of a command together: `--rule` in order, then the recipe's rules, then `-p` or a budget.

    A `recipe` that is a text may be the name of a preset; a path is always a file.
    """
    given = tuple(parse_rule(text, number) for number, text in enumerate(rules, 1))
    if recipe is None:
        return _put_together((given,), pipeline, allow_unmatched, budget)
    source = _find(recipe)
    loaded = load_recipe(source)
    path = source if isinstance(source, Path) else None
    if isinstance(loaded, SavedPlan):
        if given or pipeline is not None or budget is not None:
            hint = "leave out -p, --rule and budgets, or change it there"
            raise UsageError(f"{recipe} has a choice for every tensor", hint)
        return Recipe(saved=loaded, path=path)
    if loaded.budget is not None and (pipeline is not None or budget is not None):
        option = f"-p {pipeline}" if budget is None else budget.origin
        raise UsageError(f"{option} is for all tensors that no rule names, and so is {loaded.budget.origin}", _ONE)
    notes = () if path is not None or not os.path.lexists(recipe) else (Note("preset", _hidden(str(recipe))),)
    return _put_together((given, loaded.rules), pipeline, allow_unmatched, budget or loaded.budget, path, notes)


_ONE = "leave it out, or write a recipe of your own (bale recipes show NAME > FILE.toml)"


def _put_together(
    lists: tuple[tuple[Rule, ...], ...],
    pipeline: str | None,
    allow_unmatched: bool,
    budget: Budget | None,
    path: Path | None = None,
    notes: tuple[Note, ...] = (),
) -> Recipe:
    if budget is not None and pipeline is not None:
        budget = budget.by(pipeline)
    if budget is not None:
        default: Pipeline | None = budget.pipeline
    else:
        default = parse_pipeline(pipeline, "-p") if pipeline is not None else None
    return Recipe(tuple(filter(None, lists)), default, allow_unmatched, path=path, budget=budget, notes=notes)


def _find(recipe: Path | str) -> Path | Preset:
    """A file, or the preset of this name."""
    return Preset(recipe) if isinstance(recipe, str) and is_preset(recipe) else Path(recipe)


def _hidden(name: str) -> str:
    return f"{name} is the preset of this name; write {os.path.join(os.curdir, name)} for the file"
