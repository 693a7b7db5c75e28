"""Warnings of a plan: choices that a user should look at before they are carried out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from bale.compressors.pipeline import Pipeline
from bale.engine.estimate.predict import Predicted
from bale.notes import Note, many

FEW_BITS, LARGE_ERROR = 1.5, 0.5
_ROLES = re.compile(r"(?<![a-z0-9])(q|k|v|query|key|value)(?=(_?proj|_?lin|_?weight)?(?![a-z0-9]))")


def warnings(rows: Iterable[Predicted]) -> tuple[Note, ...]:
    """Warnings on the tensors of a plan: few bits, large errors, and parts of one attention that differ."""
    lossy = [row for row in rows if row.same_as is None and row.estimate.errors is not None]
    return (*_few_bits(lossy), *_large_errors(lossy), *_unlike(rows))


def _few_bits(lossy: Iterable[Predicted]) -> Iterator[Note]:
    found = [(8 * row.predicted_bytes / max(row.spec.elements, 1), row.name) for row in lossy]
    few = sorted(each for each in found if each[0] < FEW_BITS)
    if few:
        yield Note("few-bits", f"{_these(len(few), few[0][1])} below {FEW_BITS} bits a weight ({few[0][0]:.2f})")


def _large_errors(lossy: Iterable[Predicted]) -> Iterator[Note]:
    errors = ((row.estimate.errors.relative_error, row.name) for row in lossy if row.estimate.errors is not None)
    large = sorted(((error, name) for error, name in errors if error is not None and error > LARGE_ERROR), reverse=True)
    if large:
        yield Note(
            "large-error", f"{_these(len(large), large[0][1])} with an error above {LARGE_ERROR} ({large[0][0]:.2g})"
        )


def _unlike(rows: Iterable[Predicted]) -> Iterator[Note]:
    """Queries, keys and values of one layer that are coded by other codecs: a rule has probably missed some."""
    groups: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if len(row.spec.shape) > 1 and _ROLES.search(row.name):
            codecs = _codecs(row.decision.pipeline)
            groups[_ROLES.sub("*", row.name)][codecs].add(row.name)
    unlike = {name: kinds for name, kinds in groups.items() if len(kinds) > 1}
    if unlike:
        name, kinds = next(iter(unlike.items()))
        text = " and ".join(sorted(kinds))
        yield Note(
            "unlike", f"{many(len(unlike), 'set')} of query, key and value by different codecs: {name} by {text}"
        )


def _codecs(pipeline: Pipeline) -> str:
    return "+".join(dict.fromkeys(codec.name for codec in pipeline.codecs))


def _these(count: int, name: str) -> str:
    return name if count == 1 else f"{many(count, 'tensor')}, such as {name},"
