"""What quantization does to models, by size: `python -m bench.quality`, which writes docs/quality.md.

Runs in a venv with torch and transformers (`make bench-quality`). The peers run in their own.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, isfinite, log
from pathlib import Path

import numpy as np

from bench.common import ROOT, Limit, page, parser, table, workspace
from bench.methods import Array, Coded, by_bale, by_peers, save
from bench.page import where
from bench.peers.venvs import quantizers, versions
from bench.plot import grid, log_plot
from bench.quality.budgets import section as budgets
from bench.quality.judged import SMALL, Judged, Score
from bench.quality.models import MODELS, MiniLM
from bench.quality.sensitivity import sensitivity
from bench.quality.weighted import section as weighted

PAGE, PLOT = ROOT / "docs" / "quality.md", ROOT / "docs" / "quality.svg"
RATES = (2, 3, 4, 5, 6, 8)
BALANCED = (3, 4)
GGML = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K")
LINES = {
    "trellis": [f"trellis:bits={bits:g}" for bits in sorted((*RATES, 3.9, 4.5))],
    "int, groups of 64": [f"int:bits={bits},group=64" for bits in RATES],
    "ggml": [*reversed(GGML)],
    "nf4": ["nf4"],
}
BALANCES = {f"trellis:bits={bits}": f"trellis:bits={bits},balance=column" for bits in BALANCED}
PEERS = (*GGML, "NF4")
OWN = tuple(f"int:bits={bits},group=64" for bits in (3, 4, 5, 6))
"""Pipelines of bale that the trellis is held against too."""

ALONE = {"budgets": "Budgets", "weighted": "Statistics of inputs"}
"""Sections that can be made anew alone."""

TICKS = (1.5, 2, 3, 4, 6, 9)  # bits a weight

PEER, AS_LARGE, SMALLER = "Q4_K", "trellis:bits=4.5", "trellis:bits=3.9"
BETTER = Limit(2, at_most=False)
EQUAL_SNR = 20.0  # dB

TEXT = (
    "How well models work with quantized weights, by the bytes of these weights. An error of weights does not tell it: "
    "so each model is asked things, and its answers are compared with those of the original. Floating-point tensors of "
    f"two dimensions and {SMALL:,} elements or more are quantized, embeddings included, as `-p` does; the others stay "
    "as they are. *MB* and *b/w* are of these tensors, with everything counted that a method stores. *SNR* is the mean "
    "over them. The *divergence* says how far the answers are from the original's; it is measured on few enough "
    "questions that differences of a tenth say little."
)
PEERS_TEXT = (
    "Q8_0 to Q2_K are ggml's quantizers, without weights of importance, over flat tensors; NF4 is that of bitsandbytes "
    "with double quantization. Versions: {versions}."
)
AGAINST = (
    "The divergence of each peer, and that of the trellis with as many bits, which lies on a straight line (of the "
    "logarithm) between the measured ones beside it; *times* says how much larger the peer's is. The last column is "
    f"how many bits the trellis needs for the divergence of the peer. For {PEER} both are measured: the trellis at 4.5 "
    f"bits is to have half of its divergence, or at 3.9 bits no more than it. Bale's own `int` in groups is there too: "
    "where it is less than 1 time, scales of small groups serve the model better than one step for all of a tensor."
)
SAME_ERROR = (
    f"The same error of weights is not the same loss of quality: what the trellis makes of each model at a mean SNR of "
    f"{EQUAL_SNR:g} dB (a relative error of 10 %), between the measured points."
)
BALANCE = (
    "`balance=column` divides columns by the square root of their magnitude before they are quantized, so that the "
    "error of columns grows with them. *Ratio* is its divergence over that without; below 1 it helps."
)


@dataclass(frozen=True)
class Point:
    """A method's bits a weight and megabytes on a model, its error, and what it does to the model."""

    bits: float
    megabytes: float
    snr: float
    score: Score

    def row(self, name: str) -> list[str]:
        score = self.score
        snr = f"{self.snr:.2f}" if isfinite(self.snr) else "-"
        figures = (f"{self.megabytes:.2f}", f"{self.bits:.3f}", snr, f"{score.divergence:.3g}")
        return [name, *figures, f"{score.quality:.1f}"]


Points = dict[str, Point]


def main() -> None:
    made = parser(__doc__, models=True)
    made.add_argument("--peers", type=Path, default=quantizers().folder, help="venv of the peers (%(default)s)")
    made.add_argument("--only", action="append", metavar="TITLE", help="this model only, printed; can be repeated")
    made.add_argument("--share", type=float, default=1, help="of all questions, to try the bench; the page is printed")
    made.add_argument("--weighted", action="store_true", help="the section on statistics of inputs alone")
    made.add_argument("--budgets", action="store_true", help="the section on budgets alone")
    options = made.parse_args()
    if options.weighted:
        renew("weighted", weighted(MiniLM(options.models)))
    if options.budgets:
        renew("budgets", budgets(options.models))
    if options.weighted or options.budgets:
        return
    python = quantizers(options.peers).python()
    chosen = [kind for kind in MODELS if not options.only or kind.title in options.only]
    found: dict[type[Judged], Points] = {}
    parts = []
    for kind in chosen:
        start = time.monotonic()
        model = kind(options.models, options.share)
        found[kind] = measure(model, python)
        print(f"{kind.title}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    for kind in chosen:
        if kind.groups:
            start = time.monotonic()
            parts.append(sensitivity(kind(options.models, options.share / 2)))
            print(f"{kind.title}, groups: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    statistics = weighted(MiniLM(options.models, options.share)) if MiniLM in chosen else ""
    spent = budgets(options.models, options.share, options.only or ())
    text = document(found, parts, {"budgets": spent, "weighted": statistics}, python)
    if options.only or options.share != 1:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
        PLOT.write_text(plots(found), encoding="utf-8")


def measure(model: Judged, python: Path) -> Points:
    """Every method on a model; the original is called so."""
    tensors = {name: each for name, each in model.tensors.items() if each.ndim > 1 and each.size >= SMALL}
    weights = sum(each.size for each in tensors.values())
    stored = sum(each.size * model.width[name] for name, each in tensors.items())
    original = model.compared(model.original, model.original)
    found = {"original": Point(8 * stored / weights, stored / 1e6, np.inf, original)}
    pipelines = [each for line in LINES.values() for each in line if each not in PEERS]
    with workspace(in_memory=3e9) as work:
        source = save(tensors, work / "source.safetensors")
        for pipeline in (*pipelines, *BALANCES.values()):
            found[pipeline] = point(model, tensors, by_bale(source, pipeline, work))
        for peer in PEERS:
            found[peer] = point(model, tensors, by_peers(source, [peer], python, work)[peer])
    return found


def point(model: Judged, tensors: dict[str, Array], coded: Coded) -> Point:
    score = model.score(coded.values)
    return Point(coded.bits(tensors), sum(coded.stored.values()) / 1e6, coded.mean_snr(tensors), score)


def document(
    found: dict[type[Judged], Points], sensitivities: Sequence[str], alone: Mapping[str, str], python: Path
) -> str:
    names = versions(python, ("gguf", "pywhispercpp", "bitsandbytes"))
    plot = f"![divergence by stored bytes]({PLOT.name})"
    lines = ["# Quality", page(TEXT, plot), page(PEERS_TEXT.format(versions=names))]
    lines += ["## Against other quantizers", against(found), same_error(found), "## Model by model"]
    for kind, points in found.items():
        head = ("method", "MB", "b/w", "SNR, dB", kind.divergence, kind.measure)
        rows = [each.row(shown(name)) for name, each in points.items()]
        lines.append(page(kind.text, table(head, rows)))
    lines += ["## Balanced columns", balance(found)]
    for name, title in ALONE.items():
        lines += [f"## {title}", marked(name, alone[name])]
    if sensitivities:
        lines += ["## Tensors one by one", *sensitivities]
    measured_on = where("torch", "transformers", "numpy")
    lines += [f"Reproduce: `make bench-quality`\\\n{measured_on}"]
    return "\n\n".join(lines) + "\n"


def marked(name: str, section: str) -> str:
    """A section that can be made anew alone."""
    return f"<!-- begin {name} -->\n{section}\n<!-- end {name} -->"


def renew(name: str, section: str) -> None:
    """Put a fresh section into the page; all else stays."""
    text = PAGE.read_text(encoding="utf-8")
    old = re.compile(re.escape(marked(name, "@")).replace("@", ".*"), re.DOTALL)
    PAGE.write_text(old.sub(lambda _: marked(name, section), text), encoding="utf-8")


def shown(name: str) -> str:
    return name if name in PEERS or name == "original" else f"`{name}`"


def curve(points: Points) -> list[Point]:
    """The trellis from few bits to many."""
    return sorted((points[name] for name in LINES["trellis"]), key=lambda each: each.bits)


def between(xs: Iterable[float], ys: Iterable[float], x: float) -> float | None:
    """The straight line between the points beside x; None where there are none."""
    pairs = sorted(zip(xs, ys, strict=True))
    for (x0, y0), (x1, y1) in pairwise(pairs):
        if x0 <= x <= x1 and x1 > x0:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return None


def logs(points: Sequence[Point]) -> list[float]:
    return [log(max(each.score.divergence, 1e-12)) for each in points]


def against(found: dict[type[Judged], Points]) -> str:
    rows = []
    for kind, points in found.items():
        line = curve(points)
        bits, heights = [each.bits for each in line], logs(line)
        for peer in (*PEERS, *OWN):
            theirs = points[peer]
            height = log(points[AS_LARGE].score.divergence) if peer == PEER else between(bits, heights, theirs.bits)
            ours = exp(height) if height is not None else None
            times = theirs.score.divergence / ours if ours else None
            needed = between(heights, bits, log(theirs.score.divergence))
            cells = [kind.title, shown(peer), f"{theirs.bits:.2f}", f"{theirs.score.divergence:.3g}"]
            cells += [f"{ours:.3g}" if ours else "-", f"{times:.2f}" if times else "-"]
            cells += [f"{needed:.2f}" if needed else "-", verdict(points, times or 0) if peer == PEER else "-"]
            rows.append(cells)
    head = ("model", "peer", "b/w", "divergence", "trellis", "times", "trellis for it, b/w", "limit")
    return page(AGAINST, table(head, rows, left=2))


def verdict(points: Points, times: float) -> str:
    small, theirs = points[SMALLER].score.divergence, points[PEER].score.divergence
    if BETTER.cell(times).endswith(": reached"):
        return BETTER.cell(times)
    smaller = f"at 3.9 b {small:.3g}: {'reached' if small <= theirs else 'not reached'}"
    return f"{BETTER.cell(times)}; {smaller}"


def same_error(found: dict[type[Judged], Points]) -> str:
    rows = []
    for kind, points in found.items():
        line = curve(points)
        snrs = [each.snr for each in line]
        bits = between(snrs, (each.bits for each in line), EQUAL_SNR)
        height = between(snrs, logs(line), EQUAL_SNR)
        quality = between(snrs, (each.score.quality for each in line), EQUAL_SNR)
        if bits and quality is not None and height is not None:
            before = points["original"].score.quality
            figures = (f"{bits:.2f}", f"{exp(height):.3g}", f"{before:.1f}", f"{quality:.1f}")
            rows.append([kind.title, kind.divergence, kind.measure, *figures])
    head = ("model", "divergence is", "measure", "b/w", "divergence", "measure of the original", "measure")
    return page(SAME_ERROR, table(head, rows, left=3))


def balance(found: dict[type[Judged], Points]) -> str:
    rows = []
    for kind, points in found.items():
        for plain, balanced in BALANCES.items():
            without, with_it = points[plain], points[balanced]
            ratio = with_it.score.divergence / without.score.divergence
            figures = (f"{without.score.divergence:.3g}", f"{with_it.score.divergence:.3g}", f"{ratio:.2f}")
            rows.append([kind.title, f"`{plain}`", f"{without.snr:.2f}", f"{with_it.snr:.2f}", *figures])
    head = ("model", "pipeline", "SNR, dB", "balanced", "divergence", "balanced", "ratio")
    return page(BALANCE, table(head, rows, left=2))


def plots(found: dict[type[Judged], Points]) -> str:
    made = []
    for kind, points in found.items():
        lines = {
            name: [(points[each].megabytes, max(points[each].score.divergence, 1e-9)) for each in line]
            for name, line in LINES.items()
        }
        weights = 8 * points[AS_LARGE].megabytes / points[AS_LARGE].bits  # millions
        ticks = {bits * weights / 8: f"{bits * weights / 8:.3g}" for bits in TICKS}
        across = f"MB stored, where marked {', '.join(f'{bits:g}' for bits in TICKS)} bits a weight"
        made.append(log_plot(kind.title, across, kind.divergence, lines, ticks))
    return grid(made)


if __name__ == "__main__":
    main()
