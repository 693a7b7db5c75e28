"""Rules: a pattern, or a kind of tensors, and what is done with those that match."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from bale.compressors.pipeline import Pipeline
from bale.errors import UsageError
from bale.planning.budget import Budget
from bale.planning.patterns import Pattern, compile_pattern
from bale.planning.saved import parse_pipeline
from bale.spec import TensorSpec


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
        What the rule is, for the report: ``--rule 1`` or ``recipe rule 2``.
    place : str
        The same for errors, with its line: ``recipe.toml:12: rule 2``; empty if it has none.
    budget : Budget or None
        What all tensors that match meet together, by the target of the pipeline.
    kind : str or None
        The kind that tensors must have, one of `bale.planning.kinds.KINDS_OF_RULES`; None for any.
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
    place: str = ""
    budget: Budget | None = None
    kind: str | None = None
    min_ndim: int | None = None
    max_ndim: int | None = None
    min_elements: int | None = None
    dtype: str | None = None
    optional: bool = False
    why: str = ""

    @cached_property
    def _expression(self) -> Pattern:
        return compile_pattern(self.pattern, self.place or self.origin)

    def check(self) -> None:
        """Raise `UsageError` when the pattern cannot be compiled."""
        self._expression  # noqa: B018  (compiling is the check)

    def matches(self, name: str, spec: TensorSpec, file: str = "", kind: str | None = None) -> bool:
        """Whether the rule applies to this tensor; a glob with a colon may name the file before it, of a folder."""
        ndim = len(spec.shape)
        is_qualified = bool(file) and ":" in self.pattern and not self.pattern.startswith("re:")
        return (
            (self.kind is None or kind == self.kind)
            and (self.min_ndim is None or ndim >= self.min_ndim)
            and (self.max_ndim is None or ndim <= self.max_ndim)
            and (self.min_elements is None or spec.elements >= self.min_elements)
            and (self.dtype is None or spec.dtype == self.dtype)
            and (self._expression.matches(name) or (is_qualified and self._expression.matches(f"{file}:{name}")))
        )

    def __str__(self) -> str:
        return self._text(self.origin)

    @property
    def placed(self) -> str:
        """The rule and where it stands, for errors."""
        return self._text(self.place or self.origin)

    def _text(self, origin: str) -> str:
        kind = () if self.kind is None else (self.kind,)
        which = " ".join(kind if kind and self.pattern == "*" else (*kind, self.pattern))
        budget = self.budget
        what = f"{which}={self.pipeline}" if budget is None else f"{which}: {budget.key} {budget.text}"
        return f"{origin}: {what} ({self.why})" if self.why else f"{origin}: {what}"


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
