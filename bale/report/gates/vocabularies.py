"""The names that an expression can have, by verb, and the figures that they stand for in the verb's document.

A null of a document is a figure too: what it is where nothing was lost, else the worst that it could be, lest a gate
pass what nobody has measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from bale.report.figures import ratio
from bale.report.gates.evaluating import Facts, Row
from bale.report.gates.expressions import FUNCTIONS, Name, refusal


@dataclass(frozen=True)
class Kind:
    """A kind of figure: its value where nothing was lost, and the worst that there is."""

    exact: float
    worst: float


ERROR = Kind(0.0, math.inf)
SNR = Kind(math.inf, -math.inf)
COSINE = Kind(1.0, -1.0)
SHARE = Kind(1.0, 0.0)
SIZE = Kind(0.0, 0.0)  # null only where there is nothing that it could be the size of

LEFT_BYTES = "left_bytes"
"""The bytes of a tensor that came back bit for bit: no name of an expression, but what `coverage` lacks."""


@dataclass(frozen=True)
class Figure:
    """A figure of the whole; tensors are named with it by their figure `by`."""

    kind: Kind
    by: str | None


_SIZES = {
    "original_bytes": Figure(SIZE, "original_bytes"),
    "stored_bytes": Figure(SIZE, "stored_bytes"),
    "overhead_bytes": Figure(SIZE, None),
    "ratio": Figure(SIZE, "stored_bytes"),
    "bits_per_weight": Figure(SIZE, "stored_bytes"),
    "weights.original_bytes": Figure(SIZE, "original_bytes"),
    "weights.stored_bytes": Figure(SIZE, "stored_bytes"),
    "weights.ratio": Figure(SIZE, "stored_bytes"),
    "coverage": Figure(SIZE, LEFT_BYTES),
    "lossy.tensors": Figure(SIZE, "relative_error"),
    "lossy.original_bytes": Figure(SIZE, "original_bytes"),
    "lossy.stored_bytes": Figure(SIZE, "stored_bytes"),
}
_ERRORS = {
    "relative_error": Figure(ERROR, "relative_error"),
    "snr_db": Figure(SNR, "snr_db"),
}
_MEASURED = {
    "lossy.relative_error": Figure(ERROR, "relative_error"),
    "lossy.snr_db": Figure(SNR, "snr_db"),
    "lossy.worst_relative_error": Figure(ERROR, "relative_error"),
    "lossy.worst_row_error": Figure(ERROR, "worst_row_error"),
    "all_weights.relative_error": Figure(ERROR, "relative_error"),
    "all_weights.snr_db": Figure(SNR, "snr_db"),
}
_OUTPUTS = {
    "output_error.tensors": Figure(SIZE, "output_error"),
    "output_error.mean": Figure(ERROR, "output_error"),
    "output_error.worst": Figure(ERROR, "output_error"),
}
_OF_TENSORS = {"relative_error": ERROR, "snr_db": SNR}
_OF_STORED = {"original_bytes": SIZE, "stored_bytes": SIZE, "bits_per_weight": SIZE}
_OF_MEASURED = {"max_abs_error": ERROR, "cosine": COSINE, "worst_row_error": ERROR}


@dataclass(frozen=True)
class Vocabulary:
    """The names that one verb knows.

    Attributes
    ----------
    where : str
        The verb, with the option that its names depend on.
    totals, tensors
        Figures of the whole, and of tensors.
    aliases
        Other names of these.
    section : str
        Where the document has those of the whole.
    """

    where: str
    totals: Mapping[str, Figure]
    tensors: Mapping[str, Kind]
    aliases: Mapping[str, str]
    section: str = "totals"

    def finder(self, text: str) -> _Finder:
        """What finds names for `parse`."""
        return _Finder(self, text)

    def facts(self, document: Mapping[str, Any]) -> Facts:
        """The figures of a document of the verb."""
        rows = [row for row in document["tensors"] if not row.get("same_as")]
        names = _names(rows)
        figures = tuple(Row(name, self._of_row(row)) for name, row in zip(names, rows, strict=True))
        totals = document[self.section]
        found = {"coverage": _coverage(totals)} if "coverage" in self.totals else {}
        found |= {name: figure.kind.exact for name, figure in self.totals.items() if name not in found}
        is_exact = totals["relative_error"] == 0
        for name in self.totals.keys() - {"coverage"}:
            kind, given = self.totals[name].kind, self._given(totals, name)
            found[name] = (kind.exact if is_exact else kind.worst) if given is None else float(given)
            if name == "lossy.worst_row_error" and given is None:  # also where no tensor has rows
                found[name] = max((row.figures["worst_row_error"] for row in figures), default=0.0)
        return Facts(found, figures, Row("", {key: kind.exact for key, kind in self.tensors.items()}))

    def _given(self, document: Mapping[str, Any], name: str) -> Any:
        """What a document has under a dotted name, or under another one that means the same."""
        at: Any = document
        for part in name.split("."):
            spelled = (part, *(alias for alias, key in self.aliases.items() if key == part))
            at = None if at is None else at[next((key for key in spelled if key in at), part)]
        return at

    def _of_row(self, row: Mapping[str, Any]) -> dict[str, float]:
        found = {}
        is_exact = row["relative_error"] == 0
        for name, kind in self.tensors.items():
            given = self._given(row, name)
            found[name] = (kind.exact if is_exact else kind.worst) if given is None else float(given)
            if given is None and (name == "output_error" or (name == "worst_row_error" and _dimensions(row) < 2)):
                found[name] = found["relative_error"]  # a vector is one row; an output that nobody described
        if "coverage" in self.totals:
            found[LEFT_BYTES] = found["original_bytes"] if is_exact else 0.0
        return found


class Candidates(Vocabulary):
    """The names of `eval`, of whose candidates conditions are asked: by the worse ends of intervals."""

    def facts(self, document: Mapping[str, Any]) -> Facts:
        """The figures of candidates."""
        rows = []
        for candidate in document["candidates"]:
            figures = {}
            for name, kind in self.tensors.items():
                end = candidate[name]["high" if kind.worst > kind.exact else "low"]
                figures[name] = kind.worst if end is None else float(end)
            rows.append(Row(candidate["name"], figures))
        return Facts({}, rows, Row("", {name: kind.exact for name, kind in self.tensors.items()}), "candidate")


@dataclass(frozen=True)
class _Finder:
    """Finds the names of one expression."""

    vocabulary: Vocabulary
    text: str

    def __call__(self, name: str, in_call: bool) -> Name:
        known = self.vocabulary
        whole = name.startswith(f"{known.section}.")
        plain = name.removeprefix(f"{known.section}.")
        key = known.aliases.get(plain, plain)
        if key in known.totals and not in_call:
            return Name(name, key, of_tensor=False)
        if key in known.tensors and not whole:
            return Name(name, key, of_tensor=True)
        if in_call and key in known.totals:
            why, hint = f"{name} is no figure of tensors", f"those are {', '.join(known.tensors)}"
        elif others := [each.where for each in ALL if {key, plain} & {*each.totals, *each.tensors, *each.aliases}]:
            shortest = [each for each in others if each.partition(" ")[0] not in others or " " not in each]
            why, hint = f"{known.where} does not know {name}", f"{' and '.join(shortest)} can tell"
        elif plain in FUNCTIONS:
            why, hint = f"{name} is a function", f"like {name}(relative_error)"
        else:
            names = list(dict.fromkeys((*known.totals, *known.tensors, *known.aliases)))
            near = get_close_matches(plain.lower(), names) or [each for each in names if plain and plain in each][:3]
            why = f"there is no {name}"
            hint = f"did you mean {' or '.join(near)}?" if near else f"names are {', '.join(names)}"
        raise refusal(self.text, why, hint)


_BYTES = {"bytes": "stored_bytes"}
_STORED = _SIZES | _ERRORS | _MEASURED
_ROWS = _OF_TENSORS | _OF_STORED | _OF_MEASURED
COMPRESS = Vocabulary("compress", _STORED, _ROWS, _BYTES)
COMPRESS_WITH_STATISTICS = Vocabulary("compress --stats", _STORED | _OUTPUTS, {**_ROWS, "output_error": ERROR}, _BYTES)
VERIFY = replace(COMPRESS, where="verify")
PLAN = Vocabulary(
    "plan",
    _SIZES | _ERRORS | {"seconds": Figure(SIZE, None)},
    _OF_TENSORS | _OF_STORED,
    {**_BYTES, "predicted_bytes": "stored_bytes"},
)
COMPARE = Vocabulary(
    "compare",
    _ERRORS | dict.fromkeys(("tensors", "equal", "only_in_a", "only_in_b", "renamed"), Figure(SIZE, None)),
    {**_OF_TENSORS, **_OF_MEASURED, "non_finite_differences": SIZE},
    {},
    "summary",
)
EVAL = Candidates("eval", {}, {"kl": ERROR, "nll": ERROR, "perplexity": ERROR, "top1": SHARE}, {}, "candidates")
EVAL_ENCODER = Candidates("eval --task encoder", {}, {"divergence": ERROR, "cosine": COSINE}, {}, "candidates")
ALL = (COMPRESS, COMPRESS_WITH_STATISTICS, PLAN, COMPARE, VERIFY, EVAL, EVAL_ENCODER)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of tensors; one that comes twice gets that of its file put before it."""
    taken = Counter(row["name"] for row in rows)
    return [row["name"] if taken[row["name"]] == 1 else f"{row.get('file')}:{row['name']}" for row in rows]


def _dimensions(row: Mapping[str, Any]) -> int:
    shapes = row["shapes"] if "shapes" in row else [row["shape"]]
    return max(len(shape) for shape in shapes if shape is not None)


def _coverage(totals: Mapping[str, Any]) -> float:
    """The share of the bytes of all tensors that lossy pipelines have coded; what is stored once counts once."""
    lossy = 0 if totals["lossy"] is None else totals["lossy"]["original_bytes"]
    return ratio(lossy, sum(row["original_bytes"] for row in totals["coverage"].values())) or 0.0
