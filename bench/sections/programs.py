"""Whole processes: every verb by pipeline, peers beside them, and how their cost grows.

What is measured stands in the texts below. The peers run in virtual environments of their own (bench/peers/whole.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from bench import models
from bench.common import Limit, median_cost, page, table, workspace
from bench.models import checkpoint
from bench.programs.growth import growth
from bench.programs.measuring import LOSSLESS, ROWS, THREADS, VERBS, File, Key, Measured, measured, told, warm
from bench.programs.peers import (
    QUANTIZERS,
    SELDOM,
    TRELLIS,
    lossless,
    lossy,
    quantizer_peers,
    zipnn_peers,
    zstd_programs,
)
from bench.section import Run, Section
from bench.synthetic import write_many, write_synthetic

MAX = "lossless:effort=max"
PIPELINES = (LOSSLESS, MAX, "int8", "int4", "nf4", "fp8", "codebook", TRELLIS)
OF_SMALL = (LOSSLESS, MAX, "int8", TRELLIS)
"""Those of the file of small tensors, whose every run takes long."""

OTHERS = (
    LOSSLESS,
    "int:bits=6,group=128,clip=mse",
    "int:bits=4,group=128,rows=128,scale=fp8",
    "codebook:bits=3",
    "log:mu=255",
    "mxfp4",
    "mxfp6",
    "mxfp8",
    "nvfp4",
    "int4/exact",
    "trellis:bits=2.7",
    "trellis:error=0.05",
    "trellis:snr=26",
    "trellis:bits=4,pool=model,effort=max",
    "svd:rank=64",
    "svd:rank=16+int8/trellis:bits=3",
)
"""The other pipelines of README.md, but for those of kernels, of second moments and of differences."""

UNVERIFIED = (LOSSLESS, "int8", TRELLIS)
"""Pipelines whose `compress --no-verify` is held to a limit beside a peer, and runs as often as `compress`."""

GIGABYTES, PART = 0.512, 0.064
MANY = 5_000
FAST, SLOW = Limit(1.6), Limit(2)

COMPRESS: Mapping[str, Limit] = {
    MAX: Limit(2.2),
    **dict.fromkeys(("int8", "int4", "nf4", "fp8"), FAST),
    "codebook": Limit(2.5),
    TRELLIS: Limit(2.5),
}
"""Most CPU time in times of `lossless`, on the bf16 file."""

DECOMPRESS: Mapping[str, Limit] = {
    **dict.fromkeys(("int8", "int4", "nf4", "fp8", "codebook"), FAST),
    **dict.fromkeys((MAX, TRELLIS), SLOW),
}
MINILM_COMPRESS: Mapping[str, Limit] = {TRELLIS: Limit(4)}

TEXT = (
    "Whole processes, from start to end, with {threads} threads, on a file system in memory if there is room; in each "
    "cell CPU seconds and wall seconds for 100 million weights, and GB of source a second of wall time. The processes "
    "of a verb take turns: medians of {rounds} rounds for `compress` and `decompress` of the first two files, and for "
    "`--no-verify` of {unverified}; all else, and all of the last file, ran once. Start-up is in all of them, so it "
    "weighs more the smaller the file is. `compare` reads the file and the archive. The second table of a file is the "
    "CPU time in times of that of `lossless` by the same verb, medians of the ratios within a round."
)
BF16 = (
    "**bf16**: {weights:.0f} million weights, {size:.2f} GB, synthetic: Gaussian matrices of 4096 columns with a "
    "log-normal scale for each row."
)
MINILM = "**MiniLM**, fp32: {weights:.1f} million weights, {size:.3f} GB."
SMALL = (
    "**Small tensors**: {count:,} bf16 matrices of 64 x 64 to 64 x 128, {weights:.1f} million weights, {size:.3f} GB."
)
OTHERS_TEXT = (
    "**Other pipelines** that the README names: {part:.0f} MB of the bf16 matrices, and MiniLM. One run each; "
    "cells as above, and *times* is the CPU time in times of that of `lossless`."
)


def section(run: Run) -> str:
    with workspace(in_memory=0.1e9 if run.quick else 5e9) as work:
        warm(PIPELINES, work)
    bf16, minilm, many = (bf16_file(run), minilm_file(run), small_file(run))
    texts = (
        BF16.format(weights=bf16.file.weights / 1e6, size=bf16.file.size / 1e9),
        MINILM.format(weights=minilm.file.weights / 1e6, size=minilm.file.size / 1e9),
        SMALL.format(weights=many.file.weights / 1e6, size=many.file.size / 1e9, count=small_count(run)),
    )
    limits: tuple[tuple[Mapping[str, Limit], Mapping[str, Limit]], ...]
    limits = ((COMPRESS, DECOMPRESS), (MINILM_COMPRESS, {}), ({}, {}))
    both = {"bf16": bf16, "MiniLM": minilm}
    unverified = ", ".join(f"`{each}`" for each in UNVERIFIED)
    parts = [page(TEXT.format(threads=THREADS, rounds=run.rounds(3), unverified=unverified))]
    for text, found, (compress, decompress) in zip(texts, (bf16, minilm, many), limits, strict=True):
        parts.append(page(text, costs_table(found), ratios_table(found, compress, decompress)))
    parts.append(others(run))
    parts += [lossless(both, run.lossless), lossy(both, run.quantizers), growth(run)]
    return "\n\n".join(parts)


def bf16_file(run: Run) -> Measured:
    with workspace(in_memory=5e9 if not run.quick else 0.2e9) as work:
        write_synthetic(work / "m.safetensors", 0.01 if run.quick else GIGABYTES)
        return with_peers(run, File.of(work / "m.safetensors", work), "bf16")


def minilm_file(run: Run) -> Measured:
    with workspace(in_memory=2e9) as work:
        return with_peers(run, File.of(checkpoint(run.models, models.MINILM), work), "MiniLM")


def with_peers(run: Run, file: File, title: str) -> Measured:
    """All verbs and pipelines, and all peers."""
    most = {name: min(weights, 1e6) for name, weights in QUANTIZERS.items()} if run.quick else QUANTIZERS
    peers = {**zipnn_peers(file, run.lossless), **quantizer_peers(file, run.quantizers, most)}
    usual = run.rounds(3)
    rounds = {"compress": usual, "decompress": usual, "verify": 1}
    seldom = [("compress", name) for name in SELDOM]
    seldom += [(VERBS[1], name) for name in PIPELINES if name not in UNVERIFIED]
    found = measured(file, PIPELINES, rounds, peers, zstd_programs(file), seldom)
    told(title)
    return found


def small_count(run: Run) -> int:
    return 100 if run.quick else MANY


def small_file(run: Run) -> Measured:
    with workspace(in_memory=2e9) as work:
        write_many(work / "m.safetensors", small_count(run), ROWS)
        rounds = {"compress": 1, "decompress": 1, "verify": 1}
        found = measured(File.of(work / "m.safetensors", work), OF_SMALL, rounds)
    told("small tensors")
    return found


def costs_table(found: Measured) -> str:
    rows = []
    for pipeline in PIPELINES:
        row = [f"`{pipeline}`", f"{found.size(pipeline):.1f}"]
        row += [cost_cell(found, (verb, pipeline)) for verb in VERBS]
        rows.append(row)
    return table(("CPU s / wall s / GB/s", "size, %", *(f"`{verb}`" for verb in VERBS)), rows)


def cost_cell(found: Measured, key: Key) -> str:
    cost = median_cost(found.costs[key])
    scaled = found.per_weights(cost)
    return f"{scaled.cpu:.2f} / {scaled.wall:.2f} / {found.rate(cost)}"


def ratios_table(found: Measured, compress: Mapping[str, Limit], decompress: Mapping[str, Limit]) -> str:
    rows = []
    for pipeline in PIPELINES:
        if pipeline != LOSSLESS:
            ratios = {verb: found.cpu_ratio((verb, pipeline), (verb, LOSSLESS)) for verb in VERBS}
            row = [f"`{pipeline}`", *(f"{ratio:.2f}" for ratio in ratios.values())]
            for verb, limits in (("compress", compress), ("decompress", decompress)):
                if limits:
                    row.append(limits[pipeline].cell(ratios[verb]) if pipeline in limits else "-")
            rows.append(row)
    last = [f"limit of `{verb}`" for verb, limits in (("compress", compress), ("decompress", decompress)) if limits]
    return table(("CPU / lossless", *(f"`{verb}`" for verb in VERBS), *last), rows)


def others(run: Run) -> str:
    """The pipelines that are measured once, on a part and on MiniLM."""
    columns: list[Measured] = []
    rounds = {"compress": 1, "decompress": 1}
    with workspace(in_memory=2e9) as work:
        write_synthetic(work / "m.safetensors", 0.01 if run.quick else PART)
        for path in (work / "m.safetensors", checkpoint(run.models, models.MINILM)):
            columns.append(measured(File.of(path, work), OTHERS, rounds))
    told("other pipelines")
    rows = []
    for pipeline in OTHERS:
        row = [f"`{pipeline}`"]
        for found in columns:
            row.append(f"{found.size(pipeline):.1f}")
            for verb in rounds:
                ratio = found.cpu_ratio((verb, pipeline), (verb, LOSSLESS))
                row += [cost_cell(found, (verb, pipeline)), f"{ratio:.2f}"]
        rows.append(row)
    names = [f"{title}, {what}" for title in ("bf16", "MiniLM") for what in ("%", *times_of(rounds))]
    text = OTHERS_TEXT.format(part=columns[0].file.size / 1e6)
    return page(text, table(("pipeline", *names), rows))


def times_of(verbs: Mapping[str, int]) -> list[str]:
    return [cell for verb in verbs for cell in (f"`{verb}`", "times")]


SECTION = Section(
    "programs", "Whole programs, by pipeline and beside peers", ("models", "lossless", "quantizers", "zstd"), section
)
