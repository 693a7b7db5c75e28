"""All candidates: what budgets and advice try on a tensor, beside storing it losslessly."""

from __future__ import annotations

from bale.compressors.base import Values
from bale.compressors.candidate import Candidate, Verdict
from bale.compressors.lowrank.candidate import LowRankCandidate
from bale.compressors.quantizers.candidate import PositiveCandidate
from bale.compressors.trellis.candidate import TrellisCandidate

CANDIDATES: tuple[Candidate, ...] = (TrellisCandidate(), PositiveCandidate(), LowRankCandidate())
"""The cheapest look first."""


def worth_trying(values: Values) -> list[Candidate]:
    """The candidates of which a sample should be encoded, for a tensor or a sample of its rows."""
    found = [candidate for candidate in CANDIDATES if candidate.matches(values.spec)]
    return [candidate for candidate in found if candidate.look(values) is Verdict.SAMPLE]
