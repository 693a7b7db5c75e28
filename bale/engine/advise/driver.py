"""Looks at a source, and says what to do with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bale.compressors.base import Values
from bale.engine.advise.contents import MOMENTS, Contents
from bale.engine.advise.decide import (
    FAST,
    MAX_EFFORT,
    Facts,
    for_inference,
    for_storage,
    for_transfer,
    send,
)
from bale.engine.advise.findings import by_dtype, by_kind, findings, low_rank
from bale.engine.advise.look import SLICE, Look, look_at, timed
from bale.engine.advise.sizes import Sizes, Speed, Spent
from bale.engine.estimate.overhead import folded_skeleton, overhead
from bale.engine.estimate.predict import Estimator
from bale.engine.estimate.sampling import slices_of
from bale.engine.inputs import Inputs
from bale.engine.reading.duplicates import find_duplicates
from bale.engine.reading.source import SourceFile
from bale.engine.resolved import ResolvedFile
from bale.engine.run import Job, Run, one_blas_thread
from bale.errors import Refused, SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.storage.files import reading
from bale.metrics import ErrorSums
from bale.planning.budget import make_budget, with_target
from bale.planning.decide import Decision, FilePlan, is_lossy, make_plan
from bale.planning.recipe import Recipe, make_recipe
from bale.report.advice import Advice, Choice

BITS = (6.5, 4.5, 3.5, 2.5)
ERRORS = (0.01, 0.05, 0.1)
_EACH, _ALL, _FEWEST = 1 << 18, 1 << 25, 1 << 14  # elements in the samples of one tensor and of all, and at least
_TIMED, _TIMED_BITS = 3, 4.5  # tensors that the speed with loss is measured on
_BOTH_LAYERS, _FIRST_LAYER = "int4/exact", "int4"
_BESIDE_LOSSY = 90  # bytes that a manifest has on a lossy tensor


@dataclass(frozen=True)
class Source:
    """What is advised on: checkpoints by name, where they lie, and what lies beside them."""

    name: str
    kind: str
    size: int
    folder: Path
    files: Mapping[str, Checkpoint]
    stored_beside: int = 0


def advise_source(source: Source, run: Run, purpose: str, bandwidth: float | None) -> Advice:
    """Look at every tensor once, and advise."""
    found = _Looking(source, run)
    kinds, choices = by_kind(found.plans, found.contents), _choices(found.sizes())
    flagged = low_rank(found.looks, list(source.files))
    facts = Facts(
        source.size,
        sum(each.size for each in kinds if each.name in MOMENTS),
        sum(each.size for each in kinds if each.name == "quantized"),
        choices,
        flagged,
    )
    advice = Advice(
        source.name,
        source.kind,
        source.size,
        purpose,
        kinds,
        by_dtype(found.plans),
        findings(found.plans, found.duplicates, found.looks, found.contents),
        flagged,
        choices,
        for_storage(facts),
        run.threads,
    )
    if purpose == "transfer":
        assert bandwidth is not None
        sent = send(source.size, choices, bandwidth)
        both, first = (found.estimated(each).size for each in (_BOTH_LAYERS, _FIRST_LAYER))
        steps = for_transfer(facts, sent)
        return replace(advice, steps=steps, bandwidth=bandwidth, transfer=sent, layers={"first": first, "both": both})
    if purpose == "inference":
        own = [found.estimated(each) for each in ("int8", "int4")]
        return replace(advice, choices=[*choices, *own], steps=for_inference(facts, own))
    return advice


def _choices(sizes: Sizes) -> list[Choice]:
    """Without loss, then with ever more of it."""
    found: list[Choice | None] = [sizes.lossless(FAST, most=False), sizes.lossless(MAX_EFFORT, most=True)]
    found += [sizes.of_error(f"--max-error {error:g}", error, _is_no_moment) for error in ERRORS]
    found += [sizes.of_bits(f"--bits {bits:g}", bits) for bits in BITS]
    return [each for each in found if each is not None]


def _is_no_moment(look: Look) -> bool:
    return look.kind not in MOMENTS


class _Looking:
    """All looks at a source.

    Attributes
    ----------
    plans : sequence of FilePlan
        All files, with what a budget of bits would choose for.
    looks : list of Look
        At all units that repeat no other.
    duplicates : list of mapping
        The units of each file that repeat an earlier one, to that one.
    """

    def __init__(self, source: Source, run: Run) -> None:
        self._run = run
        self._checkpoints, self._names = list(source.files.values()), list(source.files)
        self._lossless = self._plan(Recipe())
        self.plans = self._plan(make_recipe(budget=make_budget(bits=f"{_TIMED_BITS:g}")))
        opaque = [each.kind == "opaque" for each in self._checkpoints]
        self.contents = Contents(self.plans, source.folder, opaque)
        self.looks: list[Look] = []
        self.duplicates: list[Mapping[int, int]] = []
        self._beside = source.stored_beside
        wanted = sum(map(self._is_wanted, (each for plan in self.plans for each in plan.decisions)))
        self._most = max(_FEWEST, min(_EACH, _ALL // max(1, wanted)))
        with one_blas_thread({each for plan in self.plans for each in plan.pipelines}):
            for number in range(len(self._checkpoints)):
                self._look(number)

    def _plan(self, recipe: Recipe) -> tuple[FilePlan, ...]:
        names = self._names if len(self._names) > 1 else ()
        return make_plan([each.units for each in self._checkpoints], recipe, names).files

    @staticmethod
    def _is_wanted(decision: Decision) -> bool:
        return decision.budget is not None

    def _look(self, number: int) -> None:
        checkpoint, plan = self._checkpoints[number], self.plans[number]
        with self._opened(number) as source:
            duplicates = find_duplicates(source, self._lossless[number])
            jobs = (
                (index, Job(partial(self._look_at, source, number, index), 16 * self._most))
                for index in range(len(plan.units))
                if index not in duplicates
            )
            for index, future in self._run.ordered(jobs):
                self.looks.append(future.result())
                self._run.progress(plan.units[index].label, plan.units[index].spec.nbytes)
            for index in duplicates:
                self._run.progress(plan.units[index].label, plan.units[index].spec.nbytes)
            skeleton = folded_skeleton(source)
            version = source.version
        resolved = ResolvedFile(checkpoint, version, self._lossless[number], (), duplicates)
        self._beside += overhead(resolved, self._lossless[number].decisions, skeleton)
        self.duplicates.append(duplicates)

    def _look_at(self, source: SourceFile, number: int, index: int) -> Look:
        unit, decision = self.plans[number].units[index], self.plans[number].decisions[index]
        look = Look(number, index, unit, self.contents.kind(unit))
        pipeline = decision.pipeline if self._is_wanted(decision) else None
        return look_at(look, source, pipeline, self.contents.allocated(unit), self._most)

    def sizes(self) -> Sizes:
        """The looks, with what counts beside them, and the speed of coding with loss."""
        known = Sizes(self.looks, self._beside, _BESIDE_LOSSY, self._run.threads)
        spent = sorted(known.spent(_TIMED_BITS), key=lambda each: -each.item.elements)
        return replace(known, speed=self._speed(spent[:_TIMED]))

    def _speed(self, spent: Sequence[Spent]) -> Speed | None:
        """The speed with loss, of samples that are coded and decoded."""
        encode, decode, elements = 0.0, 0.0, 0
        for each in spent:
            look = each.look
            (*before, codec) = with_target(self._decision(look).pipeline, each.target).transforms
            if before:
                continue
            with self._opened(look.file) as source:
                sample = slices_of(source, look.unit, SLICE, self._most)
            values = Values(sample.spec, sample.array.reshape(sample.spec.shape))
            with suppress(Refused):
                parts, coding = timed(partial(codec.encode, values), 1.0)
                _, decoding = timed(partial(codec.decode, parts, sample.spec), 1.0)
                encode, decode, elements = encode + coding, decode + decoding, elements + sample.spec.elements
        return Speed(encode / elements, decode / elements) if elements else None

    def _decision(self, look: Look) -> Decision:
        return self.plans[look.file].decisions[look.index]

    @contextmanager
    def _opened(self, number: int) -> Iterator[SourceFile]:
        checkpoint = self._checkpoints[number]
        with reading(checkpoint.path, SourceError) as opened:
            yield SourceFile.of(checkpoint, opened)

    def estimated(self, pipeline: str) -> Choice:
        """What `-p` with a quantizer would make of it."""
        plans = self._plan(make_recipe(pipeline))
        looks = {(each.file, each.index): each for each in self.looks}
        total, errors, lossy = float(self._beside), [], 0
        for number, plan in enumerate(plans):
            with self._opened(number) as source:
                jobs = (
                    (look, Job(partial(self._estimate, source, look, plan.decisions[look.index]), 64 * self._most))
                    for key, look in looks.items()
                    if key[0] == number
                )
                for _, future in self._run.ordered(jobs):
                    size, own = future.result()
                    total += size
                    lossy += own is not None
                    errors += [] if own is None else [own]
        sums = ErrorSums.total(errors)
        worst = max((each.relative_error or 0.0 for each in errors), default=0.0)
        size = round(total) + _BESIDE_LOSSY * lossy
        return Choice(f"-p {pipeline}", size, sums.relative_error or 0.0, worst=worst)

    def _estimate(self, source: SourceFile, look: Look, decision: Decision) -> tuple[float, ErrorSums | None]:
        if not is_lossy(decision.pipeline) or look.item is None:
            return look.fast.size, None
        try:
            estimator = Estimator(look.unit, source, self._run, Inputs(), self._most)
            found = estimator.estimate(decision, None)
        except Refused:
            return look.fast.size, None
        return found.size, found.errors
