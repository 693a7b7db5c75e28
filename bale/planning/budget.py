"""Budgets: what a whole checkpoint may take or lose, in place of a pipeline for each tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from bale.compressors.pipeline import Pipeline
from bale.compressors.rate_controlled import RateControlled
from bale.errors import UsageError
from bale.planning.quantities import parse_bytes, parse_number
from bale.planning.saved import parse_pipeline

Weight = Literal["quality", "relative", "absolute"]
WEIGHTS = ("quality", "relative", "absolute")
METHOD = Pipeline.parse("trellis")
_POSITIVE = Pipeline.parse("positive:domain=sqrt")
MOMENTS = {
    "optimizer-state": Pipeline.parse("fp8"),
    "second-moment": Pipeline.parse("positive+int:bits=6,zero=float"),
}
"""Pipelines of what optimizers keep, by the kinds of its notes, where a size is to be met.

One step for a whole tensor is no good for them: it makes single updates up to 97 times too large, at 6 bits (measured
on an Adam checkpoint; see the preset ``training-checkpoint``).
"""

ALLOW_MORE = "allow more, or let more be lossy by rules: only tensors of floating-point numbers can be"
"""The hint where a size cannot be met."""

OPTIONS = {
    "max_size": "--max-size",
    "bits": "--bits",
    "max_error": "--max-error",
    "min_snr": "--min-snr",
    "mean_error": "--mean-error",
}
"""Budgets, and the options that ask for them."""
_RANGES = {"bits": (0.1, 20), "max_error": (1e-7, 1), "min_snr": (0, 140), "mean_error": (1e-7, 1)}


@dataclass(frozen=True)
class Budget:
    """A limit on all that is lossy together, or on each tensor.

    Parameters
    ----------
    key : str
        ``max_size``, ``bits`` or ``mean_error``, of all tensors together; ``max_error`` or ``min_snr``, of each.
    text : str
        Its value, as it was given.
    weight : str
        What error means across tensors; see `bale.planning.allocate`.
    method : Pipeline
        A codec with a target, which is not used, of a length that the budget chooses.
    where : str
        What it stands in, of a recipe: ``preset small``. Empty for an option.
    of_rule : bool
        Whether it is that of the tensors of one rule; the others do not count in it.
    """

    key: str
    text: str
    weight: Weight = "quality"
    method: Pipeline = METHOD
    where: str = ""
    of_rule: bool = False

    @property
    def label(self) -> str:
        """The option, or its key and what that stands in."""
        return f"{self.where}: {self.key}" if self.where else OPTIONS[self.key]

    @property
    def origin(self) -> str:
        """The same and its value, for messages and as the rule of the tensors that it chooses for."""
        return f"{self.label} {self.text}"

    @property
    def value(self) -> float:
        """The number; of a size, see `limit`."""
        return parse_number(self.text, self.label, *_RANGES[self.key])

    def limit(self, whole: int) -> int:
        """Bytes at most of an archive whose source has so many."""
        return parse_bytes(self.text, self.label, whole)

    @property
    def of_each(self) -> bool:
        """Whether it is a limit of each tensor."""
        return self.key in ("max_error", "min_snr")

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean of all that is lossy."""
        return self.key in ("bits", "mean_error")

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline of the tensors that it chooses for: with its target, if that is one of each."""
        if not self.of_each:
            return self.method
        error = self.value if self.key == "max_error" else 10 ** (-self.value / 20)
        return with_target(self.method, lambda codec: codec.with_error(error))

    @property
    def positive(self) -> Pipeline:
        """The same for second moments, none of which may become zero or negative."""
        return replace(self.pipeline, stages=(*_POSITIVE.stages, *self.pipeline.stages))

    def by(self, text: str) -> Budget:
        """The same budget, met by a pipeline of one codec with a target, which is not given."""
        option, pipeline = OPTIONS[self.key], parse_pipeline(text, "-p")
        codec = pipeline.stages[0]
        if len(pipeline.codecs) > 1 or not isinstance(codec, RateControlled):
            raise UsageError(f"{option} chooses pipelines, and so does -p {pipeline}", "leave one of them out")
        if codec.is_pooled or any(f"{target}=" in text for target in ("bits", "error", "snr", "step")):
            raise UsageError(f"-p {pipeline} has a target, and so has {option}", "leave one of them out")
        return replace(self, method=pipeline)

    def check(self) -> None:
        """Raise `UsageError` for a value that makes no sense."""
        self.limit(1 << 40) if self.key == "max_size" else self.value


def make_budget(
    *,
    max_size: str | int | None = None,
    bits: str | float | None = None,
    max_error: str | float | None = None,
    min_snr: str | float | None = None,
    mean_error: str | float | None = None,
    weight: str | None = None,
) -> Budget | None:
    """The budget that one of these asks for; None without any.

    Parameters
    ----------
    max_size : str or int or None
        Bytes that all that is stored may take: a number, or a text like ``500MB``, ``1.5GiB`` or ``62%`` of the source.
    bits : float or None
        Stored bits a weight on average of all that is lossy, at most.
    max_error, min_snr : float or None
        Relative error at most, or signal-to-noise ratio in dB at least, of each tensor.
    mean_error : float or None
        Relative error of all lossy tensors together, at most.
    weight : str or None
        What errors mean across tensors, ``quality`` (None), ``relative`` or ``absolute``; see
        `bale.planning.allocate`.

    Raises
    ------
    UsageError
        For several of them, and for values that make no sense.
    """
    given = (max_size, bits, max_error, min_snr, mean_error)
    texts = {key: str(value) for key, value in zip(OPTIONS, given, strict=True) if value is not None}
    if not texts:
        if weight is not None:
            raise UsageError("--weight says how a budget is spent, and there is none", "give --max-size or --bits too")
        return None
    if len(texts) > 1:
        raise UsageError(f"{' and '.join(OPTIONS[key] for key in texts)} given", "a checkpoint has one budget")
    ((key, text),) = texts.items()
    if weight is not None and weight not in WEIGHTS:
        raise UsageError(f"--weight {weight}: there is no such weight", f"it is one of {', '.join(WEIGHTS)}")
    if weight is not None and key in ("max_error", "min_snr"):
        raise UsageError(f"--weight is for budgets of all tensors together, and {OPTIONS[key]} is of each")
    budget = Budget(key, text, weight or "quality")  # type: ignore[arg-type]
    budget.check()
    return budget


def with_target(pipeline: Pipeline, change: Callable[[RateControlled], RateControlled]) -> Pipeline:
    """The same pipeline with another target of its codec that has one."""
    stages = tuple(change(stage) if isinstance(stage, RateControlled) else stage for stage in pipeline.stages)
    rest = None if pipeline.rest is None else with_target(pipeline.rest, change)
    return replace(pipeline, stages=stages, rest=rest)
