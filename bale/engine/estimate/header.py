"""Keeps the parts of an archive to as many as its header can hold."""

from __future__ import annotations

from dataclasses import replace

from bale.engine.writing.archive import header_entries, unit_entries
from bale.io.archive.archive import PART_LIMIT, entry_size, header_size
from bale.io.safetensors import HEADER_LIMIT
from bale.notes import Note
from bale.planning.decide import Decision, FilePlan
from bale.spec import Unit


def within_header(plan: FilePlan, size: int) -> FilePlan:
    """The same plan for a source of so many bytes, with some units kept lossless if the header cannot hold all parts.

    A lossless unit is one part. The smallest units go first: they give up least.
    """
    entries = header_entries(plan)
    parts, room = len(entries), header_size(entries, size)
    if parts <= PART_LIMIT and room <= HEADER_LIMIT:
        return plan

    def measured(unit: Unit, decision: Decision) -> tuple[int, int]:
        own = unit_entries(unit, decision)
        return len(own), sum(entry_size(*each, size) for each in own)

    reason = f"the archive would hold {parts} parts with those of all tensors, and it can hold {PART_LIMIT}"
    if parts <= PART_LIMIT:
        reason = f"the header would take {room} bytes with the parts of all tensors, and it can take {HEADER_LIMIT}"
    note = Note("refused", reason)
    decisions = list(plan.decisions)
    for number in sorted(range(len(decisions)), key=lambda number: plan.units[number].spec.nbytes):
        unit, decision = plan.units[number], decisions[number]
        before = measured(unit, decision) if unit.views else (1, 0)
        if before[0] == 1:
            continue
        decisions[number] = decision.left(note)
        after = measured(unit, decisions[number])
        parts, room = parts + after[0] - before[0], room + after[1] - before[1]
        if parts <= PART_LIMIT and room <= HEADER_LIMIT:
            break
    return replace(plan, decisions=tuple(decisions))
