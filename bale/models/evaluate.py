"""Measures how well a model still works with the weights of candidates, beside those of a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bale.errors import SourceError
from bale.io.storage.files import check_readable
from bale.models.folder import check_installed, check_model, explained, load_config, load_tokenizer
from bale.models.intervals import Estimate, LineSums
from bale.models.lines import batches, tokens_of
from bale.models.measures import Line, Measure
from bale.models.skeleton import Skeleton
from bale.models.states import States
from bale.models.tasks import TASKS, Task

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int], None]
_TOKENS = 1 << 10  # in one call of the model


@dataclass(frozen=True)
class Evaluated:
    """The figures of one checkpoint or archive.

    Attributes
    ----------
    figures : dict of str to Estimate
        ``kl``, ``nll``, ``perplexity``, ``top1``, or ``divergence`` and ``cosine``; of the reference those that it has
        by itself.
    """

    name: str
    figures: dict[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Its entry in the document."""
        return {"name": self.name, **{name: each.to_json() for name, each in self.figures.items()}}


@dataclass(frozen=True)
class Evaluation:
    """What candidates have become, and the text behind it.

    Attributes
    ----------
    model : str
        What transformers calls it.
    tokens : int
        That the model was given.
    predicted : int
        What figures are averages of: tokens, or of encoders lines.
    """

    task: str
    model: str
    lines: int
    tokens: int
    predicted: int
    reference: Evaluated
    candidates: Sequence[Evaluated]

    @property
    def main(self) -> str:
        """The figure to judge by."""
        return "kl" if self.task != "encoder" else "divergence"

    @property
    def tokens_needed(self) -> list[int | None]:
        """Of each candidate how many tokens an interval of 5 % to either side takes."""
        return [each.figures[self.main].tokens_needed(self.tokens) for each in self.candidates]

    def to_json(self) -> dict[str, Any]:
        """The document of the verb."""
        candidates = zip(self.candidates, self.tokens_needed, strict=True)
        return {
            "task": self.task,
            "model": self.model,
            "lines": self.lines,
            "tokens": self.tokens,
            "predicted": self.predicted,
            "reference": self.reference.to_json(),
            "candidates": [{**each.to_json(), "tokens_needed": needed} for each, needed in candidates],
        }


def evaluate(
    folder: Path,
    reference: Path,
    candidates: Sequence[Path],
    texts: Sequence[str],
    *,
    task: str,
    tokens: int,
    length: int,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a model on lines of text with the weights of a reference, and with those of candidates.

    All is computed in FP32. Memory holds one model, and the reference's head.

    Parameters
    ----------
    folder : Path
        Of a transformers model: config and tokenizer.
    reference, candidates : Path
        A checkpoint, an archive, or a folder of either.
    texts : sequence of str
        Each is a text of its own.
    task : str
        One of `TASKS`.
    tokens : int
        At the most: the first lines that have so many in all, one at least.
    length : int
        Tokens of a line at the most.
    progress : callable or None
        Called with a name and a number of tokens whenever some have been run; its method `expect`, if it has one, with
        that of all.

    Raises
    ------
    UsageError
        For a task that the model is not made for.
    SourceError, ArchiveError
        For weights that cannot be read, or are of another model: before anything is run.
    """
    check_model(folder)
    for path in (reference, *candidates):
        check_readable(path)
    check_installed()
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    config = load_config(folder)
    tokenizer = load_tokenizer(folder)
    chosen = TASKS[task]
    lines = _first(chosen.lines(tokens_of(tokenizer, config, texts, length), tokenizer), tokens)
    skeleton = Skeleton.of(config, chosen.auto_class, folder, chosen.unused)
    for path in (reference, *candidates):
        skeleton.check(path)
    total = sum(len(line.tokens) for line in lines)
    getattr(progress, "expect", lambda total: None)(total * (1 + len(candidates)))
    measure = chosen.measure(skeleton.torch_model)
    with torch.inference_mode(), States() as states:
        run = _Run(chosen, measure, lines, states, progress)
        skeleton.load(reference)
        first = run.reference(reference)
        others = []
        for path in candidates:
            skeleton.load(path)
            others.append(run.candidate(path))
    return Evaluation(
        chosen.name,
        skeleton.name,
        len(lines),
        total,
        sum(len(line.places) for line in lines),
        first,
        others,
    )


def _first(lines: Sequence[Line], tokens: int) -> list[Line]:
    """The first lines that have no more tokens together; at least one."""
    found: list[Line] = []
    for line in lines:
        tokens -= len(line.tokens)
        if found and tokens < 0:
            break
        found.append(line)
    if not found:
        raise SourceError("no line of the text has anything to predict", "give longer lines")
    return found


class _Run:
    """The reference and candidates on the same lines, in the same pieces."""

    def __init__(
        self, task: Task, measure: Measure, lines: Sequence[Line], states: States, progress: Progress | None
    ) -> None:
        self._task = task
        self._measure = measure
        self._lines = lines
        self._batches = list(batches([len(line.tokens) for line in lines], _TOKENS))
        self._states = states
        self._progress = progress
        self._figures: list[torch.Tensor] = []

    def reference(self, path: Path) -> Evaluated:
        """Run the reference, and keep what candidates are compared with."""
        with self._explained():
            self._measure.keep(self._lines[0])
        sums = LineSums(len(self._lines), len(self._task.of_reference))
        for places in self._batches:
            states, targets = self._run(places)
            self._states.write(states)
            figures = self._measure.reference(states, targets)
            self._figures.append(figures)
            self._add(sums, places, figures[:, : len(self._task.of_reference)])
            self._done(path, places)
        return self._evaluated(path, self._task.of_reference, sums)

    def candidate(self, path: Path) -> Evaluated:
        """Run a candidate."""
        sums = LineSums(len(self._lines), len(self._task.figures))
        self._states.rewind()
        for places, figures in zip(self._batches, self._figures, strict=True):
            states, targets = self._run(places)
            of_reference = self._states.read(len(states))
            self._add(sums, places, self._measure.candidate(of_reference, figures, states, targets))
            self._done(path, places)
        return self._evaluated(path, self._task.figures, sums)

    def _run(self, places: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        lines = [self._lines[place] for place in places]
        with self._explained():
            states = self._measure.states(lines)
        return states, torch.tensor([target for line in lines for target in line.targets])

    def _explained(self) -> Any:
        return explained(f"{type(self._measure.model).__name__} cannot be run on text")

    def _add(self, sums: LineSums, places: Sequence[int], rows: torch.Tensor) -> None:
        start = 0
        for place in places:
            count = len(self._lines[place].places)
            sums.add(place, rows[start : start + count].numpy())
            start += count

    def _done(self, path: Path, places: Sequence[int]) -> None:
        if self._progress is not None:
            self._progress(path.name, sum(len(self._lines[place].tokens) for place in places))

    def _evaluated(self, path: Path, names: Sequence[str], sums: LineSums) -> Evaluated:
        found = dict(zip(names, sums.estimates(), strict=True))
        if not all(math.isfinite(each.value) for each in found.values()):
            raise SourceError(f"with {path} what the model puts out is not finite", "the weights are broken")
        if "nll" in found:
            found["perplexity"] = found["nll"].through(_exp)
        if "divergence" in found:
            found["cosine"] = found["divergence"].through(lambda divergence: 1 - divergence)
        return Evaluated(str(path), found)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
