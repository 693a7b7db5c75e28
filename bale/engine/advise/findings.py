"""What the looks at a source found: kinds and dtypes, what tensors have in common, and where low rank pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bale.engine.advise.contents import KINDS, Contents
from bale.engine.advise.look import Look
from bale.engine.advise.spectrum import PAYS
from bale.planning.decide import FilePlan
from bale.report.advice import Finding, Group, LowRank
from bale.spec import Unit

_RULE = "svd:rank=auto+int8/trellis:bits=3"


def by_kind(plans: Sequence[FilePlan], contents: Contents) -> list[Group]:
    """Tensors by kind, in the order of `KINDS`."""
    return sorted(_groups(plans, contents.kind), key=lambda each: KINDS.index(each.name))


def by_dtype(plans: Sequence[FilePlan]) -> list[Group]:
    """Tensors by dtype, the largest first."""
    return sorted(_groups(plans, lambda unit: unit.spec.dtype), key=lambda each: -each.size)


def findings(
    plans: Sequence[FilePlan], duplicates: Sequence[Mapping[int, int]], looks: Sequence[Look], contents: Contents
) -> list[Finding]:
    """What tensors have in common."""
    found = [_repeated(plan, same) for plan, same in zip(plans, duplicates, strict=True) if same]
    sets = [("quantized", contents.layout, [each for each in looks if each.kind == "quantized"])]
    for dtype in ("BF16", "F16", "F32"):
        sets.append(("exact-cast", dtype, [each for each in looks if each.exact == dtype]))
    rest = [each for each in looks if each.exact is None and each.free_bits]
    for bits in sorted({each.free_bits for each in rest}):
        sets.append(("free-low-bits", str(bits), [each for each in rest if each.free_bits == bits]))
    return found + [_finding(kind, value, own) for kind, value, own in sets if own]


def low_rank(looks: Sequence[Look], files: Sequence[str]) -> list[LowRank]:
    """Tensors where low rank pays by their spectrum, the most first."""
    found = [
        LowRank(each.unit.label, files[each.file], each.rank_bits, each.rank, _rule(each.unit.label))
        for each in looks
        if each.rank_bits > PAYS
    ]
    return sorted(found, key=lambda each: -each.bits)


def _groups(plans: Sequence[FilePlan], key: Callable[[Unit], str]) -> list[Group]:
    counts: dict[str, list[int]] = {}
    for plan in plans:
        for unit in plan.units:
            if unit.views:
                entry = counts.setdefault(key(unit), [0, 0])
                entry[0] += len(unit.views)
                entry[1] += unit.spec.nbytes
    return [Group(name, tensors, size) for name, (tensors, size) in counts.items()]


def _repeated(plan: FilePlan, same: Mapping[int, int]) -> Finding:
    """Units of a file that repeat others, and the largest of them."""
    largest = max(same, key=lambda index: plan.units[index].spec.nbytes)
    size = sum(plan.units[index].spec.nbytes for index in same)
    return Finding("duplicates", plan.units[same[largest]].label, len(same), size, plan.units[largest].label)


def _finding(kind: str, value: str, looks: Sequence[Look]) -> Finding:
    size = sum(each.unit.spec.nbytes for each in looks)
    largest = max(looks, key=lambda each: each.unit.spec.nbytes)
    return Finding(kind, value, len(looks), size, largest.unit.label)


def _rule(name: str) -> str:
    """A rule for one tensor: a pattern writes its own ``=`` as an escape."""
    escaped = name.replace("=", r"\x3d")
    return f"{escaped}={_RULE}"
