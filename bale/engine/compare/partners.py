"""Which tensor of B each tensor of A is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bale.compressors.chunks import flat_spec
from bale.engine.reading.layout import TensorRun
from bale.engine.reading.pairing import Candidate, Pairing
from bale.engine.reading.tensors import Tensors
from bale.planning.renames import Renames
from bale.spec import TensorSpec


def partners(a: Tensors, b: Tensors, renames: Renames) -> dict[str, str]:
    """The name in B of each tensor of A that B has."""
    renamed = {renames.apply(name): name for name in reversed(list(b))}
    found = {name: renamed[name] for name in a if name in renamed}
    taken = set(found.values())
    rest, others = [name for name in a if name not in found], [name for name in b if name not in taken]
    first, second = (_candidates(tensors, names) for tensors, names in ((a, rest), (b, others)))

    def is_related(number: int, index: int) -> bool:
        one, other = first.runs[index], second.runs[number]
        spec = flat_spec(other.spec, other.spec.elements)
        return one.values.of(spec).is_related(other.read) if one.is_whole else False

    pairing = Pairing(first.candidates, renames)
    named = pairing.by_name(second.candidates, once=True)
    by_content = pairing.by_content(second.candidates, named, is_related)
    for number, name in enumerate(second.names):
        index = by_content.get(number, named[number])
        if index is not None:
            found[first.names[index]] = name
    return found


@dataclass
class _Candidates:
    """Tensors that may be paired: those whose elements lie side by side."""

    names: list[str] = field(default_factory=list)
    runs: list[TensorRun] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)


def _candidates(tensors: Tensors, names: Sequence[str]) -> _Candidates:
    found = _Candidates()
    for name in names:
        run = tensors.run(name)
        if run is not None and run.spec.elements:
            found.names.append(name)
            found.runs.append(run)
            found.candidates.append(Candidate((name,), TensorSpec(run.spec.dtype, run.shape), run.read))
    return found
