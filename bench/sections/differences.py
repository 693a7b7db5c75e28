"""Differences of real fine-tunes to their bases, beside those of ZipNN and zstd."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bale
from bench.common import (
    BALE,
    Cost,
    Limit,
    median_cost,
    page,
    run_process,
    sha256,
    table,
    take_turns,
    workspace,
)
from bench.models import MINILM, MINILM_BF16, checkpoint, finetune
from bench.peers.venvs import call, versions
from bench.section import Run, Section

BASES = {"fp32": MINILM, "bf16": MINILM_BF16}
EXPECTED = {"fp32": 26.2, "bf16": 10.55}
"""Bits a weight are expected to be this and the binary logarithm of the relative change."""

CHUNK = 1 << 20  # elements
OFF = Limit(3)  # %, above what is expected by tensor
BF16 = Limit(0.70)  # of ZipNN's bytes


@dataclass(frozen=True)
class Pair:
    """A fine-tune; its differences are to be a share of ZipNN's bytes, and so near to those expected."""

    title: str
    name: str
    share: Limit | None
    off: Limit | None = None

    @property
    def dtype(self) -> str:
        return self.name[:4]


PAIRS = (
    Pair("bf16, rate 2e-5, 17 steps", "bf16-lr2e-5-17", BF16, OFF),
    Pair("bf16, rate 2e-5, 300 steps", "bf16-lr2e-5-300", BF16, OFF),
    Pair("bf16, rate 2e-4, 300 steps", "bf16-lr2e-4-300", BF16, OFF),
    Pair("bf16, merged adapter", "bf16-adapter", BF16),
    Pair("bf16, every weight moves", "bf16-words", None),
    Pair("fp32, rate 2e-5, 17 steps", "fp32-lr2e-5-17", Limit(0.82)),
    Pair("fp32, rate 2e-5, 300 steps", "fp32-lr2e-5-300", Limit(0.82)),
    Pair("fp32, rate 2e-4, 300 steps", "fp32-lr2e-4-300", Limit(0.86)),
    Pair("fp32, merged adapter", "fp32-adapter", None),
    Pair("fp32, every weight moves", "fp32-words", None),
)
UNRELATED = Limit(0.1)  # %, more than without a base
FAST = Limit(200, False)  # MB/s

TEXT = (
    "MiniLM, really fine-tuned on English text by `scripts/finetune.py`: as the encoder of sentences that it is, with "
    "AdamW at two rates, by which the rows of words that do not occur move by weight decay only; by an adapter of rank "
    "8 on queries and values, merged afterwards; and on masked words, by which *every weight moves*. The bf16 files "
    "are the fp32 weights rounded, and their base is MiniLM's cast to bf16. The *change* is the norm of all "
    "differences over that of all weights, and *b/w* the bits of the whole file for each of its weights. ZipNN's "
    "({zipnn}) delta mode is the exclusive or of both; it gets whole files, or one tensor after the other where that "
    "is less. Expected are {bf16} bits and the binary logarithm of the change for bf16, {fp32} for fp32, where every "
    "weight has moved; *by tensor* is the same of each tensor's own change, weighted by size, and *off* is how far "
    "bale is from either; it is less where rows have not moved or moved together. Byte-identical means that the file "
    "that came back has the same SHA-256."
)
MORE = (
    "The same pairs by plainer means, and bale's speed. *xor* is the exclusive or with the base, then zstd at level 3; "
    "*patch* is `zstd -3 --patch-from`. MB/s are bytes of the fine-tune for each second of CPU time, one thread, "
    "medians of {rounds} rounds: of the *codec*, compiled, on all chunks of all tensors; and of the whole process, in "
    "which `bale compress` runs with `--no-verify`."
)
OTHER = (
    "With a base of other values, drawn with the mean and the deviation of each tensor, {name} takes {size:,} bytes, "
    "{more:+.3f} % more than by `lossless:effort=max` without a base ({limit})."
)


def section(run: Run) -> str:
    rounds = run.rounds(3)
    measured = [Measured.of(pair, run, rounds) for pair in PAIRS]
    head = ("fine-tune", "change", "bale, %", "ZipNN, %", "ZipNN delta, b/w", "bale --base, b/w", "of ZipNN's")
    tail = ("expected, b/w", "off, %", "by tensor, b/w", "off, %", "byte-identical", "limits")
    text = TEXT.format(zipnn=versions(run.lossless, ["zipnn"]).split()[1], **EXPECTED)
    first = page(text, table((*head, *tail), [each.sizes() for each in measured]))
    more = ("fine-tune", "bytes", "bale --base", "ZipNN delta", "xor, b/w", "patch, b/w")
    speeds = ("codec, encode, MB/s", "decode", "process, compress, MB/s", "decompress", "limits")
    second = page(MORE.format(rounds=rounds), table((*more, *speeds), [each.others() for each in measured]))
    return f"{first}\n\n{second}\n\n{page(unrelated(run.models))}"


@dataclass(frozen=True)
class Moved:
    """How far a file's weights are from the base's, relative to what they are.

    Attributes
    ----------
    weights : int
        Elements of the file.
    change : float
        The norm of all differences over that of all weights.
    tensors : list
        Elements and change of each tensor that has moved.
    """

    weights: int
    change: float
    tensors: list[tuple[int, float]]

    def expected(self, constant: float) -> float:
        return constant + math.log2(self.change)

    def expected_by_tensor(self, constant: float) -> float:
        """As `expected` of each tensor's own change; those that have not moved take nothing."""
        return sum(size * max(0.0, constant + math.log2(change)) for size, change in self.tensors) / self.weights


@dataclass(frozen=True)
class Measured:
    """The figures of one pair, sizes in bytes."""

    pair: Pair
    size: int
    moved: Moved
    plain: int
    differences: int
    identical: bool
    peers: dict[str, int]
    patch: int | None
    costs: dict[str, Cost]
    speeds: tuple[float, float]

    @classmethod
    def of(cls, pair: Pair, run: Run, rounds: int) -> Measured:
        base, source = checkpoint(run.models, BASES[pair.dtype]), finetune(run.finetuned, pair.name)
        with workspace() as work:
            plain, archive, back = (work / name for name in ("plain.bale", "differences.bale", source.name))
            bale.compress(source, plain)
            bale.compress(source, archive, base=base)
            bale.decompress(archive, back, base=base)
            identical = sha256(source) == sha256(back)
            quiet = ("-T", "1", "-q", "-f")
            compress = (BALE, "compress", source, "--base", base, "-o", archive, "--no-verify", *quiet)
            decompress = (BALE, "decompress", archive, "--base", base, "-o", back, *quiet)
            commands = {"compress": compress, "decompress": decompress}
            runs = {name: partial(run_process, command) for name, command in commands.items()}
            found = take_turns(runs, rounds)
            return cls(
                pair,
                source.stat().st_size,
                moved(base, source),
                plain.stat().st_size,
                archive.stat().st_size,
                identical,
                peer_sizes(run.lossless, pair.dtype, base, source),
                patch_size(base, source, work / "patch"),
                {name: median_cost(costs) for name, costs in found.items()},
                codec_speeds(base, source, rounds),
            )

    def sizes(self) -> list[str]:
        share = self.differences / self.peers["delta"]
        constant, found = EXPECTED[self.pair.dtype], self.bits(self.differences)
        expected, by_tensor = self.moved.expected(constant), self.moved.expected_by_tensor(constant)
        off, off_by_tensor = (100 * (found / each - 1) for each in (expected, by_tensor))
        limits = [f"share {self.pair.share.cell(share)}"] if self.pair.share else []
        limits += [f"off by tensor {self.pair.off.cell(round(off_by_tensor, 1))}"] if self.pair.off else []
        return [
            self.pair.title,
            f"{self.moved.change:.2e}",
            f"{100 * self.plain / self.size:.2f}",
            f"{100 * self.peers['plain'] / self.size:.2f}",
            f"{self.bits(self.peers['delta']):.3f}",
            f"{found:.3f}",
            f"{share:.3f}",
            f"{expected:.3f}",
            f"{off:+.1f}",
            f"{by_tensor:.3f}",
            f"{off_by_tensor:+.1f}",
            "yes" if self.identical else "**no**",
            "; ".join(limits) or "-",
        ]

    def others(self) -> list[str]:
        return [
            self.pair.title,
            f"{self.size:,}",
            f"{self.differences:,}",
            f"{self.peers['delta']:,}",
            f"{self.bits(self.peers['xor']):.3f}",
            f"{self.bits(self.patch):.3f}" if self.patch else "-",
            *(f"{speed:.0f}" for speed in self.speeds),
            *(f"{self.size / 1e6 / self.costs[name].cpu:.0f}" for name in ("compress", "decompress")),
            "; ".join(
                f"{name} {FAST.cell(round(speed))}"
                for name, speed in zip(("encode", "decode"), self.speeds, strict=True)
            ),
        ]

    def bits(self, size: int) -> float:
        return 8 * size / self.moved.weights


def moved(base: Path, source: Path) -> Moved:
    import numpy as np

    count, change, norm, by_tensor = 0, 0.0, 0.0, []
    for before, after in zip(tensors(base), tensors(source), strict=True):
        count += after.size
        if after.dtype.kind not in "iub":
            wide = after.astype(np.float64)
            apart, own = (float(np.sum(values**2)) for values in (wide - before.astype(np.float64), wide))
            change, norm = change + apart, norm + own
            if apart:
                by_tensor.append((after.size, math.sqrt(apart / own)))
    return Moved(count, math.sqrt(change / norm), by_tensor)


def codec_speeds(base: Path, source: Path, rounds: int) -> tuple[float, float]:
    """MB of all chunks of a fine-tune for each second of CPU time: encoded, decoded."""
    import numpy as np

    from bale.compressors.conditional import delta
    from bale.compressors.contexts.axes import axes_of

    chunks = []
    for before, after in zip(tensors(base), tensors(source), strict=True):
        dtype = {"float32": "F32", "bfloat16": "BF16", "int64": "I64"}[after.dtype.name]
        words, known = (each.reshape(-1).view(f"<u{each.itemsize}") for each in (after, before))
        for start in range(0, words.size, CHUNK):
            part = slice(start, start + CHUNK)
            chunks.append((words[part], known[part], dtype, axes_of(after.shape, start, words[part].size)))
    seconds: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        times = [time.thread_time()]
        coded = [delta.encode(*chunk) for chunk in chunks]
        times.append(time.thread_time())
        for data, (words, known, dtype, _) in zip(coded, chunks, strict=True):
            delta.decode(memoryview(data), known, dtype, np.empty_like(words))
        times.append(time.thread_time())
        seconds.append((times[1] - times[0], times[2] - times[1]))
    size = sum(words.nbytes for words, *_ in chunks) / 1e6
    encode, decode = (size / statistics.median(each[1:]) for each in zip(*seconds, strict=True))
    return encode, decode


def unrelated(models: Path) -> str:
    """What a base costs that has nothing in common with a file."""
    import ml_dtypes  # noqa: F401
    import numpy as np
    from safetensors.numpy import save_file

    source = checkpoint(models, BASES["bf16"])
    with workspace() as work:
        rng = np.random.default_rng(0)
        other = {}
        for name, array in named_tensors(source):
            wide = array.astype(np.float64)
            other[name] = rng.normal(wide.mean(), wide.std(), array.shape).astype(array.dtype)
        save_file(other, work / "other.safetensors")
        sizes = []
        for base in (None, work / "other.safetensors"):
            bale.compress(source, work / "out.bale", pipeline="lossless:effort=max", base=base, force=True)
            sizes.append((work / "out.bale").stat().st_size)
    more = 100 * (sizes[1] / sizes[0] - 1)
    return OTHER.format(name=BASES["bf16"], size=sizes[1], more=more, limit=UNRELATED.cell(round(more, 3)))


def tensors(path: Path) -> Iterator[Any]:
    return (array for _, array in named_tensors(path))


def named_tensors(path: Path) -> Iterator[tuple[str, Any]]:
    import ml_dtypes  # noqa: F401  # numpy knows bfloat16 by it
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        for name in sorted(file.keys()):
            yield name, file.get_tensor(name)


def patch_size(base: Path, source: Path, out: Path) -> int | None:
    """Bytes that the program zstd leaves of a file when it knows the base; None without the program."""
    zstd = shutil.which("zstd")
    if zstd is None:
        print("zstd is not installed, so its patches are left out: apt-get install zstd", file=sys.stderr)
        return None
    run_process((zstd, "-3", "-T1", "-q", "-f", f"--patch-from={base}", source, "-o", out))
    return out.stat().st_size


def peer_sizes(python: Path, dtype: str, base: Path, source: Path) -> dict[str, int]:
    """What ZipNN and zstd make of a fine-tune, in their virtual environment."""
    found: dict[str, int] = json.loads(call(python, "bench.peers.deltas", dtype, base, source).splitlines()[-1])
    return found


SECTION = Section(
    "differences",
    "Differences of fine-tunes",
    (
        "models",
        "finetuned",
        "lossless",
        "zstd",
    ),
    section,
)
