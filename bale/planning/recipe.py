"""The user's choices: rules that name a pipeline for the tensors that match."""

from __future__ import annotations

import reprlib
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bale.compressors.pipeline import Pipeline
from bale.errors import SourceError, UsageError
from bale.planning.patterns import Pattern, compile_pattern
from bale.planning.saved import SavedPlan, check_keys, parse_pipeline, read_plan
from bale.spec import DTYPES, TensorSpec

KEYS = {
    "name": str,
    "pipeline": str,
    "min_ndim": int,
    "max_ndim": int,
    "min_elements": int,
    "dtype": str,
    "optional": bool,
    "why": str,
}


@dataclass(frozen=True)
class Rule:
    """A name pattern and the pipeline of the tensors whose whole name it matches.

    Parameters
    ----------
    pattern : str
        A case-sensitive `fnmatch` pattern (``*`` crosses dots and slashes), or ``re:`` and a regular expression.
    pipeline : Pipeline
        The pipeline of the tensors that match.
    origin : str
        Where the rule stands, for messages: ``--rule 1`` or ``recipe rule 2``.
    min_ndim, max_ndim, min_elements, dtype
        Further conditions on the tensor; None for none.
    optional : bool
        Whether it may match nothing.
    why : str
        The reason, repeated in the report.
    """

    pattern: str
    pipeline: Pipeline
    origin: str
    min_ndim: int | None = None
    max_ndim: int | None = None
    min_elements: int | None = None
    dtype: str | None = None
    optional: bool = False
    why: str = ""

    @cached_property
    def _expression(self) -> Pattern:
        return compile_pattern(self.pattern, self.origin)

    def check(self) -> None:
        """Raise `UsageError` when the pattern cannot be compiled."""
        self._expression  # noqa: B018  (compiling is the check)

    def matches(self, name: str, spec: TensorSpec, file: str = "") -> bool:
        """Whether the rule applies to this tensor; a glob with a colon may name the file before it, of a folder."""
        ndim = len(spec.shape)
        is_qualified = bool(file) and ":" in self.pattern and not self.pattern.startswith("re:")
        return (
            (self.min_ndim is None or ndim >= self.min_ndim)
            and (self.max_ndim is None or ndim <= self.max_ndim)
            and (self.min_elements is None or spec.elements >= self.min_elements)
            and (self.dtype is None or spec.dtype == self.dtype)
            and (self._expression.matches(name) or (is_qualified and self._expression.matches(f"{file}:{name}")))
        )

    def __str__(self) -> str:
        text = f"{self.origin}: {self.pattern}={self.pipeline}"
        return f"{text} ({self.why})" if self.why else text


@dataclass(frozen=True)
class Recipe:
    """All choices of one run: lists of rules in order of precedence, and the pipeline of all other tensors.

    Within a list the first rule that matches wins; an earlier list goes before a later one. A saved plan has no rules,
    as it has a choice for every tensor. `path` is the file that rules or plan were read from.
    """

    lists: tuple[tuple[Rule, ...], ...] = ()
    default: Pipeline | None = None
    allow_unmatched: bool = False
    saved: SavedPlan | None = None
    path: Path | None = None

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """All pipelines that the choices name."""
        if self.saved is not None:
            return tuple(choice.pipeline for choice in self.saved.choices)
        asked = [rule.pipeline for rules in self.lists for rule in rules]
        return tuple(asked) if self.default is None else (*asked, self.default)


def parse_rule(text: str, number: int) -> Rule:
    r"""Read ``GLOB=PIPELINE``, split at the first ``=``; a pattern writes its own ``=`` as ``\x3d``."""
    origin = f"--rule {number}"
    pattern, separator, pipeline = text.partition("=")
    if not separator or not pattern:
        raise UsageError(f"{origin}: {text!r} is not GLOB=PIPELINE", "for example --rule '*.embed.weight=int8'")
    if not pattern.startswith("re:"):
        pattern = pattern.replace(r"\x3d", "=")
    rule = Rule(pattern, parse_pipeline(pipeline, origin), origin)
    rule.check()
    return rule


def load_recipe(path: Path) -> tuple[Rule, ...] | SavedPlan:
    """Read a TOML recipe: rules, or a plan that `plan --save` wrote. Raises `UsageError` for anything else."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise SourceError(
            f"cannot read the recipe {path}: {problem.strerror}", "check the path and its permissions"
        ) from None
    except ValueError as problem:  # of TOML, of UTF-8, and of a number with thousands of digits
        raise UsageError(f"the recipe {path} is not TOML: {problem}") from None
    except RecursionError:
        raise UsageError(f"the recipe {path} is not TOML that can be read: its values are nested too deeply") from None
    check_keys(data, ("rule", "tensor"), f"the recipe {path}")
    if "tensor" in data:
        return read_plan(path, data)
    rules = data.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(item, dict) for item in rules):
        raise UsageError(f"the recipe {path}: rules are written as [[rule]]")
    if not rules:
        raise UsageError(f"the recipe {path} has no rules", "write at least one [[rule]] with name and pipeline")
    return tuple(_rule(item, f"recipe rule {number}") for number, item in enumerate(rules, 1))


def make_recipe(
    pipeline: str | None = None,
    rules: tuple[str, ...] = (),
    recipe: Path | None = None,
    allow_unmatched: bool = False,
) -> Recipe:
    """Put the choices of a command together: `--rule` in order, then the recipe's rules, then `-p`."""
    given = tuple(parse_rule(text, number) for number, text in enumerate(rules, 1))
    loaded = load_recipe(recipe) if recipe is not None else ()
    if isinstance(loaded, SavedPlan):
        if given or pipeline is not None:
            raise UsageError(f"{recipe} has a choice for every tensor", "leave out -p and --rule, or change it there")
        return Recipe(saved=loaded, path=recipe)
    default = parse_pipeline(pipeline, "-p") if pipeline is not None else None
    return Recipe(tuple(filter(None, (given, loaded))), default, allow_unmatched, path=recipe)


def _rule(item: dict[str, Any], origin: str) -> Rule:
    check_keys(item, tuple(KEYS), origin)
    for key, value in item.items():
        if type(value) is not KEYS[key]:
            raise UsageError(f"{origin}: {key} = {reprlib.repr(value)} is not {_WORDS[KEYS[key]]}")
    for key in ("name", "pipeline"):
        if key not in item:
            raise UsageError(f"{origin} has no {key}", f'write {key} = "..."')
    if "dtype" in item and item["dtype"] not in DTYPES:
        raise UsageError(
            f"{origin}: there is no dtype {reprlib.repr(item['dtype'])}", f"it is one of {', '.join(DTYPES)}"
        )
    fields = {key: value for key, value in item.items() if key not in ("name", "pipeline")}
    rule = Rule(item["name"], parse_pipeline(item["pipeline"], origin), origin, **fields)
    rule.check()
    return rule


_WORDS = {str: "a text", int: "a whole number", bool: "true or false"}
