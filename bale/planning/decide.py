"""Plans: a decision for every unit, from specs and rules alone, before any data is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from bale.compressors.pipeline import Pipeline
from bale.errors import Refused, UsageError
from bale.notes import KINDS, Note, many
from bale.planning.allocate import SECOND
from bale.planning.budget import MOMENTS, Budget
from bale.planning.kinds import kind_of
from bale.planning.patterns import bracket_hint, is_name
from bale.planning.recipe import Recipe
from bale.planning.roles import Roles
from bale.planning.rule import Rule
from bale.planning.saved import SavedChoice, SavedPlan
from bale.spec import TensorSpec, Unit

LOSSLESS = Pipeline.parse("lossless")
MAX = Pipeline.parse("lossless:effort=max")
BASE = Pipeline.parse("base/exact")
MIN_NDIM = 2
MIN_ELEMENTS = 4096


@dataclass(frozen=True)
class Decision:
    """A unit's pipeline, the rule that chose it, and notes for the user.

    `fallback` is the lossless pipeline in place of this one where the data does not suit it. `broad` marks a choice
    by ``-p`` or a budget: not by the tensor's name. `budget` is one that is still to find the pipeline's target.
    """

    pipeline: Pipeline
    rule: str
    notes: tuple[Note, ...] = ()
    fallback: Pipeline = LOSSLESS
    broad: bool = False
    budget: Budget | None = None

    def left(self, note: Note) -> Decision:
        """The same unit kept lossless, for this reason."""
        return Decision(self.fallback, self.rule, (*self.notes, note), self.fallback, self.broad)


PAYLOAD = Decision(LOSSLESS, "default", (Note("payload", "payload that no tensor covers"),))
"""The decision for payload that belongs to no tensor."""


@dataclass(frozen=True)
class FilePlan:
    """The units of one file and a decision for each, in order."""

    units: tuple[Unit, ...]
    decisions: tuple[Decision, ...]

    @property
    def pipelines(self) -> set[Pipeline]:
        """All pipelines that are used."""
        return {decision.pipeline for decision in self.decisions}

    @property
    def lossless(self) -> bool:
        """Whether every pipeline of the plan is lossless."""
        return all(pipeline.lossless for pipeline in self.pipelines)


@dataclass(frozen=True)
class Plan:
    """The decisions for all files of a source, and notes on the rules."""

    files: tuple[FilePlan, ...]
    notes: tuple[Note, ...] = ()


def on_base(plan: FilePlan, missing: Sequence[str | None]) -> FilePlan:
    """The same plan with a base, which has a tensor like each unit, or lacks it for a reason: ``base/`` goes first.

    Those whose second layer is exact already, and units without a partner, stay as they are; so do lossy
    floats of a byte, as such floats cannot represent their differences; a note says so. Units that are coded alone
    get `effort=max`, as differences need compiled code anyway.
    """
    decisions = []
    alone = {LOSSLESS: MAX} if None in missing else {}
    for unit, decision, lacking in zip(plan.units, plan.decisions, missing, strict=True):
        pipeline, fallback = (alone.get(each, each) for each in (decision.pipeline, decision.fallback))
        if unit.views:
            decision = replace(decision, pipeline=pipeline, fallback=fallback)
        reason = _alone(unit, pipeline, lacking)
        if reason is not None:
            known = unit.views and unit.spec.elements
            decisions.append(replace(decision, notes=(*decision.notes, reason)) if known else decision)
        elif pipeline.on_base:
            decisions.append(decision)
        elif pipeline.transforms:
            decisions.append(replace(decision, pipeline=Pipeline(BASE.stages, pipeline)))
        else:
            decisions.append(replace(decision, pipeline=BASE, fallback=pipeline))
    return FilePlan(plan.units, tuple(decisions))


def with_remarks(plan: FilePlan, remarks: Sequence[Note | None]) -> FilePlan:
    """The same plan, with remarks on the tensors of the base that units are coded given."""
    decisions = (
        decision
        if remark is None or remark in decision.notes or not decision.pipeline.on_base
        else replace(decision, notes=(*decision.notes, remark))
        for decision, remark in zip(plan.decisions, remarks, strict=True)
    )
    return FilePlan(plan.units, tuple(decisions))


def _alone(unit: Unit, pipeline: Pipeline, lacking: str | None) -> Note | None:
    """The reason why a unit is not coded as a difference to a base, if it is not."""
    if pipeline.on_base:
        return None if lacking is None else Note("no-reference", lacking)
    if pipeline.rest is not None and not pipeline.has_residual:
        return Note("reference-unused", f"the base is not used: {pipeline} is exact already")
    if lacking is not None:
        return Note("no-reference", lacking)
    if pipeline.transforms and unit.spec.info.bits <= 8:
        reason = f"the base is not used: differences of {unit.spec.dtype} are not coded with loss"
        return Note("reference-unused", reason)
    return None


def make_plan(files: Sequence[tuple[Unit, ...]], recipe: Recipe, names: Sequence[str] = ()) -> Plan:
    """Decide for every unit of a source.

    Parameters
    ----------
    files : sequence of tuples of Unit
        The units of all weight files of the source: rules are checked against all of them together.
    recipe : Recipe
        The user's choices.
    names : sequence of str
        The names of the files, of a folder: a rule may name a tensor of one of them by ``FILE:NAME``.

    Raises
    ------
    UsageError
        For a rule that matches nothing or is wholly shadowed, and for one (or a `-p`) that no tensor can take.
    """
    if recipe.saved is not None:
        return _saved_plan(files, recipe.saved)
    planner = _Planner(recipe, files)
    pairs = zip(files, names or [""] * len(files), strict=True)
    plans = tuple(FilePlan(units, tuple(planner.decide(unit, name) for unit in units)) for units, name in pairs)
    return Plan(plans, (*recipe.notes, *planner.conclude()))


def saved_choices(files: Sequence[FilePlan]) -> list[SavedChoice]:
    """The decisions for all tensors, to be saved."""
    return [
        SavedChoice(unit.views[0].name, each.pipeline, each.rule, each.fallback, each.notes)
        for file in files
        for unit, each in zip(file.units, file.decisions, strict=True)
        if unit.views
    ]


def _saved_plan(files: Sequence[tuple[Unit, ...]], saved: SavedPlan) -> Plan:
    """The decisions of a saved plan. Raises `UsageError` where it is not one of this source."""
    choices: dict[str, list[SavedChoice]] = defaultdict(list)
    for choice in reversed(saved.choices):
        choices[choice.name].append(choice)

    def decide(unit: Unit) -> Decision:
        if not unit.views:
            return PAYLOAD
        name = unit.views[0].name
        if not choices[name]:
            raise UsageError(f"the plan {saved.path} has no tensor {name}", "make it of this source, with plan --save")
        choice = choices[name].pop()
        lossy, reason = is_lossy(choice.pipeline), unit.exact
        try:
            choice.pipeline.validate(unit.spec)
        except Refused as refusal:
            lossy, reason = True, refusal.message
        if lossy and reason is not None:
            raise UsageError(f"the plan {saved.path}: {name} cannot be {choice.pipeline}: {reason}")
        return Decision(choice.pipeline, choice.rule, choice.notes, choice.fallback)

    plans = tuple(FilePlan(units, tuple(map(decide, units))) for units in files)
    left = next((name for name, rest in choices.items() if rest), None)
    if left is not None:
        raise UsageError(f"the plan {saved.path} has a tensor {left}, the source has none", "make it of this source")
    return Plan(plans)


@dataclass
class _Count:
    """Matches of one rule over the whole source."""

    matched: int = 0
    first: int = 0
    chosen: int = 0
    refused: int = 0
    left: list[tuple[str, Note]] = field(default_factory=list)
    shadow: Rule | None = None
    reason: str = ""


class _Planner:
    def __init__(self, recipe: Recipe, files: Sequence[tuple[Unit, ...]]) -> None:
        self._recipe, self._files = recipe, files
        self._counts = {id(rule): _Count() for rules in recipe.lists for rule in rules}
        self._default = _Count()
        self._asks_for_kinds = any(rule.kind is not None for rules in recipe.lists for rule in rules)
        names = {view.name for units in files for unit in units for view in unit.views}
        self._literal = {id(rule) for rules in recipe.lists for rule in rules if is_name(rule.pattern, names)}

    def decide(self, unit: Unit, file: str) -> Decision:
        """Choose the pipeline of a unit and count the matches of its rule."""
        if not unit.views:
            return PAYLOAD
        rule = self._rule_of(unit, file)
        if rule is not None:
            return self._by_rule(unit, rule)
        if self._recipe.default is None:
            return Decision(LOSSLESS, "default", _overlap(unit))
        pipeline = self._recipe.default
        if is_lossy(pipeline) and (reason := self._no_weight(unit)):
            self._default.left.append((unit.label, reason))
            return Decision(LOSSLESS, "default", (reason,))
        role = self._role(unit) if self._spends_on_moments else None
        if role is not None and role.kind in MOMENTS:
            pipeline = MOMENTS[role.kind]
        found = self._take(unit, pipeline, self._recipe.origin, self._default)
        return replace(found, broad=True, budget=self._recipe.budget if is_lossy(found.pipeline) else None)

    def _by_rule(self, unit: Unit, rule: Rule) -> Decision:
        pipeline, budget = rule.pipeline, rule.budget
        if budget is not None and kind_of(unit, self._roles) == SECOND:
            pipeline = budget.positive
        found = self._take(unit, pipeline, str(rule), self._counts[id(rule)])
        return replace(found, budget=budget if is_lossy(found.pipeline) else None)

    @cached_property
    def _roles(self) -> Roles:
        return Roles(view for units in self._files for unit in units for view in unit.views)

    def _no_weight(self, unit: Unit) -> Note | None:
        """The reason why ``-p`` leaves a unit lossless, if it does."""
        if unit.exact:
            return _overlap(unit)[0]
        role = self._role(unit)
        if role is not None and not (self._spends_on_moments and role.kind in MOMENTS):
            return role
        return _too_small(unit.spec)

    def _role(self, unit: Unit) -> Note | None:
        return next(filter(None, map(self._roles.note, unit.views)), None)

    @property
    def _spends_on_moments(self) -> bool:
        """Whether a size is to be met, which moments may be too large for."""
        budget = self._recipe.budget
        return budget is not None and budget.key == "max_size"

    def conclude(self) -> list[Note]:
        """Notes on rules that did nothing; raises where that is an error."""
        notes: list[Note] = []
        for rules in self._recipe.lists:
            for rule in rules:
                problem = self._problem(rule)
                if problem and not (rule.optional or self._recipe.allow_unmatched):
                    raise UsageError(
                        f"{rule.placed} {problem}",
                        f"fix the pattern{bracket_hint(rule.pattern)}, or pass --allow-unmatched",
                    )
                if problem:
                    notes.append(Note("rule-unused", f"{rule} {problem}"))
                refused = self._refused(rule)
                if refused and not rule.optional:
                    raise UsageError(f"{rule.placed} {refused}")
                if refused:
                    notes.append(Note("rule-unused", f"{rule} {refused}"))
        default = self._recipe.default
        if default is not None and not default.lossless and self._default.chosen == self._default.refused:
            notes.append(untouched(self._recipe, self._why_untouched()))
        return notes

    def _why_untouched(self) -> str:
        """The reason why ``-p`` touches nothing."""
        refused = self._default.refused
        if refused:
            return f"it can be used for none of {many(refused, 'tensor')} ({self._default.reason})"
        left: dict[str, list[str]] = defaultdict(list)
        for name, note in self._default.left:
            left[(KINDS[note.kind].left and KINDS[note.kind].summary) or note.text].append(name)
        if not left:
            has_any = any(unit.views for units in self._files for unit in units)
            return "rules choose all of them" if has_any else "there is none"
        if all(note.kind in ("dtype", "small") for _, note in self._default.left):
            return f"it takes floating-point weights of at least {MIN_NDIM} dimensions and {MIN_ELEMENTS} elements"
        return "; ".join(
            f"{reason} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
            for reason, names in left.items()
        )

    def _rule_of(self, unit: Unit, file: str) -> Rule | None:
        """The first rule that matches any name of the unit; every match is counted, for the check on shadowed rules."""
        winner = None
        kind = kind_of(unit, self._roles) if self._asks_for_kinds else None
        for rules in self._recipe.lists:
            first = None
            for rule in rules:
                own = [view for view in unit.views if id(rule) not in self._literal or view.name == rule.pattern]
                if not any(rule.matches(view.name, view.spec, file, kind) for view in own):
                    continue
                count = self._counts[id(rule)]
                count.matched += 1
                if first is None:
                    first = rule
                    count.first += 1
                else:
                    count.shadow = count.shadow or first
            winner = winner or first
        return winner

    def _take(self, unit: Unit, pipeline: Pipeline, rule: str, count: _Count) -> Decision:
        count.chosen += 1
        if not is_lossy(pipeline):
            return Decision(pipeline, rule, _overlap(unit), LOSSLESS if pipeline.on_base else pipeline)
        reason = unit.exact
        if reason is None:
            try:
                pipeline.validate(unit.spec)
                return Decision(pipeline, rule)
            except Refused as refusal:
                reason = refusal.message
        count.refused += 1
        count.reason = f"{unit.views[0].name}: {reason}" if count.refused == 1 else count.reason
        return Decision(LOSSLESS, rule, (Note("refused", f"{pipeline} refused: {reason}"),))

    def _problem(self, rule: Rule) -> str | None:
        count = self._counts[id(rule)]
        if not count.matched:
            return "matches no tensor"
        if not count.first:
            return f"is wholly shadowed by {count.shadow}"
        return None

    def _refused(self, rule: Rule) -> str | None:
        count = self._counts[id(rule)]
        if not count.chosen or count.refused < count.chosen:
            return None
        chosen = "the tensor it chooses" if count.chosen == 1 else f"the {count.chosen} tensors it chooses"
        return f"can be used for none of {chosen} ({count.reason})"


def untouched(recipe: Recipe, reason: str) -> Note:
    """A note on a ``-p`` that does nothing."""
    return Note("untouched", f"{recipe.origin} touches no tensor: {reason}")


def _too_small(spec: TensorSpec) -> Note | None:
    if not spec.is_float:
        return Note("dtype", f"{spec.dtype} is not floating point")
    if len(spec.shape) < MIN_NDIM:
        return Note("small", f"ndim {len(spec.shape)}: fewer than {MIN_NDIM}, only for rules")
    if spec.elements < MIN_ELEMENTS:
        return Note("small", f"{spec.elements} elements: fewer than {MIN_ELEMENTS}, only for rules")
    return None


def is_lossy(pipeline: Pipeline) -> bool:
    """Whether one of its layers is lossy, even if a second one makes it exact."""
    return not all(codec.lossless for codec in pipeline.codecs)


def _overlap(unit: Unit) -> tuple[Note, ...]:
    return (Note("overlap", unit.exact),) if unit.exact else ()
