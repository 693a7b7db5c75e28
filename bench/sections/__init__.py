"""The sections of the page, in its order."""

from __future__ import annotations

from bench.section import Section
from bench.sections import (
    budgets,
    codec,
    differences,
    formats,
    kinds,
    lowrank,
    many,
    peers,
    process,
    programs,
    progressive,
    quantization,
    quantizers,
    running,
    scale,
    sizes,
    startup,
    structure,
    trellis,
)

SECTIONS: tuple[Section, ...] = (
    sizes.SECTION,
    formats.SECTION,
    kinds.SECTION,
    structure.SECTION,
    codec.SECTION,
    peers.SECTION,
    differences.SECTION,
    progressive.SECTION,
    quantization.SECTION,
    trellis.SECTION,
    budgets.SECTION,
    lowrank.SECTION,
    quantizers.SECTION,
    process.SECTION,
    programs.SECTION,
    scale.SECTION,
    many.SECTION,
    running.SECTION,
    startup.SECTION,
)
